//! FetchSnapshot (KIP-630), both ways: what a replica asks for is some bytes of a file, and Raft is not asked.
//!
//! As server the cluster id, topic and partition are settled here, and what no replica can mean; whether this node leads, and has
//! the snapshot, is its caller's to say. As client the answer is held against the partition that was asked for; whether its bytes are
//! those that are due is its caller's to say too.

#![allow(clippy::result_large_err, reason = "the error is an answer, moved once, to the encoder")]

use super::super::api_versions::key;
use super::super::fetch_snapshot::decode_fetch_snapshot_answer;
use super::super::messages as m;
use super::super::schema;
use super::super::{EncodedFrame, FetchSnapshotResponse, FrameError, Response, SnapshotPiece, wire_uuid};
use super::client::{Sender, answer_body, other_partition};
use super::server::leader_endpoint;
use super::{PARTITION, QuorumContext, node_id, only};
use crate::types::*;
use bytes::Bytes;

/// What a replica asks for. Its numbers are as it sent them, where nothing says `None`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotRequest {
    /// The sender; a voter or an observer. `None`: an observer without an id.
    pub replica: Option<ReplicaKey>,
    /// In which it follows. Negative: it says none, and is behind in any case.
    pub epoch: i32,
    /// The snapshot's name. There is none with negative numbers.
    pub id: OffsetAndEpoch,
    /// From this byte of its file on.
    pub position: i64,
    /// No more than so many.
    pub bytes_max: usize,
}

/// Bytes of a snapshot, or why there are none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotBytes {
    /// `NONE` where there are bytes.
    pub error: ErrorCode,
    /// The snapshot's name. Zero beside an error.
    pub id: OffsetAndEpoch,
    /// Of the whole file.
    pub size: i64,
    /// Where `bytes` lie in it.
    pub position: i64,
    /// Cut anywhere.
    pub bytes: Bytes,
}

impl SnapshotBytes {
    /// There are none.
    pub fn refused(error: ErrorCode) -> SnapshotBytes {
        SnapshotBytes { error, id: OffsetAndEpoch::default(), size: 0, position: 0, bytes: Bytes::new() }
    }
}

/// Checks in Kafka's order (`KafkaRaftClient.handleFetchSnapshotRequest`). `Err`: the whole answer.
pub fn fetch_snapshot_request(
    c: &QuorumContext,
    m: &m::FetchSnapshotRequest,
) -> Result<SnapshotRequest, Response> {
    let refused = |error: ErrorCode| {
        Response::FetchSnapshot(FetchSnapshotResponse { error: error.0, ..FetchSnapshotResponse::default() })
    };
    if !c.is_our_cluster(m.cluster_id.as_deref()) {
        return Err(refused(ErrorCode::INCONSISTENT_CLUSTER_ID));
    }
    let topic = only(&m.topics);
    let Some((topic, partition)) = topic.and_then(|topic| Some((topic, only(&topic.partitions)?))) else {
        return Err(refused(ErrorCode::INVALID_REQUEST));
    };
    if *topic.name.0 != *c.topic || partition.partition != PARTITION {
        return Err(unknown_partition(topic, partition));
    }
    let Some(bytes_max) = usize::try_from(m.max_bytes).ok().filter(|bytes| *bytes > 0) else {
        // Kafka answers 0 with no bytes for ever, and fails at less.
        return Err(refused(ErrorCode::INVALID_REQUEST));
    };
    let directory_id = Uuid(partition.replica_directory_id.as_u128());
    Ok(SnapshotRequest {
        replica: node_id(m.replica_id.0).map(|id| ReplicaKey { id, directory_id }),
        epoch: partition.current_leader_epoch,
        id: OffsetAndEpoch {
            epoch: Epoch(partition.snapshot_id.epoch),
            offset: Offset(partition.snapshot_id.end_offset),
        },
        position: partition.position,
        bytes_max,
    })
}

