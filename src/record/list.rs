//! Lists of batches that are handed on, read and dropped, here or on another core, and whose room is then used again.

use super::{CheckedRun, StampedBatch};
use crate::types::*;
use std::sync::Arc;

/// More lists than these are not kept: so many answers are under way in a turn, a voter or two and some consumers.
const LISTS_MAX: usize = 8;
/// The room of a longer list is given back.
const LIST_BATCHES_MAX: usize = 256;

/// Whole batches in the order of their offsets: runs, and behind them batches one by one. As large as a pointer: an answer
/// that carries it is moved about.
#[derive(Clone, Debug, Default)]
pub struct BatchList(Option<Arc<Parts>>);

#[derive(Debug, Default)]
struct Parts {
    runs: Vec<CheckedRun>,
    batches: Vec<StampedBatch>,
    size_bytes: usize,
}

impl Parts {
    fn fill(
        &mut self,
        runs: impl IntoIterator<Item = CheckedRun>,
        batches: impl Iterator<Item = StampedBatch>,
    ) {
        self.clear();
        self.runs.extend(runs);
        self.batches.extend(batches);
        let batches = self.batches.iter().map(StampedBatch::size_bytes);
        self.size_bytes = self.runs.iter().map(CheckedRun::size_bytes).chain(batches).sum();
    }

    fn clear(&mut self) {
        self.runs.clear();
        self.batches.clear();
        self.size_bytes = 0;
    }
}

impl BatchList {
    /// Of all its batches. Not counted anew.
    pub(crate) fn size_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |parts| parts.size_bytes)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// They go before the `batches`.
    pub(crate) fn runs(&self) -> &[CheckedRun] {
        self.0.as_ref().map_or(&[], |parts| &parts.runs)
    }

    /// Those that lie each by itself.
    pub(crate) fn batches(&self) -> &[StampedBatch] {
        self.0.as_ref().map_or(&[], |parts| &parts.batches)
    }

    /// Offset of its first record, and the one behind its last.
    pub(crate) fn ends(&self) -> Option<(Offset, Offset)> {
        let first = self.runs().first().map(CheckedRun::base_offset);
        let first = first.or_else(|| self.batches().first().map(StampedBatch::base_offset));
        let end = self.batches().last().map(StampedBatch::next_offset);
        first.zip(end.or_else(|| self.runs().last().map(CheckedRun::next_offset)))
    }

    /// All of them, for who looks into batches: no answer needs that.
    pub(crate) fn iter(&self) -> impl Iterator<Item = StampedBatch> {
        self.runs().iter().flat_map(CheckedRun::batches).chain(self.batches().iter().cloned())
    }
}

impl From<Vec<StampedBatch>> for BatchList {
    fn from(batches: Vec<StampedBatch>) -> BatchList {
        let mut parts = Parts::default();
        parts.fill([], batches.into_iter());
        BatchList((!parts.batches.is_empty()).then(|| Arc::new(parts)))
    }
}

impl From<CheckedRun> for BatchList {
    fn from(run: CheckedRun) -> BatchList {
        let mut parts = Parts::default();
        parts.fill([run], std::iter::empty());
        BatchList(Some(Arc::new(parts)))
    }
}

/// Lists that were handed out. One that nobody holds any more is filled again.
#[derive(Debug, Default)]
pub(crate) struct BatchLists(Vec<Arc<Parts>>);

impl BatchLists {
    /// `runs` come before `batches`, and those follow them.
    pub(crate) fn fill(
        &mut self,
        runs: impl ExactSizeIterator<Item = CheckedRun>,
        batches: impl ExactSizeIterator<Item = StampedBatch>,
    ) -> BatchList {
        if runs.len() == 0 && batches.len() == 0 {
            return BatchList::default();
        }
        for list in &mut self.0 {
            if let Some(free) = Arc::get_mut(list) {
                free.fill(runs, batches);
                return BatchList(Some(list.clone()));
            }
        }
        let mut parts = Parts::default();
        parts.fill(runs, batches);
        let list = Arc::new(parts);
        if self.0.len() < LISTS_MAX {
            self.0.push(Arc::clone(&list));
        }
        BatchList(Some(list))
    }

    /// Let go of what lies in the lists that nobody holds any more: it pins what it was received in, or read into.
    pub(crate) fn clear_returned(&mut self) {
        for list in self.0.iter_mut().filter_map(Arc::get_mut) {
            list.clear();
            list.batches.shrink_to(LIST_BATCHES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check::check_produced_whole, check_run, data_batch};
    use super::*;

    fn batches(count: usize) -> std::vec::IntoIter<StampedBatch> {
        let bytes = data_batch(&[&[7; 100][..]], 0, None);
        vec![check_produced_whole(bytes).expect("a good batch"); count].into_iter()
    }

    fn runs(count: usize) -> std::vec::IntoIter<CheckedRun> {
        let mut bytes = data_batch(&[&[7; 100][..]], 0, None).to_vec();
        bytes[12..16].fill(0);
        vec![check_run(bytes.into()).0.expect("a good batch"); count].into_iter()
    }

    #[test]
    fn a_list_is_used_again_when_nobody_holds_it_any_more() {
        let mut lists = BatchLists::default();
        let mut fill = |count| lists.fill(runs(0), batches(count));
        let first = fill(3);
        let (place, second) = (first.batches().as_ptr(), fill(2));
        assert_eq!(
            (first.batches().len(), second.batches().len()),
            (3, 2),
            "one that is held stays as it is"
        );
        drop(first);
        let third = fill(1);
        assert_eq!((third.batches().len(), third.batches().as_ptr()), (1, place));
        assert!(fill(0).is_empty());
        assert_eq!(lists.0.len(), 2);
    }

    #[test]
    fn lists_that_came_back_pin_nothing_and_do_not_grow() {
        let mut lists = BatchLists::default();
        let batch = batches(1).next().expect("one");
        let long = lists.fill(runs(1), std::iter::repeat_n(batch.clone(), 10 * LIST_BATCHES_MAX));
        let held: Vec<BatchList> = (0..2 * LISTS_MAX).map(|_| lists.fill(runs(0), batches(1))).collect();
        assert_eq!(lists.0.len(), LISTS_MAX);
        drop(long);
        lists.clear_returned();
        let returned = &lists.0[0];
        assert!(returned.runs.is_empty() && returned.batches.is_empty());
        assert!(returned.batches.capacity() < 2 * LIST_BATCHES_MAX);
        assert!(held.iter().all(|list| list.batches().len() == 1));
    }

    #[test]
    fn a_list_knows_its_ends_and_its_size() {
        let mut lists = BatchLists::default();
        assert_eq!((BatchList::default().ends(), BatchList::default().size_bytes()), (None, 0));
        let mut behind = batches(1).next().expect("one");
        behind.stamp(Offset(1), Epoch(0));
        let list = lists.fill(runs(1), [behind.clone()].into_iter());
        assert_eq!(list.ends(), Some((Offset(0), Offset(2))));
        assert_eq!(list.size_bytes(), 2 * behind.size_bytes());
        assert!(list.iter().map(|batch| batch.base_offset()).eq([Offset(0), Offset(1)]));
        assert_eq!(BatchList::from(vec![behind]).ends(), Some((Offset(1), Offset(2))));
        let run = BatchList::from(runs(1).next().expect("one"));
        assert_eq!((run.ends(), run.batches().len()), (Some((Offset(0), Offset(1))), 0));
    }
}
