//! Connections as byte streams between hosts: bytes arrive late, in pieces cut anywhere, in order, or not at all.
//!
//! The simulation asks for a connection, sends on it and closes it; `pump` gives back what arrives, and when to look
//! again. It behaves as TCP does: within one connection nothing is lost, doubled or reordered, a path that is cut only
//! delays, and a reset throws away whatever was under way. Lost, doubled and reordered requests come from there being
//! several connections. It knows nothing of nodes, clients or frames.

use super::dice::Dice;
use super::transit::flip_record_bit;
use crate::types::NS_PER_MS;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// A machine on the network: a node by its id, or a client.
pub(crate) type Host = i32;

/// Why a call ends where nobody listens, or where a path pretends so.
pub(crate) const REFUSED: &str = "connection refused";

/// A connection; never used twice in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct WireId(pub(super) u64);

/// One end of a connection: who opened it, or who was called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum End {
    Caller,
    Called,
}

impl End {
    pub(crate) fn other(self) -> End {
        match self {
            End::Caller => End::Called,
            End::Called => End::Caller,
        }
    }

    fn index(self) -> usize {
        self as usize
    }
}

/// What arrives at an end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Parcel {
    /// Somebody wants to connect. To be answered by `accept` or `refuse`.
    Call,
    Accepted,
    Bytes(Bytes),
    Closed(&'static str),
}

#[derive(Clone, Debug)]
pub(super) struct Weather {
    /// Least and mean time on the way.
    pub(super) delay_min_ns: u64,
    pub(super) delay_mean_ns: u64,
    /// A piece is lost and sent again this many times out of a thousand.
    pub(super) loss_permille: u64,
    /// A call is refused this many times out of a thousand.
    pub(super) refuse_permille: u64,
    /// What is sent is cut into several pieces this many times out of a thousand.
    pub(super) cut_permille: u64,
    /// A bit of a frame's records flips this many times out of a thousand.
    pub(super) flip_permille: u64,
}

impl Weather {
    pub(super) const FAIR: Weather = Weather {
        delay_min_ns: 20_000,
        delay_mean_ns: 100_000,
        loss_permille: 0,
        refuse_permille: 0,
        cut_permille: 200,
        flip_permille: 0,
    };
}

/// TCP's first retransmission.
const RETRANSMIT_NS: u64 = 200 * NS_PER_MS;
/// Pieces behind each other on one connection.
const GAP_NS_MAX: u64 = 50_000;
/// Where a path has been cut for this long, the connection breaks.
const GIVE_UP_NS: u64 = 15_000 * NS_PER_MS;

#[derive(Debug, Default)]
struct Flow {
    parcels: VecDeque<Parcel>,
    /// The receiving end is gone: whatever is sent is lost.
    is_deaf: bool,
    /// A close was sent: nothing follows it.
    is_shut: bool,
    pump_at: Option<u64>,
    stuck_since: Option<u64>,
    /// Sent, and not taken by who reads it.
    backlog_bytes: usize,
    /// The receiving end takes no bytes just now.
    is_held: bool,
}

#[derive(Debug)]
struct Wire {
    hosts: [Host; 2],
    /// What is on the way from the caller, and to it.
    flows: [Flow; 2],
}

#[derive(Debug)]
pub(super) struct Network {
    dice: Dice,
    pub(super) weather: Weather,
    wires: BTreeMap<WireId, Wire>,
    /// From a host to a host, nothing passes.
    blocked: BTreeSet<(Host, Host)>,
    next_wire: u64,
    /// Pieces that the simulation has to look at: wire, sending end, time.
    due: Vec<(WireId, End, u64)>,
    /// Connections on which a bit has flipped, once for each.
    flipped: Vec<WireId>,
}

impl Network {
    pub(super) fn new(dice: Dice, weather: Weather) -> Network {
        Network {
            dice,
            weather,
            wires: BTreeMap::new(),
            blocked: BTreeSet::new(),
            next_wire: 0,
            due: Vec::new(),
            flipped: Vec::new(),
        }
    }

    pub(super) fn call(&mut self, now_ns: u64, from: Host, to: Host) -> WireId {
        self.next_wire += 1;
        let id = WireId(self.next_wire);
        self.wires.insert(id, Wire { hosts: [from, to], flows: [Flow::default(), Flow::default()] });
        self.push(now_ns, id, End::Caller, Parcel::Call);
        id
    }

