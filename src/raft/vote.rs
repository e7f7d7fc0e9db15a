//! Elections from both sides: asking for pre-votes and votes, and granting them.
//!
//! Follows Kafka 4.1: KIP-996 (Prospective before Candidate), and after a lost election the rest of the election
//! timeout is waited out (KAFKA-18345). A vote is durable before it is spoken; a pre-vote changes nothing durable.

use super::effects::{Effect, Effects, NoteKind};
use super::event::{Request, VoteRequest, VoteResponse, VoterMemory};
use super::role::{Answer, Election, Fetcher, Role, Unattached};
use super::voters::is_same_replica;
use super::{Raft, Shutdown};
use crate::types::*;

/// Why a node asked for votes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// The leader was silent for the fetch timeout.
    FetchTimeout,
    /// The leader handed over, or gave up.
    LeaderResigned,
    /// Nobody listens where it led.
    LeaderGone,
    /// No leader was found within the election timeout.
    NoLeader,
    /// This node resigned, and nobody took over.
    NobodyTookOver,
    /// An election ended without a leader.
    ElectionTimeout,
}

impl Cause {
    pub(crate) const ALL: [Cause; 6] = [
        Cause::FetchTimeout,
        Cause::LeaderResigned,
        Cause::LeaderGone,
        Cause::NoLeader,
        Cause::NobodyTookOver,
        Cause::ElectionTimeout,
    ];

    /// As metrics name it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Cause::FetchTimeout => "fetch_timeout",
            Cause::LeaderResigned => "leader_resigned",
            Cause::LeaderGone => "leader_gone",
            Cause::NoLeader => "no_leader",
            Cause::NobodyTookOver => "nobody_took_over",
            Cause::ElectionTimeout => "election_timeout",
        }
    }
}

/// Another voter that stands when it has the pre-votes, as we do, and goes first.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rival {
    id: NodeId,
    /// In which it asked.
    epoch: Epoch,
    /// It asks again before that, or stands no more.
    until_ns: u64,
}

/// How often this node has stood, in the order of `Cause::ALL`.
pub(crate) type Campaigns = [u64; Cause::ALL.len()];

/// A voter that must first ask others is asked again after so many retry backoffs.
const ASKING_BACKOFFS: u64 = 3;

impl Raft {
    // --- asking

    /// Nobody leads, as far as we know: find out whether we could.
    pub(super) fn campaign(&mut self, now: Now, cause: Cause, why: &str, effects: &mut Effects) {
        if !self.may_still_campaign() {
            return;
        }
        let why_not = self.why_not_standing().map(str::to_string);
        if let Some(why_not) = why_not.or_else(|| self.why_behind_snapshot()) {
            let said = format!("{why}, but {why_not}");
            effects.note_about(NoteKind::Campaign, self.config.local.id, said);
            return self.keep_looking_for_leader(now);
        }
        if self.lets_others_stand(now, why, effects) {
            return;
        }
        self.campaigns[cause as usize] += 1;
        let said = format!("{why}: asking for pre-votes in epoch {}", self.state.epoch);
        effects.note_about(NoteKind::Campaign, self.config.local.id, said);
        let deadline = self.new_election_deadline(now);
        self.role = Role::Prospective(self.new_election(deadline));
        self.on_ballot_changed(now, effects);
        self.ask_voters(now, effects);
    }

    fn new_election(&self, deadline: u64) -> Election {
        let memory = self.memory();
        Election::new(deadline, &self.voters, self.config.local, self.grant_of(memory))
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
        self.remember_vote(self.epochs.last());
        effects.notes.push(format!(
            "standing in epoch {epoch} with a log that ends at {} in epoch {}",
            self.log_end(),
            self.epochs.last_epoch()
        ));
        let deadline = self.new_election_deadline(now);
        self.role = Role::Candidate(self.new_election(deadline));
        self.on_ballot_changed(now, effects);
    }

