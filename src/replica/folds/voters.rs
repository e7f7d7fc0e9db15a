//! The voter set: constant, as `controller.quorum.voters` has it (kraft.version 0).
//!
//! A log whose voters are kept in itself (KIP-853) is not gone by: its first batch that says so is refused before it is
//! stored, and at a start, in `fits`. Raft has its voters from here.

use super::Fold;
use crate::config::Voter;
use crate::record::{StampedBatch, check_static_voters};
use crate::types::*;
use std::ops::Range;

/// The voters of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Voters {
    set: Vec<ReplicaKey>,
}

impl Voters {
    pub(crate) fn new(configured: &[Voter]) -> Voters {
        // Static voters have no directory ids.
        Voters { set: configured.iter().map(|v| ReplicaKey { id: v.id, directory_id: Uuid::ZERO }).collect() }
    }

    pub(crate) fn set(&self) -> &[ReplicaKey] {
        &self.set
    }
}

/// What a part of the log changes.
pub(crate) struct Unchanged;

/// What fits changes nothing, so there is nothing to settle or to cut.
impl Fold for Voters {
    const TAG: u16 = 2;
    const VERSION: u16 = 1;
    const NAME: &'static str = "voters";
    type Part = Unchanged;
    type Copied = ();

    fn fold(&mut self, _batch: &StampedBatch) {}

    fn settle(&mut self, _high_watermark: HighWatermark) {}

    fn cut(&mut self, _to: Offset) {}

    fn encode(&self, _offsets: &Range<Offset>) -> Option<Vec<u8>> {
        None
    }

    /// A program that has voters in its log has written one: reading the batches says which.
    fn decode(section: Option<&[u8]>, _offsets: &Range<Offset>) -> Result<Unchanged, &'static str> {
        section.map_or(Ok(Unchanged), |_| Err("this program knows none"))
    }

    fn take(&mut self, _part: Unchanged, _from: Offset) {}

    fn begin_copy(&self) {}

    fn walk(&self, _copied: &mut (), _entries_max: usize) -> usize {
        0
    }

    fn encode_copied(_copied: ()) -> Option<Vec<u8>> {
        None
    }

    fn fits(&self, batch: &StampedBatch) -> Result<(), String> {
        check_static_voters(batch)
    }
}
