//! What goes wrong, and when: each seed draws which faults are on and how often they come (swarm testing).
//!
//! Disks are emptied at any time, all but one together too; only the last disk with the longest log is left alone: what no
//! disk holds any more nobody can promise. Rot strikes a minority of the voters at most, so that work must go on; but in one
//! of eight of the seeds that have any it strikes whichever it likes, a majority too, several at once, with and without a
//! power cut, again and again. All that is said of safety holds there as well; what is waived is told in [`super::waits`].
//!
//! Not here, and why:
//! - Short writes and reads: the device goes on with them itself (`io::log_device`) and completes an operation whole or
//!   as failed; the log never sees one. A file that somebody cut reads as rot does.
//! - A misdirected write that was the last one of a log: where it should have gone nothing tells it from a write that
//!   was never made. It is a lie (`write-misplaced`); what it overwrites elsewhere is a fault (`misdirect`).
//! - Sectors of zeros over what was flushed since the last commit mark: nothing tells them from a write that was never made.
//!   `misdirect` puts other blocks there, and zeros only below the mark.
//! - Bits that flip in a frame outside of its record batches: see `transit`.
//! - A durable quorum-state that vanishes: the voter goes on as one that has forgotten its votes, and says so.

use super::dice::Dice;
use super::network::{Host, Weather};
use super::node::{Arrival, Node};
use super::{Event, FIRST_CLIENT, Simulation};
use crate::types::*;

macro_rules! faults {
    ($($name:ident $word:literal $group:ident $mean_ms:literal $what:literal),* $(,)?) => {
        /// A kind of fault, as it strikes.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Fault { $(#[doc = $what] $name),* }

        impl Fault {
            /// In the order of the table above.
            pub const ALL: &[Fault] = &[$(Fault::$name),*];

            /// One word, as the flags and the story have it.
            pub fn name(self) -> &'static str {
                match self { $(Fault::$name => $word),* }
            }

            /// A sentence for people.
            pub fn what(self) -> &'static str {
                match self { $(Fault::$name => $what),* }
            }

            fn group(self) -> Group {
                match self { $(Fault::$name => Group::$group),* }
            }

            /// Mean time between two of them, before the seed makes it shorter or longer.
            fn mean_ms(self) -> u64 {
                match self { $(Fault::$name => $mean_ms),* }
            }
        }
    };
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Group {
    Process,
    Disk,
    Network,
    Clock,
    Client,
}

