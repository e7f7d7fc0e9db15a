//! Torn or rotten: no flipped bit of what was told as flushed is ever taken for a torn write, and torn writes are known as such.

use super::disk::{Random, SimDisk};
use super::harness::*;
use crate::log::torn::{SECTOR_BYTES, has_hole};
use crate::log::*;
use crate::record::{StampedBatch, check_fetched, configs_batch, data_batch, leader_change_batch};
use crate::types::*;

const SECTOR: usize = SECTOR_BYTES as usize;

fn config() -> LogConfig {
    LogConfig { commit_mark_idle_ms: u64::from(u32::MAX), segment_bytes_max: 1 << 20, ..small_config() }
}

/// A log whose first batch ends with a value of this size, below the mark.
fn begun(first_value_bytes: usize) -> Node {
    let mut node = Node::ready(SimDisk::new(5), config());
    node.append(1, first_value_bytes);
    node.settle();
    node
}

/// A batch of one record with this value.
fn valued(base: Offset, value: &[u8]) -> StampedBatch {
    let mut bytes = data_batch(&[value], 7, None).to_vec();
    bytes[12..16].copy_from_slice(&0i32.to_be_bytes());
    let (mut batches, error) = check_fetched(bytes.into());
    assert_eq!(error, None);
    batches[0].stamp(base, Epoch(1));
    batches.remove(0)
}

fn noise(random: &mut Random, length: usize) -> Vec<u8> {
    (0..length).map(|_| 1 + random.below(255) as u8).collect()
}

/// What a start does with it.
#[derive(Debug, PartialEq)]
enum Verdict {
    Whole,
    Cut,
    InDoubt,
    Refused,
}

fn verdict(disk: &mut SimDisk, end: Offset) -> Verdict {
    match recover(disk, &config(), &mut |_| Ok(())) {
        Ok(recovered) if recovered.doubt.is_some() => Verdict::InDoubt,
        Ok(recovered) if recovered.log_end.0 == end => Verdict::Whole,
        Ok(_) => Verdict::Cut,
        Err(RecoveryError::Corrupt(_)) => Verdict::Refused,
        Err(error) => panic!("{error}"),
    }
}

