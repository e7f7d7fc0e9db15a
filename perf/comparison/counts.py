"""Allocations and system calls per record at full load: counts, which a busy machine changes less than times.

Allocations are counted by a library that is preloaded into the nodes, system calls by the kernel (perf stat).
"""

import json
import shutil
import struct
import time

from .processes import Failed, Process, note, run as run_command, wait_until

COUNTED = "raw_syscalls:sys_enter"
# Load around the time in which is counted, so that it neither begins nor ends there.
MARGIN_SECONDS = 1
READY_SECONDS_MAX = 20


def preloaded(run):
    """Environment of a node whose allocations are counted, with {node} in it; Failed where there is no C compiler."""
    library = run.data / "count-allocations.so"
    if not library.exists():
        if not shutil.which("cc"):
            raise Failed("there is no C compiler (cc) to build what counts allocations")
        run_command(["cc", "-O2", "-shared", "-fPIC", "-o", library, run.root / "perf" / "comparison" / "count-allocations.c"])
    return {"LD_PRELOAD": str(library), "ALLOCATIONS_FILE": str(run.data / "allocations-{node}")}


def allocations(run, system):
    return sum(struct.unpack("Q", (run.data / f"allocations-{n}").read_bytes())[0] for n in system.ids)


def committed(system):
    leader = wait_until("a leader", system.leader, READY_SECONDS_MAX)
    return system.status(leader)["high_watermark"]


def counts(run, system, work):
    """16 batches of 64 x 1 KiB in flight; of all nodes together, per committed record."""
    seconds = run.lengths.seconds
    log = run.logs / f"{system.name}-{work}-client-{run.round}.log"
    client = Process("counted load", [run.binary("kraft-perf"), "--bootstrap-server", system.bootstrap, "--in-flight", 16,
                                      "--records-per-batch", 64, "--record-size", 1024, "--warmup", 0, "--duration",
                                      seconds + 2 * MARGIN_SECONDS], log)
    try:
        time.sleep(MARGIN_SECONDS)
        began, records, allocated = time.monotonic(), committed(system), allocations(run, system)
        calls = system_calls(system, seconds)
        elapsed = time.monotonic() - began
        records, allocated = committed(system) - records, allocations(run, system) - allocated
    finally:
        client.stop()
    if records <= 0:
        raise Failed("nothing was committed while it was counted")
    # perf needs a moment to begin and to end: its own time is shorter than that of the records.
    per_second = {"records": records / elapsed, "allocations": allocated / elapsed, "calls": calls and calls / seconds}
    value = {"records": records, "seconds": elapsed, "allocations_per_record": allocated / records,
             "system_calls_per_record": calls and per_second["calls"] / per_second["records"]}
    note(f"{system.name}, per record: {value['allocations_per_record']:.3f} allocations, "
         + (f"{value['system_calls_per_record']:.3f} system calls" if calls else "system calls not counted"))
    return run.save(system, work, value)


def system_calls(system, seconds):
    """Of all nodes in so many seconds; None, with the reason among what is missing, where they cannot be counted."""
    if not shutil.which("perf"):
        time.sleep(seconds)
        system.run.miss("system calls", "there is no perf")
        return None
    pids = ",".join(str(process.pid) for process in system.processes.values())
    out = system.run.data / "calls.json"
    try:
        run_command(["perf", "stat", "-j", "-o", out, "-e", COUNTED, "-p", pids, "--", "sleep", seconds])
        lines = [line for line in out.read_text().splitlines() if line.startswith("{")]
        return float(json.loads(lines[0])["counter-value"])
    except (Failed, ValueError, KeyError, IndexError) as e:
        system.run.miss("system calls", f"perf cannot count them: {str(e).splitlines()[-1]}")
        return None
