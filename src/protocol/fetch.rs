//! Fetch, decoded and encoded by hand: versions 4 to 18. Requests are in `request`, answers as a replica reads them in
//! `answer`; here they are encoded, so that records are never copied into one.
//!
//! The bytes that are ours (header, fields, the 16 stamped bytes of each batch) go into one buffer; what follows a
//! stamp goes out as the slice that was received, a run as the slice that was read. What is below [`COPY_BELOW_BYTES`] is
//! copied, because a chunk of its own costs more than that.

mod answer;
mod request;

#[cfg(test)]
use answer::AnsweredPartition;
pub(crate) use answer::FetchAnswer;
pub use request::{FetchRequest, RequestedPartition, RequestedTopic};

pub(super) use answer::decode_fetch_answer;
pub(super) use request::{decode_fetch_request, encode_fetch_request};

use super::frame::RequestHeader;
use super::messages::StrBytes;
use super::wire::{LENGTH_BYTES, NodeEndpoints, PutFields, patch_length, put_node_endpoints};
use crate::record::{BATCH_PREFIX_BYTES, BatchList, CheckedRun, StampedBatch};
use crate::types::*;
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// A batch or a run smaller than this is copied beside the fields instead of becoming a chunk of its own.
pub(super) const COPY_BELOW_BYTES: usize = 4096;

/// So many batches of an answer need no list of their own.
const CUTS_INLINE: usize = 16;

/// First version with compact lengths, tagged fields, and header version 1.
const FLEXIBLE_FROM: i16 = 12;
/// Version from which both sides tell where their logs start.
const LOG_START_FROM: i16 = 5;
/// Version from which there are sessions, and an error at the top of an answer (KIP-227).
const SESSION_FROM: i16 = 7;
/// Version from which a consumer is told a replica to read from (KIP-392).
const READ_REPLICA_FROM: i16 = 11;
/// Version from which topics are named by their id alone.
pub(crate) const TOPIC_ID_FROM: i16 = 13;
/// Version from which the endpoints of leaders are told (KIP-951).
const NODE_ENDPOINTS_FROM: i16 = 16;

/// Fetch answer of our own: its records stay shared chunks up to the socket.
#[derive(Clone, Debug, Default)]
pub struct FetchResponse {
    /// Of the whole request (from version 7 on); 0: look at the partitions.
    pub error: i16,
    /// Always 0: we keep no sessions (KIP-227).
    pub session_id: i32,
    /// Nearly always one.
    pub topics: SmallVec<[FetchTopic; 1]>,
    /// Where the leaders are that partitions name; told from version 16 on.
    pub node_endpoints: NodeEndpoints,
}

/// One topic of a Fetch answer.
#[derive(Clone, Debug, Default)]
pub struct FetchTopic {
    /// Told up to version 12.
    pub name: StrBytes,
    /// Told from version 13 on.
    pub topic_id: Uuid,
    /// Nearly always one.
    pub partitions: SmallVec<[FetchPartition; 1]>,
}

/// One partition of a Fetch answer.
#[derive(Clone, Debug)]
pub struct FetchPartition {
    /// Its number within the topic.
    pub index: i32,
    /// `NONE` where there may be records.
    pub error: ErrorCode,
    /// -1: unknown.
    pub high_watermark: i64,
    /// Voters always get -1, consumers the high watermark.
    pub last_stable_offset: i64,
    /// Offset of the first record that is still there.
    pub log_start_offset: i64,
    /// The replica must cut its log to this end (KIP-595); told from version 12 on, like the two below.
    pub diverging: Option<OffsetAndEpoch>,
    /// Who leads, and in which epoch, where the replica has asked the wrong node.
    pub current_leader: Option<(Option<NodeId>, Epoch)>,
    /// The replica must fetch this snapshot instead (KIP-630). Boxed, for hardly any answer has one.
    pub snapshot: Option<Box<NamedSnapshot>>,
    /// To replicas: voters that are not in sync, a bit for each place among them (a field of our own).
    pub lagging: u32,
    /// Whole batches from the fetch offset on, none where there are none yet.
    pub records: BatchList,
}

/// A snapshot that a leader names to a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NamedSnapshot {
    /// End offset and epoch.
    pub id: OffsetAndEpoch,
    /// Where the leader's log begins, and the epoch of the record before that (a field of our own).
    pub begin: Option<OffsetAndEpoch>,
}

/// Encode as the answer to a request of this header, at the end of `out`. Up to the last shared slice it goes to `chunks`, with
/// all that stood in `out` before; the rest stays there. Gives the frame's bytes.
pub(crate) fn encode_fetch_response(
    header: &RequestHeader,
    response: &FetchResponse,
    out: &mut BytesMut,
    chunks: &mut impl Extend<Bytes>,
) -> usize {
    let version = header.api_version;
    let is_flexible = version >= FLEXIBLE_FROM;
    out.reserve(own_bytes_about(response));
    let mut out = Scatter { start: out.len(), own: out, cuts: SmallVec::new(), shared_bytes: 0 };
    out.own.put_slice(&[0; LENGTH_BYTES]);
    out.own.put_i32(header.correlation_id);
    out.own.put_no_tags(is_flexible);
    out.own.put_i32(0); // Nobody is throttled here.
    if version >= SESSION_FROM {
        out.own.put_i16(response.error);
        out.own.put_i32(response.session_id);
    }
    out.own.put_count(is_flexible, response.topics.len());
    for topic in &response.topics {
        encode_topic(&mut out, version, topic);
    }
    if version >= NODE_ENDPOINTS_FROM {
        put_node_endpoints(out.own, &response.node_endpoints);
    } else {
        out.own.put_no_tags(is_flexible);
    }
    out.finish(chunks)
}

