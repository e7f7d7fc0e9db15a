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
    producers.settle(HighWatermark(Offset(3)));
    producers.cut(Offset(1));
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
    producers.settle(HighWatermark(Offset(2)));
    producers.cut(Offset(2));
    assert!(matches!(producers.check(&header(7, 0, 1, 1, 9)), Verdict::Duplicate { .. }));
    assert_eq!(producers.check(&header(7, 0, 2, 1, 9)), Verdict::New);
    assert_eq!(producers.check(&header(7, 0, 3, 1, 9)), REFUSED_ORDER);
}

#[test]
fn a_batch_that_straddles_the_high_watermark_is_not_settled() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(7, 0, 0, 4, 0));
    producers.settle(HighWatermark(Offset(3)));
    producers.cut(Offset(0));
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
    producers.cut(Offset(3));
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
                    producers.cut(Offset(to));
                }
                Step::Commit { upto } => {
                    committed += ((log.len() - committed) as f64 * upto) as usize;
                    let to = log.get(committed).map_or(0, |h| h.base_offset.0);
                    producers.settle(HighWatermark(Offset(to)));
                }
            }
            prop_assert_eq!(&producers.current, &folded(producer_ids_max, &log));
            prop_assert!(producers.len() <= producer_ids_max);
            prop_assert_eq!(&producers.settled, &folded(producer_ids_max, &log[..committed]));
            // Of all offsets it is the settled state: what a snapshot would hold.
            let all = Offset(0)..Offset(i64::MAX);
            let bytes = producers.encode(&all);
            let mut again = Producers::new(producer_ids_max);
            again.take(Producers::decode(bytes.as_deref(), &all).expect("what was encoded"), Offset(0));
            prop_assert_eq!(&again.settled, &producers.settled);
            prop_assert_eq!(&again.current, &producers.settled);
        }
    }
}

#[test]
fn producer_id_0_is_one_like_any_other() {
    let mut producers = Producers::new(10);
    producers.on_append(&header(0, 0, 0, 2, 0));
    assert!(producers.len() == 1 && producers.contains(0));
    assert_eq!(producers.check(&header(0, 0, 5, 1, 2)), REFUSED_ORDER);
}

#[test]
fn what_is_committed_is_not_listed_any_more() {
    let mut producers = Producers::new(10);
    for i in 0..3 {
        producers.on_append(&header(7, 0, i * 2, 2, i as i64 * 2));
    }
    producers.settle(HighWatermark(Offset(3)));
    assert_eq!(producers.unsettled.len(), 2, "the second batch ends at offset 3");
    producers.settle(HighWatermark(Offset(4)));
    assert_eq!(producers.unsettled.len(), 1);
}

/// A log in segments, as one life of a node sees it: sections are made some time after their segment is settled.
struct Segmented {
    producers: Producers,
    log: Vec<BatchHeader>,
    /// Batches before which a segment ends, oldest first, and the section of each that is made.
    closed: Vec<(usize, Option<Vec<u8>>)>,
    settled: usize,
}

impl Segmented {
    fn offset(&self, batches: usize) -> Offset {
        self.log[..batches].last().map_or(Offset(0), |h| h.next_offset())
    }

    /// First and last batch, and offsets.
    fn segment(&self, at: usize) -> (Range<usize>, Range<Offset>) {
        let first = at.checked_sub(1).map_or(0, |before| self.closed[before].0);
        let end = self.closed.get(at).map_or(self.log.len(), |closed| closed.0);
        (first..end, self.offset(first)..self.offset(end))
    }

    /// Of all segments that are settled and have none.
    fn make_sections(&mut self) {
        for at in 0..self.closed.len() {
            let (_, offsets) = self.segment(at);
            if self.closed[at].0 <= self.settled && self.closed[at].1.is_none() {
                self.closed[at].1 = self.producers.encode(&offsets);
            }
        }
    }

