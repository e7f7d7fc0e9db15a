//! Blocks: runs of batches in memory that all readers share, and the reads of the device that will become some.
//!
//! A block is what one read of the device has brought, or what was copied from the tail cache: whole batches from one place of the log, each
//! checked once. Who wants what is being read already waits for that read. When there is no room, the block goes that has been in the
//! line longest without being asked for, and of which no answer has a slice. All of it is flushed, and none of it was cut: a cut drops what
//! reaches over it, and raises a number by which reads that were under way are known.
//!
//! Owned by the log, on the replica core, which says when there is no room: it knows how much memory all that was read has. What
//! answers pin has a bound of its own (`replica::room::reads`).

use super::index::Place;
use super::op::{OpId, SegmentId};
use crate::record::CheckedRun;
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Runs that lie one behind the other: so many are passed over at most when the end of them is looked for.
const NEIGHBOURS_MAX: usize = 64;
/// Places in the line of blocks that have gone: with more of them than this, and than there are blocks, the line is cleared.
const GONE_MAX: usize = 16;

/// Held by whoever has a slice of a block.
pub(super) type Pin = Arc<()>;

struct Block {
    id: u64,
    run: CheckedRun,
    /// Answers that have slices of it hold clones of this.
    pin: Pin,
    /// Somebody was given what lies before this. Who goes on there is the first to read it.
    given: Offset,
    /// Where its last batch ends in the file, if that is known.
    end: Option<Place>,
    /// Somebody asked for what had been given before, since the hand came by.
    is_wanted: bool,
}

/// Who reads ahead puts nobody's block out but one of so many who are first in the line.
const COLD_MAX: usize = 16;

impl Block {
    fn give(&mut self, from: Offset, next: Offset) {
        self.is_wanted |= from < self.given;
        self.given = self.given.max(next);
    }

    fn is_pinned(&self) -> bool {
        Arc::strong_count(&self.pin) > 1
    }
}

/// What a reader wants of the log.
pub(crate) struct Want {
    pub(crate) from: Offset,
    /// No batch that reaches over it. A truncation lowers it.
    pub(crate) bound: Offset,
    /// At least one batch is given whatever it measures.
    pub(crate) max_bytes: usize,
    /// Let go of with the last of the bytes that were given.
    pub(crate) keep: Keep,
}

/// Somebody who is read for.
pub(super) struct Waiter {
    pub(super) token: u64,
    pub(super) want: Want,
    /// Another read has brought what he wants while he waited for this one.
    pub(super) was_read: bool,
}

/// Lives as long as any slice of what was read: whoever answers for the memory sees when it is free.
type Keep = Arc<dyn Send + Sync>;

/// A read of the device that is under way.
pub(super) struct Load {
    pub(super) segment: SegmentId,
    pub(super) position: u64,
    pub(super) length: usize,
    /// Base offset of the batch at `position`.
    pub(super) base: Offset,
    /// What begins before this is read; who wants it may wait for it.
    pub(super) end: Offset,
    /// Of the log, when the read began: what lies behind is not believed.
    pub(super) flushed: Offset,
    /// It has a piece of the usual size, and becomes a block.
    pub(super) is_kept: bool,
    /// Cuts before it, at either end of the log.
    pub(super) cuts: u64,
    /// For whom it was begun. `None`: it is read ahead.
    pub(super) founder: Option<Waiter>,
    /// Those who came later.
    pub(super) others: Vec<Waiter>,
}

impl Load {
    fn waiters(&mut self) -> impl Iterator<Item = &mut Waiter> {
        self.founder.iter_mut().chain(&mut self.others)
    }

    /// Whoever is served by it, and whether it was begun for him.
    pub(super) fn take_waiters(&mut self) -> Vec<(Waiter, bool)> {
        let founder = self.founder.take().map(|waiter| (waiter, true));
        founder.into_iter().chain(self.others.drain(..).map(|waiter| (waiter, false))).collect()
    }
}

/// All blocks of a log.
pub(super) struct Blocks {
    /// By base offset.
    blocks: BTreeMap<Offset, Block>,
    /// Who is put out next. A block that has gone leaves its place behind, to be passed over.
    line: VecDeque<(Offset, u64)>,
    last_id: u64,
    loads: BTreeMap<OpId, Load>,
    cuts: u64,
    /// Where a read ahead has brought nothing: the next one that is ahead would not either. Who asks for it reads it all the same.
    unreadable: Option<Range<Offset>>,
    pinned: usize,
    hits: u64,
    misses: u64,
    ahead: u64,
}

