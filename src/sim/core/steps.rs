//! The steps of a core's clients: accepted, read, heard, answered, closed; and what must hold at each step.

use super::*;
use crate::replica::cost::Announced;
use crate::sim::node::Node;

/// What it costs the replica to take a request that is not put off: few things are answered for, and records lie where they are.
const TAKEN_NS_MAX: u64 = 50_000;

/// True: it was decoded in place of the server's thread for it, which takes no time of the core.
fn next_request(session: &mut Session, now: Now) -> (Option<Result<Arrived, FrameError>>, bool) {
    match session.poll_large() {
        None => (session.poll_request(now), false),
        Some(frame) => (Some(frame.and_then(|frame| session.take_decoded(frame.decode(), now))), true),
    }
}

impl Simulation {
    /// A process begins with nobody connected.
    pub(crate) fn empty_core(&self, node: &mut Node) {
        let mut config = node.config.clone();
        if self.liar.is(Lie::PlacesUnbounded) {
            config.limits.connections_max *= 1_000;
        }
        node.core = Core::new(&config, node.shape);
        node.busy_until = 0;
    }

    pub(crate) fn accept(&mut self, node: &mut Node, now: Now, wire: WireId) {
        let Some(host) = self.network.host(wire, End::Caller) else { return };
        if self.network.is_refusing() {
            return self.network.refuse(self.now_ns, wire);
        }
        let activity = Arc::new(Activity::new(now.monotonic_ns));
        let (place, sent_away) = node.core.places.arrive(now.monotonic_ns, activity.clone());
        self.send_away(node, now, sent_away);
        if self.liar.is(Lie::PlacesUnbounded) && node.served.len() >= node.config.limits.connections_max {
            self.liar.told += 1;
        }
        let mut limits = SessionLimits::of(&node.config);
        if self.liar.tells(Lie::OutputUnbounded) {
            limits.output_bytes_max *= 1_000;
        }
        let served = Served {
            session: Session::new(limits),
            host,
            produces: false,
            known: Known::Nothing,
            stage: Stage::Requests,
            turn: Turn::default(),
            steps_left: NEWCOMER_STEPS,
            is_stepping: false,
            hold: Hold::default(),
            unsent: Unsent::default(),
            place,
            activity,
            received_ns: now.monotonic_ns,
            is_runnable: false,
            is_held_back: false,
            has_left: false,
            unread: BytesMut::new(),
            outbox: VecDeque::new(),
            on_way_bytes: 0,
            large: BTreeMap::new(),
            answers: 0,
            requests_before: 0,
            stood: None,
        };
        node.core.seats.insert(place, wire);
        node.served.insert(wire, served);
        node.stir(wire);
        self.network.accept(self.now_ns, wire);
    }

    fn send_away(&mut self, node: &mut Node, now: Now, places: Vec<PlaceId>) {
        for place in places {
            if let Some(wire) = node.core.seats.get(&place).copied() {
                self.totals.sent_away += 1;
                self.close_served(node, now, wire);
            }
        }
    }

    pub(crate) fn close_served(&mut self, node: &mut Node, now: Now, wire: WireId) {
        if let Some(served) = node.served.remove(&wire) {
            node.leave(served, wire, now);
            self.network.close(self.now_ns, wire, End::Called, "closed by the server");
        }
    }

    /// The replica wants it closed; with `if_silent_ms` only if it has taken nothing of its answers for so long.
    pub(crate) fn close_for_replica(
        &mut self,
        node: &mut Node,
        now: Now,
        wire: WireId,
        if_silent_ms: Option<u64>,
    ) {
        let Some(served) = node.served.get(&wire) else { return };
        let silent_ns = served.unsent.silent_ns(now.monotonic_ns);
        if if_silent_ms.is_none_or(|ms| silent_ns > ms * NS_PER_MS) {
            // What it was answered before leaves first.
            self.send_out(node, now, wire);
            self.close_served(node, now, wire);
        }
    }

    /// The sockets run, until each waits for something.
    pub(crate) fn run_sockets(&mut self, node: &mut Node, now: Now) {
        node.begin_round(now);
        if now.monotonic_ns >= node.core.stall_look_ns {
            node.core.stall_look_ns = now.monotonic_ns + STALL_LOOK_NS;
            let over = node.core.places.expire(now.monotonic_ns);
            self.send_away(node, now, over);
            self.close_stalled(node, now);
        }
        while let Some(wire) = node.core.runnable.pop_front() {
            if let Some(served) = node.served.get_mut(&wire) {
                served.is_runnable = false;
            }
            while self.serve(node, now, wire) {}
        }
        node.core.is_in_round = false;
    }

