//! Requests for many things: decoded and checked, and put off until they can be answered one in a turn.
//!
//! Voters and producers have their turn before the next, and most of the core's time. A session takes nothing behind such a request before it is answered, so
//! a connection has one at most. What all that wait take in memory is bounded here: their frames may be small and their decoded
//! form many times larger. Each kind has a line of its own, the kinds are served in turn, and where there is no room it is the kind
//! with the most that loses its largest: who crowds with one kind sends away nobody who asks for another.

use super::admit::HeavyRequest;
use super::room::gauges::Bounded;
use super::{Action, ConnectionId, Replica, Ticket};
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};

/// Decoded bytes of all that wait. One alone may have more.
const WAITING_BYTES_MAX: usize = 20 << 20;

/// What building, encoding and sending an answer takes, for a byte that its request has in memory.
const ANSWER_NS_PER_KIB: u64 = 500;
/// Of a core's time they have one part in so many: a turn with one takes milliseconds, and hardly any of the others' turns shall.
const PARTS: u64 = 32;

struct PutOff {
    ticket: Ticket,
    is_forwarded: bool,
    request: HeavyRequest,
}

/// All of one kind that wait.
struct Line {
    api_key: i16,
    /// In the order in which they came.
    waiting: VecDeque<PutOff>,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Heavy {
    /// None is empty. The first is served next.
    lines: VecDeque<Line>,
    /// The kind in whose line a connection stands: in one at most.
    kinds: BTreeMap<ConnectionId, i16>,
    bytes: usize,
    /// The next one is not answered before.
    due_ns: u64,
}

impl Heavy {
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// When the next one is to be answered.
    pub fn deadline(&self) -> Option<u64> {
        (!self.kinds.is_empty()).then_some(self.due_ns)
    }

    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    pub fn bytes(&self) -> Bounded {
        Bounded { taken: self.bytes, max: WAITING_BYTES_MAX }
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        let Some(api_key) = self.kinds.get(&connection) else { return };
        let line = self.lines.iter().position(|line| line.api_key == *api_key);
        let place = line.and_then(|line| {
            let mut waiting = self.lines[line].waiting.iter();
            Some((line, waiting.position(|put_off| put_off.ticket.connection == connection)?))
        });
        if let Some((line, place)) = place {
            self.take(line, place);
        }
    }

    /// Gives those for whom there is no room: the new one itself, it may be.
    fn push(&mut self, put_off: PutOff) -> Vec<PutOff> {
        let (connection, api_key) = (put_off.ticket.connection, put_off.request.api_key);
        let line = self.lines.iter().position(|line| line.api_key == api_key).unwrap_or_else(|| {
            self.lines.push_back(Line { api_key, waiting: VecDeque::new(), bytes: 0 });
            self.lines.len() - 1
        });
        self.bytes += put_off.request.bytes;
        self.lines[line].bytes += put_off.request.bytes;
        self.lines[line].waiting.push_back(put_off);
        let before = self.kinds.insert(connection, api_key);
        debug_assert!(before.is_none(), "a session takes nothing behind a request that is put off");
        let mut sent_away = Vec::new();
        while self.bytes > WAITING_BYTES_MAX
            && self.kinds.len() > 1
            && let Some((line, place)) = self.largest()
        {
            sent_away.extend(self.take(line, place));
        }
        sent_away
    }

    /// Of the kind that has the most; the newest of several.
    fn largest(&self) -> Option<(usize, usize)> {
        let (line, most) = self.lines.iter().enumerate().max_by_key(|(_, line)| line.bytes)?;
        let (place, _) = most.waiting.iter().enumerate().max_by_key(|(_, put_off)| put_off.request.bytes)?;
        Some((line, place))
    }

    fn take(&mut self, line: usize, place: usize) -> Option<PutOff> {
        let of_kind = self.lines.get_mut(line)?;
        let put_off = of_kind.waiting.remove(place)?;
        of_kind.bytes -= put_off.request.bytes;
        if of_kind.waiting.is_empty() {
            self.lines.remove(line);
        }
        self.bytes -= put_off.request.bytes;
        self.kinds.remove(&put_off.ticket.connection);
        Some(put_off)
    }

    /// The next one, if it is time.
    fn pop(&mut self, now_ns: u64) -> Option<PutOff> {
        if now_ns < self.due_ns {
            return None;
        }
        let lines = self.lines.len();
        let put_off = self.take(0, 0)?;
        if self.lines.len() == lines {
            self.lines.rotate_left(1);
        }
        let answer_ns = put_off.request.bytes as u64 * ANSWER_NS_PER_KIB / 1024;
        self.due_ns = now_ns.saturating_add((PARTS - 1) * answer_ns);
        Some(put_off)
    }
}

impl Replica {
    pub(super) fn put_off(&mut self, ticket: Ticket, is_forwarded: bool, request: HeavyRequest) {
        for sent_away in self.heavy.push(PutOff { ticket, is_forwarded, request }) {
            let connection = sent_away.ticket.connection;
            let why = "it asks for many things at once, and so do too many others.".to_string();
            self.actions.push_back(Action::Close { connection, why, if_silent_ms: None });
        }
    }

