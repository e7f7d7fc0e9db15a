//! (contract; the owner of src/log replaces this file)
pub mod buffer;
pub mod op;
use crate::record::{BatchHeader, StampedBatch};
use crate::types::*;
pub use buffer::*;
use bytes::Bytes;
pub use op::*;

#[derive(Clone, Debug)]
pub struct LogConfig {
    pub segment_bytes_max: u64,
    /// A segment grows by steps of this size, zeroed ahead of the writer.
    pub zero_ahead_bytes: u64,
    pub write_buffer_bytes: usize,
    pub write_buffers: usize,
    /// Largest group (bytes) submitted at once.
    pub group_bytes_max: usize,
    pub tail_cache_bytes_max: usize,
    /// Appended but not flushed bytes at which `is_full` turns true.
    pub unflushed_bytes_max: u64,
    /// An idle log writes its commit mark after this long.
    pub commit_mark_idle_ms: u64,
}

/// Where recovery reads from: the directory, as the server or the simulator has it. Synchronous, used only at start.
pub trait LogSource {
    /// Base offsets of all `%020d.log`, ascending, with their file sizes.
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError>;
    fn read(&mut self, segment: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError>;
    /// `None` where the file does not exist.
    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError>;
    /// Both slots' bytes; `None` where the file does not exist.
    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError>;
}

/// Refusal to start: cutting here could lose acknowledged records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{segment} is corrupt at byte {position}: {why}")]
pub struct Corrupt {
    pub segment: String,
    pub position: u64,
    pub why: String,
}

#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What recovery found, and what `Log::new` continues from.
pub struct RecoveredLog {
    pub quorum_state: QuorumState,
    pub log_start: Offset,
    pub log_end: LogEndOffset,
    pub epochs: Vec<EpochStart>,
    /// Header of every batch of the log in order is handed to `on_batch` of `recover`; nothing of it is kept here.
    /// Sentences for the log: "cut a torn tail of 812 bytes at ...".
    pub notes: Vec<String>,
    // private: segments with their index, the repair that Log::new must submit first (zero the torn tail, flush)
}

/// Scan the directory. `on_batch` sees each valid batch header in order (producer state is folded from it).
pub fn recover(
    _source: &mut dyn LogSource,
    _config: &LogConfig,
    _on_batch: &mut dyn FnMut(&BatchHeader),
) -> Result<RecoveredLog, RecoveryError> {
    unimplemented!()
}

/// What the log tells its owner. Polled after `complete`, `end_turn`.
#[derive(Debug)]
pub enum LogEvent {
    /// First event of a log's life: repairs and the opening flush of recovery are durable, the node may speak.
    Ready,
    Flushed(FlushedOffset),
    Truncated(LogEndOffset),
    QuorumStateDurable,
    /// Answer to a `read` that went to the disk. Whole batches only, CRC verified: rot is an error, never data.
    ReadDone {
        token: u64,
        result: Result<Vec<StampedBatch>, ReadError>,
    },
    /// All is durable and the last segment is cut to its length: the process may end.
    ShutDown,
    /// A write, flush or file operation failed: nothing more may be acknowledged, stop the process.
    Failed(DiskError),
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Cut or deleted while the read was under way.
    #[error("offset is no longer in the log")]
    Gone,
}

pub enum ReadOutcome {
    /// From memory: whole batches, the first contains `from`. Shares the received bytes.
    Batches(Vec<StampedBatch>),
    /// On its way: `LogEvent::ReadDone` with the token follows.
    Pending,
    /// Nothing between `from` and the bound.
    Empty,
    OutOfRange,
}

pub struct Log {}
impl Log {
    pub fn new(_config: LogConfig, _recovered: RecoveredLog) -> Log {
        unimplemented!()
    }
    /// (address, length) of the write buffers, to register with the ring.
    pub fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        unimplemented!()
    }
    /// Append at the log end; `batch.base_offset()` must be the log end. In the tail cache at once, on its way to the
    /// device at `end_turn`.
    pub fn append(&mut self, _batch: StampedBatch) {
        unimplemented!()
    }
    /// Cut to `to` (>= log start): waits for writes under way, zeros, makes it durable, then `LogEvent::Truncated`.
    /// Appends made meanwhile are queued behind it. The log end falls at once.
    pub fn truncate(&mut self, _to: Offset) {
        unimplemented!()
    }
    pub fn write_quorum_state(&mut self, _state: QuorumState) {
        unimplemented!()
    }
    /// Form the device group of this turn, the commit mark, the next segment, zeros ahead.
    pub fn end_turn(&mut self, _now: Now) {
        unimplemented!()
    }
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        unimplemented!()
    }
    pub fn complete(&mut self, _completion: Completion) {
        unimplemented!()
    }
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        unimplemented!()
    }
    /// Read whole batches from the one that contains `from`, below `bound` (a batch that reaches over it is left out),
    /// at most `max_bytes` but at least one batch.
    pub fn read(&mut self, _from: Offset, _bound: Offset, _max_bytes: usize, _token: u64) -> ReadOutcome {
        unimplemented!()
    }
    /// Base offset of the first indexed batch run that may hold a record with a timestamp >= `timestamp_ms`: scan from
    /// there with `read`. `None`: every record is older.
    pub fn seek_timestamp(&self, _timestamp_ms: i64) -> Option<Offset> {
        unimplemented!()
    }
    /// Largest timestamp of the log and the base offset of its batch.
    pub fn max_timestamp(&self) -> Option<(i64, Offset)> {
        unimplemented!()
    }
    pub fn log_start(&self) -> Offset {
        unimplemented!()
    }
    pub fn log_end(&self) -> LogEndOffset {
        unimplemented!()
    }
    pub fn flushed(&self) -> FlushedOffset {
        unimplemented!()
    }
    pub fn unflushed_bytes(&self) -> u64 {
        unimplemented!()
    }
    pub fn is_full(&self) -> bool {
        unimplemented!()
    }
    /// Monotonic ns at which the oldest flush under way was submitted.
    pub fn flush_pending_since(&self) -> Option<u64> {
        unimplemented!()
    }
    /// Monotonic ns at which `end_turn` wants to be called again (an idle commit mark).
    pub fn deadline(&self) -> Option<u64> {
        unimplemented!()
    }
    /// Total bytes of batches in the log.
    pub fn size_bytes(&self) -> u64 {
        unimplemented!()
    }
    /// Flush all, write the mark, cut the last segment to its length; then `LogEvent::ShutDown`.
    pub fn shutdown(&mut self) {
        unimplemented!()
    }
}
