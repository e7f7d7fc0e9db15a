//! Test only: several `Raft` nodes with disks that lose what is not flushed and a network whose every message waits
//! to be delivered. Carries effects out as a caller must; decides nothing by itself. Driven by `scripts` (by hand)
//! and by `random_walk` (by a seed).

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::show::{show_effect, show_state};
use super::*;

/// A batch with the one number that stands for its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Batch {
    pub(super) span: BatchSpan,
    pub(super) value: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Payload {
    Request(Request),
    Response(Response, Vec<Batch>),
    /// What the sender's timeout makes of a lost request or answer.
    Failed(RequestKind),
}

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) from: NodeId,
    pub(super) to: NodeId,
    pub(super) payload: Payload,
    /// Lives of the two nodes when the request was sent: connections do not survive a restart.
    pub(super) lives: (u64, u64),
}

struct Parked {
    request_id: RequestId,
    replica: ReplicaKey,
    from_offset: Offset,
    until_ns: u64,
}

pub(super) struct Node {
    pub(super) key: ReplicaKey,
    pub(super) raft: Option<Raft>,
    pub(super) life: u64,
    /// As the node sees its log; durable up to `raft.flushed()`.
    pub(super) log: Vec<Batch>,
    pub(super) disk_state: QuorumState,
    pub(super) writing_state: Option<QuorumState>,
    /// The log before a truncation that is not durable yet, and up to where it was durable.
    pub(super) before_truncation: Option<(Vec<Batch>, Offset)>,
    waiting: VecDeque<(Event, Vec<Batch>)>,
    stepped_batches: Vec<Batch>,
    after_quorum_state: Vec<Effect>,
    after_flush: Vec<(FlushedOffset, Effect)>,
    parked: Vec<Parked>,
    pub(super) is_shut_down: bool,
    /// The commit mark on its disk: how much it knew to be committed, of what it had flushed.
    pub(super) mark: Offset,
}

impl Node {
    pub(super) fn raft(&self) -> &Raft {
        self.raft.as_ref().expect("the node is up")
    }

    /// As a voter that has caught up once.
    pub(super) fn remember_all(&mut self) {
        let raft = self.raft.as_mut().expect("the node is up");
        for state in [&mut self.disk_state, &mut raft.state, &mut raft.durable] {
            state.caught_up = true;
        }
    }

    pub(super) fn flushed(&self) -> Offset {
        self.raft().flushed().0
    }

    pub(super) fn log_end(&self) -> Offset {
        log_end(&self.log)
    }

    /// What would be there after a power cut that keeps nothing else.
    pub(super) fn durable_log(&self) -> Vec<Batch> {
        let (log, end) = match (&self.raft, &self.before_truncation) {
            (_, Some((log, end))) => (log, *end),
            (Some(raft), None) => (&self.log, raft.flushed().0),
            (None, None) => (&self.log, self.log_end()),
        };
        log.iter().copied().filter(|batch| batch.span.last < end).collect()
    }
}

fn log_end(log: &[Batch]) -> Offset {
    Offset(log.last().map_or(0, |batch| batch.span.last.0 + 1))
}

fn epochs_of(log: &[Batch]) -> Vec<EpochStart> {
    let mut starts: Vec<EpochStart> = Vec::new();
    for batch in log {
        if starts.last().is_none_or(|start| start.epoch < batch.span.epoch) {
            starts.push(EpochStart { epoch: batch.span.epoch, start_offset: batch.span.base });
        }
    }
    starts
}

pub(super) struct Cluster {
    pub(super) voters: Vec<ReplicaKey>,
    pub(super) nodes: BTreeMap<NodeId, Node>,
    pub(super) network: Vec<Message>,
    pub(super) now: Now,
    pub(super) fetch_batches_max: usize,
    /// Divides all timeouts from the next start on: more elections in less time.
    hurry: u64,
    seed: u64,
    next_request: u64,
    /// Who asked what, and in which lives.
    asked: BTreeMap<RequestId, (NodeId, NodeId, (u64, u64))>,
    /// Of these only the epoch and the leader are told.
    asked_for_epoch: BTreeSet<RequestId>,
    next_value: u64,
    /// One line per note and effect, of all nodes.
    pub(super) trace: Vec<String>,
    /// High watermarks that rose since they were last taken, and whether that node led then.
    pub(super) risen: Vec<(NodeId, HighWatermark, bool)>,
    /// Who has stopped itself, and why.
    pub(super) stops: Vec<(NodeId, String)>,
}

