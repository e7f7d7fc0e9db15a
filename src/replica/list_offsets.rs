//! ListOffsets: the log's ends at once, a timestamp by a scan of batches.
//!
//! Called by `Replica`. Answers only as leader, and only below the high watermark. Nothing is decompressed here: in a
//! compressed batch a timestamp finds the batch's first offset, from which a consumer reads on and skips by itself.

use super::{Level, Replica, Ticket};
use crate::log::{ReadError, ReadOutcome};
use crate::protocol::{Response, messages as m};
use crate::record::{StampedBatch, record_timestamps};
use crate::types::*;

/// Kafka's special timestamps (`ListOffsetsRequest`).
const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;

/// Bytes read in one step of a scan.
const SCAN_BYTES: usize = 1 << 20;

/// A search for the first record at or after a timestamp, whose next batches are being read from the disk.
pub(super) struct TimestampScan {
    ticket: Ticket,
    response: m::ListOffsetsResponse,
    place: (usize, usize),
    timestamp: i64,
    next: Offset,
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
        for (t, topic) in request.topics.iter().enumerate() {
            let mut answer = m::list_offsets_response::ListOffsetsTopicResponse::default();
            answer.name = topic.name.clone();
            for (p, partition) in topic.partitions.iter().enumerate() {
                let ours = *topic.name.0 == *self.context.topic && partition.partition_index == 0;
                let question = match ours {
                    false => Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
                    true => self.question(partition.current_leader_epoch, partition.timestamp),
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
                    Ok(Question::Scan { timestamp }) if scan.is_none() => scan = Some(((t, p), timestamp)),
                    Ok(Question::Scan { .. }) => line.error_code = ErrorCode::INVALID_REQUEST.0,
                }
                answer.partitions.push(line);
            }
            response.topics.push(answer);
        }
        let Some((place, timestamp)) = scan else {
            return self.answer(&ticket, Response::ListOffsets(response));
        };
        let next = self.log.seek_timestamp(timestamp).unwrap_or(self.log.log_end().0);
        self.scan(TimestampScan { ticket, response, place, timestamp, next });
    }

    fn question(&self, current_leader_epoch: i32, timestamp: i64) -> Result<Question, ErrorCode> {
        let error = self.check_leader(current_leader_epoch);
        if !error.is_none() {
            return Err(error);
        }
        // A new leader does not know yet what is committed (KIP-207).
        let Some(high_watermark) = self.raft.high_watermark() else {
            return Err(ErrorCode::OFFSET_NOT_AVAILABLE);
        };
        let at = |offset: Offset| Ok(Question::Answered { timestamp: -1, offset: offset.0 });
        match timestamp {
            LATEST => at(high_watermark.0),
            EARLIEST | EARLIEST_LOCAL => at(self.log.log_start()),
            LATEST_TIERED => at(Offset(-1)),
            MAX_TIMESTAMP => match self.log.max_timestamp() {
                None => at(Offset(-1)),
                Some((_, base)) if base >= high_watermark.0 => Err(ErrorCode::OFFSET_NOT_AVAILABLE),
                Some((timestamp, _)) => Ok(Question::Scan { timestamp }),
            },
            _ if timestamp >= 0 => Ok(Question::Scan { timestamp }),
            _ => Err(ErrorCode::UNSUPPORTED_VERSION),
        }
    }

    fn scan(&mut self, mut scan: TimestampScan) {
        loop {
            let bound = self.raft.high_watermark().map_or(Offset(0), |hw| hw.0);
            let id = self.fresh_id();
            match self.log.read(scan.next, bound, SCAN_BYTES, id) {
                ReadOutcome::Batches(batches) => match search(&batches, scan.timestamp) {
                    Some(found) => return self.finish_scan(scan, Some(found)),
                    None => scan.next = batches.last().map_or(bound, StampedBatch::next_offset),
                },
                ReadOutcome::Pending => {
                    self.scans.insert(id, scan);
                    return;
                }
                ReadOutcome::Empty | ReadOutcome::OutOfRange => return self.finish_scan(scan, None),
            }
        }
    }

    pub(super) fn on_scan_read(&mut self, token: u64, result: Result<Vec<StampedBatch>, ReadError>) {
        let Some(mut scan) = self.scans.remove(&token) else { return };
        let batches = match result {
            Ok(batches) if self.raft.is_leader() => batches,
            Ok(_) | Err(ReadError::Gone) => return self.fail_scan(scan, ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Err(error) => {
                self.note(
                    Level::Error,
                    format!("cannot look for a timestamp from offset {}: {error}", scan.next),
                );
                return self.fail_scan(scan, ErrorCode::KAFKA_STORAGE_ERROR);
            }
        };
        match (search(&batches, scan.timestamp), batches.last()) {
            (Some(found), _) => self.finish_scan(scan, Some(found)),
            (None, None) => self.finish_scan(scan, None),
            (None, Some(last)) => {
                scan.next = last.next_offset();
                self.scan(scan);
            }
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
        self.raft.epoch_at(Offset(offset)).unwrap_or(self.raft.epoch()).0
    }
}

/// The first record with a timestamp at or after this one.
fn search(batches: &[StampedBatch], timestamp: i64) -> Option<(Offset, i64)> {
    batches
        .iter()
        // Kafka counts control records too (`FileRecords.searchForTimestamp`).
        .filter(|batch| batch.header().max_timestamp >= timestamp)
        .find_map(|batch| match batch.header().compression() {
            0 => record_timestamps(batch).find(|(_, t)| *t >= timestamp),
            _ => Some((batch.base_offset(), batch.header().max_timestamp)),
        })
}
