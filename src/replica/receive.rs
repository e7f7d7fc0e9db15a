//! What a connection has sent: room for the next read, and whole frames out of what was read.
//!
//! A session has one for its client, and so has each of our connections to another voter. Memory grows with what has
//! arrived; how far an announced length is believed before that depends on who announces it.

use crate::protocol::frame::{FrameError, LENGTH_BYTES, frame_length};
use bytes::{Buf, Bytes, BytesMut};

/// Room of a connection that says little.
pub const RECEIVE_BYTES_MIN: usize = 16 * 1024;
/// Most room given to one read of a busy connection, unless a larger frame is announced.
pub const RECEIVE_BYTES_MAX: usize = 128 * 1024;
/// Most that an announced frame is given at once: about what a Fetch may bring.
const FRAME_RESERVE_BYTES_MAX: usize = 5 << 20;
/// Less room than this and a read is not worth its system call.
const READ_BYTES_MIN: usize = 4 * 1024;
/// A frame whose receive buffer is this many times larger is copied out of it, if it carries no records.
const FRAME_COPY_RATIO: usize = 4;
const PRODUCE_KEY: [u8; 2] = [0, 0];
const FETCH_KEY: [u8; 2] = [0, 1];

/// Who is at the other end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sender {
    /// Sends requests. A frame is believed up to the size of the one before, from there on as its bytes arrive.
    Client,
    /// Sends answers to us. A frame is believed at once and gets one piece of memory, so that nobody has to put its
    /// parts together.
    Voter,
}

/// Received bytes that are not yet a frame.
#[derive(Debug)]
pub struct ReceiveBuffer {
    sender: Sender,
    pub(super) buffer: BytesMut,
    /// Size of the allocation that `buffer`, and frames cut from it, share.
    allocation_bytes: usize,
    /// Room for the next read: doubled by a read that filled it, halved by one that used a quarter of it.
    pub(super) room_bytes: usize,
    /// Free room when `room` was last called; what it has shrunk by since was received.
    spare_bytes: usize,
    /// Size of the last whole frame.
    frame_bytes: usize,
}

impl ReceiveBuffer {
    pub fn new(sender: Sender) -> ReceiveBuffer {
        ReceiveBuffer {
            sender,
            buffer: BytesMut::new(),
            allocation_bytes: 0,
            room_bytes: RECEIVE_BYTES_MIN,
            spare_bytes: 0,
            frame_bytes: 0,
        }
    }

    /// Size of the allocation that the frames cut from it share.
    pub fn allocation_bytes(&self) -> usize {
        self.allocation_bytes
    }

    fn spare(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    /// To append to what has been received: with room at least worth its system call, and more while a large frame
    /// arrives. Where its length is not believed the room doubles; doubling copies what is there again and again.
    pub fn room(&mut self) -> &mut BytesMut {
        self.adapt_room();
        let missing = self.missing_bytes();
        let believed = match self.sender {
            Sender::Client => self.buffer.len().max(RECEIVE_BYTES_MIN).max(self.frame_bytes),
            Sender::Voter => FRAME_RESERVE_BYTES_MAX,
        };
        let needed = missing.min(believed).max(READ_BYTES_MIN);
        if self.spare() < needed {
            let before = self.buffer.capacity();
            self.buffer.reserve(needed.max(self.room_bytes).max(self.expected_bytes()));
            if self.buffer.capacity() > before {
                self.allocation_bytes = self.buffer.capacity();
            }
        }
        self.spare_bytes = self.spare();
        &mut self.buffer
    }

    /// A voter under load answers with one large frame after the other: the next one is received where it can stay.
    fn expected_bytes(&self) -> usize {
        match self.sender {
            Sender::Client => 0,
            Sender::Voter => self.frame_bytes,
        }
    }

    fn adapt_room(&mut self) {
        let received = self.spare_bytes.saturating_sub(self.spare());
        if received > 0 && self.spare() == 0 {
            self.room_bytes = (self.room_bytes * 2).min(RECEIVE_BYTES_MAX);
        } else if received < self.room_bytes / 4 {
            self.room_bytes = (self.room_bytes / 2).max(RECEIVE_BYTES_MIN);
        }
        if self.buffer.is_empty() && self.allocation_bytes > 2 * self.room_bytes.max(self.expected_bytes()) {
            // What a large frame, or a busy time, has left: a connection that is quiet again must not keep it.
            let ReceiveBuffer { sender, room_bytes, frame_bytes, .. } = *self;
            *self = ReceiveBuffer { room_bytes, frame_bytes, ..ReceiveBuffer::new(sender) };
        }
    }

    /// Bytes missing of the frame that the buffer begins with; 0 where its length has not arrived. A length that is
    /// refused reserves nothing, because `next_frame` has closed the connection.
    pub fn missing_bytes(&self) -> usize {
        let Some(length) = self.buffer.first_chunk::<LENGTH_BYTES>() else { return 0 };
        let frame_bytes = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        (LENGTH_BYTES + frame_bytes).saturating_sub(self.buffer.len())
    }

    /// The next whole frame without its length. Large frames share the receive buffer, and so do answers and Produces, which
    /// carry records, and Fetches, of which nothing is kept; other small ones are copied, so that one that waits does not pin
    /// it. Err: close the connection.
    pub fn next_frame(&mut self, frame_bytes_max: usize) -> Result<Option<Bytes>, FrameError> {
        let Some(frame_bytes) = frame_length(&self.buffer, frame_bytes_max)? else {
            return Ok(None);
        };
        if self.buffer.len() < LENGTH_BYTES + frame_bytes {
            return Ok(None);
        }
        self.buffer.advance(LENGTH_BYTES);
        self.frame_bytes = frame_bytes.min(FRAME_RESERVE_BYTES_MAX);
        let frame = self.buffer.split_to(frame_bytes);
        let is_small = frame_bytes < self.allocation_bytes / FRAME_COPY_RATIO;
        if is_small && !self.may_share(&frame) {
            return Ok(Some(Bytes::copy_from_slice(&frame)));
        }
        Ok(Some(frame.freeze()))
    }

    /// One answer of a voter stands behind the other, and the log keeps the records of all: nothing is pinned for nothing.
    fn may_share(&self, frame: &[u8]) -> bool {
        self.sender == Sender::Voter || frame.starts_with(&PRODUCE_KEY) || frame.starts_with(&FETCH_KEY)
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
