//! Tasks: what must happen step after step, each step durable before the next, while no group is in flight.
//!
//! Opening (repairs and the flush after recovery), rolling to the next segment, truncation, and shutdown. One runs at a time;
//! `turn` advances it, and between tasks forms groups.

use super::flights::Purpose;
use super::recovery::Repair;
use super::segment::Segment;
use super::task::{Shutdown, Step, Task, TaskKind};
use super::{
    BLOCK_BYTES, Done, Log, LogEvent, OpKind, SegmentId, SmallFile, SummaryDue, block_ceil, quorum_state,
};
use std::collections::VecDeque;

impl Log {
    /// What recovery found necessary; then a flush, because what was read back may sit only in the device's cache.
    pub(super) fn opening_task(&self, repair: &Repair, parting: Option<SegmentId>) -> Task {
        // That the log is in doubt, or lost, is durable before anything of it is cut.
        let forget = repair.quorum_state.map(|state| {
            let contents = quorum_state::encode(&state);
            Step::Op(OpKind::ReplaceFile { file: SmallFile::QuorumState, contents })
        });
        let mark = self.mark_at(self.log_end, self.flushed_place, &self.epochs);
        // An install was under way: between the two logs a gap comes before anything of the new one, and both slots before that.
        let parting = parting.map(|segment| [Step::Mark(mark), Step::Op(OpKind::DeleteSegment { segment })]);
        let before = forget.into_iter().chain(parting.into_iter().flatten());
        let Some(last) = self.segments.last() else {
            let (segment, zeroed) = (self.writer.segment, self.first_zeros(0));
            let create = OpKind::CreateSegment { segment, zeroed };
            // From its first batch on a log of ours has a mark.
            let steps = before.chain([Step::Op(create), Step::Mark(mark)]);
            return Task::new(TaskKind::Open { create: true, zeroed }, steps);
        };
        let delete = repair.delete.iter().map(|s| OpKind::DeleteSegment { segment: *s });
        let zero = repair.zero_to.map(|to| OpKind::ZeroSegment { segment: last.id, from: last.length, to });
        let flush = repair.flush.iter().map(|s| OpKind::FlushSegment { segment: *s });
        let repairs = delete.chain(zero).chain(flush).map(Step::Op);
        let mut steps: VecDeque<_> = before.chain(repairs).collect();
        steps.push_back(Step::Mark(mark));
        let extension = self.extension();
        steps.extend(
            extension.map(|(from, to)| {
                Step::Op(OpKind::ExtendSegment { segment: last.id, from, to, written: true })
            }),
        );
        let zeroed = extension.map_or(self.writer.zeroed, |(_, to)| to);
        Task::new(TaskKind::Open { create: false, zeroed }, steps)
    }

    /// Zeros that a new segment starts with, where its first batch has this size.
    pub(super) fn first_zeros(&self, batch_bytes: u64) -> u64 {
        let wanted = self.config.zero_ahead_bytes.min(self.config.segment_bytes_max);
        block_ceil(wanted.max(batch_bytes).max(BLOCK_BYTES as u64))
    }

    pub(super) fn complete_step(&mut self, done: Done) {
        let task = self.task.as_mut().expect("the task whose step completes is under way");
        if let Done::Read(filled) = done {
            task.read = Some(filled.into_bytes());
        }
    }

    /// True where something was started or settled.
    pub(super) fn start_task(&mut self) -> bool {
        if !self.truncations.is_empty() {
            return self.start_truncation();
        }
        if self.installing.is_some() {
            return self.start_install();
        }
        if self.must_roll() && !(self.shutdown == Shutdown::Wanted && self.room.is_wanting()) {
            return self.start_roll();
        }
        if self.shutdown == Shutdown::No && self.must_close() {
            return self.start_roll();
        }
        // What found no room was acknowledged to nobody.
        let all_written = self.writer.submitted_end == self.log_end || self.room.is_wanting();
        let done = self.shutdown == Shutdown::Wanted && all_written;
        // The next start writes a checkpoint that found none.
        let settled = self.quorum_state.is_none()
            && (!self.checkpoint_stale || self.small_room.is_wanting())
            && self.withheld.is_none()
            && self.closed_summary_due().is_none()
            && !self.flights.any(|p| !p.is_for_readers());
        done && settled && self.start_shutdown()
    }

    /// No operation is under way that a task could get in the way of.
    pub(super) fn is_quiet(&self) -> bool {
        let disturbs = |p| matches!(p, Purpose::Group { .. } | Purpose::Mark | Purpose::Extend { .. });
        self.withheld.is_none() && !self.flights.any(disturbs)
    }

    fn start_roll(&mut self) -> bool {
        if !self.is_quiet() {
            return false;
        }
        let first = self.tail.iter_from(self.writer.submitted_end).next();
        let to = SegmentId(self.writer.submitted_end);
        let zeroed = self.first_zeros(first.map_or(0, |first| first.size_bytes() as u64));
        let cut = OpKind::CutSegment { segment: self.writer.segment, length: self.writer.position };
        let create = OpKind::CreateSegment { segment: to, zeroed };
        self.task = Some(Task::new(TaskKind::Roll { to, zeroed }, [Step::Op(cut), Step::Op(create)]));
        true
    }

    fn start_shutdown(&mut self) -> bool {
        let mark = self.is_mark_late().then(|| Step::Mark(self.flushed_mark()));
        let cut = OpKind::CutSegment { segment: self.writer.segment, length: self.writer.position };
        let steps = mark.into_iter().chain([Step::Op(cut)]);
        // Of all that is committed, so that the next start scans nothing.
        let all_committed = self.committed == self.log_end;
        let last = self.segments.last().filter(|last| all_committed && last.ends.is_some());
        let summary = last.map(|last| SummaryDue { segment: last.id, end: self.log_end });
        self.task = Some(Task::new(TaskKind::ShutDown { summary }, steps));
        self.shutdown = Shutdown::Begun;
        true
    }

    pub(super) fn finish_task(&mut self) {
        let Some(task) = self.task.take() else { return };
        match task.kind {
            TaskKind::Open { create, zeroed } => self.finish_opening(create, zeroed),
            TaskKind::Roll { to, zeroed } => self.begin_segment(to, zeroed),
            TaskKind::Truncate { to, cut: None } => self.locate_cut(to, task.read),
            TaskKind::Truncate { to, cut: Some(cut) } => self.finish_truncation(to, cut),
            TaskKind::Install { begin, zeroed } => self.finish_install(begin, zeroed),
            TaskKind::ShutDown { .. } => self.events.push_back(LogEvent::ShutDown),
        }
    }

    fn finish_opening(&mut self, create: bool, zeroed: u64) {
        if create {
            self.begin_segment(self.writer.segment, zeroed);
        }
        self.writer.zeroed = zeroed;
        self.ready = true;
        self.holds_quorum_state = false;
        self.maybe_replace_quorum_state();
        // What was appended meanwhile is not flushed.
        self.flushed = self.writer.submitted_end;
        self.events.push_back(LogEvent::Ready);
    }

    fn begin_segment(&mut self, id: SegmentId, zeroed: u64) {
        self.closes = false;
        assert!(self.prepared.batches == 0, "what is copied for one segment does not begin another");
        if let Some(closed) = self.segments.last_mut() {
            closed.close();
            self.summaries_due.push_back(closed.id);
        }
        self.segments.0.push(Segment::new(id, self.config.index_interval_bytes));
        (self.writer.segment, self.writer.position, self.writer.zeroed) = (id, 0, zeroed);
    }
}
