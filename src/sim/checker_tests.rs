//! Each check of what nodes say of themselves, on the smallest story that breaks it.

use super::super::durable::Placed;
use super::*;
use crate::log::SegmentId;
use crate::replica::MemoryUse;

/// One batch of ten records on the platters of voters 1 and 2 of three.
struct TwoOfThree(DurableLog);

const BATCH: BatchId = BatchId { base: Offset(0), next: Offset(10), epoch: Epoch(1), crc: 7 };

impl TwoOfThree {
    fn new() -> TwoOfThree {
        let placed = Placed { id: BATCH, segment: SegmentId(Offset(0)), position: 0, size_bytes: 100 };
        TwoOfThree(DurableLog { batches: vec![placed], ..DurableLog::default() })
    }
}

impl Platters for TwoOfThree {
    fn log(&self, host: Host) -> Option<&DurableLog> {
        (host < 3).then_some(&self.0)
    }

    fn held(&self, host: Host, end: Offset) -> Option<BatchId> {
        self.log(host)?.ending_at(end).map(|placed| placed.id)
    }

    fn batch(&self, _host: Host, _id: &BatchId) -> Option<Bytes> {
        let values: Vec<Vec<u8>> = (0..10).map(|number| Value { client: 100, number }.encode(0)).collect();
        let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
        let mut bytes = crate::record::data_batch(&values, 0, None).to_vec();
        bytes[12..16].copy_from_slice(&BATCH.epoch.0.to_be_bytes());
        Some(Bytes::from(bytes))
    }
}

fn standing(role: RoleName, epoch: i32, high_watermark: i64, end: i64) -> Standing {
    Standing {
        role,
        epoch: Epoch(epoch),
        leader: None,
        high_watermark: Some(HighWatermark(Offset(high_watermark))),
        log_start: Offset(0),
        told_start: None,
        knows_folds: true,
        log_end: LogEndOffset(Offset(end)),
        flushed: FlushedOffset(Offset(end)),
        is_gated: false,
        is_truncating: false,
        memory: MemoryUse::default(),
    }
}

/// After node 1 has led epoch 1 and committed the batch, and then this: which invariant is broken?
fn broken_by(story: impl FnOnce(&mut Checker, &TwoOfThree)) -> Option<&'static str> {
    let (mut checker, platters) = (Checker::new(vec![1, 2, 3]), TwoOfThree::new());
    checker.on_turn(1, 1, &standing(RoleName::Leader, 1, 10, 10), &platters);
    assert_eq!((checker.violation(), checker.committed_end()), (None, Offset(10)));
    story(&mut checker, &platters);
    checker.violation().map(|violation| violation.invariant)
}

#[test]
fn a_quiet_story_breaks_nothing() {
    let broken = broken_by(|checker, platters| {
        checker.on_turn(2, 1, &standing(RoleName::Follower, 1, 10, 10), platters);
        checker.on_turn(2, 1, &standing(RoleName::Leader, 2, 10, 10), platters);
        checker.on_vote(3, Epoch(2), 2, Some((2, 2)));
        checker.on_recovered(2, FlushedOffset(Offset(10)), LogEndOffset(Offset(10)), Epoch(2));
    });
    assert_eq!(broken, None);
}

#[test]
fn what_nodes_say_of_themselves_is_checked() {
    let turn =
        |host, standing| broken_by(move |checker, platters| checker.on_turn(host, 1, &standing, platters));
    let cases = [
        ("one leader in an epoch", turn(2, standing(RoleName::Leader, 1, 10, 10))),
        ("what was cut off is off the platter", turn(2, standing(RoleName::Follower, 1, 0, 0))),
        ("a leader has everything that was committed", turn(3, standing(RoleName::Leader, 2, 0, 0))),
        ("the high watermark of a node never falls", turn(1, standing(RoleName::Leader, 1, 9, 10))),
        ("the high watermark is within the log", turn(2, standing(RoleName::Follower, 1, 10, 9))),
        ("what is said to be flushed is on the platter", turn(2, standing(RoleName::Follower, 1, 10, 11))),
        (
            "what is committed was flushed by a majority",
            turn(2, {
                let flushed = FlushedOffset(Offset(10));
                Standing { flushed, ..standing(RoleName::Follower, 1, 11, 11) }
            }),
        ),
        (
            "the epoch of a node never falls, not by a restart either",
            turn(1, standing(RoleName::Follower, 0, 10, 10)),
        ),
    ];
    for (invariant, broken) in cases {
        assert_eq!(broken, Some(invariant));
    }
}

