//! Pages of the kernel's: mapped, emptied and given back.

use std::ptr::NonNull;

use super::{HUGE_PAGE_BYTES, PAGE_BYTES};

/// So many bytes, whole pages, zeroed.
pub(super) fn map(size: usize) -> NonNull<u8> {
    match size.is_multiple_of(HUGE_PAGE_BYTES) {
        true => map_huge(size),
        false => map_pages(size),
    }
}

/// So many of this size, whole pages each, of one mapping.
pub(super) fn map_several(bytes: usize, count: usize) -> impl Iterator<Item = NonNull<u8>> {
    let all = match bytes.is_multiple_of(HUGE_PAGE_BYTES) {
        true => map_huge(bytes * count),
        false => map_pages(bytes * count),
    };
    // SAFETY: each lies within what was mapped, and beside the others.
    (0..count).map(move |n| unsafe { all.add(n * bytes) })
}

/// False: the kernel would not, and the pages may be gone.
///
/// # Safety
///
/// The bytes were mapped here, and nobody refers to what is in them.
pub(super) unsafe fn empty(start: NonNull<u8>, size: usize) -> bool {
    // SAFETY: as the caller says; they are private, and of no file.
    unsafe { libc::madvise(start.as_ptr().cast(), size, libc::MADV_DONTNEED) == 0 }
}

/// The kernel takes any part of a mapping by itself.
///
/// # Safety
///
/// The bytes were mapped here, begin at a page, and nobody refers to them.
pub(super) unsafe fn unmap(start: NonNull<u8>, size: usize) {
    if size > 0 {
        // SAFETY: as the caller says.
        unsafe { libc::munmap(start.as_ptr().cast(), size) };
    }
}

fn map_pages(size: usize) -> NonNull<u8> {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let kind = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let memory = unsafe { libc::mmap(std::ptr::null_mut(), size, access, kind, -1, 0) };
    match NonNull::new(memory.cast::<u8>()) {
        Some(mapped) if memory != libc::MAP_FAILED => mapped,
        _ => {
            let layout = std::alloc::Layout::from_size_align(size, PAGE_BYTES).expect("a size in memory");
            std::alloc::handle_alloc_error(layout)
        }
    }
}

/// The kernel chooses no address for its alignment: more is mapped than is wanted, and given back on both sides.
fn map_huge(size: usize) -> NonNull<u8> {
    let mapped = map_pages(size + HUGE_PAGE_BYTES);
    let before = mapped.addr().get().next_multiple_of(HUGE_PAGE_BYTES) - mapped.addr().get();
    // SAFETY: `before` is less than a huge page, and so much more than `size` was mapped. What is unmapped on either side was
    // handed to nobody; the advice changes no byte.
    unsafe {
        let start = mapped.add(before);
        unmap(mapped, before);
        unmap(start.add(size), HUGE_PAGE_BYTES - before);
        // Where the kernel has none to give it has small ones.
        libc::madvise(start.as_ptr().cast(), size, libc::MADV_HUGEPAGE);
        start
    }
}