    pub(super) fn accept(&mut self, now_ns: u64, id: WireId) {
        self.push(now_ns, id, End::Called, Parcel::Accepted);
    }

    pub(super) fn refuse(&mut self, now_ns: u64, id: WireId) {
        self.close(now_ns, id, End::Called, REFUSED);
    }

    pub(super) fn is_refusing(&mut self) -> bool {
        let chance = self.weather.refuse_permille;
        self.dice.permille(chance)
    }

    /// Whole frames from one end, cut where chance wants it.
    pub(super) fn send(&mut self, now_ns: u64, id: WireId, from: End, mut bytes: Bytes) {
        if self.weather.flip_permille > 0
            && self.dice.permille(self.weather.flip_permille)
            && let Some(flipped) = flip_record_bit(&bytes, &mut self.dice)
        {
            self.flipped.push(id);
            bytes = flipped;
        }
        if let Some(wire) = self.wires.get_mut(&id) {
            wire.flows[from.index()].backlog_bytes += bytes.len();
        }
        while bytes.len() > 1 && self.dice.permille(self.weather.cut_permille) {
            let cut = self.dice.between(1, bytes.len() as u64 - 1) as usize;
            let piece = bytes.split_to(cut);
            self.push(now_ns, id, from, Parcel::Bytes(piece));
        }
        if !bytes.is_empty() {
            self.push(now_ns, id, from, Parcel::Bytes(bytes));
        }
    }

    /// The other end has read so much of what `from` has sent.
    pub(super) fn took(&mut self, id: WireId, from: End, bytes: usize) {
        if let Some(wire) = self.wires.get_mut(&id) {
            let flow = &mut wire.flows[from.index()];
            flow.backlog_bytes = flow.backlog_bytes.saturating_sub(bytes);
        }
    }

    /// Sent by `from` and not taken: what the buffers of both kernels hold.
    pub(super) fn backlog_bytes(&self, id: WireId, from: End) -> usize {
        self.wires.get(&id).map_or(0, |wire| wire.flows[from.index()].backlog_bytes)
    }

    /// Does `end` take what comes? As long as it does not, all stays on its way.
    pub(super) fn set_reading(&mut self, now_ns: u64, id: WireId, end: End, is_reading: bool) {
        let from = end.other();
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let flow = &mut wire.flows[from.index()];
        flow.is_held = !is_reading;
        if is_reading && flow.pump_at.is_none() && !flow.parcels.is_empty() {
            flow.pump_at = Some(now_ns + 1);
            self.due.push((id, from, now_ns + 1));
        }
    }

    /// Has a bit flipped on it?
    pub(super) fn has_flipped(&self, id: WireId) -> bool {
        self.flipped.contains(&id)
    }

    pub(super) fn flips(&self) -> u64 {
        self.flipped.len() as u64
    }

    /// One end is closed, or its process has died: what it sent still arrives, what comes to it is lost.
    pub(super) fn close(&mut self, now_ns: u64, id: WireId, end: End, why: &'static str) {
        self.push(now_ns, id, end, Parcel::Closed(why));
        let Some(wire) = self.wires.get_mut(&id) else { return };
        wire.flows[end.index()].is_shut = true;
        let incoming = &mut wire.flows[end.other().index()];
        incoming.is_deaf = true;
        incoming.parcels.clear();
        self.forget_finished(id);
    }

    /// One end vanished without a word (its power was cut): the other hears of it when it next waits too long, or
    /// sends. What it had sent may be lost from anywhere on.
    pub(super) fn vanish(&mut self, now_ns: u64, id: WireId, end: End) {
        self.lose_tail(id, end);
        let silence_ns = self.dice.around(500 * NS_PER_MS);
        self.close(now_ns + silence_ns, id, end, "connection timed out");
    }

    /// A connection breaks for both ends, in the middle of whatever was on the way.
    pub(super) fn reset(&mut self, now_ns: u64, id: WireId) {
        for end in [End::Caller, End::Called] {
            self.lose_tail(id, end);
            // One end may hear of it much later than the other.
            let late_ns = if self.dice.permille(200) { self.dice.around(800 * NS_PER_MS) } else { 0 };
            self.push(now_ns + late_ns, id, end, Parcel::Closed("connection reset by peer"));
            if let Some(wire) = self.wires.get_mut(&id) {
                wire.flows[end.index()].is_shut = true;
            }
        }
    }

