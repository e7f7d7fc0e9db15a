//! The bytes of a summary: what was written is read, and nothing else.

use super::super::tests::harness::{batch, small_config};
use super::*;

/// Of a segment of three batches in two epochs, with two sections, one of them empty.
fn summary() -> Summary {
    let mut segment = Segment::new(SegmentId(Offset(7)), small_config().index_interval_bytes);
    let mut epochs = Vec::new();
    for (base, epoch) in [(7, 1), (9, 1), (11, 3)] {
        segment.push(batch(Offset(base), epoch, 1, 2, 3000).header());
        crate::log::epoch_checkpoint::note_batch(&mut epochs, Epoch(epoch), Offset(base));
    }
    let section = |tag, bytes: &[u8]| Section { tag, version: 2, bytes: bytes.to_vec() };
    let sections = vec![section(70, &[]), section(7, b"whatever the owner says")];
    Summary::of(&segment, Offset(13), &epochs, sections).expect("a segment with batches has a summary")
}

fn sealed(body: &[u8]) -> Vec<u8> {
    [body, &crc32c::crc32c(body).to_be_bytes()].concat()
}

#[test]
fn a_summary_reads_back_and_every_flipped_bit_is_noticed() {
    let summary = summary();
    assert_eq!((summary.epochs.len(), summary.index.len(), summary.sections.len()), (2, 3, 2));
    assert_eq!(summary.sections.iter().map(|s| s.tag).collect::<Vec<_>>(), [7, 70]);
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
    newer[11] = 4;
    assert_eq!(Summary::decode(&sealed(&newer)), Err("another version wrote it"));
    type Change = fn(&mut Summary);
    let contradictions: [Change; 10] = [
        |s| s.length += 1,
        |s| s.end = s.last.base_offset,
        |s| s.first.position = 1,
        |s| s.first.base_offset.0 += 1,
        |s| s.epochs.swap(0, 1),
        |s| s.epochs[0].start_offset.0 -= 1,
        |s| s.index.swap(1, 2),
        |s| s.index.clear(),
        |s| s.sections.swap(0, 1),
        |s| s.sections[1].tag = 7,
    ];
    for (i, change) in contradictions.into_iter().enumerate() {
        let mut wrong = good.clone();
        change(&mut wrong);
        assert_eq!(Summary::decode(&wrong.encode()), Err("it contradicts itself"), "contradiction {i}");
    }
}

#[test]
fn a_section_longer_than_the_file_is_noticed_behind_a_right_checksum() {
    let good = summary();
    let body = good.encode()[..good.encoded_bytes() - CRC_BYTES].to_vec();
    // The last section is empty: its length is the last field.
    for length in [1, 8, u32::MAX] {
        let mut wrong = body.clone();
        let at = wrong.len() - 4;
        wrong[at..].copy_from_slice(&length.to_be_bytes());
        assert_eq!(
            Summary::decode(&sealed(&wrong)),
            Err("its length is not what its counts say"),
            "{length}"
        );
    }
    // As many sections as there are, and one more.
    let count = HEAD_BYTES - 4..HEAD_BYTES;
    let mut wrong = body;
    wrong[count].copy_from_slice(&3u32.to_be_bytes());
    assert_eq!(Summary::decode(&sealed(&wrong)), Err("its length is not what its counts say"));
}
