//! Producer state: the last five batches of each producer id, a fold over the batch headers of the log.
//!
//! Every replica folds every batch that it appends, so that a retry is recognised also after a failover or a restart
//! (Kafka: `ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry`). The leader asks `check` before it
//! appends a client's batch. What lies below the high watermark is settled; what lies above it is also kept as a list
//! of headers, so that a truncation can fold again what survives. Two replicas with the same log hold the same state,
//! evictions included; one that has started from summaries may know batches of producers that were forgotten and came back.
//! It never looks at a record, at a clock, or at who leads.

use crate::log::{PRODUCER_BATCHES_KEPT, ProducerBatch, Recovered, Summary};
use crate::record::BatchHeader;
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};

/// Batches kept per producer id (Kafka: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`); a Java producer has no more than
/// five requests in flight for the same reason.
const BATCHES_KEPT: usize = PRODUCER_BATCHES_KEPT;

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
#[derive(Clone, Debug)]
pub struct Producers {
    /// After every batch of the log.
    current: Table,
    /// After the batches below the high watermark: where a truncation begins to fold again.
    settled: Table,
    /// Batches between the two, in log order. As long as the log's uncommitted part, which the leader bounds.
    unsettled: VecDeque<Appended>,
}

impl Producers {
    /// `producer_ids_max`: over it, the producer id that has not appended for longest (in offsets) is forgotten.
    pub fn new(producer_ids_max: usize) -> Producers {
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

    /// Fold an appended (stamped) batch, in log order, on every replica and in recovery. Recovery also calls
    /// `on_committed` with the commit mark as it goes, so that the list of unsettled batches stays short.
    pub(crate) fn on_append(&mut self, header: &BatchHeader) {
        let Some(appended) = ProducerBatch::of(header).map(|batch| Appended::of(&batch)) else { return };
        self.current.fold(&appended);
        self.unsettled.push_back(appended);
    }

    /// Recovery: the next part of the log.
    pub(crate) fn on_recovered(&mut self, part: Recovered) {
        match part {
            Recovered::Batch(batch) => self.on_append(batch.header()),
            Recovered::Segment(summary) => self.on_segment(summary),
        }
    }

    /// A summary's segment is committed, and so is all before it.
    pub(crate) fn on_segment(&mut self, summary: &Summary) {
        self.on_committed(HighWatermark(summary.end()));
        for batch in summary.producers() {
            let appended = Appended::of(batch);
            self.settled.fold(&appended);
            self.current.fold(&appended);
        }
    }

    /// Undo what lies at or above `to`.
    pub(super) fn on_truncate(&mut self, to: Offset) {
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

    /// Settle what lies below: it will never be truncated.
    pub(crate) fn on_committed(&mut self, high_watermark: HighWatermark) {
        while let Some(appended) = self.unsettled.front() {
            if appended.batch.last_offset() >= high_watermark.0 {
                return;
            }
            self.settled.fold(appended);
            self.unsettled.pop_front();
        }
    }

    /// Whom a newcomer would push out: the last offset of who has been silent for longest, and the time that this producer gave
    /// its last batch. `None`: nobody, there is room.
    pub(super) fn next_to_go(&self) -> Option<(Offset, i64)> {
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

/// What the fold keeps of a batch: whose it is, and the rest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Appended {
    producer_id: i64,
    producer_epoch: i16,
    batch: Batch,
}

impl Appended {
    fn of(batch: &ProducerBatch) -> Appended {
        Appended {
            producer_id: batch.producer_id,
            producer_epoch: batch.producer_epoch,
            batch: Batch {
                base_offset: batch.base_offset,
                last_offset_delta: batch.last_offset_delta,
                base_sequence: batch.base_sequence,
                timestamp: batch.timestamp,
            },
        }
    }
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
        Offset(self.base_offset.0 + self.last_offset_delta as i64)
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
