//! Raft and the log as one thing: what is stepped, appended and completed goes in, what is committed comes out.
//!
//! `Replica` puts in what happens (`step`, `append`, `complete`, `take_fetched`), ends a turn with `advance`, and takes out what
//! the engine tells (`poll`, then `go_on` until there is nothing more) and the operations for the device (`poll_op`). Raft's
//! effects become operations of the log, the log's events become Raft's events; nothing that must be durable first leaves before
//! (`gate`, `after_flush`).
//!
//! It knows no request: what waits for a commit, a flush or records lies in the parts above it, which read `raft()` and
//! `log()`, and change neither. It never calls them: see `told`.

mod commit;
mod disk;
mod effects;
mod fetched;
mod fitness;
mod folded;
mod gate;
mod install;
mod latest;
#[cfg(test)]
mod opened;
mod repeats;
mod setup;
mod start;
mod told;
mod turn;
mod uncommitted;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::config::Limits;
use crate::log::{Log, ReadOutcome, Want};
use crate::raft::{Effect, Effects, Event, Raft};
use crate::record::{BatchList, StampedBatch};
use crate::replica::folds::Folds;
use crate::types::*;
use fitness::Fitness;
use folded::Copying;
pub use folded::{Folded, NotFolded};
use gate::{Gate, Waiting};
use install::Install;
pub(crate) use install::WantedSnapshot;
use latest::Latest;
use repeats::Repeats;
pub use setup::log_config;
#[cfg(test)]
pub(super) use setup::raft_config;
pub(super) use told::{Next, Told};
use uncommitted::Uncommitted;

/// `W`: what the parts above put off while the gate is shut. Not looked into.
pub(super) struct GatedEngine<W> {
    raft: Raft,
    log: Log,
    folds: Folds,
    copying: Copying,
    install: Install,
    limits: Arc<Limits>,
    local: NodeId,
    data_mode: DataMode,
    // What must be durable first.
    gate: Gate,
    /// Stepped before anything that waits: the gate has just opened.
    resumes: Option<Event>,
    waiting: VecDeque<Waiting<W>>,
    after_flush: VecDeque<(FlushedOffset, Effect)>,
    /// Ends that the log was asked to cut to and has not cut to yet.
    truncating_to: VecDeque<LogEndOffset>,
    // Of the step under way.
    /// Of no step: kept for its room.
    effects: Effects,
    /// Batches of the Fetch answer that is being stepped.
    fetched: Vec<StampedBatch>,
    // What is known of the log and its readers.
    uncommitted: Uncommitted,
    latest: Latest,
    committed_end: Offset,
    /// Leader: the voters that are not in sync, as of this turn. Follower: as the leader told. By their places.
    lagging: u32,
    /// Since the last turn.
    role_changed: bool,
    /// What is named to replicas has risen since the last turn.
    start_named: bool,
    fitness: Fitness,
    repeats: Repeats,
    stall_reported: bool,
    counts: Counts,
    // What is told.
    told: VecDeque<Told>,
    /// The log may have something to tell.
    listens: bool,
    has_heard: bool,
    /// Handed over: the log is being closed, and takes nothing more.
    closing: bool,
    stopped: bool,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(super) flushes: u64,
    pub(super) committed_bytes: u64,
    /// Epochs that this node began as leader.
    pub(super) leader_changes: u64,
    /// Records copied from a leader.
    pub(super) replicated_records: u64,
}

impl<W> GatedEngine<W> {
    /// It takes what comes: neither is something being made durable first, nor has it come to its end.
    pub(super) fn is_open(&self) -> bool {
        !self.is_gated() && !self.closing && !self.stopped
    }

    /// The log is being closed: whatever comes is too late.
    pub(super) fn is_closing(&self) -> bool {
        self.closing
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped
    }

    pub(super) fn raft(&self) -> &Raft {
        &self.raft
    }

    pub(super) fn log(&self) -> &Log {
        &self.log
    }

    pub(super) fn folds(&self) -> &Folds {
        &self.folds
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// Nothing more should be appended for clients until it turns false.
    pub(super) fn is_full(&self) -> bool {
        self.log.is_full() || self.uncommitted.bytes() >= self.limits.uncommitted_bytes_max
    }

    pub(super) fn uncommitted_bytes(&self) -> u64 {
        self.uncommitted.bytes()
    }

    /// The latest time of all committed records; `None`: no record has been committed.
    pub(super) fn latest_committed(&self) -> Option<i64> {
        self.latest.committed()
    }

    /// The log was cut in memory, and is not yet on the disk.
    pub(super) fn is_truncating(&self) -> bool {
        !self.truncating_to.is_empty() || self.log.is_installing()
    }

    /// Voters that are not in sync: a bit for each place among them.
    pub(super) fn lagging(&self) -> u32 {
        self.lagging
    }

    /// Role, epoch or leader are others than in the last turn.
    pub(super) fn has_role_changed(&self) -> bool {
        self.role_changed
    }

    /// The start that is named to replicas is another than in the last turn.
    pub(super) fn is_start_named(&self) -> bool {
        self.start_named
    }

    pub(super) fn leads_in(&self, epoch: Epoch) -> bool {
        self.raft.is_leader() && self.raft.epoch() == epoch
    }

    /// Where consumers read up to; 0 where that is not known.
    pub(super) fn committed_or_zero(&self) -> Offset {
        self.raft.high_watermark().map_or(Offset(0), |high_watermark| high_watermark.0)
    }

    /// Kafka's `Partition.checkCurrentLeaderEpoch`, then leadership. -1: the client does not know an epoch.
    pub(super) fn check_leader(&self, current_leader_epoch: i32) -> ErrorCode {
        match current_leader_epoch {
            e if e >= 0 && e < self.raft.epoch().0 => ErrorCode::FENCED_LEADER_EPOCH,
            e if e > self.raft.epoch().0 => ErrorCode::UNKNOWN_LEADER_EPOCH,
            _ if !self.raft.is_leader() => ErrorCode::NOT_LEADER_OR_FOLLOWER,
            _ => ErrorCode::NONE,
        }
    }

    /// See `Log::read_memory`.
    pub(super) fn read_memory(&mut self, from: Offset, bound: Offset, max_bytes: usize) -> ReadOutcome {
        self.log.read_memory(from, bound, max_bytes)
    }

    /// Answered with `Told::ReadDone`.
    pub(super) fn read_device(&mut self, token: u64, want: Want, fills_piece: bool) {
        self.log.read_device(token, want, fills_piece);
    }

    /// See `Log::read_ahead`.
    pub(super) fn read_ahead(&mut self, from: Offset, bytes: usize) -> bool {
        self.log.read_ahead(from, bytes)
    }

    /// See `Log::read_block`.
    pub(super) fn read_block(&mut self, want: Want) -> Option<BatchList> {
        self.log.read_block(want)
    }

    /// See `Log::set_read_cache`.
    pub(super) fn set_read_cache(&mut self, bytes_max: usize) {
        self.log.set_read_cache(bytes_max);
    }

    /// (address, length) of the log's write buffers, to register with the ring.
    pub(super) fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        self.log.buffer_regions()
    }

    /// See `Log::close_segment`.
    pub(super) fn close_segment(&mut self) {
        self.log.close_segment();
    }

    /// See `Log::rest`.
    pub(super) fn rest(&mut self) {
        self.log.rest();
    }

    /// The node is dead, and its memory is to be used again.
    pub(super) fn free_buffers(self) {
        self.log.free_buffers();
    }

    /// A lie of the simulator: whoever names an epoch is believed.
    pub(super) fn believe_requests(&mut self) {
        self.raft.believe_requests();
    }
}
