//! Between the cores: requests to the replica core, answers back. Nobody ever waits in it.
//!
//! The queues are unbounded in their type and bounded by credits: a network core forwards a request only with a
//! credit, which stands for the slot of its answer, and gets it back with that answer. Without credit it stops
//! reading sockets. Voters do not come this way: a connection that shows itself to be a peer moves to the replica
//! core as a whole, so a flood of client requests here delays no vote. With one executor there is no mesh.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::{self, Receiver, Sender};

use crate::io::doorbell::Doorbell;
use crate::io::listener::{Accepted, Place};
use crate::protocol::Response;
use crate::replica::session::{Arrived, Session};
use crate::replica::{ConnectionId, Input};

/// Requests of one network core that the replica core has not answered.
pub const CREDITS_PER_CORE: usize = 4096;
const CORE_SHIFT: u32 = 48;

/// A request with its times, ready to cross cores.
#[derive(Debug)]
pub struct ClientRequest {
    pub connection: ConnectionId,
    pub arrived: Arrived,
    pub received_ns: u64,
    pub decoded_ns: u64,
}

impl ClientRequest {
    pub fn into_input(self) -> Input {
        Input::Request {
            connection: self.connection,
            seq: self.arrived.seq,
            api_version: self.arrived.api_version,
            is_forwarded: self.arrived.is_forwarded,
            request: self.arrived.request,
            received_ns: self.received_ns,
            decoded_ns: self.decoded_ns,
        }
    }
}

/// A connection on its way to the replica core: only its first voter request, which comes along, is unanswered.
pub struct MovedSession {
    pub socket: OwnedFd,
    pub remote: SocketAddr,
    pub place: Place,
    pub session: Session,
    pub first: ClientRequest,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all messages are requests; a box for each would cost more"
)]
pub enum ToReplica {
    Request(ClientRequest),
    Closed(ConnectionId),
    Peer(Box<MovedSession>),
}

pub enum ToNetwork {
    Accepted(Accepted),
    Answer {
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
    },
    Close {
        connection: ConnectionId,
        why: String,
    },
    /// No answer for this connection follows.
    ClosedSeen(ConnectionId),
    /// The replica takes no more Produce, or takes it again.
    Full(bool),
    Stop,
}

/// Ids are never reused in a process; the core is in the upper bits.
pub fn connection_id(core: usize, number: u64) -> ConnectionId {
    ConnectionId((core as u64) << CORE_SHIFT | number)
}

pub fn core_of(connection: ConnectionId) -> usize {
    (connection.0 >> CORE_SHIFT) as usize
}

/// A way to a core for other threads: put, then ring.
#[derive(Clone)]
pub struct CoreSender {
    sender: Sender<ToNetwork>,
    doorbell: Doorbell,
}

impl CoreSender {
    pub fn new(doorbell: Doorbell) -> (CoreSender, Receiver<ToNetwork>) {
        let (sender, receiver) = mpsc::channel();
        (CoreSender { sender, doorbell }, receiver)
    }

    /// Without ringing, for many in a row.
    pub fn put(&self, message: ToNetwork) {
        // A core that is gone has no connections to tell.
        let _ = self.sender.send(message);
    }

    pub fn ring(&self) {
        self.doorbell.ring();
    }

    pub fn send(&self, message: ToNetwork) {
        self.put(message);
        self.ring();
    }
}

/// A network core's end of its edge.
pub struct ReplicaSender {
    sender: Sender<ToReplica>,
    doorbell: Doorbell,
    credits: Cell<usize>,
    /// Credits that each connection holds: they come back even when it closes without its answers.
    held: RefCell<HashMap<ConnectionId, usize>>,
}

impl ReplicaSender {
    /// `doorbell` is the replica core's.
    pub fn new(doorbell: Doorbell) -> (ReplicaSender, Receiver<ToReplica>) {
        let (sender, receiver) = mpsc::channel();
        let held = RefCell::default();
        (ReplicaSender { sender, doorbell, credits: Cell::new(CREDITS_PER_CORE), held }, receiver)
    }

    pub fn credits(&self) -> usize {
        self.credits.get()
    }

    /// Takes a credit; the caller has looked that there is one.
    pub fn forward(&self, request: ClientRequest) {
        self.credits.set(self.credits.get() - 1);
        *self.held.borrow_mut().entry(request.connection).or_default() += 1;
        self.send(ToReplica::Request(request));
    }

    pub fn closed(&self, connection: ConnectionId) {
        self.send(ToReplica::Closed(connection));
    }

    pub fn move_peer(&self, moved: MovedSession) {
        self.send(ToReplica::Peer(Box::new(moved)));
    }

    fn send(&self, message: ToReplica) {
        // The replica core ends only with the process.
        let _ = self.sender.send(message);
        self.doorbell.ring();
    }

    pub fn on_answer(&self, connection: ConnectionId) {
        if let Some(held) = self.held.borrow_mut().get_mut(&connection)
            && *held > 0
        {
            *held -= 1;
            self.credits.set(self.credits.get() + 1);
        }
    }

    pub fn on_closed_seen(&self, connection: ConnectionId) {
        let held = self.held.borrow_mut().remove(&connection).unwrap_or(0);
        self.credits.set(self.credits.get() + held);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::replica::admit::Admitted;

    fn request(connection: ConnectionId, seq: u64) -> ClientRequest {
        let request = Admitted::Other(Request::ApiVersionsUnsupported);
        let arrived = Arrived { seq, api_version: 0, is_forwarded: false, request };
        ClientRequest { connection, arrived, received_ns: 0, decoded_ns: 0 }
    }

    #[test]
    fn credits_come_back_with_answers_and_with_the_close() {
        let (edge, receiver) = ReplicaSender::new(Doorbell::new().unwrap());
        let (a, b) = (connection_id(1, 1), connection_id(1, 2));
        for seq in 0..CREDITS_PER_CORE as u64 {
            assert!(edge.credits() > 0);
            edge.forward(request(if seq % 2 == 0 { a } else { b }, seq));
        }
        assert_eq!(edge.credits(), 0);
        edge.on_answer(a);
        assert!(edge.credits() > 0);
        edge.closed(b);
        edge.on_answer(b);
        edge.on_closed_seen(b);
        assert_eq!(edge.credits.get(), CREDITS_PER_CORE / 2 + 1);
        // What comes after the close changes nothing.
        edge.on_answer(b);
        edge.on_closed_seen(b);
        assert_eq!(edge.credits.get(), CREDITS_PER_CORE / 2 + 1);
        assert_eq!(receiver.try_iter().count(), CREDITS_PER_CORE + 1);
    }

    #[test]
    fn ids_name_their_core() {
        assert_eq!(core_of(connection_id(3, 77)), 3);
        assert_ne!(connection_id(3, 77), connection_id(2, 77));
    }

    #[test]
    fn all_messages_may_cross_threads() {
        fn check<T: Send>() {}
        check::<ToReplica>();
        check::<ToNetwork>();
    }
}
