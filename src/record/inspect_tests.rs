use super::super::tests::{LIMITS, NOW_MS, altered};
use super::*;
use crate::record::{BatchBuilder, RecordSpec, check_produced};
use crate::types::ErrorCode;
use bytes::Bytes;
use proptest::prelude::*;

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const BYTES_MAX: u64 = 1 << 20;

/// Records at these times after `NOW_MS`, with keys, values, headers and nulls.
fn plain(deltas: &[i64]) -> Bytes {
    let headers: &[(&str, Option<&[u8]>)] = &[("trace", Some(b"1")), ("none", None)];
    let value = [b'v'; 300];
    let add = |builder: BatchBuilder, delta: &i64| {
        builder.record(RecordSpec { key: Some(b"k"), value: Some(&value), timestamp_delta: *delta, headers })
    };
    let builder = deltas.iter().fold(BatchBuilder::new(NOW_MS), add);
    builder.record(RecordSpec { timestamp_delta: -1, ..RecordSpec::default() }).build()
}

fn compressed(codec: Codec, plain: Bytes) -> StampedBatch {
    let batch = codec.compress_batch(plain).expect("it compresses");
    check_produced(batch, &LIMITS).expect("a good header")
}

fn large(value: &[u8]) -> RecordSpec<'_> {
    RecordSpec { value: Some(value), ..RecordSpec::default() }
}

/// A batch that counts `count` records, of a stream of our own.
fn batch_of(codec: Codec, stream: &[u8], count: i32) -> StampedBatch {
    let batch =
        BatchBuilder::new(NOW_MS).attributes(i16::from(codec.id())).raw_records(stream, count).build();
    check_produced(batch, &LIMITS).expect("a good header")
}

fn check(mut batch: StampedBatch) -> Result<StampedBatch, Unread> {
    Inspector::default().check(&mut batch, &LIMITS, BYTES_MAX)?;
    Ok(batch)
}

fn refusal(batch: StampedBatch) -> (ErrorCode, String) {
    match check(batch) {
        Err(Unread::Bad(error)) => (error.error(), error.to_string()),
        other => panic!("it should be refused: {other:?}"),
    }
}

#[test]
fn a_good_batch_of_each_codec_passes_as_it_came() {
    for codec in CODECS {
        let batch = compressed(codec, plain(&[0, 10, 5]));
        let checked = check(batch.clone()).unwrap_or_else(|why| panic!("{codec:?}: {why:?}"));
        assert_eq!((&checked, checked.rest().as_ptr()), (&batch, batch.rest().as_ptr()), "no copy");
    }
}

/// Producers that leave it out, or have it wrong.
#[test]
fn the_maximum_timestamp_is_that_of_the_records_compressed_or_not() {
    for codec in Codec::ALL {
        for wrong in [-1, 0, NOW_MS, NOW_MS + 400, i64::MAX] {
            let batch = codec.compress_batch(plain(&[0, 30, 20])).expect("it compresses");
            let batch = altered(batch, 35, &i64::to_be_bytes(wrong));
            let mut checked = check_produced(batch, &LIMITS).expect("a good header");
            if codec != Codec::None {
                checked = check(checked).expect("good records");
            }
            assert_eq!(checked.header().max_timestamp, NOW_MS + 30, "{codec:?}: {wrong}");
            let mut stored = checked;
            stored.stamp(Offset(0), crate::types::Epoch(1));
            let (read, error) = crate::record::check_fetched(stored.to_bytes());
            assert_eq!((read, error), (vec![stored], None), "its CRC is right");
        }
    }
    // Records without a timestamp.
    let none =
        BatchBuilder::new(-1).record(RecordSpec { value: Some(b"v"), ..RecordSpec::default() }).build();
    let checked = check_produced(altered(none, 35, &[0; 8]), &LIMITS).expect("valid");
    assert_eq!(checked.header().max_timestamp, -1);
}

#[test]
fn what_is_not_what_the_header_says_is_refused() {
    let good = plain(&[0, 10]);
    let records = &good[61..];
    for codec in CODECS {
        let stream = |bytes: &[u8]| codec.compress(bytes).expect("it compresses");
        let refused = |stream: &[u8], count| refusal(batch_of(codec, stream, count));
        let (code, why) = refused(b"this is no stream", 3);
        assert_eq!(code, ErrorCode::INVALID_RECORD);
        assert!(why.contains("cannot be decompressed") && why.contains(codec.name()), "{why}");
        let whole = stream(records);
        assert!(check(batch_of(codec, &whole, 3)).is_ok());
        for (count, expected) in [(2, "bytes follow"), (4, "past the end"), (i32::MAX, "past the end")] {
            let (code, why) = refused(&whole, count);
            assert_eq!(code, ErrorCode::INVALID_RECORD);
            assert!(why.contains(expected) && why.contains(&count.to_string()), "{codec:?} {count}: {why}");
        }
        let (code, _) = refused(&whole[..whole.len() - 3], 3);
        assert_eq!(code, ErrorCode::INVALID_RECORD, "cut short");
        let (code, _) = refused(&stream(&whole), 3);
        assert_eq!(code, ErrorCode::INVALID_RECORD, "compressed twice");
        let (_, why) = refused(&stream(&[records, &[0]].concat()), 3);
        assert!(why.contains("bytes follow"), "{why}");
    }
}

