"""aiokafka: the contract's calls are made on one event loop that lives as long as the program."""

import asyncio

import aiokafka
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

import session


class Client:
    def __init__(self, bootstrap, topic):
        self.bootstrap, self.topic, self.partition = bootstrap, topic, aiokafka.TopicPartition(topic, 0)
        self.loop = asyncio.new_event_loop()

    def turn(self, awaitable):
        return self.loop.run_until_complete(awaitable)

    def produce(self, records, compression, idempotent, pace_s):
        async def make():
            return aiokafka.AIOKafkaProducer(
                bootstrap_servers=self.bootstrap, acks="all", enable_idempotence=idempotent, linger_ms=5,
                compression_type=None if compression == "none" else compression, max_request_size=2 << 20)

        async def send(key, value, headers):
            named = [(name.decode(), data) for name, data in headers]
            return await producer.send(self.topic, value, key, partition=0, headers=named)

        producer = self.turn(make())
        self.turn(producer.start())
        try:
            futures, done = [], 0
            for record in records:
                futures.append(self.turn(send(*record)))
                if pace_s:
                    self.turn(asyncio.sleep(pace_s))
                    while done < len(futures) and futures[done].done():
                        yield futures[done].result().offset
                        done += 1
            for future in futures[done:]:
                yield self.turn(asyncio.wait_for(future, 60)).offset
        finally:
            self.turn(producer.stop())

    def consumer(self, *topics, **more):
        async def make():
            return aiokafka.AIOKafkaConsumer(*topics, bootstrap_servers=self.bootstrap, enable_auto_commit=False,
                                             fetch_max_wait_ms=100, **more)
        return self.turn(make())

    def consume(self, start, ready):
        more = {"group_id": "no-such-group", "auto_offset_reset": "earliest"} if start == "committed" else {}
        consumer = self.consumer(**more)
        self.turn(consumer.start())
        try:
            self.turn(self.assign(consumer))
            if start == "committed":
                pass
            elif start == "beginning":
                self.turn(consumer.seek_to_beginning(self.partition))
            elif start == "end":
                self.turn(consumer.seek_to_end(self.partition))
            elif start.startswith("@"):
                found = self.turn(consumer.offsets_for_times({self.partition: int(start[1:])}))
                self.turn(self.seek(consumer, found[self.partition].offset))
            else:
                self.turn(self.seek(consumer, int(start)))
            self.turn(consumer.position(self.partition))
            ready()
            while True:
                message = self.turn(consumer.getone())
                headers = [(name.encode(), value) for name, value in message.headers]
                yield message.offset, message.timestamp, (message.key, message.value, headers)
        finally:
            self.turn(consumer.stop())

    async def seek(self, consumer, offset):
        consumer.seek(self.partition, offset)

    async def assign(self, consumer):
        # It wants a running loop, although it waits for nothing.
        consumer.assign([self.partition])

    def group(self):
        consumer = self.consumer(self.topic, group_id="no-such-group")
        try:
            self.turn(asyncio.wait_for(consumer.start(), 20))
            self.turn(asyncio.wait_for(consumer.getone(), 20))
        finally:
            self.turn(consumer.stop())

    def topics(self):
        consumer = self.consumer()
        self.turn(consumer.start())
        try:
            return list(self.turn(consumer.topics()))
        finally:
            self.turn(consumer.stop())

    def commit(self):
        consumer = self.consumer(group_id="no-such-group")
        self.turn(consumer.start())
        try:
            self.turn(self.assign(consumer))
            self.turn(asyncio.wait_for(consumer.commit({self.partition: 1}), 20))
        finally:
            self.turn(consumer.stop())

    def transaction(self):
        async def start():
            producer = aiokafka.AIOKafkaProducer(bootstrap_servers=self.bootstrap, transactional_id="no-such-transaction")
            try:
                await asyncio.wait_for(producer.start(), 20)
            finally:
                await producer.stop()
        self.turn(start())

    def create(self):
        async def create():
            admin = AIOKafkaAdminClient(bootstrap_servers=self.bootstrap)
            await admin.start()
            try:
                return await admin.create_topics([NewTopic("new-topic", 1, 1)])
            finally:
                await admin.close()
        answer = self.turn(create())
        for _, code, text in answer.topic_errors:
            if code:
                raise aiokafka.errors.for_code(code)(text)


session.serve(Client)
