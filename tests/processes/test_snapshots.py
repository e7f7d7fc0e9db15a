"""Snapshots of a running node: taken by bytes and by time, as docs/formats.md has them, and what a start makes of them."""

import random
import re
import time

import pytest

import formats
import raw
from cluster import PATIENCE_S, TOOLS_DIR, wait_for
from kafka_tools import run
from test_backup import load
from test_formats import dumps
from test_starts import EXIT_CONFIG, fill, mounted  # noqa: F401, a fixture

BYTES, INTERVAL, PAUSE = "metadata.log.max.record.bytes.between.snapshots", "metadata.log.max.snapshot.interval.ms", "kraft.snapshot.pause.ms"
OFTEN = {BYTES: 100_000, INTERVAL: 0, PAUSE: 50, "metadata.log.segment.bytes": 256 << 10, "message.max.bytes": 64 << 10}
# Records that make one due.
STEP = 25
ON_TIME = {INTERVAL: 1_000, PAUSE: 50}


def snapshots(node):
    """The newest last."""
    return sorted(path for path in node.partition_dir.glob("*.checkpoint") if re.fullmatch(r"\d{20}-\d{10}", path.stem))


def end_of(path):
    return int(path.stem.split("-")[0])


def of(sequence, producer_id=7):
    return raw.batch(bytes(4000), producer_id=producer_id, producer_epoch=0, base_sequence=sequence)


def produce(node, sequences, producer_id=7):
    """The offset of each record by its sequence."""
    with raw.Connection(node.port) as connection:
        answers = {n: connection.produce(of(n, producer_id)) for n in sequences}
    assert all(answer.error == raw.NONE for answer in answers.values())
    return {n: answer.offset for n, answer in answers.items()}


def taken(node):
    return int(metric(node, "kraft_snapshots_taken_total"))


def metric(node, name):
    page = node.http("/metrics")[1]
    return float(re.search(rf"^{name} (\S+)$", page, re.M)[1])


def check_whole(*paths):
    done = run(TOOLS_DIR / "kraft-dump-log", *paths)
    assert done.code == 0, done.err


def started_from(node):
    """The name of the snapshot that the last start has read; "" for none."""
    lines = re.findall(r"Recovery read .*? ms(?:, from (\S+))?: ", node.stderr())
    return lines[-1]


# ------------------------------------------------------------------------------------------------------------ taking

def test_every_node_takes_one_whenever_so_many_bytes_are_committed(clusters):
    cluster = clusters(3, overrides=OFTEN)
    for step in range(3):
        produce(cluster.leader(), range(STEP * step, STEP * (step + 1)))
        cluster.wait_caught_up()
        for node in cluster:
            wait_for("one more snapshot", lambda: taken(node) > step)
    for node in cluster:
        wait_for("the old ones to go", lambda: len(snapshots(node)) <= 2)
        newest = snapshots(node)[-1]
        status = node.status()
        assert (status["snapshot_offset"], status["snapshot_problem"]) == (end_of(newest), None)
        assert status["snapshot_bytes"] == newest.stat().st_size == metric(node, "kafka_server_snapshotemitter_latestsnapshotgeneratedbytes")
        assert metric(node, "kraft_snapshot_end_offset") == end_of(newest)
        assert metric(node, "kafka_server_snapshotemitter_latestsnapshotgeneratedagems") < 1000 * PATIENCE_S
        check_whole(*snapshots(node))
        theirs, ours = dumps(newest)
        assert theirs[1:] == ours[1:] and theirs[-1].endswith('SnapshotFooter {"version":0}')


def test_time_makes_one_where_anything_is_new_and_it_is_what_the_page_says(clusters):
    node = clusters(1, overrides=ON_TIME)[1]
    produce(node, range(12))
    produce(node, range(3), producer_id=8)
    wait_for("a snapshot of it all", lambda: snapshots(node) and end_of(snapshots(node)[-1]) == node.status()["log_end_offset"])
    count = taken(node)
    time.sleep(2.5)
    assert taken(node) == count, "nothing is new"
    path = snapshots(node)[-1]
    # The log lies in whole blocks: what is behind its end is zeros.
    log = [batch for batch in formats.batches(node.segments()[0].read_bytes())[0] if batch.next_offset <= end_of(path)]
    time_ms = max(batch.max_timestamp for batch in log if batch.producer_id >= 0)
    section = b"".join(formats.PRODUCER.pack(*kept) for kept in sorted(formats.remembered(log), key=lambda kept: kept[2]))
    cluster_id = formats.properties((node.data_dir / "meta.properties").read_text())["cluster.id"]
    sections = {0: (1, b"\0" + cluster_id.encode()), 1: (1, section), 3: (1, b"")}
    assert path.read_bytes() == formats.snapshot(log[-1].epoch, time_ms, sections)


def test_a_full_disk_has_room_for_one(clusters, mounted):  # noqa: F811
    disk = mounted("size=192m")
    node = clusters(1, overrides={"log.dirs": str(disk / "data"), INTERVAL: 3_000, PAUSE: 50, "metadata.log.segment.bytes": 16 << 20})[1]
    node.partition_dir = disk / "data" / node.partition_dir.name
    wait_for("the room to be made", lambda: (node.partition_dir / "snapshot-room").exists())
    count = taken(node)
    produce(node, range(3))
    fill(disk)
    wait_for("a snapshot all the same", lambda: taken(node) > count)
    check_whole(*snapshots(node))
    assert node.is_running() and node.status()["role"] == "leader"


