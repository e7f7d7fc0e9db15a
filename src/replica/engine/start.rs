//! The log starts later: who wants that says so here, and Raft hears when it is so.
//!
//! What was folded from what goes must be durable somewhere else before. Who calls `advance_start` answers for it.

use super::GatedEngine;
use crate::log::Section;
use crate::raft::Event;
use crate::replica::notice::Level;
use crate::types::*;

impl<W> GatedEngine<W> {
    /// Let the log start at `to`. It does so once that is durable. False: the log starts there already, or is not known to be
    /// committed up to there.
    pub(crate) fn advance_start(&mut self, to: Offset) -> bool {
        let committed = self.raft.high_watermark().map_or(Offset(0), |high_watermark| high_watermark.0);
        if to <= self.log.log_start() || to > committed || !self.is_open() {
            return false;
        }
        let epoch = self.raft.epoch_before(to);
        self.log.advance_start(OffsetAndEpoch { epoch, offset: to });
        true
    }

    /// What is folded from all that is committed and flushed here, and up to where. `None`: it is not known just now.
    pub(crate) fn folded(&self) -> Option<(Offset, Vec<Section>)> {
        self.folds.settled().filter(|(end, _)| *end <= self.log.flushed().0)
    }

    pub(super) fn on_start_moved(&mut self, now: Now, start: OffsetAndEpoch) {
        self.note(Level::Info, format!("the log starts at {} now: what lies before it goes", start.offset));
        self.latest.on_start_moved(self.log.max_timestamp().map(|(timestamp, _)| timestamp));
        self.on_start_at(start.offset);
        self.step_or_defer(now, Event::StartMoved(start));
    }
}
