"""What clients may take from a quorum: places, time, memory, the device. No client of these costs anybody an election."""

import collections
import contextlib
import os
import selectors
import socket
import struct
import threading
import time

import pytest

import raw
from cluster import KAFKAS_TIMEOUTS, wait_for

MIB = 1 << 20


class Crowd:
    """Connections that are opened again whenever one is closed, on all nodes, until the end."""

    def __init__(self, nodes, each):
        self._held = {node.port: [] for node in nodes}
        self._each = each
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._hold, args=(port,), daemon=True) for port in self._held]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._over.set()
        for thread in self._threads:
            thread.join()
        for held in self._held.values():
            for connection in held:
                connection.close()

    def _hold(self, port):
        held = self._held[port]
        while not self._over.wait(0.05):
            held[:] = [connection for connection in held if self._is_open(connection)]
            with contextlib.suppress(OSError):
                while len(held) < self._each:
                    held.append(socket.create_connection(("localhost", port), timeout=1))

    @staticmethod
    def _is_open(connection):
        connection.setblocking(False)
        try:
            if connection.recv(1):
                return True
        except BlockingIOError:
            return True
        except OSError:
            pass
        connection.close()
        return False


def test_voters_find_places_while_clients_hold_all(clusters):
    cluster = clusters(3, overrides={"max.connections": 30})
    first = cluster.leader()
    with raw.Connection(first.port) as healthy, Crowd(list(cluster), 60):
        wait_for("all places to be taken", lambda: all((n.status_now() or {}).get("connections", 0) >= 30 for n in cluster))
        assert healthy.produce(raw.batch(b"x")).error == raw.NONE
        first.kill()
        second = cluster.leader()
        assert second is not first
        first.start()
        cluster.wait_caught_up()


@pytest.mark.parametrize("kind", ["pre-votes", "fetches"])
def test_who_only_claims_to_be_a_voter_closes_no_followers_connection(clusters, kind):
    """An idle quorum, where a follower's Fetch is parked and its connection silent for half a second at a time."""
    cluster = clusters(3, overrides=KAFKAS_TIMEOUTS)
    leader, epoch = cluster.leader(), cluster.epoch()
    with raw.Connection(leader.port) as healthy:
        assert healthy.produce(raw.batch(b"x")).error == raw.NONE
        end = healthy.list_offsets(-1)[2]
    cluster.wait_caught_up()
    followers = [node.node_id for node in cluster if node is not leader]
    claims = {"pre-votes": lambda n: raw.vote(epoch, n, epoch, end, voter_id=leader.node_id, pre_vote=True),
              "fetches": lambda n: raw.fetch(end, replica_id=n, max_wait_ms=500)}
    held, claimed, until = collections.deque(), 0, time.monotonic() + 6
    while time.monotonic() < until:
        held.append(socket.create_connection(("localhost", leader.port), timeout=10))
        held[-1].sendall(claims[kind](followers[claimed % 2]))
        claimed += 1
        if len(held) > 100:
            held.popleft().close()
        time.sleep(0.005)
    for connection in held:
        connection.close()
    assert claimed >= 200, "there were many of them"
    assert cluster.leader() is leader and cluster.epoch() == epoch


def test_a_forged_claim_has_nothing_of_a_voters_way_for_a_clients_requests(clusters):
    """What voters ask for waits for nobody."""
    cluster = clusters(3)
    leader = cluster.leader()
    follower = next(node.node_id for node in cluster if node is not leader)
    with raw.Connection(leader.port) as forged:
        forged.send(raw.fetch(0, replica_id=follower, max_wait_ms=0))
        assert forged.receive() is not None
        with pytest.raises(raw.Closed):
            forged.produce(raw.batch(b"before all others"))
    wait_for("a line that says why", lambda: "asks for what clients ask for" in leader.stderr())
    with raw.Connection(leader.port) as healthy:
        assert healthy.produce(raw.batch(b"x")).error == raw.NONE


def test_a_guest_that_is_no_voter_is_closed_and_says_why(clusters):
    cluster = clusters(1, overrides={"max.connections": 2})
    held = [raw.Connection(cluster[1].port) for _ in range(2)]
    assert all(connection.produce(raw.batch(b"x")).error == raw.NONE for connection in held)
    with raw.Connection(cluster[1].port) as guest:
        assert guest.is_alive(), "a voter asks for the versions first"
        with pytest.raises(raw.Closed):
            guest.produce(raw.batch(b"y"))
    wait_for("a line that names the key", lambda: "max.connections" in cluster[1].stderr())
    for connection in held:
        assert connection.produce(raw.batch(b"z")).error == raw.NONE
        connection.socket.close()


def test_half_requests_cost_no_election_and_no_more_memory_than_the_pool(clusters):
    cluster = clusters(3, overrides={"kraft.room.stall.max.ms": 1000, **KAFKAS_TIMEOUTS})
    leader, epoch = cluster.leader(), cluster.epoch()
    before = leader.rss_bytes()
    half = struct.pack(">i", MIB) + bytes(600 << 10)
    held = []
    try:
        for _ in range(400):
            held.append(socket.create_connection(("localhost", leader.port), timeout=10))
            held[-1].setblocking(False)
            with contextlib.suppress(BlockingIOError):
                held[-1].send(half)
        with raw.Connection(leader.port, timeout_s=60) as healthy:
            # Large enough to need memory itself: it gets it when the halves are given up.
            for _ in range(3):
                assert healthy.produce(raw.batch(os.urandom(300 << 10))).error == raw.NONE
        grown = leader.rss_bytes() - before
        assert grown < 200 * MIB, f"{grown >> 20} MiB for half requests"
        assert cluster.leader() is leader and cluster.epoch() == epoch
    finally:
        for connection in held:
            connection.close()
    wait_for("the memory to be given back", lambda: leader.rss_bytes() - before < 64 * MIB)


