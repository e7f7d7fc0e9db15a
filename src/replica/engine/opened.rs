//! The engine opened, for tests: what happens inside it is brought about, and looked at.

use super::GatedEngine;
use super::gate::Waiting;
use crate::raft::Effect;
use crate::record::StampedBatch;
use crate::types::*;

impl<W> GatedEngine<W> {
    /// Raft wants this done, and these are the batches of the Fetch answer that it has stepped.
    pub(crate) fn do_effect(&mut self, now: Now, effect: Effect, fetched: Vec<StampedBatch>) {
        self.fetched = fetched;
        self.carry_out(now, effect);
    }

    pub(crate) fn do_flushed(&mut self, now: Now, flushed: FlushedOffset) {
        self.release_after_flush(now, flushed);
    }

    pub(crate) fn do_quorum_state_durable(&mut self, now: Now) {
        self.on_quorum_state_durable(now);
    }

    pub(crate) fn do_commit(&mut self, high_watermark: HighWatermark) {
        self.on_high_watermark(high_watermark);
    }

    pub(crate) fn do_truncate(&mut self, to: LogEndOffset) {
        self.on_truncate(to);
    }

    pub(crate) fn do_cut(&mut self, wanted: LogEndOffset, made: LogEndOffset) {
        self.check_cut(wanted, made);
    }

    pub(crate) fn note_uncommitted(&mut self, next: Offset, bytes: usize) {
        self.uncommitted.push(next, bytes, None);
    }

    /// Put off by those above.
    pub(crate) fn waits(&self) -> impl Iterator<Item = &W> {
        self.waiting.iter().filter_map(|waiting| match waiting {
            Waiting::PutOff(what) => Some(what),
            Waiting::Event(_) => None,
        })
    }

    pub(crate) fn waiting_for_flush(&self) -> usize {
        self.after_flush.len()
    }
}
