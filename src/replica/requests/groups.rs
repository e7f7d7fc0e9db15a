//! What a group's coordinator is asked. There are no groups here, so what asks about them hears that there are none (the
//! list is empty, nothing was committed, this one does not exist), and what would make one is refused, at once and with an
//! error that is final to every client.

use super::{View, text};
use crate::protocol::{GroupRequest, GroupResponse, Response, messages as m};
use crate::types::*;
use m::offset_fetch_response as fetched;

/// Final to every client, and most show it in Kafka's words, "The version of API is not supported".
const REFUSED: ErrorCode = ErrorCode::UNSUPPORTED_VERSION;
const WHY_REFUSED: &str =
    "There are no consumer groups here. Assign partitions instead, and keep offsets yourself.";
/// Version of DescribeGroups from which a group that is not there is an error (KIP-1043).
const DESCRIBE_NOT_FOUND: i16 = 6;
/// Kafka's state of a group that is not there, in versions before.
const DEAD: &str = "Dead";
/// Version of LeaveGroup from which several members leave at once (KIP-345), each with an error of its own.
const LEAVING_MEMBERS: i16 = 3;

pub(crate) fn answer_group_request(_v: &View, request: &GroupRequest, version: i16) -> Response {
    use GroupRequest as Q;
    use GroupResponse as A;
    Response::Group(match request {
        Q::OffsetCommit(request) => A::OffsetCommit(offset_commit(request)),
        Q::OffsetFetch(request) => A::OffsetFetch(offset_fetch(request)),
        Q::Join(request) => A::Join(join(request)),
        // Kafka says this of a group that it does not know: the member joins again, which is refused.
        Q::Heartbeat(_) => {
            A::Heartbeat(m::HeartbeatResponse::default().with_error_code(ErrorCode::UNKNOWN_MEMBER_ID.0))
        }
        Q::Leave(request) => A::Leave(leave(request, version)),
        Q::Sync(_) => {
            A::Sync(m::SyncGroupResponse::default().with_error_code(ErrorCode::UNKNOWN_MEMBER_ID.0))
        }
        Q::Describe(request) => A::Describe(describe(request, version)),
        Q::List(_) => A::List(m::ListGroupsResponse::default()),
        Q::Delete(request) => A::Delete(delete(request)),
        Q::OffsetDelete(_) => A::OffsetDelete(
            m::OffsetDeleteResponse::default().with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0),
        ),
        Q::ConsumerHeartbeat(_) => A::ConsumerHeartbeat(
            m::ConsumerGroupHeartbeatResponse::default()
                .with_error_code(REFUSED.0)
                .with_error_message(Some(text(WHY_REFUSED))),
        ),
        Q::ConsumerDescribe(request) => A::ConsumerDescribe(consumer_describe(request)),
    })
}

fn offset_commit(request: &m::OffsetCommitRequest) -> m::OffsetCommitResponse {
    use m::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|partition| {
            OffsetCommitResponsePartition::default()
                .with_partition_index(partition.partition_index)
                .with_error_code(REFUSED.0)
        });
        let answer = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        answer.with_partitions(partitions.collect())
    });
    m::OffsetCommitResponse::default().with_topics(topics.collect())
}

/// Nothing was committed: offset -1 without an error, upon which a consumer goes by `auto.offset.reset`. Who asks for all
/// that a group has committed (no list of topics) gets none.
fn offset_fetch(request: &m::OffsetFetchRequest) -> m::OffsetFetchResponse {
    let topics = request.topics.iter().flatten().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            fetched::OffsetFetchResponsePartition::default()
                .with_partition_index(*index)
                .with_committed_offset(-1)
                .with_metadata(Some(text("")))
        });
        let answer = fetched::OffsetFetchResponseTopic::default().with_name(topic.name.clone());
        answer.with_partitions(partitions.collect())
    });
    let groups = request.groups.iter().map(|group| {
        let topics = group.topics.iter().flatten().map(|topic| {
            let partitions = topic.partition_indexes.iter().map(|index| {
                fetched::OffsetFetchResponsePartitions::default()
                    .with_partition_index(*index)
                    .with_committed_offset(-1)
                    .with_metadata(Some(text("")))
            });
            let answer = fetched::OffsetFetchResponseTopics::default().with_name(topic.name.clone());
            answer.with_partitions(partitions.collect())
        });
        let answer = fetched::OffsetFetchResponseGroup::default().with_group_id(group.group_id.clone());
        answer.with_topics(topics.collect())
    });
    m::OffsetFetchResponse::default().with_topics(topics.collect()).with_groups(groups.collect())
}

fn join(request: &m::JoinGroupRequest) -> m::JoinGroupResponse {
    m::JoinGroupResponse::default()
        .with_error_code(REFUSED.0)
        .with_generation_id(-1)
        .with_protocol_name(Some(text("")))
        .with_member_id(request.member_id.clone())
}

fn leave(request: &m::LeaveGroupRequest, version: i16) -> m::LeaveGroupResponse {
    let unknown = ErrorCode::UNKNOWN_MEMBER_ID.0;
    if version < LEAVING_MEMBERS {
        return m::LeaveGroupResponse::default().with_error_code(unknown);
    }
    let members = request.members.iter().map(|member| {
        m::leave_group_response::MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(unknown)
    });
    m::LeaveGroupResponse::default().with_members(members.collect())
}

fn not_found(group: &m::GroupId) -> m::StrBytes {
    text(&format!("Group {} not found.", group.as_str()))
}

fn describe(request: &m::DescribeGroupsRequest, version: i16) -> m::DescribeGroupsResponse {
    let groups = request.groups.iter().map(|group| {
        let answer = m::describe_groups_response::DescribedGroup::default()
            .with_group_id(group.clone())
            .with_group_state(text(DEAD));
        if version < DESCRIBE_NOT_FOUND {
            return answer;
        }
        answer.with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0).with_error_message(Some(not_found(group)))
    });
    m::DescribeGroupsResponse::default().with_groups(groups.collect())
}

fn delete(request: &m::DeleteGroupsRequest) -> m::DeleteGroupsResponse {
    let results = request.groups_names.iter().map(|group| {
        m::delete_groups_response::DeletableGroupResult::default()
            .with_group_id(group.clone())
            .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
    });
    m::DeleteGroupsResponse::default().with_results(results.collect())
}

fn consumer_describe(request: &m::ConsumerGroupDescribeRequest) -> m::ConsumerGroupDescribeResponse {
    let groups = request.group_ids.iter().map(|group| {
        m::consumer_group_describe_response::DescribedGroup::default()
            .with_group_id(group.clone())
            .with_error_code(ErrorCode::GROUP_ID_NOT_FOUND.0)
            .with_error_message(Some(not_found(group)))
    });
    m::ConsumerGroupDescribeResponse::default().with_groups(groups.collect())
}
