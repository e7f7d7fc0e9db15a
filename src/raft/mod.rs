//! Consensus: who leads, what is in the log and how much of it is committed, on offsets and epochs alone.
//!
//! `replica` (or a script, or the simulator) feeds events into [`Raft::step`] and carries out the [`Effects`] that
//! come back. This module never sees a byte of a record, a socket, a file or a clock, and draws its jitter from a
//! seed: the same events give the same effects. It follows Kafka's `raft` module (KafkaRaftClient, QuorumState and
//! the `*State` classes); where it departs from it on purpose, the place says so.
//!
//! - `vote`: elections, from both sides. `leader`: begin, check quorum, resign. `follower`: following and fetching.
//!   `replication`: a Fetch from the leader's side, its answer from the follower's. `snapshot`: where records are gone.
//! - `start`: where the log may begin. `belief`: what a request alone may move, and what has to be confirmed by an answer.
//! - `fitness`: who leaves leading to others. `presence`: is there a quorum.
//!   `epochs`: the log as a list of epochs. `high_watermark`: what is committed. `voters`, `role`, `timer`, `random`.
//! - `invariants`: what must hold after every step, checked in release builds too.
//!
//! # What the caller owes
//! - While a quorum state is handed out and not yet durable, no event but `QuorumStateDurable` is stepped.
//! - Every `Effect::Send` is settled by one `Event::Response` (or `FetchOvertaken`), or with all of its kind by one
//!   `Event::RequestFailed`.
//! - `Event::Flushed` comes for every part of the log that becomes durable; a write that a truncation overtook may
//!   still be reported before `Event::Truncated`, and never after it.
//! - `Event::StartMoved` comes with the epochs that this log has before those offsets, and offsets that ascend.
//! - Behind `Effect::PlaceSnapshot` nothing is flushed or cut of the log before `Event::SnapshotInstalled`.
//! - `Event::Tick` comes when `deadline` has passed, which after a step may be at once.

pub(crate) mod effects;
pub(crate) mod event;

mod belief;
mod doubt;
mod empty_voter;
mod epochs;
mod fitness;
mod follower;
mod high_watermark;
mod invariants;
mod leader;
mod presence;
pub(crate) mod random;
mod replication;
mod role;
mod snapshot;
mod start;
mod timer;
mod vote;
mod voters;

#[cfg(test)]
#[path = "tests/cluster.rs"]
mod cluster;
#[cfg(test)]
#[path = "tests/random_walk.rs"]
mod random_walk;
#[cfg(test)]
#[path = "tests/scripts.rs"]
mod scripts;
#[cfg(test)]
#[path = "tests/show.rs"]
mod show;
#[cfg(test)]
#[path = "tests/solo.rs"]
mod solo;

use crate::types::*;
use belief::{Allowance, Asked};
pub use effects::Effects;
pub(crate) use effects::{Assigned, Effect, FetchVerdict, NoteKind};
use empty_voter::Heard;
use epochs::Epochs;
pub(crate) use event::{BatchSpan, FetchResponse, RequestId, Unfit};
pub use event::{
    BeginQuorumEpochRequest, EndQuorumEpochRequest, Event, FetchRequest, LeaderResponse, Request,
    RequestKind, Response, VoteRequest, VoteResponse, VoterMemory,
};
use fitness::Fitness;
use invariants::Standing;
use presence::Presence;
use random::Random;
use role::{Fetcher, Follower, Progress, Resigned, Role, Unattached};
use snapshot::Installing;
use start::Start;
use vote::Rival;
pub(crate) use vote::{Campaigns, Cause};
use voters::Voters;

/// What Raft is told once, at the start. Times are those of Kafka's `controller.quorum.*` keys of the same names.
#[derive(Clone, Debug)]
pub struct RaftConfig {
    /// This node.
    pub local: ReplicaKey,
    /// Static voters in the order of their ids. A node that is not among them is an observer.
    pub voters: Vec<ReplicaKey>,
    /// Without a leader for so long, a voter stands for election.
    pub election_timeout_ms: u64,
    /// Without an answer of the leader for so long, a voter takes it for lost. Also the time of check quorum.
    pub fetch_timeout_ms: u64,
    /// Bound of the random wait after a lost election.
    pub election_backoff_max_ms: u64,
    /// A request without an answer for so long is given up.
    pub request_timeout_ms: u64,
    /// Before a request that has failed is sent again.
    pub retry_backoff_ms: u64,
    /// How long a leader may park our Fetch (Kafka: 500).
    pub fetch_wait_ms_max: u64,
    /// Who may lead a log that nobody has led yet.
    pub first_leader: FirstLeader,
    /// What a node may do whose log may have lost acknowledged records.
    pub log_doubt: LogDoubt,
    /// Kafka's own voters may be among the others, who say nothing of starts: this node's is its own affair.
    pub keeps_own_start: bool,
    /// Seed of the jitter.
    pub seed: u64,
}

