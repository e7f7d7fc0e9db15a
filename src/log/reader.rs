//! Reads: from memory at once, else from the device by the sparse index.
//!
//! Called by the replica for fetches. Gives whole batches whose CRC holds and which lie where the index says; never bytes that
//! are not flushed, and never rot: that is `ReadError::Corrupt`. Each read of the device brings a block (`blocks`), from which
//! all are served who wait for it; one begun ahead of a reader has nobody waiting at first.

use super::blocks::{Load, Pin, Waiter, Want};
use super::epoch_checkpoint::epoch_before;
use super::flights::Purpose;
use super::index::Place;
use super::segment::Segment;
use super::{
    Corrupt, DiskError, Done, Log, LogEvent, MemoryWork, OpId, OpKind, ReadError, ReadOutcome, SegmentId,
    read_span,
};
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, BatchList, CheckedRun, check_run};
use crate::types::*;

/// So many pieces are made ready ahead of their use, off this core, and no more than one part in so many of the cache.
const READY_PIECES: usize = 8;
const READY_PART: usize = 8;
/// With so many pieces in use a read for which none is ready has that of the oldest block; with fewer it has a new one.
const GROWN_PIECES: usize = 16;
/// But once in so long it has a new one all the same: on a machine that never rests none would ever be made ready.
const NEW_PIECE_NS: u64 = 20 * NS_PER_MS;

/// For the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct BlockCounts {
    /// Of all memory that was read into: blocks, reads that will become some, and what answers have of others.
    pub(crate) bytes: usize,
    pub(crate) bytes_max: usize,
    /// Beside them: memory that waits to be read into.
    pub(crate) free_bytes: usize,
    /// Of blocks that answers have slices of.
    pub(crate) pinned_bytes: usize,
    /// Asked for and there, or on its way for another reader.
    pub(crate) hits: u64,
    /// Read from the device for who asked.
    pub(crate) misses: u64,
    /// Read from the device before anybody asked.
    pub(crate) ahead: u64,
}

/// What the bytes of a read are.
#[derive(Default)]
struct Judged {
    /// The good batches, from where the read began.
    run: Option<CheckedRun>,
    /// Why there are no more of them; `None`: no more were read.
    why: Option<ReadError>,
    /// A batch begins behind them, and is so large.
    due_bytes: usize,
    /// Of the block that they become.
    pin: Pin,
}

/// What becomes of somebody who waited for a read.
enum Served {
    With(Result<BatchList, ReadError>),
    /// The batch wanted is not whole in what was read, or lies behind it: it is due at this place.
    ReadOn(Place, Offset, usize),
    /// The read was another's, and brought less than it was to; or it failed, and another one did not.
    Anew,
}

impl Log {
    /// From memory or, as `OnDevice` says, from the device.
    #[cfg(test)]
    pub(crate) fn read(&mut self, from: Offset, bound: Offset, max_bytes: usize, token: u64) -> ReadOutcome {
        let want = Want { from, bound, max_bytes, keep: std::sync::Arc::new(()) };
        let outcome = self.read_memory(from, bound, max_bytes);
        match outcome {
            ReadOutcome::OnDevice => self.read_device(token, want, false),
            ReadOutcome::InBlock => {
                return ReadOutcome::Batches(self.read_block(want).expect("it was there"));
            }
            _ => {}
        }
        outcome
    }

    /// Read whole batches from the one that contains `from`, below `bound` (a batch that reaches over it is left out), at most
    /// `max_bytes` but at least one batch. Ends at a segment's end. From `begin` on, as replicas do; who is none does not ask for what
    /// lies before the start.
    pub(crate) fn read_memory(&mut self, from: Offset, bound: Offset, max_bytes: usize) -> ReadOutcome {
        if from < self.begin.offset || from > self.log_end || self.is_installing() {
            return ReadOutcome::OutOfRange;
        }
        let bound = bound.min(self.log_end);
        if from >= bound {
            return ReadOutcome::Empty;
        }
        match self.tail.read(from, bound, max_bytes, &mut self.lists) {
            Some(batches) if batches.is_empty() => ReadOutcome::Empty,
            Some(batches) => ReadOutcome::Batches(batches),
            None => match self.blocks.get(from).map(|run| run.slice(from, bound, 0)) {
                Some(Some(_)) => ReadOutcome::InBlock,
                Some(None) => ReadOutcome::Empty,
                None => ReadOutcome::OnDevice,
            },
        }
    }

