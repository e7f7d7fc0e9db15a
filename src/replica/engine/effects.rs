//! Raft is stepped here, for a client's append as for any event, and here is what becomes of each of its effects.

use super::gate::Gate;
use super::told::Told;
use super::{GatedEngine, WantedSnapshot};
use crate::raft::{Assigned, Effect, Effects, Event, NoteKind};
use crate::record::{StampedBatch, leader_change_batch};
use crate::replica::notice::{EXIT_CORRUPT, Level};
use crate::types::*;

impl<W> GatedEngine<W> {
    /// A client's batch, to a leader that can append: Raft gives the place, the log takes the bytes. Gives where it begins,
    /// and where the next one will.
    pub(crate) fn append(&mut self, now: Now, mut batch: StampedBatch) -> (Offset, Offset) {
        let offsets = batch.header().last_offset_delta as i64 + 1;
        let assigned = self.step_raft(now, Event::Append { offsets });
        let assigned = assigned.expect("a leader that can append gives every batch its place");
        batch.stamp(assigned.base_offset, assigned.epoch);
        let place = (batch.base_offset(), batch.next_offset());
        self.append_to_log(now, batch);
        place
    }

    /// Something has happened. Not while the gate is shut.
    pub(crate) fn step(&mut self, now: Now, event: Event) {
        let flushed = match &event {
            Event::Flushed(flushed) => Some(*flushed),
            _ => None,
        };
        self.step_raft(now, event);
        if let Some(flushed) = flushed {
            self.release_after_flush(now, flushed);
        }
    }

    /// The one place where Raft is stepped. Gives what an append is answered with.
    pub(super) fn step_raft(&mut self, now: Now, event: Event) -> Option<Assigned> {
        let mut effects = std::mem::take(&mut self.effects);
        self.raft.step(now, event, &mut effects);
        let assigned = effects.assigned;
        self.take_effects(now, &mut effects);
        self.effects = effects;
        assigned
    }

    fn take_effects(&mut self, now: Now, effects: &mut Effects) {
        self.take_notes(now, effects);
        for effect in effects.at_once.drain(..) {
            self.carry_out(now, effect);
        }
        match effects.quorum_state {
            Some(state) => {
                assert!(!self.is_gated(), "Raft was stepped while its quorum state was not durable");
                self.log.write_quorum_state(state);
                let then = std::mem::take(&mut effects.after_quorum_state);
                let after_flush = std::mem::take(&mut effects.after_flush);
                self.gate = Gate::QuorumState { then, after_flush };
            }
            None => {
                let held = &effects.after_quorum_state;
                assert!(held.is_empty(), "effects wait for a quorum state that is not written: {held:?}");
                self.after_flush.extend(effects.after_flush.drain(..));
            }
        }
    }

    fn take_notes(&mut self, now: Now, effects: &mut Effects) {
        let mut repeatable = effects.repeatable.drain(..).peekable();
        for (place, text) in effects.notes.drain(..).enumerate() {
            let about = repeatable.next_if(|(at, ..)| *at == place);
            let level = match about {
                Some((_, NoteKind::TwoDirectories, _)) => Level::Warn,
                _ => Level::Info,
            };
            let text = match about {
                Some((_, kind, peer)) => self.repeats.admit(now, kind, peer, text),
                None => Some(text),
            };
            self.told.extend(text.map(|text| Told::Note { level, text }));
        }
    }

    pub(super) fn release_after_flush(&mut self, now: Now, flushed: FlushedOffset) {
        while self.after_flush.front().is_some_and(|(needs, _)| *needs <= flushed) && !self.is_gated() {
            if let Some((_, mut effect)) = self.after_flush.pop_front() {
                self.raft.on_released(now, &mut effect);
                self.carry_out(now, effect);
            }
        }
    }

    /// Do what Raft wants done; what must be durable first is so when this is called.
    pub(super) fn carry_out(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { to, request } => self.told.push_back(Told::Send { to, request }),
            Effect::Reply { request_id, response } => {
                self.told.push_back(Told::Reply { request_id, response })
            }
            Effect::Fetched { request_id, verdict } => {
                self.told.push_back(Told::Verdict { request_id, verdict })
            }
            Effect::AppendLeaderChange { base_offset, epoch, voters, granting } => {
                self.counts.leader_changes += 1;
                let leader = self.local;
                let batch = leader_change_batch(base_offset, epoch, now.wall_ms, leader, &voters, &granting);
                self.append_to_log(now, batch);
            }
            Effect::AppendFetched { first, count } => self.append_fetched(now, first, count),
            Effect::Truncate { to } => {
                self.after_flush.clear();
                self.on_truncate(to);
                self.log.truncate(to.0);
                self.truncating_to.push_back(to);
                self.check_cut(to, self.log.log_end());
            }
            Effect::InstallSnapshot { from, id, begin } => {
                self.told.push_back(Told::InstallSnapshot(WantedSnapshot { from, id, begin }));
            }
            Effect::PlaceSnapshot { id: _, begin } => self.place_snapshot(begin),
            Effect::HighWatermark(high_watermark) => self.on_high_watermark(high_watermark),
            Effect::AdvanceStart(at) => self.log.advance_start(at),
            Effect::StartNamed => self.start_named = true,
            Effect::RoleChanged => {
                // Promises of the old epoch must not be made in the new one.
                self.after_flush.clear();
                self.role_changed = true;
                self.told.push_back(Told::RoleChanged);
            }
            Effect::DropPeer { node, why } => self.told.push_back(Told::DropPeer { node, why }),
            Effect::Stop { why } => self.stop(EXIT_CORRUPT, why),
            Effect::ShutdownComplete => {
                self.closing = true;
                self.log.shutdown();
            }
        }
    }
}
