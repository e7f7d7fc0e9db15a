//! The simulator on itself: seeds repeat, seeds hold, lies are caught. Small here; `kraft-sim` runs many.

use super::*;

/// Seeds within which each lie must be caught.
const LIE_SEEDS: u64 = 500;
/// Seeds with rot on any voters.
const ANY_ROT_SEEDS: usize = 30;
/// Seeds in which snapshots are taken all the time.
const SNAPSHOT_SEEDS: usize = 20;
/// Seeds in which the start of the logs moves.
const MOVES_SEEDS: usize = 20;

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

/// A fault that never acts tests nothing.
#[test]
fn every_fault_strikes() {
    let mut struck = [0; FAULTS];
    for seed in 0..160 {
        let totals = run(&Options { profile: Profile::Safety, ..short(seed) }).totals;
        struck.iter_mut().zip(totals.of_kind.0).for_each(|(sum, count)| *sum += count);
    }
    let idle: Vec<&str> =
        Fault::ALL.iter().filter(|fault| struck[**fault as usize] == 0).map(|f| f.name()).collect();
    assert!(idle.is_empty(), "these never struck: {idle:?}");
}

/// Where rot strikes any voters a majority is struck, and then a quorum waits, or goes on where enough is left. All else holds.
#[test]
fn rot_strikes_majorities_and_quorums_wait() {
    let options = (0..1_000).map(|seed| Options { profile: Profile::Safety, ..short(seed) });
    let (mut waited, mut went_on) = (0, 0);
    for options in options.filter(rots_any).take(ANY_ROT_SEEDS) {
        let Outcome { totals, failure, .. } = run(&options);
        assert!(failure.is_none(), "seed {}: {failure:#?}", options.seed);
        if totals.majorities_struck > 0 {
            waited += totals.waits;
            went_on += 1 - totals.waits;
        }
    }
    println!("of {ANY_ROT_SEEDS} quorums {waited} waited with a majority struck, {went_on} went on");
    assert!(waited > 0 && went_on > 0);
}

/// Elsewhere all quorums come to rest, and most seeds are such.
#[test]
fn rot_strikes_a_minority_in_most_seeds() {
    let any = (0..1_000).filter(|seed| rots_any(&Options::new(*seed))).count();
    assert!((60..200).contains(&any), "{any} of a thousand");
}

/// What is waived where it strikes any voters is waived nowhere else.
#[test]
fn rot_that_is_left_out_strikes_nobody() {
    let rot: Vec<Fault> = Fault::ALL.iter().filter(|fault| fault.is_rot()).copied().collect();
    for seed in 0..200 {
        let whole = Options { profile: Profile::Safety, ..Options::new(seed) };
        let (without, with_one) = (rot.clone(), rot[1..].to_vec());
        let rotless = Options { without, ..whole.clone() };
        assert!(!rots_any(&rotless) && !Simulation::new(&rotless).rots_any, "seed {seed}");
        let with_one = Options { without: with_one, ..whole.clone() };
        assert_eq!(rots_any(&with_one), rots_any(&whole), "seed {seed}: one kind is enough");
        assert_eq!(Simulation::new(&with_one).rots_any, rots_any(&whole), "seed {seed}");
    }
}

/// Seeds in which the simulator once found a fault of the system (or of itself), at full length.
#[test]
fn seeds_that_once_failed_hold() {
    let lines = include_str!("../../tests/simulator-seeds.txt").lines();
    let seeds = lines.filter(|line| !line.starts_with('#')).filter_map(|line| line.split_whitespace().next());
    let options = |word: &str| {
        let (seed, profile) = word.split_once('/').unwrap_or((word, "swarm"));
        let profile = Profile::parse(profile).expect("a profile is behind the seed");
        Options { profile, ..Options::new(seed.parse().expect("a line begins with its seed")) }
    };
    let all: Vec<Options> = seeds.map(options).collect();
    assert!(!all.is_empty());
    for options in all {
        let outcome = run(&options);
        let (seed, profile) = (options.seed, options.profile);
        assert!(outcome.failure.is_none(), "seed {seed} of {profile:?}: {:#?}", outcome.failure);
    }
}

/// Some lies hurt only where several faults meet: there are more of them in such a run.
fn occasion(lie: Lie, seed: u64) -> Options {
    match lie {
        // Nowhere else does it move.
        Lie::StartUnmarked | Lie::StartForgotten | Lie::StartAboveCommit | Lie::StartBeforeSnapshot => {
            let mut seeds = (0..).map(short).filter(moves_start);
            seeds.nth(seed as usize).expect("there are such seeds")
        }
        Lie::SnapshotLacksProducer => {
            let mut seeds = (0..).map(short).filter(takes_snapshots);
            seeds.nth(seed as usize).expect("there are such seeds")
        }
        Lie::NamesBelieved
        | Lie::RotBelieved
        | Lie::SummaryIgnored
        | Lie::CheckSkipped
        | Lie::BlockOfAnotherPlace => {
            Options { profile: Profile::Safety, ticks_ms: 8_000, ..Options::new(seed) }
        }
        Lie::PlacesUnbounded
        | Lie::RoundEndless
        | Lie::MemoryUnasked
        | Lie::ReadsUnbounded
        | Lie::ParkedUnbounded
        | Lie::OutputUnbounded
        | Lie::EpochsBelieved
        | Lie::SilentFirst => Options { profile: Profile::Hostile, ..short(seed) },
        _ => short(seed),
    }
}

#[test]
fn every_lie_is_caught() {
    let mut missed = Vec::new();
    for lie in Lie::ALL {
        let caught = (0..LIE_SEEDS).find(|seed| {
            let honest = occasion(*lie, *seed);
            let outcome = run(&Options { lie: Some(*lie), ..honest.clone() });
            // It is the lie that is caught, not something that fails without it.
            outcome.failure.is_some() && outcome.totals.lies > 0 && run(&honest).failure.is_none()
        });
        match caught {
            Some(seed) => println!("{} is caught by seed {seed}", lie.name()),
            None => missed.push(lie.name()),
        }
    }
    assert!(missed.is_empty(), "not caught: {missed:?}");
}

/// Where snapshots are taken all the time they are, under every fault: starts go on from them, and rotten ones are set aside.
#[test]
fn snapshots_are_taken_and_started_from() {
    let options = (0..).map(|seed| Options { profile: Profile::Safety, ..short(seed) });
    let options = options.filter(takes_snapshots).take(SNAPSHOT_SEEDS);
    let (mut taken, mut read, mut set_aside) = (0, 0, 0);
    for options in options {
        let Outcome { totals, failure, .. } = run(&options);
        assert!(failure.is_none(), "seed {}: {failure:#?}", options.seed);
        taken += totals.snapshots;
        read += totals.snapshots_read;
        set_aside += totals.snapshots_set_aside;
    }
    println!("{taken} snapshots, {read} starts from one, {set_aside} set aside");
    assert!(taken > 10 * SNAPSHOT_SEEDS as u64 && read > SNAPSHOT_SEEDS as u64 / 4 && set_aside > 0);
}

/// Where the start of the logs moves, it does so on all of them, under every fault but those that take a disk.
#[test]
fn the_start_of_the_logs_moves() {
    let options = (0..).map(short).filter(moves_start).take(MOVES_SEEDS);
    let mut moved = 0;
    for options in options {
        let Outcome { totals, failure, .. } = run(&options);
        assert!(failure.is_none(), "seed {}: {failure:#?}", options.seed);
        moved += totals.starts_moved;
    }
    println!("logs were told {moved} times to start later");
    assert!(moved > 5 * MOVES_SEEDS as u64);
}
