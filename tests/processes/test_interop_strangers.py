"""Peers that do not belong: leaders that send what no voter may store, and Kafka's voters of another quorum."""

import re
import shutil
import struct
import time

import pytest

import kafka_tools
import raw
from cluster import CLUSTER_ID, free_port, wait_for
from java_voter import JAVA_PATIENCE_S, JAVA_TOPIC, JAVA_TOPIC_ID, JavaVoter, MixedCluster, batches_on_disk, directory_id_of
from promises import check_moved_by_themselves, check_told_seldom, settled_promises
from scripted_leader import ScriptedLeader, stamped

EPOCH = 5
# What goes on for so long would have come around several times.
QUIET_S = 5


@pytest.fixture
def mixed(clusters):
    """mixed("jrr") makes a cluster of one Java voter and two of ours, and starts ours."""
    def make(kinds):
        cluster = MixedCluster(clusters.root / "mixed", kinds)
        clusters.made.append(cluster)
        for node in cluster.ours:
            node.start()
        for node in cluster.ours:
            node.wait_ready()
        return cluster
    return make


# A control record as a leader of a quorum with kraft.version 1 appends it: type 5, version 0, kraft.version 1, no tags.
KRAFT_VERSION_1 = raw.record(0, struct.pack(">hhb", 0, 1, 0), key=struct.pack(">hh", 0, 5))


NOT_FOR_KAFKA = (r"stopping before the batch at offset 2 that node 2 sent is stored, because it would stop Kafka's voters: .*{}"
                 r".*kraft\.data\.mode=interop")


def follow_until_it_stops(node, batches):
    """It follows a leader that has these batches, by offset, and ends because of them."""
    # A voter whose log was empty asks all others before it follows: this one has led alone, and holds that epoch's begin.
    node.start().wait_ready()
    node.stop()
    leader_port, nobody = free_port(), free_port()
    node.properties["controller.quorum.voters"] = f"1@localhost:{node.port},2@localhost:{leader_port},3@localhost:{nobody}"
    # The scripted leader tells it once: whoever gives that one up does not find it again.
    node.properties["controller.quorum.fetch.timeout.ms"] = "30000"
    node.write_config()
    with ScriptedLeader(leader_port, 2, EPOCH, JAVA_TOPIC_ID, batches) as leader:
        node.start()
        wait_for("the node to listen", lambda: node.http_now("/live"))
        assert leader.lead(node.port, JAVA_TOPIC).error == raw.NONE
        assert node.wait_exit() == 1


@pytest.mark.parametrize("bad, line", [
    (raw.batch(b"v", records=raw.record(0, b"v", key=b"k")), NOT_FOR_KAFKA.format("has a key")),
    (raw.batch(b"one", b"two", records=raw.record(0, b"one") + raw.record(1, b"two", timestamp_delta=7)),
     NOT_FOR_KAFKA.format("a timestamp of its own")),
    (raw.batch(b"", attributes=0x20, records=KRAFT_VERSION_1),
     r"stopping before a batch that node 2 sent is stored: the batch at offset 2 says that the quorum has kraft\.version 1"),
], ids=["key", "timestamp", "kraft-version"])
def test_batch_that_no_voter_may_store_stops_this_node_first(clusters, bad, line):
    """Whoever leads: what stands before it is kept, it is not stored, and the node says what to do."""
    cluster = MixedCluster(clusters.root / "solo", "r")
    clusters.made.append(cluster)
    node = cluster[1]
    follow_until_it_stops(node, {1: stamped(raw.batch(b"good"), 1, EPOCH), 2: stamped(bad, 2, EPOCH)})
    assert re.search(line, node.stderr()), node.stderr()[-3000:]
    leader_change, *others = batches_on_disk(node.partition_dir)
    assert (leader_change.base, [batch.values() for batch in others]) == (0, [[(1, b"good")]])


def test_native_node_stops_at_the_first_leader_that_is_one_of_kafkas(clusters):
    """It would follow without a word, and stop Kafka's voters once it is elected."""
    cluster = MixedCluster(clusters.root / "native", "r", overrides={"kraft.data.mode": "native"})
    clusters.made.append(cluster)
    node = cluster[1]
    follow_until_it_stops(node, {1: stamped(raw.batch(b"good"), 1, EPOCH)})
    line = r"stopping before anything that node 2 sent is stored: .*one of Kafka's own voters.*kraft\.data\.mode=interop"
    assert re.search(line, node.stderr()), node.stderr()[-3000:]
    assert len(list(batches_on_disk(node.partition_dir))) == 1, "its own leader change, and nothing of that leader's"


