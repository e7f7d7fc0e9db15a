"""Directories of older versions start, serve exactly what they held, and stay whole; and what a start says of files that are not as they should be.

docs/formats.md has what is tried here. make_directories.py makes the fixtures, with the program of its day.
"""

import gzip
import json
import os
import re
import struct

import pytest

import formats
import raw
from cluster import CLUSTER_ID, PATIENCE_S, TOOLS_DIR, free_port, wait_for
from interop_moves import log_end
from java_voter import JAVA_PATIENCE_S, JAVA_TOPIC, SEGMENT_BYTES_MIN, JavaVoter, MixedCluster
from kafka_tools import run, tool
from make_directories import DIRECTORIES, ROLLS, TIME_MS

MADE = sorted(path for version in DIRECTORIES.iterdir() for path in version.iterdir())
# What a start may say of files that an older version wrote: that it reads instead of believing.
# A summary of before has no section of configs: its segment is read, once.
MAY_SAY = ("another version wrote it", "its section of configs: there is none")


def unpacked(kind, clusters, nodes=None, **overrides):
    """The nodes of this fixture, or so many of them, not started, and what is expected of them."""
    expected = json.loads((kind / "expected.json").read_text())
    homes = sorted(kind.glob("node-*"))[:nodes]
    cluster = clusters(len(homes), start=False, dialect="controller",
                       overrides={**ROLLS, "kraft.data.mode": expected["mode"], **overrides})
    for home, node in zip(homes, cluster):
        for path in sorted(path for path in home.rglob("*") if path.is_file()):
            to = node.data_dir / path.relative_to(home)
            to.parent.mkdir(parents=True, exist_ok=True)
            if path.suffix == ".gz":
                to.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
            else:
                to.write_bytes(path.read_bytes())
    return cluster, expected


def served(node):
    """All batches that a consumer gets."""
    data, offset, end = b"", 0, None
    with raw.Connection(node.port) as connection:
        while end is None or offset < end:
            fetched = connection.fetch(offset, max_bytes=64 << 10)
            assert fetched.error == raw.NONE
            end = fetched.high_watermark
            found, _ = formats.batches(fetched.records)
            assert found and found[0].base_offset == offset
            data, offset = data + b"".join(batch.data for batch in found), found[-1].next_offset
    found, behind = formats.batches(data)
    assert behind == 0
    return found


def told(batches):
    return [[batch.base_offset, batch.epoch, batch.count, batch.crc] for batch in batches]


def check_served(leader, expected):
    """What was held, and behind it nothing but the begins of new epochs. Gives what was held."""
    found = served(leader)
    held = [batch for batch in found if batch.base_offset < expected["log_end"]]
    assert told(held) == expected["batches"]
    assert all(batch.is_control for batch in found[len(held):])
    assert not {tuple(batch) for batch in expected["deposed"]} & {tuple(batch) for batch in told(found)}
    return held


def check_producers(leader, held):
    """Retries of what is remembered get their old offsets, older ones are out of order, and what comes next is taken."""
    by_producer = {}
    for batch in (batch for batch in held if batch.producer_id >= 0):
        by_producer.setdefault(batch.producer_id, []).append(batch)
    assert len(by_producer) >= 2
    with raw.Connection(leader.port) as connection:
        for producer, batches in by_producer.items():
            last = batches[-1]
            of_epoch = [batch for batch in batches if batch.producer_epoch == last.producer_epoch]
            for batch in of_epoch[-formats.BATCHES_REMEMBERED:]:
                again = connection.produce(batch.as_sent())
                assert (again.error, again.offset) == (raw.NONE, batch.base_offset)
            for batch in of_epoch[:-formats.BATCHES_REMEMBERED]:
                assert connection.produce(batch.as_sent()).error == raw.OUT_OF_ORDER_SEQUENCE_NUMBER
            following = last.base_sequence + last.count
            records = raw.batch(b"next", producer_id=producer, producer_epoch=last.producer_epoch, timestamp_ms=TIME_MS,
                                base_sequence=following)
            taken = connection.produce(records)
            assert taken.error == raw.NONE and taken.offset > held[-1].base_offset
            gap = raw.batch(b"gap", producer_id=producer, producer_epoch=last.producer_epoch, timestamp_ms=TIME_MS,
                            base_sequence=following + 2)
            assert connection.produce(gap).error == raw.OUT_OF_ORDER_SEQUENCE_NUMBER


