//! What is kept of batches in memory and in summaries: places, entries of the sparse index, and prints by which a batch is known again.

use super::op::SegmentId;
use crate::record::BatchHeader;
use crate::types::*;

/// A byte position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(crate) segment: SegmentId,
    pub(crate) position: u64,
}

/// Where a run of batches begins, and its largest timestamp. Offsets count from the segment's base: Kafka bounds both them
/// and positions by an i32. Packed: there is one for each run of the whole log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, packed(4))]
pub(super) struct IndexEntry {
    pub(super) offset: u32,
    pub(super) position: u32,
    pub(super) max_timestamp: i64,
    /// Of the batch that has it.
    pub(super) max_timestamp_offset: u32,
}

const _: () = assert!(size_of::<IndexEntry>() == 20);

/// By what a batch is known again: the last batch of a segment with this offset and epoch is that of one history only (Raft's
/// log matching), so that another log's segment of the same size is not taken for this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct BatchPrint {
    pub(super) base_offset: Offset,
    pub(super) position: u64,
    pub(super) size_bytes: u32,
    pub(super) epoch: Epoch,
    pub(super) crc: u32,
}

impl BatchPrint {
    pub(super) fn of(header: &BatchHeader, position: u64) -> BatchPrint {
        BatchPrint {
            base_offset: header.base_offset,
            position,
            size_bytes: header.size_bytes as u32,
            epoch: header.leader_epoch,
            crc: header.crc,
        }
    }

    pub(super) fn end_position(&self) -> u64 {
        self.position.saturating_add(u64::from(self.size_bytes))
    }
}
