"""The Kafka protocol by hand: frames as bytes, so that a test can send what no client library would."""

import socket
import struct
import time

from cluster import CLUSTER_ID, TOPIC

PRODUCE, FETCH, LIST_OFFSETS, METADATA = 0, 1, 2, 3
API_VERSIONS, INIT_PRODUCER_ID = 18, 22
VOTE, BEGIN_QUORUM_EPOCH, END_QUORUM_EPOCH, DESCRIBE_QUORUM = 52, 53, 54, 55

NONE = 0
OFFSET_OUT_OF_RANGE = 1
CORRUPT_MESSAGE = 2
UNKNOWN_TOPIC_OR_PARTITION = 3
NOT_LEADER_OR_FOLLOWER = 6
REQUEST_TIMED_OUT = 7
MESSAGE_TOO_LARGE = 10
INVALID_REQUIRED_ACKS = 21
UNSUPPORTED_VERSION = 35
INVALID_REQUEST = 42
UNSUPPORTED_FOR_MESSAGE_FORMAT = 43
OUT_OF_ORDER_SEQUENCE_NUMBER = 45
INVALID_PRODUCER_EPOCH = 47
KAFKA_STORAGE_ERROR = 56
FENCED_LEADER_EPOCH = 74
UNKNOWN_LEADER_EPOCH = 75
INVALID_RECORD = 87
INCONSISTENT_CLUSTER_ID = 104
INVALID_VOTER_KEY = 125


class Closed(Exception):
    """The server closed the connection."""


# ---------------------------------------------------------------------------------------------------- primitive types

def string(text):
    data = text.encode()
    return struct.pack(">h", len(data)) + data


def nullable_string(text):
    return struct.pack(">h", -1) if text is None else string(text)


def unsigned_varint(value):
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint(value):
    return unsigned_varint((value << 1) ^ (value >> 63))


def compact_string(text):
    return unsigned_varint(0) if text is None else unsigned_varint(len(text.encode()) + 1) + text.encode()


def compact_count(count):
    return unsigned_varint(count + 1)


NO_TAGS = b"\0"
NO_UUID = bytes(16)


class Reader:
    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, count):
        assert count >= 0 and self.at + count <= len(self.data), "the answer is shorter than its fields"
        self.at += count
        return self.data[self.at - count:self.at]

    def number(self, form):
        return struct.unpack(">" + form, self.take(struct.calcsize(">" + form)))[0]

    def string(self):
        length = self.number("h")
        return None if length < 0 else self.take(length).decode()

    def bytes(self):
        length = self.number("i")
        return b"" if length < 0 else self.take(length)

    def unsigned_varint(self):
        value = shift = 0
        while True:
            byte = self.number("B")
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
            shift += 7

    def compact_string(self):
        length = self.unsigned_varint() - 1
        return None if length < 0 else self.take(length).decode()

    def skip_tags(self):
        for _ in range(self.unsigned_varint()):
            self.unsigned_varint()
            self.take(self.unsigned_varint())


# ------------------------------------------------------------------------------------------------------------- batches

def _crc_table():
    table = []
    for byte in range(256):
        for _ in range(8):
            byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
        table.append(byte)
    return table


_CRC_TABLE = _crc_table()


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _CRC_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


def record(offset_delta, value, key=None, timestamp_delta=0):
    body = (b"\0" + varint(timestamp_delta) + varint(offset_delta)
            + (varint(-1) if key is None else varint(len(key)) + key) + varint(len(value)) + value + varint(0))
    return varint(len(body)) + body


def batch(*values, magic=2, crc=None, count=None, last_offset_delta=None, attributes=0, producer_id=-1,
          producer_epoch=-1, base_sequence=-1, offset_deltas=None, length=None, records=None, timestamp_ms=None):
    """A record batch v2; each named field can be set to what it must not be."""
    timestamp_ms = int(time.time() * 1000) if timestamp_ms is None else timestamp_ms
    deltas = offset_deltas or range(len(values))
    body = records if records is not None else b"".join(record(d, v) for d, v in zip(deltas, values))
    checked = struct.pack(">hiqqqhii", attributes, len(values) - 1 if last_offset_delta is None else last_offset_delta,
                          timestamp_ms, timestamp_ms, producer_id, producer_epoch, base_sequence,
                          len(values) if count is None else count) + body
    rest = struct.pack(">ibI", -1, magic, crc32c(checked) if crc is None else crc) + checked
    return struct.pack(">qi", 0, len(rest) if length is None else length) + rest


