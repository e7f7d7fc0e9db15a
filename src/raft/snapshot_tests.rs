use super::super::solo::{Solo, at, span};
use super::*;
use crate::raft::event::{Event, FetchResponse, Response};
use crate::raft::{RoleName, VoterMemory};

/// Node 1 of three leads epoch 5 behind epoch 2 up to 10 and epoch 4 up to 20; all is committed, its newest snapshot ends at 18.
fn leader() -> Solo {
    let mut solo = Solo::leader(3, &[(2, 10), (4, 20)]);
    solo.fetch(2, 5, 21, 5);
    solo.step(Event::SnapshotTaken(at(4, 18)));
    solo
}

/// It follows 2 in epoch 5, and can take snapshots.
fn follower(epochs: &[(i32, i64)]) -> Solo {
    let mut solo = Solo::follower(5, epochs);
    solo.raft.take_snapshots();
    solo
}

/// The leader's answer.
fn named(solo: &mut Solo, id: OffsetAndEpoch, begin: OffsetAndEpoch) -> Vec<Effect> {
    let response = FetchResponse { snapshot: Some(id), begin: Some(begin), ..solo.fetch_response() };
    solo.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) }).to_vec()
}

fn asks(effects: &[Effect]) -> Vec<(OffsetAndEpoch, OffsetAndEpoch)> {
    let asked = |effect: &Effect| match effect {
        Effect::InstallSnapshot { from: NodeId(2), id, begin } => Some((*id, *begin)),
        _ => None,
    };
    effects.iter().filter_map(asked).collect()
}

fn places(effects: &[Effect]) -> Vec<(OffsetAndEpoch, OffsetAndEpoch)> {
    let placed = |effect: &Effect| match effect {
        Effect::PlaceSnapshot { id, begin } => Some((*id, *begin)),
        _ => None,
    };
    effects.iter().filter_map(placed).collect()
}

#[test]
fn who_ends_below_the_begin_of_the_log_or_parts_from_it_there_is_named_a_snapshot() {
    let mut solo = leader();
    solo.step(Event::StartMoved(at(4, 15)));
    let snapshot = FetchVerdict::Snapshot { id: at(4, 18), begin: at(4, 15) };
    for (offset, last, verdict) in [
        (0, 0, snapshot),
        (14, 4, snapshot),
        (15, 2, snapshot),
        (15, 5, snapshot),
        (300, 2, snapshot),
        (15, 4, FetchVerdict::Read { from: Offset(15) }),
        (18, 4, FetchVerdict::Read { from: Offset(18) }),
        (25, 4, FetchVerdict::Diverging(at(4, 20))),
    ] {
        assert_eq!(solo.fetch(3, 5, offset, last), verdict, "{offset} after {last}");
    }
    // As Kafka's voters fetch who know no epoch of ours.
    assert_eq!(solo.fetch(-1, 5, 3, 2), FetchVerdict::Refused(ErrorCode::OFFSET_OUT_OF_RANGE));
}

/// The start lies inside of a batch, or of a run of the index: replicas are given that from its begin on.
#[test]
fn a_replica_that_ends_where_the_start_has_its_batch_is_given_that_batch() {
    let mut solo = leader();
    solo.step(Event::StartMovedWithin { start: at(4, 17), begin: at(2, 10) });
    assert_eq!(solo.raft.log_start(), Offset(17));
    for (offset, last, verdict) in [
        (10, 2, FetchVerdict::Read { from: Offset(10) }),
        (12, 4, FetchVerdict::Read { from: Offset(12) }),
        (30, 2, FetchVerdict::Diverging(at(2, 10))),
        (9, 2, FetchVerdict::Snapshot { id: at(4, 18), begin: at(2, 10) }),
    ] {
        assert_eq!(solo.fetch(3, 5, offset, last), verdict, "{offset} after {last}");
    }
}

#[test]
fn a_leader_without_a_snapshot_names_none() {
    let mut solo = Solo::leader(3, &[(2, 10), (4, 20)]);
    solo.fetch(2, 5, 21, 5);
    solo.step(Event::StartMoved(at(4, 15)));
    assert_eq!(solo.fetch(3, 5, 3, 2), FetchVerdict::Refused(ErrorCode::OFFSET_OUT_OF_RANGE));
    solo.step(Event::SnapshotTaken(at(2, 8)));
    assert_eq!(
        solo.fetch(3, 5, 3, 2),
        FetchVerdict::Refused(ErrorCode::OFFSET_OUT_OF_RANGE),
        "none that covers it"
    );
}

