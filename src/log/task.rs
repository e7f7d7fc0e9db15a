//! What a task is: steps, each durable before the next. `tasks` and `truncation` begin and end them, `turn` runs them.

use super::commit_mark::CommitMark;
use super::index::Place;
use super::{BLOCK_BYTES, OpKind, SegmentId, SummaryDue};
use crate::record::BatchHeader;
use crate::types::*;
use bytes::Bytes;
use std::collections::VecDeque;

pub(super) struct Task {
    pub(super) kind: TaskKind,
    pub(super) steps: VecDeque<Step>,
    /// What the last step read.
    pub(super) read: Option<Bytes>,
    /// The step under way, where it takes room on the disk and may find none.
    pub(super) growing: Option<OpKind>,
}

pub(super) enum TaskKind {
    /// `create`: the directory was empty. The last segment's file is zeroed up to `zeroed` then.
    Open {
        create: bool,
        zeroed: u64,
    },
    Roll {
        to: SegmentId,
        zeroed: u64,
    },
    /// `None` until the place of the cut is known.
    Truncate {
        to: Offset,
        cut: Option<Cut>,
    },
    /// Another log begins there in place of this one, in a segment that is zeroed up to `zeroed`.
    Install {
        begin: OffsetAndEpoch,
        zeroed: u64,
    },
    /// The summary of the last segment, until it is handed in: when all steps are done the owner is asked for it.
    ShutDown {
        summary: Option<SummaryDue>,
    },
}

pub(super) enum Step {
    Op(OpKind),
    /// A durable commit mark.
    Mark(CommitMark),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shutdown {
    No,
    Wanted,
    Begun,
}

impl Task {
    pub(super) fn new(kind: TaskKind, steps: impl IntoIterator<Item = Step>) -> Task {
        Task { kind, steps: steps.into_iter().collect(), read: None, growing: None }
    }
}

/// Where the cut is.
pub(super) struct Cut {
    pub(super) end: Offset,
    pub(super) place: Place,
    /// Headers of the batches that survive in the index run that is cut.
    pub(super) run: Vec<BatchHeader>,
    pub(super) tail_block: Box<[u8; BLOCK_BYTES]>,
}

/// A copy of the step, if it is one that takes room.
pub(super) fn growing(kind: &OpKind) -> Option<OpKind> {
    match kind {
        OpKind::CreateSegment { segment, zeroed } => {
            Some(OpKind::CreateSegment { segment: *segment, zeroed: *zeroed })
        }
        OpKind::ExtendSegment { segment, from, to, written } => {
            Some(OpKind::ExtendSegment { segment: *segment, from: *from, to: *to, written: *written })
        }
        _ => None,
    }
}
