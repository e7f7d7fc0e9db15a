//! What a platter loses without being asked: flipped bits, blocks in the wrong place. And two lies about a start.
//!
//! Part of `SimDisk`. Called by faults; nobody is told, `DurableLog` neither: it is noticed at the next start, or when it
//! is read.

use super::disk::SimDisk;
use crate::log::{BLOCK_BYTES, Doubt, SegmentId, SmallFile};
use crate::types::Offset;

/// A run of zeros in a block that is shorter cannot pass for a sector that was never written.
const ZEROS_MAX: usize = 16;
/// Bytes of a slot of the commit mark that hold the mark.
const MARK_BYTES: usize = 64;
/// Where the mark says how far it vouches: segment, position.
const MARK_SEGMENT_AT: usize = 8 + 4 + 8 + 8 + 4;
/// And what was known to be committed.
const MARK_COMMITTED_AT: usize = MARK_SEGMENT_AT + 8 + 8 + 8 + 4;

impl SimDisk {
    /// What the commit mark does not vouch for: a bit of it flips. False: the mark vouches for all that is there.
    pub(super) fn rot_unvouched(&mut self) -> bool {
        let Some((segment, end)) = self.vouched() else { return false };
        let unvouched = self.log.length(segment).saturating_sub(end);
        let (at, bit) = ((end + self.dice.below(unvouched)) as usize, self.dice.below(8));
        let sector = self.sector;
        let Some(file) = self.segments.get_mut(&segment).filter(|_| unvouched > 0) else { return false };
        file.flip(at, 1 << bit, sector)
    }

    /// A bit of a flushed batch flips, or seldom one of the zeros behind them. False: there are none.
    pub(crate) fn rot(&mut self) -> bool {
        if self.is_mark_rotten() {
            return false;
        }
        let sector = self.sector;
        let target = self.dice.pick(&self.segments.keys().copied().collect::<Vec<_>>());
        let Some(target) = target else { return false };
        let size = self.log.length(target);
        let size = if self.dice.permille(50) { size + BLOCK_BYTES as u64 } else { size };
        if size == 0 {
            return false;
        }
        let (mut at, bit) = (self.dice.below(size) as usize, self.dice.below(8));
        // The end is where recovery has to decide.
        if self.dice.permille(500) {
            at = at.max((size as usize).saturating_sub(1 + self.dice.below(2_000) as usize));
        }
        let Some(file) = self.segments.get_mut(&target) else { return false };
        file.flip(at, 1 << bit, sector)
    }

    /// A write of another block went to a block of flushed batches. False: there is none.
    pub(super) fn misdirect(&mut self) -> bool {
        let (vouched, sector) = (self.vouched_segment(), self.sector);
        let is_anywhere = self.dice.permille(500) && !self.is_mark_rotten();
        let ids = self.segments.keys().copied().collect::<Vec<_>>();
        let flushed = self.dice.pick(&ids).map(|id| (id, self.log.length(id)));
        let Some((target, size)) = (if is_anywhere { flushed } else { vouched }) else { return false };
        let blocks = if is_anywhere { size.div_ceil(BLOCK_BYTES as u64) } else { size / BLOCK_BYTES as u64 };
        let at = self.dice.below(blocks) as usize * BLOCK_BYTES;
        let others: Vec<SegmentId> = self.segments.keys().copied().collect();
        let Some(from) = self.dice.pick(&others).and_then(|id| self.segments.get(&id)) else { return false };
        let from_blocks = from.durable.len() / BLOCK_BYTES;
        let start = self.dice.below(from_blocks as u64) as usize * BLOCK_BYTES;
        let Some(block) = from.durable.get(start..start + BLOCK_BYTES).map(<[u8]>::to_vec) else {
            return false;
        };
        // Nothing tells zeros over what was flushed since the last mark from a write that was never made.
        if is_anywhere && block.chunk_by(|a, b| a == b).any(|run| run[0] == 0 && run.len() >= ZEROS_MAX) {
            return false;
        }
        let Some(file) = self.segments.get_mut(&target).filter(|_| blocks > 0) else { return false };
        file.overwrite(at, &block, sector)
    }

    /// An operator gives up what follows.
    pub(super) fn give_up(&mut self, doubt: &Doubt) {
        let Some(id) = SegmentId::from_file_name(&doubt.segment) else { return };
        let sector = self.sector;
        if let Some(file) = self.segments.get_mut(&id) {
            let (start, end) = (doubt.position as usize, file.cached.len());
            file.write(start, &vec![0; end.saturating_sub(start)], sector);
            file.flush_whole(sector);
        }
        self.log.rescan(&self.segments);
    }

