//! Who goes next on a core: the connections that wait for a round, for memory, or for the replica to take what it was sent.

use super::*;

impl NetworkCore {
    /// The sockets are about to run: what they may do begins anew, first for those who wait.
    pub(crate) fn begin_round(&self, now_ns: u64) {
        self.turns.borrow_mut().look_around(now_ns);
        let room = self.room();
        self.turns.borrow_mut().begin_round(now_ns, room);
        self.wake_frames();
        self.wake_waiting();
    }

    /// Somebody waits only for the next round.
    pub(crate) fn has_line(&self) -> bool {
        self.turns.borrow().has_line(self.room())
    }

    /// The next in line go, as many as there is room for.
    pub(super) fn wake_waiting(&self) {
        let room = self.room();
        let mut turns = self.turns.borrow_mut();
        if !turns.has_line(room) {
            return;
        }
        let clients = self.clients.borrow();
        while let Some(id) = turns.next(room) {
            if let Some(client) = clients.get(&id)
                && client.with_turn(|turn| turns.let_in(turn))
            {
                client.wake();
            }
        }
    }

    /// Requests that may go to the replica now.
    pub(super) fn room(&self) -> Room {
        let heavy_bytes = self.handed.borrow().heavy_bytes;
        let most = match heavy_bytes >= HEAVY_HANDED_BYTES_MAX {
            true => 0,
            false => self.turns.borrow().requests_max(self.sink.requests_max()),
        };
        let requests = most.saturating_sub(self.sink.waiting());
        Room { requests, is_for_cheap: heavy_bytes >= COSTLY_HANDED_BYTES_MAX }
    }

    /// Those for whom there is memory now go on.
    pub(super) fn wake_frames(&self) {
        let mut frames = self.frames.borrow_mut();
        if !frames.has_line() {
            return;
        }
        let (now_ns, clients) = (clock::monotonic_ns(), self.clients.borrow());
        while let Some((id, bytes)) = frames.next_served() {
            if let Some(client) = clients.get(&id)
                && frames.let_in(&mut client.hold.borrow_mut(), bytes, now_ns)
            {
                client.wake();
            }
        }
    }

    /// The replica has taken so many requests of this core's clients.
    pub(crate) fn on_taken(&self, requests: usize) {
        if let RequestSink::Mesh(replica) = &self.sink {
            replica.on_taken(requests);
        }
        let mut handed = self.handed.borrow_mut();
        handed.taken += requests as u64;
        let taken = handed.taken;
        while handed.large.front().is_some_and(|large| large.place < taken)
            && let Some(large) = handed.large.pop_front()
        {
            handed.heavy_bytes -= large.heavy_bytes;
            if let Some(client) = self.clients.borrow().get(&large.connection) {
                self.frames.borrow_mut().taken(&mut client.hold.borrow_mut(), large.seq);
            }
        }
    }

    /// While it is full, producers are not read.
    pub(crate) fn set_full(&self, full: bool) {
        self.full.set(full);
        if !full {
            for client in self.held_back.borrow_mut().drain(..) {
                client.is_held_back.set(false);
                client.wake();
            }
        }
    }
}
