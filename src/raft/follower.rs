//! Following: adopting a leader, keeping one Fetch under way to it, and noticing when it is gone.
//!
//! A Fetch at an offset promises that everything below is durable here, so it goes out at the flushed offset, or
//! waits at a gate until the log is flushed up to it.

use super::Raft;
use super::effects::{Effect, Effects};
use super::event::{BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, LeaderResponse, Request};
use super::role::{Fetcher, Follower, GATES_MAX, Gate, LeaderEnd, Role, Unattached};
use super::timer::{earliest, has_passed, succession_backoff_ms};
use super::voters::is_same_replica;
use crate::types::*;

/// A Fetch with it is not woken when only the high watermark moves (KIP-1166).
const DO_NOT_WAKE: HighWatermark = HighWatermark(Offset(i64::MAX));

impl Raft {
    // --- adopting a leader

    pub(super) fn become_follower(&mut self, now: Now, epoch: Epoch, leader: NodeId, effects: &mut Effects) {
        assert!(epoch >= self.state.epoch && leader != self.config.local.id, "{leader} in epoch {epoch}");
        let voted = self.state.voted.filter(|_| epoch == self.state.epoch);
        let caught_up = self.state.caught_up || self.is_first_leader(epoch, leader);
        self.state = QuorumState { epoch, leader: Some(leader), voted, caught_up };
        effects.notes.push(format!("following {leader} in epoch {epoch}"));
        self.role = Role::Follower(Follower {
            leader,
            fetch_deadline: self.config.fetch_deadline(now, &mut self.random),
            end: LeaderEnd::Silent,
            has_fetched: false,
            shared_end: Offset(0),
            gates: Vec::new(),
            fetcher: Fetcher::due_at(now.monotonic_ns),
        });
    }

    /// Whether a peer may say that this node leads this epoch. It may not when that contradicts what we know:
    /// then one of us is broken (Kafka stops its process; here the peer is dropped).
    pub(super) fn check_claim(&self, epoch: Epoch, leader: Option<NodeId>) -> Result<(), String> {
        if epoch == Epoch(i32::MAX) {
            return Err(format!("it is in epoch {epoch}, after which there is none"));
        }
        let Some(leader) = leader.filter(|_| epoch >= self.state.epoch) else { return Ok(()) };
        if !self.voters.contains(leader) {
            return Err(format!("it says that {leader} leads epoch {epoch}, which is not a voter"));
        }
        let known = self.state.leader.filter(|_| epoch == self.state.epoch);
        // Whose disk was emptied may have led it: `maybe_adopt` takes the epoch over, not the leader.
        if leader == self.config.local.id && known != Some(leader) && self.state.caught_up {
            return Err(format!("it says that I lead epoch {epoch}, which I do not"));
        }
        match known {
            Some(known) if known != leader => {
                Err(format!("it says that {leader} leads epoch {epoch}, in which {known} was elected"))
            }
            _ => Ok(()),
        }
    }

    /// Adopt a newer epoch, or the leader of this one (Kafka: KafkaRaftClient.maybeTransition).
    /// `check_claim` has been passed.
    fn maybe_adopt(&mut self, now: Now, epoch: Epoch, leader: Option<NodeId>, effects: &mut Effects) {
        let elected = leader.filter(|leader| *leader != self.config.local.id);
        let leader = elected.filter(|leader| self.may_follow(epoch, *leader));
        let is_new = epoch > self.state.epoch;
        match leader {
            Some(leader) if is_new => self.become_follower(now, epoch, leader, effects),
            None if is_new => {
                self.become_unattached(now, epoch, effects);
                effects.notes.extend(elected.map(|leader| self.why_not_following(leader)));
            }
            Some(leader) if epoch == self.state.epoch && self.is_seeking_leader() => {
                self.become_follower(now, epoch, leader, effects)
            }
            _ => {}
        }
    }

    fn is_seeking_leader(&self) -> bool {
        self.state.leader.is_none() || matches!(self.role, Role::Unattached(_))
    }

