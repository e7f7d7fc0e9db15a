//! A node's disk: sectors behind a volatile cache. What was not flushed is, after a power cut, old or new sector by sector.
//!
//! The simulation submits operations, completes them in whatever order its clock brings, and kills the process or cuts
//! the power in between. `DurableLog` looks at the platter, so that the checker knows what is really there. It never
//! decides when something happens or fails: faults come from outside.

use super::dice::Dice;
use super::durable::DurableLog;
use super::lies::{Lie, falsify_read};
use super::marks::raise_start;
use super::names::Names;
use super::platter::{DiskFile, Kept, Rotten, Undone};
use super::snapshot_disk::Shelf;
use crate::log::*;
use crate::types::OffsetAndEpoch;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Names a submitted operation of this disk; process starts do not reset it.
pub(crate) type Ticket = u64;

/// The slowest disk still does it in this time.
const TAKES_NS_MAX: u64 = 5_000_000_000;

/// What this disk does wrong just now, each in a thousandth of operations.
#[derive(Clone, Debug, Default)]
pub(crate) struct DiskTrouble {
    pub(super) write_error_permille: u64,
    pub(super) file_error_permille: u64,
    pub(super) read_error_permille: u64,
    /// What makes files grow finds no room.
    pub(super) is_full: bool,
    /// Times as slow as it should be.
    pub(super) slowness: u64,
}

/// An operation as it was submitted: how long it takes, and whether it is to be carried out as it should be.
struct Flight {
    op: DiskOp,
    lie: Option<Lie>,
}

pub(crate) struct SimDisk {
    pub(super) dice: Dice,
    /// What is written whole or not at all.
    pub(super) sector: usize,
    /// Without forced unit access a durable write flushes the whole cache.
    flushes_all: bool,
    latency_ns: u64,
    pub(super) segments: BTreeMap<SegmentId, DiskFile>,
    pub(super) mark: Option<DiskFile>,
    /// Their bytes are durable before their names are: they are written under another one.
    pub(super) small: BTreeMap<SmallFile, Vec<u8>>,
    pub(super) names: Names,
    pub(super) rotten: Rotten,
    pub(super) kept: Kept,
    pub(super) shelf: Shelf,
    /// What a lie keeps back: the contents that a small file had before.
    pub(super) older: BTreeMap<SmallFile, Vec<u8>>,
    /// A lie: these were renamed before their bytes were durable.
    hollow: BTreeSet<SmallFile>,
    in_flight: BTreeMap<Ticket, Flight>,
    /// Done late, although it was reported as done: file, position, bytes.
    late: Vec<(FileId, usize, Vec<u8>)>,
    next_ticket: Ticket,
    pub(super) trouble: DiskTrouble,
    pub(crate) log: DurableLog,
    /// Changes of names, sizes and sectors that power cuts have undone.
    pub(super) undone: Undone,
}

impl SimDisk {
    pub(crate) fn new(mut dice: Dice) -> SimDisk {
        SimDisk {
            sector: if dice.permille(500) { 512 } else { 4096 },
            flushes_all: dice.permille(500),
            latency_ns: dice.pick(&[30_000, 100_000, 400_000, 3_000_000]).unwrap_or(100_000),
            dice,
            segments: BTreeMap::new(),
            mark: None,
            small: BTreeMap::new(),
            names: Names::default(),
            rotten: Rotten::default(),
            kept: Kept::default(),
            shelf: Shelf::default(),
            older: BTreeMap::new(),
            hollow: BTreeSet::new(),
            in_flight: BTreeMap::new(),
            late: Vec::new(),
            next_ticket: 0,
            trouble: DiskTrouble::default(),
            log: DurableLog::default(),
            undone: Undone::default(),
        }
    }

    /// What the server does before it recovers: names that a predecessor left behind are made durable.
    pub(crate) fn open(&mut self, flushes_names: bool) {
        if flushes_names {
            self.names.flush();
            self.shelf.flush_names();
        }
    }

