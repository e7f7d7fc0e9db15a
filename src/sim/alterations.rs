//! What administrators have set for the topic: the part of the checks that knows it. It reads the committed log in its own way,
//! and not through the fold under test.

use crate::record::{ControlRecord, check_fetched, control_records};
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

/// The key that the simulated administrators set, each time to a number of its own.
pub(super) const ALTERED_KEY: &str = "retention.bytes";

pub(super) type Set = BTreeMap<String, String>;

/// All that was committed of it, in the order of the log.
#[derive(Debug, Default)]
pub(super) struct Alterations {
    committed: Vec<(Offset, Set)>,
}

impl Alterations {
    /// The batch at this offset is committed.
    pub(super) fn on_committed(&mut self, base: Offset, bytes: &Bytes) {
        let (batches, _) = check_fetched(bytes.clone());
        for record in batches.iter().flat_map(|batch| control_records(batch).unwrap_or_default()) {
            if let ControlRecord::Configs(set) = record {
                self.committed.push((base, set.into_iter().collect()));
            }
        }
    }

    /// What counts where all below `end` is committed.
    pub(super) fn at(&self, end: Offset) -> Set {
        let said = self.committed.partition_point(|(base, _)| *base < end);
        said.checked_sub(1).map_or(Set::new(), |last| self.committed[last].1.clone())
    }

    pub(super) fn has_been(&self, value: &str) -> bool {
        self.committed.iter().any(|(_, set)| set.get(ALTERED_KEY).is_some_and(|set_to| set_to == value))
    }
}
