//! Clients that want harm, or behave as if they did: each takes as much as it is given of one thing, and gives nothing back.
//!
//! A fault like others: a seed draws which kinds there are and how often one comes; it stays for a while, beside the
//! honest clients. It does not care for its answers, opens as many connections as it likes, and leaves in the middle of
//! whatever it sends. What the kernel's buffers do not take it cannot send.

use super::clock::wall_ms;
use super::dice::Dice;
use super::faults::Fault;
use super::forged::{self, Claim};
use super::history::Value;
use super::kafka;
use super::network::{End, Host, Network, Parcel, WireId};
use super::scene::Scene;
use super::{Event, FIRST_HOSTILE, Simulation};
use crate::record::compression::Codec;
use crate::record::data_batch;
use crate::types::*;
use bytes::{BufMut, Bytes, BytesMut};
use std::collections::BTreeMap;

/// What both kernels keep of what it sends.
const SOCKET_BYTES: usize = 128 * 1024;
/// Connections that it opens, or uses, at one time.
const AT_ONCE: usize = 6;
/// Hostile clients at once.
const HOSTILES_MAX: usize = 6;
/// A request that waits "for ever".
const LONG_MS: i32 = 300_000;
/// Of the connections of those who claim to be a voter one of so many goes on.
const GOES_ON_ONE_OF: u64 = 8;
const KIB: usize = 1024;

#[derive(Debug, Default)]
struct Line {
    is_connected: bool,
    takes_nothing: bool,
    /// Of a request that was announced: what is missing.
    missing_bytes: usize,
}

pub(super) struct Hostile {
    host: Host,
    fault: Fault,
    dice: Dice,
    voters: Vec<Host>,
    /// Where it goes: one node, or any.
    targets: Vec<Host>,
    lines: BTreeMap<WireId, Line>,
    lines_max: usize,
    /// It takes none of its answers, or little.
    reads_permille: u64,
    leaves_permille: u64,
    interval_ns: u64,
    next_at_ns: u64,
    until_ns: u64,
    correlation_id: i32,
    number: u64,
    bomb: Option<Bytes>,
    /// What claimants send, and whether all of them claim to be the same voter.
    claim: Claim,
    names_one: bool,
}

impl Hostile {
    pub(super) fn new(
        fault: Fault,
        host: Host,
        mut dice: Dice,
        nodes: Vec<Host>,
        voters: Vec<Host>,
        until_ns: u64,
    ) -> Hostile {
        let target = dice.pick(&nodes).unwrap_or(1);
        let targets = if dice.permille(600) { vec![target] } else { nodes };
        let lines_max = match fault {
            Fault::Crowd => dice.between(20, 150),
            Fault::Squatters => dice.between(10, 40),
            // Sometimes more than a voter has places: that breaks its own connections.
            Fault::Forgers => dice.pick(&[2, 2, 12]).unwrap_or(2),
            Fault::HalfFrames | Fault::LargeFrames | Fault::Parkers => dice.between(2, 24),
            Fault::Claims => dice.between(20, 100),
            _ => dice.between(1, 10),
        };
        let reads_permille = match fault {
            Fault::Unread => 0,
            Fault::ColdReaders => dice.pick(&[0, 300, 1_000]).unwrap_or(300),
            _ => 900,
        };
        Hostile {
            host,
            fault,
            voters,
            targets,
            lines: BTreeMap::new(),
            lines_max: lines_max as usize,
            reads_permille,
            leaves_permille: dice.pick(&[0, 10, 200]).unwrap_or(10),
            interval_ns: dice.between(2, 20) * NS_PER_MS,
            next_at_ns: 0,
            until_ns,
            correlation_id: 0,
            number: 0,
            bomb: None,
            claim: if fault == Fault::Claims { Claim::draw(&mut dice) } else { Claim::Any },
            names_one: fault == Fault::Claims && dice.permille(500),
            dice,
        }
    }

    /// Something came, or it was woken. Returns when to wake it next; `None`: it has gone.
    pub(super) fn step(
        &mut self,
        now_ns: u64,
        network: &mut Network,
        scene: &Scene,
        parcel: Option<(WireId, Parcel)>,
    ) -> Option<u64> {
        match parcel {
            Some((wire, Parcel::Accepted)) => self.on_connected(now_ns, network, scene, wire),
            Some((wire, Parcel::Closed(_))) => _ = self.lines.remove(&wire),
            Some((wire, Parcel::Bytes(bytes))) => network.took(wire, End::Called, bytes.len()),
            Some((_, Parcel::Call)) | None => {}
        }
        if now_ns >= self.until_ns {
            self.go(now_ns, network);
            return None;
        }
        if now_ns >= self.next_at_ns {
            self.next_at_ns = now_ns + 1 + self.pause_ns();
            match self.fault {
                Fault::Claims => self.come_again(now_ns, network, scene),
                _ => self.act(now_ns, network, scene),
            }
        }
        Some(self.next_at_ns)
    }

