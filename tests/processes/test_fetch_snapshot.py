"""FetchSnapshot: a leader gives replicas its snapshots piece by piece, whole or not at all, and nobody else pays for that."""

import os
import random
import re
import socket
import threading
import time

import raw
from cluster import wait_for
from test_snapshots import OFTEN, produce, snapshots

STRANGE = [0, 1, -1, 2, 61, 1 << 20, (1 << 31) - 1, -(1 << 31), (1 << 63) - 1, -(1 << 63), 7 << 40]


def newest(node):
    wait_for("a snapshot", lambda: snapshots(node))
    path = snapshots(node)[-1]
    return path, int(path.stem.split("-")[0]), int(path.stem.split("-")[1])


def still(cluster):
    """The leader of a quorum with snapshots that takes no more, and its newest."""
    leader = cluster.leader()
    produce(leader, range(60))
    cluster.wait_caught_up()
    time.sleep(1)
    return (leader, *newest(leader))


def counter(node, name):
    return float(re.search(rf"^{name}_total (\S+)$", node.http("/metrics")[1], re.M)[1])


def test_the_pieces_are_the_file_however_they_are_cut(clusters):
    cluster = clusters(3, overrides=OFTEN)
    leader, path, end, epoch = still(cluster)
    contents = path.read_bytes()
    for max_bytes in (7000, 61 + len(contents) // 3, 1 << 30):
        got = b""
        with raw.Connection(leader.port) as connection:
            while len(got) < len(contents):
                piece = connection.fetch_snapshot(end, epoch, len(got), cluster.epoch(), max_bytes=max_bytes)
                assert (piece.error, piece.size, piece.position) == (raw.NONE, len(contents), len(got))
                assert 0 < len(piece.bytes) <= max_bytes
                got += piece.bytes
        assert got == contents
    assert counter(leader, "kraft_snapshot_served_bytes") == 3 * len(contents)
    with raw.Connection(cluster.followers()[0].port) as connection:
        assert connection.fetch_snapshot(end, epoch, 0, cluster.epoch()).error == raw.NOT_LEADER_OR_FOLLOWER


def test_what_is_gone_or_damaged_is_not_given(clusters):
    cluster = clusters(1, overrides=OFTEN)
    leader, path, end, epoch = still(cluster)
    contents = path.read_bytes()
    with raw.Connection(leader.port) as connection:
        def ask(position=0):
            return connection.fetch_snapshot(end, epoch, position, cluster.epoch())
        assert ask().error == raw.NONE
        rotten = bytearray(contents)
        rotten[len(rotten) // 2] ^= 1
        # As a disk rots, and a person that puts another file there: under another number, by a name that is renamed.
        path.with_suffix(".other").write_bytes(rotten)
        os.replace(path.with_suffix(".other"), path)
        assert ask().error == ask(5).error == raw.SNAPSHOT_NOT_FOUND
        assert len(re.findall("no replica is given a snapshot that is damaged", leader.stderr())) == 1
        path.write_bytes(contents)
        os.utime(path)
        path.unlink()
        assert ask(5).error == raw.SNAPSHOT_NOT_FOUND
    assert leader.is_ready()


def test_strange_requests_are_answered_or_their_connections_closed(clusters):
    cluster = clusters(1, overrides=OFTEN)
    leader, path, end, epoch = still(cluster)
    dice, size = random.Random(59), path.stat().st_size
    errors = set()
    for _ in range(2000):
        draw = lambda *likely: dice.choice([*likely, *likely, dice.choice(STRANGE)])  # noqa: E731
        narrow = lambda value: max(-(1 << 31), min(value, (1 << 31) - 1))  # noqa: E731
        with raw.Connection(leader.port) as connection:
            piece = connection.fetch_snapshot(
                draw(end), narrow(draw(epoch)), draw(0, size - 1, size), narrow(draw(cluster.epoch())),
                replica_id=narrow(draw(-1, 9, 1)), max_bytes=narrow(draw(1, 1 << 20)),
                cluster_id=dice.choice([raw.CLUSTER_ID, raw.CLUSTER_ID, None, "x"]), topic=dice.choice([raw.TOPIC, raw.TOPIC, "other"]),
                partition=narrow(draw(0)))
            errors.add(piece.error)
            assert (piece.error == raw.NONE) == bool(piece.bytes)
    assert {raw.NONE, raw.SNAPSHOT_NOT_FOUND, raw.POSITION_OUT_OF_RANGE, raw.INCONSISTENT_CLUSTER_ID} <= errors
    # Noise behind a good header, and a good request that is cut or changed anywhere.
    good = raw.fetch_snapshot(end, epoch, 0, cluster.epoch())
    for _ in range(500):
        data = bytearray(good)
        for _ in range(dice.randrange(1, 9)):
            data[dice.randrange(12, len(data))] = dice.randrange(256)
        with raw.Connection(leader.port, timeout_s=5) as connection:
            connection.send(bytes(data))
            try:
                connection.receive()
            except (raw.Closed, socket.timeout):
                pass
    assert leader.is_ready()
    with raw.Connection(leader.port) as connection:
        assert connection.fetch_snapshot(end, epoch, 0, cluster.epoch()).error == raw.NONE


def test_ten_thousand_requests_cost_neither_an_election_nor_a_producer_much(clusters):
    cluster = clusters(3, overrides={**OFTEN, "max.connections": 2000})
    leader, _, end, epoch = still(cluster)
    before = cluster.epoch()
    over, taken = threading.Event(), []

    def flood():
        connections = [raw.Connection(leader.port) for _ in range(250)]
        frames = b"".join(raw.fetch_snapshot(end, epoch, n, before, correlation_id=n) for n in range(10))
        for connection in connections:
            connection.send(frames)
        while not over.wait(0.01):
            for connection in connections:
                connection.socket.setblocking(False)
                try:
                    taken.append(len(connection.socket.recv(1 << 16)))
                except (BlockingIOError, OSError):
                    pass
        for connection in connections:
            connection.socket.close()

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    times = []
    with raw.Connection(leader.port) as connection:
        for n in range(200):
            began = time.monotonic()
            assert connection.produce(raw.batch(b"x" * 100)).error == raw.NONE
            times.append(time.monotonic() - began)
    over.set()
    for thread in threads:
        thread.join()
    times.sort()
    print(f"produce beside 10,000 FetchSnapshots: p50 {times[100] * 1000:.1f} ms, p99 {times[197] * 1000:.1f} ms, "
          f"max {times[-1] * 1000:.1f} ms; {sum(taken)} bytes taken")
    assert cluster.epoch() == before and sum(taken) > 0
    wait_for("all of it to be forgotten", lambda: leader.is_ready())
    for node in cluster:
        assert node.is_running()
