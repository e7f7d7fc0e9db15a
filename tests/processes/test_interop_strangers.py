"""Peers that do not belong: leaders that send what no voter may store, and Kafka's voters of another quorum."""

import re

import pytest

import raw
from cluster import free_port, wait_for
from java_voter import JAVA_TOPIC, JAVA_TOPIC_ID, MixedCluster, batches_on_disk
from scripted_leader import ScriptedLeader, stamped

EPOCH = 5


@pytest.mark.parametrize("bad, why", [
    (raw.batch(b"v", records=raw.record(0, b"v", key=b"k")), "has a key"),
    (raw.batch(b"one", b"two", records=raw.record(0, b"one") + raw.record(1, b"two", timestamp_delta=7)), "a timestamp of its own"),
], ids=["key", "timestamp"])
def test_batch_that_stops_kafkas_voters_stops_this_node_first(clusters, bad, why):
    """Whoever leads: what stands before it is kept, it is not stored, and the node says what to do."""
    cluster = MixedCluster(clusters.root / "solo", "r")
    clusters.made.append(cluster)
    node = cluster[1]
    # A voter whose log was empty asks all others before it follows: this one has led alone, and holds that epoch's begin.
    node.start().wait_ready()
    node.stop()
    leader_port, nobody = free_port(), free_port()
    node.properties["controller.quorum.voters"] = f"1@localhost:{node.port},2@localhost:{leader_port},3@localhost:{nobody}"
    node.write_config()
    batches = {1: stamped(raw.batch(b"good"), 1, EPOCH), 2: stamped(bad, 2, EPOCH)}
    with ScriptedLeader(leader_port, 2, EPOCH, JAVA_TOPIC_ID, batches) as leader:
        node.start()
        wait_for("the node to listen", lambda: node.http("/live"))
        assert leader.lead(node.port, JAVA_TOPIC).error == raw.NONE
        assert node.wait_exit() == 1
    line = (rf"stopping before the batch at offset 2 that node 2 sent is stored, because it would stop Kafka's voters: .*{why}"
            r".*kraft\.data\.mode=interop")
    assert re.search(line, node.stderr()), node.stderr()[-3000:]
    leader_change, *others = batches_on_disk(node.partition_dir)
    assert (leader_change.base, [batch.values() for batch in others]) == (0, [[(1, b"good")]])
