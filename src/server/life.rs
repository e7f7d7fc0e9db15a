//! Whose life a node's is: that of a process, which signals end, or of a guest in another program.

use std::io::Write;
use std::sync::mpsc::SyncSender;

use super::signals::Signals;
use super::wish::Wishes;
use crate::io::doorbell::Doorbell;

/// Whose life the node's is.
pub(super) enum Life<'a> {
    /// The process ends with it: what is left open then the kernel closes.
    Process(&'a Signals),
    /// Another program goes on without it.
    Guest {
        wishes: &'a Wishes,
        /// Told when the node listens.
        ready: SyncSender<()>,
    },
}

impl Life<'_> {
    pub(super) fn hand_to(&self, doorbell: Doorbell) -> Wishes {
        match self {
            Life::Process(signals) => signals.hand_to(doorbell),
            Life::Guest { wishes, .. } => {
                wishes.hand_to(doorbell);
                Wishes::clone(wishes)
            }
        }
    }

    /// For the table of latencies.
    pub(super) fn stdout(&self) -> Box<dyn Write + Send> {
        match self {
            Life::Process(_) => Box::new(std::io::stdout()),
            Life::Guest { .. } => Box::new(std::io::sink()),
        }
    }

    pub(super) fn ready(&self) -> Option<SyncSender<()>> {
        match self {
            Life::Process(_) => None,
            Life::Guest { ready, .. } => Some(ready.clone()),
        }
    }
}
