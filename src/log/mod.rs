//! The log: durable bytes as operations and completions.
//!
//! The replica appends stamped batches, cuts the log where it parts from the leader's, and keeps the quorum state here; it is told
//! when something is durable. Nothing here touches a file, waits, or looks at a clock: [`Log::poll_op`] hands out what
//! a device (or the simulator) is to do, [`Log::complete`] takes back that it was done.
//!
//! ```text
//! append ─► tail ──► writer: one group = all that came while the last one was flushed ──► Write … Write
//! read  ◄── tail            segment: where batches lie   flights: no two on one block          │
//!        ◄─ reader ◄─ Read  tasks: open, roll, truncate, shut down: step after step        Flushed ◄─┘
//! ```
//! - [`append`](Log::append) and [`truncate`](Log::truncate) only change memory; [`end_turn`](Log::end_turn) forms the group.
//! - One group is in flight, the next one is copied meanwhile. A group starts on a copy of the last partial block, and
//!   rewrites it.
//! - A truncation, a roll, the opening repairs and the shutdown are *tasks*: steps made durable one after the other while no
//!   group is in flight; so is another log in place of this one (`install`). The start of the log moves beside all of it (`start`).
//! - The commit mark ([`commit_mark`]), and the sectors of a write ([`torn`]), are how [`recover`] tells a torn tail from rot.
//! - What finds no room is tried again (`room`). Any other failed operation ends it all: [`LogEvent::Failed`], and nothing
//!   is acknowledged any more.

mod aging;
mod beginning;
mod blocks;
pub(crate) mod buffer;
mod commit_mark;
pub mod copied;
mod epoch_checkpoint;
mod flights;
mod index;
mod install;
pub(crate) mod op;
mod quorum_state;
mod reader;
mod recovery;
mod room;
mod segment;
mod snapshot;
mod snapshot_directory;
mod snapshot_read;
mod start;
mod summaries;
mod summary;
mod summary_check;
mod tail;
mod task;
mod tasks;
#[cfg(test)]
mod tests;
mod torn;
mod truncation;
mod turn;
mod writer;
mod written;

pub(crate) use aging::Aged;
pub(crate) use blocks::Want;
pub(crate) use buffer::{BLOCK_BYTES, BufferPool, HUGE_PAGE_BYTES, WriteBuffer};
pub(crate) use commit_mark::COMMIT_MARK_FILE_BYTES;
#[cfg(test)]
use commit_mark::COMMIT_MARK_INTERVAL_BYTES;
pub use op::{
    Completion, DiskError, DiskOp, Done, MemoryWork, OpKind, SegmentId, SmallFile, SnapshotCompletion,
    SnapshotContents, SnapshotDone, SnapshotOp, SnapshotSource, SnapshotWork, parse_snapshot_file_name,
    snapshot_file_name,
};
pub(crate) use op::{FileId, OpId, REFILL, SUMMARY_BYTES_MAX, WRITES_LATELY_NS, read_span};
pub(crate) use reader::BlockCounts;
pub use recovery::{OnRecovered, Recovered, recover};
pub use snapshot::{Snapshot, SnapshotEncoder};
pub use snapshot_directory::SnapshotDirectory;
pub use snapshot_read::{ReadSnapshot, SnapshotDecoder};
pub(crate) use summaries::SummaryDue;
pub use summary::{Section, Summary};

use crate::memory::Pieces;
use crate::record::{BatchList, BatchLists, StampedBatch};
use crate::types::*;
use buffer::{ChunkFiller, block_ceil, block_floor};
use bytes::Bytes;
use commit_mark::Beginning;
use flights::{Flights, Purpose};
use index::Place;
use segment::Segments;
use std::collections::VecDeque;

/// While memory is given back a turn comes at least so often: 4 GiB a second, and a tenth of the core at most.
const LEAVING_NS: u64 = 2 * NS_PER_MS;

