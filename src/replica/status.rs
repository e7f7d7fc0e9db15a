//! What a replica says of itself: to Metadata and its kin, to DescribeQuorum, to /status and the metrics.

use std::sync::Arc;

use serde::Serialize;

use super::forward::{ForwardEvent, Forwarded};
use super::requests::{self, View};
use super::room::gauges::Bounded;
use super::{Replica, Ticket};
use crate::protocol::{self, Response, messages as m};
use crate::raft::{Campaigns, ReplicaProgress, RoleName, Unfit};
use crate::types::*;

/// What /status, /ready and the metrics show.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub node_id: i32,
    pub directory_id: String,
    pub cluster_id: String,
    pub topic: String,
    /// "leader", "follower", "candidate", "prospective", "unattached", "resigned", "observer"
    pub role: &'static str,
    pub epoch: i32,
    pub leader_id: Option<i32>,
    pub high_watermark: Option<i64>,
    pub log_start_offset: i64,
    pub log_end_offset: i64,
    pub flushed_offset: i64,
    pub log_size_bytes: u64,
    pub unflushed_bytes: u64,
    /// A quorum can commit, and this node does its part in it.
    pub ready: bool,
    /// Why it is not, as a sentence goes on behind "not ready: ".
    pub not_ready: Option<String>,
    /// Why this node leaves leading to others, if they can.
    pub unfit: Option<&'static str>,
    /// The end of the log was damaged at a start: this node votes for nobody before it has caught up with a leader.
    pub log_in_doubt: bool,
    /// Records that cannot be read: where and why.
    pub log_damage: Option<String>,
    /// The disk is full: what makes the log grow is tried again and again.
    pub waits_for_room: bool,
    pub voters: Vec<VoterStatus>,
    pub observers: Vec<VoterStatus>,
    pub producer_ids: usize,
    pub parked_requests: usize,
    /// Room in the file system of the log; `None`: not known yet.
    pub disk_free_bytes: Option<u64>,
    pub counters: Counters,
    /// For the metrics alone.
    #[serde(skip)]
    pub watched: Watched,
}

/// What only a monitoring system asks for.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// Node and directory that this one has voted for in its epoch.
    pub voted: Option<ReplicaKey>,
    pub log_end_epoch: i32,
    pub campaigns: Campaigns,
    /// Mean and maximum in ms of the elections that ended within the last minute.
    pub election_latency_ms: Option<(f64, f64)>,
    pub disk_free_bytes_min: u64,
    /// Read from the device for clients and not taken yet.
    pub device_reads: Bounded,
    /// Reads that wait for their turn at the device.
    pub device_reads_waiting: usize,
    /// Requests for many things that are put off, and what they take decoded.
    pub heavy_requests: usize,
    pub heavy_bytes: Bounded,
    /// From here on the replica's core knows, not the replica: the device's durable writes, each from the ring to its completion.
    pub device_flushes: LatencyBuckets,
    /// To each voter, as the kernel's TCP measures it, once a second.
    pub round_trips: Vec<(i32, LatencyBuckets)>,
    /// Part of the last second in which the core slept.
    pub idle_ratio: Option<f64>,
}

/// Where a node stands, for whoever checks it after every turn: cheaper than `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    pub role: RoleName,
    pub epoch: Epoch,
    pub leader: Option<NodeId>,
    pub high_watermark: Option<HighWatermark>,
    pub log_end: LogEndOffset,
    pub flushed: FlushedOffset,
    /// Something that promises rest on is being made durable: nobody has heard of this role and epoch yet.
    pub is_gated: bool,
    /// The log was cut in memory, and is not yet on the disk.
    pub is_truncating: bool,
    pub memory: MemoryUse,
}

/// What a node keeps in memory, each part with a limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MemoryUse {
    /// `unflushed_bytes_max`
    pub unflushed_bytes: u64,
    /// `uncommitted_bytes_max`, while it leads.
    pub uncommitted_bytes: u64,
    /// `tail_cache_bytes_max`, and all that is unflushed.
    pub tail_cache_bytes: u64,
    /// `parked_requests_max`, for these and for those.
    pub parked_produces: usize,
    pub parked_fetches: usize,
    /// `producer_ids_max`
    pub producer_ids: usize,
    /// Read from the device for clients and not taken yet: `device_reads_bytes_max`.
    pub device_read_bytes: usize,
    /// `heavy_bytes_max`
    pub heavy_bytes: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct VoterStatus {
    pub node_id: i32,
    pub directory_id: String,
    /// -1: not known here (only the leader knows the others).
    pub log_end_offset: i64,
    pub lag: i64,
    pub last_fetch_ms_ago: Option<u64>,
    pub last_caught_up_ms_ago: Option<u64>,
}

