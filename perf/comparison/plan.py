"""What is measured on what, and for which rows of the table."""

import dataclasses
import typing

from . import catching_up, consumer_loads, counts, end_to_end, etcd, failover, kafka, many_connections, nats, readers_beside_writers, scale, systems, workloads
from .processes import Failed, note, step
from .systems import try_to_open

# From one round to the next it is reversed: what drifts with time then weighs on all alike. The device stands between
# the two that are compared with it.
ORDER = ["kafka", "kafka-flushed", "etcd", "nats", "nats-always", "raft-25", "raft-0", "null", "one", "device", "loopback", "three", "three-readers"]
OWN = ["null", "one", "device", "loopback", "three", "three-readers"]
WHAT = {
    "kafka": "Apache Kafka, three brokers, acknowledged from the page cache (its default)",
    "kafka-flushed": "the same with log.flush.interval.messages=1",
    "etcd": "etcd, three members, its own client",
    "nats": "NATS JetStream, three servers, a stream of three replicas in files, its own client",
    "nats-always": "the same with sync_interval: always",
    "raft-25": "Kafka's TestRaftServer, three voters, linger 25 ms (its default)",
    "raft-0": "the same with linger 0",
    "null": "a server that answers at once and stores nothing",
    "one": "kraft, one voter", "three": "kraft, three voters",
    "three-readers": "kraft, three voters with a quarter of the memory for readers (kraft.read.cache.bytes=-1)",
    "device": "the disk alone", "loopback": "the loopback alone",
}
# One work that fails is reported as missing, and the long run goes on.
FAILURES = (Failed, OSError, ValueError, LookupError)
KAFKAS = ("kafka", "kafka-flushed")
NATSES = ("nats", "nats-always")
# Without memory for readers, and with it.
READ = ("three", "three-readers", "kafka")
RECORDS = ("null", "one", "three", *KAFKAS, "etcd", *NATSES)


@dataclasses.dataclass(frozen=True)
class Work:
    name: str
    on: tuple
    rows: tuple
    load: typing.Callable
    # On servers of its own: it kills them, or they are built to be counted, or need an empty log.
    is_alone: bool = False
    # Only with --scale.
    is_long: bool = False
    # Once is enough: counts do not drift.
    is_once: bool = False


# In the order in which they are done: small logs first.
WORKS = [
    Work("raw", ("device",), (1, 2, 8, 23), workloads.device),
    Work("raw-pace", ("device",), (19,), workloads.device_at_pace),
    Work("raw", ("loopback",), (1, 2, 19), workloads.loopback),
    Work("idle", ("three",), (14,), workloads.idle),
    Work("one-in-flight", RECORDS, (1, 2, 3, 4, 5, 22), workloads.closed_loop(1)),
    Work("10-connections", ("three", *KAFKAS, "etcd", *NATSES), (), workloads.closed_loop(10)),
    Work("100-connections", ("three", *KAFKAS, "etcd", *NATSES), (), workloads.closed_loop(100)),
    Work("1000-connections", RECORDS, (6, 13, 22), workloads.closed_loop(1000)),
    Work("1000-sharing", ("three", *NATSES), (6,), workloads.sharing_loop),
    Work("open", ("three", *KAFKAS, *NATSES), (13, 22), workloads.open_loop),
    Work("end-to-end", ("three", "kafka", *NATSES), (19,), end_to_end.end_to_end),
    Work("own-line", ("three", "raft-25", "raft-0"), (), workloads.own_line),
    Work("kafka-100", ("null", "three", *KAFKAS), (9, 10), workloads.kafka_producer(100)),
    Work("kafka-1024", ("null", "three", *KAFKAS), (9, 10, 11), workloads.kafka_producer(1024)),
    Work("four-producers", ("three", *KAFKAS), (24,), workloads.kafka_producer(1024, producers=4)),
    Work("16-batches", ("null", "one", "three", *KAFKAS, *NATSES), (7, 11, 22), workloads.sixteen_batches),
    Work("1MiB-batches", ("null", "one"), (8,), workloads.mebibyte_batches),
    Work("counts", ("three",), (12,), counts.counts, is_alone=True, is_once=True),
    Work("raw-read", ("device",), (18,), consumer_loads.raw_read),
    Work("read", (*READ, "nats"), (16, 17, 18), consumer_loads.reads, is_alone=True),
    Work("beside", READ, (20,), readers_beside_writers.readers_beside_writers, is_alone=True),
    Work("many", ("null", "three"), (21,), many_connections.many_connections, is_alone=True),
    Work("catch-up", ("three",), (23,), catching_up.catching_up, is_alone=True),
    Work("failover", ("three", "kafka", "raft-25"), (15,), failover.failover, is_alone=True),
    Work("connections", ("one", "three"), (), scale.connections, is_alone=True, is_long=True, is_once=True),
    Work("sizes", ("one", "three"), (), scale.record_sizes, is_alone=True, is_long=True, is_once=True),
    Work("cores-1", ("one",), (), scale.cores, is_alone=True, is_long=True, is_once=True),
    Work("cores-2", ("one",), (), scale.cores, is_alone=True, is_long=True, is_once=True),
    Work("log", ("one",), (14,), scale.log_sizes, is_alone=True, is_long=True, is_once=True),
]


