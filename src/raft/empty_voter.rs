//! The rule of the empty voter: what a voter may do whose log was empty at its first start.
//!
//! An emptied disk looks like a new one. Its owner may have acknowledged records that now only one other voter holds, and may
//! have voted in epochs that it does not remember. Until it has caught up with a leader once, therefore:
//! 1. Its vote carries a reserve ([`VoterMemory::Lost`]), its own vote for itself too. Who has a majority without reserve is
//!    elected as always; with the others' help only by the votes of all voters. Each of them has then compared its log with
//!    the candidate's in the new epoch, and helps no older leader any more: the candidate holds everything that is left
//!    anywhere. So does the first leader of a new log, where all votes are with reserve: all say that they hold nothing.
//! 2. It gives its first vote only when all others have answered it since it started: one of them knows of the epochs that it
//!    has forgotten.
//! 3. It follows a leader only when no newer one can have been elected with its forgotten vote.
//!
//! Whoever has followed the log's first leader after voting for it has forgotten nothing (`saw_beginning`). Candidates that
//! do not count reserves (Kafka's own, older ones of ours) get a vote for an empty log only. The argument is in
//! `docs/design/first-leader.md`.

use super::Raft;
use super::effects::Effects;
use super::event::{Response, VoteRequest, VoterMemory};
use super::role::{Answer, Role};
use crate::types::*;

/// A line about whom an election waits for comes this often at most.
const WAITING_LINE_INTERVAL_MS: u64 = 10_000;

/// A voter that has told its epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Heard {
    pub(super) voter: NodeId,
    /// It has forgotten no newer one.
    pub(super) is_whole: bool,
}

impl Raft {
    /// Nothing that this voter has ever promised is forgotten.
    pub(super) fn has_whole_memory(&self) -> bool {
        self.state.caught_up || self.saw_beginning
    }

    /// What our vote is worth.
    pub(super) fn memory(&self) -> VoterMemory {
        match self.has_whole_memory() && !self.state.in_doubt {
            true => VoterMemory::Whole,
            false => VoterMemory::Lost,
        }
    }

    /// How a vote for our log counts that was given with this memory.
    pub(super) fn grant_of(&self, memory: VoterMemory) -> Answer {
        let is_empty = self.epochs.last().offset == Offset(0);
        match memory {
            VoterMemory::Whole => Answer::Granted,
            _ if is_empty && self.config.first_leader == FirstLeader::Majority => Answer::Granted,
            // Older voters of ours help an empty log without a word; another one only if they have forgotten nothing.
            VoterMemory::Unsaid if !is_empty => Answer::Granted,
            _ => Answer::GrantedWithReserve,
        }
    }

    pub(super) fn may_help(&self, request: &VoteRequest) -> bool {
        self.has_whole_memory() || request.last.offset == Offset(0) || request.counts_memory
    }

    /// The first vote of a life waits for the others' answers.
    pub(super) fn must_ask_before_voting(&self, request: &VoteRequest) -> bool {
        !request.pre_vote
            && request.counts_memory
            && self.config.first_leader == FirstLeader::All
            && self.votes_since.is_none()
            && !self.unheard().is_empty()
    }

    /// The other voters whose answer is waited for.
    pub(super) fn unheard(&self) -> Vec<NodeId> {
        if self.has_whole_memory() || !self.voters.local_is_voter() {
            return Vec::new();
        }
        let is_unheard = |id: &NodeId| !self.heard.iter().any(|heard| heard.voter == *id);
        self.voters.others().map(|key| key.id).filter(is_unheard).collect()
    }