#[test]
fn who_is_below_the_log_keeps_its_leader_in_office_and_is_told_no_position() {
    let mut solo = leader();
    solo.fetch(3, 5, 21, 5);
    solo.step(Event::StartMoved(at(4, 15)));
    for _ in 0..10 {
        solo.after_ms(900);
        solo.fetch(3, 5, 0, 0);
        solo.step(Event::Tick);
        assert!(solo.raft.is_leader());
    }
    let progress = solo.raft.voter_progress(solo.now);
    assert_eq!(progress[2].log_end, Offset(0), "it lost what it had said that it holds");
    solo.after_ms(3_100).step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Resigned);
}

/// Story 13: 0..100 of epoch 3, the leader's log begins at (50, 4), its snapshot ends at (80, 4).
#[test]
fn a_follower_that_parts_below_the_leaders_log_takes_its_snapshot_and_begins_anew() {
    let mut solo = follower(&[(3, 100)]);
    assert_eq!(asks(&named(&mut solo, at(4, 80), at(4, 50))), [(at(4, 80), at(4, 50))]);
    assert_eq!(asks(&named(&mut solo, at(4, 80), at(4, 50))), [], "it is being fetched");
    assert_eq!(
        asks(&named(&mut solo, at(4, 90), at(4, 60))),
        [(at(4, 90), at(4, 60))],
        "a newer one replaces it"
    );
    // Until that is durable it votes by the log that it has.
    let effects = solo.step(Event::SnapshotFetched(at(4, 95))).to_vec();
    assert_eq!(places(&effects), [(at(4, 95), at(4, 60))], "what it has will do");
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(100)));
    // Its leader is not heard of any more.
    solo.after_ms(3_000);
    assert!(!solo.vote_request(3, 6, at(3, 99), false).granted);
    assert_eq!(solo.sent_fetch(), None);
    let effects = solo.step(Event::SnapshotInstalled { id: at(4, 95), begin: at(4, 60) }).to_vec();
    assert!(effects.contains(&Effect::HighWatermark(HighWatermark(Offset(60)))), "{effects:?}");
    let raft = &solo.raft;
    assert_eq!((raft.log_start(), raft.log_end().0, raft.flushed().0), (Offset(60), Offset(60), Offset(60)));
    assert_eq!(raft.newest_snapshot(), Some(at(4, 95)));
    // What is gone counts.
    assert!(!solo.vote_request(3, 7, at(3, 500), false).granted);
    assert!(solo.vote_request(3, 8, at(4, 60), false).granted);
}

#[test]
fn behind_an_install_it_fetches_on_from_there() {
    let mut solo = follower(&[(3, 30)]);
    named(&mut solo, at(4, 80), at(4, 50));
    solo.step(Event::SnapshotFetched(at(4, 80)));
    solo.step(Event::SnapshotInstalled { id: at(4, 80), begin: at(4, 50) });
    let fetch = solo.sent_fetch().expect("a Fetch");
    assert_eq!((fetch.fetch_offset, fetch.last_fetched_epoch), (Offset(50), Epoch(4)));
    solo.fetched(Some(90), &[span(50, 84, 4), span(85, 89, 5)]);
    assert!(solo.effects.contains(&Effect::AppendFetched { first: 0, count: 2 }), "{:?}", solo.effects);
    // A late answer to a Fetch of before.
    assert_eq!(asks(&named(&mut solo, at(4, 80), at(4, 50))), []);
    assert_eq!(asks(&named(&mut solo, at(4, 80), at(4, 40))), []);
    assert!(!solo.has_dropped(2), "{:?}", solo.effects);
}

/// Both know that the other lives.
#[test]
fn it_fetches_at_its_old_end_every_quarter_of_the_fetch_timeout_meanwhile() {
    let mut solo = follower(&[(3, 30)]);
    for _ in 0..20 {
        named(&mut solo, at(4, 80), at(4, 50));
        assert_eq!(solo.sent_fetch(), None);
        solo.after_ms(499).step(Event::Tick);
        assert_eq!(solo.sent_fetch(), None);
        solo.after_ms(1).step(Event::Tick);
        assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(30)));
    }
    assert_eq!(solo.raft.role(), RoleName::Follower);
    solo.tick_until(RoleName::Prospective);
}

#[test]
fn a_snapshot_that_no_sound_leader_names_drops_the_peer() {
    for (id, begin) in [
        (at(4, 80), at(4, 19)),
        (at(4, 80), at(2, 50)),
        (at(4, 49), at(4, 50)),
        (at(3, 80), at(4, 50)),
        (at(6, 80), at(4, 50)),
        (at(6, 80), at(6, 50)),
    ] {
        let mut solo = follower(&[(3, 30)]);
        solo.raft.high_watermark = Some(HighWatermark(Offset(20)));
        assert_eq!(asks(&named(&mut solo, id, begin)), [], "{id:?} for {begin:?}");
        assert!(solo.has_dropped(2), "{id:?} for {begin:?}: {:?}", solo.effects);
    }
}

