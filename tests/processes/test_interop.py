"""Kafka's own voters beside ours: a mixed quorum, each other's files, and what an interop log refuses.

What takes longer, a whole matrix of moves, is `interop_moves.py`, a program.
"""

import os
import re
import struct
import subprocess
import time

import pytest
from confluent_kafka import Producer
from kafka import KafkaProducer

import kafka_tools
import raw
from cluster import CLUSTER_ID, PATIENCE_S, STEADY, TOOLS_DIR, free_port, wait_for
from interop_moves import Moves, log_end
from java_voter import (JAVA_PATIENCE_S, JAVA_TOPIC, JAVA_TOPIC_ID, NEWEST_KAFKA, OLDEST_KAFKA, SEGMENT_BYTES_MIN, JavaVoter, MixedCluster,
                        Standing, batches_on_disk, check_logs_equal, interop_node, kafka_libs, replica_fetch, standing)
from promises import check_moved_by_themselves, check_told_seldom, settled_promises

INTEROP = {"kraft.topic.name": JAVA_TOPIC, "kraft.topic.id": JAVA_TOPIC_ID, "kraft.data.mode": "interop"}
UNSUPPORTED_COMPRESSION_TYPE = 76
VOTER_NOT_FOUND = 127
# Tools that run for a second need no optimizing compiler.
QUICK_JVM = {**os.environ, "KAFKA_JVM_PERFORMANCE_OPTS": "-XX:+UseSerialGC -XX:TieredStopAtLevel=1"}


@pytest.fixture
def mixed(clusters):
    """mixed("jrr") starts a cluster of one Java voter and two of ours."""
    def make(kinds, start=True, **options):
        cluster = MixedCluster(clusters.root / f"mixed-{len(clusters.made)}", kinds, **options)
        clusters.made.append(cluster)
        if start:
            for node in cluster:
                node.start()
            for node in cluster:
                node.wait_ready(JAVA_PATIENCE_S)
        return cluster
    return make


@pytest.fixture
def interop(clusters):
    """Nodes of ours alone, with an interop log."""
    def make(size=1, **overrides):
        cluster = clusters(size, start=False, overrides={**INTEROP, **overrides}, dialect="controller")
        for node in cluster:
            node.partition_dir = node.data_dir / f"{JAVA_TOPIC}-0"
        return cluster.start()
    return make


def produce(node, records, **options):
    with raw.Connection(node.port) as connection:
        return connection.produce(records, topic=JAVA_TOPIC, **options)


def dump_of_ours(path, *flags):
    return subprocess.run([TOOLS_DIR / "kraft-dump-log", *flags, path], capture_output=True, text=True)


def check_dumps_agree(node, segments=None):
    """Kafka's DumpLogSegments and our kraft-dump-log say the same of each segment, line by line."""
    for segment in segments or node.segments():
        theirs = kafka_tools.tool("kafka-dump-log", "--files", segment, "--deep-iteration", env=QUICK_JVM).check()
        ours = dump_of_ours(segment, "--deep-iteration")
        assert ours.returncode == 0, ours.stderr
        assert ours.stdout == theirs.out
        assert "isvalid: false" not in theirs.out and not re.search("Exception|invalid bytes", theirs.out + theirs.err)


# ------------------------------------------------------------------------------------------------------- mixed quorums

def test_leadership_moves_between_kafkas_voter_and_ours(mixed):
    cluster = mixed("jrr")
    moves = Moves(cluster)
    for how in ("SIGTERM", "kill -9", "tail"):
        moves.move(how)
    moves.make_lead(cluster.javas[0])
    moves.make_lead(cluster.ours[0])
    assert moves.led["java"] and moves.led["kraft"]
    moves.settle()
    produce_as_users_do(cluster, moves.leader(cluster.ours))
    high_watermark = moves.settle()
    moves.check(high_watermark)
    # The files of one of each kind; those of the third are the same bytes.
    check_dumps_agree(cluster.javas[0])
    check_dumps_agree(cluster.ours[0])
    print(*moves.log, sep="\n")


