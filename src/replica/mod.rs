//! One whole node without sockets or files: turns requests, peers' bytes, disk completions and time into answers,
//! bytes and disk operations.
//!
//! Called by `server::replica_core` (and by the simulator): any number of `handle`, then one `end_turn`, then
//! `poll_action` until it is empty. That is a turn. `handle` only changes state and queues; `end_turn` forms the
//! device group, wakes parked requests and answers them, so that sixteen produces that arrive together make one
//! group and wake each follower once. Never touches a socket, a file or a clock.
//!
//! While something that promises rest on is not yet durable (recovery's opening flush, a vote, a new epoch), inputs
//! wait in the engine, behind its gate, in order; disk completions pass.

pub mod admit;
mod collapse;
pub mod cost;
mod elections;
mod engine;
mod fetch;
mod forward;
mod heavy;
mod input;
pub mod inspection;
mod leaderless;
mod list_offsets;
mod newcomers;
mod notice;
pub mod peers;
mod produce;
pub mod producers;
mod purgatory;
mod quorum;
pub mod receive;
pub mod receive_pool;
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
use crate::log::{ReadError, RecoveredLog};
use crate::protocol::quorum::QuorumContext;
use crate::protocol::{self, Response};
use crate::raft::random::Random;
use crate::raft::{self, Event, RequestId};
use crate::record::StampedBatch;
use crate::types::*;
use admit::Admitted;
use elections::Elections;
pub use engine::log_config;
use engine::{Engine, Told};
use fetch::Fetches;
use forward::Forwarding;
use heavy::Heavy;
pub use input::*;
use leaderless::Leaderless;
use newcomers::Newcomers;
pub use notice::*;
use peers::{PeerAction, PeerTimes, Peers};
use producers::Producers;
use purgatory::Purgatory;
use quorum::VoterRequest;
use room::answers::{Given, Share};
use room::reads::{ReadLimits, Reads};
use searches::Searches;
use silence::Silences;
use stages::Stages;
pub use status::*;

/// A frame says first how long it is.
const FRAME_LENGTH_BYTES: u64 = 4;

/// Between two attempts to reach voters that nothing is asked of, only to hear where clients find them.
const GREET_INTERVAL_MS: u64 = 2_000;

/// What waits in the engine until its gate opens.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "as inputs are")]
enum Deferred {
    Input(Input),
    /// Its answer would tell an epoch that is not durable yet.
    Read {
        token: u64,
        result: Result<Vec<StampedBatch>, ReadError>,
    },
}

pub struct Replica {
    limits: Arc<Limits>,
    context: QuorumContext,
    fetch_timeout_ms: u64,
    engine: Engine<Deferred>,
    peers: Peers,
    forwarding: Forwarding,
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
    voter_requests: BTreeMap<RequestId, VoterRequest>,
    heavy: Heavy,
    actions: VecDeque<Action>,
    stages: Stages,
    counters: Counters,
    refusal_noted_ns: Option<u64>,
    silences: Silences,
    elections: Elections,
    /// Monotonic ns at which the high watermark last moved.
    committed_ns: u64,
    /// When voters without a connection are greeted.
    greet_at_ns: u64,
    random: Random,
    next_id: u64,
    log_dir: String,
    /// Of the input or the turn under way.
    now: Now,
    leaderless: Leaderless,
    timestamp_noted_ns: Option<u64>,
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
        let limits = Arc::new(config.limits.clone());
        let context = quorum::context(config, directory_id);
        let peers = Peers::new(context.clone(), PeerTimes::of(config));
        let engine = Engine::new(config, limits.clone(), context.local, recovered, producers, seed, now);
        Replica {
            context,
            fetch_timeout_ms: config.fetch_timeout_ms,
            engine,
            peers,
            forwarding: Forwarding::new(config.request_timeout_ms),
            newcomers: Newcomers::default(),
            purgatory: Purgatory::default(),
            fetches: Fetches::default(),
            reads: Reads::new(read_limits(&limits)),
            written_ns: 0,
            shares: Vec::new(),
            reads_due: None,
            searches: Searches::new(&limits),
            voter_requests: BTreeMap::new(),
            heavy: Heavy::new(limits.heavy_bytes_max),
            actions: VecDeque::new(),
            stages: Stages::new(),
            counters: Counters::default(),
            refusal_noted_ns: None,
            silences: Silences::default(),
            elections: Elections::default(),
            committed_ns: 0,
            greet_at_ns: 0,
            // Another stream than Raft's jitter, from the same seed.
            random: Random::new(seed ^ 0x9e37_79b9_7f4a_7c15),
            next_id: 0,
            log_dir: config.log_dir.display().to_string(),
            now,
            leaderless: Leaderless::default(),
            timestamp_noted_ns: None,
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
        if self.engine.is_stopped() {
            return;
        }
        self.now = now;
        match input {
            Input::Disk(completion) => self.engine.complete(completion),
            _ if self.engine.is_closing() => {}
            // Deadlines are looked at again when the gate opens.
            Input::Tick if self.engine.is_gated() => {}
            input if self.engine.is_gated() => self.engine.put_off(Deferred::Input(input)),
            input => self.on_input(now, input),
        }
        self.follow_engine(now);
        self.pump_peers(now);
    }

