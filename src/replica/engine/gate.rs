//! The gate: while something that promises rest on is not yet durable, what comes in waits, in order.
//!
//! Shut from the start until recovery's repairs and its opening flush are durable, and whenever the quorum state is being
//! written: so that no answer, request or record of an epoch can leave before the epoch, the vote or the leadership is on the
//! disk. Completions of the disk pass.

use super::GatedEngine;
use super::told::Next;
use crate::raft::{Effect, Event};
use crate::types::*;

/// Why what comes in waits.
pub(super) enum Gate {
    Open,
    /// Recovery's repairs and its opening flush are under way: this node has not spoken yet.
    Recovering,
    /// The quorum state is being written: what may be done when it is durable, and what waits for a flush too.
    QuorumState {
        then: Vec<Effect>,
        after_flush: Vec<(FlushedOffset, Effect)>,
    },
}

/// What waits behind the gate.
pub(super) enum Waiting<W> {
    Event(Event),
    /// Of the parts above. Not looked into.
    PutOff(W),
}

impl<W> GatedEngine<W> {
    /// Something that promises rest on is not durable yet: put off whatever comes.
    pub(crate) fn is_gated(&self) -> bool {
        !matches!(self.gate, Gate::Open)
    }

    /// Not before the gate opens: then it comes as `Next::Due`, behind all that came before it.
    pub(crate) fn put_off(&mut self, what: W) {
        self.waiting.push_back(Waiting::PutOff(what));
    }

    /// Recovery is done: this node may speak.
    pub(super) fn on_ready(&mut self) {
        self.gate = Gate::Open;
        self.resumes = Some(Event::Tick);
    }

    pub(super) fn on_quorum_state_durable(&mut self, now: Now) {
        let Gate::QuorumState { then, after_flush } = std::mem::replace(&mut self.gate, Gate::Open) else {
            panic!("a quorum state became durable that nobody waits for");
        };
        for mut effect in then {
            self.raft.on_released(now, &mut effect);
            self.carry_out(now, effect);
        }
        // Behind a change of role of the same step, which forgets what the old role was waiting for.
        self.after_flush.extend(after_flush);
        self.resumes = Some(Event::QuorumStateDurable);
    }

    /// The first of what waited, where the gate has opened. Nothing: nothing waits, or it has to go on waiting.
    pub(super) fn run_waiting(&mut self, now: Now) -> Next<W> {
        if let Some(event) = self.resumes.take() {
            self.step(now, event);
            return Next::Done;
        }
        if !self.is_open() {
            return Next::Nothing;
        }
        match self.waiting.pop_front() {
            Some(Waiting::Event(event)) => {
                self.step(now, event);
                Next::Done
            }
            Some(Waiting::PutOff(what)) => Next::Due(what),
            None => Next::Nothing,
        }
    }

    pub(super) fn step_or_defer(&mut self, now: Now, event: Event) {
        if self.stopped {
            return;
        }
        if self.is_gated() || self.closing {
            self.waiting.push_back(Waiting::Event(event));
        } else {
            self.step(now, event);
        }
    }
}
