"""How cost grows: with connections, with the size of a record, with the size of the log. Long: only with --scale."""

import signal
import time

from .processes import Failed, http_get, note, wait_until
from .results import GB, MIB
from .workloads import RECORD_BYTES, timed

CONNECTIONS = (1, 10, 100, 1_000, 10_000)
RECORD_SIZES = (10, 100, 1_024, 10_240, 102_400, 1_048_000)
# Of a batch of small records.
BATCH_BYTES = 64 << 10
BATCH_RECORDS_MAX = 1_000
# What no summary vouches for is scanned at 1 to 2 GB/s.
START_SECONDS_MAX = 300


def connections(run, system, work):
    for clients in CONNECTIONS:
        run.load(system, f"{work}-{clients}", "--clients", clients, "--record-size", RECORD_BYTES, *timed(run))


def record_sizes(run, system, work):
    for size in RECORD_SIZES:
        run.check_room(run.lengths.gb * len(system.processes))
        records = min(max(BATCH_BYTES // size, 1), BATCH_RECORDS_MAX)
        run.load(system, f"{work}-{size}", "--in-flight", 16, "--records-per-batch", records, "--record-size", size,
                 "--num-records", max(int(run.lengths.gb * GB / size), 1), *timed(run))


def log_sizes(run, system, work):
    """Memory after each size is reached, and how long a node with such a log takes to start."""
    written = 0.0
    for gb in run.options.scale_gb:
        run.check_room((gb - written) * len(system.processes))
        load = run.load(system, f"{work}-append-{gb:g}", "--in-flight", 16, "--records-per-batch", 64, "--record-size", 1024,
                        "--num-records", int((gb - written) * GB / 1024))
        written = gb
        rss = system.rss_bytes()
        # A stop in good order leaves nothing to be scanned, a kill the last segment: that is the figure.
        after_stop = {str(n): restart(system, n, signal.SIGTERM) for n in system.ids}
        seconds = {str(n): restart(system, n, signal.SIGKILL) for n in system.ids}
        value = {"gb": gb, "rss_bytes": rss, "start_seconds": seconds, "start_after_stop_seconds": after_stop,
                 "rss_after_start_bytes": system.rss_bytes(),
                 "append_mib_per_second": load["bytes_per_second"] / MIB}
        run.save(system, f"{work}-{gb:g}", value)
        note(f"{system.name}, {gb:g} GB: RSS {max(rss.values()) / MIB:.0f} MiB, starts in {max(after_stop.values()):.2f} s, "
             f"after a kill in {max(seconds.values()):.2f} s")


def restart(system, n, how):
    """Seconds from the start of the process until it is ready; of one voter that is when it leads."""
    if len(system.ids) != 1:
        raise Failed("only one voter alone is ready without the others")
    system.processes[n].stop(how)
    began = time.monotonic()
    system.start_node(n)
    is_ready = lambda: http_get(system.http_port(n), "/ready") is not None
    wait_until("the start", is_ready, START_SECONDS_MAX, [system.processes[n]])
    return time.monotonic() - began