    /// Where `read_memory` has just said `InBlock`.
    pub(crate) fn read_block(&mut self, want: Want) -> Option<BatchList> {
        let (slice, pin) = self.blocks.take(&want)?;
        self.note_reader();
        Some(slice.kept((want.keep, pin)).into())
    }

    /// Where `read_memory` has just said `OnDevice`. `fills_piece`: who asks reads on behind what he wants.
    pub(crate) fn read_device(&mut self, token: u64, mut want: Want, fills_piece: bool) {
        self.note_reader();
        if self.is_installing() {
            return self.events.push_back(LogEvent::ReadDone { token, result: Err(ReadError::Gone) });
        }
        // Beyond it the device may still hold what a truncation is about to cut.
        want.bound = want.bound.min(self.log_end).min(self.flushed);
        let bytes = if fills_piece { self.config.read_piece_bytes } else { want.max_bytes };
        let from = want.from;
        if let Some(waiter) = self.blocks.join(Waiter { token, want, was_read: false }) {
            self.load(from, bytes, Some(waiter));
        }
    }

    /// Nobody waits for it yet: whoever reads on from `from` will. Up to so many bytes behind it are in memory then. False: no
    /// read was begun.
    pub(crate) fn read_ahead(&mut self, from: Offset, bytes: usize) -> bool {
        let Some((next, there_bytes)) = self.blocks.first_missing(from) else { return false };
        let is_device = (self.log_start()..self.flushed).contains(&next)
            && self.tail.start().is_none_or(|start| next < start);
        if !is_device || self.is_installing() || there_bytes >= bytes || !self.has_room_ahead() {
            return false;
        }
        self.load(next, self.config.read_piece_bytes, None)
    }

    /// Without taking any memory that somebody wants.
    fn has_room_ahead(&mut self) -> bool {
        let most = self.read_cache_bytes_max.saturating_sub(self.config.read_piece_bytes);
        while self.read_cache_bytes_max > 0 && self.pieces.out_bytes() > most {
            if !self.blocks.put_cold_out() {
                return false;
            }
        }
        self.read_cache_bytes_max >= self.config.read_piece_bytes
    }

    /// Read as many runs as have so many bytes, one at least, and no more than a piece has room for.
    /// False: nothing is read ahead that no piece has room for.
    fn load(&mut self, from: Offset, bytes: usize, founder: Option<Waiter>) -> bool {
        let segment = self.segments.holding(from).expect("an offset of the log lies in a segment");
        let behind = self.blocks.place_behind(from).filter(|place| place.segment == segment.id);
        let (position, base) = behind.map(|place| (place.position, from)).unwrap_or_else(|| {
            let run = segment.run_of(from).expect("an offset below the flushed end is indexed");
            (run.position, run.offset)
        });
        let room = self.config.read_piece_bytes - (position % BLOCK) as usize;
        let flushed = (self.flushed_bytes(segment), self.flushed_end(segment));
        let most = position + bytes.min(room) as u64;
        let (end_position, end) = segment.runs_until(position, most, self.blocks.next_base(from), flushed);
        let length = usize::try_from(end_position - position).unwrap_or(usize::MAX);
        // Behind it the index may have what is about to be cut.
        let end = end.min(self.flushed);
        let place = Place { segment: segment.id, position };
        // Of a run that is longer than a piece the first batches, and who wants others reads them for himself.
        if length > room && founder.is_none() {
            return false;
        }
        let (length, end) = if length > room { (room, Offset(from.0 + 1)) } else { (length, end) };
        self.submit_load(place, base, length, end, founder);
        true
    }

    /// How far the segment may be read: to the end of its last flushed batch.
    fn flushed_bytes(&self, segment: &Segment) -> u64 {
        match segment.id == self.flushed_place.segment {
            true => self.flushed_place.position.min(segment.length),
            false => segment.length,
        }
    }

