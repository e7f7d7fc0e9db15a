//! Fetch: consumers up to the high watermark, replicas up to the log end; both parked until there is something.
//!
//! Called by `Replica`. A consumer never sees a record at or above the high watermark (Java's raft server shows
//! uncommitted records to anyone: not ours to copy). Sessions are refused as Kafka refuses them (KIP-227): each
//! answer says session 0, and clients go on with full fetches.

use std::collections::{BTreeMap, BTreeSet};

use super::quorum::VoterRequest;
use super::{ConnectionId, Level, Replica, Ticket};
use crate::log::{ReadError, ReadOutcome};
use crate::protocol::fetch::TOPIC_ID_FROM;
use crate::protocol::quorum::fetch_response;
use crate::protocol::{self, FetchRequest, Response, messages as m};
use crate::raft::{self, FetchVerdict, RequestId};
use crate::record::{BatchList, StampedBatch};
use crate::types::*;
use smallvec::SmallVec;

/// Of an answer. Nearly always one.
type Topics = SmallVec<[protocol::FetchTopic; 1]>;

/// So many that wake in one turn need no list of their own: a voter or two, and what consumers there are.
const AWAKE_INLINE: usize = 8;

/// A Fetch whose records are still to come: parked, or being read from the disk.
struct FetchJob {
    ticket: Ticket,
    from: Offset,
    max_bytes: usize,
    min_bytes: usize,
    deadline_ns: u64,
    epoch: Epoch,
    reader: Reader,
}

/// Records that a consumer asks for.
struct Wanted {
    place: (usize, usize),
    from: Offset,
    max_bytes: i32,
}

enum Reader {
    /// The answer so far; the records belong to `topics[place.0].partitions[place.1]`.
    Consumer { topics: Topics, place: (usize, usize) },
    /// With the high watermark that it knows (KIP-1166).
    Replica { id: NodeId, high_watermark: Option<HighWatermark> },
}

/// Fetches under way, by id.
#[derive(Default)]
pub(super) struct Fetches {
    parked: BTreeMap<u64, FetchJob>,
    reading: BTreeMap<u64, FetchJob>,
    deadlines: BTreeSet<(u64, u64)>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
    by_replica: BTreeMap<NodeId, u64>,
    consumers: BTreeSet<u64>,
    /// High watermark at the last wake-up of the consumers.
    woken_at: Option<HighWatermark>,
}

impl Fetches {
    pub fn len(&self) -> usize {
        self.parked.len() + self.reading.len()
    }

    /// Those that wait for data, without those that are being read.
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    pub fn deadline(&self) -> Option<u64> {
        self.deadlines.first().map(|(deadline, _)| *deadline)
    }

    /// The connection is gone: nobody waits any more.
    pub fn forget(&mut self, connection: ConnectionId) {
        while self.unpark_of(connection).is_some() {}
    }

    /// The oldest of the connection.
    fn unpark_of(&mut self, connection: ConnectionId) -> Option<FetchJob> {
        let (_, id) = *self.by_connection.range((connection, 0)..=(connection, u64::MAX)).next()?;
        self.unpark(id)
    }

    fn park(&mut self, id: u64, job: FetchJob) {
        self.deadlines.insert((job.deadline_ns, id));
        self.by_connection.insert((job.ticket.connection, id));
        match job.reader {
            Reader::Consumer { .. } => {
                self.consumers.insert(id);
            }
            Reader::Replica { id: replica, .. } => {
                self.by_replica.insert(replica, id);
            }
        }
        self.parked.insert(id, job);
    }

    fn unpark(&mut self, id: u64) -> Option<FetchJob> {
        let job = self.parked.remove(&id)?;
        self.deadlines.remove(&(job.deadline_ns, id));
        self.by_connection.remove(&(job.ticket.connection, id));
        self.consumers.remove(&id);
        if let Reader::Replica { id: replica, .. } = job.reader
            && self.by_replica.get(&replica) == Some(&id)
        {
            self.by_replica.remove(&replica);
        }
        Some(job)
    }
}

