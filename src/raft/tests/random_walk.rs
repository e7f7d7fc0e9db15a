//! Random histories of small clusters: messages lost, late, doubled and out of order, disks that finish when they
//! like, power cuts at any moment. An all-knowing observer checks after every step what Raft promises.

use std::collections::BTreeMap;

use super::cluster::{Batch, Cluster, Payload};
use super::random::Random;
use super::*;

/// What the observer has seen: none of it may ever be contradicted.
#[derive(Default)]
struct Oracle {
    leaders: BTreeMap<Epoch, NodeId>,
    votes: BTreeMap<(NodeId, Epoch), ReplicaKey>,
    committed: Vec<Batch>,
    /// For each of them, the epoch of the leader that committed it.
    committed_in: Vec<Epoch>,
    high_watermarks: BTreeMap<NodeId, (u64, HighWatermark)>,
    commits: usize,
    elections: usize,
}

impl Oracle {
    fn committed_end(&self) -> Offset {
        Offset(self.committed.last().map_or(0, |batch| batch.span.last.0 + 1))
    }

    fn check(&mut self, cluster: &mut Cluster) {
        assert!(cluster.stops.is_empty(), "nobody lacks what is committed: {:?}", cluster.stops);
        for (id, high_watermark, led) in std::mem::take(&mut cluster.risen) {
            self.check_risen(cluster, id, high_watermark, led);
        }
        for (id, node) in &cluster.nodes {
            if let Some(raft) = &node.raft {
                self.check_node(*id, node.life, raft, &node.log, node.writing_state.is_some());
            }
            // A vote that was lost before it was durable was never spoken.
            if let Some(voted) = node.disk_state.voted {
                let epoch = node.disk_state.epoch;
                let first = *self.votes.entry((*id, epoch)).or_insert(voted);
                assert_eq!(first, voted, "{id} voted twice in epoch {epoch}");
            }
        }
    }

    fn check_node(&mut self, id: NodeId, life: u64, raft: &Raft, log: &[Batch], is_writing: bool) {
        if raft.is_leader() && !is_writing {
            let leader = *self.leaders.entry(raft.epoch()).or_insert_with(|| {
                self.elections += 1;
                id
            });
            assert_eq!(leader, id, "two leaders in epoch {}", raft.epoch());
            // What later leaders commit, one that is deposed and does not know it yet may lack: records of older epochs too.
            let known = self.committed_in.partition_point(|epoch| *epoch <= raft.epoch());
            assert!(
                log.starts_with(&self.committed[..known]),
                "leader {id} of epoch {} lacks committed records",
                raft.epoch()
            );
        }
        if let Some(known) = raft.high_watermark.filter(|_| !is_writing) {
            let (seen_life, seen) = *self.high_watermarks.entry(id).or_insert((life, known));
            assert!(seen_life != life || seen <= known, "the high watermark of {id} fell");
            self.high_watermarks.insert(id, (life, known));
        }
    }

    /// Committed is what a majority has on its disks, and it is the same for everybody for ever.
    fn check_risen(&mut self, cluster: &Cluster, id: NodeId, high_watermark: HighWatermark, led: bool) {
        let node = &cluster.nodes[&id];
        let below: Vec<Batch> =
            node.log.iter().copied().filter(|batch| batch.span.last < high_watermark.0).collect();
        let shared = below.len().min(self.committed.len());
        assert_eq!(below[..shared], self.committed[..shared], "{id} contradicts what is committed");
        if below.len() <= self.committed.len() {
            return;
        }
        // It may have been deposed in the same turn: the first commit of a voter's life is told after a write of quorum-state.
        assert!(led, "{id} commits up to {high_watermark} and did not lead");
        let holders = cluster
            .voters
            .iter()
            .filter(|voter| cluster.nodes[&voter.id].durable_log().starts_with(&below))
            .count();
        assert!(
            holders > cluster.voters.len() / 2,
            "{id} commits up to {high_watermark}, durable on {holders} of {}",
            cluster.voters.len()
        );
        // A leader counts holders of records of its own epoch only.
        let epoch = below.last().map_or(Epoch(0), |batch| batch.span.epoch);
        self.committed_in.resize(below.len(), epoch);
        self.commits += below.len() - self.committed.len();
        self.committed = below;
    }
}

const TURNS: usize = 5000;
/// Timeouts of the walks are this much shorter than Kafka's.
const HURRY: u64 = 10;

struct Walk {
    cluster: Cluster,
    random: Random,
    oracle: Oracle,
    /// Pairs that cannot talk, in that direction.
    cut: Vec<(NodeId, NodeId)>,
    restarts: BTreeMap<NodeId, u64>,
    is_appending: bool,
    /// Its log takes long to become durable.
    slow_disk: Option<NodeId>,
}