/// Sizes and bounds of a log.
#[derive(Clone, Debug)]
pub struct LogConfig {
    /// A batch that would make a segment larger than this begins the next one.
    pub segment_bytes_max: u64,
    /// A batch whose records are so much later than the first ones of its segment begins the next one; `i64::MAX`: none does.
    pub segment_ms_max: i64,
    /// A segment grows by steps of this size at most, reserved or zeroed ahead of the writer.
    pub zero_ahead_bytes: u64,
    /// A multiple of 4 KiB.
    pub write_buffer_bytes: usize,
    /// How many there are; with each in use, what is appended waits in memory.
    pub write_buffers: usize,
    /// Largest group (bytes) submitted at once.
    pub group_bytes_max: usize,
    /// Bytes of the newest batches that are kept in memory for readers.
    pub tail_cache_bytes_max: usize,
    /// Bytes of blocks, which are what was read and is kept in memory for other readers.
    pub read_cache_bytes_max: usize,
    /// What is written is copied for readers also where there are none.
    pub copies_unread: bool,
    /// What one read has at most, but for one batch, and what a block takes in memory.
    pub read_piece_bytes: usize,
    /// Appended but not flushed bytes at which `is_full` turns true.
    pub unflushed_bytes_max: u64,
    /// An idle log writes its commit mark after this long.
    pub commit_mark_idle_ms: u64,
    /// A new entry of the index in memory begins with the first batch this far behind the one before.
    pub index_interval_bytes: u64,
    /// How much of the log a start reads.
    pub check: LogCheck,
}

/// Where recovery reads from: the directory, as the server or the simulator has it. Synchronous, used only at start.
/// The names that it shows are durable: promises are kept from what is read here, without writing it again.
pub trait LogSource {
    /// Base offsets of all `%020d.log`, ascending, with their file sizes.
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError>;
    /// Up to `length` bytes from `position` (any byte); fewer only at the end of the file.
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
    /// Name of the file.
    pub(crate) segment: String,
    pub(crate) position: u64,
    pub(crate) why: String,
}

/// The end of the log is damaged above the commit mark, and nothing proves that it was a write that never completed: records
/// that this node has acknowledged may have been there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Doubt {
    /// Name of the file.
    pub(crate) segment: String,
    /// Where the good batches end, and the offset that is due there.
    pub(crate) position: u64,
    pub(crate) offset: Offset,
    pub(crate) why: String,
}

/// Why a log is not opened.
#[derive(Debug, thiserror::Error)]
pub enum RecoveryError {
    /// It is damaged below the commit mark.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// A newer program has written a file that this one must not guess at.
    #[error("{file} is of version {version}, which a newer program wrote")]
    Newer {
        /// Its name.
        file: &'static str,
        /// Of its form.
        version: u32,
    },
    /// A file could not be read.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// What a start has read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Effort {
    /// Of segments: scanned, or looked at to see that a summary fits.
    pub(crate) bytes_read: u64,
    /// Of all batches.
    pub(crate) log_bytes: u64,
    pub(crate) segments: usize,
    /// Segments that were not scanned, because of their summaries.
    pub(crate) summaries: usize,
}

/// What recovery found, and what `Log::new` continues from. Every batch, or a summary of it, was handed to `on_recovered`
/// of [`recover`]; nothing of it is kept here.
pub struct RecoveredLog {
    pub(crate) quorum_state: QuorumState,
    /// Offset of the first record, and the epoch of the one before it.
    pub start: OffsetAndEpoch,
    /// Offset that the next record gets; all before it was read back.
    pub log_end: LogEndOffset,
    /// This node knew that all below is committed: nothing may ever be cut there. 0 where no mark says so.
    pub(crate) committed: OffsetAndEpoch,
    /// Of all that the segments hold, which may begin before the start.
    pub(crate) epochs: Vec<EpochStart>,
    /// quorum-state says that the log has held what was committed, and there is none, nor a mark.
    pub(crate) has_lost_log: bool,
    /// How much of it was read.
    pub(crate) effort: Effort,
    /// Sentences for the server's log: "Cut a torn tail of 812 bytes at ...".
    pub(crate) notes: Vec<String>,
    /// Its end is in doubt: refuse to start, or [`go_on_in_doubt`](RecoveredLog::go_on_in_doubt).
    pub(crate) doubt: Option<Doubt>,
    repair: recovery::Repair,
}

