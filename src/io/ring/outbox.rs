//! Sending through the ring: what a turn has for its sockets goes with the one call that the turn makes anyway.
//!
//! A send takes what the socket has room for and never waits in the kernel, and only one that did not take everything, or
//! that a task waits for, says so. So a core is not woken by its own sends, and when the kernel has all entries and nothing
//! was said of one, all of it is sent. What did not fit waits for room, behind it whatever is pushed meanwhile.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::task::Waker;

use bytes::{Buf, Bytes};
use io_uring::{opcode, squeue, types};

use super::{CoreRing, Inner, ROOM, SEND, user_data};

/// Chunks given to the kernel in one send.
const CHUNKS_PER_SEND: usize = 64;

/// What is to be sent on one socket, in order. The socket stays open until the ring has no entry of it.
pub(crate) struct Outbox {
    ring: Rc<CoreRing>,
    socket: Rc<OwnedFd>,
    state: RefCell<State>,
}

struct State {
    stage: Stage,
    chunks: VecDeque<Bytes>,
    unsent_bytes: usize,
    /// Since `take_sent`.
    sent_bytes: usize,
    /// What the kernel reads of the send under way: neither moves nor changes before it has the entry.
    vectors: Vec<libc::iovec>,
    message: Box<libc::msghdr>,
    /// Of the send under way, if it said anything.
    result: Option<i32>,
    waker: Option<Waker>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Idle,
    /// The ring has a send of the first so many bytes.
    Queued(usize),
    /// The socket takes nothing: the kernel says when it does.
    Full,
    /// The connection is gone.
    Over,
}

/// The outboxes that the ring has entries of.
#[derive(Default)]
pub(super) struct Sends {
    slots: Vec<Option<Rc<Outbox>>>,
    free: Vec<usize>,
    /// Slots whose sends the kernel may not have yet.
    queued: Vec<usize>,
}

impl Sends {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.len() == self.free.len()
    }
}

impl Outbox {
    pub(crate) fn new(ring: Rc<CoreRing>, socket: Rc<OwnedFd>) -> Rc<Outbox> {
        // SAFETY: all zeros is a valid msghdr.
        let message = Box::new(unsafe { std::mem::zeroed() });
        let state = State {
            stage: Stage::Idle,
            chunks: VecDeque::new(),
            unsent_bytes: 0,
            sent_bytes: 0,
            vectors: Vec::new(),
            message,
            result: None,
            waker: None,
        };
        Rc::new(Outbox { ring, socket, state: RefCell::new(state) })
    }

    pub(crate) fn push(&self, chunk: Bytes) {
        let mut state = self.state.borrow_mut();
        if chunk.is_empty() || state.stage == Stage::Over {
            return;
        }
        state.unsent_bytes += chunk.len();
        state.chunks.push_back(chunk);
    }

    /// Give the ring what was pushed. The kernel gets it with the ring's next call.
    pub(crate) fn send(self: &Rc<Self>) {
        self.hand_over();
        if self.state.borrow().is_sendable() {
            self.ring.inner.borrow_mut().queue_send(self.clone());
        }
    }

    /// See that the kernel has the send that the ring was given, if there is one.
    fn hand_over(&self) {
        if matches!(self.state.borrow().stage, Stage::Queued(_)) {
            // A ring that is broken says so when its core waits.
            let _ = self.ring.submit();
        }
    }

    pub(crate) fn unsent_bytes(&self) -> usize {
        self.state.borrow().unsent_bytes
    }

    /// Bytes that the kernel has taken since the last time.
    pub(crate) fn take_sent(&self) -> usize {
        std::mem::take(&mut self.state.borrow_mut().sent_bytes)
    }

    /// Wake this task when a send has ended, be it one that the ring has already.
    pub(crate) fn wake_when_sent(&self, waker: &Waker) {
        self.state.borrow_mut().waker = Some(waker.clone());
        self.hand_over();
    }

    /// The other side does not read what is sent.
    pub(crate) fn is_full(&self) -> bool {
        self.state.borrow().stage == Stage::Full
    }

    /// End both directions, after what was given to the ring, as far as there is room for it.
    pub(crate) fn shut_down(&self) {
        self.hand_over();
        shut_down(&self.socket);
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }
}

impl Inner {
    fn queue_send(&mut self, outbox: Rc<Outbox>) {
        let slot = self.sends.free.pop().unwrap_or_else(|| {
            self.sends.slots.push(None);
            self.sends.slots.len() - 1
        });
        self.start_send(slot, &outbox);
        self.sends.slots[slot] = Some(outbox);
    }

