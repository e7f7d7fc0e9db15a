//! ListOffsets: the log's ends at once, a timestamp by a scan of batches.
//!
//! Called by `Replica`. Answers only as leader, and only below the high watermark. A compressed or large batch is looked into
//! elsewhere (`Action::Search`); in one that cannot be read a timestamp finds the first offset, from which a consumer reads on.

use super::inspection::{Found, Patience, Search};
use super::room::reads::Reader;
use super::{Action, ConnectionId, Replica, Ticket};
use crate::log::{ReadError, ReadOutcome};
use crate::protocol::{Response, messages as m};
use crate::record::{Asker, StampedBatch, record_timestamps};
use crate::types::*;
use std::sync::Arc;

/// Kafka's special timestamps (`ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
pub(super) const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// Version from which a client knows OFFSET_NOT_AVAILABLE (KIP-207).
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

/// Version from which each of them may be asked for (Kafka: `ReplicaManager.timestampMinSupportedVersion`); `None`: no
/// version has it.
fn known_from(timestamp: i64) -> Option<i16> {
    match timestamp {
        LATEST | EARLIEST | 0.. => Some(1),
        MAX_TIMESTAMP => Some(7),
        EARLIEST_LOCAL => Some(8),
        LATEST_TIERED => Some(9),
        EARLIEST_PENDING_UPLOAD => Some(11),
        _ => None,
    }
}

/// Bytes read in one step of a scan. The index leads to a run of a few kilobytes, so there is seldom a second one.
const SCAN_BYTES: usize = 64 << 10;
/// Larger batches are looked into elsewhere, compressed or not: a turn may be asked for hundreds.
const WALKED_BYTES_MAX: usize = 16 << 10;

/// A search for the first record at or after a timestamp, which waits for its next batches from the disk, or for somebody to
/// look into a compressed one.
pub(super) struct TimestampScan {
    ticket: Ticket,
    response: m::ListOffsetsResponse,
    place: (usize, usize),
    timestamp: i64,
    next: Offset,
    /// The batch that is being looked into: where it begins, and its maximum timestamp.
    inside: Option<(Offset, i64)>,
    /// How far its next look may go, and its place for it.
    patience: Patience,
    look: Option<Arc<()>>,
    /// A look ends with it.
    asker: Asker,
}

impl TimestampScan {
    pub fn connection(&self) -> ConnectionId {
        self.ticket.connection
    }

    /// Where its next batches are read from.
    pub fn next(&self) -> Offset {
        self.next
    }
}

/// One partition's question, once it is known to be ours.
enum Question {
    Answered { timestamp: i64, offset: i64 },
    Scan { timestamp: i64 },
}

impl Replica {
    pub(super) fn on_list_offsets(&mut self, ticket: Ticket, request: &m::ListOffsetsRequest) {
        let mut response = m::ListOffsetsResponse::default();
        let mut scan = None;
        let is_ours = |topic: &str, index: i32| *topic == *self.context.topic && index == 0;
        let named = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let is_repeated =
            named.filter(|(topic, p)| is_ours(&topic.name.0, p.partition_index)).nth(1).is_some();
        for (t, topic) in request.topics.iter().enumerate() {
            let mut answer = m::list_offsets_response::ListOffsetsTopicResponse::default();
            answer.name = topic.name.clone();
            for (p, partition) in topic.partitions.iter().enumerate() {
                let question = match is_ours(&topic.name.0, partition.partition_index) {
                    false => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    // Kafka: `ReplicaManager.fetchOffset` refuses each of them.
                    true if is_repeated => Err(ErrorCode::INVALID_REQUEST),
                    true => {
                        let (epoch, timestamp) = (partition.current_leader_epoch, partition.timestamp);
                        self.question(ticket.api_version, epoch, timestamp)
                    }
                };
                let mut line = m::list_offsets_response::ListOffsetsPartitionResponse::default();
                line.partition_index = partition.partition_index;
                line.leader_epoch = -1;
                match question {
                    Err(error) => line.error_code = error.0,
                    Ok(Question::Answered { timestamp, offset }) => {
                        (line.timestamp, line.offset) = (timestamp, offset);
                        line.leader_epoch = self.epoch_of_answer(offset);
                    }
                    Ok(Question::Scan { timestamp }) => scan = Some(((t, p), timestamp)),
                }
                answer.partitions.push(line);
            }
            response.topics.push(answer);
        }
        let Some((place, timestamp)) = scan else {
            return self.answer(&ticket, Response::ListOffsets(response));
        };
        let bound = self.engine.committed_or_start();
        let next = self.engine.log().seek_timestamp(timestamp, bound).unwrap_or(bound);
        let (inside, patience, look, asker) = (None, Patience::Short, None, Asker::default());
        let scan = TimestampScan { ticket, response, place, timestamp, next, inside, patience, look, asker };
        self.scan(scan);
    }

