"""The table: twenty-four rows, each a figure of kraft beside another one of the same run, and what it must and shall reach."""

import dataclasses
import statistics

from .many_connections import FEW, MANY
from .results import MIB

KAFKA, FLUSHED = "Kafka unflushed", "Kafka flushed"
NATS, NATS_ALWAYS = "NATS", "NATS always"
NAMES = {"kafka": KAFKA, "kafka-flushed": FLUSHED, "etcd": "etcd", "nats": NATS, "nats-always": NATS_ALWAYS}
# Shown beside the others, and not judged.
NATS_SHOWN = {"nats": (None, None), "nats-always": (None, None)}
SCALE_GB = 10
WITH_MEMORY = ", memory for readers"
TAIL = ("p99.9", "p99.99", "max")
# Of a row with more of them, the table has the worst of each limit; all of them stand behind it.
VALUES_SHOWN_MAX = 8


@dataclasses.dataclass(frozen=True)
class Line:
    """One comparison. With `beside` the value is ours ÷ beside, without it it is ours."""

    against: str
    ours: float | None
    beside: float | None
    unit: str
    must: float | None
    aim: float | None
    is_at_most: bool = True
    is_ratio: bool = True

    @property
    def is_fraction(self):
        return bool(self.aim) and self.must < 1 and round(1 / self.aim, 6).is_integer()

    @property
    def value(self):
        if not self.is_ratio:
            return self.ours
        return None if self.ours is None or not self.beside else self.ours / self.beside

    def reaches(self, limit):
        return self.value is not None and (self.value <= limit if self.is_at_most else self.value >= limit)

    @property
    def verdict(self):
        if self.value is None:
            return "not measured"
        if self.must is None:
            return "-"
        return "aim reached" if self.reaches(self.aim) else "met" if self.reaches(self.must) else "NOT met"

    def shown_limit(self, limit):
        return "-" if limit is None else ("≤ " if self.is_at_most else "≥ ") + self.shown(limit)

    def shown(self, value):
        """Where the limits are fractions, as 1/8, the value is shown as one."""
        if value is None:
            return "-"
        if self.is_ratio and self.is_fraction and 0 < value < 1:
            return f"1/{1 / value:.3g}"
        return f"{value:.3g}" if value < 1000 else f"{value:,.0f}"


@dataclasses.dataclass(frozen=True)
class Row:
    number: int
    work: str
    lines: list

    @property
    def verdict(self):
        """The worst of its lines; what was not measured is not met."""
        judged = [line.verdict for line in self.lines if line.must is not None]
        for verdict in ("NOT met", "not measured", "met"):
            if verdict in judged:
                return verdict
        return "aim reached"

    def shown(self, read):
        return ", ".join(dict.fromkeys(read(line) for line in self.lines if line.must is not None))

    def shown_values(self):
        judged = [line for line in self.lines if line.must is not None]
        if len(judged) <= VALUES_SHOWN_MAX:
            return ", ".join(line.shown(line.value) for line in judged)
        limits = dict.fromkeys((line.must, line.is_at_most) for line in judged)
        return "; ".join(worst([line for line in judged if (line.must, line.is_at_most) == limit]) for limit in limits)


def worst(lines):
    """Of lines that have a limit in common."""
    measured = [line for line in lines if line.value is not None]
    if not measured:
        return "-"
    line = (max if lines[0].is_at_most else min)(measured, key=lambda line: line.value)
    return f"{line.shown(line.value)} at worst ({line.against}), of {len(measured)} of {len(lines)}"


def against_peers(ours, beside, unit, limits, is_at_most=True, suffix=""):
    """`limits`: {peer: (must, aim)}; `beside`: the figure of a system."""
    return [Line(NAMES[peer] + suffix, ours, beside(peer), unit, must, aim, is_at_most)
            for peer, (must, aim) in limits.items()]


def plus(a, b):
    return None if a is None or b is None else a + b