impl Replica {
    pub(super) fn on_fetch(&mut self, now: Now, ticket: Ticket, request: &FetchRequest) {
        if request.is_of_replica() {
            return self.on_replica_fetch(now, ticket, request);
        }
        self.counters.fetch_requests += 1;
        if let Some(error) = session_error(request) {
            let response = protocol::FetchResponse { error: error.0, ..Default::default() };
            return self.answer(&ticket, Response::Fetch(response));
        }
        let (topics, ours) = self.consumer_skeleton(request, ticket.api_version);
        let Some(Wanted { place, from, max_bytes: partition_max_bytes }) = ours else {
            return self.answer_consumer(&ticket, topics);
        };
        let max_bytes = request.max_bytes.min(partition_max_bytes).max(0) as usize;
        let job = FetchJob {
            from,
            max_bytes: max_bytes.min(self.limits.fetch_response_bytes_max),
            min_bytes: request.min_bytes.max(0) as usize,
            deadline_ns: now.plus_ms(request.max_wait_ms.max(0) as u64),
            epoch: self.raft.epoch(),
            reader: Reader::Consumer { topics, place },
            ticket,
        };
        self.try_fetch(now, job);
    }

    /// Everything of a consumer's answer but the records: errors per partition, and where the records will stand.
    fn consumer_skeleton(&self, request: &FetchRequest, version: i16) -> (Topics, Option<Wanted>) {
        let mut ours = None;
        let mut topics = Topics::with_capacity(request.topics.len());
        for (t, topic) in request.topics.iter().enumerate() {
            let known = match version >= TOPIC_ID_FROM {
                true => topic.id == self.context.topic_id,
                false => *topic.name == *self.context.topic,
            };
            let mut partitions = SmallVec::with_capacity(topic.partitions.len());
            for (p, partition) in topic.partitions.iter().enumerate() {
                let error = match () {
                    _ if !known && version >= TOPIC_ID_FROM => ErrorCode::UNKNOWN_TOPIC_ID,
                    _ if !known || partition.index != 0 => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    _ if ours.is_some() => ErrorCode::INVALID_REQUEST,
                    _ => self.check_leader(partition.current_leader_epoch),
                };
                if error.is_none() {
                    let from = Offset(partition.fetch_offset);
                    ours = Some(Wanted { place: (t, p), from, max_bytes: partition.max_bytes });
                }
                partitions.push(self.empty_partition(partition.index, error));
            }
            let name = match known {
                true => self.context.topic.clone(),
                false => m::StrBytes::from_string(topic.name.to_string()),
            };
            topics.push(protocol::FetchTopic { name, topic_id: topic.id, partitions });
        }
        (topics, ours)
    }

    /// Kafka's `Partition.checkCurrentLeaderEpoch`, then leadership. -1: the client does not know an epoch.
    pub(super) fn check_leader(&self, current_leader_epoch: i32) -> ErrorCode {
        match current_leader_epoch {
            e if e >= 0 && e < self.raft.epoch().0 => ErrorCode::FENCED_LEADER_EPOCH,
            e if e > self.raft.epoch().0 => ErrorCode::UNKNOWN_LEADER_EPOCH,
            _ if !self.raft.is_leader() => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            _ => ErrorCode::NONE,
        }
    }

    fn empty_partition(&self, index: i32, error: ErrorCode) -> protocol::FetchPartition {
        let leader = self.leader_for_clients();
        protocol::FetchPartition {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: self.log.log_start().0,
            diverging: None,
            // KIP-951: tell where to go, if anywhere.
            current_leader: (error == ErrorCode::NOT_LEADER_OR_FOLLOWER && leader.is_some())
                .then(|| (leader, self.raft.epoch())),
            snapshot: None,
            records: BatchList::default(),
        }
    }

    /// Raft's decision about a replica's Fetch.
    pub(super) fn on_fetch_verdict(&mut self, now: Now, request_id: RequestId, verdict: FetchVerdict) {
        let Some(VoterRequest { ticket, fetch: Some(request) }) = self.voter_requests.remove(&request_id)
        else {
            panic!("Raft judges a Fetch that nobody made");
        };
        let from = match verdict {
            FetchVerdict::Refused(error) => return self.refuse_replica(&ticket, error),
            FetchVerdict::Diverging(end) => {
                return self.answer_replica(&ticket, Some(end), BatchList::default());
            }
            FetchVerdict::Read { from } => from,
        };
        // A newer Fetch of the same replica takes the place of its older parked one.
        if let Some(older) = self.fetches.by_replica.get(&request.replica.id).copied()
            && let Some(job) = self.fetches.unpark(older)
        {
            self.finish_fetch(job, BatchList::default());
        }
        let reader = Reader::Replica { id: request.replica.id, high_watermark: request.high_watermark };
        let job = FetchJob {
            ticket,
            from,
            max_bytes: self.limits.replica_fetch_bytes_max,
            min_bytes: 1,
            deadline_ns: now.plus_ms(request.max_wait_ms.max(0) as u64),
            epoch: self.raft.epoch(),
            reader,
        };
        self.try_fetch(now, job);
    }