    /// One of them, as if it had just come.
    pub(super) fn answer_heavy(&mut self, now: Now) {
        if let Some(PutOff { ticket, is_forwarded, request }) = self.heavy.pop(now.monotonic_ns) {
            self.on_request(now, ticket, is_forwarded, *request.request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::protocol::api_versions::key::{FETCH, METADATA, PRODUCE};
    use crate::replica::admit::Admitted;

    const MIB: usize = 1 << 20;

    fn put_off(connection: u64, api_key: i16, bytes: usize) -> PutOff {
        let connection = ConnectionId(connection);
        let ticket = Ticket { connection, seq: 0, api_version: 0, received_ns: 0, decoded_ns: 0 };
        let request = Box::new(Admitted::Other(Request::ApiVersionsUnsupported));
        PutOff { ticket, is_forwarded: false, request: HeavyRequest { request, api_key, bytes } }
    }

    fn connections(put_off: impl IntoIterator<Item = PutOff>) -> Vec<u64> {
        put_off.into_iter().map(|put_off| put_off.ticket.connection.0).collect()
    }

    impl Heavy {
        /// Those that are sent away for it.
        fn ask(&mut self, connection: u64, api_key: i16, bytes: usize) -> Vec<u64> {
            connections(self.push(put_off(connection, api_key, bytes)))
        }
    }

    #[test]
    fn those_that_wait_have_a_bound_together_and_one_alone_has_none() {
        let mut heavy = Heavy::default();
        assert_eq!(heavy.ask(1, METADATA, WAITING_BYTES_MAX + 1), [0; 0]);
        assert!(heavy.pop(u64::MAX).is_some() && heavy.is_empty());
        assert_eq!(heavy.ask(3, METADATA, WAITING_BYTES_MAX - 1), [0; 0]);
        assert_eq!(heavy.ask(4, METADATA, 1), [0; 0]);
        assert_eq!((heavy.len(), heavy.bytes().taken), (2, WAITING_BYTES_MAX));
        heavy.forget(ConnectionId(3));
        assert_eq!(heavy.ask(6, METADATA, WAITING_BYTES_MAX - 1), [0; 0], "who has left makes room");
        assert_eq!(connections(heavy.pop(u64::MAX)), [4]);
        assert_eq!(connections(heavy.pop(u64::MAX)), [6]);
        assert_eq!((heavy.pop(u64::MAX).is_some(), heavy.bytes, heavy.lines.len()), (false, 0, 0));
    }

    #[test]
    fn a_crowd_of_one_kind_sends_away_nobody_who_asks_for_another() {
        let mut heavy = Heavy::default();
        for connection in 0..19 {
            assert_eq!(heavy.ask(connection, FETCH, MIB), [0; 0]);
        }
        assert_eq!(heavy.ask(19, FETCH, 512 << 10), [0; 0]);
        assert_eq!(heavy.ask(20, FETCH, MIB), [20], "of those that take the same the newest");
        assert_eq!(heavy.ask(21, METADATA, 4 * MIB), [18, 17, 16, 15]);
        assert_eq!(heavy.ask(22, FETCH, MIB), [22], "and the crowd gets nothing back for it");
        assert_eq!(heavy.ask(23, PRODUCE, 5 * MIB), [14, 13, 12, 11, 10]);
        // They are served in turn too: nobody waits for a crowd of another kind.
        let mut order = Vec::new();
        while let Some(put_off) = heavy.pop(u64::MAX) {
            order.push(put_off.ticket.connection.0);
        }
        assert_eq!(order, [0, 21, 23, 1, 2, 3, 4, 5, 6, 7, 8, 9, 19]);
    }

    #[test]
    fn one_connection_does_not_keep_all_others_away() {
        let mut heavy = Heavy::default();
        for api_key in [FETCH, METADATA] {
            assert_eq!(heavy.ask(1, FETCH, WAITING_BYTES_MAX), [0; 0]);
            assert_eq!(heavy.ask(2, api_key, 32 << 10), [1]);
            assert_eq!((heavy.len(), heavy.bytes().taken), (1, 32 << 10));
            heavy.forget(ConnectionId(2));
        }
    }

    #[test]
    fn most_of_the_time_is_the_others() {
        let mut heavy = Heavy::default();
        let (bytes, each_ns) = (8 * MIB, 4_096_000);
        assert!(heavy.ask(1, METADATA, bytes).is_empty() && heavy.ask(2, METADATA, bytes).is_empty());
        assert_eq!(heavy.deadline(), Some(0), "the first one at once");
        assert!(heavy.pop(7).is_some() && heavy.pop(8).is_none());
        let next_ns = 7 + (PARTS - 1) * each_ns;
        assert_eq!(heavy.deadline(), Some(next_ns));
        assert!(heavy.pop(next_ns - 1).is_none() && heavy.pop(next_ns).is_some());
        assert_eq!(heavy.deadline(), None);
    }
}
