use super::*;
use crate::raft::solo::{Solo, at, key, span};
use crate::raft::*;

/// The last epoch that a request could bring about before no epoch is left.
const LAST: i32 = i32::MAX - 1;

fn begin(leader: i32, epoch: i32) -> Request {
    let (leader, epoch) = (NodeId(leader), Epoch(epoch));
    Request::BeginQuorumEpoch(BeginQuorumEpochRequest { voter: None, leader, epoch })
}

fn end(leader: i32, epoch: i32) -> Request {
    let preferred_candidates = vec![key(1)];
    let (leader, epoch) = (NodeId(leader), Epoch(epoch));
    Request::EndQuorumEpoch(EndQuorumEpochRequest { leader, epoch, preferred_candidates })
}

fn vote(candidate: i32, epoch: i32, pre_vote: bool) -> Request {
    let (candidate, epoch) = (key(candidate), Epoch(epoch));
    let (last, counts_memory) = (at(1, 100), true);
    Request::Vote(VoteRequest { voter: None, epoch, candidate, last, pre_vote, counts_memory })
}

/// Everything that names a later epoch without being asked.
fn stories(epoch: i32) -> Vec<Request> {
    vec![vote(3, epoch, false), vote(3, epoch, true), begin(3, epoch), end(3, epoch)]
}

fn told(from: i32, error: ErrorCode, leader: Option<i32>, epoch: i32) -> Event {
    let response = LeaderResponse { error, leader: leader.map(NodeId), epoch: Epoch(epoch) };
    Event::Response { from: NodeId(from), response: Response::AskEpoch(response) }
}

fn asked(solo: &Solo) -> Vec<i32> {
    solo.asked()
}

/// Whom a leader has answered lately.
fn living_follower() -> Solo {
    let mut solo = Solo::follower(1, &[(1, 3)]);
    solo.fetched(Some(3), &[]);
    solo
}

fn role_and_epoch(solo: &Solo) -> (RoleName, i32, Option<i32>) {
    (solo.raft.role(), solo.raft.epoch().0, solo.raft.leader().map(|id| id.0))
}

#[test]
fn no_request_alone_moves_a_leader_or_who_hears_from_one() {
    for epoch in [2, 3, 1000, LAST] {
        for story in stories(epoch) {
            for mut solo in [Solo::leader(3, &[]), living_follower()] {
                let before = role_and_epoch(&solo);
                if epoch == before.1 {
                    continue;
                }
                solo.request(story.clone());
                assert_eq!(role_and_epoch(&solo), before, "{story:?}");
                assert_eq!(solo.persisted, None, "{story:?}");
                let expected: &[i32] = if epoch == LAST { &[] } else { &[3] };
                assert_eq!(asked(&solo), expected, "{story:?}");
            }
        }
    }
}

#[test]
fn who_has_no_leader_takes_a_near_epoch_over_and_asks_about_a_far_one() {
    for (epoch, is_believed) in [(2, true), (17, true), (18, false), (EPOCHS_AHEAD_MAX, false)] {
        for story in stories(epoch) {
            let mut solo = Solo::voter(1, 3, &[(1, 3)]);
            solo.request(story.clone());
            assert_eq!(solo.raft.epoch().0, if is_believed { epoch } else { 1 }, "{story:?}");
            let names_leader = matches!(story, Request::BeginQuorumEpoch(_));
            let expected: &[i32] = if is_believed && !names_leader { &[] } else { &[3] };
            assert_eq!(asked(&solo), expected, "{story:?}");
            assert_eq!(solo.raft.quorum_state().leader, None, "{story:?}");
        }
    }
}

