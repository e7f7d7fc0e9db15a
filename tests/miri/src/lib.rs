//! The server's own files that hand out memory by hand, with their own tests: `bin/miri.sh` interprets them.

#![cfg(test)]
#![allow(dead_code)]

#[path = "../../../src/log/buffer.rs"]
mod buffer;
