//! The answer to FetchSnapshot, encoded and decoded by hand: versions 0 and 1 (KIP-630, KIP-853). A piece of a snapshot stays the
//! slice that it is, on its way out and on its way in.

use super::fetch::COPY_BELOW_BYTES;
use super::frame::{Chunks, EncodedFrame, RequestHeader};
use super::messages::StrBytes;
use super::wire::{
    Fields, FrameError, LENGTH_BYTES, NodeEndpoints, PutFields, ShortText, patch_length,
    tag_of_another_version, varint_bytes,
};
use crate::types::*;
use bytes::{BufMut, Bytes, BytesMut};

/// Version from which the endpoint of the leader is told.
const NODE_ENDPOINTS_FROM: i16 = 1;
/// Of a partition: who leads.
const CURRENT_LEADER_TAG: u32 = 0;
const CURRENT_LEADER_BYTES: usize = 4 + 4 + 1;
/// Of the answer.
const NODE_ENDPOINTS_TAG: u32 = 0;

/// Answer of our own to FetchSnapshot.
#[derive(Clone, Debug, Default)]
pub struct FetchSnapshotResponse {
    /// Of the whole request; 0: look at the partition.
    pub error: i16,
    /// The one that was asked for. `None` beside an error of the whole.
    pub partition: Option<SnapshotPiece>,
    /// Where the leader is that the partition names; told from version 1 on.
    pub node_endpoints: NodeEndpoints,
}

/// Some of the bytes of a snapshot's file.
#[derive(Clone, Debug)]
pub struct SnapshotPiece {
    /// As the request names it.
    pub topic: StrBytes,
    /// Its number within the topic.
    pub index: i32,
    /// `NONE` where there are bytes.
    pub error: ErrorCode,
    /// End offset and epoch: the snapshot's name.
    pub id: OffsetAndEpoch,
    /// Who leads, and in which epoch.
    pub current_leader: Option<(Option<NodeId>, Epoch)>,
    /// Of the whole file.
    pub size: i64,
    /// Where `bytes` lie in it.
    pub position: i64,
    /// Cut anywhere, not only between batches. Never null: Kafka's clients do not read that.
    pub bytes: Bytes,
}

/// Encode as the answer to a request of this header.
pub(super) fn encode_fetch_snapshot_response(
    header: &RequestHeader,
    response: &FetchSnapshotResponse,
) -> EncodedFrame {
    let mut own = BytesMut::with_capacity(256);
    own.put_slice(&[0; LENGTH_BYTES]);
    own.put_i32(header.correlation_id);
    own.put_no_tags(true);
    own.put_i32(0); // Nobody is throttled here.
    own.put_i16(response.error);
    own.put_count(true, usize::from(response.partition.is_some()));
    let mut cut = None;
    if let Some(piece) = &response.partition {
        put_head(&mut own, piece);
        match piece.bytes.len() < COPY_BELOW_BYTES {
            true => own.put_slice(&piece.bytes),
            false => cut = Some((own.len(), piece.bytes.clone())),
        }
        put_tags(&mut own, piece);
    }
    put_endpoints(&mut own, header.api_version, &response.node_endpoints);
    patch_length(&mut own, 0, cut.as_ref().map_or(0, |(_, shared)| shared.len()));
    let mut chunks = Chunks::new();
    if let Some((at, shared)) = cut {
        chunks.extend([own.split_to(at).freeze(), shared]);
    }
    chunks.push(own.freeze());
    EncodedFrame { chunks }
}

/// All of a partition before its bytes.
fn put_head(own: &mut BytesMut, piece: &SnapshotPiece) {
    own.put_text(true, &piece.topic);
    own.put_count(true, 1);
    own.put_i32(piece.index);
    own.put_i16(piece.error.0);
    own.put_i64(piece.id.offset.0);
    own.put_i32(piece.id.epoch.0);
    own.put_no_tags(true);
    own.put_i64(piece.size);
    own.put_i64(piece.position);
    own.put_count(true, piece.bytes.len());
}

