use super::*;
use crate::types::*;
use bytes::Bytes;
use proptest::prelude::*;
use std::path::PathBuf;

pub(super) const NOW_MS: i64 = 1_700_000_000_000;
pub(crate) const LIMITS: ProduceLimits = ProduceLimits {
    message_bytes_max: 1 << 20,
    timestamp_before_max_ms: i64::MAX,
    timestamp_after_max_ms: 3_600_000,
    now_wall_ms: NOW_MS,
};

fn one_value() -> BatchBuilder {
    BatchBuilder::new(NOW_MS).record(RecordSpec { value: Some(b"hello"), ..RecordSpec::default() })
}

/// Changes bytes of a batch, and makes its CRC right again.
pub(crate) fn altered(batch: Bytes, at: usize, bytes: &[u8]) -> Bytes {
    let mut batch = batch.to_vec();
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[batch::CRC_COVERED_FROM..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    Bytes::from(batch)
}

fn refusal(batch: Bytes) -> ErrorCode {
    check_produced(batch, &LIMITS).expect_err("it should be refused").error()
}

fn concat(batches: &[Bytes]) -> Bytes {
    Bytes::from(batches.concat())
}

#[test]
fn a_good_batch_is_taken_and_not_copied() {
    let headers = [("trace", Some(&b"1"[..])), ("empty", None)];
    let batch = BatchBuilder::new(NOW_MS)
        .producer(7, 0, 0)
        .record(RecordSpec { key: Some(b"k"), value: Some(b"v"), timestamp_delta: 0, headers: &headers })
        .record(RecordSpec { value: Some(&[7; 300]), timestamp_delta: -5, ..RecordSpec::default() })
        .record(RecordSpec { timestamp_delta: 9, ..RecordSpec::default() })
        .build();
    let checked = check_produced(batch.clone(), &LIMITS).expect("valid");
    assert_eq!(checked.to_bytes(), batch);
    assert_eq!(checked.rest().as_ptr(), batch[BATCH_PREFIX_BYTES..].as_ptr());
    assert_eq!((checked.header().record_count, checked.header().max_timestamp), (3, NOW_MS + 9));

    let read: Vec<Record<'_>> = records(&checked).collect::<Result<_, _>>().expect("well formed");
    assert_eq!((read[0].key, read[0].value), (Some(&b"k"[..]), Some(&b"v"[..])));
    let trace = RecordHeader { key: b"trace", value: Some(b"1") };
    assert_eq!(read[0].headers().collect::<Vec<_>>(), [trace, RecordHeader { key: b"empty", value: None }]);
    assert_eq!((read[1].value.map(<[u8]>::len), read[2].value), (Some(300), None));
}

#[test]
fn stamping_changes_offset_and_epoch_and_leaves_the_crc_right() {
    let mut batch = check_produced(data_batch(&[b"a", b"b"], NOW_MS, None), &LIMITS).expect("valid");
    batch.stamp(Offset(41), Epoch(3));
    assert_eq!((batch.base_offset(), batch.last_offset(), batch.epoch()), (Offset(41), Offset(42), Epoch(3)));
    let (read_back, error) = check_fetched(batch.to_bytes());
    assert_eq!((read_back, error), (vec![batch.clone()], None));
    assert_eq!([&batch.prefix()[..], &batch.rest()[..]].concat(), batch.to_bytes());
    let stamps: Vec<_> = record_timestamps(&batch).collect();
    assert_eq!(stamps, [(Offset(41), NOW_MS), (Offset(42), NOW_MS)]);
}

#[test]
fn a_small_batch_is_copied_out_of_a_large_allocation_only() {
    let batch = check_produced(one_value().build(), &LIMITS).expect("valid");
    let kept = batch.clone().unpin(batch.size_bytes() * 4);
    assert_eq!(kept.rest().as_ptr(), batch.rest().as_ptr());
    let copied = batch.clone().unpin(1 << 20);
    assert_ne!(copied.rest().as_ptr(), batch.rest().as_ptr());
    assert_eq!(copied, batch);
}

#[test]
fn each_fault_of_a_produced_batch_has_kafkas_code() {
    let good = one_value().build();
    let cases: [(&str, Bytes, ErrorCode); 17] = [
        ("nothing", Bytes::new(), ErrorCode::INVALID_RECORD),
        ("cut short", good.slice(..good.len() - 1), ErrorCode::INVALID_RECORD),
        ("two batches", concat(&[good.clone(), good.clone()]), ErrorCode::INVALID_RECORD),
        ("bytes behind it", concat(&[good.clone(), Bytes::from_static(b"xyz")]), ErrorCode::INVALID_RECORD),
        ("magic 0", altered(good.clone(), 16, &[0]), ErrorCode::INVALID_RECORD),
        ("magic 1", altered(good.clone(), 16, &[1]), ErrorCode::INVALID_RECORD),
        ("magic 3", altered(good.clone(), 16, &[3]), ErrorCode::CORRUPT_MESSAGE),
        (
            "length below the header",
            altered(good.clone(), 8, &48_i32.to_be_bytes()),
            ErrorCode::CORRUPT_MESSAGE,
        ),
        ("negative length", altered(good.clone(), 8, &(-1_i32).to_be_bytes()), ErrorCode::CORRUPT_MESSAGE),
        ("base offset 1", altered(good.clone(), 0, &1_i64.to_be_bytes()), ErrorCode::INVALID_RECORD),
        ("no records", BatchBuilder::new(NOW_MS).build(), ErrorCode::INVALID_RECORD),
        ("count 2 of 1", altered(good.clone(), 57, &2_i32.to_be_bytes()), ErrorCode::INVALID_RECORD),
        ("last delta 1 of 1", altered(good.clone(), 23, &1_i32.to_be_bytes()), ErrorCode::INVALID_RECORD),
        ("control", one_value().attributes(0x20).build(), ErrorCode::INVALID_RECORD),
        ("transactional", one_value().attributes(0x10).build(), ErrorCode::INVALID_TXN_STATE),
        ("compression 5", one_value().attributes(5).build(), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE),
        ("LogAppendTime", one_value().attributes(8).build(), ErrorCode::INVALID_TIMESTAMP),
    ];
    for (what, batch, expected) in cases {
        assert_eq!(refusal(batch), expected, "{what}");
    }
    let mut flipped = good.to_vec();
    flipped[BATCH_HEADER_BYTES + 8] ^= 1;
    assert_eq!(refusal(Bytes::from(flipped)), ErrorCode::CORRUPT_MESSAGE);
    let small = ProduceLimits { message_bytes_max: good.len() - 1, ..LIMITS };
    assert_eq!(
        check_produced(good.clone(), &small).map_err(|e| e.error()),
        Err(ErrorCode::MESSAGE_TOO_LARGE)
    );
    assert!(
        check_produced(good, &ProduceLimits { message_bytes_max: small.message_bytes_max + 1, ..LIMITS })
            .is_ok()
    );
}

#[test]
fn a_producer_id_needs_an_epoch_and_a_sequence() {
    assert_eq!(refusal(one_value().producer(5, -1, 0).build()), ErrorCode::INVALID_RECORD);
    assert_eq!(refusal(one_value().producer(5, 0, -1).build()), ErrorCode::INVALID_RECORD);
    assert!(check_produced(one_value().producer(5, 0, 0).build(), &LIMITS).is_ok());
}

#[test]
fn timestamps_are_bounded_on_both_sides_for_each_record() {
    let limits = ProduceLimits { timestamp_before_max_ms: 10, timestamp_after_max_ms: 20, ..LIMITS };
    let at = |base: i64, delta: i64| {
        let record = RecordSpec { value: Some(b"v"), timestamp_delta: delta, ..RecordSpec::default() };
        check_produced(BatchBuilder::new(base).record(record).build(), &limits).map_err(|error| error.error())
    };
    for good in [-10, 20] {
        assert!(at(NOW_MS, good).is_ok());
    }
    for bad in [-11, 21, i64::MAX, i64::MIN] {
        assert_eq!(at(NOW_MS, bad), Err(ErrorCode::INVALID_TIMESTAMP), "{bad}");
    }
    assert!(at(-1, 0).is_ok(), "-1 says that there is no timestamp");
}

/// Of a compressed batch that nobody looks into only the header can be judged.
#[test]
fn the_header_of_a_compressed_batch_has_bounds_of_its_own() {
    let limits = ProduceLimits { timestamp_before_max_ms: 10, timestamp_after_max_ms: 20, ..LIMITS };
    let judged = |base, count| {
        let batch = BatchBuilder::new(base).attributes(4).raw_records(b"zstd", count).build();
        let batch = check_produced(batch, &limits).expect("the records are not looked at");
        check_compressed_header(batch.header(), &limits).map_err(|error| error.error())
    };
    assert_eq!(judged(NOW_MS, 9), Ok(()));
    assert_eq!(judged(NOW_MS + 21, 9), Err(ErrorCode::INVALID_TIMESTAMP));
    assert_eq!(judged(NOW_MS, i32::MAX), Err(ErrorCode::INVALID_RECORD));
}

#[test]
fn malformed_records_are_refused_with_their_number() {
    let record = |bytes: &[u8], count| BatchBuilder::new(NOW_MS).raw_records(bytes, count).build();
    // length, attributes, timestamp delta, offset delta, key -1, value -1, 0 headers
    let good = [12, 0, 0, 0, 1, 1, 0];
    assert!(check_produced(record(&good, 1), &LIMITS).is_ok());
    let cases: [(&str, &[u8], i32); 10] = [
        ("offset delta 1", &[12, 0, 0, 2, 1, 1, 0], 1),
        ("left over in the record", &[14, 0, 0, 0, 1, 1, 0, 0], 1),
        ("left over in the batch", &[12, 0, 0, 0, 1, 1, 0, 0], 1),
        ("one record too few", &good, 2),
        ("key length past the end", &[12, 0, 0, 0, 100, 1, 0], 1),
        ("value length -2", &[12, 0, 0, 0, 1, 3, 0], 1),
        ("negative header count", &[12, 0, 0, 0, 1, 1, 1], 1),
        ("null header key", &[16, 0, 0, 0, 1, 1, 2, 1, 1], 1),
        ("length varint of six bytes", &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01, 0], 1),
        ("negative length", &[11, 0, 0, 0, 1, 1, 0], 1),
    ];
    for (what, bytes, count) in cases {
        let error = check_produced(record(bytes, count), &LIMITS).expect_err(what);
        assert_eq!(error.error(), ErrorCode::INVALID_RECORD, "{what}");
        assert!(error.why().starts_with("record "), "{what}: {error}");
    }
}

