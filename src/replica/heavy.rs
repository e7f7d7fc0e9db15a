//! Requests for many things: decoded and checked, and put off until they can be answered one in a turn.
//!
//! Voters and producers have their turn before the next, and most of the core's time. A session takes nothing behind such a
//! request before it is answered, so a connection has one at most. What all that wait take in memory is bounded here: their
//! frames may be small and their decoded form many times larger. Each kind has a line of its own, and the kinds are served
//! in turn.
//!
//! Where there is no room, the kind that has the most gives way, of its sizes the one that has the most, and of that the newest. So
//! - nobody is sent away for who came later with the same kind and size: who waits will be answered;
//! - a kind that has its part of the room (as many parts as kinds wait), or a size that has a third of its kind, loses nobody: neither
//!   many small ones nor a few large ones keep out another size, and no crowd of one kind who asks for another.
//!
//! Of the same kind and size, who comes when there is no room is refused, honest or not: nothing tells them apart. Rejected: the
//! largest loses, for then a crowd of small ones sends away each large one; and counting by connection or address, of which
//! whoever wants a crowd has as many as he likes.

use super::admit::HeavyRequest;
use super::connection_id::ConnectionId;
use super::desk::Desk;
use super::input::Ticket;
use super::room::taken::Bounded;
use std::collections::{BTreeMap, VecDeque};

/// Up to so many bytes they are of one size. The largest are above.
const SIZES_UP_TO: [usize; 2] = [256 << 10, 2 << 20];
const SIZES: usize = SIZES_UP_TO.len() + 1;

/// What building, encoding and sending an answer takes, for a byte that its request has in memory.
const ANSWER_NS_PER_KIB: u64 = 500;
/// Of a core's time they have one part in so many: a turn with one takes milliseconds, and hardly any of the others' turns shall.
const PARTS: u64 = 32;

pub(super) struct PutOff {
    pub(super) ticket: Ticket,
    pub(super) is_forwarded: bool,
    pub(super) request: HeavyRequest,
}

impl PutOff {
    fn size(&self) -> usize {
        size_of(self.request.bytes)
    }
}

fn size_of(bytes: usize) -> usize {
    SIZES_UP_TO.partition_point(|up_to| bytes > *up_to)
}

/// All of one kind that wait.
struct Line {
    api_key: i16,
    /// In the order in which they came.
    waiting: VecDeque<PutOff>,
    /// Of each size.
    bytes: [usize; SIZES],
}

impl Line {
    fn bytes(&self) -> usize {
        self.bytes.iter().sum()
    }

    /// Where the newest stands of the size that has the most.
    fn gives_way(&self) -> Option<usize> {
        let (most, _) = self.bytes.iter().enumerate().max_by_key(|(_, bytes)| **bytes)?;
        self.waiting.iter().rposition(|put_off| put_off.size() == most)
    }
}

pub(super) struct Heavy {
    /// Decoded, of all that wait. One alone may have more.
    bytes_max: usize,
    /// None is empty. The first is served next.
    lines: VecDeque<Line>,
    /// The kind in whose line a connection stands: in one at most.
    kinds: BTreeMap<ConnectionId, i16>,
    bytes: usize,
    /// The next one is not answered before.
    due_ns: u64,
}

impl Heavy {
    pub(super) fn new(bytes_max: usize) -> Heavy {
        Heavy { bytes_max, lines: VecDeque::new(), kinds: BTreeMap::new(), bytes: 0, due_ns: 0 }
    }

    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// When the next one is to be answered.
    pub(super) fn deadline(&self) -> Option<u64> {
        (!self.kinds.is_empty()).then_some(self.due_ns)
    }

    pub(super) fn len(&self) -> usize {
        self.kinds.len()
    }

    pub(super) fn bytes(&self) -> Bounded {
        Bounded { taken: self.bytes, max: self.bytes_max }
    }

