//! Work on memory, off the cores: finding pages for what will be read into, copying what was written.
//!
//! The log device hands it over as it does operations on files, and takes it back when it comes by: nobody is woken for it. Its
//! thread runs when nobody else wants the CPU, for the work is for readers who have not come yet. It touches no file and no socket,
//! and never fails.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::scheduling;
use crate::log::{Done, MemoryWork, OpId};

/// `None` wakes one that is to end.
type Order = Option<(OpId, MemoryWork)>;

/// As the log device has it. The log bounds how much is under way.
pub(super) struct MemoryThread {
    orders: Sender<Order>,
    done: Receiver<(OpId, Done)>,
    is_over: Arc<AtomicBool>,
}

impl MemoryThread {
    /// It ends with this, or with what `ender` gives.
    pub(super) fn start() -> io::Result<MemoryThread> {
        let (orders, received) = mpsc::channel::<Order>();
        let (told, done) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let over = is_over.clone();
        let run = move || {
            scheduling::be_idle();
            work_through(&received, &told, &over);
        };
        thread::Builder::new().name("memory".into()).spawn(run)?;
        Ok(MemoryThread { orders, done, is_over })
    }

    /// False: the thread has ended, and the work is dropped.
    pub(super) fn submit(&self, id: OpId, work: MemoryWork) -> bool {
        self.orders.send(Some((id, work))).is_ok()
    }

    pub(super) fn poll(&self) -> Option<(OpId, Done)> {
        self.done.try_recv().ok()
    }

    /// Dropped, it ends the thread, whoever still has the `MemoryThread`: what it is at it finishes, what it has not begun it drops.
    /// Nobody waits for that: nothing outlives it but memory.
    pub(super) fn ender(&self) -> Ender {
        Ender { orders: self.orders.clone(), is_over: self.is_over.clone() }
    }
}

pub(super) struct Ender {
    orders: Sender<Order>,
    is_over: Arc<AtomicBool>,
}

impl Drop for Ender {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Where the thread has ended nobody takes it.
        let _ = self.orders.send(None);
    }
}

/// Until it is over: on a busy machine this thread may come to each of a dozen only seconds later.
fn work_through(received: &Receiver<Order>, told: &Sender<(OpId, Done)>, is_over: &AtomicBool) {
    while let Ok(Some((id, work))) = received.recv() {
        if is_over.load(Ordering::SeqCst) || told.send((id, work.carry_out())).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::Pieces;

    fn touch(pieces: &mut Pieces) -> MemoryWork {
        MemoryWork::Touch { piece: pieces.take(1) }
    }

    /// The thread is this one, which has been put aside until now.
    #[test]
    fn what_was_not_begun_when_it_ends_is_left() {
        let mut pieces = Pieces::new(4096);
        let (orders, received) = mpsc::channel();
        let (told, done) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let memory = MemoryThread { orders, done, is_over: is_over.clone() };
        for _ in 0..12 {
            assert!(memory.submit(OpId(1), touch(&mut pieces)));
        }
        drop(memory.ender());
        work_through(&received, &told, &is_over);
        assert!(memory.poll().is_none());
        drop(received);
        assert_eq!(pieces.out_bytes(), 0, "and what it had is free");
        assert!(!memory.submit(OpId(1), touch(&mut pieces)));
    }

    #[test]
    fn work_comes_back_until_it_ends() {
        let mut pieces = Pieces::new(4096);
        let memory = MemoryThread::start().unwrap();
        assert!(memory.submit(OpId(7), touch(&mut pieces)));
        let (id, done) = memory.done.recv().unwrap();
        assert_eq!(id, OpId(7));
        drop(done);
        assert!(pieces.take(1).is_touched(4096));
        let ender = memory.ender();
        let MemoryThread { done, .. } = memory;
        drop(ender);
        assert!(done.recv().is_err(), "the thread has gone");
    }
}
