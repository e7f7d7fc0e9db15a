//! What a replica says of itself to whoever runs it: to /status, /ready and the metrics.

use serde::Serialize;

use super::counters::Counters;
use super::desk::{Desk, Engine};
use super::room::taken::Bounded;
use super::snapshots::{SnapshotCounts, SnapshotsStatus};
use crate::log::BlockCounts;
use crate::raft::{Campaigns, ReplicaProgress, RoleName, Unfit};
use crate::types::*;

/// What /status, /ready and the metrics show.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Status {
    pub(crate) node_id: i32,
    pub(crate) directory_id: String,
    pub(crate) cluster_id: String,
    pub(crate) topic: String,
    /// "leader", "follower", "candidate", "prospective", "unattached", "resigned", "observer"
    pub role: &'static str,
    pub(crate) epoch: i32,
    pub(crate) leader_id: Option<i32>,
    pub(crate) high_watermark: Option<i64>,
    /// Of a leader the one that clients are told, where it knows that; else where this node's log starts.
    pub(crate) log_start_offset: i64,
    /// Where it is to start once a majority, and this node, can; never below that.
    pub(crate) log_start_wanted: i64,
    pub(crate) log_end_offset: i64,
    pub(crate) flushed_offset: i64,
    pub(crate) log_size_bytes: u64,
    pub(crate) unflushed_bytes: u64,
    /// A quorum can commit, and this node does its part in it.
    pub ready: bool,
    /// Why it is not, as a sentence goes on behind "not ready: ".
    pub(crate) not_ready: Option<String>,
    /// Why this node leaves leading to others, if they can.
    pub(crate) unfit: Option<&'static str>,
    /// The end of the log was damaged at a start: this node votes for nobody before it has caught up with a leader.
    pub(crate) log_in_doubt: bool,
    /// Records that cannot be read: where and why.
    pub(crate) log_damage: Option<String>,
    /// The disk is full: what makes the log grow is tried again and again.
    pub(crate) waits_for_room: bool,
    pub(crate) voters: Vec<VoterStatus>,
    pub(crate) observers: Vec<VoterStatus>,
    pub(crate) producer_ids: usize,
    pub(crate) parked_requests: usize,
    /// Room in the file system of the log; `None`: not known yet.
    pub(crate) disk_free_bytes: Option<u64>,
    /// Less than `kraft.disk.free.warn.bytes`.
    pub(crate) disk_low: bool,
    /// Of the newest snapshot of this node: its end, and what the file has.
    pub(crate) snapshot_offset: Option<i64>,
    pub(crate) snapshot_epoch: Option<i32>,
    pub(crate) snapshot_bytes: Option<u64>,
    /// Why none is taken, or was not the last time.
    pub(crate) snapshot_problem: Option<String>,
    pub(crate) counters: Counters,
    /// For the metrics alone.
    #[serde(skip)]
    pub(crate) watched: Watched,
}

/// What only a monitoring system asks for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Watched {
    /// Node and directory that this one has voted for in its epoch.
    pub(crate) voted: Option<ReplicaKey>,
    pub(crate) log_end_epoch: i32,
    pub(crate) campaigns: Campaigns,
    /// Mean and maximum in ms of the elections that ended within the last minute.
    pub(crate) election_latency_ms: Option<(f64, f64)>,
    pub(crate) disk_free_bytes_warn: u64,
    pub(crate) disk_free_bytes_min: u64,
    /// Snapshots that are kept, how long ago the last one was begun (or this node started, where it has taken none), and totals.
    pub(crate) snapshots_kept: usize,
    pub(crate) snapshot_age_ms: u64,
    pub(crate) snapshot_counts: SnapshotCounts,
    /// Read from the device for clients and not taken yet.
    pub(crate) device_reads: Bounded,
    /// What was read, and is kept for other readers.
    pub(crate) blocks: BlockCounts,
    /// Reads that wait for their turn at the device.
    pub(crate) device_reads_waiting: usize,
    /// Requests for many things that are put off, and what they take decoded.
    pub(crate) heavy_requests: usize,
    pub(crate) heavy_bytes: Bounded,
    /// From here on the replica's core knows, not the replica: the device's durable writes, each from the ring to its completion.
    pub(crate) device_flushes: LatencyBuckets,
    /// To each voter, as the kernel's TCP measures it, once a second.
    pub(crate) round_trips: Vec<(i32, LatencyBuckets)>,
    /// Part of the last second in which the core slept.
    pub(crate) idle_ratio: Option<f64>,
}

