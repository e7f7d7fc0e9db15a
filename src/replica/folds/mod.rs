//! What every replica folds from its log: the same log gives the same state. docs/design/folds.md has the argument.
//!
//! [`Folds`] is the list of them, and the only place that feeds, cuts and writes them: the engine tells it what is appended,
//! committed and cut, the log keeps its sections in summaries without looking into them, and recovery gives them back. Who has a
//! question for one of them asks it by name. A fold never looks at a clock, or at who leads.

mod configs;
mod hold;
mod producers;
mod recovery;
mod snapshot;
#[cfg(test)]
mod snapshot_tests;
#[cfg(test)]
mod tests;
mod voters;

use crate::config::Config;
use crate::log::Section;
use crate::record::{BatchHeader, StampedBatch};
use crate::types::*;
pub(crate) use configs::{Configs, Set, check_room};
pub(crate) use hold::FoldsCopy;
use hold::HoldLimits;
pub(crate) use producers::{Producers, Verdict};
pub(crate) use recovery::Recovery;
pub use snapshot::{Unusable, origin_section};
use std::ops::Range;
pub(crate) use voters::Voters;

/// The face of one of them.
pub(crate) trait Fold {
    /// Of its section. Given once, and to no other.
    const TAG: u16;
    /// Of its section's form.
    const VERSION: u16;
    const NAME: &'static str;
    /// What a section holds.
    type Part;
    /// A copy of the settled state, as far as it has got. It goes to another thread.
    type Copied: Clone + std::fmt::Debug + Eq + Send;

    /// A batch of the log, in its order, whoever wrote it.
    fn fold(&mut self, batch: &StampedBatch);
    /// All below is never cut.
    fn settle(&mut self, high_watermark: HighWatermark);
    /// Undo what lies at or above `to`.
    fn cut(&mut self, to: Offset);
    /// What the settled state holds of these offsets; of all offsets: the settled state. `None`: it needs no section.
    fn encode(&self, offsets: &Range<Offset>) -> Option<Vec<u8>>;
    /// Of a summary of these offsets. Everything in it is distrusted. `Err`: the batches must be read instead.
    fn decode(section: Option<&[u8]>, offsets: &Range<Offset>) -> Result<Self::Part, &'static str>;
    /// Take over what was decoded; all before is settled, and so is this. What of it lies before `from` is known already.
    fn take(&mut self, part: Self::Part, from: Offset);

    /// Of nothing yet.
    fn begin_copy(&self) -> Self::Copied;
    /// Go on with a copy by at most so many entries; how many there were. Fewer: it is whole. Nothing is settled, nor cut below what
    /// is, between its first and last part.
    fn walk(&self, copied: &mut Self::Copied, entries_max: usize) -> usize;
    /// Of a whole copy: what `encode` of all offsets gave when it was begun.
    fn encode_copied(copied: Self::Copied) -> Option<Vec<u8>>;

    /// Batches that are kept apart because they are not settled.
    fn unsettled(&self) -> usize {
        0
    }

    /// Up to where `settle` may go, at most `below`, to take in no more than so many of them (one at least), and none in part.
    fn settled_end(&self, below: Offset, _batches_max: usize) -> Offset {
        below
    }

    /// `Err`: why this node cannot go by a log that holds this batch.
    fn fits(&self, _batch: &StampedBatch) -> Result<(), String> {
        Ok(())
    }

    /// The bound: a leader that is asked to append this refuses it. What is in the log all the same is folded, on every replica
    /// alike.
    fn has_room(&self, _header: &BatchHeader) -> bool {
        true
    }
}

/// All that is folded from one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folds {
    producers: Producers,
    voters: Voters,
    configs: Configs,
    /// All before is folded.
    end: Offset,
    /// All before was taken over from a snapshot: batches of it are not folded again, and where the log ends earlier it gets there.
    begun: Offset,
    /// All before is committed.
    committed: Offset,
    /// All before is settled. Lower, while a copy is made and until what has waited for it is settled.
    settled: Offset,
    /// All before is settled as well, and nobody has said that it is committed: see [`Folds::assume`].
    assumed: Offset,
    /// Something was cut that had been settled. What it had displaced is not known any more.
    has_lost: bool,
    copy: Option<FoldsCopy>,
    limits: HoldLimits,
}

impl Folds {
    /// Of an empty log.
    pub fn new(config: &Config) -> Folds {
        Folds {
            producers: Producers::new(config.limits.producer_ids_max),
            voters: Voters::new(&config.voters),
            configs: Configs::default(),
            end: Offset(0),
            begun: Offset(0),
            committed: Offset(0),
            settled: Offset(0),
            assumed: Offset(0),
            has_lost: false,
            copy: None,
            limits: HoldLimits {
                walk_entries: config.limits.fold_walk_entries,
                settled_batches: config.limits.fold_settled_batches,
                held_batches_max: config.limits.fold_held_batches_max,
            },
        }
    }

    pub(crate) fn producers(&self) -> &Producers {
        &self.producers
    }

    pub(crate) fn voters(&self) -> &Voters {
        &self.voters
    }

    pub(crate) fn configs(&self) -> &Configs {
        &self.configs
    }

