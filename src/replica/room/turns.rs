//! Turns of a core's clients: how much its sockets may do between two turns of the replica, and who goes next.
//!
//! A round begins when the core lets its sockets run. Until it has taken `bytes_max` or lasted `ns_max`, and while nobody
//! stands in a line, everybody goes at once. Whoever finds it over, or others waiting, stands in the line of those who cost as
//! much (`lines`); the first of the lines are let through, each for a stint. A stint ends with so many requests or bytes or so
//! much work, and who wants more stands at the end again: those just answered do not pass those who wait. The room that a
//! stint may need is kept for it: who needs no line does not take it away. Voters never ask.
//!
//! Who finds its own line empty has a stint at once, as long as that line has not had its part of the round: a crowd that asks
//! for much keeps nobody waiting who asks for little. While there are both (`mixture`), rounds are short and few requests are handed
//! on at once: what comes in the middle of one waits for its end, and a record on its way to its followers and back does so two or
//! three times.
//!
//! Who has not shown what it is may be a voter that connects again: it stands in a line of its own for its first few steps,
//! of which each round takes some before it serves the others. Where clients wait too, no more than half of the room is theirs.
//!
//! So whoever stands in a line goes before all who came to it later, and of so many rounds that begin with room (one that is
//! not promised) at least one lets in the first of each line ([`Turns::rounds_at_most`]).

use super::lines::{self, Cost, LINES, Lines, Ticket};
use super::mixture::{Depth, Mixture};
use crate::replica::connection_id::ConnectionId;
use crate::replica::cost::{self, Announced};
use std::collections::VecDeque;

/// Requests of one stint.
const STINT_REQUESTS: usize = 16;
/// Bytes of one stint; one read may go beyond it.
const STINT_BYTES: usize = 256 * 1024;
/// Work of one stint, as `replica::cost` estimates it; one request may go beyond it.
const STINT_NS: u64 = 100_000;

/// What a connection may do in the line of newcomers, each a read or a request: to ask for the versions and to show what it is
/// takes six.
pub(crate) const NEWCOMER_STEPS: u8 = 8;
/// A newcomer reads no more than this at once.
const NEWCOMER_READ_BYTES: usize = 4 * 1024;
/// Steps of newcomers in a round, beside what it does for the others.
const NEWCOMERS_PER_ROUND: usize = 128;
/// No core is taken to be slower than this.
const SLOWNESS_MAX: u64 = 64;
/// While some want much beside others that do not, a round is one of so many parts of what it may be.
const MIXED_ROUND_PART: u64 = 4;
/// And of so many for who asks for much at once, as long as the others have had less.
const MIXED_ROUND_PART_DEAR: u64 = 16;
/// So much is read then at once: memory that the kernel has to clear takes 2 to 5 us for each KiB of it.
const MIXED_READ_BYTES: usize = 32 * 1024;
/// And so many requests of a core wait for the replica at most.
const MIXED_REQUESTS: usize = 64;
/// Where newcomers and clients wait, one room in so many is for a client.
const ROUNDS_FOR_CLIENTS: usize = 2;

/// Requests that may go to the replica now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Room {
    pub(crate) requests: usize,
    /// None for those that cost more than the first line takes: so much waits of requests for many things.
    pub(crate) is_for_cheap: bool,
}

impl Room {
    /// The lines of which somebody may go.
    fn lines(self) -> usize {
        if self.is_for_cheap { 1 } else { LINES }
    }

    fn of(self, ticket: Ticket) -> usize {
        if ticket.line < self.lines() { self.requests } else { 0 }
    }
}

/// How long a round of a core may be, for its clients together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RoundLimits {
    pub(crate) bytes_max: usize,
    pub(crate) ns_max: u64,
}

/// Of one connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Turn {
    state: State,
    cost: Cost,
    depth: Depth,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// It goes as long as the round lasts.
    #[default]
    Free,
    InLine(Ticket),
    Stint {
        requests_left: usize,
        bytes_left: usize,
        ticket: Ticket,
    },
    /// In the newcomers' line.
    NewInLine,
    /// One step of a newcomer.
    Step,
}

impl Turn {
    /// It neither waits nor was let in.
    pub(crate) fn is_free(&self) -> bool {
        self.state == State::Free
    }

    pub(crate) fn is_stint(&self) -> bool {
        matches!(self.state, State::Stint { .. })
    }

    /// An answer of so many bytes goes to this connection.
    pub(crate) fn answered(&mut self, bytes: usize) {
        self.cost.answered(bytes);
    }
}

