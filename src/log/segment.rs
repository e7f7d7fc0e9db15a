//! The segments of the log as the log knows them: where each begins, how long it is, and a sparse index into it.
//!
//! Used by the writer (adds batches), the reader and the truncation (find places), and recovery (rebuilds it all from
//! the files: no index file is read). Holds no bytes of batches. The index is the one thing in memory that grows
//! with the log: 40 bytes for each run of 4 KiB.

use super::op::SegmentId;
use crate::record::BatchHeader;
use crate::types::*;

/// A new index entry begins with the first batch that lies at least this far behind the last entry
/// (Kafka: `index.interval.bytes`).
pub const INDEX_INTERVAL_BYTES: u64 = 4096;

impl SegmentId {
    /// `00000000000000000042.log`, as Kafka names it.
    pub fn file_name(&self) -> String {
        format!("{:020}.log", self.0.0)
    }

    /// The base offset in a file name of that form; `None` for any other name.
    pub fn from_file_name(name: &str) -> Option<SegmentId> {
        let digits = name.strip_suffix(".log")?;
        let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| digits.parse().ok().map(|offset| SegmentId(Offset(offset)))).flatten()
    }
}

/// A byte position in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub segment: SegmentId,
    pub position: u64,
}

/// A run of batches: from the batch at `position` to the next entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub offset: Offset,
    pub position: u64,
    /// Largest timestamp of the run, and the base offset of its batch.
    pub max_timestamp: (i64, Offset),
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub id: SegmentId,
    /// End of its last whole batch.
    pub length: u64,
    pub index: Vec<IndexEntry>,
}

impl Segment {
    pub(super) fn new(id: SegmentId) -> Segment {
        Segment { id, length: 0, index: Vec::new() }
    }

    /// Add a batch that lies at the segment's end.
    pub(super) fn push(&mut self, header: &BatchHeader) {
        let max_timestamp = (header.max_timestamp, header.base_offset);
        match self.index.last_mut() {
            Some(entry) if self.length - entry.position < INDEX_INTERVAL_BYTES => {
                if max_timestamp.0 > entry.max_timestamp.0 {
                    entry.max_timestamp = max_timestamp;
                }
            }
            _ => {
                let (offset, position) = (header.base_offset, self.length);
                self.index.push(IndexEntry { offset, position, max_timestamp });
            }
        }
        self.length += header.size_bytes as u64;
    }

    /// The run that contains `offset`: its entry, and the byte at which it ends.
    pub(super) fn run_of(&self, offset: Offset) -> Option<(IndexEntry, u64)> {
        let next = self.index.partition_point(|e| e.offset <= offset);
        let entry = *self.index.get(next.checked_sub(1)?)?;
        Some((entry, self.index.get(next).map_or(self.length, |e| e.position)))
    }

    /// Forget everything from `position` on. The run that it cuts is given again by its surviving headers.
    pub(super) fn truncate(&mut self, position: u64, cut_run: &[BatchHeader]) {
        self.index.retain(|e| e.position < position);
        let run = match cut_run.first() {
            Some(first) => self.index.pop_if(|e| e.offset == first.base_offset),
            None => None,
        };
        self.length = run.map_or(position, |e| e.position);
        if run.is_some() {
            cut_run.iter().for_each(|h| self.push(h));
        }
        assert_eq!(self.length, position, "a truncated segment ends with a whole batch");
    }

    pub(super) fn max_timestamp(&self) -> Option<(i64, Offset)> {
        // The first of equals: a consumer that asks for the largest timestamp gets its earliest record.
        self.index.iter().map(|e| e.max_timestamp).reduce(|a, b| if b.0 > a.0 { b } else { a })
    }
}

/// All segments, oldest first. There is none only before the first one of an empty directory has been created.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments(pub Vec<Segment>);