    fn question(
        &self,
        version: i16,
        current_leader_epoch: i32,
        timestamp: i64,
    ) -> Result<Question, ErrorCode> {
        if known_from(timestamp).is_none_or(|from| version < from) {
            return Err(ErrorCode::UNSUPPORTED_VERSION);
        }
        let error = self.engine.check_leader(current_leader_epoch);
        if !error.is_none() {
            return Err(error);
        }
        let not_available = match version < OFFSET_NOT_AVAILABLE_FROM {
            true => ErrorCode::LEADER_NOT_AVAILABLE,
            false => ErrorCode::OFFSET_NOT_AVAILABLE,
        };
        // A new leader does not know yet what is committed (KIP-207).
        let Some(high_watermark) = self.engine.raft().high_watermark() else {
            return Err(not_available);
        };
        let at = |offset: Offset| Ok(Question::Answered { timestamp: -1, offset: offset.0 });
        match timestamp {
            LATEST => at(high_watermark.0),
            EARLIEST | EARLIEST_LOCAL => at(self.engine.log().log_start()),
            // Nothing is kept elsewhere, and nothing waits to be.
            LATEST_TIERED | EARLIEST_PENDING_UPLOAD => at(Offset(-1)),
            MAX_TIMESTAMP => match self.engine.latest_committed() {
                None => at(Offset(-1)),
                Some(timestamp) => Ok(Question::Scan { timestamp }),
            },
            _ if timestamp >= 0 => Ok(Question::Scan { timestamp }),
            _ => Err(ErrorCode::UNSUPPORTED_VERSION),
        }
    }

    /// What its next step was to read from the device lies in memory now, or is gone.
    pub(super) fn scan_again(&mut self, token: u64) {
        if let Some(scan) = self.searches.remove(token) {
            self.scan(scan);
        }
    }

    /// Those go on that have waited for their turn to look into a batch.
    pub(super) fn start_looks(&mut self) {
        while let Some((mut scan, place)) = self.searches.next() {
            scan.look = Some(place);
            self.scan(scan);
        }
    }

