//! Kafka's frames as clients send and read them, straight through the codec crate.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{self as km, ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

/// Api key and the version that the simulated clients speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Api(pub(super) ApiKey, pub(super) i16);

pub(crate) const PRODUCE: Api = Api(ApiKey::Produce, 9);
pub(crate) const FETCH: Api = Api(ApiKey::Fetch, 12);
pub(crate) const LIST_OFFSETS: Api = Api(ApiKey::ListOffsets, 5);
pub(crate) const METADATA: Api = Api(ApiKey::Metadata, 9);
pub(crate) const INIT_PRODUCER_ID: Api = Api(ApiKey::InitProducerId, 4);
pub(crate) const DESCRIBE_QUORUM: Api = Api(ApiKey::DescribeQuorum, 1);
pub(crate) const API_VERSIONS: Api = Api(ApiKey::ApiVersions, 3);
pub(super) const INCREMENTAL_ALTER_CONFIGS: Api = Api(ApiKey::IncrementalAlterConfigs, 1);
pub(super) const DESCRIBE_CONFIGS: Api = Api(ApiKey::DescribeConfigs, 4);
pub(crate) const VOTE: Api = Api(ApiKey::Vote, 1);
pub(super) const PRE_VOTE: Api = Api(ApiKey::Vote, 2);
pub(crate) const BEGIN_QUORUM_EPOCH: Api = Api(ApiKey::BeginQuorumEpoch, 1);
pub(crate) const END_QUORUM_EPOCH: Api = Api(ApiKey::EndQuorumEpoch, 1);
pub(super) const FETCH_SNAPSHOT: Api = Api(ApiKey::FetchSnapshot, 0);

pub(crate) fn encode<R: Encodable>(api: Api, correlation_id: i32, request: &R) -> Bytes {
    let Api(key, version) = api;
    let mut header = RequestHeader::default();
    header.request_api_key = key as i16;
    header.request_api_version = version;
    header.correlation_id = correlation_id;
    header.client_id = Some(StrBytes::from_static_str("kraft-sim"));
    let mut frame = BytesMut::new();
    frame.put_i32(0);
    header.encode(&mut frame, key.request_header_version(version)).expect("a header encodes");
    request.encode(&mut frame, version).expect("a request of ours encodes");
    let length = (frame.len() - 4) as i32;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    frame.freeze()
}

/// The next whole frame without its length.
pub(crate) fn next_frame(received: &mut BytesMut) -> Option<Bytes> {
    let length = i32::from_be_bytes(received.get(..4)?.try_into().ok()?) as usize;
    if received.len() < 4 + length {
        return None;
    }
    received.advance(4);
    Some(received.split_to(length).freeze())
}

/// Correlation id and body of an answer.
pub(crate) fn decode<R: Decodable>(api: Api, frame: &Bytes) -> Option<(i32, R)> {
    let Api(key, version) = api;
    let mut rest = frame.clone();
    let header = ResponseHeader::decode(&mut rest, key.response_header_version(version)).ok()?;
    let body = R::decode(&mut rest, version).ok()?;
    (!rest.has_remaining()).then_some((header.correlation_id, body))
}

/// Kafka: `ConfigResource.Type`.
const TOPIC_RESOURCE: i8 = 2;

fn topic_name() -> km::TopicName {
    km::TopicName(StrBytes::from_static_str(super::TOPIC))
}

pub(crate) fn produce(acks: i16, timeout_ms: i32, records: Bytes) -> km::ProduceRequest {
    let mut partition = km::produce_request::PartitionProduceData::default();
    partition.records = Some(records);
    let mut topic = km::produce_request::TopicProduceData::default();
    topic.name = topic_name();
    topic.partition_data.push(partition);
    let mut request = km::ProduceRequest::default();
    request.transactional_id = None;
    request.acks = acks;
    request.timeout_ms = timeout_ms;
    request.topic_data.push(topic);
    request
}

pub(crate) fn fetch(offset: i64, max_wait_ms: i32, max_bytes: i32) -> km::FetchRequest {
    let mut partition = km::fetch_request::FetchPartition::default();
    partition.fetch_offset = offset;
    partition.current_leader_epoch = -1;
    partition.partition_max_bytes = max_bytes;
    let mut topic = km::fetch_request::FetchTopic::default();
    topic.topic = topic_name();
    topic.partitions.push(partition);
    let mut request = km::FetchRequest::default();
    request.replica_id = (-1).into();
    request.max_wait_ms = max_wait_ms;
    request.min_bytes = 1;
    request.max_bytes = max_bytes;
    request.session_epoch = -1;
    request.topics.push(topic);
    request
}

/// -1: the latest offset.
pub(crate) fn list_offsets(timestamp: i64) -> km::ListOffsetsRequest {
    let mut partition = km::list_offsets_request::ListOffsetsPartition::default();
    partition.timestamp = timestamp;
    partition.current_leader_epoch = -1;
    let mut topic = km::list_offsets_request::ListOffsetsTopic::default();
    topic.name = topic_name();
    topic.partitions.push(partition);
    let mut request = km::ListOffsetsRequest::default();
    request.replica_id = (-1).into();
    request.topics.push(topic);
    request
}