/// Nothing is said of who leads it.
fn unknown_partition(
    topic: &m::fetch_snapshot_request::TopicSnapshot,
    partition: &m::fetch_snapshot_request::PartitionSnapshot,
) -> Response {
    let piece = SnapshotPiece {
        topic: topic.name.0.clone(),
        index: partition.partition,
        error: ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        id: OffsetAndEpoch::default(),
        current_leader: None,
        size: 0,
        position: 0,
        bytes: Bytes::new(),
    };
    Response::FetchSnapshot(FetchSnapshotResponse { partition: Some(piece), ..Default::default() })
}

/// It names the leader and epoch whatever else it says, and the leader's endpoint when the leader is known.
pub fn fetch_snapshot_response(
    c: &QuorumContext,
    leader: Option<NodeId>,
    epoch: Epoch,
    told: SnapshotBytes,
) -> Response {
    let SnapshotBytes { error, id, size, position, bytes } = told;
    let piece = SnapshotPiece {
        topic: c.topic.clone(),
        index: PARTITION,
        error,
        id,
        current_leader: Some((leader, epoch)),
        size,
        position,
        bytes,
    };
    let endpoints = leader_endpoint(c, leader).map(|(id, endpoint)| (id, endpoint.clone()));
    Response::FetchSnapshot(FetchSnapshotResponse {
        error: 0,
        partition: Some(piece),
        node_endpoints: endpoints.into_iter().collect(),
    })
}

/// `version`: as the peer's ApiVersions allows (`PeerVersions::fetch_snapshot`).
pub fn encode_fetch_snapshot_request(
    c: &QuorumContext,
    version: i16,
    correlation_id: i32,
    client_id: &str,
    r: &SnapshotRequest,
) -> EncodedFrame {
    use m::fetch_snapshot_request::{PartitionSnapshot, SnapshotId, TopicSnapshot};
    let id = SnapshotId::default().with_end_offset(r.id.offset.0).with_epoch(r.id.epoch.0);
    let mut partition = PartitionSnapshot::default()
        .with_partition(PARTITION)
        .with_current_leader_epoch(r.epoch)
        .with_snapshot_id(id)
        .with_position(r.position);
    if version >= 1 {
        let directory_id = r.replica.map_or(Uuid::ZERO, |replica| replica.directory_id);
        partition.replica_directory_id = wire_uuid(directory_id);
    }
    let topic = TopicSnapshot::default().with_name(c.wire_topic()).with_partitions(vec![partition]);
    let request = m::FetchSnapshotRequest::default()
        .with_cluster_id(Some(c.cluster_id.clone()))
        .with_replica_id(r.replica.map_or(-1, |replica| replica.id.0).into())
        .with_max_bytes(i32::try_from(r.bytes_max).unwrap_or(i32::MAX))
        .with_topics(vec![topic]);
    let sender = Sender { correlation_id, client_id };
    sender.encode(key::FETCH_SNAPSHOT, version, &request).unwrap_or_default()
}

/// A peer's answer; its bytes are a slice of the frame, which comes without its length. An error at the top level becomes the
/// error of the whole.
pub fn decode_fetch_snapshot_response(
    c: &QuorumContext,
    version: i16,
    frame: Bytes,
) -> Result<SnapshotBytes, FrameError> {
    let body = answer_body(&schema::FETCH_SNAPSHOT_RESPONSE, version, &frame)?;
    let answer = decode_fetch_snapshot_answer(&body, version)?;
    if answer.error != 0 {
        return Ok(SnapshotBytes::refused(ErrorCode(answer.error)));
    }
    let Some(p) = answer.partition.filter(|p| *p.topic == *c.topic && p.index == PARTITION) else {
        return other_partition("FetchSnapshot");
    };
    let (offset, epoch) = p.id;
    Ok(SnapshotBytes {
        error: ErrorCode(p.error),
        id: OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) },
        size: p.size,
        position: p.position,
        bytes: p.bytes,
    })
}
