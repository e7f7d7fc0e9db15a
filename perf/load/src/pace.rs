//! When the open loop sends: a fixed schedule that does not wait for answers.
//!
//! Latency counts from the time at which a batch was due, not from when it got away. A server that stalls is so charged
//! with all that should have been sent meanwhile (coordinated omission: a driver that waits would leave it out).

const NS_PER_S: f64 = 1e9;

/// The due times of one thread, in ns since the start. Threads take turns, so that together they are evenly spaced.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    first_ns: f64,
    interval_ns: f64,
    next: u64,
}

impl Schedule {
    /// `rate`: records per second of all threads together.
    pub(crate) fn new(rate: f64, records_per_batch: usize, thread: usize, threads: usize) -> Schedule {
        let spacing_ns = NS_PER_S * records_per_batch as f64 / rate;
        Schedule { first_ns: spacing_ns * thread as f64, interval_ns: spacing_ns * threads as f64, next: 0 }
    }

    /// When the next batch is due, or was.
    pub(crate) fn next_due_ns(&self) -> u64 {
        // Counted from the first, so that no error adds up.
        (self.first_ns + self.interval_ns * self.next as f64) as u64
    }

    /// The due time of a batch that should have been sent by now. Each is given out once, late ones too.
    pub(crate) fn take_due(&mut self, now_ns: u64) -> Option<u64> {
        let due_ns = self.next_due_ns();
        if due_ns > now_ns {
            return None;
        }
        self.next += 1;
        Some(due_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(schedule: &mut Schedule, now_ns: u64) -> Vec<u64> {
        std::iter::from_fn(|| schedule.take_due(now_ns)).collect()
    }

    #[test]
    fn batches_are_due_at_even_distances() {
        // 1,000 records/s in batches of 10: one each 10 ms.
        let mut schedule = Schedule::new(1000.0, 10, 0, 1);
        assert_eq!(drain(&mut schedule, 0), [0]);
        assert_eq!(drain(&mut schedule, 9_999_999), [0; 0]);
        assert_eq!(schedule.next_due_ns(), 10_000_000);
        assert_eq!(drain(&mut schedule, 10_000_000), [10_000_000]);
    }

    #[test]
    fn after_a_stall_every_missed_batch_keeps_its_own_due_time() {
        let mut schedule = Schedule::new(1000.0, 1, 0, 1);
        let due = drain(&mut schedule, 5_500_000);
        assert_eq!(due, [0, 1_000_000, 2_000_000, 3_000_000, 4_000_000, 5_000_000]);
    }

    #[test]
    fn threads_interleave_to_the_whole_rate() {
        let mut due = Vec::new();
        for thread in 0..3 {
            due.extend(drain(&mut Schedule::new(3000.0, 1, thread, 3), 999_999_999));
        }
        due.sort_unstable();
        assert_eq!(due.len(), 3000);
        let gaps = due.windows(2).map(|pair| pair[1] - pair[0]);
        assert!(gaps.clone().all(|gap| (333_332..=333_335).contains(&gap)), "{:?}", gaps.max());
    }

    #[test]
    fn an_hour_later_the_schedule_has_not_drifted() {
        let mut schedule = Schedule::new(7.0, 1, 0, 1);
        schedule.next = 7 * 3600;
        assert!(schedule.next_due_ns().abs_diff(3_600_000_000_000) <= 1000);
    }
}
