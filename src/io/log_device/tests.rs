use super::*;
use crate::io::doorbell::Doorbell;
use crate::io::durable::{self, DurableWrite};
use crate::io::file_thread::LogFiles;
use crate::log::{BufferPool, MemoryWork, SegmentId};
use crate::memory::Pieces;
use crate::types::Offset;
use bytes::Bytes;
use std::time::Instant;

const SEGMENT: SegmentId = SegmentId(Offset(0));
const FILE: FileId = FileId::Segment(SEGMENT);
const BUFFER_BYTES: usize = 64 << 10;

struct Rig {
    directory: tempfile::TempDir,
    device: LogDevice,
    pool: BufferPool,
    pieces: Pieces,
    next_id: u64,
}

fn rig_with(registered: bool, mode: impl Fn(&std::path::Path) -> DurableWrite) -> Rig {
    let directory = tempfile::tempdir().unwrap();
    let files = LogFiles { directory: directory.path().to_path_buf(), mode: mode(directory.path()) };
    files.create_commit_mark().unwrap();
    let bell = Doorbell::new().unwrap();
    let ring = CoreRing::new(bell.clone()).unwrap();
    let threads = FileThreads::start(files, bell).unwrap();
    let pool = BufferPool::new(8, BUFFER_BYTES);
    let regions = if registered { pool.regions() } else { Vec::new() };
    let device = LogDevice::new(threads, ring, &regions);
    assert_eq!(device.buffers_registered, registered);
    let mut rig = Rig { directory, device, pool, pieces: Pieces::new(BUFFER_BYTES), next_id: 0 };
    rig.run(OpKind::CreateSegment { segment: SEGMENT, zeroed: 1 << 20 }).result.unwrap();
    rig
}

/// What the file system gives with and without registered buffers, and the buffered fallback.
fn rigs() -> [Rig; 3] {
    let probed = |path: &std::path::Path| durable::probe(path).unwrap().mode;
    [
        rig_with(true, probed),
        rig_with(false, probed),
        rig_with(true, |path| DurableWrite::Buffered(path.to_path_buf())),
    ]
}

impl Rig {
    fn push(&mut self, kind: OpKind) -> OpId {
        let id = OpId(self.next_id);
        self.next_id += 1;
        self.device.push(DiskOp { id, kind });
        id
    }

    fn next(&mut self) -> Completion {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            self.device.submit();
            match self.device.poll() {
                Some(DeviceEvent::Completion(completion)) => return completion,
                Some(DeviceEvent::DiskFree(bytes)) => assert!(bytes > 0),
                Some(DeviceEvent::HostMemory(memory)) => assert!(memory.total_bytes > 0),
                None => self.device.ring.wait(Duration::from_secs(1)).unwrap(),
            }
            assert!(Instant::now() < deadline, "no completion within 20 s");
        }
    }

    fn run(&mut self, kind: OpKind) -> Completion {
        let id = self.push(kind);
        let completion = self.next();
        assert_eq!(completion.id, id);
        completion
    }

    fn filled(&mut self, byte: u8, length: usize) -> WriteBuffer {
        let mut buffer = self.pool.take().unwrap();
        buffer.as_mut_slice()[..length].fill(byte);
        buffer
    }

    fn write(&mut self, file: FileId, position: u64, byte: u8, length: usize, durable: bool) -> Completion {
        let buffer = self.filled(byte, length);
        self.run(OpKind::Write { file, position, buffer, length, durable })
    }

    fn read_op(&mut self, position: u64, length: usize) -> OpKind {
        let piece = self.pieces.take(read_span(position, length).0);
        OpKind::Read { segment: SEGMENT, position, length, piece }
    }

    fn read(&mut self, position: u64, length: usize) -> Bytes {
        let op = self.read_op(position, length);
        match self.run(op).result.unwrap() {
            Done::Read(filled) => filled.into_bytes(),
            other => panic!("a read came back with {other:?}"),
        }
    }
}

