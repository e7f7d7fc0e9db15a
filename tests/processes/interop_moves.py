"""Moves of leadership in a quorum of Kafka's voters and ours, by everything that can happen to a leader's process.

`Moves(cluster).move(how)` is one move: the leader is stopped, another takes over, the old one comes back and follows.
While one of ours leads, records are produced, and each acknowledged one must be in every log at the end.

As a program it goes through many moves in a row: `build/venv/bin/python tests/processes/interop_moves.py jjr`.
"""

import argparse
import os
import re
import shutil
import signal
import subprocess
import time
import zipfile
from collections import Counter
from itertools import chain, dropwhile, zip_longest
from pathlib import Path

import raw
from cluster import REPOSITORY, die_with_parent, wait_for
from java_voter import (JAVA_PATIENCE_S, JAVA_TOPIC, SEGMENT_BYTES_MIN, JavaVoter, MixedCluster, batches_on_disk,
                        check_logs_equal, kafka_libs, wait_leader)

# A handover takes two elections at most; one to a node that is behind does not succeed at all.
HANDOVER_S = 8
HANDOVERS_MAX = 5
HOW = ("SIGTERM", "kill -9", "SIGSTOP", "tail")
# Of a longer log Kafka's tool is shown the newest segments: a leader of 3.9.0 writes 5 MB a second.
DUMP_BYTES_MAX = 64 << 20
DUMPED_BATCH = re.compile(r"baseOffset: (\d+) lastOffset: (\d+) .* isvalid: true$")


def kind_of(node):
    return "java" if isinstance(node, JavaVoter) else "kraft"


