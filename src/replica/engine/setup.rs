//! How an engine begins: from the configuration, and from what recovery has found.

use std::collections::VecDeque;
use std::sync::Arc;

use super::GatedEngine;
use super::fitness::Fitness;
use super::folded::Copying;
use super::gate::Gate;
use super::install::Install;
use super::latest::Latest;
use super::repeats::Repeats;
use super::uncommitted::Uncommitted;
use crate::config::{Config, Limits};
use crate::log::{Log, LogConfig, RecoveredLog};
use crate::raft::{Effects, Raft, RaftConfig, RecoveredState};
use crate::replica::folds::{Folds, Voters};
use crate::types::*;

/// How long a leader may park our Fetch (Kafka: `KafkaRaftClient.MAX_FETCH_WAIT_MS`).
const FETCH_WAIT_MS_MAX: u64 = 500;

impl<W> GatedEngine<W> {
    pub(crate) fn new(
        config: &Config,
        limits: Arc<Limits>,
        local: ReplicaKey,
        recovered: RecoveredLog,
        mut folds: Folds,
        seed: u64,
        now: Now,
    ) -> GatedEngine<W> {
        // What the log takes for committed is settled.
        folds.settle(HighWatermark(recovered.committed.offset));
        let raft = Raft::new(raft_config(config, folds.voters(), local, seed), state(&recovered), now);
        let log = Log::new(log_config(&limits), recovered);
        let latest = Latest::found(log.log_end().0, log.max_timestamp().map(|(timestamp, _)| timestamp));
        GatedEngine {
            raft,
            log,
            folds,
            copying: Copying::default(),
            install: Install::default(),
            limits,
            local: local.id,
            data_mode: config.data_mode,
            gate: Gate::Recovering,
            resumes: None,
            waiting: VecDeque::new(),
            after_flush: VecDeque::new(),
            truncating_to: VecDeque::new(),
            effects: Effects::default(),
            fetched: Vec::new(),
            uncommitted: Uncommitted::default(),
            latest,
            committed_end: Offset(0),
            lagging: 0,
            role_changed: false,
            start_named: false,
            fitness: Fitness::default(),
            repeats: Repeats::default(),
            stall_reported: false,
            counts: Default::default(),
            told: VecDeque::new(),
            listens: false,
            has_heard: false,
            closing: false,
            stopped: false,
        }
    }
}

pub(crate) fn raft_config(config: &Config, voters: &Voters, local: ReplicaKey, seed: u64) -> RaftConfig {
    RaftConfig {
        local,
        voters: voters.set().to_vec(),
        election_timeout_ms: config.election_timeout_ms,
        fetch_timeout_ms: config.fetch_timeout_ms,
        election_backoff_max_ms: config.election_backoff_max_ms,
        request_timeout_ms: config.request_timeout_ms,
        retry_backoff_ms: config.retry_backoff_ms,
        // A parked Fetch must come back before its sender takes the leader for dead.
        fetch_wait_ms_max: FETCH_WAIT_MS_MAX.min(config.fetch_timeout_ms / 2),
        first_leader: config.first_leader,
        log_doubt: config.log_doubt,
        keeps_own_start: config.data_mode == DataMode::Interop,
        seed,
    }
}

fn state(recovered: &RecoveredLog) -> RecoveredState {
    let (begin, end) = (recovered.begin(), recovered.log_end);
    RecoveredState {
        quorum_state: recovered.quorum_state,
        log_start: recovered.start,
        log_begin: begin,
        log_end: end,
        committed: recovered.committed,
        // The oldest segment may hold more.
        epochs: EpochStart::within(&recovered.epochs, begin.offset, end.0).collect(),
        // It is told when the gate opens, as one that was taken: `Replica::know_snapshots`.
        snapshot: None,
    }
}

/// The log's part of the limits, also for recovery.
pub fn log_config(limits: &Limits) -> LogConfig {
    LogConfig {
        segment_bytes_max: limits.segment_bytes_max,
        segment_ms_max: limits.segment_ms_max,
        zero_ahead_bytes: limits.zero_ahead_bytes,
        write_buffer_bytes: limits.write_buffer_bytes,
        write_buffers: limits.write_buffers,
        group_bytes_max: limits.group_bytes_max,
        tail_cache_bytes_max: limits.tail_cache_bytes_max,
        read_cache_bytes_max: limits.read_cache_bytes_max,
        copies_unread: limits.copies_unread,
        read_piece_bytes: limits.read_piece_bytes,
        unflushed_bytes_max: limits.unflushed_bytes_max,
        commit_mark_idle_ms: limits.commit_mark_idle_ms,
        index_interval_bytes: limits.index_interval_bytes,
        check: LogCheck::Tail,
    }
}
