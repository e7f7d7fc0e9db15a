//! The thread that reports: every 5 s the line of Kafka's `TestRaftServer` on stdout and an interval in the log, at stop a
//! table.
//!
//! An idle node stays quiet: the line comes for an interval in which something was committed, and once more after it, so
//! that a reader sees the load end.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;

use super::interval_log::IntervalLog;
use super::latency::{StageHistograms, resizable};
use super::{Shared, lock};
use crate::io::clock;
use crate::replica::stages::Stages;
use crate::server::output::{Said, Stream};

pub(super) enum Report {
    Stages(Box<Stages>),
    Finish,
}

pub(super) struct Reporter {
    shared: Arc<Shared>,
    stdout: Stream<String>,
    log: IntervalLog,
    /// The log failed once and has said so.
    log_failed: bool,
    length: Duration,
    interval: Interval,
    printed_last: bool,
    /// Records that this node had appended as leader, and copied from one, and when.
    appended_last: ([u64; 2], Instant),
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
    pub(super) fn new(
        shared: Arc<Shared>,
        log: IntervalLog,
        stdout: Stream<String>,
        length: Duration,
    ) -> Reporter {
        let began = shared.started;
        Reporter {
            shared,
            stdout,
            log,
            log_failed: false,
            length,
            interval: Interval::new(began),
            printed_last: false,
            appended_last: ([0; 2], began),
        }
    }

    pub(crate) fn run(mut self, reports: Receiver<Report>) {
        let mut due = self.interval.began + self.length;
        loop {
            match reports.recv_timeout(due.saturating_duration_since(Instant::now())) {
                Ok(Report::Stages(stages)) => self.on_stages(*stages),
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

    fn on_stages(&mut self, mut stages: Stages) {
        self.interval.add(&stages);
        let mut latency = lock(&self.shared.latency);
        for (name, histogram) in stages.named() {
            latency.since_start.add(name, histogram);
        }
        drop(latency);
        lock(&self.shared.slow).add(stages.slowest.kept(), clock::monotonic_ns());
        stages.clear();
        *lock(&self.shared.cleared_stages) = Some(stages);
    }

    fn end_interval(&mut self) {
        let now = Instant::now();
        let elapsed = now.duration_since(self.interval.began);
        let seconds = elapsed.as_secs_f64().max(f64::MIN_POSITIVE);
        let busy = self.interval.committed_records > 0;
        if busy || self.printed_last {
            let line = self.interval.line(seconds);
            self.stdout.push(format!("{line}\n"));
        }
        self.printed_last = busy;
        self.write_log(elapsed);
        let [append_records_rate, fetch_records_rate] = self.record_rates();
        let ended = std::mem::replace(&mut self.interval, Interval::new(now));
        let mut latency = lock(&self.shared.latency);
        latency.last_interval = ended.stages;
        latency.last_interval_seconds = seconds;
        latency.append_records_rate = append_records_rate;
        latency.fetch_records_rate = fetch_records_rate;
    }

    /// Between the last statuses of this interval and the one before; 0 where none was published since.
    fn record_rates(&mut self) -> [f64; 2] {
        let Some(published) = self.shared.last_status() else { return [0.0; 2] };
        let counters = &published.status.counters;
        let appended = [counters.produced_records, counters.replicated_records];
        let (last, last_at) = std::mem::replace(&mut self.appended_last, (appended, published.at));
        let seconds = published.at.saturating_duration_since(last_at).as_secs_f64();
        let rate = |i: usize| {
            if seconds > 0.0 { appended[i].saturating_sub(last[i]) as f64 / seconds } else { 0.0 }
        };
        [rate(0), rate(1)]
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
        self.stdout.push_last(text);
        self.stdout.flush();
    }
}

/// Through a queue and a thread: a stdout that nobody reads, or that is closed, takes nothing, and the node does not depend on it.
pub(super) fn stdout_stream(stdout: Box<dyn Write + Send>) -> io::Result<Stream<String>> {
    Stream::start("stdout-writer", stdout, |said: Said<'_, String>| match said {
        Said::Item(text) => text.clone(),
        Said::Dropped(n) => {
            tracing::warn!("{n} lines for stdout were dropped: nobody read it in time.");
            String::new()
        }
    })
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
        let log = IntervalLog::new(std::path::PathBuf::new(), std::time::SystemTime::now(), 0);
        let stdout = stdout_stream(Box::new(io::sink())).unwrap();
        let mut reporter = Reporter::new(shared.clone(), log, stdout, Duration::MAX);
        let mut rate_at = |seconds, produced_records| {
            let status = Status {
                counters: Counters {
                    produced_records,
                    replicated_records: 2 * produced_records,
                    ..Counters::default()
                },
                ..Status::default()
            };
            *lock(&shared.status) =
                Some(PublishedStatus { status, at: began + Duration::from_secs(seconds) });
            reporter.record_rates()
        };
        assert_eq!(
            [rate_at(4, 400), rate_at(10, 1000), rate_at(10, 1000), rate_at(11, 1000)],
            [[100.0, 200.0], [100.0, 200.0], [0.0; 2], [0.0; 2]]
        );
    }
}
