use super::*;
use crate::config::Voter;
use crate::io::directory::tests::owner;
use crate::log::{Section, Snapshot, SnapshotEncoder};
use crate::replica::EXIT_CONFIG;
use crate::replica::folds::origin_section;
use crate::types::{Endpoint, Epoch, NodeId, Offset};

const SLOT_BYTES: usize = 4096;

fn put(slot: &mut [u8], at: usize, bytes: &[u8]) {
    slot[at..at + bytes.len()].copy_from_slice(bytes);
}

/// Of version 3, as the page of formats has it: a log of no batches, behind offset 80 and its epoch 4.
fn moved_mark(start: i64) -> Vec<u8> {
    let mut slot = vec![0; SLOT_BYTES];
    put(&mut slot, 0, b"KRFTMARK");
    put(&mut slot, 8, &3u32.to_be_bytes());
    put(&mut slot, 12, &1u64.to_be_bytes());
    let epoch_at = if start > 0 { 4i32 } else { 0 };
    for at in [20, 32, 48, 60, 76] {
        put(&mut slot, at, &start.to_be_bytes());
    }
    for at in [28, 68, 72] {
        put(&mut slot, at, &epoch_at.to_be_bytes());
    }
    let crc = crc32c::crc32c(&slot[..508]);
    put(&mut slot, 508, &crc.to_be_bytes());
    [slot, vec![0; SLOT_BYTES]].concat()
}

fn config(voters: i32) -> Config {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9092 };
    let voters = (1..=voters).map(|id| Voter { id: NodeId(id), endpoint: endpoint.clone() });
    Config::for_tests(NodeId(1), voters.collect())
}

/// Of nothing that was ever folded.
fn put_snapshot(directory: &Directory, config: &Config, offset: i64, epoch: i32) {
    let id = OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) };
    let section = |tag, bytes: &[u8]| Section { tag, version: 1, bytes: bytes.to_vec() };
    let sections = vec![origin_section(config), section(1, b""), section(3, b"")];
    let mut encoder = SnapshotEncoder::new(Snapshot { id, sections, ..Snapshot::default() });
    let batches = std::iter::from_fn(|| encoder.next_batch());
    let bytes: Vec<u8> = batches.flat_map(|batch| batch.to_bytes()).collect();
    std::fs::write(directory.partition.join(snapshot_file_name(id)), bytes).unwrap();
}

fn names(directory: &Directory) -> Vec<String> {
    let entries = std::fs::read_dir(&directory.partition).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_log_whose_start_moved_is_refused_where_nothing_holds_what_was_folded() {
    let config = config(1);
    let older = "the log starts at 80, and the newest snapshot ends at 79 and does not hold";
    let lag = "the log ends at 80, and the newest snapshot holds what was committed up to 81";
    for (start, snapshots, refusal) in [
        (0, &[][..], None),
        (80, &[], Some("the log starts at 80, and no snapshot holds")),
        (80, &[(70, 4), (79, 4)], Some(older)),
        (80, &[(79, 4), (80, 4)], None),
        (80, &[(80, 4), (81, 4)], Some(lag)),
    ] {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open(home.path(), &owner()).unwrap();
        std::fs::write(directory.partition.join("commit-mark"), moved_mark(start)).unwrap();
        snapshots.iter().for_each(|(offset, epoch)| put_snapshot(&directory, &config, *offset, *epoch));
        let before = names(&directory);
        let failure = recover(&directory, &config).err();
        match (refusal, &failure) {
            (None, None) => {}
            (Some(part), Some(Failure { exit_code, line })) => {
                assert!(*exit_code == EXIT_CORRUPT && line.contains(part), "{exit_code} {line}");
                assert_eq!(names(&directory), before, "nothing was changed");
            }
            _ => panic!("start {start} with {snapshots:?}: {failure:?}"),
        }
    }
}

#[test]
fn one_of_several_voters_that_lacks_what_its_snapshot_holds_is_in_doubt() {
    let config = config(3);
    let home = tempfile::tempdir().unwrap();
    let directory = Directory::open(home.path(), &owner()).unwrap();
    std::fs::write(directory.partition.join("commit-mark"), moved_mark(80)).unwrap();
    put_snapshot(&directory, &config, 90, 4);
    let started = recover(&directory, &config).unwrap_or_else(|failure| panic!("{failure:?}"));
    assert!(started.recovered.quorum_state.in_doubt);
    assert!(started.folds.is_ahead_of(started.recovered.log_end));
}

/// The mark says of which epoch the record before the start was.
#[test]
fn a_snapshot_of_another_epoch_than_the_logs_is_set_aside_where_a_mark_vouches_for_the_log() {
    let config = config(1);
    let home = tempfile::tempdir().unwrap();
    let directory = Directory::open(home.path(), &owner()).unwrap();
    std::fs::write(directory.partition.join("commit-mark"), moved_mark(80)).unwrap();
    put_snapshot(&directory, &config, 80, 3);
    let failure = recover(&directory, &config).err().expect("nothing else covers the start");
    assert!(failure.line.contains("the log starts at 80, and no snapshot holds"), "{failure:?}");
    let aside = "00000000000000000080-0000000003.bad.checkpoint";
    assert!(names(&directory).iter().any(|name| name == aside));
}

#[test]
fn a_snapshot_that_somebody_has_put_there_is_told_and_left() {
    let config = config(1);
    let mut other = config.clone();
    other.cluster_id = "BBBBBBBBBBBBBBBBBBBBBB".to_string();
    let home = tempfile::tempdir().unwrap();
    let directory = Directory::open(home.path(), &owner()).unwrap();
    put_snapshot(&directory, &other, 5, 1);
    let before = names(&directory);
    let failure = recover(&directory, &config).err().expect("it is another cluster's");
    assert_eq!(failure.exit_code, EXIT_CONFIG);
    for part in ["00000000000000000005-0000000001.checkpoint is not a snapshot for this node", "BBBBBBBBBBBB"]
    {
        assert!(failure.line.contains(part), "{}", failure.line);
    }
    assert_eq!(names(&directory), before);
}
