//! The writer: turns queued batches into groups of durable writes, and grows the segment ahead of itself.
//!
//! Called by `Log::end_turn`. The next group is copied while one is in flight. A group is a run of bytes at consecutive
//! positions of one segment: whole batches while they fit, a part of one only where a single batch is larger than a
//! group may be. Its chunks, one buffer each, are written in parallel; the flushed offset moves when all of them, and
//! all groups before, are durable.
//!
//! What the log may lose without a trace is vouched for first: the flush of a group that holds a batch which could pass for a
//! torn one ([`super::torn`]), or which begins an epoch, is told when the commit mark behind it is durable, and only then
//! the next group goes.
//!
//! It never writes outside of the zeroed part of a file, and never while a task runs.

use super::commit_mark::{self, COMMIT_MARK_INTERVAL_BYTES, CommitMark};
use super::flights::Purpose;
use super::index::Place;
use super::recovery::Repair;
use super::task::Shutdown;
use super::torn;
use super::{
    BLOCK_BYTES, ChunkFiller, FileId, Log, LogEvent, OpKind, SegmentId, WriteBuffer, block_ceil, block_floor,
};
use crate::record::{BATCH_PREFIX_BYTES, StampedBatch};
use crate::types::*;

/// Groups in flight at once. More need a rule for the head block that two of them share; the next one is copied meanwhile.
const GROUPS_MAX: usize = 1;
/// A log that grows by larger groups than this on the average only reserves its zeros. The first write to a block that is
/// reserved but not written costs a commit of the file system's journal: 50 us more for a group of 4 KiB, 200 us for one of
/// 40 KiB on a busy machine, lost in one of 1 MiB. Zeros written ahead would there write every byte twice, and halve what
/// the device can take.
const ZEROED_GROUP_BYTES_MAX: u64 = 128 << 10;
/// Zeros are written in steps of this size at most, because a flush beside them waits for them: with 16 MiB the longest of
/// groups of 40 KiB took 23 ms, with 2 MiB 9. Smaller ones cost more commits of the journal than they save.
const ZEROED_STEP_BYTES: u64 = 2 << 20;

/// Where the next byte goes.
pub(super) struct Cursor {
    pub(crate) segment: SegmentId,
    /// Behind the last byte handed to the device, of a whole batch or of a part of one.
    pub(crate) position: u64,
    /// The file is allocated and zeroed up to here. No multiple of 4 KiB in a file that was cut.
    pub(crate) zeroed: u64,
    /// Copy of the block that `position` lies in, valid below it: the next group begins with it.
    pub(super) tail_block: Box<[u8; BLOCK_BYTES]>,
    /// Offset of the next batch to hand to the device.
    pub(super) submitted_end: Offset,
    /// Bytes of that batch already handed over.
    pub(crate) partial: usize,
    /// What the next group that ends with a whole batch holds must be vouched for.
    pub(super) must_vouch: bool,
    /// Since the file was extended last.
    grown: Growth,
}

/// By how much the log has grown, and in how many groups.
#[derive(Default)]
struct Growth {
    bytes: u64,
    groups: u64,
}

impl Growth {
    /// Also one that has not grown yet.
    fn is_in_small_groups(&self) -> bool {
        self.bytes <= self.groups.max(1) * ZEROED_GROUP_BYTES_MAX
    }
}

/// A run of chunks in flight.
pub(super) struct Group {
    pub(super) number: u64,
    chunks_left: usize,
    /// Flushed once this and all groups before are complete. A truncation lowers it.
    pub(super) end: Offset,
    pub(super) end_place: Place,
    pub(super) bytes: u64,
    /// To be durable before the flush is told.
    vouch: Option<CommitMark>,
}

/// A flush that is told when the mark is durable.
pub(super) struct Withheld {
    /// A truncation lowers it.
    pub(super) end: Offset,
    end_place: Place,
    pub(super) bytes: u64,
    mark: CommitMark,
    is_submitted: bool,
}

