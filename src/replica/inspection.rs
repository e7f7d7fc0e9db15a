//! What has to be decompressed before a request can go on, as work for whoever has the time: the server's threads for it, or
//! the simulator where it stands. Pure, and never done in a turn nor on a core.
//!
//! Two kinds: a Produce with compressed batches, before the replica sees it; and a search for a timestamp inside a compressed
//! batch, which the replica asks for with `Action::Search`.
//!
//! Batches that grow much wait behind one another and nobody behind them: the first look has a small bound, and only what
//! passes it takes a [`Patience::Long`] one, elsewhere. Both end when nobody waits any more: the connection is gone, or the search.

use super::admit::{Admitted, AdmittedProduce};
use crate::record::{BatchError, Inspector, ProduceLimits, StampedBatch, Unread, Wanted, Which};
use crate::types::Offset;
use std::sync::Arc;

/// Decompressed bytes of a first look: so many, or so many times the batch.
const SHORT_LOOK_BYTES: u64 = 4 << 20;
const SHORT_LOOK_RATIO: u64 = 8;

const NOT_LOOKED_INTO: &str = "the connection ended before anybody had looked into the batch";

/// How far a look may go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Patience {
    Short,
    /// Up to `decompressed_bytes_max`: a verdict comes in any case.
    Long,
}

/// How the batches of a Produce are to be judged.
#[derive(Clone, Debug)]
pub(crate) struct Inspection {
    pub(crate) limits: ProduceLimits,
    pub(crate) decompressed_bytes_max: u64,
    /// By the connection that the request came from.
    pub(crate) wanted: Wanted,
}

impl Inspection {
    /// Judge the compressed batch of the request (no request has two for our partition); one that is refused stays behind as its
    /// error, and so does one that nobody waits for. False: it needs a longer look, and nothing was decided.
    pub(crate) fn look(&self, inspector: &mut Inspector, request: &mut Admitted, patience: Patience) -> bool {
        let Some(produce) = request.produce_mut() else { return true };
        for partition in &mut produce.partitions {
            let Ok(batch) = &mut partition.batch else { continue };
            if !partition.ours || batch.header().compression() == 0 {
                continue;
            }
            let bytes_max = bytes_max(batch, self.decompressed_bytes_max, patience);
            match inspector.work_for(&self.wanted).check(batch, &self.limits, bytes_max) {
                Ok(()) => {}
                Err(Unread::Unwanted) => {
                    partition.batch = Err(BatchError::Invalid(NOT_LOOKED_INTO.to_string()))
                }
                Err(Unread::Bad(error)) => partition.batch = Err(error),
                Err(Unread::TooLong) if bytes_max < self.decompressed_bytes_max => return false,
                Err(Unread::TooLong) => {
                    partition.batch = Err(BatchError::TooLarge(format!(
                        "the batch has more than {} bytes when it is decompressed (kraft.decompressed.max.bytes)",
                        self.decompressed_bytes_max
                    )));
                }
            }
        }
        true
    }
}

fn bytes_max(batch: &StampedBatch, most: u64, patience: Patience) -> u64 {
    match patience {
        Patience::Short => most.min(SHORT_LOOK_BYTES.max(SHORT_LOOK_RATIO * batch.size_bytes() as u64)),
        Patience::Long => most,
    }
}

impl AdmittedProduce {
    /// Has it batches that nobody has looked into?
    pub(super) fn is_compressed(&self) -> bool {
        let is_compressed = |batch: &StampedBatch| batch.header().compression() != 0;
        self.partitions.iter().any(|p| p.ours && p.batch.as_ref().is_ok_and(is_compressed))
    }
}

/// Look for a record at or after `timestamp` in a compressed batch.
#[derive(Debug)]
pub struct Search {
    /// Comes back with the answer.
    pub(crate) token: u64,
    pub(crate) batch: StampedBatch,
    /// Where the log starts: records of the batch may lie before.
    pub(crate) from: Offset,
    pub(crate) timestamp: i64,
    pub(crate) which: Which,
    pub(crate) decompressed_bytes_max: u64,
    pub(crate) patience: Patience,
    pub(crate) wanted: Wanted,
    /// Its place among the looks under way, until it is dropped.
    #[expect(dead_code, reason = "held, and never looked at")]
    pub(crate) place: Arc<()>,
}

/// What a search has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Record(Offset, i64),
    Nothing,
    /// It needs a longer look than it was given.
    TooLong,
    /// It was stored before its records were looked at, or longer ones were allowed then.
    Unreadable,
}

impl Search {
    pub(crate) fn look(&self, inspector: &mut Inspector) -> Found {
        let bytes_max = bytes_max(&self.batch, self.decompressed_bytes_max, self.patience);
        let inspector = inspector.work_for(&self.wanted);
        match inspector.find_one(&self.batch, self.from, self.timestamp, self.which, bytes_max) {
            Ok(Some((offset, timestamp))) => Found::Record(offset, timestamp),
            // Who asked is gone, and so is the answer.
            Ok(None) | Err(Unread::Unwanted) => Found::Nothing,
            Err(Unread::TooLong) if bytes_max < self.decompressed_bytes_max => Found::TooLong,
            Err(_) => Found::Unreadable,
        }
    }
}

#[cfg(test)]
#[path = "inspection_tests.rs"]
mod tests;
