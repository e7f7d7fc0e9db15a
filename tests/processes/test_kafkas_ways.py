"""What clients rely on in Kafka beside the format of a message: what is passed over, what is answered at once, what is refused."""

import struct
import time

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka import ConsumerGroupTopicPartitions as GroupPartitions
from confluent_kafka.admin import AdminClient
from kafka import KafkaConsumer

import raw
from cluster import PATIENCE_S, TOPIC

GROUP = "no-such-group"
OFFSET_FOR_LEADER_EPOCH = 23


@pytest.fixture
def admin(quorum):
    return AdminClient({"bootstrap.servers": quorum.bootstrap})


def produce_one(quorum):
    with raw.Connection(quorum.leader().port) as connection:
        return connection.produce(raw.batch(b"one")).offset


# -------------------------------------------------------------------------------------------------------- passed over

def test_all_topics_are_listed_for_librdkafka(admin):
    """It sends three bytes too many."""
    assert list(admin.list_topics(timeout=PATIENCE_S).topics) == [TOPIC]


def test_bytes_behind_a_request_are_passed_over(quorum):
    with raw.Connection(quorum.leader().port) as connection:
        for more in (b"\0", b"\1\0\0", bytes(range(256))):
            connection.send(lengthened(raw.api_versions(0), more))
            connection.receive()
            connection.send(lengthened(raw.produce(raw.batch(b"x")), more))
            assert raw.Produced(connection.receive()[0]).error == raw.NONE
            connection.send(lengthened(raw.fetch(0), more))
            assert raw.Fetched(connection.receive()[0]).error == raw.NONE


def lengthened(frame, more):
    return struct.pack(">i", len(frame) - 4 + len(more)) + frame[4:] + more


def test_strange_names_and_tags_are_answered(quorum):
    with raw.Connection(quorum.leader().port) as connection:
        names = [b"\xff\xfe", b"\x80abc", "ümlaut".encode()] + [b"t%d" % n for n in range(5000)]
        body = struct.pack(">i", len(names)) + b"".join(struct.pack(">h", len(name)) + name for name in names)
        reader = connection.call(raw.request(raw.METADATA, 1, body))
        for _ in range(reader.number("i")):
            reader.number("i"), reader.string(), reader.number("i"), reader.string()
        reader.number("i")
        assert reader.number("i") == len(names)
        tags = raw.unsigned_varint(2000) + b"".join(raw.unsigned_varint(100 + n) + b"\1x" for n in range(2000))
        connection.call(raw.request(raw.METADATA, 12, raw.compact_count(0) + b"\0\0" + tags, flexible=True))
        assert connection.is_alive()


# ------------------------------------------------------------------------------------------------------------ at once

def test_a_fetch_of_no_bytes_and_acks_1_in_no_time(quorum):
    end = produce_one(quorum) + 1
    with raw.Connection(quorum.leader().port) as connection:
        for timeout_ms in (0, -1):
            assert connection.produce(raw.batch(b"x"), acks=1, timeout_ms=timeout_ms).error == raw.NONE
            end += 1
        began = time.monotonic()
        assert connection.fetch(end, max_wait_ms=60_000, min_bytes=0).error == raw.NONE
        assert time.monotonic() - began < PATIENCE_S, "it waited for a record"


def end_of_epoch(connection, epoch):
    body = struct.pack(">i", 1) + raw.string(TOPIC) + struct.pack(">iiii", 1, 0, -1, epoch)
    reader = connection.call(raw.request(OFFSET_FOR_LEADER_EPOCH, 2, body))
    reader.number("i"), reader.number("i"), reader.string(), reader.number("i")
    return reader.number("h"), (reader.number("i"), reader.number("i"), reader.number("q"))


def test_an_epoch_that_is_not_in_the_log_has_no_end(quorum):
    end, epoch = produce_one(quorum) + 1, quorum.epoch()
    with raw.Connection(quorum.leader().port) as connection:
        assert end_of_epoch(connection, epoch) == (raw.NONE, (0, epoch, end))
        for newer in (epoch + 1, epoch + 1000):
            assert end_of_epoch(connection, newer) == (raw.NONE, (0, -1, -1))


