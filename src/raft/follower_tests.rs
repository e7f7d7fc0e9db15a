use super::super::solo::{Solo, at, key, span};
use super::*;
use crate::raft::event::{Event, RequestKind, Response};
use crate::raft::{RoleName, VoteResponse, VoterMemory};

fn begin(solo: &mut Solo, leader: i32, epoch: i32, voter: Option<i32>) -> ErrorCode {
    let request =
        BeginQuorumEpochRequest { voter: voter.map(key), leader: NodeId(leader), epoch: Epoch(epoch) };
    solo.request(Request::BeginQuorumEpoch(request));
    error_of_reply(solo)
}

fn end(solo: &mut Solo, leader: i32, epoch: i32, preferred: &[i32]) -> ErrorCode {
    let preferred_candidates = preferred.iter().map(|id| key(*id)).collect();
    let request = EndQuorumEpochRequest { leader: NodeId(leader), epoch: Epoch(epoch), preferred_candidates };
    solo.request(Request::EndQuorumEpoch(request));
    error_of_reply(solo)
}

fn error_of_reply(solo: &Solo) -> ErrorCode {
    let reply = solo.effects.iter().find_map(|effect| match effect {
        Effect::Reply { response: Response::BeginQuorumEpoch(r) | Response::EndQuorumEpoch(r), .. } => {
            Some(r.error)
        }
        _ => None,
    });
    reply.expect("a reply")
}

#[test]
fn a_leader_that_begins_is_followed_and_fetched_from() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    assert_eq!(begin(&mut solo, 2, 5, Some(1)), ErrorCode::NONE);
    assert_eq!((solo.raft.leader(), solo.asked()), (None, vec![2]), "it has to say so itself");
    solo.told_epoch(2, 5, 2);
    assert_eq!(solo.persisted.map(|state| (state.epoch, state.leader)), Some((Epoch(5), Some(NodeId(2)))));
    let fetch = solo.sent_fetch().expect("a Fetch").clone();
    assert_eq!((fetch.epoch, fetch.fetch_offset, fetch.last_fetched_epoch), (Epoch(5), Offset(10), Epoch(3)));
    assert_eq!((fetch.max_wait_ms, fetch.high_watermark), (500, Some(DO_NOT_WAKE)));
    assert_eq!(begin(&mut solo, 2, 5, Some(1)), ErrorCode::NONE);
    assert!(solo.sent().is_empty(), "told twice");
}