/// What the log tells its owner. Polled after `complete`, `end_turn`.
#[derive(Debug)]
pub enum LogEvent {
    /// First event of a log's life: repairs and the opening flush of recovery are durable, the node may speak.
    /// From here on `flushed` is the recovered log end.
    Ready,
    /// The log is durable up to here.
    Flushed(FlushedOffset),
    /// A truncation is durable; one for each `truncate`, in their order. Lower than asked for where that was inside of
    /// a batch.
    Truncated(LogEndOffset),
    /// One for each `write_quorum_state`; where a newer one overtook it, once that one is durable.
    QuorumStateDurable,
    /// Readers find the log to start here from now on: durable, whatever rots or fails. What lies before it goes; replicas find it
    /// to begin at `begin`, see [`Log::begin`].
    StartMoved {
        /// And the epoch of the record before it.
        start: OffsetAndEpoch,
        /// Not above it.
        begin: OffsetAndEpoch,
    },
    /// The log begins here and is empty, durably: what it held is no more. One for each `install`.
    Installed(OffsetAndEpoch),
    /// Answer to a `read` that went to the disk. Whole batches only, CRC verified: rot is an error, never data.
    ReadDone {
        /// As the caller of `read` chose it.
        token: u64,
        /// What there is below the bound, or why nothing could be read.
        result: Result<BatchList, ReadError>,
    },
    /// The device has read what lies between these, and it is good, whoever wanted how much of it. Before the `ReadDone` of those.
    Readable(Offset, Offset),
    /// All is durable and the last segment is cut to its length: the process may end.
    ShutDown,
    /// There is no room for the log to grow, and what is appended is not flushed until there is. Once, until
    /// `RoomFound` or `RoomUnwanted`.
    NoRoom(DiskError),
    /// There is room again: what was appended meanwhile is being written.
    RoomFound,
    /// Nothing waits for room any more, and whether there is some nobody has seen: what wanted it was cut, or the log stops.
    RoomUnwanted,
    /// A write, flush or file operation failed: nothing more may be acknowledged, stop the process.
    Failed(DiskError),
}

/// Why a read brings nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// What is there is not what was written.
    #[error(transparent)]
    Corrupt(#[from] Corrupt),
    /// The device has given an error.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// Cut or deleted while the read was under way.
    #[error("offset is no longer in the log")]
    Gone,
}

#[derive(Debug)]
pub(crate) enum ReadOutcome {
    /// From memory: whole batches, the first contains `from`. Shares the received bytes.
    Batches(BatchList),
    /// In a block: `Log::read_block` gives it.
    InBlock,
    /// It must be read from the device: `Log::read_device`, after which `LogEvent::ReadDone` follows.
    OnDevice,
    /// Nothing between `from` and the bound.
    Empty,
    OutOfRange,
}

/// One replicated log and its quorum state. See the module's text.
pub struct Log {
    config: LogConfig,
    // What is where.
    segments: Segments,
    /// As it was told, or found.
    beginning: Beginning,
    /// As long as the start does not move.
    begin: OffsetAndEpoch,
    moving: start::Moving,
    /// Where the log is to begin that takes the place of this one.
    installing: Option<OffsetAndEpoch>,
    tail: tail::TailCache,
    /// What reads from memory are handed out in.
    lists: BatchLists,
    /// From the oldest segment on: it may hold batches that lie before the start.
    epochs: Vec<EpochStart>,
    log_end: Offset,
    flushed: Offset,
    /// Where the last flushed batch ends.
    flushed_place: Place,
    // On its way to the device.
    writer: writer::Cursor,
    groups: VecDeque<writer::Group>,
    prepared: writer::Prepared,
    queued_bytes: u64,
    mark: commit_mark::MarkWriter,
    /// Durable, and not told before the mark vouches for it.
    withheld: Option<writer::Withheld>,
    /// As far as this node knows, or knew before its last start.
    committed: Offset,
    /// Closed segments whose summaries are not written, oldest first.
    summaries_due: VecDeque<SegmentId>,
    flushed_since_mark_bytes: u64,
    task: Option<task::Task>,
    truncations: VecDeque<truncation::Truncation>,
    quorum_state: Option<(QuorumState, usize)>,
    /// The open segment is to be closed.
    closes: bool,
    /// The opening repairs write it first.
    holds_quorum_state: bool,
    /// Of the operation under way, to be asked for again where it finds no room.
    quorum_state_submitted: Option<QuorumState>,
    checkpoint_stale: bool,
    /// What was read, and what is being read.
    blocks: blocks::Blocks,
    read_cache_bytes_max: usize,
    written: written::Written,
    /// What reads go into.
    pieces: Pieces,
    /// When a read had a new piece last although the cache had grown.
    grown_ns: Option<u64>,
    // Traffic.
    pool: BufferPool,
    flights: Flights,
    ops: VecDeque<DiskOp>,
    events: VecDeque<LogEvent>,
    // Life.
    room: room::Room,
    small_room: room::Room,
    ready: bool,
    failed: bool,
    shutdown: task::Shutdown,
    now_ns: u64,
    idle_since_ns: Option<u64>,
}