def message_set(value, magic):
    """One message in the format before batches (magic 0 or 1)."""
    import zlib
    body = struct.pack(">bb", magic, 0) + (struct.pack(">q", 0) if magic else b"")
    body += struct.pack(">i", -1) + struct.pack(">i", len(value)) + value
    return struct.pack(">qi", 0, len(body) + 4) + struct.pack(">I", zlib.crc32(body)) + body


# ------------------------------------------------------------------------------------------------------------ requests

def request(api_key, version, body, correlation_id=1, client_id="raw", flexible=False):
    header = struct.pack(">hhi", api_key, version, correlation_id) + nullable_string(client_id)
    frame = header + (NO_TAGS if flexible else b"") + body
    return struct.pack(">i", len(frame)) + frame


def api_versions(version=0, correlation_id=1):
    if version < 3:
        return request(API_VERSIONS, version, b"", correlation_id)
    return request(API_VERSIONS, version, compact_string("raw") + compact_string("1") + NO_TAGS, correlation_id, flexible=True)


def produce(records, acks=-1, timeout_ms=10000, topic=TOPIC, partition=0, correlation_id=1, version=7):
    body = nullable_string(None) + struct.pack(">hi", acks, timeout_ms)
    body += struct.pack(">i", 1) + string(topic)
    body += struct.pack(">i", 1) + struct.pack(">i", partition) + struct.pack(">i", len(records)) + records
    return request(PRODUCE, version, body, correlation_id)


def fetch(offset, replica_id=-1, max_wait_ms=0, max_bytes=1 << 20, min_bytes=1, leader_epoch=-1, correlation_id=1,
          topic=TOPIC, isolation_level=0):
    """Version 11: the last one that names topics and is not flexible."""
    body = struct.pack(">iiiibii", replica_id, max_wait_ms, min_bytes, max_bytes, isolation_level, 0, -1)
    body += struct.pack(">i", 1) + string(topic) + struct.pack(">i", 1)
    body += struct.pack(">iiqqi", 0, leader_epoch, offset, -1, max_bytes)
    body += struct.pack(">i", 0) + string("")
    return request(FETCH, 11, body, correlation_id)


def list_offsets(timestamp, correlation_id=1, topic=TOPIC):
    body = struct.pack(">ib", -1, 0) + struct.pack(">i", 1) + string(topic)
    body += struct.pack(">i", 1) + struct.pack(">iq", 0, timestamp)
    return request(LIST_OFFSETS, 2, body, correlation_id)


def vote(epoch, candidate, last_epoch, last_offset, cluster_id=CLUSTER_ID, voter_id=-1, pre_vote=False, correlation_id=1,
         candidate_directory=NO_UUID, voter_directory=NO_UUID, topic=TOPIC):
    """Version 2, the one with the pre-vote field."""
    body = compact_string(cluster_id) + struct.pack(">i", voter_id)
    body += compact_count(1) + compact_string(topic) + compact_count(1)
    body += struct.pack(">iii", 0, epoch, candidate) + candidate_directory + voter_directory
    body += struct.pack(">iqb", last_epoch, last_offset, pre_vote) + NO_TAGS + NO_TAGS + NO_TAGS
    return request(VOTE, 2, body, correlation_id, flexible=True)


def begin_quorum_epoch(leader, epoch, cluster_id=CLUSTER_ID, correlation_id=1):
    """Version 0, not flexible."""
    body = nullable_string(cluster_id) + struct.pack(">i", 1) + string(TOPIC)
    body += struct.pack(">iiii", 1, 0, leader, epoch)
    return request(BEGIN_QUORUM_EPOCH, 0, body, correlation_id)


