//! Snappy as snappy-java frames it (a header, then blocks with their lengths), and without a frame, as other libraries send it:
//! `SnappyInputStream` reads both.

use std::io::{self, Read};

const MAGIC: &[u8] = b"\x82SNAPPY\0";
/// Magic, version, lowest version that can read it.
const HEADER: &[u8] = b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01";
/// Snappy-java's own size of a block.
const BLOCK_BYTES: usize = 32 << 10;
/// An element of snappy has at least three bytes for each 64 that it stands for, so a block that claims more than this is none.
const RATIO_MAX: usize = 22;

pub(super) fn compress(records: &[u8]) -> io::Result<Vec<u8>> {
    let mut out = HEADER.to_vec();
    let mut encoder = snap::raw::Encoder::new();
    for block in records.chunks(BLOCK_BYTES) {
        let compressed = encoder.compress_vec(block)?;
        out.extend_from_slice(&(compressed.len() as u32).to_be_bytes());
        out.extend_from_slice(&compressed);
    }
    Ok(out)
}

/// Decompresses one block at a time into a buffer that is kept from one stream to the next.
pub(crate) struct SnappyReader<'a> {
    rest: &'a [u8],
    is_framed: bool,
    block: &'a mut Vec<u8>,
    at: usize,
    block_bytes_max: u64,
}

impl<'a> SnappyReader<'a> {
    /// No block may have more than `block_bytes_max`: it costs that much memory.
    pub(super) fn new(
        stream: &'a [u8],
        block: &'a mut Vec<u8>,
        block_bytes_max: u64,
    ) -> io::Result<SnappyReader<'a>> {
        block.clear();
        let is_framed = stream.starts_with(MAGIC);
        let rest = if is_framed { after_header(stream)? } else { stream };
        Ok(SnappyReader { rest, is_framed, block, at: 0, block_bytes_max })
    }

    fn next_block(&mut self) -> io::Result<()> {
        self.block.clear();
        self.at = 0;
        if !self.is_framed {
            let whole = std::mem::take(&mut self.rest);
            return self.decompress(whole);
        }
        // Streams may stand one behind the other.
        while self.rest.starts_with(MAGIC) {
            self.rest = after_header(self.rest)?;
        }
        if self.rest.is_empty() {
            return Ok(());
        }
        let (length, after) = self.rest.split_first_chunk().ok_or_else(cut_short)?;
        let length = usize::try_from(u32::from_be_bytes(*length)).map_err(|_| cut_short())?;
        let (compressed, rest) = after.split_at_checked(length).ok_or_else(cut_short)?;
        self.rest = rest;
        self.decompress(compressed)
    }

    fn decompress(&mut self, compressed: &[u8]) -> io::Result<()> {
        let bytes = snap::raw::decompress_len(compressed)?;
        if bytes > compressed.len().saturating_mul(RATIO_MAX) {
            return Err(io::Error::other("a block claims more bytes than it can hold"));
        }
        if bytes as u64 > self.block_bytes_max {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.block.resize(bytes, 0);
        let written = snap::raw::Decoder::new().decompress(compressed, self.block)?;
        self.block.truncate(written);
        Ok(())
    }
}

impl Read for SnappyReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at == self.block.len() {
            if self.rest.is_empty() {
                return Ok(0);
            }
            self.next_block()?;
        }
        let bytes = out.len().min(self.block.len() - self.at);
        out[..bytes].copy_from_slice(&self.block[self.at..][..bytes]);
        self.at += bytes;
        Ok(bytes)
    }
}

/// Any version can be read: there has been one (`SnappyInputStream.readHeader` refuses those below 1).
fn after_header(stream: &[u8]) -> io::Result<&[u8]> {
    let (header, rest) = stream.split_at_checked(HEADER.len()).ok_or_else(cut_short)?;
    if header[MAGIC.len()..][..4] == [0; 4] || header[MAGIC.len()] & 0x80 != 0 {
        return Err(io::Error::other("the version of its frame is unknown"));
    }
    Ok(rest)
}

fn cut_short() -> io::Error {
    io::ErrorKind::UnexpectedEof.into()
}