    /// Returns its ticket and the time that it takes.
    pub(crate) fn submit(&mut self, op: DiskOp, lie: Option<Lie>) -> (Ticket, u64) {
        self.check_submitted(&op.kind);
        self.next_ticket += 1;
        let slow = match op.kind {
            OpKind::Write { .. } | OpKind::Read { .. } => 1,
            _ => 10,
        };
        let mean = self.latency_ns * slow * self.trouble.slowness.max(1);
        let takes_ns = 1_000 + self.dice.around(mean).min(TAKES_NS_MAX);
        self.in_flight.insert(self.next_ticket, Flight { op, lie });
        (self.next_ticket, takes_ns)
    }

    /// The same for the files of snapshots.
    pub(super) fn submit_snapshot(&mut self, op: SnapshotOp) -> (Ticket, u64) {
        self.next_ticket += 1;
        self.shelf.submit(self.next_ticket, op);
        let mean = self.latency_ns * 20 * self.trouble.slowness.max(1);
        (self.next_ticket, 1_000 + self.dice.around(mean).min(TAKES_NS_MAX))
    }

    /// And what is durable since then. `None`: it is none of these.
    pub(super) fn complete_snapshot(
        &mut self,
        ticket: Ticket,
    ) -> Option<(SnapshotCompletion, Option<OffsetAndEpoch>)> {
        let DiskTrouble { is_full, file_error_permille, .. } = self.trouble;
        self.shelf.complete(ticket, &mut self.dice, is_full, file_error_permille)
    }

    /// What the device may rely on.
    fn check_submitted(&mut self, kind: &OpKind) {
        match kind {
            OpKind::Write { file, position, buffer, length, .. } => {
                let is_aligned = position % BLOCK_BYTES as u64 == 0 && length % BLOCK_BYTES == 0;
                assert!(is_aligned && *length > 0 && *length <= buffer.capacity(), "not aligned: {kind:?}");
                let size = self.file(*file).map_or(0, |f| f.cached.len()) as u64;
                assert!(position + *length as u64 <= size, "a write beyond the file of {size}: {kind:?}");
                self.check_alone(*file, *position, position + *length as u64, kind);
            }
            OpKind::ZeroSegment { segment, from, to } => {
                let size = self.file(FileId::Segment(*segment)).map_or(0, |f| f.cached.len()) as u64;
                assert!(from < to && *to <= size, "zeros outside of the file of {size}: {kind:?}");
                self.check_alone(FileId::Segment(*segment), *from, *to, kind);
            }
            _ => {}
        }
    }

    /// Direct writes have no order: two on one block may end either way.
    fn check_alone(&self, file: FileId, from: u64, to: u64, kind: &OpKind) {
        let block = BLOCK_BYTES as u64;
        let (first, last) = (from / block, to.div_ceil(block));
        for flight in self.in_flight.values() {
            let (other, start, end) = match &flight.op.kind {
                OpKind::Write { file, position, length, .. } => (*file, *position, position + *length as u64),
                OpKind::ZeroSegment { segment, from, to } => (FileId::Segment(*segment), *from, *to),
                _ => continue,
            };
            let overlaps = start / block < last && first < end.div_ceil(block);
            assert!(other != file || !overlaps, "{kind:?} touches a block of {:?}", flight.op.kind);
        }
    }

    fn file(&mut self, file: FileId) -> Option<&mut DiskFile> {
        match file {
            FileId::Segment(id) => self.segments.get_mut(&id),
            FileId::CommitMark => {
                Some(self.mark.get_or_insert_with(|| DiskFile::zeros(COMMIT_MARK_FILE_BYTES)))
            }
        }
    }

    /// A lie: the completion of this operation goes to another one that is under way, and the other way round.
    pub(super) fn swap_tickets(&mut self, ticket: Ticket) {
        let is_write = |flight: &Flight| !matches!(flight.op.kind, OpKind::Read { .. } | OpKind::Memory(_));
        let other = self.in_flight.iter().find(|(other, flight)| **other != ticket && is_write(flight));
        let Some(other) = other.map(|(other, _)| *other) else { return };
        let ids = [ticket, other].map(|t| self.in_flight.get(&t).filter(|f| is_write(f)).map(|f| f.op.id));
        if let [Some(mine), Some(theirs)] = ids {
            for (ticket, id) in [(ticket, theirs), (other, mine)] {
                if let Some(flight) = self.in_flight.get_mut(&ticket) {
                    flight.op.id = id;
                }
            }
        }
    }