def test_voter_of_another_voter_set_may_follow_and_moves_nothing(mixed):
    cluster = mixed("rrr")
    before = settled_promises(cluster)
    # Kafka's own node 4 counts itself among the voters, and our third not.
    port, directory = free_port(), cluster.root / "node-4"
    java = JavaVoter(4, directory, {
        "process.roles": "controller", "node.id": 4, "listeners": f"CONTROLLER://localhost:{port}", "log.dirs": str(directory / "data"),
        "controller.listener.names": "CONTROLLER",
        "controller.quorum.voters": f"1@localhost:{cluster[1].port},2@localhost:{cluster[2].port},4@localhost:{port}",
    })
    cluster.nodes[4] = java
    java.start().wait_ready()
    # Every two seconds it tries again: what the first attempt does not move the third may.
    refused = "Unexpected error VOTER_NOT_FOUND in UPDATE_RAFT_VOTER"
    wait_for("Kafka's error, three times", lambda: java.stderr().count(refused) >= 3, JAVA_PATIENCE_S)
    line = "node 4 takes itself for a voter, and is none here"
    wait_for("the line", lambda: any(line in node.stderr() for node in cluster.ours))
    for node in cluster.ours:
        check_told_seldom(node, line)
    check_moved_by_themselves(cluster.ours, before)
    # It stands when it hears from nobody. Ours are asked for their votes as they wake, when they have no leader either.
    for node in cluster.ours:
        node.pause()
    wait_for("it to stand", lambda: re.search("Completed transition to (Prospective|Candidate)State", java.stderr()), JAVA_PATIENCE_S)
    time.sleep(1)
    for node in cluster.ours:
        node.resume()
    refusal = r"rejected (pre-)?vote for 4 in epoch \d+: it is not a voter"
    wait_for("its vote to be refused", lambda: any(re.search(refusal, node.stderr()) for node in cluster.ours), JAVA_PATIENCE_S)
    time.sleep(QUIET_S)
    ids = {node.node_id for node in cluster.ours}
    wait_for("one leader among ours", lambda: len(told := {node.status()["leader_id"] for node in cluster.ours}) == 1 and told <= ids)
    assert not any(re.search("granted (pre-)?vote to 4 ", node.stderr()) for node in cluster.ours)
    check_moved_by_themselves(cluster.ours, before)


def test_voter_with_another_directory_id_is_the_same_voter(mixed):
    """As under Kafka's own kraft.version 0: the voters of a configuration are known by their ids alone."""
    cluster = mixed("jrr")
    java = cluster[1]
    java.start().wait_ready()
    leader = cluster.leader()
    assert leader in cluster.ours
    follows = lambda: (status := leader.status_now()) and any(
        voter["node_id"] == 1 and voter["lag"] == 0 and voter["last_fetch_ms_ago"] < 1000 for voter in status["voters"])
    wait_for("it to follow", follows, JAVA_PATIENCE_S)
    before = settled_promises(cluster.ours)
    java.stop()
    java.directory_id = directory_id_of(77)
    java.start().wait_ready()
    with raw.Connection(leader.port) as connection:
        assert connection.produce(raw.batch(b"v"), topic=JAVA_TOPIC).error == raw.NONE
    wait_for("it to follow again", follows, JAVA_PATIENCE_S)
    check_moved_by_themselves(cluster.ours, before)
    assert java.faults() == []


def format_with_voters(java, directory):
    """kafka-storage.sh format --standalone: kraft.version 1, and this node the only voter of its own log."""
    config = directory / "format.properties"
    config.write_text(f"process.roles=controller\nnode.id={java.node_id}\nlisteners={java.properties['listeners']}\n"
                      f"controller.listener.names=CONTROLLER\nlog.dirs={directory / 'formatted'}\n"
                      f"controller.quorum.bootstrap.servers=localhost:{java.port}\n")
    kafka_tools.run("bin/kafka-run-class.sh", "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", config, "--standalone").check()
    shutil.copytree(directory / "formatted" / "__cluster_metadata-0", java.partition_dir)
    java.directory_id = re.search(r"directory\.id=(\S+)", (directory / "formatted" / "meta.properties").read_text())[1]


def test_log_of_a_newer_kraft_version_is_not_followed(mixed, scratch):
    """A voter of ours that was formatted anew with kraft.version 1 leads a quorum of its own, in a later epoch."""
    cluster = mixed("jrr")
    java, ours = cluster[1], cluster.ours
    epoch = cluster.leader().status()["epoch"]
    format_with_voters(java, scratch)
    for _ in range(epoch + 2):
        java.start()
        leads = lambda: not java.is_running() or (status := java.status_now()) and status["role"] == "leader"
        wait_for("it to lead its own quorum", leads, JAVA_PATIENCE_S)
        if java.is_running():
            java.stop()
    java.start()
    time.sleep(2 * QUIET_S)
    leader = cluster.leader()
    assert leader in ours and all(node.is_running() for node in ours)
    with raw.Connection(leader.port) as connection:
        assert connection.produce(raw.batch(b"v"), topic=JAVA_TOPIC).error == raw.NONE
    for node in ours:
        controls = [batch for batch in batches_on_disk(node.partition_dir) if batch.attributes & 0x20]
        assert all(batch.count == 1 for batch in controls), "kraft.version and voters came into the log"
    for node in ours:
        check_told_seldom(node, "closing the connections to node 1")
