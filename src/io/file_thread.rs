//! Slow file operations, off the cores: creating, zeroing, cutting and deleting segments, replacing small files.
//!
//! The log device hands them over and gets their completions back through a queue and its doorbell. Each thread works
//! in the order of arrival. Small files have a thread of their own, so that a vote never waits behind the zeroing of
//! a segment. Nothing here retries: a failure is reported once, with the system's words.

use std::borrow::Cow;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::disk_error::{disk_error_in, without_errno};
use super::doorbell::Doorbell;
use super::durable::{self, DurableWrite};
use super::file_system::free_bytes;
use super::host_memory::host_memory;
use super::memory_thread::{Ender, MemoryThread};
use crate::log::{BLOCK_BYTES, DiskError, Done, FileId, MemoryWork, OpId, SegmentId, SmallFile};
use crate::memory::ZeroedBlocks;
use crate::types::{HostMemory, Offset};

/// Operations waiting for one thread. The log has a handful under way at most.
const FILE_OPERATIONS_MAX: usize = 64;
/// Zeros are written in pieces of this size.
const ZERO_WRITE_BYTES: usize = 1 << 20;
const DISK_FREE_INTERVAL: Duration = Duration::from_secs(1);
const BLOCK: u64 = BLOCK_BYTES as u64;
pub(super) const COMMIT_MARK_FILE: &str = "commit-mark";
/// Two slots, each in a block of its own: writing one cannot tear the other.
const COMMIT_MARK_BYTES: u64 = 2 * BLOCK;

/// Names of the log's files, and how they are opened.
#[derive(Clone, Debug)]
pub(crate) struct LogFiles {
    /// `<log dir>/<topic>-0`
    pub(crate) directory: PathBuf,
    pub(crate) mode: DurableWrite,
}

pub(super) fn segment_file_name(segment: SegmentId) -> String {
    format!("{:020}.log", segment.0.0)
}

/// The segment that a file name stands for; `None` for any other file.
pub(super) fn parse_segment_file_name(name: &str) -> Option<SegmentId> {
    let digits = name.strip_suffix(".log")?;
    if digits.len() != 20 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(|offset| SegmentId(Offset(offset)))
}

/// Kafka leaves files alone whose names it does not know, such as a summary's (`LogLoader.loadSegmentFiles`).
pub(super) fn small_file_name(file: SmallFile) -> Cow<'static, str> {
    match file {
        SmallFile::QuorumState => "quorum-state".into(),
        SmallFile::LeaderEpochCheckpoint => "leader-epoch-checkpoint".into(),
        SmallFile::Summary(segment) => format!("{:020}.summary", segment.0.0).into(),
    }
}

impl LogFiles {
    pub(crate) fn segment(&self, segment: SegmentId) -> PathBuf {
        self.directory.join(segment_file_name(segment))
    }

    pub(crate) fn path(&self, file: FileId) -> PathBuf {
        match file {
            FileId::Segment(segment) => self.segment(segment),
            FileId::CommitMark => self.directory.join(COMMIT_MARK_FILE),
        }
    }

    /// Make the commit mark's file, zeroed and durable, where there is none: the ring writes only inside files.
    pub(crate) fn create_commit_mark(&self) -> Result<(), DiskError> {
        let path = self.path(FileId::CommitMark);
        let create = || -> io::Result<()> {
            if std::fs::metadata(&path).is_ok_and(|m| m.len() >= COMMIT_MARK_BYTES) {
                return Ok(());
            }
            let file = self.mode.open(&path, true)?;
            let zeros = ZeroedBlocks::new(COMMIT_MARK_BYTES as usize);
            durable::write_plain(&file, zeros.as_slice(), 0)?;
            file.sync_all()?;
            durable::sync_directory(&self.directory)
        };
        create().map_err(|e| disk_error_in(&self.directory, format!("create {}", path.display()), &e))
    }
}

