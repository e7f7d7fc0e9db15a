//! Memory that is read into, used again and again.
//!
//! Memory that is new for each read is cleared and mapped by the kernel page by page, and unmapped: 29 and 10 % of a node's
//! time while a consumer read from the disk, and the read itself takes that much longer. So a piece comes back when the last
//! slice of what was read into it is dropped, on whatever core that is. What lies unused for a while is given back to the
//! kernel: a node that is read from now and then is as small as before.
//!
//! The first who writes to a page of new memory waits until the kernel has found and cleared one: 0.1 ms for each MiB, and 2 in a
//! virtual machine whose host had to find it. The log's core is never that one. It maps new pieces, some at a time, and touches
//! none: a piece knows how far it has been written to ([`Piece::is_touched`]), and who fills it where it has not been is somebody
//! else ([`Piece::touch`]).
//!
//! To map and to unmap is to change the address space, and whoever does that waits for each thread that is having a page found: all
//! of them before Linux 6.4, from then on those in the same mapping. So a piece of one step, the usual size, is mapped once and never
//! unmapped: the kernel gets what is in it, and its addresses lie here as new. There are as many of them as were ever in use at a
//! time. What remains: to map more as the cache grows, sixteen pieces at a time, and larger pieces, which come and go.
//!
//! Owned by the log, which sends a piece along with each read. It knows no bound of its own: whoever takes has one.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, channel};

use super::mapped::ZeroedBlocks;
use bytes::Bytes;

/// A piece of 2 MiB takes 10 to 50 us to empty. At most so many go in each turn.
const TURN_PIECES: usize = 4;
/// Of the usual size so many are mapped at once: addresses, and no memory yet. A mapping is four calls, about 5 us.
const MAPPED_PIECES: usize = 16;

/// Mapped memory, and how much of it, from its beginning, the kernel has found memory for.
#[derive(Debug)]
struct Memory {
    blocks: ZeroedBlocks,
    touched: usize,
}

impl Memory {
    fn size(&self) -> usize {
        self.blocks.size()
    }
}

/// The pieces of one owner that nobody uses.
pub(crate) struct Pieces {
    /// Their sizes are multiples of it.
    step_bytes: usize,
    /// By size.
    free: BTreeMap<usize, Free>,
    /// To be given back to the kernel.
    leaving: Vec<Memory>,
    /// Of one step each, and nobody has written to them, or they were emptied: they take no memory.
    new: Vec<ZeroedBlocks>,
    /// Of those that somebody has.
    out_bytes: usize,
    back: Receiver<Memory>,
    door: Sender<Memory>,
}

/// Of one size.
#[derive(Default)]
struct Free {
    pieces: Vec<Memory>,
    /// So many lay here at all times since the last `rest`.
    idle: usize,
}

impl Pieces {
    pub(crate) fn new(step_bytes: usize) -> Pieces {
        let (door, back) = channel();
        let (free, leaving, new) = (BTreeMap::new(), Vec::new(), Vec::new());
        Pieces { step_bytes, free, leaving, new, out_bytes: 0, back, door }
    }

    /// `bytes` of it at least, with anything in them.
    pub(crate) fn take(&mut self, bytes: usize) -> Piece {
        self.collect();
        let size = bytes.max(1).next_multiple_of(self.step_bytes);
        let used_before = self.free.get_mut(&size).and_then(|free| {
            let memory = free.pieces.pop()?;
            free.idle = free.idle.min(free.pieces.len());
            Some(memory)
        });
        let used_before = used_before.or_else(|| {
            let at = self.leaving.iter().position(|memory| memory.size() == size)?;
            Some(self.leaving.swap_remove(at))
        });
        match used_before {
            Some(memory) => self.give_out(memory),
            None => self.take_new(bytes),
        }
    }

