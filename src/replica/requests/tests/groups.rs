//! A coordinator without groups.

use super::*;
use crate::protocol::{GroupRequest, GroupResponse};

/// The answer to a request of this key, checked to be sayable in this version.
fn answer(v: &View, api_key: i16, version: i16, request: GroupRequest) -> GroupResponse {
    let response = answer_group_request(v, &request, version);
    check_encodes(api_key, version, &response);
    body!(Group, response)
}

macro_rules! answer_of {
    ($variant:ident, $v:expr, $key:expr, $version:expr, $request:expr) => {
        match answer($v, $key, $version, GroupRequest::$variant($request)) {
            GroupResponse::$variant(body) => body,
            other => panic!("{other:?}"),
        }
    };
}

fn group(name: &str) -> m::GroupId {
    text(name).into()
}

#[test]
fn nothing_was_committed_by_any_group() {
    use m::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    with_view(|v| {
        let topic =
            OffsetFetchRequestTopic::default().with_name(topic_name(OURS)).with_partition_indexes(vec![0, 7]);
        let one = m::OffsetFetchRequest::default().with_group_id(group("g")).with_topics(Some(vec![topic]));
        for version in 1..=7 {
            let body = answer_of!(OffsetFetch, &v, 9, version, one.clone());
            let told: Vec<_> = body.topics[0]
                .partitions
                .iter()
                .map(|p| (p.partition_index, p.committed_offset, p.committed_leader_epoch, p.error_code))
                .collect();
            assert_eq!(told, [(0, -1, -1, 0), (7, -1, -1, 0)]);
            assert_eq!((body.error_code, body.topics[0].name.as_str()), (0, OURS));
            let all = answer_of!(OffsetFetch, &v, 9, version, one.clone().with_topics(None));
            assert_eq!((all.topics.len(), all.error_code), (0, 0));
        }
        let topic =
            OffsetFetchRequestTopics::default().with_name(topic_name(OURS)).with_partition_indexes(vec![0]);
        let asked = |name: &str| OffsetFetchRequestGroup::default().with_group_id(group(name));
        let groups = vec![asked("a").with_topics(Some(vec![topic])), asked("b").with_topics(None)];
        for version in 8..=9 {
            let request = m::OffsetFetchRequest::default().with_groups(groups.clone());
            let body = answer_of!(OffsetFetch, &v, 9, version, request);
            let names: Vec<_> = body.groups.iter().map(|g| (g.group_id.as_str(), g.topics.len())).collect();
            assert_eq!(names, [("a", 1), ("b", 0)]);
            let told = &body.groups[0].topics[0].partitions[0];
            assert_eq!((told.committed_offset, told.error_code, body.groups[0].error_code), (-1, 0, 0));
        }
    });
}

#[test]
fn nobody_joins_or_commits() {
    use m::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    with_view(|v| {
        let refused = ErrorCode::UNSUPPORTED_VERSION.0;
        let request = m::JoinGroupRequest::default().with_group_id(group("g")).with_member_id(text("me"));
        for version in 0..=1 {
            let body = answer_of!(Join, &v, 11, version, request.clone());
            assert_eq!((body.error_code, body.generation_id, body.member_id.as_str()), (refused, -1, "me"));
        }
        let partitions = vec![OffsetCommitRequestPartition::default().with_partition_index(3)];
        let topic =
            OffsetCommitRequestTopic::default().with_name(topic_name(OURS)).with_partitions(partitions);
        for version in 2..=9 {
            let request = m::OffsetCommitRequest::default().with_topics(vec![topic.clone()]);
            let told = &answer_of!(OffsetCommit, &v, 8, version, request).topics[0].partitions[0];
            assert_eq!((told.partition_index, told.error_code), (3, refused));
        }
        for version in 0..=1 {
            let request = m::ConsumerGroupHeartbeatRequest::default().with_group_id(group("g"));
            let body = answer_of!(ConsumerHeartbeat, &v, 68, version, request);
            assert_eq!(body.error_code, refused);
            assert!(body.error_message.is_some_and(|why| why.contains("no consumer groups")));
        }
    });
}

#[test]
fn a_member_of_no_group_is_unknown() {
    use m::leave_group_request::MemberIdentity;
    with_view(|v| {
        let unknown = ErrorCode::UNKNOWN_MEMBER_ID.0;
        for version in 0..=4 {
            assert_eq!(answer_of!(Heartbeat, &v, 12, version, Default::default()).error_code, unknown);
        }
        for version in 0..=5 {
            assert_eq!(answer_of!(Sync, &v, 14, version, Default::default()).error_code, unknown);
            let members = vec![MemberIdentity::default().with_member_id(text("m"))];
            let members = if version >= 3 { members } else { Vec::new() };
            let body =
                answer_of!(Leave, &v, 13, version, m::LeaveGroupRequest::default().with_members(members));
            assert_eq!(body.error_code, if version < 3 { unknown } else { 0 });
            let told: Vec<_> = body.members.iter().map(|m| (m.member_id.as_str(), m.error_code)).collect();
            assert_eq!(told, if version < 3 { vec![] } else { vec![("m", unknown)] });
        }
    });
}

#[test]
fn there_is_no_group_to_be_listed_described_or_deleted() {
    with_view(|v| {
        let not_found = ErrorCode::GROUP_ID_NOT_FOUND.0;
        for version in 0..=5 {
            let body = answer_of!(List, &v, 16, version, Default::default());
            assert_eq!((body.error_code, body.groups.len()), (0, 0));
        }
        for version in 0..=6 {
            let request = m::DescribeGroupsRequest::default().with_groups(vec![group("g")]);
            let told = answer_of!(Describe, &v, 15, version, request).groups.remove(0);
            assert_eq!(told.error_code, if version < 6 { 0 } else { not_found });
            assert_eq!((told.group_state.as_str(), told.group_id.as_str()), ("Dead", "g"));
        }
        for version in 0..=2 {
            let request = m::DeleteGroupsRequest::default().with_groups_names(vec![group("g")]);
            let told = answer_of!(Delete, &v, 42, version, request).results.remove(0);
            assert_eq!((told.group_id.as_str(), told.error_code), ("g", not_found));
        }
        assert_eq!(answer_of!(OffsetDelete, &v, 47, 0, Default::default()).error_code, not_found);
        for version in 0..=1 {
            let request = m::ConsumerGroupDescribeRequest::default().with_group_ids(vec![group("g")]);
            let told = answer_of!(ConsumerDescribe, &v, 69, version, request).groups.remove(0);
            assert_eq!(told.error_code, not_found);
        }
    });
}
