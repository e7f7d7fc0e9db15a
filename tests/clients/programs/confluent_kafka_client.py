"""confluent-kafka: librdkafka, bundled."""

import time

from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

import session


class Client:
    def __init__(self, bootstrap, topic):
        self.topic = topic
        self.settings = {"bootstrap.servers": bootstrap, "reconnect.backoff.ms": 50, "reconnect.backoff.max.ms": 500}

    def produce(self, records, compression, idempotent, pace_s):
        told = [None] * len(records)

        def delivered(n):
            def on_delivery(error, message):
                told[n] = KafkaException(error) if error else message.offset()
            return on_delivery

        producer = Producer({**self.settings, "acks": "all", "linger.ms": 5, "enable.idempotence": idempotent,
                             "compression.type": compression, "message.max.bytes": 2 << 20})
        done = 0
        for n, (key, value, headers) in enumerate(records):
            producer.produce(self.topic, value, key, partition=0, on_delivery=delivered(n),
                             headers=[(name.decode(), data) for name, data in headers])
            producer.poll(pace_s)
            while pace_s and done < n and told[done] is not None:
                yield self.checked(told[done])
                done += 1
        producer.flush(60)
        yield from map(self.checked, told[done:])

    @staticmethod
    def checked(told):
        if isinstance(told, Exception):
            raise told
        assert told is not None, "no answer within 60 s"
        return told

    def consumer(self, **more):
        return Consumer({**self.settings, "group.id": "no-such-group", "enable.auto.commit": False,
                         "fetch.wait.max.ms": 100, **more})

    def consume(self, start, ready):
        if start == "committed":
            consumer = self.consumer(**{"auto.offset.reset": "earliest"})
            consumer.assign([TopicPartition(self.topic, 0)])
        else:
            consumer = self.consumer()
            consumer.assign([TopicPartition(self.topic, 0, self.offset(consumer, start))])
        ready()
        try:
            while True:
                message = consumer.poll(1)
                if message is None:
                    continue
                if message.error():
                    raise KafkaException(message.error())
                headers = [(name.encode(), value) for name, value in message.headers() or []]
                yield message.offset(), message.timestamp()[1], (message.key(), message.value(), headers)
        finally:
            consumer.close()

    def offset(self, consumer, start):
        if start.startswith("@"):
            return consumer.offsets_for_times([TopicPartition(self.topic, 0, int(start[1:]))], timeout=10)[0].offset
        if start in ("beginning", "end"):
            return consumer.get_watermark_offsets(TopicPartition(self.topic, 0), timeout=10)[start == "end"]
        return int(start)

    def group(self):
        errors = []
        consumer = self.consumer(error_cb=errors.append)
        consumer.subscribe([self.topic])
        try:
            deadline = time.monotonic() + 20
            while not errors and time.monotonic() < deadline:
                message = consumer.poll(0.2)
                if message is not None and message.error():
                    errors.append(message.error())
        finally:
            consumer.close()
        if errors:
            raise KafkaException(errors[0])

    def topics(self):
        return list(AdminClient(self.settings).list_topics(timeout=10).topics)

    def commit(self):
        consumer = self.consumer()
        try:
            committed = consumer.commit(offsets=[TopicPartition(self.topic, 0, 1)], asynchronous=False)
            for partition in committed:
                if partition.error:
                    raise KafkaException(partition.error)
        finally:
            consumer.close()

    def transaction(self):
        Producer({**self.settings, "transactional.id": "no-such-transaction"}).init_transactions(20)

    def create(self):
        admin = AdminClient(self.settings)
        for future in admin.create_topics([NewTopic("new-topic", 1, 1)], request_timeout=10).values():
            future.result()


session.serve(Client)
