//! Whether a core's clients are alike: when some want much of it beside others that want little, those who want little are not to
//! wait for what the others have brought.
//!
//! Two ways to want much: requests that cost much each, and many cheap ones under way at once. A record that waits behind them does so
//! where it is read, where it is taken, and again when its followers ask and when they have flushed. So as long as there are both,
//! rounds are short, reads are small and few requests are handed to the replica at once. Where all are alike that would
//! only cost: 1,000 connections need 5 to 9 % more CPU for each request with rounds and queues that short.

/// So long one is remembered to be there.
const REMEMBERED_NS: u64 = 100_000_000;
/// Who has so many requests under way is deep: more than a stint takes.
const DEEP_REQUESTS: u16 = 17;
/// Who has no more than these is shallow: what a Java producer has under way (`max.in.flight.requests.per.connection`).
const SHALLOW_REQUESTS: u16 = 5;
/// A depth loses this part with each request: who pipelines has few under way when it begins anew.
const FORGOTTEN_PER_REQUEST: u16 = 16;

/// How many requests one connection has under way at once, lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Depth(u16);

impl Depth {
    /// It has taken a request, with which so many are under way.
    fn took(&mut self, under_way: usize) {
        let under_way = u16::try_from(under_way).unwrap_or(u16::MAX);
        self.0 = under_way.max(self.0 - self.0.div_ceil(FORGOTTEN_PER_REQUEST));
    }
}

/// When a client of each kind was seen last.
#[derive(Debug, Default)]
pub(super) struct Mixture {
    cheap_ns: Option<u64>,
    dear_ns: Option<u64>,
    shallow_ns: Option<u64>,
    deep_ns: Option<u64>,
}

impl Mixture {
    /// A voter, or a client whose request costs little.
    pub(super) fn saw_cheap(&mut self, now_ns: u64) {
        self.cheap_ns = Some(now_ns);
    }

    /// A client whose next request costs much.
    pub(super) fn saw_dear(&mut self, now_ns: u64) {
        self.dear_ns = Some(now_ns);
    }

    /// A client has taken a request, with which so many are under way. Voters do not count: beside them alone, a client that
    /// pipelines waits for nobody's records but its own.
    pub(super) fn saw_depth(&mut self, depth: &mut Depth, under_way: usize, now_ns: u64) {
        depth.took(under_way);
        match depth.0 {
            ..=SHALLOW_REQUESTS => self.shallow_ns = Some(now_ns),
            DEEP_REQUESTS.. => self.deep_ns = Some(now_ns),
            _ => {}
        }
    }

    /// Some want much beside others that do not.
    pub(super) fn is_mixed(&self, now_ns: u64) -> bool {
        let is_there =
            |last_ns: Option<u64>| last_ns.is_some_and(|ns| now_ns.saturating_sub(ns) < REMEMBERED_NS);
        is_there(self.cheap_ns) && is_there(self.dear_ns)
            || is_there(self.shallow_ns) && is_there(self.deep_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_pipelines_is_not_shallow_when_it_begins_anew() {
        let (mut mixture, mut depth) = (Mixture::default(), Depth::default());
        // The first ones are not known.
        for under_way in 1..=64 {
            mixture.saw_depth(&mut depth, under_way, 0);
        }
        mixture.shallow_ns = None;
        for _ in 0..100 {
            for under_way in 1..=64 {
                mixture.saw_depth(&mut depth, under_way, 0);
            }
        }
        assert!(mixture.shallow_ns.is_none() && mixture.deep_ns.is_some());
    }

    #[test]
    fn who_stops_pipelining_is_shallow_after_a_while() {
        let (mut mixture, mut depth) = (Mixture::default(), Depth::default());
        mixture.saw_depth(&mut depth, 1_000_000, 0);
        let requests = (1..).find(|_| {
            mixture.saw_depth(&mut depth, 1, 0);
            mixture.shallow_ns.is_some()
        });
        assert!(requests < Some(200), "{requests:?}");
    }

    #[test]
    fn it_is_mixed_as_long_as_both_are_there() {
        let (mut mixture, mut deep) = (Mixture::default(), Depth(64));
        for now_ns in [0, REMEMBERED_NS] {
            mixture.saw_depth(&mut deep, 64, now_ns);
            mixture.saw_cheap(now_ns);
            assert!(!mixture.is_mixed(now_ns), "beside voters, or others like it");
            mixture.saw_depth(&mut Depth::default(), SHALLOW_REQUESTS.into(), now_ns);
            assert!(mixture.is_mixed(now_ns));
            assert!(
                mixture.is_mixed(now_ns + REMEMBERED_NS - 1) && !mixture.is_mixed(now_ns + REMEMBERED_NS)
            );
        }
        let mut mixture = Mixture::default();
        mixture.saw_dear(0);
        assert!(!mixture.is_mixed(0));
        mixture.saw_cheap(0);
        assert!(mixture.is_mixed(0));
    }
}
