//! Produce requests that wait for what they promise: a flush (acks=1) or the high watermark (acks=-1).
//!
//! Filled and emptied by `produce`. In the order of the offset that must be passed, so that an advance of the high watermark
//! touches only the requests that it completes. That is nearly always the order in which they come, so a queue holds them,
//! whose room is used again.

use std::collections::VecDeque;

use smallvec::SmallVec;

use crate::protocol::messages::StrBytes;
use crate::replica::input::Ticket;
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
    pub(super) topic_name: StrBytes,
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    pub(super) error: ErrorCode,
    pub(super) message: Option<String>,
    /// Records that are to blame, and why.
    pub(super) record_errors: Vec<(i32, String)>,
    /// -1 with an error.
    pub(super) base_offset: i64,
    /// The promise holds when this offset is passed; `None`: nothing to wait for.
    pub(super) needs: Option<Offset>,
}

/// Of one request. Nearly all have one partition.
pub(super) type PartitionAnswers = SmallVec<[PartitionAnswer; 1]>;

#[derive(Debug)]
pub(super) struct ParkedProduce {
    pub(super) ticket: Ticket,
    pub(super) answers: PartitionAnswers,
    /// Epoch in which it was appended: in another one the promise cannot be kept any more.
    pub(super) epoch: Epoch,
    pub(super) appended_ns: u64,
    /// 0: not yet.
    pub(super) flushed_ns: u64,
    pub(super) deadline_ns: u64,
}

#[derive(Default)]
pub(super) struct Purgatory {
    for_flush: Waiting,
    for_commit: Waiting,
    /// No request's time is over before. A bound from below: whose deadline it was may have gone meanwhile.
    deadline_ns: u64,
    flushed: Offset,
}

impl Purgatory {
    /// Park until `needs` is passed: flushed offset or high watermark >= needs.
    pub(super) fn park(&mut self, promise: Promise, needs: Offset, request: ParkedProduce) {
        let earlier_ns = if self.len() == 0 { u64::MAX } else { self.deadline_ns };
        self.deadline_ns = request.deadline_ns.min(earlier_ns);
        self.waiting(promise).insert(needs, request);
    }

    /// Remember when each request's records became durable here, for the histograms.
    pub(super) fn on_flushed(&mut self, flushed: FlushedOffset, now: Now) {
        if flushed.0 > self.flushed {
            let waiting = &mut self.for_commit;
            let passed = waiting.up_to(self.flushed)..waiting.up_to(flushed.0);
            waiting.0.range_mut(passed).for_each(|(_, request)| request.flushed_ns = now.monotonic_ns);
        }
        self.flushed = flushed.0;
    }

    /// The next request whose promise holds.
    pub(super) fn pop_kept(&mut self, promise: Promise, passed: Offset) -> Option<ParkedProduce> {
        self.waiting(promise).pop_kept(passed)
    }

    fn waiting(&mut self, promise: Promise) -> &mut Waiting {
        match promise {
            Promise::Flushed => &mut self.for_flush,
            Promise::Committed => &mut self.for_commit,
        }
    }

    /// The requests whose time is over, the earliest first. They are looked for only when one may be.
    pub(super) fn take_expired(&mut self, now: Now) -> Vec<ParkedProduce> {
        if self.deadline().is_none_or(|deadline_ns| deadline_ns > now.monotonic_ns) {
            return Vec::new();
        }
        let mut expired = self.take(|request| request.deadline_ns <= now.monotonic_ns);
        expired.sort_by_key(|request| request.deadline_ns);
        let left = self.for_flush.0.iter().chain(&self.for_commit.0);
        self.deadline_ns = left.map(|(_, request)| request.deadline_ns).min().unwrap_or(u64::MAX);
        expired
    }

    /// The requests of another epoch than this one (`None`: of any).
    pub(super) fn take_outdated(&mut self, leading: Option<Epoch>) -> Vec<ParkedProduce> {
        self.take(|request| Some(request.epoch) != leading)
    }

    fn take(&mut self, is_over: impl Fn(&ParkedProduce) -> bool) -> Vec<ParkedProduce> {
        let mut taken = Vec::new();
        self.for_flush.take(&is_over, &mut taken);
        self.for_commit.take(&is_over, &mut taken);
        taken
    }

