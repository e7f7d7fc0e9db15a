//! (contract; the owner replaces this file)
use hdrhistogram::Histogram;
/// Latency histograms of produce requests in ns, 3 digits, one per stage (received → decoded → appended → flushed → replicated →
/// answered) and end to end.
#[derive(Clone, Debug)]
pub struct Stages {
    pub received_to_decoded: Histogram<u64>,
    pub decoded_to_appended: Histogram<u64>,
    pub appended_to_flushed: Histogram<u64>,
    pub appended_to_replicated: Histogram<u64>,
    pub committed_to_answered: Histogram<u64>,
    pub end_to_end: Histogram<u64>,
    pub committed_bytes: u64,
    pub committed_records: u64,
}
impl Stages {
    pub fn record_received_to_decoded(&mut self, _: u64) {}
    pub fn record_decoded_to_appended(&mut self, _: u64) {}
    pub fn record_appended_to_flushed(&mut self, _: u64) {}
    pub fn record_appended_to_replicated(&mut self, _: u64) {}
    pub fn record_end_to_end(&mut self, _: u64) {}
    pub fn new() -> Stages {
        unimplemented!()
    }
    /// (name, histogram) in the order of the path.
    pub fn named(&self) -> [(&'static str, &Histogram<u64>); 6] {
        unimplemented!()
    }
    pub fn merge(&mut self, _other: &Stages) {
        unimplemented!()
    }
}
