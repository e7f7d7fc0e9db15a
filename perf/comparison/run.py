"""One run: its options, its directories, what it has seen and what it lacks."""

import dataclasses
import datetime
import json
import pathlib
import os
import shutil
import signal
import subprocess

from . import etcd, kafka, nats
from .processes import Failed, Process, note, run as run_command, said
from .results import GB, MIB, Results, percentiles

ROOT = pathlib.Path(__file__).resolve().parents[2]
# Left free on the disk: a full one is not what is to be measured.
FREE_BYTES_MIN = 2 * GB
# Exit code of kraft-perf: records were refused for good or never answered.
PERF_INCOMPLETE = 2
# Of a load beside another one, from when that is over.
BESIDE_SECONDS_MAX = 60


@dataclasses.dataclass(frozen=True)
class Lengths:
    """How long everything takes."""

    rounds: int
    # Of each load, and what comes before it.
    seconds: float
    warmup: float
    # Load before the first measurement of a server whose code is compiled while it runs.
    jvm_warmup: float
    # At most so much is written by each load of many bytes.
    gb: float
    # Of the log that is read.
    read_gb: float
    device_seconds: float
    idle_seconds: float
    # What TestRaftServer is watched for; it prints a line every five seconds.
    own_line_seconds: float
    kills: int
    # Of the number of records that kafka-producer-perf-test sends in the full run.
    kafka_share: float


FULL = Lengths(rounds=5, seconds=15, warmup=3, jvm_warmup=15, gb=3, read_gb=4, device_seconds=5, idle_seconds=10,
               own_line_seconds=31, kills=2, kafka_share=1)
# The tool's records are not cut: in its first ten seconds it is compiled, beside the servers and on the same cores, and
# every server looks half as fast.
QUICK = Lengths(rounds=1, seconds=3, warmup=1, jvm_warmup=4, gb=0.6, read_gb=1, device_seconds=1, idle_seconds=4,
                own_line_seconds=16, kills=1, kafka_share=1)
# For the tests: all of it works; the figures mean nothing.
TINY = Lengths(rounds=1, seconds=0.3, warmup=0.1, jvm_warmup=0, gb=0.01, read_gb=0.02, device_seconds=0.1, idle_seconds=0.3,
               own_line_seconds=6, kills=1, kafka_share=0.002)


def served_bytes(value):
    """Of the values that were acknowledged at any time of a load, as the servers' CPU time is of all of it."""
    return value["bytes"] * sum(value["records_each_second"]) / value["records"] if value["records"] else 0


class Beside:
    """A kraft-perf that runs by itself for a while."""

    def __init__(self, process, path):
        self.process, self.path = process, path

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.stop(signal.SIGKILL)

    def interrupt(self):
        """It ends, and tells what it has seen."""
        self.process.popen.send_signal(signal.SIGINT)

    def value(self):
        """What it prints as JSON, once it has ended."""
        try:
            code = self.process.popen.wait(BESIDE_SECONDS_MAX)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{self.process.name} did not end within {BESIDE_SECONDS_MAX} s") from e
        if code not in (0, PERF_INCOMPLETE):
            raise Failed(f"{self.process.name} ended with {code}:\n{self.process.end_of_log()}")
        return json.loads(self.path.read_text())


