//! The thread that reads and writes the files of snapshots, for replicas that are given one and for this node when it gets one.
//!
//! A check of a whole file takes seconds where it is large: so nothing else waits here, not the log's files nor a vote. Work is bounded by
//! who asks (`replica::snapshots`); one piece after the other is done, in the order in which they came.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};

use super::mesh::{CoreSender, ToNetwork};
use crate::config::Config;
use crate::io::file_thread::WaitAtEnd;
use crate::io::scheduling;
use crate::io::snapshot_directory::NodeSnapshots;
use crate::replica::copies::{Copies, CopyOp};

/// `None` wakes it to end.
type Order = Option<CopyOp>;

/// The way to the thread.
#[derive(Clone)]
pub(super) struct Copying {
    orders: Sender<Order>,
}

impl Copying {
    /// Its end comes to the replica core as `ToNetwork::Copied`.
    pub(super) fn submit(&self, op: CopyOp) {
        // One that has ended, with the node, does nothing more.
        let _ = self.orders.send(Some(op));
    }
}

/// Dropped, it ends the thread: what that is at it finishes, what it has not begun it leaves.
pub(super) struct Copier {
    is_over: Arc<AtomicBool>,
    orders: Sender<Order>,
    thread: Option<JoinHandle<()>>,
    wait: WaitAtEnd,
}

impl Drop for Copier {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        let _ = self.orders.send(None);
        if self.wait == WaitAtEnd::Yes
            && let Some(thread) = self.thread.take()
        {
            // One that has panicked has ended too.
            let _ = thread.join();
        }
    }
}

/// Start it where nothing is pinned. `core`: the replica's.
pub(super) fn start(
    files: NodeSnapshots,
    config: &Config,
    core: CoreSender,
    wait: WaitAtEnd,
) -> io::Result<(Copying, Copier)> {
    let (orders, received) = mpsc::channel();
    let is_over = Arc::new(AtomicBool::new(false));
    let (over, mut copies) = (is_over.clone(), Copies::new(files, config.clone()));
    let run = move || {
        scheduling::give_way();
        work_through(&received, &over, |op| core.send(ToNetwork::Copied(copies.carry_out(op))));
    };
    let thread = thread::Builder::new().name("snapshot-copies".into()).spawn(run)?;
    let copier = Copier { is_over, orders: orders.clone(), thread: Some(thread), wait };
    Ok((Copying { orders }, copier))
}

fn work_through(received: &Receiver<Order>, is_over: &AtomicBool, mut carry_out: impl FnMut(CopyOp)) {
    while let Ok(Some(op)) = received.recv() {
        if is_over.load(Ordering::SeqCst) {
            return;
        }
        carry_out(op);
    }
}
