//! What the parts share while they answer: where answers and lines are put, what is counted, who the others are.
//!
//! Each part gets it beside the engine, and owns for itself what it parks. Decides nothing.

use std::collections::VecDeque;
use std::sync::Arc;

use super::connection_id::ConnectionId;
use super::counters::Counters;
use super::engine;
use super::input::{Action, Input, Ticket};
use super::notice::Level;
use super::peers::Peers;
use super::room::ahead::Ahead;
use super::room::answers::Given;
use super::room::reads::Reads;
use super::stages::Stages;
use crate::config::Limits;
use crate::log::ReadError;
use crate::protocol::Response;
use crate::protocol::quorum::QuorumContext;
use crate::record::BatchList;
use crate::types::*;

/// The engine as the parts have it.
pub(super) type Engine = engine::GatedEngine<Deferred>;

/// What waits in the engine until its gate opens.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "nearly all that waits are inputs")]
pub(super) enum Deferred {
    Input(Input),
    /// Its answer would tell an epoch that is not durable yet.
    Read {
        token: u64,
        result: Result<BatchList, ReadError>,
    },
    /// Behind the answers that were there before it: they may say that it cannot be read.
    Readable(Offset, Offset),
}

/// Between two lines about requests that cannot be a voter's of this quorum.
const REFUSAL_LINE_INTERVAL_MS: u64 = 10_000;

pub(super) struct Desk {
    pub(super) limits: Arc<Limits>,
    pub(super) context: QuorumContext,
    /// Of the input or the turn under way.
    pub(super) now: Now,
    pub(super) peers: Peers,
    /// Who may read from the device.
    pub(super) reads: Reads,
    /// Whom the device is read ahead of.
    pub(super) ahead: Ahead,
    pub(super) stages: Stages,
    pub(super) counters: Counters,
    actions: VecDeque<Action>,
    last_id: u64,
    refusal_noted_ns: Option<u64>,
}

impl Desk {
    pub(super) fn new(
        context: QuorumContext,
        peers: Peers,
        reads: Reads,
        limits: Arc<Limits>,
        now: Now,
    ) -> Desk {
        Desk {
            ahead: Ahead::new(limits.read_ahead_bytes_max, limits.read_piece_bytes),
            limits,
            context,
            now,
            peers,
            reads,
            stages: Stages::new(),
            counters: Counters::default(),
            actions: VecDeque::new(),
            last_id: 0,
            refusal_noted_ns: None,
        }
    }

    /// To be carried out behind all before it.
    pub(super) fn act(&mut self, action: Action) {
        self.actions.push_back(action);
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn answer(&mut self, ticket: &Ticket, response: Response) {
        self.answer_given(ticket, Some(response), None);
    }

    /// acks=0 has none.
    pub(super) fn answer_nothing(&mut self, ticket: &Ticket) {
        self.answer_given(ticket, None, None);
    }

    /// `given`: what of it counts as given to its reader while it is on its way.
    pub(super) fn answer_given(&mut self, ticket: &Ticket, response: Option<Response>, given: Option<Given>) {
        let (connection, seq) = (ticket.connection, ticket.seq);
        self.act(Action::Answer { connection, seq, response, given });
    }

    pub(super) fn close(&mut self, connection: ConnectionId, why: String) {
        self.act(Action::Close { connection, why, if_silent_ms: None });
    }

    pub(super) fn note(&mut self, level: Level, text: String) {
        self.act(Action::Note { level, text });
    }

    /// What the engine has to say stands before what is answered because of it.
    pub(super) fn take_notes(&mut self, engine: &mut Engine) {
        while let Some((level, text)) = engine.poll_note() {
            self.note(level, text);
        }
    }

    /// A peer that does not belong asks again and again: one line in ten seconds says what is wrong with it.
    pub(super) fn note_refused(&mut self, why: impl FnOnce(&QuorumContext) -> Option<String>) {
        let now_ns = self.now.monotonic_ns;
        let is_early = |at| now_ns < at + REFUSAL_LINE_INTERVAL_MS * NS_PER_MS;
        if self.refusal_noted_ns.is_some_and(is_early) {
            return;
        }
        if let Some(text) = why(&self.context) {
            self.refusal_noted_ns = Some(now_ns);
            self.note(Level::Warn, text);
        }
    }

    pub(super) fn fresh_id(&mut self) -> u64 {
        self.last_id += 1;
        self.last_id
    }

    /// Ids up to this one have been given.
    pub(super) fn last_id(&self) -> u64 {
        self.last_id
    }

    /// What a client may let us wait.
    pub(super) fn wait_ms(&self, wanted_ms: i32) -> u64 {
        (wanted_ms.max(0) as u64).min(self.limits.request_wait_ms_max)
    }

    /// The node is dead: see `Action::free_buffer`.
    pub(super) fn free_buffers(self) {
        self.actions.into_iter().for_each(Action::free_buffer);
    }
}
