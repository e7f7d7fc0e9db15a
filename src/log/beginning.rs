//! Where a log begins that a start finds: what the commit mark says of it, and which segments are no more of it.

use super::commit_mark::{Beginning, Slots};
use super::epoch_checkpoint::epoch_before;
use super::op::SegmentId;
use super::segment::Segments;
use crate::types::*;

/// Where the log begins, and the segments before that, which are taken out of `files`.
pub(super) fn find_beginning(
    slots: &Slots,
    files: &mut Vec<(SegmentId, u64)>,
) -> (Beginning, Vec<SegmentId>) {
    let oldest = files.first().map_or(Offset(0), |(id, _)| id.0);
    let unmoved = Beginning::unmoved(oldest);
    let Slots::Valid(mark, _) = slots else { return (unmoved, Vec::new()) };
    let Some(first) = mark.beginning.first else { return (unmoved, Vec::new()) };
    let own = files.split_off(files.partition_point(|(id, _)| *id < first));
    let leftovers = std::mem::replace(files, own).into_iter().map(|(id, _)| id).collect();
    (mark.beginning, leftovers)
}

/// A log whose start never moved, and begins behind 0 all the same, does not keep the epoch of the record before: it is not above those
/// of the first that is there, or of this node.
pub(super) fn start_of(
    beginning: Beginning,
    epochs: &[EpochStart],
    epoch_max: Option<Epoch>,
) -> OffsetAndEpoch {
    let Beginning { start, first, .. } = beginning;
    if first.is_some() || start.offset == Offset(0) {
        return start;
    }
    let epoch = epochs.first().map(|first| first.epoch).or(epoch_max).unwrap_or(Epoch(0));
    OffsetAndEpoch { epoch, ..start }
}

/// Where a replica's log begins that is given this one, and the epoch of the record before that: a run of the index, so that the batch
/// in which the start lies is whole, and not further down than that.
pub(super) fn begin_of(beginning: Beginning, segments: &Segments, epochs: &[EpochStart]) -> OffsetAndEpoch {
    let Beginning { start, first, first_epoch } = beginning;
    let segment = segments.holding(start.offset).filter(|segment| Some(segment.id) == first);
    let Some(run) = segment.and_then(|segment| segment.run_of(start.offset)) else { return start };
    let is_first = first == Some(SegmentId(run.offset));
    match run.offset == start.offset {
        true => start,
        false if is_first => OffsetAndEpoch { epoch: first_epoch, offset: run.offset },
        false => OffsetAndEpoch { epoch: epoch_before(epochs, run.offset), offset: run.offset },
    }
}

/// Sentence for the server's log.
pub(super) fn note_of(leftovers: &[SegmentId], start: Offset) -> Option<String> {
    let (oldest, newest) = (leftovers.first()?, leftovers.last()?);
    let which = match leftovers.len() {
        1 => oldest.file_name(),
        count => format!("{count} segments, {} to {}", oldest.file_name(), newest.file_name()),
    };
    Some(format!("Removing {which}: the log starts at {start}, and what lies there is no more of it."))
}
