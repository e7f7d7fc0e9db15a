//! Fetch: consumers up to the high watermark, replicas up to the log end; both parked until there is something.
//!
//! Called by `Replica`. A consumer never sees a record at or above the high watermark (Java's raft server shows
//! uncommitted records to anyone: not ours to copy). Sessions are refused as Kafka refuses them (KIP-227): each
//! answer says session 0, and clients go on with full fetches.

mod waiting;

use std::sync::Arc;

use super::quorum::VoterRequest;
use super::room::answers::{Given, Share};
use super::room::reads::{Granted, Reader as DeviceReader, Stalled};
use super::{Action, ConnectionId, Replica, Ticket};
use crate::log::{ReadError, ReadOutcome};
use crate::protocol::fetch::{TOPIC_ID_FROM, shared_bytes};
use crate::protocol::quorum::fetch_response;
use crate::protocol::{self, FetchRequest, Response, messages as m};
use crate::raft::{self, FetchVerdict, RequestId};
use crate::record::{BatchList, StampedBatch};
use crate::types::*;
use smallvec::SmallVec;
pub(super) use waiting::Fetches;
use waiting::{FetchJob, Reader};

/// Of an answer. Nearly always one.
type Topics = SmallVec<[protocol::FetchTopic; 1]>;

/// So long after its last write the log is taken to write on.
const WRITES_LATELY_NS: u64 = 100 * NS_PER_MS;
/// Who waits for bytes that others hold is looked at again after this long: nobody tells when they are taken.
const READS_LOOK_MS: u64 = 5;
/// So many that wake in one turn need no list of their own: a voter or two, and what consumers there are.
const AWAKE_INLINE: usize = 8;
/// Consumers that one turn serves; voters are served before them, and the others have the next turn.
const CONSUMERS_WOKEN_MAX: usize = 256;