    /// Answer parked voter Fetches of this connection, empty.
    pub(super) fn release_parked_of(&mut self, connection: ConnectionId) {
        while let Some(job) = self.fetches.unpark_of(connection) {
            self.finish_fetch(job, BatchList::default());
        }
    }

    fn try_fetch(&mut self, now: Now, job: FetchJob) {
        // Between the high watermark and the log end a consumer waits: it read there under an older leader.
        let bound = match job.reader {
            Reader::Consumer { .. } => self.raft.high_watermark().map_or(job.from, |hw| hw.0),
            Reader::Replica { .. } => self.log.log_end().0,
        };
        let id = self.fresh_id();
        match self.log.read(job.from, bound, job.max_bytes, id) {
            ReadOutcome::Pending => {
                self.fetches.reading.insert(id, job);
            }
            ReadOutcome::Batches(batches) => {
                let bytes: usize = batches.iter().map(StampedBatch::size_bytes).sum();
                // A full answer is as good as the least that was asked for.
                if bytes >= job.min_bytes.min(job.max_bytes) || job.deadline_ns <= now.monotonic_ns {
                    self.finish_fetch(job, batches);
                } else {
                    self.park_fetch(id, job);
                }
            }
            ReadOutcome::Empty if self.is_due(now, &job) => self.finish_fetch(job, BatchList::default()),
            ReadOutcome::Empty => self.park_fetch(id, job),
            ReadOutcome::OutOfRange => self.fail_fetch(job, ErrorCode::OFFSET_OUT_OF_RANGE),
        }
    }

    fn park_fetch(&mut self, id: u64, job: FetchJob) {
        match self.fetches.len() >= self.limits.parked_requests_max {
            true => self.finish_fetch(job, BatchList::default()),
            false => self.fetches.park(id, job),
        }
    }

    /// An empty answer is due: the wait is over, or the replica does not know our high watermark yet.
    fn is_due(&self, now: Now, job: &FetchJob) -> bool {
        let news = match job.reader {
            Reader::Consumer { .. } => false,
            Reader::Replica { high_watermark, .. } => self.raft.high_watermark() > high_watermark,
        };
        news || job.deadline_ns <= now.monotonic_ns
    }

    /// At the end of a turn: hand new batches to parked followers, new commits to parked consumers.
    pub(super) fn wake_fetches(&mut self, now: Now) {
        if self.role_changed {
            let leading = self.raft.is_leader().then(|| self.raft.epoch());
            let outdated = self.fetches.parked.iter().filter(|(_, job)| Some(job.epoch) != leading);
            for id in outdated.map(|(id, _)| *id).collect::<Vec<_>>() {
                if let Some(job) = self.fetches.unpark(id) {
                    self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
                }
            }
        }
        let mut awake: SmallVec<[u64; AWAKE_INLINE]> = self
            .fetches
            .by_replica
            .values()
            .filter(|id| {
                self.fetches
                    .parked
                    .get(id)
                    .is_some_and(|job| self.log.log_end().0 > job.from || self.is_due(now, job))
            })
            .copied()
            .collect();
        let high_watermark = self.raft.high_watermark();
        if high_watermark > self.fetches.woken_at {
            self.fetches.woken_at = high_watermark;
            awake.extend(self.fetches.consumers.iter().copied());
        }
        let due = self.fetches.deadlines.range(..=(now.monotonic_ns, u64::MAX)).map(|(_, id)| *id);
        awake.extend(due);
        for id in awake {
            if let Some(job) = self.fetches.unpark(id) {
                self.try_fetch(now, job);
            }
        }
    }