    /// A batch of the log, in its order, whoever wrote it.
    pub(crate) fn fold(&mut self, batch: &StampedBatch) {
        if batch.base_offset() < self.begun {
            return;
        }
        self.producers.fold(batch);
        self.voters.fold(batch);
        self.configs.fold(batch);
        self.end = batch.next_offset();
    }

    /// All below is committed.
    pub(crate) fn settle(&mut self, high_watermark: HighWatermark) {
        let waits = self.is_behind();
        // A follower may hear of more than it has.
        self.committed = self.committed.max(high_watermark.0.min(self.end));
        if !waits {
            self.settle_to(self.committed);
        }
    }

    fn settle_to(&mut self, below: Offset) {
        self.settle_each(below);
        self.settled = self.settled.max(below);
    }

    /// All below will hardly be cut, so that it need not be kept apart. What it has displaced is in no section before it is known
    /// to be committed: a cut would bring that back into the log, and not into a section.
    fn assume(&mut self, below: Offset) {
        self.settle_each(below);
        self.assumed = self.assumed.max(below);
    }

    fn settle_each(&mut self, below: Offset) {
        self.producers.settle(HighWatermark(below));
        self.voters.settle(HighWatermark(below));
        self.configs.settle(HighWatermark(below));
    }

    /// The log ends at `to` again. What a snapshot holds is committed: it stays, and the log gets there again.
    pub(crate) fn cut(&mut self, to: Offset) {
        let to = to.max(self.begun);
        self.producers.cut(to);
        self.voters.cut(to);
        self.configs.cut(to);
        self.has_lost |= to < self.settled.max(self.assumed);
        self.copy.take_if(|copy| to < copy.end());
        self.committed = self.committed.min(to);
        self.settled = self.settled.min(to);
        self.end = self.end.min(to);
    }

    /// What a summary of these offsets keeps. `None`: not all of them are committed, or it is not known what they held.
    pub(crate) fn sections(&self, offsets: &Range<Offset>) -> Option<Vec<Section>> {
        if offsets.end > self.settled || self.assumed > self.settled || self.has_lost {
            return None;
        }
        let sections = [
            section_of(&self.producers, offsets),
            section_of(&self.voters, offsets),
            section_of(&self.configs, offsets),
        ];
        Some(sections.into_iter().flatten().collect())
    }

    /// The settled state, and up to where it has the log: what a snapshot holds. `None`: it is not known just now.
    pub(crate) fn settled(&self) -> Option<(Offset, Vec<Section>)> {
        let offsets = Offset(0)..self.settled;
        Some((offsets.end, self.sections(&offsets)?))
    }

    /// The next part of the log, of a summary: all of it is committed. `Err`: why not; nothing was taken then.
    pub(crate) fn take_sections(
        &mut self,
        sections: &[Section],
        offsets: &Range<Offset>,
    ) -> Result<(), String> {
        let producers = decoded::<Producers>(sections, offsets)?;
        let voters = decoded::<Voters>(sections, offsets)?;
        let configs = decoded::<Configs>(sections, offsets)?;
        (self.end, self.committed, self.settled) = (offsets.end, offsets.end, offsets.end);
        self.settle_each(offsets.end);
        self.producers.take(producers, self.begun);
        self.voters.take(voters, self.begun);
        self.configs.take(configs, self.begun);
        Ok(())
    }

    /// Up to where what is told of them is known to be committed. `None`: more than that was taken for it at the start.
    pub(crate) fn settled_end(&self) -> Option<Offset> {
        (self.assumed <= self.settled).then_some(self.settled)
    }

    /// What is folded is not that of a log any more, in this life: see `has_lost`.
    pub(crate) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// A lie of the simulator: a start does not know what was set.
    pub(crate) fn forget_configs(&mut self) {
        self.configs = Configs::default();
    }

    /// `Err`: why this node cannot go by a log that holds this batch. Asked before a leader's batch is stored, and in recovery.
    pub(crate) fn fits(&self, batch: &StampedBatch) -> Result<(), String> {
        self.producers.fits(batch)?;
        self.voters.fits(batch)?;
        self.configs.fits(batch)
    }
}

/// Of the fold in the list that has this tag: the version of its section, and its name.
fn version_of(tag: u16) -> Option<(u16, &'static str)> {
    fn known<F: Fold>() -> (u16, (u16, &'static str)) {
        (F::TAG, (F::VERSION, F::NAME))
    }
    let all = [known::<Producers>(), known::<Voters>(), known::<Configs>()];
    all.into_iter().find(|(of, _)| *of == tag).map(|(_, known)| known)
}

fn section_of<F: Fold>(fold: &F, offsets: &Range<Offset>) -> Option<Section> {
    fold.encode(offsets).map(|bytes| Section { tag: F::TAG, version: F::VERSION, bytes })
}

fn decoded<F: Fold>(sections: &[Section], offsets: &Range<Offset>) -> Result<F::Part, String> {
    let section = sections.iter().find(|section| section.tag == F::TAG);
    if let Some(section) = section.filter(|section| section.version != F::VERSION) {
        return Err(format!("its section of {} is of version {}", F::NAME, section.version));
    }
    let part = F::decode(section.map(|section| &section.bytes[..]), offsets);
    part.map_err(|why| format!("its section of {}: {why}", F::NAME))
}
