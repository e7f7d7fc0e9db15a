//! Between Raft and the wire: voters' requests in, Raft's effects out.
//!
//! Called by `Replica`. Checks what Raft does not know (cluster id, topic, batches' bytes); decides nothing about roles.

use super::{EXIT_CONFIG, EXIT_CORRUPT, Level, Replica, Ticket};
use crate::config::Config;
use crate::log::RecoveredLog;
use crate::protocol::quorum::{self as wire, QuorumContext};
use crate::protocol::{self, Response, messages as m};
use crate::raft::{
    self, BatchSpan, Effect, Event, FetchRequest, RaftConfig, RecoveredState, Request, RequestId,
    RequestKind, Unfit,
};
use crate::record::{
    StampedBatch, check_fetched_into, check_interop, check_static_voters, leader_change_batch,
};
use crate::replica::peers::PeerEvent;
use crate::types::*;
use std::sync::Arc;

/// A request of a voter or observer that Raft has not answered yet.
pub(super) struct VoterRequest {
    pub ticket: Ticket,
    /// A Fetch's own words, needed again when it is answered.
    pub fetch: Option<FetchRequest>,
}

pub(super) fn raft_config(config: &Config, directory_id: Uuid, seed: u64) -> RaftConfig {
    RaftConfig {
        local: ReplicaKey { id: config.node_id, directory_id },
        // Static voters have no directory ids (kraft.version 0).
        voters: config.voters.iter().map(|v| ReplicaKey { id: v.id, directory_id: Uuid::ZERO }).collect(),
        election_timeout_ms: config.election_timeout_ms,
        fetch_timeout_ms: config.fetch_timeout_ms,
        election_backoff_max_ms: config.election_backoff_max_ms,
        request_timeout_ms: config.request_timeout_ms,
        retry_backoff_ms: config.retry_backoff_ms,
        // A parked Fetch must come back before its sender takes the leader for dead.
        fetch_wait_ms_max: FETCH_WAIT_MS_MAX.min(config.fetch_timeout_ms / 2),
        first_leader: config.first_leader,
        log_doubt: config.log_doubt,
        seed,
    }
}

/// Between two lines about requests that cannot be a voter's of this quorum.
const REFUSAL_LINE_INTERVAL_MS: u64 = 10_000;

/// How long a leader may park our Fetch (Kafka: `KafkaRaftClient.MAX_FETCH_WAIT_MS`).
const FETCH_WAIT_MS_MAX: u64 = 500;

pub(super) fn state(recovered: &RecoveredLog) -> RecoveredState {
    RecoveredState {
        quorum_state: recovered.quorum_state,
        log_start: log_start(recovered),
        log_end: recovered.log_end,
        committed: recovered.committed,
        epochs: recovered.epochs.clone(),
    }
}

/// A log whose beginning is gone does not keep the epoch of its last record: it is not above those of the first that is there, or of
/// this node.
fn log_start(recovered: &RecoveredLog) -> OffsetAndEpoch {
    let first = recovered.epochs.first().map_or(recovered.quorum_state.epoch, |first| first.epoch);
    let epoch = if recovered.log_start == Offset(0) { Epoch(0) } else { first };
    OffsetAndEpoch { epoch, offset: recovered.log_start }
}

pub(super) fn context(config: &Config, directory_id: Uuid) -> QuorumContext {
    QuorumContext {
        cluster_id: config.cluster_id.clone().into(),
        topic: config.topic_name.clone().into(),
        topic_id: config.topic_id,
        local: ReplicaKey { id: config.node_id, directory_id },
        listener_name: config.listener_name.clone(),
        endpoint: Arc::new(config.advertised.clone()),
        data_mode: config.data_mode,
        voters: config.voters.iter().map(|v| (v.id, Arc::new(v.endpoint.clone()))).collect(),
    }
}

