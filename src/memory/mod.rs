//! Memory that comes from the kernel in whole pages, and is used again.
//!
//! The log takes pieces of it for what is read, the device and the simulator fill them. Knows nothing of either.

mod mapped;
#[cfg(not(miri))]
mod pages;
#[cfg(miri)]
mod pages_of_the_heap;
mod pieces;

pub use mapped::ZeroedBlocks;
pub(crate) use pieces::Pieces;
pub use pieces::{Filled, Piece};

/// What direct I/O wants of an address, and the kernel of a mapping.
const PAGE_BYTES: usize = 4096;
/// 2 MiB: memory of so many bytes, or of several times as many, begins at a multiple of it and is one page for the CPU, where
/// the kernel has one to give.
const HUGE_PAGE_BYTES: usize = 2 << 20;
