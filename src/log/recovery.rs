//! Recovery: find where the log ends and what it holds, and tell a torn tail from rot.
//!
//! Every batch is read once and checked, but for those of segments whose summary is believed ([`super::summary_check`]).
//! Called once at the start, through a [`LogSource`]. It changes nothing: what must be repaired is handed to
//! `Log::new`, which does it as its first operations. Everything read here is distrusted.
//!
//! The rules. A batch is good when its length, magic, CRC and counts hold, it begins where the one before it ended, and its epoch
//! is not lower. The log ends at the first batch that is not good.
//! - Below the commit mark that is rot: refuse, cut nothing.
//! - In a segment that another one follows it is rot too: a segment is whole and durable before the next is created. Only where
//!   no mark vouches for that (Kafka wrote the directory) may followers without one good batch be deleted.
//! - Else it is cut, with one line, where it is proven torn ([`super::torn`]), or one bit that stands alone. Nothing but
//!   zeros is no tail at all.
//! - Segments below the first one that the mark names are no more of the log: not read, and removed once the node is ready. One
//!   that is missing from there on is rot: the mark names it until it is a part of the log no more.
//! - What is left is a log in doubt: records that this node has acknowledged may have been there. Who has peers may go on with
//!   the good part of it ([`RecoveredLog::go_on_in_doubt`]), and helps nobody to be elected before it has caught up with a leader.
//! - Without a readable mark (Kafka itself never has one) a file may also end within a torn batch. Where both slots hold
//!   something unreadable nothing is cut: a crash tears one of them at most.

use super::beginning::{begin_of, find_beginning, note_of, start_of};
use super::buffer::{BLOCK_BYTES, block_floor};
use super::commit_mark::{
    Beginning, CommitMark, Slots, epochs_crc, is_other_slot_rotten, newer_version, read_slots,
};
use super::epoch_checkpoint::{self, epoch_before, note_batch};
use super::index::Place;
use super::op::{SegmentId, SmallFile};
use super::quorum_state;
use super::segment::{Segment, Segments};
use super::summary::Summary;
use super::torn::Remains;
use super::{Corrupt, Doubt, Effort, LogConfig, LogSource, REFILL, RecoveredLog, RecoveryError};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, StampedBatch, check_fetched, may_begin_epoch};
use crate::types::*;
use bytes::Bytes;

/// A scan reads this much at once, or one batch where that is larger.
const SCAN_READ_BYTES: usize = 1 << 20;
/// What lies behind the good batches is looked at as a whole, up to this much: more was never one write.
const REMAINS_BYTES_MAX: u64 = 256 << 20;

const LOST_LOG: &str = "The log is empty, and quorum-state says that it has held what was committed: it was lost. This voter \
                        counts as one with an empty disk until a leader has filled it again. If its log is elsewhere (a \
                        volume that is not mounted), stop this node and put it back.";

