"""What a client or a peer may send that it should not: an error code or a closed connection, and nobody else notices."""

import contextlib
import os
import random
import re
import socket
import struct
import threading
import time

import pytest

import raw
from cluster import wait_for


@pytest.fixture
def bystander(quorum):
    """A connection that was there before, and must still work afterwards; so must the node, in the same epoch."""
    leader = quorum.leader()
    epoch, pid = quorum.epoch(), leader.pid
    with raw.Connection(leader.port) as connection:
        assert connection.is_alive()
        yield leader
        assert connection.is_alive(), "a connection that did nothing wrong was closed"
        assert connection.produce(raw.batch(b"still here")).error == raw.NONE
    assert leader.is_running() and leader.pid == pid and quorum.epoch() == epoch


def huge_array_in_metadata():
    body = struct.pack(">i", 0x7FFFFFFF)
    return raw.request(raw.METADATA, 4, body)


def huge_array_in_produce():
    body = raw.nullable_string(None) + struct.pack(">hi", -1, 1000) + struct.pack(">i", 0x7FFFFFF0)
    return raw.request(raw.PRODUCE, 7, body)


def negative_string_in_produce():
    body = raw.nullable_string(None) + struct.pack(">hi", -1, 1000) + struct.pack(">i", 1) + struct.pack(">h", -7)
    return raw.request(raw.PRODUCE, 7, body)


def endless_varint():
    return raw.request(raw.API_VERSIONS, 3, b"\xff" * 11, flexible=True)


def frame(data):
    return struct.pack(">i", len(data)) + data


TLS_HELLO = bytes.fromhex("16030100c8010000c40303") + bytes(range(189))

