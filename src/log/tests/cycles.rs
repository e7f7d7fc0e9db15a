//! Random appends, truncations, reads and crashes over small segments, held against a model of what may be left.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::record::StampedBatch;
use crate::types::*;

const SEEDS: u64 = 1500;
const LIVES: usize = 6;
const ACTIONS: u64 = 40;

/// What the log must be.
#[derive(Default)]
struct Model {
    batches: Vec<StampedBatch>,
    flushed: Offset,
    /// What the log was before each truncation that is not durable yet: a crash may leave that instead.
    before: Vec<Vec<StampedBatch>>,
    /// Told to the log in this life or before: never cut below.
    committed: Offset,
    /// Where it starts for certain, and where it was told to.
    start: Offset,
    start_wanted: Offset,
    /// The last durable quorum state's file, and those asked for since.
    quorum_states: Vec<Option<Vec<u8>>>,
}

impl Model {
    fn truncate(&mut self, to: Offset) {
        self.before.push(self.batches.clone());
        self.batches.retain(|b| b.next_offset() <= to);
        self.flushed = self.flushed.min(to);
    }

    /// Whole batches that a crash left: all that was flushed, and nothing else than the batches of the log, in order, from the one
    /// on in which it starts.
    fn check_recovered(&self, start: Offset, recovered: &[StampedBatch], seed: u64) {
        let is_told = (self.start..=self.start_wanted).contains(&start);
        assert!(
            is_told,
            "seed {seed}: starts at {start}, told were {} and {}",
            self.start, self.start_wanted
        );
        let end = recovered.last().map_or(start, StampedBatch::next_offset);
        assert!(end >= self.flushed, "seed {seed}: recovered up to {end}, flushed was {}", self.flushed);
        let is_prefix = |of: &Vec<StampedBatch>| {
            let of = &of[of.partition_point(|b| b.next_offset() <= start)..];
            recovered.len() <= of.len() && recovered.iter().zip(of).all(|(a, b)| bytes_of(a) == bytes_of(b))
        };
        let known = is_prefix(&self.batches) || self.before.iter().any(is_prefix);
        assert!(known, "seed {seed}: what was recovered up to {end} never was the log");
    }

    fn on_event(&mut self, event: LogEvent, seed: u64) {
        match event {
            LogEvent::Flushed(FlushedOffset(end)) => {
                assert!(end > self.flushed, "seed {seed}: flushed fell");
                let known = self.batches.iter().any(|b| b.next_offset() == end);
                assert!(known, "seed {seed}: flushed {end} is no end of a batch of the log");
                self.flushed = end;
            }
            LogEvent::StartMoved { start, .. } => {
                assert!(start.offset > self.start && start.offset <= self.start_wanted, "seed {seed}");
                self.start = start.offset;
            }
            LogEvent::Truncated(_) => _ = self.before.remove(0),
            LogEvent::QuorumStateDurable => _ = self.quorum_states.remove(0),
            LogEvent::ReadDone { result: Ok(batches), .. } => {
                self.check_read(&batches.iter().collect::<Vec<_>>(), seed)
            }
            LogEvent::ReadDone { result: Err(ReadError::Gone), .. }
            | LogEvent::Readable(..)
            | LogEvent::Ready => {}
            other => panic!("seed {seed}: {other:?}"),
        }
    }

    fn check_read(&self, read: &[StampedBatch], seed: u64) {
        let Some(first) = read.first() else { return };
        let at = self.batches.iter().position(|b| b.base_offset() == first.base_offset());
        let at = at.unwrap_or_else(|| panic!("seed {seed}: read a batch that is not in the log"));
        for (read, batch) in read.iter().zip(&self.batches[at..]) {
            let same = bytes_of(read) == bytes_of(batch);
            assert!(same, "seed {seed}: read {:?}, appended was {:?}", read.header(), batch.header());
        }
    }
}

