"""Row 7's writers alone, and then with four consumers that read the log from its beginning."""

from .consumer_loads import RECORD_BYTES, consume_command, keep_consumed
from .results import GB

READERS = 4
# The writers take what the disk gives: more than a few seconds of it only fills the disk.
SECONDS_MAX = 5
# A bound for `check_room`, and no expectation.
WRITTEN_GB_PER_SECOND = 0.5


def readers_beside_writers(run, system, work):
    seconds = min(run.lengths.seconds, SECONDS_MAX)
    warmup = min(run.lengths.warmup, 1)
    gb = run.lengths.read_gb + 2 * (seconds + warmup) * WRITTEN_GB_PER_SECOND
    run.check_room(gb * len(system.processes))
    writers = ["--in-flight", 16, "--records-per-batch", 64, "--record-size", RECORD_BYTES]
    run.load(system, f"{work}-append", *writers, "--num-records", int(run.lengths.read_gb * GB / RECORD_BYTES))
    timed = ["--warmup", warmup, "--duration", seconds]
    run.load(system, f"{work}-alone", *writers, *timed)
    command = consume_command(system, "--clients", READERS, "--duration", warmup + seconds)
    with run.perf_beside(f"{system.name}-{work}-readers", *command) as readers:
        run.load(system, f"{work}-writers", *writers, *timed)
        keep_consumed(run, system, f"{work}-readers", command, readers.value())
