//! The commit mark: a small file that says how far the log was durable, at least.
//!
//! Recovery needs it to tell a torn tail (cut it) from rotten data (refuse): a bad batch below the mark was once
//! durable. It is a lower bound, so it may be late, and is written as a plain write beside a later group.
//!
//! Two slots of 4 KiB. At least one is durable at any time: plain writes go only to the other one, a durable write
//! too, and then they swap. So a mark torn by a crash leaves the other. Everything that a slot may hold after a crash was
//! true: marks rise, and the one that falls (before a truncation) is durable before anything is cut.
//!
//! A mark has two bounds. `end` is of what was flushed: a deposed leader's tail below it may rightly be cut. `committed` is of
//! what this node knew to be committed: nothing ever cuts below it, not after a restart either (Raft holds it against whoever
//! leads). A mark of version 1 has no `committed`, and proves nothing about it.
//!
//! And it says where the log begins. A log whose start never moved has marks of version 2, which know no start but that of the
//! oldest segment: a program of before goes on with it. The first move makes them version 3.
//! The sum of that one, and of all later versions, lies at the end of the sector, so that a later one is told from rot.

use super::buffer::BLOCK_BYTES;
use super::index::Place;
use super::op::SegmentId;
use crate::types::*;

/// Size of the commit mark's file.
pub(crate) const COMMIT_MARK_FILE_BYTES: usize = 2 * BLOCK_BYTES;
/// A busy log writes its mark after this many flushed bytes.
pub(crate) const COMMIT_MARK_INTERVAL_BYTES: u64 = 1 << 20;

const MAGIC: &[u8; 8] = b"KRFTMARK";
/// With a start. The checksum lies at the end of the sector from here on.
const VERSION: u32 = 3;
/// Of a log whose start never moved.
const VERSION_2: u32 = 2;
/// Without `committed`. Read only.
const VERSION_1: u32 = 1;
/// All of a mark, its checksum included, lies in the first 512-byte sector of its slot.
pub(super) const MARK_BYTES: usize = 512;
const MARK_2_BYTES: usize = 76;
const MARK_1_BYTES: usize = 64;
const CRC_BYTES: usize = 4;

/// Where a log begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beginning {
    /// First offset that readers find, and the epoch of the record before it. It may lie inside of a batch.
    pub(super) start: OffsetAndEpoch,
    /// The oldest segment that belongs to the log: what lies before it is left over, or of another log. `None`: the start never
    /// moved, and the oldest that there is begins it.
    pub(super) first: Option<SegmentId>,
    /// Of the record before that segment, which may be older than the one before the start; 0 where the start never moved.
    pub(super) first_epoch: Epoch,
}

impl Beginning {
    /// Of a log whose start never moved.
    pub(super) fn unmoved(start: Offset) -> Beginning {
        let start = OffsetAndEpoch { epoch: Epoch(0), offset: start };
        Beginning { start, first: None, first_epoch: Epoch(0) }
    }