/// An operation of the log that needs a file thread. It can cross threads, because it lends no write buffer.
#[derive(Debug)]
pub(crate) enum FileOperation {
    Create { segment: SegmentId, zeroed: u64 },
    Extend { segment: SegmentId, from: u64, to: u64, written: bool },
    Zero { segment: SegmentId, from: u64, to: u64 },
    Cut { segment: SegmentId, length: u64 },
    Delete { segment: SegmentId },
    Flush { segment: SegmentId },
    Replace { file: SmallFile, contents: Vec<u8> },
    Remove { file: SmallFile },
}

impl FileOperation {
    fn describe(&self) -> String {
        match self {
            FileOperation::Create { segment, zeroed } => {
                format!("create {} of {zeroed} zeroed bytes", segment_file_name(*segment))
            }
            FileOperation::Extend { segment, from, to, .. } => {
                format!("extend {} from {from} to {to}", segment_file_name(*segment))
            }
            FileOperation::Zero { segment, from, to } => {
                format!("zero {} from {from} to {to}", segment_file_name(*segment))
            }
            FileOperation::Cut { segment, length } => {
                format!("cut {} to {length} bytes", segment_file_name(*segment))
            }
            FileOperation::Delete { segment } => format!("delete {}", segment_file_name(*segment)),
            FileOperation::Flush { segment } => format!("flush {}", segment_file_name(*segment)),
            FileOperation::Replace { file, .. } => format!("replace {}", small_file_name(*file)),
            FileOperation::Remove { file } => format!("remove {}", small_file_name(*file)),
        }
    }
}

/// What comes back from the threads.
#[derive(Debug)]
pub(crate) enum FileEvent {
    Done {
        id: OpId,
        result: Result<(), DiskError>,
    },
    /// Room on the file system, about every second.
    DiskFree(u64),
    /// Beside it.
    HostMemory(HostMemory),
}

/// What a thread is to do; `None` wakes one that is to end.
type Order = Option<(OpId, FileOperation)>;

/// Both threads, and the one for memory, as the log device holds them. They end with it, after what they were given, or with their
/// `FileWorkers`.
pub(crate) struct FileThreads {
    segments: SyncSender<Order>,
    small_files: SyncSender<Order>,
    events: Receiver<FileEvent>,
    files: LogFiles,
    memory: MemoryThread,
    is_over: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
}

impl FileThreads {
    /// Call it before the calling thread is pinned: a thread inherits the CPUs of the one that starts it.
    pub(crate) fn start(files: LogFiles, doorbell: Doorbell) -> io::Result<FileThreads> {
        let (event_sender, events) = mpsc::channel();
        let (is_over, mut workers) = (Arc::new(AtomicBool::new(false)), Vec::new());
        let mut start = |name: &str, disk_free: bool| -> io::Result<SyncSender<Order>> {
            let (sender, receiver) = mpsc::sync_channel(FILE_OPERATIONS_MAX);
            let mut worker = Worker {
                files: files.clone(),
                events: event_sender.clone(),
                doorbell: doorbell.clone(),
                zeros: ZeroedBlocks::new(ZERO_WRITE_BYTES),
                is_over: is_over.clone(),
            };
            let run = move || worker.run(receiver, disk_free);
            workers.push(thread::Builder::new().name(name.into()).spawn(run)?);
            Ok(sender)
        };
        let segments = start("segment-files", true)?;
        let small_files = start("small-files", false)?;
        let memory = MemoryThread::start()?;
        Ok(FileThreads { segments, small_files, events, files, memory, is_over, workers })
    }

    /// Their end in the hands of whoever holds the lock of the directory.
    pub(crate) fn take_workers(&mut self, wait: WaitAtEnd) -> FileWorkers {
        FileWorkers {
            is_over: self.is_over.clone(),
            senders: [self.segments.clone(), self.small_files.clone()],
            threads: std::mem::take(&mut self.workers),
            wait,
            _memory: self.memory.ender(),
        }
    }