def latency_rows(results):
    p50 = lambda system: results.latency_us(system, "one-in-flight", "p50")
    p99 = lambda system: results.latency_us(system, "one-in-flight", "p99")
    loopback = results.loopback_us()
    floor_three = plus(results.raw_write_us(3), plus(loopback, loopback))
    yield Row(1, "one voter, one record of 256 B in flight: p50 ÷ (raw durable 4 KiB write + loopback round trip)",
              [Line("raw", p50("one"), plus(results.raw_write_us(1), loopback), "us", 1.3, 1.1)])
    yield Row(2, "three voters, the same: p50 ÷ (raw durable write of three writers at once + 2 loopback round trips)",
              [Line("raw", p50("three"), floor_three, "us", 1.5, 1.2)])
    yield Row(3, "the same, p99 ÷ p50", [Line("its own p50", p99("three"), p50("three"), "us", 3, 2)])
    yield Row(4, "the same against Kafka unflushed / flushed / etcd, p50", against_peers(
        p50("three"), p50, "us", {"kafka": (1 / 2, 1 / 3), "kafka-flushed": (1 / 8, 1 / 12), "etcd": (1 / 3, 1 / 5), **NATS_SHOWN}))
    yield Row(5, "p99 against Kafka unflushed / flushed / etcd", against_peers(
        p99("three"), p99, "us", {"kafka": (1 / 8, 1 / 15), "kafka-flushed": (1 / 12, 1 / 30), "etcd": (1 / 3, 1 / 5), **NATS_SHOWN}))


def throughput_rows(results):
    commits = lambda system: results.records_per_second(system, "1000-connections")
    mib = lambda system, work="16-batches": results.mib_per_second(system, work)
    peers = {"kafka": (1.8, 3), "kafka-flushed": (15, 25), "etcd": (4, 6), **NATS_SHOWN}
    ceiling = Line("a server that answers at once", commits("three"), commits("null"), "commits/s", None, None)
    sharing = lambda system: results.records_per_second(system, "1000-sharing")
    shared = against_peers(sharing("three"), sharing, "commits/s", NATS_SHOWN, False, ", ten on a connection")
    yield Row(6, "1,000 connections, one record of 256 B each: commits/s against Kafka unflushed / flushed / etcd",
              [*against_peers(commits("three"), commits, "commits/s", peers, is_at_most=False), *shared, ceiling])
    appended = lambda ours, writers: Line(
        f"raw, appended by {writers} at once" if writers > 1 else "raw, appended", ours, results.appended_mib_per_second(writers), "MB/s", None, None)
    yield Row(7, "16 batches of 64 × 1 KiB in flight: MB/s against Kafka unflushed / flushed", [*against_peers(
        mib("three"), mib, "MB/s", {"kafka": (5, 10), "kafka-flushed": (9, 16), **NATS_SHOWN}, is_at_most=False), appended(mib("three"), 3)])
    yield Row(8, "one voter, 1 MiB batches: MB/s ÷ raw 1 MiB durable rate",
              [Line("raw", mib("one", "1MiB-batches"), results.raw_mib_per_second(), "MB/s", 0.8, 0.95, False),
               appended(mib("one", "1MiB-batches"), 1)])
    sizes = {"100 B": "kafka-100", "1,024 B": "kafka-1024"}
    yield Row(9, "kafka-producer-perf-test 100 B and 1,024 B, defaults, acks=all: MB/s ÷ the same against a server that answers at once",
              [Line(f"a server that answers at once, {size}", mib("three", work), mib("null", work), "MB/s", 0.7, 0.9, False)
               for size, work in sizes.items()])
    limits = {"kafka": (2.5, 3.5), "kafka-flushed": (8, 12)}
    yield Row(10, "the same against Kafka unflushed / flushed, 100 B and 1,024 B", [
        line for size, work in sizes.items()
        for line in against_peers(mib("three", work), lambda peer, work=work: mib(peer, work), "MB/s", limits, False, f", {size}")])


def cost_rows(results):
    cpu = lambda system, work: results.cpu_seconds_per_gb(system, work)
    limits = {"kafka": (1 / 8, 1 / 15), "kafka-flushed": (1 / 25, 1 / 50)}
    loads = {"kafka-producer-perf-test": ("kafka-1024", limits), "16 batches": ("16-batches", limits | NATS_SHOWN)}
    yield Row(11, "server CPU seconds per GB (all three nodes), 1 KiB, against Kafka unflushed / flushed: "
              "kafka-producer-perf-test, and 16 batches of 64 in flight", [
                  line for load, (work, peers) in loads.items()
                  for line in against_peers(cpu("three", work), lambda peer, work=work: cpu(peer, work), "s/GB", peers, True, f", {load}")])
    count = lambda key: results.median("three", "counts", lambda value: value[key])
    yield Row(12, "allocations per record at 64 records a batch; system calls per record at full load (all three nodes)", [
        Line("allocations per record", count("allocations_per_record"), None, "", 0, 0, is_ratio=False),
        Line("system calls per record", count("system_calls_per_record"), None, "", 0.05, 0.02, is_ratio=False)])
    p99 = lambda system: results.latency_us(system, "open", "p99")
    yield Row(13, "open loop at half of the best rate of Kafka unflushed: p99 against Kafka's",
              against_peers(p99("three"), p99, "us", {"kafka": (1 / 10, 1 / 30), **NATS_SHOWN}))