/// Where a node stands, for whoever checks it after every turn: cheaper than `Status`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) role: RoleName,
    pub(crate) epoch: Epoch,
    pub(crate) leader: Option<NodeId>,
    pub(crate) high_watermark: Option<HighWatermark>,
    pub(crate) log_start: Offset,
    /// As a leader tells it to its clients.
    pub(crate) told_start: Option<Offset>,
    /// What is folded is of the log: if not, this node takes no snapshots, nor moves its start, before it starts again.
    pub(crate) knows_folds: bool,
    pub(crate) log_end: LogEndOffset,
    pub(crate) flushed: FlushedOffset,
    /// Something that promises rest on is being made durable: nobody has heard of this role and epoch yet.
    pub(crate) is_gated: bool,
    /// The log was cut in memory, and is not yet on the disk.
    pub(crate) is_truncating: bool,
    pub(crate) memory: MemoryUse,
}

/// What a node keeps in memory, each part with a limit of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct MemoryUse {
    /// `unflushed_bytes_max`
    pub(crate) unflushed_bytes: u64,
    /// `uncommitted_bytes_max`, while it leads.
    pub(crate) uncommitted_bytes: u64,
    /// `tail_cache_bytes_max`, and all that is unflushed.
    pub(crate) tail_cache_bytes: u64,
    /// `parked_requests_max`, for these and for those.
    pub(crate) parked_produces: usize,
    pub(crate) parked_fetches: usize,
    /// `producer_ids_max`
    pub(crate) producer_ids: usize,
    /// Read from the device for clients and not taken yet: `device_reads_bytes_max`.
    pub(crate) device_read_bytes: usize,
    /// `heavy_bytes_max`
    pub(crate) heavy_bytes: usize,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct VoterStatus {
    pub(crate) node_id: i32,
    pub(crate) directory_id: String,
    /// -1: not known here (only the leader knows the others).
    pub(crate) log_end_offset: i64,
    pub(crate) lag: i64,
    pub(crate) last_fetch_ms_ago: Option<u64>,
    pub(crate) last_caught_up_ms_ago: Option<u64>,
}

/// What the parts hold.
pub(super) struct Held {
    pub(super) produces: usize,
    pub(super) alterations: usize,
    /// All that wait, and those of them that wait for records.
    pub(super) fetches: usize,
    pub(super) parked_fetches: usize,
    pub(super) heavy: usize,
    pub(super) heavy_bytes: Bounded,
    pub(super) snapshots: SnapshotsStatus,
}

/// Where the node stands.
pub(super) fn standing(engine: &Engine, desk: &Desk, held: &Held) -> Standing {
    Standing {
        role: engine.raft().role(),
        epoch: engine.raft().epoch(),
        leader: engine.raft().leader(),
        high_watermark: engine.raft().high_watermark(),
        log_start: engine.log().log_start(),
        told_start: engine.told_start(),
        knows_folds: !engine.folds().has_lost(),
        log_end: engine.raft().log_end(),
        flushed: engine.log().flushed(),
        is_gated: engine.is_gated(),
        is_truncating: engine.is_truncating(),
        memory: MemoryUse {
            unflushed_bytes: engine.log().unflushed_bytes(),
            uncommitted_bytes: engine.uncommitted_bytes(),
            tail_cache_bytes: engine.log().tail_cache_bytes(),
            parked_produces: held.produces,
            parked_fetches: held.parked_fetches,
            producer_ids: engine.folds().producers().len(),
            device_read_bytes: desk.reads.held_bytes(),
            heavy_bytes: held.heavy_bytes.taken,
        },
    }
}

