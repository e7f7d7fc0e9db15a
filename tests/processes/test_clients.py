"""Unmodified clients: what they are told when they produce is what they and the others read."""

import re
import threading
import time
import uuid

import pytest
from confluent_kafka import Consumer, Producer
from confluent_kafka import TopicPartition as ConfluentPartition
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

import kafka_tools
import raw
from cluster import PATIENCE_S, TOPIC, wait_for


def values(count, prefix="v"):
    tag = uuid.uuid4().hex[:8]
    return [f"{prefix}-{tag}-{n}" for n in range(count)]


def by_offset(records, offsets):
    """The values at these offsets."""
    found = dict(records)
    return [found.get(offset) for offset in offsets]


# -------------------------------------------------------------------------------------------------- Kafka's own tools

def test_verifiable_producer_prints_the_offsets_that_the_consumer_reads(quorum):
    verified = kafka_tools.produce_verified(quorum.bootstrap, 2000)
    first, last = min(verified.acked.values()), max(verified.acked.values())
    records = kafka_tools.console_read(quorum.bootstrap, "--offset", first, "--max-messages", last - first + 1)
    assert {value: offset for offset, value in records} == verified.acked


def test_producer_perf_test_is_idempotent_and_all_arrives(quorum):
    before = quorum.leader().status()["high_watermark"]
    output = kafka_tools.tool("kafka-producer-perf-test", "--topic", TOPIC, "--num-records", 20000, "--throughput", -1,
                              "--record-size", 100, "--bootstrap-server", quorum.bootstrap).check()
    assert re.search(r"20000 records sent", output.out), output.out
    # The tool is idempotent by default: producer ids that are not -1 in the log say that it was here too.
    with raw.Connection(quorum.leader().port) as connection:
        batch = connection.fetch(before).records
    assert int.from_bytes(batch[43:51], "big", signed=True) >= 0, "the batch carries no producer id"
    wait_for("20000 more offsets", lambda: quorum.leader().status()["high_watermark"] >= before + 20000)


@pytest.mark.parametrize("how", [["--offset", "earliest"], ["--from-beginning"]], ids=["offset-earliest", "from-beginning"])
def test_console_consumer_reads_from_the_beginning(quorum, how):
    verified = kafka_tools.produce_verified(quorum.bootstrap, 50)
    total = len(kafka_tools.kcat_read(quorum.bootstrap))
    records = kafka_tools.console_read(quorum.bootstrap, *how, "--max-messages", total)
    assert len(records) == total
    assert [offset for offset, _ in records] == sorted(offset for offset, _ in records)
    for value, offset in verified.acked.items():
        assert (offset, value) in records


def test_console_producer(quorum):
    sent = values(20)
    kafka_tools.tool("kafka-console-producer", "--bootstrap-server", quorum.bootstrap, "--topic", TOPIC,
                     input="".join(f"{value}\n" for value in sent)).check()
    read = [value for _, value in kafka_tools.kcat_read(quorum.bootstrap)]
    assert [value for value in read if value in set(sent)] == sent