    /// With a segment of its own: nothing of what was before it is there.
    pub(super) fn anew(start: OffsetAndEpoch) -> Beginning {
        Beginning { start, first: Some(SegmentId(start.offset)), first_epoch: start.epoch }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct CommitMark {
    /// The higher one of two valid slots counts.
    pub(super) sequence: u64,
    /// All batches below it were durable when the mark was written.
    pub(super) end: Offset,
    /// Epoch of the last batch before `end`, 0 where there is none.
    pub(super) epoch: Epoch,
    /// Where that batch ends.
    pub(super) place: Place,
    pub(super) beginning: Beginning,
    /// Checksum of the epochs between the start and `end`: a batch's own CRC does not cover its epoch.
    pub(super) epochs_crc: u32,
    /// All batches below it were known to be committed, the last of them is of this epoch. At most `end`; it never falls.
    pub(super) committed: OffsetAndEpoch,
}

impl CommitMark {
    pub(super) fn encode(&self) -> [u8; MARK_BYTES] {
        let (version, length) = match self.beginning.first {
            Some(_) => (VERSION, MARK_BYTES),
            None => (VERSION_2, MARK_2_BYTES),
        };
        let mut bytes = [0; MARK_BYTES];
        let mut rest = &mut bytes[..];
        let mut put = |field: &[u8]| {
            let (head, tail) = std::mem::take(&mut rest).split_at_mut(field.len());
            head.copy_from_slice(field);
            rest = tail;
        };
        put(MAGIC);
        put(&version.to_be_bytes());
        put(&self.sequence.to_be_bytes());
        put(&self.end.0.to_be_bytes());
        put(&self.epoch.0.to_be_bytes());
        put(&self.place.segment.0.0.to_be_bytes());
        put(&self.place.position.to_be_bytes());
        put(&self.beginning.start.offset.0.to_be_bytes());
        put(&self.epochs_crc.to_be_bytes());
        put(&self.committed.offset.0.to_be_bytes());
        put(&self.committed.epoch.0.to_be_bytes());
        if let Some(first) = self.beginning.first {
            put(&self.beginning.start.epoch.0.to_be_bytes());
            put(&first.0.0.to_be_bytes());
            put(&self.beginning.first_epoch.0.to_be_bytes());
        }
        let (body, crc) = bytes[..length].split_at_mut(length - CRC_BYTES);
        crc.copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
        bytes
    }

    /// `None` where these bytes are not a whole mark of a version that is known here.
    pub(super) fn decode(slot: &[u8]) -> Option<CommitMark> {
        let version = version_of(slot)?;
        let length = match version {
            VERSION => MARK_BYTES,
            VERSION_2 => MARK_2_BYTES,
            VERSION_1 => MARK_1_BYTES,
            _ => return None,
        };
        let mut rest = &checked(slot, length)?[MAGIC.len() + 4..];
        let mut mark = CommitMark {
            sequence: u64::from_be_bytes(take(&mut rest)?),
            end: take_offset(&mut rest)?,
            epoch: take_epoch(&mut rest)?,
            place: Place {
                segment: SegmentId(take_offset(&mut rest)?),
                position: u64::from_be_bytes(take(&mut rest)?),
            },
            beginning: Beginning::unmoved(take_offset(&mut rest)?),
            epochs_crc: u32::from_be_bytes(take(&mut rest)?),
            committed: OffsetAndEpoch { epoch: Epoch(0), offset: Offset(0) },
        };
        if version >= VERSION_2 {
            mark.committed.offset = take_offset(&mut rest)?;
            mark.committed.epoch = take_epoch(&mut rest)?;
        }
        if version >= VERSION {
            mark.beginning.start.epoch = take_epoch(&mut rest)?;
            mark.beginning.first = Some(SegmentId(take_offset(&mut rest)?));
            mark.beginning.first_epoch = take_epoch(&mut rest)?;
        }
        Some(mark).filter(CommitMark::is_sound)
    }

    /// Where the start has moved: it is committed, and lies in the first segment or behind it.
    fn is_sound(&self) -> bool {
        let Beginning { start, first, first_epoch } = self.beginning;
        first.is_none_or(|first| {
            let ascending = [Offset(0), first.0, start.offset, self.committed.offset, self.end];
            ascending.is_sorted() && [Epoch(0), first_epoch, start.epoch].is_sorted()
        })
    }
}

fn version_of(slot: &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(*slot.strip_prefix(MAGIC)?.first_chunk()?))
}

/// What lies before the checksum, where that holds.
fn checked(slot: &[u8], length: usize) -> Option<&[u8]> {
    let (body, crc) = slot.get(..length)?.split_last_chunk::<CRC_BYTES>()?;
    (u32::from_be_bytes(*crc) == crc32c::crc32c(body)).then_some(body)
}

/// The version of a whole mark that only a newer program can read, where a slot holds one.
pub(super) fn newer_version(file: Option<&[u8]>) -> Option<u32> {
    let (first, second) = slots_of(file);
    let is_newer = |slot: &&[u8]| version_of(slot) > Some(VERSION) && checked(slot, MARK_BYTES).is_some();
    [first, second].iter().find(|slot| is_newer(slot)).and_then(|slot| version_of(slot))
}

fn slots_of(file: Option<&[u8]>) -> (&[u8], &[u8]) {
    let file = file.unwrap_or(&[]);
    file.split_at(file.len().min(BLOCK_BYTES))
}

fn take_offset(rest: &mut &[u8]) -> Option<Offset> {
    take(rest).map(|bytes| Offset(i64::from_be_bytes(bytes)))
}

fn take_epoch(rest: &mut &[u8]) -> Option<Epoch> {
    take(rest).map(|bytes| Epoch(i32::from_be_bytes(bytes)))
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (head, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*head)
}

/// Checksum of the epochs between `start` and `end`. One that began before the start counts as beginning there: so it is the same
/// whichever segments before it are still there.
pub(super) fn epochs_crc(epochs: &[EpochStart], start: Offset, end: Offset) -> u32 {
    EpochStart::within(epochs, start, end).fold(0, |crc, e| {
        let crc = crc32c::crc32c_append(crc, &e.epoch.0.to_be_bytes());
        crc32c::crc32c_append(crc, &e.start_offset.0.to_be_bytes())
    })
}

/// What the two slots say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slots {
    /// The newest valid mark, and its slot (0 or 1).
    Valid(CommitMark, usize),
    /// No mark was ever written whole: no file, or nothing but one torn first mark.
    Unwritten,
    /// Both slots have held marks and neither can be read: not what a crash leaves.
    Rotten,
}

