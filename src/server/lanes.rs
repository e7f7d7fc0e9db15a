//! What crosses between two cores, whatever it says: a queue with a doorbell behind it, and the credits that bound it.
//!
//! Nothing here knows a request, so `tests/models` can run these very lines in every order in which threads may take them.

use std::cell::Cell;

use crate::io::doorbell::Doorbell;
use crate::io::sync::{Receiver, Sender, channel};

/// A way to a core for other threads: put, then ring. Cheap to clone.
pub(super) struct Lane<T> {
    sender: Sender<T>,
    doorbell: Doorbell,
}

impl<T> Clone for Lane<T> {
    fn clone(&self) -> Lane<T> {
        Lane { sender: self.sender.clone(), doorbell: self.doorbell.clone() }
    }
}

impl<T> Lane<T> {
    /// `doorbell` is that of the core to which it leads.
    pub(super) fn new(doorbell: Doorbell) -> (Lane<T>, Receiver<T>) {
        let (sender, receiver) = channel();
        (Lane { sender, doorbell }, receiver)
    }

    /// Without ringing, for many in a row.
    pub(super) fn put(&self, message: T) {
        // A core that is gone has nobody to tell: its node has ended, or ends.
        let _ = self.sender.send(message);
    }

    pub(super) fn ring(&self) {
        self.doorbell.ring();
    }

    pub(super) fn send(&self, message: T) {
        self.put(message);
        self.ring();
    }
}

/// The end of an edge that asks: some of its messages need a credit, which comes back when they have been taken.
pub(super) struct Asking<T> {
    lane: Lane<T>,
    credits: Cell<usize>,
}

impl<T> Asking<T> {
    pub(super) fn new(doorbell: Doorbell, credits: usize) -> (Asking<T>, Receiver<T>) {
        let (lane, receiver) = Lane::new(doorbell);
        (Asking { lane, credits: Cell::new(credits) }, receiver)
    }

    pub(super) fn credits(&self) -> usize {
        self.credits.get()
    }

    /// Takes a credit; the caller has looked that there is one.
    pub(super) fn ask(&self, message: T) {
        self.credits.set(self.credits.get() - 1);
        self.lane.send(message);
    }

    /// What needs no credit.
    pub(super) fn tell(&self, message: T) {
        self.lane.send(message);
    }

    pub(super) fn on_taken(&self, messages: usize) {
        self.credits.set(self.credits.get() + messages);
    }
}

/// The end that is asked: what it puts and takes in a turn is told at the turn's end, with one ring.
pub(super) struct Asked<In, Out> {
    pub(super) receiver: Receiver<In>,
    lane: Lane<Out>,
    /// Something was put or taken in this turn.
    is_dirty: bool,
    /// Messages with a credit that were taken in this turn.
    taken: usize,
}

impl<In, Out> Asked<In, Out> {
    pub(super) fn new(receiver: Receiver<In>, lane: Lane<Out>) -> Asked<In, Out> {
        Asked { receiver, lane, is_dirty: false, taken: 0 }
    }

    pub(super) fn lane(&self) -> &Lane<Out> {
        &self.lane
    }

    pub(super) fn put(&mut self, message: Out) {
        self.lane.put(message);
        self.is_dirty = true;
    }

    pub(super) fn note_taken(&mut self) {
        self.taken += 1;
        self.is_dirty = true;
    }

    /// `taken` makes the message that gives so many credits back.
    pub(super) fn end_turn(&mut self, taken: impl FnOnce(usize) -> Out) {
        if !std::mem::take(&mut self.is_dirty) {
            return;
        }
        if self.taken > 0 {
            self.lane.put(taken(std::mem::take(&mut self.taken)));
        }
        self.lane.ring();
    }
}