#[test]
fn written_bytes_are_read_back_at_any_position() {
    for mut rig in rigs() {
        let written = rig.write(FILE, 4_096, 7, 8_192, true);
        assert!(matches!(written.result, Ok(Done::Complete)));
        assert_eq!(written.buffer.unwrap().as_slice()[0], 7);
        assert_eq!(rig.device.writes_in_flight(), 0);
        assert_eq!(rig.device.flushes().len(), 1, "its time was taken");
        assert!(rig.device.flushes().sum_seconds() > 0.0);
        assert_eq!(rig.read(4_096, 8_192), vec![7; 8_192]);
        assert_eq!(rig.read(5_000, 61), vec![7; 61]);
        assert_eq!(rig.read(4_095, 2), vec![0, 7]);
        assert_eq!(rig.read(12_287, 2), vec![7, 0]);
        assert_eq!(rig.read(4_000, 9_000)[96..8_288], vec![7; 8_192]);
        assert_eq!(rig.read(100, 0), "");
        let stored = std::fs::read(rig.directory.path().join("00000000000000000000.log")).unwrap();
        assert_eq!((stored.len(), stored[4_095], stored[4_096]), (1 << 20, 0, 7));
    }
}

#[test]
fn reads_end_with_the_file() {
    for mut rig in rigs() {
        rig.write(FILE, 0, 3, 4_096, true).result.unwrap();
        rig.run(OpKind::CutSegment { segment: SEGMENT, length: 3_001 }).result.unwrap();
        assert_eq!(rig.read(0, 100_000), vec![3; 3_001]);
        assert_eq!(rig.read(3_000, 100), vec![3]);
        assert_eq!(rig.read(3_001, 100), "");
        assert_eq!(rig.read(50_000, 100), "");
        rig.run(OpKind::ExtendSegment { segment: SEGMENT, from: 3_001, to: 65_536, written: true })
            .result
            .unwrap();
        assert_eq!(rig.read(2_999, 100)[..4], [3, 3, 0, 0]);
        rig.run(OpKind::ZeroSegment { segment: SEGMENT, from: 1_000, to: 2_000 }).result.unwrap();
        assert_eq!(rig.read(999, 1_002)[..], [vec![3], vec![0; 1_000], vec![3]].concat());
    }
}

#[test]
fn many_writes_in_flight_all_complete_with_their_own_buffers() {
    for mut rig in rigs() {
        let mut ids = std::collections::BTreeMap::new();
        for i in 0..8u8 {
            let buffer = rig.filled(i + 1, BUFFER_BYTES);
            let index = buffer.index;
            let position = i as u64 * BUFFER_BYTES as u64;
            let id = rig.push(OpKind::Write {
                file: FILE,
                position,
                buffer,
                length: BUFFER_BYTES,
                durable: i % 2 == 0,
            });
            ids.insert(id, index);
        }
        assert_eq!(rig.device.writes_in_flight(), 8);
        for _ in 0..8 {
            let completion = rig.next();
            assert_eq!(ids.remove(&completion.id), completion.buffer.map(|b| b.index));
        }
        for i in 0..8u8 {
            assert_eq!(rig.read(i as u64 * BUFFER_BYTES as u64, 10), vec![i + 1; 10]);
        }
    }
}

#[test]
fn more_reads_than_the_ring_has_entries_all_complete() {
    for mut rig in rigs() {
        rig.write(FILE, 0, 9, 4_096, true).result.unwrap();
        for _ in 0..TRANSFERS_MAX * 2 {
            let op = rig.read_op(10, 20);
            rig.push(op);
        }
        for _ in 0..TRANSFERS_MAX * 2 {
            let Ok(Done::Read(filled)) = rig.next().result else { panic!("it is read") };
            assert_eq!(filled.into_bytes(), vec![9; 20]);
        }
    }
}

/// So often the ring is given a part of a read of 1 MiB.
fn steps(rig: &mut Rig) -> usize {
    let op = rig.read_op(0, 1 << 20);
    rig.push(op);
    let (deadline, mut steps) = (Instant::now() + Duration::from_secs(20), 0);
    while Instant::now() < deadline {
        steps += usize::from(rig.device.submit());
        match rig.device.poll() {
            Some(DeviceEvent::Completion(completion)) => {
                let Ok(Done::Read(filled)) = completion.result else { panic!("it is read") };
                let bytes = filled.into_bytes();
                assert!(bytes[..4_096] == [9; 4_096] && bytes[4_096..] == vec![0; (1 << 20) - 4_096]);
                return steps;
            }
            Some(DeviceEvent::DiskFree(_) | DeviceEvent::HostMemory(_)) => {}
            None => rig.device.ring.wait(Duration::from_secs(1)).unwrap(),
        }
    }
    panic!("no completion within 20 s");
}

