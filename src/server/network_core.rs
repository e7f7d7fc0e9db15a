//! The client connections of one core: reads them, lets their sessions decode, hands requests on, sends answers.
//!
//! The replica core uses it for its own share, every other core runs nothing else. It stops reading a socket when the
//! session has enough under way, when there is no room or credit towards the replica, or, for producers, when the
//! replica is full: that is the only back-pressure. It never waits for a slow reader; the session's bound closes it.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, VecDeque};
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use super::control::Control;
use super::inputs::Inputs;
use super::mesh::{ClientRequest, MovedSession, ReplicaSender, connection_id};
use crate::io::clock;
use crate::io::connection::Connection;
use crate::io::listener::{Accepted, Place};
use crate::io::rate_limit::{RateLimit, and_more};
use crate::io::ring::CoreRing;
use crate::protocol::Response;
use crate::replica::admit::Admitted;
use crate::replica::receive_pool::ReceivePool;
use crate::replica::session::{Session, SessionLimits};
use crate::replica::{ConnectionId, Input};
use crate::types::NS_PER_MS;

/// Kafka's connections.max.idle.ms: no request under way, nothing read or sent for this long.
pub const CONNECTION_IDLE_MS_MAX: u64 = 600_000;
/// A reader that takes nothing of its answers for this long is gone.
pub const SEND_STALL_MS_MAX: u64 = 60_000;

/// Where the requests of a core go.
pub enum RequestSink {
    /// This is the replica core.
    Local(Rc<Inputs>),
    Mesh(ReplicaSender),
}

impl RequestSink {
    /// Requests that it takes now.
    fn room(&self) -> usize {
        match self {
            RequestSink::Local(inputs) => inputs.client_room(),
            RequestSink::Mesh(replica) => replica.credits(),
        }
    }

    fn request(&self, request: ClientRequest, is_peer: bool) {
        match self {
            RequestSink::Local(inputs) if is_peer => inputs.push_voter(request.into_input()),
            RequestSink::Local(inputs) => inputs.push_client(request.into_input()),
            RequestSink::Mesh(replica) => replica.forward(request),
        }
    }

    fn closed(&self, connection: ConnectionId) {
        match self {
            RequestSink::Local(inputs) => inputs.push_client(Input::ConnectionClosed { connection }),
            RequestSink::Mesh(replica) => replica.closed(connection),
        }
    }
}

pub struct NetworkCore {
    core: usize,
    limits: SessionLimits,
    control: Control,
    sink: RequestSink,
    ring: Rc<CoreRing>,
    pool: Rc<RefCell<ReceivePool>>,
    clients: RefCell<HashMap<ConnectionId, Rc<Client>>>,
    connections_seen: Cell<u64>,
    /// Clients with answers to send at the end of the turn.
    answered: RefCell<Vec<Rc<Client>>>,
    /// Clients that wait for room or for the replica to take Produce again.
    waiting: RefCell<VecDeque<Rc<Client>>>,
    full: Cell<bool>,
    lines: RefCell<RateLimit>,
}

struct Client {
    id: ConnectionId,
    remote: SocketAddr,
    connection: Connection,
    ring: Rc<CoreRing>,
    place: Cell<Option<Place>>,
    session: RefCell<Session>,
    /// The reading task, when it waits for anything but bytes.
    waker: RefCell<Option<Waker>>,
    /// Why it is being closed, once it is.
    closing: RefCell<Option<String>>,
    answered: Cell<bool>,
    waiting: Cell<bool>,
    /// It has sent Produce: it waits while the replica is full.
    produces: Cell<bool>,
    received_ns: Cell<u64>,
    /// Bytes moved last, in either direction.
    active_ns: Cell<u64>,
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
    pub fn new(
        core: usize,
        limits: SessionLimits,
        control: Control,
        sink: RequestSink,
        ring: Rc<CoreRing>,
    ) -> Rc<NetworkCore> {
        Rc::new(NetworkCore {
            core,
            limits,
            control,
            sink,
            ring,
            pool: Rc::default(),
            clients: RefCell::default(),
            connections_seen: Cell::new(0),
            answered: RefCell::default(),
            waiting: RefCell::default(),
            full: Cell::new(false),
            lines: RefCell::default(),
        })
    }

    /// Of this core: for whatever else it receives.
    pub fn receive_pool(&self) -> Rc<RefCell<ReceivePool>> {
        self.pool.clone()
    }

    /// Serve a new connection from here on.
    pub fn accept(self: &Rc<Self>, accepted: Accepted) {
        let Accepted { socket, remote, place } = accepted;
        let session = Session::new(self.limits.clone());
        if let Some(client) = self.adopt(socket, remote, place, session) {
            glommio::spawn_local(self.clone().serve(client)).detach();
        }
    }

