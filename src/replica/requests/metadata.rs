//! Metadata, DescribeCluster and DescribeTopicPartitions: the cluster, its one topic, and who leads it.
//!
//! Every voter that takes clients stands as a broker, every voter as a replica; in sync are those that the leader has
//! heard of lately.

use super::{View, text, topic_name};
use crate::protocol::{Response, messages as m, wire_uuid};
use crate::types::*;
use m::describe_cluster_response::DescribeClusterBroker;
use m::describe_topic_partitions_response::{
    DescribeTopicPartitionsResponsePartition, DescribeTopicPartitionsResponseTopic,
};
use m::metadata_request::MetadataRequestTopic;
use m::metadata_response::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};

/// Version of Metadata from which topics may be asked for by id (KIP-516).
const METADATA_TOPIC_IDS: i16 = 12;
/// DescribeCluster's kinds of endpoints (KIP-919): a node here is both.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;
const UNSUPPORTED_ENDPOINT_TYPE: ErrorCode = ErrorCode(115);

pub(crate) fn metadata(v: &View, request: &m::MetadataRequest, version: i16) -> Response {
    let topics = match &request.topics {
        None => vec![our_topic(v)],
        // Version 0 cannot say "none": an empty list means all.
        Some(asked) if asked.is_empty() && version == 0 => vec![our_topic(v)],
        Some(asked) => asked.iter().map(|topic| asked_topic(v, topic, version)).collect(),
    };
    let serving = v.voters.iter().filter(|(id, ..)| (v.serves_clients)(*id));
    let brokers = serving.map(|(id, endpoint, _)| {
        MetadataResponseBroker::default()
            .with_node_id(m::BrokerId(id.0))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port.into())
    });
    Response::Metadata(
        m::MetadataResponse::default()
            .with_brokers(brokers.collect())
            .with_cluster_id(Some(text(v.cluster_id)))
            .with_controller_id(controller_id(v))
            .with_topics(topics),
    )
}

fn asked_topic(v: &View, asked: &MetadataRequestTopic, version: i16) -> MetadataResponseTopic {
    let id = Uuid(asked.topic_id.as_u128());
    match &asked.name {
        // Kafka refuses these two with an error for the whole request.
        None if version < METADATA_TOPIC_IDS => {
            failed_topic(ErrorCode::INVALID_REQUEST).with_name(Some(topic_name("")))
        }
        Some(name) if !id.is_zero() && version < METADATA_TOPIC_IDS => {
            failed_topic(ErrorCode::INVALID_REQUEST).with_name(Some(name.clone()))
        }
        // Where both are given the id counts.
        _ if !id.is_zero() && id == v.topic_id => our_topic(v),
        _ if !id.is_zero() => {
            failed_topic(ErrorCode::UNKNOWN_TOPIC_ID).with_name(None).with_topic_id(asked.topic_id)
        }
        None => failed_topic(ErrorCode::UNKNOWN_TOPIC_ID).with_name(None),
        Some(name) if name.as_str() == v.topic_name => our_topic(v),
        Some(name) => failed_topic(v.unknown_topic(name)).with_name(Some(name.clone())),
    }
}

fn failed_topic(error: ErrorCode) -> MetadataResponseTopic {
    MetadataResponseTopic::default().with_error_code(error.0)
}

fn our_topic(v: &View) -> MetadataResponseTopic {
    let partition = MetadataResponsePartition::default()
        .with_error_code(partition_error(v).0)
        .with_leader_id(client_leader_id(v))
        .with_leader_epoch(v.epoch.0)
        .with_replica_nodes(replicas(v))
        .with_isr_nodes(in_sync(v));
    MetadataResponseTopic::default()
        .with_name(Some(topic_name(v.topic_name)))
        .with_topic_id(wire_uuid(v.topic_id))
        .with_is_internal(false)
        .with_partitions(vec![partition])
}

fn client_leader_id(v: &View) -> m::BrokerId {
    m::BrokerId(v.leader_for_clients().map_or(-1, |id| id.0))
}

/// What a controller is asked, each node answers. So there is always one, as with Kafka's brokers: admin clients wait
/// a minute for it.
fn controller_id(v: &View) -> m::BrokerId {
    let controller = v.leader_for_clients().or_else(|| v.any_for_clients().map(|(id, _)| id));
    m::BrokerId(controller.map_or(-1, |id| id.0))
}

/// Kafka's controller that leads takes no Produce: to clients there is no leader, and they ask again until there is.
fn partition_error(v: &View) -> ErrorCode {
    if v.leader_for_clients().is_some() { ErrorCode::NONE } else { ErrorCode::LEADER_NOT_AVAILABLE }
}

