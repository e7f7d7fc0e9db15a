//! Following: adopting a leader, keeping one Fetch under way to it, and noticing when it is gone.
//!
//! A Fetch at an offset promises that everything below is durable here, so it goes out at the flushed offset, or
//! waits at a gate until the log is flushed up to it.

use super::effects::{Effect, Effects, NoteKind};
use super::event::{BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, LeaderResponse, Request};
use super::role::{Fetcher, Follower, GATES_MAX, Gate, LeaderEnd, Role, Unattached};
use super::timer::{earliest, has_passed, succession_backoff_ms};
use super::voters::is_same_replica;
use super::{Cause, Raft, Unfit};
use crate::types::*;

/// A Fetch with it is not woken when only the high watermark moves (KIP-1166).
const DO_NOT_WAKE: HighWatermark = HighWatermark(Offset(i64::MAX));

impl Raft {
    // --- an answer has come

    /// One is no longer under way. Unless a good answer says otherwise, the next one waits for the retry backoff.
    pub(super) fn on_fetch_settled(&mut self, now: Now, from: NodeId) {
        if self.role.fetcher().is_some_and(|fetcher| fetcher.on_settled(from)) {
            self.fetch_after_backoff(now);
        }
    }

    pub(super) fn on_fetches_failed(&mut self, now: Now, to: NodeId) {
        if self.role.fetcher().is_some_and(|fetcher| fetcher.on_failed(to)) {
            self.fetch_after_backoff(now);
        }
    }

    fn fetch_after_backoff(&mut self, now: Now) {
        let retry_at = self.config.retry_at(now);
        let is_gated = matches!(&self.role, Role::Follower(follower) if !follower.gates.is_empty());
        let Some(fetcher) = self.role.fetcher() else { return };
        if fetcher.outstanding == 0 && fetcher.due.is_none() && !is_gated {
            fetcher.due = Some(retry_at);
        }
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
        if let Some(second) = self.second_leader(epoch, leader) {
            self.on_second_leader(now, second, second == from, effects);
            return false;
        }
        if let Err(why) = self.check_claim(epoch, leader) {
            self.drop_peer(from, why, effects);
            return false;
        }
        let is_said_to_lead = leader == Some(self.config.local.id) && self.state.leader != leader;
        if is_said_to_lead && self.has_whole_memory() {
            // It has believed a stranger, or its disk is not what it was. What else it says counts (Kafka stops its process):
            // without its vote nobody might be elected any more. Whose disk was emptied may have led that epoch.
            let said = format!("{from} says that I lead epoch {epoch}, which I do not");
            effects.note_about(NoteKind::Impossible, from, said);
        }
        let is_older = epoch > self.state.epoch
            || error == ErrorCode::FENCED_LEADER_EPOCH
            || error == ErrorCode::NOT_LEADER_OR_FOLLOWER;
        self.maybe_adopt(now, from, epoch, leader, effects);
        !is_older
    }

    /// Whether a peer may say that this node leads this epoch. It may not when that contradicts what we know:
    /// then one of us is broken (Kafka stops its process; here the peer is dropped).
    fn check_claim(&self, epoch: Epoch, leader: Option<NodeId>) -> Result<(), String> {
        if epoch == Epoch(i32::MAX) {
            return Err(format!("it is in epoch {epoch}, after which there is none"));
        }
        self.check_epoch_distance(epoch)?;
        let Some(leader) = leader.filter(|_| epoch >= self.state.epoch) else { return Ok(()) };
        if !self.voters.contains(leader) {
            return Err(format!("it says that {leader} leads epoch {epoch}, which is not a voter"));
        }
        let known = self.state.leader.filter(|_| epoch == self.state.epoch);
        match known {
            // That we lead it: see `is_current_response`.
            Some(known) if known != leader && leader != self.config.local.id => {
                Err(format!("it says that {leader} leads epoch {epoch}, in which {known} was elected"))
            }
            _ => Ok(()),
        }
    }

