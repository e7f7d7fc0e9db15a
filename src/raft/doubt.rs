//! The rule of the log in doubt: what a voter may do whose start found the end of its log damaged.
//!
//! It remembers its votes, but may lack records that it has acknowledged, and does not know up to where they went. A log
//! that is as long as what is left of its own could be shorter than what it lost. So it votes for nobody, itself included,
//! until it holds all that a leader of its epoch knows to be committed. It may follow any leader meanwhile: its Fetches say
//! what it has. The doubt is durable before anything is cut (`log::recovery`), and ends here.
//!
//! Where a majority is in doubt nobody can be elected, and only whoever runs the quorum can decide that the rest is lost
//! (`kraft.log.doubt=vote`). Its vote carries a reserve then, as that of a voter that lost its log: it counts only where all
//! voters have compared theirs, so that the longest of what is left leads.

use super::Raft;
use super::effects::Effects;
use super::event::VoteRequest;
use crate::types::*;

impl Raft {
    /// The doubt as a state of this node, for whoever runs it.
    pub(crate) fn doubt(&self) -> Option<&'static str> {
        let part = match self.config.log_doubt {
            LogDoubt::Wait => {
                "the end of its log was damaged at a start, and until it has caught up with a leader it votes for nobody and \
                 does not stand"
            }
            LogDoubt::Vote => {
                "the end of its log was damaged at a start, and until it has caught up with a leader its vote counts only \
                 among those of all voters"
            }
        };
        self.state.in_doubt.then_some(part)
    }

    /// Why this voter does not stand, where it is in doubt.
    pub(super) fn why_not_standing(&self) -> Option<&'static str> {
        let has_nothing = self.epochs.last().offset == Offset(0);
        (self.state.in_doubt && (has_nothing || self.config.log_doubt == LogDoubt::Wait)).then_some(
            "the end of my log was damaged at a start, and records that I acknowledged may be missing: I do not stand, and \
             wait for a leader that the others elect. If too many of them are in doubt too, docs/starts-and-ends.md has the \
             way out",
        )
    }

    /// Why this voter does not help that candidate, where it is in doubt.
    pub(super) fn why_not_helping(&self, request: &VoteRequest) -> Option<&'static str> {
        let counts_reserve = request.counts_memory && request.last.offset > Offset(0);
        let helps = !self.state.in_doubt || (self.config.log_doubt == LogDoubt::Vote && counts_reserve);
        (!helps).then_some(
            "the end of my log was damaged at a start and it has not caught up with a leader since: records that I \
             acknowledged may be missing, so I vote for nobody",
        )
    }

    /// Everything that the leader knows to be committed is durable here again.
    pub(super) fn maybe_leave_doubt(&mut self, told: Option<HighWatermark>, effects: &mut Effects) {
        let Some(told) = told.filter(|told| self.state.in_doubt && self.holds_committed(*told)) else {
            return;
        };
        self.state.in_doubt = false;
        effects.notes.push(format!("my log has all that is committed, up to {told}: it is in doubt no more"));
    }
}

#[cfg(test)]
#[path = "doubt_tests.rs"]
mod tests;