    /// `None`: the process that submitted it has died.
    pub(crate) fn complete(&mut self, ticket: Ticket) -> Option<(Completion, bool)> {
        let Flight { op: DiskOp { id, kind }, lie } = self.in_flight.remove(&ticket)?;
        if self.dice.permille(500) {
            for (file, at, bytes) in std::mem::take(&mut self.late) {
                self.write(file, at, &bytes, true).ok();
            }
        }
        let kind = match kind {
            // No disk has a part in it.
            OpKind::Memory(work) => {
                return Some((Completion { id, result: Ok(work.carry_out()), buffer: None }, false));
            }
            kind => kind,
        };
        let failure = self.failure(&kind);
        let result = match &failure {
            // It has found that out before it did anything.
            Some(error) if error.is_full() => Err(error.clone()),
            Some(error) => {
                // Whoever fails may have done it, in part.
                self.tear(&kind);
                Err(error.clone())
            }
            None => match lie {
                Some(lie) => self.execute_falsely(&kind, lie),
                None => self.execute(&kind),
            },
        };
        // Zeros of a cut that a dead process had begun may become durable only now, over batches that were seen.
        for (id, file) in &mut self.segments {
            if let Some(from) = file.changed_from.take() {
                self.log.cut(*id, from as u64);
            }
        }
        self.log.begin_at(self.marked_first());
        self.log.refresh(&self.segments);
        let (result, buffer) = match kind {
            OpKind::Write { buffer, .. } => (result, Some(buffer)),
            OpKind::Read { segment, position, length, piece } => {
                let read = |_| {
                    let mut bytes = self.segments[&segment].read(position, length).to_vec();
                    lie.into_iter().for_each(|lie| falsify_read(lie, &mut bytes));
                    Done::Read(piece.filled_with(&bytes))
                };
                (result.map(read), None)
            }
            _ => (result, None),
        };
        Some((Completion { id, result, buffer }, failure.is_some()))
    }

    fn failure(&mut self, kind: &OpKind) -> Option<DiskError> {
        let trouble = &self.trouble;
        let takes_room = match kind {
            OpKind::CreateSegment { .. } | OpKind::ExtendSegment { .. } => true,
            // Its successor has its room already.
            OpKind::ReplaceFile { file: SmallFile::QuorumState, .. } => {
                !self.small.contains_key(&SmallFile::QuorumState)
            }
            OpKind::ReplaceFile { .. } => true,
            _ => false,
        };
        if trouble.is_full && takes_room {
            let (operation, reason) = ("grow a file".to_string(), "No space left on device".to_string());
            return Some(DiskError { operation, reason, errno: 28 });
        }
        let (what, chance) = match kind {
            OpKind::Write { .. } => ("write", trouble.write_error_permille),
            OpKind::Read { .. } => ("read", trouble.read_error_permille),
            _ => ("file operation", trouble.file_error_permille),
        };
        self.dice.permille(chance).then(|| disk_error(what))
    }

    fn execute(&mut self, kind: &OpKind) -> Result<Done, DiskError> {
        let sector = self.sector;
        match kind {
            OpKind::Write { file, position, buffer, length, durable } => {
                if *file == FileId::CommitMark {
                    self.note_mark(buffer.as_slice());
                }
                self.write(*file, *position as usize, &buffer.as_slice()[..*length], *durable)?
            }
            OpKind::Read { segment, .. } => _ = self.segment(*segment)?,
            OpKind::Memory(_) => {}
            OpKind::CreateSegment { segment, zeroed } => {
                assert!(!self.segments.contains_key(segment), "{segment:?} exists already");
                self.remove_small(SmallFile::Summary(*segment));
                self.segments.insert(*segment, DiskFile::zeros(*zeroed as usize));
                self.names.on_created(*segment);
                self.names.flush();
            }
            OpKind::ExtendSegment { segment, to, .. } => self.segment(*segment)?.resize(*to as usize, sector),
            OpKind::ZeroSegment { segment, from, to } => {
                let zeros = vec![0; (*to - *from) as usize];
                self.log.cut(*segment, *from);
                // Of what is cut no byte is of interest any more, also where it has rotted to a zero.
                self.segment(*segment)?.decay.on_dropped(*from as usize..*to as usize);
                self.write(FileId::Segment(*segment), *from as usize, &zeros, true)?;
            }
            OpKind::CutSegment { segment, length } => {
                self.log.cut(*segment, *length);
                self.segment(*segment)?.resize(*length as usize, sector);
            }
            OpKind::DeleteSegment { segment } => {
                self.remove(*segment);
                self.names.flush();
            }
            OpKind::ReplaceFile { file, contents } => {
                self.replace(*file, contents);
                self.names.flush();
            }
            OpKind::RemoveFile { file } => {
                self.remove_small(*file);
                self.names.flush();
            }
            OpKind::FlushSegment { segment } => {
                self.flush_all();
                self.segment(*segment)?.flush_whole(sector);
            }
        }
        Ok(Done::Complete)
    }

