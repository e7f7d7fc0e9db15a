//! What is inside compressed batches: whether it is what the header says, and when its records were made.
//!
//! Called off the replica core, because it takes the time that decompression takes: by the server on threads of its own, by the
//! simulator where it stands. Follows Kafka's `LogValidator` and `DefaultRecord.readPartiallyFrom`: the stream is read through a
//! buffer of one size, keys and values are skipped, and nothing of it is kept.

use super::batch::{BatchHeader, StampedBatch};
use super::check::{BatchError, NO_TIMESTAMP, ProduceLimits, check_timestamp, invalid};
use super::compression::{Buffers, Codec, Stream};
use super::records::Malformed;
use crate::types::Offset;
use std::io::{self, Read};
use std::sync::{Arc, Weak};

const BUFFER_BYTES: usize = 32 << 10;

/// The memory of one thread that looks into batches.
#[derive(Debug)]
pub struct Inspector {
    buffer: Box<[u8]>,
    buffers: Buffers,
    /// `None`: whatever is asked of it is wanted.
    wanted: Option<Wanted>,
}

/// Who waits for verdicts. When it is dropped, what it has asked for ends.
#[derive(Debug, Default)]
pub(crate) struct Asker(Arc<()>);

impl Asker {
    pub(crate) fn wanted(&self) -> Wanted {
        Wanted(Arc::downgrade(&self.0))
    }
}

/// Does anybody wait for the verdict?
#[derive(Clone, Debug)]
pub(crate) struct Wanted(Weak<()>);

impl Wanted {
    pub(crate) fn is_over(&self) -> bool {
        self.0.strong_count() == 0
    }
}

/// Why there is no verdict.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unread {
    /// Nobody waits for it any more.
    Unwanted,
    /// It has more decompressed bytes than were allowed.
    TooLong,
    Bad(BatchError),
}

impl From<BatchError> for Unread {
    fn from(error: BatchError) -> Unread {
        Unread::Bad(error)
    }
}

impl Default for Inspector {
    fn default() -> Inspector {
        Inspector { buffer: vec![0; BUFFER_BYTES].into(), buffers: Buffers::default(), wanted: None }
    }
}

impl Inspector {
    /// From here on work ends, within a buffer of bytes, when this one's asker is gone.
    pub(crate) fn work_for(&mut self, wanted: &Wanted) -> &mut Inspector {
        self.wanted = Some(wanted.clone());
        self
    }

    /// A produced batch: as many records as its header counts and not a byte more, each of its own length, with the offset
    /// deltas 0, 1, 2, …, at times that the limits allow. Its maximum timestamp becomes theirs. At most `bytes_max`
    /// decompressed bytes are read, and some kilobytes.
    pub fn check(
        &mut self,
        batch: &mut StampedBatch,
        limits: &ProduceLimits,
        bytes_max: u64,
    ) -> Result<(), Unread> {
        let header = *batch.header();
        let mut max_timestamp = NO_TIMESTAMP;
        let left = self.walk(batch, bytes_max, &mut |index, record| {
            if record.offset_delta != index {
                return invalid(format!(
                    "record {index} of the batch has the offset delta {}",
                    record.offset_delta
                ));
            }
            let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
            check_timestamp(timestamp, limits)?;
            max_timestamp = max_timestamp.max(timestamp);
            Ok(true)
        });
        left?;
        batch.set_max_timestamp(max_timestamp);
        Ok(())
    }

    /// Offset and timestamp of the first record from `from` on that is at or after `timestamp`.
    pub fn find(
        &mut self,
        batch: &StampedBatch,
        from: Offset,
        timestamp: i64,
        bytes_max: u64,
    ) -> Result<Option<(Offset, i64)>, Unread> {
        self.find_one(batch, from, timestamp, Which::First, bytes_max)
    }

