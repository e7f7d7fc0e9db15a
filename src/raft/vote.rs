//! Elections from both sides: asking for pre-votes and votes, and granting them.
//!
//! Follows Kafka 4.1: KIP-996 (Prospective before Candidate), and after a lost election the rest of the election
//! timeout is waited out (KAFKA-18345). A vote is durable before it is spoken; a pre-vote changes nothing durable.

use super::effects::{Effect, Effects};
use super::event::{Request, VoteRequest, VoteResponse};
use super::role::{Answer, Election, Fetcher, Role, Unattached};
use super::voters::is_same_replica;
use super::{Raft, Shutdown};
use crate::types::*;

impl Raft {
    // --- asking

    /// Nobody leads, as far as we know: find out whether we could.
    pub(super) fn campaign(&mut self, now: Now, why: &str, effects: &mut Effects) {
        if !self.may_still_campaign() {
            return;
        }
        if !self.may_vote_for_local() {
            effects.notes.push(format!(
                "{why}, but my log was empty at my first start and has not caught up with a leader since: \
                 records that I once acknowledged may be missing, so I do not stand"
            ));
            self.keep_looking_for_leader(now);
            return;
        }
        effects.notes.push(format!("{why}: asking for pre-votes in epoch {}", self.state.epoch));
        let deadline = self.new_election_deadline(now);
        self.role = Role::Prospective(Election::new(deadline, &self.voters, self.config.local));
        self.on_ballot_changed(now, effects);
        self.ask_voters(now, effects);
    }

    pub(super) fn may_still_campaign(&self) -> bool {
        self.shutdown == Shutdown::No && self.voters.local_is_voter()
    }

    fn keep_looking_for_leader(&mut self, now: Now) {
        if self.state.leader == Some(self.config.local.id) {
            return self.resign_again(now);
        }
        let election_deadline = Some(self.new_election_deadline(now));
        self.role = Role::Unattached(Unattached {
            election_deadline,
            fetcher: Fetcher::due_at(self.config.retry_at(now)),
        });
    }

    /// The pre-votes of a majority: stand in the next epoch, with our own vote.
    fn become_candidate(&mut self, now: Now, effects: &mut Effects) {
        // Epoch i32::MAX is refused from the wire; an epoch next to it can only be forged.
        let Some(epoch) = self.state.epoch.0.checked_add(1) else {
            effects.notes.push("the epochs are used up: I cannot stand".to_string());
            return;
        };
        self.state.epoch = Epoch(epoch);
        self.state.leader = None;
        self.state.voted = Some(self.config.local);
        self.remember_vote();
        effects.notes.push(format!(
            "standing in epoch {epoch} with a log that ends at {} in epoch {}",
            self.log_end(),
            self.epochs.last_epoch()
        ));
        let deadline = self.new_election_deadline(now);
        self.role = Role::Candidate(Election::new(deadline, &self.voters, self.config.local));
        self.on_ballot_changed(now, effects);
    }

    /// Act on an election that may have been decided by the last ballot.
    fn on_ballot_changed(&mut self, now: Now, effects: &mut Effects) {
        let majority = self.voters.majority();
        match &self.role {
            Role::Prospective(election) if election.is_won(majority) => {
                self.become_candidate(now, effects);
                self.ask_voters(now, effects);
            }
            Role::Prospective(election) if election.is_lost(majority) => {
                let deadline = election.deadline;
                effects.notes.push("a majority denied me their pre-votes".to_string());
                self.leave_prospective(now, deadline, effects);
            }
            Role::Candidate(election) if election.is_won(majority) => {
                let granting = election.granting().collect();
                self.become_leader(now, granting, effects);
            }
            Role::Candidate(election) if election.is_lost(majority) => {
                effects.notes.push(format!(
                    "lost the election in epoch {}: waiting for its timeout before the next",
                    self.state.epoch
                ));
            }
            _ => {}
        }
    }

    /// Back to what we were (Kafka: prospectiveTransitionAfterElectionLoss).
    fn leave_prospective(&mut self, now: Now, deadline: u64, effects: &mut Effects) {
        match self.state.leader {
            Some(leader) if leader == self.config.local.id => self.resign_again(now),
            Some(leader) => self.become_follower(now, self.state.epoch, leader, effects),
            None => {
                self.role = Role::Unattached(Unattached {
                    election_deadline: Some(deadline),
                    fetcher: Fetcher::due_at(self.config.retry_at(now)),
                });
            }
        }
    }

    /// When to ask the next voter; nobody once the election is lost.
    pub(super) fn next_ask_at(&self, election: &Election) -> Option<u64> {
        if election.is_lost(self.voters.majority()) { None } else { election.next_ask() }
    }

