//! Memory that the allocator keeps although nobody uses it.

use std::sync::atomic::{AtomicBool, Ordering};

/// The process is the node's alone, and its heap too.
static IS_OURS: AtomicBool = AtomicBool::new(false);

/// From here on what nobody uses may be given back.
pub(crate) fn take_over() {
    IS_OURS.store(true, Ordering::Relaxed);
}

/// Give it to the kernel. It takes a few milliseconds for a hundred MiB: only after a burst, never for each request. False: the
/// heap is another program's, or the allocator cannot.
pub(crate) fn give_back() -> bool {
    if !IS_OURS.load(Ordering::Relaxed) {
        return false;
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; what is in use stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
    cfg!(target_env = "gnu")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No other test is a process of its own.
    #[test]
    fn the_heap_of_another_program_is_left_alone() {
        assert!(!give_back());
        take_over();
        assert_eq!(give_back(), cfg!(target_env = "gnu"));
        IS_OURS.store(false, Ordering::Relaxed);
    }
}
