//! (contract; the owner replaces this file)
use super::{Lane, PeerLink};
use crate::protocol::quorum::QuorumContext;
use crate::raft;
use crate::types::*;
use bytes::Bytes;

/// Our outbound connections: connect, ApiVersions first, at most one request of a kind under way (a heartbeat Fetch
/// may follow one that is parked), correlation, timeouts, backoff. Pure.
pub struct Peers {}
pub enum PeerAction {
    Connect { link: PeerLink, endpoint: Endpoint },
    Send { link: PeerLink, chunks: Vec<Bytes> },
    Close { link: PeerLink },
}
pub enum PeerEvent {
    /// A decoded answer; for Fetch the unchecked records beside it.
    Response {
        from: NodeId,
        response: raft::Response,
        records: Bytes,
    },
    Failed {
        to: NodeId,
        kind: raft::RequestKind,
        why: String,
    },
}
impl Peers {
    pub fn new(
        _context: QuorumContext,
        _request_timeout_ms: u64,
        _retry_backoff_ms: u64,
        _frame_bytes_max: usize,
    ) -> Peers {
        unimplemented!()
    }
    /// Send, connecting first where needed. Fetch goes on Lane::Fetch, the rest on Lane::Control. A new Fetch to a
    /// node while one is out to another node closes that other link.
    pub fn send(&mut self, _now: Now, _to: NodeId, _request: raft::Request) {
        unimplemented!()
    }
    pub fn on_connected(&mut self, _now: Now, _link: PeerLink) {
        unimplemented!()
    }
    pub fn on_data(&mut self, _now: Now, _link: PeerLink, _bytes: Bytes) {
        unimplemented!()
    }
    pub fn on_closed(&mut self, _now: Now, _link: PeerLink, _why: &str) {
        unimplemented!()
    }
    pub fn on_tick(&mut self, _now: Now) {
        unimplemented!()
    }
    pub fn drop_peer(&mut self, _node: NodeId) {
        unimplemented!()
    }
    pub fn poll_action(&mut self) -> Option<PeerAction> {
        unimplemented!()
    }
    pub fn poll_event(&mut self) -> Option<PeerEvent> {
        unimplemented!()
    }
    pub fn deadline(&self) -> Option<u64> {
        unimplemented!()
    }
}
