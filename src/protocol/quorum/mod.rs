//! Raft's messages on the wire (KIP-595, 853, 996, 1166): both directions, as server and as client.
//!
//! `server` turns voters' requests into raft's and raft's answers into theirs; `client` does the same for the requests
//! that this node sends, `snapshots` both for what Raft is not asked. Cluster id, topic and partition are settled here: raft never hears of them. Numbers that no
//! peer can mean (negative epochs and offsets) end here too.

mod client;
mod greeting;
mod memory;
mod server;
mod snapshots;
mod software;

pub use client::{
    PeerVersions, decode_alter_configs_response, decode_api_versions_response,
    decode_describe_quorum_response, decode_response, encode_api_versions_request, encode_request,
    response_correlation_id, version_of,
};
pub(crate) use client::{encode_alter_configs_request, encode_describe_quorum_request};
pub(crate) use greeting::tell_advertised;
pub(crate) use server::update_raft_voter_response;
pub use server::{
    begin_quorum_epoch_request, begin_quorum_epoch_response, end_quorum_epoch_request,
    end_quorum_epoch_response, fetch_request, fetch_response, update_raft_voter_request, vote_request,
    vote_response,
};
pub use snapshots::{
    SnapshotBytes, SnapshotRequest, decode_fetch_snapshot_response, encode_fetch_snapshot_request,
    fetch_snapshot_request, fetch_snapshot_response,
};
pub use software::CLIENT_SOFTWARE_NAME;
pub(crate) use software::PeerSoftware;

use super::messages::StrBytes;
use crate::types::*;
use std::sync::Arc;

/// The one partition of the replicated log.
const PARTITION: i32 = 0;
/// Whoever asks for no more than that is content with one batch, which is sent whole.
const ONE_BATCH_BYTES: i32 = 1;

/// What every voter request names and what must agree.
#[derive(Clone, Debug)]
pub struct QuorumContext {
    /// A request that names another one is refused.
    pub cluster_id: StrBytes,
    /// `__cluster_metadata`, or as it is configured.
    pub topic: StrBytes,
    /// Fetch names the topic by it.
    pub topic_id: Uuid,
    /// This node.
    pub local: ReplicaKey,
    /// Name of the listener: "PLAINTEXT", "CONTROLLER".
    pub listener_name: String,
    /// Where clients find this node; voters find it where `voters` says.
    pub endpoint: Arc<Endpoint>,
    /// Told to other nodes of ours in ApiVersions, so that nodes of different modes never share a log.
    pub data_mode: DataMode,
    /// Endpoints of the static voters, for `nodeEndpoints`.
    pub voters: Vec<(NodeId, Arc<Endpoint>)>,
}

impl QuorumContext {
    /// Where voters find a node. Only of one that is no voter, ours, it is where clients find it.
    pub(crate) fn endpoint_of(&self, node: NodeId) -> Option<&Arc<Endpoint>> {
        let voter = self.voters.iter().find(|(id, _)| *id == node).map(|(_, endpoint)| endpoint);
        voter.or_else(|| (node == self.local.id).then_some(&self.endpoint))
    }

    /// A request may leave the cluster id out (Kafka: `KafkaRaftClient.hasValidClusterId`).
    fn is_our_cluster(&self, cluster_id: Option<&str>) -> bool {
        cluster_id.is_none_or(|id| *id == *self.cluster_id)
    }

    fn wire_topic<T: From<StrBytes>>(&self) -> T {
        self.topic.clone().into()
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

/// -1 stands for nobody.
fn node_id(id: i32) -> Option<NodeId> {
    (id >= 0).then_some(NodeId(id))
}

fn wire_node_id<T: From<i32>>(id: Option<NodeId>) -> T {
    T::from(id.map_or(-1, |id| id.0))
}

/// -1: nothing is said of it.
fn told_log_start(offset: i64) -> Option<Offset> {
    (offset >= 0).then_some(Offset(offset))
}

fn log_start(told: Option<Offset>) -> i64 {
    told.map_or(-1, |start| start.0)
}

/// The only element, where the schema has an array and the quorum has one partition.
fn only<T>(elements: &[T]) -> Option<&T> {
    if let [element] = elements { Some(element) } else { None }
}
