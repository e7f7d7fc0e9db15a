//! Our connections to other voters, as the replica orders them: connect, send, close, and what comes back as inputs.
//!
//! For each connect exactly one close follows. What a link said before it was replaced is dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::inputs::Inputs;
use crate::io::connection::{Connection, Output};
use crate::io::peer;
use crate::io::ring::CoreRing;
use crate::protocol::frame::Chunks;
use crate::replica::{Input, PeerLink};
use crate::types::Endpoint;

/// Room made for answers at once; small ones share it.
const RECEIVE_BYTES: usize = 256 << 10;
/// With less than this left, new room is made.
const RECEIVE_BYTES_MIN: usize = 16 << 10;
/// An answer up to this size is received in one piece, about what a Fetch may bring; a larger one as it comes.
const GATHERED_BYTES_MAX: usize = 5 << 20;
const LENGTH_BYTES: usize = 4;

pub struct PeerLinks {
    inputs: Rc<Inputs>,
    ring: Rc<CoreRing>,
    connect_timeout: Duration,
    links: RefCell<HashMap<PeerLink, Rc<Link>>>,
    unsent: RefCell<Vec<Rc<Link>>>,
}

struct Link {
    name: PeerLink,
    /// Set once connected.
    connection: RefCell<Option<Rc<Connection>>>,
    output: RefCell<Output>,
    sending: Cell<bool>,
    /// Its close has been reported: nothing more is said about it.
    is_over: Cell<bool>,
}

impl PeerLinks {
    pub fn new(inputs: Rc<Inputs>, ring: Rc<CoreRing>, connect_timeout: Duration) -> Rc<PeerLinks> {
        let (links, unsent) = (RefCell::default(), RefCell::default());
        Rc::new(PeerLinks { inputs, ring, connect_timeout, links, unsent })
    }

    pub fn connect(self: &Rc<Self>, name: PeerLink, endpoint: Endpoint) {
        self.close(name);
        let link = Rc::new(Link {
            name,
            connection: RefCell::default(),
            output: RefCell::default(),
            sending: Cell::new(false),
            is_over: Cell::new(false),
        });
        self.links.borrow_mut().insert(name, link.clone());
        glommio::spawn_local(self.clone().run(link, endpoint)).detach();
    }

    async fn run(self: Rc<Self>, link: Rc<Link>, endpoint: Endpoint) {
        let mut is_refused = false;
        let why = match peer::connect(&endpoint, self.connect_timeout, &self.ring).await {
            Err(error) => {
                is_refused = error.kind() == ErrorKind::ConnectionRefused;
                format!("cannot connect to {endpoint}: {error}")
            }
            Ok(_) if link.is_over.get() => return,
            Ok(connection) => {
                let connection = Rc::new(connection);
                *link.connection.borrow_mut() = Some(connection.clone());
                self.inputs.push_voter(Input::PeerConnected { link: link.name });
                self.receive(&link, &connection).await
            }
        };
        self.end(&link, why, is_refused);
    }

    /// Until the connection ends. Returns why it did.
    async fn receive(&self, link: &Link, connection: &Connection) -> String {
        let mut incoming = Incoming::default();
        loop {
            match poll_fn(|cx| connection.poll_read(cx, incoming.room())).await {
                _ if link.is_over.get() => return String::new(),
                Ok(0) => return "the other side has closed it".into(),
                Ok(_) => {
                    if let Some(bytes) = incoming.take() {
                        self.inputs.push_voter(Input::PeerData { link: link.name, bytes });
                    }
                }
                Err(error) => return error.to_string(),
            }
        }
    }

    /// Queue for the end of the turn. For a link that is gone it is dropped; its close is on the way.
    pub fn send(&self, name: PeerLink, chunks: Chunks) {
        let links = self.links.borrow();
        let Some(link) = links.get(&name) else { return };
        let mut output = link.output.borrow_mut();
        if output.is_empty() {
            self.unsent.borrow_mut().push(link.clone());
        }
        chunks.into_iter().for_each(|chunk| output.push(chunk));
    }

    pub fn flush(&self) {
        let mut unsent = self.unsent.take();
        for link in unsent.drain(..) {
            let Some(connection) = link.connection.borrow().clone() else { continue };
            if link.sending.get() {
                continue;
            }
            let sent = connection.send_now(&mut link.output.borrow_mut());
            if sent.is_err() {
                connection.shut_down();
            } else if !link.output_is_empty() {
                link.sending.set(true);
                glommio::spawn_local(send_rest(link.clone(), connection)).detach();
            }
        }
        // Keep the allocation for the next turn. Sending queues nothing.
        self.unsent.replace(unsent);
    }

    pub fn close(&self, name: PeerLink) {
        let link = self.links.borrow().get(&name).cloned();
        if let Some(link) = link {
            self.end(&link, "closed by this node".into(), false);
        }
    }

