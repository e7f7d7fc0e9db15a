//! Executes the log's operations: writes and reads on the core's ring, the slow rest on the file threads.
//!
//! Owned by the replica core, which submits once per turn and takes completions at the start of the next. glommio's
//! files are not used: they flush through a worker that inherits the core's pinning, and take twice as long. The
//! device keeps no order between operations and decides nothing; a failure goes back to the log, which stops the node.

use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Duration;

use io_uring::{opcode, squeue, types};

use super::clock;
use super::disk_error::{disk_error, without_errno};
use super::file_thread::{FileEvent, FileOperation, FileThreads, segment_file_name};
use super::ring::CoreRing;
use crate::log::{
    BLOCK_BYTES, Completion, DiskError, DiskOp, Done, FileId, HUGE_PAGE_BYTES, OpId, OpKind,
    WRITES_LATELY_NS, WriteBuffer, read_span,
};
use crate::memory::Piece;
use crate::types::{HostMemory, LatencyBuckets};

/// Reads and writes that the kernel has at once; more wait their turn in memory (the log bounds them).
const TRANSFERS_MAX: usize = 256;
/// Open segments; the lowest is closed first, and opened again when it is read.
const FILES_OPEN_MAX: usize = 64;
/// An operation that the kernel sends back with EINTR or EAGAIN is not failed: it has not been tried yet.
const RESUBMITS_MAX: u32 = 64;
/// The device does reads and writes one after the other: while it is written to, and for a while afterwards, it is read in steps of so
/// many bytes, and a flush waits for no more than one of them.
const READ_STEP_BYTES: usize = 256 << 10;
const SETTLE_LOOK: Duration = Duration::from_secs(1);
const BLOCK: u64 = BLOCK_BYTES as u64;
/// Linux 6.1 and newer; not in libc's list for every target.
const MADV_COLLAPSE: libc::c_int = 25;

/// What the owner takes with `poll`.
#[derive(Debug)]
pub(crate) enum DeviceEvent {
    Completion(Completion),
    /// Bytes free on the log's file system, about every second.
    DiskFree(u64),
    /// What memory the host has, beside it.
    HostMemory(HostMemory),
}

pub(crate) struct LogDevice {
    ring: Rc<CoreRing>,
    threads: FileThreads,
    /// Segments sort before the commit mark, so that it is never the lowest.
    files: BTreeMap<FileId, Rc<File>>,
    flights: Vec<Option<Flight>>,
    free_flights: Vec<usize>,
    /// Flights that the ring has not got yet.
    unsent: VecDeque<usize>,
    /// Completions that did not come from the ring.
    completed: VecDeque<DeviceEvent>,
    buffers_registered: bool,
    writes_in_flight: usize,
    /// When the one was begun that has ended last, in monotonic ns.
    written_ns: Option<u64>,
    /// How long each durable write took, from the ring to its completion.
    flushes: LatencyBuckets,
    /// With the ring or the kernel.
    sent: usize,
}

/// One read or write that the kernel has, or gets with the next submission.
struct Flight {
    id: OpId,
    file_id: FileId,
    /// Keeps the descriptor open for resubmissions, also when the segment is deleted meanwhile.
    file: Rc<File>,
    position: u64,
    length: usize,
    /// Bytes already done: short transfers go on from here.
    done: usize,
    resubmits: u32,
    /// Monotonic ns at which the ring got it first.
    sent_ns: u64,
    transfer: Transfer,
}

enum Transfer {
    Write {
        buffer: WriteBuffer,
        durable: bool,
    },
    /// The aligned span around the bytes asked for, which start `skip` bytes into it.
    Read {
        piece: Piece,
        skip: usize,
        wanted: usize,
    },
}

