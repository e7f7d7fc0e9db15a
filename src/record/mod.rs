//! Kafka's record batches (format v2, "magic 2"): look at them, check them, stamp them, build them.
//!
//! Admission checks what producers and leaders send, `raft`'s carriers stamp offsets and epochs, `log` checks what it
//! reads back, and tools take batches apart. A [`StampedBatch`] exists only for bytes whose length, magic and CRC
//! hold. Only an [`Inspector`] decompresses, to look. This module does no I/O, and copies a batch only where a function says so.
//!
//! ```text
//! base offset i64 | length i32 | leader epoch i32 | magic i8 | crc u32 | attributes i16 | last offset delta i32 | …
//! └─────────── the prefix: stamped ──────────────┘                     └── covered by the CRC: never touched ──►
//! ```

mod batch;
mod builder;
mod check;
pub mod compression;
mod control;
mod inspect;
mod interop;
mod list;
mod records;

pub use batch::{BatchHeader, StampedBatch, UNPIN_RATIO};
pub use builder::{BatchBuilder, RecordSpec, data_batch, restamp_producer};
pub use check::{
    BatchError, ProduceLimits, RecordError, check_compressed_header, check_fetched, check_fetched_into,
    check_produced,
};
pub use control::{
    ControlRecord, Voter, VoterEndpoint, check_static_voters, control_records, leader_change_batch,
};
pub use inspect::{Asker, Inspector, Unread, Wanted};
pub use interop::{INTEROP_BATCH_BYTES_MAX, check_interop, make_interop};
pub use list::{BatchList, BatchLists};
pub use records::{Malformed, Record, RecordHeader, Records, record_timestamps, records};

/// Bytes of a batch header, magic 2.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before the part that the CRC and the sender own: base offset i64, length i32, leader epoch i32.
pub const BATCH_PREFIX_BYTES: usize = 16;
/// Base offset and length, which the length field does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;

#[cfg(test)]
pub(crate) mod tests;