    fn segment_end(&self, id: SegmentId) -> u64 {
        self.segments.holding(id.0).filter(|segment| segment.id == id).map_or(0, |s| self.flushed_bytes(s))
    }

    /// Offset behind that batch.
    fn flushed_end(&self, segment: &Segment) -> Offset {
        self.segments.end_of(segment.id).map_or(self.flushed, |next| next.min(self.flushed))
    }

    fn submit_load(
        &mut self,
        Place { segment, position }: Place,
        base: Offset,
        length: usize,
        end: Offset,
        founder: Option<Waiter>,
    ) {
        self.make_room(read_span(position, length).0.max(self.config.read_piece_bytes));
        let is_kept = read_span(position, length).0 <= self.config.read_piece_bytes;
        if is_kept {
            self.save_memory();
        }
        let op = self.read_op(segment, position, length);
        let id = self.submit(op, Purpose::Read);
        let (flushed, cuts) = (self.flushed, self.blocks.cuts());
        let load = Load {
            segment,
            position,
            length,
            base,
            end,
            flushed,
            is_kept,
            cuts,
            founder,
            others: Vec::new(),
        };
        self.blocks.begin_load(id, load);
        self.make_ready();
    }

    /// Who reads into memory that is new waits for it as long as for the device. So where none lies ready the cache grows a little,
    /// and gives the memory of its oldest block.
    fn save_memory(&mut self) {
        let piece_bytes = self.config.read_piece_bytes;
        if self.pieces.count_free(piece_bytes) > 0 || self.pieces.out_bytes() < GROWN_PIECES * piece_bytes {
            return;
        }
        let is_due = |grown_ns: u64| self.now_ns >= grown_ns + NEW_PIECE_NS;
        if self.grown_ns.is_none_or(is_due) {
            self.grown_ns = Some(self.now_ns);
        } else {
            self.blocks.put_one_out();
        }
    }

    fn ready_max(&self) -> usize {
        (self.read_cache_bytes_max / self.config.read_piece_bytes / READY_PART).min(READY_PIECES)
    }

    /// So many free pieces stay though no read has needed them for a while, as long as there are readers: the next read would have
    /// others made ready in their place.
    pub(super) fn count_kept_ready(&mut self) -> usize {
        let room = self.read_cache_bytes_max.saturating_sub(self.pieces.out_bytes());
        let most = self.ready_max().min(room / self.config.read_piece_bytes);
        if self.has_readers() { most } else { 0 }
    }

    /// As memory is read into, more is made ready, until the cache is as large as it may be.
    fn make_ready(&mut self) {
        let piece_bytes = self.config.read_piece_bytes;
        let most = self.ready_max();
        let fits = |log: &mut Log| {
            let ready = log.pieces.count_free(piece_bytes) + log.written.touching;
            let bytes = log.pieces.out_bytes() + log.pieces.free_bytes() + log.pieces.leaving_bytes();
            ready < most && bytes + piece_bytes <= log.read_cache_bytes_max
        };
        while fits(self) {
            self.written.touching += 1;
            let piece = self.pieces.take_new(piece_bytes);
            self.submit(OpKind::Memory(MemoryWork::Touch { piece }), Purpose::Touch);
        }
    }

    /// Let blocks go until so much has room beside all memory that was read into, as far as nobody has a slice of them. True: it
    /// has.
    pub(super) fn make_room(&mut self, bytes: usize) -> bool {
        while self.pieces.out_bytes() + bytes > self.read_cache_bytes_max {
            if !self.blocks.put_one_out() {
                return false;
            }
        }
        true
    }

    /// So many bytes are kept for readers from now on.
    pub(crate) fn set_read_cache(&mut self, bytes_max: usize) {
        self.read_cache_bytes_max = bytes_max;
        self.make_room(0);
    }

    /// Reads ahead that are under way.
    pub(crate) fn loads_ahead(&self) -> usize {
        self.blocks.loads_ahead()
    }