    fn pause_ns(&mut self) -> u64 {
        match self.fault {
            Fault::Claims => self.dice.between(2 * NS_PER_MS, 5 * NS_PER_MS),
            _ => self.dice.around(self.interval_ns),
        }
    }

    /// All its connections end.
    pub(super) fn go(&mut self, now_ns: u64, network: &mut Network) {
        for wire in std::mem::take(&mut self.lines).into_keys() {
            network.close(now_ns, wire, End::Caller, "closed by the client");
        }
    }

    fn on_connected(&mut self, now_ns: u64, network: &mut Network, scene: &Scene, wire: WireId) {
        let reads = self.dice.permille(self.reads_permille);
        if let Some(line) = self.lines.get_mut(&wire) {
            line.is_connected = true;
            line.takes_nothing = !reads;
            network.set_reading(now_ns, wire, End::Caller, reads);
        }
        if self.fault == Fault::Claims && self.lines.contains_key(&wire) {
            // In its own name no voter gives anybody a voter's place.
            let called = network.host(wire, End::Called);
            let others = self.voters.iter().copied().filter(|voter| Some(*voter) != called);
            let mut others: Vec<Host> = others.collect();
            others.truncate(if self.names_one { 1 } else { usize::MAX });
            let voter = self.dice.pick(&others).unwrap_or(1);
            self.correlation_id += 1;
            let request = forged::claim(&mut self.dice, self.correlation_id, self.claim, voter, scene);
            network.send(now_ns, wire, End::Caller, request);
            if wire.0.is_multiple_of(GOES_ON_ONE_OF) {
                self.go_on(now_ns, network, scene, wire, voter);
            }
        }
    }

    /// With a voter's place it asks for much more: all that a client asks for, or what a voter does.
    fn go_on(&mut self, now_ns: u64, network: &mut Network, scene: &Scene, wire: WireId, voter: Host) {
        let is_client = self.dice.permille(500);
        let mut bytes = BytesMut::new();
        for _ in 0..self.dice.between(8, 60) {
            self.correlation_id += 1;
            let id = self.correlation_id;
            let request = match is_client {
                true => self.small(id, scene.committed_end.0),
                false => forged::claim(&mut self.dice, id, self.claim, voter, scene),
            };
            bytes.extend_from_slice(&request);
        }
        network.send(now_ns, wire, End::Caller, bytes.freeze());
    }

    /// One more connection, mostly to the leader, and one request on it. The first of them goes for it.
    fn come_again(&mut self, now_ns: u64, network: &mut Network, scene: &Scene) {
        if self.lines.len() >= self.lines_max
            && let Some((wire, _)) = self.lines.pop_first()
        {
            network.close(now_ns, wire, End::Caller, "closed by the client");
        }
        let leader = scene.leader.filter(|_| self.dice.permille(900));
        let Some(target) = leader.or_else(|| self.dice.pick(&self.targets)) else { return };
        self.lines.insert(network.call(now_ns, self.host, target), Line::default());
    }

    fn act(&mut self, now_ns: u64, network: &mut Network, scene: &Scene) {
        let mut opened = 0;
        while self.lines.len() < self.lines_max && opened < AT_ONCE {
            let target = self.dice.pick(&self.targets).unwrap_or(1);
            self.lines.insert(network.call(now_ns, self.host, target), Line::default());
            opened += 1;
        }
        let open: Vec<WireId> =
            self.lines.iter().filter(|(_, line)| line.is_connected).map(|(wire, _)| *wire).collect();
        for _ in 0..AT_ONCE.min(open.len()) {
            let Some(wire) = self.dice.pick(&open) else { return };
            self.use_line(now_ns, network, scene, wire);
        }
    }

