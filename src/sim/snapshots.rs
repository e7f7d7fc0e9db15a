//! Snapshots, in one of eight seeds taken each few records and few milliseconds: each that is durable is held against the fold of the
//! committed log, made here from the bytes on the platters. Processes die and the power fails meanwhile, and starts go on from them.

use super::checker::Checker;
use super::dice::Dice;
use super::lies::{Liar, Lie};
use super::node::{Arrival, Node};
use super::{Event, Host, Options, Simulation};
use crate::config::Limits;
use crate::log::{
    LogConfig, ReadSnapshot, Recovered, Section, Snapshot, SnapshotDecoder, SnapshotEncoder, SnapshotOp,
    recover,
};
use crate::record::BatchHeader;
use crate::replica::Replica;
use crate::replica::folds::{Folds, Recovery, origin_section};
use crate::replica::snapshots::{self, FoundSnapshots, SnapshotFile, StartError, Started};
use crate::types::*;
use std::collections::BTreeMap;

const SNAPSHOTS_ONE_IN: u64 = 8;
/// Of the dice that draw it: none of tests/simulator-seeds.txt became another run by it.
const SNAPSHOTS_STREAM: u64 = 787;
/// A core has other things to do between two turns with a part of a copy: so much else happens meanwhile.
const TURN_NS: u64 = 500_000;
/// None has so many bytes.
const BYTES_MAX: u64 = 1 << 20;

/// Of the section of producers: its tag, and what it keeps of a batch, in the checker's own way.
const PRODUCERS_TAG: u16 = 1;
const BATCH_BYTES: usize = 34;
/// Batches that are remembered of a producer.
const BATCHES_KEPT: usize = 5;

/// Are snapshots taken in this run?
pub fn takes_snapshots(options: &Options) -> bool {
    taker(options).is_some()
}

/// `None`: none are.
pub(super) fn taker(options: &Options) -> Option<Dice> {
    let mut dice = Dice::new(options.seed, SNAPSHOTS_STREAM);
    // Where starts move, what is folded is kept by who lets them.
    (dice.below(SNAPSHOTS_ONE_IN) == 0 && !super::moves_start(options)).then_some(dice)
}

/// Base offset, how many follow it, first sequence, time.
type Kept = (i64, i32, i32, i64);

/// Producer epoch and last batches of each producer id.
type Fold = BTreeMap<i64, (i16, Vec<Kept>)>;

/// So that one is due at any time.
pub(super) fn tighten(limits: &mut Limits, taker: &mut Dice) {
    limits.snapshot_bytes_between = taker.pick(&[1, 2_000, 20_000, 1 << 30]).unwrap_or(1);
    limits.snapshot_interval_ms = taker.pick(&[20, 100, 0]).unwrap_or(20);
    limits.snapshot_pause_ms = taker.pick(&[1, 20, 200]).unwrap_or(1);
    limits.snapshot_bytes_max = BYTES_MAX;
}

/// As every start does it; the lie is to forget the producers of a summary.
fn take_part(recovery: &mut Recovery, part: Recovered, liar: &mut Liar) -> Result<(), String> {
    if !liar.is(Lie::SummaryIgnored) || matches!(part, Recovered::Batch(_)) {
        return recovery.take(part);
    }
    let before = recovery.clone();
    recovery.take(part)?;
    let has_producers = recovery.folds().producers() != before.folds().producers();
    if has_producers && liar.tells(Lie::SummaryIgnored) {
        *recovery = before;
    }
    Ok(())
}

/// What a start goes on from.
pub(super) fn start(node: &mut Node, log_config: &LogConfig, liar: &mut Liar) -> Result<Started, StartError> {
    let mut on_part = |recovery: &mut Recovery, part: Recovered| take_part(recovery, part, liar);
    // Kept by who lets starts move, in a run in which they do.
    if let Some((end, sections)) = node.disk.kept.folded.clone() {
        let mut recovery = Recovery::from_settled(&node.config, kept(node, end, sections));
        let recovered = recover(&mut node.disk, log_config, &mut |part| on_part(&mut recovery, part))?;
        let snapshots =
            FoundSnapshots { has_leftovers: node.disk.shelf.has_leftovers(), ..FoundSnapshots::default() };
        let folds = recovery.into_folds();
        return Ok(Started { recovered, folds, snapshots, from: None, notes: Vec::new() });
    }
    let config = node.config.clone();
    let mut started = snapshots::recover(&mut node.disk, &config, log_config, &mut on_part)?;
    started.snapshots.has_leftovers = node.disk.shelf.has_leftovers();
    Ok(started)
}

