//! The way of a core's requests to the replica: a queue on its own core, the mesh from another.

use std::rc::Rc;

use super::inputs::Inputs;
use super::mesh::{ClientRequest, ReplicaSender};
use crate::replica::{ConnectionId, Input};

/// Where the requests of a core go.
pub enum RequestSink {
    /// This is the replica core.
    Local(Rc<Inputs>),
    Mesh(ReplicaSender),
}

impl RequestSink {
    /// Requests that it takes now.
    pub fn room(&self) -> usize {
        match self {
            RequestSink::Local(inputs) => inputs.client_room(),
            RequestSink::Mesh(replica) => replica.credits(),
        }
    }

    pub fn request(&self, request: ClientRequest, is_voter: bool) {
        match self {
            RequestSink::Local(inputs) if is_voter => inputs.push_voter(request.into_input()),
            RequestSink::Local(inputs) => inputs.push_client(request.into_input()),
            RequestSink::Mesh(replica) => replica.forward(request),
        }
    }

    pub fn closed(&self, connection: ConnectionId) {
        match self {
            RequestSink::Local(inputs) => inputs.push_client(Input::ConnectionClosed { connection }),
            RequestSink::Mesh(replica) => replica.closed(connection),
        }
    }
}