/// It elects nobody, so it need not hurry; and in an epoch that the quorum is not in it would find no leader any more.
#[test]
fn an_observer_takes_no_epoch_over_and_asks() {
    for epoch in [2, 17, 1000] {
        for story in stories(epoch) {
            let mut solo = Solo::voter(4, 3, &[(1, 3)]);
            assert_eq!(solo.raft.role(), RoleName::Observer);
            solo.request(story.clone());
            assert_eq!((solo.raft.epoch().0, asked(&solo)), (1, vec![3]), "{story:?}");
            solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(3), epoch));
            assert_eq!(solo.raft.epoch().0, epoch);
        }
    }
    let mut solo = Solo::voter(4, 3, &[(1, 3)]);
    solo.request(begin(2, 1));
    assert_eq!((solo.raft.leader(), asked(&solo)), (None, vec![2]), "nor a leader of its own epoch");
    solo.step(told(2, ErrorCode::FENCED_LEADER_EPOCH, Some(3), 1));
    assert_eq!((solo.raft.leader(), asked(&solo)), (None, vec![3]), "2 may have believed a stranger");
    solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(3), 1));
    assert_eq!(solo.raft.leader(), Some(NodeId(3)));
}

/// Nobody leads, and a request says that 2 does.
#[test]
fn who_does_not_say_so_itself_is_not_followed_and_the_election_goes_on() {
    let refusals =
        [ErrorCode::FENCED_LEADER_EPOCH, ErrorCode::NOT_LEADER_OR_FOLLOWER, ErrorCode::UNKNOWN_LEADER_EPOCH];
    for (epoch, is_near) in [(1, true), (2, true), (1000, false)] {
        for refusal in refusals.map(Some).into_iter().chain([None]) {
            let mut solo = Solo::voter(1, 3, &[(1, 3)]);
            let deadline = 2 * 1000 * NS_PER_MS;
            while solo.raft.role() == RoleName::Unattached {
                solo.request(begin(2, epoch));
                if !asked(&solo).is_empty() {
                    match refusal {
                        Some(error) => solo.step(told(2, error, None, solo.raft.epoch().0)),
                        None => {
                            solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::AskEpoch })
                        }
                    };
                }
                solo.after_ms(10).step(Event::Tick);
                assert!(solo.now.monotonic_ns <= deadline + 10 * NS_PER_MS, "it is kept from standing");
            }
            // Nor do they end the pre-votes.
            solo.request(begin(2, epoch));
            let epoch = if is_near { epoch } else { 1 };
            assert_eq!(role_and_epoch(&solo), (RoleName::Prospective, epoch, None), "{refusal:?}");
            solo.vote_response(3, epoch, true);
            assert_eq!(solo.raft.role(), RoleName::Candidate);
        }
    }
}

#[test]
fn a_third_voter_that_names_a_leader_makes_us_ask_that_one() {
    let mut solo = Solo::voter(1, 3, &[(1, 3)]);
    for epoch in [1, 7] {
        solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(2), epoch));
        assert_eq!(role_and_epoch(&solo), (RoleName::Unattached, epoch, None));
        assert_eq!(asked(&solo), [2], "at once also in the epoch that came with it");
    }
    solo.step(told(2, ErrorCode::FENCED_LEADER_EPOCH, Some(2), 7));
    assert_eq!(role_and_epoch(&solo), (RoleName::Follower, 7, Some(2)));
    assert!(solo.sent_fetch().is_some());
}

/// They have believed a stranger, who spoke in our name. With their votes we are elected; without them perhaps nobody.
#[test]
fn voters_that_say_that_we_lead_are_heard_all_the_same() {
    let mut solo = Solo::voter(1, 3, &[(1, 3)]);
    solo.tick_until(RoleName::Prospective);
    let (error, leader) = (ErrorCode::NONE, Some(NodeId(1)));
    let answer = |solo: &mut Solo| {
        let (epoch, granted, memory) = (solo.raft.epoch(), true, VoterMemory::Whole);
        let response = VoteResponse { error, leader, epoch, granted, memory, start: None };
        solo.step(Event::Response { from: NodeId(2), response: Response::Vote(response) });
        assert!(!solo.has_dropped(2), "it would not be heard of any more");
    };
    answer(&mut solo);
    assert_eq!(solo.raft.role(), RoleName::Candidate);
    answer(&mut solo);
    assert_eq!(solo.raft.role(), RoleName::Leader);
}

