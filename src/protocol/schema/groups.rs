//! Requests to a group's coordinator. What an answer says of each element is counted as memory beside the element: these
//! answers are as long as their requests.

use super::*;

/// Names that each get a line of the answer.
const fn names<Answered>() -> Field {
    Field::new(Kind::StringArray { memory_bytes: size_of::<StrBytes>() + size_of::<Answered>() })
}

/// Partitions that each get a line of the answer.
const fn partitions<Answered>() -> Field {
    Field::new(Kind::FixedArray { element_bytes: 4, memory_bytes: 4 + size_of::<Answered>() })
}

pub(super) static OFFSET_COMMIT_REQUEST: Message = Message {
    name: "OffsetCommit request",
    flexible_from: 8,
    body: Struct::of::<m::OffsetCommitRequest>(&[
        STRING,
        I32,
        STRING,
        NULLABLE_STRING.since(7),
        I64.until(4),
        array(&COMMITTED_TOPIC),
    ]),
};
static COMMITTED_TOPIC: Struct = Struct::of::<(
    m::offset_commit_request::OffsetCommitRequestTopic,
    m::offset_commit_response::OffsetCommitResponseTopic,
)>(&[STRING, array(&COMMITTED_PARTITION)]);
static COMMITTED_PARTITION: Struct = Struct::of::<(
    m::offset_commit_request::OffsetCommitRequestPartition,
    m::offset_commit_response::OffsetCommitResponsePartition,
)>(&[I32, I64, I32.since(6), NULLABLE_STRING]);

pub(super) static OFFSET_FETCH_REQUEST: Message = Message {
    name: "OffsetFetch request",
    flexible_from: 6,
    body: Struct::of::<m::OffsetFetchRequest>(&[
        STRING.until(7),
        array(&FETCHED_OFFSETS_TOPIC).until(7).null_since(2),
        array(&FETCHED_OFFSETS_GROUP).since(8),
        BOOL.since(7),
    ]),
};
/// The same in a group as without one.
static FETCHED_OFFSETS_TOPIC: Struct =
    Struct::of::<(
        m::offset_fetch_request::OffsetFetchRequestTopics,
        m::offset_fetch_response::OffsetFetchResponseTopics,
    )>(&[STRING, partitions::<m::offset_fetch_response::OffsetFetchResponsePartitions>()]);
static FETCHED_OFFSETS_GROUP: Struct =
    Struct::of::<(
        m::offset_fetch_request::OffsetFetchRequestGroup,
        m::offset_fetch_response::OffsetFetchResponseGroup,
    )>(&[STRING, NULLABLE_STRING.since(9), I32.since(9), array(&FETCHED_OFFSETS_TOPIC).null_since(8)]);

pub(super) static JOIN_GROUP_REQUEST: Message = Message {
    name: "JoinGroup request",
    flexible_from: 6,
    body: Struct::of::<m::JoinGroupRequest>(&[
        STRING,
        I32,
        I32.since(1),
        STRING,
        STRING,
        array(&JOIN_GROUP_PROTOCOL),
    ]),
};
static JOIN_GROUP_PROTOCOL: Struct =
    Struct::of::<m::join_group_request::JoinGroupRequestProtocol>(&[STRING, BYTES]);

pub(super) static HEARTBEAT_REQUEST: Message = Message {
    name: "Heartbeat request",
    flexible_from: 4,
    body: Struct::of::<m::HeartbeatRequest>(&[STRING, I32, STRING, NULLABLE_STRING.since(3)]),
};

pub(super) static LEAVE_GROUP_REQUEST: Message = Message {
    name: "LeaveGroup request",
    flexible_from: 4,
    body: Struct::of::<m::LeaveGroupRequest>(&[STRING, STRING.until(2), array(&LEAVING_MEMBER).since(3)]),
};
static LEAVING_MEMBER: Struct =
    Struct::of::<(m::leave_group_request::MemberIdentity, m::leave_group_response::MemberResponse)>(&[
        STRING,
        NULLABLE_STRING,
        NULLABLE_STRING.since(5),
    ]);

pub(super) static SYNC_GROUP_REQUEST: Message = Message {
    name: "SyncGroup request",
    flexible_from: 4,
    body: Struct::of::<m::SyncGroupRequest>(&[
        STRING,
        I32,
        STRING,
        NULLABLE_STRING.since(3),
        NULLABLE_STRING.since(5),
        NULLABLE_STRING.since(5),
        array(&SYNC_GROUP_ASSIGNMENT),
    ]),
};
static SYNC_GROUP_ASSIGNMENT: Struct =
    Struct::of::<m::sync_group_request::SyncGroupRequestAssignment>(&[STRING, BYTES]);

pub(super) static DESCRIBE_GROUPS_REQUEST: Message = Message {
    name: "DescribeGroups request",
    flexible_from: 5,
    body: Struct::of::<m::DescribeGroupsRequest>(&[
        names::<m::describe_groups_response::DescribedGroup>(),
        BOOL.since(3),
    ]),
};

pub(super) static LIST_GROUPS_REQUEST: Message = Message {
    name: "ListGroups request",
    flexible_from: 3,
    body: Struct::of::<m::ListGroupsRequest>(&[STRING_ARRAY.since(4), STRING_ARRAY.since(5)]),
};

pub(super) static DELETE_GROUPS_REQUEST: Message = Message {
    name: "DeleteGroups request",
    flexible_from: 2,
    body: Struct::of::<m::DeleteGroupsRequest>(&[names::<m::delete_groups_response::DeletableGroupResult>()]),
};

pub(super) static OFFSET_DELETE_REQUEST: Message = Message {
    name: "OffsetDelete request",
    flexible_from: i16::MAX,
    body: Struct::of::<m::OffsetDeleteRequest>(&[STRING, array(&OFFSET_DELETE_TOPIC)]),
};
static OFFSET_DELETE_TOPIC: Struct = Struct::of::<m::offset_delete_request::OffsetDeleteRequestTopic>(&[
    STRING,
    array(&OFFSET_DELETE_PARTITION),
]);
static OFFSET_DELETE_PARTITION: Struct =
    Struct::of::<m::offset_delete_request::OffsetDeleteRequestPartition>(&[I32]);

pub(super) static CONSUMER_GROUP_HEARTBEAT_REQUEST: Message = Message {
    name: "ConsumerGroupHeartbeat request",
    flexible_from: 0,
    body: Struct::of::<m::ConsumerGroupHeartbeatRequest>(&[
        STRING,
        STRING,
        I32,
        NULLABLE_STRING,
        NULLABLE_STRING,
        I32,
        STRING_ARRAY.null_since(0),
        NULLABLE_STRING.since(1),
        NULLABLE_STRING,
        array(&OWNED_PARTITIONS).null_since(0),
    ]),
};
static OWNED_PARTITIONS: Struct =
    Struct::of::<m::consumer_group_heartbeat_request::TopicPartitions>(&[UUID, I32_ARRAY]);

pub(super) static CONSUMER_GROUP_DESCRIBE_REQUEST: Message = Message {
    name: "ConsumerGroupDescribe request",
    flexible_from: 0,
    body: Struct::of::<m::ConsumerGroupDescribeRequest>(&[
        names::<m::consumer_group_describe_response::DescribedGroup>(),
        BOOL,
    ]),
};
