//! Produce: from checked batches to offsets, and from durable offsets to answers.
//!
//! Called by `Replica`: with requests, with what the engine tells, and at the end of a turn. Follows Kafka's
//! `ReplicaManager.appendRecords` and `UnifiedLog.append`, with one difference: nothing is promised before it is durable
//! (acks=1 waits for this node's flush, acks=-1 for the high watermark, which counts only flushed offsets).

mod newcomers;
mod purgatory;

use super::admit::{AdmittedPartition, AdmittedProduce};
use super::connection_id::ConnectionId;
use super::desk::{Desk, Engine};
use super::folds::Verdict;
use super::input::Ticket;
use super::notice::Level;
use super::requests;
use super::slowest::{Passed, SlowRequest};
use crate::protocol::produce::{ProducedPartition, ProducedTopic, TOPIC_ID_FROM};
use crate::protocol::{ProduceResponse, Response};
use crate::record::{BatchHeader, StampedBatch};
use crate::types::*;
use newcomers::Newcomers;
use purgatory::{ParkedProduce, PartitionAnswer, PartitionAnswers, Promise, Purgatory};
use smallvec::smallvec;

/// At one bound nothing more is read from producers that are known (`Replica::is_full`). What new connections bring, and
/// what waited for a quorum state, passes it: up to so many bounds.
const UNCOMMITTED_BOUNDS_MAX: u64 = 2;

/// Between two lines about refused timestamps.
const TIMESTAMP_LINE_INTERVAL_MS: u64 = 10_000;

#[derive(Default)]
pub(super) struct Produce {
    newcomers: Newcomers,
    purgatory: Purgatory,
    /// Monotonic ns at which the high watermark last moved.
    committed_ns: u64,
    timestamp_noted_ns: Option<u64>,
}

impl Produce {
    pub(super) fn on_request(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        ticket: Ticket,
        request: AdmittedProduce,
    ) {
        desk.counters.produce_requests += 1;
        let promise = match request.acks {
            0 => None,
            1 => Some(Promise::Flushed),
            _ => Some(Promise::Committed),
        };
        let acks_valid = (-1..=1).contains(&request.acks);
        let parked_full = self.purgatory.len() >= desk.limits.parked_requests_max;
        let mut answers = PartitionAnswers::new();
        for partition in request.partitions {
            let refusal = match () {
                _ if !acks_valid => Some((ErrorCode::INVALID_REQUIRED_ACKS, "acks is none of -1, 0, 1")),
                _ if request.transactional => {
                    Some((ErrorCode::UNSUPPORTED_VERSION, requests::NO_TRANSACTIONS))
                }
                _ if parked_full => {
                    Some((ErrorCode::REQUEST_TIMED_OUT, "too many requests wait for a commit"))
                }
                _ => None,
            };
            answers.push(match refusal {
                Some((error, why)) => refuse(partition, error, Some(why.to_string())),
                None => self.append_partition(engine, desk, &ticket, partition),
            });
        }
        desk.counters.refused_requests += answers.iter().any(|a| !a.error.is_none()) as u64;
        match promise {
            None => answer_nothing(desk, &ticket, &answers),
            Some(promise) => self.park_or_answer(engine, desk, ticket, promise, request.timeout_ms, answers),
        }
    }

