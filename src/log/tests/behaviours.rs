//! What the log promises its owner, one promise a test.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::record::StampedBatch;
use crate::types::*;

fn fresh() -> Node {
    Node::ready(SimDisk::new(3), small_config())
}

fn flushed_ends(events: &[LogEvent]) -> Vec<i64> {
    let end = |event: &LogEvent| match event {
        LogEvent::Flushed(FlushedOffset(end)) => Some(end.0),
        _ => None,
    };
    events.iter().filter_map(end).collect()
}

fn group_writes(node: &Node) -> usize {
    let is_group = |op: &&DiskOp| matches!(&op.kind, OpKind::Write { file: FileId::Segment(_), .. });
    node.disk.in_flight.iter().filter(is_group).count()
}

#[test]
fn what_arrives_during_a_flush_is_the_next_group() {
    let mut node = fresh();
    for _ in 0..16 {
        node.append(1, 20);
    }
    node.turn();
    assert_eq!(group_writes(&node), 1, "sixteen batches of one turn are one write");
    for _ in 0..5 {
        node.append(1, 20);
        node.turn();
    }
    assert_eq!(group_writes(&node), 1, "the next group waits for the flush");
    assert_eq!(flushed_ends(&node.settle()), [16, 21]);
}

#[test]
fn flushed_waits_for_every_chunk_of_the_group() {
    let mut node = fresh();
    node.append(1, 3000);
    node.append(1, 3000);
    node.turn();
    assert_eq!(group_writes(&node), 2);
    let write =
        |op: &DiskOp| matches!(&op.kind, OpKind::Write { position: 4096, file: FileId::Segment(_), .. });
    let second = node.disk.in_flight.iter().position(write).unwrap();
    let completion = node.disk.complete_at(second);
    node.log.complete(completion);
    assert!(node.events().is_empty(), "the later chunk alone says nothing");
    assert_eq!(flushed_ends(&node.settle()), [2]);
}

#[test]
fn a_batch_larger_than_all_buffers_goes_in_parts() {
    let mut node = fresh();
    let small = node.append(1, 10);
    let large = node.append(2, 30_000);
    let last = node.append(1, 10);
    let events = node.settle();
    assert_eq!(flushed_ends(&events).last(), Some(&4));
    let mut node = Node::ready(node.crash(), small_config());
    let all: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    assert!(all == [&small, &large, &last].map(bytes_of));
    // It alone is larger than a segment may be, so it has one of its own.
    assert_eq!(node.disk.sizes().iter().map(|(id, _)| id.0.0).collect::<Vec<_>>(), [0, 1, 3]);
}

#[test]
fn a_failed_write_ends_it_all() {
    let mut node = fresh();
    node.disk.fail = Some(|kind| matches!(kind, OpKind::Write { .. }));
    node.append(2, 3000);
    let events = node.settle();
    assert!(matches!(&events[..], [LogEvent::Failed(error)] if error.errno == 5), "{events:?}");
    node.append(1, 10);
    node.log.truncate(Offset(0));
    node.log.write_quorum_state(QuorumState::EMPTY);
    node.log.shutdown();
    assert!(node.settle().is_empty(), "nothing is acknowledged after a failure");
    assert_eq!(node.log.flushed(), FlushedOffset(Offset(0)));
}

#[test]
fn a_failed_read_is_an_answer_and_not_the_end() {
    let mut node = Node::ready(SimDisk::new(3), LogConfig { tail_cache_bytes_max: 0, ..small_config() });
    node.append(1, 10);
    node.settle();
    node.disk.fail = Some(|kind| matches!(kind, OpKind::Read { .. }));
    assert!(matches!(node.read_one(Offset(0)), Err(ReadError::Disk(_))));
    assert_eq!(node.read_one(Offset(0)).unwrap().len(), 1);
}

#[test]
fn the_latest_quorum_state_wins_and_each_write_is_answered() {
    let mut node = fresh();
    let state = |epoch| QuorumState {
        epoch: Epoch(epoch),
        leader: None,
        voted: None,
        caught_up: false,
        in_doubt: false,
    };
    (1..=4).for_each(|epoch| node.log.write_quorum_state(state(epoch)));
    node.turn();
    let written =
        node.disk.in_flight.iter().filter(|op| matches!(op.kind, OpKind::ReplaceFile { .. })).count();
    assert_eq!(written, 1);
    let events = node.settle();
    assert_eq!(events.iter().filter(|e| matches!(e, LogEvent::QuorumStateDurable)).count(), 4);
    assert_eq!(Node::ready(node.crash(), small_config()).quorum_state, state(4));
}

