use super::*;
use proptest::prelude::*;

fn header(producer_id: i64, epoch: i16, sequence: i32, records: i32, base_offset: i64) -> BatchHeader {
    BatchHeader {
        base_offset: Offset(base_offset),
        size_bytes: 100,
        leader_epoch: Epoch(1),
        magic: 2,
        crc: 0,
        attributes: 0,
        last_offset_delta: records - 1,
        base_timestamp: base_offset,
        max_timestamp: base_offset * 10,
        producer_id,
        producer_epoch: epoch,
        base_sequence: sequence,
        record_count: records,
    }
}

const REFUSED_ORDER: Verdict = Verdict::Refused(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
const REFUSED_EPOCH: Verdict = Verdict::Refused(ErrorCode::INVALID_PRODUCER_EPOCH);

#[test]
fn batches_without_a_producer_id_are_never_judged_or_kept() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(-1, -1, -1, 3, 0));
    assert_eq!(producers.len(), 0);
    assert_eq!(producers.check(&header(-1, -1, -1, 3, 0)), Verdict::New);
}

/// Lost with more disks than a quorum bears: a batch that is gone must not make another one its duplicate.
#[test]
fn what_was_settled_and_is_cut_all_the_same_is_forgotten() {
    let mut producers = Producers::new(10);
    let batches = [header(7, 0, 0, 1, 0), header(7, 0, 1, 1, 1), header(8, 0, 0, 1, 2)];
    batches.iter().for_each(|b| producers.on_append(b));
    producers.on_committed(HighWatermark(Offset(3)));
    producers.on_truncate(Offset(1));
    assert!(matches!(producers.check(&batches[0]), Verdict::Duplicate { .. }));
    assert_eq!(producers.check(&batches[1]), Verdict::New);
    assert_eq!(producers.check(&header(7, 0, 2, 1, 9)), REFUSED_ORDER);
    assert!(!producers.contains(8));
    producers.on_append(&batches[1]);
    assert!(matches!(producers.check(&batches[1]), Verdict::Duplicate { .. }));
}

#[test]
fn an_unknown_producer_may_start_at_any_sequence() {
    assert_eq!(Producers::new(10).check(&header(7, 3, 42, 1, 0)), Verdict::Newcomer);
}

#[test]
fn the_last_five_batches_are_duplicates_and_older_ones_out_of_order() {
    let mut producers = Producers::new(10);
    for i in 0..7 {
        let batch = header(7, 0, i * 2, 2, i as i64 * 2);
        let verdict = if i == 0 { Verdict::Newcomer } else { Verdict::New };
        assert_eq!(producers.check(&batch), verdict, "batch {i}");
        producers.on_append(&batch);
    }
    for i in 0..2 {
        assert_eq!(producers.check(&header(7, 0, i * 2, 2, 0)), REFUSED_ORDER, "batch {i}");
    }
    for i in 2..7_i64 {
        let duplicate = Verdict::Duplicate {
            base_offset: Offset(i * 2),
            last_offset: Offset(i * 2 + 1),
            timestamp: i * 20,
        };
        assert_eq!(producers.check(&header(7, 0, i as i32 * 2, 2, 99)), duplicate);
    }
    // The same start with another end is no duplicate, and not the next one either.
    assert_eq!(producers.check(&header(7, 0, 12, 1, 99)), REFUSED_ORDER);
    assert_eq!(producers.check(&header(7, 0, 15, 1, 99)), REFUSED_ORDER);
    assert_eq!(producers.check(&header(7, 0, 14, 9, 99)), Verdict::New);
}

#[test]
fn epochs_only_rise_and_start_at_sequence_zero() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(7, 4, 0, 1, 0));
    assert_eq!(producers.check(&header(7, 3, 1, 1, 1)), REFUSED_EPOCH);
    assert_eq!(producers.check(&header(7, 3, 0, 1, 1)), REFUSED_EPOCH);
    assert_eq!(producers.check(&header(7, 5, 1, 1, 1)), REFUSED_ORDER);
    assert_eq!(producers.check(&header(7, 5, 0, 1, 1)), Verdict::New);
    producers.on_append(&header(7, 5, 0, 1, 1));
    assert_eq!(producers.check(&header(7, 4, 0, 1, 2)), REFUSED_EPOCH, "once a duplicate, now fenced");
    assert_eq!(producers.check(&header(7, 5, 1, 1, 2)), Verdict::New);
}

#[test]
fn a_follower_keeps_what_the_log_says_even_where_a_leader_would_refuse() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(7, 4, 0, 1, 0));
    producers.on_append(&header(7, 3, 9, 1, 1));
    assert_eq!(producers.check(&header(7, 3, 10, 1, 2)), Verdict::New);
}

#[test]
fn sequences_wrap_to_zero_inside_and_between_batches() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(7, 0, i32::MAX - 1, 2, 0));
    assert_eq!(producers.check(&header(7, 0, 0, 1, 2)), Verdict::New);
    assert_eq!(producers.check(&header(7, 0, 1, 1, 2)), REFUSED_ORDER);

    let mut producers = Producers::new(10);
    producers.on_append(&header(8, 0, i32::MAX, 3, 0));
    assert_eq!(producers.check(&header(8, 0, 2, 1, 3)), Verdict::New);
    assert!(matches!(producers.check(&header(8, 0, i32::MAX, 3, 3)), Verdict::Duplicate { .. }));
}