    /// Take over a peer's connection from another core, with its first voter request.
    pub fn accept_moved(self: &Rc<Self>, moved: MovedSession) {
        let MovedSession { socket, remote, place, session, mut first } = moved;
        if let Some(client) = self.adopt(socket, remote, place, session) {
            first.connection = client.id;
            self.sink.request(first, true);
            glommio::spawn_local(self.clone().serve(client)).detach();
        }
    }

    fn adopt(
        &self,
        socket: OwnedFd,
        remote: SocketAddr,
        place: Place,
        session: Session,
    ) -> Option<Rc<Client>> {
        let connection = match Connection::adopt(socket, &self.ring) {
            Ok(connection) => connection,
            Err(error) => {
                tracing::debug!("The connection of {remote} ended before it was served: {error}.");
                return None;
            }
        };
        self.connections_seen.set(self.connections_seen.get() + 1);
        let id = connection_id(self.core, self.connections_seen.get());
        let now_ns = clock::monotonic_ns();
        let client = Rc::new(Client {
            id,
            remote,
            connection,
            ring: self.ring.clone(),
            place: Cell::new(Some(place)),
            session: RefCell::new(session),
            waker: RefCell::default(),
            closing: RefCell::default(),
            answered: Cell::new(false),
            waiting: Cell::new(false),
            produces: Cell::new(false),
            received_ns: Cell::new(now_ns),
            active_ns: Cell::new(now_ns),
        });
        self.clients.borrow_mut().insert(id, client.clone());
        Some(client)
    }

    async fn serve(self: Rc<Self>, client: Rc<Client>) {
        let end = self.read_requests(&client).await;
        self.clients.borrow_mut().remove(&client.id);
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
    }

    async fn read_requests(&self, client: &Rc<Client>) -> End {
        loop {
            loop {
                poll_fn(|cx| self.poll_room(client, cx)).await;
                if client.is_closing() {
                    return End::Closed;
                }
                let now = clock::now();
                let next = client.session.borrow_mut().poll_request(now);
                let arrived = match next {
                    // It may have been let through for nothing: the next in line has its turn.
                    None => break self.wake_waiting(),
                    Some(Ok(arrived)) => arrived,
                    Some(Err(error)) => return End::BadInput(error.0),
                };
                if matches!(arrived.request, Admitted::Produce(_)) {
                    client.produces.set(true);
                }
                let (received_ns, decoded_ns) = (client.received_ns.get(), clock::monotonic_ns());
                let request = ClientRequest { connection: client.id, arrived, received_ns, decoded_ns };
                let is_peer = client.session.borrow().is_peer();
                if is_peer && matches!(self.sink, RequestSink::Mesh(_)) {
                    return self.move_to_replica_core(client, request).await;
                }
                self.sink.request(request, is_peer);
            }
            match poll_fn(|cx| client.poll_read(cx, &self.pool)).await {
                Ok(0) | Err(_) => return End::Closed,
                Ok(_) => client.on_received(),
            }
        }
    }

    /// Ready when the next request may be taken, or when the connection is to end.
    fn poll_room(&self, client: &Rc<Client>, cx: &mut Context<'_>) -> Poll<()> {
        if client.is_closing() {
            return Poll::Ready(());
        }
        client.note_sent();
        let (is_blocked, is_peer) = {
            let session = client.session.borrow();
            (session.is_blocked(), session.is_peer())
        };
        let no_room = !is_peer && (self.sink.room() == 0 || self.full.get() && client.produces.get());
        if !is_blocked && !no_room {
            return Poll::Ready(());
        }
        client.wake_with(cx.waker());
        if no_room && !client.waiting.replace(true) {
            self.waiting.borrow_mut().push_back(client.clone());
        }
        Poll::Pending
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
        let session = client.session.replace(Session::new(self.limits.clone()));
        End::Moved(Box::new(MovedSession { socket, remote: client.remote, place, session, first }))
    }

    /// Queue an answer; `flush` sends it. For a connection that is gone it is dropped.
    pub fn answer(&self, connection: ConnectionId, seq: u64, response: Option<Response>) {
        if let RequestSink::Mesh(replica) = &self.sink {
            replica.on_answer(connection);
        }
        let client = self.clients.borrow().get(&connection).cloned();
        let Some(client) = client else { return };
        client.note_sent();
        let answered = client.session.borrow_mut().answer(seq, response);
        if let Err(error) = answered {
            return self.close_client(&client, error.0);
        }
        if !client.answered.replace(true) {
            self.answered.borrow_mut().push(client);
        }
    }

    /// Connections with answers that `flush` will send.
    pub fn answered(&self) -> usize {
        self.answered.borrow().len()
    }

