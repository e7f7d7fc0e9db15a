//! Another log in place of this node's, with what is folded from all before a snapshot's end.
//!
//! Raft says that one is needed (`Told::InstallSnapshot`). Whoever gets it hands it in when it is durable, with what it holds
//! (`snapshot_fetched`); Raft says whether it is still needed, and the log begins anew. What is folded is replaced when that is durable:
//! until then it is that of the log before, and nothing is appended to either.

use super::GatedEngine;
use super::latest::Latest;
use super::uncommitted::Uncommitted;
use crate::raft::Event;
use crate::replica::folds::Folds;
use crate::replica::notice::Level;
use crate::types::*;

/// A snapshot that this node needs: one that ends at or behind `begin`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct WantedSnapshot {
    /// The leader.
    pub from: NodeId,
    /// Its newest.
    pub id: OffsetAndEpoch,
    /// Where its log begins.
    pub begin: OffsetAndEpoch,
}

#[derive(Debug, Default)]
pub(super) struct Install {
    /// Of the snapshot that came last: where it ends, and what it holds.
    fetched: Option<(OffsetAndEpoch, Folds)>,
    /// That which is being put in place.
    placing: Option<(OffsetAndEpoch, Folds)>,
}

impl<W> GatedEngine<W> {
    /// Who runs this node gets snapshots from others.
    pub(crate) fn take_snapshots(&mut self) {
        self.raft.take_snapshots();
    }

    /// A snapshot that ends here is durable on this node, whoever took it, and holds this.
    pub(crate) fn snapshot_fetched(&mut self, now: Now, id: OffsetAndEpoch, folds: Folds) {
        self.install.fetched = Some((id, folds));
        self.step_or_defer(now, Event::SnapshotFetched(id));
    }

    pub(super) fn place_snapshot(&mut self, begin: OffsetAndEpoch) {
        self.after_flush.clear();
        let fetched = self.install.fetched.take();
        assert!(fetched.is_some(), "a snapshot is put in place that nobody has handed in");
        self.install.placing = fetched;
        self.log.install(begin);
    }

    /// The log is empty, and begins there.
    pub(super) fn on_installed(&mut self, now: Now, begin: OffsetAndEpoch) {
        let (id, folds) =
            self.install.placing.take().expect("a log is installed with what was folded before it");
        self.folds = folds;
        self.uncommitted = Uncommitted::default();
        self.latest = Latest::found(begin.offset, None);
        self.committed_end = begin.offset;
        self.on_cut_to(Offset(0));
        let text = format!(
            "the log begins anew at {}: what was folded before {} came with a snapshot",
            begin.offset, id.offset
        );
        self.note(Level::Info, text);
        self.step_or_defer(now, Event::SnapshotInstalled { id, begin });
    }
}