#[test]
fn absurd_headers_do_not_panic() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(7, 0, 0, 1, 0));
    for sequence in [i32::MIN, -1, 0, i32::MAX] {
        for delta in [i32::MIN, -1, 0, i32::MAX] {
            let mut h = header(7, 0, sequence, 1, 1);
            h.last_offset_delta = delta;
            let _ = producers.check(&h);
        }
    }
}

#[test]
fn a_truncation_forgets_and_a_settled_batch_stays() {
    let mut producers = Producers::new(10);
    for i in 0..4 {
        producers.on_append(&header(7, 0, i, 1, i as i64));
    }
    producers.on_committed(HighWatermark(Offset(2)));
    producers.on_truncate(Offset(2));
    assert!(matches!(producers.check(&header(7, 0, 1, 1, 9)), Verdict::Duplicate { .. }));
    assert_eq!(producers.check(&header(7, 0, 2, 1, 9)), Verdict::New);
    assert_eq!(producers.check(&header(7, 0, 3, 1, 9)), REFUSED_ORDER);
}

#[test]
fn a_batch_that_straddles_the_high_watermark_is_not_settled() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(7, 0, 0, 4, 0));
    producers.on_committed(HighWatermark(Offset(3)));
    producers.on_truncate(Offset(0));
    assert_eq!(producers.len(), 0);
}

#[test]
fn over_the_bound_the_longest_silent_producer_is_forgotten() {
    let mut producers = Producers::new(2);
    producers.on_append(&header(7, 0, 0, 1, 0));
    producers.on_append(&header(8, 0, 0, 1, 1));
    producers.on_append(&header(7, 0, 1, 1, 2));
    producers.on_append(&header(9, 0, 0, 1, 3));
    assert_eq!(producers.len(), 2);
    assert!(producers.contains(7) && !producers.contains(8) && producers.contains(9));
    // The eviction is undone with the batch that caused it.
    producers.on_truncate(Offset(3));
    assert!(producers.contains(7) && producers.contains(8) && !producers.contains(9));
}

/// A fresh fold, without truncation or settling.
fn folded(producer_ids_max: usize, log: &[BatchHeader]) -> Table {
    let mut producers = Producers::new(producer_ids_max);
    for h in log {
        producers.on_append(h);
    }
    producers.current
}

#[derive(Clone, Debug)]
enum Step {
    Append { producer_id: i64, epoch: i16, sequence: Option<i32>, records: i32 },
    Truncate { keep: f64 },
    Commit { upto: f64 },
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let append = (-1..6_i64, 0..3_i16, prop::option::of(0..20_i32), 1..5_i32).prop_map(
        |(producer_id, epoch, sequence, records)| Step::Append { producer_id, epoch, sequence, records },
    );
    let step = prop_oneof![
        8 => append,
        1 => (0.0..1.0_f64).prop_map(|keep| Step::Truncate { keep }),
        2 => (0.0..1.0_f64).prop_map(|upto| Step::Commit { upto }),
    ];
    prop::collection::vec(step, 1..200)
}

proptest! {
    #[test]
    fn state_equals_a_fresh_fold_over_the_surviving_headers(steps in steps(), producer_ids_max in 1..5_usize) {
        let mut producers = Producers::new(producer_ids_max);
        let mut log: Vec<BatchHeader> = Vec::new();
        let mut committed = 0; // batches
        for step in steps {
            match step {
                Step::Append { producer_id, epoch, sequence, records } => {
                    let base = log.last().map_or(0, |h| h.next_offset().0);
                    let last = log.iter().rev().find(|h| h.producer_id == producer_id);
                    let next = last.map_or(0, |h| h.base_sequence + h.record_count);
                    let h = header(producer_id, epoch, sequence.unwrap_or(next), records, base);
                    producers.on_append(&h);
                    log.push(h);
                }
                Step::Truncate { keep } => {
                    let keep = committed + ((log.len() - committed) as f64 * keep) as usize;
                    let to = log.get(keep).map_or(log.last().map_or(0, |h| h.next_offset().0), |h| h.base_offset.0);
                    log.truncate(keep);
                    producers.on_truncate(Offset(to));
                }
                Step::Commit { upto } => {
                    committed += ((log.len() - committed) as f64 * upto) as usize;
                    let to = log.get(committed).map_or(0, |h| h.base_offset.0);
                    producers.on_committed(HighWatermark(Offset(to)));
                }
            }
            prop_assert_eq!(&producers.current, &folded(producer_ids_max, &log));
            prop_assert!(producers.len() <= producer_ids_max);
        }
    }
}

#[test]
fn producer_id_0_is_one_like_any_other() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(0, 0, 0, 2, 0));
    assert!(producers.contains(0));
    assert_eq!(producers.check(&header(0, 0, 5, 1, 2)), REFUSED_ORDER);
}

#[test]
fn what_is_committed_is_not_listed_any_more() {
    let mut producers = Producers::new(10);
    for i in 0..3 {
        producers.on_append(&header(7, 0, i * 2, 2, i as i64 * 2));
    }
    producers.on_committed(HighWatermark(Offset(3)));
    assert_eq!(producers.unsettled.len(), 2, "the second batch ends at offset 3");
    producers.on_committed(HighWatermark(Offset(4)));
    assert_eq!(producers.unsettled.len(), 1);
}