def node_rows(results):
    idle = results.median("three", "idle", lambda value: max(value["cpu_percent"].values()))
    log = f"log-{SCALE_GB}"
    rss = results.median("one", log, lambda value: max(value["rss_bytes"].values()) / MIB)
    start = results.median("one", log, lambda value: max(value["start_seconds"].values()))
    yield Row(14, "idle node: CPU; RSS after 10 GB written; start with a 10 GB log (the last two with --scale)", [
        Line("idle CPU, % of a core", idle, None, "%", 1, 0.3, is_ratio=False),
        Line(f"RSS after {SCALE_GB} GB, MiB", rss, None, "MiB", 128, 64, is_ratio=False),
        Line(f"start with {SCALE_GB} GB, s", start, None, "s", 1, 0.2, is_ratio=False)])
    yield Row(15, "kill -9 of the leader to next acknowledged record, against Kafka's TestRaftServer and brokers at the same timeouts",
              [Line("TestRaftServer", failover_ms(results, "three"), failover_ms(results, "raft-25"), "ms", 0.5, 0.3),
               Line("Kafka brokers", failover_ms(results, "three"), failover_ms(results, "kafka"), "ms", 0.5, 0.3)])


def reading_rows(results):
    read = lambda system, work: results.mib_per_second(system, work)

    def beside(work, name=""):
        """Judged where memory is there, as Kafka has the page cache; what the default of 64 MiB does is shown."""
        against = lambda system, peers, how: against_peers(
            read(system, work), lambda peer: read(peer, work), "MB/s", peers, False, name + how)
        return [*against("three-readers", {"kafka": (1, 1.5), "nats": (None, None)}, WITH_MEMORY),
                *against("three", {"kafka": (None, None)}, ", 64 MiB for readers")]

    yield Row(16, "one consumer from the beginning, 1 MiB from its partition each time, the log just written, memory for readers: MB/s against Kafka",
              beside("read-one"))
    yield Row(17, "the same with 8 consumers at 8 places, and with 50, each 10 MB behind the next one",
              [*beside("read-8", ", 8 places"), *beside("read-50", ", 50 behind one another")])
    yield Row(18, "row 16 cold: the page cache dropped, 64 MiB for readers; against Kafka, and ÷ what the disk reads in order",
              [*against_peers(read("three", "read-cold"), lambda peer: read(peer, "read-cold"), "MB/s",
                              {"kafka": (1.2, 1.5), "nats": (None, None)}, False),
               Line("raw", read("three", "read-cold"), read("device", "raw-read"), "MB/s", 0.7, 0.9, False)])


def end_to_end_rows(results):
    took = lambda consumers, percentile: lambda system: results.latency_us(system, f"end-to-end-{consumers}", percentile, "last")
    beside = lambda consumers, percentile, name: against_peers(
        took(consumers, percentile)("three"), took(consumers, percentile), "us", {"kafka": (1 / 3, 1 / 5), **NATS_SHOWN}, suffix=name)
    write = results.median("device", "raw-pace", lambda value: value["cases"][0]["latency"]["p50"])
    floor = plus(write, plus(results.loopback_us(), results.loopback_us()))
    yield Row(19, "produce to consumer, one record in flight: p50 and p99 against Kafka; and to 100 consumers that wait, the last of them",
              [*beside(1, "p50", ", p50"), *beside(1, "p99", ", p99"), *beside(100, "p50", ", the last of 100, p50"),
               *beside(100, "p99", ", the last of 100, p99"),
               Line("a raw durable write as often as these records come + 2 loopback round trips, p50", took(1, "p50")("three"), floor, "us", None, None),
               Line("Kafka unflushed, p50: that floor", floor, took(1, "p50")("kafka"), "us", None, None)])


