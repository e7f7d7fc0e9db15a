//! One whole node without sockets or files: turns requests, peers' bytes, disk completions and time into answers,
//! bytes and disk operations.
//!
//! Called by `server::replica_core` (and by the simulator): any number of `handle`, then one `end_turn`, then
//! `poll_action` until it is empty. That is a turn. `handle` only changes state and queues; `end_turn` forms the
//! device group, wakes parked requests and answers them, so that sixteen produces that arrive together make one
//! group and wake each follower once. Never touches a socket, a file or a clock.
//!
//! While something that promises rest on is not yet durable (recovery's opening flush, a vote, a new epoch), inputs
//! wait in `deferred` behind the [`Gate`], in order; disk completions pass.

pub mod admit;
mod collapse;
pub mod cost;
mod elections;
mod fetch;
mod fitness;
mod forward;
mod heavy;
mod input;
pub mod inspection;
mod latest;
mod leaderless;
mod list_offsets;
mod newcomers;
pub mod peers;
mod produce;
pub mod producers;
mod purgatory;
mod quorum;
pub mod receive;
pub mod receive_pool;
mod repeats;
pub mod requests;
pub mod room;
mod searches;
pub mod session;
mod silence;
pub mod stages;
mod status;

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::config::{Config, Limits};
use crate::log::{Log, LogConfig, LogEvent, ReadError, RecoveredLog};
use crate::protocol::quorum::QuorumContext;
use crate::protocol::{self, Response};
use crate::raft::random::Random;
use crate::raft::{Assigned, Effect, Effects, Event, NoteKind, Raft, RequestId};
use crate::record::StampedBatch;
use crate::types::*;
use admit::Admitted;
use elections::Elections;
use fetch::Fetches;
use fitness::Fitness;
use forward::Forwarding;
use heavy::Heavy;
pub use input::*;
use latest::Latest;
use leaderless::Leaderless;
use newcomers::Newcomers;
use peers::{PeerAction, PeerTimes, Peers};
use produce::Uncommitted;
use producers::Producers;
use purgatory::Purgatory;
use quorum::VoterRequest;
use repeats::Repeats;
use room::answers::{Given, Share};
use room::reads::{ReadLimits, Reads};
use searches::Searches;
use silence::Silences;
use stages::Stages;
pub use status::*;

/// A frame says first how long it is.
const FRAME_LENGTH_BYTES: u64 = 4;

/// Why inputs wait.
enum Gate {
    Open,
    /// Recovery's repairs and its opening flush are under way: this node has not spoken yet.
    Recovering,
    /// The quorum state is being written: what may be done when it is durable, and what waits for a flush too.
    QuorumState {
        then: Vec<Effect>,
        after_flush: Vec<(FlushedOffset, Effect)>,
    },
}

/// Between two attempts to reach voters that nothing is asked of, only to hear where clients find them.
const GREET_INTERVAL_MS: u64 = 2_000;

enum Deferred {
    Event(Event),
    Input(Input),
    /// Its answer would tell an epoch that is not durable yet.
    Read {
        token: u64,
        result: Result<Vec<StampedBatch>, ReadError>,
    },
}

