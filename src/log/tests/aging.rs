//! Segments as they age: what is told of them, rolled by the time of their records, and closed when all of them is old.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::types::*;

fn config() -> LogConfig {
    LogConfig { tail_cache_bytes_max: 0, segment_ms_max: 1_000, ..small_config() }
}

/// A batch of one record of this time.
fn append_at(node: &mut Node, timestamp: u64) {
    node.next_tag = timestamp;
    node.append(1, 100);
    node.settle();
}

/// Where each begins and ends, and its latest time.
fn told(node: &Node) -> Vec<(i64, i64, Option<i64>)> {
    node.log.ages().map(|aged| (aged.base.0, aged.next.0, aged.max_timestamp)).collect()
}

#[test]
fn a_batch_that_is_so_much_later_than_the_first_of_its_segment_begins_a_new_one() {
    let mut node = Node::ready(SimDisk::new(1), config());
    // The first is a control batch, whose time is nobody's.
    for timestamp in [50_000, 10_000, 9_000, 11_000, 11_001, 10_500, 12_002] {
        append_at(&mut node, timestamp);
    }
    let expected = [(0, 4, Some(11_000)), (4, 6, Some(11_001)), (6, 7, Some(12_002))];
    assert_eq!(told(&node), expected);
    // What a start finds goes on as it would have.
    let mut node = Node::ready(node.crash(), config());
    append_at(&mut node, 13_002);
    append_at(&mut node, 13_003);
    let expected = [(4, 6, Some(11_001)), (6, 8, Some(13_002)), (8, 9, Some(13_003))];
    assert_eq!(told(&node)[1..], expected);
    assert_eq!(node.log.ages().map(|aged| aged.is_open).collect::<Vec<_>>(), [false, false, false, true]);
}

#[test]
fn an_open_segment_is_closed_when_it_is_asked_for_and_the_log_may_start_behind_it() {
    let mut node = Node::ready(SimDisk::new(1), config());
    node.log.close_segment();
    node.settle();
    assert_eq!(told(&node), [(0, 0, None)], "an empty one stays open");
    (0..3).for_each(|_| append_at(&mut node, 10_000));
    node.log.close_segment();
    node.settle();
    assert_eq!(told(&node), [(0, 3, Some(10_000)), (3, 3, None)]);
    node.start_at(3);
    node.settle();
    assert_eq!(told(&node), [(3, 3, None)]);
    assert_eq!(node.disk.sizes().len(), 1, "the file went");
    let mut node = Node::ready(node.crash(), config());
    assert_eq!((node.log.log_start(), node.log.log_end().0), (Offset(3), Offset(3)));
    append_at(&mut node, 20_000);
    assert_eq!(node.read_all().expect("it reads").len(), 1);
    // Somebody appends before it is closed: it stays open.
    node.log.close_segment();
    append_at(&mut node, 20_001);
    assert_eq!(told(&node), [(3, 5, Some(20_001))]);
}

#[test]
fn a_crash_while_a_segment_is_closed_loses_nothing() {
    for (steps, seed) in (0..6).flat_map(|steps| (0..8).map(move |seed| (steps, seed))) {
        let mut node = Node::ready(SimDisk::new(seed), config());
        (0..3).for_each(|_| append_at(&mut node, 10_000));
        node.log.close_segment();
        node.turn();
        (0..steps).for_each(|_| _ = node.complete_any());
        let mut node = Node::ready(node.crash(), config());
        assert_eq!(node.log.log_end().0, Offset(3), "{steps} steps, seed {seed}");
        append_at(&mut node, 10_001);
        assert_eq!(node.read_all().expect("all is there").len(), 4, "{steps} steps, seed {seed}");
    }
}

#[test]
fn what_is_appended_while_a_segment_is_closed_begins_the_next() {
    let mut node = Node::ready(SimDisk::new(3), config());
    (0..3).for_each(|_| append_at(&mut node, 10_000));
    node.log.close_segment();
    node.turn();
    append_at(&mut node, 10_001);
    assert_eq!(told(&node), [(0, 3, Some(10_000)), (3, 4, Some(10_001))]);
    assert_eq!(node.read_all().expect("all is there").len(), 4);
}
