"""A leader of which only the lies are real: it answers ApiVersions and Fetch, and sends the batches that it is given."""

import contextlib
import socket
import struct
import threading

import raw
from java_voter import FETCH_VERSION, uuid_bytes

API_VERSIONS_SERVED = [(raw.FETCH, 0, FETCH_VERSION), (raw.API_VERSIONS, 0, 4), (raw.VOTE, 0, 1), (raw.BEGIN_QUORUM_EPOCH, 0, 1)]


class ScriptedLeader:
    """Listens on `port` as voter `node_id`; each Fetch gets what `batches` has for its offset."""

    def __init__(self, port, node_id, epoch, topic_id, batches):
        self.node_id, self.epoch, self.topic_id, self.batches = node_id, epoch, topic_id, dict(batches)
        self.listener = socket.create_server(("localhost", port))
        self.connections = []
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for one in (self.listener, *self.connections):
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def lead(self, follower_port, topic):
        """Tells a voter, and keeps telling it for as long as it takes to hear."""
        with raw.Connection(follower_port) as connection:
            return raw.QuorumAnswer(connection.call(raw.begin_quorum_epoch(self.node_id, self.epoch, topic=topic)))

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection):
        with contextlib.suppress(OSError, EOFError), connection.makefile("rb") as stream:
            while True:
                frame = raw.Reader(self._exactly(stream, struct.unpack(">i", self._exactly(stream, 4))[0]))
                api_key, _version, correlation_id = frame.number("h"), frame.number("h"), frame.number("i")
                if api_key == raw.API_VERSIONS:
                    answer = self._api_versions()
                elif api_key == raw.FETCH:
                    answer = raw.NO_TAGS + self._fetched(frame)
                else:
                    return connection.close()
                answer = struct.pack(">i", correlation_id) + answer
                connection.sendall(struct.pack(">i", len(answer)) + answer)

    @staticmethod
    def _exactly(stream, count):
        data = stream.read(count)
        if len(data) < count:
            raise EOFError
        return data

    def _api_versions(self):
        keys = b"".join(struct.pack(">hhh", *served) + raw.NO_TAGS for served in API_VERSIONS_SERVED)
        return struct.pack(">h", raw.NONE) + raw.compact_count(len(API_VERSIONS_SERVED)) + keys + struct.pack(">i", 0) + raw.NO_TAGS

    def _fetched(self, frame):
        frame.string(), frame.skip_tags()
        # Wait, sizes, isolation, session, one topic with one partition, and its current epoch.
        frame.take(4 + 4 + 4 + 1 + 4 + 4), frame.unsigned_varint(), frame.take(16), frame.unsigned_varint(), frame.take(8)
        records = self.batches.get(frame.number("q"), b"")
        body = struct.pack(">ihi", 0, raw.NONE, 0) + raw.compact_count(1) + uuid_bytes(self.topic_id) + raw.compact_count(1)
        body += struct.pack(">ihqqq", 0, raw.NONE, 0, 0, 0) + raw.unsigned_varint(0) + struct.pack(">i", -1)
        body += raw.compact_count(len(records)) + records
        leader = struct.pack(">ii", self.node_id, self.epoch) + raw.NO_TAGS
        body += raw.unsigned_varint(1) + raw.unsigned_varint(1) + raw.unsigned_varint(len(leader)) + leader
        return body + raw.NO_TAGS + raw.NO_TAGS


def stamped(batch, base_offset, epoch):
    """As a leader stores it: offset and epoch lie outside of the CRC."""
    return struct.pack(">q", base_offset) + batch[8:12] + struct.pack(">i", epoch) + batch[16:]
