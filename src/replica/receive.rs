//! What a connection has sent: room for the next read, and whole frames out of what was read.
//!
//! A session has one for its client, and so has each of our connections to another voter. Memory grows with what has
//! arrived; how far an announced length is believed before that depends on who announces it.

use super::cost::Announced;
use super::receive_pool::{Allocation, Lent, ReceivePool};
use crate::protocol::frame::{FrameError, LENGTH_BYTES, frame_length};
use crate::record::UNPIN_RATIO;
use bytes::{Buf, Bytes, BytesMut};

/// Room of a connection that says little: for the largest frame that needs no memory to be reserved (`room::frames`).
pub(crate) const RECEIVE_BYTES_MIN: usize = 8 * 1024;
/// Most room given to one read of a busy connection, unless a larger frame is announced.
pub(crate) const RECEIVE_BYTES_MAX: usize = 128 * 1024;
/// Most that an announced frame is given at once: about what a Fetch may bring.
const FRAME_RESERVE_BYTES_MAX: usize = 5 << 20;
/// Less room than this and a read is not worth its system call.
const READ_BYTES_MIN: usize = 4 * 1024;
/// A frame whose receive buffer is this many times larger is copied out of it, if it carries no records.
const FRAME_COPY_RATIO: usize = 4;
/// A client whose reads fill at least this much is busy.
const BUSY_ROOM_BYTES: usize = 32 * 1024;
/// Smaller frames than this are copied out of what they were received in.
const ALIKE_BYTES_MIN: usize = 8 * 1024;
/// So much larger is a buffer for frames that are alike: what of the next one comes to lie there has to move.
const FRAME_SLACK_BYTES: usize = 512;
/// Buffers for a voter's large answers are of few sizes, so that one fits another time, and hold several: with one or two in
/// each, half empty, those that the log's tail shares were more than the pool keeps, and none was ever used again.
const ANSWER_ROOM_STEP: usize = 4 << 20;
/// From an answer of this size on a voter's are large ...
const LARGE_ANSWER_BYTES: usize = 16 * 1024;
/// ... until for a while all are smaller than this: far less, because whoever goes from one to the other pays for a new buffer.
const SMALL_ANSWER_BYTES: usize = 1024;
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
    /// Size of the last whole frame; of a voter's answers the largest of the last few.
    frame_bytes: usize,
    /// Its frames are large; asked of a voter only.
    is_bulk: bool,
    /// Size of the last whole frame, with its length.
    whole_bytes: usize,
    /// There is memory for the whole frame that is arriving.
    is_reserved: bool,
    /// A client's: what its buffer has beside the least, and is not reserved for a frame.
    lent: Lent,
}

impl ReceiveBuffer {
    /// Empty, and without memory until something comes.
    pub fn new(sender: Sender) -> ReceiveBuffer {
        ReceiveBuffer {
            sender,
            buffer: BytesMut::new(),
            allocation_bytes: 0,
            room_bytes: RECEIVE_BYTES_MIN,
            spare_bytes: 0,
            frame_bytes: 0,
            is_bulk: false,
            whole_bytes: 0,
            is_reserved: false,
            lent: Lent::default(),
        }
    }

    /// Size of the frame that is arriving, with its length; 0 where that is not known yet.
    pub(crate) fn arriving_bytes(&self) -> usize {
        match self.missing_bytes() {
            0 => 0,
            missing => self.buffer.len() + missing,
        }
    }

    /// The next request, complete or not, if enough of it is there to know.
    pub(crate) fn announced(&self) -> Option<Announced> {
        let (length, rest) = self.buffer.split_first_chunk::<LENGTH_BYTES>()?;
        let key = rest.first_chunk::<2>()?;
        let bytes = LENGTH_BYTES + usize::try_from(i32::from_be_bytes(*length)).unwrap_or(0);
        Some(Announced { bytes, api_key: i16::from_be_bytes(*key) })
    }

    /// Received, and not taken as a frame.
    pub(crate) fn buffered_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// Size of the last whole frame, with its length.
    pub(crate) fn whole_bytes(&self) -> usize {
        self.whole_bytes
    }

