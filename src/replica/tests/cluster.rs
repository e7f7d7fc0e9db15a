//! Whole nodes in one thread: their disks in memory, their connections byte streams cut into small pieces, their
//! clock a number. No faults but kills: those belong to the simulator.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::{RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};

use super::disk::Disk;
use crate::config::Config;
use crate::log::{Completion, Effort, OpKind, RecoveredLog, recover};
use crate::record::Inspector;
use crate::replica::copies::memory::MemorySnapshots;
use crate::replica::copies::{Copies, CopyOp};
use crate::replica::folds::Recovery;
use crate::replica::inspection::{Patience, Search};
use crate::replica::receive::{ReceiveBuffer, Sender};
use crate::replica::receive_pool::ReceivePool;
use crate::replica::session::{Session, SessionLimits};
use crate::replica::*;

/// Bytes of one read: small, so that every frame arrives in pieces.
const READ_BYTES: usize = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    /// The test's client.
    Client,
    /// An outbound link of this node.
    Link(NodeId, PeerLink),
}

struct Connection {
    session: Session,
    owner: Owner,
    /// Answers for the client, frames without length.
    received: BytesMut,
    /// What a link has not cut into answers yet.
    answers: ReceiveBuffer,
}

pub(crate) struct Node {
    pub(crate) replica: Replica,
    connections: BTreeMap<ConnectionId, Connection>,
    pub(crate) stopped: Option<i32>,
    /// What its start read.
    pub(crate) effort: Effort,
    /// The snapshot that it has begun with.
    pub(crate) from: Option<OffsetAndEpoch>,
    pub(crate) notes: Vec<String>,
    /// Those of them that are more than news.
    pub(crate) warnings: Vec<String>,
}

pub(crate) struct Cluster {
    configs: BTreeMap<NodeId, Config>,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) disks: BTreeMap<NodeId, Disk>,
    /// Inbound connection of each open link.
    links: BTreeMap<(NodeId, PeerLink), (NodeId, ConnectionId)>,
    inbox: VecDeque<(NodeId, Input)>,
    /// Completions of these operations wait until `release`.
    pub(crate) hold: fn(NodeId, &OpKind) -> bool,
    held: Vec<(NodeId, Completion)>,
    /// Cut off from the other nodes, not from clients.
    pub(super) isolated: BTreeSet<NodeId>,
    pub(crate) now: Now,
    /// By how much a node's wall clock is wrong.
    pub(crate) wall_offset_ms: BTreeMap<NodeId, i64>,
    /// Of the client's requests.
    pub(crate) client_id: &'static str,
    /// Searches are kept, until `release_searches`.
    pub(super) hold_searches: bool,
    pub(super) held_searches: Vec<(NodeId, Search)>,
    /// Answers stay on their way.
    pub(super) hold_answers: bool,
    pub(super) held_answers: Vec<Action>,
    /// Files of snapshots.
    pub(super) copies: BTreeMap<NodeId, Copies<MemorySnapshots>>,
    /// What is to be done with them waits, until `release_copies`.
    pub(super) hold_copies: bool,
    pub(super) held_copies: Vec<(NodeId, CopyOp)>,
    inspector: Inspector,
    next_connection: u64,
    seed: u64,
}

fn uncovered(disk: &mut Disk, config: &Config) -> snapshots::Started {
    let mut recovery = Recovery::new(config);
    let limits = log_config(&config.limits);
    let recovered = recover(disk, &limits, &mut |part| recovery.take(part)).expect("recovers");
    let (folds, snapshots) = (recovery.into_folds(), FoundSnapshots::default());
    snapshots::Started { recovered, folds, snapshots, from: None, notes: Vec::new() }
}