impl Walk {
    fn new(voters: i32, observers: i32, seed: u64) -> Walk {
        let mut cluster = Cluster::new(voters, observers, seed, HURRY);
        cluster.fetch_batches_max = 1 + (seed % 4) as usize;
        Walk {
            cluster,
            random: Random::new(seed),
            oracle: Oracle::default(),
            cut: Vec::new(),
            restarts: BTreeMap::new(),
            is_appending: true,
            slow_disk: None,
        }
    }

    fn chance(&mut self, of_thousand: u64) -> bool {
        self.random.below(1000) < of_thousand
    }

    fn any_node(&mut self) -> NodeId {
        let ids = self.cluster.ids();
        ids[self.random.below(ids.len() as u64) as usize]
    }

    fn turn(&mut self, faults: bool) {
        let id = self.any_node();
        match self.random.below(100) {
            0..=49 => self.move_message(faults),
            50..=74 => self.move_disk(id),
            75..=84 => self.move_clock(),
            85..=92 if self.is_appending => self.append(id),
            _ if faults => self.inject_fault(id),
            _ => {}
        }
        self.cluster.trace.clear();
        self.oracle.check(&mut self.cluster);
    }

    fn move_message(&mut self, faults: bool) {
        if self.cluster.network.is_empty() {
            return;
        }
        let index = self.random.below(self.cluster.network.len() as u64) as usize;
        let index = if self.chance(800) { 0 } else { index };
        let message = self.cluster.network.remove(index);
        let is_cut = self.cut.contains(&(message.from, message.to));
        let is_failure = matches!(message.payload, Payload::Failed(_));
        if !is_failure && (is_cut || (faults && self.chance(20))) {
            return self.cluster.lose(message);
        }
        if faults && !is_failure && self.chance(20) {
            self.cluster.network.push(message.clone());
        }
        self.cluster.deliver(message);
    }

    fn move_disk(&mut self, id: NodeId) {
        let is_slow = self.slow_disk == Some(id) && !self.chance(30);
        if !self.cluster.is_up(id) {
            return;
        }
        self.cluster.complete_quorum_state(id);
        if is_slow {
            return;
        }
        let node = &self.cluster.nodes[&id];
        if node.writing_state.is_some() {
            return;
        }
        if let Some((log, _)) = &node.before_truncation {
            let old_end = log.last().map_or(0, |batch| batch.span.last.0 + 1);
            if self.chance(300) {
                // A write that the truncation overtook.
                self.cluster.complete_flush(id, Offset(old_end));
            }
            return self.cluster.complete_truncation(id);
        }
        let flushed = node.flushed();
        let unflushed: Vec<Offset> =
            node.log.iter().map(|batch| Offset(batch.span.last.0 + 1)).filter(|end| *end > flushed).collect();
        if !unflushed.is_empty() {
            let to = unflushed[self.random.below(unflushed.len() as u64) as usize];
            self.cluster.complete_flush(id, to);
        }
    }

    /// To the next deadline, or only a little: timers of some nodes run late.
    fn move_clock(&mut self) {
        let step_ms = if self.chance(60) { 60 } else { [0, 1, 2, 3, 5][self.random.below(5) as usize] };
        self.cluster.now.monotonic_ns += step_ms * NS_PER_MS;
        for id in self.cluster.ids() {
            if !self.cluster.is_up(id) {
                if self.restarts.get(&id).is_some_and(|at| *at <= self.cluster.now.monotonic_ns) {
                    self.cluster.start(id);
                }
                continue;
            }
            self.cluster.wake_parked(id);
            let deadline = self.cluster.nodes[&id].raft().deadline();
            if deadline.is_some_and(|deadline| deadline <= self.cluster.now.monotonic_ns) && self.chance(800)
            {
                self.cluster.step(id, Event::Tick, Vec::new());
            }
        }
    }

    /// To whoever leads or once led, now and then to somebody else.
    fn append(&mut self, other: NodeId) {
        let leaders: Vec<NodeId> = self
            .cluster
            .nodes
            .values()
            .filter(|node| node.raft.as_ref().is_some_and(Raft::is_leader))
            .map(|node| node.key.id)
            .collect();
        let chosen = self.random.below(leaders.len() as u64 + 1) as usize;
        let id = leaders.get(chosen).copied().unwrap_or(other);
        if self.cluster.is_up(id) {
            let offsets = 1 + self.random.below(3) as i64;
            self.cluster.append(id, offsets);
        }
    }

