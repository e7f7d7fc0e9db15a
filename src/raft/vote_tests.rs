use super::super::solo::{Solo, at, key};
use super::*;
use crate::raft::event::{Event, RequestKind, Response};
use crate::raft::{RequestId, RoleName};

fn state(epoch: i32, leader: Option<i32>, voted: Option<i32>, caught_up: bool) -> QuorumState {
    QuorumState {
        epoch: Epoch(epoch),
        leader: leader.map(NodeId),
        voted: voted.map(key),
        caught_up,
        in_doubt: false,
    }
}

#[test]
fn a_vote_is_granted_to_a_log_that_is_not_behind() {
    for (last, granted) in
        [(at(3, 10), true), (at(3, 11), true), (at(4, 1), true), (at(3, 9), false), (at(2, 99), false)]
    {
        for pre_vote in [false, true] {
            let mut solo = Solo::voter(1, 3, &[(3, 10)]);
            let response = solo.vote_request(2, 6, last, pre_vote);
            assert_eq!((response.error, response.granted), (ErrorCode::NONE, granted), "{last:?}");
            assert_eq!(response.epoch, Epoch(6));
        }
    }
}

/// It starts and ends at 10, and the last record before that was of epoch 4.
#[test]
fn a_log_of_which_all_is_gone_grants_no_vote_to_one_that_ends_before() {
    let four = state(4, None, None, true);
    for (last, granted) in [(at(3, 9), false), (at(3, 90), false), (at(4, 9), false), (at(4, 10), true)] {
        let mut solo = Solo::with(key(1), (1..=3).map(key).collect(), four, at(4, 10), &[]);
        assert_eq!(solo.vote_request(2, 5, last, false).granted, granted, "{last:?}");
    }
}

#[test]
fn a_vote_is_durable_before_it_is_spoken_and_a_pre_vote_changes_nothing() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    assert!(solo.vote_request(2, 3, at(3, 10), true).granted);
    assert_eq!(solo.persisted, None);
    assert!(solo.vote_request(2, 4, at(3, 10), false).granted);
    assert_eq!(solo.persisted, Some(state(4, None, Some(2), true)));
}

#[test]
fn one_vote_in_an_epoch() {
    let mut solo = Solo::voter(1, 3, &[]);
    assert!(solo.vote_request(2, 4, at(0, 0), false).granted);
    assert!(!solo.vote_request(3, 4, at(3, 9), false).granted);
    assert!(solo.vote_request(2, 4, at(0, 0), false).granted, "the same candidate asks again");
    assert!(solo.vote_request(3, 4, at(3, 9), true).granted, "a pre-vote is no vote");
    assert!(solo.vote_request(3, 5, at(3, 9), false).granted, "a new epoch");
}

#[test]
fn who_hears_from_a_leader_denies_pre_votes() {
    let mut solo = Solo::follower(3, &[(3, 10)]);
    assert!(solo.vote_request(3, 3, at(3, 10), true).granted, "not heard yet");
    solo.fetched(None, &[]);
    assert!(!solo.vote_request(3, 3, at(3, 10), true).granted);
    let mut leader = Solo::leader(3, &[(3, 10)]);
    assert!(!leader.vote_request(3, 4, at(4, 99), true).granted);
}