impl Blocks {
    pub(super) fn new() -> Blocks {
        Blocks {
            blocks: BTreeMap::new(),
            line: VecDeque::new(),
            last_id: 0,
            loads: BTreeMap::new(),
            cuts: 0,
            unreadable: None,
            pinned: 0,
            hits: 0,
            misses: 0,
            ahead: 0,
        }
    }

    /// The block that has the batch of this offset.
    fn holding(&self, offset: Offset) -> Option<&Block> {
        // One that came later may begin within an older one, and end before it does.
        let mut before = self.blocks.range(..=offset).rev().take(2);
        before.find_map(|(_, block)| (offset < block.run.next_offset()).then_some(block))
    }

    /// Who wants it finds it here.
    pub(super) fn get(&self, offset: Offset) -> Option<&CheckedRun> {
        self.holding(offset).map(|block| &block.run)
    }

    /// Somebody wants this of what a block has.
    pub(super) fn take(&mut self, want: &Want) -> Option<(CheckedRun, Pin)> {
        let base = self.get(want.from)?.base_offset();
        let block = self.blocks.get_mut(&base)?;
        let slice = block.run.slice(want.from, want.bound, want.max_bytes)?;
        block.give(want.from, slice.next_offset());
        self.hits += 1;
        Some((slice, block.pin.clone()))
    }

    /// Somebody was given this of what has just been read.
    pub(super) fn on_given(&mut self, from: Offset, next: Offset) {
        let base = self.get(from).map(CheckedRun::base_offset);
        if let Some(block) = base.and_then(|base| self.blocks.get_mut(&base)) {
            block.give(from, next);
        }
    }

    /// Where the file goes on behind a block that ends at this offset.
    pub(super) fn place_behind(&self, offset: Offset) -> Option<Place> {
        let (_, before) = self.blocks.range(..offset).next_back()?;
        before.end.filter(|_| before.run.next_offset() == offset)
    }

    /// Base offset of the first block behind this offset.
    pub(super) fn next_base(&self, offset: Offset) -> Option<Offset> {
        self.blocks.range(Offset(offset.0 + 1)..).next().map(|(base, _)| *base)
    }

    /// The first offset from `from` on that is neither here nor on its way, and how many bytes lie between, about.
    /// `None`: it is far, or the device could not read it.
    pub(super) fn first_missing(&self, from: Offset) -> Option<(Offset, usize)> {
        let (mut at, mut bytes) = (from, 0);
        for _ in 0..NEIGHBOURS_MAX {
            if let Some(block) = self.holding(at) {
                let passed = at.0.abs_diff(block.run.next_offset().0) as usize;
                let all = block.run.next_offset().0.abs_diff(block.run.base_offset().0).max(1) as usize;
                bytes += (block.run.size_bytes() as u128 * passed as u128 / all as u128) as usize;
                at = block.run.next_offset();
            } else if let Some((_, load)) = self.load_of(at) {
                bytes += load.length;
                at = load.end;
            } else {
                return Some((at, bytes))
                    .filter(|_| !self.unreadable.as_ref().is_some_and(|bad| bad.contains(&at)));
            }
        }
        None
    }

    /// What was copied from batches that are flushed, or read; `end`: where it ends in the file. Checked, and of the log as it is.
    pub(super) fn keep(&mut self, run: CheckedRun, end: Option<Place>, is_wanted: bool, pin: Pin) {
        let base = run.base_offset();
        if self.get(base).is_some_and(|there| there.next_offset() >= run.next_offset()) {
            return;
        }
        self.unreadable.take_if(|bad| base <= bad.start && bad.start < run.next_offset());
        self.last_id += 1;
        let id = self.last_id;
        self.blocks.insert(base, Block { id, run, pin, given: base, end, is_wanted });
        self.line.push_back((base, id));
        if self.line.len() > 2 * self.blocks.len() + GONE_MAX {
            let blocks = &self.blocks;
            self.line.retain(|(base, id)| blocks.get(base).is_some_and(|block| block.id == *id));
        }
    }

    /// Put out the first in the line that nobody has asked for since it got there, and of which no answer has a slice. False:
    /// there is none.
    pub(super) fn put_one_out(&mut self) -> bool {
        // Each has its turn twice: the first time it may still be wanted.
        for _ in 0..2 * self.line.len() {
            let Some((base, id)) = self.line.pop_front() else { return false };
            let Some(block) = self.blocks.get_mut(&base).filter(|block| block.id == id) else { continue };
            if std::mem::take(&mut block.is_wanted) || block.is_pinned() {
                self.line.push_back((base, id));
            } else {
                self.blocks.remove(&base);
                return true;
            }
        }
        false
    }

