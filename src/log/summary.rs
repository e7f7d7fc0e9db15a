//! The summary of a segment: a small file beside it that holds what a scan of it would yield, so that a start need not read
//! it all (Kafka's recovery trusts what lies below its recovery point in the same way, `LogLoader.recoverLog`).
//!
//! Written by the log once a segment is closed, durable and committed, and at a clean stop also of the last one; read by
//! recovery. It is only ever a saving: without it, or where it does not fit the segment, the segment is scanned. It
//! says nothing about what is not committed, so that Raft never cuts what it describes.
//!
//! What the log's owner folds from the batches is kept beside what the log finds itself, in sections that only the owner reads.
//!
//! All numbers are big-endian. A CRC-32C over everything before it is the last field; the counts say how long the file is.

use super::LogConfig;
use super::index::{BatchPrint, IndexEntry};
use super::op::SegmentId;
use super::segment::Segment;
use crate::types::*;
use std::ops::Range;

const MAGIC: &[u8; 8] = b"KRFTSUMM";
/// Since 2 a run of control batches has no time in the index. Since 3 it ends with sections, and not with producers.
const VERSION: u32 = 3;
const CRC_BYTES: usize = 4;
const HEAD_BYTES: usize = 8 + 4 + 8 + 8 + 8 + 2 * PRINT_BYTES + 3 * 4;
const PRINT_BYTES: usize = 8 + 8 + 4 + 4 + 4;
const EPOCH_BYTES: usize = 4 + 8;
const ENTRY_BYTES: usize = 4 + 4 + 8 + 4;
const SECTION_HEAD_BYTES: usize = 2 + 2 + 4;

/// What the log's owner keeps in a summary. The log does not look into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Section {
    /// What it is about: one section of each.
    pub tag: u16,
    /// Of the form of its bytes.
    pub version: u16,
    /// Its owner's.
    pub bytes: Vec<u8>,
}

/// What a summary says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub(super) segment: SegmentId,
    /// Size of the file: it ends with its last batch.
    pub(super) length: u64,
    pub(super) end: Offset,
    pub(super) first: BatchPrint,
    pub(super) last: BatchPrint,
    /// Those that begin in it.
    pub(super) epochs: Vec<EpochStart>,
    pub(super) index: Vec<IndexEntry>,
    /// In the order of their tags.
    sections: Vec<Section>,
}

impl Summary {
    /// Of a segment that ends at `end`. `None`: it is empty.
    pub(super) fn of(
        segment: &Segment,
        end: Offset,
        epochs: &[EpochStart],
        mut sections: Vec<Section>,
    ) -> Option<Summary> {
        sections.sort_by_key(|section| section.tag);
        let (first, last) = segment.ends?;
        let inside = |e: &&EpochStart| segment.id.0 <= e.start_offset && e.start_offset < end;
        Some(Summary {
            segment: segment.id,
            length: segment.length,
            end,
            first,
            last,
            epochs: epochs.iter().filter(inside).copied().collect(),
            index: segment.index.clone(),
            sections,
        })
    }

    /// Its segment, as a scan would have it.
    pub(super) fn to_segment(&self, config: &LogConfig) -> Segment {
        Segment::new(self.segment, config.index_interval_bytes).summarized(
            self.length,
            self.index.clone(),
            (self.first, self.last),
        )
    }

    /// Of the segment: from its first one to the first one behind it.
    pub fn offsets(&self) -> Range<Offset> {
        self.segment.0..self.end
    }

    /// Bytes of the segment.
    pub(crate) fn segment_bytes(&self) -> u64 {
        self.length
    }