#[test]
fn pre_votes_against_a_leader_end_when_it_has_answered_not_when_somebody_speaks_for_it() {
    let mut solo = living_follower();
    solo.tick_until(RoleName::Prospective);
    for request in [begin(2, 1), end(2, 1)] {
        solo.request(request);
        assert_eq!(solo.raft.role(), RoleName::Prospective);
    }
    solo.after_ms(20).request(begin(2, 1));
    assert_eq!(asked(&solo), [2]);
    solo.step(told(2, ErrorCode::FENCED_LEADER_EPOCH, Some(2), 1));
    assert_eq!(role_and_epoch(&solo), (RoleName::Follower, 1, Some(2)));
}

#[test]
fn an_end_that_is_said_again_and_again_does_not_keep_us_from_standing() {
    let mut solo = living_follower();
    solo.leader_leaves();
    for _ in 0..150 {
        solo.after_ms(10).step(Event::Tick);
        // Another one is to stand first.
        let (leader, epoch, preferred_candidates) = (NodeId(2), Epoch(1), vec![key(3)]);
        solo.request(Request::EndQuorumEpoch(EndQuorumEpochRequest { leader, epoch, preferred_candidates }));
        if solo.raft.role() == RoleName::Prospective {
            return;
        }
    }
    panic!("still {:?}", solo.raft.role());
}

#[test]
fn the_last_epochs_are_refused_without_a_question_and_without_closing_our_own_connections() {
    for epoch in [EPOCHS_AHEAD_MAX + 2, LAST, i32::MAX] {
        for story in stories(epoch) {
            let mut solo = Solo::voter(1, 3, &[(1, 3)]);
            solo.request(story.clone());
            assert_eq!(solo.raft.epoch(), Epoch(1), "{story:?}");
            assert!(asked(&solo).is_empty() && !solo.has_dropped(3), "{story:?}");
        }
    }
}

#[test]
fn small_steps_are_believed_only_as_fast_as_voters_can_take_them() {
    let mut solo = Solo::voter(1, 3, &[(1, 3)]);
    for epoch in 2..1000 {
        solo.request(vote(3, epoch, true));
    }
    assert_eq!(solo.raft.epoch().0, 1 + UNCONFIRMED_EPOCHS_MAX as i32);
    // Three voters: three epochs in an election timeout.
    for epoch in 18..1000 {
        solo.after_ms(1);
        solo.request(vote(3, solo.raft.epoch().0 + 1, true));
        assert!(solo.raft.epoch().0 <= 17 + (epoch - 17) / 333 + 1);
    }
    assert!(solo.raft.epoch().0 > 17, "honest steps go on");
}

#[test]
fn the_answer_of_the_voter_itself_moves_us_however_far() {
    for epoch in [2, 1000, 31_000_000] {
        let mut solo = living_follower();
        solo.request(begin(3, epoch));
        assert_eq!(asked(&solo), [3]);
        solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(3), epoch));
        assert_eq!(
            role_and_epoch(&solo),
            (RoleName::Follower, epoch, Some(3)),
            "a year behind, and there again"
        );

        let mut solo = Solo::leader(3, &[]);
        solo.request(vote(3, epoch + 1, false));
        solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, None, epoch + 1));
        assert_eq!(role_and_epoch(&solo), (RoleName::Unattached, epoch + 1, None));
        solo.request(vote(3, epoch + 1, false));
        assert!(solo.reply_to_vote().granted, "its next Vote is judged by its log");
    }
}

#[test]
fn who_knows_nothing_of_what_was_said_in_its_name_moves_nothing() {
    let mut solo = Solo::leader(3, &[]);
    let before = role_and_epoch(&solo);
    solo.request(vote(3, LAST, false));
    solo.step(told(3, ErrorCode::NOT_LEADER_OR_FOLLOWER, Some(1), before.1));
    assert_eq!(role_and_epoch(&solo), before);
}

#[test]
fn a_voter_whose_epoch_is_damaged_is_named_and_not_believed() {
    for mut solo in [Solo::leader(3, &[]), living_follower(), Solo::voter(1, 3, &[(1, 3)])] {
        let epoch = solo.raft.epoch();
        solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, None, LAST));
        assert_eq!(solo.raft.epoch(), epoch);
        let why = solo.effects.iter().find_map(|effect| match effect {
            Effect::DropPeer { node: NodeId(3), why } => Some(why.clone()),
            _ => None,
        });
        assert!(why.expect("it is dropped").contains("its quorum-state is damaged or forged"));
    }
}

