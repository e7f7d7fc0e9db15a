//! Files for the programs beside the server: read while a node may write them, made anew, replaced, flushed. Blocks; never on a core.
//!
//! No file is made or opened for writing through a symbolic link, and nothing but a regular file is read.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

use bytes::Bytes;

use super::disk_error::{Blame, advice_in, blame};
use super::{directory, durable, file_thread};
use crate::log::BLOCK_BYTES;
use crate::memory::ZeroedBlocks;
use crate::types::Uuid;

/// Small files have some hundred bytes. A manifest has 200 for each segment: this many are two million.
const SMALL_FILE_BYTES_MAX: u64 = 512 << 20;

/// The file in a node's directory that a node locks.
pub const DIRECTORY_LOCK: &str = directory::LOCK_FILE;

/// The lock that a node takes on its directory, for as long as the file is held. `Err`: who has it, in a sentence.
pub fn lock_directory(path: &Path) -> Result<File, String> {
    directory::lock(path).map_err(|refusal| refusal.line)
}

/// A file that a node may be writing to.
///
/// Read past the page cache, as the node writes it: pages that a reader leaves behind would have to be thrown out by the next
/// write of the same block, which waits for that. Where this file system has no O_DIRECT the node does not write with it.
#[derive(Debug)]
pub struct SharedFile {
    file: File,
}

impl SharedFile {
    /// Of a regular file, which may be a link to one.
    pub fn open(path: &Path) -> io::Result<SharedFile> {
        SharedFile::open_with(path, 0)
    }

    /// Of a regular file, and no link.
    pub fn open_here(path: &Path) -> io::Result<SharedFile> {
        SharedFile::open_with(path, libc::O_NOFOLLOW)
    }

    fn open_with(path: &Path, links: i32) -> io::Result<SharedFile> {
        let open =
            |direct| OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | links | direct).open(path);
        let file = match open(libc::O_DIRECT) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => open(0)?,
            opened => opened?,
        };
        check_regular(&file)?;
        Ok(SharedFile { file })
    }

    /// Its bytes now.
    pub fn size_bytes(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    /// Up to `length` bytes from `position`, any byte; fewer only at the end of the file.
    pub fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let skip = (position % BLOCK_BYTES as u64) as usize;
        let (start, wanted) = (position - skip as u64, (skip + length).next_multiple_of(BLOCK_BYTES));
        let mut blocks = ZeroedBlocks::new(wanted);
        let mut filled = 0;
        while filled < wanted {
            match self.file.read_at(&mut blocks.as_mut_slice()[filled..wanted], start + filled as u64) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            }
            // Within a block a file ends, and direct reads go on at none.
            if filled % BLOCK_BYTES != 0 {
                break;
            }
        }
        let end = (skip + length).min(filled).max(skip);
        Ok(Bytes::from_owner(blocks).slice(skip.min(end)..end))
    }
}

/// A file that is new: one of that name is removed first, and a link is never followed.
pub fn create_new(path: &Path) -> io::Result<File> {
    durable::create_new(path)
}

/// A regular file that is there, to be written on.
pub fn open_to_write(path: &Path) -> io::Result<File> {
    let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = OpenOptions::new().write(true).custom_flags(flags).open(path)?;
    check_regular(&file).map(|()| file)
}

/// Made where it is missing, never through a link; what it holds stays.
pub fn open_lock(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let options = options.read(true).write(true).create(true).truncate(false).mode(durable::FILE_MODE);
    options.custom_flags(libc::O_NOFOLLOW).open(path)
}

/// All of a small file; `None` where there is none.
pub fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        opened => opened?,
    };
    check_regular(&file)?;
    let mut contents = Vec::new();
    file.take(SMALL_FILE_BYTES_MAX).read_to_end(&mut contents)?;
    Ok(Some(contents))
}

/// The old contents or the new ones are there after any crash.
pub fn replace_file(directory: &Path, name: &str, contents: &[u8]) -> io::Result<()> {
    file_thread::replace_file(directory, name, contents)
}

/// Make a directory, and those above it, where they are missing.
pub fn create_directories(path: &Path) -> io::Result<()> {
    durable::create_directories(path)
}

/// Make the names of a directory durable.
pub fn sync_directory(directory: &Path) -> io::Result<()> {
    durable::sync_directory(directory)
}

