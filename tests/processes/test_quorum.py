"""Elections, failures and returns of whole nodes, by signals."""

import re
import signal
import threading
import time

import pytest
from confluent_kafka import Producer

import kafka_tools
import raw
from cluster import KAFKAS_TIMEOUTS, PATIENCE_S, TOPIC, wait_for


class Load:
    """An idempotent producer in a thread. Every error that it reports to its user is kept; there must be none."""

    def __init__(self, bootstrap):
        self.acked, self.errors = {}, []
        self._producer = Producer({"bootstrap.servers": bootstrap, "enable.idempotence": True, "linger.ms": 1})
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self):
        self._thread.start()
        wait_for("the load to be acknowledged", lambda: len(self.acked) >= 50)
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join(PATIENCE_S)

    def _run(self):
        count = 0
        while not self._ended.is_set():
            self._producer.produce(TOPIC, f"load-{count}".encode(), partition=0, on_delivery=self._on_delivery)
            count += 1
            self._producer.poll(0.002)
        self._producer.flush(PATIENCE_S)

    def _on_delivery(self, error, message):
        if error is not None:
            self.errors.append(str(error))
        else:
            self.acked[message.value().decode()] = message.offset()

    def wait_more(self, count=50, timeout_s=PATIENCE_S):
        target = len(self.acked) + count
        wait_for(f"{count} more acknowledgements", lambda: len(self.acked) >= target, timeout_s)


def check_all_read_back(cluster, acked):
    read = dict(kafka_tools.kcat_read(cluster.bootstrap))
    lost = [(value, offset) for value, offset in acked.items() if read.get(offset) != value]
    assert not lost, f"{len(lost)} of {len(acked)} acknowledged records are not where they were told to be, e.g. {lost[:3]}"


def said_by_others(cluster, node):
    return "".join(other.stderr() for other in cluster if other is not node)


def test_kill_9_of_the_leader_under_load(clusters):
    cluster = clusters(3)
    with Load(cluster.bootstrap) as load:
        old, epoch = cluster.leader(), cluster.epoch()
        old.kill()
        began = time.monotonic()
        load.wait_more()
        print(f"first acknowledgements {time.monotonic() - began:.2f} s after the kill")
        assert cluster.leader() is not old and cluster.epoch() > epoch
        # The dead one's host refuses: nobody waits out the fetch timeout.
        wait_for("one who was refused", lambda: f"nobody listens where {old.node_id} led" in said_by_others(cluster, old))
        old.start().wait_ready()
        load.wait_more()
    assert load.errors == []
    cluster.wait_caught_up()
    check_all_read_back(cluster, load.acked)


def test_sigterm_of_the_leader_hands_over_at_once(clusters):
    cluster = clusters(3)
    old = cluster.leader()
    cluster.wait_caught_up()
    old.signal(signal.SIGTERM)
    wait_for("another leader", lambda: (now := cluster.leader_now()) and now is not old, PATIENCE_S, every_s=0.01)
    assert old.wait_exit() == 0
    # Without the hand-over they would wait for the fetch timeout first.
    wait_for("one who heard that it goes", lambda: f"{old.node_id} resigned: standing in" in said_by_others(cluster, old))
    assert "within the fetch timeout" not in said_by_others(cluster, old)


def test_sigint_stops_in_good_order_too(clusters):
    cluster = clusters(1)
    kafka_tools.produce_verified(cluster.bootstrap, 10)
    cluster[1].signal(signal.SIGINT)
    assert cluster[1].wait_exit() == 0


def test_paused_leader_steps_down_and_its_tail_is_cut(clusters):
    cluster = clusters(3)
    old = cluster.leader()
    cluster.wait_caught_up()
    others = cluster.followers()
    # A tail that only the leader has: it is written while both followers stand still, with acks=1.
    for follower in others:
        follower.pause()
    with raw.Connection(old.port) as connection:
        # The first is the answer to the Fetches that were parked: it waits in the followers' sockets.
        for value in b"in the sockets", b"only on the old leader":
            assert connection.produce(raw.batch(value), acks=1).error == raw.NONE
    old.pause()
    for follower in others:
        follower.resume()
    new = wait_for("a new leader", lambda: next((n for n in others if (s := n.status_now()) and s["role"].lower() == "leader"), None))
    with raw.Connection(new.port) as connection:
        for n in range(3):
            assert connection.produce(raw.batch(f"kept-{n}".encode())).error == raw.NONE
    epoch = new.status()["epoch"]
    old.resume()
    wait_for("the old leader to follow", lambda: (s := old.status_now()) and s["role"].lower() == "follower" and s["epoch"] >= epoch)
    cluster.wait_caught_up()
    read = [value for _, value in kafka_tools.kcat_read(cluster.bootstrap)]
    assert "only on the old leader" not in read
    assert [value for value in read if value.startswith("kept-")] == ["kept-0", "kept-1", "kept-2"]


