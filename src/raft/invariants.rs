//! What must hold after every step, in release builds too: a node that has lost its way stops before it lies.
//!
//! Only our own state is checked here. What peers say is judged where it arrives and never stops the process.

use super::effects::{Effect, Effects};
use super::role::Role;
use super::{Raft, RoleName, Shutdown};
use crate::types::*;

/// The part of the state of which a step's changes are judged.
#[derive(Clone, Copy, Debug)]
pub(super) struct Standing {
    state: QuorumState,
    role: RoleName,
    is_following: bool,
    leader: Option<NodeId>,
    high_watermark: Option<HighWatermark>,
    is_shut_down: bool,
}

impl Standing {
    pub(super) fn is_same_role(&self, other: &Standing) -> bool {
        self.role == other.role
            && self.is_following == other.is_following
            && self.state.epoch == other.state.epoch
            && self.leader == other.leader
    }
}

impl Raft {
    pub(super) fn standing(&self) -> Standing {
        Standing {
            state: self.state,
            role: self.role(),
            is_following: matches!(self.role, Role::Follower(_)),
            leader: self.leader(),
            high_watermark: self.high_watermark,
            is_shut_down: self.shutdown == Shutdown::Complete,
        }
    }

    pub(super) fn check_step(&self, before: &Standing, effects: &Effects) {
        self.check_log();
        self.check_role();
        self.check_progress(before);
        self.check_classes(effects);
    }

    fn check_log(&self) {
        let (start, flushed, end) = (self.log_begin(), self.flushed.0, self.log_end().0);
        assert!(start <= flushed && flushed <= end, "log {start}..{end} is flushed up to {flushed}");
        assert!(
            self.high_watermark.is_none_or(|known| known.0 <= end),
            "high watermark {:?} behind the log end {end}",
            self.high_watermark
        );
        assert!(
            self.epochs.last_epoch() <= self.state.epoch,
            "epoch {} with records of epoch {}",
            self.state.epoch,
            self.epochs.last_epoch()
        );
    }

    fn check_role(&self) {
        let local = self.config.local.id;
        let (leader, voted) = (self.state.leader, self.state.voted.map(|voted| voted.id));
        match &self.role {
            Role::Leader(role) => {
                assert!(leader == Some(local) && voted == Some(local), "leads as {:?}", self.state);
                assert!(
                    !role.has_committed
                        || self.high_watermark.is_some_and(|known| known.0 > role.epoch_start),
                    "committed an epoch that begins at {} up to {:?}",
                    role.epoch_start,
                    self.high_watermark
                );
            }
            Role::Candidate(_) => {
                assert!(leader.is_none() && voted == Some(local), "is a candidate as {:?}", self.state);
            }
            Role::Follower(role) => {
                assert!(leader == Some(role.leader) && role.leader != local, "follows as {:?}", self.state);
            }
            Role::Resigned(_) => assert!(leader == Some(local), "resigned as {:?}", self.state),
            Role::Unattached(_) => assert!(leader != Some(local), "is unattached as {:?}", self.state),
            Role::Prospective(_) => {}
        }
    }

    fn check_progress(&self, before: &Standing) {
        let (old, new) = (before.state, self.state);
        assert!(old.epoch <= new.epoch, "the epoch fell from {} to {}", old.epoch, new.epoch);
        assert!(old.caught_up <= new.caught_up, "a voter that had caught up forgot it");
        assert!(new.in_doubt <= old.in_doubt, "only a start puts a log in doubt");
        assert!(
            before.high_watermark <= self.high_watermark,
            "the high watermark fell from {:?} to {:?}",
            before.high_watermark,
            self.high_watermark
        );
        if old.epoch == new.epoch {
            assert!(old.leader.is_none() || old.leader == new.leader, "two leaders: {old:?}, {new:?}");
            assert!(old.voted.is_none() || old.voted == new.voted, "two votes: {old:?}, {new:?}");
        }
        assert!(!before.is_shut_down || self.shutdown == Shutdown::Complete, "a shutdown was taken back");
    }

    fn check_classes(&self, effects: &Effects) {
        if effects.quorum_state.is_some() {
            assert!(
                effects.at_once.is_empty() && effects.after_flush.is_empty() && effects.assigned.is_none(),
                "a promise leaves before the quorum state is durable: {effects:?}"
            );
        } else {
            assert!(effects.after_quorum_state.is_empty(), "nothing to wait for: {effects:?}");
        }
        let forgets = |effect: &Effect| matches!(effect, Effect::RoleChanged | Effect::Truncate { .. });
        assert!(
            effects.after_flush.is_empty() || !effects.at_once.iter().any(forgets),
            "handed out what the same step makes the caller forget: {effects:?}"
        );
    }
}

#[cfg(test)]
mod tests {
    use super::super::solo::{Solo, key, ms};
    use super::*;
    use crate::raft::Event;

    #[test]
    #[should_panic(expected = "before the quorum state was durable")]
    fn no_event_before_the_quorum_state_is_durable() {
        let mut solo = Solo::voter(1, 3, &[]);
        solo.raft.is_awaiting_durable = true;
        solo.raft.step(ms(1), Event::Tick, &mut Effects::default());
    }

    #[test]
    #[should_panic(expected = "flushed up to 5, the log ends at 0")]
    fn a_flush_behind_the_log_end_stops_the_node() {
        let mut solo = Solo::voter(1, 3, &[]);
        solo.raft.step(ms(1), Event::Flushed(FlushedOffset(Offset(5))), &mut Effects::default());
    }

    #[test]
    #[should_panic(expected = "two votes")]
    fn a_vote_is_never_changed() {
        let mut solo = Solo::voter(1, 3, &[]);
        solo.raft.state.voted = Some(key(2));
        let before = solo.raft.standing();
        solo.raft.state.voted = Some(key(3));
        solo.raft.check_progress(&before);
    }

    #[test]
    #[should_panic(expected = "a promise leaves before the quorum state is durable")]
    fn nothing_leaves_before_the_quorum_state() {
        let solo = Solo::voter(1, 3, &[]);
        let effects = Effects {
            quorum_state: Some(QuorumState::EMPTY),
            at_once: vec![Effect::RoleChanged],
            ..Effects::default()
        };
        solo.raft.check_classes(&effects);
    }

    #[test]
    #[should_panic(expected = "the high watermark fell")]
    fn the_high_watermark_never_falls() {
        let mut solo = Solo::voter(1, 3, &[(1, 5)]);
        solo.raft.high_watermark = Some(HighWatermark(Offset(4)));
        let before = solo.raft.standing();
        solo.raft.high_watermark = Some(HighWatermark(Offset(3)));
        solo.raft.check_progress(&before);
    }

    #[test]
    #[should_panic(expected = "behind the log end")]
    fn every_step_holds_the_high_watermark_against_the_log() {
        let mut solo = Solo::voter(1, 3, &[(1, 5)]);
        solo.raft.high_watermark = Some(HighWatermark(Offset(6)));
        solo.step(Event::Tick);
    }

    #[test]
    #[should_panic(expected = "follows as")]
    fn every_step_holds_the_role_against_the_quorum_state() {
        let mut solo = Solo::follower(3, &[(1, 5)]);
        solo.raft.state.leader = Some(NodeId(3));
        solo.raft.durable = solo.raft.state;
        solo.step(Event::Tick);
    }
}