/// A part of the log, in its order.
#[derive(Clone, Copy)]
pub enum Recovered<'a> {
    /// A valid batch.
    Batch(&'a StampedBatch),
    /// A whole segment, all of it committed.
    Segment(&'a Summary),
}

/// Who folds the log. `Err` of a segment: why nothing was taken of what its summary holds; then its batches follow. A batch is taken.
pub type OnRecovered<'a> = dyn FnMut(Recovered) -> Result<(), String> + 'a;

/// What `Log::new` must do before the node may speak, and what it goes on with.
pub(super) struct Repair {
    pub(super) segments: Segments,
    pub(super) beginning: Beginning,
    /// What is no more of the log, oldest first.
    pub(super) leftovers: Vec<SegmentId>,
    /// Newest first.
    pub(super) delete: Vec<SegmentId>,
    /// Zero the last segment from its length to here.
    pub(super) zero_to: Option<u64>,
    pub(super) flush: Vec<SegmentId>,
    /// Size of the last segment's file.
    pub(super) last_file_bytes: u64,
    /// Copy of the last partial block.
    pub(super) tail_block: Box<[u8; BLOCK_BYTES]>,
    pub(super) slots: Slots,
    /// quorum-state promises more than there is: this is true instead, and made durable before anything is repaired.
    pub(super) quorum_state: Option<QuorumState>,
    pub(super) checkpoint_stale: bool,
    /// Closed segments without a good summary, oldest first.
    pub(super) summaries_due: Vec<SegmentId>,
}

/// Look through the directory. `on_recovered` sees the whole log, in its order.
pub fn recover(
    source: &mut dyn LogSource,
    config: &LogConfig,
    on_recovered: &mut OnRecovered,
) -> Result<RecoveredLog, RecoveryError> {
    let mark_file = source.commit_mark()?;
    if let Some(version) = newer_version(mark_file.as_deref()) {
        return Err(RecoveryError::Newer { file: "commit-mark", version });
    }
    let slots = read_slots(mark_file.as_deref());
    let is_mark_doubtful =
        matches!(slots, Slots::Valid(_, slot) if is_other_slot_rotten(mark_file.as_deref(), slot));
    let mut files = source.segments()?;
    let (beginning, leftovers) = find_beginning(&slots, &mut files);
    let epoch_max = highest_epoch(source)?;
    let mut scan = Scan::new(source, config, slots, beginning, &files, on_recovered);
    (scan.epoch_max, scan.is_mark_doubtful) = (epoch_max, is_mark_doubtful);
    let stop = scan.scan_all(&files)?;
    let (delete, zero_to, doubt) = scan.judge(&files, &stop)?;
    scan.check_mark(&files)?;
    let effort = scan.effort();
    let Scan { segments, mut scanned, epochs, expected: log_end, mut notes, .. } = scan;
    let start = start_of(beginning, &epochs, epoch_max);
    notes.extend(note_of(&leftovers, start.offset));
    // The last one is not closed.
    scanned.pop_if(|id| segments.last().is_some_and(|last| last.id == *id));
    let log_epoch = if log_end == start.offset { start.epoch } else { epoch_before(&epochs, log_end) };
    let mut quorum_state = read_quorum_state(source, log_epoch, log_end, &mut notes)?;
    // One that begins where it ends has lost nothing: what was before it went.
    let forgets = quorum_state.caught_up && log_end == Offset(0);
    if forgets {
        quorum_state.caught_up = false;
        notes.push(LOST_LOG.to_string());
    }
    let checkpoint = source.small_file(SmallFile::LeaderEpochCheckpoint)?;
    let (committed, first_flush) = vouched(&slots, start.offset);
    let repair = Repair {
        beginning: Beginning { start, ..beginning },
        leftovers,
        last_file_bytes: last_file_bytes(&segments, &files),
        tail_block: read_tail_block(source, segments.last())?,
        flush: segments.0.iter().map(|s| s.id).filter(|id| *id >= first_flush).collect(),
        checkpoint_stale: checkpoint.unwrap_or_default() != epoch_checkpoint::encode(&epochs),
        summaries_due: scanned,
        quorum_state: forgets.then_some(quorum_state),
        segments,
        delete,
        zero_to,
        slots,
    };
    let log_end = LogEndOffset(log_end);
    let has_lost_log = forgets && !matches!(slots, Slots::Valid(..));
    Ok(RecoveredLog {
        quorum_state,
        start,
        log_end,
        committed,
        epochs,
        has_lost_log,
        effort,
        notes,
        doubt,
        repair,
    })
}

impl RecoveredLog {
    /// A commit mark says where it begins.
    pub(crate) fn has_mark(&self) -> bool {
        matches!(self.repair.slots, Slots::Valid(..))
    }

    /// Of the record before `end`. `None`: that is not in this log, or it has gone and no mark says it.
    pub(crate) fn epoch_before(&self, end: Offset) -> Option<Epoch> {
        let is_start = end == self.start.offset;
        if end < self.start.offset || end > self.log_end.0 {
            return None;
        }
        match is_start && self.start.offset > Offset(0) {
            true => self.repair.beginning.first.map(|_| self.start.epoch),
            false => Some(epoch_before(&self.epochs, end)),
        }
    }

    /// How far down others can be given it, and the epoch of the record before that: see `Log::begin`.
    pub(crate) fn begin(&self) -> OffsetAndEpoch {
        begin_of(self.repair.beginning, &self.repair.segments, &self.epochs)
    }

    /// Go on with what is good of a log in doubt. Only for a node that other voters can give what it lost: it is durable that
    /// it must not vote before that, and only then anything is cut.
    pub(crate) fn go_on_in_doubt(&mut self) {
        self.doubt = None;
        self.quorum_state.in_doubt = true;
        self.repair.quorum_state = Some(self.quorum_state);
    }
}

/// What was known to be committed, and the first segment that the next flush is for. Only a mark that the log has met gets so far.
fn vouched(slots: &Slots, start: Offset) -> (OffsetAndEpoch, SegmentId) {
    match slots {
        Slots::Valid(mark, _) => (mark.committed, mark.place.segment),
        _ => (OffsetAndEpoch { epoch: Epoch(0), offset: Offset(0) }, SegmentId(start)),
    }
}

/// The epoch of quorum-state, which is durable before any batch of that epoch is written. `None`: there is no such file, or
/// it cannot be read, which is told later.
fn highest_epoch(source: &mut dyn LogSource) -> Result<Option<Epoch>, RecoveryError> {
    let file = source.small_file(SmallFile::QuorumState)?;
    Ok(file.and_then(|file| quorum_state::decode(&file).ok()).map(|state| state.epoch))
}

/// Where the good batches end.
pub(super) struct Stop {
    /// Index of the last segment that belongs to the log.
    segment: usize,
    /// Why it is not a clean end; `None`: the file ends here, or nothing but zeros follows.
    why: Option<String>,
    /// End of the last byte behind it that is not zero.
    dirt_end: u64,
    /// How many bits are set behind it.
    dirt_bits: u64,
}

/// Segments to delete, end of the bytes to zero, and whether all of it may be cut.
type Judgement = (Vec<SegmentId>, Option<u64>, Option<Doubt>);

pub(super) struct Scan<'a> {
    pub(super) source: &'a mut dyn LogSource,
    pub(super) config: &'a LogConfig,
    pub(super) on_recovered: &'a mut OnRecovered<'a>,
    slots: Slots,
    /// One slot of the mark has rotted.
    is_mark_doubtful: bool,
    epoch_max: Option<Epoch>,
    beginning: Beginning,
    /// Base offset that the next batch must have.
    pub(super) expected: Offset,
    pub(super) epochs: Vec<EpochStart>,
    pub(super) segments: Segments,
    /// Segments of which no summary is believed.
    scanned: Vec<SegmentId>,
    /// A batch ended exactly where the mark says.
    mark_met: bool,
    window: Window,
    /// Read at least this much at once.
    pub(super) read_bytes_min: usize,
    bytes_read: u64,
    /// Segments of which the summary is believed.
    pub(super) summaries: usize,
    pub(super) notes: Vec<String>,
}

