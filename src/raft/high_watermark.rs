//! How far the log is committed: on the leader an order statistic, on a follower what it is told.
//!
//! Called after everything that can move it. The high watermark of a node never falls, in no role.

use super::effects::{Effect, Effects};
use super::role::Role;
use super::{Raft, Voters};
use crate::types::*;

/// The offset that a majority of these has reached: the (n/2)-th of them in descending order
/// (Kafka: LeaderState.maybeUpdateHighWatermark). Sorts `reached`.
pub(super) fn reached_by_majority(reached: &mut [Offset]) -> Option<Offset> {
    reached.sort_unstable_by(|a, b| b.cmp(a));
    reached.get(reached.len() / 2).copied()
}

impl Raft {
    /// Leader: counts itself only up to its flushed offset. (Kafka's leader counts its log end, which with one voter
    /// commits before the flush.) The result may pass our own flushed offset on the followers' strength.
    pub(super) fn maybe_advance_high_watermark(&mut self, effects: &mut Effects) {
        let Role::Leader(leader) = &mut self.role else { return };
        let flushed = self.flushed.0;
        let mut reached = std::mem::take(&mut leader.reached);
        reached.clear();
        reached.extend(
            leader
                .progress
                .iter()
                .map(|p| if p.key.id == self.config.local.id { flushed } else { p.log_end }),
        );
        let majority = reached_by_majority(&mut reached);
        leader.reached = reached;
        // Raft 5.4.2: only a record of this epoch commits what earlier epochs left, so not before the LeaderChange.
        let Some(offset) = majority.filter(|offset| *offset > leader.epoch_start) else { return };
        let first_of_epoch = !leader.has_committed;
        leader.has_committed = true;
        if self.high_watermark.is_none_or(|known| known.0 < offset) {
            self.high_watermark = Some(HighWatermark(offset));
            effects.at_once.push(Effect::HighWatermark(HighWatermark(offset)));
        }
        if first_of_epoch {
            effects
                .notes
                .push(format!("epoch {} is committed up to {offset} for the first time", self.state.epoch));
            self.on_first_commit(effects);
        }
        if flushed >= offset {
            self.state.caught_up = true;
            self.state.in_doubt = false;
        }
    }

    /// Follower: the leader's high watermark, as far as our log is known to be the leader's (KAFKA-14704: records
    /// that may yet be cut must never count as committed).
    pub(super) fn maybe_follow_high_watermark(&mut self, told: Option<HighWatermark>, effects: &mut Effects) {
        let Some(told) = told else { return };
        let offset = told.0.min(self.log_shared_with_leader());
        if offset > Offset(0) && self.high_watermark.is_none_or(|known| known.0 < offset) {
            self.high_watermark = Some(HighWatermark(offset));
            effects.at_once.push(Effect::HighWatermark(HighWatermark(offset)));
        }
    }

    /// Follower: end of the part of our log that is surely a part of the leader's. An epoch has one leader, so a
    /// record of the current epoch came from this leader, and all before it agrees with its log.
    pub(super) fn log_shared_with_leader(&self) -> Offset {
        match &self.role {
            Role::Follower(_) if self.epochs.last_epoch() == self.state.epoch => self.epochs.log_end().0,
            Role::Follower(follower) => follower.shared_end,
            _ => Offset(0),
        }
    }
}

impl Voters {
    /// Votes needed from others to keep leading: the leader counts itself.
    pub(super) fn majority_besides_leader(&self) -> usize {
        self.majority() - 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn majority_of(offsets: &[i64]) -> i64 {
        let mut reached: Vec<Offset> = offsets.iter().map(|o| Offset(*o)).collect();
        reached_by_majority(&mut reached).unwrap().0
    }

    #[test]
    fn the_majority_offset_is_reached_by_more_than_half() {
        assert_eq!(majority_of(&[7]), 7);
        assert_eq!(majority_of(&[7, 3]), 3);
        assert_eq!(majority_of(&[1, 9, 5]), 5);
        assert_eq!(majority_of(&[1, 9, 5, 7]), 5);
        assert_eq!(majority_of(&[-1, 9, 5, 7, -1]), 5);
        assert_eq!(reached_by_majority(&mut []), None);
    }

    #[test]
    fn every_majority_offset_is_held_by_a_majority() {
        let mut random = super::super::random::Random::new(3);
        for _ in 0..1000 {
            let n = 1 + random.below(7) as usize;
            let offsets: Vec<i64> = (0..n).map(|_| random.below(10) as i64).collect();
            let majority = majority_of(&offsets);
            assert!(offsets.iter().filter(|o| **o >= majority).count() > n / 2, "{offsets:?}");
            assert!(offsets.iter().filter(|o| **o > majority).count() <= n / 2, "{offsets:?}");
        }
    }
}
