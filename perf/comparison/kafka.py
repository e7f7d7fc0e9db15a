"""Apache Kafka of the version in pom.xml: three brokers, and the test server of its Raft."""

import base64
import re
import shutil
import signal
import uuid

from .processes import Failed, run as run_command, wait_until
from .systems import READY_SECONDS_MAX, System, Unavailable

TOPIC = "perf"
NODES = (1, 2, 3)
JAVA_VERSION_MIN = 17
# Those of Kafka's own start script; the heap of three brokers leaves the page cache most of a small machine.
JVM_OPTIONS = ["-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35",
               "-XX:+ExplicitGCInvokesConcurrent", "-Djava.awt.headless=true"]
BROKER_HEAP = "-Xmx1G"
RAFT_HEAP = "-Xmx512M"
# kraft's defaults, which are Kafka's for voters.
VOTER_TIMEOUTS = {"controller.quorum.fetch.timeout.ms": 2000, "controller.quorum.election.timeout.ms": 1000}
# A broker is found dead after its session, 9 s by default: for a fair race after a kill it has the time of a voter.
SAME_TIMEOUTS = {**VOTER_TIMEOUTS, "broker.session.timeout.ms": 2000, "broker.heartbeat.interval.ms": 500}
# log4j2 properties: `raft` is the level of org.apache.kafka.raft, whose changes of role are read from the log.
LOGGING = """status = error
name = KafkaPerf
appender.out.type = Console
appender.out.name = OUT
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{{UNIX_MILLIS}} %p %m (%c)%n
logger.raft.name = org.apache.kafka.raft
logger.raft.level = {raft}
rootLogger.level = warn
rootLogger.appenderRef.out.ref = OUT
"""


