//! Whether bytes are batches that may be stored: from a producer, from a leader, from the disk.
//!
//! Called by admission on the core that received them, and by `log` when it reads. Nothing is copied, and nothing is
//! allocated but the list of batches and the sentence of an error.

use super::batch::{BatchHeader, CRC_COVERED_FROM, StampedBatch};
use super::records::Records;
use super::run::{CheckedRun, Noted};
use super::{BATCH_HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::types::*;
use bytes::Bytes;
use std::fmt;

/// Zstandard, the last compression that Kafka knows.
const COMPRESSION_MAX: u8 = 4;
/// Up to the magic, all formats of a batch agree (Kafka: `Records.HEADER_SIZE_UP_TO_MAGIC`).
const HEADER_BYTES_UP_TO_MAGIC: usize = 17;
const MAGIC: i8 = 2;
/// So many empty records have 112 MiB: what nobody looks into counts no more.
const COMPRESSED_RECORDS_MAX: i32 = 16 << 20;
/// The maximum of a batch whose records have none (Kafka: `RecordBatch.NO_TIMESTAMP`).
pub(super) const NO_TIMESTAMP: i64 = -1;

/// A record that is to blame, by its place in the batch (KIP-467).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordError {
    pub(crate) index: i32,
    pub(crate) why: String,
}

/// Records of a batch that are blamed one by one.
const RECORD_ERRORS_MAX: usize = 100;

/// Why bytes are not a batch that can be stored. `error()` is Kafka's code for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BatchError {
    Corrupt(String),
    Invalid(String),
    TooLarge(String),
    /// Magic 0 or 1, which Kafka 4 accepts nowhere.
    OldFormat(String),
    Timestamp(String, Vec<RecordError>),
    Compression(String),
    /// A batch of a transaction: nobody here coordinates transactions.
    Transactional(String),
    /// Not the first for its partition in one request: nobody has looked at it.
    Repeated,
}

impl BatchError {
    pub(crate) fn error(&self) -> ErrorCode {
        match self {
            BatchError::Corrupt(_) => ErrorCode::CORRUPT_MESSAGE,
            BatchError::Invalid(_) => ErrorCode::INVALID_RECORD,
            BatchError::TooLarge(_) => ErrorCode::MESSAGE_TOO_LARGE,
            // Kafka's ProduceRequest.validateRecords, for every version of Produce that has batches of magic 2.
            BatchError::OldFormat(_) => ErrorCode::INVALID_RECORD,
            BatchError::Timestamp(..) => ErrorCode::INVALID_TIMESTAMP,
            BatchError::Compression(_) => ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
            BatchError::Transactional(_) => ErrorCode::INVALID_TXN_STATE,
            BatchError::Repeated => ErrorCode::INVALID_REQUEST,
        }
    }

    /// The records that are to blame, where it is not the batch.
    pub(crate) fn take_record_errors(&mut self) -> Vec<RecordError> {
        if let BatchError::Timestamp(_, records) = self { std::mem::take(records) } else { Vec::new() }
    }

    /// The sentence.
    pub(crate) fn why(&self) -> &str {
        match self {
            BatchError::Corrupt(why)
            | BatchError::Invalid(why)
            | BatchError::TooLarge(why)
            | BatchError::OldFormat(why)
            | BatchError::Timestamp(why, _)
            | BatchError::Compression(why)
            | BatchError::Transactional(why) => why,
            BatchError::Repeated => "a request must name a partition only once",
        }
    }
}

impl fmt::Display for BatchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why())
    }
}

impl std::error::Error for BatchError {}

fn corrupt<T>(why: String) -> Result<T, BatchError> {
    Err(BatchError::Corrupt(why))
}

pub(super) fn invalid<T>(why: String) -> Result<T, BatchError> {
    Err(BatchError::Invalid(why))
}

/// What a produced batch may be.
#[derive(Clone, Copy, Debug)]
pub struct ProduceLimits {
    /// Kafka's message.max.bytes: of one batch, as it came.
    pub message_bytes_max: usize,
    /// Kafka's message.timestamp.before.max.ms: how far a timestamp may lie behind `now_wall_ms`.
    pub timestamp_before_max_ms: i64,
    /// Kafka's message.timestamp.after.max.ms: how far ahead.
    pub timestamp_after_max_ms: i64,
    /// Now, in milliseconds since the Unix epoch.
    pub now_wall_ms: i64,
}

