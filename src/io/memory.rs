//! Memory that the allocator keeps although nobody uses it.

/// Give it to the kernel. It takes a few milliseconds for a hundred MiB: only after a burst, never for each request.
pub(crate) fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: no pointers; what is in use stays where it is.
    unsafe {
        libc::malloc_trim(0);
    }
}
