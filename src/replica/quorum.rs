//! Between Raft and the wire: voters' requests in, Raft's effects out.
//!
//! Called by `Replica`. Checks what Raft does not know (cluster id, topic, batches' bytes); decides nothing about roles.

use super::{EXIT_CONFIG, Level, Replica, Ticket};
use crate::config::Config;
use crate::protocol::quorum::{self as wire, QuorumContext};
use crate::protocol::{self, Response, messages as m};
use crate::raft::{self, Event, FetchRequest, Request, RequestId, RequestKind, Unfit};
use crate::replica::peers::PeerEvent;
use crate::types::*;
use std::sync::Arc;

/// A request of a voter or observer that Raft has not answered yet.
pub(super) struct VoterRequest {
    pub ticket: Ticket,
    /// A Fetch's own words, needed again when it is answered.
    pub fetch: Option<FetchRequest>,
}

/// Between two lines about requests that cannot be a voter's of this quorum.
const REFUSAL_LINE_INTERVAL_MS: u64 = 10_000;

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
            Ok(epoch) => self.engine.check_leader(epoch.0),
        };
        if error == ErrorCode::VOTER_NOT_FOUND {
            self.note_refused(now, |_| Some(stranger(m.voter_id)));
        }
        let (leader, epoch) = (self.engine.raft().leader(), self.engine.raft().epoch());
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
        self.engine.step(now, Event::Request { request_id, request });
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

    /// One of Kafka's own voters leads us, and our log is of a mode that it could not read: once we led it would stop, and with
    /// it the quorum. Nothing has been taken from it yet.
    fn foreign_leader(&self, from: NodeId) -> Option<String> {
        let is_foreign = self.context.data_mode == DataMode::Native
            && self.engine.raft().leader() == Some(from)
            && self.peers.is_kafkas(from);
        is_foreign.then(|| {
            format!(
                "stopping before anything that node {from} sent is stored: it leads, it is one of Kafka's own voters, and \
                 this node has kraft.data.mode=native, a log that those cannot read. Set kraft.data.mode=interop here, with \
                 an empty log.dirs, or take Kafka's voters out of controller.quorum.voters"
            )
        })
    }

    pub(super) fn reply(&mut self, request_id: RequestId, response: &raft::Response) {
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
                self.engine.step(now, Event::RequestFailed { to, kind });
            }
            PeerEvent::FetchOvertaken { to } => self.engine.step(now, Event::FetchOvertaken { to }),
            PeerEvent::Refused { by } => self.engine.step(now, Event::Refused { by }),
            PeerEvent::Response { from, response: raft::Response::Fetch(mut answer), records } => {
                if let Some(why) = self.foreign_leader(from).filter(|_| answer.error.is_none()) {
                    return self.engine.stop(EXIT_CONFIG, why);
                }
                let taken = self.engine.take_fetched(from, &mut answer, records);
                if let Err(why) = taken {
                    // KAFKA-18723: a bad batch is never stored and never ends the process; the good ones before it count.
                    self.note(
                        Level::Warn,
                        format!("node {from} sent a bad batch ({why}): closing its connection"),
                    );
                    self.peers.drop_peer(from);
                    if answer.batches.is_empty() {
                        return self
                            .engine
                            .step(now, Event::RequestFailed { to: from, kind: RequestKind::Fetch });
                    }
                }
                self.engine.step(now, Event::Response { from, response: raft::Response::Fetch(answer) });
            }
            PeerEvent::Response { from, response, records: _ } => {
                self.engine.step(now, Event::Response { from, response });
            }
        }
    }

    /// The leader and where this node finds it.
    pub(super) fn leader_endpoint(&self) -> Option<(NodeId, Arc<Endpoint>)> {
        let leader = self.engine.raft().leader()?;
        let voter = self.context.voters.iter().find(|(id, _)| *id == leader)?;
        Some(voter.clone())
    }
}
