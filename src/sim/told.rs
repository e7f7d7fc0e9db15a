//! What nodes say to others that promises something.

use crate::types::*;

/// What a node has told somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Told {
    /// A producer: its records end here.
    Acknowledged { acks: i16, end: Offset },
    /// A client: this is committed.
    Committed { end: Offset },
    /// The leader, in a Fetch: all before is durable here.
    Holds { end: Offset },
    /// Anybody: the node is in this epoch.
    Epoch(Epoch),
    /// Voters: it has voted for itself.
    Stands(Epoch),
}
