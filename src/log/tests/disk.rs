//! A disk of sectors with a volatile cache: operations complete in any order, and a crash keeps, loses or tears what
//! was not flushed, sector by sector.

use crate::log::*;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};

/// A seeded generator (splitmix64): tests must repeat.
pub(super) struct Random(pub(crate) u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// True `percent` times out of a hundred.
    pub(super) fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }
}

#[derive(Clone, Default)]
struct File {
    /// What a power cut leaves.
    durable: Vec<u8>,
    /// What a read sees.
    cached: Vec<u8>,
    /// Sectors that differ.
    dirty: BTreeSet<usize>,
}

pub(super) struct SimDisk {
    pub(crate) random: Random,
    sector: usize,
    segments: BTreeMap<SegmentId, File>,
    mark: File,
    small: BTreeMap<SmallFile, Vec<u8>>,
    pub(crate) in_flight: Vec<DiskOp>,
    /// The next operation of a kind for which this is true fails.
    pub(crate) fail: Option<fn(&OpKind) -> bool>,
    /// What makes files grow, and every small file, finds no room.
    pub(crate) is_full: bool,
}

impl SimDisk {
    pub(super) fn new(seed: u64) -> SimDisk {
        let mut random = Random(seed);
        let sector = if random.chance(50) { 512 } else { 4096 };
        let mark = File {
            durable: vec![0; COMMIT_MARK_FILE_BYTES],
            cached: vec![0; COMMIT_MARK_FILE_BYTES],
            dirty: BTreeSet::new(),
        };
        let (segments, small) = (BTreeMap::new(), BTreeMap::new());
        SimDisk { random, sector, segments, mark, small, in_flight: Vec::new(), fail: None, is_full: false }
    }

    pub(super) fn submit(&mut self, op: DiskOp) {
        self.check_submitted(&op.kind);
        self.in_flight.push(op);
    }

    /// What the device may rely on.
    fn check_submitted(&mut self, kind: &OpKind) {
        match kind {
            OpKind::Write { file, position, buffer, length, .. } => {
                assert!(position % 4096 == 0 && length % 4096 == 0 && *length <= buffer.capacity());
                let size = self.file(*file).cached.len() as u64;
                assert!(position + *length as u64 <= size, "a write beyond the file: {kind:?}");
            }
            OpKind::ExtendSegment { segment, from, .. } => {
                assert_eq!(self.file(FileId::Segment(*segment)).cached.len() as u64, *from);
            }
            OpKind::ZeroSegment { segment, to, from } => {
                assert!(from < to && *to <= self.file(FileId::Segment(*segment)).cached.len() as u64);
            }
            _ => {}
        }
    }

    fn file(&mut self, file: FileId) -> &mut File {
        match file {
            FileId::Segment(id) => self.segments.get_mut(&id).expect("the segment exists"),
            FileId::CommitMark => &mut self.mark,
        }
    }

    /// Carry out one operation, whichever chance picks.
    pub(super) fn complete_any(&mut self) -> Option<Completion> {
        if self.in_flight.is_empty() {
            return None;
        }
        let pick = self.random.below(self.in_flight.len() as u64) as usize;
        Some(self.complete_at(pick))
    }

    pub(super) fn complete_at(&mut self, index: usize) -> Completion {
        let DiskOp { id, kind } = self.in_flight.swap_remove(index);
        let failing = self.fail.take_if(|fails| fails(&kind)).is_some();
        // A read of a segment that was deleted meanwhile.
        let gone = matches!(&kind, OpKind::Read { segment, .. } if !self.segments.contains_key(segment));
        let takes_room = matches!(
            &kind,
            OpKind::CreateSegment { .. } | OpKind::ExtendSegment { .. } | OpKind::ReplaceFile { .. }
        );
        let is_full = self.is_full && takes_room;
        let failing = failing || gone || is_full;
        let mut done = if failing { Done::Complete } else { self.execute(&kind) };
        let buffer = match kind {
            OpKind::Write { buffer, .. } => Some(buffer),
            OpKind::Read { segment, position, length, piece } if !failing => {
                let bytes = self.read(segment, position, length).expect("the simulated disk reads");
                done = Done::Read(piece.filled_with(&bytes));
                None
            }
            OpKind::Memory(work) => {
                let result = Ok(work.carry_out());
                return Completion { id, result, buffer: None };
            }
            _ => None,
        };
        let error = DiskError {
            operation: "test".into(),
            reason: "no luck".into(),
            errno: if is_full { 28 } else { 5 },
        };
        Completion { id, result: if failing { Err(error) } else { Ok(done) }, buffer }
    }