/// What recovery found. The log is durable up to `log_end`.
#[derive(Clone, Debug)]
pub struct RecoveredState {
    /// As the file had it: vote, epoch, leader.
    pub quorum_state: QuorumState,
    /// Where readers find the log to start, and the epoch of the record before that.
    pub log_start: OffsetAndEpoch,
    /// How far down replicas find it, and the epoch before that: what is gone still counts in votes.
    pub log_begin: OffsetAndEpoch,
    /// All below is there and was read back.
    pub log_end: LogEndOffset,
    /// All below was known to be committed before this start: nobody may make us cut there. 0: nothing was.
    pub committed: OffsetAndEpoch,
    /// First offset of each epoch in the log, from there on, ascending.
    pub epochs: Vec<EpochStart>,
    /// Where the newest snapshot ends that is whole and fits the log, if there is one; ahead of the log too.
    pub snapshot: Option<OffsetAndEpoch>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoleName {
    Unattached,
    Prospective,
    Candidate,
    Leader,
    Follower,
    Resigned,
    Observer,
}

/// One line of DescribeQuorum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReplicaProgress {
    pub(crate) key: ReplicaKey,
    /// -1 where never heard of.
    pub(crate) log_end: Offset,
    /// Monotonic ns; `None`: never.
    pub(crate) last_fetch_ns: Option<u64>,
    pub(crate) last_caught_up_ns: Option<u64>,
}

/// One node's part in the quorum.
pub struct Raft {
    config: RaftConfig,
    voters: Voters,
    random: Random,
    /// In force in memory; ahead of `durable` only between a step and its `QuorumStateDurable`.
    state: QuorumState,
    durable: QuorumState,
    /// `state` is handed out and not yet confirmed.
    is_awaiting_durable: bool,
    role: Role,
    epochs: Epochs,
    /// As it was told, or found: not before the begin of `epochs`.
    log_start: OffsetAndEpoch,
    /// The log of a follower that is to begin anew.
    installing: Option<Installing>,
    /// `on_fetch_refused` tells a snapshot that is named, and goes without it.
    takes_snapshots: bool,
    flushed: FlushedOffset,
    /// The truncation asked for and not yet confirmed.
    truncating: Option<LogEndOffset>,
    /// The highest that this node has known in any role.
    high_watermark: Option<HighWatermark>,
    /// What it knew to be committed before its last start. Not shown to anybody as a high watermark (Kafka has none before it
    /// hears from a leader); nothing is cut below it.
    committed_before: Offset,
    start: Start,
    shutdown: Shutdown,
    fitness: Fitness,
    presence: Presence,
    /// While not caught up: an epoch before whose election this voter was there, so that it remembers all that it
    /// has promised from then on.
    votes_since: Option<Epoch>,
    campaigns: Campaigns,
    /// The epoch of the first vote of this voter's life, where that was for an empty log.
    first_vote: Option<Epoch>,
    /// Has followed, or been, the log's first leader since this process began: nothing was before it that could be forgotten.
    saw_beginning: bool,
    /// While its memory is not whole: the other voters that have told us their epoch since this process began, and whether
    /// they can have forgotten a newer one.
    heard: Vec<Heard>,
    /// Has our pre-vote, and stands before us.
    rival: Option<Rival>,
    /// When it last said for whom an election waits.
    waiting_noted_ns: Option<u64>,
    allowance: Allowance,
    /// See `believe_requests`.
    is_credulous: bool,
    /// Voters that were asked for their epoch and leader.
    asked: Vec<Asked>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shutdown {
    No,
    /// A leader is handing over, until then at the latest.
    HandingOver {
        deadline: u64,
    },
    Complete,
}

impl Raft {
    /// A node that has just started: unattached, or about to follow the leader that the quorum state names.
    pub fn new(config: RaftConfig, recovered: RecoveredState, now: Now) -> Raft {
        let epochs = Epochs::new(recovered.log_begin, recovered.log_end, recovered.epochs);
        let mut raft = Raft {
            voters: Voters::new(config.local, config.voters.clone()),
            random: Random::new(config.seed ^ (config.local.id.0 as u64).rotate_left(32)),
            state: recovered.quorum_state,
            durable: recovered.quorum_state,
            is_awaiting_durable: false,
            role: Role::Unattached(Unattached { election_deadline: None, fetcher: Fetcher::default() }),
            log_start: recovered.log_start,
            installing: None,
            takes_snapshots: false,
            flushed: FlushedOffset(recovered.log_end.0),
            truncating: None,
            high_watermark: None,
            committed_before: recovered.committed.offset.min(recovered.log_end.0),
            start: Start::found(recovered.snapshot, recovered.log_start.offset),
            shutdown: Shutdown::No,
            fitness: Fitness::default(),
            presence: Presence::new(now),
            votes_since: None,
            campaigns: Campaigns::default(),
            first_vote: None,
            saw_beginning: false,
            rival: None,
            waiting_noted_ns: None,
            heard: Vec::new(),
            allowance: Allowance::full(now),
            is_credulous: false,
            asked: Vec::new(),
            epochs,
            config,
        };
        if raft.state.epoch < raft.epochs.last_epoch() {
            // The log outlived its quorum state: we have not voted in that epoch, or it would stand there.
            let epoch = raft.epochs.last_epoch();
            raft.state = QuorumState { epoch, leader: None, voted: None, ..raft.state };
        }
        if raft.state.leader == Some(raft.config.local.id) && !raft.voters.local_is_voter() {
            // It led while it was a voter. An observer does not resign, it looks for who leads now.
            raft.state.leader = None;
            raft.durable = raft.state;
        }
        if raft.state.voted.is_some() {
            raft.votes_since = Some(raft.state.epoch);
        }
        raft.role = raft.role_at_start(now);
        raft
    }

