//! Reads of the device: who goes next, and how many bytes all of them hold.
//!
//! Each reader (a connection, or another voter) has one read at the device at a time, and answers that it has not taken
//! count as held: its next read waits for them. Clients share a total and a few places at the device, in turn; voters have an
//! allowance of their own and go first; what a voter gets of a snapshot is apart from what it gets of the log. What is held is told by the bytes themselves: a [`Charge`] lives as long as any
//! slice of what was read.

use crate::replica::connection_id::ConnectionId;
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

/// What a read has beside the batch that it is for: whole blocks of the device.
const BESIDE_BYTES: usize = 8 * 1024;

/// What an answer takes that is read from the device, or from a block: the piece of memory that it lies in, however short it is.
/// Only a batch that does not fit has more.
pub(crate) fn charge_bytes(batch_bytes_max: usize, piece_bytes: usize) -> usize {
    batch_bytes_max.saturating_add(BESIDE_BYTES + piece_bytes - 1) / piece_bytes * piece_bytes
}

/// What a client's read has at most while the log writes: a device does both one after the other. With four reads of 2 MiB a
/// producer's p99 was 24 times as long as without them. An answer from a block has no more either: sending a MiB takes the core for a
/// quarter of a millisecond, and four such readers made a producer's p50 three times as long.
const WRITING_READ_BYTES: usize = 256 * 1024;

/// Who holds answers is looked for this often while others wait.
const LOOK_MS_MAX: u64 = 1_000;
/// So many times the stall an answer may be taken in, however often a byte of it goes.
const WHOLE_ANSWER_STALLS: u64 = 6;

/// For whom the device is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reader {
    Voter(NodeId),
    /// A snapshot, for who speaks as a voter on this connection: one piece at a time, and who takes none holds no other's up.
    Copy(ConnectionId),
    Client(ConnectionId),
}

#[derive(Clone, Debug)]
pub(crate) struct ReadLimits {
    /// Read for clients and not taken by them yet.
    pub(crate) bytes_max: usize,
    /// Of one answer to a client.
    pub(crate) answer_bytes_max: usize,
    /// Of one answer to a voter.
    pub(crate) voter_bytes_max: usize,
    /// What each answer takes in memory.
    pub(crate) charge_bytes: usize,
    /// For clients at the device at once.
    pub(crate) under_way_max: usize,
    /// Who holds bytes for longer while others wait is closed.
    pub(crate) stall_ms_max: u64,
}

/// Bytes of the total, given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Charge {
    bytes: usize,
    since_ns: u64,
    /// `None`: a voter's, which is not of the total.
    total: Option<Arc<AtomicUsize>>,
}

impl Drop for Charge {
    fn drop(&mut self) {
        if let Some(total) = &self.total {
            total.fetch_sub(self.bytes, Ordering::Relaxed);
        }
    }
}

/// A read whose turn it is.
#[derive(Debug)]
pub(crate) struct Granted {
    pub(crate) token: u64,
    /// To be kept beside what is read.
    pub(crate) charge: Arc<Charge>,
    /// Read no more than this, but one batch.
    pub(crate) bytes_max: usize,
}

#[derive(Debug)]
struct Wish {
    token: u64,
    bytes: usize,
}

/// Whose answers are held while others wait for their memory: it is to be closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stalled {
    pub(crate) connection: ConnectionId,
    /// Only if it has taken nothing for so long; `None`: whatever it takes, it takes it too slowly.
    pub(crate) if_silent_ms: Option<u64>,
}

#[derive(Debug, Default)]
struct Wishes {
    /// In the order in which they came.
    waiting: VecDeque<Wish>,
    /// At the device.
    reading: Option<u64>,
    /// The connection is closed: it ends with its read.
    is_gone: bool,
    held: Vec<Weak<Charge>>,
}

impl Wishes {
    fn held_bytes(&mut self) -> usize {
        self.held.retain(|charge| charge.strong_count() > 0);
        self.held.iter().filter_map(Weak::upgrade).map(|charge| charge.bytes).sum()
    }

