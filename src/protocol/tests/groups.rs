//! Requests to a group's coordinator with something in each of their arrays.

use super::*;

pub(super) fn full_request(api_key: i16, version: i16) -> Bytes {
    let group = || m::GroupId::from(s("g"));
    match api_key {
        key::OFFSET_COMMIT => offset_commit(version),
        key::OFFSET_FETCH => offset_fetch(version),
        key::JOIN_GROUP => join_group(version),
        key::HEARTBEAT => {
            let request = m::HeartbeatRequest::default().with_group_id(group()).with_member_id(s("m"));
            let instance = (version >= 3).then(|| s("i"));
            frame_of(api_key, version, &request.with_group_instance_id(instance))
        }
        key::LEAVE_GROUP => leave_group(version),
        key::SYNC_GROUP => sync_group(version),
        key::DESCRIBE_GROUPS => frame_of(
            api_key,
            version,
            &m::DescribeGroupsRequest::default().with_groups(vec![group(), group()]),
        ),
        key::LIST_GROUPS => {
            let filter = |from| if version >= from { vec![s("a"), s("b")] } else { Vec::new() };
            let request = m::ListGroupsRequest::default().with_states_filter(filter(4));
            frame_of(api_key, version, &request.with_types_filter(filter(5)))
        }
        key::DELETE_GROUPS => {
            frame_of(api_key, version, &m::DeleteGroupsRequest::default().with_groups_names(vec![group()]))
        }
        key::OFFSET_DELETE => offset_delete(version),
        key::CONSUMER_GROUP_HEARTBEAT => consumer_group_heartbeat(version),
        key::CONSUMER_GROUP_DESCRIBE => {
            let request = m::ConsumerGroupDescribeRequest::default().with_group_ids(vec![group()]);
            frame_of(api_key, version, &request)
        }
        other => panic!("no request for {other}"),
    }
}

fn offset_commit(version: i16) -> Bytes {
    use m::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
    let partition = OffsetCommitRequestPartition::default().with_committed_offset(3);
    let other = partition.clone().with_committed_metadata(Some(s("x"))).with_partition_index(1);
    let topic = OffsetCommitRequestTopic::default()
        .with_name(s("topic").into())
        .with_partitions(vec![partition, other]);
    let request = m::OffsetCommitRequest::default().with_group_id(s("g").into()).with_topics(vec![topic]);
    frame_of(key::OFFSET_COMMIT, version, &request)
}

fn offset_fetch(version: i16) -> Bytes {
    use m::offset_fetch_request::{
        OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
    };
    let request = m::OffsetFetchRequest::default();
    if version < 8 {
        let topic = OffsetFetchRequestTopic::default()
            .with_name(s("topic").into())
            .with_partition_indexes(vec![0, 1]);
        let request = request.with_group_id(s("g").into()).with_topics(Some(vec![topic]));
        return frame_of(key::OFFSET_FETCH, version, &request);
    }
    let topic =
        OffsetFetchRequestTopics::default().with_name(s("topic").into()).with_partition_indexes(vec![0, 1]);
    let one = OffsetFetchRequestGroup::default().with_group_id(s("g").into()).with_topics(Some(vec![topic]));
    let all = OffsetFetchRequestGroup::default().with_group_id(s("h").into()).with_topics(None);
    let all = if version >= 9 { all.with_member_id(Some(s("m"))).with_member_epoch(4) } else { all };
    frame_of(key::OFFSET_FETCH, version, &request.with_groups(vec![one, all]))
}

fn join_group(version: i16) -> Bytes {
    use m::join_group_request::JoinGroupRequestProtocol;
    let protocol =
        JoinGroupRequestProtocol::default().with_name(s("range")).with_metadata(vec![1, 2, 3].into());
    let request = m::JoinGroupRequest::default().with_group_id(s("g").into()).with_protocols(vec![protocol]);
    frame_of(key::JOIN_GROUP, version, &request)
}

fn leave_group(version: i16) -> Bytes {
    use m::leave_group_request::MemberIdentity;
    let request = m::LeaveGroupRequest::default().with_group_id(s("g").into());
    if version < 3 {
        return frame_of(key::LEAVE_GROUP, version, &request.with_member_id(s("m")));
    }
    let member = MemberIdentity::default().with_member_id(s("m")).with_group_instance_id(Some(s("i")));
    let member = if version >= 5 { member.with_reason(Some(s("why"))) } else { member };
    frame_of(key::LEAVE_GROUP, version, &request.with_members(vec![member]))
}

fn sync_group(version: i16) -> Bytes {
    use m::sync_group_request::SyncGroupRequestAssignment;
    let assignment =
        SyncGroupRequestAssignment::default().with_member_id(s("m")).with_assignment(vec![1, 2].into());
    let mut request =
        m::SyncGroupRequest::default().with_group_id(s("g").into()).with_assignments(vec![assignment]);
    if version >= 3 {
        request.group_instance_id = Some(s("i"));
    }
    if version >= 5 {
        (request.protocol_type, request.protocol_name) = (Some(s("consumer")), Some(s("range")));
    }
    frame_of(key::SYNC_GROUP, version, &request)
}

fn offset_delete(version: i16) -> Bytes {
    use m::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
    let partitions = vec![OffsetDeleteRequestPartition::default().with_partition_index(0)];
    let topic = OffsetDeleteRequestTopic::default().with_name(s("topic").into()).with_partitions(partitions);
    let request = m::OffsetDeleteRequest::default().with_group_id(s("g").into()).with_topics(vec![topic]);
    frame_of(key::OFFSET_DELETE, version, &request)
}

fn consumer_group_heartbeat(version: i16) -> Bytes {
    use m::consumer_group_heartbeat_request::TopicPartitions;
    let owned = TopicPartitions::default().with_topic_id(wire_uuid(Uuid(1))).with_partitions(vec![0]);
    let mut request = m::ConsumerGroupHeartbeatRequest::default()
        .with_group_id(s("g").into())
        .with_member_id(s("m"))
        .with_subscribed_topic_names(Some(vec![s("topic").into()]))
        .with_topic_partitions(Some(vec![owned]));
    if version >= 1 {
        request.subscribed_topic_regex = Some(s("t.*"));
    }
    frame_of(key::CONSUMER_GROUP_HEARTBEAT, version, &request)
}
