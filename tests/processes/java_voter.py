"""Kafka's own Raft test server (kafka.tools.TestRaftServer) as a node of a cluster, and clusters of both kinds."""

import base64
import os
import re
import struct
import subprocess
from itertools import zip_longest
from pathlib import Path

import raw
from cluster import CLUSTER_ID, REPOSITORY, Cluster, Node, die_with_parent, free_port, wait_for

JAVA_TOPIC = "__raft_performance_test"
JAVA_TOPIC_ID = "AAAAAAAAAAAAAAAAAAAAAg"
KAFKA_LIBS = REPOSITORY / "build" / "kafka-libs"
POM = (REPOSITORY / "pom.xml").read_text()
# The oldest whose voters speak today's Vote, and so keep their directory ids.
OLDEST_KAFKA = re.search("<kafka.oldest>(.*)</kafka.oldest>", POM)[1]
NEWEST_KAFKA = re.search("<kafka.newest>(.*)</kafka.newest>", POM)[1]
FETCH_SECONDS_MAX = 300
# A JVM start takes seconds, more on a busy machine.
JAVA_PATIENCE_S = 60
SEGMENT_KEY = "metadata.log.segment.bytes"
SEGMENT_BYTES = 64 << 20
# Kafka takes no smaller one.
SEGMENT_BYTES_MIN = 8 << 20
HEADER = struct.Struct(">qiibIhiqqqhii")
FETCH_VERSION = 17

LOG4J = """
status = error
appender.console.type = Console
appender.console.name = STDERR
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = [%d] %p %m (%c)%n
rootLogger.level = WARN
rootLogger.appenderRef.0.ref = STDERR
logger.raft.name = org.apache.kafka.raft
logger.raft.level = INFO
# It prints a stack trace for each UpdateRaftVoter, which this test server of Kafka's does not serve.
logger.handler.name = kafka.tools.TestRaftRequestHandler
logger.handler.level = OFF
"""


def kafka_libs(version):
    """The directory of Kafka's jars of this version, fetched where they are missing. RuntimeError: they cannot be had."""
    fetched = subprocess.run(["bin/fetch-kafka-tools.sh", "--version", version], cwd=REPOSITORY, stdin=subprocess.DEVNULL,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=FETCH_SECONDS_MAX)
    if fetched.returncode:
        raise RuntimeError(f"Kafka {version} cannot be fetched:\n{fetched.stdout[-2000:]}")
    other = KAFKA_LIBS.with_name(f"{KAFKA_LIBS.name}-{version}")
    return KAFKA_LIBS if (KAFKA_LIBS / f"kafka_2.13-{version}.jar").exists() else other


def uuid_bytes(text):
    return base64.urlsafe_b64decode(text + "==")


def directory_id_of(node_id):
    """Any fixed id; a voter is known by it as long as its directory lives."""
    return base64.urlsafe_b64encode(b"directory of" + struct.pack(">i", node_id)).decode().rstrip("=")


class Standing:
    """What a node says of leader and epoch, in the answer to a Fetch of version 17."""

    def __init__(self, reader):
        reader.skip_tags()
        reader.number("i")
        self.top_error, _ = reader.number("h"), reader.number("i")
        self.error = self.high_watermark = self.leader = self.epoch = None
        for _ in range(reader.unsigned_varint() - 1):
            reader.take(16)
            for _ in range(reader.unsigned_varint() - 1):
                reader.number("i")
                self.error, self.high_watermark = reader.number("h"), reader.number("q")
                reader.take(16)
                for _ in range(reader.unsigned_varint() - 1):
                    reader.take(16), reader.skip_tags()
                reader.number("i")
                self.records = reader.take(max(0, reader.unsigned_varint() - 1))
                self._tags(reader)
            reader.skip_tags()

    def _tags(self, reader):
        for _ in range(reader.unsigned_varint()):
            tag, tagged = reader.unsigned_varint(), raw.Reader(reader.take(reader.unsigned_varint()))
            if tag == 1:
                self.leader, self.epoch = tagged.number("i"), tagged.number("i")


