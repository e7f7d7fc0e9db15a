//! As server: a voter's request to raft's, and raft's answer to the wire.

#![allow(clippy::result_large_err, reason = "the error is an answer, moved once, to the encoder")]

use super::super::fetch::TOPIC_ID_FROM;
use super::super::messages as m;
use super::super::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, NamedSnapshot, Response};
use super::{
    ONE_BATCH_BYTES, PARTITION, QuorumContext, log_start, memory, node_id, only, text, told_log_start,
    wire_node_id,
};
use crate::raft;
use crate::record::BatchList;
use crate::types::*;
use smallvec::smallvec;
use std::sync::Arc;

// Each `_request` gives `Err` with the whole answer to send: an error at the top level and nothing else. Kafka answers
// negative numbers in the partition; at the top, where a Java peer only logs it, the same code does no harm.

/// Kafka: `KafkaRaftClient.handleVoteRequest`.
pub fn vote_request(c: &QuorumContext, m: &m::VoteRequest) -> Result<raft::VoteRequest, Response> {
    let refused = |error: ErrorCode| Response::Vote(m::VoteResponse::default().with_error_code(error.0));
    if !c.is_our_cluster(m.cluster_id.as_deref()) {
        return Err(refused(ErrorCode::INCONSISTENT_CLUSTER_ID));
    }
    let topic = only(&m.topics).filter(|topic| *topic.topic_name.0 == *c.topic);
    let partition =
        topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.partition_index == PARTITION);
    let invalid = || refused(ErrorCode::INVALID_REQUEST);
    let partition = partition.ok_or_else(invalid)?;
    let candidate = node_id(partition.replica_id.0).ok_or_else(invalid)?;
    if partition.replica_epoch < 0 || partition.last_offset_epoch < 0 || partition.last_offset < 0 {
        return Err(invalid());
    }
    Ok(raft::VoteRequest {
        voter: replica_key(m.voter_id.0, partition.voter_directory_id.as_u128()),
        epoch: Epoch(partition.replica_epoch),
        candidate: ReplicaKey { id: candidate, directory_id: Uuid(partition.replica_directory_id.as_u128()) },
        last: OffsetAndEpoch {
            epoch: Epoch(partition.last_offset_epoch),
            offset: Offset(partition.last_offset),
        },
        pre_vote: partition.pre_vote,
        counts_memory: memory::is_counted(&partition.unknown_tagged_fields),
    })
}

/// Kafka: `KafkaRaftClient.handleBeginQuorumEpochRequest`.
pub fn begin_quorum_epoch_request(
    c: &QuorumContext,
    m: &m::BeginQuorumEpochRequest,
) -> Result<raft::BeginQuorumEpochRequest, Response> {
    let refused = |error: ErrorCode| {
        Response::BeginQuorumEpoch(m::BeginQuorumEpochResponse::default().with_error_code(error.0))
    };
    if !c.is_our_cluster(m.cluster_id.as_deref()) {
        return Err(refused(ErrorCode::INCONSISTENT_CLUSTER_ID));
    }
    let topic = only(&m.topics).filter(|topic| *topic.topic_name.0 == *c.topic);
    let partition =
        topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.partition_index == PARTITION);
    let invalid = || refused(ErrorCode::INVALID_REQUEST);
    let partition = partition.filter(|p| p.leader_epoch >= 0).ok_or_else(invalid)?;
    Ok(raft::BeginQuorumEpochRequest {
        voter: replica_key(m.voter_id.0, partition.voter_directory_id.as_u128()),
        leader: node_id(partition.leader_id.0).ok_or_else(invalid)?,
        epoch: Epoch(partition.leader_epoch),
    })
}

/// Kafka: `KafkaRaftClient.handleEndQuorumEpochRequest`. Version 0 names successors by their ids alone.
pub fn end_quorum_epoch_request(
    c: &QuorumContext,
    m: &m::EndQuorumEpochRequest,
) -> Result<raft::EndQuorumEpochRequest, Response> {
    let refused = |error: ErrorCode| {
        Response::EndQuorumEpoch(m::EndQuorumEpochResponse::default().with_error_code(error.0))
    };
    if !c.is_our_cluster(m.cluster_id.as_deref()) {
        return Err(refused(ErrorCode::INCONSISTENT_CLUSTER_ID));
    }
    let topic = only(&m.topics).filter(|topic| *topic.topic_name.0 == *c.topic);
    let partition =
        topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.partition_index == PARTITION);
    let invalid = || refused(ErrorCode::INVALID_REQUEST);
    let partition = partition.filter(|p| p.leader_epoch >= 0).ok_or_else(invalid)?;
    let candidates = partition.preferred_candidates.iter();
    let candidates =
        candidates.filter_map(|c| replica_key(c.candidate_id.0, c.candidate_directory_id.as_u128()));
    let successors = partition.preferred_successors.iter().filter_map(|id| replica_key(*id, 0));
    Ok(raft::EndQuorumEpochRequest {
        leader: node_id(partition.leader_id.0).ok_or_else(invalid)?,
        epoch: Epoch(partition.leader_epoch),
        preferred_candidates: candidates.chain(successors).collect(),
    })
}

