"""What was measured: one value per system, work and round, kept as JSON; medians over the rounds."""

import json
import statistics

MIB = 1 << 20
GB = 1_000_000_000
# What is shown of every latency.
PERCENTILES = ("p50", "p99", "p99.9", "p99.99", "max")


def percentiles(latency):
    """In us, for people."""
    return ", ".join(f"{name} {latency[name]:,.1f}" for name in PERCENTILES) + " us"


class Results:
    def __init__(self, directory):
        self.directory = directory
        self.values = {}

    def save(self, system, work, round, value):
        self.values.setdefault((system, work), []).append(value)
        path = self.directory / f"{system}-{work}-{round}.json"
        path.write_text(json.dumps(value, indent=1) + "\n")
        return value

    def of(self, system, work):
        return self.values.get((system, work), [])

    def median(self, system, work, read):
        """None where nothing was measured. `read` may return None for a value that has no such figure."""
        found = [figure for value in self.of(system, work) if (figure := read(value)) is not None]
        return statistics.median(found) if found else None

    def latency_us(self, system, work, percentile, stage="latency"):
        return self.median(system, work, lambda value: value["latency"][stage][percentile])

    def records_per_second(self, system, work):
        return self.median(system, work, lambda value: value["records_per_second"])

    def mib_per_second(self, system, work):
        return self.median(system, work, lambda value: value["bytes_per_second"] / MIB)

    def cpu_seconds_per_gb(self, system, work):
        """The warm-up too, in the time as in the bytes."""
        return self.median(system, work, lambda value: value["server_cpu_seconds"] / (value["served_bytes"] / GB) if value["served_bytes"] else None)

    def case(self, names, read, system="device"):
        """Of several cases of the device or the loopback the best, which is the smallest."""
        figures = [self.median(system, "raw", lambda value, name=name: next(
            (read(case) for case in value["cases"] if case["name"] == name), None)) for name in names]
        return min((figure for figure in figures if figure is not None), default=None)

    def raw_write_us(self, writers):
        """p50 of the faster way to wait, so that no ratio is flattered by a slow floor."""
        word = "writer" if writers == 1 else "writers"
        names = [f"4 KiB, {writers} {word}, {how}" for how in ("sleeping", "yielding")]
        return self.case(names, lambda case: case["latency"]["p50"])

    def loopback_us(self):
        return self.case(["threads free"], lambda case: case["latency"]["p50"], "loopback")

    def raw_mib_per_second(self):
        return self.case(["1 MiB, 4 in flight"], lambda case: case["bytes_per_second"] / MIB)

    def appended_mib_per_second(self, writers):
        """Of each of so many writers at once, into space that is reserved and was never written: what a log that grows can have."""
        name = "1 MiB appended, 4 in flight" if writers == 1 else f"512 KiB appended, {writers} writers"
        return self.case([name], lambda case: case["bytes_per_second"] / MIB / writers)

    def middle(self, system, work):
        """Index of the round whose p50 is the median one (of an even number the lower); None without rounds."""
        p50s = [value["latency"]["latency"]["p50"] for value in self.of(system, work)]
        return sorted(range(len(p50s)), key=lambda i: p50s[i])[(len(p50s) - 1) // 2] if p50s else None
