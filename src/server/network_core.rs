//! The client connections of one core, each from its accepted socket to its end.
//!
//! In the order of the path: a task for each connection reads, has its session decode, and hands on what was asked
//! (`receiving`; `client` is one connection, `decoding` has the large requests); `answering` sends what comes back. `rounds` says who
//! goes next, `closing` who has to go.
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
use std::sync::mpsc::Receiver;
use std::task::{Context, Poll};
use std::time::Duration;

use super::control::Control;
use super::doors::Place;
use super::inputs::ClientRequest;
use super::inspectors::Inspectors;
use super::mesh::{Entered, MovedSession, ToNetwork};
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

mod answering;
mod client;
mod closing;
mod decoding;
mod handed;
mod receiving;
mod rounds;

/// A core that has only clients looks this often for who keeps memory from others, and at the latest then for idle connections.
const NETWORK_INTERVAL_NS: u64 = 1_000 * NS_PER_MS;

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

    /// The whole life of a core that has only clients, until it is told to stop.
    pub(super) async fn run(self: &Rc<Self>, messages: Receiver<ToNetwork>) {
        executor::wake_regularly();
        let idle_interval_ns = self.idle_interval_ns().min(NETWORK_INTERVAL_NS);
        let (mut stalled_closed_ns, mut idle_closed_ns) = (clock::monotonic_ns(), clock::monotonic_ns());
        let mut is_stopping = false;
        loop {
            self.begin_round(clock::monotonic_ns());
            self.ring.run_tasks().await;
            // Who waits only for the next round does not let the core sleep.
            let most_ns = if self.has_line() { 0 } else { idle_interval_ns };
            if let Err(error) = self.ring.wait(Duration::from_nanos(most_ns)) {
                panic!("the ring of a network core is broken: {error}");
            }
            self.ring.take_rung();
            for message in messages.try_iter() {
                is_stopping |= matches!(message, ToNetwork::Stop);
                self.on_message(message);
            }
            if self.flush() && (is_stopping || self.ring.has_woken()) {
                // Answers do not wait for tasks. A ring that is broken says so at the next wait.
                let _ = self.ring.submit();
            }
            if is_stopping {
                return;
            }
            let now_ns = clock::monotonic_ns();
            if now_ns >= stalled_closed_ns + NETWORK_INTERVAL_NS {
                stalled_closed_ns = now_ns;
                self.close_stalled(now_ns);
            }
            if now_ns >= idle_closed_ns + idle_interval_ns {
                idle_closed_ns = now_ns;
                self.close_idle(now_ns);
            }
        }
    }

    fn on_message(self: &Rc<Self>, message: ToNetwork) {
        match message {
            ToNetwork::Accepted(entered) => self.accept(entered),
            ToNetwork::Answer { connection, seq, response, given } => {
                self.answer(connection, seq, response, given)
            }
            ToNetwork::Close { connection, why, if_silent_ms } => self.close(connection, why, if_silent_ms),
            ToNetwork::Inspected(request) => self.on_inspected(*request),
            ToNetwork::Decoded(connection, decoded) => self.on_decoded(connection, decoded),
            ToNetwork::Taken(requests) => self.on_taken(requests),
            ToNetwork::Full(is_full) => self.set_full(is_full),
            ToNetwork::Searched { .. } | ToNetwork::Copied(_) | ToNetwork::Stop => {}
        }
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
}

#[cfg(test)]
#[path = "network_core/tests.rs"]
mod tests;