pub struct Replica {
    limits: Limits,
    context: QuorumContext,
    fetch_timeout_ms: u64,
    raft: Raft,
    log: Log,
    peers: Peers,
    forwarding: Forwarding,
    producers: Producers,
    newcomers: Newcomers,
    purgatory: Purgatory,
    fetches: Fetches,
    reads: Reads,
    /// When the log was seen to write last.
    written_ns: u64,
    /// What each core's clients may be given. Of one that is not named here, all that they ask for.
    shares: Vec<Arc<Share>>,
    /// Who waits for the device, or for what others have not taken, is looked at again then.
    reads_due: Option<u64>,
    searches: Searches,
    latest: Latest,
    voter_requests: BTreeMap<RequestId, VoterRequest>,
    gate: Gate,
    /// Ends that the log was asked to cut to and has not cut to yet.
    truncating_to: VecDeque<LogEndOffset>,
    deferred: VecDeque<Deferred>,
    heavy: Heavy,
    after_flush: VecDeque<(FlushedOffset, Effect)>,
    /// Of no step: kept for its room.
    effects: Effects,
    /// Batches of the Fetch answer that is being stepped.
    fetched: Vec<StampedBatch>,
    /// Each batch above the high watermark, in order.
    uncommitted: VecDeque<Uncommitted>,
    uncommitted_bytes: u64,
    actions: VecDeque<Action>,
    stages: Stages,
    counters: Counters,
    refusal_noted_ns: Option<u64>,
    silences: Silences,
    repeats: Repeats,
    elections: Elections,
    /// Monotonic ns at which the high watermark last moved.
    committed_ns: u64,
    committed_end: Offset,
    /// When voters without a connection are greeted.
    greet_at_ns: u64,
    random: Random,
    next_id: u64,
    log_dir: String,
    disk_free_bytes: u64,
    /// Of the input or the turn under way.
    now: Now,
    fitness: Fitness,
    leaderless: Leaderless,
    /// Leader: the voters that are not in sync, as of this turn. Follower: as the leader told. By their places.
    lagging: u32,
    role_changed: bool,
    stall_reported: bool,
    /// Handed over: the log is being closed, and takes nothing more.
    closing: bool,
    stopped: bool,
}

impl Replica {
    /// `recovered` and `producers` come from one scan of the log (`log::recover`); `seed` feeds jitter and producer ids.
    pub fn new(
        config: &Config,
        directory_id: Uuid,
        recovered: RecoveredLog,
        producers: Producers,
        seed: u64,
        now: Now,
    ) -> Replica {
        let limits = config.limits.clone();
        let raft = Raft::new(quorum::raft_config(config, directory_id, seed), quorum::state(&recovered), now);
        let context = quorum::context(config, directory_id);
        let peers = Peers::new(context.clone(), PeerTimes::of(config));
        let log = Log::new(log_config(&limits), recovered);
        let latest = Latest::found(log.log_end().0, log.max_timestamp().map(|(timestamp, _)| timestamp));
        Replica {
            context,
            fetch_timeout_ms: config.fetch_timeout_ms,
            raft,
            log,
            peers,
            forwarding: Forwarding::new(config.request_timeout_ms),
            producers,
            newcomers: Newcomers::default(),
            purgatory: Purgatory::default(),
            fetches: Fetches::default(),
            reads: Reads::new(read_limits(&limits)),
            written_ns: 0,
            shares: Vec::new(),
            reads_due: None,
            searches: Searches::new(&limits),
            latest,
            voter_requests: BTreeMap::new(),
            gate: Gate::Recovering,
            truncating_to: VecDeque::new(),
            deferred: VecDeque::new(),
            heavy: Heavy::new(limits.heavy_bytes_max),
            after_flush: VecDeque::new(),
            effects: Effects::default(),
            fetched: Vec::new(),
            uncommitted: VecDeque::new(),
            uncommitted_bytes: 0,
            actions: VecDeque::new(),
            stages: Stages::new(),
            counters: Counters::default(),
            refusal_noted_ns: None,
            silences: Silences::default(),
            repeats: Repeats::default(),
            elections: Elections::default(),
            committed_ns: 0,
            committed_end: Offset(0),
            greet_at_ns: 0,
            // Another stream than Raft's jitter, from the same seed.
            random: Random::new(seed ^ 0x9e37_79b9_7f4a_7c15),
            next_id: 0,
            log_dir: config.log_dir.display().to_string(),
            disk_free_bytes: u64::MAX,
            now,
            fitness: Fitness::default(),
            leaderless: Leaderless::default(),
            lagging: 0,
            role_changed: false,
            stall_reported: false,
            closing: false,
            stopped: false,
            limits,
        }
    }

    /// What the clients of each core may be given: told once, at the start.
    pub fn share_answers(&mut self, shares: Vec<Arc<Share>>) {
        self.fetches.set_lines(shares.len());
        self.shares = shares;
    }