def works_for(system, rows, with_long):
    """`rows`: only what these need; None is everything."""
    return [work for work in WORKS
            if system in work.on and (with_long or not work.is_long) and (rows is None or set(rows) & set(work.rows))]


def build(run, name, work):
    """A system for its ordinary works (`work` is None), or for one that runs alone."""
    own_name = name if work is None else f"{name}-{work}"
    if name == "three-readers":
        return systems.Kraft(run, own_name, 3, settings=["kraft.read.cache.bytes=-1"])
    if name in ("one", "three"):
        voters = 1 if name == "one" else 3
        return systems.Kraft(run, own_name, voters, **kraft_for(run, work))
    if name in KAFKAS:
        settings = {"log.flush.interval.messages": 1} if name == "kafka-flushed" else {}
        if work == "failover":
            settings |= kafka.SAME_TIMEOUTS
        return kafka.Brokers(run, own_name, settings)
    if name.startswith("raft-"):
        return kafka.RaftServers(run, own_name, int(name.removeprefix("raft-")), workloads.OWN_LINE_RATE)
    if name in NATSES:
        return nats.Nats(run, own_name, is_always=name == "nats-always")
    return {"null": systems.NullServer, "etcd": etcd.Etcd}.get(name, systems.Nothing)(run, own_name)


def kraft_for(run, work):
    if work == "counts":
        return {"environment": counts.preloaded(run)}
    if work and work.startswith("cores-"):
        return {"settings": ["kraft.cpus=" + ",".join(str(cpu) for cpu in range(int(work.removeprefix("cores-"))))]}
    if work in ("connections", "many"):
        # The driver's own connections, and those with which it looks for the leader.
        return {"settings": [f"max.connections={many_connections.MANY + 1000}"]}
    return {}


def do_round(run, selected, rows):
    order = [name for name in ORDER if name in selected]
    for name in order if run.round % 2 else reversed(order):
        works = [work for work in works_for(name, rows, run.options.scale) if run.round == 1 or not work.is_once]
        together = [work for work in works if not work.is_alone]
        if together:
            do_works(run, name, None, together)
        for work in works:
            if work.is_alone:
                do_works(run, name, work.name, [work])


def do_works(run, name, alone, works):
    step(f"{WHAT[name]}" + (f": {alone}" if alone else ""))
    try:
        system = build(run, name, alone)
    except Failed as e:
        run.miss(f"{name}, {alone}", e.first_line())
        return
    if try_to_open(system) is None:
        return
    try:
        system.configure(run.configurations)
        # Results stand under the name of the system, whether or not it ran alone.
        system.name = name
        if any(work.name.endswith(("connections", "in-flight", "batches", "end-to-end")) for work in works):
            workloads.warm(run, system)
        for work in works:
            try:
                work.load(run, system, work.name)
            except FAILURES as e:
                note(str(e))
                run.miss(f"{name}, {work.name}", (str(e) or repr(e)).splitlines()[0])
    finally:
        system.__exit__()