    pub(crate) fn block_counts(&self) -> BlockCounts {
        let [hits, misses, ahead] = self.blocks.counts();
        BlockCounts {
            bytes: self.pieces.known_out_bytes() + self.pieces.leaving_bytes(),
            bytes_max: self.read_cache_bytes_max,
            free_bytes: self.pieces.free_bytes(),
            pinned_bytes: self.blocks.pinned() * self.config.read_piece_bytes,
            hits,
            misses,
            ahead,
        }
    }

    /// With memory for what is read.
    pub(super) fn read_op(&mut self, segment: SegmentId, position: u64, length: usize) -> OpKind {
        let piece = self.pieces.take(read_span(position, length).0);
        OpKind::Read { segment, position, length, piece }
    }

    pub(super) fn complete_read(&mut self, id: OpId, result: Result<Done, DiskError>) {
        let mut load = self.blocks.end_load(id);
        let is_ahead = load.founder.is_none();
        let judged = self.judge_load(&load, result);
        let waiters = load.take_waiters();
        let good_end = judged.run.as_ref().map_or(load.base, CheckedRun::next_offset);
        // What was begun before a cut says nothing of what came in its place.
        if load.cuts == self.blocks.cuts() {
            if let Some(run) = &judged.run {
                self.events.push_back(LogEvent::Readable(run.base_offset(), run.next_offset()));
                self.blocks.on_good(run.base_offset()..run.next_offset());
            }
            if is_ahead && judged.why.is_some() {
                self.blocks.note_unreadable(good_end..load.end);
            }
        }
        let has_room = self.read_cache_bytes_max >= self.config.read_piece_bytes;
        // One that wastes most of its memory would put out another one.
        let position_behind = load.position + load.length as u64;
        let is_whole = 4 * load.length >= self.config.read_piece_bytes
            || position_behind == self.segment_end(load.segment)
            || waiters.len() > 1;
        let is_there = self.segments.holding(load.segment.0).is_some_and(|s| s.id == load.segment);
        if load.is_kept && is_whole && has_room && is_there && load.cuts == self.blocks.cuts() {
            let flushed =
                judged.run.as_ref().and_then(|run| run.slice(run.base_offset(), load.flushed, usize::MAX));
            if let Some(run) = flushed {
                let position = load.position + run.size_bytes() as u64;
                self.blocks.keep(
                    run,
                    Some(Place { segment: load.segment, position }),
                    false,
                    judged.pin.clone(),
                );
            }
        }
        for (mut waiter, is_founder) in waiters {
            match self.serve(&load, &judged, &waiter, is_founder) {
                Served::With(result) => {
                    if let Some((_, next)) = result.as_ref().ok().and_then(BatchList::ends) {
                        self.blocks.on_given(waiter.want.from, next);
                    }
                    self.events.push_back(LogEvent::ReadDone { token: waiter.token, result });
                }
                Served::ReadOn(..) | Served::Anew if self.is_installing() => {
                    let result = Err(ReadError::Gone);
                    self.events.push_back(LogEvent::ReadDone { token: waiter.token, result });
                }
                Served::ReadOn(place, base, length) => {
                    let end = Offset(waiter.want.from.0 + 1);
                    self.submit_load(place, base, length, end, Some(waiter));
                }
                Served::Anew => {
                    waiter.was_read = false;
                    let (from, bytes) = (waiter.want.from, waiter.want.max_bytes);
                    if let Some(waiter) = self.blocks.join(waiter) {
                        self.load(from, bytes, Some(waiter));
                    }
                }
            }
        }
        drop(judged);
        self.make_room(0);
    }