def test_offsets_of_tiers_that_are_not_there(quorum):
    body = struct.pack(">ib", -1, 0) + raw.compact_count(1) + raw.compact_string(TOPIC) + raw.compact_count(1)
    with raw.Connection(quorum.leader().port) as connection:
        for version, timestamp, wanted in ((11, -6, (0, -1, -1)), (10, -6, (raw.UNSUPPORTED_VERSION, -1, -1)), (9, -5, (0, -1, -1)),
                                           (8, -4, (0, -1, 0)), (7, -4, (raw.UNSUPPORTED_VERSION, -1, -1))):
            rest = struct.pack(">iiq", 0, -1, timestamp) + raw.NO_TAGS + raw.NO_TAGS
            rest += struct.pack(">i", 1000) if version >= 10 else b""
            reader = connection.call(raw.request(raw.LIST_OFFSETS, version, body + rest + raw.NO_TAGS, flexible=True))
            reader.skip_tags(), reader.number("i"), reader.unsigned_varint(), reader.compact_string(), reader.unsigned_varint()
            reader.number("i")
            assert (reader.number("h"), reader.number("q"), reader.number("q")) == wanted, f"{timestamp} in version {version}"


# ------------------------------------------------------------------------------------------- groups, which are not there

def test_assigned_without_an_offset_a_consumer_begins_by_its_own_rule(quorum):
    produce_one(quorum)
    consumer = Consumer({"bootstrap.servers": quorum.bootstrap, "group.id": GROUP, "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(TOPIC, 0)])
    deadline = time.monotonic() + PATIENCE_S
    while (message := consumer.poll(0.2)) is None or message.error():
        assert time.monotonic() < deadline, "nothing was read"
    [committed] = consumer.committed([TopicPartition(TOPIC, 0)], timeout=PATIENCE_S)
    assert committed.offset < 0 and not committed.error
    with pytest.raises(KafkaException, match="not supported"):
        consumer.commit(offsets=[TopicPartition(TOPIC, 0, 1)], asynchronous=False)
    consumer.close()
    java_like = KafkaConsumer(bootstrap_servers=quorum.bootstrap, group_id=GROUP, auto_offset_reset="earliest",
                              enable_auto_commit=False, consumer_timeout_ms=PATIENCE_S * 1000)
    from kafka import TopicPartition as Partition
    java_like.assign([Partition(TOPIC, 0)])
    assert next(java_like).offset == message.offset()
    java_like.close()


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_a_subscriber_hears_at_once_that_there_are_no_groups(quorum, protocol):
    consumer = Consumer({"bootstrap.servers": quorum.bootstrap, "group.id": GROUP, "group.protocol": protocol})
    consumer.subscribe([TOPIC])
    deadline = time.monotonic() + PATIENCE_S
    while (message := consumer.poll(0.2)) is None:
        assert time.monotonic() < deadline, "nothing was said"
    assert "not supported" in message.error().str(), message.error()
    consumer.close()


def test_admins_find_no_groups(admin):
    listed = admin.list_consumer_groups(request_timeout=PATIENCE_S).result()
    assert (listed.valid, listed.errors) == ([], [])
    [described] = admin.describe_consumer_groups([GROUP], request_timeout=PATIENCE_S).values()
    assert described.result().state.name == "DEAD"
    [deleted] = admin.delete_consumer_groups([GROUP], request_timeout=PATIENCE_S).values()
    assert deleted.exception().args[0].name() == "GROUP_ID_NOT_FOUND"
    [offsets] = admin.list_consumer_group_offsets([GroupPartitions(GROUP)], request_timeout=PATIENCE_S).values()
    assert offsets.result().topic_partitions == []
    change = GroupPartitions(GROUP, [TopicPartition(TOPIC, 0, 1)])
    [changed] = admin.alter_consumer_group_offsets([change], request_timeout=PATIENCE_S).values()
    assert changed.result().topic_partitions[0].error.name() == "UNSUPPORTED_VERSION"


def test_a_transactional_producer_is_told_in_words(quorum):
    producer = Producer({"bootstrap.servers": quorum.bootstrap, "transactional.id": "none"})
    with pytest.raises(KafkaException, match="There are no transactions here: remove transactional.id"):
        producer.init_transactions(PATIENCE_S)
