//! Totals since the start, as the metrics show them.

use serde::Serialize;

/// Totals since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    pub produce_requests: u64,
    pub produced_batches: u64,
    pub produced_bytes: u64,
    pub produced_records: u64,
    pub duplicate_batches: u64,
    pub fetch_requests: u64,
    pub fetched_bytes: u64,
    pub replica_fetches: u64,
    /// Votes and pre-votes asked of others.
    pub elections: u64,
    /// Epochs that this node began as leader.
    pub leader_changes: u64,
    pub flushes: u64,
    pub committed_bytes: u64,
    pub refused_requests: u64,
    /// Records copied from a leader.
    pub replicated_records: u64,
    /// To the other voters and from them, on the connections that this node has opened.
    pub peer_requests: u64,
    pub peer_responses: u64,
    pub peer_bytes_sent: u64,
    pub peer_bytes_received: u64,
    /// Batches refused with INVALID_TIMESTAMP: their producers drop them.
    pub refused_timestamps: u64,
}
