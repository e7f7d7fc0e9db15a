//! Blocks held against a model of what each offset holds, beside random appends, flushes, cuts into whatever state a read is in,
//! and readers who keep what they were given.

use super::disk::SimDisk;
use super::harness::*;
use crate::log::*;
use crate::record::{BatchList, StampedBatch};
use crate::types::*;
use std::sync::{Arc, Weak};

const SEEDS: u64 = 600;
const ACTIONS: usize = 250;
const PIECE_BYTES: usize = 16 << 10;

fn config(random: &mut super::disk::Random) -> LogConfig {
    LogConfig {
        segment_bytes_max: 20_000 + random.below(60_000),
        tail_cache_bytes_max: [0, 4_000, 8_000, 3 * PIECE_BYTES][random.below(4) as usize],
        index_interval_bytes: 1_024 << random.below(4),
        read_cache_bytes_max: [0, 1, 2, 3, 8, 100][random.below(6) as usize] * PIECE_BYTES,
        read_piece_bytes: PIECE_BYTES,
        unflushed_bytes_max: 1 << 20,
        ..small_config()
    }
}

/// Somebody who waits for the device.
struct Asked {
    token: u64,
    from: Offset,
    bound: Offset,
    max_bytes: usize,
    /// What was there is cut since.
    is_cut: bool,
}

/// An answer that has not been taken.
struct Held {
    batches: BatchList,
    /// As it was when it was given.
    bytes: Vec<u8>,
}

struct Model {
    node: Node,
    batches: Vec<StampedBatch>,
    asked: Vec<Asked>,
    held: Vec<Held>,
    charges: Vec<Weak<()>>,
    next_token: u64,
    seed: u64,
}

fn bytes_of_list(batches: &BatchList) -> Vec<u8> {
    batches.iter().flat_map(|batch| bytes_of(&batch)).collect()
}

impl Model {
    fn new(seed: u64) -> Model {
        let mut disk = SimDisk::new(seed);
        let config = config(&mut disk.random);
        let mut node = Node::ready(disk, config);
        node.log.set_keeps_written(!seed.is_multiple_of(3));
        let (batches, asked, held, charges) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        Model { node, batches, asked, held, charges, next_token: 0, seed }
    }

    fn below(&mut self, bound: usize) -> usize {
        self.node.disk.random.below(bound as u64) as usize
    }

    fn append(&mut self) {
        for _ in 0..=self.below(6) {
            let value_bytes = match self.below(30) {
                0 => PIECE_BYTES + self.below(9_000),
                1 => PIECE_BYTES - self.below(9_000),
                _ => self.below(1_500),
            };
            let records = 1 + self.below(3);
            self.batches.push(self.node.append(records, value_bytes));
        }
    }

    fn cut(&mut self) {
        let keep = self.batches.len() - self.below(8.min(self.batches.len() + 1));
        let to = keep.checked_sub(1).map_or(Offset(0), |last| self.batches[last].next_offset());
        self.batches.truncate(keep);
        self.asked.iter_mut().for_each(|asked| asked.is_cut |= asked.from >= to);
        self.node.log.truncate(to);
        self.node.epoch += 1;
    }

    fn read(&mut self) {
        let end = self.node.log.log_end().0;
        let from = Offset(self.below(end.0 as usize + 1) as i64);
        let bound = if self.below(3) > 0 { end } else { Offset(self.below(end.0 as usize + 1) as i64) };
        let max_bytes = self.below(12_000);
        let keep = Arc::new(());
        match self.node.log.read_memory(from, bound, max_bytes) {
            ReadOutcome::Batches(batches) => self.check(from, bound, max_bytes, batches),
            ReadOutcome::InBlock => {
                self.charges.push(Arc::downgrade(&keep));
                let found = self.node.log.read_block(Want { from, bound, max_bytes, keep });
                self.check(from, bound, max_bytes, found.expect("it is there"));
            }
            ReadOutcome::OnDevice => {
                self.next_token += 1;
                self.charges.push(Arc::downgrade(&keep));
                let (token, fills_piece) = (self.next_token, self.below(2) == 0);
                self.node.log.read_device(token, Want { from, bound, max_bytes, keep }, fills_piece);
                self.asked.push(Asked { token, from, bound, max_bytes, is_cut: false });
            }
            ReadOutcome::Empty => {
                let reaches = |b: &&StampedBatch| b.base_offset() <= from && from < b.next_offset();
                let there = self.batches.iter().find(reaches).filter(|b| b.next_offset() <= bound);
                assert!(there.is_none(), "seed {}: nothing from {from} below {bound}", self.seed);
            }
            ReadOutcome::OutOfRange => panic!("seed {}: {from} is in the log", self.seed),
        }
    }

