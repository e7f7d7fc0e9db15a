//! Truncation: cut the log to an earlier end, so that nothing of what was cut ever comes back.
//!
//! In memory the log end falls at once. On the device it waits until every write under way has completed; finds
//! the byte where the cut is by reading the run of batches around it; lowers the commit mark, durably, if it is above;
//! removes the summary of the segment that is cut, durably; deletes later segments, newest first, each with its summary; and
//! zeros from the old end back to the new one, durably. Only then are batches written again: a stale batch behind the new end
//! would follow it as if it had been appended, and a stale summary would speak of other bytes.

use super::flights::Purpose;
use super::index::Place;
use super::task::{Cut, Shutdown, Step, Task, TaskKind};
use super::{
    BLOCK_BYTES, DiskError, Log, LogEvent, OpKind, REFILL, SegmentId, SmallFile, block_ceil, block_floor,
};
use crate::record::check_fetched;
use crate::types::*;
use bytes::Bytes;

#[derive(Clone, Debug)]
pub(super) struct Truncation {
    to: Offset,
    /// Those that were left, for the commit mark: another truncation may follow before this one is made.
    epochs: Vec<EpochStart>,
    /// Bytes behind `to` have been handed to the device.
    on_device: bool,
    /// It is the first step of an install, and not told by itself.
    is_told: bool,
}

impl Log {
    /// Cut to `to` (>= log start): waits for writes under way, zeros, makes it durable, then `LogEvent::Truncated`.
    /// Appends made meanwhile are queued behind it. The log end falls at once. A `to` inside of a batch cuts that whole batch.
    pub(crate) fn truncate(&mut self, to: Offset) {
        self.begin_truncation(to, true);
    }

    /// The same, of which nobody is told.
    pub(super) fn truncate_for_install(&mut self, to: Offset) {
        self.begin_truncation(to, false);
    }

    fn begin_truncation(&mut self, to: Offset, is_told: bool) {
        assert!(self.shutdown == Shutdown::No, "a log that shuts down is not truncated");
        assert!(self.installing.is_none(), "a log that is replaced is not truncated");
        self.forget_prepared();
        let to = self.cut_memory(to.clamp(self.log_start(), self.log_end));
        let begun = self.writer.partial > 0 && to == self.writer.submitted_end;
        let on_device = begun || to < self.writer.submitted_end;
        if on_device {
            (self.writer.submitted_end, self.writer.partial) = (to, 0);
            self.writer.must_vouch = false;
        }
        self.truncations.push_back(Truncation { to, epochs: self.epochs.clone(), on_device, is_told });
    }

    /// Forget what lies behind `to`. Gives the end that is left: lower where `to` lies inside of a batch in memory.
    fn cut_memory(&mut self, to: Offset) -> Offset {
        let cut = self.tail.truncate(to);
        let to = cut.last().map_or(to, |oldest| to.min(oldest.base_offset()));
        let queued = cut.iter().filter(|b| b.base_offset() >= self.writer.submitted_end);
        self.queued_bytes -= queued.map(|b| b.size_bytes() as u64).sum::<u64>();
        let epochs = self.epochs.len();
        self.epochs.retain(|e| e.start_offset < to);
        self.checkpoint_stale |= self.epochs.len() < epochs;
        self.log_end = to;
        self.flushed = self.flushed.min(to);
        if to < self.committed {
            // Raft asks for no such cut: one that falls here lies inside of a batch, which no sound leader asks for.
            let why = format!("a cut to {to} would go below {}, which is committed", self.committed);
            self.fail(unreadable(self.writer.segment, self.writer.position, why));
        }
        self.committed = self.committed.min(to);
        // What is in flight must not count beyond the cut when it completes, whatever is appended there by then.
        self.groups.iter_mut().for_each(|g| g.end = g.end.min(to));
        self.withheld.iter_mut().for_each(|w| w.end = w.end.min(to));
        self.blocks.cut(to);
        to
    }

    /// True where it was started, or done.
    pub(super) fn start_truncation(&mut self) -> bool {
        let Some(&Truncation { to, on_device, .. }) = self.truncations.front() else { return false };
        if !on_device {
            self.end_truncation(to);
            return true;
        }
        // A summary under way would be there again after its segment is gone.
        if !self.is_quiet() || self.flights.any(|p| p == Purpose::Summary) {
            return false;
        }
        assert!(self.groups.is_empty(), "no group is in flight when a truncation begins");
        let steps = self
            .run_before(to)
            .map(|(segment, position, length)| Step::Op(self.read_op(segment, position, length)));
        self.task = Some(Task::new(TaskKind::Truncate { to, cut: None }, steps));
        true
    }

    /// Bytes of the index run that holds the last batch before `to`, from its first block on. `None` at a segment's start.
    fn run_before(&self, to: Offset) -> Option<(SegmentId, u64, usize)> {
        let segment = self.segments.holding(to).filter(|s| s.id.0 < to)?;
        let run = segment.run_of(Offset(to.0 - 1))?;
        let start = block_floor(run.position);
        Some((segment.id, start, (run.end - start) as usize))
    }