    /// What all answers have in common (Kafka: maybeHandleCommonResponse). True: it belongs to our epoch, and
    /// the caller acts on the rest of it.
    pub(super) fn is_current_response(
        &mut self,
        now: Now,
        from: NodeId,
        error: ErrorCode,
        epoch: Epoch,
        leader: Option<NodeId>,
        effects: &mut Effects,
    ) -> bool {
        if epoch < self.state.epoch || error == ErrorCode::UNKNOWN_LEADER_EPOCH {
            return false;
        }
        if let Err(why) = self.check_claim(epoch, leader) {
            self.drop_peer(from, why, effects);
            return false;
        }
        let is_older = epoch > self.state.epoch
            || error == ErrorCode::FENCED_LEADER_EPOCH
            || error == ErrorCode::NOT_LEADER_OR_FOLLOWER;
        self.maybe_adopt(now, epoch, leader, effects);
        !is_older
    }

    pub(super) fn drop_peer(&mut self, node: NodeId, why: String, effects: &mut Effects) {
        effects.at_once.push(Effect::DropPeer { node, why });
    }

    // --- what leaders ask

    pub(super) fn on_begin_quorum_epoch_request(
        &mut self,
        now: Now,
        request: BeginQuorumEpochRequest,
        effects: &mut Effects,
    ) -> LeaderResponse {
        let mut error = self.on_leader_request(now, request.leader, request.epoch, effects);
        if error.is_none() && !self.voters.is_meant_for_local(request.voter) {
            error = ErrorCode::INVALID_VOTER_KEY;
        }
        LeaderResponse { error, leader: self.leader(), epoch: self.state.epoch }
    }

    pub(super) fn on_end_quorum_epoch_request(
        &mut self,
        now: Now,
        request: EndQuorumEpochRequest,
        effects: &mut Effects,
    ) -> LeaderResponse {
        let error = self.on_leader_request(now, request.leader, request.epoch, effects);
        if error.is_none() {
            self.on_leader_ended(now, &request, effects);
        }
        LeaderResponse { error, leader: self.leader(), epoch: self.state.epoch }
    }

    /// Checks and transition that Begin and End share.
    fn on_leader_request(
        &mut self,
        now: Now,
        leader: NodeId,
        epoch: Epoch,
        effects: &mut Effects,
    ) -> ErrorCode {
        if epoch < self.state.epoch {
            return ErrorCode::FENCED_LEADER_EPOCH;
        }
        if leader.0 < 0 {
            return ErrorCode::INVALID_REQUEST;
        }
        if let Err(why) = self.check_claim(epoch, Some(leader)) {
            self.drop_peer(leader, why, effects);
            return ErrorCode::INVALID_REQUEST;
        }
        if leader == self.config.local.id {
            return ErrorCode::INVALID_REQUEST;
        }
        let was_new = epoch > self.state.epoch;
        self.maybe_adopt(now, epoch, Some(leader), effects);
        if !self.may_follow(epoch, leader) {
            effects.notes.extend(Some(self.why_not_following(leader)).filter(|_| !was_new));
        } else if matches!(self.role, Role::Prospective(_)) {
            // It speaks, so it lives: no reason to ask for pre-votes against it.
            self.become_follower(now, epoch, leader, effects);
        }
        ErrorCode::NONE
    }

    /// The leader resigned: stand when it is our turn.
    fn on_leader_ended(&mut self, now: Now, request: &EndQuorumEpochRequest, effects: &mut Effects) {
        let local = self.config.local;
        let place = request.preferred_candidates.iter().position(|key| is_same_replica(*key, local));
        let candidates = request.preferred_candidates.len();
        let backoff_ms_max = self.config.election_backoff_max_ms;
        let wait_ms = if candidates == 0 {
            // A leader that restarted knows no order. Kafka lets all stand at once, which splits the vote.
            self.random.below(backoff_ms_max + 1)
        } else {
            succession_backoff_ms(place, candidates, backoff_ms_max)
        };
        let is_voter = self.voters.local_is_voter();
        let Role::Follower(follower) = &mut self.role else { return };
        if follower.leader != request.leader || !is_voter {
            return;
        }
        follower.fetch_deadline = now.plus_ms(wait_ms);
        follower.end = LeaderEnd::Resigned;
        // KAFKA-20895: it is gone by its own word, so others' pre-votes need not wait for our fetch timeout.
        follower.has_fetched = false;
        effects
            .notes
            .push(format!("{} resigned: standing in {wait_ms} ms unless another does", request.leader));
    }