impl LogDevice {
    /// `regions` are the log's write buffers by index.
    pub(crate) fn new(threads: FileThreads, ring: Rc<CoreRing>, regions: &[(*const u8, usize)]) -> LogDevice {
        let mut device = LogDevice {
            ring,
            threads,
            files: BTreeMap::new(),
            flights: Vec::new(),
            free_flights: Vec::new(),
            unsent: VecDeque::new(),
            completed: VecDeque::new(),
            buffers_registered: false,
            writes_in_flight: 0,
            written_ns: None,
            flushes: LatencyBuckets::default(),
            sent: 0,
        };
        device.register_buffers(regions);
        device
    }

    fn register_buffers(&mut self, regions: &[(*const u8, usize)]) {
        if regions.is_empty() {
            return;
        }
        back_with_huge_pages(regions);
        let vectors: Vec<libc::iovec> = regions
            .iter()
            .map(|(start, length)| libc::iovec { iov_base: start.cast_mut().cast(), iov_len: *length })
            .collect();
        // SAFETY: the log's write buffers outlive the ring (see `WriteBuffer`).
        match unsafe { self.ring.register_buffers(&vectors) } {
            Ok(()) => self.buffers_registered = true,
            Err(error) => tracing::warn!(
                "The kernel does not register the write buffers ({error}): each write pins its pages anew, which \
                 costs a few microseconds. Raising the memlock limit (ulimit -l) helps."
            ),
        }
    }

    /// Let flushes run on these CPUs, also where the calling thread is pinned to one: a worker that shares the core
    /// of a busy executor waits for it.
    pub(crate) fn set_worker_cpus(&self, cpus: &libc::cpu_set_t) -> io::Result<()> {
        self.ring.register_worker_cpus(cpus)
    }

    /// Queue an operation. Writes and reads are the ring's, and the kernel gets them with `submit`; all else is a file thread's.
    pub(crate) fn push(&mut self, op: DiskOp) {
        let DiskOp { id, kind } = op;
        let operation = match kind {
            OpKind::Write { file, position, buffer, length, durable } => {
                assert!(
                    position.is_multiple_of(BLOCK)
                        && length.is_multiple_of(BLOCK_BYTES)
                        && 0 < length
                        && length <= buffer.capacity(),
                    "{id:?} writes {length} bytes at {position}"
                );
                return self.push_transfer(id, file, position, length, Transfer::Write { buffer, durable });
            }
            OpKind::Read { segment, position, length, piece } => {
                return self.push_read(id, FileId::Segment(segment), position, length, piece);
            }
            OpKind::Memory(work) => {
                if let Err(error) = self.threads.submit_memory(id, work) {
                    self.complete_now(id, Err(error), None);
                }
                return;
            }
            OpKind::CreateSegment { segment, zeroed } => FileOperation::Create { segment, zeroed },
            OpKind::ExtendSegment { segment, from, to, written } => {
                FileOperation::Extend { segment, from, to, written }
            }
            OpKind::ZeroSegment { segment, from, to } => FileOperation::Zero { segment, from, to },
            OpKind::CutSegment { segment, length } => FileOperation::Cut { segment, length },
            OpKind::DeleteSegment { segment } => FileOperation::Delete { segment },
            OpKind::FlushSegment { segment } => FileOperation::Flush { segment },
            OpKind::ReplaceFile { file, contents } => FileOperation::Replace { file, contents },
            OpKind::RemoveFile { file } => FileOperation::Remove { file },
        };
        self.push_file_operation(id, operation);
    }

    /// The whole aligned span through the same descriptor as the writes, so that both see the same bytes.
    fn push_read(&mut self, id: OpId, file: FileId, position: u64, length: usize, piece: Piece) {
        if length == 0 {
            return self.complete_now(id, Ok(Done::Read(piece.filled(0..0))), None);
        }
        let (span, skip) = read_span(position, length);
        assert!(span <= piece.capacity(), "{id:?} reads {span} bytes into {}", piece.capacity());
        let start = position - skip as u64;
        self.push_transfer(id, file, start, span, Transfer::Read { piece, skip, wanted: length });
    }