    /// The same of memory that nobody has written to.
    pub(crate) fn take_new(&mut self, bytes: usize) -> Piece {
        let size = bytes.max(1).next_multiple_of(self.step_bytes);
        if size == self.step_bytes && self.new.is_empty() {
            self.new = ZeroedBlocks::several(size, MAPPED_PIECES);
        }
        let new = (size == self.step_bytes).then(|| self.new.pop()).flatten();
        let blocks = new.unwrap_or_else(|| ZeroedBlocks::new(size));
        self.give_out(Memory { blocks, touched: 0 })
    }

    fn give_out(&mut self, memory: Memory) -> Piece {
        self.out_bytes += memory.size();
        Piece { memory: Some(memory), door: self.door.clone() }
    }

    /// So many of this size are here that were used before.
    pub(crate) fn count_free(&mut self, bytes: usize) -> usize {
        self.collect();
        let size = bytes.max(1).next_multiple_of(self.step_bytes);
        self.free.get(&size).map_or(0, |free| free.pieces.len())
    }

    /// Of those that are here, whatever their size, and were not told yet to leave.
    pub(crate) fn free_bytes(&self) -> usize {
        self.free.iter().map(|(size, free)| size * free.pieces.len()).sum()
    }

    /// Of all pieces that are not back.
    pub(crate) fn out_bytes(&mut self) -> usize {
        self.collect();
        self.out_bytes
    }

    /// The same when it was last looked at.
    pub(crate) fn known_out_bytes(&self) -> usize {
        self.out_bytes
    }

    /// Nobody needs them, and the kernel has not got them back yet.
    pub(crate) fn leaving_bytes(&self) -> usize {
        self.leaving.iter().map(Memory::size).sum()
    }

    /// Some are to be given back: `let_go` does it, a few at a time.
    pub(crate) fn is_leaving(&self) -> bool {
        !self.leaving.is_empty()
    }

    /// Now and then: whatever was not needed since the last time is to be given back.
    /// But so many of one step stay.
    pub(crate) fn rest(&mut self, kept: usize) {
        self.collect();
        for (size, free) in &mut self.free {
            let kept = if *size == self.step_bytes { kept.min(free.pieces.len()) } else { 0 };
            let used = (free.pieces.len() - free.idle).max(kept);
            self.leaving.extend(free.pieces.drain(used..));
            free.idle = used;
        }
        self.free.retain(|_, free| !free.pieces.is_empty());
    }

    /// In each turn a few: a thousand of them at once would keep its caller for as many milliseconds as thirty turns have.
    pub(crate) fn let_go(&mut self) {
        let staying = self.leaving.len().saturating_sub(TURN_PIECES);
        let is_usual = |memory: &Memory| memory.size() == self.step_bytes;
        let usual = self.leaving.drain(staying..).filter(is_usual);
        self.new.extend(usual.filter_map(|memory| memory.blocks.emptied()));
    }

    fn collect(&mut self) {
        for memory in self.back.try_iter() {
            self.out_bytes -= memory.size();
            self.free.entry(memory.size()).or_default().pieces.push(memory);
        }
    }
}

/// Memory for one read, aligned for direct I/O. Comes back where it was taken when it is dropped.
#[derive(Debug)]
pub struct Piece {
    /// `None` only while it is dropped.
    memory: Option<Memory>,
    door: Sender<Memory>,
}

impl Piece {
    pub(crate) fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_mut().map_or(std::ptr::null_mut(), |memory| memory.blocks.as_mut_ptr())
    }

    /// Whoever writes to so many bytes from its beginning need not wait for memory.
    pub(crate) fn is_touched(&self, bytes: usize) -> bool {
        self.memory.as_ref().is_some_and(|memory| bytes <= memory.touched)
    }

    /// So that it is from here on, all of it. It takes as long as the kernel needs to find memory.
    pub(crate) fn touch(&mut self) {
        if let Some(Memory { blocks, touched }) = &mut self.memory {
            blocks.touch_from(*touched);
            *touched = blocks.size();
        }
    }

    pub(crate) fn capacity(&self) -> usize {
        self.as_ref().len()
    }

    /// As it comes back from whoever has filled this part of it.
    pub(crate) fn filled(mut self, part: Range<usize>) -> Filled {
        assert!(part.start <= part.end && part.end <= self.capacity(), "{part:?} of {}", self.capacity());
        if let Some(memory) = &mut self.memory {
            memory.touched = memory.touched.max(part.end);
        }
        Filled { piece: self, part }
    }

    /// Filled with a copy of these bytes, for an executor that has them elsewhere.
    pub(crate) fn filled_with(mut self, bytes: &[u8]) -> Filled {
        self.as_mut()[..bytes.len()].copy_from_slice(bytes);
        self.filled(0..bytes.len())
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        self.memory.as_ref().map_or(&[], |memory| memory.blocks.as_slice())
    }
}

