//! DeleteRecords: the log is to start later, and who asked is answered when a majority has that durably.
//!
//! Called by `Replica`. The leader's alone: it wants the start (`raft::start`), and each request waits until clients are told one
//! that is not below what it asked for. What was asked for goes on when its time is over, or another leads.

use super::connection_id::ConnectionId;
use super::desk::{Desk, Engine};
use super::input::Ticket;
use crate::protocol::{Response, messages as m};
use crate::types::*;
use m::delete_records_response::{DeleteRecordsPartitionResult, DeleteRecordsTopicResult};

/// "All that there is."
const HIGH_WATERMARK: i64 = -1;
/// Kafka: `DeleteRecordsResponse.INVALID_LOW_WATERMARK`.
const NO_LOW_WATERMARK: i64 = -1;

pub(super) struct DeleteRecords {
    parked: Vec<Parked>,
    data_mode: DataMode,
    /// Of all that wait.
    deadline_ns: Option<u64>,
    /// At the last look.
    told: Option<Offset>,
}

struct Parked {
    ticket: Ticket,
    response: m::DeleteRecordsResponse,
    place: (usize, usize),
    /// Answered when the start that clients are told is there.
    needs: Offset,
    epoch: Epoch,
    deadline_ns: u64,
}

impl DeleteRecords {
    pub(super) fn new(data_mode: DataMode) -> DeleteRecords {
        DeleteRecords { parked: Vec::new(), data_mode, deadline_ns: None, told: None }
    }

    pub(super) fn on_request(
        &mut self,
        engine: &mut Engine,
        desk: &mut Desk,
        ticket: Ticket,
        request: &m::DeleteRecordsRequest,
    ) {
        let is_ours = |topic: &str, index: i32| *topic == *desk.context.topic && index == 0;
        let named = request.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |p| (topic, p)));
        let is_repeated =
            named.filter(|(topic, p)| is_ours(&topic.name.0, p.partition_index)).nth(1).is_some();
        let mut ours = None;
        let mut response = m::DeleteRecordsResponse::default();
        for (t, topic) in request.topics.iter().enumerate() {
            let mut answer = DeleteRecordsTopicResult::default().with_name(topic.name.clone());
            for (p, partition) in topic.partitions.iter().enumerate() {
                let error = match is_ours(&topic.name.0, partition.partition_index) {
                    false => ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
                    true if is_repeated => ErrorCode::INVALID_REQUEST,
                    true => ErrorCode::NONE,
                };
                if error.is_none() {
                    ours = Some(((t, p), partition.offset));
                }
                let line = DeleteRecordsPartitionResult::default()
                    .with_partition_index(partition.partition_index)
                    .with_low_watermark(NO_LOW_WATERMARK)
                    .with_error_code(error.0);
                answer.partitions.push(line);
            }
            response.topics.push(answer);
        }
        let Some((place, offset)) = ours else {
            return desk.answer(&ticket, Response::DeleteRecords(response));
        };
        let deadline_ns = desk.now.plus_ms(desk.wait_ms(request.timeout_ms));
        let parked =
            Parked { ticket, response, place, needs: Offset(0), epoch: engine.raft().epoch(), deadline_ns };
        match self.judge(engine, desk, offset) {
            Ok(needs) => self.delete(engine, desk, Parked { needs, ..parked }),
            Err(error) => parked.fail(desk, error),
        }
    }

    /// Before which offset.
    fn judge(&self, engine: &Engine, desk: &mut Desk, offset: i64) -> Result<Offset, ErrorCode> {
        if self.data_mode == DataMode::Interop {
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        if !engine.raft().is_leader() {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        let Some(HighWatermark(committed)) = engine.raft().high_watermark() else {
            return Err(ErrorCode::OFFSET_NOT_AVAILABLE);
        };
        let to = if offset == HIGH_WATERMARK { committed } else { Offset(offset) };
        if to < Offset(0) || to > committed {
            return Err(ErrorCode::OFFSET_OUT_OF_RANGE);
        }
        if let Some(node) = engine.raft().too_old_for_starts() {
            desk.note_refused(|_| {
                Some(format!("nothing is deleted: node {node} runs an older version, which would keep it"))
            });
            return Err(ErrorCode::POLICY_VIOLATION);
        }
        match self.parked.len() < desk.limits.parked_requests_max {
            true => Ok(to),
            false => Err(ErrorCode::REQUEST_TIMED_OUT),
        }
    }

    fn delete(&mut self, engine: &mut Engine, desk: &mut Desk, parked: Parked) {
        engine.want_start(desk.now, parked.needs);
        desk.take_notes(engine);
        match engine.told_start().filter(|told| *told >= parked.needs) {
            Some(told) => parked.succeed(desk, told),
            None => {
                let earliest = self.deadline_ns.unwrap_or(parked.deadline_ns);
                self.deadline_ns = Some(earliest.min(parked.deadline_ns));
                self.parked.push(parked);
            }
        }
    }

    pub(super) fn end_turn(&mut self, engine: &Engine, desk: &mut Desk) {
        let Some(deadline_ns) = self.deadline_ns else { return };
        let (told, now_ns) = (engine.told_start(), desk.now.monotonic_ns);
        if told == self.told && !engine.has_role_changed() && now_ns < deadline_ns {
            return;
        }
        self.told = told;
        for parked in std::mem::take(&mut self.parked) {
            match told.filter(|told| *told >= parked.needs) {
                _ if !engine.leads_in(parked.epoch) => {
                    parked.fail(desk, ErrorCode::NOT_LEADER_OR_FOLLOWER);
                }
                Some(told) => parked.succeed(desk, told),
                None if parked.deadline_ns <= now_ns => parked.fail(desk, ErrorCode::REQUEST_TIMED_OUT),
                None => self.parked.push(parked),
            }
        }
        self.deadline_ns = self.parked.iter().map(|parked| parked.deadline_ns).min();
    }

    /// Nobody waits there any more; what was asked for goes on.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.parked.retain(|parked| parked.ticket.connection != connection);
        self.deadline_ns = self.parked.iter().map(|parked| parked.deadline_ns).min();
    }

    pub(super) fn deadline(&self) -> Option<u64> {
        self.deadline_ns
    }

    /// Requests that wait.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }
}

impl Parked {
    fn succeed(mut self, desk: &mut Desk, told: Offset) {
        self.line().low_watermark = told.0;
        desk.answer(&self.ticket, Response::DeleteRecords(self.response));
    }

    fn fail(mut self, desk: &mut Desk, error: ErrorCode) {
        self.line().error_code = error.0;
        desk.answer(&self.ticket, Response::DeleteRecords(self.response));
    }

    fn line(&mut self) -> &mut DeleteRecordsPartitionResult {
        &mut self.response.topics[self.place.0].partitions[self.place.1]
    }
}
