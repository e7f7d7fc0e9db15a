//! A node's disk: sectors behind a volatile cache. What was not flushed is, after a power cut, old or new sector by sector.
//!
//! The simulation submits operations, completes them in whatever order its clock brings, and kills the process or cuts
//! the power in between. `DurableLog` looks at the platter, so that the checker knows what is really there. It never
//! decides when something happens or fails: faults come from outside.

use super::dice::Dice;
use super::durable::DurableLog;
use super::lies::Lie;
use crate::log::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// Names a submitted operation of this disk; process starts do not reset it.
pub type Ticket = u64;

/// The slowest disk still does it in this time.
const TAKES_NS_MAX: u64 = 5_000_000_000;

#[derive(Clone, Debug, Default)]
pub struct DiskFile {
    /// What a power cut leaves.
    pub durable: Vec<u8>,
    /// What a read sees.
    cached: Vec<u8>,
    /// Sectors that differ.
    dirty: BTreeSet<usize>,
}

/// What this disk does wrong just now, each in a thousandth of operations.
#[derive(Clone, Debug, Default)]
pub struct DiskTrouble {
    pub write_error_permille: u64,
    pub file_error_permille: u64,
    pub read_error_permille: u64,
    /// Times as slow as it should be.
    pub slowness: u64,
}

/// An operation as it was submitted: how long it takes, and whether it is to be carried out as it should be.
struct Flight {
    op: DiskOp,
    lie: Option<Lie>,
}

pub struct SimDisk {
    dice: Dice,
    /// What is written whole or not at all.
    sector: usize,
    /// Without forced unit access a durable write flushes the whole cache.
    flushes_all: bool,
    latency_ns: u64,
    segments: BTreeMap<SegmentId, DiskFile>,
    /// Their names are not durable: only where a lie was told.
    unsynced: BTreeSet<SegmentId>,
    mark: Option<DiskFile>,
    small: BTreeMap<SmallFile, Vec<u8>>,
    /// What a lie keeps back: the contents that a small file had before.
    older: BTreeMap<SmallFile, Vec<u8>>,
    in_flight: BTreeMap<Ticket, Flight>,
    /// Done late, although it was reported as done: file, position, bytes.
    late: Vec<(FileId, usize, Vec<u8>)>,
    next_ticket: Ticket,
    pub trouble: DiskTrouble,
    pub log: DurableLog,
}

impl SimDisk {
    pub fn new(mut dice: Dice) -> SimDisk {
        SimDisk {
            sector: if dice.permille(500) { 512 } else { 4096 },
            flushes_all: dice.permille(500),
            latency_ns: dice.pick(&[30_000, 100_000, 400_000, 3_000_000]).unwrap_or(100_000),
            dice,
            segments: BTreeMap::new(),
            unsynced: BTreeSet::new(),
            mark: None,
            small: BTreeMap::new(),
            older: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            late: Vec::new(),
            next_ticket: 0,
            trouble: DiskTrouble::default(),
            log: DurableLog::default(),
        }
    }

