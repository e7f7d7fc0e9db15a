//! One whole node without sockets or files: turns requests, peers' bytes, disk completions and time into answers,
//! bytes and disk operations.
//!
//! Raft and the log are one thing below, the `engine`. On it stand the parts, one for each kind of request, which own
//! what they park: `produce`, `fetch`, `list_offsets`, `quorum`, `describe`, `forward`, `heavy`. They share the `desk`. What is here
//! says who is asked what, in which order.
//!
//! Called by `server::replica_core` (and by the simulator): any number of `handle`, then one `end_turn`, then
//! `poll_action` until it is empty. That is a turn. `handle` only changes state and queues; `end_turn` forms the
//! device group, wakes parked requests and answers them, so that sixteen produces that arrive together make one
//! group and wake each follower once. Never touches a socket, a file or a clock.
//!
//! While something that promises rest on is not yet durable (recovery's opening flush, a vote, a new epoch), inputs
//! wait in the engine, behind its gate, in order; disk completions pass.

pub mod admit;
mod alter_configs;
mod collapse;
mod connection_id;
pub(crate) mod copies;
pub(crate) mod cost;
mod counters;
mod delete_records;
mod describe;
mod desk;
mod engine;
mod fetch;
pub mod folds;
mod forward;
mod heavy;
mod input;
pub(crate) mod inspection;
mod leadership;
mod list_offsets;
mod notice;
pub(crate) mod peers;
mod produce;
mod quorum;
mod reading;
pub mod receive;
pub mod receive_pool;
pub(crate) mod requests;
mod retention;
pub(crate) mod room;
pub mod session;
mod session_limits;
pub(crate) mod slowest;
pub(crate) mod snapshots;
pub(crate) mod stages;
mod status;
mod times;

use std::sync::Arc;

use crate::config::Config;
use crate::log::{RecoveredLog, Section};
use crate::protocol;
use crate::raft::{self, Event, RequestId};
use crate::types::*;
use admit::Admitted;
use alter_configs::AlterConfigs;
pub use connection_id::ConnectionId;
use copies::CopyDone;
pub(crate) use counters::Counters;
use delete_records::DeleteRecords;
use describe::Describe;
use desk::{Deferred, Desk, Engine};
use engine::WantedSnapshot;
pub use engine::{Folded, NotFolded, log_config};
use engine::{Next, Told};
use fetch::Fetch;
use folds::Folds;
use forward::Forwarding;
use heavy::{Heavy, PutOff};
pub(crate) use input::Lane;
use input::Ticket;
pub use input::{Action, Input, PeerLink};
use list_offsets::ListOffsets;
pub(crate) use notice::{EXIT_CONFIG, EXIT_CORRUPT, EXIT_DISK, EXIT_KERNEL, EXIT_OK, Level};
use peers::{PeerTimes, Peers};
use produce::Produce;
use quorum::Quorum;
use reading::Reading;
use retention::Retention;
use room::answers::Share;
use room::cache::CacheBudget;
use room::reads::Reads;
use snapshots::fetching::{Fetched, Fetching};
use snapshots::serving::Serving;
use snapshots::{FoundSnapshots, SnapshotCounts, SnapshotFile, Snapshots};
use stages::Stages;
use status::Held;
#[cfg(test)]
pub(crate) use status::MemoryUse;
pub(crate) use status::{Standing, Status, VoterStatus, Watched};

/// A frame says first how long it is.
const FRAME_LENGTH_BYTES: u64 = 4;

/// One node: its log, its Raft, and what its clients wait for.
pub struct Replica {
    engine: Engine,
    desk: Desk,
    produce: Produce,
    fetch: Fetch,
    list_offsets: ListOffsets,
    reading: Reading,
    quorum: Quorum,
    describe: Describe,
    alter_configs: AlterConfigs,
    delete_records: DeleteRecords,
    forwarding: Forwarding<protocol::messages::DescribeQuorumRequest>,
    heavy: Heavy,
    serving: Serving,
    fetching: Fetching,
    retention: Retention,
    /// What need not stay goes by itself.
    retains: bool,
    snapshots: Snapshots,
    cache: CacheBudget,
}

