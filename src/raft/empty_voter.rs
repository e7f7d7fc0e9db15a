//! The rule of the empty voter: what a voter may do whose log was empty at its first start.
//!
//! An emptied disk looks like a new one. Its owner may have acknowledged records that now only one other voter
//! holds, and may have voted in epochs that it does not remember. Until it has caught up with a leader once, it
//! therefore (1) votes for empty logs only, which lets a new cluster begin, and (2) follows a leader only when no
//! newer one can have been elected with its forgotten vote. What no rule can tell is an emptied voter beside one
//! that never held a record: these two look like a new cluster (Kafka 3.9 and later tell them by directory ids in
//! the voter set, KIP-853; static voters have none).

use super::Raft;
use super::effects::Effects;
use crate::types::*;

impl Raft {
    /// Standing is a vote for oneself, so the rule holds for it too. With one voter there is nobody whose records
    /// could be lost.
    pub(super) fn may_vote_for_local(&self) -> bool {
        self.may_help(self.epochs.last()) || self.voters.local_is_only_voter()
    }

    /// May a log that ends there have our vote? One that is not empty is harmless with a record of an epoch in or
    /// after which we have voted, for its leader was elected under our eyes. Without that, a new cluster whose first
    /// leader stops before it has committed anything could be stuck for ever.
    pub(super) fn may_help(&self, last: OffsetAndEpoch) -> bool {
        self.state.caught_up || last.offset == Offset(0) || self.has_voted_by(last.epoch)
    }

    /// May we follow, and so help to commit, what this leader of this epoch writes? A deposed leader that has not
    /// heard of it would commit at offsets at which we have acknowledged other records to its successor. That one
    /// needed a majority without our forgotten vote but for one voice: having asked one voter more than can lie
    /// outside of it, we know its epoch.
    pub(super) fn may_follow(&self, epoch: Epoch, leader: NodeId) -> bool {
        let knows_leader = self.state.epoch == epoch && self.state.leader == Some(leader);
        self.state.caught_up
            || !self.voters.local_is_voter()
            || knows_leader
            || self.has_voted_by(epoch)
            || self.heard.len() >= self.needed_to_hear()
    }

    pub(super) fn why_not_following(&self, leader: NodeId) -> String {
        format!(
            "not following {leader} yet: my log was empty at my first start, so I ask {} other voters first whether \
             they know of a newer leader; {} answered so far",
            self.needed_to_hear(),
            self.heard.len()
        )
    }

    /// Of `n - 1` other voters a majority that counted our vote holds `majority - 1`.
    fn needed_to_hear(&self) -> usize {
        let others = self.voters.others().count();
        others.min(others + 2 - self.voters.majority())
    }

    /// An answer that tells the epoch in which `from` is. Only answers count: they were made after we had asked,
    /// and so after our disk was emptied.
    pub(super) fn maybe_hear(&mut self, from: NodeId, error: ErrorCode) {
        let tells_epoch = [
            ErrorCode::NONE,
            ErrorCode::FENCED_LEADER_EPOCH,
            ErrorCode::UNKNOWN_LEADER_EPOCH,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ];
        let is_other = self.voters.contains(from) && from != self.config.local.id;
        if !self.state.caught_up && is_other && tells_epoch.contains(&error) && !self.heard.contains(&from) {
            self.heard.push(from);
        }
    }

    fn has_voted_by(&self, epoch: Epoch) -> bool {
        self.votes_since.is_some_and(|since| epoch >= since)
    }

    pub(super) fn remember_vote(&mut self) {
        if self.votes_since.is_none() {
            self.votes_since = Some(self.state.epoch);
            self.first_vote = Some(self.state.epoch);
        }
    }

    /// Our first vote was for an empty log: a leader that won with it began the log, and nothing was before.
    pub(super) fn is_first_leader(&self, epoch: Epoch, leader: NodeId) -> bool {
        let voted = self.state.voted.filter(|_| epoch == self.state.epoch);
        self.first_vote == Some(epoch) && voted.is_some_and(|voted| voted.id == leader)
    }

    /// Everything that the leader knows to be committed is durable here: this voter is as good as any other.
    pub(super) fn maybe_catch_up(&mut self, told: Option<HighWatermark>, effects: &mut Effects) {
        let Some(told) = told.filter(|_| !self.state.caught_up && self.voters.local_is_voter()) else {
            return;
        };
        if self.flushed.0.min(self.log_shared_with_leader()) >= told.0 {
            self.state.caught_up = true;
            effects.notes.push(format!("caught up with the quorum at {told}: voting without reserve"));
        }
    }
}

#[cfg(test)]
#[path = "empty_voter_tests.rs"]
mod tests;
