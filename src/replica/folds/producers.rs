//! Producer state: the last five batches of each producer id, a fold over the batch headers of the log.
//!
//! Every replica folds every batch that it appends, so that a retry is recognised also after a failover or a restart
//! (Kafka: `ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry`). The leader asks `check` before it
//! appends a client's batch. What lies below the high watermark is settled; what lies above it is also kept as a list
//! of headers, so that a truncation can fold again what survives. Two replicas with the same log hold the same state,
//! evictions included; one that has started from summaries may know older batches of a producer beside
//! (docs/design/folds.md). It never looks at a record, at a clock, or at who leads.

use super::Fold;
use crate::record::{BatchHeader, StampedBatch};
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::{Bound, Range};

/// Batches kept per producer id (Kafka: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`); a Java producer has no more than
/// five requests in flight for the same reason.
const BATCHES_KEPT: usize = 5;

/// Of one batch in a section, big-endian: producer id and epoch, base offset, last offset delta, base sequence, time.
const BATCH_BYTES: usize = 8 + 2 + 8 + 4 + 4 + 8;

/// Producer epoch of a batch that has none (Kafka: `RecordBatch.NO_PRODUCER_EPOCH`).
const NO_PRODUCER_EPOCH: i16 = -1;

/// The time of a batch that has none (Kafka: `RecordBatch.NO_TIMESTAMP`).
const NO_TIMESTAMP: i64 = -1;

/// Judgement of a client's batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Append it.
    New,
    /// The same, of a producer that nobody knows: Kafka takes any first sequence, its state may have expired.
    Newcomer,
    /// Already in the log here: answer with this base offset and timestamp once the high watermark has passed `last_offset`.
    Duplicate { base_offset: Offset, last_offset: Offset, timestamp: i64 },
    /// Answer with this error, append nothing.
    Refused(ErrorCode),
}

/// Producer state of one log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Producers {
    /// After every batch of the log.
    current: Table,
    /// After the batches below the high watermark: where a truncation begins to fold again.
    settled: Table,
    /// Batches between the two, in log order. As long as the log's uncommitted part, which the leader bounds.
    unsettled: VecDeque<Appended>,
}

impl Producers {
    /// `producer_ids_max`: over it, the producer id that has not appended for longest (in offsets) is forgotten.
    pub(crate) fn new(producer_ids_max: usize) -> Producers {
        let table = Table::new(producer_ids_max);
        Producers { current: table.clone(), settled: table, unsettled: VecDeque::new() }
    }

    /// Judge a client's batch (producer id < 0: New). Does not change anything.
    pub(crate) fn check(&self, header: &BatchHeader) -> Verdict {
        if header.producer_id < 0 {
            return Verdict::New;
        }
        match self.current.entries.get(&header.producer_id) {
            None => Verdict::Newcomer,
            Some(entry) => entry.check(header),
        }
    }

    /// Fold an appended (stamped) batch, in log order, on every replica and in recovery.
    pub(crate) fn on_append(&mut self, header: &BatchHeader) {
        let Some(appended) = Appended::of(header) else { return };
        self.current.fold(&appended);
        self.unsettled.push_back(appended);
    }

    /// Whom a newcomer would push out: the last offset of who has been silent for longest, and the time that this producer gave
    /// its last batch. `None`: nobody, there is room.
    pub(crate) fn next_to_go(&self) -> Option<(Offset, i64)> {
        if self.len() < self.current.producer_ids_max {
            return None;
        }
        let (last_offset, oldest) = self.current.by_last_offset.first_key_value()?;
        let last = self.current.entries.get(oldest).and_then(Entry::last);
        Some((*last_offset, last.map_or(NO_TIMESTAMP, |batch| batch.timestamp)))
    }

    pub(crate) fn contains(&self, producer_id: i64) -> bool {
        self.current.entries.contains_key(&producer_id)
    }

    /// Producer ids known.
    pub(crate) fn len(&self) -> usize {
        self.current.entries.len()
    }
}

impl Fold for Producers {
    const TAG: u16 = 1;
    const VERSION: u16 = 1;
    const NAME: &'static str = "producers";
    type Part = Vec<Appended>;
    type Copied = CopiedTable;

