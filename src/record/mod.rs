//! (contract; the owner of src/record replaces this file)
use crate::types::*;
use bytes::Bytes;

/// Bytes of a batch header, magic 2.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before the part that the CRC and the sender own: base offset i64, length i32, leader epoch i32.
pub const BATCH_PREFIX_BYTES: usize = 16;
/// Base offset and length, which the length field does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;

/// A record batch's header (magic 2), decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    pub base_offset: Offset,
    /// Whole size in bytes: the length field + 12.
    pub size_bytes: usize,
    pub leader_epoch: Epoch,
    pub magic: i8,
    pub crc: u32,
    pub attributes: i16,
    pub last_offset_delta: i32,
    pub base_timestamp: i64,
    pub max_timestamp: i64,
    pub producer_id: i64,
    pub producer_epoch: i16,
    pub base_sequence: i32,
    pub record_count: i32,
}
impl BatchHeader {
    pub fn last_offset(&self) -> Offset {
        Offset(self.base_offset.0 + self.last_offset_delta as i64)
    }
    pub fn next_offset(&self) -> Offset {
        Offset(self.last_offset().0 + 1)
    }
    pub fn is_control(&self) -> bool {
        self.attributes & 0x20 != 0
    }
    pub fn is_transactional(&self) -> bool {
        self.attributes & 0x10 != 0
    }
    /// 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn compression(&self) -> u8 {
        (self.attributes & 7) as u8
    }
    pub fn is_log_append_time(&self) -> bool {
        self.attributes & 8 != 0
    }
    /// Decode without judging; `None` where fewer than 61 bytes are there. Nothing here is trusted.
    pub fn decode(_bytes: &[u8]) -> Option<BatchHeader> {
        unimplemented!()
    }
}

/// Why bytes are not a batch that can be stored. `error()` is Kafka's code for it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BatchError {
    #[error("{0}")]
    Corrupt(String),
    #[error("{0}")]
    Invalid(String),
    #[error("{0}")]
    TooLarge(String),
    #[error("{0}")]
    OldFormat(String),
    #[error("{0}")]
    Timestamp(String),
    #[error("{0}")]
    Compression(String),
}
impl BatchError {
    pub fn error(&self) -> ErrorCode {
        unimplemented!()
    }
}

/// One whole batch whose length, magic and CRC hold: the bytes behind the prefix are shared as received, the prefix is
/// owned. It cannot be built without the checks.
#[derive(Clone, Debug)]
pub struct StampedBatch {
    header: BatchHeader,
    prefix: [u8; BATCH_PREFIX_BYTES],
    rest: Bytes,
}
impl StampedBatch {
    pub fn header(&self) -> &BatchHeader {
        &self.header
    }
    pub fn base_offset(&self) -> Offset {
        self.header.base_offset
    }
    pub fn last_offset(&self) -> Offset {
        self.header.last_offset()
    }
    pub fn next_offset(&self) -> Offset {
        self.header.next_offset()
    }
    pub fn epoch(&self) -> Epoch {
        self.header.leader_epoch
    }
    pub fn size_bytes(&self) -> usize {
        self.header.size_bytes
    }
    /// The 16 stamped bytes, then the rest: together Kafka's exact bytes.
    pub fn prefix(&self) -> &[u8; BATCH_PREFIX_BYTES] {
        &self.prefix
    }
    pub fn rest(&self) -> &Bytes {
        &self.rest
    }
    /// Write base offset and leader epoch; both lie outside the CRC.
    pub fn stamp(&mut self, _base_offset: Offset, _epoch: Epoch) {
        unimplemented!()
    }
    /// The whole batch in one piece (copies).
    pub fn to_bytes(&self) -> Bytes {
        unimplemented!()
    }
    /// Copy out if it pins an allocation much larger than itself (cannot be asked of `Bytes`, so the caller says how
    /// large the allocation is).
    pub fn unpin(self, _allocation_bytes: usize) -> StampedBatch {
        unimplemented!()
    }
}

/// Split and check the records of a Produce request: exactly one batch per partition is legal (Kafka: `LogValidator`,
/// `UnifiedLog.analyzeAndValidateRecords`).
pub fn check_produced(_records: Bytes, _limits: &ProduceLimits) -> Result<StampedBatch, BatchError> {
    unimplemented!()
}

#[derive(Clone, Copy, Debug)]
pub struct ProduceLimits {
    pub message_bytes_max: usize,
    /// Kafka's message.timestamp.before/after.max.ms
    pub timestamp_before_max_ms: i64,
    pub timestamp_after_max_ms: i64,
    pub now_wall_ms: i64,
}

/// Split and check the records of a leader's Fetch answer, or of a disk read: whole batches with valid length, magic, CRC and
/// counts, contiguous offsets, epochs that do not fall. A partial batch at the end is left out.
/// Stops at the first bad batch and says why beside the good ones before it.
pub fn check_fetched(_records: Bytes) -> (Vec<StampedBatch>, Option<BatchError>) {
    unimplemented!()
}

/// A LeaderChange control batch of one record, byte for byte as Kafka 4.3 writes it (value version 0), with its offset and epoch.
pub fn leader_change_batch(
    _base_offset: Offset,
    _epoch: Epoch,
    _wall_ms: i64,
    _leader: NodeId,
    _voters: &[NodeId],
    _granting: &[NodeId],
) -> StampedBatch {
    unimplemented!()
}

/// (offset, timestamp) of each record of an uncompressed batch, without copying; stops at malformed bytes.
pub fn record_timestamps(_batch: &StampedBatch) -> impl Iterator<Item = (Offset, i64)> {
    std::iter::empty()
}

/// Build a data batch (tests, tools, the load driver): values only or with keys, one timestamp, no compression.
pub fn data_batch(_values: &[&[u8]], _wall_ms: i64, _producer: Option<(i64, i16, i32)>) -> Bytes {
    unimplemented!()
}
