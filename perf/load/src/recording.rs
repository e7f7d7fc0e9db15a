//! What a thread has seen in a second, and what these sum up to.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;

use kraft::server::control::latency::resizable;

/// Longer times without an acknowledgement are written down, such as a change of leaders.
const PAUSE_NS_MIN: u64 = 50_000_000;
const PAUSES_MAX: usize = 1000;

/// Of one thread, in one second.
#[derive(Clone, Debug)]
pub(crate) struct Recording {
    /// In ns, of batches that were due while measured: from the due time.
    pub(crate) latency: Histogram<u64>,
    /// The same from when they were sent; empty in the closed loop, where it would be the same.
    pub(crate) service: Histogram<u64>,
    /// Acknowledged while measured.
    pub(crate) counts: Counts,
    /// Acknowledged in the warm-up and after the end too.
    pub(crate) all_records: u64,
    pub(crate) errors: BTreeMap<String, u64>,
    pub(crate) pauses: Vec<Pause>,
    /// When the last batch was acknowledged that was due while measured.
    pub(crate) last_ack_ns: u64,
    /// Of a thread's connections; known when it ends.
    pub(crate) of_each: Option<Spread>,
}

/// Batches of the connection that had the fewest acknowledged, and of the one that had the most: who is served out of turn
/// shows here, whatever the machine does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Spread {
    pub(crate) fewest: u64,
    pub(crate) most: u64,
}

impl Spread {
    pub(crate) fn of(counts: impl Iterator<Item = u64>) -> Option<Spread> {
        counts.map(|count| Spread { fewest: count, most: count }).reduce(Spread::merge)
    }

    fn merge(self, other: Spread) -> Spread {
        Spread { fewest: self.fewest.min(other.fewest), most: self.most.max(other.most) }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) batches: u64,
    pub(crate) records: u64,
    pub(crate) value_bytes: u64,
    /// Batches that were sent more than once count each time.
    pub(crate) retries: u64,
    /// Records that were refused for good.
    pub(crate) failed_records: u64,
}

/// A time in which this thread saw no acknowledgement, in ns since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) from_ns: u64,
    pub(crate) to_ns: u64,
}

impl Recording {
    pub(crate) fn new() -> Recording {
        Recording {
            latency: resizable(),
            service: resizable(),
            counts: Counts::default(),
            all_records: 0,
            errors: BTreeMap::new(),
            pauses: Vec::new(),
            last_ack_ns: 0,
            of_each: None,
        }
    }

    pub(crate) fn add_error(&mut self, what: &str) {
        match self.errors.get_mut(what) {
            Some(count) => *count += 1,
            None => drop(self.errors.insert(what.to_string(), 1)),
        }
    }

    pub(crate) fn add_pause(&mut self, from_ns: u64, to_ns: u64) {
        if to_ns - from_ns >= PAUSE_NS_MIN && self.pauses.len() < PAUSES_MAX {
            self.pauses.push(Pause { from_ns, to_ns });
        }
    }

    /// Take in what another thread, or another second, has seen.
    pub(crate) fn merge(&mut self, other: &Recording) {
        // Neither has an upper bound, so that all values fit.
        let _ = self.latency.add(&other.latency);
        let _ = self.service.add(&other.service);
        let (counts, more) = (&mut self.counts, &other.counts);
        counts.batches += more.batches;
        counts.records += more.records;
        counts.value_bytes += more.value_bytes;
        counts.retries += more.retries;
        counts.failed_records += more.failed_records;
        self.all_records += other.all_records;
        for (what, count) in &other.errors {
            *self.errors.entry(what.clone()).or_default() += count;
        }
        let room = PAUSES_MAX.saturating_sub(self.pauses.len());
        self.pauses.extend(other.pauses.iter().take(room));
        self.last_ack_ns = self.last_ack_ns.max(other.last_ack_ns);
        self.of_each = match (self.of_each, other.of_each) {
            (Some(one), Some(another)) => Some(one.merge(another)),
            (one, another) => one.or(another),
        };
    }

    /// Begin again, with the memory of the histograms.
    pub(crate) fn reset(&mut self) {
        let (mut latency, mut service) = (std::mem::replace(&mut self.latency, resizable()), resizable());
        std::mem::swap(&mut service, &mut self.service);
        latency.reset();
        service.reset();
        *self = Recording { latency, service, last_ack_ns: self.last_ack_ns, ..Recording::new() };
    }

    pub(crate) fn error_count(&self) -> u64 {
        self.errors.values().sum()
    }
}

/// All seconds of all threads, put together.
pub(crate) struct Seconds {
    pub(crate) each: Vec<Recording>,
    pub(crate) unanswered: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_and_seconds_add_up() {
        let mut one = Recording::new();
        one.latency.record(1000).unwrap();
        one.counts = Counts { batches: 1, records: 2, value_bytes: 3, retries: 4, failed_records: 5 };
        one.add_error("a");
        one.add_pause(0, PAUSE_NS_MIN);
        one.add_pause(0, PAUSE_NS_MIN - 1);
        one.last_ack_ns = 9;
        one.of_each = Spread::of([7, 3, 5].into_iter());
        let mut sum = Recording::new();
        sum.merge(&one);
        one.add_error("b");
        one.of_each = Spread::of([4, 9].into_iter());
        sum.merge(&one);
        assert_eq!(sum.of_each, Some(Spread { fewest: 3, most: 9 }));
        let expected = Counts { batches: 2, records: 4, value_bytes: 6, retries: 8, failed_records: 10 };
        assert_eq!((sum.counts, sum.latency.len(), sum.error_count()), (expected, 2, 3));
        assert_eq!((sum.pauses.len(), sum.last_ack_ns), (2, 9));
        sum.reset();
        assert_eq!((sum.counts, sum.latency.len(), sum.error_count()), (Counts::default(), 0, 0));
    }
}