pub(super) fn read_slots(file: Option<&[u8]>) -> Slots {
    let (first, second) = slots_of(file);
    match (CommitMark::decode(first), CommitMark::decode(second)) {
        (Some(a), Some(b)) if b.sequence > a.sequence => Slots::Valid(b, 1),
        (Some(a), _) => Slots::Valid(a, 0),
        (None, Some(b)) => Slots::Valid(b, 1),
        (None, None) if [first, second].iter().any(|slot| slot.iter().all(|b| *b == 0)) => Slots::Unwritten,
        (None, None) => Slots::Rotten,
    }
}

#[derive(Clone, Copy, Debug)]
struct UnderWay {
    end: Offset,
    committed: Offset,
    durable: bool,
}

/// Does the slot beside the one at `valid` hold something that is no mark? One is written within a sector, so no crash
/// leaves that: it has rotted, and a newer mark may have been there.
pub(super) fn is_other_slot_rotten(file: Option<&[u8]>, valid: usize) -> bool {
    let (first, second) = slots_of(file);
    let other = if valid == 0 { second } else { first };
    CommitMark::decode(other).is_none() && other.iter().any(|byte| *byte != 0)
}

/// Decides which slot is next, and remembers what is written where.
#[derive(Debug)]
pub(super) struct MarkWriter {
    /// Of the last mark submitted.
    sequence: u64,
    /// The slot whose content is durable; never written to.
    durable_slot: usize,
    durable_end: Offset,
    /// The mark that is durable for certain says that all below is committed.
    durable_committed: Offset,
    /// No slot holds a mark above it.
    written_end: Offset,
    under_way: Option<UnderWay>,
    pub(super) last_submitted_ns: u64,
}

impl MarkWriter {
    /// `found` at recovery.
    pub(super) fn new(found: &Slots) -> MarkWriter {
        let (sequence, durable_slot, end) = match found {
            Slots::Valid(mark, slot) => (mark.sequence, *slot, mark.end),
            Slots::Unwritten | Slots::Rotten => (0, 1, Offset(0)),
        };
        MarkWriter {
            sequence,
            durable_slot,
            durable_end: Offset(0),
            durable_committed: Offset(0),
            written_end: end,
            under_way: None,
            last_submitted_ns: 0,
        }
    }

    pub(super) fn written_end(&self) -> Offset {
        self.written_end
    }

    /// End of the newest mark that is durable for certain.
    pub(super) fn durable_end(&self) -> Offset {
        self.durable_end
    }

    /// How much that mark says is committed.
    pub(super) fn durable_committed(&self) -> Offset {
        self.durable_committed
    }

