//! What waits for the replica on its own core: voters before clients, and the clients of each core in turn.
//!
//! Filled by the tasks of sessions and peer links, and from the other cores; emptied by the replica core's turns. One thread
//! only. Each core's clients have a lane of their own, so that those of one core wait for no crowd of another.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;

use crate::replica::session::Arrived;
use crate::replica::{ConnectionId, Input};

/// Requests of this core's own clients waiting for a turn; sessions stop reading when it is reached. What else lies in their
/// lane takes nothing of it: ends of connections are not asked for, and a crowd that leaves must keep nobody from asking.
pub(super) const CLIENT_INPUTS_MAX: usize = 512;
/// The replica core.
const OWN: usize = 0;

/// A request with its times, on its way to the replica, from whatever core.
#[derive(Debug)]
pub(super) struct ClientRequest {
    pub(super) connection: ConnectionId,
    pub(super) arrived: Arrived,
    pub(super) received_ns: u64,
    pub(super) decoded_ns: u64,
}

impl ClientRequest {
    pub(super) fn into_input(self) -> Input {
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

pub(super) struct Inputs {
    /// Voter requests and everything of peer links. Bounded by the requests that a session and a link may have.
    voters: RefCell<VecDeque<Input>>,
    /// By core.
    clients: Vec<RefCell<VecDeque<Input>>>,
    /// Requests in this core's own lane.
    own_requests: Cell<usize>,
    /// The core whose client goes next.
    next: Cell<usize>,
}

/// An input whose turn it is.
#[derive(Debug)]
pub(crate) enum Next {
    Voter(Input),
    /// Of a client of this core.
    Client(usize, Input),
}

impl Inputs {
    pub(super) fn new(cores: usize) -> Inputs {
        let clients = std::iter::repeat_with(RefCell::default).take(cores).collect();
        Inputs { voters: RefCell::default(), clients, own_requests: Cell::new(0), next: Cell::new(OWN) }
    }

    pub(super) fn push_voter(&self, input: Input) {
        self.voters.borrow_mut().push_back(input);
    }

    /// The end of a connection goes this way too, also that of a voter: by the time it is taken, the voters' lane
    /// was empty, so nothing of the connection comes after it.
    pub(super) fn push_client(&self, input: Input) {
        self.push_client_of(OWN, input);
    }

    pub(super) fn push_client_of(&self, core: usize, input: Input) {
        if is_own_request(core, &input) {
            self.own_requests.set(self.own_requests.get() + 1);
        }
        self.clients[core].borrow_mut().push_back(input);
    }

    /// The next one. Clients' stay here while the replica would only put them aside: here their number is bounded, and it
    /// keeps their cores from reading more.
    pub(super) fn pop(&self, takes_clients: bool) -> Option<Next> {
        let voter = self.voters.borrow_mut().pop_front();
        voter.map(Next::Voter).or_else(|| if takes_clients { self.pop_client() } else { None })
    }

    fn pop_client(&self) -> Option<Next> {
        let cores = self.clients.len();
        let next = (0..cores).map(|n| (self.next.get() + n) % cores);
        let mut lanes = next.map(|core| (core, self.clients[core].borrow_mut().pop_front()));
        let (core, input) = lanes.find_map(|(core, input)| Some((core, input?)))?;
        if is_own_request(core, &input) {
            self.own_requests.set(self.own_requests.get() - 1);
        }
        self.next.set((core + 1) % cores);
        Some(Next::Client(core, input))
    }

    /// `pop` would give nothing.
    pub(super) fn is_empty(&self, takes_clients: bool) -> bool {
        let has_client = || self.clients.iter().any(|lane| !lane.borrow().is_empty());
        self.voters.borrow().is_empty() && !(takes_clients && has_client())
    }

    /// Requests of this core's clients that wait here.
    pub(super) fn own_requests(&self) -> usize {
        self.own_requests.get()
    }
}

fn is_own_request(core: usize, input: &Input) -> bool {
    core == OWN && matches!(input, Input::Request { .. })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::replica::admit::Admitted;

    fn request() -> Input {
        Input::Request {
            connection: ConnectionId(1),
            seq: 0,
            api_version: 0,
            is_forwarded: false,
            request: Admitted::Other(Request::ApiVersionsUnsupported),
            received_ns: 0,
            decoded_ns: 0,
        }
    }

    #[test]
    fn voters_go_first_and_a_close_comes_last() {
        let inputs = Inputs::new(1);
        inputs.push_client(Input::Shutdown);
        inputs.push_client(Input::ConnectionClosed { connection: ConnectionId(1) });
        inputs.push_voter(Input::Tick);
        assert!(matches!(inputs.pop(true), Some(Next::Voter(Input::Tick))));
        assert!(matches!(inputs.pop(true), Some(Next::Client(0, Input::Shutdown))));
        assert!(matches!(inputs.pop(true), Some(Next::Client(0, Input::ConnectionClosed { .. }))));
        assert!(inputs.pop(true).is_none() && inputs.is_empty(true));
    }

    #[test]
    fn requests_that_wait_are_counted() {
        let inputs = Inputs::new(1);
        for waiting in 0..CLIENT_INPUTS_MAX {
            assert_eq!(inputs.own_requests(), waiting);
            inputs.push_client(request());
        }
        inputs.pop(true);
        assert_eq!(inputs.own_requests(), CLIENT_INPUTS_MAX - 1);
    }

    #[test]
    fn a_crowd_that_leaves_takes_no_room_from_requests() {
        let inputs = Inputs::new(1);
        for _ in 0..2 * CLIENT_INPUTS_MAX {
            inputs.push_client(Input::ConnectionClosed { connection: ConnectionId(1) });
        }
        assert_eq!(inputs.own_requests(), 0);
        inputs.push_client(request());
        assert_eq!(inputs.own_requests(), 1);
        while inputs.pop(true).is_some() {}
        assert_eq!(inputs.own_requests(), 0);
    }

    #[test]
    fn clients_stay_where_they_are_bounded_while_the_replica_takes_none() {
        let inputs = Inputs::new(1);
        inputs.push_client(request());
        assert!(inputs.pop(false).is_none() && inputs.is_empty(false) && !inputs.is_empty(true));
        inputs.push_voter(Input::Shutdown);
        assert!(!inputs.is_empty(false));
        assert!(matches!(inputs.pop(false), Some(Next::Voter(Input::Shutdown))));
        assert_eq!(inputs.own_requests(), 1);
        assert!(matches!(inputs.pop(true), Some(Next::Client(0, Input::Request { .. }))));
    }

    #[test]
    fn a_crowd_of_another_core_keeps_nobody_waiting() {
        let inputs = Inputs::new(3);
        for _ in 0..2 * CLIENT_INPUTS_MAX {
            inputs.push_client_of(2, request());
        }
        assert_eq!(inputs.own_requests(), 0, "it takes nothing of this core's room");
        inputs.push_client(Input::Shutdown);
        inputs.push_client_of(1, Input::Shutdown);
        inputs.push_client(Input::Shutdown);
        let cores: Vec<usize> = (0..6)
            .map(|_| match inputs.pop(true) {
                Some(Next::Client(core, _)) => core,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(cores, [0, 1, 2, 0, 2, 2]);
    }
}
