//! What a node does for all its clients together: rounds, lines, answers, and what is given back when one leaves.

use super::*;
use crate::sim::node::Node;

impl Node {
    /// Let this connection go on in the round.
    pub(super) fn stir(&mut self, wire: WireId) {
        if let Some(served) = self.served.get_mut(&wire)
            && !std::mem::replace(&mut served.is_runnable, true)
        {
            self.core.runnable.push_back(wire);
        }
    }

    /// Bytes are in the socket of this connection, or its end.
    pub(crate) fn on_socket(&mut self, wire: WireId, bytes: Option<&[u8]>) {
        let Some(served) = self.served.get_mut(&wire) else { return };
        match bytes {
            Some(bytes) => served.unread.extend_from_slice(bytes),
            None => served.has_left = true,
        }
        self.stir(wire);
    }

    pub(super) fn rest(&mut self, wire: WireId) {
        if let Some(served) = self.served.get_mut(&wire) {
            self.core.turns.rest(&mut served.turn);
        }
        self.wake_waiting();
    }

    /// The next in line go, as many as there is room for.
    pub(super) fn wake_waiting(&mut self) {
        if !self.core.is_in_round {
            return;
        }
        let room = self.core.room();
        while let Some(ConnectionId(id)) = self.core.turns.next(room) {
            let wire = WireId(id);
            let Some(served) = self.served.get_mut(&wire) else { continue };
            if self.core.turns.let_in(&mut served.turn) {
                self.stir(wire);
            }
        }
    }

    /// Those for whom there is memory now go on.
    pub(super) fn wake_frames(&mut self, now: Now) {
        while let Some((ConnectionId(id), bytes)) = self.core.frames.next_served() {
            let wire = WireId(id);
            let Some(served) = self.served.get_mut(&wire) else { continue };
            if self.core.frames.let_in(&mut served.hold, bytes, now.monotonic_ns) {
                self.stir(wire);
            }
        }
    }

    pub(super) fn begin_round(&mut self, now: Now) {
        self.core.spent_ns = 0;
        self.core.read_bytes = 0;
        self.core.turns.look_around(now.monotonic_ns);
        let room = self.core.room();
        self.core.rounds += u64::from(room.requests > 0);
        self.core.turns.begin_round(now.monotonic_ns, room);
        self.core.is_in_round = true;
        self.wake_frames(now);
        self.wake_waiting();
    }

    /// A turn is over: who has something to say, and neither can nor stands in a line, or stands there for longer than those
    /// before him can keep him.
    pub(crate) fn passed_over(&self) -> Option<String> {
        self.served.values().find_map(|served| {
            let is_in_line = self.core.turns.rounds_at_most(&served.turn).is_some();
            if let Some((since, at_most)) = served.stood.filter(|_| is_in_line) {
                let waited = self.core.rounds - since;
                let is_overdue = waited >= at_most as u64;
                return is_overdue
                    .then(|| format!("host {}: {waited} rounds in place of {at_most}", served.host));
            }
            let has_more = match served.stage {
                Stage::Requests => true,
                Stage::Memory => false,
                Stage::Read => !served.unread.is_empty() || served.has_left,
            };
            let is_in_the_way = served.session.is_blocked() || self.core.holds_back(served);
            let is_forgotten = !served.is_runnable && (has_more && !is_in_the_way || !served.turn.is_free());
            let state = (served.stage, served.turn);
            (is_forgotten && !is_in_line).then(|| format!("host {} is forgotten in {state:?}", served.host))
        })
    }

    /// While it is full, producers are not read.
    pub(super) fn set_full(&mut self, is_full: bool) {
        self.core.is_full = is_full;
        if is_full {
            return;
        }
        for wire in std::mem::take(&mut self.core.held_back) {
            if let Some(served) = self.served.get_mut(&wire) {
                served.is_held_back = false;
            }
            self.stir(wire);
        }
    }

    /// The replica has this request.
    pub(super) fn on_taken(&mut self, wire: WireId, seq: u64) {
        let Some(served) = self.served.get_mut(&wire) else { return };
        self.core.frames.taken(&mut served.hold, seq);
        if served.large.get(&seq).is_some_and(|(until, _)| *until == Until::Taken) {
            served.large.remove(&seq);
        }
    }

    /// `None`: it is gone.
    pub(crate) fn answer(
        &mut self,
        wire: WireId,
        seq: u64,
        response: Option<Response>,
        from_device: usize,
        now: Now,
    ) -> Option<Result<(), FrameError>> {
        let heavy_ns = self.core.heavy_ns.remove(&(wire, seq)).unwrap_or(0);
        self.core.spend(heavy_ns);
        let served = self.served.get_mut(&wire)?;
        let share = self.core.share_of(served);
        Some(served.change_unsent(&share, now, from_device, |session| session.answer(seq, response)))
    }

    /// Who it is does not matter any more: what it had is given back.
    pub(super) fn leave(&mut self, mut served: Served, wire: WireId, now: Now) {
        self.core.share_of(&served).take_back(served.session.output_bytes(), served.unsent.device_bytes());
        self.core.turns.leave(&mut served.turn);
        self.core.frames.leave(&mut served.hold);
        self.core.places.leave(served.place);
        self.core.seats.remove(&served.place);
        self.core.held_back.retain(|held_back| *held_back != wire);
        self.core.clients.push_back(Handed::Closed(wire));
        self.asked_votes.retain(|(asked, _), _| *asked != wire);
        self.asked_produces.retain(|(asked, _), _| *asked != wire);
        self.wake_frames(now);
        self.wake_waiting();
    }
}