fn replicas(v: &View) -> Vec<m::BrokerId> {
    v.voters.iter().map(|(id, ..)| m::BrokerId(id.0)).collect()
}

fn in_sync(v: &View) -> Vec<m::BrokerId> {
    let in_sync = v.voters.iter().filter(|(_, _, is_in_sync)| *is_in_sync);
    in_sync.map(|(id, ..)| m::BrokerId(id.0)).collect()
}

/// Both kinds of endpoints are the voters: a tool that asks for controllers and one that asks for brokers are both right.
/// Kafka's controllers beside us are no brokers: a tool that went on to ask them for what a broker knows would fail.
pub(crate) fn describe_cluster(v: &View, request: &m::DescribeClusterRequest, version: i16) -> Response {
    // Version 0 cannot ask for a kind, and its answer cannot name one.
    let endpoint_type = if version == 0 { BROKERS } else { request.endpoint_type };
    if endpoint_type != BROKERS && endpoint_type != CONTROLLERS {
        let why = format!("endpoint type {endpoint_type} is neither 1 (brokers) nor 2 (controllers)");
        return Response::DescribeCluster(
            m::DescribeClusterResponse::default()
                .with_error_code(UNSUPPORTED_ENDPOINT_TYPE.0)
                .with_error_message(Some(text(&why)))
                .with_controller_id(m::BrokerId(-1)),
        );
    }
    let asks_for_controllers = endpoint_type == CONTROLLERS;
    let listed = v.voters.iter().filter(|(id, ..)| asks_for_controllers || (v.serves_clients)(*id));
    let brokers = listed.map(|(id, endpoint, _)| {
        DescribeClusterBroker::default()
            .with_broker_id(m::BrokerId(id.0))
            .with_host(text(&endpoint.host))
            .with_port(endpoint.port.into())
    });
    Response::DescribeCluster(
        m::DescribeClusterResponse::default()
            .with_endpoint_type(endpoint_type)
            .with_cluster_id(text(v.cluster_id))
            .with_controller_id(if asks_for_controllers { v.leader_id() } else { controller_id(v) })
            .with_brokers(brokers.collect()),
    )
}

/// Topics in the order of their names, beginning at the cursor (KIP-966). There is one partition: one answer says it all.
pub(crate) fn describe_topic_partitions(
    v: &View,
    request: &m::DescribeTopicPartitionsRequest,
    _version: i16,
) -> Response {
    let mut names: Vec<&str> = request.topics.iter().map(|t| t.name.as_str()).collect();
    let cursor = request.cursor.as_ref();
    let is_cursor_bad = cursor.is_some_and(|c| {
        c.partition_index < 0 || (!names.is_empty() && !names.contains(&c.topic_name.as_str()))
    });
    if names.is_empty() {
        names.push(v.topic_name);
    }
    names.sort_unstable();
    names.dedup();
    let topics = names.into_iter().filter_map(|name| {
        if is_cursor_bad {
            return Some(described_failure(name, ErrorCode::INVALID_REQUEST));
        }
        let first_partition = match cursor {
            Some(c) if name < c.topic_name.as_str() => return None,
            Some(c) if name == c.topic_name.as_str() => c.partition_index,
            _ => 0,
        };
        Some(described_topic(v, name, first_partition))
    });
    Response::DescribeTopicPartitions(
        m::DescribeTopicPartitionsResponse::default().with_topics(topics.collect()),
    )
}

fn described_failure(name: &str, error: ErrorCode) -> DescribeTopicPartitionsResponseTopic {
    DescribeTopicPartitionsResponseTopic::default().with_error_code(error.0).with_name(Some(topic_name(name)))
}

fn described_topic(v: &View, name: &str, first_partition: i32) -> DescribeTopicPartitionsResponseTopic {
    if name != v.topic_name {
        return described_failure(name, v.unknown_topic(name));
    }
    let partition = DescribeTopicPartitionsResponsePartition::default()
        .with_error_code(partition_error(v).0)
        .with_leader_id(client_leader_id(v))
        .with_leader_epoch(v.epoch.0)
        .with_replica_nodes(replicas(v))
        .with_isr_nodes(in_sync(v))
        .with_eligible_leader_replicas(Some(vec![]))
        .with_last_known_elr(Some(vec![]));
    DescribeTopicPartitionsResponseTopic::default()
        .with_name(Some(topic_name(name)))
        .with_topic_id(wire_uuid(v.topic_id))
        .with_is_internal(false)
        .with_partitions(if first_partition == 0 { vec![partition] } else { vec![] })
}
