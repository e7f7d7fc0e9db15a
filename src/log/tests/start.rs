//! The start of the log: every step of its move, a crash after each, what readers find, and what a start finds.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::commit_mark::CommitMark;
use crate::log::index::Place;
use crate::log::*;
use crate::record::StampedBatch;
use crate::types::*;

/// Ten batches of two records: two in each of five segments, the last of them not closed; an epoch begins in the third.
pub(super) fn ten_batches(config: &LogConfig, seed: u64) -> (Node, Vec<StampedBatch>) {
    let mut node = Node::ready(SimDisk::new(seed), config.clone());
    let mut batches = Vec::new();
    for number in 0..10 {
        node.epoch = if number < 5 { 1 } else { 3 };
        batches.push(node.append(2, 4400));
    }
    node.settle();
    node.log.on_committed(HighWatermark(Offset(20)));
    node.pass_ms(50);
    node.settle();
    assert_eq!(segments(&node.disk), [0, 4, 8, 12, 16]);
    (node, batches)
}

pub(super) fn config() -> LogConfig {
    LogConfig { tail_cache_bytes_max: 0, ..small_config() }
}

pub(super) fn segments(disk: &SimDisk) -> Vec<i64> {
    disk.sizes().iter().map(|(id, _)| id.0.0).collect()
}

fn starts_told(events: &[LogEvent]) -> Vec<i64> {
    let start = |event: &LogEvent| match event {
        LogEvent::StartMoved { start, .. } => Some(start.offset.0),
        _ => None,
    };
    events.iter().filter_map(start).collect()
}

pub(super) fn bytes(batches: &[StampedBatch]) -> Vec<Vec<u8>> {
    batches.iter().map(bytes_of).collect()
}

/// Each step of it is the last thing that happens before a crash; then all is found from the old start or from the new one on, and
/// from the new one where that was told.
#[test]
fn a_crash_at_every_step_of_a_move_leaves_one_start_or_the_other() {
    let mut seen = std::collections::BTreeSet::new();
    for to in [1, 4, 7, 8, 9, 16, 20] {
        for (steps, seed) in (0..9).flat_map(|steps| (0..12).map(move |seed| (steps, seed))) {
            let (mut node, batches) = ten_batches(&config(), seed);
            node.start_at(to);
            node.turn();
            (0..steps).for_each(|_| _ = node.complete_any());
            let told = starts_told(&node.events());
            let mut node = Node::ready(node.crash(), config());
            let start = node.log.start();
            let epoch = if start.offset.0 == 0 { 0 } else { 1 + 2 * i32::from(start.offset.0 > 10) };
            let case = format!("to {to}, {steps} steps, seed {seed}: {start:?}");
            assert!([0, to].contains(&start.offset.0), "{case}");
            assert!(told.is_empty() || told == [start.offset.0], "{case}: {told:?}");
            assert_eq!(start.epoch, Epoch(epoch), "{case}");
            let first = (start.offset.0 / 4 * 4).min(16);
            let left = segments(&node.disk);
            assert_eq!(left.first(), Some(&first), "{case}: {left:?}");
            let read = bytes(&node.read_all().expect("all from the start on is there"));
            assert_eq!(read, bytes(&batches[start.offset.0 as usize / 2..]), "{case}");
            seen.insert((start.offset.0 == to, told.is_empty()));
            // It goes on from there, and further.
            node.append(1, 10);
            node.start_at(21);
            let events = node.settle();
            assert_eq!(starts_told(&events), [21], "{case}");
            let node = Node::ready(node.crash(), config());
            assert_eq!(node.log.start().offset, Offset(21), "{case}");
        }
    }
    assert_eq!(seen.len(), 3, "before it is told, after it was marked, after it was told: {seen:?}");
}

#[test]
fn a_rotten_slot_never_brings_an_earlier_start_back() {
    for slot in [0, BLOCK_BYTES] {
        let (mut node, _) = ten_batches(&config(), 5);
        node.start_at(13);
        node.turn();
        while starts_told(&node.events()).is_empty() {
            assert!(node.complete_any());
        }
        let mut disk = node.crash();
        disk.mark_mut()[slot + 20] ^= 1;
        let node = Node::ready(disk, config());
        assert_eq!(node.log.start(), OffsetAndEpoch { epoch: Epoch(3), offset: Offset(13) });
    }
}

