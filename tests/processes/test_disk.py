"""The files of a node: Kafka reads them, torn ends are cut, rot is refused, and what was acknowledged is there."""

import json
import os
import re
import struct
import subprocess

import pytest

import kafka_tools
import raw
from cluster import CLUSTER_ID, PATIENCE_S, wait_for

EXIT_CORRUPT, EXIT_DISK = 65, 74
SECTOR = 512


def batches_of(segment):
    """(position, base offset, size) of each batch in a segment file, up to the zeros that follow the last."""
    data, position, found = segment.read_bytes(), 0, []
    while position + 61 <= len(data):
        offset, length = struct.unpack_from(">qi", data, position)
        if length == 0:
            break
        found.append((position, offset, length + 12))
        position += length + 12
    return found


def stopped_node_with_records(clusters, count=200, **options):
    """A quorum of one, so that every record is below the commit mark once it was acknowledged and some time passed."""
    cluster = clusters(1, **options)
    with raw.Connection(cluster[1].port) as connection:
        for n in range(count):
            assert connection.produce(raw.batch(f"record-{n}".encode())).error == raw.NONE
    return cluster


def flip_byte(path, position):
    with open(path, "r+b") as file:
        file.seek(position)
        byte = file.read(1)[0]
        file.seek(position)
        file.write(bytes([byte ^ 0x40]))
        os.fsync(file.fileno())


def dump(*segments, **options):
    return kafka_tools.tool("kafka-dump-log", "--files", ",".join(map(str, segments)), "--print-data-log", "--deep-iteration", **options)


def dumped_values(output):
    return {m[2]: int(m[1]) for m in re.finditer(r"offset: (\d+) .*?payload: (\S+)$", output.out, re.M)}


def zeros_behind(segment):
    position, _, size = batches_of(segment)[-1]
    return segment.stat().st_size - position - size


def test_kafka_dump_log_reads_a_live_and_a_killed_nodes_segment(clusters):
    """Behind its batches are the zeros of the space ahead of the writer: the wrapper says so, and Kafka's tool stops before."""
    cluster = clusters(1)
    verified = kafka_tools.produce_verified(cluster.bootstrap, 50)
    node = cluster[1]
    segment, = node.segments()
    live = dump(segment).check()
    assert verified.acked.items() <= dumped_values(live).items()
    node.kill()
    killed = dump(segment).check()
    assert verified.acked.items() <= dumped_values(killed).items()
    zeros = zeros_behind(segment)
    assert zeros > 0
    for output in (live, killed):
        assert f"{segment}: the {zeros} zeros behind its last batch" in output.err and "Exception" not in output.err, output.err
        assert output.out.startswith(f"Dumping {segment}\n") and not re.search("isvalid: false|invalid bytes", output.out)
    node.start().wait_ready()
    assert node.stop() == 0
    stopped = dump(segment).check()
    assert "zeros" not in stopped.err and verified.acked.items() <= dumped_values(stopped).items()


def test_kafka_dump_log_still_complains_of_anything_but_zeros(clusters, scratch):
    cluster = stopped_node_with_records(clusters, 5)
    node = cluster[1]
    assert node.stop() == 0
    segment, = node.segments()
    whole, expected = segment.read_bytes(), dumped_values(dump(segment).check())
    assert len(expected) == 5

    def written(directory, data):
        path = scratch / directory / segment.name
        path.parent.mkdir()
        path.write_bytes(data)
        return path

    # Zeros and then something: a lost write, or another program's. Kafka's tool stops there, as it does without the wrapper.
    garbage = dump(written("garbage", whole + bytes(5000) + b"something"))
    assert garbage.code == 1 and "Found record size 0 smaller than minimum record overhead (14)" in garbage.err, garbage.err
    assert "are left out" not in garbage.err and dumped_values(garbage) == expected
    cut = dump(written("cut", whole[:-3]))
    assert "invalid bytes at the end" in cut.out and "are left out" not in cut.err, cut.out
    # Zeros do not hide what is rotten before them.
    rotten = bytearray(whole + bytes(5000))
    rotten[len(whole) - 3] ^= 0x40
    rotten = dump(written("rotten", rotten))
    assert len(re.findall("isvalid: false", rotten.out)) == 1 and "are left out" in rotten.err, rotten.out
    # Several files, of which one ends with zeros: each is shown whole, in the order in which they were named.
    zeros = written("zeros", whole + bytes(5000))
    three = dump(segment, zeros, segment).check()
    assert re.findall("^Dumping (.*)$", three.out, re.M) == [str(path) for path in (segment, zeros, segment)]
    assert three.out.count("payload: ") == 15 and three.err.count("are left out") == 1
    # The user's own limit counts where it is smaller, also in the other form of an option.
    few = kafka_tools.tool("kafka-dump-log", f"--files={zeros}", "--max-bytes=100", "--deep-iteration").check()
    assert few.out.count("baseOffset: ") == 1, few.out
    nothing = written("empty", bytes(4096))
    assert dump(nothing).check().out == f"Dumping {nothing}\nLog starting offset: 0\n"