/// The rounds of one core and the lines before it.
#[derive(Debug)]
pub(crate) struct Turns {
    limits: RoundLimits,
    bytes_left: usize,
    begun_ns: u64,
    /// Of this round, and for those who ask for much at once.
    length_ns: u64,
    length_dear_ns: u64,
    is_mixed: bool,
    now_ns: u64,
    mixture: Mixture,
    lines: Lines,
    stints: usize,
    /// What the stints under way are expected to cost.
    stints_ns: u64,
    /// What clients have cost in this round, as estimated.
    spent_ns: u64,
    /// This core takes so many times as long as is estimated.
    slowness: u64,
    newcomers: VecDeque<ConnectionId>,
    newcomers_in_line: usize,
    newcomers_left: usize,
    /// Room that cannot be halved is theirs this time.
    is_odd_for_newcomers: bool,
    /// Granted to newcomers and not taken yet.
    steps: usize,
}

impl Turns {
    pub(crate) fn new(limits: RoundLimits) -> Turns {
        Turns {
            limits,
            bytes_left: limits.bytes_max,
            begun_ns: 0,
            length_ns: u64::MAX,
            length_dear_ns: u64::MAX,
            is_mixed: false,
            now_ns: 0,
            mixture: Mixture::default(),
            lines: Lines::default(),
            stints: 0,
            stints_ns: 0,
            spent_ns: 0,
            slowness: 1,
            newcomers: VecDeque::new(),
            newcomers_in_line: 0,
            newcomers_left: NEWCOMERS_PER_ROUND,
            is_odd_for_newcomers: true,
            steps: 0,
        }
    }

    /// Before a round: are all alike now? `requests_max` rests on it, and by that the room with which the round begins.
    pub(crate) fn look_around(&mut self, now_ns: u64) {
        self.is_mixed = self.mixture.is_mixed(now_ns);
    }

    /// The core is about to let its sockets run, with `room` for so many requests of all.
    pub(crate) fn begin_round(&mut self, now_ns: u64, room: Room) {
        self.note_slowness();
        (self.now_ns, self.begun_ns) = (now_ns, now_ns);
        let parts = if self.is_mixed { [MIXED_ROUND_PART, MIXED_ROUND_PART_DEAR] } else { [1; 2] };
        [self.length_ns, self.length_dear_ns] = parts.map(|part| self.limits.ns_max / part);
        self.bytes_left = self.limits.bytes_max;
        self.newcomers_left = NEWCOMERS_PER_ROUND;
        self.lines.begin_round();
        let room = room.requests.saturating_sub(self.promised());
        if self.lines.waiting() > 0 && room > 0 {
            let half = (room + usize::from(self.is_odd_for_newcomers)) / ROUNDS_FOR_CLIENTS;
            self.newcomers_left = half.min(NEWCOMERS_PER_ROUND);
            self.is_odd_for_newcomers = !self.is_odd_for_newcomers;
        }
    }

    /// How long the round that is over took, and how long it should have. Once it was interrupted it is believed to be slow for a
    /// while: fewer stints are let in at once.
    fn note_slowness(&mut self) {
        let spent_ns = std::mem::take(&mut self.spent_ns);
        if spent_ns >= STINT_NS {
            let measured = self.now_ns.saturating_sub(self.begun_ns) / spent_ns;
            self.slowness = measured.max(self.slowness - 1).clamp(1, SLOWNESS_MAX);
        }
    }

    /// For this line.
    fn end_ns(&self, line: usize) -> u64 {
        let has_whole_round = line == 0 || self.lines.used_ns(line) < self.lines.used_ns(0);
        self.begun_ns.saturating_add(if has_whole_round { self.length_ns } else { self.length_dear_ns })
    }

    /// May this newcomer take a step? If not it stands in the newcomers' line now.
    pub(crate) fn may_step(&mut self, id: ConnectionId, turn: &mut Turn, room: Room) -> bool {
        let room = room.requests;
        match turn.state {
            State::InLine(_) | State::NewInLine => return false,
            State::Step => {
                self.end_step(turn);
                if room == 0 {
                    turn.state = State::NewInLine;
                    self.newcomers.push_front(id);
                    self.newcomers_in_line += 1;
                }
                return room > 0;
            }
            State::Stint { .. } => self.end_stint(turn),
            State::Free => {}
        }
        if room > self.promised() && self.may_newcomers_go() && self.newcomers.is_empty() {
            self.newcomers_left -= 1;
            return true;
        }
        turn.state = State::NewInLine;
        self.newcomers.push_back(id);
        self.newcomers_in_line += 1;
        false
    }

