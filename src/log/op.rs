//! What the log wants of a disk, and what comes back. The log never touches a file itself.
//!
//! `io::log_device` carries operations out on the raw ring and on a file thread, the simulator on simulated sectors.
//! Operations have no order among themselves but the one that the log makes by waiting for completions.

use super::buffer::{BLOCK_BYTES, WriteBuffer};
use crate::memory::{Filled, Piece};
use crate::record::{CheckedRun, RunBuilder, StampedBatch};
use crate::types::*;
use bytes::Bytes;
use std::fmt;

/// Names one submitted operation; never used twice in the life of a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OpId(pub u64);

/// A segment file is named by its first offset (`%020d.log`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentId(pub Offset);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FileId {
    Segment(SegmentId),
    /// `commit-mark`: two slots of 4 KiB that hold the commit mark. The device creates it (8 KiB of zeros, its name
    /// durable) before the first operation where it does not exist.
    CommitMark,
}

/// Small files that are replaced as a whole: write a temporary file, flush it, rename it, flush the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SmallFile {
    /// `quorum-state`
    QuorumState,
    /// `leader-epoch-checkpoint`
    LeaderEpochCheckpoint,
    /// The summary beside a segment, see `log::summary`.
    Summary(SegmentId),
}

/// Kafka: `Snapshots.SUFFIX`.
const SNAPSHOT_SUFFIX: &str = ".checkpoint";
const OFFSET_DIGITS: usize = 20;
const EPOCH_DIGITS: usize = 10;

/// `00000000000000000092-0000000001.checkpoint`, as Kafka names it.
pub fn snapshot_file_name(id: OffsetAndEpoch) -> String {
    format!("{:020}-{:010}{SNAPSHOT_SUFFIX}", id.offset.0, id.epoch.0)
}

/// The snapshot that a file name stands for; `None` for any other file, one that is not finished among them.
pub fn parse_snapshot_file_name(name: &str) -> Option<OffsetAndEpoch> {
    let (offset, epoch) = name.strip_suffix(SNAPSHOT_SUFFIX)?.split_once('-')?;
    let is_number = |text: &str, digits| text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
    if !is_number(offset, OFFSET_DIGITS) || !is_number(epoch, EPOCH_DIGITS) {
        return None;
    }
    Some(OffsetAndEpoch { epoch: Epoch(epoch.parse().ok()?), offset: Offset(offset.parse().ok()?) })
}

/// So long after its last write a log is taken to write on: whoever reads from the device gives way.
pub(crate) const WRITES_LATELY_NS: u64 = 100 * NS_PER_MS;

/// A summary that would be larger is not written: the segment is scanned. (Ten thousand producers make 1.8 MB of it.)
pub(crate) const SUMMARY_BYTES_MAX: usize = 16 << 20;

/// What an operator can do about rot, and about a disk that has failed. An emptied voter is safe only beside voters that remember (see raft's rule of
/// the empty voter).
pub(crate) const REFILL: &str = "Restore the file; or, if kafka-metadata-quorum shows that all other voters have caught up, empty this \
                      directory, and the leader fills it again";

/// The whole blocks around so many bytes of a file, and how many of those lie before the bytes.
pub(crate) fn read_span(position: u64, length: usize) -> (usize, usize) {
    let skip = (position % BLOCK_BYTES as u64) as usize;
    ((skip + length).next_multiple_of(BLOCK_BYTES), skip)
}

/// Something to be done on the disk.
#[derive(Debug)]
pub struct DiskOp {
    /// Comes back in the [`Completion`].
    pub id: OpId,
    /// What is to be done.
    pub kind: OpKind,
}

/// What a disk can be asked for.
#[derive(Debug)]
#[expect(missing_docs, reason = "each operation's fields are named in the words above it")]
pub enum OpKind {
    // --- the ring: the hot path
    /// Write `buffer[..length]` at `position`. Both are multiples of 4 KiB, and the write lies inside the file's
    /// allocated and zeroed range. `durable`: it completes when it is durable (RWF_DSYNC), else when it is written.
    /// The buffer comes back in the completion.
    Write { file: FileId, position: u64, buffer: WriteBuffer, length: usize, durable: bool },
    /// Read up to `length` bytes into `piece`, which has room for the whole blocks around them; fewer come back only at the end
    /// of the file. Any position and length. The piece comes back filled, or is let go of where nothing was read.
    Read { segment: SegmentId, position: u64, length: usize, piece: Piece },
    // --- the file thread: everything slow
    /// Create the segment, set its size to `zeroed`, write zeros over it, make it and its name durable. What another
    /// segment of that name has left, bytes or a summary, is gone.
    CreateSegment { segment: SegmentId, zeroed: u64 },
    /// Grow the file from `from` to `to` with zeros, durably (data and size). `written`: on the device too, so that a durable
    /// write there needs nothing of the file system; else they are only reserved.
    ExtendSegment { segment: SegmentId, from: u64, to: u64, written: bool },
    /// Overwrite `from..to` with zeros, durably. `to` is at most the file's size. Any byte position.
    ZeroSegment { segment: SegmentId, from: u64, to: u64 },
    /// Cut the file to this length, durably.
    CutSegment { segment: SegmentId, length: u64 },
    /// Remove the segment and its summary, and make their absence durable.
    DeleteSegment { segment: SegmentId },
    /// Replace a small file, durably.
    ReplaceFile { file: SmallFile, contents: Vec<u8> },
    /// Remove a small file, durably. There may be none.
    RemoveFile { file: SmallFile },
    /// Flush the device's cache: what recovery read back may sit only there.
    FlushSegment { segment: SegmentId },
    // --- no file at all: a thread that runs when nobody else wants its CPU
    /// Nothing waits for it, however long it takes. It does not fail.
    Memory(MemoryWork),
}

