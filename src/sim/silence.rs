//! How long a quorum is without a leader when its leader falls silent: cut off, with all its connections open.
//!
//! Called by `kraft-sim --silences` and by a test. Nothing else fails; producers are at work, so that one follower has more
//! of the log than another.

use super::*;

/// The quorum is left alone for so long, and up to twice as long.
const BEFORE_MS: u64 = 3_000;
/// A silence that has not ended by then has this length.
const SILENCE_MS_MAX: u64 = 60_000;

/// One silence.
#[derive(Clone, Debug)]
pub struct Silence {
    /// Of all chance in it.
    pub seed: u64,
    /// How many the quorum has.
    pub voters: usize,
    /// From the cut to another leader.
    pub ns: u64,
    /// As it was configured.
    pub fetch_timeout_ms: u64,
    /// What was said before and in it, where that was asked for.
    pub story: Vec<String>,
}

impl Silence {
    /// In thousandths of the fetch timeout.
    pub fn permille(&self) -> u64 {
        self.ns * 1_000 / (self.fetch_timeout_ms * NS_PER_MS)
    }
}

/// `None`: the seed gives a single voter, or no leader in time to be cut off.
pub fn silence(seed: u64, trace: bool) -> Option<Silence> {
    let ticks_ms = 10 * SILENCE_MS_MAX;
    let options = Options { profile: Profile::Calm, ticks_ms, trace, ..Options::new(seed) };
    let mut simulation = Simulation::new(&options);
    let voters = simulation.nodes.values().filter(|node| node.is_voter()).count();
    let wait_ms = BEFORE_MS + simulation.dice.below(BEFORE_MS);
    let fetch_timeout_ms = simulation.nodes.values().next()?.config.fetch_timeout_ms;
    simulation.run_until(wait_ms * NS_PER_MS, |_| false);
    let old = simulation.leader().filter(|_| voters > 1)?;
    // From here on something does.
    simulation.fails_nothing = false;
    for other in simulation.everybody().into_iter().filter(|other| *other != old) {
        simulation.network.block(old, other);
        simulation.network.block(other, old);
    }
    let cut_ns = simulation.now_ns;
    simulation.trace.line(cut_ns, old, "is cut off");
    simulation
        .run_until(cut_ns + SILENCE_MS_MAX * NS_PER_MS, |now| now.leader().is_some_and(|new| new != old));
    if let Some(violation) = simulation.violation() {
        panic!("seed {seed}: {violation:?}");
    }
    let ns = simulation.now_ns - cut_ns;
    let story = simulation.trace.take_story();
    let hosts: Vec<Host> = simulation.nodes.keys().copied().collect();
    hosts.into_iter().for_each(|host| simulation.crash(host, false, "ends"));
    Some(Silence { seed, voters, ns, fetch_timeout_ms, story })
}

impl Simulation {
    fn run_until(&mut self, end_ns: u64, is_enough: impl Fn(&Simulation) -> bool) {
        while self.now_ns < end_ns && self.checker.violation().is_none() && !is_enough(self) {
            if !self.run_one() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In thousandths of the fetch timeout, of which the follower's jitter alone is up to 100. With one of 300 ms the election's
    /// own writes are a large part of it: a vote and a leadership are durable before they are spoken of, and the slowest
    /// disks take 130 ms for one. Two of those are 870, and rare.
    #[test]
    fn a_silent_leader_is_replaced_after_one_fetch_timeout_and_one_election() {
        let mut silences: Vec<Silence> = (0..70).filter_map(|seed| silence(seed, false)).collect();
        silences.sort_by_key(Silence::permille);
        assert!(silences.len() >= 50, "{} silences", silences.len());
        let (median, worst) = (&silences[silences.len() / 2], &silences[silences.len() - 1]);
        let slow = silences.iter().filter(|silence| silence.permille() > 1_300).count();
        assert!(
            median.permille() <= 1_080 && slow <= silences.len() / 30 && worst.permille() <= 2_000,
            "median {median:?}, {slow} of {} are slow, worst {worst:?}",
            silences.len()
        );
        let usual: Vec<&Silence> =
            silences.iter().filter(|silence| silence.fetch_timeout_ms >= 1_000).collect();
        assert!(usual.len() >= 30, "{} silences", usual.len());
        // Two writes of the slowest disks in one election are more than the fifth that it may have, and rare.
        let late = usual.iter().filter(|silence| silence.permille() > 1_200).count();
        let worst = usual.last().map_or(0, |silence| silence.permille());
        assert!(late <= usual.len() / 30 && worst <= 1_300, "{late} of {}, {:?}", usual.len(), usual.last());
    }
}
