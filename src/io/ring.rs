//! The ring of one core: the only place where the core sleeps, and what its sockets, its log device and its doorbell
//! wait in.
//!
//! The executor runs the core's tasks, but does not wait for them: glommio's way to sleep and back takes eight system calls
//! on three rings and a barrier across all CPUs. Here one call hands over the turn's writes, sleeps until anything has
//! completed, and tells what. `server` calls it between turns; nothing in here blocks but [`CoreRing::wait`].
//! Nothing waits for glommio's own rings: it looks at them once a second.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::RawFd;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use io_uring::{IoUring, cqueue, opcode, squeue, types};

use super::doorbell::Doorbell;
use super::executor::let_others_run;
use outbox::Sends;

pub(crate) mod outbox;

const SUBMISSION_ENTRIES: u32 = 256;
/// More completions than this are kept by the kernel, and cost a system call more.
const COMPLETION_ENTRIES: u32 = 4096;

// What an entry's user data says: the upper bits whose it is, the lower ones which.
const KIND_SHIFT: u32 = 61;
const READINESS: u64 = 0;
const TRANSFER: u64 = 1;
const BELL: u64 = 2;
const CANCEL: u64 = 3;
const LOW_WATER: u64 = 4;
const SEND: u64 = 5;
/// A socket that was full has room.
const ROOM: u64 = 6;

/// Fewer awaited bytes than this come in one piece anyway.
const LOW_WATER_BYTES_MIN: usize = 16 * 1024;

pub(crate) struct CoreRing {
    inner: RefCell<Inner>,
    doorbell: Doorbell,
    is_rung: Cell<bool>,
    /// A task has woken another one since the tasks were run.
    has_woken: Cell<bool>,
}

struct Inner {
    ring: IoUring,
    /// What did not fit into the submission queue. Bounded by the sockets of the core and the operations of its log.
    backlog: VecDeque<squeue::Entry>,
    watches: Vec<Watch>,
    free_watches: Vec<usize>,
    /// (slot, result) of the log device's transfers.
    transfers: VecDeque<(usize, i32)>,
    woken: Vec<Waker>,
    /// The kernel sets socket options through the ring (Linux 6.7).
    sets_low_water: bool,
    sends: Sends,
}

/// One direction of a socket that the kernel watches.
#[derive(Default)]
struct Watch {
    waker: Option<Waker>,
    has_fired: bool,
    /// Nobody asks any more: the slot is free when its completion comes.
    is_abandoned: bool,
    /// SO_RCVLOWAT as the kernel is to set it, which it reads when it gets the entry. The slot is not free before that.
    low_water: Box<libc::c_int>,
}

impl Watch {
    fn clear(&mut self) {
        (self.waker, self.has_fired, self.is_abandoned) = (None, false, false);
    }
}

impl CoreRing {
    /// Call it on the thread that will own it. `doorbell` wakes this core from others.
    pub(crate) fn new(doorbell: Doorbell) -> io::Result<Rc<CoreRing>> {
        let ring = IoUring::builder()
            .setup_coop_taskrun()
            .setup_single_issuer()
            .setup_cqsize(COMPLETION_ENTRIES)
            .build(SUBMISSION_ENTRIES)?;
        let inner = Inner {
            ring,
            backlog: VecDeque::new(),
            watches: Vec::new(),
            free_watches: Vec::new(),
            transfers: VecDeque::new(),
            woken: Vec::new(),
            sets_low_water: true,
            sends: Sends::default(),
        };
        let core = CoreRing {
            inner: RefCell::new(inner),
            doorbell,
            is_rung: Cell::new(false),
            has_woken: Cell::new(false),
        };
        core.watch_bell();
        Ok(Rc::new(core))
    }

    fn watch_bell(&self) {
        let poll = opcode::PollAdd::new(types::Fd(self.doorbell.raw_fd()), libc::POLLIN as u32).build();
        self.inner.borrow_mut().push(poll.user_data(user_data(BELL, 0)));
    }

    /// True once after each time that the doorbell was rung: look into the queues after it, not before.
    pub(crate) fn take_rung(&self) -> bool {
        self.is_rung.replace(false)
    }