fn why_refused(context: &QuorumContext, refusal: &Response) -> Option<String> {
    let error = match refusal {
        Response::Vote(m) => m.error_code,
        Response::BeginQuorumEpoch(m) => m.error_code,
        Response::EndQuorumEpoch(m) => m.error_code,
        Response::Fetch(m) => m.error,
        _ => return None,
    };
    Some(match ErrorCode(error) {
        ErrorCode::INCONSISTENT_CLUSTER_ID => format!(
            "refused a request of a voter of another cluster: here kraft.cluster.id is {}. Give all nodes the same, \
             or correct controller.quorum.voters",
            context.cluster_id
        ),
        error => format!(
            "refused a voter's request with {}: it is not about partition 0 of {} with the id {} (kraft.topic.name, \
             kraft.topic.id), or says what no voter says",
            error.name(),
            context.topic,
            context.topic_id
        ),
    })
}

fn stranger(voter: i32) -> String {
    format!(
        "node {voter} takes itself for a voter, and is none here: it may follow, and its votes do not count. Give all \
         nodes the same controller.quorum.voters"
    )
}

impl Replica {
    pub(super) fn on_vote(&mut self, now: Now, ticket: Ticket, m: &m::VoteRequest) {
        let request = wire::vote_request(&self.context, m).map(Request::Vote);
        self.on_voter_request(now, ticket, request, None);
    }

    pub(super) fn on_begin_quorum_epoch(&mut self, now: Now, ticket: Ticket, m: &m::BeginQuorumEpochRequest) {
        let request = wire::begin_quorum_epoch_request(&self.context, m).map(Request::BeginQuorumEpoch);
        self.on_voter_request(now, ticket, request, None);
    }

    pub(super) fn on_end_quorum_epoch(&mut self, now: Now, ticket: Ticket, m: &m::EndQuorumEpochRequest) {
        let request = wire::end_quorum_epoch_request(&self.context, m).map(Request::EndQuorumEpoch);
        self.on_voter_request(now, ticket, request, None);
    }

    pub(super) fn on_replica_fetch(&mut self, now: Now, ticket: Ticket, m: &protocol::FetchRequest) {
        self.counters.replica_fetches += 1;
        let request = wire::fetch_request(&self.context, m, ticket.api_version);
        let request = request.map(|mut fetch| {
            // To clients one of Kafka's controllers is no leader at all.
            if !self.serves_clients(fetch.replica.id) {
                fetch.unfit = Some(Unfit::TakesNoClients);
            }
            fetch
        });
        let fetch = request.as_ref().ok().cloned();
        self.on_voter_request(now, ticket, request.map(Request::Fetch), fetch);
    }

    /// It moves nothing, so Raft is only asked who leads. A voter of another set says here, every two seconds, who it is.
    pub(super) fn on_update_raft_voter(&mut self, now: Now, ticket: &Ticket, m: &m::UpdateRaftVoterRequest) {
        let error = match wire::update_raft_voter_request(&self.context, m) {
            Err(error) => error,
            Ok(epoch) => self.check_leader(epoch.0),
        };
        if error == ErrorCode::VOTER_NOT_FOUND {
            self.note_refused(now, |_| Some(stranger(m.voter_id)));
        }
        let (leader, epoch) = (self.raft.leader(), self.raft.epoch());
        self.answer(ticket, wire::update_raft_voter_response(&self.context, error, leader, epoch));
    }

    fn on_voter_request(
        &mut self,
        now: Now,
        ticket: Ticket,
        request: Result<Request, Response>,
        fetch: Option<FetchRequest>,
    ) {
        let request = match request {
            Ok(request) => request,
            Err(refusal) => {
                self.counters.refused_requests += 1;
                self.note_refused(now, |context| why_refused(context, &refusal));
                return self.answer(&ticket, refusal);
            }
        };
        // Answers leave in request order: what is parked on this connection must not stand before this one.
        self.release_parked_of(ticket.connection);
        let request_id = RequestId(self.fresh_id());
        self.voter_requests.insert(request_id, VoterRequest { ticket, fetch });
        self.step(now, Event::Request { request_id, request });
    }