    /// Since when it holds anything.
    fn oldest_ns(&self) -> Option<u64> {
        self.held.iter().filter_map(Weak::upgrade).map(|charge| charge.since_ns).min()
    }

    fn is_over(&mut self) -> bool {
        self.waiting.is_empty() && self.reading.is_none() && (self.is_gone || self.held_bytes() == 0)
    }
}

/// All reads of a node.
#[derive(Debug)]
pub(crate) struct Reads {
    limits: ReadLimits,
    total: Arc<AtomicUsize>,
    readers: BTreeMap<Reader, Wishes>,
    by_token: BTreeMap<u64, Reader>,
    /// Readers with wishes and none at the device, each once; who was served last is last.
    voters: VecDeque<Reader>,
    clients: VecDeque<Reader>,
    under_way: usize,
    is_writing: bool,
    /// Since then the first client that holds nothing waits for bytes of the total, and none was let through.
    blocked_ns: Option<u64>,
    /// When who holds them is looked for again.
    look_ns: u64,
}

impl Reads {
    pub(crate) fn new(limits: ReadLimits) -> Reads {
        Reads {
            limits,
            total: Arc::default(),
            readers: BTreeMap::new(),
            by_token: BTreeMap::new(),
            voters: VecDeque::new(),
            clients: VecDeque::new(),
            under_way: 0,
            is_writing: false,
            blocked_ns: None,
            look_ns: 0,
        }
    }

    /// So much may be read for clients and not taken by them from now on. Who holds more keeps it until it is taken.
    pub(crate) fn set_bytes_max(&mut self, bytes_max: usize) {
        self.limits.bytes_max = bytes_max;
    }

    pub(crate) fn bytes_max(&self) -> usize {
        self.limits.bytes_max
    }

    /// Read for clients and not taken yet.
    pub(crate) fn held_bytes(&self) -> usize {
        self.total.load(Ordering::Relaxed)
    }

    /// Of clients and voters, not at the device yet.
    pub(crate) fn waiting(&self) -> usize {
        self.readers.values().map(|wishes| wishes.waiting.len()).sum()
    }

    /// It holds something or waits, and its connection is there.
    pub(crate) fn knows(&self, reader: Reader) -> bool {
        self.readers.get(&reader).is_some_and(|wishes| !wishes.is_gone)
    }

    /// The device has a place that nobody wants who waits. `ahead`: places that reads ahead have.
    pub(crate) fn has_place_ahead(&self, ahead: usize) -> bool {
        let places = if self.is_writing { 1 } else { self.limits.under_way_max };
        let is_waiting = !(self.clients.is_empty() && self.voters.is_empty());
        !is_waiting && self.under_way + ahead < places
    }

    /// Nobody waits, and nobody did at the last look.
    pub(crate) fn is_idle(&self) -> bool {
        self.clients.is_empty() && self.voters.is_empty() && self.blocked_ns.is_none()
    }

    /// Somebody waits, and no read that is under way will end it.
    pub(crate) fn must_look_again(&self) -> bool {
        self.under_way == 0 && !(self.clients.is_empty() && self.voters.is_empty())
    }

    /// `reader` wants about `bytes` from the device; `next` says when.
    pub(crate) fn ask(&mut self, token: u64, reader: Reader, bytes: usize) {
        let wishes = self.readers.entry(reader).or_default();
        if wishes.waiting.is_empty() && wishes.reading.is_none() {
            match reader {
                Reader::Voter(_) | Reader::Copy(_) => self.voters.push_back(reader),
                Reader::Client(_) => self.clients.push_back(reader),
            }
        }
        wishes.waiting.push_back(Wish { token, bytes });
        self.by_token.insert(token, reader);
    }

