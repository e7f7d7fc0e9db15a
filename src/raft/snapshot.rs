//! Where records are gone: a replica whose log ends below the leader's, or parts from it there, is given a snapshot instead.
//!
//! The leader names its newest one and where its own log begins. The follower asks for one that ends there or further on
//! (`Effect::InstallSnapshot`), and goes on fetching at its old end now and then, so that each knows that the other lives. Once it has
//! one its log begins anew (`Effect::PlaceSnapshot`), empty, and what is folded stands ahead of it. Until that is durable it votes by
//! the old log: what goes lies below `begin`, or is in conflict with what is committed, so the new one is never the worse of the two.
//!
//! A node whose log ends before its newest snapshot does not stand: it would lead with the state of records that it does not have.

use super::Raft;
use super::effects::{Effect, Effects, FetchVerdict, NoteKind};
use super::epochs::Epochs;
use super::event::FetchRequest;
use super::role::Role;
use crate::types::*;

/// The log of a follower is to begin anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Installing {
    from: NodeId,
    /// In which that one leads.
    epoch: Epoch,
    /// The leader's newest.
    id: OffsetAndEpoch,
    begin: OffsetAndEpoch,
    /// One that ends here is durable. It may be another than was named.
    fetched: Option<OffsetAndEpoch>,
    /// It is being put in place: neither log is there now.
    is_placing: bool,
}

impl Raft {
    /// Who steps this can get a snapshot from another node. Without it a leader that names one is told of in a line, and this node
    /// stays behind.
    pub(crate) fn take_snapshots(&mut self) {
        self.takes_snapshots = true;
    }

    // --- the leader's side

    /// A Fetch from before the begin of this log, or from a log that parts from it there. `None`: this log can tell
    /// (Kafka: ReplicatedLog.validateOffsetAndEpoch, of the snapshot with which its log begins).
    pub(super) fn judge_begin(
        &mut self,
        now: Now,
        request: &FetchRequest,
        effects: &mut Effects,
    ) -> Option<FetchVerdict> {
        let FetchRequest { fetch_offset, last_fetched_epoch, replica, .. } = *request;
        let begin = self.epochs.begin();
        let is_below = fetch_offset < begin.offset;
        let is_older = last_fetched_epoch < begin.epoch;
        let is_other = fetch_offset == begin.offset && last_fetched_epoch != begin.epoch;
        if begin.offset == Offset(0) || !(is_below || is_older || is_other) {
            return None;
        }
        let covers = |id: &OffsetAndEpoch| id.offset >= begin.offset && replica.id.0 >= 0;
        let Some(id) = self.newest_snapshot().filter(covers) else {
            return is_below.then_some(FetchVerdict::Refused(ErrorCode::OFFSET_OUT_OF_RANGE));
        };
        self.on_fetched_below(now, request);
        let said = format!(
            "{} has epoch {last_fetched_epoch} before offset {fetch_offset}, my log begins at {} behind epoch {}: it is to take my \
             snapshot at {}",
            replica.id, begin.offset, begin.epoch, id.offset
        );
        effects.note_about(NoteKind::Fetch, replica.id, said);
        Some(FetchVerdict::Snapshot { id, begin })
    }

    /// It lives, and counts for check quorum; of its log nothing is known.
    fn on_fetched_below(&mut self, now: Now, request: &FetchRequest) {
        let place = self.voters.index_of(request.replica);
        let Role::Leader(leader) = &mut self.role else { return };
        if let Some(progress) = place.and_then(|place| leader.progress.get_mut(place)) {
            progress.on_fetch_below(now, request.fetch_offset);
            progress.unfit = request.unfit;
            self.count_quorum(now);
        }
    }

    // --- the follower's side

    /// The leader has nothing for this log. `Err`: no sound leader says that.
    pub(super) fn on_snapshot_named(
        &mut self,
        now: Now,
        from: NodeId,
        id: OffsetAndEpoch,
        begin: OffsetAndEpoch,
        effects: &mut Effects,
    ) -> Result<(), String> {
        if self.holds(begin) {
            effects
                .notes
                .push(format!("ignored a late snapshot of {from}: my log has offset {}", begin.offset));
            return Ok(());
        }
        self.check_snapshot(id, begin)?;
        let due = self.next_heartbeat_ns(now);
        if let Role::Follower(follower) = &mut self.role
            && follower.fetcher.outstanding == 0
        {
            follower.fetcher.due = Some(due);
        }
        let is_asked =
            self.installing.is_some_and(|asked| (asked.from, asked.id, asked.begin) == (from, id, begin));
        if !is_asked {
            effects.notes.push(format!(
                "the log of {from} begins at {}, and mine ends at {} in epoch {}: taking a snapshot of it",
                begin.offset,
                self.log_end(),
                self.epochs.last_epoch()
            ));
            let epoch = self.state.epoch;
            self.installing = Some(Installing { from, epoch, id, begin, fetched: None, is_placing: false });
            effects.at_once.push(Effect::InstallSnapshot { from, id, begin });
        }
        Ok(())
    }

