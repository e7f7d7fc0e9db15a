//! What a file system says of itself: its kind, its room.

use std::io;
use std::path::Path;

const TMPFS_MAGIC: i64 = 0x0102_1994;

pub(super) fn is_tmpfs(directory: &Path) -> io::Result<bool> {
    Ok(file_system(directory)?.f_type as i64 == TMPFS_MAGIC)
}

/// Bytes that this user may still write to the file system of `directory`.
pub(crate) fn free_bytes(directory: &Path) -> io::Result<u64> {
    let stat = file_system(directory)?;
    Ok(stat.f_bavail as u64 * stat.f_bsize as u64)
}

/// Inodes of the file system of `directory`: free ones, and all; all are 0 where it does not count them.
pub(super) fn free_inodes(directory: &Path) -> io::Result<(u64, u64)> {
    let stat = file_system(directory)?;
    Ok((stat.f_ffree, stat.f_files))
}

fn file_system(directory: &Path) -> io::Result<libc::statfs> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(directory.as_os_str().as_bytes())?;
    // SAFETY: a NUL-terminated path and a zeroed struct for the call to fill; all zeros is a valid statfs.
    unsafe {
        let mut stat: libc::statfs = std::mem::zeroed();
        if libc::statfs(path.as_ptr(), &mut stat) != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(stat)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_space_is_that_of_the_file_system() {
        let directory = tempfile::tempdir().unwrap();
        assert!(free_bytes(directory.path()).unwrap() > 0);
        assert!(free_bytes(&directory.path().join("absent")).is_err());
    }
}
