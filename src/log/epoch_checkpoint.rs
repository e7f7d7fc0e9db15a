//! `leader-epoch-checkpoint`: where each epoch begins, in Kafka's text format.
//!
//! Written for Kafka's tools and for people when an epoch begins or a truncation removes one. Never read as truth:
//! recovery finds the epochs in the batches. Nothing waits for it.

use crate::types::*;
use std::fmt::Write;

/// Kafka's `CheckpointFile`: version, number of lines, then "epoch start" in each line.
pub(super) fn encode(epochs: &[EpochStart]) -> Vec<u8> {
    let mut text = format!("0\n{}\n", epochs.len());
    for start in epochs {
        writeln!(text, "{} {}", start.epoch, start.start_offset).expect("a string takes any text");
    }
    text.into_bytes()
}

/// A batch of `epoch` at `base_offset` was appended: true where a new epoch begins with it.
pub(super) fn note_batch(epochs: &mut Vec<EpochStart>, epoch: Epoch, base_offset: Offset) -> bool {
    let begins = epochs.last().is_none_or(|last| last.epoch < epoch);
    if begins {
        epochs.push(EpochStart { epoch, start_offset: base_offset });
    }
    begins
}

/// Epoch of the last batch before `end`; 0 where there is none, as Kafka has it.
pub(super) fn epoch_before(epochs: &[EpochStart], end: Offset) -> Epoch {
    let begun = epochs.partition_point(|e| e.start_offset < end);
    begun.checked_sub(1).map_or(Epoch(0), |last| epochs[last].epoch)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_kafkas() {
        let start = |epoch, offset| EpochStart { epoch: Epoch(epoch), start_offset: Offset(offset) };
        assert_eq!(encode(&[]), b"0\n0\n");
        assert_eq!(encode(&[start(1, 0), start(4, 130)]), b"0\n2\n1 0\n4 130\n");
        assert_eq!(epoch_before(&[start(1, 0), start(4, 130)], Offset(130)), Epoch(1));
        assert_eq!(epoch_before(&[start(1, 5)], Offset(5)), Epoch(0));
    }
}
