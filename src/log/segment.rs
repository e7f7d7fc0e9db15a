//! The segments of the log as the log knows them: where each begins, how long it is, and a sparse index into it.
//!
//! Used by the writer (adds batches), the reader and the truncation (find places), and recovery (has them from the scan, or
//! from a summary). Holds no bytes of batches. The index is the one thing in memory that grows with the log: 20 bytes
//! for each `index_interval_bytes`, or for each batch where that is larger.

use super::index::{BatchPrint, IndexEntry};
use super::op::SegmentId;
use crate::record::BatchHeader;
use crate::types::*;

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

/// A run of batches: from the one at `position`, which has `offset`, to `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub(super) offset: Offset,
    pub(super) position: u64,
    pub(super) end: u64,
}

#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) id: SegmentId,
    /// End of its last whole batch.
    pub(super) length: u64,
    pub(super) index: Vec<IndexEntry>,
    /// Of each `BLOCK_ENTRIES` of the index, and of all of it: who looks for a time does not walk the entries.
    peaks: Vec<Peak>,
    peak: Peak,
    /// A new entry begins with the first batch that lies at least this far behind the last entry.
    index_interval_bytes: u64,
    /// Its first and its last batch.
    pub(super) ends: Option<(BatchPrint, BatchPrint)>,
    /// A summary of it may be on the disk, whatever it says.
    pub(super) has_summary: bool,
    /// Of its first records, where it was not closed when it was found.
    first_timestamp: Option<i64>,
    /// Monotonic ns of the last append in this life.
    pub(super) appended_ns: Option<u64>,
}

/// The time of a run of control batches: who looks for a time looks for what a consumer can see.
const NO_DATA: i64 = i64::MIN;

/// Entries of the index with a peak of their own.
const BLOCK_ENTRIES: usize = 512;

/// The largest timestamp of several runs, and the first batch that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Peak {
    timestamp: i64,
    offset: u32,
}

impl Peak {
    const NONE: Peak = Peak { timestamp: NO_DATA, offset: 0 };

    /// The first of equals stays: a consumer that asks for the largest timestamp gets its earliest record.
    fn raise(&mut self, timestamp: i64, offset: u32) {
        if timestamp > self.timestamp {
            *self = Peak { timestamp, offset };
        }
    }
}

impl Segment {
    pub(super) fn new(id: SegmentId, index_interval_bytes: u64) -> Segment {
        Segment {
            id,
            length: 0,
            index: Vec::new(),
            peaks: Vec::new(),
            peak: Peak::NONE,
            index_interval_bytes,
            ends: None,
            has_summary: false,
            first_timestamp: None,
            appended_ns: None,
        }
    }

    /// As a scan would have it: closed, and with a summary.
    pub(super) fn summarized(
        self,
        length: u64,
        index: Vec<IndexEntry>,
        ends: (BatchPrint, BatchPrint),
    ) -> Segment {
        let mut segment = Segment { length, index, ends: Some(ends), has_summary: true, ..self };
        segment.find_peaks();
        segment
    }

    /// Add a batch that lies at the segment's end.
    pub(super) fn push(&mut self, header: &BatchHeader) {
        self.push_to_index(header);
        self.first_timestamp = self.first_timestamp.or(header.data_timestamp());
        let print = BatchPrint::of(header, self.length);
        self.ends = Some((self.ends.map_or(print, |(first, _)| first), print));
        self.length += header.size_bytes as u64;
    }

    fn push_to_index(&mut self, header: &BatchHeader) {
        let offset = self.relative(header.base_offset);
        let max_timestamp = header.data_timestamp().unwrap_or(NO_DATA);
        let position = u32::try_from(self.length).ok();
        match (self.index.last_mut(), position) {
            (Some(entry), Some(position))
                if u64::from(position - entry.position) >= self.index_interval_bytes =>
            {
                self.index.push(IndexEntry { offset, position, max_timestamp, max_timestamp_offset: offset });
            }
            // A foreign file of more than 4 GiB has no more entries: its last run is long.
            (Some(entry), _) => {
                if max_timestamp > entry.max_timestamp {
                    (entry.max_timestamp, entry.max_timestamp_offset) = (max_timestamp, offset);
                }
            }
            (None, _) => {
                let first = IndexEntry { offset, position: 0, max_timestamp, max_timestamp_offset: offset };
                self.index.push(first);
            }
        }
        self.raise_peaks(self.index.len() - 1, max_timestamp, offset);
    }

