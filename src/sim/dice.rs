//! Chance, always from the seed: each part of a run draws from a stream of its own, so that quieting one part does not
//! change what the others draw.

use crate::raft::random::Random;

#[derive(Clone, Debug)]
pub(super) struct Dice(Random);

impl Dice {
    /// `stream` tells the parts of one run apart.
    pub(super) fn new(seed: u64, stream: u64) -> Dice {
        let mut mix = Random::new(seed ^ stream.wrapping_mul(0xd134_2543_de82_ef95));
        Dice(Random::new(mix.next_u64()))
    }

    pub(super) fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `0..bound`; 0 where `bound` is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        self.0.below(bound)
    }

    /// Uniform, both ends included.
    pub(super) fn between(&mut self, least: u64, most: u64) -> u64 {
        least + self.below(most.saturating_sub(least) + 1)
    }

    /// True so many times out of a thousand.
    pub(super) fn permille(&mut self, chance: u64) -> bool {
        self.below(1000) < chance
    }

    /// Mostly below the mean, sometimes far above it. In whole numbers: logarithms differ between machines.
    pub(super) fn around(&mut self, mean: u64) -> u64 {
        match self.below(10) {
            0 => self.between(mean, 5 * mean),
            1..=3 => self.between(mean, 2 * mean),
            _ => self.below(mean + 1),
        }
    }

    pub(super) fn pick<T: Copy>(&mut self, from: &[T]) -> Option<T> {
        from.get(self.below(from.len() as u64) as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_of_a_seed_differ_and_repeat() {
        let draw = |seed, stream| Dice::new(seed, stream).next_u64();
        assert_eq!(draw(1, 2), draw(1, 2));
        assert_ne!(draw(1, 2), draw(1, 3));
        assert_ne!(draw(1, 2), draw(2, 2));
    }

    #[test]
    fn bounds_are_kept() {
        let mut dice = Dice::new(7, 7);
        assert!((0..1000).all(|_| (3..=5).contains(&dice.between(3, 5))));
        assert_eq!((0..1000).filter(|_| dice.permille(0)).count(), 0);
        assert_eq!((0..1000).filter(|_| dice.permille(1000)).count(), 1000);
        assert!((0..1000).all(|_| dice.around(10) <= 50));
    }
}