    pub(crate) fn is_rung(&self) -> bool {
        self.is_rung.get()
    }

    /// # Safety
    /// The memory stays where it is as long as the ring lives.
    pub(super) unsafe fn register_buffers(&self, buffers: &[libc::iovec]) -> io::Result<()> {
        // SAFETY: the caller's promise.
        unsafe { self.inner.borrow().ring.submitter().register_buffers(buffers) }
    }

    pub(super) fn register_worker_cpus(&self, cpus: &libc::cpu_set_t) -> io::Result<()> {
        self.inner.borrow().ring.submitter().register_iowq_aff(cpus)
    }

    /// Queue a read or write of the log device; `poll_transfer` gives `slot` back with its result.
    ///
    /// # Safety
    /// Memory and descriptor of the entry live until its result has been taken.
    pub(super) unsafe fn push_transfer(&self, entry: squeue::Entry, slot: usize) {
        self.inner.borrow_mut().push(entry.user_data(user_data(TRANSFER, slot)));
    }

    pub(super) fn poll_transfer(&self) -> Option<(usize, i32)> {
        self.inner.borrow_mut().transfers.pop_front()
    }

    pub(super) fn has_transfers(&self) -> bool {
        !self.inner.borrow().transfers.is_empty()
    }

    /// Sends that it has not done with, and sockets that were full: each of them keeps this ring.
    pub(crate) fn has_sends(&self) -> bool {
        !self.inner.borrow().sends.is_empty()
    }

    /// Give the kernel what was queued, without waiting. Then as `reap`. `Err`: the ring itself is broken.
    pub(crate) fn submit(&self) -> io::Result<()> {
        let result = self.inner.borrow_mut().submit();
        self.reap();
        result
    }

    /// Give the kernel what was queued and sleep until something has completed, `timeout` at most. Then as `reap`.
    pub(crate) fn wait(&self, timeout: Duration) -> io::Result<()> {
        {
            let mut inner = self.inner.borrow_mut();
            inner.fill()?;
            let timespec = types::Timespec::from(timeout);
            let args = types::SubmitArgs::new().timespec(&timespec);
            match inner.ring.submitter().submit_with_args(1, &args) {
                Ok(_) => {}
                Err(e) if e.raw_os_error() == Some(libc::ETIME) => {}
                Err(e) => is_transient(e)?,
            }
        }
        self.reap();
        Ok(())
    }

    /// Take what has completed and wake those who wait for it. No system call, unless the queue ran over or the doorbell
    /// was rung.
    pub(crate) fn reap(&self) {
        let (mut woken, bell) = {
            let mut inner = self.inner.borrow_mut();
            let bell = inner.take_completions();
            inner.settle_sends();
            (std::mem::take(&mut inner.woken), bell)
        };
        if !woken.is_empty() {
            self.note_woken();
        }
        woken.drain(..).for_each(Waker::wake);
        // Its allocation serves the next time.
        self.inner.borrow_mut().woken = woken;
        if bell {
            self.doorbell.hear();
            self.is_rung.set(true);
            self.watch_bell();
        }
    }

    /// Whoever wakes a task of this core by itself says so here, so that the core does not sleep on it.
    pub(crate) fn note_woken(&self) {
        self.has_woken.set(true);
    }

    pub(crate) fn has_woken(&self) -> bool {
        self.has_woken.get()
    }

    /// Let all tasks run that have been woken or started, and those that they wake. They run while the executor has the
    /// caller at the end of its queue: no system call.
    pub(crate) async fn run_tasks(&self) {
        loop {
            self.has_woken.set(false);
            let_others_run().await;
            if !self.has_woken.get() {
                return;
            }
        }
    }
}

impl Inner {
    fn push(&mut self, entry: squeue::Entry) {
        // SAFETY: a poll names no memory, an option lies in its watch, a send in its outbox; a transfer's is promised by
        // `push_transfer`.
        let is_pushed = self.backlog.is_empty() && unsafe { self.ring.submission().push(&entry) }.is_ok();
        if !is_pushed {
            self.backlog.push_back(entry);
        }
    }