    fn push_transfer(&mut self, id: OpId, file_id: FileId, position: u64, length: usize, transfer: Transfer) {
        let file = match self.open(file_id) {
            Ok(file) => file,
            Err(error) => {
                let name = self.threads.files().path(file_id);
                let error = disk_error(format!("open {}", name.display()), &error);
                return self.complete_now(id, Err(error), transfer.into_buffer());
            }
        };
        if matches!(transfer, Transfer::Write { .. }) {
            self.writes_in_flight += 1;
        }
        let flight =
            Flight { id, file_id, file, position, length, done: 0, resubmits: 0, sent_ns: 0, transfer };
        let slot = match self.free_flights.pop() {
            Some(slot) => slot,
            None => {
                self.flights.push(None);
                self.flights.len() - 1
            }
        };
        self.flights[slot] = Some(flight);
        self.unsent.push_back(slot);
    }

    fn open(&mut self, file: FileId) -> io::Result<Rc<File>> {
        if let Some(open) = self.files.get(&file) {
            return Ok(open.clone());
        }
        let files = self.threads.files();
        let opened = Rc::new(files.mode.open(&files.path(file), false)?);
        if self.files.len() >= FILES_OPEN_MAX {
            self.files.pop_first();
        }
        self.files.insert(file, opened.clone());
        Ok(opened)
    }

    fn push_file_operation(&mut self, id: OpId, operation: FileOperation) {
        if let FileOperation::Create { segment, .. } | FileOperation::Delete { segment } = operation {
            // The name stands for another file from here on.
            self.files.remove(&FileId::Segment(segment));
        }
        if let Err(error) = self.threads.submit(id, operation) {
            self.complete_now(id, Err(error), None);
        }
    }

    /// Give the ring what was pushed; the kernel gets it with the ring's next call. Never more than `TRANSFERS_MAX`: the
    /// rest goes with the turn that follows the next completion. False: there was nothing.
    pub(crate) fn submit(&mut self) -> bool {
        let sent_before = self.sent;
        while self.sent < TRANSFERS_MAX
            && let Some(slot) = self.unsent.pop_front()
        {
            let entry = self.entry(slot);
            // SAFETY: the flight in `slot` owns the memory and the descriptor that the entry names, until its
            // completion has been taken (and for ever, should the device be dropped before).
            unsafe { self.ring.push_transfer(entry, slot) };
            self.sent += 1;
        }
        self.sent > sent_before
    }

    fn entry(&mut self, slot: usize) -> squeue::Entry {
        let now_ns = clock::monotonic_ns();
        let is_written = self.is_written(now_ns);
        let flight = self.flights[slot].as_mut().expect("an unsent flight is in its slot");
        if flight.sent_ns == 0 {
            flight.sent_ns = now_ns;
        }
        let fd = types::Fd(flight.file.as_raw_fd());
        let position = flight.position + flight.done as u64;
        let length = (flight.length - flight.done) as u32;
        match &mut flight.transfer {
            Transfer::Write { buffer, durable } => {
                let flags = if *durable { libc::RWF_DSYNC } else { 0 };
                let start = buffer.as_ptr().wrapping_add(flight.done);
                if self.buffers_registered {
                    opcode::WriteFixed::new(fd, start, length, buffer.index)
                        .offset(position)
                        .rw_flags(flags)
                        .build()
                } else {
                    opcode::Write::new(fd, start, length).offset(position).rw_flags(flags).build()
                }
            }
            Transfer::Read { piece, .. } => {
                let start = piece.as_mut_ptr().wrapping_add(flight.done);
                let length = if is_written { length.min(READ_STEP_BYTES as u32) } else { length };
                // Who gives the kernel memory that was never written to waits until it has found some: one of its own workers does.
                let flags = match piece.is_touched(flight.done + length as usize) {
                    true => squeue::Flags::empty(),
                    false => squeue::Flags::ASYNC,
                };
                opcode::Read::new(fd, start, length).offset(position).build().flags(flags)
            }
        }
    }

    /// A write is under way, or was begun a moment ago.
    fn is_written(&self, now_ns: u64) -> bool {
        let lately = |sent_ns: u64| now_ns.saturating_sub(sent_ns) < WRITES_LATELY_NS;
        self.writes_in_flight > 0 || self.written_ns.is_some_and(lately)
    }