/// Totals since the start.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Counters {
    pub produce_requests: u64,
    pub produced_batches: u64,
    pub produced_bytes: u64,
    pub produced_records: u64,
    pub duplicate_batches: u64,
    pub fetch_requests: u64,
    pub fetched_bytes: u64,
    pub replica_fetches: u64,
    /// Votes and pre-votes asked of others.
    pub elections: u64,
    /// Epochs that this node began as leader.
    pub leader_changes: u64,
    pub flushes: u64,
    pub committed_bytes: u64,
    pub refused_requests: u64,
    /// Records copied from a leader.
    pub replicated_records: u64,
    /// To the other voters and from them, on the connections that this node has opened.
    pub peer_requests: u64,
    pub peer_responses: u64,
    pub peer_bytes_sent: u64,
    pub peer_bytes_received: u64,
    /// Batches refused with INVALID_TIMESTAMP: their producers drop them.
    pub refused_timestamps: u64,
}

impl Replica {
    pub fn standing(&self) -> Standing {
        Standing {
            role: self.engine.raft().role(),
            epoch: self.engine.raft().epoch(),
            leader: self.engine.raft().leader(),
            high_watermark: self.engine.raft().high_watermark(),
            log_end: self.engine.raft().log_end(),
            flushed: self.engine.log().flushed(),
            is_gated: self.engine.is_gated(),
            is_truncating: self.engine.is_truncating(),
            memory: MemoryUse {
                unflushed_bytes: self.engine.log().unflushed_bytes(),
                uncommitted_bytes: self.engine.uncommitted_bytes(),
                tail_cache_bytes: self.engine.log().tail_cache_bytes(),
                parked_produces: self.purgatory.len(),
                parked_fetches: self.fetches.parked(),
                producer_ids: self.engine.producers().len(),
                device_read_bytes: self.reads.held_bytes(),
                heavy_bytes: self.heavy.bytes().taken,
            },
        }
    }

    pub fn status(&self, now: Now) -> Status {
        let raft = self.engine.raft();
        let (log_end, high_watermark) = (raft.log_end().0, raft.high_watermark());
        let lines = |progress: Vec<ReplicaProgress>| {
            progress.into_iter().map(|p| voter_status(p, log_end, now)).collect::<Vec<_>>()
        };
        let not_ready = self.why_not_ready(now);
        Status {
            node_id: self.context.local.id.0,
            directory_id: self.context.local.directory_id.to_string(),
            cluster_id: self.context.cluster_id.to_string(),
            topic: self.context.topic.to_string(),
            role: role_name(raft.role()),
            epoch: raft.epoch().0,
            leader_id: raft.living_leader(now).map(|l| l.0),
            high_watermark: high_watermark.map(|hw| hw.0.0),
            log_start_offset: self.engine.log().log_start().0,
            log_end_offset: log_end.0,
            flushed_offset: self.engine.log().flushed().0.0,
            log_size_bytes: self.engine.log().size_bytes(),
            unflushed_bytes: self.engine.log().unflushed_bytes(),
            ready: not_ready.is_none(),
            not_ready,
            unfit: raft.unfit().map(Unfit::name),
            log_in_doubt: raft.doubt().is_some(),
            log_damage: self.engine.log_damage(),
            waits_for_room: self.engine.waits_for_room(),
            voters: lines(raft.voter_progress(now)),
            observers: lines(raft.observer_progress(now)),
            producer_ids: self.engine.producers().len(),
            parked_requests: self.parked_requests(),
            disk_free_bytes: Some(self.engine.disk_free_bytes()).filter(|bytes| *bytes < u64::MAX),
            counters: self.counters(),
            watched: Watched {
                voted: raft.quorum_state().voted,
                log_end_epoch: raft.epochs().last().map_or(0, |last| last.epoch.0),
                campaigns: *raft.campaigns(),
                election_latency_ms: self.elections.latency_ms(now),
                disk_free_bytes_min: self.limits.disk_free_bytes_min,
                device_reads: Bounded {
                    taken: self.reads.held_bytes(),
                    max: self.limits.device_reads_bytes_max,
                },
                device_reads_waiting: self.reads.waiting(),
                heavy_requests: self.heavy.len(),
                heavy_bytes: self.heavy.bytes(),
                ..Watched::default()
            },
        }
    }