    /// Adopt a newer epoch, or the leader of this one, as `from` answers it (Kafka: KafkaRaftClient.maybeTransition). A leader
    /// is followed on its own word alone: who names another one may have believed a stranger, and so that one is asked.
    /// `check_claim` has been passed.
    fn maybe_adopt(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        leader: Option<NodeId>,
        effects: &mut Effects,
    ) {
        let elected = leader.filter(|leader| *leader != self.config.local.id);
        let is_new = epoch > self.state.epoch;
        let follows = elected == Some(from) && self.may_follow(epoch, from);
        if follows && (is_new || self.is_seeking_leader()) {
            return self.become_follower(now, epoch, from, effects);
        }
        // An observer has no part in an epoch that nobody leads, and would not come back from one that only a lost disk had known.
        if is_new && (self.voters.local_is_voter() || leader.is_some()) {
            self.become_unattached(now, epoch, effects);
        }
        let Some(leader) = elected.filter(|_| self.is_seeking_leader()) else { return };
        if leader != from {
            self.ask(now, leader, effects);
        } else if is_new {
            effects.note_about(NoteKind::NotFollowing, leader, self.why_not_following(leader));
        }
    }

    fn is_seeking_leader(&self) -> bool {
        self.state.leader.is_none() || matches!(self.role, Role::Unattached(_))
    }

    pub(super) fn become_follower(&mut self, now: Now, epoch: Epoch, leader: NodeId, effects: &mut Effects) {
        assert!(epoch >= self.state.epoch && leader != self.config.local.id, "{leader} in epoch {epoch}");
        let voted = self.state.voted.filter(|_| epoch == self.state.epoch);
        if epoch > self.state.epoch || self.state.leader.is_none() {
            // News: whoever tells it has heard of the election lately.
            self.presence.on_heard(now);
        }
        self.saw_beginning |= self.is_first_leader(epoch, leader);
        self.state = QuorumState { epoch, leader: Some(leader), voted, ..self.state };
        effects.note_about(NoteKind::Following, leader, format!("following {leader} in epoch {epoch}"));
        let deadline = self.config.fetch_deadline(now, &mut self.random);
        self.role = Role::Follower(Follower::new(leader, deadline, now));
        self.start.on_new_leader();
    }

    pub(super) fn drop_peer(&mut self, node: NodeId, why: String, effects: &mut Effects) {
        effects.at_once.push(Effect::DropPeer { node, why });
    }

    // --- our Fetches