    /// An entry has a batch of that time.
    fn raise_peaks(&mut self, entry: usize, timestamp: i64, offset: u32) {
        let block = entry / BLOCK_ENTRIES;
        if block == self.peaks.len() {
            self.peaks.push(Peak::NONE);
        }
        self.peaks[block].raise(timestamp, offset);
        self.peak.raise(timestamp, offset);
    }

    /// From the index, where it has not grown by a batch.
    fn find_peaks(&mut self) {
        (self.peaks, self.peak) = (Vec::new(), Peak::NONE);
        for entry in 0..self.index.len() {
            let IndexEntry { max_timestamp, max_timestamp_offset, .. } = self.index[entry];
            self.raise_peaks(entry, max_timestamp, max_timestamp_offset);
        }
    }

    fn relative(&self, offset: Offset) -> u32 {
        u32::try_from(offset.0.saturating_sub(self.id.0.0)).unwrap_or(u32::MAX)
    }

    fn absolute(&self, relative: u32) -> Offset {
        Offset(self.id.0.0.saturating_add(i64::from(relative)))
    }

    /// The run that contains `offset`.
    pub(super) fn run_of(&self, offset: Offset) -> Option<Run> {
        let offset = self.relative(offset.max(self.id.0));
        let next = self.index.partition_point(|e| e.offset <= offset);
        let entry = *self.index.get(next.checked_sub(1)?)?;
        let end = self.index.get(next).map_or(self.length, |e| u64::from(e.position));
        Some(Run { offset: self.absolute(entry.offset), position: u64::from(entry.position), end })
    }

    /// Where the last run ends that ends at `most` or before, but of those that begin at `position` or behind it one at least; none
    /// behind the first that ends at `stop` or behind it. `end` is where the last batch ends that may be read.
    pub(super) fn runs_until(
        &self,
        position: u64,
        most: u64,
        stop: Option<Offset>,
        end: (u64, Offset),
    ) -> (u64, Offset) {
        let up_to = |position: u64| self.index.partition_point(|e| u64::from(e.position) <= position);
        let stops = |stop: Offset| self.index.partition_point(|e| self.absolute(e.offset) < stop);
        let (first, fits) = (up_to(position), up_to(most).saturating_sub(1));
        let stop = stop.map_or(self.index.len(), stops);
        let is_all = end.0 <= most && stop >= self.index.len();
        let at = first.max(fits.min(stop));
        let entry = self.index.get(at).map(|e| (u64::from(e.position), self.absolute(e.offset)));
        entry.filter(|entry| entry.0 < end.0 && !is_all).unwrap_or(end)
    }

    /// Forget everything from `position` on, and the summary. The run that it cuts is given again by its surviving headers.
    pub(super) fn truncate(&mut self, position: u64, cut_run: &[BatchHeader]) {
        self.has_summary = false;
        if position == self.length {
            return;
        }
        self.index.retain(|e| u64::from(e.position) < position);
        let run = cut_run.first().map(|first| self.relative(first.base_offset));
        let run = self.index.pop_if(|e| Some(e.offset) == run);
        self.ends = self.ends.filter(|_| position > 0);
        self.first_timestamp = self.first_timestamp.filter(|_| position > 0);
        self.length = run.map_or(position, |e| u64::from(e.position));
        self.find_peaks();
        if run.is_some() {
            cut_run.iter().for_each(|h| self.push(h));
        }
        assert_eq!(self.length, position, "a truncated segment ends with a whole batch");
    }