    pub(super) fn forget(&mut self, connection: ConnectionId) {
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

    /// Behind all of its kind; somebody else loses his place for it, where there is no room.
    pub(super) fn put_off(&mut self, desk: &mut Desk, put_off: PutOff) {
        for sent_away in self.push(put_off) {
            let why = "it asks for many things at once, and so do too many others.".to_string();
            desk.close(sent_away.ticket.connection, why);
        }
    }

    /// Gives those for whom there is no room: the new one itself, it may be.
    fn push(&mut self, put_off: PutOff) -> Vec<PutOff> {
        let (connection, api_key) = (put_off.ticket.connection, put_off.request.api_key);
        let line = self.lines.iter().position(|line| line.api_key == api_key).unwrap_or_else(|| {
            self.lines.push_back(Line { api_key, waiting: VecDeque::new(), bytes: [0; SIZES] });
            self.lines.len() - 1
        });
        self.bytes += put_off.request.bytes;
        self.lines[line].bytes[put_off.size()] += put_off.request.bytes;
        self.lines[line].waiting.push_back(put_off);
        let before = self.kinds.insert(connection, api_key);
        debug_assert!(before.is_none(), "a session takes nothing behind a request that is put off");
        let mut sent_away = Vec::new();
        while self.bytes > self.bytes_max
            && self.kinds.len() > 1
            && let Some((line, place)) = self.gives_way()
        {
            sent_away.extend(self.take(line, place));
        }
        sent_away
    }

    /// Of the kind that has the most.
    fn gives_way(&self) -> Option<(usize, usize)> {
        let (line, most) = self.lines.iter().enumerate().max_by_key(|(_, line)| line.bytes())?;
        Some((line, most.gives_way()?))
    }

    fn take(&mut self, line: usize, place: usize) -> Option<PutOff> {
        let of_kind = self.lines.get_mut(line)?;
        let put_off = of_kind.waiting.remove(place)?;
        of_kind.bytes[put_off.size()] -= put_off.request.bytes;
        if of_kind.waiting.is_empty() {
            self.lines.remove(line);
        }
        self.bytes -= put_off.request.bytes;
        self.kinds.remove(&put_off.ticket.connection);
        Some(put_off)
    }

    /// The next one, if it is time.
    pub(super) fn pop(&mut self, now_ns: u64) -> Option<PutOff> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::Request;
    use crate::protocol::api_versions::key::{FETCH, METADATA, PRODUCE};
    use crate::raft::random::Random;
    use crate::replica::admit::Admitted;

    const MIB: usize = 1 << 20;
    const MAX: usize = 20 * MIB;

    fn put_off(connection: u64, api_key: i16, bytes: usize) -> PutOff {
        let connection = ConnectionId(connection);
        let ticket = Ticket { connection, seq: 0, api_version: 0, received_ns: 0, decoded_ns: 0 };
        let request = Box::new(Admitted::Other(Request::ApiVersionsUnsupported));
        PutOff { ticket, is_forwarded: false, request: HeavyRequest { request, api_key, bytes } }
    }

    fn connections(put_off: impl IntoIterator<Item = PutOff>) -> Vec<u64> {
        put_off.into_iter().map(|put_off| put_off.ticket.connection.0).collect()
    }

    fn told(put_off: &PutOff) -> (u64, i16, usize) {
        (put_off.ticket.connection.0, put_off.request.api_key, put_off.request.bytes)
    }

    impl Heavy {
        /// Those that are sent away for it.
        fn ask(&mut self, connection: u64, api_key: i16, bytes: usize) -> Vec<u64> {
            connections(self.push(put_off(connection, api_key, bytes)))
        }

        fn all(&self) -> impl Iterator<Item = (u64, i16, usize)> {
            self.lines.iter().flat_map(|line| &line.waiting).map(told)
        }
    }

    #[test]
    fn those_that_wait_have_a_bound_together_and_one_alone_has_none() {
        let mut heavy = Heavy::new(MAX);
        assert_eq!(heavy.ask(1, METADATA, MAX + 1), [0; 0]);
        assert!(heavy.pop(u64::MAX).is_some() && heavy.is_empty());
        assert_eq!(heavy.ask(3, METADATA, MAX - 1), [0; 0]);
        assert_eq!(heavy.ask(4, METADATA, 1), [0; 0]);
        assert_eq!((heavy.len(), heavy.bytes().taken), (2, MAX));
        heavy.forget(ConnectionId(3));
        assert_eq!(heavy.ask(6, METADATA, MAX - 1), [0; 0], "who has left makes room");
        assert_eq!(connections(heavy.pop(u64::MAX)), [4]);
        assert_eq!(connections(heavy.pop(u64::MAX)), [6]);
        assert_eq!((heavy.pop(u64::MAX).is_some(), heavy.bytes, heavy.lines.len()), (false, 0, 0));
    }

    #[test]
    fn a_crowd_of_one_kind_sends_away_nobody_who_asks_for_another() {
        let mut heavy = Heavy::new(MAX);
        for connection in 0..20 {
            assert_eq!(heavy.ask(connection, FETCH, MIB), [0; 0]);
        }
        assert_eq!(heavy.ask(20, FETCH, MIB), [20], "of those that take the same the newest");
        assert_eq!(heavy.ask(21, METADATA, 4 * MIB), [19, 18, 17, 16]);
        assert_eq!(heavy.ask(22, FETCH, MIB), [22], "and the crowd gets nothing back for it");
        assert_eq!(heavy.ask(23, PRODUCE, 5 * MIB), [15, 14, 13, 12, 11]);
        // They are served in turn too: nobody waits for a crowd of another kind.
        let mut order = Vec::new();
        while let Some(put_off) = heavy.pop(u64::MAX) {
            order.push(put_off.ticket.connection.0);
        }
        assert_eq!(order, [0, 21, 23, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    }

    /// Nor does a crowd of small ones whoever asks for much, nor a few large ones whoever asks for little.
    #[test]
    fn a_crowd_of_one_size_sends_away_nobody_of_another() {
        let mut heavy = Heavy::new(MAX);
        const SMALL: usize = 64 << 10;
        assert_eq!(heavy.ask(1, METADATA, 5 * MIB), [0; 0]);
        for connection in 1_000..1_240 {
            assert_eq!(heavy.ask(connection, METADATA, SMALL), [0; 0]);
        }
        for connection in 2_000..3_000 {
            assert_eq!(heavy.ask(connection, METADATA, SMALL), [connection], "there was room for the first");
        }
        let sent_away: Vec<u64> = (1_192..1_240).rev().collect();
        assert_eq!(heavy.ask(2, METADATA, 3 * MIB), sent_away, "who comes later finds its part too");
        assert_eq!(heavy.ask(3, METADATA, 14 * MIB), [3], "and no more than its part");
        assert_eq!(connections(heavy.pop(u64::MAX)), [1]);

        let mut heavy = Heavy::new(MAX);
        for connection in 0..4 {
            assert_eq!(heavy.ask(connection, METADATA, 5 * MIB), [0; 0]);
        }
        assert_eq!(heavy.ask(10, METADATA, SMALL), [3]);
        assert_eq!(heavy.ask(4, METADATA, 5 * MIB), [4]);
        assert_eq!(connections(heavy.pop(u64::MAX)), [0]);
    }

    #[test]
    fn one_connection_does_not_keep_all_others_away() {
        let mut heavy = Heavy::new(MAX);
        for api_key in [FETCH, METADATA] {
            assert_eq!(heavy.ask(1, FETCH, MAX), [0; 0]);
            assert_eq!(heavy.ask(2, api_key, 32 << 10), [1]);
            assert_eq!((heavy.len(), heavy.bytes().taken), (1, 32 << 10));
            heavy.forget(ConnectionId(2));
        }
    }

    /// Whatever comes in whatever order.
    #[test]
    fn nobody_is_sent_away_for_who_came_later_with_the_same_or_while_he_has_his_part() {
        let mut random = Random::new(5);
        for _ in 0..20 {
            let mut heavy = Heavy::new(MAX);
            let kinds = 1 + random.below(4) as i16;
            let scale = [18, 20, 24][random.below(3) as usize];
            for connection in 0..500 {
                let api_key = random.below(kinds as u64) as i16;
                let doublings = 15 + random.below(scale - 14);
                let bytes = 1 + random.below(1 << doublings) as usize;
                let newest = put_off(connection, api_key, bytes);
                let before: Vec<(u64, i16, usize)> = heavy.all().chain([told(&newest)]).collect();
                let part = |is_one: &dyn Fn(&(u64, i16, usize)) -> bool| {
                    before.iter().filter(|one| is_one(one)).map(|(.., bytes)| bytes).sum::<usize>()
                };
                let mut there: Vec<i16> = before.iter().map(|(_, key, _)| *key).collect();
                there.sort();
                there.dedup();
                let size = newest.size();
                for sent_away in heavy.push(newest) {
                    let (id, key, _) = told(&sent_away);
                    let its_size = sent_away.size();
                    let is_same = (key, its_size) == (api_key, size);
                    assert!(!is_same || id == connection, "{id} came before {connection}");
                    let of_kind = part(&|one| one.1 == key);
                    let of_size = part(&|one| one.1 == key && size_of(one.2) == its_size);
                    assert!(of_kind > MAX / there.len() && of_size > MAX / there.len() / SIZES);
                }
                assert!(heavy.bytes().taken <= MAX || heavy.len() == 1);
                assert_eq!(heavy.bytes().taken, heavy.all().map(|(.., bytes)| bytes).sum::<usize>());
                if random.below(3) == 0 {
                    heavy.pop(u64::MAX);
                }
            }
        }
    }

    #[test]
    fn most_of_the_time_is_the_others() {
        let mut heavy = Heavy::new(MAX);
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
