//! The start of the log moves: what lies before it is no more of the log, and its segments go.
//!
//! The owner says where to ([`Log::advance_start`]), below what is committed. Then, beside all that is written meanwhile, one
//! step after the other: *both* slots of the commit mark say so, durably; readers are told, `LogEvent::StartMoved`; the segments
//! before it are deleted, oldest first, each durably before the next one. So no file goes that a mark needs, also where a slot
//! has rotted, and what was told never falls. Segments that a crash has left, or has brought back, are known by the mark
//! (`Beginning::first`) and go after the next start.
//!
//! No task: tasks hold the writer up, and a large file takes milliseconds to delete.

use super::Log;
use super::beginning::begin_of;
use super::commit_mark::Beginning;
use super::epoch_checkpoint::epoch_before;
use super::flights::Purpose;
use super::op::{OpKind, SegmentId};
use super::recovery::Repair;
use super::task::Shutdown;
use crate::types::*;
use std::collections::VecDeque;

/// Slots of the commit mark: with one alone a rotten sector would bring the start before back, and its segments are gone.
const SLOTS: u8 = 2;

/// The newest of the segments that are no more of the log, where this begins and ends with a segment of its own: an install was
/// under way (`install`), and that one goes before anything else is done.
pub(super) fn take_parting(repair: &mut Repair, log_end: LogEndOffset) -> Option<SegmentId> {
    let Beginning { start, first, .. } = repair.beginning;
    let is_anew = start.offset == log_end.0 && first == Some(SegmentId(log_end.0));
    if is_anew { repair.leftovers.pop() } else { None }
}

pub(super) struct Moving {
    /// The highest that was asked for and is not begun.
    wanted: Option<OffsetAndEpoch>,
    /// What every mark says that is made from now on.
    marked: Beginning,
    /// How many slots are still to say it.
    slots_left: u8,
    /// Segments that are no more of the log, oldest first.
    going: VecDeque<SegmentId>,
}

impl Moving {
    pub(super) fn new(found: Beginning, leftovers: &[SegmentId]) -> Moving {
        Moving { wanted: None, marked: found, slots_left: 0, going: leftovers.iter().copied().collect() }
    }

    pub(super) fn marked(&self) -> Beginning {
        self.marked
    }

    pub(super) fn on_deleted(&mut self) {
        self.going.pop_front();
    }

    /// Another log takes the place of this one: what was wanted of it is not wanted any more.
    pub(super) fn replace(&mut self, beginning: Beginning) {
        (self.wanted, self.slots_left) = (None, 0);
        self.marked = beginning;
    }

    /// These are to go too, oldest first, behind those that wait.
    pub(super) fn leave(&mut self, segments: Vec<SegmentId>) {
        self.going.extend(segments);
    }
}

impl Log {
    /// Where readers find the log to start, and the epoch of the record before that.
    pub(crate) fn start(&self) -> OffsetAndEpoch {
        self.beginning.start
    }

    /// Where a replica finds the log to begin that has nothing of what lies before it, and the epoch of the record before that. Not
    /// above the start: it lies between two batches, and the batch in which the start lies is given whole.
    pub(crate) fn begin(&self) -> OffsetAndEpoch {
        self.begin
    }

    /// Let the log start at `to`, which is committed; anywhere, inside of a batch too. `LogEvent::StartMoved` follows once that
    /// is durable, of several the last. One that is not above the start changes nothing.
    pub(crate) fn advance_start(&mut self, to: OffsetAndEpoch) {
        assert!(
            to.offset <= self.committed,
            "the log is to start at {}, and is committed up to {}",
            to.offset,
            self.committed
        );
        let newest = self.moving.wanted.map_or(self.moving.marked.start.offset, |wanted| wanted.offset);
        if to.offset > newest {
            self.moving.wanted = Some(to);
        }
    }

    /// In each turn, before a group is formed: its mark says where the log starts.
    pub(super) fn mark_start(&mut self) {
        // Nearly always.
        if self.moving.slots_left == 0 && self.moving.wanted.is_none() {
            return;
        }
        let busy = !self.may_move()
            || self.task.is_some()
            || !self.truncations.is_empty()
            || self.installing.is_some();
        // A mark that waits for its turn says the start of before.
        if busy || self.flights.any(|p| p == Purpose::Mark) || self.has_mark_waiting() {
            return;
        }
        if self.moving.slots_left == 0 && !self.begin_move() {
            return;
        }
        self.submit_mark(self.flushed_mark(), true);
    }

    /// False: nothing is wanted, or it is not flushed yet.
    fn begin_move(&mut self) -> bool {
        let Some(start) = self.moving.wanted.take_if(|wanted| wanted.offset <= self.flushed) else {
            return false;
        };
        let first = self.segments.holding(start.offset).expect("a ready log has a segment").id;
        let oldest = self.segments.0.first().map(|segment| segment.id);
        let first_epoch = match Some(first) == oldest {
            true => self.moving.marked.first_epoch,
            false => epoch_before(&self.epochs, first.0),
        };
        self.moving.marked = Beginning { start, first: Some(first), first_epoch };
        self.moving.slots_left = SLOTS;
        true
    }

    /// A durable mark is there, of whatever origin: all that were made since the move began say the new start.
    pub(super) fn on_durable_mark(&mut self) {
        if self.moving.slots_left > 0 {
            self.moving.slots_left -= 1;
            if self.moving.slots_left == 0 {
                self.finish_move();
            }
        }
    }

    fn finish_move(&mut self) {
        self.beginning = self.moving.marked;
        let Beginning { start, first, .. } = self.beginning;
        let first = first.expect("a start that moved names its first segment");
        let gone = self.segments.0.partition_point(|segment| segment.id < first);
        self.moving.going.extend(self.segments.0.drain(..gone).map(|segment| segment.id));
        self.summaries_due.retain(|due| *due >= first);
        let before = self.epochs.len();
        self.epochs = EpochStart::within(&self.epochs, first.0, self.log_end).collect();
        self.checkpoint_stale |= self.epochs.len() < before || gone > 0;
        let begin = begin_of(self.beginning, &self.segments, &self.epochs);
        self.begin = begin;
        self.blocks.start_at(begin.offset);
        self.tail.forget_below(begin.offset);
        self.events.push_back(super::LogEvent::StartMoved { start, begin });
    }

    fn may_move(&self) -> bool {
        self.ready && !self.failed && self.shutdown == Shutdown::No
    }

    /// In each turn.
    pub(super) fn delete_next(&mut self) {
        let Some(segment) = self.moving.going.front().copied().filter(|_| self.may_move()) else { return };
        // A summary under way would be there alone; a read would not find what it was promised.
        let is_touched = self.flights.any(|p| matches!(p, Purpose::Delete | Purpose::Summary));
        if !is_touched && !self.blocks.reads_from(segment) {
            self.submit(OpKind::DeleteSegment { segment }, Purpose::Delete);
        }
    }

    /// Epoch of the record before `end`, also where that is gone; 0 at the beginning of all logs, as Kafka has it.
    pub(super) fn epoch_before(&self, epochs: &[EpochStart], end: Offset) -> Epoch {
        let start = self.moving.marked.start;
        if end == start.offset { start.epoch } else { epoch_before(epochs, end) }
    }
}