    fn execute(&mut self, kind: &OpKind) -> Done {
        let sector = self.sector;
        match kind {
            OpKind::Write { file, position, buffer, length, durable } => {
                // A device without forced unit access flushes its whole cache, one with it only this write.
                let flushes_all = *durable && self.random.chance(50);
                self.file(*file).write(*position as usize, &buffer.as_slice()[..*length], sector);
                if *durable {
                    self.file(*file).flush(*position as usize, *length, sector);
                }
                if flushes_all {
                    self.flush_all();
                }
            }
            OpKind::Read { .. } | OpKind::Memory(_) => {}
            OpKind::CreateSegment { segment, zeroed } => {
                assert!(!self.segments.contains_key(segment), "{segment:?} exists already");
                self.small.remove(&SmallFile::Summary(*segment));
                let zeros = vec![0; *zeroed as usize];
                let file = File { durable: zeros.clone(), cached: zeros, dirty: BTreeSet::new() };
                self.segments.insert(*segment, file);
            }
            OpKind::ExtendSegment { segment, to, .. } => {
                self.file(FileId::Segment(*segment)).resize(*to as usize, sector);
            }
            OpKind::ZeroSegment { segment, from, to } => {
                let (from, length) = (*from as usize, (*to - *from) as usize);
                let file = self.file(FileId::Segment(*segment));
                file.write(from, &vec![0; length], sector);
                file.flush(from, length, sector);
            }
            OpKind::CutSegment { segment, length } => {
                let file = self.file(FileId::Segment(*segment));
                assert!(*length <= file.cached.len() as u64);
                file.resize(*length as usize, sector);
            }
            OpKind::DeleteSegment { segment } => {
                self.segments.remove(segment).expect("a deleted segment existed");
                self.small.remove(&SmallFile::Summary(*segment));
            }
            OpKind::ReplaceFile { file, contents } => _ = self.small.insert(*file, contents.clone()),
            OpKind::RemoveFile { file } => _ = self.small.remove(file),
            OpKind::FlushSegment { segment } => {
                assert!(self.segments.contains_key(segment));
                self.flush_all();
            }
        }
        Done::Complete
    }

    fn flush_all(&mut self) {
        for file in self.segments.values_mut().chain([&mut self.mark]) {
            (file.durable, file.dirty) = (file.cached.clone(), BTreeSet::new());
        }
    }

    /// The process dies: what is in flight happens, or not, or in part.
    pub(super) fn kill(&mut self) {
        while let Some(DiskOp { kind, .. }) = self.in_flight.pop() {
            self.tear(&kind);
        }
    }

    fn tear(&mut self, kind: &OpKind) {
        let sector = self.sector;
        let whole = self.random.chance(40);
        let (file, position, bytes) = match kind {
            OpKind::Read { .. } | OpKind::Memory(_) | OpKind::FlushSegment { .. } => return,
            OpKind::Write { file, position, buffer, length, .. } => {
                (*file, *position, buffer.as_slice()[..*length].to_vec())
            }
            OpKind::ZeroSegment { segment, from, to } => {
                (FileId::Segment(*segment), *from, vec![0; (*to - *from) as usize])
            }
            OpKind::ExtendSegment { segment, from, to, .. } if !whole => {
                let to = from + self.random.below(to - from + 1);
                return self.file(FileId::Segment(*segment)).resize(to as usize, sector);
            }
            OpKind::CreateSegment { segment, zeroed } if !whole => {
                self.small.remove(&SmallFile::Summary(*segment));
                let size = self.random.below(zeroed + 1);
                let zeros = vec![0; size as usize];
                let file = File { durable: zeros.clone(), cached: zeros, dirty: BTreeSet::new() };
                if self.random.chance(50) {
                    self.segments.insert(*segment, file);
                }
                return;
            }
            _ => {
                if whole {
                    self.execute(kind);
                }
                return;
            }
        };
        let (start, end) = (position as usize, position as usize + bytes.len());
        let mut at = start;
        while at < end {
            let next = (at / sector * sector + sector).min(end);
            if self.random.chance(50) {
                self.file(file).write(at, &bytes[at - start..next - start], sector);
            }
            at = next;
        }
    }

