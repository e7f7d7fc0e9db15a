//! Our connections to other voters, as the replica orders them: connect, send, close, and what comes back as inputs.
//!
//! For each connect exactly one close follows. What a link said before it was replaced is dropped.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use super::inputs::Inputs;
use crate::io::connection::{Connection, Output};
use crate::io::peer;
use crate::io::ring::CoreRing;
use crate::protocol::frame::Chunks;
use crate::replica::receive::{ReceiveBuffer, Sender};
use crate::replica::receive_pool::ReceivePool;
use crate::replica::{Input, PeerLink};
use crate::types::Endpoint;

pub struct PeerLinks {
    inputs: Rc<Inputs>,
    ring: Rc<CoreRing>,
    pool: Rc<RefCell<ReceivePool>>,
    connect_timeout: Duration,
    /// Largest answer.
    frame_bytes_max: usize,
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
    pub fn new(
        inputs: Rc<Inputs>,
        ring: Rc<CoreRing>,
        pool: Rc<RefCell<ReceivePool>>,
        connect_timeout: Duration,
        frame_bytes_max: usize,
    ) -> Rc<PeerLinks> {
        let (links, unsent) = (RefCell::default(), RefCell::default());
        Rc::new(PeerLinks { inputs, ring, pool, connect_timeout, frame_bytes_max, links, unsent })
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
                format!("{endpoint}: {}", self.receive(&link, &connection).await)
            }
        };
        self.end(&link, why, is_refused);
    }

    /// Until the connection ends. Returns why it did.
    async fn receive(&self, link: &Link, connection: &Connection) -> String {
        let mut received = ReceiveBuffer::new(Sender::Voter);
        loop {
            let awaited = received.missing_bytes();
            let read =
                poll_fn(|cx| connection.poll_read(cx, received.room(&mut self.pool.borrow_mut()), awaited));
            match read.await {
                _ if link.is_over.get() => return String::new(),
                Ok(0) => return "the other side has closed it".into(),
                Ok(_) => {}
                Err(error) => return error.to_string(),
            }
            loop {
                match received.next_frame(self.frame_bytes_max) {
                    Ok(Some(frame)) => self.inputs.push_voter(Input::PeerFrame { link: link.name, frame }),
                    Ok(None) => break,
                    Err(why) => return why.to_string(),
                }
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
