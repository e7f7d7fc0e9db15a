//! Fitness to lead: a voter whose disk has no room, or whose log it cannot read, leaves leading to others.
//!
//! The replica says what is wrong with this node (`Event::Fitness`), other nodes of ours say it of themselves in their
//! Fetches. An unfit leader hands over as in a stop in good order, but only to a voter that can be elected: fit, and
//! level with it. An unfit voter whose leader is gone lets the others stand first, once; then it stands as any other,
//! because a leader that cannot write is better than none: what is committed can be read. Nothing here touches a vote:
//! who may be elected is `vote`'s alone.

use super::effects::Effects;
use super::event::Unfit;
use super::role::{Fetcher, Progress, Resigned, Role, Unattached};
use super::{Raft, RoleName};
use crate::types::*;

/// A leader without room waits so long before it hands over: the others look at their disks once a second and say it
/// with their next Fetch, so that nodes that fill up together do not hand over in a circle.
const FULL_PATIENCE_MS: u64 = 1_500;
/// Having been elected although unfit, because nobody else was, a leader tries so much later to hand over again, then
/// each time twice as late.
const RETURN_PATIENCE_MS: u64 = 10_000;
const RETURN_PATIENCE_MS_MAX: u64 = 300_000;
/// An unfit voter lets others stand for so many election timeouts.
const LET_OTHERS_TIMEOUTS: u64 = 2;

/// What this node knows of its own fitness.
#[derive(Clone, Debug, Default)]
pub(super) struct Fitness {
    pub(super) unfit: Option<Unfit>,
    /// While unfit and leading: no hand-over before that.
    hand_over_at: Option<u64>,
    return_patience_ms: u64,
    /// The others have had their time since a leader was last heard of.
    has_let_others: bool,
}

impl Fitness {
    pub(super) fn on_leader_heard(&mut self) {
        self.has_let_others = false;
    }
}

impl Raft {
    pub(super) fn on_fitness(&mut self, now: Now, unfit: Option<Unfit>, effects: &mut Effects) {
        if unfit == self.fitness.unfit {
            return;
        }
        let patience_ms = match unfit {
            Some(Unfit::DiskFull) => FULL_PATIENCE_MS,
            _ => 0,
        };
        self.fitness = Fitness {
            unfit,
            hand_over_at: unfit.map(|_| now.plus_ms(patience_ms)),
            return_patience_ms: 0,
            has_let_others: self.fitness.has_let_others,
        };
        self.maybe_hand_over(now, effects);
    }

    /// Elected. Unfit, we are it because the others were not: they get their time before we try again.
    pub(super) fn on_elected_unfit(&mut self, now: Now) {
        let fitness = &mut self.fitness;
        if fitness.unfit.is_some() {
            let doubled = fitness.return_patience_ms.saturating_mul(2);
            fitness.return_patience_ms = doubled.clamp(RETURN_PATIENCE_MS, RETURN_PATIENCE_MS_MAX);
            fitness.hand_over_at = Some(now.plus_ms(fitness.return_patience_ms));
        }
    }

    /// When a leader has to look at it without being asked anything.
    pub(super) fn hand_over_due(&self) -> Option<u64> {
        self.fitness.hand_over_at.filter(|_| self.is_leader())
    }

    /// Leader: give way to somebody who can do what we cannot.
    pub(super) fn maybe_hand_over(&mut self, now: Now, effects: &mut Effects) {
        let Some(unfit) = self.fitness.unfit else { return };
        let log_end = self.log_end().0;
        let since = now.monotonic_ns.saturating_sub(self.config.fetch_timeout_ms * NS_PER_MS);
        let local = self.config.local.id;
        let Role::Leader(leader) = &self.role else { return };
        if self.fitness.hand_over_at.is_some_and(|at| at > now.monotonic_ns) {
            return;
        }
        self.fitness.hand_over_at = None;
        // A full leader appends nothing, so the others come level with it. A damaged one goes on appending: there
        // the last end that it was asked for is as near as a follower comes.
        let is_level = |p: &Progress| match unfit {
            Unfit::DiskFull => p.log_end >= log_end,
            _ => p.last_caught_up_ns.is_some_and(|at| at >= since),
        };
        let is_successor = |p: &&Progress| {
            p.key.id != local
                && p.unfit.is_none()
                && p.last_fetch_ns.is_some_and(|at| at >= since)
                && is_level(p)
        };
        if let Some(successor) = leader.progress.iter().find(is_successor) {
            let why = format!("{}; {} can do better", unfit.sentence(), successor.key.id);
            self.resign(now, &why, effects);
        }
    }

    /// True: our time to stand has come, but we are unfit, and the others may be faster.
    pub(super) fn lets_others_stand(&mut self, now: Now, why: &str, effects: &mut Effects) -> bool {
        let Some(unfit) = self.fitness.unfit.filter(|_| !self.fitness.has_let_others) else { return false };
        if self.voters.local_is_only_voter() || self.role() == RoleName::Candidate {
            return false;
        }
        self.fitness.has_let_others = true;
        let wait_ms = LET_OTHERS_TIMEOUTS * self.config.election_timeout_ms
            + self.random.below(self.config.election_timeout_ms);
        effects
            .notes
            .push(format!("{why}, but {}: standing in {wait_ms} ms unless another does", unfit.sentence()));
        let deadline = now.plus_ms(wait_ms);
        self.role = match self.state.leader == Some(self.config.local.id) {
            true => Role::Resigned(Resigned {
                election_deadline: deadline,
                preferred: Vec::new(),
                unacknowledged: Vec::new(),
            }),
            false => Role::Unattached(Unattached {
                election_deadline: Some(deadline),
                fetcher: Fetcher::due_at(self.config.retry_at(now)),
            }),
        };
        true
    }

    /// Why this node should not lead, if anything.
    pub(crate) fn unfit(&self) -> Option<Unfit> {
        self.fitness.unfit
    }
}

impl Unfit {
    pub fn name(self) -> &'static str {
        match self {
            Unfit::DiskFull => "disk-full",
            Unfit::LogDamaged => "log-damaged",
            Unfit::ClockBehind => "clock-behind",
            Unfit::TakesNoClients => "takes-no-clients",
        }
    }

    /// As it stands in a sentence about this node.
    pub(crate) fn sentence(self) -> &'static str {
        match self {
            Unfit::DiskFull => "my disk has no room",
            Unfit::LogDamaged => "a part of my log cannot be read",
            Unfit::ClockBehind => "my clock is far behind that of another leader",
            Unfit::TakesNoClients => "I take no records of clients",
        }
    }
}

#[cfg(test)]
#[path = "fitness_tests.rs"]
mod tests;