    /// Whole batches of the log as it is, from the one asked for, below the bound.
    fn check(&mut self, from: Offset, bound: Offset, max_bytes: usize, batches: BatchList) {
        let seed = self.seed;
        let at = self.batches.iter().position(|b| b.base_offset() <= from && from < b.next_offset());
        let at = at.unwrap_or_else(|| panic!("seed {seed}: {from} is not in the log"));
        let read: Vec<StampedBatch> = batches.iter().collect();
        for (read, batch) in read.iter().zip(&self.batches[at..]) {
            assert!(
                bytes_of(read) == bytes_of(batch),
                "seed {seed}: {:?} for {:?}",
                read.header(),
                batch.header()
            );
            assert!(read.next_offset() <= bound, "seed {seed}: {:?} reaches over {bound}", read.header());
        }
        assert!(read.len() <= self.batches.len() - at, "seed {seed}: more than there is");
        let fits = read.len() == 1 || batches.size_bytes() <= max_bytes;
        assert!(fits || read.is_empty(), "seed {seed}: {} bytes of {max_bytes}", batches.size_bytes());
        let bytes = bytes_of_list(&batches);
        self.held.push(Held { batches, bytes });
    }

    fn hear(&mut self) {
        for event in self.node.events() {
            let LogEvent::ReadDone { token, result } = event else { continue };
            let at = self.asked.iter().position(|asked| asked.token == token);
            let asked =
                self.asked.swap_remove(at.unwrap_or_else(|| panic!("seed {}: answered twice", self.seed)));
            match result {
                Ok(batches) if batches.is_empty() => {
                    let first = self.batches.iter().find(|b| asked.from < b.next_offset());
                    let is_over = first.is_none_or(|first| first.next_offset() > asked.bound);
                    assert!(is_over || asked.is_cut, "seed {}: nothing from {}", self.seed, asked.from);
                }
                // One that was cut while it was read may be there again; never with what was there before.
                Ok(batches) => self.check(asked.from, asked.bound, asked.max_bytes, batches),
                Err(ReadError::Gone) => assert!(asked.is_cut, "seed {}: {} is gone", self.seed, asked.from),
                Err(error) => panic!("seed {}: {error}", self.seed),
            }
        }
        let counts = self.node.log.block_counts();
        // A batch may be twice as large as a piece.
        let asked = 3 * (self.asked.len() + self.held.len() + 4);
        assert!(
            counts.bytes <= counts.bytes_max.max(asked * PIECE_BYTES),
            "seed {}: {counts:?} with {asked} reads",
            self.seed
        );
    }

    /// Whoever has an answer has what it was, however long.
    fn take_answers(&mut self) {
        while self.held.len() > self.below(30) {
            let at = self.below(self.held.len());
            let Held { batches, bytes } = self.held.swap_remove(at);
            assert!(bytes_of_list(&batches) == bytes, "seed {}: an answer has changed", self.seed);
        }
    }

    fn act(&mut self) {
        match self.below(100) {
            0..12 => self.append(),
            12..15 => self.cut(),
            // It leads, or leads no more.
            15 => {
                let leads = self.below(3) > 0;
                self.node.log.set_keeps_written(leads);
            }
            // The host gets short of memory, or has some again.
            16 => {
                let pieces = [0, 1, 4, 50][self.below(4)];
                self.node.log.set_read_cache(pieces * PIECE_BYTES);
                self.node.log.rest();
            }
            17..60 => self.read(),
            60..66 => {
                let from = Offset(self.below(self.node.log.log_end().0.0 as usize + 1) as i64);
                let bytes = self.below(4 * PIECE_BYTES);
                if from < self.node.log.flushed().0 {
                    self.node.log.read_ahead(from, bytes);
                }
            }
            _ => {
                for _ in 0..self.below(5) {
                    self.node.complete_any();
                    self.hear();
                }
            }
        }
        if self.below(2) == 0 {
            self.node.turn();
        }
        self.hear();
        self.take_answers();
    }
}