/// `now`: of who asks, who may come between two turns.
pub(super) fn status(
    engine: &Engine,
    desk: &Desk,
    held: &Held,
    election_latency_ms: Option<(f64, f64)>,
    now: Now,
) -> Status {
    let raft = engine.raft();
    let (log_end, high_watermark) = (raft.log_end().0, raft.high_watermark());
    let lines = |progress: Vec<ReplicaProgress>| {
        progress.into_iter().map(|p| voter_status(p, log_end, now)).collect::<Vec<_>>()
    };
    let not_ready = why_not_ready(engine, now);
    let snapshots = &held.snapshots;
    Status {
        node_id: desk.context.local.id.0,
        directory_id: desk.context.local.directory_id.to_string(),
        cluster_id: desk.context.cluster_id.to_string(),
        topic: desk.context.topic.to_string(),
        role: role_name(raft.role()),
        epoch: raft.epoch().0,
        leader_id: raft.living_leader(now).map(|l| l.0),
        high_watermark: high_watermark.map(|hw| hw.0.0),
        log_start_offset: engine.told_start().unwrap_or(engine.log().log_start()).0,
        log_start_wanted: raft.wanted_start().0,
        log_end_offset: log_end.0,
        flushed_offset: engine.log().flushed().0.0,
        log_size_bytes: engine.log().size_bytes(),
        unflushed_bytes: engine.log().unflushed_bytes(),
        ready: not_ready.is_none(),
        not_ready,
        unfit: raft.unfit().map(Unfit::name),
        log_in_doubt: raft.doubt().is_some(),
        log_damage: engine.log_damage(),
        waits_for_room: engine.waits_for_room(),
        voters: lines(raft.voter_progress(now)),
        observers: lines(raft.observer_progress(now)),
        producer_ids: engine.folds().producers().len(),
        parked_requests: held.produces + held.alterations + held.fetches,
        disk_free_bytes: Some(engine.disk_free_bytes()).filter(|bytes| *bytes < u64::MAX),
        disk_low: engine.is_disk_low(),
        snapshot_offset: snapshots.newest.map(|newest| newest.id.offset.0),
        snapshot_epoch: snapshots.newest.map(|newest| newest.id.epoch.0),
        snapshot_bytes: snapshots.newest.map(|newest| newest.bytes),
        snapshot_problem: snapshots.problem.clone(),
        counters: counters(engine, desk),
        watched: Watched {
            voted: raft.quorum_state().voted,
            log_end_epoch: raft.epochs().last().map_or(0, |last| last.epoch.0),
            campaigns: *raft.campaigns(),
            election_latency_ms,
            disk_free_bytes_warn: desk.limits.disk_free_bytes_warn,
            disk_free_bytes_min: desk.limits.disk_free_bytes_min,
            snapshots_kept: snapshots.kept,
            snapshot_age_ms: now.monotonic_ns.saturating_sub(snapshots.taken_ns) / NS_PER_MS,
            snapshot_counts: snapshots.counts,
            device_reads: Bounded { taken: desk.reads.held_bytes(), max: desk.reads.bytes_max() },
            blocks: engine.log().block_counts(),
            device_reads_waiting: desk.reads.waiting(),
            heavy_requests: held.heavy,
            heavy_bytes: held.heavy_bytes,
            ..Watched::default()
        },
    }
}

fn counters(engine: &Engine, desk: &Desk) -> Counters {
    let counts = engine.counts();
    Counters {
        flushes: counts.flushes,
        committed_bytes: counts.committed_bytes,
        leader_changes: counts.leader_changes,
        replicated_records: counts.replicated_records,
        ..desk.counters.clone()
    }
}

/// Ready means that a quorum can commit, and that this node does its part: a vote that it cannot give is one.
fn why_not_ready(engine: &Engine, now: Now) -> Option<String> {
    let reasons = [why_no_part(engine, now), engine.raft().doubt().map(str::to_string)];
    reasons.into_iter().flatten().reduce(|what, doubt| format!("{what}; {doubt}"))
}

fn why_no_part(engine: &Engine, now: Now) -> Option<String> {
    let raft = engine.raft();
    let high_watermark = raft.high_watermark();
    Some(match () {
        _ if engine.is_gated() => "what was promised is being made durable".to_string(),
        _ if raft.living_leader(now).is_none() => match raft.leader() {
            Some(leader) => {
                format!("no quorum: nothing has been heard of the leader {leader} within the fetch timeout")
            }
            None => "no quorum: no leader is known".to_string(),
        },
        _ if high_watermark.is_none() => "it is not known yet what is committed".to_string(),
        _ if !raft.is_leader() && high_watermark.is_some_and(|known| raft.log_end().0 < known.0) => {
            "this node has not caught up with the leader".to_string()
        }
        _ => match engine.log_damage() {
            Some(damage) => format!("log damaged at {damage}"),
            None => raft.unfit()?.sentence().to_string(),
        },
    })
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
