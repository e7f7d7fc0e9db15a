//! The way of a core's requests to the replica: a queue on its own core, the mesh from another.

use std::rc::Rc;

use super::inputs::{CLIENT_INPUTS_MAX, ClientRequest, Inputs};
use super::mesh::{CREDITS_PER_CORE, ReplicaSender};
use crate::replica::{ConnectionId, Input};

/// Where the requests of a core go.
pub(crate) enum RequestSink {
    /// This is the replica core.
    Local(Rc<Inputs>),
    Mesh(ReplicaSender),
}

impl RequestSink {
    /// Clients' requests that may wait there.
    pub(super) fn requests_max(&self) -> usize {
        match self {
            RequestSink::Local(_) => CLIENT_INPUTS_MAX,
            RequestSink::Mesh(_) => CREDITS_PER_CORE,
        }
    }

    /// And how many do.
    pub(super) fn waiting(&self) -> usize {
        match self {
            RequestSink::Local(inputs) => inputs.own_requests(),
            RequestSink::Mesh(replica) => CREDITS_PER_CORE - replica.credits(),
        }
    }

    pub(super) fn request(&self, request: ClientRequest, is_voter: bool) {
        match self {
            RequestSink::Local(inputs) if is_voter => inputs.push_voter(request.into_input()),
            RequestSink::Local(inputs) => inputs.push_client(request.into_input()),
            RequestSink::Mesh(replica) => replica.forward(request),
        }
    }

    pub(super) fn closed(&self, connection: ConnectionId) {
        match self {
            RequestSink::Local(inputs) => inputs.push_client(Input::ConnectionClosed { connection }),
            RequestSink::Mesh(replica) => replica.closed(connection),
        }
    }
}
