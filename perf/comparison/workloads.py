"""The loads: each a function of the run and a system that has been started."""

import json
import re
import time
from concurrent import futures

from .processes import Failed, note, run as run_command
from .results import GB, MIB, percentiles

RECORD_BYTES = 256
# Those of kafka-producer-perf-test in the full run, for about 15 s each on two cores.
KAFKA_RECORDS = {
    100: {"null": 5_000_000, "three": 5_000_000, "kafka": 1_500_000, "kafka-flushed": 500_000},
    1024: {"null": 1_500_000, "three": 1_500_000, "kafka": 300_000, "kafka-flushed": 60_000},
}
KAFKA_RECORDS_MIN = 2000
# As etcd's own benchmark of many clients is described: ten on each connection.
CLIENTS_PER_CONNECTION = 10
# What TestRaftServer with three voters keeps up with, and kraft beside it.
OWN_LINE_RATE = 500
# About as often as a record comes in row 19: a pause of 1 ms between them.
END_TO_END_RATE = 600
OPEN_CLIENTS = 100


def warm(run, system):
    """So that what is measured is compiled code. Not kept."""
    if system.needs_warmup and run.lengths.jvm_warmup:
        run.perf("--bootstrap-server", system.bootstrap, "--topic", system.topic, "--clients", 100, "--record-size", RECORD_BYTES,
                 "--warmup", 0, "--duration", run.lengths.jvm_warmup)


def device(run, system, work):
    show_raw(run.save(system, work, run.perf("device", system.directory, "--duration", run.lengths.device_seconds)))


def device_at_pace(run, system, work):
    """A device that was idle for a moment answers later than one that is kept busy."""
    show_raw(run.save(system, work, run.perf("device", system.directory, "--rate", END_TO_END_RATE, "--duration", run.lengths.device_seconds)))


def loopback(run, system, work):
    show_raw(run.save(system, work, run.perf("loopback", "--size", RECORD_BYTES, "--duration", run.lengths.device_seconds)))


def show_raw(value):
    for case in value["cases"]:
        note(f"{case['name']}: {percentiles(case['latency'])}, {case['per_second']:.0f}/s")


def timed(run):
    return ["--warmup", run.lengths.warmup, "--duration", run.lengths.seconds]


def closed_loop(clients):
    """So many connections, each with one record of 256 B in flight."""
    def load(run, system, work):
        keeps = clients == 1
        if system.name == "etcd":
            return etcd_load(run, system, work, clients, keeps)
        return run.load(system, work, "--clients", clients, "--record-size", RECORD_BYTES, *timed(run), keeps_histogram=keeps)
    return load


def sharing_loop(run, system, work):
    """As many clients as `closed_loop(1000)` has, of which some share a connection."""
    connections = 1000 // CLIENTS_PER_CONNECTION
    return run.load(system, work, "--clients", connections, "--in-flight", CLIENTS_PER_CONNECTION, "--record-size", RECORD_BYTES, *timed(run))


