//! Whole clusters in one deterministic thread: real replicas, sessions, frames, logs and recovery; simulated clocks,
//! disks, networks and clients; and every fault that those can show.
//!
//! Called by `kraft-sim` and by tests. One seed gives one run: all chance comes from [`dice`], all order from one queue
//! of events. Nothing here touches a file, a socket, a clock or a thread.
//!
//! ```text
//! dice ──► faults ──┐                ┌── checker: what every platter holds, what every client was told
//! clients ◄─bytes─► network ◄─bytes─► nodes (Session + Replica) ◄─operations─► disks
//!                   └──── one queue of events: whoever is next, at its time ────┘
//! ```
//! A run has two phases: first things fail, then all is well and the cluster must come to rest (liveness). Only where too many
//! disks have rotted a quorum may wait instead ([`waits`]).

mod alterations;
mod checker;
mod clock;
mod cluster;
mod core;
mod dice;
mod disk;
mod durable;
mod faults;
mod forged;
mod history;
mod hostile;
mod kafka;
mod lies;
mod lulls;
mod marks;
mod names;
mod network;
mod node;
mod platter;
mod promises;
mod quiet;
mod refusals;
mod rot;
mod scene;
mod shrink;
mod silence;
mod snapshot_disk;
mod snapshots;
mod starts;
#[cfg(test)]
mod tests;
mod told;
mod trace;
mod transit;
mod waits;
mod workload;

use crate::config::Config;
use crate::record::Inspector;
use crate::types::*;
use checker::Checker;
use clock::NodeClock;
use dice::Dice;
use disk::SimDisk;
use faults::Relief;
use hostile::Hostile;
use lies::Liar;
use lulls::Lulls;
use network::{End, Network, Parcel, Weather, WireId};
use node::{Arrival, Node};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use trace::Trace;
use workload::{Around, Client};

pub(crate) use checker::Violation;
pub(crate) use faults::FAULTS;
pub use faults::{Fault, Profile};
pub use lies::Lie;
pub(crate) use network::Host;
pub use shrink::shrink;
pub use silence::{Silence, silence};
pub use snapshots::takes_snapshots;
pub use starts::moves_start;
pub use trace::name as host_name;

/// Clients are hosts from here on; nodes are below it.
const FIRST_CLIENT: Host = 100;
/// And hostile ones from here on.
const FIRST_HOSTILE: Host = 10_000;
const TOPIC: &str = "__cluster_metadata";
/// After the faults: a leader, everything acknowledged readable, all logs equal, within this time.
const REST_MS_MAX: u64 = 60_000;
/// Producers send new records for so long after the faults have ended.
const LAST_RECORDS_MS: u64 = 1_500;
const REST_LOOK_MS: u64 = 50;
/// Runs that do not come to an end are failures too.
const EVENTS_MAX: u64 = 20_000_000;

/// What one run is. The same options give the same run.
#[derive(Clone, Debug)]
pub struct Options {
    /// Of all chance in it.
    pub seed: u64,
    /// Which faults may come.
    pub profile: Profile,
    /// Simulated ms in which things fail.
    pub ticks_ms: u64,
    /// Faults left out, whatever the seed draws.
    pub without: Vec<Fault>,
    /// Clients at most.
    pub clients_max: usize,
    /// Break one promise: the checker must notice.
    pub lie: Option<Lie>,
    /// Keep all lines of the story.
    pub trace: bool,
}

impl Options {
    /// As a run is without any flag.
    pub fn new(seed: u64) -> Options {
        Options {
            seed,
            profile: Profile::Swarm,
            ticks_ms: 15_000,
            without: Vec::new(),
            clients_max: usize::MAX,
            lie: None,
            trace: false,
        }
    }
}

/// How often each fault has struck.
#[derive(Clone, Copy, Debug)]
pub struct OfKind(pub [u64; FAULTS]);

impl Default for OfKind {
    fn default() -> OfKind {
        OfKind([0; FAULTS])
    }
}

