//! Leading: taking office, noticing that nobody follows any more, and handing over.
//!
//! A leader proves its epoch by BeginQuorumEpoch, keeps it as long as a majority fetches (check quorum), and gives
//! it up by EndQuorumEpoch. Having given up it still votes, but never again leads that epoch.

use super::effects::{Assigned, Effect, Effects, NoteKind};
use super::event::{BeginQuorumEpochRequest, EndQuorumEpochRequest, FetchRequest, LeaderResponse, Request};
use super::role::{Leader, OBSERVERS_MAX, Progress, Resigned, Role};
use super::{Raft, Shutdown};
use crate::types::*;

/// An observer that has not fetched for so long is forgotten (Kafka: LeaderState).
pub(super) const OBSERVER_SESSION_TIMEOUT_MS: u64 = 300_000;

impl Raft {
    // --- taking office

    /// The votes of a majority. Everything of this step waits until our leadership is durable.
    pub(super) fn become_leader(&mut self, now: Now, granting: Vec<NodeId>, effects: &mut Effects) {
        let epoch = self.state.epoch;
        let epoch_start = self.log_end().0;
        let decided = self.find_start(effects);
        self.state.leader = Some(self.config.local.id);
        // Elected, our log holds all that is committed; once on the disk, we have caught up for good. Never with an empty
        // log: by that a start knows one that was lost.
        if self.flushed.0 == epoch_start && epoch_start > Offset(0) {
            self.state.caught_up = true;
        }
        self.saw_beginning |= epoch_start == Offset(0);
        effects.notes.push(format!(
            "leading epoch {epoch} from offset {epoch_start}, elected by {}",
            granting.iter().map(|id| id.to_string()).collect::<Vec<_>>().join(", ")
        ));
        effects.at_once.push(Effect::AppendLeaderChange {
            base_offset: epoch_start,
            epoch,
            voters: self.voters.keys().iter().map(|key| key.id).collect(),
            granting: self.local_first(granting),
        });
        self.epochs.append(epoch, Offset(epoch_start.0 + 1));
        let is_only_voter = self.voters.local_is_only_voter();
        self.role = Role::Leader(Leader {
            epoch_start,
            has_begun: false,
            has_committed: false,
            progress: self.voters.keys().iter().map(|key| Progress::unknown(*key)).collect(),
            observers: Vec::new(),
            // KAFKA-15489: alone there is nobody to hear of.
            check_quorum_deadline: (!is_only_voter).then(|| self.config.check_quorum_deadline(now)),
            begin_at: now.monotonic_ns,
            reached: Vec::new(),
            decided,
        });
        self.on_elected_unfit(now);
        self.presence.on_heard(now);
        self.send_begin_quorum_epoch(now, effects);
    }

    /// Kafka lists the leader before the voters that it won.
    fn local_first(&self, mut granting: Vec<NodeId>) -> Vec<NodeId> {
        granting.sort_by_key(|id| (*id != self.config.local.id, *id));
        granting
    }

    /// To every voter that may not know of us: at first all, later (KAFKA-16926) those that did not fetch lately.
    fn send_begin_quorum_epoch(&mut self, now: Now, effects: &mut Effects) {
        let (local, epoch) = (self.config.local.id, self.state.epoch);
        let interval = self.config.begin_quorum_epoch_interval_ns();
        let Role::Leader(leader) = &mut self.role else { return };
        let since = now.monotonic_ns.saturating_sub(interval);
        for progress in &leader.progress {
            let is_fetching = progress.last_fetch_ns.is_some_and(|at| at > since);
            if progress.key.id != local && !is_fetching {
                let request = BeginQuorumEpochRequest { voter: Some(progress.key), leader: local, epoch };
                effects
                    .at_once
                    .push(Effect::Send { to: progress.key.id, request: Request::BeginQuorumEpoch(request) });
            }
        }
        leader.begin_at = now.monotonic_ns + interval;
    }

