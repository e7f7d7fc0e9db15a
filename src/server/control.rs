//! Everything that watches a node, off the replica core: HTTP, the 5 s line on stdout, interval logs, the table at stop.
//!
//! `main` starts it before any executor and finishes it after the last has ended, so its threads are never pinned. The
//! replica core only hands over snapshots, and never waits: a status is skipped while a reader holds the lock, and
//! histograms go through a bounded queue.
//!
//! - `reporter.rs`: the thread that merges histograms, prints the line and the table, and writes the interval log.
//! - `latency.rs`: histograms by stage, percentiles, the table. `interval_log.rs`: `latency-*.hlog`.
//! - `slow.rs`: the slowest requests of the last minute.
//! - `http.rs`: connections and requests. `places.rs`: how many, and who makes room. `pages.rs`: what each path answers.
//!   `metrics.rs`: the Prometheus text.

mod http;
mod interval_log;
pub mod latency;
mod metrics;
mod pages;
mod places;
mod reporter;
mod slow;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::config::Config;
use crate::replica::room::limits::CoreRoom;
use crate::replica::room::places::PlaceCounts;
use crate::replica::room::taken::RoomTaken;
use crate::replica::{Status, stages::Stages};
use interval_log::IntervalLog;
use latency::StageHistograms;
use reporter::{Report, Reporter};
use slow::LastSlow;

/// Kafka's `TestRaftServer` prints its line this often.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long a request for /status waits for the replica core before it takes what there is.
const FRESH_STATUS_WAIT_MAX: Duration = Duration::from_millis(200);
/// After so long it asks again: another reader may have kept the status from being published.
const FRESH_STATUS_ASK_AGAIN: Duration = Duration::from_millis(20);
/// How long the end of the node waits for the reporter: for its file, its lines on stdout and what was queued before.
const FINISH_WAIT: Duration = Duration::from_secs(3);
const FINISH_POLL: Duration = Duration::from_millis(5);
/// Histograms waiting for the reporter: more than a minute of them.
const QUEUED_STAGES_MAX: usize = 64;

/// Handle of the watching threads. Clones are cheap; calls from the replica core never block.
#[derive(Clone)]
pub(crate) struct Control {
    shared: Arc<Shared>,
    reports: SyncSender<Report>,
    threads: Arc<Mutex<Threads>>,
}

/// Dropped, it finishes: also where the node panics, and a port would stay taken for as long as the process lives.
pub(crate) struct FinishAtEnd(pub(crate) Control);

impl Drop for FinishAtEnd {
    fn drop(&mut self) {
        self.0.clone().finish();
    }
}

/// Why nothing watches this node.
#[derive(Debug)]
pub(crate) enum ControlError {
    /// `kraft.http.listener` cannot be had: one line.
    Listener(String),
    Thread(io::Error),
}

#[derive(Default)]
struct Threads {
    reporter_ended: Option<Receiver<()>>,
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
    slow: Mutex<LastSlow>,
    /// Taken by clients, guests and voters, and what there is of them.
    places: [AtomicUsize; 3],
    bounds: OnceLock<Bounds>,
    refused_connections: AtomicU64,
    closed_for_bad_input: AtomicU64,
    lost_stages: AtomicU64,
    /// Histograms that the reporter has read and cleared: new ones are 1.3 MB that the kernel has to clear, which kept the
    /// replica core from its clients for 2 to 5 ms each second.
    cleared_stages: Mutex<Option<Stages>>,
}

