//! Who may have how much of a node, so that no client's bytes, requests or connections cost a voter its vote.
//!
//! Asked by `server` (and by the simulator) before it accepts, reads or hands on. Pure: it decides and counts, and is told
//! the time. Each core has its own `Turns`, `Frames` and `Share` of answers; `Places` and `Reads` are the node's. `limits` says how
//! much of each the configuration gives, `gauges` and `taken` what is taken. The argument why nobody waits for ever is in docs/design/room.md,
//! the figures in docs/limits.md.

pub(crate) mod ahead;
pub(crate) mod answers;
pub(crate) mod cache;
pub(crate) mod frames;
pub(crate) mod gauges;
pub(crate) mod limits;
pub(crate) mod lines;
mod mixture;
pub(crate) mod places;
pub(crate) mod reads;
pub(crate) mod taken;
pub(crate) mod turns;
