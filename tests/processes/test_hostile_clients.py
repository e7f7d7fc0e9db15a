"""Clients that mean harm: whatever one of them sends, the leader stays, others go on, and memory and lines stay bounded."""

import gzip
import os
import time

import pytest

import raw
from cluster import wait_for

LAST_EPOCH = 2**31 - 2


@pytest.fixture
def undisturbed(quorum):
    """The leader that was there before is there afterwards, in the same epoch, and commits."""
    leader, epoch = quorum.leader(), quorum.epoch()
    yield leader
    with raw.Connection(leader.port) as connection:
        assert connection.produce(raw.batch(b"still here")).error == raw.NONE
    assert quorum.leader() is leader and quorum.epoch() == epoch
    assert all(node.status()["epoch"] == epoch for node in quorum)


def stories(claimed, epoch):
    """Everything that names an epoch in the name of a voter."""
    return [raw.vote(epoch, claimed, 0, 0), raw.vote(epoch, claimed, 1, 10**9), raw.vote(epoch, claimed, 0, 0, pre_vote=True),
            raw.begin_quorum_epoch(claimed, epoch), raw.end_quorum_epoch(claimed, epoch)]


def test_no_epoch_is_believed_because_a_stranger_names_it(undisturbed, quorum):
    epoch = quorum.epoch()
    for node in quorum:
        for claimed in (other.node_id for other in quorum if other is not node):
            for ahead in (epoch + 1, epoch + 2, epoch + 1000, 2**30, LAST_EPOCH, LAST_EPOCH + 1):
                with raw.Connection(node.port) as connection:
                    for story in stories(claimed, ahead):
                        connection.call(story)
    # Time for an election, were there one.
    time.sleep(3)


def test_a_leader_that_lives_has_not_resigned_because_a_stranger_says_so(undisturbed, quorum):
    for _ in range(5):
        for node in quorum.followers():
            with raw.Connection(node.port) as connection:
                connection.call(raw.end_quorum_epoch(undisturbed.node_id, quorum.epoch()))
        time.sleep(0.5)


def test_thousands_of_refusals_are_a_few_lines(undisturbed, quorum):
    node = quorum.followers()[0]
    claimed = next(other.node_id for other in quorum if other is not node)
    before = len(node.stderr())
    with raw.Connection(node.port) as connection:
        for _ in range(1000):
            assert not connection.vote(quorum.epoch(), claimed, 0, 0, pre_vote=True).granted
        for _ in range(500):
            connection.vote(quorum.epoch() + 5, claimed, 0, 0)
        for invented in range(500):
            connection.vote(quorum.epoch(), 1000 + invented, 0, 0)
    node.wait_line("pre-vote", since=before)
    lines = node.stderr()[before:].splitlines()
    assert len([line for line in lines if "pre-vote" in line]) < 40, "not one for each"
    assert len(lines) < 250, len(lines)


def test_what_a_stranger_calls_himself_is_short_and_printable_in_lines(undisturbed, quorum):
    node, end = quorum.leader(), len(quorum.leader().stderr())
    for number in range(100):
        name = f"\u202eevil{chr(97 + number % 26)}" + "x" * 20_000
        hello = raw.request(raw.API_VERSIONS, 3, raw.compact_string("Not-kraft") + raw.compact_string("1") + raw.NO_TAGS, flexible=True)
        with raw.Connection(node.port) as connection:
            connection.call(hello)
            frame = raw.request(raw.VOTE, 2, b"", client_id=name, flexible=True)
            # The body of a Vote behind a header with that name.
            vote = raw.vote(quorum.epoch(), 2, 0, 0)
            header = len(raw.request(raw.VOTE, 2, b"", flexible=True))
            body = vote[header:]
            connection.send((len(frame) - 4 + len(body)).to_bytes(4, "big") + frame[4:] + body)
            assert connection.was_closed()
    wait_for("a line about it", lambda: "Not-kraft" in node.stderr()[end:])
    said = node.stderr()[end:]
    assert "\u202e" not in said and len(said) < 20_000, len(said)


# -------------------------------------------------------------------------------------------------- answers and patience

def metadata(names):
    return raw.request(raw.METADATA, 1, len(names).to_bytes(4, "big") + b"".join(raw.string(name) for name in names))


def configs(count, resource_type, name):
    one = bytes([resource_type]) + raw.string(name) + (2**32 - 1).to_bytes(4, "big")
    return raw.request(32, 1, count.to_bytes(4, "big") + one * count + b"\1")


def answer_bytes(node, frame):
    """Size of the answer; 0: the connection was closed."""
    with raw.Connection(node.port, timeout_s=60) as connection:
        try:
            connection.send(frame)
            return len(connection.receive()[0].data)
        except raw.Closed:
            return 0


def test_what_is_asked_for_many_times_is_answered_once(undisturbed):
    before = undisturbed.rss_bytes()
    for frame in (metadata([raw.TOPIC] * 200_000), metadata(["some-other-topic"] * 200_000),
                  configs(150_000, 2, raw.TOPIC)):
        assert 0 < answer_bytes(undisturbed, frame) < 10_000
    assert undisturbed.rss_bytes() < before + (200 << 20)