faults! {
    Kill "kill" Process 3_000 "a process dies, its disk and connections stay as they are",
    KillInTurn "kill-in-turn" Process 4_000 "a process dies between two actions of a turn",
    KillAll "kill-all" Process 20_000 "all processes die together",
    Terminate "terminate" Process 6_000 "a node is asked to shut down",
    Pause "pause" Process 4_000 "a process stands still, shorter or longer than every timeout",
    PowerCut "power-cut" Disk 5_000 "power fails: unflushed sectors are lost, kept or torn",
    PowerCutAll "power-cut-all" Disk 20_000 "power fails for all nodes together",
    SlowDisk "slow-disk" Disk 6_000 "a disk is a hundred times slower for a while",
    DiskErrors "disk-errors" Disk 10_000 "writes, flushes and reads of a disk fail for a while",
    DiskFull "disk-full" Disk 10_000 "a disk has little room for a while, or none at all; seldom all disks together",
    Rot "rot" Disk 15_000 "a bit of a flushed sector flips",
    Wipe "wipe" Disk 20_000 "a node comes back with an empty disk under the same id",
    Isolate "isolate" Network 5_000 "one node is cut off",
    Split "split" Network 6_000 "the hosts fall into two groups, clients among them",
    OneWay "one-way" Network 6_000 "nothing passes from one node to another, the other way it does",
    Edge "edge" Network 6_000 "two nodes do not reach each other, others do",
    Flap "flap" Network 8_000 "a path is cut and healed again and again",
    Reset "reset" Network 1_000 "connections break, in the middle of a frame",
    Storm "storm" Network 8_000 "long delays and losses everywhere for a while",
    Refuse "refuse" Network 8_000 "connects are refused for a while",
    Drift "drift" Clock 5_000 "a monotonic clock changes its rate: 5 % at most, seldom by half or to the fourfold",
    WallJump "wall-jump" Clock 4_000 "a wall clock jumps, up to a day, back too",
    RotMark "rot-mark" Disk 12_000 "a bit of the commit mark flips",
    RotVotes "rot-votes" Disk 20_000 "a bit of quorum-state flips",
    RotEpochs "rot-epochs" Disk 15_000 "a bit of leader-epoch-checkpoint flips",
    Misdirect "misdirect" Disk 20_000 "a flushed block holds what was meant for another place",
    Flips "flips" Network 8_000 "bits of records flip on their way, for a while",
    Deaf "deaf" Network 8_000 "a node hears nobody, or is heard by nobody",
    ClockJump "clock-jump" Clock 8_000 "a monotonic clock leaps forward, up to a minute",
    RotSummary "rot-summary" Disk 5_000 "a bit of a snapshot or of a segment's summary flips, or an older summary is there again",
    WipeMost "wipe-most" Disk 40_000 "all voters but one with the longest log come back with empty disks",
    Flood "flood" Client 3_000 "a client sends small requests as fast as its sockets take them",
    Unread "unread" Client 3_000 "a client asks for much and takes none of its answers",
    HalfFrames "half-frames" Client 3_000 "connections announce large requests and send a part",
    LargeFrames "large-frames" Client 4_000 "large requests on many connections at once",
    ColdReaders "cold-readers" Client 3_000 "readers of what only the device has, who take their time",
    Crowd "crowd" Client 4_000 "more connections than there are places",
    Forgers "forgers" Client 3_000 "somebody speaks in voters' names: votes, epochs, ends, Fetches",
    Repeats "repeats" Client 4_000 "requests that name one thing again and again",
    Bombs "bombs" Client 5_000 "compressed batches that grow",
    ProducerIds "producer-ids" Client 5_000 "new producer ids without end",
    Parkers "parkers" Client 3_000 "Fetches that wait without end",
    Squatters "squatters" Client 4_000 "many connections in voters' names, more than voters have places",
    Claims "claims" Client 5_000 "every few ms another connection with one request in a voter's name",
}

/// One of so many seeds with rot has it on any voters, a majority too.
const ANY_ROT_ONE_IN: u64 = 8;
/// Of the dice that draw it: none of tests/simulator-seeds.txt became another run by it.
const ANY_ROT_STREAM: u64 = 27;
/// Rot on any voters strikes each other one with this chance too.
const ANY_ROT_PERMILLE: u64 = 400;

/// So many of a thousand seeds of a swarm have hostile clients too.
const HOSTILE_PERMILLE: u64 = 50;

/// How many kinds there are.
pub(crate) const FAULTS: usize = Fault::ALL.len();

impl Fault {
    /// Hostile clients: nothing of the cluster itself is faulty.
    pub(crate) fn is_client(self) -> bool {
        self.group() == Group::Client
    }

    /// What a disk has flushed is not there any more, and nobody is told.
    pub(super) fn is_rot(self) -> bool {
        matches!(self, Fault::Rot | Fault::Misdirect | Fault::RotMark | Fault::RotVotes)
    }

    /// By the name that `--without` takes.
    pub fn parse(name: &str) -> Option<Fault> {
        Fault::ALL.iter().find(|fault| fault.name() == name).copied()
    }
}

/// Which faults may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Each seed draws its own.
    Swarm,
    /// All of them.
    Safety,
    /// Seldom any: what matters is that work goes on.
    Liveness,
    /// Faults of disks, and power cuts.
    Disk,
    /// Faults of connections.
    Network,
    /// Processes that die, stop or stand still.
    Process,
    /// Clocks that jump or drift.
    Clock,
    /// Hostile clients, and nothing else.
    Hostile,
    /// None.
    Calm,
}

