//! Requests: from a frame to a struct.

use super::api_versions::{codec_version, key, served};
use super::check::{Decoder, checked_request};
use super::codec::decode;
use super::fetch::{FetchRequest, decode_fetch_request};
use super::frame::{FrameError, RequestHeader};
use super::groups::{GroupRequest, decode_group_request};
use super::messages as m;
use super::produce::{ProduceRequest, decode_produce_request};
use super::schema;
use super::wire::Cursor;
use bytes::Bytes;

/// A decoded request. Every count and length in it was checked against the frame before anything was allocated.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "Kafka's names of the messages")]
pub enum Request {
    Produce(ProduceRequest),
    Fetch(FetchRequest),
    ListOffsets(m::ListOffsetsRequest),
    Metadata(m::MetadataRequest),
    FindCoordinator(m::FindCoordinatorRequest),
    /// To a group's coordinator.
    Group(GroupRequest),
    CreateTopics(m::CreateTopicsRequest),
    DeleteRecords(m::DeleteRecordsRequest),
    InitProducerId(m::InitProducerIdRequest),
    OffsetForLeaderEpoch(m::OffsetForLeaderEpochRequest),
    ApiVersions(m::ApiVersionsRequest),
    /// ApiVersions of a version that we do not have: answered with error 35 and a version 0 body (KIP-511).
    ApiVersionsUnsupported,
    DescribeConfigs(m::DescribeConfigsRequest),
    AlterConfigs(m::AlterConfigsRequest),
    IncrementalAlterConfigs(m::IncrementalAlterConfigsRequest),
    DescribeLogDirs(m::DescribeLogDirsRequest),
    DescribeCluster(m::DescribeClusterRequest),
    DescribeQuorum(m::DescribeQuorumRequest),
    DescribeTopicPartitions(m::DescribeTopicPartitionsRequest),
    Vote(m::VoteRequest),
    BeginQuorumEpoch(m::BeginQuorumEpochRequest),
    EndQuorumEpoch(m::EndQuorumEpochRequest),
    FetchSnapshot(m::FetchSnapshotRequest),
    UpdateRaftVoter(m::UpdateRaftVoterRequest),
}

/// Decode a request frame (without its 4-byte length). Unknown key or version: FrameError, Kafka closes the connection
/// too; only ApiVersions gets an answer whatever its version. Bytes behind the message are passed over, as Kafka does:
/// librdkafka sends three too many with Metadata for all topics. Records are slices of the frame, not copies.
pub fn decode_request(frame: Bytes) -> Result<(RequestHeader, Request), FrameError> {
    decode_request_sized(frame).map(|(header, request, _)| (header, request))
}

/// The same, with the bytes that the request occupies beside its frame.
pub(crate) fn decode_request_sized(frame: Bytes) -> Result<(RequestHeader, Request, usize), FrameError> {
    let mut cursor = Cursor(&frame);
    let mut header = RequestHeader::decode_start(&mut cursor)?;
    let (api_key, version) = (header.api_key, header.api_version);
    let Some((message, (min, max))) = schema::request(api_key).zip(served(api_key)) else {
        return Err(FrameError(format!("a request has the api key {api_key}, which is not served here")));
    };
    if !(min..=max).contains(&version) {
        if api_key == key::API_VERSIONS {
            return Ok((header, Request::ApiVersionsUnsupported, 0));
        }
        let name = message.name;
        return Err(FrameError(format!("{name} of version {version}: only {min} to {max} are served here")));
    }
    header.decode_rest(&mut cursor, message.is_flexible(version))?;
    let body = frame.slice(frame.len() - cursor.0.len()..);
    let (body, decoded_bytes) = checked_request(message, version, body, frame.len(), decoder_of(api_key))?;
    let request = decode_body(&header, body)?;
    Ok((header, request, decoded_bytes))
}

fn decoder_of(api_key: i16) -> Decoder {
    if matches!(api_key, key::PRODUCE | key::FETCH) { Decoder::Own } else { Decoder::Crate }
}

fn decode_body(header: &RequestHeader, body: Bytes) -> Result<Request, FrameError> {
    let version = codec_version(header.api_key, header.api_version);
    match header.api_key {
        key::PRODUCE => decode_produce_request(&body, version).map(Request::Produce),
        key::FETCH => decode_fetch_request(&body, version).map(Request::Fetch),
        key::LIST_OFFSETS => decode(body, version).map(Request::ListOffsets),
        key::METADATA => decode(body, version).map(Request::Metadata),
        key::FIND_COORDINATOR => decode(body, version).map(Request::FindCoordinator),
        key::API_VERSIONS => decode(body, version).map(Request::ApiVersions),
        key::CREATE_TOPICS => decode(body, version).map(Request::CreateTopics),
        key::DELETE_RECORDS => decode(body, version).map(Request::DeleteRecords),
        key::INIT_PRODUCER_ID => decode(body, version).map(Request::InitProducerId),
        key::OFFSET_FOR_LEADER_EPOCH => decode(body, version).map(Request::OffsetForLeaderEpoch),
        key::DESCRIBE_CONFIGS => decode(body, version).map(Request::DescribeConfigs),
        key::ALTER_CONFIGS => decode(body, version).map(Request::AlterConfigs),
        key::INCREMENTAL_ALTER_CONFIGS => decode(body, version).map(Request::IncrementalAlterConfigs),
        key::DESCRIBE_LOG_DIRS => decode(body, version).map(Request::DescribeLogDirs),
        key::VOTE => decode(body, version).map(Request::Vote),
        key::BEGIN_QUORUM_EPOCH => decode(body, version).map(Request::BeginQuorumEpoch),
        key::END_QUORUM_EPOCH => decode(body, version).map(Request::EndQuorumEpoch),
        key::DESCRIBE_QUORUM => decode(body, version).map(Request::DescribeQuorum),
        key::DESCRIBE_CLUSTER => decode(body, version).map(Request::DescribeCluster),
        key::DESCRIBE_TOPIC_PARTITIONS => decode(body, version).map(Request::DescribeTopicPartitions),
        key::FETCH_SNAPSHOT => decode(body, version).map(Request::FetchSnapshot),
        key::UPDATE_RAFT_VOTER => decode(body, version).map(Request::UpdateRaftVoter),
        other => decode_group_request(other, body, version).map(Request::Group),
    }
}
