use super::*;
use std::io::Read;

const CODECS: [Codec; 4] = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
const NO_BOUND: u64 = u64::MAX;

fn decompressed(codec: Codec, stream: &[u8], bytes_max: u64) -> io::Result<Vec<u8>> {
    let (mut out, mut buffers) = (Vec::new(), Buffers::default());
    Stream::open(codec, stream, &mut buffers, bytes_max)?.read_to_end(&mut out)?;
    Ok(out)
}

fn text() -> Vec<u8> {
    (0..20_000_u32).flat_map(|n| format!("line {n} ").into_bytes()).collect()
}

#[test]
fn what_is_compressed_comes_back() {
    for codec in Codec::ALL {
        for plain in [Vec::new(), b"abc".to_vec(), text()] {
            let stream = codec.compress(&plain).unwrap();
            assert_eq!(decompressed(codec, &stream, NO_BOUND).unwrap(), plain, "{codec:?}");
        }
        assert_eq!(Codec::from_id(codec.id()), Some(codec));
    }
    assert_eq!(Codec::from_id(5), None);
}

#[test]
fn a_stream_that_is_cut_or_of_another_codec_is_an_error() {
    for codec in CODECS {
        let stream = codec.compress(&text()).unwrap();
        for end in [1, 7, stream.len() / 2, stream.len() - 1] {
            assert!(decompressed(codec, &stream[..end], NO_BOUND).is_err(), "{codec:?} cut at {end}");
        }
        for other in CODECS.into_iter().filter(|other| *other != codec) {
            assert!(decompressed(other, &stream, NO_BOUND).is_err(), "{codec:?} read as {other:?}");
        }
        assert!(decompressed(codec, b"this is no stream at all", NO_BOUND).is_err(), "{codec:?}");
    }
}

/// What snappy-java reads beside its own: a block without a frame, as librdkafka sends it, and frames one behind the other.
#[test]
fn snappy_has_three_forms() {
    let plain = text();
    let raw = snap::raw::Encoder::new().compress_vec(&plain).unwrap();
    assert_eq!(decompressed(Codec::Snappy, &raw, NO_BOUND).unwrap(), plain);
    let framed = Codec::Snappy.compress(&plain).unwrap();
    let twice = decompressed(Codec::Snappy, &[&framed[..], &framed[..]].concat(), NO_BOUND).unwrap();
    assert_eq!(twice, [&plain[..], &plain[..]].concat());
    let mut old = framed.clone();
    old[8..12].fill(0);
    assert!(decompressed(Codec::Snappy, &old, NO_BOUND).is_err(), "its version is 0");
}

#[test]
fn a_block_of_snappy_reserves_no_more_than_it_can_hold_and_than_is_allowed() {
    // Four bytes that claim 4 GiB, and 3 MiB in one block where 2 are allowed.
    let claims = decompressed(Codec::Snappy, &[0xff, 0xff, 0xff, 0xff, 0x0f, 0], NO_BOUND).unwrap_err();
    assert!(claims.to_string().contains("claims more bytes"), "{claims}");
    let large = snap::raw::Encoder::new().compress_vec(&vec![0; 3 << 20]).unwrap();
    let error = decompressed(Codec::Snappy, &large, 2 << 20).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
    let mut buffers = Buffers::default();
    Stream::open(Codec::Snappy, &large, &mut buffers, NO_BOUND)
        .unwrap()
        .read_to_end(&mut Vec::new())
        .unwrap();
    buffers.shrink();
    assert_eq!(buffers.snappy_block.capacity(), 0, "what one large block needed is given back");
}

/// Kafka's clients would stop at them.
#[test]
fn lz4_frames_are_those_that_kafkas_clients_read() {
    let frame = |info: lz4_flex::frame::FrameInfo| {
        let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(&text()).unwrap();
        encoder.finish().unwrap()
    };
    let linked = frame(lz4_flex::frame::FrameInfo::new().block_mode(lz4_flex::frame::BlockMode::Linked));
    let error = decompressed(Codec::Lz4, &linked, NO_BOUND).unwrap_err();
    assert!(error.to_string().contains("depend on each other"), "{error}");
    let plain = frame(lz4_flex::frame::FrameInfo::new());
    let legacy = [&0x184C_2102_u32.to_le_bytes(), &plain[4..]].concat();
    assert!(decompressed(Codec::Lz4, &legacy, NO_BOUND).is_err());
    let no_end_mark = decompressed(Codec::Lz4, &plain[..plain.len() - 4], NO_BOUND).unwrap_err();
    assert!(no_end_mark.to_string().contains("no end mark"), "{no_end_mark}");
    let two = decompressed(Codec::Lz4, &[&plain[..], &plain[..]].concat(), NO_BOUND).unwrap_err();
    assert!(two.to_string().contains("bytes follow"), "{two}");
    let checked = frame(
        lz4_flex::frame::FrameInfo::new()
            .content_checksum(true)
            .block_checksums(true)
            .content_size(Some(text().len() as u64)),
    );
    assert_eq!(decompressed(Codec::Lz4, &checked, NO_BOUND).unwrap(), text());
}

#[test]
fn a_compressed_batch_keeps_its_header() {
    let value = [7; 2000];
    let plain = crate::record::data_batch(&[&value[..], &value[..]], 1_000, Some((7, 0, 5)));
    for codec in CODECS {
        let batch = codec.compress_batch(plain.clone()).unwrap();
        let (before, after) = [&plain, &batch].map(|b| crate::record::BatchHeader::decode(b).unwrap()).into();
        assert_eq!((after.size_bytes, after.compression()), (batch.len(), codec.id()));
        assert_eq!((after.producer_id, after.record_count), (before.producer_id, before.record_count));
        let checked = crate::record::check_produced(batch, &crate::record::tests::LIMITS).unwrap();
        let back = Codec::decompress_batch(&checked, 4_100).unwrap();
        assert_eq!(back.to_bytes(), plain);
        assert!(Codec::decompress_batch(&checked, 3_900).is_err(), "{codec:?}: more than is allowed");
    }
    assert_eq!(Codec::None.compress_batch(plain.clone()).unwrap(), plain);
}