/// For the story.
pub(super) fn named(from: Option<SnapshotFile>) -> String {
    from.map_or(String::new(), |from| format!(", from a snapshot of all before {}", from.id.offset))
}

fn kept(node: &Node, end: Offset, mut sections: Vec<Section>) -> Folds {
    sections.push(origin_section(&node.config));
    let id = OffsetAndEpoch { epoch: Epoch(0), offset: end };
    let snapshot = Snapshot { id, sections, ..Snapshot::default() };
    let read = ReadSnapshot { snapshot, foreign_records: 0 };
    Folds::of_snapshot(&node.config, &read).expect("what was folded reads back")
}

impl Simulation {
    /// What lay there long unread may have rotted. Only where the log has all that it holds.
    pub(super) fn rot_snapshot(&mut self, node: &mut Node) {
        let Some(taker) = self.taker.as_mut().filter(|_| self.mover.is_none()) else { return };
        if !self.is_calm && taker.permille(200) && node.disk.shelf.rot(taker) {
            self.trace.line(self.now_ns, node.host, "has a snapshot that has rotted");
        }
    }

    pub(super) fn submit_snapshot(&mut self, node: &mut Node, op: SnapshotOp) {
        let (ticket, takes_ns) = node.disk.submit_snapshot(op);
        self.at(self.now_ns + takes_ns, Event::Disk(node.host, ticket));
    }

    /// An operation on snapshots is done. False: this is none.
    pub(super) fn on_snapshot_done(&mut self, host: Host, ticket: u64) -> bool {
        let Some(node) = self.nodes.get_mut(&host) else { return false };
        let Some((done, durable)) = node.disk.complete_snapshot(ticket) else { return false };
        self.totals.faults += u64::from(done.result.is_err());
        if let Some(id) = durable {
            self.totals.snapshots += 1;
            if self.liar.is(Lie::SnapshotLacksProducer) && node.disk.lose_producer(id) {
                self.liar.told += 1;
            }
            self.check_snapshot(host, id);
        }
        self.arrive(host, Arrival::Snapshot(done));
        true
    }

    /// What is on the platter under this name.
    fn check_snapshot(&mut self, host: Host, id: OffsetAndEpoch) {
        let Some(node) = self.nodes.get(&host) else { return };
        let limit = node.config.limits.producer_ids_max;
        match node.disk.shelf.written(id).and_then(|bytes| decoded(id, bytes)) {
            Some(snapshot) => self.checker.on_snapshot(host, id, &snapshot.sections, limit),
            None => {
                let detail = format!("node {host} has none at {id:?}");
                self.checker.violate("a snapshot that is told to be durable is whole", detail);
            }
        }
    }

    /// How long its next turn may be put off, at least, where it is due at once for the sake of a copy.
    pub(super) fn put_off_ns(&mut self, replica: &Replica) -> u64 {
        match &mut self.taker {
            Some(taker) if replica.deadline() == Some(0) => 1_000 + taker.around(TURN_NS),
            _ => 1_000,
        }
    }

    /// Behind each turn.
    pub(super) fn count_snapshots(&mut self, replica: &Replica, before: u64) {
        self.totals.snapshots_given_up += replica.snapshot_counts().given_up - before;
    }
}

fn decoded(id: OffsetAndEpoch, bytes: &[u8]) -> Option<Snapshot> {
    let mut decoder = SnapshotDecoder::new(id, BYTES_MAX);
    decoder.push(bytes).ok()?;
    Some(decoder.finish().ok()?.snapshot)
}

impl super::disk::SimDisk {
    /// A lie: one of its producers is not in it, and all else is right.
    fn lose_producer(&mut self, id: OffsetAndEpoch) -> bool {
        let Some(mut snapshot) = self.shelf.written(id).and_then(|bytes| decoded(id, bytes)) else {
            return false;
        };
        if !lose_producer(&mut snapshot.sections) {
            return false;
        }
        let mut encoder = SnapshotEncoder::new(snapshot);
        let batches = std::iter::from_fn(|| encoder.next_batch());
        self.shelf.replace(id, batches.flat_map(|batch| batch.to_bytes()).collect());
        true
    }
}

