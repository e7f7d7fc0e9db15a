//! ListOffsets: the log's ends at once, a timestamp by a scan of batches.
//!
//! Called by `Replica`. Answers only as leader, and only below the high watermark. A compressed or large batch is looked into
//! elsewhere (`Action::Search`); in one that cannot be read a timestamp finds the first offset, from which a consumer reads on.

mod searches;

use super::connection_id::ConnectionId;
use super::desk::{Desk, Engine};
use super::input::{Action, Ticket};
use super::inspection::{Found, Patience, Search};
use super::room::reads::Reader;
use super::times::*;
use crate::config::Limits;
use crate::log::{ReadError, ReadOutcome};
use crate::protocol::{Response, messages as m};
use crate::record::{Asker, BatchList, StampedBatch, Which, record_timestamps};
use crate::types::*;
use searches::Searches;
use std::sync::Arc;

/// Version from which a client knows OFFSET_NOT_AVAILABLE (KIP-207).
const OFFSET_NOT_AVAILABLE_FROM: i16 = 5;

/// Bytes read in one step of a scan. The index leads to a run of a few kilobytes, so there is seldom a second one.
const SCAN_BYTES: usize = 64 << 10;
/// Larger batches are looked into elsewhere, compressed or not: a turn may be asked for hundreds.
const WALKED_BYTES_MAX: usize = 16 << 10;

/// A search for a record at or after a timestamp, which waits for its next batches from the disk, or for somebody to
/// look into a compressed one.
struct TimestampScan {
    ticket: Ticket,
    response: m::ListOffsetsResponse,
    place: (usize, usize),
    timestamp: i64,
    sought: Sought,
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
    fn connection(&self) -> ConnectionId {
        self.ticket.connection
    }

    fn which(&self) -> Which {
        match self.sought {
            Sought::First | Sought::LatestKnown => Which::First,
            Sought::Latest(_) => Which::Latest,
        }
    }
}

/// Which of the records that are at or after the timestamp.
enum Sought {
    First,
    /// The first, for none is later. Where there is none, it went with the start of the log, and the latest is looked for.
    LatestKnown,
    /// The latest: this is it so far, and whoever is later has the timestamp or a larger one.
    Latest(Option<(Offset, i64)>),
}

/// One partition's question, once it is known to be ours.
enum Question {
    Answered { timestamp: i64, offset: i64 },
    Scan { timestamp: i64, sought: Sought },
}

/// All searches that wait.
pub(super) struct ListOffsets {
    searches: Searches,
}

impl ListOffsets {
    pub(super) fn new(limits: &Limits) -> ListOffsets {
        ListOffsets { searches: Searches::new(limits) }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.searches.forget(connection);
    }

    /// Where a search waits for the device: the offset that it reads from. `None`: nobody searches under this token.
    pub(super) fn wants_read(&self, token: u64) -> Option<Offset> {
        self.searches.get(token).map(|scan| scan.next)
    }

    #[cfg(test)]
    pub(super) fn searches(&self) -> usize {
        self.searches.len()
    }

