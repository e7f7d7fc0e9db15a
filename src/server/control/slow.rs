//! The slowest requests of the last minute, for `/slow`: a histogram says that somebody waited, this says where. Those that were
//! given up are among them.
//!
//! The reporter adds those of each second, the page reads them. Nothing here is seen by the replica core.

use std::collections::VecDeque;

use serde_json::{Value, json};

use crate::replica::slowest::{SLOWEST_KEPT, SlowRequest};
use crate::types::{ErrorCode, NS_PER_MS};

/// How long they are remembered.
const KEPT_NS: u64 = 60_000 * NS_PER_MS;
/// A second brings so many at most, and may be told late.
const KEPT_MAX: usize = 64 * SLOWEST_KEPT;
const SHOWN_MAX: usize = 32;

/// In the order in which they came.
#[derive(Default)]
pub(super) struct LastSlow(VecDeque<SlowRequest>);

impl LastSlow {
    pub(super) fn add(&mut self, slowest: &[SlowRequest], now_ns: u64) {
        self.0.extend(slowest);
        self.0.retain(|slow| now_ns.saturating_sub(slow.passed.answered_ns) <= KEPT_NS);
        let over = self.0.len().saturating_sub(KEPT_MAX);
        self.0.drain(..over);
    }

    /// The slowest first.
    pub(super) fn json(&self, now_ns: u64) -> Value {
        let is_recent = |slow: &&SlowRequest| now_ns.saturating_sub(slow.passed.answered_ns) <= KEPT_NS;
        let mut slowest: Vec<&SlowRequest> = self.0.iter().filter(is_recent).collect();
        slowest.sort_by_key(|slow| std::cmp::Reverse(slow.took_ns()));
        let shown: Vec<Value> = slowest.iter().take(SHOWN_MAX).map(|slow| request(slow, now_ns)).collect();
        json!({ "unit": "us", "of_last_seconds": KEPT_NS / (1_000 * NS_PER_MS), "requests": shown })
    }
}

/// Stages as in the histograms; null where it did not pass one.
fn request(slow: &SlowRequest, now_ns: u64) -> Value {
    let passed = &slow.passed;
    let us = |from_ns: Option<u64>, to_ns: Option<u64>| {
        from_ns.zip(to_ns).map(|(from, to)| to.saturating_sub(from) as f64 / 1_000.0)
    };
    let [received, decoded] = [passed.received_ns, passed.decoded_ns].map(Some);
    let [appended, answered] = [passed.appended_ns, passed.answered_ns].map(Some);
    json!({
        "answered_ms_ago": now_ns.saturating_sub(passed.answered_ns) / NS_PER_MS,
        "error": slow.error.map(ErrorCode::name),
        "base_offset": slow.base_offset,
        "connection": slow.connection,
        "end_to_end": us(received, answered),
        "received_to_decoded": us(received, decoded),
        "decoded_to_appended": us(decoded, appended),
        "appended_to_flushed": us(appended, passed.flushed_ns),
        "appended_to_replicated": us(appended, passed.committed_ns),
        "committed_to_answered": us(passed.committed_ns, answered),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::slowest::Passed;

    /// Answered `second`, after so many us.
    fn slow(second: u64, took_us: u64) -> SlowRequest {
        let answered_ns = second * 1_000 * NS_PER_MS;
        let received_ns = answered_ns - took_us * 1_000;
        let passed = Passed {
            received_ns,
            decoded_ns: received_ns + 2_000,
            appended_ns: received_ns + 5_000,
            flushed_ns: None,
            committed_ns: Some(answered_ns - 1_000),
            answered_ns,
        };
        SlowRequest { passed, error: None, base_offset: took_us as i64, connection: 3 }
    }

    fn took(last: &LastSlow, second: u64) -> Vec<f64> {
        let json = last.json(second * 1_000 * NS_PER_MS);
        json["requests"].as_array().unwrap().iter().map(|r| r["end_to_end"].as_f64().unwrap()).collect()
    }

    #[test]
    fn the_slowest_of_the_last_minute_come_first() {
        let mut last = LastSlow::default();
        for second in 100..=110 {
            let of_second = [slow(second, 10 * second), slow(second, 20)];
            last.add(&of_second, second * 1_000 * NS_PER_MS);
        }
        assert_eq!(took(&last, 110)[..3], [1_100.0, 1_090.0, 1_080.0]);
        assert_eq!(took(&last, 110).len(), 22);
        assert_eq!(took(&last, 169).first(), Some(&1_100.0), "nobody has come since");
        assert!(took(&last, 171).is_empty(), "a minute is over for all");
        last.add(&[slow(165, 7)], 165 * 1_000 * NS_PER_MS);
        assert_eq!(took(&last, 165).len(), 13, "those of six seconds and the new one");
        assert_eq!(last.0.len(), 13, "the others are gone");
    }

    #[test]
    fn however_many_come_a_bound_holds_and_few_are_shown() {
        let mut last = LastSlow::default();
        (0..1_000).for_each(|n| last.add(&[slow(100, 10 + n)], 100 * 1_000 * NS_PER_MS));
        assert_eq!((last.0.len(), took(&last, 100).len()), (KEPT_MAX, SHOWN_MAX));
    }

    #[test]
    fn each_stage_has_its_time_and_null_is_none() {
        let json = request(&slow(100, 50), 101_500 * NS_PER_MS);
        let times = ["end_to_end", "received_to_decoded", "decoded_to_appended", "appended_to_replicated"];
        assert_eq!(times.map(|stage| json[stage].as_f64().unwrap()), [50.0, 2.0, 3.0, 44.0]);
        assert_eq!(json["committed_to_answered"], 1.0);
        assert!(json["appended_to_flushed"].is_null() && json["error"].is_null());
        let given_up = SlowRequest { error: Some(ErrorCode::REQUEST_TIMED_OUT), ..slow(100, 50) };
        assert_eq!(request(&given_up, 101_500 * NS_PER_MS)["error"], "REQUEST_TIMED_OUT");
        assert_eq!((json["answered_ms_ago"].as_u64(), json["base_offset"].as_i64()), (Some(1_500), Some(50)));
    }
}