#[test]
fn leaders_that_cannot_be_are_not_followed() {
    let refusal = |leader, epoch| {
        let mut solo = Solo::follower(5, &[(3, 10)]);
        let error = begin(&mut solo, leader, epoch, None);
        assert_eq!((solo.raft.leader(), solo.raft.epoch()), (Some(NodeId(2)), Epoch(5)));
        assert!(!solo.has_dropped(leader), "our own connections are no part of what a stranger says");
        error
    };
    assert_eq!(refusal(3, 4), ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(refusal(-1, 6), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(3, 5), ErrorCode::INVALID_REQUEST, "a second leader");
    assert_eq!(refusal(9, 6), ErrorCode::INVALID_REQUEST, "no voter");
    assert_eq!(refusal(1, 6), ErrorCode::INVALID_REQUEST, "ourselves");
}

#[test]
fn a_begin_meant_for_another_is_followed_but_refused() {
    let mut solo = Solo::voter(1, 3, &[]);
    assert_eq!(begin(&mut solo, 2, 5, Some(3)), ErrorCode::INVALID_VOTER_KEY);
    solo.told_epoch(2, 5, 2);
    assert_eq!(solo.raft.role(), RoleName::Follower);
}

#[test]
fn answers_that_contradict_drop_the_peer() {
    let mut solo = Solo::follower(5, &[]);
    let response = VoteResponse {
        error: ErrorCode::NONE,
        leader: Some(NodeId(9)),
        epoch: Epoch(5),
        granted: false,
        memory: VoterMemory::Whole,
        start: None,
    };
    solo.step(Event::Response { from: NodeId(3), response: Response::Vote(response) });
    assert!(solo.has_dropped(3), "9 is no voter");
    assert_eq!(solo.raft.leader(), Some(NodeId(2)));
}

#[test]
fn the_first_in_line_stands_at_once_and_the_others_wait() {
    for (preferred, wait_ms) in [(&[1, 3][..], 0), (&[3, 1], 500), (&[3], 1000)] {
        let mut solo = Solo::follower(5, &[(5, 3)]);
        solo.fetched(None, &[]);
        solo.leader_leaves();
        assert_eq!(end(&mut solo, 2, 5, preferred), ErrorCode::NONE);
        let began = solo.now;
        solo.tick_until(RoleName::Prospective);
        assert_eq!(solo.now.monotonic_ns, began.plus_ms(wait_ms), "{preferred:?}");
    }
}

#[test]
fn who_was_left_by_its_leader_grants_pre_votes() {
    let mut solo = Solo::follower(5, &[(5, 3)]);
    solo.fetched(None, &[]);
    assert!(!solo.vote_request(3, 5, at(5, 3), true).granted);
    solo.leader_leaves();
    end(&mut solo, 2, 5, &[3, 1]);
    assert!(solo.vote_request(3, 5, at(5, 3), true).granted);
}

#[test]
fn without_an_order_all_wait_a_different_time() {
    let mut solo = Solo::follower(5, &[(5, 3)]);
    solo.leader_leaves();
    end(&mut solo, 2, 5, &[]);
    let began = solo.now;
    solo.tick_until(RoleName::Prospective);
    assert!(solo.now.monotonic_ns > began.monotonic_ns && solo.now.monotonic_ns <= began.plus_ms(1000));
}

#[test]
fn the_next_fetch_waits_for_the_disk_and_goes_out_once() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(Some(10), &[span(10, 11, 5)]);
    assert!(solo.sent().is_empty());
    let [(offset, Effect::Send { request: Request::Fetch(fetch), .. })] = &solo.after_flush[..] else {
        panic!("{:?}", solo.after_flush)
    };
    assert_eq!((offset.0, fetch.fetch_offset, fetch.last_fetched_epoch), (Offset(12), Offset(12), Epoch(5)));
    solo.flush();
    assert!(solo.sent().is_empty(), "the caller sends what it was handed");
    solo.after_ms(501);
    solo.fetched(Some(12), &[]);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(12)));
}

#[test]
fn a_follower_that_waits_for_its_disk_says_that_it_lives() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[span(10, 11, 5)]);
    solo.after_ms(499).step(Event::Tick);
    assert!(solo.sent().is_empty());
    for _ in 0..5 {
        solo.tick_at_deadline();
        assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(10)), "what is durable");
        solo.fetched(None, &[span(10, 11, 5)]);
        assert!(solo.sent().is_empty() && solo.after_flush.is_empty(), "nothing new");
    }
    assert_eq!(solo.raft.role(), RoleName::Follower);
    solo.fetched(None, &[span(10, 11, 5), span(12, 12, 5)]);
    assert!(solo.effects.contains(&Effect::AppendFetched { first: 1, count: 1 }));
    assert_eq!(solo.after_flush.len(), 1);
}

#[test]
fn a_gate_that_the_caller_forgot_is_opened_by_the_flush() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[span(10, 11, 5)]);
    solo.told_epoch(3, 6, 3);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(10)));
    solo.flush();
    assert!(solo.sent().is_empty(), "one Fetch is under way");
}

#[test]
fn a_failed_fetch_is_tried_again_after_the_backoff_and_given_up_after_the_timeout() {
    let mut solo = Solo::follower(5, &[]);
    for _ in 0..3 {
        solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
        assert!(solo.sent().is_empty());
        solo.after_ms(20).step(Event::Tick);
        assert_eq!(solo.sent().len(), 1);
    }
    solo.tick_until(RoleName::Prospective);
    // The fetch timeout, and its jitter of at most a tenth.
    assert!((2000..2200).contains(&(solo.now.monotonic_ns / NS_PER_MS)), "{}", solo.now.monotonic_ns);
}