    fn lose_tail(&mut self, id: WireId, from: End) {
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let flow = &mut wire.flows[from.index()];
        let kept = self.dice.below(flow.parcels.len() as u64 + 1) as usize;
        // A call or its answer is not part of what can be cut in two.
        flow.parcels.truncate(kept);
    }

    fn push(&mut self, now_ns: u64, id: WireId, from: End, parcel: Parcel) {
        let delay_ns = self.delay();
        let Some(wire) = self.wires.get_mut(&id) else { return };
        let flow = &mut wire.flows[from.index()];
        if flow.is_deaf || flow.is_shut {
            return;
        }
        let waits = flow.is_held && !flow.parcels.is_empty();
        flow.parcels.push_back(parcel);
        if flow.pump_at.is_none() && !waits {
            flow.pump_at = Some(now_ns + delay_ns);
            self.due.push((id, from, now_ns + delay_ns));
        }
    }

    fn delay(&mut self) -> u64 {
        self.weather.delay_min_ns + self.dice.around(self.weather.delay_mean_ns)
    }

    /// What has to be pumped when.
    pub(super) fn take_due(&mut self) -> Vec<(WireId, End, u64)> {
        std::mem::take(&mut self.due)
    }

    /// The next parcel of what `from` has sent, if the path lets it through.
    pub(super) fn pump(&mut self, now_ns: u64, id: WireId, from: End) -> Option<Parcel> {
        let wire = self.wires.get_mut(&id)?;
        let flow = &mut wire.flows[from.index()];
        if flow.pump_at != Some(now_ns) {
            return None;
        }
        flow.pump_at = None;
        if flow.parcels.is_empty() || flow.is_held && matches!(flow.parcels[0], Parcel::Bytes(_)) {
            return None;
        }
        let path = (wire.hosts[from.index()], wire.hosts[from.other().index()]);
        let is_lost = self.dice.permille(self.weather.loss_permille);
        if is_lost || self.blocked.contains(&path) {
            return self.on_stuck(now_ns, id, from);
        }
        flow.stuck_since = None;
        let parcel = flow.parcels.pop_front();
        if !flow.parcels.is_empty() {
            let next = now_ns + 1 + self.dice.below(GAP_NS_MAX);
            flow.pump_at = Some(next);
            self.due.push((id, from, next));
        }
        if matches!(parcel, Some(Parcel::Closed(_))) {
            flow.is_deaf = true;
            // Whoever is told that it is closed sends nothing more.
            let back = &mut wire.flows[from.other().index()];
            back.is_shut = true;
        }
        self.forget_finished(id);
        parcel
    }

    fn on_stuck(&mut self, now_ns: u64, id: WireId, from: End) -> Option<Parcel> {
        let wire = self.wires.get_mut(&id)?;
        let flow = &mut wire.flows[from.index()];
        let since = *flow.stuck_since.get_or_insert(now_ns);
        if now_ns - since > GIVE_UP_NS {
            // The sender's kernel gives up; the receiver never hears anything.
            self.close(now_ns, id, from.other(), "connection timed out");
            return None;
        }
        let wait_ns = (now_ns - since).clamp(RETRANSMIT_NS, 8 * RETRANSMIT_NS);
        let next = now_ns + wait_ns + self.dice.below(GAP_NS_MAX);
        flow.pump_at = Some(next);
        self.due.push((id, from, next));
        None
    }

    fn forget_finished(&mut self, id: WireId) {
        let Some(wire) = self.wires.get(&id) else { return };
        if wire.flows.iter().all(|f| f.parcels.is_empty() && (f.is_deaf || f.is_shut)) {
            self.wires.remove(&id);
        }
    }

    pub(super) fn host(&self, id: WireId, end: End) -> Option<Host> {
        self.wires.get(&id).map(|wire| wire.hosts[end.index()])
    }