    /// True when `poll` would return something. No system call.
    pub(crate) fn has_events(&mut self) -> bool {
        !self.completed.is_empty() || self.ring.has_transfers()
    }

    /// Writes that the kernel has and that are not completed: worth a short spin.
    pub(crate) fn writes_in_flight(&self) -> usize {
        self.writes_in_flight
    }

    pub(crate) fn poll(&mut self) -> Option<DeviceEvent> {
        loop {
            if let Some(event) = self.completed.pop_front() {
                return Some(event);
            }
            match self.ring.poll_transfer() {
                Some((slot, result)) => self.on_transfer(slot, result),
                None => return self.threads.poll().map(on_file_event).or_else(|| self.poll_memory()),
            }
        }
    }

    fn poll_memory(&self) -> Option<DeviceEvent> {
        let (id, done) = self.threads.poll_memory()?;
        Some(DeviceEvent::Completion(Completion { id, result: Ok(done), buffer: None }))
    }

    fn on_transfer(&mut self, slot: usize, result: i32) {
        let Some(mut flight) = self.flights.get_mut(slot).and_then(Option::take) else {
            panic!("the ring completed operation {slot}, which is not under way");
        };
        self.sent -= 1;
        let outcome = flight.on_result(result);
        match outcome {
            Outcome::Continue => {
                self.flights[slot] = Some(flight);
                self.unsent.push_back(slot);
            }
            Outcome::Finished(result) => {
                self.free_flights.push(slot);
                if let Transfer::Write { durable, .. } = flight.transfer {
                    self.writes_in_flight -= 1;
                    self.written_ns = Some(flight.sent_ns);
                    if durable && result.is_ok() {
                        self.flushes.record(clock::monotonic_ns().saturating_sub(flight.sent_ns));
                    }
                }
                self.complete_flight(flight, result);
            }
        }
    }

    fn complete_flight(&mut self, flight: Flight, result: Result<usize, DiskError>) {
        let id = flight.id;
        match (flight.transfer, result) {
            (Transfer::Write { buffer, .. }, result) => {
                self.complete_now(id, result.map(|_| Done::Complete), Some(buffer))
            }
            (Transfer::Read { piece, skip, wanted }, Ok(bytes)) => {
                // Behind what was read there is something of an older read.
                let end = bytes.min(skip + wanted);
                self.complete_now(id, Ok(Done::Read(piece.filled(skip.min(end)..end))), None);
            }
            (Transfer::Read { .. }, Err(error)) => self.complete_now(id, Err(error), None),
        }
    }

    fn complete_now(&mut self, id: OpId, result: Result<Done, DiskError>, buffer: Option<WriteBuffer>) {
        self.completed.push_back(DeviceEvent::Completion(Completion { id, result, buffer }));
    }

    /// How long the durable writes since the start took.
    pub(crate) fn flushes(&self) -> &LatencyBuckets {
        &self.flushes
    }

    /// The node has ended and the process has not: what the ring has is waited for, however long the disk takes, and the rest
    /// is left. Frees the buffers that were lent to it. False: the ring is broken.
    pub(crate) fn settle(&mut self) -> bool {
        while self.sent > 0 {
            match self.ring.poll_transfer() {
                Some((slot, result)) => self.on_transfer(slot, result),
                None if self.ring.wait(SETTLE_LOOK).is_err() => return false,
                None => {}
            }
        }
        let left = self.flights.drain(..).flatten().filter_map(|flight| flight.transfer.into_buffer());
        left.for_each(WriteBuffer::free);
        for event in self.completed.drain(..) {
            if let DeviceEvent::Completion(Completion { buffer: Some(buffer), .. }) = event {
                buffer.free();
            }
        }
        true
    }
}

impl Drop for LogDevice {
    fn drop(&mut self) {
        // The kernel may still read from or write to the memory of what is under way: it is given up.
        for flight in self.flights.drain(..).flatten() {
            std::mem::forget(flight);
        }
    }
}

