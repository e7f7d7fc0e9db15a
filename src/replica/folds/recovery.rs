//! The folds of a log that a start walks through: whoever calls `log::recover` hands on here what it finds.

use super::Folds;
use crate::config::Config;
use crate::log::Recovered;
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
    fresh_bytes: u64,
    is_split: bool,
}

impl Recovery {
    pub(crate) fn new(config: &Config) -> Recovery {
        Recovery {
            folds: Folds::new(config),
            window_bytes_max: config.limits.uncommitted_bytes_max.saturating_mul(2),
            window_bytes: 0,
            window: VecDeque::new(),
            fresh_bytes: 0,
            is_split: false,
        }
    }

    /// Of a log of which all before the end of a snapshot is folded in these (`Folds::of_snapshot`): what is left of that is not
    /// folded again.
    pub(crate) fn from_settled(config: &Config, folds: Folds) -> Recovery {
        Recovery { folds, ..Recovery::new(config) }
    }

    /// The next part of the log. `Err`: why nothing was taken of a summary.
    pub(crate) fn take(&mut self, part: Recovered) -> Result<(), String> {
        let begun = self.folds.begun;
        match part {
            Recovered::Batch(batch) if batch.base_offset() < begun => {
                self.is_split |= batch.next_offset() > begun;
            }
            // That a batch begins there only the batches tell; else the files would be those of another log.
            Recovered::Segment(summary) if summary.offsets().end <= begun => {}
            Recovered::Batch(batch) => {
                self.folds.fold(batch);
                self.fresh_bytes += batch.size_bytes() as u64;
                self.push(batch.next_offset(), batch.size_bytes() as u64);
            }
            Recovered::Segment(summary) => {
                self.folds.take_sections(summary.sections(), &summary.offsets())?;
                self.fresh_bytes += summary.segment_bytes();
                self.window.clear();
                self.window_bytes = 0;
            }
        }
        Ok(())
    }

    /// Bytes of batches that are not in the snapshot that it began with, about: of segments with summaries all are counted.
    pub(crate) fn fresh_bytes(&self) -> u64 {
        self.fresh_bytes
    }

    /// The snapshot that it began with ends inside of a batch: it is of another log.
    pub(crate) fn is_split(&self) -> bool {
        self.is_split
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