    fn fold(&mut self, batch: &StampedBatch) {
        self.on_append(batch.header());
    }

    fn settle(&mut self, high_watermark: HighWatermark) {
        while let Some(appended) = self.unsettled.front() {
            if appended.batch.last_offset() >= high_watermark.0 {
                return;
            }
            self.settled.fold(appended);
            self.unsettled.pop_front();
        }
    }

    fn cut(&mut self, to: Offset) {
        let before = self.unsettled.len();
        // Nothing that is settled is cut, unless more disks were lost than a quorum bears. Then a batch must not count as
        // a duplicate of one that is gone.
        self.settled.forget_from(to);
        self.current.forget_from(to);
        while self.unsettled.back().is_some_and(|a| a.batch.last_offset() >= to) {
            self.unsettled.pop_back();
        }
        if self.unsettled.len() == before {
            return;
        }
        self.current = self.settled.clone();
        for appended in &self.unsettled {
            self.current.fold(appended);
        }
    }

    /// The last batches of each producer that lie there, in the order of the log.
    fn encode(&self, offsets: &Range<Offset>) -> Option<Vec<u8>> {
        Some(encode_in_order(self.settled.batches_in(offsets)))
    }

    fn decode(section: Option<&[u8]>, offsets: &Range<Offset>) -> Result<Vec<Appended>, &'static str> {
        let (batches, rest) = section.ok_or("there is none")?.as_chunks::<BATCH_BYTES>();
        if !rest.is_empty() {
            return Err("it ends within a batch");
        }
        let batches: Vec<Appended> = batches.iter().map(Appended::decode).collect();
        let is_inside = |a: &Appended| {
            let (first, last) = (a.batch.base_offset, a.batch.last_offset());
            a.producer_id >= 0 && first <= last && offsets.contains(&first) && offsets.contains(&last)
        };
        let is_ordered = batches.is_sorted_by(|a, b| a.batch.last_offset() < b.batch.base_offset);
        match is_ordered && batches.iter().all(is_inside) {
            true => Ok(batches),
            false => Err("it contradicts itself"),
        }
    }

    fn take(&mut self, part: Vec<Appended>, from: Offset) {
        for appended in part.iter().filter(|appended| appended.batch.base_offset >= from) {
            self.settled.fold(appended);
            self.current.fold(appended);
        }
    }

    fn begin_copy(&self) -> CopiedTable {
        CopiedTable { entries: Vec::with_capacity(self.settled.entries.len()) }
    }

    fn walk(&self, copied: &mut CopiedTable, entries_max: usize) -> usize {
        let before = copied.entries.len();
        let from = copied.entries.last().map_or(Bound::Unbounded, |(id, _)| Bound::Excluded(*id));
        let next = self.settled.entries.range((from, Bound::Unbounded)).take(entries_max);
        copied.entries.extend(next.map(|(id, entry)| (*id, *entry)));
        copied.entries.len() - before
    }

    fn encode_copied(copied: CopiedTable) -> Option<Vec<u8>> {
        let batches = copied.entries.iter().flat_map(|(id, entry)| entry.appended(*id));
        Some(encode_in_order(batches.collect()))
    }

    fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    fn settled_end(&self, below: Offset, batches_max: usize) -> Offset {
        let first_that_waits = self.unsettled.get(batches_max.max(1));
        first_that_waits.map_or(below, |appended| below.min(appended.batch.base_offset))
    }

    fn has_room(&self, header: &BatchHeader) -> bool {
        header.producer_id < 0 || self.contains(header.producer_id) || self.next_to_go().is_none()
    }
}

/// Producers with their last batches, in the order of their ids: those up to where a copy has got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CopiedTable {
    /// Has room for all: nothing is allocated as it fills.
    entries: Vec<(i64, Entry)>,
}

#[cfg(test)]
impl CopiedTable {
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Where it lies, and how much of it there is.
    pub(super) fn memory(&self) -> (*const (), usize) {
        (self.entries.as_ptr().cast(), self.entries.capacity())
    }
}

