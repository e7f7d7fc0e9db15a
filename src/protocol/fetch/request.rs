//! Fetch requests, decoded and encoded by hand: versions 4 to 18. Each follower sends one for each commit.
//!
//! What is decoded shares nothing with its frame, so that a Fetch that waits does not pin a receive buffer.

use super::{FLEXIBLE_FROM, LOG_START_FROM, SESSION_FROM, TOPIC_ID_FROM};
use crate::protocol::wire::{Fields, FrameError, PutFields, ShortText, tag_of_another_version, varint_bytes};
use crate::raft::Unfit;
use crate::types::*;
use bytes::{BufMut, Bytes};
use smallvec::SmallVec;

/// Version from which a fetcher tells which epoch it takes for the leader's (KIP-320).
const LEADER_EPOCH_FROM: i16 = 9;
/// Version from which a consumer tells its rack (KIP-392).
const RACK_FROM: i16 = 11;
/// Version from which the replica id stands in a tagged field (KIP-903), until then at the top.
const REPLICA_STATE_FROM: i16 = 15;
/// Version from which a replica tells its directory (KIP-853).
const DIRECTORY_ID_FROM: i16 = 17;
/// Version from which a replica tells the high watermark that it knows (KIP-1166).
const HIGH_WATERMARK_FROM: i16 = 18;

// Tagged fields of a request …
const CLUSTER_ID_TAG: u32 = 0;
const REPLICA_STATE_TAG: u32 = 1;
const REPLICA_STATE_BYTES: usize = 4 + 8 + 1;
// … and of a partition. One more stands in `schema` too, in `decode_partition_tag` and in `encode_partition_tags`.
const DIRECTORY_ID_TAG: u32 = 0;
const HIGH_WATERMARK_TAG: u32 = 1;
/// Our own: why a replica should not lead, one byte. Kafka passes over tags that it does not know, and counts its own from 0.
const UNFIT_TAG: u32 = 0x6b00;
/// And its wall time, an i64 of ms.
const CLOCK_TAG: u32 = 0x6b01;
const UNFIT: [(u8, Unfit); 3] = [(1, Unfit::DiskFull), (2, Unfit::LogDamaged), (3, Unfit::ClockBehind)];

/// A fetcher that says so is not woken by the high watermark; what an older version means.
const NO_HIGH_WATERMARK: i64 = i64::MAX;

/// Of a Fetch what is gone by here. Isolation level, rack, forgotten topics and the epoch of the fetcher's process are passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchRequest {
    /// Told from version 12 on, by replicas.
    pub cluster_id: Option<ShortText>,
    /// -1: a consumer.
    pub replica_id: i32,
    /// The answer may be kept back for so long until there is enough of it.
    pub max_wait_ms: i32,
    /// What is enough, in bytes.
    pub min_bytes: i32,
    /// Of the whole answer; the first batch is given even if it is larger.
    pub max_bytes: i32,
    /// Sessions are KIP-227's; 0 before version 7.
    pub session_id: i32,
    /// -1 before version 7.
    pub session_epoch: i32,
    /// Nearly always one.
    pub topics: SmallVec<[RequestedTopic; 1]>,
    /// A replica of ours that should not lead.
    pub unfit: Option<Unfit>,
    /// Of a replica of ours, now and then.
    pub wall_ms: Option<i64>,
}

/// One topic of a Fetch.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestedTopic {
    /// Empty from version 13 on.
    pub name: ShortText,
    /// Zero before version 13.
    pub id: Uuid,
    /// Nearly always one.
    pub partitions: SmallVec<[RequestedPartition; 1]>,
}

/// One partition of a Fetch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestedPartition {
    /// Its number within the topic.
    pub index: i32,
    /// -1: not known, or before version 9.
    pub current_leader_epoch: i32,
    /// Where to read from. Of a replica: all below it is durable there.
    pub fetch_offset: i64,
    /// -1 for a consumer, and before version 12.
    pub last_fetched_epoch: i32,
    /// Where the log of a replica starts. -1: it does not say, or before version 5.
    pub log_start: i64,
    /// Of this partition's records.
    pub max_bytes: i32,
    /// Zero for a consumer, and before version 17.
    pub directory_id: Uuid,
    /// -1: not known. `i64::MAX`: "do not wake me", or before version 18.
    pub high_watermark: i64,
}

/// As an old version means it.
impl Default for FetchRequest {
    fn default() -> FetchRequest {
        FetchRequest {
            cluster_id: None,
            replica_id: -1,
            max_wait_ms: 0,
            min_bytes: 0,
            max_bytes: i32::MAX,
            session_id: 0,
            session_epoch: -1,
            topics: SmallVec::new(),
            unfit: None,
            wall_ms: None,
        }
    }
}