def check_said(node):
    """Nothing was found wrong, and nothing cut."""
    for line in node.stderr().splitlines():
        if " WARN " in line or " ERROR " in line:
            assert any(word in line for word in MAY_SAY), line


@pytest.mark.parametrize("kind", MADE, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_a_directory_of_an_older_version_is_served_and_stays_whole(kind, clusters):
    cluster, expected = unpacked(kind, clusters)
    before = {node.node_id: formats.log_of(node.partition_dir) for node in cluster}
    cluster.start()
    held = check_served(cluster.leader(), expected)
    for node in cluster:
        if not expected["deposed"] or len(before[node.node_id]) == len(held):
            check_said(node)
    check_producers(cluster.leader(), held)
    cluster.wait_caught_up()
    leader = cluster.leader()
    everything = [batch.data for batch in served(leader)]
    for node in cluster:
        assert node.stop() == 0
    for node in cluster:
        log = formats.log_of(node.partition_dir)
        assert [batch.data for batch in log][:len(everything)] == everything
    # And once more, from what this version has made of it.
    cluster.start()
    leader = cluster.leader()
    assert [batch.data for batch in served(leader)][:len(everything)] == everything
    for node in cluster:
        assert not any(word in node.stderr() for word in ("corrupt", "damaged"))


# ---------------------------------------------------------------------------------- files that are not as they should be

def rotten(data, at):
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]


def newer_mark(slot):
    """The same of a version that nobody knows."""
    body = slot[:8] + struct.pack(">I", 99) + slot[12:72]
    return (body + struct.pack(">I", raw.crc32c(body))).ljust(formats.SLOT_BYTES, b"\0")


def both_slots(change):
    return lambda data: b"".join(change(data[at:at + formats.SLOT_BYTES]) for at in (0, formats.SLOT_BYTES))


def newest_slot(change):
    def changed(data):
        marks = [formats.mark_in(data[at:at + formats.SLOT_BYTES]) for at in (0, formats.SLOT_BYTES)]
        newest = max((0, 1), key=lambda n: marks[n].sequence if marks[n] else -1) * formats.SLOT_BYTES
        return data[:newest] + change(data[newest:newest + formats.SLOT_BYTES]) + data[newest + formats.SLOT_BYTES:]
    return changed


def newer_summary(data):
    body = data[:8] + struct.pack(">I", 99) + data[12:-4]
    return body + struct.pack(">I", raw.crc32c(body))


def newer_section(data):
    at = data.index(struct.pack(">HH", 1, 1), 80)
    body = data[:at + 2] + struct.pack(">H", 99) + data[at + 4:-4]
    return body + struct.pack(">I", raw.crc32c(body))


def bad_tail(data):
    """Behind the last batch something that no write leaves."""
    found, _ = formats.batches(data)
    end = found[-1].position + len(found[-1].data)
    return data[:end] + b"no batch" * 200 + data[end + 1600:]


def without(key):
    return lambda data: b"".join(line for line in data.splitlines(True) if not line.startswith(key))


def said(old, new):
    return lambda data: data.replace(old, new)


def in_doubt(data):
    before = data.rpartition(b',"checksum":')[0] + b',"inDoubt":true'
    return before + b',"checksum":"%08x"}' % raw.crc32c(before)


def kafkas_state(data):
    """The same values, as Kafka's server leaves them: without keys of ours, and the checksum."""
    return data.partition(b',"caughtUp"')[0] + b"}"


GONE = None
MARK, STATE, META, TOPIC_ID = "commit-mark", "quorum-state", "../meta.properties", "partition.metadata"
EPOCHS, LAST, SUMMARY = "leader-epoch-checkpoint", "00000000000000000000.log", "00000000000000000000.summary"