impl AsMut<[u8]> for Piece {
    fn as_mut(&mut self) -> &mut [u8] {
        self.memory.as_mut().map(|memory| memory.blocks.as_mut_slice()).unwrap_or_default()
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        if let Some(memory) = self.memory.take() {
            // Their owner may be gone: then the memory goes too.
            let _ = self.door.send(memory);
        }
    }
}

/// A piece that has been read into. What lies beside that part of it is anything: of an older read, or of blocks around.
#[derive(Debug)]
pub struct Filled {
    piece: Piece,
    part: Range<usize>,
}

impl Filled {
    /// What was read. The piece comes back with the last slice of it.
    pub(crate) fn into_bytes(self) -> Bytes {
        match self.part.is_empty() {
            true => Bytes::new(),
            false => Bytes::from_owner(self.piece).slice(self.part),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Miri takes its time over each byte.
    const STEP_BYTES: usize = if cfg!(miri) { 8 << 10 } else { 128 << 10 };

    fn address(piece: &Piece) -> usize {
        piece.as_ref().as_ptr().addr()
    }

    fn free(pieces: &Pieces) -> usize {
        pieces.free.values().map(|free| free.pieces.len()).sum()
    }

    #[test]
    fn what_was_read_into_is_used_again_wherever_it_was_dropped() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let first = pieces.take(1);
        let (place, size) = (address(&first), first.as_ref().len());
        assert_eq!((place % 4096, size), (0, STEP_BYTES));
        assert_ne!(address(&pieces.take(size)), place, "somebody still reads in the first one");
        std::thread::spawn(move || drop(first)).join().unwrap();
        assert_eq!((free(&pieces), pieces.known_out_bytes()), (0, 2 * size), "until somebody asks");
        let larger = pieces.take(size + 1);
        assert_ne!(address(&larger), place);
        assert!(larger.as_ref().len() > size);
        assert_eq!((address(&pieces.take(5)), free(&pieces)), (place, 1));
        drop(larger);
        assert_eq!(pieces.out_bytes(), 0);
    }

    #[test]
    fn what_nobody_needs_between_two_rests_is_given_back() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let taken: Vec<Piece> = [1, 2, 3, 10 << 20].map(|bytes| pieces.take(bytes)).into();
        drop(taken);
        pieces.rest(0);
        assert_eq!(free(&pieces), 4, "they were in use since the last time");
        drop(pieces.take(1));
        pieces.rest(0);
        assert_eq!(free(&pieces), 1, "one was needed");
        let late = pieces.take(1);
        pieces.rest(0);
        drop(late);
        pieces.rest(0);
        assert_eq!(free(&pieces), 1, "it came back in between");
        pieces.rest(0);
        assert_eq!((free(&pieces), pieces.free.len()), (0, 0));
    }

    #[test]
    fn many_are_given_back_in_parts() {
        let mut pieces = Pieces::new(STEP_BYTES);
        drop((0..100).map(|_| pieces.take(1)).collect::<Vec<_>>());
        pieces.rest(0);
        pieces.rest(0);
        assert_eq!((free(&pieces), pieces.leaving.len(), pieces.is_leaving()), (0, 100, true));
        pieces.let_go();
        assert_eq!(pieces.leaving.len(), 100 - TURN_PIECES);
        (0..24).for_each(|_| pieces.let_go());
        assert!(!pieces.is_leaving());
    }

