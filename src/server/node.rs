//! A node inside of another program: all that `kraft-server` is, without a process of its own.
//!
//! It takes nothing that is the process's: no signal, no exit, no panic hook, no line on stdout, and its log lines go to the
//! `tracing` subscriber that the program has, if it has one. Two things it cannot have for itself: the soft limits of open files
//! and of locked memory (RLIMIT_NOFILE, RLIMIT_MEMLOCK) are raised to the hard ones, and a file that reaches `ulimit -f` ends the
//! process where it does not ignore SIGXFSZ.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::life::Life;
use super::replica_core::Ended;
use super::start::{run_and_tell, thread_refused};
use super::wish::{Wish, Wishes};
use crate::config::Config;

/// A stop in good order that takes longer becomes an end at once, as it does in `kraft-server`: nothing acknowledged is lost.
const STOP_MAX: Duration = Duration::from_secs(20);
/// A bug of ours: see docs/starts-and-ends.md, exit codes.
const EXIT_PANICKED: i32 = 134;

/// One node of a quorum, on threads of its own: real files, sockets and rings. Dropped, it ends at once.
///
/// A broken invariant, which aborts `kraft-server`, is only a panic on one of its threads here, and the node may go on without
/// the task that has panicked. Who keeps what matters in it sets a panic hook that aborts, as the server does.
pub struct Node {
    wishes: Wishes,
    /// Says nothing: it is closed when the node has ended.
    running: Receiver<()>,
    thread: Option<JoinHandle<Ended>>,
}

impl Node {
    /// Recover what is in `log.dirs`, and listen. Returns when clients can connect; whether there is a leader yet they are told.
    /// It cannot be ended meanwhile, and a large log that was not closed in good order takes its time to be read.
    /// Several nodes may live in one process. An error says why there is none, with the exit code of `kraft-server`.
    pub fn start(config: Config) -> Result<Node, Ended> {
        let (ready, is_ready) = mpsc::sync_channel(1);
        let (runs, running) = mpsc::channel::<()>();
        let wishes = Wishes::default();
        let own = wishes.clone();
        let live = move || {
            let _runs = runs;
            run_and_tell(config, Life::Guest { wishes: &own, ready })
        };
        let started = thread::Builder::new().name("replica-core".into()).spawn(live);
        let thread = started.map_err(|error| {
            let (why, exit_code) = thread_refused(&error);
            Ended { exit_code, why }
        })?;
        let mut node = Node { wishes, running, thread: Some(thread) };
        match is_ready.recv() {
            Ok(()) => Ok(node),
            Err(_) => Err(node.join()),
        }
    }

    /// In good order: hand over to another voter, flush, cut the last segment to its length. Waits for it.
    pub fn stop(mut self) -> Ended {
        self.wishes.ask(Wish::Stop);
        if self.running.recv_timeout(STOP_MAX) == Err(RecvTimeoutError::Timeout) {
            self.wishes.ask(Wish::End);
        }
        self.join()
    }

    /// At once, as a process ends that is killed: nobody is told, and what was not flushed may be gone.
    pub fn kill(mut self) -> Ended {
        self.wishes.ask(Wish::End);
        self.join()
    }

    fn join(&mut self) -> Ended {
        let joined = self.thread.take().map(JoinHandle::join);
        let panicked =
            || Ended { exit_code: EXIT_PANICKED, why: "a broken invariant has ended this node".into() };
        joined.and_then(Result::ok).unwrap_or_else(panicked)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if self.thread.is_some() {
            self.wishes.ask(Wish::End);
            self.join();
        }
    }
}