#[test]
fn a_shutdown_waits_for_the_quorum_state() {
    let mut node = fresh();
    node.append(1, 10);
    node.settle();
    node.log.write_quorum_state(QuorumState { epoch: Epoch(3), ..QuorumState::EMPTY });
    node.log.shutdown();
    node.turn();
    let is_vote = |op: &DiskOp| matches!(op.kind, OpKind::ReplaceFile { file: SmallFile::QuorumState, .. });
    while let Some(index) = node.disk.in_flight.iter().position(|op| !is_vote(op)) {
        let completion = node.disk.complete_at(index);
        node.log.complete(completion);
        node.turn();
    }
    assert!(node.events().is_empty() && node.disk.in_flight.len() == 1);
    let events = node.settle();
    assert!(matches!(events[..], [LogEvent::QuorumStateDurable, LogEvent::ShutDown]), "{events:?}");
}

#[test]
fn quorum_state_follows_the_log_and_is_never_guessed() {
    let mut node = fresh();
    node.epoch = 6;
    node.append(1, 10);
    node.log.write_quorum_state(QuorumState {
        epoch: Epoch(4),
        leader: Some(NodeId(1)),
        voted: None,
        caught_up: true,
        in_doubt: false,
    });
    node.settle();
    let mut disk = node.crash();
    let raised = Node::open(disk.image(), small_config()).unwrap();
    assert_eq!((raised.quorum_state.epoch, raised.quorum_state.leader), (Epoch(6), None));
    assert!(raised.quorum_state.caught_up && raised.notes[0].contains("from 4 to 6"), "{:?}", raised.notes);

    // A vote in the very epoch of the last batch is one that was given, and must not be given again.
    let voted = ReplicaKey { id: NodeId(2), directory_id: Uuid(9) };
    let state = QuorumState {
        epoch: Epoch(6),
        leader: Some(NodeId(2)),
        voted: Some(voted),
        caught_up: true,
        in_doubt: false,
    };
    disk.put_small(SmallFile::QuorumState, Some(quorum_state::encode(&state)));
    let kept = Node::open(disk.image(), small_config()).unwrap();
    assert_eq!((kept.quorum_state, kept.notes), (state, Vec::new()));

    disk.put_small(SmallFile::QuorumState, None);
    let forgotten = Node::open(disk.image(), small_config()).unwrap();
    assert_eq!(forgotten.quorum_state, QuorumState { epoch: Epoch(6), ..QuorumState::EMPTY });

    disk.put_small(SmallFile::QuorumState, Some(b"{}".to_vec()));
    let error = Node::open(disk, small_config()).map(|_| ()).unwrap_err();
    assert!(error.to_string().starts_with("quorum-state is corrupt"), "{error}");
}

#[test]
fn truncation_inside_a_batch_cuts_the_whole_batch() {
    for tail_cache_bytes_max in [0, 100_000] {
        let config = LogConfig { tail_cache_bytes_max, ..small_config() };
        let mut node = Node::ready(SimDisk::new(3), config);
        node.append(2, 10);
        node.append(3, 10);
        node.settle();
        node.log.truncate(Offset(4));
        let events = node.settle();
        assert!(matches!(events[..], [LogEvent::Truncated(LogEndOffset(Offset(2)))]), "{events:?}");
        assert_eq!((node.log.log_end().0, node.log.flushed().0), (Offset(2), Offset(2)));
        let kept = node.append(1, 10);
        node.settle();
        assert_eq!(node.read_all().unwrap().last().map(bytes_of), Some(bytes_of(&kept)));
    }
}

