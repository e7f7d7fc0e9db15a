"""A healthy producer without attackers, beside them, and what they leave behind."""

import json
import pathlib
import subprocess
import sys
import time

from comparison.processes import Failed, Process, note, wait_until
from comparison.results import MIB
from comparison.systems import Kraft

from .attackers import NEED_A_LOG

PERF = pathlib.Path(__file__).resolve().parents[1]
RECORD_BYTES = 256
# Of the producer, before anything counts: it has found the leader by then.
WARMUP_SECONDS = 1
# What is due is sent so much later at most, and then counts as failed.
LATE_SECONDS_MAX = 30
# kraft-perf waits for its last answers.
DRAIN_SECONDS_MAX = 60
READY_SECONDS_MAX = 60
# For what a cold reader asks: nothing of it is in the log's cache any more.
LOG_MIB = 300
GIVEN_BACK_BYTES = 64 * MIB
# Longer than is promised, so that the time is told.
WATCHED_SECONDS = 30
ALL_AT_ONCE = "all at once"


class Attacker(Process):
    """Built and ready when this returns."""

    def __init__(self, run, name, port, log):
        # A log of an earlier stretch would say "ready" too.
        log.unlink(missing_ok=True)
        super().__init__(f"attacker {name}", [sys.executable, "-m", "hostile", name, port, run.options.nice], log,
                         {"PYTHONPATH": str(PERF)}, subprocess.PIPE)
        self.attack = name

    def is_ready(self):
        return "ready" in self.log.read_text()

    def go(self):
        self.tell(b"go\n")

    def leave(self):
        """What it did; all its connections are closed when this returns."""
        self.popen.stdin.close()
        try:
            self.popen.wait(LATE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not leave within {LATE_SECONDS_MAX} s") from None
        if self.stop() != 0:
            raise Failed(f"{self.name} failed. The end of its log:\n{self.end_of_log()}")
        return json.loads(self.log.read_text().splitlines()[-1])

    def tell(self, data):
        try:
            self.popen.stdin.write(data)
            self.popen.stdin.flush()
        except BrokenPipeError:
            raise Failed(f"{self.name} stopped by itself. The end of its log:\n{self.end_of_log()}") from None


class Producer(Process):
    """An open loop: each record is due at its time, and its latency counts from then. All of them are sent, late ones too."""

    def __init__(self, run, system, work):
        self.file = run.raw / f"{work}.json"
        self.due = round(run.options.rate * run.options.seconds)
        longest = run.options.seconds + LATE_SECONDS_MAX
        super().__init__("the producer", [
            run.binary("kraft-perf"), "--bootstrap-server", system.bootstrap, "--rate", run.options.rate, "--record-size", RECORD_BYTES,
            "--idempotent", "--warmup", WARMUP_SECONDS, "--num-records", self.due, "--duration", longest, "--json", self.file],
            run.logs / f"{work}-producer.log")

    def figures(self):
        """Waits for its end. No latency where nothing was answered at all."""
        try:
            self.popen.wait(self.due + LATE_SECONDS_MAX + DRAIN_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            note(f"{self.name} did not end")
        self.stop()
        value = json.loads(self.file.read_text()) if self.file.exists() else {"records": 0}
        latency, service = (value["latency"][stage] if value["records"] else {} for stage in ("latency", "service"))
        return {"p50_us": latency.get("p50"), "p99_us": latency.get("p99"), "max_us": latency.get("max"),
                "service_p99_us": service.get("p99"), "due": self.due,
                "failed": max(self.due - value["records"], value.get("failed_records", 0)), "retries": value.get("retries", 0),
                "errors": value.get("errors", {}), "seconds": value.get("seconds")}


class Device(Process):
    """One durable write of 4 KiB for each record that is due, measured as a record is: what no server can be faster than, at that time."""

    def __init__(self, run, work, seconds):
        self.file = run.raw / f"{work}-device.json"
        # A stretch that is repeated must not find an older one's.
        self.file.unlink(missing_ok=True)
        super().__init__("the device", [run.binary("kraft-perf"), "device", run.data, "--rate", run.options.rate, "--duration", seconds,
                                        "--json", self.file], run.logs / f"{work}-device.log")

    def figures(self):
        try:
            self.popen.wait(LATE_SECONDS_MAX)
        except subprocess.TimeoutExpired:
            raise Failed(f"{self.name} did not end within {LATE_SECONDS_MAX} s") from None
        if self.stop() != 0:
            raise Failed(f"{self.name} failed. The end of its log:\n{self.end_of_log()}")
        latency = json.loads(self.file.read_text())["cases"][0]["latency"]
        return {f"{key}_us": latency[key] for key in ("p50", "p99", "max")}


class Quorum(Kraft):
    """Three voters, watched from outside."""

    def __init__(self, run):
        super().__init__(run, "quorum", 3)

    def living(self):
        return {n: process for n, process in self.processes.items() if process.is_alive()}

    def ended(self):
        return sorted(set(self.processes) - set(self.living()))

    def epoch(self):
        """The newest that a living node knows; all of them answer when they can."""
        told = lambda: [status["epoch"] for n in self.living() if (status := self.status(n))]
        return max(wait_until("a node's status", told, READY_SECONDS_MAX))

    def leading_node(self):
        return wait_until("a leader", self.leader, READY_SECONDS_MAX, self.processes.values())

    def cache_bytes(self, n):
        """What a node keeps for readers while the host has memory: not of what is promised, and given back in another way."""
        return int(self.gauge(n, "kraft_read_cache_bytes") or 0)

    def rss_each(self):
        return {n: process.rss_bytes() - self.cache_bytes(n) for n, process in self.living().items()}

    def rss_peak_bytes(self):
        """Without the cache as it is now: smaller than it was at the peak, if anything."""
        return max((process.rss_peak_bytes() - self.cache_bytes(n) for n, process in self.living().items()), default=None)

    def forget_rss_peaks(self):
        for process in self.living().values():
            process.forget_rss_peak()

    def connections_each(self):
        """None for who does not answer."""
        return {n: self.status(n).get("connections") for n in self.living()}

    def cpu_each(self):
        return {n: process.cpu_seconds() for n, process in self.living().items()}

    def has_given_back(self, rss, connections):
        """What it had before the attack."""
        return (all(now <= rss[n] + GIVEN_BACK_BYTES for n, now in self.rss_each().items())
                and all(now is not None and now <= connections[n] for n, now in self.connections_each().items()))

    def seconds_until_given_back(self, rss, connections):
        """None: not while it was watched."""
        began = time.monotonic()
        while not self.has_given_back(rss, connections):
            if time.monotonic() - began > WATCHED_SECONDS:
                return None
            time.sleep(0.05)
        return time.monotonic() - began


def fill(run, system):
    run.check_room(LOG_MIB * len(system.processes) / 953)
    run.perf("--bootstrap-server", system.bootstrap, "--record-size", 1024, "--records-per-batch", 256, "--in-flight", 4,
             "--num-records", LOG_MIB * 1024)


class Measurement:
    """One quorum for all rows, as long as it is sound."""

    def __init__(self, run, attacks):
        self.run = run
        self.needs_a_log = bool(NEED_A_LOG.intersection(attacks))
        self.quorum = None
        self.rows = []

    def end(self):
        if self.quorum:
            self.quorum.__exit__()
        self.quorum = None

    def open_quorum(self):
        if not self.quorum:
            self.quorum = Quorum(self.run).__enter__()
            if self.needs_a_log:
                fill(self.run, self.quorum)
        return self.quorum

    def measure(self, name, attacks):
        """The row of `attacks` at once; kept, also where the quorum did badly."""
        work = name.replace(" ", "-")
        quorum = self.open_quorum()
        row = {"name": name, "quiet": self.quiet(work)}
        if self.run.options.control:
            row["control"] = self.beside_a_bystander(work, attacks)
        self.attack(row, work, attacks)
        self.rows.append(row)
        if quorum.ended() or row["given_back_seconds"] is None:
            note("the quorum is replaced by a new one")
            self.end()
        return row

    def quiet(self, work):
        work = f"{work}-quiet"
        producer, device = Producer(self.run, self.quorum, work), Device(self.run, work, self.run.options.seconds + WARMUP_SECONDS)
        figures = producer.figures() | {"device": device.figures()}
        if figures["p99_us"] is None:
            raise Failed("nothing was acknowledged of a producer without any attacker")
        return figures

    def beside_a_bystander(self, work, attacks):
        """The same attackers, aimed at a node of its own: what their company on the same cores costs by itself."""
        with Kraft(self.run, "bystander", 1) as bystander:
            if NEED_A_LOG.intersection(attacks):
                fill(self.run, bystander)
            figures = self.stretch(f"{work}-control", attacks, bystander.port(0))
            figures["bystander_ended"] = not bystander.processes[0].is_alive()
            return figures

    def attack(self, row, work, attacks):
        quorum = self.quorum
        leader, epoch = quorum.leading_node(), quorum.epoch()
        rss, connections = quorum.rss_each(), quorum.connections_each()
        quorum.forget_rss_peaks()
        row["beside"] = self.stretch(work, attacks, quorum.port(leader))
        row["given_back_seconds"] = quorum.seconds_until_given_back(rss, connections)
        row |= {"leader": leader, "rss_before_bytes": rss, "rss_peak_bytes": quorum.rss_peak_bytes(), "rss_after_bytes": quorum.rss_each(),
                "ended": quorum.ended(), "epochs": quorum.epoch() - epoch if quorum.living() else None}

    def stretch(self, work, attacks, port):
        """The producer beside attackers, which begin when it is measured and have left when this returns."""
        attackers = [Attacker(self.run, name, port, self.run.logs / f"{work}-{name}.log") for name in attacks]
        for attacker in attackers:
            wait_until(f"{attacker.name} to be ready", attacker.is_ready, READY_SECONDS_MAX, [attacker])
        producer = Producer(self.run, self.quorum, work)
        time.sleep(WARMUP_SECONDS)
        device = Device(self.run, work, self.run.options.seconds)
        began, cpu = time.monotonic(), self.quorum.cpu_each()
        for attacker in attackers:
            attacker.go()
        figures = producer.figures()
        seconds, cpu_now = time.monotonic() - began, self.quorum.cpu_each()
        figures["device"] = device.figures()
        figures["nodes_cores"] = {n: (now - cpu[n]) / seconds for n, now in cpu_now.items()}
        figures["attackers"] = {attacker.attack: attacker.leave() for attacker in attackers}
        used = list(figures["attackers"].values())
        figures["attackers_cores"] = sum(did["cpu_seconds"] / did["seconds"] for did in used)
        # What they would have used, had the cores been theirs: with less than half of it the attack was weaker than it looks.
        figures["attackers_cores_wanted"] = sum((did["cpu_seconds"] + did["waited_seconds"]) / did["seconds"] for did in used)
        return figures