/// Where the start lay in that segment nobody knows then: whoever runs the node is told.
#[test]
fn without_a_mark_the_log_starts_with_its_oldest_segment_and_says_so() {
    for (to, is_said) in [(13, true), (0, false)] {
        let (mut node, batches) = ten_batches(&config(), 5);
        if to > 0 {
            node.start_at(to);
        }
        node.settle();
        let mut disk = node.crash();
        for slot in [0, BLOCK_BYTES] {
            disk.mark_mut()[slot + 20] ^= 1;
        }
        let mut node = Node::ready(disk, config());
        let first = to / 4 * 4;
        assert_eq!(node.log.log_start(), Offset(first));
        assert_eq!(bytes(&node.read_all().unwrap()), bytes(&batches[first as usize / 2..]));
        let line = node.notes.iter().find(|note| note.contains("records that were deleted"));
        assert_eq!(line.is_some(), is_said, "{:?}", node.notes);
        assert!(line.is_none_or(|line| line.starts_with("The log is taken to start at 12,")), "{line:?}");
    }
}

#[test]
fn a_log_that_never_moved_has_marks_that_older_programs_read() {
    let (mut node, _) = ten_batches(&config(), 5);
    let versions = |disk: &mut SimDisk| [11, BLOCK_BYTES + 11].map(|at| disk.mark_mut()[at]);
    assert_eq!(versions(&mut node.disk), [2, 2]);
    node.start_at(1);
    node.settle();
    assert_eq!(versions(&mut node.disk), [3, 3]);
}

#[test]
fn a_segment_that_comes_back_is_no_part_of_the_log() {
    for back in [vec![0], vec![4], vec![0, 8], vec![0, 4, 8]] {
        let (mut node, batches) = ten_batches(&config(), 3);
        let before = node.disk.image();
        node.start_at(12);
        node.settle();
        let mut disk = node.crash();
        for id in &back {
            disk.put_segment(SegmentId(Offset(*id)), before.contents(SegmentId(Offset(*id))).to_vec());
        }
        let mut node = Node::ready(disk, config());
        assert_eq!(node.log.start().offset, Offset(12));
        assert!(node.notes.iter().any(|note| note.starts_with("Removing ")), "{:?}", node.notes);
        assert_eq!(bytes(&node.read_all().unwrap()), bytes(&batches[6..]));
        assert_eq!(segments(&node.disk), [12, 16], "they go again");
    }
}

#[test]
fn a_segment_that_the_mark_names_and_is_not_there_is_refused() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.start_at(9);
    node.settle();
    let mut disk = node.crash();
    disk.remove_segment(SegmentId(Offset(8)));
    let error = Node::open(disk, config()).err().expect("a file is missing").to_string();
    assert!(error.contains("00000000000000000008.log") && error.contains("missing"), "{error}");
}

/// The start lies at the end, inside of a segment: what is gone was not empty.
#[test]
fn all_segments_of_a_log_that_ends_at_its_start_are_missed() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.start_at(20);
    node.settle();
    assert_eq!(segments(&node.disk), [16]);
    let mut disk = node.crash();
    disk.remove_segment(SegmentId(Offset(16)));
    let error = Node::open(disk, config()).err().expect("a file is missing").to_string();
    assert!(error.contains("00000000000000000016.log") && error.contains("Restore it"), "{error}");
}

#[test]
fn a_mark_of_a_newer_program_is_refused_by_name() {
    let (node, _) = ten_batches(&config(), 3);
    let mut disk = node.crash();
    let slot = &mut disk.mark_mut()[..512];
    slot[8..12].copy_from_slice(&4u32.to_be_bytes());
    let crc = crc32c::crc32c(&slot[..508]);
    slot[508..].copy_from_slice(&crc.to_be_bytes());
    let error = Node::open(disk, config()).err().expect("another program wrote it").to_string();
    assert_eq!(error, "commit-mark is of version 4, which a newer program wrote");
}

