//! Receive buffers that are full, kept until nobody shares them any more, and then received into again.
//!
//! One for each core, used by the receive buffers of all its connections. What was received stays in the log's tail cache
//! for a while and leaves it in the order in which it came, so the buffer that was given up first becomes free first, and
//! only that one is looked at. It never waits: one that stays pinned is let go when the pool is full.

use bytes::BytesMut;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Size of all buffers in the pool. At full load they are those that the tail cache pins anyway: 16 MiB of batches in 1.7
/// times as much memory. When nothing is pinned any more, at the worst, the pool holds 32 MiB for itself until `shrink`,
/// and a node that needs 58 MiB after 10 GB is at 90 MiB.
const RETIRED_BYTES_MAX: usize = 32 << 20;
/// What all clients' receive buffers of a core may have beside the least that each needs: busy ones read more at once.
pub(super) const LENT_BYTES_MAX: usize = 16 << 20;
/// A smaller one is not worth its place.
const RETIRED_BYTES_MIN: usize = 24 * 1024;
/// Buffers that are looked at for one that fits.
const LOOKED_AT_MAX: usize = 8;
/// As many of the smallest ones as the bytes allow.
const RETIRED_BUFFERS_MAX: usize = RETIRED_BYTES_MAX / RETIRED_BYTES_MIN;
/// What was let go lies in the allocator's memory, among what is in use, and the kernel does not get it back by itself: a
/// node that has led and followed kept the buffers of both, 85 MiB where 49 were in use.
const LET_GO_BYTES_MIN: usize = 4 << 20;

/// See the module's text.
#[derive(Debug, Default)]
pub struct ReceivePool {
    /// Oldest first.
    retired: VecDeque<Allocation>,
    bytes: usize,
    /// Since the last `shrink`.
    is_used: bool,
    /// Size of all buffers let go since the last time that the allocator was to give memory back.
    let_go_bytes: usize,
    lent: Arc<AtomicUsize>,
}

/// What a receive buffer has beside the least, until it is dropped. Buffers may move to another core.
#[derive(Debug, Default)]
pub(super) struct Lent {
    bytes: usize,
    all: Arc<AtomicUsize>,
}

impl Lent {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        self.all.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// A buffer, and the size of the memory that it shares with the frames that were cut from it.
#[derive(Debug, Default)]
pub(super) struct Allocation {
    pub(super) buffer: BytesMut,
    pub(super) bytes: usize,
}

impl Allocation {
    pub(super) fn new(bytes: usize) -> Allocation {
        let buffer = BytesMut::with_capacity(bytes);
        Allocation { bytes: buffer.capacity(), buffer }
    }

    /// Nobody shares it any more: the (empty) buffer has all of its memory again.
    fn is_free(&mut self) -> bool {
        self.buffer.try_reclaim(self.bytes)
    }
}

impl ReceivePool {
    /// A client's buffer may have so many bytes more than the least.
    pub(super) fn may_lend(&self, bytes: usize) -> bool {
        self.lent.load(Ordering::Relaxed) + bytes <= LENT_BYTES_MAX
    }

    pub(super) fn lend(&self, bytes: usize) -> Lent {
        self.lent.fetch_add(bytes, Ordering::Relaxed);
        Lent { bytes, all: self.lent.clone() }
    }

    #[cfg(test)]
    pub(super) fn lent_bytes(&self) -> usize {
        self.lent.load(Ordering::Relaxed)
    }

    /// Take over a buffer that is left for another one, and what is in it for nothing.
    pub(super) fn retire(&mut self, mut left: Allocation) {
        if left.bytes < RETIRED_BYTES_MIN {
            return;
        }
        left.buffer.clear();
        self.bytes += left.bytes;
        self.retired.push_back(left);
        while self.bytes > RETIRED_BYTES_MAX || self.retired.len() > RETIRED_BUFFERS_MAX {
            self.let_go_oldest();
        }
    }

    /// An empty buffer of a size between these, if one of the oldest is free and fits. If they are free and none fits, the
    /// oldest is given up: sizes follow the load. A quiet connection, which wants little, gets none.
    pub(super) fn take(&mut self, least_bytes: usize, most_bytes: usize) -> Option<Allocation> {
        if least_bytes < RETIRED_BYTES_MIN {
            return None;
        }
        let mut looked_at = 0;
        while self.retired.get_mut(looked_at).is_some_and(Allocation::is_free) && looked_at < LOOKED_AT_MAX {
            if (least_bytes..=most_bytes).contains(&self.retired[looked_at].bytes) {
                self.is_used = true;
                return self.remove(looked_at);
            }
            looked_at += 1;
        }
        if looked_at > 0 {
            self.let_go_oldest();
        }
        None
    }

    fn let_go_oldest(&mut self) {
        self.let_go_bytes += self.remove(0).map_or(0, |oldest| oldest.bytes);
    }

    fn remove(&mut self, at: usize) -> Option<Allocation> {
        let removed = self.retired.remove(at)?;
        self.bytes -= removed.bytes;
        Some(removed)
    }

    /// A connection has ended, and the buffer that it received into is gone.
    pub(crate) fn note_gone(&mut self, bytes: usize) {
        self.let_go_bytes += bytes;
    }