impl Cluster {
    pub(super) fn new(voters: i32, observers: i32, seed: u64, hurry: u64) -> Cluster {
        let key = |id| ReplicaKey { id: NodeId(id), directory_id: Uuid::ZERO };
        let mut cluster = Cluster {
            voters: (1..=voters).map(key).collect(),
            nodes: BTreeMap::new(),
            network: Vec::new(),
            now: Now { monotonic_ns: NS_PER_MS, wall_ms: 0 },
            fetch_batches_max: 3,
            hurry,
            seed,
            next_request: 0,
            asked: BTreeMap::new(),
            asked_for_epoch: BTreeSet::new(),
            next_value: 0,
            trace: Vec::new(),
            risen: Vec::new(),
            stops: Vec::new(),
        };
        for id in 1..=voters + observers {
            let node = Node {
                key: key(id),
                raft: None,
                life: 0,
                log: Vec::new(),
                disk_state: QuorumState::EMPTY,
                writing_state: None,
                before_truncation: None,
                waiting: VecDeque::new(),
                stepped_batches: Vec::new(),
                after_quorum_state: Vec::new(),
                after_flush: Vec::new(),
                parked: Vec::new(),
                is_shut_down: false,
                mark: Offset(0),
            };
            cluster.nodes.insert(NodeId(id), node);
            cluster.start(NodeId(id));
        }
        // All have been up for a while and have answered each other.
        let voters: Vec<NodeId> = (1..=voters).map(NodeId).collect();
        for node in cluster.nodes.values_mut() {
            let others = voters.iter().filter(|voter| **voter != node.key.id);
            let heard = others.map(|voter| Heard { voter: *voter, is_whole: false }).collect();
            node.raft.as_mut().expect("the node is up").heard = heard;
        }
        cluster
    }

    pub(super) fn config(&self, local: ReplicaKey, life: u64) -> RaftConfig {
        RaftConfig {
            local,
            voters: self.voters.clone(),
            election_timeout_ms: 1000 / self.hurry,
            fetch_timeout_ms: 2000 / self.hurry,
            election_backoff_max_ms: 1000 / self.hurry,
            request_timeout_ms: 2000 / self.hurry,
            retry_backoff_ms: 20 / self.hurry,
            fetch_wait_ms_max: 500 / self.hurry,
            first_leader: FirstLeader::All,
            log_doubt: LogDoubt::Wait,
            keeps_own_start: false,
            seed: self.seed ^ (life << 16),
        }
    }

