//! When a summary is written: the log says that one is due, and its owner hands in what it folds from that segment.
//!
//! Of each closed segment once all of it is committed, one at a time, beside whatever else is under way; and at a stop of the
//! last one, when all else is done. The owner asks at the end of each turn and answers at once, so that nothing lies between.

use super::Log;
use super::flights::Purpose;
use super::op::{OpKind, SUMMARY_BYTES_MAX, SegmentId, SmallFile};
use super::summary::{Section, Summary};
use super::task::{Shutdown, Step, TaskKind};
use crate::types::*;
use std::ops::Range;

/// A segment whose summary can be written: all of it is committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SummaryDue {
    pub(crate) segment: SegmentId,
    /// First offset behind it.
    pub(crate) end: Offset,
}

impl SummaryDue {
    pub(crate) fn offsets(&self) -> Range<Offset> {
        self.segment.0..self.end
    }
}

impl Log {
    /// Behind each `end_turn`, until it is `None`: answer with `write_summary`. A log that is being shut down waits for that.
    pub(crate) fn summary_due(&self) -> Option<SummaryDue> {
        if self.failed || !self.ready {
            return None;
        }
        match &self.task {
            Some(task) => match task.kind {
                TaskKind::ShutDown { summary } if task.steps.is_empty() => {
                    summary.filter(|_| !self.flights.any(|p| matches!(p, Purpose::Task | Purpose::Mark)))
                }
                _ => None,
            },
            None => {
                let busy = !self.truncations.is_empty() || self.flights.any(|p| p == Purpose::Summary);
                self.closed_summary_due().filter(|_| !busy)
            }
        }
    }

    /// The oldest closed segment that has no summary, once it is committed.
    pub(super) fn closed_summary_due(&self) -> Option<SummaryDue> {
        let segment = *self.summaries_due.front()?;
        let end = self.segments.end_of(segment)?;
        (end <= self.committed).then_some(SummaryDue { segment, end })
    }

    /// What was due, with what its owner keeps in it. `None`: it can give nothing of this segment, which gets no summary then;
    /// the next start scans it.
    pub(crate) fn write_summary(&mut self, due: SummaryDue, sections: Option<Vec<Section>>) {
        assert_eq!(self.summary_due(), Some(due), "what is handed in is due");
        let write = sections.and_then(|sections| self.encode_summary(due, sections));
        match &mut self.task {
            Some(task) => {
                task.kind = TaskKind::ShutDown { summary: None };
                task.steps.extend(write.map(Step::Op));
                self.advance();
            }
            None => {
                self.summaries_due.pop_front();
                match write {
                    Some(write) => _ = self.submit(write, Purpose::Summary),
                    // A stop may have waited for this one alone: no completion comes to go on with.
                    None if self.shutdown == Shutdown::Wanted => self.advance(),
                    None => {}
                }
            }
        }
    }

    /// `None`: the segment is empty, or its summary would be too large.
    fn encode_summary(&mut self, due: SummaryDue, sections: Vec<Section>) -> Option<OpKind> {
        let SummaryDue { segment: id, end } = due;
        let segment = self.segments.holding_mut(id.0).filter(|s| s.id == id)?;
        let contents = Summary::of(segment, end, &self.epochs, sections)?.encode();
        let fits = contents.len() <= SUMMARY_BYTES_MAX;
        segment.has_summary |= fits;
        fits.then_some(OpKind::ReplaceFile { file: SmallFile::Summary(id), contents })
    }
}