#[test]
fn a_voter_is_asked_once_in_a_retry_backoff_and_strangers_never() {
    let mut solo = living_follower();
    for _ in 0..100 {
        solo.request(begin(3, 1000));
    }
    assert!(asked(&solo).is_empty());
    solo.after_ms(20);
    solo.request(begin(3, 1000));
    assert_eq!(asked(&solo), [3]);
    solo.request(begin(7, 1000));
    assert!(asked(&solo).is_empty());
}

#[test]
fn the_question_says_nothing_that_a_leader_could_count() {
    let mut solo = living_follower();
    solo.request(begin(3, 9));
    let question = solo.sent().into_iter().find_map(|(_, request)| match request {
        Request::AskEpoch(question) => Some(question.clone()),
        _ => None,
    });
    let question = question.expect("asked");
    assert!(question.epoch < solo.raft.epoch(), "a leader of our epoch refuses it");
    assert_eq!((question.fetch_offset, question.max_wait_ms), (Offset(0), 0));
}

#[test]
fn a_leader_that_lives_is_not_ended_by_a_request() {
    let mut solo = living_follower();
    solo.request(end(2, 1));
    for _ in 0..20 {
        solo.after_ms(100);
        solo.fetched(Some(3), &[]);
        solo.step(Event::Tick);
        assert_eq!(role_and_epoch(&solo), (RoleName::Follower, 1, Some(2)));
    }
    assert!(!solo.vote_request(3, 1, at(1, 3), true).granted, "nor are others helped to stand");
}

#[test]
fn a_leader_has_resigned_when_it_says_so_and_refuses_or_is_gone() {
    for leaves_first in [true, false] {
        let mut solo = living_follower();
        if leaves_first {
            solo.leader_leaves();
            solo.request(end(2, 1));
        } else {
            solo.request(end(2, 1));
            solo.leader_leaves();
        }
        solo.step(Event::Tick);
        assert_eq!(solo.raft.role(), RoleName::Prospective, "leaves first: {leaves_first}");
    }
    let mut solo = living_follower();
    solo.request(end(2, 1));
    assert_eq!(asked(&solo), [2]);
    // One of Kafka's names itself in its epoch also after it has resigned, so that proves nothing.
    solo.step(told(2, ErrorCode::FENCED_LEADER_EPOCH, Some(2), 1));
    solo.step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Follower);
    solo.step(told(2, ErrorCode::FENCED_LEADER_EPOCH, None, 1));
    solo.step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Prospective, "its own answer");
    let mut solo = living_follower();
    solo.request(end(2, 1));
    solo.step(Event::Refused { by: NodeId(3) });
    solo.step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Follower, "that was another one");
    solo.step(Event::Refused { by: NodeId(2) });
    solo.step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Prospective, "nobody listens there");
}

/// Who opens more connections in our name than we have places with the leader breaks ours.
#[test]
fn a_connection_that_breaks_does_not_confirm_that_the_leader_has_resigned() {
    // The second has not had its first answer yet.
    for mut solo in [living_follower(), Solo::follower(1, &[(1, 3)])] {
        for _ in 0..20 {
            solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
            solo.request(end(2, 1));
            solo.step(Event::RequestFailed { to: NodeId(2), kind: RequestKind::Fetch });
            solo.after_ms(50).step(Event::Tick);
            assert_eq!(role_and_epoch(&solo), (RoleName::Follower, 1, Some(2)));
        }
        solo.fetched(Some(3), &[]);
        assert!(!solo.vote_request(3, 1, at(1, 3), true).granted, "nor are others helped to stand");
    }
}

#[test]
fn what_was_said_of_the_leader_long_ago_is_forgotten() {
    let mut solo = living_follower();
    solo.request(end(2, 1));
    for _ in 0..21 {
        solo.after_ms(100);
        solo.fetched(Some(3), &[span(solo.raft.log_end().0.0, solo.raft.log_end().0.0, 1)]);
        solo.flush();
    }
    solo.leader_leaves();
    solo.step(Event::Tick);
    assert_eq!(solo.raft.role(), RoleName::Follower);
}