/// What would keep the log's core waiting for memory, or busy for nobody's sake.
#[derive(Debug)]
pub enum MemoryWork {
    /// Have the kernel find memory for this piece, and let go of it.
    Touch {
        /// New, or in part.
        piece: Piece,
    },
    /// Copy these batches behind each other.
    Copy {
        /// Contiguous, and no more than the piece has room for.
        batches: Vec<StampedBatch>,
        /// Whatever it holds.
        piece: Piece,
    },
}

impl MemoryWork {
    /// Do it, here and now.
    pub fn carry_out(self) -> Done {
        match self {
            MemoryWork::Touch { mut piece } => {
                piece.touch();
                Done::Complete
            }
            MemoryWork::Copy { batches, mut piece } => {
                piece.touch();
                let mut block = RunBuilder::new(piece);
                let fits = batches.iter().all(|batch| block.push(batch));
                assert!(fits, "what is to be copied is contiguous and has room");
                block.finish().map_or(Done::Complete, Done::Copied)
            }
        }
    }
}

impl OpKind {
    /// See `WriteBuffer::free`.
    pub(crate) fn free_buffer(self) {
        if let OpKind::Write { buffer, .. } = self {
            buffer.free();
        }
    }
}

/// How an operation has ended: exactly one for each.
#[derive(Debug)]
pub struct Completion {
    /// Of the operation.
    pub id: OpId,
    /// A [`DiskError`] where it was not done, or not to its end.
    pub result: Result<Done, DiskError>,
    /// A write's buffer comes back with its failure too.
    pub buffer: Option<WriteBuffer>,
}

/// What a successful operation has brought.
#[derive(Debug)]
pub enum Done {
    /// Any operation but those that bring something.
    Complete,
    /// What was copied.
    Copied(CheckedRun),
    /// The piece of a Read, and what was read.
    Read(Filled),
}

/// The disk said no. The process stops (see design: a failed flush), but where an operation found no room before it had
/// changed anything that was flushed: that one is tried again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{operation} failed: {reason}")]
pub struct DiskError {
    /// "write 8192 bytes at 4096 of 00000000000000000000.log"
    pub(crate) operation: String,
    /// The system's words, with what to do where that is known.
    pub(crate) reason: String,
    /// errno, 0 where there is none.
    pub(crate) errno: i32,
}

const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

impl DiskError {
    /// No room, or none for this user.
    pub(crate) fn is_full(&self) -> bool {
        matches!(self.errno, ENOSPC | EDQUOT)
    }
}

/// Something to be done with the files of snapshots, off the cores. They are of the log's owner, and the log knows nothing of them.
#[derive(Debug)]
pub struct SnapshotOp {
    /// Comes back in the [`SnapshotCompletion`]; the owner chooses it.
    pub token: u64,
    /// What is to be done.
    pub kind: SnapshotWork,
}

/// A snapshot never changes: it is written under another name, flushed, renamed, and then its name is flushed.
#[derive(Debug)]
#[expect(missing_docs, reason = "each operation's fields are named in the words above it")]
pub enum SnapshotWork {
    /// Make a snapshot of these bytes, durable with its name. More than `bytes_max` are refused. It comes with its size.
    Write { id: OffsetAndEpoch, contents: SnapshotContents, bytes_max: u64 },
    /// Up to `length` bytes from `position`; fewer only at its end.
    Read { id: OffsetAndEpoch, position: u64, length: usize },
    /// Remove one, durably. There may be none.
    Remove { id: OffsetAndEpoch },
    /// What a process has left that died over it, and all that is set aside but the newest.
    Tidy,
}

/// The bytes of a snapshot, piece by piece, made where they are written.
pub struct SnapshotContents(pub Box<dyn Iterator<Item = Bytes> + Send>);

impl fmt::Debug for SnapshotContents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SnapshotContents")
    }
}

/// How it has ended: exactly one for each.
#[derive(Debug)]
pub struct SnapshotCompletion {
    /// Of the operation.
    pub token: u64,
    /// A [`DiskError`] where it was not done, or not to its end.
    pub result: Result<SnapshotDone, DiskError>,
}

/// What a successful one has brought.
#[derive(Debug)]
pub enum SnapshotDone {
    /// Any but those that bring something.
    Complete,
    /// So many bytes were written.
    Written(u64),
    /// What was read.
    Read(Bytes),
}

/// Where a start reads snapshots from: the directory, as the server or the simulator has it. Synchronous, used only then.
pub trait SnapshotSource {
    /// Those that are there under a snapshot's name, with the sizes of their files.
    fn snapshots(&mut self) -> Result<Vec<(OffsetAndEpoch, u64)>, DiskError>;
    /// Up to `length` bytes from `position`; fewer only at its end.
    fn read_snapshot(&mut self, id: OffsetAndEpoch, position: u64, length: usize)
    -> Result<Bytes, DiskError>;
    /// It is a snapshot no more, durably, and kept for people to look at.
    fn set_aside(&mut self, id: OffsetAndEpoch) -> Result<(), DiskError>;
}
