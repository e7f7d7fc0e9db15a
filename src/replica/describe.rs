//! Answers of what this node knows: to Metadata and its kin, to DescribeQuorum. No state changes but a fresh producer id.
//!
//! Called by `Replica`. What an answer looks like is said in `requests`; here is put together what it is made of.

mod leaderless;

use super::connection_id::ConnectionId;
use super::desk::{Desk, Engine};
use super::forward::{ForwardEvent, Forwarding};
use super::input::Ticket;
use super::requests::{self, View};
use crate::config::Config;
use crate::protocol::{self, Response, messages as m};
use crate::raft::random::Random;
use crate::types::*;
use leaderless::{Advice, Leaderless};

/// Metadata from which it has an error of its own (KIP-1102).
const TOP_LEVEL_ERROR_FROM: i16 = 13;

pub(super) struct Describe {
    leaderless: Leaderless,
    /// For producer ids.
    random: Random,
    fetch_timeout_ms: u64,
    log_dir: String,
    retention: crate::config::Retention,
}

impl Describe {
    pub(super) fn new(config: &Config, seed: u64) -> Describe {
        Describe {
            leaderless: Leaderless::default(),
            // Another stream than Raft's jitter, from the same seed.
            random: Random::new(seed ^ 0x9e37_79b9_7f4a_7c15),
            fetch_timeout_ms: config.fetch_timeout_ms,
            log_dir: config.log_dir.display().to_string(),
            retention: config.retention,
        }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.leaderless.forget(connection);
    }

    pub(super) fn on_metadata(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        ticket: &Ticket,
        request: m::MetadataRequest,
    ) {
        let without_ms = engine.raft().without_quorum_ms(desk.now);
        let advice = self.leaderless.advice(desk.now, ticket.connection, without_ms, self.fetch_timeout_ms);
        let mut response = self.answer(engine, desk, ticket, &protocol::Request::Metadata(request));
        if let Response::Metadata(metadata) = &mut response
            && advice != Advice::Wait
            && ticket.api_version >= TOP_LEVEL_ERROR_FROM
        {
            metadata.error_code = ErrorCode::REBOOTSTRAP_REQUIRED.0;
        }
        desk.answer(ticket, response);
        if advice == Advice::Leave {
            let why =
                "it asks for the leader, and this node knows of no quorum: another one may.".to_string();
            desk.close(ticket.connection, why);
        }
    }

    /// A node that does not lead asks the leader, once.
    pub(super) fn on_describe_quorum(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        forwarding: &mut Forwarding<m::DescribeQuorumRequest>,
        ticket: Ticket,
        is_forwarded: bool,
        request: m::DescribeQuorumRequest,
    ) {
        // What is refused everywhere alike need not travel, nor wait for the leader with all that it names.
        let goes = !engine.raft().is_leader() && !is_forwarded && requests::asks_for_one_partition(&request);
        match desk.leader_endpoint(engine).filter(|_| goes) {
            Some((leader, endpoint)) => {
                let endpoint = Endpoint::clone(&endpoint);
                forwarding.forward(desk.now, (leader, endpoint), ticket, request);
            }
            None => {
                let response =
                    self.answer(engine, desk, &ticket, &protocol::Request::DescribeQuorum(request));
                desk.answer(&ticket, response);
            }
        }
    }

    pub(super) fn on_forwarded(
        &mut self,
        engine: &Engine,
        desk: &mut Desk,
        event: ForwardEvent<m::DescribeQuorumRequest>,
    ) {
        match event {
            ForwardEvent::Answered(forwarded, response) => {
                desk.answer(&forwarded.ticket, Response::DescribeQuorum(response))
            }
            ForwardEvent::Failed { forwarded, .. } => {
                let request = protocol::Request::DescribeQuorum(forwarded.question);
                let response = self.answer(engine, desk, &forwarded.ticket, &request);
                desk.answer(&forwarded.ticket, response);
            }
        }
    }

