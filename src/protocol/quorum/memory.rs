//! Fields of ours in Vote: what a voter's word is worth (see raft's rule of the empty voter), and where its log starts.
//!
//! Tagged fields of the partition: the first in the request (the candidate counts votes by it) and in the answer, the second in the
//! answer alone. Kafka's voters pass over tags that they do not know, and never send these.

use crate::raft::VoterMemory;
use crate::types::Offset;
use bytes::Bytes;
use std::collections::BTreeMap;

/// Far from the tags that Kafka gives out, one after the other from 0 on.
const TAG: i32 = 0x6b72;
/// An i64.
const START_TAG: i32 = 0x6b73;
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

pub(super) fn answer_tags(memory: VoterMemory, start: Option<Offset>) -> Tags {
    let mut tags = tags(match memory {
        VoterMemory::Unsaid => None,
        VoterMemory::Whole => Some(WHOLE),
        VoterMemory::Lost => Some(LOST),
        VoterMemory::Asking => Some(ASKING),
    });
    tags.extend(start.map(|start| (START_TAG, Bytes::copy_from_slice(&start.0.to_be_bytes()))));
    tags
}

/// `None`: it does not say, or not so that it is understood here.
pub(super) fn start_of_answer(tags: &Tags) -> Option<Offset> {
    let value = tags.get(&START_TAG)?.first_chunk()?;
    Some(Offset(i64::from_be_bytes(*value))).filter(|start| *start >= Offset(0))
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
            assert_eq!(of_answer(&answer_tags(memory, Some(Offset(7)))), memory);
        }
        assert_eq!(of_answer(&tags(Some(9))), Lost);
        assert_eq!(of_answer(&BTreeMap::from([(TAG, Bytes::new())])), Lost);
        for start in [None, Some(Offset(0)), Some(Offset(i64::MAX))] {
            assert_eq!(start_of_answer(&answer_tags(Whole, start)), start);
        }
        assert_eq!(start_of_answer(&answer_tags(Whole, Some(Offset(-1)))), None);
        assert_eq!(start_of_answer(&BTreeMap::from([(START_TAG, Bytes::from_static(&[0; 7]))])), None);
        assert_eq!([true, false].map(|counts| is_counted(&request_tags(counts))), [true, false]);
    }
}