    /// This log reaches down to it, or further, and up to it: an answer to a Fetch of before.
    fn holds(&self, begin: OffsetAndEpoch) -> bool {
        let is_within = self.log_begin() <= begin.offset && begin.offset <= self.log_end().0;
        begin.offset < self.log_begin()
            || (is_within && self.epochs.epoch_before(begin.offset) == begin.epoch)
    }

    /// A leader's log begins where all of it is committed. Nothing that is known to be committed here is above that, for its own
    /// record before it is of a later epoch than ours, or ours ends below.
    fn check_snapshot(&self, id: OffsetAndEpoch, begin: OffsetAndEpoch) -> Result<(), String> {
        let floor = self.committed_floor();
        let floor_epoch = self.epochs.epoch_before(floor.max(self.log_begin()));
        if begin.offset < floor || begin.epoch < floor_epoch {
            return Err(format!(
                "it wants my log to begin at {} behind epoch {}, which is committed up to {floor} in epoch {floor_epoch}",
                begin.offset, begin.epoch
            ));
        }
        if id.offset < begin.offset || id.epoch < begin.epoch || id.epoch > self.state.epoch {
            return Err(format!("it names a snapshot at {id:?} for a log that begins at {begin:?}"));
        }
        Ok(())
    }

    /// One is durable here that ends at this place.
    pub(super) fn on_snapshot_fetched(&mut self, id: OffsetAndEpoch, effects: &mut Effects) {
        self.on_snapshot_taken(id);
        match &mut self.installing {
            Some(installing) if !installing.is_placing && id.offset >= installing.begin.offset => {
                installing.fetched = Some(id);
                self.maybe_place(effects);
            }
            _ => effects
                .notes
                .push(format!("a snapshot at {} has come, and is not needed any more", id.offset)),
        }
    }

    /// Nothing is cut just now, and what was asked for still stands.
    pub(super) fn maybe_place(&mut self, effects: &mut Effects) {
        let Some(installing) = self.installing.filter(|_| self.truncating.is_none()) else { return };
        let Some(id) = installing.fetched.filter(|_| !installing.is_placing) else { return };
        let begin = installing.begin;
        // Meanwhile another leader may have had what we lacked.
        if self.holds(begin) || self.check_snapshot(id, begin).is_err() {
            self.installing = None;
            return;
        }
        self.installing = Some(Installing { is_placing: true, ..installing });
        if let Role::Follower(follower) = &mut self.role {
            follower.gates.clear();
            follower.fetcher.due = None;
        }
        effects.at_once.push(Effect::PlaceSnapshot { id, begin });
    }

    /// Between the two logs.
    pub(super) fn is_placing(&self) -> bool {
        self.installing.is_some_and(|installing| installing.is_placing)
    }

    /// Role, epoch or leader are others: whoever leads now may have what this log lacks, or another snapshot. What is being put in
    /// place stays.
    pub(super) fn forget_install(&mut self) {
        let epoch = self.state.epoch;
        let leader = match &self.role {
            Role::Follower(follower) => Some(follower.leader),
            _ => None,
        };
        let is_followed = |asked: &Installing| leader == Some(asked.from) && asked.epoch == epoch;
        self.installing.take_if(|asked| !asked.is_placing && !is_followed(asked));
    }

    pub(super) fn on_snapshot_installed(
        &mut self,
        now: Now,
        id: OffsetAndEpoch,
        begin: OffsetAndEpoch,
        effects: &mut Effects,
    ) {
        assert!(self.is_placing() && self.truncating.is_none(), "a log at {begin:?} that was not asked for");
        self.installing = None;
        self.on_snapshot_taken(id);
        self.epochs = Epochs::new(begin, LogEndOffset(begin.offset), Vec::new());
        self.log_start = begin;
        self.start.on_installed(begin.offset);
        self.flushed = FlushedOffset(begin.offset);
        if self.high_watermark.is_none_or(|known| known.0 < begin.offset) {
            self.high_watermark = Some(HighWatermark(begin.offset));
            effects.at_once.push(Effect::HighWatermark(HighWatermark(begin.offset)));
        }
        if let Role::Follower(follower) = &mut self.role {
            follower.gates.clear();
            follower.shared_end = follower.shared_end.max(begin.offset);
            follower.fetcher.due = Some(now.monotonic_ns);
        }
    }

    /// Why this voter does not stand, where its log has not got to its newest snapshot.
    pub(super) fn why_behind_snapshot(&self) -> Option<String> {
        let end = self.log_end();
        if self.is_placing() {
            return Some("my log is being replaced: I do not stand before that is done".to_string());
        }
        let newest = self.newest_snapshot().filter(|newest| newest.offset > end.0)?;
        Some(format!(
            "my log ends at {end}, and my newest snapshot at {}: I do not stand, and wait for a leader that has what lies between",
            newest.offset
        ))
    }
}

#[cfg(test)]
#[path = "snapshot_tests.rs"]
mod tests;
