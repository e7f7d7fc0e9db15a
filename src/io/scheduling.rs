//! How a core's thread shares its CPU with others.
//!
//! Normally a thread that wakes up takes the CPU from the one that runs: right for a request that comes alone. Under load it
//! is wrong: a client that is interrupted after each batch gives us groups of one, each with its own flush and its own
//! wake-ups on every node. So a loaded core waits (SCHED_BATCH) until the client, or another node on the same CPUs, has
//! done what it does. Where nobody else wants the CPU the two are the same.
//!
//! kafka-producer-perf-test with three nodes on two CPUs, records of 1 KiB: 69 MB/s became 80, of 8.7 s of CPU per GB 6.5
//! remained; 16 batches of 64 KiB 355 MB/s became 384. But one record in flight beside two threads that compute for ever: 0.3 ms
//! became 4, which is why it is not so always.

use std::io;

/// Committed bytes per second from which on a core gives way.
const LOADED_BYTES_PER_SECOND: u64 = 8 << 20;

/// The least that a thread can ask for.
const NICE_MAX: libc::c_int = 19;

/// Whether a thread gives way to others.
#[derive(Debug)]
pub(crate) struct Courtesy {
    /// Somebody has chosen another policy for us, which stays.
    is_ours: bool,
    gives_way: bool,
}

impl Courtesy {
    pub(crate) fn of_this_thread() -> Courtesy {
        // SAFETY: no pointers; 0 is this thread.
        let policy = unsafe { libc::sched_getscheduler(0) };
        Courtesy { is_ours: policy == libc::SCHED_OTHER, gives_way: false }
    }

    /// Call it about every second, with what was committed since.
    pub(crate) fn adapt(&mut self, bytes: u64, elapsed_ns: u64) {
        let is_loaded = u128::from(bytes) * 1_000_000_000
            >= u128::from(LOADED_BYTES_PER_SECOND) * u128::from(elapsed_ns.max(1));
        if !self.is_ours || is_loaded == self.gives_way {
            return;
        }
        self.gives_way = is_loaded;
        if let Err(error) = set_policy(if is_loaded { libc::SCHED_BATCH } else { libc::SCHED_OTHER }) {
            self.is_ours = false;
            tracing::debug!("The core's scheduling policy stays as it is: {error}.");
        }
    }
}

/// For threads whose work is never urgent: they take the CPU from nobody who has woken up.
pub(crate) fn give_way() {
    if let Err(error) = set_policy(libc::SCHED_BATCH) {
        tracing::debug!("The thread's scheduling policy stays as it is: {error}.");
    }
}

/// For threads whose work can wait for everybody: of a CPU that others want they get hardly anything.
pub(crate) fn be_last() {
    give_way();
    // SAFETY: no pointers; 0 is this thread, whose niceness is its own.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, NICE_MAX) } != 0 {
        tracing::debug!("The thread's niceness stays as it is: {}.", io::Error::last_os_error());
    }
}

/// For work on memory that nobody waits for: it takes the CPU when nobody else wants it.
///
/// Before Linux 6.4 it gets a small share: a thread that is having a page found holds a lock of the whole address space there, and one
/// that is put aside with it keeps all others of the process waiting. Later kernels have a lock for each mapping.
pub(crate) fn be_idle() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if !locks_mappings_alone(&release) || set_policy(libc::SCHED_IDLE).is_err() {
        be_last();
    }
}

fn locks_mappings_alone(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse().ok());
    let of_release: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    of_release >= (6, 4)
}

fn set_policy(policy: libc::c_int) -> io::Result<()> {
    // SAFETY: a valid struct to read; 0 is this thread.
    let failed = unsafe {
        let mut parameters: libc::sched_param = std::mem::zeroed();
        parameters.sched_priority = 0;
        libc::sched_setscheduler(0, policy, &parameters)
    };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    fn policy() -> libc::c_int {
        // SAFETY: no pointers.
        unsafe { libc::sched_getscheduler(0) }
    }

    /// Tests have a thread each.
    #[test]
    fn a_core_gives_way_while_it_is_loaded() {
        let mut courtesy = Courtesy::of_this_thread();
        let mut after = |bytes, elapsed_ns| {
            courtesy.adapt(bytes, elapsed_ns);
            policy()
        };
        assert_eq!(after(LOADED_BYTES_PER_SECOND - 1, SECOND_NS), libc::SCHED_OTHER);
        assert_eq!(after(LOADED_BYTES_PER_SECOND, SECOND_NS), libc::SCHED_BATCH);
        assert_eq!(after(2 * LOADED_BYTES_PER_SECOND, 2 * SECOND_NS), libc::SCHED_BATCH);
        assert_eq!(after(LOADED_BYTES_PER_SECOND, 2 * SECOND_NS), libc::SCHED_OTHER);
        assert_eq!(after(u64::MAX, 0), libc::SCHED_BATCH);
        assert_eq!(after(0, SECOND_NS), libc::SCHED_OTHER);
    }

    #[test]
    fn no_thread_is_put_aside_with_a_lock_that_all_others_need() {
        for release in ["6.4.0", "6.4-rc1", "6.18.44-vm\n", "7.0", "10.1.2"] {
            assert!(locks_mappings_alone(release), "{release}");
        }
        for release in ["6.1.0-18-amd64", "6.3.13\n", "5.15.4", "6", "", "unknown"] {
            assert!(!locks_mappings_alone(release), "{release}");
        }
    }

    #[test]
    fn what_an_operator_has_chosen_stays() {
        set_policy(libc::SCHED_IDLE).unwrap();
        let mut courtesy = Courtesy::of_this_thread();
        courtesy.adapt(u64::MAX, 1);
        assert_eq!(policy(), libc::SCHED_IDLE);
        courtesy.adapt(0, SECOND_NS);
        assert_eq!(policy(), libc::SCHED_IDLE);
    }
}