    /// Called now and then: where none was used again since the last time, those that are free go. True: so much has gone
    /// that the allocator should give it to the kernel, and the load that it was needed for is over.
    pub(crate) fn shrink(&mut self) -> bool {
        if std::mem::take(&mut self.is_used) {
            return false;
        }
        let before = self.bytes;
        self.retired.retain_mut(|retired| !retired.is_free());
        self.bytes = self.retired.iter().map(|retired| retired.bytes).sum();
        self.let_go_bytes += before - self.bytes;
        let is_much = self.let_go_bytes >= LET_GO_BYTES_MIN;
        self.let_go_bytes *= usize::from(!is_much);
        is_much
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;

    const BYTES: usize = RETIRED_BYTES_MIN;

    /// A full buffer, and the frame that shares it.
    fn full(bytes: usize) -> (Allocation, Bytes) {
        let mut allocation = Allocation::new(bytes);
        allocation.buffer.resize(bytes, 7);
        let frame = allocation.buffer.split_to(bytes - 10).freeze();
        (allocation, frame)
    }

    #[test]
    fn the_oldest_is_used_again_once_nobody_shares_it() {
        let mut pool = ReceivePool::default();
        let ((first, first_frame), (second, second_frame)) = (full(BYTES), full(BYTES));
        let place = first_frame.as_ptr();
        pool.retire(first);
        pool.retire(second);
        drop(second_frame);
        assert!(pool.take(BYTES, BYTES).is_none(), "the oldest is pinned");
        drop(first_frame);
        let taken = pool.take(BYTES, BYTES).expect("it is free");
        assert_eq!((taken.buffer.as_ptr(), taken.buffer.capacity(), taken.bytes), (place, BYTES, BYTES));
        assert!(taken.buffer.is_empty());
        assert!(pool.take(BYTES, BYTES).is_some());
        assert!(pool.take(BYTES, BYTES).is_none());
        assert_eq!(pool.bytes, 0);
    }

    #[test]
    fn the_buffers_of_a_crowd_that_has_left_go_back_to_the_kernel() {
        let mut pool = ReceivePool::default();
        pool.note_gone(LET_GO_BYTES_MIN - 1);
        assert!(!pool.shrink(), "a few");
        pool.note_gone(1);
        assert_eq!([pool.shrink(), pool.shrink()], [true, false], "once");
    }

    #[test]
    fn what_is_free_and_does_not_fit_is_given_up() {
        let mut pool = ReceivePool::default();
        [BYTES, 4 * BYTES, 2 * BYTES].into_iter().for_each(|bytes| pool.retire(full(bytes).0));
        assert!(pool.take(BYTES / 4, BYTES / 2).is_none(), "a quiet connection gets none of them");
        assert_eq!(pool.retired.len(), 3);
        assert_eq!(
            pool.take(BYTES + 1, 3 * BYTES).map(|taken| taken.bytes),
            Some(2 * BYTES),
            "it is among the oldest"
        );
        assert_eq!((pool.retired.len(), pool.bytes), (2, 5 * BYTES));
        assert!(pool.take(8 * BYTES, 9 * BYTES).is_none());
        assert_eq!((pool.retired.len(), pool.bytes), (1, 4 * BYTES), "the oldest is given up");
        let (pinned, _frame) = full(BYTES);
        pool.retired.push_front(pinned);
        assert!(pool.take(4 * BYTES, 4 * BYTES).is_none(), "behind one that is pinned nothing is looked for");
        assert_eq!(pool.retired.len(), 2);
    }

    #[test]
    fn what_stays_pinned_leaves_at_the_bound() {
        let mut pool = ReceivePool::default();
        let (pinned, frame) = full(BYTES);
        pool.retire(pinned);
        pool.retire(full(BYTES - 1).0);
        for _ in 0..2 * RETIRED_BYTES_MAX / BYTES {
            pool.retire(full(BYTES).0);
            assert!(pool.bytes <= RETIRED_BYTES_MAX && pool.retired.len() <= RETIRED_BUFFERS_MAX);
        }
        assert!(frame.is_unique(), "the pool has let go of it");
        assert!(pool.take(BYTES, BYTES).is_some(), "and those behind it come to their turn");
        pool.retire(full(RETIRED_BYTES_MAX + 1).0);
        assert_eq!((pool.retired.len(), pool.bytes), (0, 0), "one larger than the pool");
    }

    #[test]
    fn a_pool_that_nobody_uses_keeps_only_what_is_pinned() {
        let mut pool = ReceivePool::default();
        let (pinned, frame) = full(BYTES);
        [full(BYTES).0, pinned, full(BYTES).0].into_iter().for_each(|left| pool.retire(left));
        assert!(pool.take(BYTES, BYTES).is_some());
        pool.shrink();
        assert_eq!(pool.retired.len(), 2, "it was used a moment ago");
        pool.shrink();
        assert_eq!((pool.retired.len(), pool.bytes), (1, BYTES));
        drop(frame);
        pool.shrink();
        assert_eq!((pool.retired.len(), pool.bytes), (0, 0));
    }

    #[test]
    fn what_was_let_go_goes_back_to_the_kernel_when_the_load_is_over() {
        let mut pool = ReceivePool::default();
        let bytes = LET_GO_BYTES_MIN / 2;
        let (pinned, frame) = full(bytes);
        [full(bytes).0, pinned].into_iter().for_each(|left| pool.retire(left));
        assert!(!pool.shrink(), "half of it is shared");
        drop(frame);
        pool.is_used = true;
        assert!(!pool.shrink(), "it was used a moment ago");
        assert!(pool.shrink());
        assert!(!pool.shrink(), "once");
        // Of other sizes than are wanted now: a node that followed, and leads.
        [full(bytes).0, full(bytes).0].into_iter().for_each(|left| pool.retire(left));
        assert!(pool.take(BYTES, BYTES).is_none() && pool.take(BYTES, BYTES).is_none());
        assert_eq!(pool.bytes, 0);
        assert!(pool.shrink());
    }
}