    /// A mark is about to be written: its sequence and the byte of the file where it goes.
    pub(super) fn submit(
        &mut self,
        end: Offset,
        committed: Offset,
        durable: bool,
        now_ns: u64,
    ) -> (u64, u64) {
        assert!(self.under_way.is_none(), "one commit mark is under way at most");
        assert!(durable || end >= self.written_end, "a mark that falls must be durable");
        assert!(committed <= end, "a mark says that {committed} is committed, and vouches up to {end}");
        self.sequence += 1;
        self.under_way = Some(UnderWay { end, committed, durable });
        self.written_end = self.written_end.max(end);
        self.last_submitted_ns = now_ns;
        (self.sequence, ((1 - self.durable_slot) * BLOCK_BYTES) as u64)
    }

    /// True: it is durable.
    pub(super) fn complete(&mut self) -> bool {
        let mark = self.under_way.take().expect("the mark that completes was submitted");
        if mark.durable {
            self.durable_slot = 1 - self.durable_slot;
            (self.durable_end, self.written_end) = (mark.end, mark.end);
            self.durable_committed = mark.committed;
        }
        mark.durable
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(sequence: u64, end: i64) -> CommitMark {
        let place = Place { segment: SegmentId(Offset(7)), position: 812 };
        let committed = OffsetAndEpoch { epoch: Epoch(2), offset: Offset(end / 2) };
        let (end, beginning) = (Offset(end), Beginning::unmoved(Offset(0)));
        CommitMark { sequence, end, epoch: Epoch(3), place, beginning, epochs_crc: 0xfeed, committed }
    }

    fn moved(sequence: u64, end: i64) -> CommitMark {
        let start = OffsetAndEpoch { epoch: Epoch(2), offset: Offset(end / 2) };
        CommitMark {
            beginning: Beginning { start, first: Some(SegmentId(Offset(7))), first_epoch: Epoch(1) },
            ..mark(sequence, end)
        }
    }

    fn file(first: Option<CommitMark>, second: Option<CommitMark>) -> Vec<u8> {
        let mut file = vec![0; COMMIT_MARK_FILE_BYTES];
        for (slot, mark) in [first, second].into_iter().enumerate() {
            if let Some(mark) = mark {
                file[slot * BLOCK_BYTES..][..MARK_BYTES].copy_from_slice(&mark.encode());
            }
        }
        file
    }

    fn check_flips(bytes: &[u8]) {
        for bit in 0..bytes.len() * 8 {
            let mut rotten = bytes.to_vec();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CommitMark::decode(&rotten), None, "bit {bit}");
            assert_eq!(newer_version(Some(&rotten)), None, "bit {bit}");
        }
    }

    #[test]
    fn a_mark_reads_back_and_every_flipped_bit_is_noticed() {
        let bytes = mark(9, 42).encode();
        assert_eq!(CommitMark::decode(&bytes), Some(mark(9, 42)));
        check_flips(&bytes[..MARK_2_BYTES]);
        assert!(bytes[MARK_2_BYTES..].iter().all(|byte| *byte == 0), "as version 2 was written");
        let bytes = moved(9, 42).encode();
        assert_eq!(CommitMark::decode(&bytes), Some(moved(9, 42)));
        check_flips(&bytes);
    }

