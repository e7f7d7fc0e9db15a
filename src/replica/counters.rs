//! Totals since the start, as the metrics show them.

use serde::Serialize;

/// Totals since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct Counters {
    pub(crate) produce_requests: u64,
    pub(crate) produced_batches: u64,
    pub(crate) produced_bytes: u64,
    pub(crate) produced_records: u64,
    pub(crate) duplicate_batches: u64,
    pub(crate) fetch_requests: u64,
    pub(crate) fetched_bytes: u64,
    pub(crate) replica_fetches: u64,
    /// Pieces of snapshots that replicas have asked for, and bytes of those that they were given.
    pub(crate) snapshot_requests: u64,
    pub(crate) snapshot_bytes_served: u64,
    /// Snapshots of a leader's that this node has now.
    pub(crate) snapshots_fetched: u64,
    /// Votes and pre-votes asked of others.
    pub(crate) elections: u64,
    /// Epochs that this node began as leader.
    pub(crate) leader_changes: u64,
    pub(crate) flushes: u64,
    pub(crate) committed_bytes: u64,
    pub(crate) refused_requests: u64,
    /// Records copied from a leader.
    pub(crate) replicated_records: u64,
    /// To the other voters and from them, on the connections that this node has opened.
    pub(crate) peer_requests: u64,
    pub(crate) peer_responses: u64,
    pub(crate) peer_bytes_sent: u64,
    pub(crate) peer_bytes_received: u64,
    /// Batches refused with INVALID_TIMESTAMP: their producers drop them.
    pub(crate) refused_timestamps: u64,
}
