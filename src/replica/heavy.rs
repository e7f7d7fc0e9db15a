//! Requests for many things: decoded and checked, and put off until they can be answered one in a turn.
//!
//! Voters and producers have their turn before the next, and most of the core's time. A session takes nothing behind such a request before it is answered, so
//! a connection has one at most. What all that wait take in memory is bounded here: their frames may be small and their decoded
//! form many times larger.

use super::admit::{Admitted, HeavyRequest};
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
    request: Admitted,
    bytes: usize,
}

#[derive(Default)]
pub(super) struct Heavy {
    /// By connection, each of which has one at most.
    waiting: BTreeMap<ConnectionId, PutOff>,
    /// In the order in which they came, and those that have left meanwhile.
    line: VecDeque<ConnectionId>,
    bytes: usize,
    /// The next one is not answered before.
    due_ns: u64,
}

impl Heavy {
    #[cfg(test)]
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// When the next one is to be answered.
    pub fn deadline(&self) -> Option<u64> {
        (!self.waiting.is_empty()).then_some(self.due_ns)
    }

    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    pub fn bytes(&self) -> Bounded {
        Bounded { taken: self.bytes, max: WAITING_BYTES_MAX }
    }

    pub fn forget(&mut self, connection: ConnectionId) {
        self.bytes -= self.waiting.remove(&connection).map_or(0, |put_off| put_off.bytes);
    }

    /// False: there is no room for it.
    fn push(&mut self, put_off: PutOff) -> bool {
        let connection = put_off.ticket.connection;
        if !self.waiting.is_empty() && self.bytes + put_off.bytes > WAITING_BYTES_MAX {
            return false;
        }
        self.bytes += put_off.bytes;
        self.line.push_back(connection);
        let before = self.waiting.insert(connection, put_off);
        debug_assert!(before.is_none(), "a session takes nothing behind a request that is put off");
        true
    }

    /// The next one, if it is time.
    fn pop(&mut self, now_ns: u64) -> Option<PutOff> {
        if now_ns < self.due_ns {
            return None;
        }
        while let Some(connection) = self.line.pop_front() {
            if let Some(put_off) = self.waiting.remove(&connection) {
                self.bytes -= put_off.bytes;
                let answer_ns = put_off.bytes as u64 * ANSWER_NS_PER_KIB / 1024;
                self.due_ns = now_ns.saturating_add((PARTS - 1) * answer_ns);
                return Some(put_off);
            }
        }
        None
    }
}

impl Replica {
    pub(super) fn put_off(&mut self, ticket: Ticket, is_forwarded: bool, heavy: HeavyRequest) {
        let (connection, HeavyRequest { request, bytes }) = (ticket.connection, heavy);
        if !self.heavy.push(PutOff { ticket, is_forwarded, request: *request, bytes }) {
            let why = "it asks for many things at once, and so do too many others already.".to_string();
            self.actions.push_back(Action::Close { connection, why, if_silent_ms: None });
        }
    }

    /// One of them, as if it had just come.
    pub(super) fn answer_heavy(&mut self, now: Now) {
        if let Some(PutOff { ticket, is_forwarded, request, .. }) = self.heavy.pop(now.monotonic_ns) {
            self.on_request(now, ticket, is_forwarded, request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;

    fn put_off(connection: u64, bytes: usize) -> PutOff {
        let connection = ConnectionId(connection);
        let ticket = Ticket { connection, seq: 0, api_version: 0, received_ns: 0, decoded_ns: 0 };
        PutOff {
            ticket,
            is_forwarded: false,
            request: Admitted::Other(Request::ApiVersionsUnsupported),
            bytes,
        }
    }

    #[test]
    fn those_that_wait_have_a_bound_together_and_one_alone_has_none() {
        let mut heavy = Heavy::default();
        assert!(heavy.push(put_off(1, WAITING_BYTES_MAX + 1)));
        assert!(!heavy.push(put_off(2, 1)));
        assert!(heavy.pop(u64::MAX).is_some() && heavy.is_empty());
        assert!(heavy.push(put_off(3, WAITING_BYTES_MAX - 1)) && heavy.push(put_off(4, 1)));
        assert!(!heavy.push(put_off(5, 1)));
        assert_eq!((heavy.len(), heavy.bytes().taken), (2, WAITING_BYTES_MAX));
        heavy.forget(ConnectionId(3));
        assert!(heavy.push(put_off(6, WAITING_BYTES_MAX - 1)), "who has left makes room");
        assert!(!heavy.push(put_off(7, 1)));
        assert_eq!(
            (heavy.pop(u64::MAX).is_some(), heavy.pop(u64::MAX).is_some(), heavy.bytes),
            (true, true, 0)
        );
    }

    #[test]
    fn most_of_the_time_is_the_others() {
        let mut heavy = Heavy::default();
        let (bytes, each_ns) = (8 << 20, 4_096_000);
        assert!(heavy.push(put_off(1, bytes)) && heavy.push(put_off(2, bytes)));
        assert_eq!(heavy.deadline(), Some(0), "the first one at once");
        assert!(heavy.pop(7).is_some() && heavy.pop(8).is_none());
        let next_ns = 7 + (PARTS - 1) * each_ns;
        assert_eq!(heavy.deadline(), Some(next_ns));
        assert!(heavy.pop(next_ns - 1).is_none() && heavy.pop(next_ns).is_some());
        assert_eq!(heavy.deadline(), None);
    }
}