/// What the node's clients may have: said once, before the first of them comes.
struct Bounds {
    places: PlaceCounts,
    /// Of each core.
    rooms: Vec<CoreRoom>,
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
    /// The same of records that it copied from a leader.
    fetch_records_rate: f64,
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
            slow: Mutex::default(),
            places: Default::default(),
            bounds: OnceLock::new(),
            refused_connections: AtomicU64::new(0),
            closed_for_bad_input: AtomicU64::new(0),
            lost_stages: AtomicU64::new(0),
            cleared_stages: Mutex::new(None),
        }
    }

    fn places(&self) -> PlaceCounts {
        let [clients, guests, voters] = [0, 1, 2].map(|of| self.places[of].load(Ordering::Relaxed));
        PlaceCounts { clients, guests, voters }
    }

    fn places_max(&self) -> PlaceCounts {
        self.bounds.get().map_or(PlaceCounts::default(), |bounds| bounds.places)
    }

    fn room_taken(&self) -> RoomTaken {
        RoomTaken::of(self.bounds.get().map_or(&[], |bounds| &bounds.rooms))
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
    pub(crate) fn start(config: &Config, stdout: Box<dyn Write + Send>) -> Result<Control, ControlError> {
        Control::start_with(config, stdout, INTERVAL)
    }

    fn start_with(
        config: &Config,
        stdout: Box<dyn Write + Send>,
        interval: Duration,
    ) -> Result<Control, ControlError> {
        let shared = Arc::new(Shared::new());
        let http = match &config.http_listener {
            Some(endpoint) => Some(http::HttpServer::start(endpoint, shared.clone())?),
            None => None,
        };
        let (reports, received) = mpsc::sync_channel(QUEUED_STAGES_MAX);
        let stdout = reporter::stdout_stream(stdout).map_err(ControlError::Thread)?;
        let log =
            IntervalLog::new(config.log_dir.clone(), SystemTime::now(), config.limits.latency_log_bytes_max);
        let reporter = Reporter::new(shared.clone(), log, stdout, interval);
        let (ended, reporter_ended) = mpsc::sync_channel(1);
        std::thread::Builder::new()
            .name("reporter".to_string())
            .spawn(move || {
                reporter.run(received);
                // Nobody waits any more where the end was in a hurry.
                let _ = ended.send(());
            })
            .map_err(ControlError::Thread)?;
        let threads = Threads { reporter_ended: Some(reporter_ended), http };
        Ok(Control { shared, reports, threads: Arc::new(Mutex::new(threads)) })
    }

    /// Where HTTP listens, with the port that the system chose where `kraft.http.listener` says 0.
    #[cfg(test)]
    fn http_address(&self) -> Option<std::net::SocketAddr> {
        lock(&self.threads).http.as_ref().map(http::HttpServer::address)
    }

    /// About every second, at once on a role change, and when one is wanted. Skipped while a reader holds the lock.
    pub(super) fn publish_status(&self, status: Status) {
        if let Ok(mut published) = self.shared.status.try_lock() {
            *published = Some(PublishedStatus { status, at: Instant::now() });
            self.shared.status_published.notify_all();
        }
    }

    /// What to call when someone wants a status: the replica core's doorbell.
    pub(super) fn wake_with(&self, waker: impl Fn() + Send + Sync + 'static) {
        // Set once, by the one replica core of this node.
        let _ = self.shared.waker.set(Box::new(waker));
    }

    /// Someone waits for a status since the last call.
    pub(super) fn take_status_wanted(&self) -> bool {
        self.shared.status_wanted.swap(false, Ordering::SeqCst)
    }

    /// About every second, and at the end: histograms since the last call.
    pub(super) fn publish_stages(&self, stages: Stages) {
        if self.reports.try_send(Report::Stages(Box::new(stages))).is_err() {
            self.shared.lost_stages.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// To record into. Those that were published before, unless the reporter is not done with them.
    pub(super) fn cleared_stages(&self) -> Stages {
        let cleared = self.shared.cleared_stages.try_lock().ok().and_then(|mut cleared| cleared.take());
        cleared.unwrap_or_default()
    }

    /// What to show beside what is taken. The cores write their gauges, `connections` is called.
    pub(super) fn watch_room(&self, places: PlaceCounts, rooms: Vec<CoreRoom>) {
        // Set once, as the waker is.
        let _ = self.shared.bounds.set(Bounds { places, rooms });
    }

    /// Places taken now.
    pub(crate) fn connections(&self, taken: PlaceCounts) {
        for (place, count) in self.shared.places.iter().zip([taken.clients, taken.guests, taken.voters]) {
            place.store(count, Ordering::Relaxed);
        }
    }

    /// So many connections more were refused, over `max.connections`.
    pub(super) fn connections_refused(&self, count: u64) {
        self.shared.refused_connections.fetch_add(count, Ordering::Relaxed);
    }

    /// One connection more was closed for what it sent.
    pub(super) fn connection_closed_for_bad_input(&self) {
        self.shared.closed_for_bad_input.fetch_add(1, Ordering::Relaxed);
    }

    /// Write the last interval, print the table to stdout, close the files. Called on the node's own thread after the
    /// replica core has ended; a second call does nothing. A reader of stdout that does not read, or a disk that hangs, does
    /// not keep the node from its end: both are waited for in bounded time.
    pub(crate) fn finish(self) {
        let Threads { reporter_ended, http } = std::mem::take(&mut *lock(&self.threads));
        if let Some(http) = http {
            http.stop();
        }
        let Some(reporter_ended) = reporter_ended else { return };
        let deadline = Instant::now() + FINISH_WAIT;
        // Full where the reporter is stuck; it may become free yet.
        let mut finish = Report::Finish;
        while let Err(TrySendError::Full(back)) = self.reports.try_send(finish) {
            if Instant::now() >= deadline {
                break;
            }
            finish = back;
            std::thread::sleep(FINISH_POLL);
        }
        if reporter_ended.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_err() {
            tracing::warn!(
                "The last interval of latencies may be lost: it was not written within {} s.",
                FINISH_WAIT.as_secs()
            );
        }
    }
}
