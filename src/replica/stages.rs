//! Latency of produce requests, stage by stage.
//!
//! The replica records a request's stages when it answers it; the server takes the histograms every few seconds, merges
//! those of all cores and writes them out. Recording is a few additions and never allocates, fails or waits.

use super::slowest::{Passed, Slowest};
use hdrhistogram::Histogram;

/// Smallest and largest latency told apart; a longer one counts as the largest.
const LATENCY_NS_MIN: u64 = 1;
const LATENCY_NS_MAX: u64 = 60_000_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;

/// Latency histograms of produce requests in ns, 3 digits, one per stage (received → decoded → appended → flushed → replicated →
/// answered) and end to end.
#[derive(Clone, Debug)]
pub(crate) struct Stages {
    pub(crate) received_to_decoded: Histogram<u64>,
    decoded_to_appended: Histogram<u64>,
    /// Until this node's own flush.
    appended_to_flushed: Histogram<u64>,
    /// Until the high watermark has passed it.
    appended_to_replicated: Histogram<u64>,
    committed_to_answered: Histogram<u64>,
    pub(crate) end_to_end: Histogram<u64>,
    pub(crate) slowest: Slowest,
    pub(crate) committed_bytes: u64,
    pub(crate) committed_records: u64,
}

impl Stages {
    pub(crate) fn new() -> Stages {
        Stages {
            received_to_decoded: histogram(),
            decoded_to_appended: histogram(),
            appended_to_flushed: histogram(),
            appended_to_replicated: histogram(),
            committed_to_answered: histogram(),
            end_to_end: histogram(),
            slowest: Slowest::default(),
            committed_bytes: 0,
            committed_records: 0,
        }
    }

    /// (name, histogram) in the order of the path.
    pub(crate) fn named(&self) -> [(&'static str, &Histogram<u64>); 6] {
        [
            ("received_to_decoded", &self.received_to_decoded),
            ("decoded_to_appended", &self.decoded_to_appended),
            ("appended_to_flushed", &self.appended_to_flushed),
            ("appended_to_replicated", &self.appended_to_replicated),
            ("committed_to_answered", &self.committed_to_answered),
            ("end_to_end", &self.end_to_end),
        ]
    }

    /// Record an acknowledged request: each stage whose two ends it passed.
    pub(crate) fn record(&mut self, passed: &Passed) {
        record_ns(&mut self.received_to_decoded, passed.received_ns, passed.decoded_ns);
        record_ns(&mut self.end_to_end, passed.received_ns, passed.answered_ns);
        record_ns(&mut self.decoded_to_appended, passed.decoded_ns, passed.appended_ns);
        if let Some(flushed_ns) = passed.flushed_ns {
            record_ns(&mut self.appended_to_flushed, passed.appended_ns, flushed_ns);
        }
        if let Some(committed_ns) = passed.committed_ns {
            record_ns(&mut self.appended_to_replicated, passed.appended_ns, committed_ns);
            record_ns(&mut self.committed_to_answered, committed_ns, passed.answered_ns);
        }
    }

    /// Count what the high watermark has passed.
    pub(super) fn record_committed(&mut self, bytes: u64, records: u64) {
        self.committed_bytes += bytes;
        self.committed_records += records;
    }

    /// Nothing is recorded; the memory stays.
    pub(crate) fn clear(&mut self) {
        for histogram in [
            &mut self.received_to_decoded,
            &mut self.decoded_to_appended,
            &mut self.appended_to_flushed,
            &mut self.appended_to_replicated,
            &mut self.committed_to_answered,
            &mut self.end_to_end,
        ] {
            histogram.reset();
        }
        self.slowest.clear();
        (self.committed_bytes, self.committed_records) = (0, 0);
    }
}

impl Default for Stages {
    fn default() -> Stages {
        Stages::new()
    }
}

/// Record the time between two points into a stage. A clock that seems to run backwards counts as the smallest time.
fn record_ns(stage: &mut Histogram<u64>, from_ns: u64, to_ns: u64) {
    stage.saturating_record(to_ns.saturating_sub(from_ns).clamp(LATENCY_NS_MIN, LATENCY_NS_MAX));
}

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(LATENCY_NS_MIN, LATENCY_NS_MAX, SIGNIFICANT_DIGITS)
        .expect("the bounds are constants within the crate's limits")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(committed_ns: Option<u64>) -> Passed {
        Passed {
            received_ns: 1_000,
            decoded_ns: 3_000,
            appended_ns: 10_000,
            flushed_ns: Some(110_000),
            committed_ns,
            answered_ns: 201_000,
        }
    }

    #[test]
    fn each_stage_is_the_time_between_its_ends() {
        let mut stages = Stages::new();
        stages.record(&passed(Some(150_000)));
        let expected = [2_000, 7_000, 100_000, 140_000, 51_000, 200_000];
        for ((name, stage), expected) in stages.named().into_iter().zip(expected) {
            assert_eq!(stage.len(), 1, "{name}");
            assert!(stage.equivalent(stage.max(), expected), "{name}: {} ns", stage.max());
        }
    }

    #[test]
    fn a_stage_that_a_request_did_not_pass_stays_empty() {
        let mut stages = Stages::new();
        stages.record(&passed(None));
        assert_eq!(stages.appended_to_flushed.len(), 1);
        assert_eq!(stages.appended_to_replicated.len() + stages.committed_to_answered.len(), 0);
        stages.record(&Passed { flushed_ns: None, ..passed(Some(150_000)) });
        assert_eq!((stages.appended_to_flushed.len(), stages.end_to_end.len()), (1, 2));
    }

    #[test]
    fn extremes_saturate() {
        let mut stages = Stages::new();
        record_ns(&mut stages.end_to_end, 5, 5);
        record_ns(&mut stages.end_to_end, 9, 5);
        record_ns(&mut stages.end_to_end, 0, u64::MAX);
        assert_eq!((stages.end_to_end.len(), stages.end_to_end.min()), (3, 1));
        assert!(stages.end_to_end.equivalent(stages.end_to_end.max(), LATENCY_NS_MAX));
    }

    #[test]
    fn what_is_cleared_begins_again() {
        let mut stages = Stages::new();
        stages.record(&passed(Some(150_000)));
        stages.record_committed(100, 3);
        stages.clear();
        assert!(stages.named().iter().all(|(_, stage)| stage.is_empty()));
        assert_eq!((stages.committed_bytes, stages.committed_records), (0, 0));
        stages.record(&passed(Some(150_000)));
        stages.record_committed(50, 1);
        assert!(stages.named().iter().all(|(_, stage)| stage.len() == 1));
        assert_eq!((stages.committed_bytes, stages.committed_records), (50, 1));
    }
}
