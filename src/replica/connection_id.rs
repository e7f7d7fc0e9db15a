//! How a client's connection is named.

/// A client connection, named by the server; never reused in a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnectionId(pub u64);

impl ConnectionId {
    const CORE_SHIFT: u32 = 48;

    /// The `number`-th connection of a core, whose number is in the upper bits.
    pub(crate) fn new(core: usize, number: u64) -> ConnectionId {
        ConnectionId((core as u64) << ConnectionId::CORE_SHIFT | number)
    }

    /// The core that has its socket.
    pub(crate) fn core(self) -> usize {
        (self.0 >> ConnectionId::CORE_SHIFT) as usize
    }
}