    /// End of a turn: forms the device group, wakes parked requests, queues actions.
    pub fn end_turn(&mut self, now: Now) {
        if self.engine.is_stopped() {
            return;
        }
        self.now = now;
        // What it appends belongs to this turn's group.
        if self.engine.is_open() {
            self.answer_heavy(now);
            self.hear_engine(now);
        }
        loop {
            self.engine.advance(now);
            self.take_operations();
            self.follow_engine(now);
            if !self.engine.has_heard() || self.engine.is_stopped() {
                break;
            }
        }
        if self.engine.is_open() {
            self.engine.judge(now);
            self.hear_engine(now);
            self.settle_produces(now);
            self.wake_fetches(now);
            self.engine.forget_role_change();
            self.newcomers.on_turn(now, self.engine.raft().log_end(), &self.limits);
            self.answer_waiting(now);
            self.start_looks();
            self.start_reads(now);
            self.take_operations();
        }
        self.pump_peers(now);
    }

    fn take_operations(&mut self) {
        while let Some(op) = self.engine.poll_op() {
            self.actions.push_back(Action::Disk(op));
        }
    }

    /// All that follows in the engine from what has come in.
    fn follow_engine(&mut self, now: Now) {
        self.hear_engine(now);
        while self.engine.go_on(now) {
            self.hear_engine(now);
        }
    }

    /// What the engine has told, to whom it concerns.
    pub(super) fn hear_engine(&mut self, now: Now) {
        while let Some(told) = self.engine.poll() {
            self.on_told(now, told);
        }
    }

    fn on_told(&mut self, now: Now, told: Told<Deferred>) {
        match told {
            Told::Note { level, text } => self.note(level, text),
            Told::Send { to, request } => {
                if matches!(request, raft::Request::Vote(_)) {
                    self.counters.elections += 1;
                }
                self.peers.send(now, to, request);
            }
            Told::DropPeer { node, why } => {
                self.note_refused(now, |_| Some(format!("closing the connections to node {node}: {why}")));
                self.peers.drop_peer(node);
            }
            Told::Reply { request_id, response } => self.reply(request_id, &response),
            Told::Verdict { request_id, verdict } => self.on_fetch_verdict(now, request_id, verdict),
            Told::RoleChanged => self.elections.on_role(now, self.engine.raft().role()),
            Told::Flushed(flushed) => self.purgatory.on_flushed(flushed, now),
            Told::Committed { bytes, records } => {
                self.committed_ns = now.monotonic_ns;
                self.stages.record_committed(bytes, records);
            }
            Told::ReadDone { token, result } => {
                self.reads.done(token);
                match self.engine.is_gated() {
                    true => self.engine.put_off(Deferred::Read { token, result }),
                    false => self.on_read_done(now, token, result),
                }
            }
            Told::Due(Deferred::Input(input)) => self.on_input(now, input),
            Told::Due(Deferred::Read { token, result }) => self.on_read_done(now, token, result),
            Told::Stop { exit_code, why } => self.actions.push_back(Action::Stop { exit_code, why }),
        }
    }

    /// What to carry out now, in this order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// Monotonic ns at which `Input::Tick` is due.
    pub fn deadline(&self) -> Option<u64> {
        if self.engine.is_stopped() {
            return None;
        }
        let of_parts = [
            self.peers.deadline(),
            self.forwarding.deadline(),
            self.peers.knows_unconnected().then_some(self.greet_at_ns),
            self.purgatory.deadline(),
            self.fetches.deadline(),
            self.heavy.deadline(),
            self.fetches.has_ready(self.engine.counts().committed_bytes).then_some(0),
            self.reads_due,
        ];
        let of_parts = of_parts.into_iter().flatten().filter(|_| self.engine.is_open());
        of_parts.chain(self.engine.deadline()).min()
    }

    /// (address, length) of the log's write buffers, to register with the ring.
    pub fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        self.engine.buffer_regions()
    }

    /// The node is dead, and its memory is to be used again: see `WriteBuffer::free`. Operations that were polled are
    /// their executor's to free.
    pub fn free_buffers(self) {
        self.actions.into_iter().for_each(Action::free_buffer);
        self.engine.free_buffers();
    }

    /// No more Produce should be read from clients until it turns false; voters' requests still should.
    pub fn is_full(&self) -> bool {
        self.engine.is_full()
    }

    /// What clients ask is looked at now. While it is not it would only wait here, in a queue without a bound.
    pub fn takes_clients(&self) -> bool {
        !self.engine.is_gated()
    }

    /// A lie of the simulator: whoever names an epoch is believed.
    pub(crate) fn believe_requests(&mut self) {
        self.engine.believe_requests();
    }

    /// Histograms and totals since the last take; `cleared` is recorded into from now on.
    pub fn take_stages(&mut self, cleared: Stages) -> Stages {
        std::mem::replace(&mut self.stages, cleared)
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
                self.engine.step(now, Event::Tick);
                self.hear_engine(now);
                self.peers.on_tick(now);
                self.forwarding.on_tick(now);
                if now.monotonic_ns >= self.greet_at_ns {
                    self.greet_at_ns = now.plus_ms(GREET_INTERVAL_MS);
                    self.peers.greet(now);
                }
            }
            Input::Searched { token, found } => self.on_searched(token, found),
            Input::DiskFree { bytes } => self.engine.on_disk_free(bytes),
            Input::Shutdown => self.engine.step(now, Event::Shutdown),
            // Completions pass the gate in `handle`.
            Input::Disk(completion) => self.engine.complete(completion),
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
            if !self.engine.is_open() {
                return;
            }
            if let Some(event) = self.forwarding.poll_event() {
                self.on_forwarded(now, event);
            } else if let Some(event) = self.peers.poll_event() {
                self.on_peer_event(now, event);
                self.hear_engine(now);
            } else {
                return;
            }
        }
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

#[cfg(test)]
mod tests;
