//! The bytes of a summary: what was written is read, and nothing else.

use super::super::tests::harness::{batch, small_config};
use super::*;
use crate::log::LogConfig;

/// Of a segment of three batches in two epochs, the second one an idempotent producer's.
fn summary() -> Summary {
    let LogConfig { index_interval_bytes, producer_ids_max, .. } = small_config();
    let mut segment = Segment::new(SegmentId(Offset(7)), index_interval_bytes, producer_ids_max);
    let mut epochs = Vec::new();
    for (base, epoch, producer_id) in [(7, 1, -1), (9, 1, 42), (11, 3, 42)] {
        let mut header = *batch(Offset(base), epoch, 1, 2, 3000).header();
        (header.producer_id, header.producer_epoch, header.base_sequence) = (producer_id, 0, 5);
        segment.push(&header);
        crate::log::epoch_checkpoint::note_batch(&mut epochs, Epoch(epoch), Offset(base));
    }
    Summary::of(&segment, Offset(13), &epochs, 10).expect("a segment with batches has a summary")
}

fn sealed(body: &[u8]) -> Vec<u8> {
    [body, &crc32c::crc32c(body).to_be_bytes()].concat()
}

#[test]
fn a_summary_reads_back_and_every_flipped_bit_is_noticed() {
    let summary = summary();
    assert_eq!((summary.epochs.len(), summary.index.len(), summary.producers.len()), (2, 3, 2));
    let bytes = summary.encode();
    assert_eq!(bytes.len(), summary.encoded_bytes());
    assert_eq!(Summary::decode(&bytes), Ok(summary));
    for bit in 0..bytes.len() * 8 {
        let mut rotten = bytes.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        assert!(Summary::decode(&rotten).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(Summary::decode(&bytes[..length]).is_err(), "{length} bytes");
    }
}

#[test]
fn each_wrong_count_or_order_is_noticed_behind_a_right_checksum() {
    let good = summary();
    let body = good.encode()[..good.encoded_bytes() - CRC_BYTES].to_vec();
    for length in 0..body.len() {
        assert!(Summary::decode(&sealed(&body[..length])).is_err(), "{length} bytes");
    }
    assert!(Summary::decode(&sealed(&[&body[..], &[0]].concat())).is_err());
    let mut newer = body.clone();
    newer[11] = 3;
    assert_eq!(Summary::decode(&sealed(&newer)), Err("another version wrote it"));
    type Change = fn(&mut Summary);
    let contradictions: [Change; 9] = [
        |s| s.length += 1,
        |s| s.end = s.last.base_offset,
        |s| s.first.position = 1,
        |s| s.first.base_offset.0 += 1,
        |s| s.epochs.swap(0, 1),
        |s| s.epochs[0].start_offset.0 -= 1,
        |s| s.index.swap(1, 2),
        |s| s.index.clear(),
        |s| s.producers.swap(0, 1),
    ];
    for (i, change) in contradictions.into_iter().enumerate() {
        let mut wrong = good.clone();
        change(&mut wrong);
        assert_eq!(Summary::decode(&wrong.encode()), Err("it contradicts itself"), "contradiction {i}");
    }
}

#[test]
fn the_producers_that_appended_last_are_kept_and_five_batches_of_each() {
    let mut tail = ProducerTail::default();
    let mut header = *batch(Offset(0), 1, 1, 1, 10).header();
    for offset in 0..100 {
        // Producer 0 appends all the time, each other one once.
        header.base_offset = Offset(offset);
        header.producer_id = if offset % 2 == 0 { 0 } else { offset };
        tail.push(&header, 3);
        assert!(tail.len() <= 6);
    }
    let kept: Vec<_> = tail.batches(3).iter().map(|b| (b.producer_id, b.base_offset.0)).collect();
    assert_eq!(kept, [(0, 90), (0, 92), (0, 94), (0, 96), (97, 97), (0, 98), (99, 99)]);
    let again = ProducerTail::of_batches(&tail.batches(3));
    assert_eq!(again.batches(3), tail.batches(3));
}