#[test]
fn what_is_wrong_with_a_batch_is_said_in_a_sentence() {
    let why = |batch: Bytes| check_produced(batch, &LIMITS).expect_err("refused").to_string();
    let good = one_value().build();
    let length = good.len();
    assert_eq!(
        why(concat(&[good.clone(), good])),
        format!("a partition takes exactly one record batch, but {length} bytes follow the first")
    );
    let record = |bytes: &[u8]| why(BatchBuilder::new(NOW_MS).raw_records(bytes, 1).build());
    assert_eq!(
        record(&[12, 0, 0]),
        "record 0 of the batch is malformed: a record reaches past the end of its batch"
    );
    assert_eq!(
        record(&[0xff, 0xff]),
        "record 0 of the batch is malformed: a record reaches past the end of its batch"
    );
    assert_eq!(record(&[0xff; 5]), "record 0 of the batch is malformed: a varint is too long");
}

#[test]
fn the_walk_over_records_ends_at_the_first_malformed_one() {
    let good = [12, 0, 0, 0, 1, 1, 0];
    for (bytes, count, goods) in
        [(&[&good[..], &[3]].concat(), 1, 1), (&[&good[..], &[3], &good[..]].concat(), 3, 1)]
    {
        let batch = BatchBuilder::new(NOW_MS).raw_records(bytes, count).build();
        let (batches, _) = check_fetched(altered(batch, 12, &0_i32.to_be_bytes()));
        let mut walk = records(&batches[0]);
        let read: Vec<bool> = walk.by_ref().take(10).map(|record| record.is_ok()).collect();
        assert_eq!(read, [vec![true; goods], vec![false]].concat());
        assert!(walk.next().is_none());
    }
}