/// The bytes read last.
#[derive(Default)]
struct Window {
    segment: Option<SegmentId>,
    position: u64,
    bytes: Bytes,
}

impl<'a> Scan<'a> {
    fn new(
        source: &'a mut dyn LogSource,
        config: &'a LogConfig,
        slots: Slots,
        beginning: Beginning,
        files: &[(SegmentId, u64)],
        on_recovered: &'a mut OnRecovered<'a>,
    ) -> Scan<'a> {
        let oldest = files.first().map_or(beginning.start.offset, |(id, _)| id.0);
        // What ends where the oldest segment begins is met by no batch.
        let mark_met = matches!(slots, Slots::Valid(mark, _) if mark.end <= oldest);
        Scan {
            source,
            config,
            on_recovered,
            slots,
            is_mark_doubtful: false,
            epoch_max: None,
            beginning,
            expected: oldest,
            epochs: Vec::new(),
            segments: Segments::default(),
            scanned: Vec::new(),
            mark_met,
            window: Window::default(),
            read_bytes_min: SCAN_READ_BYTES,
            bytes_read: 0,
            summaries: 0,
            notes: Vec::new(),
        }
    }

    /// Epoch of the batch before the next one, also where that is gone.
    fn last_epoch(&self) -> Option<Epoch> {
        let gone = self.beginning.first.map(|_| self.beginning.first_epoch);
        self.epochs.last().map(|last| last.epoch).or(gone)
    }

    pub(super) fn mark(&self) -> Option<CommitMark> {
        match self.slots {
            Slots::Valid(mark, _) => Some(mark),
            _ => None,
        }
    }

    fn scan_all(&mut self, files: &[(SegmentId, u64)]) -> Result<Stop, RecoveryError> {
        let mut stop = Stop { segment: 0, why: None, dirt_end: 0, dirt_bits: 0 };
        for (i, (id, size)) in files.iter().enumerate() {
            if id.0 != self.expected {
                stop.why = Some(format!(
                    "the batches before it end at offset {}, but the next segment is {}",
                    self.expected,
                    id.file_name()
                ));
                return Ok(stop);
            }
            let is_last = i + 1 == files.len();
            stop = match self.believe_summary(*id, *size, is_last) {
                (true, _) => Stop { segment: i, why: None, dirt_end: *size, dirt_bits: 0 },
                (false, has_summary) => self.scan_segment(i, *id, *size, has_summary)?,
            };
            if stop.why.is_some() {
                return Ok(stop);
            }
        }
        Ok(stop)
    }

    fn scan_segment(
        &mut self,
        i: usize,
        id: SegmentId,
        size: u64,
        has_summary: bool,
    ) -> Result<Stop, RecoveryError> {
        let mut segment = Segment::new(id, self.config.index_interval_bytes);
        segment.has_summary = has_summary;
        self.scanned.push(id);
        let mut why = None;
        while segment.length < size && why.is_none() {
            let batch = self.next_batch(id, segment.length, size)?;
            match batch.and_then(|batch| self.check_epoch(&batch).map(|()| batch)) {
                Ok(batch) => self.take_batch(&mut segment, &batch),
                Err(bad) => why = Some(bad),
            }
        }
        let end = segment.length;
        self.push_segment(segment);
        let (dirt_end, dirt_bits) = if why.is_some() { self.dirt(id, end, size)? } else { (end, 0) };
        // Zeros are the space ahead of the writer.
        Ok(Stop { segment: i, why: why.filter(|_| dirt_end > end), dirt_end, dirt_bits })
    }

    /// An epoch lies outside of the CRC. Up to the mark the mark vouches for it; the writer has the mark vouch for each batch
    /// that begins one. Above it only a group that nobody was told of begins one: with a leader's first batch.
    fn check_epoch(&self, batch: &StampedBatch) -> Result<(), String> {
        let (base, epoch) = (batch.base_offset(), batch.epoch());
        let is_above = self.mark().is_some_and(|mark| base >= mark.end);
        if !is_above || self.last_epoch() == Some(epoch) {
            return Ok(());
        }
        if self.epoch_max.is_some_and(|highest| epoch > highest) {
            return Err(format!("the batch at {base} is of epoch {epoch}, which this node was never in"));
        }
        match may_begin_epoch(batch) {
            true => Ok(()),
            false => Err(format!("the batch at {base} begins epoch {epoch} and is no leader's first one")),
        }
    }

    fn take_batch(&mut self, segment: &mut Segment, batch: &StampedBatch) {
        // A batch that is in the log is folded, whatever it is.
        _ = (self.on_recovered)(Recovered::Batch(batch));
        let header = batch.header();
        segment.push(header);
        note_batch(&mut self.epochs, header.leader_epoch, header.base_offset);
        self.expected = header.next_offset();
        self.meet_mark(segment, header.leader_epoch);
    }

    /// All batches up to the end of this segment are known, the last one has this epoch: is that what the mark says?
    pub(super) fn meet_mark(&mut self, segment: &Segment, epoch: Epoch) {
        if let Some(mark) = self.mark()
            && mark.end == self.expected
        {
            let here = Place { segment: segment.id, position: segment.length };
            let at_next = Place { segment: SegmentId(mark.end), position: 0 };
            let start = mark.beginning.start.offset;
            let same_epochs = mark.epochs_crc == epochs_crc(&self.epochs, start, mark.end);
            let same_place = mark.place == here || mark.place == at_next;
            self.mark_met = same_place && same_epochs && mark.epoch == epoch;
        }
    }

    pub(super) fn push_segment(&mut self, mut segment: Segment) {
        segment.close();
        self.segments.0.push(segment);
    }

    fn effort(&self) -> Effort {
        Effort {
            bytes_read: self.bytes_read,
            log_bytes: self.segments.size_bytes(),
            segments: self.segments.0.len(),
            summaries: self.summaries,
        }
    }

    /// The batch at `position`; the inner error says why there is no good one.
    pub(super) fn next_batch(
        &mut self,
        id: SegmentId,
        position: u64,
        size: u64,
    ) -> Result<Result<StampedBatch, String>, RecoveryError> {
        let left = size - position;
        let head = self.bytes_at(id, position, size, BATCH_HEADER_BYTES)?;
        let Some(header) = BatchHeader::decode(&head) else {
            let short = left < BATCH_HEADER_BYTES as u64;
            let why = if short { "fewer than a batch header has" } else { "which are no batch header" };
            return Ok(Err(format!("{left} bytes are left, {why}")));
        };
        if header.size_bytes < BATCH_HEADER_BYTES || header.size_bytes as u64 > left {
            return Ok(Err(format!("a batch of {} bytes with {left} left in the file", header.size_bytes)));
        }
        let bytes = self.bytes_at(id, position, size, header.size_bytes)?;
        let (batches, error) = check_fetched(bytes.slice(..header.size_bytes.min(bytes.len())));
        Ok(match (batches.first(), error) {
            (Some(batch), _) => self.check_place(batch.header()).map(|()| batch.clone()),
            (None, Some(error)) => Err(error.to_string()),
            (None, None) => Err("the file ends inside of the batch".to_string()),
        })
    }

    fn check_place(&self, header: &BatchHeader) -> Result<(), String> {
        let (base, epoch) = (header.base_offset, header.leader_epoch);
        if base != self.expected {
            return Err(format!("a batch at offset {base} where {} is due", self.expected));
        }
        match self.last_epoch() {
            Some(before) if epoch < before => {
                Err(format!("the batch at {base} is of epoch {epoch}, the one before it of {before}"))
            }
            _ => Ok(()),
        }
    }

    /// At least `length` bytes from `position` on, fewer where the file ends.
    fn bytes_at(
        &mut self,
        id: SegmentId,
        position: u64,
        size: u64,
        length: usize,
    ) -> Result<Bytes, RecoveryError> {
        let wanted = (length as u64).min(size - position);
        let window = &self.window;
        let inside = window.segment == Some(id)
            && window.position <= position
            && position + wanted <= window.position + window.bytes.len() as u64;
        if !inside {
            let count = wanted.max(self.read_bytes_min as u64).min(size - position) as usize;
            let bytes = self.source.read(id, position, count)?;
            self.bytes_read += bytes.len() as u64;
            self.window = Window { segment: Some(id), position, bytes };
        }
        let start = (position - self.window.position) as usize;
        Ok(self.window.bytes.slice(start.min(self.window.bytes.len())..))
    }

    /// End of the last byte from `position` on that is not zero, and how many bits are set.
    fn dirt(&mut self, id: SegmentId, position: u64, size: u64) -> Result<(u64, u64), RecoveryError> {
        let (mut at, mut end, mut bits) = (position, position, 0);
        while at < size {
            let bytes = self.bytes_at(id, at, size, 1)?;
            if bytes.is_empty() {
                break;
            }
            if let Some(last) = bytes.iter().rposition(|b| *b != 0) {
                end = at + last as u64 + 1;
                bits += bytes[..=last].iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>();
            }
            at += bytes.len() as u64;
        }
        Ok((end, bits))
    }

    /// Rot or a torn tail?
    fn judge(&mut self, files: &[(SegmentId, u64)], stop: &Stop) -> Result<Judgement, RecoveryError> {
        self.check_start(files)?;
        let end = self.end_place();
        let corrupt = |why: String| Corrupt { segment: end.segment.file_name(), position: end.position, why };
        let why = stop.why.clone().unwrap_or_else(|| "the log ends here".to_string());
        if let Some(mark) = self.mark()
            && self.expected < mark.end
        {
            let (expected, durable) = (self.expected, mark.end);
            return Err(corrupt(format!(
                "{why}; records from offset {expected} to {durable} were durable once, so this is rot and not a torn \
                 tail, and nothing was cut. {REFILL}"
            ))
            .into());
        }
        let Some(reason) = &stop.why else { return Ok((Vec::new(), None, None)) };
        if self.slots == Slots::Rotten {
            return Err(corrupt(format!(
                "{reason}; the commit mark that would tell a torn tail from rot cannot be read either"
            ))
            .into());
        }
        let later = &files[stop.segment + 1..];
        if !later.is_empty() && (self.mark().is_some() || self.any_good_batch(later)?) {
            return Err(
                corrupt(format!("{reason}; a later segment follows, so this one was whole once")).into()
            );
        }
        let cut = stop.dirt_end - end.position;
        let doubt = self.check_torn(files, stop)?.err().map(|against| Doubt {
            segment: end.segment.file_name(),
            position: end.position,
            offset: self.expected,
            why: format!("{reason}; {against}"),
        });
        if doubt.is_none() {
            let what = if stop.dirt_bits == 1 { "a stray bit" } else { "a torn tail" };
            self.notes.push(format!(
                "Cut {what} of {cut} bytes at byte {} of {}, offset {}: {reason}.",
                end.position,
                end.segment.file_name(),
                self.expected
            ));
        }
        let delete = later.iter().rev().map(|(id, _)| *id).collect();
        Ok((delete, (cut > 0).then_some(stop.dirt_end), doubt))
    }

    /// The inner error: what speaks against it.
    fn check_torn(
        &mut self,
        files: &[(SegmentId, u64)],
        stop: &Stop,
    ) -> Result<Result<(), String>, RecoveryError> {
        let Place { segment, position } = self.end_place();
        let length = stop.dirt_end - position;
        // Of a batch that was acknowledged more than that is left, whatever bit has flipped.
        if stop.dirt_bits == 1 {
            return Ok(Ok(()));
        }
        if self.is_mark_doubtful {
            return Ok(Err("a slot of the commit mark has rotted, and may have vouched for it".to_string()));
        }
        if length > REMAINS_BYTES_MAX {
            return Ok(Err(format!("{length} bytes are more than one write")));
        }
        let size = files.iter().find(|(id, _)| *id == segment).map_or(0, |(_, size)| *size);
        let bytes = self.bytes_at(segment, position, size, length as usize)?;
        let Some(bytes) = bytes.get(..length as usize) else {
            return Ok(Err("the file became shorter while it was read".to_string()));
        };
        let lowest = self.last_epoch().unwrap_or(Epoch(0));
        let remains = Remains {
            bytes,
            position,
            file_left: size - position,
            expected: self.expected,
            epochs: (lowest, self.epoch_max.unwrap_or(Epoch(i32::MAX)).max(lowest)),
            group_bytes_max: self.config.group_bytes_max.max(BLOCK_BYTES) as u64,
            is_foreign: self.mark().is_none(),
        };
        Ok(remains.check_torn())
    }

    /// The oldest segments are where the mark says that the log starts.
    fn check_start(&self, files: &[(SegmentId, u64)]) -> Result<(), RecoveryError> {
        let Some(mark) = self.mark() else { return Ok(()) };
        let start = mark.beginning.start.offset;
        let first = self.beginning.first.unwrap_or(SegmentId(start));
        // Nothing has been there since the start only where no segment begins before it.
        let missing = files.first().map_or(mark.end > start || first.0 < start, |(id, _)| *id > first);
        if missing {
            let segment = first.file_name();
            let why = "the file is missing; the log began with it. Restore it".to_string();
            return Err(Corrupt { segment, position: 0, why }.into());
        }
        Ok(())
    }

    fn end_place(&self) -> Place {
        let last = self.segments.last();
        Place {
            segment: last.map_or(SegmentId(self.beginning.start.offset), |s| s.id),
            position: last.map_or(0, |s| s.length),
        }
    }

    /// Does any of these segments begin with a whole batch of its own base offset?
    fn any_good_batch(&mut self, files: &[(SegmentId, u64)]) -> Result<bool, RecoveryError> {
        let (expected, epochs) = (self.expected, std::mem::take(&mut self.epochs));
        let mut found = false;
        for (id, size) in files {
            self.expected = id.0;
            found |= self.next_batch(*id, 0, *size)?.is_ok();
        }
        (self.expected, self.epochs) = (expected, epochs);
        Ok(found)
    }

    /// All is good up to the mark; then the log must be the one that the mark was written for.
    fn check_mark(&mut self, files: &[(SegmentId, u64)]) -> Result<(), RecoveryError> {
        let Some(mark) = self.mark() else {
            let start = self.beginning.start.offset;
            if !files.is_empty() && self.expected > start {
                self.notes.push(
                    "Found no commit mark beside the log (another program wrote it, or the file was removed): \
                     this once, rot at its end cannot be told from a torn tail."
                        .to_string(),
                );
            }
            // It would have said so where the start lay inside of the segment.
            if !files.is_empty() && start > Offset(0) {
                self.notes.push(format!(
                    "The log is taken to start at {start}, where its oldest segment begins, for no commit mark says otherwise: \
                     records that were deleted in that segment are read again."
                ));
            }
            return Ok(());
        };
        let Beginning { start, first, .. } = mark.beginning;
        // Where the batch before the start is there, it says so itself.
        let is_seen = first.is_some_and(|first| first.0 < start.offset);
        if self.mark_met && (!is_seen || epoch_before(&self.epochs, start.offset) == start.epoch) {
            return Ok(());
        }
        let why = format!(
            "the batches up to offset {} are not those that the commit mark was written for (no batch of epoch {} ends \
             there, or their epochs differ): a batch's epoch is rotten, or the files are not of one log",
            mark.end, mark.epoch
        );
        Err(Corrupt { segment: mark.place.segment.file_name(), position: mark.place.position, why }.into())
    }
}

