use super::super::solo::{Solo, key};
use crate::raft::{BeginQuorumEpochRequest, EndQuorumEpochRequest, Event, Request, RoleName};
use crate::types::*;

fn living(solo: &Solo) -> Option<i32> {
    solo.raft.living_leader(solo.now).map(|id| id.0)
}

#[test]
fn a_follower_vouches_for_its_leader_for_a_fetch_timeout() {
    let mut solo = Solo::follower(1, &[(1, 4)]);
    assert_eq!(living(&solo), None, "it stands in the quorum state, and may have died since");
    solo.after_ms(1_000).fetched(None, &[]);
    assert_eq!(living(&solo), Some(2));
    solo.after_ms(2_000);
    assert_eq!(living(&solo), Some(2));
    solo.after_ms(1);
    assert_eq!((living(&solo), solo.raft.without_quorum_ms(solo.now)), (None, 2_001));
    // Pre-votes are denied, and it goes back to the leader that it knew: that is no sign of life.
    solo.tick_until(RoleName::Prospective);
    solo.tick_at_deadline();
    assert_eq!((solo.raft.role(), solo.raft.leader()), (RoleName::Follower, Some(NodeId(2))));
    assert_eq!(living(&solo), None);
    let begin = BeginQuorumEpochRequest { voter: Some(key(1)), leader: NodeId(2), epoch: Epoch(1) };
    solo.request(Request::BeginQuorumEpoch(begin));
    assert_eq!(living(&solo), None, "anybody can say that in its name");
    solo.fetched(None, &[]);
    assert_eq!(living(&solo), Some(2));
}

#[test]
fn a_leader_that_ends_by_its_own_word_or_refuses_is_no_longer_told() {
    let mut solo = Solo::follower(1, &[(1, 4)]);
    solo.fetched(None, &[]);
    solo.step(Event::Refused { by: NodeId(2) });
    assert_eq!(living(&solo), None);
    let mut solo = Solo::follower(1, &[(1, 4)]);
    solo.fetched(None, &[]);
    let end =
        EndQuorumEpochRequest { leader: NodeId(2), epoch: Epoch(1), preferred_candidates: vec![key(3)] };
    solo.request(Request::EndQuorumEpoch(end));
    assert_eq!(living(&solo), Some(2), "anybody can say that in its name");
    solo.leader_leaves();
    assert_eq!(living(&solo), None);
    solo.follow(3, 2);
    assert_eq!(living(&solo), Some(3), "the next one is told before its first record");
}

#[test]
fn a_leader_vouches_for_itself_while_a_majority_asks_it() {
    let mut solo = Solo::leader(3, &[(1, 4)]);
    assert_eq!(living(&solo), Some(1));
    let (epoch, end) = (solo.raft.epoch().0, solo.raft.log_end().0.0);
    solo.after_ms(1_900).fetch(3, epoch, end, epoch);
    solo.after_ms(2_000);
    assert_eq!(living(&solo), Some(1));
    solo.after_ms(1);
    assert_eq!(living(&solo), None, "it leads on for another second, and nobody need be sent here");
    assert!(solo.raft.is_leader());
    let alone = Solo::leader(1, &[]);
    let later = Now { monotonic_ns: alone.now.plus_ms(60_000), wall_ms: 0 };
    assert_eq!(alone.raft.living_leader(later), Some(NodeId(1)));
    assert_eq!(alone.raft.without_quorum_ms(later), 0);
}
