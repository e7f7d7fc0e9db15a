"""perf/compare in its tiny form: no figure of it means anything, but every part of it runs. Needs no etcd; NATS where it can be built
in a short time."""

import json
import re
import runpy
import sys
import xml.etree.ElementTree
from pathlib import Path

import kafka_tools
import pytest
from cluster import RELEASE_DIR, REPOSITORY, TOOLS_DIR, free_port

sys.path.insert(0, str(REPOSITORY / "perf"))

from comparison import etcd, go_modules, kafka, nats, rows  # noqa: E402
from comparison.results import MIB, Results  # noqa: E402

PORTS_NEEDED = 40
# What Go has compiled until then it keeps, so that the next run has it.
NATS_BUILD_SECONDS_MAX = 20


def free_port_block():
    return free_port(PORTS_NEEDED - 1)


def compare(scratch, *options):
    """(directory of the run, its summary). A load of a third of a second sees nothing where the machine has no time for so long:
    then all is done again."""
    for attempt in range(3):
        out, data = scratch / f"out-{attempt}", scratch / f"data-{attempt}"
        data.mkdir()
        kafka_tools.run("perf/compare", "--tiny", "--port-base", free_port_block(), "--data-dir", data, "--out", out,
                        "--bin-dir", RELEASE_DIR, "--tools-dir", TOOLS_DIR, *options).check()
        assert list(data.iterdir()) == [], "it removes its data"
        summary = (out / "summary.md").read_text()
        if "nothing was acknowledged" not in summary:
            break
    return out, summary


def missing(summary):
    return re.findall(r"^- ([^:]+): (.*)$", summary.partition("## Missing")[2], re.M)


def test_all_that_needs_no_other_server(scratch):
    out, summary = compare(scratch, "--systems", "own", "--no-java")
    numbers = [int(n) for n in re.findall(r"^\| (\d+) \|", summary.partition("## Behind")[0], re.M)]
    assert numbers == list(range(1, 25)), summary
    for number in (1, 2, 3, 8, 12, 21, 23):
        row = re.search(rf"^\| {number} \|.*$", summary, re.M)[0]
        assert "not measured" not in row, row
    unexpected = [line for line in missing(summary) if "--systems" not in line[1] and "--no-java" not in line[1]
                  and line[0] != "three, open" and line[0] != "system calls"]
    assert unexpected == []
    assert any("etcd" in what and "left out" in why for what, why in missing(summary)), "a peer is never skipped in silence"
    for name in ("one-one-in-flight", "three-1000-connections", "three-16-batches", "three-failover", "device-raw", "three-read-50", "three-read-cold", "three-end-to-end-100",
                 "three-beside-readers", "three-readers-read-8", "three-readers-beside-readers", "three-many-10000", "null-many-10000", "three-catch-up"):
        assert json.loads((out / "raw" / f"{name}-1.json").read_text())
    plots = sorted(out.glob("*.svg"))
    assert [plot.name for plot in plots] == ["cpu-per-gb.svg", "latency-one-in-flight.svg", "load-p50.svg", "load-p99.svg"]
    for plot in plots:
        assert xml.etree.ElementTree.parse(plot).getroot().tag.endswith("svg")
        assert f"]({plot.name})" in summary
    assert "kernel:" in (out / "host.md").read_text()
    assert str(REPOSITORY) not in summary + "".join(file.read_text() for file in (out / "configurations").iterdir())


def test_kafka_stands_beside_it(scratch):
    out, summary = compare(scratch, "--systems", "three,kafka", "--only", 4)
    value = json.loads((out / "raw" / "kafka-one-in-flight-1.json").read_text())
    assert value["records"] > 0 and value["server_cpu_seconds"] > 0
    assert re.search(r"^\| 4 \| Kafka unflushed \| [\d,.]+ \| [\d,.]+ \| us \| [\d./]+ \|", summary, re.M), summary
    assert "min.insync.replicas=2" in (out / "configurations" / "kafka-1.properties").read_text()


def test_nats_stands_beside_it(scratch):
    directory, why = nats.find_nats(REPOSITORY, NATS_BUILD_SECONDS_MAX)
    if not directory:
        pytest.skip(f"NATS: {why}")
    out, summary = compare(scratch, "--systems", "nats,nats-always", "--only", 6, 7, 13, 16, 19, "--no-java", "--open-rate", 500)
    unexpected = [line for line in missing(summary) if "--systems" not in line[1]]
    assert unexpected == [], summary
    for name in ("16-batches", "1000-connections", "1000-sharing", "open"):
        for system in ("nats", "nats-always"):
            value = json.loads((out / "raw" / f"{system}-{name}-1.json").read_text())
            assert value["records"] > 0 and value["served_bytes"] > 0 and not value["errors"], value
            assert value["latency"]["latency"]["count"] == value["batches"]
    for name in ("read-one", "read-8", "read-50", "read-cold"):
        assert json.loads((out / "raw" / f"nats-{name}-1.json").read_text())["records"] > 0
    last = json.loads((out / "raw" / "nats-always-end-to-end-100-1.json").read_text())["latency"]
    assert last["first"]["p50"] < last["last"]["p50"]
    servers = [(out / "configurations" / f"{system}-1.conf").read_text() for system in ("nats", "nats-always")]
    assert ["sync_interval: always" in text for text in servers] == [False, True]
    assert str(scratch) not in "".join(servers)
    assert "NATS: nats-server: v2.15.2" in (out / "host.md").read_text()