    fn close_stalled(&mut self, node: &mut Node, now: Now) {
        let answers = node.core.answers.clone();
        if answers.is_wanted() {
            let readers = node.served.iter().filter(|(_, served)| !served.is_voter());
            let readers = readers.map(|(wire, served)| (*wire, served.unsent));
            let stalled = answers.stalled(readers, now.monotonic_ns);
            stalled.into_iter().for_each(|wire| self.close_served(node, now, wire));
        }
        if !node.core.frames.has_line() {
            return;
        }
        let is_stalled = |served: &Served| {
            // Who is not read by us waits for no fault of its own.
            let is_read = served.stage == Stage::Read && served.unread.is_empty();
            is_read && node.core.frames.is_stalled(&served.hold, served.received_ns, now.monotonic_ns)
        };
        let stalled: Vec<WireId> =
            node.served.iter().filter(|(_, served)| is_stalled(served)).map(|(wire, _)| *wire).collect();
        stalled.into_iter().for_each(|wire| self.close_served(node, now, wire));
    }

    /// One step of a connection. False: it waits, or is gone.
    fn serve(&mut self, node: &mut Node, now: Now, wire: WireId) -> bool {
        let Some(served) = node.served.get_mut(&wire) else { return false };
        match served.stage {
            Stage::Requests => {
                if !self.may_go_on(node, now, wire) {
                    return false;
                }
                self.take_request(node, now, wire)
            }
            Stage::Memory => {
                let announced = served.session.announced();
                let bytes = announced.map_or(0, |_| served.session.arriving_bytes());
                let is_to_ask = announced.is_some_and(|next| !next.may_cost_more());
                let id = ConnectionId(wire.0);
                let may_read =
                    node.core.frames.may_read(id, &mut served.hold, bytes, is_to_ask, now.monotonic_ns)
                        || self.liar.tells(Lie::MemoryUnasked);
                if may_read {
                    if served.hold.is_arriving() {
                        served.session.believe();
                    }
                    served.stage = Stage::Read;
                    return true;
                }
                if served.has_left {
                    self.close_served(node, now, wire);
                }
                false
            }
            Stage::Read if served.unread.is_empty() => {
                if served.has_left {
                    self.close_served(node, now, wire);
                }
                false
            }
            Stage::Read => {
                let is_newcomer = served.is_newcomer();
                self.may_go_on(node, now, wire) && self.read(node, now, wire, is_newcomer)
            }
        }
    }

    /// May this connection take its next request, or read?
    fn may_go_on(&mut self, node: &mut Node, now: Now, wire: WireId) -> bool {
        let room = node.core.room();
        let Some(served) = node.served.get_mut(&wire) else { return false };
        let is_held_back = node.core.holds_back(served);
        if served.session.is_blocked() || is_held_back {
            let has_ended = served.has_left && (!served.produces || served.unread.is_empty());
            if is_held_back && !std::mem::replace(&mut served.is_held_back, true) {
                node.core.held_back.push(wire);
            }
            node.core.turns.rest(&mut served.turn);
            served.stood = node.core.place_of(served);
            node.wake_waiting();
            if has_ended {
                self.close_served(node, now, wire);
            }
            return false;
        }
        let id = ConnectionId(wire.0);
        served.is_stepping = served.is_newcomer();
        let may_go = if served.is_stepping {
            let may_step = node.core.turns.may_step(id, &mut served.turn, room);
            served.steps_left -= u8::from(may_step);
            may_step
        } else {
            served.is_voter()
                || node.core.turns.may_go(id, &mut served.turn, room, served.session.announced())
        };
        if !may_go && self.liar.tells(Lie::RoundEndless) {
            node.core.turns.leave(&mut served.turn);
            return true;
        }
        let waited = served.stood.map_or(0, |(since, _)| node.core.rounds - since);
        self.totals.waited_max = self.totals.waited_max.max(waited);
        served.stood = node.core.place_of(served);
        may_go
    }