#[test]
fn doubled_answers_cause_no_storm() {
    let mut solo = Solo::follower(5, &[(5, 3)]);
    let mut sent = 0;
    for _ in 0..100 {
        // A leader answers an older Fetch at once, empty, when a newer one comes.
        solo.after_ms(1);
        solo.fetched(Some(3), &[]);
        sent += solo.sent().len();
        solo.step(Event::Tick);
        sent += solo.sent().len();
    }
    assert!(sent <= 5, "{sent} Fetches in 100 ms");
}

#[test]
fn without_a_leader_any_voter_is_asked_and_its_answer_believed() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    solo.step(Event::Tick);
    let (asked, request) = solo.sent()[0];
    assert!(asked != 1 && matches!(request, Request::Fetch(fetch) if fetch.max_wait_ms == 0));
    let mut response = solo.fetch_response();
    response.error = ErrorCode::FENCED_LEADER_EPOCH;
    (response.leader, response.epoch) = (Some(NodeId(2)), Epoch(7));
    solo.step(Event::Response { from: NodeId(asked), response: Response::Fetch(response) });
    assert_eq!((solo.raft.leader(), solo.raft.epoch()), (Some(NodeId(2)), Epoch(7)));
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2]);
}

#[test]
fn the_search_for_a_leader_is_cheap() {
    let mut solo = Solo::voter(4, 3, &[]);
    let mut sent = 0;
    while solo.now.monotonic_ns < 1000 * NS_PER_MS {
        let to = solo.tick_at_deadline().iter().find_map(|effect| match effect {
            Effect::Send { to, .. } => Some(*to),
            _ => None,
        });
        let Some(to) = to else { continue };
        sent += 1;
        let mut response = solo.fetch_response();
        (response.error, response.leader) = (ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
        solo.step(Event::Response { from: to, response: Response::Fetch(response) });
    }
    assert!((40..=51).contains(&sent), "{sent} in a second");
}

#[test]
fn an_observer_that_loses_its_leader_looks_for_another() {
    let mut solo = Solo::voter(4, 3, &[]);
    solo.follow(2, 5);
    solo.after_ms(2200).step(Event::Tick);
    assert!(matches!(solo.raft.role, Role::Unattached(_)));
    assert_eq!(solo.sent().len(), 1);
}

#[test]
fn one_fetch_is_under_way_while_the_disk_works_and_after_it() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[span(10, 11, 5)]);
    solo.tick_at_deadline();
    assert!(solo.sent_fetch().is_some(), "the first heartbeat");
    solo.after_ms(500).step(Event::Tick);
    assert!(solo.sent().is_empty(), "none before it is answered");
    solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
    assert!(solo.sent_fetch().is_some(), "the second, whose time has come");
    solo.fetched(None, &[span(10, 11, 5), span(12, 13, 5)]);
    solo.step(Event::Flushed(FlushedOffset(Offset(12))));
    solo.step(Event::Flushed(FlushedOffset(Offset(14))));
    // Both Fetches that waited for the disk were sent by the caller; the leader may park the second one.
    solo.after_ms(500).step(Event::Tick);
    assert!(solo.sent().is_empty(), "no heartbeat without a flush to wait for");
    solo.step(Event::FetchOvertaken { to: NodeId(2) });
    solo.after_ms(20).step(Event::Tick);
    assert!(solo.sent().is_empty(), "one of two waits for its answer");
    solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(14)));
}

/// A heartbeat and the Fetch behind a flush, on the connection that broke: it is one failure, and the next Fetch does not wait
/// for a second one.
#[test]
fn two_fetches_that_are_lost_together_are_asked_for_again_after_the_backoff() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[span(10, 11, 5)]);
    solo.tick_at_deadline();
    assert!(solo.sent_fetch().is_some(), "the heartbeat");
    solo.step(Event::Flushed(FlushedOffset(Offset(12))));
    solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(12)));
}

#[test]
fn a_failure_of_a_node_that_was_not_asked_sends_nothing() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.step(Event::RequestFailed { to: NodeId(3), kind: RequestKind::Fetch });
    solo.after_ms(20).step(Event::Tick);
    assert!(solo.sent().is_empty());
}

