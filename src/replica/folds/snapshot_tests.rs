//! What is folded from a log is what is folded from a snapshot of a part of it and from the rest: for every fold, at every offset that was
//! ever settled, through the bytes of the file, with truncations in between.

use super::tests::{batch_of, config};
use super::*;
use crate::log::{Snapshot, SnapshotDecoder, SnapshotEncoder};
use crate::record::leader_change_batch;
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Event {
    Append { producer_id: i64, epoch: i16, records: usize },
    BeginEpoch,
    Cut { keep: f64 },
    Settle { upto: f64 },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let append = (-1..6_i64, 0..3_i16, 1..4_usize).prop_map(|(producer_id, epoch, records)| Event::Append {
        producer_id,
        epoch,
        records,
    });
    let event = prop_oneof![
        12 => append,
        1 => Just(Event::BeginEpoch),
        2 => (0.0..1.0_f64).prop_map(|keep| Event::Cut { keep }),
        4 => (0.0..1.1_f64).prop_map(|upto| Event::Settle { upto: upto.min(1.0) }),
    ];
    prop::collection::vec(event, 1..60)
}

/// One log, what is folded from all of it, and what is folded from each snapshot and what came behind.
struct Life {
    config: Config,
    log: Vec<StampedBatch>,
    /// Batches that are committed.
    settled: usize,
    whole: Folds,
    from_snapshots: Vec<Folds>,
}

impl Life {
    fn new(producer_ids_max: usize) -> Life {
        let mut config = config();
        config.limits.producer_ids_max = producer_ids_max;
        let whole = Folds::new(&config);
        Life { config, log: Vec::new(), settled: 0, whole, from_snapshots: Vec::new() }
    }

    fn each(&mut self, change: impl Fn(&mut Folds)) {
        change(&mut self.whole);
        self.from_snapshots.iter_mut().for_each(change);
    }

    fn offset(&self, batches: usize) -> Offset {
        self.log[..batches].last().map_or(Offset(0), StampedBatch::next_offset)
    }

    fn append(&mut self, batch: StampedBatch) {
        self.each(|folds| folds.fold(&batch));
        self.log.push(batch);
    }

    fn cut(&mut self, keep: f64) {
        let keep = self.settled + ((self.log.len() - self.settled) as f64 * keep) as usize;
        let to = self.offset(keep);
        self.each(|folds| folds.cut(to));
        self.log.truncate(keep);
    }

    /// One batch after the other, with a snapshot at each.
    fn settle(&mut self, upto: f64, piece: usize) {
        let to = self.settled + ((self.log.len() - self.settled) as f64 * upto) as usize;
        while self.settled < to {
            self.settled += 1;
            let end = self.offset(self.settled);
            self.each(|folds| folds.settle(HighWatermark(end)));
            let file = self.snapshot();
            self.from_snapshots.push(self.restored(&file, piece));
        }
    }

    fn id(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { epoch: Epoch(1), offset: self.offset(self.settled) }
    }

    /// Its bytes.
    fn snapshot(&self) -> Vec<u8> {
        let sections = self.whole.sections(&(Offset(0)..self.id().offset)).expect("all of it is settled");
        let mut encoder = SnapshotEncoder::new(Snapshot { id: self.id(), sections, ..Snapshot::default() });
        std::iter::from_fn(|| encoder.next_batch()).flat_map(|batch| batch.to_bytes()).collect()
    }

    /// What it holds, and the rest of the log.
    fn restored(&self, file: &[u8], piece: usize) -> Folds {
        let mut decoder = SnapshotDecoder::new(self.id(), 1 << 20);
        file.chunks(piece).for_each(|part| decoder.push(part).expect("what was encoded"));
        let snapshot = decoder.finish().expect("it is whole").snapshot;
        let mut folds = Folds::new(&self.config);
        folds.take_sections(&snapshot.sections, &(Offset(0)..snapshot.id.offset)).expect("what was encoded");
        self.log[self.settled..].iter().for_each(|batch| folds.fold(batch));
        folds
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_snapshot_and_the_rest_of_the_log_give_the_fold_of_the_log(
        events in events(),
        producer_ids_max in 1..8_usize,
        piece in 1..200_usize,
    ) {
        let mut life = Life::new(producer_ids_max);
        for event in events {
            let end = life.offset(life.log.len());
            match event {
                Event::Append { producer_id, epoch, records } => {
                    life.append(batch_of(end.0, (producer_id, epoch, end.0 as i32), records));
                }
                Event::BeginEpoch => {
                    life.append(leader_change_batch(end, Epoch(1), 0, NodeId(1), &[NodeId(1)], &[NodeId(1)]));
                }
                Event::Cut { keep } => life.cut(keep),
                Event::Settle { upto } => life.settle(upto, piece),
            }
            for folds in &life.from_snapshots {
                prop_assert_eq!(folds, &life.whole);
            }
        }
    }
}
