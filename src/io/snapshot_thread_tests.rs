use super::*;
use crate::log::snapshot_file_name;
use crate::types::{Epoch, Offset};

struct Rig {
    directory: tempfile::TempDir,
    thread: SnapshotThread,
    worker: Option<SnapshotWorker>,
}

fn rig() -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let started = SnapshotThread::start(directory.path(), Doorbell::new().unwrap(), WaitAtEnd::Yes);
    let (thread, worker) = started.unwrap();
    Rig { directory, thread, worker: Some(worker) }
}

fn id(offset: i64) -> OffsetAndEpoch {
    OffsetAndEpoch { epoch: Epoch(3), offset: Offset(offset) }
}

fn contents(pieces: usize, bytes: usize) -> SnapshotContents {
    SnapshotContents(Box::new((0..pieces).map(move |piece| Bytes::from(vec![piece as u8; bytes]))))
}

impl Rig {
    fn run(&self, kind: SnapshotWork) -> Result<SnapshotDone, DiskError> {
        self.thread.submit(SnapshotOp { token: 9, kind });
        let SnapshotCompletion { token, result } = self.thread.done.recv().unwrap();
        assert_eq!(token, 9);
        result
    }

    fn write(&self, offset: i64, pieces: usize, bytes: usize) -> Result<SnapshotDone, DiskError> {
        let contents = contents(pieces, bytes);
        self.run(SnapshotWork::Write { id: id(offset), contents, bytes_max: 10 << 20 })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn names(&self) -> Vec<String> {
        let mut names = names_in(self.directory.path()).unwrap();
        names.sort();
        names
    }
}

const FIRST: &str = "00000000000000000040-0000000003.checkpoint";

#[test]
fn a_snapshot_is_written_into_the_room_that_is_kept_and_has_its_name_when_it_is_whole() {
    let rig = rig();
    assert!(matches!(rig.run(SnapshotWork::Tidy), Ok(SnapshotDone::Complete)));
    assert_eq!(std::fs::metadata(rig.path(ROOM_FILE)).unwrap().len(), ROOM_BYTES_MIN);
    // Of what a predecessor that died has left there nothing is seen.
    std::fs::write(rig.path(ROOM_FILE), vec![9; 5 << 20]).unwrap();
    let written = rig.write(40, 5, 700_000);
    assert!(matches!(written, Ok(SnapshotDone::Written(3_500_000))), "{written:?}");
    let expected: Vec<u8> = (0..5).flat_map(|piece| vec![piece; 700_000]).collect();
    assert_eq!(std::fs::read(rig.path(FIRST)).unwrap(), expected);
    assert_eq!(rig.names(), [FIRST, ROOM_FILE]);
    assert_eq!(std::fs::metadata(rig.path(ROOM_FILE)).unwrap().len(), 7_000_000, "twice what it had");
    for (position, length, found) in
        [(0, 10, 10), (699_999, 2, 2), (3_499_995, 10, 5), (3_500_000, 10, 0), (9 << 20, 10, 0)]
    {
        let read = rig.run(SnapshotWork::Read { id: id(40), position, length });
        let Ok(SnapshotDone::Read(bytes)) = read else { panic!("{read:?}") };
        let start = (position as usize).min(expected.len());
        assert_eq!(bytes, expected[start..start + found], "{length} from {position}");
    }
    assert!(matches!(rig.run(SnapshotWork::Remove { id: id(40) }), Ok(SnapshotDone::Complete)));
    assert!(
        matches!(rig.run(SnapshotWork::Remove { id: id(40) }), Ok(SnapshotDone::Complete)),
        "there is none"
    );
    assert_eq!(rig.names(), [ROOM_FILE]);
    assert!(rig.run(SnapshotWork::Read { id: id(40), position: 0, length: 1 }).is_err());
}

#[test]
fn one_that_is_too_large_is_none() {
    let rig = rig();
    let too_large = SnapshotWork::Write { id: id(40), contents: contents(3, 1000), bytes_max: 2999 };
    let error = rig.run(too_large).unwrap_err();
    assert!(error.to_string().contains("more than 2999 bytes (kraft.snapshot.bytes.max)"), "{error}");
    assert_eq!(rig.names(), [""; 0]);
    let fits = SnapshotWork::Write { id: id(40), contents: contents(3, 1000), bytes_max: 3000 };
    assert!(matches!(rig.run(fits), Ok(SnapshotDone::Written(3000))));
}

#[test]
fn nothing_is_written_through_a_link() {
    let rig = rig();
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    std::fs::write(&victim, b"precious").unwrap();
    std::os::unix::fs::symlink(&victim, rig.path(ROOM_FILE)).unwrap();
    assert!(rig.write(40, 1, 10).is_ok());
    assert_eq!(std::fs::read(&victim).unwrap(), b"precious");
    std::fs::remove_file(rig.path(FIRST)).unwrap();
    std::os::unix::fs::symlink(&victim, rig.path(FIRST)).unwrap();
    assert!(rig.run(SnapshotWork::Read { id: id(40), position: 0, length: 1 }).is_err());
}

#[test]
fn what_was_left_goes_and_what_is_of_no_known_name_stays() {
    let rig = rig();
    let stays =
        [FIRST, "00000000000000000050-0000000003.bad.checkpoint", "another.checkpoint", "x.bad.checkpoint"];
    let goes = [
        "00000000000000000060-0000000003.checkpoint.part",
        "00000000000000000020-0000000001.checkpoint.deleted",
        "00000000000000000030-0000000003.bad.checkpoint",
    ];
    stays.iter().chain(&goes).for_each(|name| std::fs::write(rig.path(name), b"x").unwrap());
    assert!(rig.run(SnapshotWork::Tidy).is_ok());
    let mut left = [&stays[..], &[ROOM_FILE]].concat();
    left.sort_unstable();
    assert_eq!(rig.names(), left);
}

#[test]
fn a_start_finds_them_by_their_names_and_sets_one_aside() {
    let rig = rig();
    assert!(rig.write(40, 1, 10).is_ok() && rig.write(1 << 40, 1, 20).is_ok());
    std::fs::write(rig.path("another.checkpoint"), b"x").unwrap();
    let found = || {
        let mut found = list(rig.directory.path()).unwrap();
        found.sort();
        found
    };
    assert_eq!(found(), [(id(40), 10), (id(1 << 40), 20)]);
    set_aside(rig.directory.path(), id(40)).unwrap();
    assert_eq!(found(), [(id(1 << 40), 20)]);
    assert!(rig.path("00000000000000000040-0000000003.bad.checkpoint").exists());
    assert!(set_aside(rig.directory.path(), id(40)).is_err(), "it has gone");
    assert_eq!(snapshot_file_name(id(40)), FIRST);
}

/// Its pieces come for ever.
#[test]
fn an_end_waits_for_no_snapshot() {
    let mut rig = rig();
    let endless = SnapshotContents(Box::new(std::iter::repeat_with(|| Bytes::from_static(b"more"))));
    let kind = SnapshotWork::Write { id: id(40), contents: endless, bytes_max: u64::MAX };
    rig.thread.submit(SnapshotOp { token: 1, kind });
    while !rig.path(ROOM_FILE).exists() {
        std::thread::yield_now();
    }
    drop(rig.worker.take());
    assert_eq!(rig.names(), [""; 0], "the thread has gone, and left no snapshot");
    rig.thread.submit(SnapshotOp { token: 2, kind: SnapshotWork::Tidy });
    let ends: Vec<bool> = std::iter::from_fn(|| rig.thread.poll()).map(|done| done.result.is_err()).collect();
    assert_eq!(ends, [true, true]);
}