impl Replica {
    /// `recovered` and `folds` come from one walk through the log (`log::recover`, `folds::Recovery`); `seed` feeds jitter and producer ids.
    pub fn new(
        config: &Config,
        directory_id: Uuid,
        recovered: RecoveredLog,
        folds: Folds,
        seed: u64,
        now: Now,
    ) -> Replica {
        let limits = Arc::new(config.limits.clone());
        let context = quorum::context(config, directory_id);
        let peers = Peers::new(context.clone(), PeerTimes::of(config));
        let mut engine = Engine::new(config, limits.clone(), context.local, recovered, folds, seed, now);
        // What Kafka's own nodes fold from the log is not in their snapshots for us.
        if config.data_mode == DataMode::Native {
            engine.take_snapshots();
        }
        Replica {
            engine,
            produce: Produce::default(),
            fetch: Fetch::default(),
            list_offsets: ListOffsets::new(&limits),
            reading: Reading::default(),
            quorum: Quorum::default(),
            describe: Describe::new(config, seed),
            alter_configs: AlterConfigs::new(config.request_timeout_ms, config.data_mode),
            delete_records: DeleteRecords::new(config.data_mode),
            forwarding: Forwarding::new(config.request_timeout_ms),
            heavy: Heavy::new(limits.heavy_bytes_max),
            serving: Serving::default(),
            fetching: Fetching::new(config),
            retention: Retention::new(config, now),
            // Not before a server takes snapshots, and gives them to who lacks what is gone.
            retains: false,
            snapshots: Snapshots::new(config, now),
            cache: CacheBudget::new(limits.read_cache_bytes_max),
            desk: Desk::new(context, peers, Reads::new(reading::read_limits(&limits)), limits, now),
        }
    }

    /// Those that a start has found: told once, before the first turn.
    pub(crate) fn know_snapshots(&mut self, found: FoundSnapshots) {
        if let Some(newest) = found.files.newest() {
            self.engine.on_snapshot_taken(self.desk.now, newest.id);
        }
        self.snapshots.know(found);
    }

    /// What the clients of each core may be given: told once, at the start.
    pub(crate) fn share_answers(&mut self, shares: Vec<Arc<Share>>) {
        self.serving.share_answers(shares.clone());
        self.fetch.share_answers(shares);
    }

    /// Take one input: only changes state and queues.
    pub fn handle(&mut self, now: Now, input: Input) {
        if self.engine.is_stopped() {
            return;
        }
        self.desk.now = now;
        match input {
            Input::Disk(completion) => self.engine.complete(completion),
            _ if self.engine.is_closing() => {}
            // Deadlines are looked at again when the gate opens.
            Input::Tick if self.engine.is_gated() => {}
            input if self.engine.is_gated() => self.engine.put_off(Deferred::Input(input)),
            input => self.on_input(input),
        }
        self.follow_engine();
        self.pump_peers();
    }

    /// End of a turn: forms the device group, wakes parked requests, queues actions.
    pub fn end_turn(&mut self, now: Now) {
        if self.engine.is_stopped() {
            return;
        }
        self.desk.now = now;
        if self.engine.is_open() {
            // What it appends belongs to this turn's group.
            self.answer_heavy();
        }
        self.write_turn();
        if self.engine.is_open() {
            self.engine.judge(now);
            self.hear_engine();
            self.answer_parked();
            self.snapshots.end_turn(&mut self.engine, &mut self.desk, &self.serving);
        }
        self.pump_peers();
    }