    /// Move the backlog into the submission queue, as often as that has to be emptied for it.
    fn fill(&mut self) -> io::Result<()> {
        while let Some(entry) = self.backlog.front() {
            // SAFETY: as in `push`.
            if unsafe { self.ring.submission().push(entry) }.is_ok() {
                self.backlog.pop_front();
                continue;
            }
            match self.ring.submit() {
                Ok(_) => {}
                Err(e) => return is_transient(e),
            }
        }
        Ok(())
    }

    fn submit(&mut self) -> io::Result<()> {
        self.fill()?;
        if self.ring.submission().is_empty() {
            return Ok(());
        }
        self.ring.submit().map(|_| ()).or_else(is_transient)
    }

    /// The kernel has had all entries, and has said all that it knew of them at once.
    fn is_all_submitted(&mut self) -> bool {
        let queue = self.ring.submission();
        self.backlog.is_empty() && queue.is_empty() && !queue.cq_overflow()
    }

    /// True: the doorbell was rung.
    fn take_completions(&mut self) -> bool {
        let mut bell = false;
        loop {
            loop {
                let next = self.ring.completion().next();
                let Some(entry) = next else { break };
                bell |= self.take_completion(&entry);
            }
            let has_more = self.ring.submission().cq_overflow();
            if !has_more || self.ring.submit().is_err() {
                return bell;
            }
        }
    }

    fn take_completion(&mut self, entry: &cqueue::Entry) -> bool {
        let (kind, slot) = (entry.user_data() >> KIND_SHIFT, entry.user_data() as u32 as usize);
        match kind {
            READINESS => self.complete_watch(slot),
            TRANSFER => self.transfers.push_back((slot, entry.result())),
            BELL => return true,
            LOW_WATER => self.complete_low_water(entry.result()),
            SEND => self.complete_send(slot, entry.result()),
            ROOM => self.complete_room(slot),
            _ => {}
        }
        false
    }

    fn complete_watch(&mut self, slot: usize) {
        let watch = &mut self.watches[slot];
        if watch.is_abandoned {
            watch.clear();
            return self.free_watches.push(slot);
        }
        watch.has_fired = true;
        self.woken.extend(watch.waker.take());
    }

    fn low_water(&self, bytes: usize) -> libc::c_int {
        let is_worth_it = bytes >= LOW_WATER_BYTES_MIN && self.sets_low_water;
        if is_worth_it { libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX) } else { 1 }
    }

    /// Only failures are told.
    fn complete_low_water(&mut self, result: i32) {
        // A socket that was closed meanwhile is no reason.
        self.sets_low_water &= !matches!(-result, libc::EINVAL | libc::EOPNOTSUPP | libc::ENOPROTOOPT);
    }

    /// `low_water`: what the socket is to be ready with, if that is not what it was before.
    fn watch(&mut self, fd: RawFd, events: u32, low_water: Option<libc::c_int>, waker: Waker) -> usize {
        let slot = self.free_watches.pop().unwrap_or_else(|| {
            self.watches.push(Watch::default());
            self.watches.len() - 1
        });
        self.watches[slot].waker = Some(waker);
        if let Some(bytes) = low_water {
            *self.watches[slot].low_water = bytes;
            let value = (&raw const *self.watches[slot].low_water).cast();
            let size = size_of::<libc::c_int>() as u32;
            let (level, name) = (libc::SOL_SOCKET as u32, libc::SO_RCVLOWAT as u32);
            let option = opcode::SetSockOpt::new(types::Fd(fd), level, name, value, size).build();
            self.push(option.flags(squeue::Flags::SKIP_SUCCESS).user_data(user_data(LOW_WATER, slot)));
        }
        let poll = opcode::PollAdd::new(types::Fd(fd), events).build();
        self.push(poll.user_data(user_data(READINESS, slot)));
        slot
    }

    /// True: it has fired, and the slot is free. Else it wakes this task.
    fn take_fired(&mut self, slot: usize, waker: &Waker) -> bool {
        let watch = &mut self.watches[slot];
        if !watch.has_fired {
            watch.waker = Some(waker.clone());
            return false;
        }
        watch.clear();
        self.free_watches.push(slot);
        true
    }

    fn abandon(&mut self, slot: usize) {
        let watch = &mut self.watches[slot];
        if watch.has_fired {
            watch.clear();
            return self.free_watches.push(slot);
        }
        // Until its completion comes the kernel holds on to the socket.
        (watch.is_abandoned, watch.waker) = (true, None);
        let remove = opcode::PollRemove::new(user_data(READINESS, slot)).build();
        self.push(remove.user_data(user_data(CANCEL, 0)));
    }
}