@pytest.mark.parametrize("compression", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches_are_stored_as_they_came(quorum, compression, scratch):
    config = scratch / "producer.properties"
    config.write_text(f"compression.type={compression}\nlinger.ms=20\n")
    verified = kafka_tools.produce_verified(quorum.bootstrap, 300, "--command-config", config)
    first = min(verified.acked.values())
    records = kafka_tools.console_read(quorum.bootstrap, "--offset", first, "--max-messages", 300)
    assert {value: offset for offset, value in records} == verified.acked


# ------------------------------------------------------------------------------------------------------------- kcat

def test_kcat_produces_and_consumes(quorum):
    sent = values(200)
    kafka_tools.run("kcat", "-b", quorum.bootstrap, "-P", "-t", TOPIC, "-p", 0, "-X", "acks=all",
                    input="".join(f"{value}\n" for value in sent)).check()
    records = kafka_tools.kcat_read(quorum.bootstrap)
    assert [value for _, value in records if value in set(sent)] == sent


def test_kcat_idempotent(quorum):
    sent = values(200)
    kafka_tools.run("kcat", "-b", quorum.bootstrap, "-P", "-t", TOPIC, "-p", 0, "-X", "enable.idempotence=true",
                    input="".join(f"{value}\n" for value in sent)).check()
    assert [value for _, value in kafka_tools.kcat_read(quorum.bootstrap) if value in set(sent)] == sent


def test_kcat_lists_every_voter_and_the_topic(quorum):
    listing = kafka_tools.run("kcat", "-b", f"localhost:{quorum[1].port}", "-L").check().out
    for node in quorum:
        assert f"broker {node.node_id} at localhost:{node.port}" in listing, listing
    assert f'topic "{TOPIC}" with 1 partitions' in listing
    leader = quorum.leader().node_id
    partition = re.search(r"partition 0, leader (\d+), replicas: ([\d,]+), isrs: ([\d,]+)", listing)
    assert int(partition[1]) == leader, listing
    assert sorted(partition[2].split(",")) == ["1", "2", "3"]
    assert sorted(partition[3].split(",")) == ["1", "2", "3"]


def test_control_batches_are_skipped_and_keep_their_offsets(clusters):
    cluster = clusters(1)
    first = kafka_tools.produce_verified(cluster.bootstrap, 3)
    node = cluster[1]
    node.stop()
    node.start().wait_ready()
    second = kafka_tools.produce_verified(cluster.bootstrap, 3)
    assert sorted(first.acked.values()) == [1, 2, 3]
    assert min(second.acked.values()) == 5, "offset 4 is the leader-change record of the second epoch"
    for read in (kafka_tools.kcat_read(cluster.bootstrap),
                 kafka_tools.console_read(cluster.bootstrap, "--offset", "earliest", "--max-messages", 6)):
        assert [offset for offset, _ in read] == [1, 2, 3, 5, 6, 7]
    # Starting at a control record's own offset finds the next data record.
    assert kafka_tools.kcat_read(cluster.bootstrap, "-o", "4")[0][0] == 5


# ------------------------------------------------------------------------------------------------------ kafka-python

@pytest.mark.parametrize("idempotent", [True, False])
def test_kafka_python(quorum, idempotent):
    sent = values(300)
    producer = KafkaProducer(bootstrap_servers=quorum.bootstrap, acks="all", enable_idempotence=idempotent)
    try:
        futures = [producer.send(TOPIC, value.encode(), key=b"k", partition=0) for value in sent]
        told = [future.get(PATIENCE_S).offset for future in futures]
    finally:
        producer.close(timeout=PATIENCE_S)
    assert told == sorted(set(told)), "offsets in the order of sending, each once"

    consumer = KafkaConsumer(bootstrap_servers=quorum.bootstrap, enable_auto_commit=False, consumer_timeout_ms=PATIENCE_S * 1000)
    try:
        partition = TopicPartition(TOPIC, 0)
        consumer.assign([partition])
        consumer.seek(partition, told[0])
        read = []
        for message in consumer:
            read.append((message.offset, message.value.decode()))
            assert message.key == b"k" or message.value.decode() not in set(sent)
            if message.offset >= told[-1]:
                break
        ends = consumer.end_offsets([partition])[partition]
        assert consumer.beginning_offsets([partition])[partition] == 0
    finally:
        consumer.close()
    assert by_offset(read, told) == sent
    assert ends > told[-1]


def test_kafka_python_finds_an_offset_by_time(quorum):
    producer = KafkaProducer(bootstrap_servers=quorum.bootstrap)
    try:
        old = producer.send(TOPIC, b"old", partition=0).get(PATIENCE_S)
        time.sleep(0.05)
        between_ms = int(time.time() * 1000)
        time.sleep(0.05)
        new = producer.send(TOPIC, b"new", partition=0).get(PATIENCE_S)
    finally:
        producer.close(timeout=PATIENCE_S)
    consumer = KafkaConsumer(bootstrap_servers=quorum.bootstrap)
    try:
        partition = TopicPartition(TOPIC, 0)
        found = consumer.offsets_for_times({partition: between_ms})[partition]
    finally:
        consumer.close()
    assert old.offset < found.offset <= new.offset


# --------------------------------------------------------------------------------------------------- confluent-kafka

@pytest.mark.parametrize("settings", [{"enable.idempotence": True}, {"acks": "all"}, {"acks": "1"}, {"compression.type": "zstd"}],
                         ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()))
