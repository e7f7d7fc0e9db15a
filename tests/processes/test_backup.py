"""kraft-backup beside running nodes: nothing but what is committed is copied, nothing that was acknowledged before is missing, and what
is restored endangers no quorum."""

import contextlib
import json
import random
import shutil
import signal
import struct
import subprocess
import time

import kafka_tools
from cluster import TOOLS_DIR, die_with_parent, wait_for
from test_first_leader import WAITING_S, check_kept, produce

BACKUP = TOOLS_DIR / "kraft-backup"
PERF = TOOLS_DIR / "kraft-perf"
# So that a second of load makes several of them.
SEGMENTS = {"metadata.log.segment.bytes": 4 << 20}
EXIT_REFUSED, EXIT_CORRUPT, EXIT_DISK, EXIT_LATER = 1, 65, 74, 75


def call(*arguments, code=0):
    output = kafka_tools.run(BACKUP, *arguments)
    assert output.code == code, f"exit code {output.code}: {' '.join(output.command)}\n{output.err}\n{output.out}"
    return output


def manifest(directory):
    return json.loads((directory / "manifest.json").read_text())


@contextlib.contextmanager
def load(cluster, *more):
    """20 MB/s of records from several connections."""
    process = subprocess.Popen([PERF, "--bootstrap-server", cluster.bootstrap, "--rate", "20000", "--record-size", "1000", "--records-per-batch",
                                "16", "--duration", "600", *more], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                               preexec_fn=die_with_parent)
    try:
        yield process
    finally:
        # It would wait for a node that is gone, and nobody reads what it has seen.
        process.kill()
        process.wait()


def write(cluster, mib):
    kafka_tools.run(PERF, "--bootstrap-server", cluster.bootstrap, "--num-records", mib << 10, "--record-size", 1024, "--records-per-batch", 32,
                    "--warmup", 0).check()


def log_bytes(directory, end):
    """The batches of the segments in a directory that lie below an offset."""
    found = []
    for segment in sorted(directory.glob("*.log")):
        data, at = segment.read_bytes(), 0
        while at + 61 <= len(data):
            base, length = struct.unpack_from(">qi", data, at)
            if length <= 0 or base >= end:
                break
            found.append(data[at:at + 12 + length])
            at += 12 + length
    return b"".join(found)


def test_a_backup_of_a_loaded_quorum_begins_a_new_cluster(clusters, scratch):
    """Taken again and again while records come: each is whole, and has what was acknowledged before it."""
    cluster, backup = clusters(3, overrides=SEGMENTS), scratch / "backup"
    ends = []
    with load(cluster):
        wait_for("some segments", lambda: len(cluster[1].segments()) > 3)
        for round in range(6):
            acked = produce(cluster.leader(), 5, f"round-{round}")
            # Each node in turn is copied from, with its own borders of segments.
            node = cluster[1 + round % 3]
            call("take", node.data_dir, backup, "--bootstrap-server", cluster.bootstrap)
            call("verify", backup)
            ends.append(manifest(backup)["log_end"])
            assert ends[-1] > max(acked), "what was acknowledged before it began is in it"
    assert ends == sorted(set(ends)), "each has more than the one before"
    copied = log_bytes(backup, ends[-1])
    assert len(copied) == sum(file["bytes"] for file in manifest(backup)["files"])
    cluster.wait_caught_up()
    for node in cluster:
        assert log_bytes(node.partition_dir, ends[-1]) == copied, f"node {node.node_id} has other bytes"
        assert node.stop() == 0

    new = clusters(3, start=False, overrides={**SEGMENTS, "kraft.cluster.id": "begun-anew"})
    for node in (new[1], new[2]):
        call("restore", backup, node.data_dir, "--as-new-cluster", "--cluster-id", "begun-anew", "--node-id", node.node_id)
    new.start()
    assert new.leader(WAITING_S) is not new[3], "whoever has the records leads first"
    new.wait_caught_up(WAITING_S)
    for node in new:
        assert log_bytes(node.partition_dir, ends[-1]) == copied, f"node {node.node_id} of the new cluster has other bytes"
    check_kept(new, acked | produce(new.leader(), 5, "new"))
    assert new.epoch() > manifest(backup)["last_epoch"]


