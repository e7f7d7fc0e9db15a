//! SIGTERM and SIGINT: the first asks for a hand-over, bounded in time; the second ends the process now.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

use crate::io::doorbell::Doorbell;

/// Hand-over, last flush and cut together. Past it the process ends as if killed, which loses nothing either.
pub const SHUTDOWN_MAX: Duration = Duration::from_secs(20);
/// The hand-over took longer than that.
pub const EXIT_SHUTDOWN_TIMEOUT: i32 = 75;

/// Set by the first signal; the replica core looks after its doorbell has rung.
pub type ShutdownAsked = Arc<AtomicBool>;

/// Start the thread that waits for signals.
pub fn watch(doorbell: Doorbell) -> io::Result<ShutdownAsked> {
    let asked = ShutdownAsked::default();
    let mut signals = Signals::new([SIGTERM, SIGINT])?;
    let (second, seconds) = mpsc::channel();
    let flag = asked.clone();
    thread::Builder::new().name("signals".into()).spawn(move || {
        let mut waiting = Some(seconds);
        for signal in signals.forever() {
            match waiting.take() {
                Some(seconds) => {
                    tracing::info!(
                        "{} received: handing over and flushing. A second one ends at once.",
                        name(signal)
                    );
                    flag.store(true, Ordering::SeqCst);
                    doorbell.ring();
                    bound_shutdown(seconds);
                }
                // Nobody hears it when that thread could not be started; then this one ends the process.
                None if second.send(signal).is_err() => std::process::exit(128 + signal),
                None => {}
            }
        }
    })?;
    Ok(asked)
}

fn bound_shutdown(seconds: mpsc::Receiver<i32>) {
    let started = thread::Builder::new().name("shutdown-limit".into()).spawn(move || {
        match seconds.recv_timeout(SHUTDOWN_MAX) {
            Ok(signal) => {
                // Not through the log's queue, which an exit does not wait for.
                eprintln!("A second {} was received: ending now, without hand-over.", name(signal));
                std::process::exit(128 + signal);
            }
            Err(RecvTimeoutError::Timeout) => {
                eprintln!(
                    "The shutdown has not ended within {} s: ending now. Nothing acknowledged is lost.",
                    SHUTDOWN_MAX.as_secs()
                );
                std::process::exit(EXIT_SHUTDOWN_TIMEOUT);
            }
            Err(RecvTimeoutError::Disconnected) => {}
        }
    });
    if let Err(error) = started {
        tracing::warn!("The shutdown is not bounded in time: no thread could be started ({error}).");
    }
}

fn name(signal: i32) -> &'static str {
    match signal {
        SIGTERM => "SIGTERM",
        SIGINT => "SIGINT",
        _ => "A signal",
    }
}