    /// Power is cut (after `kill`): each sector that was not flushed is the old or the new one.
    pub(super) fn cut_power(&mut self) {
        let sector = self.sector;
        let keep = self.random.below(101);
        for file in self.segments.values_mut().chain([&mut self.mark]) {
            for dirty in std::mem::take(&mut file.dirty) {
                let range = dirty * sector..((dirty + 1) * sector).min(file.cached.len());
                if self.random.chance(keep) {
                    file.durable[range.clone()].copy_from_slice(&file.cached[range]);
                }
            }
            file.cached = file.durable.clone();
        }
    }

    pub(super) fn contents(&self, segment: SegmentId) -> &[u8] {
        &self.segments[&segment].cached
    }

    pub(super) fn sizes(&self) -> Vec<(SegmentId, usize)> {
        self.segments.iter().map(|(id, f)| (*id, f.cached.len())).collect()
    }

    /// Change bytes behind the log's back, on the platter.
    pub(super) fn edit(&mut self, segment: SegmentId, change: impl FnOnce(&mut Vec<u8>)) {
        let file = self.file(FileId::Segment(segment));
        change(&mut file.cached);
        (file.durable, file.dirty) = (file.cached.clone(), BTreeSet::new());
    }

    pub(super) fn put_segment(&mut self, segment: SegmentId, bytes: Vec<u8>) {
        let file = File { durable: bytes.clone(), cached: bytes, dirty: BTreeSet::new() };
        self.segments.insert(segment, file);
    }

    pub(super) fn remove_segment(&mut self, segment: SegmentId) {
        self.segments.remove(&segment);
    }

    pub(super) fn put_small(&mut self, file: SmallFile, contents: Option<Vec<u8>>) {
        match contents {
            Some(contents) => _ = self.small.insert(file, contents),
            None => _ = self.small.remove(&file),
        }
    }

    pub(super) fn small(&self, file: SmallFile) -> Option<&[u8]> {
        self.small.get(&file).map(Vec::as_slice)
    }

    pub(super) fn mark_mut(&mut self) -> &mut Vec<u8> {
        self.mark.dirty.clear();
        &mut self.mark.cached
    }

    /// A copy of everything that a read sees, without operations.
    pub(super) fn image(&self) -> SimDisk {
        SimDisk {
            random: Random(self.random.0),
            sector: self.sector,
            segments: self.segments.clone(),
            mark: self.mark.clone(),
            small: self.small.clone(),
            in_flight: Vec::new(),
            fail: None,
            is_full: false,
        }
    }
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8], sector: usize) {
        self.cached[at..at + bytes.len()].copy_from_slice(bytes);
        self.dirty.extend(at / sector..(at + bytes.len()).div_ceil(sector));
    }

    fn flush(&mut self, at: usize, length: usize, sector: usize) {
        for dirty in at / sector..(at + length).div_ceil(sector) {
            if self.dirty.remove(&dirty) {
                let range = dirty * sector..((dirty + 1) * sector).min(self.cached.len());
                self.durable[range.clone()].copy_from_slice(&self.cached[range]);
            }
        }
    }

    /// Durable, as the operations that do it promise.
    fn resize(&mut self, size: usize, sector: usize) {
        self.cached.resize(size, 0);
        self.durable.resize(size, 0);
        self.dirty.retain(|s| s * sector < size);
    }
}

impl LogSource for SimDisk {
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError> {
        Ok(self.segments.iter().map(|(id, f)| (*id, f.cached.len() as u64)).collect())
    }

    fn read(&mut self, segment: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError> {
        let bytes = &self.segments[&segment].cached;
        let start = (position as usize).min(bytes.len());
        Ok(Bytes::copy_from_slice(&bytes[start..(start + length).min(bytes.len())]))
    }

    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.small.get(&file).cloned())
    }

    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(Some(self.mark.cached.clone()))
    }
}

impl SimDisk {
    /// Bytes in front of the zeros at the end of each segment, or of the cut.
    pub(super) fn sizes_of_batches(&mut self) -> u64 {
        let config = super::harness::small_config();
        let mut bytes = 0;
        let mut count = |part: Recovered| {
            bytes += match part {
                Recovered::Batch(batch) => batch.size_bytes() as u64,
                Recovered::Segment(summary) => summary.segment_bytes(),
            };
            Ok(())
        };
        recover(self, &config, &mut count).expect("the log recovers");
        bytes
    }
}