/// The next group, copied while another one is in flight. Nothing but its buffers has changed hands: its batches are
/// queued until it is submitted.
#[derive(Default)]
pub(super) struct Prepared {
    pub(super) filler: ChunkFiller,
    /// Whole batches in it, from `submitted_end` on.
    pub(super) batches: usize,
    /// Of batches: without the head of the block that it begins in.
    bytes: usize,
    /// Of a batch that is not in it as a whole.
    part_bytes: usize,
    must_vouch: bool,
}

impl Cursor {
    pub(super) fn new(at: Place, log_end: Offset, repair: &Repair) -> Cursor {
        Cursor {
            segment: at.segment,
            position: at.position,
            zeroed: repair.last_file_bytes,
            tail_block: repair.tail_block.clone(),
            submitted_end: log_end,
            partial: 0,
            must_vouch: false,
            grown: Growth::default(),
        }
    }

    /// Bytes of the last block that the next group writes again.
    fn head(&self) -> usize {
        (self.position - block_floor(self.position)) as usize
    }
}

impl Log {
    /// Make the mark durable for which a flush is withheld.
    pub(super) fn maybe_vouch(&mut self) {
        if self.flights.any(|p| p == Purpose::Mark) {
            return;
        }
        if let Some(withheld) = &mut self.withheld {
            assert!(self.task.is_none(), "no task begins while a flush is withheld");
            withheld.is_submitted = true;
            let mark = withheld.mark;
            self.submit_mark(mark, true);
        }
    }

    /// Grow the file when few zeros are left, or the next batch needs more.
    pub(super) fn maybe_extend(&mut self) {
        if self.must_roll() || self.flights.any(|p| matches!(p, Purpose::Extend { .. })) {
            return;
        }
        if let Some((from, to)) = self.extension() {
            let segment = self.writer.segment;
            let written = std::mem::take(&mut self.writer.grown).is_in_small_groups();
            self.submit(OpKind::ExtendSegment { segment, from, to, written }, Purpose::Extend { to });
        }
    }

    /// The zeros wanted now: from the end of the file to here.
    pub(super) fn extension(&self) -> Option<(u64, u64)> {
        let (position, from) = (self.writer.position, self.writer.zeroed);
        let next = self.tail.iter_from(self.writer.submitted_end).next();
        let needed = position + next.map_or(0, |b| (b.size_bytes() - self.writer.partial) as u64);
        let (step, ahead) = self.extension_step();
        let enough = from.saturating_sub(position) >= ahead && block_ceil(needed) <= block_floor(from);
        // Only a batch that alone is larger than a segment may be makes a segment larger.
        let largest = block_ceil(needed.max(self.config.segment_bytes_max));
        let to = block_ceil(needed.max(from + step)).min(largest);
        (!enough && to > from).then_some((from, to))
    }

    /// By how much the file grows, and when: with less than so many bytes ahead of the writer.
    fn extension_step(&self) -> (u64, u64) {
        let largest = self.config.zero_ahead_bytes;
        if self.writer.grown.is_in_small_groups() {
            return (largest.min(ZEROED_STEP_BYTES), (largest / 2).min(2 * ZEROED_STEP_BYTES));
        }
        (largest, largest / 2)
    }

    /// All that is queued, as far as buffers and zeroed space reach, becomes a group. While another one is in flight it is
    /// only copied: the device then waits for no copy, and what has just been received is still in the CPU's cache.
    pub(super) fn maybe_submit_group(&mut self) {
        if self.must_roll() {
            return;
        }
        self.prepare_batches();
        if self.groups.len() >= GROUPS_MAX || self.withheld.is_some() {
            return;
        }
        if self.prepared.batches == 0 && !self.prepare_part() {
            return;
        }
        let Prepared { filler, batches, bytes, part_bytes, must_vouch } = std::mem::take(&mut self.prepared);
        // Of the last group where that was a part of the batch that now ends.
        self.writer.must_vouch |= must_vouch;
        for batch in self.tail.iter_from(self.writer.submitted_end).take(batches) {
            self.queued_bytes -= batch.size_bytes() as u64;
            self.writer.submitted_end = batch.next_offset();
            let segment = self.segments.0.last_mut().expect("a ready log has a segment");
            segment.push(batch.header());
            segment.appended_ns = Some(self.now_ns);
        }
        let partial_before = if batches > 0 { 0 } else { self.writer.partial };
        self.writer.partial = partial_before + part_bytes;
        let start = block_floor(self.writer.position);
        self.writer.position += bytes as u64;
        let mut chunks = filler.finish(&mut self.writer.tail_block);
        self.submit_chunks(start, &mut chunks, bytes as u64);
        self.prepared.filler = ChunkFiller::with_room_of(chunks);
    }