    fn use_line(&mut self, now_ns: u64, network: &mut Network, scene: &Scene, wire: WireId) {
        let Some(line) = self.lines.get_mut(&wire) else { return };
        if self.dice.permille(self.leaves_permille) {
            self.lines.remove(&wire);
            return network.close(now_ns, wire, End::Caller, "closed by the client");
        }
        if self.fault == Fault::ColdReaders && self.reads_permille > 0 {
            // It takes its time.
            line.takes_nothing = !line.takes_nothing;
            network.set_reading(now_ns, wire, End::Caller, !line.takes_nothing);
        }
        if network.backlog_bytes(wire, End::Caller) > SOCKET_BYTES {
            return;
        }
        let bytes = match self.fault {
            Fault::HalfFrames => self.half_frame(wire),
            _ => self.requests(now_ns, scene),
        };
        if !bytes.is_empty() {
            network.send(now_ns, wire, End::Caller, bytes);
        }
    }

    /// The beginning of a large request, and then little of the rest, but never all.
    fn half_frame(&mut self, wire: WireId) -> Bytes {
        let Some(line) = self.lines.get_mut(&wire) else { return Bytes::new() };
        let mut bytes = BytesMut::new();
        if line.missing_bytes == 0 {
            line.missing_bytes = self.dice.between(9, 250) as usize * KIB;
            bytes.put_u32(line.missing_bytes as u32);
        }
        let most = self.dice.pick(&[0, 50, 3_000, 60_000]).unwrap_or(50);
        let more = self.dice.below(most + 1).min(line.missing_bytes as u64 - 1) as usize;
        line.missing_bytes -= more;
        bytes.put_bytes(0, more);
        bytes.freeze()
    }

    /// What it sends at one time, on one connection.
    fn requests(&mut self, now_ns: u64, scene: &Scene) -> Bytes {
        let most = match self.fault {
            Fault::Flood => 40,
            Fault::Forgers | Fault::Parkers | Fault::ProducerIds => 10,
            Fault::Unread | Fault::ColdReaders => 5,
            Fault::Crowd => return self.of_a_crowd(),
            _ => 1,
        };
        let mut bytes = BytesMut::new();
        for _ in 0..self.dice.between(1, most) {
            let request = self.request(now_ns, scene);
            bytes.extend_from_slice(&request);
        }
        // The last one may be cut off in the middle.
        if self.dice.permille(20) {
            let kept = self.dice.below(bytes.len() as u64) as usize;
            bytes.truncate(kept);
        }
        bytes.freeze()
    }

    fn of_a_crowd(&mut self) -> Bytes {
        self.correlation_id += 1;
        match self.dice.below(4) {
            0 => kafka::encode(kafka::API_VERSIONS, self.correlation_id, &kafka::api_versions()),
            1 => kafka::encode(kafka::METADATA, self.correlation_id, &kafka::metadata()),
            _ => Bytes::new(),
        }
    }

    fn request(&mut self, now_ns: u64, scene: &Scene) -> Bytes {
        self.correlation_id += 1;
        let id = self.correlation_id;
        let end = scene.committed_end.0;
        match self.fault {
            Fault::Flood => self.small(id, end),
            Fault::Unread => match self.dice.below(4) {
                0 => kafka::encode(kafka::METADATA, id, &kafka::metadata()),
                _ => kafka::encode(kafka::FETCH, id, &kafka::fetch(0, 0, 200_000)),
            },
            Fault::ColdReaders => {
                let offset = self.dice.below(end.max(1) as u64) as i64;
                kafka::encode(kafka::FETCH, id, &kafka::fetch(offset, 0, 200_000))
            }
            Fault::Parkers => kafka::encode(kafka::FETCH, id, &kafka::fetch(end, LONG_MS, 1_000)),
            Fault::Forgers => forged::request(&mut self.dice, id, &self.voters, scene),
            Fault::Squatters => forged::fetch(&mut self.dice, id, &self.voters, scene),
            Fault::Repeats => self.repeated(id, end),
            Fault::LargeFrames => self.large(id, now_ns),
            Fault::Bombs => {
                let bomb = self.bomb(now_ns);
                kafka::encode(kafka::PRODUCE, id, &kafka::produce(1, 1_500, bomb))
            }
            _ => self.as_a_new_producer(id, now_ns),
        }
    }

    fn small(&mut self, id: i32, end: i64) -> Bytes {
        match self.dice.below(6) {
            0 => kafka::encode(kafka::API_VERSIONS, id, &kafka::api_versions()),
            1 => kafka::encode(kafka::METADATA, id, &kafka::metadata()),
            2 => kafka::encode(kafka::LIST_OFFSETS, id, &kafka::list_offsets(-1)),
            3 => kafka::encode(kafka::DESCRIBE_QUORUM, id, &kafka::describe_quorum()),
            4 => kafka::encode(kafka::INIT_PRODUCER_ID, id, &kafka::init_producer_id()),
            _ => kafka::encode(kafka::FETCH, id, &kafka::fetch(end, 0, 500)),
        }
    }

