"""What is set for the topic with Kafka's own kafka-configs: kept in the log, the same on every node, and there after any end."""

import re

import pytest

import kafka_tools
import raw
from cluster import TOOLS_DIR, TOPIC, wait_for
from test_disk import dump

LARGE = str(1 << 50)


def configs(node_or_cluster, *arguments, entity=("topics", TOPIC)):
    bootstrap = getattr(node_or_cluster, "bootstrap", None) or f"localhost:{node_or_cluster.port}"
    return kafka_tools.tool("kafka-configs", "--bootstrap-server", bootstrap, "--entity-type", entity[0],
                            "--entity-name", entity[1], *arguments)


def described(node):
    """What the tool shows as set, with its synonyms."""
    out = configs(node, "--describe").check().out
    return {key: (value, synonyms) for key, value, synonyms in
            re.findall(r"^  (\S+?)=(\S*) sensitive=false synonyms=\{(.*)\}$", out, re.M)}


def values(node):
    return {key: value for key, (value, _) in described(node).items()}


def test_what_is_set_is_the_same_everywhere_and_survives_everything(clusters):
    cluster = clusters(3, overrides={"controller.quorum.election.timeout.ms": 500})
    leader = cluster.leader()
    assert values(leader) == {}
    # At the leader, and at a node that asks the leader.
    configs(leader, "--alter", "--add-config", f"retention.bytes={LARGE},retention.ms=604800000").check()
    wanted = {"retention.bytes": LARGE, "retention.ms": "604800000"}
    cluster.wait_caught_up()
    wait_for("all nodes to know it", lambda: all(values(node) == wanted for node in cluster), every_s=1)
    value, synonyms = described(leader)["retention.ms"]
    assert synonyms.startswith("DYNAMIC_TOPIC_CONFIG:retention.ms=604800000, DEFAULT_CONFIG:log.retention.ms=-1"), synonyms
    leader.wait_line("set for .*retention.bytes=.*deletes no records yet")
    follower = cluster.followers()[0]
    configs(follower, "--alter", "--delete-config", "retention.ms").check()
    wanted = {"retention.bytes": LARGE}
    wait_for("all nodes to know it", lambda: all(values(node) == wanted for node in cluster), every_s=1)
    # kill -9 of the leader, then of all.
    leader.kill()
    assert values(cluster.leader()) == wanted
    leader.start()
    cluster.wait_ready()
    for node in cluster:
        node.kill()
    for node in cluster:
        node.start()
    cluster.wait_ready()
    wait_for("all nodes to know it again", lambda: all(values(node) == wanted for node in cluster), every_s=1)


def test_records_before_and_behind_are_read_and_the_dumps_show_what_was_set(clusters):
    cluster = clusters(1)
    node = cluster.leader()
    with raw.Connection(node.port) as connection:
        first = connection.produce(raw.batch(b"before")).offset
        assert connection.alter_configs(retention_bytes=LARGE) == (raw.NONE, None)
        assert connection.produce(raw.batch(b"behind")).offset == first + 2
    out = kafka_tools.tool("kafka-console-consumer", "--bootstrap-server", cluster.bootstrap, "--topic", TOPIC, "--partition", "0",
                           "--offset", "0", "--max-messages", "2", "--timeout-ms", "20000").check().out
    assert out.split() == ["before", "behind"]
    [segment] = node.segments()
    shown = dump(segment).check().out
    assert re.search(r"controlType: UNKNOWN\(19282\)", shown), shown
    ours = kafka_tools.run(TOOLS_DIR / "kraft-dump-log", "--deep-iteration", segment).check().out
    assert f'Configs {{"version":0,"configs":[{{"name":"retention.bytes","value":"{LARGE}"}}]}}' in ours, ours


@pytest.mark.parametrize("entity, change, said", [
    (("topics", TOPIC), "segment.bytes=1000000", "InvalidConfigurationException.*this server takes retention.bytes and retention.ms"),
    (("topics", TOPIC), "retention.ms=soon", "InvalidConfigurationException.*Not a number of type LONG"),
    (("topics", TOPIC), "retention.ms=-2", "InvalidConfigurationException.*Value must be at least -1"),
    (("topics", TOPIC), "retention.bytes=0", "InvalidConfigurationException.*above 0"),
    (("topics", "other"), "retention.ms=1", "UnknownTopicOrPartitionException|does not exist"),
    (("brokers", "1"), "log.retention.ms=1", "InvalidRequestException.*Cannot update these configs dynamically"),
])
def test_what_cannot_be_set_is_refused_with_the_reason(quorum, entity, change, said):
    output = configs(quorum, "--alter", "--add-config", change, entity=entity)
    assert output.code == 1
    assert re.search(said, output.out + output.err, re.S), output.out + output.err


def test_beside_kafkas_voters_nothing_can_be_set(clusters):
    cluster = clusters(1, overrides={"kraft.data.mode": "interop"})
    output = configs(cluster, "--alter", "--add-config", "retention.ms=1000")
    assert output.code == 1
    assert re.search("PolicyViolationException.*kraft.data.mode=interop", output.out + output.err, re.S), output.err
    assert values(cluster.leader()) == {}
