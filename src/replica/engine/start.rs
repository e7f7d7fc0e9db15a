//! The log starts later: who wants that says so here, and Raft hears when it is so.
//!
//! What was folded from what goes must be durable before: whoever takes a snapshot says so here too.

use super::GatedEngine;
use crate::log::Section;
use crate::raft::Event;
use crate::replica::notice::Level;
use crate::types::*;

impl<W> GatedEngine<W> {
    /// A snapshot that ends at `id` is durable here, name and all.
    pub(crate) fn on_snapshot_taken(&mut self, now: Now, id: OffsetAndEpoch) {
        self.step_or_defer(now, Event::SnapshotTaken(id));
    }

    /// Let the log start at `to`. It does so once that is durable. False: the log starts there already, is not known to be
    /// committed up to there, or no snapshot of this node reaches so far.
    pub(crate) fn advance_start(&mut self, to: Offset) -> bool {
        let committed = self.raft.high_watermark().map_or(Offset(0), |high_watermark| high_watermark.0);
        let is_covered = self.raft.newest_snapshot().is_some_and(|newest| to <= newest.offset);
        if to <= self.log.log_start() || to > committed || !is_covered || !self.is_open() {
            return false;
        }
        let epoch = self.raft.epoch_before(to);
        self.log.advance_start(OffsetAndEpoch { epoch, offset: to });
        true
    }

    /// What is folded from all that is committed and flushed here, and up to where. `None`: it is not known just now.
    pub(crate) fn folded(&self) -> Option<(OffsetAndEpoch, Vec<Section>)> {
        let (end, sections) = self.folds.settled().filter(|(end, _)| *end <= self.log.flushed().0)?;
        Some((OffsetAndEpoch { epoch: self.raft.epoch_before(end), offset: end }, sections))
    }

    pub(super) fn on_start_moved(&mut self, now: Now, start: OffsetAndEpoch) {
        self.note(Level::Info, format!("the log starts at {} now: what lies before it goes", start.offset));
        self.latest.on_start_moved(self.log.max_timestamp().map(|(timestamp, _)| timestamp));
        self.on_start_at(start.offset);
        self.step_or_defer(now, Event::StartMoved(start));
    }
}
