"""kafka-python."""

import time

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.admin import NewTopic

import session


class Client:
    def __init__(self, bootstrap, topic):
        self.bootstrap, self.topic, self.partition = bootstrap, topic, TopicPartition(topic, 0)

    def produce(self, records, compression, idempotent, pace_s):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=idempotent, linger_ms=5,
                                 compression_type=None if compression == "none" else compression,
                                 max_request_size=2 << 20, reconnect_backoff_ms=50, reconnect_backoff_max_ms=500)
        try:
            futures, done = [], 0
            for key, value, headers in records:
                named = [(name.decode(), data) for name, data in headers]
                futures.append(producer.send(self.topic, value, key, headers=named, partition=0))
                time.sleep(pace_s)
                while pace_s and done < len(futures) and futures[done].is_done:
                    yield futures[done].get(0).offset
                    done += 1
            for future in futures[done:]:
                yield future.get(60).offset
        finally:
            producer.close(timeout=5)

    def consumer(self, **more):
        return KafkaConsumer(bootstrap_servers=self.bootstrap, enable_auto_commit=False, fetch_max_wait_ms=100,
                             reconnect_backoff_ms=50, reconnect_backoff_max_ms=500, **more)

    def consume(self, start, ready):
        more = {"group_id": "no-such-group", "auto_offset_reset": "earliest"} if start == "committed" else {}
        consumer = self.consumer(**more)
        try:
            consumer.assign([self.partition])
            if start == "committed":
                pass
            elif start == "beginning":
                consumer.seek_to_beginning(self.partition)
            elif start == "end":
                consumer.seek_to_end(self.partition)
            elif start.startswith("@"):
                consumer.seek(self.partition, consumer.offsets_for_times({self.partition: int(start[1:])})[self.partition].offset)
            else:
                consumer.seek(self.partition, int(start))
            consumer.position(self.partition)
            ready()
            for message in consumer:
                headers = [(name.encode(), value) for name, value in message.headers]
                yield message.offset, message.timestamp, (message.key, message.value, headers)
        finally:
            consumer.close()

    def group(self):
        consumer = self.consumer(group_id="no-such-group", consumer_timeout_ms=20000)
        consumer.subscribe([self.topic])
        try:
            for _ in consumer:
                return
        finally:
            consumer.close()

    def topics(self):
        consumer = self.consumer()
        try:
            return list(consumer.topics())
        finally:
            consumer.close()

    def commit(self):
        consumer = self.consumer(group_id="no-such-group")
        try:
            consumer.assign([self.partition])
            consumer.commit({self.partition: OffsetAndMetadata(1, "", -1)}, timeout_ms=20000)
        finally:
            consumer.close()

    def transaction(self):
        producer = KafkaProducer(bootstrap_servers=self.bootstrap, transactional_id="no-such-transaction", max_block_ms=20000)
        try:
            producer.init_transactions()
        finally:
            producer.close(timeout=1)

    def create(self):
        admin = KafkaAdminClient(bootstrap_servers=self.bootstrap)
        try:
            admin.create_topics([NewTopic("new-topic", 1, 1)], timeout_ms=10000)
        finally:
            admin.close()


session.serve(Client)
