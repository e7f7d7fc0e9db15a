//! A copy of all that is folded, at one committed place of the log: it takes some turns, and what it gives is for another thread.

use super::GatedEngine;
use crate::log::Section;
use crate::replica::folds::FoldsCopy;
use crate::types::*;

/// What a snapshot holds.
#[derive(Debug)]
pub struct Folded {
    /// Up to where, and the epoch of the record before that.
    pub id: OffsetAndEpoch,
    copy: FoldsCopy,
}

impl Folded {
    /// As they stand in the file. It takes long: not on a replica core.
    pub fn into_sections(self) -> Vec<Section> {
        self.copy.into_sections()
    }
}

/// Why a copy was not made, or not to its end.
pub type NotFolded = &'static str;

#[derive(Debug, Default)]
pub(super) struct Copying {
    /// What is being copied.
    wanted: Option<OffsetAndEpoch>,
    done: Option<Result<Folded, NotFolded>>,
    /// Batches folded since the last turn.
    came: usize,
}

impl Copying {
    pub(super) fn on_folded(&mut self) {
        self.came += 1;
    }
}

impl<W> GatedEngine<W> {
    /// See `Replica::copy_folds`.
    pub(crate) fn copy_folds(&mut self) -> Result<OffsetAndEpoch, NotFolded> {
        if !self.is_open() {
            return Err("the log is being opened or closed");
        }
        let committed = self.committed_end;
        // A follower may hear of more than it has, and a leader may have told of more than it has flushed.
        if committed > self.log.flushed().0 {
            return Err("not all that is committed is flushed here");
        }
        // Of what was there at the start it is not known where batches end, but for the last one.
        let ends_batch =
            [Some(self.log.log_end().0), self.uncommitted.committed_end()].contains(&Some(committed));
        if !ends_batch || committed == Offset(0) {
            return Err("what is committed is not known to end with a batch");
        }
        self.folds.hold(committed)?;
        let id = OffsetAndEpoch { epoch: self.raft.epoch_before(committed), offset: committed };
        self.copying.wanted = Some(id);
        Ok(id)
    }

    /// See `Replica::poll_folded`.
    pub(crate) fn poll_folded(&mut self) -> Option<Result<Folded, NotFolded>> {
        self.copying.done.take()
    }

    /// Once in each turn. (What is folded may have been replaced: then the copy is gone.)
    pub(super) fn go_on_copying(&mut self) {
        let copy = self.folds.end_turn(std::mem::take(&mut self.copying.came));
        if self.folds.is_held() {
            return;
        }
        let Some(id) = self.copying.wanted.take() else { return };
        let given_up = "more waits for it than may wait, or what it holds was cut";
        self.copying.done = Some(copy.map(|copy| Folded { id, copy }).ok_or(given_up));
    }
}