/// Records that a consumer asks for.
struct Wanted {
    place: (usize, usize),
    from: Offset,
    max_bytes: i32,
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
        // An error is told at once, with what there is (Kafka: `ReplicaManager.fetchMessages`).
        let has_error = topics.iter().flat_map(|topic| &topic.partitions).any(|p| !p.error.is_none());
        let Some(Wanted { place, from, max_bytes: partition_max_bytes }) = ours else {
            return self.answer_consumer(&ticket, topics, None);
        };
        let max_bytes = request.max_bytes.min(partition_max_bytes).max(0) as usize;
        let job = FetchJob {
            from,
            max_bytes: max_bytes.min(self.limits.fetch_response_bytes_max),
            min_bytes: if has_error { 0 } else { request.min_bytes.max(0) as usize },
            deadline_ns: now.plus_ms(self.wait_ms(request.max_wait_ms)),
            epoch: self.engine.raft().epoch(),
            reader: Reader::Consumer { topics, place },
            is_voter: false,
            wake_at: 0,
            ticket,
        };
        self.try_fetch(now, job);
    }

    /// What a client may let us wait.
    fn wait_ms(&self, wanted_ms: i32) -> u64 {
        (wanted_ms.max(0) as u64).min(self.limits.request_wait_ms_max)
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
                    _ => self.engine.check_leader(partition.current_leader_epoch),
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

    fn empty_partition(&self, index: i32, error: ErrorCode) -> protocol::FetchPartition {
        let leader = self.leader_for_clients();
        protocol::FetchPartition {
            index,
            error,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: self.engine.log().log_start().0,
            diverging: None,
            // KIP-951: tell where to go, if anywhere.
            current_leader: (error == ErrorCode::NOT_LEADER_OR_FOLLOWER && leader.is_some())
                .then(|| (leader, self.engine.raft().epoch())),
            snapshot: None,
            lagging: 0,
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
                return self.answer_replica(&ticket, Some(end), BatchList::default(), None);
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
            // One batch is read whatever it measures.
            max_bytes: if request.one_batch { 1 } else { self.limits.replica_fetch_bytes_max },
            min_bytes: 1,
            deadline_ns: now.plus_ms(self.wait_ms(request.max_wait_ms)),
            epoch: self.engine.raft().epoch(),
            is_voter: self.context.voters.iter().any(|(voter, _)| *voter == request.replica.id),
            reader,
            wake_at: 0,
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
        let core = job.ticket.connection.core();
        // Nobody passes those who wait.
        let waits = self.share_of(&job).is_some() && self.fetches.has_line(core);
        let waits = if waits { Some(job) } else { self.fetch_what_fits(now, job) };
        match waits {
            Some(job) if self.has_place(&job, self.fetches.served_partitions()) => {
                self.fetches.stand_in_line(job)
            }
            Some(job) => self.finish_fetch(job, BatchList::default()),
            None => {}
        }
    }

    /// `None`: voters' are not counted, nor those whose core has no bound.
    fn share_of(&self, job: &FetchJob) -> Option<&Arc<Share>> {
        let core = job.ticket.connection.core();
        self.shares.get(core).filter(|_| matches!(self.device_reader(job), DeviceReader::Client(_)))
    }

    /// Those who wait for what others have not taken, as far as there is room again.
    pub(super) fn answer_waiting(&mut self, now: Now) {
        for core in 0..self.fetches.lines() {
            let mut has_moved = false;
            while let Some(job) = self.fetches.next_in_line(core) {
                if !self.engine.leads_in(job.epoch) {
                    self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
                } else if let Some(job) = self.fetch_what_fits(now, job) {
                    self.fetches.stay_first(job);
                    break;
                }
                has_moved = true;
            }
            let (share, is_wanted) = (&self.shares[core], self.fetches.has_line(core));
            if has_moved || is_wanted != share.is_wanted() {
                share.set_wanted(is_wanted.then_some(now.monotonic_ns));
            }
        }
    }

    /// Gives it back where it has to wait for what others have not taken.
    fn fetch_what_fits(&mut self, now: Now, job: FetchJob) -> Option<FetchJob> {
        let bound = self.bound_of(&job);
        let id = self.fresh_id();
        match self.engine.read_memory(job.from, bound, job.max_bytes) {
            ReadOutcome::OnDevice if !self.has_place(&job, self.fetches.served_partitions()) => {
                self.finish_fetch(job, BatchList::default());
            }
            ReadOutcome::OnDevice => {
                self.reads.ask(id, self.device_reader(&job), job.max_bytes);
                self.fetches.read(id, job);
            }
            ReadOutcome::Batches(batches) => {
                let bytes: usize = batches.iter().map(StampedBatch::size_bytes).sum();
                // A full answer is as good as the least that was asked for.
                if bytes >= job.min_bytes.min(job.max_bytes) || job.deadline_ns <= now.monotonic_ns {
                    match self.within_share(&job, batches, bytes) {
                        Some(batches) => self.finish_fetch(job, batches),
                        None => return Some(job),
                    }
                } else {
                    self.park_fetch(id, job, bytes);
                }
            }
            ReadOutcome::Empty if self.is_due(now, &job) => self.finish_fetch(job, BatchList::default()),
            ReadOutcome::Empty => self.park_fetch(id, job, 0),
            ReadOutcome::OutOfRange => self.fail_fetch(job, ErrorCode::OFFSET_OUT_OF_RANGE),
        }
        None
    }

    /// As many of the batches as its share has left, one at least; `None`: not even that.
    fn within_share(&mut self, job: &FetchJob, batches: BatchList, bytes: usize) -> Option<BatchList> {
        let Some(share) = self.share_of(job).filter(|share| !share.fits(bytes)) else { return Some(batches) };
        let left = share.left();
        let ReadOutcome::Batches(fewer) = self.engine.read_memory(job.from, self.bound_of(job), left) else {
            return None;
        };
        (fewer.iter().map(StampedBatch::size_bytes).sum::<usize>() <= left).then_some(fewer)
    }

    /// An observer is read for as a client is.
    fn device_reader(&self, job: &FetchJob) -> DeviceReader {
        match job.reader {
            Reader::Replica { id, .. } if job.is_voter => DeviceReader::Voter(id),
            _ => DeviceReader::Client(job.ticket.connection),
        }
    }

    /// Let those read from the device whose turn it is.
    pub(super) fn start_reads(&mut self, now: Now) {
        if self.engine.log().flush_pending_since().is_some() {
            self.written_ns = now.monotonic_ns;
        }
        self.reads.set_writing(now.monotonic_ns.saturating_sub(self.written_ns) < WRITES_LATELY_NS);
        while let Some(granted) = self.reads.next(now.monotonic_ns) {
            let Granted { token, charge, bytes_max } = granted;
            if let Some(scan) = self.searches.get(token) {
                let (from, bound) = (scan.next(), self.engine.committed_or_start());
                if let ReadOutcome::OnDevice = self.engine.read_memory(from, bound, bytes_max) {
                    self.engine.read_device(from, bound, bytes_max, token, charge);
                } else {
                    self.reads.done(token);
                    self.scan_again(token);
                }
                continue;
            }
            let Some(job) = self.fetches.get_reading(token) else {
                self.reads.done(token);
                continue;
            };
            // While it waited the log may have been cut, and another may lead.
            let (from, bound, is_valid) = (job.from, self.bound_of(job), self.engine.leads_in(job.epoch));
            if is_valid && matches!(self.engine.read_memory(from, bound, bytes_max), ReadOutcome::OnDevice) {
                self.engine.read_device(from, bound, bytes_max, token, charge);
            } else if let Some(job) = self.fetches.take_reading(token) {
                self.reads.done(token);
                match is_valid {
                    true => self.try_fetch(now, job),
                    false => self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER),
                }
            }
        }
        let must_look_again = self.reads.must_look_again() || self.fetches.has_lines();
        self.reads_due = must_look_again.then(|| now.plus_ms(READS_LOOK_MS));
        for Stalled { connection, if_silent_ms } in self.reads.stalled(now.monotonic_ns) {
            let why =
                "it does not take its answers, and others wait for the memory that they hold.".to_string();
            self.actions.push_back(Action::Close { connection, why, if_silent_ms });
        }
    }

    /// Nobody waits for these any more.
    pub(super) fn forget_reads(&mut self, connection: ConnectionId) {
        for token in self.reads.forget(connection) {
            self.fetches.take_reading(token);
        }
    }

    /// How far it may read. Between the high watermark and the log end a consumer waits: it read there under an older leader.
    fn bound_of(&self, job: &FetchJob) -> Offset {
        match job.reader {
            Reader::Consumer { .. } => self.engine.raft().high_watermark().map_or(job.from, |hw| hw.0),
            Reader::Replica { .. } => self.engine.log().log_end().0,
        }
    }

    /// `there`: bytes that are there and too few. Which those are need not be looked at again before the rest is committed.
    fn park_fetch(&mut self, id: u64, mut job: FetchJob, there: usize) {
        let missing = job.min_bytes.min(job.max_bytes).saturating_sub(there).max(1);
        job.wake_at = self.engine.counts().committed_bytes + missing as u64;
        match self.has_place(&job, self.fetches.parked_partitions()) {
            true => self.fetches.park(id, job),
            false => self.finish_fetch(job, BatchList::default()),
        }
    }

    /// There are places for so many partitions of clients' Fetches, and as many for those that will have records: who only
    /// waits keeps nobody from what is there. A voter always has one: each has one Fetch at a time.
    fn has_place(&self, job: &FetchJob, taken: usize) -> bool {
        job.is_voter || taken + job.partitions() <= self.limits.parked_requests_max
    }

    /// An empty answer is due: the wait is over, or the replica does not know our high watermark yet, or the consumer wants
    /// nothing but to know whether there is anything.
    fn is_due(&self, now: Now, job: &FetchJob) -> bool {
        let news = match job.reader {
            Reader::Consumer { .. } => job.min_bytes == 0,
            Reader::Replica { high_watermark, .. } => self.engine.raft().high_watermark() > high_watermark,
        };
        news || job.deadline_ns <= now.monotonic_ns
    }

    /// At the end of a turn: hand new batches to parked followers, new commits to parked consumers.
    pub(super) fn wake_fetches(&mut self, now: Now) {
        let has_high_watermark = self.engine.raft().high_watermark().is_some();
        let is_first = has_high_watermark && !self.fetches.had_high_watermark;
        self.fetches.had_high_watermark = has_high_watermark;
        if self.engine.has_role_changed() || is_first {
            // Who waited hears of another leader; what was committed before this one's epoch was not counted for it.
            self.fetches.recheck_up_to = self.next_id;
        }
        let replicas = self.fetches.by_replica.values().copied();
        let is_news = |id: &u64| {
            self.fetches.get_parked(*id).is_some_and(|job| {
                self.engine.has_role_changed()
                    || self.engine.log().log_end().0 > job.from
                    || self.is_due(now, job)
            })
        };
        let mut awake: SmallVec<[u64; AWAKE_INLINE]> = replicas.filter(is_news).collect();
        // As many as one turn serves: the others stay where they are found again, and a turn for them is due at once.
        awake.extend(self.fetches.ready(self.engine.counts().committed_bytes).take(CONSUMERS_WOKEN_MAX));
        awake.extend(self.fetches.due(now.monotonic_ns).take(CONSUMERS_WOKEN_MAX));
        awake.extend(self.fetches.to_recheck().take(CONSUMERS_WOKEN_MAX));
        for id in awake {
            match self.fetches.unpark(id) {
                Some(job) if self.engine.leads_in(job.epoch) => self.try_fetch(now, job),
                Some(job) => self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER),
                None => {}
            }
        }
    }

    pub(super) fn on_read_done(
        &mut self,
        now: Now,
        token: u64,
        result: Result<Vec<StampedBatch>, ReadError>,
    ) {
        if self.searches.get(token).is_some() {
            return self.on_scan_read(now, token, result);
        }
        let Some(job) = self.fetches.take_reading(token) else { return };
        if !self.engine.leads_in(job.epoch) {
            return self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        match result {
            Ok(batches) => {
                self.engine.on_readable(&batches);
                self.hear_engine(now);
                let from_device = shared_bytes(&batches);
                self.finish_with(job, batches.into(), from_device)
            }
            // Cut or rolled under the read: look again.
            Err(ReadError::Gone) => self.try_fetch(now, job),
            Err(error) => {
                self.engine.on_unreadable(now, "cannot serve", job.from, &error);
                self.hear_engine(now);
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
                self.answer_consumer(&job.ticket, topics, None);
            }
        }
    }

    fn finish_fetch(&mut self, job: FetchJob, batches: BatchList) {
        self.finish_with(job, batches, 0)
    }

    /// `from_device`: so many of their bytes are sent from what the device was read into.
    fn finish_with(&mut self, job: FetchJob, batches: BatchList, from_device: usize) {
        if !self.engine.leads_in(job.epoch) {
            return self.fail_fetch(job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let bytes = batches.iter().map(StampedBatch::size_bytes).sum::<usize>();
        self.counters.fetched_bytes += bytes as u64;
        let given = self.share_of(&job).filter(|_| bytes > 0).map(|share| share.give(bytes, from_device));
        match job.reader {
            Reader::Replica { .. } => self.answer_replica(&job.ticket, None, batches, given),
            Reader::Consumer { mut topics, place } => {
                let high_watermark = self.engine.raft().high_watermark().map_or(-1, |hw| hw.0.0);
                let partition = partition_at(&mut topics, place);
                (partition.high_watermark, partition.last_stable_offset) = (high_watermark, high_watermark);
                partition.records = batches;
                self.answer_consumer(&job.ticket, topics, given);
            }
        }
    }

    fn answer_consumer(&mut self, ticket: &Ticket, topics: Topics, given: Option<Given>) {
        let names_leader = topics.iter().flat_map(|t| &t.partitions).any(|p| p.current_leader.is_some());
        let node_endpoints =
            self.leader_endpoint_for_clients().filter(|_| names_leader).into_iter().collect();
        let response = protocol::FetchResponse { topics, node_endpoints, ..Default::default() };
        self.answer_given(ticket, Response::Fetch(response), given);
    }

    fn answer_replica(
        &mut self,
        ticket: &Ticket,
        diverging: Option<OffsetAndEpoch>,
        records: BatchList,
        given: Option<Given>,
    ) {
        let told = raft::FetchResponse {
            high_watermark: self.engine.raft().high_watermark(),
            diverging,
            lagging: self.engine.lagging(),
            ..self.answer_of(ErrorCode::NONE)
        };
        let response = fetch_response(&self.context, &told, self.engine.log().log_start(), records);
        self.answer_given(ticket, Response::Fetch(response), given);
    }

    fn refuse_replica(&mut self, ticket: &Ticket, error: ErrorCode) {
        let response = fetch_response(
            &self.context,
            &self.answer_of(error),
            self.engine.log().log_start(),
            BatchList::default(),
        );
        self.answer(ticket, Response::Fetch(response));
    }

    /// A voter always hears who leads in which epoch, also that nobody does.
    fn answer_of(&self, error: ErrorCode) -> raft::FetchResponse {
        raft::FetchResponse {
            error,
            leader: self.engine.raft().leader(),
            epoch: self.engine.raft().epoch(),
            high_watermark: None,
            diverging: None,
            snapshot: None,
            lagging: 0,
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
