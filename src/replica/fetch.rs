//! Fetch: consumers up to the high watermark, replicas up to the log end; both parked until there is something.
//!
//! Called by `Replica`. A consumer never sees a record at or above the high watermark (Java's raft server shows
//! uncommitted records to anyone: not ours to copy). Sessions are refused as Kafka refuses them (KIP-227): each
//! answer says session 0, and clients go on with full fetches.

mod answer;
mod waiting;

use std::sync::Arc;

use super::connection_id::ConnectionId;
use super::desk::{Desk, Engine};
use super::input::Ticket;
use super::room::answers::Share;
use super::room::reads::Reader as DeviceReader;
use crate::log::{ReadError, ReadOutcome, Want};
use crate::protocol::fetch::shared_bytes;
use crate::protocol::{self, FetchRequest, Response};
use crate::raft::{self, FetchVerdict, RequestId};
use crate::record::BatchList;
use crate::types::*;
use answer::{
    Wanted, answer_consumer, answer_replica, consumer_skeleton, fail_fetch, name_snapshot, partition_at,
    refuse_replica, session_error,
};
use smallvec::SmallVec;
use std::collections::BTreeMap;
use waiting::{FetchJob, Fetches, Reader};

/// Of an answer. Nearly always one.
type Topics = SmallVec<[protocol::FetchTopic; 1]>;

/// So many that wake in one turn need no list of their own: a voter or two, and what consumers there are.
const AWAKE_INLINE: usize = 8;
/// Consumers that one turn serves; voters are served before them, and the others have the next turn.
const CONSUMERS_WOKEN_MAX: usize = 256;

/// What a Fetch wants to read from the device.
pub(super) struct Wish {
    pub(super) from: Offset,
    pub(super) bound: Offset,
    /// `None`: of nobody who reads on.
    pub(super) reader: Option<DeviceReader>,
    /// It may still be answered.
    pub(super) is_valid: bool,
}

/// All Fetches that wait.
#[derive(Default)]
pub(super) struct Fetch {
    fetches: Fetches,
    /// Replicas', of which Raft has not said yet what is to become of them.
    unjudged: BTreeMap<RequestId, (Ticket, raft::FetchRequest)>,
    /// What each core's clients may be given. Of one that is not named here, all that they ask for.
    shares: Vec<Arc<Share>>,
}

impl Fetch {
    /// What the clients of each core may be given: told once, at the start.
    pub(super) fn share_answers(&mut self, shares: Vec<Arc<Share>>) {
        self.fetches.set_lines(shares.len());
        self.shares = shares;
    }

    /// A consumer's.
    pub(super) fn on_request(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        ticket: Ticket,
        request: &FetchRequest,
    ) {
        desk.counters.fetch_requests += 1;
        if let Some(error) = session_error(request) {
            let response = protocol::FetchResponse { error: error.0, ..Default::default() };
            return desk.answer(&ticket, Response::Fetch(response));
        }
        let (topics, ours) = consumer_skeleton(engine, desk, request, ticket.api_version);
        // An error is told at once, with what there is (Kafka: `ReplicaManager.fetchMessages`).
        let has_error = topics.iter().flat_map(|topic| &topic.partitions).any(|p| !p.error.is_none());
        let Some(Wanted { place, from, max_bytes: partition_max_bytes }) = ours else {
            return answer_consumer(engine, desk, &ticket, topics, None);
        };
        let max_bytes = request.max_bytes.min(partition_max_bytes).max(0) as usize;
        let job = FetchJob {
            from,
            max_bytes: max_bytes.min(desk.limits.fetch_response_bytes_max),
            min_bytes: if has_error { 0 } else { request.min_bytes.max(0) as usize },
            deadline_ns: desk.now.plus_ms(desk.wait_ms(request.max_wait_ms)),
            epoch: engine.raft().epoch(),
            reader: Reader::Consumer { topics, place },
            is_voter: false,
            wake_at: 0,
            ticket,
        };
        self.try_fetch(engine, desk, job);
    }

    /// Answer parked voter Fetches of this connection, empty.
    pub(super) fn release_parked_of(&mut self, engine: &Engine, desk: &mut Desk, connection: ConnectionId) {
        while let Some(job) = self.fetches.unpark_of(connection) {
            self.finish_fetch(engine, desk, job, BatchList::default());
        }
    }

