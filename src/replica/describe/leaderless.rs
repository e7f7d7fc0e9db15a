//! Clients of a node that knows of no quorum: they are told to look elsewhere, and in the end have to.
//!
//! A node that is cut off answers Metadata as any other, with no leader. But a client asks the node that it is connected
//! to, and asks again and again, while the others have a leader. One that asks for a while is told to begin anew with
//! its bootstrap servers (KIP-1102, Metadata 13), one of an older version, or that does not, loses its connection.

use crate::replica::connection_id::ConnectionId;
use crate::types::*;
use std::collections::BTreeMap;

/// Fetch timeouts after which a connection that still asks is told to begin anew, and those after which it is closed. One
/// that has just been made gets the same answer as those before: its client may have begun anew already.
const REBOOTSTRAP_FETCH_TIMEOUTS: u64 = 1;
const CLOSE_FETCH_TIMEOUTS: u64 = 5;

/// Connections that have asked for Metadata while there was no quorum, with the time at which they did so first. At most
/// one for each connection that is open.
#[derive(Debug, Default)]
pub(super) struct Leaderless(BTreeMap<ConnectionId, u64>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Advice {
    Wait,
    Rebootstrap,
    Leave,
}

impl Leaderless {
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        self.0.remove(&connection);
    }

    /// `without_quorum_ms`: for so long this node has not known of one.
    pub(super) fn advice(
        &mut self,
        now: Now,
        asked: ConnectionId,
        without_quorum_ms: u64,
        fetch_timeout_ms: u64,
    ) -> Advice {
        if without_quorum_ms <= fetch_timeout_ms {
            self.0.clear();
            return Advice::Wait;
        }
        let first_ns = *self.0.entry(asked).or_insert(now.monotonic_ns);
        let asks_ms = now.monotonic_ns.saturating_sub(first_ns) / NS_PER_MS;
        match asks_ms / fetch_timeout_ms.max(1) {
            CLOSE_FETCH_TIMEOUTS.. => Advice::Leave,
            REBOOTSTRAP_FETCH_TIMEOUTS.. => Advice::Rebootstrap,
            _ => Advice::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_on_is_sent_away_step_by_step() {
        let mut leaderless = Leaderless::default();
        let at = |ms: u64| Now { monotonic_ns: ms * NS_PER_MS, wall_ms: 0 };
        let (first, second) = (ConnectionId(1), ConnectionId(2));
        assert_eq!(leaderless.advice(at(0), first, 2_000, 2_000), Advice::Wait, "an election takes a moment");
        let told = |l: &mut Leaderless, ms, who| l.advice(at(ms), who, 2_001 + ms, 2_000);
        assert_eq!(told(&mut leaderless, 1_000, first), Advice::Wait);
        assert_eq!(told(&mut leaderless, 2_999, first), Advice::Wait);
        assert_eq!(told(&mut leaderless, 3_000, first), Advice::Rebootstrap);
        assert_eq!(told(&mut leaderless, 3_000, second), Advice::Wait, "it has just come");
        assert_eq!(told(&mut leaderless, 11_000, first), Advice::Leave);
        assert_eq!(told(&mut leaderless, 11_000, second), Advice::Rebootstrap);
        leaderless.forget(first);
        assert_eq!(leaderless.0.len(), 1);
        assert_eq!(leaderless.advice(at(12_000), second, 0, 2_000), Advice::Wait);
        assert!(leaderless.0.is_empty(), "with a quorum it is all forgotten");
    }
}