impl Cluster {
    pub(crate) fn new(configs: Vec<Config>) -> Cluster {
        let ids: Vec<NodeId> = configs.iter().map(|c| c.node_id).collect();
        let mut cluster = Cluster {
            configs: configs.into_iter().map(|c| (c.node_id, c)).collect(),
            nodes: BTreeMap::new(),
            disks: ids.iter().map(|id| (*id, Disk::default())).collect(),
            links: BTreeMap::new(),
            inbox: VecDeque::new(),
            hold: |_, _| false,
            held: Vec::new(),
            isolated: BTreeSet::new(),
            now: Now { monotonic_ns: 1_000_000_000, wall_ms: 1_700_000_000_000 },
            wall_offset_ms: BTreeMap::new(),
            client_id: "test",
            hold_searches: false,
            hold_answers: false,
            held_answers: Vec::new(),
            held_searches: Vec::new(),
            copies: BTreeMap::new(),
            hold_copies: false,
            held_copies: Vec::new(),
            inspector: Inspector::default(),
            next_connection: 0,
            seed: 7,
        };
        for id in ids {
            let copies = Copies::new(MemorySnapshots::default(), cluster.configs[&id].clone());
            cluster.copies.insert(id, copies);
            cluster.start(id);
        }
        cluster
    }

    pub(crate) fn start(&mut self, id: NodeId) {
        self.start_with(id, |_| {});
    }

    /// As if the end of its log had been damaged: what was left is what its disk has.
    pub(super) fn start_in_doubt(&mut self, id: NodeId) {
        self.start_with(id, RecoveredLog::go_on_in_doubt);
    }

    fn start_with(&mut self, id: NodeId, change: fn(&mut RecoveredLog)) {
        let config = &self.configs[&id];
        let disk = self.disks.get_mut(&id).expect("a disk for each node");
        let limits = log_config(&config.limits);
        let started = snapshots::recover(disk, config, &limits, &mut |recovery, part| recovery.take(part));
        let snapshots::Started { mut recovered, folds, snapshots, from, notes } = match started {
            // Who lets the start move by hand keeps nothing of what goes.
            Err(snapshots::StartError::NotCovered { .. }) => uncovered(disk, config),
            started => started.expect("recovers"),
        };
        change(&mut recovered);
        self.seed += 1;
        let effort = recovered.effort;
        let directory_id = Uuid(id.0 as u128 + 100);
        let mut replica = Replica::new(config, directory_id, recovered, folds, self.seed, self.now);
        replica.know_snapshots(snapshots);
        let node = Node {
            replica,
            connections: BTreeMap::new(),
            stopped: None,
            effort,
            from: from.map(|from| from.id),
            notes,
            warnings: Vec::new(),
        };
        self.nodes.insert(id, node);
    }

    /// Kill: all connections break, what the disk has stays.
    pub(crate) fn kill(&mut self, id: NodeId) {
        self.nodes.remove(&id);
        self.held.retain(|(node, _)| *node != id);
        self.break_links(id);
        self.inbox.retain(|(node, _)| *node != id);
    }

