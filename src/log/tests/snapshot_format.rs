//! The bytes of a snapshot: what was written is read however it is cut, and nothing else is.

use super::super::SnapshotDecoder;
use super::super::snapshot_read::ReadSnapshot;
use super::*;
use crate::log::{Corrupt, parse_snapshot_file_name, snapshot_file_name};
use crate::record::{VoterEndpoint, leader_change_batch};

const BYTES_MAX: u64 = 64 << 20;
const ID: OffsetAndEpoch = OffsetAndEpoch { epoch: Epoch(7), offset: Offset(4711) };

fn section(tag: u16, bytes: &[u8]) -> Section {
    Section { tag, version: 3, bytes: bytes.to_vec() }
}

fn snapshot(sections: Vec<Section>) -> Snapshot {
    let last_contained_log_timestamp = 1_700_000_000_123;
    Snapshot { id: ID, last_contained_log_timestamp, kraft_version: 0, voters: None, sections }
}

fn small() -> Snapshot {
    snapshot(vec![section(1, b"thirty-four bytes of one producer."), section(9, b"")])
}

/// Of kraft.version 1, with a section that has several pieces.
fn large() -> Snapshot {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9093 };
    let endpoints = vec![VoterEndpoint { name: "CONTROLLER".to_string(), endpoint }];
    let key = ReplicaKey { id: NodeId(3), directory_id: Uuid(77) };
    let voters = Some(vec![Voter { key, endpoints, kraft_versions: (0, 1) }]);
    let bytes: Vec<u8> = (0..2 * PIECE_BYTES as u32 + 1000).map(|n| (n % 251) as u8).collect();
    let sections = vec![section(1, &bytes), section(2, b"voters"), section(70, &bytes[..PIECE_BYTES])];
    Snapshot { kraft_version: 1, voters, ..snapshot(sections) }
}

fn batches(snapshot: &Snapshot) -> Vec<StampedBatch> {
    let mut encoder = SnapshotEncoder::new(snapshot.clone());
    std::iter::from_fn(|| encoder.next_batch()).collect()
}

fn joined(batches: &[StampedBatch]) -> Vec<u8> {
    batches.iter().flat_map(|batch| batch.to_bytes()).collect()
}

/// In pieces of this size.
fn decoded(bytes: &[u8], piece: usize) -> Result<ReadSnapshot, Corrupt> {
    let mut decoder = SnapshotDecoder::new(ID, BYTES_MAX);
    for part in bytes.chunks(piece) {
        decoder.push(part)?;
    }
    decoder.finish()
}

fn why(bytes: &[u8]) -> String {
    decoded(bytes, 4096).expect_err("it is no snapshot").to_string()
}

#[test]
fn a_snapshot_reads_back_however_it_is_cut() {
    for (snapshot, pieces, batches_wanted) in [
        (small(), &[1, 2, 61, 100, 4096][..], 4),
        (large(), &[997, 4096, 1 << 20, usize::MAX], 7),
        (snapshot(Vec::new()), &[1, 4096], 2),
    ] {
        let written = batches(&snapshot);
        assert_eq!(written.len(), batches_wanted);
        assert!(
            written.iter().all(|batch| batch.size_bytes() <= PIECE_BYTES + 256 && batch.epoch() == ID.epoch)
        );
        let bytes = joined(&written);
        for piece in pieces {
            let read = decoded(&bytes, *piece).unwrap_or_else(|why| panic!("in pieces of {piece}: {why}"));
            assert_eq!((read.snapshot, read.foreign_records), (snapshot.clone(), 0), "in pieces of {piece}");
        }
    }
}

#[test]
fn sections_are_written_in_the_order_of_their_tags() {
    let mixed = snapshot(vec![section(9, b"nine"), section(1, b"one")]);
    let read = decoded(&joined(&batches(&mixed)), 4096).expect("it is whole").snapshot;
    assert_eq!(read.sections, [section(1, b"one"), section(9, b"nine")]);
}