def random_uuid():
    """As Kafka writes them: never beginning with a dash."""
    while (text := base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")).startswith("-"):
        pass
    return text


class Java(System):
    """Nodes in JVMs, configured by a properties file each."""

    needs_warmup = True
    # Its data are removed: a broker need not hand over to others that are being stopped too.
    stop_signal = signal.SIGKILL
    heap = BROKER_HEAP
    raft_log_level = "warn"

    def jvm(self, *arguments):
        classpath = f"{self.run.root / 'build' / 'kafka-libs'}/*"
        return [self.run.java, *JVM_OPTIONS, f"-Dlog4j2.configurationFile={self.directory / 'log4j2.properties'}",
                "-cp", classpath, *arguments]

    def configuration(self, n):
        raise NotImplementedError

    def file(self, n):
        return self.directory / f"node-{n}.properties"

    def write_files(self):
        if not self.run.java:
            raise Unavailable(self.run.java_missing)
        (self.directory / "log4j2.properties").write_text(LOGGING.format(raft=self.raft_log_level))
        for n in NODES:
            (self.directory / f"data-{n}").mkdir(exist_ok=True)
            self.file(n).write_text(self.properties(n))

    def properties(self, n):
        return "".join(f"{key}={value}\n" for key, value in self.configuration(n).items())

    def configure(self, out):
        for n in NODES:
            (out / f"{self.name}-{n}.properties").write_text(self.run.without_paths(self.properties(n)))


class Brokers(Java):
    """Each node is broker and controller in one JVM: with a controller of its own there would be a fourth."""

    topic = TOPIC

    def __init__(self, run, name, settings=None):
        super().__init__(run, name)
        self.settings = settings or {}
        self.cluster_id = random_uuid()

    @property
    def bootstrap(self):
        return ",".join(f"localhost:{self.port(n)}" for n in NODES)

    def configuration(self, n):
        return {
            "process.roles": "broker,controller", "node.id": n,
            "controller.quorum.voters": ",".join(f"{id}@localhost:{self.port(id, of=1)}" for id in NODES),
            "listeners": f"PLAINTEXT://localhost:{self.port(n)},CONTROLLER://localhost:{self.port(n, of=1)}",
            "advertised.listeners": f"PLAINTEXT://localhost:{self.port(n)}",
            "controller.listener.names": "CONTROLLER", "log.dirs": self.directory / f"data-{n}",
            "default.replication.factor": 3, "min.insync.replicas": 2, "num.partitions": 1,
            "offsets.topic.replication.factor": 3, "transaction.state.log.replication.factor": 3,
            **self.settings,
        }

    def start(self):
        self.write_files()
        for n in NODES:
            run_command(self.jvm("-Xmx256M", "kafka.tools.StorageTool", "format", "--cluster-id", self.cluster_id,
                                 "--config", self.file(n)))
            self.start_node(n)
        self.create_topic()

    def start_node(self, n):
        self.spawn(n, self.jvm(self.heap, "kafka.Kafka", self.file(n)))

    def topics(self, *arguments):
        return run_command(self.jvm("-Xmx256M", "org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.bootstrap,
                                    "--topic", TOPIC, *arguments))

    def create_topic(self):
        """As soon as the brokers let it be created, and until all replicas are in sync."""
        def is_created():
            try:
                return self.topics("--create", "--replica-assignment", ":".join(map(str, NODES))) is not None
            except Failed:
                return False
        wait_until("the topic", is_created, READY_SECONDS_MAX, self.processes.values())
        self.wait_until_in_sync()

    def wait_until_in_sync(self):
        def is_in_sync():
            found = re.search(r"Isr: ([\d,]+)", self.topics("--describe"))
            return found and len(found.group(1).split(",")) == len(NODES)
        wait_until("three replicas in sync", is_in_sync, READY_SECONDS_MAX, self.processes.values())

    def leader(self, among=None):
        """By the port that a load of one record found; None while there is no leader."""
        try:
            port = int(self.run.one_record(self)["leader"].rpartition(":")[2])
        except Failed:
            return None
        found = next(n for n in NODES if self.port(n) == port)
        return found if among is None or found in among else None

    def start_again(self, n):
        self.start_node(n)
        self.wait_until_in_sync()


class RaftServers(Java):
    """kafka.tools.TestRaftServer, three voters. It takes no clients: its leader makes its own load."""

    heap = RAFT_HEAP
    raft_log_level = "info"

    def __init__(self, run, name, linger_ms, throughput):
        super().__init__(run, name)
        self.linger_ms, self.throughput = linger_ms, throughput
        self.directory_ids = {n: random_uuid() for n in NODES}

    def configuration(self, n):
        return {
            "node.id": n, "controller.quorum.voters": ",".join(f"{id}@localhost:{self.port(id)}" for id in NODES),
            "listeners": f"CONTROLLER://localhost:{self.port(n)}", "controller.listener.names": "CONTROLLER",
            "log.dirs": self.directory / f"data-{n}", "controller.quorum.append.linger.ms": self.linger_ms,
            **VOTER_TIMEOUTS,
        }

    def start(self):
        self.write_files()
        for n in NODES:
            self.start_node(n)
        wait_until("a leader", self.leader, READY_SECONDS_MAX, self.processes.values())

    def start_node(self, n):
        self.spawn(n, self.jvm(self.heap, "kafka.tools.TestRaftServer", "--config", self.file(n), "--replica-directory-id",
                               self.directory_ids[n], "--throughput", self.throughput, "--record-size", 256))

    def commits_of_new_leaders(self):
        """{(node, epoch): ms since the Unix epoch} of the first commit in each epoch, as its leader wrote it down."""
        found = {}
        for n, process in self.processes.items():
            text = process.log.read_text(errors="replace")
            pattern = r"^(\d+) INFO .*High watermark set to .* for the first time for epoch (\d+) based on"
            for ms, epoch in re.findall(pattern, text, re.M):
                found[n, int(epoch)] = int(ms)
        return found

    def leader(self, among=None):
        """Who committed first in the newest epoch, if it still runs."""
        commits = self.commits_of_new_leaders()
        if not commits:
            return None
        node, _ = max(commits, key=lambda key: key[1])
        return node if self.processes[node].is_alive() and (among is None or node in among) else None

    def start_again(self, n):
        self.start_node(n)

    def own_lines(self):
        """What the leader prints every five seconds: [{"bytes_per_second", "p75_ms", "p99_ms", "p999_ms"}]."""
        pattern = r"Throughput \(bytes/second\): ([\d.]+), Latency \(ms\): ([\d.]+) p75 ([\d.]+) p99 ([\d.]+) p999"
        names = ("bytes_per_second", "p75_ms", "p99_ms", "p999_ms")
        return [dict(zip(names, map(float, line)))
                for process in self.processes.values()
                for line in re.findall(pattern, process.log.read_text(errors="replace"))]


def find_java(root):
    """(java, None), or (None, why not)."""
    java = shutil.which("java")
    if not java:
        return None, f"there is no java ({JAVA_VERSION_MIN} or newer)"
    try:
        run_command([root / "bin" / "fetch-kafka-tools.sh"])
    except Failed as e:
        return None, f"Kafka's jars cannot be fetched: {str(e).splitlines()[-1]}"
    return java, None


def version(root):
    """Of the jars themselves."""
    jar = next((root / "build" / "kafka-libs").glob("kafka_2.13-*.jar"), None)
    return jar.stem.partition("-")[2] if jar else ""
