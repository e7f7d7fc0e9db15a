//! (contract; the owner of src/protocol replaces this file)
pub mod quorum;
use crate::record::StampedBatch;
use crate::types::*;
use bytes::Bytes;
/// kafka-protocol's structs behind one name, so that the codec can be replaced here.
pub mod messages {
    pub use kafka_protocol::messages::*;
    pub use kafka_protocol::protocol::StrBytes;
}
use messages as m;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    pub api_key: i16,
    pub api_version: i16,
    pub correlation_id: i32,
    pub client_id: Option<String>,
}

/// A decoded request. Every count and length in it was checked against the frame before anything was allocated.
#[derive(Clone, Debug)]
pub enum Request {
    Produce(m::ProduceRequest),
    Fetch(m::FetchRequest),
    ListOffsets(m::ListOffsetsRequest),
    Metadata(m::MetadataRequest),
    InitProducerId(m::InitProducerIdRequest),
    OffsetForLeaderEpoch(m::OffsetForLeaderEpochRequest),
    ApiVersions(m::ApiVersionsRequest),
    /// ApiVersions of a version that we do not have: answered with error 35 and a version 0 body (KIP-511).
    ApiVersionsUnsupported,
    DescribeConfigs(m::DescribeConfigsRequest),
    DescribeCluster(m::DescribeClusterRequest),
    DescribeQuorum(m::DescribeQuorumRequest),
    DescribeTopicPartitions(m::DescribeTopicPartitionsRequest),
    Vote(m::VoteRequest),
    BeginQuorumEpoch(m::BeginQuorumEpochRequest),
    EndQuorumEpoch(m::EndQuorumEpochRequest),
}

#[derive(Clone, Debug)]
pub enum Response {
    Produce(m::ProduceResponse),
    Fetch(FetchResponse),
    ListOffsets(m::ListOffsetsResponse),
    Metadata(m::MetadataResponse),
    InitProducerId(m::InitProducerIdResponse),
    OffsetForLeaderEpoch(m::OffsetForLeaderEpochResponse),
    ApiVersions(m::ApiVersionsResponse),
    DescribeConfigs(m::DescribeConfigsResponse),
    DescribeCluster(m::DescribeClusterResponse),
    DescribeQuorum(m::DescribeQuorumResponse),
    DescribeTopicPartitions(m::DescribeTopicPartitionsResponse),
    Vote(m::VoteResponse),
    BeginQuorumEpoch(m::BeginQuorumEpochResponse),
    EndQuorumEpoch(m::EndQuorumEpochResponse),
}

/// Fetch answer of our own: its records stay shared chunks up to the socket (versions 4 to 18, hand-encoded).
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    pub error: i16,
    pub session_id: i32,
    pub topics: Vec<FetchTopic>,
    pub node_endpoints: Vec<(NodeId, Endpoint)>,
}
#[derive(Clone, Debug, Default)]
pub struct FetchTopic {
    pub name: String,
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}
#[derive(Clone, Debug)]
pub struct FetchPartition {
    pub index: i32,
    pub error: ErrorCode,
    /// -1: unknown.
    pub high_watermark: i64,
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    pub diverging: Option<OffsetAndEpoch>,
    pub current_leader: Option<(Option<NodeId>, Epoch)>,
    pub snapshot: Option<OffsetAndEpoch>,
    pub records: Vec<StampedBatch>,
}

/// Bytes for one socket, in order; begins with the 4-byte length.
#[derive(Clone, Debug, Default)]
pub struct EncodedFrame {
    pub chunks: Vec<Bytes>,
}
impl EncodedFrame {
    pub fn len(&self) -> usize {
        self.chunks.iter().map(|c| c.len()).sum()
    }
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// Why a frame ends its connection, in words that say what it looked like.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct FrameError(pub String);

/// What frame length says: `Ok(None)` not enough bytes yet; `Err`: not Kafka, or over the limit ("it looks like an HTTP request").
pub fn frame_length(_buffered: &[u8], _request_bytes_max: usize) -> Result<Option<usize>, FrameError> {
    unimplemented!()
}
/// Decode a request frame (without its 4-byte length). Unknown key or version: FrameError, Kafka closes the connection
/// too; only ApiVersions gets an answer whatever its version.
pub fn decode_request(_frame: Bytes) -> Result<(RequestHeader, Request), FrameError> {
    unimplemented!()
}
pub fn encode_response(_header: &RequestHeader, _response: &Response) -> EncodedFrame {
    unimplemented!()
}
/// The ApiVersions table: (key, min, max) of all that is answered (Produce advertised from 0).
pub fn advertised() -> &'static [(i16, i16, i16)] {
    unimplemented!()
}

pub fn wire_uuid(_id: Uuid) -> uuid::Uuid {
    unimplemented!()
}
pub fn own_uuid(_id: uuid::Uuid) -> Uuid {
    unimplemented!()
}
