//! The newest batches of the log in memory: the writer takes from it what is not on the device yet, fetches near the
//! end are served from it.
//!
//! Bounded by `tail_cache_bytes_max`, but for what is not flushed: that stays (bounded by `unflushed_bytes_max`),
//! so whatever is not in here can be read back from the device. The batches share the bytes that were received.

use crate::record::{BatchList, BatchLists, StampedBatch};
use crate::types::*;
use std::collections::VecDeque;

/// The newest batches, which followers ask for: looked at before all others, because the CPU's cache has them.
const NEWEST_BATCHES: usize = 32;

pub(super) struct TailCache {
    batches: VecDeque<StampedBatch>,
    /// So many of them, the oldest, are in blocks too, or are being copied.
    copied: usize,
    copied_bytes: usize,
    bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub(super) fn new(bytes_max: usize) -> TailCache {
        TailCache { batches: VecDeque::new(), copied: 0, copied_bytes: 0, bytes: 0, bytes_max }
    }

    /// Base offset of the oldest batch in memory.
    pub(super) fn start(&self) -> Option<Offset> {
        self.batches.front().map(StampedBatch::base_offset)
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn push(&mut self, batch: StampedBatch) {
        let follows = self.batches.back().is_none_or(|last| last.next_offset() == batch.base_offset());
        assert!(follows, "batches of the tail cache are contiguous");
        self.bytes += batch.size_bytes();
        self.batches.push_back(batch);
    }

    /// Forget the oldest batches over the bound, but never an unflushed one.
    pub(super) fn evict(&mut self, flushed: FlushedOffset) {
        while self.bytes > self.bytes_max
            && self.batches.front().is_some_and(|oldest| oldest.next_offset() <= flushed.0)
        {
            self.forget_oldest();
        }
    }

    /// All before is flushed, and nobody finds it any more.
    pub(super) fn forget_below(&mut self, start: Offset) {
        while self.batches.front().is_some_and(|oldest| oldest.next_offset() <= start) {
            self.forget_oldest();
        }
    }

    /// All is flushed, or was cut.
    pub(super) fn forget_all(&mut self) {
        *self = TailCache::new(self.bytes_max);
    }

    fn forget_oldest(&mut self) {
        let bytes = self.batches.pop_front().map_or(0, |b| b.size_bytes());
        self.bytes -= bytes;
        if self.copied > 0 {
            self.copied -= 1;
            self.copied_bytes -= bytes;
        }
    }

    /// Of those that are not copied, flushed or not.
    pub(super) fn uncopied_bytes(&self) -> usize {
        self.bytes - self.copied_bytes
    }

    pub(super) fn bytes_max(&self) -> usize {
        self.bytes_max
    }

    /// The oldest of those that are flushed and not copied, as many as have room in so many bytes. They count as copied from now
    /// on, and so does one that is larger than that and comes first: none are given then.
    pub(super) fn take_to_copy(&mut self, flushed: FlushedOffset, bytes_max: usize) -> Vec<StampedBatch> {
        let mut bytes = 0;
        let fits = |batch: &&StampedBatch| {
            bytes += batch.size_bytes();
            batch.next_offset() <= flushed.0 && bytes <= bytes_max
        };
        let taken: Vec<StampedBatch> = self.batches.range(self.copied..).take_while(fits).cloned().collect();
        let flushed = self.batches.get(self.copied).filter(|batch| batch.next_offset() <= flushed.0);
        let passed = if taken.is_empty() { flushed.map(StampedBatch::size_bytes) } else { None };
        self.copied += taken.len() + passed.iter().count();
        self.copied_bytes += taken.iter().map(StampedBatch::size_bytes).sum::<usize>() + passed.unwrap_or(0);
        taken
    }

    /// The batches from the one that contains `from` on; none where that one is not in memory.
    pub(super) fn iter_from(&self, from: Offset) -> impl Iterator<Item = &StampedBatch> {
        let cached = self.start().is_some_and(|start| start <= from);
        let first = if cached { self.first_from(from) } else { self.batches.len() };
        self.batches.range(first..)
    }

    /// Place of the first batch that does not end at or before `from`.
    fn first_from(&self, from: Offset) -> usize {
        let newest = self.batches.iter().rev().take(NEWEST_BATCHES);
        match newest.take_while(|batch| batch.next_offset() > from).count() {
            NEWEST_BATCHES => self.batches.partition_point(|batch| batch.next_offset() <= from),
            wanted => self.batches.len() - wanted,
        }
    }

    /// Cut to `to`; a batch that reaches over it goes as a whole. Gives the batches cut off, newest first.
    pub(super) fn truncate(&mut self, to: Offset) -> Vec<StampedBatch> {
        let mut cut = Vec::new();
        while self.batches.back().is_some_and(|last| last.next_offset() > to) {
            cut.extend(self.batches.pop_back());
        }
        self.bytes -= cut.iter().map(StampedBatch::size_bytes).sum::<usize>();
        if self.copied > self.batches.len() {
            (self.copied, self.copied_bytes) = (self.batches.len(), self.bytes);
        }
        cut
    }

    /// Whole batches from the one that contains `from`, below `bound`, at most `max_bytes` but at least one.
    /// `None` where the one that contains `from` is not in memory.
    pub(super) fn read(
        &self,
        from: Offset,
        bound: Offset,
        max_bytes: usize,
        lists: &mut BatchLists,
    ) -> Option<BatchList> {
        self.start().filter(|start| *start <= from)?;
        let mut bytes = 0;
        let fits = |(index, batch): &(usize, &StampedBatch)| {
            bytes += batch.size_bytes();
            batch.next_offset() <= bound && (bytes <= max_bytes || *index == 0)
        };
        let first = self.first_from(from);
        let count = self.batches.range(first..).enumerate().take_while(fits).count();
        let batches = self.batches.range(first..first + count).cloned();
        Some(lists.fill([].into_iter(), batches))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::harness::batch;

    #[test]
    fn a_batch_is_found_wherever_it_stands() {
        const RECORDS: i64 = 3;
        for batches in [0, 1, NEWEST_BATCHES - 1, NEWEST_BATCHES, NEWEST_BATCHES + 1, 3 * NEWEST_BATCHES] {
            let mut tail = TailCache::new(usize::MAX);
            (0..batches as i64)
                .for_each(|n| tail.push(batch(Offset(n * RECORDS), 1, 1, RECORDS as usize, 8)));
            for from in 0..(batches as i64 + 1) * RECORDS {
                let expected = batches.min((from / RECORDS) as usize);
                assert_eq!(tail.first_from(Offset(from)), expected, "{from} in {batches} batches");
            }
        }
    }
}