def load(rate=0.0, p50=0.0, p99=0.0, mib=0.0, cpu=0.0, tail=(0.0, 0.0, 0.0), stage="latency"):
    latency = {"p50": p50, "p99": p99, **dict(zip(rows.TAIL, tail))}
    return {"records_per_second": rate, "bytes_per_second": mib * MIB, "bytes": 10**9, "served_bytes": 2 * 10**9, "server_cpu_seconds": cpu,
            "latency": {stage: latency}}


def row(results, number):
    return next(row for row in rows.rows(results) if row.number == number)


def test_ratios_are_of_medians_and_judged_by_their_limits(scratch):
    results = Results(scratch)
    for round, p50 in enumerate((100.0, 900.0, 110.0), 1):
        results.save("three", "one-in-flight", round, load(p50=p50, p99=300.0))
    results.save("kafka", "one-in-flight", 1, load(p50=440.0, p99=3_000.0))
    results.save("kafka-flushed", "one-in-flight", 1, load(p50=800.0, p99=9_000.0))
    unflushed, flushed, etcd, *natses = row(results, 4).lines
    assert (unflushed.value, unflushed.shown(unflushed.value), unflushed.verdict) == (0.25, "1/4", "aim reached")
    assert flushed.verdict == "NOT met" and etcd.verdict == "not measured"
    assert row(results, 4).verdict == "NOT met", "the worst of its lines"
    assert row(results, 5).shown_values() == "1/10, 1/30, -" and row(results, 5).verdict == "not measured"
    assert row(results, 3).lines[0].verdict == "met"
    results.save("three", "1000-connections", 1, load(rate=2_000.0))
    results.save("kafka", "1000-connections", 1, load(rate=1_000.0))
    assert [line.verdict for line in row(results, 6).lines[:2]] == ["met", "not measured"]
    results.save("three", "16-batches", 1, load(cpu=2.0))
    results.save("kafka", "16-batches", 1, load(cpu=20.0))
    cpu = next(line for line in row(results, 11).lines if line.against == "Kafka unflushed, 16 batches")
    assert (cpu.ours, cpu.beside, cpu.verdict) == (1.0, 10.0, "met")


def verdicts(results, number):
    return [line.verdict for line in row(results, number).lines]


def test_rows_of_crowds_and_tails(scratch):
    results = Results(scratch)
    save = lambda system, work, **figures: results.save(system, work, 1, load(**figures))
    for system, faster in (("three", 10), ("three-readers", 10), ("kafka", 1)):
        for consumers in (1, 100):
            save(system, f"end-to-end-{consumers}", p50=1_000 / faster, p99=4_000 / faster, stage="last")
        save(system, "one-in-flight", tail=(3_000 / faster, 9_000 / faster, 30_000))
        save(system, "beside-alone", p99=100)
        save(system, "beside-writers", p99=2_000 / faster, mib=50 * faster)
        save(system, "beside-readers", mib=30 * faster)
        save(system, "read-one", mib=100 + 4 * faster)
    assert [line.verdict for line in judged(results, 19)] == ["aim reached"] * 4 and row(results, 19).verdict == "aim reached"
    assert verdicts(results, 20) == ["met", "aim reached", "aim reached"] + ["-"] * 4
    assert verdicts(results, 16) == ["met", "not measured", "-"], "judged where memory is there, and shown without"
    unflushed = [line.verdict for line in judged(results, 22) if line.must == 1]
    assert unflushed == ["aim reached", "aim reached", "met"] + ["not measured"] * 6
    save("three", "many-1000", rate=70_000)
    results.save("three", "many-10000", 1, {**load(rate=49_000, p50=100, p99=390), "batches_of_each": {"fewest": 20, "most": 24}})
    assert verdicts(results, 21) == ["NOT met", "met", "aim reached", "not measured", "not measured"] and row(results, 21).verdict == "NOT met"
    starved = Results(scratch)
    starved.save("three", "many-10000", 1, {**load(rate=1, p50=1, p99=1), "batches_of_each": {"fewest": 0, "most": 24}})
    assert verdicts(starved, 21)[2] == "NOT met"
    assert verdicts(results, 23) == ["not measured"] * 3
    results.save("device", "raw", 1, {"cases": [{"name": "1 MiB appended, 4 in flight", "bytes_per_second": 150 * MIB}]})
    results.save("three", "catch-up", 1, {"bytes_per_second": 90 * MIB, "append_bytes_per_second": 100 * MIB})
    save("three", "catch-up-before", p99=1_000)
    save("three", "catch-up-beside", p99=4_000)
    assert verdicts(results, 23) == ["met", "-", "NOT met"]
    save("three", "catch-up-beside", p99=0)
    assert verdicts(results, 23) == ["met", "-", "met"], "their median is twice what it was before"