    /// Something of the log is not what was written.
    pub(super) fn is_log_rotten(&self) -> bool {
        self.segments.values().any(|file| !file.decay.is_none())
    }

    /// A segment, and how many of its bytes all slots of the commit mark vouch for.
    fn vouched_segment(&mut self) -> Option<(SegmentId, u64)> {
        let (segment, end) = self.vouched()?;
        let target = self.dice.pick(&self.segments.keys().copied().collect::<Vec<_>>())?;
        let size = match target.cmp(&segment) {
            std::cmp::Ordering::Less => self.log.length(target),
            std::cmp::Ordering::Equal => end,
            std::cmp::Ordering::Greater => 0,
        };
        let length = self.segments.get(&target)?.durable.len() as u64;
        (size > 0 && size <= length).then_some((target, size))
    }

    /// The lowest place up to which a slot of the commit mark vouches for the log: segment and position. None where a
    /// slot is rotten: two faults of one disk that hide each other are more than it can be asked to notice.
    fn vouched(&self) -> Option<(SegmentId, u64)> {
        let mark = self.mark.as_ref().filter(|_| !self.is_mark_rotten())?;
        let slots = [0, BLOCK_BYTES].into_iter().filter_map(|slot| {
            let place = mark.durable.get(slot + MARK_SEGMENT_AT..slot + MARK_SEGMENT_AT + 16)?;
            let segment = i64::from_be_bytes(place[..8].try_into().ok()?);
            Some((SegmentId(Offset(segment)), u64::from_be_bytes(place[8..].try_into().ok()?)))
        });
        slots.min()
    }

    /// What the commit mark on the platter knows to be committed; `None` where a bit of it has rotted, or there is no mark.
    pub(super) fn marked_committed(&self) -> Option<Offset> {
        let mark = self.mark.as_ref().filter(|mark| mark.decay.is_none())?;
        let slots = [0, BLOCK_BYTES].into_iter().filter_map(|slot| {
            let at = slot + MARK_COMMITTED_AT;
            Some(Offset(i64::from_be_bytes(mark.durable.get(at..at + 8)?.try_into().ok()?)))
        });
        slots.max()
    }

    /// A bit of a slot of the commit mark flips, or one in both. False: nothing is written there.
    pub(super) fn rot_mark(&mut self) -> bool {
        let (first, sector) = (self.dice.below(2) as usize, self.sector);
        let count = if self.dice.permille(250) { 2 } else { 1 };
        let mut is_done = false;
        for slot in [first, 1 - first].into_iter().take(count) {
            let start = slot * BLOCK_BYTES;
            let (at, bit) = (start + self.dice.below(MARK_BYTES as u64) as usize, self.dice.below(8));
            let Some(mark) = self.mark.as_mut() else { return false };
            let is_written = mark.durable[start..start + MARK_BYTES].iter().any(|byte| *byte != 0);
            if is_written && mark.flip(at, 1 << bit, sector) {
                for image in [&mark.durable, &mark.cached] {
                    self.rotten.marks.push((start, image[start..start + MARK_BYTES].to_vec()));
                }
                is_done = true;
            }
        }
        is_done
    }

    pub(super) fn is_mark_rotten(&self) -> bool {
        let Some(mark) = &self.mark else { return false };
        self.rotten.marks.iter().any(|(start, image)| mark.cached[*start..start + MARK_BYTES] == image[..])
    }

    /// A bit of quorum-state flips. False: there is none, or its name is not durable yet.
    pub(super) fn rot_votes(&mut self) -> bool {
        let file = SmallFile::QuorumState;
        if self.are_votes_rotten() || self.names.before(file).is_some() {
            return false;
        }
        let Some(votes) = self.small.get_mut(&file).filter(|votes| !votes.is_empty()) else { return false };
        let written = votes.clone();
        let at = self.dice.below(votes.len() as u64) as usize;
        votes[at] ^= 1 << self.dice.below(8);
        self.rotten.votes = Some((votes.clone(), written));
        true
    }

    pub(super) fn are_votes_rotten(&self) -> bool {
        let votes = self.small.get(&SmallFile::QuorumState);
        self.rotten.votes.as_ref().is_some_and(|(rotten, _)| votes == Some(rotten))
    }