    #[test]
    fn what_was_given_back_is_new_again_at_the_same_addresses() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let mapped = |pieces: &Pieces| pieces.new.len();
        let mut places = [const { Vec::new() }; 3];
        for places in &mut places {
            let mut many: Vec<Piece> = (0..20).map(|_| pieces.take(1)).collect();
            assert!(
                many.iter().all(|piece| !piece.is_touched(1) && piece.as_ref().iter().all(|byte| *byte == 0))
            );
            places.extend(many.iter().map(address));
            places.sort_unstable();
            many.iter_mut().for_each(|piece| piece.as_mut().fill(7));
            let larger = pieces.take(STEP_BYTES + 1);
            many.into_iter().for_each(|piece| drop(piece.filled(0..STEP_BYTES)));
            drop(larger);
            pieces.rest(0);
            pieces.rest(0);
            while pieces.is_leaving() {
                pieces.let_go();
            }
            assert_eq!((mapped(&pieces), free(&pieces)), (2 * MAPPED_PIECES, 0), "no more, and none less");
        }
        let all: std::collections::BTreeSet<usize> = places.concat().into_iter().collect();
        assert!(all.len() <= 2 * MAPPED_PIECES, "of two mappings");
    }

    #[test]
    fn some_of_the_usual_size_stay_where_they_are_to() {
        let mut pieces = Pieces::new(STEP_BYTES);
        drop((0..5).map(|n| pieces.take(1 + n / 4 * STEP_BYTES)).collect::<Vec<_>>());
        (0..3).for_each(|_| pieces.rest(3));
        assert_eq!((free(&pieces), pieces.count_free(1), pieces.leaving.len()), (3, 3, 2));
        pieces.rest(2);
        assert_eq!(free(&pieces), 2);
        pieces.rest(0);
        assert_eq!(free(&pieces), 0);
    }

    #[test]
    fn what_is_about_to_leave_is_used_before_new_memory() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let many: Vec<Piece> = (0..=TURN_PIECES).map(|_| pieces.take(1)).collect();
        let known: Vec<usize> = many.iter().map(address).collect();
        drop(many);
        pieces.rest(0);
        pieces.rest(0);
        pieces.let_go();
        assert_eq!(pieces.leaving_bytes(), STEP_BYTES);
        assert!(known.contains(&address(&pieces.take(1))));
        assert_eq!(pieces.leaving_bytes(), 0);
    }

    #[test]
    fn a_piece_may_outlive_its_owner() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let outlives = pieces.take(1);
        drop(pieces);
        assert_eq!(outlives.as_ref()[0], 0);
    }

    #[test]
    fn a_piece_knows_how_far_it_was_written_to() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let first = pieces.take(1);
        let place = address(&first);
        assert!(first.is_touched(0) && !first.is_touched(1));
        drop(first.filled(0..5_000));
        let mut again = pieces.take(1);
        assert_eq!((address(&again), again.is_touched(5_000), again.is_touched(5_001)), (place, true, false));
        assert_ne!(address(&pieces.take_new(1)), place);
        again.touch();
        drop(again.filled(0..10));
        assert!(pieces.take(1).is_touched(STEP_BYTES));
        assert_eq!((pieces.count_free(1), pieces.free_bytes()), (2, 2 * STEP_BYTES));
        assert!(!pieces.take(STEP_BYTES + 1).is_touched(1));
    }

    #[test]
    fn only_what_was_filled_is_seen() {
        let mut pieces = Pieces::new(STEP_BYTES);
        let old = pieces.take(1).filled_with(&[7; 5000]).into_bytes();
        let place = old.as_ptr();
        drop(old);
        let new = pieces.take(1).filled_with(&[8; 3]).into_bytes();
        assert_eq!((new.as_ptr(), &new[..]), (place, &[8; 3][..]));
        assert!(pieces.take(1).filled(100..100).into_bytes().is_empty());
        assert_eq!(free(&pieces), 0);
        assert!(std::panic::catch_unwind(|| Pieces::new(4096).take(1).filled(0..4097)).is_err());
    }
}
