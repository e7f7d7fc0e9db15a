use super::*;
use std::sync::atomic::{AtomicU64, Ordering};

struct Rig {
    directory: tempfile::TempDir,
    threads: FileThreads,
    next_id: AtomicU64,
}

fn rig_with(mode: impl Fn(&Path) -> DurableWrite) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let files = LogFiles { directory: directory.path().to_path_buf(), mode: mode(directory.path()) };
    let threads = FileThreads::start(files, Doorbell::new().unwrap()).unwrap();
    Rig { directory, threads, next_id: AtomicU64::new(0) }
}

/// Each test runs with the mode that the file system gives and with the buffered fallback.
fn rigs() -> [Rig; 2] {
    [
        rig_with(|path| durable::probe(path).unwrap().mode),
        rig_with(|path| DurableWrite::Buffered(path.to_path_buf())),
    ]
}

impl Rig {
    fn run(&self, operation: FileOperation) -> Result<(), DiskError> {
        let id = OpId(self.next_id.fetch_add(1, Ordering::Relaxed));
        self.threads.submit(id, operation)?;
        loop {
            match self.threads.events.recv().unwrap() {
                FileEvent::Done { id: done, result } => {
                    assert_eq!(done, id);
                    return result;
                }
                FileEvent::DiskFree(bytes) => assert!(bytes > 0),
                FileEvent::HostMemory(memory) => assert!(memory.total_bytes > 0),
            }
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn contents(&self, segment: SegmentId) -> Vec<u8> {
        std::fs::read(self.path(&segment_file_name(segment))).unwrap()
    }
}

const SEGMENT: SegmentId = SegmentId(Offset(77));

#[test]
fn a_segment_is_created_zeroed_extended_and_cut() {
    for rig in rigs() {
        rig.run(FileOperation::Create { segment: SEGMENT, zeroed: 3 << 20 }).unwrap();
        assert_eq!(rig.contents(SEGMENT), vec![0; 3 << 20]);
        assert!(rig.path("00000000000000000077.log").exists());
        rig.run(FileOperation::Extend { segment: SEGMENT, from: 3 << 20, to: 4 << 20, written: true })
            .unwrap();
        assert_eq!(rig.contents(SEGMENT), vec![0; 4 << 20]);
        rig.run(FileOperation::Flush { segment: SEGMENT }).unwrap();
        rig.run(FileOperation::Cut { segment: SEGMENT, length: 5_001 }).unwrap();
        assert_eq!(rig.contents(SEGMENT).len(), 5_001);
        // What grows again after a cut at any byte is zeros too.
        rig.run(FileOperation::Extend { segment: SEGMENT, from: 5_001, to: 1 << 20, written: true }).unwrap();
        assert_eq!(rig.contents(SEGMENT), vec![0; 1 << 20]);
        rig.run(FileOperation::Delete { segment: SEGMENT }).unwrap();
        assert!(!rig.path("00000000000000000077.log").exists());
        rig.run(FileOperation::Delete { segment: SEGMENT }).unwrap();
    }
}

#[test]
fn zeroing_any_range_leaves_its_neighbours_alone() {
    for rig in rigs() {
        for (size, from, to) in [
            (40_960, 10, 20),
            (40_960, 10, 4_096),
            (40_960, 4_096, 8_192),
            (40_960, 4_095, 8_193),
            (40_960, 5_000, 30_001),
            (40_960, 0, 40_960),
            (40_001, 30_000, 40_001),
            (40_001, 40_000, 40_001),
            (3 << 20, 1, (3 << 20) - 1),
            (40_960, 700, 700),
        ] {
            let mut expected: Vec<u8> = (0..size).map(|i| (i % 251) as u8 + 1).collect();
            std::fs::write(rig.path(&segment_file_name(SEGMENT)), &expected).unwrap();
            rig.run(FileOperation::Zero { segment: SEGMENT, from, to }).unwrap();
            expected[from as usize..to as usize].fill(0);
            assert!(rig.contents(SEGMENT) == expected, "zero {from}..{to} of {size}");
        }
    }
}

#[test]
fn a_leftover_of_a_crash_is_overwritten_by_create() {
    for rig in rigs() {
        std::fs::write(rig.path(&segment_file_name(SEGMENT)), vec![7; 100_000]).unwrap();
        rig.run(FileOperation::Create { segment: SEGMENT, zeroed: 8_192 }).unwrap();
        assert_eq!(rig.contents(SEGMENT), vec![0; 8_192]);
    }
}

#[test]
fn small_files_are_replaced_whole() {
    for rig in rigs() {
        for contents in ["first", "a longer second", ""] {
            let file = SmallFile::QuorumState;
            rig.run(FileOperation::Replace { file, contents: contents.into() }).unwrap();
            assert_eq!(std::fs::read_to_string(rig.path("quorum-state")).unwrap(), contents);
        }
        let file = SmallFile::LeaderEpochCheckpoint;
        rig.run(FileOperation::Replace { file, contents: b"0".to_vec() }).unwrap();
        assert!(!rig.path("leader-epoch-checkpoint.tmp").exists());
    }
}

/// On a full disk two blocks are written in turn, and none is asked for.
#[test]
fn a_vote_is_written_where_one_of_two_times_before_was() {
    use std::os::unix::fs::MetadataExt;
    let inode = |path: &Path| std::fs::metadata(path).unwrap().ino();
    for rig in rigs() {
        let write = |contents: &str| {
            let contents = contents.as_bytes().to_vec();
            rig.run(FileOperation::Replace { file: SmallFile::QuorumState, contents }).unwrap()
        };
        let (path, spare) = (rig.path("quorum-state"), rig.path("quorum-state.tmp"));
        write("first");
        let inodes = [inode(&path), inode(&spare)];
        for (n, contents) in ["second", "the third one", "4th", "fifth"].into_iter().enumerate() {
            write(contents);
            assert_eq!(std::fs::read_to_string(&path).unwrap(), contents);
            assert_eq!([inode(&path), inode(&spare)], [inodes[(n + 1) % 2], inodes[n % 2]]);
        }
        // Somebody's link is not followed.
        let victim = rig.path("victim");
        std::fs::write(&victim, "untouched").unwrap();
        std::fs::remove_file(&spare).unwrap();
        std::os::unix::fs::symlink(&victim, &spare).unwrap();
        write("sixth");
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "sixth");
    }
}

#[test]
fn a_summary_goes_with_its_segment_and_before_another_of_its_name() {
    let file = SmallFile::Summary(SEGMENT);
    for rig in rigs() {
        let is_there = || rig.path("00000000000000000077.summary").exists();
        let write = || {
            rig.run(FileOperation::Replace { file, contents: b"what a scan would find".to_vec() }).unwrap()
        };
        let create = || rig.run(FileOperation::Create { segment: SEGMENT, zeroed: 4_096 }).unwrap();
        create();
        write();
        assert!(is_there());
        rig.run(FileOperation::Remove { file }).unwrap();
        assert!(!is_there());
        rig.run(FileOperation::Remove { file }).unwrap();
        write();
        rig.run(FileOperation::Delete { segment: SEGMENT }).unwrap();
        assert!(!is_there());
        // Another program has removed the segment alone.
        write();
        create();
        assert!(!is_there());
    }
}

#[test]
fn failures_name_the_operation_and_the_system_error() {
    for rig in rigs() {
        let error = rig.run(FileOperation::Cut { segment: SEGMENT, length: 0 }).unwrap_err();
        assert_eq!(error.errno, libc::ENOENT);
        assert_eq!(error.operation, "cut 00000000000000000077.log to 0 bytes");
    }
}

#[test]
fn a_segment_that_does_not_fit_is_refused_and_removed() {
    for rig in rigs() {
        // Larger than any file may be on ext4 and xfs with 4 KiB blocks, or than the disk.
        let error = rig.run(FileOperation::Create { segment: SEGMENT, zeroed: 1 << 60 }).unwrap_err();
        assert!([libc::ENOSPC, libc::EFBIG].contains(&error.errno), "{error}");
        assert!(!rig.path(&segment_file_name(SEGMENT)).exists());
    }
}

#[test]
fn the_commit_mark_is_made_once() {
    for rig in rigs() {
        let files = rig.threads.files();
        files.create_commit_mark().unwrap();
        assert_eq!(std::fs::read(rig.path(COMMIT_MARK_FILE)).unwrap(), vec![0; 8_192]);
        std::fs::write(rig.path(COMMIT_MARK_FILE), vec![9; 8_192]).unwrap();
        files.create_commit_mark().unwrap();
        assert_eq!(std::fs::read(rig.path(COMMIT_MARK_FILE)).unwrap(), vec![9; 8_192]);
    }
}

#[test]
fn only_twenty_digits_and_log_name_a_segment() {
    assert_eq!(parse_segment_file_name("00000000000000000077.log"), Some(SEGMENT));
    for other in
        ["77.log", "00000000000000000077.index", "0000000000000000007x.log", "-0000000000000000077.log"]
    {
        assert_eq!(parse_segment_file_name(other), None, "{other}");
    }
}

#[test]
fn who_ends_the_threads_waits_for_what_they_are_at_and_no_more() {
    let mut rig = rig_with(|path| DurableWrite::Buffered(path.to_path_buf()));
    let is_over = rig.threads.is_over.clone();
    let workers = rig.threads.take_workers(WaitAtEnd::Yes);
    let [second, third] = [SegmentId(Offset(78)), SegmentId(Offset(79))];
    rig.threads.submit(OpId(1), FileOperation::Create { segment: SEGMENT, zeroed: 64 << 20 }).unwrap();
    while !rig.path(&segment_file_name(SEGMENT)).exists() {
        std::thread::yield_now();
    }
    for (id, segment) in [(2, second), (3, third)] {
        rig.threads.submit(OpId(id), FileOperation::Create { segment, zeroed: 4096 }).unwrap();
    }
    drop(workers);
    assert_eq!(rig.contents(SEGMENT).len(), 64 << 20, "what was begun is whole");
    assert!(!rig.path(&segment_file_name(second)).exists() && !rig.path(&segment_file_name(third)).exists());
    // One is the test's, one that of `threads`.
    assert_eq!(Arc::strong_count(&is_over), 2, "both threads have ended");
    rig.threads.submit(OpId(4), FileOperation::Remove { file: SmallFile::QuorumState }).unwrap_err();
}