# File and change, one or more; the exit code, None where it starts; what it says.
CASES = {
    "meta-missing": ([(META, GONE)], None, None),
    "meta-empty": ([(META, lambda data: b"")], 1, "this file is empty"),
    "meta-zeros": ([(META, lambda data: bytes(len(data)))], 1, "this file is empty"),
    "meta-newer": ([(META, said(b"version=1", b"version=2"))], 1, "version=2 is not one that this server knows"),
    "meta-of-another-node": ([(META, said(b"node.id=1", b"node.id=2"))], 1, "another node's"),
    "meta-of-another-cluster": ([(META, said(CLUSTER_ID.encode(), b"BBBBBBBBBBBBBBBBBBBBBB"))], 1, "another cluster's"),
    "meta-without-a-mode": ([(META, without(b"kraft.data.mode"))], None, None),
    "meta-without-a-directory-id": ([(META, without(b"directory.id"))], None, None),
    "meta-with-another-key": ([(META, lambda data: data + b"zebra=1\n")], None, None),
    "topic-missing": ([(TOPIC_ID, GONE)], None, None),
    "topic-empty": ([(TOPIC_ID, lambda data: b"")], 1, "this file is empty"),
    "topic-newer": ([(TOPIC_ID, said(b"version: 0", b"version: 9"))], None, None),
    "topic-another": ([(TOPIC_ID, said(b"AAQ", b"AAg"))], 1, "kraft.topic.id"),
    "votes-missing": ([(STATE, GONE)], None, "Found no quorum-state beside a log"),
    "votes-empty": ([(STATE, lambda data: b"")], 65, "quorum-state is corrupt"),
    "votes-short": ([(STATE, lambda data: data[:-5])], 65, "not a JSON object"),
    "votes-rotten": ([(STATE, lambda data: data.replace(b'"leaderEpoch":2', b'"leaderEpoch":3'))], 65, "checksum does not match"),
    "votes-newer": ([(STATE, said(b'"data_version":1', b'"data_version":2'))], 65, "0 and 1 are known"),
    "votes-with-a-key-more": ([(STATE, said(b'"caughtUp"', b'"zebra":1,"caughtUp"'))], 65, "checksum does not match"),
    "votes-of-an-older-epoch": ([(STATE, lambda data: b'{"leaderId":-1,"leaderEpoch":1,"votedId":-1,"votedDirectoryId":"AAAAAAAAAAAAAAAAAAAAAA",'
                                  b'"data_version":1}')], None, "Raised the epoch of quorum-state from 1 to 2"),
    "votes-spare-missing": ([(STATE + ".tmp", GONE)], None, None),
    "mark-missing": ([(MARK, GONE)], None, "Found no commit mark"),
    "mark-empty": ([(MARK, lambda data: b"")], None, "Found no commit mark"),
    "mark-zeros": ([(MARK, lambda data: bytes(len(data)))], None, "Found no commit mark"),
    "mark-one-slot-rotten": ([(MARK, newest_slot(lambda slot: rotten(slot, 20)))], None, None),
    "mark-both-rotten": ([(MARK, both_slots(lambda slot: rotten(slot, 20)))], None, "Found no commit mark"),
    "mark-both-rotten-at-a-bad-tail": ([(MARK, both_slots(lambda slot: rotten(slot, 20))), (LAST, bad_tail)], 65, "cannot be read either"),
    "mark-newer": ([(MARK, both_slots(newer_mark))], None, "Found no commit mark"),
    "mark-newer-at-a-bad-tail": ([(MARK, both_slots(newer_mark)), (LAST, bad_tail)], 65, "cannot be read either"),
    "mark-above-the-log": ([(LAST, lambda data: data[:formats.batches(data)[0][-1].position])], 65, "this is rot and not a torn tail"),
    "segment-missing": ([(LAST, GONE)], 65, "the file is missing"),
    "segment-and-mark-missing": ([(LAST, GONE), (MARK, GONE)], 65, "there is no log"),
    "all-of-the-log-missing": ([(LAST, GONE), (MARK, GONE), (STATE, GONE)], None, None),
    "segment-short": ([(LAST, lambda data: data[:-1])], 65, "this is rot and not a torn tail"),
    "segment-rotten": ([(LAST, lambda data: rotten(data, 200)), (SUMMARY, GONE)], 65, "this is rot and not a torn tail"),
    "segment-of-another-magic": ([(LAST, lambda data: data[:16] + b"\3" + data[17:]), (SUMMARY, GONE)], 65, "this is rot and not a torn tail"),
    "segment-with-zeros-behind": ([(LAST, lambda data: data + bytes(8192))], None, None),
    "segment-with-a-bad-tail": ([(LAST, bad_tail)], 65, "This is the only voter"),
    "segment-with-a-stray-bit": ([(LAST, lambda data: data + bytes(99) + b"\1" + bytes(99))], None, "Cut a stray bit"),
    "summary-missing": ([(SUMMARY, GONE)], None, "0 of 1 segments have summaries"),
    "summary-short": ([(SUMMARY, lambda data: data[:-1])], None, "its checksum does not match"),
    "summary-rotten": ([(SUMMARY, lambda data: rotten(data, 30))], None, "its checksum does not match"),
    "summary-newer": ([(SUMMARY, newer_summary)], None, "another version wrote it"),
    "summary-section-newer": ([(SUMMARY, newer_section)], None, "its section of producers is of version 99"),
    "epochs-missing": ([(EPOCHS, GONE)], None, None),
    "epochs-rotten": ([(EPOCHS, lambda data: b"whatever")], None, None),
    "epochs-newer": ([(EPOCHS, lambda data: b"9" + data[1:])], None, None),
    "kafkas-files": ([("00000000000000000000.index", lambda data: b"x"), ("00000000000000000024.snapshot", lambda data: b"x"),
                      ("../bootstrap.checkpoint", lambda data: b"x")], None, None),
}


