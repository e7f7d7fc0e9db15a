"""Reads a node's files by docs/formats.md alone: each layout stands here a second time, so that the page and the program cannot part."""

import json
import re
import struct
from dataclasses import dataclass

import raw
from raw import crc32c

SLOT_BYTES = 4096
# Kafka's: ProducerStateEntry.NUM_BATCHES_TO_RETAIN.
BATCHES_REMEMBERED = 5
BATCH_HEADER = struct.Struct(">qiibIhiqqqhii")
MARK_HEAD = struct.Struct(">8sI")
MARK = {1: struct.Struct(">QqiqQqI"), 2: struct.Struct(">QqiqQqIqi")}
SUMMARY_HEAD = struct.Struct(">8sIqqq")
PRINT = struct.Struct(">qqIiI")
PRODUCER = struct.Struct(">qhqiiq")


@dataclass(frozen=True)
class Batch:
    base_offset: int
    epoch: int
    magic: int
    crc: int
    attributes: int
    last_offset_delta: int
    max_timestamp: int
    producer_id: int
    producer_epoch: int
    base_sequence: int
    count: int
    position: int
    data: bytes

    @property
    def next_offset(self):
        return self.base_offset + self.last_offset_delta + 1

    @property
    def is_control(self):
        return bool(self.attributes & 0x20)

    @property
    def begins_epoch(self):
        """A control batch that is none of what is set for the topic."""
        return self.is_control and CONFIGS_KEY not in self.data

    def as_sent(self):
        """What the producer sent: without offset and epoch."""
        return struct.pack(">q", 0) + self.data[8:12] + struct.pack(">i", -1) + self.data[16:]


def batches(data):
    """The batches of a segment, each with its CRC checked, and how many bytes lie behind the last one."""
    found, at = [], 0
    while len(data) - at >= BATCH_HEADER.size:
        base, length, epoch, magic, crc, attributes, delta, _, latest, producer, producer_epoch, sequence, count = \
            BATCH_HEADER.unpack_from(data, at)
        if length < BATCH_HEADER.size - 12 or at + 12 + length > len(data) or magic != 2:
            break
        whole = data[at:at + 12 + length]
        if crc32c(whole[21:]) != crc:
            break
        found.append(Batch(base, epoch, magic, crc, attributes, delta, latest, producer, producer_epoch, sequence, count, at, whole))
        at += len(whole)
    return found, len(data) - at


def log_of(partition):
    """All batches of a directory's segments; offsets follow each other, epochs do not fall, each begins with a control batch."""
    log = []
    for segment in sorted(partition.glob("*.log")):
        found, _ = batches(segment.read_bytes())
        assert not log or int(segment.stem) == log[-1].next_offset
        for batch in found:
            if log:
                assert batch.base_offset == log[-1].next_offset and batch.epoch >= log[-1].epoch
            assert batch.count == batch.last_offset_delta + 1
            assert batch.begins_epoch == (not log or batch.epoch > log[-1].epoch), "an epoch begins with a leader's batch"
            log.append(batch)
    return log


def epochs_of(log):
    """[(epoch, start offset)]"""
    starts = []
    for batch in log:
        if not starts or batch.epoch > starts[-1][0]:
            starts.append((batch.epoch, batch.base_offset))
    return starts


# Of a control record, version 0 and type 19282: what is set for the topic.
CONFIGS_KEY = struct.pack(">hh", 0, 19282)


@dataclass(frozen=True)
class Mark:
    version: int
    sequence: int
    end: int
    epoch: int
    segment: int
    position: int
    log_start: int
    epochs_crc: int
    committed: int = 0
    committed_epoch: int = 0


def mark_in(slot):
    """None: no mark."""
    magic, version = MARK_HEAD.unpack_from(slot)
    if magic != b"KRFTMARK" or version not in MARK:
        return None
    end = MARK_HEAD.size + MARK[version].size
    if crc32c(slot[:end]) != struct.unpack_from(">I", slot, end)[0]:
        return None
    assert end + 4 == {1: 64, 2: 76}[version] and not any(slot[end + 4:]), "all of a mark lies at its slot's begin"
    return Mark(version, *MARK[version].unpack_from(slot, MARK_HEAD.size))


