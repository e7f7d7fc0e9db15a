//! Everything that watches a node, off the replica core: HTTP, the 5 s line on stdout, interval logs, the table at stop.
//!
//! `main` starts it before any executor and finishes it after the last has ended, so its threads are never pinned. The
//! replica core only hands over snapshots, and never waits: a status is skipped while a reader holds the lock, and
//! histograms go through a bounded queue.
//!
//! - `reporter.rs`: the thread that merges histograms, prints the line and the table, and writes the interval log.
//! - `latency.rs`: histograms by stage, percentiles, the table. `interval_log.rs`: `latency-*.hlog`.
//! - `http.rs`: connections and requests. `pages.rs`: what each path answers. `metrics.rs`: the Prometheus text.

mod http;
mod interval_log;
pub mod latency;
mod metrics;
mod pages;
mod reporter;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::config::Config;
use crate::replica::{Status, stages::Stages};
use latency::StageHistograms;
use reporter::{Report, Reporter};

/// Kafka's `TestRaftServer` prints its line this often.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a request for /status waits for the replica core before it takes what there is.
const FRESH_STATUS_WAIT_MAX: Duration = Duration::from_millis(200);
/// After so long it asks again: another reader may have kept the status from being published.
const FRESH_STATUS_ASK_AGAIN: Duration = Duration::from_millis(20);
/// Histograms waiting for the reporter: more than a minute of them.
const QUEUED_STAGES_MAX: usize = 64;

/// Handle of the watching threads. Clones are cheap; calls from the replica core never block.
#[derive(Clone)]
pub struct Control {
    shared: Arc<Shared>,
    reports: SyncSender<Report>,
    threads: Arc<Mutex<Threads>>,
}

#[derive(Default)]
struct Threads {
    reporter: Option<JoinHandle<()>>,
    http: Option<http::HttpServer>,
}

/// What the replica core and the network write and the pages read.
struct Shared {
    started: Instant,
    /// `None` until the replica has said something.
    status: Mutex<Option<PublishedStatus>>,
    status_published: Condvar,
    status_wanted: AtomicBool,
    /// Makes the replica core look whether a status is wanted.
    waker: OnceLock<Box<dyn Fn() + Send + Sync>>,
    latency: Mutex<Latency>,
    connections: AtomicUsize,
    refused_connections: AtomicU64,
    closed_for_bad_input: AtomicU64,
    lost_stages: AtomicU64,
}

#[derive(Clone)]
struct PublishedStatus {
    status: Status,
    at: Instant,
}

#[derive(Default)]
struct Latency {
    since_start: StageHistograms,
    last_interval: StageHistograms,
    last_interval_seconds: f64,
    /// Records per second that this node appended as leader in the last interval.
    append_records_rate: f64,
}

/// A panic of one watcher does not blind the others.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn new() -> Shared {
        Shared {
            started: Instant::now(),
            status: Mutex::new(None),
            status_published: Condvar::new(),
            status_wanted: AtomicBool::new(false),
            waker: OnceLock::new(),
            latency: Mutex::default(),
            connections: AtomicUsize::new(0),
            refused_connections: AtomicU64::new(0),
            closed_for_bad_input: AtomicU64::new(0),
            lost_stages: AtomicU64::new(0),
        }
    }

    /// The last one published, about a second old.
    fn last_status(&self) -> Option<PublishedStatus> {
        lock(&self.status).clone()
    }

    /// A status that is not older than this call, where the replica core gives one in time: who has just seen an
    /// answer finds its effect.
    fn fresh_status(&self) -> Option<PublishedStatus> {
        let Some(wake) = self.waker.get() else { return self.last_status() };
        let asked = Instant::now();
        loop {
            self.status_wanted.store(true, Ordering::SeqCst);
            wake();
            let is_old = |status: &mut Option<PublishedStatus>| status.as_ref().is_none_or(|s| s.at < asked);
            let waited =
                self.status_published.wait_timeout_while(lock(&self.status), FRESH_STATUS_ASK_AGAIN, is_old);
            let (published, waited) = waited.unwrap_or_else(PoisonError::into_inner);
            if !waited.timed_out() || asked.elapsed() >= FRESH_STATUS_WAIT_MAX {
                return published.clone();
            }
        }
    }
}