#[test]
fn blocks_are_what_the_log_is_whatever_is_cut_or_put_out_meanwhile() {
    let mut sum = BlockCounts::default();
    for seed in 0..SEEDS {
        let mut model = Model::new(seed);
        (0..ACTIONS).for_each(|_| model.act());
        model.node.turn();
        while model.node.complete_any() {}
        model.hear();
        assert!(model.asked.is_empty(), "seed {seed}: all are answered");
        model.held.clear();
        // Blocks hold nothing of whoever was answered.
        assert!(model.charges.iter().all(|charge| charge.strong_count() == 0), "seed {seed}: a charge stays");
        model.node.log.rest();
        assert_eq!(model.node.log.block_counts().pinned_bytes, 0, "seed {seed}");
        let counts = model.node.log.block_counts();
        (sum.hits, sum.misses, sum.ahead) =
            (sum.hits + counts.hits, sum.misses + counts.misses, sum.ahead + counts.ahead);
    }
    // Each of the ways was gone.
    assert!(sum.hits > 10 * SEEDS && sum.misses > 10 * SEEDS && sum.ahead > SEEDS, "{sum:?}");
}

fn filled(read_cache_bytes_max: usize) -> Node {
    let config = LogConfig {
        index_interval_bytes: 1_024,
        tail_cache_bytes_max: 0,
        read_cache_bytes_max,
        read_piece_bytes: PIECE_BYTES,
        segment_bytes_max: 1 << 20,
        ..small_config()
    };
    let mut node = Node::ready(SimDisk::new(3), config);
    for _ in 0..60 {
        node.append(1, 1_000);
        node.settle();
    }
    node
}

/// Of a log of 60 records.
fn want(from: i64, max_bytes: usize) -> Want {
    Want { from: Offset(from), bound: Offset(60), max_bytes, keep: Arc::new(()) }
}

#[test]
fn what_one_reader_has_read_is_there_for_the_next() {
    let mut node = filled(100 * PIECE_BYTES);
    let read = |node: &mut Node| -> Vec<Vec<u8>> {
        node.read_all().expect("all is read").iter().map(bytes_of).collect()
    };
    let all = read(&mut node);
    let first = node.log.block_counts();
    assert!(first.misses > 3 && first.hits == 0, "{first:?}");
    // Rot under a block is not seen while it is there.
    node.disk.edit(SEGMENT_0, |bytes| bytes[100] ^= 1);
    assert!(read(&mut node) == all);
    let second = node.log.block_counts();
    assert_eq!((second.misses, second.bytes), (first.misses, first.bytes), "the device was left alone");
    node.log.set_read_cache(0);
    assert_eq!(node.log.block_counts().bytes, 0);
    assert!(matches!(node.read_all(), Err(ReadError::Corrupt(_))), "and whoever reads it anew is told");
}

#[test]
fn who_wants_what_is_being_read_waits_for_it() {
    for cache_bytes in [0, 100 * PIECE_BYTES] {
        let mut node = filled(cache_bytes);
        let mut ask = |from, token| node.log.read_device(token, want(from, 3_000), true);
        [(0, 1), (3, 2), (0, 3), (7, 4)].into_iter().for_each(|(from, token)| ask(from, token));
        node.turn();
        let is_read = |op: &&DiskOp| matches!(op.kind, OpKind::Read { .. });
        assert_eq!(node.disk.in_flight.iter().filter(is_read).count(), 1, "one read for all four");
        let mut answered = Vec::new();
        for event in node.settle() {
            let (token, batches) = match event {
                LogEvent::ReadDone { token, result: Ok(batches) } => (token, batches),
                LogEvent::Readable(Offset(0), _) => continue,
                other => panic!("{other:?}"),
            };
            answered.push((token, batches.ends().expect("some").0.0));
        }
        assert_eq!(answered, [(1, 0), (2, 3), (3, 0), (4, 7)]);
    }
}

