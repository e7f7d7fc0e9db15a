//! Whether a summary is believed: a start that believes one does not read the segment that it describes.
//!
//! Called by recovery for each segment. A summary must be whole, the file of the size that it says, and the segment's first
//! and last batch (read here, their CRCs checked) those that it names, so that a segment which another program has gone on
//! with, cut or written anew is scanned instead. Last the log's owner is asked: it takes what it has kept in the summary, or
//! says why it cannot. What rots between the two batches is found when it is read: each read checks it. Nothing here is an error:
//! the scan finds out what there is to find out.

use super::buffer::BLOCK_BYTES;
use super::epoch_checkpoint::{epoch_before, note_batch};
use super::index::BatchPrint;
use super::op::{SegmentId, SmallFile};
use super::recovery::{Recovered, Scan};
use super::summary::Summary;
use crate::record::BatchHeader;
use crate::types::*;

/// Two batches are read and not much more.
const LOOK_BYTES: usize = BLOCK_BYTES;

impl Scan<'_> {
    /// Takes over what the summary of this segment says. (false, whether there is one): it must be scanned.
    pub(super) fn believe_summary(&mut self, id: SegmentId, size: u64, is_last: bool) -> (bool, bool) {
        let contents = match self.source.small_file(SmallFile::Summary(id)) {
            Ok(Some(contents)) => contents,
            Ok(None) => return (false, false),
            Err(error) => {
                self.notes
                    .push(format!("Scanning {}: its summary cannot be read ({error}).", id.file_name()));
                return (false, true);
            }
        };
        if self.config.check == LogCheck::Whole {
            return (false, true);
        }
        let summary = Summary::decode(&contents);
        // One of an earlier stop, and the log has grown since.
        if is_last && summary.as_ref().is_ok_and(|s| s.segment_bytes() != size) {
            return (false, true);
        }
        match summary.map_err(str::to_string).and_then(|summary| self.check_summary(id, size, summary)) {
            Ok(summary) => {
                self.take_summary(summary);
                (true, true)
            }
            Err(why) => {
                self.notes.push(format!("Scanning {}: its summary is not believed, {why}.", id.file_name()));
                (false, true)
            }
        }
    }

    fn check_summary(&mut self, id: SegmentId, size: u64, summary: Summary) -> Result<Summary, String> {
        if summary.segment != id || summary.length != size {
            let (segment, length) = (summary.segment.file_name(), summary.length);
            return Err(format!("it is of {segment} with {length} bytes, and the file has {size}"));
        }
        if let Some(mark) = self.mark().filter(|mark| id.0 < mark.end && mark.end < summary.end) {
            // Whether a batch ends there and of which epoch it is only the scan tells.
            return Err(format!("the commit mark lies within, at offset {}", mark.end));
        }
        self.check_epochs(&summary)?;
        let read_bytes_min = std::mem::replace(&mut self.read_bytes_min, LOOK_BYTES);
        let ends = self.check_print(&summary, &summary.first);
        let ends = ends.and_then(|()| self.check_print(&summary, &summary.last));
        self.read_bytes_min = read_bytes_min;
        ends?;
        (self.on_recovered)(Recovered::Segment(&summary))?;
        Ok(summary)
    }

    fn check_epochs(&self, summary: &Summary) -> Result<(), String> {
        let mut epochs = self.epochs.clone();
        let grows = summary.epochs.iter().all(|e| note_batch(&mut epochs, e.epoch, e.start_offset));
        let first = epoch_before(&epochs, Offset(summary.first.base_offset.0.saturating_add(1)));
        let last = epoch_before(&epochs, summary.end);
        match grows && first == summary.first.epoch && last == summary.last.epoch {
            true => Ok(()),
            false => Err("its epochs do not follow those before it".to_string()),
        }
    }

    fn check_print(&mut self, summary: &Summary, print: &BatchPrint) -> Result<(), String> {
        let expected = std::mem::replace(&mut self.expected, print.base_offset);
        let epochs = std::mem::take(&mut self.epochs);
        let batch = self.next_batch(summary.segment, print.position, summary.length);
        (self.expected, self.epochs) = (expected, epochs);
        let batch = batch.map_err(|error| error.to_string())??;
        let header: &BatchHeader = batch.header();
        let is_last = print == &summary.last;
        if BatchPrint::of(header, print.position) != *print
            || (is_last && header.next_offset() != summary.end)
        {
            return Err(format!("the batch at byte {} is another one", print.position));
        }
        Ok(())
    }

    fn take_summary(&mut self, summary: Summary) {
        for e in &summary.epochs {
            note_batch(&mut self.epochs, e.epoch, e.start_offset);
        }
        let segment = summary.to_segment(self.config);
        self.expected = summary.end;
        self.meet_mark(&segment, summary.last.epoch);
        self.summaries += 1;
        self.push_segment(segment);
    }
}