    /// As Kafka's QuorumState.initialize, but for one case: having voted for ourselves we do not go on with that
    /// election. Records or promises of that epoch may have been lost with the memory; the next one is clean.
    fn role_at_start(&mut self, now: Now) -> Role {
        let is_voter = self.voters.local_is_voter();
        let election_deadline = self.new_election_deadline(now);
        let election_deadline =
            if self.voters.local_is_only_voter() { now.monotonic_ns } else { election_deadline };
        match self.state.leader {
            Some(leader) if leader == self.config.local.id => {
                // KAFKA-10527: never lead the same epoch twice.
                let unacknowledged =
                    self.voters.others().map(|voter| (voter, Some(now.monotonic_ns))).collect();
                Role::Resigned(Resigned { election_deadline, preferred: Vec::new(), unacknowledged })
            }
            Some(leader) if self.voters.contains(leader) => {
                let deadline = self.config.fetch_deadline(now, &mut self.random);
                Role::Follower(Follower::new(leader, deadline, now))
            }
            _ => Role::Unattached(Unattached {
                election_deadline: is_voter.then_some(election_deadline),
                fetcher: Fetcher::due_at(now.monotonic_ns),
            }),
        }
    }

    /// The only way to change Raft state. `effects` is cleared first.
    pub fn step(&mut self, now: Now, event: Event, effects: &mut Effects) {
        effects.clear();
        assert!(
            !self.is_awaiting_durable || event == Event::QuorumStateDurable,
            "{event:?} before the quorum state was durable"
        );
        let before = self.standing();
        self.on_event(now, event, effects);
        self.maybe_end_shutdown(now, effects);
        self.maybe_advance_start(now, effects);
        self.maybe_fetch(now, effects);
        self.finish(&before, effects);
        self.check_step(&before, effects);
    }