class Moves:
    def __init__(self, cluster):
        self.cluster = cluster
        self.acked = {}
        self.led = Counter()
        self.log = []
        self._values = 0

    def leader(self, among=None):
        leader = wait_leader(self.cluster, among)
        return leader

    def epoch(self):
        return self.cluster.epoch()

    def produce(self, node, count=10, acks=-1):
        """To one of ours that leads. Keeps what is acknowledged by a majority; false where it leads no more."""
        try:
            with raw.Connection(node.port) as connection:
                for _ in range(count):
                    value = f"value-{self._values}".encode()
                    self._values += 1
                    answer = connection.produce(raw.batch(value), acks=acks, topic=JAVA_TOPIC)
                    if answer.error != raw.NONE:
                        return False
                    if acks == -1:
                        self.acked[answer.offset] = value
        except (OSError, raw.Closed):
            return False
        return True

    def load(self, node):
        """Some records under this leader: Kafka's generates them, ours is sent some."""
        if isinstance(node, JavaVoter):
            before = log_end(node)
            wait_for(f"node {node.node_id} to append", lambda: log_end(node) > before or self.cluster.leader_now() is not node)
        else:
            self.produce(node)

    def move(self, how):
        old = self.leader()
        epoch = self.epoch()
        self.load(old)
        others = [node for node in self.cluster if node is not old]
        began = time.monotonic()
        tail = getattr(self, "_" + {"SIGTERM": "terminate", "kill -9": "kill", "SIGSTOP": "pause", "tail": "tail"}[how])(old, others)
        new = wait_for(f"a leader after {how} of node {old.node_id} ({kind_of(old)}) in epoch {epoch}",
                       lambda: self._new_leader(old, others, epoch), JAVA_PATIENCE_S, every_s=0.01)
        took = time.monotonic() - began
        self.load(new)
        if old.is_running() and how in ("SIGSTOP", "tail"):
            old.resume()
        elif not old.is_running():
            old.start()
        self._wait_following(old)
        if tail:
            wait_for(f"node {old.node_id} to cut its tail", lambda: tail not in epochs_by_offset(old), JAVA_PATIENCE_S)
        self.led[kind_of(new)] += 1
        self.log.append(f"{how:8} {kind_of(old):5} {old.node_id} -> {kind_of(new):5} {new.node_id}  {took:5.2f} s")

    def make_kind_lead(self, kind):
        if kind_of(self.leader()) != kind:
            self.make_lead(next(node for node in self.cluster if kind_of(node) == kind))

    def make_lead(self, target):
        """Leaders hand over until this node leads."""
        for _ in range(HANDOVERS_MAX):
            old = self.leader()
            if old is target:
                return
            self._hand_over(old, target)
        assert self.leader() is target, f"node {target.node_id} does not lead after {HANDOVERS_MAX} handovers"

    def _hand_over(self, old, target):
        """Nobody but the target can stand, and the old leader's own vote makes the majority. Kafka's leader denies it
        when it had appended, as it resigned, what the target had not fetched: then whoever comes next leads."""
        wait_for(f"node {target.node_id} to catch up", lambda: log_end(target) >= log_end(old), JAVA_PATIENCE_S, every_s=0.01)
        epoch, began = self.epoch(), time.monotonic()
        bystanders = [node for node in self.cluster if node not in (old, target)]
        for node in bystanders:
            node.pause()
        old.signal(signal.SIGTERM)
        try:
            wait_for(f"node {target.node_id} to lead", lambda: self._new_leader(None, [target], epoch), HANDOVER_S, every_s=0.01)
        except AssertionError:
            target = None
        took = time.monotonic() - began
        for node in bystanders:
            node.resume()
        old.wait_exit()
        old.start()
        new = target or self.leader()
        self.load(new)
        self._wait_following(old)
        self.led[kind_of(new)] += 1
        self.log.append(f"handover {kind_of(old):5} {old.node_id} -> {kind_of(new):5} {new.node_id}  {took:5.2f} s")

    def _terminate(self, old, _others):
        # A TestRaftServer that has handed over ends with 143, by the signal; one of ours with 0.
        code = old.stop()
        assert code in (0, 143, -signal.SIGTERM), f"node {old.node_id} ended with {code}"

    def _kill(self, old, _others):
        old.kill()

    def _pause(self, old, _others):
        old.pause()

    def _tail(self, old, others):
        """The leader appends while nobody follows, and is then stopped: what it appended must go."""
        for node in others:
            node.pause()
        # Fetches that were parked take the first records with them into the sockets.
        for _ in range(2):
            before = log_end(old)
            if not isinstance(old, JavaVoter):
                self.produce(old, 1, acks=1)
            wait_for(f"node {old.node_id} to append alone", lambda: log_end(old) > before)
        old.pause()
        tail = max(epochs_by_offset(old))
        for node in others:
            node.resume()
        return tail

    def _new_leader(self, old, others, epoch):
        for node in others:
            if node.is_running() and (status := node.status_now()):
                if status["role"].lower() == "leader" and status["epoch"] > epoch:
                    return node
            assert node.is_running(), f"node {node.node_id} stopped by itself:\n{node.stderr()[-3000:]}"

    def _wait_following(self, old):
        def follows():
            assert old.is_running(), f"node {old.node_id} stopped by itself:\n{old.stderr()[-3000:]}"
            status = old.status_now()
            return status and status["epoch"] >= self.epoch() and status["role"].lower() in ("follower", "leader")
        wait_for(f"node {old.node_id} ({kind_of(old)}) to follow again", follows, JAVA_PATIENCE_S)

    def settle(self):
        """One of ours leads, so that nobody appends; every node holds its whole log. Returns the high watermark."""
        if isinstance(self.leader(), JavaVoter):
            self.make_lead(self.cluster.ours[0])
        # A record of this epoch: only then may the leader commit what came before.
        wait_for("one more acknowledgement", lambda: self.produce(self.leader(self.cluster.ours), 1), JAVA_PATIENCE_S)

        def all_hold_it():
            leader = self.cluster.leader_now()
            status = leader.status_now() if leader in self.cluster.ours else None
            end = status and status["high_watermark"]
            return end if status and status["log_end_offset"] == end and all(v["log_end_offset"] == end for v in status["voters"]) else None
        return wait_for("every voter to hold the whole log", all_hold_it, JAVA_PATIENCE_S)

    def check(self, high_watermark):
        """Stops all nodes; then the files tell."""
        for node in self.cluster:
            if node.is_running():
                node.stop()
        check_logs_equal(self.cluster, high_watermark)
        first = next(iter(self.cluster))
        held = dict(pair for batch in batches_on_disk(first.partition_dir) if not batch.attributes & 0x20 for pair in batch.values())
        lost = {offset: value for offset, value in self.acked.items() if held.get(offset) != value}
        assert not lost, f"{len(lost)} of {len(self.acked)} acknowledged records are gone, such as {sorted(lost.items())[:3]}"
        for node in self.cluster.javas:
            assert node.faults() == [], node.faults()[:5]


def log_end(node):
    while True:
        try:
            # The newest segment may hold nothing yet.
            return max((batch.next_offset for batch in batches_on_disk(node.partition_dir, segments_max=2)), default=0)
        except FileNotFoundError:
            # A Java voter has cut its log, or begun it anew, since the names were read.
            continue


def epochs_by_offset(node):
    return {(batch.base, batch.epoch) for batch in batches_on_disk(node.partition_dir, segments_max=2)}