#[test]
fn a_follower_takes_no_more_than_its_disk_can_be_waited_for() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    let mut batches = Vec::new();
    for i in 0..GATES_MAX as i64 + 3 {
        batches.push(span(10 + i, 10 + i, 5));
        solo.fetched(None, &batches);
        solo.tick_at_deadline();
    }
    assert_eq!(solo.raft.log_end().0, Offset(10 + GATES_MAX as i64));
    solo.flush();
    solo.fetched(None, &batches[GATES_MAX..]);
    assert_eq!(solo.raft.log_end().0, Offset(10 + batches.len() as i64), "the rest comes later");
}

#[test]
fn a_search_that_is_never_answered_is_begun_again() {
    let mut solo = Solo::voter(4, 3, &[]);
    solo.step(Event::Tick);
    assert_eq!(solo.sent().len(), 1);
    // The request timeout, and what a leader may park a Fetch for.
    solo.after_ms(2499).step(Event::Tick);
    assert!(solo.sent().is_empty());
    solo.after_ms(1).step(Event::Tick);
    assert_eq!(solo.sent().len(), 1);
}

#[test]
fn an_observer_is_not_busy_with_elections() {
    let mut solo = Solo::voter(4, 3, &[]);
    solo.follow(2, 5);
    let mut response = solo.fetch_response();
    (response.error, response.leader, response.epoch) = (ErrorCode::FENCED_LEADER_EPOCH, None, Epoch(9));
    solo.step(Event::Response { from: NodeId(2), response: Response::Fetch(response) });
    let mut ticks = 0;
    while solo.now.monotonic_ns < 10_000 * NS_PER_MS {
        solo.tick_at_deadline();
        ticks += 1;
        assert!(ticks < 20, "it is woken again and again at {}", solo.now.monotonic_ns);
    }
}

#[test]
fn an_observer_does_not_stand_in_for_a_leader_that_resigned() {
    let mut solo = Solo::voter(4, 3, &[]);
    solo.follow(2, 5);
    solo.fetched(None, &[]);
    assert_eq!(end(&mut solo, 2, 5, &[4, 1]), ErrorCode::NONE);
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.raft.leader(), Some(NodeId(2)));
    assert!(
        matches!(solo.raft.role, Role::Follower(_)),
        "until the next leader speaks or the fetch timeout passes"
    );
}

#[test]
fn a_search_that_finds_the_same_leader_and_its_records_fetches_on_behind_the_flush() {
    let mut solo = Solo::voter(4, 3, &[(3, 10)]);
    solo.follow(2, 3);
    solo.after_ms(2200).step(Event::Tick);
    assert!(matches!(solo.raft.role, Role::Unattached(_)), "it was silent for too long");
    solo.fetched(None, &[span(10, 11, 3)]);
    // The change of the role makes the caller forget what waits for a flush, so nothing was handed out.
    assert!(solo.effects.contains(&Effect::RoleChanged) && solo.after_flush.is_empty());
    solo.flush();
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.fetch_offset), Some(Offset(12)));
}

/// Node `local` of this many, which node 2 led in epoch 5 and answered for the last time now.
fn heard_from_leader(local: i32, voters: i32) -> Solo {
    let state = QuorumState {
        epoch: Epoch(5),
        leader: Some(NodeId(2)),
        voted: None,
        caught_up: true,
        in_doubt: false,
    };
    let mut solo = Solo::new(local, voters, state, &[(5, 3)]);
    solo.step(Event::Tick);
    solo.fetched(None, &[]);
    solo
}

fn fetch_deadline(solo: &Solo) -> u64 {
    match &solo.raft.role {
        Role::Follower(follower) => follower.fetch_deadline,
        other => panic!("{other:?}"),
    }
}

