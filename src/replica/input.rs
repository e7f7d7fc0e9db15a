//! What goes into a replica and what comes out: the whole surface between it and sockets, disk and clock.

use bytes::Bytes;

use super::admit::Admitted;
use super::connection_id::ConnectionId;
use super::copies::{CopyDone, CopyOp};
use super::inspection::{Found, Search};
use super::notice::Level;
use super::room::answers::Given;
use crate::log::{Completion, DiskOp, SnapshotCompletion, SnapshotOp};
use crate::protocol::Response;
use crate::protocol::frame::Chunks;
use crate::types::*;

/// Outbound connections to a peer: a parked Fetch must not stand before a Vote, so each has its own;
/// and what clients ask must not stand before either.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Lane {
    Fetch,
    Control,
    /// Clients' questions that only the leader can answer.
    Forward,
    /// What clients set for the topic: answered when it is committed.
    Alter,
    /// Pieces of a snapshot.
    Snapshot,
}

/// One of our connections to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerLink {
    /// The other end.
    pub node: NodeId,
    pub(crate) lane: Lane,
}

/// What can happen to a replica.
#[derive(Debug)]
#[expect(missing_docs, reason = "the words above say what the fields are")]
pub enum Input {
    /// From a session: the `seq`-th request of the connection (counted from 0), decoded and admitted.
    Request {
        connection: ConnectionId,
        seq: u64,
        api_version: i16,
        /// Another node of ours passes it on (`forward`).
        is_forwarded: bool,
        request: Admitted,
        /// Monotonic ns: the frame's last byte was there; it was decoded and checked.
        received_ns: u64,
        decoded_ns: u64,
    },
    /// A client's, lost or closed: nothing is answered there any more.
    ConnectionClosed { connection: ConnectionId },
    /// `Action::PeerConnect` has succeeded.
    PeerConnected { link: PeerLink },
    /// A whole frame, without its length.
    PeerFrame { link: PeerLink, frame: Bytes },
    /// Refused, lost, or closed by us. Comes once for each PeerConnect.
    PeerClosed {
        link: PeerLink,
        why: String,
        /// The host lives, and nobody listens there: the peer's process has ended.
        is_refused: bool,
    },
    /// An operation of the log has ended.
    Disk(Completion),
    /// The answer to `Action::Copy`.
    Copied(CopyDone),
    /// An operation on snapshots has ended.
    Snapshot(SnapshotCompletion),
    /// The answer to `Action::Search`.
    Searched { token: u64, found: Found },
    /// A deadline has passed, or nothing happened for a while.
    Tick,
    /// The file system has this much room left (the server looks every second).
    DiskFree { bytes: u64 },
    /// And the host this much memory.
    HostMemory(HostMemory),
    /// Hand over, flush, cut, and then `Action::Stop`.
    Shutdown,
}

/// What a replica wants done, to be carried out in this order.
#[derive(Debug)]
#[expect(missing_docs, reason = "the words above say what the fields are")]
pub enum Action {
    /// Answer to request `seq`. `None`: it has none (acks=0).
    Answer {
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
        /// What of it counts as given to its reader while it is on its way.
        given: Option<Given>,
    },
    /// Close a client's connection.
    Close {
        connection: ConnectionId,
        why: String,
        /// Only if it has answers to take, and has taken nothing of them for so long.
        if_silent_ms: Option<u64>,
    },
    /// Connect; `Input::PeerConnected` or `Input::PeerClosed` follows.
    PeerConnect { link: PeerLink, endpoint: Endpoint },
    /// Send a whole frame to a peer.
    PeerSend { link: PeerLink, chunks: Chunks },
    /// Close a connection of ours.
    PeerClose { link: PeerLink },
    /// For the device.
    Disk(DiskOp),
    /// Read or write the file of a snapshot, not on this core; `Input::Copied` says how that ended.
    Copy(CopyOp),
    /// Something with the files of snapshots, not on this core; `Input::Snapshot` follows.
    Snapshot(SnapshotOp),
    /// Look into a compressed batch, not on this core; `Input::Searched` brings the answer.
    Search(Search),
    /// For the server's log.
    Note { level: Level, text: String },
    /// The replica is done (handed over, flushed, cut) or must not go on: end the process with this code.
    Stop { exit_code: i32, why: String },
}

impl Action {
    /// It will not be carried out: see `WriteBuffer::free`.
    pub(crate) fn free_buffer(self) {
        if let Action::Disk(op) = self {
            op.kind.free_buffer();
        }
    }
}

/// Client id of what we forward: such a request is never forwarded again.
pub(super) const FORWARD_CLIENT_ID: &str = "kraft-forward";

/// Where an answer goes, and when its request came.
#[derive(Clone, Debug)]
pub(super) struct Ticket {
    pub(crate) connection: ConnectionId,
    pub(crate) seq: u64,
    pub(crate) api_version: i16,
    pub(crate) received_ns: u64,
    pub(crate) decoded_ns: u64,
}
