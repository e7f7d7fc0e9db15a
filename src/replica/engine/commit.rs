//! The log grows, is committed, is cut: what is kept of it here changes with it.

use super::GatedEngine;
use super::told::Told;
use crate::record::{StampedBatch, may_begin_epoch};
use crate::replica::notice::EXIT_CORRUPT;
use crate::types::*;

impl<W> GatedEngine<W> {
    /// Every batch of this node's log comes through here, whoever wrote it.
    pub(super) fn append_to_log(&mut self, now: Now, batch: StampedBatch) {
        self.folds.fold(&batch);
        self.copying.on_folded();
        if may_begin_epoch(&batch) {
            self.on_leader_change_appended(now, batch.epoch(), batch.header().max_timestamp);
        }
        self.uncommitted.push(batch.next_offset(), batch.size_bytes(), batch.header().data_timestamp());
        self.on_appended_bytes(batch.size_bytes() as u64);
        self.log.append(batch);
    }

    pub(super) fn on_high_watermark(&mut self, high_watermark: HighWatermark) {
        let records = (high_watermark.0.0 - self.committed_end.0).max(0) as u64;
        // The first one after a start only tells how long the log is.
        let records = if self.committed_end.0 == 0 { 0 } else { records };
        self.committed_end = high_watermark.0;
        // Before the log: what it finds to be committed is settled.
        self.folds.settle(high_watermark);
        self.log.on_committed(high_watermark);
        let mut bytes = 0;
        while let Some(batch) = self.uncommitted.pop_committed(high_watermark) {
            self.latest.on_committed(batch.timestamp);
            bytes += batch.bytes as u64;
        }
        self.counts.committed_bytes += bytes;
        self.told.push_back(Told::Committed { bytes, records });
    }

    pub(super) fn on_truncate(&mut self, to: LogEndOffset) {
        self.folds.cut(to.0);
        self.on_cut_to(to.0);
        self.uncommitted.cut_to(to);
    }

    /// A cut lies between two batches. One within a batch is asked for by no leader whose log is whole, and cannot be
    /// made: which of the two logs is damaged, nobody here can tell.
    pub(super) fn check_cut(&mut self, wanted: LogEndOffset, made: LogEndOffset) {
        if made < wanted {
            let why = format!(
                "the leader's log parts from this one at offset {wanted}, inside of a batch that begins at {made}: one \
                 of the two is damaged. Compare both with kafka-dump-log.sh before this node is started again"
            );
            self.stop(EXIT_CORRUPT, why);
        }
    }
}
