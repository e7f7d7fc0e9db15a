//! Memory that comes from the kernel in whole pages, and is used again.
//!
//! The log takes pieces of it for what is read, the device and the simulator fill them. Knows nothing of either.

mod mapped;
mod pieces;

pub use mapped::ZeroedBlocks;
pub(crate) use pieces::Pieces;
pub use pieces::{Filled, Piece};
