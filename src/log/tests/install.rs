//! Another log in place of the one that is there: every step of it, a crash after each, and that no start ever takes the two for one.

use super::disk::SimDisk;
use super::harness::*;
use super::start::{bytes, config, segments, ten_batches};
use crate::log::*;
use crate::record::StampedBatch;
use crate::types::*;
use std::collections::BTreeSet;

/// Of a leader whose log has gone on in another epoch.
const EPOCH: i32 = 5;

fn at(offset: i64) -> OffsetAndEpoch {
    OffsetAndEpoch { epoch: Epoch(EPOCH), offset: Offset(offset) }
}

/// The ten batches, of which nothing is known to be committed above this.
fn committed_up_to(committed: i64, seed: u64) -> (Node, Vec<StampedBatch>) {
    let mut node = Node::ready(SimDisk::new(seed), config());
    let mut batches = Vec::new();
    for number in 0..10 {
        node.epoch = if number < 5 { 1 } else { 3 };
        batches.push(node.append(2, 4400));
    }
    node.log.on_committed(HighWatermark(Offset(committed)));
    node.settle();
    node.pass_ms(50);
    node.settle();
    (node, batches)
}

fn installed(events: &[LogEvent]) -> Vec<i64> {
    let begin = |event: &LogEvent| match event {
        LogEvent::Installed(begin) => Some(begin.offset.0),
        _ => None,
    };
    events.iter().filter_map(begin).collect()
}

/// Both slots of the mark are unreadable.
fn rot_marks(disk: &mut SimDisk) {
    for slot in [0, BLOCK_BYTES] {
        disk.mark_mut()[slot + 20] ^= 1;
    }
}

/// What a start without a mark finds: it is refused, or all that it finds is of one log.
fn check_without_mark(mut disk: SimDisk, old: &[StampedBatch], case: &str) {
    rot_marks(&mut disk);
    let Ok(mut node) = Node::open(disk, config()) else { return };
    node.settle();
    let read = bytes(&node.read_all().expect("what a start finds can be read"));
    let old = bytes(old);
    let of_old = read.iter().filter(|batch| old.contains(batch)).count();
    assert!(
        [0, read.len()].contains(&of_old),
        "{case}: {of_old} of {} batches are of the old log",
        read.len()
    );
}

/// Each step of it is the last thing that happens before a crash. Then the old log is there, cut, or the new one, empty; and the new
/// one where that was told.
#[test]
fn a_crash_at_every_step_of_an_install_leaves_one_log_or_the_other() {
    let mut seen = BTreeSet::new();
    // Inside of a segment and of a batch, where one begins, at the end, and far behind it.
    for (begin, committed) in [(10, 10), (7, 4), (8, 8), (16, 0), (20, 20), (80, 20)] {
        for (steps, seed) in (0..12).flat_map(|steps| (0..8).map(move |seed| (steps, seed))) {
            let (mut node, old) = committed_up_to(committed, seed);
            node.log.install(at(begin));
            node.turn();
            (0..steps).for_each(|_| _ = node.complete_any());
            let told = installed(&node.events());
            let case = format!("at {begin}, {steps} steps, seed {seed}, told {told:?}");
            let mut node = Node::ready(node.crash(), config());
            let is_new = node.log.start() == at(begin);
            assert!(is_new || told.is_empty(), "{case}: {:?}", node.log.start());
            let read = bytes(&node.read_all().expect("what is there can be read"));
            if is_new {
                assert_eq!((node.log.log_end().0, read.len()), (Offset(begin), 0), "{case}");
                assert_eq!(segments(&node.disk), [begin], "{case}: what was before it goes");
                assert_eq!(node.log.begin(), at(begin));
            } else {
                assert_eq!(node.log.start().offset, Offset(0), "{case}");
                assert!(node.log.log_end().0 >= Offset(committed), "{case}");
                assert!(bytes(&old).starts_with(&read), "{case}: a part of the old log");
            }
            seen.insert((is_new, told.is_empty()));
            // The new one goes on, and is found again.
            if is_new {
                node.epoch = EPOCH;
                let new = [node.append(2, 4400), node.append(1, 10)];
                node.settle();
                let mut node = Node::ready(node.crash(), config());
                assert_eq!(node.log.start(), at(begin), "{case}");
                assert_eq!(bytes(&node.read_all().expect("all is there")), bytes(&new), "{case}");
            }
        }
    }
    assert_eq!(seen, BTreeSet::from([(false, true), (true, true), (true, false)]));
}

