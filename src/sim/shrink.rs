//! Looks for a shorter or quieter run that still fails in the same way.

use super::{Fault, Options, run};

/// Options that still fail with the same invariant: without the faults that do not matter, with fewer clients, and no
/// longer than needed. `tried` is told after each attempt.
pub fn shrink(options: &Options, tried: &mut dyn FnMut(&Options, bool)) -> Options {
    let mut best = options.clone();
    let Some(failure) = run(&best).failure else { return best };
    let invariant = failure.invariant;
    let mut attempt = |candidate: Options, best: &mut Options| {
        let fails = run(&candidate).failure.is_some_and(|f| f.invariant == invariant);
        tried(&candidate, fails);
        if fails {
            *best = candidate;
        }
        fails
    };
    for fault in Fault::ALL {
        let mut candidate = best.clone();
        candidate.without.push(*fault);
        attempt(candidate, &mut best);
    }
    for clients_max in 1..8 {
        if attempt(Options { clients_max, ..best.clone() }, &mut best) {
            break;
        }
    }
    let (mut passes, mut fails) = (0, best.ticks_ms);
    while fails - passes > 100 {
        let ticks_ms = passes + (fails - passes) / 2;
        match attempt(Options { ticks_ms, ..best.clone() }, &mut best) {
            true => fails = ticks_ms,
            false => passes = ticks_ms,
        }
    }
    best
}