    /// May this connection go on, with `room` for so many requests? If not it stands in a line now. `next`: what comes next on
    /// it, as far as is known.
    pub(crate) fn may_go(
        &mut self,
        id: ConnectionId,
        turn: &mut Turn,
        room: Room,
        next: Option<Announced>,
    ) -> bool {
        if let State::InLine(_) | State::NewInLine = turn.state {
            return false;
        }
        let ticket = self.lines.draw(&turn.cost, next);
        if ticket.line > 0 {
            self.mixture.saw_dear(self.now_ns);
        }
        let room = room.of(ticket);
        match turn.state {
            State::Stint { requests_left, bytes_left, ticket: current } if ticket.line <= current.line => {
                let is_left = requests_left > 0 && bytes_left > 0 && turn.cost.spent_ns < STINT_NS;
                // The last one let in has less room than a stint may need: it leaves the newcomers what was promised to them.
                if is_left && room > self.steps {
                    return true;
                }
                self.end_stint(turn);
                if (requests_left, bytes_left) == (STINT_REQUESTS, STINT_BYTES) {
                    // It has not had what it was let in for: nobody is before it.
                    turn.state = State::InLine(current);
                    self.lines.stand(id, current);
                    return false;
                }
            }
            State::Stint { .. } => self.end_stint(turn),
            State::Step => self.end_step(turn),
            State::Free | State::InLine(_) | State::NewInLine => {}
        }
        if room > self.promised() && !self.is_over(ticket.line) {
            if self.lines.waiting() == 0 && self.is_time(ticket.line) {
                return true;
            }
            if self.has_part_left(ticket) {
                self.lines.charge(ticket);
                self.begin_stint(turn, ticket);
                return true;
            }
        }
        turn.state = State::InLine(ticket);
        self.lines.stand(id, ticket);
        false
    }

    /// Nobody of this line waits, and it may still have its part of the round, while others wait in theirs.
    fn has_part_left(&self, ticket: Ticket) -> bool {
        let part_ns = self.length_ns / LINES as u64;
        self.lines.waiting_in(ticket.line) == 0 && self.lines.used_ns(ticket.line) < part_ns
    }

    /// A voter has read, or taken a request. It is not counted, but it takes time.
    pub(crate) fn voter_went(&mut self, now_ns: u64) {
        self.now_ns = now_ns;
        self.mixture.saw_cheap(now_ns);
    }

    /// How long this round is for those who ask for little.
    pub(crate) fn round_ns(&self) -> u64 {
        self.length_ns
    }

    /// How many requests of this core may wait for the replica in this round, where so many may lie there.
    pub(crate) fn requests_max(&self, requests: usize) -> usize {
        if self.is_mixed { requests.min(MIXED_REQUESTS) } else { requests }
    }

    /// How much of a client may be read at once, now that it may go.
    pub(crate) fn read_bytes_max(&self, is_newcomer: bool) -> usize {
        match is_newcomer {
            true => NEWCOMER_READ_BYTES,
            false if self.is_mixed => MIXED_READ_BYTES,
            false => usize::MAX,
        }
    }

    /// It has read so many bytes.
    pub(crate) fn took_bytes(&mut self, turn: &mut Turn, bytes: usize, now_ns: u64) {
        self.now_ns = now_ns;
        self.bytes_left = self.bytes_left.saturating_sub(bytes);
        turn.cost.read(bytes);
        self.spent_ns += cost::read_ns(bytes);
        if let State::Stint { bytes_left, .. } = &mut turn.state {
            *bytes_left = bytes_left.saturating_sub(bytes);
        }
    }

    /// With the request that it takes now it has so many under way.
    pub(crate) fn has_under_way(&mut self, turn: &mut Turn, requests: usize, now_ns: u64) {
        self.mixture.saw_depth(&mut turn.depth, requests, now_ns);
    }

    /// It has taken this request, which has cost so much.
    pub(crate) fn took_request(&mut self, turn: &mut Turn, request: Announced, cost_ns: u64, now_ns: u64) {
        self.now_ns = now_ns;
        turn.cost.took(request, cost_ns);
        self.spent_ns += cost_ns;
        if lines::line_for(cost_ns) == 0 {
            self.mixture.saw_cheap(now_ns);
        }
        if let State::Stint { requests_left, .. } = &mut turn.state {
            *requests_left = requests_left.saturating_sub(1);
        }
    }

