//! How long elections took, as this node saw them: from the first vote that it asked for until it led or followed.
//!
//! For the metrics alone (`KafkaRaftMetrics` has `election-latency-avg` and `-max` over a window as well).

use crate::raft::RoleName;
use crate::types::*;
use std::collections::VecDeque;

const WINDOW_MS: u64 = 60_000;
/// More in a minute tell nothing new.
const ELECTIONS_MAX: usize = 256;

#[derive(Debug, Default)]
pub(super) struct Elections {
    began_ns: Option<u64>,
    /// (when it ended, how long it took)
    ended: VecDeque<(u64, u64)>,
}

impl Elections {
    /// The role is now this.
    pub(super) fn on_role(&mut self, now: Now, role: RoleName) {
        match role {
            RoleName::Prospective | RoleName::Candidate => {
                self.began_ns.get_or_insert(now.monotonic_ns);
            }
            RoleName::Leader | RoleName::Follower => {
                let Some(began_ns) = self.began_ns.take() else { return };
                if self.ended.len() == ELECTIONS_MAX {
                    self.ended.pop_front();
                }
                self.ended.push_back((now.monotonic_ns, now.monotonic_ns.saturating_sub(began_ns)));
            }
            RoleName::Unattached | RoleName::Resigned | RoleName::Observer => {}
        }
    }

    /// Mean and maximum of those that ended within the last minute.
    pub(super) fn latency_ms(&self, now: Now) -> Option<(f64, f64)> {
        let since = now.monotonic_ns.saturating_sub(WINDOW_MS * NS_PER_MS);
        let took = || self.ended.iter().filter(|(at, _)| *at >= since).map(|(_, ns)| *ns as f64 / 1e6);
        let count = took().count();
        (count > 0).then(|| (took().sum::<f64>() / count as f64, took().fold(0.0, f64::max)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Now {
        Now { monotonic_ns: ms * NS_PER_MS, wall_ms: 0 }
    }

    #[test]
    fn an_election_lasts_from_the_first_vote_to_a_leader() {
        let mut elections = Elections::default();
        elections.on_role(at(1), RoleName::Follower);
        assert_eq!(elections.latency_ms(at(1)), None, "it had a leader before");
        let story = [
            (10, RoleName::Prospective),
            (20, RoleName::Candidate),
            (25, RoleName::Unattached),
            (30, RoleName::Candidate),
            (40, RoleName::Leader),
            (50, RoleName::Resigned),
            (60, RoleName::Prospective),
            (70, RoleName::Follower),
        ];
        story.into_iter().for_each(|(ms, role)| elections.on_role(at(ms), role));
        assert_eq!(elections.latency_ms(at(100)), Some((20.0, 30.0)));
        assert_eq!(elections.latency_ms(at(60_050)), Some((10.0, 10.0)), "the first is forgotten");
        assert_eq!(elections.latency_ms(at(70_000)), None);
        (0..1_000).for_each(|ms| {
            elections.on_role(at(ms), RoleName::Candidate);
            elections.on_role(at(ms), RoleName::Leader);
        });
        assert_eq!(elections.ended.len(), ELECTIONS_MAX);
    }
}
