//! One whole node without sockets or files: turns requests, peers' bytes, disk completions and time into answers, bytes
//! and disk operations. (contract; being written by the owner of src/replica/mod.rs)
pub mod admit;
pub mod peers;
pub mod producers;
pub mod requests;
pub mod session;
pub mod stages;
use crate::config::Config;
use crate::log::{Completion, DiskOp, RecoveredLog};
use crate::protocol::Response;
use crate::types::*;
use bytes::Bytes;

/// A client connection, named by the server; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

/// Outbound connections to a peer: a parked Fetch must not stand before a Vote, so each has its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Lane {
    Fetch,
    Control,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerLink {
    pub node: NodeId,
    pub lane: Lane,
}

#[derive(Debug)]
pub enum Input {
    /// From a session: the `seq`-th request of the connection (counted from 0), decoded and admitted.
    Request {
        connection: ConnectionId,
        seq: u64,
        api_version: i16,
        client_id: Option<String>,
        request: admit::Admitted,
        received_ns: u64,
        decoded_ns: u64,
    },
    ConnectionClosed {
        connection: ConnectionId,
    },
    PeerConnected {
        link: PeerLink,
    },
    PeerData {
        link: PeerLink,
        bytes: Bytes,
    },
    /// Refused, lost, or closed by us. Comes once for each PeerConnect.
    PeerClosed {
        link: PeerLink,
        why: String,
    },
    Disk(Completion),
    /// A deadline has passed, or nothing happened for a while.
    Tick,
    /// The file system has this much room left (the server looks every second).
    DiskFree {
        bytes: u64,
    },
    Shutdown,
}

#[derive(Debug)]
pub enum Action {
    /// Answer to request `seq`. `None`: it has none (acks=0).
    Answer {
        connection: ConnectionId,
        seq: u64,
        response: Option<Response>,
    },
    Close {
        connection: ConnectionId,
        why: String,
    },
    PeerConnect {
        link: PeerLink,
        endpoint: Endpoint,
    },
    PeerSend {
        link: PeerLink,
        chunks: Vec<Bytes>,
    },
    PeerClose {
        link: PeerLink,
    },
    Disk(DiskOp),
    Note {
        level: Level,
        text: String,
    },
    /// The replica is done (handed over, flushed, cut) or must not go on: end the process with this code.
    Stop {
        exit_code: i32,
        why: String,
    },
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Exit codes of the process (documented in README).
pub const EXIT_OK: i32 = 0;
pub const EXIT_CONFIG: i32 = 1;
pub const EXIT_CORRUPT: i32 = 65;
pub const EXIT_DISK: i32 = 74;
pub const EXIT_KERNEL: i32 = 78;

pub struct Replica {}
impl Replica {
    pub fn new(
        _config: &Config,
        _directory_id: Uuid,
        _recovered: RecoveredLog,
        _producers: producers::Producers,
        _seed: u64,
        _now: Now,
    ) -> Replica {
        unimplemented!()
    }
    /// Take one input: only changes state and queues.
    pub fn handle(&mut self, _now: Now, _input: Input) {
        unimplemented!()
    }
    /// End of a turn: forms the device group, completes parked fetches, queues actions.
    pub fn end_turn(&mut self, _now: Now) {
        unimplemented!()
    }
    pub fn poll_action(&mut self) -> Option<Action> {
        unimplemented!()
    }
    /// Monotonic ns at which Input::Tick is due.
    pub fn deadline(&self) -> Option<u64> {
        unimplemented!()
    }
    /// Registered-buffer regions of the log, for the ring.
    pub fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        unimplemented!()
    }
    /// No more Produce should be read from clients until it turns false.
    pub fn is_full(&self) -> bool {
        unimplemented!()
    }
    pub fn status(&self, _now: Now) -> Status {
        unimplemented!()
    }
    /// Histograms since the last take.
    pub fn take_stages(&mut self) -> stages::Stages {
        unimplemented!()
    }
}

/// What /status, /ready and the metrics show.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Status {
    pub node_id: i32,
    pub directory_id: String,
    pub cluster_id: String,
    pub topic: String,
    /// "leader", "follower", "candidate", "prospective", "unattached", "resigned", "observer"
    pub role: &'static str,
    pub epoch: i32,
    pub leader_id: Option<i32>,
    pub high_watermark: Option<i64>,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    pub flushed_offset: i64,
    pub log_size_bytes: u64,
    pub unflushed_bytes: u64,
    /// A leader is known, and this node is it or has caught up with it.
    pub ready: bool,
    pub voters: Vec<VoterStatus>,
    pub observers: Vec<VoterStatus>,
    pub producer_ids: usize,
    pub parked_requests: usize,
    pub connections_of_requests: usize,
    pub counters: Counters,
}
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct VoterStatus {
    pub node_id: i32,
    pub directory_id: String,
    pub log_end_offset: i64,
    pub lag: i64,
    pub last_fetch_ms_ago: Option<u64>,
    pub last_caught_up_ms_ago: Option<u64>,
}
/// Totals since the start.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct Counters {
    pub produce_requests: u64,
    pub produced_batches: u64,
    pub produced_bytes: u64,
    pub produced_records: u64,
    pub duplicate_batches: u64,
    pub fetch_requests: u64,
    pub fetched_bytes: u64,
    pub replica_fetches: u64,
    pub elections: u64,
    pub leader_changes: u64,
    pub flushes: u64,
    pub flushed_bytes: u64,
    pub committed_bytes: u64,
    pub refused_requests: u64,
}