def test_cold_readers_that_take_nothing_hold_no_more_than_their_total(clusters):
    cluster = clusters(3, overrides={"kraft.room.stall.max.ms": 1000, **KAFKAS_TIMEOUTS})
    leader, epoch = cluster.leader(), cluster.epoch()
    with raw.Connection(leader.port) as writer:
        for _ in range(64):
            assert writer.produce(raw.batch(os.urandom(700 << 10))).error == raw.NONE
    before = leader.rss_bytes()
    greedy = []
    try:
        # More of them than the total has answers for, so that who really reads has to wait for their end.
        for _ in range(60):
            connection = raw.Connection(leader.port)
            connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.send(b"".join(raw.fetch(0, max_bytes=50 * MIB, correlation_id=n) for n in range(32)))
            greedy.append(connection)
        with raw.Connection(leader.port, timeout_s=60) as reader, raw.Connection(leader.port) as writer:
            offset = 0
            while offset < 60:
                records = reader.fetch(offset, max_bytes=50 * MIB).records
                assert records, "a cold reader gets something"
                assert writer.produce(raw.batch(b"x")).error == raw.NONE
                while records:
                    base, length = struct.unpack(">qi", records[:12])
                    offset, records = base + 1, records[12 + length:]
        grown = leader.rss_bytes() - before
        assert grown < 160 * MIB, f"{grown >> 20} MiB for readers that take nothing"
        assert cluster.leader() is leader and cluster.epoch() == epoch
    finally:
        for connection in greedy:
            connection.socket.close()
    wait_for("the memory to be given back", lambda: leader.rss_bytes() - before < 48 * MIB)


class Flood:
    """Connections with as many requests under way as are taken, each answered one followed by another.

    It asks only while somebody waits, in the thread that waits: so a machine that has no time for that thread lets the flood
    rest too, and what is counted is the order of the server.
    """

    def __init__(self, port, connections, pipelined):
        self.answered = 0
        self._request = raw.api_versions(0)
        with raw.Connection(port) as one:
            one.send(self._request)
            self._answer_bytes = 4 + struct.unpack(">i", one.read_exactly(4))[0]
        self._selector = selectors.DefaultSelector()
        self._sockets = [socket.create_connection(("localhost", port), timeout=10) for _ in range(connections)]
        for s in self._sockets:
            s.sendall(self._request * pipelined)
            self._selector.register(s, selectors.EVENT_READ, data=0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._selector.close()
        for s in self._sockets:
            s.close()

    def wait_for(self, what, holds):
        wait_for(what, lambda: self._step() or holds(), timeout_s=60, every_s=0)

    def call(self, connection, request):
        """The answer, and how many of the flood were answered before it was there."""
        before = self.answered
        connection.send(request)
        with selectors.DefaultSelector() as answer:
            answer.register(connection.socket, selectors.EVENT_READ)
            self.wait_for("an answer", lambda: answer.select(timeout=0))
        return connection.receive(), self.answered - before

    def _step(self):
        for key, _ in self._selector.select(timeout=0.01):
            left = key.data + len(key.fileobj.recv(1 << 18))
            count, left = divmod(left, self._answer_bytes)
            self._selector.modify(key.fileobj, selectors.EVENT_READ, data=left)
            self.answered += count
            key.fileobj.sendall(self._request * count)


def test_who_pipelines_does_not_pass_those_who_wait(clusters):
    connections, pipelined, stint, rounds = 24, 64, 16, 24
    cluster = clusters(3, overrides=KAFKAS_TIMEOUTS)
    leader, epoch = cluster.leader(), cluster.epoch()
    with Flood(leader.port, connections, pipelined) as flood, raw.Connection(leader.port, timeout_s=30) as healthy:
        flood.wait_for("the flood to run", lambda: flood.answered > 10_000)
        for _ in range(40):
            _, passed = flood.call(healthy, raw.list_offsets(-1))
            # What was under way when it asked, and a few rounds in which each of the flood has one turn.
            assert passed < connections * (pipelined + rounds * stint), f"{passed} were answered before one that waited"
        (answer, _), _ = flood.call(healthy, raw.produce(raw.batch(b"x")))
        assert raw.Produced(answer).error == raw.NONE
    assert cluster.leader() is leader and cluster.epoch() == epoch


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="one CPU: no second core to wait for")
def test_parked_requests_keep_no_core_from_its_other_clients(clusters):
    cpus = ",".join(str(cpu) for cpu in sorted(os.sched_getaffinity(0))[:2])
    cluster = clusters(1, overrides={"kraft.cpus": cpus})
    with raw.Connection(cluster[1].port) as writer:
        assert writer.produce(raw.batch(b"x")).error == raw.NONE
        end = writer.list_offsets(-1)[2]
    parked = [raw.Connection(cluster[1].port) for _ in range(150)]
    try:
        for connection in parked:
            waits = (raw.fetch(end, max_wait_ms=120_000, correlation_id=n) for n in range(60))
            connection.send(b"".join(waits))
        # Both cores: connections go to them in turn.
        for _ in range(4):
            with raw.Connection(cluster[1].port) as other:
                assert other.list_offsets(-1)[0] == raw.NONE
        wait_for("all of them to be parked", lambda: parked_requests(cluster[1]) >= 150 * 60)
        for _ in range(4):
            with raw.Connection(cluster[1].port) as other:
                assert other.list_offsets(-1)[0] == raw.NONE
    finally:
        for connection in parked:
            connection.socket.close()


def parked_requests(node):
    for line in (node.http_now("/metrics") or (0, ""))[1].splitlines():
        if line.startswith("kraft_parked_requests "):
            return float(line.split()[1])
    return 0
