//! Reads a compressed stream piece by piece. The memory that it takes is that of a codec's window, whatever the stream claims.

use super::Codec;
use super::snappy::SnappyReader;
use std::cmp::Ordering;
use std::io::{self, Read};

/// zstd-jni's own bound, which Kafka leaves as it is: no window above 128 MiB.
const ZSTD_WINDOW_LOG_MAX: u32 = 27;
const LZ4_MAGIC: [u8; 4] = 0x184D_2204_u32.to_le_bytes();
/// Flags of a frame. The first: its blocks do not refer to each other.
const LZ4_INDEPENDENT_BLOCKS: u8 = 0x20;
const LZ4_BLOCK_CHECKSUM: u8 = 0x10;
const LZ4_CONTENT_SIZE: u8 = 0x08;
const LZ4_CONTENT_CHECKSUM: u8 = 0x04;
const LZ4_DICTIONARY: u8 = 0x01;
/// In the size of a block that is stored as it is.
const LZ4_NOT_COMPRESSED: u32 = 1 << 31;
/// A larger buffer is given back when its stream has ended.
const KEPT_BYTES_MAX: usize = 1 << 20;

/// What is kept from one stream to the next, so that each does not allocate it anew.
#[derive(Debug, Default)]
pub(crate) struct Buffers {
    pub(super) snappy_block: Vec<u8>,
}

impl Buffers {
    /// Give back what one large stream has needed.
    pub(crate) fn shrink(&mut self) {
        if self.snappy_block.capacity() > KEPT_BYTES_MAX {
            self.snappy_block = Vec::new();
        }
    }
}

/// The decompressed bytes of a stream. What is wrong with it is an error of `read`, after what was right;
/// `FileTooLarge` where a part of it alone has more than `bytes_max`.
pub(crate) enum Stream<'a> {
    Plain(&'a [u8]),
    Gzip(flate2::bufread::MultiGzDecoder<&'a [u8]>),
    Snappy(SnappyReader<'a>),
    Lz4(lz4_flex::frame::FrameDecoder<&'a [u8]>),
    Zstd(zstd::stream::read::Decoder<'static, &'a [u8]>),
}

impl<'a> Stream<'a> {
    pub(crate) fn open(
        codec: Codec,
        stream: &'a [u8],
        buffers: &'a mut Buffers,
        bytes_max: u64,
    ) -> io::Result<Stream<'a>> {
        Ok(match codec {
            Codec::None => Stream::Plain(stream),
            Codec::Gzip => Stream::Gzip(flate2::bufread::MultiGzDecoder::new(stream)),
            Codec::Snappy => Stream::Snappy(SnappyReader::new(stream, &mut buffers.snappy_block, bytes_max)?),
            Codec::Lz4 => {
                check_lz4_frame(stream)?;
                Stream::Lz4(lz4_flex::frame::FrameDecoder::new(stream))
            }
            Codec::Zstd => {
                let mut decoder = zstd::stream::read::Decoder::with_buffer(stream)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Stream::Zstd(decoder)
            }
        })
    }
}

impl Read for Stream<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(rest) => rest.read(out),
            Stream::Gzip(decoder) => decoder.read(out),
            Stream::Snappy(reader) => reader.read(out),
            Stream::Lz4(decoder) => decoder.read(out),
            Stream::Zstd(decoder) => decoder.read(out),
        }
    }
}

/// The crate reads more than Kafka's clients do (`Lz4BlockInputStream`, librdkafka): older frames, blocks that refer to those
/// before, frames that stop before their end mark, several of them. So the frame is walked by its sizes first.
fn check_lz4_frame(stream: &[u8]) -> io::Result<()> {
    let wrong = |why: &'static str| Err(io::Error::other(why));
    let Some((&LZ4_MAGIC, rest)) = stream.split_first_chunk::<4>() else {
        return wrong("it does not begin with the magic of an LZ4 frame");
    };
    let [flags, ..] = *rest else { return wrong("its frame is cut short") };
    if flags & LZ4_INDEPENDENT_BLOCKS == 0 {
        return wrong("the blocks of its frame depend on each other");
    }
    let has = |flag: u8, bytes: usize| if flags & flag != 0 { bytes } else { 0 };
    // Flags, block size, and a byte of checksum.
    let mut at = LZ4_MAGIC.len() + 3 + has(LZ4_CONTENT_SIZE, 8) + has(LZ4_DICTIONARY, 4);
    loop {
        let Some(size) = stream.get(at..).and_then(|rest| rest.first_chunk::<4>()) else {
            return wrong("its frame has no end mark");
        };
        at += size.len();
        let size = u32::from_le_bytes(*size) & !LZ4_NOT_COMPRESSED;
        if size == 0 {
            break;
        }
        at += size as usize + has(LZ4_BLOCK_CHECKSUM, 4);
    }
    match stream.len().cmp(&(at + has(LZ4_CONTENT_CHECKSUM, 4))) {
        Ordering::Less => wrong("its frame is cut short"),
        Ordering::Equal => Ok(()),
        Ordering::Greater => wrong("bytes follow its frame"),
    }
}
