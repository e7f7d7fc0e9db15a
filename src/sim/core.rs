//! A node's core as its clients meet it: places, rounds and turns, memory for large requests, and two lanes to the replica.
//!
//! It is to `replica::room` what `server::network_core`, `server::doors` and `server::inputs` are, in the same order, on
//! simulated sockets. Whatever a client asks for costs time, so that the time of a core can run out: a turn of the node is
//! as long as what it did, and the next one comes after it.

use super::lies::Lie;
use super::network::{End, Host, WireId};
use super::{FIRST_CLIENT, Simulation};

use crate::config::Config;
use crate::protocol::{FrameError, Request, Response};
use crate::replica::admit::Admitted;
use crate::replica::inspection::Patience;
use crate::replica::room::answers::{Share, Unsent};
use crate::replica::room::frames::{Frames, Hold, SMALL_FRAME_BYTES, Until};
use crate::replica::room::limits::{CoreRoom, place_limits};
use crate::replica::room::places::{Activity, KNOWN_ANSWERS, KNOWN_SILENCE_NS_MAX, PlaceId, Places, Shown};
use crate::replica::room::turns::{NEWCOMER_STEPS, Room, RoundLimits, Turn, Turns};
use crate::replica::session::{Arrived, Session, SessionLimits, VOTER_REQUESTS_MAX};
use crate::replica::*;
use crate::types::*;
use bytes::{Bytes, BytesMut};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

mod serving;
mod steps;

/// Sent and not yet at the client: what the kernel of a node keeps for a connection.
const SOCKET_SEND_BYTES: usize = 64 * 1024;
/// Who has sent half a request is looked for this often.
const STALL_LOOK_NS: u64 = 100 * NS_PER_MS;

/// What a connection has shown itself to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Known {
    Nothing,
    Client,
    Peer,
    /// It holds a voter's place.
    Voter,
}

/// What comes next on a connection, if nothing is in the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Requests,
    Memory,
    Read,
}

/// An inbound connection.
pub(super) struct Served {
    pub(super) session: Session,
    pub(super) host: Host,
    /// A Produce has come on it.
    pub(super) produces: bool,
    known: Known,
    stage: Stage,
    turn: Turn,
    /// Before the clients, as long as nobody knows what it is.
    steps_left: u8,
    is_stepping: bool,
    hold: Hold,
    unsent: Unsent,
    place: PlaceId,
    activity: Arc<Activity>,
    received_ns: u64,
    is_runnable: bool,
    is_held_back: bool,
    /// The other side has closed it.
    has_left: bool,
    /// The socket's buffers: what has come and was not read, what was not taken by the kernel, what is on its way.
    unread: BytesMut,
    outbox: VecDeque<Bytes>,
    on_way_bytes: usize,
    /// Large requests whose bytes are held: until when, and how many.
    large: BTreeMap<u64, (Until, usize)>,
    /// Round trips that it has had as a voter's.
    answers: u64,
    /// Under way when it showed itself to be a voter's, and not answered since.
    requests_before: usize,
    /// The round in which it came to stand in a line, and after how many it is let in at most.
    stood: Option<(u64, usize)>,
}

impl Served {
    pub(super) fn is_voter(&self) -> bool {
        self.known == Known::Voter
    }

    /// Under way above what a voter's connection may have, but for what it had asked for before it showed itself to be one.
    pub(super) fn requests_over(&self) -> usize {
        let most = self.requests_before.max(VOTER_REQUESTS_MAX);
        self.session.requests_under_way().saturating_sub(most)
    }

    /// Of large requests, or of many small ones that wait: read, or taken and not answered.
    pub(super) fn held_bytes(&self) -> usize {
        let buffered = Some(self.session.buffered_bytes()).filter(|bytes| *bytes > SMALL_FRAME_BYTES);
        self.large.values().map(|(_, bytes)| bytes).sum::<usize>() + buffered.unwrap_or(0)
    }

    /// It has not shown what it is, and may be a voter's.
    fn is_newcomer(&self) -> bool {
        self.known == Known::Nothing && self.steps_left > 0
    }

    /// What its session has encoded and not sent is counted for it, and for all.
    fn change_unsent<T>(
        &mut self,
        share: &Share,
        now: Now,
        from_device: usize,
        change: impl FnOnce(&mut Session) -> T,
    ) -> T {
        let before = self.session.output_bytes();
        let result = change(&mut self.session);
        let after = self.session.output_bytes();
        if after < before {
            let from_device = self.unsent.take(before - after, now.monotonic_ns);
            share.take_back(before - after, from_device);
        } else if after > before {
            let from_device = from_device.min(after - before);
            self.unsent.push(after - before, from_device, now.monotonic_ns);
            share.add(after - before, from_device);
        }
        result
    }

