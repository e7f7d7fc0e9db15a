//! What a core has sent on to the replica, and the replica has not taken.

use std::collections::VecDeque;

use crate::replica::ConnectionId;

/// Requests for many things are many times as large as they came. While so much of them waits for the replica only what costs
/// little is sent on: the largest keeps nobody else from asking.
/// And nothing any more above `HEAVY_HANDED_BYTES_MAX`.
pub(super) const COSTLY_HANDED_BYTES_MAX: usize = 2 << 20;

/// The clients' requests that went to the replica, which takes them in this order.
#[derive(Default)]
pub(super) struct Handed {
    pub(super) count: u64,
    pub(super) taken: u64,
    /// Those whose memory is to be given back when they are taken.
    pub(super) large: VecDeque<HandedLarge>,
    /// What the requests for many things take, until the replica has them and counts them itself.
    pub(super) heavy_bytes: usize,
}

pub(super) struct HandedLarge {
    /// In the order.
    pub(super) place: u64,
    pub(super) connection: ConnectionId,
    pub(super) seq: u64,
    pub(super) heavy_bytes: usize,
}
