"""From the sending of a record until consumers that wait for it have it: one of them, and the last of a hundred."""

from .processes import note
from .results import percentiles
from .workloads import RECORD_BYTES, timed

CONSUMERS = (1, 100)


def end_to_end(run, system, work):
    for consumers in CONSUMERS:
        before = system.cpu_seconds()
        value = run.perf("end-to-end", "--bootstrap-server", system.bootstrap, "--topic", system.topic, "--consumers", consumers,
                         "--record-size", RECORD_BYTES, *timed(run), client=system.client())
        value["server_cpu_seconds"] = system.cpu_seconds() - before
        run.save(system, f"{work}-{consumers}", value)
        last = value["latency"]["last"]
        note(f"{system.name}, end to end, {consumers} consumers: the last has it after {percentiles(last)}")
