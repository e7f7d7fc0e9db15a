"""summary.md: the table, what stands behind it, every load, and what is missing."""

import json
import sys

from .end_to_end import CONSUMERS
from .plan import ORDER, WHAT
from .plots import draw
from .results import PERCENTILES
from .rows import rows

# A flush that had to wait for the kernel's next tick (at HZ=250), since other work had the cores.
TICK_US = 3900


def shown(value, digits=1):
    return "-" if value is None else f"{value:,.{digits}f}"


def table(head, lines):
    """`lines`: lists of cells."""
    return ["", f"| {' | '.join(head)} |", "|" + "---|" * len(head), *(f"| {' | '.join(map(str, cells))} |" for cells in lines)]


def the_table(run):
    lines = [[row.number, row.work, row.shown_values(), row.shown(lambda line: line.shown_limit(line.must)),
              row.shown(lambda line: line.shown_limit(line.aim)), row.verdict]
             for row in rows(run.results) if run.options.only is None or row.number in run.options.only]
    return table(["#", "work", "value", "must", "aim", ""], lines)


def behind_it(run):
    lines = [[row.number, line.against, shown(line.ours, 2), shown(line.beside, 2), line.unit, line.shown(line.value),
              line.shown_limit(line.must), line.verdict]
             for row in rows(run.results) for line in row.lines if line.ours is not None or line.beside is not None]
    return ["", "## Behind each value"] + table(["#", "against", "kraft", "beside it", "unit", "value", "must", ""], lines)


def loads(run):
    lines = []
    for (system, work), values in run.results.values.items():
        if "records_per_second" not in values[0]:
            continue
        results = run.results
        us = [shown(results.latency_us(system, work, p)) if "latency" in values[0] else "-" for p in PERCENTILES]
        lines.append([system, work, shown(results.records_per_second(system, work), 0), shown(results.mib_per_second(system, work)), *us,
                      shown(results.median(system, work, lambda value: value.get("server_cpu_seconds")), 2),
                      shown(results.median(system, work, lambda value: value.get("client_cpu_seconds")), 2)])
    lines.sort(key=lambda cells: (ORDER.index(cells[0]), cells[1]))
    head = ["system", "work", "records/s", "MB/s", *(f"{p} us" for p in PERCENTILES), "server CPU s", "client CPU s"]
    return ["", "## Every load (medians)"] + table(head, lines)


def raw(run):
    lines = []
    for system in ("device", "loopback"):
        names = [case["name"] for value in run.results.of(system, "raw")[:1] for case in value["cases"]]
        for name in names:
            figure = lambda read: shown(run.results.case([name], read, system))
            lines.append([f"{system}: {name}", *(figure(lambda case, p=p: case["latency"][p]) for p in PERCENTILES),
                          figure(lambda case: case["per_second"])])
    return ["", "## The machine alone (medians)"] + table(["", *(f"{p} us" for p in PERCENTILES), "per s"], lines) if lines else []


def own_lines(run):
    lines = []
    for system in ("raft-25", "raft-0"):
        for value in run.results.of(system, "own-line"):
            last = value["lines"][-1]
            lines.append([WHAT[system], f"{value['throughput']}/s", last["p75_ms"], last["p99_ms"], last["p999_ms"]])
    for value in run.results.of("three", "own-line"):
        latency = value["latency"]["latency"]
        lines.append(["kraft, three voters, seen by kraft-perf", f"{value['records_per_second']:.0f}/s",
                      *(f"{latency[p] / 1000:.2f}" for p in ("p75", "p99", "p99.9"))])
    head = ["Kafka's own test server, its own line (the last of each round)", "rate", "p75 ms", "p99 ms", "p99.9 ms"]
    return table(head, lines) if lines else []


def ends_to_ends(run):
    lines = [[system, consumers, stage, *(shown(run.results.latency_us(system, f"end-to-end-{consumers}", p, stage)) for p in PERCENTILES)]
             for system in ORDER for consumers in CONSUMERS if run.results.of(system, f"end-to-end-{consumers}")
             for stage in ("acknowledged", "first", "last")]
    head = ["one record in flight, to consumers that wait", "consumers", "from its sending until", *(f"{p} us" for p in PERCENTILES)]
    return table(head, lines) if lines else []


def failovers(run):
    lines = [[WHAT[system], ", ".join(f"{ms:.0f}" for value in values for ms in value["ms"])]
             for system in ORDER if (values := run.results.of(system, "failover"))]
    return table(["kill -9 of the leader to the next acknowledged record", "ms"], lines) if lines else []


def sizes_of_logs(run):
    mib = lambda by_node: f"{max(by_node.values()) / 2**20:.0f}"
    seconds = lambda by_node: f"{max(by_node.values()):.2f}"
    lines = [[f"{value['gb']:g}", *(f"{value[key]:,.0f}" for key in ("append_mib_per_second", "tail_read_mib_per_second", "cold_read_mib_per_second")),
              mib(value["rss_bytes"]), seconds(value["start_after_stop_seconds"]), seconds(value["start_seconds"]),
              mib(value["rss_after_start_bytes"])]
             for (_, work), values in run.results.values.items() for value in values if work.startswith("log-") and "gb" in value]
    head = ["log, GB", "append MB/s", "tail read MB/s", "cold read MB/s", "RSS MiB", "start s", "after kill -9 s", "RSS after the start MiB"]
    return table(head, lines) if lines else []


def trouble(run):
    lines = ["", "## Missing", ""]
    left_out = [name for name in ORDER if name not in run.options.systems]
    lines += [f"- {what}: {why}" for what, why in run.missing.items()]
    lines += [f"- {name} ({WHAT[name]}): left out by --systems" for name in left_out]
    lines += [] if run.missing or left_out else ["Nothing."]
    errors = {f"{system}, {work}": value["errors"] for (system, work), values in run.results.values.items() for value in values
              if value.get("errors")}
    return lines + ["", f"Errors that clients saw: {json.dumps(errors) if errors else 'none'}.", ""]


def quiet(run):
    p99 = run.results.case(["4 KiB, 1 writer, sleeping"], lambda case: case["latency"]["p99"])
    if p99 is None or p99 < TICK_US:
        return []
    return ["", f"**Not a quiet machine:** one durable 4 KiB write has a p99 of {p99:,.0f} us, which is a tick of the kernel and not "
            "the device. Latencies of this run mean little."]


def write(run):
    """Draws the plots, writes summary.md, returns its text."""
    command = " ".join(["perf/compare", *sys.argv[1:]])
    text = [f"# Comparison of {run.began:%Y-%m-%d %H:%M}, commit {run.commit}", "",
            f"Made by `{run.without_paths(command)}`. Medians of {run.round} round(s), the systems in turn, each second round backwards. "
            "MB is 2^20 bytes, as in Kafka's tools; GB, for CPU, is 10^9. `host.md` has the machine and the versions, "
            "`configurations/` and `raw/` the rest; perf/README.md says what each row means."]
    if run.options.length != "full":
        text += ["", f"**--{run.options.length}**: for a first look, not for comparisons."]
    text += quiet(run) + the_table(run)
    text += [line for name, title in draw(run).items() for line in ("", f"![{title}]({name})")]
    text += behind_it(run) + loads(run) + raw(run) + own_lines(run) + ends_to_ends(run) + failovers(run) + sizes_of_logs(run) + trouble(run)
    text = "\n".join(text)
    (run.out / "summary.md").write_text(text)
    return text