    /// The same for who can wait: of those who are first in the line one that nobody wants, as it is.
    pub(super) fn put_cold_out(&mut self) -> bool {
        let is_cold = |(base, id): &(Offset, u64)| {
            let block = self.blocks.get(base).filter(|block| block.id == *id);
            block.is_some_and(|block| !block.is_wanted && !block.is_pinned())
        };
        let Some(at) = self.line.iter().take(COLD_MAX).position(is_cold) else { return false };
        self.line.remove(at).is_some_and(|(base, _)| self.blocks.remove(&base).is_some())
    }

    /// Reads ahead that are under way.
    pub(super) fn loads_ahead(&self) -> usize {
        self.loads.values().filter(|load| load.founder.is_none()).count()
    }

    /// What lies behind is no more of the log, and other batches may come in its place.
    pub(super) fn cut(&mut self, to: Offset) {
        self.cuts += 1;
        self.unreadable = None;
        let reaches_over = |(base, block): (&Offset, &Block)| (block.run.next_offset() > to).then_some(*base);
        let gone: Vec<Offset> = self.blocks.iter().filter_map(reaches_over).collect();
        gone.iter().for_each(|base| _ = self.blocks.remove(base));
        for load in self.loads.values_mut() {
            load.waiters().for_each(|waiter| waiter.want.bound = waiter.want.bound.min(to));
        }
    }

    /// Nobody finds what lies before it any more, and what is read of it says nothing of the log.
    pub(super) fn start_at(&mut self, start: Offset) {
        self.cuts += 1;
        self.blocks.retain(|_, block| block.run.next_offset() > start);
        self.unreadable.take_if(|bad| bad.start < start);
    }

    /// Another log takes the place of this one.
    pub(super) fn forget_all(&mut self) {
        self.cuts += 1;
        self.blocks.clear();
        self.unreadable = None;
    }

    /// A read is under way, of whatever.
    pub(super) fn has_loads(&self) -> bool {
        !self.loads.is_empty()
    }

    /// A read of this segment is under way.
    pub(super) fn reads_from(&self, segment: SegmentId) -> bool {
        self.loads.values().any(|load| load.segment == segment)
    }

    pub(super) fn note_unreadable(&mut self, offsets: Range<Offset>) {
        self.unreadable = Some(offsets);
    }

    pub(super) fn cuts(&self) -> u64 {
        self.cuts
    }

    pub(super) fn begin_load(&mut self, id: OpId, load: Load) {
        match load.founder {
            Some(_) => self.misses += 1,
            None => self.ahead += 1,
        }
        self.loads.insert(id, load);
    }

    /// A read has found these batches good. Who waits for one of them at another read is not told the contrary by that one: it would be
    /// taken for newer than it is.
    pub(super) fn on_good(&mut self, offsets: Range<Offset>) {
        for waiter in self.loads.values_mut().flat_map(Load::waiters) {
            waiter.was_read |= offsets.contains(&waiter.want.from);
        }
    }

    /// It is here, or will never be.
    pub(super) fn end_load(&mut self, id: OpId) -> Load {
        self.loads.remove(&id).expect("a read that completes was submitted")
    }

    /// Of the log as it is, and with the batch of this offset.
    fn load_of(&self, offset: Offset) -> Option<(OpId, &Load)> {
        let has = |load: &Load| load.cuts == self.cuts && load.base <= offset && offset < load.end;
        self.loads.iter().find(|(_, load)| has(load)).map(|(id, load)| (*id, load))
    }

    /// Wait for a read that is under way. Gives the waiter back where there is none that has what it wants.
    pub(super) fn join(&mut self, waiter: Waiter) -> Option<Waiter> {
        let id = self.load_of(waiter.want.from).map(|(id, _)| id);
        let Some(load) = id.and_then(|id| self.loads.get_mut(&id)) else { return Some(waiter) };
        load.others.push(waiter);
        self.hits += 1;
        None
    }

    /// Now and then, for whoever asks: it looks at each block.
    pub(super) fn count_pinned(&mut self) {
        self.pinned = self.blocks.values().filter(|block| block.is_pinned()).count();
    }

    /// Blocks that answers had slices of when they were counted last.
    pub(super) fn pinned(&self) -> usize {
        self.pinned
    }

    /// Times that somebody was served from memory, that the device was read for who asked, and that it was read ahead.
    pub(super) fn counts(&self) -> [u64; 3] {
        [self.hits, self.misses, self.ahead]
    }
}