/// As an old version means it.
impl Default for RequestedPartition {
    fn default() -> RequestedPartition {
        RequestedPartition {
            index: 0,
            current_leader_epoch: -1,
            fetch_offset: 0,
            last_fetched_epoch: -1,
            log_start: -1,
            max_bytes: 0,
            directory_id: Uuid::ZERO,
            high_watermark: NO_HIGH_WATERMARK,
        }
    }
}

impl FetchRequest {
    /// A voter's or an observer's. A consumer has no replica id.
    pub fn is_of_replica(&self) -> bool {
        self.replica_id >= 0
    }
}

/// Decode a body that `check` has walked.
pub(crate) fn decode_fetch_request(body: &Bytes, version: i16) -> Result<FetchRequest, FrameError> {
    let mut fields = Fields::new(body, version >= FLEXIBLE_FROM);
    let mut request = FetchRequest::default();
    if version < REPLICA_STATE_FROM {
        request.replica_id = fields.cursor.i32()?;
    }
    request.max_wait_ms = fields.cursor.i32()?;
    request.min_bytes = fields.cursor.i32()?;
    request.max_bytes = fields.cursor.i32()?;
    fields.cursor.i8()?; // Isolation level: there are no transactions here.
    if version >= SESSION_FROM {
        (request.session_id, request.session_epoch) = (fields.cursor.i32()?, fields.cursor.i32()?);
    }
    let topics = fields.count()?;
    request.topics.reserve_exact(topics);
    for _ in 0..topics {
        request.topics.push(decode_topic(&mut fields, version)?);
    }
    if version >= SESSION_FROM {
        skip_forgotten_topics(&mut fields, version)?;
    }
    if version >= RACK_FROM {
        fields.skip_text()?;
    }
    fields.tagged(|tag, content| decode_request_tag(&mut request, tag, content, version))?;
    Ok(request)
}

fn decode_request_tag(
    request: &mut FetchRequest,
    tag: u32,
    content: &mut Fields<'_>,
    version: i16,
) -> Result<(), FrameError> {
    match tag {
        CLUSTER_ID_TAG => request.cluster_id = content.nullable_short_text()?,
        REPLICA_STATE_TAG if version < REPLICA_STATE_FROM => return tag_of_another_version(tag, version),
        // The epoch of its process comes behind it: only brokers have one.
        REPLICA_STATE_TAG => request.replica_id = content.cursor.i32()?,
        UNFIT_TAG => {
            let told = content.cursor.i8().unwrap_or(0) as u8;
            request.unfit = UNFIT.iter().find(|(byte, _)| *byte == told).map(|(_, unfit)| *unfit);
        }
        CLOCK_TAG => request.wall_ms = content.cursor.i64().ok(),
        _ => {}
    }
    Ok(())
}

fn decode_topic(fields: &mut Fields<'_>, version: i16) -> Result<RequestedTopic, FrameError> {
    let mut topic = RequestedTopic::default();
    if version >= TOPIC_ID_FROM {
        topic.id = fields.cursor.uuid()?;
    } else {
        topic.name = fields.nullable_short_text()?.unwrap_or_default();
    }
    let partitions = fields.count()?;
    topic.partitions.reserve_exact(partitions);
    for _ in 0..partitions {
        topic.partitions.push(decode_partition(fields, version)?);
    }
    fields.skip_tags()?;
    Ok(topic)
}

fn decode_partition(fields: &mut Fields<'_>, version: i16) -> Result<RequestedPartition, FrameError> {
    let mut partition = RequestedPartition { index: fields.cursor.i32()?, ..RequestedPartition::default() };
    if version >= LEADER_EPOCH_FROM {
        partition.current_leader_epoch = fields.cursor.i32()?;
    }
    partition.fetch_offset = fields.cursor.i64()?;
    if version >= FLEXIBLE_FROM {
        partition.last_fetched_epoch = fields.cursor.i32()?;
    }
    if version >= LOG_START_FROM {
        partition.log_start = fields.cursor.i64()?;
    }
    partition.max_bytes = fields.cursor.i32()?;
    fields.tagged(|tag, content| decode_partition_tag(&mut partition, tag, content, version))?;
    Ok(partition)
}

fn decode_partition_tag(
    partition: &mut RequestedPartition,
    tag: u32,
    content: &mut Fields<'_>,
    version: i16,
) -> Result<(), FrameError> {
    match tag {
        DIRECTORY_ID_TAG if version < DIRECTORY_ID_FROM => return tag_of_another_version(tag, version),
        HIGH_WATERMARK_TAG if version < HIGH_WATERMARK_FROM => return tag_of_another_version(tag, version),
        DIRECTORY_ID_TAG => partition.directory_id = content.cursor.uuid()?,
        HIGH_WATERMARK_TAG => partition.high_watermark = content.cursor.i64()?,
        _ => {}
    }
    Ok(())
}

/// There are no sessions here, so nothing can be forgotten.
fn skip_forgotten_topics(fields: &mut Fields<'_>, version: i16) -> Result<(), FrameError> {
    for _ in 0..fields.count()? {
        if version >= TOPIC_ID_FROM {
            fields.cursor.uuid()?;
        } else {
            fields.skip_text()?;
        }
        for _ in 0..fields.count()? {
            fields.cursor.i32()?;
        }
        fields.skip_tags()?;
    }
    Ok(())
}

