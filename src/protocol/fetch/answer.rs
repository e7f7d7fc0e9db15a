//! Fetch answers as a replica reads them, decoded by hand: versions 4 to 18. The records stay a slice of the frame.

use super::{
    BEGIN_TAG, FLEXIBLE_FROM, LAGGING_TAG, LOG_START_FROM, NODE_ENDPOINTS_FROM, READ_REPLICA_FROM,
    SESSION_FROM, TOPIC_ID_FROM,
};
use crate::protocol::wire::{Fields, FrameError, tag_of_another_version};
use crate::types::*;
use bytes::Bytes;

// Tagged fields of a partition …
const DIVERGING_EPOCH_TAG: u32 = 0;
const CURRENT_LEADER_TAG: u32 = 1;
const SNAPSHOT_ID_TAG: u32 = 2;
// … and of the answer.
const NODE_ENDPOINTS_TAG: u32 = 0;

/// Producer id and first offset.
const ABORTED_TRANSACTION_BYTES: usize = 8 + 8;

/// A replica asks for one partition of one topic.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct FetchAnswer {
    /// 0 before version 7.
    pub(crate) error: i16,
    /// `None` where there is not exactly one.
    pub(crate) partition: Option<AnsweredPartition>,
}

/// Numbers as they were sent: what they may be is the reader's to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AnsweredPartition {
    /// Zero before version 13.
    pub(crate) topic_id: Uuid,
    pub(crate) index: i32,
    pub(crate) error: i16,
    pub(crate) high_watermark: i64,
    /// -1 where it is not told.
    pub(crate) log_start: i64,
    /// (offset, epoch), both -1 where it is not told.
    pub(crate) diverging: (i64, i32),
    /// (id, epoch), both -1 where it is not told.
    pub(crate) current_leader: (i32, i32),
    /// (offset, epoch), both -1 where it is not told.
    pub(crate) snapshot: (i64, i32),
    /// (offset, epoch), both -1 where it is not told.
    pub(crate) begin: (i64, i32),
    /// 0 where it is not told.
    pub(crate) lagging: u32,
    /// A slice of the frame.
    pub(crate) records: Option<Bytes>,
}

/// Decode a body that `check` has walked.
pub(crate) fn decode_fetch_answer(body: &Bytes, version: i16) -> Result<FetchAnswer, FrameError> {
    let mut fields = Fields::new(body, version >= FLEXIBLE_FROM);
    let mut answer = FetchAnswer::default();
    fields.cursor.i32()?; // Voters are not throttled.
    if version >= SESSION_FROM {
        answer.error = fields.cursor.i16()?;
        fields.cursor.i32()?; // There are no sessions between voters.
    }
    let topics = fields.count()?;
    let mut partitions = 0;
    for _ in 0..topics {
        let topic_id = decode_topic_id(&mut fields, version)?;
        for _ in 0..fields.count()? {
            partitions += 1;
            answer.partition = Some(decode_partition(&mut fields, topic_id, version)?);
        }
        fields.skip_tags()?;
    }
    fields.tagged(|tag, content| match tag {
        NODE_ENDPOINTS_TAG if version < NODE_ENDPOINTS_FROM => tag_of_another_version(tag, version),
        NODE_ENDPOINTS_TAG => skip_node_endpoints(content),
        _ => Ok(()),
    })?;
    if (topics, partitions) != (1, 1) {
        answer.partition = None;
    }
    Ok(answer)
}

fn decode_topic_id(fields: &mut Fields<'_>, version: i16) -> Result<Uuid, FrameError> {
    if version >= TOPIC_ID_FROM { fields.cursor.uuid() } else { fields.skip_text().map(|()| Uuid::ZERO) }
}

fn decode_partition(
    fields: &mut Fields<'_>,
    topic_id: Uuid,
    version: i16,
) -> Result<AnsweredPartition, FrameError> {
    let (index, error) = (fields.cursor.i32()?, fields.cursor.i16()?);
    let high_watermark = fields.cursor.i64()?;
    fields.cursor.i64()?; // The last stable offset is a consumer's.
    let log_start = if version >= LOG_START_FROM { fields.cursor.i64()? } else { -1 };
    for _ in 0..fields.count()? {
        fields.cursor.take(ABORTED_TRANSACTION_BYTES)?;
        fields.skip_tags()?;
    }
    if version >= READ_REPLICA_FROM {
        fields.cursor.i32()?;
    }
    let records = fields.nullable_bytes()?;
    let untold = (-1, -1);
    let (mut diverging, mut current_leader, mut snapshot) = (untold, (-1, -1), untold);
    let (mut begin, mut lagging) = (untold, 0);
    fields.tagged(|tag, content| {
        match tag {
            DIVERGING_EPOCH_TAG => {
                let epoch = content.cursor.i32()?;
                diverging = (content.cursor.i64()?, epoch);
            }
            CURRENT_LEADER_TAG => current_leader = (content.cursor.i32()?, content.cursor.i32()?),
            SNAPSHOT_ID_TAG => snapshot = (content.cursor.i64()?, content.cursor.i32()?),
            // A field of ours, but what is wrong with it is known there.
            BEGIN_TAG => begin = (content.cursor.i64()?, content.cursor.i32()?),
            LAGGING_TAG => lagging = content.cursor.i32().unwrap_or(0) as u32,
            _ => {}
        }
        Ok(())
    })?;
    Ok(AnsweredPartition {
        topic_id,
        index,
        error,
        high_watermark,
        log_start,
        diverging,
        current_leader,
        snapshot,
        begin,
        lagging,
        records,
    })
}

/// The voters' endpoints are known from the configuration.
fn skip_node_endpoints(fields: &mut Fields<'_>) -> Result<(), FrameError> {
    for _ in 0..fields.count()? {
        fields.cursor.i32()?;
        fields.skip_text()?;
        fields.cursor.i32()?;
        fields.skip_text()?;
        fields.skip_tags()?;
    }
    Ok(())
}