    fn remove_small(&mut self, file: SmallFile) {
        if let Some(old) = self.small.remove(&file) {
            self.older.insert(file, old.clone());
            self.names.on_replaced(file, Some(old));
        }
    }

    fn remove(&mut self, segment: SegmentId) {
        if segment >= self.log.first {
            self.log.cut(segment, 0);
        }
        self.remove_small(SmallFile::Summary(segment));
        if let Some(file) = self.segments.remove(&segment) {
            self.note_gone(segment, &file);
            self.names.on_removed(segment, file);
        }
    }

    fn replace(&mut self, file: SmallFile, contents: &[u8]) {
        let old = self.small.insert(file, contents.to_vec());
        self.hollow.remove(&file);
        if let Some(old) = &old {
            self.older.insert(file, old.clone());
        }
        self.names.on_replaced(file, old);
    }

    fn segment(&mut self, segment: SegmentId) -> Result<&mut DiskFile, DiskError> {
        self.segments.get_mut(&segment).ok_or_else(|| disk_error("open"))
    }

    fn write(&mut self, file: FileId, at: usize, bytes: &[u8], durable: bool) -> Result<(), DiskError> {
        let (sector, flushes_all) = (self.sector, self.flushes_all);
        let log_end = match file {
            FileId::Segment(id) => self.log.length(id) as usize,
            FileId::CommitMark => usize::MAX,
        };
        let file = self.file(file).ok_or_else(|| disk_error("open"))?;
        // Behind the log nothing is written again as it was read: what is new there may be what it had rotted to.
        file.decay.on_dropped(log_end.max(at)..at + bytes.len());
        file.write(at, bytes, sector);
        if durable {
            file.flush(at, bytes.len(), sector);
            if flushes_all {
                self.flush_all();
            }
        }
        Ok(())
    }

    /// Reported as done, and not done as it should be.
    fn execute_falsely(&mut self, kind: &OpKind, lie: Lie) -> Result<Done, DiskError> {
        match (lie, kind) {
            (Lie::FlushNotDone, OpKind::Write { file, position, buffer, length, durable: true }) => {
                self.write(*file, *position as usize, &buffer.as_slice()[..*length], false)?;
            }
            (Lie::WriteTorn, OpKind::Write { .. }) => self.tear(kind),
            (Lie::WriteMisplaced, OpKind::Write { file, position, buffer, length, .. }) => {
                let at = *position as usize + BLOCK_BYTES;
                let size = self.file(*file).map_or(0, |f| f.cached.len());
                let length = (*length).min(size.saturating_sub(at));
                self.write(*file, at.min(size), &buffer.as_slice()[..length], true)?;
            }
            (Lie::StartAboveCommit, OpKind::Write { file, position, buffer, length, .. }) => {
                let mut bytes = buffer.as_slice()[..*length].to_vec();
                raise_start(&mut bytes);
                self.write(*file, *position as usize, &bytes, true)?;
            }
            (Lie::DirectoryEntryLost, OpKind::CreateSegment { segment, .. }) => {
                self.execute(kind)?;
                self.names.on_lied(*segment);
            }
            (Lie::SmallFileHollow, OpKind::ReplaceFile { file, .. }) => {
                self.execute(kind)?;
                self.hollow.insert(*file);
            }
            (Lie::TruncationLate, OpKind::ZeroSegment { segment, from, to }) => {
                self.late.push((FileId::Segment(*segment), *from as usize, vec![0; (*to - *from) as usize]));
            }
            (Lie::CompletionEarly, OpKind::Write { file, position, buffer, length, .. }) => {
                self.late.push((*file, *position as usize, buffer.as_slice()[..*length].to_vec()));
            }
            (Lie::WriteLost, OpKind::Write { .. })
            | (Lie::VoteForgotten, OpKind::ReplaceFile { .. })
            | (Lie::StartUnmarked, OpKind::Write { .. })
            | (Lie::TruncationLost, OpKind::ZeroSegment { .. })
            | (Lie::OpeningFlushSkipped, OpKind::FlushSegment { .. }) => {}
            _ => return self.execute(kind),
        }
        Ok(Done::Complete)
    }

