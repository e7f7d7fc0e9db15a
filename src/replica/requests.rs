//! Answers that need no log and no waiting: pure functions from what the replica knows to Kafka's response.
//!
//! The replica calls them with a `View` of itself. Nothing here changes anything or looks at a clock, and nothing is
//! answered that was not asked for: what an answer cannot say in the request's version is left out.

mod alter_configs;
mod configs;
mod coordinator;
mod create_topics;
mod describe_quorum;
mod groups;
mod log_dirs;
mod metadata;
#[cfg(test)]
mod tests;

pub(crate) use alter_configs::{Alteration, Asked, Judged};
pub(crate) use configs::describe_configs;
pub(crate) use coordinator::{NO_TRANSACTIONS, find_coordinator};
pub(crate) use create_topics::create_topics;
pub(crate) use describe_quorum::{asks_for_one_partition, describe_quorum};
pub(crate) use groups::answer_group_request;
pub(crate) use log_dirs::describe_log_dirs;
pub(crate) use metadata::{describe_cluster, describe_topic_partitions, metadata};

use crate::protocol::{self, Response, messages as m};
use crate::types::*;
use m::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use m::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use std::collections::BTreeMap;

/// What the answers below need to know of the replica, copied out by it.
pub(crate) struct View<'a> {
    pub(super) cluster_id: &'a str,
    pub(super) topic_name: &'a str,
    pub(super) topic_id: Uuid,
    pub(super) local: NodeId,
    /// Where clients find this node.
    pub(super) advertised: &'a Endpoint,
    /// Name of the one listener, "PLAINTEXT" or "CONTROLLER".
    pub(super) listener_name: &'a str,
    /// (id, endpoint, in sync: fetched within the fetch timeout, or is the leader)
    pub(super) voters: &'a [(NodeId, Endpoint, bool)],
    /// Whether clients may be sent to a voter: Kafka's controllers take no Produce.
    pub(super) serves_clients: &'a dyn Fn(NodeId) -> bool,
    pub(super) leader: Option<NodeId>,
    pub(super) epoch: Epoch,
    pub(super) is_leader: bool,
    pub(super) high_watermark: Option<HighWatermark>,
    pub(super) log_end: LogEndOffset,
    /// The directory that holds the partition's, and what the log takes there.
    pub(super) log_dir: &'a str,
    pub(super) log_size_bytes: u64,
    /// Of the file system; `u64::MAX`: not known yet.
    pub(super) disk_free_bytes: u64,
    pub(super) limits: &'a crate::config::Limits,
    pub(super) segment_bytes_max: u64,
    /// What the node's file says.
    pub(super) retention: crate::config::Retention,
    /// For the topic, by an administrator: what is committed of it.
    pub(super) set: &'a BTreeMap<String, String>,
    /// Whether anything can be.
    pub(super) is_alterable: bool,
}

impl View<'_> {
    /// The leader, where clients find it there.
    fn leader_for_clients(&self) -> Option<NodeId> {
        self.leader.filter(|leader| (self.serves_clients)(*leader))
    }

    /// Where a client may be sent that needs no leader: this node, or of an observer any voter that takes clients.
    fn any_for_clients(&self) -> Option<(NodeId, &Endpoint)> {
        let serving = || self.voters.iter().filter(|(id, ..)| (self.serves_clients)(*id));
        let chosen = serving().find(|(id, ..)| *id == self.local).or_else(|| serving().next());
        chosen.map(|(id, endpoint, _)| (*id, endpoint))
    }

    /// The leader's id as the wire has it.
    fn leader_id(&self) -> m::BrokerId {
        m::BrokerId(self.leader.map_or(-1, |id| id.0))
    }

    fn is_ours(&self, topic: &str, partition: i32) -> bool {
        topic == self.topic_name && partition == 0
    }

    /// Why a topic of that name is not here: it does not exist, or no topic can have the name.
    fn unknown_topic(&self, name: &str) -> ErrorCode {
        if is_topic_name(name) {
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        } else {
            ErrorCode::INVALID_TOPIC_EXCEPTION
        }
    }
}

/// Longest name of a topic (Kafka: `Topic.MAX_NAME_LENGTH`).
const TOPIC_NAME_BYTES_MAX: usize = 249;

/// Kafka: `Topic.validate`.
fn is_topic_name(name: &str) -> bool {
    let is_legal = |c: u8| c.is_ascii_alphanumeric() || matches!(c, b'.' | b'_' | b'-');
    !name.is_empty()
        && name.len() <= TOPIC_NAME_BYTES_MAX
        && name != "."
        && name != ".."
        && name.bytes().all(is_legal)
}