    fn start_send(&mut self, slot: usize, outbox: &Outbox) {
        let entry = outbox.state.borrow_mut().start(outbox.fd());
        self.push(entry.user_data(user_data(SEND, slot)));
        self.sends.queued.push(slot);
    }

    /// What a send says that did not take everything, or that somebody waits for.
    pub(super) fn complete_send(&mut self, slot: usize, result: i32) {
        if let Some(outbox) = &self.sends.slots[slot] {
            outbox.state.borrow_mut().result = Some(result);
        }
    }

    /// The socket has room again, or is gone.
    pub(super) fn complete_room(&mut self, slot: usize) {
        if let Some(outbox) = self.sends.slots[slot].take() {
            self.start_send(slot, &outbox);
            self.sends.slots[slot] = Some(outbox);
        }
    }

    /// Once the kernel has had all entries, and everything that it said of them was taken.
    pub(super) fn settle_sends(&mut self) {
        if self.sends.queued.is_empty() || !self.is_all_submitted() {
            return;
        }
        // What is sent next comes behind them.
        let had = self.sends.queued.len();
        for at in 0..had {
            self.settle_send(self.sends.queued[at]);
        }
        self.sends.queued.drain(..had);
    }

    fn settle_send(&mut self, slot: usize) {
        let Some(outbox) = self.sends.slots[slot].take() else { return };
        let mut state = outbox.state.borrow_mut();
        state.settle(&outbox.socket);
        self.woken.extend(state.waker.take());
        let (is_full, is_sendable) = (state.stage == Stage::Full, state.is_sendable());
        drop(state);
        match (is_full, is_sendable) {
            (true, _) => {
                let poll = opcode::PollAdd::new(types::Fd(outbox.fd()), libc::POLLOUT as u32).build();
                self.push(poll.user_data(user_data(ROOM, slot)));
            }
            (_, true) => self.start_send(slot, &outbox),
            _ => return self.sends.free.push(slot),
        }
        self.sends.slots[slot] = Some(outbox);
    }
}

impl State {
    fn is_sendable(&self) -> bool {
        self.stage == Stage::Idle && !self.chunks.is_empty()
    }

    /// An entry that sends the first chunks.
    fn start(&mut self, fd: RawFd) -> squeue::Entry {
        self.vectors.clear();
        let chunks = self.chunks.iter().take(CHUNKS_PER_SEND);
        self.vectors
            .extend(chunks.map(|c| libc::iovec { iov_base: c.as_ptr().cast_mut().cast(), iov_len: c.len() }));
        self.message.msg_iov = self.vectors.as_mut_ptr();
        self.message.msg_iovlen = self.vectors.len();
        self.stage = Stage::Queued(self.vectors.iter().map(|vector| vector.iov_len).sum());
        self.result = None;
        // With WAITALL less than everything is a failure, which is told, with the bytes that were taken.
        let flags = libc::MSG_DONTWAIT | libc::MSG_WAITALL | libc::MSG_NOSIGNAL;
        let send = opcode::SendMsg::new(types::Fd(fd), &raw const *self.message).flags(flags as u32).build();
        // The core must wake up for the rest, and for a task that waits.
        let is_silent = self.vectors.len() == self.chunks.len() && self.waker.is_none();
        if is_silent { send.flags(squeue::Flags::SKIP_SUCCESS) } else { send }
    }

    /// The kernel has had the send.
    fn settle(&mut self, socket: &OwnedFd) {
        let Stage::Queued(bytes) = self.stage else { return };
        let told = self.result.take();
        match told.map_or(Ok(bytes), |result| usize::try_from(result).map_err(|_| -result)) {
            Ok(sent) => {
                self.advance(sent);
                self.stage = if sent < bytes { Stage::Full } else { Stage::Idle };
            }
            Err(libc::EAGAIN) => self.stage = Stage::Full,
            Err(libc::EINTR) => self.stage = Stage::Idle,
            Err(_) => {
                self.stage = Stage::Over;
                self.chunks.clear();
                self.unsent_bytes = 0;
                // Whoever reads from it sees the end.
                shut_down(socket);
            }
        }
    }

    fn advance(&mut self, sent: usize) {
        self.sent_bytes += sent;
        self.unsent_bytes -= sent;
        let mut left = sent;
        while let Some(first) = self.chunks.front_mut() {
            if left < first.len() {
                return first.advance(left);
            }
            left -= first.len();
            self.chunks.pop_front();
        }
    }
}

fn shut_down(socket: &OwnedFd) {
    // SAFETY: no pointers.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_RDWR) };
}

#[cfg(test)]
#[path = "outbox_tests.rs"]
mod tests;
