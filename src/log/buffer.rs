//! Aligned write buffers: allocated once, registered with the ring, lent to one operation at a time.
//!
//! The log takes a buffer from the pool, fills it and sends it away inside a `Write`; the completion brings it back.
//! Nothing here blocks or allocates after the start, and no buffer is ever in two hands: it is moved, not shared.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;

/// 4 KiB: alignment of every direct write, in memory and in the file.
pub(crate) const BLOCK_BYTES: usize = 4096;

/// 2 MiB: a pool of this size and more begins at a multiple of it, so that the kernel can back it with huge pages.
pub(crate) const HUGE_PAGE_BYTES: usize = 2 << 20;

/// Round down to a block's start.
pub(super) fn block_floor(position: u64) -> u64 {
    position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64
}

/// Round up to a block's start.
pub(super) fn block_ceil(position: u64) -> u64 {
    position.div_ceil(BLOCK_BYTES as u64) * BLOCK_BYTES as u64
}

/// One buffer of the pool. Owned by whoever holds it: the log while it is filled, the device while it is written.
/// Aligned to BLOCK_BYTES, beside the others of its pool; its memory never moves, and nothing frees it but `free`, on purpose:
/// the kernel may still write from it after the logic that owned it is gone.
#[derive(Debug)]
pub struct WriteBuffer {
    /// Its index in the pool, for registered buffers (IORING_OP_WRITE_FIXED).
    pub(crate) index: u16,
    memory: NonNull<u8>,
    capacity: usize,
    /// Never dropped but by `free`.
    pool: ManuallyDrop<Arc<PoolMemory>>,
}

// SAFETY: the memory is reached only through its one owner, and it is never freed while there is one.
unsafe impl Send for WriteBuffer {}

/// The memory of all buffers of a pool. Freed with the last of them.
#[derive(Debug)]
struct PoolMemory {
    start: NonNull<u8>,
    layout: Layout,
}

// SAFETY: an address and a layout; nothing is reached through them but by `Drop`, after all buffers are gone.
unsafe impl Send for PoolMemory {}
// SAFETY: as above.
unsafe impl Sync for PoolMemory {}

impl PoolMemory {
    fn allocate(bytes: usize) -> PoolMemory {
        let align = if bytes >= HUGE_PAGE_BYTES { HUGE_PAGE_BYTES } else { BLOCK_BYTES };
        let layout = Layout::from_size_align(bytes, align).expect("the buffers fit the address space");
        // SAFETY: the layout has a size above zero: `BufferPool::new` asks for at least a block.
        let start = unsafe { alloc_zeroed(layout) };
        PoolMemory { start: NonNull::new(start).unwrap_or_else(|| handle_alloc_error(layout)), layout }
    }
}

impl Drop for PoolMemory {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout in `allocate`, and every buffer in it has been freed.
        unsafe { std::alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}

impl WriteBuffer {
    /// Give the memory back: for an executor that writes from it itself and is done (the simulator, which starts more nodes than
    /// a machine has memory for), or one that has had all of it back from the kernel. Otherwise it is kept for ever.
    pub(crate) fn free(self) {
        drop(ManuallyDrop::into_inner(self.pool));
    }

    pub(crate) fn as_slice(&self) -> &[u8] {
        // SAFETY: `capacity` zeroed bytes were allocated here, and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.capacity) }
    }

    pub(crate) fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only way in.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.capacity) }
    }

    pub(crate) fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    pub(crate) fn capacity(&self) -> usize {
        self.capacity
    }
}

/// All buffers of a log, in one piece of memory: `count` equal ones for groups, and one block for the commit mark, so that
/// a mark never takes a buffer from a group.
pub(crate) struct BufferPool {
    free: Vec<WriteBuffer>,
    mark_block: Option<WriteBuffer>,
    regions: Vec<(*const u8, usize)>,
    bytes_each: usize,
}

