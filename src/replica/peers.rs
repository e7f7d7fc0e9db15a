//! Our outbound connections to the other voters: who is connected, what is under way, what has failed.
//!
//! The replica calls it with Raft's requests and with what the server's sockets say; it gives back socket actions, and
//! answers or failures for Raft. A link is connected when there is something to send, begins with ApiVersions (as
//! Kafka's `NetworkClient` does), and is closed by the first thing that goes wrong on it. It never retries a request:
//! Raft decides what still makes sense. Every `PeerConnect` is answered by one close from the server, also after our
//! `PeerClose`.

use super::input::{Action, Lane, PeerLink};
use super::room::places::KNOWN_ANSWERS;
use crate::config::Config;
use crate::protocol::quorum::{self, PeerVersions, QuorumContext};
use crate::raft::{self, RequestKind};
use crate::types::*;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Longest pause before a link is connected again, however long the fetch timeout is; not shorter than the configured one.
const RECONNECT_BACKOFF_MS_MAX: u64 = 1000;
/// A follower whose connections are closed again and again tries so many times before it gives its leader up.
const RECONNECTS_PER_FETCH_TIMEOUT: u64 = 8;
/// Fetches under way on a link: one that the leader has parked, and a heartbeat behind it.
const FETCHES_UNDER_WAY_MAX: usize = 2;

/// Between two attempts to reach voters that nothing is asked of, only to hear where clients find them.
const GREET_INTERVAL_MS: u64 = 2_000;

#[derive(Debug)]
pub(super) enum PeerEvent {
    /// A decoded answer; for Fetch the unchecked records beside it.
    Response { from: NodeId, response: raft::Response, records: Bytes },
    /// All requests of this kind that were under way, or queued, to the node are gone.
    Failed { to: NodeId, kind: RequestKind, why: String },
    /// A Fetch to the node had not been sent yet, and a newer one has taken its place.
    FetchOvertaken { to: NodeId },
    /// Nobody listens at the node's endpoint. Comes behind what has failed by it.
    Refused { by: NodeId },
}

/// Our outbound connections: connect, ApiVersions first, at most one request of a kind under way (a heartbeat Fetch
/// may follow one that is parked), correlation, timeouts, backoff. Pure.
#[derive(Debug)]
pub(super) struct Peers {
    context: QuorumContext,
    client_id: String,
    times: PeerTimes,
    /// At most one per voter and lane.
    links: BTreeMap<PeerLink, Link>,
    /// Voters that said so in their last ApiVersions.
    serve_clients: BTreeSet<NodeId>,
    /// Where clients find them, as their last ApiVersions said.
    advertised: BTreeMap<NodeId, Arc<Endpoint>>,
    knows_no_configs: BTreeSet<NodeId>,
    /// Voters that vote and take no clients: Kafka's own controllers.
    kafkas: BTreeSet<NodeId>,
    /// When voters without a connection are greeted.
    greet_at_ns: u64,
    actions: VecDeque<Action>,
    events: VecDeque<PeerEvent>,
    /// Where Fetches are encoded.
    room: BytesMut,
}

/// In ms.
#[derive(Clone, Copy, Debug)]
pub(super) struct PeerTimes {
    pub(super) request_timeout_ms: u64,
    pub(super) retry_backoff_ms: u64,
    pub(super) fetch_timeout_ms: u64,
}

impl PeerTimes {
    pub(super) fn of(config: &Config) -> PeerTimes {
        PeerTimes {
            request_timeout_ms: config.request_timeout_ms,
            retry_backoff_ms: config.retry_backoff_ms,
            fetch_timeout_ms: config.fetch_timeout_ms,
        }
    }

    /// Before a link is connected again whose last pause was this one.
    fn pause_ms(&self, last_ms: u64) -> u64 {
        let most_ms = (self.fetch_timeout_ms / RECONNECTS_PER_FETCH_TIMEOUT).min(RECONNECT_BACKOFF_MS_MAX);
        (last_ms * 2).min(most_ms).max(self.retry_backoff_ms)
    }
}

