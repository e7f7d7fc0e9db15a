//! What `src/io/sync.rs` names, made of loom's types. Each promises as little as the real one's page does, and no more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, RawFd};

use loom::sync::atomic::AtomicUsize;
use loom::sync::{Condvar, Mutex};

pub use loom::sync::Arc;
pub use loom::sync::atomic::{AtomicBool, Ordering};

/// As the kernel's, but that `clear` waits until it is readable: the ring does so before a doorbell is heard.
#[derive(Debug)]
pub struct EventFd {
    count: Mutex<u64>,
    is_readable: Condvar,
}

impl EventFd {
    pub fn new() -> io::Result<EventFd> {
        Ok(EventFd { count: Mutex::new(0), is_readable: Condvar::new() })
    }

    pub fn add_one(&self) {
        *self.count.lock().unwrap() += 1;
        self.is_readable.notify_one();
    }

    pub fn clear(&self) {
        let mut count = self.count.lock().unwrap();
        while *count == 0 {
            count = self.is_readable.wait(count).unwrap();
        }
        *count = 0;
    }
}

impl AsRawFd for EventFd {
    fn as_raw_fd(&self) -> RawFd {
        unreachable!("no kernel watches it")
    }
}

/// What is sent happens before what is received, and that is all: who looks may be told that nothing is there although
/// something was sent a moment ago by another thread's clock. (The standard library's queue has a stronger fence inside, which its
/// page does not promise.)
pub fn channel<T>() -> (Sender<T>, Receiver<T>) {
    let queue = Arc::new(Queue { messages: Mutex::new(VecDeque::new()), sent: AtomicUsize::new(0) });
    (Sender { queue: queue.clone() }, Receiver { queue, received: std::cell::Cell::new(0) })
}

struct Queue<T> {
    messages: Mutex<VecDeque<T>>,
    sent: AtomicUsize,
}

pub struct Sender<T> {
    queue: Arc<Queue<T>>,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Sender<T> {
        Sender { queue: self.queue.clone() }
    }
}

impl<T> Sender<T> {
    pub fn send(&self, message: T) -> Result<(), T> {
        let mut messages = self.queue.messages.lock().unwrap();
        messages.push_back(message);
        drop(messages);
        self.queue.sent.fetch_add(1, Ordering::Release);
        Ok(())
    }
}

pub struct Receiver<T> {
    queue: Arc<Queue<T>>,
    received: std::cell::Cell<usize>,
}

impl<T> Receiver<T> {
    pub fn try_iter(&self) -> impl Iterator<Item = T> {
        std::iter::from_fn(|| {
            if self.queue.sent.load(Ordering::Acquire) == self.received.get() {
                return None;
            }
            self.received.set(self.received.get() + 1);
            self.queue.messages.lock().unwrap().pop_front()
        })
    }
}
