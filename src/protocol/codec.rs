//! The kafka-protocol crate's codec, for one message at a time.

use super::api_versions::codec_version;
use super::frame::{Chunks, EncodedFrame, RequestHeader};
use super::wire::{FrameError, LENGTH_BYTES};
use bytes::{BufMut, Bytes};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};

const CORRELATION_ID_BYTES: usize = 4;

/// Decode a checked body; what the walk does not see (in an answer, text that is no UTF-8) still ends here as an error.
pub(super) fn decode<T: Decodable>(mut body: Bytes, version: i16) -> Result<T, FrameError> {
    T::decode(&mut body, version).map_err(|error| FrameError(format!("a message does not decode: {error}")))
}

pub(super) fn encode<T: Encodable + HeaderVersion>(header: &RequestHeader, body: &T) -> EncodedFrame {
    let version = codec_version(header.api_key, header.api_version);
    // Correlation id; header version 1 has tagged fields too, none of them set here.
    let mut head = [0; CORRELATION_ID_BYTES + 1];
    head[..CORRELATION_ID_BYTES].copy_from_slice(&header.correlation_id.to_be_bytes());
    // ApiVersions is always answered with version 0 (KIP-511).
    let has_tags = T::header_version(version) >= 1;
    let head = if has_tags { &head[..] } else { &head[..CORRELATION_ID_BYTES] };
    let encoded = encode_frame(head, body, version);
    debug_assert!(encoded.is_some(), "api {} version {version} cannot say this answer", header.api_key);
    encoded.unwrap_or_default()
}

/// Length, header and body in one chunk; `None` where the version cannot say it.
pub(super) fn encode_frame<T: Encodable>(head: &[u8], body: &T, version: i16) -> Option<EncodedFrame> {
    let length = head.len() + body.compute_size(version).ok()?;
    let mut frame = Vec::with_capacity(LENGTH_BYTES + length);
    frame.put_u32(u32::try_from(length).ok()?);
    frame.put_slice(head);
    body.encode(&mut frame, version).ok()?;
    (frame.len() == LENGTH_BYTES + length)
        .then(|| EncodedFrame { chunks: Chunks::from_buf([Bytes::from(frame)]) })
}