    /// Connections that are still of use to somebody.
    pub(super) fn open_wires(&self) -> Vec<WireId> {
        let is_open = |wire: &Wire| wire.flows.iter().all(|flow| !flow.is_shut && !flow.is_deaf);
        self.wires.iter().filter(|(_, wire)| is_open(wire)).map(|(id, _)| *id).collect()
    }

    pub(super) fn block(&mut self, from: Host, to: Host) {
        self.blocked.insert((from, to));
    }

    pub(super) fn unblock(&mut self, from: Host, to: Host) {
        self.blocked.remove(&(from, to));
    }

    pub(super) fn heal(&mut self) {
        self.blocked.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything that arrives at both ends, in order of time.
    fn drain(network: &mut Network) -> Vec<(End, Parcel)> {
        let mut due: BTreeSet<(u64, WireId, End)> = BTreeSet::new();
        let mut arrived = Vec::new();
        loop {
            due.extend(network.take_due().into_iter().map(|(id, end, at)| (at, id, end)));
            let Some((at, id, end)) = due.pop_first() else { return arrived };
            if let Some(parcel) = network.pump(at, id, end) {
                arrived.push((end.other(), parcel));
            }
        }
    }

    fn bytes_at(arrived: &[(End, Parcel)], end: End) -> Vec<u8> {
        let mine = arrived.iter().filter(|(at, _)| *at == end);
        mine.filter_map(|(_, p)| if let Parcel::Bytes(b) = p { Some(b.to_vec()) } else { None })
            .flatten()
            .collect()
    }

    #[test]
    fn bytes_arrive_in_order_in_pieces() {
        let weather = Weather { cut_permille: 1000, loss_permille: 100, ..Weather::FAIR };
        let mut network = Network::new(Dice::new(3, 3), weather);
        let id = network.call(0, 1, 2);
        assert_eq!(drain(&mut network), [(End::Called, Parcel::Call)]);
        network.accept(5, id);
        let sent: Vec<u8> = (0..200).collect();
        network.send(6, id, End::Caller, Bytes::from(sent.clone()));
        network.send(7, id, End::Called, Bytes::from_static(b"answer"));
        let arrived = drain(&mut network);
        assert_eq!(bytes_at(&arrived, End::Caller), b"answer");
        assert_eq!(bytes_at(&arrived, End::Called), sent);
        assert!(arrived.len() > 4, "{arrived:?}");
        // Closed by one end: what comes to it is lost, what it sent before arrives.
        network.send(1_000_000, id, End::Called, Bytes::from_static(b"bye"));
        network.close(1_000_001, id, End::Called, "done");
        network.send(1_000_002, id, End::Caller, Bytes::from_static(b"late"));
        let arrived = drain(&mut network);
        assert_eq!(bytes_at(&arrived, End::Called), b"");
        assert_eq!(bytes_at(&arrived, End::Caller), b"bye");
        assert_eq!(arrived.last(), Some(&(End::Caller, Parcel::Closed("done"))));
        assert!(network.wires.is_empty());
    }

    #[test]
    fn a_cut_path_delays_and_a_healed_one_delivers() {
        let mut network = Network::new(Dice::new(4, 4), Weather::FAIR);
        let id = network.call(0, 1, 2);
        drain(&mut network);
        network.block(1, 2);
        network.send(10, id, End::Caller, Bytes::from_static(b"late"));
        let (_, _, at) = network.take_due()[0];
        assert_eq!(network.pump(at, id, End::Caller), None);
        network.unblock(1, 2);
        assert_eq!(bytes_at(&drain(&mut network), End::Called), b"late");
    }

    #[test]
    fn a_reset_reaches_both_ends_and_loses_only_a_tail() {
        for seed in 0..50 {
            let mut network =
                Network::new(Dice::new(seed, 0), Weather { cut_permille: 700, ..Weather::FAIR });
            let id = network.call(0, 1, 2);
            drain(&mut network);
            network.accept(1, id);
            drain(&mut network);
            network.send(2, id, End::Caller, Bytes::from_static(b"abcdefgh"));
            network.reset(3, id);
            let arrived = drain(&mut network);
            assert!(b"abcdefgh".starts_with(&bytes_at(&arrived, End::Called)[..]));
            let closes = arrived.iter().filter(|(_, p)| matches!(p, Parcel::Closed(_))).count();
            assert!(closes >= 1, "{arrived:?}");
        }
    }
}