    /// A peer that does not belong asks again and again: one line in ten seconds says what is wrong with it.
    pub(super) fn note_refused(&mut self, now: Now, why: impl FnOnce(&QuorumContext) -> Option<String>) {
        let is_early = |at| now.monotonic_ns < at + REFUSAL_LINE_INTERVAL_MS * NS_PER_MS;
        if self.refusal_noted_ns.is_some_and(is_early) {
            return;
        }
        if let Some(text) = why(&self.context) {
            self.refusal_noted_ns = Some(now.monotonic_ns);
            self.note(Level::Warn, text);
        }
    }

    /// Do what Raft wants done; what must be durable first is so when this is called.
    pub(super) fn carry_out(&mut self, now: Now, effect: Effect) {
        match effect {
            Effect::Send { to, request } => {
                if matches!(request, Request::Vote(_)) {
                    self.counters.elections += 1;
                }
                self.peers.send(now, to, request);
            }
            Effect::Reply { request_id, response } => self.reply(request_id, &response),
            Effect::Fetched { request_id, verdict } => self.on_fetch_verdict(now, request_id, verdict),
            Effect::AppendLeaderChange { base_offset, epoch, voters, granting } => {
                let leader = self.context.local.id;
                self.counters.leader_changes += 1;
                let batch = leader_change_batch(base_offset, epoch, now.wall_ms, leader, &voters, &granting);
                self.append_to_log(batch);
            }
            Effect::AppendFetched { first, count } => {
                let mut fetched = std::mem::take(&mut self.fetched);
                assert!(first + count <= fetched.len(), "Raft asks for batches that the answer did not hold");
                for batch in fetched.drain(..).skip(first).take(count) {
                    if let Some(why) = self.unfit(&batch) {
                        return self.stop(EXIT_CONFIG, why);
                    }
                    self.counters.replicated_records += batch.header().record_count.max(0) as u64;
                    self.append_to_log(batch);
                }
                self.fetched = fetched;
            }
            Effect::Truncate { to } => {
                self.after_flush.clear();
                self.on_truncate(to);
                self.log.truncate(to.0);
                self.truncating_to.push_back(to);
                self.check_cut(to, self.log.log_end());
            }
            Effect::HighWatermark(high_watermark) => self.on_high_watermark(now, high_watermark),
            Effect::RoleChanged => {
                // Promises of the old epoch must not be made in the new one.
                self.after_flush.clear();
                self.role_changed = true;
                self.elections.on_role(now, self.raft.role());
            }
            Effect::DropPeer { node, why } => {
                self.note_refused(now, |_| Some(format!("closing the connections to node {node}: {why}")));
                self.peers.drop_peer(node);
            }
            Effect::Stop { why } => self.stop(EXIT_CORRUPT, why),
            Effect::ShutdownComplete => {
                self.closing = true;
                self.log.shutdown();
            }
        }
    }

    /// Why a batch of the leader's must not be stored here: this node cannot go by it, or one of Kafka's voters, which
    /// replicate an interop log, could not read it.
    fn unfit(&self, batch: &StampedBatch) -> Option<String> {
        let leader =
            || self.raft.leader().map_or_else(|| "the leader".to_string(), |id| format!("node {id}"));
        if let Err(why) = check_static_voters(batch) {
            return Some(format!("stopping before a batch that {} sent is stored: {why}", leader()));
        }
        if self.context.data_mode == DataMode::Native {
            return None;
        }
        let why = check_interop(batch).err()?;
        Some(format!(
            "stopping before the batch at offset {} that {} sent is stored, because it would stop Kafka's voters: \
             {why}. Give every node of the quorum kraft.data.mode=interop, and an empty log.dirs where that is refused",
            batch.base_offset(),
            leader()
        ))
    }

    /// One of Kafka's own voters leads us, and our log is of a mode that it could not read: once we led it would stop, and with
    /// it the quorum. Nothing has been taken from it yet.
    fn foreign_leader(&self, from: NodeId) -> Option<String> {
        let is_foreign = self.context.data_mode == DataMode::Native
            && self.raft.leader() == Some(from)
            && self.peers.is_kafkas(from);
        is_foreign.then(|| {
            format!(
                "stopping before anything that node {from} sent is stored: it leads, it is one of Kafka's own voters, and \
                 this node has kraft.data.mode=native, a log that those cannot read. Set kraft.data.mode=interop here, with \
                 an empty log.dirs, or take Kafka's voters out of controller.quorum.voters"
            )
        })
    }