HOSTILE = {
    "over socket.request.max.bytes": struct.pack(">i", 104857601) + bytes(100),
    "largest length": struct.pack(">i", 0x7FFFFFFF),
    "negative length": struct.pack(">i", -1),
    "most negative length": struct.pack(">i", -0x80000000) + bytes(50),
    "empty frame": struct.pack(">i", 0),
    "frame of three bytes": frame(b"\0\x12\0"),
    "header cut short": frame(struct.pack(">hh", 18, 3)),
    "client id longer than the frame": frame(struct.pack(">hhih", 18, 0, 1, 30000) + b"abc"),
    "HTTP": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "TLS hello": TLS_HELLO,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "huge array in Metadata": huge_array_in_metadata(),
    "huge array in Produce": huge_array_in_produce(),
    "negative string in Produce": negative_string_in_produce(),
    "endless varint": endless_varint(),
    "unknown API key": raw.request(999, 0, b""),
    "negative API key": raw.request(-1, 0, b""),
    "unsupported version of Produce": raw.request(raw.PRODUCE, 99, b""),
    "body cut short": frame(raw.fetch(0)[4:-20]),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_hostile_bytes_close_only_their_own_connection(bystander, data):
    rss = bystander.rss_bytes()
    with raw.Connection(bystander.port) as connection:
        connection.send(data)
        assert connection.was_closed()
    assert bystander.rss_bytes() < rss + (64 << 20), "memory grew by what a length claimed, not by what was sent"


@pytest.mark.parametrize("name, word", [("HTTP", "HTTP"), ("TLS hello", "TLS")])
def test_the_log_says_what_it_looked_like(bystander, name, word):
    with raw.Connection(bystander.port) as connection:
        connection.send(HOSTILE[name])
        assert connection.was_closed()
    # The line is rate-limited: one of the same kind may have been printed for an earlier test.
    wait_for(f"a line about {word}", lambda: bystander.stderr().count(word) > 0)


def test_the_log_is_not_flooded(bystander):
    before = len(bystander.stderr().splitlines())
    for _ in range(300):
        with raw.Connection(bystander.port) as connection:
            connection.send(HOSTILE["HTTP"])
            connection.was_closed()
    assert len(bystander.stderr().splitlines()) - before < 50


def test_eight_bytes_that_make_a_common_decoder_ask_for_gigabytes(bystander):
    """As the body of every request and version; what they mean, and whether there is an answer, differs."""
    body, rss = bytes.fromhex("030000033c0c00b6"), bystander.rss_bytes()
    for api_key in (0, 1, 2, 3, 18, 22, 23, 32, 52, 53, 54, 55, 60, 75):
        for version in range(14):
            for flexible in (False, True):
                with raw.Connection(bystander.port) as connection:
                    connection.send(raw.request(api_key, version, body, flexible=flexible))
                    connection.socket.shutdown(socket.SHUT_WR)
                    assert connection.was_closed()
    assert bystander.rss_bytes() < rss + (64 << 20)


def test_truncated_frames_at_every_byte(bystander):
    """A client that goes away in the middle, wherever that is."""
    whole = raw.produce(raw.batch(b"never complete"))
    for cut in range(1, len(whole), 7):
        with raw.Connection(bystander.port) as connection:
            connection.send(whole[:cut])
    with raw.Connection(bystander.port) as connection:
        # A frame in single bytes is a frame.
        for byte in raw.api_versions(0):
            connection.send(bytes([byte]))
        assert connection.receive()[0].number("h") == raw.NONE


def test_random_bytes(bystander):
    generator = random.Random(20)
    for _ in range(200):
        with raw.Connection(bystander.port) as connection:
            key, version = generator.choice([0, 1, 2, 3, 18, 22, 23, 32, 52, 53, 54, 55, 60, 75]), generator.randrange(0, 14)
            noise = generator.randbytes(generator.randrange(0, 300))
            connection.send(frame(struct.pack(">hhih", key, version, 7, -1) + noise))


def test_unsupported_version_of_api_versions_is_answered_with_the_range(quorum):
    with raw.Connection(quorum.leader().port) as connection:
        reader = connection.call(raw.request(raw.API_VERSIONS, 99, b"", flexible=True))
        assert reader.number("h") == raw.UNSUPPORTED_VERSION
        ranges = {}
        for _ in range(reader.number("i")):
            key = reader.number("h")
            ranges[key] = (reader.number("h"), reader.number("h"))
        assert ranges[raw.API_VERSIONS][0] == 0 and ranges[raw.API_VERSIONS][1] >= 4
        assert connection.is_alive(), "the client asks again on the same connection"


# ------------------------------------------------------------------------------------------------------------- batches

GOOD = raw.batch(b"good", b"better")


def over_message_max_bytes():
    """Its CRC is wrong too, which would take seconds to compute here: the size is looked at first."""
    records = bytes(2 << 20)
    return struct.pack(">qi", 0, 49 + len(records)) + GOOD[12:61] + records


# The codes that Kafka 4.3.0 answers, seen by sending these bytes to it; where it differs a comment says how.
BAD_BATCHES = {
    "bad CRC": (raw.batch(b"x", crc=12345), {raw.CORRUPT_MESSAGE}),
    "flipped bit in the value": (GOOD[:-3] + bytes([GOOD[-3] ^ 1]) + GOOD[-2:], {raw.CORRUPT_MESSAGE}),
    "count too high": (raw.batch(b"x", count=2, last_offset_delta=1), {raw.INVALID_RECORD}),
    "count too low": (raw.batch(b"x", b"y", count=1, last_offset_delta=0), {raw.INVALID_RECORD}),
    "count zero": (raw.batch(count=0, last_offset_delta=-1), {raw.INVALID_RECORD}),
    "negative count": (raw.batch(b"x", count=-1), {raw.INVALID_RECORD}),
    "absurd count": (raw.batch(b"x", count=0x7FFFFFFF, last_offset_delta=0x7FFFFFFE), {raw.INVALID_RECORD}),
    "last offset delta": (raw.batch(b"x", b"y", last_offset_delta=5), {raw.INVALID_RECORD}),
    # Kafka takes these two, and gives its consumers offsets that lie.
    "offset deltas": (raw.batch(b"x", b"y", offset_deltas=[0, 7]), {raw.INVALID_RECORD}),
    "offset deltas go down": (raw.batch(b"x", b"y", offset_deltas=[1, 0]), {raw.INVALID_RECORD}),
    "length too long": (raw.batch(b"x", length=5000), {raw.INVALID_RECORD}),
    "length too short": (raw.batch(b"x", length=10), {raw.CORRUPT_MESSAGE}),
    "negative batch length": (raw.batch(b"x", length=-5), {raw.CORRUPT_MESSAGE}),
    "cut short": (GOOD[:40], {raw.INVALID_RECORD}),
    "two batches": (GOOD + GOOD, {raw.INVALID_RECORD}),
    "control batch": (raw.batch(b"x", attributes=0x20), {raw.INVALID_RECORD}),
    # Kafka looks for a transactional id first, and refuses for want of one (53). There are no transactions here.
    "transactional batch": (raw.batch(b"x", attributes=0x10, producer_id=5, producer_epoch=0, base_sequence=0), None),
    # Kafka fails on it by accident: UNKNOWN_SERVER_ERROR.
    "unknown compression": (raw.batch(b"x", attributes=7), None),
    "magic 0": (raw.message_set(b"old", 0), {raw.INVALID_RECORD}),
    "magic 1": (raw.message_set(b"old", 1), {raw.INVALID_RECORD}),
    "magic 3": (raw.batch(b"x", magic=3), {raw.CORRUPT_MESSAGE}),
    "over message.max.bytes": (over_message_max_bytes(), {raw.MESSAGE_TOO_LARGE}),
    "empty": (b"", {raw.INVALID_RECORD}),
}


@pytest.mark.parametrize("records, codes", BAD_BATCHES.values(), ids=BAD_BATCHES.keys())
def test_bad_batches_get_an_error_and_write_nothing(bystander, records, codes):
    with raw.Connection(bystander.port) as connection:
        end = connection.produce(raw.batch(b"before")).offset + 1
        answer = connection.produce(records)
        assert answer.error != raw.NONE
        assert codes is None or answer.error in codes, f"error {answer.error}, not one of {codes}"
        # A bad batch is an answer, not the end of the connection.
        good = connection.produce(raw.batch(b"good"))
        assert good.error == raw.NONE and good.offset == end, "something was written"


def test_bad_acks(bystander):
    with raw.Connection(bystander.port) as connection:
        end = bystander.status()["log_end_offset"]
        assert connection.produce(raw.batch(b"x"), acks=2).error == raw.INVALID_REQUIRED_ACKS
        assert bystander.status()["log_end_offset"] == end


def test_timestamp_far_in_the_future(bystander):
    with raw.Connection(bystander.port) as connection:
        tomorrow = int(time.time() * 1000) + 24 * 3600 * 1000
        assert connection.produce(raw.batch(b"x", timestamp_ms=tomorrow)).error == 32, "INVALID_TIMESTAMP"


# --------------------------------------------------------------------------------------------------------------- peers

def test_wrong_cluster_id(bystander):
    with raw.Connection(bystander.port) as connection:
        assert connection.vote(1000, 2, 0, 0, cluster_id="5L6g3nShT-eMCtK--X86sw").top_error == raw.INCONSISTENT_CLUSTER_ID
        answer = raw.QuorumAnswer(connection.call(raw.begin_quorum_epoch(2, 1000, cluster_id="5L6g3nShT-eMCtK--X86sw")))
        assert answer.top_error == raw.INCONSISTENT_CLUSTER_ID
        answer = raw.QuorumAnswer(connection.call(raw.end_quorum_epoch(2, 1000, cluster_id="5L6g3nShT-eMCtK--X86sw")))
        assert answer.top_error == raw.INCONSISTENT_CLUSTER_ID


def test_stale_epoch(clusters):
    cluster = clusters(3)
    # Into the second epoch: a vote for epoch 0 is refused as impossible before it is refused as stale.
    cluster.leader().stop()
    leader = cluster.leader()
    epoch, candidate = leader.status()["epoch"], cluster.followers()[0].node_id
    assert epoch >= 2
    with raw.Connection(leader.port) as connection:
        answer = connection.vote(epoch - 1, candidate, 0, 0)
        assert (answer.error, answer.granted) == (raw.FENCED_LEADER_EPOCH, False)
        assert (answer.leader, answer.epoch) == (leader.node_id, epoch)
        for frame_of in (raw.begin_quorum_epoch, raw.end_quorum_epoch):
            answer = raw.QuorumAnswer(connection.call(frame_of(candidate, epoch - 1)))
            assert (answer.error, answer.leader, answer.epoch) == (raw.FENCED_LEADER_EPOCH, leader.node_id, epoch)
    assert cluster.leader() is leader and cluster.epoch() == epoch


def test_vote_of_impossible_log(bystander):
    epoch = bystander.status()["epoch"]
    with raw.Connection(bystander.port) as connection:
        for last_epoch, last_offset in ((-1, 0), (0, -1)):
            answer = connection.vote(epoch, 2, last_epoch, last_offset)
            assert raw.INVALID_REQUEST in (answer.error, answer.top_error)
        # An epoch that is not below the one it campaigns in.
        assert connection.vote(epoch, 2, epoch, 0).error == raw.INVALID_REQUEST


def test_vote_addressed_to_another_voter(bystander, quorum):
    other = next(node for node in quorum if node is not bystander)
    with raw.Connection(bystander.port) as connection:
        answer = connection.vote(bystander.status()["epoch"], other.node_id, 0, 0, voter_id=other.node_id)
        assert answer.error == raw.INVALID_VOTER_KEY


def test_pre_vote_of_a_healthy_quorum_is_denied(bystander, quorum):
    """Followers that hear from their leader deny it; the epoch stays (the bystander checks that)."""
    follower, candidate = quorum.followers()
    epoch = bystander.status()["epoch"]
    with raw.Connection(follower.port) as connection:
        # Its log is the longest there can be, so that only the healthy leader is a reason.
        answer = connection.vote(epoch, candidate.node_id, epoch - 1, 10**12, pre_vote=True)
        assert not answer.granted


def test_fetch_of_a_replica_with_an_impossible_offset(bystander):
    """Version 11 has no last fetched epoch: Kafka's leader does not take it from a voter at all."""
    with raw.Connection(bystander.port) as connection:
        answer = connection.fetch(10**9, replica_id=2, leader_epoch=bystander.status()["epoch"])
        assert answer.top_error not in (None, raw.NONE) or answer.error not in (None, raw.NONE)
        assert answer.records == b""


# --------------------------------------------------------------------------------------------------------- connections

IDLE_CONNECTIONS = 9500


def heard_lately(leader):
    """How many followers have asked it for more within a second."""
    voters = (leader.status_now() or {"voters": []})["voters"]
    asked = [voter["last_fetch_ms_ago"] for voter in voters if voter["node_id"] != leader.node_id]
    return sum(ms is not None and ms < 1000 for ms in asked)


def test_thousands_of_idle_connections(clusters):
    """Almost max.connections, which is 10,000 by default."""
    cluster = clusters(3)
    leader, epoch = cluster.leader(), cluster.epoch()
    rss = leader.rss_bytes()
    idle = []
    try:
        for _ in range(IDLE_CONNECTIONS):
            idle.append(socket.create_connection(("localhost", leader.port), timeout=10))
        time.sleep(3)
        with raw.Connection(leader.port) as connection:
            assert connection.produce(raw.batch(b"x")).error == raw.NONE
        wait_for("both followers to be heard", lambda: heard_lately(leader) == 2)
        assert cluster.leader() is leader and cluster.epoch() == epoch, "voters' traffic suffered"
        grown = leader.rss_bytes() - rss
        assert grown < IDLE_CONNECTIONS * 16 * 1024, f"{grown >> 20} MiB for {IDLE_CONNECTIONS} idle connections"
        # The oldest still works.
        idle[0].sendall(raw.api_versions(0))
        assert idle[0].recv(4)
    finally:
        for s in idle:
            s.close()


def is_served(connection):
    try:
        return connection.produce(raw.batch(b"x")).error == raw.NONE
    except (raw.Closed, OSError):
        return False


def test_over_max_connections_new_ones_are_refused_with_a_line(clusters):
    cluster = clusters(1, overrides={"max.connections": 50})
    held = [raw.Connection(cluster[1].port) for _ in range(45)]
    try:
        assert all(is_served(connection) for connection in held)
        more = [raw.Connection(cluster[1].port) for _ in range(30)]
        served = sum(is_served(connection) for connection in more)
        assert served == 5, "as many as there were places"
        assert all(connection.is_alive() for connection in held), "an old connection was closed for a new one"
        wait_for("a line", lambda: "max.connections" in cluster[1].stderr())
        for connection in more:
            connection.socket.close()
        for connection in held:
            connection.socket.close()
        wait_for("room for new connections", lambda: is_served(raw.Connection(cluster[1].port)), every_s=0.2)
    finally:
        for connection in held:
            connection.socket.close()


def test_a_client_that_never_reads_is_closed_and_memory_stays_bounded(clusters):
    cluster = clusters(3)
    leader, epoch = cluster.leader(), cluster.epoch()
    with raw.Connection(leader.port) as writer:
        for _ in range(40):
            big = struct.pack(">i", 0) + os.urandom(200 << 10)
            assert writer.produce(raw.batch(big)).error == raw.NONE
    rss = leader.rss_bytes()
    greedy = raw.Connection(leader.port, timeout_s=2)
    greedy.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        for n in range(2000):
            greedy.send(raw.fetch(0, max_bytes=50 << 20, correlation_id=n))
    except (raw.Closed, TimeoutError, OSError):
        pass
    peak = 0
    for _ in range(20):
        peak = max(peak, leader.rss_bytes())
        time.sleep(0.1)
    assert peak - rss < 256 << 20, f"memory grew by {(peak - rss) >> 20} MiB for one client that does not read"
    with raw.Connection(leader.port) as other:
        assert other.produce(raw.batch(b"x")).error == raw.NONE
    assert cluster.leader() is leader and cluster.epoch() == epoch
    greedy.socket.close()


def test_a_slow_reader_gets_everything(clusters):
    cluster = clusters(1)
    with raw.Connection(cluster[1].port) as writer:
        for _ in range(20):
            assert writer.produce(raw.batch(os.urandom(100 << 10))).error == raw.NONE
    with raw.Connection(cluster[1].port) as reader:
        reader.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)
        reader.send(raw.fetch(0, max_bytes=50 << 20))
        size = struct.unpack(">i", reader.read_exactly(4))[0]
        got = 0
        while got < size:
            got += len(reader.read_exactly(min(50000, size - got)))
            time.sleep(0.01)
        assert got > 2_000_000
        assert reader.is_alive()


class WebServer:
    """On a voter's port, because somebody mistyped it."""

    def __init__(self, port):
        self._listener = socket.create_server(("localhost", port))
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.recv(4096)
                    connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def test_voters_that_do_not_answer_are_named_with_the_reason_and_so_is_their_return(clusters):
    cluster = clusters(3, start=False)
    first, second, third = cluster
    silent = r"WARN voter {} has not answered for \d+ s: .*localhost:{}: .*{}.* controller\.quorum\.voters has its address"
    with WebServer(second.port):
        first.start()
        for other, why in ((second, "it looks like an HTTP response"), (third, "Connection refused")):
            line = silent.format(other.node_id, other.port, why)
            wait_for(f"node {other.node_id} to be named", lambda: re.search(line, first.stderr()))
    assert first.is_running()
    second.start()
    third.start()
    cluster.leader()
    wait_for("the return to be told", lambda: re.search(r"INFO voter [23] answers again, after \d+ s", first.stderr()))
