//! Quorums to which nobody writes for a while, or as long as things fail: then followers' Fetches are parked as long as they
//! may be, their connections are silent, and nothing but these Fetches tells a leader from a dead one.

use super::Profile;
use super::dice::Dice;
use crate::types::*;

/// One of so many seeds of a swarm has lulls ...
const SWARM_ONE_IN: u64 = 8;
/// ... and of those with hostile clients alone: in a lull one of those can be all that a voter's connection is held against.
const HOSTILE_ONE_IN: u64 = 2;
/// Of the dice that draw them: none of the swarm's seeds in tests/simulator-seeds.txt became another run by it.
const STREAM: u64 = 154;

/// In turn: producers are at work, and then they are not.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lulls {
    first_ns: u64,
    lull_ns: u64,
    work_ns: u64,
}

impl Lulls {
    pub(super) fn draw(seed: u64, profile: Profile) -> Option<Lulls> {
        let one_in = match profile {
            Profile::Swarm => SWARM_ONE_IN,
            Profile::Hostile => HOSTILE_ONE_IN,
            _ => return None,
        };
        let mut dice = Dice::new(seed, STREAM);
        if dice.below(one_in) != 0 {
            return None;
        }
        let lull_ms = dice.pick(&[1_000, 4_000, 1_000_000]).unwrap_or(4_000);
        Some(Lulls {
            first_ns: dice.below(3_000) * NS_PER_MS,
            lull_ns: lull_ms * NS_PER_MS,
            work_ns: dice.between(50, 1_000) * NS_PER_MS,
        })
    }

    /// Producers wait until then; 0: they do not.
    pub(super) fn ends_ns(&self, now_ns: u64) -> u64 {
        let Some(since_ns) = now_ns.checked_sub(self.first_ns) else { return 0 };
        let at_ns = since_ns % (self.lull_ns + self.work_ns);
        if at_ns < self.lull_ns { now_ns - at_ns + self.lull_ns } else { 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lulls_and_work_take_turns() {
        let lulls = Lulls { first_ns: 10, lull_ns: 5, work_ns: 2 };
        let ends: Vec<u64> = (8..20).map(|now_ns| lulls.ends_ns(now_ns)).collect();
        assert_eq!(ends, [0, 0, 15, 15, 15, 15, 15, 0, 0, 22, 22, 22]);
    }

    #[test]
    fn a_part_of_the_seeds_has_them() {
        let count = |profile| (0..1_000).filter(|seed| Lulls::draw(*seed, profile).is_some()).count();
        let (swarm, hostile) = (count(Profile::Swarm), count(Profile::Hostile));
        assert!((80..170).contains(&swarm) && (420..580).contains(&hostile), "{swarm} and {hostile}");
        assert_eq!(count(Profile::Calm), 0, "silences are measured where producers are at work");
    }
}
