//! The end of a turn: what goes to the device in it, and in which order.
//!
//! A task that is under way comes first, step after step; where there is none, zeros ahead and the group of what was appended.

use super::flights::Purpose;
use super::task::{Shutdown, Step, TaskKind, growing};
use super::{Log, OpKind, SmallFile, epoch_checkpoint, quorum_state};
use crate::types::Now;

impl Log {
    /// Form the device group of this turn, the commit mark, the next segment, zeros ahead. Then `summary_due` is asked.
    pub fn end_turn(&mut self, now: Now) {
        self.now_ns = now.monotonic_ns;
        if self.failed {
            return;
        }
        self.lists.clear_returned();
        self.maybe_replace_quorum_state();
        self.maybe_replace_epoch_checkpoint();
        self.maybe_vouch();
        self.mark_start();
        self.advance();
        self.delete_next();
        self.maybe_forget_room();
        self.maybe_mark();
        self.keep_written();
        self.pieces.let_go();
    }

    pub(super) fn maybe_replace_quorum_state(&mut self) {
        let is_under_way = self.flights.any(|p| matches!(p, Purpose::QuorumState { .. }));
        if self.failed || self.holds_quorum_state || is_under_way {
            return;
        }
        if self.small_room.must_wait(self.now_ns) {
            return;
        }
        if let Some((state, writes)) = self.quorum_state.take() {
            self.quorum_state_submitted = Some(state);
            let contents = quorum_state::encode(&state);
            let replace = OpKind::ReplaceFile { file: SmallFile::QuorumState, contents };
            self.submit(replace, Purpose::QuorumState { writes });
        }
    }

    pub(super) fn maybe_replace_epoch_checkpoint(&mut self) {
        if self.checkpoint_stale
            && self.shutdown != Shutdown::Begun
            && !self.small_room.must_wait(self.now_ns)
            && !self.flights.any(|p| p == Purpose::EpochCheckpoint)
        {
            self.checkpoint_stale = false;
            let contents = epoch_checkpoint::encode(&self.epochs);
            let replace = OpKind::ReplaceFile { file: SmallFile::LeaderEpochCheckpoint, contents };
            self.submit(replace, Purpose::EpochCheckpoint);
        }
    }

    /// Go on with the task; where there is none start the next one, or write.
    pub(super) fn advance(&mut self) {
        loop {
            if self.failed || self.flights.any(|p| p == Purpose::Task) {
                return;
            }
            let Some(task) = self.task.as_mut() else {
                match self.start_task() {
                    true => continue,
                    false => return self.write_on(),
                }
            };
            // A durable mark is a step too.
            if self.flights.any(|p| p == Purpose::Mark) {
                return;
            }
            let takes_room = |step: &Step| matches!(step, Step::Op(kind) if growing(kind).is_some());
            if task.steps.front().is_some_and(takes_room) && self.room.must_wait(self.now_ns) {
                return;
            }
            match task.steps.pop_front() {
                Some(step) => return self.submit_step(step),
                None if matches!(task.kind, TaskKind::ShutDown { summary: Some(_) }) => return,
                None => self.finish_task(),
            }
        }
    }

    fn write_on(&mut self) {
        if self.truncations.is_empty() && self.installing.is_none() && self.shutdown != Shutdown::Begun {
            if !self.room.must_wait(self.now_ns) {
                self.maybe_extend();
            }
            self.maybe_submit_group();
        }
    }

    fn submit_step(&mut self, step: Step) {
        match step {
            Step::Op(kind) => {
                if let Some(task) = self.task.as_mut() {
                    task.growing = growing(&kind);
                }
                self.submit(kind, Purpose::Task);
            }
            Step::Mark(mark) => self.submit_mark(mark, true),
        }
    }
}