def newest_mark(data):
    assert len(data) == 2 * SLOT_BYTES
    marks = [mark_in(data[at:at + SLOT_BYTES]) for at in (0, SLOT_BYTES)]
    return max(filter(None, marks), key=lambda mark: mark.sequence)


def check_mark(mark, log):
    """It says what the log has."""
    below = [batch for batch in log if batch.next_offset <= mark.end]
    assert (below[-1].next_offset, below[-1].epoch) == (mark.end, mark.epoch)
    assert below[-1].position + len(below[-1].data) == mark.position
    starts = b"".join(struct.pack(">iq", *start) for start in epochs_of(log) if start[1] < mark.end)
    assert crc32c(starts) == mark.epochs_crc
    assert mark.committed <= mark.end and mark.log_start == log[0].base_offset
    committed = [batch.epoch for batch in log if batch.base_offset < mark.committed]
    assert mark.committed_epoch == (committed[-1] if committed else 0)


def quorum_state(text):
    """Its keys, in their order; the checksum checked."""
    state = json.loads(text)
    wanted = ["leaderId", "leaderEpoch", "votedId", "votedDirectoryId", "data_version", "caughtUp"]
    wanted += ["inDoubt"] if "inDoubt" in state else []
    assert list(state) == [*wanted, "checksum"]
    before = text.rpartition(',"checksum":')[0]
    assert state["checksum"] == f"{crc32c(before.encode()):08x}" and text == f'{before},"checksum":"{state["checksum"]}"}}'
    return state


@dataclass(frozen=True)
class Summary:
    segment: int
    length: int
    end: int
    first: tuple
    last: tuple
    epochs: list
    index: list
    sections: dict


def summary(data):
    assert crc32c(data[:-4]) == struct.unpack(">I", data[-4:])[0]
    magic, version, segment, length, end = SUMMARY_HEAD.unpack_from(data)
    assert (magic, version) == (b"KRFTSUMM", 3)
    at = SUMMARY_HEAD.size
    first, last = PRINT.unpack_from(data, at), PRINT.unpack_from(data, at + PRINT.size)
    at += 2 * PRINT.size
    counts = struct.unpack_from(">III", data, at)
    at += 12
    epochs = [struct.unpack_from(">iq", data, at + 12 * n) for n in range(counts[0])]
    at += 12 * counts[0]
    index = [struct.unpack_from(">IIqI", data, at + 20 * n) for n in range(counts[1])]
    at += 20 * counts[1]
    sections = {}
    for _ in range(counts[2]):
        tag, section_version, size = struct.unpack_from(">HHI", data, at)
        assert tag > max(sections, default=-1)
        sections[tag] = (section_version, data[at + 8:at + 8 + size])
        at += 8 + size
    assert at == len(data) - 4
    return Summary(segment, length, end, first, last, epochs, index, sections)


def as_producers(batch):
    return (batch.producer_id, batch.producer_epoch, batch.base_offset, batch.last_offset_delta, batch.base_sequence, batch.max_timestamp)


def remembered(log):
    """The last batches of each producer, of one epoch, as section 1 has them."""
    last = {}
    for batch in (batch for batch in log if batch.producer_id >= 0 and not batch.is_control):
        kept = [b for b in last.get(batch.producer_id, []) if b.producer_epoch == batch.producer_epoch]
        last[batch.producer_id] = [*kept, batch][-BATCHES_REMEMBERED:]
    return {as_producers(batch) for kept in last.values() for batch in kept}