def test_many_different_names_are_answered_and_too_many_are_refused(undisturbed):
    some = [f"a-topic-of-a-longer-name-{number:030}" for number in range(20_000)]
    assert answer_bytes(undisturbed, metadata(some)) > 20_000 * 40
    end = len(undisturbed.stderr())
    assert answer_bytes(undisturbed, metadata(some + [name + "x" for name in some] + [name + "y" for name in some])) == 0
    wait_for("a line about it", lambda: "kraft.request.max.entries" in undisturbed.stderr()[end:])


def test_a_client_that_goes_while_all_its_fetches_are_parked_leaves_nothing_behind(undisturbed):
    end, before = undisturbed.status()["log_end_offset"], undisturbed.status()["parked_requests"]
    connection = raw.Connection(undisturbed.port)
    for number in range(100):
        connection.send(raw.fetch(end, max_wait_ms=2**31 - 1, min_bytes=2**30, correlation_id=number))
    wait_for("its Fetches to be parked", lambda: undisturbed.status()["parked_requests"] >= before + 64)
    connection.socket.close()
    # But for those of the two followers, which come and go.
    wait_for("them to be forgotten", lambda: undisturbed.status()["parked_requests"] <= before + 2)


def test_idle_connections_and_half_requests_are_closed_after_the_time_that_is_set(clusters):
    node = clusters(1, overrides={"connections.max.idle.ms": "4000"}).leader()
    end = node.status()["log_end_offset"]
    with raw.Connection(node.port) as waiting, raw.Connection(node.port) as half, raw.Connection(node.port) as idle:
        waiting.send(raw.fetch(end, max_wait_ms=12_000, min_bytes=1 << 20))
        half.send(raw.api_versions(0)[:-3])
        assert idle.was_closed() and half.was_closed()
        assert raw.Fetched(waiting.receive()[0]).error == raw.NONE, "who waits for an answer is not idle"


@pytest.mark.parametrize("cores", [1, 2])
def test_a_short_idle_time_is_not_looked_at_ten_seconds_later(clusters, cores):
    """Of two cores one has no replica."""
    cpus = {"kraft.cpus": ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))}
    if len(os.sched_getaffinity(0)) < cores:
        pytest.skip("needs two CPUs")
    node = clusters(1, overrides={"connections.max.idle.ms": "1000", **cpus}).leader()
    for _ in range(4):
        with raw.Connection(node.port) as idle:
            begin = time.monotonic()
            assert idle.was_closed()
            # 1.25 s and what the machine needs, and not whenever the next ten seconds are over.
            assert 0.9 < time.monotonic() - begin < 8


def test_invented_producers_push_nobody_out(undisturbed):
    pay_once = raw.batch(b"pay once", producer_id=4711, producer_epoch=0, base_sequence=0)
    with raw.Connection(undisturbed.port) as honest, raw.Connection(undisturbed.port) as other:
        first = honest.produce(pay_once)
        codes = [other.produce(raw.batch(b"", producer_id=10_000_000 + number, producer_epoch=0, base_sequence=0)).error
                 for number in range(120)]
        assert codes == [raw.NONE] * 100 + [44] * 20, "POLICY_VIOLATION"
        again = honest.produce(pay_once)
        assert (again.error, again.offset) == (raw.NONE, first.offset)


# ------------------------------------------------------------------------------------------------------------ searches

def list_offsets_of(timestamp, count):
    """Our partition so many times in one request."""
    one = (0).to_bytes(4, "big") + timestamp.to_bytes(8, "big", signed=True)
    body = (2**32 - 1).to_bytes(4, "big") + (1).to_bytes(4, "big") + raw.string(raw.TOPIC) + count.to_bytes(4, "big")
    return raw.request(2, 1, body + one * count)


def test_a_partition_that_is_named_a_thousand_times_is_looked_for_not_once(undisturbed):
    with raw.Connection(undisturbed.port) as connection:
        connection.send(list_offsets_of(0, 20_000))
        answer = connection.receive()[0].data
    # Each line: index, error, timestamp, offset.
    assert answer.count((0).to_bytes(4, "big") + raw.INVALID_REQUEST.to_bytes(2, "big") + b"\xff" * 16) == 20_000


def test_who_asks_for_a_time_and_leaves_keeps_nobody_busy(undisturbed):
    """Each search would look into a batch that is 64 MiB long when it is decompressed."""
    payload = gzip.compress(raw.record(0, bytes(64 << 20)), 1)
    now_ms = int(time.time() * 1000)
    bomb = raw.batch(records=payload, count=1, last_offset_delta=0, attributes=1, timestamp_ms=now_ms)
    with raw.Connection(undisturbed.port, timeout_s=60) as connection:
        assert connection.produce(bomb).error == raw.NONE
        before = undisturbed.rss_bytes()
        for _ in range(500):
            with raw.Connection(undisturbed.port) as leaves:
                leaves.send(raw.list_offsets(now_ms))
        # 500 of them would take minutes, and the connection's patience is over before.
        assert connection.list_offsets(-1)[0] == raw.NONE
        assert connection.list_offsets(now_ms)[0] == raw.NONE
        assert undisturbed.rss_bytes() < before + (200 << 20)