    fn read(&mut self, node: &mut Node, now: Now, wire: WireId, is_newcomer: bool) -> bool {
        let Some(served) = node.served.get_mut(&wire) else { return false };
        let missing_bytes = served.session.awaited_bytes();
        let mut bytes_max = node.core.frames.read_bytes_max(&served.hold, missing_bytes);
        if self.liar.is(Lie::MemoryUnasked) {
            bytes_max = usize::MAX;
        }
        if !served.is_voter() {
            bytes_max = bytes_max.min(node.core.turns.read_bytes_max(is_newcomer));
        }
        let buffer = served.session.receive_buffer(&mut node.pool);
        let bytes = served.unread.len().min(buffer.capacity() - buffer.len()).min(bytes_max);
        buffer.extend_from_slice(&served.unread.split_to(bytes));
        node.core.frames.note_buffered(&mut served.hold, served.session.buffered_bytes());
        served.received_ns = now.monotonic_ns;
        served.stage = Stage::Requests;
        if served.is_voter() {
            served.activity.note_read(now.monotonic_ns);
        }
        node.core.spend(cost::read_ns(bytes));
        let now_ns = now.monotonic_ns + node.core.spent_ns;
        match served.is_voter() {
            true => node.core.turns.voter_went(now_ns),
            false => {
                node.core.read_bytes += bytes;
                node.core.turns.took_bytes(&mut served.turn, bytes, now_ns);
            }
        }
        self.network.took(wire, End::Caller, bytes);
        true
    }

    fn take_request(&mut self, node: &mut Node, now: Now, wire: WireId) -> bool {
        let Some(served) = node.served.get_mut(&wire) else { return false };
        let announced = served.session.announced();
        let (next, is_large) = next_request(&mut served.session, now);
        let mut arrived = match next {
            None => {
                served.stage = Stage::Memory;
                node.core.frames.note_buffered(&mut served.hold, served.session.buffered_bytes());
                node.rest(wire);
                return true;
            }
            Some(Err(why)) => {
                let text = format!("closed a connection for bad input: {why:?}");
                self.trace.line(self.now_ns, node.host, &text);
                self.totals.bad_input += 1;
                self.close_served(node, now, wire);
                return false;
            }
            Some(Ok(arrived)) => arrived,
        };
        let is_produce = matches!(arrived.request.asked(), Admitted::Produce(_));
        let is_first_produce = is_produce && !std::mem::replace(&mut served.produces, true);
        if !self.show(node, now, wire, &arrived.request) {
            self.close_served(node, now, wire);
            return false;
        }
        self.check_round(node, wire);
        let Some(served) = node.served.get_mut(&wire) else { return false };
        let bytes = served.session.whole_bytes();
        let cost_ns = announced.map_or(0, |announced| announced.decoded_ns(&arrived.request));
        node.core.spend(if is_large { 0 } else { cost_ns });
        let decoded_ns = now.monotonic_ns + node.core.spent_ns;
        note_cost(&mut node.core.turns, served, announced, cost_ns, decoded_ns);
        let until = match arrived.request.asked() {
            Admitted::Other(Request::Fetch(_)) => Until::Decoded,
            Admitted::Produce(_) => Until::Taken,
            Admitted::Other(_) | Admitted::Heavy(_) => Until::Answered,
        };
        if bytes > SMALL_FRAME_BYTES && until != Until::Decoded {
            served.large.insert(arrived.seq, (until, bytes));
        }
        node.core.frames.came(&mut served.hold, arrived.seq, bytes, until);
        if until == Until::Decoded {
            node.wake_frames(now);
        }
        // In place of the server's threads for it, which take no time of the core.
        if let Some(inspection) = arrived.to_inspect.take()
            && !inspection.look(&mut self.inspector, &mut arrived.request, Patience::Short)
        {
            inspection.look(&mut self.inspector, &mut arrived.request, Patience::Long);
        }
        let voter = node.served.get(&wire).filter(|served| served.is_voter());
        if let Some(served) = &voter
            && !self.liar.tells(Lie::SilentFirst)
        {
            served.activity.note_asked();
        }
        let is_voter = voter.is_some();
        let handed = Handed::Request { wire, arrived: Box::new(arrived), is_first_produce, cost_ns };
        match is_voter {
            true => node.core.voters.push_back(handed),
            false => {
                node.core.queued += 1;
                node.core.clients.push_back(handed)
            }
        }
        true
    }

