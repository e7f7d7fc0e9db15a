//! The simulator on itself: seeds repeat, seeds hold, lies are caught. Small here; `kraft-sim` runs many.

use super::*;

fn short(seed: u64) -> Options {
    Options { ticks_ms: 3_000, ..Options::new(seed) }
}

#[test]
fn a_seed_gives_the_same_trace_again() {
    for seed in 0..5 {
        let (first, second) = (run(&short(seed)), run(&short(seed)));
        assert_eq!(first.hash, second.hash, "seed {seed}");
        assert_ne!(first.hash, run(&short(seed + 1_000)).hash);
    }
}

#[test]
fn seeds_hold() {
    for profile in Profile::ALL {
        for seed in 0..8 {
            let outcome = run(&Options { profile: profile.1, ..short(seed) });
            assert!(outcome.failure.is_none(), "{} seed {seed}: {:#?}", profile.0, outcome.failure);
            assert!(outcome.totals.commits > 0 && outcome.totals.elections > 0);
        }
    }
}
