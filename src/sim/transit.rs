//! Bits that flip between two hosts, where something is there to notice it: in the part of a record batch that its
//! CRC-32C covers. The rest of a Kafka frame has no checksum of its own and rests on TCP's (and on TLS's, where it is
//! used): no receiver can tell a flipped offset from a meant one, so nobody promises against it.

use super::dice::Dice;
use crate::record::{BATCH_HEADER_BYTES, BatchHeader, check_fetched};
use bytes::Bytes;

/// A batch's epoch, its magic byte, and what its CRC covers, from its first byte on.
const EPOCH_AT: usize = 12;
const MAGIC_AT: usize = 16;
const COVERED_AT: usize = 21;

/// The frames with one bit flipped in a batch of theirs. None where they hold no whole batch.
pub(super) fn flip_record_bit(frames: &Bytes, dice: &mut Dice) -> Option<Bytes> {
    let batches: Vec<(usize, usize)> = batches_in(frames);
    let (start, size) = dice.pick(&batches)?;
    let at = start + COVERED_AT + dice.below((size - COVERED_AT) as u64) as usize;
    let mut flipped = frames.to_vec();
    *flipped.get_mut(at)? ^= 1 << dice.below(8);
    Some(Bytes::from(flipped))
}

/// Where batches begin, and how long they are: what passes for one, CRC and all, is one.
fn batches_in(frames: &Bytes) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at + BATCH_HEADER_BYTES <= frames.len() {
        let header = (frames[at + MAGIC_AT] == 2).then(|| BatchHeader::decode(&frames[at..])).flatten();
        let size = header.map_or(0, |header| header.size_bytes);
        let fits = size >= BATCH_HEADER_BYTES && at + size <= frames.len();
        if fits && is_batch(&frames[at..at + size]) {
            found.push((at, size));
            at += size;
        } else {
            at += 1;
        }
    }
    found
}

fn is_batch(bytes: &[u8]) -> bool {
    let mut stamped = bytes.to_vec();
    // A producer's batch has no epoch yet; no CRC covers it.
    stamped[EPOCH_AT..MAGIC_AT].fill(0);
    !check_fetched(Bytes::from(stamped)).0.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::data_batch;

    #[test]
    fn a_bit_of_a_batch_flips_and_its_crc_tells() {
        let batch = data_batch(&[b"one", b"two"], 5, None);
        let frames = Bytes::from([&[2; 40], &batch[..], &[0; 9]].concat());
        assert_eq!(batches_in(&frames), [(40, batch.len())]);
        for seed in 0..200 {
            let flipped = flip_record_bit(&frames, &mut Dice::new(seed, 0)).unwrap();
            let differing: Vec<usize> = (0..frames.len()).filter(|at| frames[*at] != flipped[*at]).collect();
            assert_eq!(differing.len(), 1);
            assert!(!is_batch(&flipped[40..40 + batch.len()]), "byte {}", differing[0]);
        }
    }

    #[test]
    fn frames_without_batches_stay_as_they_are() {
        assert!(flip_record_bit(&Bytes::from(vec![2; 500]), &mut Dice::new(1, 0)).is_none());
    }
}