pub(crate) fn describe_quorum() -> km::DescribeQuorumRequest {
    let mut topic = km::describe_quorum_request::TopicData::default();
    topic.topic_name = topic_name();
    topic.partitions.push(km::describe_quorum_request::PartitionData::default());
    let mut request = km::DescribeQuorumRequest::default();
    request.topics.push(topic);
    request
}

pub(crate) fn init_producer_id() -> km::InitProducerIdRequest {
    let mut request = km::InitProducerIdRequest::default();
    request.transactional_id = None;
    request.producer_id = (-1).into();
    request.producer_epoch = -1;
    request
}

/// The topic's: this key to this value, or back to its default.
pub(super) fn alter_configs(key: &str, value: Option<&str>) -> km::IncrementalAlterConfigsRequest {
    use km::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let mut config = AlterableConfig::default();
    config.name = StrBytes::from_string(key.to_string());
    config.config_operation = i8::from(value.is_none());
    config.value = value.map(|value| StrBytes::from_string(value.to_string()));
    let mut topic = AlterConfigsResource::default();
    topic.resource_type = TOPIC_RESOURCE;
    topic.resource_name = topic_name().0;
    topic.configs.push(config);
    let mut request = km::IncrementalAlterConfigsRequest::default();
    request.resources.push(topic);
    request
}

pub(super) fn describe_configs(key: &str) -> km::DescribeConfigsRequest {
    let mut topic = km::describe_configs_request::DescribeConfigsResource::default();
    topic.resource_type = TOPIC_RESOURCE;
    topic.resource_name = topic_name().0;
    topic.configuration_keys = Some(vec![StrBytes::from_string(key.to_string())]);
    let mut request = km::DescribeConfigsRequest::default();
    request.resources.push(topic);
    request
}

pub(crate) fn metadata() -> km::MetadataRequest {
    let mut request = km::MetadataRequest::default();
    request.topics = None;
    request
}

/// Of this topic, named so many times.
pub(crate) fn metadata_of(times: usize) -> km::MetadataRequest {
    let mut topic = km::metadata_request::MetadataRequestTopic::default();
    topic.name = Some(topic_name());
    let mut request = km::MetadataRequest::default();
    request.topics = Some(vec![topic; times]);
    request
}

/// Votes for `candidate`, whose log is said to be longer than any.
pub(crate) fn vote(candidate: i32, epoch: i32, is_pre_vote: bool) -> km::VoteRequest {
    let mut partition = km::vote_request::PartitionData::default();
    partition.replica_id = candidate.into();
    partition.replica_epoch = epoch;
    partition.last_offset = i64::MAX;
    partition.last_offset_epoch = epoch.saturating_sub(1).max(0);
    partition.pre_vote = is_pre_vote;
    let mut topic = km::vote_request::TopicData::default();
    topic.topic_name = topic_name();
    topic.partitions.push(partition);
    let mut request = km::VoteRequest::default();
    request.cluster_id = None;
    request.voter_id = (-1).into();
    request.topics.push(topic);
    request
}

pub(crate) fn begin_quorum_epoch(leader: i32, epoch: i32) -> km::BeginQuorumEpochRequest {
    let mut partition = km::begin_quorum_epoch_request::PartitionData::default();
    partition.leader_id = leader.into();
    partition.leader_epoch = epoch;
    let mut topic = km::begin_quorum_epoch_request::TopicData::default();
    topic.topic_name = topic_name();
    topic.partitions.push(partition);
    let mut request = km::BeginQuorumEpochRequest::default();
    request.cluster_id = None;
    request.voter_id = (-1).into();
    request.topics.push(topic);
    request
}

/// The leader is said to have resigned, and the others to stand in this order.
pub(crate) fn end_quorum_epoch(leader: i32, epoch: i32, voters: &[i32]) -> km::EndQuorumEpochRequest {
    let mut partition = km::end_quorum_epoch_request::PartitionData::default();
    partition.leader_id = leader.into();
    partition.leader_epoch = epoch;
    for voter in voters {
        let mut candidate = km::end_quorum_epoch_request::ReplicaInfo::default();
        candidate.candidate_id = (*voter).into();
        partition.preferred_candidates.push(candidate);
    }
    let mut topic = km::end_quorum_epoch_request::TopicData::default();
    topic.topic_name = topic_name();
    topic.partitions.push(partition);
    let mut request = km::EndQuorumEpochRequest::default();
    request.cluster_id = None;
    request.topics.push(topic);
    request
}

pub(super) fn fetch_snapshot(replica: i32, epoch: i32) -> km::FetchSnapshotRequest {
    let mut partition = km::fetch_snapshot_request::PartitionSnapshot::default();
    partition.current_leader_epoch = epoch;
    partition.snapshot_id.end_offset = 1;
    partition.snapshot_id.epoch = epoch;
    let mut topic = km::fetch_snapshot_request::TopicSnapshot::default();
    topic.name = topic_name();
    topic.partitions.push(partition);
    let mut request = km::FetchSnapshotRequest::default();
    request.cluster_id = None;
    request.replica_id = replica.into();
    request.topics.push(topic);
    request
}

pub(crate) fn api_versions() -> km::ApiVersionsRequest {
    let mut request = km::ApiVersionsRequest::default();
    request.client_software_name = StrBytes::from_static_str("kraft-sim");
    request.client_software_version = StrBytes::from_static_str("1");
    request
}
