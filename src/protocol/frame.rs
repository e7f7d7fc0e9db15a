//! Frames: a 4-byte length, a header, a message. Where one ends, whether it can be Kafka at all, and its header.
//!
//! Sessions cut their byte streams with [`frame_length`]; `io` sends [`EncodedFrame`]s. Nothing here looks into a
//! message.

pub use super::wire::FrameError;
pub(crate) use super::wire::LENGTH_BYTES;

use super::wire::{Cursor, ShortBytes};
use crate::types::Shown;
use bytes::Bytes;
use smallvec::SmallVec;
use std::fmt;

/// Most frames are one chunk.
pub(crate) type Chunks = SmallVec<[Bytes; 1]>;

/// Bytes for one socket, in order; begins with the 4-byte length.
#[derive(Clone, Debug, Default)]
pub struct EncodedFrame {
    /// Slices of what they were made from: nothing is copied into one piece.
    pub chunks: Chunks,
}

impl EncodedFrame {
    /// Bytes of all chunks, the length prefix included.
    pub(crate) fn len(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    /// True where no answer is sent at all.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }
}

/// Bytes of the frame behind the 4-byte length at the start of `buffered`; `Ok(None)`: not enough bytes yet to say.
/// `Err`: not Kafka, or over the limit. What another protocol says first always reads as a length far over any
/// sensible limit, and is then named.
pub fn frame_length(buffered: &[u8], request_bytes_max: usize) -> Result<Option<usize>, FrameError> {
    let Some(start) = buffered.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
    let length = i32::from_be_bytes(*start);
    match usize::try_from(length) {
        Ok(bytes) if bytes <= request_bytes_max => Ok(Some(bytes)),
        _ => Err(FrameError(match looks_like(start) {
            Some(what) => format!("this is not Kafka: it looks like {what}"),
            None if length < 0 => format!("a frame announces the negative length {length}"),
            None => format!(
                "a frame announces {length} bytes, and socket.request.max.bytes is {request_bytes_max}"
            ),
        })),
    }
}

/// What else speaks first on a port.
fn looks_like(start: &[u8; LENGTH_BYTES]) -> Option<&'static str> {
    match start {
        b"GET " | b"POST" | b"HEAD" | b"PUT " | b"DELE" | b"OPTI" | b"PATC" | b"CONN" | b"TRAC" => {
            Some("an HTTP request")
        }
        b"PRI " => Some("an HTTP/2 request"),
        b"HTTP" => Some("an HTTP response"),
        b"SSH-" => Some("an SSH client"),
        b"PROX" | b"\r\n\r\n" => Some("a PROXY protocol header"),
        [0x16, 0x03, ..] => Some("a TLS hello; this listener speaks plain text"),
        _ => None,
    }
}

/// How a request names its sender. Never trusted, only compared and shown; short ones take no memory of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClientId(ShortBytes);

impl ClientId {
    /// Compared byte by byte.
    pub fn is(&self, text: &str) -> bool {
        self.0.as_slice() == text.as_bytes()
    }
}

impl From<&str> for ClientId {
    fn from(text: &str) -> ClientId {
        ClientId::from(text.as_bytes())
    }
}

impl From<&[u8]> for ClientId {
    fn from(bytes: &[u8]) -> ClientId {
        ClientId(SmallVec::from_slice(bytes))
    }
}

/// As people may see it. What is no UTF-8 is replaced.
impl fmt::Display for ClientId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Shown(&String::from_utf8_lossy(&self.0)).fmt(f)
    }
}

/// A request's header, versions 1 and 2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestHeader {
    /// Kafka's number of the request.
    pub api_key: i16,
    /// Of the request, as its sender speaks it.
    pub api_version: i16,
    /// Comes back with the answer.
    pub correlation_id: i32,
    /// `None`: null on the wire.
    pub client_id: Option<ClientId>,
}

impl RequestHeader {
    /// Key, version and correlation id, which every header version begins with.
    pub(super) fn decode_start(cursor: &mut Cursor<'_>) -> Result<RequestHeader, FrameError> {
        Ok(RequestHeader {
            api_key: cursor.i16()?,
            api_version: cursor.i16()?,
            correlation_id: cursor.i32()?,
            client_id: None,
        })
    }

    /// The rest: a client id that is never compact, then tagged fields if the message is flexible (header version 2).
    pub(super) fn decode_rest(
        &mut self,
        cursor: &mut Cursor<'_>,
        is_flexible: bool,
    ) -> Result<(), FrameError> {
        let client_id = match cursor.i16()? {
            -1 => None,
            length => Some(cursor.take(usize::try_from(length).map_err(|_| {
                FrameError(format!("the client id of a request header has the length {length}"))
            })?)?),
        };
        self.client_id = client_id.map(ClientId::from);
        if is_flexible { cursor.skip_header_tags() } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_is_complete_with_its_fourth_byte() {
        assert_eq!(frame_length(&[], 100), Ok(None));
        assert_eq!(frame_length(&[0, 0, 0], 100), Ok(None));
        assert_eq!(frame_length(&[0, 0, 0, 100], 100), Ok(Some(100)));
        assert_eq!(frame_length(&[0, 0, 0, 0, 9], 100), Ok(Some(0)));
    }

    #[test]
    fn what_is_not_kafka_is_named() {
        let limit = 100 * 1024 * 1024;
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1"[..], "HTTP request"),
            (b"POST /", "HTTP request"),
            (b"HEAD /", "HTTP request"),
            (b"PUT /x", "HTTP request"),
            (b"\x16\x03\x01\x02\x00\x01", "TLS hello"),
            (b"SSH-2.0", "SSH"),
            (b"\xff\xff\xff\xfe", "negative length -2"),
            (b"\x06\x40\x00\x01", "announces 104857601 bytes, and socket.request.max.bytes is 104857600"),
        ] {
            let error = frame_length(bytes, limit).expect_err(expected);
            assert!(error.0.contains(expected), "{error}");
        }
    }
}