def test_a_node_that_was_away_catches_up(clusters):
    cluster = clusters(3)
    away = cluster.followers()[0]
    away.kill()
    kafka_tools.tool("kafka-producer-perf-test", "--topic", TOPIC, "--num-records", 50000, "--throughput", -1,
                     "--record-size", 500, "--bootstrap-server", cluster.bootstrap).check()
    away.start().wait_ready()
    cluster.wait_caught_up()
    # What it caught up with is good for a leader: the other two need its vote and its log.
    end = away.status()["log_end_offset"]
    cluster.leader().stop()
    cluster.leader()
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) == 50000
    assert cluster.leader().status()["log_end_offset"] > end


def test_all_nodes_killed_at_once_lose_nothing(clusters):
    cluster = clusters(3)
    with Load(cluster.bootstrap) as load:
        load.wait_more(500)
        for node in cluster:
            node.signal(signal.SIGKILL)
        for node in cluster:
            node.process.wait(PATIENCE_S)
        acked = dict(load.acked)
        cluster.start()
        load.wait_more()
    assert load.errors == []
    cluster.wait_caught_up()
    check_all_read_back(cluster, acked)
    check_all_read_back(cluster, load.acked)


def test_all_nodes_stopped_in_good_order_come_back(clusters):
    cluster = clusters(3)
    verified = kafka_tools.produce_verified(cluster.bootstrap, 200)
    assert [node.stop() for node in cluster] == [0, 0, 0]
    cluster.start()
    check_all_read_back(cluster, verified.acked)


def test_check_quorum(clusters):
    """A leader that hears from nobody stops accepting, and says so in a way that clients retry."""
    cluster = clusters(3)
    leader = cluster.leader()
    cluster.wait_caught_up()
    others = cluster.followers()
    began = time.monotonic()
    for follower in others:
        follower.pause()
    wait_for("the leader to resign", lambda: (s := leader.status_now()) and s["role"].lower() != "leader", PATIENCE_S)
    # 1.5 times the fetch timeout of six seconds after the last fetch, which was just before.
    assert time.monotonic() - began > 5
    with raw.Connection(leader.port) as connection:
        assert connection.produce(raw.batch(b"x"), timeout_ms=1000).error in (raw.NOT_LEADER_OR_FOLLOWER, 8, 5)
    for follower in others:
        follower.resume()
    kafka_tools.produce_verified(cluster.bootstrap, 20)


def test_pre_vote_keeps_a_returning_node_from_deposing_the_leader(clusters):
    cluster = clusters(3)
    leader, follower = cluster.leader(), cluster.followers()[0]
    assert follower.stop() == 0
    # It alone is in a hurry: the others want no election by themselves.
    follower.properties |= KAFKAS_TIMEOUTS
    follower.write_config()
    follower.start().wait_ready()
    cluster.wait_caught_up()
    epoch = cluster.epoch()
    for _ in range(4):
        follower.pause()
        # Longer than its election and fetch timeouts.
        time.sleep(3)
        follower.resume()
        time.sleep(1)
        assert leader.status()["role"].lower() == "leader"
        assert cluster.epoch() == epoch, "a returning node raised the epoch"
    cluster.wait_caught_up()


def test_two_of_three_are_enough_and_one_is_not(clusters):
    # The log's first leader needs all three; who has had one goes on with two.
    cluster = clusters(3)
    for node in cluster:
        node.stop()
    cluster[1].start()
    time.sleep(2.5)
    assert cluster[1].status()["role"].lower() != "leader"
    assert not cluster[1].is_ready()
    cluster[2].start()
    cluster.leader()
    kafka_tools.produce_verified(f"localhost:{cluster[1].port},localhost:{cluster[2].port}", 20)


def test_epochs_only_grow(clusters):
    cluster = clusters(3)
    seen = [cluster.epoch()]
    for _ in range(3):
        cluster.leader().stop()
        cluster.leader()
        seen.append(cluster.epoch())
        next(node for node in cluster if not node.is_running()).start().wait_ready()
    assert seen == sorted(set(seen)), seen


@pytest.mark.parametrize("size", [1, 3, 5])
def test_quorum_sizes(clusters, size):
    cluster = clusters(size)
    verified = kafka_tools.produce_verified(cluster.bootstrap, 50)
    check_all_read_back(cluster, verified.acked)


def test_a_producer_of_kafka_goes_on_through_a_failover(clusters):
    """The Java client, as kafka-producer-perf-test uses it: no error reaches its user."""
    cluster = clusters(3)
    timer = threading.Timer(2.5, lambda: cluster.leader().kill())
    timer.start()
    output = kafka_tools.tool("kafka-producer-perf-test", "--topic", TOPIC, "--num-records", 6000, "--throughput", 1000,
                              "--record-size", 100, "--bootstrap-server", cluster.bootstrap)
    timer.join()
    output.check()
    # An error that reaches the user is printed as a stack trace; the client's own retries are warnings.
    traces = re.findall(r"^(?:org|java)\..*|^\tat .*", output.out + output.err, re.M)
    assert "6000 records sent" in output.out and not traces, output.out + output.err
    assert sum(not node.is_running() for node in cluster) == 1, "the kill came too late to matter"
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) == 6000
