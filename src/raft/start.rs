//! Where the log may begin: what of it is folded into something durable here.
//!
//! Records below the start of a log are gone, so nothing goes that no snapshot of this node has taken in
//! (docs/design/log-without-end.md, R1). Raft knows of a snapshot only where it ends, and in which epoch.

use super::Raft;
use crate::types::*;

/// What is known of this node's snapshots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Snapshots {
    newest: Option<OffsetAndEpoch>,
}

impl Snapshots {
    /// As a start found them.
    pub(super) fn found(newest: Option<OffsetAndEpoch>) -> Snapshots {
        Snapshots { newest }
    }
}

impl Raft {
    /// One that ends here is durable on this node, whoever took it. It may lie ahead of the log. One that is older than what is
    /// known tells nothing.
    pub(super) fn on_snapshot_taken(&mut self, id: OffsetAndEpoch) {
        if self.snapshots.newest.is_none_or(|newest| newest.offset < id.offset) {
            self.snapshots.newest = Some(id);
        }
    }

    /// The one of this node that ends last; `None`: it has none.
    pub(crate) fn newest_snapshot(&self) -> Option<OffsetAndEpoch> {
        self.snapshots.newest
    }
}