    fn counters(&self) -> Counters {
        let counts = self.engine.counts();
        Counters {
            flushes: counts.flushes,
            committed_bytes: counts.committed_bytes,
            leader_changes: counts.leader_changes,
            replicated_records: counts.replicated_records,
            ..self.counters.clone()
        }
    }

    /// Ready means that a quorum can commit, and that this node does its part: a vote that it cannot give is one.
    fn why_not_ready(&self, now: Now) -> Option<String> {
        let reasons = [self.why_no_part(now), self.engine.raft().doubt().map(str::to_string)];
        reasons.into_iter().flatten().reduce(|what, doubt| format!("{what}; {doubt}"))
    }

    fn why_no_part(&self, now: Now) -> Option<String> {
        let raft = self.engine.raft();
        let high_watermark = raft.high_watermark();
        Some(match () {
            _ if self.engine.is_gated() => "what was promised is being made durable".to_string(),
            _ if raft.living_leader(now).is_none() => match raft.leader() {
                Some(leader) => format!(
                    "no quorum: nothing has been heard of the leader {leader} within the fetch timeout"
                ),
                None => "no quorum: no leader is known".to_string(),
            },
            _ if high_watermark.is_none() => "it is not known yet what is committed".to_string(),
            _ if !raft.is_leader() && high_watermark.is_some_and(|known| raft.log_end().0 < known.0) => {
                "this node has not caught up with the leader".to_string()
            }
            _ => match self.engine.log_damage() {
                Some(damage) => format!("log damaged at {damage}"),
                None => raft.unfit()?.sentence().to_string(),
            },
        })
    }

    /// A node that does not lead asks the leader, once.
    pub(super) fn on_describe_quorum(
        &mut self,
        now: Now,
        ticket: Ticket,
        is_forwarded: bool,
        request: m::DescribeQuorumRequest,
    ) {
        // What is refused everywhere alike need not travel, nor wait for the leader with all that it names.
        let goes =
            !self.engine.raft().is_leader() && !is_forwarded && requests::asks_for_one_partition(&request);
        match self.leader_endpoint().filter(|_| goes) {
            Some((leader, endpoint)) => {
                let endpoint = Endpoint::clone(&endpoint);
                self.forwarding.forward(now, (leader, endpoint), ticket, request);
            }
            None => {
                let response = self.describe(now, &ticket, &protocol::Request::DescribeQuorum(request));
                self.answer(&ticket, response);
            }
        }
    }

    pub(super) fn on_forwarded(&mut self, now: Now, event: ForwardEvent) {
        match event {
            ForwardEvent::Answered(ticket, response) => {
                self.answer(&ticket, Response::DescribeQuorum(response))
            }
            ForwardEvent::Failed(Forwarded { ticket, request, .. }) => {
                let response = self.describe(now, &ticket, &protocol::Request::DescribeQuorum(request));
                self.answer(&ticket, response);
            }
        }
    }

