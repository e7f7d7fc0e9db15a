//! Wakes a core from another thread: an eventfd that the core's ring watches.
//!
//! The file threads, the acceptor, the other cores and the signal thread ring it after they have put something into
//! their queue. It carries no data: whoever wakes looks into all of its queues.

use std::io;
use std::os::fd::{AsRawFd, RawFd};

use super::sync::{Arc, AtomicBool, EventFd, Ordering};

/// Cheap to clone; any thread may ring.
#[derive(Clone, Debug)]
pub(crate) struct Doorbell {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    event_fd: EventFd,
    /// Rung and not heard yet: further rings need no system call.
    rung: AtomicBool,
}

impl Doorbell {
    pub(crate) fn new() -> io::Result<Doorbell> {
        Ok(Doorbell { inner: Arc::new(Inner { event_fd: EventFd::new()?, rung: AtomicBool::new(false) }) })
    }

    /// Call it after the queue has been filled, never before.
    pub(crate) fn ring(&self) {
        if !self.inner.rung.swap(true, Ordering::SeqCst) {
            self.inner.event_fd.add_one();
        }
    }

    pub(super) fn raw_fd(&self) -> RawFd {
        self.inner.event_fd.as_raw_fd()
    }

    /// It was rung, and the ring has found it readable: from here on it may be rung again. Look into the queues after it, not
    /// before.
    pub(crate) fn hear(&self) {
        self.inner.event_fd.clear();
        // Read and not only written: who found it rung has put something before, and is seen by whoever reads what he wrote.
        self.inner.rung.swap(false, Ordering::SeqCst);
    }
}
