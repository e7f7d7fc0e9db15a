//! A node's two clocks as functions of the simulation's time: a monotonic one that drifts, and a wall clock that jumps.

use crate::types::*;

/// Parts per million: 50_000 is a clock that runs 5 % fast.
pub(super) type Drift = i64;

#[derive(Clone, Debug)]
pub(super) struct NodeClock {
    /// The simulation's time and the node's at the last change of rate.
    anchor_ns: u64,
    anchor_local_ns: u64,
    drift: Drift,
    wall_offset_ms: i64,
}

const MILLION: i128 = 1_000_000;
/// Wall clocks begin here (2023-11-14), so that timestamps look like timestamps.
const WALL_START_MS: i64 = 1_700_000_000_000;

impl NodeClock {
    /// `local_ns`: what the monotonic clock shows at `at_ns`; machines were not booted together.
    pub(super) fn new(at_ns: u64, local_ns: u64, drift: Drift) -> NodeClock {
        NodeClock { anchor_ns: at_ns, anchor_local_ns: local_ns, drift, wall_offset_ms: 0 }
    }

    pub(super) fn now(&self, at_ns: u64) -> Now {
        Now { monotonic_ns: self.local(at_ns), wall_ms: wall_ms(at_ns) + self.wall_offset_ms }
    }

    fn local(&self, at_ns: u64) -> u64 {
        let passed = i128::from(at_ns.saturating_sub(self.anchor_ns));
        self.anchor_local_ns + (passed * (MILLION + i128::from(self.drift)) / MILLION) as u64
    }

    /// The simulation's time at which the monotonic clock shows at least `local_ns`.
    pub(super) fn when(&self, local_ns: u64) -> u64 {
        let left = i128::from(local_ns.saturating_sub(self.anchor_local_ns));
        // Rounded up, and one more for the division in `local`.
        self.anchor_ns + (left * MILLION / (MILLION + i128::from(self.drift))) as u64 + 1
    }

    pub(super) fn set_drift(&mut self, at_ns: u64, drift: Drift) {
        *self = NodeClock {
            anchor_ns: at_ns,
            anchor_local_ns: self.local(at_ns),
            drift,
            wall_offset_ms: self.wall_offset_ms,
        };
    }

    /// The monotonic clock shows so much more from now on, as after the move of a virtual machine.
    pub(super) fn leap(&mut self, at_ns: u64, by_ns: u64) {
        self.set_drift(at_ns, self.drift);
        self.anchor_local_ns += by_ns;
    }

    /// The wall clock is this far off from now on; the monotonic one does not notice.
    pub(super) fn set_wall_offset_ms(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }
}

/// A wall clock that is right.
pub(crate) fn wall_ms(at_ns: u64) -> i64 {
    WALL_START_MS + (at_ns / NS_PER_MS) as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deadline_has_passed_when_it_is_said_to() {
        for drift in [-50_000, -3, 0, 7, 50_000, 300_000] {
            let clock = NodeClock::new(1_000, 77_000_000, drift);
            for local in [77_000_000, 77_000_001, 80_000_003, 1_000_000_000_007] {
                let at = clock.when(local);
                assert!(clock.now(at).monotonic_ns >= local, "{drift} {local}");
                assert!(clock.now(at.saturating_sub(10)).monotonic_ns <= local, "{drift} {local}");
            }
        }
    }

    #[test]
    fn monotonic_time_never_falls_when_the_rate_changes_or_the_wall_clock_jumps() {
        let mut clock = NodeClock::new(0, 5, 50_000);
        let before = clock.now(1_000_000_000);
        clock.set_drift(1_000_000_000, -50_000);
        clock.set_wall_offset_ms(-86_400_000);
        let after = clock.now(1_000_000_000);
        assert_eq!(before.monotonic_ns, after.monotonic_ns);
        assert_eq!(after.wall_ms, before.wall_ms - 86_400_000);
        clock.leap(1_500_000_000, 7);
        assert_eq!(clock.now(1_500_000_000).monotonic_ns, after.monotonic_ns + 475_000_007);
    }
}
