//! Wakes a core from another thread, or from the ring: an eventfd that a task of the core's executor reads.
//!
//! The file threads, the acceptor, the other cores and the signal thread ring it after they have put something into
//! their queue; the ring rings it by itself (`register_eventfd`). It carries no data: whoever wakes looks into all
//! of its queues.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use glommio::io::BufferedFile;

/// Cheap to clone; any thread may ring.
#[derive(Clone, Debug)]
pub struct Doorbell {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    eventfd: OwnedFd,
    /// Rung and not heard yet: further rings need no system call.
    rung: AtomicBool,
}

impl Doorbell {
    pub fn new() -> io::Result<Doorbell> {
        // SAFETY: no pointers. Blocking on purpose: a ring parks a read of it until it is rung, where O_NONBLOCK
        // would make that read return EAGAIN at once.
        let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC) };
        if fd < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: a fresh descriptor that nobody else owns.
        let eventfd = unsafe { OwnedFd::from_raw_fd(fd) };
        Ok(Doorbell { inner: Arc::new(Inner { eventfd, rung: AtomicBool::new(false) }) })
    }

    /// Call it after the queue has been filled, never before.
    pub fn ring(&self) {
        if self.inner.rung.swap(true, Ordering::SeqCst) {
            return;
        }
        let one = 1u64.to_ne_bytes();
        // SAFETY: eight readable bytes, as an eventfd takes them. It fails only when its counter is full, and then
        // the reader is about to wake anyway.
        unsafe { libc::write(self.inner.eventfd.as_raw_fd(), one.as_ptr().cast(), one.len()) };
    }

    pub fn raw_fd(&self) -> RawFd {
        self.inner.eventfd.as_raw_fd()
    }

    /// The listening end, for a task of the executor that calls this.
    pub fn listen(&self) -> io::Result<DoorbellListener> {
        let fd = self.inner.eventfd.try_clone()?;
        // SAFETY: the descriptor is ours and given away whole; BufferedFile closes it.
        let file = unsafe { BufferedFile::from_raw_fd(fd.into_raw_fd()) };
        Ok(DoorbellListener { doorbell: self.clone(), file })
    }
}

pub struct DoorbellListener {
    doorbell: Doorbell,
    file: BufferedFile,
}

impl DoorbellListener {
    /// Returns when it was rung since the last call. Look into the queues after it, not before.
    pub async fn heard(&self) -> io::Result<()> {
        let read = self.file.read_at(0, 8).await;
        self.doorbell.inner.rung.store(false, Ordering::SeqCst);
        read.map(|_| ()).map_err(|e| io::Error::other(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::LocalExecutorBuilder;
    use std::sync::mpsc;

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
                    std::thread::sleep(std::time::Duration::from_millis(1));
                }
            }
        });
        let executor = LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap();
        let seen = executor.run(async move {
            let listener = doorbell.listen().unwrap();
            let mut seen = Vec::new();
            while seen.len() < 1_000 {
                listener.heard().await.unwrap();
                seen.extend(receiver.try_iter());
            }
            seen
        });
        thread.join().unwrap();
        assert_eq!(seen, (0..1_000).collect::<Vec<_>>());
    }
}