    /// Requests that only ask: no state changes but a fresh producer id.
    pub(super) fn answer(
        &mut self,
        engine: &Engine,
        desk: &Desk,
        ticket: &Ticket,
        request: &protocol::Request,
    ) -> Response {
        use protocol::Request as R;
        let (now, version) = (desk.now, ticket.api_version);
        let producer_id = match request {
            R::InitProducerId(_) => self.fresh_producer_id(engine),
            _ => -1,
        };
        let raft = engine.raft();
        let progress = raft.voter_progress(now);
        let voters: Vec<_> = desk
            .context
            .voters
            .iter()
            .enumerate()
            .filter_map(|(place, (id, _))| {
                Some((*id, Endpoint::clone(desk.endpoint_for_clients(*id)?), is_in_sync(engine, now, place)))
            })
            .collect();
        let view = View {
            cluster_id: &desk.context.cluster_id,
            topic_name: &desk.context.topic,
            topic_id: desk.context.topic_id,
            listener_name: &desk.context.listener_name,
            local: desk.context.local.id,
            advertised: &desk.context.endpoint,
            voters: &voters,
            serves_clients: &|node| desk.serves_clients(node),
            leader: raft.living_leader(now),
            epoch: raft.epoch(),
            is_leader: raft.is_leader(),
            high_watermark: raft.high_watermark(),
            log_end: raft.log_end(),
            log_dir: &self.log_dir,
            log_size_bytes: engine.log().size_bytes(),
            disk_free_bytes: engine.disk_free_bytes(),
            limits: &desk.limits,
            segment_bytes_max: desk.limits.segment_bytes_max,
            retention: self.retention,
            set: &engine.folds().configs().committed(raft.high_watermark()),
            is_alterable: desk.context.data_mode == DataMode::Native,
        };
        match request {
            R::ApiVersions(m) => requests::api_versions(&view, Some(m), version),
            R::ApiVersionsUnsupported => requests::api_versions(&view, None, version),
            R::Metadata(m) => requests::metadata(&view, m, version),
            R::DescribeCluster(m) => requests::describe_cluster(&view, m, version),
            R::DescribeConfigs(m) => requests::describe_configs(&view, m, version),
            R::DescribeLogDirs(m) => requests::describe_log_dirs(&view, m),
            R::DescribeTopicPartitions(m) => requests::describe_topic_partitions(&view, m, version),
            R::FindCoordinator(m) => requests::find_coordinator(&view, m, version),
            R::Group(m) => requests::answer_group_request(&view, m, version),
            R::CreateTopics(m) => requests::create_topics(&view, m),
            R::InitProducerId(m) => requests::init_producer_id(&view, m, producer_id),
            R::OffsetForLeaderEpoch(m) => {
                requests::offset_for_leader_epoch(&view, m, version, &|epoch| raft.end_of_epoch(epoch))
            }
            R::DescribeQuorum(m) => {
                requests::describe_quorum(&view, m, version, &progress, &raft.observer_progress(now), now)
            }
            other => unreachable!("{other:?} changes state and is handled elsewhere"),
        }
    }

    /// Random 63 bits: no coordination between nodes is needed (Java asks any node, not the leader).
    fn fresh_producer_id(&mut self, engine: &Engine) -> i64 {
        loop {
            let id = (self.random.next_u64() >> 1) as i64;
            if !engine.folds().producers().contains(id) {
                return id;
            }
        }
    }
}

/// In sync: the leader, and who has caught up with it within the fetch timeout. The leader tells its followers who has
/// not, so that all nodes say the same. Without a leader nobody is.
fn is_in_sync(engine: &Engine, now: Now, place: usize) -> bool {
    let lagging = if engine.raft().is_leader() { engine.raft().lagging(now) } else { engine.lagging() };
    engine.raft().living_leader(now).is_some() && lagging & (1 << place) == 0
}