/// In the order of the log.
fn encode_in_order(mut batches: Vec<Appended>) -> Vec<u8> {
    batches.sort_unstable_by_key(|appended| appended.batch.base_offset);
    let mut bytes = Vec::with_capacity(batches.len() * BATCH_BYTES);
    batches.iter().for_each(|appended| appended.encode(&mut bytes));
    bytes
}

/// What the fold keeps of a batch: whose it is, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    producer_id: i64,
    producer_epoch: i16,
    batch: Batch,
}

impl Appended {
    /// `None`: the batch is no producer's. Only transaction markers are control batches with a producer id, and there are
    /// no transactions.
    fn of(header: &BatchHeader) -> Option<Appended> {
        (header.producer_id >= 0 && !header.is_control()).then_some(Appended {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            batch: Batch {
                base_offset: header.base_offset,
                last_offset_delta: header.last_offset_delta,
                base_sequence: header.base_sequence,
                timestamp: header.max_timestamp,
            },
        })
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.producer_id.to_be_bytes());
        out.extend_from_slice(&self.producer_epoch.to_be_bytes());
        out.extend_from_slice(&self.batch.base_offset.0.to_be_bytes());
        out.extend_from_slice(&self.batch.last_offset_delta.to_be_bytes());
        out.extend_from_slice(&self.batch.base_sequence.to_be_bytes());
        out.extend_from_slice(&self.batch.timestamp.to_be_bytes());
    }

    fn decode(bytes: &[u8; BATCH_BYTES]) -> Appended {
        Appended {
            producer_id: i64::from_be_bytes(array_at(bytes, 0)),
            producer_epoch: i16::from_be_bytes(array_at(bytes, 8)),
            batch: Batch {
                base_offset: Offset(i64::from_be_bytes(array_at(bytes, 10))),
                last_offset_delta: i32::from_be_bytes(array_at(bytes, 18)),
                base_sequence: i32::from_be_bytes(array_at(bytes, 22)),
                timestamp: i64::from_be_bytes(array_at(bytes, 26)),
            },
        }
    }
}

fn array_at<const N: usize>(bytes: &[u8; BATCH_BYTES], at: usize) -> [u8; N] {
    let mut array = [0; N];
    array.copy_from_slice(&bytes[at..at + N]);
    array
}

/// Kafka's `BatchMetadata`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Batch {
    base_offset: Offset,
    last_offset_delta: i32,
    base_sequence: i32,
    /// The batch's largest timestamp.
    timestamp: i64,
}

impl Batch {
    fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }

    fn last_sequence(&self) -> i32 {
        sequence_after(self.base_sequence, self.last_offset_delta)
    }
}

/// `sequence` advanced by `by`, both >= 0: 0 comes after `i32::MAX` (Kafka: `DefaultRecordBatch.incrementSequence`).
/// The wire gives the arguments, so that nonsense must wrap and not panic.
fn sequence_after(sequence: i32, by: i32) -> i32 {
    ((sequence as i64 + by as i64) & i32::MAX as i64) as i32
}

/// Every producer id with its last batches, and the order in which they appended last.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Table {
    entries: BTreeMap<i64, Entry>,
    /// Last offset of each producer id -> producer id: the first is the next to be forgotten.
    by_last_offset: BTreeMap<Offset, i64>,
    producer_ids_max: usize,
}

impl Table {
    fn new(producer_ids_max: usize) -> Table {
        Table { entries: BTreeMap::new(), by_last_offset: BTreeMap::new(), producer_ids_max }
    }

    fn fold(&mut self, appended: &Appended) {
        let entry = self.entries.entry(appended.producer_id).or_insert(Entry::EMPTY);
        if let Some(last) = entry.last() {
            self.by_last_offset.remove(&last.last_offset());
        }
        entry.add(appended.producer_epoch, appended.batch);
        self.by_last_offset.insert(appended.batch.last_offset(), appended.producer_id);
        while self.entries.len() > self.producer_ids_max {
            let Some((_, oldest)) = self.by_last_offset.pop_first() else { break };
            self.entries.remove(&oldest);
        }
    }
}

