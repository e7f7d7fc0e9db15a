"""The plots of a run, from its raw data."""

from . import svg

SHORT = {"null": "answers at once", "one": "kraft, one voter", "three": "kraft, three voters", "kafka": "Kafka",
         "kafka-flushed": "Kafka, flushed", "etcd": "etcd", "nats": "NATS", "nats-always": "NATS, always"}
# The same in all plots.
COLORS = dict(zip(SHORT.values(), svg.COLORS))
LOADS = ["one-in-flight", "10-connections", "100-connections", "1000-connections"]
# A percentile is drawn at 1/(1-p): each nine has the same width.
NINES_MAX = 7


def percentile_label(x):
    return {1: "0 %", 10: "90 %", 100: "99 %"}.get(round(x)) or f"99.{'9' * (len(f'{x:.0f}') - 3)} %"


def read_hgrm(path):
    """[(1/(1-p), us)] from HdrHistogram's percentile distribution."""
    curve = []
    for row in path.read_text().splitlines():
        columns = row.split()
        if len(columns) == 4 and columns[0][0].isdigit():
            curve.append((min(float(columns[3]), 10.0**NINES_MAX), max(float(columns[0]), 0.1)))
    return curve


def percentile_curves(run, work):
    """Of each system the round in the middle."""
    series = {}
    for system, name in SHORT.items():
        middle = run.results.middle(system, work)
        path = run.raw / f"{system}-{work}-{(middle or 0) + 1}.hgrm"
        if middle is not None and path.exists() and (curve := read_hgrm(path)):
            series[name] = curve
    return series


def load_curves(run, percentile):
    series = {}
    for system, name in SHORT.items():
        curve = [(run.results.records_per_second(system, work), run.results.latency_us(system, work, percentile)) for work in LOADS]
        curve = [(rate, us) for rate, us in curve if rate and us]
        if len(curve) > 1:
            series[name] = curve
    return series


def cpu_figures(run):
    figures = {name: run.results.cpu_seconds_per_gb(system, "16-batches") for system, name in SHORT.items() if system != "null"}
    return {name: value for name, value in figures.items() if value is not None}


def draw(run):
    """The files that were written, with a title each."""
    written = {}

    def write(name, title, content):
        (run.out / name).write_text(content)
        written[name] = title

    for work, title in (("one-in-flight", "One record of 256 B in flight: latency by percentile"),
                        ("open", "Open loop at half of Kafka's best rate: latency by percentile, from when each record was due")):
        if series := percentile_curves(run, work):
            write(f"latency-{work}.svg", title, svg.curves(title, series, COLORS, "percentile", "latency", percentile_label))
    for percentile in ("p50", "p99"):
        if series := load_curves(run, percentile):
            title = f"Throughput against {percentile}: 1, 10, 100, 1,000 connections with one record of 256 B each"
            write(f"load-{percentile}.svg", title, svg.curves(title, series, COLORS, "commits per second", percentile, has_points=True))
    if figures := cpu_figures(run):
        title = "CPU seconds of all servers per GB: 16 batches of 64 × 1 KiB in flight"
        write("cpu-per-gb.svg", title, svg.bars(title, figures, COLORS, "s/GB"))
    return written
