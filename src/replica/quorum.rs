//! Between Raft and the wire: voters' requests in, Raft's effects out.
//!
//! Called by `Replica`. Checks what Raft does not know (cluster id, topic, batches' bytes); decides nothing about roles.

mod elections;
mod silence;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::desk::{Desk, Engine};
use super::input::Ticket;
use super::notice::{EXIT_CONFIG, Level};
use super::peers::PeerEvent;
use crate::config::Config;
use crate::protocol::quorum::{self as wire, QuorumContext};
use crate::protocol::{self, Response, messages as m};
use crate::raft::{self, Event, FetchRequest, Request, RequestId, RequestKind, Unfit};
use crate::types::*;
use elections::Elections;
use silence::Silences;

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

#[derive(Default)]
pub(super) struct Quorum {
    /// Of voters and observers, that Raft has not answered.
    unanswered: BTreeMap<RequestId, Ticket>,
    silences: Silences,
    elections: Elections,
}

impl Quorum {
    pub(super) fn on_role_changed(&mut self, engine: &Engine, now: Now) {
        self.elections.on_role(now, engine.raft().role());
    }

    /// Mean and maximum of the elections that ended within the last minute.
    pub(super) fn election_latency_ms(&self, now: Now) -> Option<(f64, f64)> {
        self.elections.latency_ms(now)
    }

    /// It moves nothing, so Raft is only asked who leads. A voter of another set says here, every two seconds, who it is.
    pub(super) fn on_update_raft_voter(
        &self,
        engine: &Engine,
        desk: &mut Desk,
        ticket: &Ticket,
        m: &m::UpdateRaftVoterRequest,
    ) {
        let error = match wire::update_raft_voter_request(&desk.context, m) {
            Err(error) => error,
            Ok(epoch) => engine.check_leader(epoch.0),
        };
        if error == ErrorCode::VOTER_NOT_FOUND {
            desk.note_refused(|_| Some(stranger(m.voter_id)));
        }
        let (leader, epoch) = (engine.raft().leader(), engine.raft().epoch());
        desk.answer(ticket, wire::update_raft_voter_response(&desk.context, error, leader, epoch));
    }

    /// Raft is asked, and answers with `reply`.
    pub(super) fn await_reply(&mut self, request_id: RequestId, ticket: Ticket) {
        self.unanswered.insert(request_id, ticket);
    }

    pub(super) fn reply(&mut self, desk: &mut Desk, request_id: RequestId, response: &raft::Response) {
        let ticket = self.unanswered.remove(&request_id).expect("Raft answers only requests that were made");
        let response = match response {
            raft::Response::Vote(r) => wire::vote_response(&desk.context, r),
            raft::Response::BeginQuorumEpoch(r) => wire::begin_quorum_epoch_response(&desk.context, r),
            raft::Response::EndQuorumEpoch(r) => wire::end_quorum_epoch_response(&desk.context, r),
            raft::Response::Fetch(_) | raft::Response::AskEpoch(_) => {
                panic!("Raft answers a Fetch with a verdict, never itself")
            }
        };
        desk.answer(&ticket, response);
    }

    /// A voter has answered, or has not.
    pub(super) fn on_peer_event(&mut self, engine: &mut Engine, desk: &mut Desk, event: PeerEvent) {
        if let PeerEvent::Response { from, .. } = &event
            && let Some(text) = self.silences.on_answered(desk.now, *from)
        {
            desk.note(Level::Info, text);
        }
        match event {
            PeerEvent::Failed { to, kind, why } => {
                desk.note(Level::Debug, format!("{kind:?} to node {to} failed: {why}"));
                if let Some(text) = self.silences.on_failed(desk.now, to, &why) {
                    desk.note(Level::Warn, text);
                }
                engine.step(desk.now, Event::RequestFailed { to, kind });
            }
            PeerEvent::FetchOvertaken { to } => engine.step(desk.now, Event::FetchOvertaken { to }),
            PeerEvent::Refused { by } => engine.step(desk.now, Event::Refused { by }),
            PeerEvent::Response { from, response: raft::Response::Fetch(mut answer), records } => {
                if let Some(why) = foreign_leader(engine, desk, from).filter(|_| answer.error.is_none()) {
                    return engine.stop(EXIT_CONFIG, why);
                }
                let taken = engine.take_fetched(from, &mut answer, records);
                if let Err(why) = taken {
                    // KAFKA-18723: a bad batch is never stored and never ends the process; the good ones before it count.
                    desk.note(
                        Level::Warn,
                        format!("node {from} sent a bad batch ({why}): closing its connection"),
                    );
                    desk.peers.drop_peer(from);
                    if answer.batches.is_empty() {
                        return engine
                            .step(desk.now, Event::RequestFailed { to: from, kind: RequestKind::Fetch });
                    }
                }
                engine.step(desk.now, Event::Response { from, response: raft::Response::Fetch(answer) });
            }
            PeerEvent::Response { from, response, records: _ } => {
                engine.step(desk.now, Event::Response { from, response });
            }
        }
    }
}

/// What a voter asks, or an observer. `None`: it was no question for Raft, and has been answered.
pub(super) fn understand(desk: &mut Desk, ticket: &Ticket, request: &protocol::Request) -> Option<Request> {
    match read(desk, ticket, request) {
        Ok(request) => Some(request),
        Err(refusal) => {
            desk.counters.refused_requests += 1;
            desk.note_refused(|context| why_refused(context, &refusal));
            desk.answer(ticket, refusal);
            None
        }
    }
}

/// What a request of a voter's says, if it is about this quorum. `Err`: its answer.
#[expect(clippy::result_large_err, reason = "the error is the answer, moved once")]
fn read(desk: &mut Desk, ticket: &Ticket, request: &protocol::Request) -> Result<Request, Response> {
    use protocol::Request as R;
    let context = &desk.context;
    match request {
        R::Vote(m) => wire::vote_request(context, m).map(Request::Vote),
        R::BeginQuorumEpoch(m) => wire::begin_quorum_epoch_request(context, m).map(Request::BeginQuorumEpoch),
        R::EndQuorumEpoch(m) => wire::end_quorum_epoch_request(context, m).map(Request::EndQuorumEpoch),
        R::Fetch(m) => {
            desk.counters.replica_fetches += 1;
            let fetch = wire::fetch_request(&desk.context, m, ticket.api_version)?;
            Ok(Request::Fetch(with_fitness(desk, fetch)))
        }
        other => unreachable!("{other:?} is not Raft's"),
    }
}

/// To clients one of Kafka's controllers is no leader at all.
fn with_fitness(desk: &Desk, mut fetch: FetchRequest) -> FetchRequest {
    if !desk.serves_clients(fetch.replica.id) {
        fetch.unfit = Some(Unfit::TakesNoClients);
    }
    fetch
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

/// One of Kafka's own voters leads us, and our log is of a mode that it could not read: once we led it would stop, and with
/// it the quorum. Nothing has been taken from it yet.
fn foreign_leader(engine: &Engine, desk: &Desk, from: NodeId) -> Option<String> {
    let is_foreign = desk.context.data_mode == DataMode::Native
        && engine.raft().leader() == Some(from)
        && desk.peers.is_kafkas(from);
    is_foreign.then(|| {
        format!(
            "stopping before anything that node {from} sent is stored: it leads, it is one of Kafka's own voters, and \
             this node has kraft.data.mode=native, a log that those cannot read. Set kraft.data.mode=interop here, with \
             an empty log.dirs, or take Kafka's voters out of controller.quorum.voters"
        )
    })
}