impl Peers {
    pub(super) fn new(context: QuorumContext, times: PeerTimes) -> Peers {
        Peers {
            // Kafka's voters call themselves so.
            client_id: format!("raft-client-{}", context.local.id),
            context,
            times,
            links: BTreeMap::new(),
            serve_clients: BTreeSet::new(),
            advertised: BTreeMap::new(),
            knows_no_configs: BTreeSet::new(),
            kafkas: BTreeSet::new(),
            greet_at_ns: 0,
            actions: VecDeque::new(),
            events: VecDeque::new(),
            room: BytesMut::new(),
        }
    }

    /// Send, connecting first where needed. Fetch goes on Lane::Fetch, the rest on Lane::Control. A new Fetch to a
    /// node while one is out to another node closes that other link, without an event. A request that cannot go out
    /// yet waits; a newer one of its kind takes its place, with an event only where it was a Fetch.
    pub(super) fn send(&mut self, now: Now, to: NodeId, request: raft::Request) {
        let kind = kind_of(&request);
        if self.endpoint(to).is_none() {
            let why = format!("node {to} is not among the voters and has no endpoint");
            return self.events.push_back(PeerEvent::Failed { to, kind, why });
        }
        if kind == RequestKind::Fetch {
            self.overtake_fetches(to);
        }
        let key = PeerLink { node: to, lane: lane_of(kind) };
        let queued = Queued { request, deadline_ns: now.plus_ms(self.times.request_timeout_ms) };
        let has_overtaken = self.links.entry(key).or_insert_with(Link::new).enqueue(queued);
        if has_overtaken && kind == RequestKind::Fetch {
            self.events.push_back(PeerEvent::FetchOvertaken { to });
        }
        self.advance(now, key);
    }

    pub(super) fn on_connected(&mut self, now: Now, key: PeerLink) {
        let deadline_ns = now.plus_ms(self.times.request_timeout_ms);
        let Some(link) = self.links.get_mut(&key) else { return };
        if !matches!(link.state, State::Connecting { .. }) {
            return; // We have closed it meanwhile.
        }
        let correlation_id = link.take_correlation_id();
        link.state = State::Handshaking { deadline_ns, correlation_id };
        let frame =
            quorum::encode_api_versions_request(correlation_id, &self.client_id, self.context.data_mode);
        self.actions.push_back(Action::PeerSend { link: key, chunks: frame.chunks });
    }

    /// Connect to each voter that we have no connection to, only to hear what its ApiVersions says. If that fails nobody is
    /// told, and what is sent later does not wait for it.
    fn greet(&mut self, now: Now) {
        for node in self.unconnected_voters() {
            let key = PeerLink { node, lane: Lane::Control };
            let link = self.links.entry(key).or_insert_with(Link::new);
            if matches!(link.state, State::Idle { retry_at_ns } if retry_at_ns <= now.monotonic_ns) {
                self.connect(now, key);
            }
        }
    }

    /// Now and then, as long as there is one.
    pub(super) fn maybe_greet(&mut self, now: Now) {
        if now.monotonic_ns >= self.greet_at_ns {
            self.greet_at_ns = now.plus_ms(GREET_INTERVAL_MS);
            self.greet(now);
        }
    }

    /// When a voter is to be greeted next.
    pub(super) fn greet_deadline(&self) -> Option<u64> {
        self.knows_unconnected().then_some(self.greet_at_ns)
    }

    fn knows_unconnected(&self) -> bool {
        self.context.voters.iter().any(|(id, _)| self.is_unconnected(*id))
    }

    fn unconnected_voters(&self) -> Vec<NodeId> {
        self.context.voters.iter().map(|(id, _)| *id).filter(|id| self.is_unconnected(*id)).collect()
    }

    fn is_unconnected(&self, node: NodeId) -> bool {
        let link = self.links.get(&PeerLink { node, lane: Lane::Control });
        node != self.context.local.id && link.is_none_or(|link| matches!(link.state, State::Idle { .. }))
    }

