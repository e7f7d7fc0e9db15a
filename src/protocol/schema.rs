//! The shape of every message that we decode, in the order of the wire: Kafka's message schemas as tables.
//!
//! Read by `check` alone. A field says from which version to which it exists, and from which on it may be null;
//! an array's elements say what they occupy once decoded. Versions that we do not advertise are left out.

mod groups;

use super::fetch::{FetchRequest, RequestedPartition, RequestedTopic};
use super::messages as m;
use super::messages::StrBytes;
use super::produce::{ProducePartition, ProduceRequest, ProduceTopic};

/// A request or a response.
pub(crate) struct Message {
    pub(crate) name: &'static str,
    /// First version with compact lengths and tagged fields; with it the header has tagged fields too.
    flexible_from: i16,
    pub(crate) body: Struct,
}

impl Message {
    pub(crate) fn is_flexible(&self, version: i16) -> bool {
        version >= self.flexible_from
    }
}

pub(super) struct Struct {
    /// Size of the decoded struct, for elements of arrays.
    pub(super) memory_bytes: usize,
    pub(super) fields: &'static [Field],
    pub(super) tagged: &'static [(u32, Field)],
    /// Tagged fields that Kafka does not know are read too: nodes of ours tell each other something in them.
    pub(super) keeps_tags: bool,
}

impl Struct {
    const fn of<T>(fields: &'static [Field]) -> Struct {
        Struct { memory_bytes: size_of::<T>(), fields, tagged: &[], keeps_tags: false }
    }

    /// The decoder keeps none of it.
    const fn passed_over(fields: &'static [Field]) -> Struct {
        Struct { memory_bytes: 0, fields, tagged: &[], keeps_tags: false }
    }

    const fn tagged(self, tagged: &'static [(u32, Field)]) -> Struct {
        Struct { tagged, ..self }
    }

    const fn keeps_tags(self) -> Struct {
        Struct { keeps_tags: true, ..self }
    }

