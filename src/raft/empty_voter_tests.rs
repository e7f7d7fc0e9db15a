use super::super::solo::{Solo, key};
use super::*;
use crate::raft::event::{BeginQuorumEpochRequest, Event, Request, Response};
use crate::raft::{RoleName, VoteResponse};

/// Node 1 of this many, whose disk was emptied; it may know a leader of epoch 5.
fn emptied(voters: i32, leader: Option<i32>) -> Solo {
    let state = QuorumState {
        epoch: Epoch(5),
        leader: leader.map(NodeId),
        voted: None,
        caught_up: false,
        in_doubt: false,
    };
    Solo::new(1, voters, state, &[])
}

fn begin(solo: &mut Solo, leader: i32, epoch: i32) {
    let (leader, epoch) = (NodeId(leader), Epoch(epoch));
    solo.request(Request::BeginQuorumEpoch(BeginQuorumEpochRequest { voter: Some(key(1)), leader, epoch }));
}

fn answer(solo: &mut Solo, from: i32, error: ErrorCode) {
    let memory = VoterMemory::Whole;
    let response =
        VoteResponse { error, leader: None, epoch: solo.raft.epoch(), granted: false, memory, start: None };
    solo.step(Event::Response { from: NodeId(from), response: Response::Vote(response) });
}

/// How often the last step said why it follows nobody.
fn reserves(solo: &Solo) -> usize {
    solo.notes.iter().filter(|note| note.starts_with("not following")).count()
}

#[test]
fn so_many_others_are_asked_that_one_of_them_knows_a_newer_leader() {
    // A majority with our forgotten vote needs majority - 1 of the others: one more than are left without them.
    for (voters, needed) in [(1, 0), (2, 1), (3, 2), (4, 2), (5, 3), (6, 3), (7, 4)] {
        assert_eq!(emptied(voters, None).raft.needed_to_hear(), needed, "of {voters} voters");
    }
}

#[test]
fn a_leader_is_followed_once_enough_others_have_answered() {
    let mut solo = emptied(5, None);
    for from in [2, 3, 4] {
        begin(&mut solo, 2, 5);
        assert_eq!((solo.raft.leader(), reserves(&solo)), (None, 1), "before {from} has answered");
        answer(&mut solo, from, ErrorCode::NONE);
    }
    solo.after_ms(20);
    begin(&mut solo, 2, 5);
    assert_eq!(reserves(&solo), 0);
    solo.told_epoch(2, 5, 2);
    assert_eq!(solo.raft.leader(), Some(NodeId(2)));
}

#[test]
fn only_other_voters_that_tell_their_epoch_are_heard_and_each_once() {
    let mut solo = emptied(5, None);
    for (from, error, heard) in [
        (2, ErrorCode::NONE, 1),
        (2, ErrorCode::NONE, 1),
        (2, ErrorCode::FENCED_LEADER_EPOCH, 1),
        (9, ErrorCode::NONE, 1),
        (1, ErrorCode::NONE, 1),
        (3, ErrorCode::INVALID_REQUEST, 1),
        (3, ErrorCode::NOT_LEADER_OR_FOLLOWER, 2),
        (4, ErrorCode::UNKNOWN_LEADER_EPOCH, 3),
        (5, ErrorCode::FENCED_LEADER_EPOCH, 4),
    ] {
        answer(&mut solo, from, error);
        assert_eq!(solo.raft.heard.len(), heard, "{from} answers {error:?}");
    }
    let mut caught_up = Solo::voter(1, 5, &[]);
    answer(&mut caught_up, 2, ErrorCode::NONE);
    assert!(caught_up.raft.heard.is_empty(), "nothing hangs on it");
}

#[test]
fn who_follows_goes_on_with_its_leader_and_with_no_newer_one() {
    let mut solo = emptied(3, Some(2));
    begin(&mut solo, 2, 5);
    assert_eq!((solo.raft.role(), reserves(&solo)), (RoleName::Follower, 0));
    solo.tick_until(RoleName::Prospective);
    begin(&mut solo, 2, 5);
    solo.told_epoch(2, 5, 2);
    assert_eq!(solo.raft.role(), RoleName::Follower, "it speaks, so it lives");
    begin(&mut solo, 2, 6);
    assert_eq!((solo.raft.role(), solo.raft.epoch(), reserves(&solo)), (RoleName::Unattached, Epoch(6), 1));
}

#[test]
fn an_observer_follows_every_leader() {
    let state = QuorumState { epoch: Epoch(5), leader: None, voted: None, caught_up: false, in_doubt: false };
    let mut solo = Solo::new(4, 3, state, &[]);
    solo.follow(2, 6);
    assert_eq!((solo.raft.leader(), reserves(&solo)), (Some(NodeId(2)), 0));
}