def libs_or_skip(version):
    """Where they cannot be had the test is skipped, but not in CI."""
    try:
        return kafka_libs(version)
    except (RuntimeError, subprocess.TimeoutExpired) as problem:
        if os.environ.get("CI"):
            pytest.fail(str(problem))
        pytest.skip(f"Kafka {version} beside ours is NOT TESTED: {problem}")


@pytest.mark.parametrize("version", [OLDEST_KAFKA, NEWEST_KAFKA])
def test_leadership_moves_between_other_versions_voters_and_ours(mixed, version):
    """The oldest: Vote 1 and Fetch 17, no pre-votes, and a leader that appends 5 MB a second. The newest: ApiVersions 5 first."""
    cluster = mixed("jrr", java_options={"libs": libs_or_skip(version)}, segment_bytes=SEGMENT_BYTES_MIN)
    moves = Moves(cluster)
    for how in ("SIGTERM", "kill -9"):
        moves.move(how)
    moves.make_lead(cluster.javas[0])
    moves.make_lead(cluster.ours[0])
    high_watermark = moves.settle()
    moves.check(high_watermark)
    print(*moves.log, sep="\n")


def produce_as_users_do(cluster, leader):
    """Unmodified producers with values only: Kafka's and librdkafka's, with and without idempotence."""
    bootstrap = ",".join(f"localhost:{node.port}" for node in cluster.ours)
    kafka_tools.tool("kafka-producer-perf-test", "--topic", JAVA_TOPIC, "--num-records", 500, "--record-size", 50, "--throughput", -1,
                     "--producer-props", f"bootstrap.servers={bootstrap}", env=QUICK_JVM).check()
    acked = []
    producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 5})
    for n in range(200):
        producer.produce(JAVA_TOPIC, f"user-{n}".encode(), partition=0, on_delivery=lambda e, _: acked.append(e))
        # Several milliseconds in one batch: Kafka's voters stop at records that have a time of their own.
        time.sleep(0.0005)
    assert producer.flush(PATIENCE_S) == 0 and acked == [None] * 200
    wanted = [f"user-{n}".encode() for n in range(200)]

    def held():
        data = (batch for batch in batches_on_disk(leader.partition_dir) if not batch.attributes & 0x20)
        return [value for batch in data for _, value in batch.values() if value.startswith(b"user-")]
    # Followers may have flushed what the leader's own disk still writes.
    wait_for("the leader to have flushed them", lambda: len(held()) >= len(wanted))
    assert held() == wanted


def test_native_node_keeps_kafkas_voters_out(mixed):
    cluster = mixed("jrr", start=False, overrides={"kraft.data.mode": "native"})
    for node in cluster:
        node.start()
    for node in cluster.ours:
        node.wait_ready()
    java = cluster[1]
    line = r"the voter raft-client-1 is apache-kafka-java 4\.\d+\.\d+, .*kraft\.data\.mode.*controller\.quorum\.voters"
    wait_for("the line about the Java voter", lambda: any(re.search(line, node.stderr()) for node in cluster.ours), JAVA_PATIENCE_S)
    leader = cluster.leader()
    assert leader in cluster.ours
    assert produce(leader, raw.batch(b"v", records=raw.record(0, b"v", key=b"k"))).error == raw.NONE
    time.sleep(1)
    assert log_end(java) == 0 and java.is_running() and java.faults() == []
    for node in cluster.ours:
        assert len(re.findall(line, node.stderr())) < 10, "the line is not rate-limited"


# --------------------------------------------------------------------------------------------------------------- files

def fill_segments(node, count):
    """Whole batches of 256 KiB and single records, until there are so many segments."""
    n = 0
    while len(node.segments()) < count:
        assert produce(node, raw.batch(*(bytes([65 + n % 26]) * 4096 for _ in range(64)))).error == raw.NONE
        assert produce(node, raw.batch(f"ours-{n}".encode())).error == raw.NONE
        n += 1


