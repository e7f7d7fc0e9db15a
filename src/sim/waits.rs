//! Rot on any voters: what an operator may empty then, when a quorum may wait, and what is held against a node all the same.
//!
//! Part of `Simulation`. In seeds in which rot strikes a minority at most work always goes on, but where a write that was cut short
//! has left one more voter in doubt of its end: both are a majority then. There, and in the others ([`super::faults`]),
//! nothing that is said of safety is waived, and of liveness only this: a run may end without having come to rest where nobody
//! leads and nobody can be elected, because
//! - fewer than a majority of the voters have a vote without reserve: a log that is not in doubt, that has once caught up with a
//!   leader, and a start that was not refused;
//! - and not all voters have a vote: one at least is in doubt, or was refused and cannot be emptied.
//!
//! Otherwise a leader must be there, all that was acknowledged readable, and all logs equal, as anywhere. Records that all of
//! their holders have lost are of the first kind: whoever has lost them does not vote, the others are no majority.

use super::Simulation;
use super::durable::BatchId;
use super::node::Node;
use crate::types::NS_PER_MS;

/// Elections that were under way are over by then, and what was on its way has arrived.
const WAIT_SEEN_MS: u64 = 5_000;

impl Simulation {
    /// May this node get an empty disk (it need not be among the others just now)? An operator looks whether another voter runs
    /// and has all that this one has; the model knows besides what was committed and is on neither, and where a log has rotted.
    pub(super) fn can_be_refilled(&self, node: &Node) -> bool {
        let committed = self.checker.last_committed();
        let is_keeper = |other: &Node| {
            let is_sound =
                other.is_voter() && other.is_up() && !other.is_in_doubt && !other.disk.is_log_rotten();
            is_sound && other.durable_last() >= node.durable_last() && holds(other, committed)
        };
        !node.is_voter() || self.nodes.values().any(|other| other.host != node.host && is_keeper(other))
    }

    /// More than a minority of the voters has something rotten, or has lost something that it has not got back.
    pub(super) fn is_majority_struck(&self) -> bool {
        let voters = || self.nodes.values().filter(|node| node.is_voter());
        let struck = voters().filter(|node| node.may_be_lost() || node.is_refused).count();
        struck > (voters().count() - 1) / 2
    }

    /// Nobody leads, and those who have a vote are too few.
    fn has_too_few_votes(&self) -> bool {
        let voters = || self.nodes.values().filter(|node| node.is_voter());
        let whole = voters().filter(|node| !node.is_refused && node.says_caught_up()).count();
        let is_vote_missing = voters().any(|node| node.is_refused || node.says_in_doubt());
        self.leader().is_none() && whole <= voters().count() / 2 && is_vote_missing
    }

    /// A majority has lost something, by whatever faults.
    fn may_wait(&self) -> bool {
        let is_any_in_doubt = || self.nodes.values().any(|node| node.is_voter() && node.says_in_doubt());
        self.rots_any || (is_any_in_doubt() && self.is_majority_struck())
    }

    /// The run ends here: a quorum waits, and is right.
    pub(super) fn ends_waiting(&mut self) -> bool {
        if !self.may_wait() || !self.has_too_few_votes() {
            self.waits_since_ns = None;
            return false;
        }
        let since_ns = *self.waits_since_ns.get_or_insert(self.now_ns);
        if self.now_ns < since_ns + WAIT_SEEN_MS * NS_PER_MS {
            return false;
        }
        self.trace.line(self.now_ns, 0, "too few voters are left that can vote: the quorum waits");
        self.totals.waits += 1;
        self.is_at_rest = true;
        true
    }
}

fn holds(node: &Node, committed: Option<BatchId>) -> bool {
    committed.is_none_or(|last| node.disk.log.ending_at(last.next).is_some_and(|placed| placed.id == last))
}
