//! Pieces of snapshots read and written: what is to be done off the cores, and how.
//!
//! Pure but for the files that it is given. Nothing of a file leaves before all of it was read once and found whole, and what was found
//! so is kept open: its pieces are those of one file, whatever becomes of its name meanwhile.

#[cfg(any(test, feature = "sim"))]
pub(crate) mod memory;

use bytes::Bytes;
use std::collections::VecDeque;

use crate::config::Config;
use crate::log::{Corrupt, DiskError, ReadSnapshot, SnapshotDecoder, SnapshotDirectory, snapshot_file_name};
use crate::replica::folds::Folds;
use crate::types::*;

/// A file is read through in steps of this size.
const STEP_BYTES: usize = 1 << 20;
/// Files that are kept open: the newest, the one before it, and those that somebody still fetches.
const OPEN_MAX: usize = 4;

/// Something to be done with the files of snapshots.
#[derive(Debug)]
pub struct CopyOp {
    /// Comes back in the [`CopyDone`].
    pub(crate) token: u64,
    pub(crate) work: CopyWork,
}

#[derive(Debug)]
pub(crate) enum CopyWork {
    /// Up to so many bytes of a snapshot from `position` on.
    Read { id: OffsetAndEpoch, position: i64, bytes_max: usize },
    /// Of the one that is being fetched; position 0 begins it anew.
    Append { position: u64, bytes: Bytes },
    /// All of it is there: it becomes a snapshot, if it is one.
    Finish { id: OffsetAndEpoch },
    /// It is given up.
    GiveUp,
}

/// How it has ended: exactly one for each.
#[derive(Debug)]
pub struct CopyDone {
    pub(crate) token: u64,
    pub(crate) result: Result<Copied, NotCopied>,
}

#[derive(Debug)]
pub(crate) enum Copied {
    /// Of a file of this size.
    Piece {
        size: u64,
        bytes: Bytes,
    },
    Appended,
    /// It is durable under its name, and this is what it holds.
    Finished(Box<Folds>),
    GivenUp,
}

#[derive(Debug)]
pub(crate) enum NotCopied {
    /// There is no such snapshot (any more).
    Missing,
    /// The file ends before that, or nothing lies before its begin.
    OutOfRange,
    /// It is there and is none, in words that begin with its name.
    Bad(String),
    Disk(DiskError),
}

impl From<DiskError> for NotCopied {
    fn from(error: DiskError) -> NotCopied {
        NotCopied::Disk(error)
    }
}

/// One that was read to its end, or until it was found bad.
struct Open<F> {
    id: OffsetAndEpoch,
    file: F,
    size: u64,
    why_bad: Option<String>,
}

/// Carries out operations, one after the other.
pub(crate) struct Copies<F: SnapshotDirectory> {
    files: F,
    config: Config,
    /// The one that was used last is last.
    open: VecDeque<Open<F::File>>,
}

impl<F: SnapshotDirectory> Copies<F> {
    pub(crate) fn new(files: F, config: Config) -> Copies<F> {
        Copies { files, config, open: VecDeque::new() }
    }

    /// For whoever puts files there.
    #[cfg(test)]
    pub(crate) fn files(&mut self) -> &mut F {
        &mut self.files
    }

    /// Of another configuration.
    #[cfg(test)]
    pub(crate) fn set_bytes_max(&mut self, bytes_max: u64) {
        self.config.limits.snapshot_bytes_max = bytes_max;
    }

    pub(crate) fn carry_out(&mut self, op: CopyOp) -> CopyDone {
        let result = match op.work {
            CopyWork::Read { id, position, bytes_max } => self.read(id, position, bytes_max),
            CopyWork::Append { position, bytes } => {
                self.files.append_part(position, &bytes).map(|()| Copied::Appended).map_err(NotCopied::Disk)
            }
            CopyWork::Finish { id } => self.finish(id),
            CopyWork::GiveUp => self.files.remove_part().map(|()| Copied::GivenUp).map_err(NotCopied::Disk),
        };
        CopyDone { token: op.token, result }
    }

    fn read(&mut self, id: OffsetAndEpoch, position: i64, bytes_max: usize) -> Result<Copied, NotCopied> {
        self.look_up(id)?;
        let Some(Open { file, size, why_bad, .. }) = self.open.back() else { return Err(NotCopied::Missing) };
        if let Some(why) = why_bad {
            return Err(NotCopied::Bad(why.clone()));
        }
        let position = u64::try_from(position).map_err(|_| NotCopied::OutOfRange)?;
        if position >= *size {
            return Err(NotCopied::OutOfRange);
        }
        let left = usize::try_from(*size - position).unwrap_or(usize::MAX);
        let bytes = self.files.read(file, position, bytes_max.min(left))?;
        Ok(Copied::Piece { size: *size, bytes: bytes.into() })
    }

    /// So that it is the last of those that are open: as it was opened once, or anew.
    fn look_up(&mut self, id: OffsetAndEpoch) -> Result<(), NotCopied> {
        if let Some(at) = self.open.iter().position(|open| open.id == id)
            && let Some(known) = self.open.remove(at)
            && self.files.is_still(&snapshot_file_name(id), &known.file)
        {
            self.open.push_back(known);
            return Ok(());
        }
        let file = self.files.open(&snapshot_file_name(id))?.ok_or(NotCopied::Missing)?;
        let decoder = SnapshotDecoder::to_check(id, self.config.limits.snapshot_bytes_max);
        let why_bad = match self.read_through(&file, decoder) {
            Ok(_) => None,
            Err(NotCopied::Bad(why)) => Some(why),
            Err(other) => return Err(other),
        };
        if self.open.len() >= OPEN_MAX {
            self.open.pop_front();
        }
        let size = self.files.size(&file);
        self.open.push_back(Open { id, file, size, why_bad });
        Ok(())
    }

    fn read_through(
        &mut self,
        file: &F::File,
        mut decoder: SnapshotDecoder,
    ) -> Result<ReadSnapshot, NotCopied> {
        let bad = |corrupt: Corrupt| NotCopied::Bad(corrupt.to_string());
        let mut position = 0;
        loop {
            let bytes = self.files.read(file, position, STEP_BYTES)?;
            if bytes.is_empty() {
                return decoder.finish().map_err(bad);
            }
            decoder.push(&bytes).map_err(bad)?;
            position += bytes.len() as u64;
        }
    }

    /// Whoever sent it, nothing of it is believed: each batch's CRC, each section's, and what every fold makes of its own.
    fn finish(&mut self, id: OffsetAndEpoch) -> Result<Copied, NotCopied> {
        let file = self.files.open_part()?;
        let decoder = SnapshotDecoder::new(id, self.config.limits.snapshot_bytes_max);
        let folds = self.read_through(&file, decoder).and_then(|read| {
            Folds::of_snapshot(&self.config, &read)
                .map_err(|why| NotCopied::Bad(format!("{}: {why}", snapshot_file_name(id))))
        });
        match folds {
            Ok(folds) => {
                self.files.finish_part(&snapshot_file_name(id))?;
                Ok(Copied::Finished(Box::new(folds)))
            }
            Err(why) => {
                // It is said why it was none; that its bytes stay a while is nobody's concern.
                let _ = self.files.remove_part();
                Err(why)
            }
        }
    }
}