    pub(super) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).expect("a node of the cluster")
    }

    pub(super) fn ids(&self) -> Vec<NodeId> {
        self.nodes.keys().copied().collect()
    }

    pub(super) fn is_up(&self, id: NodeId) -> bool {
        self.nodes[&id].raft.is_some()
    }

    // --- lives

    pub(super) fn start(&mut self, id: NodeId) {
        let (key, life) = (self.nodes[&id].key, self.nodes[&id].life + 1);
        let (config, now) = (self.config(key, life), self.now);
        let node = self.node(id);
        assert!(node.raft.is_none(), "{id} is up");
        let recovered = RecoveredState {
            quorum_state: node.disk_state,
            log_start: OffsetAndEpoch::default(),
            log_begin: OffsetAndEpoch::default(),
            log_end: LogEndOffset(node.log_end()),
            committed: OffsetAndEpoch { epoch: Epoch(0), offset: node.mark.min(node.log_end()) },
            epochs: epochs_of(&node.log),
            snapshot: None,
        };
        node.life = life;
        node.is_shut_down = false;
        node.raft = Some(Raft::new(config, recovered, now));
    }

    /// Power cut. Of what was not durable, `keeps` says what reached the disk all the same: the quorum state being
    /// written, the truncation under way, and how many batches of the unflushed tail.
    pub(super) fn crash(&mut self, id: NodeId, keeps: (bool, bool, usize)) {
        let (keeps_state, keeps_truncation, keeps_batches) = keeps;
        let node = self.node(id);
        let flushed = node.flushed();
        // The mark as late as it can be.
        let known = node.raft().high_watermark.map_or(Offset(0), |known| known.0);
        node.mark = node.mark.max(known.min(flushed));
        let (mut log, durable_end) = match node.before_truncation.take() {
            Some((log, end)) if !keeps_truncation => (log, end),
            _ => (std::mem::take(&mut node.log), flushed),
        };
        let durable = log.iter().filter(|batch| batch.span.last < durable_end).count();
        log.truncate(durable + keeps_batches);
        node.log = log;
        if let Some(state) = node.writing_state.take().filter(|_| keeps_state) {
            node.disk_state = state;
        }
        node.raft = None;
        node.waiting.clear();
        node.after_quorum_state.clear();
        node.after_flush.clear();
        node.parked.clear();
        let line = format!(
            "n{id} crashed, its disk has end={} {}",
            self.nodes[&id].log_end(),
            show_state(&self.nodes[&id].disk_state)
        );
        self.trace.push(line);
        self.break_connections(id);
    }

    /// A new, empty disk under the same id.
    pub(super) fn wipe(&mut self, id: NodeId) {
        let node = self.node(id);
        assert!(node.raft.is_none(), "{id} is up");
        node.log.clear();
        node.mark = Offset(0);
        node.disk_state = QuorumState::EMPTY;
    }

    /// A disk of one's own invention: one batch for each (epoch, end of that epoch).
    pub(super) fn plant(&mut self, id: NodeId, epoch: Epoch, epochs: &[(i32, i64)]) {
        let node = self.node(id);
        assert!(node.raft.is_none(), "{id} is up");
        node.log.clear();
        node.mark = Offset(0);
        for (value, (epoch, end)) in (1000..).zip(epochs) {
            let (base, last) = (node.log_end(), Offset(end - 1));
            node.log.push(Batch { span: BatchSpan { base, last, epoch: Epoch(*epoch) }, value });
        }
        node.disk_state = QuorumState { epoch, leader: None, voted: None, caught_up: true, in_doubt: false };
    }

    /// Requests to and from a crashed node fail at those who still wait.
    fn break_connections(&mut self, id: NodeId) {
        for message in std::mem::take(&mut self.network) {
            if message.from != id && message.to != id {
                self.network.push(message);
            } else {
                self.lose(message);
            }
        }
        let open: Vec<RequestId> = self
            .asked
            .iter()
            .filter(|(_, (asker, asked, _))| *asker == id || *asked == id)
            .map(|(request_id, _)| *request_id)
            .collect();
        for request_id in open {
            // Parked or waiting for the disk: the kind is known to be a Fetch or irrelevant to the asker.
            if let Some((asker, asked, lives)) = self.asked.remove(&request_id) {
                for kind in [RequestKind::Fetch, RequestKind::Vote, RequestKind::EndQuorumEpoch] {
                    let payload = Payload::Failed(kind);
                    self.network.push(Message { from: asked, to: asker, payload, lives });
                }
            }
        }
    }

    // --- network

    /// The message never arrives: its asker hears of that.
    pub(super) fn lose(&mut self, message: Message) {
        let (asker, asked, kind) = match &message.payload {
            Payload::Request(request) => (message.from, message.to, kind_of(request)),
            Payload::Response(response, _) => (message.to, message.from, kind_of_response(response)),
            Payload::Failed(kind) => (message.to, message.from, *kind),
        };
        if self.is_up(asker) {
            let payload = Payload::Failed(kind);
            self.network.push(Message { from: asked, to: asker, payload, lives: message.lives });
        }
    }

    pub(super) fn deliver(&mut self, message: Message) {
        let Message { from, to, payload, lives } = message;
        if !self.is_up(to) {
            if let Payload::Request(_) = payload {
                self.lose(Message { from, to, payload, lives });
            }
            return;
        }
        match payload {
            Payload::Request(request) => {
                let request_id = RequestId(self.next_request);
                self.next_request += 1;
                self.asked.insert(request_id, (from, to, lives));
                if let Request::AskEpoch(_) = request {
                    self.asked_for_epoch.insert(request_id);
                }
                self.step(to, Event::Request { request_id, request }, Vec::new());
            }
            Payload::Response(response, batches) if self.nodes[&to].life == lives.0 => {
                self.step(to, Event::Response { from, response }, batches);
            }
            Payload::Failed(kind) if self.nodes[&to].life == lives.0 => {
                self.step(to, Event::RequestFailed { to: from, kind }, Vec::new());
            }
            _ => {}
        }
    }

    fn answer(&mut self, request_id: RequestId, mut response: Response, batches: Vec<Batch>) {
        if let Response::Fetch(FetchResponse { error, leader, epoch, .. }) = response
            && self.asked_for_epoch.remove(&request_id)
        {
            response = Response::AskEpoch(LeaderResponse { error, leader, epoch });
        }
        if let Some((asker, asked, lives)) = self.asked.remove(&request_id) {
            self.network.push(Message {
                from: asked,
                to: asker,
                payload: Payload::Response(response, batches),
                lives,
            });
        }
    }

    // --- steps

    pub(super) fn step(&mut self, id: NodeId, event: Event, batches: Vec<Batch>) {
        let now = self.now;
        let node = self.node(id);
        if node.writing_state.is_some() && event != Event::QuorumStateDurable {
            node.waiting.push_back((event, batches));
            return;
        }
        let is_retained = event == Event::QuorumStateDurable;
        if !is_retained {
            node.stepped_batches = batches;
        }
        let mut effects = Effects::default();
        node.raft.as_mut().expect("the node is up").step(now, event, &mut effects);
        let stops = self.stops.len();
        self.carry_out(id, effects);
        if self.stops.len() > stops {
            self.crash(id, (false, false, 0));
        }
    }

    fn carry_out(&mut self, id: NodeId, effects: Effects) {
        for note in &effects.notes {
            self.trace.push(format!("n{id}: {note}"));
        }
        for effect in effects.at_once {
            self.perform(id, effect);
        }
        if let Some(state) = effects.quorum_state {
            self.trace.push(format!("n{id} -> quorum state {}", show_state(&state)));
            let node = self.node(id);
            assert!(node.writing_state.is_none(), "two quorum states at a time");
            node.writing_state = Some(state);
            node.after_quorum_state = effects.after_quorum_state;
        }
        for (offset, effect) in effects.after_flush {
            if self.nodes[&id].flushed() >= offset.0 {
                self.perform(id, effect);
            } else {
                self.node(id).after_flush.push((offset, effect));
            }
        }
        if let Some(assigned) = effects.assigned {
            self.trace
                .push(format!("n{id} -> assigned {} in epoch {}", assigned.base_offset, assigned.epoch));
        }
        self.wake_parked(id);
    }

    fn perform(&mut self, id: NodeId, effect: Effect) {
        self.trace.push(format!("n{id} -> {}", show_effect(&effect)));
        match effect {
            Effect::Send { to, request } => {
                let lives = (self.nodes[&id].life, self.nodes.get(&to).map_or(0, |node| node.life));
                self.network.push(Message { from: id, to, payload: Payload::Request(request), lives });
            }
            Effect::Reply { request_id, response } => self.answer(request_id, response, Vec::new()),
            Effect::Fetched { request_id, verdict } => self.on_verdict(id, request_id, verdict),
            Effect::AppendLeaderChange { base_offset, epoch, .. } => {
                assert_eq!(self.nodes[&id].log_end(), base_offset);
                let span = BatchSpan { base: base_offset, last: base_offset, epoch };
                // Two leaders of one epoch would write different ones.
                let value = u64::MAX - (epoch.0 as u64 * 1000 + id.0 as u64);
                self.node(id).log.push(Batch { span, value });
            }
            Effect::AppendFetched { first, count } => {
                let node = self.node(id);
                let new: Vec<Batch> = node.stepped_batches[first..first + count].to_vec();
                for batch in new {
                    assert_eq!(node.log_end(), batch.span.base);
                    node.log.push(batch);
                }
            }
            Effect::Truncate { to } => {
                let node = self.node(id);
                assert!(node.before_truncation.is_none(), "two truncations at a time");
                // Raft has lowered its flushed offset already: count what was durable by the batches kept.
                let durable_end = node.flushed().max(log_end(&node.log));
                node.before_truncation = Some((node.log.clone(), durable_end));
                node.log.retain(|batch| batch.span.last < to.0);
                assert_eq!(node.log_end(), to.0, "cut within a batch");
                node.after_flush.clear();
            }
            Effect::InstallSnapshot { .. } | Effect::PlaceSnapshot { .. } => {
                panic!("every log of this cluster begins at 0")
            }
            Effect::HighWatermark(high_watermark) => {
                let led = self.node(id).raft().is_leader();
                self.risen.push((id, high_watermark, led));
            }
            Effect::Stop { why } => self.stops.push((id, why)),
            Effect::RoleChanged => {
                self.node(id).after_flush.clear();
                for parked in std::mem::take(&mut self.node(id).parked) {
                    self.refuse(id, parked.request_id, ErrorCode::NOT_LEADER_OR_FOLLOWER);
                }
            }
            Effect::DropPeer { .. } | Effect::AdvanceStart(_) | Effect::StartNamed => {}
            Effect::ShutdownComplete => self.node(id).is_shut_down = true,
        }
    }

    pub(super) fn append(&mut self, id: NodeId, offsets: i64) -> Option<Assigned> {
        if self.nodes[&id].writing_state.is_some() {
            return None;
        }
        let (now, mut effects) = (self.now, Effects::default());
        self.node(id).raft.as_mut().expect("the node is up").step(
            now,
            Event::Append { offsets },
            &mut effects,
        );
        let assigned = effects.assigned;
        if let Some(Assigned { base_offset, epoch }) = assigned {
            self.next_value += 1;
            let value = self.next_value;
            let node = self.node(id);
            assert_eq!(node.log_end(), base_offset);
            let span = BatchSpan { base: base_offset, last: Offset(base_offset.0 + offsets - 1), epoch };
            node.log.push(Batch { span, value });
        }
        self.carry_out(id, effects);
        assigned
    }

    // --- disk

    pub(super) fn complete_quorum_state(&mut self, id: NodeId) {
        let node = self.node(id);
        let Some(state) = node.writing_state.take() else { return };
        node.disk_state = state;
        let effects = std::mem::take(&mut node.after_quorum_state);
        self.step(id, Event::QuorumStateDurable, Vec::new());
        for effect in effects {
            self.perform(id, effect);
        }
        self.wake_parked(id);
        while self.nodes[&id].writing_state.is_none() {
            let Some((event, batches)) = self.node(id).waiting.pop_front() else { break };
            self.step(id, event, batches);
        }
    }

    /// The log became durable up to here.
    pub(super) fn complete_flush(&mut self, id: NodeId, to: Offset) {
        if self.nodes[&id].writing_state.is_some() {
            return;
        }
        self.step(id, Event::Flushed(FlushedOffset(to)), Vec::new());
        let flushed = self.nodes[&id].flushed();
        let waiting = std::mem::take(&mut self.node(id).after_flush);
        for (offset, effect) in waiting {
            if offset.0 <= flushed {
                self.perform(id, effect);
            } else {
                self.node(id).after_flush.push((offset, effect));
            }
        }
    }

    pub(super) fn complete_truncation(&mut self, id: NodeId) {
        if self.nodes[&id].writing_state.is_some() {
            return;
        }
        if self.node(id).before_truncation.take().is_some() {
            let to = self.nodes[&id].raft().truncating.expect("a truncation is under way");
            self.step(id, Event::Truncated(to), Vec::new());
        }
    }

    // --- parked fetches

    fn on_verdict(&mut self, id: NodeId, request_id: RequestId, verdict: FetchVerdict) {
        match verdict {
            FetchVerdict::Refused(error) => self.refuse(id, request_id, error),
            FetchVerdict::Diverging(end) => {
                let mut response = self.fetch_response(id, ErrorCode::NONE);
                response.diverging = Some(end);
                self.answer(request_id, Response::Fetch(response), Vec::new());
            }
            FetchVerdict::Snapshot { .. } => panic!("every log of this cluster begins at 0"),
            FetchVerdict::Read { from } => {
                let Some((asker, ..)) = self.asked.get(&request_id).copied() else { return };
                let replica = self.nodes[&asker].key;
                let until_ns = self.now.plus_ms(500 / self.hurry);
                let node = self.node(id);
                let (older, kept): (Vec<Parked>, Vec<Parked>) = std::mem::take(&mut node.parked)
                    .into_iter()
                    .partition(|parked| parked.replica == replica);
                node.parked = kept;
                node.parked.push(Parked { request_id, replica, from_offset: from, until_ns });
                for parked in older {
                    self.serve(id, parked.request_id, parked.from_offset);
                }
            }
        }
    }

    fn refuse(&mut self, id: NodeId, request_id: RequestId, error: ErrorCode) {
        let response = self.fetch_response(id, error);
        self.answer(request_id, Response::Fetch(response), Vec::new());
    }

    fn fetch_response(&self, id: NodeId, error: ErrorCode) -> FetchResponse {
        let raft = self.nodes[&id].raft();
        FetchResponse {
            error,
            leader: raft.leader(),
            epoch: raft.epoch(),
            high_watermark: raft.high_watermark(),
            diverging: None,
            snapshot: None,
            begin: None,
            lagging: 0,
            log_start: None,
            batches: Vec::new(),
        }
    }

    fn serve(&mut self, id: NodeId, request_id: RequestId, from: Offset) {
        let batches: Vec<Batch> = self.nodes[&id]
            .log
            .iter()
            .copied()
            .filter(|batch| batch.span.last >= from)
            .take(self.fetch_batches_max)
            .collect();
        let mut response = self.fetch_response(id, ErrorCode::NONE);
        response.batches = batches.iter().map(|batch| batch.span).collect();
        self.answer(request_id, Response::Fetch(response), batches);
    }

    pub(super) fn wake_parked(&mut self, id: NodeId) {
        if !self.is_up(id) || self.nodes[&id].writing_state.is_some() {
            return;
        }
        let (now, end) = (self.now.monotonic_ns, self.nodes[&id].log_end());
        let parked = std::mem::take(&mut self.node(id).parked);
        let (ready, kept): (Vec<Parked>, Vec<Parked>) =
            parked.into_iter().partition(|parked| parked.from_offset < end || parked.until_ns <= now);
        self.node(id).parked = kept;
        for parked in ready {
            self.serve(id, parked.request_id, parked.from_offset);
        }
    }
}

fn kind_of(request: &Request) -> RequestKind {
    match request {
        Request::Vote(_) => RequestKind::Vote,
        Request::BeginQuorumEpoch(_) => RequestKind::BeginQuorumEpoch,
        Request::EndQuorumEpoch(_) => RequestKind::EndQuorumEpoch,
        Request::Fetch(_) => RequestKind::Fetch,
        Request::AskEpoch(_) => RequestKind::AskEpoch,
    }
}

fn kind_of_response(response: &Response) -> RequestKind {
    match response {
        Response::Vote(_) => RequestKind::Vote,
        Response::BeginQuorumEpoch(_) => RequestKind::BeginQuorumEpoch,
        Response::EndQuorumEpoch(_) => RequestKind::EndQuorumEpoch,
        Response::Fetch(_) => RequestKind::Fetch,
        Response::AskEpoch(_) => RequestKind::AskEpoch,
    }
}
