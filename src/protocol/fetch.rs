//! Fetch answers, encoded by hand, so that records are never copied into one: versions 4 to 18.
//!
//! The bytes that are ours (header, fields, the 16 stamped bytes of each batch) go into one buffer; what follows a
//! stamp goes out as the slice that was received or read. Batches below [`COPY_BELOW_BYTES`] are copied, because a
//! chunk of its own costs more than that.

use super::frame::{Chunks, EncodedFrame, LENGTH_BYTES, RequestHeader};
use super::messages::StrBytes;
use super::put::{PutFields, put_node_endpoints};
use crate::record::StampedBatch;
use crate::types::*;
use bytes::{BufMut, Bytes};
use smallvec::SmallVec;

/// A batch smaller than this is copied beside the fields instead of becoming a chunk of its own.
pub const COPY_BELOW_BYTES: usize = 4096;

/// So many batches of an answer need no list of their own.
const CUTS_INLINE: usize = 8;

/// First version with compact lengths, tagged fields, and header version 1.
const FLEXIBLE_FROM: i16 = 12;
/// Version from which topics are named by their id alone.
pub const TOPIC_ID_FROM: i16 = 13;
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
    pub name: StrBytes,
    /// Told from version 13 on.
    pub topic_id: Uuid,
    /// Nearly always one.
    pub partitions: SmallVec<[FetchPartition; 1]>,
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
    let is_flexible = version >= FLEXIBLE_FROM;
    let mut out = Scatter { own: Vec::with_capacity(own_bytes_about(response)), ..Scatter::default() };
    out.own.put_slice(&[0; LENGTH_BYTES]);
    out.own.put_i32(header.correlation_id);
    out.own.put_no_tags(is_flexible);
    out.own.put_i32(0); // Nobody is throttled here.
    if version >= 7 {
        out.own.put_i16(response.error);
        out.own.put_i32(response.session_id);
    }
    out.own.put_count(is_flexible, response.topics.len());
    for topic in &response.topics {
        encode_topic(&mut out, version, topic);
    }
    if version >= NODE_ENDPOINTS_FROM {
        put_node_endpoints(&mut out.own, &response.node_endpoints);
    } else {
        out.own.put_no_tags(is_flexible);
    }
    out.into_frame()
}

fn encode_topic(out: &mut Scatter, version: i16, topic: &FetchTopic) {
    let is_flexible = version >= FLEXIBLE_FROM;
    if version >= TOPIC_ID_FROM {
        out.own.put_slice(&topic.topic_id.0.to_be_bytes());
    } else {
        out.own.put_text(is_flexible, &topic.name);
    }
    out.own.put_count(is_flexible, topic.partitions.len());
    for partition in &topic.partitions {
        encode_partition(out, version, partition);
    }
    out.own.put_no_tags(is_flexible);
}

fn encode_partition(out: &mut Scatter, version: i16, partition: &FetchPartition) {
    let is_flexible = version >= FLEXIBLE_FROM;
    out.own.put_i32(partition.index);
    out.own.put_i16(partition.error.0);
    out.own.put_i64(partition.high_watermark);
    out.own.put_i64(partition.last_stable_offset);
    if version >= 5 {
        out.own.put_i64(partition.log_start_offset);
    }
    out.own.put_count(is_flexible, 0); // Aborted transactions: none, not null.
    if version >= 11 {
        out.own.put_i32(-1); // No preferred read replica.
    }
    out.own.put_count(is_flexible, partition.records.iter().map(StampedBatch::size_bytes).sum());
    for batch in &partition.records {
        out.batch(batch);
    }
    if is_flexible {
        encode_partition_tags(out, partition);
    }
}

/// Tags 0 to 2, each only where it says something: librdkafka before 2.2.0 stumbles over default values.
fn encode_partition_tags(out: &mut Scatter, partition: &FetchPartition) {
    let leader = partition.current_leader.map(|(id, epoch)| (id.map_or(-1, |id| id.0), epoch.0));
    let leader = leader.filter(|leader| *leader != (-1, -1));
    let tags = [partition.diverging.is_some(), leader.is_some(), partition.snapshot.is_some()];
    out.own.put_unsigned_varint(tags.iter().filter(|is_there| **is_there).count());
    if let Some(diverging) = partition.diverging {
        out.own.put_tag(0, 4 + 8 + 1);
        out.own.put_i32(diverging.epoch.0);
        out.own.put_i64(diverging.offset.0);
        out.own.put_unsigned_varint(0);
    }
    if let Some((id, epoch)) = leader {
        out.own.put_tag(1, 4 + 4 + 1);
        out.own.put_i32(id);
        out.own.put_i32(epoch);
        out.own.put_unsigned_varint(0);
    }
    if let Some(snapshot) = partition.snapshot {
        out.own.put_tag(2, 8 + 4 + 1);
        out.own.put_i64(snapshot.offset.0);
        out.own.put_i32(snapshot.epoch.0);
        out.own.put_unsigned_varint(0);
    }
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
    cuts: SmallVec<[(usize, Bytes); CUTS_INLINE]>,
    shared_bytes: usize,
}

impl Scatter {
    fn batch(&mut self, batch: &StampedBatch) {
        self.own.put_slice(batch.prefix());
        if batch.size_bytes() < COPY_BELOW_BYTES {
            return self.own.put_slice(batch.rest());
        }
        self.cuts.push((self.own.len(), batch.rest().clone()));
        self.shared_bytes += batch.rest().len();
    }

    fn into_frame(mut self) -> EncodedFrame {
        let length = (self.own.len() - LENGTH_BYTES + self.shared_bytes) as u32;
        self.own[..LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        let own = Bytes::from(self.own);
        let mut chunks = Chunks::with_capacity(2 * self.cuts.len() + 1);
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