def test_kafka_dump_log_reads_the_segment(clusters):
    cluster = clusters(3)
    verified = kafka_tools.produce_verified(cluster.bootstrap, 300)
    cluster.wait_caught_up()
    for node in cluster:
        assert node.stop() == 0
        output = dump(node.segments()[0]).check()
        out, dumped = output.out, dumped_values(output)
        assert "LEADER_CHANGE" in out or "LeaderChange" in out, out[:2000]
        for value, offset in verified.acked.items():
            assert dumped.get(value) == offset
        assert not re.search(r"(?i)isvalid: false|corrupt|exception", out)


def test_segments_of_all_nodes_are_byte_for_byte_the_same(clusters):
    cluster = clusters(3)
    kafka_tools.produce_verified(cluster.bootstrap, 500)
    cluster.wait_caught_up()
    leader = cluster.leader()
    # Followers first: a leader that goes first would be succeeded by one with a longer log.
    for node in sorted(cluster, key=lambda node: node is leader):
        node.signal(9)
        node.process.wait(PATIENCE_S)
    contents = []
    for node in cluster:
        position, _, size = batches_of(node.segments()[0])[-1]
        contents.append(node.segments()[0].read_bytes()[:position + size])
    assert min(map(len, contents)) > 500 * 8
    shortest = min(map(len, contents))
    assert len({content[:shortest] for content in contents}) == 1


def test_files_have_kafkas_names_and_formats(clusters):
    cluster = clusters(1)
    kafka_tools.produce_verified(cluster.bootstrap, 10)
    node = cluster[1]
    assert node.stop() == 0
    assert [s.name for s in node.segments()] == ["00000000000000000000.log"]
    state = json.loads((node.partition_dir / "quorum-state").read_text())
    assert state["leaderEpoch"] >= 1 and state["data_version"] == 1
    # Version 1 names the voted directory; Kafka takes both versions whatever the kraft.version.
    assert state["leaderId"] == 1 and state["votedDirectoryId"]
    checkpoint = (node.partition_dir / "leader-epoch-checkpoint").read_text().split("\n")
    assert checkpoint[0] == "0" and int(checkpoint[1]) == len([line for line in checkpoint[2:] if line])
    metadata = (node.partition_dir / "partition.metadata").read_text()
    assert metadata.splitlines() == ["version: 0", "topic_id: AAAAAAAAAAAAAAAAAAAAAQ"]
    meta = (node.data_dir / "meta.properties").read_text()
    assert f"cluster.id={CLUSTER_ID}" in meta and re.search(r"^directory\.id=\S{22}$", meta, re.M)


def test_clean_stop_cuts_the_file_to_its_length(clusters):
    cluster = stopped_node_with_records(clusters, 50)
    assert cluster[1].stop() == 0
    segment = cluster[1].segments()[0]
    position, _, size = batches_of(segment)[-1]
    assert segment.stat().st_size == position + size


