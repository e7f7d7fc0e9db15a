//! The threads that look into compressed batches, and decode large requests: both take longer than a turn may, and a core has
//! voters to serve.
//!
//! A core gives a connection's request away before the replica has seen it and takes nothing more from that connection until
//! it is back: so order stays, and a queue here holds at most one request of each connection, and the few searches that the
//! replica gives away at a time. What grows much goes on to a thread of its own, so that a bomb delays bombs. Requests with
//! uncompressed batches never come here, only searches in large ones. What nobody waits for any more is passed over. Requests for
//! many things have a thread of their own too, and each core gives it one at a time.

use std::io;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::inputs::ClientRequest;
use super::mesh::{CoreSender, ToNetwork};
use crate::io::scheduling;
use crate::record::Inspector;
use crate::replica::ConnectionId;
use crate::replica::inspection::{Inspection, Patience, Search};
use crate::replica::session::LargeFrame;

mod decoder;

enum Work {
    Request { request: Box<ClientRequest>, inspection: Inspection },
    Search(Search),
}

/// The way to the threads, for the cores. They end when all of these are gone.
#[derive(Clone)]
pub(super) struct Inspectors {
    short: Sender<Work>,
    long: Sender<Work>,
    frames: Sender<decoder::Frame>,
}

/// What was given to the threads before they were started.
pub(crate) struct Queue {
    short: Receiver<Work>,
    long: Receiver<Work>,
    to_long: Sender<Work>,
    frames: Receiver<decoder::Frame>,
}

impl Inspectors {
    pub(super) fn new() -> (Inspectors, Queue) {
        let ((to_short, short), (to_long, long)) = (mpsc::channel(), mpsc::channel());
        let (to_frames, frames) = mpsc::channel();
        let inspectors = Inspectors { short: to_short, long: to_long.clone(), frames: to_frames };
        (inspectors, Queue { short, long, to_long, frames })
    }

    /// The request comes back to its core as `ToNetwork::Inspected`.
    pub(super) fn inspect(&self, request: ClientRequest, inspection: Inspection) {
        // The threads end when nobody can ask them any more; one that is gone has panicked.
        let _ = self.short.send(Work::Request { request: Box::new(request), inspection });
    }

    /// It comes back to the core of this connection as `ToNetwork::Decoded`.
    pub(super) fn decode(&self, connection: ConnectionId, frame: LargeFrame) {
        let _ = self.frames.send((connection, frame));
    }

    /// The answer comes to the replica core as `ToNetwork::Searched`.
    pub(super) fn search(&self, search: Search) {
        let queue = if search.patience == Patience::Short { &self.short } else { &self.long };
        let _ = queue.send(Work::Search(search));
    }
}

impl Queue {
    /// `cores`: by number, the replica core first. Start them where nothing is pinned.
    pub(super) fn start(self, threads: usize, cores: &[CoreSender]) -> io::Result<()> {
        let Queue { short, long, to_long, frames } = self;
        let short = Arc::new(Mutex::new(short));
        for _ in 0..threads {
            let thread =
                Inspecting { work: short.clone(), longer: Some(to_long.clone()), cores: cores.to_vec() };
            thread::Builder::new().name("inspector".into()).spawn(move || thread.run())?;
        }
        drop(to_long);
        let thread = Inspecting { work: Arc::new(Mutex::new(long)), longer: None, cores: cores.to_vec() };
        thread::Builder::new().name("long-inspector".into()).spawn(move || thread.run())?;
        decoder::start(frames, cores)
    }
}

struct Inspecting {
    work: Arc<Mutex<Receiver<Work>>>,
    /// For what takes longer; the last thread has nobody behind it.
    longer: Option<Sender<Work>>,
    cores: Vec<CoreSender>,
}

impl Inspecting {
    fn run(self) {
        scheduling::give_way();
        let mut inspector = Inspector::default();
        loop {
            // Who waits holds the lock, the others wait for it.
            let work = self.work.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(work) = work else { return };
            let patience = if self.longer.is_some() { Patience::Short } else { Patience::Long };
            let unfinished = match work {
                Work::Request { request, inspection } => {
                    self.look_into(&mut inspector, request, inspection, patience)
                }
                Work::Search(search) => {
                    self.search(&mut inspector, search);
                    None
                }
            };
            if let (Some(work), Some(longer)) = (unfinished, &self.longer) {
                // The thread behind it ends after all before it.
                let _ = longer.send(work);
            }
        }
    }

    /// Gives back what needs a longer look.
    fn look_into(
        &self,
        inspector: &mut Inspector,
        mut request: Box<ClientRequest>,
        inspection: Inspection,
        patience: Patience,
    ) -> Option<Work> {
        if !inspection.look(inspector, &mut request.arrived.request, patience) {
            return Some(Work::Request { request, inspection });
        }
        if let Some(core) = self.cores.get(request.connection.core()) {
            core.send(ToNetwork::Inspected(request));
        }
        None
    }

    fn search(&self, inspector: &mut Inspector, search: Search) {
        let (token, found) = (search.token, search.look(inspector));
        // Its place is free when the replica hears of it.
        drop(search);
        if let Some(replica_core) = self.cores.first() {
            replica_core.send(ToNetwork::Searched { token, found });
        }
    }
}
