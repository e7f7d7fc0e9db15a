//! What was really put on a disk's platter: the batches of its log in order, found by reading the durable bytes. What has
//! rotted since counts as it was: that it is never served, nor anything lost by it, is held against what was.
//!
//! Kept up to date by `SimDisk` after each operation, read by the checker: a node says what it has flushed, this knows.

use super::platter::DiskFile;
use crate::log::SegmentId;
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, check_fetched};
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// A batch where it lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) id: BatchId,
    pub(super) segment: SegmentId,
    pub(super) position: u64,
    pub(super) size_bytes: usize,
}

/// Two batches with the same id are the same bytes in the same place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct BatchId {
    pub(super) base: Offset,
    pub(super) next: Offset,
    pub(super) epoch: Epoch,
    /// Of everything behind the stamped prefix.
    pub(super) crc: u32,
}

impl BatchId {
    pub(super) fn of(header: &BatchHeader, bytes: &[u8]) -> BatchId {
        let crc = bytes.get(17..21).and_then(|b| b.try_into().ok()).map_or(0, u32::from_be_bytes);
        BatchId { base: header.base_offset, next: header.next_offset(), epoch: header.leader_epoch, crc }
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct DurableLog {
    pub(super) batches: Vec<Placed>,
    /// The first so many have been looked at by the checker.
    pub(super) checked: usize,
    /// What lies in older segments is no more of the log, whatever is there.
    pub(super) first: SegmentId,
}

impl DurableLog {
    pub(super) fn end(&self) -> Offset {
        self.batches.last().map_or(self.first.0, |b| b.id.next)
    }

    /// Bytes of the batches that begin here or behind it.
    pub(super) fn bytes_from(&self, base: Offset) -> u64 {
        let at = self.batches.partition_point(|b| b.id.base < base);
        self.batches[at..].iter().map(|b| b.size_bytes as u64).sum()
    }

    /// Base offset of the first batch that is there.
    pub(super) fn begins(&self) -> Option<Offset> {
        self.batches.first().map(|b| b.id.base)
    }

    /// The log begins with this segment.
    pub(super) fn begin_at(&mut self, first: SegmentId) {
        self.first = first;
        let gone = self.batches.partition_point(|b| b.segment < first);
        self.batches.drain(..gone);
        self.checked = self.checked.saturating_sub(gone);
    }

    /// The batch that ends at `end` or spans it.
    pub(super) fn ending_at(&self, end: Offset) -> Option<&Placed> {
        let at = self.batches.partition_point(|b| b.id.next < end);
        self.batches.get(at).filter(|b| b.id.base < end)
    }

    /// Bytes of batches in the segment.
    pub(super) fn length(&self, segment: SegmentId) -> u64 {
        let last = self.batches.iter().rev().find(|b| b.segment == segment);
        last.map_or(0, |b| b.position + b.size_bytes as u64)
    }

    /// Everything from here on is changed by what comes next.
    pub(super) fn cut(&mut self, segment: SegmentId, position: u64) {
        let is_before = |b: &Placed| (b.segment, b.position + b.size_bytes as u64) <= (segment, position);
        let keep = self.batches.partition_point(is_before);
        self.batches.truncate(keep);
        self.checked = self.checked.min(keep);
    }

    /// Look again at everything, after a crash.
    pub(super) fn rescan(&mut self, segments: &BTreeMap<SegmentId, DiskFile>) {
        self.batches.clear();
        self.checked = 0;
        self.refresh(segments);
    }

    /// Look for what was added.
    pub(super) fn refresh(&mut self, segments: &BTreeMap<SegmentId, DiskFile>) {
        loop {
            let last = self.batches.last().copied();
            let here = last.map(|b| (b.segment, b.position + b.size_bytes as u64));
            let (segment, position) = match here {
                Some(place) => place,
                None => match segments.range(self.first..).next() {
                    Some((first, _)) => (*first, 0),
                    None => return,
                },
            };
            let expected = last.map_or(segment.0, |b| b.id.next);
            let epoch = last.map_or(Epoch(0), |b| b.id.epoch);
            let next = SegmentId(expected);
            let found = batch_at(segments, segment, position, expected, epoch).or_else(|| {
                (next != segment).then(|| batch_at(segments, next, 0, expected, epoch)).flatten()
            });
            match found {
                Some(placed) => self.batches.push(placed),
                None => return,
            }
        }
    }
}

fn batch_at(
    segments: &BTreeMap<SegmentId, DiskFile>,
    segment: SegmentId,
    position: u64,
    expected: Offset,
    epoch: Epoch,
) -> Option<Placed> {
    let bytes = segments.get(&segment)?.as_written(position as usize)?;
    let header = BatchHeader::decode(&bytes)?;
    let is_next = header.base_offset == expected && header.leader_epoch >= epoch;
    let batch =
        bytes.get(..header.size_bytes).filter(|_| is_next && header.size_bytes >= BATCH_HEADER_BYTES)?;
    let (checked, _) = check_fetched(Bytes::copy_from_slice(batch));
    checked.first()?;
    Some(Placed { id: BatchId::of(&header, batch), segment, position, size_bytes: header.size_bytes })
}