#[test]
fn a_log_may_begin_where_it_ends() {
    // As it is left of a log that was replaced as a whole, before anything of the old one is gone.
    let (node, _) = ten_batches(&config(), 3);
    let mut disk = node.crash();
    let start = OffsetAndEpoch { epoch: Epoch(4), offset: Offset(80) };
    let mark = CommitMark {
        sequence: 1000,
        end: start.offset,
        epoch: start.epoch,
        place: Place { segment: SegmentId(start.offset), position: 0 },
        beginning: commit_mark::Beginning::anew(start),
        epochs_crc: 0,
        committed: start,
    };
    disk.mark_mut()[..512].copy_from_slice(&mark.encode());
    let held = QuorumState { epoch: Epoch(4), caught_up: true, ..QuorumState::EMPTY };
    disk.put_small(SmallFile::QuorumState, Some(quorum_state::encode(&held)));
    let mut node = Node::ready(disk, config());
    assert_eq!((node.log.start(), node.log.log_end().0), (start, start.offset));
    assert!(node.quorum_state.caught_up, "nothing of it was lost");
    assert_eq!(segments(&node.disk), [80]);
    // Its first batch goes on in the epoch of what is gone, and is no leader's first.
    let first = batch(start.offset, 4, 7, 2, 100);
    node.log.append(first.clone());
    node.settle();
    let mut node = Node::ready(node.crash(), config());
    assert_eq!((node.log.start(), node.log.log_end().0), (start, Offset(82)));
    assert_eq!(bytes(&node.read_all().unwrap()), bytes(&[first]));
    let mut disk = node.crash();
    disk.edit(SegmentId(start.offset), |bytes| bytes[15] = 3);
    assert!(Node::open(disk, config()).is_err(), "no batch is of an older epoch than what is gone");
}

#[test]
#[should_panic(expected = "a batch of epoch 2 behind a start of 3")]
fn no_batch_is_appended_in_an_epoch_before_that_of_what_is_gone() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.start_at(20);
    node.settle();
    // As of a log that begins where it ends.
    node.log.epochs.clear();
    node.log.append(batch(Offset(20), 2, 7, 1, 10));
}

#[test]
fn readers_find_nothing_before_the_start() {
    let (mut node, batches) = ten_batches(&LogConfig { read_cache_bytes_max: 64 << 20, ..config() }, 3);
    for from in [0, 9, 13] {
        node.read_one(Offset(from)).unwrap();
    }
    node.start_at(13);
    let end = node.log.log_end().0;
    let is_found = !matches!(node.log.read_memory(Offset(2), end, 1), ReadOutcome::OutOfRange);
    assert!(is_found, "until it is durable");
    node.settle();
    for from in [0, 9, 11] {
        assert!(matches!(node.log.read_memory(Offset(from), end, 1), ReadOutcome::OutOfRange), "{from}");
        assert!(!node.log.read_ahead(Offset(from), usize::MAX), "{from}");
    }
    let read = node.read_one(Offset(13)).unwrap();
    assert_eq!(bytes(&read[..1]), bytes(&batches[6..7]), "the batch that it lies in, as a whole");
}

#[test]
fn a_segment_waits_for_its_reader() {
    let (mut node, _) = ten_batches(&config(), 3);
    assert!(matches!(node.log.read(Offset(0), Offset(20), 1, 7), ReadOutcome::OnDevice));
    node.turn();
    node.start_at(8);
    node.turn();
    let read = |op: &DiskOp| matches!(op.kind, OpKind::Read { .. });
    while let Some(other) = node.disk.in_flight.iter().position(|op| !read(op)) {
        let completion = node.disk.complete_at(other);
        node.log.complete(completion);
        node.turn();
    }
    assert_eq!(starts_told(&node.events()), [8], "nobody else waits for him");
    assert_eq!(segments(&node.disk)[0], 0);
    let events = node.settle();
    let gone = |event: &LogEvent| matches!(event, LogEvent::ReadDone { result: Err(ReadError::Gone), .. });
    assert!(events.iter().any(gone), "{events:?}");
    assert_eq!(segments(&node.disk), [8, 12, 16]);
}

#[test]
fn a_stop_leaves_the_rest_to_the_next_start() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.start_at(12);
    node.turn();
    while starts_told(&node.events()).is_empty() {
        assert!(node.complete_any());
    }
    let disk = node.shut_down();
    assert_eq!(segments(&disk), [4, 8, 12, 16], "the one under way is waited for");
    let node = Node::ready(disk, config());
    assert_eq!(segments(&node.disk), [12, 16]);
}

#[test]
fn no_summary_outlives_its_segment() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.start_at(16);
    node.settle();
    for id in [0, 4, 8, 12] {
        assert_eq!(node.disk.small(SmallFile::Summary(SegmentId(Offset(id)))), None, "{id}");
    }
    assert_eq!(segments(&node.disk), [16]);
}

#[test]
#[should_panic(expected = "is committed up to 20")]
fn no_log_starts_above_what_is_committed() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.append(1, 10);
    node.settle();
    node.log.advance_start(OffsetAndEpoch { epoch: Epoch(3), offset: Offset(21) });
}
