//! Raft's messages on the wire (KIP-595, 853, 996, 1166): both directions, as server and as client.
//! (contract; the owner of src/protocol replaces this file)
use super::{EncodedFrame, FrameError, Response, messages as m};
use crate::raft;
use crate::types::*;
use bytes::Bytes;

/// What every voter request names and what must agree.
#[derive(Clone, Debug)]
pub struct QuorumContext {
    pub cluster_id: String,
    pub topic: String,
    pub topic_id: Uuid,
    pub local: ReplicaKey,
    /// Name of the listener ("PLAINTEXT", "CONTROLLER") and our advertised endpoint, sent in Begin/EndQuorumEpoch.
    pub listener_name: String,
    pub endpoint: Endpoint,
    /// Endpoints of the static voters, for `nodeEndpoints`.
    pub voters: Vec<(NodeId, Endpoint)>,
}

// --- as server: wire -> raft. Err: the whole answer to send (top-level error, e.g. INCONSISTENT_CLUSTER_ID, INVALID_REQUEST).
pub fn vote_request(_c: &QuorumContext, _m: &m::VoteRequest) -> Result<raft::VoteRequest, Response> {
    unimplemented!()
}
pub fn begin_quorum_epoch_request(
    _c: &QuorumContext,
    _m: &m::BeginQuorumEpochRequest,
) -> Result<raft::BeginQuorumEpochRequest, Response> {
    unimplemented!()
}
pub fn end_quorum_epoch_request(
    _c: &QuorumContext,
    _m: &m::EndQuorumEpochRequest,
) -> Result<raft::EndQuorumEpochRequest, Response> {
    unimplemented!()
}
/// Replica Fetch (replica id >= 0). A consumer's Fetch never comes here. `version` of the request: below 15 the replica id stands at the top.
pub fn is_replica_fetch(_m: &m::FetchRequest) -> bool {
    unimplemented!()
}
pub fn fetch_request(
    _c: &QuorumContext,
    _m: &m::FetchRequest,
    _version: i16,
) -> Result<raft::FetchRequest, Response> {
    unimplemented!()
}
// --- as server: raft -> wire
pub fn vote_response(_c: &QuorumContext, _r: &raft::VoteResponse) -> Response {
    unimplemented!()
}
pub fn begin_quorum_epoch_response(_c: &QuorumContext, _r: &raft::LeaderResponse) -> Response {
    unimplemented!()
}
pub fn end_quorum_epoch_response(_c: &QuorumContext, _r: &raft::LeaderResponse) -> Response {
    unimplemented!()
}

// --- as client
/// What the peer's ApiVersions answer allows, by key: the version that we use.
#[derive(Clone, Debug, Default)]
pub struct PeerVersions {
    pub vote: Option<i16>,
    pub begin_quorum_epoch: Option<i16>,
    pub end_quorum_epoch: Option<i16>,
    pub fetch: Option<i16>,
}
/// Client software name we send, so that a kraft node recognises another.
pub const CLIENT_SOFTWARE_NAME: &str = "kraft";
pub fn encode_api_versions_request(_correlation_id: i32, _client_id: &str) -> EncodedFrame {
    unimplemented!()
}
pub fn decode_api_versions_response(_frame: Bytes) -> Result<PeerVersions, FrameError> {
    unimplemented!()
}
/// `None`: the peer has no version of it that can carry the request (e.g. a pre-vote to a Vote 1 peer).
pub fn encode_request(
    _c: &QuorumContext,
    _v: &PeerVersions,
    _correlation_id: i32,
    _client_id: &str,
    _request: &raft::Request,
) -> Option<EncodedFrame> {
    unimplemented!()
}
/// (correlation id of a response frame, which comes without its 4-byte length).
pub fn response_correlation_id(_frame: &[u8]) -> Option<i32> {
    unimplemented!()
}
/// Decode a peer's answer. Fetch: `batches` in the raft response is left empty and the records come beside it, unchecked.
pub fn decode_response(
    _c: &QuorumContext,
    _kind: raft::RequestKind,
    _version: i16,
    _frame: Bytes,
) -> Result<(raft::Response, Bytes), FrameError> {
    unimplemented!()
}
pub fn version_of(_v: &PeerVersions, _kind: raft::RequestKind) -> Option<i16> {
    unimplemented!()
}