    pub(crate) fn submit(&self, id: OpId, operation: FileOperation) -> Result<(), DiskError> {
        let sender = match operation {
            FileOperation::Replace { .. } | FileOperation::Remove { .. } => &self.small_files,
            _ => &self.segments,
        };
        sender.try_send(Some((id, operation))).map_err(|error| {
            let (order, why) = match error {
                TrySendError::Full(order) => {
                    let why = format!(
                        "more than {FILE_OPERATIONS_MAX} file operations are waiting: the device hangs"
                    );
                    (order, why)
                }
                TrySendError::Disconnected(order) => (order, "the file thread has ended".into()),
            };
            without_errno(order.map_or(String::new(), |(_, operation)| operation.describe()), why)
        })
    }

    /// Its completion lies in `poll_memory` some time later, and nobody is woken for it.
    pub(crate) fn submit_memory(&self, id: OpId, work: MemoryWork) -> Result<(), DiskError> {
        match self.memory.submit(id, work) {
            true => Ok(()),
            false => Err(without_errno("work on memory".to_string(), "its thread has ended".to_string())),
        }
    }

    pub(crate) fn poll(&self) -> Option<FileEvent> {
        self.events.try_recv().ok()
    }

    pub(crate) fn poll_memory(&self) -> Option<(OpId, Done)> {
        self.memory.poll()
    }

    pub(crate) fn files(&self) -> &LogFiles {
        &self.files
    }
}

/// Whether the end of the threads is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WaitAtEnd {
    /// Another life may have the directory next: nothing of this one may touch it then, however long the disk takes.
    Yes,
    /// The process ends and its threads with it: a disk that hangs must not keep it.
    No,
}

/// Dropped, it ends both threads: what they are at they finish, what they have not begun they leave. The log device may be
/// held for ever by tasks that were given up, so this does not rest on it.
pub(crate) struct FileWorkers {
    is_over: Arc<AtomicBool>,
    senders: [SyncSender<Order>; 2],
    threads: Vec<JoinHandle<()>>,
    wait: WaitAtEnd,
    _memory: Ender,
}

impl Drop for FileWorkers {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Where a queue is full its thread takes something anyway, and looks.
        self.senders.iter().for_each(|sender| drop(sender.try_send(None)));
        if self.wait == WaitAtEnd::Yes {
            // One that has panicked has ended too.
            self.threads.drain(..).for_each(|thread| drop(thread.join()));
        }
    }
}

struct Worker {
    files: LogFiles,
    events: Sender<FileEvent>,
    doorbell: Doorbell,
    zeros: ZeroedBlocks,
    is_over: Arc<AtomicBool>,
}