/// Kafka: `UpdateVoterHandler`. A follower of the epoch tells its endpoints and kraft.version range. Under
/// kraft.version 0 the voters are those of the configuration, so nothing changes here; Kafka's followers repeat it
/// until they hear that it was taken. Gives the epoch that the sender follows.
pub fn update_raft_voter_request(
    c: &QuorumContext,
    m: &m::UpdateRaftVoterRequest,
) -> Result<Epoch, ErrorCode> {
    if !c.is_our_cluster(m.cluster_id.as_deref()) {
        return Err(ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
    let range = &m.k_raft_version_feature;
    let is_sane = range.min_supported_version >= 0
        && range.max_supported_version >= range.min_supported_version
        && range.min_supported_version == 0
        && m.current_leader_epoch >= 0
        && !m.listeners.is_empty();
    if !is_sane {
        return Err(ErrorCode::INVALID_REQUEST);
    }
    let is_voter = c.voters.iter().any(|(id, _)| id.0 == m.voter_id && *id != c.local.id);
    if is_voter { Ok(Epoch(m.current_leader_epoch)) } else { Err(ErrorCode::VOTER_NOT_FOUND) }
}

pub(crate) fn update_raft_voter_response(
    c: &QuorumContext,
    error: ErrorCode,
    leader: Option<NodeId>,
    epoch: Epoch,
) -> Response {
    use m::update_raft_voter_response::CurrentLeader;
    let mut current = CurrentLeader::default().with_leader_epoch(epoch.0);
    if let Some((id, endpoint)) = leader_endpoint(c, leader) {
        current.leader_id = id.0.into();
        current.host = text(&endpoint.host);
        current.port = endpoint.port.into();
    }
    let response = m::UpdateRaftVoterResponse::default().with_error_code(error.0);
    Response::UpdateRaftVoter(response.with_current_leader(current))
}

/// A replica's Fetch; a consumer's never comes here. Kafka: `KafkaRaftClient.handleFetchRequest`. Only a topic id names the log (version 13 and later).
pub fn fetch_request(
    c: &QuorumContext,
    m: &FetchRequest,
    version: i16,
) -> Result<raft::FetchRequest, Response> {
    let refused =
        |error: ErrorCode| Response::Fetch(FetchResponse { error: error.0, ..FetchResponse::default() });
    if !c.is_our_cluster(m.cluster_id.as_deref()) {
        return Err(refused(ErrorCode::INCONSISTENT_CLUSTER_ID));
    }
    let topic = only(&m.topics).filter(|topic| version >= TOPIC_ID_FROM && topic.id == c.topic_id);
    let partition = topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.index == PARTITION);
    let invalid = || refused(ErrorCode::INVALID_REQUEST);
    let partition = partition.ok_or_else(invalid)?;
    let is_sane = m.max_wait_ms >= 0
        && partition.fetch_offset >= 0
        && partition.last_fetched_epoch >= 0
        && partition.current_leader_epoch >= 0;
    let id = node_id(m.replica_id).filter(|_| is_sane).ok_or_else(invalid)?;
    Ok(raft::FetchRequest {
        replica: ReplicaKey { id, directory_id: partition.directory_id },
        epoch: Epoch(partition.current_leader_epoch),
        fetch_offset: Offset(partition.fetch_offset),
        last_fetched_epoch: Epoch(partition.last_fetched_epoch),
        max_wait_ms: m.max_wait_ms,
        high_watermark: high_watermark(partition.high_watermark),
        unfit: m.unfit,
        one_batch: m.max_bytes <= ONE_BATCH_BYTES,
        log_start: told_log_start(partition.log_start),
        wall_ms: m.wall_ms,
    })
}

/// KIP-1166: -1 is unknown. A version before 18 carries none: the codec then says `i64::MAX`, "do not wake me".
pub(super) fn high_watermark(offset: i64) -> Option<HighWatermark> {
    (offset >= 0).then_some(HighWatermark(Offset(offset)))
}

fn replica_key(id: i32, directory_id: u128) -> Option<ReplicaKey> {
    node_id(id).map(|id| ReplicaKey { id, directory_id: Uuid(directory_id) })
}

/// As it goes to a voter that asked for our vote.
pub fn vote_response(c: &QuorumContext, r: &raft::VoteResponse) -> Response {
    use m::vote_response::{NodeEndpoint, PartitionData, TopicData};
    let partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_error_code(r.error.0)
        .with_leader_id(wire_node_id(r.leader))
        .with_leader_epoch(r.epoch.0)
        .with_vote_granted(r.granted)
        .with_unknown_tagged_fields(memory::answer_tags(r.memory, r.start));
    let topic = TopicData::default().with_topic_name(c.wire_topic()).with_partitions(vec![partition]);
    let node = |(id, endpoint): (NodeId, &Arc<Endpoint>)| {
        let node = NodeEndpoint::default().with_node_id(id.0.into());
        node.with_host(text(&endpoint.host)).with_port(endpoint.port)
    };
    let nodes = leader_endpoint(c, r.leader).map(node).into_iter().collect();
    Response::Vote(m::VoteResponse::default().with_topics(vec![topic]).with_node_endpoints(nodes))
}

/// As it goes to a leader that has told of itself.
pub fn begin_quorum_epoch_response(c: &QuorumContext, r: &raft::LeaderResponse) -> Response {
    use m::begin_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
    let partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_error_code(r.error.0)
        .with_leader_id(wire_node_id(r.leader))
        .with_leader_epoch(r.epoch.0);
    let topic = TopicData::default().with_topic_name(c.wire_topic()).with_partitions(vec![partition]);
    let node = |(id, endpoint): (NodeId, &Arc<Endpoint>)| {
        let node = NodeEndpoint::default().with_node_id(id.0.into());
        node.with_host(text(&endpoint.host)).with_port(endpoint.port)
    };
    let nodes = leader_endpoint(c, r.leader).map(node).into_iter().collect();
    let response = m::BeginQuorumEpochResponse::default();
    Response::BeginQuorumEpoch(response.with_topics(vec![topic]).with_node_endpoints(nodes))
}

/// As it goes to a leader that has resigned.
pub fn end_quorum_epoch_response(c: &QuorumContext, r: &raft::LeaderResponse) -> Response {
    use m::end_quorum_epoch_response::{NodeEndpoint, PartitionData, TopicData};
    let partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_error_code(r.error.0)
        .with_leader_id(wire_node_id(r.leader))
        .with_leader_epoch(r.epoch.0);
    let topic = TopicData::default().with_topic_name(c.wire_topic()).with_partitions(vec![partition]);
    let node = |(id, endpoint): (NodeId, &Arc<Endpoint>)| {
        let node = NodeEndpoint::default().with_node_id(id.0.into());
        node.with_host(text(&endpoint.host)).with_port(endpoint.port)
    };
    let nodes = leader_endpoint(c, r.leader).map(node).into_iter().collect();
    let response = m::EndQuorumEpochResponse::default();
    Response::EndQuorumEpoch(response.with_topics(vec![topic]).with_node_endpoints(nodes))
}

/// Answer to a replica's Fetch. It names the leader and epoch whatever else it says, and the leader's endpoint when
/// the leader is known; the last stable offset is never told to replicas. `r.batches` is not looked at: `records` are
/// what is served.
pub fn fetch_response(c: &QuorumContext, r: &raft::FetchResponse, records: BatchList) -> FetchResponse {
    let partition = FetchPartition {
        index: PARTITION,
        error: r.error,
        high_watermark: r.high_watermark.map_or(-1, |hw| hw.0.0),
        last_stable_offset: -1,
        log_start_offset: log_start(r.log_start),
        diverging: r.diverging,
        current_leader: Some((r.leader, r.epoch)),
        snapshot: r.snapshot.map(|id| Box::new(NamedSnapshot { id, begin: r.begin })),
        lagging: r.lagging,
        records,
    };
    let topic = FetchTopic { name: c.topic.clone(), topic_id: c.topic_id, partitions: smallvec![partition] };
    let endpoints = leader_endpoint(c, r.leader).map(|(id, endpoint)| (id, endpoint.clone()));
    FetchResponse {
        error: 0,
        session_id: 0,
        topics: smallvec![topic],
        node_endpoints: endpoints.into_iter().collect(),
    }
}

pub(super) fn leader_endpoint(c: &QuorumContext, leader: Option<NodeId>) -> Option<(NodeId, &Arc<Endpoint>)> {
    let leader = leader?;
    c.endpoint_of(leader).map(|endpoint| (leader, endpoint))
}