    fn inject_fault(&mut self, id: NodeId) {
        match self.random.below(40) {
            0..=3 if self.cluster.is_up(id) => {
                let unflushed = self.cluster.nodes[&id].log.len() as u64;
                let keeps =
                    (self.chance(500), self.chance(500), self.random.below(1 + unflushed / 2) as usize);
                self.cluster.crash(id, keeps);
                let at = self.cluster.now.plus_ms(self.random.below(300));
                self.restarts.insert(id, at);
            }
            4 if self.cluster.is_up(id) => self.cluster.step(id, Event::FlushStalled, Vec::new()),
            5 if self.cluster.is_up(id) => self.cluster.step(id, Event::Shutdown, Vec::new()),
            6..=8 => {
                let other = self.any_node();
                self.cut.push((id, other));
                if self.chance(500) {
                    self.cut.push((other, id));
                }
            }
            9..=12 => self.cut.clear(),
            13..=14 => self.slow_disk = Some(id),
            15 => self.slow_disk = None,
            // Also by one that lives: the path lies.
            16..=18 if self.cluster.is_up(id) => {
                let by = self.any_node();
                self.cluster.step(id, Event::Refused { by }, Vec::new());
            }
            _ => {}
        }
        if self.cluster.is_up(id) && self.cluster.nodes[&id].is_shut_down {
            self.cluster.crash(id, (true, true, 0));
            self.restarts.insert(id, self.cluster.now.plus_ms(50));
        }
    }

    /// Until every voter has once caught up: before that a wiped disk cannot be told from a new one, and a cluster
    /// that loses its first leader may rightly wait for it.
    fn begin(&mut self) {
        self.is_appending = false;
        self.turn_until("caught up voters", |walk| {
            walk.cluster.voters.iter().all(|voter| walk.cluster.nodes[&voter.id].disk_state.caught_up)
        });
        self.is_appending = true;
    }

    /// Faults have ceased: a leader, a commit, and everybody with the same log.
    fn check_recovery(&mut self) {
        self.cut.clear();
        self.slow_disk = None;
        for id in self.cluster.ids() {
            if self.cluster.is_up(id) && self.cluster.nodes[&id].raft().shutdown != Shutdown::No {
                self.cluster.crash(id, (true, true, 0));
            }
            if !self.cluster.is_up(id) {
                self.cluster.start(id);
            }
        }
        let before = self.oracle.committed_end();
        self.turn_until("a commit", |walk| walk.oracle.committed_end() > before);
        self.is_appending = false;
        self.turn_until("the same committed log everywhere", Walk::has_converged);
    }

    fn turn_until(&mut self, wanted: &str, is_reached: impl Fn(&Walk) -> bool) {
        for turn in 0..20_000 {
            self.turn(false);
            if turn % 100 == 0 && is_reached(self) {
                return;
            }
        }
        let states: Vec<String> = self
            .cluster
            .nodes
            .values()
            .map(|node| {
                let raft = node.raft();
                let known = raft.high_watermark();
                format!(
                    "{} {:?} {:?} {} {known:?}",
                    node.key.id,
                    raft.role(),
                    raft.quorum_state(),
                    raft.log_end()
                )
            })
            .collect();
        panic!("never reached {wanted}: {states:#?}");
    }

    fn has_converged(&self) -> bool {
        self.cluster.nodes.values().all(|node| {
            node.durable_log() == self.oracle.committed
                && node.raft().high_watermark().is_some_and(|known| known.0 == self.oracle.committed_end())
        })
    }
}

fn walk(voters: i32, observers: i32, seed: u64, turns: usize) -> Oracle {
    let mut walk = Walk::new(voters, observers, seed);
    walk.begin();
    for _ in 0..turns {
        walk.turn(true);
    }
    walk.check_recovery();
    walk.oracle
}

/// All seeds of one size; a failing one is named, and then run alone by its number.
fn walks(voters: i32, observers: i32, seeds: std::ops::Range<u64>, commits_min: usize) {
    let (mut commits, mut elections) = (0, 0);
    let seeds_count = seeds.clone().count();
    for seed in seeds {
        let run = std::panic::catch_unwind(|| walk(voters, observers, seed, TURNS));
        match run {
            Ok(oracle) => {
                commits += oracle.commits;
                elections += oracle.elections;
            }
            Err(why) => {
                eprintln!("seed {seed} of {voters} voters failed");
                std::panic::resume_unwind(why);
            }
        }
    }
    // A walk in which nothing happens proves nothing.
    assert!(
        commits > commits_min && elections > 2 * seeds_count,
        "only {commits} commits and {elections} elections in {seeds_count} walks"
    );
}

#[test]
fn three_voters_keep_their_promises() {
    walks(3, 1, 0..400, 5_000);
}

#[test]
fn five_voters_keep_their_promises() {
    walks(5, 0, 1000..1200, 2_000);
}

/// Where half of the voters are no majority.
#[test]
fn even_numbers_of_voters_keep_their_promises() {
    walks(2, 0, 3000..3100, 1_000);
    walks(4, 0, 4000..4100, 1_000);
}

#[test]
fn one_voter_keeps_its_promises() {
    walks(1, 1, 2000..2050, 1_000);
}
