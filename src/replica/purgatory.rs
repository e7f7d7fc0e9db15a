//! Produce requests that wait for what they promise: a flush (acks=1) or the high watermark (acks=-1).
//!
//! Filled and emptied by `produce`. Ordered by the offset that must be passed, so that an advance of the high watermark
//! touches only the requests that it completes.

use std::collections::{BTreeMap, BTreeSet};

use smallvec::SmallVec;

use super::Ticket;
use crate::protocol::messages::StrBytes;
use crate::types::*;

/// What a waiting request waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    Flushed,
    Committed,
}

/// One partition's line of a Produce answer.
#[derive(Debug)]
pub(super) struct PartitionAnswer {
    pub topic_name: StrBytes,
    pub topic_id: Uuid,
    pub index: i32,
    pub error: ErrorCode,
    pub message: Option<String>,
    /// -1 with an error.
    pub base_offset: i64,
    /// The promise holds when this offset is passed; `None`: nothing to wait for.
    pub needs: Option<Offset>,
}

/// Of one request. Nearly all have one partition.
pub(super) type PartitionAnswers = SmallVec<[PartitionAnswer; 1]>;

#[derive(Debug)]
pub(super) struct ParkedProduce {
    pub ticket: Ticket,
    pub answers: PartitionAnswers,
    /// Epoch in which it was appended: in another one the promise cannot be kept any more.
    pub epoch: Epoch,
    pub appended_ns: u64,
    /// 0: not yet.
    pub flushed_ns: u64,
    pub deadline_ns: u64,
}

type Key = (Promise, Offset, u64);

#[derive(Default)]
pub(super) struct Purgatory {
    parked: BTreeMap<Key, ParkedProduce>,
    deadlines: BTreeSet<(u64, Key)>,
    flushed: Offset,
    next_id: u64,
}

impl Purgatory {
    pub fn len(&self) -> usize {
        self.parked.len()
    }

    /// Park until `needs` is passed: flushed offset or high watermark >= needs.
    pub fn park(&mut self, promise: Promise, needs: Offset, request: ParkedProduce) {
        self.next_id += 1;
        let key = (promise, needs, self.next_id);
        self.deadlines.insert((request.deadline_ns, key));
        self.parked.insert(key, request);
    }

    /// Remember when each request's records became durable here, for the histograms.
    pub fn on_flushed(&mut self, flushed: FlushedOffset, now: Now) {
        let passed = (Promise::Committed, Offset(self.flushed.0 + 1), 0)
            ..(Promise::Committed, Offset(flushed.0.0 + 1), 0);
        if flushed.0 > self.flushed {
            self.parked.range_mut(passed).for_each(|(_, request)| request.flushed_ns = now.monotonic_ns);
        }
        self.flushed = flushed.0;
    }

    /// The next request whose promise holds.
    pub fn pop_kept(&mut self, promise: Promise, passed: Offset) -> Option<ParkedProduce> {
        let (key, _) =
            self.parked.range((promise, Offset(i64::MIN), 0)..=(promise, passed, u64::MAX)).next()?;
        self.remove(*key)
    }

    /// The next request whose time is over.
    pub fn pop_expired(&mut self, now: Now) -> Option<ParkedProduce> {
        let (deadline, key) = self.deadlines.first().copied()?;
        if deadline > now.monotonic_ns { None } else { self.remove(key) }
    }

    /// The next request of another epoch than this one (`None`: of any).
    pub fn pop_outdated(&mut self, leading: Option<Epoch>) -> Option<ParkedProduce> {
        let key = self.parked.iter().find(|(_, r)| Some(r.epoch) != leading).map(|(key, _)| *key)?;
        self.remove(key)
    }

    pub fn deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    fn remove(&mut self, key: Key) -> Option<ParkedProduce> {
        let request = self.parked.remove(&key)?;
        self.deadlines.remove(&(request.deadline_ns, key));
        Some(request)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::ConnectionId;

    fn request(epoch: i32, deadline_ns: u64) -> ParkedProduce {
        let ticket =
            Ticket { connection: ConnectionId(1), seq: 0, api_version: 9, received_ns: 0, decoded_ns: 0 };
        ParkedProduce {
            ticket,
            answers: PartitionAnswers::new(),
            epoch: Epoch(epoch),
            appended_ns: 0,
            flushed_ns: 0,
            deadline_ns,
        }
    }

    #[test]
    fn a_promise_is_kept_only_when_its_own_offset_is_passed() {
        let mut purgatory = Purgatory::default();
        purgatory.park(Promise::Committed, Offset(5), request(1, 100));
        purgatory.park(Promise::Flushed, Offset(5), request(1, 90));
        assert!(purgatory.pop_kept(Promise::Committed, Offset(4)).is_none());
        assert!(purgatory.pop_kept(Promise::Committed, Offset(5)).is_some());
        assert_eq!(purgatory.len(), 1, "the acks=1 request waits for the flush, not for the high watermark");
        assert!(purgatory.pop_kept(Promise::Flushed, Offset(5)).is_some());
        assert_eq!(purgatory.deadline(), None);
    }

    #[test]
    fn many_may_wait_for_the_same_offset() {
        let mut purgatory = Purgatory::default();
        for epoch in 1..=3 {
            purgatory.park(Promise::Committed, Offset(5), request(epoch, 100));
        }
        let kept = std::iter::from_fn(|| purgatory.pop_kept(Promise::Committed, Offset(5)));
        assert_eq!(kept.map(|r| r.epoch.0).collect::<Vec<_>>(), [1, 2, 3], "in the order in which they came");
    }

    #[test]
    fn time_and_epochs_end_the_wait() {
        let mut purgatory = Purgatory::default();
        purgatory.park(Promise::Committed, Offset(5), request(1, 100));
        purgatory.park(Promise::Committed, Offset(6), request(2, 50));
        assert_eq!(purgatory.deadline(), Some(50));
        let now = |ns| Now { monotonic_ns: ns, wall_ms: 0 };
        assert!(purgatory.pop_expired(now(49)).is_none());
        assert_eq!(purgatory.pop_expired(now(50)).map(|r| r.epoch), Some(Epoch(2)));
        assert!(purgatory.pop_outdated(Some(Epoch(1))).is_none());
        assert!(purgatory.pop_outdated(Some(Epoch(3))).is_some());
        assert_eq!(purgatory.len(), 0);
    }

    #[test]
    fn flush_times_are_noted_once_for_those_that_wait_for_the_quorum() {
        let mut purgatory = Purgatory::default();
        purgatory.park(Promise::Committed, Offset(5), request(1, 100));
        purgatory.park(Promise::Committed, Offset(9), request(1, 100));
        purgatory.on_flushed(FlushedOffset(Offset(5)), Now { monotonic_ns: 7, wall_ms: 0 });
        purgatory.on_flushed(FlushedOffset(Offset(9)), Now { monotonic_ns: 8, wall_ms: 0 });
        assert_eq!(purgatory.pop_kept(Promise::Committed, Offset(9)).map(|r| r.flushed_ns), Some(7));
        assert_eq!(purgatory.pop_kept(Promise::Committed, Offset(9)).map(|r| r.flushed_ns), Some(8));
    }
}
