//! The header of a batch, and a batch that may be stored: its prefix owned, the rest shared.
//!
//! Decoding a header judges nothing; `check` does that and is the only one that builds a [`StampedBatch`] from
//! foreign bytes.

use super::{BATCH_HEADER_BYTES, BATCH_PREFIX_BYTES, LOG_OVERHEAD_BYTES};
use crate::types::*;
use bytes::Bytes;

pub(super) const COMPRESSION_BITS: i16 = 0x07;
const LOG_APPEND_TIME_BIT: i16 = 0x08;
const TRANSACTIONAL_BIT: i16 = 0x10;
pub(super) const CONTROL_BIT: i16 = 0x20;

const CRC_AT: usize = 17;
const MAX_TIMESTAMP_AT: usize = 35;
/// Where the part begins that the CRC covers: at the attributes.
pub(super) const CRC_COVERED_FROM: usize = 21;

/// A batch that pins an allocation more than this many times its own size is copied out of it.
pub(crate) const UNPIN_RATIO: usize = 4;

/// A record batch's header (magic 2), decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// Offset of the first record, as the leader has assigned it.
    pub base_offset: Offset,
    /// Whole size in bytes: the length field + 12.
    pub size_bytes: usize,
    /// Epoch of the leader that has appended it.
    pub leader_epoch: Epoch,
    /// Version of the format: 2.
    pub magic: i8,
    /// CRC-32C of all from the attributes on.
    pub crc: u32,
    /// Bits: compression (0 to 2), log append time (3), transactional (4), control (5).
    pub attributes: i16,
    /// Of the last record, to the base offset.
    pub last_offset_delta: i32,
    /// Milliseconds since the Unix epoch; each record carries a delta to it. -1: no timestamp.
    pub base_timestamp: i64,
    /// Milliseconds since the Unix epoch, the latest of its records. -1: no timestamp.
    pub max_timestamp: i64,
    /// -1 where the producer is not idempotent; epoch and sequence are then -1 too.
    pub producer_id: i64,
    /// Of this incarnation of the producer.
    pub producer_epoch: i16,
    /// Sequence of the first record; wraps to 0 behind `i32::MAX`.
    pub base_sequence: i32,
    /// As many records lie behind the header.
    pub record_count: i32,
}

impl BatchHeader {
    /// Offset of the last record. Saturates, for a header that nobody has checked.
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    pub(crate) fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0.saturating_add(1))
    }

    /// The latest time of its records; `None` where no consumer sees them.
    pub(crate) fn data_timestamp(&self) -> Option<i64> {
        (!self.is_control()).then_some(self.max_timestamp)
    }

    /// Written by the quorum itself (LeaderChange and its like), skipped by consumers.
    pub fn is_control(&self) -> bool {
        self.attributes & CONTROL_BIT != 0
    }

    /// Part of a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes & TRANSACTIONAL_BIT != 0
    }

    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd; 5 to 7 are unknown.
    pub fn compression(&self) -> u8 {
        (self.attributes & COMPRESSION_BITS) as u8
    }

    /// All records have `max_timestamp`, which the broker has set.
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & LOG_APPEND_TIME_BIT != 0
    }

    pub(super) fn has_producer_id(&self) -> bool {
        self.producer_id >= 0
    }

    /// Decode without judging; `None` where fewer than 61 bytes are there, or where the length field is negative.
    /// Nothing here is trusted.
    pub fn decode(bytes: &[u8]) -> Option<BatchHeader> {
        let header: &[u8; BATCH_HEADER_BYTES] = bytes.first_chunk()?;
        let length = i32::from_be_bytes(array_at(header, 8));
        Some(BatchHeader {
            base_offset: Offset(i64::from_be_bytes(array_at(header, 0))),
            size_bytes: usize::try_from(length).ok()? + LOG_OVERHEAD_BYTES,
            leader_epoch: Epoch(i32::from_be_bytes(array_at(header, 12))),
            magic: header[16] as i8,
            crc: u32::from_be_bytes(array_at(header, 17)),
            attributes: i16::from_be_bytes(array_at(header, 21)),
            last_offset_delta: i32::from_be_bytes(array_at(header, 23)),
            base_timestamp: i64::from_be_bytes(array_at(header, 27)),
            max_timestamp: i64::from_be_bytes(array_at(header, 35)),
            producer_id: i64::from_be_bytes(array_at(header, 43)),
            producer_epoch: i16::from_be_bytes(array_at(header, 51)),
            base_sequence: i32::from_be_bytes(array_at(header, 53)),
            record_count: i32::from_be_bytes(array_at(header, 57)),
        })
    }
}

