//! The operations under way: what each is for, and which blocks it touches.
//!
//! Direct writes in flight have no order, so two of them on one 4 KiB block would leave either's bytes. The log waits
//! where that could happen; this is where it is asserted, in release builds too.

use super::Log;
use super::buffer::{block_ceil, block_floor};
use super::op::{DiskOp, FileId, OpId, OpKind};
use std::collections::BTreeMap;

/// What an operation is for: decides what its completion means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A chunk of the group of this number.
    Group {
        number: u64,
    },
    /// The commit mark beside a group, or when idle.
    Mark,
    /// Zeros ahead of the writer, up to here.
    Extend {
        to: u64,
    },
    /// The step under way of the task.
    Task,
    /// Replaces `quorum-state`; it answers this many `write_quorum_state`.
    QuorumState {
        writes: usize,
    },
    EpochCheckpoint,
    /// Writes a segment's summary. Nothing waits for it but a truncation.
    Summary,
    /// Removes a segment that is no more of the log. Nothing waits for it but a stop.
    Delete,
    /// For a `read`.
    Read,
    /// Makes a piece of memory ready that will be read into.
    Touch,
    /// Copies batches for readers; so many cuts were before it.
    Copy {
        cuts: u64,
    },
}

impl Purpose {
    /// Nothing becomes durable by it, and nothing of the log waits for it.
    pub(super) fn is_for_readers(self) -> bool {
        matches!(self, Purpose::Read | Purpose::Touch | Purpose::Copy { .. })
    }
}

#[derive(Debug)]
struct Flight {
    purpose: Purpose,
    /// First byte and the byte after the last, in whole blocks.
    touches: Option<(FileId, u64, u64)>,
    submitted_ns: u64,
}

#[derive(Debug, Default)]
pub(super) struct Flights {
    flights: BTreeMap<OpId, Flight>,
    last_id: u64,
}

impl Flights {
    /// Give the operation an id that no other ever had. Asserts that it touches no block that one under way touches.
    pub(super) fn submit(&mut self, kind: &OpKind, purpose: Purpose, now_ns: u64) -> OpId {
        let touches = blocks_touched(kind);
        if let Some((file, from, to)) = touches {
            for (other, f, t) in self.flights.values().filter_map(|f| f.touches) {
                assert!(
                    other != file || to <= f || t <= from,
                    "blocks {from}..{to} of {file:?} are touched by an operation under way ({f}..{t})"
                );
            }
        }
        self.last_id += 1;
        let id = OpId(self.last_id);
        self.flights.insert(id, Flight { purpose, touches, submitted_ns: now_ns });
        id
    }

    /// The operation is no longer under way. Asserts that it was.
    pub(super) fn complete(&mut self, id: OpId) -> Purpose {
        let flight = self.flights.remove(&id);
        flight.unwrap_or_else(|| panic!("operation {id:?} completed twice, or is none of this log")).purpose
    }

    pub(super) fn any(&self, is: impl Fn(Purpose) -> bool) -> bool {
        self.flights.values().any(|f| is(f.purpose))
    }

    /// When the oldest operation that makes something durable was submitted for which others wait.
    pub(super) fn oldest_flush_ns(&self) -> Option<u64> {
        let is_awaited = |f: &&Flight| {
            !f.purpose.is_for_readers() && !matches!(f.purpose, Purpose::Summary | Purpose::Delete)
        };
        self.flights.values().find(is_awaited).map(|f| f.submitted_ns)
    }
}

impl Log {
    /// Hand an operation to the device, behind all before it.
    pub(super) fn submit(&mut self, kind: OpKind, purpose: Purpose) -> OpId {
        let id = self.flights.submit(&kind, purpose, self.now_ns);
        self.ops.push_back(DiskOp { id, kind });
        id
    }
}

/// Reads touch nothing: they ask only for bytes that no write changes. Nor does work on memory.
fn blocks_touched(kind: &OpKind) -> Option<(FileId, u64, u64)> {
    let (file, from, to) = match kind {
        OpKind::Write { file, position, length, .. } => (*file, *position, position + *length as u64),
        OpKind::CreateSegment { segment, .. } | OpKind::DeleteSegment { segment } => {
            (FileId::Segment(*segment), 0, u64::MAX)
        }
        OpKind::CutSegment { segment, length } => (FileId::Segment(*segment), *length, u64::MAX),
        OpKind::ExtendSegment { segment, from, to, .. } | OpKind::ZeroSegment { segment, from, to } => {
            (FileId::Segment(*segment), *from, *to)
        }
        OpKind::Read { .. }
        | OpKind::Memory(_)
        | OpKind::ReplaceFile { .. }
        | OpKind::RemoveFile { .. }
        | OpKind::FlushSegment { .. } => return None,
    };
    Some((file, block_floor(from), if to == u64::MAX { to } else { block_ceil(to) }))
}

#[cfg(test)]
mod tests {
    use super::super::op::SegmentId;
    use super::*;
    use crate::types::Offset;

    const SEGMENT: SegmentId = SegmentId(Offset(0));

    fn zero(from: u64, to: u64) -> OpKind {
        OpKind::ZeroSegment { segment: SEGMENT, from, to }
    }

    #[test]
    fn neighbours_may_be_under_way_together() {
        let mut flights = Flights::default();
        flights.submit(&zero(0, 4096), Purpose::Task, 5);
        flights.submit(&zero(4096, 4097), Purpose::Task, 6);
        flights.submit(&OpKind::CutSegment { segment: SEGMENT, length: 8192 }, Purpose::Task, 7);
        assert_eq!(flights.oldest_flush_ns(), Some(5));
    }

    #[test]
    #[should_panic(expected = "touched by an operation under way")]
    fn two_operations_on_one_block_are_a_broken_invariant() {
        let mut flights = Flights::default();
        flights.submit(&zero(0, 4097), Purpose::Task, 0);
        flights.submit(&zero(8191, 8192), Purpose::Task, 0);
    }

    #[test]
    fn a_block_is_free_again_after_its_completion() {
        let mut flights = Flights::default();
        let id = flights.submit(&zero(0, 10), Purpose::Task, 0);
        assert_eq!(flights.complete(id), Purpose::Task);
        assert_ne!(flights.submit(&zero(5, 6), Purpose::Task, 0), id);
    }
}
