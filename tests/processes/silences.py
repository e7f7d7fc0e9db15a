#!/usr/bin/env python3
"""Leaders that fall silent: SIGSTOP for the leader of three, and how long until the next record is acknowledged.

    tests/processes/silences.py --cuts 100

Prints p50, p99 and the longest. Each cut lasts until another node has acknowledged a record, at most --patience seconds; then
the stopped one goes on, and the next cut waits until all have caught up.
"""

import argparse
import shutil
import sys
import tempfile
import threading
import time
from pathlib import Path

import raw
from cluster import KAFKAS_TIMEOUTS, Cluster


class Writers:
    """One record in flight on a connection to each node, all the time, so that the followers' logs differ when the leader
    stops; and when each node acknowledged one last."""

    def __init__(self, cluster):
        self.acked_at, self._ended = {}, threading.Event()
        self._threads = [threading.Thread(target=self._write, args=(node,), daemon=True) for node in cluster]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        for thread in self._threads:
            thread.join(10)

    def _write(self, node):
        while not self._ended.is_set():
            try:
                with raw.Connection(node.port, timeout_s=2) as connection:
                    while not self._ended.is_set():
                        if connection.produce(raw.batch(b"x" * 100), timeout_ms=1000).error == raw.NONE:
                            self.acked_at[node.node_id] = time.monotonic()
                        else:
                            time.sleep(0.005)
            except (OSError, raw.Closed):
                time.sleep(0.01)


def wait_until(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.002)
    return True


def follow_one(statuses, count, epoch):
    """So many nodes know of one leader, in a later epoch."""
    known = {(s["epoch"], s["leader_id"]) for s in statuses.values()}
    return len(statuses) == count and len(known) == 1 and known.pop()[0] > epoch


def measure(cluster, cuts, patience_s, tell=lambda text: None):
    """Seconds from each stop of a leader to the next acknowledgement by another node."""
    silences = []
    with Writers(cluster) as writers:
        for cut in range(cuts):
            # One that acknowledges: the leader may have changed by itself.
            acks = lambda node: node and time.monotonic() - writers.acked_at.get(node.node_id, 0) < 0.5
            assert wait_until(lambda: acks(cluster.leader_now()), patience_s)
            old, epoch = cluster.leader(), cluster.epoch()
            others = [node.node_id for node in cluster if node is not old]
            stopped_at = time.monotonic()
            old.pause()
            try:
                next_ack = lambda: max((writers.acked_at.get(n, 0) for n in others), default=0)
                assert wait_until(lambda: next_ack() > stopped_at, patience_s), f"no acknowledgement within {patience_s} s"
                silences.append(next_ack() - stopped_at)
            finally:
                old.resume()
            tell(f"cut {cut + 1} of {cuts}: {silences[-1]:.3f} s without node {old.node_id}")
            assert wait_until(lambda: follow_one(cluster.statuses(), len(others) + 1, epoch), patience_s)
            # All follow again before the next one falls silent.
            time.sleep(0.5)
    return sorted(silences)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuts", type=int, default=20, choices=range(1, 1001), metavar="1..1000")
    parser.add_argument("--patience", type=float, default=60, help="seconds at most for each cut")
    arguments = parser.parse_args()
    root = Path(tempfile.mkdtemp(prefix="kraft-silences-"))
    cluster = Cluster(root, 3, overrides=KAFKAS_TIMEOUTS)
    try:
        cluster.start()
        silences = measure(cluster, arguments.cuts, arguments.patience, lambda text: print(text, flush=True))
    finally:
        cluster.end()
        shutil.rmtree(root, ignore_errors=True)
    at = lambda share: silences[min(len(silences) - 1, int(len(silences) * share))]
    print(f"{len(silences)} cuts, fetch timeout 2 s: p50 {at(0.5):.2f} s, p99 {at(0.99):.2f} s, max {silences[-1]:.2f} s")


if __name__ == "__main__":
    sys.exit(main())