#[test]
fn an_epoch_comes_again_only_where_nobody_is_left_who_knew_it() {
    let led_again = |lost: &'static [Host]| {
        broken_by(move |checker, platters| {
            checker.on_turn(1, 1, &standing(RoleName::Leader, 6, 10, 10), platters);
            checker.on_turn(2, 1, &standing(RoleName::Follower, 6, 10, 10), platters);
            lost.iter().for_each(|host| checker.on_wiped(*host));
            checker.on_turn(2, 1, &standing(RoleName::Leader, 6, 10, 10), platters);
        })
    };
    assert_eq!(led_again(&[1]), Some("one leader in an epoch"));
    assert_eq!(led_again(&[1, 2]), None);
}

#[test]
fn votes_restarts_and_platters_are_checked() {
    let twice = broken_by(|checker, _| {
        checker.on_vote(3, Epoch(2), 2, Some((2, 2)));
        checker.on_vote(3, Epoch(2), 1, Some((2, 1)));
    });
    assert_eq!(twice, Some("one vote in an epoch"));
    let early = broken_by(|checker, _| checker.on_vote(3, Epoch(2), 2, Some((1, -1))));
    assert_eq!(early, Some("a vote is durable before it is answered"));
    let (flushed, found) = (FlushedOffset(Offset(10)), LogEndOffset(Offset(9)));
    let lost = broken_by(|checker, _| checker.on_recovered(1, flushed, found, Epoch(1)));
    assert_eq!(lost, Some("what was flushed is found after a crash"));
    let cut = |end| broken_by(move |checker, _| checker.on_cut(1, Offset(end), Some(Offset(10))));
    assert_eq!((cut(10), cut(9)), (None, Some("no node cuts below its own mark")));
    let changed = broken_by(|checker, platters| {
        let mut log = platters.0.clone();
        log.batches[0].id = BatchId { epoch: Epoch(2), crc: 8, ..BATCH };
        checker.on_durable(3, &mut log);
    });
    assert_eq!(changed, Some("a committed batch never changes"));
    let differing = broken_by(|checker, platters| {
        checker.on_durable(1, &mut platters.0.clone());
        let mut log = platters.0.clone();
        log.batches[0].id.crc = 8;
        checker.on_durable(3, &mut log);
    });
    assert_eq!(differing, Some("log matching: same offset and epoch, same batch and same past"));
}

#[test]
fn answers_to_clients_are_checked() {
    let told = |base| broken_by(move |checker, _| checker.on_acknowledged(100, 3, 1, base));
    assert_eq!(told(3), None);
    assert_eq!(told(4), Some("an acknowledged record is at its offset"));
    assert_eq!(told(10), Some("nothing is acknowledged before it is committed"));
    let late = broken_by(|checker, _| {
        checker.on_acknowledged(100, 5, 1, 5);
        // Sent when everything below 6 was acknowledged.
        checker.history.on_sent(100, 3);
        checker.on_acknowledged(100, 3, 1, 3);
    });
    assert_eq!(late, Some("what is sent after an acknowledgement comes behind it"));
    let ahead = broken_by(|checker, _| checker.on_consumed(100, 11, &[]));
    assert_eq!(ahead, Some("no client sees a high watermark above what is committed"));
}

#[test]
fn what_clients_are_told_of_a_start_never_falls() {
    let told = |node: Host, start: i64| {
        broken_by(move |checker, _| {
            let before = checker.start_told_by(1);
            checker.on_start_told(100, (1, before), Offset(7), &[]);
            // One that was asked for before may come later.
            checker.on_start_told(101, (1, before), Offset(5), &[]);
            let before = checker.start_told_by(node);
            checker.on_start_told(101, (node, before), Offset(start), &[]);
        })
    };
    assert_eq!((told(1, 7), told(2, 3)), (None, None), "each node's moves for itself");
    assert_eq!(told(1, 6), Some("the start that a node tells its clients never falls"));
    assert_eq!(told(1, 11), Some("nothing is served from before the start, and that is committed"));
}