    pub(super) fn on_request(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        ticket: Ticket,
        request: &m::ListOffsetsRequest,
    ) {
        let mut response = m::ListOffsetsResponse::default();
        let mut scan = None;
        let is_ours = |topic: &str, index: i32| *topic == *desk.context.topic && index == 0;
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
                        question(engine, ticket.api_version, epoch, timestamp)
                    }
                };
                let mut line = m::list_offsets_response::ListOffsetsPartitionResponse::default();
                line.partition_index = partition.partition_index;
                line.leader_epoch = -1;
                match question {
                    Err(error) => line.error_code = error.0,
                    Ok(Question::Answered { timestamp, offset }) => {
                        (line.timestamp, line.offset) = (timestamp, offset);
                        line.leader_epoch = epoch_of_answer(engine, offset);
                    }
                    Ok(Question::Scan { timestamp, sought }) => scan = Some(((t, p), timestamp, sought)),
                }
                answer.partitions.push(line);
            }
            response.topics.push(answer);
        }
        let Some((place, timestamp, sought)) = scan else {
            return desk.answer(&ticket, Response::ListOffsets(response));
        };
        let scan = TimestampScan {
            ticket,
            response,
            place,
            timestamp,
            sought,
            next: engine.raft().known_start(),
            inside: None,
            patience: Patience::Short,
            look: None,
            asker: Asker::default(),
        };
        self.scan(engine, desk, scan);
    }

    /// What its next step was to read from the device lies in memory now, or is gone.
    pub(super) fn read_otherwise(&mut self, engine: &mut Engine, desk: &mut Desk, token: u64) {
        if let Some(scan) = self.searches.remove(token) {
            self.scan(engine, desk, scan);
        }
    }

    /// Those go on that have waited for their turn to look into a batch.
    pub(super) fn start_looks(&mut self, engine: &mut Engine, desk: &mut Desk) {
        while let Some((mut scan, place)) = self.searches.next() {
            scan.look = Some(place);
            self.scan(engine, desk, scan);
        }
    }

    fn scan(&mut self, engine: &mut Engine, desk: &mut Desk, mut scan: TimestampScan) {
        if !engine.raft().is_leader() {
            return fail(desk, scan, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        // The log may start later than when it began to look.
        scan.next = scan.next.max(engine.raft().known_start());
        loop {
            let bound = engine.committed_or_zero();
            // Runs that have no such time are passed over. The one that has it may begin before, and end with others.
            let run = engine.log().seek_timestamp(scan.timestamp, scan.next, bound);
            scan.next = run.unwrap_or(bound).max(scan.next);
            match engine.read_memory(scan.next, bound, SCAN_BYTES) {
                ReadOutcome::Batches(batches) => {
                    let end = batches.ends().map_or(bound, |(_, end)| end);
                    match self.search(engine, desk, scan, &batches, end) {
                        Some(goes_on) => scan = goes_on,
                        None => return,
                    }
                }
                ReadOutcome::OnDevice | ReadOutcome::InBlock => {
                    let (id, reader) = (desk.fresh_id(), Reader::Client(scan.ticket.connection));
                    desk.reads.ask(id, reader, SCAN_BYTES);
                    self.searches.insert(id, scan);
                    return;
                }
                ReadOutcome::Empty | ReadOutcome::OutOfRange => return self.end(engine, desk, scan),
            }
        }
    }

    /// There is nothing more to look through.
    fn end(&mut self, engine: &mut Engine, desk: &mut Desk, mut scan: TimestampScan) {
        match scan.sought {
            Sought::First => finish(engine, desk, scan, None),
            Sought::Latest(found) => finish(engine, desk, scan, found),
            Sought::LatestKnown => {
                let (start, bound) = (engine.raft().known_start(), engine.committed_or_zero());
                // None of those between is later, so of them one run is read, and the two at the ends.
                scan.timestamp = engine.log().max_timestamp_within(start, bound).unwrap_or(0);
                (scan.sought, scan.next) = (Sought::Latest(None), start);
                self.scan(engine, desk, scan);
            }
        }
    }

    /// What was read for it from the device, or why it was not.
    pub(super) fn on_read(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        token: u64,
        result: Result<BatchList, ReadError>,
    ) {
        let Some(scan) = self.searches.remove(token) else { return };
        // The start has passed it while the device read.
        if scan.next < engine.raft().known_start() {
            return self.scan(engine, desk, scan);
        }
        let batches = match result {
            Ok(batches) if engine.raft().is_leader() => batches,
            // Who leads cuts nothing: it went with the start of the log.
            Err(ReadError::Gone) if engine.raft().is_leader() => return self.scan(engine, desk, scan),
            Ok(_) | Err(ReadError::Gone) => return fail(desk, scan, ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Err(error) => {
                engine.on_unreadable(desk.now, "cannot look for a timestamp from", scan.next, &error);
                desk.take_notes(engine);
                return fail(desk, scan, ErrorCode::KAFKA_STORAGE_ERROR);
            }
        };
        let Some((_, end)) = batches.ends() else {
            return self.end(engine, desk, scan);
        };
        if let Some(goes_on) = self.search(engine, desk, scan, &batches, end) {
            self.scan(engine, desk, goes_on);
        }
    }

    /// Look through batches that end at `end`. Gives the scan back where it has to go on behind them.
    fn search(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        mut scan: TimestampScan,
        batches: &BatchList,
        end: Offset,
    ) -> Option<TimestampScan> {
        // Kafka counts control records too (`FileRecords.searchForTimestamp`), and a consumer is sent to an offset at which it
        // sees nothing; here a leader's change would be the latest record of each new epoch.
        for batch in batches.iter() {
            if batch.header().data_timestamp().is_none_or(|t| t < scan.timestamp) {
                continue;
            }
            if batch.header().compression() != 0 || batch.size_bytes() > WALKED_BYTES_MAX {
                self.look_inside(engine, desk, scan, &batch);
                return None;
            }
            // The log may start inside of the batch.
            let start = engine.raft().known_start();
            let is_found = |(offset, t): &(Offset, i64)| *offset >= start && *t >= scan.timestamp;
            let mut late = record_timestamps(&batch).filter(is_found);
            let found = match scan.which() {
                Which::First => late.next(),
                Which::Latest => late.reduce(|a, b| if b.1 > a.1 { b } else { a }),
            };
            if let Some(found) = found {
                scan = on_found(engine, desk, scan, found)?;
            }
        }
        scan.next = end;
        Some(scan)
    }

    /// It stands in line where others look already, without the batch: whoever waits must not hold what was read.
    fn look_inside(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        mut scan: TimestampScan,
        batch: &StampedBatch,
    ) {
        let (token, patience) = (desk.fresh_id(), scan.patience);
        let Some(place) = scan.look.take().or_else(|| self.searches.place(patience)) else {
            scan.next = batch.base_offset();
            return self.searches.stand_in_line(token, scan, patience);
        };
        let from = engine.raft().known_start();
        scan.inside = Some((batch.base_offset().max(from), batch.header().max_timestamp));
        scan.next = batch.next_offset();
        let search = Search {
            token,
            batch: batch.clone(),
            from,
            timestamp: scan.timestamp,
            which: scan.which(),
            // One that is not compressed is as large as it is.
            decompressed_bytes_max: desk.limits.decompressed_bytes_max.max(batch.size_bytes()) as u64,
            patience,
            wanted: scan.asker.wanted(),
            place,
        };
        self.searches.insert(token, scan);
        desk.act(Action::Search(search));
    }

    pub(super) fn on_searched(&mut self, engine: &mut Engine, desk: &mut Desk, token: u64, found: Found) {
        let Some(mut scan) = self.searches.remove(token) else { return };
        let inside = scan.inside.take();
        let looked = std::mem::replace(&mut scan.patience, Patience::Short);
        match found {
            _ if !engine.raft().is_leader() => fail(desk, scan, ErrorCode::NOT_LEADER_OR_FOLLOWER),
            Found::Record(offset, timestamp) => self.go_on_behind(engine, desk, scan, (offset, timestamp)),
            Found::TooLong if looked == Patience::Short => {
                scan.patience = Patience::Long;
                scan.next = inside.map_or(scan.next, |(base_offset, _)| base_offset);
                self.scan(engine, desk, scan);
            }
            Found::Unreadable | Found::TooLong => match inside {
                Some(first) => self.go_on_behind(engine, desk, scan, first),
                None => finish(engine, desk, scan, None),
            },
            Found::Nothing => self.scan(engine, desk, scan),
        }
    }

    fn go_on_behind(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        scan: TimestampScan,
        found: (Offset, i64),
    ) {
        if let Some(scan) = on_found(engine, desk, scan, found) {
            self.scan(engine, desk, scan);
        }
    }
}

/// Gives the scan back where a later one may follow.
fn on_found(
    engine: &Engine,
    desk: &mut Desk,
    mut scan: TimestampScan,
    found: (Offset, i64),
) -> Option<TimestampScan> {
    match &mut scan.sought {
        Sought::First | Sought::LatestKnown => {
            finish(engine, desk, scan, Some(found));
            None
        }
        Sought::Latest(latest) => {
            (*latest, scan.timestamp) = (Some(found), found.1.saturating_add(1));
            Some(scan)
        }
    }
}

fn question(
    engine: &Engine,
    version: i16,
    current_leader_epoch: i32,
    timestamp: i64,
) -> Result<Question, ErrorCode> {
    if known_from(timestamp).is_none_or(|from| version < from) {
        return Err(ErrorCode::UNSUPPORTED_VERSION);
    }
    let error = engine.check_leader(current_leader_epoch);
    if !error.is_none() {
        return Err(error);
    }
    let not_available = match version < OFFSET_NOT_AVAILABLE_FROM {
        true => ErrorCode::LEADER_NOT_AVAILABLE,
        false => ErrorCode::OFFSET_NOT_AVAILABLE,
    };
    // A new leader does not know yet what is committed (KIP-207).
    let Some(high_watermark) = engine.raft().high_watermark() else {
        return Err(not_available);
    };
    let at = |offset: Offset| Ok(Question::Answered { timestamp: -1, offset: offset.0 });
    match timestamp {
        LATEST => at(high_watermark.0),
        EARLIEST | EARLIEST_LOCAL => at(engine.told_start().ok_or(not_available)?),
        // Nothing is kept elsewhere, and nothing waits to be.
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => at(Offset(-1)),
        MAX_TIMESTAMP => match engine.latest_committed() {
            None => at(Offset(-1)),
            Some(timestamp) => Ok(Question::Scan { timestamp, sought: Sought::LatestKnown }),
        },
        _ if timestamp >= 0 => Ok(Question::Scan { timestamp, sought: Sought::First }),
        _ => Err(ErrorCode::UNSUPPORTED_VERSION),
    }
}

fn fail(desk: &mut Desk, mut scan: TimestampScan, error: ErrorCode) {
    scan.response.topics[scan.place.0].partitions[scan.place.1].error_code = error.0;
    desk.answer(&scan.ticket, Response::ListOffsets(scan.response));
}

/// Nothing found: Kafka answers offset -1 and timestamp -1.
fn finish(engine: &Engine, desk: &mut Desk, mut scan: TimestampScan, found: Option<(Offset, i64)>) {
    let (offset, timestamp) = found.map_or((-1, -1), |(offset, timestamp)| (offset.0, timestamp));
    let leader_epoch = epoch_of_answer(engine, offset);
    let line = &mut scan.response.topics[scan.place.0].partitions[scan.place.1];
    (line.offset, line.timestamp, line.leader_epoch) = (offset, timestamp, leader_epoch);
    desk.answer(&scan.ticket, Response::ListOffsets(scan.response));
}

fn epoch_of_answer(engine: &Engine, offset: i64) -> i32 {
    if offset < 0 {
        return -1;
    }
    engine.raft().epoch_at(Offset(offset)).unwrap_or(engine.raft().epoch()).0
}