fn text(text: &str) -> m::StrBytes {
    m::StrBytes::from_string(text.to_string())
}

fn topic_name(name: &str) -> m::TopicName {
    m::TopicName(text(name))
}

/// `None`: an ApiVersions version that we do not have.
pub(crate) fn api_versions(v: &View, request: Option<&m::ApiVersionsRequest>, version: i16) -> Response {
    let Some(request) = request else {
        return Response::ApiVersions(protocol::api_versions_response(version));
    };
    Response::ApiVersions(if protocol::client_software_is_valid(request, version) {
        let answer = protocol::api_versions_response(version);
        protocol::quorum::tell_advertised(answer, request, version, v.advertised)
    } else {
        m::ApiVersionsResponse::default().with_error_code(ErrorCode::INVALID_REQUEST.0)
    })
}

/// `producer_id`: a fresh random one, drawn by the replica.
///
/// A producer without a transactional id always gets a fresh id with epoch 0, also when it names the one it had (Kafka:
/// `TransactionCoordinator.handleInitProducerId`). There are no transactions: a transactional id gets an error that
/// every client takes for final; the coordinator's own errors make it ask again for ever. Who looks for the coordinator
/// first, as all do, has been told in words.
pub(crate) fn init_producer_id(_v: &View, request: &m::InitProducerIdRequest, producer_id: i64) -> Response {
    let error = match &request.transactional_id {
        // One of the two without the other (Kafka: `KafkaApis.handleInitProducerIdRequest`).
        _ if (request.producer_id.0 == -1) != (request.producer_epoch == -1) => ErrorCode::INVALID_REQUEST,
        Some(id) if id.is_empty() => ErrorCode::INVALID_REQUEST,
        Some(_) => ErrorCode::UNSUPPORTED_VERSION,
        None => ErrorCode::NONE,
    };
    let (producer_id, producer_epoch) = if error.is_none() { (producer_id, 0) } else { (-1, -1) };
    Response::InitProducerId(
        m::InitProducerIdResponse::default()
            .with_error_code(error.0)
            .with_producer_id(m::ProducerId(producer_id))
            .with_producer_epoch(producer_epoch),
    )
}

/// Where an epoch ends in this log, for consumers that look for truncation (KIP-320). Only the leader says it.
pub(crate) fn offset_for_leader_epoch(
    v: &View,
    request: &m::OffsetForLeaderEpochRequest,
    _version: i16,
    end_of_epoch: &dyn Fn(Epoch) -> Option<OffsetAndEpoch>,
) -> Response {
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| end_offset(v, &topic.topic, p, end_of_epoch));
        OffsetForLeaderTopicResult::default()
            .with_topic(topic.topic.clone())
            .with_partitions(partitions.collect())
    });
    Response::OffsetForLeaderEpoch(m::OffsetForLeaderEpochResponse::default().with_topics(topics.collect()))
}

fn end_offset(
    v: &View,
    topic: &str,
    partition: &OffsetForLeaderPartition,
    end_of_epoch: &dyn Fn(Epoch) -> Option<OffsetAndEpoch>,
) -> EpochEndOffset {
    let (error, end) = if !v.is_ours(topic, partition.partition) {
        (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None)
    } else {
        match check_leader_epoch(v, partition.current_leader_epoch) {
            Err(error) => (error, None),
            Ok(()) => (ErrorCode::NONE, end_of_epoch(Epoch(partition.leader_epoch))),
        }
    };
    EpochEndOffset::default()
        .with_partition(partition.partition)
        .with_error_code(error.0)
        .with_leader_epoch(end.map_or(-1, |end| end.epoch.0))
        .with_end_offset(end.map_or(-1, |end| end.offset.0))
}

/// The epoch that a client believes current (-1: it has none) must be ours, and we its leader (Kafka:
/// `Partition.getLocalLog`, in this order).
fn check_leader_epoch(v: &View, current_leader_epoch: i32) -> Result<(), ErrorCode> {
    if current_leader_epoch >= 0 && current_leader_epoch < v.epoch.0 {
        return Err(ErrorCode::FENCED_LEADER_EPOCH);
    }
    if current_leader_epoch > v.epoch.0 {
        return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
    }
    if v.is_leader { Ok(()) } else { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) }
}