    fn ask_voters(&mut self, now: Now, effects: &mut Effects) {
        let pre_vote = matches!(self.role, Role::Prospective(_));
        let (epoch, candidate, last) = (self.state.epoch, self.config.local, self.epochs.last());
        let majority = self.voters.majority();
        let (Role::Prospective(election) | Role::Candidate(election)) = &mut self.role else { return };
        if election.is_lost(majority) {
            return;
        }
        for ballot in &mut election.ballots {
            if matches!(ballot.answer, Answer::AskAt(at) if at <= now.monotonic_ns) {
                ballot.answer = Answer::Asked;
                let voter = Some(ballot.voter);
                let request = Request::Vote(VoteRequest { voter, epoch, candidate, last, pre_vote });
                effects.at_once.push(Effect::Send { to: ballot.voter.id, request });
            }
        }
    }

    pub(super) fn on_election_tick(&mut self, now: Now, effects: &mut Effects) {
        let (Role::Prospective(election) | Role::Candidate(election)) = &self.role else { return };
        if now.monotonic_ns < election.deadline {
            self.ask_voters(now, effects);
            return;
        }
        let is_prospective = matches!(self.role, Role::Prospective(_));
        if is_prospective && self.state.leader.is_some() {
            effects.notes.push("too few pre-votes came within the election timeout".to_string());
            let deadline = self.new_election_deadline(now);
            self.leave_prospective(now, deadline, effects);
        } else {
            // Kafka goes to Unattached, whose timeout has passed too, and is back here at its next poll.
            self.campaign(now, "the election timed out", effects);
        }
    }

    pub(super) fn on_vote_response(
        &mut self,
        now: Now,
        from: NodeId,
        response: VoteResponse,
        effects: &mut Effects,
    ) {
        let VoteResponse { error, leader, epoch, granted } = response;
        if !self.is_current_response(now, from, error, epoch, leader, effects) {
            self.ask_again(now, from);
            return;
        }
        let is_prospective = matches!(self.role, Role::Prospective(_));
        let answer = match error {
            ErrorCode::NONE if granted => Answer::Granted,
            ErrorCode::NONE | ErrorCode::INVALID_VOTER_KEY => Answer::Rejected,
            // A peer older than KIP-996 cannot deny a pre-vote (Kafka becomes a candidate at once).
            ErrorCode::UNSUPPORTED_VERSION if is_prospective => Answer::Granted,
            _ => {
                effects.notes.push(format!("{from} answered my Vote with {}", error.name()));
                self.ask_again(now, from);
                return;
            }
        };
        self.record_ballot(now, from, answer, effects);
    }

    fn record_ballot(&mut self, now: Now, from: NodeId, answer: Answer, effects: &mut Effects) {
        if self.shutdown != Shutdown::No {
            return;
        }
        let (Role::Prospective(election) | Role::Candidate(election)) = &mut self.role else { return };
        let Some(ballot) = election.ballot_of(from) else { return };
        // A voter's first word counts: granting and rejecting exclude each other (Kafka: EpochElection).
        if matches!(ballot.answer, Answer::Asked | Answer::AskAt(_)) {
            ballot.answer = answer;
            self.on_ballot_changed(now, effects);
        }
    }

    fn ask_again(&mut self, now: Now, from: NodeId) {
        self.on_request_failed(now, from, super::RequestKind::Vote);
    }

    // --- granting

    pub(super) fn on_vote_request(
        &mut self,
        now: Now,
        request: VoteRequest,
        effects: &mut Effects,
    ) -> VoteResponse {
        let kind = if request.pre_vote { "pre-vote" } else { "vote" };
        let (candidate, epoch) = (request.candidate.id, request.epoch);
        let verdict = self.judge_vote_request(now, &request, effects);
        let (error, granted) = match verdict {
            Ok(()) => {
                effects.notes.push(format!("granted {kind} to {candidate} in epoch {epoch}"));
                (ErrorCode::NONE, true)
            }
            Err((error, why)) => {
                effects.notes.push(format!("rejected {kind} for {candidate} in epoch {epoch}: {why}"));
                (error, false)
            }
        };
        if granted && !request.pre_vote {
            self.vote_for(now, request.candidate);
        }
        VoteResponse { error, leader: self.leader(), epoch: self.state.epoch, granted }
    }