    /// Closed before it was open: nobody listens there.
    pub(super) fn on_refused(&mut self, now: Now, key: PeerLink, why: &str) {
        let was_asked = self.links.get(&key).is_some_and(Link::is_asked);
        self.on_closed(now, key, why);
        if was_asked {
            self.events.push_back(PeerEvent::Refused { by: key.node });
        }
    }

    pub(super) fn on_closed(&mut self, now: Now, key: PeerLink, why: &str) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let after_failure = match link.state {
            State::Idle { .. } => return,
            State::Closing { after_failure } => after_failure,
            _ if link.is_greeting() => false,
            State::Connecting { .. } | State::Handshaking { .. } | State::Ready(_) => {
                self.forget(key, why);
                true
            }
        };
        let Some(link) = self.links.get_mut(&key) else { return };
        let backoff_ms = if after_failure { link.backoff_ms } else { 0 };
        link.state = State::Idle { retry_at_ns: now.plus_ms(backoff_ms) };
        self.advance(now, key);
    }

    pub(super) fn on_tick(&mut self, now: Now) {
        if self.deadline().is_none_or(|deadline_ns| deadline_ns > now.monotonic_ns) {
            return;
        }
        let keys: Vec<PeerLink> = self.links.keys().copied().collect();
        for key in keys {
            self.expire(now, key);
            self.advance(now, key);
        }
    }

    /// Close all links to a node that said something impossible. What was under way fails.
    pub(super) fn drop_peer(&mut self, node: NodeId) {
        for lane in [Lane::Fetch, Lane::Control] {
            self.fail(PeerLink { node, lane }, "it said something impossible");
        }
    }

    pub(super) fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    pub(super) fn poll_event(&mut self) -> Option<PeerEvent> {
        self.events.pop_front()
    }

    /// The voter is known to take clients' requests.
    pub(super) fn serves_clients(&self, node: NodeId) -> bool {
        self.serve_clients.contains(&node)
    }

    /// A voter that has said what it speaks, and is too old for what is set for the topic.
    pub(super) fn too_old_for_configs(&self) -> Option<NodeId> {
        self.knows_no_configs.first().copied()
    }

    /// Where clients find it, if it has told.
    pub(crate) fn advertised(&self, node: NodeId) -> Option<&Arc<Endpoint>> {
        self.advertised.get(&node)
    }

    /// The voter has said that it is one of Kafka's own.
    pub(super) fn is_kafkas(&self, node: NodeId) -> bool {
        self.kafkas.contains(&node)
    }

    /// Monotonic ns at which `on_tick` is due.
    pub(super) fn deadline(&self) -> Option<u64> {
        self.links.values().filter_map(Link::deadline).min()
    }

    fn endpoint(&self, node: NodeId) -> Option<&Endpoint> {
        self.context.voters.iter().find(|(id, _)| *id == node).map(|(_, endpoint)| &**endpoint)
    }

    /// Do what the state of the link allows now.
    fn advance(&mut self, now: Now, key: PeerLink) {
        let Some(link) = self.links.get(&key) else { return };
        match &link.state {
            State::Idle { retry_at_ns } if *retry_at_ns <= now.monotonic_ns && !link.queued.is_empty() => {
                self.connect(now, key)
            }
            State::Ready(_) => self.send_queued(key),
            _ => {}
        }
    }

    fn connect(&mut self, now: Now, key: PeerLink) {
        let deadline_ns = now.plus_ms(self.times.request_timeout_ms);
        let Some(endpoint) = self.endpoint(key.node).cloned() else { return };
        let Some(link) = self.links.get_mut(&key) else { return };
        link.state = State::Connecting { deadline_ns };
        link.answers = 0;
        self.actions.push_back(Action::PeerConnect { link: key, endpoint });
    }

    fn send_queued(&mut self, key: PeerLink) {
        let Some(link) = self.links.get_mut(&key) else { return };
        while let Some(mut queued) = link.next_to_send() {
            let kind = kind_of(&queued.request);
            link.make_known(&mut queued.request);
            let correlation_id = link.take_correlation_id();
            let State::Ready(versions) = &link.state else { return };
            let encoded = quorum::encode_request(
                &self.context,
                versions,
                correlation_id,
                &self.client_id,
                &queued.request,
                &mut self.room,
            );
            let (Some(frame), Some(version)) = (encoded, quorum::version_of(versions, kind)) else {
                if let Some(response) = unsaid_pre_vote(versions, &queued.request) {
                    let (from, records) = (key.node, Bytes::new());
                    self.events.push_back(PeerEvent::Response { from, response, records });
                    continue;
                }
                let why = format!("node {} has no version of {kind:?} that can carry the request", key.node);
                self.events.push_back(PeerEvent::Failed { to: key.node, kind, why });
                continue;
            };
            let deadline_ns = queued.deadline_ns;
            link.outstanding.push_back(Outstanding { correlation_id, kind, version, deadline_ns });
            self.actions.push_back(Action::PeerSend { link: key, chunks: frame.chunks });
        }
    }

    /// An answer. The link may have failed meanwhile: what comes behind that is not looked at.
    pub(super) fn on_frame(&mut self, now: Now, key: PeerLink, frame: Bytes) {
        let Some(link) = self.links.get_mut(&key) else { return };
        let result = match &link.state {
            State::Handshaking { correlation_id, .. } => check_correlation(&frame, *correlation_id)
                .and_then(|()| quorum::decode_api_versions_response(frame).map_err(|e| e.to_string()))
                .map(|versions| {
                    let put = |set: &mut BTreeSet<NodeId>, is_in: bool| match is_in {
                        true => set.insert(key.node),
                        false => set.remove(&key.node),
                    };
                    put(&mut self.serve_clients, versions.serves_clients);
                    put(&mut self.knows_no_configs, !versions.alters_configs);
                    put(&mut self.kafkas, versions.vote.is_some() && !versions.serves_clients);
                    match &versions.advertised {
                        Some(endpoint) => self.advertised.insert(key.node, Arc::new(endpoint.clone())),
                        None => self.advertised.remove(&key.node),
                    };
                    link.state = State::Ready(versions);
                }),
            State::Ready(_) => link.complete(&self.context, frame).map(|(response, records)| {
                link.backoff_ms = 0;
                link.answers = link.answers.saturating_add(1);
                self.events.push_back(PeerEvent::Response { from: key.node, response, records });
            }),
            _ => Ok(()),
        };
        match result {
            Ok(()) => self.advance(now, key),
            Err(why) => self.fail(key, &why),
        }
    }

    /// Close the link if it is open, and tell Raft about each kind of request in it.
    fn fail(&mut self, key: PeerLink, why: &str) {
        let Some(link) = self.links.get_mut(&key) else { return };
        if link.is_greeting() {
            link.state = State::Closing { after_failure: false };
            return self.actions.push_back(Action::PeerClose { link: key });
        }
        if !matches!(link.state, State::Idle { .. } | State::Closing { .. }) {
            link.state = State::Closing { after_failure: true };
            self.actions.push_back(Action::PeerClose { link: key });
        }
        self.forget(key, why);
    }

    /// What was under way or queued on the link has failed; the next connection comes after a longer pause.
    fn forget(&mut self, key: PeerLink, why: &str) {
        let Some(link) = self.links.get_mut(&key) else { return };
        link.backoff_ms = self.times.pause_ms(link.backoff_ms);
        let kinds = link.clear();
        self.push_failed(key.node, kinds, why);
    }

    fn push_failed(&mut self, to: NodeId, mut kinds: Vec<RequestKind>, why: &str) {
        kinds.sort();
        kinds.dedup();
        let failed = |kind| PeerEvent::Failed { to, kind, why: why.to_string() };
        self.events.extend(kinds.into_iter().map(failed));
    }

    fn expire(&mut self, now: Now, key: PeerLink) {
        let timeout_ms = self.times.request_timeout_ms;
        let Some(link) = self.links.get_mut(&key) else { return };
        if link.is_overdue(now) {
            return self.fail(key, &format!("no answer within {timeout_ms} ms"));
        }
        let kinds = link.take_expired(now);
        self.push_failed(key.node, kinds, &format!("it could not be sent within {timeout_ms} ms"));
    }

    /// A Fetch to `to` overtakes those to others: their answers must not come any more.
    fn overtake_fetches(&mut self, to: NodeId) {
        for (key, link) in &mut self.links {
            if key.lane != Lane::Fetch || key.node == to {
                continue;
            }
            link.queued.clear();
            if !link.outstanding.is_empty() {
                link.outstanding.clear();
                link.state = State::Closing { after_failure: false };
                self.actions.push_back(Action::PeerClose { link: *key });
            }
        }
    }
}

