//! Latency histograms by stage: merging, percentiles, and the table that the server prints at stop.
//!
//! Values are ns; people read us. `kraft-latency` prints the same table from interval logs.

use std::fmt::Write as _;

use hdrhistogram::Histogram;
use serde_json::{Value, json};

const SIGNIFICANT_DIGITS: u8 = 3;
const NS_PER_US: f64 = 1000.0;

/// (name in JSON, quantile) of what is shown everywhere.
const PERCENTILES: [(&str, f64); 6] =
    [("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("p99.99", 0.9999)];

/// One histogram per stage in ns, in the order in which the stages came.
#[derive(Clone, Debug, Default)]
pub struct StageHistograms {
    stages: Vec<(String, Histogram<u64>)>,
}

impl StageHistograms {
    /// Add what a stage has recorded. The stage's own histogram grows as needed, whatever the bounds of `histogram`.
    pub fn add(&mut self, name: &str, histogram: &Histogram<u64>) {
        let target = match self.stages.iter().position(|(known, _)| known == name) {
            Some(i) => &mut self.stages[i].1,
            None => {
                self.stages.push((name.to_string(), resizable()));
                let (_, target) = self.stages.last_mut().expect("just pushed");
                target
            }
        };
        // Fails only where a value does not fit a histogram that may not grow, and this one may.
        if let Err(e) = target.add(histogram) {
            tracing::error!("Lost the latencies of stage {name}: {e}.");
        }
    }

    /// The stages in the order in which they came up, in ns.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Histogram<u64>)> {
        self.stages.iter().map(|(name, histogram)| (name.as_str(), histogram))
    }

    /// The times of one stage, in ns.
    pub fn get(&self, name: &str) -> Option<&Histogram<u64>> {
        self.iter().find(|(known, _)| *known == name).map(|(_, histogram)| histogram)
    }

    /// True where no stage has recorded anything.
    pub fn is_empty(&self) -> bool {
        self.stages.iter().all(|(_, histogram)| histogram.is_empty())
    }

    /// One line per stage: count, mean, percentiles and maximum in us.
    pub fn table(&self) -> String {
        let width =
            self.stages.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max("stage".len());
        let mut text = format!("{:width$} {:>12}", "stage (us)", "count", width = width.max(10));
        for column in ["mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"] {
            let _ = write!(text, " {column:>11}");
        }
        text.push('\n');
        for (name, h) in self.iter() {
            let _ = write!(text, "{name:width$} {:>12}", h.len(), width = width.max(10));
            let quantiles = [0.5, 0.9, 0.99, 0.999, 0.9999].map(|q| us(h.value_at_quantile(q)));
            for value in [h.mean() / NS_PER_US].into_iter().chain(quantiles).chain([us(h.max())]) {
                let _ = write!(text, " {value:>11.1}");
            }
            text.push('\n');
        }
        text
    }

    /// `{stage: {count, mean, p50 ... p99.99, min, max}}` in us.
    pub fn json(&self) -> Value {
        let stages = self.iter().map(|(name, h)| {
            let mut stage = json!({"count": h.len(), "mean": rounded(h.mean() / NS_PER_US)});
            for (percentile, quantile) in PERCENTILES {
                stage[percentile] = json!(us(h.value_at_quantile(quantile)));
            }
            stage["min"] = json!(us(h.min()));
            stage["max"] = json!(us(h.max()));
            (name.to_string(), stage)
        });
        Value::Object(stages.collect())
    }
}

/// An empty histogram without an upper bound, 3 digits.
pub fn resizable() -> Histogram<u64> {
    Histogram::new(SIGNIFICANT_DIGITS).expect("3 digits are within the crate's bounds")
}

fn us(ns: u64) -> f64 {
    rounded(ns as f64 / NS_PER_US)
}

fn rounded(us: f64) -> f64 {
    (us * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uniform(up_to_us: u64) -> Histogram<u64> {
        let mut h = Histogram::new_with_bounds(1, 60_000_000_000, 3).unwrap();
        (1..=up_to_us).for_each(|us| h.record(us * 1000).unwrap());
        h
    }

    #[test]
    fn table_shows_each_stage_in_us() {
        let mut stages = StageHistograms::default();
        stages.add("received_to_decoded", &uniform(1000));
        stages.add("end_to_end", &resizable());
        let table = stages.table();
        let lines: Vec<Vec<&str>> = table.lines().map(|l| l.split_whitespace().collect()).collect();
        assert_eq!(
            lines[0],
            ["stage", "(us)", "count", "mean", "p50", "p90", "p99", "p99.9", "p99.99", "max"]
        );
        assert_eq!(lines[1][..2], ["received_to_decoded", "1000"]);
        for (shown, expected) in lines[1][2..].iter().zip([500.5, 500.0, 900.0, 990.0, 999.0, 1000.0, 1000.0])
        {
            let shown: f64 = shown.parse().unwrap();
            assert!((shown - expected).abs() < expected * 0.002, "{shown} {expected}");
        }
        assert_eq!(lines[2][..4], ["end_to_end", "0", "0.0", "0.0"]);
        let widths: Vec<usize> = table.lines().map(str::len).collect();
        assert_eq!(widths, [widths[0]; 3], "columns are aligned:\n{table}");
    }

    #[test]
    fn adding_keeps_the_order() {
        let mut stages = StageHistograms::default();
        stages.add("x", &uniform(10));
        stages.add("y", &uniform(5));
        stages.add("x", &uniform(20));
        assert_eq!(stages.iter().map(|(n, h)| (n, h.len())).collect::<Vec<_>>(), [("x", 30), ("y", 5)]);
        assert_eq!(stages.json()["x"]["count"], 30);
        assert_eq!(stages.json()["y"]["p50"], 3.001);
    }
}