def test_confluent_kafka(quorum, settings):
    sent = values(500)
    told = {}

    def on_delivery(error, message):
        assert error is None, error
        told[message.value().decode()] = message.offset()

    producer = Producer({"bootstrap.servers": quorum.bootstrap, **settings})
    for value in sent:
        producer.produce(TOPIC, value.encode(), partition=0, on_delivery=on_delivery)
    assert producer.flush(PATIENCE_S) == 0
    offsets = [told[value] for value in sent]
    assert offsets == sorted(set(offsets))

    consumer = Consumer({"bootstrap.servers": quorum.bootstrap, "group.id": "not-used", "enable.auto.commit": False})
    try:
        consumer.assign([ConfluentPartition(TOPIC, 0, offsets[0])])
        read, deadline = {}, time.monotonic() + PATIENCE_S
        while offsets[-1] not in read:
            assert time.monotonic() < deadline, f"read {len(read)} of {len(sent)} records"
            message = consumer.poll(1)
            if message is not None:
                assert message.error() is None, message.error()
                read[message.offset()] = message.value().decode()
        low, high = consumer.get_watermark_offsets(ConfluentPartition(TOPIC, 0), timeout=PATIENCE_S)
    finally:
        consumer.close()
    assert [read[offset] for offset in offsets] == sent
    assert low == 0 and high > offsets[-1]


def test_confluent_kafka_without_acknowledgement(quorum):
    """acks=0 gets no answer, and what follows on the same connection still works."""
    sent = values(50)
    producer = Producer({"bootstrap.servers": quorum.bootstrap, "acks": "0"})
    for value in sent:
        producer.produce(TOPIC, value.encode(), partition=0)
    assert producer.flush(PATIENCE_S) == 0

    def arrived():
        read = {value for _, value in kafka_tools.kcat_read(quorum.bootstrap)}
        return set(sent) <= read
    wait_for("records sent with acks=0", arrived, every_s=0.3)


def test_unknown_topic(quorum):
    output = kafka_tools.run("kcat", "-b", quorum.bootstrap, "-C", "-t", "no-such-topic", "-p", 0, "-e", "-q",
                             "-X", "topic.metadata.refresh.interval.ms=200")
    assert output.code != 0 and "Unknown topic" in output.err, output.err
    with raw.Connection(quorum.leader().port) as connection:
        assert connection.produce(raw.batch(b"x"), topic="no-such-topic").error == raw.UNKNOWN_TOPIC_OR_PARTITION
        assert connection.produce(raw.batch(b"x"), partition=1).error == raw.UNKNOWN_TOPIC_OR_PARTITION
        assert connection.is_alive()


# ---------------------------------------------------------------------------------------- where a read may not reach

def test_a_follower_sends_clients_to_the_leader(quorum):
    follower = quorum.followers()[0]
    with raw.Connection(follower.port) as connection:
        assert connection.fetch(0).error == raw.NOT_LEADER_OR_FOLLOWER
        assert connection.produce(raw.batch(b"x")).error == raw.NOT_LEADER_OR_FOLLOWER
    # A client that knows only the follower finds the leader by Metadata.
    verified = kafka_tools.produce_verified(f"localhost:{follower.port}", 20)
    first = min(verified.acked.values())
    records = kafka_tools.console_read(f"localhost:{follower.port}", "--offset", first, "--max-messages", 20)
    assert {value: offset for offset, value in records} == verified.acked


def test_nobody_reads_what_is_not_committed(clusters):
    cluster = clusters(3)
    kafka_tools.produce_verified(cluster.bootstrap, 5)
    cluster.wait_caught_up()
    committed = cluster.leader().status()["high_watermark"]
    with cluster.followers_paused() as leader, raw.Connection(leader.port) as writer, raw.Connection(leader.port) as reader:
        writer.send(raw.produce(raw.batch(b"not committed"), timeout_ms=60000))
        wait_for("the leader's own log to grow", lambda: leader.status()["log_end_offset"] > committed)
        answer = reader.fetch(committed)
        assert (answer.error, answer.records) == (raw.NONE, b"")
        assert answer.high_watermark == committed
        # Between the high watermark and the log end there is nothing to see, and no error either.
        beyond = reader.fetch(committed + 1)
        assert (beyond.error, beyond.records) == (raw.NONE, b"")
        assert reader.list_offsets(-1)[2] == committed
    wait_for("the record to be committed or cut off", lambda: len(kafka_tools.kcat_read(cluster.bootstrap)) >= 5, every_s=0.3)


def test_acks_1_answers_after_the_leaders_own_flush(clusters):
    """With both followers paused nothing commits, and acks=1 is answered all the same."""
    cluster = clusters(3)
    cluster.wait_caught_up()
    with cluster.followers_paused() as leader, raw.Connection(leader.port) as connection:
        answer = connection.produce(raw.batch(b"x"), acks=1)
        assert answer.error == raw.NONE and answer.offset >= 1
        assert leader.status()["flushed_offset"] > answer.offset