fn user_data(kind: u64, slot: usize) -> u64 {
    kind << KIND_SHIFT | slot as u64
}

/// Out of memory for the moment, or a completion queue to be emptied first: it goes with the next call.
fn is_transient(error: io::Error) -> io::Result<()> {
    match error.raw_os_error() {
        Some(libc::EAGAIN | libc::EBUSY | libc::EINTR) => Ok(()),
        _ => Err(error),
    }
}

/// One direction of one socket. The socket is closed after it is dropped, not before.
pub(super) struct Readiness {
    ring: Rc<CoreRing>,
    fd: RawFd,
    events: u32,
    watch: Cell<Option<usize>>,
    /// SO_RCVLOWAT as it was set last; `None`: nobody knows.
    low_water: Cell<Option<libc::c_int>>,
}

impl Readiness {
    pub(super) fn to_read(ring: Rc<CoreRing>, fd: RawFd) -> Readiness {
        Readiness::new(ring, fd, libc::POLLIN | libc::POLLRDHUP, Some(1))
    }

    /// Of a TCP socket, for `poll_for`.
    pub(super) fn to_receive(ring: Rc<CoreRing>, fd: RawFd) -> Readiness {
        // An entry that was meant for a closed socket of the same number may still come before the first watch.
        Readiness::new(ring, fd, libc::POLLIN | libc::POLLRDHUP, None)
    }

    /// Fires when the other side has closed its direction.
    pub(super) fn to_end(ring: Rc<CoreRing>, fd: RawFd) -> Readiness {
        Readiness::new(ring, fd, libc::POLLRDHUP, Some(1))
    }

    pub(super) fn to_write(ring: Rc<CoreRing>, fd: RawFd) -> Readiness {
        Readiness::new(ring, fd, libc::POLLOUT, Some(1))
    }

    fn new(
        ring: Rc<CoreRing>,
        fd: RawFd,
        events: libc::c_short,
        low_water: Option<libc::c_int>,
    ) -> Readiness {
        Readiness { ring, fd, events: events as u32, watch: Cell::new(None), low_water: Cell::new(low_water) }
    }

    /// Ready when the kernel has said since the last time that it is; one task at a time.
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_for(cx, 1)
    }

    /// As `poll`, for a reader that can do nothing with less than `bytes`: it need not wake up for each of many pieces. A
    /// socket at its end is ready too. Now and then it is ready with less.
    pub(super) fn poll_for(&self, cx: &mut Context<'_>, bytes: usize) -> Poll<()> {
        let mut inner = self.ring.inner.borrow_mut();
        let Some(slot) = self.watch.get() else {
            let wanted = inner.low_water(bytes);
            let is_new = self.low_water.replace(Some(wanted)) != Some(wanted);
            let slot = inner.watch(self.fd, self.events, is_new.then_some(wanted), cx.waker().clone());
            self.watch.set(Some(slot));
            return Poll::Pending;
        };
        if inner.take_fired(slot, cx.waker()) {
            self.watch.set(None);
            return Poll::Ready(());
        }
        Poll::Pending
    }
}

impl Drop for Readiness {
    fn drop(&mut self) {
        if let Some(slot) = self.watch.get() {
            self.ring.inner.borrow_mut().abandon(slot);
        }
    }
}

#[cfg(test)]
#[path = "ring/tests.rs"]
pub(crate) mod tests;
