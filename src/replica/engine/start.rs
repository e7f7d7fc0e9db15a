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

    /// The log of the quorum is to start at `to`: see `Event::WantStart`. False: not so, or not yet.
    pub(crate) fn want_start(&mut self, now: Now, to: Offset) -> bool {
        if !self.is_open() {
            return false;
        }
        let before = self.raft.wanted_start();
        self.step(now, Event::WantStart(to));
        self.raft.wanted_start() > before
    }

    /// Where clients find the log to start; `None`: it is not known what they were told before.
    pub(crate) fn told_start(&self) -> Option<Offset> {
        self.raft.told_start()
    }

    /// As Kafka's fields say it.
    pub(crate) fn told_start_or_none(&self) -> i64 {
        self.raft.told_start().map_or(-1, |start| start.0)
    }

    /// May a consumer read from here? `Err`: it is below the start, or that is not known.
    pub(crate) fn check_start(&self, from: Offset) -> Result<(), ErrorCode> {
        match self.raft.told_start() {
            _ if from >= self.raft.known_start() => Ok(()),
            Some(_) => Err(ErrorCode::OFFSET_OUT_OF_RANGE),
            None => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
        }
    }

    /// What is folded from all that is committed and flushed here, and up to where. `None`: it is not known just now.
    pub(crate) fn folded(&self) -> Option<(OffsetAndEpoch, Vec<Section>)> {
        let (end, sections) = self.folds.settled().filter(|(end, _)| *end <= self.log.flushed().0)?;
        Some((OffsetAndEpoch { epoch: self.raft.epoch_before(end), offset: end }, sections))
    }

    pub(super) fn on_start_moved(&mut self, now: Now, start: OffsetAndEpoch, begin: OffsetAndEpoch) {
        self.note(Level::Info, format!("the log starts at {} now: what lies before it goes", start.offset));
        self.latest.on_start_moved(self.log.max_timestamp().map(|(timestamp, _)| timestamp));
        self.on_start_at(start.offset);
        let event = match begin == start {
            true => Event::StartMoved(start),
            false => Event::StartMovedWithin { start, begin },
        };
        self.step_or_defer(now, event);
    }
}
