//! The kernel's side: files and sockets through the ring of a core, clocks. It moves bytes and decides nothing.
//!
//! Only this module names io-uring, and only `executor.rs` glommio. `server` calls it; it never looks inside a request, a
//! batch or the replica's state.

pub(crate) mod clock;
pub(crate) mod connection;
pub mod directory;
pub(crate) mod disk_error;
pub(crate) mod doorbell;
pub mod durable;
pub(crate) mod executor;
mod file_system;
pub(crate) mod file_thread;
pub(crate) mod host_memory;
pub(crate) mod kernel;
pub(crate) mod listener;
pub(crate) mod log_device;
pub(crate) mod memory;
mod memory_thread;
mod net;
pub(crate) mod peer;
pub mod plain_files;
pub(crate) mod rate_limit;
pub(crate) mod ring;
pub(crate) mod scheduling;
pub(crate) mod snapshot_directory;
pub(crate) mod snapshot_thread;
pub(crate) mod sync;