def end_quorum_epoch(leader, epoch, cluster_id=CLUSTER_ID, correlation_id=1):
    """Version 0, not flexible."""
    body = nullable_string(cluster_id) + struct.pack(">i", 1) + string(TOPIC)
    body += struct.pack(">iiii", 1, 0, leader, epoch) + struct.pack(">i", 0)
    return request(END_QUORUM_EPOCH, 0, body, correlation_id)


def init_producer_id(correlation_id=1):
    return request(INIT_PRODUCER_ID, 0, nullable_string(None) + struct.pack(">i", 60000), correlation_id)


# ------------------------------------------------------------------------------------------------------------- answers

class Produced:
    def __init__(self, reader):
        reader.number("i"), reader.string(), reader.number("i"), reader.number("i")
        self.error = reader.number("h")
        self.offset = reader.number("q")


class Fetched:
    def __init__(self, reader):
        reader.number("i")
        self.top_error, self.session_id, topics = reader.number("h"), reader.number("i"), reader.number("i")
        self.error, self.high_watermark, self.records = None, None, b""
        for _ in range(topics):
            reader.string()
            for _ in range(reader.number("i")):
                reader.number("i")
                self.error, self.high_watermark = reader.number("h"), reader.number("q")
                self.last_stable_offset, self.log_start = reader.number("q"), reader.number("q")
                for _ in range(max(0, reader.number("i"))):
                    reader.number("q"), reader.number("q")
                reader.number("i")
                self.records = reader.bytes()


class QuorumAnswer:
    """BeginQuorumEpoch and EndQuorumEpoch, version 0."""

    def __init__(self, reader):
        self.top_error = reader.number("h")
        self.error = self.leader = self.epoch = None
        for _ in range(reader.number("i")):
            reader.string()
            for _ in range(reader.number("i")):
                reader.number("i")
                self.error, self.leader, self.epoch = reader.number("h"), reader.number("i"), reader.number("i")


class VoteAnswer:
    def __init__(self, reader):
        reader.skip_tags()
        self.top_error = reader.number("h")
        self.error = self.granted = self.leader = self.epoch = None
        for _ in range(reader.unsigned_varint() - 1):
            reader.compact_string()
            for _ in range(reader.unsigned_varint() - 1):
                reader.number("i")
                self.error, self.leader, self.epoch = reader.number("h"), reader.number("i"), reader.number("i")
                self.granted = bool(reader.number("b"))


class Connection:
    """One connection to a node. Every wait is bounded."""

    def __init__(self, port, timeout_s=10):
        self.socket = socket.create_connection(("localhost", port), timeout=timeout_s)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def send(self, data):
        try:
            self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def read_exactly(self, count):
        data = bytearray()
        while len(data) < count:
            try:
                part = self.socket.recv(count - len(data))
            except ConnectionResetError as error:
                raise Closed from error
            if not part:
                raise Closed
            data += part
        return bytes(data)

    def receive(self):
        """A Reader after the correlation id, and that id."""
        reader = Reader(self.read_exactly(struct.unpack(">i", self.read_exactly(4))[0]))
        return reader, reader.number("i")

    def call(self, frame):
        self.send(frame)
        return self.receive()[0]

    def produce(self, records, **options):
        return Produced(self.call(produce(records, **options)))

    def fetch(self, offset, **options):
        return Fetched(self.call(fetch(offset, **options)))

    def vote(self, *arguments, **options):
        return VoteAnswer(self.call(vote(*arguments, **options)))

    def list_offsets(self, timestamp):
        """(error, timestamp, offset)"""
        reader = self.call(list_offsets(timestamp))
        reader.number("i"), reader.number("i"), reader.string(), reader.number("i"), reader.number("i")
        return reader.number("h"), reader.number("q"), reader.number("q")

    def is_alive(self):
        """The server still answers on this connection."""
        try:
            reader = self.call(api_versions(0))
        except (Closed, OSError):
            return False
        return reader.number("h") == NONE

    def was_closed(self, within_s=5):
        """The server closes this connection, whatever it may say before."""
        self.socket.settimeout(within_s)
        try:
            while self.socket.recv(65536):
                pass
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False
        return True
