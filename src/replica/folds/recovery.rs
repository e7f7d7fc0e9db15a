//! The folds of a log that a start walks through: whoever calls `log::recover` hands on here what it finds.

use super::Folds;
use crate::config::Config;
use crate::log::{Recovered, Section};
use crate::types::*;
use std::collections::VecDeque;

/// Settles what lies well behind the log's end, so that a start's memory does not grow with the log. A leader takes nothing more
/// once `uncommitted_bytes_max` is uncommitted, so hardly ever is twice that; but leaders that started again, or had another
/// limit, may have left more. So it is only assumed to be committed: see [`Folds::assume`].
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    folds: Folds,
    window_bytes_max: u64,
    window_bytes: u64,
    /// Where each batch of the window ends, and its size.
    window: VecDeque<(Offset, u64)>,
    /// All before is folded already: it was taken from what was folded when the log held it.
    begun_at: Offset,
}

impl Recovery {
    pub(crate) fn new(config: &Config) -> Recovery {
        Recovery {
            folds: Folds::new(config),
            window_bytes_max: config.limits.uncommitted_bytes_max.saturating_mul(2),
            window_bytes: 0,
            window: VecDeque::new(),
            begun_at: Offset(0),
        }
    }

    /// Of a log of which all before `end` was folded before (`Folds::settled`): what is left of that is not folded again. `Err`: why these
    /// sections are none of it.
    pub(crate) fn from_settled(
        config: &Config,
        end: Offset,
        sections: &[Section],
    ) -> Result<Recovery, String> {
        let mut recovery = Recovery::new(config);
        recovery.folds.take_sections(sections, &(Offset(0)..end))?;
        recovery.begun_at = end;
        Ok(recovery)
    }

    /// The next part of the log. `Err`: why nothing was taken of a summary.
    pub(crate) fn take(&mut self, part: Recovered) -> Result<(), String> {
        match part {
            Recovered::Batch(batch) if batch.next_offset() <= self.begun_at => {}
            Recovered::Segment(summary) if summary.offsets().end <= self.begun_at => {}
            // A section has each producer's last batches in the segment, whatever lies before them.
            Recovered::Segment(summary) if summary.offsets().start < self.begun_at => {
                return Err(format!("all before offset {} is folded already", self.begun_at));
            }
            Recovered::Batch(batch) => {
                self.folds.fold(batch);
                self.push(batch.next_offset(), batch.size_bytes() as u64);
            }
            Recovered::Segment(summary) => {
                self.folds.take_sections(summary.sections(), &summary.offsets())?;
                self.window.clear();
                self.window_bytes = 0;
            }
        }
        Ok(())
    }

    fn push(&mut self, end: Offset, bytes: u64) {
        self.window.push_back((end, bytes));
        self.window_bytes += bytes;
        while self.window_bytes > self.window_bytes_max
            && let Some((end, bytes)) = self.window.pop_front()
        {
            self.window_bytes -= bytes;
            self.folds.assume(end);
        }
    }

    pub(crate) fn folds(&self) -> &Folds {
        &self.folds
    }

    pub(crate) fn into_folds(self) -> Folds {
        self.folds
    }
}
