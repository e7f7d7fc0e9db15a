//! A field of ours in Vote: what a voter's word is worth (see raft's rule of the empty voter).
//!
//! A tagged field of the partition, in the request (the candidate counts votes by it) and in the answer. Kafka's voters pass
//! over tags that they do not know, and never send this one.

use crate::raft::VoterMemory;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Far from the tags that Kafka gives out, one after the other from 0 on.
const TAG: i32 = 0x6b72;
const COUNTS: u8 = 1;
const WHOLE: u8 = 1;
const LOST: u8 = 2;
const ASKING: u8 = 3;

type Tags = BTreeMap<i32, Bytes>;

pub(super) fn request_tags(counts_memory: bool) -> Tags {
    tags(counts_memory.then_some(COUNTS))
}

pub(super) fn is_counted(tags: &Tags) -> bool {
    tags.get(&TAG).is_some_and(|value| value.first() == Some(&COUNTS))
}

pub(super) fn answer_tags(memory: VoterMemory) -> Tags {
    tags(match memory {
        VoterMemory::Unsaid => None,
        VoterMemory::Whole => Some(WHOLE),
        VoterMemory::Lost => Some(LOST),
        VoterMemory::Asking => Some(ASKING),
    })
}

/// A word that is not known here comes from a newer version: it may be a reserve.
pub(super) fn of_answer(tags: &Tags) -> VoterMemory {
    match tags.get(&TAG).map(|value| value.first().copied().unwrap_or(0)) {
        None => VoterMemory::Unsaid,
        Some(WHOLE) => VoterMemory::Whole,
        Some(ASKING) => VoterMemory::Asking,
        Some(_) => VoterMemory::Lost,
    }
}

fn tags(value: Option<u8>) -> Tags {
    value.map(|value| (TAG, Bytes::copy_from_slice(&[value]))).into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_word_reads_back_and_an_unknown_one_is_a_reserve() {
        use VoterMemory::{Asking, Lost, Unsaid, Whole};
        for memory in [Unsaid, Whole, Lost, Asking] {
            assert_eq!(of_answer(&answer_tags(memory)), memory);
        }
        assert_eq!(of_answer(&tags(Some(9))), Lost);
        assert_eq!(of_answer(&BTreeMap::from([(TAG, Bytes::new())])), Lost);
        assert_eq!([true, false].map(|counts| is_counted(&request_tags(counts))), [true, false]);
    }
}
