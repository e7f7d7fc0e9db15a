//! Fetch answers, encoded by hand, so that records are never copied into one: versions 4 to 18.
//!
//! The bytes that are ours (header, fields, the 16 stamped bytes of each batch) go into one buffer; what follows a
//! stamp goes out as the slice that was received or read. Batches below [`COPY_BELOW_BYTES`] are copied, because a
//! chunk of its own costs more than that.

use super::frame::{EncodedFrame, LENGTH_BYTES, RequestHeader};
use crate::record::StampedBatch;
use crate::types::*;
use bytes::Bytes;

/// A batch smaller than this is copied beside the fields instead of becoming a chunk of its own.
pub const COPY_BELOW_BYTES: usize = 4096;

/// First version with compact lengths, tagged fields, and header version 1.
const FLEXIBLE_FROM: i16 = 12;
/// Version from which topics are named by their id alone.
const TOPIC_ID_FROM: i16 = 13;
/// Version from which the endpoints of leaders are told (KIP-951).
const NODE_ENDPOINTS_FROM: i16 = 16;

/// Fetch answer of our own: its records stay shared chunks up to the socket.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    pub error: i16,
    pub session_id: i32,
    pub topics: Vec<FetchTopic>,
    pub node_endpoints: Vec<(NodeId, Endpoint)>,
}

#[derive(Clone, Debug, Default)]
pub struct FetchTopic {
    /// Told up to version 12.
    pub name: String,
    /// Told from version 13 on.
    pub topic_id: Uuid,
    pub partitions: Vec<FetchPartition>,
}

#[derive(Clone, Debug)]
pub struct FetchPartition {
    pub index: i32,
    pub error: ErrorCode,
    /// -1: unknown.
    pub high_watermark: i64,
    /// Voters always get -1, consumers the high watermark.
    pub last_stable_offset: i64,
    pub log_start_offset: i64,
    /// The replica must cut its log to this end (KIP-595); told from version 12 on, like the two below.
    pub diverging: Option<OffsetAndEpoch>,
    pub current_leader: Option<(Option<NodeId>, Epoch)>,
    /// The replica must fetch this snapshot instead (KIP-630).
    pub snapshot: Option<OffsetAndEpoch>,
    pub records: Vec<StampedBatch>,
}

/// Encode as the answer to a request of this header.
pub(super) fn encode_fetch_response(header: &RequestHeader, response: &FetchResponse) -> EncodedFrame {
    let version = header.api_version;
    let mut out =
        Scatter { own: Vec::with_capacity(own_bytes_about(response)), cuts: Vec::new(), shared_bytes: 0 };
    out.own.extend_from_slice(&[0; LENGTH_BYTES]);
    out.i32(header.correlation_id);
    out.no_tags(version);
    out.i32(0); // Nobody is throttled here.
    if version >= 7 {
        out.i16(response.error);
        out.i32(response.session_id);
    }
    out.count(version, response.topics.len());
    for topic in &response.topics {
        encode_topic(&mut out, version, topic);
    }
    encode_node_endpoints(&mut out, version, &response.node_endpoints);
    out.into_frame()
}

fn encode_topic(out: &mut Scatter, version: i16, topic: &FetchTopic) {
    if version >= TOPIC_ID_FROM {
        out.bytes(&topic.topic_id.0.to_be_bytes());
    } else {
        out.string(version, &topic.name);
    }
    out.count(version, topic.partitions.len());
    for partition in &topic.partitions {
        encode_partition(out, version, partition);
    }
    out.no_tags(version);
}

fn encode_partition(out: &mut Scatter, version: i16, partition: &FetchPartition) {
    out.i32(partition.index);
    out.i16(partition.error.0);
    out.i64(partition.high_watermark);
    out.i64(partition.last_stable_offset);
    if version >= 5 {
        out.i64(partition.log_start_offset);
    }
    out.count(version, 0); // Aborted transactions: none, not null.
    if version >= 11 {
        out.i32(-1); // No preferred read replica.
    }
    out.count(version, partition.records.iter().map(StampedBatch::size_bytes).sum());
    for batch in &partition.records {
        out.batch(batch);
    }
    if version >= FLEXIBLE_FROM {
        encode_partition_tags(out, partition);
    }
}