#[test]
fn requests_that_cannot_be_are_refused() {
    let refusal = |from, epoch, last, pre_vote| {
        let mut solo = Solo::voter(1, 3, &[(3, 10)]);
        let response = solo.vote_request(from, epoch, last, pre_vote);
        assert_eq!((response.granted, solo.raft.epoch()), (false, Epoch(3)));
        response.error
    };
    assert_eq!(refusal(2, 4, at(4, 10), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(2, 4, at(5, 10), true), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(2, 4, at(3, -1), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(2, 4, at(-1, 3), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(2, i32::MIN, at(0, 0), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(2, i32::MAX, at(3, 10), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(-1, 4, at(3, 10), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(1, 4, at(3, 10), false), ErrorCode::INVALID_REQUEST);
    assert_eq!(refusal(2, 2, at(1, 10), false), ErrorCode::FENCED_LEADER_EPOCH);
    assert_eq!(refusal(9, 4, at(3, 10), false), ErrorCode::NONE);
}

#[test]
fn a_vote_meant_for_another_is_refused_and_its_epoch_adopted() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    let request = VoteRequest {
        voter: Some(key(3)),
        epoch: Epoch(8),
        candidate: key(2),
        last: at(3, 10),
        pre_vote: false,
        counts_memory: true,
    };
    solo.request(Request::Vote(request));
    let response = solo.reply_to_vote();
    assert_eq!((response.error, response.granted), (ErrorCode::INVALID_VOTER_KEY, false));
    assert_eq!(solo.persisted, Some(state(8, None, None, true)));
}

#[test]
fn pre_votes_come_before_votes_and_votes_before_leading() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    solo.tick_until(RoleName::Prospective);
    assert_eq!(solo.persisted, None);
    assert!(
        solo.sent().iter().all(|(_, r)| matches!(r, Request::Vote(v) if v.pre_vote && v.epoch == Epoch(3)))
    );
    solo.vote_response(2, 3, true);
    assert_eq!(solo.raft.role(), RoleName::Candidate);
    assert_eq!(solo.persisted, Some(state(4, None, Some(1), true)));
    assert!(
        solo.sent().iter().all(|(_, r)| matches!(r, Request::Vote(v) if !v.pre_vote && v.epoch == Epoch(4)))
    );
    solo.vote_response(3, 3, true);
    assert_eq!(solo.raft.role(), RoleName::Candidate, "a late pre-vote is no vote");
    solo.vote_response(3, 4, true);
    assert_eq!(solo.raft.role(), RoleName::Leader);
    assert_eq!(solo.persisted, Some(state(4, Some(1), Some(1), true)));
}

#[test]
fn a_denied_prospective_goes_back_and_the_epoch_stays() {
    let mut solo = Solo::follower(3, &[(3, 10)]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 3, false);
    solo.vote_response(3, 3, false);
    assert_eq!((solo.raft.role(), solo.raft.epoch()), (RoleName::Follower, Epoch(3)));
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 3, false);
    solo.vote_response(3, 3, false);
    assert_eq!((solo.raft.role(), solo.raft.epoch()), (RoleName::Unattached, Epoch(3)));
}

#[test]
fn a_split_vote_is_followed_by_another_election_after_the_timeout() {
    let mut solo = Solo::voter(1, 3, &[]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 0, true);
    let began = solo.now;
    solo.vote_response(2, 1, false);
    solo.vote_response(3, 1, false);
    assert_eq!(solo.raft.role(), RoleName::Candidate);
    solo.tick_until(RoleName::Prospective);
    assert!(solo.now.monotonic_ns >= began.plus_ms(1000), "waited for the election timeout");
    assert_eq!(solo.raft.epoch(), Epoch(1));
}

#[test]
fn a_failed_vote_is_asked_again_after_the_backoff() {
    let mut solo = Solo::voter(1, 3, &[]);
    solo.tick_until(RoleName::Prospective);
    solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Vote });
    assert_eq!(solo.sent().len(), 0);
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_peer_that_knows_no_pre_vote_cannot_deny_it() {
    let mut solo = Solo::voter(1, 3, &[]);
    solo.tick_until(RoleName::Prospective);
    let (error, memory) = (ErrorCode::UNSUPPORTED_VERSION, VoterMemory::Unsaid);
    let response = VoteResponse { error, leader: None, epoch: Epoch(0), granted: false, memory, start: None };
    solo.step(Event::Response { from: NodeId(2), response: Response::Vote(response) });
    assert_eq!(solo.raft.role(), RoleName::Candidate);
}

#[test]
fn after_a_restart_an_epoch_with_our_own_vote_is_over() {
    let mut solo = Solo::new(1, 3, state(5, None, Some(1), true), &[(3, 10)]);
    assert_eq!(solo.raft.role(), RoleName::Unattached);
    assert!(!solo.vote_request(2, 5, at(4, 99), false).granted);
    solo.vote_response(2, 5, true);
    assert_eq!(solo.raft.role(), RoleName::Unattached, "a vote of before the restart");
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 5, true);
    assert_eq!(solo.persisted, Some(state(6, None, Some(1), true)));
}

#[test]
fn after_a_restart_an_epoch_that_we_led_is_over() {
    let mut solo = Solo::new(1, 3, state(5, Some(1), Some(1), true), &[(5, 10)]);
    assert_eq!((solo.raft.role(), solo.raft.leader()), (RoleName::Resigned, None));
    assert!(!solo.vote_request(2, 5, at(4, 99), false).granted);
    solo.tick_until(RoleName::Prospective);
    assert_eq!(solo.raft.leader(), None);
    solo.vote_response(2, 5, true);
    assert_eq!(solo.raft.epoch(), Epoch(6));
}

#[test]
fn a_log_that_is_ahead_of_its_quorum_state_gives_the_epoch() {
    let mut solo = Solo::new(1, 3, state(2, Some(2), Some(2), true), &[(3, 10)]);
    assert_eq!((solo.raft.role(), solo.raft.epoch()), (RoleName::Unattached, Epoch(3)));
    solo.step(Event::Tick);
    assert_eq!(solo.persisted, Some(state(3, None, None, true)));
}

#[test]
fn an_only_voter_elects_itself_at_once() {
    let mut solo = Solo::voter(1, 1, &[(3, 10)]);
    assert_eq!(solo.raft.deadline(), Some(0));
    solo.step(Event::Tick);
    assert_eq!((solo.raft.role(), solo.raft.epoch()), (RoleName::Leader, Epoch(4)));
    assert!(solo.raft.can_append());
    let mut restarted = Solo::new(1, 1, state(4, Some(1), Some(1), true), &[(4, 11)]);
    restarted.step(Event::Tick);
    assert_eq!((restarted.raft.role(), restarted.raft.epoch()), (RoleName::Leader, Epoch(5)));
}

/// Node 1 of three, whose log was empty at its first start, and to which both others have answered.
fn lost(epoch: i32, epochs: &[(i32, i64)]) -> Solo {
    let mut solo = Solo::new(1, 3, state(epoch, None, None, false), epochs);
    for from in [2, 3] {
        solo.vote_response(from, epoch, false);
    }
    solo
}

#[test]
fn an_empty_voter_helps_any_log_with_reserve_and_without_it_empty_ones_only() {
    for pre_vote in [true, false] {
        let mut solo = lost(0, &[]);
        let response = solo.vote_request(2, 6, at(4, 7), pre_vote);
        assert_eq!((response.granted, response.memory), (true, VoterMemory::Lost));
        let mut solo = lost(0, &[]);
        let mut ask = |last| {
            let (epoch, candidate, counts_memory) = (Epoch(6), key(2), false);
            let request = VoteRequest { voter: None, epoch, candidate, last, pre_vote, counts_memory };
            solo.request(Request::Vote(request));
            solo.reply_to_vote().granted
        };
        assert_eq!([at(4, 7), at(0, 0)].map(&mut ask), [false, true], "a candidate that counts no reserves");
    }
    let mut filled = lost(4, &[(4, 3)]);
    assert_eq!(filled.vote_request(2, 6, at(4, 7), false).memory, VoterMemory::Lost, "partly filled");
    assert!(!lost(4, &[(4, 3)]).vote_request(2, 6, at(4, 2), false).granted, "a shorter log than its own");
    assert_eq!(Solo::voter(1, 3, &[]).vote_request(2, 6, at(4, 7), false).memory, VoterMemory::Whole);
}

#[test]
fn an_empty_voter_votes_first_when_all_others_have_answered_it() {
    let mut solo = Solo::new(1, 3, QuorumState::EMPTY, &[]);
    assert!(solo.vote_request(2, 0, at(0, 0), true).granted, "a pre-vote promises nothing");
    let asks = |solo: &mut Solo, epoch| {
        let response = solo.vote_request(2, epoch, at(0, 0), false);
        (response.granted, response.memory)
    };
    assert_eq!(asks(&mut solo, 1), (false, VoterMemory::Asking));
    solo.vote_response(2, 1, false);
    assert_eq!(asks(&mut solo, 1), (false, VoterMemory::Asking));
    solo.vote_response(3, 1, false);
    assert_eq!(asks(&mut solo, 1), (true, VoterMemory::Lost));
    // On its disk now: what it votes from here on it remembers.
    let mut restarted = Solo::new(1, 3, state(1, None, Some(2), false), &[]);
    assert_eq!(asks(&mut restarted, 2), (true, VoterMemory::Lost));
}

#[test]
fn a_candidate_asks_again_whoever_asks_others_first() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 3, true);
    solo.vote_response_of(2, 4, false, VoterMemory::Asking);
    assert_eq!(solo.raft.role(), RoleName::Candidate);
    solo.after_ms(20 * ASKING_BACKOFFS).step(Event::Tick);
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2]);
}