/// N bytes of the fixed-size header; the positions are constants of the format, so this cannot miss.
fn array_at<const N: usize>(header: &[u8; BATCH_HEADER_BYTES], at: usize) -> [u8; N] {
    let mut out = [0; N];
    out.copy_from_slice(&header[at..at + N]);
    out
}

/// One whole batch whose length, magic and CRC hold: the bytes behind the prefix are shared as received, the prefix
/// is owned. It cannot be built without the checks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StampedBatch {
    header: BatchHeader,
    prefix: [u8; BATCH_PREFIX_BYTES],
    rest: Bytes,
}

impl StampedBatch {
    /// `batch` is exactly the bytes that `header` was decoded from, and they have been checked.
    pub(super) fn from_checked(header: BatchHeader, batch: Bytes) -> StampedBatch {
        assert_eq!(header.size_bytes, batch.len(), "a checked batch is as long as its header says");
        let mut prefix = [0; BATCH_PREFIX_BYTES];
        prefix.copy_from_slice(&batch[..BATCH_PREFIX_BYTES]);
        StampedBatch { header, prefix, rest: batch.slice(BATCH_PREFIX_BYTES..) }
    }

    /// As decoded, with the stamped offset and epoch.
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }

    /// Offset of the first record.
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }

    pub(crate) fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }

    /// Offset behind its last record.
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }

    /// Epoch of the leader that has appended it.
    pub fn epoch(&self) -> Epoch {
        self.header.leader_epoch
    }

    /// Header and records, as they lie in the log.
    pub fn size_bytes(&self) -> usize {
        self.header.size_bytes
    }

    /// The 16 stamped bytes, then the rest: together Kafka's exact bytes.
    pub(crate) fn prefix(&self) -> &[u8; BATCH_PREFIX_BYTES] {
        &self.prefix
    }

    pub(crate) fn rest(&self) -> &Bytes {
        &self.rest
    }

    /// The records, behind the header; compressed if the header says so.
    pub fn record_bytes(&self) -> &[u8] {
        &self.rest[BATCH_HEADER_BYTES - BATCH_PREFIX_BYTES..]
    }

    /// Write base offset and leader epoch; both lie outside the CRC.
    pub fn stamp(&mut self, base_offset: Offset, epoch: Epoch) {
        self.header.base_offset = base_offset;
        self.header.leader_epoch = epoch;
        self.prefix[..8].copy_from_slice(&base_offset.0.to_be_bytes());
        self.prefix[12..].copy_from_slice(&epoch.0.to_be_bytes());
    }

    /// Write the largest timestamp of the records, and the CRC anew, as Kafka's `DefaultRecordBatch.setMaxTimestamp`. Copies the
    /// batch, but only where the header says something else.
    pub(super) fn set_max_timestamp(&mut self, max_timestamp: i64) {
        if self.header.max_timestamp == max_timestamp {
            return;
        }
        let mut rest = self.rest.to_vec();
        let at = |in_batch: usize| in_batch - BATCH_PREFIX_BYTES;
        rest[at(MAX_TIMESTAMP_AT)..][..8].copy_from_slice(&max_timestamp.to_be_bytes());
        let crc = crc32c::crc32c(&rest[at(CRC_COVERED_FROM)..]);
        rest[at(CRC_AT)..at(CRC_COVERED_FROM)].copy_from_slice(&crc.to_be_bytes());
        (self.header.max_timestamp, self.header.crc, self.rest) = (max_timestamp, crc, Bytes::from(rest));
    }

    /// The whole batch in one piece (copies).
    pub fn to_bytes(&self) -> Bytes {
        let mut whole = Vec::with_capacity(self.size_bytes());
        whole.extend_from_slice(&self.prefix);
        whole.extend_from_slice(&self.rest);
        Bytes::from(whole)
    }

    /// Copy out if it pins an allocation much larger than itself (cannot be asked of `Bytes`, so the caller says how
    /// large the allocation is).
    pub(crate) fn unpin(mut self, allocation_bytes: usize) -> StampedBatch {
        if allocation_bytes / UNPIN_RATIO > self.size_bytes() {
            self.rest = Bytes::copy_from_slice(&self.rest);
        }
        self
    }
}
