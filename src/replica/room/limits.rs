//! How much room a node and each of its cores have, of the configuration. The same for `server` and the simulator.

use super::answers::{AnswerLimits, Share};
use super::frames::FrameLimits;
use super::gauges::CoreGauges;
use super::places::PlaceLimits;
use super::turns::RoundLimits;
use crate::config::{Config, ENVELOPE_BYTES, Limits};
use crate::types::NS_PER_MS;
use std::sync::Arc;

/// Decoded bytes of requests for many things that one core has sent on and the replica has not taken: above it the core sends on
/// nothing.
pub(crate) const HEAVY_HANDED_BYTES_MAX: usize = 8 << 20;

/// What the clients of one core may have, and those that hold voters' places.
#[derive(Clone, Debug)]
pub(crate) struct CoreRoom {
    pub(crate) round: RoundLimits,
    pub(crate) frames: FrameLimits,
    pub(crate) answers: Arc<Share>,
    pub(crate) voters_answers: Arc<Share>,
    /// What of it is taken, as the core tells it.
    pub(crate) gauges: Arc<CoreGauges>,
}

impl CoreRoom {
    pub(crate) fn new(
        round: RoundLimits,
        frames: FrameLimits,
        answers: AnswerLimits,
        voters: AnswerLimits,
    ) -> CoreRoom {
        let (answers, voters_answers) = (Share::new(answers), Share::new(voters));
        CoreRoom { round, frames, answers, voters_answers, gauges: Arc::default() }
    }

    /// Of one of so many cores.
    pub(crate) fn of(config: &Config, cores: usize) -> CoreRoom {
        let limits = &config.limits;
        CoreRoom::new(
            round_limits(limits),
            frame_limits(limits, cores),
            answer_limits(limits, cores),
            voters_answer_limits(config),
        )
    }
}

/// One for each core.
pub(crate) fn core_rooms(config: &Config, cores: usize) -> Vec<CoreRoom> {
    (0..cores).map(|_| CoreRoom::of(config, cores)).collect()
}

fn round_limits(limits: &Limits) -> RoundLimits {
    RoundLimits { bytes_max: limits.round_bytes_max, ns_max: limits.round_ms_max * NS_PER_MS }
}

/// Any core can take the largest request.
pub(crate) fn frame_limits(limits: &Limits, cores: usize) -> FrameLimits {
    FrameLimits {
        bytes_max: (limits.queued_request_bytes_max / cores).max(limits.request_bytes_max),
        stall_ms_max: limits.room_stall_ms_max,
    }
}

/// Any core can give the largest batch.
pub(crate) fn answer_limits(limits: &Limits, cores: usize) -> AnswerLimits {
    AnswerLimits {
        bytes_max: (limits.answers_bytes_max / cores).max(2 * limits.message_bytes_max),
        device_bytes_max: limits.device_reads_bytes_max,
        stall_ms_max: limits.room_stall_ms_max,
    }
}

/// A voter asks again when it has its answer: for each there is one on its way, and the next.
fn voters_answer_limits(config: &Config) -> AnswerLimits {
    let limits = &config.limits;
    let one = limits.replica_fetch_bytes_max.max(limits.message_bytes_max) + ENVELOPE_BYTES;
    AnswerLimits {
        bytes_max: config.voters.len() * 2 * one,
        device_bytes_max: 0,
        stall_ms_max: limits.room_stall_ms_max,
    }
}

pub(crate) fn place_limits(limits: &Limits) -> PlaceLimits {
    PlaceLimits {
        clients_max: limits.connections_max,
        guests_max: limits.guest_connections_max,
        voter_connections_max: limits.voter_connections_max,
        guest_ms_max: limits.guest_ms_max,
    }
}

/// What is left of these places where only so many connections are possible. Voters come first, but a few clients there must
/// be. `None`: all of them are.
pub(crate) fn places_within(wanted: &PlaceLimits, others: usize, possible: usize) -> Option<PlaceLimits> {
    let beside = |guests_max: usize| guests_max + others * wanted.voter_connections_max;
    if wanted.clients_max + beside(wanted.guests_max) <= possible {
        return None;
    }
    let guests_max = wanted.guests_max.min(possible / 4).max(1);
    let left = possible.saturating_sub(beside(guests_max));
    Some(PlaceLimits { guests_max, clients_max: wanted.clients_max.min(left.max(1)), ..wanted.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Voter;
    use crate::types::{Endpoint, NodeId};

    fn config() -> Config {
        let endpoint = Endpoint { host: "localhost".to_string(), port: 9092 };
        let voter = |id| Voter { id: NodeId(id), endpoint: endpoint.clone() };
        Config::for_tests(NodeId(1), (1..=3).map(voter).collect())
    }

    #[test]
    fn cores_share_what_there_is_but_each_takes_the_largest() {
        let mut config = config();
        config.limits.request_bytes_max = 100;
        config.limits.queued_request_bytes_max = 300;
        config.limits.message_bytes_max = 10;
        config.limits.answers_bytes_max = 90;
        config.limits.replica_fetch_bytes_max = 5;
        config.limits.device_reads_bytes_max = 70;
        config.limits.read_cache_bytes_max = 1 << 40;
        let rooms = core_rooms(&config, 2);
        assert_eq!((rooms.len(), rooms[0].frames.bytes_max), (2, 150));
        assert_eq!(rooms[1].answers.limits().bytes_max, 45);
        assert_eq!(rooms[1].answers.limits().device_bytes_max, 70, "however large the cache is");
        assert_eq!(rooms[1].voters_answers.limits().bytes_max, 3 * 2 * (10 + ENVELOPE_BYTES));
        assert_eq!(frame_limits(&config.limits, 4).bytes_max, 100, "one request of the largest size");
        assert_eq!(
            answer_limits(&config.limits, 9).bytes_max,
            20,
            "the largest batch, of the three quarters"
        );
    }

    #[test]
    fn where_descriptors_are_few_voters_keep_their_places() {
        let wanted =
            PlaceLimits { clients_max: 100, guests_max: 20, voter_connections_max: 8, guest_ms_max: 1 };
        let within = |possible| places_within(&wanted, 2, possible).map(|p| (p.clients_max, p.guests_max));
        assert_eq!(within(136), None);
        assert_eq!(within(135), Some((99, 20)));
        assert_eq!(within(40), Some((14, 10)));
        assert_eq!(within(10), Some((1, 2)), "one client at least");
    }
}