    /// Records that came while so many Fetches wait for the disk are left for the next answer.
    pub(super) fn has_room_for_gate(&self) -> bool {
        matches!(&self.role, Role::Follower(follower) if follower.gates.len() < GATES_MAX)
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

    pub(super) fn maybe_fetch(&mut self, now: Now, effects: &mut Effects) {
        if !has_passed(self.fetch_due(), now) {
            return;
        }
        let to = match &self.role {
            Role::Follower(follower) => Some(follower.leader),
            _ => self.any_other_voter(),
        };
        let mut request = self.fetch_request(self.flushed.0, self.fetch_wait_ms(now), self.waits_for_room());
        let lost_at = self.role.fetcher().cloned().and_then(|fetcher| self.lost_at(&fetcher));
        let (Some(to), Some(fetcher)) = (to, self.role.fetcher()) else { return };
        if has_passed(lost_at, now) {
            fetcher.outstanding = 0;
        }
        fetcher.on_sent(to, now);
        if let Request::Fetch(fetch) = &mut request {
            fetch.wall_ms = self.clock_to_say(now);
        }
        effects.at_once.push(Effect::Send { to, request });
    }

    /// When `maybe_fetch` has something to do.
    pub(super) fn fetch_due(&self) -> Option<u64> {
        match &self.role {
            // What it would say is durable is being replaced.
            _ if self.is_placing() => None,
            Role::Unattached(unattached) => {
                self.voters.others().next()?;
                earliest(unattached.fetcher.due, self.lost_at(&unattached.fetcher))
            }
            Role::Follower(_) if self.truncating.is_some() => None,
            Role::Follower(follower) => {
                let fetcher = &follower.fetcher;
                let heartbeat = fetcher.sent_ns + self.heartbeat_ns(follower);
                let is_waiting_for_disk = !follower.gates.is_empty() && fetcher.outstanding == 0;
                let heartbeat = Some(heartbeat).filter(|_| is_waiting_for_disk);
                earliest(earliest(fetcher.due, heartbeat), self.lost_at(fetcher))
            }
            _ => None,
        }
    }

    /// The time after which a Fetch that says only that this node lives goes out.
    pub(super) fn next_heartbeat_ns(&self, now: Now) -> u64 {
        now.monotonic_ns + self.config.heartbeat_ns()
    }

    /// Where the disk is full it takes long. One that was not answered well is followed by the next as soon as ever.
    fn heartbeat_ns(&self, follower: &Follower) -> u64 {
        let answered_until = follower.fetcher.sent_ns + self.config.fetch_timeout_ms * NS_PER_MS;
        let is_answered = follower.fetch_deadline >= answered_until;
        if is_answered && self.waits_for_room() {
            self.config.calm_heartbeat_ns()
        } else {
            self.config.heartbeat_ns()
        }
    }

    /// Its log is not flushed because the disk is full, perhaps for hours. What the leader has for it is what it holds already.
    fn waits_for_room(&self) -> bool {
        let is_gated = matches!(&self.role, Role::Follower(follower) if !follower.gates.is_empty());
        is_gated && self.unfit() == Some(Unfit::DiskFull)
    }

    /// A Fetch that is neither answered nor reported as failed must not silence us for ever.
    fn lost_at(&self, fetcher: &Fetcher) -> Option<u64> {
        let patience_ms = self.config.request_timeout_ms + self.config.fetch_wait_ms_max;
        (fetcher.outstanding > 0).then(|| fetcher.sent_ns + patience_ms * NS_PER_MS)
    }

    /// Every other time one that has not told its epoch yet, where that is waited for.
    fn any_other_voter(&mut self) -> Option<NodeId> {
        let last = self.role.fetcher().and_then(|fetcher| fetcher.to);
        let unheard = self.unheard();
        let others: Vec<NodeId> = match unheard.is_empty() || last.is_some_and(|to| unheard.contains(&to)) {
            true => self.voters.others().map(|key| key.id).collect(),
            false => unheard,
        };
        let chosen = self.random.below(others.len() as u64) as usize;
        others.get(chosen).copied()
    }

    pub(super) fn hand_out_gates(&mut self, effects: &mut Effects) {
        while let Role::Follower(follower) = &mut self.role
            && let Some(gate) = follower.gates.iter_mut().find(|gate| !gate.is_handed_out)
        {
            gate.is_handed_out = true;
            let (to, offset) = (follower.leader, gate.offset);
            let request = self.fetch_request(offset, self.config.fetch_wait_ms_max, false);
            effects.after_flush.push((FlushedOffset(offset), Effect::Send { to, request }));
        }
    }

    fn fetch_request(&self, fetch_offset: Offset, wait_ms_max: u64, one_batch: bool) -> Request {
        // Until we have caught up once we want to hear of the high watermark as soon as it moves: our vote
        // hangs on it. After that it comes with the next records.
        let is_settled = !self.state.in_doubt && (self.state.caught_up || !self.voters.local_is_voter());
        Request::Fetch(FetchRequest {
            replica: self.config.local,
            epoch: self.state.epoch,
            fetch_offset,
            last_fetched_epoch: self.epochs.epoch_before(fetch_offset),
            max_wait_ms: i32::try_from(wait_ms_max).unwrap_or(i32::MAX),
            high_watermark: if is_settled { Some(DO_NOT_WAKE) } else { self.high_watermark },
            unfit: self.unfit(),
            one_batch,
            log_start: self.held_start(),
            wall_ms: None,
        })
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

    /// What has waited for a flush, or for the quorum state, is about to be carried out: that may have taken long.
    pub(crate) fn on_released(&mut self, now: Now, effect: &mut Effect) {
        if let Effect::Send { request: Request::Fetch(fetch), .. } = effect {
            let left_ms = i32::try_from(self.fetch_wait_ms(now)).unwrap_or(i32::MAX);
            fetch.max_wait_ms = fetch.max_wait_ms.min(left_ms);
            fetch.log_start = self.held_start();
            fetch.wall_ms = fetch.wall_ms.or_else(|| self.clock_to_say(now));
        }
    }

    /// How long a Fetch that goes out now may wait for records. One after a broken connection, or behind a slow flush, has less
    /// time: if its answer came as late as any, the leader would be given up.
    fn fetch_wait_ms(&self, now: Now) -> u64 {
        let Role::Follower(follower) = &self.role else {
            // A search is not to be parked.
            return 0;
        };
        let left_ms = follower.fetch_deadline.saturating_sub(now.monotonic_ns) / NS_PER_MS;
        self.config.fetch_wait_ms_max.min(left_ms / 2)
    }

    // --- what leaders ask

    pub(super) fn on_begin_quorum_epoch_request(
        &mut self,
        now: Now,
        request: BeginQuorumEpochRequest,
        effects: &mut Effects,
    ) -> LeaderResponse {
        let mut error = self.on_leader_request(now, request.leader, request.epoch, effects);
        if error.is_none() {
            self.on_leader_named(now, request.leader, effects);
        }
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
        let mut error = self.on_leader_request(now, request.leader, request.epoch, effects);
        if error.is_none() && matches!(self.role, Role::Prospective(_)) && self.state.leader.is_some() {
            // It is to say so again: should we be denied the pre-votes, we follow it once more.
            error = ErrorCode::UNKNOWN_LEADER_EPOCH;
        }
        if error.is_none() && self.is_end_confirmed(now, &request, effects) {
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
        let is_own_name = leader == self.config.local.id;
        let own_name = if is_own_name { Err("nobody else speaks for me".to_string()) } else { Ok(()) };
        if let Err(why) = self.check_claim(epoch, Some(leader)).and(own_name) {
            // Whoever said so: our own connections to that node are no part of it.
            let said = format!("refused a request in the name of {leader}: {why}");
            effects.note_about(NoteKind::Impossible, leader, said);
            if let Some(second) = self.second_leader(epoch, Some(leader)) {
                self.ask(now, second, effects);
            }
            return ErrorCode::INVALID_REQUEST;
        }
        let was_new = epoch > self.state.epoch;
        if was_new && !self.believes_epoch(now, leader, epoch, effects) {
            return ErrorCode::UNKNOWN_LEADER_EPOCH;
        }
        if self.is_credulous {
            self.maybe_adopt(now, leader, epoch, Some(leader), effects);
        } else if was_new {
            self.become_unattached(now, epoch, effects);
        }
        ErrorCode::NONE
    }

    /// A request says that it leads our epoch. Nobody takes a request's word for it: who followed one that no voter elected
    /// would follow it as long as the epoch lasts. It is asked, and its answer makes us follow.
    fn on_leader_named(&mut self, now: Now, leader: NodeId, effects: &mut Effects) {
        if !self.may_follow(self.state.epoch, leader) {
            effects.note_about(NoteKind::NotFollowing, leader, self.why_not_following(leader));
        }
        if self.is_seeking_leader() || matches!(self.role, Role::Prospective(_)) {
            self.ask(now, leader, effects);
        }
    }

    /// It has answered our question. Where we ask for pre-votes against it there is no reason to any more: it lives.
    pub(super) fn on_leader_confirmed(&mut self, now: Now, leader: NodeId, effects: &mut Effects) {
        if matches!(self.role, Role::Prospective(_)) && self.state.leader == Some(leader) {
            self.become_follower(now, self.state.epoch, leader, effects);
        }
    }

    /// The leader resigned: stand when it is our turn.
    pub(super) fn on_leader_ended(
        &mut self,
        now: Now,
        request: &EndQuorumEpochRequest,
        effects: &mut Effects,
    ) {
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
        // Never later: said again and again it would keep us from standing.
        follower.fetch_deadline = follower.fetch_deadline.min(now.plus_ms(wait_ms));
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
        if self.on_end_confirmed(now, by, effects) {
            return;
        }
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
        let (cause, why) = match follower.end {
            LeaderEnd::Silent => {
                (Cause::FetchTimeout, format!("no answer from {leader} within the fetch timeout"))
            }
            LeaderEnd::Resigned => (Cause::LeaderResigned, format!("{leader} resigned")),
            LeaderEnd::Refused => (Cause::LeaderGone, format!("nobody listens where {leader} led")),
        };
        if self.voters.local_is_voter() {
            self.campaign(now, cause, &why, effects);
        } else {
            effects.notes.push(format!("{why}: looking for a leader"));
            let fetcher = Fetcher::due_at(now.monotonic_ns);
            self.role = Role::Unattached(Unattached { election_deadline: None, fetcher });
        }
    }
}

#[cfg(test)]
#[path = "follower_tests.rs"]
mod tests;