    fn on_event(&mut self, now: Now, event: Event, effects: &mut Effects) {
        match event {
            Event::Tick => self.on_tick(now, effects),
            Event::QuorumStateDurable => self.on_quorum_state_durable(),
            Event::Flushed(flushed) => self.on_flushed(now, flushed, effects),
            Event::Truncated(end) => self.on_truncated(now, end, effects),
            Event::StartMoved(at) => self.on_start_moved(now, at, at),
            Event::StartMovedWithin { start, begin } => self.on_start_moved(now, start, begin),
            Event::SnapshotTaken(id) => self.on_snapshot_taken(id),
            Event::WantStart(offset) => self.on_want_start(offset, effects),
            Event::SnapshotFetched(id) => self.on_snapshot_fetched(id, effects),
            Event::SnapshotInstalled { id, begin } => self.on_snapshot_installed(now, id, begin, effects),
            Event::Append { offsets } => effects.assigned = self.on_append(offsets),
            Event::Request { request_id, request } => self.on_request(now, request_id, request, effects),
            Event::Response { from, response } => self.on_response(now, from, response, effects),
            Event::RequestFailed { to, kind } => self.on_request_failed(now, to, kind),
            Event::FetchOvertaken { to } => {
                if let Some(fetcher) = self.role.fetcher() {
                    fetcher.on_overtaken(to);
                }
            }
            Event::Refused { by } => self.on_refused(now, by, effects),
            Event::FlushStalled => self.on_flush_stalled(now, effects),
            Event::Fitness(unfit) => self.on_fitness(now, unfit, effects),
            Event::Shutdown => self.on_shutdown(now, effects),
        }
    }

    fn on_request(&mut self, now: Now, request_id: RequestId, request: Request, effects: &mut Effects) {
        let reply = match request {
            Request::Vote(request) => Response::Vote(self.on_vote_request(now, request, effects)),
            Request::BeginQuorumEpoch(request) => {
                Response::BeginQuorumEpoch(self.on_begin_quorum_epoch_request(now, request, effects))
            }
            Request::EndQuorumEpoch(request) => {
                Response::EndQuorumEpoch(self.on_end_quorum_epoch_request(now, request, effects))
            }
            Request::Fetch(request) | Request::AskEpoch(request) => {
                let verdict = self.on_fetch_request(now, &request, effects);
                effects.at_once.push(Effect::Fetched { request_id, verdict });
                return;
            }
        };
        effects.at_once.push(Effect::Reply { request_id, response: reply });
    }

    fn on_response(&mut self, now: Now, from: NodeId, response: Response, effects: &mut Effects) {
        self.maybe_hear(from, &response);
        match response {
            Response::Vote(response) => self.on_vote_response(now, from, response, effects),
            Response::BeginQuorumEpoch(response) => {
                self.on_begin_quorum_epoch_response(now, from, response, effects)
            }
            Response::EndQuorumEpoch(response) => {
                self.on_end_quorum_epoch_response(now, from, response, effects)
            }
            // Whoever answers in a later epoch has moved us by that alone.
            Response::AskEpoch(LeaderResponse { error, leader, epoch }) => {
                self.is_current_response(now, from, error, epoch, leader, effects);
                if epoch == self.state.epoch && leader == Some(from) {
                    self.on_leader_confirmed(now, from, effects);
                } else if epoch == self.state.epoch {
                    self.on_leader_left(now, from, effects);
                }
            }
            Response::Fetch(mut response) => {
                self.on_fetch_response(now, from, &response, effects);
                response.batches.clear();
                effects.spans = response.batches;
            }
        }
    }

    fn on_request_failed(&mut self, now: Now, to: NodeId, kind: RequestKind) {
        let retry_at = self.config.retry_at(now);
        match (kind, &mut self.role) {
            (RequestKind::Vote, Role::Prospective(election) | Role::Candidate(election)) => {
                if let Some(ballot) = election.ballot_of(to)
                    && ballot.answer == role::Answer::Asked
                {
                    ballot.answer = role::Answer::AskAt(retry_at);
                }
            }
            (RequestKind::EndQuorumEpoch, Role::Resigned(resigned)) => {
                for (voter, at) in &mut resigned.unacknowledged {
                    if voter.id == to {
                        *at = Some(retry_at);
                    }
                }
            }
            (RequestKind::Fetch, _) => self.on_fetches_failed(now, to),
            // BeginQuorumEpoch goes out again by its timer; other failures belong to a role that is over.
            _ => {}
        }
    }