# The same of a log of three segments, two of them closed, of one voter alone.
FIRST, MIDDLE, NEWEST = "00000000000000000000.log", "00000000000000000082.log", "00000000000000000156.log"
SUMMARIES = [FIRST.replace(".log", ".summary"), MIDDLE.replace(".log", ".summary")]
CASES_OF_THREE = {
    "nothing": ([], None, "0 of 3 segments have summaries"),
    "first-missing": ([(FIRST, GONE)], 65, "the file is missing; the log began with it"),
    "middle-missing": ([(MIDDLE, GONE)], 65, "the next segment is 00000000000000000156.log"),
    "middle-and-mark-missing": ([(MIDDLE, GONE), (MARK, GONE)], 65, "a later segment follows"),
    "newest-missing": ([(NEWEST, GONE)], 65, "this is rot and not a torn tail"),
    "middle-short": ([(MIDDLE, lambda data: data[:-1])], 65, "this is rot and not a torn tail"),
    "middle-longer": ([(MIDDLE, lambda data: data + b"x" * 70)], 65, "this is rot and not a torn tail"),
    "summary-of-another-segment": ([(SUMMARIES[0], SUMMARIES[1])], None, "it is of 00000000000000000082.log with"),
    "summary-rotten": ([(SUMMARIES[1], lambda data: rotten(data, 30))], None, "its checksum does not match"),
    "in-doubt": ([(STATE, in_doubt)], 65, "The end of this log was damaged when this node was one of several voters"),
    "of-kafkas": ([(STATE, kafkas_state)], None, None),
}


def change(node, changes):
    """Changes files of the partition; gives what those hold now that are left."""
    changed = {}
    for name, how in changes:
        path = node.partition_dir / name
        data = path.read_bytes() if path.exists() else b""
        if how is GONE:
            path.unlink()
            continue
        changed[name] = (node.partition_dir / how).read_bytes() if isinstance(how, str) else how(data)
        assert changed[name] != data, "it changes something"
        path.write_bytes(changed[name])
    return changed


def starts(node, changes, code, line):
    """With these files changed: whether it starts. That it refuses, or starts, and what it says, is checked."""
    changed = change(node, changes)
    node.start()
    if code is None:
        node.wait_ready()
        assert line is None or line in node.stderr(), node.stderr()
        return True
    assert node.wait_exit() == code, node.stderr()
    assert line in node.stderr(), node.stderr()
    assert all((node.partition_dir / name).read_bytes() == data for name, data in changed.items()), "nothing was changed"
    return False


