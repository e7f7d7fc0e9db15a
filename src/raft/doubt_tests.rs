use super::super::solo::{Solo, key, span};
use super::*;
use crate::raft::event::{Event, Request, Response, VoteRequest};
use crate::raft::{Effect, RoleName, VoterMemory};

/// Node 1 of three, in doubt of a log that ends at 10 in epoch 3; it may know the leader of epoch 5.
fn doubtful(leader: Option<i32>) -> Solo {
    let state = QuorumState {
        epoch: Epoch(5),
        leader: leader.map(NodeId),
        voted: None,
        caught_up: true,
        in_doubt: true,
    };
    Solo::new(1, 3, state, &[(3, 10)])
}

fn is_granted(solo: &mut Solo, epoch: i32, last: (i32, i64), pre_vote: bool) -> bool {
    let last = OffsetAndEpoch { epoch: Epoch(last.0), offset: Offset(last.1) };
    let (voter, candidate) = (Some(key(1)), key(3));
    let request = VoteRequest { voter, epoch: Epoch(epoch), candidate, last, pre_vote, counts_memory: true };
    let replies = solo.request(Request::Vote(request)).iter();
    let granted = replies.filter_map(|effect| match effect {
        Effect::Reply { response: Response::Vote(vote), .. } => Some(vote.granted),
        _ => None,
    });
    let granted: Vec<bool> = granted.collect();
    assert_eq!(granted.len(), 1);
    granted[0]
}

#[test]
fn who_is_in_doubt_votes_for_nobody() {
    // Not for an empty log, one as long as what is left, nor a longer one: it may have lost more than that.
    for last in [(0, 0), (3, 10), (3, 11), (4, 400)] {
        for pre_vote in [true, false] {
            let mut solo = doubtful(None);
            assert!(!is_granted(&mut solo, 6, last, pre_vote), "{last:?}, a pre-vote: {pre_vote}");
            let why = "records that I acknowledged may be missing";
            let says = solo.notes.iter().any(|note| note.contains(why));
            assert!(says || last < (3, 10), "{:?}", solo.notes);
        }
    }
}

#[test]
fn who_is_in_doubt_does_not_stand() {
    let mut solo = doubtful(None);
    for _ in 0..20 {
        solo.tick_at_deadline();
        assert_eq!(solo.raft.role(), RoleName::Unattached);
    }
    let only = QuorumState { epoch: Epoch(5), leader: None, voted: None, caught_up: true, in_doubt: true };
    let mut solo = Solo::new(1, 1, only, &[(3, 10)]);
    solo.tick_at_deadline();
    assert_eq!(solo.raft.role(), RoleName::Unattached, "nor as the only voter");
}

#[test]
fn doubt_ends_when_all_that_is_committed_is_on_the_disk_again() {
    let mut solo = doubtful(Some(2));
    assert!(solo.raft.doubt().is_some_and(|doubt| doubt.contains("votes for nobody")));
    solo.step(Event::Tick);
    assert_eq!(solo.sent_fetch().and_then(|fetch| fetch.high_watermark), None, "it wants to hear of it");
    solo.fetched(None, &[span(10, 14, 4), span(15, 15, 5)]);
    solo.fetched(Some(16), &[]);
    assert_eq!(solo.persisted, None, "not on the disk yet");
    solo.flush();
    solo.fetched(Some(16), &[]);
    assert_eq!(solo.persisted.map(|state| (state.in_doubt, state.caught_up)), Some((false, true)));
    assert_eq!(solo.raft.doubt(), None);
}

/// Two of three are in doubt: whoever runs them has decided that what nobody has any more is lost.
#[test]
fn by_decision_a_log_in_doubt_leads_with_the_votes_of_all_or_not_at_all() {
    let mut solo = doubtful(None);
    solo.raft.config.log_doubt = LogDoubt::Vote;
    solo.tick_until(RoleName::Prospective);
    solo.vote_response(3, 5, true);
    assert_eq!(solo.raft.role(), RoleName::Prospective, "its own vote has a reserve");
    solo.vote_response_of(2, 5, true, VoterMemory::Lost);
    assert_eq!(solo.raft.role(), RoleName::Candidate);
    solo.vote_response(3, 6, true);
    solo.vote_response_of(2, 6, true, VoterMemory::Lost);
    assert!(
        solo.raft.is_leader() && solo.raft.quorum_state().in_doubt,
        "nothing of its epoch is committed yet"
    );
    solo.flush();
    solo.fetch(2, 6, 11, 6);
    assert!(!solo.raft.quorum_state().in_doubt);
}

#[test]
fn by_decision_a_voter_in_doubt_helps_with_a_reserve_but_no_empty_or_shorter_log() {
    for (last, granted) in [((0, 0), false), ((3, 9), false), ((3, 10), true), ((4, 400), true)] {
        let mut solo = doubtful(None);
        solo.raft.config.log_doubt = LogDoubt::Vote;
        let answer = solo.vote_request(3, 6, crate::raft::solo::at(last.0, last.1), false);
        assert_eq!((answer.granted, answer.memory), (granted, VoterMemory::Lost), "{last:?}");
    }
    // Kafka's voters know nothing of a reserve.
    let mut solo = doubtful(None);
    solo.raft.config.log_doubt = LogDoubt::Vote;
    let (epoch, candidate, pre_vote) = (Epoch(6), key(3), false);
    let last = crate::raft::solo::at(3, 10);
    let (voter, counts_memory) = (None, false);
    solo.request(Request::Vote(VoteRequest { voter, epoch, candidate, last, pre_vote, counts_memory }));
    assert!(!solo.reply_to_vote().granted);
}

#[test]
fn who_waits_in_doubt_says_for_what_and_where_the_way_out_is() {
    let mut solo = doubtful(None);
    while solo.now.monotonic_ns < 2000 * NS_PER_MS && solo.notes.is_empty() {
        solo.tick_at_deadline();
    }
    let says = solo
        .notes
        .iter()
        .any(|note| note.contains("wait for a leader") && note.contains("starts-and-ends.md"));
    assert!(says, "{:?}", solo.notes);
}