#[test]
fn a_first_leader_needs_all_votes_and_a_log_that_goes_on_a_majority() {
    let mut solo = lost(0, &[]);
    solo.tick_until(RoleName::Prospective);
    for (from, epoch, role) in [
        (2, 0, RoleName::Prospective),
        (3, 0, RoleName::Candidate),
        (2, 1, RoleName::Candidate),
        (3, 1, RoleName::Leader),
    ] {
        solo.vote_response_of(from, epoch, true, VoterMemory::Lost);
        assert_eq!(solo.raft.role(), role, "{from} in epoch {epoch}");
    }
    assert_eq!(solo.persisted, Some(state(1, Some(1), Some(1), false)), "nothing is on its disk yet");
    let mut whole = Solo::voter(1, 3, &[(3, 10)]);
    whole.tick_until(RoleName::Prospective);
    whole.vote_response_of(2, 3, true, VoterMemory::Lost);
    assert_eq!(whole.raft.role(), RoleName::Prospective, "2 may have forgotten a longer log");
    whole.vote_response_of(3, 3, true, VoterMemory::Lost);
    assert_eq!(whole.raft.role(), RoleName::Candidate, "but all logs together hold no more");
}

#[test]
fn voters_that_say_nothing_of_their_memory_count_as_they_did() {
    for (first_leader, epochs, role) in [
        (FirstLeader::All, &[][..], RoleName::Prospective),
        (FirstLeader::Majority, &[][..], RoleName::Candidate),
        (FirstLeader::All, &[(3, 10)][..], RoleName::Candidate),
    ] {
        let mut solo = Solo::voter(1, 3, epochs);
        solo.raft.config.first_leader = first_leader;
        solo.tick_until(RoleName::Prospective);
        let epoch = solo.raft.epoch().0;
        solo.vote_response_of(2, epoch, true, VoterMemory::Unsaid);
        assert_eq!(solo.raft.role(), role, "{first_leader} {epochs:?}");
    }
}

