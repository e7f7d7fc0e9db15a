//! How the cases of `device` and `loopback` are shown: a table, or JSON.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

use kraft::server::control::latency::{StageHistograms, resizable};

use crate::written::Written;

const MIB: f64 = 1_048_576.0;

/// One case: what all its threads did.
pub(crate) struct Measured {
    pub(crate) name: String,
    /// In ns.
    pub(crate) latency: Histogram<u64>,
    pub(crate) bytes_each: usize,
    pub(crate) elapsed: Duration,
}

impl Measured {
    pub(crate) fn new(name: &str, bytes_each: usize) -> Measured {
        Measured { name: name.to_string(), latency: resizable(), bytes_each, elapsed: Duration::ZERO }
    }

    /// Take in what a thread did at the same time.
    pub(crate) fn add(&mut self, latency: &Histogram<u64>, elapsed: Duration) {
        // Without an upper bound it takes every value.
        let _ = self.latency.add(latency);
        self.elapsed = self.elapsed.max(elapsed);
    }

    fn per_second(&self) -> f64 {
        let seconds = self.elapsed.as_secs_f64();
        if seconds > 0.0 { self.latency.len() as f64 / seconds } else { 0.0 }
    }

    fn json(&self) -> Value {
        let mut stages = StageHistograms::default();
        stages.add("latency", &self.latency);
        json!({
            "name": self.name,
            "bytes_each": self.bytes_each,
            "seconds": self.elapsed.as_secs_f64(),
            "per_second": self.per_second(),
            "bytes_per_second": self.per_second() * self.bytes_each as f64,
            "latency": stages.json()["latency"],
        })
    }
}

/// The table, and the JSON file if one was asked for; `-` is stdout, in place of the table.
pub(crate) fn show(what: &str, cases: &[Measured], json: Option<&Path>) -> Result<Written, String> {
    let all: Vec<Value> = cases.iter().map(Measured::json).collect();
    let value = json!({ "what": what, "latency_unit": "us", "cases": all });
    Written::result(table(cases), &value, json, true)
}

fn table(cases: &[Measured]) -> String {
    let mut stages = StageHistograms::default();
    cases.iter().for_each(|case| stages.add(&case.name, &case.latency));
    let mut text = stages.table();
    for case in cases {
        let rate = case.per_second();
        let mib = rate * case.bytes_each as f64 / MIB;
        let _ = writeln!(text, "{}: {rate:.0}/s, {mib:.1} MB/s", case.name);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_that_ran_side_by_side_add_their_rates() {
        let mut one = resizable();
        (0..100).for_each(|_| one.record(50_000).unwrap());
        let mut case = Measured::new("4 KiB", 4096);
        case.add(&one, Duration::from_millis(900));
        case.add(&one, Duration::from_secs(1));
        let value = case.json();
        assert_eq!(
            (value["per_second"].as_f64(), value["latency"]["count"].as_u64()),
            (Some(200.0), Some(200))
        );
        assert_eq!(value["bytes_per_second"], 819_200.0);
        let shown = show("device", &[case], None).unwrap();
        assert!(shown.stdout.contains("4 KiB: 200/s, 0.8 MB/s"), "{}", shown.stdout);
    }
}