def replica_fetch(offset, epoch, last_epoch, cluster_id=CLUSTER_ID, topic_id=JAVA_TOPIC_ID, replica_id=-1,
                  max_wait_ms=0, version=FETCH_VERSION, directory=raw.NO_UUID):
    """A Fetch as voters send it. Replica id -1 reads as an observer that nobody counts."""
    body = struct.pack(">iiibii", max_wait_ms, 0, 1 << 20, 0, 0, -1)
    body += raw.compact_count(1) + uuid_bytes(topic_id) + raw.compact_count(1)
    body += struct.pack(">iiqiqi", 0, epoch, offset, last_epoch, -1, 0)
    tagged = raw.unsigned_varint(1) + b"\0" + raw.unsigned_varint(16) + directory
    body += tagged + raw.NO_TAGS + raw.compact_count(0) + raw.compact_string("")
    cluster = raw.compact_string(cluster_id)
    replica = struct.pack(">iq", replica_id, -1) + raw.NO_TAGS
    tags = [(0, cluster), (1, replica)]
    body += raw.unsigned_varint(len(tags)) + b"".join(
        raw.unsigned_varint(tag) + raw.unsigned_varint(len(data)) + data for tag, data in tags)
    return raw.request(raw.FETCH, version, body, flexible=True)


def standing(port, timeout_s=1, epoch=0):
    """The node's view of the quorum, or None where nothing answers."""
    try:
        with raw.Connection(port, timeout_s) as connection:
            return Standing(connection.call(replica_fetch(0, epoch, 0)))
    except (OSError, raw.Closed):
        return None


class JavaVoter(Node):
    """One TestRaftServer. As leader it appends records of its own; up to Kafka 4.0 it takes no notice of rate and size, and
    appends 5 MB a second."""

    def __init__(self, node_id, directory, properties, throughput=200, record_size=48, libs=KAFKA_LIBS):
        super().__init__(node_id, directory, properties)
        self.partition_dir = self.data_dir / f"{JAVA_TOPIC}-0"
        self.throughput, self.record_size, self.libs = throughput, record_size, libs
        self.directory_id = directory_id_of(node_id)
        self.log4j_file = directory / "log4j2.properties"
        self.log4j_file.write_text(LOG4J)

    def start(self, *more_arguments):
        assert self.process is None or self.process.poll() is not None, f"node {self.node_id} runs already"
        java = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if "JAVA_HOME" in os.environ else "java"
        with open(self.stderr_file, "ab") as err, open(self.stdout_file, "ab") as out:
            self.process = subprocess.Popen(
                [str(java), "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto",
                 f"-Dlog4j2.configurationFile={self.log4j_file}", "-cp", f"{self.libs}/*", "kafka.tools.TestRaftServer",
                 "--config", str(self.config_file), "--throughput", str(self.throughput),
                 "--record-size", str(self.record_size),
                 "--replica-directory-id", self.directory_id, *more_arguments],
                stdin=subprocess.DEVNULL, stdout=out, stderr=err, preexec_fn=die_with_parent)
        return self

    def status_now(self):
        """The part of our /status that a Fetch can ask for."""
        said = standing(self.port)
        if said is None or said.epoch is None:
            return None
        role = "leader" if said.leader == self.node_id else "follower" if said.leader >= 0 else "unattached"
        return {"role": role, "epoch": said.epoch, "leader_id": said.leader if said.leader >= 0 else None}

    def status(self):
        return wait_for(f"Kafka's node {self.node_id} to answer", self.status_now, JAVA_PATIENCE_S)

    def is_ready(self):
        return self.status_now() is not None

    def wait_ready(self, timeout_s=JAVA_PATIENCE_S):
        return super().wait_ready(timeout_s)

    def faults(self):
        """Lines of its log that no healthy quorum causes. A leader that nobody could follow in time, because its only
        successor was behind or stood still, says so at its end: `_hand_over` deals with that."""
        lines = [line for line in self.stderr().splitlines() if re.search(r"\] (ERROR|FATAL) |^Exception|Encountered fatal", line)]
        return [line for line in lines if "Graceful shutdown of RaftClient failed" not in line]


