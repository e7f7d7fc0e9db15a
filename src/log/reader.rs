//! Reads: from the tail cache at once, else from the device by the sparse index.
//!
//! Called by the replica for fetches. Gives whole batches whose CRC holds and which lie where the index says; never bytes that
//! are not flushed, and never rot: that is `ReadError::Corrupt`.

use super::epoch_checkpoint::epoch_before;
use super::flights::Purpose;
use super::segment::Segment;
use super::{
    Corrupt, DiskError, Done, Log, LogEvent, OpId, OpKind, ReadError, ReadOutcome, SegmentId, read_span,
};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchList, CheckedRun, check_run};
use crate::types::*;
use bytes::Bytes;
use std::sync::Arc;

/// A read asks for at least this much at once, as far as the segment goes.
const READ_BYTES_MIN: usize = 64 * 1024;

pub(super) struct PendingRead {
    token: u64,
    from: Offset,
    /// A truncation lowers it.
    pub(super) bound: Offset,
    max_bytes: usize,
    segment: SegmentId,
    position: u64,
    length: usize,
    /// Base offset of the batch at `position`.
    expected: Offset,
    keep: Keep,
}

/// Lives as long as any slice of what was read: whoever answers for the memory sees when it is free.
pub(crate) type Keep = Arc<dyn Send + Sync>;

struct Kept {
    bytes: Bytes,
    _keep: Keep,
}

impl AsRef<[u8]> for Kept {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What the bytes of a read gave.
enum Found {
    /// `None`: the batch that is there reaches over the bound.
    Run(Option<CheckedRun>),
    /// Go on at this position, where this batch is due, with this many bytes.
    GoOn { position: u64, expected: Offset, length: usize },
}

impl Log {
    /// From memory or, as `OnDevice` says, from the device.
    #[cfg(test)]
    pub(crate) fn read(&mut self, from: Offset, bound: Offset, max_bytes: usize, token: u64) -> ReadOutcome {
        let outcome = self.read_memory(from, bound, max_bytes);
        if let ReadOutcome::OnDevice = outcome {
            self.read_device(from, bound, max_bytes, token, Arc::new(()));
        }
        outcome
    }

    /// Read whole batches from the one that contains `from`, below `bound` (a batch that reaches over it is left out), at most
    /// `max_bytes` but at least one batch. Ends at a segment's end.
    pub(crate) fn read_memory(&mut self, from: Offset, bound: Offset, max_bytes: usize) -> ReadOutcome {
        if from < self.log_start() || from > self.log_end {
            return ReadOutcome::OutOfRange;
        }
        let bound = bound.min(self.log_end);
        if from >= bound {
            return ReadOutcome::Empty;
        }
        match self.tail.read(from, bound, max_bytes, &mut self.lists) {
            Some(batches) if batches.is_empty() => ReadOutcome::Empty,
            Some(batches) => ReadOutcome::Batches(batches),
            None => ReadOutcome::OnDevice,
        }
    }

    /// Where `read_memory` has just said `OnDevice`. `keep` is let go with the last of the bytes that were read.
    pub(crate) fn read_device(
        &mut self,
        from: Offset,
        bound: Offset,
        max_bytes: usize,
        token: u64,
        keep: Keep,
    ) {
        let bound = bound.min(self.log_end);
        let segment = self.segments.holding(from).expect("an offset of the log lies in a segment");
        let run = segment.run_of(from).expect("an offset below the flushed end is indexed");
        let left = self.flushed_bytes(segment).saturating_sub(run.position);
        let wanted = max_bytes.saturating_add(READ_BYTES_MIN);
        let read = PendingRead {
            token,
            from,
            // Beyond it the device may still hold what a truncation is about to cut.
            bound: bound.min(self.flushed),
            max_bytes,
            segment: segment.id,
            position: run.position,
            length: usize::try_from(left).unwrap_or(usize::MAX).min(wanted),
            expected: run.offset,
            keep,
        };
        self.submit_read(read);
    }

    /// How far the segment may be read: to the end of its last flushed batch.
    fn flushed_bytes(&self, segment: &Segment) -> u64 {
        match segment.id == self.flushed_place.segment {
            true => self.flushed_place.position.min(segment.length),
            false => segment.length,
        }
    }

    fn submit_read(&mut self, read: PendingRead) {
        let op = self.read_op(read.segment, read.position, read.length);
        let id = self.submit(op, Purpose::Read);
        self.reads.insert(id, read);
    }

