"""The connections of one attacker: one thread, epoll, and bytes that were built beforehand.

The attacker shares its cores with what it attacks. So the same bytes are sent again and again, and of an answer nothing
is looked at but its length.
"""

import dataclasses
import errno
import heapq
import itertools
import select
import socket
import struct
import time

ALL, NOTHING, A_BYTE = "all", "nothing", "a byte"
# Whom the server closes comes again, but is no flood of connections by that.
REOPEN_SECONDS = 0.1
BYTE_EACH_SECONDS = 0.5
RECEIVE_BYTES = 1 << 18
# So that who reads nothing has little room for what he does not read; the kernel doubles it.
SMALL_BUFFER_BYTES = 4096
POLL_SECONDS = 0.2
IP_BIND_ADDRESS_NO_PORT = 24


@dataclasses.dataclass(frozen=True)
class Plan:
    """What one connection does."""

    # All that it has under way at once; each frame of it has `frame_bytes`.
    block: bytes = b""
    frame_bytes: int = 0
    takes: str = ALL
    # One more for each answer.
    again: bool = True
    # It leaves after so many answers, and the next one comes at once.
    answers: int | None = None
    # The same after so long.
    seconds: float | None = None


def asking(frame, in_flight=1, **more):
    return Plan(frame * in_flight, len(frame), **more)


def once(block, **more):
    return Plan(block, len(block), again=False, **more)


class Connection:
    def __init__(self, address, plan, source):
        self.plan, self.view = plan, memoryview(plan.block)
        self.sent, self.asked = 0, len(plan.block)
        self.answers, self.left, self.head = 0, 0, b""
        self.mask = 0
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        self.socket.setblocking(False)
        if plan.takes != ALL:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER_BYTES)
        if source:
            self.socket.setsockopt(socket.SOL_IP, IP_BIND_ADDRESS_NO_PORT, 1)
            self.socket.bind((source, 0))
        error = self.socket.connect_ex(address)
        if error not in (0, errno.EINPROGRESS):
            self.socket.close()
            raise OSError(error, "connect")

    def wanted_mask(self):
        return (select.EPOLLRDHUP | (select.EPOLLIN if self.plan.takes == ALL else 0)
                | (select.EPOLLOUT if self.sent < self.asked else 0))

    def send(self):
        """As much as the kernel takes. How many bytes that were."""
        before = self.sent
        try:
            while self.sent < self.asked:
                at = self.sent % self.plan.frame_bytes
                self.sent += self.socket.send(self.view[at:at + self.asked - self.sent])
        except BlockingIOError:
            pass
        return self.sent - before

    def count_answers(self, data):
        """How many answers end in `data`."""
        at, ended = 0, 0
        while at < len(data):
            if self.left:
                part = min(self.left, len(data) - at)
                self.left, at = self.left - part, at + part
            else:
                part = data[at:at + 4 - len(self.head)]
                self.head, at = self.head + bytes(part), at + len(part)
                if len(self.head) < 4:
                    break
                self.left, self.head = struct.unpack(">i", self.head)[0], b""
            ended += not self.left
        return ended

    def on_answers(self, count):
        self.answers += count
        if self.plan.again:
            self.asked += count * self.plan.frame_bytes

    def has_done(self):
        return self.plan.answers is not None and self.answers >= self.plan.answers