    /// The same of whichever is wanted of them.
    pub(crate) fn find_one(
        &mut self,
        batch: &StampedBatch,
        from: Offset,
        timestamp: i64,
        which: Which,
        bytes_max: u64,
    ) -> Result<Option<(Offset, i64)>, Unread> {
        let header = *batch.header();
        let mut found: Option<(Offset, i64)> = None;
        self.walk(batch, bytes_max, &mut |_, record| {
            let at = header.base_timestamp.wrapping_add(record.timestamp_delta);
            let offset = Offset(header.base_offset.0.saturating_add(i64::from(record.offset_delta)));
            let is_later = found.is_none_or(|(_, latest)| at > latest);
            if at >= timestamp && offset >= from && is_later {
                found = Some((offset, at));
            }
            Ok(found.is_none() || which == Which::Latest)
        })?;
        Ok(found)
    }

    /// Visit each record until one says that it is enough, or all have been there and nothing is left.
    fn walk(&mut self, batch: &StampedBatch, bytes_max: u64, visit: &mut Visit<'_>) -> Result<(), Unread> {
        let header = *batch.header();
        let Some(codec) = Codec::from_id(header.compression()) else {
            let why = format!("compression type {} is unknown", header.compression());
            return Err(BatchError::Compression(why).into());
        };
        let result = Stream::open(codec, batch.record_bytes(), &mut self.buffers, bytes_max)
            .map_err(Fault::Stream)
            .and_then(|stream| {
                let (buffer, wanted) = (&mut self.buffer, self.wanted.as_ref());
                let mut walk = Walk { stream, buffer, at: 0, end: 0, read: 0, bytes_max, wanted };
                walk.records(&header, visit)
            });
        self.buffers.shrink();
        result.map_err(|fault| fault.explain(codec, &header))
    }
}

/// Of several records that somebody may look for. Of equals it is the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Which {
    /// In the order of the log.
    First,
    /// Of the largest timestamp.
    Latest,
}

/// Index and record; `Ok(false)`: no more.
type Visit<'v> = dyn FnMut(i32, &Times) -> Result<bool, BatchError> + 'v;

/// What a record says of itself beside key, value and headers.
struct Times {
    timestamp_delta: i64,
    offset_delta: i32,
}

enum Fault {
    Unwanted,
    TooLong,
    /// It does not decompress.
    Stream(io::Error),
    /// It does, to something else than records.
    Record {
        index: i32,
        malformed: Malformed,
    },
    Refused(BatchError),
}

impl Fault {
    fn explain(self, codec: Codec, header: &BatchHeader) -> Unread {
        let why = match self {
            Fault::Unwanted => return Unread::Unwanted,
            Fault::TooLong => return Unread::TooLong,
            Fault::Stream(error) if error.kind() == io::ErrorKind::FileTooLarge => return Unread::TooLong,
            Fault::Refused(error) => return Unread::Bad(error),
            Fault::Stream(error) => {
                format!("the records of the batch cannot be decompressed as {}: {error}", codec.name())
            }
            Fault::Record { index, malformed } => format!(
                "record {index} of the {} that the compressed batch counts is malformed: {}",
                header.record_count,
                malformed.why()
            ),
        };
        Unread::Bad(BatchError::Invalid(why))
    }
}

/// A place in a decompressed stream.
struct Walk<'a> {
    stream: Stream<'a>,
    buffer: &'a mut [u8],
    at: usize,
    end: usize,
    /// Bytes up to `end`.
    read: u64,
    bytes_max: u64,
    wanted: Option<&'a Wanted>,
}