class Run:
    def __init__(self, options, lengths, kind="compare"):
        self.root, self.options, self.lengths = ROOT, options, lengths
        self.bin_dir = pathlib.Path(options.bin_dir or ROOT)
        self.tools_dir = pathlib.Path(options.tools_dir or self.bin_dir)
        self.port_base, self.overrides = options.port_base, options.override
        commit = said(["git", "-C", ROOT, "rev-parse", "--short", "HEAD"]) or "unknown"
        self.commit = commit + ("-dirty" if said(["git", "-C", ROOT, "status", "--porcelain", "-uno"]) else "")
        self.began = datetime.datetime.now().astimezone()
        suffix = "" if kind == "compare" else f"-{kind}"
        default = ROOT / "perf" / "runs" / f"{self.began:%Y%m%d-%H%M}-{self.commit}{suffix}"
        self.out = pathlib.Path(options.out).resolve() if options.out else default
        self.logs, self.raw, self.configurations = (self.out / name for name in ("logs", "raw", "configurations"))
        for directory in (self.logs, self.raw, self.configurations):
            directory.mkdir(parents=True, exist_ok=True)
        self.data = pathlib.Path(options.data_dir).resolve() / f"{kind}-{os.getpid()}"
        self.data.mkdir(parents=True)
        self.results = Results(self.raw)
        self.missing = {}
        self.round = 1
        self.java = self.java_missing = self.etcd = self.etcd_missing = self.nats = self.nats_missing = None

    def find_peers(self, systems):
        """Java with Kafka's jars, etcd and NATS: fetched and built where that is needed."""
        self.java, self.java_missing = kafka.find_java(ROOT) if self.options.java else (None, "left out by --no-java")
        if "etcd" in systems:
            self.etcd, self.etcd_missing = etcd.find_etcd(ROOT)
        if {"nats", "nats-always"} & set(systems):
            self.nats, self.nats_missing = nats.find_nats(ROOT)

    def miss(self, what, why):
        note(f"MISSING {what}: {why}")
        self.missing.setdefault(what, why)

    def binary(self, name):
        return (self.bin_dir if name == "kraft-server" else self.tools_dir) / name

    def without_paths(self, text):
        """Without this machine's paths: the run is kept."""
        text = text.replace(str(self.data), "DATA").replace(f"{ROOT}/", "")
        for path in (self.bin_dir, self.tools_dir):
            text = text.replace(f"{path}/", "").replace(str(path), "BIN")
        return text

    def check_room(self, gb):
        free = shutil.disk_usage(self.data).free
        if free < gb * GB + FREE_BYTES_MIN:
            raise Failed(f"{free / GB:.0f} GB are free, and {gb + FREE_BYTES_MIN / GB:.0f} GB are needed: give --gb or --data-dir")

    def perf(self, *arguments, client=None):
        """kraft-perf, or the client of another system; what it prints as JSON, also where not all was acknowledged."""
        command = [client or self.binary("kraft-perf"), *arguments, "--json", "-"]
        return json.loads(run_command(command, accepted=(0, PERF_INCOMPLETE)))

    def perf_beside(self, name, *arguments):
        """kraft-perf that runs beside what its `with` does."""
        path = self.data / f"{name}-{self.round}.json"
        command = [self.binary("kraft-perf"), *arguments, "--json", path]
        return Beside(Process(name, command, self.logs / f"{name}-{self.round}.log"), path)

    def one_record(self, system):
        return self.perf("--bootstrap-server", system.bootstrap, "--topic", system.topic, "--num-records", 1)

    def save(self, system, work, value):
        return self.results.save(system.name, work, self.round, value)

    def load(self, system, work, *flags, keeps_histogram=False):
        """The client of a system against it; its JSON with the servers' CPU time, kept."""
        command = ["--bootstrap-server", system.bootstrap, "--topic", system.topic, *flags]
        if keeps_histogram:
            path = self.raw / f"{system.name}-{work}-{self.round}"
            command += ["--hgrm", f"{path}.hgrm"]
            # Other clients keep no interval log.
            command += ["--hlog", f"{path}.hlog"] if system.client().name == "kraft-perf" else []
        before = system.cpu_seconds()
        value = self.perf(*command, client=system.client())
        value["server_cpu_seconds"] = system.cpu_seconds() - before
        value["served_bytes"] = served_bytes(value)
        value["command"] = self.without_paths(" ".join(str(part) for part in command))
        return self.keep_load(system, work, value)

    def keep_load(self, system, work, value):
        refused, unanswered = value.get("failed_records", 0), value.get("unanswered_batches", 0)
        if refused or unanswered:
            self.miss(f"{system.name}, {work}, in part", f"{refused} records were refused for good, {unanswered} batches never answered")
        if not value["records"]:
            raise Failed("nothing was acknowledged of what was sent while it was measured")
        self.save(system, work, value)
        latency, errors = value["latency"]["latency"], sum(value["errors"].values())
        note(f"{system.name}, {work}: {value['records_per_second']:,.0f} records/s, {value['bytes_per_second'] / MIB:,.1f} MB/s, "
             f"{percentiles(latency)}" + (f", ERRORS {errors}: {value['errors']}" if errors else ""))
        return value