/// Split and check the records of a Produce request: exactly one batch per partition is legal. The order of the
/// checks, and so the code where several fail, is Kafka's: `ProduceRequest.validateRecords`,
/// `UnifiedLog.analyzeAndValidateRecords`, `LogValidator`. An uncompressed batch is walked record by record, a
/// compressed one is left for an [`Inspector`](super::Inspector). The maximum timestamp of an uncompressed
/// one is that of its records, whatever its header says; one that says otherwise is copied.
pub fn check_produced(records: Bytes, limits: &ProduceLimits) -> Result<StampedBatch, BatchError> {
    let header = first_batch(&records)?;
    if header.size_bytes < records.len() {
        let left = records.len() - header.size_bytes;
        return invalid(format!(
            "a partition takes exactly one record batch, but {left} bytes follow the first"
        ));
    }
    if header.base_offset.0 != 0 {
        return invalid(format!("the base offset of a produced batch is 0, not {}", header.base_offset));
    }
    if header.size_bytes > limits.message_bytes_max {
        return Err(BatchError::TooLarge(format!(
            "the batch has {} bytes, and message.max.bytes is {}",
            header.size_bytes, limits.message_bytes_max
        )));
    }
    check_crc(&header, &records)?;
    check_counts(&header)?;
    check_attributes(&header)?;
    check_producer(&header)?;
    if header.compression() != 0 {
        return Ok(StampedBatch::from_checked(header, records));
    }
    let max_timestamp = check_records(&header, &records[BATCH_HEADER_BYTES..], limits)?;
    let mut batch = StampedBatch::from_checked(header, records);
    batch.set_max_timestamp(max_timestamp);
    Ok(batch)
}

/// What can be said of a compressed batch that nobody looks into.
pub(crate) fn check_compressed_header(
    header: &BatchHeader,
    limits: &ProduceLimits,
) -> Result<(), BatchError> {
    check_timestamp(header.base_timestamp, limits)?;
    check_timestamp(header.max_timestamp, limits)?;
    if header.record_count > COMPRESSED_RECORDS_MAX {
        return invalid(format!(
            "the batch counts {} records, and {COMPRESSED_RECORDS_MAX} are believed",
            header.record_count
        ));
    }
    Ok(())
}

/// A batch that was built here from records that have been checked.
pub(super) fn check_produced_whole(batch: Bytes) -> Result<StampedBatch, BatchError> {
    let header = first_batch(&batch)?;
    check_crc(&header, &batch)?;
    check_counts(&header)?;
    Ok(StampedBatch::from_checked(header, batch))
}

/// The first batch of a Produce request's records, which must be there as a whole.
fn first_batch(records: &[u8]) -> Result<BatchHeader, BatchError> {
    let missing = || BatchError::Invalid("the request holds no whole record batch".to_string());
    let start: &[u8; HEADER_BYTES_UP_TO_MAGIC] = records.first_chunk().ok_or_else(missing)?;
    match start[16] as i8 {
        MAGIC => {}
        magic @ 0..MAGIC => {
            return Err(BatchError::OldFormat(format!(
                "the batch is of the old format {magic}; only 2 is taken"
            )));
        }
        magic => return corrupt(format!("the batch is of the unknown format {magic}")),
    }
    let length = i32::from_be_bytes([start[8], start[9], start[10], start[11]]);
    if length < 0 {
        return corrupt(format!("the batch says that it has {length} bytes behind its length"));
    }
    let Some(header) = BatchHeader::decode(records) else { return Err(missing()) };
    if header.size_bytes < BATCH_HEADER_BYTES {
        return corrupt(format!("the batch says that it has {} bytes, its header has 61", header.size_bytes));
    }
    if header.size_bytes > records.len() { Err(missing()) } else { Ok(header) }
}