/// Of the partition, and of its topic.
fn put_tags(own: &mut BytesMut, piece: &SnapshotPiece) {
    match piece.current_leader {
        Some((leader, epoch)) => {
            own.put_unsigned_varint(1);
            own.put_tag(CURRENT_LEADER_TAG as usize, CURRENT_LEADER_BYTES);
            own.put_i32(leader.map_or(-1, |id| id.0));
            own.put_i32(epoch.0);
            own.put_no_tags(true);
        }
        None => own.put_no_tags(true),
    }
    own.put_no_tags(true);
}

/// Other than those of Fetch they have no rack, and a port of 16 bits.
fn put_endpoints(own: &mut BytesMut, version: i16, endpoints: &NodeEndpoints) {
    if version < NODE_ENDPOINTS_FROM || endpoints.is_empty() {
        return own.put_no_tags(true);
    }
    let of_one = |host: &str| 4 + varint_bytes(host.len() + 1) + host.len() + 2 + 1;
    let of_all = endpoints.iter().map(|(_, endpoint)| of_one(&endpoint.host)).sum::<usize>();
    own.put_unsigned_varint(1);
    own.put_tag(NODE_ENDPOINTS_TAG as usize, varint_bytes(endpoints.len() + 1) + of_all);
    own.put_count(true, endpoints.len());
    for (id, endpoint) in endpoints {
        own.put_i32(id.0);
        own.put_text(true, &endpoint.host);
        own.put_u16(endpoint.port);
        own.put_no_tags(true);
    }
}

/// What a replica reads of an answer. Numbers as they were sent: what they may be is the reader's to say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct SnapshotAnswer {
    pub(super) error: i16,
    /// `None` where there is not exactly one.
    pub(super) partition: Option<AnsweredPiece>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct AnsweredPiece {
    pub(super) topic: ShortText,
    pub(super) index: i32,
    pub(super) error: i16,
    /// (end offset, epoch)
    pub(super) id: (i64, i32),
    pub(super) size: i64,
    pub(super) position: i64,
    /// A slice of the frame.
    pub(super) bytes: Bytes,
}

/// Decode a body that `check` has walked. Who leads is not looked at: Raft hears of that by other answers.
pub(super) fn decode_fetch_snapshot_answer(body: &Bytes, version: i16) -> Result<SnapshotAnswer, FrameError> {
    let mut fields = Fields::new(body, true);
    fields.cursor.i32()?; // Voters are not throttled.
    let mut answer = SnapshotAnswer { error: fields.cursor.i16()?, partition: None };
    let topics = fields.count()?;
    let mut partitions = 0;
    for _ in 0..topics {
        let topic = fields.nullable_short_text()?.unwrap_or_default();
        for _ in 0..fields.count()? {
            partitions += 1;
            answer.partition = Some(decode_piece(&mut fields, topic.clone())?);
        }
        fields.skip_tags()?;
    }
    fields.tagged(|tag, _| match tag {
        NODE_ENDPOINTS_TAG if version < NODE_ENDPOINTS_FROM => tag_of_another_version(tag, version),
        _ => Ok(()),
    })?;
    if (topics, partitions) != (1, 1) {
        answer.partition = None;
    }
    Ok(answer)
}

fn decode_piece(fields: &mut Fields<'_>, topic: ShortText) -> Result<AnsweredPiece, FrameError> {
    let (index, error) = (fields.cursor.i32()?, fields.cursor.i16()?);
    let id = (fields.cursor.i64()?, fields.cursor.i32()?);
    fields.skip_tags()?;
    let (size, position) = (fields.cursor.i64()?, fields.cursor.i64()?);
    let bytes = fields.nullable_bytes()?.unwrap_or_default();
    fields.skip_tags()?;
    Ok(AnsweredPiece { topic, index, error, id, size, position, bytes })
}
