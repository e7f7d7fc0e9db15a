//! Wiring: the directory, recovery, the cores and their threads, from start to exit code.
//!
//! `kraft-server` calls `run` with a checked configuration and ends with its exit code. Nothing here knows Kafka or
//! Raft: the replica decides, `io` executes, and this module connects the two.

pub mod cli;
pub mod control;
mod copying;
mod doors;
pub(crate) mod inputs;
mod inspectors;
mod lanes;
mod life;
pub mod logging;
mod mesh;
mod network_core;
mod node;
pub mod output;
mod peer_links;
mod placement;
mod replica_core;
mod request_sink;
pub mod signals;
mod start;
mod wish;

pub use node::Node;
pub use replica_core::Ended;
pub use start::{run, thread_refused};