    /// The order of the checks is Kafka's (KafkaRaftClient.handleVoteRequest), except that a candidate outside of
    /// the static voter set moves nothing here, not even the epoch.
    fn judge_vote_request(
        &mut self,
        now: Now,
        request: &VoteRequest,
        effects: &mut Effects,
    ) -> Result<(), (ErrorCode, String)> {
        let refuse = |error: ErrorCode, why: &str| Err((error, why.to_string()));
        let highest = if request.pre_vote { request.epoch.0 } else { request.epoch.0.saturating_sub(1) };
        if request.last.offset.0 < 0 || request.last.epoch.0 < 0 || request.last.epoch.0 > highest {
            return refuse(ErrorCode::INVALID_REQUEST, "its log cannot end there");
        }
        if request.epoch < self.state.epoch {
            let why = format!("mine is {}", self.state.epoch);
            return Err((ErrorCode::FENCED_LEADER_EPOCH, why));
        }
        if request.candidate.id.0 < 0 || request.candidate.id == self.config.local.id {
            return refuse(ErrorCode::INVALID_REQUEST, "that is no other voter's id");
        }
        if request.epoch == Epoch(i32::MAX) {
            return refuse(ErrorCode::INVALID_REQUEST, "no epoch would be left after it");
        }
        if self.voters.index_of(request.candidate).is_none() {
            return refuse(ErrorCode::NONE, "it is not a voter");
        }
        if request.epoch > self.state.epoch {
            self.become_unattached(now, request.epoch, effects);
        }
        if !self.voters.is_meant_for_local(request.voter) {
            return refuse(ErrorCode::INVALID_VOTER_KEY, "it meant another voter than me");
        }
        self.judge_candidate(request).map_err(|why| (ErrorCode::NONE, why))
    }

    fn judge_candidate(&self, request: &VoteRequest) -> Result<(), String> {
        if !self.voters.local_is_voter() {
            return Err("I am an observer".to_string());
        }
        match &self.role {
            Role::Leader(_) => return Err("I lead this epoch".to_string()),
            Role::Follower(follower) if !request.pre_vote || follower.has_fetched => {
                return Err(format!("I follow {}", follower.leader));
            }
            _ => {}
        }
        if !request.pre_vote {
            match self.state.voted {
                Some(voted) if is_voted(voted, request.candidate) => return Ok(()),
                Some(voted) => return Err(format!("I voted for {}", voted.id)),
                None => {}
            }
            if let Some(leader) = self.state.leader {
                return Err(format!("{leader} was elected"));
            }
        }
        self.judge_candidate_log(request.last)
    }

    fn judge_candidate_log(&self, theirs: OffsetAndEpoch) -> Result<(), String> {
        let mine = self.epochs.last();
        if theirs < mine {
            return Err(format!(
                "its log ends at {} in epoch {}, mine at {} in epoch {}",
                theirs.offset, theirs.epoch, mine.offset, mine.epoch
            ));
        }
        if !self.may_help(theirs) {
            return Err("my log was empty at my first start and I have not caught up with a leader since, \
                        so I vote for empty logs only"
                .to_string());
        }
        Ok(())
    }

    /// The vote counts from the moment it is durable: everything of this step waits for that.
    fn vote_for(&mut self, now: Now, candidate: ReplicaKey) {
        assert!(self.state.voted.is_none_or(|voted| is_voted(voted, candidate)), "a second vote");
        if self.state.voted.is_some() {
            return;
        }
        self.state.voted = Some(candidate);
        self.remember_vote();
        // Kafka: whoever we vote for has at least as good a chance as we, so our own timer starts anew.
        self.keep_looking_for_leader(now);
    }

    /// A higher epoch whose leader is unknown.
    pub(super) fn become_unattached(&mut self, now: Now, epoch: Epoch, effects: &mut Effects) {
        assert!(epoch > self.state.epoch, "unattached in epoch {epoch}, mine is {}", self.state.epoch);
        effects.notes.push(format!("epoch {} is over, epoch {epoch} has no leader yet", self.state.epoch));
        // Kafka: a new epoch is no reason to wait longer for a leader.
        let election_deadline = match &self.role {
            _ if !self.voters.local_is_voter() => None,
            Role::Unattached(unattached) => unattached.election_deadline,
            Role::Prospective(election) | Role::Candidate(election) => Some(election.deadline),
            Role::Follower(follower) => Some(follower.fetch_deadline),
            Role::Leader(_) | Role::Resigned(_) => Some(self.new_election_deadline(now)),
        };
        self.state = QuorumState { epoch, leader: None, voted: None, ..self.state };
        let fetcher = Fetcher::due_at(self.config.retry_at(now));
        self.role = Role::Unattached(Unattached { election_deadline, fetcher });
    }
}

/// Kafka: a vote without a directory id is for any directory, one with it only for that.
fn is_voted(voted: ReplicaKey, candidate: ReplicaKey) -> bool {
    is_same_replica(voted, candidate)
        && (voted.directory_id.is_zero() || voted.directory_id == candidate.directory_id)
}

#[cfg(test)]
#[path = "vote_tests.rs"]
mod tests;
