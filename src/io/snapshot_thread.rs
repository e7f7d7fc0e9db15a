//! Files of snapshots, off the cores and off the threads of the log: making one takes longer than a vote may wait.
//!
//! The replica core hands over what is to be done and takes back what was, through a queue and its doorbell. There is one thread, and it
//! works in the order of arrival. A snapshot is written into a file of another name, in pieces that are each flushed, so that no flush of
//! the log stands behind a large one; then flushed as a whole, renamed, and its name flushed. Nothing here retries, and nothing here
//! looks into a snapshot.
//!
//! Room for one is kept ([`ROOM_FILE`]): a full disk can still take one. What was written into it and came to nothing is written over.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender, TrySendError};
use std::thread::{self, JoinHandle};

use bytes::Bytes;

use super::disk_error::{disk_error_in, without_errno};
use super::doorbell::Doorbell;
use super::durable;
use super::file_thread::{WaitAtEnd, reserve};
use super::scheduling;
use crate::log::{
    DiskError, SnapshotCompletion, SnapshotContents, SnapshotDone, SnapshotOp, SnapshotWork,
    parse_snapshot_file_name, snapshot_file_name,
};
use crate::types::OffsetAndEpoch;

/// Operations that wait for it. The replica has a handful under way.
const OPERATIONS_MAX: usize = 64;
/// So much is written before it is flushed.
const FLUSH_BYTES: u64 = 1 << 20;
/// The next snapshot is written into it.
const ROOM_FILE: &str = "snapshot-room";
/// It has this at least, and twice what the last snapshot had.
const ROOM_BYTES_MIN: u64 = 1 << 20;
/// Behind a snapshot's name, in place of its end.
const SUFFIX: &str = ".checkpoint";
const BAD_SUFFIX: &str = ".bad.checkpoint";
/// Kafka: `Snapshots.PARTIAL_SUFFIX`, `DELETE_SUFFIX`.
const LEFT_SUFFIXES: [&str; 2] = [".checkpoint.part", ".checkpoint.deleted"];

/// `None` wakes one that is to end.
type Order = Option<SnapshotOp>;

/// As the replica core has it.
pub(crate) struct SnapshotThread {
    orders: SyncSender<Order>,
    done: Receiver<SnapshotCompletion>,
    own: Sender<SnapshotCompletion>,
}

/// Dropped, it ends the thread: a snapshot that is not finished is left. In the hands of whoever holds the lock of the directory.
pub(crate) struct SnapshotWorker {
    orders: SyncSender<Order>,
    is_over: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
    wait: WaitAtEnd,
}

impl SnapshotThread {
    /// Call it before the calling thread is pinned: a thread inherits the CPUs of the one that starts it.
    pub(crate) fn start(
        directory: &Path,
        doorbell: Doorbell,
        wait: WaitAtEnd,
    ) -> io::Result<(SnapshotThread, SnapshotWorker)> {
        let (orders, received) = mpsc::sync_channel(OPERATIONS_MAX);
        let (own, done) = mpsc::channel();
        let is_over = Arc::new(AtomicBool::new(false));
        let files = Files { directory: directory.to_path_buf(), is_over: is_over.clone() };
        let told = own.clone();
        let run = move || {
            scheduling::give_way();
            files.work_through(&received, &told, &doorbell);
        };
        let thread = Some(thread::Builder::new().name("snapshots".into()).spawn(run)?);
        let worker = SnapshotWorker { orders: orders.clone(), is_over, thread, wait };
        Ok((SnapshotThread { orders, done, own }, worker))
    }

    pub(crate) fn submit(&self, op: SnapshotOp) {
        let token = op.token;
        let why = match self.orders.try_send(Some(op)) {
            Ok(()) => return,
            Err(TrySendError::Full(_)) => format!("more than {OPERATIONS_MAX} wait: the device hangs"),
            Err(TrySendError::Disconnected(_)) => "the thread for snapshots has ended".to_string(),
        };
        let result = Err(without_errno("work on a snapshot", why));
        // Both ends are here.
        let _ = self.own.send(SnapshotCompletion { token, result });
    }