    fn append(&mut self, producer_id: i64, epoch: i16, records: i32) {
        let base = self.offset(self.log.len());
        let h = header(producer_id, epoch, base.0 as i32, records, base.0);
        self.producers.on_append(&h);
        self.log.push(h);
    }

    fn settle(&mut self, upto: f64) {
        self.settled += ((self.log.len() - self.settled) as f64 * upto) as usize;
        self.producers.settle(HighWatermark(self.offset(self.settled)));
    }

    fn cut(&mut self, keep: f64) {
        let keep = self.settled + ((self.log.len() - self.settled) as f64 * keep) as usize;
        self.producers.cut(self.offset(keep));
        self.log.truncate(keep);
        self.closed.retain(|(end, _)| *end < keep);
    }

    fn close(&mut self) {
        if self.closed.last().map_or(0, |(end, _)| *end) < self.log.len() {
            self.closed.push((self.log.len(), None));
        }
    }

    /// By the sections of those segments that are to be believed, and the batches of all others.
    fn recovered(&self, producer_ids_max: usize, believes: &[bool]) -> Producers {
        let mut producers = Producers::new(producer_ids_max);
        for at in 0..=self.closed.len() {
            let (batches, offsets) = self.segment(at);
            let section = self.closed.get(at).and_then(|(_, section)| section.as_deref());
            match section.filter(|_| believes[at % believes.len()]) {
                Some(section) => {
                    let part = Producers::decode(Some(section), &offsets).expect("what was encoded");
                    producers.settle(HighWatermark(offsets.end));
                    producers.take(part, Offset(0));
                }
                None => self.log[batches].iter().for_each(|h| producers.on_append(h)),
            }
        }
        producers
    }
}

#[derive(Clone, Debug)]
enum Event {
    Append { producer_id: i64, epoch: i16, records: i32 },
    Cut { keep: f64 },
    Settle { upto: f64 },
    Close,
    MakeSections,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let append = (-1..6_i64, 0..3_i16, 1..4_i32).prop_map(|(producer_id, epoch, records)| Event::Append {
        producer_id,
        epoch,
        records,
    });
    let event = prop_oneof![
        12 => append,
        1 => (0.0..1.0_f64).prop_map(|keep| Event::Cut { keep }),
        3 => (0.0..1.1_f64).prop_map(|upto| Event::Settle { upto: upto.min(1.0) }),
        3 => Just(Event::Close),
        2 => Just(Event::MakeSections),
    ];
    prop::collection::vec(event, 1..200)
}

/// The argument is in docs/design/folds.md.
fn check_recovered(recovered: &Producers, whole: &Table, is_exact: bool) {
    let table = &recovered.current;
    if is_exact {
        return assert_eq!(table, whole);
    }
    assert_eq!(table.by_last_offset, whole.by_last_offset);
    for (id, entry) in &whole.entries {
        let found = &table.entries[id];
        assert_eq!(found.producer_epoch, entry.producer_epoch);
        assert!(found.batches().ends_with(entry.batches()), "{id}: {found:?} for {entry:?}");
    }
}

