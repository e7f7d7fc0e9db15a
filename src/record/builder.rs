//! Builds uncompressed batches: control batches for `control`, data for tests, tools and the load driver.
//!
//! What it builds can be made wrong on purpose (attributes, counts), because tests need that. Batches of the produce
//! path stay as the producer sent them, but for those that `interop` must write anew.

use super::batch::{BatchHeader, COMPRESSION_BITS, CRC_COVERED_FROM, StampedBatch};
use super::{BATCH_HEADER_BYTES, LOG_OVERHEAD_BYTES};
use crate::types::*;
use bytes::Bytes;

/// One record to be built. `headers`: key and value of each.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RecordSpec<'a> {
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) timestamp_delta: i64,
    pub(crate) headers: &'a [(&'a str, Option<&'a [u8]>)],
}

/// Builds one batch at base offset 0 of leader epoch -1, as the Java producer sends it.
#[derive(Clone, Debug)]
pub struct BatchBuilder {
    attributes: i16,
    base_timestamp: i64,
    /// Of the records so far.
    max_timestamp: Option<i64>,
    producer: (i64, i16, i32),
    count: i32,
    records: Vec<u8>,
}

impl BatchBuilder {
    /// `base_timestamp`: milliseconds since the Unix epoch.
    pub fn new(base_timestamp: i64) -> BatchBuilder {
        let producer = (-1, -1, -1);
        BatchBuilder {
            attributes: 0,
            base_timestamp,
            max_timestamp: None,
            producer,
            count: 0,
            records: Vec::new(),
        }
    }

    /// The attribute bits: compression, timestamp type, transactional, control.
    pub fn attributes(mut self, attributes: i16) -> BatchBuilder {
        self.attributes = attributes;
        self
    }

    /// Producer id, producer epoch, base sequence.
    pub(crate) fn producer(mut self, id: i64, epoch: i16, base_sequence: i32) -> BatchBuilder {
        self.producer = (id, epoch, base_sequence);
        self
    }

    pub(crate) fn record(mut self, record: RecordSpec<'_>) -> BatchBuilder {
        let encoded = encode_record(&record, self.count);
        put_varlong(&mut self.records, encoded.len() as i64);
        self.records.extend_from_slice(&encoded);
        self.count += 1;
        self.max_timestamp =
            self.max_timestamp.max(Some(self.base_timestamp.wrapping_add(record.timestamp_delta)));
        self
    }

    /// Bytes that stand in place of encoded records (compressed ones), and how many records they are.
    pub fn raw_records(mut self, records: &[u8], count: i32) -> BatchBuilder {
        self.records.extend_from_slice(records);
        self.count += count;
        self
    }

    /// The whole batch, with its lengths, counts and CRC.
    pub fn build(self) -> Bytes {
        let size = BATCH_HEADER_BYTES + self.records.len();
        let mut batch = Vec::with_capacity(size);
        batch.extend_from_slice(&0_i64.to_be_bytes());
        batch.extend_from_slice(&((size - LOG_OVERHEAD_BYTES) as i32).to_be_bytes());
        batch.extend_from_slice(&(-1_i32).to_be_bytes());
        batch.push(2);
        batch.extend_from_slice(&[0; 4]);
        batch.extend_from_slice(&self.attributes.to_be_bytes());
        batch.extend_from_slice(&(self.count - 1).to_be_bytes());
        batch.extend_from_slice(&self.base_timestamp.to_be_bytes());
        batch.extend_from_slice(&self.max_timestamp.unwrap_or(self.base_timestamp).to_be_bytes());
        batch.extend_from_slice(&self.producer.0.to_be_bytes());
        batch.extend_from_slice(&self.producer.1.to_be_bytes());
        batch.extend_from_slice(&self.producer.2.to_be_bytes());
        batch.extend_from_slice(&self.count.to_be_bytes());
        batch.extend_from_slice(&self.records);
        write_crc(&mut batch);
        Bytes::from(batch)
    }
}

/// A data batch of values without keys, all of one timestamp, uncompressed. `producer`: id, epoch, base sequence.
pub fn data_batch(values: &[&[u8]], wall_ms: i64, producer: Option<(i64, i16, i32)>) -> Bytes {
    let (id, epoch, base_sequence) = producer.unwrap_or((-1, -1, -1));
    let builder = BatchBuilder::new(wall_ms).producer(id, epoch, base_sequence);
    let add = |builder: BatchBuilder, value: &&[u8]| {
        builder.record(RecordSpec { value: Some(value), ..RecordSpec::default() })
    };
    values.iter().fold(builder, add).build()
}

/// Write producer id, epoch and base sequence into a batch that [`BatchBuilder`] built, and its CRC anew: so that a load
/// driver may send one batch again and again. Panics if `batch` is shorter than a header.
pub fn restamp_producer(batch: &mut [u8], (id, epoch, base_sequence): (i64, i16, i32)) {
    batch[43..51].copy_from_slice(&id.to_be_bytes());
    batch[51..53].copy_from_slice(&epoch.to_be_bytes());
    batch[53..57].copy_from_slice(&base_sequence.to_be_bytes());
    write_crc(batch);
}

/// What was built, at its place in a log or in a snapshot.
pub(crate) fn stamped(builder: BatchBuilder, base_offset: Offset, epoch: Epoch) -> StampedBatch {
    let bytes = builder.build();
    let header = BatchHeader::decode(&bytes).expect("a batch just built has a header");
    let mut batch = StampedBatch::from_checked(header, bytes);
    batch.stamp(base_offset, epoch);
    batch
}

/// The same header before the same records, compressed by another codec.
pub(super) fn rebuilt(batch: &[u8], codec: u8, records: &[u8]) -> Bytes {
    let mut out = [&batch[..BATCH_HEADER_BYTES], records].concat();
    let length = (out.len() - LOG_OVERHEAD_BYTES) as u32;
    out[8..LOG_OVERHEAD_BYTES].copy_from_slice(&length.to_be_bytes());
    out[22] = out[22] & !(COMPRESSION_BITS as u8) | codec;
    write_crc(&mut out);
    Bytes::from(out)
}

fn write_crc(batch: &mut [u8]) {
    let crc = crc32c::crc32c(&batch[CRC_COVERED_FROM..]);
    batch[17..CRC_COVERED_FROM].copy_from_slice(&crc.to_be_bytes());
}

fn encode_record(record: &RecordSpec<'_>, offset_delta: i32) -> Vec<u8> {
    let mut out = vec![0];
    put_varlong(&mut out, record.timestamp_delta);
    put_varlong(&mut out, i64::from(offset_delta));
    put_nullable(&mut out, record.key);
    put_nullable(&mut out, record.value);
    put_varlong(&mut out, record.headers.len() as i64);
    for (key, value) in record.headers {
        put_nullable(&mut out, Some(key.as_bytes()));
        put_nullable(&mut out, *value);
    }
    out
}

fn put_nullable(out: &mut Vec<u8>, bytes: Option<&[u8]>) {
    put_varlong(out, bytes.map_or(-1, |bytes| bytes.len() as i64));
    out.extend_from_slice(bytes.unwrap_or_default());
}

/// Zigzag; for values in the range of an i32 the same bytes as a varint.
fn put_varlong(out: &mut Vec<u8>, value: i64) {
    put_unsigned_varint(out, ((value << 1) ^ (value >> 63)) as u64);
}

pub(super) fn put_unsigned_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