    /// The next batch does not fit the segment: it begins a new one.
    pub(super) fn must_roll(&self) -> bool {
        let first = self.tail.iter_from(self.writer.submitted_end).next();
        self.writer.partial == 0 && first.is_some_and(|batch| !self.fits_segment(self.writer.position, batch))
    }

    fn fits_segment(&self, position: u64, batch: &StampedBatch) -> bool {
        // Kafka's index files hold offsets relative to the segment's base as i32.
        let relative = batch.last_offset().0 - self.writer.segment.0.0;
        let grown = position + batch.size_bytes() as u64;
        // Kafka: `LogSegment.shouldRoll`, which goes by the records' times too.
        let is_late = self.config.segment_ms_max < i64::MAX
            && self.segments.last().is_some_and(|open| {
                open.span_ms(batch.header().data_timestamp()) > self.config.segment_ms_max
            });
        position == 0
            || !is_late && (grown <= self.config.segment_bytes_max && relative <= i64::from(i32::MAX))
    }

    /// Copy whole batches into the next group, as long as they fit.
    fn prepare_batches(&mut self) {
        let room = self.group_room().min(self.zeroed_room());
        let mut prepared = std::mem::take(&mut self.prepared);
        for batch in self.tail.iter_from(self.writer.submitted_end).skip(prepared.batches) {
            let skip = if prepared.batches == 0 { self.writer.partial } else { 0 };
            let bytes = (prepared.bytes + batch.size_bytes() - skip) as u64;
            let begun = skip > 0;
            let position = self.writer.position + prepared.bytes as u64;
            if bytes > room || !(begun || self.fits_segment(position, batch)) {
                break;
            }
            if prepared.batches == 0 {
                prepared.filler.push(&mut self.pool, &self.writer.tail_block[..self.writer.head()]);
            }
            prepared.must_vouch |= torn::has_hole(batch, skip..batch.size_bytes(), position)
                || begins_epoch(&self.epochs, batch.base_offset());
            prepared.bytes += push_bytes(&mut prepared.filler, &mut self.pool, batch, skip, usize::MAX);
            prepared.batches += 1;
        }
        self.prepared = prepared;
    }

    /// A batch larger than all buffers together goes in parts, once the zeros for all of it are there. False: there is none.
    /// It fits the segment (`must_roll`).
    fn prepare_part(&mut self) -> bool {
        let (space, zeroed) = (self.group_room(), self.zeroed_room());
        let Some(batch) = self.tail.iter_from(self.writer.submitted_end).next() else { return false };
        let left = (batch.size_bytes() - self.writer.partial) as u64;
        if left <= space || left > zeroed {
            return false;
        }
        let mut filler = ChunkFiller::default();
        filler.push(&mut self.pool, &self.writer.tail_block[..self.writer.head()]);
        let part_bytes = push_bytes(&mut filler, &mut self.pool, batch, self.writer.partial, space as usize);
        let part = self.writer.partial..self.writer.partial + part_bytes;
        let must_vouch = torn::has_hole(batch, part, self.writer.position);
        self.prepared = Prepared { filler, batches: 0, bytes: part_bytes, part_bytes, must_vouch };
        true
    }