def test_restart_keeps_identity_and_log(clusters):
    cluster = clusters(3)
    verified = kafka_tools.produce_verified(cluster.bootstrap, 100)
    identities = [(node.data_dir / "meta.properties").read_text() for node in cluster]
    for node in cluster:
        node.kill()
    cluster.start()
    assert [(node.data_dir / "meta.properties").read_text() for node in cluster] == identities
    read = dict(kafka_tools.kcat_read(cluster.bootstrap))
    assert all(read[offset] == value for value, offset in verified.acked.items())


@pytest.mark.parametrize("where", ["value", "length", "crc", "offset"])
def test_rot_below_the_commit_mark_is_refused(clusters, where):
    cluster = stopped_node_with_records(clusters)
    node = cluster[1]
    assert node.stop() == 0
    segment = node.segments()[0]
    before = segment.stat().st_size
    position, _, size = batches_of(segment)[100]
    flip_byte(segment, position + {"offset": 3, "length": 9, "crc": 18, "value": size - 3}[where])
    # After a stop in good order the summary vouches for the segment, unless all is to be looked at.
    node.start("--override", "kraft.log.check=whole")
    assert node.wait_exit() == EXIT_CORRUPT, node.stderr()[-2000:]
    line = next((line for line in node.stderr().splitlines() if segment.name in line and re.search(rf"\b{position}\b", line)), None)
    assert line, f"no line names {segment.name} and position {position}:\n{node.stderr()[-2000:]}"
    assert segment.stat().st_size >= before, "rotten data was cut off"


def segments_with_summaries(clusters, count=120):
    """A quorum of one with several segments of 64 KiB, each but the last with its summary; its records."""
    cluster = clusters(1, overrides={"metadata.log.segment.bytes": 64 << 10, "message.max.bytes": 16 << 10,
                                     "kraft.tail.cache.bytes": 0})
    records = [f"record-{n}-".encode() + b"x" * 2000 for n in range(count)]
    with raw.Connection(cluster[1].port) as connection:
        for record in records:
            assert connection.produce(raw.batch(record)).error == raw.NONE
    node = cluster[1]
    wait_for("a summary of each closed segment",
             lambda: len(list(node.partition_dir.glob("*.summary"))) == len(node.segments()) - 1)
    assert len(node.segments()) >= 4
    return cluster, [record.decode() for record in records]


def recovery_of_last_start(node):
    """(bytes read, bytes of the log, summaries, segments) as the last start told them."""
    found = re.findall(r"Recovery read (\d+) bytes of a log of (\d+) in \d+ ms: (\d+) of (\d+) segments", node.stderr())
    return tuple(int(number) for number in found[-1])


def values(cluster):
    return [value for _, value in kafka_tools.kcat_read(cluster.bootstrap)]


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_start_reads_only_what_no_summary_vouches_for(clusters, how):
    cluster, records = segments_with_summaries(clusters)
    node = cluster[1]
    getattr(node, how)()
    assert (node.segments()[-1].with_suffix(".summary").exists()) == (how == "stop")
    node.start().wait_ready()
    read, log, summaries, segments = recovery_of_last_start(node)
    # A kill leaves the last segment to be scanned, and the one before where the commit mark still lies in it.
    assert summaries >= (segments - 2 if how == "kill" else segments), node.stderr()[-2000:]
    assert read < log
    assert values(cluster) == records
    node.stop()
    node.start("--override", "kraft.log.check=whole").wait_ready()
    read, log, summaries, segments = recovery_of_last_start(node)
    assert (read, summaries) == (log, 0)
    assert values(cluster) == records


def test_a_bad_summary_costs_a_scan_and_nothing_else(clusters):
    cluster, records = segments_with_summaries(clusters)
    node = cluster[1]
    assert node.stop() == 0
    first, second, third = (segment.with_suffix(".summary") for segment in node.segments()[:3])
    flip_byte(first, 40)
    second.unlink()
    # Of another segment: outdated, as far as this file can tell.
    third.write_bytes(node.segments()[3].with_suffix(".summary").read_bytes())
    node.start().wait_ready()
    _, _, summaries, segments = recovery_of_last_start(node)
    assert summaries == segments - 3, node.stderr()[-2000:]
    for summary in (first, third):
        assert re.search(rf"Scanning {summary.stem}\.log: its summary is not believed", node.stderr())
    assert values(cluster) == records
    wait_for("the summaries to be written again", lambda: all(s.exists() for s in (first, second, third)))
    node.stop()
    node.start().wait_ready()
    _, _, summaries, segments = recovery_of_last_start(node)
    assert summaries == segments


