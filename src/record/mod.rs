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
mod run;

pub(crate) use batch::UNPIN_RATIO;
pub use batch::{BatchHeader, StampedBatch};
pub use builder::{BatchBuilder, data_batch, restamp_producer};
pub(crate) use builder::{RecordSpec, stamped};
pub(crate) use check::{BatchError, check_compressed_header, check_fetched_into};
pub use check::{ProduceLimits, check_fetched, check_produced, check_run};
#[cfg(test)]
pub(crate) use control::VoterEndpoint;
pub use control::{
    CONFIGS_TYPE, ControlRecord, Voter, check_static_voters, configs_batch, control_records,
    leader_change_batch, may_begin_epoch, snapshot_footer_batch, snapshot_header_batch,
};
pub(crate) use control::{decode_configs, encode_configs};
pub use inspect::Inspector;
pub(crate) use inspect::{Asker, Unread, Wanted, Which};
pub(crate) use interop::INTEROP_BATCH_BYTES_MAX;
pub use interop::{check_interop, make_interop};
pub(crate) use list::{BatchList, BatchLists};
#[cfg(test)]
pub(crate) use records::RecordHeader;
pub use records::{Record, record_timestamps, records};
pub use run::{CheckedRun, RunBuilder};

/// Bytes of a batch header, magic 2.
pub const BATCH_HEADER_BYTES: usize = 61;
/// Bytes before the part that the CRC and the sender own: base offset i64, length i32, leader epoch i32.
pub(crate) const BATCH_PREFIX_BYTES: usize = 16;
/// Base offset and length, which the length field does not count.
pub const LOG_OVERHEAD_BYTES: usize = 12;

#[cfg(test)]
pub(crate) mod tests;
