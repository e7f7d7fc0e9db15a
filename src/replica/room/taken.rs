//! What is taken of a node's room, for whoever watches it.
//!
//! Each core tells its own once a second (`gauges`), and the threads that watch a node read it: where requests go nothing is
//! counted for it. What lies in a `Share` is read where it is.

use super::answers::Share;
use super::limits::{CoreRoom, HEAVY_HANDED_BYTES_MAX};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Something that has a bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Bounded {
    pub(crate) taken: usize,
    pub(crate) max: usize,
}

impl Bounded {
    fn add(&mut self, taken: usize, max: usize) {
        self.taken += taken;
        self.max += max;
    }

    /// Those of the device have their place beside the others.
    fn add_share(&mut self, share: &Share) {
        let limits = share.limits();
        self.add(share.held_bytes(), limits.bytes_max.saturating_add(limits.device_bytes_max));
    }
}

/// Of all cores together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RoomTaken {
    /// Answers that clients have not taken.
    pub(crate) answers_bytes: Bounded,
    pub(crate) voters_answers_bytes: Bounded,
    /// Large requests, whole or arriving.
    pub(crate) large_bytes: Bounded,
    /// What those want that wait for memory, and how many connections they are.
    pub(crate) large_wanted_bytes: usize,
    pub(crate) wait_for_memory: usize,
    /// Connections in lines for their turn.
    pub(crate) wait_for_turn: usize,
    /// Requests for many things on their way to the replica, decoded.
    pub(crate) heavy_handed_bytes: Bounded,
}

impl RoomTaken {
    pub(crate) fn of(rooms: &[CoreRoom]) -> RoomTaken {
        let mut taken = RoomTaken::default();
        for CoreRoom { frames, answers, voters_answers, gauges, .. } in rooms {
            let of = |gauge: &AtomicUsize| gauge.load(Ordering::Relaxed);
            taken.answers_bytes.add_share(answers);
            taken.voters_answers_bytes.add_share(voters_answers);
            taken.large_bytes.add(of(&gauges.large_bytes), frames.bytes_max);
            taken.large_wanted_bytes += of(&gauges.large_wanted_bytes);
            taken.wait_for_memory += of(&gauges.wait_for_memory);
            taken.wait_for_turn += of(&gauges.wait_for_turn);
            taken.heavy_handed_bytes.add(of(&gauges.heavy_handed_bytes), HEAVY_HANDED_BYTES_MAX);
        }
        taken
    }
}

#[cfg(test)]
mod tests {
    use super::super::answers::AnswerLimits;
    use super::super::frames::{FrameLimits, Frames, Hold};
    use super::super::turns::{Room, RoundLimits, Turn, Turns};
    use super::*;
    use crate::replica::connection_id::ConnectionId;

    const ANSWERS: AnswerLimits = AnswerLimits { bytes_max: 1_000, device_bytes_max: 500, stall_ms_max: 10 };

    #[test]
    fn cores_are_added_up() {
        let round = RoundLimits { bytes_max: 1 << 20, ns_max: u64::MAX };
        let limits = FrameLimits { bytes_max: 100_000, stall_ms_max: 10 };
        let voters = AnswerLimits { bytes_max: 300, device_bytes_max: 0, ..ANSWERS };
        let rooms = [(); 2].map(|()| CoreRoom::new(round, limits, ANSWERS, voters));
        for (room, core) in rooms.iter().zip(1..) {
            let (mut frames, mut turns) = (Frames::new(room.frames), Turns::new(room.round));
            let (mut large, mut next, mut gone) = (Hold::default(), Hold::default(), Hold::default());
            assert!(frames.may_read(ConnectionId(1), &mut large, 90_000, false, 0));
            assert!(!frames.may_read(ConnectionId(2), &mut next, 20_000 * core, false, 0));
            assert!(!frames.may_read(ConnectionId(3), &mut gone, 50_000, false, 0));
            frames.leave(&mut gone);
            let mut turn = Turn::default();
            assert!(
                !turns.may_go(ConnectionId(1), &mut turn, Room { requests: 0, is_for_cheap: false }, None),
                "no room for it"
            );
            room.gauges.publish(&frames, &turns, 10 * core);
            room.answers.add(100 * core, 0);
        }
        rooms[1].voters_answers.add(7, 0);
        let expected = RoomTaken {
            answers_bytes: Bounded { taken: 300, max: 3_000 },
            voters_answers_bytes: Bounded { taken: 7, max: 600 },
            large_bytes: Bounded { taken: 180_000, max: 200_000 },
            large_wanted_bytes: 60_000,
            wait_for_memory: 2,
            wait_for_turn: 2,
            heavy_handed_bytes: Bounded { taken: 30, max: 2 * HEAVY_HANDED_BYTES_MAX },
        };
        assert_eq!(RoomTaken::of(&rooms), expected);
    }
}