/// At whatever step the process died, and whatever has come of it since: where both slots of the mark rot no start makes one log of two.
#[test]
fn no_start_without_a_mark_takes_two_logs_for_one() {
    for (begin, committed) in [(10, 10), (8, 8), (16, 4), (20, 20)] {
        for (steps, seed) in (0..12).flat_map(|steps| (0..6).map(move |seed| (steps, seed))) {
            let case = format!("at {begin}, {steps} steps, seed {seed}");
            let (mut node, old) = committed_up_to(committed, seed);
            node.log.install(at(begin));
            node.turn();
            (0..steps).for_each(|_| _ = node.complete_any());
            let mut disk = node.crash();
            check_without_mark(disk.image(), &old, &case);
            // The next start may die over what is left of it, too.
            for steps in [1, 3, 5, 6, 7, 20] {
                let mut node = Node::open(disk, config()).expect("the log recovers");
                let is_new = node.log.start() == at(begin);
                node.epoch = if is_new { EPOCH } else { node.epoch };
                if is_new && node.log.log_end().0 == Offset(begin) {
                    node.append(1, 10);
                }
                node.turn();
                (0..steps).for_each(|_| _ = node.complete_any());
                disk = node.crash();
                check_without_mark(disk.image(), &old, &format!("{case}, then {steps}"));
            }
        }
    }
}

#[test]
fn an_empty_log_begins_where_it_is_told() {
    let mut node = Node::ready(SimDisk::new(3), config());
    node.log.install(at(50));
    assert_eq!(installed(&node.settle()), [50]);
    assert_eq!((node.log.start(), node.log.begin(), node.log.log_end().0), (at(50), at(50), Offset(50)));
    node.epoch = EPOCH;
    let new = node.append(2, 100);
    assert_eq!(bytes(&node.read_all().expect("it is there")), bytes(&[new]));
    // Once more, over what has just begun.
    node.log.install(at(70));
    assert_eq!(installed(&node.settle()), [70]);
    assert_eq!(segments(&node.disk), [70]);
    let disk = node.shut_down();
    let node = Node::ready(disk, config());
    assert_eq!((node.log.start(), node.log.log_end().0), (at(70), Offset(70)));
}

#[test]
fn what_was_not_written_yet_is_dropped_also_where_there_is_no_room_for_it() {
    for is_full in [false, true] {
        let (mut node, _) = ten_batches(&config(), 3);
        node.disk.is_full = is_full;
        (0..6).for_each(|_| _ = node.append(2, 4400));
        node.turn();
        node.log.on_committed(HighWatermark(Offset(30)));
        node.log.install(at(40));
        node.settle();
        node.disk.is_full = false;
        node.pass_ms(3_000);
        node.settle();
        assert_eq!((node.log.start(), node.log.log_end().0), (at(40), Offset(40)), "full: {is_full}");
        assert_eq!((node.log.unflushed_bytes(), segments(&node.disk)), (0, vec![40]));
    }
}

#[test]
fn a_rotten_slot_never_brings_the_old_log_back() {
    for slot in [0, BLOCK_BYTES] {
        let (mut node, _) = ten_batches(&config(), 5);
        node.log.install(at(30));
        node.turn();
        while installed(&node.events()).is_empty() {
            assert!(node.complete_any());
        }
        let mut disk = node.crash();
        disk.mark_mut()[slot + 20] ^= 1;
        let node = Node::ready(disk, config());
        assert_eq!(node.log.start(), at(30));
    }
}