#[derive(Debug)]
enum State {
    /// Not connected, and not to be connected before this time.
    Idle {
        retry_at_ns: u64,
    },
    Connecting {
        deadline_ns: u64,
    },
    /// ApiVersions is under way.
    Handshaking {
        deadline_ns: u64,
        correlation_id: i32,
    },
    Ready(PeerVersions),
    /// We have closed it, the server has not said so yet.
    Closing {
        after_failure: bool,
    },
}

#[derive(Debug)]
struct Queued {
    request: raft::Request,
    deadline_ns: u64,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    correlation_id: i32,
    kind: RequestKind,
    version: i16,
    deadline_ns: u64,
}

#[derive(Debug)]
struct Link {
    state: State,
    next_correlation_id: i32,
    /// At most one of a kind.
    queued: Vec<Queued>,
    /// In the order in which they were sent: answers come in that order.
    outstanding: VecDeque<Outstanding>,
    /// 0 after an answer.
    backoff_ms: u64,
    /// Since it was connected.
    answers: u64,
}

impl Link {
    fn new() -> Link {
        Link {
            state: State::Idle { retry_at_ns: 0 },
            next_correlation_id: 0,
            queued: Vec::new(),
            outstanding: VecDeque::new(),
            backoff_ms: 0,
            answers: 0,
        }
    }

