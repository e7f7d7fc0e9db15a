//! What a session sends: its answers as chunks of bytes, in the order in which they go out.
//!
//! Small ones are copied together, so that many go with one send; the chunks of large ones are sent as they are.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::protocol::{self, EncodedFrame, FetchResponse, ProduceResponse, RequestHeader};

/// Answers up to this size are copied together; larger ones are sent as they are.
const COALESCE_BYTES_MAX: usize = 2 * 1024;
/// What the answer to a Produce of one partition takes, and some more.
const PRODUCED_BYTES_ABOUT: usize = 256;
/// The same of a Fetch, and the stamps of a few batches.
const FETCHED_BYTES_ABOUT: usize = 512;
/// Room made for them at once.
const COALESCE_ROOM_BYTES: usize = 1024;
/// Size at which what was copied together becomes a chunk of its own.
const COALESCED_BYTES_MAX: usize = 64 * 1024;

/// Bytes of answers in the order in which they go out.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    chunks: VecDeque<Bytes>,
    /// Small ones copied together; they come after `chunks`.
    small: BytesMut,
}

impl Outgoing {
    /// A small frame goes beside the one before; the chunks of a large one go out as they are.
    pub(super) fn push(&mut self, frame: EncodedFrame) {
        let [chunk] = &frame.chunks[..] else {
            self.seal();
            return self.chunks.extend(frame.chunks);
        };
        if chunk.len() > COALESCE_BYTES_MAX {
            self.seal();
            return self.chunks.extend(frame.chunks);
        }
        self.reserve_small(chunk.len());
        self.small.extend_from_slice(chunk);
        self.seal_if_large();
    }

    /// Encode an answer where it is sent from. Gives its bytes.
    pub(super) fn push_produced(&mut self, header: &RequestHeader, response: &ProduceResponse) -> usize {
        self.reserve_small(PRODUCED_BYTES_ABOUT);
        let before = self.small.len();
        protocol::encode_produce_response(header, response, &mut self.small);
        let bytes = self.small.len() - before;
        self.seal_if_large();
        bytes
    }

    /// The same, but for large batches, which go out as they were received.
    pub(super) fn push_fetched(&mut self, header: &RequestHeader, response: &FetchResponse) -> usize {
        self.reserve_small(FETCHED_BYTES_ABOUT);
        let bytes = protocol::encode_fetch_response(header, response, &mut self.small, &mut self.chunks);
        self.seal_if_large();
        bytes
    }

    fn reserve_small(&mut self, bytes: usize) {
        if self.small.capacity() - self.small.len() < bytes {
            // What was sent of it before is used again.
            self.small.reserve(bytes.max(COALESCE_ROOM_BYTES));
        }
    }

    fn seal_if_large(&mut self) {
        if self.small.len() >= COALESCED_BYTES_MAX {
            self.seal();
        }
    }

    fn seal(&mut self) {
        if !self.small.is_empty() {
            self.chunks.push_back(self.small.split().freeze());
        }
    }

    pub(super) fn pop(&mut self) -> Option<Bytes> {
        if self.chunks.is_empty() {
            self.seal();
        }
        self.chunks.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_copied_together_goes_out_in_pieces_of_a_bounded_size() {
        let frame =
            |bytes: usize| EncodedFrame { chunks: [Bytes::from(vec![7; bytes])].into_iter().collect() };
        let mut outgoing = Outgoing::default();
        let frames = COALESCED_BYTES_MAX / COALESCE_BYTES_MAX;
        (0..=frames).for_each(|_| outgoing.push(frame(COALESCE_BYTES_MAX)));
        let larger = frame(COALESCE_BYTES_MAX + 1);
        outgoing.push(larger.clone());
        let chunks: Vec<_> = std::iter::from_fn(|| outgoing.pop()).collect();
        let lengths: Vec<_> = chunks.iter().map(Bytes::len).collect();
        assert_eq!(lengths, [COALESCED_BYTES_MAX, COALESCE_BYTES_MAX, COALESCE_BYTES_MAX + 1]);
        assert_eq!(chunks[2].as_ptr(), larger.chunks[0].as_ptr(), "as it is");
    }
}
