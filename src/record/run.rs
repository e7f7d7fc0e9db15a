//! Runs: whole batches behind each other in one piece of memory, each of them checked.
//!
//! A [`CheckedRun`] is to bytes what a [`StampedBatch`] is to a batch: it exists only for bytes that have passed the check
//! ([`check_run`](super::check_run)), or were copied from batches that have ([`RunBuilder`]). It is cut at batches without
//! looking at a CRC again, and what is cut shares its memory.

use super::batch::{BatchHeader, StampedBatch};
use crate::types::*;
use bytes::Bytes;
use std::fmt;
use std::sync::Arc;

/// A place is noted for about each so many bytes: whoever looks for a batch walks no more headers than these have.
const PLACE_BYTES: usize = 64 * 1024;

/// Where a batch begins, or where the last one ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    /// In the whole run, also where only a slice of it is held.
    position: usize,
    offset: Offset,
}

/// One batch or more: contiguous offsets, epochs that do not fall, nothing behind the last. Clones and slices share its bytes.
#[derive(Clone)]
pub struct CheckedRun {
    bytes: Bytes,
    start: Place,
    next_offset: Offset,
    places: Places,
}

/// Places within the run that a slice was cut from; `None`: it is so short that none is needed.
type Places = Option<Arc<[Place]>>;

/// Notes places while batches are added.
#[derive(Debug, Default)]
pub(super) struct Noted(Vec<Place>);

impl Noted {
    pub(super) fn note(&mut self, position: usize, header: &BatchHeader) {
        if position >= self.0.last().map_or(0, |last| last.position) + PLACE_BYTES {
            self.0.push(Place { position, offset: header.base_offset });
        }
    }

    fn into_places(self) -> Places {
        (!self.0.is_empty()).then(|| self.0.into())
    }
}

impl CheckedRun {
    /// `bytes` are exactly the batches from `base_offset` to `next_offset`, and each has been checked.
    pub(super) fn from_checked(
        bytes: Bytes,
        base_offset: Offset,
        next_offset: Offset,
        noted: Noted,
    ) -> CheckedRun {
        assert!(!bytes.is_empty() && base_offset < next_offset, "a run has a batch");
        let start = Place { position: 0, offset: base_offset };
        CheckedRun { bytes, start, next_offset, places: noted.into_places() }
    }

    /// Offset of its first record.
    pub fn base_offset(&self) -> Offset {
        self.start.offset
    }

    /// Offset behind its last record.
    pub fn next_offset(&self) -> Offset {
        self.next_offset
    }

    /// Of all its batches.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }

    /// As they lie in the log.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// The same, and `keep` is let go with the last slice of it.
    pub(crate) fn kept(self, keep: impl Send + Sync + 'static) -> CheckedRun {
        let bytes = Bytes::from_owner(Kept { bytes: self.bytes, _keep: keep });
        CheckedRun { bytes, ..self }
    }

    /// Whole batches from the one that contains `from`, none that reaches over `bound`, at most `max_bytes` but at least one
    /// batch. `None` where there is none.
    pub fn slice(&self, from: Offset, bound: Offset, max_bytes: usize) -> Option<CheckedRun> {
        if from < self.start.offset || from >= self.next_offset {
            return None;
        }
        let start = self.last_boundary(self.start, usize::MAX, from);
        let most = start.position.saturating_add(max_bytes);
        let mut end = self.last_boundary(start, most, bound);
        if end == start {
            end = self.behind(start, &self.header_at(start)?);
        }
        if end.offset > bound {
            return None;
        }
        let bytes = self.bytes.slice(self.index(start)..self.index(end));
        Some(CheckedRun { bytes, start, next_offset: end.offset, places: self.places.clone() })
    }

    /// The last place at which a batch begins or the run ends, from `from` on: not beyond `position`, nor beyond `offset`.
    fn last_boundary(&self, from: Place, position: usize, offset: Offset) -> Place {
        // Places behind a slice's end lie in the run that it was cut from.
        let position = position.min(self.start.position + self.bytes.len());
        let is_before = |place: &Place| place.position <= position && place.offset <= offset;
        let places = self.places.as_deref().unwrap_or_default();
        let noted = places[..places.partition_point(is_before)].last();
        let mut at = *noted.filter(|noted| noted.position > from.position).unwrap_or(&from);
        while let Some(header) = self.header_at(at) {
            let next = self.behind(at, &header);
            if !is_before(&next) {
                break;
            }
            at = next;
        }
        at
    }