def together_rows(results):
    writers = lambda system, work="writers": results.latency_us(system, f"beside-{work}", "p99")
    mib = lambda system, work: results.mib_per_second(system, f"beside-{work}")

    def lines(system, is_judged, how):
        limits = lambda must, aim: (must, aim) if is_judged else (None, None)
        against_kafka = lambda work: against_peers(
            mib(system, work), lambda peer: mib(peer, work), "MB/s", {"kafka": limits(3, 5)}, False, f", {work}{how}")
        return [Line(f"its own p99 without consumers{how}", writers(system), writers(system, "alone"), "us", *limits(2, 1.3)),
                *against_kafka("writers"), *against_kafka("readers")]

    yield Row(20, "row 7's writers while four consumers read from the beginning: the writers' p99 ÷ without them; MB/s of both against Kafka's",
              [*lines("three-readers", True, WITH_MEMORY), *lines("three", False, ", 64 MiB for readers"),
               Line("Kafka's own p99 without consumers", writers("kafka"), writers("kafka", "alone"), "us", None, None)])


def connection_rows(results):
    commits = lambda system, clients: results.records_per_second(system, f"many-{clients}")
    us = lambda system, percentile: results.latency_us(system, f"many-{MANY}", percentile)
    # Who had none in a short run counts as one that had a quarter: it is measured, and far from the most.
    each = lambda which: results.median("three", f"many-{MANY}", lambda value: max(value["batches_of_each"][which], 1 / 4))
    yield Row(21, "10,000 connections, one record of 256 B each: commits/s ÷ those of 1,000; p99 ÷ p50; batches of the connection that had the most ÷ the fewest", [
        Line("1,000 connections", commits("three", MANY), commits("three", FEW), "commits/s", 0.8, 0.95, False),
        Line("its own p50", us("three", "p99"), us("three", "p50"), "us", 4, 2.5),
        Line("the connection that had the fewest", each("most"), each("fewest"), "batches", 2, 1.5),
        Line("1,000 connections, a server that answers at once", commits("null", MANY), commits("null", FEW), "commits/s", None, None),
        Line("its own p50, a server that answers at once", us("null", "p99"), us("null", "p50"), "us", None, None)])


def tail_rows(results):
    """{load: (our system, its work)}"""
    loads = {"one in flight, one voter": ("one", "one-in-flight"), "one in flight": ("three", "one-in-flight"),
             "1,000 connections": ("three", "1000-connections"), "16 batches": ("three", "16-batches"), "open loop": ("three", "open")}
    flushed = {"kafka-flushed": (1 / 5, 1 / 20), "nats-always": (1 / 5, 1 / 20)}
    unjudged = {peer: (None, None) for peer in flushed}
    unflushed = {"kafka": (1, 1 / 4), "nats": (None, None)}
    # Where they were compared before there was NATS.
    against_unflushed = ("one in flight", "1,000 connections", "open loop")
    yield Row(22, "p99.9 and p99.99 of rows 1, 2, 6, 7 and 13 against Kafka flushed and NATS always; and of rows 2, 6 and 13, with the maximum, "
              "against Kafka unflushed", [
                  line for load, (ours, work) in loads.items() for percentile in TAIL
                  for line in against_peers(
                      results.latency_us(ours, work, percentile), lambda peer, work=work, p=percentile: results.latency_us(peer, work, p), "us",
                      {**(unjudged if percentile == "max" else flushed), **(unflushed if load in against_unflushed else {})},
                      suffix=f", {load}, {percentile}")])


def catch_up_rows(results):
    caught = lambda key: results.median("three", "catch-up", lambda value: value[key] / MIB)
    p99 = lambda work: results.latency_us("three", f"catch-up-{work}", "p99")
    yield Row(23, "a follower that was away catches up under 20 MB/s: MB/s ÷ what the disk appends; the leader's p99 ÷ before", [
        Line("raw, appended", caught("bytes_per_second"), results.appended_mib_per_second(1), "MB/s", 0.5, 0.8, False),
        Line("append", caught("bytes_per_second"), caught("append_bytes_per_second"), "MB/s", None, None, False),
        Line("its own p99 before", p99("beside"), p99("before"), "us", 2, 1.5)])


def many_producers_rows(results):
    mib = lambda system: results.mib_per_second(system, "four-producers")
    yield Row(24, "four kafka-producer-perf-test at once, 1,024 B, defaults, acks=all: MB/s against Kafka unflushed / flushed",
              against_peers(mib("three"), mib, "MB/s", {"kafka": (2.5, 4), "kafka-flushed": (8, 12)}, False))


def failover_ms(results, system):
    kills = [ms for value in results.of(system, "failover") for ms in value["ms"]]
    return statistics.median(kills) if kills else None


def rows(results):
    return [*latency_rows(results), *throughput_rows(results), *cost_rows(results), *node_rows(results), *reading_rows(results),
            *end_to_end_rows(results), *together_rows(results), *connection_rows(results), *tail_rows(results), *catch_up_rows(results), *many_producers_rows(results)]