    /// There is memory for the whole frame that is arriving: it gets one piece.
    pub(crate) fn believe(&mut self) {
        self.is_reserved = true;
    }

    /// Size of the allocation that the frames cut from it share.
    pub(crate) fn allocation_bytes(&self) -> usize {
        self.allocation_bytes
    }

    fn spare(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    /// To append to what has been received: with room at least worth its system call, and more while a large frame
    /// arrives. Where its length is not believed the room doubles; doubling copies what is there again and again.
    pub fn room(&mut self, pool: &mut ReceivePool) -> &mut BytesMut {
        self.adapt_room(pool);
        let needed = self.needed_bytes();
        if self.spare() < needed {
            self.make_room(needed, pool);
        }
        self.note_lent(pool);
        self.spare_bytes = self.spare();
        &mut self.buffer
    }

    /// How much of what is announced gets room at once.
    fn believed_bytes(&self) -> usize {
        match self.sender {
            Sender::Client if self.is_reserved => usize::MAX,
            Sender::Client => self.buffer.len().max(RECEIVE_BYTES_MIN).max(self.frame_bytes),
            Sender::Voter => FRAME_RESERVE_BYTES_MAX,
        }
    }

    /// With less room than this the buffer is left for another one.
    fn needed_bytes(&self) -> usize {
        let missing = self.missing_bytes();
        if missing > self.believed_bytes() {
            // It comes into what room there is: moved for each piece it would be copied again and again.
            return READ_BYTES_MIN;
        }
        if missing > 0 && self.buffer.len() >= READ_BYTES_MIN {
            // The end of a frame of which much is there: a small read costs less than a move.
            return missing;
        }
        match self.alike_bytes() {
            // What begins where it cannot end has to move.
            Some(_) if self.buffer.is_empty() => LENGTH_BYTES + self.frame_bytes,
            _ => missing.max(READ_BYTES_MIN),
        }
    }

    /// In the same memory if nobody shares it any more, else in a buffer of the pool, else in a new one.
    fn make_room(&mut self, needed: usize, pool: &mut ReceivePool) {
        let there = self.buffer.len();
        let wanted = self.missing_bytes().min(self.believed_bytes()).max(needed);
        let mut least = (there + wanted).max(self.usual_bytes());
        if self.sender == Sender::Client && !pool.may_lend(least.saturating_sub(self.own_bytes())) {
            // Others have what busy ones may have: it reads little at once.
            least = (there + READ_BYTES_MIN).max(self.own_bytes());
        }
        if self.buffer.try_reclaim(least - there) {
            return;
        }
        let most = match self.sender {
            // Another one's frames are of another size: in a much larger one these would be copied out.
            Sender::Client => least + least / 8,
            // Many answers find their place in it.
            Sender::Voter => usize::MAX,
        };
        let pooled = pool.take(least, most);
        let mut next = pooled.unwrap_or_else(|| Allocation::new(least + self.slack_bytes()));
        next.buffer.extend_from_slice(&self.buffer);
        self.move_to(next, pool);
    }

    fn move_to(&mut self, next: Allocation, pool: &mut ReceivePool) {
        let buffer = std::mem::replace(&mut self.buffer, next.buffer);
        let bytes = std::mem::replace(&mut self.allocation_bytes, next.bytes);
        pool.retire(Allocation { buffer, bytes });
    }

    /// What a client may have in any case: the least, or the frame for which memory is reserved.
    fn own_bytes(&self) -> usize {
        if self.is_reserved { self.arriving_bytes().max(RECEIVE_BYTES_MIN) } else { RECEIVE_BYTES_MIN }
    }

    fn note_lent(&mut self, pool: &ReceivePool) {
        let beside = match self.sender {
            Sender::Client => self.allocation_bytes.saturating_sub(self.own_bytes()),
            Sender::Voter => 0,
        };
        if beside != self.lent.bytes() {
            self.lent = pool.lend(beside);
        }
    }

    /// Size of a buffer for whole frames of a client that sends large ones, all like the last: about as many as are read at
    /// once, however much the last reads brought, so that all are of one size. `None` where frames are small, where they come in
    /// so small pieces that the buffer is not kept for the next one, and where it would be too large for that.
    fn alike_bytes(&self) -> Option<usize> {
        let frame = LENGTH_BYTES + self.frame_bytes;
        if self.sender == Sender::Voter || frame < ALIKE_BYTES_MIN || self.room_bytes < BUSY_ROOM_BYTES {
            return None;
        }
        // With more of them in it each batch would be copied out (`StampedBatch::unpin`).
        let frames = ((RECEIVE_BYTES_MAX + frame / 2) / frame).clamp(1, UNPIN_RATIO - 1);
        Some(frames * frame).filter(|bytes| bytes + FRAME_SLACK_BYTES <= 2 * RECEIVE_BYTES_MAX)
    }

    /// Frames that are nearly alike fit too.
    fn slack_bytes(&self) -> usize {
        if self.alike_bytes().is_some() { FRAME_SLACK_BYTES } else { 0 }
    }

    /// Size of a new buffer, if what is there needs no more. A busy connection brings one large frame after the other: the
    /// next one is received where it can stay.
    fn usual_bytes(&self) -> usize {
        match self.sender {
            Sender::Client => self.alike_bytes().unwrap_or(self.room_bytes),
            Sender::Voter if self.is_bulk => {
                (LENGTH_BYTES + self.frame_bytes).next_multiple_of(ANSWER_ROOM_STEP)
            }
            Sender::Voter => self.room_bytes.max(LENGTH_BYTES + self.frame_bytes),
        }
    }

    fn adapt_room(&mut self, pool: &mut ReceivePool) {
        let received = self.spare_bytes.saturating_sub(self.spare());
        if received > 0 && self.spare() == 0 {
            self.room_bytes = (self.room_bytes * 2).min(RECEIVE_BYTES_MAX);
        } else if (1..self.room_bytes / 4).contains(&received) {
            self.room_bytes = (self.room_bytes / 2).max(RECEIVE_BYTES_MIN);
        }
        if self.buffer.is_empty() && self.allocation_bytes > 2 * self.room_bytes.max(self.usual_bytes()) {
            // What a large frame, or a busy time, has left: a connection that is quiet again must not keep it.
            self.move_to(Allocation::default(), pool);
        }
    }

    /// Bytes missing of the frame that the buffer begins with; 0 where its length has not arrived. A length that is
    /// refused reserves nothing, because `next_frame` has closed the connection.
    pub(crate) fn missing_bytes(&self) -> usize {
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
        (self.whole_bytes, self.is_reserved) = (LENGTH_BYTES + frame_bytes, false);
        self.note_frame(frame_bytes);
        let frame = self.buffer.split_to(frame_bytes);
        let is_small = frame_bytes < self.allocation_bytes / FRAME_COPY_RATIO;
        if is_small && !self.may_share(&frame) {
            return Ok(Some(Bytes::copy_from_slice(&frame)));
        }
        Ok(Some(frame.freeze()))
    }

    /// A voter's answers are large and small by turns: the larger ones are remembered for a while.
    fn note_frame(&mut self, frame_bytes: usize) {
        let remembered = match self.sender {
            Sender::Client => 0,
            Sender::Voter => self.frame_bytes / 16 * 15,
        };
        self.frame_bytes = frame_bytes.min(FRAME_RESERVE_BYTES_MAX).max(remembered);
        let large_bytes = if self.is_bulk { SMALL_ANSWER_BYTES } else { LARGE_ANSWER_BYTES };
        self.is_bulk = self.frame_bytes >= large_bytes;
    }

    /// One answer of a voter stands behind the other, and the log keeps the records of all: nothing is pinned for nothing.
    fn may_share(&self, frame: &[u8]) -> bool {
        self.sender == Sender::Voter || frame.starts_with(&PRODUCE_KEY) || frame.starts_with(&FETCH_KEY)
    }
}

#[cfg(test)]
#[path = "receive_tests.rs"]
mod tests;
