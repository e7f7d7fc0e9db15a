"""Kafka's tools that ask instead of produce or consume."""

import json
import re

import pytest

import kafka_tools
from cluster import CLUSTER_ID, TOPIC


def test_metadata_quorum_status(quorum):
    out = kafka_tools.tool("kafka-metadata-quorum", "--bootstrap-server", quorum.bootstrap, "describe", "--status").check().out
    leader = quorum.leader()
    assert re.search(rf"ClusterId:\s+{CLUSTER_ID}", out), out
    assert re.search(rf"LeaderId:\s+{leader.node_id}\b", out), out
    assert re.search(rf"LeaderEpoch:\s+{leader.status()['epoch']}\b", out), out
    assert re.search(r"HighWatermark:\s+\d+", out), out


def test_metadata_quorum_replication(quorum):
    out = kafka_tools.tool("kafka-metadata-quorum", "--bootstrap-controller", f"localhost:{quorum.followers()[0].port}",
                           "describe", "--replication").check().out
    rows = [line.split() for line in out.splitlines()[1:] if line.strip()]
    assert sorted(int(row[0]) for row in rows) == [1, 2, 3], out
    assert sorted(row[-1] for row in rows) == ["Follower", "Follower", "Leader"], out


def test_get_offsets(quorum):
    # Without a record no time leads anywhere, and the tool prints nothing.
    kafka_tools.produce_verified(quorum.bootstrap, 5)
    for time_argument in ([], ["--time", "-1"], ["--time", "-2"], ["--time", "-3"]):
        out = kafka_tools.tool("kafka-get-offsets", "--bootstrap-server", quorum.bootstrap,
                               "--topic-partitions", f"{TOPIC}:0", *time_argument).check().out
        offset = int(re.search(rf"^{TOPIC}:0:(-?\d+)$", out, re.M)[1])
        if time_argument[1:] == ["-2"]:
            assert offset == 0
        else:
            assert offset <= quorum.leader().status()["high_watermark"]


def test_topics_list_and_describe(quorum):
    listing = kafka_tools.tool("kafka-topics", "--bootstrap-server", quorum.bootstrap, "--list").check().out
    assert TOPIC in listing.split()
    out = kafka_tools.tool("kafka-topics", "--bootstrap-server", quorum.bootstrap, "--describe", "--topic", TOPIC).check().out
    assert "PartitionCount: 1" in out and "ReplicationFactor: 3" in out, out
    assert re.search(rf"Leader: {quorum.leader().node_id}\b", out), out


def test_broker_api_versions_shows_only_what_is_answered(quorum):
    out = kafka_tools.tool("kafka-broker-api-versions", "--bootstrap-server", quorum.bootstrap).check().out
    assert re.search(r"Produce\(0\): 0 to 13", out), out
    assert re.search(r"Fetch\(1\): 4 to 1[78]", out), out
    for absent in ("AddRaftVoter(80)", "GetTelemetrySubscriptions(71)"):
        line = next((line for line in out.splitlines() if absent in line), "")
        assert line == "" or "UNSUPPORTED" in line, line


def test_configs_describe(quorum):
    out = kafka_tools.tool("kafka-configs", "--bootstrap-server", quorum.bootstrap, "--describe", "--entity-type", "topics",
                           "--entity-name", TOPIC).check().out
    assert TOPIC in out, out


def test_cluster_id(quorum):
    out = kafka_tools.tool("kafka-cluster", "cluster-id", "--bootstrap-server", quorum.bootstrap).check().out
    assert CLUSTER_ID in out


def test_log_dirs_gives_path_size_and_lag_of_each_node(quorum):
    quorum.wait_caught_up()
    output = kafka_tools.tool("kafka-log-dirs", "--bootstrap-server", quorum.bootstrap, "--describe", "--topic-list", TOPIC).check()
    brokers = json.loads(next(line for line in output.out.splitlines() if line.startswith("{")))["brokers"]
    assert sorted(broker["broker"] for broker in brokers) == [1, 2, 3]
    for broker in brokers:
        node, [directory] = quorum[broker["broker"]], broker["logDirs"]
        assert (directory["logDir"], directory["error"]) == (str(node.data_dir), None)
        [partition] = directory["partitions"]
        assert (partition["partition"], partition["offsetLag"], partition["isFuture"]) == (f"{TOPIC}-0", 0, False)
        assert 0 < partition["size"] <= node.status()["log_size_bytes"]


@pytest.mark.parametrize("name, said", [
    ("new-topic", f"This server has one topic, '{TOPIC}', and creates no others.*PolicyViolationException"),
    (TOPIC, f"Topic '{TOPIC}' already exists.*TopicExistsException"),
])
def test_a_topic_is_refused_with_the_reason(quorum, name, said):
    output = kafka_tools.tool("kafka-topics", "--bootstrap-server", quorum.bootstrap, "--create", "--topic", name)
    assert output.code == 1
    assert re.search(said, output.out + output.err, re.S), output.out + output.err


def test_e2e_latency_measures_and_then_misses_the_offset_commit(quorum):
    """It writes and reads each record, and commits the offset of its group when all is done and printed."""
    output = kafka_tools.tool("kafka-e2e-latency", "--bootstrap-server", quorum.bootstrap, "--topic", TOPIC,
                              "--num-records", 200, "--producer-acks", "all", "--record-size", 100)
    average = re.search(r"^Avg latency: (\d+\.\d+) ms$", output.out, re.M)
    percentiles = re.search(r"^Percentiles: 50th = (\d+), 99th = (\d+), 99.9th = (\d+)$", output.out, re.M)
    assert average and percentiles, output.out + output.err
    assert 0 < float(average[1]) < 1000
    assert [int(p) for p in percentiles.groups()] == sorted(int(p) for p in percentiles.groups())
    assert (output.code, "commitSync" in output.out + output.err) == (1, True), output.out + output.err


def test_tools_that_need_a_group_fail_with_a_reason(quorum):
    """Groups are not served: kafka-consumer-perf-test must say so, and not hang."""
    output = kafka_tools.tool("kafka-consumer-perf-test", "--bootstrap-server", quorum.bootstrap, "--topic", TOPIC,
                              "--num-records", 10, "--timeout", 5000, timeout_s=60)
    said = output.out + output.err
    assert "UnsupportedVersionException" in said or "does not support" in said, said[-2000:]