    fn append_partition(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        ticket: &Ticket,
        partition: AdmittedPartition,
    ) -> PartitionAnswer {
        if !partition.ours {
            let unknown = match ticket.api_version >= TOPIC_ID_FROM {
                true => ErrorCode::UNKNOWN_TOPIC_ID,
                false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
            };
            return refuse(partition, unknown, None);
        }
        if !engine.raft().can_append() {
            return refuse(partition, ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
        }
        if !engine.has_disk_room() {
            let why = "the disk is full: fewer bytes are free than kraft.disk.free.min.bytes".to_string();
            return refuse(partition, ErrorCode::KAFKA_STORAGE_ERROR, Some(why));
        }
        if engine.uncommitted_bytes() >= desk.limits.uncommitted_bytes_max * UNCOMMITTED_BOUNDS_MAX {
            let why = "no majority has taken what came before: kraft.uncommitted.max.bytes has been reached twice over";
            return refuse(partition, ErrorCode::NOT_ENOUGH_REPLICAS, Some(why.to_string()));
        }
        let AdmittedPartition { topic_name, topic_id, index, batch, ours } = partition;
        let nothing =
            |batch| AdmittedPartition { topic_name: topic_name.clone(), topic_id, index, batch, ours };
        let batch = match batch {
            Ok(batch) => batch,
            Err(mut error) => {
                let blamed = error.take_record_errors().into_iter().map(|e| (e.index, e.why));
                let (code, why) = (error.error(), error.to_string());
                if code == ErrorCode::INVALID_TIMESTAMP {
                    self.on_timestamp_refused(desk, &why);
                }
                let refused = refuse(nothing(Err(error)), code, Some(why));
                return PartitionAnswer { record_errors: blamed.collect(), ..refused };
            }
        };
        let answer = |base: Offset, next: Offset| PartitionAnswer {
            topic_name: topic_name.clone(),
            topic_id,
            index,
            error: ErrorCode::NONE,
            message: None,
            record_errors: Vec::new(),
            base_offset: base.0,
            needs: Some(next),
        };
        let verdict = engine.folds().producers().check(batch.header());
        if matches!(verdict, Verdict::Newcomer)
            && let Err(why) = self.admit_newcomer(engine, desk, ticket, batch.header())
        {
            return refuse(nothing(Ok(batch)), ErrorCode::POLICY_VIOLATION, Some(why));
        }
        match verdict {
            Verdict::Refused(error) => refuse(nothing(Ok(batch)), error, None),
            Verdict::Duplicate { base_offset, last_offset, timestamp: _ } => {
                desk.counters.duplicate_batches += 1;
                answer(base_offset, Offset(last_offset.0 + 1))
            }
            Verdict::New | Verdict::Newcomer => {
                let (base, next) = append(engine, desk, batch);
                answer(base, next)
            }
        }
    }

    /// A producer takes it for final and drops its records: whoever runs the node hears of it.
    fn on_timestamp_refused(&mut self, desk: &mut Desk, why: &str) {
        desk.counters.refused_timestamps += 1;
        let now_ns = desk.now.monotonic_ns;
        let is_early = |at| now_ns < at + TIMESTAMP_LINE_INTERVAL_MS * NS_PER_MS;
        if self.timestamp_noted_ns.is_some_and(is_early) {
            return;
        }
        self.timestamp_noted_ns = Some(now_ns);
        let text = format!(
            "refused a batch with INVALID_TIMESTAMP, and its producer drops the records: {why}. See that the clocks of this host \
             and of the producer's are right; the bounds are log.message.timestamp.after.max.ms and \
             log.message.timestamp.before.max.ms. {} batches were refused so since the start",
            desk.counters.refused_timestamps
        );
        desk.note(Level::Warn, text);
    }

    /// The first batch of a producer id. An error that clients do not repeat: what it says is told to whoever runs them, and
    /// the wait is longer than any delivery timeout.
    fn admit_newcomer(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        ticket: &Ticket,
        header: &BatchHeader,
    ) -> Result<(), String> {
        let producers = engine.folds().producers();
        let admitted = self.newcomers.admit(desk.now, ticket.connection, producers, header, &desk.limits);
        if let Err(why) = &admitted {
            desk.note_refused(|_| Some(format!("refused a new producer: {why}")));
        }
        admitted
    }

    fn park_or_answer(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        ticket: Ticket,
        promise: Promise,
        timeout_ms: i32,
        answers: PartitionAnswers,
    ) {
        let needs = answers.iter().filter_map(|a| a.needs).max();
        // The client's time is one for the other replicas: Kafka answers acks=1 as soon as it has written, whatever the
        // time. A flush that takes longer than this ends the leader.
        let wait_ms = match promise {
            Promise::Committed => timeout_ms.max(0) as u64,
            Promise::Flushed => desk.limits.flush_stall_ms_max.max(timeout_ms.max(0) as u64),
        };
        let wait_ms = wait_ms.min(desk.limits.request_wait_ms_max);
        let parked = ParkedProduce {
            ticket,
            answers,
            epoch: engine.raft().epoch(),
            appended_ns: desk.now.monotonic_ns,
            flushed_ns: 0,
            deadline_ns: desk.now.plus_ms(wait_ms),
        };
        match needs {
            None => answer(engine, desk, parked),
            // Kept at once when it is a duplicate of something committed: `end_turn` is behind it.
            Some(needs) => self.purgatory.park(promise, needs, parked),
        }
    }

    pub(super) fn on_flushed(&mut self, flushed: FlushedOffset, now: Now) {
        self.purgatory.on_flushed(flushed, now);
    }

    pub(super) fn on_committed(&mut self, now: Now) {
        self.committed_ns = now.monotonic_ns;
    }

    pub(super) fn end_turn(&mut self, engine: &Engine, desk: &mut Desk) {
        self.settle(engine, desk);
        self.newcomers.on_turn(desk.now, engine.raft().log_end(), &desk.limits);
    }

    /// Answer what is kept, what can no longer be kept, and what waited too long.
    fn settle(&mut self, engine: &Engine, desk: &mut Desk) {
        if engine.has_role_changed() {
            let leading = engine.raft().is_leader().then(|| engine.raft().epoch());
            for parked in self.purgatory.take_outdated(leading) {
                give_up(engine, desk, parked, ErrorCode::NOT_LEADER_OR_FOLLOWER, None);
            }
        }
        if let Some(high_watermark) = engine.raft().high_watermark() {
            while let Some(parked) = self.purgatory.pop_kept(Promise::Committed, high_watermark.0) {
                let committed_ns = self.committed_ns.max(parked.appended_ns);
                acknowledge(engine, desk, parked, Some(committed_ns));
            }
        }
        while let Some(parked) = self.purgatory.pop_kept(Promise::Flushed, engine.log().flushed().0) {
            acknowledge(engine, desk, parked, None);
        }
        for parked in self.purgatory.take_expired(desk.now) {
            // The record may still commit, as in Kafka (DelayedProduce.onExpiration).
            let why = "the record was appended but not committed within timeout.ms".to_string();
            give_up(engine, desk, parked, ErrorCode::REQUEST_TIMED_OUT, Some(why));
        }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.newcomers.on_closed(connection);
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.purgatory.deadline()
    }

    /// Requests that wait.
    pub(super) fn parked(&self) -> usize {
        self.purgatory.len()
    }
}

fn refuse(partition: AdmittedPartition, error: ErrorCode, message: Option<String>) -> PartitionAnswer {
    PartitionAnswer {
        topic_name: partition.topic_name,
        topic_id: partition.topic_id,
        index: partition.index,
        error,
        message,
        record_errors: Vec::new(),
        base_offset: -1,
        needs: None,
    }
}

fn append(engine: &mut Engine, desk: &mut Desk, batch: StampedBatch) -> (Offset, Offset) {
    desk.counters.produced_batches += 1;
    desk.counters.produced_records += batch.header().record_count as u64;
    desk.counters.produced_bytes += batch.size_bytes() as u64;
    let place = engine.append(desk.now, batch);
    desk.take_notes(engine);
    place
}

/// acks=0 has no answer; an error is told by closing the connection, as Kafka does.
fn answer_nothing(desk: &mut Desk, ticket: &Ticket, answers: &[PartitionAnswer]) {
    desk.answer_nothing(ticket);
    if let Some(refused) = answers.iter().find(|a| !a.error.is_none()) {
        desk.close(ticket.connection, format!("produce with acks=0 failed with {}", refused.error.name()));
    }
}

/// What it was promised is kept. `committed_ns`: where that was a commit.
fn acknowledge(engine: &Engine, desk: &mut Desk, parked: ParkedProduce, committed_ns: Option<u64>) {
    let slow = as_slow(desk, &parked, committed_ns, None);
    desk.stages.record(&slow.passed);
    desk.stages.slowest.offer(slow);
    answer(engine, desk, parked);
}

/// It cannot be kept any more, or was not in time. No histogram has it, which are of what was acknowledged.
fn give_up(
    engine: &Engine,
    desk: &mut Desk,
    mut parked: ParkedProduce,
    error: ErrorCode,
    why: Option<String>,
) {
    let slow = as_slow(desk, &parked, None, Some(error));
    desk.stages.slowest.offer(slow);
    fail(&mut parked.answers, error, why);
    answer(engine, desk, parked);
}

/// With the times at which it passed the points of its path.
fn as_slow(
    desk: &Desk,
    parked: &ParkedProduce,
    committed_ns: Option<u64>,
    error: Option<ErrorCode>,
) -> SlowRequest {
    let passed = Passed {
        received_ns: parked.ticket.received_ns,
        decoded_ns: parked.ticket.decoded_ns,
        appended_ns: parked.appended_ns,
        flushed_ns: (parked.flushed_ns > 0).then_some(parked.flushed_ns),
        committed_ns,
        answered_ns: desk.now.monotonic_ns,
    };
    let base_offset = parked.answers.first().map_or(-1, |answer| answer.base_offset);
    SlowRequest { passed, error, base_offset, connection: parked.ticket.connection.0 }
}

fn answer(engine: &Engine, desk: &mut Desk, parked: ParkedProduce) {
    let mut response = ProduceResponse::default();
    let not_leader = parked.answers.iter().any(|answer| answer.error == ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let leader = if not_leader { desk.leader_for_clients(engine) } else { None };
    for answer in parked.answers {
        let is_for_leader = answer.error == ErrorCode::NOT_LEADER_OR_FOLLOWER;
        let partition = ProducedPartition {
            index: answer.index,
            error: answer.error,
            base_offset: answer.base_offset,
            log_start_offset: if answer.error.is_none() { engine.told_start_or_none() } else { -1 },
            record_errors: answer.record_errors,
            error_message: answer.message,
            // KIP-951: the client goes on at the leader without asking for Metadata.
            current_leader: leader.filter(|_| is_for_leader).map(|leader| (leader, engine.raft().epoch())),
        };
        let (name, id) = (answer.topic_name, answer.topic_id);
        match response.topics.last_mut() {
            Some(topic) if topic.name == name && topic.id == id => topic.partitions.push(partition),
            _ => response.topics.push(ProducedTopic { name, id, partitions: smallvec![partition] }),
        }
    }
    if not_leader {
        let endpoint = desk.leader_endpoint_for_clients(engine).filter(|(id, _)| Some(*id) == leader);
        response.node_endpoints.extend(endpoint);
    }
    desk.answer(&parked.ticket, Response::Produce(response));
}

/// What was waiting fails; what had been refused before keeps its own error.
fn fail(answers: &mut [PartitionAnswer], error: ErrorCode, message: Option<String>) {
    for answer in answers.iter_mut().filter(|a| a.error.is_none()) {
        answer.error = error;
        answer.message = message.clone();
        answer.base_offset = -1;
    }
}