    fn on_tick(&mut self, now: Now, effects: &mut Effects) {
        match &self.role {
            Role::Unattached(unattached) => {
                if timer::has_passed(unattached.election_deadline, now) {
                    self.campaign(
                        now,
                        Cause::NoLeader,
                        "no leader was found within the election timeout",
                        effects,
                    );
                }
            }
            Role::Prospective(_) | Role::Candidate(_) => self.on_election_tick(now, effects),
            Role::Leader(_) => self.on_leader_tick(now, effects),
            Role::Follower(follower) => {
                if follower.fetch_deadline <= now.monotonic_ns {
                    self.on_fetch_timeout(now, effects);
                }
            }
            Role::Resigned(resigned) => {
                if resigned.election_deadline <= now.monotonic_ns && self.may_still_campaign() {
                    self.campaign(
                        now,
                        Cause::NobodyTookOver,
                        "nobody took over within the election timeout",
                        effects,
                    );
                } else {
                    self.send_end_quorum_epoch(now, effects);
                }
            }
        }
    }

    fn on_quorum_state_durable(&mut self) {
        assert!(self.is_awaiting_durable, "no quorum state was handed out");
        self.is_awaiting_durable = false;
        self.durable = self.state;
        if let Role::Leader(leader) = &mut self.role {
            leader.has_begun = true;
        }
    }

    fn on_flushed(&mut self, now: Now, flushed: FlushedOffset, effects: &mut Effects) {
        // A write that the truncation overtook: what it wrote above the new end is gone.
        let end = self.truncating.unwrap_or(self.log_end());
        assert!(
            self.truncating.is_some() || flushed.0 <= end.0,
            "flushed up to {flushed}, the log ends at {end}"
        );
        self.flushed = self.flushed.max(FlushedOffset(flushed.0.min(end.0)));
        self.on_gates_flushed(now);
        self.maybe_advance_high_watermark(effects);
    }

    fn on_truncated(&mut self, now: Now, end: LogEndOffset, effects: &mut Effects) {
        if self.truncating != Some(end) {
            effects.notes.push(format!("ignored the end of a truncation to {end} that is not under way"));
            return;
        }
        self.truncating = None;
        if let Role::Follower(follower) = &mut self.role {
            follower.fetcher.due = Some(now.monotonic_ns);
        }
        self.maybe_place(effects);
    }

    /// Put what this step did into its class: behind the quorum state if that has changed.
    fn finish(&mut self, before: &Standing, effects: &mut Effects) {
        let is_changed = !before.is_same_role(&self.standing());
        if is_changed {
            effects.at_once.insert(0, Effect::RoleChanged);
            self.forget_install();
        }
        if self.state != self.durable {
            self.is_awaiting_durable = true;
            effects.quorum_state = Some(self.state);
            std::mem::swap(&mut effects.at_once, &mut effects.after_quorum_state);
        } else if !is_changed {
            // `RoleChanged` makes the caller forget what waits for a flush; then the flush's own step sends it.
            self.hand_out_gates(effects);
        }
    }

    /// Monotonic ns at which `Event::Tick` is due.
    pub(crate) fn deadline(&self) -> Option<u64> {
        use timer::earliest;
        if self.is_awaiting_durable {
            return None;
        }
        let shutdown = match self.shutdown {
            Shutdown::HandingOver { deadline } => Some(deadline),
            _ => None,
        };
        let campaigns = self.shutdown == Shutdown::No;
        let role = match &self.role {
            Role::Unattached(unattached) => {
                earliest(unattached.election_deadline.filter(|_| campaigns), self.fetch_due())
            }
            Role::Prospective(election) | Role::Candidate(election) => {
                earliest(Some(election.deadline), self.next_ask_at(election)).filter(|_| campaigns)
            }
            Role::Leader(leader) => earliest(
                earliest(
                    Some(leader.begin_at).filter(|_| leader.progress.len() > 1),
                    leader.check_quorum_deadline,
                ),
                earliest(self.hand_over_due(), self.start_due()),
            ),
            Role::Follower(follower) => {
                earliest(Some(follower.fetch_deadline).filter(|_| campaigns), self.fetch_due())
            }
            Role::Resigned(resigned) => earliest(
                Some(resigned.election_deadline).filter(|_| campaigns),
                resigned.unacknowledged.iter().filter_map(|(_, at)| *at).min(),
            ),
        };
        earliest(shutdown, role)
    }

