//! Mapped memory: whole pages of it, and huge ones where that is what was asked for.

use std::ptr::NonNull;

use super::PAGE_BYTES;
#[cfg(not(miri))]
use super::pages;
#[cfg(miri)]
use super::pages_of_the_heap as pages;

/// Memory of whole blocks, aligned for direct I/O, zeroed.
///
/// Mapped, not allocated: reads of megabytes that came and went among small allocations left the heap with holes that the
/// next one did not fit in. A node from which one consumer read a log of 1 GB grew from 27 MiB to 124, and stayed there.
#[derive(Debug)]
pub struct ZeroedBlocks {
    memory: NonNull<u8>,
    size: usize,
}

// SAFETY: plain memory with one owner.
unsafe impl Send for ZeroedBlocks {}
// SAFETY: whoever shares it can only read.
unsafe impl Sync for ZeroedBlocks {}

impl ZeroedBlocks {
    /// `bytes` is rounded up to whole blocks, at least one.
    pub fn new(bytes: usize) -> ZeroedBlocks {
        let size = bytes.max(1).next_multiple_of(PAGE_BYTES);
        ZeroedBlocks { memory: pages::map(size), size }
    }

    /// So many of this size, whole pages each, of one mapping. None of it takes memory before it is written to.
    pub(super) fn several(bytes: usize, count: usize) -> Vec<ZeroedBlocks> {
        assert!(bytes > 0 && bytes.is_multiple_of(PAGE_BYTES), "{bytes}");
        pages::map_several(bytes, count).map(|memory| ZeroedBlocks { memory, size: bytes }).collect()
    }

    /// How large it is, the rounding included.
    pub(super) fn size(&self) -> usize {
        self.size
    }

    /// Have the kernel find memory for what lies behind so many bytes from the beginning: whoever writes there first waits until
    /// it was found and cleared. Nothing that lies there is changed.
    pub(super) fn touch_from(&mut self, bytes: usize) {
        for at in (bytes..self.size).step_by(PAGE_BYTES) {
            // SAFETY: within what was mapped, owned by self and borrowed mutably. Volatile, or it would be left out.
            unsafe {
                let byte = self.memory.as_ptr().add(at);
                byte.write_volatile(byte.read_volatile());
            }
        }
    }

    /// Give the kernel its memory back, and keep the addresses: they read as zeros, as new ones do. Unlike to unmap it, this waits for
    /// nobody who is having a page found. `None`: the kernel would not, and the addresses have gone too.
    pub(super) fn emptied(self) -> Option<ZeroedBlocks> {
        // SAFETY: so many bytes were mapped, and are owned by self: nobody refers to what is in them.
        let is_empty = unsafe { pages::empty(self.memory, self.size) };
        is_empty.then_some(self)
    }

    /// All of it, the rounding included.
    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: so many bytes were mapped, zeroed, and are owned by self.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.size) }
    }

    /// All of it, the rounding included.
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.size) }
    }

    /// Aligned to 4 KiB; valid as long as this lives.
    pub fn as_mut_ptr(&mut self) -> *mut u8 {
        self.memory.as_ptr()
    }
}

impl AsRef<[u8]> for ZeroedBlocks {
    fn as_ref(&self) -> &[u8] {
        self.as_slice()
    }
}

impl Drop for ZeroedBlocks {
    fn drop(&mut self) {
        // SAFETY: mapped with this size, in one piece or beside others, and nobody refers to it any more.
        unsafe { pages::unmap(self.memory, self.size) };
    }
}

#[cfg(test)]
mod tests {
    use super::super::HUGE_PAGE_BYTES;
    use super::*;

    #[test]
    fn whole_huge_pages_begin_at_one() {
        let sizes = [(1, PAGE_BYTES), (HUGE_PAGE_BYTES, HUGE_PAGE_BYTES), (6 << 20, HUGE_PAGE_BYTES)];
        for (bytes, align) in sizes.into_iter().filter(|(bytes, _)| !cfg!(miri) || *bytes == 1) {
            let mut some: Vec<ZeroedBlocks> = (0..3).map(|_| ZeroedBlocks::new(bytes)).collect();
            for (number, blocks) in some.iter_mut().enumerate() {
                assert!(blocks.as_mut_ptr().addr().is_multiple_of(align), "{bytes}");
                assert!(blocks.as_slice().iter().all(|byte| *byte == 0));
                blocks.as_mut_slice().fill(number as u8 + 1);
            }
            let is_own = |(number, blocks): (usize, &ZeroedBlocks)| {
                blocks.as_slice().iter().all(|byte| usize::from(*byte) == number + 1)
            };
            assert!(some.iter().enumerate().all(is_own), "no byte of it is another's");
        }
    }

    #[test]
    fn several_of_one_mapping_are_each_its_owners_and_go_one_by_one() {
        // To look at megabytes byte by byte takes Miri many minutes.
        for bytes in [PAGE_BYTES, HUGE_PAGE_BYTES].into_iter().take(if cfg!(miri) { 1 } else { 2 }) {
            let mut some = ZeroedBlocks::several(bytes, 5);
            for (number, blocks) in some.iter_mut().enumerate() {
                assert!(blocks.as_mut_ptr().addr().is_multiple_of(bytes), "{bytes}");
                assert_eq!(blocks.as_slice().len(), bytes);
                blocks.as_mut_slice().fill(number as u8 + 1);
            }
            drop(some.remove(2));
            some[0].touch_from(0);
            let mut emptied = some.remove(2).emptied().expect("the kernel takes it");
            assert!(emptied.as_slice().iter().all(|byte| *byte == 0), "as new");
            emptied.as_mut_slice().fill(4);
            some.insert(2, emptied);
            let first: Vec<u8> = some.iter().map(|blocks| blocks.as_slice()[bytes - 1]).collect();
            assert_eq!(first, [1, 2, 4, 5]);
            assert!(some[0].as_slice().iter().all(|byte| *byte == 1), "to touch it changes nothing");
        }
    }
}