impl BufferPool {
    pub(crate) fn new(count: usize, bytes_each: usize) -> BufferPool {
        assert!(count > 0 && count < u16::MAX as usize, "a log needs between 1 and 65534 write buffers");
        assert!(
            bytes_each > 0 && bytes_each.is_multiple_of(BLOCK_BYTES),
            "a write buffer is whole blocks of 4 KiB"
        );
        let pool = Arc::new(PoolMemory::allocate(count * bytes_each + BLOCK_BYTES));
        let buffer = |index: usize, capacity| {
            // SAFETY: within the pool's memory, and no other buffer's part of it.
            let memory = unsafe { pool.start.add(index * bytes_each) };
            WriteBuffer { index: index as u16, memory, capacity, pool: ManuallyDrop::new(pool.clone()) }
        };
        let free: Vec<_> = (0..count).map(|index| buffer(index, bytes_each)).collect();
        let mark_block = buffer(count, BLOCK_BYTES);
        let regions = free.iter().chain([&mark_block]).map(|b| (b.as_ptr(), b.capacity())).collect();
        BufferPool { free, mark_block: Some(mark_block), regions, bytes_each }
    }

    /// (address, length) of each buffer by its index, for `register_buffers`. The last is the commit mark's block.
    pub(crate) fn regions(&self) -> Vec<(*const u8, usize)> {
        self.regions.clone()
    }

    /// Bytes that the free buffers hold together.
    pub(super) fn free_bytes(&self) -> usize {
        self.free.len() * self.bytes_each
    }

    /// Buffers that have not been given back, and whoever else holds their memory.
    #[cfg(test)]
    pub(crate) fn memory_users(&self) -> usize {
        Arc::strong_count(&self.free[0].pool)
    }

    pub(crate) fn take(&mut self) -> Option<WriteBuffer> {
        self.free.pop()
    }

    /// See `WriteBuffer::free`. What is lent out is not among them.
    pub(crate) fn free(self) {
        self.free.into_iter().chain(self.mark_block).for_each(WriteBuffer::free);
    }

    pub(super) fn take_mark_block(&mut self) -> Option<WriteBuffer> {
        self.mark_block.take()
    }

    pub(super) fn put_back(&mut self, buffer: WriteBuffer) {
        let (address, capacity) = self.regions[buffer.index as usize];
        assert!(buffer.as_ptr() == address && buffer.capacity() == capacity, "not a buffer of this pool");
        if buffer.index as usize == self.regions.len() - 1 {
            assert!(self.mark_block.is_none(), "the commit mark's block came back twice");
            self.mark_block = Some(buffer);
        } else {
            assert!(self.free.iter().all(|b| b.index != buffer.index), "a write buffer came back twice");
            self.free.push(buffer);
        }
    }
}

/// Fills buffers with a run of bytes, each full one followed by the next: a group's chunks.
#[derive(Default)]
pub(super) struct ChunkFiller {
    full: Vec<(WriteBuffer, usize)>,
    current: Option<WriteBuffer>,
    filled: usize,
}

impl ChunkFiller {
    /// The list of a group that has been submitted is the next one's.
    pub(super) fn with_room_of(full: Vec<(WriteBuffer, usize)>) -> ChunkFiller {
        assert!(full.is_empty(), "the buffers of a group have been submitted");
        ChunkFiller { full, ..ChunkFiller::default() }
    }

    /// Bytes that its buffers hold together.
    pub(super) fn capacity(&self) -> usize {
        self.full.iter().map(|(buffer, _)| buffer).chain(&self.current).map(WriteBuffer::capacity).sum()
    }

    /// Its buffers, whatever is in them.
    pub(super) fn into_buffers(self) -> impl Iterator<Item = WriteBuffer> {
        self.full.into_iter().map(|(buffer, _)| buffer).chain(self.current)
    }

    /// Copy `bytes` in. The caller has made sure that the pool holds enough.
    pub(super) fn push(&mut self, pool: &mut BufferPool, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            let filled = self.filled;
            let buffer = self
                .current
                .get_or_insert_with(|| pool.take().expect("a group is never larger than the free buffers"));
            let count = bytes.len().min(buffer.capacity() - filled);
            buffer.as_mut_slice()[filled..filled + count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            self.filled += count;
            if self.filled == buffer.capacity() {
                self.full.extend(self.current.take().map(|b| (b, self.filled)));
                self.filled = 0;
            }
        }
    }