    /// May we follow, and so help to commit, what this leader of this epoch writes? A deposed leader that has not
    /// heard of it would commit at offsets at which we have acknowledged other records to its successor. That one
    /// needed a majority without our forgotten vote but for one voice: having asked one voter more than can lie
    /// outside of it, we know its epoch; if they too may have forgotten it, having asked all.
    pub(super) fn may_follow(&self, epoch: Epoch, leader: NodeId) -> bool {
        let knows_leader = self.state.epoch == epoch && self.state.leader == Some(leader);
        let whole = self.heard.iter().filter(|heard| heard.is_whole).count();
        self.has_whole_memory()
            || !self.voters.local_is_voter()
            || knows_leader
            || self.has_voted_by(epoch)
            || whole >= self.needed_to_hear()
            || self.unheard().is_empty()
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
    pub(super) fn maybe_hear(&mut self, from: NodeId, response: &Response) {
        let tells_epoch = [
            ErrorCode::NONE,
            ErrorCode::FENCED_LEADER_EPOCH,
            ErrorCode::UNKNOWN_LEADER_EPOCH,
            ErrorCode::NOT_LEADER_OR_FOLLOWER,
        ];
        let is_other = self.voters.contains(from) && from != self.config.local.id;
        if self.has_whole_memory() || !is_other || !tells_epoch.contains(&response.error()) {
            return;
        }
        let is_whole = match response {
            Response::Vote(vote) => matches!(vote.memory, VoterMemory::Whole | VoterMemory::Unsaid),
            _ => false,
        };
        match self.heard.iter_mut().find(|heard| heard.voter == from) {
            Some(heard) => heard.is_whole |= is_whole,
            None => self.heard.push(Heard { voter: from, is_whole }),
        }
    }

    /// Our votes since then are on our disk, and no forgotten one is of a later epoch than the first: all others had told
    /// theirs before it.
    fn has_voted_by(&self, epoch: Epoch) -> bool {
        self.votes_since.is_some_and(|since| epoch >= since)
    }

    /// For a log that ends there.
    pub(super) fn remember_vote(&mut self, last: OffsetAndEpoch) {
        if self.votes_since.is_none() {
            self.votes_since = Some(self.state.epoch);
            self.first_vote = Some(self.state.epoch).filter(|_| last.offset == Offset(0));
        }
    }

    /// Our first vote was for an empty log: a leader that won with it began the log, and nothing was before.
    pub(super) fn is_first_leader(&self, epoch: Epoch, leader: NodeId) -> bool {
        let voted = self.state.voted.filter(|_| epoch == self.state.epoch);
        self.first_vote == Some(epoch) && voted.is_some_and(|voted| voted.id == leader)
    }

    /// Everything that the leader knows to be committed is durable here: this voter is as good as any other.
    pub(super) fn maybe_catch_up(&mut self, told: Option<HighWatermark>, effects: &mut Effects) {
        let is_voter = self.voters.local_is_voter();
        let Some(told) = told.filter(|told| !self.state.caught_up && is_voter && self.holds_committed(*told))
        else {
            return;
        };
        self.state.caught_up = true;
        effects.notes.push(format!("caught up with the quorum at {told}: voting without reserve"));
    }

    /// All below what the leader tells to be committed is on our disk, as the leader has it. Before it has told of anything
    /// nothing is proven.
    pub(super) fn holds_committed(&self, told: HighWatermark) -> bool {
        told.0 > Offset(0) && self.flushed.0.min(self.log_shared_with_leader()) >= told.0
    }

    /// An election that needs all voters has timed out: who is missing, and what can be done.
    pub(super) fn maybe_note_waiting(&mut self, now: Now, effects: &mut Effects) {
        let (Role::Prospective(election) | Role::Candidate(election)) = &self.role else { return };
        let interval_ns = WAITING_LINE_INTERVAL_MS * NS_PER_MS;
        let is_early = self.waiting_noted_ns.is_some_and(|at| now.monotonic_ns < at + interval_ns);
        let needs_all = !self.has_whole_memory() || election.has_reserve();
        if !needs_all || self.voters.local_is_only_voter() || is_early {
            return;
        }
        let missing: Vec<String> = election.missing().map(|id| id.to_string()).collect();
        let missing = missing.join(", ");
        let first_leader = self.config.first_leader;
        let text = match self.epochs.last().offset {
            Offset(0) if first_leader == FirstLeader::Majority => return,
            Offset(0) => format!(
                "my log is empty, and its first leader needs the word of every voter that it holds nothing either; \
                 missing: {missing}. Start them, with an empty directory where the old one is lost for good; \
                 kraft.first.leader=majority begins without them, over whatever they hold"
            ),
            end => format!(
                "my log ends at {end}; it, or another voter's, was empty at its first start, or damaged at its end at a later \
                 one, and has not caught up with a leader since, so that all voters are needed to elect me; missing: {missing}. Start them, with an empty directory \
                 where the old one is lost for good"
            ),
        };
        self.waiting_noted_ns = Some(now.monotonic_ns);
        effects.notes.push(text);
    }
}

#[cfg(test)]
#[path = "empty_voter_tests.rs"]
mod tests;
