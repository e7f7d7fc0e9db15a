//! One Fetch from both sides: the leader judges a position, the follower takes what comes back.
//!
//! The leader's side decides whether two logs agree, not what bytes to serve. The follower's side appends, skips
//! what it holds and cuts what the leader does not hold; it never cuts below what it knows to be committed.

use super::Raft;
use super::effects::{Effect, Effects, FetchVerdict};
use super::event::{BatchSpan, FetchRequest, FetchResponse};
use super::role::{LeaderEnd, Role};
use crate::types::*;

/// An empty answer that comes sooner than this share of the wait was pushed out by a newer Fetch of ours.
const DISPLACED_DIVISOR: u64 = 2;

/// What to do with the batches of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fit {
    /// Append from this one on; all before it are in our log.
    Append { first: usize },
    /// Ours parts from the leader's here: cut, and fetch again.
    Conflict { at: Offset },
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
        if let Err(error) = self.judge_fetch(request) {
            return FetchVerdict::Refused(error);
        }
        if let Err(end) = self.epochs.check_position(request.fetch_offset, request.last_fetched_epoch) {
            effects.notes.push(format!(
                "{} has epoch {} before offset {}, I do not: it must cut to {} of epoch {}",
                request.replica.id, request.last_fetched_epoch, request.fetch_offset, end.offset, end.epoch
            ));
            return FetchVerdict::Diverging(end);
        }
        // Consumers reading as replica -1 have no progress that counts.
        if request.replica.id.0 >= 0 {
            self.on_replica_fetched(now, request.replica, request.fetch_offset);
            self.maybe_advance_high_watermark(effects);
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
        if request.fetch_offset < self.log_start() {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
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
        if !self.is_current_response(now, from, error, epoch, leader, effects) {
            return;
        }
        if !error.is_none() {
            effects.notes.push(format!("{from} answered my Fetch with {}", error.name()));
            return;
        }
        let Role::Follower(follower) = &self.role else { return };
        // While a truncation is under way no Fetch is: this answers one from before it.
        if follower.leader != from || self.truncating.is_some() {
            return;
        }
        let verdict = if let Some(leader_end) = response.diverging {
            self.on_diverging(from, leader_end, effects)
        } else if let Some(snapshot) = response.snapshot {
            Err(format!("it offers a snapshot at {}, which I cannot take", snapshot.offset))
        } else {
            let waited_ns = now.monotonic_ns.saturating_sub(sent_ns);
            let soon_ns = self.config.fetch_wait_ms_max * NS_PER_MS / DISPLACED_DIVISOR;
            let is_displaced = response.batches.is_empty() && waited_ns < soon_ns;
            self.on_fetched(now, from, response, is_displaced, effects)
        };
        match verdict {
            Ok(()) => self.renew_fetch_deadline(now),
            Err(why) => self.drop_peer(from, why, effects),
        }
    }

    /// A good answer. One that we cannot use does not count: a leader that sends nothing else must be replaced.
    fn renew_fetch_deadline(&mut self, now: Now) {
        let fetch_deadline = self.config.fetch_deadline(now, &mut self.random);
        if let Role::Follower(follower) = &mut self.role {
            follower.has_fetched = true;
            follower.fetch_deadline = fetch_deadline;
            follower.end = LeaderEnd::Silent;
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
        self.truncate(from, to, effects)
    }

    fn truncate(&mut self, from: NodeId, to: Offset, effects: &mut Effects) -> Result<(), String> {
        if let Some(known) = self.high_watermark.filter(|known| to < known.0) {
            return Err(format!("its log lacks what is committed: a cut to {to}, but {known} is committed"));
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
        Ok(())
    }

    fn on_fetched(
        &mut self,
        now: Now,
        from: NodeId,
        response: &FetchResponse,
        is_displaced: bool,
        effects: &mut Effects,
    ) -> Result<(), String> {
        match self.fit_batches(&response.batches)? {
            Fit::Conflict { at } => return self.truncate(from, at, effects),
            Fit::Append { first } => self.append_fetched(&response.batches, first, effects),
        }
        self.maybe_follow_high_watermark(response.high_watermark, effects);
        self.maybe_catch_up(response.high_watermark, effects);
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
            if batch.base >= self.log_start() && self.epochs.epoch_at(batch.base) != Some(batch.epoch) {
                return Ok(Fit::Conflict { at: batch.base });
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
}

#[cfg(test)]
#[path = "replication_tests.rs"]
mod tests;