    /// Requests that only ask: no state changes but a fresh producer id.
    pub(super) fn describe(&mut self, now: Now, ticket: &Ticket, request: &protocol::Request) -> Response {
        use protocol::Request as R;
        let version = ticket.api_version;
        let producer_id = match request {
            R::InitProducerId(_) => self.fresh_producer_id(),
            _ => -1,
        };
        let raft = self.engine.raft();
        let progress = raft.voter_progress(now);
        let voters: Vec<_> = self
            .context
            .voters
            .iter()
            .enumerate()
            .filter_map(|(place, (id, _))| {
                Some((*id, Endpoint::clone(self.endpoint_for_clients(*id)?), self.is_in_sync(now, place)))
            })
            .collect();
        let view = View {
            cluster_id: &self.context.cluster_id,
            topic_name: &self.context.topic,
            topic_id: self.context.topic_id,
            listener_name: &self.context.listener_name,
            local: self.context.local.id,
            advertised: &self.context.endpoint,
            voters: &voters,
            serves_clients: &|node| self.serves_clients(node),
            leader: raft.living_leader(now),
            epoch: raft.epoch(),
            is_leader: raft.is_leader(),
            high_watermark: raft.high_watermark(),
            log_start: self.engine.log().log_start(),
            log_end: raft.log_end(),
            log_dir: &self.log_dir,
            log_size_bytes: self.engine.log().size_bytes(),
            disk_free_bytes: self.engine.disk_free_bytes(),
            limits: &self.limits,
            segment_bytes_max: self.limits.segment_bytes_max,
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

    /// In a native quorum all nodes are ours. Beside Kafka's voters only those count that have said what they take.
    pub(super) fn serves_clients(&self, node: NodeId) -> bool {
        self.context.data_mode == DataMode::Native
            || node == self.context.local.id
            || self.peers.serves_clients(node)
    }

    /// Where clients find a node: what it advertises, as far as it has told; until then its entry among the voters.
    pub(super) fn endpoint_for_clients(&self, node: NodeId) -> Option<&Arc<Endpoint>> {
        if node == self.context.local.id {
            return Some(&self.context.endpoint);
        }
        self.peers.advertised(node).or_else(|| self.context.endpoint_of(node))
    }

    /// The leader and where clients find it.
    pub(super) fn leader_endpoint_for_clients(&self) -> Option<(NodeId, Arc<Endpoint>)> {
        let leader = self.engine.raft().leader()?;
        Some((leader, self.endpoint_for_clients(leader)?.clone()))
    }

    /// The leader, where clients find it there.
    pub(super) fn leader_for_clients(&self) -> Option<NodeId> {
        self.engine.raft().living_leader(self.now).filter(|leader| self.serves_clients(*leader))
    }

    /// In sync: the leader, and who has caught up with it within the fetch timeout. The leader tells its followers who has
    /// not, so that all nodes say the same. Without a leader nobody is.
    fn is_in_sync(&self, now: Now, place: usize) -> bool {
        let lagging = if self.engine.raft().is_leader() {
            self.engine.raft().lagging(now)
        } else {
            self.engine.lagging()
        };
        self.engine.raft().living_leader(now).is_some() && lagging & (1 << place) == 0
    }

    /// Random 63 bits: no coordination between nodes is needed (Java asks any node, not the leader).
    fn fresh_producer_id(&mut self) -> i64 {
        loop {
            let id = (self.random.next_u64() >> 1) as i64;
            if !self.engine.producers().contains(id) {
                return id;
            }
        }
    }
}

fn voter_status(progress: ReplicaProgress, log_end: Offset, now: Now) -> VoterStatus {
    let ago = |ns: Option<u64>| ns.map(|ns| now.monotonic_ns.saturating_sub(ns) / NS_PER_MS);
    let known = progress.log_end.0 >= 0;
    VoterStatus {
        node_id: progress.key.id.0,
        directory_id: progress.key.directory_id.to_string(),
        log_end_offset: progress.log_end.0,
        lag: if known { log_end.0 - progress.log_end.0 } else { -1 },
        last_fetch_ms_ago: ago(progress.last_fetch_ns),
        last_caught_up_ms_ago: ago(progress.last_caught_up_ns),
    }
}

fn role_name(role: RoleName) -> &'static str {
    match role {
        RoleName::Unattached => "unattached",
        RoleName::Prospective => "prospective",
        RoleName::Candidate => "candidate",
        RoleName::Leader => "leader",
        RoleName::Follower => "follower",
        RoleName::Resigned => "resigned",
        RoleName::Observer => "observer",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_voter_that_never_fetched_has_no_lag() {
        let key = ReplicaKey { id: NodeId(2), directory_id: Uuid::ZERO };
        let now = Now { monotonic_ns: 9 * NS_PER_MS, wall_ms: 0 };
        let lag = |log_end, last_fetch_ns| {
            let progress =
                ReplicaProgress { key, log_end: Offset(log_end), last_fetch_ns, last_caught_up_ns: None };
            let status = voter_status(progress, Offset(7), now);
            (status.lag, status.last_fetch_ms_ago, status.last_caught_up_ms_ago)
        };
        assert_eq!(lag(-1, None), (-1, None, None));
        assert_eq!(lag(0, Some(4 * NS_PER_MS)), (7, Some(5), None));
    }
}
