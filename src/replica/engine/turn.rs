//! The end of a turn: what was appended is handed to the device in one group, and the engine looks at itself.

use super::GatedEngine;
use crate::log::DiskOp;
use crate::raft::Event;
use crate::replica::notice::Level;
use crate::types::*;

impl<W> GatedEngine<W> {
    /// Form the device group of what was appended. What the log tells then may make Raft append, or write its state: that
    /// belongs to this turn too. So: again, as long as `has_heard`.
    pub(crate) fn advance(&mut self, now: Now) {
        self.log.end_turn(now);
        if self.closing {
            self.folds.let_go();
        }
        while let Some(due) = self.log.summary_due() {
            // Asked later it has one; now it would have none for good.
            if self.folds.waits_to_settle(due.end) {
                break;
            }
            self.log.write_summary(due, self.folds.sections(&due.offsets()));
        }
        (self.listens, self.has_heard) = (true, false);
    }

    /// The log has told something since `advance`.
    pub(crate) fn has_heard(&self) -> bool {
        self.has_heard
    }

    /// What the device is to do.
    pub(crate) fn poll_op(&mut self) -> Option<DiskOp> {
        self.log.poll_op()
    }

    /// Does the device keep up, should this node lead, and who keeps up with it?
    pub(crate) fn judge(&mut self, now: Now) {
        self.maybe_report_stalled_flush(now);
        self.maybe_tell_fitness(now);
        self.go_on_copying();
        self.log.set_keeps_written(self.raft.is_leader());
        if self.raft.is_leader() {
            self.lagging = self.raft.lagging(now);
        }
    }

    /// All have heard of the change of role, and of a start that is named.
    pub(crate) fn forget_news(&mut self) {
        (self.role_changed, self.start_named) = (false, false);
    }

    fn maybe_report_stalled_flush(&mut self, now: Now) {
        let Some(since) = self.log.flush_pending_since() else {
            self.stall_reported = false;
            return;
        };
        let stalled_ms = now.monotonic_ns.saturating_sub(since) / NS_PER_MS;
        if !self.stall_reported && stalled_ms >= self.limits.flush_stall_ms_max {
            self.stall_reported = true;
            self.note(
                Level::Warn,
                format!("a flush has been under way for {stalled_ms} ms: the disk is stalled"),
            );
            self.step(now, Event::FlushStalled);
        }
    }

    /// At the end of a turn: whoever was told in the middle of it had not come to its end.
    fn maybe_tell_fitness(&mut self, now: Now) {
        if self.role_changed && self.raft.is_leader() && !self.has_disk_room() {
            self.note_disk_free();
        }
        let unfit = self.unfit_to_lead(now);
        if unfit != self.raft.unfit() {
            self.step(now, Event::Fitness(unfit));
        }
    }

    /// Monotonic ns at which the engine wants a turn. While the gate is shut, or the log is being closed, nothing but the log
    /// can do anything in time.
    pub(crate) fn deadline(&self) -> Option<u64> {
        let open = !self.is_gated() && !self.closing;
        let stall = self.log.flush_pending_since().filter(|_| open && !self.stall_reported);
        [
            self.raft.deadline().filter(|_| open),
            stall.map(|since| since + self.limits.flush_stall_ms_max * NS_PER_MS),
            self.log.deadline(),
            // Nobody else makes turns on an idle core.
            (open && self.folds.is_behind()).then_some(0),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}
