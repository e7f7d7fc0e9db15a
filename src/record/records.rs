//! The records inside an uncompressed batch, walked in place: varints with a bound, no copies, no allocation.
//!
//! ```text
//! length varint | attributes i8 | timestamp delta varlong | offset delta varint |
//! key length varint, key | value length varint, value | header count varint | (key length, key, value length, value)…
//! ```
//! A length of -1 means null, for keys, values and header values.

use super::StampedBatch;
use crate::types::Offset;

/// Why the bytes behind a batch header are not the records that it announces.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Malformed {
    /// A number or a length reaches past the end of its record, or of the batch.
    PastTheEnd,
    /// A varint of more than 5 bytes, or a varlong of more than 10.
    VarintTooLong,
    /// A length below -1, a null header key, or a negative count.
    NegativeLength,
    /// Bytes are left over inside a record.
    RecordLeftOver,
    /// Bytes are left over behind the last record.
    BatchLeftOver,
}

impl Malformed {
    pub fn why(self) -> &'static str {
        match self {
            Malformed::PastTheEnd => "a record reaches past the end of its batch",
            Malformed::VarintTooLong => "a varint is too long",
            Malformed::NegativeLength => "a length is negative",
            Malformed::RecordLeftOver => "a record is longer than its fields",
            Malformed::BatchLeftOver => "bytes follow the last record that the header counts",
        }
    }
}

/// One record, borrowed from its batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record<'a> {
    /// Milliseconds after the batch's base timestamp.
    pub timestamp_delta: i64,
    /// To the batch's base offset.
    pub offset_delta: i32,
    /// `None`: null.
    pub key: Option<&'a [u8]>,
    /// `None`: null, a tombstone.
    pub value: Option<&'a [u8]>,
    header_count: i32,
    /// The headers, still encoded; they have been walked once.
    header_bytes: &'a [u8],
}

/// Key and value of a record header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader<'a> {
    pub key: &'a [u8],
    pub(super) value: Option<&'a [u8]>,
}

impl<'a> Record<'a> {
    /// In their order; a key may come more than once.
    pub fn headers(&self) -> impl Iterator<Item = RecordHeader<'a>> + use<'a> {
        let mut cursor = Cursor(self.header_bytes);
        // They were walked when the record was decoded, so no error can end this early.
        (0..self.header_count).map_while(move |_| cursor.header().ok())
    }
}

/// Iterator over the records of a batch; ends after the first error.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    cursor: Cursor<'a>,
    left: i32,
}

/// Walk the records of an uncompressed batch. A compressed one gives errors or nonsense: ask
/// `BatchHeader::compression` first.
pub fn records(batch: &StampedBatch) -> Records<'_> {
    Records::new(batch.record_bytes(), batch.header().record_count)
}

impl<'a> Records<'a> {
    pub(super) fn new(bytes: &'a [u8], count: i32) -> Records<'a> {
        Records { cursor: Cursor(bytes), left: count }
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<Record<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left <= 0 {
            let left_over = self.left == 0 && !self.cursor.0.is_empty();
            self.left = -1;
            return left_over.then_some(Err(Malformed::BatchLeftOver));
        }
        let record = self.cursor.record();
        self.left = if record.is_ok() { self.left - 1 } else { -1 };
        Some(record)
    }
}

/// (offset, timestamp) of each record of an uncompressed batch, without copying; stops at malformed bytes.
pub fn record_timestamps(batch: &StampedBatch) -> impl Iterator<Item = (Offset, i64)> {
    let header = *batch.header();
    records(batch).map_while(|record| record.ok()).map(move |record| {
        let offset = header.base_offset.0.saturating_add(i64::from(record.offset_delta));
        (
            Offset(offset),
            timestamp(header.base_timestamp, header.is_log_append_time(), header.max_timestamp, &record),
        )
    })
}

/// With LogAppendTime every record has the time of the batch (Kafka: `DefaultRecordBatch.uncompressedIterator`).
fn timestamp(base: i64, is_log_append_time: bool, max: i64, record: &Record<'_>) -> i64 {
    if is_log_append_time { max } else { base.wrapping_add(record.timestamp_delta) }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Cursor<'a>(pub(crate) &'a [u8]);

impl<'a> Cursor<'a> {
    fn record(&mut self) -> Result<Record<'a>, Malformed> {
        let size = self.varint()?;
        let mut inner = Cursor(self.take(size)?);
        inner.take(1)?; // Attributes of a record are unused.
        let timestamp_delta = inner.varlong()?;
        let offset_delta = inner.varint()?;
        let key = inner.nullable_bytes()?;
        let value = inner.nullable_bytes()?;
        let header_count = inner.varint()?;
        if header_count < 0 {
            return Err(Malformed::NegativeLength);
        }
        let header_bytes = inner.0;
        for _ in 0..header_count {
            inner.header()?;
        }
        if !inner.0.is_empty() {
            return Err(Malformed::RecordLeftOver);
        }
        Ok(Record { timestamp_delta, offset_delta, key, value, header_count, header_bytes })
    }

    fn header(&mut self) -> Result<RecordHeader<'a>, Malformed> {
        let key = self.nullable_bytes()?.ok_or(Malformed::NegativeLength)?;
        Ok(RecordHeader { key, value: self.nullable_bytes()? })
    }

    pub(super) fn take(&mut self, size: i32) -> Result<&'a [u8], Malformed> {
        let size = usize::try_from(size).map_err(|_| Malformed::NegativeLength)?;
        let (taken, rest) = self.0.split_at_checked(size).ok_or(Malformed::PastTheEnd)?;
        self.0 = rest;
        Ok(taken)
    }

    fn nullable_bytes(&mut self) -> Result<Option<&'a [u8]>, Malformed> {
        match self.varint()? {
            -1 => Ok(None),
            size => self.take(size).map(Some),
        }
    }

    fn varint(&mut self) -> Result<i32, Malformed> {
        let raw = self.unsigned_varint()?;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, Malformed> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    pub(super) fn unsigned_varint(&mut self) -> Result<u32, Malformed> {
        // The top bits of a fifth byte are dropped, as Kafka's ByteUtils does.
        Ok(self.unsigned(5)? as u32)
    }

    #[inline]
    fn unsigned(&mut self, bytes_max: usize) -> Result<u64, Malformed> {
        // Most numbers in a record fit into one byte.
        if let [byte @ 0..0x80, rest @ ..] = self.0 {
            self.0 = rest;
            return Ok(u64::from(*byte));
        }
        let mut value = 0;
        for (i, byte) in self.0.iter().take(bytes_max).enumerate() {
            value |= u64::from(byte & 0x7f) << (7 * i);
            if *byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return Ok(value);
            }
        }
        Err(if self.0.len() < bytes_max { Malformed::PastTheEnd } else { Malformed::VarintTooLong })
    }
}
