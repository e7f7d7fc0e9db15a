#![doc = include_str!("ARCHITECTURE.md")]

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
pub mod sim;
pub mod types;