    /// Zero the rest of the last block and copy that block to `tail` if it is a partial one: the next group
    /// starts on this copy. Gives the chunks, each a whole number of blocks.
    pub(super) fn finish(mut self, tail: &mut [u8; BLOCK_BYTES]) -> Vec<(WriteBuffer, usize)> {
        if let Some(mut buffer) = self.current.take() {
            let length = block_ceil(self.filled as u64) as usize;
            buffer.as_mut_slice()[self.filled..length].fill(0);
            if length != self.filled {
                tail.copy_from_slice(&buffer.as_slice()[length - BLOCK_BYTES..length]);
            }
            self.full.push((buffer, length));
        }
        self.full
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_aligned_and_indexed_as_registered() {
        let mut pool = BufferPool::new(3, 8192);
        let regions = pool.regions();
        assert_eq!(regions.iter().map(|r| r.1).collect::<Vec<_>>(), [8192, 8192, 8192, 4096]);
        while let Some(buffer) = pool.take() {
            assert_eq!(regions[buffer.index as usize], (buffer.as_ptr(), buffer.capacity()));
            assert_eq!(buffer.as_ptr() as usize % BLOCK_BYTES, 0);
        }
        assert_eq!(pool.free_bytes(), 0);
    }

    #[test]
    fn only_a_pool_of_huge_pages_begins_at_one() {
        let align = |bytes| PoolMemory::allocate(bytes).layout.align();
        let found = [BLOCK_BYTES, HUGE_PAGE_BYTES - BLOCK_BYTES, HUGE_PAGE_BYTES].map(align);
        assert_eq!(found, [BLOCK_BYTES, BLOCK_BYTES, HUGE_PAGE_BYTES]);
    }

    #[test]
    fn padding_is_zero_even_in_a_used_buffer() {
        let mut pool = BufferPool::new(1, 8192);
        let mut buffer = pool.take().unwrap();
        buffer.as_mut_slice().fill(0xff);
        pool.put_back(buffer);
        let mut filler = ChunkFiller::default();
        filler.push(&mut pool, &[7; 5000]);
        let mut tail = [1; BLOCK_BYTES];
        let chunks = filler.finish(&mut tail);
        assert_eq!((chunks.len(), chunks[0].1), (1, 8192));
        assert!(chunks[0].0.as_slice()[5000..].iter().all(|b| *b == 0));
        assert_eq!(tail[..904], [7; 904]);
        assert!(tail[904..].iter().all(|b| *b == 0));
    }

    #[test]
    fn a_run_is_cut_at_full_buffers() {
        let mut pool = BufferPool::new(3, 4096);
        let mut filler = ChunkFiller::default();
        filler.push(&mut pool, &[1; 3000]);
        filler.push(&mut pool, &[2; 5192]);
        let chunks = filler.finish(&mut [0; BLOCK_BYTES]);
        assert_eq!(chunks.iter().map(|c| c.1).collect::<Vec<_>>(), [4096, 4096]);
        assert_eq!(chunks[0].0.as_slice()[2999..3001], [1, 2]);
        assert_eq!(pool.free_bytes(), 4096);
    }

    /// Miri would see that it is gone (bin/miri.sh).
    #[test]
    fn memory_lives_as_long_as_one_of_its_buffers_wherever_that_is() {
        let mut pool = BufferPool::new(2, 4096);
        let (mut first, mut second) = (pool.take().unwrap(), pool.take().unwrap());
        first.as_mut_slice().fill(1);
        pool.free();
        let thread = std::thread::spawn(move || {
            let sum = first.as_slice().iter().map(|byte| usize::from(*byte)).sum::<usize>();
            first.free();
            sum
        });
        second.as_mut_slice().fill(2);
        assert_eq!(thread.join().unwrap(), 4096);
        assert!(second.as_slice().iter().all(|byte| *byte == 2), "its neighbour's writes are not in it");
        second.free();
    }

    #[test]
    #[should_panic(expected = "came back twice")]
    fn a_buffer_cannot_be_given_back_twice() {
        let mut pool = BufferPool::new(1, 4096);
        let buffer = pool.take().unwrap();
        let copy = WriteBuffer {
            index: 0,
            memory: buffer.memory,
            capacity: buffer.capacity,
            pool: buffer.pool.clone(),
        };
        pool.put_back(buffer);
        pool.put_back(copy);
    }
}