def dump_command(libs):
    """Kafka's DumpLogSegments of the version in this directory; up to 4.0 it was a class of another jar."""
    moved = any("org/apache/kafka/tools/DumpLogSegments.class" in zipfile.ZipFile(jar).namelist() for jar in libs.glob("kafka-tools-*.jar"))
    java = Path(os.environ["JAVA_HOME"]) / "bin" / "java" if "JAVA_HOME" in os.environ else "java"
    return [str(java), "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1",
            f"-Dlog4j2.configurationFile={REPOSITORY / 'config' / 'tools-log4j2.properties'}", "-cp", f"{libs}/*",
            "org.apache.kafka.tools.DumpLogSegments" if moved else "kafka.tools.DumpLogSegments"]


def dumped_batches(node, libs, high_watermark):
    """(base offset, Kafka's line) of each committed batch in the newest segments. The line goes without the position, as nodes
    may begin a segment at different offsets. Anything but sound batches is a failure."""
    segments, size = [], 0
    for segment in reversed(node.segments()):
        size += segment.stat().st_size
        if segments and size > DUMP_BYTES_MAX:
            break
        segments.insert(0, str(segment))
    with subprocess.Popen([*dump_command(libs), "--files", ",".join(segments)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True, errors="replace", preexec_fn=die_with_parent) as tool:
        for line in tool.stdout:
            if line.startswith(("Dumping ", "Log starting offset: ")):
                continue
            batch = DUMPED_BATCH.match(line)
            assert batch, f"DumpLogSegments of node {node.node_id}: {line}"
            if int(batch[2]) < high_watermark:
                yield int(batch[1]), re.sub(r" position: \d+", "", line)
    assert tool.returncode == 0, f"DumpLogSegments of node {node.node_id} ended with {tool.returncode}"


def check_dumps_equal(nodes, libs, high_watermark):
    """Kafka's own tool says the same of all logs, from where the shortest of the dumps begins. Returns how many batches that is,
    and the first offset."""
    dumps = [dumped_batches(node, libs, high_watermark) for node in nodes]
    firsts = [next(dump) for dump in dumps]
    start, count = max(base for base, _ in firsts), 0
    dumps = [dropwhile(lambda batch: batch[0] < start, chain([first], dump)) for first, dump in zip(firsts, dumps)]
    for batches in zip_longest(*dumps):
        assert len(set(batches)) == 1, f"DumpLogSegments shows different batches: {batches}"
        count += 1
    return count, start


def main():
    parser = argparse.ArgumentParser(description="Moves leadership in a mixed quorum, and compares all logs at the end.")
    parser.add_argument("kinds", help="a letter for each voter: j Kafka's TestRaftServer, r ours; such as jjr")
    parser.add_argument("--moves", type=int, default=24)
    parser.add_argument("--how", default=",".join(HOW), help="what happens to the leaders, in turn")
    parser.add_argument("--seconds-max", type=int, default=900, help="fail when it takes longer")
    parser.add_argument("--kafka", default="4.3.0", metavar="VERSION", help="of the TestRaftServers; fetched where it is missing")
    parser.add_argument("--directory", type=Path, default=REPOSITORY / "build" / "test" / f"interop-{os.getpid()}")
    options = parser.parse_args()
    shutil.rmtree(options.directory, ignore_errors=True)
    libs = kafka_libs(options.kafka)
    cluster = MixedCluster(options.directory, options.kinds, java_options={"libs": libs}, segment_bytes=SEGMENT_BYTES_MIN)
    began = time.monotonic()
    signal.alarm(options.seconds_max)
    try:
        for node in cluster:
            node.start()
        for node in cluster:
            node.wait_ready()
        moves, how, printed = Moves(cluster), options.how.split(","), 0
        kinds = sorted({kind_of(node) for node in cluster}, reverse=True)
        for number in range(options.moves):
            # A leader of each kind goes in each of these ways.
            moves.make_kind_lead(kinds[number // len(how) % len(kinds)])
            moves.move(how[number % len(how)])
            for line in moves.log[printed:]:
                print(f"{number + 1:3} {line}", flush=True)
            printed = len(moves.log)
        high_watermark = moves.settle()
        moves.check(high_watermark)
        dumped, dumped_from = check_dumps_equal(list(cluster), libs, high_watermark)
    finally:
        cluster.end()
    segments = [len(node.segments()) for node in cluster]
    print(f"Kafka {options.kafka}, {options.kinds}: {options.moves} moves in {time.monotonic() - began:.0f} s, led by {dict(moves.led)}; the logs are byte-equal "
          f"up to offset {high_watermark} ({segments} segments), all {len(moves.acked)} acknowledged records are there; Kafka's DumpLogSegments "
          f"says the same of all {dumped} batches from offset {dumped_from} on")
    shutil.rmtree(options.directory)


if __name__ == "__main__":
    main()