fn config(disk: &mut SimDisk) -> LogConfig {
    let random = &mut disk.random;
    LogConfig {
        segment_bytes_max: 10_000 + random.below(30_000),
        segment_ms_max: i64::MAX,
        zero_ahead_bytes: 4096 << random.below(4),
        write_buffer_bytes: 4096 << random.below(2),
        write_buffers: 1 + random.below(4) as usize,
        group_bytes_max: 4096 << random.below(4),
        tail_cache_bytes_max: random.below(20_000) as usize,
        copies_unread: random.chance(50),
        read_cache_bytes_max: random.below(4) as usize * (16 << 10),
        read_piece_bytes: 16 << 10,
        unflushed_bytes_max: 50_000,
        commit_mark_idle_ms: 1 + random.below(20),
        index_interval_bytes: 4096 << random.below(4),
        check: LogCheck::Tail,
    }
}

fn act(node: &mut Node, model: &mut Model, seed: u64) {
    let dice = node.disk.random.below(100);
    match dice {
        0..40 => append(node, model),
        40..48 => {
            if node.disk.random.chance(50) {
                node.epoch += 1;
            }
            let to = truncation_point(node, model);
            model.truncate(to);
            node.log.truncate(to);
            assert_eq!(
                node.log.log_end().0,
                model.batches.last().map_or(node.log.log_start(), StampedBatch::next_offset)
            );
        }
        48..55 => {
            let start = node.log.log_start().0;
            let from =
                Offset(start + node.disk.random.below((node.log.log_end().0.0 - start) as u64 + 1) as i64);
            let max_bytes = node.disk.random.below(9000) as usize;
            if let ReadOutcome::Batches(read) = node.log.read(from, node.log.log_end().0, max_bytes, 0) {
                let read: Vec<_> = read.iter().collect();
                assert!(read[0].base_offset() <= from && from < read[0].next_offset());
                model.check_read(&read, seed);
            }
        }
        55..60 => {
            // No batch is of a later epoch than quorum-state.
            let state = QuorumState { epoch: Epoch(1_000 + node.next_tag as i32), ..QuorumState::EMPTY };
            model.quorum_states.push(Some(quorum_state::encode(&state)));
            node.log.write_quorum_state(state);
        }
        60..66 => {
            // Seldom all of it, so that there is something to cut.
            let flushed = node.log.flushed().0;
            let some = node.disk.random.below(flushed.0 as u64 + 1) as i64;
            let told = if node.disk.random.chance(20) { flushed } else { Offset(some / 2) };
            let ends = model.batches.iter().map(StampedBatch::next_offset);
            let committed = ends.take_while(|end| *end <= told).last().unwrap_or(Offset(0));
            model.committed = model.committed.max(committed);
            node.log.on_committed(HighWatermark(committed));
        }
        66..69 => {
            let left = (model.committed.0 - model.start_wanted.0) as u64;
            let to = model.start_wanted.0 + node.disk.random.below(left + 1) as i64;
            model.start_wanted = Offset(to);
            node.start_at(to);
        }
        69..72 => {
            let ms = node.disk.random.below(30);
            node.pass_ms(ms);
        }
        _ => {
            for _ in 0..node.disk.random.below(6) {
                node.complete_any();
            }
        }
    }
    if dice.is_multiple_of(2) {
        node.turn();
    }
}

fn append(node: &mut Node, model: &mut Model) {
    for _ in 0..=node.disk.random.below(4) {
        let value_bytes = match node.disk.random.below(20) {
            0 => 30_000,
            // Behind a batch that ends with a block no padding covers what was there.
            1..6 => WHOLE_BLOCK,
            _ => node.disk.random.below(900) as usize,
        };
        let records = if value_bytes == WHOLE_BLOCK { 1 } else { 1 + node.disk.random.below(3) as usize };
        model.batches.push(node.append(records, value_bytes));
    }
}

