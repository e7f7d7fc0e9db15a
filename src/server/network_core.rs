//! The client connections of one core: reads them, lets their sessions decode, hands requests on, sends answers.
//!
//! The replica core uses it for its own share, every other core runs nothing else. It stops reading a socket when the
//! session has enough under way, when it is not the connection's turn or there is no memory for a large frame (`replica::room`),
//! when there is no room or credit towards the replica, or, for producers, when the replica is full: that is the only
//! back-pressure, and none of it holds a voter back, which sends no large frames. Slow readers are closed, never waited for.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use super::control::Control;
use super::doors::Place;
use super::inspectors::Inspectors;
use super::mesh::{ClientRequest, Entered, MovedSession};
pub(crate) use super::request_sink::RequestSink;
use crate::io::clock;
use crate::io::connection::Connection;
use crate::io::executor;
use crate::io::listener::Accepted;
use crate::io::memory;
use crate::io::rate_limit::{RateLimit, and_more};
use crate::io::ring::CoreRing;
use crate::protocol::{FrameError, Request, Response};
use crate::replica::ConnectionId;
use crate::replica::admit::Admitted;
use crate::replica::cost::Announced;
use crate::replica::room::answers::{Given, Share};
use crate::replica::room::frames::{Frames, Until};
use crate::replica::room::gauges::CoreGauges;
use crate::replica::room::limits::{CoreRoom, HEAVY_HANDED_BYTES_MAX};
use crate::replica::room::turns::{NEWCOMER_STEPS, Room, Turns};
use crate::replica::session::{Arrived, Session, SessionLimits};
use crate::replica::{receive::RECEIVE_BYTES_MIN, receive_pool::ReceivePool};
use crate::types::NS_PER_MS;
use client::Client;
use decoding::Decoding;
use handed::{COSTLY_HANDED_BYTES_MAX, Handed, HandedLarge};

mod client;
mod closing;
mod decoding;
mod handed;

/// A reader that takes nothing of its answers for this long is gone.
const SEND_STALL_MS_MAX: u64 = 60_000;

/// Idle connections are looked for so many times within the time after which they are closed, but not less often than in the
/// second of these intervals, nor more often than in the first.
const IDLE_LOOKS: u64 = 4;
const IDLE_INTERVALS_MS: RangeInclusive<u64> = 250..=10_000;

/// What a connection is closed with that came when all places were taken.
const NO_PLACE: &str =
    "all places for clients are taken (max.connections), and it has not shown itself to be a voter.";

pub(super) struct NetworkCore {
    core: usize,
    limits: SessionLimits,
    control: Control,
    sink: RequestSink,
    inspectors: Inspectors,
    ring: Rc<CoreRing>,
    pool: Rc<RefCell<ReceivePool>>,
    clients: RefCell<HashMap<ConnectionId, Rc<Client>>>,
    connections_seen: Cell<u64>,
    /// Clients with answers to send at the end of the turn.
    answered: RefCell<Vec<Rc<Client>>>,
    turns: RefCell<Turns>,
    frames: RefCell<Frames>,
    handed: RefCell<Handed>,
    decoding: RefCell<Decoding>,
    answers: Arc<Share>,
    voters_answers: Arc<Share>,
    gauges: Arc<CoreGauges>,
    /// Producers that wait for the replica to take Produce again.
    held_back: RefCell<Vec<Rc<Client>>>,
    full: Cell<bool>,
    lines: RefCell<RateLimit>,
}

/// How serving a connection ended.
enum End {
    /// By the other side, or as `closing` says.
    Closed,
    /// It sent what no Kafka client sends.
    BadInput(String),
    Moved(Box<MovedSession>),
}

impl NetworkCore {
    pub(super) fn new(
        core: usize,
        limits: SessionLimits,
        room: CoreRoom,
        control: Control,
        sink: RequestSink,
        inspectors: Inspectors,
        ring: Rc<CoreRing>,
    ) -> Rc<NetworkCore> {
        Rc::new(NetworkCore {
            core,
            limits,
            control,
            sink,
            inspectors,
            ring,
            pool: Rc::default(),
            clients: RefCell::default(),
            connections_seen: Cell::new(0),
            answered: RefCell::default(),
            turns: RefCell::new(Turns::new(room.round)),
            frames: RefCell::new(Frames::new(room.frames)),
            handed: RefCell::default(),
            decoding: RefCell::default(),
            answers: room.answers,
            voters_answers: room.voters_answers,
            gauges: room.gauges,
            held_back: RefCell::default(),
            full: Cell::new(false),
            lines: RefCell::default(),
        })
    }

