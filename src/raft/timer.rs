//! Deadlines: how long to wait, and which of several comes first. Holds no clock; every step brings its own.

use super::random::Random;
use super::{Raft, RaftConfig};
use crate::types::*;

/// Leader: Begin goes again to voters that have not fetched for this share of the fetch timeout (Kafka: LeaderState).
const BEGIN_QUORUM_EPOCH_DIVISOR: u64 = 2;
/// A follower that waits for its disk says so this often within a fetch timeout.
const HEARTBEAT_DIVISOR: u64 = 4;
/// One that waits for room on it, for hours perhaps, and is answered: each answer brings the same batch again. Still before the
/// leader would miss it (`BEGIN_QUORUM_EPOCH_DIVISOR`).
const CALM_HEARTBEAT_PERCENT: u64 = 40;

/// Followers of a leader that has died stand this share of the fetch timeout apart, at most.
const FETCH_JITTER_DIVISOR: u64 = 10;

/// Followers that are refused by their leader stand this share of the election timeout apart: longer than an election
/// takes, so that the votes are not split.
const REFUSED_LEADER_DIVISOR: u64 = 4;
/// Voters with longer logs than the one that asks stand this share of the election timeout apart: longer than the votes take.
const LONGER_LOG_DIVISOR: u64 = 20;
/// Who makes way for another candidate waits this share of the election timeout.
const YIELD_DIVISOR: u64 = 2;
/// Who cannot use the leader's answers asks at least this often within a fetch timeout.
const REFUSED_FETCH_DIVISOR: u64 = 2;
/// In retry backoffs: by then all followers have tried to connect again.
const REFUSED_LEADER_BACKOFFS: u64 = 2;

impl RaftConfig {
    /// T + random(T), drawn anew for each election (Kafka: QuorumState.randomElectionTimeoutMs).
    pub(super) fn election_deadline(&self, now: Now, random: &mut Random) -> u64 {
        now.plus_ms(self.election_timeout_ms + random.below(self.election_timeout_ms))
    }

    /// T + random(T / 10). Kafka's is exactly T, and all followers hear from a leader for the last time in the same
    /// moment: they would stand together, split the vote, and wait for another election timeout.
    pub(super) fn fetch_deadline(&self, now: Now, random: &mut Random) -> FetchDeadline {
        let jitter_ms = random.below(self.fetch_jitter_ms_max());
        FetchDeadline {
            silent_at: now.plus_ms(self.fetch_timeout_ms),
            stands_at: now.plus_ms(self.fetch_timeout_ms + jitter_ms),
        }
    }

    pub(super) fn fetch_jitter_ms_max(&self) -> u64 {
        self.fetch_timeout_ms / FETCH_JITTER_DIVISOR
    }

    /// 1.5 fetch timeouts: a fetch may be late by its own round trip (Kafka: CHECK_QUORUM_TIMEOUT_FACTOR).
    pub(super) fn check_quorum_deadline(&self, now: Now) -> u64 {
        now.plus_ms(self.fetch_timeout_ms + self.fetch_timeout_ms / 2)
    }

    pub(super) fn begin_quorum_epoch_interval_ns(&self) -> u64 {
        self.fetch_timeout_ms * NS_PER_MS / BEGIN_QUORUM_EPOCH_DIVISOR
    }

    pub(super) fn heartbeat_ns(&self) -> u64 {
        self.fetch_timeout_ms * NS_PER_MS / HEARTBEAT_DIVISOR
    }

    pub(super) fn calm_heartbeat_ns(&self) -> u64 {
        self.fetch_timeout_ms * NS_PER_MS * CALM_HEARTBEAT_PERCENT / 100
    }

    /// How long a follower waits for the others' word before it asks for pre-votes against a leader that is gone:
    /// one after the other, each in its `place` among them.
    pub(super) fn refused_leader_wait_ms(&self, place: usize) -> u64 {
        self.retry_backoff_ms * REFUSED_LEADER_BACKOFFS
            + place as u64 * (self.election_timeout_ms / REFUSED_LEADER_DIVISOR)
    }

    /// How long a voter waits that has denied a shorter log, in its `place` among those that may have.
    pub(super) fn longer_log_wait_ms(&self, place: usize) -> u64 {
        place as u64 * (self.election_timeout_ms / LONGER_LOG_DIVISOR)
    }