    /// By how much records of this time are later than its first ones.
    pub(super) fn span_ms(&self, timestamp: Option<i64>) -> i64 {
        match (timestamp, self.first_timestamp) {
            (Some(timestamp), Some(first)) => timestamp.saturating_sub(first),
            _ => 0,
        }
    }

    /// Nothing is added any more.
    pub(super) fn close(&mut self) {
        self.index.shrink_to_fit();
        self.peaks.shrink_to_fit();
    }

    pub(super) fn max_timestamp(&self) -> Option<(i64, Offset)> {
        let Peak { timestamp, offset } = self.peak;
        (timestamp != NO_DATA).then(|| (timestamp, self.absolute(offset)))
    }

    fn seek_timestamp(&self, timestamp_ms: i64, from: Offset) -> Option<Offset> {
        let from = self.relative(from.max(self.id.0));
        let mut at = self.index.partition_point(|e| e.offset <= from).saturating_sub(1);
        while self.peak.timestamp >= timestamp_ms && at < self.index.len() {
            let (block, end) = self.block_of(at, self.index.len());
            let is_late = |e: &&IndexEntry| e.max_timestamp >= timestamp_ms;
            if block.timestamp >= timestamp_ms
                && let Some(entry) = self.index[at..end].iter().find(is_late)
            {
                return Some(self.absolute(entry.offset));
            }
            at = end;
        }
        None
    }

    /// Of the entries from this one on, but not of `last`, those that share a peak: it, and where they end.
    fn block_of(&self, at: usize, last: usize) -> (Peak, usize) {
        let block = at / BLOCK_ENTRIES;
        (self.peaks[block], last.min((block + 1) * BLOCK_ENTRIES))
    }

    /// `next`: where the segment ends, if nothing is added to it any more.
    fn max_timestamp_within(&self, from: Offset, end: Offset, next: Option<Offset>) -> Option<i64> {
        let begins_below = |bound: Offset| self.index.partition_point(|e| self.absolute(e.offset) < bound);
        let last = match next.is_some_and(|next| next <= end) {
            true => self.index.len(),
            // A run ends where the next one begins.
            false => begins_below(Offset(end.0.saturating_add(1))).saturating_sub(1),
        };
        let (mut at, mut largest) = (begins_below(from), NO_DATA);
        while at < last {
            let (peak, end) = self.block_of(at, last);
            let is_all = at.is_multiple_of(BLOCK_ENTRIES) && self.block_of(at, self.index.len()).1 == end;
            let entries = self.index[at..end].iter().map(|e| e.max_timestamp);
            largest = largest.max(if is_all { peak.timestamp } else { entries.max().unwrap_or(NO_DATA) });
            at = end;
        }
        (largest != NO_DATA).then_some(largest)
    }
}

/// All segments, oldest first. There is none only before the first one of an empty directory has been created.
#[derive(Clone, Debug, Default)]
pub(super) struct Segments(pub(super) Vec<Segment>);

impl Segments {
    pub(super) fn last(&self) -> Option<&Segment> {
        self.0.last()
    }

    pub(super) fn last_mut(&mut self) -> Option<&mut Segment> {
        self.0.last_mut()
    }

    /// The segment that holds `offset`, or would.
    pub(super) fn holding(&self, offset: Offset) -> Option<&Segment> {
        self.0.get(self.index_of(offset)?)
    }

    pub(super) fn holding_mut(&mut self, offset: Offset) -> Option<&mut Segment> {
        let at = self.index_of(offset)?;
        self.0.get_mut(at)
    }

    fn index_of(&self, offset: Offset) -> Option<usize> {
        self.0.partition_point(|s| s.id.0 <= offset).checked_sub(1)
    }

    /// Where the one after this begins.
    pub(super) fn end_of(&self, closed: SegmentId) -> Option<Offset> {
        self.0.get(self.0.partition_point(|s| s.id <= closed)).map(|next| next.id.0)
    }