#[test]
fn who_reads_is_waited_for_and_finds_nothing_behind_it() {
    let (mut node, _) = ten_batches(&LogConfig { read_cache_bytes_max: 64 << 20, ..config() }, 3);
    node.read_one(Offset(18)).expect("a block of it is kept");
    assert!(matches!(node.log.read(Offset(2), Offset(20), 1, 7), ReadOutcome::OnDevice));
    node.turn();
    node.log.install(at(30));
    node.turn();
    let is_read = |op: &DiskOp| matches!(op.kind, OpKind::Read { .. });
    while let Some(other) = node.disk.in_flight.iter().position(|op| !is_read(op)) {
        let completion = node.disk.complete_at(other);
        node.log.complete(completion);
        node.turn();
    }
    assert_eq!(segments(&node.disk), [0, 4, 8, 12, 16], "what he reads is there");
    for from in [2, 18] {
        assert!(
            matches!(node.log.read_memory(Offset(from), Offset(20), 1), ReadOutcome::OutOfRange),
            "{from}"
        );
    }
    assert!(!node.log.read_ahead(Offset(2), usize::MAX));
    let events = node.settle();
    assert!(events.iter().any(|event| matches!(event, LogEvent::ReadDone { token: 7, .. })), "{events:?}");
    assert_eq!(installed(&events), [30]);
    assert_eq!(segments(&node.disk), [30]);
    assert!(matches!(node.log.read_memory(Offset(18), Offset(30), 1), ReadOutcome::OutOfRange));
    assert_eq!(node.log.max_timestamp(), None);
}

#[test]
fn a_start_that_moves_gives_way() {
    for steps in 0..4 {
        let (mut node, _) = ten_batches(&config(), 3);
        node.start_at(9);
        node.turn();
        (0..steps).for_each(|_| _ = node.complete_any());
        node.log.install(at(30));
        assert_eq!(installed(&node.settle()), [30]);
        assert_eq!((node.log.start(), segments(&node.disk)), (at(30), vec![30]), "{steps} steps");
        // And so says each mark from then on.
        node.epoch = EPOCH;
        node.append(2, 100);
        node.settle();
        node.pass_ms(50);
        node.settle();
        let node = Node::ready(node.crash(), config());
        assert_eq!(node.log.start(), at(30));
    }
}

#[test]
fn no_summary_outlives_what_goes() {
    let (mut node, _) = committed_up_to(0, 3);
    node.log.on_committed(HighWatermark(Offset(20)));
    node.log.install(at(30));
    node.settle();
    for id in [0, 4, 8, 12, 16] {
        assert_eq!(node.disk.small(SmallFile::Summary(SegmentId(Offset(id)))), None, "{id}");
    }
    assert_eq!(node.disk.small(SmallFile::LeaderEpochCheckpoint), Some(&b"0\n0\n"[..]));
}

#[test]
fn a_stop_ends_an_install_that_has_begun_and_leaves_one_that_has_not() {
    for (steps, start) in [(0, 0), (1, 30), (2, 30), (5, 30)] {
        let (mut node, _) = ten_batches(&config(), 3);
        node.log.install(at(30));
        if steps > 0 {
            node.turn();
            (1..steps).for_each(|_| _ = node.complete_any());
        }
        let node = Node::ready(node.shut_down(), config());
        assert_eq!(node.log.start().offset, Offset(start), "{steps} steps");
        assert_eq!(node.log.log_end().0, Offset(start.max(20)), "{steps} steps");
    }
}

#[test]
fn a_stop_does_not_wait_for_room_for_the_new_segment() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.log.install(at(30));
    node.disk.is_full = true;
    node.settle();
    assert!(node.log.is_installing(), "it waits");
    node.log.shutdown();
    for _ in 0..10 {
        node.pass_ms(1000);
        let events = node.settle();
        if events.iter().any(|event| matches!(event, LogEvent::ShutDown)) {
            node.disk.is_full = false;
            let node = Node::ready(node.disk, config());
            assert_eq!((node.log.start(), node.log.log_end().0), (at(30), Offset(30)));
            return;
        }
    }
    panic!("it does not end");
}

#[test]
#[should_panic(expected = "is below what is committed")]
fn nothing_that_is_committed_is_replaced_by_less() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.log.install(at(19));
}

#[test]
#[should_panic(expected = "nothing is appended while the log is replaced")]
fn nothing_is_appended_meanwhile() {
    let (mut node, _) = ten_batches(&config(), 3);
    node.log.install(at(20));
    node.append(1, 10);
}
