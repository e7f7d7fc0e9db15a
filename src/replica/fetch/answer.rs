//! What a Fetch is answered with: the errors of its partitions, who leads, and where the records stand.

use smallvec::SmallVec;

use super::Topics;
use super::waiting::{FetchJob, Reader};
use crate::protocol::fetch::TOPIC_ID_FROM;
use crate::protocol::quorum::fetch_response;
use crate::protocol::{self, FetchRequest, Response, messages as m};
use crate::raft;
use crate::record::BatchList;
use crate::replica::desk::{Desk, Engine};
use crate::replica::input::Ticket;
use crate::replica::room::answers::Given;
use crate::types::*;

/// Records that a consumer asks for.
pub(super) struct Wanted {
    pub(super) place: (usize, usize),
    pub(super) from: Offset,
    pub(super) max_bytes: i32,
}

/// KIP-227 as a broker whose session cache is full sees it: a full fetch is answered without a session, an
/// incremental one names a session that we never gave.
pub(super) fn session_error(request: &FetchRequest) -> Option<ErrorCode> {
    const FINAL_EPOCH: i32 = -1;
    const INITIAL_EPOCH: i32 = 0;
    match (request.session_id, request.session_epoch) {
        (_, FINAL_EPOCH | INITIAL_EPOCH) => None,
        (0, _) => Some(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        _ => Some(ErrorCode::FETCH_SESSION_ID_NOT_FOUND),
    }
}

/// Everything of a consumer's answer but the records: errors per partition, and where the records will stand.
pub(super) fn consumer_skeleton(
    engine: &Engine,
    desk: &Desk,
    request: &FetchRequest,
    version: i16,
) -> (Topics, Option<Wanted>) {
    let mut ours = None;
    let mut topics = Topics::with_capacity(request.topics.len());
    for (t, topic) in request.topics.iter().enumerate() {
        let known = match version >= TOPIC_ID_FROM {
            true => topic.id == desk.context.topic_id,
            false => *topic.name == *desk.context.topic,
        };
        let mut partitions = SmallVec::with_capacity(topic.partitions.len());
        for (p, partition) in topic.partitions.iter().enumerate() {
            let error = match () {
                _ if !known && version >= TOPIC_ID_FROM => ErrorCode::UNKNOWN_TOPIC_ID,
                _ if !known || partition.index != 0 => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                _ if ours.is_some() => ErrorCode::INVALID_REQUEST,
                _ => engine.check_leader(partition.current_leader_epoch),
            };
            if error.is_none() {
                let from = Offset(partition.fetch_offset);
                ours = Some(Wanted { place: (t, p), from, max_bytes: partition.max_bytes });
            }
            partitions.push(empty_partition(engine, desk, partition.index, error));
        }
        let name = match known {
            true => desk.context.topic.clone(),
            false => m::StrBytes::from_string(topic.name.to_string()),
        };
        topics.push(protocol::FetchTopic { name, topic_id: topic.id, partitions });
    }
    (topics, ours)
}

pub(super) fn empty_partition(
    engine: &Engine,
    desk: &Desk,
    index: i32,
    error: ErrorCode,
) -> protocol::FetchPartition {
    let leader = desk.leader_for_clients(engine);
    protocol::FetchPartition {
        index,
        error,
        high_watermark: -1,
        last_stable_offset: -1,
        log_start_offset: engine.told_start_or_none(),
        diverging: None,
        // KIP-951: tell where to go, if anywhere.
        current_leader: (error == ErrorCode::NOT_LEADER_OR_FOLLOWER && leader.is_some())
            .then(|| (leader, engine.raft().epoch())),
        snapshot: None,
        lagging: 0,
        records: BatchList::default(),
    }
}

pub(super) fn fail_fetch(engine: &Engine, desk: &mut Desk, job: FetchJob, error: ErrorCode) {
    match job.reader {
        Reader::Replica { .. } => refuse_replica(engine, desk, &job.ticket, error),
        Reader::Consumer { mut topics, place } => {
            let partition = partition_at(&mut topics, place);
            *partition = empty_partition(engine, desk, partition.index, error);
            answer_consumer(engine, desk, &job.ticket, topics, None);
        }
    }
}

pub(super) fn answer_consumer(
    engine: &Engine,
    desk: &mut Desk,
    ticket: &Ticket,
    topics: Topics,
    given: Option<Given>,
) {
    let names_leader = topics.iter().flat_map(|t| &t.partitions).any(|p| p.current_leader.is_some());
    let node_endpoints =
        desk.leader_endpoint_for_clients(engine).filter(|_| names_leader).into_iter().collect();
    let response = protocol::FetchResponse { topics, node_endpoints, ..Default::default() };
    desk.answer_given(ticket, Some(Response::Fetch(response)), given);
}

pub(super) fn answer_replica(
    engine: &Engine,
    desk: &mut Desk,
    ticket: &Ticket,
    diverging: Option<OffsetAndEpoch>,
    records: BatchList,
    given: Option<Given>,
) {
    let told = raft::FetchResponse {
        high_watermark: engine.raft().high_watermark(),
        diverging,
        lagging: engine.lagging(),
        ..answer_of(engine, ErrorCode::NONE)
    };
    let response = fetch_response(&desk.context, &told, records);
    desk.answer_given(ticket, Some(Response::Fetch(response)), given);
}

/// It is to get this snapshot, and to let its log begin anew there.
pub(super) fn name_snapshot(
    engine: &Engine,
    desk: &mut Desk,
    ticket: &Ticket,
    id: OffsetAndEpoch,
    begin: OffsetAndEpoch,
) {
    let told = raft::FetchResponse {
        high_watermark: engine.raft().high_watermark(),
        snapshot: Some(id),
        begin: Some(begin),
        lagging: engine.lagging(),
        ..answer_of(engine, ErrorCode::NONE)
    };
    let response = fetch_response(&desk.context, &told, BatchList::default());
    desk.answer(ticket, Response::Fetch(response));
}

pub(super) fn refuse_replica(engine: &Engine, desk: &mut Desk, ticket: &Ticket, error: ErrorCode) {
    let response = fetch_response(&desk.context, &answer_of(engine, error), BatchList::default());
    desk.answer(ticket, Response::Fetch(response));
}

/// A voter always hears who leads in which epoch, also that nobody does.
fn answer_of(engine: &Engine, error: ErrorCode) -> raft::FetchResponse {
    raft::FetchResponse {
        error,
        leader: engine.raft().leader(),
        epoch: engine.raft().epoch(),
        high_watermark: None,
        diverging: None,
        snapshot: None,
        begin: None,
        lagging: 0,
        log_start: engine.raft().named_start(),
        batches: Vec::new(),
    }
}

pub(super) fn partition_at(topics: &mut Topics, place: (usize, usize)) -> &mut protocol::FetchPartition {
    &mut topics[place.0].partitions[place.1]
}
