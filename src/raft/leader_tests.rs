use super::super::solo::{Solo, at, key, ms};
use super::*;
use crate::raft::event::{Event, Response};
use crate::raft::{FetchVerdict, RoleName};

fn high_watermark(solo: &Solo) -> Option<i64> {
    solo.raft.high_watermark().map(|known| known.0.0)
}

fn ended(solo: &mut Solo, from: i32) {
    let response = LeaderResponse { error: ErrorCode::NONE, leader: None, epoch: solo.raft.epoch() };
    solo.step(Event::Response { from: NodeId(from), response: Response::EndQuorumEpoch(response) });
}

#[test]
fn a_leader_begins_with_a_leader_change_that_waits_for_its_quorum_state() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    solo.win();
    assert_eq!(solo.effects.first(), Some(&Effect::RoleChanged));
    assert!(solo.effects.contains(&Effect::AppendLeaderChange {
        base_offset: Offset(10),
        epoch: Epoch(4),
        voters: vec![NodeId(1), NodeId(2), NodeId(3)],
        granting: vec![NodeId(1), NodeId(2)],
    }));
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(11)));
    assert_eq!(solo.raft.epoch_at(Offset(10)), Some(Epoch(4)));
}

#[test]
fn batches_have_no_place_before_the_epoch_has_begun() {
    let mut solo = Solo::voter(1, 1, &[]);
    let mut effects = Effects::default();
    assert_eq!(solo.raft.on_append(1), None);
    solo.raft.step(ms(0), Event::Tick, &mut effects);
    assert!(solo.raft.is_leader() && !solo.raft.can_append());
    solo.raft.step(ms(0), Event::QuorumStateDurable, &mut effects);
    assert!(solo.raft.can_append());
    solo.raft.step(ms(0), Event::Append { offsets: 3 }, &mut effects);
    assert_eq!(effects.assigned, Some(Assigned { base_offset: Offset(1), epoch: Epoch(1) }));
    for offsets in [0, -1, i64::MAX] {
        solo.raft.step(ms(0), Event::Append { offsets }, &mut effects);
        assert_eq!(effects.assigned, None);
    }
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(4)));
}

#[test]
fn an_only_voter_commits_what_is_flushed_and_no_more() {
    let mut solo = Solo::leader(1, &[]);
    assert_eq!(high_watermark(&solo), Some(1));
    solo.step(Event::Append { offsets: 4 });
    assert_eq!(high_watermark(&solo), Some(1));
    solo.step(Event::Flushed(FlushedOffset(Offset(3))));
    assert_eq!(high_watermark(&solo), Some(3));
    solo.flush();
    assert_eq!(high_watermark(&solo), Some(5));
}

#[test]
fn the_high_watermark_may_pass_the_leaders_own_disk() {
    let mut solo = Solo::leader(3, &[]);
    solo.step(Event::Append { offsets: 4 });
    solo.fetch(2, 1, 5, 1);
    assert_eq!(high_watermark(&solo), Some(1), "one follower and an unflushed leader are no majority");
    solo.fetch(3, 1, 5, 1);
    assert_eq!(high_watermark(&solo), Some(5));
    assert_eq!(solo.raft.flushed(), FlushedOffset(Offset(1)));
}

#[test]
fn nothing_is_committed_before_a_record_of_the_leaders_own_epoch() {
    let mut solo = Solo::leader(3, &[(3, 10)]);
    solo.fetch(2, 4, 10, 3);
    assert_eq!(high_watermark(&solo), None, "a majority has all of epoch 3");
    solo.fetch(2, 4, 11, 4);
    assert_eq!(high_watermark(&solo), Some(11));
    solo.fetch(2, 4, 5, 3);
    assert_eq!(high_watermark(&solo), Some(11), "a late Fetch takes nothing back");
}

#[test]
fn a_fetch_beyond_the_log_end_commits_nothing() {
    let mut solo = Solo::leader(3, &[]);
    solo.step(Event::Append { offsets: 4 });
    assert_eq!(solo.fetch(2, 1, 99, 1), FetchVerdict::Diverging(at(1, 5)));
    solo.flush();
    assert_eq!(high_watermark(&solo), None);
}