    /// Something is in a block for it: what its answer may have at most, if nobody waits for the memory that this pins.
    pub(crate) fn ask_memory(
        &mut self,
        reader: Reader,
        bytes: usize,
        now_ns: u64,
    ) -> Option<(Arc<Charge>, usize)> {
        let waits = |wishes: &Wishes| wishes.reading.is_some() || !wishes.waiting.is_empty();
        if self.readers.get(&reader).is_some_and(waits) {
            return None;
        }
        let is_client = matches!(reader, Reader::Client(_));
        if is_client && (self.blocked_ns.is_some() || !self.fits()) || self.is_sated(reader) {
            return None;
        }
        let charge = self.charge(reader, self.limits.charge_bytes, now_ns);
        Some((charge, bytes.min(self.answer_bytes_max(reader))))
    }

    /// Now and then: who has taken all is forgotten.
    pub(crate) fn rest(&mut self) {
        self.readers.retain(|_, wishes| !wishes.is_over());
    }

    /// The log writes: what clients read comes in small pieces, one after the other, or acknowledgements wait for them.
    pub(crate) fn set_writing(&mut self, is_writing: bool) {
        self.is_writing = is_writing;
    }

    /// The next read, if one may begin.
    pub(crate) fn next(&mut self, now_ns: u64) -> Option<Granted> {
        for _ in 0..self.voters.len() {
            let reader = self.voters.pop_front()?;
            match self.grant(reader, now_ns) {
                Some(granted) => return Some(granted),
                None => self.voters.push_back(reader),
            }
        }
        let under_way_max = if self.is_writing { 1 } else { self.limits.under_way_max };
        if self.under_way >= under_way_max {
            return None;
        }
        for at in 0..self.clients.len() {
            let reader = self.clients[at];
            if !self.fits() {
                if self.own_bytes(reader) > 0 {
                    // It has answers of its own to take first, and keeps nobody waiting for that.
                    continue;
                }
                // It is the first that could go: nobody passes it.
                self.blocked_ns.get_or_insert(now_ns);
                return None;
            }
            if let Some(granted) = self.grant(reader, now_ns) {
                self.clients.remove(at);
                self.under_way += 1;
                self.blocked_ns = None;
                return Some(granted);
            }
        }
        self.blocked_ns = None;
        None
    }

    /// The total has room for one more. One alone always fits.
    fn fits(&self) -> bool {
        let total = self.total.load(Ordering::Relaxed);
        total == 0 || total + self.limits.charge_bytes <= self.limits.bytes_max
    }

    fn own_bytes(&mut self, reader: Reader) -> usize {
        self.readers.get_mut(&reader).map_or(0, Wishes::held_bytes)
    }

    fn grant(&mut self, reader: Reader, now_ns: u64) -> Option<Granted> {
        if self.is_sated(reader) {
            return None;
        }
        let wishes = self.readers.get_mut(&reader)?;
        let wish = wishes.waiting.pop_front()?;
        wishes.reading = Some(wish.token);
        let bytes_max = wish.bytes.min(self.answer_bytes_max(reader));
        // A piece of a snapshot is not read in whole blocks.
        let bytes = if matches!(reader, Reader::Copy(_)) { bytes_max } else { self.limits.charge_bytes };
        Some(Granted { token: wish.token, charge: self.charge(reader, bytes, now_ns), bytes_max })
    }

    /// It holds an answer on its way, and the next one; of a snapshot one piece.
    fn is_sated(&mut self, reader: Reader) -> bool {
        let most = if matches!(reader, Reader::Copy(_)) { 0 } else { self.limits.charge_bytes };
        self.own_bytes(reader) > most
    }

    fn charge(&mut self, reader: Reader, bytes: usize, now_ns: u64) -> Arc<Charge> {
        let total = matches!(reader, Reader::Client(_)).then(|| self.total.clone());
        if let Some(total) = &total {
            total.fetch_add(bytes, Ordering::Relaxed);
        }
        let charge = Arc::new(Charge { bytes, since_ns: now_ns, total });
        self.readers.entry(reader).or_default().held.push(Arc::downgrade(&charge));
        charge
    }