    /// When `take_expired` is due, or a little before.
    pub(super) fn deadline(&self) -> Option<u64> {
        (self.len() > 0).then_some(self.deadline_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.for_flush.0.len() + self.for_commit.0.len()
    }
}

/// Requests of one promise, by the offset that must be passed; of the same one in the order in which they came.
#[derive(Default)]
struct Waiting(VecDeque<(Offset, ParkedProduce)>);

impl Waiting {
    /// Behind all that need no more. A duplicate of an idempotent producer may need less than what has come before it.
    fn insert(&mut self, needs: Offset, request: ParkedProduce) {
        let in_order = self.0.back().is_none_or(|(last, _)| *last <= needs);
        let at = if in_order { self.0.len() } else { self.up_to(needs) };
        self.0.insert(at, (needs, request));
    }

    /// How many hold when `passed` is.
    fn up_to(&self, passed: Offset) -> usize {
        self.0.partition_point(|(needs, _)| *needs <= passed)
    }

    fn pop_kept(&mut self, passed: Offset) -> Option<ParkedProduce> {
        self.0.front().filter(|(needs, _)| *needs <= passed)?;
        self.0.pop_front().map(|(_, request)| request)
    }

    /// Move those that are over to `taken`, the rest stays as it stood.
    fn take(&mut self, is_over: &impl Fn(&ParkedProduce) -> bool, taken: &mut Vec<ParkedProduce>) {
        for _ in 0..self.0.len() {
            let Some((needs, request)) = self.0.pop_front() else { return };
            match is_over(&request) {
                true => taken.push(request),
                false => self.0.push_back((needs, request)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::connection_id::ConnectionId;

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

    fn epochs(requests: Vec<ParkedProduce>) -> Vec<i32> {
        requests.iter().map(|request| request.epoch.0).collect()
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
        assert!(purgatory.take_expired(now(49)).is_empty());
        assert_eq!(epochs(purgatory.take_expired(now(50))), [2]);
        assert!(purgatory.take_outdated(Some(Epoch(1))).is_empty());
        assert_eq!(epochs(purgatory.take_outdated(Some(Epoch(3)))), [1]);
        assert_eq!(purgatory.len(), 0);
    }

    #[test]
    fn what_needs_less_goes_before_what_came_earlier() {
        let mut purgatory = Purgatory::default();
        for (needs, epoch) in [(5, 1), (9, 2), (12, 3), (9, 4), (3, 5)] {
            purgatory.park(Promise::Committed, Offset(needs), request(epoch, 100));
        }
        let mut kept = |passed| {
            let kept = std::iter::from_fn(|| purgatory.pop_kept(Promise::Committed, Offset(passed)));
            epochs(kept.collect())
        };
        assert_eq!(kept(4), [5]);
        assert_eq!(kept(11), [1, 2, 4], "a duplicate of 9 stands behind the first one");
        assert_eq!(kept(12), [3]);
    }

    #[test]
    fn the_deadline_is_looked_for_anew_when_it_has_passed() {
        let mut purgatory = Purgatory::default();
        let now = |ns| Now { monotonic_ns: ns, wall_ms: 0 };
        for (needs, deadline_ns) in [(5, 50), (6, 90), (7, 80), (8, 85), (9, 200)] {
            purgatory.park(Promise::Committed, Offset(needs), request(deadline_ns as i32, deadline_ns));
        }
        purgatory.park(Promise::Flushed, Offset(5), request(150, 150));
        assert!(purgatory.pop_kept(Promise::Committed, Offset(5)).is_some());
        assert_eq!(purgatory.deadline(), Some(50), "of the one that has gone");
        assert!(purgatory.take_expired(now(50)).is_empty());
        assert_eq!(purgatory.deadline(), Some(80));
        assert_eq!(epochs(purgatory.take_expired(now(90))), [80, 85, 90], "all at once, the earliest first");
        assert_eq!(purgatory.deadline(), Some(150), "of the acks=1 request");
        assert_eq!(epochs(purgatory.take_expired(now(300))), [150, 200]);
        assert_eq!(purgatory.deadline(), None);
        purgatory.park(Promise::Flushed, Offset(9), request(1, 400));
        assert_eq!(purgatory.deadline(), Some(400), "nothing of before counts");
    }

    #[test]
    fn those_that_stay_when_others_go_keep_their_order() {
        let mut purgatory = Purgatory::default();
        for (needs, epoch) in [(5, 1), (6, 2), (7, 1), (8, 2)] {
            purgatory.park(Promise::Committed, Offset(needs), request(epoch, 100 + needs as u64));
        }
        assert_eq!(epochs(purgatory.take_outdated(Some(Epoch(2)))), [1, 1]);
        let mut kept = |passed| purgatory.pop_kept(Promise::Committed, Offset(passed)).map(|r| r.deadline_ns);
        assert_eq!([kept(5), kept(6), kept(7), kept(8)], [None, Some(106), None, Some(108)]);
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