#[test]
fn who_waits_for_all_voters_names_them_and_the_key_now_and_then() {
    let mut solo = lost(0, &[]);
    solo.tick_until(RoleName::Prospective);
    let mut lines = 0;
    while solo.now.monotonic_ns < 30_000 * NS_PER_MS {
        solo.vote_response_of(2, 0, true, VoterMemory::Lost);
        solo.tick_at_deadline();
        let waits =
            |note: &&String| note.contains("missing: 3") && note.contains("kraft.first.leader=majority");
        lines += solo.notes.iter().filter(waits).count();
    }
    assert!((2..=3).contains(&lines), "{lines} lines in half a minute");
}

#[test]
fn an_empty_voter_has_forgotten_nothing_beside_the_first_leader_that_it_elected() {
    let mut solo = lost(0, &[]);
    assert_eq!(solo.vote_request(2, 1, at(0, 0), false).memory, VoterMemory::Lost);
    solo.follow(2, 1);
    assert_eq!(solo.persisted, Some(state(1, Some(2), Some(2), false)), "its log is still empty");
    assert_eq!(solo.vote_request(3, 2, at(1, 1), false).memory, VoterMemory::Whole);
    // One that voted for a log with records does not have them yet.
    let mut solo = lost(0, &[]);
    assert_eq!(solo.vote_request(2, 1, at(0, 5), false).memory, VoterMemory::Lost);
    solo.follow(2, 1);
    assert_eq!(solo.vote_request(3, 2, at(1, 6), false).memory, VoterMemory::Lost);
}

#[test]
fn an_observer_neither_votes_nor_stands() {
    let mut solo = Solo::voter(4, 3, &[]);
    assert!(!solo.vote_request(2, 1, at(0, 0), false).granted);
    for _ in 0..50 {
        solo.tick_at_deadline();
        assert!(solo.sent().iter().all(|(_, request)| matches!(request, Request::Fetch(_))));
        for to in 1..=3 {
            solo.step(Event::RequestFailed { to: NodeId(to), kind: RequestKind::Fetch });
        }
    }
    assert_eq!(solo.raft.role(), RoleName::Observer);
}

