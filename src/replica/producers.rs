//! (contract; the owner replaces this file)
use crate::record::BatchHeader;
use crate::types::*;
/// Producer state: the last five batches of each producer id, folded from the batch headers of the log (Kafka:
/// `ProducerStateManager`, `ProducerAppendInfo`, `ProducerStateEntry`). Everything below the committed offset is settled;
/// what lies above can be undone by truncation.
#[derive(Clone, Debug)]
pub struct Producers {}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Append it.
    New,
    /// Already in the log here: answer with this base offset and timestamp once the high watermark has passed `last_offset`.
    Duplicate {
        base_offset: Offset,
        last_offset: Offset,
        timestamp: i64,
    },
    Refused(ErrorCode),
}
impl Producers {
    pub fn new(_producer_ids_max: usize) -> Producers {
        unimplemented!()
    }
    /// Judge a client's batch (producer id < 0: New). Does not change anything.
    pub fn check(&self, _header: &BatchHeader) -> Verdict {
        unimplemented!()
    }
    /// Fold an appended (stamped) batch, in log order, on every replica and in recovery.
    pub fn on_append(&mut self, _header: &BatchHeader) {
        unimplemented!()
    }
    /// Undo what lies at or above `to`.
    pub fn on_truncate(&mut self, _to: Offset) {
        unimplemented!()
    }
    /// Settle what lies below: it will never be truncated.
    pub fn on_committed(&mut self, _high_watermark: HighWatermark) {
        unimplemented!()
    }
    pub fn contains(&self, _producer_id: i64) -> bool {
        unimplemented!()
    }
    pub fn len(&self) -> usize {
        unimplemented!()
    }
}