    /// A cut lies between two batches. One within a batch is asked for by no leader whose log is whole, and cannot be
    /// made: which of the two logs is damaged, nobody here can tell.
    pub(super) fn check_cut(&mut self, wanted: LogEndOffset, made: LogEndOffset) {
        if made < wanted {
            let why = format!(
                "the leader's log parts from this one at offset {wanted}, inside of a batch that begins at {made}: one \
                 of the two is damaged. Compare both with kafka-dump-log.sh before this node is started again"
            );
            self.stop(EXIT_CORRUPT, why);
        }
    }

    fn reply(&mut self, request_id: RequestId, response: &raft::Response) {
        let Some(VoterRequest { ticket, .. }) = self.voter_requests.remove(&request_id) else {
            panic!("Raft answers a request that nobody made");
        };
        let response = match response {
            raft::Response::Vote(r) => wire::vote_response(&self.context, r),
            raft::Response::BeginQuorumEpoch(r) => wire::begin_quorum_epoch_response(&self.context, r),
            raft::Response::EndQuorumEpoch(r) => wire::end_quorum_epoch_response(&self.context, r),
            raft::Response::Fetch(_) | raft::Response::AskEpoch(_) => {
                panic!("Raft answers a Fetch with a verdict, never itself")
            }
        };
        self.answer(&ticket, response);
    }

    pub(super) fn on_peer_event(&mut self, now: Now, event: PeerEvent) {
        if let PeerEvent::Response { from, .. } = &event
            && let Some(text) = self.silences.on_answered(now, *from)
        {
            self.note(Level::Info, text);
        }
        match event {
            PeerEvent::Failed { to, kind, why } => {
                self.note(Level::Debug, format!("{kind:?} to node {to} failed: {why}"));
                if let Some(text) = self.silences.on_failed(now, to, &why) {
                    self.note(Level::Warn, text);
                }
                self.step(now, Event::RequestFailed { to, kind });
            }
            PeerEvent::FetchOvertaken { to } => self.step(now, Event::FetchOvertaken { to }),
            PeerEvent::Refused { by } => self.step(now, Event::Refused { by }),
            PeerEvent::Response { from, response: raft::Response::Fetch(mut answer), records } => {
                if let Some(why) = self.foreign_leader(from).filter(|_| answer.error.is_none()) {
                    return self.stop(EXIT_CONFIG, why);
                }
                self.fetched.clear();
                let bad = check_fetched_into(records, &mut self.fetched);
                if answer.error.is_none() && self.raft.leader() == Some(from) {
                    self.lagging = answer.lagging;
                }
                answer.batches = std::mem::take(&mut self.effects.spans);
                answer.batches.extend(self.fetched.iter().map(span_of));
                let nothing_good = self.fetched.is_empty();
                if let Some(why) = bad {
                    // KAFKA-18723: a bad batch is never stored and never ends the process; the good ones before it count.
                    self.note(
                        Level::Warn,
                        format!("node {from} sent a bad batch ({why}): closing its connection"),
                    );
                    self.peers.drop_peer(from);
                    if nothing_good {
                        return self.step(now, Event::RequestFailed { to: from, kind: RequestKind::Fetch });
                    }
                }
                // Raft may want them only when its quorum state is durable: they stay until the next answer.
                self.step(now, Event::Response { from, response: raft::Response::Fetch(answer) });
            }
            PeerEvent::Response { from, response, records: _ } => {
                self.step(now, Event::Response { from, response });
            }
        }
    }

    /// The leader and where this node finds it.
    pub(super) fn leader_endpoint(&self) -> Option<(NodeId, Arc<Endpoint>)> {
        let leader = self.raft.leader()?;
        let voter = self.context.voters.iter().find(|(id, _)| *id == leader)?;
        Some(voter.clone())
    }
}

fn span_of(batch: &StampedBatch) -> BatchSpan {
    BatchSpan { base: batch.base_offset(), last: batch.last_offset(), epoch: batch.epoch() }
}
