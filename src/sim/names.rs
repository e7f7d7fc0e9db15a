//! The names in a node's directory: which of them a power cut takes away or brings back.
//!
//! Creating, removing and renaming a file change the directory; only a flush of the directory makes that durable.
//! `SimDisk` tells it what was changed and when the directory was flushed. Contents are not its business.

use super::dice::Dice;
use super::platter::DiskFile;
use crate::log::{SegmentId, SmallFile};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Debug, Default)]
pub(super) struct Names {
    created: BTreeSet<SegmentId>,
    removed: BTreeMap<SegmentId, DiskFile>,
    /// What the name stood for at the last flush; `None`: there was no such name.
    replaced: BTreeMap<SmallFile, Option<Vec<u8>>>,
    /// Only where a lie was told: no flush of the directory takes these in.
    never_durable: BTreeSet<SegmentId>,
}

impl Names {
    pub(super) fn on_created(&mut self, segment: SegmentId) {
        // A file that was removed under this name comes back empty at most: it was opened again.
        self.removed.remove(&segment);
        self.created.insert(segment);
    }

    pub(super) fn on_removed(&mut self, segment: SegmentId, file: DiskFile) {
        if !self.created.remove(&segment) {
            self.removed.insert(segment, file);
        }
    }

    pub(super) fn on_replaced(&mut self, file: SmallFile, old: Option<Vec<u8>>) {
        self.replaced.entry(file).or_insert(old);
    }

    pub(super) fn on_lied(&mut self, segment: SegmentId) {
        self.never_durable.insert(segment);
    }

    /// The directory was flushed.
    pub(super) fn flush(&mut self) {
        self.created.clear();
        self.removed.clear();
        self.replaced.clear();
    }

    /// What a power cut may leave under this name instead of what is seen there now.
    pub(super) fn before(&self, file: SmallFile) -> Option<Option<&[u8]>> {
        self.replaced.get(&file).map(|old| old.as_deref())
    }

    /// Power is cut: each change that was not flushed is undone, or not. Gives how many were.
    pub(super) fn cut_power(
        &mut self,
        dice: &mut Dice,
        segments: &mut BTreeMap<SegmentId, DiskFile>,
        small: &mut BTreeMap<SmallFile, Vec<u8>>,
    ) -> u64 {
        let mut undone = 0;
        for segment in std::mem::take(&mut self.never_durable) {
            undone += segments.remove(&segment).is_some() as u64;
        }
        for segment in std::mem::take(&mut self.created) {
            if dice.permille(500) {
                undone += segments.remove(&segment).is_some() as u64;
            }
        }
        for (segment, file) in std::mem::take(&mut self.removed) {
            if dice.permille(500) {
                segments.insert(segment, file);
                undone += 1;
            }
        }
        for (file, old) in std::mem::take(&mut self.replaced) {
            if dice.permille(500) {
                match old {
                    Some(old) => _ = small.insert(file, old),
                    None => _ = small.remove(&file),
                }
                undone += 1;
            }
        }
        undone
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Offset;

    const SEGMENT: SegmentId = SegmentId(Offset(7));
    const VOTES: SmallFile = SmallFile::QuorumState;

    /// What is left after many power cuts, each of the same disk.
    fn outcomes(change: impl Fn(&mut Names)) -> BTreeSet<(bool, Option<Vec<u8>>)> {
        let cut = |seed| {
            let mut names = Names::default();
            change(&mut names);
            let mut segments = BTreeMap::from([(SEGMENT, DiskFile::zeros(10))]);
            let mut small = BTreeMap::from([(VOTES, vec![2])]);
            names.cut_power(&mut Dice::new(seed, 0), &mut segments, &mut small);
            (segments.contains_key(&SEGMENT), small.remove(&VOTES))
        };
        (0..50).map(cut).collect()
    }

    #[test]
    fn what_was_flushed_stays() {
        let all_flushed = outcomes(|names| {
            names.on_created(SEGMENT);
            names.on_replaced(VOTES, Some(vec![1]));
            names.flush();
        });
        assert_eq!(all_flushed, BTreeSet::from([(true, Some(vec![2]))]));
    }

    #[test]
    fn what_was_not_flushed_is_there_or_not() {
        let created = outcomes(|names| names.on_created(SEGMENT));
        assert_eq!(created.iter().map(|(there, _)| *there).collect::<Vec<_>>(), [false, true]);
        let replaced = outcomes(|names| {
            names.on_replaced(VOTES, Some(vec![1]));
            names.on_replaced(VOTES, Some(vec![3]));
        });
        assert_eq!(replaced, BTreeSet::from([(true, Some(vec![1])), (true, Some(vec![2]))]));
        let first = outcomes(|names| names.on_replaced(VOTES, None));
        assert_eq!(first, BTreeSet::from([(true, None), (true, Some(vec![2]))]));
    }
}
