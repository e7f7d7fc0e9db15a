//! Batches that Kafka's own voters survive.
//!
//! Up to Kafka 4.3 a voter decodes every data record that it replicates (`RecordsIterator`), and stops its process at
//! one with a key, with headers, without a value or with a timestamp of its own. A log that Kafka's voters share
//! (`DataMode::Interop`) therefore holds none: admission makes produced batches fit, or refuses them and says why;
//! batches that come from a leader, and those of a directory that is taken over, are only looked at.

use super::batch::StampedBatch;
use super::builder::{BatchBuilder, RecordSpec};
use super::check::{BatchError, check_produced_whole};
use super::records::{Record, records};

/// Kafka: `KafkaRaftClient.MAX_BATCH_SIZE_BYTES`.
pub(crate) const INTEROP_BATCH_BYTES_MAX: usize = 8 << 20;

/// Timestamps are made the batch's own, everything else that Kafka's voters cannot read is refused: nothing that a
/// user sent is dropped in silence. Copies the batch only where a timestamp must change.
pub fn make_interop(batch: StampedBatch) -> Result<StampedBatch, BatchError> {
    check_batch(&batch)?;
    let mut has_deltas = false;
    for (index, record) in (0..).zip(records(&batch)) {
        let record = record.map_err(|malformed| BatchError::Invalid(malformed.why().to_string()))?;
        check_record(index, &record)?;
        has_deltas |= record.timestamp_delta != 0;
    }
    if has_deltas { without_deltas(&batch) } else { Ok(batch) }
}

/// Whether a batch as it is would stop one of Kafka's voters. Control batches are theirs as well as ours.
pub fn check_interop(batch: &StampedBatch) -> Result<(), BatchError> {
    if batch.header().is_control() {
        return Ok(());
    }
    check_batch(batch)?;
    for (index, record) in (0..).zip(records(batch)) {
        let record = record.map_err(|malformed| BatchError::Invalid(malformed.why().to_string()))?;
        check_record(index, &record)?;
        if record.timestamp_delta != 0 {
            return refused(index, "a timestamp of its own");
        }
    }
    Ok(())
}

fn check_batch(batch: &StampedBatch) -> Result<(), BatchError> {
    let header = batch.header();
    if header.compression() != 0 {
        return Err(BatchError::Compression(
            "the log is shared with Kafka's voters (kraft.data.mode=interop), which cannot read compressed \
             batches: set compression.type=none"
                .to_string(),
        ));
    }
    if header.size_bytes > INTEROP_BATCH_BYTES_MAX {
        return Err(BatchError::TooLarge(format!(
            "the batch has {} bytes, and Kafka's voters, which share this log (kraft.data.mode=interop), read \
             {INTEROP_BATCH_BYTES_MAX}",
            header.size_bytes
        )));
    }
    Ok(())
}

fn check_record(index: i32, record: &Record<'_>) -> Result<(), BatchError> {
    if record.key.is_some() {
        return refused(index, "a key");
    }
    if record.headers().next().is_some() {
        return refused(index, "headers");
    }
    if record.value.is_none_or(|value| value.is_empty()) {
        return refused(index, "no value");
    }
    Ok(())
}

fn refused(index: i32, what: &str) -> Result<(), BatchError> {
    Err(BatchError::Invalid(format!(
        "record {index} of the batch has {what}; the log is shared with Kafka's voters (kraft.data.mode=interop), \
         which can read values only"
    )))
}