    /// One thing, named again and again.
    fn repeated(&mut self, id: i32, end: i64) -> Bytes {
        let times = self.dice.pick(&[50, 600, 3_000]).unwrap_or(600);
        match self.dice.below(3) {
            0 => {
                let mut request = kafka::list_offsets(-1);
                let partitions = &mut request.topics[0].partitions;
                *partitions = vec![partitions[0].clone(); times];
                kafka::encode(kafka::LIST_OFFSETS, id, &request)
            }
            1 => {
                let mut request = kafka::fetch(end, 0, 500);
                let partitions = &mut request.topics[0].partitions;
                *partitions = vec![partitions[0].clone(); times];
                kafka::encode(kafka::FETCH, id, &request)
            }
            _ => kafka::encode(kafka::METADATA, id, &kafka::metadata_of(times)),
        }
    }

    fn value(&mut self, padding: usize) -> Vec<u8> {
        self.number += 1;
        Value { client: self.host, number: self.number }.encode(padding)
    }

    /// A large Produce: of a good batch, or of what is too large for one.
    fn large(&mut self, id: i32, now_ns: u64) -> Bytes {
        let size = self.dice.between(9, 240) as usize * KIB;
        let value = self.value(size);
        let batch = data_batch(&[&value], wall_ms(now_ns), None);
        kafka::encode(kafka::PRODUCE, id, &kafka::produce(-1, 1_500, batch))
    }

    /// Small, and more than anybody should decompress.
    fn bomb(&mut self, now_ns: u64) -> Bytes {
        if let Some(bomb) = &self.bomb {
            return bomb.clone();
        }
        let size = self.dice.pick(&[20, 100, 400]).unwrap_or(100) as usize * KIB;
        let value = self.value(size);
        let batch = data_batch(&[&value], wall_ms(now_ns), None);
        let codec = self.dice.pick(&Codec::ALL[1..]).unwrap_or(Codec::Gzip);
        let bomb = codec.compress_batch(batch.clone()).unwrap_or(batch);
        self.bomb.insert(bomb).clone()
    }

    fn as_a_new_producer(&mut self, id: i32, now_ns: u64) -> Bytes {
        let value = self.value(10);
        let producer = (self.dice.next_u64() as i64 & i64::MAX, 0, 0);
        let batch = data_batch(&[&value], wall_ms(now_ns), Some(producer));
        kafka::encode(kafka::PRODUCE, id, &kafka::produce(1, 1_500, batch))
    }
}

impl Simulation {
    /// A client of this kind comes, for a while. False: there are enough.
    pub(super) fn let_hostile_in(&mut self, fault: Fault) -> bool {
        let is_alone = matches!(fault, Fault::Forgers | Fault::Claims);
        let is_there = is_alone && self.hostiles.values().any(|hostile| hostile.fault == fault);
        if is_there || self.hostiles.len() >= HOSTILES_MAX {
            return false;
        }
        let host = FIRST_HOSTILE + self.totals.hostiles as Host;
        self.totals.hostiles += 1;
        let nodes: Vec<Host> = self.nodes.keys().copied().collect();
        let voters = self.nodes.values().filter(|node| node.is_voter()).map(|node| node.host).collect();
        let stays_ns = match fault {
            // As long as followers need to give a leader up.
            Fault::Claims => self.chance.between(2_000, 6_000) * NS_PER_MS,
            _ => 100 * NS_PER_MS + self.chance.around(2_000 * NS_PER_MS),
        };
        let dice = Dice::new(self.chance.next_u64(), host as u64);
        self.say(host, fault.what());
        let until_ns = self.now_ns + stays_ns;
        self.hostiles.insert(host, Hostile::new(fault, host, dice, nodes, voters, until_ns));
        self.at(self.now_ns + 1, Event::Client(host));
        true
    }

    pub(super) fn step_hostile(&mut self, host: Host, parcel: Option<(WireId, Parcel)>) {
        let standings = self.nodes.values().filter_map(|node| node.standing);
        let scene = Scene {
            epoch: standings.map(|standing| standing.epoch).max().unwrap_or(Epoch(0)),
            leader: self.leader(),
            committed_end: self.checker.committed_end(),
        };
        let Some(hostile) = self.hostiles.get_mut(&host) else { return };
        match hostile.step(self.now_ns, &mut self.network, &scene, parcel) {
            Some(next) => self.wake_client(host, next),
            None => _ = self.hostiles.remove(&host),
        }
    }
}
