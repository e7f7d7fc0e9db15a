use super::super::admit::AdmittedPartition;
use super::super::session::tests::limits;
use super::*;
use crate::protocol::messages::StrBytes;
use crate::record::compression::Codec;
use crate::record::{Asker, BatchBuilder, RecordSpec, Which, check_produced, data_batch};
use crate::types::*;
use bytes::Bytes;
use smallvec::SmallVec;

const NOW: Now = Now { monotonic_ns: 0, wall_ms: 1_700_000_000_000 };
const MOST: u64 = 64 << 20;

fn request(batches: &[Bytes]) -> Admitted {
    let limits = limits().produce_limits(NOW);
    let partition = |batch: &Bytes| AdmittedPartition {
        topic_name: StrBytes::from_static_str("__cluster_metadata"),
        topic_id: Uuid::ZERO,
        index: 0,
        ours: true,
        batch: check_produced(batch.clone(), &limits),
    };
    let partitions: SmallVec<_> = batches.iter().map(partition).collect();
    Admitted::Produce(AdmittedProduce { acks: -1, timeout_ms: 1_000, transactional: false, partitions })
}

fn batches(request: &Admitted) -> Vec<Result<StampedBatch, ErrorCode>> {
    let Admitted::Produce(produce) = request else { panic!("a Produce") };
    produce.partitions.iter().map(|p| p.batch.clone().map_err(|error| error.error())).collect()
}

fn look(request: &mut Admitted, patience: Patience) -> bool {
    let asker = Asker::default();
    look_for(&asker.wanted(), request, patience)
}

fn look_for(wanted: &Wanted, request: &mut Admitted, patience: Patience) -> bool {
    let (limits, wanted) = (limits().produce_limits(NOW), wanted.clone());
    let inspection = Inspection { limits, decompressed_bytes_max: MOST, wanted };
    inspection.look(&mut Inspector::default(), request, patience)
}

fn zeros(bytes: usize) -> Bytes {
    let value = vec![0; bytes];
    Codec::Gzip.compress_batch(data_batch(&[&value], NOW.wall_ms, None)).expect("it compresses")
}

#[test]
fn only_what_is_compressed_is_looked_into() {
    let plain = data_batch(&[b"a"], NOW.wall_ms, None);
    let broken = BatchBuilder::new(NOW.wall_ms).attributes(1).raw_records(b"no gzip", 1).build();
    let good = Codec::Lz4.compress_batch(plain.clone()).expect("it compresses");
    let mut request = request(&[plain, broken, good]);
    let before = batches(&request);
    assert!(look(&mut request, Patience::Short));
    let after = batches(&request);
    assert_eq!((&after[0], &after[2]), (&before[0], &before[2]));
    assert_eq!(after[1], Err(ErrorCode::INVALID_RECORD));
    let Admitted::Produce(produce) = &mut request else { panic!("a Produce") };
    assert!(produce.is_compressed());
    produce.partitions.truncate(2);
    assert!(!produce.is_compressed(), "a plain one, and one that is refused");
    assert!(look(&mut Admitted::Other(crate::protocol::Request::ApiVersionsUnsupported), Patience::Short));
}

/// What grows much gets a second, longer look, and what grows beyond all bounds is refused by it.
#[test]
fn patience_has_two_steps_and_an_end() {
    let mut ordinary = request(&[zeros(SHORT_LOOK_BYTES as usize - 100)]);
    assert!(look(&mut ordinary, Patience::Short) && batches(&ordinary)[0].is_ok());
    let mut growing = request(&[zeros(SHORT_LOOK_BYTES as usize * 2)]);
    assert!(!look(&mut growing, Patience::Short));
    assert!(batches(&growing)[0].is_ok(), "nothing was decided");
    assert!(look(&mut growing, Patience::Long) && batches(&growing)[0].is_ok());
    let mut bomb = request(&[zeros(MOST as usize + (1 << 20))]);
    assert!(!look(&mut bomb, Patience::Short));
    assert!(look(&mut bomb, Patience::Long));
    // The Java producer splits it.
    assert_eq!(batches(&bomb)[0], Err(ErrorCode::MESSAGE_TOO_LARGE));
}

#[test]
fn a_search_ends_with_a_record_with_nothing_or_without_a_way_in() {
    let record = |timestamp_delta| RecordSpec { value: Some(b"v"), timestamp_delta, ..RecordSpec::default() };
    let plain = [0, 10].into_iter().fold(BatchBuilder::new(NOW.wall_ms), |b, delta| b.record(record(delta)));
    let good = Codec::Zstd.compress_batch(plain.build()).expect("it compresses");
    let broken = BatchBuilder::new(NOW.wall_ms).attributes(4).raw_records(b"no zstd", 2).build();
    let search = |batch: Bytes, after: i64, patience| {
        let mut batch = check_produced(batch, &limits().produce_limits(NOW)).expect("a good header");
        batch.stamp(Offset(40), Epoch(1));
        let timestamp = NOW.wall_ms + after;
        let (asker, place) = (Asker::default(), Arc::default());
        let (wanted, decompressed_bytes_max) = (asker.wanted(), MOST);
        Search {
            token: 1,
            batch,
            from: Offset(0),
            timestamp,
            which: Which::First,
            decompressed_bytes_max,
            patience,
            wanted,
            place,
        }
        .look(&mut Inspector::default())
    };
    let found = Found::Record(Offset(41), NOW.wall_ms + 10);
    assert_eq!(search(good.clone(), 1, Patience::Short), found);
    assert_eq!(search(good, 11, Patience::Short), Found::Nothing);
    assert_eq!(search(broken, 0, Patience::Short), Found::Unreadable);
    let long = zeros(SHORT_LOOK_BYTES as usize * 2);
    assert_eq!(search(long.clone(), 1, Patience::Short), Found::TooLong);
    assert_eq!(search(long, 1, Patience::Long), Found::Nothing);
}

/// No batch gets into the log on the word of a look that was never finished.
#[test]
fn what_nobody_waits_for_is_refused_unseen() {
    let mut bomb = request(&[zeros(MOST as usize + (1 << 20))]);
    let wanted = Asker::default().wanted();
    assert!(look_for(&wanted, &mut bomb, Patience::Short), "it takes no long look");
    assert_eq!(batches(&bomb)[0], Err(ErrorCode::INVALID_RECORD));
}

/// It waits for a turn of its own, and no batch of it gets there unseen.
#[test]
fn a_heavy_request_is_looked_into_too() {
    let broken = BatchBuilder::new(NOW.wall_ms).attributes(1).raw_records(b"no gzip", 1).build();
    let mut heavy = request(&[broken]).heavy(0, 1);
    assert!(matches!(heavy.asked(), Admitted::Produce(_)) && look(&mut heavy, Patience::Short));
    let Admitted::Heavy(heavy) = heavy else { panic!("{heavy:?}") };
    assert_eq!(batches(&heavy.request), [Err(ErrorCode::INVALID_RECORD)]);
}
