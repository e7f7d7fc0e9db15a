//! Lists of batches that are handed on, read and dropped, here or on another core, and whose room is then used again.

use super::StampedBatch;
use std::ops::Deref;
use std::sync::Arc;

/// More lists than these are not kept: so many answers are under way in a turn, a voter or two and some consumers.
const LISTS_MAX: usize = 8;
/// The room of a longer list is given back.
const LIST_BATCHES_MAX: usize = 256;

/// Whole batches in the order of their offsets. As large as a pointer: an answer that carries it is moved about.
#[derive(Clone, Debug, Default)]
pub struct BatchList(Option<Arc<Vec<StampedBatch>>>);

impl Deref for BatchList {
    type Target = [StampedBatch];

    fn deref(&self) -> &[StampedBatch] {
        self.0.as_ref().map_or(&[], |list| &list[..])
    }
}

impl From<Vec<StampedBatch>> for BatchList {
    fn from(list: Vec<StampedBatch>) -> BatchList {
        BatchList((!list.is_empty()).then(|| Arc::new(list)))
    }
}

/// Lists that were handed out. One that nobody holds any more is filled again.
#[derive(Debug, Default)]
pub(crate) struct BatchLists(Vec<Arc<Vec<StampedBatch>>>);

impl BatchLists {
    pub(crate) fn fill(&mut self, batches: impl ExactSizeIterator<Item = StampedBatch>) -> BatchList {
        if batches.len() == 0 {
            return BatchList::default();
        }
        for list in &mut self.0 {
            if let Some(free) = Arc::get_mut(list) {
                free.clear();
                free.extend(batches);
                return BatchList(Some(list.clone()));
            }
        }
        let list = Arc::new(batches.collect());
        if self.0.len() < LISTS_MAX {
            self.0.push(Arc::clone(&list));
        }
        BatchList(Some(list))
    }

    /// Let go of the batches in the lists that nobody holds any more: they pin what they were received in.
    pub(crate) fn clear_returned(&mut self) {
        for list in self.0.iter_mut().filter_map(Arc::get_mut) {
            list.clear();
            list.shrink_to(LIST_BATCHES_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{check::check_produced_whole, data_batch};
    use super::*;

    fn batches(count: usize) -> std::vec::IntoIter<StampedBatch> {
        let bytes = data_batch(&[&[7; 100][..]], 0, None);
        vec![check_produced_whole(bytes).expect("a good batch"); count].into_iter()
    }

    #[test]
    fn a_list_is_used_again_when_nobody_holds_it_any_more() {
        let mut lists = BatchLists::default();
        let first = lists.fill(batches(3));
        let (place, second) = (first.as_ptr(), lists.fill(batches(2)));
        assert_eq!((first.len(), second.len()), (3, 2), "one that is held stays as it is");
        drop(first);
        let third = lists.fill(batches(1));
        assert_eq!((third.len(), third.as_ptr()), (1, place));
        assert_eq!(lists.0.len(), 2);
        assert!(lists.fill(batches(0)).is_empty());
    }

    #[test]
    fn lists_that_came_back_pin_nothing_and_do_not_grow() {
        let mut lists = BatchLists::default();
        let batch = batches(1).next().expect("one");
        let long = lists.fill(std::iter::repeat_n(batch.clone(), 10 * LIST_BATCHES_MAX));
        let held: Vec<BatchList> = (0..2 * LISTS_MAX).map(|_| lists.fill(batches(1))).collect();
        assert_eq!(lists.0.len(), LISTS_MAX);
        drop(long);
        lists.clear_returned();
        assert!(lists.0[0].is_empty() && lists.0[0].capacity() < 2 * LIST_BATCHES_MAX);
        assert!(held.iter().all(|list| list.len() == 1));
    }
}
