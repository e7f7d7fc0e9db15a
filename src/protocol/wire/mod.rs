//! Kafka's primitive types, read and written: what all else of `protocol` stands on, and what knows no message.

mod cursor;
mod fields;
mod put;

pub(crate) use cursor::Cursor;
pub(crate) use fields::{Fields, ShortText, tag_of_another_version};
pub(crate) use put::{NodeEndpoints, PutFields, patch_length, put_node_endpoints, varint_bytes};

use smallvec::SmallVec;
use std::fmt;

/// Bytes of the length before each frame.
pub(crate) const LENGTH_BYTES: usize = 4;

/// Why a frame ends its connection, in words that say what it looked like.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FrameError(pub String);

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for FrameError {}

/// Takes no memory of its own up to this size: a cluster's id has 22 bytes, the usual topic's name 18, and what Kafka's
/// own clients call themselves, "perf-producer-client" among them, is no longer.
pub(super) type ShortBytes = SmallVec<[u8; 24]>;
