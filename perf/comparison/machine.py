"""host.md: what the figures depend on."""

import os
import pathlib
import platform
import re

from .processes import said


def read_text(path):
    try:
        return pathlib.Path(path).read_text().strip()
    except OSError:
        return ""


def disks():
    for queue in sorted(pathlib.Path("/sys/block").glob("*/queue")):
        if queue.parent.name.startswith(("loop", "ram", "zram")):
            continue
        settings = {key: read_text(queue / key) for key in ("write_cache", "fua", "scheduler", "rotational", "io_poll")}
        yield f"disk {queue.parent.name}: " + ", ".join(f"{key} {value}" for key, value in settings.items() if value)


def description(run, versions):
    """`versions`: {program: version} of all that was measured."""
    model = re.search(r"model name\s*:\s*(.*)", read_text("/proc/cpuinfo"))
    memory = re.search(r"MemTotal:\s*(\d+) kB", read_text("/proc/meminfo"))
    governor = read_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor") or "not told"
    huge_pages = read_text("/sys/kernel/mm/transparent_hugepage/enabled") or "not told"
    lines = [f"date: {run.began.isoformat(timespec='seconds')}", f"commit: {run.commit}",
             f"kernel: {platform.platform()}, {platform.version()}",
             f"CPU: {model.group(1) if model else platform.machine()}, {len(os.sched_getaffinity(0))} usable cores, "
             f"governor {governor}",
             f"memory: {int(memory.group(1)) // 1024 if memory else '?'} MiB, transparent huge pages {huge_pages}",
             f"data: {said(['findmnt', '-no', 'SOURCE,FSTYPE,OPTIONS', '-T', run.data])}",
             f"load before the run: {read_text('/proc/loadavg')}", *disks()]
    lines += [f"{program}: {version}" for program, version in versions.items()]
    if run.overrides:
        lines.append(f"overrides of kraft's nodes: {' '.join(run.overrides)}")
    return "# Host\n\n" + "".join(f"- {line}\n" for line in lines)
