//! The codecs of Kafka's batches: all behind the header of a compressed batch is one stream of gzip, snappy (in the blocks of
//! snappy-java), an LZ4 frame of independent blocks, or zstd (`org.apache.kafka.common.compress`).
//!
//! The only module that names the compression crates. [`Stream`] reads such a stream piece by piece, never more than is asked
//! of it; [`Codec::compress_batch`] makes one, for tools, tests and the simulator: a server stores what it was sent.

mod snappy;
mod stream;

use super::builder::rebuilt;
use super::check::check_produced_whole;
use super::{BATCH_HEADER_BYTES, StampedBatch};
use bytes::Bytes;
use std::io::{self, Read, Write};
pub(super) use stream::{Buffers, Stream};

/// Kafka's default for zstd; the others have the defaults of their libraries.
const ZSTD_LEVEL: i32 = 3;

/// How the records of a batch are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "Kafka's names")]
pub enum Codec {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Codec {
    /// By Kafka's ids (`CompressionType`).
    pub const ALL: [Codec; 5] = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];

    /// Of the lowest three bits of a batch's attributes; `None` for 5 to 7.
    pub(super) fn from_id(id: u8) -> Option<Codec> {
        Codec::ALL.get(usize::from(id)).copied()
    }

    /// As in the lowest three bits of a batch's attributes.
    pub fn id(self) -> u8 {
        self as u8
    }

    /// As Kafka's `compression.type` has it.
    pub fn name(self) -> &'static str {
        match self {
            Codec::None => "none",
            Codec::Gzip => "gzip",
            Codec::Snappy => "snappy",
            Codec::Lz4 => "lz4",
            Codec::Zstd => "zstd",
        }
    }

    /// `batch` is one that was built without compression; its records are compressed, also if that makes it larger.
    pub fn compress_batch(self, batch: Bytes) -> io::Result<Bytes> {
        let Some((_, records)) = batch.split_at_checked(BATCH_HEADER_BYTES).filter(|_| self != Codec::None)
        else {
            return Ok(batch);
        };
        let records = self.compress(records)?;
        Ok(rebuilt(&batch, self.id(), &records))
    }

    /// The same batch without compression, for tools and tests. `bytes_max`: of its records.
    pub fn decompress_batch(batch: &StampedBatch, bytes_max: u64) -> io::Result<StampedBatch> {
        let Some(codec) = Codec::from_id(batch.header().compression()) else {
            return Err(io::Error::other("the compression type is unknown"));
        };
        let (mut records, mut buffers) = (Vec::new(), Buffers::default());
        let stream = Stream::open(codec, batch.record_bytes(), &mut buffers, bytes_max)?;
        stream.take(bytes_max.saturating_add(1)).read_to_end(&mut records)?;
        if records.len() as u64 > bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let whole = rebuilt(&batch.to_bytes(), 0, &records);
        check_produced_whole(whole).map_err(io::Error::other)
    }

    /// The stream that stands behind the header.
    pub fn compress(self, records: &[u8]) -> io::Result<Vec<u8>> {
        match self {
            Codec::None => Ok(records.to_vec()),
            Codec::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
                encoder.write_all(records)?;
                encoder.finish()
            }
            Codec::Snappy => snappy::compress(records),
            Codec::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(Vec::new());
                encoder.write_all(records)?;
                Ok(encoder.finish()?)
            }
            Codec::Zstd => zstd::bulk::compress(records, ZSTD_LEVEL),
        }
    }
}

#[cfg(test)]
mod tests;