def test_rot_behind_a_summary_is_found_when_it_is_read(clusters):
    cluster, _ = segments_with_summaries(clusters)
    node = cluster[1]
    assert node.stop() == 0
    segment = node.segments()[1]
    position, offset, size = batches_of(segment)[5]
    flip_byte(segment, position + size - 3)
    node.start().wait_ready()
    with raw.Connection(node.port) as connection:
        assert connection.fetch(offset - 1).error == raw.NONE
        assert connection.fetch(offset).error == raw.KAFKA_STORAGE_ERROR
        assert connection.produce(raw.batch(b"goes on")).error == raw.NONE
    line = node.wait_line(f"cannot serve offset {offset}")
    assert segment.name in line and f"byte {position}" in line, line


# Longer than any test: what is told stays above the mark.
NO_IDLE_MARK = {"kraft.commit.mark.idle.ms": "60000"}


def test_damage_above_the_mark_stops_the_only_voter_and_is_not_cut(clusters):
    """Each record is told, the process dies, one bit flips: with good batches behind it, and in the very last one."""
    for back in (5, 1):
        cluster = clusters(1, overrides=NO_IDLE_MARK)
        node = cluster[1]
        with raw.Connection(node.port) as connection:
            for n in range(20):
                assert connection.produce(raw.batch(f"record-{n}".encode())).error == raw.NONE
        node.kill()
        segment = node.segments()[0]
        position, offset, _ = batches_of(segment)[-back]
        flip_byte(segment, position + 64)
        before = segment.read_bytes()
        node.start()
        assert node.wait_exit() == EXIT_CORRUPT, node.stderr()[-2000:]
        line = next(line for line in node.stderr().splitlines() if segment.name in line and "only voter" in line)
        assert f"byte {position}" in line and f"offset {offset}" in line, line
        assert segment.read_bytes() == before, "something was cut"


def test_who_is_in_doubt_elects_nobody_who_lacks_what_it_told(clusters):
    """A record is told on the strength of two of three; one of these two loses it to a bit, and meets the third without the other."""
    cluster = clusters(3, overrides=NO_IDLE_MARK)
    kafka_tools.produce_verified(cluster.bootstrap, 5)
    cluster.wait_caught_up()
    leader = cluster.leader()
    holder, absent = [node for node in cluster if node is not leader]
    absent.kill()
    with raw.Connection(leader.port) as connection:
        told = [connection.produce(raw.batch(f"precious-{n}".encode())) for n in range(12)]
    assert all(answer.error == raw.NONE for answer in told)
    wait_for("the records on the follower", lambda: len(batches_of(holder.segments()[0])) == len(batches_of(leader.segments()[0])))
    leader.kill()
    holder.kill()
    segment = holder.segments()[0]
    position = next(place for place, offset, _ in batches_of(segment) if offset == told[0].offset)
    flip_byte(segment, position + 64)
    holder.start()
    absent.start()
    wait_for("the line of the doubt", lambda: "votes for nobody" in holder.stderr())
    wait_for("the doubt in the status", lambda: holder.status()["log_in_doubt"] is True)
    code, why = holder.http("/ready")
    assert code == 503 and "the end of its log was damaged" in why, why
    assert "kraft_log_in_doubt 1" in holder.http("/metrics")[1].splitlines()
    wait_for("a refused vote or a candidature given up", lambda: "I do not stand, and wait for a leader" in holder.stderr())
    assert all(node.status()["role"] != "leader" for node in (holder, absent))
    leader.start()
    cluster.wait_ready()
    cluster.wait_caught_up()
    holder.wait_line("in doubt no more")
    assert holder.status()["log_in_doubt"] is False and "kraft_log_in_doubt 0" in holder.http("/metrics")[1].splitlines()
    values = [value for _, value in kafka_tools.kcat_read(cluster.bootstrap)]
    assert [value for value in values if value.startswith("precious-")] == [f"precious-{n}" for n in range(12)]


