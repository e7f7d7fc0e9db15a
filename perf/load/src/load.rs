//! A load run from the first connection to the report.

use std::io::{IsTerminal, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kraft::server::output::note_line;

use crate::batch::Templates;
use crate::cluster::Cluster;
use crate::epoll::raise_descriptor_limit;
use crate::options::{LoadOptions, Plan};
use crate::recording::{Recording, Seconds};
use crate::report::Report;
use crate::worker::{Interval, Shared, Worker};
use crate::written::Written;

/// Epolls, files, and what a library may open.
const DESCRIPTORS_RESERVED: u64 = 64;
/// Between the last connection and the first batch, so that all threads begin together.
const START_DELAY: Duration = Duration::from_millis(20);
const TEMPLATE_SEED: u64 = 2026;
const MIB: f64 = 1_048_576.0;

/// Runs, writes what was asked for, and returns what belongs on stdout. `Err`: one line.
pub(crate) fn run(options: &LoadOptions) -> Result<Written, String> {
    let plan = options.plan()?;
    check_descriptors(&plan)?;
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        // The second one ends the process at once.
        let registered = signal_hook::flag::register_conditional_shutdown(signal, 130, stop.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()));
        registered.map_err(|e| format!("signals: {e}"))?;
    }
    let progress = Progress::new(options.progress);
    let report = drive(&plan, &stop, progress)?;
    report.write(options)
}

fn check_descriptors(plan: &Plan) -> Result<(), String> {
    let limit = raise_descriptor_limit();
    if plan.clients as u64 + DESCRIPTORS_RESERVED > limit {
        return Err(format!(
            "--clients {}: this process may open {limit} files. Raise the hard limit (ulimit -Hn).",
            plan.clients
        ));
    }
    Ok(())
}

fn drive(plan: &Plan, stop: &AtomicBool, progress: Progress) -> Result<Report, String> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall_ms = since_epoch.as_millis() as i64;
    let Plan { payload, records_per_batch, compression, .. } = plan;
    let templates = Templates::build(payload, *records_per_batch, *compression, wall_ms, TEMPLATE_SEED)?;
    let cluster = Cluster::new(&plan.bootstrap, &plan.topic);
    let shared = Shared { plan, templates: &templates, cluster: &cluster, stop };
    let (intervals, received) = mpsc::channel();
    std::thread::scope(|scope| {
        let (ready, is_ready) = mpsc::channel::<Result<(), String>>();
        let mut starts = Vec::new();
        for index in 0..plan.threads {
            let (start, started) = mpsc::channel::<Instant>();
            starts.push(start);
            let (ready, intervals, shared) = (ready.clone(), intervals.clone(), &shared);
            scope.spawn(move || match Worker::connect(shared, index) {
                Ok(worker) => {
                    let _ = ready.send(Ok(()));
                    // Without a start another thread could not connect.
                    let Ok(start) = started.recv() else { return };
                    if let Err(e) = worker.run(start, &intervals) {
                        note_line!("error: a thread of the driver ended: {e}");
                    }
                }
                Err(why) => drop(ready.send(Err(why))),
            });
        }
        drop((ready, intervals));
        for result in is_ready.iter().take(plan.threads) {
            result?;
        }
        let start = Instant::now() + START_DELAY;
        let start_wall = SystemTime::now() + START_DELAY;
        let cpu = cpu_seconds();
        for sender in &starts {
            // A thread that is gone says so by its missing intervals.
            let _ = sender.send(start);
        }
        let seconds = Collector::new(plan, progress).collect(&received);
        let is_cut_short = stop.load(Ordering::Relaxed);
        let leader = cluster.leader(0).map_or(String::new(), |leader| leader.address);
        let batch_bytes = templates.batch_bytes_max();
        let client_cpu_seconds = cpu_seconds() - cpu;
        Report::new(plan.clone(), seconds, start_wall, is_cut_short, leader, batch_bytes, client_cpu_seconds)
    })
}