    /// What it sends says what it is. False: there is no place for it.
    fn show(&mut self, node: &mut Node, now: Now, wire: WireId, request: &Admitted) -> bool {
        let Some(served) = node.served.get_mut(&wire) else { return false };
        let known = match request {
            _ if served.session.is_peer() => Known::Peer,
            Admitted::Other(Request::ApiVersions(_) | Request::ApiVersionsUnsupported) => return true,
            _ => Known::Client,
        };
        let is_news = match served.known {
            Known::Nothing => true,
            Known::Client => known == Known::Peer,
            Known::Peer | Known::Voter => false,
        };
        if !is_news {
            return true;
        }
        let voter = served.session.peer_id().filter(|_| known == Known::Peer);
        let (unsent_bytes, from_device) = (served.session.output_bytes(), served.unsent.device_bytes());
        served.activity.note_read(served.received_ns);
        let shown = match voter {
            Some(id) => node.core.places.show_voter(served.place, id),
            None => node.core.places.show_client(served.place),
        };
        served.known = if matches!(shown, Shown::Voter { .. }) { Known::Voter } else { known };
        match shown {
            Shown::Client => true,
            Shown::Voter { instead_of } => {
                served.requests_before = served.session.requests_under_way();
                served.session.hold_to_voters();
                node.core.answers.take_back(unsent_bytes, from_device);
                node.core.voters_answers.add(unsent_bytes, from_device);
                self.check_gives_way(node, now, instead_of);
                self.send_away(node, now, instead_of.into_iter().collect());
                true
            }
            Shown::NoPlace => {
                self.totals.sent_away += 1;
                false
            }
        }
    }

    /// The replica takes what waits for it, voters' requests first.
    pub(crate) fn take_handed(&mut self, node: &mut Node, replica: &mut Replica, now: Now, inputs: u64) {
        for _ in 0..inputs {
            let voters = node.core.voters.pop_front();
            let is_voter = voters.is_some();
            // Clients' stay while the replica would only put them aside.
            let takes_clients = replica.takes_clients();
            let next = voters.or_else(|| if takes_clients { node.core.clients.pop_front() } else { None });
            let Some(handed) = next else { return };
            match handed {
                Handed::Closed(wire) => {
                    replica.handle(now, Input::ConnectionClosed { connection: ConnectionId(wire.0) })
                }
                Handed::Request { wire, arrived, is_first_produce, cost_ns } => {
                    node.core.queued -= usize::from(!is_voter);
                    match arrived.request {
                        // It is put off, and costs when it is answered.
                        Admitted::Heavy(_) => drop(node.core.heavy_ns.insert((wire, arrived.seq), cost_ns)),
                        _ => node.core.spend(cost_ns.min(TAKEN_NS_MAX)),
                    }
                    node.on_taken(wire, arrived.seq);
                    self.hand_over(node, replica, now, wire, *arrived, is_first_produce);
                }
            }
        }
    }

    /// Behind a turn.
    pub(crate) fn end_round(&mut self, node: &mut Node, replica: &Replica, now: Now) {
        node.set_full(replica.is_full());
        let answered = std::mem::take(&mut node.core.answered);
        for wire in &answered {
            self.send_out(node, now, *wire);
        }
        if !answered.is_empty() {
            self.close_stuck(node, now, false);
            self.close_stuck(node, now, true);
        }
    }

    /// More answers are unsent than may be: who has been stuck the longest goes, until it is enough.
    fn close_stuck(&mut self, node: &mut Node, now: Now, of_voters: bool) {
        let share = if of_voters { node.core.voters_answers.clone() } else { node.core.answers.clone() };
        while share.over_bytes() > 0 && !self.liar.tells(Lie::OutputUnbounded) {
            let has_some = |served: &Served| served.is_voter() == of_voters && served.unsent.holds_memory();
            let stuck = node.served.iter().filter(|(_, served)| has_some(served));
            let first = stuck.min_by_key(|(_, served)| served.unsent.order(now.monotonic_ns));
            let Some(wire) = first.map(|(wire, _)| *wire) else {
                return;
            };
            self.close_served(node, now, wire);
        }
    }