impl Worker {
    fn run(&mut self, operations: Receiver<Order>, disk_free: bool) {
        let mut disk_free_due = Instant::now();
        loop {
            if disk_free && Instant::now() >= disk_free_due {
                self.report_disk_free();
                disk_free_due = Instant::now() + DISK_FREE_INTERVAL;
            }
            let wait = disk_free_due.saturating_duration_since(Instant::now());
            let next = match disk_free {
                true => operations.recv_timeout(wait),
                false => operations.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match next {
                Ok(_) if self.is_over.load(Ordering::SeqCst) => return,
                Ok(None) => {}
                Ok(Some((id, operation))) => {
                    let result = self.execute(&operation);
                    self.report(FileEvent::Done { id, result });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn report_disk_free(&self) {
        // Where statfs fails the writes fail too, and those say it better.
        if let Ok(bytes) = free_bytes(&self.files.directory) {
            self.report(FileEvent::DiskFree(bytes));
        }
        if let Some(memory) = host_memory() {
            self.report(FileEvent::HostMemory(memory));
        }
    }

    fn report(&self, event: FileEvent) {
        // Where the node has ended, nobody takes it.
        let _ = self.events.send(event);
        self.doorbell.ring();
    }

    fn execute(&mut self, operation: &FileOperation) -> Result<(), DiskError> {
        let result = match operation {
            FileOperation::Create { segment, zeroed } => self.create(*segment, *zeroed),
            FileOperation::Extend { segment, from, to, written } => {
                self.extend(*segment, *from, *to, *written)
            }
            FileOperation::Zero { segment, from, to } => self.zero(*segment, *from, *to),
            FileOperation::Cut { segment, length } => self.cut(*segment, *length),
            FileOperation::Delete { segment } => self.delete(*segment),
            FileOperation::Flush { segment } => self.open(*segment).and_then(|f| f.sync_all()),
            FileOperation::Replace { file: SmallFile::QuorumState, contents } => {
                replace_with_spare(&self.files.directory, &small_file_name(SmallFile::QuorumState), contents)
            }
            FileOperation::Replace { file, contents } => {
                replace_file(&self.files.directory, &small_file_name(*file), contents)
            }
            FileOperation::Remove { file } => {
                self.unlink(small_file_name(*file)).and_then(|()| self.sync_directory())
            }
        };
        result.map_err(|e| disk_error_in(&self.files.directory, operation.describe(), &e))
    }

    fn open(&self, segment: SegmentId) -> io::Result<File> {
        self.files.mode.open(&self.files.segment(segment), false)
    }

    fn create(&mut self, segment: SegmentId, zeroed: u64) -> io::Result<()> {
        let path = self.files.segment(segment);
        self.unlink(small_file_name(SmallFile::Summary(segment)))?;
        let file = self.files.mode.open(&path, true)?;
        // A crash between creation and first use can have left one behind.
        file.set_len(0)?;
        let filled = reserve(&file, 0, zeroed)
            .and_then(|()| self.write_zeros(&file, 0, zeroed))
            .and_then(|()| flushed(file.sync_all()));
        if let Err(error) = filled {
            // Room that a full disk needs more than this half-made segment.
            let _ = std::fs::remove_file(&path);
            return Err(error);
        }
        self.sync_directory()
    }

    /// Reserved space reads as zeros, also in the block that `from` cuts. Where it is written as well, a durable write to it is
    /// a flush and nothing else.
    fn extend(&mut self, segment: SegmentId, from: u64, to: u64, written: bool) -> io::Result<()> {
        let file = self.open(segment)?;
        reserve(&file, from, to)?;
        if written {
            self.write_zeros(&file, from.next_multiple_of(BLOCK), to)?;
        }
        flushed(file.sync_all())
    }

    fn zero(&mut self, segment: SegmentId, from: u64, to: u64) -> io::Result<()> {
        let file = self.open(segment)?;
        let size = file.metadata()?.len();
        self.write_zeros(&file, from, to)?;
        if file.metadata()?.len() > size {
            // The edge block of a file that was cut in its middle is written whole.
            file.set_len(size)?;
        }
        file.sync_data()
    }

    /// Whole blocks straight from the zero buffer; the blocks at the edges are read, changed and written back. The
    /// log lets nobody else touch them meanwhile.
    fn write_zeros(&mut self, file: &File, from: u64, to: u64) -> io::Result<()> {
        if from >= to {
            return Ok(());
        }
        let (first_whole, last_whole) = (from.next_multiple_of(BLOCK), to / BLOCK * BLOCK);
        if first_whole > last_whole {
            return zero_in_block(file, from, to);
        }
        if from < first_whole {
            zero_in_block(file, from, first_whole)?;
        }
        let mut position = first_whole;
        while position < last_whole {
            let length = (last_whole - position).min(ZERO_WRITE_BYTES as u64) as usize;
            durable::write_plain(file, &self.zeros.as_slice()[..length], position)?;
            position += length as u64;
        }
        if last_whole < to {
            zero_in_block(file, last_whole, to)?;
        }
        Ok(())
    }

    fn cut(&self, segment: SegmentId, length: u64) -> io::Result<()> {
        let file = self.open(segment)?;
        file.set_len(length)?;
        file.sync_all()
    }

    fn delete(&self, segment: SegmentId) -> io::Result<()> {
        self.unlink(small_file_name(SmallFile::Summary(segment)))?;
        self.unlink(segment_file_name(segment).into())?;
        self.sync_directory()
    }

    fn unlink(&self, name: Cow<str>) -> io::Result<()> {
        match std::fs::remove_file(self.files.directory.join(&*name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    fn sync_directory(&self) -> io::Result<()> {
        durable::sync_directory(&self.files.directory)
    }
}

/// A flush that found no room is not to be tried again, as what found none before it is: nobody knows what it has lost.
fn flushed(result: io::Result<()>) -> io::Result<()> {
    result.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => io::Error::other(format!("the flush failed: {error}")),
        _ => error,
    })
}

/// Set the size to `to` and reserve its blocks in one piece, so that a full disk shows here and not in a write.
pub(super) fn reserve(file: &File, from: u64, to: u64) -> io::Result<()> {
    if from >= to {
        return Ok(());
    }
    // SAFETY: no pointers.
    let failed = unsafe { libc::fallocate(file.as_raw_fd(), 0, from as i64, (to - from) as i64) } != 0;
    if failed {
        let error = io::Error::last_os_error();
        if error.raw_os_error() != Some(libc::EOPNOTSUPP) {
            return Err(error);
        }
        file.set_len(to)?;
    }
    Ok(())
}

/// `from..to` lies in one block.
fn zero_in_block(file: &File, from: u64, to: u64) -> io::Result<()> {
    let start = from / BLOCK * BLOCK;
    let mut block = ZeroedBlocks::new(BLOCK_BYTES);
    let mut read = 0;
    // Short only at the end of the file; what lies behind it is zeros.
    while read < BLOCK_BYTES {
        match file.read_at(&mut block.as_mut_slice()[read..], start + read as u64) {
            Ok(0) => break,
            Ok(n) if n % BLOCK_BYTES != 0 => break,
            Ok(n) => read += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    block.as_mut_slice()[(from - start) as usize..(to - start) as usize].fill(0);
    durable::write_plain(file, block.as_slice(), start)
}

/// As `replace_file`, but the new contents are written over those of two times before, whose blocks are kept under the
/// temporary name: a vote needs no room on a full disk. The first time there is none yet.
fn replace_with_spare(directory: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let (path, spare) = (directory.join(name), directory.join(format!("{name}.tmp")));
    let fill = |mut file: File| -> io::Result<()> {
        io::Write::write_all(&mut file, contents)?;
        file.set_len(contents.len() as u64)?;
        file.sync_all()
    };
    // Not cut before it is written: that would give its blocks away. What is no file of ours is not followed.
    let is_there = std::fs::symlink_metadata(&spare).is_ok_and(|found| found.is_file());
    let opened = match is_there {
        true => File::options().write(true).custom_flags(libc::O_NOFOLLOW).open(&spare),
        false => durable::create_new(&spare),
    };
    opened.and_then(fill)?;
    if exchange(&spare, &path).is_err() {
        // There was no such file, or this file system cannot exchange two.
        std::fs::rename(&spare, &path)?;
        // Without it the next one needs room.
        let _ = durable::create_new(&spare).and_then(fill);
    }
    flushed(durable::sync_directory(directory))
}

/// Each of two files gets the other's name, at once.
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    let c =
        |path: &Path| std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).map_err(io::Error::other);
    let (one, other) = (c(one)?, c(other)?);
    // SAFETY: two strings that end with a zero and outlive the call.
    let failed = unsafe {
        libc::renameat2(libc::AT_FDCWD, one.as_ptr(), libc::AT_FDCWD, other.as_ptr(), libc::RENAME_EXCHANGE)
    } != 0;
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The old contents or the new ones are there after any crash, never a mixture: temporary file, flush, rename, flush
/// of the directory.
pub(super) fn replace_file(directory: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    let temporary = directory.join(format!("{name}.tmp"));
    let write = || -> io::Result<()> {
        // Left by a crash, or put there by somebody else as a link to elsewhere: it goes.
        let mut file = durable::create_new(&temporary)?;
        io::Write::write_all(&mut file, contents)?;
        file.sync_all()
    };
    if let Err(error) = write() {
        // Room that a full disk needs more; the file itself is what it was, so this may be tried again.
        let _ = std::fs::remove_file(&temporary);
        return Err(error);
    }
    std::fs::rename(&temporary, directory.join(name))?;
    flushed(durable::sync_directory(directory))
}

#[cfg(test)]
#[path = "file_thread/tests.rs"]
mod tests;
