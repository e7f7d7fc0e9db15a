//! Every combination of what may be missing beside the log at a start: it goes on safely, or refuses and says what to do.

use super::disk::SimDisk;
use super::harness::{Node, SEGMENT_0, small_config};
use crate::log::*;
use crate::types::*;

const SUMMARY: SmallFile = SmallFile::Summary(SEGMENT_0);

/// A log of two committed batches, stopped in good order, with everything beside it.
fn whole() -> SimDisk {
    let mut node = Node::ready(SimDisk::new(1), small_config());
    node.append(3, 100);
    node.append(3, 100);
    let state = QuorumState {
        epoch: Epoch(1),
        leader: Some(NodeId(2)),
        voted: None,
        caught_up: true,
        in_doubt: false,
    };
    node.log.write_quorum_state(state);
    node.settle();
    node.log.on_committed(HighWatermark(Offset(6)));
    let disk = node.shut_down();
    assert!(disk.small(SUMMARY).is_some());
    disk
}

/// What is there: log, mark, quorum-state, leader-epoch-checkpoint, summary.
type Present = [bool; 5];

fn left(present: Present) -> SimDisk {
    let mut disk = whole();
    let [log, mark, votes, checkpoint, summary] = present;
    if !log {
        disk.remove_segment(SEGMENT_0);
    }
    if !mark {
        disk.mark_mut().fill(0);
    }
    for (file, is_there) in
        [(SmallFile::QuorumState, votes), (SmallFile::LeaderEpochCheckpoint, checkpoint), (SUMMARY, summary)]
    {
        if !is_there {
            disk.put_small(file, None);
        }
    }
    disk
}

#[test]
fn a_start_with_files_missing_goes_on_safely_or_says_what_to_do() {
    for bits in 0..32 {
        let present: Present = std::array::from_fn(|i| bits & (1 << i) != 0);
        let [log, mark, votes, ..] = present;
        let opened = Node::open(left(present), small_config());
        if !log && mark {
            let error = opened.err().unwrap_or_else(|| panic!("{present:?} is refused")).to_string();
            assert!(error.contains("the file is missing") && error.contains("Restore it"), "{error}");
            continue;
        }
        let mut node = opened.unwrap_or_else(|error| panic!("{present:?}: {error}"));
        let end = if log { 6 } else { 0 };
        assert_eq!(node.log.log_end(), LogEndOffset(Offset(end)), "{present:?}");
        // Only who has its log and its word about it is a voter without reserve; only a mark knows what was committed.
        assert_eq!(node.quorum_state.caught_up, log && votes, "{present:?}");
        assert_eq!(node.log.committed, Offset(if log && mark { 6 } else { 0 }), "{present:?}");
        let said = |text: &str| node.notes.iter().any(|note| note.contains(text));
        assert_eq!(said("it was lost"), !log && votes, "{present:?}: {:?}", node.notes);
        assert_eq!(said("no commit mark"), log && !mark, "{present:?}: {:?}", node.notes);
        assert_eq!(said("no quorum-state"), log && !votes, "{present:?}: {:?}", node.notes);
        node.settle();
        node.append(1, 50);
        node.settle();
        assert_eq!(node.read_all().map(|batches| batches.len()), Ok(if log { 3 } else { 1 }), "{present:?}");
        let again = Node::ready(node.crash(), small_config());
        assert_eq!(again.quorum_state.caught_up, log && votes, "{present:?}: durable before the node spoke");
        assert_eq!(again.log.log_end(), LogEndOffset(Offset(end + 1)), "{present:?}");
    }
}

#[test]
fn a_lost_log_is_told_from_one_that_never_held_a_record() {
    let lost = |mut disk: SimDisk| {
        let recovered = recover(&mut disk, &small_config(), &mut |_| Ok(())).expect("it recovers");
        recovered.has_lost_log
    };
    assert!(lost(left([false, false, true, true, true])));
    assert!(!lost(left([false, false, false, true, true])), "nothing says that it held any");
    assert!(!lost(left([true, false, true, true, true])));
    // Elected, and dead before its first record was flushed: the mark says so (older versions wrote caughtUp then).
    let node = Node::ready(SimDisk::new(1), small_config());
    let mut disk = node.crash();
    let state = QuorumState {
        epoch: Epoch(1),
        leader: Some(NodeId(1)),
        voted: None,
        caught_up: true,
        in_doubt: false,
    };
    disk.put_small(SmallFile::QuorumState, Some(quorum_state::encode(&state)));
    assert!(!lost(disk));
}

#[test]
fn what_was_committed_is_known_after_every_way_to_stop() {
    let run = |stops_in_order: bool| {
        let mut node = Node::ready(SimDisk::new(1), small_config());
        node.append(3, 100);
        node.append(3, 100);
        node.settle();
        node.log.on_committed(HighWatermark(Offset(3)));
        node.pass_ms(50);
        node.settle();
        // The second word comes when nothing is written any more: the idle mark says it too.
        node.log.on_committed(HighWatermark(Offset(6)));
        let disk = if stops_in_order {
            node.shut_down()
        } else {
            node.pass_ms(50);
            node.settle();
            node.crash()
        };
        Node::ready(disk, small_config()).log.committed
    };
    assert_eq!([true, false].map(run), [Offset(6); 2]);
}