    fn index(&self, place: Place) -> usize {
        place.position - self.start.position
    }

    /// `None` at the end.
    fn header_at(&self, place: Place) -> Option<BatchHeader> {
        BatchHeader::decode(&self.bytes[self.index(place)..])
    }

    fn behind(&self, place: Place, header: &BatchHeader) -> Place {
        Place { position: place.position + header.size_bytes, offset: header.next_offset() }
    }

    /// The headers of its batches, each with its distance from the first.
    pub fn headers(&self) -> impl Iterator<Item = (usize, BatchHeader)> {
        let mut position = 0;
        std::iter::from_fn(move || {
            let header = BatchHeader::decode(&self.bytes[position..])?;
            let at = position;
            position += header.size_bytes;
            Some((at, header))
        })
    }

    /// One after the other, for those who look into batches. They share its bytes.
    pub fn batches(&self) -> impl Iterator<Item = StampedBatch> {
        self.headers().map(|(at, header)| {
            StampedBatch::from_checked(header, self.bytes.slice(at..at + header.size_bytes))
        })
    }
}

struct Kept<K> {
    bytes: Bytes,
    _keep: K,
}

impl<K> AsRef<[u8]> for Kept<K> {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for CheckedRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckedRun({}..{}, {} bytes)", self.start.offset, self.next_offset, self.bytes.len())
    }
}

/// Copies batches behind each other into memory of its caller's, one at a time: they have been checked when they were
/// received. The memory belongs to the run then, and to nobody who could write to it.
#[derive(Debug)]
pub struct RunBuilder<M> {
    memory: M,
    filled: usize,
    noted: Noted,
    /// Offset of the first batch, and header of the last.
    ends: Option<(Offset, BatchHeader)>,
}

impl<M: AsRef<[u8]> + AsMut<[u8]> + Send + 'static> RunBuilder<M> {
    /// Into all of this memory, whatever it holds.
    pub fn new(memory: M) -> RunBuilder<M> {
        RunBuilder { memory, filled: 0, noted: Noted::default(), ends: None }
    }

    /// `false`: it does not fit behind the others, or is not the next one.
    pub fn push(&mut self, batch: &StampedBatch) -> bool {
        let follows = |(_, last): (Offset, BatchHeader)| {
            last.next_offset() == batch.base_offset() && last.leader_epoch <= batch.epoch()
        };
        let room = self.memory.as_mut().get_mut(self.filled..).unwrap_or_default();
        let Some(room) = room.get_mut(..batch.size_bytes()) else { return false };
        if !self.ends.is_none_or(follows) {
            return false;
        }
        let (prefix, rest) = room.split_at_mut(batch.prefix().len());
        prefix.copy_from_slice(batch.prefix());
        rest.copy_from_slice(batch.rest());
        self.noted.note(self.filled, batch.header());
        self.filled += batch.size_bytes();
        let base_offset = self.ends.map_or(batch.base_offset(), |(base_offset, _)| base_offset);
        self.ends = Some((base_offset, *batch.header()));
        true
    }

    /// Offset behind the last batch that was copied; `None`: none was.
    pub fn next_offset(&self) -> Option<Offset> {
        self.ends.map(|(_, last)| last.next_offset())
    }

    /// Of what was copied.
    pub fn size_bytes(&self) -> usize {
        self.filled
    }

    /// `Err`: nothing was copied, and here is the memory.
    pub fn finish(self) -> Result<CheckedRun, M> {
        let Some((base_offset, last)) = self.ends else { return Err(self.memory) };
        let bytes = Bytes::from_owner(self.memory).slice(..self.filled);
        Ok(CheckedRun::from_checked(bytes, base_offset, last.next_offset(), self.noted))
    }
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