def test_files_go_to_kafkas_server_and_back(mixed):
    cluster = mixed("r", segment_bytes=SEGMENT_BYTES_MIN)
    ours = cluster[1]
    fill_segments(ours, 3)
    closed = ours.segments()[:-1]
    summaries = [segment.with_suffix(".summary") for segment in closed]
    wait_for("a summary of each closed segment", lambda: all(summary.exists() for summary in summaries))
    written = [summary.read_bytes() for summary in summaries]
    ours.kill()
    assert "the space ahead of the writer" in dump_of_ours(ours.segments()[-1]).stderr
    check_dumps_agree(ours)
    end = log_end(ours)
    before = b"".join(batch.data for batch in batches_on_disk(ours.partition_dir))
    # The same directory, the same voter, Kafka's server.
    java = JavaVoter(1, ours.directory, {key: value for key, value in ours.properties.items() if not key.startswith("kraft.")},
                     throughput=2000, record_size=4096)
    cluster.nodes[1] = java
    java.start().wait_ready()
    wait_for("Kafka's server to go on with the log", lambda: len(java.segments()) >= 5 and log_end(java) > end, JAVA_PATIENCE_S)
    assert java.faults() == []
    java.kill()
    after = b"".join(batch.data for batch in batches_on_disk(java.partition_dir))
    assert after.startswith(before)
    assert [summary.read_bytes() for summary in summaries] == written, "Kafka leaves files alone that it does not know"
    check_dumps_agree(java)
    end = log_end(java)
    ours.write_config()
    cluster.nodes[1] = ours
    ours.start().wait_ready()
    assert re.search(rf"Recovery read .*: ({len(closed) - 1}|{len(closed)}) of \d+ segments have summaries", ours.stderr())
    assert produce(ours, raw.batch(b"ours again")).offset == end + 1
    assert "Cut" not in ours.stderr()
    ours.stop()
    assert b"".join(batch.data for batch in batches_on_disk(ours.partition_dir)).startswith(after)
    check_dumps_agree(ours)


@pytest.mark.parametrize("flags, refusal", [
    (["--no-initial-controllers"], None),
    (["--standalone"], r"kraft\.version"),
])
def test_directory_formatted_by_kafka(mixed, flags, refusal, scratch):
    cluster = mixed("r", start=False, overrides={"kraft.cluster.id": "Z29sZGVuLWthZmthLTQzMA", "kraft.topic.name": "__cluster_metadata",
                                                 "kraft.topic.id": "AAAAAAAAAAAAAAAAAAAAAQ"})
    node = cluster[1]
    node.partition_dir = node.data_dir / "__cluster_metadata-0"
    config = scratch / "format.properties"
    config.write_text(f"process.roles=controller\nnode.id=1\nlisteners={node.properties['listeners']}\n"
                      f"controller.listener.names=CONTROLLER\nlog.dirs={node.data_dir}\n"
                      f"controller.quorum.bootstrap.servers=localhost:{node.port}\n")
    kafka_tools.run("bin/kafka-run-class.sh", "kafka.tools.StorageTool", "format", "-t", "Z29sZGVuLWthZmthLTQzMA", "-c", config, *flags,
                    env=QUICK_JVM).check()
    directory_id = re.search(r"directory\.id=(\S+)", (node.data_dir / "meta.properties").read_text()).group(1)
    node.start()
    if refusal:
        assert node.wait_exit() == 1
        assert re.search(refusal, node.stderr()), node.stderr()
    else:
        node.wait_ready()
        assert node.status()["directory_id"] == directory_id
        with raw.Connection(node.port) as connection:
            assert connection.produce(raw.batch(b"v")).error == raw.NONE


# -------------------------------------------------------------------------------------------------------- the data mode

def test_what_kafkas_voters_cannot_read_is_refused_in_words(interop):
    node = interop()[1]
    cases = {
        "has a key": raw.batch(b"v", records=raw.record(0, b"v", key=b"k")),
        "has no value": raw.batch(b""),
    }
    for batch in cases.values():
        assert produce(node, batch).error == raw.INVALID_RECORD
    assert produce(node, raw.batch(b"v", attributes=1, records=b"gzip")).error == UNSUPPORTED_COMPRESSION_TYPE
    producer = KafkaProducer(bootstrap_servers=f"localhost:{node.port}", retries=0, enable_idempotence=False)
    with pytest.raises(Exception, match="has headers.*kraft.data.mode=interop|InvalidRecord"):
        producer.send(JAVA_TOPIC, b"v", headers=[("h", b"1")]).get(PATIENCE_S)
    producer.close()
    assert log_end(node) == 1, "only the leader change"