impl Control {
    /// Binds the HTTP listener (an error if it cannot) and starts the threads. The interval log `latency-*.hlog` in
    /// `config.log_dir` is created by the first interval that has something in it: until then this process may not even
    /// be the one that holds the directory's lock.
    pub fn start(config: &Config) -> Result<Control, String> {
        Control::start_with(config, Box::new(io::stdout()), INTERVAL)
    }

    fn start_with(
        config: &Config,
        stdout: Box<dyn Write + Send>,
        interval: Duration,
    ) -> Result<Control, String> {
        let shared = Arc::new(Shared::new());
        let http = match &config.http_listener {
            Some(endpoint) => Some(http::HttpServer::start(endpoint, shared.clone())?),
            None => None,
        };
        let (reports, received) = mpsc::sync_channel(QUEUED_STAGES_MAX);
        let reporter = Reporter::new(shared.clone(), config.log_dir.clone(), stdout, interval);
        let reporter = std::thread::Builder::new()
            .name("reporter".to_string())
            .spawn(move || reporter.run(received))
            .map_err(|e| format!("The thread that reports latencies did not start: {e}."))?;
        let threads = Threads { reporter: Some(reporter), http };
        Ok(Control { shared, reports, threads: Arc::new(Mutex::new(threads)) })
    }

    /// Where HTTP listens, with the port that the system chose where `kraft.http.listener` says 0.
    pub fn http_address(&self) -> Option<SocketAddr> {
        lock(&self.threads).http.as_ref().map(http::HttpServer::address)
    }

    /// About every second, at once on a role change, and when one is wanted. Skipped while a reader holds the lock.
    pub fn publish_status(&self, status: Status) {
        if let Ok(mut published) = self.shared.status.try_lock() {
            *published = Some(PublishedStatus { status, at: Instant::now() });
            self.shared.status_published.notify_all();
        }
    }

    /// What to call when someone wants a status: the replica core's doorbell.
    pub fn wake_with(&self, waker: impl Fn() + Send + Sync + 'static) {
        // Set once, by the one replica core of the process.
        let _ = self.shared.waker.set(Box::new(waker));
    }

    /// Someone waits for a status since the last call.
    pub fn take_status_wanted(&self) -> bool {
        self.shared.status_wanted.swap(false, Ordering::SeqCst)
    }

    /// About every second, and at the end: histograms since the last call.
    pub fn publish_stages(&self, stages: Stages) {
        if self.reports.try_send(Report::Stages(Box::new(stages))).is_err() {
            self.shared.lost_stages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Client connections open now.
    pub fn connections(&self, open: usize) {
        self.shared.connections.store(open, Ordering::Relaxed);
    }

    /// One connection more was refused, over `max.connections`.
    pub fn connection_refused(&self) {
        self.shared.refused_connections.fetch_add(1, Ordering::Relaxed);
    }

    /// One connection more was closed for what it sent.
    pub fn connection_closed_for_bad_input(&self) {
        self.shared.closed_for_bad_input.fetch_add(1, Ordering::Relaxed);
    }

    /// Write the last interval, print the table to stdout, close the files. Called on the main thread after all
    /// executors ended; a second call does nothing.
    pub fn finish(self) {
        let Threads { reporter, http } = std::mem::take(&mut *lock(&self.threads));
        if let Some(http) = http {
            http.stop();
        }
        if let Some(reporter) = reporter {
            // The reporter ends only after this message, so it is there to take it.
            let _ = self.reports.send(Report::Finish);
            if reporter.join().is_err() {
                tracing::error!("The thread that reports latencies has panicked: the last interval is lost.");
            }
        }
    }
}
