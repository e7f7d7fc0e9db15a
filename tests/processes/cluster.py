"""Real server processes for the tests: free ports, directories of their own, and an end to everything started."""

import contextlib
import ctypes
import http.client
import itertools
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
RELEASE_DIR = Path(os.environ.get("KRAFT_RELEASE_DIR")
                   or Path(os.environ.get("CARGO_TARGET_DIR") or REPOSITORY / "target") / "release")
SERVER = RELEASE_DIR / "kraft-server"
# The load driver, and what reads a node's files: bin/test.sh has them from the build of its unit tests.
TOOLS_DIR = Path(os.environ.get("KRAFT_TOOLS_DIR") or RELEASE_DIR)
TOPIC = "__cluster_metadata"
CLUSTER_ID = "AAAAAAAAAAAAAAAAAAAAAA"
# Slow machines under load; none of the tests that bound a time use it.
PATIENCE_S = 30
# So long a node waits for a new status before it shows the last one, which is older then (src/server/control.rs).
FRESH_STATUS_WAIT_MS = 200

_libc = ctypes.CDLL(None, use_errno=True)
# Each with a socket whose name tells other runs on this machine; the kernel frees it with the process.
_ports_given = {}


def die_with_parent():
    """In the child: a test run that is killed leaves no server behind."""
    PR_SET_PDEATHSIG = 1
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def take(port):
    """Marks a port for this run of tests until it ends, also while nobody listens there; False where another run has it."""
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0kraft-test-port-{port}")
    except OSError:
        mark.close()
        return False
    _ports_given[port] = mark
    return True


def free_port(more=0):
    """A port on which nobody listens, below the range from which the kernel gives ports to outgoing connections; with so many
    behind it that are free too."""
    for _ in range(1000):
        first = random.randrange(20000, 32000 - more)
        ports = range(first, first + more + 1)
        if _ports_given.keys().isdisjoint(ports) and all(map(is_free, ports)) and all(map(take, ports)):
            return first
    raise RuntimeError("no free port between 20000 and 32000")


def is_free(port):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def wait_for(what, condition, timeout_s=PATIENCE_S, every_s=0.02):
    """The first true value of condition(), or a failure that says what was waited for. The last look begins after the deadline:
    a machine that gave this process no time meanwhile has shown nothing."""
    deadline = time.monotonic() + timeout_s
    while True:
        is_last = time.monotonic() > deadline
        value = condition()
        if value:
            return value
        if is_last:
            raise AssertionError(f"not within {timeout_s} s: {what}")
        time.sleep(every_s)