    /// Send what the turn has answered, with the ring's next call: one send per connection. False: there was nothing.
    pub fn flush(&self) -> bool {
        let mut answered = self.answered.borrow_mut();
        let is_some = !answered.is_empty();
        for client in answered.drain(..) {
            client.answered.set(false);
            client.send();
            client.wake();
        }
        is_some
    }

    /// The replica wants this connection closed.
    pub fn close(&self, connection: ConnectionId, why: String) {
        let client = self.clients.borrow().get(&connection).cloned();
        if let Some(client) = client {
            client.send();
            self.close_client(&client, why);
        }
    }

    fn close_client(&self, client: &Client, why: String) {
        client.closing.borrow_mut().get_or_insert(why);
        client.connection.shut_down();
        client.wake();
    }

    fn log_close(&self, client: &Client) {
        match &*client.closing.borrow() {
            Some(why) => self.line(why, || format!("Closed the connection of {}: {why}", client.remote)),
            None => tracing::debug!("{} has closed its connection.", client.remote),
        }
    }

    fn line(&self, cause: &str, text: impl FnOnce() -> String) {
        if let Some(suppressed) = self.lines.borrow_mut().admit(cause, clock::monotonic_ns()) {
            tracing::warn!("{}{}", text(), and_more(suppressed));
        }
    }

    /// While it is full, producers are not read.
    pub fn set_full(&self, full: bool) {
        self.full.set(full);
        if !full {
            self.wake_waiting();
        }
    }

    /// There may be room again: as many as find some look for themselves, in the order in which they came.
    pub fn wake_waiting(&self) {
        let mut room = self.sink.room();
        let mut waiting = self.waiting.borrow_mut();
        for _ in 0..waiting.len() {
            if room == 0 {
                return;
            }
            let Some(client) = waiting.pop_front() else { return };
            if self.full.get() && client.produces.get() && !client.is_closing() {
                waiting.push_back(client);
                continue;
            }
            client.waiting.set(false);
            client.wake();
            room -= 1;
        }
    }

    pub fn on_closed_seen(&self, connection: ConnectionId) {
        if let RequestSink::Mesh(replica) = &self.sink {
            replica.on_closed_seen(connection);
        }
    }

    /// Close what is idle, and readers that are gone, and give back memory. Called now and then, not in a turn.
    pub fn close_idle(&self, now_ns: u64) {
        self.pool.borrow_mut().shrink();
        let clients: Vec<_> = self.clients.borrow().values().cloned().collect();
        for client in clients {
            client.note_sent();
            let quiet_ms = now_ns.saturating_sub(client.active_ns.get()) / NS_PER_MS;
            if client.connection.is_full() && quiet_ms > SEND_STALL_MS_MAX {
                self.close_client(&client, "it has taken nothing of its answers for a minute.".into());
            } else if quiet_ms > CONNECTION_IDLE_MS_MAX && client.session.borrow().requests_under_way() == 0 {
                self.close_client(&client, "it was idle for ten minutes (connections.max.idle.ms).".into());
            }
        }
    }
}

impl Client {
    fn poll_read(&self, cx: &mut Context<'_>, pool: &RefCell<ReceivePool>) -> Poll<io::Result<usize>> {
        if self.is_closing() {
            return Poll::Ready(Ok(0));
        }
        let mut session = self.session.borrow_mut();
        let awaited = session.awaited_bytes();
        let room = session.receive_buffer(&mut pool.borrow_mut());
        self.connection.poll_read(cx, room, awaited)
    }

    fn on_received(&self) {
        let now_ns = clock::monotonic_ns();
        self.received_ns.set(now_ns);
        self.active_ns.set(now_ns);
    }

    fn send(&self) {
        let mut session = self.session.borrow_mut();
        while let Some(chunk) = session.poll_output() {
            self.connection.push(chunk);
        }
        self.connection.send();
    }

    /// What the kernel has taken of the answers.
    fn note_sent(&self) {
        let sent = self.connection.take_sent();
        if sent > 0 {
            self.session.borrow_mut().sent(sent);
            self.active_ns.set(clock::monotonic_ns());
        }
    }

    fn is_closing(&self) -> bool {
        self.closing.borrow().is_some()
    }

    /// Also when there is room in its socket, where it needs some.
    fn wake_with(&self, waker: &Waker) {
        if self.connection.unsent_bytes() > 0 {
            self.connection.wake_when_sent(waker);
        }
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    fn drop_waker(&self) {
        self.waker.borrow_mut().take();
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
            self.ring.note_woken();
        }
    }
}

#[cfg(test)]
#[path = "network_core/tests.rs"]
mod tests;