#[test]
fn every_flipped_bit_and_every_cut_of_it_is_noticed() {
    let bytes = joined(&batches(&small()));
    for bit in 0..bytes.len() * 8 {
        let mut rotten = bytes.clone();
        rotten[bit / 8] ^= 1 << (bit % 8);
        assert!(decoded(&rotten, 4096).is_err(), "bit {bit}");
    }
    for length in 0..bytes.len() {
        assert!(decoded(&bytes[..length], 4096).is_err(), "{length} bytes");
    }
    assert!(why(&[&bytes[..], b"\0"].concat()).ends_with("bytes follow its footer"));
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let written = batches(&small());
    let bytes = joined(&written);
    let at = |batch: usize| joined(&written[..batch]).len();
    let place =
        |byte: usize| format!("00000000000000004711-0000000007.checkpoint is corrupt at byte {byte}: ");
    let mut rotten = bytes.clone();
    rotten[at(2) - 1] ^= 1;
    assert!(why(&rotten).starts_with(&(place(at(1)) + "the CRC of the batch")), "{}", why(&rotten));
    assert_eq!(why(&bytes[..at(3)]), place(at(3)) + "it ends without a footer: it was never finished");
    let left = place(at(1)) + "20 bytes are left, fewer than the batch that begins there has";
    assert_eq!(why(&bytes[..at(1) + 20]), left);
}

/// Batches at their places, whatever they say.
fn placed(batches: &[StampedBatch]) -> Vec<u8> {
    let mut next = Offset(0);
    let mut placed = batches.to_vec();
    for batch in &mut placed {
        batch.stamp(next, ID.epoch);
        next = batch.next_offset();
    }
    joined(&placed)
}

#[test]
fn batches_in_another_order_make_no_snapshot() {
    let written = batches(&large());
    let pick = |order: &[usize]| placed(&order.iter().map(|at| written[*at].clone()).collect::<Vec<_>>());
    // Header, three pieces of section 1, one of section 2, one of section 70, footer.
    assert!(decoded(&pick(&[0, 1, 2, 3, 4, 5, 6]), 4096).is_ok());
    for (order, what) in [
        (&[1, 2, 3, 4, 5, 6][..], "it does not begin with a snapshot's header"),
        (&[6], "it does not begin with a snapshot's header"),
        (&[0, 0, 6], "a SNAPSHOT_HEADER where no other than a footer can be"),
        (&[0, 1, 2, 3, 4, 5, 6, 6], "bytes follow its footer"),
        (&[0, 1, 2, 3, 6, 4, 5, 6], "bytes follow its footer"),
        (&[0, 2, 3, 4, 5, 6], "section 1 does not begin with its first piece"),
        (&[0, 1, 3, 4, 5, 6], "a piece of section 1, 1000 bytes from 1048576"),
        (&[0, 1, 2, 4, 5, 6], "section 1 ends with 1048576 of its 1049576 bytes"),
        (&[0, 1, 2, 6], "section 1 ends with 1048576 of its 1049576 bytes"),
        (&[0, 1, 2, 2, 3, 4, 5, 6], "a piece of section 1, 524288 bytes from 524288"),
        (&[0, 4, 1, 2, 3, 5, 6], "section 1 comes behind section 2"),
        (&[0, 4, 4, 5, 6], "section 2 comes behind section 2"),
        (
            &[0, 5, 3, 6],
            "a piece of section 1, 1000 bytes from 1048576 of 1049576, where section 70 has 524288 of 524288",
        ),
    ] {
        let told = why(&pick(order));
        assert!(told.contains(what), "{order:?}: {told}");
    }
}

#[test]
fn what_belongs_to_another_log_or_another_snapshot_is_refused() {
    let written = batches(&small());
    let stamped = |at: usize, base: i64, epoch: i32| {
        let mut wrong = written.clone();
        wrong[at].stamp(Offset(base), Epoch(epoch));
        why(&joined(&wrong))
    };
    assert!(stamped(0, 0, 8).ends_with("a batch of epoch 8 in a snapshot of epoch 7"));
    assert!(stamped(2, 2, 6).ends_with("a batch of epoch 6 in a snapshot of epoch 7"));
    assert!(stamped(2, 3, 7).ends_with("a batch at offset 3 where 2 is due"));
    let change = leader_change_batch(Offset(0), ID.epoch, 0, NodeId(1), &[NodeId(1)], &[NodeId(1)]);
    assert!(
        why(&joined(std::slice::from_ref(&change))).ends_with("it does not begin with a snapshot's header")
    );
    let inside = [written[0].clone(), change, written[1].clone()];
    assert!(why(&placed(&inside)).ends_with("a LEADER_CHANGE where no other than a footer can be"));
    // Two states under one name, as two nodes may have them: each piece is good, and fits.
    let of = |fill: u8| batches(&snapshot(vec![section(1, &vec![fill; 2 * PIECE_BYTES])]));
    let (one, other) = (of(1), of(2));
    let mixed = joined(&[one[0].clone(), one[1].clone(), other[2].clone(), one[3].clone()]);
    assert!(why(&mixed).contains("a piece of section 1"), "{}", why(&mixed));
}

