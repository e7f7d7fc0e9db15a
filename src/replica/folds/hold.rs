//! A copy of what is folded at one committed offset, made a little in each turn: what a snapshot holds.
//!
//! The settled state stands still meanwhile. What commits waits in the list of what is not settled, as it did before; when the copy is
//! whole, each turn settles more of it than has come in. So no fold knows of copies, nothing is copied twice, and all folds stand at
//! the same offset. The engine begins a copy and calls [`Folds::end_turn`]; docs/design/log-without-end.md has the argument.

use super::{Configs, Fold, Folds, Producers, Voters};
use crate::log::Section;
use crate::types::*;

/// Of the settled state, as far as it has got. Made whole it gives what `Folds::sections` of all offsets gave at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct FoldsCopy {
    end: Offset,
    producers: <Producers as Fold>::Copied,
    voters: <Voters as Fold>::Copied,
    configs: <Configs as Fold>::Copied,
}

impl FoldsCopy {
    /// All before is in it.
    pub(crate) fn end(&self) -> Offset {
        self.end
    }

    /// What it holds. It takes long: not on a replica core.
    pub(crate) fn into_sections(self) -> Vec<Section> {
        let FoldsCopy { end: _, producers, voters, configs } = self;
        let sections =
            [section::<Producers>(producers), section::<Voters>(voters), section::<Configs>(configs)];
        sections.into_iter().flatten().collect()
    }
}

fn section<F: Fold>(copied: F::Copied) -> Option<Section> {
    F::encode_copied(copied).map(|bytes| Section { tag: F::TAG, version: F::VERSION, bytes })
}

impl Folds {
    /// Begin to copy what is folded from all that is committed, up to here; nothing is settled until that is done, or given up.
    /// `Err`: why that cannot be now.
    pub(crate) fn hold(&mut self, committed: Offset) -> Result<(), &'static str> {
        if self.is_behind() {
            return Err("the last copy is not done with");
        }
        if self.settled != committed {
            return Err("more or less than that is settled");
        }
        if self.has_lost {
            return Err("something committed was cut: what is folded is known again after the next start");
        }
        if self.assumed > self.settled {
            return Err("what was folded at the start is not known to be committed yet");
        }
        self.copy = Some(FoldsCopy {
            end: self.settled,
            producers: self.producers.begin_copy(),
            voters: self.voters.begin_copy(),
            configs: self.configs.begin_copy(),
        });
        Ok(())
    }

    /// A copy is being made.
    pub(crate) fn is_held(&self) -> bool {
        self.copy.is_some()
    }

    /// There is something to do in each turn: copy, or settle what has waited meanwhile.
    pub(crate) fn is_behind(&self) -> bool {
        self.is_held() || self.settled < self.committed
    }

    /// What is committed up to here may wait for a copy.
    pub(crate) fn waits_to_settle(&self, end: Offset) -> bool {
        self.is_behind() && end > self.settled
    }

    /// Once in each turn, in which so many batches were folded: go on with the copy, which is given when it is whole. Then settle what
    /// has waited: more than came, so that this ends under any load.
    pub(crate) fn end_turn(&mut self, came: usize) -> Option<FoldsCopy> {
        if !self.is_behind() {
            return None;
        }
        if self.producers.unsettled() + self.voters.unsettled() + self.configs.unsettled()
            > self.limits.held_batches_max
        {
            self.copy = None;
        }
        let whole = self.walk().then(|| self.copy.take()).flatten();
        if !self.is_held() && self.is_behind() {
            self.settle_some(2 * came + self.limits.settled_batches);
        }
        whole
    }

    /// True: the copy is whole.
    fn walk(&mut self) -> bool {
        let Some(copy) = &mut self.copy else { return false };
        let mut left = self.limits.walk_entries;
        // Who has fewer than it may copy has come to its end.
        left -= self.producers.walk(&mut copy.producers, left);
        left -= self.voters.walk(&mut copy.voters, left);
        left -= self.configs.walk(&mut copy.configs, left);
        left > 0
    }

    fn settle_some(&mut self, batches_max: usize) {
        let producers = self.producers.settled_end(self.committed, batches_max);
        let voters = self.voters.settled_end(self.committed, batches_max);
        let configs = self.configs.settled_end(self.committed, batches_max);
        self.settle_to(producers.min(voters).min(configs));
    }

    /// The copy is given up, and nothing waits any more.
    pub(crate) fn let_go(&mut self) {
        self.copy = None;
        self.settle_to(self.committed);
    }
}

/// How much of it one turn does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct HoldLimits {
    pub(super) walk_entries: usize,
    pub(super) settled_batches: usize,
    pub(super) held_batches_max: usize,
}

#[cfg(test)]
mod tests;
