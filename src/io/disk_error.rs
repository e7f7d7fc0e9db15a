//! What the system says when a disk fails, and what its owner can do about it. Used by everything in `io` that
//! touches a file; it never decides whether to go on.

use std::io;

use crate::log::DiskError;

/// `operation` as in "write 8192 bytes at 4096 of 00000000000000000000.log".
pub fn disk_error(operation: impl Into<String>, error: &io::Error) -> DiskError {
    let errno = error.raw_os_error().unwrap_or(0);
    DiskError { operation: operation.into(), reason: reason(errno, error), errno }
}

/// A result that no errno describes, for example a write that stopped half-way.
pub fn without_errno(operation: impl Into<String>, reason: impl Into<String>) -> DiskError {
    DiskError { operation: operation.into(), reason: reason.into(), errno: 0 }
}

fn reason(errno: i32, error: &io::Error) -> String {
    match advice(errno) {
        Some(advice) => format!("{error}; {advice}"),
        None => error.to_string(),
    }
}

fn advice(errno: i32) -> Option<&'static str> {
    Some(match errno {
        libc::ENOSPC => "the file system is full: free space or move log.dirs, then start again",
        libc::EDQUOT => "the disk quota of this user is used up: raise it or free space, then start again",
        libc::EIO => {
            "the device failed: look at the kernel's log (dmesg), replace the disk, and start with an empty directory so that the other voters fill it"
        }
        libc::EROFS => {
            "the file system is read-only (after an error the kernel makes it so): check it (dmesg, fsck) and mount it writable"
        }
        libc::EFBIG => {
            "the file size limit of this process is reached: raise it (ulimit -f) or lower log.segment.bytes"
        }
        libc::EACCES | libc::EPERM => "this user may not: fix owner and mode of the directory",
        libc::EMFILE | libc::ENFILE => "no file descriptor is left: raise the limit (ulimit -n)",
        _ => return None,
    })
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
    }
}
