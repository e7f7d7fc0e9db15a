"""Kafka's protocol as bytes that are built once: what a client library would not send, or not so often."""

import struct
import time

TOPIC = "__cluster_metadata"
PRODUCE, FETCH, LIST_OFFSETS, METADATA, API_VERSIONS, DESCRIBE_CONFIGS = 0, 1, 2, 3, 18, 32
TOPIC_RESOURCE = 2
MIB = 1 << 20


def string(text):
    return struct.pack(">h", len(text)) + text.encode()


def request(api_key, version, body, correlation_id=1):
    frame = struct.pack(">hhi", api_key, version, correlation_id) + string("hostile") + body
    return struct.pack(">i", len(frame)) + frame


def names(count):
    """Eight letters each, all different, none of them a topic."""
    return [f"n{number:07}" for number in range(count)]


def api_versions():
    return request(API_VERSIONS, 0, b"")


def metadata(topics):
    """`topics` None: of all that there are."""
    if topics is None:
        return request(METADATA, 1, struct.pack(">i", -1))
    return request(METADATA, 1, struct.pack(">i", len(topics)) + b"".join(map(string, topics)))


def describe_configs(topics):
    """All keys of each, with their synonyms."""
    resources = b"".join(bytes([TOPIC_RESOURCE]) + string(topic) + struct.pack(">i", -1) for topic in topics)
    return request(DESCRIBE_CONFIGS, 1, struct.pack(">i", len(topics)) + resources + b"\1")


def list_offsets(timestamp, partitions):
    body = struct.pack(">ib", -1, 0) + struct.pack(">i", 1) + string(TOPIC) + struct.pack(">i", partitions)
    return request(LIST_OFFSETS, 2, body + b"".join(struct.pack(">iq", partition, timestamp) for partition in range(partitions)))


def fetch(offset, max_bytes, min_bytes=1, max_wait_ms=0):
    body = struct.pack(">iiiibii", -1, max_wait_ms, min_bytes, max_bytes, 0, 0, -1)
    body += struct.pack(">i", 1) + string(TOPIC) + struct.pack(">i", 1) + struct.pack(">iiqqi", 0, -1, offset, -1, max_bytes)
    return request(FETCH, 11, body + struct.pack(">i", 0) + string(""))


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


def produce_first_of(producer_id):
    """The first batch of an idempotent producer: one empty record."""
    now_ms = int(time.time() * 1000)
    # Length 6, no attributes, deltas of 0, no key, an empty value, no headers.
    record = b"\x0c\0\0\0\x01\0\0"
    checked = struct.pack(">hiqqqhii", 0, 0, now_ms, now_ms, producer_id, 0, 0, 1) + record
    rest = struct.pack(">ibI", -1, 2, crc32c(checked)) + checked
    batch = struct.pack(">qi", 0, len(rest)) + rest
    body = struct.pack(">hhi", -1, -1, 10_000) + struct.pack(">i", 1) + string(TOPIC)
    return request(PRODUCE, 7, body + struct.pack(">iii", 1, 0, len(batch)) + batch)


def answer(data):
    """What stands behind the length and the correlation id of the one answer in `data`."""
    return data[8:4 + struct.unpack(">i", data[:4])[0]]


def offset_in(answer):
    """Of ListOffsets' answer for one partition."""
    return struct.unpack(">q", answer[-8:])[0]
