//! The same pages for Miri, which knows no part of a mapping and no advice: of the heap, where it sees who reads and writes what.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

use super::{HUGE_PAGE_BYTES, PAGE_BYTES};

fn layout(size: usize) -> Layout {
    let align = if size.is_multiple_of(HUGE_PAGE_BYTES) { HUGE_PAGE_BYTES } else { PAGE_BYTES };
    Layout::from_size_align(size, align).expect("a size in memory")
}

/// So many bytes, whole pages, zeroed.
pub(super) fn map(size: usize) -> NonNull<u8> {
    // SAFETY: whole pages, so the layout has a size above zero.
    NonNull::new(unsafe { alloc_zeroed(layout(size)) }).unwrap_or_else(|| handle_alloc_error(layout(size)))
}

/// So many of this size, whole pages each.
pub(super) fn map_several(bytes: usize, count: usize) -> impl Iterator<Item = NonNull<u8>> {
    (0..count).map(move |_| map(bytes))
}

/// # Safety
///
/// The bytes were mapped here, and nobody refers to what is in them.
pub(super) unsafe fn empty(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: as the caller says.
    unsafe { start.as_ptr().write_bytes(0, size) };
    true
}

/// # Safety
///
/// The bytes were mapped here, as one, and nobody refers to them.
pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) {
    // SAFETY: as the caller says.
    unsafe { dealloc(start.as_ptr(), layout(size)) };
}