impl Walk<'_> {
    fn records(&mut self, header: &BatchHeader, visit: &mut Visit<'_>) -> Result<(), Fault> {
        for index in 0..header.record_count {
            let record = self.record().map_err(|fault| fault.of_record(index))?;
            if !visit(index, &record).map_err(Fault::Refused)? {
                return Ok(());
            }
        }
        let is_at_end = self.is_at_end().map_err(|fault| fault.of_record(header.record_count))?;
        let malformed = Malformed::BatchLeftOver;
        if is_at_end { Ok(()) } else { Err(Fault::Record { index: header.record_count, malformed }) }
    }

    fn record(&mut self) -> Result<Times, Cut> {
        let size = u64::try_from(self.varint()?).map_err(|_| Malformed::NegativeLength)?;
        let end = self.position() + size;
        self.byte()?; // Attributes of a record are unused.
        let timestamp_delta = self.varlong()?;
        let offset_delta = self.varint()?;
        self.skip_nullable(end)?;
        self.skip_nullable(end)?;
        let headers = self.varint()?;
        if headers < 0 {
            return Err(Malformed::NegativeLength.into());
        }
        for _ in 0..headers {
            let key = u64::try_from(self.varint()?).map_err(|_| Malformed::NegativeLength)?;
            self.skip(key, end)?;
            self.skip_nullable(end)?;
        }
        match self.position().cmp(&end) {
            std::cmp::Ordering::Less => Err(Malformed::RecordLeftOver.into()),
            std::cmp::Ordering::Equal => Ok(Times { timestamp_delta, offset_delta }),
            std::cmp::Ordering::Greater => Err(Malformed::PastTheEnd.into()),
        }
    }

    /// Decompressed bytes before this place.
    fn position(&self) -> u64 {
        self.read - (self.end - self.at) as u64
    }

    /// More bytes into the empty buffer. False: there are none.
    fn fill(&mut self) -> Result<bool, Cut> {
        if self.read > self.bytes_max {
            return Err(Cut::TooLong);
        }
        if self.wanted.is_some_and(Wanted::is_over) {
            return Err(Cut::Unwanted);
        }
        (self.at, self.end) = (0, 0);
        self.end = self.stream.read(self.buffer).map_err(Cut::Stream)?;
        self.read += self.end as u64;
        Ok(self.end > 0)
    }

    fn is_at_end(&mut self) -> Result<bool, Cut> {
        Ok(self.at == self.end && !self.fill()?)
    }

    #[inline]
    fn byte(&mut self) -> Result<u8, Cut> {
        if self.at == self.end && !self.fill()? {
            return Err(Malformed::PastTheEnd.into());
        }
        self.at += 1;
        Ok(self.buffer[self.at - 1])
    }

    fn skip_nullable(&mut self, end: u64) -> Result<(), Cut> {
        match self.varint()? {
            -1 => Ok(()),
            bytes => self.skip(u64::try_from(bytes).map_err(|_| Malformed::NegativeLength)?, end),
        }
    }

    /// `end`: of the record that the bytes are in.
    fn skip(&mut self, bytes: u64, end: u64) -> Result<(), Cut> {
        if self.position() + bytes > end {
            return Err(Malformed::PastTheEnd.into());
        }
        let mut left = bytes;
        loop {
            let skipped = left.min((self.end - self.at) as u64);
            self.at += skipped as usize;
            left -= skipped;
            if left == 0 {
                return Ok(());
            }
            if !self.fill()? {
                return Err(Malformed::PastTheEnd.into());
            }
        }
    }

    fn varint(&mut self) -> Result<i32, Cut> {
        let raw = self.unsigned(5)? as u32;
        Ok((raw >> 1) as i32 ^ -((raw & 1) as i32))
    }

    fn varlong(&mut self) -> Result<i64, Cut> {
        let raw = self.unsigned(10)?;
        Ok((raw >> 1) as i64 ^ -((raw & 1) as i64))
    }

    #[inline]
    fn unsigned(&mut self, bytes_max: usize) -> Result<u64, Cut> {
        let mut value = 0;
        for i in 0..bytes_max {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed::VarintTooLong.into())
    }
}

/// Why a walk ends within a record.
enum Cut {
    Unwanted,
    TooLong,
    Stream(io::Error),
    Malformed(Malformed),
}

impl From<Malformed> for Cut {
    fn from(malformed: Malformed) -> Cut {
        Cut::Malformed(malformed)
    }
}

impl Cut {
    fn of_record(self, index: i32) -> Fault {
        match self {
            Cut::Unwanted => Fault::Unwanted,
            Cut::TooLong => Fault::TooLong,
            Cut::Stream(error) => Fault::Stream(error),
            Cut::Malformed(malformed) => Fault::Record { index, malformed },
        }
    }
}

#[cfg(test)]
#[path = "inspect_tests.rs"]
mod tests;