    /// Take one input: only changes state and queues.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.stopped {
            return;
        }
        self.now = now;
        match input {
            Input::Disk(completion) => {
                self.log.complete(completion);
                self.take_log_events(now);
            }
            _ if self.closing => {}
            // Deadlines are looked at again when the gate opens.
            Input::Tick if self.is_gated() => {}
            input if self.is_gated() => self.deferred.push_back(Deferred::Input(input)),
            input => self.on_input(now, input),
        }
        self.pump_peers(now);
    }

    /// End of a turn: forms the device group, wakes parked requests, queues actions.
    pub fn end_turn(&mut self, now: Now) {
        if self.stopped {
            return;
        }
        self.now = now;
        // What it appends belongs to this turn's group.
        if !self.is_gated() && !self.closing {
            self.answer_heavy(now);
        }
        // What the log tells may make Raft append, or write its state: that belongs to this turn too.
        loop {
            self.log.end_turn(now);
            self.take_operations();
            if !self.take_log_events(now) || self.stopped {
                break;
            }
        }
        if !self.is_gated() && !self.stopped && !self.closing {
            self.maybe_report_stalled_flush(now);
            self.maybe_tell_fitness(now);
            if self.raft.is_leader() {
                self.lagging = self.raft.lagging(now);
            }
            self.settle_produces(now);
            self.wake_fetches(now);
            self.role_changed = false;
            self.newcomers.on_turn(now, self.raft.log_end(), &self.limits);
            self.answer_waiting(now);
            self.start_looks();
            self.start_reads(now);
            self.take_operations();
        }
        self.pump_peers(now);
    }

    fn take_operations(&mut self) {
        while let Some(op) = self.log.poll_op() {
            self.actions.push_back(Action::Disk(op));
        }
    }

    /// What to carry out now, in this order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Monotonic ns at which `Input::Tick` is due.
    pub fn deadline(&self) -> Option<u64> {
        if self.stopped {
            return None;
        }
        let open = !self.is_gated() && !self.closing;
        let stall = self.log.flush_pending_since().filter(|_| open && !self.stall_reported);
        [
            self.raft.deadline().filter(|_| open),
            self.peers.deadline().filter(|_| open),
            self.forwarding.deadline().filter(|_| open),
            (open && self.peers.knows_unconnected()).then_some(self.greet_at_ns),
            self.purgatory.deadline().filter(|_| open),
            self.fetches.deadline().filter(|_| open),
            self.heavy.deadline().filter(|_| open),
            (open && self.fetches.has_ready(self.counters.committed_bytes)).then_some(0),
            self.reads_due.filter(|_| open),
            stall.map(|since| since + self.limits.flush_stall_ms_max * NS_PER_MS),
            self.log.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// (address, length) of the log's write buffers, to register with the ring.
    pub fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        self.log.buffer_regions()
    }

    /// The node is dead, and its memory is to be used again: see `WriteBuffer::free`. Operations that were polled are
    /// their executor's to free.
    pub fn free_buffers(self) {
        self.actions.into_iter().for_each(Action::free_buffer);
        self.log.free_buffers();
    }

    /// No more Produce should be read from clients until it turns false; voters' requests still should.
    pub fn is_full(&self) -> bool {
        self.log.is_full() || self.uncommitted_bytes >= self.limits.uncommitted_bytes_max
    }

    /// What clients ask is looked at now. While it is not it would only wait here, in a queue without a bound.
    pub fn takes_clients(&self) -> bool {
        !self.is_gated()
    }

    /// A lie of the simulator: whoever names an epoch is believed.
    pub(crate) fn believe_requests(&mut self) {
        self.raft.believe_requests();
    }

    /// Histograms and totals since the last take; `cleared` is recorded into from now on.
    pub fn take_stages(&mut self, cleared: Stages) -> Stages {
        std::mem::replace(&mut self.stages, cleared)
    }

    fn is_gated(&self) -> bool {
        !matches!(self.gate, Gate::Open)
    }

    fn on_input(&mut self, now: Now, input: Input) {
        match input {
            Input::Request {
                connection,
                seq,
                api_version,
                is_forwarded,
                request,
                received_ns,
                decoded_ns,
            } => {
                let ticket = Ticket { connection, seq, api_version, received_ns, decoded_ns };
                self.on_request(now, ticket, is_forwarded, request);
            }
            Input::ConnectionClosed { connection } => {
                self.fetches.forget(connection);
                self.newcomers.on_closed(connection);
                self.heavy.forget(connection);
                self.forget_reads(connection);
                self.searches.forget(connection);
                self.leaderless.forget(connection);
            }
            Input::PeerConnected { link } if link.lane == Lane::Forward => self.forwarding.on_connected(),
            Input::PeerFrame { link, frame } if link.lane == Lane::Forward => self.forwarding.on_frame(frame),
            Input::PeerClosed { link, .. } if link.lane == Lane::Forward => self.forwarding.on_closed(),
            Input::PeerConnected { link } => self.peers.on_connected(now, link),
            Input::PeerFrame { link, frame } => {
                self.counters.peer_responses += 1;
                self.counters.peer_bytes_received += frame.len() as u64 + FRAME_LENGTH_BYTES;
                self.peers.on_frame(now, link, frame);
            }
            Input::PeerClosed { link, why, is_refused: true } => self.peers.on_refused(now, link, &why),
            Input::PeerClosed { link, why, is_refused: false } => self.peers.on_closed(now, link, &why),
            Input::Tick => {
                self.step(now, Event::Tick);
                self.peers.on_tick(now);
                self.forwarding.on_tick(now);
                if now.monotonic_ns >= self.greet_at_ns {
                    self.greet_at_ns = now.plus_ms(GREET_INTERVAL_MS);
                    self.peers.greet(now);
                }
            }
            Input::Searched { token, found } => self.on_searched(token, found),
            Input::DiskFree { bytes } => self.on_disk_free(bytes),
            Input::Shutdown => self.step(now, Event::Shutdown),
            // Completions pass the gate in `handle`.
            Input::Disk(completion) => self.log.complete(completion),
        }
    }

    fn on_request(&mut self, now: Now, ticket: Ticket, is_forwarded: bool, request: Admitted) {
        use protocol::Request as R;
        match request {
            Admitted::Produce(produce) => self.on_produce(now, ticket, produce),
            Admitted::Other(R::Fetch(m)) => self.on_fetch(now, ticket, &m),
            Admitted::Other(R::ListOffsets(m)) => self.on_list_offsets(ticket, &m),
            Admitted::Other(R::Vote(m)) => self.on_vote(now, ticket, &m),
            Admitted::Other(R::BeginQuorumEpoch(m)) => self.on_begin_quorum_epoch(now, ticket, &m),
            Admitted::Other(R::EndQuorumEpoch(m)) => self.on_end_quorum_epoch(now, ticket, &m),
            Admitted::Other(R::UpdateRaftVoter(m)) => self.on_update_raft_voter(now, &ticket, &m),
            Admitted::Other(R::Metadata(m)) => self.on_metadata(now, &ticket, m),
            Admitted::Other(R::DescribeQuorum(m)) => self.on_describe_quorum(now, ticket, is_forwarded, m),
            Admitted::Heavy(request) => self.put_off(ticket, is_forwarded, request),
            Admitted::Other(other) => {
                let response = self.describe(now, &ticket, &other);
                self.answer(&ticket, response);
            }
        }
    }

    fn answer(&mut self, ticket: &Ticket, response: Response) {
        self.answer_given(ticket, response, None);
    }

    fn answer_given(&mut self, ticket: &Ticket, response: Response, given: Option<Given>) {
        let (connection, seq) = (ticket.connection, ticket.seq);
        self.actions.push_back(Action::Answer { connection, seq, response: Some(response), given });
    }

    fn note(&mut self, level: Level, text: String) {
        self.actions.push_back(Action::Note { level, text });
    }

    fn fresh_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// False: it had nothing to tell.
    fn take_log_events(&mut self, now: Now) -> bool {
        let mut told = false;
        while let Some(event) = self.log.poll_event() {
            told = true;
            match event {
                LogEvent::Ready => {
                    self.gate = Gate::Open;
                    self.step(now, Event::Tick);
                    self.run_deferred(now);
                }
                LogEvent::Flushed(flushed) => {
                    self.counters.flushes += 1;
                    self.stall_reported = false;
                    self.purgatory.on_flushed(flushed, now);
                    self.step_or_defer(now, Event::Flushed(flushed));
                }
                LogEvent::Truncated(end) => {
                    if let Some(wanted) = self.truncating_to.pop_front() {
                        self.check_cut(wanted, end);
                    }
                    if self.latest.cuts_into_found(end.0) {
                        let largest = self.log.max_timestamp().map(|(timestamp, _)| timestamp);
                        self.latest = Latest::found(end.0, largest);
                    }
                    self.step_or_defer(now, Event::Truncated(end));
                }
                LogEvent::QuorumStateDurable => self.on_quorum_state_durable(now),
                LogEvent::ReadDone { token, result } => {
                    self.reads.done(token);
                    match self.is_gated() {
                        true => self.deferred.push_back(Deferred::Read { token, result }),
                        false => self.on_read_done(now, token, result),
                    }
                }
                LogEvent::NoRoom(error) => self.on_no_room(&error),
                LogEvent::RoomFound => self.on_room_found(),
                LogEvent::RoomUnwanted => self.on_room_unwanted(),
                LogEvent::ShutDown => self.stop(EXIT_OK, "shut down".to_string()),
                LogEvent::Failed(error) => {
                    // A failed write may have reached the disk or not: nobody may ever be told either.
                    self.stop(EXIT_DISK, format!("stopping, nothing more is acknowledged: {error}"));
                    return true;
                }
            }
        }
        told
    }

    fn step_or_defer(&mut self, now: Now, event: Event) {
        if self.stopped {
            return;
        }
        if self.is_gated() || self.closing {
            self.deferred.push_back(Deferred::Event(event));
        } else {
            self.step(now, event);
        }
    }

    fn run_deferred(&mut self, now: Now) {
        while !self.is_gated() && !self.stopped && !self.closing {
            match self.deferred.pop_front() {
                Some(Deferred::Event(event)) => self.step(now, event),
                Some(Deferred::Input(input)) => self.on_input(now, input),
                Some(Deferred::Read { token, result }) => self.on_read_done(now, token, result),
                None => return,
            }
        }
    }

    fn on_quorum_state_durable(&mut self, now: Now) {
        let Gate::QuorumState { then, after_flush } = std::mem::replace(&mut self.gate, Gate::Open) else {
            panic!("a quorum state became durable that nobody waits for");
        };
        for mut effect in then {
            self.raft.on_released(now, &mut effect);
            self.carry_out(now, effect);
        }
        // Behind a change of role of the same step, which forgets what the old role was waiting for.
        self.after_flush.extend(after_flush);
        self.step(now, Event::QuorumStateDurable);
        self.run_deferred(now);
    }

    fn step(&mut self, now: Now, event: Event) {
        let flushed = match &event {
            Event::Flushed(flushed) => Some(*flushed),
            _ => None,
        };
        self.step_raft(now, event);
        if let Some(flushed) = flushed {
            self.release_after_flush(now, flushed);
        }
    }

    /// The one place where Raft is stepped. Gives what an append is answered with.
    fn step_raft(&mut self, now: Now, event: Event) -> Option<Assigned> {
        let mut effects = std::mem::take(&mut self.effects);
        self.raft.step(now, event, &mut effects);
        let assigned = effects.assigned;
        self.take_effects(now, &mut effects);
        self.effects = effects;
        assigned
    }

    fn take_effects(&mut self, now: Now, effects: &mut Effects) {
        let mut repeatable = effects.repeatable.drain(..).peekable();
        for (place, text) in effects.notes.drain(..).enumerate() {
            let about = repeatable.next_if(|(at, ..)| *at == place);
            let level = match about {
                Some((_, NoteKind::TwoDirectories, _)) => Level::Warn,
                _ => Level::Info,
            };
            let text = match about {
                Some((_, kind, peer)) => self.repeats.admit(now, kind, peer, text),
                None => Some(text),
            };
            self.actions.extend(text.map(|text| Action::Note { level, text }));
        }
        drop(repeatable);
        for effect in effects.at_once.drain(..) {
            self.carry_out(now, effect);
        }
        match effects.quorum_state {
            Some(state) => {
                assert!(!self.is_gated(), "Raft was stepped while its quorum state was not durable");
                self.log.write_quorum_state(state);
                let then = std::mem::take(&mut effects.after_quorum_state);
                let after_flush = std::mem::take(&mut effects.after_flush);
                self.gate = Gate::QuorumState { then, after_flush };
            }
            None => {
                let held = &effects.after_quorum_state;
                assert!(held.is_empty(), "effects wait for a quorum state that is not written: {held:?}");
                self.after_flush.extend(effects.after_flush.drain(..));
            }
        }
    }

    fn release_after_flush(&mut self, now: Now, flushed: FlushedOffset) {
        while self.after_flush.front().is_some_and(|(needs, _)| *needs <= flushed) && !self.is_gated() {
            if let Some((_, mut effect)) = self.after_flush.pop_front() {
                self.raft.on_released(now, &mut effect);
                self.carry_out(now, effect);
            }
        }
    }

    fn maybe_report_stalled_flush(&mut self, now: Now) {
        let Some(since) = self.log.flush_pending_since() else {
            self.stall_reported = false;
            return;
        };
        let stalled_ms = now.monotonic_ns.saturating_sub(since) / NS_PER_MS;
        if !self.stall_reported && stalled_ms >= self.limits.flush_stall_ms_max {
            self.stall_reported = true;
            self.note(
                Level::Warn,
                format!("a flush has been under way for {stalled_ms} ms: the disk is stalled"),
            );
            self.step(now, Event::FlushStalled);
        }
    }

    fn pump_peers(&mut self, now: Now) {
        loop {
            while let Some(action) = self.peers.poll_action().or_else(|| self.forwarding.poll_action()) {
                if let PeerAction::Send { chunks, .. } = &action {
                    self.counters.peer_requests += 1;
                    self.counters.peer_bytes_sent +=
                        chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
                }
                self.actions.push_back(match action {
                    PeerAction::Connect { link, endpoint } => Action::PeerConnect { link, endpoint },
                    PeerAction::Send { link, chunks } => Action::PeerSend { link, chunks },
                    PeerAction::Close { link } => Action::PeerClose { link },
                });
            }
            if self.is_gated() || self.stopped || self.closing {
                return;
            }
            if let Some(event) = self.forwarding.poll_event() {
                self.on_forwarded(now, event);
            } else if let Some(event) = self.peers.poll_event() {
                self.on_peer_event(now, event);
            } else {
                return;
            }
        }
    }

    fn stop(&mut self, exit_code: i32, why: String) {
        self.stopped = true;
        self.actions.push_back(Action::Stop { exit_code, why });
    }
}