# ------------------------------------------------------------------------------------------------------------ starts

def filled(clusters):
    """One voter that has taken several; what it answered."""
    node = clusters(1, overrides=OFTEN)[1]
    offsets = {}
    for step in range(100 // STEP):
        offsets |= produce(node, range(STEP * step, STEP * (step + 1)))
        wait_for("one more snapshot", lambda: taken(node) > step)
    wait_for("the old ones to go", lambda: len(snapshots(node)) == 2)
    return node, offsets


def check_goes_on(node, offsets):
    """It knows what it has acknowledged, and what comes next."""
    retries = produce(node, range(95, 100))
    assert retries == {n: offsets[n] for n in retries}
    assert produce(node, [100])[100] > offsets[99]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_start_reads_the_newest(end, clusters):
    node, offsets = filled(clusters)
    getattr(node, end)()
    newest = snapshots(node)[-1].name
    node.start().wait_ready()
    assert started_from(node) == newest
    check_goes_on(node, offsets)
    assert "Set aside" not in node.stderr()


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)


@pytest.mark.parametrize("hurt", ["flipped", "short", "empty", "both", "missing"])
def test_a_bad_one_is_set_aside_and_the_one_before_it_serves(hurt, clusters):
    node, offsets = filled(clusters)
    node.kill()
    older, newest = snapshots(node)
    if hurt == "flipped":
        flip(newest)
    elif hurt == "short":
        newest.write_bytes(newest.read_bytes()[:-1])
    elif hurt == "empty":
        newest.write_bytes(b"")
    elif hurt == "both":
        flip(newest), flip(older)
    else:
        newest.unlink()
    node.start().wait_ready()
    assert started_from(node) == ("" if hurt == "both" else older.name)
    aside = [line for line in node.stderr().splitlines() if "Set aside" in line]
    assert len(aside) == {"both": 2, "missing": 0}.get(hurt, 1), aside
    if hurt != "missing":
        assert newest.name in aside[0]
        assert newest.with_name(newest.stem + ".bad.checkpoint").exists() and not newest.exists()
    check_goes_on(node, offsets)
    # A new one is taken at once in place of one that was bad.
    wait_for("a new one", lambda: taken(node) >= (hurt != "missing"))
    wait_for("one bad one to be kept", lambda: len(list(node.partition_dir.glob("*.bad.checkpoint"))) == (hurt != "missing"))


def test_one_of_another_cluster_is_refused(clusters):
    node, _ = filled(clusters)
    node.stop()
    newest = snapshots(node)[-1]
    end, epoch = end_of(newest) + 1, int(newest.stem.split("-")[1])
    stranger = newest.with_name(formats.snapshot_name(end, epoch))
    stranger.write_bytes(formats.snapshot(epoch, 1, {0: (1, b"\0BBBBBBBBBBBBBBBBBBBBBB"), 1: (1, b""), 3: (1, b"")}))
    node.start()
    assert node.wait_exit() == EXIT_CONFIG
    for part in (stranger.name, "it is of a log of cluster BBBBBBBBBBBBBBBBBBBBBB", "Take the file away"):
        assert part in node.stderr(), node.stderr()
    stranger.unlink()
    node.start().wait_ready()
    assert started_from(node) == newest.name


def test_a_log_that_ends_before_its_snapshot_is_not_gone_on_with_alone(clusters):
    """Somebody has put an older copy of the segments there, and no mark."""
    node, _ = filled(clusters)
    node.stop()
    for path in [*node.segments()[1:], *node.partition_dir.glob("*.summary"), node.partition_dir / "commit-mark"]:
        path.unlink()
    before = {path: path.read_bytes() for path in snapshots(node)}
    node.start()
    assert node.wait_exit() == 65
    assert re.search(r"the log ends at \d+, and the newest snapshot holds what was committed up to \d+", node.stderr()), node.stderr()
    assert {path: path.read_bytes() for path in snapshots(node)} == before


def test_killed_while_it_takes_them_again_and_again(clusters):
    """Every name is that of a whole one, and each start goes on from the newest."""
    cluster = clusters(1, overrides={**OFTEN, BYTES: 1, PAUSE: 1})
    node, dice, sequence = cluster[1], random.Random(4711), 0
    offsets = {}
    for _ in range(8):
        with load(cluster):
            offsets |= produce(node, range(sequence, sequence + 10))
            sequence += 10
            wait_for("snapshots", lambda: taken(node) >= 2)
            time.sleep(dice.random() / 5)
            node.kill()
        found = snapshots(node)
        assert found
        check_whole(*found)
        node.start().wait_ready()
        assert started_from(node) == found[-1].name
        assert produce(node, [sequence - 1]) == {sequence - 1: offsets[sequence - 1]}
    assert "Set aside" not in node.stderr()
    wait_for("what was left to go", lambda: len(snapshots(node)) <= 2 and not list(node.partition_dir.glob("*.part")), PATIENCE_S)