#[test]
fn who_is_refused_by_its_leader_stands_in_its_turn() {
    // Two retry backoffs, and a quarter of the election timeout for each other voter in front.
    for (local, voters, wait_ms) in [(1, 3, 40), (3, 3, 290), (4, 5, 540), (5, 5, 790)] {
        let mut solo = heard_from_leader(local, voters);
        solo.after_ms(7).step(Event::Refused { by: NodeId(2) });
        assert_eq!(fetch_deadline(&solo), solo.now.plus_ms(wait_ms), "{local} of {voters}");
        assert!(solo.vote_request(3, 5, at(5, 3), true).granted || local == 3, "{local} denies nobody");
    }
}

#[test]
fn refusals_that_say_nothing_of_the_leader_change_nothing() {
    let is_unmoved = |solo: &mut Solo, by| {
        let before = fetch_deadline(solo);
        solo.step(Event::Refused { by: NodeId(by) });
        let Role::Follower(follower) = &solo.raft.role else { return false };
        follower.end == LeaderEnd::Silent && follower.fetch_deadline == before && solo.notes.is_empty()
    };
    assert!(is_unmoved(&mut heard_from_leader(1, 3), 3), "another voter");
    assert!(is_unmoved(&mut heard_from_leader(4, 3), 2), "an observer has no turn");
    assert!(is_unmoved(&mut Solo::follower(5, &[]), 2), "a leader that never answered was not there before");
    for (left_ms, expected) in [(39, true), (40, true), (41, false)] {
        let mut solo = heard_from_leader(1, 3);
        solo.now.monotonic_ns = fetch_deadline(&solo) - left_ms * NS_PER_MS;
        assert_eq!(is_unmoved(&mut solo, 2), expected, "{left_ms} ms before it stands anyway");
    }
}

#[test]
fn a_campaign_says_and_counts_how_the_leader_ended() {
    let said = |event: Option<Event>, answers_again: bool| {
        let mut solo = heard_from_leader(1, 3);
        solo.leader_leaves();
        event.map(|event| solo.step(event).len());
        if answers_again {
            solo.fetched(None, &[]);
        }
        solo.now.monotonic_ns = fetch_deadline(&solo);
        solo.step(Event::Tick);
        let counted: Vec<Cause> =
            Cause::ALL.into_iter().filter(|cause| solo.raft.campaigns()[*cause as usize] > 0).collect();
        (solo.notes[0].clone(), counted)
    };
    let refused = Event::Refused { by: NodeId(2) };
    let resigned = Event::Request {
        request_id: crate::raft::RequestId(7),
        request: Request::EndQuorumEpoch(EndQuorumEpochRequest {
            leader: NodeId(2),
            epoch: Epoch(5),
            preferred_candidates: vec![key(3), key(1)],
        }),
    };
    let expected = |why: &str, cause| (format!("{why}: asking for pre-votes in epoch 5"), vec![cause]);
    let silent = expected("no answer from 2 within the fetch timeout", Cause::FetchTimeout);
    assert_eq!(said(None, false), silent);
    assert_eq!(said(Some(refused.clone()), true), silent, "it was there again");
    assert_eq!(said(Some(refused), false), expected("nobody listens where 2 led", Cause::LeaderGone));
    assert_eq!(said(Some(resigned), false), expected("2 resigned", Cause::LeaderResigned));
}

#[test]
fn a_former_leader_that_comes_back_as_an_observer_looks_for_a_leader_without_haste() {
    let state = QuorumState {
        epoch: Epoch(7),
        leader: Some(NodeId(4)),
        voted: Some(key(4)),
        caught_up: true,
        in_doubt: false,
    };
    let mut solo = Solo::with(key(4), (1..=3).map(key).collect(), state, at(0, 0), &[(7, 5)]);
    let mut asked = 0;
    for _ in 0..100 {
        solo.tick_at_deadline();
        if let Some(to) = solo.sent().first().map(|(to, _)| *to) {
            asked += 1;
            solo.step(Event::RequestFailed { to: NodeId(to), kind: RequestKind::Fetch });
        }
    }
    assert_eq!(asked, 100, "each step asks somebody");
    assert!(solo.now.monotonic_ns >= 99 * 20 * NS_PER_MS, "{} ns for 100 questions", solo.now.monotonic_ns);
    assert_eq!(solo.raft.role(), RoleName::Observer);
    solo.follow(2, 8);
    assert_eq!(solo.raft.leader(), Some(NodeId(2)));
}