    /// An answer is with the session: it leaves at the end of the turn.
    pub(crate) fn on_answered(&mut self, node: &mut Node, wire: WireId, seq: u64) {
        let Some(served) = node.served.get_mut(&wire) else { return };
        node.core.frames.answered(&mut served.hold, seq);
        served.large.remove(&seq);
        let under_way = served.session.requests_under_way();
        served.requests_before = served.requests_before.min(under_way);
        served.answers += u64::from(served.is_voter() && under_way == 0);
        if served.is_voter() && !self.liar.is(Lie::SilentFirst) {
            served.activity.note_answered(served.session.requests_under_way() > 0);
        }
        node.core.answered.push(wire);
        node.stir(wire);
    }

    fn send_out(&mut self, node: &mut Node, now: Now, wire: WireId) {
        let Some(served) = node.served.get_mut(&wire) else { return };
        while let Some(bytes) = served.session.poll_output() {
            self.trace.bytes(&bytes);
            served.outbox.push_back(bytes);
        }
        let is_client = served.host >= FIRST_CLIENT;
        let mut room = match is_client {
            true => SOCKET_SEND_BYTES.saturating_sub(served.on_way_bytes),
            false => usize::MAX,
        };
        let mut chunks = Vec::new();
        while room > 0
            && let Some(mut chunk) = served.outbox.pop_front()
        {
            if chunk.len() > room {
                let rest = chunk.split_off(room);
                served.outbox.push_front(rest);
            }
            room -= chunk.len();
            served.on_way_bytes += chunk.len();
            let share = node.core.share_of(served);
            served.change_unsent(&share, now, 0, |session| session.sent(chunk.len()));
            chunks.push(chunk);
        }
        self.send_answers(wire, chunks, is_client);
    }

    /// So many bytes of answers are with the client.
    pub(crate) fn on_delivered(&mut self, wire: WireId, bytes: usize) {
        let Some(host) = self.network.host(wire, End::Called) else { return };
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if let Some(served) = node.served.get_mut(&wire) {
            served.on_way_bytes = served.on_way_bytes.saturating_sub(bytes);
            if !served.outbox.is_empty() {
                let now = node.clock.now(self.now_ns);
                self.send_out(&mut node, now, wire);
                node.stir(wire);
                self.wake(&mut node, 1_000);
            }
        }
        self.nodes.insert(host, node);
    }

    // --- what must hold

    /// A voter's connection is about to go for another one in the same name. Of those that are known half of the places are kept.
    fn check_gives_way(&mut self, node: &Node, now: Now, place: Option<PlaceId>) {
        let wire = place.and_then(|place| node.core.seats.get(&place));
        let Some(goes) = wire.and_then(|wire| node.served.get(wire)) else { return };
        let is_known = |served: &Served| {
            let silent_ns = now.monotonic_ns.saturating_sub(served.received_ns);
            served.is_voter() && served.answers >= KNOWN_ANSWERS && silent_ns <= KNOWN_SILENCE_NS_MAX
        };
        let voter = goes.session.peer_id();
        let came_before = |served: &Served| served.session.peer_id() == voter && served.place < goes.place;
        let before = node.served.values().filter(|served| is_known(served) && came_before(served)).count();
        if is_known(goes) && before < node.config.limits.voter_connections_max / 2 {
            let detail = format!(
                "node {} closes a connection of {} in the name of {voter:?} that has had {} answers, for a newer one",
                node.host, goes.host, goes.answers
            );
            self.checker.violate("a voter's connection that is known keeps its place", detail);
        }
    }

    /// A client is about to take a request: in a round that is over only one whose stint has begun may.
    fn check_round(&mut self, node: &mut Node, wire: WireId) {
        let Some(served) = node.served.get_mut(&wire) else { return };
        let core = &node.core;
        if served.is_voter() {
            return;
        }
        if core.is_round_over() && !served.is_stepping && !served.turn.is_stint() {
            let detail = format!(
                "node {} takes a request of host {} after {} us and {} bytes of a round",
                node.host,
                served.host,
                core.spent_ns / 1_000,
                core.read_bytes
            );
            self.checker.violate("a round of a core ends for its clients", detail);
        }
    }
}

fn note_cost(
    turns: &mut Turns,
    served: &mut Served,
    announced: Option<Announced>,
    cost_ns: u64,
    now_ns: u64,
) {
    match announced.filter(|_| !served.is_voter()) {
        None => turns.voter_went(now_ns),
        Some(announced) => {
            turns.has_under_way(&mut served.turn, served.session.requests_under_way(), now_ns);
            turns.took_request(&mut served.turn, announced, cost_ns, now_ns);
        }
    }
}