/// Story 12.
#[test]
fn another_leader_is_asked_anew_and_what_has_come_since_may_do() {
    let mut solo = follower(&[(3, 30)]);
    named(&mut solo, at(4, 80), at(4, 50));
    solo.told_epoch(3, 6, 3);
    assert!(places(solo.step(Event::SnapshotFetched(at(4, 80)))).is_empty(), "it was asked of another");
    let answer = FetchResponse {
        leader: Some(NodeId(3)),
        snapshot: Some(at(4, 80)),
        begin: Some(at(4, 55)),
        ..solo.fetch_response()
    };
    solo.step(Event::Response { from: NodeId(3), response: Response::Fetch(answer) });
    let asked = Effect::InstallSnapshot { from: NodeId(3), id: at(4, 80), begin: at(4, 55) };
    assert!(solo.effects.contains(&asked), "{:?}", solo.effects);
    assert_eq!(places(solo.step(Event::SnapshotFetched(at(4, 80)))), [(at(4, 80), at(4, 55))]);
    // What is being put in place stays, whoever leads.
    solo.told_epoch(2, 7, 2);
    assert_eq!(solo.sent_fetch(), None);
    solo.step(Event::SnapshotInstalled { id: at(4, 80), begin: at(4, 55) });
    assert_eq!(
        solo.sent_fetch().map(|fetch| (fetch.epoch, fetch.fetch_offset)),
        Some((Epoch(7), Offset(55)))
    );
}

#[test]
fn what_another_leader_had_is_not_replaced() {
    let mut solo = follower(&[(3, 30)]);
    named(&mut solo, at(4, 80), at(4, 50));
    solo.fetched(Some(60), &[span(30, 49, 4), span(50, 59, 4)]);
    solo.flush();
    assert!(places(solo.step(Event::SnapshotFetched(at(4, 80)))).is_empty(), "its log has got there");
    assert_eq!(solo.raft.log_end(), LogEndOffset(Offset(60)));
}

#[test]
fn a_cut_under_way_is_waited_for() {
    let mut solo = follower(&[(3, 30)]);
    named(&mut solo, at(4, 80), at(4, 50));
    solo.diverging(at(3, 20));
    assert!(places(solo.step(Event::SnapshotFetched(at(4, 80)))).is_empty());
    let effects = solo.step(Event::Truncated(LogEndOffset(Offset(20)))).to_vec();
    assert_eq!(places(&effects), [(at(4, 80), at(4, 50))]);
    assert_eq!(solo.sent_fetch(), None);
}

/// It would lead with the state of records that it does not have. Story 27: that stays so when its log is cut.
#[test]
fn who_ends_before_its_newest_snapshot_does_not_stand() {
    let mut solo = follower(&[(3, 30)]);
    named(&mut solo, at(4, 80), at(4, 50));
    solo.step(Event::SnapshotFetched(at(4, 80)));
    solo.step(Event::SnapshotInstalled { id: at(4, 80), begin: at(4, 50) });
    solo.fetched(Some(60), &[span(50, 79, 4)]);
    solo.flush();
    solo.told_epoch(2, 6, 2);
    solo.diverging(at(4, 70));
    solo.step(Event::Truncated(LogEndOffset(Offset(70))));
    for _ in 0..20 {
        solo.tick_at_deadline();
        assert!(
            matches!(solo.raft.role(), RoleName::Follower | RoleName::Unattached),
            "{:?}",
            solo.raft.role()
        );
    }
    assert!(!solo.vote_request(3, 7, at(4, 69), false).granted, "it votes by its log");
    assert!(solo.vote_request(3, 8, at(4, 70), false).granted, "it votes by its log");
    solo.told_epoch(2, 9, 2);
    solo.fetched(Some(60), &[span(70, 79, 9)]);
    solo.flush();
    solo.tick_until(RoleName::Prospective);
    solo.vote_response_of(2, 9, true, VoterMemory::Whole);
    assert_eq!(solo.raft.role(), RoleName::Candidate);
}

#[test]
fn who_cannot_take_one_says_so_and_stays_behind() {
    let mut solo = Solo::follower(5, &[(3, 30)]);
    assert_eq!(asks(&named(&mut solo, at(4, 80), at(4, 50))), []);
    assert!(solo.notes.iter().any(|note| note.contains("which I cannot take")), "{:?}", solo.notes);
    assert!(!solo.has_dropped(2));
}