#[test]
fn while_the_log_is_written_it_is_read_in_steps() {
    for mut rig in rigs() {
        rig.write(FILE, 0, 9, 4_096, true).result.unwrap();
        // However long the machine has kept us waiting.
        rig.device.written_ns = Some(u64::MAX);
        assert_eq!(steps(&mut rig), (1 << 20) / READ_STEP_BYTES);
        rig.device.written_ns = None;
        assert_eq!(steps(&mut rig), 1);
        rig.device.writes_in_flight = 1;
        assert_eq!(steps(&mut rig), (1 << 20) / READ_STEP_BYTES);
        rig.device.writes_in_flight = 0;
    }
}

#[test]
fn the_commit_mark_is_written_beside_the_segments() {
    for mut rig in rigs() {
        rig.write(FileId::CommitMark, 4_096, 5, 4_096, false).result.unwrap();
        let stored = std::fs::read(rig.directory.path().join("commit-mark")).unwrap();
        assert_eq!(stored, [vec![0; 4_096], vec![5; 4_096]].concat());
    }
}

#[test]
fn a_missing_segment_gives_the_buffer_back_with_the_error() {
    for mut rig in rigs() {
        let absent = FileId::Segment(SegmentId(Offset(9)));
        let failed = rig.write(absent, 0, 1, 4_096, true);
        assert_eq!(failed.result.unwrap_err().errno, libc::ENOENT);
        assert!(failed.buffer.is_some());
        // A deleted one is missing too, although it was open.
        rig.write(FILE, 0, 1, 4_096, true).result.unwrap();
        rig.run(OpKind::DeleteSegment { segment: SEGMENT }).result.unwrap();
        assert!(rig.write(FILE, 0, 1, 4_096, true).result.is_err());
    }
}

/// The limit of a process counts for all of its threads, so a child carries it.
#[test]
fn a_write_over_the_file_size_limit_fails_with_advice() {
    const CHILD: &str = "KRAFT_TEST_FILE_SIZE_LIMIT";
    if std::env::var_os(CHILD).is_some() {
        for mut rig in rigs() {
            let limit = libc::rlimit { rlim_cur: 8_192, rlim_max: libc::RLIM_INFINITY };
            let free = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
            // SAFETY: valid structs; SIGXFSZ is ignored so that the write fails instead.
            unsafe {
                libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
                assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &limit), 0);
            }
            // Half of it fits: the device must not take the short write for a whole one.
            let failed = rig.write(FILE, 4_096, 1, 8_192, true).result;
            // SAFETY: as above.
            unsafe { assert_eq!(libc::setrlimit(libc::RLIMIT_FSIZE, &free), 0) };
            let error = failed.unwrap_err();
            assert_eq!(error.errno, libc::EFBIG, "{error}");
            assert!(error.to_string().contains("ulimit -f"), "{error}");
        }
        return;
    }
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "io::log_device::tests::a_write_over_the_file_size_limit_fails_with_advice"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stdout));
}

fn flight(length: usize) -> Flight {
    let file = Rc::new(File::open("/dev/null").unwrap());
    let buffer = BufferPool::new(1, BUFFER_BYTES).take().unwrap();
    let transfer = Transfer::Write { buffer, durable: true };
    Flight {
        id: OpId(0),
        file_id: FILE,
        file,
        position: 0,
        length,
        done: 0,
        resubmits: 0,
        sent_ns: 0,
        transfer,
    }
}

#[test]
fn short_writes_go_on_at_a_block_or_fail() {
    let mut flight = flight(16_384);
    assert!(matches!(flight.on_result(8_192), Outcome::Continue));
    assert_eq!(flight.done, 8_192);
    // The half block is written again, whole.
    assert!(matches!(flight.on_result(4_096 + 512), Outcome::Continue));
    assert_eq!(flight.done, 12_288);
    assert!(matches!(flight.on_result(512), Outcome::Finished(Err(_))));
    assert!(matches!(flight.on_result(0), Outcome::Finished(Err(_))));
    assert!(matches!(flight.on_result(4_096), Outcome::Finished(Ok(16_384))));
}