    fn answer_bytes_max(&self, reader: Reader) -> usize {
        match reader {
            Reader::Voter(_) | Reader::Copy(_) => self.limits.voter_bytes_max,
            Reader::Client(_) if self.is_writing => self.limits.answer_bytes_max.min(WRITING_READ_BYTES),
            Reader::Client(_) => self.limits.answer_bytes_max,
        }
    }

    /// A read has ended, or is not wanted any more.
    pub(crate) fn done(&mut self, token: u64) {
        let Some(reader) = self.by_token.remove(&token) else { return };
        let Some(wishes) = self.readers.get_mut(&reader) else { return };
        wishes.waiting.retain(|wish| wish.token != token);
        if wishes.reading == Some(token) {
            wishes.reading = None;
            let line = match reader {
                Reader::Voter(_) | Reader::Copy(_) => &mut self.voters,
                Reader::Client(_) => {
                    self.under_way -= 1;
                    &mut self.clients
                }
            };
            if !wishes.waiting.is_empty() {
                line.push_back(reader);
            }
        }
        self.maybe_forget(reader);
    }

    fn maybe_forget(&mut self, reader: Reader) {
        if self.readers.get_mut(&reader).is_some_and(Wishes::is_over) {
            self.readers.remove(&reader);
        }
    }

    /// The connection is gone. Gives what it was waiting for; what is at the device ends by itself.
    pub(crate) fn forget(&mut self, connection: ConnectionId) -> Vec<u64> {
        let mut tokens = self.forget_reader(Reader::Client(connection));
        tokens.extend(self.forget_reader(Reader::Copy(connection)));
        tokens
    }

    fn forget_reader(&mut self, reader: Reader) -> Vec<u64> {
        let Some(wishes) = self.readers.get_mut(&reader) else { return Vec::new() };
        let tokens: Vec<u64> = wishes.waiting.drain(..).map(|wish| wish.token).collect();
        self.clients.retain(|waiting| *waiting != reader);
        self.voters.retain(|waiting| *waiting != reader);
        tokens.iter().for_each(|token| _ = self.by_token.remove(token));
        wishes.is_gone = true;
        self.maybe_forget(reader);
        tokens
    }

    /// Who is to be closed: the first in line has waited too long for bytes that these have held too long, the longest first.
    /// They are looked for now and then, not in each turn.
    pub(crate) fn stalled(&mut self, now_ns: u64) -> Vec<Stalled> {
        let Some(blocked_ns) = self.blocked_ns.filter(|_| now_ns >= self.look_ns) else { return Vec::new() };
        let stall_ms = self.limits.stall_ms_max;
        self.look_ns = now_ns + (stall_ms / 4).min(LOOK_MS_MAX) * NS_PER_MS;
        // A connection that is gone, or has taken all, is not looked at again.
        self.readers.retain(|_, wishes| !wishes.is_over());
        let is_longer = |since_ns: u64, ms: u64| now_ns.saturating_sub(since_ns) > ms * NS_PER_MS;
        let has_waited = is_longer(blocked_ns, stall_ms);
        let mut held: Vec<(u64, Stalled)> = self
            .readers
            .iter()
            .filter_map(|(reader, wishes)| match reader {
                Reader::Client(connection) if !wishes.is_gone => Some((wishes.oldest_ns()?, *connection)),
                _ => None,
            })
            .filter_map(|(since_ns, connection)| {
                let is_late = is_longer(since_ns, WHOLE_ANSWER_STALLS * stall_ms);
                let is_named = is_late || (has_waited && is_longer(since_ns, stall_ms));
                let if_silent_ms = (!is_late).then_some(stall_ms);
                is_named.then_some((since_ns, Stalled { connection, if_silent_ms }))
            })
            .collect();
        held.sort_by_key(|(since_ns, _)| *since_ns);
        held.into_iter().map(|(_, stalled)| stalled).collect()
    }
}

#[cfg(test)]
#[path = "reads_tests.rs"]
mod tests;