class Crowd:
    """`slots`: for each connection that is held at a time an iterator of what one after the other does there."""

    def __init__(self, port, slots, varies_source=False):
        self.address, self.slots = ("127.0.0.1", port), []
        # A port of an address that was closed is not free for a minute. The loopback has more addresses.
        self.sources = (f"127.1.{n // 250 % 250}.{n % 250 + 1}" for n in itertools.count()) if varies_source else itertools.repeat(None)
        self.epoll = select.epoll()
        self.connections = {}
        self.to_open, self.to_leave = [], []
        self.buffer = memoryview(bytearray(RECEIVE_BYTES))
        self.counts = dict.fromkeys(("opened", "closed_by_server", "not_opened", "answers", "bytes_sent", "bytes_read"), 0)
        self.byte_due = 0.0
        self.add(slots)

    def add(self, slots):
        for slot in slots:
            self.slots.append(slot)
            self.open_later(len(self.slots) - 1, 0)

    def run(self, stop_fd):
        """Until the other end of `stop_fd` is closed."""
        self.epoll.register(stop_fd, select.EPOLLIN | select.EPOLLHUP)
        takes_bytes = False
        while True:
            self.leave_due()
            takes_bytes = self.open_due() or takes_bytes
            for fd, events in self.epoll.poll(self.patience(takes_bytes)):
                if fd == stop_fd:
                    return
                self.on_event(fd, events)
            if takes_bytes:
                self.take_bytes()

    def patience(self, takes_bytes):
        now = time.monotonic()
        until = [POLL_SECONDS] + [due - now for due, *_ in self.to_open[:1] + self.to_leave[:1]] + ([self.byte_due - now] if takes_bytes else [])
        return max(0.0, min(until))

    def open_due(self):
        """Whether any of those who were opened takes single bytes."""
        takes_bytes = False
        while self.to_open and self.to_open[0][0] <= time.monotonic():
            _, slot = heapq.heappop(self.to_open)
            try:
                connection = Connection(self.address, next(self.slots[slot]), next(self.sources))
            except OSError:
                self.counts["not_opened"] += 1
                self.open_later(slot, REOPEN_SECONDS)
                continue
            self.counts["opened"] += 1
            takes_bytes |= connection.plan.takes == A_BYTE
            self.connections[connection.socket.fileno()] = (connection, slot)
            if connection.plan.seconds is not None:
                heapq.heappush(self.to_leave, (time.monotonic() + connection.plan.seconds, self.counts["opened"], connection))
            connection.mask = connection.wanted_mask()
            self.epoll.register(connection.socket, connection.mask)
        return takes_bytes

    def leave_due(self):
        while self.to_leave and self.to_leave[0][0] <= time.monotonic():
            _, _, connection = heapq.heappop(self.to_leave)
            fd = connection.socket.fileno()
            # Closed before that it has no descriptor.
            if fd in self.connections:
                self.close(fd, 0)

    def open_later(self, slot, seconds):
        heapq.heappush(self.to_open, (time.monotonic() + seconds, slot))

    def on_event(self, fd, events):
        connection, slot = self.connections[fd]
        try:
            if events & select.EPOLLIN:
                self.read(connection)
            elif events & (select.EPOLLRDHUP | select.EPOLLHUP | select.EPOLLERR):
                raise ConnectionResetError
            self.counts["bytes_sent"] += connection.send()
        except BlockingIOError:
            return
        except OSError:
            self.counts["closed_by_server"] += 1
            return self.close(fd, REOPEN_SECONDS)
        if connection.has_done():
            return self.close(fd, 0)
        if connection.mask != (mask := connection.wanted_mask()):
            connection.mask = mask
            self.epoll.modify(fd, mask)

    def read(self, connection):
        count = connection.socket.recv_into(self.buffer)
        if not count:
            raise ConnectionResetError
        ended = connection.count_answers(self.buffer[:count])
        connection.on_answers(ended)
        self.counts["bytes_read"] += count
        self.counts["answers"] += ended

    def close(self, fd, reopen_seconds):
        connection, slot = self.connections.pop(fd)
        self.epoll.unregister(fd)
        connection.socket.close()
        self.open_later(slot, reopen_seconds)

    def take_bytes(self):
        if time.monotonic() < self.byte_due:
            return
        self.byte_due = time.monotonic() + BYTE_EACH_SECONDS
        for connection, _ in self.connections.values():
            if connection.plan.takes == A_BYTE:
                try:
                    self.counts["bytes_read"] += len(connection.socket.recv(1))
                except OSError:
                    # Nothing there yet, or closed: epoll tells that.
                    pass

    def end(self):
        for connection, _ in self.connections.values():
            connection.socket.close()
        self.connections.clear()