/// Node 1 led epoch 2 and was restarted; the others know only that 3 was elected in it.
fn led_the_same_epoch() -> Solo {
    let state = QuorumState {
        epoch: Epoch(2),
        leader: Some(NodeId(1)),
        voted: Some(key(1)),
        caught_up: true,
        in_doubt: false,
    };
    Solo::new(1, 3, state, &[(1, 3), (2, 60)])
}

fn stops(solo: &Solo) -> Vec<&str> {
    let why = |effect: &'_ Effect| matches!(effect, Effect::Stop { .. });
    let stops = solo.effects.iter().filter(|effect| why(effect));
    stops.map(|effect| if let Effect::Stop { why } = effect { why.as_str() } else { "" }).collect()
}

#[test]
fn who_led_an_epoch_in_which_another_was_elected_stops_on_that_ones_word() {
    let mut solo = led_the_same_epoch();
    solo.request(begin(3, 2));
    assert_eq!((asked(&solo), stops(&solo).len()), (vec![3], 0), "a request may pretend: it is asked");
    solo.after_ms(20).step(told(2, ErrorCode::FENCED_LEADER_EPOCH, Some(3), 2));
    assert_eq!(
        (asked(&solo), stops(&solo).len()),
        (vec![3], 0),
        "another voter may be the one that is wrong"
    );
    assert!(!solo.has_dropped(2), "who says so is connected to again and again");
    solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(3), 2));
    let [why] = stops(&solo)[..] else { panic!("{:?}", solo.effects) };
    for part in
        ["node 1 was elected in epoch 2", "node 3 says", "My log ends at 60", "a volume that was not mounted"]
    {
        assert!(why.contains(part), "{why}");
    }
    assert_eq!(solo.raft.log_end().0, Offset(60));
}

#[test]
fn a_follower_whose_log_has_records_of_the_epochs_other_leader_stops_too() {
    // Of 2, in epoch 5; that one is not heard any more.
    let mut solo = Solo::follower(5, &[(3, 10), (5, 12)]);
    solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(3), 5));
    assert_eq!(stops(&solo).len(), 1);
}

#[test]
fn nobody_stops_in_a_quorum_that_works_or_for_a_leader_that_he_knows_by_hearsay() {
    let mut follower = Solo::follower(5, &[(3, 10), (5, 12)]);
    follower.fetched(None, &[]);
    let hearsay = Solo::follower(5, &[(3, 10)]);
    for mut solo in [Solo::leader(3, &[]), follower, hearsay] {
        let epoch = solo.raft.epoch().0;
        solo.step(told(3, ErrorCode::FENCED_LEADER_EPOCH, Some(3), epoch));
        assert!(stops(&solo).is_empty() && !solo.notes.is_empty(), "{:?}", solo.effects);
    }
}

#[test]
fn pre_votes_that_meet_a_second_leader_are_not_asked_for_every_20_ms() {
    let mut solo = led_the_same_epoch();
    let (mut pre_votes, start_ns) = (0, solo.now.monotonic_ns);
    // Only 2 answers; what it says of 3 is hearsay.
    while solo.now.monotonic_ns < start_ns + 20_000 * NS_PER_MS {
        solo.tick_at_deadline();
        let sent: Vec<(i32, Request)> = solo.sent().into_iter().map(|(to, r)| (to, r.clone())).collect();
        for (to, request) in sent.into_iter().filter(|(to, _)| *to == 2) {
            let (error, leader, epoch) = (ErrorCode::NONE, Some(NodeId(3)), Epoch(2));
            if matches!(request, Request::Vote(_)) {
                pre_votes += 1;
                let memory = VoterMemory::Whole;
                let response = VoteResponse { error, leader, epoch, granted: false, memory, start: None };
                solo.step(Event::Response { from: NodeId(to), response: Response::Vote(response) });
            }
        }
    }
    assert!((2..=20).contains(&pre_votes), "{pre_votes} in 20 s");
}