/// length, attributes, timestamp delta, offset delta, key, value, headers; numbers are zigzag.
#[test]
fn malformed_records_are_refused_inside_a_stream_too() {
    let good: &[u8] = &[14, 0, 0, 0, 1, 2, b'v', 0];
    let cases: [(&str, &[u8], &str); 10] = [
        ("a negative record length", &[1], "a length is negative"),
        (
            "an offset delta of 1",
            &[14, 0, 0, 2, 1, 2, b'v', 0],
            "record 0 of the batch has the offset delta 1",
        ),
        ("a value past the record", &[14, 0, 0, 0, 1, 20, b'v', 0], "past the end"),
        ("a value of 2 GiB", &[22, 0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0, 0], "past the end"),
        ("a key of length -2", &[14, 0, 0, 0, 3, 2, b'v', 0], "a length is negative"),
        ("bytes left in the record", &[16, 0, 0, 0, 1, 2, b'v', 0, 0], "longer than its fields"),
        ("a record shorter than its fields", &[10, 0, 0, 0, 1, 2, b'v', 0], "past the end"),
        ("-1 headers", &[14, 0, 0, 0, 1, 2, b'v', 1], "a length is negative"),
        ("a header that is not there", &[14, 0, 0, 0, 1, 2, b'v', 2], "past the end"),
        ("a varint without end", &[0xff; 12], "a varint is too long"),
    ];
    for codec in CODECS {
        assert!(check(batch_of(codec, &codec.compress(good).unwrap(), 1)).is_ok());
        for (what, records, expected) in cases {
            let (code, why) = refusal(batch_of(codec, &codec.compress(records).unwrap(), 1));
            assert_eq!(code, ErrorCode::INVALID_RECORD, "{what}");
            assert!(why.contains(expected), "{codec:?}, {what}: {why}");
        }
    }
}

#[test]
fn each_record_inside_must_be_of_our_time() {
    for codec in CODECS {
        let late = compressed(codec, plain(&[0, LIMITS.timestamp_after_max_ms + 1]));
        assert_eq!(refusal(late).0, ErrorCode::INVALID_TIMESTAMP);
    }
}

/// One record of a gigabyte of zeros would be in a megabyte; what is read of it is the bound and a buffer.
#[test]
fn a_bomb_costs_its_bound() {
    const BOMB_BYTES: usize = 64 << 20;
    let mut records = vec![];
    crate::record::builder::put_unsigned_varint(&mut records, (BOMB_BYTES as u64) << 1);
    records.extend_from_slice(&[0, 0, 0, 1]);
    crate::record::builder::put_unsigned_varint(&mut records, (BOMB_BYTES as u64 - 20) << 1);
    records.resize(BOMB_BYTES, 0);
    for codec in CODECS {
        let stream = codec.compress(&records).expect("it compresses");
        let limits = ProduceLimits { message_bytes_max: usize::MAX, ..LIMITS };
        let attributes = i16::from(codec.id());
        let batch = BatchBuilder::new(NOW_MS).attributes(attributes).raw_records(&stream, 1).build();
        let batch = check_produced(batch, &limits).expect("a good header");
        let mut inspector = Inspector::default();
        assert_eq!(
            inspector.check(&mut batch.clone(), &LIMITS, BYTES_MAX),
            Err(Unread::TooLong),
            "{codec:?}"
        );
        let mut stream =
            Stream::open(codec, batch.record_bytes(), &mut inspector.buffers, BYTES_MAX).unwrap();
        let mut buffer = vec![0; BUFFER_BYTES];
        let mut walk = Walk {
            stream: Stream::Plain(&[]),
            buffer: &mut buffer,
            at: 0,
            end: 0,
            read: 0,
            bytes_max: BYTES_MAX,
            wanted: None,
        };
        std::mem::swap(&mut walk.stream, &mut stream);
        assert!(matches!(walk.record(), Err(Cut::TooLong)));
        assert!(walk.read <= BYTES_MAX + BUFFER_BYTES as u64, "{codec:?}: {} bytes were read", walk.read);
        assert_eq!(
            inspector.find(&batch, Offset(0), 0, BYTES_MAX),
            Err(Unread::TooLong),
            "nor does a search read on"
        );
    }
}