/// The same values, all at the time of the batch.
fn without_deltas(batch: &StampedBatch) -> Result<StampedBatch, BatchError> {
    let header = batch.header();
    let builder = BatchBuilder::new(header.base_timestamp).attributes(header.attributes).producer(
        header.producer_id,
        header.producer_epoch,
        header.base_sequence,
    );
    let values = records(batch).map_while(|record| record.ok()).map(|record| record.value);
    let rebuilt =
        values.fold(builder, |builder, value| builder.record(RecordSpec { value, ..RecordSpec::default() }));
    check_produced_whole(rebuilt.build())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::{ProduceLimits, check_produced};
    use crate::types::*;

    const LIMITS: ProduceLimits = ProduceLimits {
        message_bytes_max: 16 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now_wall_ms: 1000,
    };

    fn produced(records: &[RecordSpec<'_>]) -> StampedBatch {
        let builder = BatchBuilder::new(1000).producer(7, 1, 30);
        let batch = records.iter().fold(builder, |builder, record| builder.record(*record)).build();
        check_produced(batch, &LIMITS).expect("a good batch")
    }

    fn value(value: &[u8]) -> RecordSpec<'_> {
        RecordSpec { value: Some(value), ..RecordSpec::default() }
    }

    #[test]
    fn timestamps_become_the_batchs_and_nothing_else_changes() {
        let later = RecordSpec { timestamp_delta: 300, ..value(b"two") };
        let mut batch =
            make_interop(produced(&[value(b"one"), later, value(b"three")])).expect("it is made fit");
        let (header, found) = (*batch.header(), records(&batch).map(|r| r.unwrap()));
        let found: Vec<_> = found.map(|r| (r.offset_delta, r.timestamp_delta, r.value.unwrap())).collect();
        assert_eq!(found, [(0, 0, &b"one"[..]), (1, 0, b"two"), (2, 0, b"three")]);
        assert_eq!((header.base_timestamp, header.max_timestamp), (1000, 1000));
        assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (7, 1, 30));
        assert_eq!((header.record_count, header.last_offset_delta), (3, 2));
        batch.stamp(Offset(9), Epoch(4));
        let (read, error) = crate::record::check_fetched(batch.to_bytes());
        assert_eq!((read, error), (vec![batch], None));
    }

    #[test]
    fn batch_that_fits_is_left_as_it_came() {
        let batch = produced(&[value(b"one"), value(b"two")]);
        let left = make_interop(batch.clone()).expect("it fits");
        assert_eq!((&left, left.rest().as_ptr()), (&batch, batch.rest().as_ptr()), "no copy");
        assert_eq!(check_interop(&batch), Ok(()));
        let leader = NodeId(1);
        let change =
            crate::record::leader_change_batch(Offset(0), Epoch(1), 1000, leader, &[leader], &[leader]);
        assert_eq!(check_interop(&change), Ok(()), "its key and its layout are theirs");
    }

    #[test]
    fn what_kafkas_voters_cannot_read_is_refused_in_words() {
        let headers: &[(&str, Option<&[u8]>)] = &[("trace", None)];
        let cases = [
            (RecordSpec { key: Some(b"k"), ..value(b"v") }, "record 1 of the batch has a key"),
            (RecordSpec { key: Some(b""), ..value(b"v") }, "has a key"),
            (RecordSpec { headers, ..value(b"v") }, "has headers"),
            (value(b""), "has no value"),
            (RecordSpec::default(), "has no value"),
        ];
        for (record, why) in cases {
            let batch = produced(&[value(b"fine"), record]);
            for error in [check_interop(&batch).unwrap_err(), make_interop(batch).unwrap_err()] {
                assert_eq!(error.error(), ErrorCode::INVALID_RECORD);
                assert!(error.why().contains(why) && error.why().contains("kraft.data.mode"), "{error}");
            }
        }
    }

    #[test]
    fn compressed_and_oversized_batches_have_codes_of_their_own() {
        let compressed = BatchBuilder::new(1000).attributes(1).raw_records(b"gzip", 1).build();
        let compressed = check_produced(compressed, &LIMITS).expect("it is not looked into");
        assert_eq!(make_interop(compressed).unwrap_err().error(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
        let sized = |value_bytes: usize| produced(&[value(&vec![7; value_bytes])]);
        let beside = sized(INTEROP_BATCH_BYTES_MAX).size_bytes() - INTEROP_BATCH_BYTES_MAX;
        let largest = sized(INTEROP_BATCH_BYTES_MAX - beside);
        assert_eq!(largest.size_bytes(), INTEROP_BATCH_BYTES_MAX);
        assert_eq!(check_interop(&largest), Ok(()));
        let large = sized(INTEROP_BATCH_BYTES_MAX - beside + 1);
        assert_eq!(make_interop(large).unwrap_err().error(), ErrorCode::MESSAGE_TOO_LARGE);
    }

    #[test]
    fn fetched_batches_are_judged_by_their_timestamps_too() {
        let later = RecordSpec { timestamp_delta: 1, ..value(b"two") };
        let error = check_interop(&produced(&[value(b"one"), later])).unwrap_err();
        assert!(error.why().contains("record 1 of the batch has a timestamp of its own"), "{error}");
    }
}