def test_timestamps_become_the_batchs(interop):
    node = interop()[1]
    records = raw.record(0, b"one") + raw.record(1, b"two", timestamp_delta=7)
    assert produce(node, raw.batch(b"one", b"two", records=records, timestamp_ms=1_700_000_000_000)).offset == 1
    batch = list(batches_on_disk(node.partition_dir))[1]
    assert (batch.base_timestamp, batch.max_timestamp) == (1_700_000_000_000, 1_700_000_000_000)
    assert batch.values() == [(1, b"one"), (2, b"two")]
    with raw.Connection(node.port) as connection:
        # The CRC is right: it reads back.
        assert connection.fetch(0, topic=JAVA_TOPIC, max_bytes=1 << 20).error == raw.NONE


def test_data_mode_is_fixed_with_the_log(interop, clusters):
    node = interop()[1]
    assert "kraft.data.mode=interop" in (node.data_dir / "meta.properties").read_text()
    node.stop()
    node.start("--override", "kraft.data.mode=native")
    assert node.wait_exit() == 1
    assert re.search(r"kraft\.data\.mode=native: .*meta\.properties says kraft\.data\.mode=interop", node.stderr())


def test_native_log_is_not_taken_for_an_interop_one(clusters):
    node = clusters(1)[1]
    with raw.Connection(node.port) as connection:
        assert connection.produce(raw.batch(b"v", records=raw.record(0, b"v", key=b"k"))).error == raw.NONE
    node.stop()
    # As an older server left it: nothing says which mode it has.
    meta = node.data_dir / "meta.properties"
    meta.write_text("".join(line for line in meta.read_text().splitlines(True) if "data.mode" not in line))
    for _ in range(2):
        node.start("--override", "kraft.data.mode=interop")
        assert node.wait_exit() == 1
        assert re.search(r"kraft\.data\.mode=interop was not the mode of this log when its batch at offset 1 .*has a key", node.stderr()), node.stderr()
    node.start().wait_ready()
    assert "kraft.data.mode=native" in meta.read_text()


def test_nodes_of_two_modes_do_not_share_a_log(clusters):
    cluster = clusters(3, start=False)
    cluster[3].properties["kraft.data.mode"] = "interop"
    for n in (1, 2):
        # They begin without the third, whose word they never get.
        cluster[n].properties["kraft.first.leader"] = "majority"
    for node in cluster:
        node.write_config()
        node.start()
    cluster[1].wait_ready(), cluster[2].wait_ready()
    line = r"the voter raft-client-3 has kraft\.data\.mode=interop, this node native"
    wait_for("the refusal", lambda: re.search(line, cluster[1].stderr() + cluster[2].stderr()))
    leader = cluster.leader()
    with raw.Connection(leader.port) as connection:
        assert connection.produce(raw.batch(b"v", records=raw.record(0, b"v", key=b"k"))).error == raw.NONE
    time.sleep(1)
    assert cluster[3].is_running() and cluster[3].status()["log_end_offset"] == 0


# ----------------------------------------------------------------------------------------------------------- observers

def add_observer(cluster, root, node_id=9, **overrides):
    voters = next(iter(cluster)).properties["controller.quorum.voters"]
    directory = root / f"observer-{node_id}"
    return interop_node(node_id, directory, {
        "process.roles": "broker", "node.id": node_id, "listeners": f"CONTROLLER://localhost:{free_port()}",
        "controller.listener.names": "CONTROLLER", "controller.quorum.voters": voters, "log.dirs": str(directory / "data"),
    }, overrides)


