//! The simulator on itself: seeds repeat, seeds hold, lies are caught. Small here; `kraft-sim` runs many.

use super::*;

/// Seeds within which each lie must be caught.
const LIE_SEEDS: u64 = 500;

fn short(seed: u64) -> Options {
    Options { ticks_ms: 4_000, ..Options::new(seed) }
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
    for (name, profile) in Profile::ALL {
        for seed in 0..4 {
            let outcome = run(&Options { profile: *profile, ..short(seed) });
            assert!(outcome.failure.is_none(), "{name} seed {seed}: {:#?}", outcome.failure);
            assert!(outcome.totals.commits > 0 && outcome.totals.elections > 0);
        }
    }
}

/// Seeds in which the simulator once found a fault of the system (or of itself), at full length.
#[test]
fn seeds_that_once_failed_hold() {
    for seed in [10, 40, 56, 68, 88, 92, 97, 107, 166, 291, 330, 104_615, 105_962] {
        let outcome = run(&Options::new(seed));
        assert!(outcome.failure.is_none(), "seed {seed}: {:#?}", outcome.failure);
    }
}

#[test]
fn every_lie_is_caught() {
    let mut missed = Vec::new();
    for lie in Lie::ALL {
        let caught = (0..LIE_SEEDS).find(|seed| {
            let outcome = run(&Options { lie: Some(*lie), ..short(*seed) });
            // It is the lie that is caught, not something that fails without it.
            outcome.failure.is_some() && outcome.totals.lies > 0 && run(&short(*seed)).failure.is_none()
        });
        match caught {
            Some(seed) => println!("{} is caught by seed {seed}", lie.name()),
            None => missed.push(lie.name()),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}
