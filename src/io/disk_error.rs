//! What the system says when a disk fails, and what its owner can do about it. Used by everything in `io` that
//! touches a file; it never decides whether to go on.

use std::io;
use std::path::Path;

use super::file_system::free_inodes;
use crate::log::{DiskError, REFILL};

/// `operation` as in "write 8192 bytes at 4096 of 00000000000000000000.log".
pub(crate) fn disk_error(operation: impl Into<String>, error: &io::Error) -> DiskError {
    let errno = error.raw_os_error().unwrap_or(0);
    DiskError { operation: operation.into(), reason: reason(errno, error), errno }
}

/// The same where a file could be created or could grow: of a full file system it says what is used up, room or inodes.
pub(super) fn disk_error_in(directory: &Path, operation: impl Into<String>, error: &io::Error) -> DiskError {
    let mut failure = disk_error(operation, error);
    if let Some(advice) = advice_in(directory, error) {
        failure.reason = format!("{error}; {advice}");
    }
    failure
}

/// What an error of a file system means for who starts a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blame {
    /// The disk: full, broken, read-only.
    Disk,
    /// A limit of the process or of the kernel.
    Limit,
    /// What the configuration names: no such path, no right to it.
    Configuration,
}

pub(crate) fn blame(error: &io::Error) -> Blame {
    match error.raw_os_error().unwrap_or(0) {
        libc::ENOSPC
        | libc::EDQUOT
        | libc::EIO
        | libc::EROFS
        | libc::EFBIG
        | libc::ESTALE
        | libc::EUCLEAN => Blame::Disk,
        libc::EMFILE | libc::ENFILE | libc::ENOMEM => Blame::Limit,
        _ => Blame::Configuration,
    }
}

/// What to do about it, where that is known. `directory` is where a file was to be created or to grow.
pub(super) fn advice_in(directory: &Path, error: &io::Error) -> Option<String> {
    let errno = error.raw_os_error().unwrap_or(0);
    if errno == libc::ENOSPC
        && let Ok((0, all @ 1..)) = free_inodes(directory)
    {
        return Some(format!(
            "the file system has no inode left for a new file (0 of {all} are free, `df -i`): remove files, or give \
             log.dirs a file system with more, then start again"
        ));
    }
    advice(errno)
}

/// A result that no errno describes, for example a write that stopped half-way.
pub(super) fn without_errno(operation: impl Into<String>, reason: impl Into<String>) -> DiskError {
    DiskError { operation: operation.into(), reason: reason.into(), errno: 0 }
}

fn reason(errno: i32, error: &io::Error) -> String {
    match advice(errno) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

fn advice(errno: i32) -> Option<String> {
    let advice = match errno {
        libc::EIO => {
            return Some(format!(
                "the device failed: look at the kernel's log (dmesg), and replace the disk. {REFILL}"
            ));
        }
        libc::ENOSPC => "the file system is full: free space or move log.dirs, then start again",
        libc::EDQUOT => "the disk quota of this user is used up: raise it or free space, then start again",
        libc::EROFS => {
            "the file system is read-only (after an error the kernel makes it so): check it (dmesg, fsck) and mount it writable"
        }
        libc::EFBIG => {
            "the file size limit of this process is reached: raise it (ulimit -f) or lower log.segment.bytes"
        }
        libc::EACCES | libc::EPERM => "this user may not: fix owner and mode of the directory",
        libc::EMFILE | libc::ENFILE => "no file descriptor is left: raise the limit (ulimit -n)",
        libc::ELOOP => "a symbolic link stands where a file of this node belongs: remove it",
        libc::ECANCELED => {
            "the kernel could start no thread for the write: raise the limit of processes (ulimit -u, pids.max of the control group)"
        }
        _ => return None,
    };
    Some(advice.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_what_failed_and_what_to_do() {
        let error = disk_error("write 4096 bytes at 0 of x.log", &io::Error::from_raw_os_error(libc::ENOSPC));
        assert_eq!(error.errno, libc::ENOSPC);
        let text = error.to_string();
        assert!(text.starts_with("write 4096 bytes at 0 of x.log failed: No space left on device"), "{text}");
        assert!(text.contains("free space"), "{text}");
        for errno in [libc::EIO, libc::EROFS, libc::EDQUOT, libc::EFBIG] {
            let text = disk_error("x", &io::Error::from_raw_os_error(errno)).to_string();
            assert!(text.contains(';'), "no advice in: {text}");
        }
        let text = disk_error("x", &io::Error::from_raw_os_error(libc::EIO)).to_string();
        assert!(text.contains(REFILL), "a directory is emptied only when the others have caught up: {text}");
    }
}
