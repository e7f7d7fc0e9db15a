//! One Fetch from both sides: the leader judges a position, the follower takes what comes back.
//!
//! The leader's side decides whether two logs agree, not what bytes to serve. The follower's side appends, skips
//! what it holds and cuts what the leader does not hold. It never cuts below what it knows to be committed, or knew before
//! its last start: a leader that lacks that has lost its log, or has another cluster's, and so this node stops.

use super::Raft;
use super::effects::{Effect, Effects, FetchVerdict, NoteKind};
use super::event::{BatchSpan, FetchRequest, FetchResponse};
use super::role::Role;
use crate::types::*;

/// An empty answer that comes sooner than this share of the wait was pushed out by a newer Fetch of ours.
const DISPLACED_DIVISOR: u64 = 2;

/// What to do with the batches of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Append from this one on; all before it are in our log.
    Append { first: usize },
    /// Ours parts from the leader's here, where it has a batch of this epoch: cut, and fetch again.
    Conflict { at: Offset, epoch: Epoch },
}

impl Raft {
    // --- the leader's side

    /// Checks in Kafka's order (KafkaRaftClient.handleFetchRequest, validateLeaderOnlyRequest).
    pub(super) fn on_fetch_request(
        &mut self,
        now: Now,
        request: &FetchRequest,
        effects: &mut Effects,
    ) -> FetchVerdict {
        if let Err(error) = self.judge_fetch(request).and_then(|()| self.judge_held(request)) {
            return FetchVerdict::Refused(error);
        }
        if let Some(verdict) = self.judge_begin(now, request, effects) {
            return verdict;
        }
        if let Err(end) = self.epochs.check_position(request.fetch_offset, request.last_fetched_epoch) {
            let said = format!(
                "{} has epoch {} before offset {}, I do not: it must cut to {} of epoch {}",
                request.replica.id, request.last_fetched_epoch, request.fetch_offset, end.offset, end.epoch
            );
            effects.note_about(NoteKind::Fetch, request.replica.id, said);
            return FetchVerdict::Diverging(end);
        }
        // Consumers reading as replica -1 have no progress that counts.
        if request.replica.id.0 >= 0 {
            self.on_replica_fetched(now, request, effects);
            self.maybe_advance_high_watermark(effects);
            self.maybe_hand_over(now, effects);
        }
        if !self.is_leader() {
            return FetchVerdict::Refused(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        FetchVerdict::Read { from: request.fetch_offset }
    }

    fn judge_fetch(&self, request: &FetchRequest) -> Result<(), ErrorCode> {
        if request.max_wait_ms < 0
            || request.fetch_offset.0 < 0
            || request.last_fetched_epoch.0 < 0
            || request.last_fetched_epoch > request.epoch
        {
            return Err(ErrorCode::INVALID_REQUEST);
        }
        if request.epoch < self.state.epoch {
            return Err(ErrorCode::FENCED_LEADER_EPOCH);
        }
        if request.epoch > self.state.epoch {
            return Err(ErrorCode::UNKNOWN_LEADER_EPOCH);
        }
        if !self.is_leader() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if request.replica.id == self.config.local.id {
            // Somebody runs under our id. Kafka throws here, and answers with this.
            return Err(ErrorCode::UNKNOWN_SERVER_ERROR);
        }
        Ok(())
    }

    // --- the follower's side

    pub(super) fn on_fetch_response(
        &mut self,
        now: Now,
        from: NodeId,
        response: &FetchResponse,
        effects: &mut Effects,
    ) {
        let sent_ns = self.role.fetcher().map_or(0, |fetcher| fetcher.sent_ns);
        self.on_fetch_settled(now, from);
        let FetchResponse { error, leader, epoch, .. } = *response;
        if error == ErrorCode::NOT_LEADER_OR_FOLLOWER && epoch == self.state.epoch {
            self.on_leader_left(now, from, effects);
        }
        if !self.is_current_response(now, from, error, epoch, leader, effects) {
            return;
        }
        let Role::Follower(follower) = &self.role else { return };
        // While a truncation is under way no Fetch is: this answers one from before it.
        if follower.leader != from || self.truncating.is_some() || self.is_placing() {
            return;
        }
        let snapshot = response.snapshot.filter(|_| self.takes_snapshots);
        if !error.is_none() || (response.snapshot.is_some() && snapshot.is_none()) {
            return self.on_fetch_refused(now, from, response, effects);
        }
        let verdict = if let Some(id) = snapshot {
            self.on_snapshot_named(now, from, id, response.begin.unwrap_or(id), effects)
        } else if let Some(leader_end) = response.diverging {
            self.on_diverging(from, leader_end, effects)
        } else {
            let waited_ns = now.monotonic_ns.saturating_sub(sent_ns);
            let soon_ns = self.config.fetch_wait_ms_max * NS_PER_MS / DISPLACED_DIVISOR;
            // One that tells a new high watermark was not: to wait after it would delay the first records of an epoch.
            let brings_news = response.high_watermark > self.high_watermark;
            let is_displaced = response.batches.is_empty() && waited_ns < soon_ns && !brings_news;
            self.on_fetched(now, from, response, is_displaced, effects)
        };
        match verdict {
            Ok(()) => {
                if let Some(fetcher) = self.role.fetcher() {
                    fetcher.refusals = 0;
                }
                self.renew_fetch_deadline(now)
            }
            Err(why) => self.drop_peer(from, why, effects),
        }
    }

    /// The leader lives and has nothing for us. Asked at once again it would say the same, and be asked for the rest of the
    /// epoch. Where it says itself what it lacks no election helps: who can do better has been given the lead by then.
    fn on_fetch_refused(&mut self, now: Now, from: NodeId, response: &FetchResponse, effects: &mut Effects) {
        let Role::Follower(follower) = &mut self.role else { return };
        follower.fetcher.refusals = follower.fetcher.refusals.saturating_add(1);
        let refusals = follower.fetcher.refusals;
        let pause_ms = self.config.refused_fetch_pause_ms(refusals);
        if follower.fetcher.outstanding == 0 {
            follower.fetcher.due = Some(now.plus_ms(pause_ms));
        }
        let end = self.flushed;
        let error = response.error;
        if refusals.is_power_of_two() {
            effects.notes.push(match response.snapshot {
                Some(snapshot) => format!(
                    "{from} no longer has what follows on my log, which ends at {end}, and offers a snapshot at {}, which I \
                     cannot take: I stay behind. Stop this node and copy the log directory of a voter that is stopped too",
                    snapshot.offset
                ),
                None if error == ErrorCode::KAFKA_STORAGE_ERROR => format!(
                    "{from} cannot read the records at {end} that I need: I wait for another leader, or until it can"
                ),
                None => format!("{from} answered my Fetch at {end} with {}", error.name()),
            });
        }
        let is_known = matches!(error, ErrorCode::KAFKA_STORAGE_ERROR | ErrorCode::OFFSET_OUT_OF_RANGE);
        if is_known || response.snapshot.is_some() {
            self.renew_fetch_deadline(now);
        }
    }

    /// The leader's log ends its largest epoch not above ours elsewhere than our log does.
    fn on_diverging(
        &mut self,
        from: NodeId,
        leader_end: OffsetAndEpoch,
        effects: &mut Effects,
    ) -> Result<(), String> {
        if leader_end.epoch.0 < 0 || leader_end.offset.0 < 0 {
            return Err(format!("it wants a cut to {leader_end:?}"));
        }
        let to = self.epochs.truncation_for(leader_end);
        if to < self.log_shared_with_leader() || to >= self.log_end().0 {
            // An answer to a Fetch of before our last truncation: what we have fetched since is the leader's own.
            effects.notes.push(format!("ignored a late order of {from} to cut to {to}"));
            return Ok(());
        }
        let theirs = format!("its epoch {} ends at {}", leader_end.epoch, leader_end.offset);
        self.truncate(from, to, &theirs, effects);
        Ok(())
    }

    /// What nothing is cut below.
    pub(super) fn committed_floor(&self) -> Offset {
        self.high_watermark.map_or(Offset(0), |known| known.0).max(self.committed_before)
    }

    /// The one way in which the log gets shorter. `theirs`: what the leader has there instead.
    fn truncate(&mut self, from: NodeId, to: Offset, theirs: &str, effects: &mut Effects) {
        let floor = self.committed_floor();
        if to < floor {
            let (end, epoch, leads) = (self.log_end(), self.epochs.last_epoch(), self.state.epoch);
            effects.at_once.push(Effect::Stop {
                why: format!(
                    "stopping before anything is cut: my log ends at {end} in epoch {epoch} and is committed up to {floor}, \
                     but node {from}, which leads epoch {leads}, has only what lies before {to} of it ({theirs}). One of the \
                     two has the wrong data: see whether node {from} and the voters that elected it were started with an \
                     empty or another directory (a volume that was not mounted), give them their own again, and then start \
                     this node. Nothing of its log was changed"
                ),
            });
            return;
        }
        effects.notes.push(format!("cutting my log from {} to {to}, as {from} has it", self.log_end()));
        self.epochs.truncate(to);
        self.flushed = self.flushed.min(FlushedOffset(to));
        assert!(self.truncating.is_none(), "two truncations at a time");
        self.truncating = Some(LogEndOffset(to));
        if let Role::Follower(follower) = &mut self.role {
            follower.gates.clear();
            follower.fetcher.due = None;
        }
        effects.at_once.push(Effect::Truncate { to: LogEndOffset(to) });
    }

    fn on_fetched(
        &mut self,
        now: Now,
        from: NodeId,
        response: &FetchResponse,
        is_displaced: bool,
        effects: &mut Effects,
    ) -> Result<(), String> {
        self.on_start_named(response)?;
        match self.fit_batches(&response.batches)? {
            Fit::Conflict { at, epoch } => {
                let theirs = format!("there it has a record of epoch {epoch}");
                self.truncate(from, at, &theirs, effects);
                return Ok(());
            }
            Fit::Append { first } => self.append_fetched(&response.batches, first, effects),
        }
        self.maybe_follow_high_watermark(response.high_watermark, effects);
        self.maybe_catch_up(response.high_watermark, effects);
        self.maybe_leave_doubt(response.high_watermark, effects);
        self.fetch_on(now, is_displaced);
        Ok(())
    }

    /// Hold the batches against our log. By Raft's log matching a record of the same epoch at the same offset is
    /// the same record, and so are all before it. Skipping by offset alone would keep what a deposed leader wrote.
    fn fit_batches(&self, batches: &[BatchSpan]) -> Result<Fit, String> {
        self.check_batches(batches)?;
        let end = self.log_end().0;
        for (index, batch) in batches.iter().enumerate() {
            if batch.base == end {
                return self.check_appendable(batch).map(|()| Fit::Append { first: index });
            }
            if batch.base > end {
                return Err(format!("it sent offset {} after {end}", batch.base));
            }
            // A late answer: it is held, and committed, and went since.
            if batch.last < self.log_begin() {
                continue;
            }
            if batch.base >= self.log_begin() && self.epochs.epoch_at(batch.base) != Some(batch.epoch) {
                return Ok(Fit::Conflict { at: batch.base, epoch: batch.epoch });
            }
            if batch.last >= end || self.epochs.epoch_at(batch.last) != Some(batch.epoch) {
                return Err(format!("its batch {}..={} is cut in my log", batch.base, batch.last));
            }
        }
        Ok(Fit::Append { first: batches.len() })
    }

    /// The caller has checked this within the answer; here a mistake would break the log for good.
    fn check_batches(&self, batches: &[BatchSpan]) -> Result<(), String> {
        for batch in batches {
            // KAFKA-18723: a record of an epoch above the leader's own is nobody's.
            let is_sound = batch.base.0 >= 0
                && batch.base <= batch.last
                && batch.last.0 < i64::MAX
                && batch.epoch.0 >= 0
                && batch.epoch <= self.state.epoch;
            if !is_sound {
                return Err(format!("it sent {batch:?} in epoch {}", self.state.epoch));
            }
        }
        for pair in batches.windows(2) {
            if pair[1].base.0 != pair[0].last.0 + 1 || pair[1].epoch < pair[0].epoch {
                return Err(format!("it sent {:?} after {:?}", pair[1], pair[0]));
            }
        }
        Ok(())
    }

    fn check_appendable(&self, batch: &BatchSpan) -> Result<(), String> {
        if batch.epoch < self.epochs.last_epoch() {
            return Err(format!("it sent epoch {} after {}", batch.epoch, self.epochs.last_epoch()));
        }
        Ok(())
    }

    fn append_fetched(&mut self, batches: &[BatchSpan], first: usize, effects: &mut Effects) {
        let (held, new) = batches.split_at(first);
        let mut shared_end = held.last().map(|batch| Offset(batch.last.0 + 1));
        if !new.is_empty() && self.has_room_for_gate() {
            for batch in new {
                self.epochs.append(batch.epoch, Offset(batch.last.0 + 1));
            }
            shared_end = Some(self.log_end().0);
            effects.at_once.push(Effect::AppendFetched { first, count: new.len() });
        }
        if let (Role::Follower(follower), Some(shared_end)) = (&mut self.role, shared_end) {
            follower.shared_end = follower.shared_end.max(shared_end);
        }
    }

    /// A good answer. One that we cannot use does not count: a leader that sends nothing else must be replaced.
    fn renew_fetch_deadline(&mut self, now: Now) {
        let deadline = self.config.fetch_deadline(now, &mut self.random);
        if let Role::Follower(follower) = &mut self.role {
            follower.on_good_answer(deadline);
        }
        self.fitness.on_leader_heard();
        self.presence.on_heard(now);
    }
}

#[cfg(test)]
#[path = "replication_tests.rs"]
mod tests;