    /// No other node reaches it any more, and it none, until it is taken from `isolated`.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        self.isolated.insert(id);
        self.break_links(id);
    }

    /// The connection on which this node fetches a snapshot.
    pub(super) fn break_snapshot_link(&mut self, from: NodeId, to: NodeId) {
        self.break_link(from, PeerLink { node: to, lane: Lane::Snapshot }, "connection reset");
    }

    fn break_links(&mut self, id: NodeId) {
        let broken: Vec<_> = self
            .links
            .iter()
            .filter(|((from, _), (to, _))| *from == id || *to == id)
            .map(|(key, _)| *key)
            .collect();
        for (from, link) in broken {
            self.break_link(from, link, "connection reset");
        }
    }

    /// What is held is done, and nothing is held any more.
    pub(crate) fn release(&mut self) {
        self.hold = |_, _| false;
        self.release_those(|_| true);
    }

    /// These of the held operations are done; more may be held.
    pub(super) fn release_those(&mut self, is_done: fn(&Completion) -> bool) {
        for (id, completion) in std::mem::take(&mut self.held) {
            match is_done(&completion) {
                true => self.inbox.push_back((id, Input::Disk(completion))),
                false => self.held.push((id, completion)),
            }
        }
    }

    /// As the server's other inputs come: at the next turn.
    pub(crate) fn input(&mut self, id: NodeId, input: Input) {
        self.inbox.push_back((id, input));
    }

    pub(crate) fn shutdown(&mut self, id: NodeId) {
        self.inbox.push_back((id, Input::Shutdown));
    }

    fn break_link(&mut self, from: NodeId, link: PeerLink, why: &str) {
        if let Some((to, connection)) = self.links.remove(&(from, link)) {
            if let Some(node) = self.nodes.get_mut(&to) {
                node.connections.remove(&connection);
                self.inbox.push_back((to, Input::ConnectionClosed { connection }));
            }
            self.inbox.push_back((from, Input::PeerClosed { link, why: why.to_string(), is_refused: false }));
        }
    }

    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.nodes
            .iter()
            .filter(|(_, n)| n.replica.status(self.now).role == "leader")
            .map(|(id, _)| *id)
            .next()
    }

    pub(crate) fn status(&self, id: NodeId) -> Status {
        self.nodes[&id].replica.status(self.now)
    }

    /// Run turns until nothing moves, then to the next deadline, until the condition holds.
    pub(crate) fn run_until(&mut self, what: &str, ms_max: u64, mut holds: impl FnMut(&mut Cluster) -> bool) {
        let end = self.now.plus_ms(ms_max);
        while !holds(self) {
            assert!(self.now.monotonic_ns < end, "{what}: not within {ms_max} ms\n{}", self.story());
            if !self.turn() {
                self.advance(end);
            }
        }
    }

    pub(super) fn run_ms(&mut self, ms: u64) {
        let end = self.now.plus_ms(ms);
        while self.now.monotonic_ns < end {
            if !self.turn() {
                self.advance(end);
            }
        }
    }

    fn story(&self) -> String {
        self.nodes.iter().map(|(id, n)| format!("node {id}: {}\n", n.notes.join("\n  "))).collect()
    }

    fn advance(&mut self, end: u64) {
        let next = self.nodes.values().filter_map(|n| n.replica.deadline()).min();
        let next =
            next.unwrap_or(end).clamp(self.now.monotonic_ns + 1000, end.max(self.now.monotonic_ns + 1000));
        self.now.wall_ms += ((next - self.now.monotonic_ns) / NS_PER_MS) as i64;
        self.now.monotonic_ns = next;
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            self.inbox.push_back((id, Input::Tick));
        }
    }

    fn clock_of(&self, id: NodeId) -> Now {
        let offset_ms = self.wall_offset_ms.get(&id).copied().unwrap_or(0);
        Now { wall_ms: self.now.wall_ms + offset_ms, ..self.now }
    }

    /// One turn of every node. False: nothing moved.
    fn turn(&mut self) -> bool {
        let mut moved = !self.inbox.is_empty();
        self.now.monotonic_ns += 1000;
        for (id, input) in std::mem::take(&mut self.inbox) {
            let now = self.clock_of(id);
            if let Some(node) = self.nodes.get_mut(&id).filter(|n| n.stopped.is_none()) {
                node.replica.handle(now, input);
            }
        }
        let ids: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let now = self.clock_of(id);
            let Some(node) = self.nodes.get_mut(&id).filter(|n| n.stopped.is_none()) else { continue };
            node.replica.end_turn(now);
            while let Some(action) = self.nodes.get_mut(&id).and_then(|n| n.replica.poll_action()) {
                moved |= !matches!(action, Action::Note { .. });
                self.carry_out(id, action);
            }
        }
        moved
    }

    /// Do what is held with the files of snapshots.
    pub(super) fn release_copies(&mut self) {
        self.hold_copies = false;
        for (id, op) in std::mem::take(&mut self.held_copies) {
            self.carry_out(id, Action::Copy(op));
        }
    }

    /// Look into all batches that are held.
    pub(super) fn release_searches(&mut self) {
        for (id, search) in std::mem::take(&mut self.held_searches) {
            let found = search.look(&mut self.inspector);
            self.inbox.push_back((id, Input::Searched { token: search.token, found }));
        }
    }

    fn carry_out(&mut self, id: NodeId, action: Action) {
        match action {
            Action::Disk(op) => {
                let is_held = (self.hold)(id, &op.kind);
                let completion = self.disks.get_mut(&id).expect("a disk").carry_out(op);
                match is_held {
                    true => self.held.push((id, completion)),
                    false => self.inbox.push_back((id, Input::Disk(completion))),
                }
            }
            Action::Snapshot(op) => {
                let done = self.disks.get_mut(&id).expect("a disk").carry_out_snapshot(op);
                self.inbox.push_back((id, Input::Snapshot(done)));
            }
            Action::Search(search) => {
                self.held_searches.push((id, search));
                if !self.hold_searches {
                    self.release_searches();
                }
            }
            Action::Copy(op) => {
                if self.hold_copies {
                    return self.held_copies.push((id, op));
                }
                let done = self.copies.get_mut(&id).expect("a directory").carry_out(op);
                self.inbox.push_back((id, Input::Copied(done)));
            }
            Action::Note { level, text } => {
                let node = self.nodes.get_mut(&id).expect("a node");
                if level == Level::Warn {
                    node.warnings.push(text.clone());
                }
                node.notes.push(text);
            }
            Action::Stop { exit_code, why } => {
                let node = self.nodes.get_mut(&id).expect("a node");
                node.notes.push(why);
                node.stopped = Some(exit_code);
            }
            Action::Answer { .. } if self.hold_answers => self.held_answers.push(action),
            Action::Answer { connection, seq, response, .. } => self.on_answer(id, connection, seq, response),
            Action::Close { connection, .. } => {
                self.nodes.get_mut(&id).expect("a node").connections.remove(&connection);
            }
            Action::PeerConnect { link, .. } => self.connect_link(id, link),
            Action::PeerSend { link, chunks } => {
                let Some((to, connection)) = self.links.get(&(id, link)).copied() else { return };
                for chunk in chunks {
                    self.deliver(to, connection, &chunk);
                }
            }
            Action::PeerClose { link } => self.break_link(id, link, "closed by us"),
        }
    }

    fn connect_link(&mut self, from: NodeId, link: PeerLink) {
        let is_cut = self.isolated.contains(&from) || self.isolated.contains(&link.node);
        if is_cut || self.nodes.get(&link.node).is_none_or(|n| n.stopped.is_some()) {
            let why = "connection refused".to_string();
            return self.inbox.push_back((from, Input::PeerClosed { link, why, is_refused: true }));
        }
        let connection = self.open(link.node, Owner::Link(from, link));
        self.links.insert((from, link), (link.node, connection));
        self.inbox.push_back((from, Input::PeerConnected { link }));
    }

    fn open(&mut self, node: NodeId, owner: Owner) -> ConnectionId {
        self.next_connection += 1;
        let connection = ConnectionId(self.next_connection);
        let session = Session::new(SessionLimits::of(&self.configs[&node]));
        let answers = ReceiveBuffer::new(Sender::Voter);
        let opened = Connection { session, owner, received: BytesMut::new(), answers };
        self.nodes.get_mut(&node).expect("a node").connections.insert(connection, opened);
        connection
    }

    fn deliver(&mut self, to: NodeId, connection: ConnectionId, bytes: &[u8]) {
        let now = self.clock_of(to);
        let Some(node) = self.nodes.get_mut(&to) else { return };
        let Some(open) = node.connections.get_mut(&connection) else { return };
        for piece in bytes.chunks(READ_BYTES) {
            open.session.receive_buffer(&mut ReceivePool::default()).extend_from_slice(piece);
            while let Some(arrived) = open.session.poll_request(now) {
                let mut arrived = arrived.expect("a frame that we sent ourselves");
                if let Some(inspection) = arrived.to_inspect {
                    inspection.look(&mut self.inspector, &mut arrived.request, Patience::Long);
                }
                let input = Input::Request {
                    connection,
                    seq: arrived.seq,
                    api_version: arrived.api_version,
                    is_forwarded: arrived.is_forwarded,
                    request: arrived.request,
                    received_ns: now.monotonic_ns,
                    decoded_ns: now.monotonic_ns,
                };
                self.inbox.push_back((to, input));
            }
        }
    }

    fn on_answer(
        &mut self,
        id: NodeId,
        connection: ConnectionId,
        seq: u64,
        response: Option<protocol::Response>,
    ) {
        let frame_bytes_max = self.configs[&id].limits.voter_answer_bytes_max();
        let node = self.nodes.get_mut(&id).expect("a node");
        let Some(open) = node.connections.get_mut(&connection) else { return };
        open.session.answer(seq, response).expect("a reader that keeps up");
        while let Some(bytes) = open.session.poll_output() {
            open.session.sent(bytes.len());
            match open.owner {
                Owner::Client => open.received.extend_from_slice(&bytes),
                Owner::Link(from, link) => {
                    for piece in bytes.chunks(READ_BYTES) {
                        open.answers.room(&mut ReceivePool::default()).extend_from_slice(piece);
                        while let Some(frame) = open.answers.next_frame(frame_bytes_max).expect("our own") {
                            self.inbox.push_back((from, Input::PeerFrame { link, frame }));
                        }
                    }
                }
            }
        }
    }

    // --- a client

    pub(crate) fn connect(&mut self, node: NodeId) -> (NodeId, ConnectionId) {
        (node, self.open(node, Owner::Client))
    }

    pub(crate) fn disconnect(&mut self, (node, connection): (NodeId, ConnectionId)) {
        self.nodes.get_mut(&node).expect("a node").connections.remove(&connection);
        self.inbox.push_back((node, Input::ConnectionClosed { connection }));
    }

    /// Not closed by the node.
    pub(crate) fn is_open(&self, client: (NodeId, ConnectionId)) -> bool {
        self.nodes[&client.0].connections.contains_key(&client.1)
    }

    /// Send a request; its answer comes with `receive`.
    pub(crate) fn send<R: Encodable>(
        &mut self,
        client: (NodeId, ConnectionId),
        key: i16,
        version: i16,
        request: &R,
    ) {
        let api = kafka_protocol::messages::ApiKey::try_from(key).expect("a key");
        let mut header = RequestHeader::default();
        header.request_api_key = key;
        header.request_api_version = version;
        header.client_id = Some(StrBytes::from_static_str(self.client_id));
        let mut body = BytesMut::new();
        header.encode(&mut body, api.request_header_version(version)).expect("encodes");
        request.encode(&mut body, version).expect("encodes");
        let mut frame = BytesMut::new();
        frame.put_i32(body.len() as i32);
        frame.extend_from_slice(&body);
        self.deliver(client.0, client.1, &frame);
    }

    /// The next answer on the connection, if it is there.
    pub(crate) fn receive<R: Decodable>(
        &mut self,
        client: (NodeId, ConnectionId),
        key: i16,
        version: i16,
    ) -> Option<R> {
        let api = kafka_protocol::messages::ApiKey::try_from(key).expect("a key");
        let received = &mut self.nodes.get_mut(&client.0)?.connections.get_mut(&client.1)?.received;
        let length = i32::from_be_bytes(received.get(..4)?.try_into().ok()?) as usize;
        if received.len() < 4 + length {
            return None;
        }
        let mut frame = received.split_to(4 + length).freeze().slice(4..);
        ResponseHeader::decode(&mut frame, api.response_header_version(version)).expect("a header");
        Some(R::decode(&mut frame, version).expect("a body"))
    }

    /// Send, run, receive.
    pub(crate) fn call<Q: Encodable, A: Decodable>(
        &mut self,
        client: (NodeId, ConnectionId),
        key: i16,
        version: i16,
        request: &Q,
    ) -> A {
        self.send(client, key, version, request);
        let mut answer = None;
        self.run_until("an answer", 60_000, |cluster| {
            answer = cluster.receive(client, key, version);
            answer.is_some()
        });
        answer.expect("an answer")
    }
}
