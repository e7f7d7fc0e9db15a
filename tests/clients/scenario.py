"""What every client is put through, on a quorum of three, and what must come of it."""

import queue
import random
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "processes"))
sys.path.insert(0, str(Path(__file__).resolve().parent / "programs"))

import raw  # noqa: E402
import session  # noqa: E402
from cluster import TOPIC, die_with_parent, wait_for  # noqa: E402

ANSWER_SECONDS_MAX = 60
# What must fail, fails within this time, half of what Java's clients wait for; one that knows better than to wait needs far less.
REFUSAL_SECONDS_MAX = 30
# Of what it says.
REFUSAL_CHARACTERS_MAX = 300
# So that a new leader is found quickly. A dead one is noticed at once, whatever the fetch timeout is, and there must be no other
# election: who is not idempotent may write twice across it.
OVERRIDES = {"controller.quorum.election.timeout.ms": 500}
CODECS = ["gzip", "snappy", "lz4", "zstd"]
OK, FAILED, ABSENT = "ok", "FAILED", "absent"


@dataclass
class Row:
    """One capability of one client."""
    capability: str
    result: str
    remark: str
    seconds: float


class Absent(Exception):
    """The client offers no such thing."""


class Said(Exception):
    """The client's own error."""


class Session:
    """One running client program, and the lines it says."""

    def __init__(self, command, bootstrap, log):
        self.log = log
        with open(log, "ab") as errors:
            self.process = subprocess.Popen([*command, bootstrap, TOPIC], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, text=True, bufsize=1, preexec_fn=die_with_parent)
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def start(self, *words):
        self.process.stdin.write(" ".join(str(word) for word in words) + "\n")
        self.process.stdin.flush()
        return self

    def answers(self, timeout_s=ANSWER_SECONDS_MAX, until="done"):
        """Each line's words, up to "done"; the client's errors are raised."""
        deadline, problem = time.monotonic() + timeout_s, None
        while True:
            try:
                line = self.lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"nothing more was said within {timeout_s} s") from None
            assert line is not None, f"the program ended with exit code {self.process.wait(10)}, see {self.log}"
            name, _, rest = line.partition(" ")
            if name == until:
                break
            if name == "done":
                raise problem or AssertionError(f"done, and never {until}")
            if name in ("error", "absent"):
                problem = Said(rest) if name == "error" else Absent(rest)
            else:
                yield line.split(" ")
        if problem:
            raise problem

    def end(self):
        self.process.kill()
        self.process.wait(10)


def offsets_in(lines):
    return [None if offset == "-" else int(offset) for _, offset in lines]


def records_in(lines):
    return [(int(offset), (session.data(key), session.data(value), session.headers(headers)))
            for _, offset, _, key, value, headers in lines]