impl Checker {
    /// A node says that all before `id` gives this.
    fn on_snapshot(&mut self, host: Host, id: OffsetAndEpoch, sections: &[Section], producer_ids_max: usize) {
        let Some(log) = self.committed_before(id) else {
            let detail = format!("node {host} has a snapshot at {id:?}, and no committed batch ends there");
            return self.violate("a snapshot ends with a committed batch, and is named by it", detail);
        };
        // Where no copy of a batch could be read any more there is nothing to hold it against.
        let Some(log) = log.iter().copied().collect::<Option<Vec<BatchHeader>>>() else { return };
        let section = sections.iter().find(|section| section.tag == PRODUCERS_TAG);
        let found = read(section.map_or(&[], |section| &section.bytes));
        let expected = folded(&log, producer_ids_max);
        if let Err(why) = compare(&found, &expected, &log) {
            let detail = format!("node {host} at {id:?}: {why}");
            self.violate("a snapshot is the fold of the committed log", detail);
        }
    }
}

/// The same producers in the same epochs, and of each the last batches. A node that has started from summaries may know older ones
/// beside (docs/design/folds.md): they must be the log's.
fn compare(found: &Fold, expected: &Fold, log: &[BatchHeader]) -> Result<(), String> {
    if !found.keys().eq(expected.keys()) {
        return Err(format!("it has producers {:?}, not {:?}", found.keys(), expected.keys()));
    }
    for (id, (epoch, batches)) in expected {
        let (found_epoch, found) = &found[id];
        if found_epoch != epoch || !found.ends_with(batches) {
            return Err(format!(
                "of producer {id} it has {found:?} in epoch {found_epoch}, not {batches:?} in {epoch}"
            ));
        }
        let is_logs = |kept: &Kept| {
            let mut of_producer = log.iter().filter(|header| header.producer_id == *id);
            of_producer.any(|header| header.producer_epoch == *epoch && kept_of(header) == *kept)
        };
        if let Some(strange) = found.iter().find(|kept| !is_logs(kept)) {
            return Err(format!("of producer {id} it has {strange:?}, which is not in the log"));
        }
    }
    Ok(())
}

/// In a way of its own: the nodes fold batch by batch, and forget as they go.
fn folded(log: &[BatchHeader], producer_ids_max: usize) -> Fold {
    let mut fold = Fold::new();
    for header in log.iter().filter(|header| header.producer_id >= 0 && !header.is_control()) {
        let (epoch, batches) = fold.entry(header.producer_id).or_default();
        if *epoch != header.producer_epoch {
            batches.clear();
        }
        *epoch = header.producer_epoch;
        batches.push(kept_of(header));
        batches.drain(..batches.len().saturating_sub(BATCHES_KEPT));
        while fold.len() > producer_ids_max {
            let last = |(_, batches): &(i16, Vec<Kept>)| batches.last().map(|batch| batch.0);
            let silent = fold.iter().min_by_key(|(_, entry)| last(entry)).map(|(id, _)| *id);
            silent.and_then(|id| fold.remove(&id));
        }
    }
    fold
}

fn kept_of(header: &BatchHeader) -> Kept {
    (header.base_offset.0, header.last_offset_delta, header.base_sequence, header.max_timestamp)
}

/// Producer id and epoch, then what is kept, big-endian.
fn read(section: &[u8]) -> Fold {
    let mut fold = Fold::new();
    for bytes in section.as_chunks::<BATCH_BYTES>().0 {
        let number = |at: usize, length: usize| {
            let negative = if bytes[at] & 0x80 == 0 { 0 } else { -1 };
            bytes[at..at + length].iter().fold(negative, |n: i64, byte| n << 8 | i64::from(*byte))
        };
        let (epoch, batches) = fold.entry(number(0, 8)).or_default();
        *epoch = number(8, 2) as i16;
        batches.push((number(10, 8), number(18, 4) as i32, number(22, 4) as i32, number(26, 8)));
    }
    fold
}

/// False: there is none.
fn lose_producer(sections: &mut [Section]) -> bool {
    let section = sections.iter_mut().find(|section| section.tag == PRODUCERS_TAG);
    let Some(section) = section.filter(|section| !section.bytes.is_empty()) else { return false };
    let lost = section.bytes[..8].to_vec();
    let all = section.bytes.chunks(BATCH_BYTES);
    section.bytes = all.filter(|batch| batch[..8] != lost[..]).flatten().copied().collect();
    true
}
