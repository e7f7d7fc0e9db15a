//! What an operator does, and the checker counts, where recovery finds damage: a start that is refused, a log in doubt.

use super::Simulation;
use super::node::Node;
use crate::log::{Doubt, RecoveredLog, RecoveryError};
use crate::replica::folds::Folds;
use crate::replica::snapshots::StartError;
use crate::types::*;

impl Simulation {
    /// The end of its log is damaged, and it is not for certain a torn write. False: it does not start.
    pub(super) fn on_doubt(&mut self, node: &mut Node, doubt: &Doubt) -> bool {
        let Doubt { segment, position, offset, why } = doubt;
        let text = format!("is in doubt of {segment} from byte {position}, offset {offset} on: {why}");
        self.trace.line(self.now_ns, node.host, &text);
        let is_rotten = node.disk.is_log_rotten() || node.disk.is_mark_rotten();
        match is_rotten {
            true => self.totals.doubts += 1,
            false => self.totals.unproven_tears += 1,
        }
        let has_peers = node.config.voters.iter().any(|voter| voter.id != node.config.node_id);
        if !has_peers && self.rots_any && is_rotten {
            // Nobody could give back what follows.
            self.totals.refused_starts += 1;
            node.is_refused = true;
            let delay_ns = self.dice.around(300 * NS_PER_MS);
            self.start_later(node, delay_ns);
            return false;
        }
        if !has_peers {
            // An operator gives up what follows. (In other seeds nothing rots on an only voter.)
            node.disk.give_up(doubt);
            let delay_ns = self.dice.around(300 * NS_PER_MS);
            self.start_later(node, delay_ns);
            return false;
        }
        // What it had said that it holds it may lack from here on.
        node.lost.push(node.disk.log.clone());
        node.is_behind = node.is_behind.max(Some(self.checker.committed_end()));
        node.is_in_doubt = true;
        if is_rotten {
            node.standing = None;
        }
        true
    }

    /// What its snapshot holds was flushed here: only rot takes it from the log. False: it does not start.
    pub(super) fn reaches_snapshot(
        &mut self,
        node: &mut Node,
        recovered: &mut RecoveredLog,
        folds: &Folds,
    ) -> bool {
        if !folds.is_ahead_of(recovered.log_end) || recovered.quorum_state.in_doubt {
            return true;
        }
        let text = format!("its log ends at {}, before its snapshot", recovered.log_end);
        self.trace.line(self.now_ns, node.host, &text);
        let is_rotten = node.disk.is_log_rotten() || node.disk.is_mark_rotten();
        if !is_rotten {
            let detail = format!("node {}: {text}, and nothing is rotten", node.host);
            self.checker.violate("a snapshot ends in what is flushed", detail);
        }
        node.is_behind = node.is_behind.max(Some(self.checker.committed_end()));
        node.is_in_doubt = true;
        let has_peers = node.config.voters.iter().any(|voter| voter.id != node.config.node_id);
        if has_peers {
            recovered.go_on_in_doubt();
        } else {
            self.totals.refused_starts += 1;
            node.is_refused = true;
            let delay_ns = self.dice.around(300 * NS_PER_MS);
            self.start_later(node, delay_ns);
        }
        has_peers
    }

    pub(super) fn on_start_refused(&mut self, node: &mut Node, error: StartError) {
        let text = format!("does not start: {error:?}");
        self.trace.line(self.now_ns, node.host, &text);
        let error = match error {
            StartError::Log(error) => error,
            StartError::Disk(error) => RecoveryError::Disk(error),
            // Nobody puts another's there, and the log is all there.
            StartError::NotOurs { .. } | StartError::Contradicts { .. } | StartError::NotCovered { .. } => {
                self.checker.violate("no snapshot refuses a start", format!("node {} {text}", node.host));
                return;
            }
        };
        let is_rotten =
            node.disk.is_log_rotten() || node.disk.is_mark_rotten() || node.disk.are_votes_rotten();
        self.totals.refused_starts += matches!(error, RecoveryError::Corrupt(_)) as u64;
        match error {
            RecoveryError::Corrupt(_) if !is_rotten => {
                let detail = format!("node {} {text}, and nothing is rotten", node.host);
                self.checker.violate("only rot is refused", detail);
            }
            // An operator reads that line and empties the directory, once another voter has all that is in it.
            RecoveryError::Corrupt(_) if !self.rots_any || self.can_be_refilled(node) => self.wipe(node),
            RecoveryError::Corrupt(_) => node.is_refused = true,
            RecoveryError::Newer { .. } | RecoveryError::Disk(_) => {}
        }
        let delay_ns = self.dice.around(300 * NS_PER_MS);
        self.start_later(node, delay_ns);
    }
}
