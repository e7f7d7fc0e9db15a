"""Makes tests/fixtures/directories/NAME: directories as today's program leaves them, for all later versions to start from.

    cargo build --release && build/venv/bin/python tests/processes/make_directories.py NAME

Four kinds: `stopped` in good order; `killed` with kill -9; `interop`, stopped; `quorum`, three voters with closed segments, a change of leaders, and a
deposed leader's tail that no other voter has. Beside each `expected.json`: what was acknowledged, and what must not be served.
test_formats.py starts them.
"""

import gzip
import json
import os
import shutil
import sys
import tempfile
from pathlib import Path

import formats
import raw
from cluster import REPOSITORY, TOPIC, Cluster, wait_for

DIRECTORIES = REPOSITORY / "tests" / "fixtures" / "directories"
# Small files, so that a fixture is small: what is ahead of the writer, and what makes a segment full.
SMALL = {"kraft.zero.ahead.bytes": 64 << 10, "message.max.bytes": 16 << 10, "kraft.index.interval.bytes": 4096}
ROLLS = {**SMALL, "metadata.log.segment.bytes": 64 << 10}
INTEROP = {**SMALL, "kraft.data.mode": "interop"}
# The mark of a node that is killed lags behind its log.
LATE_MARK = {**SMALL, "kraft.commit.mark.idle.ms": 3_600_000}
# Larger files are kept compressed: they are zeros, or repeat themselves.
PLAIN_BYTES_MAX = 1024
# Of any time: batches of two runs differ in nothing but what the server stamps.
TIME_MS = 1_790_000_000_000


