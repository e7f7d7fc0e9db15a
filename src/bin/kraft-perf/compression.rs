//! Compressed batches, as Kafka's producer makes them. Only the driver compresses: to the server a batch is opaque bytes.
//!
//! All after the batch header is one compressed stream: gzip, snappy in the blocks of snappy-java, an LZ4 frame of
//! independent blocks, or a zstd frame (`org.apache.kafka.common.compress`).

use std::io::{self, Write};

use bytes::Bytes;
use clap::ValueEnum;

const HEADER_BYTES: usize = 61;
const LENGTH_AT: usize = 8;
/// The bytes that the length does not count: base offset and the length itself.
const BEFORE_LENGTH_BYTES: usize = 12;
const CRC_AT: usize = 17;
const ATTRIBUTES_AT: usize = 21;
/// What snappy-java puts before its first block: magic, version, lowest version that can read it.
const SNAPPY_JAVA_HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
const SNAPPY_BLOCK_BYTES: usize = 32 << 10;
/// Kafka's default for zstd, and the libraries' own for the others.
const ZSTD_LEVEL: i32 = 3;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Compression {
    None,
    Gzip,
    Snappy,
    Lz4,
    Zstd,
}

impl Compression {
    pub fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Snappy => "snappy",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }

    /// Kafka's id of the codec, in the lowest three bits of a batch's attributes (`CompressionType`).
    fn id(self) -> u8 {
        match self {
            Compression::None => 0,
            Compression::Gzip => 1,
            Compression::Snappy => 2,
            Compression::Lz4 => 3,
            Compression::Zstd => 4,
        }
    }

    /// `batch` is one that was built without compression; its records are compressed, also if that makes it larger.
    pub fn apply(self, batch: Bytes) -> io::Result<Bytes> {
        let Some((header, records)) =
            batch.split_at_checked(HEADER_BYTES).filter(|_| self != Compression::None)
        else {
            return Ok(batch);
        };
        let mut out = self.compress(records, header.to_vec())?;
        let length = (out.len() - BEFORE_LENGTH_BYTES) as u32;
        out[LENGTH_AT..BEFORE_LENGTH_BYTES].copy_from_slice(&length.to_be_bytes());
        out[ATTRIBUTES_AT + 1] |= self.id();
        let crc = crc32c::crc32c(&out[ATTRIBUTES_AT..]);
        out[CRC_AT..ATTRIBUTES_AT].copy_from_slice(&crc.to_be_bytes());
        Ok(out.into())
    }

    /// Appends the compressed records to `out`.
    fn compress(self, records: &[u8], mut out: Vec<u8>) -> io::Result<Vec<u8>> {
        match self {
            Compression::None => out.extend_from_slice(records),
            Compression::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::default());
                encoder.write_all(records)?;
                out = encoder.finish()?;
            }
            Compression::Snappy => put_snappy_blocks(records, &mut out)?,
            Compression::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(out);
                encoder.write_all(records)?;
                out = encoder.finish()?;
            }
            Compression::Zstd => out.extend_from_slice(&zstd::bulk::compress(records, ZSTD_LEVEL)?),
        }
        Ok(out)
    }
}

fn put_snappy_blocks(records: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    out.extend_from_slice(SNAPPY_JAVA_HEADER);
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(SNAPPY_BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use kraft::record::{BatchHeader, ProduceLimits, check_produced, data_batch, restamp_producer};
    use std::io::Read;

    const WALL_MS: i64 = 1_795_356_185_000;
    const CODECS: [Compression; 4] =
        [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

    fn plain() -> Bytes {
        let values: Vec<Vec<u8>> =
            (0..100u32).map(|n| format!("value {n} ").repeat(60).into_bytes()).collect();
        let slices: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        data_batch(&slices, WALL_MS, None)
    }

    fn read_all(mut reader: impl Read) -> Vec<u8> {
        let mut out = Vec::new();
        reader.read_to_end(&mut out).unwrap();
        out
    }

    fn decompress(codec: Compression, stream: &[u8]) -> Vec<u8> {
        match codec {
            Compression::None => stream.to_vec(),
            Compression::Gzip => read_all(flate2::read::GzDecoder::new(stream)),
            Compression::Lz4 => read_all(lz4_flex::frame::FrameDecoder::new(stream)),
            Compression::Zstd => zstd::stream::decode_all(stream).unwrap(),
            Compression::Snappy => decompress_snappy(stream),
        }
    }

    fn decompress_snappy(stream: &[u8]) -> Vec<u8> {
        let (mut out, mut rest) = (Vec::new(), stream.strip_prefix(SNAPPY_JAVA_HEADER).unwrap());
        while let Some((length, after)) = rest.split_first_chunk() {
            let (block, next) = after.split_at(u32::from_be_bytes(*length) as usize);
            out.extend(snap::raw::Decoder::new().decompress_vec(block).unwrap());
            rest = next;
        }
        out
    }

    #[test]
    fn records_survive_every_codec() {
        let plain = plain();
        assert!(plain.len() > SNAPPY_BLOCK_BYTES, "more than one block of snappy");
        for codec in CODECS {
            let batch = codec.apply(plain.clone()).unwrap();
            assert!(batch.len() < plain.len() / 2, "{codec:?}: {} of {}", batch.len(), plain.len());
            assert_eq!(decompress(codec, &batch[HEADER_BYTES..]), plain[HEADER_BYTES..], "{codec:?}");
            let header = BatchHeader::decode(&batch).unwrap();
            assert_eq!((header.attributes & 7, header.last_offset_delta), (i16::from(codec.id()), 99));
        }
        assert_eq!(Compression::None.apply(plain.clone()).unwrap(), plain);
    }

    #[test]
    fn a_server_accepts_them_idempotent_too() {
        let limits = ProduceLimits {
            message_bytes_max: 1 << 20,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: 3_600_000,
            now_wall_ms: WALL_MS,
        };
        for codec in CODECS {
            let mut batch = codec.apply(plain()).unwrap().to_vec();
            check_produced(Bytes::copy_from_slice(&batch), &limits).unwrap();
            restamp_producer(&mut batch, (7, 0, 5));
            check_produced(Bytes::from(batch), &limits).unwrap();
        }
    }

    /// Of three bytes every codec makes more.
    #[test]
    fn what_cannot_be_compressed_is_sent_compressed_all_the_same() {
        for codec in CODECS {
            let plain = data_batch(&[b"abc"], WALL_MS, None);
            let batch = codec.apply(plain.clone()).unwrap();
            assert_eq!(decompress(codec, &batch[HEADER_BYTES..]), plain[HEADER_BYTES..], "{codec:?}");
        }
    }
}