    pub(super) fn size_bytes(&self) -> u64 {
        self.0.iter().map(|s| s.length).sum()
    }

    pub(super) fn max_timestamp(&self) -> Option<(i64, Offset)> {
        self.0.iter().filter_map(Segment::max_timestamp).reduce(|a, b| if b.0 > a.0 { b } else { a })
    }

    /// Base offset of the first run that holds a timestamp >= `timestamp_ms`, of the one that holds `from` and those behind it.
    pub(super) fn seek_timestamp(&self, timestamp_ms: i64, from: Offset) -> Option<Offset> {
        let first = self.index_of(from).unwrap_or(0);
        self.0[first.min(self.0.len())..].iter().find_map(|s| s.seek_timestamp(timestamp_ms, from))
    }

    /// The largest timestamp of the runs that lie between these offsets as a whole.
    pub(super) fn max_timestamp_within(&self, from: Offset, end: Offset) -> Option<i64> {
        let nexts = self.0.iter().skip(1).map(|next| Some(next.id.0)).chain([None]);
        self.0.iter().zip(nexts).filter_map(|(s, next)| s.max_timestamp_within(from, end, next)).max()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: u64 = 4096;

    fn empty() -> Segment {
        Segment::new(SegmentId(Offset(0)), INTERVAL)
    }

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
        let mut segment = empty();
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
        let places: Vec<_> = segment.index.iter().map(|e| (e.offset, e.position)).collect();
        assert_eq!(places, [(0, 0), (2, 6000), (4, 15100)]);
        assert_eq!(segment.run_of(Offset(1)).map(|run| (run.position, run.end)), Some((0, 6000)));
        assert_eq!(segment.run_of(Offset(4)).map(|run| (run.position, run.end)), Some((15100, 15101)));
        assert_eq!(segment.max_timestamp(), Some((1000, Offset(0))));
    }

    #[test]
    fn as_many_whole_runs_are_read_as_fit() {
        let (segment, _) = segment(&[4096, 4096, 9000, 1, 4095, 100]);
        let boundaries: Vec<_> =
            segment.index.iter().map(|e| (u64::from(e.position), i64::from(e.offset))).collect();
        assert_eq!(boundaries, [(0, 0), (4096, 1), (8192, 2), (17192, 3), (21288, 5)]);
        let end = (segment.length, Offset(6));
        let until = |position, most, stop: Option<i64>, end: (u64, Offset)| {
            let (position, offset) = segment.runs_until(position, most, stop.map(Offset), end);
            (position, offset.0)
        };
        for (position, most, expected) in [
            (0, 0, (4096, 1)),
            (0, 8191, (4096, 1)),
            (0, 8192, (8192, 2)),
            (8192, 9000, (17192, 3)),
            (5000, 17_192, (17192, 3)),
            (17192, 21_387, (21288, 5)),
            (17192, 21_388, (21388, 6)),
            (21288, 21_288, (21388, 6)),
        ] {
            assert_eq!(until(position, most, None, end), expected, "{position}..{most}");
        }
        assert_eq!(until(0, 100_000, Some(2), end), (8192, 2), "a block follows there");
        assert_eq!(until(0, 100_000, Some(4), end), (21288, 5), "one that begins within a run");
        assert_eq!(until(8192, 100_000, Some(2), end), (17192, 3));
        assert_eq!(until(0, 100_000, None, (4196, Offset(9))), (4196, 9), "what is behind is not flushed");
        assert_eq!(until(4096, 5000, None, (4196, Offset(9))), (4196, 9));
    }

    #[test]
    fn truncation_inside_a_run_forgets_the_timestamps_cut_away() {
        let mut log = empty();
        let headers = [header(0, 100, 5), header(1, 100, 3), header(2, 100, 9)];
        headers.iter().for_each(|h| log.push(h));
        assert_eq!(log.max_timestamp(), Some((9, Offset(2))));
        log.truncate(200, &headers[..2]);
        assert_eq!((log.length, log.max_timestamp()), (200, Some((5, Offset(0)))));
        log.truncate(0, &[]);
        assert_eq!((log.length, log.max_timestamp()), (0, None));
    }