    /// With memory for what is read.
    pub(super) fn read_op(&mut self, segment: SegmentId, position: u64, length: usize) -> OpKind {
        let piece = self.pieces.take(read_span(position, length).0);
        OpKind::Read { segment, position, length, piece }
    }

    pub(super) fn complete_read(&mut self, id: OpId, result: Result<Done, DiskError>) {
        let read = self.reads.remove(&id).expect("a read that completes was submitted");
        let token = read.token;
        let result = self.judge_read(&read, result);
        let result = match result {
            Ok(Found::GoOn { position, expected, length }) => {
                return self.submit_read(PendingRead { position, expected, length, ..read });
            }
            Ok(Found::Run(run)) => Ok(run.map(BatchList::from).unwrap_or_default()),
            Err(error) => Err(error),
        };
        self.events.push_back(LogEvent::ReadDone { token, result });
    }

    fn judge_read(&self, read: &PendingRead, result: Result<Done, DiskError>) -> Result<Found, ReadError> {
        let segment = self.segments.holding(read.segment.0).filter(|s| s.id == read.segment);
        let segment = segment.filter(|_| read.from < read.bound).ok_or(ReadError::Gone)?;
        match result? {
            // Shorter than asked for where a truncation cut the file behind the bound.
            Done::Read(filled) => {
                let kept = Kept { bytes: filled.into_bytes(), _keep: read.keep.clone() };
                let bytes = Bytes::from_owner(kept);
                let bytes = bytes.slice(..read.length.min(bytes.len()));
                read.find(&bytes, self.flushed_bytes(segment), &self.epochs)
            }
            Done::Complete => Err(read.corrupt(read.position, "the device read nothing".to_string())),
        }
    }
}

impl PendingRead {
    fn find(&self, bytes: &Bytes, segment_bytes: u64, epochs: &[EpochStart]) -> Result<Found, ReadError> {
        let (run, error) = check_run(bytes.clone());
        let (base, next) =
            run.as_ref().map_or((self.expected, self.expected), |run| (run.base_offset(), run.next_offset()));
        if base != self.expected {
            let why = format!("a batch at offset {base} where {} was written", self.expected);
            return Err(self.corrupt(self.position, why));
        }
        let position = self.position + run.as_ref().map_or(0, CheckedRun::size_bytes) as u64;
        match (run.filter(|_| next > self.from), error) {
            (Some(run), _) => self.take(&run, epochs),
            (None, Some(error)) => Err(self.corrupt(position, error.to_string())),
            (None, None) => self.go_on(bytes, position, next, segment_bytes),
        }
    }

    /// As much as is wanted of a run that contains `from`, and begins where the index says.
    fn take(&self, run: &CheckedRun, epochs: &[EpochStart]) -> Result<Found, ReadError> {
        let Some(run) = run.slice(self.from, self.bound, self.max_bytes) else { return Ok(Found::Run(None)) };
        // The epoch lies outside of the batch's CRC.
        let strange = run.headers().find_map(|(at, header)| {
            let epoch = epoch_before(epochs, header.next_offset());
            (header.leader_epoch != epoch).then_some((at, header, epoch))
        });
        match strange {
            None => Ok(Found::Run(Some(run))),
            Some((0, header, epoch)) => {
                let why =
                    format!("a batch of epoch {} where one of {epoch} was written", header.leader_epoch);
                Err(self.corrupt(self.position + run.distance() as u64, why))
            }
            Some((_, header, _)) => {
                Ok(Found::Run(run.slice(run.base_offset(), header.base_offset, usize::MAX)))
            }
        }
    }

    /// The batch wanted is not whole in what was read, or lies behind it.
    fn go_on(
        &self,
        bytes: &Bytes,
        position: u64,
        expected: Offset,
        segment_bytes: u64,
    ) -> Result<Found, ReadError> {
        let rest = &bytes[(position - self.position) as usize..];
        let due = BatchHeader::decode(rest).map_or(BATCH_HEADER_BYTES, |header| header.size_bytes);
        let left = segment_bytes.saturating_sub(position);
        if bytes.len() < self.length {
            return Err(self.corrupt(position, "the file ends before the log does".to_string()));
        }
        if due as u64 > left || due <= rest.len() {
            return Err(self.corrupt(position, format!("a batch of {due} bytes where the log has {left}")));
        }
        let wanted = due.max(self.max_bytes.saturating_add(READ_BYTES_MIN)) as u64;
        Ok(Found::GoOn { position, expected, length: wanted.min(left) as usize })
    }

    fn corrupt(&self, position: u64, why: String) -> ReadError {
        Corrupt { segment: self.segment.file_name(), position, why }.into()
    }
}
