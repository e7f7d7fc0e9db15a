//! Aligned write buffers: allocated once, registered with the ring, lent to one operation at a time.
//!
//! The log takes a buffer from the pool, fills it and sends it away inside a `Write`; the completion brings it back.
//! Nothing here blocks or allocates after the start, and no buffer is ever in two hands: it is moved, not shared.

use std::alloc::{Layout, alloc_zeroed, handle_alloc_error};
use std::ptr::NonNull;

/// 4 KiB: alignment of every direct write, in memory and in the file.
pub const BLOCK_BYTES: usize = 4096;

/// Round down to a block's start.
pub(super) fn block_floor(position: u64) -> u64 {
    position / BLOCK_BYTES as u64 * BLOCK_BYTES as u64
}

/// Round up to a block's start.
pub(super) fn block_ceil(position: u64) -> u64 {
    position.div_ceil(BLOCK_BYTES as u64) * BLOCK_BYTES as u64
}

/// One buffer of the pool. Owned by whoever holds it: the log while it is filled, the device while it is written.
/// Aligned to BLOCK_BYTES; its memory never moves and is never freed, on purpose: the kernel may still write from it
/// after the logic that owned it is gone.
#[derive(Debug)]
pub struct WriteBuffer {
    /// Its index in the pool, for registered buffers (IORING_OP_WRITE_FIXED).
    pub index: u16,
    memory: NonNull<u8>,
    capacity: usize,
}

// SAFETY: the memory is reached only through its one owner, and it is never freed.
unsafe impl Send for WriteBuffer {}

impl WriteBuffer {
    fn allocate(index: u16, capacity: usize) -> WriteBuffer {
        assert!(
            capacity > 0 && capacity.is_multiple_of(BLOCK_BYTES),
            "a write buffer is whole blocks of 4 KiB"
        );
        let layout = Layout::from_size_align(capacity, BLOCK_BYTES).expect("a buffer fits the address space");
        // SAFETY: the layout has a size above zero.
        let memory = unsafe { alloc_zeroed(layout) };
        let memory = NonNull::new(memory).unwrap_or_else(|| handle_alloc_error(layout));
        WriteBuffer { index, memory, capacity }
    }

    /// Give the memory back. Only for an executor that writes from it itself and is done (the simulator, which starts
    /// more nodes than a machine has memory for); one that lends it to a kernel keeps it for ever.
    pub fn free(self) {
        let layout = Layout::from_size_align(self.capacity, BLOCK_BYTES).expect("it was allocated with it");
        // SAFETY: allocated with this layout in `allocate`, and `self`, its one owner, ends here.
        unsafe { std::alloc::dealloc(self.memory.as_ptr(), layout) }
    }

    pub fn as_slice(&self) -> &[u8] {
        // SAFETY: `capacity` zeroed bytes were allocated here, and `&self` keeps writers out.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr(), self.capacity) }
    }

    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        // SAFETY: as above, and `&mut self` is the only way in.
        unsafe { std::slice::from_raw_parts_mut(self.memory.as_ptr(), self.capacity) }
    }

    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }

    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// All buffers of a log: `count` equal ones for groups, and one block for the commit mark, so that a mark never
/// takes a buffer from a group.
pub struct BufferPool {
    free: Vec<WriteBuffer>,
    mark_block: Option<WriteBuffer>,
    regions: Vec<(*const u8, usize)>,
    bytes_each: usize,
}

impl BufferPool {
    pub fn new(count: usize, bytes_each: usize) -> BufferPool {
        assert!(count > 0 && count < u16::MAX as usize, "a log needs between 1 and 65534 write buffers");
        let free: Vec<_> = (0..count).map(|i| WriteBuffer::allocate(i as u16, bytes_each)).collect();
        let mark_block = WriteBuffer::allocate(count as u16, BLOCK_BYTES);
        let regions = free.iter().chain([&mark_block]).map(|b| (b.as_ptr(), b.capacity())).collect();
        BufferPool { free, mark_block: Some(mark_block), regions, bytes_each }
    }

    /// (address, length) of each buffer by its index, for `register_buffers`. The last is the commit mark's block.
    pub fn regions(&self) -> Vec<(*const u8, usize)> {
        self.regions.clone()
    }

    /// Bytes that the free buffers hold together.
    pub(super) fn free_bytes(&self) -> usize {
        self.free.len() * self.bytes_each
    }

    pub fn take(&mut self) -> Option<WriteBuffer> {
        self.free.pop()
    }

    /// See `WriteBuffer::free`. What is lent out is not among them.
    pub fn free(self) {
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
pub(super) struct ChunkFiller {
    full: Vec<(WriteBuffer, usize)>,
    current: Option<WriteBuffer>,
    filled: usize,
}

impl ChunkFiller {
    pub(super) fn new() -> ChunkFiller {
        ChunkFiller { full: Vec::new(), current: None, filled: 0 }
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
    fn padding_is_zero_even_in_a_used_buffer() {
        let mut pool = BufferPool::new(1, 8192);
        let mut buffer = pool.take().unwrap();
        buffer.as_mut_slice().fill(0xff);
        pool.put_back(buffer);
        let mut filler = ChunkFiller::new();
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
        let mut filler = ChunkFiller::new();
        filler.push(&mut pool, &[1; 3000]);
        filler.push(&mut pool, &[2; 5192]);
        let chunks = filler.finish(&mut [0; BLOCK_BYTES]);
        assert_eq!(chunks.iter().map(|c| c.1).collect::<Vec<_>>(), [4096, 4096]);
        assert_eq!(chunks[0].0.as_slice()[2999..3001], [1, 2]);
        assert_eq!(pool.free_bytes(), 4096);
    }

    #[test]
    #[should_panic(expected = "came back twice")]
    fn a_buffer_cannot_be_given_back_twice() {
        let mut pool = BufferPool::new(1, 4096);
        let buffer = pool.take().unwrap();
        let copy = WriteBuffer { index: 0, memory: buffer.memory, capacity: buffer.capacity };
        pool.put_back(buffer);
        pool.put_back(copy);
    }
}