    /// Returns its ticket and the time that it takes.
    pub fn submit(&mut self, op: DiskOp, lie: Option<Lie>) -> (Ticket, u64) {
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
    pub fn swap_tickets(&mut self, ticket: Ticket) {
        let is_write = |flight: &Flight| !matches!(flight.op.kind, OpKind::Read { .. });
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
    pub fn complete(&mut self, ticket: Ticket) -> Option<(Completion, bool)> {
        let Flight { op: DiskOp { id, kind }, lie } = self.in_flight.remove(&ticket)?;
        if self.dice.permille(500) {
            for (file, at, bytes) in std::mem::take(&mut self.late) {
                self.write(file, at, &bytes, true).ok();
            }
        }
        let failure = self.failure(&kind);
        let result = match &failure {
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
        self.log.refresh(&self.segments);
        let buffer = match kind {
            OpKind::Write { buffer, .. } => Some(buffer),
            _ => None,
        };
        Some((Completion { id, result, buffer }, failure.is_some()))
    }

    fn failure(&mut self, kind: &OpKind) -> Option<DiskError> {
        let trouble = &self.trouble;
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
                self.write(*file, *position as usize, &buffer.as_slice()[..*length], *durable)?
            }
            OpKind::Read { segment, position, length } => {
                let file = self.segments.get(segment).ok_or_else(|| disk_error("read"))?;
                return Ok(Done::Read(file.read(*position, *length)));
            }
            OpKind::CreateSegment { segment, zeroed } => {
                assert!(!self.segments.contains_key(segment), "{segment:?} exists already");
                self.segments.insert(*segment, DiskFile::zeros(*zeroed as usize));
            }
            OpKind::ExtendSegment { segment, to, .. } => self.segment(*segment)?.resize(*to as usize, sector),
            OpKind::ZeroSegment { segment, from, to } => {
                let zeros = vec![0; (*to - *from) as usize];
                self.log.cut(*segment, *from);
                self.write(FileId::Segment(*segment), *from as usize, &zeros, true)?;
            }
            OpKind::CutSegment { segment, length } => {
                self.log.cut(*segment, *length);
                self.segment(*segment)?.resize(*length as usize, sector);
            }
            OpKind::DeleteSegment { segment } => {
                self.log.cut(*segment, 0);
                self.segments.remove(segment);
            }
            OpKind::ReplaceFile { file, contents } => {
                if let Some(old) = self.small.insert(*file, contents.clone()) {
                    self.older.insert(*file, old);
                }
            }
            OpKind::FlushSegment { .. } => self.flush_all(),
        }
        Ok(Done::Complete)
    }

    fn segment(&mut self, segment: SegmentId) -> Result<&mut DiskFile, DiskError> {
        self.segments.get_mut(&segment).ok_or_else(|| disk_error("open"))
    }

    fn write(&mut self, file: FileId, at: usize, bytes: &[u8], durable: bool) -> Result<(), DiskError> {
        let (sector, flushes_all) = (self.sector, self.flushes_all);
        let file = self.file(file).ok_or_else(|| disk_error("open"))?;
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
            (Lie::DirectoryEntryLost, OpKind::CreateSegment { segment, .. }) => {
                self.execute(kind)?;
                self.unsynced.insert(*segment);
            }
            (Lie::TruncationLate, OpKind::ZeroSegment { segment, from, to }) => {
                self.late.push((FileId::Segment(*segment), *from as usize, vec![0; (*to - *from) as usize]));
            }
            (Lie::CompletionEarly, OpKind::Write { file, position, buffer, length, .. }) => {
                self.late.push((*file, *position as usize, buffer.as_slice()[..*length].to_vec()));
            }
            (Lie::WriteLost, OpKind::Write { .. })
            | (Lie::VoteForgotten, OpKind::ReplaceFile { .. })
            | (Lie::TruncationLost, OpKind::ZeroSegment { .. })
            | (Lie::OpeningFlushSkipped, OpKind::FlushSegment { .. }) => {}
            _ => return self.execute(kind),
        }
        Ok(Done::Complete)
    }

    fn flush_all(&mut self) {
        let sector = self.sector;
        for (segment, file) in &self.segments {
            // Zeros of a truncation that was killed become durable only now.
            if let Some(first) = file.dirty.first() {
                self.log.cut(*segment, (first * sector) as u64);
            }
        }
        for file in self.segments.values_mut().chain(self.mark.as_mut()) {
            file.flush(0, file.cached.len(), sector);
        }
    }

    /// The process dies: what is in flight happens, or not, or in part. Gives back the buffers.
    pub fn kill(&mut self) -> Vec<WriteBuffer> {
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
        self.log.rescan(&self.segments);
        buffers
    }

