//! Our connections to other voters, as the replica orders them: connect, send, close, and what comes back as inputs.
//!
//! For each connect exactly one close follows. What a link said before it was replaced is dropped.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, HashMap};
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use std::time::Duration;

use super::inputs::Inputs;
use crate::io::connection::Connection;
use crate::io::executor;
use crate::io::peer::{self, FirstAddress};
use crate::io::ring::CoreRing;
use crate::protocol::frame::Chunks;
use crate::replica::receive::{ReceiveBuffer, Sender};
use crate::replica::receive_pool::ReceivePool;
use crate::replica::{Input, PeerLink};
use crate::types::{Endpoint, LatencyBuckets};

/// Of so many endpoints it is known which address to try first; more than any quorum has.
const ENDPOINTS_MAX: usize = 256;

pub(super) struct PeerLinks {
    inputs: Rc<Inputs>,
    ring: Rc<CoreRing>,
    pool: Rc<RefCell<ReceivePool>>,
    connect_timeout: Duration,
    /// Largest answer.
    frame_bytes_max: usize,
    links: RefCell<HashMap<PeerLink, Rc<Link>>>,
    /// By endpoint.
    first_addresses: RefCell<HashMap<String, FirstAddress>>,
    /// Connections with something to send at the end of the turn.
    unsent: RefCell<Vec<Rc<Connection>>>,
    /// By voter, for as long as it was connected.
    round_trips: RefCell<BTreeMap<i32, LatencyBuckets>>,
}

struct Link {
    name: PeerLink,
    /// Set once connected.
    connection: RefCell<Option<Rc<Connection>>>,
    /// Its close has been reported: nothing more is said about it.
    is_over: Cell<bool>,
}

impl PeerLinks {
    pub(super) fn new(
        inputs: Rc<Inputs>,
        ring: Rc<CoreRing>,
        pool: Rc<RefCell<ReceivePool>>,
        connect_timeout: Duration,
        frame_bytes_max: usize,
    ) -> Rc<PeerLinks> {
        Rc::new(PeerLinks {
            inputs,
            ring,
            pool,
            connect_timeout,
            frame_bytes_max,
            links: RefCell::default(),
            first_addresses: RefCell::default(),
            unsent: RefCell::default(),
            round_trips: RefCell::default(),
        })
    }

    /// Ask the kernel how far away the voters are that this node has connections to: now and then, not in a turn.
    pub(super) fn sample_round_trips(&self) {
        let mut round_trips = self.round_trips.borrow_mut();
        for link in self.links.borrow().values() {
            let connection = link.connection.borrow();
            if let Some(ns) = connection.as_ref().and_then(|connection| connection.round_trip_ns()) {
                round_trips.entry(link.name.node.0).or_default().record(ns);
            }
        }
    }

    /// What was sampled since the start.
    pub(super) fn round_trips(&self) -> Vec<(i32, LatencyBuckets)> {
        self.round_trips.borrow().iter().map(|(node, buckets)| (*node, *buckets)).collect()
    }

    pub(super) fn connect(self: &Rc<Self>, name: PeerLink, endpoint: Endpoint) {
        self.close(name);
        let link = Rc::new(Link { name, connection: RefCell::default(), is_over: Cell::new(false) });
        self.links.borrow_mut().insert(name, link.clone());
        executor::spawn(self.clone().run(link, endpoint));
    }

    async fn run(self: Rc<Self>, link: Rc<Link>, endpoint: Endpoint) {
        let mut is_refused = false;
        let first = self.first_address(&endpoint);
        let is_wanted = || !link.is_over.get();
        let why = match peer::connect(&endpoint, self.connect_timeout, &self.ring, &first, is_wanted).await {
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

    fn first_address(&self, endpoint: &Endpoint) -> FirstAddress {
        let mut known = self.first_addresses.borrow_mut();
        if known.len() >= ENDPOINTS_MAX {
            known.clear();
        }
        known.entry(endpoint.to_string()).or_default().clone()
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
                    Err(why) => {
                        return format!(
                            "{why} (an answer of a voter may be as large as message.max.bytes and \
                             controller.quorum.fetch.max.bytes of this node: give all nodes the same)"
                        );
                    }
                }
            }
        }
    }

    /// Queue for the end of the turn. For a link that is gone it is dropped; its close is on the way.
    pub(super) fn send(&self, name: PeerLink, chunks: Chunks) {
        let links = self.links.borrow();
        let Some(connection) = links.get(&name).and_then(|link| link.connection.borrow().clone()) else {
            return;
        };
        chunks.into_iter().for_each(|chunk| connection.push(chunk));
        self.unsent.borrow_mut().push(connection);
    }

    /// Send what the turn has queued, with the ring's next call. False: there was nothing.
    pub(super) fn flush(&self) -> bool {
        let mut unsent = self.unsent.borrow_mut();
        let is_some = !unsent.is_empty();
        unsent.drain(..).for_each(|connection| connection.send());
        is_some
    }

    pub(super) fn close(&self, name: PeerLink) {
        let link = self.links.borrow().get(&name).cloned();
        if let Some(link) = link {
            self.end(&link, "closed by this node".into(), false);
        }
    }

    pub(super) fn close_all(&self) {
        let names: Vec<_> = self.links.borrow().keys().copied().collect();
        names.into_iter().for_each(|name| self.close(name));
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