impl Profile {
    /// With the names that `--profile` takes.
    pub const ALL: &[(&str, Profile)] = &[
        ("swarm", Profile::Swarm),
        ("safety", Profile::Safety),
        ("liveness", Profile::Liveness),
        ("disk", Profile::Disk),
        ("network", Profile::Network),
        ("process", Profile::Process),
        ("clock", Profile::Clock),
        ("hostile", Profile::Hostile),
        ("calm", Profile::Calm),
    ];

    /// By that name.
    pub fn parse(name: &str) -> Option<Profile> {
        Profile::ALL.iter().find(|(n, _)| *n == name).map(|(_, profile)| *profile)
    }

    /// The faults of a run with their mean intervals in ms. Each draws from dice of its own: leaving one out, or adding
    /// one to the list above, changes nothing for the others.
    pub(super) fn draw(self, chances: &mut [Dice]) -> Vec<(Fault, u64)> {
        let mut drawn = Vec::new();
        // They make a run long: not in all.
        let has_hostile = chances[Fault::Flood as usize].clone().permille(HOSTILE_PERMILLE);
        let has_squatters = chances[Fault::Squatters as usize].clone().permille(300);
        for (fault, dice) in Fault::ALL.iter().zip(chances) {
            let factor = dice.pick(&[3, 10, 10, 30]).unwrap_or(10);
            let is_picked = dice.permille(400) && (has_hostile || !fault.is_client());
            let is_on = match self {
                Profile::Swarm => is_picked,
                Profile::Safety => true,
                Profile::Liveness => is_picked && factor == 30,
                Profile::Disk => fault.group() == Group::Disk,
                Profile::Network => fault.group() == Group::Network,
                Profile::Process => fault.group() == Group::Process,
                Profile::Clock => fault.group() == Group::Clock,
                Profile::Hostile => fault.is_client() && dice.permille(500),
                Profile::Calm => false,
            };
            let is_left_out = *fault == Fault::Squatters && !has_squatters;
            if is_on && !is_left_out {
                drawn.push((*fault, fault.mean_ms() * factor / 10));
            }
        }
        drawn
    }
}

/// May rot strike any voters? With dice of its own: other seeds are as they were.
pub(super) fn rots_any(seed: u64, plan: &[(Fault, u64)]) -> bool {
    plan.iter().any(|(fault, _)| fault.is_rot()) && Dice::new(seed, ANY_ROT_STREAM).below(ANY_ROT_ONE_IN) == 0
}

/// A change for the worse ends again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relief {
    Partition,
    Path(Host, Host),
    Disk(Host),
    Room(Host),
    Weather,
}

impl Simulation {
    /// Ask for the next fault of this kind.
    pub(super) fn plan_fault(&mut self, fault: Fault) {
        let Some((_, mean_ms)) = self.plan.iter().find(|(planned, _)| *planned == fault) else { return };
        let in_ns = 1 + self.chances[fault as usize].around(mean_ms * NS_PER_MS);
        self.at(self.now_ns + in_ns, Event::Fault(fault));
    }

    pub(super) fn on_fault(&mut self, fault: Fault) {
        if self.is_calm {
            return;
        }
        self.plan_fault(fault);
        std::mem::swap(&mut self.chance, &mut self.chances[fault as usize]);
        let hosts: Vec<Host> = self.nodes.keys().copied().collect();
        // Leaders have more to lose.
        let leader = self.leader().filter(|_| self.chance.permille(300));
        let drawn = self.chance.pick(&hosts);
        if let Some(host) = leader.or(drawn)
            && self.inject(fault, host, &hosts)
        {
            self.totals.faults += 1;
            self.totals.of_kind.0[fault as usize] += 1;
        }
        std::mem::swap(&mut self.chance, &mut self.chances[fault as usize]);
    }