fn last_file_bytes(segments: &Segments, files: &[(SegmentId, u64)]) -> u64 {
    let last = segments.last().map(|s| s.id);
    files.iter().find(|(id, _)| Some(*id) == last).map_or(0, |(_, size)| *size)
}

fn read_tail_block(
    source: &mut dyn LogSource,
    last: Option<&Segment>,
) -> Result<Box<[u8; BLOCK_BYTES]>, RecoveryError> {
    let mut block = Box::new([0; BLOCK_BYTES]);
    let Some(last) = last else { return Ok(block) };
    let start = block_floor(last.length);
    let length = (last.length - start) as usize;
    if length > 0 {
        let bytes = source.read(last.id, start, length)?;
        let Some(bytes) = bytes.get(..length) else {
            let why = "the file became shorter while it was read".to_string();
            return Err(Corrupt { segment: last.id.file_name(), position: start, why }.into());
        };
        block[..length].copy_from_slice(bytes);
    }
    Ok(block)
}

fn read_quorum_state(
    source: &mut dyn LogSource,
    log_epoch: Epoch,
    log_end: Offset,
    notes: &mut Vec<String>,
) -> Result<QuorumState, RecoveryError> {
    let Some(file) = source.small_file(SmallFile::QuorumState)? else {
        if log_end == Offset(0) {
            return Ok(QuorumState::EMPTY);
        }
        notes.push(format!(
            "Found no quorum-state beside a log: going on in epoch {log_epoch} as a voter that has forgotten its votes."
        ));
        return Ok(QuorumState { epoch: log_epoch, ..QuorumState::EMPTY });
    };
    let state = quorum_state::decode(&file).map_err(|why| Corrupt {
        segment: "quorum-state".to_string(),
        position: 0,
        why: format!("{why}. It holds this voter's votes, so guessing could elect two leaders. {REFILL}"),
    })?;
    if state.epoch < log_epoch {
        // Kafka: QuorumState.initialize.
        notes.push(format!(
            "Raised the epoch of quorum-state from {} to {log_epoch}, that of the log's last batch.",
            state.epoch
        ));
        return Ok(QuorumState { epoch: log_epoch, leader: None, voted: None, ..state });
    }
    Ok(state)
}
