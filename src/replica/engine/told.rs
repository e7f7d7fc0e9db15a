//! What the engine tells the parts above it. It never calls them: it queues, in the order in which it happened, and
//! `Replica` hands it on.

use super::{GatedEngine, WantedSnapshot};
use crate::log::ReadError;
use crate::raft::{self, FetchVerdict, RequestId};
use crate::record::BatchList;
use crate::replica::notice::Level;
use crate::types::*;

#[derive(Debug)]
pub(crate) enum Told {
    Note {
        level: Level,
        text: String,
    },
    /// Ask a voter; what must be durable first is so.
    Send {
        to: NodeId,
        request: raft::Request,
    },
    /// Close all connections to it.
    DropPeer {
        node: NodeId,
        why: String,
    },
    /// Answer to a request that was stepped.
    Reply {
        request_id: RequestId,
        response: raft::Response,
    },
    /// What is to become of a replica's Fetch that was stepped.
    Verdict {
        request_id: RequestId,
        verdict: FetchVerdict,
    },
    /// See `Effect::InstallSnapshot`.
    InstallSnapshot(WantedSnapshot),
    RoleChanged,
    Flushed(FlushedOffset),
    /// So much more is committed.
    Committed {
        bytes: u64,
        records: u64,
    },
    /// Answer to `GatedEngine::read_device`. Also while the gate is shut.
    ReadDone {
        token: u64,
        result: Result<BatchList, ReadError>,
    },
    /// The device has read what lies between these. In its order among those: what is told as unreadable after it is so since then.
    Readable(Offset, Offset),
    /// Nothing more is done, and nothing more may be answered.
    Stop {
        exit_code: i32,
        why: String,
    },
}

/// What the engine has found to do by itself.
#[derive(Debug)]
pub(crate) enum Next<W> {
    Nothing,
    /// It has done it, and may have told something.
    Done,
    /// The turn of what was put off has come.
    Due(W),
}

impl<W> GatedEngine<W> {
    pub(super) fn note(&mut self, level: Level, text: String) {
        self.told.push_back(Told::Note { level, text });
    }

    /// Nothing more is done; the process ends with this code.
    pub(crate) fn stop(&mut self, exit_code: i32, why: String) {
        self.stopped = true;
        self.told.push_back(Told::Stop { exit_code, why });
    }

    /// What has happened, in order.
    pub(crate) fn poll(&mut self) -> Option<Told> {
        self.told.pop_front()
    }

    /// The next of it, if it is a line: that stands before what is answered because of it.
    pub(crate) fn poll_note(&mut self) -> Option<(Level, String)> {
        if !matches!(self.told.front(), Some(Told::Note { .. })) {
            return None;
        }
        match self.told.pop_front() {
            Some(Told::Note { level, text }) => Some((level, text)),
            _ => None,
        }
    }
}
