//! Work on memory, off the cores: finding pages for what will be read into, copying what was written.
//!
//! The log device hands it over as it does operations on files, and takes it back when it comes by: nobody is woken for it. Its
//! thread runs when nobody else wants the CPU, for the work is for readers who have not come yet. It touches no file and no socket,
//! and never fails.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use super::scheduling;
use crate::log::{Done, MemoryWork, OpId};

/// `None`: it is to end.
type Order = Option<(OpId, MemoryWork)>;

/// As the log device has it. The log bounds how much is under way.
pub(super) struct MemoryThread {
    orders: Sender<Order>,
    done: Receiver<(OpId, Done)>,
}

impl MemoryThread {
    /// It ends with this, or with what `ender` gives.
    pub(super) fn start() -> io::Result<MemoryThread> {
        let (orders, received) = mpsc::channel::<Order>();
        let (told, done) = mpsc::channel();
        let run = move || {
            scheduling::be_idle();
            while let Ok(Some((id, work))) = received.recv() {
                if told.send((id, work.carry_out())).is_err() {
                    return;
                }
            }
        };
        thread::Builder::new().name("memory".into()).spawn(run)?;
        Ok(MemoryThread { orders, done })
    }

    /// False: the thread has ended, and the work is dropped.
    pub(super) fn submit(&self, id: OpId, work: MemoryWork) -> bool {
        self.orders.send(Some((id, work))).is_ok()
    }

    pub(super) fn poll(&self) -> Option<(OpId, Done)> {
        self.done.try_recv().ok()
    }

    /// Dropped, it ends the thread, whoever still has the `MemoryThread`. Nobody waits for that: nothing outlives it but memory.
    pub(super) fn ender(&self) -> Ender {
        Ender(self.orders.clone())
    }
}

pub(super) struct Ender(Sender<Order>);

impl Drop for Ender {
    fn drop(&mut self) {
        // Where the thread has ended nobody takes it.
        let _ = self.0.send(None);
    }
}
