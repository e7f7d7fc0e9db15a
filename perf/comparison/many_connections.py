"""Ten times as many connections, each with one record in flight: what is lost, and how long the unlucky ones wait."""

from .processes import note
from .workloads import RECORD_BYTES, timed

FEW, MANY = 1_000, 10_000


def many_connections(run, system, work):
    for clients in (FEW, MANY):
        value = run.load(system, f"{work}-{clients}", "--clients", clients, "--record-size", RECORD_BYTES, *timed(run))
        each = value["batches_of_each"]
        note(f"{system.name}, {clients} connections: {each['fewest']} to {each['most']} batches of each")
