//! Torn or rotten: whether a bad batch at the end of the log can be what is left of a write that never completed.
//!
//! Called by recovery for what lies above the commit mark. It looks at bytes and decides; it reads and cuts nothing. What it
//! does not call torn may have been acknowledged. The whole argument is in docs/design/torn-or-rotten.md; in short:
//! - One group is in flight at a time. A sector of it that did not arrive reads as it stood: zeros from the group's first byte
//!   on. So a torn batch has a *piece* (its part of one sector) that is all zeros.
//! - No batch that was acknowledged and lies above the mark has such a piece, if the piece is long enough to count: the writer
//!   makes the mark durable first where a batch has one of itself ([`has_hole`]).
//! - A flipped length claims zeros that are not the batch's. Its records, or what it would leave, tell: then it is not torn.

use crate::record::{BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, BatchHeader, StampedBatch};
use crate::types::*;
use std::ops::Range;

/// What a device writes whole or not at all, at least.
pub(super) const SECTOR_BYTES: u64 = 512;
/// Shorter pieces say nothing: the first bytes of an offset are zeros, and the end of a batch may be.
const PIECE_BYTES_MIN: usize = 16;
/// A piece with fewer bytes that are not zero could be made to read as a missing one by one flipped bit.
const SOLID_BYTES: usize = 2;
/// So many zeros before the first missing sector: a compressed batch may have ended there.
const END_ZEROS: usize = 4;
/// Checksums of what looks like batches inside of a compressed one are computed over this much at most.
const LOOK_BYTES_MAX: usize = 64 << 20;

const LENGTH: Range<usize> = 8..12;
const EPOCH: Range<usize> = 12..16;
const MAGIC_AT: usize = 16;
const CRC: Range<usize> = 17..21;
const CRC_FROM: usize = 21;
const ATTRIBUTES_AT: usize = 22;
const COUNT: Range<usize> = 57..61;
const COMPRESSION_BITS: u8 = 0x07;
const VARINT_BYTES_MAX: usize = 5;
const MAGIC: u8 = 2;

/// Would a part of this batch, written at `position`, read as if it had never been written? `part` are the bytes of it that are
/// written now.
pub(super) fn has_hole(batch: &StampedBatch, part: Range<usize>, position: u64) -> bool {
    let is_solid = |from: usize, to: usize| {
        let prefix = &batch.prefix()[from.min(BATCH_PREFIX_BYTES)..to.min(BATCH_PREFIX_BYTES)];
        let rest = from.saturating_sub(BATCH_PREFIX_BYTES)..to.saturating_sub(BATCH_PREFIX_BYTES);
        let bytes = prefix.iter().chain(&batch.rest()[rest]);
        bytes.filter(|byte| **byte != 0).take(SOLID_BYTES).count() == SOLID_BYTES
    };
    let mut from = part.start;
    while from < part.end {
        let at = position + (from - part.start) as u64;
        let to = part.end.min(from + left_in_sector(at));
        if to - from >= PIECE_BYTES_MIN && !is_solid(from, to) {
            return true;
        }
        from = to;
    }
    false
}

fn left_in_sector(position: u64) -> usize {
    (SECTOR_BYTES - position % SECTOR_BYTES) as usize
}

/// What lies behind the good batches.
pub(super) struct Remains<'a> {
    /// Up to the last byte that is not zero; nothing but zeros follow.
    pub(super) bytes: &'a [u8],
    /// Of the first byte in its segment.
    pub(super) position: u64,
    /// Bytes from there to the end of the file.
    pub(super) file_left: u64,
    /// The offset that is due.
    pub(super) expected: Offset,
    /// The epochs that a batch there may have.
    pub(super) epochs: (Epoch, Epoch),
    pub(super) group_bytes_max: u64,
    /// Nobody here has written it: a file may also end within a batch.
    pub(super) is_foreign: bool,
}

