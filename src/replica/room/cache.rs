//! How much of what was read or written may be kept for readers: what the configuration gives, less where the host gets short of
//! memory or nobody reads.
//!
//! Asked about each second, with what the host has. Pure: time comes from outside.

use crate::types::*;

/// With less than one part in so many of its memory available a host is short: it gets the cache back.
const SHORT_PART: u64 = 8;
/// With one part in so many the cache grows again.
const ROOMY_PART: u64 = 4;
/// Until it is looked at again the cache grows by no more than one part in so many of what the host has before it is short: others
/// of its kind look at the same memory, and take theirs.
const GROWTH_PART: u64 = 4;
/// Given back, and taken again, in so many steps, one about each second.
const STEPS: usize = 4;
/// Nobody has read anything but the newest batches for so long.
const IDLE_NS: u64 = 600_000 * NS_PER_MS;

#[derive(Debug)]
pub(crate) struct CacheBudget {
    bytes_max: usize,
    bytes: usize,
    /// That there were when somebody was last seen to have read.
    reads: u64,
    read_ns: Option<u64>,
}

impl CacheBudget {
    pub(crate) fn new(bytes_max: usize) -> CacheBudget {
        CacheBudget { bytes_max, bytes: bytes_max, reads: 0, read_ns: None }
    }

    /// `reads`: of blocks and of the device, since the start. `kept_bytes`: in the cache. Gives what it may have now.
    pub(crate) fn look(&mut self, now_ns: u64, host: HostMemory, reads: u64, kept_bytes: usize) -> usize {
        if reads != self.reads || self.read_ns.is_none() {
            (self.reads, self.read_ns) = (reads, Some(now_ns));
        }
        let is_idle = self.read_ns.is_some_and(|read_ns| now_ns.saturating_sub(read_ns) > IDLE_NS);
        let step = self.bytes_max.div_ceil(STEPS);
        if is_idle || host.available_bytes < host.total_bytes / SHORT_PART {
            self.bytes = self.bytes.min(kept_bytes).saturating_sub(step);
        } else if host.available_bytes >= host.total_bytes / ROOMY_PART {
            self.bytes = self.bytes.saturating_add(step).min(self.bytes_max);
        }
        let spare = host.available_bytes.saturating_sub(host.total_bytes / SHORT_PART);
        let growth = usize::try_from(spare / GROWTH_PART).unwrap_or(usize::MAX);
        self.bytes.min(kept_bytes.saturating_add(growth))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000 * NS_PER_MS;

    fn with(available: u64) -> HostMemory {
        HostMemory { total_bytes: 800_000, available_bytes: 1_000 * available }
    }

    #[test]
    fn a_host_that_is_short_gets_all_of_it_back_in_steps_and_gives_it_again() {
        let mut budget = CacheBudget::new(1_000);
        let mut look = |available, kept| budget.look(SECOND, with(available), 1, kept);
        assert_eq!(look(100, 900), 900, "an eighth is enough for what is there");
        assert_eq!(look(101, 900), 1_000, "and with more than that it grows");
        assert_eq!([look(99, 1_000), look(99, 750), look(99, 500)], [750, 500, 250]);
        assert_eq!([look(150, 250), look(199, 250)], [250, 250], "neither short nor roomy");
        assert_eq!(
            [look(200, 250), look(200, 250), look(300, 250), look(300, 250)],
            [500, 750, 1_000, 1_000]
        );
        assert_eq!(look(0, 100), 0, "what is not there need not be given back");
        assert_eq!(CacheBudget::new(0).look(SECOND, with(800), 9, 0), 0);
    }

    /// Each sees what the others have taken only a second later.
    #[test]
    fn several_on_a_host_share_it_and_leave_it_its_part() {
        const TOTAL: u64 = 8 << 30;
        let mut budgets: Vec<CacheBudget> = (0..3).map(|_| CacheBudget::new(6 << 30)).collect();
        let mut kept = [0usize; 3];
        for second in 0..60 {
            let available_bytes = TOTAL - kept.iter().sum::<usize>() as u64;
            assert!(available_bytes >= TOTAL / SHORT_PART, "{kept:?} after {second} s");
            let host = HostMemory { total_bytes: TOTAL, available_bytes };
            // Each takes all it may.
            let looks = budgets.iter_mut().zip(kept);
            kept = looks
                .map(|(budget, kept)| budget.look(second * SECOND, host, second, kept))
                .collect::<Vec<_>>()
                .try_into()
                .expect("three");
        }
        let sum: usize = kept.iter().sum();
        assert!(sum as u64 > TOTAL / 2, "{kept:?}");
    }

    #[test]
    fn where_nobody_reads_it_is_given_back_until_somebody_does() {
        let mut budget = CacheBudget::new(1_000);
        let mut look = |second: u64, reads, kept| budget.look(second * SECOND, with(800), reads, kept);
        // Long after the start: nobody has read since the first look.
        assert_eq!(look(5_000, 0, 1_000), 1_000);
        assert_eq!(look(5_600, 0, 1_000), 1_000);
        assert_eq!(look(5_601, 1, 1_000), 1_000, "somebody has");
        assert_eq!(look(6_201, 1, 1_000), 1_000);
        assert_eq!(
            [look(6_202, 1, 1_000), look(6_203, 1, 750), look(6_204, 1, 500), look(6_205, 1, 250)],
            [750, 500, 250, 0]
        );
        assert_eq!([look(6_206, 1, 0), look(6_207, 2, 0)], [0, 250]);
    }
}