def test_the_plot_of_the_history_is_drawn_from_it():
    history = runpy.run_path(str(REPOSITORY / "perf" / "history"))
    lines = history["read"](REPOSITORY / "perf" / "history.jsonl")
    assert {what for _, what, _ in lines} == set(history["SERIES"]), "a series without a line is none"
    assert history["draw"](lines) == (REPOSITORY / "perf" / "history.svg").read_text(), "perf/history draws it anew"
    twice = [("a", what, 8) for what in history["SERIES"]] + [("b", next(iter(history["SERIES"])), 4)]
    root = xml.etree.ElementTree.fromstring(history["draw"](twice))
    heights = [float(point.get("cy")) for point in root.iter("{http://www.w3.org/2000/svg}circle")]
    assert len(heights) == len(twice) and max(heights) == heights[1] > heights[0], "half of it lies lower"


def judged(results, number):
    return [line for line in row(results, number).lines if line.must is not None]


def test_tails_are_judged_against_those_that_flush(scratch):
    results = Results(scratch)
    save = lambda system, work, *tail: results.save(system, work, 1, load(tail=tail))
    for work in ("one-in-flight", "1000-connections", "16-batches", "open"):
        save("three", work, 1_000, 2_000, 5_000)
        for peer in ("kafka-flushed", "nats-always"):
            save(peer, work, 20_000, 40_000, 6_000)
    save("one", "one-in-flight", 500, 1_000, 2_000)
    lines = [line for line in judged(results, 22) if line.must == 1 / 5]
    assert len(lines) == 20 and {line.verdict for line in lines} == {"aim reached"}, lines
    assert {line.against.split(",")[0] for line in lines} == {"Kafka flushed", "NATS always"}
    assert row(results, 22).shown_values() == "1/20 at worst (Kafka flushed, one in flight, p99.9), of 20 of 20; -"
    save("nats-always", "16-batches", 4_000, 40_000, 6_000)
    results.values["nats-always", "16-batches"].pop(0)
    worst = next(line for line in judged(results, 22) if line.verdict == "NOT met")
    assert (worst.against, worst.value) == ("NATS always, 16 batches, p99.9", 0.25)
    assert row(results, 22).verdict == "NOT met" and row(results, 22).shown_values().startswith("1/4 at worst (NATS always, 16 batches, p99.9)")


def test_nats_is_shown_and_not_judged_elsewhere(scratch):
    results = Results(scratch)
    for system, rate in (("three", 1_000.0), ("nats", 4_000.0), ("nats-always", 2_000.0)):
        results.save(system, "1000-connections", 1, load(rate=rate))
    seen = {line.against: (line.value, line.verdict) for line in row(results, 6).lines if line.value is not None}
    assert seen == {"NATS": (0.25, "-"), "NATS always": (0.5, "-")}
    assert row(results, 6).shown_values() == "-, -, -" and row(results, 6).verdict == "not measured"


def test_floors_are_the_faster_way_to_wait(scratch):
    results = Results(scratch)
    case = lambda name, p50: {"name": name, "latency": {"p50": p50}, "bytes_per_second": 1_000 * MIB}
    results.save("device", "raw", 1, {"cases": [
        case("4 KiB, 1 writer, sleeping", 90.0), case("4 KiB, 1 writer, yielding", 80.0), case("1 MiB, 4 in flight", 400.0)]})
    results.save("loopback", "raw", 1, {"cases": [case("threads free", 20.0), case("both on one core", 10.0)]})
    results.save("one", "one-in-flight", 1, load(p50=120.0))
    results.save("one", "1MiB-batches", 1, load(mib=850.0))
    assert (row(results, 1).lines[0].beside, row(results, 1).verdict) == (100.0, "met")
    assert (row(results, 2).lines[0].value, row(results, 8).lines[0].value) == (None, 0.85)


def test_a_peer_that_cannot_be_had_says_why(monkeypatch):
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.setattr(go_modules.shutil, "which", lambda _: None)
    assert "Go" in etcd.find_etcd(Path("/nonexistent"))[1]
    assert "Go" in nats.find_nats(Path("/nonexistent"))[1]
    assert "java" in kafka.find_java(Path("/nonexistent"))[1]