impl Log {
    /// Queues the repairs that recovery found necessary and the opening flush; `LogEvent::Ready` follows them.
    pub fn new(config: LogConfig, recovered: RecoveredLog) -> Log {
        let begin = recovered.begin();
        let RecoveredLog { start, log_end, committed, epochs, doubt, mut repair, .. } = recovered;
        assert!(doubt.is_none(), "who goes on with a log in doubt says so: {doubt:?}");
        let segments = std::mem::take(&mut repair.segments);
        let last = segments.last();
        let flushed_place = Place {
            segment: last.map_or(SegmentId(start.offset), |s| s.id),
            position: last.map_or(0, |s| s.length),
        };
        let parting = start::take_parting(&mut repair, log_end);
        let mut log = Log {
            segments,
            beginning: repair.beginning,
            begin,
            moving: start::Moving::new(repair.beginning, &repair.leftovers),
            installing: None,
            tail: tail::TailCache::new(config.tail_cache_bytes_max),
            lists: BatchLists::default(),
            epochs,
            log_end: log_end.0,
            flushed: start.offset,
            flushed_place,
            writer: writer::Cursor::new(flushed_place, log_end.0, &repair),
            groups: VecDeque::new(),
            prepared: writer::Prepared::default(),
            queued_bytes: 0,
            mark: commit_mark::MarkWriter::new(&repair.slots),
            withheld: None,
            committed: committed.offset,
            summaries_due: repair.summaries_due.iter().copied().collect(),
            flushed_since_mark_bytes: 0,
            task: None,
            truncations: VecDeque::new(),
            quorum_state: None,
            closes: false,
            holds_quorum_state: repair.quorum_state.is_some(),
            quorum_state_submitted: None,
            checkpoint_stale: repair.checkpoint_stale,
            blocks: blocks::Blocks::new(),
            read_cache_bytes_max: config.read_cache_bytes_max,
            written: written::Written::default(),
            pieces: Pieces::new(config.read_piece_bytes),
            grown_ns: None,
            pool: BufferPool::new(config.write_buffers, config.write_buffer_bytes),
            flights: Flights::default(),
            ops: VecDeque::new(),
            events: VecDeque::new(),
            room: room::Room::default(),
            small_room: room::Room::default(),
            ready: false,
            failed: false,
            shutdown: task::Shutdown::No,
            now_ns: 0,
            idle_since_ns: None,
            config,
        };
        log.task = Some(log.opening_task(&repair, parting));
        log
    }