    #[test]
    fn a_start_that_cannot_be_is_none() {
        let sound = moved(9, 42);
        let at = |first, start, epoch| {
            let start = OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(start) };
            let first = Some(SegmentId(Offset(first)));
            CommitMark { beginning: Beginning { start, first, first_epoch: Epoch(1) }, ..sound }
        };
        assert!(CommitMark::decode(&at(7, 21, 2).encode()).is_some(), "committed up to 21");
        for impossible in [at(7, 22, 2), at(22, 21, 2), at(-1, 21, 2), at(7, 21, 0)] {
            assert_eq!(CommitMark::decode(&impossible.encode()), None, "{impossible:?}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_rot() {
        let mut newer = file(Some(mark(1, 10)), Some(moved(2, 5)));
        assert_eq!(newer_version(Some(&newer)), None);
        let slot = &mut newer[BLOCK_BYTES..][..MARK_BYTES];
        slot[MAGIC.len()..][..4].copy_from_slice(&9u32.to_be_bytes());
        let crc = crc32c::crc32c(&slot[..MARK_BYTES - CRC_BYTES]);
        slot[MARK_BYTES - CRC_BYTES..].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(newer_version(Some(&newer)), Some(9));
        newer[BLOCK_BYTES + 100] ^= 1;
        assert_eq!(newer_version(Some(&newer)), None);
    }

    #[test]
    fn the_epochs_sum_does_not_see_what_lies_before_the_start() {
        let at = |epoch, offset| EpochStart { epoch: Epoch(epoch), start_offset: Offset(offset) };
        let whole = [at(1, 0), at(3, 10), at(4, 20)];
        let sum = |epochs: &[EpochStart], start| epochs_crc(epochs, Offset(start), Offset(30));
        assert_eq!(sum(&whole, 12), sum(&[at(3, 5), at(4, 20)], 12));
        assert_eq!(sum(&whole, 12), sum(&[at(3, 12), at(4, 20)], 12));
        assert_eq!(sum(&whole, 20), sum(&[at(4, 20)], 20));
        assert_ne!(sum(&whole, 12), sum(&[at(2, 12), at(4, 20)], 12));
        assert_ne!(sum(&whole, 12), sum(&whole, 10), "where it begins is part of it");
    }

    /// Bytes of a mark as the first version wrote it: sequence 9, end 42, of epoch 3.
    const OF_VERSION_1: &str = "4b5246544d41524b000000010000000000000009000000000000002a000000030000000000000007\
                                000000000000032c00000000000000000000feed";

    #[test]
    fn a_mark_of_version_1_reads_and_proves_nothing_committed() {
        let hex = |at: usize| u8::from_str_radix(&OF_VERSION_1[at..at + 2], 16).unwrap();
        let mut bytes: Vec<u8> = (0..OF_VERSION_1.len()).step_by(2).map(hex).collect();
        bytes.extend(crc32c::crc32c(&bytes).to_be_bytes());
        assert_eq!(bytes.len(), MARK_1_BYTES);
        let none = OffsetAndEpoch { epoch: Epoch(0), offset: Offset(0) };
        assert_eq!(CommitMark::decode(&bytes), Some(CommitMark { committed: none, ..mark(9, 42) }));
        for bit in 0..bytes.len() * 8 {
            let mut rotten = bytes.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(CommitMark::decode(&rotten), None, "bit {bit}");
        }
    }

    #[test]
    fn the_newer_of_two_slots_counts_and_a_torn_one_does_not() {
        assert_eq!(read_slots(Some(&file(Some(mark(1, 10)), Some(mark(2, 5))))), Slots::Valid(mark(2, 5), 1));
        let mut torn = file(Some(mark(1, 10)), Some(mark(2, 5)));
        torn[BLOCK_BYTES + 20] ^= 1;
        assert_eq!(read_slots(Some(&torn)), Slots::Valid(mark(1, 10), 0));
        torn[3] ^= 1;
        assert_eq!(read_slots(Some(&torn)), Slots::Rotten);
    }

    #[test]
    fn a_torn_first_mark_is_no_mark() {
        let mut torn = file(Some(mark(1, 10)), None);
        torn[20] ^= 1;
        assert_eq!(read_slots(Some(&torn)), Slots::Unwritten);
        assert_eq!(read_slots(None), Slots::Unwritten);
        assert_eq!(read_slots(Some(&[])), Slots::Unwritten);
    }

    #[test]
    fn plain_marks_never_touch_the_durable_slot() {
        let mut writer = MarkWriter::new(&Slots::Valid(mark(4, 10), 0));
        for end in [11, 12] {
            assert_eq!(writer.submit(Offset(end), Offset(0), false, 0).1, BLOCK_BYTES as u64);
            writer.complete();
        }
        assert_eq!(writer.submit(Offset(12), Offset(12), true, 0), (7, BLOCK_BYTES as u64));
        writer.complete();
        assert_eq!((writer.durable_end(), writer.durable_committed()), (Offset(12), Offset(12)));
        assert_eq!(writer.submit(Offset(13), Offset(12), false, 0), (8, 0));
    }

    #[test]
    #[should_panic(expected = "a mark that falls must be durable")]
    fn a_falling_plain_mark_is_a_broken_invariant() {
        MarkWriter::new(&Slots::Valid(mark(4, 10), 0)).submit(Offset(9), Offset(0), false, 0);
    }
}