/// What has happened in a run, or in many.
#[derive(Clone, Copy, Debug, Default)]
pub struct Totals {
    /// Events of the queue: steps of hosts, deliveries, faults.
    pub events: u64,
    /// By the clock of the simulation.
    pub simulated_ns: u64,
    /// Faults that have struck.
    pub faults: u64,
    /// The faults by their place in [`Fault::ALL`]; what the others are, disks have told one by one.
    pub of_kind: OfKind,
    /// Names, sizes and sectors that power cuts have taken back.
    pub undone: [u64; 3],
    /// Frames with a flipped bit.
    pub flips: u64,
    /// Starts that rot has stopped.
    pub refused_starts: u64,
    /// Starts that found the end of a log in doubt: with something rotten, and after nothing but torn writes.
    pub doubts: u64,
    /// Those after nothing but torn writes.
    pub unproven_tears: u64,
    /// Times that rot struck and more than a minority of the voters was damaged then; runs at whose end a quorum waited.
    pub majorities_struck: u64,
    /// Runs at whose end a quorum waited.
    pub waits: u64,
    /// Processes that have come up.
    pub starts: u64,
    /// Segments that starts have believed the summaries of, and those that they have read.
    pub summaries: u64,
    /// Segments that starts have read.
    pub scans: u64,
    /// Processes that have ended by themselves, with an exit code.
    pub stops: u64,
    /// Times that a leader was told to let the log start later.
    pub starts_moved: u64,
    /// Snapshots that have become durable, of any node.
    pub snapshots: u64,
    /// And those that were given up.
    pub snapshots_given_up: u64,
    /// Starts that went on from one.
    pub snapshots_read: u64,
    /// Those that were not whole, and set aside.
    pub snapshots_set_aside: u64,
    /// Directories that were emptied.
    pub wipes: u64,
    /// Of replicas, each with `end_turn`.
    pub turns: u64,
    /// Batches that the checker knows to be committed.
    pub commits: u64,
    /// Batches of producers that an answer has told to be kept.
    pub acknowledged: u64,
    /// Epochs that have had a leader.
    pub elections: u64,
    /// Connections closed because of what came over them.
    pub bad_input: u64,
    /// Hostile clients that came.
    pub hostiles: u64,
    /// Connections that had to go for others, or found no place.
    pub sent_away: u64,
    /// Most rounds of a core that a connection has waited for its turn.
    pub waited_max: u64,
    /// Times that the promise was broken.
    pub lies: u64,
}

/// What the checker has found.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its name, a word of a few.
    pub invariant: String,
    /// What was seen, and where.
    pub detail: String,
    /// By the clock of the simulation.
    pub at_ms: u64,
    /// The last lines of each host.
    pub last: BTreeMap<Host, Vec<String>>,
}

/// How one run has ended.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Over all events: the same for the same seed and build.
    pub hash: u64,
    /// What has happened in it.
    pub totals: Totals,
    /// `None`: all is well.
    pub failure: Option<Failure>,
    /// One line for each thing told, where `trace` was asked for.
    pub story: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Turn(Host),
    Pump(WireId, End),
    Disk(Host, u64),
    Client(Host),
    Start(Host),
    Fault(Fault),
    Relief(Relief),
    Cut(Host, Host),
    MoveStart,
    CalmDown,
    LastRecords,
    LookForRest,
}

struct Simulation {
    now_ns: u64,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    queued: u64,
    /// Boxed: they are taken out of the map and put back for each event.
    nodes: BTreeMap<Host, Box<Node>>,
    clients: BTreeMap<Host, Client>,
    client_wakes: BTreeMap<Host, u64>,
    hostiles: BTreeMap<Host, Hostile>,
    lulls: Option<Lulls>,
    /// Nothing is faulty but clients.
    fails_nothing: bool,
    /// Rot strikes any voters, a majority too.
    rots_any: bool,
    /// Since then too few voters can vote.
    waits_since_ns: Option<u64>,
    /// The leader that all voters have followed since then.
    settled: Option<(Host, Epoch)>,
    network: Network,
    fair: Weather,
    /// For the executor.
    dice: Dice,
    /// For faults: each kind has its own, and `chance` are those of the fault that is being injected.
    chances: Vec<Dice>,
    chance: Dice,
    /// Of the starts of the logs. `None`: they do not move.
    mover: Option<Dice>,
    /// Of snapshots that are taken all the time. `None`: as the configuration has it, which in a run is never.
    taker: Option<Dice>,
    plan: Vec<(Fault, u64)>,
    is_calm: bool,
    calm_at_ns: u64,
    is_at_rest: bool,
    acknowledged_before_calm: u64,
    checker: Checker,
    trace: Trace,
    liar: Liar,
    /// A lie's answer that goes to somebody else.
    held_back: i64,
    /// Bytes of the largest batch that was handed to a node.
    largest_batch: u64,
    /// In place of the server's threads for compressed batches.
    inspector: Inspector,
    totals: Totals,
}

/// May rot strike any voters in this run, a majority too?
pub fn rots_any(options: &Options) -> bool {
    faults::rots_any(options.seed, &plan(options, &mut chances(options.seed)))
}