fn read_limits(limits: &Limits) -> ReadLimits {
    ReadLimits {
        bytes_max: limits.device_reads_bytes_max,
        answer_bytes_max: limits.device_read_bytes_max.min(limits.fetch_response_bytes_max),
        voter_bytes_max: limits.replica_fetch_bytes_max,
        message_bytes_max: limits.message_bytes_max,
        under_way_max: limits.device_reads_max,
        stall_ms_max: limits.room_stall_ms_max,
    }
}

/// The log's part of the limits, also for recovery.
pub fn log_config(limits: &Limits) -> LogConfig {
    LogConfig {
        segment_bytes_max: limits.segment_bytes_max,
        zero_ahead_bytes: limits.zero_ahead_bytes,
        write_buffer_bytes: limits.write_buffer_bytes,
        write_buffers: limits.write_buffers,
        group_bytes_max: limits.group_bytes_max,
        tail_cache_bytes_max: limits.tail_cache_bytes_max,
        unflushed_bytes_max: limits.unflushed_bytes_max,
        commit_mark_idle_ms: limits.commit_mark_idle_ms,
        index_interval_bytes: limits.index_interval_bytes,
        producer_ids_max: limits.producer_ids_max,
        check: LogCheck::Tail,
    }
}

#[cfg(test)]
mod tests;
