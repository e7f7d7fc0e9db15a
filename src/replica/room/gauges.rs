//! What is taken of one core's room, as it tells once a second for those who watch the node (`taken`).

use super::frames::Frames;
use super::turns::Turns;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Of one core.
#[derive(Debug, Default)]
pub(crate) struct CoreGauges {
    pub(super) large_bytes: AtomicUsize,
    pub(super) large_wanted_bytes: AtomicUsize,
    pub(super) wait_for_memory: AtomicUsize,
    pub(super) wait_for_turn: AtomicUsize,
    pub(super) heavy_handed_bytes: AtomicUsize,
}

impl CoreGauges {
    /// `heavy_handed_bytes`: of requests for many things on their way to the replica.
    pub(crate) fn publish(&self, frames: &Frames, turns: &Turns, heavy_handed_bytes: usize) {
        let (wait_for_memory, wanted_bytes) = frames.waiting();
        self.large_bytes.store(frames.used_bytes(), Ordering::Relaxed);
        self.large_wanted_bytes.store(wanted_bytes, Ordering::Relaxed);
        self.wait_for_memory.store(wait_for_memory, Ordering::Relaxed);
        self.wait_for_turn.store(turns.waiting(), Ordering::Relaxed);
        self.heavy_handed_bytes.store(heavy_handed_bytes, Ordering::Relaxed);
    }
}
