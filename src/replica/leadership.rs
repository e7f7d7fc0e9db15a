//! Who leads, and where the nodes are: as this node finds them, and as clients are told.

use std::sync::Arc;

use super::desk::{Desk, Engine};
use crate::types::*;

impl Desk {
    /// In a native quorum all nodes are ours. Beside Kafka's voters only those count that have said what they take.
    pub(super) fn serves_clients(&self, node: NodeId) -> bool {
        self.context.data_mode == DataMode::Native
            || node == self.context.local.id
            || self.peers.serves_clients(node)
    }

    /// Where clients find a node: what it advertises, as far as it has told; until then its entry among the voters.
    pub(super) fn endpoint_for_clients(&self, node: NodeId) -> Option<&Arc<Endpoint>> {
        if node == self.context.local.id {
            return Some(&self.context.endpoint);
        }
        self.peers.advertised(node).or_else(|| self.context.endpoint_of(node))
    }

    /// The leader and where clients find it.
    pub(super) fn leader_endpoint_for_clients(&self, engine: &Engine) -> Option<(NodeId, Arc<Endpoint>)> {
        let leader = engine.raft().leader()?;
        Some((leader, self.endpoint_for_clients(leader)?.clone()))
    }

    /// The leader, where clients find it there.
    pub(super) fn leader_for_clients(&self, engine: &Engine) -> Option<NodeId> {
        engine.raft().living_leader(self.now).filter(|leader| self.serves_clients(*leader))
    }

    /// The leader and where this node finds it.
    pub(super) fn leader_endpoint(&self, engine: &Engine) -> Option<(NodeId, Arc<Endpoint>)> {
        let leader = engine.raft().leader()?;
        let voter = self.context.voters.iter().find(|(id, _)| *id == leader)?;
        Some(voter.clone())
    }
}