    fn take_correlation_id(&mut self) -> i32 {
        let id = self.next_correlation_id;
        self.next_correlation_id = id.wrapping_add(1) & i32::MAX;
        id
    }

    /// True: in the place of another one of its kind.
    fn enqueue(&mut self, queued: Queued) -> bool {
        let kind = kind_of(&queued.request);
        let before = self.queued.len();
        self.queued.retain(|q| kind_of(&q.request) != kind);
        let has_overtaken = self.queued.len() < before;
        self.queued.push(queued);
        has_overtaken
    }

    /// Somebody waits for an answer.
    fn is_asked(&self) -> bool {
        !self.queued.is_empty() || !self.outstanding.is_empty()
    }

    /// It is being opened, and nothing is to be sent on it.
    fn is_greeting(&self) -> bool {
        matches!(self.state, State::Connecting { .. } | State::Handshaking { .. }) && !self.is_asked()
    }

    /// Take the first queued request whose kind has room.
    fn next_to_send(&mut self) -> Option<Queued> {
        let outstanding = &self.outstanding;
        let has_room = |queued: &Queued| {
            let kind = kind_of(&queued.request);
            let max = if kind == RequestKind::Fetch { FETCHES_UNDER_WAY_MAX } else { 1 };
            outstanding.iter().filter(|o| o.kind == kind).count() < max
        };
        let index = self.queued.iter().position(has_room)?;
        Some(self.queued.remove(index))
    }

    /// Who claims to be us may take our connection's place with the other node until it has had a few answers. So its first Fetches do
    /// not wait for records: in a quorum to which nobody writes it would take seconds.
    fn make_known(&self, request: &mut raft::Request) {
        if let raft::Request::Fetch(fetch) = request
            && self.answers < KNOWN_ANSWERS
        {
            fetch.max_wait_ms = 0;
        }
    }

