//! The node's doors: the places of `replica::room::places`, shared by the acceptor and the cores.
//!
//! Whoever must go for another is shut down here, from whatever thread; the core that owns the socket sees its end.
//! Locked once for each connection that comes, shows what it is, or goes: never for a request.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::replica::room::places::{Activity, PlaceCounts, PlaceId, Places, Shown};
use crate::types::NodeId;

/// Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Doors(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    places: Places,
    /// Of connections that a core has taken over. Each lives at least as long as its place.
    sockets: BTreeMap<PlaceId, RawFd>,
    /// Were told to go before a core had them.
    leaving: Vec<PlaceId>,
    sent_away: u64,
}

/// A connection's place, free again when it is dropped, which must come before its socket is closed.
#[derive(Debug)]
pub(crate) struct Place {
    doors: Doors,
    id: PlaceId,
    activity: Arc<Activity>,
}

impl Doors {
    pub(super) fn new(places: Places) -> Doors {
        let inner = Inner { places, sockets: BTreeMap::new(), leaving: Vec::new(), sent_away: 0 };
        Doors(Arc::new(Mutex::new(inner)))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A connection was accepted. Gives with its place how many had to go for it.
    pub(super) fn arrive(&self, now_ns: u64) -> (Place, usize) {
        let activity = Arc::new(Activity::new(now_ns));
        let mut inner = self.lock();
        let (id, closed) = inner.places.arrive(now_ns, activity.clone());
        closed.iter().for_each(|place| inner.shut_down(*place));
        (Place { doors: self.clone(), id, activity }, closed.len())
    }

    /// Close the guests whose time is over. Gives how many.
    pub(super) fn expire(&self, now_ns: u64) -> usize {
        let mut inner = self.lock();
        let closed = inner.places.expire(now_ns);
        closed.iter().for_each(|place| inner.shut_down(*place));
        closed.len()
    }

    pub(super) fn taken(&self) -> PlaceCounts {
        self.lock().places.taken()
    }

    pub(super) fn most(&self) -> PlaceCounts {
        self.lock().places.most()
    }

    /// Connections that had to go since the last time.
    pub(super) fn take_sent_away(&self) -> u64 {
        std::mem::take(&mut self.lock().sent_away)
    }
}

impl Inner {
    fn shut_down(&mut self, place: PlaceId) {
        self.sent_away += 1;
        match self.sockets.get(&place) {
            Some(socket) => shut_down(*socket),
            None => self.leaving.push(place),
        }
    }
}

fn shut_down(socket: RawFd) {
    // SAFETY: no pointers; the descriptor is open as long as its place is taken.
    unsafe { libc::shutdown(socket, libc::SHUT_RDWR) };
}

impl Place {
    /// A core has the connection, under this descriptor.
    pub(crate) fn hold(&self, socket: &OwnedFd) {
        let mut inner = self.doors.lock();
        inner.sockets.insert(self.id, socket.as_raw_fd());
        if let Some(at) = inner.leaving.iter().position(|place| *place == self.id) {
            inner.leaving.swap_remove(at);
            shut_down(socket.as_raw_fd());
        }
    }

    /// Its descriptor is about to change, or to be closed.
    pub(crate) fn let_go(&self) {
        self.doors.lock().sockets.remove(&self.id);
    }

    pub(crate) fn activity(&self) -> &Activity {
        &self.activity
    }

    /// It speaks in this node's name, or, `None`, as a client does. May it stay, and is it a voter's?
    pub(crate) fn show(&self, voter: Option<NodeId>) -> Option<bool> {
        let mut inner = self.doors.lock();
        let shown = match voter {
            Some(id) => inner.places.show_voter(self.id, id),
            None => inner.places.show_client(self.id),
        };
        match shown {
            Shown::Client => Some(false),
            Shown::Voter { instead_of } => {
                instead_of.into_iter().for_each(|place| inner.shut_down(place));
                Some(true)
            }
            Shown::NoPlace => {
                inner.sent_away += 1;
                None
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inner = self.doors.lock();
        inner.places.leave(self.id);
        inner.sockets.remove(&self.id);
        inner.leaving.retain(|place| *place != self.id);
    }
}