    /// Answers that wait for the client.
    pub(super) fn unsent_bytes(&self) -> usize {
        self.session.output_bytes()
    }
}

/// On its way to the replica.
enum Handed {
    Request { wire: WireId, arrived: Box<Arrived>, is_first_produce: bool, cost_ns: u64 },
    Closed(WireId),
}

/// What clients have of one node. As new with each process.
pub(super) struct Core {
    places: Places,
    turns: Turns,
    frames: Frames,
    /// What clients have not taken of their answers, and voters.
    pub(super) answers: Arc<Share>,
    voters_answers: Arc<Share>,
    seats: BTreeMap<PlaceId, WireId>,
    runnable: VecDeque<WireId>,
    voters: VecDeque<Handed>,
    clients: VecDeque<Handed>,
    /// Requests among them: ends of connections take nobody's room.
    queued: usize,
    queued_max: usize,
    /// What those cost that are put off.
    heavy_ns: BTreeMap<(WireId, u64), u64>,
    held_back: Vec<WireId>,
    answered: Vec<WireId>,
    is_full: bool,
    round: RoundLimits,
    /// Times as slow as a fast core.
    slowness: u64,
    /// Since the round began: by all, and what clients have read.
    spent_ns: u64,
    read_bytes: usize,
    /// Rounds so far that began with room.
    rounds: u64,
    /// The sockets run: only then somebody is let in.
    is_in_round: bool,
    stall_look_ns: u64,
}

impl Core {
    pub(super) fn new(config: &Config, shape: CoreShape) -> Core {
        let others = config.voters.iter().map(|voter| voter.id).filter(|id| *id != config.node_id);
        let CoreRoom { round, frames, answers, voters_answers, .. } = CoreRoom::of(config, 1);
        Core {
            places: Places::new(place_limits(&config.limits), others),
            turns: Turns::new(round),
            frames: Frames::new(frames),
            answers,
            voters_answers,
            seats: BTreeMap::new(),
            runnable: VecDeque::new(),
            voters: VecDeque::new(),
            clients: VecDeque::new(),
            queued: 0,
            heavy_ns: BTreeMap::new(),
            queued_max: shape.lane,
            held_back: Vec::new(),
            answered: Vec::new(),
            is_full: false,
            round,
            slowness: shape.slowness,
            spent_ns: 0,
            read_bytes: 0,
            rounds: 0,
            is_in_round: false,
            stall_look_ns: 0,
        }
    }

    /// Client requests that may still be queued.
    fn room(&self) -> Room {
        // What they take in memory is not simulated: none of them waits for that.
        let requests = self.turns.requests_max(self.queued_max).saturating_sub(self.queued);
        Room { requests, is_for_cheap: false }
    }

    pub(super) fn queued(&self) -> usize {
        self.queued
    }

    pub(super) fn queued_max(&self) -> usize {
        self.queued_max
    }

    fn spend(&mut self, ns: u64) {
        self.spent_ns += ns * self.slowness;
    }

    /// Somebody can go on without anything new from outside.
    pub(super) fn has_more(&self, takes_clients: bool) -> bool {
        let has_line = self.turns.has_line(self.room());
        let has_input = !self.voters.is_empty() || takes_clients && !self.clients.is_empty();
        !self.runnable.is_empty() || has_input || has_line
    }

    fn share_of(&self, served: &Served) -> Arc<Share> {
        if served.is_voter() { self.voters_answers.clone() } else { self.answers.clone() }
    }

    /// How long the core has been at work since the round began.
    pub(super) fn spent_ns(&self) -> u64 {
        self.spent_ns
    }

    /// While the replica is full, producers are not read.
    fn holds_back(&self, served: &Served) -> bool {
        self.is_full && served.produces && !served.is_voter()
    }

    /// Where it stands, since when.
    fn place_of(&self, served: &Served) -> Option<(u64, usize)> {
        let at_most = self.turns.rounds_at_most(&served.turn)?;
        Some(served.stood.unwrap_or((self.rounds, at_most)))
    }

    fn is_round_over(&self) -> bool {
        self.spent_ns >= self.turns.round_ns() || self.read_bytes >= self.round.bytes_max
    }
}

/// What is no limit of the configuration.
#[derive(Clone, Copy, Debug)]
pub(super) struct CoreShape {
    /// Client requests that wait for the replica at most.
    pub(super) lane: usize,
    pub(super) slowness: u64,
}