    /// Happens, or not, or in part.
    fn tear(&mut self, kind: &OpKind) {
        let whole = self.dice.permille(400);
        match kind {
            OpKind::Read { .. } => {}
            OpKind::Write { file, position, buffer, length, .. } if !whole => {
                self.tear_write(*file, *position as usize, &buffer.as_slice()[..*length]);
            }
            OpKind::ZeroSegment { segment, from, to } if !whole => {
                let zeros = vec![0; (*to - *from) as usize];
                self.tear_write(FileId::Segment(*segment), *from as usize, &zeros);
            }
            OpKind::ExtendSegment { segment, from, to } if !whole => {
                let (to, sector) = (from + self.dice.below(to - from + 1), self.sector);
                if let Ok(file) = self.segment(*segment) {
                    file.resize(to as usize, sector);
                }
            }
            OpKind::CreateSegment { segment, zeroed } if !whole => {
                let size = self.dice.below(zeroed + 1) as usize;
                if self.dice.permille(500) {
                    self.segments.insert(*segment, DiskFile::zeros(size));
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

    /// Power is cut (after `kill`): each sector that was not flushed is the old or the new one.
    pub fn cut_power(&mut self) {
        let sector = self.sector;
        let keep = self.dice.below(1001);
        self.late.clear();
        for segment in std::mem::take(&mut self.unsynced) {
            self.segments.remove(&segment);
        }
        for file in self.segments.values_mut().chain(self.mark.as_mut()) {
            for dirty in std::mem::take(&mut file.dirty) {
                let range = dirty * sector..((dirty + 1) * sector).min(file.cached.len());
                if self.dice.permille(keep) {
                    file.durable[range.clone()].copy_from_slice(&file.cached[range]);
                } else {
                    file.cached[range.clone()].copy_from_slice(&file.durable[range]);
                }
            }
        }
        self.log.rescan(&self.segments);
    }

    /// Everything is gone: an operator has put in a new disk.
    pub fn wipe(&mut self) {
        (self.segments, self.small, self.older) = Default::default();
        self.unsynced.clear();
        self.late.clear();
        self.mark = None;
        self.log.rescan(&self.segments);
    }

    /// A bit of a flushed sector flips, in batches that the commit mark vouches for. False: there are none.
    pub fn rot(&mut self) -> bool {
        let Some((segment, end)) = self.vouched() else { return false };
        let Some(target) = self.dice.pick(&self.segments.keys().copied().collect::<Vec<_>>()) else {
            return false;
        };
        let size = match target.cmp(&segment) {
            std::cmp::Ordering::Less => self.log.length(target),
            std::cmp::Ordering::Equal => end,
            std::cmp::Ordering::Greater => 0,
        };
        let (at, bit) = (self.dice.below(size) as usize, self.dice.below(8));
        let Some(file) = self.segments.get_mut(&target).filter(|f| at < f.durable.len() && size > 0) else {
            return false;
        };
        file.durable[at] ^= 1 << bit;
        file.cached[at] = file.durable[at];
        file.dirty.remove(&(at / self.sector));
        // Nobody has noticed: `log` neither, until the next start.
        true
    }

    /// The lowest place up to which a slot of the commit mark vouches for the log: segment and position.
    fn vouched(&self) -> Option<(SegmentId, u64)> {
        const SEGMENT_AT: usize = 8 + 4 + 8 + 8 + 4;
        let mark = &self.mark.as_ref()?.durable;
        let slots = [0, BLOCK_BYTES].into_iter().filter_map(|slot| {
            let place = mark.get(slot + SEGMENT_AT..slot + SEGMENT_AT + 16)?;
            let segment = i64::from_be_bytes(place[..8].try_into().ok()?);
            Some((SegmentId(crate::types::Offset(segment)), u64::from_be_bytes(place[8..].try_into().ok()?)))
        });
        slots.min()
    }

    pub fn small(&self, file: SmallFile) -> Option<&[u8]> {
        self.small.get(&file).map(Vec::as_slice)
    }

    /// A lie: a small file is again what it was before its last change.
    pub fn restore_older(&mut self, file: SmallFile) {
        if let Some(old) = self.older.remove(&file) {
            self.small.insert(file, old);
        }
    }

    /// A lie: the last batches of the log, and the mark that knows of them, are gone.
    pub fn forget_tail(&mut self) {
        let Some(last) = self.log.batches.last().copied() else { return };
        let sector = self.sector;
        if let Some(file) = self.segments.get_mut(&last.segment) {
            let end = file.cached.len();
            let start = last.position as usize;
            file.write(start, &vec![0; end - start], sector);
            file.flush(start, end - start, sector);
        }
        self.mark = None;
        self.log.rescan(&self.segments);
    }

    /// The bytes of a batch as a read sees them now.
    pub fn bytes_of(&self, segment: SegmentId, position: u64, length: usize) -> Option<Bytes> {
        let bytes = self.segments.get(&segment)?.read(position, length);
        (bytes.len() == length).then_some(bytes)
    }

    /// Bytes of all files: what grows without bound shows here.
    pub fn size_bytes(&self) -> usize {
        self.segments.values().map(|f| f.cached.len()).sum()
    }
}

fn disk_error(operation: &str) -> DiskError {
    DiskError { operation: operation.to_string(), reason: "Input/output error".to_string(), errno: 5 }
}

impl DiskFile {
    fn zeros(size: usize) -> DiskFile {
        DiskFile { durable: vec![0; size], cached: vec![0; size], dirty: BTreeSet::new() }
    }

    fn read(&self, position: u64, length: usize) -> Bytes {
        let start = (position as usize).min(self.cached.len());
        Bytes::copy_from_slice(&self.cached[start..(start + length).min(self.cached.len())])
    }

    fn write(&mut self, at: usize, bytes: &[u8], sector: usize) {
        let end = (at + bytes.len()).min(self.cached.len());
        if at < end {
            self.cached[at..end].copy_from_slice(&bytes[..end - at]);
            self.dirty.extend(at / sector..end.div_ceil(sector));
        }
    }

    fn flush(&mut self, at: usize, length: usize, sector: usize) {
        let sectors = at / sector..(at + length).div_ceil(sector);
        let flushed: Vec<usize> = self.dirty.range(sectors).copied().collect();
        for dirty in flushed {
            self.dirty.remove(&dirty);
            let range = dirty * sector..((dirty + 1) * sector).min(self.cached.len());
            self.durable[range.clone()].copy_from_slice(&self.cached[range]);
        }
    }

    /// Durable, as the operations that do it promise.
    fn resize(&mut self, size: usize, sector: usize) {
        self.cached.resize(size, 0);
        self.durable.resize(size, 0);
        self.dirty.retain(|s| s * sector < size);
    }
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
        Ok(self.segment(segment)?.read(position, length))
    }

    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.small.get(&file).cloned())
    }

    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.mark.as_ref().map(|mark| mark.cached.clone()))
    }
}