    /// A lie: what is rotten loses its checksum, and passes for a file that Kafka has written.
    pub(super) fn unseal_votes(&mut self) {
        let Some(votes) = self.small.get_mut(&SmallFile::QuorumState) else { return };
        let ours = std::str::from_utf8(votes).ok().and_then(|text| text.find(",\"caughtUp\":"));
        if let Some(at) = ours {
            votes.truncate(at);
            votes.push(b'}');
            // Rotten all the same.
            if let Some((rotten, _)) = &mut self.rotten.votes {
                rotten.clone_from(votes);
            }
        }
    }

    /// A bit of leader-epoch-checkpoint flips: the log knows its epochs itself. False: there is none.
    pub(super) fn rot_epochs(&mut self) -> bool {
        let Some(epochs) = self.small.get_mut(&SmallFile::LeaderEpochCheckpoint) else { return false };
        let at = self.dice.below(epochs.len() as u64) as usize;
        let bit = self.dice.below(8);
        epochs.get_mut(at).map(|byte| *byte ^= 1 << bit).is_some()
    }

    /// quorum-state as the platter has it, or had it before it rotted: what this voter has promised.
    pub(super) fn durable_votes(&self) -> Option<&[u8]> {
        if let Some((rotten, written)) = &self.rotten.votes
            && self.small.get(&SmallFile::QuorumState) == Some(rotten)
        {
            return Some(written);
        }
        self.names.before(SmallFile::QuorumState).unwrap_or_else(|| self.small(SmallFile::QuorumState))
    }

    /// Of what the log can be read without. Where snapshots are taken it is one of them half of the time.
    pub(super) fn rot_beside_log(&mut self) -> bool {
        let SimDisk { shelf, dice, .. } = self;
        let is_snapshot = !shelf.is_empty() && dice.permille(500);
        if is_snapshot { shelf.rot(dice) } else { self.rot_summary() }
    }

    /// A bit of a summary flips, or it is again what it was before it was last written or removed. False: there is none.
    fn rot_summary(&mut self) -> bool {
        let is_summary = |file: &&SmallFile| matches!(file, SmallFile::Summary(_));
        if self.dice.permille(500) {
            let older: Vec<SmallFile> = self.older.keys().filter(is_summary).copied().collect();
            let Some(file) = self.dice.pick(&older) else { return false };
            self.restore_older(file);
            return true;
        }
        let summaries: Vec<SmallFile> = self.small.keys().filter(is_summary).copied().collect();
        let Some(file) = self.dice.pick(&summaries) else { return false };
        let Some(summary) = self.small.get_mut(&file) else { return false };
        let at = self.dice.below(summary.len().max(1) as u64) as usize;
        let bit = self.dice.below(8);
        summary.get_mut(at).map(|byte| *byte ^= 1 << bit).is_some()
    }

    /// A lie: a small file is again what it was before its last change.
    pub(super) fn restore_older(&mut self, file: SmallFile) {
        if let Some(old) = self.older.remove(&file) {
            self.small.insert(file, old);
        }
    }

    /// A lie: the last batches of the log, and the mark that knows of them, are gone.
    pub(super) fn forget_tail(&mut self) {
        let Some(last) = self.log.batches.last().copied() else { return };
        let sector = self.sector;
        if let Some(file) = self.segments.get_mut(&last.segment) {
            let end = file.cached.len();
            let start = last.position as usize;
            file.write(start, &vec![0; end - start], sector);
            file.flush_whole(sector);
        }
        self.mark = None;
        self.log.rescan(&self.segments);
    }
}

#[cfg(test)]
mod tests {
    use super::super::platter::DiskFile;
    use super::*;

    const SECTOR: usize = 512;

    #[test]
    fn what_the_disk_has_not_put_down_yet_does_not_rot() {
        let mut file = DiskFile::zeros(BLOCK_BYTES);
        file.write(0, b"new", SECTOR);
        assert!(file.flip(0, 1, SECTOR));
        file.flush_whole(SECTOR);
        assert_eq!(&file.durable[..3], b"new");
        assert_eq!(&file.as_written(0).expect("flushed")[..3], b"new");
        assert!(file.decay.is_none());
    }

    #[test]
    fn what_rots_reads_as_it_was_written_to_who_asks_for_that() {
        let mut file = DiskFile::zeros(BLOCK_BYTES);
        file.write(0, b"old", SECTOR);
        file.flush_whole(SECTOR);
        assert!(file.overwrite(0, &[7; BLOCK_BYTES], SECTOR));
        assert_eq!(&file.durable[..3], &[7; 3]);
        assert_eq!(&file.as_written(0).expect("flushed")[..3], b"old");
    }
}
