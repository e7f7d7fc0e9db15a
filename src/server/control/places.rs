//! Who is being served by HTTP: a bounded number, and room for one more at any time.
//!
//! Where all places are taken the one who has been silent for longest loses his, whoever that is: a crowd that opens
//! connections and asks nothing must not keep a probe of `/live` out.

use std::net::TcpStream;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use super::lock;

pub(super) const CONNECTIONS_MAX: usize = 64;
/// Threads of connections that lost their places end within milliseconds; that many may be about to.
const ENDING_MAX: usize = 64;
/// How long one more waits for one of them, should all be slow.
const ENDING_WAIT: Duration = Duration::from_millis(500);

#[derive(Clone, Default)]
pub(super) struct Places {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    open: Mutex<Open>,
    one_ended: Condvar,
}

#[derive(Default)]
struct Open {
    last_name: u64,
    /// In the order in which they came.
    taken: Vec<Taken>,
    /// They have lost their places, and their threads have not ended yet.
    ending: usize,
}

struct Taken {
    name: u64,
    /// Open as long as this entry is here.
    stream: RawFd,
    has_asked: bool,
}

/// Given back when it is dropped, before its stream is.
pub(super) struct Place {
    name: u64,
    inner: Arc<Inner>,
}

impl Places {
    /// Always succeeds. Somebody else may be cut off for it.
    pub(crate) fn take(&self, stream: &TcpStream) -> Place {
        let mut open = lock(&self.inner.open);
        if open.taken.len() >= CONNECTIONS_MAX {
            open.cut_one_off();
        }
        if open.ending >= ENDING_MAX {
            let waited = self.inner.one_ended.wait_timeout(open, ENDING_WAIT);
            open = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        open.last_name += 1;
        let name = open.last_name;
        open.taken.push(Taken { name, stream: stream.as_raw_fd(), has_asked: false });
        Place { name, inner: self.inner.clone() }
    }
}

impl Open {
    fn cut_one_off(&mut self) {
        let silent = self.taken.iter().position(|taken| !taken.has_asked);
        let lost = self.taken.remove(silent.unwrap_or(0));
        self.ending += 1;
        // SAFETY: no pointers; the descriptor is open, because its entry was here. Its thread then reads an end.
        unsafe { libc::shutdown(lost.stream, libc::SHUT_RDWR) };
    }
}

impl Place {
    /// From now on it is the server that takes its time: those who have not asked go first.
    pub(super) fn has_asked(&self) {
        let mut open = lock(&self.inner.open);
        if let Some(taken) = open.taken.iter_mut().find(|taken| taken.name == self.name) {
            taken.has_asked = true;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = lock(&self.inner.open);
        let before = open.taken.len();
        open.taken.retain(|taken| taken.name != self.name);
        if open.taken.len() == before {
            open.ending -= 1;
            self.inner.one_ended.notify_one();
        }
    }
}
