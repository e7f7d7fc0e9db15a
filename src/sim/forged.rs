//! Requests in the name of voters, from somebody who is none: the port asks nobody who he is.
//!
//! A forged Fetch never claims more than what is committed: that a voter holds what it does not is believed, as every Raft
//! believes its followers, and only a password would help (docs/design/hostile-clients.md).

use super::dice::Dice;
use super::kafka;
use super::network::Host;
use super::scene::Scene;
use bytes::Bytes;

pub(crate) fn request(dice: &mut Dice, id: i32, voters: &[Host], scene: &Scene) -> Bytes {
    let voter = dice.pick(voters).unwrap_or(1);
    let leader = scene.leader.filter(|_| dice.permille(700)).unwrap_or(voter);
    let ahead = dice.pick(&[0, 0, 1, 1, 3, 20, 1_000, 1 << 29, i32::MAX]).unwrap_or(1);
    let epoch = scene.epoch.0.saturating_add(ahead);
    match dice.below(6) {
        0 => {
            let is_pre_vote = dice.permille(500);
            let api = if is_pre_vote { kafka::PRE_VOTE } else { kafka::VOTE };
            kafka::encode(api, id, &kafka::vote(voter, epoch, is_pre_vote))
        }
        1 => kafka::encode(kafka::BEGIN_QUORUM_EPOCH, id, &kafka::begin_quorum_epoch(voter, epoch)),
        2 => kafka::encode(kafka::END_QUORUM_EPOCH, id, &kafka::end_quorum_epoch(leader, epoch, voters)),
        3 => kafka::encode(kafka::FETCH_SNAPSHOT, id, &kafka::fetch_snapshot(voter, scene.epoch.0)),
        _ => fetch(dice, id, voters, scene),
    }
}

/// In the name of a voter, or of an observer that nobody knows.
pub(crate) fn fetch(dice: &mut Dice, id: i32, voters: &[Host], scene: &Scene) -> Bytes {
    let voter = dice.pick(voters).unwrap_or(1);
    let offset = match dice.permille(500) {
        true => scene.committed_end.0,
        false => dice.below(scene.committed_end.0 as u64 + 1) as i64,
    };
    let mut request = kafka::fetch(offset, 500, 60_000);
    request.replica_id = dice.pick(&[voter, voter, 77]).unwrap_or(voter).into();
    let partition = &mut request.topics[0].partitions[0];
    let ahead = dice.pick(&[0, 0, 0, 1, 1_000]).unwrap_or(0);
    partition.current_leader_epoch = scene.epoch.0.saturating_add(ahead);
    partition.last_fetched_epoch = dice.below(scene.epoch.0 as u64 + 1) as i32;
    kafka::encode(kafka::FETCH, id, &request)
}

/// What somebody sends who comes again and again in voters' names, with one request each time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Claim {
    PreVotes,
    /// As a follower's that has all: they are parked.
    Fetches,
    Begins,
    Any,
}

impl Claim {
    pub(super) fn draw(dice: &mut Dice) -> Claim {
        dice.pick(&[Claim::PreVotes, Claim::Fetches, Claim::Begins, Claim::Any]).unwrap_or(Claim::Any)
    }
}

pub(crate) fn claim(dice: &mut Dice, id: i32, claim: Claim, voter: Host, scene: &Scene) -> Bytes {
    let epoch = scene.epoch.0;
    match claim {
        Claim::PreVotes => kafka::encode(kafka::PRE_VOTE, id, &kafka::vote(voter, epoch, true)),
        Claim::Fetches => {
            let mut request = kafka::fetch(scene.committed_end.0, 500, 60_000);
            request.replica_id = voter.into();
            let partition = &mut request.topics[0].partitions[0];
            (partition.current_leader_epoch, partition.last_fetched_epoch) = (epoch, epoch);
            kafka::encode(kafka::FETCH, id, &request)
        }
        Claim::Begins => {
            kafka::encode(kafka::BEGIN_QUORUM_EPOCH, id, &kafka::begin_quorum_epoch(voter, epoch))
        }
        Claim::Any => self::request(dice, id, &[voter], scene),
    }
}