    pub(crate) fn role(&self) -> RoleName {
        self.role.name(self.voters.local_is_voter())
    }

    pub(crate) fn epoch(&self) -> Epoch {
        self.state.epoch
    }

    /// The leader of the epoch where known, ourselves included. `None` when we led it and gave up.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.state.leader.filter(|leader| *leader != self.config.local.id || self.is_leader())
    }

    /// Leader, and the epoch has begun (LeaderChange appended): `Event::Append` will be given a place.
    pub fn can_append(&self) -> bool {
        matches!(&self.role, Role::Leader(leader) if leader.has_begun)
    }

    pub(crate) fn is_leader(&self) -> bool {
        matches!(self.role, Role::Leader(_))
    }

    /// `None`: unknown (a leader's epoch has not committed yet, a follower has not heard).
    pub(crate) fn high_watermark(&self) -> Option<HighWatermark> {
        match &self.role {
            // Kafka: a new leader cannot know that its own is the newest that was ever shown to anybody.
            Role::Leader(leader) if !leader.has_committed => None,
            _ => self.high_watermark,
        }
    }

    pub(crate) fn log_end(&self) -> LogEndOffset {
        self.epochs.log_end()
    }

    /// First offset that is not gone for consumers.
    pub(crate) fn log_start(&self) -> Offset {
        self.log_start.offset
    }

    /// First offset that replicas are given.
    fn log_begin(&self) -> Offset {
        self.epochs.begin().offset
    }

    #[cfg(test)]
    pub(crate) fn flushed(&self) -> FlushedOffset {
        self.flushed
    }

    /// Epoch of the record before the offset, also where that is gone.
    pub(crate) fn epoch_before(&self, offset: Offset) -> Epoch {
        self.epochs.epoch_before(offset)
    }

    /// OffsetForLeaderEpoch: end of the largest epoch <= `epoch`, with that epoch; `None` where the log has none.
    pub(crate) fn end_of_epoch(&self, epoch: Epoch) -> Option<OffsetAndEpoch> {
        self.epochs.told_end_of_epoch(epoch)
    }

    /// Epoch of the record at the offset.
    pub(crate) fn epoch_at(&self, offset: Offset) -> Option<Epoch> {
        self.epochs.epoch_at(offset)
    }

    pub(crate) fn epochs(&self) -> &[EpochStart] {
        self.epochs.starts()
    }

    /// Leader: voters in the order of their ids, ourselves among them. Others: empty.
    pub(crate) fn voter_progress(&self, now: Now) -> Vec<ReplicaProgress> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        leader
            .progress
            .iter()
            .map(|progress| {
                if progress.key.id != self.config.local.id {
                    return ReplicaProgress::from(progress);
                }
                let at = Some(now.monotonic_ns);
                ReplicaProgress {
                    key: progress.key,
                    log_end: self.log_end().0,
                    last_fetch_ns: at,
                    last_caught_up_ns: at,
                }
            })
            .collect()
    }

    /// Leader: observers heard of within the last five minutes (Kafka: OBSERVER_SESSION_TIMEOUT_MS).
    pub(crate) fn observer_progress(&self, now: Now) -> Vec<ReplicaProgress> {
        let Role::Leader(leader) = &self.role else { return Vec::new() };
        let since = now.monotonic_ns.saturating_sub(leader::OBSERVER_SESSION_TIMEOUT_MS * NS_PER_MS);
        leader
            .observers
            .iter()
            .filter(|progress| progress.last_fetch_ns.is_some_and(|at| at >= since))
            .map(ReplicaProgress::from)
            .collect()
    }

    /// How often this node has stood since its start, by `Cause::ALL`.
    pub(crate) fn campaigns(&self) -> &Campaigns {
        &self.campaigns
    }

    pub(crate) fn quorum_state(&self) -> QuorumState {
        self.state
    }
}

impl From<&Progress> for ReplicaProgress {
    fn from(progress: &Progress) -> ReplicaProgress {
        ReplicaProgress {
            key: progress.key,
            log_end: progress.log_end,
            last_fetch_ns: progress.last_fetch_ns,
            last_caught_up_ns: progress.last_caught_up_ns,
        }
    }
}
