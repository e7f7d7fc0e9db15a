//! Each batch above the high watermark: how much of the log may still be cut, and what becomes known when it is committed.

use crate::types::*;
use std::collections::VecDeque;

/// In log order.
#[derive(Debug, Default)]
pub(super) struct Uncommitted {
    batches: VecDeque<UncommittedBatch>,
    bytes: u64,
    /// Where the last batch ends that was committed, if any was.
    committed_end: Option<Offset>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UncommittedBatch {
    next: Offset,
    pub(super) bytes: usize,
    /// Of its records; `None` where no consumer sees them.
    pub(super) timestamp: Option<i64>,
}

impl Uncommitted {
    /// A batch that ends before `next`.
    pub(super) fn push(&mut self, next: Offset, bytes: usize, timestamp: Option<i64>) {
        self.batches.push_back(UncommittedBatch { next, bytes, timestamp });
        self.bytes += bytes as u64;
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn committed_end(&self) -> Option<Offset> {
        self.committed_end
    }

    /// The first, if it is committed now.
    pub(super) fn pop_committed(&mut self, high_watermark: HighWatermark) -> Option<UncommittedBatch> {
        self.batches.front().filter(|batch| batch.next <= high_watermark.0)?;
        let batch = self.batches.pop_front()?;
        self.bytes -= batch.bytes as u64;
        self.committed_end = Some(batch.next);
        Some(batch)
    }

    pub(super) fn cut_to(&mut self, to: LogEndOffset) {
        while self.batches.back().is_some_and(|batch| batch.next > to.0) {
            if let Some(batch) = self.batches.pop_back() {
                self.bytes -= batch.bytes as u64;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_is_kept_in_mind_until_it_is_committed_or_cut() {
        let mut uncommitted = Uncommitted::default();
        for next in [11, 12, 13] {
            uncommitted.push(Offset(next), 50, Some(next));
        }
        assert_eq!(uncommitted.bytes(), 150);
        uncommitted.cut_to(LogEndOffset(Offset(12)));
        assert_eq!(
            (uncommitted.batches.len(), uncommitted.bytes()),
            (2, 100),
            "one that ends at the cut stays"
        );
        let mut committed = |to| uncommitted.pop_committed(HighWatermark(Offset(to))).map(|b| b.timestamp);
        assert_eq!([committed(10), committed(11), committed(11)], [None, Some(Some(11)), None]);
        assert_eq!(committed(12), Some(Some(12)), "one that ends at the high watermark is committed");
        assert_eq!((uncommitted.batches.len(), uncommitted.bytes()), (0, 0));
    }
}