impl Table {
    fn batches_in(&self, offsets: &Range<Offset>) -> Vec<Appended> {
        // Who has appended last before these has none of them.
        let producers = self.by_last_offset.range(offsets.start..);
        let entries = producers.filter_map(|(_, id)| self.entries.get_key_value(id));
        let batches = entries.flat_map(|(id, entry)| entry.appended(*id));
        batches.filter(|appended| offsets.contains(&appended.batch.base_offset)).collect()
    }

    /// Forget the batches at or above `to`; of a producer without others nothing is known.
    fn forget_from(&mut self, to: Offset) {
        for producer_id in self.by_last_offset.split_off(&to).into_values() {
            let Some(entry) = self.entries.get_mut(&producer_id) else { continue };
            entry.len = entry.batches().iter().filter(|b| b.last_offset() < to).count() as u8;
            match entry.last().map(Batch::last_offset) {
                Some(last) => _ = self.by_last_offset.insert(last, producer_id),
                None => _ = self.entries.remove(&producer_id),
            }
        }
    }
}

/// One producer id: its epoch and its last batches, oldest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Entry {
    producer_epoch: i16,
    len: u8,
    batches: [Batch; BATCHES_KEPT],
}

impl Entry {
    const EMPTY: Entry = Entry {
        producer_epoch: NO_PRODUCER_EPOCH,
        len: 0,
        batches: [Batch { base_offset: Offset(0), last_offset_delta: 0, base_sequence: 0, timestamp: 0 };
            BATCHES_KEPT],
    };

    fn batches(&self) -> &[Batch] {
        &self.batches[..self.len as usize]
    }

    /// As batches of this producer.
    fn appended(&self, producer_id: i64) -> impl Iterator<Item = Appended> + '_ {
        let producer_epoch = self.producer_epoch;
        self.batches().iter().map(move |batch| Appended { producer_id, producer_epoch, batch: *batch })
    }

    fn last(&self) -> Option<&Batch> {
        self.batches().last()
    }

    /// Kafka: `ProducerStateEntry.addBatch`. Another epoch, higher or lower, starts afresh: what is in the log counts.
    fn add(&mut self, producer_epoch: i16, batch: Batch) {
        if self.producer_epoch != producer_epoch {
            *self = Entry { producer_epoch, ..Entry::EMPTY };
        }
        if self.len as usize == BATCHES_KEPT {
            self.batches.copy_within(1.., 0);
            self.len -= 1;
        }
        self.batches[self.len as usize] = batch;
        self.len += 1;
    }

    fn check(&self, header: &BatchHeader) -> Verdict {
        if let Some(duplicate) = self.duplicate(header) {
            return Verdict::Duplicate {
                base_offset: duplicate.base_offset,
                last_offset: duplicate.last_offset(),
                timestamp: duplicate.timestamp,
            };
        }
        if header.producer_epoch < self.producer_epoch {
            return Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH);
        }
        if self.is_next(header) {
            return Verdict::New;
        }
        // Also the answer to a duplicate older than five batches: Kafka tells it from a gap no more than this does.
        Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
    }

    /// Kafka: `ProducerStateEntry.findDuplicateBatch`: the same epoch and exactly the same sequences.
    fn duplicate(&self, header: &BatchHeader) -> Option<&Batch> {
        if header.producer_epoch != self.producer_epoch {
            return None;
        }
        let last_sequence = sequence_after(header.base_sequence, header.last_offset_delta);
        self.batches()
            .iter()
            .find(|b| b.base_sequence == header.base_sequence && b.last_sequence() == last_sequence)
    }

    /// Kafka: `ProducerAppendInfo.checkSequence`. The epoch is not lower than ours here.
    fn is_next(&self, header: &BatchHeader) -> bool {
        if self.producer_epoch == NO_PRODUCER_EPOCH {
            return true;
        }
        if header.producer_epoch != self.producer_epoch {
            return header.base_sequence == 0;
        }
        self.last().is_none_or(|last| header.base_sequence == sequence_after(last.last_sequence(), 1))
    }
}

#[cfg(test)]
mod tests;