def test_produce_timeout(clusters):
    cluster = clusters(3)
    cluster.wait_caught_up()
    with cluster.followers_paused() as leader, raw.Connection(leader.port) as connection:
        began = time.monotonic()
        answer = connection.produce(raw.batch(b"x"), timeout_ms=300)
        took = time.monotonic() - began
        assert answer.error == raw.REQUEST_TIMED_OUT
        # Not before its time; that it is answered at all, the connection's own patience decides.
        assert took >= 0.3, f"{took:.2f} s"


def test_answers_keep_the_order_of_the_requests(quorum):
    """Slow and quick requests on one connection, all sent at once."""
    frames = []
    for n in range(0, 40, 4):
        frames += [raw.produce(raw.batch(b"x"), correlation_id=n), raw.api_versions(0, n + 1),
                   raw.fetch(0, max_bytes=200, correlation_id=n + 2), raw.api_versions(3, n + 3)]
    with raw.Connection(quorum.leader().port) as connection:
        connection.send(b"".join(frames))
        assert [connection.receive()[1] for _ in frames] == list(range(40))


def test_a_fetch_waits_for_data(quorum):
    leader = quorum.leader()
    with raw.Connection(leader.port) as reader:
        end = leader.status()["high_watermark"]
        began = time.monotonic()
        assert reader.fetch(end, max_wait_ms=400).records == b""
        assert time.monotonic() - began >= 0.4
        later = threading.Timer(0.3, kafka_tools.run, args=["sh", "-c", f"echo x | kcat -b localhost:{leader.port} -P -t {TOPIC} -p 0"])
        later.start()
        # Woken by the record: the end of its wait is behind the connection's patience.
        assert reader.fetch(end, max_wait_ms=60_000).records
        # The next test counts records.
        later.join()


def test_offsets_by_raw_requests(quorum):
    with raw.Connection(quorum.leader().port) as connection:
        end = connection.list_offsets(-1)[2]
        assert connection.list_offsets(-2)[2] == 0
        assert connection.fetch(end + 1000).error == raw.OFFSET_OUT_OF_RANGE
        assert connection.fetch(0, leader_epoch=9999).error == raw.UNKNOWN_LEADER_EPOCH


def test_idempotence_by_raw_requests(quorum):
    with raw.Connection(quorum.leader().port) as connection:
        reader = connection.call(raw.init_producer_id())
        reader.number("i")
        assert reader.number("h") == raw.NONE
        producer = {"producer_id": reader.number("q"), "producer_epoch": reader.number("h")}
        first = connection.produce(raw.batch(b"a", b"b", base_sequence=0, **producer))
        again = connection.produce(raw.batch(b"a", b"b", base_sequence=0, **producer))
        gap = connection.produce(raw.batch(b"d", base_sequence=5, **producer))
        follow = connection.produce(raw.batch(b"c", base_sequence=2, **producer))
        old = connection.produce(raw.batch(b"c", base_sequence=3, producer_id=producer["producer_id"], producer_epoch=-1))
    assert first.error == again.error == follow.error == raw.NONE
    assert again.offset == first.offset, "a duplicate gets the original offset"
    assert gap.error == raw.OUT_OF_ORDER_SEQUENCE_NUMBER
    assert follow.offset > first.offset
    assert old.error != raw.NONE


def test_a_retry_is_recognised_after_failover_and_restart(clusters):
    cluster = clusters(3)
    producer = {"producer_id": 4242, "producer_epoch": 0}
    frame = raw.batch(b"once", base_sequence=0, **producer)
    with raw.Connection(cluster.leader().port) as connection:
        told = connection.produce(frame)
        assert told.error == raw.NONE
    old = cluster.leader()
    old.kill()
    with raw.Connection(cluster.leader().port) as connection:
        again = connection.produce(frame)
    assert (again.error, again.offset) == (raw.NONE, told.offset)
    old.start()
    cluster.wait_ready()
    for node in cluster:
        node.stop()
    cluster.start()
    with raw.Connection(cluster.leader().port) as connection:
        again = connection.produce(frame)
    assert (again.error, again.offset) == (raw.NONE, told.offset)
    assert [value for _, value in kafka_tools.kcat_read(cluster.bootstrap)].count("once") == 1
