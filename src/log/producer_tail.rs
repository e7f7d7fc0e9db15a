//! The last batches of each producer in one segment, until they are written to its summary.

use crate::record::BatchHeader;
use crate::types::*;
use std::collections::BTreeMap;

/// Batches kept of each producer (Kafka: `ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
pub(crate) const PRODUCER_BATCHES_KEPT: usize = 5;

/// What the fold over a producer's batches needs of one (Kafka: `BatchMetadata`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ProducerBatch {
    pub(crate) producer_id: i64,
    pub(crate) producer_epoch: i16,
    pub(crate) base_offset: Offset,
    pub(crate) last_offset_delta: i32,
    pub(crate) base_sequence: i32,
    /// The batch's largest timestamp.
    pub(crate) timestamp: i64,
}

impl ProducerBatch {
    /// `None`: the batch is no producer's. Only transaction markers are control batches with a producer id, and there are
    /// no transactions.
    pub(crate) fn of(header: &BatchHeader) -> Option<ProducerBatch> {
        (header.producer_id >= 0 && !header.is_control()).then_some(ProducerBatch {
            producer_id: header.producer_id,
            producer_epoch: header.producer_epoch,
            base_offset: header.base_offset,
            last_offset_delta: header.last_offset_delta,
            base_sequence: header.base_sequence,
            timestamp: header.max_timestamp,
        })
    }

    pub(crate) fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0.saturating_add(i64::from(self.last_offset_delta)))
    }
}

/// The last batches of each producer in one segment: what the fold over the segment comes to, whatever was before it.
#[derive(Clone, Debug, Default)]
pub(super) struct ProducerTail {
    producers: BTreeMap<i64, LastBatches>,
}

#[derive(Clone, Copy, Debug, Default)]
struct LastBatches {
    batches: [ProducerBatch; PRODUCER_BATCHES_KEPT],
    count: usize,
}

impl LastBatches {
    fn push(&mut self, batch: ProducerBatch) {
        if self.count == PRODUCER_BATCHES_KEPT {
            self.batches.copy_within(1.., 0);
            self.count -= 1;
        }
        self.batches[self.count] = batch;
        self.count += 1;
    }

    fn batches(&self) -> &[ProducerBatch] {
        &self.batches[..self.count]
    }

    fn last_offset(&self) -> Offset {
        self.batches().last().map_or(Offset(0), ProducerBatch::last_offset)
    }
}

impl ProducerTail {
    /// Of those over `producer_ids_max` the ones that have not appended for longest are forgotten, as the replica does it;
    /// when they are twice as many, so that it is seldom.
    pub(super) fn push(&mut self, header: &BatchHeader, producer_ids_max: usize) {
        let Some(batch) = ProducerBatch::of(header) else { return };
        self.producers.entry(batch.producer_id).or_default().push(batch);
        if self.producers.len() > producer_ids_max.saturating_mul(2) {
            self.forget_over(producer_ids_max);
        }
    }

    fn forget_over(&mut self, producer_ids_max: usize) {
        let excess = self.producers.len().saturating_sub(producer_ids_max);
        if excess == 0 {
            return;
        }
        let mut ends: Vec<Offset> = self.producers.values().map(LastBatches::last_offset).collect();
        let at = excess.min(ends.len() - 1);
        let (_, oldest_kept, _) = ends.select_nth_unstable(at);
        let oldest_kept = *oldest_kept;
        self.producers.retain(|_, last| last.last_offset() >= oldest_kept);
    }

    /// Producers known.
    pub(super) fn len(&self) -> usize {
        self.producers.len()
    }

    /// In the order of the log.
    pub(super) fn batches(&self, producer_ids_max: usize) -> Vec<ProducerBatch> {
        let mut bounded = self.clone();
        bounded.forget_over(producer_ids_max);
        let mut all: Vec<_> = bounded.producers.values().flat_map(LastBatches::batches).copied().collect();
        all.sort_by_key(|b| b.base_offset);
        all
    }

    pub(super) fn of_batches(batches: &[ProducerBatch]) -> ProducerTail {
        let mut tail = ProducerTail::default();
        batches.iter().for_each(|b| tail.producers.entry(b.producer_id).or_default().push(*b));
        tail
    }
}
