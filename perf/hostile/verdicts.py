"""What is promised, and the table that says where it holds."""

import statistics

from comparison.results import MIB

P99_RATIO_MAX = 3
RSS_BYTES_MAX = 512 * MIB
GIVEN_BACK_SECONDS_MAX = 10
COLUMNS = ["attack", "p50 us", "p99 us", "max us", "sent p99 us", "p99 / quiet", "device p99, max us", "control", "failed", "epochs", "MiB", "back s",
           "attacker's cores", "nodes' cores", "verdict"]
LATENCIES = ["p50_us", "p99_us", "max_us", "service_p99_us"]


def quiet_p99_us(rows):
    """The median, so that no ratio hangs on one stretch."""
    return statistics.median(row["quiet"]["p99_us"] for row in rows)


def ratio(figures, quiet_us):
    """None where nothing was answered."""
    return figures["p99_us"] / quiet_us if figures["p99_us"] else None


def is_bound(figures):
    """More failed than lie above the p99: it would be higher, had they been answered."""
    return figures["failed"] > figures["due"] / 100


def shown_ratio(figures, quiet_us):
    return (">" if is_bound(figures) else "") + number(ratio(figures, quiet_us), 1)


def is_slow(figures, quiet_us):
    seen = ratio(figures, quiet_us)
    return seen is None or seen > P99_RATIO_MAX or is_bound(figures)


def is_device_slow(row):
    """At that time the device alone was so much slower than beside the quiet stretch."""
    return row["beside"]["device"]["p99_us"] > P99_RATIO_MAX * row["quiet"]["device"]["p99_us"]


def violations(row):
    """What is promised without regard to the machine, and does not hold."""
    found = [f"node {n} ended" for n in row["ended"]]
    if row["epochs"]:
        found.append("election")
    if (row["rss_peak_bytes"] or 0) > RSS_BYTES_MAX:
        found.append("memory")
    if row["given_back_seconds"] is None or row["given_back_seconds"] > GIVEN_BACK_SECONDS_MAX:
        found.append("not given back")
    return found


def verdict(row, quiet_us):
    found = violations(row)
    if row["beside"]["failed"]:
        found.append("failed sends")
    if is_slow(row["beside"], quiet_us):
        beside_control = "control" in row and is_slow(row["control"], quiet_us)
        found.append("p99" + (", beside the control too" if beside_control else "") + (", the device's too" if is_device_slow(row) else ""))
    return "NOT met: " + ", ".join(found) if found else "met"


def number(value, digits=0):
    return "-" if value is None else f"{value:,.{digits}f}"


def shown_device(figures):
    return f"{number(figures['p99_us'])}, {number(figures['max_us'])}"


def cells(row, quiet_us):
    beside, control = row["beside"], row.get("control")
    back = row["given_back_seconds"]
    nodes = "/".join(f"{cores:.2f}" for cores in beside["nodes_cores"].values())
    return [row["name"], *(number(beside[key]) for key in LATENCIES), shown_ratio(beside, quiet_us),
            shown_device(beside["device"]), shown_ratio(control, quiet_us) if control else "-", number(beside["failed"]), number(row["epochs"]),
            number(row["rss_peak_bytes"] and row["rss_peak_bytes"] / MIB), "never" if back is None else number(back, 1),
            f"{beside['attackers_cores']:.2f} of {beside['attackers_cores_wanted']:.2f}", nodes, verdict(row, quiet_us)]


def quiet_cells(rows):
    stretches = [row["quiet"] for row in rows]
    p99s = [stretch["p99_us"] for stretch in stretches]
    middle = lambda key: statistics.median(stretch[key] for stretch in stretches)
    seen = f"p99 {number(min(p99s))} to {number(max(p99s))}"
    return ["quiet", *(number(middle(key)) for key in LATENCIES), "1",
            shown_device({key: statistics.median(stretch["device"][key] for stretch in stretches) for key in ("p99_us", "max_us")}), "-",
            number(sum(stretch["failed"] for stretch in stretches)), "-", "-", "-", "-", "-", seen]


def table(rows):
    quiet_us = quiet_p99_us(rows)
    lines = [COLUMNS, ["---"] * len(COLUMNS), quiet_cells(rows)] + [cells(row, quiet_us) for row in rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def note_of(row):
    """A row in a line, as soon as it is measured: beside its own quiet stretch."""
    beside, quiet = row["beside"], row["quiet"]
    return (f"p99 {number(quiet['p99_us'])} us quiet, {number(beside['p99_us'])} us beside it"
            + (f", {number(row['control']['p99_us'])} us beside the control" if "control" in row else "")
            + f"; {verdict(row, quiet['p99_us'])}")