#[test]
fn a_built_batch_is_as_the_java_producer_sends_it_and_can_be_stamped_anew() {
    let mut batch = data_batch(&[b"hello"], NOW_MS, None).to_vec();
    let checked = check_produced(Bytes::from(batch.clone()), &LIMITS).expect("valid");
    let header = checked.header();
    assert_eq!(header.leader_epoch, Epoch(-1));
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (-1, -1, -1));
    let values: Vec<_> = records(&checked).map(|record| record.expect("good").value).collect();
    assert_eq!(values, [Some(&b"hello"[..])]);
    restamp_producer(&mut batch, (1 << 40, 3, 70_000));
    let checked = check_produced(Bytes::from(batch), &LIMITS).expect("its CRC is right");
    let header = checked.header();
    assert_eq!((header.producer_id, header.producer_epoch, header.base_sequence), (1 << 40, 3, 70_000));
}

fn rotten(batch: Bytes) -> Bytes {
    let mut bytes = batch.to_vec();
    *bytes.last_mut().expect("a batch is not empty") ^= 1;
    Bytes::from(bytes)
}

fn stamped(offset: i64, epoch: i32) -> Bytes {
    let mut batch = check_produced(one_value().build(), &LIMITS).expect("valid");
    batch.stamp(Offset(offset), Epoch(epoch));
    batch.to_bytes()
}