/// The faults of the run, those gone that are left out: they change nothing for the others, and nothing is waived for them.
fn plan(options: &Options, chances: &mut [Dice]) -> Vec<(Fault, u64)> {
    let mut plan = options.profile.draw(chances);
    let moves_start = moves_start(options);
    plan.retain(|(fault, _)| {
        let has_no_place = moves_start && starts::is_left_out(*fault);
        !options.without.contains(fault) && !has_no_place
    });
    plan
}

/// For the faults, each its own.
fn chances(seed: u64) -> Vec<Dice> {
    (0..FAULTS as u64).map(|kind| Dice::new(seed, 2_000 + kind)).collect()
}

/// One run.
pub fn run(options: &Options) -> Outcome {
    let mut simulation = Simulation::new(options);
    let ended = catch_unwind(AssertUnwindSafe(|| simulation.run_to_end()));
    if let Err(panic) = ended {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        simulation.checker.violate("no assertion fails", text.unwrap_or_default());
    }
    simulation.outcome()
}

impl Simulation {
    fn new(options: &Options) -> Simulation {
        let seed = options.seed;
        let mut dice = Dice::new(seed, 1);
        let voters = dice.pick(&[1, 3, 3, 3, 3, 3, 5, 5]).unwrap_or(3);
        let observers = dice.pick(&[0, 0, 0, 1, 2]).unwrap_or(0);
        let fair = Weather {
            delay_mean_ns: dice.pick(&[50_000, 500_000, 5_000_000]).unwrap_or(50_000),
            ..Weather::FAIR
        };
        let mut chances = chances(seed);
        let plan = plan(options, &mut chances);
        let rots_any = faults::rots_any(seed, &plan);
        let mut simulation = Simulation {
            now_ns: 1_000_000,
            queue: BinaryHeap::new(),
            queued: 0,
            nodes: BTreeMap::new(),
            clients: BTreeMap::new(),
            client_wakes: BTreeMap::new(),
            hostiles: BTreeMap::new(),
            lulls: Lulls::draw(seed, options.profile),
            fails_nothing: plan.iter().all(|(fault, _)| fault.is_client()),
            rots_any,
            waits_since_ns: None,
            settled: None,
            network: Network::new(Dice::new(seed, 3), fair.clone()),
            fair,
            chances,
            chance: Dice::new(seed, 2),
            mover: moves_start(options).then(|| Dice::new(seed, 7)),
            taker: snapshots::taker(options),
            plan,
            is_calm: false,
            calm_at_ns: options.ticks_ms * NS_PER_MS,
            is_at_rest: false,
            acknowledged_before_calm: 0,
            checker: Checker::new((1..=voters).collect()),
            trace: Trace::new(options.trace),
            liar: Liar::new(options.lie, Dice::new(seed, 4)),
            held_back: 0,
            // A leader's own batch.
            largest_batch: 1_000,
            inspector: Inspector::default(),
            totals: Totals::default(),
            dice,
        };
        simulation.add_nodes(options, voters, observers);
        simulation.add_clients(seed, options.clients_max);
        for (fault, _) in simulation.plan.clone() {
            simulation.plan_fault(fault);
        }
        simulation.plan_move();
        simulation.at(simulation.calm_at_ns, Event::CalmDown);
        simulation
    }

    fn add_nodes(&mut self, options: &Options, voters: i32, observers: i32) {
        let seed = options.seed;
        let retention = self.mover.as_ref().map(|_| Simulation::draw_retention(options)).unwrap_or_default();
        self.checker.unaltered = retention.bytes.map_or("-1".to_string(), |bytes| bytes.to_string());
        let (mut bounds, mut room) = (Dice::new(seed, 5), Dice::new(seed, 6));
        let shape = node::shape(&mut room);
        let configs = node::configs(&mut self.dice, &mut bounds, &mut room, voters, observers);
        for config in configs {
            let mut config = Config { retention, ..config };
            if let Some(taker) = &mut self.taker {
                snapshots::tighten(&mut config.limits, taker);
            }
            let host = config.node_id.0;
            let disk = SimDisk::new(Dice::new(seed, 1_000 + host as u64));
            let drift = self.dice.below(200) as i64 - 100;
            let clock = NodeClock::new(0, self.dice.around(1_000_000_000_000), drift);
            self.nodes.insert(host, Box::new(Node::new(config, shape, disk, clock)));
            let at = self.dice.around(100 * NS_PER_MS);
            self.at(at, Event::Start(host));
        }
    }