class Node:
    """One server: its configuration file, its directory, and its process while there is one."""

    def __init__(self, node_id, directory, properties, arguments=()):
        self.node_id = node_id
        self.directory = directory
        self.properties = dict(properties)
        self.arguments = list(arguments)
        self.data_dir = Path(self.properties["log.dirs"])
        self.partition_dir = self.data_dir / f"{TOPIC}-0"
        self.config_file = directory / "server.properties"
        self.stderr_file = directory / "stderr.log"
        self.stdout_file = directory / "stdout.log"
        self.process = None
        # Characters on stderr before the last start; None where they go elsewhere.
        self._said_before = None
        directory.mkdir(parents=True, exist_ok=True)
        self.data_dir.mkdir(parents=True, exist_ok=True)
        self.write_config()

    @property
    def port(self):
        return int(self.properties["listeners"].rsplit(":", 1)[1])

    @property
    def http_port(self):
        return int(self.properties["kraft.http.listener"].rsplit(":", 1)[1])

    @property
    def pid(self):
        return self.process.pid

    def write_config(self):
        self.config_file.write_text("".join(f"{key}={value}\n" for key, value in self.properties.items()))

    def start(self, *more_arguments, stdout=None, stderr=None, under=()):
        """Output goes to files unless a descriptor is given for it; `under` is a command that runs the server."""
        assert self.process is None or self.process.poll() is not None, f"node {self.node_id} runs already"
        assert SERVER.exists(), f"{SERVER} is missing: cargo build --release"
        self._said_before = len(self.stderr()) if stderr is None else None
        with open(self.stderr_file, "ab") as err, open(self.stdout_file, "ab") as out:
            self.process = subprocess.Popen(
                [*map(str, under), str(SERVER), str(self.config_file), *self.arguments, *more_arguments],
                stdin=subprocess.DEVNULL, stdout=out if stdout is None else stdout, stderr=err if stderr is None else stderr,
                preexec_fn=die_with_parent)
        return self

    def signal(self, which):
        self.process.send_signal(which)

    def pause(self):
        self.signal(signal.SIGSTOP)
        # The signal is asynchronous: a thread that is in the kernel stops when it leaves it.
        wait_for("all threads of the process to stop", lambda: self._states() == {"T"})

    def resume(self):
        self.signal(signal.SIGCONT)

    def _states(self):
        """Of all threads but the kernel's own workers for its rings, which may end at any time."""
        states = set()
        for task in Path(f"/proc/{self.pid}/task").iterdir():
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                name, rest = (task / "stat").read_text().split("(", 1)[1].rsplit(")", 1)
                if not name.startswith("iou-"):
                    states.add(rest.split()[0])
        return states

    def kill(self):
        """As a power cut would for this process: nothing of it runs afterwards."""
        self.signal(signal.SIGKILL)
        self.process.wait(PATIENCE_S)

    def stop(self):
        """SIGTERM; returns the exit code."""
        self.signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_S)

    def wait_exit(self, timeout_s=PATIENCE_S):
        return self.process.wait(timeout_s)

    def is_running(self):
        return self.process is not None and self.process.poll() is None

    def end(self):
        if self.is_running():
            with contextlib.suppress(ProcessLookupError):
                self.process.kill()
            self.process.wait(PATIENCE_S)

    def stderr(self):
        return self.stderr_file.read_text(errors="replace") if self.stderr_file.exists() else ""

    def stdout(self):
        return self.stdout_file.read_text(errors="replace") if self.stdout_file.exists() else ""

    def wait_line(self, *patterns, since=0, timeout_s=PATIENCE_S):
        """The first line on stderr that has all of these, behind so many characters. A thread of its own writes what a node
        says, so that it may come after the effect that it tells of; only at the end of the process nothing is left to come."""
        def line():
            said = self.stderr()[since:].rpartition("\n")[0].splitlines()
            return next((line for line in said if all(re.search(pattern, line) for pattern in patterns)), None)
        return wait_for(f"a line of node {self.node_id} with {patterns}", line, timeout_s)

    def http_now(self, path, timeout_s=2):
        """(status, body), or None where nothing answers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=timeout_s)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def http(self, path):
        """(status, body), as soon as a node that may still be on its way up answers."""
        return wait_for(f"node {self.node_id} to answer {path}", lambda: self._or_death(lambda: self.http_now(path)))

    def _or_death(self, condition):
        assert self.is_running(), f"node {self.node_id} does not run, exit code {self.process.poll()}:\n{self.stderr()[-3000:]}"
        return condition()

    def status_now(self):
        """None where nothing answers, or only what was so before it was asked: a core that is busy is not waited for long."""
        answer = self.http_now("/status")
        if not answer or answer[0] != 200:
            return None
        status = json.loads(answer[1])
        return status if status["status_age_ms"] < FRESH_STATUS_WAIT_MS else None

    def status(self):
        return wait_for(f"a status of node {self.node_id}", lambda: self._or_death(self.status_now))

    def is_ready(self):
        answer = self.http_now("/ready")
        return bool(answer) and answer[0] == 200

    def wait_ready(self, timeout_s=PATIENCE_S):
        """Ready, and all that it had to say about its start is said."""
        wait_for(f"node {self.node_id} to be ready", lambda: self._or_death(self.is_ready), timeout_s)
        if self._said_before is not None:
            self.wait_line("ready: listening on", since=self._said_before)
        return self

    def segments(self):
        return sorted(self.partition_dir.glob("*.log"))

    def rss_bytes(self):
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("no VmRSS")


# Three times Kafka's own: a machine that gives a node no time for two seconds costs no election, which most tests would take for
# a fault. Who kills a node waits for none of it, as the others are refused at once; who stops one waits so long.
STEADY = {"controller.quorum.fetch.timeout.ms": 6000}
# Kafka's own. An election may come at any time, if a machine is busy enough.
KAFKAS_TIMEOUTS = {"controller.quorum.fetch.timeout.ms": 2000}


class Cluster:
    """Nodes that are voters of one quorum. Ids start at 1."""

    def __init__(self, root, size, overrides=None, arguments=(), dialect="seed"):
        self.root = Path(root)
        ids = range(1, size + 1)
        ports = {n: free_port() for n in ids}
        voters = ",".join(f"{n}@localhost:{ports[n]}" for n in ids)
        self.nodes = {}
        for n in ids:
            directory = self.root / f"node-{n}"
            self.nodes[n] = Node(n, directory, {
                **self._identity(n, ports[n], voters, dialect),
                "log.dirs": str(directory / "data"),
                "kraft.http.listener": f"127.0.0.1:{free_port()}",
                "metadata.log.segment.bytes": str(64 << 20),
                # What a test holds against a node's size would have more of it in it.
                "kraft.read.cache.bytes": str(8 << 20),
                **STEADY,
                **(overrides or {}),
            }, arguments)

    @staticmethod
    def _identity(node_id, port, voters, dialect):
        if dialect == "seed":
            return {"broker.id": node_id, "listeners": f"PLAINTEXT://localhost:{port}", "quorum.voters": voters}
        return {"process.roles": "controller", "node.id": node_id, "listeners": f"CONTROLLER://localhost:{port}",
                "controller.listener.names": "CONTROLLER", "controller.quorum.voters": voters}

    def __iter__(self):
        return iter(self.nodes.values())

    def __getitem__(self, node_id):
        return self.nodes[node_id]

    @property
    def bootstrap(self):
        return ",".join(f"localhost:{node.port}" for node in self)

    def start(self):
        for node in self:
            node.start()
        return self.wait_ready()

    def wait_ready(self):
        for node in self:
            if node.is_running():
                node.wait_ready()
        return self

    def statuses(self):
        return {node.node_id: status for node in self if node.is_running() and (status := node.status_now())}

    def leader_now(self):
        """The node that says it leads, in the highest epoch that any node knows; None while there is none."""
        statuses = self.statuses()
        leaders = [(s["epoch"], n) for n, s in statuses.items() if s["role"].lower() == "leader"]
        if not leaders:
            return None
        epoch, node_id = max(leaders)
        return self.nodes[node_id] if epoch == max(s["epoch"] for s in statuses.values()) else None

    def leader(self, timeout_s=PATIENCE_S):
        return wait_for("a leader", self.leader_now, timeout_s)

    def followers(self):
        leader = self.leader()
        return [node for node in self if node is not leader and node.is_running()]

    @contextlib.contextmanager
    def followers_paused(self):
        """The leader is alone for a while: nothing commits. It is given, for it may not lead any more at the end."""
        leader, followers = self.leader(), self.followers()
        for follower in followers:
            follower.pause()
        try:
            yield leader
        finally:
            for follower in followers:
                follower.resume()

    def epoch(self):
        """The highest that a node knows."""
        return wait_for("an epoch", lambda: max((s["epoch"] for s in self.statuses().values()), default=None))

    def wait_caught_up(self, timeout_s=PATIENCE_S):
        """Every running node has flushed what the leader holds, and knows that all of it is committed."""
        def same_everywhere():
            running = [node for node in self if node.is_running()]
            statuses = [node.status_now() for node in running]
            if not all(statuses):
                return False
            ends = {s[key] for s in statuses for key in ("high_watermark", "log_end_offset", "flushed_offset")}
            return len(ends) == 1 and len({s["epoch"] for s in statuses}) == 1
        wait_for("all nodes to hold the same log", same_everywhere, timeout_s)

    def end(self):
        for node in self:
            node.end()

    def logs(self):
        parts = []
        for node in self:
            for kind, text in (("stderr", node.stderr()), ("stdout", node.stdout())):
                if text:
                    parts.append((f"node {node.node_id} {kind}", text[-6000:]))
        return parts


class Clusters:
    """Makes clusters below one directory, and ends them all."""

    def __init__(self, root):
        self.root = Path(root)
        self.made = []
        self._number = itertools.count()

    def __call__(self, size=3, start=True, **options):
        cluster = Cluster(self.root / f"cluster-{next(self._number)}", size, **options)
        self.made.append(cluster)
        return cluster.start() if start else cluster

    def end(self):
        for cluster in self.made:
            cluster.end()

    def remove(self):
        shutil.rmtree(self.root, ignore_errors=True)