impl Segments {
    pub(super) fn last(&self) -> Option<&Segment> {
        self.0.last()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Segment> {
        self.0.last_mut()
    }

    /// The segment that holds `offset`, or would.
    pub(super) fn holding(&self, offset: Offset) -> Option<&Segment> {
        let next = self.0.partition_point(|s| s.id.0 <= offset);
        self.0.get(next.checked_sub(1)?)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.0.iter().map(|s| s.length).sum()
    }

    pub(super) fn max_timestamp(&self) -> Option<(i64, Offset)> {
        self.0.iter().filter_map(Segment::max_timestamp).reduce(|a, b| if b.0 > a.0 { b } else { a })
    }

    /// Base offset of the first run that holds a timestamp >= `timestamp_ms`.
    pub(super) fn seek_timestamp(&self, timestamp_ms: i64) -> Option<Offset> {
        let mut entries = self.0.iter().flat_map(|s| &s.index);
        entries.find(|e| e.max_timestamp.0 >= timestamp_ms).map(|e| e.offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(base_offset: i64, size_bytes: usize, max_timestamp: i64) -> BatchHeader {
        BatchHeader {
            base_offset: Offset(base_offset),
            size_bytes,
            leader_epoch: Epoch(1),
            magic: 2,
            crc: 0,
            attributes: 0,
            last_offset_delta: 0,
            base_timestamp: 0,
            max_timestamp,
            producer_id: -1,
            producer_epoch: -1,
            base_sequence: -1,
            record_count: 1,
        }
    }

    fn segment(sizes: &[usize]) -> (Segment, Vec<BatchHeader>) {
        let mut segment = Segment::new(SegmentId(Offset(0)));
        let headers: Vec<_> =
            sizes.iter().enumerate().map(|(i, s)| header(i as i64, *s, 1000 - i as i64)).collect();
        headers.iter().for_each(|h| segment.push(h));
        (segment, headers)
    }

    #[test]
    fn file_names_are_kafkas() {
        let id = SegmentId(Offset(92));
        assert_eq!(id.file_name(), "00000000000000000092.log");
        assert_eq!(SegmentId::from_file_name(&id.file_name()), Some(id));
        for bad in
            ["92.log", "0000000000000000009x.log", "00000000000000000092.index", "+0000000000000000092.log"]
        {
            assert_eq!(SegmentId::from_file_name(bad), None, "{bad}");
        }
        assert_eq!(SegmentId::from_file_name("99999999999999999999.log"), None, "beyond an i64");
    }

    #[test]
    fn an_entry_for_each_interval() {
        let (segment, _) = segment(&[3000, 3000, 100, 9000, 1]);
        let places: Vec<_> = segment.index.iter().map(|e| (e.offset.0, e.position)).collect();
        assert_eq!(places, [(0, 0), (2, 6000), (4, 15100)]);
        assert_eq!(segment.run_of(Offset(1)).map(|(e, end)| (e.position, end)), Some((0, 6000)));
        assert_eq!(segment.run_of(Offset(4)).map(|(e, end)| (e.position, end)), Some((15100, 15101)));
        assert_eq!(segment.max_timestamp(), Some((1000, Offset(0))));
    }

    #[test]
    fn truncation_inside_a_run_forgets_the_timestamps_cut_away() {
        let mut log = Segment::new(SegmentId(Offset(0)));
        let headers = [header(0, 100, 5), header(1, 100, 3), header(2, 100, 9)];
        headers.iter().for_each(|h| log.push(h));
        assert_eq!(log.max_timestamp(), Some((9, Offset(2))));
        log.truncate(200, &headers[..2]);
        assert_eq!((log.length, log.max_timestamp()), (200, Some((5, Offset(0)))));
        log.truncate(0, &[]);
        assert_eq!((log.length, log.max_timestamp()), (0, None));
    }

    #[test]
    fn truncation_at_every_batch_equals_never_having_written_the_rest() {
        let sizes = [3000, 3000, 100, 9000, 1, 4095, 1, 1, 5000];
        for keep in 0..=sizes.len() {
            let (mut cut, headers) = segment(&sizes);
            let (fresh, _) = segment(&sizes[..keep]);
            let run = cut.run_of(Offset(keep as i64 - 1)).map(|(e, _)| e.offset.0 as usize);
            let survivors = run.map_or(&headers[..0], |first| &headers[first..keep]);
            cut.truncate(fresh.length, survivors);
            assert_eq!((cut.length, cut.index), (fresh.length, fresh.index), "kept {keep}");
        }
    }
}