    pub(super) fn on_leader_tick(&mut self, now: Now, effects: &mut Effects) {
        let Role::Leader(leader) = &self.role else { return };
        if super::timer::has_passed(leader.check_quorum_deadline, now) {
            let heard: Vec<String> = leader
                .progress
                .iter()
                .filter(|progress| progress.has_fetched)
                .map(|progress| progress.key.id.to_string())
                .collect();
            let heard =
                if heard.is_empty() { "nobody".to_string() } else { format!("only {}", heard.join(", ")) };
            self.resign(now, &format!("{heard} fetched within 1.5 fetch timeouts"), effects);
        } else if leader.begin_at <= now.monotonic_ns {
            self.send_begin_quorum_epoch(now, effects);
        }
        if super::timer::has_passed(self.hand_over_due(), now) {
            self.maybe_hand_over(now, effects);
        }
    }

    /// A place for a client batch. No assertion on `offsets`: it began as a number on the wire.
    pub(super) fn on_append(&mut self, offsets: i64) -> Option<Assigned> {
        let base_offset = self.log_end().0;
        let new_end = base_offset.0.checked_add(offsets).filter(|_| offsets > 0)?;
        if !self.can_append() {
            return None;
        }
        let epoch = self.state.epoch;
        self.epochs.append(epoch, Offset(new_end));
        Some(Assigned { base_offset, epoch })
    }

    // --- who follows

    /// A valid Fetch: the replica is there, and durable up to its fetch offset.
    pub(super) fn on_replica_fetched(&mut self, now: Now, request: &FetchRequest, effects: &mut Effects) {
        let FetchRequest { replica, fetch_offset, unfit, .. } = *request;
        let leader_end = self.log_end().0;
        let voter = self.voters.index_of(replica);
        let Role::Leader(leader) = &mut self.role else { return };
        match voter.and_then(|index| leader.progress.get_mut(index)) {
            Some(progress) => {
                progress.on_fetch(now, fetch_offset, leader_end);
                progress.unfit = unfit;
                if let Some([one, other]) = progress.on_directory(replica.directory_id) {
                    let id = replica.id;
                    let said = format!(
                        "two processes fetch as voter {id}, with the directory ids {one} and {other}: what one of them holds \
                         is counted for the other. Stop one of the two"
                    );
                    effects.note_about(NoteKind::TwoDirectories, id, said);
                }
            }
            None => leader.on_observer_fetched(now, replica, fetch_offset, leader_end),
        }
        self.count_quorum(now);
        if let Some(place) = voter {
            self.on_held(place, request);
        }
    }

    /// A replica has fetched: is there a majority that has, since it was counted last?
    pub(super) fn count_quorum(&mut self, now: Now) {
        let needed = self.voters.majority_besides_leader();
        let check_quorum_deadline = self.config.check_quorum_deadline(now);
        let Role::Leader(leader) = &mut self.role else { return };
        if leader.progress.iter().filter(|progress| progress.has_fetched).count() >= needed {
            leader.progress.iter_mut().for_each(|progress| progress.has_fetched = false);
            leader.check_quorum_deadline = leader.check_quorum_deadline.map(|_| check_quorum_deadline);
            self.presence.on_heard(now);
        }
    }

    // --- giving up

    pub(super) fn on_flush_stalled(&mut self, now: Now, effects: &mut Effects) {
        if self.is_leader() {
            self.resign(now, "my disk has not finished a flush for too long", effects);
        }
    }

    pub(super) fn resign(&mut self, now: Now, why: &str, effects: &mut Effects) {
        let election_deadline = self.new_election_deadline(now);
        let Role::Leader(leader) = &self.role else { return };
        let mut others: Vec<&Progress> =
            leader.progress.iter().filter(|progress| progress.key.id != self.config.local.id).collect();
        others.sort_by_key(|progress| (progress.unfit.is_some(), std::cmp::Reverse(progress.log_end)));
        let preferred: Vec<ReplicaKey> = others.iter().map(|progress| progress.key).collect();
        let unacknowledged = preferred.iter().map(|key| (*key, Some(now.monotonic_ns))).collect();
        effects.notes.push(format!("resigned from epoch {}: {why}", self.state.epoch));
        self.role = Role::Resigned(Resigned { election_deadline, preferred, unacknowledged });
        self.send_end_quorum_epoch(now, effects);
    }

    /// Asked in vain for pre-votes after having led this epoch. Everybody has been told before.
    pub(super) fn resign_again(&mut self, now: Now) {
        let election_deadline = self.new_election_deadline(now);
        let (preferred, unacknowledged) = (Vec::new(), Vec::new());
        self.role = Role::Resigned(Resigned { election_deadline, preferred, unacknowledged });
    }