    /// What a walk over all entries finds, from the one that holds `from` on.
    fn walked(segment: &Segment, timestamp: i64, from: i64) -> Option<Offset> {
        let ends = segment.index.iter().skip(1).map(|e| i64::from(e.offset)).chain([i64::MAX]);
        let (entry, _) =
            segment.index.iter().zip(ends).find(|(e, end)| *end > from && e.max_timestamp >= timestamp)?;
        Some(Offset(i64::from(entry.offset)))
    }

    /// The same of the largest time of the runs between two offsets; `next`: where the segment ends.
    fn walked_within(segment: &Segment, from: i64, end: i64, next: Option<i64>) -> Option<i64> {
        let ends = segment.index.iter().skip(1).map(|e| Some(i64::from(e.offset))).chain([next]);
        let lies_within = |(e, ends): &(&IndexEntry, Option<i64>)| {
            i64::from(e.offset) >= from && ends.is_some_and(|ends| ends <= end)
        };
        segment.index.iter().zip(ends).filter(lies_within).map(|(e, _)| e.max_timestamp).max()
    }

    #[test]
    fn a_time_is_found_by_peaks_as_by_a_walk() {
        let entries = 2 * BLOCK_ENTRIES as i64 + 3;
        let time = |i: i64| (i * 7919) % 1000 + if i == entries - 2 { 1000 } else { 0 };
        let mut log = empty();
        (0..entries).for_each(|i| log.push(&header(i, INTERVAL as usize, time(i))));
        assert_eq!((log.index.len() as i64, log.peaks.len()), (entries, 3));
        let check = |log: &Segment| {
            let largest = log.index.iter().map(|e| e.max_timestamp).max();
            assert_eq!(log.max_timestamp().map(|(time, _)| time), largest);
            for timestamp in (-1..2001).step_by(13) {
                for from in [0, 1, 400, 511, 512, 513, 900, 2000] {
                    let found = log.seek_timestamp(timestamp, Offset(from));
                    assert_eq!(found, walked(log, timestamp, from), "{timestamp} from {from}");
                }
            }
            let places = [0, 1, 510, 511, 512, 513, 1023, 1024, 1025, 1026, 1027, 2000];
            for (from, end) in places.iter().flat_map(|from| places.map(|end| (*from, end))) {
                for next in [None, Some(1027)] {
                    let found = log.max_timestamp_within(Offset(from), Offset(end), next.map(Offset));
                    assert_eq!(found, walked_within(log, from, end, next), "{from} to {end} of {next:?}");
                }
            }
        };
        check(&log);
        assert_eq!(log.max_timestamp(), Some((time(entries - 2), Offset(entries - 2))));
        for keep in [BLOCK_ENTRIES as i64 + 5, BLOCK_ENTRIES as i64, 1] {
            log.truncate(keep as u64 * INTERVAL, &[]);
            check(&log);
        }
    }

    #[test]
    fn truncation_at_every_batch_equals_never_having_written_the_rest() {
        let sizes = [3000, 3000, 100, 9000, 1, 4095, 1, 1, 5000];
        for keep in 0..=sizes.len() {
            let (mut cut, headers) = segment(&sizes);
            let (fresh, _) = segment(&sizes[..keep]);
            let run = cut.run_of(Offset(keep as i64 - 1)).filter(|_| keep > 0);
            let run = run.map(|run| run.offset.0 as usize);
            let survivors = run.map_or(&headers[..0], |first| &headers[first..keep]);
            cut.truncate(fresh.length, survivors);
            assert_eq!((cut.length, cut.ends), (fresh.length, fresh.ends), "kept {keep}");
            assert_eq!(cut.index, fresh.index, "kept {keep}");
            assert_eq!((&cut.peaks, cut.peak), (&fresh.peaks, fresh.peak), "kept {keep}");
        }
    }
}