    fn scan(&mut self, mut scan: TimestampScan) {
        if !self.engine.raft().is_leader() {
            return self.fail_scan(scan, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        loop {
            let bound = self.engine.committed_or_start();
            match self.engine.read_memory(scan.next, bound, SCAN_BYTES) {
                ReadOutcome::Batches(batches) => {
                    let end = batches.last().map_or(bound, StampedBatch::next_offset);
                    match self.search(scan, &batches, end) {
                        Some(goes_on) => scan = goes_on,
                        None => return,
                    }
                }
                ReadOutcome::OnDevice => {
                    let (id, reader) = (self.fresh_id(), Reader::Client(scan.ticket.connection));
                    self.reads.ask(id, reader, SCAN_BYTES);
                    self.searches.insert(id, scan);
                    return;
                }
                ReadOutcome::Empty | ReadOutcome::OutOfRange => return self.finish_scan(scan, None),
            }
        }
    }

    pub(super) fn on_scan_read(
        &mut self,
        now: Now,
        token: u64,
        result: Result<Vec<StampedBatch>, ReadError>,
    ) {
        let Some(scan) = self.searches.remove(token) else { return };
        let batches = match result {
            Ok(batches) if self.engine.raft().is_leader() => batches,
            Ok(_) | Err(ReadError::Gone) => return self.fail_scan(scan, ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Err(error) => {
                self.engine.on_unreadable(now, "cannot look for a timestamp from", scan.next, &error);
                self.hear_engine(now);
                return self.fail_scan(scan, ErrorCode::KAFKA_STORAGE_ERROR);
            }
        };
        let Some(end) = batches.last().map(StampedBatch::next_offset) else {
            return self.finish_scan(scan, None);
        };
        if let Some(goes_on) = self.search(scan, &batches, end) {
            self.scan(goes_on);
        }
    }

    /// Look through batches that end at `end`. Gives the scan back where it has to go on behind them.
    fn search(
        &mut self,
        mut scan: TimestampScan,
        batches: &[StampedBatch],
        end: Offset,
    ) -> Option<TimestampScan> {
        // Kafka counts control records too (`FileRecords.searchForTimestamp`), and a consumer is sent to an offset at which it
        // sees nothing; here a leader's change would be the latest record of each new epoch.
        let is_late = |b: &&StampedBatch| b.header().data_timestamp().is_some_and(|t| t >= scan.timestamp);
        for batch in batches.iter().filter(is_late) {
            if batch.header().compression() != 0 || batch.size_bytes() > WALKED_BYTES_MAX {
                self.look_inside(scan, batch);
                return None;
            }
            if let Some(found) = record_timestamps(batch).find(|(_, t)| *t >= scan.timestamp) {
                self.finish_scan(scan, Some(found));
                return None;
            }
        }
        scan.next = end;
        Some(scan)
    }

    /// It stands in line where others look already, without the batch: whoever waits must not hold what was read.
    fn look_inside(&mut self, mut scan: TimestampScan, batch: &StampedBatch) {
        let (token, patience) = (self.fresh_id(), scan.patience);
        let Some(place) = scan.look.take().or_else(|| self.searches.place(patience)) else {
            scan.next = batch.base_offset();
            return self.searches.stand_in_line(token, scan, patience);
        };
        scan.inside = Some((batch.base_offset(), batch.header().max_timestamp));
        scan.next = batch.next_offset();
        let search = Search {
            token,
            batch: batch.clone(),
            timestamp: scan.timestamp,
            // One that is not compressed is as large as it is.
            decompressed_bytes_max: self.limits.decompressed_bytes_max.max(batch.size_bytes()) as u64,
            patience,
            wanted: scan.asker.wanted(),
            place,
        };
        self.searches.insert(token, scan);
        self.actions.push_back(Action::Search(search));
    }

    pub(super) fn on_searched(&mut self, token: u64, found: Found) {
        let Some(mut scan) = self.searches.remove(token) else { return };
        let inside = scan.inside.take();
        let looked = std::mem::replace(&mut scan.patience, Patience::Short);
        match found {
            _ if !self.engine.raft().is_leader() => self.fail_scan(scan, ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Found::Record(offset, timestamp) => self.finish_scan(scan, Some((offset, timestamp))),
            Found::TooLong if looked == Patience::Short => {
                scan.patience = Patience::Long;
                scan.next = inside.map_or(scan.next, |(base_offset, _)| base_offset);
                self.scan(scan);
            }
            Found::Unreadable | Found::TooLong => self.finish_scan(scan, inside),
            Found::Nothing => self.scan(scan),
        }
    }

    fn fail_scan(&mut self, mut scan: TimestampScan, error: ErrorCode) {
        scan.response.topics[scan.place.0].partitions[scan.place.1].error_code = error.0;
        self.answer(&scan.ticket, Response::ListOffsets(scan.response));
    }

    /// Nothing found: Kafka answers offset -1 and timestamp -1.
    fn finish_scan(&mut self, mut scan: TimestampScan, found: Option<(Offset, i64)>) {
        let (offset, timestamp) = found.map_or((-1, -1), |(offset, timestamp)| (offset.0, timestamp));
        let leader_epoch = self.epoch_of_answer(offset);
        let line = &mut scan.response.topics[scan.place.0].partitions[scan.place.1];
        (line.offset, line.timestamp, line.leader_epoch) = (offset, timestamp, leader_epoch);
        self.answer(&scan.ticket, Response::ListOffsets(scan.response));
    }

    fn epoch_of_answer(&self, offset: i64) -> i32 {
        if offset < 0 {
            return -1;
        }
        self.engine.raft().epoch_at(Offset(offset)).unwrap_or(self.engine.raft().epoch()).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_of_kafkas_times_has_its_first_version() {
        let known = [(0, 1), (i64::MAX, 1), (-1, 1), (-2, 1), (-3, 7), (-4, 8), (-5, 9), (-6, 11)];
        for (timestamp, from) in known {
            assert_eq!(known_from(timestamp), Some(from), "{timestamp}");
        }
        assert_eq!([known_from(-7), known_from(i64::MIN)], [None, None]);
    }
}