#[test]
fn cuts_that_wait_behind_one_inside_of_a_batch_follow_it_down() {
    let config = LogConfig { tail_cache_bytes_max: 0, ..small_config() };
    let mut node = Node::ready(SimDisk::new(3), config);
    let kept = node.append(2, 10);
    node.append(3, 10);
    node.append(4, 10);
    node.settle();
    node.log.truncate(Offset(4));
    node.log.truncate(Offset(3));
    let events = node.settle();
    let ends: Vec<_> = events
        .iter()
        .map(|event| match event {
            LogEvent::Truncated(end) => end.0,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(ends, [Offset(2), Offset(2)], "neither 4 nor 3 is an end of a batch");
    let new = node.append(1, 10);
    assert_eq!(new.base_offset(), Offset(2));
    node.settle();
    let found: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    assert!(found == [bytes_of(&kept), bytes_of(&new)]);
}

#[test]
fn a_cut_that_meets_rot_stops_the_node_and_cuts_nothing() {
    let config = LogConfig { tail_cache_bytes_max: 0, ..small_config() };
    let mut node = Node::ready(SimDisk::new(3), config);
    let batches: Vec<_> = (0..4).map(|_| node.append(2, 100)).collect();
    node.settle();
    // The second batch of four is rotten; the cut behind the third has to pass it.
    node.disk.edit(SEGMENT_0, |bytes| bytes[batches[0].size_bytes() + 80] ^= 1);
    let before = node.disk.contents(SEGMENT_0).to_vec();
    node.log.truncate(Offset(6));
    let events = node.settle();
    assert!(matches!(events[..], [LogEvent::Failed(_)]), "{events:?}");
    assert_eq!(node.disk.contents(SEGMENT_0), before);
}

#[test]
fn an_unwritten_batch_is_cut_without_touching_the_device() {
    let mut node = fresh();
    node.append(1, 10);
    node.settle();
    node.append(1, 10);
    node.log.truncate(Offset(1));
    node.turn();
    assert_eq!(group_writes(&node), 0);
    assert!(matches!(node.events()[..], [LogEvent::Truncated(LogEndOffset(Offset(1)))]));
    assert_eq!(node.log.unflushed_bytes(), 0);
}

#[test]
fn a_read_of_what_is_cut_meanwhile_is_gone() {
    let mut node = Node::ready(SimDisk::new(3), LogConfig { tail_cache_bytes_max: 0, ..small_config() });
    node.append(1, 10);
    node.append(1, 10);
    node.settle();
    assert!(matches!(node.log.read(Offset(1), Offset(9), 100, 1), ReadOutcome::OnDevice));
    node.log.truncate(Offset(1));
    node.append(1, 20);
    let events = node.settle();
    let gone = |e: &LogEvent| matches!(e, LogEvent::ReadDone { token: 1, result: Err(ReadError::Gone) });
    assert!(events.iter().any(gone), "{events:?}");
}

#[test]
fn reads_keep_to_their_bounds() {
    for tail_cache_bytes_max in [0, 100_000] {
        let config = LogConfig { tail_cache_bytes_max, ..small_config() };
        let mut node = Node::ready(SimDisk::new(3), config);
        let batches: Vec<_> = (0..6).map(|_| node.append(2, 100)).collect();
        node.settle();
        let size = batches[0].size_bytes();
        for (from, bound, max_bytes, expected) in [
            (0, 12, 1 << 20, 0..6),
            (3, 12, 0, 1..2),
            (3, 12, 2 * size, 1..3),
            (3, 8, 1 << 20, 1..4),
            (3, 9, 1 << 20, 1..4),
            (3, 4, 1 << 20, 1..2),
            (2, 3, 1 << 20, 0..0),
        ] {
            let read = match node.log.read(Offset(from), Offset(bound), max_bytes, 1) {
                ReadOutcome::Batches(batches) => {
                    assert!(!batches.is_empty(), "{from}..{bound}: nothing from memory is Empty");
                    batches.iter().collect()
                }
                ReadOutcome::Empty => Vec::new(),
                ReadOutcome::OnDevice => match node.settle().pop() {
                    Some(LogEvent::ReadDone { result, .. }) => result.unwrap().iter().collect(),
                    other => panic!("{other:?}"),
                },
                other @ (ReadOutcome::OutOfRange | ReadOutcome::InBlock) => panic!("{from}: {other:?}"),
            };
            let bytes: Vec<_> = read.iter().map(bytes_of).collect();
            assert!(
                bytes == batches[expected.clone()].iter().map(bytes_of).collect::<Vec<_>>(),
                "{from}..{bound}"
            );
        }
        assert!(matches!(node.log.read(Offset(13), Offset(20), 1, 1), ReadOutcome::OutOfRange));
        assert!(matches!(node.log.read(Offset(12), Offset(20), 1, 1), ReadOutcome::Empty));
    }
}

/// A value much larger than what a read asks the device for at first.
const LARGE: usize = 200_000;

#[test]
fn a_batch_larger_than_one_read_is_read_on() {
    let uncached =
        |segment_bytes_max| LogConfig { tail_cache_bytes_max: 0, segment_bytes_max, ..small_config() };
    let mut node = Node::ready(SimDisk::new(3), uncached(1 << 20));
    let batches: Vec<_> = [10, LARGE, 20, LARGE, 30].into_iter().map(|bytes| node.append(1, bytes)).collect();
    node.settle();
    for (from, max_bytes, expected) in
        [(0, 0, 0..1), (1, 0, 1..2), (1, 1 << 20, 1..5), (3, 0, 3..4), (4, 0, 4..5)]
    {
        assert!(matches!(node.log.read(Offset(from), Offset(5), max_bytes, 9), ReadOutcome::OnDevice));
        let Some(LogEvent::ReadDone { token: 9, result: Ok(read) }) = node.settle().pop() else {
            panic!("the read of {from} ends")
        };
        let read: Vec<_> = read.iter().map(|batch| bytes_of(&batch)).collect();
        assert!(read == batches[expected].iter().map(bytes_of).collect::<Vec<_>>(), "from {from}");
    }
    // A length that reaches over the end of the log is rot, and so is a file that ends within the batch.
    let at = batches[0].size_bytes();
    let mut rotten = Node::ready(node.shut_down(), uncached(1 << 20));
    rotten.disk.edit(SEGMENT_0, |bytes| bytes[at + 8..at + 12].copy_from_slice(&1_000_000_i32.to_be_bytes()));
    let error = rotten.read_one(Offset(1)).expect_err("rot");
    assert!(error.to_string().contains("where the log has"), "{error}");
    rotten.disk.edit(SEGMENT_0, |bytes| bytes.truncate(at + 5000));
    let error = rotten.read_one(Offset(1)).expect_err("the file is shorter than the log");
    assert!(error.to_string().contains("ends before the log"), "{error}");
}

#[test]
fn the_newest_batches_are_served_from_memory_within_its_bound() {
    let mut node = fresh();
    let served_from_memory = |node: &mut Node| {
        let (end, mut found) = (node.log.log_end().0, Vec::new());
        for offset in 0..end.0 {
            let read = node.log.read(Offset(offset), Offset(offset + 1), 0, 9);
            let ReadOutcome::Batches(batches) = read else { continue };
            found.push((offset, batches.size_bytes()));
        }
        node.settle();
        found
    };
    for round in 1..=5 {
        for _ in 0..10 {
            node.append(1, 900);
        }
        let unflushed = served_from_memory(&mut node);
        assert!(unflushed.len() >= 10, "what is not flushed is in memory, and only there: {unflushed:?}");
        node.settle();
        let end = node.log.log_end().0.0;
        let cached = served_from_memory(&mut node);
        // 6000 bytes take six batches of 970.
        assert_eq!(
            cached.iter().map(|(at, _)| *at).collect::<Vec<_>>(),
            ((end - 6)..end).collect::<Vec<_>>()
        );
        assert!(cached.iter().map(|(_, bytes)| bytes).sum::<usize>() <= small_config().tail_cache_bytes_max);
        node.log.truncate(Offset(end - 4));
        node.settle();
        let left = served_from_memory(&mut node);
        assert_eq!(left.len(), 2, "round {round}: what was not cut is still there");
    }
}

#[test]
fn of_equal_timestamps_the_first_is_the_largest() {
    let config = LogConfig { segment_bytes_max: 12_000, ..small_config() };
    let mut node = Node::ready(SimDisk::new(1), config);
    let append = |node: &mut Node, wall_ms, value_bytes| {
        node.next_tag = wall_ms;
        let offset = node.append(1, value_bytes).base_offset();
        let queued = node.log.max_timestamp();
        node.settle();
        assert_eq!(queued, node.log.max_timestamp(), "queued or written");
        offset
    };
    append(&mut node, 50, 100);
    let first = append(&mut node, 90, 100);
    // Of the same run, of another run, of other segments; and less in all of them.
    for (wall_ms, value_bytes) in [(90, 100), (90, 5000), (90, 5000), (90, 9000), (20, 9000), (90, 10)] {
        append(&mut node, wall_ms, value_bytes);
        assert_eq!(node.log.max_timestamp(), Some((90, first)));
    }
    assert!(node.disk.sizes().len() > 2);
    let later = append(&mut node, 91, 10);
    assert_eq!(node.log.max_timestamp(), Some((91, later)));
}

#[test]
fn a_log_may_start_later_than_at_0() {
    let mut disk = SimDisk::new(1);
    // Further than offsets relative to 0 reach in Kafka's index files.
    let start = Offset(3_000_000_000);
    let first = batch(start, 3, 1, 5, 40);
    disk.put_segment(SegmentId(start), bytes_of(&first));
    let mut node = Node::ready(disk, small_config());
    assert_eq!((node.log.log_start(), node.log.log_end().0), (start, Offset(start.0 + 5)));
    assert!(matches!(node.log.read(Offset(start.0 - 1), Offset(start.0 + 5), 1, 1), ReadOutcome::OutOfRange));
    let second = node.append(1, 40);
    node.settle();
    assert_eq!(node.disk.sizes().len(), 1, "both are in the same segment");
    let mut node = Node::ready(node.crash(), small_config());
    let found: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    assert!(found == [bytes_of(&first), bytes_of(&second)]);
}

#[test]
fn timestamps_are_found_on_the_device_and_in_memory() {
    let mut node = fresh();
    // The first batch of an epoch is a control batch: no time leads to it.
    node.append(1, 10);
    node.next_tag = 100;
    let old = node.append(1, 5000);
    node.settle();
    node.next_tag = 200;
    let new = node.append(1, 10);
    const END: Offset = Offset(i64::MAX);
    assert_eq!(node.log.seek_timestamp(101, Offset(0), new.base_offset()), None, "it ends above the bound");
    assert_eq!(
        node.log.seek_timestamp(50, Offset(0), END),
        Some(Offset(0)),
        "the run of batches that it lies in"
    );
    assert_eq!(node.log.seek_timestamp(101, Offset(0), END), Some(new.base_offset()));
    assert_eq!(node.log.seek_timestamp(201, Offset(0), END), None);
    assert_eq!(node.log.max_timestamp(), Some((200, new.base_offset())));
    node.settle();
    node.log.truncate(Offset(2));
    node.settle();
    assert_eq!(node.log.max_timestamp(), Some((100, old.base_offset())));
}

#[test]
fn an_idle_log_asks_for_a_turn_and_writes_its_mark() {
    let mut node = fresh();
    node.append(1, 10);
    node.settle();
    assert_eq!(node.log.deadline(), None, "the mark is behind the first batch of an epoch when that is told");
    node.append(1, 10);
    node.pass_ms(3);
    node.settle();
    let deadline = node.log.deadline().unwrap();
    assert_eq!(deadline, node.now.plus_ms(10));
    node.now.monotonic_ns = deadline;
    node.settle();
    assert_eq!(node.log.deadline(), None);
    // What lies below the mark may not be missing any more.
    let mut disk = node.crash();
    disk.edit(SEGMENT_0, |bytes| bytes.fill(0));
    assert!(Node::open(disk, small_config()).is_err());
}

#[test]
fn what_is_under_way_and_what_waits_for_the_next_group_is_counted() {
    let mut node = fresh();
    let first = node.append(1, 300).size_bytes() as u64;
    node.turn();
    assert_eq!((node.log.unflushed_bytes(), node.log.size_bytes()), (first, first), "under way");
    let second = node.append(1, 500).size_bytes() as u64;
    assert_eq!((node.log.unflushed_bytes(), node.log.size_bytes()), (first + second, first + second));
    node.settle();
    assert_eq!((node.log.unflushed_bytes(), node.log.size_bytes()), (0, first + second));
}

#[test]
fn a_log_that_is_never_idle_moves_its_mark_after_so_many_bytes() {
    let config =
        LogConfig { commit_mark_idle_ms: u64::from(u32::MAX), segment_bytes_max: 8 << 20, ..small_config() };
    let mut node = Node::ready(SimDisk::new(3), config);
    let (mut appended, mut at_mark) = (0, Vec::new());
    while appended < 3 * COMMIT_MARK_INTERVAL_BYTES {
        // Time stands still, and something is always under way.
        appended += node.append(1, 9000).size_bytes() as u64;
        node.turn();
        let is_mark = |op: &DiskOp| matches!(op.kind, OpKind::Write { file: FileId::CommitMark, .. });
        loop {
            if node.disk.in_flight.iter().any(is_mark) && at_mark.last() != Some(&appended) {
                at_mark.push(appended);
            }
            if !node.complete_any() {
                break;
            }
        }
    }
    let mut last = 0;
    for bytes in at_mark {
        assert!(bytes - last <= COMMIT_MARK_INTERVAL_BYTES + 3 * 9100, "{last}, then {bytes}");
        last = bytes;
    }
    assert!(last >= 2 * COMMIT_MARK_INTERVAL_BYTES, "{last}");
}

#[test]
fn fullness_and_stalls_are_seen() {
    let mut node = fresh();
    assert_eq!((node.log.flush_pending_since(), node.log.is_full()), (None, false));
    node.pass_ms(5);
    node.append(2, 20_000);
    node.append(2, 20_000);
    node.turn();
    assert!(node.log.is_full());
    assert_eq!(node.log.flush_pending_since(), Some(5 * NS_PER_MS));
    node.settle();
    assert_eq!((node.log.flush_pending_since(), node.log.is_full()), (None, false));
    assert_eq!(node.log.unflushed_bytes(), 0);
    assert_eq!(node.log.size_bytes(), node.disk.image().sizes_of_batches());
}

#[test]
fn the_epoch_checkpoint_follows_the_log() {
    let mut node = fresh();
    for epoch in [1, 4] {
        node.epoch = epoch;
        node.append(3, 10);
    }
    node.settle();
    assert_eq!(node.disk.small(SmallFile::LeaderEpochCheckpoint), Some(&b"0\n2\n1 0\n4 3\n"[..]));
    node.log.truncate(Offset(3));
    node.settle();
    assert_eq!(node.disk.small(SmallFile::LeaderEpochCheckpoint), Some(&b"0\n1\n1 0\n"[..]));
    let mut disk = node.crash();
    disk.put_small(SmallFile::LeaderEpochCheckpoint, Some(b"0\n1\n9 9\n".to_vec()));
    let node = Node::ready(disk, small_config());
    assert_eq!(node.disk.small(SmallFile::LeaderEpochCheckpoint), Some(&b"0\n1\n1 0\n"[..]));
}

#[test]
fn nothing_is_ready_or_flushed_before_the_opening_flush() {
    let mut node = fresh();
    node.append(1, 10);
    node.settle();
    node.disk.kill();
    let mut node = Node::open(node.disk, small_config()).unwrap();
    node.turn();
    assert!(node.events().is_empty());
    assert_eq!(node.log.flushed(), FlushedOffset(Offset(0)));
    assert_eq!(node.log.log_end(), LogEndOffset(Offset(1)));
    node.append(1, 10);
    node.turn();
    assert_eq!(group_writes(&node), 0, "no batch is written before the repairs are done");
    let events = node.settle();
    assert!(matches!(events[0], LogEvent::Ready), "{events:?}");
    assert_eq!(flushed_ends(&events), [2]);
}

#[test]
fn recovery_hands_out_each_header_in_order() {
    let mut node = fresh();
    let batches: Vec<_> = (0..40).map(|_| node.append(2, 700)).collect();
    node.settle();
    let mut headers = Vec::new();
    recover(&mut node.crash(), &small_config(), &mut |part| {
        if let Recovered::Batch(batch) = part {
            headers.push(*batch.header());
        }
        Ok(())
    })
    .unwrap();
    assert_eq!(headers, batches.iter().map(|b: &StampedBatch| *b.header()).collect::<Vec<_>>());
}

#[test]
fn the_tail_cache_says_how_much_it_holds() {
    let mut node = Node::ready(SimDisk::new(3), LogConfig { tail_cache_bytes_max: 0, ..small_config() });
    for _ in 0..3 {
        node.append(1, 20);
    }
    let held: usize = node.log.tail.iter_from(Offset(0)).map(StampedBatch::size_bytes).sum();
    assert!(held > 3 * 20);
    assert_eq!(node.log.tail_cache_bytes(), held as u64, "what is not flushed stays, over the bound too");
    node.settle();
    node.append(1, 20);
    assert!(node.log.tail_cache_bytes() < held as u64);
}

/// Buffers of 12 KiB together, and zeros enough for all that a test writes.
fn roomy() -> LogConfig {
    LogConfig { segment_bytes_max: 1 << 20, zero_ahead_bytes: 1 << 16, ..small_config() }
}

#[test]
fn what_was_copied_ahead_counts_among_the_buffers_of_its_group() {
    let mut node = Node::ready(SimDisk::new(3), roomy());
    node.append(1, 20);
    node.turn();
    for _ in 0..3 {
        node.append(1, 3000);
        node.turn();
    }
    assert_eq!(flushed_ends(&node.settle()), [1, 4], "three buffers hold all three");
}

#[test]
fn what_was_copied_ahead_and_then_cut_is_never_written() {
    let mut node = Node::ready(SimDisk::new(3), roomy());
    let first = node.append(1, 20);
    node.turn();
    node.append(1, 300);
    node.turn();
    assert_eq!(group_writes(&node), 1, "the second is copied while the first is written");
    node.log.truncate(Offset(1));
    let last = node.append(1, 40);
    node.settle();
    let mut node = Node::ready(node.crash(), roomy());
    let all: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    assert!(all == [&first, &last].map(bytes_of));
}

#[test]
fn a_cut_in_front_of_a_batch_that_is_half_written_takes_the_half_away() {
    let mut node = Node::ready(SimDisk::new(3), roomy());
    let first = node.append(1, 20);
    node.append(1, 30_000);
    node.turn();
    while node.log.writer.partial == 0 {
        assert!(node.complete_any(), "the large batch is begun");
    }
    node.log.truncate(Offset(1));
    let last = node.append(1, 40);
    node.settle();
    assert_eq!(node.log.flushed(), FlushedOffset(Offset(2)));
    let mut node = Node::ready(node.crash(), roomy());
    let all: Vec<_> = node.read_all().unwrap().iter().map(bytes_of).collect();
    assert!(all == [&first, &last].map(bytes_of));
}

#[test]
fn a_large_batch_that_ends_where_the_zeros_end_is_written() {
    let mut node = fresh();
    let batch = node.append(1, 24_504);
    assert_eq!(batch.size_bytes(), 6 * BLOCK_BYTES, "larger than a segment, which so ends at its last byte");
    assert_eq!(flushed_ends(&node.settle()), [1]);
    assert_eq!(node.disk.sizes(), [(SEGMENT_0, 6 * BLOCK_BYTES)]);
}

/// How the file was extended while so many batches were appended, each a group of its own.
fn extensions(node: &mut Node, batches: usize, value_bytes: usize) -> Vec<bool> {
    let extension = |op: &DiskOp| match &op.kind {
        OpKind::ExtendSegment { to, written, .. } => Some((*to, *written)),
        _ => None,
    };
    let mut seen = Vec::new();
    for _ in 0..batches {
        node.append(1, value_bytes);
        node.turn();
        loop {
            seen.extend(node.disk.in_flight.iter().filter_map(extension));
            if !node.complete_any() {
                break;
            }
        }
    }
    seen.dedup();
    seen.into_iter().map(|(_, written)| written).collect()
}

#[test]
fn zeros_are_written_ahead_of_small_groups_and_reserved_ahead_of_large_ones() {
    let buffers = LogConfig { write_buffer_bytes: 1 << 18, group_bytes_max: 1 << 20, ..small_config() };
    let file = LogConfig { segment_bytes_max: 64 << 20, zero_ahead_bytes: 1 << 20, ..buffers };
    let mut node = Node::ready(SimDisk::new(3), LogConfig { unflushed_bytes_max: 1 << 20, ..file });
    assert_eq!(extensions(&mut node, 100, 40_000), [true; 4]);
    let mixed = extensions(&mut node, 20, 200_000);
    assert_eq!(mixed[1..], [false; 3], "{mixed:?}");
    let mixed = extensions(&mut node, 100, 40_000);
    assert_eq!(mixed[mixed.len() - 2..], [true; 2], "{mixed:?}");
}