def text(n, size=200):
    return (f"record {n} of a line that can be compressed; " * (size // 40 + 1))[:size].encode()


def record_sets():
    """What is sent for each capability, but for the last record."""
    chance = random.Random(7)
    every_byte = bytes(range(256))
    return {
        "keys": [(b"key-%d" % n, b"value-%d" % n, []) for n in range(50)] + [(every_byte, every_byte, []), (None, b"no key", [])],
        "headers": [(b"k", b"one", [(b"trace", b"1")]), (b"k", b"three", [(b"a", b"1"), (b"b", b"22"), (b"c", b"333")])],
        "odd headers": [(b"k", b"binary", [(b"bytes", every_byte)]), (b"k", b"none", [(b"null", None)]),
                        (b"k", b"empty", [(b"empty", b"")]), (b"k", b"twice", [(b"h", b"1"), (b"h", b"2")])],
        "null": [(b"k", None, []), (None, b"v", []), (b"k2", None, [])],
        "empty value": [(b"k", b"", []), (b"k2", b"", [])],
        "empty key": [(b"", b"v", []), (b"", b"", [])],
        "big": [(b"big", chance.randbytes(900_000), [])] + [(b"b%d" % n, chance.randbytes(300), []) for n in range(3000)],
        "not idempotent": [(None, b"plain-%d" % n, []) for n in range(300)],
        "idempotent": [(None, b"idempotent-%d" % n, []) for n in range(300)],
        **{codec: [(b"%d" % n, text(n), []) for n in range(300)] for codec in CODECS},
    }


SETS = record_sets()
CAPABILITIES = [*SETS, "beginning", "by offset", "by time", "tail", "leader change", "read across it", "list topics", "no offset",
                "group", "commit", "transaction", "create topic"]


def difference(wanted, got):
    """None where they are equal, else what differs first."""
    def short(record):
        return [None if part is None else part if isinstance(part, list) else part[:24] for part in record]
    for n, (sent, read) in enumerate(zip(wanted, got)):
        if sent != read:
            return f"record {n}: {short(sent)} was read as {short(read)}"
    if len(wanted) != len(got):
        return f"{len(got)} records were read, {len(wanted)} sent"
    return None


class Scenario:
    """One client on one quorum. `rows()` goes through all capabilities in their order, each on what those before it left."""

    def __init__(self, client, command, reference, cluster, scratch):
        self.client, self.cluster, self.scratch = client, cluster, scratch
        self.log = scratch / "client.log"
        open_session = lambda command: Session(command, cluster.bootstrap, self.log)
        self.producer, self.consumer = open_session(command), open_session(command)
        self.reference = open_session(reference)
        self.command = command
        # All that stands in the log: (offset, record).
        self.stored = []
        # How often something was set for the topic.
        self.altered = 0
        self.is_idempotent = False
        # What was stored across a leader change, or why the client could not read it.
        self.across = None

    def end(self):
        for one in (self.producer, self.consumer, self.reference):
            one.end()

    def rows(self, wanted=None):
        for capability in CAPABILITIES:
            if wanted and capability not in wanted:
                continue
            began = time.monotonic()
            result, remark = self.judge(capability)
            yield Row(capability, result, remark, time.monotonic() - began)

    def judge(self, capability):
        fault = self.client.faults.get(capability)
        try:
            remark = self.check(capability) or ""
        except Absent as why:
            return ABSENT, str(why)
        except (AssertionError, Said, raw.Closed, OSError) as problem:
            # A program that did not come to its end would answer the next command with the rest of this one.
            self.restart()
            if fault:
                return ABSENT, fault
            return FAILED, f"{type(problem).__name__}: {problem}".replace("\n", " ")
        return (FAILED, f"this worked, although the table says: {fault}") if fault else (OK, remark)

    def restart(self):
        for name in ("producer", "consumer"):
            getattr(self, name).end()
            setattr(self, name, Session(self.command, self.cluster.bootstrap, self.log))

    def check(self, capability):
        if capability in SETS:
            return self.check_produce(capability)
        return {"beginning": self.check_beginning, "by offset": self.check_by_offset, "by time": self.check_by_time,
                "tail": self.check_tail, "leader change": self.check_leader_change, "read across it": self.check_read_across,
                "list topics": self.check_list_topics, "no offset": self.check_no_offset,
                "group": lambda: self.check_refusal("group"), "commit": lambda: self.check_refusal("commit"),
                "transaction": self.check_transaction, "create topic": lambda: self.check_refusal("create")}[capability]()

    # ------------------------------------------------------------------------------------------------------- produce

    def last_key(self, name):
        return f"{name}-{len(self.stored)}-end".replace(" ", "-").encode()

    def file_of(self, records):
        path = self.scratch / "records"
        lines = (f"{session.word(key)} {session.word(value)} {session.header_words(headers)}\n" for key, value, headers in records)
        path.write_text("".join(lines))
        return path

    def high_watermark(self):
        """A new leader knows it only once its epoch's first record is committed."""
        def known():
            leader = self.cluster.leader_now()
            return leader and leader.status()["high_watermark"]
        return wait_for("a leader that knows the high watermark", known)

    def produce(self, name, records, codec="none"):
        """Sends records and a last one; returns the offset of the first, as the reference reader has found them all."""
        records = [*records, (self.last_key(name), b"end", [])]
        first = self.high_watermark()
        is_idempotent = name == "idempotent" or self.is_idempotent and name != "not idempotent"
        told = offsets_in(self.producer.start("produce", codec, str(is_idempotent).lower(), 0, self.file_of(records)).answers())
        self.check_stored(records, first, told)
        return first

    def check_stored(self, records, first, told):
        read = self.read(self.reference, first, records[-1][0])
        problem = difference(records, [record for _, record in read])
        assert problem is None, f"stored otherwise than sent: {problem}"
        offsets = [offset for offset, _ in read]
        assert len(told) == len(offsets), f"{len(told)} answers for {len(offsets)} records"
        wrong = [(one, other) for one, other in zip(told, offsets) if one not in (None, other)]
        assert not wrong, f"told offset {wrong[0][0]}, stored at {wrong[0][1]}"
        self.stored += read

    def alter(self):
        """Something is set for the topic: a control batch of the server's own type, which no reader may show or stumble over."""
        with raw.Connection(self.cluster.leader().port) as connection:
            self.altered += 1
            assert connection.alter_configs(retention_bytes=str(1 << 40 | self.altered))[0] == raw.NONE

    def check_produce(self, name):
        self.alter()
        codec = name if name in CODECS else "none"
        if name == "idempotent":
            # What follows is idempotent too, where the client can be.
            self.is_idempotent = False
        first = self.produce(name, SETS[name], codec)
        codecs, producer_ids = self.batches(first)
        # A batch that compression would make larger, as one of a single record, is sent plain by some.
        assert codecs - {0} == ({CODECS.index(codec) + 1} if codec in CODECS else set()), f"compression of the batches: {codecs}"
        if name in ("idempotent", "not idempotent"):
            assert all((one >= 0) == (name == "idempotent") for one in producer_ids), f"producer ids {producer_ids}"
            self.is_idempotent = name == "idempotent"

    def batches(self, offset):
        """Codecs and producer ids of the batches from this offset on, as the server sends them."""
        with raw.Connection(self.cluster.leader().port) as connection:
            rest = connection.fetch(offset).records
        codecs, producer_ids = set(), set()
        while len(rest) > 61:
            codecs.add(int.from_bytes(rest[21:23], "big") & 7)
            producer_ids.add(int.from_bytes(rest[43:51], "big", signed=True))
            rest = rest[12 + int.from_bytes(rest[8:12], "big"):]
        assert codecs, f"no batch at {offset}"
        return codecs, producer_ids

    # ------------------------------------------------------------------------------------------------------- consume

    def read(self, reader, start, last_key):
        lines = reader.start("consume", start, session.word(last_key)).answers()
        return records_in([line for line in lines if line != ["ready"]])

    def check_read(self, wanted, read):
        problem = difference([record for _, record in wanted], [record for _, record in read])
        assert problem is None, problem
        assert [offset for offset, _ in wanted] == [offset for offset, _ in read], "other offsets than the reference reader's"

    def check_beginning(self):
        assert self.stored, "nothing was produced"
        # All of it, also what a faulty client has stored otherwise than it was told to, and so is in no set.
        self.stored = self.read(self.reference, "beginning", self.stored[-1][1][0])
        self.check_read(self.stored, self.read(self.consumer, "beginning", self.stored[-1][1][0]))
        return f"{len(self.stored)} records"

    def check_by_offset(self):
        # In the midst of a compressed batch, or of a plain one.
        at = len(self.stored) - 100
        self.check_read(self.stored[at:], self.read(self.consumer, self.stored[at][0], self.stored[-1][1][0]))

    def check_by_time(self):
        time.sleep(0.05)
        between_ms = time.time_ns() // 1_000_000
        time.sleep(0.05)
        before = len(self.stored)
        self.produce("time", [(None, b"after", []), (b"k", b"the time", [])])
        self.check_read(self.stored[before:], self.read(self.consumer, f"@{between_ms}", self.stored[-1][1][0]))

    def check_tail(self):
        before = len(self.stored)
        last_key = self.last_key("tail")
        self.start_reading_from_the_end(last_key)
        self.alter()
        self.produce("tail", [(b"t%d" % n, b"tail", []) for n in range(20)])
        self.check_tail_read(self.stored[before:])

    def start_reading_from_the_end(self, last_key):
        self.consumer.start("consume", "end", session.word(last_key))
        assert list(self.consumer.answers(until="ready")) == []

        # Some programs begin to look for the end only now, and a record sent meanwhile is missed rightly: some are sent until
        # one is read. What comes later must not be missed.
        def reads():
            with raw.Connection(self.cluster.leader().port) as connection:
                assert connection.produce(raw.batch(b"is it there?")).error == raw.NONE
            return not self.consumer.lines.empty()
        wait_for("the client to read from the end", reads, every_s=0.1)

    def check_tail_read(self, wanted):
        read = records_in(self.consumer.answers())
        self.check_read(wanted, [(offset, record) for offset, record in read if offset >= wanted[0][0]])

    # ------------------------------------------------------------------------------------------------- leader change

    def check_leader_change(self):
        last_key = self.last_key("change")
        records = [*((b"c%d" % n, b"across a leader change", []) for n in range(300)), (last_key, b"end", [])]
        try:
            self.start_reading_from_the_end(last_key)
        except Absent as why:
            self.across = why
        else:
            self.across = None
        first, leader = self.high_watermark(), self.cluster.leader()
        self.producer.start("produce", "none", str(self.is_idempotent).lower(), 5, self.file_of(records))
        lines = self.producer.answers()
        told = [next(lines) for _ in range(80)]
        self.alter()
        leader.kill()
        gap_s, before = 0.0, time.monotonic()
        for line in lines:
            now = time.monotonic()
            gap_s, before = max(gap_s, now - before), now
            told.append(line)
        try:
            return self.check_change(records, first, offsets_in(told)) + f", no answer for {gap_s:.1f} s"
        finally:
            leader.start()
            self.cluster.wait_ready()
            self.cluster.wait_caught_up()

    def check_change(self, records, first, told):
        assert len(told) == len(records), f"{len(told)} answers for {len(records)} records"
        read = self.read(self.reference, first, records[-1][0])
        keys = [key for _, (key, _, _) in read]
        doubled = len(keys) - len(set(keys))
        assert doubled == 0 or not self.is_idempotent, f"{doubled} records are there twice"
        missing = {key for key, _, _ in records} - set(keys)
        assert not missing, f"{len(missing)} acknowledged records are missing"
        if not doubled:
            assert difference(records, [record for _, record in read]) is None
        at = dict(read)
        wrong = [n for n, offset in enumerate(told) if offset is not None and at.get(offset) != records[n]]
        assert not wrong, f"record {wrong[0]} is not at the offset {told[wrong[0]]} that was told"
        self.stored += read
        # Kept for the next capability, whose reader has been at it meanwhile.
        self.across = self.across or read
        return f"{doubled} twice"

    def check_read_across(self):
        """What the consumer read while the leader changed."""
        if isinstance(self.across, Absent):
            raise self.across
        assert self.across, "nothing was produced across a leader change"
        self.check_tail_read(self.across)

    # -------------------------------------------------------------------------------------------------- what there is

    def check_list_topics(self):
        topics = [name for _, name in self.consumer.start("topics").answers()]
        assert topics == [TOPIC], f"all topics are {topics}"

    def check_no_offset(self):
        """Assigned in a group that has committed nothing: the client asks for that, and begins at the beginning."""
        if not self.stored:
            self.produce("no offset", [(None, b"one", [])])
        if self.client.faults.get("beginning"):
            raise Absent(self.client.faults["beginning"])
        self.check_read(self.read(self.reference, "beginning", self.stored[-1][1][0]),
                        self.read(self.consumer, "committed", self.stored[-1][1][0]))

    # ------------------------------------------------------------------------------------------------------ refusals

    def check_transaction(self):
        """The client shows what it was told, or at least an error that sends nobody to look for an ACL."""
        said = self.check_refusal("transaction")
        assert "no transactions" in said or "authori" not in said.lower(), f"transactions were refused with {said}"
        return said

    def check_refusal(self, command):
        began = time.monotonic()
        try:
            said = list(self.consumer.start(command).answers(REFUSAL_SECONDS_MAX))
        except Said as error:
            return f"{time.monotonic() - began:.1f} s: {error}"[:REFUSAL_CHARACTERS_MAX]
        raise AssertionError(f"no error came: {said}")


def run(client, command, reference, clusters, scratch, wanted=None):
    """The rows of one client, on a quorum of its own."""
    cluster = clusters(3, overrides=OVERRIDES)
    cluster.leader()
    wait_for("a first high watermark", lambda: cluster.leader().status()["high_watermark"] >= 1)
    scenario = Scenario(client, command, reference, cluster, scratch)
    try:
        yield from scenario.rows(wanted)
    finally:
        scenario.end()