#[test]
fn what_fails_ahead_of_a_reader_is_told_to_nobody_but_who_asks_again() {
    let mut node = filled(100 * PIECE_BYTES);
    let is_read = |kind: &OpKind| matches!(kind, OpKind::Read { .. });
    node.disk.fail = Some(is_read);
    assert!(node.log.read_ahead(Offset(0), 1));
    assert!(!node.log.read_ahead(Offset(0), 1), "it is on its way");
    assert!(node.settle().is_empty());
    assert!(!node.log.read_ahead(Offset(0), 1), "it would bring nothing again");
    assert!(node.read_one(Offset(0)).is_ok(), "he reads it himself");
    assert!(node.log.read_ahead(Offset(0), 2 * PIECE_BYTES), "and is read ahead of again");
    // What was good of the device is told, also where nobody has asked.
    assert!(matches!(node.settle()[..], [LogEvent::Readable(from, _)] if from > Offset(0)));
    // And who waits for one that fails.
    let mut node = filled(100 * PIECE_BYTES);
    node.disk.edit(SEGMENT_0, |bytes| bytes[100] ^= 1);
    assert!(node.log.read_ahead(Offset(0), 1));
    node.log.read_device(1, want(5, 3_000), true);
    node.log.read_device(2, want(0, 3_000), true);
    let told = node.settle().into_iter().filter_map(|event| match event {
        LogEvent::ReadDone { token, result } => Some((token, result.is_ok())),
        LogEvent::Readable(..) => None,
        other => panic!("{other:?}"),
    });
    let told: std::collections::BTreeMap<u64, bool> = told.collect();
    assert_eq!(told, [(1, true), (2, false)].into());
}

/// Completes the read that was begun last, or first, and gives what is told of it.
fn complete_read(node: &mut Node, is_last: bool) -> Vec<LogEvent> {
    let reads = node.disk.in_flight.iter().enumerate();
    let reads = reads.filter(|(_, op)| matches!(op.kind, OpKind::Read { .. })).map(|(at, op)| (op.id, at));
    let (_, at) = if is_last { reads.max() } else { reads.min() }.expect("a read is under way");
    let completion = node.disk.complete_at(at);
    node.log.complete(completion);
    node.turn();
    node.events()
}

/// Whoever hears of both would take the place for bad until somebody reads it again.
#[test]
fn a_read_that_fails_behind_a_good_one_of_the_same_place_is_made_again() {
    for stays_bad in [false, true] {
        let mut node = filled(0);
        node.log.read_device(1, want(30, 1), false);
        node.turn();
        // Now no other read waits for that one: its list of epochs may be that of before.
        node.start_at(5);
        node.turn();
        while let Some(at) = node.disk.in_flight.iter().position(|op| !matches!(op.kind, OpKind::Read { .. }))
        {
            let completion = node.disk.complete_at(at);
            node.log.complete(completion);
            node.turn();
        }
        assert_eq!(node.log.log_start(), Offset(5));
        node.events();
        node.log.read_device(2, want(30, 1), false);
        node.turn();
        let told = complete_read(&mut node, true);
        assert!(
            matches!(&told[..], [LogEvent::Readable(..), LogEvent::ReadDone { token: 2, result: Ok(_) }]),
            "{told:?}"
        );
        let is_read: fn(&OpKind) -> bool = |kind| matches!(kind, OpKind::Read { .. });
        node.disk.fail = Some(is_read);
        assert!(complete_read(&mut node, false).is_empty(), "it says nothing that could be believed");
        node.disk.fail = Some(is_read).filter(|_| stays_bad);
        let told = complete_read(&mut node, true);
        match (stays_bad, &told[..]) {
            (false, [LogEvent::Readable(..), LogEvent::ReadDone { token: 1, result: Ok(_) }]) => {}
            (true, [LogEvent::ReadDone { token: 1, result: Err(ReadError::Disk(_)) }]) => {}
            (_, other) => panic!("{other:?}"),
        }
        assert!(node.disk.in_flight.is_empty());
    }
}