    /// (address, length) of the write buffers by their index, to register with the ring.
    pub(crate) fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        self.pool.regions()
    }

    /// Give back the memory of the write buffers that no operation has: see `WriteBuffer::free`.
    pub(crate) fn free_buffers(self) {
        self.prepared.filler.into_buffers().for_each(WriteBuffer::free);
        self.pool.free();
        self.ops.into_iter().for_each(|op| op.kind.free_buffer());
    }

    /// Every second or so: memory that no read has needed since is to be given back, in the turns that follow.
    pub(crate) fn rest(&mut self) {
        let kept = self.count_kept_ready();
        self.pieces.rest(kept);
        self.blocks.count_pinned();
    }

    /// Append at the log end; `batch.base_offset()` must be the log end. In the tail cache at once, on its way to the
    /// device at `end_turn`.
    pub fn append(&mut self, batch: StampedBatch) {
        assert!(self.shutdown == task::Shutdown::No, "nothing is appended to a log that shuts down");
        assert!(self.installing.is_none(), "nothing is appended while the log is replaced");
        assert_eq!(batch.base_offset(), self.log_end, "a batch is appended at the log end");
        // Of a log that begins where it ends no epochs are left that could say so.
        let gone = self.moving.marked().start.epoch;
        assert!(batch.epoch() >= gone, "a batch of epoch {} behind a start of {gone}", batch.epoch());
        let epoch_begins = epoch_checkpoint::note_batch(&mut self.epochs, batch.epoch(), self.log_end);
        let epoch = self.epochs.last().map(|e| e.epoch);
        assert!(epoch_begins || epoch == Some(batch.epoch()), "epochs of a log do not fall");
        self.checkpoint_stale |= epoch_begins;
        self.log_end = batch.next_offset();
        self.queued_bytes += batch.size_bytes() as u64;
        self.tail.push(batch);
        self.tail.evict(FlushedOffset(self.flushed));
    }

    /// All before is committed, and never truncated.
    pub(crate) fn on_committed(&mut self, high_watermark: HighWatermark) {
        self.committed = self.committed.max(high_watermark.0.min(self.log_end));
    }

    /// Make the quorum state durable; the latest wins over those that still wait.
    pub(crate) fn write_quorum_state(&mut self, state: QuorumState) {
        let waiting = self.quorum_state.map_or(0, |(_, writes)| writes);
        self.quorum_state = Some((state, waiting + 1));
        self.maybe_replace_quorum_state();
    }

    /// The next operation for the device, in the order in which they are to begin.
    pub fn poll_op(&mut self) -> Option<DiskOp> {
        self.ops.pop_front()
    }

    /// An operation is done. `end_turn` of the same turn goes on with what waited for it.
    pub fn complete(&mut self, completion: Completion) {
        let purpose = self.flights.complete(completion.id);
        if let Some(buffer) = completion.buffer {
            self.pool.put_back(buffer);
        }
        let result = match (purpose, completion.result) {
            (Purpose::Read, result) => return self.complete_read(completion.id, result),
            (Purpose::Touch, _) => return self.written.touching -= 1,
            (Purpose::Copy { cuts }, result) => return self.complete_copy(cuts, result),
            (_, result) => result,
        };
        if self.failed {
            return;
        }
        match result {
            Ok(done) => {
                self.on_room_used(purpose);
                self.complete_purpose(purpose, done)
            }
            Err(error) if error.is_full() && self.can_wait_for_room(purpose) => {
                self.wait_for_room(purpose, error)
            }
            Err(error) => self.fail(error),
        }
    }

    fn complete_purpose(&mut self, purpose: Purpose, done: Done) {
        match purpose {
            Purpose::Group { number } => self.complete_chunk(number),
            Purpose::Mark => self.complete_mark(),
            Purpose::Extend { to } => self.writer.zeroed = to,
            Purpose::Task => self.complete_step(done),
            Purpose::QuorumState { writes } => {
                self.events.extend((0..writes).map(|_| LogEvent::QuorumStateDurable));
                self.maybe_replace_quorum_state();
            }
            Purpose::Delete => self.moving.on_deleted(),
            Purpose::EpochCheckpoint | Purpose::Summary => {}
            Purpose::Read | Purpose::Touch | Purpose::Copy { .. } => {
                unreachable!("what is for readers completes on its own way")
            }
        }
    }

    /// What has happened since, in its order.
    pub fn poll_event(&mut self) -> Option<LogEvent> {
        self.events.pop_front()
    }

    /// Base offset of the first indexed batch run that may hold a record with a timestamp >= `timestamp_ms`, of the run of `from` and
    /// those behind it: scan from there with `read`. `None`: every record between `from` and `bound` is older.
    pub(crate) fn seek_timestamp(&self, timestamp_ms: i64, from: Offset, bound: Offset) -> Option<Offset> {
        let submitted = self.writer.submitted_end;
        let written = self.segments.seek_timestamp(timestamp_ms, from).filter(|offset| *offset < submitted);
        let is_late = |b: &&StampedBatch| {
            b.next_offset() > from && b.header().data_timestamp().is_some_and(|t| t >= timestamp_ms)
        };
        let below = |b: &&StampedBatch| b.next_offset() <= bound;
        let queued = || self.tail.iter_from(submitted).take_while(below).find(is_late);
        written.or_else(|| queued().map(StampedBatch::base_offset))
    }

    /// A time that some record between these offsets has, none of theirs being later but of those at either end.
    pub(crate) fn max_timestamp_within(&self, from: Offset, end: Offset) -> Option<i64> {
        self.segments.max_timestamp_within(from, end)
    }

    /// Largest timestamp of the log and the base offset of its batch. Control batches have none.
    pub(crate) fn max_timestamp(&self) -> Option<(i64, Offset)> {
        let queued = self.tail.iter_from(self.writer.submitted_end);
        let queued = queued.filter_map(|b| Some((b.header().data_timestamp()?, b.base_offset())));
        let all = self.segments.max_timestamp().into_iter().chain(queued);
        all.reduce(|a, b| if b.0 > a.0 { b } else { a })
    }

    pub(crate) fn log_start(&self) -> Offset {
        self.start().offset
    }

    /// Offset that the next appended record gets; what is before it may not be durable yet.
    pub fn log_end(&self) -> LogEndOffset {
        LogEndOffset(self.log_end)
    }

    /// The log start until `LogEvent::Ready`.
    pub(crate) fn flushed(&self) -> FlushedOffset {
        FlushedOffset(self.flushed)
    }

    pub(crate) fn unflushed_bytes(&self) -> u64 {
        let withheld = self.withheld.as_ref().map_or(0, |withheld| withheld.bytes);
        self.queued_bytes + withheld + self.groups.iter().map(|g| g.bytes).sum::<u64>()
    }

    pub(crate) fn tail_cache_bytes(&self) -> u64 {
        self.tail.bytes() as u64
    }

    pub(crate) fn is_full(&self) -> bool {
        self.unflushed_bytes() >= self.config.unflushed_bytes_max
    }

    /// Monotonic ns at which the oldest flush under way was submitted: of a group, but also of a roll, of zeros ahead
    /// and of the quorum state, for which other things wait.
    pub(crate) fn flush_pending_since(&self) -> Option<u64> {
        self.flights.oldest_flush_ns()
    }

    /// Monotonic ns at which `end_turn` wants to be called again (an idle commit mark, another look for room, memory to be given back).
    pub(crate) fn deadline(&self) -> Option<u64> {
        let mark = self.idle_since_ns.map(|since| since + self.config.commit_mark_idle_ms * NS_PER_MS);
        let mark = mark.filter(|_| self.wants_idle_mark());
        let rooms = [&self.room, &self.small_room].map(|room| room.retry_at(self.now_ns));
        let leaving = self.pieces.is_leaving().then_some(self.now_ns + LEAVING_NS);
        mark.into_iter().chain(rooms.into_iter().flatten()).chain(leaving).filter(|_| !self.failed).min()
    }

    /// Total bytes of batches in the log.
    pub(crate) fn size_bytes(&self) -> u64 {
        self.segments.size_bytes() + self.queued_bytes
    }

    /// Flush all, write the mark, cut the last segment to its length; then `LogEvent::ShutDown`.
    pub(crate) fn shutdown(&mut self) {
        if self.shutdown == task::Shutdown::No {
            self.shutdown = task::Shutdown::Wanted;
        }
    }

    /// The one way out of here: nothing is flushed or acknowledged any more.
    fn fail(&mut self, error: DiskError) {
        if !self.failed {
            self.failed = true;
            self.ops.clear();
            self.events.push_back(LogEvent::Failed(error));
        }
    }
}
