//! A full disk: what makes files grow finds no room, and is tried again until there is some.
//!
//! Only operations that had changed nothing durable when they failed come here: zeros ahead, the next segment, a small
//! file under its temporary name. Until they are done nothing that needs them is flushed, so nothing is promised that is not
//! kept; what lies in the zeros that are there goes on. A write or a flush that failed is not one of them (`Log::fail`), nor
//! is anything before the log is ready: a start on a full disk is an error that somebody sees.

use super::flights::Purpose;
use super::task::{Shutdown, Step, TaskKind};
use super::{DiskError, Log, LogEvent};
use crate::types::NS_PER_MS;
use std::collections::VecDeque;

/// The pause before it is tried again, and twice as long each time up to the second one.
const RETRY_MS: u64 = 100;
const RETRY_MS_MAX: u64 = 2_000;

/// Whether the disk had room when it was last asked: once for segments, once for small files, which find some where a
/// segment finds none.
#[derive(Debug, Default)]
pub(super) struct Room {
    /// Monotonic ns of the next try, and the pause before it.
    waits: Option<(u64, u64)>,
}

impl Room {
    pub(super) fn is_wanting(&self) -> bool {
        self.waits.is_some()
    }

    /// Nothing that takes room is asked for before the next try.
    pub(super) fn must_wait(&self, now_ns: u64) -> bool {
        self.waits.is_some_and(|(at, _)| now_ns < at)
    }

    /// `None` too where that time has come: then it has been tried, or nothing wants room any more.
    pub(crate) fn retry_at(&self, now_ns: u64) -> Option<u64> {
        self.waits.map(|(at, _)| at).filter(|at| *at > now_ns)
    }

    fn on_found(&mut self, events: &mut VecDeque<LogEvent>) {
        if self.waits.take().is_some() {
            events.push_back(LogEvent::RoomFound);
        }
    }

    fn on_unwanted(&mut self, events: &mut VecDeque<LogEvent>) {
        if self.waits.take().is_some() {
            events.push_back(LogEvent::RoomUnwanted);
        }
    }

    fn on_wanting(&mut self, now_ns: u64, error: DiskError, events: &mut VecDeque<LogEvent>) {
        let pause_ms = self.waits.map(|(_, pause_ms)| (pause_ms * 2).min(RETRY_MS_MAX));
        if pause_ms.is_none() {
            events.push_back(LogEvent::NoRoom(error));
        }
        let pause_ms = pause_ms.unwrap_or(RETRY_MS);
        self.waits = Some((now_ns + pause_ms * NS_PER_MS, pause_ms));
    }
}

impl Log {
    pub(super) fn can_wait_for_room(&self, purpose: Purpose) -> bool {
        match purpose {
            Purpose::Extend { .. }
            | Purpose::QuorumState { .. }
            | Purpose::EpochCheckpoint
            | Purpose::Summary => true,
            Purpose::Task => self.task.as_ref().is_some_and(|task| {
                let is_first = matches!(task.kind, TaskKind::Open { create: true, .. });
                let is_last = matches!(task.kind, TaskKind::ShutDown { .. });
                (task.growing.is_some() && !is_first) || is_last
            }),
            Purpose::Group { .. } | Purpose::Mark | Purpose::Delete => false,
            Purpose::Read | Purpose::Touch | Purpose::Copy { .. } => false,
        }
    }

    /// The operation will be asked for again; a summary only makes a start faster, and its segment does without.
    pub(super) fn wait_for_room(&mut self, purpose: Purpose, error: DiskError) {
        match purpose {
            Purpose::Summary => return,
            Purpose::EpochCheckpoint => self.checkpoint_stale = true,
            Purpose::QuorumState { writes } => {
                let submitted = self.quorum_state_submitted.take();
                self.quorum_state = match (self.quorum_state.take(), submitted) {
                    (Some((newer, waiting)), _) => Some((newer, waiting + writes)),
                    (None, submitted) => submitted.map(|state| (state, writes)),
                };
            }
            Purpose::Task => self.put_step_back(),
            _ => {}
        }
        let room = match purpose {
            Purpose::QuorumState { .. } | Purpose::EpochCheckpoint => &mut self.small_room,
            _ => &mut self.room,
        };
        room.on_wanting(self.now_ns, error, &mut self.events);
    }

    /// An operation is done: if it is one that takes room, there is some.
    pub(super) fn on_room_used(&mut self, purpose: Purpose) {
        match purpose {
            Purpose::Extend { .. } => self.room.on_found(&mut self.events),
            Purpose::Task if self.task.as_ref().is_some_and(|task| task.growing.is_some()) => {
                self.room.on_found(&mut self.events)
            }
            Purpose::QuorumState { .. } | Purpose::EpochCheckpoint => {
                self.small_room.on_found(&mut self.events)
            }
            _ => {}
        }
    }

    /// At the end of a turn: what wanted room may have been cut, or is left for the stop.
    pub(super) fn maybe_forget_room(&mut self) {
        let is_asking = self.task.is_some() || self.flights.any(|p| matches!(p, Purpose::Extend { .. }));
        if !is_asking && !self.room.must_wait(self.now_ns) {
            self.room.on_unwanted(&mut self.events);
        }
    }

    /// What a stop has found no room for, its summary, only makes the next start faster: it does without.
    fn put_step_back(&mut self) {
        let Some(task) = self.task.as_mut() else { return };
        let Some(kind) = task.growing.take() else { return };
        match &mut task.kind {
            // A restart without zeros ahead: there may be enough for what comes, and a vote needs none.
            TaskKind::Open { zeroed, .. } => *zeroed = self.writer.zeroed,
            TaskKind::Install { .. } if self.shutdown == Shutdown::Wanted => self.leave_install(),
            // Who stops needs no next segment.
            TaskKind::Roll { .. } if self.shutdown == Shutdown::Wanted => self.task = None,
            _ => task.steps.push_front(Step::Op(kind)),
        }
    }
}