    /// False: there was no occasion.
    fn inject(&mut self, fault: Fault, host: Host, hosts: &[Host]) -> bool {
        match fault {
            Fault::Kill => self.kill(host, false, "was killed"),
            Fault::KillInTurn => {
                let after = self.chance.below(4);
                self.with(host, |node| node.dies_after = Some(after))
            }
            Fault::KillAll => {
                hosts.iter().for_each(|host| self.kill(*host, false, "was killed with all others"))
            }
            Fault::Terminate => self.arrive(host, Arrival::Shutdown),
            Fault::Pause => self.pause(host),
            Fault::PowerCut => self.kill(host, true, "lost its power"),
            Fault::PowerCutAll => {
                hosts.iter().for_each(|host| self.kill(*host, true, "lost its power with all others"))
            }
            Fault::SlowDisk => {
                let slowness = self.chance.pick(&[10, 100, 1_000]).unwrap_or(100);
                self.with(host, |node| node.disk.trouble.slowness = slowness);
                self.say(host, "has a slow disk now");
                self.relieve(Relief::Disk(host), 2_000);
            }
            Fault::DiskErrors => self.disk_errors(host),
            Fault::DiskFull => {
                let is_alone = self.chance.permille(800);
                let struck = if is_alone { vec![host] } else { hosts.to_vec() };
                struck.into_iter().for_each(|host| self.fill_disk(host));
            }
            _ if fault.is_rot() && self.rots_any => return self.rot_any(fault, host, hosts),
            _ if fault.is_rot() => return self.can_lose(host) && self.rot(fault, host),
            Fault::RotSummary => {
                return self.nodes.get_mut(&host).is_some_and(|node| node.disk.rot_beside_log());
            }
            Fault::RotEpochs => return self.nodes.get_mut(&host).is_some_and(|node| node.disk.rot_epochs()),
            Fault::Wipe => return self.empty_disk(host),
            Fault::WipeMost => return self.empty_most(),
            Fault::Isolate | Fault::Split => self.split(fault, host, hosts),
            Fault::OneWay | Fault::Edge | Fault::Flap => self.cut_path(fault, host, hosts),
            Fault::Reset => self.reset_some(),
            Fault::Storm | Fault::Refuse | Fault::Flips => self.worsen(fault),
            Fault::Deaf => self.deafen(host),
            Fault::Drift | Fault::WallJump | Fault::ClockJump => self.change_clock(fault, host),
            _ => return self.let_hostile_in(fault),
        }
        true
    }

    fn change_clock(&mut self, fault: Fault, host: Host) {
        let now_ns = self.now_ns;
        match fault {
            Fault::Drift => {
                let (down, up) = match self.chance.below(100) {
                    0..3 => (500_000, 3_000_000),
                    3..10 => (300_000, 300_000),
                    _ => (50_000, 50_000),
                };
                let drift = self.chance.below(down + up) as i64 - down as i64;
                self.with(host, |node| node.clock.set_drift(now_ns, drift));
            }
            Fault::WallJump => {
                let most_ms = self.chance.pick(&[1_000, 3_600_000, 86_400_000]).unwrap_or(1_000);
                let offset_ms = self.chance.below(2 * most_ms) as i64 - most_ms as i64;
                self.with(host, |node| node.clock.set_wall_offset_ms(offset_ms));
            }
            _ => {
                let most_ms = self.chance.pick(&[100, 3_000, 60_000]).unwrap_or(100);
                let by_ns = self.chance.below(most_ms * NS_PER_MS);
                let text = format!("has a clock that leapt by {} ms", by_ns / NS_PER_MS);
                self.say(host, &text);
                if let Some(mut node) = self.nodes.remove(&host) {
                    node.clock.leap(now_ns, by_ns);
                    // Timers go off at once.
                    self.wake(&mut node, 1_000);
                    self.nodes.insert(host, node);
                }
            }
        }
    }

    fn with(&mut self, host: Host, change: impl FnOnce(&mut Node)) {
        if let Some(node) = self.nodes.get_mut(&host) {
            change(node);
        }
    }

