//! The two clocks of a turn, read once for all of its inputs, and what a thread has cost. Called by the cores and by the thread
//! that decodes; nothing else reads time.

use crate::types::Now;

/// Monotonic nanoseconds for timeouts, wall milliseconds for timestamps.
pub(crate) fn now() -> Now {
    Now { monotonic_ns: monotonic_ns(), wall_ms: wall_ms() }
}

/// Nanoseconds of CLOCK_MONOTONIC.
pub(crate) fn monotonic_ns() -> u64 {
    let time = read(libc::CLOCK_MONOTONIC);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

/// Nanoseconds for which this thread has had a processor.
pub(crate) fn thread_ns() -> u64 {
    let time = read(libc::CLOCK_THREAD_CPUTIME_ID);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn wall_ms() -> i64 {
    let time = read(libc::CLOCK_REALTIME);
    time.tv_sec * 1_000 + time.tv_nsec / 1_000_000
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid timespec for the call to fill. These clocks exist on every Linux.
    unsafe { libc::clock_gettime(clock, &mut time) };
    time
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_clocks_agree_with_the_standard_library() {
        let before = std::time::SystemTime::now();
        let first = now();
        std::thread::sleep(std::time::Duration::from_millis(3));
        let second = now();
        let wall = before.duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        assert!((first.wall_ms - wall).abs() < 1_000);
        assert!(second.monotonic_ns - first.monotonic_ns >= 3_000_000);
    }

    #[test]
    fn who_sleeps_costs_nothing() {
        let before = thread_ns();
        std::thread::sleep(std::time::Duration::from_millis(20));
        let slept = thread_ns() - before;
        assert!((1..10_000_000).contains(&slept), "{slept} ns");
    }
}