@pytest.mark.parametrize("case", CASES)
def test_a_start_with_a_file_that_is_not_as_it_should_be(case, clusters):
    changes, code, line = CASES[case]
    cluster, expected = unpacked(DIRECTORIES / "before-snapshots" / "stopped", clusters)
    node = cluster[1]
    if not starts(node, changes, code, line):
        return
    if case == "all-of-the-log-missing":
        assert len(served(node)) == 1
        return
    check_served(node, expected)
    if case == "meta-with-another-key":
        assert "zebra=1" in (node.data_dir / "meta.properties").read_text()
    # Whatever was wrong is put right, but for what another program may have written.
    assert node.stop() == 0
    if case not in ("meta-with-another-key", "topic-newer"):
        formats.check_directory(node.data_dir, node.partition_dir)


@pytest.mark.parametrize("case", CASES_OF_THREE)
def test_a_start_with_a_segment_that_is_not_as_it_should_be(case, clusters):
    changes, code, line = CASES_OF_THREE[case]
    cluster, expected = unpacked(DIRECTORIES / "before-snapshots" / "quorum", clusters, nodes=1)
    node = cluster[1]
    if not starts(node, changes, code, line):
        return
    check_served(node, expected)
    assert node.stop() == 0
    formats.check_directory(node.data_dir, node.partition_dir)


def test_every_file_of_a_busy_quorum_is_as_the_page_says(clusters):
    """Not of an older version: what this one writes, with more than one summary."""
    cluster = clusters(3, overrides=ROLLS, dialect="controller")
    with raw.Connection(cluster.leader().port) as connection:
        for n in range(40):
            records = raw.batch(*(bytes([65 + n % 26]) * 1000 for _ in range(5)), producer_id=7, producer_epoch=0, base_sequence=5 * n)
            assert connection.produce(records).error == raw.NONE
    cluster.wait_caught_up()
    for node in cluster:
        wait_for("summaries", lambda: all(s.with_suffix(".summary").exists() for s in node.segments()[:-1]), PATIENCE_S)
    for node in cluster:
        assert node.stop() == 0
        assert len(node.segments()) >= 3
        formats.check_directory(node.data_dir, node.partition_dir)
        known = {"partition.metadata", "quorum-state", "quorum-state.tmp", "commit-mark", "leader-epoch-checkpoint", "snapshot-room"}
        others = {path.name for path in node.partition_dir.iterdir()} - known
        assert all(name[:20].isdigit() and name[20:] in (".log", ".summary") for name in others), others


# ------------------------------------------------------------------------------------------------------------- snapshots

OURS = DIRECTORIES.parent / "snapshots" / "version-1" / "00000000000000004711-0000000007.checkpoint"
# Tools that run for a second need no optimizing compiler.
QUICK_JVM = {**os.environ, "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"}


def dumps(*files):
    """What Kafka's tool and ours say of the same files, line by line."""
    theirs = tool("kafka-dump-log", "--files", ",".join(map(str, files)), "--deep-iteration", env=QUICK_JVM).check()
    ours = run(TOOLS_DIR / "kraft-dump-log", "--deep-iteration", *files)
    assert ours.code == 0, ours.err
    return theirs.out.splitlines(), ours.out.splitlines()


def test_the_page_says_what_the_program_writes():
    """The library's own test holds the same file against its encoder and its decoder."""
    written = formats.snapshot(7, 1_700_000_000_123, {1: (3, b"thirty-four bytes of one producer."), 9: (3, b"")})
    assert (OURS.name, OURS.read_bytes()) == (formats.snapshot_name(4711, 7), written)