#[test]
fn interrupted_operations_go_again_but_not_for_ever() {
    let mut flight = flight(4_096);
    for _ in 0..RESUBMITS_MAX {
        assert!(matches!(flight.on_result(-libc::EAGAIN), Outcome::Continue));
    }
    assert!(matches!(flight.on_result(-libc::EAGAIN), Outcome::Finished(Err(_))));
    match flight.on_result(-libc::EIO) {
        Outcome::Finished(Err(error)) => {
            assert_eq!(error.operation, "write 4096 bytes at 0 of 00000000000000000000.log");
            assert_eq!(error.errno, libc::EIO);
        }
        _ => panic!("an I/O error must end the write"),
    }
}

#[test]
fn what_is_under_way_is_settled_before_its_memory_goes() {
    for mut rig in rigs() {
        for at in 0..3 {
            let buffer = rig.filled(at as u8 + 1, BUFFER_BYTES);
            let position = at * BUFFER_BYTES as u64;
            rig.push(OpKind::Write { file: FILE, position, buffer, length: BUFFER_BYTES, durable: true });
            if at < 2 {
                rig.device.submit();
            }
        }
        assert!(rig.device.settle());
        let Rig { directory, device, pool, .. } = rig;
        let path = device.threads.files().path(FILE);
        let ring = device.ring.clone();
        drop(device);
        assert!(Rc::into_inner(ring).is_some(), "nobody else has it");
        let written = std::fs::read(path).unwrap();
        for (part, byte) in written.chunks(BUFFER_BYTES).zip([1, 2, 0]) {
            assert!(part.iter().all(|found| *found == byte), "the ring has got two of three");
        }
        assert_eq!(pool.memory_users(), 5 + 1, "all but those that are free have been given back");
        pool.free();
        drop(directory);
    }
}

/// Pages that the kernel has had to find for this thread.
fn faults() -> i64 {
    // SAFETY: a struct of numbers, which the kernel fills.
    unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(libc::RUSAGE_THREAD, &mut usage), 0);
        usage.ru_minflt + usage.ru_majflt
    }
}

/// In pages of 4 KiB, so that each of them would count: a kernel may have no huge ones to give.
#[test]
fn the_thread_that_reads_into_new_memory_is_not_the_one_who_waits_for_it() {
    const READ_BYTES: usize = 1 << 20;
    for mut rig in rigs() {
        rig.pieces = Pieces::new(READ_BYTES + BLOCK_BYTES);
        drop(rig.read(0, READ_BYTES));
        rig.pieces = Pieces::new(READ_BYTES + BLOCK_BYTES);
        let before = faults();
        let read = rig.read(0, READ_BYTES);
        let during = faults() - before;
        assert!(during < 32, "{during} of {} pages", READ_BYTES / 4096);
        drop(read);
        // And what was read into is not new any more: the ring takes it as it is.
        let piece = rig.pieces.take(READ_BYTES);
        assert!(piece.is_touched(READ_BYTES));
    }
}

#[test]
fn work_on_memory_is_done_by_a_thread_of_its_own_and_nobody_is_woken_for_it() {
    const PIECE_BYTES: usize = 1 << 20;
    let [mut rig, ..] = rigs();
    rig.pieces = Pieces::new(PIECE_BYTES + BLOCK_BYTES);
    let piece = rig.pieces.take_new(PIECE_BYTES);
    let before = faults();
    let id = rig.push(OpKind::Memory(MemoryWork::Touch { piece }));
    let deadline = Instant::now() + Duration::from_secs(20);
    let done = loop {
        match rig.device.poll() {
            Some(DeviceEvent::Completion(completion)) => break completion,
            Some(_) => {}
            None => std::thread::sleep(Duration::from_millis(1)),
        }
        assert!(Instant::now() < deadline, "no completion within 20 s");
    };
    assert!(done.id == id && matches!(done.result, Ok(Done::Complete)), "{done:?}");
    let during = faults() - before;
    assert!(during < 32, "{during} of {} pages", PIECE_BYTES / 4096);
    let mut piece = rig.pieces.take(PIECE_BYTES);
    assert!(piece.is_touched(PIECE_BYTES));
    let before = faults();
    piece.as_mut().fill(7);
    assert!(faults() - before < 8, "they are there");
}