#[test]
fn a_leader_that_nobody_fetches_from_resigns() {
    let mut solo = Solo::leader(3, &[]);
    for _ in 0..10 {
        solo.after_ms(500);
        solo.fetch(3, 1, 1, 1);
        solo.step(Event::Tick);
    }
    assert!(solo.raft.is_leader(), "one follower of two is enough");
    let last_fetch = solo.now;
    solo.tick_until(RoleName::Resigned);
    assert_eq!(solo.now.monotonic_ns, last_fetch.plus_ms(3000));
    assert!(solo.raft.leader().is_none() && solo.persisted.is_none());
    let preferred = solo.sent().iter().find_map(|(_, request)| match request {
        Request::EndQuorumEpoch(end) => Some(end.preferred_candidates.clone()),
        _ => None,
    });
    assert_eq!(preferred, Some(vec![key(3), key(2)]), "by descending fetch offset");
}

#[test]
fn five_voters_need_two_that_fetch() {
    let mut solo = Solo::leader(5, &[]);
    for _ in 0..5 {
        solo.after_ms(500);
        solo.fetch(3, 1, 1, 1);
        solo.fetch(9, 1, 1, 1);
    }
    solo.after_ms(600).step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Resigned, "an observer is no voter");
}

#[test]
fn begin_quorum_epoch_goes_again_to_the_silent_only() {
    let mut solo = Solo::leader(3, &[]);
    solo.after_ms(500);
    solo.fetch(2, 1, 1, 1);
    solo.after_ms(500).step(Event::Tick);
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [3]);
}

#[test]
fn a_stalled_disk_ends_the_leadership() {
    let mut solo = Solo::leader(3, &[]);
    solo.step(Event::FlushStalled);
    assert_eq!(solo.raft.role(), RoleName::Resigned);
    assert_eq!(solo.sent().len(), 2);
    assert!(!solo.raft.can_append());
    assert_eq!(solo.fetch(2, 1, 1, 1), FetchVerdict::Refused(ErrorCode::NOT_LEADER_OR_FOLLOWER));
    let mut follower = Solo::follower(3, &[]);
    assert_eq!(follower.step(Event::FlushStalled), []);
}

#[test]
fn a_shutdown_is_not_complete_because_all_have_heard() {
    let mut solo = Solo::leader(3, &[]);
    solo.step(Event::Shutdown);
    assert!(!solo.effects.contains(&Effect::ShutdownComplete));
    ended(&mut solo, 2);
    ended(&mut solo, 3);
    // The next candidate may need this vote: one of Kafka's voters denies the other its pre-vote (KAFKA-20895).
    assert!(!solo.effects.contains(&Effect::ShutdownComplete));
    let vote = solo.vote_request(2, 1, at(1, 1), true);
    assert!(vote.granted, "a resigned leader grants pre-votes");
    solo.after_ms(2000).step(Event::Tick);
    assert!(solo.effects.contains(&Effect::ShutdownComplete));
}

#[test]
fn a_shutdown_is_complete_when_a_new_leader_speaks_or_time_is_up() {
    let mut solo = Solo::leader(3, &[]);
    solo.step(Event::Shutdown);
    assert!(solo.vote_request(2, 2, at(1, 1), false).granted, "a resigned leader keeps voting");
    assert!(!solo.effects.contains(&Effect::ShutdownComplete));
    solo.follow(2, 2);
    assert!(solo.effects.contains(&Effect::ShutdownComplete));

    let mut alone = Solo::leader(3, &[]);
    alone.step(Event::Shutdown);
    let began = alone.now;
    alone.tick_at_deadline();
    assert_eq!(alone.now.monotonic_ns, began.plus_ms(2000), "it asks to be woken when time is up");
    assert!(alone.effects.contains(&Effect::ShutdownComplete));
    let mut follower = Solo::follower(1, &[]);
    assert!(follower.step(Event::Shutdown).contains(&Effect::ShutdownComplete));
    follower.after_ms(9000).step(Event::Tick);
    assert_eq!(follower.raft.role(), RoleName::Follower, "nobody stands who is about to stop");
}