    /// The doorbell has rung behind each.
    pub(crate) fn poll(&self) -> Option<SnapshotCompletion> {
        self.done.try_recv().ok()
    }
}

impl Drop for SnapshotWorker {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::SeqCst);
        // Where its queue is full it takes something anyway, and looks.
        drop(self.orders.try_send(None));
        if self.wait == WaitAtEnd::Yes
            && let Some(thread) = self.thread.take()
        {
            // One that has panicked has ended too.
            drop(thread.join());
        }
    }
}

/// What the thread has.
struct Files {
    directory: PathBuf,
    is_over: Arc<AtomicBool>,
}

impl Files {
    fn work_through(
        &self,
        received: &Receiver<Order>,
        told: &Sender<SnapshotCompletion>,
        doorbell: &Doorbell,
    ) {
        while let Ok(Some(SnapshotOp { token, kind })) = received.recv() {
            if self.is_over.load(Ordering::SeqCst) {
                return;
            }
            let result = self.carry_out(kind);
            // Where the node has ended nobody takes it.
            let _ = told.send(SnapshotCompletion { token, result });
            doorbell.ring();
        }
    }

    fn carry_out(&self, kind: SnapshotWork) -> Result<SnapshotDone, DiskError> {
        let (what, result) = match kind {
            SnapshotWork::Write { id, contents, bytes_max } => {
                (format!("write {}", snapshot_file_name(id)), self.write(id, contents, bytes_max))
            }
            SnapshotWork::Read { id, position, length } => {
                let name = snapshot_file_name(id);
                let read = read_piece(&self.directory.join(&name), position, length);
                (format!("read {length} bytes at {position} of {name}"), read.map(SnapshotDone::Read))
            }
            SnapshotWork::Remove { id } => {
                let name = snapshot_file_name(id);
                let removed = self.unlink(&name).and_then(|()| durable::sync_directory(&self.directory));
                (format!("remove {name}"), removed.map(|()| SnapshotDone::Complete))
            }
            SnapshotWork::Tidy => (
                "look for what snapshots have left".to_string(),
                self.tidy().map(|()| SnapshotDone::Complete),
            ),
        };
        result.map_err(|e| disk_error_in(&self.directory, what, &e))
    }

    /// Its size. Only the rename makes a snapshot of it.
    fn write(
        &self,
        id: OffsetAndEpoch,
        contents: SnapshotContents,
        bytes_max: u64,
    ) -> io::Result<SnapshotDone> {
        let room = self.directory.join(ROOM_FILE);
        let bytes = match self.fill(&room, contents, bytes_max) {
            Ok(bytes) => bytes,
            Err(error) => {
                // What a flush that failed has left nobody knows. What is full keeps its room.
                if !is_full(&error) {
                    let _ = std::fs::remove_file(&room);
                }
                return Err(error);
            }
        };
        std::fs::rename(&room, self.directory.join(snapshot_file_name(id)))?;
        durable::sync_directory(&self.directory)?;
        self.make_room(bytes.saturating_mul(2));
        Ok(SnapshotDone::Written(bytes))
    }

    fn fill(&self, room: &Path, contents: SnapshotContents, bytes_max: u64) -> io::Result<u64> {
        let file = open_room(room)?;
        let (mut position, mut flushed) = (0, 0);
        for piece in contents.0 {
            if self.is_over.load(Ordering::SeqCst) {
                return Err(io::Error::other("the node ends"));
            }
            if position + piece.len() as u64 > bytes_max {
                return Err(io::Error::other(format!(
                    "it has more than {bytes_max} bytes (kraft.snapshot.bytes.max): raise that on all nodes"
                )));
            }
            durable::write_plain(&file, &piece, position)?;
            position += piece.len() as u64;
            if position - flushed >= FLUSH_BYTES {
                file.sync_data()?;
                flushed = position;
            }
        }
        file.set_len(position)?;
        file.sync_all()?;
        forget_pages(&file);
        Ok(position)
    }