    fn flush_all(&mut self) {
        let sector = self.sector;
        for file in self.segments.values_mut().chain(self.mark.as_mut()) {
            // The cache of the device, not the sizes that only the file system knows.
            let (known, seen) = (file.durable.len(), file.cached.len());
            file.flush(0, if known == seen { seen } else { known.min(seen) / sector * sector }, sector);
        }
    }

    /// The process dies: what is in flight happens, or not, or in part. Gives back the buffers.
    pub(crate) fn kill(&mut self) -> Vec<WriteBuffer> {
        let mut flights: Vec<Flight> = std::mem::take(&mut self.in_flight).into_values().collect();
        let mut buffers = Vec::new();
        while !flights.is_empty() {
            let pick = self.dice.below(flights.len() as u64) as usize;
            let flight = flights.swap_remove(pick);
            self.tear(&flight.op.kind);
            if let OpKind::Write { buffer, .. } = flight.op.kind {
                buffers.push(buffer);
            }
        }
        self.shelf.kill(&mut self.dice);
        self.rescan();
        buffers
    }

    fn rescan(&mut self) {
        self.log.first = self.marked_first();
        self.log.rescan(&self.segments);
    }

    /// Happens, or not, or in part.
    fn tear(&mut self, kind: &OpKind) {
        let whole = self.dice.permille(400);
        match kind {
            OpKind::Read { .. } | OpKind::Memory(_) => {}
            OpKind::Write { file, position, buffer, length, .. } if !whole => {
                self.tear_write(*file, *position as usize, &buffer.as_slice()[..*length]);
            }
            OpKind::ZeroSegment { segment, from, to } if !whole => {
                let zeros = vec![0; (*to - *from) as usize];
                self.tear_write(FileId::Segment(*segment), *from as usize, &zeros);
            }
            OpKind::ExtendSegment { segment, from, to, .. } if !whole => {
                let (to, sector) = (from + self.dice.below(to - from + 1), self.sector);
                if let Ok(file) = self.segment(*segment) {
                    file.resize_cached(to as usize, sector);
                }
            }
            OpKind::CutSegment { segment, length } if !whole => {
                let sector = self.sector;
                if self.dice.permille(700)
                    && let Ok(file) = self.segment(*segment)
                {
                    file.resize_cached(*length as usize, sector);
                }
            }
            OpKind::CreateSegment { segment, zeroed } if !whole => {
                let (size, sector) = (self.dice.below(zeroed + 1) as usize, self.sector);
                if self.dice.permille(500) {
                    let mut file = DiskFile::zeros(0);
                    file.resize_cached(size, sector);
                    self.segments.insert(*segment, file);
                    self.names.on_created(*segment);
                }
            }
            OpKind::DeleteSegment { segment } if !whole => {
                let is_removed = self.dice.permille(700);
                if is_removed {
                    self.remove(*segment);
                }
            }
            OpKind::RemoveFile { file } if !whole => {
                let is_removed = self.dice.permille(700);
                if is_removed {
                    self.remove_small(*file);
                }
            }
            OpKind::ReplaceFile { file, contents } if !whole => {
                let is_renamed = self.dice.permille(700);
                if is_renamed {
                    self.replace(*file, contents);
                }
            }
            // All of it, but nobody has waited for the flush.
            OpKind::Write { file, position, buffer, length, .. } if self.dice.permille(500) => {
                _ = self.write(*file, *position as usize, &buffer.as_slice()[..*length], false);
            }
            OpKind::FlushSegment { .. } if !whole => {}
            _ if whole || self.dice.permille(500) => _ = self.execute(kind),
            _ => {}
        }
    }

