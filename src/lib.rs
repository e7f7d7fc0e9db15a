#![doc = include_str!("ARCHITECTURE.md")]
// What only the simulator asks for is not compiled without it; that nothing else is dead shows a build with it.
#![cfg_attr(not(feature = "sim"), allow(dead_code, unused_imports))]

pub mod backup;
pub mod config;
pub mod io;
pub mod log;
pub mod memory;
mod properties;
pub mod protocol;
pub mod raft;
pub mod record;
pub mod replica;
pub mod server;
#[cfg(feature = "sim")]
pub mod sim;
pub mod types;