fn check_crc(header: &BatchHeader, batch: &[u8]) -> Result<(), BatchError> {
    let computed = crc32c::crc32c(batch.get(CRC_COVERED_FROM..header.size_bytes).unwrap_or_default());
    if computed != header.crc {
        return corrupt(format!(
            "the CRC of the batch is {computed:#010x}, its header says {:#010x}",
            header.crc
        ));
    }
    Ok(())
}

/// A log of ours has no gaps inside a batch (and a Java voter takes base offset + count for the next offset).
fn check_counts(header: &BatchHeader) -> Result<(), BatchError> {
    let (delta, count) = (header.last_offset_delta, header.record_count);
    if count <= 0 || delta != count - 1 {
        return invalid(format!("the batch counts {count} records, and its last offset delta is {delta}"));
    }
    Ok(())
}

fn check_attributes(header: &BatchHeader) -> Result<(), BatchError> {
    if header.is_control() {
        return invalid("clients may not write control batches".to_string());
    }
    if header.is_transactional() {
        return Err(BatchError::Transactional("transactions are not supported here".to_string()));
    }
    if header.compression() > COMPRESSION_MAX {
        return Err(BatchError::Compression(format!("compression type {} is unknown", header.compression())));
    }
    if header.is_log_append_time() {
        let why = "a producer may not set the timestamp type LogAppendTime".to_string();
        return Err(BatchError::Timestamp(why, Vec::new()));
    }
    Ok(())
}

fn check_producer(header: &BatchHeader) -> Result<(), BatchError> {
    if header.has_producer_id() && (header.base_sequence < 0 || header.producer_epoch < 0) {
        return invalid(format!(
            "producer id {} comes with epoch {} and base sequence {}",
            header.producer_id, header.producer_epoch, header.base_sequence
        ));
    }
    Ok(())
}

/// The records of an uncompressed batch: well formed, as many as counted, offset deltas 0, 1, 2, … Those whose time is out of
/// range are all named, so that a client can send the others again. Gives their largest timestamp.
fn check_records(header: &BatchHeader, records: &[u8], limits: &ProduceLimits) -> Result<i64, BatchError> {
    let mut max_timestamp = NO_TIMESTAMP;
    let mut late: Option<(String, Vec<RecordError>)> = None;
    for (index, record) in (0..).zip(Records::new(records, header.record_count)) {
        let record = record.map_err(|malformed| {
            BatchError::Invalid(format!("record {index} of the batch is malformed: {}", malformed.why()))
        })?;
        if record.offset_delta != index {
            return invalid(format!(
                "record {index} of the batch has the offset delta {}",
                record.offset_delta
            ));
        }
        let timestamp = header.base_timestamp.wrapping_add(record.timestamp_delta);
        if !is_in_range(timestamp, limits) {
            let (_, blamed) = late.get_or_insert_with(|| (out_of_range(timestamp, limits), Vec::new()));
            // A batch may have a hundred thousand: a sentence for each would cost more than all else of it.
            if blamed.len() < RECORD_ERRORS_MAX {
                blamed.push(RecordError { index, why: out_of_range(timestamp, limits) });
            }
        }
        max_timestamp = max_timestamp.max(timestamp);
    }
    match late {
        Some((why, blamed)) => Err(BatchError::Timestamp(why, blamed)),
        None => Ok(max_timestamp),
    }
}

pub(super) fn check_timestamp(timestamp: i64, limits: &ProduceLimits) -> Result<(), BatchError> {
    match is_in_range(timestamp, limits) {
        true => Ok(()),
        false => Err(BatchError::Timestamp(out_of_range(timestamp, limits), Vec::new())),
    }
}

fn is_in_range(timestamp: i64, limits: &ProduceLimits) -> bool {
    let behind = limits.now_wall_ms.saturating_sub(timestamp);
    let ahead = timestamp.saturating_sub(limits.now_wall_ms);
    let in_range = behind <= limits.timestamp_before_max_ms && ahead <= limits.timestamp_after_max_ms;
    timestamp == NO_TIMESTAMP || in_range
}

