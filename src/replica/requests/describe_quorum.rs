//! DescribeQuorum (KIP-595, KIP-836): how far each voter and observer has come. Only the leader knows.

use super::{View, text, topic_name};
use crate::protocol::{Response, messages as m, wire_uuid};
use crate::raft::ReplicaProgress;
use crate::types::*;
use m::describe_quorum_response::{Listener, Node, PartitionData, ReplicaState, TopicData};

/// Version from which errors have messages, replicas their directory ids, and nodes are listed.
const DIRECTORY_IDS: i16 = 2;

/// `voters`, `observers`: as Raft gives them; `now` turns monotonic ns into wall ms.
pub(crate) fn describe_quorum(
    v: &View,
    request: &m::DescribeQuorumRequest,
    version: i16,
    voters: &[ReplicaProgress],
    observers: &[ReplicaProgress],
    now: Now,
) -> Response {
    if !asks_for_ours(v, request) {
        return unknown_partitions(request, version);
    }
    if !v.is_leader {
        let why = "this node does not lead the quorum; ask the controller that DescribeCluster names";
        let refused = failed_partition(0, ErrorCode::NOT_LEADER_OR_FOLLOWER, why, version);
        return answer(vec![topic_data(v.topic_name, vec![refused])], vec![], version);
    }
    let replica_states = |all: &[ReplicaProgress]| {
        all.iter().map(|replica| replica_state(v, replica, version, now)).collect::<Vec<_>>()
    };
    let partition = PartitionData::default()
        .with_error_message(message("", version))
        .with_leader_id(v.leader_id())
        .with_leader_epoch(v.epoch.0)
        .with_high_watermark(v.high_watermark.map_or(-1, |offset| offset.0.0))
        .with_current_voters(replica_states(voters))
        .with_observers(replica_states(observers));
    answer(vec![topic_data(v.topic_name, vec![partition])], nodes(v), version)
}

/// All that may be asked for at once.
pub(crate) fn asks_for_one_partition(request: &m::DescribeQuorumRequest) -> bool {
    matches!(&request.topics[..], [topic] if topic.partitions.len() == 1)
}

/// Exactly one topic with exactly one partition, ours (Kafka: `KafkaRaftClient.hasValidTopicPartition`).
fn asks_for_ours(v: &View, request: &m::DescribeQuorumRequest) -> bool {
    let [topic] = request.topics.as_slice() else { return false };
    let [partition] = topic.partitions.as_slice() else { return false };
    v.is_ours(&topic.topic_name, partition.partition_index)
}

/// Every partition that was asked for is unknown.
fn unknown_partitions(request: &m::DescribeQuorumRequest, version: i16) -> Response {
    let why = "exactly one partition can be asked for: the one of the quorum's own topic";
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            failed_partition(p.partition_index, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, why, version)
        });
        topic_data(&topic.topic_name, partitions.collect())
    });
    answer(topics.collect(), vec![], version)
}

fn answer(topics: Vec<TopicData>, nodes: Vec<Node>, version: i16) -> Response {
    Response::DescribeQuorum(
        m::DescribeQuorumResponse::default()
            .with_error_message(message("", version))
            .with_topics(topics)
            .with_nodes(if version >= DIRECTORY_IDS { nodes } else { vec![] }),
    )
}

fn topic_data(name: &str, partitions: Vec<PartitionData>) -> TopicData {
    TopicData::default().with_topic_name(topic_name(name)).with_partitions(partitions)
}

fn failed_partition(index: i32, error: ErrorCode, why: &str, version: i16) -> PartitionData {
    PartitionData::default()
        .with_partition_index(index)
        .with_error_code(error.0)
        .with_error_message(message(why, version))
}

/// Kafka says no error with an empty message, not with a missing one.
fn message(why: &str, version: i16) -> Option<m::StrBytes> {
    (version >= DIRECTORY_IDS).then(|| text(why))
}

fn replica_state(v: &View, replica: &ReplicaProgress, version: i16, now: Now) -> ReplicaState {
    let is_local = replica.key.id == v.local;
    // The leader fetches from nobody and is never behind (Kafka: `RaftUtil.toReplicaState`).
    let wall_ms = |at_ns| if is_local { now.wall_ms } else { wall_ms_of(at_ns, now) };
    let state = ReplicaState::default()
        .with_replica_id(m::BrokerId(replica.key.id.0))
        .with_log_end_offset(replica.log_end.0)
        .with_last_fetch_timestamp(wall_ms(replica.last_fetch_ns))
        .with_last_caught_up_timestamp(wall_ms(replica.last_caught_up_ns));
    if version < DIRECTORY_IDS {
        return state;
    }
    state.with_replica_directory_id(wire_uuid(replica.key.directory_id))
}

/// -1: never.
fn wall_ms_of(at_ns: Option<u64>, now: Now) -> i64 {
    at_ns.map_or(-1, |at_ns| now.wall_ms - (now.monotonic_ns.saturating_sub(at_ns) / NS_PER_MS) as i64)
}

fn nodes(v: &View) -> Vec<Node> {
    let node = |(id, endpoint, _): &(NodeId, Endpoint, bool)| {
        let listener = Listener::default()
            .with_name(text(v.listener_name))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port);
        Node::default().with_node_id(m::BrokerId(id.0)).with_listeners(vec![listener])
    };
    v.voters.iter().map(node).collect()
}