    pub(super) fn tagged_in(&self, tag: u32, version: i16) -> Option<&Field> {
        self.tagged.iter().find(|(t, field)| *t == tag && field.exists_in(version)).map(|(_, field)| field)
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Field {
    pub(crate) kind: Kind,
    from: i16,
    to: i16,
    null_from: i16,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    /// Numbers, booleans, uuids.
    Fixed(usize),
    String,
    /// Records, or bytes that nobody here looks into.
    Bytes,
    FixedArray {
        element_bytes: usize,
        memory_bytes: usize,
    },
    StringArray {
        memory_bytes: usize,
    },
    Array(&'static Struct),
    Struct(&'static Struct),
    /// A byte says whether it is there.
    NullableStruct(&'static Struct),
}

impl Field {
    const fn new(kind: Kind) -> Field {
        Field { kind, from: 0, to: i16::MAX, null_from: i16::MAX }
    }

    const fn since(self, from: i16) -> Field {
        Field { from, ..self }
    }

    const fn until(self, to: i16) -> Field {
        Field { to, ..self }
    }

    const fn null_since(self, null_from: i16) -> Field {
        Field { null_from, ..self }
    }

    pub(super) fn exists_in(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }

    pub(super) fn is_nullable_in(&self, version: i16) -> bool {
        version >= self.null_from
    }
}

const I8: Field = Field::new(Kind::Fixed(1));
const BOOL: Field = I8;
const I16: Field = Field::new(Kind::Fixed(2));
const I32: Field = Field::new(Kind::Fixed(4));
const I64: Field = Field::new(Kind::Fixed(8));
const UUID: Field = Field::new(Kind::Fixed(16));
const STRING: Field = Field::new(Kind::String);
const NULLABLE_STRING: Field = STRING.null_since(0);
const BYTES: Field = Field::new(Kind::Bytes);
const RECORDS: Field = BYTES.null_since(0);
const I32_ARRAY: Field = Field::new(Kind::FixedArray { element_bytes: 4, memory_bytes: 4 });
const STRING_ARRAY: Field = Field::new(Kind::StringArray { memory_bytes: size_of::<StrBytes>() });

const fn array(element: &'static Struct) -> Field {
    Field::new(Kind::Array(element))
}

const fn structure(inner: &'static Struct) -> Field {
    Field::new(Kind::Struct(inner))
}

/// Schema of a request that we serve.
pub(crate) fn request(api_key: i16) -> Option<&'static Message> {
    use super::api_versions::key;
    Some(match api_key {
        key::PRODUCE => &PRODUCE_REQUEST,
        key::FETCH => &FETCH_REQUEST,
        key::LIST_OFFSETS => &LIST_OFFSETS_REQUEST,
        key::METADATA => &METADATA_REQUEST,
        key::FIND_COORDINATOR => &FIND_COORDINATOR_REQUEST,
        key::OFFSET_COMMIT => &groups::OFFSET_COMMIT_REQUEST,
        key::OFFSET_FETCH => &groups::OFFSET_FETCH_REQUEST,
        key::JOIN_GROUP => &groups::JOIN_GROUP_REQUEST,
        key::HEARTBEAT => &groups::HEARTBEAT_REQUEST,
        key::LEAVE_GROUP => &groups::LEAVE_GROUP_REQUEST,
        key::SYNC_GROUP => &groups::SYNC_GROUP_REQUEST,
        key::DESCRIBE_GROUPS => &groups::DESCRIBE_GROUPS_REQUEST,
        key::LIST_GROUPS => &groups::LIST_GROUPS_REQUEST,
        key::DELETE_GROUPS => &groups::DELETE_GROUPS_REQUEST,
        key::OFFSET_DELETE => &groups::OFFSET_DELETE_REQUEST,
        key::CONSUMER_GROUP_HEARTBEAT => &groups::CONSUMER_GROUP_HEARTBEAT_REQUEST,
        key::CONSUMER_GROUP_DESCRIBE => &groups::CONSUMER_GROUP_DESCRIBE_REQUEST,
        key::API_VERSIONS => &API_VERSIONS_REQUEST,
        key::CREATE_TOPICS => &CREATE_TOPICS_REQUEST,
        key::DELETE_RECORDS => &DELETE_RECORDS_REQUEST,
        key::INIT_PRODUCER_ID => &INIT_PRODUCER_ID_REQUEST,
        key::OFFSET_FOR_LEADER_EPOCH => &OFFSET_FOR_LEADER_EPOCH_REQUEST,
        key::DESCRIBE_CONFIGS => &DESCRIBE_CONFIGS_REQUEST,
        key::ALTER_CONFIGS => &ALTER_CONFIGS_REQUEST,
        key::INCREMENTAL_ALTER_CONFIGS => &INCREMENTAL_ALTER_CONFIGS_REQUEST,
        key::DESCRIBE_LOG_DIRS => &DESCRIBE_LOG_DIRS_REQUEST,
        key::VOTE => &VOTE_REQUEST,
        key::BEGIN_QUORUM_EPOCH => &BEGIN_QUORUM_EPOCH_REQUEST,
        key::END_QUORUM_EPOCH => &END_QUORUM_EPOCH_REQUEST,
        key::DESCRIBE_QUORUM => &DESCRIBE_QUORUM_REQUEST,
        key::DESCRIBE_CLUSTER => &DESCRIBE_CLUSTER_REQUEST,
        key::DESCRIBE_TOPIC_PARTITIONS => &DESCRIBE_TOPIC_PARTITIONS_REQUEST,
        key::FETCH_SNAPSHOT => &FETCH_SNAPSHOT_REQUEST,
        key::UPDATE_RAFT_VOTER => &UPDATE_RAFT_VOTER_REQUEST,
        _ => return None,
    })
}

static PRODUCE_REQUEST: Message = Message {
    name: "Produce request",
    flexible_from: 9,
    body: Struct::of::<ProduceRequest>(&[NULLABLE_STRING.since(3), I16, I32, array(&PRODUCE_TOPIC)]),
};
static PRODUCE_TOPIC: Struct =
    Struct::of::<ProduceTopic>(&[STRING.until(12), UUID.since(13), array(&PRODUCE_PARTITION)]);
static PRODUCE_PARTITION: Struct = Struct::of::<ProducePartition>(&[I32, RECORDS]);

pub(super) static FETCH_REQUEST: Message = Message {
    name: "Fetch request",
    flexible_from: 12,
    body: Struct::of::<FetchRequest>(&[
        I32.until(14),
        I32,
        I32,
        I32,
        I8,
        I32.since(7),
        I32.since(7),
        array(&FETCH_TOPIC),
        array(&FORGOTTEN_TOPIC).since(7),
        STRING.since(11),
    ])
    .tagged(&[(0, NULLABLE_STRING.since(12)), (1, structure(&REPLICA_STATE).since(15))]),
};
static REPLICA_STATE: Struct = Struct::passed_over(&[I32, I64]);
static FETCH_TOPIC: Struct =
    Struct::of::<RequestedTopic>(&[STRING.until(12), UUID.since(13), array(&FETCH_PARTITION)]);
static FETCH_PARTITION: Struct =
    Struct::of::<RequestedPartition>(&[I32, I32.since(9), I64, I32.since(12), I64.since(5), I32])
        .tagged(&[(0, UUID.since(17)), (1, I64.since(18))]);
static FORGOTTEN_TOPIC: Struct = Struct::passed_over(&[STRING.until(12), UUID.since(13), I32_ARRAY]);

/// Version 11 differs from 10 only in a timestamp's meaning (KIP-1023).
static LIST_OFFSETS_REQUEST: Message = Message {
    name: "ListOffsets request",
    flexible_from: 6,
    body: Struct::of::<m::ListOffsetsRequest>(&[I32, I8.since(2), array(&LIST_OFFSETS_TOPIC), I32.since(10)]),
};
static LIST_OFFSETS_TOPIC: Struct =
    Struct::of::<m::list_offsets_request::ListOffsetsTopic>(&[STRING, array(&LIST_OFFSETS_PARTITION)]);
static LIST_OFFSETS_PARTITION: Struct =
    Struct::of::<m::list_offsets_request::ListOffsetsPartition>(&[I32, I32.since(4), I64]);

static METADATA_REQUEST: Message = Message {
    name: "Metadata request",
    flexible_from: 9,
    body: Struct::of::<m::MetadataRequest>(&[
        array(&METADATA_TOPIC).null_since(1),
        BOOL.since(4),
        BOOL.since(8).until(10),
        BOOL.since(8),
    ]),
};
static METADATA_TOPIC: Struct =
    Struct::of::<m::metadata_request::MetadataRequestTopic>(&[UUID.since(10), STRING.null_since(10)]);

static FIND_COORDINATOR_REQUEST: Message = Message {
    name: "FindCoordinator request",
    flexible_from: 3,
    body: Struct::of::<m::FindCoordinatorRequest>(&[STRING.until(3), I8.since(1), STRING_ARRAY.since(4)]),
};

static API_VERSIONS_REQUEST: Message = Message {
    name: "ApiVersions request",
    flexible_from: 3,
    body: Struct::of::<m::ApiVersionsRequest>(&[STRING.since(3), STRING.since(3)]),
};

static CREATE_TOPICS_REQUEST: Message = Message {
    name: "CreateTopics request",
    flexible_from: 5,
    body: Struct::of::<m::CreateTopicsRequest>(&[array(&CREATED_TOPIC), I32, BOOL]),
};
static CREATED_TOPIC: Struct = Struct::of::<m::create_topics_request::CreatableTopic>(&[
    STRING,
    I32,
    I16,
    array(&CREATED_ASSIGNMENT),
    array(&CREATED_CONFIG),
]);
static CREATED_ASSIGNMENT: Struct =
    Struct::of::<m::create_topics_request::CreatableReplicaAssignment>(&[I32, I32_ARRAY]);
static CREATED_CONFIG: Struct =
    Struct::of::<m::create_topics_request::CreatableTopicConfig>(&[STRING, NULLABLE_STRING]);

static INIT_PRODUCER_ID_REQUEST: Message = Message {
    name: "InitProducerId request",
    flexible_from: 2,
    body: Struct::of::<m::InitProducerIdRequest>(&[NULLABLE_STRING, I32, I64.since(3), I16.since(3)]),
};

static OFFSET_FOR_LEADER_EPOCH_REQUEST: Message = Message {
    name: "OffsetForLeaderEpoch request",
    flexible_from: 4,
    body: Struct::of::<m::OffsetForLeaderEpochRequest>(&[I32.since(3), array(&OFFSET_FOR_LEADER_TOPIC)]),
};
static OFFSET_FOR_LEADER_TOPIC: Struct =
    Struct::of::<m::offset_for_leader_epoch_request::OffsetForLeaderTopic>(&[
        STRING,
        array(&OFFSET_FOR_LEADER_PARTITION),
    ]);
static OFFSET_FOR_LEADER_PARTITION: Struct =
    Struct::of::<m::offset_for_leader_epoch_request::OffsetForLeaderPartition>(&[I32, I32.since(2), I32]);

static DESCRIBE_CONFIGS_REQUEST: Message = Message {
    name: "DescribeConfigs request",
    flexible_from: 4,
    body: Struct::of::<m::DescribeConfigsRequest>(&[array(&CONFIG_RESOURCE), BOOL.since(1), BOOL.since(3)]),
};
static CONFIG_RESOURCE: Struct = Struct::of::<m::describe_configs_request::DescribeConfigsResource>(&[
    I8,
    STRING,
    STRING_ARRAY.null_since(0),
]);

static ALTER_CONFIGS_REQUEST: Message = Message {
    name: "AlterConfigs request",
    flexible_from: 2,
    body: Struct::of::<m::AlterConfigsRequest>(&[array(&REPLACED_RESOURCE), BOOL]),
};
static REPLACED_RESOURCE: Struct =
    Struct::of::<m::alter_configs_request::AlterConfigsResource>(&[I8, STRING, array(&REPLACING_CONFIG)]);
static REPLACING_CONFIG: Struct =
    Struct::of::<m::alter_configs_request::AlterableConfig>(&[STRING, NULLABLE_STRING]);

static INCREMENTAL_ALTER_CONFIGS_REQUEST: Message = Message {
    name: "IncrementalAlterConfigs request",
    flexible_from: 1,
    body: Struct::of::<m::IncrementalAlterConfigsRequest>(&[array(&ALTERED_RESOURCE), BOOL]),
};
static ALTERED_RESOURCE: Struct =
    Struct::of::<m::incremental_alter_configs_request::AlterConfigsResource>(&[
        I8,
        STRING,
        array(&ALTERED_CONFIG),
    ]);
static ALTERED_CONFIG: Struct =
    Struct::of::<m::incremental_alter_configs_request::AlterableConfig>(&[STRING, I8, NULLABLE_STRING]);

static DELETE_RECORDS_REQUEST: Message = Message {
    name: "DeleteRecords request",
    flexible_from: 2,
    body: Struct::of::<m::DeleteRecordsRequest>(&[array(&DELETED_TOPIC), I32]),
};
static DELETED_TOPIC: Struct =
    Struct::of::<m::delete_records_request::DeleteRecordsTopic>(&[STRING, array(&DELETED_PARTITION)]);
static DELETED_PARTITION: Struct =
    Struct::of::<m::delete_records_request::DeleteRecordsPartition>(&[I32, I64]);

static DESCRIBE_LOG_DIRS_REQUEST: Message = Message {
    name: "DescribeLogDirs request",
    flexible_from: 2,
    body: Struct::of::<m::DescribeLogDirsRequest>(&[array(&LOG_DIR_TOPIC).null_since(0)]),
};
static LOG_DIR_TOPIC: Struct =
    Struct::of::<m::describe_log_dirs_request::DescribableLogDirTopic>(&[STRING, I32_ARRAY]);

static DESCRIBE_CLUSTER_REQUEST: Message = Message {
    name: "DescribeCluster request",
    flexible_from: 0,
    body: Struct::of::<m::DescribeClusterRequest>(&[BOOL, I8.since(1), BOOL.since(2)]),
};

static DESCRIBE_QUORUM_REQUEST: Message = Message {
    name: "DescribeQuorum request",
    flexible_from: 0,
    body: Struct::of::<m::DescribeQuorumRequest>(&[array(&DESCRIBE_QUORUM_TOPIC)]),
};
static DESCRIBE_QUORUM_TOPIC: Struct =
    Struct::of::<m::describe_quorum_request::TopicData>(&[STRING, array(&DESCRIBE_QUORUM_PARTITION)]);
static DESCRIBE_QUORUM_PARTITION: Struct = Struct::of::<m::describe_quorum_request::PartitionData>(&[I32]);

static DESCRIBE_TOPIC_PARTITIONS_REQUEST: Message = Message {
    name: "DescribeTopicPartitions request",
    flexible_from: 0,
    body: Struct::of::<m::DescribeTopicPartitionsRequest>(&[
        array(&DESCRIBE_TOPIC),
        I32,
        Field::new(Kind::NullableStruct(&DESCRIBE_TOPIC_CURSOR)),
    ]),
};
static DESCRIBE_TOPIC: Struct = Struct::of::<m::describe_topic_partitions_request::TopicRequest>(&[STRING]);
static DESCRIBE_TOPIC_CURSOR: Struct =
    Struct::of::<m::describe_topic_partitions_request::Cursor>(&[STRING, I32]);

static VOTE_REQUEST: Message = Message {
    name: "Vote request",
    flexible_from: 0,
    body: Struct::of::<m::VoteRequest>(&[NULLABLE_STRING, I32.since(1), array(&VOTE_TOPIC)]),
};
static VOTE_TOPIC: Struct = Struct::of::<m::vote_request::TopicData>(&[STRING, array(&VOTE_PARTITION)]);
static VOTE_PARTITION: Struct = Struct::of::<m::vote_request::PartitionData>(&[
    I32,
    I32,
    I32,
    UUID.since(1),
    UUID.since(1),
    I32,
    I64,
    BOOL.since(2),
])
.keeps_tags();

static BEGIN_QUORUM_EPOCH_REQUEST: Message = Message {
    name: "BeginQuorumEpoch request",
    flexible_from: 1,
    body: Struct::of::<m::BeginQuorumEpochRequest>(&[
        NULLABLE_STRING,
        I32.since(1),
        array(&BEGIN_TOPIC),
        array(&LEADER_ENDPOINT).since(1),
    ]),
};
static BEGIN_TOPIC: Struct =
    Struct::of::<m::begin_quorum_epoch_request::TopicData>(&[STRING, array(&BEGIN_PARTITION)]);
static BEGIN_PARTITION: Struct =
    Struct::of::<m::begin_quorum_epoch_request::PartitionData>(&[I32, UUID.since(1), I32, I32]);
/// Name, host and port; of the same size in Begin- and EndQuorumEpoch.
static LEADER_ENDPOINT: Struct =
    Struct::of::<m::begin_quorum_epoch_request::LeaderEndpoint>(&[STRING, STRING, I16]);

static END_QUORUM_EPOCH_REQUEST: Message = Message {
    name: "EndQuorumEpoch request",
    flexible_from: 1,
    body: Struct::of::<m::EndQuorumEpochRequest>(&[
        NULLABLE_STRING,
        array(&END_TOPIC),
        array(&LEADER_ENDPOINT).since(1),
    ]),
};
static END_TOPIC: Struct =
    Struct::of::<m::end_quorum_epoch_request::TopicData>(&[STRING, array(&END_PARTITION)]);
static END_PARTITION: Struct = Struct::of::<m::end_quorum_epoch_request::PartitionData>(&[
    I32,
    I32,
    I32,
    I32_ARRAY.until(0),
    array(&PREFERRED_CANDIDATE).since(1),
]);
static PREFERRED_CANDIDATE: Struct = Struct::of::<m::end_quorum_epoch_request::ReplicaInfo>(&[I32, UUID]);

static FETCH_SNAPSHOT_REQUEST: Message = Message {
    name: "FetchSnapshot request",
    flexible_from: 0,
    body: Struct::of::<m::FetchSnapshotRequest>(&[I32, I32, array(&SNAPSHOT_TOPIC)])
        .tagged(&[(0, NULLABLE_STRING)]),
};
static SNAPSHOT_TOPIC: Struct =
    Struct::of::<m::fetch_snapshot_request::TopicSnapshot>(&[STRING, array(&SNAPSHOT_PARTITION)]);
static SNAPSHOT_PARTITION: Struct =
    Struct::of::<m::fetch_snapshot_request::PartitionSnapshot>(&[I32, I32, structure(&SNAPSHOT_ID), I64])
        .tagged(&[(0, UUID.since(1))]);

static UPDATE_RAFT_VOTER_REQUEST: Message = Message {
    name: "UpdateRaftVoter request",
    flexible_from: 0,
    body: Struct::of::<m::UpdateRaftVoterRequest>(&[
        NULLABLE_STRING,
        I32,
        I32,
        UUID,
        array(&UPDATED_LISTENER),
        structure(&KRAFT_VERSION_FEATURE),
    ]),
};
static UPDATED_LISTENER: Struct =
    Struct::of::<m::update_raft_voter_request::Listener>(&[STRING, STRING, I16]);
static KRAFT_VERSION_FEATURE: Struct =
    Struct::of::<m::update_raft_voter_request::KRaftVersionFeature>(&[I16, I16]);

// --- What we read as a client of other voters.

pub(super) static API_VERSIONS_RESPONSE: Message = Message {
    name: "ApiVersions response",
    flexible_from: 3,
    body: Struct::of::<m::ApiVersionsResponse>(&[I16, array(&API_VERSION), I32.since(1)]).tagged(&[
        (0, array(&FEATURE).since(3)),
        (1, I64.since(3)),
        (2, array(&FEATURE).since(3)),
        (3, BOOL.since(3)),
    ]),
};
pub(super) static DESCRIBE_QUORUM_RESPONSE: Message = Message {
    name: "DescribeQuorum response",
    flexible_from: 0,
    body: Struct::of::<m::DescribeQuorumResponse>(&[
        I16,
        NULLABLE_STRING.since(2),
        array(&DESCRIBED_TOPIC),
        array(&DESCRIBED_NODE).since(2),
    ]),
};
static DESCRIBED_TOPIC: Struct =
    Struct::of::<m::describe_quorum_response::TopicData>(&[STRING, array(&DESCRIBED_PARTITION)]);
static DESCRIBED_PARTITION: Struct = Struct::of::<m::describe_quorum_response::PartitionData>(&[
    I32,
    I16,
    NULLABLE_STRING.since(2),
    I32,
    I32,
    I64,
    array(&DESCRIBED_REPLICA),
    array(&DESCRIBED_REPLICA),
]);
static DESCRIBED_REPLICA: Struct = Struct::of::<m::describe_quorum_response::ReplicaState>(&[
    I32,
    UUID.since(2),
    I64,
    I64.since(1),
    I64.since(1),
]);
static DESCRIBED_NODE: Struct =
    Struct::of::<m::describe_quorum_response::Node>(&[I32, array(&DESCRIBED_LISTENER)]);
static DESCRIBED_LISTENER: Struct =
    Struct::of::<m::describe_quorum_response::Listener>(&[STRING, STRING, I16]);

pub(super) static INCREMENTAL_ALTER_CONFIGS_RESPONSE: Message = Message {
    name: "IncrementalAlterConfigs response",
    flexible_from: 1,
    body: Struct::of::<m::IncrementalAlterConfigsResponse>(&[I32, array(&ALTERED_ANSWER)]),
};
static ALTERED_ANSWER: Struct = Struct::of::<
    m::incremental_alter_configs_response::AlterConfigsResourceResponse,
>(&[I16, NULLABLE_STRING, I8, STRING]);

static API_VERSION: Struct = Struct::of::<m::api_versions_response::ApiVersion>(&[I16, I16, I16]);
/// A supported and a finalized feature are of one shape.
static FEATURE: Struct = Struct::of::<m::api_versions_response::FinalizedFeatureKey>(&[STRING, I16, I16]);

pub(super) static VOTE_RESPONSE: Message = Message {
    name: "Vote response",
    flexible_from: 0,
    body: Struct::of::<m::VoteResponse>(&[I16, array(&VOTED_TOPIC)])
        .tagged(&[(0, array(&NODE_ENDPOINT).since(1))]),
};
static VOTED_TOPIC: Struct = Struct::of::<m::vote_response::TopicData>(&[STRING, array(&VOTED_PARTITION)]);
static VOTED_PARTITION: Struct = Struct::of::<m::vote_response::PartitionData>(&[I32, I16, I32, I32, BOOL]);
/// Id, host and port; of the same size in all three answers of the quorum.
static NODE_ENDPOINT: Struct = Struct::of::<m::vote_response::NodeEndpoint>(&[I32, STRING, I16]);

/// BeginQuorumEpoch and EndQuorumEpoch are answered in one shape.
pub(super) static LEADER_RESPONSE: Message = Message {
    name: "BeginQuorumEpoch or EndQuorumEpoch response",
    flexible_from: 1,
    body: Struct::of::<m::BeginQuorumEpochResponse>(&[I16, array(&LEADER_TOPIC)])
        .tagged(&[(0, array(&NODE_ENDPOINT).since(1))]),
};
static LEADER_TOPIC: Struct =
    Struct::of::<m::begin_quorum_epoch_response::TopicData>(&[STRING, array(&LEADER_PARTITION)]);
static LEADER_PARTITION: Struct =
    Struct::of::<m::begin_quorum_epoch_response::PartitionData>(&[I32, I16, I32, I32]);

/// Its reader keeps the one partition that it asked for.
pub(super) static FETCH_RESPONSE: Message = Message {
    name: "Fetch response",
    flexible_from: 12,
    body: Struct::passed_over(&[I32, I16.since(7), I32.since(7), array(&FETCHED_TOPIC)])
        .tagged(&[(0, array(&FETCH_NODE_ENDPOINT).since(16))]),
};
static FETCHED_TOPIC: Struct =
    Struct::passed_over(&[STRING.until(12), UUID.since(13), array(&FETCHED_PARTITION)]);
static FETCHED_PARTITION: Struct = Struct::passed_over(&[
    I32,
    I16,
    I64,
    I64,
    I64.since(5),
    array(&ABORTED_TRANSACTION).null_since(0),
    I32.since(11),
    RECORDS,
])
.tagged(&[
    (0, structure(&EPOCH_END_OFFSET).since(12)),
    (1, structure(&LEADER_ID_AND_EPOCH).since(12)),
    (2, structure(&SNAPSHOT_ID).since(12)),
]);
static ABORTED_TRANSACTION: Struct = Struct::passed_over(&[I64, I64]);
static EPOCH_END_OFFSET: Struct = Struct::passed_over(&[I32, I64]);
static LEADER_ID_AND_EPOCH: Struct = Struct::passed_over(&[I32, I32]);
static SNAPSHOT_ID: Struct = Struct::passed_over(&[I64, I32]);
static FETCH_NODE_ENDPOINT: Struct = Struct::passed_over(&[I32, STRING, I32, NULLABLE_STRING]);

/// Its reader keeps the one partition that it asked for.
pub(super) static FETCH_SNAPSHOT_RESPONSE: Message = Message {
    name: "FetchSnapshot response",
    flexible_from: 0,
    body: Struct::passed_over(&[I32, I16, array(&FETCHED_SNAPSHOT_TOPIC)])
        .tagged(&[(0, array(&SNAPSHOT_NODE_ENDPOINT).since(1))]),
};
static FETCHED_SNAPSHOT_TOPIC: Struct = Struct::passed_over(&[STRING, array(&FETCHED_PIECE)]);
static FETCHED_PIECE: Struct = Struct::passed_over(&[I32, I16, structure(&SNAPSHOT_ID), I64, I64, RECORDS])
    .tagged(&[(0, structure(&LEADER_ID_AND_EPOCH))]);
static SNAPSHOT_NODE_ENDPOINT: Struct = Struct::passed_over(&[I32, STRING, I16]);