/// Encode the body, without what the version does not have. What is not kept of a Fetch is as Kafka's voters send it.
pub(crate) fn encode_fetch_request(out: &mut impl BufMut, request: &FetchRequest, version: i16) {
    let is_flexible = version >= FLEXIBLE_FROM;
    if version < REPLICA_STATE_FROM {
        out.put_i32(request.replica_id);
    }
    out.put_i32(request.max_wait_ms);
    out.put_i32(request.min_bytes);
    out.put_i32(request.max_bytes);
    out.put_i8(0); // Read uncommitted.
    if version >= SESSION_FROM {
        out.put_i32(request.session_id);
        out.put_i32(request.session_epoch);
    }
    out.put_count(is_flexible, request.topics.len());
    for topic in &request.topics {
        encode_topic(out, topic, version);
    }
    if version >= SESSION_FROM {
        out.put_count(is_flexible, 0); // Forgotten topics.
    }
    if version >= RACK_FROM {
        out.put_text(is_flexible, "");
    }
    if is_flexible {
        encode_request_tags(out, request, version);
    }
}

/// Only what differs from its default, as Kafka does.
fn encode_request_tags(out: &mut impl BufMut, request: &FetchRequest, version: i16) {
    let replica_id = Some(request.replica_id).filter(|id| version >= REPLICA_STATE_FROM && *id != -1);
    let unfit = UNFIT.iter().find(|(_, unfit)| Some(*unfit) == request.unfit).map(|(byte, _)| *byte);
    let is_there = [request.cluster_id.is_some(), replica_id.is_some(), unfit.is_some()];
    let tags = is_there.into_iter().chain([request.wall_ms.is_some()]);
    out.put_unsigned_varint(tags.filter(|is_there| *is_there).count());
    if let Some(cluster_id) = &request.cluster_id {
        out.put_tag(CLUSTER_ID_TAG as usize, varint_bytes(cluster_id.len() + 1) + cluster_id.len());
        out.put_text(true, cluster_id);
    }
    if let Some(replica_id) = replica_id {
        out.put_tag(REPLICA_STATE_TAG as usize, REPLICA_STATE_BYTES);
        out.put_i32(replica_id);
        out.put_i64(-1); // No broker, so its process has no epoch.
        out.put_unsigned_varint(0);
    }
    if let Some(unfit) = unfit {
        out.put_tag(UNFIT_TAG as usize, size_of::<u8>());
        out.put_u8(unfit);
    }
    if let Some(wall_ms) = request.wall_ms {
        out.put_tag(CLOCK_TAG as usize, size_of::<i64>());
        out.put_i64(wall_ms);
    }
}

fn encode_topic(out: &mut impl BufMut, topic: &RequestedTopic, version: i16) {
    let is_flexible = version >= FLEXIBLE_FROM;
    if version >= TOPIC_ID_FROM {
        out.put_u128(topic.id.0);
    } else {
        out.put_text(is_flexible, &topic.name);
    }
    out.put_count(is_flexible, topic.partitions.len());
    for partition in &topic.partitions {
        encode_partition(out, partition, version);
    }
    out.put_no_tags(is_flexible);
}

fn encode_partition(out: &mut impl BufMut, partition: &RequestedPartition, version: i16) {
    out.put_i32(partition.index);
    if version >= LEADER_EPOCH_FROM {
        out.put_i32(partition.current_leader_epoch);
    }
    out.put_i64(partition.fetch_offset);
    if version >= FLEXIBLE_FROM {
        out.put_i32(partition.last_fetched_epoch);
    }
    if version >= LOG_START_FROM {
        out.put_i64(partition.log_start);
    }
    out.put_i32(partition.max_bytes);
    if version >= FLEXIBLE_FROM {
        encode_partition_tags(out, partition, version);
    }
}

/// Only what differs from its default, as Kafka does.
fn encode_partition_tags(out: &mut impl BufMut, partition: &RequestedPartition, version: i16) {
    let directory_id =
        Some(partition.directory_id).filter(|id| version >= DIRECTORY_ID_FROM && *id != Uuid::ZERO);
    let high_watermark = Some(partition.high_watermark)
        .filter(|known| version >= HIGH_WATERMARK_FROM && *known != NO_HIGH_WATERMARK);
    out.put_unsigned_varint(usize::from(directory_id.is_some()) + usize::from(high_watermark.is_some()));
    if let Some(id) = directory_id {
        out.put_tag(DIRECTORY_ID_TAG as usize, size_of::<u128>());
        out.put_u128(id.0);
    }
    if let Some(high_watermark) = high_watermark {
        out.put_tag(HIGH_WATERMARK_TAG as usize, size_of::<i64>());
        out.put_i64(high_watermark);
    }
}