    fn add_clients(&mut self, seed: u64, clients_max: usize) {
        let producers = self.dice.between(1, 4);
        let consumers = self.dice.between(1, 3);
        let admins = self.dice.below(2);
        let nodes: Vec<Host> = self.nodes.keys().copied().collect();
        for i in 0..producers + consumers + admins {
            let host = FIRST_CLIENT + i as Host;
            let mut dice = Dice::new(seed, 10_000 + i);
            let role = match i {
                _ if i < producers => Client::producer(&mut dice),
                _ if i < producers + consumers => Client::consumer(&mut dice),
                _ => workload::Role::Admin,
            };
            if i as usize >= clients_max {
                continue;
            }
            if let workload::Role::Producer(producer) = &role
                && producer.idempotent
            {
                self.checker.history.on_idempotent(host);
            }
            self.add_client(Client::new(host, dice, nodes.clone(), role), host);
        }
    }

    fn add_client(&mut self, client: Client, host: Host) {
        self.clients.insert(host, client);
        self.wake_client(host, self.now_ns + 1);
    }

    fn wake_client(&mut self, host: Host, at_ns: u64) {
        if at_ns < u64::MAX
            && self.client_wakes.get(&host).is_none_or(|wake| *wake > at_ns || *wake <= self.now_ns)
        {
            self.client_wakes.insert(host, at_ns);
            self.at(at_ns, Event::Client(host));
        }
    }

    fn at(&mut self, at_ns: u64, event: Event) {
        self.queued += 1;
        self.queue.push(Reverse((at_ns.max(self.now_ns), self.queued, event)));
    }

    fn run_to_end(&mut self) {
        while self.checker.violation().is_none() && !self.is_at_rest && self.run_one() {}
    }

    /// What comes next. False: nothing does.
    fn run_one(&mut self) -> bool {
        let Some(Reverse((at_ns, _, event))) = self.queue.pop() else { return false };
        self.now_ns = at_ns;
        self.totals.events += 1;
        self.on_event(event);
        for (wire, end, at) in self.network.take_due() {
            self.at(at, Event::Pump(wire, end));
        }
        if self.totals.events > EVENTS_MAX {
            self.checker.violate("a run comes to an end", format!("{EVENTS_MAX} events"));
        }
        true
    }

    fn on_event(&mut self, event: Event) {
        let now_ns = self.now_ns;
        match event {
            Event::Turn(host) => {
                self.trace.event(now_ns, 1, host, 0);
                self.turn(host)
            }
            Event::Pump(wire, end) => self.pump(wire, end),
            Event::Disk(host, ticket) => {
                self.trace.event(now_ns, 2, host, ticket);
                self.on_disk(host, ticket)
            }
            Event::Client(host) => self.step_client(host, None),
            Event::Start(host) => self.start(host),
            Event::Fault(fault) => {
                self.trace.event(now_ns, 3, 0, fault as u64);
                self.on_fault(fault)
            }
            Event::Relief(relief) => self.on_relief(relief),
            Event::Cut(from, to) if !self.is_calm => self.network.block(from, to),
            Event::Cut(..) => {}
            Event::MoveStart => self.on_move_start(),
            Event::CalmDown => self.on_calm_down(),
            Event::LastRecords => self.on_last_records(),
            Event::LookForRest => self.look_for_rest(),
        }
    }

    fn pump(&mut self, wire: WireId, from: End) {
        let Some(host) = self.network.host(wire, from.other()) else { return };
        let Some(parcel) = self.network.pump(self.now_ns, wire, from) else { return };
        self.trace.event(self.now_ns, 4, host, wire.0);
        if let Parcel::Bytes(bytes) = &parcel {
            self.trace.bytes(bytes);
        }
        if host >= FIRST_CLIENT {
            if let Parcel::Bytes(bytes) = &parcel {
                self.on_delivered(wire, bytes.len());
            }
            self.step_client(host, Some((wire, parcel)));
        } else {
            self.arrive(host, Arrival::Net { wire, end: from.other(), parcel });
        }
    }

    fn step_client(&mut self, host: Host, parcel: Option<(WireId, Parcel)>) {
        if host >= FIRST_HOSTILE {
            return self.step_hostile(host, parcel);
        }
        let lulls = self.lulls.filter(|_| !self.is_calm);
        let lull_ends_ns = lulls.map_or(0, |lulls| lulls.ends_ns(self.now_ns).min(self.calm_at_ns));
        let Some(client) = self.clients.get_mut(&host) else { return };
        let (now_ns, network, checker) = (self.now_ns, &mut self.network, &mut self.checker);
        let mut around = Around { now_ns, lull_ends_ns, network, checker };
        let next = client.step(&mut around, parcel);
        self.wake_client(host, next);
    }

