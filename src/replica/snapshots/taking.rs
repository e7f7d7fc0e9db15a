//! When a snapshot is taken: so many bytes of records are committed that the last one does not hold, or so much time has passed since
//! (Kafka: `SnapshotGenerator`), on every node for itself.
//!
//! The copy is the engine's, a little in each turn. What comes of it goes to the thread for snapshots, which makes the file. There is one
//! at a time, and a pause behind its begin. One that fails stops nobody: nothing that was acknowledged rests on it.

use super::{Purpose, SnapshotCounts, SnapshotFile, Snapshots};
use crate::config::Config;
use crate::log::{
    DiskError, Section, Snapshot, SnapshotContents, SnapshotDone, SnapshotEncoder, SnapshotWork,
    snapshot_file_name,
};
use crate::replica::desk::{Desk, Engine};
use crate::replica::engine::Folded;
use crate::replica::folds::origin_section;
use crate::replica::notice::Level;
use crate::types::*;
use bytes::Bytes;

/// Why none is taken any more, in this life.
const UNKNOWN: &str = "records that were committed were cut from this log: what is folded from it is known again after the next start";

/// A snapshot on its way.
#[derive(Clone, Copy, Debug)]
struct Begun {
    id: OffsetAndEpoch,
    /// The largest of a committed record.
    time_ms: i64,
    at_ns: u64,
    /// As the engine counts them.
    committed_bytes: u64,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Idle,
    Copying(Begun),
    Writing(Begun),
}

pub(super) struct Taking {
    bytes_between: u64,
    /// `None`: time makes none due.
    interval_ns: Option<u64>,
    pause_ns: u64,
    bytes_max: u64,
    /// In each of them.
    origin: Section,
    state: State,
    /// As the engine counts committed bytes, when the last was begun; what lay behind that one at the start comes to it.
    counted_bytes: u64,
    fresh_bytes: u64,
    taken_ns: u64,
    not_before_ns: u64,
    /// Whatever came since.
    is_wanted: bool,
    /// The last was not taken, and why.
    failure: Option<DiskError>,
    is_unknown: bool,
    counts: SnapshotCounts,
}

impl Taking {
    pub(super) fn new(config: &Config, now: Now) -> Taking {
        let limits = &config.limits;
        let interval_ms = limits.snapshot_interval_ms;
        Taking {
            bytes_between: limits.snapshot_bytes_between,
            interval_ns: (interval_ms > 0).then(|| interval_ms.saturating_mul(NS_PER_MS)),
            pause_ns: limits.snapshot_pause_ms.saturating_mul(NS_PER_MS),
            bytes_max: limits.snapshot_bytes_max,
            origin: origin_section(config),
            state: State::Idle,
            counted_bytes: 0,
            fresh_bytes: 0,
            taken_ns: now.monotonic_ns,
            not_before_ns: 0,
            is_wanted: false,
            failure: None,
            is_unknown: false,
            counts: SnapshotCounts::default(),
        }
    }

    pub(super) fn found(&mut self, fresh_bytes: u64, is_wanted: bool) {
        (self.fresh_bytes, self.is_wanted) = (fresh_bytes, is_wanted);
    }

    /// Another node's is there that holds more.
    pub(super) fn on_fetched(&mut self, now_ns: u64, committed_bytes: u64) {
        (self.fresh_bytes, self.counted_bytes, self.is_wanted) = (0, committed_bytes, false);
        self.taken_ns = now_ns;
    }

    /// As far as bytes and time go.
    fn is_due(&self, now_ns: u64, committed_bytes: u64) -> bool {
        let bytes = self.fresh(committed_bytes);
        let is_over = |interval_ns: u64| now_ns.saturating_sub(self.taken_ns) >= interval_ns;
        now_ns >= self.not_before_ns
            && (bytes >= self.bytes_between || self.is_wanted || self.interval_ns.is_some_and(is_over))
    }

    /// When one is due that is not due yet, as far as bytes and time go.
    fn due_ns(&self, now_ns: u64, committed_bytes: u64) -> Option<u64> {
        if !matches!(self.state, State::Idle) {
            return None;
        }
        let is_waiting = self.is_wanted || self.fresh(committed_bytes) >= self.bytes_between;
        let by_time = self.interval_ns.map(|interval_ns| self.taken_ns.saturating_add(interval_ns));
        let due_ns = if is_waiting { Some(0) } else { by_time };
        // From then on it is tried in each turn.
        due_ns.map(|due_ns| due_ns.max(self.not_before_ns)).filter(|due_ns| *due_ns > now_ns)
    }

    /// Bytes of records that the last one does not hold.
    fn fresh(&self, committed_bytes: u64) -> u64 {
        self.fresh_bytes.saturating_add(committed_bytes.saturating_sub(self.counted_bytes))
    }

    /// It came to nothing.
    fn put_off(&mut self, now_ns: u64) {
        self.state = State::Idle;
        self.not_before_ns = now_ns.saturating_add(self.pause_ns);
    }

    pub(super) fn taken_ns(&self) -> u64 {
        self.taken_ns
    }

    pub(super) fn counts(&self) -> SnapshotCounts {
        self.counts
    }

    pub(super) fn problem(&self) -> Option<String> {
        let unknown = self.is_unknown.then(|| UNKNOWN.to_string());
        unknown.or_else(|| self.failure.as_ref().map(DiskError::to_string))
    }
}

