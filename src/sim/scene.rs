//! What somebody outside can know of the cluster.

use super::network::Host;
use crate::types::*;

/// What it can know of the cluster, by asking.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scene {
    pub(super) epoch: Epoch,
    pub(super) leader: Option<Host>,
    pub(super) committed_end: Offset,
}