/// Whoever left does not keep a thread busy: not before the first byte, and not in the middle.
#[test]
fn a_look_ends_with_who_asked_for_it() {
    let records = vec![0; 8 << 20];
    let batch = compressed(Codec::Zstd, BatchBuilder::new(NOW_MS).record(large(&records)).build());
    let (asker, mut inspector) = (Asker::default(), Inspector::default());
    let wanted = asker.wanted();
    assert_eq!(inspector.work_for(&wanted).find(&batch, Offset(0), i64::MAX, u64::MAX), Ok(None));
    let mut stream =
        Stream::open(Codec::Zstd, batch.record_bytes(), &mut inspector.buffers, u64::MAX).unwrap();
    let mut buffer = vec![0; BUFFER_BYTES];
    let stream = std::mem::replace(&mut stream, Stream::Plain(&[]));
    let (at, end, read, bytes_max) = (0, 0, 0, u64::MAX);
    let mut walk = Walk { stream, buffer: &mut buffer, at, end, read, bytes_max, wanted: Some(&wanted) };
    assert!(matches!(walk.fill(), Ok(true)));
    drop(asker);
    assert!(matches!(walk.record(), Err(Cut::Unwanted)));
    assert!(walk.read <= BUFFER_BYTES as u64);
    drop(walk);
    assert_eq!(inspector.work_for(&wanted).find(&batch, Offset(0), 0, u64::MAX), Err(Unread::Unwanted));
}

#[test]
fn a_search_finds_the_record_itself() {
    for codec in CODECS {
        let mut batch = compressed(codec, plain(&[0, 10, 10, 30]));
        batch.stamp(Offset(100), crate::types::Epoch(3));
        let find =
            |timestamp| Inspector::default().find(&batch, Offset(0), timestamp, BYTES_MAX).expect("readable");
        assert_eq!(find(0), Some((Offset(100), NOW_MS)));
        assert_eq!(find(NOW_MS + 1), Some((Offset(101), NOW_MS + 10)), "the first of two");
        assert_eq!(find(NOW_MS + 11), Some((Offset(103), NOW_MS + 30)));
        assert_eq!(find(NOW_MS + 31), None);
    }
    let broken = batch_of(Codec::Gzip, b"no gzip", 3);
    assert!(matches!(Inspector::default().find(&broken, Offset(0), 0, BYTES_MAX), Err(Unread::Bad(_))));
}

#[test]
fn the_latest_of_a_batch_is_the_first_of_equals_and_not_before_the_start() {
    let mut batch = compressed(Codec::Lz4, plain(&[90, 20, 50, 50, 10]));
    batch.stamp(Offset(100), crate::types::Epoch(3));
    let latest = |from: i64, timestamp| {
        let mut inspector = Inspector::default();
        inspector.find_one(&batch, Offset(from), timestamp, Which::Latest, BYTES_MAX).expect("readable")
    };
    assert_eq!(latest(0, 0), Some((Offset(100), NOW_MS + 90)));
    assert_eq!(latest(101, 0), Some((Offset(102), NOW_MS + 50)));
    assert_eq!(latest(104, NOW_MS + 11), None);
}

proptest! {
    /// Streams changed at any place: a verdict, never a panic, and never more read than is allowed.
    #[test]
    fn mutated_streams_end_in_a_verdict(
        codec in prop::sample::select(&CODECS[..]),
        deltas in proptest::collection::vec(-5_i64..50, 1..40),
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        cut in proptest::option::of(any::<prop::sample::Index>()),
        count in proptest::option::of(1..i32::MAX),
    ) {
        let good = plain(&deltas);
        let mut stream = codec.compress(&good[61..]).expect("it compresses");
        let is_changed = !changes.is_empty() || cut.is_some() || count.is_some();
        for (at, byte) in changes {
            let at = at.index(stream.len());
            stream[at] = byte;
        }
        if let Some(cut) = cut {
            stream.truncate(cut.index(stream.len()));
        }
        let records = deltas.len() as i32 + 1;
        let verdict = check(batch_of(codec, &stream, count.unwrap_or(records)));
        prop_assert!(is_changed || verdict.is_ok(), "{:?}", verdict);
        if let Ok(batch) = verdict {
            prop_assert_eq!(batch.header().record_count, records, "as many as there are");
        }
    }
}