    /// Bytes of batches that the next group's buffers may hold.
    fn group_room(&self) -> u64 {
        let buffers = self.pool.free_bytes() + self.prepared.filler.capacity();
        let buffers = self.config.group_bytes_max.max(BLOCK_BYTES).min(buffers) as u64;
        block_floor(buffers).saturating_sub(self.writer.head() as u64)
    }

    /// Bytes of batches for which the segment has zeros.
    fn zeroed_room(&self) -> u64 {
        let zeroed = block_floor(self.writer.zeroed).saturating_sub(block_floor(self.writer.position));
        zeroed.saturating_sub(self.writer.head() as u64)
    }

    fn submit_chunks(&mut self, start: u64, chunks: &mut Vec<(WriteBuffer, usize)>, bytes: u64) {
        let number = self.groups.back().map_or(0, |g| g.number + 1);
        let segment = self.writer.segment;
        let length = self.segments.last().map_or(0, |s| s.length);
        self.writer.grown.bytes += bytes;
        self.writer.grown.groups += 1;
        let (end, end_place) = (self.writer.submitted_end, Place { segment, position: length });
        // A part of a batch ends where the one before it did, and cannot be vouched for before all of it is there.
        let is_whole = self.writer.partial == 0;
        let vouch = (is_whole && std::mem::take(&mut self.writer.must_vouch))
            .then(|| self.mark_at(end, end_place, &self.epochs));
        self.groups.push_back(Group { number, chunks_left: chunks.len(), end, end_place, bytes, vouch });
        let mut position = start;
        for (buffer, length) in chunks.drain(..) {
            let file = FileId::Segment(segment);
            assert!(position + length as u64 <= self.writer.zeroed, "a group stays within the zeroed space");
            let write = OpKind::Write { file, position, buffer, length, durable: true };
            self.submit(write, Purpose::Group { number });
            position += length as u64;
        }
    }

    pub(super) fn complete_chunk(&mut self, number: u64) {
        let group =
            self.groups.iter_mut().find(|g| g.number == number).expect("a chunk's group is in flight");
        group.chunks_left -= 1;
        let flushed_before = self.flushed;
        let complete = self.groups.iter().take_while(|g| g.chunks_left == 0).count();
        for group in self.groups.drain(..complete) {
            self.flushed_since_mark_bytes += group.bytes;
            let Group { end, end_place, bytes, vouch, .. } = group;
            if let Some(mark) = vouch {
                assert!(self.withheld.is_none(), "no group goes while the one before it is withheld");
                self.withheld = Some(Withheld { end, end_place, bytes, mark, is_submitted: false });
            } else if end > self.flushed {
                (self.flushed, self.flushed_place) = (end, end_place);
            }
        }
        self.tell_flushed(flushed_before);
    }

    pub(super) fn complete_mark(&mut self) {
        if self.mark.complete() {
            self.on_durable_mark();
        }
        if let Some(Withheld { end, end_place, .. }) = self.withheld.take_if(|w| w.is_submitted) {
            let before = self.flushed;
            if end > before {
                (self.flushed, self.flushed_place) = (end, end_place);
            }
            self.tell_flushed(before);
        }
    }

    fn tell_flushed(&mut self, before: Offset) {
        if self.flushed > before {
            self.tail.evict(FlushedOffset(self.flushed));
            self.events.push_back(LogEvent::Flushed(FlushedOffset(self.flushed)));
        }
    }

    /// Write the commit mark beside the group just formed, or when nothing has happened for a while.
    pub(super) fn maybe_mark(&mut self) {
        let idle = self.groups.is_empty() && self.writer.submitted_end == self.log_end;
        self.idle_since_ns = idle.then(|| self.idle_since_ns.unwrap_or(self.now_ns));
        let is_cut = !self.truncations.is_empty() || self.installing.is_some();
        if !self.ready || self.task.is_some() || is_cut || self.flights.any(|p| p == Purpose::Mark) {
            return;
        }
        let interval_ns = self.config.commit_mark_idle_ms * NS_PER_MS;
        let due = self.now_ns >= self.mark.last_submitted_ns + interval_ns
            || self.flushed_since_mark_bytes >= COMMIT_MARK_INTERVAL_BYTES;
        if !idle && due && self.flushed > self.mark.written_end() {
            self.submit_mark(self.flushed_mark(), false);
        } else if self.deadline().is_some_and(|deadline| self.now_ns >= deadline) {
            self.submit_mark(self.flushed_mark(), true);
        }
    }

