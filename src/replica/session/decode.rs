//! From a whole frame to a decoded request and what it weighs: on the connection's core, or on a thread that has time for a
//! large one.

use bytes::Bytes;

use crate::protocol::{self, FrameError, Request, RequestHeader};
use crate::record::Wanted;
use crate::replica::collapse::{Weight, weigh};
use crate::replica::cost::Announced;

/// A larger request than this is decoded elsewhere, if it is neither a Produce (of those most bytes are records, which cost little)
/// nor a Fetch (which has a decoder of its own, and of which nobody knows how long it waits).
pub(super) const LARGE_FRAME_BYTES: usize = 2 * 1024;
const VERY_LARGE_FRAME_BYTES: usize = 16 * 1024;

/// A request, and what it weighs.
#[derive(Debug)]
pub(crate) struct DecodedRequest {
    pub(super) header: RequestHeader,
    pub(super) request: Request,
    pub(super) weight: Weight,
    pub(super) frame_bytes: usize,
}

pub(super) fn decode(frame: Bytes, entries_max: usize) -> Result<DecodedRequest, FrameError> {
    let frame_bytes = frame.len();
    let (header, mut request, decoded_bytes) = protocol::decode_request_sized(frame)?;
    let weight = weigh(&mut request, decoded_bytes, entries_max)?;
    Ok(DecodedRequest { header, request, weight, frame_bytes })
}

/// A whole request, not decoded.
#[derive(Debug)]
pub(crate) struct LargeFrame {
    pub(super) frame: Bytes,
    pub(crate) announced: Announced,
    pub(super) entries_max: usize,
    pub(super) wanted: Wanted,
}

impl LargeFrame {
    /// It waits for others like it, and not with those that ask for a hundred things.
    pub(crate) fn is_very_large(&self) -> bool {
        self.announced.bytes > VERY_LARGE_FRAME_BYTES
    }

    /// Its connection is gone: nobody waits for it.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.wanted.is_over()
    }

    pub(crate) fn decode(self) -> Result<DecodedRequest, FrameError> {
        if self.is_unwanted() {
            return Err(FrameError("its connection has ended".to_string()));
        }
        decode(self.frame, self.entries_max)
    }
}
