//! A disk in memory for tests: carries operations out at once, in order.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::log::{
    Completion, DiskError, DiskOp, Done, FileId, LogSource, OpKind, SegmentId, SmallFile, SnapshotCompletion,
    SnapshotDone, SnapshotOp, SnapshotSource, SnapshotWork,
};
use crate::types::OffsetAndEpoch;

#[derive(Clone, Default)]
pub(crate) struct Disk {
    segments: BTreeMap<SegmentId, Vec<u8>>,
    small: BTreeMap<SmallFile, Vec<u8>>,
    mark: Option<Vec<u8>>,
    pub(super) snapshots: BTreeMap<OffsetAndEpoch, Vec<u8>>,
    pub(super) set_aside: Vec<OffsetAndEpoch>,
    /// Writes fail with EIO from now on.
    pub(super) fail_writes: bool,
    /// Reads of operations fail with EIO from now on.
    pub(super) fail_reads: bool,
    /// What makes files grow finds no room.
    pub(crate) is_full: bool,
}

fn failed(operation: &str) -> DiskError {
    DiskError { operation: operation.to_string(), reason: "Input/output error".to_string(), errno: 5 }
}

fn put(file: &mut Vec<u8>, position: u64, bytes: &[u8]) {
    let end = position as usize + bytes.len();
    if file.len() < end {
        file.resize(end, 0);
    }
    file[position as usize..end].copy_from_slice(bytes);
}

impl Disk {
    pub(crate) fn summaries(&self) -> usize {
        self.small.keys().filter(|file| matches!(file, SmallFile::Summary(_))).count()
    }

    pub(crate) fn forget_summaries(&mut self) {
        self.small.retain(|file, _| !matches!(file, SmallFile::Summary(_)));
    }

    pub(crate) fn segments_kept(&self) -> usize {
        self.segments.len()
    }

    pub(crate) fn carry_out_snapshot(&mut self, op: SnapshotOp) -> SnapshotCompletion {
        let SnapshotOp { token, kind } = op;
        let result = match kind {
            SnapshotWork::Write { .. } if self.is_full => Err(DiskError { errno: 28, ..failed("write") }),
            SnapshotWork::Write { id, contents, .. } => {
                let file: Vec<u8> = contents.0.flatten().collect();
                let bytes = file.len() as u64;
                self.snapshots.insert(id, file);
                Ok(SnapshotDone::Written(bytes))
            }
            SnapshotWork::Read { id, position, length } => {
                self.read_snapshot(id, position, length).map(SnapshotDone::Read)
            }
            SnapshotWork::Remove { id } => {
                self.snapshots.remove(&id);
                Ok(SnapshotDone::Complete)
            }
            SnapshotWork::Tidy => Ok(SnapshotDone::Complete),
        };
        SnapshotCompletion { token, result }
    }

    pub(crate) fn carry_out(&mut self, op: DiskOp) -> Completion {
        let mut done = Done::Complete;
        let mut returned = None;
        match op.kind {
            OpKind::Write { buffer, .. } if self.fail_writes => {
                return Completion { id: op.id, result: Err(failed("write")), buffer: Some(buffer) };
            }
            OpKind::CreateSegment { .. } | OpKind::ExtendSegment { .. } if self.is_full => {
                let error = DiskError { errno: 28, ..failed("extend") };
                return Completion { id: op.id, result: Err(error), buffer: None };
            }
            OpKind::Read { .. } if self.fail_reads => {
                return Completion { id: op.id, result: Err(failed("read")), buffer: None };
            }
            OpKind::Write { file, position, buffer, length, durable: _ } => {
                let bytes = &buffer.as_slice()[..length];
                match file {
                    FileId::Segment(segment) => {
                        put(self.segments.get_mut(&segment).expect("segment exists"), position, bytes)
                    }
                    FileId::CommitMark => put(self.mark.get_or_insert_default(), position, bytes),
                }
                returned = Some(buffer);
            }
            OpKind::Read { segment, position, length, piece } => {
                let file = &self.segments[&segment];
                let start = (position as usize).min(file.len());
                let end = (start + length).min(file.len());
                done = Done::Read(piece.filled_with(&file[start..end]));
            }
            OpKind::CreateSegment { segment, zeroed } => {
                self.segments.insert(segment, vec![0; zeroed as usize]);
            }
            OpKind::ExtendSegment { segment, to, .. } => {
                self.segments.get_mut(&segment).expect("segment exists").resize(to as usize, 0)
            }
            OpKind::ZeroSegment { segment, from, to } => {
                self.segments.get_mut(&segment).expect("segment exists")[from as usize..to as usize].fill(0)
            }
            OpKind::CutSegment { segment, length } => {
                self.segments.get_mut(&segment).expect("segment exists").truncate(length as usize)
            }
            OpKind::DeleteSegment { segment } => {
                self.segments.remove(&segment);
                self.small.remove(&SmallFile::Summary(segment));
            }
            OpKind::ReplaceFile { file, contents } => {
                self.small.insert(file, contents);
            }
            OpKind::RemoveFile { file } => _ = self.small.remove(&file),
            OpKind::FlushSegment { .. } => {}
            OpKind::Memory(work) => done = work.carry_out(),
        }
        Completion { id: op.id, result: Ok(done), buffer: returned }
    }
}

impl LogSource for Disk {
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError> {
        Ok(self.segments.iter().map(|(id, file)| (*id, file.len() as u64)).collect())
    }
    fn read(&mut self, segment: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError> {
        let file = &self.segments[&segment];
        let start = (position as usize).min(file.len());
        let end = (start + length).min(file.len());
        Ok(Bytes::copy_from_slice(&file[start..end]))
    }
    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.small.get(&file).cloned())
    }
    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        Ok(self.mark.clone())
    }
}

impl SnapshotSource for Disk {
    fn snapshots(&mut self) -> Result<Vec<(OffsetAndEpoch, u64)>, DiskError> {
        Ok(self.snapshots.iter().map(|(id, file)| (*id, file.len() as u64)).collect())
    }
    fn read_snapshot(
        &mut self,
        id: OffsetAndEpoch,
        position: u64,
        length: usize,
    ) -> Result<Bytes, DiskError> {
        let file = &self.snapshots[&id];
        let start = (position as usize).min(file.len());
        Ok(Bytes::copy_from_slice(&file[start..(start + length).min(file.len())]))
    }
    fn set_aside(&mut self, id: OffsetAndEpoch) -> Result<(), DiskError> {
        self.snapshots.remove(&id);
        self.set_aside.push(id);
        Ok(())
    }
}
