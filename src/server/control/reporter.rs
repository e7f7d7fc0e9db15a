//! The thread that reports: every 5 s the line of Kafka's `TestRaftServer` on stdout and an interval in the log, at stop a
//! table.
//!
//! An idle node stays quiet: the line comes for an interval in which something was committed, and once more after it, so
//! that a reader sees the load end.

use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

use hdrhistogram::Histogram;

use super::interval_log::IntervalLog;
use super::latency::{StageHistograms, resizable};
use super::{Shared, lock};
use crate::replica::stages::Stages;

pub(super) enum Report {
    Stages(Box<Stages>),
    Finish,
}

pub(super) struct Reporter {
    shared: Arc<Shared>,
    stdout: Box<dyn Write + Send>,
    log: IntervalLog,
    /// The log failed once and has said so.
    log_failed: bool,
    length: Duration,
    interval: Interval,
    printed_last: bool,
    /// Records that this node had appended as leader, and when.
    produced_last: (u64, Instant),
}

/// What has come since the last line.
struct Interval {
    began: Instant,
    stages: StageHistograms,
    end_to_end: Histogram<u64>,
    committed_bytes: u64,
    committed_records: u64,
}

impl Interval {
    fn new(began: Instant) -> Interval {
        Interval {
            began,
            stages: StageHistograms::default(),
            end_to_end: resizable(),
            committed_bytes: 0,
            committed_records: 0,
        }
    }

    fn add(&mut self, stages: &Stages) {
        for (name, histogram) in stages.named() {
            self.stages.add(name, histogram);
        }
        // Cannot fail: this histogram grows as needed.
        let _ = self.end_to_end.add(&stages.end_to_end);
        self.committed_bytes += stages.committed_bytes;
        self.committed_records += stages.committed_records;
    }

    /// Byte for byte as Kafka's `TestRaftServer.WriteStats` prints it.
    fn line(&self, seconds: f64) -> String {
        let ms = |quantile: f64| self.end_to_end.value_at_quantile(quantile) as f64 / 1e6;
        format!(
            "Throughput (bytes/second): {:.2}, Latency (ms): {:.1} p75 {:.1} p99 {:.1} p999",
            self.committed_bytes as f64 / seconds,
            ms(0.75),
            ms(0.99),
            ms(0.999)
        )
    }
}

impl Reporter {
    pub fn new(
        shared: Arc<Shared>,
        log_dir: PathBuf,
        stdout: Box<dyn Write + Send>,
        length: Duration,
    ) -> Reporter {
        let began = shared.started;
        Reporter {
            shared,
            stdout,
            log: IntervalLog::new(log_dir, SystemTime::now()),
            log_failed: false,
            length,
            interval: Interval::new(began),
            printed_last: false,
            produced_last: (0, began),
        }
    }

    pub fn run(mut self, reports: Receiver<Report>) {
        let mut due = self.interval.began + self.length;
        loop {
            match reports.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Report::Stages(stages)) => self.on_stages(&stages),
                Ok(Report::Finish) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if Instant::now() >= due {
                self.end_interval();
                // After a stall the missed lines are not made up for.
                due = (due + self.length).max(Instant::now() + self.length / 2);
            }
        }
        self.end_interval();
        self.finish();
    }

    fn on_stages(&mut self, stages: &Stages) {
        self.interval.add(stages);
        let mut latency = lock(&self.shared.latency);
        for (name, histogram) in stages.named() {
            latency.since_start.add(name, histogram);
        }
    }

    fn end_interval(&mut self) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.interval.began);
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = self.interval.committed_records > 0;
        if busy || self.printed_last {
            let line = self.interval.line(seconds);
            self.print(&format!("{line}\n"));
        }
        self.printed_last = busy;
        self.write_log(elapsed);
        let append_records_rate = self.append_records_rate();
        let ended = std::mem::replace(&mut self.interval, Interval::new(now));
        let mut latency = lock(&self.shared.latency);
        latency.last_interval = ended.stages;
        latency.last_interval_seconds = seconds;
        latency.append_records_rate = append_records_rate;
    }

    /// Between the last statuses of this interval and the one before; 0 where none was published since.
    fn append_records_rate(&mut self) -> f64 {
        let Some(published) = self.shared.last_status() else { return 0.0 };
        let produced = published.status.counters.produced_records;
        let (last, last_at) = std::mem::replace(&mut self.produced_last, (produced, published.at));
        let seconds = published.at.saturating_duration_since(last_at).as_secs_f64();
        if seconds > 0.0 { produced.saturating_sub(last) as f64 / seconds } else { 0.0 }
    }

    fn write_log(&mut self, elapsed: Duration) {
        let since_start = self.interval.began.duration_since(self.shared.started);
        if let Err(e) = self.log.write(&self.interval.stages, since_start, elapsed)
            && !std::mem::replace(&mut self.log_failed, true)
        {
            tracing::warn!(
                "The latency log cannot be written ({e}); its intervals are lost, the node goes on."
            );
        }
    }

    fn finish(&mut self) {
        let lost = self.shared.lost_stages.load(Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!("Lost the latencies of {lost} seconds: they came faster than they were reported.");
        }
        let total = lock(&self.shared.latency).since_start.clone();
        if total.is_empty() {
            return;
        }
        let mut text = format!("Latency of produce requests since the start:\n{}", total.table());
        if let Some(path) = self.log.path() {
            text.push_str(&format!("Interval log: {}\n", path.display()));
        }
        self.print(&text);
    }

    /// A stdout that is closed takes nothing, and the node does not depend on it.
    fn print(&mut self, text: &str) {
        let _ = self.stdout.write_all(text.as_bytes());
        let _ = self.stdout.flush();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replica::{Counters, Status};
    use crate::server::control::PublishedStatus;

    #[test]
    fn line_is_that_of_kafkas_test_server() {
        let mut interval = Interval::new(Instant::now());
        for us in 1..=1000u64 {
            interval.end_to_end.record(us * 20_000).unwrap();
        }
        interval.committed_bytes = 1_234_567;
        let expected = "Throughput (bytes/second): 246913.40, Latency (ms): 15.0 p75 19.8 p99 20.0 p999";
        assert_eq!(interval.line(5.0), expected);
    }

    /// A status is up to a second old when the interval ends.
    #[test]
    fn the_rate_of_appends_is_between_two_statuses() {
        let shared = Arc::new(Shared::new());
        let began = shared.started;
        let mut reporter =
            Reporter::new(shared.clone(), PathBuf::new(), Box::new(std::io::sink()), Duration::MAX);
        let mut rate_at = |seconds, produced_records| {
            let status = Status {
                counters: Counters { produced_records, ..Counters::default() },
                ..Status::default()
            };
            *lock(&shared.status) =
                Some(PublishedStatus { status, at: began + Duration::from_secs(seconds) });
            reporter.append_records_rate()
        };
        assert_eq!(
            [rate_at(4, 400), rate_at(10, 1000), rate_at(10, 1000), rate_at(11, 1000)],
            [100.0, 100.0, 0.0, 0.0]
        );
    }
}