def test_a_voter_that_lost_its_disk_is_restored_beside_the_others(clusters, scratch):
    cluster, backup = clusters(3, overrides=SEGMENTS), scratch / "backup"
    write(cluster, 20)
    lost = cluster.followers()[0]
    acked = produce(cluster.leader(), 20, "before")
    call("take", lost.data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    with load(cluster):
        acked |= produce(cluster.leader(), 20, "behind")
        lost.kill()
        shutil.rmtree(lost.data_dir)
        told = call("restore", backup, lost.data_dir, "--as-member", "--node-id", lost.node_id).out
        assert f"node.id={lost.node_id}" in told
        acked |= produce(cluster.leader(), 20, "meanwhile")
        lost.start().wait_ready()
        lost.wait_line("caught up with the quorum")
    cluster.wait_caught_up()
    assert not any("exit code 65" in node.stderr() for node in cluster)
    check_kept(cluster, acked | produce(cluster.leader(), 5, "after"))


def test_a_restored_voter_does_not_vote_as_if_it_had_what_it_lacks(clusters, scratch):
    """It acknowledged records with the leader, which has gone, while the third voter was away: with that one it is a majority, and neither has
    them. They must wait for the leader."""
    cluster, backup = clusters(3, overrides=SEGMENTS), scratch / "backup"
    acked = produce(cluster.leader(), 20, "before")
    cluster.wait_caught_up()
    full = cluster.leader()
    lost, away = cluster.followers()
    call("take", lost.data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    away.kill()
    acked |= produce(full, 20, "of two")
    lost.kill()
    full.kill()
    shutil.rmtree(lost.data_dir)
    call("restore", backup, lost.data_dir, "--as-member", "--node-id", lost.node_id)
    since = {node: len(node.stderr()) for node in (lost, away)}
    for node in (lost, away):
        node.start()
    waits = lambda: any("all voters are needed to elect me" in node.stderr()[since[node]:] for node in (lost, away))
    wait_for("one of them to say that it waits for all voters", waits, WAITING_S)
    assert cluster.leader_now() is None
    full.start()
    assert cluster.leader(WAITING_S) is full, "only it has all that was acknowledged"
    cluster.wait_caught_up(WAITING_S)
    check_kept(cluster, acked | produce(full, 5, "after"))


def test_all_directories_are_lost_and_restored(clusters, scratch):
    """With different backups, one shorter than the other: the longest leads, and nobody is stopped."""
    cluster, old, new = clusters(3, overrides=SEGMENTS), scratch / "old", scratch / "new"
    produce(cluster.leader(), 20, "first")
    call("take", cluster[1].data_dir, old, "--bootstrap-server", cluster.bootstrap)
    acked = produce(cluster.leader(), 20, "second")
    call("take", cluster[2].data_dir, new, "--bootstrap-server", cluster.bootstrap)
    for node in cluster:
        node.kill()
        shutil.rmtree(node.data_dir)
    for node, backup in ((cluster[1], old), (cluster[2], old), (cluster[3], new)):
        call("restore", backup, node.data_dir, "--as-member", "--node-id", node.node_id)
        node.start()
    assert cluster.leader(WAITING_S) is cluster[3], "it has most"
    cluster.wait_caught_up(WAITING_S)
    check_kept(cluster, acked | produce(cluster.leader(), 5, "after"))


def test_a_backup_that_is_killed_again_and_again_is_continued(clusters, scratch):
    cluster, backup = clusters(1, overrides=SEGMENTS), scratch / "backup"
    write(cluster, 40)
    node, begun = cluster[1], 0
    for _ in range(25):
        process = subprocess.Popen([BACKUP, "take", node.data_dir, backup, "--max-mib-per-second", "40"], stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(random.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        process.wait()
        if (backup / "manifest.json").exists():
            begun += 1
            call("verify", backup)
    assert begun > 5
    call("take", node.data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    end = manifest(backup)["log_end"]
    assert end == node.status()["high_watermark"]
    assert log_bytes(backup, end) == log_bytes(node.partition_dir, end)
    call("verify", backup)


def test_closed_segments_are_copied_once_and_the_last_one_grows(clusters, scratch):
    cluster, backup = clusters(1, overrides=SEGMENTS), scratch / "backup"
    write(cluster, 18)
    call("take", cluster[1].data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    stamp = lambda file: (file.stat().st_ino, file.stat().st_mtime_ns)
    before = {file: stamp(file) for file in sorted(backup.glob("*.log"))[:-1]}
    last = sorted(backup.glob("*.log"))[-1]
    inode = last.stat().st_ino
    assert len(before) >= 4
    write(cluster, 6)
    call("take", cluster[1].data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    assert {file: stamp(file) for file in before} == before
    assert last.stat().st_ino == inode, "it is gone on with, and not copied anew"
    # Of a node that is stopped, all that it had committed; and nothing new changes nothing.
    assert cluster[1].stop() == 0
    before = (backup / "manifest.json").read_bytes()
    assert "Nothing has been committed since" in call("take", cluster[1].data_dir, backup).out
    end = manifest(backup)["log_end"]
    assert log_bytes(backup, end) == log_bytes(cluster[1].partition_dir, end + 1)


def test_flipped_bits_anywhere_in_a_backup_are_found_and_not_restored(clusters, scratch):
    cluster, backup = clusters(1, overrides=SEGMENTS), scratch / "backup"
    write(cluster, 6)
    call("take", cluster[1].data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    files = [file for file in backup.iterdir() if file.stat().st_size]
    dice = random.Random(7)
    for attempt in range(80):
        file = files[attempt % len(files)]
        at, bit = dice.randrange(file.stat().st_size), 1 << dice.randrange(8)
        flip(file, at, bit)
        said = call("verify", backup, code=EXIT_CORRUPT).err
        assert file.name in said, said
        if attempt % 20 == 0:
            call("restore", backup, scratch / "none", "--as-member", "--node-id", 1, code=EXIT_CORRUPT)
            assert {path.name for path in (scratch / "none").iterdir()} <= {".lock"}, "what was begun is gone"
        flip(file, at, bit)
    call("verify", backup)


def flip(path, at, bit):
    with open(path, "r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bit]))


def test_a_disk_that_has_no_room_is_told_and_the_backup_is_continued(clusters, scratch):
    cluster, backup = clusters(1, overrides=SEGMENTS), scratch / "backup"
    write(cluster, 10)
    limited = ["bash", "-c", "trap '' XFSZ; ulimit -f 2000; exec \"$@\"", "bash"]
    output = kafka_tools.run(*limited, BACKUP, "take", cluster[1].data_dir, backup)
    assert (output.code, "file size limit" in output.err) == (EXIT_DISK, True), output.err
    call("verify", backup)
    call("take", cluster[1].data_dir, backup)
    call("verify", backup)


def test_a_node_that_is_behind_is_waited_for_and_not_for_ever(clusters, scratch):
    cluster, backup = clusters(3, overrides=SEGMENTS), scratch / "backup"
    behind = cluster.followers()[0]
    cluster.wait_caught_up()
    assert behind.stop() == 0
    acked = produce(cluster.leader(), 10, "while it is away")
    arguments = ("take", behind.data_dir, backup, "--bootstrap-server", cluster.bootstrap)
    assert "Nothing was copied" in call(*arguments, "--wait-s", 1, code=EXIT_LATER).err
    behind.start()
    call(*arguments)
    assert manifest(backup)["log_end"] > max(acked)
    for node in cluster:
        assert node.stop() == 0
    assert "No leader has told" in call(*arguments, "--wait-s", 1, code=EXIT_LATER).err


def test_what_it_cannot_do_it_says_in_one_line(clusters, scratch):
    cluster = clusters(1)
    assert kafka_tools.run(BACKUP, "--help").check().out.count("kraft-backup ") >= 5
    for arguments, code, why in [
        (("take", scratch / "none", scratch / "backup"), EXIT_REFUSED, "does not exist"),
        (("take", cluster[1].partition_dir, scratch / "backup"), EXIT_REFUSED, "log.dirs"),
        (("verify", scratch), EXIT_REFUSED, "is no backup"),
        (("restore", scratch, scratch / "data", "--as-member", "--node-id", 1), EXIT_REFUSED, "is no backup"),
    ]:
        said = call(*arguments, code=code).err
        assert why in said and said.startswith("error: ") and said.count("\n") == 1, said
    assert kafka_tools.run(BACKUP, "restore", scratch, scratch).code == EXIT_REFUSED