#[test]
fn end_quorum_epoch_is_sent_until_it_is_acknowledged() {
    let mut solo = Solo::leader(3, &[]);
    solo.step(Event::FlushStalled);
    ended(&mut solo, 2);
    solo.step(Event::RequestFailed { to: NodeId(3), kind: crate::raft::RequestKind::EndQuorumEpoch });
    solo.step(Event::RequestFailed { to: NodeId(2), kind: crate::raft::RequestKind::EndQuorumEpoch });
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [3]);
    let refusal = LeaderResponse { error: ErrorCode::UNKNOWN_SERVER_ERROR, leader: None, epoch: Epoch(1) };
    solo.step(Event::Response { from: NodeId(3), response: Response::EndQuorumEpoch(refusal) });
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(
        solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(),
        [3],
        "a refusal is no acknowledgement"
    );
}

#[test]
fn a_leader_that_begins_too_late_hears_so_from_the_answer() {
    let mut solo = Solo::leader(3, &[]);
    let fenced =
        LeaderResponse { error: ErrorCode::FENCED_LEADER_EPOCH, leader: Some(NodeId(3)), epoch: Epoch(9) };
    solo.step(Event::Response { from: NodeId(2), response: Response::BeginQuorumEpoch(fenced) });
    assert_eq!(
        (solo.raft.role(), solo.raft.epoch(), solo.asked()),
        (RoleName::Unattached, Epoch(9), vec![3])
    );
    solo.told_epoch(3, 9, 3);
    assert_eq!((solo.raft.role(), solo.raft.leader()), (RoleName::Follower, Some(NodeId(3))));
}

#[test]
fn a_begin_that_is_refused_changes_nothing_and_is_told() {
    let mut solo = Solo::leader(3, &[]);
    let refusal = LeaderResponse { error: ErrorCode::INVALID_VOTER_KEY, leader: None, epoch: Epoch(1) };
    solo.step(Event::Response { from: NodeId(2), response: Response::BeginQuorumEpoch(refusal) });
    assert!(solo.raft.is_leader() && solo.notes == ["2 answered my BeginQuorumEpoch with INVALID_VOTER_KEY"]);
}

#[test]
fn an_only_voter_has_nobody_to_begin_with_again() {
    assert_eq!(Solo::leader(1, &[]).raft.deadline(), None);
}

#[test]
fn a_new_leader_shows_no_high_watermark_of_its_past() {
    let mut solo = Solo::follower(3, &[(3, 10)]);
    solo.fetched(Some(10), &[]);
    assert_eq!(high_watermark(&solo), Some(10));
    solo.win();
    solo.flush();
    assert_eq!(high_watermark(&solo), None, "another may have committed more, and shown it");
    solo.fetch(2, 4, 11, 4);
    assert_eq!(high_watermark(&solo), Some(11));
}

#[test]
fn observers_are_remembered_in_bounds_and_for_a_time() {
    let mut solo = Solo::leader(3, &[]);
    for id in 0..OBSERVERS_MAX as i32 + 50 {
        solo.after_ms(1);
        solo.fetch(1000 + id, 1, 1, 1);
    }
    let observers = solo.raft.observer_progress(solo.now);
    assert_eq!(observers.len(), OBSERVERS_MAX);
    assert!(observers.iter().all(|observer| observer.key.id.0 >= 1050), "the oldest made room");
    solo.after_ms(OBSERVER_SESSION_TIMEOUT_MS + 1000);
    assert_eq!(solo.raft.observer_progress(solo.now), []);
}

#[test]
fn progress_shows_every_voter() {
    let mut solo = Solo::leader(3, &[]);
    solo.after_ms(5);
    solo.fetch(2, 1, 1, 1);
    let progress = solo.raft.voter_progress(solo.now);
    let ends: Vec<i64> = progress.iter().map(|voter| voter.log_end.0).collect();
    assert_eq!(ends, [1, 1, -1]);
    assert_eq!(progress[1].last_caught_up_ns, Some(solo.now.monotonic_ns));
    assert_eq!(progress[2].last_fetch_ns, None);
}