/// Each bit of what was told, from byte `from` on.
fn flip_each_bit(node: &Node, from: usize, what: &str) {
    let (disk, end) = (node.disk.image(), node.log.flushed().0);
    assert_eq!(verdict(&mut disk.image(), end), Verdict::Whole, "{what}");
    let size = node.log.size_bytes() as usize;
    for bit in from * 8..size * 8 {
        let mut rotten = disk.image();
        rotten.edit(SEGMENT_0, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let verdict = verdict(&mut rotten, end);
        let is_noticed = matches!(verdict, Verdict::InDoubt | Verdict::Refused);
        assert!(is_noticed, "{what}: bit {} of byte {} of {size}: {verdict:?}", bit % 8, bit / 8);
    }
}

#[test]
fn no_flipped_bit_of_one_told_batch_is_taken_for_a_torn_write() {
    // So that its header lies across a sector's end at each of its bytes, or its end does.
    for first in (381..445).step_by(3).chain([0, 100, 509, 510, 511]) {
        let mut node = begun(first);
        let from = node.log.size_bytes() as usize;
        node.append(1, 40);
        node.settle();
        flip_each_bit(&node, from, &format!("behind a value of {first} bytes"));
    }
}

#[test]
fn no_flipped_bit_of_several_told_batches_is_taken_for_a_torn_write() {
    for (first, values) in [(100, vec![30, 60, 500]), (401, vec![700, 20, 20]), (3_900, vec![150, 90, 1_200])]
    {
        let mut node = begun(first);
        let from = node.log.size_bytes() as usize;
        for value_bytes in values {
            node.append(2, value_bytes);
            node.settle();
        }
        flip_each_bit(&node, from, &format!("behind a value of {first} bytes"));
    }
}

#[test]
fn no_flipped_bit_of_a_batch_over_blocks_is_taken_for_a_torn_write() {
    let mut node = begun(200);
    let from = node.log.size_bytes() as usize;
    let value = noise(&mut node.disk.random, 4_500);
    let batch = valued(node.log.log_end().0, &value);
    node.log.append(batch);
    node.settle();
    flip_each_bit(&node, from, "over blocks");
}

#[test]
fn zeros_of_users_are_vouched_for() {
    for value in [vec![0; 600], vec![0; 3_000], [vec![9; 700], vec![0; 1_500], vec![9; 100]].concat()] {
        let mut node = begun(100);
        let from = node.log.size_bytes() as usize;
        let batch = valued(node.log.log_end().0, &value);
        node.log.append(batch);
        node.turn();
        let ends = |node: &mut Node| {
            let told = node.events().into_iter().filter(|event| matches!(event, LogEvent::Flushed(_)));
            told.count()
        };
        let is_mark = |op: &DiskOp| matches!(op.kind, OpKind::Write { file: FileId::CommitMark, .. });
        while !node.disk.in_flight.iter().any(is_mark) {
            assert!(node.complete_any(), "the mark is written");
            assert_eq!(ends(&mut node), 0, "nothing is told before the mark is durable");
        }
        node.append(1, 20);
        node.turn();
        assert!(node.disk.in_flight.iter().all(is_mark), "nor goes the next group");
        node.settle();
        flip_each_bit(&node, from, "a value with zeros");
    }
}

#[test]
fn a_hole_is_a_piece_that_could_pass_for_one_that_never_arrived() {
    let batch = |value: &[u8]| valued(Offset(1 << 40), value);
    let whole = |batch: &StampedBatch, position| has_hole(batch, 0..batch.size_bytes(), position);
    assert!(!whole(&batch(&[7; 2_000]), 100));
    assert!(whole(&batch(&[0; 2_000]), 100));
    // Up to the end of a sector, or from its beginning on.
    assert!(!whole(&batch(&[0; 300]), 0), "within one sector its header is beside it");
    assert!(whole(&batch(&[0; 300]), 400));
    assert!(!whole(&batch(&[0; 300]), 511 - 70 - 300), "so few of them do not count");
    let mut nearly = vec![0; 2_000];
    (0..2_000).step_by(512).for_each(|at| nearly[at] = 1);
    assert!(whole(&batch(&nearly), 0), "one bit could be all that tells it from a missing one");
}

/// A bit of the length and others behind it, in one batch: the length alone would be found by the checksum.
#[test]
fn a_flipped_length_in_a_rotten_batch_is_not_torn() {
    let mut random = Random(11);
    for round in 0..1_500 {
        let mut node = begun(random.below(500) as usize);
        let from = node.log.size_bytes() as usize;
        for _ in 0..=random.below(2) {
            let value_bytes = 1 + random.below(900) as usize;
            node.append(1 + random.below(3) as usize, value_bytes);
            node.settle();
        }
        let (end, size) = (node.log.flushed().0, node.log.size_bytes() as usize);
        let mut rotten = node.disk.image();
        rotten.edit(SEGMENT_0, |bytes| {
            bytes[from + 8 + random.below(4) as usize] ^= 1 << random.below(8);
            // Behind the header: a length of records may be among them.
            for _ in 0..=random.below(3) {
                let at = from + 61 + random.below((size - from - 61) as u64) as usize;
                bytes[at] ^= 1 << random.below(8);
            }
        });
        let verdict = verdict(&mut rotten, end);
        assert!(matches!(verdict, Verdict::InDoubt | Verdict::Refused), "round {round}: {verdict:?}");
    }
}

#[test]
fn a_block_that_was_meant_for_another_place_is_not_torn() {
    let mut random = Random(17);
    for round in 0..1_000 {
        let mut node = begun(random.below(900) as usize);
        let from = node.log.size_bytes() as usize;
        for _ in 0..4 {
            let value = noise(&mut random, 1_500);
            let batch = valued(node.log.log_end().0, &value);
            node.log.append(batch);
            node.settle();
        }
        let (end, size) = (node.log.flushed().0, node.log.size_bytes() as usize);
        let other = noise(&mut random, BLOCK_BYTES);
        let at = random.below(size.div_ceil(BLOCK_BYTES) as u64) as usize * BLOCK_BYTES;
        let mut rotten = node.disk.image();
        rotten.edit(SEGMENT_0, |bytes| bytes[at..at + BLOCK_BYTES].copy_from_slice(&other));
        let verdict = verdict(&mut rotten, end);
        let is_noticed = matches!(verdict, Verdict::InDoubt | Verdict::Refused);
        assert!(is_noticed, "round {round}: block {at} of {from}..{size}: {verdict:?}");
    }
}

/// The sectors of the writes in flight, in order.
fn sectors_in_flight(node: &Node) -> Vec<(usize, Vec<u8>)> {
    let mut sectors = Vec::new();
    for op in &node.disk.in_flight {
        if let OpKind::Write { file: FileId::Segment(_), position, buffer, length, .. } = &op.kind {
            let chunks = buffer.as_slice()[..*length].chunks(SECTOR).enumerate();
            sectors.extend(chunks.map(|(i, bytes)| (*position as usize + i * SECTOR, bytes.to_vec())));
        }
    }
    sectors.sort();
    sectors
}

#[test]
fn torn_writes_are_cut() {
    let mut random = Random(23);
    let (mut torn, mut doubts) = (0_u32, 0_u32);
    for _ in 0..200 {
        let mut node = begun(random.below(900) as usize);
        for _ in 0..=random.below(5) {
            let value_bytes = [20, 300, 2_000][random.below(3) as usize] + random.below(100) as usize;
            let value = noise(&mut random, value_bytes);
            node.next_tag += 1;
            let batch = match random.chance(50) {
                true => valued(node.log.log_end().0, &value),
                false => batch(node.log.log_end().0, 1, node.next_tag, 3, value_bytes),
            };
            node.log.append(batch);
        }
        node.turn();
        let (flushed, sectors) = (node.log.flushed().0, sectors_in_flight(&node));
        for _ in 0..50 {
            let mut left = node.disk.image();
            let keep = random.below(101);
            for (at, bytes) in sectors.iter().filter(|_| random.chance(keep)) {
                left.edit(SEGMENT_0, |all| all[*at..*at + SECTOR].copy_from_slice(bytes));
            }
            let recovered = recover(&mut left, &config(), &mut |_| Ok(())).expect("a torn write is no rot");
            assert!(recovered.log_end.0 >= flushed);
            torn += 1;
            doubts += u32::from(recovered.doubt.is_some());
        }
    }
    println!("{doubts} of {torn} torn writes are in doubt");
    assert!(doubts * 100 <= torn, "{doubts} of {torn}");
}

#[test]
fn a_stray_bit_in_the_zeros_ahead_stops_nobody() {
    let node = begun(300);
    let (end, size) = (node.log.flushed().0, node.log.size_bytes() as usize);
    for bit in (size * 8..(size + 100) * 8).chain([8_000 * 8 + 3]) {
        let mut stray = node.disk.image();
        stray.edit(SEGMENT_0, |bytes| bytes[bit / 8] ^= 1 << (bit % 8));
        let recovered = recover(&mut stray, &config(), &mut |_| Ok(())).expect("no rot of anything");
        assert_eq!((recovered.doubt, recovered.log_end.0), (None, end), "bit {bit}");
        assert!(recovered.notes.iter().any(|note| note.contains("stray bit")), "{:?}", recovered.notes);
    }
}

#[test]
fn good_batches_further_behind_than_one_write_are_no_torn_one() {
    let config = LogConfig { group_bytes_max: 4_096, ..config() };
    let mut node = Node::ready(SimDisk::new(6), config.clone());
    node.append(1, 100);
    node.settle();
    let from = node.log.size_bytes() as usize;
    for _ in 0..12 {
        node.append(1, 1_500);
        node.settle();
    }
    // Even of sectors that are gone.
    node.disk.edit(SEGMENT_0, |bytes| bytes[from.next_multiple_of(SECTOR)..][..SECTOR].fill(0));
    let recovered = recover(&mut node.disk, &config, &mut |_| Ok(())).unwrap();
    assert!(recovered.doubt.is_some_and(|doubt| doubt.why.contains("further than one write")));
}

#[test]
fn an_epoch_that_this_node_was_never_in_is_rot() {
    let mut node = begun(100);
    node.log.write_quorum_state(QuorumState { epoch: Epoch(1), ..QuorumState::EMPTY });
    let at = node.log.size_bytes() as usize;
    node.settle();
    node.epoch = 3;
    // A leader's first batch, whose epoch has rotted before anybody was told of it.
    node.append(1, 30);
    node.turn();
    let sectors = sectors_in_flight(&node);
    let mut left = node.disk.image();
    sectors
        .iter()
        .for_each(|(at, bytes)| left.edit(SEGMENT_0, |all| all[*at..*at + SECTOR].copy_from_slice(bytes)));
    let doubt = recover(&mut left, &config(), &mut |_| Ok(())).unwrap().doubt.expect("it is in doubt");
    assert!(doubt.why.contains("was never in") && doubt.position == at as u64, "{doubt:?}");
}

/// An epoch lies outside of the CRC: who begins one is told from the records.
#[test]
fn what_is_set_for_the_topic_begins_no_epoch() {
    let place = |node: &Node| (node.log.log_end().0, Epoch(2));
    let first = |node: &Node| {
        let (offset, epoch) = place(node);
        leader_change_batch(offset, epoch, 1, NodeId(1), &[NodeId(1)], &[NodeId(1)])
    };
    let rotten = |node: &Node| {
        let (offset, epoch) = place(node);
        let mut batch = configs_batch(1, &[("retention.ms", "5")]);
        batch.stamp(offset, epoch);
        batch
    };
    let doubt = |batch: &dyn Fn(&Node) -> StampedBatch| {
        let mut node = begun(100);
        node.log.write_quorum_state(QuorumState { epoch: Epoch(2), ..QuorumState::EMPTY });
        node.settle();
        let batch = batch(&node);
        node.log.append(batch);
        node.turn();
        let sectors = sectors_in_flight(&node);
        let mut left = node.disk.image();
        sectors.iter().for_each(|(at, bytes)| {
            left.edit(SEGMENT_0, |all| all[*at..*at + SECTOR].copy_from_slice(bytes))
        });
        recover(&mut left, &config(), &mut |_| Ok(())).unwrap().doubt.map(|doubt| doubt.why)
    };
    assert_eq!(doubt(&first), None);
    assert!(doubt(&rotten).is_some_and(|why| why.contains("is no leader's first one")));
}

#[test]
fn a_rotten_slot_of_the_mark_puts_a_torn_tail_in_doubt() {
    let mut node = begun(100);
    node.append(1, 2_000);
    node.turn();
    let sectors = sectors_in_flight(&node);
    let mut left = node.disk.image();
    let (at, bytes) = &sectors[0];
    left.edit(SEGMENT_0, |all| all[*at..*at + SECTOR].copy_from_slice(bytes));
    assert_eq!(recover(&mut left, &config(), &mut |_| Ok(())).unwrap().doubt, None);
    // Both slots have been written: the opening one, and the one behind the first batch, which is newer.
    left.mark_mut()[20] ^= 1;
    let doubt = recover(&mut left, &config(), &mut |_| Ok(())).unwrap().doubt.expect("it is in doubt");
    assert!(doubt.why.contains("slot of the commit mark"), "{doubt:?}");
}

#[test]
fn doubt_is_durable_before_anything_is_cut() {
    let mut node = begun(100);
    let from = node.log.size_bytes() as usize;
    node.append(1, 300);
    node.settle();
    node.disk.edit(SEGMENT_0, |bytes| bytes[from + 100] ^= 1);
    let before = node.disk.contents(SEGMENT_0).to_vec();
    let mut node = Node::open(node.disk, config()).unwrap();
    assert!(node.doubt.is_some() && node.quorum_state.in_doubt);
    // Raft may write another one meanwhile: it waits.
    node.log.write_quorum_state(QuorumState { epoch: Epoch(9), ..node.quorum_state });
    node.turn();
    let writes = |node: &Node| node.disk.in_flight.iter().filter(|op| is_quorum_state(&op.kind)).count();
    let is_alone = node.disk.in_flight.iter().all(|op| {
        is_quorum_state(&op.kind)
            || matches!(op.kind, OpKind::ReplaceFile { file: SmallFile::LeaderEpochCheckpoint, .. })
    });
    assert!(is_alone && writes(&node) == 1);
    assert_eq!(node.disk.contents(SEGMENT_0), before);
    let events = node.settle();
    assert!(matches!(events[..], [LogEvent::Ready, LogEvent::QuorumStateDurable]), "{events:?}");
    let file = quorum_state::decode(node.disk.small(SmallFile::QuorumState).unwrap()).unwrap();
    assert_eq!((file.epoch, file.in_doubt), (Epoch(9), true));
    assert!(node.disk.contents(SEGMENT_0)[from..].iter().all(|byte| *byte == 0));
    // At the next start nothing is damaged, and the doubt is still there.
    let node = Node::ready(node.disk, config());
    assert!(node.doubt.is_none() && node.quorum_state.in_doubt);
}

fn is_quorum_state(kind: &OpKind) -> bool {
    matches!(kind, OpKind::ReplaceFile { file: SmallFile::QuorumState, .. })
}

#[test]
#[should_panic(expected = "in doubt")]
fn nobody_goes_on_with_a_log_in_doubt_by_mistake() {
    let mut node = begun(100);
    let from = node.log.size_bytes() as usize;
    node.append(1, 300);
    node.settle();
    node.disk.edit(SEGMENT_0, |bytes| bytes[from + 100] ^= 1);
    let recovered = recover(&mut node.disk, &config(), &mut |_| Ok(())).unwrap();
    Log::new(config(), recovered);
}
