//! Blocks from writes: what was flushed is copied out of the tail cache, batch behind batch, into memory that readers find it in
//! when the tail cache has forgotten it. So a log that was just written is not read back from the device.
//!
//! Only on a node that leads, for nobody reads from others, and only while somebody reads what the tail cache does not have: with
//! nobody who wants them the copies would cost a writer of large batches a twentieth, and several times that while the cache
//! grows. A little in each turn, and, as long as the tail cache is not about to forget what is not copied, in none that has a
//! group for the device: that must not wait for it. Copied, because what was received lies in memory that is received into again.

use super::blocks::Pin;
use super::{FlushedOffset, Log, OpKind};
use crate::memory::Piece;
use crate::record::RunBuilder;
use crate::types::{NS_PER_MS, Offset};

/// A turn copies no more than this, but one batch: about 30 us.
const COPIED_BYTES_MAX: usize = 256 << 10;
/// Memory that is new is cleared by the kernel while a turn waits for it: 0.1 ms for each MiB, and 2 in a virtual machine whose host
/// finds that memory only now. So the cache grows by one piece in so long at most, 20 MiB a second, and a turn in twenty of those that
/// fill this time is a long one at worst; meanwhile the oldest block goes. One old Fetch a minute is enough to make it grow.
const NEW_PIECE_NS: u64 = 100 * NS_PER_MS;
/// So long after somebody has read from a block or from the device, others are taken to do so too.
const READERS_NS: u64 = 60_000 * NS_PER_MS;
/// Smaller caches are for what is read: the block that is being filled would take too much of them.
const PIECES_MIN: usize = 4;

/// The block that is being filled.
#[derive(Default)]
pub(super) struct Written {
    is_kept: bool,
    block: Option<RunBuilder<Piece>>,
    /// When the cache grew for it last.
    grown_ns: Option<u64>,
    /// When somebody read last what the tail cache does not have.
    read_ns: Option<u64>,
}

impl Written {
    /// What lies behind is no more of the log. What was copied before it is read from the device, if anybody wants it.
    pub(super) fn cut(&mut self, to: Offset) {
        self.block.take_if(|block| block.next_offset().is_some_and(|next| next > to));
    }
}

impl Log {
    /// From here on what is written is kept for readers, or is not.
    pub(crate) fn set_keeps_written(&mut self, is_kept: bool) {
        self.written.is_kept = is_kept;
        if !is_kept {
            self.written.block = None;
        }
    }

    /// Somebody reads what the tail cache does not have.
    pub(super) fn note_reader(&mut self) {
        self.written.read_ns = Some(self.now_ns);
    }

    fn has_readers(&self) -> bool {
        self.written.read_ns.is_some_and(|read_ns| self.now_ns.saturating_sub(read_ns) < READERS_NS)
    }

    /// At the end of a turn.
    pub(super) fn keep_written(&mut self) {
        let has_group = || self.ops.iter().any(|op| matches!(op.kind, OpKind::Write { .. }));
        if !self.written.is_kept || !self.has_readers() || (has_group() && !self.tail.is_copied_late()) {
            return;
        }
        let mut left = COPIED_BYTES_MAX;
        while left > 0
            && let Some(batch) = self.tail.next_to_copy(FlushedOffset(self.flushed)).cloned()
        {
            if batch.size_bytes() > self.config.read_piece_bytes {
                // No block has it.
                self.tail.note_copied();
            } else if self.written.block.is_none() && !self.begin_written() {
                return;
            } else if self.written.block.as_mut().is_some_and(|block| block.push(&batch)) {
                self.tail.note_copied();
                left = left.saturating_sub(batch.size_bytes());
            } else {
                // It is full, or the tail cache has forgotten what would follow.
                self.finish_written();
            }
        }
    }

    /// False: answers have all the memory.
    fn begin_written(&mut self) -> bool {
        let piece_bytes = self.config.read_piece_bytes;
        if self.read_cache_bytes_max < PIECES_MIN * piece_bytes || !self.make_room(piece_bytes) {
            return false;
        }
        if !self.pieces.has_free(piece_bytes) {
            let may_grow =
                self.written.grown_ns.is_none_or(|grown_ns| self.now_ns >= grown_ns + NEW_PIECE_NS);
            if may_grow {
                self.written.grown_ns = Some(self.now_ns);
            } else if !self.blocks.put_one_out() {
                return false;
            }
        }
        self.written.block = Some(RunBuilder::new(self.pieces.take(piece_bytes)));
        true
    }

    #[cfg(test)]
    pub(super) fn copied_bytes(&self) -> usize {
        self.written.block.as_ref().map_or(0, RunBuilder::size_bytes)
    }

    #[cfg(test)]
    pub(super) fn copied_end(&self) -> Option<Offset> {
        self.written.block.as_ref().and_then(RunBuilder::next_offset)
    }

    fn finish_written(&mut self) {
        let Some(Ok(run)) = self.written.block.take().map(RunBuilder::finish) else { return };
        assert!(run.next_offset() <= self.flushed, "what is not flushed is in no block");
        // Written faster than it is copied: where the gaps are, a piece with little in it is not worth its memory.
        if 4 * run.size_bytes() < self.config.read_piece_bytes {
            return;
        }
        self.blocks.keep(run, None, true, Pin::default());
    }
}