/// Batches are copied into the write buffers: with a page of 2 MiB instead of 4 KiB the CPU looks up far fewer addresses.
/// Only a kernel that has such pages to give does it, and it need not.
fn back_with_huge_pages(regions: &[(*const u8, usize)]) {
    let ends = || regions.iter().map(|(start, length)| start.addr() + length);
    let (Some((first, _)), Some(end)) = (regions.iter().min_by_key(|r| r.0), ends().max()) else { return };
    let in_one_piece = regions.iter().map(|r| r.1).sum::<usize>() == end - first.addr();
    let length = (end - first.addr()) / HUGE_PAGE_BYTES * HUGE_PAGE_BYTES;
    if in_one_piece && length > 0 && first.addr().is_multiple_of(HUGE_PAGE_BYTES) {
        // SAFETY: the log's own memory, whose contents it does not change.
        unsafe { libc::madvise(first.cast_mut().cast(), length, MADV_COLLAPSE) };
    }
}

fn on_file_event(event: FileEvent) -> DeviceEvent {
    match event {
        FileEvent::Done { id, result } => {
            DeviceEvent::Completion(Completion { id, result: result.map(|()| Done::Complete), buffer: None })
        }
        FileEvent::DiskFree(bytes) => DeviceEvent::DiskFree(bytes),
        FileEvent::HostMemory(memory) => DeviceEvent::HostMemory(memory),
    }
}

impl Transfer {
    fn into_buffer(self) -> Option<WriteBuffer> {
        match self {
            Transfer::Write { buffer, .. } => Some(buffer),
            Transfer::Read { .. } => None,
        }
    }
}

enum Outcome {
    /// Submit what is left.
    Continue,
    /// Bytes transferred.
    Finished(Result<usize, DiskError>),
}

impl Flight {
    fn on_result(&mut self, result: i32) -> Outcome {
        if result < 0 {
            return self.on_errno(-result);
        }
        match self.transfer {
            Transfer::Write { .. } => self.on_written(result as usize),
            Transfer::Read { .. } => self.on_read(result as usize),
        }
    }

    fn on_errno(&mut self, errno: i32) -> Outcome {
        if matches!(errno, libc::EINTR | libc::EAGAIN) && self.resubmits < RESUBMITS_MAX {
            self.resubmits += 1;
            return Outcome::Continue;
        }
        Outcome::Finished(Err(disk_error(self.describe(), &io::Error::from_raw_os_error(errno))))
    }

    /// A short write goes on at the last whole block that was written; without one it has failed.
    fn on_written(&mut self, bytes: usize) -> Outcome {
        if self.done + bytes >= self.length {
            return Outcome::Finished(Ok(self.length));
        }
        let whole_blocks = bytes / BLOCK_BYTES * BLOCK_BYTES;
        if whole_blocks == 0 {
            return Outcome::Finished(Err(without_errno(
                self.describe(),
                format!("only {bytes} bytes more were written after {}: is the disk full?", self.done),
            )));
        }
        self.done += whole_blocks;
        Outcome::Continue
    }

    /// A read that stops inside a block has met the end of the file.
    fn on_read(&mut self, bytes: usize) -> Outcome {
        self.done += bytes;
        let at_end = bytes == 0 || !self.done.is_multiple_of(BLOCK_BYTES);
        if at_end || self.done >= self.length {
            return Outcome::Finished(Ok(self.done.min(self.length)));
        }
        Outcome::Continue
    }

    fn describe(&self) -> String {
        let verb = match self.transfer {
            Transfer::Write { .. } => "write",
            Transfer::Read { .. } => "read",
        };
        let name = match self.file_id {
            FileId::Segment(segment) => segment_file_name(segment),
            FileId::CommitMark => super::file_thread::COMMIT_MARK_FILE.to_string(),
        };
        format!("{verb} {} bytes at {} of {name}", self.length, self.position)
    }
}

#[cfg(test)]
#[path = "log_device/tests.rs"]
mod tests;
