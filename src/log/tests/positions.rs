//! Every byte of a small log: torn above the commit mark it is cut, rotten below it is refused, and never read.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::record::StampedBatch;
use crate::types::*;

/// Four segments, three epochs, shut down cleanly: everything lies below the mark.
fn finished_log() -> (SimDisk, Vec<StampedBatch>) {
    let config = LogConfig { segment_bytes_max: 1000, ..small_config() };
    let mut node = Node::ready(SimDisk::new(1), config);
    let mut batches = Vec::new();
    for (epoch, value_bytes) in [(2, 100), (2, 300), (5, 50), (5, 200), (5, 400), (9, 30)] {
        node.epoch = epoch;
        batches.push(node.append(2, value_bytes));
        node.settle();
    }
    (node.shut_down(), batches)
}

fn refused(disk: &mut SimDisk) -> Option<Corrupt> {
    match recover(disk, &small_config(), &mut |_| Ok(())) {
        Err(RecoveryError::Corrupt(corrupt)) => Some(corrupt),
        Err(error) => panic!("{error}"),
        Ok(_) => None,
    }
}

#[test]
fn each_flipped_bit_below_the_mark_is_refused_and_nothing_is_cut() {
    let (disk, batches) = finished_log();
    let sizes = disk.sizes();
    assert_eq!(sizes.len(), 4, "{sizes:?}");
    assert_eq!(
        sizes.iter().map(|s| s.1).sum::<usize>(),
        batches.iter().map(|b| b.size_bytes()).sum::<usize>()
    );
    assert!(refused(&mut disk.image()).is_none());
    for (segment, size) in sizes {
        for bit in 0..size * 8 {
            let mut rotten = disk.image();
            rotten.edit(segment, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
            let before = rotten.contents(segment).to_vec();
            assert!(refused(&mut rotten).is_some(), "bit {bit} of {}", segment.file_name());
            assert_eq!(rotten.contents(segment), before);
        }
    }
}

#[test]
fn rot_is_named_with_its_place() {
    let (mut disk, batches) = finished_log();
    let position = batches[0].size_bytes() as u64;
    disk.edit(SEGMENT_0, |bytes| bytes[position as usize + 70] ^= 0x10);
    let corrupt = refused(&mut disk).unwrap();
    assert_eq!((corrupt.segment.as_str(), corrupt.position), ("00000000000000000000.log", position));
    assert!(corrupt.why.contains("CRC") && corrupt.why.contains("offset 2 to 12"), "{corrupt}");
}

#[test]
fn a_missing_or_foreign_segment_is_refused() {
    let (disk, _) = finished_log();
    for (segment, _) in disk.sizes() {
        let mut lacking = disk.image();
        lacking.remove_segment(segment);
        let corrupt = refused(&mut lacking).expect("a segment is missing");
        let is_first = segment == SEGMENT_0;
        assert_eq!(corrupt.why.contains("the log began with it"), is_first, "without {segment:?}: {corrupt}");
        assert_eq!(corrupt.segment == segment.file_name(), is_first, "{corrupt}");
        let mut short = disk.image();
        short.edit(segment, |bytes| _ = bytes.pop());
        assert!(refused(&mut short).is_some(), "one byte short: {}", segment.file_name());
    }
    let mut nothing = disk.image();
    disk.sizes().into_iter().for_each(|(segment, _)| nothing.remove_segment(segment));
    let corrupt = refused(&mut nothing).expect("all segments are missing");
    assert!(corrupt.why.contains("the log began with it"), "{corrupt}");
}

#[test]
fn who_starts_a_log_without_a_mark_is_told() {
    let says_so = |disk: &mut SimDisk| {
        let recovered = recover(disk, &small_config(), &mut |_| Ok(())).expect("the log recovers");
        recovered.notes.iter().any(|note| note.contains("no commit mark"))
    };
    let (mut disk, _) = finished_log();
    assert!(!says_so(&mut disk));
    disk.mark_mut().fill(0);
    assert!(says_so(&mut disk));
    assert!(!says_so(&mut SimDisk::new(1)), "a new directory has none");
    let mut empty = SimDisk::new(1);
    empty.put_segment(SEGMENT_0, vec![0; 4096]);
    assert!(!says_so(&mut empty), "nor has an empty log anything to lose");
}

/// Batches below a durable mark, then flushed ones above it; where the mark stands; the disk as a crash leaves it.
fn log_with_unmarked_tail() -> (SimDisk, Vec<StampedBatch>, usize) {
    let config = LogConfig { commit_mark_idle_ms: 1000, ..small_config() };
    let mut node = Node::ready(SimDisk::new(2), config);
    let mut batches = vec![node.append(3, 60), node.append(1, 100)];
    // They begin the epoch, and are told when the mark is behind them.
    node.settle();
    let marked = batches.iter().map(StampedBatch::size_bytes).sum();
    // Not due yet, so these stay above it.
    for value_bytes in [40, 333, 20, 90] {
        batches.push(node.append(2, value_bytes));
        node.settle();
    }
    (node.disk.image(), batches, marked)
}

#[test]
fn a_tail_damaged_from_each_byte_on_ends_there_above_the_mark_and_is_refused_below() {
    let (disk, batches, marked) = log_with_unmarked_tail();
    let end: usize = batches.iter().map(StampedBatch::size_bytes).sum();
    let tears: [fn(&mut Vec<u8>, usize); 3] =
        [|bytes, at| bytes[at..].fill(0), |bytes, at| bytes.truncate(at), |bytes, at| bytes[at..].fill(0xff)];
    for tear in tears {
        for position in 0..end {
            let mut torn = disk.image();
            torn.edit(SEGMENT_0, |bytes| tear(bytes, position));
            // The first byte that the tear changed: a batch may end with zeros.
            let same =
                disk.contents(SEGMENT_0).iter().zip(torn.contents(SEGMENT_0)).take_while(|(a, b)| a == b);
            let at = same.count().min(end);
            let Some(left) = left_after(&mut torn) else {
                assert!(at < marked, "torn at {at}, marked up to {marked}");
                continue;
            };
            assert!(at >= marked, "torn at {at}, marked up to {marked}");
            let mut ends = batches.iter().scan(0, |sum, b| {
                *sum += b.size_bytes();
                Some((*sum, b.next_offset()))
            });
            let whole = ends.by_ref().take_while(|(sum, _)| *sum <= at).last();
            assert_eq!(left, whole.map_or(Offset(0), |w| w.1), "torn at {at}");
            if position.is_multiple_of(13) {
                check_goes_on(torn, &batches);
            }
        }
    }
}

fn left_after(disk: &mut SimDisk) -> Option<Offset> {
    match recover(disk, &small_config(), &mut |_| Ok(())) {
        Ok(recovered) => Some(recovered.log_end.0),
        Err(_) => None,
    }
}

/// Append behind the cut, lose power: nothing of the torn tail may follow.
fn check_goes_on(disk: SimDisk, batches: &[StampedBatch]) {
    let mut node = Node::ready(disk, small_config());
    let kept = batches.iter().take_while(|b| b.next_offset() <= node.log.log_end().0).count();
    // As long as the batch that was there: what lies behind it would fit.
    let appended = batch(node.log.log_end().0, 1, 999, 2, 333);
    node.log.append(appended.clone());
    node.settle();
    let mut node = Node::ready(node.crash(), small_config());
    let found: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    let expected: Vec<_> = batches[..kept].iter().chain([&appended]).map(bytes_of).collect();
    assert!(found == expected, "{} batches instead of {}", found.len(), expected.len());
}

#[test]
fn good_batches_behind_a_torn_one_do_not_come_back() {
    let config = LogConfig {
        commit_mark_idle_ms: 1000,
        segment_bytes_max: 1 << 20,
        group_bytes_max: 1 << 20,
        ..small_config()
    };
    for torn in 1..5 {
        let mut node = Node::ready(SimDisk::new(4), config.clone());
        let mut batches = vec![node.append(1, WHOLE_BLOCK)];
        node.settle();
        batches.extend((0..4).map(|_| node.append(1, WHOLE_BLOCK)));
        assert!(batches.iter().all(|b| b.size_bytes() == BLOCK_BYTES));
        node.settle();
        node.disk.edit(SEGMENT_0, |bytes| bytes[torn * BLOCK_BYTES + 512..][..512].fill(0));
        let mut node = Node::ready(node.crash(), config.clone());
        assert!(node.doubt.is_none(), "{:?}", node.doubt);
        assert_eq!(node.log.log_end().0, Offset(torn as i64));
        node.next_tag = 99;
        let new = node.append(1, WHOLE_BLOCK);
        node.settle();
        let mut node = Node::ready(node.crash(), config.clone());
        let found: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
        assert!(found == batches[..torn].iter().chain([&new]).map(bytes_of).collect::<Vec<_>>());
    }
}

#[test]
fn rot_is_never_read() {
    let config = LogConfig { tail_cache_bytes_max: 0, ..small_config() };
    let (disk, batches) = finished_log();
    for (segment, size) in disk.sizes() {
        let mut node = Node::ready(disk.image(), config.clone());
        for byte in 0..size {
            node.disk.edit(segment, |bytes| bytes[byte] ^= 1 << (byte % 8));
            let error = node.read_all().expect_err("rot is an error");
            assert!(matches!(error, ReadError::Corrupt(_)), "byte {byte}: {error}");
            node.disk.edit(segment, |bytes| bytes[byte] ^= 1 << (byte % 8));
        }
        assert_eq!(node.read_all().unwrap().len(), batches.len());
    }
}

#[test]
fn without_a_mark_a_tail_may_end_with_the_file_but_not_when_the_mark_is_rotten() {
    let (disk, batches, _) = log_with_unmarked_tail();
    let mut torn = disk.image();
    torn.edit(SEGMENT_0, |bytes| bytes[70] ^= 1);
    torn.mark_mut().fill(0);
    assert_eq!(left_after(&mut torn), Some(Offset(0)), "no mark was ever written: Kafka's own directories");
    assert!(
        recover(&mut torn, &small_config(), &mut |_| Ok(())).unwrap().doubt.is_some(),
        "and nothing is missing"
    );
    let mut short = disk.image();
    short.mark_mut().fill(0);
    let end = batches.iter().map(StampedBatch::size_bytes).sum::<usize>();
    short.edit(SEGMENT_0, |bytes| bytes.truncate(end - 3));
    let recovered = recover(&mut short, &small_config(), &mut |_| Ok(())).unwrap();
    assert!(recovered.doubt.is_none(), "a file that Kafka did not finish ends anywhere");
    torn.mark_mut().fill(0xee);
    assert!(refused(&mut torn).unwrap().why.contains("commit mark"));
    let mut whole = disk.image();
    whole.mark_mut().fill(0xee);
    assert_eq!(left_after(&mut whole), batches.last().map(StampedBatch::next_offset));
}

#[test]
fn under_a_mark_even_an_empty_next_segment_vouches_for_the_one_before() {
    let (mut disk, batches, marked) = log_with_unmarked_tail();
    disk.edit(SEGMENT_0, |bytes| bytes[marked + 70] ^= 1);
    assert_eq!(left_after(&mut disk.image()), Some(batches[2].base_offset()), "in doubt so far");
    disk.put_segment(SegmentId(batches[5].next_offset()), vec![0; 4096]);
    assert!(refused(&mut disk).unwrap().why.contains("a later segment follows"));
}

#[test]
fn a_segment_that_another_follows_was_whole_once() {
    let (disk, _) = finished_log();
    for with_later_batches in [true, false] {
        let mut torn = disk.image();
        torn.mark_mut().fill(0);
        torn.edit(SEGMENT_0, |bytes| bytes[70] ^= 1);
        if !with_later_batches {
            for (segment, _) in torn.sizes().into_iter().skip(1) {
                torn.put_segment(segment, vec![0; 4096]);
            }
        }
        // Empty ones may be left of a roll that Kafka did not flush.
        assert_eq!(refused(&mut torn).is_some(), with_later_batches);
        if !with_later_batches {
            let node = Node::ready(torn, small_config());
            assert_eq!(node.disk.sizes().len(), 1);
        }
    }
}
