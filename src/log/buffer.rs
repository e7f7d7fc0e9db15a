//! Aligned write buffers: allocated once, registered with the ring, lent to one operation at a time.
//! (contract; the owner of src/log completes this file: pool, copy in, zero the padding)

/// 4 KiB: alignment of every direct write, in memory and in the file.
pub const BLOCK_BYTES: usize = 4096;

/// One buffer of the pool. Owned by whoever holds it: the log while it is filled, the device while it is written.
/// Aligned to BLOCK_BYTES; its memory never moves and lives as long as the pool's process (leaked on purpose or
/// kept by the device), so that the kernel may write from it after a crash of the logic.
#[derive(Debug)]
pub struct WriteBuffer {
    /// Its index in the pool, for registered buffers (IORING_OP_WRITE_FIXED).
    pub index: u16,
    memory: std::ptr::NonNull<u8>,
    capacity: usize,
}

impl WriteBuffer {
    pub fn as_slice(&self) -> &[u8] {
        unimplemented!("{:?} {}", self.memory, self.capacity)
    }
    pub fn as_mut_slice(&mut self) -> &mut [u8] {
        unimplemented!()
    }
    pub fn as_ptr(&self) -> *const u8 {
        self.memory.as_ptr()
    }
    pub fn capacity(&self) -> usize {
        self.capacity
    }
}

/// All buffers of a log. `regions` gives (address, length) of each by index, for `register_buffers`.
pub struct BufferPool {
    _free: Vec<WriteBuffer>,
}
impl BufferPool {
    pub fn new(_count: usize, _bytes_each: usize) -> BufferPool {
        unimplemented!()
    }
    pub fn regions(&self) -> Vec<(*const u8, usize)> {
        unimplemented!()
    }
}