#[test]
fn a_fetched_tail_is_left_out_and_a_bad_batch_ends_the_good_ones() {
    let partial = stamped(12, 1);
    for cut in 0..partial.len() {
        let (batches, error) = check_fetched(concat(&[stamped(10, 1), stamped(11, 1), partial.slice(..cut)]));
        assert_eq!((batches.len(), error), (2, None), "cut at {cut}");
    }
    for (what, bad) in [
        ("gap", stamped(13, 1)),
        ("overlap", stamped(11, 1)),
        ("falling epoch", stamped(12, 0)),
        ("rotten", rotten(stamped(12, 1))),
    ] {
        let (batches, error) = check_fetched(concat(&[stamped(10, 1), stamped(11, 1), bad]));
        assert_eq!(batches.len(), 2, "{what}");
        assert_eq!(error.map(|error| error.error()), Some(ErrorCode::CORRUPT_MESSAGE), "{what}");
    }
    for length in [i32::MIN, -1, 0, 5, 6, 48] {
        let (batches, error) = check_fetched(altered(stamped(10, 1), 8, &length.to_be_bytes()));
        let why = error.map(|error| error.to_string()).unwrap_or_default();
        assert!(batches.is_empty() && why.contains("length field"), "length {length}: {why}");
    }
    for (offset, epoch) in [(-1, 1), (i64::MAX, 1), (0, -1)] {
        let (batches, error) = check_fetched(stamped(offset, epoch));
        assert!(batches.is_empty() && error.is_some(), "{offset} {epoch}");
    }
}