/// A data batch with this value, in place of the first piece.
fn with_value(value: &[u8]) -> Result<ReadSnapshot, Corrupt> {
    let mut written = batches(&snapshot(vec![section(1, b"state")]));
    let record = RecordSpec { value: Some(value), ..RecordSpec::default() };
    written[1] = stamped(BatchBuilder::new(0).record(record), Offset(1), ID.epoch);
    decoded(&joined(&written), 4096)
}

#[test]
fn a_piece_is_judged_by_its_head() {
    let written = batches(&snapshot(vec![section(1, b"state")]));
    let record = crate::record::records(&written[1]).next().expect("one").expect("well formed");
    let value = record.value.expect("a value").to_vec();
    assert_eq!(value.len(), HEAD_BYTES + 5);
    let changed = |at: usize, bytes: &[u8]| {
        let mut wrong = value.clone();
        wrong[at..at + bytes.len()].copy_from_slice(bytes);
        with_value(&wrong).expect_err("it is wrong").to_string()
    };
    assert!(with_value(&value).is_ok());
    assert!(changed(4, &[0, 2]).ends_with("a newer program wrote it: its pieces are of version 2, not 1"));
    assert!(changed(10, &[0, 0, 0, 6]).ends_with("section 1 ends with 5 of its 6 bytes"));
    assert!(changed(10, &[0, 0, 0, 4]).contains("5 bytes from 0 of 4"));
    assert!(changed(14, &[0]).ends_with("the checksum of section 1 does not match its pieces"));
    assert!(changed(18, &[0, 0, 0, 1]).ends_with("section 1 does not begin with its first piece"));
    assert!(changed(HEAD_BYTES, b"S").ends_with("the checksum of section 1 does not match its pieces"));
    let short = with_value(&value[..HEAD_BYTES - 1]).expect_err("it is too short").to_string();
    assert!(short.ends_with("a piece of a section is shorter than its head"));
    // Another program's, as Kafka's controller writes them.
    let foreign = with_value(b"\x01\x0c\0\x11metadata.version\0\x1e\0").expect("it is a snapshot");
    assert_eq!((foreign.foreign_records, foreign.snapshot.sections.len()), (1, 0));
}

#[test]
fn nothing_is_kept_of_what_is_too_large() {
    let header = |size: i32| {
        let mut bytes = batches(&small())[0].to_bytes().to_vec();
        bytes[8..12].copy_from_slice(&size.to_be_bytes());
        bytes
    };
    for size in [-1, 0, 48, (8 << 20) - 11, i32::MAX] {
        let told = decoded(&header(size), usize::MAX).expect_err("no batch has that").to_string();
        assert!(told.contains("a batch of") || told.ends_with("what is there is no batch"), "{size}: {told}");
    }
    let bytes = joined(&batches(&large()));
    let mut decoder = SnapshotDecoder::new(ID, bytes.len() as u64 - 1);
    assert!(decoder.push(&bytes).is_err_and(|why| why.to_string().contains("it is larger than")));
    let mut decoder = SnapshotDecoder::new(ID, bytes.len() as u64);
    assert_eq!(decoder.push(&bytes), Ok(()));
}

#[test]
fn names_are_kafkas() {
    let id = |offset, epoch| OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) };
    assert_eq!(snapshot_file_name(id(92, 1)), "00000000000000000092-0000000001.checkpoint");
    for named in [id(0, 0), id(92, 1), id(i64::MAX, i32::MAX)] {
        assert_eq!(parse_snapshot_file_name(&snapshot_file_name(named)), Some(named));
    }
    for name in [
        "bootstrap.checkpoint",
        "leader-epoch-checkpoint",
        "00000000000000000092-0000000001.checkpoint.part",
        "00000000000000000092-0000000001.checkpoint.deleted",
        "0000000000000000092-0000000001.checkpoint",
        "00000000000000000092-000000001.checkpoint",
        "0000000000000000+092-0000000001.checkpoint",
        "00000000000000000092-9999999999.checkpoint",
        "99999999999999999999-0000000001.checkpoint",
    ] {
        assert_eq!(parse_snapshot_file_name(name), None, "{name}");
    }
}

/// What a program of this version writes, for all later ones to read. Kafka's own tool reads the same file.
#[test]
fn a_snapshot_that_was_written_long_ago_reads_and_is_written_so_today() {
    let name = "00000000000000004711-0000000007.checkpoint";
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/snapshots/version-1/");
    let file = std::fs::read(format!("{path}{name}")).expect("the fixture");
    assert_eq!(parse_snapshot_file_name(name), Some(ID));
    assert_eq!(decoded(&file, 4096).map(|read| read.snapshot), Ok(small()));
    assert_eq!(joined(&batches(&small())), file);
}