    pub(super) fn on_read_done(
        &mut self,
        now: Now,
        token: u64,
        result: Result<Vec<StampedBatch>, ReadError>,
    ) {
        if self.scans.contains_key(&token) {
            return self.on_scan_read(token, result);
        }
        let Some(job) = self.fetches.reading.remove(&token) else { return };
        if !self.leads_in(job.epoch) {
            return self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        match result {
            Ok(batches) => self.finish_fetch(job, batches.into()),
            // Cut or rolled under the read: look again.
            Err(ReadError::Gone) => self.try_fetch(now, job),
            Err(error) => {
                self.note(Level::Error, format!("cannot serve offset {}: {error}", job.from));
                self.fail_fetch(job, ErrorCode::KAFKA_STORAGE_ERROR);
            }
        }
    }

    fn fail_fetch(&mut self, job: FetchJob, error: ErrorCode) {
        match job.reader {
            Reader::Replica { .. } => self.refuse_replica(&job.ticket, error),
            Reader::Consumer { mut topics, place } => {
                let partition = partition_at(&mut topics, place);
                *partition = self.empty_partition(partition.index, error);
                self.answer_consumer(&job.ticket, topics);
            }
        }
    }

    fn finish_fetch(&mut self, job: FetchJob, batches: BatchList) {
        if !self.leads_in(job.epoch) {
            return self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        self.counters.fetched_bytes += batches.iter().map(|b| b.size_bytes() as u64).sum::<u64>();
        match job.reader {
            Reader::Replica { .. } => self.answer_replica(&job.ticket, None, batches),
            Reader::Consumer { mut topics, place } => {
                let high_watermark = self.raft.high_watermark().map_or(-1, |hw| hw.0.0);
                let partition = partition_at(&mut topics, place);
                (partition.high_watermark, partition.last_stable_offset) = (high_watermark, high_watermark);
                partition.records = batches;
                self.answer_consumer(&job.ticket, topics);
            }
        }
    }

    fn leads_in(&self, epoch: Epoch) -> bool {
        self.raft.is_leader() && self.raft.epoch() == epoch
    }

    fn answer_consumer(&mut self, ticket: &Ticket, topics: Topics) {
        let names_leader = topics.iter().flat_map(|t| &t.partitions).any(|p| p.current_leader.is_some());
        let node_endpoints = self.leader_endpoint().filter(|_| names_leader).into_iter().collect();
        let response = protocol::FetchResponse { topics, node_endpoints, ..Default::default() };
        self.answer(ticket, Response::Fetch(response));
    }

    fn answer_replica(&mut self, ticket: &Ticket, diverging: Option<OffsetAndEpoch>, records: BatchList) {
        let told = raft::FetchResponse {
            high_watermark: self.raft.high_watermark(),
            diverging,
            ..self.answer_of(ErrorCode::NONE)
        };
        let response = fetch_response(&self.context, &told, self.log.log_start(), records);
        self.answer(ticket, Response::Fetch(response));
    }

    fn refuse_replica(&mut self, ticket: &Ticket, error: ErrorCode) {
        let response =
            fetch_response(&self.context, &self.answer_of(error), self.log.log_start(), BatchList::default());
        self.answer(ticket, Response::Fetch(response));
    }

    /// A voter always hears who leads in which epoch, also that nobody does.
    fn answer_of(&self, error: ErrorCode) -> raft::FetchResponse {
        raft::FetchResponse {
            error,
            leader: self.raft.leader(),
            epoch: self.raft.epoch(),
            high_watermark: None,
            diverging: None,
            snapshot: None,
            batches: Vec::new(),
        }
    }

    pub(super) fn parked_requests(&self) -> usize {
        self.purgatory.len() + self.fetches.len()
    }
}

fn partition_at(topics: &mut Topics, place: (usize, usize)) -> &mut protocol::FetchPartition {
    &mut topics[place.0].partitions[place.1]
}

/// KIP-227 as a broker whose session cache is full sees it: a full fetch is answered without a session, an
/// incremental one names a session that we never gave.
fn session_error(request: &FetchRequest) -> Option<ErrorCode> {
    const FINAL_EPOCH: i32 = -1;
    const INITIAL_EPOCH: i32 = 0;
    match (request.session_id, request.session_epoch) {
        (_, FINAL_EPOCH | INITIAL_EPOCH) => None,
        (0, _) => Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        _ => Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
    }
}