impl Remains<'_> {
    /// Is the batch at its beginning torn? If not, or not for certain: what speaks against it.
    pub(super) fn check_torn(&self) -> Result<(), String> {
        let header = self.header();
        if self.is_foreign && self.ends_with_file(&header) {
            return Ok(());
        }
        self.check_header(&header)?;
        let size = self.size(&header);
        if size.is_some_and(|size| size < BATCH_HEADER_BYTES as u64 || size > self.file_left) {
            return Err("no batch of that length was ever begun here".to_string());
        }
        let extent = size.unwrap_or(BATCH_HEADER_BYTES as u64);
        let Some(missing) = self.first_missing(extent) else {
            return Err("no sector of it is missing".to_string());
        };
        if let Some(size) = size.filter(|_| missing >= BATCH_HEADER_BYTES) {
            self.check_length(&header, size, missing)?;
        }
        let reach = self.group_bytes_max + super::BLOCK_BYTES as u64 + size.unwrap_or(0);
        if self.bytes.len() as u64 > reach {
            return Err("what follows it reaches further than one write".to_string());
        }
        Ok(())
    }

    fn byte(&self, at: usize) -> u8 {
        self.bytes.get(at).copied().unwrap_or(0)
    }

    fn is_zero(&self, range: Range<usize>) -> bool {
        let length = self.bytes.len();
        self.bytes[range.start.min(length)..range.end.min(length)].iter().all(|byte| *byte == 0)
    }

    fn header(&self) -> [u8; BATCH_HEADER_BYTES] {
        std::array::from_fn(|at| self.byte(at))
    }

    fn ends_with_file(&self, header: &[u8; BATCH_HEADER_BYTES]) -> bool {
        let size = self.size(header);
        self.file_left < BATCH_HEADER_BYTES as u64 || size.is_some_and(|size| size > self.file_left)
    }

    /// Do these bytes of the header lie in sectors of which something is there?
    fn is_present(&self, range: Range<usize>) -> bool {
        let first = left_in_sector(self.position).min(BATCH_HEADER_BYTES);
        let is_there = |at: usize| match at < first {
            true => !self.is_zero(0..first),
            false => !self.is_zero(first..BATCH_HEADER_BYTES),
        };
        is_there(range.start) && is_there(range.end - 1)
    }

    /// Whole size of the batch, where its length is there.
    fn size(&self, header: &[u8; BATCH_HEADER_BYTES]) -> Option<u64> {
        let length = header[LENGTH].try_into().map_or(0, i32::from_be_bytes);
        self.is_present(LENGTH).then(|| u64::try_from(length).map_or(u64::MAX, |length| length + 12))
    }

    /// A sector that has arrived holds what was written: the batch that is due, and no other.
    fn check_header(&self, header: &[u8; BATCH_HEADER_BYTES]) -> Result<(), String> {
        let first = left_in_sector(self.position).min(8);
        let expected = self.expected.0.to_be_bytes();
        let (mut is_due, mut known) = (true, 0..0);
        if self.is_present(0..first) {
            known = 0..first;
        }
        is_due &= header[known.clone()] == expected[known];
        if first < 8 && self.is_present(first..8) {
            is_due &= header[first..8] == expected[first..];
        }
        if !is_due {
            return Err(format!("what is there of its offset is not {}", self.expected));
        }
        let epoch = Epoch(header[EPOCH].try_into().map_or(-1, i32::from_be_bytes));
        let (lowest, highest) = self.epochs;
        if self.is_present(EPOCH) && !(lowest..=highest).contains(&epoch) {
            return Err(format!("no batch of epoch {epoch} was written here"));
        }
        if self.is_present(MAGIC_AT..MAGIC_AT + 1) && header[MAGIC_AT] != MAGIC {
            return Err(format!("its magic is {}", header[MAGIC_AT]));
        }
        Ok(())
    }

    /// Beginning of the first piece that counts and lies in a sector that is not there.
    fn first_missing(&self, extent: u64) -> Option<usize> {
        let mut from = 0;
        while (from as u64) < extent {
            let sector_end = from + left_in_sector(self.position + from as u64);
            let piece = extent.min(sector_end as u64) - from as u64;
            if piece >= PIECE_BYTES_MIN as u64 && self.is_zero(from..sector_end) {
                return Some(from);
            }
            from = sector_end;
        }
        None
    }

    /// The sector at `missing` is not there: or did the batch end before it, and only its length is wrong?
    fn check_length(
        &self,
        header: &[u8; BATCH_HEADER_BYTES],
        size: u64,
        missing: usize,
    ) -> Result<(), String> {
        let stored = header[CRC].try_into().map_or(0, u32::from_be_bytes);
        let mut crc = crc32c::crc32c(&header[CRC_FROM..]);
        for end in BATCH_HEADER_BYTES..=missing {
            if crc == stored {
                return Err(format!("with a length of {} it is whole", end - LENGTH.end));
            }
            crc = crc32c::crc32c_append(crc, &[self.byte(end)]);
        }
        if header[ATTRIBUTES_AT] & COMPRESSION_BITS == 0 {
            return self.check_records(header, size, missing);
        }
        let within = BATCH_HEADER_BYTES.max(missing.saturating_sub(SECTOR_BYTES as usize))..missing;
        if within.rev().take_while(|at| self.byte(*at) == 0).count() >= END_ZEROS {
            return Err("it may have ended before the first sector that is missing".to_string());
        }
        match self.batch_within(BATCH_HEADER_BYTES..missing) {
            Some(at) => Err(format!("another batch begins {at} bytes behind it")),
            None => Ok(()),
        }
    }

    /// All before `missing` is as it was written, so its records must lead there, and the last one to its end.
    fn check_records(
        &self,
        header: &[u8; BATCH_HEADER_BYTES],
        size: u64,
        missing: usize,
    ) -> Result<(), String> {
        let count = header[COUNT].try_into().map_or(0, i32::from_be_bytes);
        let mut at = BATCH_HEADER_BYTES as u64;
        for record in 1..=count {
            // Its length may lie in the part that is missing.
            if at + VARINT_BYTES_MAX as u64 > missing as u64 {
                return Ok(());
            }
            let Some((bytes, length)) = self.varint(at as usize) else {
                return Err(format!("its record {record} has no length"));
            };
            at += (bytes as u64) + length;
            if at > size || (record == count && at != size) {
                return Err(format!(
                    "its record {record} of {count} ends {at} bytes behind its start, not within {size}"
                ));
            }
        }
        match count {
            1.. => Ok(()),
            _ => Err(format!("it says that it has {count} records")),
        }
    }

    /// A length as records have it: so many bytes of it, and its value.
    fn varint(&self, at: usize) -> Option<(usize, u64)> {
        let mut value = 0_u64;
        for i in 0..VARINT_BYTES_MAX {
            let byte = self.byte(at + i);
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte & 0x80 == 0 {
                // Zigzag: a length is not negative.
                return (value & 1 == 0).then_some((i + 1, value / 2));
            }
        }
        None
    }

    /// Where a good later batch begins, or might.
    fn batch_within(&self, range: Range<usize>) -> Option<usize> {
        let mut left = LOOK_BYTES_MAX;
        for at in range.start..range.end.min(self.bytes.len()) {
            let Some(header) = BatchHeader::decode(&self.bytes[at..]) else { break };
            let ahead = header.base_offset.0.wrapping_sub(self.expected.0);
            let is_later = ahead > 0 && ahead <= i64::from(i32::MAX);
            let size = header.size_bytes;
            let fits = size >= BATCH_HEADER_BYTES && size <= self.bytes.len() - at;
            if self.bytes[at + MAGIC_AT] != MAGIC || !is_later || !fits {
                continue;
            }
            if size > left || crc32c::crc32c(&self.bytes[at + CRC_FROM..at + size]) == header.crc {
                return Some(at);
            }
            left -= size;
        }
        None
    }
}
