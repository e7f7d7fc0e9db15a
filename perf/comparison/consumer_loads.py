"""Reading a log: one consumer from its beginning, eight at eight places, fifty behind one another; and all of it cold."""

import mmap
import os
import pathlib
import time

from .processes import Failed, note
from .results import GB, MIB, percentiles

RECORD_BYTES = 1024
PLACES = 8
# Fifty consumers, each so many records (10 MB) behind the next one.
FOLLOWING, STEP_RECORDS = 50, 10_000_000 // RECORD_BYTES
DROP_CACHES = pathlib.Path("/proc/sys/vm/drop_caches")


def reads(run, system, work):
    """On servers of its own, right after the log was written."""
    gb = run.lengths.read_gb
    run.check_room(gb * len(system.processes))
    records = int(gb * GB / RECORD_BYTES)
    run.load(system, f"{work}-append", "--in-flight", 16, "--records-per-batch", 64, "--record-size", RECORD_BYTES, "--num-records", records)
    # Of a short log, half of it behind one another.
    step = min(STEP_RECORDS, records // (2 * FOLLOWING))
    consume(run, system, f"{work}-one")
    consume(run, system, f"{work}-{PLACES}", "--clients", PLACES, "--step", records // PLACES, "--num-records", records // PLACES)
    consume(run, system, f"{work}-{FOLLOWING}", "--clients", FOLLOWING, "--step", step, "--num-records", 4 * step)
    # What a node keeps itself is not the kernel's to drop.
    if system.name != "three-readers":
        drop_caches()
        consume(run, system, f"{work}-cold")


def consume(run, system, work, *flags):
    """The system's client reads; its JSON with the servers' CPU time, kept."""
    command = consume_command(system, *flags)
    before = system.cpu_seconds()
    value = run.perf(*command, client=system.client())
    return keep_consumed(run, system, work, command, value, system.cpu_seconds() - before)


def consume_command(system, *flags):
    return ["consume", "--bootstrap-server", system.bootstrap, "--topic", system.topic, *flags]


def keep_consumed(run, system, work, command, value, cpu_seconds=None):
    """`cpu_seconds`: of the servers, where nobody else used them meanwhile."""
    value["server_cpu_seconds"] = cpu_seconds
    value["rss_bytes"] = system.rss_bytes()
    value["command"] = run.without_paths(" ".join(str(part) for part in command))
    run.save(system, work, value)
    latency = value["latency"]["latency"]
    cpu = "" if cpu_seconds is None else f", {cpu_seconds:.2f} s of the servers' CPU"
    note(f"{system.name}, {work}: {value['bytes_per_second'] / MIB:,.0f} MB/s{cpu}; of a Fetch {percentiles(latency)}")
    return value


def drop_caches():
    """What the kernel has of files is forgotten."""
    os.sync()
    try:
        DROP_CACHES.write_text("1\n")
    except OSError as e:
        raise Failed(f"the page cache cannot be dropped, so nothing is cold: {e}") from e


def raw_read(run, system, work):
    """What the disk gives of a file in order and past the cache, a MiB after the other."""
    path = system.directory / "read"
    mib = max(int(run.lengths.read_gb * GB / MIB / 4), 1)
    run.check_room(run.lengths.read_gb / 4)
    try:
        with path.open("wb") as file:
            # Of one megabyte that no disk can guess.
            block = os.urandom(MIB)
            for _ in range(mib):
                file.write(block)
            os.fsync(file.fileno())
        rate = direct_read_rate(path)
    finally:
        path.unlink(missing_ok=True)
    note(f"the disk reads {rate / MIB:,.0f} MB/s in order, past the cache")
    return run.save(system, work, {"bytes_per_second": rate})


def direct_read_rate(path):
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    try:
        buffer, at, began = mmap.mmap(-1, MIB), 0, time.monotonic()
        while got := os.preadv(descriptor, [buffer], at):
            at += got
        return at / (time.monotonic() - began)
    finally:
        os.close(descriptor)
