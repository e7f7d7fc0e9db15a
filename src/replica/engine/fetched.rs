//! Batches that a leader sent: kept here, checked, until Raft has said which of them the log takes.

use super::GatedEngine;
use crate::raft::{self, BatchSpan};
use crate::record::{BatchError, StampedBatch, check_fetched_into, check_interop};
use crate::replica::notice::EXIT_CONFIG;
use crate::types::*;
use bytes::Bytes;

impl<W> GatedEngine<W> {
    /// Take what came with a Fetch answer, and tell Raft's part of it where the batches lie. They stay until the next answer: Raft
    /// may want them only when its quorum state is durable. `Err`: why one is bad; those before it were taken.
    pub(crate) fn take_fetched(
        &mut self,
        from: NodeId,
        answer: &mut raft::FetchResponse,
        records: Bytes,
    ) -> Result<(), BatchError> {
        self.fetched.clear();
        let bad = check_fetched_into(records, &mut self.fetched);
        if answer.error.is_none() && self.raft.leader() == Some(from) {
            self.lagging = answer.lagging;
        }
        answer.batches = std::mem::take(&mut self.effects.spans);
        answer.batches.extend(self.fetched.iter().map(span_of));
        bad.map_or(Ok(()), Err)
    }

    pub(super) fn append_fetched(&mut self, now: Now, first: usize, count: usize) {
        let mut fetched = std::mem::take(&mut self.fetched);
        assert!(first + count <= fetched.len(), "Raft asks for batches that the answer did not hold");
        for batch in fetched.drain(..).skip(first).take(count) {
            if let Some(why) = self.unfit(&batch) {
                return self.stop(EXIT_CONFIG, why);
            }
            self.counts.replicated_records += batch.header().record_count.max(0) as u64;
            self.append_to_log(now, batch);
        }
        self.fetched = fetched;
    }

    /// Why a batch of the leader's must not be stored here: this node cannot go by it, or one of Kafka's voters, which
    /// replicate an interop log, could not read it.
    fn unfit(&self, batch: &StampedBatch) -> Option<String> {
        let leader =
            || self.raft.leader().map_or_else(|| "the leader".to_string(), |id| format!("node {id}"));
        if let Err(why) = self.folds.fits(batch) {
            return Some(format!("stopping before a batch that {} sent is stored: {why}", leader()));
        }
        if self.data_mode == DataMode::Native {
            return None;
        }
        let why = check_interop(batch).err()?;
        Some(format!(
            "stopping before the batch at offset {} that {} sent is stored, because it would stop Kafka's voters: \
             {why}. Give every node of the quorum kraft.data.mode=interop, and an empty log.dirs where that is refused",
            batch.base_offset(),
            leader()
        ))
    }
}

fn span_of(batch: &StampedBatch) -> BatchSpan {
    BatchSpan { base: batch.base_offset(), last: batch.last_offset(), epoch: batch.epoch() }
}