def test_observer_follows_and_never_votes(interop, scratch):
    cluster = interop(3)
    observer = add_observer(cluster, scratch)
    try:
        observer.start().wait_ready()
        leader = cluster.leader()
        for n in range(20):
            assert produce(leader, raw.batch(f"v-{n}".encode())).error == raw.NONE
        wait_for("the observer to hold the log", lambda: observer.status()["flushed_offset"] >= 21)
        status = leader.status()
        assert [o["node_id"] for o in status["observers"]] == [9] and len(status["voters"]) == 3
        assert observer.status()["role"] == "observer"
        epoch = cluster.epoch()
        leader.kill()
        wait_for("the observer to follow the next leader", lambda: (s := observer.status_now()) and s["epoch"] > epoch and s["leader_id"])
        # Alone it does not stand: no majority of voters is left.
        for node in cluster.nodes.values():
            node.end()
        epoch = observer.status()["epoch"]
        time.sleep(3)
        assert observer.status()["epoch"] == epoch and "standing" not in observer.stderr()
        answer = standing(observer.port, PATIENCE_S)
        assert answer.error != raw.NONE
    finally:
        observer.end()


def test_observer_follows_kafkas_leader(mixed, scratch):
    cluster = mixed("j")
    observer = add_observer(cluster, scratch)
    try:
        observer.start().wait_ready()
        wait_for("the observer to hold Kafka's records", lambda: observer.status()["flushed_offset"] > 100, JAVA_PATIENCE_S)
        assert (observer.status()["role"], observer.status()["leader_id"]) == ("observer", 1)
        cluster[1].stop(), observer.stop()
        check_logs_equal([cluster[1], observer], min(log_end(cluster[1]), log_end(observer)))
    finally:
        observer.end()


def test_observer_is_asked_for(clusters, scratch):
    cluster = clusters(1, start=False)
    node = cluster[1]
    node.properties["broker.id"] = 7
    node.write_config()
    node.start()
    assert node.wait_exit() == 1
    assert re.search(r"not among the voters .*process\.roles=broker", node.stderr()), node.stderr()


# ----------------------------------------------------------------------------------------------- peers that do not belong

def test_voters_of_other_clusters_and_versions(interop):
    node = interop()[1]
    before = {key: node.status()[key] for key in ("role", "epoch", "leader_id", "log_end_offset")}
    promised = (node.partition_dir / "quorum-state").read_bytes()
    epoch = before["epoch"]
    with raw.Connection(node.port) as connection:
        for _ in range(5):
            answer = Standing(connection.call(replica_fetch(0, epoch, 0, cluster_id="another", replica_id=2)))
            assert answer.top_error == raw.INCONSISTENT_CLUSTER_ID
        answer = Standing(connection.call(replica_fetch(0, epoch, 0, topic_id="AAAAAAAAAAAAAAAAAAAAAQ", replica_id=2)))
        assert answer.top_error == raw.INVALID_REQUEST
        assert connection.vote(epoch + 5, 1, 0, 0).top_error == raw.INVALID_REQUEST, "of another topic"
        for voter, error in ((2, VOTER_NOT_FOUND), (1, VOTER_NOT_FOUND)):
            assert update_raft_voter(connection, epoch, voter) == error
        answer = raw.QuorumAnswer(connection.call(raw.begin_quorum_epoch(9, epoch + 5, topic=JAVA_TOPIC)))
        assert answer.error == raw.INVALID_REQUEST, "9 is not a voter, and leads nobody here"
        assert update_raft_voter(connection, epoch, 2, cluster_id="another") == raw.INCONSISTENT_CLUSTER_ID
        assert update_raft_voter(connection, epoch, 2, versions=(1, 2)) == raw.INVALID_REQUEST
    for api_key, version in ((raw.VOTE, 3), (raw.FETCH, 19), (raw.BEGIN_QUORUM_EPOCH, 2), (raw.END_QUORUM_EPOCH, 2)):
        with raw.Connection(node.port) as connection:
            connection.send(raw.request(api_key, version, b"\0" * 8, flexible=True))
            assert connection.was_closed()
    assert {key: node.status()[key] for key in before} == before
    assert (node.partition_dir / "quorum-state").read_bytes() == promised
    # In the order in which it says them: the last one comes after all that were to be suppressed.
    for line in (r"Vote request of version 3: only 0 to 2", r"Fetch request of version 19: only 4 to 18"):
        node.wait_line(line)
    check_told_seldom(node, "another cluster")


