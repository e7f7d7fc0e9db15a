//! Between the cores: requests to the replica core, answers back. Nobody ever waits in it.
//!
//! The queues are unbounded in their type. Towards the replica credits bound them: a network core forwards a request only
//! with a credit, and gets it back when the replica has taken the request. A request that is parked there holds none: its
//! bounds are its connection's and the node's own, which bound the answers too. Without credit a core stops reading
//! sockets. Voters do not come this way: a connection that shows itself to be a peer moves to the replica core as a whole, so
//! a flood of client requests here delays no vote. With one executor there is no mesh.

use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::mpsc::Receiver;

use super::doors::Place;
use super::inputs::ClientRequest;
use super::lanes::{Asked, Asking, Lane};
use crate::io::doorbell::Doorbell;
use crate::io::listener::Accepted;
use crate::protocol::{FrameError, Response};
use crate::replica::ConnectionId;
use crate::replica::copies::CopyDone;
use crate::replica::inspection::Found;
use crate::replica::room::answers::Given;
use crate::replica::session::{DecodedRequest, Session};

/// Requests of one network core that the replica has not taken.
pub(super) const CREDITS_PER_CORE: usize = 4096;

/// A connection on its way to the replica core: only its first voter request, which comes along, is unanswered.
pub(super) struct MovedSession {
    // It goes before the socket.
    pub(super) place: Place,
    pub(super) socket: OwnedFd,
    pub(super) remote: SocketAddr,
    pub(super) session: Session,
    pub(super) first: ClientRequest,
    pub(super) standing: Standing,
}

/// What a connection has shown itself to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has sent nothing that only one of them sends.
    #[default]
    Unknown,
    Client,
    /// It sends what voters send, and holds no voter's place: an observer, or nobody that is known.
    Peer,
    Voter,
}

/// A connection that has come in, on its way to its core.
#[derive(Debug)]
pub(super) struct Entered {
    pub(super) accepted: Accepted,
    pub(super) place: Place,
}

#[expect(
    clippy::large_enum_variant,
    reason = "nearly all messages are requests; a box for each would cost more"
)]
pub(super) enum ToReplica {
    Request(ClientRequest),
    Closed(ConnectionId),
    Peer(Box<MovedSession>),
}

pub(super) enum ToNetwork {
    Accepted(Entered),
    Answer {
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
        given: Option<Given>,
    },
    Close {
        connection: ConnectionId,
        why: String,
        if_silent_ms: Option<u64>,
    },
    /// A request whose compressed batches have been judged comes back to its connection.
    Inspected(Box<ClientRequest>),
    /// A large request of this connection.
    Decoded(ConnectionId, Box<Result<DecodedRequest, FrameError>>),
    /// For the replica: what was found in a compressed batch.
    Searched {
        token: u64,
        found: Found,
    },
    /// For the replica: what became of the file of a snapshot.
    Copied(CopyDone),
    /// The replica has taken so many requests of this core.
    Taken(usize),
    /// The replica takes no more Produce, or takes it again.
    Full(bool),
    Stop,
}

/// A way to a core for other threads.
pub(super) type CoreSender = Lane<ToNetwork>;

/// Dropped, it stops these cores: also where a start fails half-way, and where the replica core panics.
#[derive(Default)]
pub(super) struct StopAtEnd(pub(super) Vec<CoreSender>);

impl Drop for StopAtEnd {
    fn drop(&mut self) {
        self.0.iter().for_each(|core| core.send(ToNetwork::Stop));
    }
}

/// A network core as the replica core sees it.
pub(super) type Edge = Asked<ToReplica, ToNetwork>;

/// A network core's end of its edge.
pub(super) struct ReplicaSender(Asking<ToReplica>);

impl ReplicaSender {
    /// `doorbell` is the replica core's.
    pub(super) fn new(doorbell: Doorbell) -> (ReplicaSender, Receiver<ToReplica>) {
        let (asking, receiver) = Asking::new(doorbell, CREDITS_PER_CORE);
        (ReplicaSender(asking), receiver)
    }

    pub(super) fn credits(&self) -> usize {
        self.0.credits()
    }

    /// Takes a credit; the caller has looked that there is one.
    pub(super) fn forward(&self, request: ClientRequest) {
        self.0.ask(ToReplica::Request(request));
    }

    pub(super) fn closed(&self, connection: ConnectionId) {
        self.0.tell(ToReplica::Closed(connection));
    }

    pub(super) fn move_peer(&self, moved: MovedSession) {
        self.0.tell(ToReplica::Peer(Box::new(moved)));
    }

    pub(super) fn on_taken(&self, requests: usize) {
        self.0.on_taken(requests);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::replica::admit::Admitted;
    use crate::replica::session::Arrived;

    fn request(connection: ConnectionId, seq: u64) -> ClientRequest {
        let request = Admitted::Other(Request::ApiVersionsUnsupported);
        let arrived = Arrived { seq, api_version: 0, is_forwarded: false, request, to_inspect: None };
        ClientRequest { connection, arrived, received_ns: 0, decoded_ns: 0 }
    }

    #[test]
    fn credits_come_back_when_requests_are_taken() {
        let (edge, receiver) = ReplicaSender::new(Doorbell::new().unwrap());
        for seq in 0..CREDITS_PER_CORE as u64 {
            assert!(edge.credits() > 0);
            edge.forward(request(ConnectionId::new(1, 1), seq));
        }
        assert_eq!(edge.credits(), 0);
        edge.closed(ConnectionId::new(1, 1));
        assert_eq!(edge.credits(), 0, "what has not been taken still lies in the queue");
        edge.on_taken(CREDITS_PER_CORE - 1);
        edge.on_taken(1);
        assert_eq!(edge.credits(), CREDITS_PER_CORE);
        assert_eq!(receiver.try_iter().count(), CREDITS_PER_CORE + 1);
    }

    #[test]
    fn a_panic_stops_the_other_cores() {
        let (sender, messages) = CoreSender::new(Doorbell::new().unwrap());
        let cores = StopAtEnd(vec![sender]);
        let unwound = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _cores = cores;
            panic!("as the replica core would");
        }));
        assert!(unwound.is_err());
        assert!(matches!(messages.try_recv(), Ok(ToNetwork::Stop)));
    }

    #[test]
    fn ids_name_their_core() {
        assert_eq!(ConnectionId::new(3, 77).core(), 3);
        assert_ne!(ConnectionId::new(3, 77), ConnectionId::new(2, 77));
    }

    #[test]
    fn all_messages_may_cross_threads() {
        fn check<T: Send>() {}
        check::<ToReplica>();
        check::<ToNetwork>();
    }
}