    /// Act on an election that may have been decided by the last ballot.
    fn on_ballot_changed(&mut self, now: Now, effects: &mut Effects) {
        let majority = self.voters.majority();
        match &mut self.role {
            Role::Prospective(election) if election.is_won(majority) => {
                if now.monotonic_ns < election.yields_until {
                    return;
                }
                let epoch = self.state.epoch;
                let is_near = |rival: &Rival| rival.epoch == epoch && now.monotonic_ns < rival.until_ns;
                let rival = self.rival.take().filter(is_near);
                // Who cannot win asks for ever, and so does a stranger in its name.
                let patience_ns = self.config.yield_patience_ms() * NS_PER_MS;
                let since_ns = *election.yields_since.get_or_insert(now.monotonic_ns);
                let is_patient = now.monotonic_ns < since_ns + patience_ns;
                if let Some(rival) = rival.filter(|_| is_patient) {
                    effects.notes.push(format!("{} asks for votes too: it goes first", rival.id));
                    election.yields_until = now.plus_ms(self.config.yield_wait_ms());
                    election.deadline = election.yields_until;
                    return;
                }
                self.become_candidate(now, effects);
                self.ask_voters(now, effects);
            }
            Role::Prospective(election) if election.is_lost(majority) => {
                let deadline = election.deadline;
                let said = "a majority denied me their pre-votes".to_string();
                effects.note_about(NoteKind::Campaign, self.config.local.id, said);
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
            Some(leader) => {
                self.become_follower(now, self.state.epoch, leader, effects);
                if let Role::Follower(follower) = &mut self.role {
                    follower.is_silent = true;
                }
            }
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
                let counts_memory = true;
                let request =
                    Request::Vote(VoteRequest { voter, epoch, candidate, last, pre_vote, counts_memory });
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
        if matches!(&self.role, Role::Prospective(election) if election.is_won(self.voters.majority())) {
            // Who was to go first has not.
            return self.on_ballot_changed(now, effects);
        }
        self.maybe_note_waiting(now, effects);
        let is_prospective = matches!(self.role, Role::Prospective(_));
        if is_prospective && self.state.leader.is_some() {
            let said = "too few pre-votes came within the election timeout".to_string();
            effects.note_about(NoteKind::Campaign, self.config.local.id, said);
            let deadline = self.new_election_deadline(now);
            self.leave_prospective(now, deadline, effects);
        } else {
            // Kafka goes to Unattached, whose timeout has passed too, and is back here at its next poll.
            self.campaign(now, Cause::ElectionTimeout, "the election timed out", effects);
        }
    }

    pub(super) fn on_vote_response(
        &mut self,
        now: Now,
        from: NodeId,
        response: VoteResponse,
        effects: &mut Effects,
    ) {
        let VoteResponse { error, leader, epoch, granted, memory, start } = response;
        if !self.is_current_response(now, from, error, epoch, leader, effects) {
            match self.second_leader(epoch, leader) {
                // As long as it is in this epoch it will not say anything else.
                Some(_) => self.record_ballot(now, from, Answer::Rejected, start, effects),
                None => self.ask_again(now, from),
            }
            return;
        }
        let is_prospective = matches!(self.role, Role::Prospective(_));
        let answer = match error {
            ErrorCode::NONE if granted => self.grant_of(memory),
            ErrorCode::NONE if memory == VoterMemory::Asking => return self.ask_later(now, from),
            ErrorCode::NONE | ErrorCode::INVALID_VOTER_KEY => Answer::Rejected,
            // A peer older than KIP-996 cannot deny a pre-vote (Kafka becomes a candidate at once).
            ErrorCode::UNSUPPORTED_VERSION if is_prospective => Answer::Granted,
            _ => {
                effects.note_about(
                    NoteKind::Answer,
                    from,
                    format!("{from} answered my Vote with {}", error.name()),
                );
                self.ask_again(now, from);
                return;
            }
        };
        self.record_ballot(now, from, answer, start, effects);
    }

    fn record_ballot(
        &mut self,
        now: Now,
        from: NodeId,
        answer: Answer,
        start: Option<Offset>,
        effects: &mut Effects,
    ) {
        if self.shutdown != Shutdown::No {
            return;
        }
        let (Role::Prospective(election) | Role::Candidate(election)) = &mut self.role else { return };
        let Some(ballot) = election.ballot_of(from) else { return };
        // A voter's first word counts: granting and rejecting exclude each other (Kafka: EpochElection).
        if matches!(ballot.answer, Answer::Asked | Answer::AskAt(_)) {
            (ballot.answer, ballot.start) = (answer, start);
            self.on_ballot_changed(now, effects);
        }
    }

    fn ask_again(&mut self, now: Now, from: NodeId) {
        self.on_request_failed(now, from, super::RequestKind::Vote);
    }

    /// It waits for others' answers first.
    fn ask_later(&mut self, now: Now, from: NodeId) {
        let at = now.plus_ms(self.config.retry_backoff_ms * ASKING_BACKOFFS);
        if let Role::Prospective(election) | Role::Candidate(election) = &mut self.role
            && let Some(ballot) = election.ballot_of(from)
            && ballot.answer == Answer::Asked
        {
            ballot.answer = Answer::AskAt(at);
        }
    }

    // --- granting

    pub(super) fn on_vote_request(
        &mut self,
        now: Now,
        request: VoteRequest,
        effects: &mut Effects,
    ) -> VoteResponse {
        let kind = if request.pre_vote { "pre-vote" } else { "vote" };
        let (candidate, epoch, last) = (request.candidate.id, request.epoch, request.last);
        let mut memory = self.memory();
        let note = if request.pre_vote { NoteKind::PreVote } else { NoteKind::Vote };
        let verdict = self.judge_vote_request(now, &request, effects);
        let (error, granted, said) = match verdict {
            Ok(()) => (ErrorCode::NONE, true, format!("granted {kind} to {candidate} in epoch {epoch}")),
            Err((error, why)) => {
                (error, false, format!("rejected {kind} for {candidate} in epoch {epoch}: {why}"))
            }
        };
        effects.note_about(note, candidate, said);
        let is_behind = !granted && error.is_none() && last < self.epochs.last();
        if is_behind {
            self.on_shorter_log(now, candidate, effects);
        }
        if granted && !request.pre_vote {
            self.vote_for(now, request.candidate, last);
        } else if granted {
            self.make_way(now, candidate, last);
        } else if error.is_none() && last >= self.epochs.last() && self.must_ask_before_voting(&request) {
            memory = VoterMemory::Asking;
        }
        let start = self.held_start();
        VoteResponse { error, leader: self.leader(), epoch: self.state.epoch, granted, memory, start }
    }

    /// Our pre-vote is granted. Two that stand together split the votes, and wait for an election timeout: of two that ask
    /// for pre-votes the one with the longer log goes first, then the one with the lower id; and who does not ask yet
    /// leaves the candidate the time of an election. Once: what is granted later moves nothing further.
    fn make_way(&mut self, now: Now, candidate: NodeId, last: OffsetAndEpoch) {
        let wait_ms = self.config.yield_wait_ms();
        if last > self.epochs.last() || candidate < self.config.local.id {
            // Who needs all votes asks for a while until it has them.
            let patience_ms = match self.has_whole_memory() {
                true => wait_ms,
                false => self.config.yield_patience_ms(),
            };
            let epoch = self.state.epoch;
            self.rival = Some(Rival { id: candidate, epoch, until_ns: now.plus_ms(patience_ms) });
        }
        let jitter_ms_max = self.config.fetch_jitter_ms_max();
        if let Role::Follower(follower) = &mut self.role
            && follower.has_fetched
        {
            let latest = follower.silent_at + (jitter_ms_max + wait_ms) * NS_PER_MS;
            follower.fetch_deadline = follower.fetch_deadline.max(now.plus_ms(wait_ms).min(latest));
        }
    }

    /// A voter asks in vain, because our log is longer. But it has lost sight of the leader; where we have too, two fetch
    /// timeouts have ended, and who is to lead is we. Kafka waits for its own next timeout: both have denied each other, and
    /// go back to the dead leader. Nothing here moves a follower that hears from its leader.
    fn on_shorter_log(&mut self, now: Now, candidate: NodeId, effects: &mut Effects) {
        // One after the other, should several have longer logs.
        let place = self.voters.place_beside(candidate).unwrap_or(0);
        let wait_ms = self.config.longer_log_wait_ms(place);
        let deadline = match &mut self.role {
            Role::Prospective(election) => {
                if election.ask_again_after_denial(candidate, now) {
                    effects.notes.push(format!("{candidate} asks too: asking it again"));
                    self.ask_voters(now, effects);
                }
                return;
            }
            Role::Follower(follower) if follower.has_lost_leader(now) => &mut follower.fetch_deadline,
            Role::Unattached(Unattached { election_deadline: Some(deadline), .. }) => deadline,
            _ => return,
        };
        if now.plus_ms(wait_ms) < *deadline {
            *deadline = now.plus_ms(wait_ms);
            effects
                .notes
                .push(format!("my log is longer than that of {candidate}: standing in {wait_ms} ms"));
        }
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
        self.check_epoch_distance(request.epoch).map_err(|why| (ErrorCode::INVALID_REQUEST, why))?;
        if self.voters.index_of(request.candidate).is_none() {
            return refuse(ErrorCode::NONE, "it is not a voter");
        }
        if request.epoch > self.state.epoch {
            if !self.believes_epoch(now, request.candidate.id, request.epoch, effects) {
                return refuse(
                    ErrorCode::UNKNOWN_LEADER_EPOCH,
                    "it is not confirmed that this epoch has come",
                );
            }
            self.become_unattached(now, request.epoch, effects);
        }
        if !self.voters.is_meant_for_local(request.voter) {
            return refuse(ErrorCode::INVALID_VOTER_KEY, "it meant another voter than me");
        }
        self.judge_candidate(now, request).map_err(|why| (ErrorCode::NONE, why))
    }

    fn judge_candidate(&self, now: Now, request: &VoteRequest) -> Result<(), String> {
        if !self.voters.local_is_voter() {
            return Err("I am an observer".to_string());
        }
        match &self.role {
            Role::Leader(_) => return Err("I lead this epoch".to_string()),
            Role::Follower(follower) if !request.pre_vote || follower.hears_leader(now) => {
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
        self.judge_candidate_log(request)
    }

    fn judge_candidate_log(&self, request: &VoteRequest) -> Result<(), String> {
        let (theirs, mine) = (request.last, self.epochs.last());
        if theirs < mine {
            return Err(format!(
                "its log ends at {} in epoch {}, mine at {} in epoch {}",
                theirs.offset, theirs.epoch, mine.offset, mine.epoch
            ));
        }
        if let Some(doubt) = self.why_not_helping(request) {
            return Err(doubt.to_string());
        }
        if !self.may_help(request) {
            return Err("my log was empty at my first start and I have not caught up with a leader since, \
                        so I vote for empty logs only"
                .to_string());
        }
        if self.must_ask_before_voting(request) {
            return Err(format!(
                "my log was empty at my first start, so I ask all other voters before my first vote; {} answered so far",
                self.heard.len()
            ));
        }
        Ok(())
    }

    /// The vote counts from the moment it is durable: everything of this step waits for that.
    fn vote_for(&mut self, now: Now, candidate: ReplicaKey, last: OffsetAndEpoch) {
        assert!(self.state.voted.is_none_or(|voted| is_voted(voted, candidate)), "a second vote");
        if self.state.voted.is_some() {
            return;
        }
        self.state.voted = Some(candidate);
        self.remember_vote(last);
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