    /// As the log's owner handed them in, those of other programs too.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.encoded_bytes());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&VERSION.to_be_bytes());
        out.extend_from_slice(&self.segment.0.0.to_be_bytes());
        out.extend_from_slice(&self.length.to_be_bytes());
        out.extend_from_slice(&self.end.0.to_be_bytes());
        encode_print(&self.first, &mut out);
        encode_print(&self.last, &mut out);
        for count in [self.epochs.len(), self.index.len(), self.sections.len()] {
            out.extend_from_slice(&(count as u32).to_be_bytes());
        }
        for epoch in &self.epochs {
            out.extend_from_slice(&epoch.epoch.0.to_be_bytes());
            out.extend_from_slice(&epoch.start_offset.0.to_be_bytes());
        }
        for entry in &self.index {
            out.extend_from_slice(&{ entry.offset }.to_be_bytes());
            out.extend_from_slice(&{ entry.position }.to_be_bytes());
            out.extend_from_slice(&{ entry.max_timestamp }.to_be_bytes());
            out.extend_from_slice(&{ entry.max_timestamp_offset }.to_be_bytes());
        }
        for section in &self.sections {
            out.extend_from_slice(&section.tag.to_be_bytes());
            out.extend_from_slice(&section.version.to_be_bytes());
            out.extend_from_slice(&(section.bytes.len() as u32).to_be_bytes());
            out.extend_from_slice(&section.bytes);
        }
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_be_bytes());
        out
    }

    fn encoded_bytes(&self) -> usize {
        HEAD_BYTES
            + self.epochs.len() * EPOCH_BYTES
            + self.index.len() * ENTRY_BYTES
            + self.sections.iter().map(|s| SECTION_HEAD_BYTES + s.bytes.len()).sum::<usize>()
            + CRC_BYTES
    }

    /// `Err` says why these bytes are no summary that can be used. What it says is checked against the segment by recovery.
    pub(super) fn decode(bytes: &[u8]) -> Result<Summary, &'static str> {
        let (body, crc) = bytes.split_last_chunk::<CRC_BYTES>().ok_or("it is too short")?;
        if crc32c::crc32c(body) != u32::from_be_bytes(*crc) {
            return Err("its checksum does not match");
        }
        let mut rest = body.strip_prefix(MAGIC).ok_or("it does not begin like one")?;
        if Field::u32(&mut rest) != Some(VERSION) {
            return Err("another version wrote it");
        }
        let summary = decode_fields(&mut rest).filter(|_| rest.is_empty());
        let summary = summary.ok_or("its length is not what its counts say")?;
        match summary.is_consistent() {
            true => Ok(summary),
            false => Err("it contradicts itself"),
        }
    }

    /// Nothing in it lies outside of the segment, or out of order. What is in the sections their owner knows.
    fn is_consistent(&self) -> bool {
        let base = self.segment.0;
        let offsets = base..self.end;
        let ends = self.first.position == 0
            && self.first.base_offset == base
            && offsets.contains(&self.last.base_offset)
            && self.first.position <= self.last.position
            && self.last.end_position() == self.length;
        let epochs = self.epochs.iter().all(|e| offsets.contains(&e.start_offset))
            && self.epochs.is_sorted_by(|a, b| a.epoch < b.epoch && a.start_offset < b.start_offset);
        let span = self.end.0.saturating_sub(base.0);
        let index = self.index.first().is_some_and(|e| (e.offset, e.position) == (0, 0))
            && self.index.is_sorted_by(|a, b| a.offset < b.offset && a.position < b.position)
            && self.index.last().is_some_and(|e| u64::from(e.position) <= self.last.position)
            && self.index.iter().all(|e| i64::from(e.offset.max(e.max_timestamp_offset)) < span);
        let sections = self.sections.is_sorted_by(|a, b| a.tag < b.tag);
        ends && epochs && index && sections
    }
}

fn encode_print(print: &BatchPrint, out: &mut Vec<u8>) {
    out.extend_from_slice(&print.base_offset.0.to_be_bytes());
    out.extend_from_slice(&print.position.to_be_bytes());
    out.extend_from_slice(&print.size_bytes.to_be_bytes());
    out.extend_from_slice(&print.epoch.0.to_be_bytes());
    out.extend_from_slice(&print.crc.to_be_bytes());
}

fn decode_print(rest: &mut &[u8]) -> Option<BatchPrint> {
    Some(BatchPrint {
        base_offset: Offset(Field::i64(rest)?),
        position: Field::i64(rest)? as u64,
        size_bytes: Field::u32(rest)?,
        epoch: Epoch(Field::u32(rest)? as i32),
        crc: Field::u32(rest)?,
    })
}

fn decode_fields(rest: &mut &[u8]) -> Option<Summary> {
    let segment = SegmentId(Offset(Field::i64(rest)?));
    let (length, end) = (Field::i64(rest)? as u64, Offset(Field::i64(rest)?));
    let (first, last) = (decode_print(rest)?, decode_print(rest)?);
    let [epochs, index, sections] = [Field::u32(rest)?, Field::u32(rest)?, Field::u32(rest)?];
    Some(Summary {
        segment,
        length,
        end,
        first,
        last,
        epochs: decode_list(epochs, EPOCH_BYTES, rest, |rest| {
            Some(EpochStart {
                epoch: Epoch(Field::u32(rest)? as i32),
                start_offset: Offset(Field::i64(rest)?),
            })
        })?,
        index: decode_list(index, ENTRY_BYTES, rest, |rest| {
            Some(IndexEntry {
                offset: Field::u32(rest)?,
                position: Field::u32(rest)?,
                max_timestamp: Field::i64(rest)?,
                max_timestamp_offset: Field::u32(rest)?,
            })
        })?,
        sections: decode_list(sections, SECTION_HEAD_BYTES, rest, |rest| {
            let (tag, version, length) = (Field::u16(rest)?, Field::u16(rest)?, Field::u32(rest)?);
            let (bytes, behind) = rest.split_at_checked(length as usize)?;
            *rest = behind;
            Some(Section { tag, version, bytes: bytes.to_vec() })
        })?,
    })
}

/// `None` where fewer bytes are there than `count` items have: nothing is allocated for a count that cannot be true.
fn decode_list<T>(
    count: u32,
    item_bytes: usize,
    rest: &mut &[u8],
    item: impl Fn(&mut &[u8]) -> Option<T>,
) -> Option<Vec<T>> {
    let bytes = (count as usize).checked_mul(item_bytes)?;
    if bytes > rest.len() {
        return None;
    }
    (0..count).map(|_| item(rest)).collect()
}

/// Numbers off the front of a slice.
struct Field;

impl Field {
    fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
        let (head, tail) = rest.split_first_chunk::<N>()?;
        *rest = tail;
        Some(*head)
    }

    fn u16(rest: &mut &[u8]) -> Option<u16> {
        Field::take(rest).map(u16::from_be_bytes)
    }

    fn u32(rest: &mut &[u8]) -> Option<u32> {
        Field::take(rest).map(u32::from_be_bytes)
    }

    fn i64(rest: &mut &[u8]) -> Option<i64> {
        Field::take(rest).map(i64::from_be_bytes)
    }
}

#[cfg(test)]
#[path = "tests/summary_format.rs"]
mod tests;