#[test]
fn a_piece_with_little_in_it_is_kept_only_for_who_shares_it_and_at_the_end_of_the_log() {
    let mut node = filled(100 * PIECE_BYTES);
    let mut read = |from: i64, readers: u64| {
        for token in 1..=readers {
            node.log.read_device(token, want(from, 1), false);
        }
        node.settle();
        node.log.set_read_cache(100 * PIECE_BYTES);
        node.log.block_counts().bytes / PIECE_BYTES
    };
    assert_eq!([read(0, 1), read(20, 1)], [0, 0]);
    assert_eq!([read(40, 2), read(59, 1)], [1, 2]);
}

#[test]
fn a_block_is_put_out_when_nobody_has_asked_for_it_since_the_hand_came_by() {
    let mut node = filled(3 * PIECE_BYTES);
    let ask = |node: &mut Node, from: i64| node.read_one(Offset(from)).map(|read| read.len()).expect("read");
    [0, 20, 40].into_iter().for_each(|from| _ = ask(&mut node, from));
    let misses = |node: &Node| node.log.block_counts().misses;
    assert_eq!((misses(&node), node.log.block_counts().bytes), (3, 3 * PIECE_BYTES));
    ask(&mut node, 0);
    ask(&mut node, 30);
    assert_eq!((misses(&node), node.log.block_counts().bytes), (4, 3 * PIECE_BYTES));
    ask(&mut node, 0);
    assert_eq!(misses(&node), 4, "it was asked for, and has stayed");
    ask(&mut node, 20);
    assert_eq!(misses(&node), 5, "the one behind it has gone");
}

/// A log that leads, with a tail cache of four pieces.
fn leading() -> Node {
    let config = LogConfig {
        tail_cache_bytes_max: 4 * PIECE_BYTES,
        read_cache_bytes_max: 100 * PIECE_BYTES,
        read_piece_bytes: PIECE_BYTES,
        segment_bytes_max: 1 << 20,
        unflushed_bytes_max: 1 << 30,
        ..small_config()
    };
    let mut node = Node::ready(SimDisk::new(3), config);
    node.log.set_keeps_written(true);
    node.log.note_reader();
    node
}

/// With the piece that is being filled.
fn kept_bytes(node: &mut Node) -> usize {
    // So that it looks for what came back.
    node.log.set_read_cache(100 * PIECE_BYTES);
    node.log.block_counts().bytes
}

#[test]
fn what_was_written_is_read_from_memory_and_a_batch_that_no_block_has_from_the_device() {
    let mut node = leading();
    let mut written = Vec::new();
    for round in 0..200 {
        let value_bytes = if round == 100 { PIECE_BYTES } else { 1_000 };
        written.push(node.append(1, value_bytes));
        node.pass_ms(100);
        node.settle();
    }
    assert_eq!(node.read_all().expect("all is read"), written);
    let counts = node.log.block_counts();
    assert!((1..=2).contains(&counts.misses), "its beginning, and the whole: {counts:?}");
    assert!(counts.hits > 10, "the tail cache has a third of it: {counts:?}");
    // Who follows keeps nothing, and lets go of what was being filled.
    node.log.set_keeps_written(false);
    let before = kept_bytes(&mut node);
    for _ in 0..100 {
        node.append(1, 1_000);
        node.pass_ms(100);
        node.settle();
    }
    assert_eq!(kept_bytes(&mut node), before);
    assert!(before <= 200 * 1_100 + PIECE_BYTES, "no piece is left over: {before}");
}

#[test]
fn what_is_not_flushed_is_not_copied_and_what_is_cut_never_served() {
    let mut node = leading();
    for _ in 0..20 {
        node.append(1, 1_000);
    }
    node.turn();
    assert_eq!(kept_bytes(&mut node), 0, "the group is at the device");
    node.settle();
    assert_eq!(kept_bytes(&mut node), PIECE_BYTES);
    node.log.truncate(Offset(5));
    assert_eq!(kept_bytes(&mut node), 0, "it reached over the cut");
    node.epoch += 1;
    let mut written: Vec<_> = (0..100).map(|_| node.append(1, 1_000)).collect();
    node.settle();
    for _ in 0..100 {
        written.push(node.append(1, 1_000));
        node.settle();
    }
    let read = node.read_all().expect("all is read");
    assert_eq!(read[5..], written, "with the batches of the new epoch");
    assert!(node.log.block_counts().hits > 5);
}

