//! Answers: from a struct to the bytes for the socket.

use super::api_versions::{key, served};
use super::codec::encode;
use super::fetch::{FetchResponse, encode_fetch_response};
use super::fetch_snapshot::{FetchSnapshotResponse, encode_fetch_snapshot_response};
use super::frame::{Chunks, EncodedFrame, RequestHeader};
use super::groups::{GroupResponse, encode_group_response};
use super::messages as m;
use super::produce::{ProduceResponse, encode_produce_response};
use bytes::BytesMut;
use std::borrow::Cow;

/// The answer to the [`Request`](super::Request) of the same name.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "Kafka's names of the messages")]
pub enum Response {
    Produce(ProduceResponse),
    Fetch(FetchResponse),
    ListOffsets(m::ListOffsetsResponse),
    Metadata(m::MetadataResponse),
    FindCoordinator(m::FindCoordinatorResponse),
    Group(GroupResponse),
    CreateTopics(m::CreateTopicsResponse),
    DeleteRecords(m::DeleteRecordsResponse),
    InitProducerId(m::InitProducerIdResponse),
    OffsetForLeaderEpoch(m::OffsetForLeaderEpochResponse),
    ApiVersions(m::ApiVersionsResponse),
    DescribeConfigs(m::DescribeConfigsResponse),
    AlterConfigs(m::AlterConfigsResponse),
    IncrementalAlterConfigs(m::IncrementalAlterConfigsResponse),
    DescribeLogDirs(m::DescribeLogDirsResponse),
    DescribeCluster(m::DescribeClusterResponse),
    DescribeQuorum(m::DescribeQuorumResponse),
    DescribeTopicPartitions(m::DescribeTopicPartitionsResponse),
    Vote(m::VoteResponse),
    BeginQuorumEpoch(m::BeginQuorumEpochResponse),
    EndQuorumEpoch(m::EndQuorumEpochResponse),
    FetchSnapshot(FetchSnapshotResponse),
    UpdateRaftVoter(m::UpdateRaftVoterResponse),
}

/// Encode the answer to a request of this header. An empty frame means that the answer cannot be said in that version
/// (a field is set that it does not have): a fault of the caller's, who closes the connection, as Kafka does.
pub fn encode_response(header: &RequestHeader, response: &Response) -> EncodedFrame {
    match response {
        Response::Fetch(response) => {
            let (mut rest, mut chunks) = (BytesMut::new(), Chunks::new());
            encode_fetch_response(header, response, &mut rest, &mut chunks);
            if !rest.is_empty() {
                chunks.push(rest.freeze());
            }
            EncodedFrame { chunks }
        }
        Response::Produce(response) => {
            let mut frame = BytesMut::new();
            encode_produce_response(header, response, &mut frame);
            EncodedFrame { chunks: Chunks::from_buf([frame.freeze()]) }
        }
        Response::ListOffsets(response) => encode(header, &*list_offsets_in(header.api_version, response)),
        Response::Metadata(response) => encode(header, response),
        Response::FindCoordinator(response) => encode(header, response),
        Response::Group(response) => encode_group_response(header, response),
        Response::CreateTopics(response) => encode(header, response),
        Response::DeleteRecords(response) => encode(header, response),
        Response::InitProducerId(response) => encode(header, response),
        Response::OffsetForLeaderEpoch(response) => encode(header, response),
        Response::ApiVersions(response) => encode(&api_versions_header(header), response),
        Response::DescribeConfigs(response) => encode(header, response),
        Response::AlterConfigs(response) => encode(header, response),
        Response::IncrementalAlterConfigs(response) => encode(header, response),
        Response::DescribeLogDirs(response) => encode(header, response),
        Response::DescribeCluster(response) => encode(header, response),
        Response::DescribeQuorum(response) => {
            encode(header, &*describe_quorum_in(header.api_version, response))
        }
        Response::DescribeTopicPartitions(response) => encode(header, response),
        Response::Vote(response) => encode(header, response),
        Response::BeginQuorumEpoch(response) => encode(header, response),
        Response::EndQuorumEpoch(response) => encode(header, response),
        Response::FetchSnapshot(response) => encode_fetch_snapshot_response(header, response),
        Response::UpdateRaftVoter(response) => encode(header, response),
    }
}

/// An ApiVersions request of a version that we do not have is answered in version 0, which every client can read.
fn api_versions_header(header: &RequestHeader) -> RequestHeader {
    let is_served =
        served(key::API_VERSIONS).is_some_and(|(min, max)| (min..=max).contains(&header.api_version));
    RequestHeader { api_version: if is_served { header.api_version } else { 0 }, ..header.clone() }
}

/// Before version 4 a partition has no leader epoch.
fn list_offsets_in(version: i16, response: &m::ListOffsetsResponse) -> Cow<'_, m::ListOffsetsResponse> {
    let mut response = Cow::Borrowed(response);
    if version < 4 {
        let topics = response.to_mut().topics.iter_mut();
        topics.flat_map(|topic| &mut topic.partitions).for_each(|partition| partition.leader_epoch = -1);
    }
    response
}

/// Before version 2 a replica has no directory id, and nodes are not told.
fn describe_quorum_in(
    version: i16,
    response: &m::DescribeQuorumResponse,
) -> Cow<'_, m::DescribeQuorumResponse> {
    let mut response = Cow::Borrowed(response);
    if version < 2 {
        let owned = response.to_mut();
        owned.nodes.clear();
        for partition in owned.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let replicas = partition.current_voters.iter_mut().chain(&mut partition.observers);
            replicas.for_each(|replica| replica.replica_directory_id = Default::default());
        }
    }
    response
}