    pub(super) fn say(&mut self, host: Host, text: &str) {
        self.trace.line(self.now_ns, host, text);
    }

    fn relieve(&mut self, relief: Relief, mean_ms: u64) {
        let in_ns = self.chance.around(mean_ms * NS_PER_MS);
        self.at(self.now_ns + in_ns, Event::Relief(relief));
    }

    fn kill(&mut self, host: Host, with_power: bool, why: &str) {
        self.crash(host, with_power, why);
        let delay_ns = self.chance.around(600 * NS_PER_MS);
        if let Some(mut node) = self.nodes.remove(&host) {
            self.start_later(&mut node, delay_ns);
            self.nodes.insert(host, node);
        }
    }

    fn pause(&mut self, host: Host) {
        let mean_ms = self.chance.pick(&[20, 500, 4_000]).unwrap_or(500);
        let until = self.now_ns + self.chance.around(mean_ms * NS_PER_MS);
        let text = format!("stands still for {} ms", (until - self.now_ns) / NS_PER_MS);
        self.say(host, &text);
        self.with(host, |node| node.paused_until = until);
    }

    fn fill_disk(&mut self, host: Host) {
        let has_none = self.chance.permille(500);
        self.with(host, |node| node.disk.trouble.is_full = has_none);
        self.arrive(host, Arrival::DiskFree(0));
        self.say(host, if has_none { "has a full disk" } else { "has a disk that is nearly full" });
        self.relieve(Relief::Room(host), 3_000);
    }

    fn disk_errors(&mut self, host: Host) {
        let reads = self.chance.permille(500);
        self.with(host, |node| match reads {
            true => node.disk.trouble.read_error_permille = 300,
            false => {
                (node.disk.trouble.write_error_permille, node.disk.trouble.file_error_permille) = (100, 100)
            }
        });
        self.say(
            host,
            if reads { "has a disk that fails to read" } else { "has a disk that fails to write" },
        );
        self.relieve(Relief::Disk(host), 1_000);
    }

    /// Does another voter hold on its disk all that this one does?
    fn is_kept_elsewhere(&self, host: Host) -> bool {
        let Some(node) = self.nodes.get(&host) else { return false };
        let is_keeper = |other: &Node| {
            other.is_voter() && !other.has_rotten() && other.durable_last() >= node.durable_last()
        };
        !node.is_voter() || self.nodes.values().any(|other| other.host != host && is_keeper(other))
    }

    /// May something of this disk rot? A majority without rot goes on: all others have caught up with a leader once.
    fn can_lose(&self, host: Host) -> bool {
        if !self.is_kept_elsewhere(host) {
            return false;
        }
        let is_born = |node: &Node| node.says_caught_up() && node.disk.log.end() > Offset(0);
        if self.nodes.values().any(|node| node.is_voter() && node.is_behind.is_none() && !is_born(node)) {
            return false;
        }
        self.is_one_of_a_minority(host)
    }

    /// With this one no more than a minority of the voters has lost something.
    fn is_one_of_a_minority(&self, host: Host) -> bool {
        let Some(node) = self.nodes.get(&host) else { return false };
        let voters = self.nodes.values().filter(|node| node.is_voter());
        let lost = voters.clone().filter(|node| node.may_be_lost()).count();
        !node.is_voter() || node.may_be_lost() || lost < (voters.count() - 1) / 2
    }

    /// May this disk be empty? All may but one: they say that they hold nothing, and elect whoever does with the vote of
    /// everybody. Who is in doubt of its log gives none, so that then a majority must have lost nothing.
    fn can_be_emptied(&self, host: Host) -> bool {
        if self.rots_any {
            return self.nodes.get(&host).is_some_and(|node| self.can_be_refilled(node));
        }
        let withholds = |node: &Node| node.is_voter() && (node.is_in_doubt || node.has_rotten());
        let is_vote_missing = self.nodes.values().any(|other| other.host != host && withholds(other));
        self.is_kept_elsewhere(host) && (!is_vote_missing || self.is_one_of_a_minority(host))
    }