    /// Of this core: for whatever else it receives.
    pub(super) fn receive_pool(&self) -> Rc<RefCell<ReceivePool>> {
        self.pool.clone()
    }

    /// Serve a new connection from here on.
    pub(super) fn accept(self: &Rc<Self>, entered: Entered) {
        let Entered { accepted: Accepted { socket, remote }, place } = entered;
        let session = Session::new(self.limits.clone());
        if let Some(client) = self.adopt(socket, remote, place, session) {
            executor::spawn(self.clone().serve(client));
        }
    }

    /// Take over a peer's connection from another core, with its first voter request.
    pub(super) fn accept_moved(self: &Rc<Self>, moved: MovedSession) {
        let MovedSession { socket, remote, place, session, mut first, standing } = moved;
        if let Some(client) = self.adopt(socket, remote, place, session) {
            first.connection = client.id;
            client.standing.set(standing);
            self.count_voter(&client);
            self.hand_on(&client, first, false);
            executor::spawn(self.clone().serve(client));
        }
    }

    fn adopt(
        &self,
        socket: OwnedFd,
        remote: SocketAddr,
        place: Place,
        session: Session,
    ) -> Option<Rc<Client>> {
        place.let_go();
        let connection = match Connection::adopt(socket, &self.ring) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!("The connection of {remote} ended before it was served: {error}.");
                return None;
            }
        };
        place.hold(connection.descriptor());
        self.connections_seen.set(self.connections_seen.get() + 1);
        let id = ConnectionId::new(self.core, self.connections_seen.get());
        let now_ns = clock::monotonic_ns();
        let client = Rc::new(Client {
            id,
            remote,
            connection,
            ring: self.ring.clone(),
            place: RefCell::new(Some(place)),
            standing: Cell::default(),
            turn: Cell::default(),
            steps_left: Cell::new(NEWCOMER_STEPS),
            hold: RefCell::default(),
            session: RefCell::new(session),
            waker: RefCell::default(),
            awaits_bytes: Cell::new(false),
            has_left: Cell::new(false),
            end_seen: Cell::new(false),
            closing: RefCell::default(),
            is_idle: Cell::new(false),
            answered: Cell::new(false),
            is_held_back: Cell::new(false),
            produces: Cell::new(false),
            inspected: RefCell::default(),
            decoded: RefCell::default(),
            is_decoding: Cell::new(false),
            received_ns: Cell::new(now_ns),
            active_ns: Cell::new(now_ns),
            unsent: Cell::default(),
            share: RefCell::new(Some(self.answers.clone())),
        });
        self.clients.borrow_mut().insert(id, client.clone());
        Some(client)
    }

    async fn serve(self: Rc<Self>, client: Rc<Client>) {
        let end = self.read_requests(&client).await;
        self.clients.borrow_mut().remove(&client.id);
        self.pool.borrow_mut().note_gone(RECEIVE_BYTES_MIN);
        client.with_turn(|turn| self.turns.borrow_mut().leave(turn));
        self.wake_waiting();
        client.leave_share();
        self.frames.borrow_mut().leave(&mut client.hold.borrow_mut());
        self.wake_frames();
        self.stop_decoding(client.id);
        if client.is_held_back.get() {
            self.held_back.borrow_mut().retain(|held_back| held_back.id != client.id);
        }
        self.sink.closed(client.id);
        match end {
            End::Closed => self.log_close(&client),
            End::BadInput(why) => {
                self.control.connection_closed_for_bad_input();
                self.line(&why, || format!("Closed the connection of {}: {why}", client.remote));
            }
            End::Moved(moved) => {
                client.drop_waker();
                if let RequestSink::Mesh(replica) = &self.sink {
                    replica.move_peer(*moved);
                }
                // The other descriptor lives on: no shutdown.
                return;
            }
        }
        client.connection.shut_down();
        // Free at once, whoever still holds on to the client.
        client.place.take();
    }

    async fn read_requests(&self, client: &Rc<Client>) -> End {
        loop {
            loop {
                poll_fn(|cx| self.poll_room(client, cx)).await;
                if client.is_closing() {
                    return End::Closed;
                }
                let announced = client.session.borrow().announced();
                let large = client.session.borrow_mut().poll_large();
                let next = match large {
                    None => client.session.borrow_mut().poll_request(clock::now()),
                    Some(Err(error)) => Some(Err(error)),
                    Some(Ok(frame)) => match self.decode_elsewhere(client, frame).await {
                        None => return End::Closed,
                        decoded => decoded,
                    },
                };
                let mut arrived = match next {
                    None => break,
                    Some(Ok(arrived)) => arrived,
                    Some(Err(error)) => return End::BadInput(error.0),
                };
                if let Admitted::Produce(_) = arrived.request.asked() {
                    client.produces.set(true);
                }
                if !client.show(&arrived.request) {
                    *client.closing.borrow_mut() = Some(NO_PLACE.into());
                    return End::Closed;
                }
                self.count_voter(client);
                let (received_ns, decoded_ns) = (client.received_ns.get(), clock::monotonic_ns());
                self.note_cost(client, announced, &arrived.request, decoded_ns);
                let is_large = self.note_frame(client, &arrived);
                let to_inspect = arrived.to_inspect.take();
                let mut request = ClientRequest { connection: client.id, arrived, received_ns, decoded_ns };
                if let Some(inspection) = to_inspect {
                    self.inspectors.inspect(request, inspection);
                    self.rest(client);
                    match poll_fn(|cx| self.poll_inspected(client, announced, cx)).await {
                        Some(inspected) => request = inspected,
                        None => return End::Closed,
                    }
                }
                let is_peer = client.session.borrow().is_peer();
                if is_peer && matches!(self.sink, RequestSink::Mesh(_)) {
                    self.rest(client);
                    return self.move_to_replica_core(client, request).await;
                }
                self.hand_on(client, request, is_large);
            }
            if !self.read(client).await {
                return End::Closed;
            }
        }
    }

    /// Ready when the next request may be taken, or the next bytes read, or when the connection is to end.
    fn poll_room(&self, client: &Rc<Client>, cx: &mut Context<'_>) -> Poll<()> {
        if client.is_closing() {
            return Poll::Ready(());
        }
        client.note_sent();
        let is_blocked = client.session.borrow().is_blocked();
        let is_held_back = self.full.get() && client.produces.get() && !client.is_voter();
        if is_blocked || is_held_back {
            self.rest(client);
            if client.poll_end(cx) {
                return Poll::Ready(());
            }
            if is_held_back && !client.is_held_back.replace(true) {
                self.held_back.borrow_mut().push(client.clone());
            }
        } else if client.is_voter() || self.may_go(client, client.session.borrow().announced()) {
            return Poll::Ready(());
        }
        client.wake_with(cx.waker());
        Poll::Pending
    }

    /// `next`: what comes next on it, as far as is known.
    fn may_go(&self, client: &Client, next: Option<Announced>) -> bool {
        let room = self.room();
        let mut turns = self.turns.borrow_mut();
        if !client.is_newcomer() {
            return client.with_turn(|turn| turns.may_go(client.id, turn, room, next));
        }
        let may_step = client.with_turn(|turn| turns.may_step(client.id, turn, room));
        client.steps_left.set(client.steps_left.get() - may_step as u8);
        may_step
    }

    /// A connection that shows itself to be a voter's has another bound from now on.
    fn count_voter(&self, client: &Client) {
        if client.is_voter() && client.share.borrow().as_ref().is_some_and(|s| Arc::ptr_eq(s, &self.answers))
        {
            client.join_share(&self.voters_answers);
        }
    }

    fn note_cost(&self, client: &Client, announced: Option<Announced>, request: &Admitted, now_ns: u64) {
        let mut turns = self.turns.borrow_mut();
        match announced.filter(|_| !client.is_voter()) {
            None => turns.voter_went(now_ns),
            Some(announced) => {
                let cost_ns = announced.decoded_ns(request);
                let under_way = client.session.borrow().requests_under_way();
                client.with_turn(|turn| {
                    turns.has_under_way(turn, under_way, now_ns);
                    turns.took_request(turn, announced, cost_ns, now_ns);
                });
            }
        }
    }

    /// A request has come whole: what memory it holds from here on. True: until the replica takes it.
    fn note_frame(&self, client: &Client, arrived: &Arrived) -> bool {
        let until = match arrived.request.asked() {
            Admitted::Other(Request::Fetch(_)) => Until::Decoded,
            Admitted::Produce(_) => Until::Taken,
            Admitted::Other(_) | Admitted::Heavy(_) => Until::Answered,
        };
        let (frame_bytes, mut hold) = (client.session.borrow().whole_bytes(), client.hold.borrow_mut());
        let is_held = self.frames.borrow_mut().came(&mut hold, arrived.seq, frame_bytes, until);
        drop(hold);
        if until == Until::Decoded {
            self.wake_frames();
        }
        is_held
    }

    /// The request with the verdict on its batches, as soon as there is room for it; `None`: the connection is to end.
    fn poll_inspected(
        &self,
        client: &Rc<Client>,
        announced: Option<Announced>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<ClientRequest>> {
        if client.is_closing() {
            return Poll::Ready(None);
        }
        client.note_sent();
        let has_come = client.inspected.borrow().is_some();
        if has_come && self.may_go(client, announced) {
            return Poll::Ready(client.inspected.take());
        }
        client.wake_with(cx.waker());
        Poll::Pending
    }

    /// A request comes back with the verdict on its compressed batches. For a connection that is gone it is dropped.
    pub(super) fn on_inspected(&self, mut request: ClientRequest) {
        let client = self.clients.borrow().get(&request.connection).cloned();
        let Some(client) = client else { return };
        request.decoded_ns = clock::monotonic_ns();
        *client.inspected.borrow_mut() = Some(request);
        client.wake();
    }

    /// It goes on only when its turn comes again.
    fn rest(&self, client: &Client) {
        client.with_turn(|turn| self.turns.borrow_mut().rest(turn));
        self.wake_waiting();
    }

    /// Wait until the voter request just taken is the only one without its answer, then pack up.
    async fn move_to_replica_core(&self, client: &Rc<Client>, first: ClientRequest) -> End {
        poll_fn(|cx| {
            client.note_sent();
            let session = client.session.borrow();
            let is_quiet = session.requests_under_way() <= 1 && session.output_bytes() == 0;
            if is_quiet || client.is_closing() {
                return Poll::Ready(());
            }
            client.wake_with(cx.waker());
            Poll::Pending
        })
        .await;
        if client.is_closing() {
            return End::Closed;
        }
        let (Ok(socket), Some(place)) = (client.connection.duplicate(), client.place.take()) else {
            return End::Closed;
        };
        // This core's descriptor is closed before the other one takes it over.
        place.hold(&socket);
        let session = client.session.replace(Session::new(self.limits.clone()));
        let (remote, standing) = (client.remote, client.standing.get());
        End::Moved(Box::new(MovedSession { socket, remote, place, session, first, standing }))
    }

    fn hand_on(&self, client: &Client, request: ClientRequest, is_large: bool) {
        let is_voter = client.is_voter();
        if !is_voter {
            let mut handed = self.handed.borrow_mut();
            let place = handed.count;
            handed.count += 1;
            let heavy_bytes = match &request.arrived.request {
                Admitted::Heavy(heavy) => heavy.bytes,
                Admitted::Produce(_) | Admitted::Other(_) => 0,
            };
            if is_large || heavy_bytes > 0 {
                handed.heavy_bytes += heavy_bytes;
                let (connection, seq) = (client.id, request.arrived.seq);
                handed.large.push_back(HandedLarge { place, connection, seq, heavy_bytes });
            }
        }
        client.on_asked();
        self.sink.request(request, is_voter);
    }

    /// Wait for more, and read it. False: it has ended.
    async fn read(&self, client: &Rc<Client>) -> bool {
        // It has nothing more to say: the next in line has its turn.
        self.rest(client);
        self.note_buffered(client);
        poll_fn(|cx| self.poll_frame(client, cx)).await;
        client.awaits_bytes.set(true);
        poll_fn(|cx| client.poll_readable(cx, &self.pool)).await;
        client.awaits_bytes.set(false);
        let is_newcomer = client.is_newcomer();
        poll_fn(|cx| self.poll_room(client, cx)).await;
        let missing_bytes = client.session.borrow().awaited_bytes();
        let memory = self.frames.borrow().read_bytes_max(&client.hold.borrow(), missing_bytes);
        let turn = match client.is_voter() {
            true => usize::MAX,
            false => self.turns.borrow().read_bytes_max(is_newcomer),
        };
        match client.read(&self.pool, memory.min(turn)) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(0) => false,
            Ok(bytes) => {
                client.on_received();
                self.note_read(client, bytes);
                self.note_buffered(client);
                true
            }
        }
    }

    fn note_buffered(&self, client: &Client) {
        let bytes = client.session.borrow().buffered_bytes();
        self.frames.borrow_mut().note_buffered(&mut client.hold.borrow_mut(), bytes);
    }

    /// Ready when there is memory for the frame that is arriving, or when the connection is to end.
    fn poll_frame(&self, client: &Client, cx: &mut Context<'_>) -> Poll<()> {
        let mut session = client.session.borrow_mut();
        // As long as it is not known what it is, its length says nothing.
        let announced = session.announced();
        let arriving_bytes = announced.map_or(0, |_| session.arriving_bytes());
        let is_to_ask = announced.is_some_and(|next| !next.may_cost_more());
        let (mut frames, mut hold) = (self.frames.borrow_mut(), client.hold.borrow_mut());
        // A voter's too, if it is large: nobody is given memory for a voter's name. What voters send is small.
        let may_read = client.is_closing()
            || frames.may_read(client.id, &mut hold, arriving_bytes, is_to_ask, clock::monotonic_ns());
        if may_read {
            if hold.is_arriving() {
                session.believe();
            }
            return Poll::Ready(());
        }
        client.wake_with(cx.waker());
        if client.poll_end(cx) { Poll::Ready(()) } else { Poll::Pending }
    }

    fn note_read(&self, client: &Client, bytes: usize) {
        let (mut turns, now_ns) = (self.turns.borrow_mut(), client.received_ns.get());
        match client.is_voter() {
            true => turns.voter_went(now_ns),
            false => client.with_turn(|turn| turns.took_bytes(turn, bytes, now_ns)),
        }
    }

    /// Those for whom there is memory now go on.
    fn wake_frames(&self) {
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

    /// Queue an answer; `flush` sends it. For a connection that is gone it is dropped.
    pub(super) fn answer(
        &self,
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
        given: Option<Given>,
    ) {
        let client = self.clients.borrow().get(&connection).cloned();
        let Some(client) = client else { return };
        client.note_sent();
        let before = client.session.borrow().output_bytes();
        let answered = client.answer(seq, response, given.as_ref().map_or(0, Given::device_bytes));
        let bytes = client.session.borrow().output_bytes().saturating_sub(before);
        client.with_turn(|turn| turn.answered(bytes));
        // It is counted among what the connection has.
        drop(given);
        self.frames.borrow_mut().answered(&mut client.hold.borrow_mut(), seq);
        self.note_answered(connection, seq);
        client.on_answered();
        if let Err(error) = answered {
            return self.close_client(&client, error.0);
        }
        if !client.answered.replace(true) {
            self.answered.borrow_mut().push(client);
        }
    }

    /// Connections with answers that `flush` will send.
    pub(super) fn answered(&self) -> usize {
        self.answered.borrow().len()
    }

    /// Send what the turn has answered, with the ring's next call: one send per connection. False: there was nothing.
    pub(super) fn flush(&self) -> bool {
        let mut answered = self.answered.borrow_mut();
        let is_some = !answered.is_empty();
        for client in answered.drain(..) {
            client.answered.set(false);
            client.send();
            client.wake();
        }
        drop(answered);
        if is_some {
            self.close_stuck(&self.answers, clock::monotonic_ns());
            self.close_stuck(&self.voters_answers, clock::monotonic_ns());
        }
        is_some
    }

    /// While it is full, producers are not read.
    pub(super) fn set_full(&self, full: bool) {
        self.full.set(full);
        if !full {
            for client in self.held_back.borrow_mut().drain(..) {
                client.is_held_back.set(false);
                client.wake();
            }
        }
    }

    /// The replica has taken so many requests of this core's clients.
    pub(super) fn on_taken(&self, requests: usize) {
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

    /// The sockets are about to run: what they may do begins anew, first for those who wait.
    pub(super) fn begin_round(&self, now_ns: u64) {
        self.turns.borrow_mut().look_around(now_ns);
        let room = self.room();
        self.turns.borrow_mut().begin_round(now_ns, room);
        self.wake_frames();
        self.wake_waiting();
    }

    /// Somebody waits only for the next round.
    pub(super) fn has_line(&self) -> bool {
        self.turns.borrow().has_line(self.room())
    }

    /// The next in line go, as many as there is room for.
    fn wake_waiting(&self) {
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
    fn room(&self) -> Room {
        let heavy_bytes = self.handed.borrow().heavy_bytes;
        let most = match heavy_bytes >= HEAVY_HANDED_BYTES_MAX {
            true => 0,
            false => self.turns.borrow().requests_max(self.sink.requests_max()),
        };
        let requests = most.saturating_sub(self.sink.waiting());
        Room { requests, is_for_cheap: heavy_bytes >= COSTLY_HANDED_BYTES_MAX }
    }
}

#[cfg(test)]
#[path = "network_core/tests.rs"]
mod tests;
