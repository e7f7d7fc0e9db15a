use super::*;
use crate::config::Voter;
use crate::io::directory::tests::owner;
use crate::types::{Endpoint, NodeId};

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

#[test]
fn a_log_whose_start_moved_is_refused_where_nothing_holds_what_was_folded() {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9092 };
    let config = Config::for_tests(NodeId(1), vec![Voter { id: NodeId(1), endpoint }]);
    for (start, is_refused) in [(0, false), (80, true)] {
        let home = tempfile::tempdir().unwrap();
        let directory = Directory::open(home.path(), &owner()).unwrap();
        std::fs::write(directory.partition.join("commit-mark"), moved_mark(start)).unwrap();
        match recover(&directory, &config).err() {
            None => assert!(!is_refused, "it starts at {start}"),
            Some(Failure { exit_code, line }) => {
                assert!(is_refused && exit_code == EXIT_CORRUPT, "{start}: {exit_code} {line}");
                for part in ["the log starts at 80, and no snapshot holds", "restore the .checkpoint"] {
                    assert!(line.contains(part), "{line}");
                }
            }
        }
    }
}