def test_a_torn_tail_is_cut_and_the_start_goes_on(clusters):
    """Sectors after the last flushed batch, of which a write that was under way at a power cut left some and not others."""
    cluster = stopped_node_with_records(clusters)
    node = cluster[1]
    end, epoch = node.status()["log_end_offset"], node.status()["epoch"]
    assert node.stop() == 0
    segment = node.segments()[0]
    size, whole = segment.stat().st_size, raw.batch(b"torn" * 1000)
    batch = struct.pack(">qii", end, len(whole) - 12, epoch) + whole[16:]
    arrived = (size + 100 + SECTOR) // SECTOR * SECTOR - size
    with open(segment, "ab") as file:
        file.write(batch[:arrived] + bytes(2 * len(whole)))
    node.start().wait_ready()
    assert re.search(r"(?i)\b(cut|torn|truncat)", node.stderr().rsplit("\n\n", 1)[-1]), node.stderr()[-2000:]
    read = kafka_tools.kcat_read(cluster.bootstrap)
    assert [value for _, value in read] == [f"record-{n}" for n in range(200)]
    kafka_tools.produce_verified(cluster.bootstrap, 10)


def test_bit_rot_in_the_quorum_state_is_not_believed(clusters):
    cluster = stopped_node_with_records(clusters, 5)
    node = cluster[1]
    assert node.stop() == 0
    state_file = node.partition_dir / "quorum-state"
    text = state_file.read_text()
    epoch = json.loads(text)["leaderEpoch"]
    state_file.write_text(re.sub(r'("leaderEpoch"\s*:\s*)\d+', rf"\g<1>{epoch + 8}", text))
    node.start()
    assert node.wait_exit() == EXIT_CORRUPT, node.stderr()[-2000:]
    assert "quorum-state" in node.stderr()


def test_segments_roll_by_size(clusters):
    cluster = clusters(3, overrides={"metadata.log.segment.bytes": 8 << 20})
    kafka_tools.tool("kafka-producer-perf-test", "--topic", "__cluster_metadata", "--num-records", 30000, "--throughput", -1,
                     "--record-size", 1000, "--bootstrap-server", cluster.bootstrap).check()
    cluster.wait_caught_up()
    names = [s.name for s in cluster.leader().segments()]
    assert len(names) >= 4, names
    for node in cluster:
        node.kill()
    cluster.start()
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) == 30000
    node = cluster[1]
    node.stop()
    for segment in node.segments():
        found = batches_of(segment)
        assert not found or found[0][1] == int(segment.stem), "a segment is named after its first offset"


@pytest.fixture
def small_disk(scratch):
    """An ext4 of 192 MiB in a file, for this test alone."""
    image, mount = scratch / "disk.img", scratch / "mount"
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    mount.mkdir()
    with open(image, "wb") as file:
        file.truncate(192 << 20)
    try:
        subprocess.run(["mkfs.ext4", "-q", "-F", str(image)], check=True, capture_output=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(mount)], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no loop mounts here: {error}")
    yield mount
    subprocess.run(["umount", "-l", str(mount)], check=False, capture_output=True)


def test_a_full_disk_refuses_produce_and_keeps_what_it_has(clusters, small_disk):
    cluster = clusters(1, start=False, overrides={"log.dirs": str(small_disk / "data"), "metadata.log.segment.bytes": 16 << 20})
    node = cluster[1]
    node.start().wait_ready()
    told = []
    with raw.Connection(node.port) as connection:
        error = raw.NONE
        batch = raw.batch(bytes(512 << 10))
        for _ in range(400):
            answer = connection.produce(batch)
            error = answer.error
            if error != raw.NONE:
                break
            told.append(answer.offset)
        assert error == raw.KAFKA_STORAGE_ERROR, f"after {len(told)} records of 512 KiB on a disk of 192 MiB: error {error}"
        assert told, "not even one record was taken"
        assert node.is_running() and node.status()["role"].lower() == "leader", "voting and leading go on"
        for offset in (told[0], told[-1]):
            assert connection.fetch(offset).records
    assert node.stop() == 0


