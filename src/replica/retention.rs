//! Retention: how much of the log stays, by bytes and by time. The leader decides; nothing here deletes.
//!
//! Called by `Replica` at the end of a turn. Every few seconds, and when a segment has been closed, it looks at the segments, oldest
//! first, and wants the log to start behind those that need not stay: whole ones, all of them committed. What becomes of that is
//! Raft's (`raft::start`). What is set for the topic counts before what the node's file says; beside Kafka's own voters each node
//! does it for itself.
//!
//! *What time it is* is not this node's clock alone, for one that was set a week ahead would let everything go: it is the latest
//! time that a majority has reached, and a clock that has run ahead of the time since the start of this process does not count.

use super::desk::{Desk, Engine};
use super::folds::Set;
use super::notice::Level;
use crate::config::{self, Config};
use crate::log::Aged;
use crate::types::*;

const LOOK_NS: u64 = 5_000 * NS_PER_MS;
/// Wall time that is further ahead of monotonic time than at the start was set by somebody.
const AHEAD_MS_MAX: i64 = 10_000;

const BYTES_KEY: &str = "retention.bytes";
const MS_KEY: &str = "retention.ms";

pub(super) struct Retention {
    of_file: config::Retention,
    keeps_own_start: bool,
    next_ns: u64,
    /// Of the open segment, at the last look.
    open: Offset,
    clock: Clock,
}

/// What stays. `None`: no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Limits {
    bytes: Option<u64>,
    ms: Option<u64>,
}

/// What goes, and what must be closed for that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Verdict {
    start: Offset,
    closes: bool,
}

impl Retention {
    pub(super) fn new(config: &Config, now: Now) -> Retention {
        Retention {
            of_file: config.retention,
            keeps_own_start: config.data_mode == DataMode::Interop,
            next_ns: now.monotonic_ns,
            open: Offset(0),
            clock: Clock { started: now, is_ahead: false },
        }
    }

    pub(super) fn end_turn(&mut self, engine: &mut Engine, desk: &mut Desk) {
        let open = engine.log().open_segment();
        if desk.now.monotonic_ns < self.next_ns && open == self.open {
            return;
        }
        self.next_ns = desk.now.monotonic_ns + LOOK_NS;
        self.open = open;
        let Some(start) = self.look(engine, desk) else { return };
        if engine.want_start(desk.now, start) {
            desk.take_notes(engine);
            desk.note(Level::Info, format!("retention lets go of all before offset {start}"));
        }
    }

    /// Where the log is to start by now, if that is later than it is wanted to already.
    pub(super) fn look(&mut self, engine: &mut Engine, desk: &mut Desk) -> Option<Offset> {
        let own_ms = self.clock.look(desk);
        let (is_leader, committed) = (engine.raft().is_leader(), engine.raft().high_watermark());
        let committed = committed.filter(|_| is_leader || self.keeps_own_start)?;
        let limits = self.limits(&engine.folds().configs().committed(Some(committed)));
        let wall_ms = engine.raft().agreed_wall_ms(own_ms);
        let from = engine.raft().wanted_start();
        let times =
            Times { now_ns: desk.now.monotonic_ns, wall_ms, since_ns: self.clock.started.monotonic_ns };
        let verdict = judge(engine.log().ages(), from, committed, limits, &times);
        if verdict.closes {
            engine.close_segment();
        }
        Some(verdict.start).filter(|start| *start > from)
    }

    fn limits(&self, set: &Set) -> Limits {
        Limits {
            bytes: of_topic(set, BYTES_KEY).unwrap_or(self.of_file.bytes),
            ms: of_topic(set, MS_KEY).unwrap_or(self.of_file.ms),
        }
    }

    /// Monotonic ns of the next look.
    pub(super) fn deadline(&self) -> u64 {
        self.next_ns
    }
}

/// `None`: it is not set. Then -1, or what no number is: no limit.
fn of_topic(set: &Set, key: &str) -> Option<Option<u64>> {
    set.get(key).map(|value| value.parse().ok())
}

struct Times {
    now_ns: u64,
    wall_ms: Option<i64>,
    /// What was appended in another life counts from here.
    since_ns: u64,
}

impl Times {
    fn is_old(&self, segment: &Aged, ms: u64) -> bool {
        match segment.max_timestamp {
            Some(latest) => {
                let age_ms = self.wall_ms.map(|wall_ms| wall_ms.saturating_sub(latest));
                age_ms.is_some_and(|age_ms| age_ms > i64::try_from(ms).unwrap_or(i64::MAX))
            }
            None => {
                let since_ns = segment.appended_ns.unwrap_or(self.since_ns);
                self.now_ns.saturating_sub(since_ns) / NS_PER_MS > ms
            }
        }
    }
}

/// Oldest first, as long as one goes.
fn judge(
    segments: impl Iterator<Item = Aged> + Clone,
    from: Offset,
    committed: HighWatermark,
    limits: Limits,
    times: &Times,
) -> Verdict {
    let stays = segments.filter(|segment| segment.next > from || segment.is_open);
    let mut left = stays.clone().map(|segment| segment.bytes).sum::<u64>();
    let mut verdict = Verdict { start: from, closes: false };
    for segment in stays {
        let is_spare = limits.bytes.is_some_and(|limit| left.saturating_sub(segment.bytes) >= limit);
        let is_old = limits.ms.is_some_and(|ms| times.is_old(&segment, ms));
        if segment.next > committed.0 || segment.bytes == 0 || !(is_old || is_spare && !segment.is_open) {
            break;
        }
        if segment.is_open {
            verdict.closes = true;
            break;
        }
        left -= segment.bytes;
        verdict.start = verdict.start.max(segment.next);
    }
    verdict
}

/// This node's own.
struct Clock {
    started: Now,
    /// It was set since then.
    is_ahead: bool,
}

impl Clock {
    /// `None`: it does not count.
    fn look(&mut self, desk: &mut Desk) -> Option<i64> {
        let now = desk.now;
        let passed_ms = now.monotonic_ns.saturating_sub(self.started.monotonic_ns) / NS_PER_MS;
        let due_ms = self.started.wall_ms.saturating_add(i64::try_from(passed_ms).unwrap_or(i64::MAX));
        let ahead_ms = now.wall_ms.saturating_sub(due_ms);
        let was_ahead = std::mem::replace(&mut self.is_ahead, ahead_ms > AHEAD_MS_MAX);
        if self.is_ahead && !was_ahead {
            desk.note(
                Level::Warn,
                format!(
                    "the clock of this node was set {ahead_ms} ms ahead since its process began: retention by time does not go \
                     by it before it agrees again, or the process starts anew"
                ),
            );
        }
        (!self.is_ahead).then_some(now.wall_ms)
    }
}

#[cfg(test)]
#[path = "retention_tests.rs"]
mod tests;