proptest! {
    #[test]
    fn sections_and_scans_of_all_segments_give_the_fold_of_the_log(
        events in events(),
        producer_ids_max in 1..8_usize,
        believes in prop::collection::vec(any::<bool>(), 1..6),
        is_orderly in any::<bool>(),
    ) {
        // Nobody is forgotten, and no epoch falls.
        let producer_ids_max = if is_orderly { 7 } else { producer_ids_max };
        let producers = Producers::new(producer_ids_max);
        let mut life = Segmented { producers, log: Vec::new(), closed: Vec::new(), settled: 0 };
        for event in events {
            match event {
                Event::Append { producer_id, epoch, records } => {
                    let rising = life.log.len() as i16 / 40;
                    life.append(producer_id, if is_orderly { rising } else { epoch }, records);
                }
                Event::Cut { keep } => life.cut(keep),
                Event::Settle { upto } => life.settle(upto),
                Event::Close => life.close(),
                Event::MakeSections => life.make_sections(),
            }
        }
        let whole = folded(producer_ids_max, &life.log);
        for _ in 0..2 {
            check_recovered(&life.recovered(producer_ids_max, &believes), &whole, is_orderly);
            check_recovered(&life.recovered(producer_ids_max, &[true]), &whole, is_orderly);
            // And when all is settled, and what a start has found writes the sections that are missing.
            let recovered = life.recovered(producer_ids_max, &believes);
            life.producers = recovered;
            life.settle(1.0);
            life.make_sections();
        }
    }

    #[test]
    fn no_bytes_of_a_section_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(batches) = Producers::decode(Some(&bytes), &(Offset(0)..Offset(i64::MAX))) {
            prop_assert!(batches.len() * BATCH_BYTES <= bytes.len());
            Producers::new(3).take(batches, Offset(0));
        }
    }
}

/// A section of three batches of two producers.
fn section() -> (Vec<u8>, Range<Offset>) {
    let mut producers = Producers::new(10);
    for h in [header(7, 0, 0, 2, 10), header(8, 1, 0, 1, 12), header(7, 0, 2, 3, 15)] {
        producers.on_append(&h);
    }
    producers.settle(HighWatermark(Offset(18)));
    let offsets = Offset(10)..Offset(18);
    (producers.encode(&offsets).expect("there is always one"), offsets)
}

#[test]
fn a_section_that_does_not_hold_what_it_should_is_refused_as_a_whole() {
    let (good, offsets) = section();
    assert_eq!(good.len(), 3 * BATCH_BYTES);
    let decode = |bytes: &[u8]| Producers::decode(Some(bytes), &offsets).map(|batches| batches.len());
    assert_eq!((decode(&good), decode(&[])), (Ok(3), Ok(0)));
    assert_eq!(Producers::decode(None, &offsets), Err("there is none"));
    for length in (0..good.len()).filter(|length| length % BATCH_BYTES != 0) {
        assert_eq!(decode(&good[..length]), Err("it ends within a batch"), "{length}");
    }
    // Offsets of the segment: those outside of it are another's.
    for (start, end) in [(11, 18), (10, 17), (10, 10), (18, 30)] {
        let offsets = Offset(start)..Offset(end);
        assert_eq!(Producers::decode(Some(&good), &offsets), Err("it contradicts itself"), "{start}..{end}");
    }
    let changed = |at: usize, bytes: &[u8]| {
        let mut wrong = good.clone();
        wrong[at..at + bytes.len()].copy_from_slice(bytes);
        decode(&wrong)
    };
    let contradicts = Err("it contradicts itself");
    assert_eq!(changed(0, &(-1_i64).to_be_bytes()), contradicts, "nobody's batch");
    assert_eq!(
        changed(2 * BATCH_BYTES + 18, &(-1_i32).to_be_bytes()),
        contradicts,
        "it ends before it begins"
    );
    assert_eq!(changed(18, &2_i32.to_be_bytes()), contradicts, "it lies over the next one");
    assert_eq!(
        changed(2 * BATCH_BYTES + 18, &i32::MAX.to_be_bytes()),
        contradicts,
        "it ends behind the segment"
    );
    assert_eq!(changed(10, &13_i64.to_be_bytes()), contradicts, "the order is another one");
}

#[test]
fn a_full_table_has_room_for_those_it_knows_and_for_who_has_no_id() {
    let mut producers = Producers::new(2);
    assert!(producers.has_room(&header(7, 0, 0, 1, 0)));
    for (id, base) in [(7, 0), (8, 1)] {
        producers.on_append(&header(id, 0, 0, 1, base));
    }
    let has_room = |id: i64| producers.has_room(&header(id, 0, 0, 1, 2));
    assert_eq!([-1, 7, 8, 9].map(has_room), [true, true, true, false]);
}