    /// Several disks in one moment, in which their power may fail too: what was under way is torn or lost then.
    fn rot_any(&mut self, fault: Fault, host: Host, hosts: &[Host]) -> bool {
        let is_struck = |other: &&Host| **other == host || self.chance.permille(ANY_ROT_PERMILLE);
        let struck: Vec<Host> = hosts.iter().filter(is_struck).copied().collect();
        let when = self.chance.below(3);
        let mut is_done = false;
        for host in struck {
            if when == 1 {
                self.kill(host, true, "lost its power");
            }
            // What a start must doubt, and not what it must refuse for: of that there is more.
            let is_unvouched = fault == Fault::Rot
                && self.nodes.get_mut(&host).is_some_and(|node| node.disk.rot_unvouched());
            is_done |= is_unvouched || self.rot(fault, host);
            if when == 2 {
                self.kill(host, true, "lost its power");
            }
        }
        if is_done && self.is_majority_struck() {
            self.totals.majorities_struck += 1;
        }
        is_done
    }

    fn rot(&mut self, fault: Fault, host: Host) -> bool {
        let Some(node) = self.nodes.get_mut(&host) else { return false };
        let is_done = match fault {
            Fault::Misdirect => node.disk.misdirect(),
            Fault::RotMark => node.disk.rot_mark(),
            Fault::RotVotes => node.disk.rot_votes(),
            _ => node.disk.rot(),
        };
        if !is_done {
            return false;
        }
        self.say(host, fault.what());
        true
    }

    /// The node dies, gets a new disk and comes back.
    fn empty_disk(&mut self, host: Host) -> bool {
        if !self.can_be_emptied(host) {
            return false;
        }
        self.crash(host, true, "lost its disk");
        if let Some(mut node) = self.nodes.remove(&host) {
            self.wipe(&mut node);
            let delay_ns = self.chance.around(600 * NS_PER_MS);
            self.start_later(&mut node, delay_ns);
            self.nodes.insert(host, node);
        }
        true
    }

    fn empty_most(&mut self) -> bool {
        let voters = self.nodes.values().filter(|node| node.is_voter() && !node.has_rotten());
        let keeper = voters.max_by_key(|node| node.durable_last()).map(|node| node.host);
        let hosts: Vec<Host> = self.nodes.values().filter(|node| node.is_voter()).map(|n| n.host).collect();
        let mut done = false;
        for host in hosts {
            done |= Some(host) != keeper && self.empty_disk(host);
        }
        done
    }

    pub(super) fn everybody(&self) -> Vec<Host> {
        self.nodes.keys().chain(self.clients.keys()).copied().collect()
    }

    fn split(&mut self, fault: Fault, host: Host, hosts: &[Host]) {
        let takes_clients = self.chance.permille(300);
        let mut inside = vec![host];
        if fault == Fault::Split {
            inside.extend(hosts.iter().filter(|_| self.chance.permille(400)));
        }
        for other in self.everybody() {
            let is_free = other >= FIRST_CLIENT && !takes_clients;
            if is_free || inside.contains(&other) {
                continue;
            }
            for member in &inside {
                self.network.block(*member, other);
                self.network.block(other, *member);
            }
        }
        let text =
            format!("nodes {inside:?} are cut off{}", if takes_clients { ", from clients too" } else { "" });
        self.say(0, &text);
        self.relieve(Relief::Partition, 2_000);
    }