class MixedCluster(Cluster):
    """Voters of one static quorum; ids in `java` are TestRaftServers, the others are ours."""

    def __init__(self, root, kinds, overrides=None, java_options=None, segment_bytes=SEGMENT_BYTES, timeouts=None):
        """`kinds` is a string such as "jjr": node 1 and 2 are Java's, node 3 is ours. Timeouts are Kafka's own unless told."""
        self.root = Path(root)
        ports = {n: free_port() for n in range(1, len(kinds) + 1)}
        voters = ",".join(f"{n}@localhost:{port}" for n, port in ports.items())
        self.nodes = {}
        for n, kind in enumerate(kinds, 1):
            directory = self.root / f"node-{n}"
            properties = {**self._identity(n, ports[n], voters, "controller"), "log.dirs": str(directory / "data")}
            properties |= {SEGMENT_KEY: str(segment_bytes), **(timeouts or {})}
            if kind == "j":
                self.nodes[n] = JavaVoter(n, directory, properties, **(java_options or {}))
            else:
                self.nodes[n] = interop_node(n, directory, properties, overrides)

    @property
    def ours(self):
        return [node for node in self if not isinstance(node, JavaVoter)]

    @property
    def javas(self):
        return [node for node in self if isinstance(node, JavaVoter)]


def interop_node(node_id, directory, properties, overrides=None):
    node = Node(node_id, directory, {
        SEGMENT_KEY: str(SEGMENT_BYTES),
        **properties,
        "kraft.http.listener": f"127.0.0.1:{free_port()}",
        "kraft.topic.name": JAVA_TOPIC,
        "kraft.topic.id": JAVA_TOPIC_ID,
        "kraft.cluster.id": CLUSTER_ID,
        "kraft.data.mode": "interop",
        **(overrides or {}),
    })
    node.partition_dir = node.data_dir / f"{JAVA_TOPIC}-0"
    return node


# ------------------------------------------------------------------------------------------------------- files on disk

class Batch:
    def __init__(self, data, at):
        (self.base, length, self.epoch, self.magic, self.crc, self.attributes, self.last_delta, self.base_timestamp,
         self.max_timestamp, self.producer_id, _, _, self.count) = HEADER.unpack_from(data, at)
        self.size = length + 12
        self.data = bytes(data[at:at + self.size])

    @property
    def next_offset(self):
        return self.base + self.last_delta + 1

    def values(self):
        """[(offset, value)] of an uncompressed data batch."""
        reader = raw.Reader(self.data[HEADER.size:])
        found = []
        for _ in range(self.count):
            size = zigzag(reader)
            record = raw.Reader(reader.take(size))
            record.number("b"), zigzag(record)
            offset = self.base + zigzag(record)
            record.take(max(0, zigzag(record)))
            found.append((offset, record.take(max(0, zigzag(record)))))
        return found


def zigzag(reader):
    value = reader.unsigned_varint()
    return value >> 1 ^ -(value & 1)


def batches_on_disk(partition_dir, segments_max=None):
    """All whole batches of a log directory, or of its last segments, in order; ends at zeros or at a batch that is cut."""
    segments = sorted(Path(partition_dir).glob("*.log"))
    for segment in segments[-segments_max:] if segments_max else segments:
        data, at = segment.read_bytes(), 0
        while at + HEADER.size <= len(data):
            length = struct.unpack_from(">i", data, at + 8)[0]
            if length < HEADER.size - 12 or at + 12 + length > len(data):
                break
            yield Batch(data, at)
            at += 12 + length


def committed_batches(node, high_watermark):
    return (batch.data for batch in batches_on_disk(node.partition_dir) if batch.next_offset <= high_watermark)


def check_logs_equal(nodes, high_watermark):
    """Byte-equal up to the high watermark, which each of them reaches."""
    first, *others = nodes
    assert any(committed_batches(first, high_watermark)), "there is nothing to compare"
    for other in others:
        pairs = zip_longest(committed_batches(first, high_watermark), committed_batches(other, high_watermark))
        for number, (one, another) in enumerate(pairs):
            assert one == another, f"nodes {first.node_id} and {other.node_id} part at their batch {number}: {one!r:.200} and {another!r:.200}"


def wait_leader(cluster, among=None, timeout_s=JAVA_PATIENCE_S):
    """A node of `among` that leads the highest epoch."""
    def found():
        leader = cluster.leader_now()
        return leader if leader and (among is None or leader in among) else None
    return wait_for("a leader" + (f" among {[n.node_id for n in among]}" if among else ""), found, timeout_s, every_s=0.05)