    // --- the end

    fn acknowledged(&self) -> u64 {
        self.clients.values().map(Client::acknowledged).sum()
    }

    fn on_calm_down(&mut self) {
        self.acknowledged_before_calm = self.acknowledged();
        self.calm_down();
        self.at(self.now_ns + LAST_RECORDS_MS * NS_PER_MS, Event::LastRecords);
    }

    /// Once there is a leader again and something new was acknowledged, what is under way is brought to its end.
    fn on_last_records(&mut self) {
        if self.ends_waiting() {
            return;
        }
        let is_working = self.acknowledged() > self.acknowledged_before_calm;
        if !is_working && !self.is_overdue("a new record is acknowledged") {
            return self.at(self.now_ns + REST_LOOK_MS * NS_PER_MS, Event::LastRecords);
        }
        self.clients.values_mut().for_each(|client| client.is_draining = true);
        let nodes: Vec<Host> = self.nodes.keys().copied().collect();
        let host = FIRST_CLIENT + 900;
        let reader = Client::new(host, Dice::new(1, self.now_ns), nodes, Client::final_reader());
        self.add_client(reader, host);
        self.at(self.now_ns, Event::LookForRest);
    }

    fn is_overdue(&mut self, what: &str) -> bool {
        let waited_ms = (self.now_ns - self.calm_at_ns) / NS_PER_MS;
        if waited_ms < REST_MS_MAX {
            return false;
        }
        let standings = self.standings();
        let detail = format!("{what}: not within {REST_MS_MAX} ms after the last fault; {standings:?}");
        self.checker.violate("when all is well again, work goes on and comes to an end", detail);
        true
    }

    fn look_for_rest(&mut self) {
        if self.ends_waiting() {
            return;
        }
        match self.unrest() {
            None => self.is_at_rest = true,
            Some(what) => {
                if !self.is_overdue(&what) {
                    self.at(self.now_ns + REST_LOOK_MS * NS_PER_MS, Event::LookForRest);
                }
            }
        }
    }

    /// What is still missing, if anything.
    fn unrest(&self) -> Option<String> {
        let Some(leader) = self.leader() else { return Some("there is a leader".to_string()) };
        if let Some((host, _)) = self.clients.iter().find(|(_, client)| !client.is_drained()) {
            return Some(format!("client {host} has its answers"));
        }
        let end = self.nodes.get(&leader).and_then(|n| n.standing).map(|s| s.log_end);
        for node in self.nodes.values() {
            let standing = node.standing.filter(|_| node.is_up());
            let is_level = standing.is_some_and(|s| {
                Some(s.log_end) == end
                    && s.flushed.0 == s.log_end.0
                    && s.high_watermark.map(|hw| hw.0) == Some(s.log_end.0)
            });
            if !is_level || node.disk.log.end() != end.unwrap_or_default().0 {
                return Some(format!(
                    "node {} has all of node {leader}'s log and knows it committed",
                    node.host
                ));
            }
        }
        if let Some(what) = self.starts_apart(leader) {
            return Some(what);
        }
        let read_to = self.clients.get(&(FIRST_CLIENT + 900)).map(|client| match &client.role {
            workload::Role::Consumer(consumer) => consumer.offset,
            _ => -1,
        });
        (read_to != Some(self.checker.committed_end().0))
            .then(|| "a consumer has read everything".to_string())
    }

    fn outcome(mut self) -> Outcome {
        self.totals.simulated_ns = self.now_ns;
        self.totals.commits = self.checker.commits() as u64;
        self.totals.elections = self.checker.elections() as u64;
        self.totals.acknowledged = self.checker.history.acknowledged;
        self.totals.lies = self.liar.told;
        self.totals.flips = self.network.flips();
        let undone = self.nodes.values().map(|node| node.disk.undone);
        self.totals.undone =
            undone.fold([0; 3], |sum, u| [sum[0] + u.names, sum[1] + u.sizes, sum[2] + u.sectors]);
        let failure = self.checker.violation().cloned().map(|Violation { invariant, detail }| Failure {
            invariant: invariant.to_string(),
            detail,
            at_ms: self.now_ns / NS_PER_MS,
            last: self.trace.take_last(),
        });
        self.trace.event(self.now_ns, 0, 0, self.trace.events());
        let hosts: Vec<Host> = self.nodes.keys().copied().collect();
        if failure.is_none() {
            hosts.into_iter().for_each(|host| self.crash(host, false, "ends"));
        }
        Outcome { hash: self.trace.hash(), totals: self.totals, failure, story: self.trace.take_story() }
    }
}
