//! The server's own files of what crosses threads, over loom's types: `tests.rs` runs them in every order.

#![cfg(test)]
// What only a ring needs.
#![allow(dead_code)]

mod io;
#[path = "../../../src/server/lanes.rs"]
mod lanes;
mod tests;