impl Snapshots {
    /// Monotonic ns at which a turn is wanted, where nothing else makes one.
    pub(in crate::replica) fn deadline(&self, engine: &Engine, now: Now) -> Option<u64> {
        let due_ns = self.taking.due_ns(now.monotonic_ns, engine.counts().committed_bytes)?;
        self.has_news(engine).then_some(due_ns)
    }

    /// Something is committed that the newest does not hold.
    fn has_news(&self, engine: &Engine) -> bool {
        let held = self.files.newest().map_or(Offset(0), |newest| newest.id.offset);
        engine.committed_or_zero() > held
    }

    /// Once in each turn.
    pub(super) fn take(&mut self, engine: &mut Engine, desk: &mut Desk) {
        match self.taking.state {
            State::Idle => self.maybe_begin(engine, desk),
            State::Copying(begun) => match engine.poll_folded() {
                None => {}
                Some(Ok(folded)) => self.write(desk, begun, folded),
                Some(Err(why)) => {
                    self.taking.counts.given_up += 1;
                    self.taking.put_off(desk.now.monotonic_ns);
                    desk.note(Level::Debug, format!("gave up a snapshot at {}: {why}", begun.id.offset));
                }
            },
            State::Writing(_) => {}
        }
    }

    fn maybe_begin(&mut self, engine: &mut Engine, desk: &mut Desk) {
        let (at_ns, committed_bytes) = (desk.now.monotonic_ns, engine.counts().committed_bytes);
        if !self.taking.is_due(at_ns, committed_bytes) || !self.has_news(engine) {
            return;
        }
        let time_ms = engine.latest_committed().unwrap_or(0);
        match engine.copy_folds() {
            Ok(id) => self.taking.state = State::Copying(Begun { id, time_ms, at_ns, committed_bytes }),
            Err(_) if engine.folds().has_lost() && !self.taking.is_unknown => {
                self.taking.is_unknown = true;
                desk.note(Level::Warn, format!("no snapshot is taken: {UNKNOWN}"));
            }
            // In one of the next turns.
            Err(_) => {}
        }
    }

    fn write(&mut self, desk: &mut Desk, begun: Begun, folded: Folded) {
        self.taking.state = State::Writing(begun);
        let (origin, bytes_max) = (self.taking.origin.clone(), self.taking.bytes_max);
        let contents = SnapshotContents(Box::new(Contents::new(folded, origin, begun.time_ms)));
        let write = SnapshotWork::Write { id: begun.id, contents, bytes_max };
        self.submit(desk, Purpose::Taking, write);
    }

    /// It is durable, or it is none.
    pub(super) fn on_written(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        result: Result<SnapshotDone, DiskError>,
    ) {
        let now_ns = desk.now.monotonic_ns;
        let State::Writing(begun) = self.taking.state else { return };
        let taking = &mut self.taking;
        taking.put_off(begun.at_ns);
        match result {
            Ok(SnapshotDone::Written(bytes)) => {
                taking.counts.taken += 1;
                (taking.fresh_bytes, taking.counted_bytes) = (0, begun.committed_bytes);
                (taking.taken_ns, taking.is_wanted) = (begun.at_ns, false);
                let ms = now_ns.saturating_sub(begun.at_ns) / NS_PER_MS;
                let line = format!("took {}: {bytes} bytes in {ms} ms", snapshot_file_name(begun.id));
                let level = if taking.failure.take().is_some() { Level::Info } else { Level::Debug };
                desk.note(level, line);
                self.files.add(SnapshotFile { id: begun.id, bytes });
                engine.on_snapshot_taken(desk.now, begun.id);
                self.looks_for_surplus = true;
            }
            Ok(_) => {}
            Err(error) => {
                taking.counts.failed += 1;
                taking.put_off(now_ns);
                let again_s = taking.pause_ns / (1_000 * NS_PER_MS);
                let line = format!(
                    "no snapshot was taken at {}: {error}. Nothing that was acknowledged rests on it; it is tried again, from \
                     {again_s} s from now on",
                    begun.id.offset
                );
                // Once, until one succeeds: the disk may be full for days.
                let level = if taking.failure.is_some() { Level::Debug } else { Level::Warn };
                taking.failure = Some(error);
                desk.note(level, line);
            }
        }
    }
}

/// The bytes of the file, made as they are asked for: on the thread that writes them.
struct Contents {
    folded: Option<(Folded, Section)>,
    time_ms: i64,
    encoder: Option<SnapshotEncoder>,
}

impl Contents {
    fn new(folded: Folded, origin: Section, time_ms: i64) -> Contents {
        Contents { folded: Some((folded, origin)), time_ms, encoder: None }
    }
}

impl Iterator for Contents {
    type Item = Bytes;

    fn next(&mut self) -> Option<Bytes> {
        if let Some((folded, origin)) = self.folded.take() {
            let id = folded.id;
            let mut sections = folded.into_sections();
            sections.push(origin);
            let last_contained_log_timestamp = self.time_ms;
            let snapshot = Snapshot { id, last_contained_log_timestamp, sections, ..Snapshot::default() };
            self.encoder = Some(SnapshotEncoder::new(snapshot));
        }
        Some(self.encoder.as_mut()?.next_batch()?.to_bytes())
    }
}