@pytest.mark.parametrize("keeps_log", [True, False], ids=["beside-the-log", "in-place-of-the-log"])
def test_kafkas_voter_starts_from_a_snapshot_of_ours(keeps_log, clusters):
    cluster = MixedCluster(clusters.root / "mixed", "r", segment_bytes=SEGMENT_BYTES_MIN)
    clusters.made.append(cluster)
    ours = cluster[1].start().wait_ready()
    with raw.Connection(ours.port) as connection:
        for n in range(20):
            records = raw.batch(b"value-%d" % n, producer_id=7, producer_epoch=0, base_sequence=n)
            assert connection.produce(records, topic=JAVA_TOPIC).error == raw.NONE
    assert ours.stop() == 0
    log = formats.log_of(ours.partition_dir)
    end, epoch = log[-1].next_offset, log[-1].epoch
    sections = {1: (1, b"".join(formats.PRODUCER.pack(7, 0, b.base_offset, 0, b.base_sequence, b.max_timestamp) for b in log[-5:])),
                9: (1, bytes(range(256)) * 5000), 10: (1, b"")}
    snapshot = ours.partition_dir / formats.snapshot_name(end, epoch)
    snapshot.write_bytes(formats.snapshot(epoch, log[-1].max_timestamp, sections))
    if not keeps_log:
        for path in [*ours.partition_dir.glob("*.log"), *ours.partition_dir.glob("*.summary")]:
            path.unlink()
    assert run(TOOLS_DIR / "kraft-dump-log", snapshot).code == 0
    java = JavaVoter(1, ours.directory, {key: value for key, value in ours.properties.items() if not key.startswith("kraft.")})
    cluster.nodes[1] = java
    java.start().wait_ready()
    wait_for("Kafka's server to read the snapshot", lambda: re.search(rf"Loading snapshot .*offset={end}, epoch={epoch}\b", java.stderr()),
             JAVA_PATIENCE_S)
    wait_for("Kafka's server to go on behind it", lambda: log_end(java) > end, JAVA_PATIENCE_S)
    assert java.faults() == []
    java.kill()
    # Kafka begins its segment at the snapshot's end where the log is gone.
    assert int(java.segments()[0].stem) == (0 if keeps_log else end)
    assert formats.batches(java.segments()[-1].read_bytes())[0][-1].next_offset > end


def test_kafkas_tool_reads_a_snapshot_of_ours():
    theirs, ours = dumps(OURS)
    assert theirs == ours
    assert theirs[1] == "Snapshot end offset: 4711, epoch: 7"
    assert [line for line in theirs if "baseOffset" in line and "isvalid: true" in line] == [line for line in theirs if "baseOffset" in line]
    assert 'SnapshotHeader {"version":0,"lastContainedLogTimestamp":1700000000123}' in theirs[3]
    assert theirs[-1].endswith('SnapshotFooter {"version":0}')


def test_ours_reads_what_kafkas_node_wrote(scratch):
    golden = sorted((DIRECTORIES.parent / "golden" / "files").rglob("*.checkpoint"))
    assert len(golden) >= 8
    theirs, ours = dumps(*golden)
    assert theirs == ours
    # And what this Kafka writes, now: the snapshot that names the voters of a new directory.
    config = scratch / "format.properties"
    port = free_port()
    config.write_text(f"process.roles=controller\nnode.id=1\nlisteners=CONTROLLER://localhost:{port}\nlog.dirs={scratch / 'data'}\n"
                      f"controller.listener.names=CONTROLLER\ncontroller.quorum.bootstrap.servers=localhost:{port}\n")
    run("bin/kafka-run-class.sh", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", config, "--standalone", env=QUICK_JVM).check()
    written = sorted((scratch / "data").rglob("*.checkpoint"))
    assert len(written) == 2
    theirs, ours = dumps(*written)
    assert theirs == ours and any("KRaftVoters" in line for line in ours)


def test_what_is_no_whole_snapshot_is_told(scratch):
    whole = OURS.read_bytes()
    for data, what in ((whole[:-75], "it ends without a footer"), (whole[:-1], "bytes from position"), (whole + whole, "bytes follow its footer")):
        copy = scratch / OURS.name
        copy.write_bytes(data)
        told = run(TOOLS_DIR / "kraft-dump-log", copy)
        assert told.code == 1 and what in told.err, told.err