    pub(super) fn send_end_quorum_epoch(&mut self, now: Now, effects: &mut Effects) {
        let (leader, epoch) = (self.config.local.id, self.state.epoch);
        let Role::Resigned(resigned) = &mut self.role else { return };
        for (voter, at) in &mut resigned.unacknowledged {
            if super::timer::has_passed(*at, now) {
                *at = None;
                let preferred_candidates = resigned.preferred.clone();
                let request = EndQuorumEpochRequest { leader, epoch, preferred_candidates };
                effects
                    .at_once
                    .push(Effect::Send { to: voter.id, request: Request::EndQuorumEpoch(request) });
            }
        }
    }

    pub(super) fn on_begin_quorum_epoch_response(
        &mut self,
        now: Now,
        from: NodeId,
        response: LeaderResponse,
        effects: &mut Effects,
    ) {
        let LeaderResponse { error, leader, epoch } = response;
        // It needs no record: who has understood fetches.
        if self.is_current_response(now, from, error, epoch, leader, effects) && !error.is_none() {
            let said = format!("{from} answered my BeginQuorumEpoch with {}", error.name());
            effects.note_about(NoteKind::Answer, from, said);
        }
    }

    pub(super) fn on_end_quorum_epoch_response(
        &mut self,
        now: Now,
        from: NodeId,
        response: LeaderResponse,
        effects: &mut Effects,
    ) {
        let LeaderResponse { error, leader, epoch } = response;
        let is_current = self.is_current_response(now, from, error, epoch, leader, effects);
        if is_current && error.is_none() {
            if let Role::Resigned(resigned) = &mut self.role {
                resigned.unacknowledged.retain(|(voter, _)| voter.id != from);
            }
        } else {
            self.on_request_failed(now, from, super::RequestKind::EndQuorumEpoch);
        }
    }

    // --- shutting down

    pub(super) fn on_shutdown(&mut self, now: Now, effects: &mut Effects) {
        if self.shutdown != Shutdown::No {
            return;
        }
        if self.is_leader() {
            let deadline = now.plus_ms(self.config.request_timeout_ms);
            self.shutdown = Shutdown::HandingOver { deadline };
            self.resign(now, "shutting down", effects);
        } else {
            // Who does not lead has nothing to hand over.
            self.complete_shutdown(effects);
        }
    }

    /// Handed over when a later epoch has its leader, which took a majority, or when waiting longer helps nobody. That all
    /// have heard is not enough: its candidate may need our vote, because Kafka's voters still deny each other their
    /// pre-votes (KAFKA-20895), and lose a fetch timeout (Kafka: `GracefulShutdown`).
    pub(super) fn maybe_end_shutdown(&mut self, now: Now, effects: &mut Effects) {
        let Shutdown::HandingOver { deadline } = self.shutdown else { return };
        let is_waiting = match &self.role {
            Role::Resigned(_) | Role::Unattached(_) => !self.voters.local_is_only_voter(),
            _ => false,
        };
        if !is_waiting || deadline <= now.monotonic_ns {
            self.complete_shutdown(effects);
        }
    }

    fn complete_shutdown(&mut self, effects: &mut Effects) {
        self.shutdown = Shutdown::Complete;
        effects.notes.push("nothing is left to hand over: ready to stop".to_string());
        effects.at_once.push(Effect::ShutdownComplete);
    }
}

impl Leader {
    fn on_observer_fetched(&mut self, now: Now, key: ReplicaKey, fetch_offset: Offset, leader_end: Offset) {
        let timeout = OBSERVER_SESSION_TIMEOUT_MS * NS_PER_MS;
        let since = now.monotonic_ns.saturating_sub(timeout);
        if let Some(observer) = self.observers.iter_mut().find(|observer| observer.key == key) {
            return observer.on_fetch(now, fetch_offset, leader_end);
        }
        self.observers.retain(|observer| observer.last_fetch_ns.is_some_and(|at| at >= since));
        if self.observers.len() >= OBSERVERS_MAX
            && let Some(oldest) = (0..self.observers.len()).min_by_key(|i| self.observers[*i].last_fetch_ns)
        {
            self.observers.swap_remove(oldest);
        }
        let mut observer = Progress::unknown(key);
        observer.on_fetch(now, fetch_offset, leader_end);
        self.observers.push(observer);
    }
}

#[cfg(test)]
#[path = "leader_tests.rs"]
mod tests;
