//! The kernel's side: files and sockets through the ring of a core, clocks. It moves bytes and decides nothing.
//!
//! Only this module names io-uring, and only `executor.rs` glommio. `server` calls it; it never looks inside a request, a
//! batch or the replica's state.

pub mod clock;
pub mod connection;
pub mod directory;
pub mod disk_error;
pub mod doorbell;
pub mod durable;
pub mod executor;
mod file_system;
pub mod file_thread;
pub mod kernel;
pub mod listener;
pub mod log_device;
pub mod memory;
mod net;
pub mod peer;
pub mod rate_limit;
pub mod ring;
pub mod scheduling;