/// As Kafka draws the id of a directory or of a cluster.
pub fn random_uuid() -> io::Result<Uuid> {
    directory::random_uuid()
}

/// Is it the disk (full, broken, read-only), and not what somebody has named?
pub fn is_the_disks(error: &io::Error) -> bool {
    blame(error) == Blame::Disk
}

/// The system's words, with what to do where that is known. `directory` is where a file was to be made or to grow.
pub fn reason(directory: &Path, error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOSPC | libc::EDQUOT) => {
            format!("{error}; free space, or take another directory, and run it again")
        }
        Some(libc::ELOOP) => format!("{error}; a symbolic link stands where a file belongs: remove it"),
        Some(libc::EIO) => format!("{error}; the device failed: look at the kernel's log (dmesg)"),
        _ => match advice_in(directory, error) {
            Some(advice) => format!("{error}; {advice}"),
            None => error.to_string(),
        },
    }
}

fn check_regular(file: &File) -> io::Result<()> {
    match file.metadata()?.is_file() {
        true => Ok(()),
        false => Err(io::Error::other("this is no regular file")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::file_system::is_tmpfs;
    use super::*;
    use std::os::fd::AsRawFd;

    #[test]
    fn any_part_of_a_shared_file_is_read() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("file");
        let contents: Vec<u8> = (0..10_000u32).map(|i| (i % 251) as u8).collect();
        std::fs::write(&path, &contents).unwrap();
        let file = SharedFile::open(&path).unwrap();
        for (position, length) in [
            (0, 10_000),
            (0, 1),
            (4095, 2),
            (4096, 4096),
            (1, 9_999),
            (8190, 5000),
            (9_999, 1),
            (10_000, 9),
            (20_000, 1),
        ] {
            let end = (position + length).min(contents.len());
            let expected = contents.get(position..end).unwrap_or_default();
            assert_eq!(file.read(position as u64, length).unwrap(), expected, "{length} at {position}");
        }
    }

    /// Pages of a file that the page cache has.
    fn cached_pages(file: &File) -> usize {
        let length = file.metadata().unwrap().len() as usize;
        let mut pages = vec![0u8; length.div_ceil(BLOCK_BYTES)];
        // SAFETY: a new mapping of an open file, which nothing reads through; the vector has a byte for each of its pages.
        unsafe {
            let mapped = libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ,
                libc::MAP_SHARED,
                file.as_raw_fd(),
                0,
            );
            assert_ne!(mapped, libc::MAP_FAILED);
            assert_eq!(libc::mincore(mapped, length, pages.as_mut_ptr()), 0);
            libc::munmap(mapped, length);
        }
        pages.iter().filter(|page| **page & 1 == 1).count()
    }

    /// Each of them would be in the way of a node's next write.
    #[test]
    fn a_reader_leaves_no_page_behind() {
        let directory = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let path = directory.path().join("file");
        std::fs::write(&path, vec![7; 1 << 20]).unwrap();
        let file = File::open(&path).unwrap();
        file.sync_all().unwrap();
        // SAFETY: no pointers; advice only.
        unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        let before = cached_pages(&file);
        if is_tmpfs(directory.path()).unwrap() || before > 0 {
            return;
        }
        assert_eq!(SharedFile::open(&path).unwrap().read(5, 1 << 20).unwrap().len(), (1 << 20) - 5);
        assert_eq!(cached_pages(&file), 0);
        std::fs::read(&path).unwrap();
        assert_ne!(cached_pages(&file), 0, "and what does leave some is seen");
    }

    #[test]
    fn links_and_what_is_no_file_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let (link, target) = (directory.path().join("link"), directory.path().join("target"));
        std::fs::write(&target, "x").unwrap();
        std::os::unix::fs::symlink(&target, &link).unwrap();
        for error in [open_to_write(&link).err(), open_lock(&link).err(), SharedFile::open_here(&link).err()]
        {
            assert_eq!(error.unwrap().raw_os_error(), Some(libc::ELOOP));
        }
        assert_eq!(SharedFile::open(&link).unwrap().read(0, 9).unwrap(), "x");
        create_new(&link).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"x", "it was the link that went");
        assert!(SharedFile::open(directory.path()).is_err() && read_small(directory.path()).is_err());
    }
}