    /// The mark for what is flushed now.
    pub(super) fn flushed_mark(&self) -> CommitMark {
        self.mark_at(self.flushed, self.flushed_place, &self.epochs)
    }

    /// The mark for this end of a log with these epochs; `submit_mark` numbers it.
    pub(super) fn mark_at(&self, end: Offset, place: Place, epochs: &[EpochStart]) -> CommitMark {
        let beginning = self.moving.marked();
        let epochs_crc = commit_mark::epochs_crc(epochs, beginning.start.offset, end);
        let epoch = self.epoch_before(epochs, end);
        let offset = self.committed.min(end);
        let committed = OffsetAndEpoch { epoch: self.epoch_before(epochs, offset), offset };
        CommitMark { sequence: 0, end, epoch, place, beginning, epochs_crc, committed }
    }

    /// One was made that is not written yet.
    pub(super) fn has_mark_waiting(&self) -> bool {
        self.withheld.is_some() || self.groups.iter().any(|group| group.vouch.is_some())
    }

    pub(super) fn submit_mark(&mut self, mark: CommitMark, durable: bool) {
        assert!(durable || mark.end <= self.flushed, "a commit mark is a lower bound of what is flushed");
        let (sequence, position) = self.mark.submit(mark.end, mark.committed.offset, durable, self.now_ns);
        self.flushed_since_mark_bytes = 0;
        let mut buffer =
            self.pool.take_mark_block().expect("the mark's block is back when no mark is under way");
        let bytes = CommitMark { sequence, ..mark }.encode();
        buffer.as_mut_slice()[..bytes.len()].copy_from_slice(&bytes);
        let write =
            OpKind::Write { file: FileId::CommitMark, position, buffer, length: BLOCK_BYTES, durable };
        self.submit(write, Purpose::Mark);
    }

    pub(super) fn wants_idle_mark(&self) -> bool {
        let busy = self.task.is_some()
            || !self.truncations.is_empty()
            || self.installing.is_some()
            || self.shutdown != Shutdown::No
            || self.failed;
        let under_way = self.flights.any(|p| p == Purpose::Mark);
        self.ready && !busy && !under_way && self.is_mark_late()
    }

    /// The mark that is durable says less than what is known here.
    pub(super) fn is_mark_late(&self) -> bool {
        let committed = self.committed.min(self.flushed);
        self.mark.durable_end() != self.flushed || self.mark.durable_committed() < committed
    }

    /// What was copied ahead is no longer what comes next.
    pub(super) fn forget_prepared(&mut self) {
        let prepared = std::mem::take(&mut self.prepared);
        prepared.filler.into_buffers().for_each(|buffer| self.pool.put_back(buffer));
    }
}

fn begins_epoch(epochs: &[EpochStart], base: Offset) -> bool {
    epochs.iter().rev().take_while(|e| e.start_offset >= base).any(|e| e.start_offset == base)
}

/// Copy up to `limit` bytes of the batch, from its byte `skip` on. Gives how many.
fn push_bytes(
    filler: &mut ChunkFiller,
    pool: &mut super::BufferPool,
    batch: &StampedBatch,
    skip: usize,
    limit: usize,
) -> usize {
    let end = batch.size_bytes().min(skip.saturating_add(limit));
    let prefix_end = end.min(BATCH_PREFIX_BYTES);
    filler.push(pool, &batch.prefix()[skip.min(prefix_end)..prefix_end]);
    let rest_start = skip.saturating_sub(BATCH_PREFIX_BYTES);
    filler.push(pool, &batch.rest()[rest_start..end.saturating_sub(BATCH_PREFIX_BYTES).max(rest_start)]);
    end - skip
}
