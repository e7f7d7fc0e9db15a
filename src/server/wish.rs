//! What a node is asked for from outside of its cores: to stop in good order, or to end at once.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};

use crate::io::doorbell::Doorbell;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// Hand over, flush, cut.
    Stop = 1,
    /// As if the process were killed.
    End = 2,
}

/// The replica core looks after its doorbell has rung. The strongest wish counts, and one that came before the core did waits.
#[derive(Clone, Default)]
pub(super) struct Wishes {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    strongest: AtomicU8,
    doorbell: OnceLock<Doorbell>,
}

impl Wishes {
    pub(super) fn hand_to(&self, doorbell: Doorbell) {
        // There is one core to hand to.
        let _ = self.inner.doorbell.set(doorbell);
    }

    pub(super) fn ask(&self, wish: Wish) {
        self.inner.strongest.fetch_max(wish as u8, Ordering::SeqCst);
        if let Some(doorbell) = self.inner.doorbell.get() {
            doorbell.ring();
        }
    }

    pub(super) fn is(&self, wish: Wish) -> bool {
        self.inner.strongest.load(Ordering::SeqCst) >= wish as u8
    }
}