    fn tear_write(&mut self, file: FileId, start: usize, bytes: &[u8]) {
        let sector = self.sector;
        let keep = self.dice.below(1001);
        let mut at = start;
        while at < start + bytes.len() {
            let next = (at / sector * sector + sector).min(start + bytes.len());
            if self.dice.permille(keep) {
                _ = self.write(file, at, &bytes[at - start..next - start], false);
            }
            at = next;
        }
    }

    /// Power is cut (after `kill`): each sector that was not flushed is the old or the new one, each size and name too.
    pub(crate) fn cut_power(&mut self) {
        let sector = self.sector;
        let keep = self.dice.below(1001);
        self.late.clear();
        let SimDisk { names, dice, segments, small, shelf, undone, .. } = self;
        undone.names += names.cut_power(dice, segments, small) + shelf.cut_power(dice);
        for file in segments.values_mut().chain(self.mark.as_mut()) {
            file.cut_power(dice, sector, keep, undone);
        }
        for file in std::mem::take(&mut self.hollow) {
            if let Some(bytes) = self.small.get_mut(&file) {
                bytes.truncate(self.dice.below(bytes.len() as u64) as usize);
            }
        }
        self.bring_back();
        self.rescan();
    }

    /// Everything is gone: an operator has put in a new disk.
    pub(crate) fn wipe(&mut self) {
        (self.segments, self.small, self.older) = Default::default();
        (self.names, self.rotten, self.kept, self.shelf) = Default::default();
        self.hollow.clear();
        self.late.clear();
        self.mark = None;
        self.log = DurableLog::default();
    }

    pub(crate) fn small(&self, file: SmallFile) -> Option<&[u8]> {
        self.small.get(&file).map(Vec::as_slice)
    }

    /// The bytes of a batch as a read sees them now.
    pub(crate) fn bytes_of(&self, segment: SegmentId, position: u64, length: usize) -> Option<Bytes> {
        let bytes = Bytes::copy_from_slice(self.segments.get(&segment)?.read(position, length));
        (bytes.len() == length).then_some(bytes)
    }

    /// The same as they were written, whatever has rotted since.
    pub(super) fn bytes_written_of(&self, segment: SegmentId, position: u64, length: usize) -> Option<Bytes> {
        let bytes = self.segments.get(&segment)?.as_written(position as usize)?;
        bytes.get(..length).map(Bytes::copy_from_slice)
    }
}

fn disk_error(operation: &str) -> DiskError {
    DiskError { operation: operation.to_string(), reason: "Input/output error".to_string(), errno: 5 }
}

/// Recovery reads through it; `read` fails where the disk is in trouble.
impl LogSource for SimDisk {
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError> {
        Ok(self.segments.iter().map(|(id, f)| (*id, f.cached.len() as u64)).collect())
    }

    fn read(&mut self, segment: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError> {
        if self.dice.permille(self.trouble.read_error_permille) {
            return Err(disk_error("read"));
        }
        Ok(Bytes::copy_from_slice(self.segment(segment)?.read(position, length)))
    }

    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.small.get(&file).cloned())
    }

    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.mark.as_ref().map(|mark| mark.cached.clone()))
    }
}

impl SnapshotSource for SimDisk {
    fn snapshots(&mut self) -> Result<Vec<(OffsetAndEpoch, u64)>, DiskError> {
        self.shelf.snapshots()
    }

    fn read_snapshot(
        &mut self,
        id: OffsetAndEpoch,
        position: u64,
        length: usize,
    ) -> Result<Bytes, DiskError> {
        self.shelf.read_snapshot(id, position, length)
    }

    fn set_aside(&mut self, id: OffsetAndEpoch) -> Result<(), DiskError> {
        self.shelf.set_aside(id)
    }
}