def fill(path):
    """To the last block, as another program might."""
    with open(path, "wb", buffering=0) as file:
        try:
            os.posix_fallocate(file.fileno(), 0, os.statvfs(path.parent).f_bfree * os.statvfs(path.parent).f_frsize)
        except OSError:
            pass
        for size in (1 << 20, 4 << 10, 1 << 9):
            try:
                while True:
                    file.seek(0, os.SEEK_END)
                    file.write(bytes(size))
            except OSError:
                pass
    os.sync()


def make_leader(cluster, node):
    for _ in range(20):
        leader = cluster.leader()
        if leader is node:
            return
        assert leader.stop() == 0
        leader.start()
        cluster.wait_ready()
    raise AssertionError(f"node {node.node_id} was never elected")


def test_a_leader_whose_disk_another_program_fills_hands_over_and_comes_back(clusters, small_disk):
    cluster = clusters(3, start=False, overrides={"metadata.log.segment.bytes": 16 << 20})
    full, *_ = cluster
    full.properties["log.dirs"] = str(small_disk / "data")
    full.write_config()
    cluster.start()
    make_leader(cluster, full)
    filler = small_disk / "filler"
    fill(filler)

    def another_takes_it():
        leader = cluster.leader_now()
        if leader is None or leader is full:
            return False
        with raw.Connection(leader.port) as connection:
            return connection.produce(raw.batch(b"after the disk was full")).error == raw.NONE

    wait_for("another leader that takes a record", another_takes_it)
    for _ in range(30):
        with raw.Connection(cluster.leader().port) as connection:
            assert connection.produce(raw.batch(bytes(512 << 10))).error == raw.NONE
    wait_for("the full node to say so", lambda: full.http("/ready")[1] == "not ready: my disk has no room\n")
    assert full.is_running() and full.status()["unfit"] == "disk-full"
    assert re.search(r"^kraft_disk_full 1$", full.http("/metrics")[1], re.M)
    # Votes need no room: of the two that are left it elects the other when the leader dies.
    dead = cluster.leader()
    dead.kill()
    wait_for("another leader that takes a record", lambda: cluster.leader_now() not in (None, dead))
    assert full.is_running()
    filler.unlink()
    dead.start()
    cluster.wait_ready()
    cluster.wait_caught_up()
    lines = [line for line in full.stderr().splitlines() if "found no room" in line or "Produce is refused" in line]
    assert len(lines) <= 8, "\n".join(lines)


def test_an_error_of_the_device_stops_the_node(clusters):
    """Files may not grow past a limit: the kernel refuses the write of a new segment, as a broken device would."""
    cluster = clusters(1, start=False, overrides={"metadata.log.segment.bytes": 8 << 20})
    node = cluster[1]
    node.start().wait_ready()
    subprocess.run(["prlimit", "--pid", str(node.pid), f"--fsize={1 << 20}"], check=True)
    acknowledged = 0
    try:
        with raw.Connection(node.port) as connection:
            batch = raw.batch(bytes(256 << 10))
            for _ in range(60):
                if connection.produce(batch).error == raw.NONE:
                    acknowledged += 1
    except (raw.Closed, OSError):
        pass
    assert node.wait_exit() == EXIT_DISK, node.stderr()[-2000:]
    assert "panicked" not in node.stderr()
    assert re.search(r"(?i)error.*00000000000000000000\.log|(?i:File too large|EFBIG)", node.stderr()), node.stderr()[-2000:]
    assert acknowledged < 60
    node.start().wait_ready()
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) >= acknowledged, "an acknowledged record is gone"
