//! One connection of a core: its socket, its session, and what it may have.

use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::io::clock;
use crate::io::connection::Connection;
use crate::io::ring::CoreRing;
use crate::protocol::{FrameError, Request, Response};
use crate::replica::ConnectionId;
use crate::replica::admit::Admitted;
use crate::replica::receive_pool::ReceivePool;
use crate::replica::room::answers::{Share, Unsent};
use crate::replica::room::frames::Hold;
use crate::replica::room::places::Activity;
use crate::replica::room::turns::Turn;
use crate::replica::session::{DecodedRequest, Session};
use crate::server::doors::Place;
use crate::server::inputs::ClientRequest;
use crate::server::mesh::Standing;

/// Boxed: few connections have one.
pub(super) type Decoded = Box<Result<DecodedRequest, FrameError>>;

pub(super) struct Client {
    pub(crate) id: ConnectionId,
    pub(crate) remote: SocketAddr,
    // It goes before the socket.
    pub(crate) place: RefCell<Option<Place>>,
    pub(crate) connection: Connection,
    pub(crate) ring: Rc<CoreRing>,
    pub(crate) standing: Cell<Standing>,
    pub(crate) turn: Cell<Turn>,
    /// Before the clients, as long as nobody knows what it is.
    pub(crate) steps_left: Cell<u8>,
    pub(crate) hold: RefCell<Hold>,
    pub(crate) session: RefCell<Session>,
    /// The reading task, when it waits for anything but bytes.
    pub(crate) waker: RefCell<Option<Waker>>,
    /// All that it waits for are bytes from the other side.
    pub(super) awaits_bytes: Cell<bool>,
    /// It has closed its side, which was noticed while nothing was read from it.
    pub(crate) has_left: Cell<bool>,
    /// That has been looked for, and what is unread still counts.
    pub(super) end_seen: Cell<bool>,
    /// Why it is being closed, once it is.
    pub(crate) closing: RefCell<Option<String>>,
    /// For its silence alone.
    pub(super) is_idle: Cell<bool>,
    pub(crate) answered: Cell<bool>,
    pub(crate) is_held_back: Cell<bool>,
    /// It has sent Produce: it waits while the replica is full.
    pub(crate) produces: Cell<bool>,
    /// Its request whose compressed batches have been judged.
    pub(super) inspected: RefCell<Option<ClientRequest>>,
    pub(crate) decoded: RefCell<Option<Decoded>>,
    /// A large request of it waits to be decoded.
    pub(super) is_decoding: Cell<bool>,
    pub(crate) received_ns: Cell<u64>,
    /// Bytes moved last, in either direction.
    pub(super) active_ns: Cell<u64>,
    /// What it has not taken, and whose bytes those are; nobody's once it is being closed.
    pub(crate) unsent: Cell<Unsent>,
    pub(crate) share: RefCell<Option<Arc<Share>>>,
}

