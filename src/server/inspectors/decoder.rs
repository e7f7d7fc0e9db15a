//! The thread that decodes large requests.
//!
//! Whoever asks for much at once has a small part of it: very large requests have one part of the time in so many, because
//! the processor that they would take is often the one that others need.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use crate::io::{clock, scheduling};
use crate::replica::ConnectionId;
use crate::replica::session::LargeFrame;
use crate::server::mesh::{CoreSender, ToNetwork};

/// Of the time very large requests have one part in so many.
const PARTS: u32 = 48;
/// None of them waits longer for the time that the one before took.
const PAUSE_MAX: Duration = Duration::from_secs(1);

pub(super) type Frame = (ConnectionId, LargeFrame);

/// Until nobody can send any more.
pub(crate) fn run(frames: Receiver<Frame>, cores: Vec<CoreSender>) {
    scheduling::be_last();
    let mut very_large = VecDeque::new();
    let mut due = Instant::now();
    loop {
        let next = match very_large.is_empty() {
            true => frames.recv().map_err(|_| RecvTimeoutError::Disconnected),
            false => frames.recv_timeout(due.saturating_duration_since(Instant::now())),
        };
        match next {
            Ok(frame) if frame.1.is_very_large() && !frame.1.is_unwanted() => very_large.push_back(frame),
            Ok(frame) => decode(frame, &cores),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        // Who is gone has no part in the time, and keeps no memory.
        while very_large.front().is_some_and(|frame| frame.1.is_unwanted())
            && let Some(frame) = very_large.pop_front()
        {
            decode(frame, &cores);
        }
        if Instant::now() >= due
            && let Some(frame) = very_large.pop_front()
        {
            // What it had of a processor, and not how long it waited for one: only that is taken from somebody.
            let before_ns = clock::thread_ns();
            decode(frame, &cores);
            let taken = Duration::from_nanos(clock::thread_ns().saturating_sub(before_ns));
            due = Instant::now() + (taken * (PARTS - 1)).min(PAUSE_MAX);
        }
    }
}

fn decode((connection, frame): Frame, cores: &[CoreSender]) {
    let decoded = frame.decode();
    if let Some(core) = cores.get(connection.core()) {
        core.send(ToNetwork::Decoded(connection, Box::new(decoded)));
    }
}

pub(super) fn start(frames: Receiver<Frame>, cores: &[CoreSender]) -> std::io::Result<()> {
    let cores = cores.to_vec();
    thread::Builder::new().name("decoder".into()).spawn(move || run(frames, cores)).map(|_| ())
}
