//! What the log tells: completions in, and what becomes of them.

use super::GatedEngine;
use super::latest::Latest;
use super::told::{Next, Told};
use crate::log::{Completion, LogEvent};
use crate::raft::Event;
use crate::replica::notice::{EXIT_DISK, EXIT_OK};
use crate::types::*;

impl<W> GatedEngine<W> {
    /// An operation of the disk is done. `go_on` tells what follows from it.
    pub(crate) fn complete(&mut self, completion: Completion) {
        self.log.complete(completion);
        self.listens = true;
    }

    /// What follows from what has come in, one thing at a time: the next that waited for an open gate, or that the log has to
    /// tell. Before each, what was told must be polled.
    pub(crate) fn go_on(&mut self, now: Now) -> Next<W> {
        debug_assert!(self.told.is_empty(), "what was told comes before what comes next");
        match self.run_waiting(now) {
            Next::Nothing => self.hear_log(now),
            next => next,
        }
    }

    /// The next thing that the log has to tell.
    fn hear_log(&mut self, now: Now) -> Next<W> {
        let event = if self.listens { self.log.poll_event() } else { None };
        let Some(event) = event else {
            self.listens = false;
            return Next::Nothing;
        };
        self.has_heard = true;
        self.on_log_event(now, event);
        Next::Done
    }

    fn on_log_event(&mut self, now: Now, event: LogEvent) {
        match event {
            LogEvent::Ready => self.on_ready(),
            LogEvent::Flushed(flushed) => {
                self.counts.flushes += 1;
                self.stall_reported = false;
                self.told.push_back(Told::Flushed(flushed));
                self.step_or_defer(now, Event::Flushed(flushed));
            }
            LogEvent::Truncated(end) => self.on_truncated(now, end),
            LogEvent::StartMoved { start, begin } => self.on_start_moved(now, start, begin),
            LogEvent::Installed(begin) => self.on_installed(now, begin),
            LogEvent::QuorumStateDurable => self.on_quorum_state_durable(now),
            LogEvent::Readable(from, end) => self.told.push_back(Told::Readable(from, end)),
            LogEvent::ReadDone { token, result } => self.told.push_back(Told::ReadDone { token, result }),
            LogEvent::NoRoom(error) => self.on_no_room(&error),
            LogEvent::RoomFound => self.on_room_found(),
            LogEvent::RoomUnwanted => self.on_room_unwanted(),
            LogEvent::ShutDown => self.stop(EXIT_OK, "shut down".to_string()),
            LogEvent::Failed(error) => {
                // A failed write may have reached the disk or not: nobody may ever be told either.
                self.listens = false;
                self.stop(EXIT_DISK, format!("stopping, nothing more is acknowledged: {error}"));
            }
        }
    }

    fn on_truncated(&mut self, now: Now, end: LogEndOffset) {
        if let Some(wanted) = self.truncating_to.pop_front() {
            self.check_cut(wanted, end);
        }
        if self.latest.cuts_into_found(end.0) {
            let largest = self.log.max_timestamp().map(|(timestamp, _)| timestamp);
            self.latest = Latest::found(end.0, largest);
        }
        self.step_or_defer(now, Event::Truncated(end));
    }
}
