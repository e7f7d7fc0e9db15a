//! What a node believes that it is told by somebody who has connected to it.
//!
//! The port asks nobody for a password, so any request may only pretend to be a voter's. An answer is better: it comes
//! from the address that the configuration gives to the voter, because we have connected there. So a request that would
//! move this node (a later epoch, the end of the leader) is believed at once only where that harms nobody: within a small
//! allowance of epochs, and while no leader lives. Else the voter itself is asked, and its answer moves us. Who leads an epoch
//! is never taken from anybody but the leader.
//!
//! The question is a Fetch in an epoch before ours, from offset 0: every voter of every version refuses it with the epoch
//! and the leader that it knows, and it changes nothing there.

use super::effects::{Effect, Effects, NoteKind};
use super::event::{EndQuorumEpochRequest, FetchRequest, Request};
use super::role::Role;
use super::{Raft, RaftConfig};
use crate::types::*;

/// Epochs above ours that are taken over on a stranger's word before that has to be confirmed.
const UNCONFIRMED_EPOCHS_MAX: u32 = 16;

/// A voter whose answer names an epoch so far above ours is not believed either. One epoch a second for 34 years: its
/// quorum state is damaged, or it has believed a stranger.
const EPOCHS_AHEAD_MAX: i32 = 1 << 30;

/// Epochs that may still be taken over unconfirmed. It fills as fast as honest voters can raise the epoch: each by one in
/// an election timeout.
#[derive(Clone, Copy, Debug)]
pub(super) struct Allowance {
    left: u32,
    filled_ns: u64,
}

impl Allowance {
    pub(super) fn full(now: Now) -> Allowance {
        Allowance { left: UNCONFIRMED_EPOCHS_MAX, filled_ns: now.monotonic_ns }
    }

    fn fill(&mut self, now: Now, interval_ns: u64) {
        let grown = now.monotonic_ns.saturating_sub(self.filled_ns) / interval_ns.max(1);
        self.filled_ns += grown * interval_ns.max(1);
        self.left = u32::try_from(grown).unwrap_or(u32::MAX).saturating_add(self.left);
        self.left = self.left.min(UNCONFIRMED_EPOCHS_MAX);
    }

    fn take(&mut self, epochs: u32) -> bool {
        let is_enough = epochs <= self.left;
        self.left -= if is_enough { epochs } else { 0 };
        is_enough
    }
}

/// A voter that was asked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Asked {
    voter: NodeId,
    /// Ours, then: in a later one it may have something else to say.
    epoch: Epoch,
    /// When it may be asked the same again.
    again_ns: u64,
}

impl RaftConfig {
    fn epoch_interval_ns(&self) -> u64 {
        self.election_timeout_ms * NS_PER_MS / self.voters.len() as u64
    }
}

impl Raft {
    /// Whether an epoch above ours, which a request of `from` names, may move us. If not, `from` is asked.
    pub(super) fn believes_epoch(
        &mut self,
        now: Now,
        from: NodeId,
        epoch: Epoch,
        effects: &mut Effects,
    ) -> bool {
        let ahead = epoch.0.abs_diff(self.state.epoch.0);
        self.allowance.fill(now, self.config.epoch_interval_ns());
        // An observer elects nobody: nothing is slowed down where it hears of an epoch from the voters alone. In one that no
        // voter is in it would find no leader any more.
        let may_elect = self.is_credulous || self.voters.local_is_voter();
        if may_elect && !self.has_living_leader(now) && self.allowance.take(ahead) {
            return true;
        }
        effects.note_about(
            NoteKind::UnconfirmedEpoch,
            from,
            format!(
                "a request in the name of {from} says that epoch {epoch} has come, mine is {}: asking {from} at its own \
                 address before I believe it",
                self.state.epoch
            ),
        );
        self.ask(now, from, effects);
        false
    }

    /// A leader is heard of, or is this node: then an election needs better evidence than a request.
    fn has_living_leader(&self, now: Now) -> bool {
        if self.is_credulous {
            return false;
        }
        match &self.role {
            Role::Leader(_) => !self.voters.local_is_only_voter(),
            Role::Follower(follower) => follower.hears_leader(now),
            _ => false,
        }
    }

    /// As if no leader lived: a lie of the simulator, and for tests of what comes after an epoch that a request has brought.
    pub(crate) fn believe_requests(&mut self) {
        self.is_credulous = true;
    }

    /// Ask a voter which epoch it is in, and who leads it; in one epoch of ours not more often than requests are repeated.
    pub(super) fn ask(&mut self, now: Now, voter: NodeId, effects: &mut Effects) {
        if voter == self.config.local.id || !self.voters.contains(voter) {
            return;
        }
        let epoch = self.state.epoch;
        let again_ns = self.config.retry_at(now);
        if let Some(asked) = self.asked.iter().find(|asked| asked.voter == voter)
            && asked.epoch == epoch
            && asked.again_ns > now.monotonic_ns
        {
            return;
        }
        self.asked.retain(|asked| asked.voter != voter);
        self.asked.push(Asked { voter, epoch, again_ns });
        let request = Request::AskEpoch(FetchRequest {
            replica: self.config.local,
            epoch: Epoch((self.state.epoch.0 - 1).max(0)),
            fetch_offset: Offset(0),
            last_fetched_epoch: Epoch(0),
            max_wait_ms: 0,
            high_watermark: None,
            unfit: None,
            one_batch: false,
            log_start: None,
            wall_ms: None,
        });
        effects.at_once.push(Effect::Send { to: voter, request });
    }

