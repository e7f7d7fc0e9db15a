//! What is folded from a log is what is folded from a snapshot of a part of it and from the rest: for every fold, at every offset that was
//! ever settled, through the bytes of the file, with truncations in between.

use super::tests::{batch_of, config};
use super::*;
use crate::log::{ReadSnapshot, Snapshot, SnapshotDecoder, SnapshotEncoder};
use crate::record::{configs_batch, leader_change_batch};
use proptest::prelude::*;

/// Of so many records of producer 7, each in a batch of its own.
fn snapshot(config: &Config, records: i64) -> ReadSnapshot {
    let mut folds = Folds::new(config);
    (0..records).for_each(|n| folds.fold(&batch_of(n, (7, 0, n as i32), 1)));
    folds.settle(HighWatermark(Offset(records)));
    let id = OffsetAndEpoch { epoch: Epoch(1), offset: Offset(records) };
    let mut sections = folds.sections(&(Offset(0)..id.offset)).expect("all of it is settled");
    sections.insert(0, origin_section(config));
    ReadSnapshot { snapshot: Snapshot { id, sections, ..Snapshot::default() }, foreign_records: 0 }
}

#[test]
fn a_snapshot_gives_all_that_was_folded_or_nothing() {
    let config = config();
    let good = snapshot(&config, 3);
    let folds = Folds::of_snapshot(&config, &good).expect("a good one");
    assert_eq!((folds.end, folds.settled, folds.producers().len()), (Offset(3), Offset(3), 1));
    let why = |change: &dyn Fn(&mut ReadSnapshot)| {
        let mut read = good.clone();
        change(&mut read);
        Folds::of_snapshot(&config, &read).expect_err("it cannot be used").to_string()
    };
    assert!(why(&|read| read.snapshot.kraft_version = 1).contains("kraft.version 1"));
    assert_eq!(why(&|read| read.foreign_records = 2), "it holds 2 records of another program");
    assert_eq!(why(&|read| drop(read.snapshot.sections.remove(0))), "it does not say whose log it is of");
    assert_eq!(why(&|read| read.snapshot.sections.clear()), "it does not say whose log it is of");
    assert_eq!(
        why(&|read| drop(read.snapshot.sections.remove(1))),
        "its section of producers: there is none"
    );
    assert!(why(&|read| read.snapshot.sections[0].version = 2).starts_with("a newer program wrote it"));
    assert!(
        why(&|read| read.snapshot.sections[1].version = 9)
            .contains("its section of producers is of version 9")
    );
    let strange = Section { tag: 70, version: 1, bytes: Vec::new() };
    let told = why(&|read| read.snapshot.sections.push(strange.clone()));
    assert_eq!(told, "a newer program wrote it: nothing is known of its section 70");
    // What it holds lies behind the end that its name says.
    assert!(why(&|read| read.snapshot.id.offset = Offset(2)).contains("it contradicts itself"));
}

#[test]
fn a_snapshot_of_another_cluster_or_mode_is_refused() {
    let ours = config();
    let mut other = config();
    other.cluster_id = "BBBBBBBBBBBBBBBBBBBBBB".to_string();
    let told =
        Folds::of_snapshot(&ours, &snapshot(&other, 3)).expect_err("it is another cluster's").to_string();
    assert!(
        told.starts_with("it is of a log of cluster BBBBBBBBBBBBBBBBBBBBBB with kraft.data.mode native"),
        "{told}"
    );
    let mut interop = config();
    interop.data_mode = DataMode::Interop;
    let told =
        Folds::of_snapshot(&ours, &snapshot(&interop, 3)).expect_err("it is of another mode").to_string();
    assert!(
        told.contains("with kraft.data.mode interop, and this is cluster") && told.ends_with("with native"),
        "{told}"
    );
    assert!(Folds::of_snapshot(&interop, &snapshot(&interop, 3)).is_ok());
    for bytes in [&[][..], &[7], &[0, 0xff]] {
        let mut read = snapshot(&ours, 3);
        read.snapshot.sections[0].bytes = bytes.to_vec();
        assert!(Folds::of_snapshot(&ours, &read).is_err(), "{bytes:?}");
    }
}

/// Its voters fold nothing of ours: it stands for the log up to there all the same.
#[test]
fn a_snapshot_of_kafkas_is_taken_in_interop_alone() {
    let mut interop = config();
    interop.data_mode = DataMode::Interop;
    let id = OffsetAndEpoch { epoch: Epoch(1), offset: Offset(92) };
    let kafkas = ReadSnapshot { snapshot: Snapshot { id, ..Snapshot::default() }, foreign_records: 17 };
    let folds = Folds::of_snapshot(&interop, &kafkas).expect("Kafka's");
    assert_eq!((folds.end, folds.settled, folds.producers().len()), (Offset(92), Offset(92), 0));
    assert!(Folds::of_snapshot(&config(), &kafkas).is_err());
    let mut both = snapshot(&interop, 3);
    both.foreign_records = 1;
    assert!(Folds::of_snapshot(&interop, &both).is_err());
}

#[derive(Clone, Debug)]
enum Event {
    Append { producer_id: i64, epoch: i16, records: usize },
    BeginEpoch,
    Set { value: u8 },
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
        3 => any::<u8>().prop_map(|value| Event::Set { value }),
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
        let mut sections = self.whole.sections(&(Offset(0)..self.id().offset)).expect("all of it is settled");
        sections.push(origin_section(&self.config));
        let mut encoder = SnapshotEncoder::new(Snapshot { id: self.id(), sections, ..Snapshot::default() });
        std::iter::from_fn(|| encoder.next_batch()).flat_map(|batch| batch.to_bytes()).collect()
    }

    /// What it holds, and the rest of the log.
    fn restored(&self, file: &[u8], piece: usize) -> Folds {
        let mut decoder = SnapshotDecoder::new(self.id(), 1 << 20);
        file.chunks(piece).for_each(|part| decoder.push(part).expect("what was encoded"));
        let read = decoder.finish().expect("it is whole");
        let mut folds = Folds::of_snapshot(&self.config, &read).expect("what was encoded");
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
                Event::Set { value } => {
                    let mut batch = configs_batch(0, &[("k", &value.to_string()[..])][..usize::from(value % 8).min(1)]);
                    batch.stamp(end, Epoch(1));
                    life.append(batch);
                }
                Event::Cut { keep } => life.cut(keep),
                Event::Settle { upto } => life.settle(upto, piece),
            }
            for folds in &life.from_snapshots {
                // Nothing else tells them apart.
                prop_assert_eq!(&Folds { begun: Offset(0), ..folds.clone() }, &life.whole);
            }
        }
    }
}