def check_summary(found, segment_data, log):
    """It says what the segment has."""
    inside, behind = batches(segment_data)
    assert behind == 0 and found.length == len(segment_data)
    assert (found.segment, found.end) == (inside[0].base_offset, inside[-1].next_offset)
    of = lambda batch: (batch.base_offset, batch.position, len(batch.data), batch.epoch, batch.crc)
    assert (found.first, found.last) == (of(inside[0]), of(inside[-1]))
    assert found.epochs == [start for start in epochs_of(log) if found.segment <= start[1] < found.end]
    places = {(batch.base_offset - found.segment, batch.position) for batch in inside}
    assert {entry[:2] for entry in found.index} <= places and found.index[0][:2] == (0, 0)
    bounds = [entry[1] for entry in found.index[1:]] + [found.length]
    for (_, position, latest, latest_at), bound in zip(found.index, bounds):
        run = [batch for batch in inside if position <= batch.position < bound and not batch.is_control]
        times = {batch.max_timestamp: batch.base_offset - found.segment for batch in reversed(run)}
        assert latest == max(times, default=-2**63) and (not times or latest_at == times[latest])
    # The third is not there where a program wrote it that knew none.
    assert set(found.sections) - {3} == {1} and found.sections[1][0] == 1
    if 3 in found.sections:
        check_configs(*found.sections[3], inside)
    producers = [PRODUCER.unpack_from(found.sections[1][1], at) for at in range(0, len(found.sections[1][1]), PRODUCER.size)]
    assert producers == sorted(producers, key=lambda batch: batch[2])
    # It may hold more than what is remembered at the log's end, but never less.
    there = {as_producers(batch) for batch in inside}
    assert remembered(log) & there <= set(producers) <= there


def snapshot_name(end, epoch):
    return f"{end:020}-{epoch:010}.checkpoint"


def snapshot(epoch, time_ms, sections, piece_bytes=512 << 10):
    """The bytes of a snapshot with these sections: {tag: (version, bytes)}."""
    data, offset = b"", 0

    def batch(attributes, key, value):
        nonlocal data, offset
        record = raw.record(0, value, key=key)
        data += raw.batch(value, attributes=attributes, records=record, timestamp_ms=time_ms, base_offset=offset, epoch=epoch)
        offset += 1
    batch(0x20, struct.pack(">hh", 0, 3), struct.pack(">hqb", 0, time_ms, 0))
    for tag, (version, section) in sorted(sections.items()):
        for at in range(0, max(len(section), 1), piece_bytes):
            head = struct.pack(">4sHHHIII", b"KRFS", 1, tag, version, len(section), crc32c(section), at)
            batch(0, None, head + section[at:at + piece_bytes])
    batch(0x20, struct.pack(">hh", 0, 4), struct.pack(">hb", 0, 0))
    return data


def check_configs(version, section, inside):
    """Nothing, or the last batch of it that lies there: its offset, and the value of its record."""
    said = [batch for batch in inside if CONFIGS_KEY in batch.data]
    assert version == 1
    if section:
        assert struct.unpack_from(">q", section)[0] == said[-1].base_offset and section[8:] in said[-1].data


def properties(text):
    lines = text.splitlines()
    assert lines == sorted(lines) and text.endswith("\n")
    return dict(line.split("=", 1) for line in lines)


def check_directory(data_dir, partition):
    """Every file of a directory that a server of ours wrote. Gives its log."""
    meta = properties((data_dir / "meta.properties").read_text())
    assert set(meta) == {"version", "cluster.id", "node.id", "directory.id", "kraft.data.mode"} and meta["version"] == "1"
    assert re.fullmatch(r"version: 0\ntopic_id: [A-Za-z0-9_-]{22}", (partition / "partition.metadata").read_text())
    quorum_state((partition / "quorum-state").read_text())
    # Of one time before, which another program may have written.
    if "checksum" in (before := (partition / "quorum-state.tmp").read_text()):
        quorum_state(before)
    log = log_of(partition)
    lines = [f"{epoch} {start}" for epoch, start in epochs_of(log)]
    assert (partition / "leader-epoch-checkpoint").read_text() == "\n".join(["0", str(len(lines)), *lines]) + "\n"
    check_mark(newest_mark((partition / "commit-mark").read_bytes()), log)
    segments = sorted(partition.glob("*.log"))
    for path in partition.glob("*.summary"):
        found, segment = summary(path.read_bytes()), path.with_suffix(".log")
        # The last segment's is of an earlier stop where it has grown since.
        if segment != segments[-1] or found.length == segment.stat().st_size:
            check_summary(found, segment.read_bytes(), log)
    return log