    /// Another leader of our epoch than the one that we know, where somebody names one.
    pub(super) fn second_leader(&self, epoch: Epoch, leader: Option<NodeId>) -> Option<NodeId> {
        let known = self.state.leader.filter(|_| epoch == self.state.epoch)?;
        leader.filter(|id| *id != known && *id != self.config.local.id && self.voters.contains(*id))
    }

    /// An answer names a second leader of our epoch: some voter has voted twice, so its disk was lost, emptied or exchanged in
    /// between. The leader that is named is asked; that it says so itself is the proof. Where our log has records of the first
    /// one, to go on would one day take them for the same as the second one's, which have the same epoch. Nobody stops who is
    /// in a quorum that works, or knows the first leader by hearsay only: a request may have named it.
    pub(super) fn on_second_leader(
        &mut self,
        now: Now,
        second: NodeId,
        is_its_word: bool,
        effects: &mut Effects,
    ) {
        let Some(known) = self.state.leader else { return };
        let (local, epoch) = (self.config.local.id, self.state.epoch);
        let is_first_hand = known == local || self.epochs.last_epoch() == epoch;
        if is_its_word && is_first_hand && !self.has_living_leader(now) {
            let why = self.why_second_leader(known, second);
            return effects.at_once.push(Effect::Stop { why });
        }
        let said =
            format!("{known} leads epoch {epoch}, as far as I know, and a voter says that {second} does");
        effects.note_about(NoteKind::Impossible, second, said);
        if !is_its_word {
            self.ask(now, second, effects);
        }
    }

    fn why_second_leader(&self, known: NodeId, second: NodeId) -> String {
        let (end, epoch) = (self.log_end(), self.epochs.last_epoch());
        format!(
            "stopping before two logs are mixed: my quorum-state says that node {known} was elected in epoch {leads}, and node \
             {second} says that it leads that epoch itself. No two are elected in one epoch unless a voter forgot its vote, so \
             somebody's disk was lost, emptied or exchanged. My log ends at {end} in epoch {epoch} and is committed up to \
             {floor}. See whether node {second} and the voters that elected it were started with an empty or another directory (a \
             volume that was not mounted), give them their own again, and then start this node; or, if it is this node that has \
             the wrong one, give it its own. Nothing of its log was changed",
            leads = self.state.epoch,
            floor = self.committed_floor(),
        )
    }

    /// How far above ours an epoch may lie, whoever says so.
    pub(super) fn check_epoch_distance(&self, epoch: Epoch) -> Result<(), String> {
        let ahead = i64::from(epoch.0) - i64::from(self.state.epoch.0);
        if ahead <= i64::from(EPOCHS_AHEAD_MAX) {
            return Ok(());
        }
        Err(format!(
            "it is in epoch {epoch} and I am in {}: no quorum gets so far in decades, so its quorum-state is damaged or \
             forged. If the other voters are not in that epoch, stop it, empty its log.dirs and start it again",
            self.state.epoch
        ))
    }

    /// The leader is said to have resigned, and no fetch timeout has passed without it: what it says itself decides. A leader that
    /// resigns refuses the Fetch that it has parked, or answers our question, that it does not lead; where one is gone, nobody
    /// listens. That a connection broke is no proof: whoever opens many in a voter's name breaks that voter's own.
    pub(super) fn is_end_confirmed(
        &mut self,
        now: Now,
        request: &EndQuorumEpochRequest,
        effects: &mut Effects,
    ) -> bool {
        let until_ns = now.plus_ms(self.config.fetch_timeout_ms);
        let Role::Follower(follower) = &mut self.role else { return true };
        if follower.leader != request.leader || follower.has_lost_leader(now) || follower.has_left {
            return true;
        }
        follower.told_end = Some((request.clone(), until_ns));
        self.ask(now, request.leader, effects);
        false
    }

    /// The leader has refused a Fetch of this epoch, or says that it does not lead it.
    pub(super) fn on_leader_left(&mut self, now: Now, from: NodeId, effects: &mut Effects) {
        if let Role::Follower(follower) = &mut self.role
            && follower.leader == from
        {
            follower.has_left = true;
            self.on_end_confirmed(now, from, effects);
        }
    }

    /// Where it was said to have resigned, it has. False: it was not.
    pub(super) fn on_end_confirmed(&mut self, now: Now, from: NodeId, effects: &mut Effects) -> bool {
        let Role::Follower(follower) = &mut self.role else { return false };
        let told = follower.told_end.take_if(|_| follower.leader == from);
        let Some((request, _)) = told.filter(|(_, until_ns)| *until_ns > now.monotonic_ns) else {
            return false;
        };
        self.on_leader_ended(now, &request, effects);
        true
    }
}

#[cfg(test)]
#[path = "belief_tests.rs"]
mod tests;
