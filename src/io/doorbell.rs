//! Wakes a core from another thread: an eventfd that the core's ring watches.
//!
//! The file threads, the acceptor, the other cores and the signal thread ring it after they have put something into
//! their queue. It carries no data: whoever wakes looks into all of its queues.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cheap to clone; any thread may ring.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    eventfd: OwnedFd,
    /// Rung and not heard yet: further rings need no system call.
    rung: AtomicBool,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        // SAFETY: no pointers.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Doorbell { inner: Arc::new(Inner { eventfd, rung: AtomicBool::new(false) }) })
    }

    /// Call it after the queue has been filled, never before.
    pub(crate) fn ring(&self) {
        if self.inner.rung.swap(true, Ordering::SeqCst) {
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as an eventfd takes them. It fails only when its counter is full, and then
        // the reader is about to wake anyway.
        unsafe { libc::write(self.inner.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.inner.eventfd.as_raw_fd()
    }

    /// It was rung: from here on it may be rung again. Look into the queues after it, not before.
    pub(crate) fn hear(&self) {
        let mut count = [0u8; 8];
        // SAFETY: eight writable bytes, as an eventfd gives them. Called after the ring has found it readable.
        unsafe { libc::read(self.inner.eventfd.as_raw_fd(), count.as_mut_ptr().cast(), count.len()) };
        self.inner.rung.store(false, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ring::CoreRing;
    use std::sync::mpsc;
    use std::time::Duration;

    #[test]
    fn nothing_put_before_a_ring_is_missed() {
        let doorbell = Doorbell::new().unwrap();
        let (sender, receiver) = mpsc::channel();
        let remote = doorbell.clone();
        let thread = std::thread::spawn(move || {
            for n in 0..1_000u32 {
                sender.send(n).unwrap();
                remote.ring();
                if n % 100 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
        let ring = CoreRing::new(doorbell).unwrap();
        let mut seen = Vec::new();
        while seen.len() < 1_000 {
            ring.wait(Duration::from_secs(20)).unwrap();
            assert!(ring.take_rung(), "nobody rang for 20 s, and {} are missing", 1_000 - seen.len());
            seen.extend(receiver.try_iter());
        }
        thread.join().unwrap();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    }
}