    fn unlink(&self, name: &str) -> io::Result<()> {
        match std::fs::remove_file(self.directory.join(name)) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
            _ => Ok(()),
        }
    }

    /// Behind `Ready`. What is of no known name stays.
    fn tidy(&self) -> io::Result<()> {
        let names = names_in(&self.directory)?;
        let is_left = |name: &&String| LEFT_SUFFIXES.iter().any(|suffix| name.ends_with(suffix));
        let mut left: Vec<&String> = names.iter().filter(is_left).collect();
        let mut bad: Vec<&String> = names.iter().filter(|name| is_bad(name)).collect();
        // Of those one is kept, for people.
        bad.sort();
        bad.pop();
        left.extend(bad);
        for name in &left {
            self.unlink(name)?;
        }
        if !left.is_empty() {
            durable::sync_directory(&self.directory)?;
        }
        let newest =
            names.iter().filter_map(|name| Some((parse_snapshot_file_name(name)?.offset, name))).max();
        let bytes =
            newest.and_then(|(_, name)| Some(std::fs::metadata(self.directory.join(name)).ok()?.len()));
        self.make_room(bytes.unwrap_or(0).saturating_mul(2));
        Ok(())
    }

    /// For the next one, where there is any to be had.
    fn make_room(&self, bytes: u64) {
        let bytes = bytes.max(ROOM_BYTES_MIN);
        let path = self.directory.join(ROOM_FILE);
        let made = open_room(&path).and_then(|file| {
            let has = file.metadata()?.len();
            match has >= bytes {
                true => Ok(()),
                false => reserve(&file, 0, bytes),
            }
        });
        if let Err(error) = made {
            tracing::debug!("No room is kept for the next snapshot: {error}.");
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// What it holds stays: its blocks are what is wanted. Never behind a link.
fn open_room(path: &Path) -> io::Result<File> {
    match std::fs::symlink_metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return durable::create_new(path),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return durable::create_new(path),
        Err(e) => return Err(e),
    }
    OpenOptions::new().write(true).custom_flags(libc::O_NOFOLLOW).open(path)
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOSPC | libc::EDQUOT))
}

/// Pages left in the cache are nobody's use.
fn forget_pages(file: &File) {
    // SAFETY: no pointers; advice only.
    unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
}

fn names_in(directory: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        names.extend(entry?.file_name().into_string());
    }
    Ok(names)
}

fn is_bad(name: &str) -> bool {
    name.strip_suffix(BAD_SUFFIX)
        .is_some_and(|stem| parse_snapshot_file_name(&format!("{stem}{SUFFIX}")).is_some())
}

/// Up to `length` bytes from `position`; fewer only at the end of the file.
pub(super) fn read_piece(path: &Path, position: u64, length: usize) -> io::Result<Bytes> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::other("this is no regular file"));
    }
    let left = usize::try_from(found.len().saturating_sub(position)).unwrap_or(usize::MAX);
    let mut bytes = vec![0; length.min(left)];
    file.read_exact_at(&mut bytes, position)?;
    forget_pages(&file);
    Ok(bytes.into())
}

/// Under the names of snapshots, with their sizes. For a start.
pub(super) fn list(directory: &Path) -> io::Result<Vec<(OffsetAndEpoch, u64)>> {
    let mut found = Vec::new();
    for name in names_in(directory)? {
        if let Some(id) = parse_snapshot_file_name(&name) {
            found.push((id, std::fs::metadata(directory.join(&name))?.len()));
        }
    }
    Ok(found)
}

/// Of the same name, but for its end. For a start.
pub(super) fn set_aside(directory: &Path, id: OffsetAndEpoch) -> io::Result<()> {
    let name = snapshot_file_name(id);
    let stem = name.strip_suffix(SUFFIX).unwrap_or(&name);
    std::fs::rename(directory.join(&name), directory.join(format!("{stem}{BAD_SUFFIX}")))?;
    durable::sync_directory(directory)
}

#[cfg(test)]
#[path = "snapshot_thread_tests.rs"]
mod tests;
