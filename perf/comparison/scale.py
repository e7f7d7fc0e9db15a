"""How cost grows: with connections, with the size of a record, with the size of the log. Long: only with --scale."""

import signal
import time

from . import fetch_by_hand
from .many_connections import MANY
from .processes import Failed, http_get, note, wait_until
from .results import GB, MIB
from .workloads import RECORD_BYTES, timed

CONNECTIONS = (1, 10, 100, 1_000, MANY)
RECORD_SIZES = (10, 100, 1_024, 10_240, 102_400, 1_048_000)
# Of a batch of small records.
BATCH_BYTES = 64 << 10
BATCH_RECORDS_MAX = 1_000
# What no summary vouches for is scanned at 1 to 2 GB/s.
START_SECONDS_MAX = 300
# 4 MiB, which the tail cache holds.
TAIL_RECORDS = 4_096


def connections(run, system, work):
    for clients in CONNECTIONS:
        run.load(system, f"{work}-{clients}", "--clients", clients, "--record-size", RECORD_BYTES, *timed(run))


def record_sizes(run, system, work):
    for size in RECORD_SIZES:
        run.check_room(run.lengths.gb * len(system.processes))
        records = min(max(BATCH_BYTES // size, 1), BATCH_RECORDS_MAX)
        run.load(system, f"{work}-{size}", "--in-flight", 16, "--records-per-batch", records, "--record-size", size,
                 "--num-records", max(int(run.lengths.gb * GB / size), 1), *timed(run))


def cores(run, system, work):
    """Small requests of many connections, which network cores share, and large ones, which load the replica core."""
    run.load(system, f"{work}-1000-connections", "--clients", 1_000, "--record-size", RECORD_BYTES, *timed(run))
    run.load(system, f"{work}-16-batches", "--in-flight", 16, "--records-per-batch", 64, "--record-size", 1024,
             "--num-records", int(run.lengths.gb * GB / 1024), *timed(run))


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
        rates = read_rates(run, system, work, gb)
        value = {"gb": gb, "rss_bytes": rss, **rates, "start_seconds": seconds, "start_after_stop_seconds": after_stop,
                 "rss_after_start_bytes": system.rss_bytes(),
                 "append_mib_per_second": load["bytes_per_second"] / MIB}
        run.save(system, f"{work}-{gb:g}", value)
        note(f"{system.name}, {gb:g} GB: reads {rates['cold_read_mib_per_second']:,.0f} MB/s from its beginning, "
             f"{rates['tail_read_mib_per_second']:,.0f} at its end; RSS {max(rss.values()) / MIB:.0f} MiB, starts in {max(after_stop.values()):.2f} s, "
             f"after a kill in {max(seconds.values()):.2f} s")


def read_rates(run, system, work, gb):
    """MiB/s of one consumer: from the beginning, which no cache holds (a restart has emptied ours, and reads are direct), and
    again and again of what was written last."""
    n = system.ids[0]
    end = system.status(n)["high_watermark"]
    run.load(system, f"{work}-tail-{gb:g}", "--records-per-batch", 64, "--record-size", 1024, "--num-records", TAIL_RECORDS)
    tail = (end, system.status(n)["high_watermark"])
    read = lambda start, end, again: fetch_by_hand.bytes_per_second(system.port(n), system.topic, start, end, run.lengths.seconds, again) / MIB
    return {"cold_read_mib_per_second": read(0, end, False), "tail_read_mib_per_second": read(*tail, True)}


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