fn out_of_range(timestamp: i64, limits: &ProduceLimits) -> String {
    format!(
        "timestamp {timestamp} is out of range: it may lie {} ms before and {} ms after {}",
        limits.timestamp_before_max_ms, limits.timestamp_after_max_ms, limits.now_wall_ms
    )
}

/// Split and check the records of a leader's Fetch answer, or of a disk read: whole batches with valid length, magic, CRC
/// and counts, contiguous offsets, epochs that do not fall. A partial batch at the end is left out.
/// Stops at the first bad batch and says why beside the good ones before it.
pub fn check_fetched(records: Bytes) -> (Vec<StampedBatch>, Option<BatchError>) {
    let mut batches = Vec::new();
    let error = check_fetched_into(records, &mut batches);
    (batches, error)
}

/// The same, into an empty list that is used again and again.
pub(crate) fn check_fetched_into(records: Bytes, batches: &mut Vec<StampedBatch>) -> Option<BatchError> {
    let mut left = records;
    loop {
        match next_fetched(&left, batches.last().map(StampedBatch::header)) {
            Ok(None) => return None,
            Ok(Some(header)) => {
                let batch = left.split_to(header.size_bytes);
                batches.push(StampedBatch::from_checked(header, batch));
            }
            Err(error) => return Some(error),
        }
    }
}

/// The same without a list: the good batches as one run, `None` where there is none.
pub fn check_run(records: Bytes) -> (Option<CheckedRun>, Option<BatchError>) {
    let (mut good_bytes, mut noted, mut error) = (0, Noted::default(), None);
    let (mut first, mut last): (Option<Offset>, Option<BatchHeader>) = (None, None);
    loop {
        match next_fetched(&records[good_bytes..], last.as_ref()) {
            Ok(Some(header)) => {
                noted.note(good_bytes, &header);
                good_bytes += header.size_bytes;
                first = first.or(Some(header.base_offset));
                last = Some(header);
            }
            Ok(None) => break,
            Err(bad) => {
                error = Some(bad);
                break;
            }
        }
    }
    let ends = first.zip(last.map(|last| last.next_offset()));
    let good = || records.slice(..good_bytes);
    (ends.map(|(base, next)| CheckedRun::from_checked(good(), base, next, noted)), error)
}

/// Header of the whole batch at the start of `records`; `Ok(None)`: nothing, or only a part of one.
fn next_fetched(records: &[u8], previous: Option<&BatchHeader>) -> Result<Option<BatchHeader>, BatchError> {
    let Some(start) = records.first_chunk::<HEADER_BYTES_UP_TO_MAGIC>() else { return Ok(None) };
    let (magic, length) = (start[16] as i8, i32::from_be_bytes([start[8], start[9], start[10], start[11]]));
    if magic != MAGIC {
        return corrupt(format!("the batch is of format {magic}, not 2"));
    }
    if length < (BATCH_HEADER_BYTES - LOG_OVERHEAD_BYTES) as i32 {
        return corrupt(format!("the length field of the batch is {length}, its header alone has 49"));
    }
    let Some(header) = BatchHeader::decode(records) else { return Ok(None) };
    if header.size_bytes > records.len() {
        return Ok(None);
    }
    check_crc(&header, records)?;
    check_counts(&header)?;
    check_place(&header, previous)?;
    Ok(Some(header))
}

/// Base offset and leader epoch, which no CRC covers.
fn check_place(header: &BatchHeader, previous: Option<&BatchHeader>) -> Result<(), BatchError> {
    let (base, epoch) = (header.base_offset, header.leader_epoch);
    let ends = base.0.checked_add(i64::from(header.record_count));
    if base.0 < 0 || epoch.0 < 0 || ends.is_none() {
        return corrupt(format!("no batch can have the base offset {base} and the epoch {epoch}"));
    }
    let Some(previous) = previous else { return Ok(()) };
    if base != previous.next_offset() {
        return corrupt(format!("a batch at {base} follows one that ends before {}", previous.next_offset()));
    }
    if epoch < previous.leader_epoch {
        return corrupt(format!(
            "the batch at {base} is of epoch {epoch}, the one before it of {}",
            previous.leader_epoch
        ));
    }
    Ok(())
}
