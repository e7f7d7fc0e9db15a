"""A follower that was away catches up while the leader is loaded: how fast, and what the leader's clients feel of it."""

import signal
import time

from .processes import Failed, note, wait_until
from .results import GB, MIB
from .systems import READY_SECONDS_MAX

RECORD_BYTES, BATCH_RECORDS = 1024, 64
# What the leader takes meanwhile, 20 MB/s: a part of what it could, so that there is something left to catch up with.
LOAD_RECORDS_PER_SECOND = 20 * MIB // RECORD_BYTES
LOAD_CLIENTS = 16
CATCH_UP_SECONDS_MAX = 120
# Longer than any catching up: it is ended when that is over.
LOAD_SECONDS = 600


def catching_up(run, system, work):
    gb = run.lengths.read_gb
    run.check_room(gb * len(system.processes))
    load = ["--rate", LOAD_RECORDS_PER_SECOND, "--clients", LOAD_CLIENTS, "--records-per-batch", BATCH_RECORDS, "--record-size", RECORD_BYTES]
    before = run.load(system, f"{work}-before", *load, "--warmup", run.lengths.warmup, "--duration", run.lengths.seconds)
    leader = wait_until("a leader", system.leader, READY_SECONDS_MAX)
    away = next(n for n in system.ids if n != leader)
    began = system.status(away)["log_end_offset"]
    system.processes[away].stop(signal.SIGTERM)
    append = run.load(system, f"{work}-append", "--in-flight", 16, "--records-per-batch", BATCH_RECORDS, "--record-size", RECORD_BYTES,
                      "--num-records", int(gb * GB / RECORD_BYTES))
    command = ["--bootstrap-server", system.bootstrap, "--topic", system.topic, *load, "--warmup", run.lengths.warmup, "--duration", LOAD_SECONDS]
    with run.perf_beside(f"{system.name}-{work}-load", *command) as client:
        time.sleep(run.lengths.warmup)
        seconds, ended = catch_up(system, leader, away)
        client.interrupt()
        beside = client.value()
    run.keep_load(system, f"{work}-beside", {**beside, "server_cpu_seconds": None, "served_bytes": beside["bytes"]})
    value = {"seconds": seconds, "bytes": (ended - began) * RECORD_BYTES, "bytes_per_second": (ended - began) * RECORD_BYTES / seconds,
             "append_bytes_per_second": append["bytes_per_second"]}
    quiet, felt = (value["latency"]["latency"] for value in (before, beside))
    note(f"{system.name}, a follower caught up with {value['bytes'] / MIB:,.0f} MiB in {seconds:.2f} s, {value['bytes_per_second'] / MIB:,.0f} MB/s; "
         f"the leader's p99 {felt['p99']:,.0f} us, before it {quiet['p99']:,.0f} us")
    return run.save(system, work, value)


def catch_up(system, leader, away):
    """Seconds from the start of the process until it has what the leader had a moment before, and where that is."""
    began = time.monotonic()
    system.start_node(away)

    def has_caught_up():
        led, had = system.status(leader), system.status(away)
        if led.get("role") != "leader":
            raise Failed("the leader changed while a follower caught up")
        end = had.get("log_end_offset", 0)
        # The load goes on between the two questions.
        return end if end + LOAD_RECORDS_PER_SECOND // 10 >= led["log_end_offset"] else None

    ended = wait_until("catching up", has_caught_up, CATCH_UP_SECONDS_MAX, [system.processes[away]])
    return time.monotonic() - began, ended
