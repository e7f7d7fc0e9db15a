//! The slowest requests of a second, each with the times at which it passed the points of its path.
//!
//! `stages` records into it beside its histograms, which forget which request it was; `server::control` keeps those of the
//! last minute. A request that is not among the slowest costs one comparison. Never allocates.

use crate::types::ErrorCode;

/// Of one second.
pub(crate) const SLOWEST_KEPT: usize = 8;

/// Monotonic ns at which a produce request that waited passed each point; `None` where it did not (acks=1 does not wait for
/// replication, and what is given up has waited for one of the two in vain).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) received_ns: u64,
    pub(crate) decoded_ns: u64,
    /// Or found to be there already: a duplicate's.
    pub(crate) appended_ns: u64,
    pub(crate) flushed_ns: Option<u64>,
    pub(crate) committed_ns: Option<u64>,
    pub(crate) answered_ns: u64,
}

/// One request that was answered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SlowRequest {
    pub(crate) passed: Passed,
    /// What it was told instead of its offset.
    pub(crate) error: Option<ErrorCode>,
    /// Where its first record lies, or lay when it was given up; -1: nowhere.
    pub(crate) base_offset: i64,
    pub(crate) connection: u64,
}

impl SlowRequest {
    pub(crate) fn took_ns(&self) -> u64 {
        self.passed.answered_ns.saturating_sub(self.passed.received_ns)
    }
}

/// In no order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Slowest {
    kept: [SlowRequest; SLOWEST_KEPT],
    len: usize,
    /// Of those kept the fastest, once there is no room.
    least_ns: u64,
}

impl Slowest {
    pub(crate) fn kept(&self) -> &[SlowRequest] {
        &self.kept[..self.len]
    }

    #[inline]
    pub(crate) fn offer(&mut self, request: SlowRequest) {
        if self.len < SLOWEST_KEPT || request.took_ns() > self.least_ns {
            self.keep(request);
        }
    }

    #[cold]
    fn keep(&mut self, request: SlowRequest) {
        let fastest = (0..self.len).min_by_key(|i| self.kept[*i].took_ns());
        match fastest {
            Some(fastest) if self.len == SLOWEST_KEPT => self.kept[fastest] = request,
            _ => {
                self.kept[self.len] = request;
                self.len += 1;
            }
        }
        if self.len == SLOWEST_KEPT {
            self.least_ns = self.kept().iter().map(SlowRequest::took_ns).min().unwrap_or(0);
        }
    }

    pub(super) fn clear(&mut self) {
        (self.len, self.least_ns) = (0, 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(n: u64, took_ns: u64) -> SlowRequest {
        let passed = Passed { received_ns: 1_000, answered_ns: 1_000 + took_ns, ..Passed::default() };
        SlowRequest { passed, error: None, base_offset: n as i64, connection: n }
    }

    fn kept(slowest: &Slowest) -> Vec<u64> {
        let mut took: Vec<u64> = slowest.kept().iter().map(SlowRequest::took_ns).collect();
        took.sort_unstable();
        took
    }

    #[test]
    fn those_that_took_longest_stay_whenever_they_came() {
        for order in [0, 1, 2] {
            let mut all: Vec<u64> = (1..=100).collect();
            match order {
                0 => {}
                1 => all.reverse(),
                _ => all.sort_by_key(|n| n * 37 % 101),
            }
            let mut slowest = Slowest::default();
            for n in &all {
                slowest.offer(request(*n, n * 10));
            }
            assert_eq!(kept(&slowest), (93..=100).map(|n| n * 10).collect::<Vec<u64>>());
            assert!(
                slowest.kept().iter().all(|slow| slow.took_ns() == slow.connection * 10),
                "each with its own"
            );
        }
    }

    #[test]
    fn what_is_cleared_begins_again() {
        let mut slowest = Slowest::default();
        (1..=20).for_each(|n| slowest.offer(request(n, 1_000_000)));
        slowest.clear();
        assert!(slowest.kept().is_empty());
        slowest.offer(request(7, 5));
        assert_eq!(kept(&slowest), [5], "a fast one, for there is room");
    }
}