fn encode_topic(out: &mut Scatter<'_>, version: i16, topic: &FetchTopic) {
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

fn encode_partition(out: &mut Scatter<'_>, version: i16, partition: &FetchPartition) {
    let is_flexible = version >= FLEXIBLE_FROM;
    out.own.put_i32(partition.index);
    out.own.put_i16(partition.error.0);
    out.own.put_i64(partition.high_watermark);
    out.own.put_i64(partition.last_stable_offset);
    if version >= LOG_START_FROM {
        out.own.put_i64(partition.log_start_offset);
    }
    out.own.put_count(is_flexible, 0); // Aborted transactions: none, not null.
    if version >= READ_REPLICA_FROM {
        out.own.put_i32(-1); // No preferred read replica.
    }
    out.own.put_count(is_flexible, partition.records.size_bytes());
    partition.records.runs().iter().for_each(|run| out.run(run));
    partition.records.batches().iter().for_each(|batch| out.batch(batch));
    if is_flexible {
        encode_partition_tags(out, partition);
    }
}

// Of our own: Kafka passes over tags that it does not know, and counts its own from 0.
const LAGGING_TAG: u32 = 0x6b00;
const BEGIN_TAG: u32 = 0x6b01;

/// Tags 0 to 2 and ours, each only where it says something: librdkafka before 2.2.0 stumbles over default values.
fn encode_partition_tags(out: &mut Scatter<'_>, partition: &FetchPartition) {
    let leader = partition.current_leader.map(|(id, epoch)| (id.map_or(-1, |id| id.0), epoch.0));
    let leader = leader.filter(|leader| *leader != (-1, -1));
    let is_lagging = partition.lagging != 0;
    let snapshot = partition.snapshot.as_deref().map(|named| named.id);
    let begin = partition.snapshot.as_deref().and_then(|named| named.begin);
    let tags =
        [partition.diverging.is_some(), leader.is_some(), snapshot.is_some(), is_lagging, begin.is_some()];
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
    if let Some(snapshot) = snapshot {
        out.own.put_tag(2, 8 + 4 + 1);
        out.own.put_i64(snapshot.offset.0);
        out.own.put_i32(snapshot.epoch.0);
        out.own.put_unsigned_varint(0);
    }
    if is_lagging {
        out.own.put_tag(LAGGING_TAG as usize, size_of::<u32>());
        out.own.put_u32(partition.lagging);
    }
    if let Some(begin) = begin {
        out.own.put_tag(BEGIN_TAG as usize, size_of::<i64>() + size_of::<i32>());
        out.own.put_i64(begin.offset.0);
        out.own.put_i32(begin.epoch.0);
    }
}

/// Capacity for the bytes that are copied; a guess from above that saves growing.
fn own_bytes_about(response: &FetchResponse) -> usize {
    let per_run = |run: &CheckedRun| if is_copied(run.size_bytes()) { run.size_bytes() } else { 0 };
    let per_batch = |batch: &StampedBatch| {
        if is_copied(batch.size_bytes()) { batch.size_bytes() } else { BATCH_PREFIX_BYTES }
    };
    let records = |records: &BatchList| {
        records.runs().iter().map(per_run).chain(records.batches().iter().map(per_batch)).sum::<usize>()
    };
    let partition = |partition: &FetchPartition| 128 + records(&partition.records);
    let topics =
        |topic: &FetchTopic| 64 + topic.name.len() + topic.partitions.iter().map(partition).sum::<usize>();
    64 + response.topics.iter().map(topics).sum::<usize>()
        + response.node_endpoints.iter().map(|(_, endpoint)| 16 + endpoint.host.len()).sum::<usize>()
}

/// What an answer does not copy of these.
pub(crate) fn shared_bytes(records: &BatchList) -> usize {
    let runs = records.runs().iter().map(CheckedRun::size_bytes).filter(|bytes| !is_copied(*bytes));
    let batches = records.batches().iter().filter(|batch| !is_copied(batch.size_bytes()));
    runs.chain(batches.map(|batch| batch.rest().len())).sum()
}

fn is_copied(size_bytes: usize) -> bool {
    size_bytes < COPY_BELOW_BYTES
}

/// One buffer of our own bytes, and the shared slices that stand between them.
struct Scatter<'a> {
    own: &'a mut BytesMut,
    /// Where the frame begins in it.
    start: usize,
    /// A shared slice follows the first so many bytes of `own`.
    cuts: SmallVec<[(usize, Bytes); CUTS_INLINE]>,
    shared_bytes: usize,
}

impl Scatter<'_> {
    fn batch(&mut self, batch: &StampedBatch) {
        self.own.put_slice(batch.prefix());
        self.bytes(batch.rest(), is_copied(batch.size_bytes()));
    }

    fn run(&mut self, run: &CheckedRun) {
        self.bytes(run.bytes(), is_copied(run.size_bytes()));
    }

    fn bytes(&mut self, bytes: &Bytes, is_copied: bool) {
        if is_copied {
            return self.own.put_slice(bytes);
        }
        self.cuts.push((self.own.len(), bytes.clone()));
        self.shared_bytes += bytes.len();
    }

    fn finish(self, chunks: &mut impl Extend<Bytes>) -> usize {
        patch_length(self.own, self.start, self.shared_bytes);
        let frame_bytes = self.own.len() - self.start + self.shared_bytes;
        let mut taken = 0;
        for (at, shared) in self.cuts {
            let own = self.own.split_to(at - taken).freeze();
            // Nothing of ours stands between two runs.
            chunks.extend(Some(own).filter(|own| !own.is_empty()).into_iter().chain([shared]));
            taken = at;
        }
        frame_bytes
    }
}

#[cfg(test)]
mod tests;
