//! The server's doorbell, over what `sync.rs` here makes of loom's types.

#[path = "../../../../src/io/doorbell.rs"]
pub(crate) mod doorbell;
pub(crate) mod sync;
