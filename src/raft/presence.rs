//! Whether there is a quorum that works, as far as this node knows: what clients and whoever runs it are told.
//!
//! The epoch's leader, which Raft's own rules go by, stays known when it has died long ago. A client that is sent there
//! waits for nothing. So a node vouches for a leader only as long as it has heard of it, and for itself only as long as a
//! majority asks it; both for a fetch timeout. Nothing here changes a role.

use super::role::{LeaderEnd, Progress, Role};
use super::{Raft, RaftConfig};
use crate::types::*;

/// When there was a quorum, last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Presence {
    /// `None`: never in this life of the process.
    heard_ns: Option<u64>,
    started_ns: u64,
}

impl Presence {
    pub(super) fn new(now: Now) -> Presence {
        Presence { heard_ns: None, started_ns: now.monotonic_ns }
    }

    pub(super) fn on_heard(&mut self, now: Now) {
        self.heard_ns = Some(now.monotonic_ns);
    }
}

impl RaftConfig {
    fn is_lately(&self, at_ns: u64, now: Now) -> bool {
        now.monotonic_ns.saturating_sub(at_ns) <= self.fetch_timeout_ms * NS_PER_MS
    }
}

impl Raft {
    /// The leader, if clients find it at work: a follower hears from it, a leader is heard by a majority.
    pub(crate) fn living_leader(&self, now: Now) -> Option<NodeId> {
        let is_heard = self.presence.heard_ns.is_some_and(|at| self.config.is_lately(at, now));
        match &self.role {
            Role::Leader(_) if self.voters.local_is_only_voter() => self.leader(),
            Role::Leader(_) => self.leader().filter(|_| is_heard),
            Role::Follower(follower) => {
                self.leader().filter(|_| is_heard && follower.end == LeaderEnd::Silent)
            }
            _ => None,
        }
    }

    /// Leader: the voters that have not caught up with it within the fetch timeout, a bit for each place among them.
    pub(crate) fn lagging(&self, now: Now) -> u32 {
        let Role::Leader(leader) = &self.role else { return 0 };
        let local = self.config.local.id;
        let lags = |p: &&Progress| {
            p.key.id != local && !p.last_caught_up_ns.is_some_and(|at| self.config.is_lately(at, now))
        };
        let places = leader.progress.iter().enumerate();
        places.filter(|(_, p)| lags(p)).fold(0, |mask, (place, _)| mask | 1 << place)
    }

    /// For how long there has been no quorum that this node knows of.
    pub(crate) fn without_quorum_ms(&self, now: Now) -> u64 {
        if self.voters.local_is_only_voter() && self.is_leader() {
            return 0;
        }
        let since = self.presence.heard_ns.unwrap_or(self.presence.started_ns);
        now.monotonic_ns.saturating_sub(since) / NS_PER_MS
    }
}

#[cfg(test)]
#[path = "presence_tests.rs"]
mod tests;