    /// Match an answer with its request and decode it. Err: the peer is not to be trusted on this link.
    fn complete(&mut self, context: &QuorumContext, frame: Bytes) -> Result<(raft::Response, Bytes), String> {
        let Some(request) = self.outstanding.front().copied() else {
            return Err("it answered where nothing was asked".to_string());
        };
        check_correlation(&frame, request.correlation_id)?;
        let decoded = quorum::decode_response(context, request.kind, request.version, frame)
            .map_err(|e| format!("its answer to {:?} is malformed: {e}", request.kind))?;
        self.outstanding.pop_front();
        Ok(decoded)
    }

    /// A connection attempt, the handshake or a request has run out of time.
    fn is_overdue(&self, now: Now) -> bool {
        match self.state {
            State::Connecting { deadline_ns } | State::Handshaking { deadline_ns, .. } => {
                deadline_ns <= now.monotonic_ns
            }
            _ => self.outstanding.iter().any(|o| o.deadline_ns <= now.monotonic_ns),
        }
    }

    /// Forget queued requests whose time is over. Returns their kinds.
    fn take_expired(&mut self, now: Now) -> Vec<RequestKind> {
        let (expired, queued) =
            std::mem::take(&mut self.queued).into_iter().partition(|q| q.deadline_ns <= now.monotonic_ns);
        self.queued = queued;
        let expired: Vec<Queued> = expired;
        expired.iter().map(|q| kind_of(&q.request)).collect()
    }

    /// Forget everything that was asked. Returns the kinds.
    fn clear(&mut self) -> Vec<RequestKind> {
        let queued = self.queued.drain(..).map(|q| kind_of(&q.request));
        queued.chain(self.outstanding.drain(..).map(|o| o.kind)).collect()
    }

    fn deadline(&self) -> Option<u64> {
        let by_state = match self.state {
            State::Connecting { deadline_ns } | State::Handshaking { deadline_ns, .. } => Some(deadline_ns),
            State::Idle { retry_at_ns } if !self.queued.is_empty() => Some(retry_at_ns),
            _ => None,
        };
        let queued = self.queued.iter().map(|q| q.deadline_ns);
        queued.chain(self.outstanding.iter().map(|o| o.deadline_ns)).chain(by_state).min()
    }
}

fn kind_of(request: &raft::Request) -> RequestKind {
    match request {
        raft::Request::Vote(_) => RequestKind::Vote,
        raft::Request::BeginQuorumEpoch(_) => RequestKind::BeginQuorumEpoch,
        raft::Request::EndQuorumEpoch(_) => RequestKind::EndQuorumEpoch,
        raft::Request::Fetch(_) => RequestKind::Fetch,
        raft::Request::AskEpoch(_) => RequestKind::AskEpoch,
    }
}

/// Kafka before 4.0 has Vote 1, which cannot say that a vote is only a pre-vote (KIP-996). Such a voter cannot deny one
/// either: Raft hears the error that Kafka's own client makes up here, and goes on to the election.
fn unsaid_pre_vote(versions: &PeerVersions, request: &raft::Request) -> Option<raft::Response> {
    let raft::Request::Vote(vote) = request else { return None };
    (vote.pre_vote && versions.vote.is_some()).then_some(raft::Response::Vote(raft::VoteResponse {
        error: ErrorCode::UNSUPPORTED_VERSION,
        leader: None,
        epoch: vote.epoch,
        granted: false,
        memory: raft::VoterMemory::Unsaid,
        start: None,
    }))
}

fn lane_of(kind: RequestKind) -> Lane {
    if kind == RequestKind::Fetch { Lane::Fetch } else { Lane::Control }
}

fn check_correlation(frame: &[u8], expected: i32) -> Result<(), String> {
    match quorum::response_correlation_id(frame) {
        Some(id) if id == expected => Ok(()),
        Some(id) => Err(format!("it answered request {id} where {expected} is due")),
        None => Err("its answer is shorter than a header".to_string()),
    }
}

#[cfg(test)]
mod tests;
