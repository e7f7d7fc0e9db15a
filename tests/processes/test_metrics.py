"""The metrics as monitoring systems read them: dashboards of others, our own, alert rules."""

import json
import math
import re
from pathlib import Path

import pytest

import kafka_tools
import prometheus
from cluster import REPOSITORY, TOPIC, wait_for

HERE = Path(__file__).parent
DASHBOARDS = json.loads((HERE / "dashboards.json").read_text())
ALERTS = REPOSITORY / "config" / "kraft-alerts.yml"
GRAFANA = REPOSITORY / "config" / "kraft-dashboard.json"
# Panels need two scrapes of a rate, and an interval of the latencies is five seconds.
SCRAPED_S = 90


@pytest.fixture(scope="module")
def watched(shared_quorum, tmp_path_factory):
    """A quorum that has done something, and a Prometheus that has seen it."""
    kafka_tools.tool("kafka-producer-perf-test", "--topic", TOPIC, "--num-records", 2000, "--throughput", -1,
                     "--record-size", 100, "--bootstrap-server", shared_quorum.bootstrap).check()
    jobs = {"kraft": [(f"127.0.0.1:{node.http_port}", {}) for node in shared_quorum]}
    for name, dashboard in DASHBOARDS.items():
        label, labels = dashboard["node_label"], dict(dashboard["labels"])
        job = labels.pop("job", name)
        own = {} if label == "instance" else None
        jobs[job] = [(f"127.0.0.1:{node.http_port}", labels | (own if own is not None else {label: f"quorum-{node.node_id}"}))
                     for node in shared_quorum]
    with prometheus.Prometheus(tmp_path_factory.mktemp("prometheus"), jobs, [ALERTS]) as server:
        every = 3 * len(jobs)
        wait_for("all nodes to be scraped twice",
                 lambda: len(server.query("count_over_time(up[5m]) >= 3 and up == 1")) == every, SCRAPED_S, 0.5)
        yield shared_quorum, server


def is_answered(server, expression, expected, cluster):
    answer = server.query(expression)
    values = [value for _, value in answer]
    size = len(list(cluster))
    return {
        "one for each node": lambda: len(values) == size,
        "alike and not negative": lambda: len(values) == size and len(set(values)) == 1 and values[0] >= 0,
        "positive": lambda: len(values) == 1 and values[0] > 0,
        "the leader": lambda: values == [cluster.leader().node_id],
    }.get(expected, lambda: values == [float(expected)])()


def wait_for_each(server, expression, cluster):
    """The values, one for each node: where a scrape has failed there is none until the next one."""
    size = len(list(cluster))
    answer = wait_for(f"{expression} of {size} nodes", lambda: len(a := server.query(expression)) == size and a, SCRAPED_S, 0.5)
    return [value for _, value in answer]


@pytest.mark.parametrize("name", sorted(DASHBOARDS))
def test_the_panels_of_other_dashboards_are_filled(watched, name):
    cluster, server = watched
    for expression, expected in DASHBOARDS[name]["expressions"].items():
        # A scrape may fall between two nodes' news: the answer must come, not at once.
        wait_for(f"{expression} to be {expected}: {server.query(expression)}",
                 lambda: is_answered(server, expression, expected, cluster), SCRAPED_S, 0.5)


def test_all_of_kafkas_raft_metrics_are_there_in_both_dialects(watched):
    cluster, server = watched
    names = ["current_state", "current_leader", "current_vote", "current_vote_directory_id", "current_epoch", "high_watermark",
             "log_end_offset", "log_end_epoch", "number_unknown_voter_connections", "number_of_voters", "number_of_observers",
             "uncommitted_voter_change", "commit_latency_avg", "commit_latency_max", "election_latency_avg",
             "election_latency_max", "fetch_records_rate", "append_records_rate", "poll_idle_ratio_avg"]
    assert len(names) == 19
    for prefix in ("kafka_server_raftmetrics_", "kafka_server_raft_metrics_"):
        for name in names:
            wait_for_each(server, f'{prefix}{name}{{job="kraft"}}', cluster)


def test_our_own_metrics_say_what_happened(watched):
    cluster, server = watched
    value = lambda expression: sum(value for _, value in server.query(expression))
    for expression, what in (('sum(kraft_campaigns_total{job="kraft"})', "somebody stood"),
                             ('sum(kraft_device_flush_seconds_count{job="kraft"})', "flushes"),
                             ('sum(kraft_peer_round_trip_seconds_count{job="kraft"})', "round trips"),
                             ('max(kraft_disk_free_bytes{job="kraft"})', "room")):
        wait_for(what, lambda: value(expression) > 0, SCRAPED_S, 0.5)
    flush = 'histogram_quantile(0.5, sum by (le) (kraft_device_flush_seconds_bucket{job="kraft"}))'
    wait_for("flushes of less than ten seconds", lambda: 0 < value(flush) < 10, SCRAPED_S, 0.5)
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_virtual_memory_bytes",
                 "process_open_fds", "process_max_fds", "process_start_time_seconds"):
        assert all(v > 0 for v in wait_for_each(server, f'{name}{{job="kraft"}}', cluster)), name


def test_each_panel_of_our_dashboard_can_be_filled(watched):
    _, server = watched
    panels = [panel for panel in json.loads(GRAFANA.read_text())["panels"] if panel.get("targets")]
    assert len(panels) >= 12
    for panel in panels:
        for target in panel["targets"]:
            expression = target["expr"].replace("$job", "kraft").replace("$__rate_interval", "1m")
            wait_for(f"{panel['title']}: {expression}", lambda: server.query(expression), SCRAPED_S, 0.5)


def test_the_alert_rules_hold_and_a_healthy_quorum_fires_none(watched):
    _, server = watched
    checked = prometheus.promtool("check", "rules", ALERTS)
    assert checked.returncode == 0, checked.stdout
    tested = prometheus.promtool("test", "rules", HERE / "alerts_test.yml")
    assert tested.returncode == 0, tested.stdout
    rules = wait_for("the rules to be evaluated",
                     lambda: (rules := server.rules()) and all(r["health"] == "ok" for r in rules) and rules, SCRAPED_S, 0.5)
    assert len(rules) >= 15
    tested_names = set(re.findall(r"alertname: (\w+)", (HERE / "alerts_test.yml").read_text()))
    assert tested_names == {rule["name"] for rule in rules}, "each rule has a case in alerts_test.yml"
    firing = [rule["name"] for rule in rules if rule["state"] == "firing"]
    assert not firing, firing


def test_what_is_not_known_is_a_gap_and_not_a_zero(watched):
    _, server = watched
    for _, value in server.query('kafka_server_raft_metrics_commit_latency_avg{job="kraft"}'):
        assert math.isnan(value) or value > 0