    /// A replica's. Raft is asked what is to become of it, and says so with `on_verdict`.
    pub(super) fn await_verdict(
        &mut self,
        request_id: RequestId,
        ticket: Ticket,
        request: raft::FetchRequest,
    ) {
        self.unjudged.insert(request_id, (ticket, request));
    }

    /// Raft's decision about a replica's Fetch.
    pub(super) fn on_verdict(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        request_id: RequestId,
        verdict: FetchVerdict,
    ) {
        let asked = self.unjudged.remove(&request_id);
        let (ticket, request) = asked.expect("Raft judges only Fetches that were made");
        let from = match verdict {
            FetchVerdict::Refused(error) => return refuse_replica(engine, desk, &ticket, error),
            FetchVerdict::Diverging(end) => {
                return answer_replica(engine, desk, &ticket, Some(end), BatchList::default(), None);
            }
            FetchVerdict::Snapshot { id, begin } => return name_snapshot(engine, desk, &ticket, id, begin),
            FetchVerdict::Read { from } => from,
        };
        // A newer Fetch of the same replica takes the place of its older parked one.
        if let Some(older) = self.fetches.by_replica.get(&request.replica.id).copied()
            && let Some(job) = self.fetches.unpark(older)
        {
            self.finish_fetch(engine, desk, job, BatchList::default());
        }
        let reader = Reader::Replica { id: request.replica.id, high_watermark: request.high_watermark };
        let job = FetchJob {
            ticket,
            from,
            // One batch is read whatever it measures.
            max_bytes: if request.one_batch { 1 } else { desk.limits.replica_fetch_bytes_max },
            min_bytes: 1,
            deadline_ns: desk.now.plus_ms(desk.wait_ms(request.max_wait_ms)),
            epoch: engine.raft().epoch(),
            is_voter: desk.context.voters.iter().any(|(voter, _)| *voter == request.replica.id),
            reader,
            wake_at: 0,
        };
        self.try_fetch(engine, desk, job);
    }

    /// At the end of a turn: hand new batches to parked followers, new commits to parked consumers.
    pub(super) fn wake(&mut self, engine: &mut Engine, desk: &mut Desk) {
        let has_high_watermark = engine.raft().high_watermark().is_some();
        let is_first = has_high_watermark && !self.fetches.had_high_watermark;
        self.fetches.had_high_watermark = has_high_watermark;
        if engine.has_role_changed() || is_first {
            // Who waited hears of another leader; what was committed before this one's epoch was not counted for it.
            self.fetches.recheck_up_to = desk.last_id();
        }
        let replicas = self.fetches.by_replica.values().copied();
        let is_news = |id: &u64| {
            self.fetches.get_parked(*id).is_some_and(|job| {
                engine.has_role_changed()
                    || engine.is_start_named()
                    || engine.log().log_end().0 > job.from
                    || is_due(engine, desk.now, job)
            })
        };
        let mut awake: SmallVec<[u64; AWAKE_INLINE]> = replicas.filter(is_news).collect();
        // As many as one turn serves: the others stay where they are found again, and a turn for them is due at once.
        awake.extend(self.fetches.ready(engine.counts().committed_bytes).take(CONSUMERS_WOKEN_MAX));
        awake.extend(self.fetches.due(desk.now.monotonic_ns).take(CONSUMERS_WOKEN_MAX));
        awake.extend(self.fetches.to_recheck().take(CONSUMERS_WOKEN_MAX));
        for id in awake {
            match self.fetches.unpark(id) {
                Some(job) if engine.leads_in(job.epoch) => self.try_fetch(engine, desk, job),
                Some(job) => fail_fetch(engine, desk, job, ErrorCode::NOT_LEADER_OR_FOLLOWER),
                None => {}
            }
        }
    }