/// The end of any batch, or the start of the log; newer ones more often.
fn truncation_point(node: &mut Node, model: &Model) -> Offset {
    let count = model.batches.len() as u64;
    let back = if node.disk.random.chance(70) {
        node.disk.random.below(6)
    } else {
        node.disk.random.below(count + 1)
    };
    let keep = count.saturating_sub(back) as usize;
    let start = model.batches.first().map_or(model.start, StampedBatch::base_offset);
    let end = keep.checked_sub(1).map_or(start, |last| model.batches[last].next_offset());
    end.max(model.committed)
}

/// The process ends, one way or another. What is left of the disk.
fn end_life(mut node: Node, model: &mut Model, seed: u64) -> SimDisk {
    match node.disk.random.below(4) {
        0 => {
            node.log.shutdown();
            let mut events = node.settle();
            let shut_down = events.iter().position(|e| matches!(e, LogEvent::ShutDown));
            events.remove(shut_down.unwrap_or_else(|| panic!("seed {seed}: {events:?}")));
            events.into_iter().for_each(|event| model.on_event(event, seed));
            assert_eq!(model.flushed, node.log.log_end().0, "seed {seed}: a clean end flushes all");
        }
        1 => node.disk.kill(),
        _ => {
            node.disk.kill();
            node.disk.cut_power();
        }
    }
    // Told before the end is told.
    node.events().into_iter().for_each(|event| model.on_event(event, seed));
    node.disk
}

/// Gives how many summaries were believed, and how many starts were in doubt though nothing had rotted.
fn run(seed: u64) -> (usize, usize) {
    let mut disk = SimDisk::new(seed);
    let config = config(&mut disk);
    let mut model = Model { quorum_states: vec![None], ..Model::default() };
    let (mut next_tag, mut summaries, mut doubts) = (1, 0, 0);
    for _ in 0..LIVES {
        let mut node = match Node::open(disk, config.clone()) {
            Ok(node) => node,
            Err(error) => panic!("seed {seed}: {error}"),
        };
        node.next_tag = next_tag;
        if node.doubt.is_some() {
            doubts += 1;
            model.quorum_states.push(Some(quorum_state::encode(&node.quorum_state)));
        }
        // An early death during the opening repairs loses nothing either.
        for _ in 0..node.disk.random.below(12) {
            node.turn();
            node.complete_any();
        }
        if node.disk.random.chance(20) {
            node.disk.kill();
            if node.disk.random.chance(50) {
                node.disk.cut_power();
            }
            disk = node.disk;
            continue;
        }
        node.settle();
        let start = node.log.log_start();
        let recovered = node.read_all().unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        model.check_recovered(start, &recovered, seed);
        summaries += node.effort.summaries;
        let file = quorum_state_file(&node);
        assert!(model.quorum_states.contains(&file), "seed {seed}: a quorum state is lost");
        model = Model {
            flushed: node.log.flushed().0,
            batches: recovered,
            before: Vec::new(),
            quorum_states: vec![file],
            committed: model.committed,
            start,
            start_wanted: start,
        };
        assert_eq!(model.flushed, node.log.log_end().0);
        // Higher than any that a lost life wrote.
        node.epoch += 1;
        for _ in 0..node.disk.random.below(ACTIONS) {
            act(&mut node, &mut model, seed);
            node.events().into_iter().for_each(|event| model.on_event(event, seed));
        }
        next_tag = node.next_tag;
        disk = end_life(node, &mut model, seed);
    }
    (summaries, doubts)
}

fn quorum_state_file(node: &Node) -> Option<Vec<u8>> {
    node.disk.small(SmallFile::QuorumState).map(<[u8]>::to_vec)
}

#[test]
fn what_was_flushed_survives_and_what_was_cut_stays_away() {
    let (summaries, doubts) = (0..SEEDS).map(run).fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
    assert!(summaries as u64 > SEEDS, "only {summaries} summaries were believed");
    println!("{doubts} starts in doubt after {} lives", SEEDS * LIVES as u64);
    assert!(doubts as u64 <= SEEDS * LIVES as u64 / 100, "{doubts} starts in doubt, and nothing had rotted");
}