class Writer:
    """Produces to whoever leads, and remembers what was acknowledged."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.acknowledged = []

    def send(self, *values, records=None, attributes=0, count=None, producer=(-1, -1, -1), acks=-1, node=None):
        records = raw.batch(*values, records=records, attributes=attributes, count=count, producer_id=producer[0],
                            producer_epoch=producer[1], base_sequence=producer[2], timestamp_ms=TIME_MS + len(self.acknowledged),
                            last_offset_delta=None if count is None else count - 1)
        with raw.Connection((node or self.cluster.leader()).port) as connection:
            produced = connection.produce(records, acks=acks)
        assert produced.error == raw.NONE, produced.error
        if acks == -1:
            self.acknowledged.append(produced.offset)
        return produced.offset

    def of_producers(self, epoch=0, sequence=0):
        """Seven batches of one, in an epoch of its own, two of another, in turn; of the first the last five are remembered."""
        for n in range(7):
            self.send(b"first-%d" % n, producer=(4711, epoch, n))
            if n < 2:
                self.send(*(b"second-%d-%d" % (n, m) for m in range(3)), producer=(4712, 3, sequence + 3 * n))

    def of_all_sorts(self):
        """What only a native log takes: keys, no values, headers, compressed batches, times of their own."""
        null_value = b"\0" + raw.varint(0) + raw.varint(1) + raw.varint(1) + b"k" + raw.varint(-1) + raw.varint(0)
        header = b"\0" + raw.varint(7) + raw.varint(2) + raw.varint(-1) + raw.varint(1) + b"v" + raw.varint(1) \
            + raw.varint(1) + b"h" + raw.varint(1) + b"x"
        records = raw.record(0, b"value", key=b"key") + raw.varint(len(null_value)) + null_value + raw.varint(len(header)) + header
        self.send(records=records, count=3)
        plain = b"".join(raw.record(n, b"compressed " * 20) for n in range(5))
        self.send(records=gzip.compress(plain, mtime=0), attributes=1, count=5)


def keep(cluster, to, **expected):
    """Copies the directories of nodes that do not run, and what is expected of them."""
    shutil.rmtree(to, ignore_errors=True)
    for node in cluster:
        for path in sorted(path for path in node.data_dir.rglob("*") if path.is_file()):
            if path.name == ".lock" or path.suffix == ".hlog":
                continue
            copy = to / f"node-{node.node_id}" / path.relative_to(node.data_dir)
            copy.parent.mkdir(parents=True, exist_ok=True)
            data = path.read_bytes()
            if len(data) <= PLAIN_BYTES_MAX:
                copy.write_bytes(data)
            else:
                copy.with_name(copy.name + ".gz").write_bytes(gzip.compress(data, mtime=0))
    (to / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")


def told(batches):
    return [[batch.base_offset, batch.epoch, batch.count, batch.crc] for batch in batches]


def made(root, size, overrides):
    return Cluster(root, size, overrides=overrides, dialect="controller").start()


def make_one(root, to, overrides, is_killed=False):
    cluster = made(root, 1, overrides)
    writer, node = Writer(cluster), cluster[1]
    if "kraft.data.mode" not in overrides:
        writer.of_all_sorts()
    writer.of_producers()
    # A restart begins an epoch.
    assert node.stop() == 0
    node.start().wait_ready()
    writer.send(b"after a restart", producer=(4712, 3, 6))
    writer.send(b"the last one")
    if is_killed:
        node.kill()
    else:
        assert node.stop() == 0
    log = formats.check_directory(node.data_dir, node.partition_dir)
    assert set(writer.acknowledged) <= {batch.base_offset for batch in log}
    keep(cluster, to, mode=overrides.get("kraft.data.mode", "native"), log_end=log[-1].next_offset, batches=told(log), deposed=[])


def make_quorum(root, to):
    cluster = made(root, 3, ROLLS)
    writer = Writer(cluster)
    writer.of_all_sorts()
    writer.of_producers()
    fill(writer, 20)
    cluster.wait_caught_up()
    deposed = cluster.leader()
    others = [node for node in cluster if node is not deposed]
    for node in others:
        node.kill()
    # Nobody else has it, and it was acknowledged to who wanted no more.
    lost = writer.send(b"of a deposed leader", acks=1, node=deposed)
    deposed.kill()
    for node in others:
        node.start()
    wait_for("another leader", lambda: cluster.leader_now() in others)
    writer.of_producers(epoch=1, sequence=6)
    fill(writer, 10)
    for node in others:
        wait_for("a summary of each closed segment", lambda: all(s.with_suffix(".summary").exists() for s in node.segments()[:-1]))
    wait_for("both to hold the same log", lambda: len({(s["high_watermark"], s["flushed_offset"]) for s in cluster.statuses().values()}) == 1)
    others[0].kill()
    others[1].kill()
    logs = {node.node_id: formats.check_directory(node.data_dir, node.partition_dir) for node in cluster}
    log = logs[others[0].node_id]
    assert len(others[0].segments()) >= 3 and told(log) == told(logs[others[1].node_id])
    tail = [batch for batch in logs[deposed.node_id] if batch.base_offset >= lost]
    assert tail and set(writer.acknowledged) <= {batch.base_offset for batch in log}
    keep(cluster, to, mode="native", log_end=log[-1].next_offset, batches=told(log), deposed=told(tail))


def fill(writer, batches):
    for n in range(batches):
        writer.send(*(bytes([65 + n % 26]) * 1000 for _ in range(5)))


def make(name):
    for kind, overrides in (("stopped", SMALL), ("killed", LATE_MARK), ("interop", INTEROP), ("quorum", None)):
        # On a disk, as in the tests.
        with tempfile.TemporaryDirectory(dir=REPOSITORY / "build") as root:
            to = DIRECTORIES / name / kind
            if kind == "quorum":
                make_quorum(Path(root), to)
            else:
                make_one(Path(root), to, overrides, is_killed=kind == "killed")
            files = [path for path in to.rglob("*") if path.is_file()]
            print(f"{to.relative_to(REPOSITORY)}: {len(files)} files, {sum(path.stat().st_size for path in files)} bytes")


if __name__ == "__main__":
    if len(sys.argv) != 2 or os.sep in sys.argv[1]:
        sys.exit(__doc__)
    make(sys.argv[1])
