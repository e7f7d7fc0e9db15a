"""What is loaded: a system is a context that starts servers of its own and ends them, with their data.

Each has `bootstrap` (for Kafka's protocol), `topic`, `processes` and `configure(out)`, which leaves its configuration
among the run's files. `Unavailable` says why a peer cannot be had.
"""

import json
import shutil
import signal

from .processes import Failed, Process, http_get, note, wait_until

READY_SECONDS_MAX = 60
KRAFT_TOPIC = "__cluster_metadata"


class Unavailable(Failed):
    """A peer that cannot be had here, with the reason."""


class System:
    """Servers with data below a directory of their own."""

    topic = KRAFT_TOPIC
    # Loaded before anything is measured: code that is compiled while it runs needs it.
    needs_warmup = False
    stop_signal = signal.SIGTERM

    def client(self):
        """The program that loads it: with kraft-perf's flags, where it is another one."""
        return self.run.binary("kraft-perf")

    def __init__(self, run, name):
        self.run, self.name = run, name
        self.directory = run.data / name
        self.processes = {}

    def start(self):
        raise NotImplementedError

    def configure(self, out):
        """Nothing but its name decides what it does."""

    def __enter__(self):
        self.directory.mkdir(parents=True, exist_ok=True)
        try:
            self.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.stop(self.stop_signal)
        shutil.rmtree(self.directory, ignore_errors=True)

    def spawn(self, key, command, environment=None):
        log = self.run.logs / f"{self.name}-{key}-{self.run.round}.log"
        self.processes[key] = Process(f"{self.name} {key}", command, log, environment)

    def port(self, n, of=0):
        """Of node n; `of` tells several ports of a node apart."""
        return self.run.port_base + 10 * of + n

    def cpu_seconds(self):
        return sum(process.cpu_seconds() for process in self.processes.values() if process.is_alive())

    def rss_bytes(self):
        return {str(key): process.rss_bytes() for key, process in self.processes.items()}


class Nothing(System):
    """For what needs no server: the device and the loopback."""

    def start(self):
        pass


class NullServer(System):
    """Answers at once and stores nothing: the client's own ceiling."""

    @property
    def bootstrap(self):
        return f"127.0.0.1:{self.port(0)}"

    def start(self):
        self.spawn("server", [self.run.binary("kraft-null-server"), "--listen", self.bootstrap])
        process = self.processes["server"]
        wait_until("the null server", lambda: "listening" in process.log.read_text(), 10, [process])


class Kraft(System):
    """One or three voters from the files of config/, on ports and in directories of this run."""

    def __init__(self, run, name, voters, environment=None, settings=()):
        super().__init__(run, name)
        self.ids = [0] if voters == 1 else list(range(1, voters + 1))
        self.environment, self.settings = environment or {}, list(settings)

    @property
    def bootstrap(self):
        return ",".join(f"localhost:{self.port(n)}" for n in self.ids)

    def http_port(self, n):
        return self.port(n, of=1)

    def command(self, n):
        name = "raft.properties" if len(self.ids) == 1 else f"raft-quorum-{n}.properties"
        voters = ",".join(f"{id}@localhost:{self.port(id)}" for id in self.ids)
        overrides = [f"log.dirs={self.directory / f'node-{n}'}", f"listeners=PLAINTEXT://localhost:{self.port(n)}",
                     f"controller.quorum.voters={voters}", f"kraft.http.listener=127.0.0.1:{self.http_port(n)}"]
        command = [self.run.binary("kraft-server"), self.run.root / "config" / name]
        for override in overrides + self.settings + self.run.overrides:
            command += ["--override", override]
        return command

    def start_node(self, n):
        (self.directory / f"node-{n}").mkdir(parents=True, exist_ok=True)
        self.spawn(n, self.command(n), {key: value.format(node=n) for key, value in self.environment.items()})

    def start(self):
        for n in self.ids:
            self.start_node(n)
        self.wait_until_ready()

    def wait_until_ready(self):
        is_ready = lambda: all(http_get(self.http_port(n), "/ready") is not None for n in self.ids)
        wait_until("a leader known everywhere", is_ready, READY_SECONDS_MAX, self.processes.values())

    def status(self, n):
        text = http_get(self.http_port(n), "/status")
        return json.loads(text) if text else {}

    def gauge(self, n, name):
        """Of `/metrics`; None where the node does not answer, or has none of this name."""
        text = http_get(self.http_port(n), "/metrics") or ""
        found = (line.split() for line in text.splitlines())
        return next((float(words[1]) for words in found if len(words) == 2 and words[0] == name), None)

    def leader(self, among=None):
        """The node that calls itself leader, or None."""
        return next((n for n in among or self.ids if self.status(n).get("role") == "leader"), None)

    def start_again(self, n):
        self.start_node(n)
        self.wait_until_ready()

    def configure(self, out):
        for n in self.ids:
            text = self.run.without_paths(" ".join(str(part) for part in self.command(n)))
            (out / f"{self.name}-{n}.command").write_text(text + "\n")


def try_to_open(system):
    """The system, started; or None, with the reason among what is missing."""
    try:
        return system.__enter__()
    except Unavailable as e:
        system.run.miss(system.name, e.first_line())
    except Failed as e:
        note(str(e))
        system.run.miss(system.name, e.first_line())
    return None