    /// Those who wait for what others have not taken, as far as there is room again.
    pub(super) fn answer_waiting(&mut self, engine: &mut Engine, desk: &mut Desk) {
        for core in 0..self.fetches.lines() {
            let mut has_moved = false;
            while let Some(job) = self.fetches.next_in_line(core) {
                if !engine.leads_in(job.epoch) {
                    fail_fetch(engine, desk, job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
                } else if let Some(job) = self.fetch_what_fits(engine, desk, job) {
                    self.fetches.stay_first(job);
                    break;
                }
                has_moved = true;
            }
            let (share, is_wanted) = (&self.shares[core], self.fetches.has_line(core));
            if has_moved || is_wanted != share.is_wanted() {
                share.set_wanted(is_wanted.then_some(desk.now.monotonic_ns));
            }
        }
    }

    /// Where it waits for the device: what it wants to read. `None`: it does not wait there any more.
    pub(super) fn wants_read(&self, engine: &Engine, token: u64) -> Option<Wish> {
        let job = self.fetches.get_reading(token)?;
        // While it waited the log may have been cut, and another may lead.
        let is_valid = engine.leads_in(job.epoch) && check_start(engine, job).is_ok();
        Some(Wish {
            from: job.from,
            bound: bound_of(engine, job),
            reader: Some(device_reader(job)),
            is_valid,
        })
    }

    /// What was read for it from the device, or why it was not.
    pub(super) fn on_read(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        token: u64,
        result: Result<BatchList, ReadError>,
    ) {
        let Some(job) = self.fetches.take_reading(token) else { return };
        if !engine.leads_in(job.epoch) {
            return fail_fetch(engine, desk, job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        // The start has passed it while the device read: what there was is served no more, and if it is bad, no matter.
        if check_start(engine, &job).is_err() {
            return self.try_fetch(engine, desk, job);
        }
        match result {
            Ok(batches) => self.finish_from_piece(engine, desk, job, batches),
            // Cut or rolled under the read: look again.
            Err(ReadError::Gone) => self.try_fetch(engine, desk, job),
            Err(error) => {
                engine.on_unreadable(desk.now, "cannot serve", job.from, &error);
                desk.take_notes(engine);
                fail_fetch(engine, desk, job, ErrorCode::KAFKA_STORAGE_ERROR);
            }
        }
    }

    /// What it waited for lies in a block.
    pub(super) fn on_block(&mut self, engine: &mut Engine, desk: &mut Desk, token: u64, batches: BatchList) {
        if let Some(job) = self.fetches.take_reading(token) {
            // It says nothing of the device, which was not read for it.
            self.finish_from_piece(engine, desk, job, batches);
        }
    }

    /// It needs the device no more: what it wanted lies in memory now, or is gone.
    pub(super) fn read_otherwise(&mut self, engine: &mut Engine, desk: &mut Desk, token: u64) {
        let Some(job) = self.fetches.take_reading(token) else { return };
        match engine.leads_in(job.epoch) {
            true => self.try_fetch(engine, desk, job),
            false => fail_fetch(engine, desk, job, ErrorCode::NOT_LEADER_OR_FOLLOWER),
        }
    }

    /// Nobody waits for it any more.
    pub(super) fn forget_read(&mut self, token: u64) {
        self.fetches.take_reading(token);
    }

    fn try_fetch(&mut self, engine: &mut Engine, desk: &mut Desk, job: FetchJob) {
        let core = job.ticket.connection.core();
        // Nobody passes those who wait.
        let waits = self.share_of(&job).is_some() && self.fetches.has_line(core);
        let waits = if waits { Some(job) } else { self.fetch_what_fits(engine, desk, job) };
        match waits {
            Some(job) if self.has_place(desk, &job, self.fetches.served_partitions()) => {
                self.fetches.stand_in_line(job)
            }
            Some(job) => self.finish_fetch(engine, desk, job, BatchList::default()),
            None => {}
        }
    }

    /// Gives it back where it has to wait for what others have not taken.
    fn fetch_what_fits(&mut self, engine: &mut Engine, desk: &mut Desk, job: FetchJob) -> Option<FetchJob> {
        if let Err(error) = check_start(engine, &job) {
            fail_fetch(engine, desk, job, error);
            return None;
        }
        let bound = bound_of(engine, &job);
        let id = desk.fresh_id();
        match engine.read_memory(job.from, bound, job.max_bytes) {
            ReadOutcome::InBlock => self.fetch_block(engine, desk, id, job, bound),
            ReadOutcome::OnDevice => self.fetch_later(engine, desk, id, job),
            ReadOutcome::Batches(batches) => {
                let bytes = batches.size_bytes();
                // A full answer is as good as the least that was asked for.
                if bytes >= job.min_bytes.min(job.max_bytes) || job.deadline_ns <= desk.now.monotonic_ns {
                    match self.within_share(engine, &job, batches, bytes) {
                        Some(batches) => self.finish_fetch(engine, desk, job, batches),
                        None => return Some(job),
                    }
                } else {
                    self.park_fetch(engine, desk, id, job, bytes);
                }
            }
            ReadOutcome::Empty if is_due(engine, desk.now, &job) => {
                self.finish_fetch(engine, desk, job, BatchList::default())
            }
            ReadOutcome::Empty => self.park_fetch(engine, desk, id, job, 0),
            ReadOutcome::OutOfRange => fail_fetch(engine, desk, job, ErrorCode::OFFSET_OUT_OF_RANGE),
        }
        None
    }

    /// Where the memory that its answer pins is to be had, it is answered at once.
    fn fetch_block(&mut self, engine: &mut Engine, desk: &mut Desk, id: u64, job: FetchJob, bound: Offset) {
        let now_ns = desk.now.monotonic_ns;
        let Some((charge, most)) = desk.reads.ask_memory(device_reader(&job), job.max_bytes, now_ns) else {
            return self.fetch_later(engine, desk, id, job);
        };
        let want = Want { from: job.from, bound, max_bytes: most, keep: charge };
        let batches = engine.read_block(want).unwrap_or_default();
        self.finish_from_piece(engine, desk, job, batches);
    }

    /// When it is its turn at the device, or for the memory of an answer.
    fn fetch_later(&mut self, engine: &mut Engine, desk: &mut Desk, id: u64, job: FetchJob) {
        if !self.has_place(desk, &job, self.fetches.served_partitions()) {
            return self.finish_fetch(engine, desk, job, BatchList::default());
        }
        desk.reads.ask(id, device_reader(&job), job.max_bytes);
        self.fetches.read(id, job);
    }

    /// As many of the batches as its share has left, one at least; `None`: not even that.
    fn within_share(
        &self,
        engine: &mut Engine,
        job: &FetchJob,
        batches: BatchList,
        bytes: usize,
    ) -> Option<BatchList> {
        let Some(share) = self.share_of(job).filter(|share| !share.fits(bytes)) else { return Some(batches) };
        let left = share.left();
        let ReadOutcome::Batches(fewer) = engine.read_memory(job.from, bound_of(engine, job), left) else {
            return None;
        };
        (fewer.size_bytes() <= left).then_some(fewer)
    }

    /// `None`: voters' are not counted, nor those whose core has no bound.
    fn share_of(&self, job: &FetchJob) -> Option<&Arc<Share>> {
        let core = job.ticket.connection.core();
        self.shares.get(core).filter(|_| matches!(device_reader(job), DeviceReader::Client(_)))
    }

    /// `there`: bytes that are there and too few. Which those are need not be looked at again before the rest is committed.
    fn park_fetch(&mut self, engine: &Engine, desk: &mut Desk, id: u64, mut job: FetchJob, there: usize) {
        let missing = job.min_bytes.min(job.max_bytes).saturating_sub(there).max(1);
        job.wake_at = engine.counts().committed_bytes + missing as u64;
        match self.has_place(desk, &job, self.fetches.parked_partitions()) {
            true => self.fetches.park(id, job),
            false => self.finish_fetch(engine, desk, job, BatchList::default()),
        }
    }

    /// There are places for so many partitions of clients' Fetches, and as many for those that will have records: who only
    /// waits keeps nobody from what is there. A voter always has one: each has one Fetch at a time.
    fn has_place(&self, desk: &Desk, job: &FetchJob, taken: usize) -> bool {
        job.is_voter || taken + job.partitions() <= desk.limits.parked_requests_max
    }

    /// These lie in memory that was read into.
    fn finish_from_piece(&self, engine: &Engine, desk: &mut Desk, job: FetchJob, batches: BatchList) {
        let pinned = shared_bytes(&batches);
        let reader = device_reader(&job);
        // Who has gone meanwhile is not noted again: nobody would forget it.
        if let Some((_, next)) = batches.ends().filter(|_| desk.reads.knows(reader)) {
            desk.ahead.on_answered(reader, job.from, next);
        }
        self.finish_with(engine, desk, job, batches, pinned);
    }

    fn finish_fetch(&self, engine: &Engine, desk: &mut Desk, job: FetchJob, batches: BatchList) {
        self.finish_with(engine, desk, job, batches, 0)
    }

    /// `from_device`: so many of their bytes are sent from what the device was read into.
    fn finish_with(
        &self,
        engine: &Engine,
        desk: &mut Desk,
        job: FetchJob,
        batches: BatchList,
        from_device: usize,
    ) {
        if !engine.leads_in(job.epoch) {
            return fail_fetch(engine, desk, job, ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        // It may have waited for them while others were told a later start.
        if let Err(error) = check_start(engine, &job) {
            return fail_fetch(engine, desk, job, error);
        }
        let bytes = batches.size_bytes();
        desk.counters.fetched_bytes += bytes as u64;
        let given = self.share_of(&job).filter(|_| bytes > 0).map(|share| share.give(bytes, from_device));
        match job.reader {
            Reader::Replica { .. } => answer_replica(engine, desk, &job.ticket, None, batches, given),
            Reader::Consumer { mut topics, place } => {
                let high_watermark = engine.raft().high_watermark().map_or(-1, |hw| hw.0.0);
                let partition = partition_at(&mut topics, place);
                (partition.high_watermark, partition.last_stable_offset) = (high_watermark, high_watermark);
                // It may have waited long, and others have been told a later start since.
                partition.log_start_offset = engine.told_start_or_none();
                partition.records = batches;
                answer_consumer(engine, desk, &job.ticket, topics, given);
            }
        }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.fetches.forget(connection);
    }

    pub(super) fn deadline(&self, engine: &Engine) -> Option<u64> {
        let ready = self.fetches.has_ready(engine.counts().committed_bytes).then_some(0);
        ready.or_else(|| self.fetches.deadline())
    }

    /// Some wait until others have taken their answers.
    pub(super) fn has_lines(&self) -> bool {
        self.fetches.has_lines()
    }

    /// All that wait.
    pub(super) fn waiting(&self) -> usize {
        self.fetches.len()
    }

    /// Those of them that wait for records.
    pub(super) fn parked(&self) -> usize {
        self.fetches.parked()
    }

    #[cfg(test)]
    pub(super) fn fetches(&self) -> &Fetches {
        &self.fetches
    }
}

/// An observer is read for as a client is.
fn device_reader(job: &FetchJob) -> DeviceReader {
    match job.reader {
        Reader::Replica { id, .. } if job.is_voter => DeviceReader::Voter(id),
        _ => DeviceReader::Client(job.ticket.connection),
    }
}

/// A replica is given the batch in which the start lies, too.
fn check_start(engine: &Engine, job: &FetchJob) -> Result<(), ErrorCode> {
    let floor = match job.reader {
        Reader::Consumer { .. } => {
            engine.check_start(job.from)?;
            engine.log().log_start()
        }
        Reader::Replica { .. } => engine.log().begin().offset,
    };
    match job.from < floor {
        true => Err(ErrorCode::OFFSET_OUT_OF_RANGE),
        false => Ok(()),
    }
}

/// How far it may read. Between the high watermark and the log end a consumer waits: it read there under an older leader.
fn bound_of(engine: &Engine, job: &FetchJob) -> Offset {
    match job.reader {
        Reader::Consumer { .. } => engine.raft().high_watermark().map_or(job.from, |hw| hw.0),
        Reader::Replica { .. } => engine.log().log_end().0,
    }
}

/// An empty answer is due: the wait is over, or the replica does not know our high watermark yet, or the start that is named, or
/// the consumer wants nothing but to know whether there is anything.
fn is_due(engine: &Engine, now: Now, job: &FetchJob) -> bool {
    let news = match job.reader {
        Reader::Consumer { .. } => job.min_bytes == 0,
        Reader::Replica { high_watermark, .. } => {
            engine.raft().high_watermark() > high_watermark || engine.is_start_named()
        }
    };
    news || job.deadline_ns <= now.monotonic_ns
}
