//! Snapshots of what is folded, in one of eight seeds: an operator asks a node for one at any time, and what it gives is held against
//! the fold of the committed log, made here from the bytes on the platters.

use super::checker::Checker;
use super::dice::Dice;
use super::lies::Lie;
use super::node::Process;
use super::{Event, Host, Options, Simulation};
use crate::log::Section;
use crate::record::BatchHeader;
use crate::replica::{Folded, Replica};
use crate::types::*;
use std::collections::BTreeMap;

const SNAPSHOTS_ONE_IN: u64 = 8;
/// Of the dice that draw it: none of tests/simulator-seeds.txt became another run by it.
const SNAPSHOTS_STREAM: u64 = 787;
/// Between two snapshots, of whichever node.
const SNAPSHOT_MS: u64 = 100;
/// A core has other things to do between two turns with a part of a copy: so much else happens meanwhile.
const TURN_NS: u64 = 500_000;

/// Of the section of producers: its tag, and what it keeps of a batch, in the checker's own way.
const PRODUCERS_TAG: u16 = 1;
const BATCH_BYTES: usize = 34;
/// Batches that are remembered of a producer.
const BATCHES_KEPT: usize = 5;

/// Are snapshots taken in this run? `None`: no.
pub(super) fn taker(options: &Options) -> Option<Dice> {
    let mut dice = Dice::new(options.seed, SNAPSHOTS_STREAM);
    (dice.below(SNAPSHOTS_ONE_IN) == 0).then_some(dice)
}

/// Base offset, how many follow it, first sequence, time.
type Kept = (i64, i32, i32, i64);

/// Producer epoch and last batches of each producer id.
type Fold = BTreeMap<i64, (i16, Vec<Kept>)>;

impl Simulation {
    pub(super) fn plan_snapshot(&mut self) {
        let in_ns = match &mut self.taker {
            Some(taker) => 1 + taker.around(SNAPSHOT_MS * NS_PER_MS),
            None => return,
        };
        self.at(self.now_ns + in_ns, Event::TakeSnapshot);
    }

    pub(super) fn on_take_snapshot(&mut self) {
        if self.is_at_rest {
            return;
        }
        self.plan_snapshot();
        let hosts: Vec<Host> = self.nodes.keys().copied().collect();
        let Some(host) = self.taker.as_mut().and_then(|taker| taker.pick(&hosts)) else { return };
        let Some(mut node) = self.nodes.remove(&host) else { return };
        if let Process::Up(replica) = &mut node.process
            && replica.copy_folds().is_ok()
        {
            self.wake(&mut node, 1_000);
        }
        self.nodes.insert(host, node);
    }

    /// How long its next turn may be put off, at least, where it is due at once for the sake of a copy.
    pub(super) fn put_off_ns(&mut self, replica: &Replica) -> u64 {
        match &mut self.taker {
            Some(taker) if replica.deadline() == Some(0) => 1_000 + taker.around(TURN_NS),
            _ => 1_000,
        }
    }

    /// Behind each turn, when the checker knows what is committed.
    pub(super) fn check_folded(&mut self, host: Host) {
        let Some(node) = self.nodes.get_mut(&host) else { return };
        let Process::Up(replica) = &mut node.process else { return };
        match replica.poll_folded() {
            None => {}
            Some(Err(_)) => self.totals.snapshots_given_up += 1,
            Some(Ok(folded)) => {
                self.totals.snapshots += 1;
                let Folded { id, .. } = folded;
                let mut sections = folded.into_sections();
                if self.liar.is(Lie::SnapshotLacksProducer) && lose_producer(&mut sections) {
                    self.liar.told += 1;
                }
                let limit = node.config.limits.producer_ids_max;
                self.checker.on_snapshot(node.host, id, &sections, limit);
            }
        }
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