    /// The bytes around the cut are here: find it, and queue the steps that make it.
    pub(super) fn locate_cut(&mut self, to: Offset, read: Option<Bytes>) {
        let cut = match self.find_cut(to, read) {
            Ok(cut) => cut,
            Err(error) => return self.fail(error),
        };
        if cut.end < to {
            // Inside of a batch that was no longer in memory.
            self.cut_memory(cut.end);
            if self.failed {
                return;
            }
            self.writer.submitted_end = cut.end;
            for later in self.truncations.iter_mut().skip(1).filter(|t| t.to > cut.end) {
                (later.to, later.on_device) = (cut.end, false);
            }
        }
        let Place { segment, position } = cut.place;
        let mut steps = Vec::new();
        if self.mark.written_end() > cut.end {
            let epochs = self.truncations.front().map_or(&[][..], |t| &t.epochs);
            steps.push(Step::Mark(self.mark_at(cut.end, cut.place, epochs)));
        }
        if self.segments.holding(cut.end).is_some_and(|s| s.has_summary) {
            steps.push(Step::Op(OpKind::RemoveFile { file: SmallFile::Summary(segment) }));
        }
        let later = self.segments.0.iter().rev().take_while(|s| s.id > segment);
        steps.extend(later.map(|s| Step::Op(OpKind::DeleteSegment { segment: s.id })));
        let written = if segment == self.writer.segment {
            self.writer.position
        } else {
            self.segments.holding(cut.end).map_or(0, |s| s.length)
        };
        steps.extend(self.zeros_from_behind(segment, position, written));
        self.task = Some(Task::new(TaskKind::Truncate { to, cut: Some(cut) }, steps));
    }

    /// From the end to the cut, in steps no larger than a group: what a crash leaves of one then looks as what it leaves of a
    /// group, and before it all is whole.
    fn zeros_from_behind(&self, segment: SegmentId, cut: u64, written: u64) -> Vec<Step> {
        let step = block_floor(self.config.group_bytes_max.max(BLOCK_BYTES) as u64);
        let (mut steps, mut to) = (Vec::new(), written);
        while to > cut {
            let from = cut.max(block_ceil(to.saturating_sub(step)));
            steps.push(Step::Op(OpKind::ZeroSegment { segment, from, to }));
            to = from;
        }
        steps
    }

    fn find_cut(&self, to: Offset, read: Option<Bytes>) -> Result<Cut, DiskError> {
        let segment = self.segments.holding(to).map_or(self.writer.segment, |s| s.id);
        let mut tail_block = Box::new([0; BLOCK_BYTES]);
        let Some((_, start, length)) = self.run_before(to) else {
            let place = Place { segment, position: 0 };
            return Ok(Cut { end: to, place, run: Vec::new(), tail_block });
        };
        let entry = self.segments.holding(to).and_then(|s| s.run_of(Offset(to.0 - 1)));
        let entry = entry.expect("the run that was read is still there");
        let bytes = read.filter(|bytes| bytes.len() == length);
        let bytes = bytes
            .ok_or_else(|| unreadable(segment, start, "the file is shorter than the log".to_string()))?;
        let (batches, error) = check_fetched(bytes.slice((entry.position - start) as usize..));
        let run: Vec<_> = batches.iter().map(|b| *b.header()).take_while(|h| h.next_offset() <= to).collect();
        let end = run.last().map_or(entry.offset, |h| h.next_offset());
        let intact = batches.first().is_some_and(|b| b.base_offset() == entry.offset);
        if !intact || (end < to && run.len() == batches.len()) {
            let why = error.map_or("a batch is not where it was written".to_string(), |e| e.to_string());
            return Err(unreadable(segment, entry.position, why));
        }
        let position = entry.position + run.iter().map(|h| h.size_bytes as u64).sum::<u64>();
        let head = (position - block_floor(position)) as usize;
        let block = (block_floor(position) - start) as usize;
        tail_block[..head].copy_from_slice(&bytes[block..block + head]);
        Ok(Cut { end, place: Place { segment, position }, run, tail_block })
    }

    pub(super) fn finish_truncation(&mut self, _to: Offset, cut: Cut) {
        let flushed = self.flushed == cut.end || (self.truncations.len() > 1 && self.flushed < cut.end);
        assert!(flushed, "all before the cut is flushed when it is made");
        let Place { segment, position } = cut.place;
        while self.segments.0.pop_if(|s| s.id > segment).is_some() {}
        self.summaries_due.retain(|due| *due < segment);
        let last = self.segments.last_mut().expect("a ready log has a segment");
        if segment != self.writer.segment {
            // It was cut to its length when the next one was begun.
            self.writer.zeroed = last.length;
        }
        last.truncate(position, &cut.run);
        (self.writer.segment, self.writer.position) = (segment, position);
        self.writer.tail_block = cut.tail_block;
        self.flushed_place = cut.place;
        self.end_truncation(cut.end);
    }

    fn end_truncation(&mut self, end: Offset) {
        let truncation = self.truncations.pop_front();
        if truncation.is_some_and(|truncation| truncation.is_told) {
            self.events.push_back(LogEvent::Truncated(LogEndOffset(end)));
        }
    }
}

fn unreadable(segment: SegmentId, position: u64, why: String) -> DiskError {
    let operation = format!("finding where to truncate {} near byte {position}", segment.file_name());
    let reason = format!("{why}; the batches there are rotten. {REFILL}");
    DiskError { operation, reason, errno: 0 }
}