    /// What to carry out now, in this order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.desk.poll_action()
    }

    fn on_input(&mut self, input: Input) {
        let now = self.desk.now;
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
                self.on_request(ticket, is_forwarded, request);
            }
            Input::ConnectionClosed { connection } => self.forget(connection),
            Input::PeerConnected { link } if link.lane == Lane::Forward => self.forwarding.on_connected(),
            Input::PeerFrame { link, frame } if link.lane == Lane::Forward => self.forwarding.on_frame(frame),
            Input::PeerClosed { link, .. } if link.lane == Lane::Forward => self.forwarding.on_closed(),
            Input::PeerConnected { link } if link.lane == Lane::Alter => {
                self.alter_configs.forwarding().on_connected()
            }
            Input::PeerFrame { link, frame } if link.lane == Lane::Alter => {
                self.alter_configs.forwarding().on_frame(frame)
            }
            Input::PeerClosed { link, .. } if link.lane == Lane::Alter => {
                self.alter_configs.forwarding().on_closed()
            }
            Input::PeerConnected { link } if link.lane == Lane::Snapshot => {
                self.fetching.on_connected(&mut self.desk)
            }
            Input::PeerFrame { link, frame } if link.lane == Lane::Snapshot => {
                self.fetching.on_frame(&mut self.desk, frame)
            }
            Input::PeerClosed { link, .. } if link.lane == Lane::Snapshot => {
                self.fetching.on_closed(&mut self.desk)
            }
            Input::PeerConnected { link } => self.desk.peers.on_connected(now, link),
            Input::PeerFrame { link, frame } => {
                self.desk.counters.peer_responses += 1;
                self.desk.counters.peer_bytes_received += frame.len() as u64 + FRAME_LENGTH_BYTES;
                self.desk.peers.on_frame(now, link, frame);
            }
            Input::PeerClosed { link, why, is_refused: true } => self.desk.peers.on_refused(now, link, &why),
            Input::PeerClosed { link, why, is_refused: false } => self.desk.peers.on_closed(now, link, &why),
            Input::Tick => {
                self.engine.step(now, Event::Tick);
                self.hear_engine();
                self.desk.peers.on_tick(now);
                self.forwarding.on_tick(now);
                self.alter_configs.forwarding().on_tick(now);
                self.fetching.on_tick(&mut self.desk);
                self.desk.peers.maybe_greet(now);
            }
            Input::Copied(done) => self.on_copied(done),
            Input::Searched { token, found } => {
                self.list_offsets.on_searched(&mut self.engine, &mut self.desk, token, found);
            }
            Input::Snapshot(done) => self.snapshots.on_done(&mut self.engine, &mut self.desk, done),
            Input::DiskFree { bytes } => self.engine.on_disk_free(bytes),
            Input::HostMemory(memory) => self.fit_read_cache(memory),
            Input::Shutdown => self.engine.step(now, Event::Shutdown),
            // Completions pass the gate in `handle`.
            Input::Disk(completion) => self.engine.complete(completion),
        }
    }

    /// A file of a snapshot was read, or written.
    fn on_copied(&mut self, done: CopyDone) {
        let (engine, desk) = (&self.engine, &mut self.desk);
        desk.reads.done(done.token);
        if let Some(done) = self.serving.on_done(engine, desk, done) {
            self.fetching.on_done(desk, done);
            self.take_fetched();
        }
    }

    /// Whatever has come is this node's, as if it had taken it itself. Whether the log begins anew with it Raft says.
    fn take_fetched(&mut self) {
        let Some(Fetched { id, bytes, folds }) = self.fetching.poll_fetched() else { return };
        let now_ns = self.desk.now.monotonic_ns;
        self.snapshots.on_fetched(&self.engine, SnapshotFile { id, bytes }, now_ns);
        self.engine.snapshot_fetched(self.desk.now, id, *folds);
        self.hear_engine();
    }

    fn fit_read_cache(&mut self, memory: HostMemory) {
        let blocks = self.engine.log().block_counts();
        let reads = blocks.hits + blocks.misses;
        let bytes = self.cache.look(self.desk.now.monotonic_ns, memory, reads, blocks.bytes);
        self.engine.set_read_cache(bytes);
        self.desk.reads.set_bytes_max(self.desk.limits.pinned_bytes_max(bytes));
    }

    /// One of them, as if it had just come.
    fn answer_heavy(&mut self) {
        if let Some(PutOff { ticket, is_forwarded, request }) = self.heavy.pop(self.desk.now.monotonic_ns) {
            self.on_request(ticket, is_forwarded, *request.request);
            self.hear_engine();
        }
    }

    fn on_request(&mut self, ticket: Ticket, is_forwarded: bool, request: Admitted) {
        use protocol::Request as R;
        let (engine, desk) = (&mut self.engine, &mut self.desk);
        match request {
            Admitted::Produce(produce) => self.produce.on_request(engine, desk, ticket, produce),
            Admitted::Other(R::Fetch(m)) if !m.is_of_replica() => {
                self.fetch.on_request(engine, desk, ticket, &m);
            }
            Admitted::Other(R::ListOffsets(m)) => self.list_offsets.on_request(engine, desk, ticket, &m),
            Admitted::Other(
                m @ (R::Fetch(_) | R::Vote(_) | R::BeginQuorumEpoch(_) | R::EndQuorumEpoch(_)),
            ) => {
                self.on_voter_request(ticket, &m);
            }
            Admitted::Other(R::UpdateRaftVoter(m)) => {
                self.quorum.on_update_raft_voter(engine, desk, &ticket, &m)
            }
            Admitted::Other(R::FetchSnapshot(m)) => self.serving.on_request(engine, desk, ticket, &m),
            Admitted::Other(R::Metadata(m)) => self.describe.on_metadata(engine, desk, &ticket, m),
            Admitted::Other(R::DescribeQuorum(m)) => {
                let forwarding = &mut self.forwarding;
                self.describe.on_describe_quorum(engine, desk, forwarding, ticket, is_forwarded, m);
            }
            Admitted::Other(R::IncrementalAlterConfigs(m)) => {
                self.alter_configs.on_request(engine, desk, ticket, is_forwarded, m.into());
            }
            Admitted::Other(R::AlterConfigs(m)) => {
                self.alter_configs.on_request(engine, desk, ticket, is_forwarded, m.into());
            }
            Admitted::Other(R::DeleteRecords(m)) => {
                self.delete_records.on_request(engine, desk, ticket, &m);
            }
            Admitted::Heavy(request) => self.heavy.put_off(desk, PutOff { ticket, is_forwarded, request }),
            Admitted::Other(other) => {
                let response = self.describe.answer(engine, desk, &ticket, &other);
                desk.answer(&ticket, response);
            }
        }
    }

    fn on_voter_request(&mut self, ticket: Ticket, request: &protocol::Request) {
        let (engine, desk) = (&mut self.engine, &mut self.desk);
        let Some(request) = quorum::understand(desk, &ticket, request) else { return };
        // Answers leave in request order: what is parked on this connection must not stand before this one.
        self.fetch.release_parked_of(engine, desk, ticket.connection);
        let request_id = RequestId(desk.fresh_id());
        match &request {
            raft::Request::Fetch(fetch) => self.fetch.await_verdict(request_id, ticket, fetch.clone()),
            _ => self.quorum.await_reply(request_id, ticket),
        }
        engine.step(desk.now, Event::Request { request_id, request });
    }

    fn forget(&mut self, connection: ConnectionId) {
        self.fetch.forget(connection);
        self.produce.forget(connection);
        self.delete_records.forget(connection);
        self.heavy.forget(connection);
        self.serving.forget(connection);
        self.reading.forget(&mut self.desk, &mut self.fetch, &mut self.serving, connection);
        self.list_offsets.forget(connection);
        self.describe.forget(connection);
    }

    /// The turn's appends go to the device. What the log tells may make Raft append, or write its state: that belongs to this
    /// turn too.
    fn write_turn(&mut self) {
        loop {
            self.engine.advance(self.desk.now);
            self.take_operations();
            self.follow_engine();
            if !self.engine.has_heard() || self.engine.is_stopped() {
                return;
            }
        }
    }

    fn take_operations(&mut self) {
        while let Some(op) = self.engine.poll_op() {
            self.desk.act(Action::Disk(op));
        }
    }

    /// All that follows in the engine from what has come in.
    fn follow_engine(&mut self) {
        loop {
            self.hear_engine();
            match self.engine.go_on(self.desk.now) {
                Next::Due(deferred) => self.on_due(deferred),
                Next::Done => {}
                Next::Nothing => return,
            }
        }
    }

    /// What the engine has told, to whom it concerns.
    fn hear_engine(&mut self) {
        while let Some(told) = self.engine.poll() {
            self.on_told(told);
        }
    }

    fn on_told(&mut self, told: Told) {
        let (engine, desk) = (&mut self.engine, &mut self.desk);
        let now = desk.now;
        match told {
            Told::Note { level, text } => desk.note(level, text),
            Told::Send { to, request } => {
                desk.counters.elections += u64::from(matches!(request, raft::Request::Vote(_)));
                desk.peers.send(now, to, request);
            }
            Told::DropPeer { node, why } => {
                desk.note_refused(|_| Some(format!("closing the connections to node {node}: {why}")));
                desk.peers.drop_peer(node);
            }
            Told::Reply { request_id, response } => self.quorum.reply(desk, request_id, &response),
            Told::Verdict { request_id, verdict } => {
                self.fetch.on_verdict(engine, desk, request_id, verdict);
            }
            Told::InstallSnapshot(WantedSnapshot { from, id, begin }) => {
                self.fetching.begin(desk, from, engine.raft().epoch(), id, begin);
            }
            Told::RoleChanged => {
                self.quorum.on_role_changed(engine, now);
                self.fetching.on_role_changed(desk, engine.raft().leader(), engine.raft().epoch());
            }
            Told::Flushed(flushed) => self.produce.on_flushed(flushed, now),
            Told::Committed { bytes, records } => {
                self.produce.on_committed(now);
                desk.stages.record_committed(bytes, records);
            }
            Told::ReadDone { token, result } => {
                desk.reads.done(token);
                match engine.is_gated() {
                    true => engine.put_off(Deferred::Read { token, result }),
                    false => self.on_due(Deferred::Read { token, result }),
                }
            }
            Told::Readable(from, end) => match engine.is_gated() {
                true => engine.put_off(Deferred::Readable(from, end)),
                false => self.on_due(Deferred::Readable(from, end)),
            },
            Told::Stop { exit_code, why } => desk.act(Action::Stop { exit_code, why }),
        }
    }

    /// Nothing keeps it from its answer (any more).
    fn on_due(&mut self, deferred: Deferred) {
        match deferred {
            Deferred::Input(input) => self.on_input(input),
            Deferred::Readable(from, end) => self.engine.on_readable(from, end),
            Deferred::Read { token, result } => {
                let (engine, desk) = (&mut self.engine, &mut self.desk);
                let (fetch, list_offsets) = (&mut self.fetch, &mut self.list_offsets);
                self.reading.on_done(engine, desk, fetch, list_offsets, token, result);
            }
        }
    }

    /// Those whose time has come, of all that wait.
    fn answer_parked(&mut self) {
        let (engine, desk) = (&mut self.engine, &mut self.desk);
        if self.retains {
            self.retention.end_turn(engine, desk);
        }
        self.produce.end_turn(engine, desk);
        self.alter_configs.end_turn(engine, desk);
        self.delete_records.end_turn(engine, desk);
        self.fetch.wake(engine, desk);
        engine.forget_news();
        self.fetch.answer_waiting(engine, desk);
        self.list_offsets.start_looks(engine, desk);
        if self.reading.has_work(engine, desk, &self.fetch) {
            self.reading.start(engine, desk, &mut self.fetch, &mut self.list_offsets, &mut self.serving);
        }
        self.take_operations();
    }

    /// What is to be said to voters, and what they have said.
    fn pump_peers(&mut self) {
        loop {
            while let Some(action) = self.poll_link_action() {
                self.act_on_link(action);
            }
            if !self.engine.is_open() {
                return;
            }
            let (engine, desk) = (&mut self.engine, &mut self.desk);
            if let Some(event) = self.forwarding.poll_event() {
                self.describe.on_forwarded(engine, desk, event);
            } else if let Some(event) = self.alter_configs.forwarding().poll_event() {
                self.alter_configs.on_forwarded(desk, event);
            } else if let Some(event) = desk.peers.poll_event() {
                self.quorum.on_peer_event(engine, desk, event);
                self.hear_engine();
            } else {
                return;
            }
        }
    }

    fn poll_link_action(&mut self) -> Option<Action> {
        let of_forwarding = || self.forwarding.poll_action();
        let action = self.desk.peers.poll_action().or_else(of_forwarding);
        let action = action.or_else(|| self.alter_configs.forwarding().poll_action());
        action.or_else(|| self.fetching.poll_action())
    }

    fn act_on_link(&mut self, action: Action) {
        if let Action::PeerSend { chunks, .. } = &action {
            self.desk.counters.peer_requests += 1;
            self.desk.counters.peer_bytes_sent += chunks.iter().map(|chunk| chunk.len() as u64).sum::<u64>();
        }
        self.desk.act(action);
    }

    /// Monotonic ns at which `Input::Tick` is due.
    pub fn deadline(&self) -> Option<u64> {
        if self.engine.is_stopped() {
            return None;
        }
        let of_parts = [
            self.desk.peers.deadline(),
            self.desk.peers.greet_deadline(),
            self.forwarding.deadline(),
            self.produce.deadline(),
            self.alter_configs.deadline(),
            self.delete_records.deadline(),
            self.fetch.deadline(&self.engine),
            self.heavy.deadline(),
            self.reading.deadline(),
            self.fetching.deadline(),
            self.retains.then(|| self.retention.deadline()),
            self.snapshots.deadline(&self.engine, self.desk.now),
        ];
        let of_parts = of_parts.into_iter().flatten().filter(|_| self.engine.is_open());
        of_parts.chain(self.engine.deadline()).min()
    }

    /// (address, length) of the log's write buffers, to register with the ring.
    pub(crate) fn buffer_regions(&self) -> Vec<(*const u8, usize)> {
        self.engine.buffer_regions()
    }

    /// Every second or so: memory that no read has needed since is given back.
    pub(crate) fn rest(&mut self) {
        self.engine.rest();
        self.desk.reads.rest();
    }

    /// The node is dead, and its memory is to be used again: see `WriteBuffer::free`. Operations that were polled are
    /// their executor's to free.
    pub(crate) fn free_buffers(self) {
        self.desk.free_buffers();
        self.engine.free_buffers();
    }

    /// No more Produce should be read from clients until it turns false; voters' requests still should.
    pub(crate) fn is_full(&self) -> bool {
        self.engine.is_full()
    }

    /// A snapshot of this node that ends at `id` is durable, name and all.
    pub(crate) fn snapshot_taken(&mut self, id: OffsetAndEpoch) {
        self.engine.on_snapshot_taken(self.desk.now, id);
        self.hear_engine();
    }

    /// The log is to start at `to`, as retention would want it. False: see `GatedEngine::want_start`.
    pub(crate) fn want_start(&mut self, to: Offset) -> bool {
        let is_wanted = self.engine.want_start(self.desk.now, to);
        self.hear_engine();
        is_wanted
    }

    /// Where retention would have the log start by now.
    pub(crate) fn retained_start(&mut self, now: Now) -> Option<Offset> {
        if !self.engine.is_open() {
            return None;
        }
        self.desk.now = now;
        self.retention.look(&mut self.engine, &mut self.desk)
    }

    /// A start is wanted of this node that none of its snapshots covers.
    pub(crate) fn uncovered_start(&self) -> Option<Offset> {
        self.engine.raft().uncovered_start()
    }

    /// See `GatedEngine::folded`.
    pub(crate) fn folded(&self) -> Option<(OffsetAndEpoch, Vec<Section>)> {
        self.engine.folded()
    }

    /// Begin to copy what is folded from all that is committed, a little in each turn; `poll_folded` gives it some turns later. Where it
    /// ends, and the epoch before that. `Err`: why not now.
    pub fn copy_folds(&mut self) -> Result<OffsetAndEpoch, NotFolded> {
        self.engine.copy_folds()
    }

    /// The copy that was begun, once it is whole. `Err`: why it was given up; it may be begun again.
    pub fn poll_folded(&mut self) -> Option<Result<Folded, NotFolded>> {
        self.engine.poll_folded()
    }

    /// What clients ask is looked at now. While it is not it would only wait here, in a queue without a bound.
    pub(crate) fn takes_clients(&self) -> bool {
        !self.engine.is_gated()
    }

    /// A lie of the simulator: whoever names an epoch is believed.
    pub(crate) fn believe_requests(&mut self) {
        self.engine.believe_requests();
    }

    /// Histograms and totals since the last take; `cleared` is recorded into from now on.
    pub(crate) fn take_stages(&mut self, cleared: Stages) -> Stages {
        std::mem::replace(&mut self.desk.stages, cleared)
    }

    pub(crate) fn standing(&self) -> Standing {
        status::standing(&self.engine, &self.desk, &self.held())
    }

    /// What is set for the topic where all below this offset is committed. `None`: that is not known so exactly.
    pub(crate) fn settled_configs(&self) -> Option<(Offset, Arc<folds::Set>)> {
        let folds = self.engine.folds();
        Some((folds.settled_end()?, folds.configs().committed(None)))
    }

    /// For whoever counts them after each turn.
    pub(crate) fn snapshot_counts(&self) -> SnapshotCounts {
        self.snapshots.counts()
    }

    /// All that `/status` and the metrics show.
    pub fn status(&self, now: Now) -> Status {
        let election_latency_ms = self.quorum.election_latency_ms(now);
        status::status(&self.engine, &self.desk, &self.held(), election_latency_ms, now)
    }

    fn held(&self) -> Held {
        Held {
            produces: self.produce.parked(),
            alterations: self.alter_configs.parked() + self.delete_records.parked(),
            fetches: self.fetch.waiting() + self.serving.waiting(),
            parked_fetches: self.fetch.parked(),
            heavy: self.heavy.len(),
            heavy_bytes: self.heavy.bytes(),
            snapshots: self.snapshots.status(),
        }
    }
}

#[cfg(test)]
mod tests;
