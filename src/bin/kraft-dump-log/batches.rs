//! One segment, batch by batch. Memory grows with the largest batch, never with the file.

use std::fs::File;
use std::io::{self, BufReader, Read, Seek, SeekFrom};
use std::path::Path;

use bytes::Bytes;
use kraft::record::{BATCH_HEADER_BYTES, BatchHeader, StampedBatch, check_fetched};

/// Enough for the headers of many small batches at once; what lies between those of large ones is not read.
const READ_BYTES: usize = 256 * 1024;
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// A batch as it stands in the file.
pub(crate) struct FoundBatch {
    pub(crate) position: u64,
    pub(crate) header: BatchHeader,
    /// `None` where it is not valid.
    pub(crate) batch: Option<StampedBatch>,
    pub(crate) invalid: Option<String>,
}

/// What follows the last batch.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Whole,
    Zeros(u64),
    NoBatch { position: u64, bytes: u64 },
}

pub(crate) struct SegmentReader {
    file: BufReader<File>,
    position: u64,
    size: u64,
    has_only_zeros_left: bool,
}

impl SegmentReader {
    pub(crate) fn open(path: &Path) -> io::Result<SegmentReader> {
        let file = File::open(path)?;
        let size = file.metadata()?.len();
        Ok(SegmentReader {
            file: BufReader::with_capacity(READ_BYTES, file),
            position: 0,
            size,
            has_only_zeros_left: false,
        })
    }

    /// Goes over all that is left by the sizes that the headers say, so that little is read. Whether the batches are valid
    /// is not looked at.
    pub(crate) fn skip_batches(&mut self) -> io::Result<()> {
        while let Some((_, header)) = self.next_header()? {
            self.file.seek_relative((header.size_bytes - BATCH_HEADER_BYTES) as i64)?;
            self.position += header.size_bytes as u64;
        }
        Ok(())
    }

    /// Where the batches read so far end.
    pub(crate) fn position(&self) -> u64 {
        self.position
    }

    /// `None`: no whole batch begins here; `end` says what does.
    pub(crate) fn next_batch(&mut self) -> io::Result<Option<FoundBatch>> {
        let Some((head, header)) = self.next_header()? else { return Ok(None) };
        let mut bytes = head.to_vec();
        let rest = (header.size_bytes - BATCH_HEADER_BYTES) as u64;
        (&mut self.file).take(rest).read_to_end(&mut bytes)?;
        let (batches, error) = check_fetched(Bytes::from(bytes));
        let batch = batches.into_iter().next();
        let invalid = match (&batch, error) {
            (Some(_), _) => None,
            (None, Some(error)) => Some(error.to_string()),
            (None, None) => Some("the file became shorter while it was read".to_string()),
        };
        let position = self.position;
        self.position += header.size_bytes as u64;
        Ok(Some(FoundBatch { position, header, batch, invalid }))
    }

    /// The header at `position`, read; `None` where no whole batch begins there.
    fn next_header(&mut self) -> io::Result<Option<([u8; BATCH_HEADER_BYTES], BatchHeader)>> {
        let left = self.size - self.position;
        let mut head = [0; BATCH_HEADER_BYTES];
        let header = if left < BATCH_HEADER_BYTES as u64 {
            None
        } else {
            self.file.read_exact(&mut head)?;
            BatchHeader::decode(&head)
        };
        let sizes = BATCH_HEADER_BYTES as u64..=left;
        let header = header.filter(|header| sizes.contains(&(header.size_bytes as u64)));
        if header.is_none() {
            self.has_only_zeros_left = self.only_zeros_follow()?;
        }
        Ok(header.map(|header| (head, header)))
    }

    pub(crate) fn end(&self) -> End {
        match self.size - self.position {
            0 => End::Whole,
            bytes if self.has_only_zeros_left => End::Zeros(bytes),
            bytes => End::NoBatch { position: self.position, bytes },
        }
    }

    fn only_zeros_follow(&mut self) -> io::Result<bool> {
        self.file.seek(SeekFrom::Start(self.position))?;
        let mut piece = vec![0; ZEROS.len()];
        loop {
            match self.file.read(&mut piece)? {
                0 => return Ok(true),
                count if piece[..count] != ZEROS[..count] => return Ok(false),
                _ => {}
            }
        }
    }
}
