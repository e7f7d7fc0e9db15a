//! Wiring: the directory, recovery, the cores and their threads, from start to exit code.
//!
//! `kraft-server` calls `run` with a checked configuration and ends with its exit code. Nothing here knows Kafka or
//! Raft: the replica decides, `io` executes, and this module connects the two.

pub mod cli;
pub mod control;
pub mod doors;
pub mod inputs;
pub mod inspectors;
pub mod logging;
pub mod mesh;
pub mod network_core;
pub mod output;
pub mod peer_links;
pub mod placement;
pub mod replica_core;
pub mod request_sink;
pub mod signals;
mod start;

pub use start::{run, thread_refused};
