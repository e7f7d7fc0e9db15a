//! Reading ahead: who reads in order, and how far ahead of him the device is to be read.
//!
//! Who asks where his last answer ended reads in order: one piece ahead of him, then two, then as far as the bound. Who asks elsewhere
//! begins anew. A voter that has to be read for at all catches up, and always reads in order. Only who is read for is known here.

use super::reads::Reader;
use crate::replica::connection_id::ConnectionId;
use crate::types::*;
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug)]
struct Order {
    /// Where the last answer ended.
    next: Offset,
    /// To be read ahead.
    pieces: usize,
}

/// All who read from the device, or from blocks.
#[derive(Debug)]
pub(crate) struct Ahead {
    pieces_max: usize,
    piece_bytes: usize,
    orders: BTreeMap<Reader, Order>,
    /// Ahead of whom is read next: voters first.
    due: BTreeSet<Reader>,
}

impl Ahead {
    pub(crate) fn new(bytes_max: usize, piece_bytes: usize) -> Ahead {
        Ahead {
            pieces_max: bytes_max / piece_bytes,
            piece_bytes,
            orders: BTreeMap::new(),
            due: BTreeSet::new(),
        }
    }

    /// He will want what is behind it too.
    pub(crate) fn is_in_order(&self, reader: Reader, from: Offset) -> bool {
        matches!(reader, Reader::Voter(_)) || self.orders.get(&reader).is_some_and(|order| order.next == from)
    }

    /// He was given what lies between these.
    pub(crate) fn on_answered(&mut self, reader: Reader, from: Offset, next: Offset) {
        let is_in_order = self.is_in_order(reader, from);
        let before = self.orders.get(&reader).map_or(0, |order| order.pieces);
        let pieces = if is_in_order { (2 * before).max(1).min(self.pieces_max) } else { 0 };
        self.orders.insert(reader, Order { next, pieces });
        match pieces {
            0 => self.due.remove(&reader),
            _ => self.due.insert(reader),
        };
    }

    /// Somebody was answered who reads in order.
    pub(crate) fn is_due(&self) -> bool {
        !self.due.is_empty()
    }

    /// From where on, and how many bytes ahead. Each who has been answered once.
    pub(crate) fn next(&mut self) -> Option<(Offset, usize)> {
        let order = self.due.pop_first().and_then(|reader| self.orders.get(&reader))?;
        Some((order.next, order.pieces * self.piece_bytes))
    }

    #[cfg(test)]
    pub(crate) fn known(&self) -> usize {
        self.orders.len()
    }

    pub(crate) fn forget(&mut self, connection: ConnectionId) {
        self.orders.remove(&Reader::Client(connection));
        self.due.remove(&Reader::Client(connection));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 1_000;

    fn client(number: u64) -> Reader {
        Reader::Client(ConnectionId(number))
    }

    #[test]
    fn who_reads_in_order_is_read_ahead_of_farther_each_time_and_who_leaps_begins_anew() {
        let mut ahead = Ahead::new(5 * PIECE, PIECE);
        let mut read = |from, next| {
            ahead.on_answered(client(1), Offset(from), Offset(next));
            ahead.next()
        };
        assert_eq!(read(0, 10), None, "nobody knows yet");
        assert_eq!(read(10, 20), Some((Offset(20), PIECE)));
        assert_eq!(read(20, 25), Some((Offset(25), 2 * PIECE)));
        assert_eq!(read(25, 30), Some((Offset(30), 4 * PIECE)));
        assert_eq!(read(30, 40), Some((Offset(40), 5 * PIECE)));
        assert_eq!(read(41, 50), None, "elsewhere");
        assert_eq!(read(50, 60), Some((Offset(60), PIECE)));
    }

    #[test]
    fn voters_go_first_and_who_is_gone_is_forgotten() {
        let mut ahead = Ahead::new(5 * PIECE, PIECE);
        assert!(
            ahead.is_in_order(Reader::Voter(NodeId(3)), Offset(7))
                && !ahead.is_in_order(client(1), Offset(7))
        );
        for number in [1, 2] {
            ahead.on_answered(client(number), Offset(0), Offset(10));
            ahead.on_answered(client(number), Offset(10), Offset(20));
        }
        ahead.on_answered(Reader::Voter(NodeId(3)), Offset(0), Offset(5));
        ahead.forget(ConnectionId(1));
        assert_eq!(ahead.next(), Some((Offset(5), PIECE)));
        assert_eq!(ahead.next(), Some((Offset(20), PIECE)));
        assert_eq!(ahead.next(), None);
        ahead.forget(ConnectionId(2));
        assert_eq!(ahead.orders.len(), 1);
        let mut none = Ahead::new(0, PIECE);
        none.on_answered(Reader::Voter(NodeId(3)), Offset(0), Offset(5));
        assert_eq!(none.next(), None);
    }
}