/// User and system time of this process.
fn cpu_seconds() -> f64 {
    // SAFETY: all zeros is a valid rusage, and the call only writes it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

struct Collector {
    threads: usize,
    warmup: Duration,
    end: Option<Duration>,
    each: Vec<Recording>,
    /// How many threads have reported a second.
    reported: Vec<usize>,
    finished: usize,
    unanswered: u64,
    progress: Progress,
}

impl Collector {
    fn new(plan: &Plan, progress: Progress) -> Collector {
        let end = plan.end.after.map(|duration| plan.warmup + duration);
        Collector {
            threads: plan.threads,
            warmup: plan.warmup,
            end,
            each: Vec::new(),
            reported: Vec::new(),
            finished: 0,
            unanswered: 0,
            progress,
        }
    }

    fn collect(mut self, received: &Receiver<Interval>) -> Seconds {
        for interval in received {
            self.take(&interval);
        }
        self.progress.finish();
        Seconds { each: self.each, unanswered: self.unanswered }
    }

    fn take(&mut self, interval: &Interval) {
        let second = interval.second as usize;
        while self.each.len() <= second {
            self.each.push(Recording::new());
            self.reported.push(self.finished);
        }
        self.each[second].merge(&interval.recording);
        self.unanswered += interval.unanswered;
        self.reported[second] += 1;
        if interval.is_last {
            // It has nothing to say of later seconds.
            self.finished += 1;
            self.reported[second + 1..].iter_mut().for_each(|count| *count += 1);
        }
        if self.reported[second] == self.threads && !interval.is_last {
            let elapsed = Duration::from_secs(second as u64 + 1);
            let phase = match self.end {
                _ if elapsed <= self.warmup => "warm-up",
                Some(end) if elapsed > end => "draining",
                _ => "",
            };
            self.progress.show(elapsed, &self.each[second], phase);
        }
    }
}

/// One line per second: rewritten in place on a terminal.
pub(crate) struct Progress {
    is_terminal: bool,
    is_wanted: bool,
}

impl Progress {
    fn new(is_asked_for: bool) -> Progress {
        let is_terminal = std::io::stderr().is_terminal();
        Progress { is_terminal, is_wanted: is_terminal || is_asked_for }
    }

    fn show(&self, elapsed: Duration, second: &Recording, phase: &str) {
        if !self.is_wanted {
            return;
        }
        let line = progress_line(elapsed, second, phase);
        let mut stderr = std::io::stderr();
        let _ = if self.is_terminal { write!(stderr, "\r\x1b[K{line}") } else { writeln!(stderr, "{line}") };
        let _ = stderr.flush();
    }

    fn finish(&self) {
        if self.is_terminal && self.is_wanted {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}

fn progress_line(elapsed: Duration, second: &Recording, phase: &str) -> String {
    let mut line = format!("{:4} s  {:>9} records/s", elapsed.as_secs(), second.all_records);
    if !second.latency.is_empty() {
        line.push_str(&latency_columns(second));
    }
    if second.error_count() > 0 {
        line.push_str(&format!("  errors {}", second.error_count()));
    }
    if !phase.is_empty() {
        line.push_str(&format!("  ({phase})"));
    }
    line
}

fn latency_columns(second: &Recording) -> String {
    let us = |quantile: f64| second.latency.value_at_quantile(quantile) as f64 / 1000.0;
    let mib = second.counts.value_bytes as f64 / MIB;
    let (p50, p99, max) = (us(0.5), us(0.99), us(1.0));
    format!("  {mib:8.2} MB/s  p50 {p50:9.1} us  p99 {p99:9.1} us  max {max:9.1} us")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(second: u64, records: u64, is_last: bool) -> Interval {
        let mut recording = Recording::new();
        recording.all_records = records;
        recording.latency.record(records * 1000).unwrap();
        Interval { second, recording, unanswered: u64::from(is_last), is_last }
    }

    #[test]
    fn seconds_of_all_threads_are_put_together() {
        let (sender, received) = mpsc::channel();
        // Thread two ends a second before thread one.
        for interval in [
            interval(0, 1, false),
            interval(0, 10, false),
            interval(1, 2, false),
            interval(1, 20, true),
            interval(2, 3, true),
        ] {
            sender.send(interval).unwrap();
        }
        drop(sender);
        let collector = Collector {
            threads: 2,
            warmup: Duration::ZERO,
            end: None,
            each: Vec::new(),
            reported: Vec::new(),
            finished: 0,
            unanswered: 0,
            progress: Progress { is_terminal: false, is_wanted: false },
        };
        let seconds = collector.collect(&received);
        let records: Vec<u64> = seconds.each.iter().map(|second| second.all_records).collect();
        assert_eq!((records, seconds.unanswered), (vec![11, 22, 3], 2));
    }

    #[test]
    fn the_live_line_has_rate_latency_and_trouble() {
        let mut second = interval(0, 500, false).recording;
        second.counts.value_bytes = 3 << 20;
        second.add_error("x");
        let line = progress_line(Duration::from_secs(7), &second, "warm-up");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[..6], ["7", "s", "500", "records/s", "3.00", "MB/s"]);
        assert!(line.ends_with("errors 1  (warm-up)") && line.contains("p50     500.2 us"), "{line}");
    }
}