    fn judge_load(&self, load: &Load, result: Result<Done, DiskError>) -> Judged {
        let bytes = match result {
            // Shorter than asked for where a truncation cut the file behind the bound.
            Ok(Done::Read(filled)) => filled.into_bytes(),
            Ok(Done::Complete | Done::Copied(_)) => {
                let why = "the device read nothing".to_string();
                return Judged { why: Some(load.corrupt(0, why)), ..Judged::default() };
            }
            Err(error) => return Judged { why: Some(error.into()), ..Judged::default() },
        };
        let bytes = bytes.slice(..load.length.min(bytes.len()));
        let (run, error) = check_run(bytes.clone());
        if let Some(base) = run.as_ref().map(CheckedRun::base_offset).filter(|base| *base != load.base) {
            let why = format!("a batch at offset {base} where {} was written", load.base);
            return Judged { why: Some(load.corrupt(0, why)), ..Judged::default() };
        }
        let good_bytes = run.as_ref().map_or(0, CheckedRun::size_bytes);
        if let Some(strange) = run.as_ref().and_then(|run| self.strange_epoch(run)) {
            let (at, header, why) = strange;
            let run = run.and_then(|run| run.slice(load.base, header.base_offset, usize::MAX));
            return Judged {
                run: run.filter(|_| at > 0),
                why: Some(load.corrupt(at, why)),
                ..Judged::default()
            };
        }
        let why = error.map(|error| load.corrupt(good_bytes, error.to_string())).or_else(|| {
            let why = || load.corrupt(good_bytes, "the file ends before the log does".to_string());
            (bytes.len() < load.length).then(why)
        });
        Judged { run, why, due_bytes: due_bytes(&bytes[good_bytes..]), pin: Pin::default() }
    }

    /// The first batch whose epoch, which lies outside of its CRC, is not that of the log there.
    fn strange_epoch(&self, run: &CheckedRun) -> Option<(usize, BatchHeader, String)> {
        run.headers().find_map(|(at, header)| {
            let epoch = epoch_before(&self.epochs, header.next_offset());
            let why = || format!("a batch of epoch {} where one of {epoch} was written", header.leader_epoch);
            (header.leader_epoch != epoch).then(|| (at, header, why()))
        })
    }

    fn serve(&self, load: &Load, judged: &Judged, waiter: &Waiter, is_founder: bool) -> Served {
        let segment = self.segments.holding(load.segment.0).filter(|segment| segment.id == load.segment);
        let Some(segment) = segment.filter(|_| waiter.want.from < waiter.want.bound) else {
            return Served::With(Err(ReadError::Gone));
        };
        let run = judged.run.as_ref();
        if let Some(run) =
            run.filter(|run| run.base_offset() <= waiter.want.from && waiter.want.from < run.next_offset())
        {
            let slice = run.slice(waiter.want.from, waiter.want.bound, waiter.want.max_bytes);
            let kept = slice.map(|slice| slice.kept((waiter.want.keep.clone(), judged.pin.clone())));
            return Served::With(Ok(kept.map(BatchList::from).unwrap_or_default()));
        }
        match &judged.why {
            _ if !is_founder => Served::Anew,
            Some(_) if waiter.was_read => Served::Anew,
            Some(why) => Served::With(Err(why.clone())),
            None => self.read_on(load, judged, segment),
        }
    }

    fn read_on(&self, load: &Load, judged: &Judged, segment: &Segment) -> Served {
        let good_bytes = judged.run.as_ref().map_or(0, CheckedRun::size_bytes);
        let position = load.position + good_bytes as u64;
        let base = judged.run.as_ref().map_or(load.base, CheckedRun::next_offset);
        let left = self.flushed_bytes(segment).saturating_sub(position);
        let due = judged.due_bytes;
        if due as u64 > left || due <= load.length - good_bytes {
            let why = format!("a batch of {due} bytes where the log has {left}");
            return Served::With(Err(load.corrupt(good_bytes, why)));
        }
        let room = self.config.read_piece_bytes - (position % BLOCK) as usize;
        // Whoever looks for a batch in a run that is longer than a piece does not read it batch by batch.
        let length = due.max(room) as u64;
        Served::ReadOn(Place { segment: segment.id, position }, base, length.min(left) as usize)
    }
}

/// Of the batch that begins here, as far as it can be seen.
fn due_bytes(bytes: &[u8]) -> usize {
    BatchHeader::decode(bytes).map_or(BATCH_HEADER_BYTES, |header| header.size_bytes)
}

const BLOCK: u64 = super::BLOCK_BYTES as u64;

impl Load {
    /// At so many bytes behind where it began.
    fn corrupt(&self, at: usize, why: String) -> ReadError {
        Corrupt { segment: self.segment.file_name(), position: self.position + at as u64, why }.into()
    }
}