    /// How long a voter leaves the first word to another candidate: longer than an election takes, on a slow network too.
    pub(super) fn yield_wait_ms(&self) -> u64 {
        self.election_timeout_ms / YIELD_DIVISOR
    }

    /// How long it leaves it the first word in all, however often the other one asks: who needs all votes asks for a while until
    /// it has them.
    pub(super) fn yield_patience_ms(&self) -> u64 {
        2 * self.election_timeout_ms
    }

    /// After so many answers in a row that were of no use. Within a fetch timeout, so that the leader still hears from us.
    pub(super) fn refused_fetch_pause_ms(&self, refusals: u32) -> u64 {
        let doubled = self.retry_backoff_ms.saturating_mul(1 << refusals.min(20).saturating_sub(1));
        doubled.min(self.fetch_timeout_ms / REFUSED_FETCH_DIVISOR).max(1)
    }

    pub(super) fn retry_at(&self, now: Now) -> u64 {
        now.plus_ms(self.retry_backoff_ms)
    }
}

/// Of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct FetchDeadline {
    /// The leader counts as silent: the pre-votes of others are no longer denied.
    pub(super) silent_at: u64,
    /// It asks for pre-votes itself.
    pub(super) stands_at: u64,
}

/// How long the candidate in this place of a resigning leader's list waits: the first not at all, each further one
/// twice as long as the one before it, who is not in the list the longest
/// (Kafka: KafkaRaftClient.strictExponentialElectionBackoffMs).
pub(super) fn succession_backoff_ms(place: Option<usize>, candidates: usize, backoff_ms_max: u64) -> u64 {
    match place {
        Some(0) => 0,
        Some(place) => {
            let first = backoff_ms_max.checked_shr(candidates as u32 - 1).unwrap_or(0);
            first.saturating_mul(1 << (place - 1).min(40)).min(backoff_ms_max)
        }
        None => backoff_ms_max,
    }
}

/// The earlier of two deadlines, of which each may be missing.
pub(super) fn earliest(a: Option<u64>, b: Option<u64>) -> Option<u64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

pub(super) fn has_passed(deadline: Option<u64>, now: Now) -> bool {
    deadline.is_some_and(|deadline| deadline <= now.monotonic_ns)
}

impl Raft {
    pub(super) fn new_election_deadline(&mut self, now: Now) -> u64 {
        self.config.election_deadline(now, &mut self.random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn succession_doubles_from_place_to_place() {
        let waits: Vec<u64> = (0..4).map(|place| succession_backoff_ms(Some(place), 4, 1000)).collect();
        assert_eq!(waits, [0, 125, 250, 500]);
        assert_eq!(succession_backoff_ms(None, 4, 1000), 1000);
        assert_eq!(succession_backoff_ms(Some(7), 4, 1000), 1000);
    }

    #[test]
    fn succession_takes_any_list_length() {
        assert_eq!(succession_backoff_ms(Some(99_999), 100_000, 1000), 0);
    }

    #[test]
    fn the_earlier_deadline_wins() {
        assert_eq!(earliest(Some(3), Some(2)), Some(2));
        assert_eq!(earliest(None, Some(2)), Some(2));
        assert_eq!(earliest(None, None), None);
    }

    #[test]
    fn followers_of_a_dead_leader_do_not_stand_in_the_same_moment() {
        let config = RaftConfig {
            local: ReplicaKey { id: NodeId(1), directory_id: Uuid::ZERO },
            voters: Vec::new(),
            election_timeout_ms: 1000,
            fetch_timeout_ms: 2000,
            election_backoff_max_ms: 1000,
            request_timeout_ms: 2000,
            retry_backoff_ms: 20,
            fetch_wait_ms_max: 500,
            first_leader: FirstLeader::All,
            log_doubt: LogDoubt::Wait,
            keeps_own_start: false,
            seed: 1,
        };
        let mut random = Random::new(1);
        let mut wait_ms = || config.fetch_deadline(Now::default(), &mut random).stands_at / NS_PER_MS;
        let waits: Vec<u64> = (0..100).map(|_| wait_ms()).collect();
        assert!(waits.iter().all(|wait| (2000..2200).contains(wait)), "{waits:?}");
        assert!(waits.windows(2).any(|two| two[0].abs_diff(two[1]) > 100), "{waits:?}");
    }
}