/// Tags 0 to 2, each only where it says something: librdkafka before 2.2.0 stumbles over default values.
fn encode_partition_tags(out: &mut Scatter, partition: &FetchPartition) {
    let leader = partition.current_leader.map(|(id, epoch)| (id.map_or(-1, |id| id.0), epoch.0));
    let leader = leader.filter(|leader| *leader != (-1, -1));
    let tags = [partition.diverging.is_some(), leader.is_some(), partition.snapshot.is_some()];
    out.unsigned_varint(tags.iter().filter(|is_there| **is_there).count());
    if let Some(diverging) = partition.diverging {
        out.tag(0, 4 + 8 + 1);
        out.i32(diverging.epoch.0);
        out.i64(diverging.offset.0);
        out.unsigned_varint(0);
    }
    if let Some((id, epoch)) = leader {
        out.tag(1, 4 + 4 + 1);
        out.i32(id);
        out.i32(epoch);
        out.unsigned_varint(0);
    }
    if let Some(snapshot) = partition.snapshot {
        out.tag(2, 8 + 4 + 1);
        out.i64(snapshot.offset.0);
        out.i32(snapshot.epoch.0);
        out.unsigned_varint(0);
    }
}

fn encode_node_endpoints(out: &mut Scatter, version: i16, endpoints: &[(NodeId, Endpoint)]) {
    if version < NODE_ENDPOINTS_FROM || endpoints.is_empty() {
        return out.no_tags(version);
    }
    let mut tag = Scatter::default();
    tag.count(version, endpoints.len());
    for (id, endpoint) in endpoints {
        tag.i32(id.0);
        tag.string(version, &endpoint.host);
        tag.i32(i32::from(endpoint.port));
        tag.unsigned_varint(0); // No rack: null.
        tag.unsigned_varint(0);
    }
    out.unsigned_varint(1);
    out.tag(0, tag.own.len());
    out.bytes(&tag.own);
}

/// Capacity for the bytes that are copied; a guess from above that saves growing.
fn own_bytes_about(response: &FetchResponse) -> usize {
    let per_batch = |batch: &StampedBatch| batch.size_bytes().min(COPY_BELOW_BYTES);
    let batches = |partition: &FetchPartition| 128 + partition.records.iter().map(per_batch).sum::<usize>();
    let topics =
        |topic: &FetchTopic| 64 + topic.name.len() + topic.partitions.iter().map(batches).sum::<usize>();
    64 + response.topics.iter().map(topics).sum::<usize>()
        + response.node_endpoints.iter().map(|(_, endpoint)| 16 + endpoint.host.len()).sum::<usize>()
}

/// One buffer of our own bytes, and the shared slices that stand between them.
#[derive(Default)]
struct Scatter {
    own: Vec<u8>,
    /// A shared slice follows the first so many bytes of `own`.
    cuts: Vec<(usize, Bytes)>,
    shared_bytes: usize,
}

impl Scatter {
    fn bytes(&mut self, bytes: &[u8]) {
        self.own.extend_from_slice(bytes);
    }

    fn i16(&mut self, value: i16) {
        self.bytes(&value.to_be_bytes());
    }

    fn i32(&mut self, value: i32) {
        self.bytes(&value.to_be_bytes());
    }

    fn i64(&mut self, value: i64) {
        self.bytes(&value.to_be_bytes());
    }

    fn unsigned_varint(&mut self, mut value: usize) {
        while value >= 0x80 {
            self.own.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.own.push(value as u8);
    }

    /// Count of an array, or length of bytes.
    fn count(&mut self, version: i16, count: usize) {
        if version >= FLEXIBLE_FROM { self.unsigned_varint(count + 1) } else { self.i32(count as i32) }
    }

    fn string(&mut self, version: i16, text: &str) {
        if version >= FLEXIBLE_FROM {
            self.unsigned_varint(text.len() + 1)
        } else {
            self.i16(text.len() as i16)
        }
        self.bytes(text.as_bytes());
    }

    fn tag(&mut self, tag: usize, bytes: usize) {
        self.unsigned_varint(tag);
        self.unsigned_varint(bytes);
    }

    fn no_tags(&mut self, version: i16) {
        if version >= FLEXIBLE_FROM {
            self.unsigned_varint(0);
        }
    }

    fn batch(&mut self, batch: &StampedBatch) {
        self.bytes(batch.prefix());
        if batch.size_bytes() < COPY_BELOW_BYTES {
            return self.bytes(batch.rest());
        }
        self.cuts.push((self.own.len(), batch.rest().clone()));
        self.shared_bytes += batch.rest().len();
    }

    fn into_frame(mut self) -> EncodedFrame {
        let length = (self.own.len() - LENGTH_BYTES + self.shared_bytes) as u32;
        self.own[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        let own = Bytes::from(self.own);
        let mut chunks = Vec::with_capacity(2 * self.cuts.len() + 1);
        let mut from = 0;
        for (at, shared) in self.cuts {
            chunks.push(own.slice(from..at));
            chunks.push(shared);
            from = at;
        }
        if from < own.len() {
            chunks.push(own.slice(from..));
        }
        EncodedFrame { chunks }
    }
}