/// All operations but the copies, which nobody lets run.
fn settle_but_copies(node: &mut Node) {
    node.turn();
    let is_other = |op: &DiskOp| !matches!(op.kind, OpKind::Memory(_));
    while let Some(other) = node.disk.in_flight.iter().position(is_other) {
        let completion = node.disk.complete_at(other);
        node.log.complete(completion);
        node.turn();
    }
}

#[test]
fn where_copies_are_not_let_run_few_wait_and_the_rest_is_passed_over() {
    let mut node = leading();
    for _ in 0..40 {
        node.append(1, 1_000);
        settle_but_copies(&mut node);
    }
    assert_eq!(node.disk.in_flight.len(), 2, "as much as has been written");
    for _ in 0..160 {
        node.append(1, 1_000);
        settle_but_copies(&mut node);
    }
    assert_eq!(node.disk.in_flight.len(), 4, "and no more than this");
    // One is let run after what it has was cut away: it is no block.
    node.log.truncate(Offset(40));
    node.settle();
    let blocks = kept_bytes(&mut node) / PIECE_BYTES;
    assert_eq!(blocks, 0, "all of them were begun before the cut");
    node.epoch += 1;
    for _ in 0..100 {
        node.append(1, 1_000);
        node.settle();
    }
    let blocks = kept_bytes(&mut node) / PIECE_BYTES;
    assert!((5..=7).contains(&blocks), "what came since, in pieces of fifteen: {blocks}");
}

#[test]
fn a_tail_cache_with_no_room_for_two_pieces_is_copied_earlier_and_one_with_hardly_any_is_not() {
    for (tail_bytes, expected) in [(2 * PIECE_BYTES, 1), (PIECE_BYTES, 2), (PIECE_BYTES / 4, 0)] {
        let config = LogConfig {
            tail_cache_bytes_max: tail_bytes,
            read_cache_bytes_max: 100 * PIECE_BYTES,
            read_piece_bytes: PIECE_BYTES,
            segment_bytes_max: 1 << 20,
            ..small_config()
        };
        let mut node = Node::ready(SimDisk::new(3), config);
        node.log.set_keeps_written(true);
        node.log.note_reader();
        for _ in 0..20 {
            node.append(1, 1_000);
            node.settle();
        }
        assert_eq!(kept_bytes(&mut node) / PIECE_BYTES, expected, "{tail_bytes}");
    }
}

#[test]
fn nothing_is_copied_where_nobody_has_read_for_a_minute() {
    let mut node = leading();
    let is_copied = |node: &mut Node| {
        let before = kept_bytes(node);
        for _ in 0..100 {
            node.append(1, 1_000);
            node.settle();
        }
        kept_bytes(node) > before
    };
    node.pass_ms(60_000);
    assert!(!is_copied(&mut node));
    // From the device, and from a block.
    for from in [0, 1] {
        node.read_one(Offset(from)).expect("it is read");
        assert!(is_copied(&mut node));
        node.pass_ms(59_000);
        assert!(is_copied(&mut node));
        node.pass_ms(1_000);
        assert!(!is_copied(&mut node));
    }
    // But where that was asked for.
    node.log.config.copies_unread = true;
    assert!(is_copied(&mut node));
}

/// Touches, which make a piece ready, that the disk has now.
fn touches(node: &Node) -> usize {
    let is_touch = |op: &&DiskOp| matches!(op.kind, OpKind::Memory(MemoryWork::Touch { .. }));
    node.disk.in_flight.iter().filter(is_touch).count()
}

