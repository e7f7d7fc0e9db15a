//! How old and how large the segments are, for whoever decides what goes; and the open one is closed where it is old itself.
//!
//! Asked by the owner every few seconds. A segment is as old as its latest record; one that holds none of a client is as old as
//! its last append, or as this process. Nothing here looks at a clock, or deletes.

use super::Log;
use crate::types::*;

/// A segment as it ages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aged {
    /// Where it begins, and the first offset behind it.
    pub(crate) base: Offset,
    pub(crate) next: Offset,
    pub(crate) bytes: u64,
    /// The largest of its records; `None`: no consumer sees one.
    pub(crate) max_timestamp: Option<i64>,
    /// Monotonic ns of the last append in this life.
    pub(crate) appended_ns: Option<u64>,
    pub(crate) is_open: bool,
}

impl Log {
    /// Oldest first. What is appended and not written yet is in none of them.
    pub(crate) fn ages(&self) -> impl Iterator<Item = Aged> + Clone + '_ {
        let count = self.segments.0.len();
        self.segments.0.iter().enumerate().map(move |(at, segment)| Aged {
            base: segment.id.0,
            next: self.segments.0.get(at + 1).map_or(self.writer.submitted_end, |next| next.id.0),
            bytes: segment.length,
            max_timestamp: segment.max_timestamp().map(|(timestamp, _)| timestamp),
            appended_ns: segment.appended_ns,
            is_open: at + 1 == count,
        })
    }

    /// Where the open one begins.
    pub(crate) fn open_segment(&self) -> Offset {
        self.writer.segment.0
    }

    /// Close the open segment and begin the next one, once all that was appended is durable; not where something is appended
    /// before that, and not an empty one.
    pub(crate) fn close_segment(&mut self) {
        self.closes = self.is_whole() && self.writer.position > 0;
    }

    /// Nothing waits to be written.
    fn is_whole(&self) -> bool {
        self.writer.submitted_end == self.log_end && self.writer.partial == 0
    }

    /// In each turn in which there is no task.
    pub(super) fn must_close(&mut self) -> bool {
        if !self.closes {
            return false;
        }
        self.closes = self.is_whole();
        self.closes && self.is_quiet() && self.flushed == self.log_end
    }
}
