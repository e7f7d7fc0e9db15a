//! Signals, from the first moment of the process to its last: the first one asks for a stop in good order, bounded in time;
//! an impatient second one ends the process now.
//!
//! SIGHUP is a stop as well, as it is for Kafka's JVM: the terminal is gone. Where it is ignored (nohup) it stays ignored.
//! The threads are started with the process, so that a limit on threads cannot take them away when they are needed.

use std::io;
use std::process::exit;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXCPU};
use signal_hook::iterator::Signals as Incoming;
use tracing::Level;

use super::logging;
use super::wish::{Wish, Wishes};
use crate::io::doorbell::Doorbell;
use crate::replica::EXIT_OK;

/// Hand-over, last flush and cut together. Past it the process ends as if killed, which loses nothing either.
const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// The hand-over took longer than that.
const EXIT_SHUTDOWN_TIMEOUT: i32 = 75;

/// Where a signal finds the process.
enum Stage {
    /// No core runs yet: nothing is to be handed over, and what a start has written so far the next one finds or repeats.
    Starting,
    Running(Wishes),
}

/// The handlers of this process.
pub struct Signals {
    stage: Arc<Mutex<Stage>>,
}

impl Signals {
    /// First thing in `main`. From now on no signal of those above ends the process without a word, also where it is
    /// process 1 of a container, to which the kernel delivers only what is handled.
    pub fn install() -> io::Result<Signals> {
        ignore_file_size_signal();
        let mut handled = vec![SIGTERM, SIGINT, SIGXCPU];
        if !is_ignored(SIGHUP) {
            handled.push(SIGHUP);
        }
        let incoming = Incoming::new(handled)?;
        let stage = Arc::new(Mutex::new(Stage::Starting));
        let (limit, asks) = mpsc::channel();
        thread::Builder::new().name("shutdown-limit".into()).spawn(move || bound_shutdown(&asks))?;
        let watched = stage.clone();
        thread::Builder::new().name("signals".into()).spawn(move || watch(incoming, &watched, &limit))?;
        Ok(Signals { stage })
    }

    /// The cores are about to run: the first signal asks them to hand over from now on.
    pub(super) fn hand_to(&self, doorbell: Doorbell) -> Wishes {
        let wishes = Wishes::default();
        wishes.hand_to(doorbell);
        *lock(&self.stage) = Stage::Running(wishes.clone());
        wishes
    }
}

fn lock(stage: &Mutex<Stage>) -> MutexGuard<'_, Stage> {
    stage.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A file that reaches `ulimit -f` is then an error of the write, EFBIG, which is told; by default the kernel would kill.
fn ignore_file_size_signal() {
    // SAFETY: no handler is installed, the signal is only ignored.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
}

fn is_ignored(signal: i32) -> bool {
    // SAFETY: all zeros is a valid sigaction, which the call fills.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(signal, std::ptr::null(), &mut action) == 0 && action.sa_sigaction == libc::SIG_IGN
    }
}

fn watch(mut incoming: Incoming, stage: &Mutex<Stage>, limit: &Sender<i32>) {
    let mut is_asked = false;
    for signal in incoming.forever() {
        if is_asked {
            if is_impatient(signal) {
                let text = format!("A second {} was received: ending now, without hand-over.", name(signal));
                end(Level::WARN, &text, 128 + signal);
            }
            continue;
        }
        is_asked = true;
        // Held until the end of this turn: a core that starts meanwhile waits, and never runs.
        match &*lock(stage) {
            Stage::Starting => {
                let text =
                    format!("{} received during the start: stopped. Nothing was served yet.", name(signal));
                end(Level::INFO, &text, EXIT_OK);
            }
            Stage::Running(wishes) => {
                tracing::info!(
                    "{} received: handing over and flushing. A second one ends at once.",
                    name(signal)
                );
                wishes.ask(Wish::Stop);
            }
        }
        // Its receiver lives as long as the process.
        let _ = limit.send(signal);
    }
}

/// A terminal that closes sends SIGHUP more than once, and the limit of CPU time its signal each second: neither of them
/// means that somebody has lost patience.
fn is_impatient(signal: i32) -> bool {
    signal == SIGTERM || signal == SIGINT
}

fn bound_shutdown(asks: &Receiver<i32>) {
    if asks.recv().is_err() {
        return;
    }
    match asks.recv_timeout(SHUTDOWN_MAX) {
        Err(RecvTimeoutError::Timeout) => {
            let text = format!(
                "The shutdown has not ended within {} s: ending now. Nothing acknowledged is lost.",
                SHUTDOWN_MAX.as_secs()
            );
            end(Level::ERROR, &text, EXIT_SHUTDOWN_TIMEOUT);
        }
        Ok(_) | Err(RecvTimeoutError::Disconnected) => {}
    }
}

/// Whether or not anybody reads the words.
fn end(level: Level, text: &str, code: i32) -> ! {
    logging::last_words(level, text);
    exit(code)
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        SIGHUP => "SIGHUP (the terminal was closed)",
        SIGXCPU => "SIGXCPU (the limit of CPU time, ulimit -t)",
        _ => "A signal",
    }
}