    fn end(&self, link: &Rc<Link>, why: String, is_refused: bool) {
        if link.is_over.replace(true) {
            return;
        }
        self.links.borrow_mut().remove(&link.name);
        if let Some(connection) = link.connection.borrow_mut().take() {
            connection.shut_down();
        }
        self.inputs.push_voter(Input::PeerClosed { link: link.name, why, is_refused });
    }
}

/// Received bytes. Those of a frame are kept together until all of it is there, so that nobody has to copy its parts
/// into one piece.
#[derive(Default)]
struct Incoming {
    buffer: BytesMut,
    /// What is still to come of a frame that is too large to be kept together.
    passing: usize,
    /// Size of the last whole frame: room for another such one is made at once.
    frame_bytes: usize,
}

impl Incoming {
    fn room(&mut self) -> &mut BytesMut {
        let missing = match self.frame_at(0) {
            Some(frame_bytes) if frame_bytes <= GATHERED_BYTES_MAX => frame_bytes - self.buffer.len(),
            _ => 0,
        };
        if self.buffer.capacity() - self.buffer.len() < missing.max(RECEIVE_BYTES_MIN) {
            self.buffer.reserve(missing.max(self.frame_bytes).max(RECEIVE_BYTES));
        }
        &mut self.buffer
    }

    /// Whole frames, or of one that is too large whatever has come.
    fn take(&mut self) -> Option<Bytes> {
        let mut whole = self.passing.min(self.buffer.len());
        self.passing -= whole;
        while self.passing == 0
            && let Some(frame_bytes) = self.frame_at(whole)
        {
            let left = self.buffer.len() - whole;
            if frame_bytes > GATHERED_BYTES_MAX {
                (whole, self.passing) = (whole + left, frame_bytes.saturating_sub(left));
                break;
            }
            if frame_bytes > left {
                break;
            }
            (whole, self.frame_bytes) = (whole + frame_bytes, frame_bytes);
        }
        (whole > 0).then(|| self.buffer.split_to(whole).freeze())
    }

    /// Bytes of the frame that begins there, its length among them. A length that cannot be is the replica's to refuse.
    fn frame_at(&self, at: usize) -> Option<usize> {
        let length = self.buffer.get(at..)?.first_chunk::<LENGTH_BYTES>()?;
        let frame_bytes = usize::try_from(i32::from_be_bytes(*length)).unwrap_or(usize::MAX - LENGTH_BYTES);
        Some(LENGTH_BYTES + frame_bytes)
    }
}

impl Link {
    fn output_is_empty(&self) -> bool {
        self.output.borrow().is_empty()
    }
}

async fn send_rest(link: Rc<Link>, connection: Rc<Connection>) {
    while !link.output_is_empty() {
        if connection.drain_some(&link.output).await.is_err() {
            connection.shut_down();
            break;
        }
    }
    link.sending.set(false);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(bytes: usize, of: u8) -> Vec<u8> {
        [&(bytes as u32).to_be_bytes()[..], &vec![of; bytes]].concat()
    }

    fn take_all(stream: &[u8], piece_bytes: usize) -> Vec<Bytes> {
        let mut incoming = Incoming::default();
        let mut taken = Vec::new();
        for piece in stream.chunks(piece_bytes) {
            let room = incoming.room();
            assert!(room.capacity() - room.len() >= RECEIVE_BYTES_MIN.min(piece_bytes));
            room.extend_from_slice(piece);
            taken.extend(incoming.take());
        }
        assert!(incoming.buffer.is_empty() && incoming.passing == 0, "all of the stream was taken");
        taken
    }

    #[test]
    fn a_frame_comes_in_one_piece_wherever_it_was_cut() {
        let stream = [frame(10, 1), frame(0, 2), frame(300_000, 3), frame(9, 4)].concat();
        for piece_bytes in [1, 3, 4, 5, 14, 15, 4_096, 300_000, stream.len()] {
            let taken = take_all(&stream, piece_bytes);
            assert_eq!(taken.concat(), stream, "pieces of {piece_bytes}");
            for piece in taken {
                let mut at = 0;
                while at < piece.len() {
                    let length = piece[at..].first_chunk().map(|l| i32::from_be_bytes(*l)).expect("a length");
                    at += LENGTH_BYTES + length as usize;
                }
                assert_eq!(at, piece.len(), "a piece of {piece_bytes} ends within a frame");
            }
        }
    }

    #[test]
    fn a_frame_that_is_too_large_passes_as_it_comes() {
        let stream = [frame(7, 1), frame(GATHERED_BYTES_MAX, 2), frame(8, 3)].concat();
        let taken = take_all(&stream, 100_000);
        assert!(taken.len() > 50, "{} pieces", taken.len());
        assert!(taken.concat() == stream);
        assert_eq!(taken[0][..11], frame(7, 1)[..]);
    }

    #[test]
    fn a_length_that_cannot_be_is_handed_on() {
        let mut incoming = Incoming::default();
        incoming.room().extend_from_slice(&[0xff; 6]);
        assert_eq!(incoming.take().as_deref(), Some(&[0xff; 6][..]));
    }
}