    /// The leader's process has ended: no need to wait out the fetch timeout, which Kafka does. Where only our path to
    /// it is closed, the others hear from it and deny us their pre-votes, and the fetch timeout is waited out.
    pub(super) fn on_refused(&mut self, now: Now, by: NodeId, effects: &mut Effects) {
        let Some(place) = self.voters.place_beside(by) else { return };
        let wait_ms = self.config.refused_leader_wait_ms(place);
        let Role::Follower(follower) = &mut self.role else { return };
        let deadline = now.plus_ms(wait_ms);
        if follower.leader != by || !follower.has_fetched || follower.fetch_deadline <= deadline {
            return;
        }
        follower.fetch_deadline = deadline;
        follower.end = LeaderEnd::Refused;
        // The others' pre-votes need not wait for our fetch timeout either.
        follower.has_fetched = false;
        effects
            .notes
            .push(format!("nobody listens where {by} led: standing in {wait_ms} ms unless another does"));
    }

    pub(super) fn on_fetch_timeout(&mut self, now: Now, effects: &mut Effects) {
        let Role::Follower(follower) = &self.role else { return };
        let leader = follower.leader;
        let why = match follower.end {
            LeaderEnd::Silent => format!("no answer from {leader} within the fetch timeout"),
            LeaderEnd::Resigned => format!("{leader} resigned"),
            LeaderEnd::Refused => format!("nobody listens where {leader} led"),
        };
        if self.voters.local_is_voter() {
            self.campaign(now, &why, effects);
        } else {
            effects.notes.push(format!("{why}: looking for a leader"));
            let fetcher = Fetcher::due_at(now.monotonic_ns);
            self.role = Role::Unattached(Unattached { election_deadline: None, fetcher });
        }
    }

    // --- our Fetches

    /// One is no longer under way. Unless a good answer says otherwise, the next one waits for the retry backoff.
    pub(super) fn on_fetch_settled(&mut self, now: Now, from: NodeId) {
        let retry_at = self.config.retry_at(now);
        let is_gated = matches!(&self.role, Role::Follower(follower) if !follower.gates.is_empty());
        let Some(fetcher) = self.role.fetcher() else { return };
        if fetcher.on_settled(from) && fetcher.outstanding == 0 && fetcher.due.is_none() && !is_gated {
            fetcher.due = Some(retry_at);
        }
    }

    /// A good answer has been dealt with: fetch on, behind the flush of what it brought.
    pub(super) fn fetch_on(&mut self, now: Now, is_displaced: bool) {
        let end = self.log_end().0;
        let is_flushed = self.flushed.0 == end;
        let next = if is_displaced { self.config.retry_at(now) } else { now.monotonic_ns };
        let Role::Follower(follower) = &mut self.role else { return };
        if !is_flushed {
            follower.fetcher.due = None;
            if follower.gates.last().is_none_or(|gate| gate.offset < end) {
                follower.gates.push(Gate { offset: end, is_handed_out: false });
            }
        } else if follower.fetcher.outstanding == 0 {
            follower.fetcher.due = Some(next);
        }
    }