    fn cut_path(&mut self, fault: Fault, host: Host, hosts: &[Host]) {
        let others: Vec<Host> = hosts.iter().copied().filter(|other| *other != host).collect();
        let Some(other) = self.chance.pick(&others) else { return };
        let times = if fault == Fault::Flap { 8 } else { 1 };
        self.network.block(host, other);
        if fault == Fault::Edge {
            self.network.block(other, host);
        }
        let text = format!("{}: from {host} to {other}", fault.what());
        self.say(0, &text);
        for time in 0..times {
            let at = self.now_ns + time * 400 * NS_PER_MS;
            let healed_at = at + self.chance.around(300 * NS_PER_MS);
            self.at(healed_at, Event::Relief(Relief::Path(host, other)));
            if time > 0 {
                self.at(at, Event::Cut(host, other));
            }
        }
    }

    /// All that others send to the node is held up, or all that it sends.
    fn deafen(&mut self, host: Host) {
        let hears = self.chance.permille(500);
        let takes_clients = self.chance.permille(300);
        for other in self.everybody() {
            if other != host && (other < FIRST_CLIENT || takes_clients) {
                match hears {
                    true => self.network.block(host, other),
                    false => self.network.block(other, host),
                }
            }
        }
        self.say(host, if hears { "is heard by nobody" } else { "hears nobody" });
        self.relieve(Relief::Partition, 2_000);
    }

    fn reset_some(&mut self) {
        let wires = self.network.open_wires();
        let share = self.chance.pick(&[50, 300, 1000]).unwrap_or(300);
        for wire in wires {
            if self.chance.permille(share) {
                self.network.reset(self.now_ns, wire);
            }
        }
        self.say(0, "connections were reset");
    }

    fn worsen(&mut self, fault: Fault) {
        let mean_ms = self.chance.pick(&[5, 50, 300]).unwrap_or(50);
        self.network.weather = match fault {
            Fault::Refuse => Weather { refuse_permille: 500, ..self.network.weather },
            Fault::Flips => Weather { flip_permille: 1 + self.chance.below(200), ..self.network.weather },
            _ => Weather {
                delay_mean_ns: mean_ms * NS_PER_MS,
                loss_permille: self.chance.below(300),
                cut_permille: 800,
                ..self.network.weather
            },
        };
        let text = format!("{}: {:?}", fault.what(), self.network.weather);
        self.say(0, &text);
        self.relieve(Relief::Weather, 3_000);
    }

    pub(super) fn on_relief(&mut self, relief: Relief) {
        match relief {
            Relief::Partition => {
                self.network.heal();
                self.say(0, "the network is whole again");
            }
            Relief::Path(from, to) => {
                self.network.unblock(from, to);
                self.network.unblock(to, from);
            }
            Relief::Disk(host) => self.with(host, |node| node.disk.trouble = Default::default()),
            Relief::Room(host) => {
                self.with(host, |node| node.disk.trouble.is_full = false);
                self.arrive(host, Arrival::DiskFree(1 << 40));
            }
            Relief::Weather => self.network.weather = self.fair.clone(),
        }
    }

    /// All faults end: everything is whole, on time and running from here on.
    pub(super) fn calm_down(&mut self) {
        self.is_calm = true;
        self.network.heal();
        self.network.weather = Weather::FAIR;
        self.say(0, "all faults have ended");
        for mut hostile in std::mem::take(&mut self.hostiles).into_values() {
            hostile.go(self.now_ns, &mut self.network);
        }
        let hosts: Vec<Host> = self.nodes.keys().copied().collect();
        for host in hosts {
            let now_ns = self.now_ns;
            self.with(host, |node| {
                node.disk.trouble = Default::default();
                node.clock.set_drift(now_ns, 0);
                node.clock.set_wall_offset_ms(0);
                node.paused_until = 0;
                node.dies_after = None;
            });
            // Its next start looks at the whole log, and it gets another disk.
            if self.nodes.get(&host).is_some_and(|node| node.disk.is_log_rotten()) {
                self.crash(host, false, "is stopped: an operator saw the rot");
            }
            if let Some(mut node) = self.nodes.remove(&host) {
                self.start_later(&mut node, 1_000);
                self.wake(&mut node, 1_000);
                self.nodes.insert(host, node);
            }
            self.arrive(host, Arrival::DiskFree(1 << 40));
        }
    }
}
