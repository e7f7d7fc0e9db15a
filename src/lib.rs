#![doc = include_str!("ARCHITECTURE.md")]
// What only the simulator asks for is not compiled without it; that nothing else is dead shows a build with it.
#![cfg_attr(not(feature = "sim"), allow(dead_code, unused_imports))]

// From the sockets down, the way that a request goes: each names only modules that stand below it.

pub mod server;

#[cfg(feature = "sim")]
pub mod sim;

pub mod backup;

pub mod io;

pub mod replica;

pub mod protocol;

pub mod raft;

pub mod log;

pub mod record;

pub mod config;

pub mod memory;

mod properties;

pub mod types;