fn golden(path: &str) -> Bytes {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/files").join(path);
    Bytes::from(std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
}

#[test]
fn leader_changes_of_kafka_are_rebuilt_byte_for_byte() {
    let (batches, error) =
        check_fetched(golden("voter-kraft0-killed/__raft_performance_test-0/00000000000000000000.log"));
    assert_eq!(error, None);
    let control: Vec<&StampedBatch> = batches.iter().filter(|batch| batch.header().is_control()).collect();
    assert_eq!(control.len(), 3);
    for batch in control {
        assert_eq!(check_static_voters(batch), Ok(()));
        let records = control_records(batch).expect("decodes");
        let [ControlRecord::LeaderChange { leader, voters, granting }] = &records[..] else {
            panic!("{records:?}");
        };
        let wall_ms = batch.header().base_timestamp;
        let rebuilt =
            leader_change_batch(batch.base_offset(), batch.epoch(), wall_ms, *leader, voters, granting);
        assert_eq!(&rebuilt, batch);
        assert_eq!(rebuilt.size_bytes(), 106);
    }
}

#[test]
fn voters_and_versions_of_kafka_are_decoded() {
    let (batches, _) =
        check_fetched(golden("controller-kraft1-run/__cluster_metadata-0/00000000000000000000.log"));
    let records = control_records(&batches[0]).expect("decodes");
    let names: Vec<_> = records.iter().map(ControlRecord::name).collect();
    assert_eq!(names, ["LEADER_CHANGE", "KRAFT_VERSION", "KRAFT_VOTERS"]);
    assert_eq!(records[1], ControlRecord::KRaftVersion(1));
    let directory_id = Uuid::parse("JneSgxhrS4KuxcGGRG2_sQ").expect("a uuid");
    let endpoint = Endpoint { host: "localhost".to_string(), port: 29701 };
    let voter = Voter {
        key: ReplicaKey { id: NodeId(1), directory_id },
        endpoints: vec![VoterEndpoint { name: "CONTROLLER".to_string(), endpoint }],
        kraft_versions: (0, 1),
    };
    assert_eq!(records[2], ControlRecord::KRaftVoters(vec![voter]));
    assert_eq!(control_records(&batches[1]), Ok(Vec::new()));
    let why = check_static_voters(&batches[0]).expect_err("the voters are in the log");
    assert!(why.contains("the batch at offset 0 says that the quorum has kraft.version 1"), "{why}");
    assert_eq!(check_static_voters(&batches[1]), Ok(()));
}

#[test]
fn control_records_have_kafkas_names() {
    let kinds: [(u8, &[u8], &str); 6] = [
        (0, &[0; 6], "ABORT"),
        (1, &[0; 6], "COMMIT"),
        (3, &[0; 11], "SNAPSHOT_HEADER"),
        (4, &[0; 3], "SNAPSHOT_FOOTER"),
        (5, &[0, 0, 0, 1, 0], "KRAFT_VERSION"),
        (9, &[], "UNKNOWN"),
    ];
    for (kind, value, name) in kinds {
        let record = ControlRecord::decode(&[0, 0, 0, kind], value).expect("decodes");
        assert_eq!(record.name(), name, "{record:?}");
    }
    // A tagged field that nobody knows: skipped where it is whole.
    let tagged = |bytes: &[u8]| ControlRecord::decode(&[0, 0, 0, 5], &[&[0, 0, 0, 1, 1, 7], bytes].concat());
    assert_eq!(tagged(&[2, 8, 8]), Ok(ControlRecord::KRaftVersion(1)));
    assert!(tagged(&[2, 8]).is_err());
}

#[test]
fn what_is_set_is_read_again_and_begins_no_epoch() {
    let set = [("retention.bytes", "-1"), ("retention.ms", "5000")];
    let batch = configs_batch(NOW_MS, &set);
    let owned = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    assert_eq!(control_records(&batch), Ok(vec![ControlRecord::Configs(owned(&set))]));
    assert_eq!(control_records(&configs_batch(NOW_MS, &[])), Ok(vec![ControlRecord::Configs(vec![])]));
    assert!(batch.header().is_control() && batch.header().base_timestamp == NOW_MS);
    assert!(!may_begin_epoch(&batch));
    let first = leader_change_batch(Offset(0), Epoch(1), NOW_MS, NodeId(1), &[NodeId(1)], &[NodeId(1)]);
    assert!(may_begin_epoch(&first));
    // Nor does what a newer program may write in its place.
    let newer = ControlRecord::decode(&[0, 0, 0x4b, 0x52], &[0, 1, 9, 9]);
    assert_eq!(newer, Ok(ControlRecord::NewerConfigs(1)));
    assert_eq!(newer.map(|record| record.name()), Ok("CONFIGS"));
    for length in 0..encode_configs(&set).len() {
        let cut = &encode_configs(&set)[..length];
        assert!(ControlRecord::decode(&[0, 0, 0x4b, 0x52], cut).is_err(), "{length}");
    }
}

#[test]
fn damaged_control_values_are_errors_and_reserve_nothing() {
    // 0x0f ff ff ff voters announced in a value of a few bytes.
    for kind in [2, 6] {
        let value = [0, 0, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0x7f, 0, 0];
        assert!(ControlRecord::decode(&[0, 0, 0, kind], &value).is_err());
    }
    let mut snapshot_header = vec![0; 11];
    snapshot_header[2..10].copy_from_slice(&NOW_MS.to_be_bytes());
    assert_eq!(
        ControlRecord::decode(&[0, 0, 0, 3], &snapshot_header),
        Ok(ControlRecord::SnapshotHeader { last_contained_log_timestamp: NOW_MS })
    );
    assert_eq!(ControlRecord::decode(&[0, 0, 0, 9], &[]), Ok(ControlRecord::Unknown(9)));
    assert!(ControlRecord::decode(&[0], &[]).is_err());
}

/// A valid batch of any shape.
fn any_batch() -> impl Strategy<Value = Bytes> {
    let bytes = || proptest::option::of(proptest::collection::vec(any::<u8>(), 0..200));
    let record =
        (bytes(), bytes(), -1000_i64..1000, proptest::collection::vec(("[a-z]{0,9}", bytes()), 0..3));
    (proptest::collection::vec(record, 1..20), proptest::option::of((0_i64..9, 0_i16..9, 0_i32..9))).prop_map(
        |(records, producer)| {
            let mut builder = BatchBuilder::new(NOW_MS);
            if let Some((id, epoch, sequence)) = producer {
                builder = builder.producer(id, epoch, sequence);
            }
            for (key, value, timestamp_delta, headers) in &records {
                let headers: Vec<_> = headers.iter().map(|(k, v)| (k.as_str(), v.as_deref())).collect();
                let (key, value) = (key.as_deref(), value.as_deref());
                builder = builder.record(RecordSpec {
                    key,
                    value,
                    timestamp_delta: *timestamp_delta,
                    headers: &headers,
                });
            }
            builder.build()
        },
    )
}

proptest! {
    #[test]
    fn a_built_batch_is_valid_and_reads_back(batch in any_batch()) {
        let checked = check_produced(batch.clone(), &LIMITS).expect("valid");
        prop_assert_eq!(records(&checked).filter(Result::is_ok).count(), checked.header().record_count as usize);
        prop_assert_eq!(check_fetched(altered(batch, 12, &[0; 4])).0.len(), 1);
    }

    #[test]
    fn any_changed_byte_that_the_crc_covers_is_noticed(batch in any_batch(), at: prop::sample::Index, flip in 1_u8..) {
        let mut bytes = batch.to_vec();
        let at = batch::CRC_COVERED_FROM + at.index(bytes.len() - batch::CRC_COVERED_FROM);
        bytes[at] ^= flip;
        prop_assert_eq!(refusal(Bytes::from(bytes)), ErrorCode::CORRUPT_MESSAGE);
    }

    /// With the CRC made right again, so that the mutation reaches the code behind it.
    #[test]
    fn mutations_never_panic(batch in any_batch(), changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8), cut: prop::sample::Index) {
        let mut bytes = batch.to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mutated = altered(Bytes::from(bytes), 0, &[0; 8]);
        for bytes in [mutated.clone(), mutated.slice(..cut.index(mutated.len() + 1))] {
            let _ = check_produced(bytes.clone(), &LIMITS);
            for batch in check_fetched(bytes).0 {
                let _ = (records(&batch).count(), record_timestamps(&batch).count(), control_records(&batch));
                let _ = (batch.next_offset(), batch.to_bytes());
            }
        }
    }

    #[test]
    fn noise_never_panics(noise in proptest::collection::vec(any::<u8>(), 0..300)) {
        let noise = Bytes::from(noise);
        let _ = (check_produced(noise.clone(), &LIMITS), check_fetched(noise));
    }
}
