"""One attacker in a process of its own: `python3 -m hostile NAME PORT NICE`.

It builds what it will send, says "ready", begins with a line on stdin, ends when stdin is closed, and says what it did.
"""

import contextlib
import json
import os
import pathlib
import sys
import time

from .attackers import ATTACKERS


def give_way(nice):
    """To everybody: its own use of the cores is not what is to be measured."""
    os.setpriority(os.PRIO_PROCESS, 0, nice)
    # Where the kernel shares the cores among sessions, it is the session's value that counts, and this is one of its own.
    with contextlib.suppress(OSError):
        pathlib.Path("/proc/self/autogroup").write_text(str(nice))


def core_seconds():
    """(used, waited for a core)"""
    used_ns, waited_ns = pathlib.Path("/proc/self/schedstat").read_text().split()[:2]
    return int(used_ns) / 1e9, int(waited_ns) / 1e9


def main():
    name, port = sys.argv[1], int(sys.argv[2])
    give_way(int(sys.argv[3]))
    crowd = ATTACKERS[name](port)
    print("ready", flush=True)
    if not sys.stdin.readline():
        return
    began, before = time.monotonic(), core_seconds()
    crowd.run(sys.stdin.fileno())
    held = len(crowd.connections)
    seconds, (used, waited) = time.monotonic() - began, core_seconds()
    crowd.end()
    print(json.dumps({"seconds": seconds, "cpu_seconds": used - before[0], "waited_seconds": waited - before[1],
                      "held_at_the_end": held, **crowd.counts}), flush=True)


if __name__ == "__main__":
    main()
