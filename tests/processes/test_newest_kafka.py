"""The tools of the newest Kafka that there is, beside those of pom.xml, which all other tests run."""

import os
import re

import pytest

import kafka_tools
from cluster import TOPIC
from java_voter import NEWEST_KAFKA
from test_interop import libs_or_skip


@pytest.fixture(scope="module")
def newest():
    """The environment in which bin/ runs them."""
    libs_or_skip(NEWEST_KAFKA)
    return {**os.environ, "KAFKA_TOOLS_VERSION": NEWEST_KAFKA}


@pytest.fixture(scope="module")
def tool(newest):
    return lambda name, *arguments: kafka_tools.tool(name, *arguments, env=newest)


def test_it_is_that_version(tool):
    assert tool("kafka-topics", "--version").check().out.startswith(NEWEST_KAFKA)


def test_producers_and_consumers(quorum, tool):
    verified = kafka_tools.Verified.parse(tool("kafka-verifiable-producer", "--bootstrap-server", quorum.bootstrap, "--topic", TOPIC,
                                               "--max-messages", 200, "--throughput", -1).check().out)
    assert (verified.sent, verified.acked_count, verified.failed) == (200, 200, [])
    out = tool("kafka-producer-perf-test", "--topic", TOPIC, "--num-records", 1000, "--record-size", 100, "--throughput", -1,
               "--bootstrap-server", quorum.bootstrap).check().out
    assert re.search(r"^1000 records sent", out, re.M), out
    read = tool("kafka-console-consumer", "--bootstrap-server", quorum.bootstrap, "--topic", TOPIC, "--partition", 0,
                "--offset", min(verified.acked.values()), "--max-messages", 200, "--timeout-ms", 20000)
    assert set(verified.acked) <= set(read.check().out.split()), read.out[-2000:]


def test_what_is_asked_about_the_quorum_and_the_log(quorum, tool):
    leader = quorum.leader()
    out = tool("kafka-metadata-quorum", "--bootstrap-server", quorum.bootstrap, "describe", "--status").check().out
    assert re.search(rf"LeaderId:\s+{leader.node_id}\b", out), out
    out = tool("kafka-metadata-quorum", "--bootstrap-controller", f"localhost:{leader.port}", "describe", "--replication").check().out
    assert out.count("Follower") == 2, out
    out = tool("kafka-topics", "--bootstrap-server", quorum.bootstrap, "--describe", "--topic", TOPIC).check().out
    assert "ReplicationFactor: 3" in out, out
    out = tool("kafka-get-offsets", "--bootstrap-server", quorum.bootstrap, "--topic-partitions", f"{TOPIC}:0").check().out
    assert re.search(rf"^{TOPIC}:0:\d+$", out, re.M), out
    tool("kafka-configs", "--bootstrap-server", quorum.bootstrap, "--describe", "--entity-type", "topics", "--entity-name", TOPIC).check()
    tool("kafka-log-dirs", "--bootstrap-server", quorum.bootstrap, "--describe").check()
    tool("kafka-cluster", "cluster-id", "--bootstrap-server", quorum.bootstrap).check()
    assert "Produce(0)" in tool("kafka-broker-api-versions", "--bootstrap-server", quorum.bootstrap).check().out


def test_files_are_read(clusters, tool):
    cluster = clusters(1)
    verified = kafka_tools.produce_verified(cluster.bootstrap, 50)
    assert cluster[1].stop() == 0
    out = tool("kafka-dump-log", "--files", cluster[1].segments()[0], "--deep-iteration", "--print-data-log").check().out
    assert out.count("payload: ") == len(verified.acked), out[-2000:]
