//! Searches for a time that go on: whose they are, and which of them may look into a batch.
//!
//! A search ends with its connection, and a session takes nothing behind one before it is answered: so there is at most one
//! for each connection. Only a few have a batch that is being looked into, and with it a part of what may be read from the
//! device; the others stand in line with nothing in hand, and read again when it is their turn. What needs a long look has a
//! line of its own.

use super::TimestampScan;
use crate::config::Limits;
use crate::replica::connection_id::ConnectionId;
use crate::replica::inspection::Patience;
use crate::replica::room::reads::charge_bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Looks under way at once, more than there are threads for them, so that these do not wait for the replica.
const LOOKS_BESIDE_THREADS: usize = 3;
/// Of what may be read from the device looks leave one part in so many to readers, where there are many threads.
const DEVICE_PART: usize = 2;
/// There is one thread for long ones.
const LONG_LOOKS_MAX: usize = 2;

fn short_looks_max(limits: &Limits) -> usize {
    // A batch in a thread's hands is charged as the largest.
    let one_bytes = charge_bytes(limits.message_bytes_max, limits.read_piece_bytes);
    let fitting = limits.pinned_reads_bytes_max() / DEVICE_PART / one_bytes;
    (limits.inspection_threads + LOOKS_BESIDE_THREADS).min(fitting.max(1 + LOOKS_BESIDE_THREADS))
}

/// Of one patience.
#[derive(Debug)]
struct Looks {
    /// Each place that is taken is a clone of it.
    places: Arc<()>,
    places_max: usize,
    /// Tokens, also of searches that have ended meanwhile.
    line: VecDeque<u64>,
}

impl Looks {
    fn new(places_max: usize) -> Looks {
        Looks { places: Arc::default(), places_max, line: VecDeque::new() }
    }

    fn place(&self) -> Option<Arc<()>> {
        (Arc::strong_count(&self.places) <= self.places_max).then(|| self.places.clone())
    }
}

/// All searches of a node that wait for something, by the token that it comes with.
pub(super) struct Searches {
    scans: BTreeMap<u64, TimestampScan>,
    by_connection: BTreeSet<(ConnectionId, u64)>,
    short: Looks,
    long: Looks,
}

impl Searches {
    pub(super) fn new(limits: &Limits) -> Searches {
        Searches {
            scans: BTreeMap::new(),
            by_connection: BTreeSet::new(),
            short: Looks::new(short_looks_max(limits)),
            long: Looks::new(LONG_LOOKS_MAX),
        }
    }

    pub(super) fn insert(&mut self, token: u64, scan: TimestampScan) {
        self.by_connection.insert((scan.connection(), token));
        self.scans.insert(token, scan);
    }

    pub(super) fn remove(&mut self, token: u64) -> Option<TimestampScan> {
        let scan = self.scans.remove(&token)?;
        self.by_connection.remove(&(scan.connection(), token));
        Some(scan)
    }

    pub(super) fn get(&self, token: u64) -> Option<&TimestampScan> {
        self.scans.get(&token)
    }

    /// The connection is gone: what it searches for ends, wherever it is.
    pub(super) fn forget(&mut self, connection: ConnectionId) {
        while let Some((_, token)) = self.by_connection.range((connection, 0)..=(connection, u64::MAX)).next()
        {
            self.remove(*token);
        }
    }

    /// A place for a look, if one is free and nobody has waited longer.
    pub(super) fn place(&self, patience: Patience) -> Option<Arc<()>> {
        let looks = self.looks(patience);
        looks.place().filter(|_| looks.line.is_empty())
    }

    /// It goes on when it is named by `next`.
    pub(super) fn stand_in_line(&mut self, token: u64, scan: TimestampScan, patience: Patience) {
        self.insert(token, scan);
        self.looks_mut(patience).line.push_back(token);
    }

    /// Who is next in a line, with its place.
    pub(super) fn next(&mut self) -> Option<(TimestampScan, Arc<()>)> {
        for patience in [Patience::Short, Patience::Long] {
            while let Some(place) = self.looks(patience).place()
                && let Some(token) = self.looks_mut(patience).line.pop_front()
            {
                if let Some(scan) = self.remove(token) {
                    return Some((scan, place));
                }
            }
        }
        None
    }

    fn looks(&self, patience: Patience) -> &Looks {
        if patience == Patience::Short { &self.short } else { &self.long }
    }

    fn looks_mut(&mut self, patience: Patience) -> &mut Looks {
        if patience == Patience::Short { &mut self.short } else { &mut self.long }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.scans.len()
    }
}