def etcd_load(run, system, work, clients, keeps_histogram):
    command = [run.etcd / "etcd-load", "--endpoints", system.bootstrap, "--clients", clients,
               "--connections", max(clients // CLIENTS_PER_CONNECTION, 1), "--value-bytes", RECORD_BYTES, *timed(run)]
    if keeps_histogram:
        command += ["--hgrm", run.raw / f"{system.name}-{work}-{run.round}.hgrm"]
    before = system.cpu_seconds()
    value = json.loads(run_command(command))
    value["server_cpu_seconds"] = system.cpu_seconds() - before
    value["command"] = run.without_paths(" ".join(str(part) for part in command))
    return run.keep_load(system, work, value)


def bulk(run, system, work, *flags, record_bytes):
    """Many bytes: ends after the time or the volume, whichever comes first."""
    run.check_room(run.lengths.gb * len(system.processes))
    records = int(run.lengths.gb * GB / record_bytes)
    return run.load(system, work, *flags, "--record-size", record_bytes, "--num-records", records, *timed(run))


def sixteen_batches(run, system, work):
    return bulk(run, system, work, "--in-flight", 16, "--records-per-batch", 64, record_bytes=1024)


def mebibyte_batches(run, system, work):
    """Almost 1 MiB, which is what message.max.bytes allows."""
    return bulk(run, system, work, "--in-flight", 8, "--records-per-batch", 16, record_bytes=65_500)


def open_loop(run, system, work):
    """At half of what Kafka unflushed did in its best closed loop, in the first round that measured it."""
    best = [value["records_per_second"] for value in run.results.of("kafka", "1000-connections")]
    rate = run.options.open_rate or (round(best[0] / 2) if best else None)
    if not rate:
        raise Failed("the best rate of Kafka is not known: measure kafka too, or give --open-rate")
    return run.load(system, work, "--rate", rate, "--clients", OPEN_CLIENTS, "--record-size", RECORD_BYTES, *timed(run),
                    keeps_histogram=True)


def own_line(run, system, work):
    """What TestRaftServer prints of its own load; kraft under the same rate, seen by kraft-perf."""
    if not hasattr(system, "own_lines"):
        return run.load(system, work, "--rate", OWN_LINE_RATE, "--record-size", RECORD_BYTES, *timed(run))
    time.sleep(run.lengths.own_line_seconds)
    lines = system.own_lines()
    # The first is of a time in which there was hardly a leader.
    lines = lines[1:] or lines
    if not lines:
        raise Failed(f"no line within {run.lengths.own_line_seconds} s")
    value = run.save(system, work, {"linger_ms": system.linger_ms, "throughput": system.throughput, "lines": lines})
    note(f"{system.name}: {lines[-1]}")
    return value


def kafka_producer(size, producers=1):
    """So many kafka-producer-perf-test at once, with its defaults and acks=all."""
    def load(run, system, work):
        if not run.java:
            raise Failed(run.java_missing)
        records = max(int(KAFKA_RECORDS[size][system.name] * run.lengths.kafka_share), KAFKA_RECORDS_MIN)
        run.check_room(records * size / GB * len(system.processes))
        before = system.cpu_seconds()
        command = [run.root / "bin" / "kafka-producer-perf-test.sh", "--topic", system.topic, "--num-records", records // producers,
                   "--record-size", size, "--throughput", -1, "--bootstrap-server", system.bootstrap, "--command-property", "acks=all"]
        with futures.ThreadPoolExecutor(producers) as pool:
            texts = list(pool.map(lambda _: run_command(command), range(producers)))
        rates = [produced(text) for text in texts]
        # Each counts from its own first record: they overlap but for the time in which they start.
        rate, mib = (sum(parts) for parts in zip(*rates))
        value = {"records": records, "bytes": records * size, "served_bytes": records * size, "records_per_second": rate, "bytes_per_second": mib * MIB,
                 "server_cpu_seconds": system.cpu_seconds() - before, "output": [text.splitlines()[-1] for text in texts]}
        note(f"{system.name}, {work}: {rate:,.0f} records/s, {mib:,.1f} MB/s")
        return run.save(system, work, value)
    return load


def produced(text):
    """(records/s, MB/s) that the tool tells at its end."""
    found = re.findall(r"\d+ records sent, ([\d.,]+) records/sec \(([\d.,]+) MB/sec\)", text)
    if not found:
        raise Failed("no result in its output")
    return tuple(float(part.replace(",", "")) for part in found[-1])


def idle(run, system, work):
    """CPU of each node without any client, in percent of a core."""
    before = {key: process.cpu_seconds() for key, process in system.processes.items()}
    began = time.monotonic()
    time.sleep(run.lengths.idle_seconds)
    elapsed = time.monotonic() - began
    percent = {str(key): 100 * (process.cpu_seconds() - before[key]) / elapsed for key, process in system.processes.items()}
    note(f"{system.name}, idle: " + ", ".join(f"{value:.2f} %" for value in percent.values()))
    return run.save(system, work, {"seconds": elapsed, "cpu_percent": percent})
