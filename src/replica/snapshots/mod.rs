//! Snapshots between nodes: their files as they are given to replicas, and as they are got from a leader.
//!
//! Called by `Replica`. What touches a file is an operation (`CopyOp`), which the server's thread for it carries out, or the simulator
//! where it stands; a core never waits for one.

pub(super) mod fetching;
pub(super) mod serving;
