//! Another log in place of this one: what it holds ends below where the leader's begins, or parts from that one there.
//!
//! The owner has a durable snapshot that holds what was folded from all before `begin`, and more; here goes what lies in the log's own
//! files ([`Log::install`]). Step after step, each durable before the next:
//!
//! - (a) what lies at `begin` or above it is cut, as ever: it is in conflict with what is committed;
//! - (b) *both* slots of the commit mark say that the log begins and ends at `begin`, with a segment of that name;
//! - (c) the newest of the old segments that holds anything goes. So there is a gap between the two logs, and no start without a mark
//!   ever takes them for one;
//! - (d) the new segment is created. `LogEvent::Installed`. The other old segments go behind it, as all that lie before the start do.
//!
//! A crash before (b) leaves the old log, one behind it the new one: its mark needs no file to begin there (`recovery`, and
//! [`Log::opening_task`], which makes up for (c)). Nobody reads while it lasts, and who had begun to read is waited for.

use super::commit_mark::{Beginning, CommitMark};
use super::flights::Purpose;
use super::index::Place;
use super::segment::Segment;
use super::task::{Shutdown, Step, Task, TaskKind};
use super::{BLOCK_BYTES, Log, LogEvent, OpKind, SegmentId};
use crate::types::*;

impl Log {
    /// Let the log begin anew at `begin`, empty: all before it is folded into something durable, and none of it is here any more.
    /// At or above what is committed here. The log end falls at once to `begin` where it is above; nothing is appended and nothing
    /// found by readers until `LogEvent::Installed`.
    pub(crate) fn install(&mut self, begin: OffsetAndEpoch) {
        assert!(self.shutdown == Shutdown::No, "a log that shuts down is not replaced");
        assert!(self.installing.is_none(), "one log is installed at a time");
        let (committed, start) = (self.committed, self.moving.marked().start);
        assert!(
            begin.offset >= committed.max(start.offset),
            "{begin:?} is below what is committed, {committed}"
        );
        assert!(begin.epoch >= start.epoch, "{begin:?} is of an epoch before {}", start.epoch);
        // What was not handed to the device goes at once, committed or not: it lies below `begin`, or parts from what is committed.
        let kept = begin.offset.min(self.writer.submitted_end);
        self.committed = committed.min(kept);
        self.truncate_for_install(kept);
        self.installing = Some(begin);
    }

    /// Readers find nothing.
    pub(crate) fn is_installing(&self) -> bool {
        self.installing.is_some()
    }

    /// True where it was begun, or given up: who stops leaves it to the next leader to ask for it again.
    pub(super) fn start_install(&mut self) -> bool {
        let Some(begin) = self.installing else { return false };
        if self.shutdown == Shutdown::Wanted {
            self.installing = None;
            return true;
        }
        // What is deleted, or summed up, would be there again behind this; and who reads would find nothing.
        let disturbs = |p| matches!(p, Purpose::Summary | Purpose::Delete);
        if !self.is_quiet() || self.flights.any(disturbs) || self.blocks.has_loads() {
            return false;
        }
        assert!(
            self.groups.is_empty() && self.queued_bytes == 0,
            "nothing waits to be written at an install"
        );
        // What was wanted of the log before is no more.
        self.moving.replace(Beginning::anew(begin));
        let mark = installed_mark(begin);
        let zeroed = self.first_zeros(0);
        let create = OpKind::CreateSegment { segment: SegmentId(begin.offset), zeroed };
        let parting =
            self.parting_segments(begin).into_iter().map(|segment| OpKind::DeleteSegment { segment });
        let marks = [Step::Mark(mark), Step::Mark(mark)];
        let steps = marks.into_iter().chain(parting.chain([create]).map(Step::Op));
        self.task = Some(Task::new(TaskKind::Install { begin, zeroed }, steps));
        true
    }

    /// Those that go before the new segment is there, newest first: one of its name, and the newest that holds anything.
    fn parting_segments(&self, begin: OffsetAndEpoch) -> Vec<SegmentId> {
        let is_empty = |id: &SegmentId| id.0 >= begin.offset;
        let newest_first = self.segments.0.iter().rev().map(|segment| segment.id);
        let kept = newest_first.clone().skip_while(is_empty).skip(1).count();
        newest_first.take(self.segments.0.len() - kept).collect()
    }

    pub(super) fn finish_install(&mut self, begin: OffsetAndEpoch, zeroed: u64) {
        let id = SegmentId(begin.offset);
        let parted = self.parting_segments(begin).len();
        let left = self.segments.0.len() - parted;
        let old = self.segments.0.drain(..).take(left).map(|segment| segment.id).collect();
        self.moving.leave(old);
        self.summaries_due.clear();
        self.epochs.clear();
        self.checkpoint_stale = true;
        self.blocks.forget_all();
        self.tail.forget_all();
        (self.beginning, self.begin) = (Beginning::anew(begin), begin);
        (self.log_end, self.flushed, self.committed) = (begin.offset, begin.offset, begin.offset);
        self.flushed_place = Place { segment: id, position: 0 };
        self.flushed_since_mark_bytes = 0;
        self.segments.0.push(Segment::new(id, self.config.index_interval_bytes));
        self.writer.begin_at(id, zeroed);
        self.installing = None;
        self.maybe_replace_epoch_checkpoint();
        self.events.push_back(LogEvent::Installed(begin));
    }

    /// No room for the new segment, and the process is to end: both slots say where the log begins, and a start needs no more.
    pub(super) fn leave_install(&mut self) {
        self.installing = None;
        self.task = Some(Task::new(TaskKind::ShutDown { summary: None }, []));
        self.shutdown = Shutdown::Begun;
    }
}

/// Of a log that begins and ends there. No epoch begins in it.
fn installed_mark(begin: OffsetAndEpoch) -> CommitMark {
    CommitMark {
        sequence: 0,
        end: begin.offset,
        epoch: begin.epoch,
        place: Place { segment: SegmentId(begin.offset), position: 0 },
        beginning: Beginning::anew(begin),
        epochs_crc: 0,
        committed: begin,
    }
}

impl super::writer::Cursor {
    /// In a new segment, of which nothing is written.
    fn begin_at(&mut self, id: SegmentId, zeroed: u64) {
        (self.segment, self.position, self.zeroed) = (id, 0, zeroed);
        (self.submitted_end, self.partial, self.must_vouch) = (id.0, 0, false);
        *self.tail_block = [0; BLOCK_BYTES];
    }
}