    /// It has nothing more to do now. Who stands in a line stays there, whatever else it waits for meanwhile: it has one
    /// place, and not one more each time that it comes back.
    pub(crate) fn rest(&mut self, turn: &mut Turn) {
        match turn.state {
            State::Stint { .. } => self.end_stint(turn),
            State::Step => self.end_step(turn),
            State::Free => {
                turn.cost.settle();
            }
            State::InLine(_) | State::NewInLine => {}
        }
    }

    /// It is gone. Its name stays in the line, and is passed over.
    pub(crate) fn leave(&mut self, turn: &mut Turn) {
        match turn.state {
            State::InLine(ticket) => self.lines.leave(ticket),
            State::NewInLine => {
                self.newcomers_in_line -= 1;
                if self.newcomers_in_line == 0 {
                    self.newcomers.clear();
                }
            }
            State::Stint { .. } | State::Step | State::Free => self.rest(turn),
        }
        turn.state = State::Free;
    }

    fn begin_stint(&mut self, turn: &mut Turn, ticket: Ticket) {
        self.stints += 1;
        self.stints_ns += ticket.ns;
        // What it had while nobody waited, and answers since.
        self.lines.charge_before(ticket, turn.cost.settle());
        turn.state = State::Stint { requests_left: STINT_REQUESTS, bytes_left: STINT_BYTES, ticket };
    }

    fn end_stint(&mut self, turn: &mut Turn) {
        if let State::Stint { ticket, .. } = turn.state {
            self.stints -= 1;
            self.stints_ns -= ticket.ns;
            self.lines.correct(ticket, turn.cost.settle());
        }
        turn.state = State::Free;
    }

    fn end_step(&mut self, turn: &mut Turn) {
        turn.state = State::Free;
        self.steps -= 1;
    }

    /// What those let in may still need is not there for others.
    fn promised(&self) -> usize {
        self.stints * STINT_REQUESTS + self.steps
    }

    fn may_newcomers_go(&self) -> bool {
        self.newcomers_left > 0 && self.now_ns < self.end_ns(0).saturating_add(self.length_ns / 2)
    }

    /// The next of the lines whose turn it is, with `room` for so many requests of all. It gets a stint with `let_in`. Asked
    /// when a round begins it names one at least, where there is room.
    pub(crate) fn next(&mut self, room: Room) -> Option<ConnectionId> {
        if room.requests <= self.promised() {
            return None;
        }
        if self.may_newcomers_go()
            && let Some(newcomer) = self.newcomers.pop_front()
        {
            return Some(newcomer);
        }
        let is_open = |line| line < room.lines() && !self.is_over(line) && self.is_time(line);
        self.lines.pop(std::array::from_fn(is_open))
    }

    /// The one that `next` has named. False: it does not wait any more.
    pub(crate) fn let_in(&mut self, turn: &mut Turn) -> bool {
        match turn.state {
            State::NewInLine => {
                self.newcomers_in_line -= 1;
                self.newcomers_left -= 1;
                self.steps += 1;
                turn.state = State::Step;
                true
            }
            State::InLine(ticket) => {
                self.lines.let_in(ticket);
                self.begin_stint(turn, ticket);
                true
            }
            State::Free | State::Stint { .. } | State::Step => false,
        }
    }

    /// Somebody waits for a turn only, with `room` for so many requests.
    pub(crate) fn has_line(&self, room: Room) -> bool {
        let lines = 0..room.lines();
        let waits =
            self.newcomers_in_line > 0 || lines.into_iter().any(|line| self.lines.waiting_in(line) > 0);
        waits && room.requests > 0
    }

    /// How many wait for a turn.
    pub(crate) fn waiting(&self) -> usize {
        self.lines.waiting() + self.newcomers_in_line
    }

    /// Within how many rounds that begin with room this one is let in, if it stands in a line: others may stand in that line,
    /// and each line has its turn.
    pub(crate) fn rounds_at_most(&self, turn: &Turn) -> Option<usize> {
        match turn.state {
            State::InLine(ticket) => Some(ROUNDS_FOR_CLIENTS * LINES * self.lines.waiting_in(ticket.line)),
            State::NewInLine => Some(ROUNDS_FOR_CLIENTS * self.newcomers_in_line),
            State::Stint { .. } | State::Step | State::Free => None,
        }
    }

    /// For more than the stints under way.
    fn is_time(&self, line: usize) -> bool {
        self.stints == 0 || self.now_ns + self.slowness * self.stints_ns < self.end_ns(line)
    }

    fn is_over(&self, line: usize) -> bool {
        self.bytes_left == 0 || self.now_ns >= self.end_ns(line)
    }
}

#[cfg(test)]
#[path = "turns_tests.rs"]
mod tests;