#[test]
fn memory_is_made_ready_as_it_is_read_into_and_no_more_than_there_may_be() {
    for (pieces, expected) in [(7, 0), (16, 2), (100, 8)] {
        let mut node = filled(pieces * PIECE_BYTES);
        assert_eq!(touches(&node), 0, "nobody has read");
        node.log.read_device(1, want(0, 1), true);
        node.turn();
        assert_eq!(touches(&node), expected);
        node.settle();
        // One that is ready is taken, and another one made ready.
        node.log.read_device(1, want(20, 1), true);
        node.turn();
        assert_eq!(touches(&node), expected.min(1));
        node.settle();
        let counts = node.log.block_counts();
        assert_eq!((counts.bytes, counts.free_bytes), (2 * PIECE_BYTES, expected * PIECE_BYTES));
    }
    // At the end there is less than all of it.
    let mut node = filled(16 * PIECE_BYTES);
    for from in 0..60 {
        node.log.read_device(1, want(from, 1), true);
        node.settle();
        let counts = node.log.block_counts();
        assert!(counts.bytes + counts.free_bytes <= 16 * PIECE_BYTES, "{counts:?}");
    }
}

/// Each takes one of those that are ready, and one more is made ready.
#[test]
fn what_is_ready_stays_for_who_reads_now_and_then_and_goes_where_nobody_does() {
    let mut node = filled(100 * PIECE_BYTES);
    let mut touched = 0;
    let pass_second = |node: &mut Node| {
        node.pass_ms(1_000);
        node.log.rest();
        // What is to be given back is, in the turns until the next second.
        (0..20).for_each(|_| node.turn());
        node.settle();
        node.log.block_counts().free_bytes / PIECE_BYTES
    };
    for second in 0..40 {
        // The same places again: the cache grows by none.
        node.log.set_read_cache(0);
        node.log.set_read_cache(100 * PIECE_BYTES);
        node.log.read_device(1, want(second % 4 * 15, 1), true);
        node.turn();
        touched += touches(&node);
        node.settle();
        node.events();
        let ready = pass_second(&mut node);
        assert!((7..=9).contains(&ready), "{ready} after {second} s");
    }
    assert!(touched <= 9, "made ready once, and not for each read: {touched}");
    // For a minute, and then a second and a rest.
    let ready: Vec<usize> = (0..61).map(|_| pass_second(&mut node)).collect();
    assert!((7..=9).contains(&ready[50]), "{ready:?}");
    assert_eq!(ready[60], 0, "{ready:?}");
    // A host that is short has nothing ready on it.
    node.log.read_device(1, want(0, 1), true);
    node.settle();
    node.log.set_read_cache(0);
    let ready: Vec<usize> = (0..3).map(|_| pass_second(&mut node)).collect();
    assert_eq!(ready[2], 0, "{ready:?}");
}

/// Pieces from which on it is saved.
const GROWN: usize = 16;

/// Where they are not, the cache goes on with what it has, but for one piece in 20 ms.
#[test]
fn while_no_memory_is_ready_a_cache_that_has_some_grows_slowly() {
    let config = LogConfig {
        index_interval_bytes: 1_024,
        tail_cache_bytes_max: 0,
        read_cache_bytes_max: 100 * PIECE_BYTES,
        read_piece_bytes: PIECE_BYTES,
        segment_bytes_max: 2 << 20,
        unflushed_bytes_max: 1 << 30,
        ..small_config()
    };
    let mut node = Node::ready(SimDisk::new(3), config);
    for _ in 0..900 {
        node.append(1, 1_000);
        node.settle();
    }
    let mut next = 0;
    // Each a piece of its own; those that are to be made ready never are.
    let mut read = |count: usize, ms: u64| {
        for _ in 0..count {
            let keep = Arc::new(());
            node.log.read_device(
                1,
                Want { from: Offset(next), bound: Offset(900), max_bytes: 1, keep },
                true,
            );
            settle_but_copies(&mut node);
            // Nobody keeps his answer.
            node.events();
            node.pass_ms(ms);
            next += 15;
        }
        node.log.set_read_cache(100 * PIECE_BYTES);
        (node.log.block_counts().bytes / PIECE_BYTES, touches(&node))
    };
    assert_eq!(read(7, 0), (7 + 8, 8), "one that is new for each read");
    assert_eq!(read(20, 0), (GROWN + 1, 8), "the oldest make room, but once");
    // The time of the turn before counts, and the first two have that of those above.
    assert_eq!(read(5, 20), (GROWN + 4, 8));
}
