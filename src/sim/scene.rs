//! What somebody outside can know of the cluster.

use super::network::Host;
use crate::types::*;

/// What it can know of the cluster, by asking.
#[derive(Clone, Copy, Debug)]
pub struct Scene {
    pub epoch: Epoch,
    pub leader: Option<Host>,
    pub committed_end: Offset,
}