def update_raft_voter(connection, epoch, voter, cluster_id=CLUSTER_ID, versions=(0, 1)):
    body = raw.compact_string(cluster_id) + struct.pack(">ii", epoch, voter) + raw.NO_UUID
    body += raw.compact_count(1) + raw.compact_string("CONTROLLER") + raw.compact_string("localhost") + struct.pack(">H", 1) + raw.NO_TAGS
    body += struct.pack(">hh", *versions) + raw.NO_TAGS + raw.NO_TAGS
    reader = connection.call(raw.request(82, 0, body, flexible=True))
    reader.skip_tags(), reader.number("i")
    return reader.number("h")


def test_directory_id_of_another_voter_is_an_invalid_voter_key(interop):
    cluster = interop(3)
    leader = cluster.leader()
    follower = cluster.followers()[0]
    with raw.Connection(follower.port) as connection:
        answer = connection.vote(leader.status()["epoch"], leader.node_id, 0, 0, voter_id=follower.node_id,
                                 voter_directory=b"another director", topic=JAVA_TOPIC)
        assert answer.error == raw.INVALID_VOTER_KEY and not answer.granted


def test_kafkas_voter_of_another_cluster_changes_nothing(mixed):
    cluster = mixed("jrr", start=False, overrides={"kraft.cluster.id": "Z29sZGVuLWthZmthLTQzMA"})
    for node in cluster:
        node.start()
    for node in cluster.ours:
        node.wait_ready()
    line = "refused a request of a voter of another cluster: here kraft.cluster.id is Z29sZGVuLWthZmthLTQzMA"
    wait_for("the line", lambda: any(line in node.stderr() for node in cluster.ours), JAVA_PATIENCE_S)
    before = settled_promises(cluster.ours)
    time.sleep(5)
    check_moved_by_themselves(cluster.ours, before)
    for node in cluster.ours:
        check_told_seldom(node, line)
    assert cluster.leader() in cluster.ours and cluster[1].is_running()


# ----------------------------------------------------------------------------------------------------------- the tools

def test_tools_while_a_java_node_leads(mixed):
    """It takes no clients: no tool is sent to it as to a broker, and what only the leader knows it does not tell."""
    cluster = mixed("jrr", timeouts=STEADY)
    Moves(cluster).make_lead(cluster.javas[0])
    brokers = ",".join(f"localhost:{node.port}" for node in cluster.ours)

    def tool(name, *arguments):
        return kafka_tools.tool(name, *arguments, "--bootstrap-server", brokers, env=QUICK_JVM)

    def are_ours(nodes):
        # A follower has spoken to its leader, and may not have heard yet which of the other voters take clients.
        return nodes and {int(node) for node in nodes} <= {node.node_id for node in cluster.ours}
    listed = tool("kafka-cluster", "list-endpoints").check().out
    assert are_ours(re.findall(r"^(\d+)\s", listed, re.M)), listed
    directories = tool("kafka-log-dirs", "--describe").check().out
    assert are_ours(re.findall(r'"broker":(\d+)', directories)), directories
    assert CLUSTER_ID in tool("kafka-cluster", "cluster-id").check().out
    described = tool("kafka-topics", "--describe").check().out
    assert "Leader: none" in described, described
    # DescribeQuorum goes to the leader; Kafka's controllers answer it, its TestRaftServer does not.
    quorum = kafka_tools.run("bin/kafka-metadata-quorum.sh", "--bootstrap-server", brokers, "describe", "--status", env=QUICK_JVM)
    assert (quorum.code, "UnknownServerException" in quorum.err + quorum.out) == (1, True), quorum.out + quorum.err
    assert {node.status()["leader_id"] for node in cluster.ours} == {cluster.javas[0].node_id}