#[test]
fn epochs_that_are_used_up_stop_no_process() {
    let mut solo = Solo::new(1, 3, state(i32::MAX - 1, None, None, true), &[]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, i32::MAX - 1, true);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, i32::MAX, true);
    assert!(!solo.raft.is_leader());
    let request_id = RequestId(1);
    let request =
        crate::raft::BeginQuorumEpochRequest { voter: None, leader: NodeId(2), epoch: Epoch(i32::MAX) };
    solo.step(Event::Request { request_id, request: Request::BeginQuorumEpoch(request) });
}

fn vote_answer(solo: &mut Solo, error: ErrorCode) {
    let memory = VoterMemory::Whole;
    let response =
        VoteResponse { error, leader: None, epoch: solo.raft.epoch(), granted: false, memory, start: None };
    solo.step(Event::Response { from: NodeId(2), response: Response::Vote(response) });
}

#[test]
fn only_a_pre_vote_can_be_unknown_to_a_peer() {
    let mut solo = Solo::voter(1, 3, &[]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 0, true);
    vote_answer(&mut solo, ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(solo.raft.role(), RoleName::Candidate, "that is no vote");
}

#[test]
fn a_vote_answered_with_an_error_is_asked_for_again() {
    let mut solo = Solo::voter(1, 3, &[]);
    solo.tick_until(RoleName::Prospective);
    vote_answer(&mut solo, ErrorCode::UNKNOWN_SERVER_ERROR);
    assert_eq!(solo.sent().len(), 0);
    solo.after_ms(20).step(Event::Tick);
    assert_eq!(solo.sent().iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2]);
}

#[test]
fn an_election_that_nobody_answers_is_followed_by_the_next_at_once() {
    let mut solo = Solo::voter(1, 3, &[(3, 10)]);
    solo.tick_until(RoleName::Prospective);
    assert_eq!(solo.sent().len(), 2);
    // All asked, none answers: the next deadline is that of the election.
    solo.tick_at_deadline();
    assert_eq!((solo.raft.role(), solo.sent().len()), (RoleName::Prospective, 2));
}

#[test]
fn who_led_this_epoch_before_its_restart_does_not_follow_itself_when_denied() {
    let mut solo = Solo::new(1, 3, state(5, Some(1), Some(1), true), &[(5, 10)]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 5, false);
    solo.vote_response(3, 5, false);
    assert_eq!((solo.raft.role(), solo.raft.epoch()), (RoleName::Resigned, Epoch(5)));
    let denied = solo.now;
    solo.tick_until(RoleName::Prospective);
    assert!(solo.now.monotonic_ns >= denied.plus_ms(1000), "it stands again after an election timeout");
}

#[test]
fn a_candidate_with_another_disk_is_another_candidate() {
    let with_disk = |directory| ReplicaKey { id: NodeId(2), directory_id: Uuid(directory) };
    let mut solo = Solo::voter(1, 3, &[]);
    let mut ask = |candidate| {
        let (voter, epoch, last) = (None, Epoch(4), at(0, 0));
        let (pre_vote, counts_memory) = (false, true);
        solo.request(Request::Vote(VoteRequest { voter, epoch, candidate, last, pre_vote, counts_memory }));
        solo.reply_to_vote().granted
    };
    assert!(ask(with_disk(7)));
    assert!(ask(with_disk(7)), "asked again");
    assert!(!ask(with_disk(8)), "its disk was changed: it may stand with another log");
    assert!(!ask(with_disk(0)), "it does not say with which disk");
}

#[test]
fn the_id_0_is_a_voter_as_any_other() {
    let state = state(3, None, None, true);
    let mut solo = Solo::with(key(1), vec![key(0), key(1), key(2)], state, at(0, 0), &[(3, 10)]);
    assert!(solo.vote_request(0, 4, at(3, 10), false).granted);
    solo.follow(0, 4);
    assert_eq!(solo.raft.leader(), Some(NodeId(0)));
}

#[test]
fn a_leader_on_the_disk_that_is_no_voter_is_looked_for_elsewhere() {
    let solo = Solo::new(1, 3, state(5, Some(9), None, true), &[(5, 10)]);
    assert_eq!(solo.raft.role(), RoleName::Unattached);
}

