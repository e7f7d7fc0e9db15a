//! Produce, decoded and encoded by hand: versions 3 to 13. A batch of many records comes through here thousands of times a
//! second, and the structs of the kafka-protocol crate take a list on the heap for each level of a message.
//!
//! Requests are walked by `check` first, like all others; records stay slices of the frame.

use super::frame::RequestHeader;
use super::messages::StrBytes;
use super::wire::{Fields, FrameError, NodeEndpoints, PutFields, patch_length, put_node_endpoints};
use crate::types::*;
use bytes::{BufMut, Bytes, BytesMut};
use smallvec::SmallVec;

/// First version with compact lengths and tagged fields, and with header version 1 in the answer.
const FLEXIBLE_FROM: i16 = 9;
/// Version from which topics are named by their id alone (KIP-516).
pub(crate) const TOPIC_ID_FROM: i16 = 13;
/// Version from which an error has a text (KIP-467).
const ERROR_MESSAGE_FROM: i16 = 8;
/// Version from which the log start offset is told.
const LOG_START_FROM: i16 = 5;
/// Version from which a refused producer is told who leads (KIP-951).
const CURRENT_LEADER_FROM: i16 = 10;
const CURRENT_LEADER_BYTES: usize = 4 + 4 + 1;

/// Nearly all requests and answers have one topic with one partition.
#[derive(Clone, Debug, Default)]
pub struct ProduceRequest {
    /// Set by transactional producers, which are refused.
    pub transactional_id: Option<StrBytes>,
    /// -1: all in-sync replicas, 0: no answer, 1: the leader.
    pub acks: i16,
    /// How long the answer may wait for the other replicas.
    pub timeout_ms: i32,
    /// Nearly always one.
    pub topics: SmallVec<[ProduceTopic; 1]>,
}

/// One topic of a Produce.
#[derive(Clone, Debug, Default)]
pub struct ProduceTopic {
    /// Empty from version 13 on.
    pub name: StrBytes,
    /// Zero before version 13.
    pub id: Uuid,
    /// Nearly always one.
    pub partitions: SmallVec<[ProducePartition; 1]>,
}

/// What is to be appended to one partition.
#[derive(Clone, Debug, Default)]
pub struct ProducePartition {
    /// Its number within the topic.
    pub index: i32,
    /// A slice of the frame.
    pub records: Option<Bytes>,
}

/// What has become of a Produce.
#[derive(Clone, Debug, Default)]
pub struct ProduceResponse {
    /// As in the request, in its order.
    pub topics: SmallVec<[ProducedTopic; 1]>,
    /// Where the leaders are that partitions name; told from version 10 on.
    pub node_endpoints: NodeEndpoints,
}

/// One topic of a Produce answer.
#[derive(Clone, Debug, Default)]
pub struct ProducedTopic {
    /// Told up to version 12.
    pub name: StrBytes,
    /// Told from version 13 on.
    pub id: Uuid,
    /// As in the request, in its order.
    pub partitions: SmallVec<[ProducedPartition; 1]>,
}

/// What has become of one partition's records.
#[derive(Clone, Debug)]
pub struct ProducedPartition {
    /// Its number within the topic.
    pub index: i32,
    /// `NONE`: appended, and as durable as `acks` asks for.
    pub error: ErrorCode,
    /// -1 with an error.
    pub base_offset: i64,
    /// -1 with an error; told from version 5 on.
    pub log_start_offset: i64,
    /// Records that are to blame, and why; told from version 8 on.
    pub record_errors: Vec<(i32, String)>,
    /// Told from version 8 on.
    pub error_message: Option<String>,
    /// Told from version 10 on.
    pub current_leader: Option<(NodeId, Epoch)>,
}

/// Decode a body that `check` has walked. In text that is no UTF-8 what is malformed is replaced, as Kafka does.
pub(super) fn decode_produce_request(body: &Bytes, version: i16) -> Result<ProduceRequest, FrameError> {
    let mut fields = Fields::new(body, version >= FLEXIBLE_FROM);
    let transactional_id = fields.nullable_text()?;
    let (acks, timeout_ms) = (fields.cursor.i16()?, fields.cursor.i32()?);
    let mut topics = SmallVec::new();
    for _ in 0..fields.count()? {
        topics.push(decode_topic(&mut fields, version)?);
    }
    fields.skip_tags()?;
    Ok(ProduceRequest { transactional_id, acks, timeout_ms, topics })
}

fn decode_topic(fields: &mut Fields<'_>, version: i16) -> Result<ProduceTopic, FrameError> {
    let mut topic = ProduceTopic::default();
    if version >= TOPIC_ID_FROM {
        topic.id = fields.cursor.uuid()?;
    } else {
        topic.name = fields.nullable_text()?.unwrap_or_default();
    }
    for _ in 0..fields.count()? {
        let (index, records) = (fields.cursor.i32()?, fields.nullable_bytes()?);
        fields.skip_tags()?;
        topic.partitions.push(ProducePartition { index, records });
    }
    fields.skip_tags()?;
    Ok(topic)
}

/// Encode as the answer to a request of this header, at the end of `out`.
pub(crate) fn encode_produce_response(
    header: &RequestHeader,
    response: &ProduceResponse,
    out: &mut BytesMut,
) {
    let (version, start) = (header.api_version, out.len());
    let is_flexible = version >= FLEXIBLE_FROM;
    out.put_u32(0);
    out.put_i32(header.correlation_id);
    out.put_no_tags(is_flexible);
    out.put_count(is_flexible, response.topics.len());
    for topic in &response.topics {
        encode_topic(out, version, topic);
    }
    out.put_i32(0); // Nobody is throttled here.
    if version >= CURRENT_LEADER_FROM {
        put_node_endpoints(out, &response.node_endpoints);
    } else {
        out.put_no_tags(is_flexible);
    }
    patch_length(out, start, 0);
}

fn encode_topic(out: &mut BytesMut, version: i16, topic: &ProducedTopic) {
    let is_flexible = version >= FLEXIBLE_FROM;
    if version >= TOPIC_ID_FROM {
        out.put_slice(&topic.id.0.to_be_bytes());
    } else {
        out.put_text(is_flexible, &topic.name);
    }
    out.put_count(is_flexible, topic.partitions.len());
    for partition in &topic.partitions {
        encode_partition(out, version, partition);
    }
    out.put_no_tags(is_flexible);
}

fn encode_partition(out: &mut BytesMut, version: i16, partition: &ProducedPartition) {
    let is_flexible = version >= FLEXIBLE_FROM;
    out.put_i32(partition.index);
    out.put_i16(partition.error.0);
    out.put_i64(partition.base_offset);
    out.put_i64(-1); // Records keep the time that their producer gave them (CreateTime).
    if version >= LOG_START_FROM {
        out.put_i64(partition.log_start_offset);
    }
    if version >= ERROR_MESSAGE_FROM {
        out.put_count(is_flexible, partition.record_errors.len());
        for (index, why) in &partition.record_errors {
            out.put_i32(*index);
            out.put_nullable_text(is_flexible, Some(why));
            out.put_no_tags(is_flexible);
        }
        out.put_nullable_text(is_flexible, partition.error_message.as_deref());
    }
    match partition.current_leader.filter(|_| version >= CURRENT_LEADER_FROM) {
        Some((leader, epoch)) => {
            out.put_unsigned_varint(1);
            out.put_tag(0, CURRENT_LEADER_BYTES);
            out.put_i32(leader.0);
            out.put_i32(epoch.0);
            out.put_unsigned_varint(0);
        }
        None => out.put_no_tags(is_flexible),
    }
}

#[cfg(test)]
mod tests;