    /// Records that came while so many Fetches wait for the disk are left for the next answer.
    pub(super) fn has_room_for_gate(&self) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.gates.len() < GATES_MAX)
    }

    /// Gates that stand at or below the flushed offset are open: the caller sends those that it was handed.
    pub(super) fn on_gates_flushed(&mut self, now: Now) {
        let flushed = self.flushed.0;
        let Role::Follower(follower) = &mut self.role else { return };
        let open = follower.gates.iter().take_while(|gate| gate.offset <= flushed).count();
        let mut sent_by_caller = false;
        for gate in follower.gates.drain(..open) {
            if gate.is_handed_out {
                sent_by_caller = true;
                follower.fetcher.on_sent(follower.leader, now);
            }
        }
        if open > 0 && !sent_by_caller {
            follower.fetcher.due = Some(now.monotonic_ns);
        }
    }

    pub(super) fn hand_out_gates(&mut self, effects: &mut Effects) {
        while let Role::Follower(follower) = &mut self.role
            && let Some(gate) = follower.gates.iter_mut().find(|gate| !gate.is_handed_out)
        {
            gate.is_handed_out = true;
            let (to, offset) = (follower.leader, gate.offset);
            let request = self.fetch_request(offset, self.config.fetch_wait_ms_max);
            effects.after_flush.push((FlushedOffset(offset), Effect::Send { to, request }));
        }
    }

    fn fetch_request(&self, fetch_offset: Offset, wait_ms_max: u64) -> Request {
        // Until we have caught up once we want to hear of the high watermark as soon as it moves: our vote
        // hangs on it. After that it comes with the next records.
        let is_settled = self.state.caught_up || !self.voters.local_is_voter();
        Request::Fetch(FetchRequest {
            replica: self.config.local,
            epoch: self.state.epoch,
            fetch_offset,
            last_fetched_epoch: self.epochs.epoch_before(fetch_offset),
            max_wait_ms: i32::try_from(wait_ms_max).unwrap_or(i32::MAX),
            high_watermark: if is_settled { Some(DO_NOT_WAKE) } else { self.high_watermark },
        })
    }

    /// When `maybe_fetch` has something to do.
    pub(super) fn fetch_due(&self) -> Option<u64> {
        match &self.role {
            Role::Unattached(unattached) => {
                self.voters.others().next()?;
                earliest(unattached.fetcher.due, self.lost_at(&unattached.fetcher))
            }
            Role::Follower(_) if self.truncating.is_some() => None,
            Role::Follower(follower) => {
                let fetcher = &follower.fetcher;
                let heartbeat = fetcher.sent_ns + self.config.heartbeat_ns();
                let is_waiting_for_disk = !follower.gates.is_empty() && fetcher.outstanding == 0;
                let heartbeat = Some(heartbeat).filter(|_| is_waiting_for_disk);
                earliest(earliest(fetcher.due, heartbeat), self.lost_at(fetcher))
            }
            _ => None,
        }
    }

    /// A Fetch that is neither answered nor reported as failed must not silence us for ever.
    fn lost_at(&self, fetcher: &Fetcher) -> Option<u64> {
        let patience_ms = self.config.request_timeout_ms + self.config.fetch_wait_ms_max;
        (fetcher.outstanding > 0).then(|| fetcher.sent_ns + patience_ms * NS_PER_MS)
    }

    pub(super) fn maybe_fetch(&mut self, now: Now, effects: &mut Effects) {
        if !has_passed(self.fetch_due(), now) {
            return;
        }
        let (to, wait_ms_max) = match &self.role {
            Role::Follower(follower) => (Some(follower.leader), self.config.fetch_wait_ms_max),
            // A search is not to be parked.
            _ => (self.any_other_voter(), 0),
        };
        let request = self.fetch_request(self.flushed.0, wait_ms_max);
        let lost_at = self.role.fetcher().cloned().and_then(|fetcher| self.lost_at(&fetcher));
        let (Some(to), Some(fetcher)) = (to, self.role.fetcher()) else { return };
        if has_passed(lost_at, now) {
            fetcher.outstanding = 0;
        }
        fetcher.on_sent(to, now);
        effects.at_once.push(Effect::Send { to, request });
    }

    fn any_other_voter(&mut self) -> Option<NodeId> {
        let others = self.voters.others().count() as u64;
        let chosen = self.random.below(others) as usize;
        self.voters.others().nth(chosen).map(|key| key.id)
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
