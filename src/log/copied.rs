//! What a log's own small files say to who copies it, and what they must say beside a copy that a node is to start from.
//!
//! `backup` asks. Nothing here judges a batch or touches a file.

use super::buffer::BLOCK_BYTES;
use super::commit_mark::{
    Beginning, COMMIT_MARK_FILE_BYTES, CommitMark, Slots, epochs_crc, newer_version, read_slots,
};
use super::index::Place;
use super::op::SegmentId;
use super::quorum_state;
use crate::types::*;

/// What the commit mark's file proves of a log that may be written to at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proven {
    /// All below was committed, and in the segments before the mark was: it never changes.
    Committed(OffsetAndEpoch),
    /// The log's start has moved, to here: what lies before it is gone, or to be taken for gone.
    Moved(Offset),
    /// A newer program wrote a mark of this version.
    OfVersion(u32),
    /// No mark was ever written: the log is empty, or another program's.
    Nothing,
    /// Neither slot can be read.
    Unreadable,
}

/// What all bytes of the commit mark's file say; `None` where there is no such file.
pub fn proven(mark_file: Option<&[u8]>) -> Proven {
    if let Some(version) = newer_version(mark_file) {
        return Proven::OfVersion(version);
    }
    match read_slots(mark_file) {
        Slots::Valid(CommitMark { beginning: Beginning { start, first: Some(_), .. }, .. }, _) => {
            Proven::Moved(start.offset)
        }
        Slots::Valid(mark, _) => Proven::Committed(mark.committed),
        Slots::Unwritten => Proven::Nothing,
        Slots::Rotten => Proven::Unreadable,
    }
}

/// The epoch that a quorum-state tells. The error says what is wrong with the file, in words.
pub fn quorum_epoch(quorum_state: &[u8]) -> Result<Epoch, String> {
    quorum_state::decode(quorum_state).map(|state| state.epoch)
}

/// A log that is committed as a whole.
#[derive(Clone, Debug)]
pub struct WholeLog<'a> {
    /// Its first offset.
    pub log_start: Offset,
    /// Where it ends, and the epoch of its last batch.
    pub end: OffsetAndEpoch,
    /// First offset of each epoch.
    pub epochs: &'a [EpochStart],
    /// Base offset of its last segment.
    pub last_segment: Offset,
    /// Bytes of that segment.
    pub last_length: u64,
}

impl WholeLog<'_> {
    /// The bytes of its commit mark's file: all of it is durable, and nothing of it may ever be cut.
    pub fn commit_mark(&self) -> Vec<u8> {
        let place = Place { segment: SegmentId(self.last_segment), position: self.last_length };
        let mark = CommitMark {
            sequence: 1,
            end: self.end.offset,
            epoch: self.end.epoch,
            place,
            // Only a log whose start never moved is copied.
            beginning: Beginning::unmoved(self.log_start),
            epochs_crc: epochs_crc(self.epochs, self.log_start, self.end.offset),
            committed: self.end,
        };
        let mut file = vec![0; COMMIT_MARK_FILE_BYTES];
        let bytes = mark.encode();
        file[..BLOCK_BYTES][..bytes.len()].copy_from_slice(&bytes);
        file
    }
}

/// quorum-state of a voter that may have voted and acknowledged more than it knows, in epochs up to who knows where: as one whose
/// disk was emptied (raft's rule of the empty voter). It knows no leader, for a leader that it knew it would follow unasked.
pub fn forgetful_quorum_state(epoch: Epoch) -> Vec<u8> {
    quorum_state::encode(&QuorumState { epoch, ..QuorumState::EMPTY })
}

#[cfg(test)]
mod tests {
    use super::super::commit_mark::MARK_BYTES;
    use super::*;

    #[test]
    fn the_mark_of_a_copy_proves_all_of_it() {
        let epochs = [EpochStart { epoch: Epoch(3), start_offset: Offset(0) }];
        let end = OffsetAndEpoch { offset: Offset(90), epoch: Epoch(3) };
        let (last_segment, last_length) = (Offset(70), 512);
        let log = WholeLog { log_start: Offset(0), end, epochs: &epochs, last_segment, last_length };
        let file = log.commit_mark();
        assert_eq!((file.len(), proven(Some(&file))), (COMMIT_MARK_FILE_BYTES, Proven::Committed(end)));
        let Slots::Valid(mark, 0) = read_slots(Some(&file)) else { panic!("no mark") };
        assert_eq!((mark.end, mark.place.segment.0, mark.place.position), (end.offset, last_segment, 512));
    }

    #[test]
    fn what_is_no_mark_proves_nothing() {
        assert_eq!(proven(None), Proven::Nothing);
        assert_eq!(proven(Some(&vec![0; COMMIT_MARK_FILE_BYTES])), Proven::Nothing);
        assert_eq!(proven(Some(&vec![7; COMMIT_MARK_FILE_BYTES])), Proven::Unreadable);
    }

    #[test]
    fn a_start_that_moved_and_a_newer_version_are_told() {
        let at = |offset| OffsetAndEpoch { offset: Offset(offset), epoch: Epoch(3) };
        let mark = CommitMark {
            sequence: 2,
            end: Offset(90),
            epoch: Epoch(3),
            place: Place { segment: SegmentId(Offset(70)), position: 512 },
            beginning: Beginning { start: at(75), first: Some(SegmentId(Offset(70))), first_epoch: Epoch(0) },
            epochs_crc: 0,
            committed: at(80),
        };
        let mut file = vec![0; COMMIT_MARK_FILE_BYTES];
        file[..MARK_BYTES].copy_from_slice(&mark.encode());
        assert_eq!(proven(Some(&file)), Proven::Moved(Offset(75)));
        // In either slot, and whatever the other one says.
        let slot = &mut file[BLOCK_BYTES..][..MARK_BYTES];
        slot.copy_from_slice(&mark.encode());
        slot[8..12].copy_from_slice(&7u32.to_be_bytes());
        let (body, crc) = slot.split_last_chunk_mut::<4>().unwrap();
        crc.copy_from_slice(&crc32c::crc32c(body).to_be_bytes());
        assert_eq!(proven(Some(&file)), Proven::OfVersion(7));
        file[BLOCK_BYTES + 30] ^= 1;
        assert_eq!(proven(Some(&file)), Proven::Moved(Offset(75)), "that one has rotted");
    }

    #[test]
    fn the_quorum_state_of_a_copy_remembers_an_epoch_and_nothing_else() {
        let file = forgetful_quorum_state(Epoch(7));
        assert_eq!(quorum_state::decode(&file), Ok(QuorumState { epoch: Epoch(7), ..QuorumState::EMPTY }));
        assert_eq!(quorum_epoch(&file), Ok(Epoch(7)));
        assert!(!QuorumState::EMPTY.caught_up && QuorumState::EMPTY.leader.is_none());
    }
}
