"""A consumer that reads one partition as fast as it can and looks at nothing but where each batch ends: Fetch 4, by hand."""

import socket
import struct
import time

from .processes import Failed

FETCH_BYTES_MAX = 8 << 20
WAIT_MS = 500
TIMEOUT_SECONDS = 30
# Of a record batch: base offset, length, and behind ten bytes more the last offset delta.
BATCH_START = struct.Struct(">qi")
LENGTH_FROM = 12
LAST_OFFSET_DELTA_AT = 23


class Reader:
    def __init__(self, port, topic):
        self.socket = socket.create_connection(("localhost", port), TIMEOUT_SECONDS)
        self.topic = topic.encode()
        self.buffer = bytearray(FETCH_BYTES_MAX + (2 << 20))

    def close(self):
        self.socket.close()

    def fetch(self, offset):
        """Bytes of records from `offset` on, and the offset behind them."""
        name = struct.pack(">h", len(self.topic)) + self.topic
        body = struct.pack(">iiiib", -1, WAIT_MS, 1, FETCH_BYTES_MAX, 0) + struct.pack(">i", 1) + name
        body += struct.pack(">iiqi", 1, 0, offset, FETCH_BYTES_MAX)
        request = struct.pack(">hhih", 1, 4, 1, -1) + body
        self.socket.sendall(struct.pack(">i", len(request)) + request)
        frame = self.receive(struct.unpack(">i", self.receive(4))[0])
        # Correlation id, throttle time, one topic with its name, one partition with its index.
        at = 4 + 4 + 4 + 2 + len(self.topic) + 4 + 4
        error, _, _, aborted, size = struct.unpack_from(">hqqii", frame, at)
        if error or aborted > 0:
            raise Failed(f"a Fetch at offset {offset} is answered with the error {error}")
        return size, end_of(frame[at + 26:at + 26 + size], offset)

    def receive(self, size):
        if size > len(self.buffer):
            raise Failed(f"a Fetch of {FETCH_BYTES_MAX} bytes is answered with {size}")
        view, got = memoryview(self.buffer)[:size], 0
        while got < size:
            received = self.socket.recv_into(view[got:])
            if not received:
                raise Failed("the connection was closed while it was read from")
            got += received
        return view


def end_of(records, offset):
    """Offset behind the last whole batch."""
    at = 0
    while at + LAST_OFFSET_DELTA_AT + 4 <= len(records):
        base, length = BATCH_START.unpack_from(records, at)
        if at + LENGTH_FROM + length > len(records):
            break
        offset = base + struct.unpack_from(">i", records, at + LAST_OFFSET_DELTA_AT)[0] + 1
        at += LENGTH_FROM + length
    return offset


def bytes_per_second(port, topic, start, end, seconds, again=False):
    """From `start` to `end`, for so many seconds at most; `again`: back to `start` each time that the end is reached."""
    reader = Reader(port, topic)
    try:
        began, offset, total = time.monotonic(), start, 0
        while time.monotonic() - began < seconds:
            if offset >= end:
                if not again:
                    break
                offset = start
            size, following = reader.fetch(offset)
            if following <= offset:
                raise Failed(f"nothing is read at offset {offset} of {end}")
            offset, total = following, total + size
        return total / (time.monotonic() - began)
    finally:
        reader.close()