#[test]
fn the_last_epoch_is_not_stood_in() {
    let mut solo = Solo::new(1, 1, state(i32::MAX, None, None, true), &[(3, 10)]);
    solo.step(Event::Tick);
    assert_eq!((solo.raft.is_leader(), solo.raft.epoch()), (false, Epoch(i32::MAX)));
    assert!(solo.notes.iter().any(|note| note.contains("used up")), "{:?}", solo.notes);
}

#[test]
fn no_vote_in_an_epoch_that_has_its_leader() {
    let mut solo = Solo::follower(5, &[(4, 10)]);
    solo.tick_until(RoleName::Prospective);
    assert!(!solo.vote_request(3, 5, at(4, 99), false).granted, "2 was elected in it");
    assert!(
        solo.vote_request(3, 5, at(4, 99), true).granted,
        "but it is silent: another may try the next one"
    );
}

#[test]
fn a_leader_whose_first_records_were_lost_before_it_had_caught_up_is_elected_by_all_or_nobody() {
    let mut solo = Solo::new(1, 3, state(5, Some(1), Some(1), false), &[(4, 10)]);
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(2, 5, true);
    assert_eq!(solo.raft.role(), RoleName::Prospective, "its own vote counts with reserve");
    solo.vote_response(3, 5, false);
    assert_eq!(solo.raft.role(), RoleName::Resigned);
}

/// The jitter only keeps followers apart: the leader has been silent for a whole fetch timeout by then.
#[test]
fn who_has_heard_nothing_for_a_fetch_timeout_helps_the_first_that_asks_and_leaves_it_the_time() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[]);
    solo.after_ms(1999);
    assert!(!solo.vote_request(3, 5, at(3, 10), true).granted, "it follows 2");
    solo.after_ms(1);
    assert!(solo.vote_request(3, 5, at(3, 10), true).granted);
    solo.after_ms(200).step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Follower, "3 has the time of an election");
    assert!(solo.vote_request(3, 6, at(3, 10), false).granted, "its word needs no confirmation any more");
}

#[test]
fn pre_votes_that_never_come_to_an_election_do_not_keep_a_follower_from_standing() {
    let mut solo = Solo::follower(5, &[(3, 10)]);
    solo.fetched(None, &[]);
    solo.after_ms(2000);
    let silent = solo.now;
    while solo.raft.role() == RoleName::Follower {
        solo.vote_request(3, 5, at(3, 10), true);
        solo.after_ms(20).step(Event::Tick);
    }
    assert!(solo.now.monotonic_ns <= silent.plus_ms(200 + 500 + 20), "{:?}", solo.now);
}

#[test]
fn of_two_that_ask_for_pre_votes_the_longer_log_and_then_the_lower_id_goes_first() {
    for (local, other, other_end, goes_first) in
        [(1, 3, 10, true), (3, 1, 10, false), (1, 3, 11, false), (3, 1, 11, false)]
    {
        let mut solo = Solo::voter(local, 3, &[(3, 10)]);
        solo.tick_until(RoleName::Prospective);
        assert!(solo.vote_request(other, 3, at(3, other_end), true).granted);
        solo.vote_response(other, 3, true);
        let now = solo.raft.role();
        let expected = if goes_first { RoleName::Candidate } else { RoleName::Prospective };
        assert_eq!(now, expected, "{local} beside {other}, whose log ends at {other_end}");
        let asked = solo.now;
        solo.tick_until(RoleName::Candidate);
        assert!(solo.now.monotonic_ns <= asked.plus_ms(500), "the other one has not stood");
    }
}

/// It cannot win, or is a stranger in its name: else nobody would ever stand.
#[test]
fn who_asks_for_pre_votes_without_end_goes_first_for_a_while_only() {
    let mut solo = Solo::voter(1, 3, &[(1, 3)]);
    solo.tick_until(RoleName::Prospective);
    let began_ns = solo.now.monotonic_ns;
    while solo.raft.role() == RoleName::Prospective {
        assert!(solo.vote_request(3, 1, at(1, 9), true).granted, "its log is longer");
        solo.vote_response(2, 1, true);
        solo.after_ms(10).step(Event::Tick);
        assert!(solo.now.monotonic_ns < began_ns + 3_000 * NS_PER_MS, "it never stands");
    }
    assert_eq!((solo.raft.role(), solo.raft.epoch()), (RoleName::Candidate, Epoch(2)));
    assert!(solo.now.monotonic_ns > began_ns + 1_000 * NS_PER_MS, "it leaves the other one its time");
}