impl Client {
    /// Something has come, or enough of what is awaited. It stays in the socket until it is this connection's turn.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>, pool: &RefCell<ReceivePool>) -> Poll<()> {
        if self.is_closing() {
            return Poll::Ready(());
        }
        let mut session = self.session.borrow_mut();
        let awaited = session.awaited_bytes();
        let room = session.receive_buffer(&mut pool.borrow_mut());
        self.connection.poll_readable(cx, awaited.min(room.capacity() - room.len()))
    }

    /// 0: it ends.
    pub(crate) fn read(&self, pool: &RefCell<ReceivePool>, bytes_max: usize) -> io::Result<usize> {
        if self.is_closing() {
            return Ok(0);
        }
        let mut session = self.session.borrow_mut();
        self.connection.read(session.receive_buffer(&mut pool.borrow_mut()), bytes_max)
    }

    /// What it sends says what it is. False: there is no place for it.
    pub(crate) fn show(&self, request: &Admitted) -> bool {
        let standing = match request {
            _ if self.session.borrow().is_peer() => Standing::Peer,
            Admitted::Other(Request::ApiVersions(_) | Request::ApiVersionsUnsupported) => return true,
            _ => Standing::Client,
        };
        // Who is one of them stays it; a client may still show that it is a peer.
        let is_news = match self.standing.get() {
            Standing::Unknown => true,
            Standing::Client => standing == Standing::Peer,
            Standing::Peer | Standing::Voter => false,
        };
        let place = self.place.borrow();
        let (true, Some(place)) = (is_news, &*place) else { return true };
        let voter = self.session.borrow().peer_id().filter(|_| standing == Standing::Peer);
        // Until now nobody has told what was read. Who claims late has not been a silent voter before.
        place.activity().note_read(self.received_ns.get());
        let shown = place.show(voter);
        if shown == Some(true) {
            self.session.borrow_mut().hold_to_voters();
        }
        self.standing.set(if shown == Some(true) { Standing::Voter } else { standing });
        shown.is_some()
    }

    /// It holds a voter's place.
    pub(crate) fn is_voter(&self) -> bool {
        self.standing.get() == Standing::Voter
    }

    /// It waits for us.
    pub(super) fn is_busy(&self) -> bool {
        self.is_decoding.get() || self.session.borrow().requests_under_way() > 0
    }

    /// It has not shown what it is, and may be a voter's.
    pub(crate) fn is_newcomer(&self) -> bool {
        self.standing.get() == Standing::Unknown && self.steps_left.get() > 0
    }

    pub(super) fn with_turn<T>(&self, change: impl FnOnce(&mut Turn) -> T) -> T {
        let mut turn = self.turn.get();
        let result = change(&mut turn);
        self.turn.set(turn);
        result
    }

    pub(super) fn on_received(&self) {
        let now_ns = clock::monotonic_ns();
        self.received_ns.set(now_ns);
        self.active_ns.set(now_ns);
        self.with_activity(|activity| activity.note_read(now_ns));
    }

    /// It has sent a request that is handed on.
    pub(super) fn on_asked(&self) {
        self.with_activity(Activity::note_asked);
    }

    pub(crate) fn on_answered(&self) {
        self.with_activity(|activity| {
            activity.note_answered(self.session.borrow().requests_under_way() > 0);
        });
    }

    /// It was a voter's, and had to go.
    pub(crate) fn gives_way(&self) -> bool {
        self.is_voter() && self.place.borrow().as_ref().is_some_and(|place| place.activity().gives_way())
    }

    /// Of a voter's: it has to keep its place.
    fn with_activity(&self, note: impl FnOnce(&Activity)) {
        if self.is_voter()
            && let Some(place) = &*self.place.borrow()
        {
            note(place.activity());
        }
    }

    /// `from_device`: so many of its bytes are slices of what the device was read for.
    pub(crate) fn answer(
        &self,
        seq: u64,
        response: Option<Response>,
        from_device: usize,
    ) -> Result<(), FrameError> {
        let mut session = self.session.borrow_mut();
        let before = session.output_bytes();
        let answered = session.answer(seq, response);
        self.count_unsent(before, session.output_bytes(), from_device);
        answered
    }

    pub(crate) fn send(&self) {
        let mut session = self.session.borrow_mut();
        while let Some(chunk) = session.poll_output() {
            self.connection.push(chunk);
        }
        self.connection.send();
    }

    /// What the kernel has taken of the answers.
    pub(crate) fn note_sent(&self) {
        let sent = self.connection.take_sent();
        if sent > 0 {
            let mut session = self.session.borrow_mut();
            let before = session.output_bytes();
            session.sent(sent);
            self.count_unsent(before, session.output_bytes(), 0);
            self.active_ns.set(clock::monotonic_ns());
        }
    }

    /// What its session has encoded and not sent has changed: it is counted for it, and for all.
    fn count_unsent(&self, before: usize, after: usize, from_device: usize) {
        let (mut unsent, now_ns) = (self.unsent.get(), clock::monotonic_ns());
        match after.cmp(&before) {
            Ordering::Less => {
                let from_device = unsent.take(before - after, now_ns);
                self.share.borrow().iter().for_each(|share| share.take_back(before - after, from_device));
            }
            Ordering::Equal => {}
            Ordering::Greater => {
                let from_device = from_device.min(after - before);
                unsent.push(after - before, from_device, now_ns);
                self.share.borrow().iter().for_each(|share| share.add(after - before, from_device));
            }
        }
        self.unsent.set(unsent);
    }

    /// Nobody has to wait for what it has not taken any more.
    pub(super) fn leave_share(&self) {
        if let Some(share) = self.share.take() {
            share.take_back(self.session.borrow().output_bytes(), self.unsent.get().device_bytes());
        }
    }

    /// From now on what it has not taken counts there.
    pub(super) fn join_share(&self, share: &Arc<Share>) {
        self.leave_share();
        share.add(self.session.borrow().output_bytes(), self.unsent.get().device_bytes());
        *self.share.borrow_mut() = Some(share.clone());
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.has_left.get() || self.closing.borrow().is_some()
    }

    /// Nobody reads from a client that has enough under way: so its end is listened for. A producer that has sent all that it
    /// wanted to may be gone before we have read it; what others have sent, nobody waits for any more.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> bool {
        if !self.end_seen.get() && self.connection.poll_end(cx).is_ready() {
            self.end_seen.set(true);
            self.has_left.set(!self.produces.get() || self.connection.unread_bytes() == 0);
        }
        self.has_left.get()
    }

    /// Also when there is room in its socket, where it needs some.
    pub(crate) fn wake_with(&self, waker: &Waker) {
        if self.connection.unsent_bytes() > 0 {
            self.connection.wake_when_sent(waker);
        }
        *self.waker.borrow_mut() = Some(waker.clone());
    }

    pub(super) fn drop_waker(&self) {
        self.waker.borrow_mut().take();
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
            self.ring.note_woken();
        }
    }
}