#[test]
fn a_fetch_after_a_broken_connection_comes_back_within_the_time_that_is_left() {
    let mut solo = Solo::follower(5, &[(5, 10)]);
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.max_wait_ms), Some(500));
    solo.after_ms(1_500).step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
    solo.tick_at_deadline();
    let wait_ms = solo.sent_fetch().expect("a Fetch").max_wait_ms;
    assert!((100..=340).contains(&wait_ms), "{wait_ms} ms");
}

/// It may wait for hours, and is sent the same records each time.
#[test]
fn a_follower_whose_disk_is_full_asks_calmly_and_less_so_where_it_is_not_heard() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.step(Event::Fitness(Some(Unfit::DiskFull)));
    solo.fetched(None, &[span(10, 11, 5)]);
    for _ in 0..20 {
        solo.after_ms(799).step(Event::Tick);
        assert!(solo.sent().is_empty());
        solo.tick_at_deadline();
        let asked = solo.sent_fetch().map(|fetch| (fetch.fetch_offset, fetch.one_batch));
        assert_eq!(asked, Some((Offset(10), true)), "what is durable, and no more of what it has");
        solo.fetched(None, &[span(10, 11, 5)]);
    }
    solo.after_ms(800).step(Event::Tick);
    for _ in 0..2 {
        assert!(solo.sent_fetch().is_some());
        solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
        solo.after_ms(500).step(Event::Tick);
    }
    assert!(solo.sent_fetch().is_some(), "two were lost, and there is time for one more");
    solo.fetched(None, &[span(10, 11, 5)]);
    assert_eq!(solo.raft.role(), RoleName::Follower);
    solo.step(Event::Fitness(None));
    solo.after_ms(500).step(Event::Tick);
    let asked = solo.sent_fetch().map(|fetch| fetch.one_batch);
    assert_eq!(asked, Some(false), "a flush that is only slow ends soon");
    solo.step(Event::Fitness(Some(Unfit::DiskFull)));
    solo.fetched(None, &[span(10, 11, 5)]);
    solo.flush();
    solo.fetched(None, &[]);
    solo.tick_at_deadline();
    assert_eq!(solo.sent_fetch().map(|fetch| fetch.one_batch), Some(false), "with room for all that it has");
}

#[test]
fn a_fetch_behind_a_slow_flush_comes_back_within_the_time_that_is_left() {
    for (flush_ms, expected_ms) in [(1, 500..=500), (1_500, 240..=350), (2_300, 0..=0)] {
        let mut solo = Solo::follower(5, &[(3, 10)]);
        solo.fetched(None, &[span(10, 11, 5)]);
        let (_, mut effect) = solo.after_flush.pop().expect("a Fetch that waits for the flush");
        solo.after_ms(flush_ms);
        solo.raft.on_released(solo.now, &mut effect);
        let Effect::Send { request: Request::Fetch(fetch), .. } = effect else { panic!("{effect:?}") };
        assert_eq!(fetch.fetch_offset, Offset(12));
        assert!(expected_ms.contains(&fetch.max_wait_ms), "{} ms after {flush_ms}", fetch.max_wait_ms);
    }
}

/// Of a voter that heard of it from strangers, and then lost its disk.
#[test]
fn an_observer_takes_no_part_in_an_epoch_that_nobody_leads() {
    let state = QuorumState { epoch: Epoch(0), leader: None, voted: None, caught_up: false, in_doubt: false };
    let answer = |leader| LeaderResponse { error: ErrorCode::FENCED_LEADER_EPOCH, leader, epoch: Epoch(21) };
    let epoch_of = |local, leader| {
        let mut solo = Solo::new(local, 3, state, &[]);
        solo.step(Event::Response { from: NodeId(3), response: Response::AskEpoch(answer(leader)) });
        solo.raft.epoch()
    };
    assert_eq!((epoch_of(9, None), epoch_of(1, None)), (Epoch(0), Epoch(21)));
    assert_eq!(epoch_of(9, Some(NodeId(3))), Epoch(21));
}
