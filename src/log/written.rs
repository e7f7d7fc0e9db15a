//! Blocks from writes: what was flushed is copied out of the tail cache, a piece at a time, so that readers find it in memory when
//! the tail cache has forgotten it. So a log that was just written is not read back from the device.
//!
//! Only on a node that leads, for nobody reads from others. The copying is not done here: an operation carries the batches and a
//! piece of memory to a thread that runs when nobody else wants its CPU ([`MemoryWork`]), and a block comes back. That thread is also
//! the first to touch the memory, which can take longer than the copy. Where it is not let run the tail cache forgets what was not
//! copied, and the device has it.
//!
//! Copied, because what was received lies in memory that is received into again.

use super::blocks::Pin;
use super::flights::Purpose;
use super::{DiskError, Done, FlushedOffset, Log, MemoryWork, OpKind};
use crate::types::NS_PER_MS;

/// Copies under way: each holds batches of a piece's size in the memory that they were received in.
const COPIES_MAX: usize = 4;
/// So long after somebody has read from a block or from the device, others are taken to do so too.
const READERS_NS: u64 = 60_000 * NS_PER_MS;
/// Smaller caches are for what is read: what is being copied would take too much of them.
const PIECES_MIN: usize = 4;
/// A block with less than one part in so many of its memory filled is not worth it.
const FILLED_PART: usize = 4;

/// What is being done for readers who have not come yet.
#[derive(Default)]
pub(super) struct Written {
    is_kept: bool,
    /// Copies under way.
    copying: usize,
    /// Pieces that are being made ready to be read into.
    pub(super) touching: usize,
    /// When somebody read last what the tail cache does not have.
    read_ns: Option<u64>,
}

impl Log {
    /// From here on what is written is kept for readers, or is not.
    pub(crate) fn set_keeps_written(&mut self, is_kept: bool) {
        self.written.is_kept = is_kept;
    }

    /// Somebody reads what the tail cache does not have.
    pub(super) fn note_reader(&mut self) {
        self.written.read_ns = Some(self.now_ns);
    }

    pub(super) fn has_readers(&self) -> bool {
        self.written.read_ns.is_some_and(|read_ns| self.now_ns.saturating_sub(read_ns) < READERS_NS)
    }

    /// At the end of a turn.
    pub(super) fn keep_written(&mut self) {
        if !self.written.is_kept || !(self.config.copies_unread || self.has_readers()) {
            return;
        }
        let piece_bytes = self.config.read_piece_bytes;
        // A tail cache that has no room for twice as much would forget it meanwhile.
        let due_bytes = piece_bytes.min(self.tail.bytes_max() / 2);
        let is_worth_it = due_bytes >= piece_bytes / FILLED_PART
            && self.read_cache_bytes_max >= PIECES_MIN * piece_bytes
            && !self.failed;
        let flushed_bytes =
            |log: &Log| log.tail.uncopied_bytes().saturating_sub(log.unflushed_bytes() as usize);
        while is_worth_it && self.written.copying < COPIES_MAX && flushed_bytes(self) >= due_bytes {
            // Where answers have all the memory it can wait.
            if !self.make_room(piece_bytes) || !self.copy_written() {
                return;
            }
        }
    }

    /// False: there is nothing to copy.
    fn copy_written(&mut self) -> bool {
        let piece_bytes = self.config.read_piece_bytes;
        let uncopied = self.tail.uncopied_bytes();
        let batches = self.tail.take_to_copy(FlushedOffset(self.flushed), piece_bytes);
        let bytes = uncopied - self.tail.uncopied_bytes();
        // A batch that no block has, and what little came before it, is read from the device.
        if !batches.is_empty() && bytes >= piece_bytes / FILLED_PART {
            let piece = self.pieces.take(piece_bytes);
            let purpose = Purpose::Copy { cuts: self.blocks.cuts() };
            self.submit(OpKind::Memory(MemoryWork::Copy { batches, piece }), purpose);
            self.written.copying += 1;
        }
        bytes > 0
    }

    pub(super) fn complete_copy(&mut self, cuts: u64, result: Result<Done, DiskError>) {
        self.written.copying -= 1;
        // What was copied before a cut may be no more of the log.
        if let (Ok(Done::Copied(run)), true) = (result, cuts == self.blocks.cuts()) {
            assert!(run.next_offset() <= self.flushed, "what is not flushed is in no block");
            self.blocks.keep(run, None, true, Pin::default());
            self.make_room(0);
        }
    }
}
