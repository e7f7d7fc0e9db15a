//! The latest time of all committed records, kept as they are committed.
//!
//! ListOffsets asks for it (-3), and must not be told of a record that may still be cut. The log knows the latest of all its
//! records; under load that one is never committed yet, and who asked would be sent away again and again.

use crate::types::*;

#[derive(Debug)]
pub(super) struct Latest {
    /// Of the batches that were there at the start, and of those committed since.
    committed: Option<i64>,
    /// Where the log ended at the start, or was cut to since. Whoever leads has committed all below before he answers.
    found_end: Offset,
}

impl Latest {
    /// A log that was found as it is, with this largest timestamp.
    pub(super) fn found(end: Offset, largest: Option<i64>) -> Latest {
        Latest { committed: largest, found_end: end }
    }

    pub(super) fn on_committed(&mut self, timestamp: Option<i64>) {
        self.committed = self.committed.max(timestamp);
    }

    /// The log ends there now. True: what is left was there at the start, and is to be looked at again.
    pub(super) fn cuts_into_found(&self, end: Offset) -> bool {
        end < self.found_end
    }

    /// Records went with the start of the log, and of what is left this is the latest time.
    pub(super) fn on_start_moved(&mut self, largest: Option<i64>) {
        self.committed = self.committed.min(largest);
    }

    /// `None`: no record has been committed.
    pub(super) fn committed(&self) -> Option<i64> {
        self.committed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_counts_until_it_is_cut() {
        let mut latest = Latest::found(Offset(10), Some(70));
        assert_eq!(latest.committed(), Some(70));
        [None, Some(60), Some(80)].into_iter().for_each(|timestamp| latest.on_committed(timestamp));
        assert_eq!(latest.committed(), Some(80));
        assert!(!latest.cuts_into_found(Offset(10)), "what came since was cut before it was committed");
        assert!(latest.cuts_into_found(Offset(9)));
        assert_eq!(Latest::found(Offset(0), None).committed(), None);
    }

    #[test]
    fn what_went_with_the_start_does_not_count() {
        let mut latest = Latest::found(Offset(10), Some(70));
        latest.on_start_moved(Some(75));
        assert_eq!(latest.committed(), Some(70), "what is not committed tells nothing");
        latest.on_start_moved(Some(60));
        assert_eq!(latest.committed(), Some(60));
        latest.on_start_moved(None);
        assert_eq!(latest.committed(), None);
    }
}
