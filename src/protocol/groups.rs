//! What is asked of a group's coordinator: requests and answers of one kind, all by the crate's codec.

use super::api_versions::key;
use super::codec::{decode, encode};
use super::frame::{EncodedFrame, FrameError, RequestHeader};
use super::messages as m;
use bytes::Bytes;

/// A request of Kafka's consumer groups, one variant for each.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "Kafka's names of the messages")]
pub enum GroupRequest {
    OffsetCommit(m::OffsetCommitRequest),
    OffsetFetch(m::OffsetFetchRequest),
    Join(m::JoinGroupRequest),
    Heartbeat(m::HeartbeatRequest),
    Leave(m::LeaveGroupRequest),
    Sync(m::SyncGroupRequest),
    Describe(m::DescribeGroupsRequest),
    List(m::ListGroupsRequest),
    Delete(m::DeleteGroupsRequest),
    OffsetDelete(m::OffsetDeleteRequest),
    ConsumerHeartbeat(m::ConsumerGroupHeartbeatRequest),
    ConsumerDescribe(m::ConsumerGroupDescribeRequest),
}

/// The answer to the [`GroupRequest`] of the same name.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "Kafka's names of the messages")]
pub enum GroupResponse {
    OffsetCommit(m::OffsetCommitResponse),
    OffsetFetch(m::OffsetFetchResponse),
    Join(m::JoinGroupResponse),
    Heartbeat(m::HeartbeatResponse),
    Leave(m::LeaveGroupResponse),
    Sync(m::SyncGroupResponse),
    Describe(m::DescribeGroupsResponse),
    List(m::ListGroupsResponse),
    Delete(m::DeleteGroupsResponse),
    OffsetDelete(m::OffsetDeleteResponse),
    ConsumerHeartbeat(m::ConsumerGroupHeartbeatResponse),
    ConsumerDescribe(m::ConsumerGroupDescribeResponse),
}

/// Decode a checked body of one of these requests.
pub(super) fn decode_group_request(
    api_key: i16,
    body: Bytes,
    version: i16,
) -> Result<GroupRequest, FrameError> {
    use GroupRequest as G;
    match api_key {
        key::OFFSET_COMMIT => decode(body, version).map(G::OffsetCommit),
        key::OFFSET_FETCH => decode(body, version).map(G::OffsetFetch),
        key::JOIN_GROUP => decode(body, version).map(G::Join),
        key::HEARTBEAT => decode(body, version).map(G::Heartbeat),
        key::LEAVE_GROUP => decode(body, version).map(G::Leave),
        key::SYNC_GROUP => decode(body, version).map(G::Sync),
        key::DESCRIBE_GROUPS => decode(body, version).map(G::Describe),
        key::LIST_GROUPS => decode(body, version).map(G::List),
        key::DELETE_GROUPS => decode(body, version).map(G::Delete),
        key::OFFSET_DELETE => decode(body, version).map(G::OffsetDelete),
        key::CONSUMER_GROUP_HEARTBEAT => decode(body, version).map(G::ConsumerHeartbeat),
        key::CONSUMER_GROUP_DESCRIBE => decode(body, version).map(G::ConsumerDescribe),
        unknown => Err(FrameError(format!("the api key {unknown} has no decoder"))),
    }
}

pub(super) fn encode_group_response(header: &RequestHeader, response: &GroupResponse) -> EncodedFrame {
    use GroupResponse as G;
    match response {
        G::OffsetCommit(response) => encode(header, response),
        G::OffsetFetch(response) => encode(header, response),
        G::Join(response) => encode(header, response),
        G::Heartbeat(response) => encode(header, response),
        G::Leave(response) => encode(header, response),
        G::Sync(response) => encode(header, response),
        G::Describe(response) => encode(header, response),
        G::List(response) => encode(header, response),
        G::Delete(response) => encode(header, response),
        G::OffsetDelete(response) => encode(header, response),
        G::ConsumerHeartbeat(response) => encode(header, response),
        G::ConsumerDescribe(response) => encode(header, response),
    }
}
