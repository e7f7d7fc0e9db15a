//! What a node tells whoever runs it: how loud a line is, and with which code the process ends.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Debug,
    Info,
    Warn,
    Error,
}

/// Exit codes of the process (documented in docs/starts-and-ends.md).
pub(crate) const EXIT_OK: i32 = 0;
pub(crate) const EXIT_CONFIG: i32 = 1;
pub(crate) const EXIT_CORRUPT: i32 = 65;
pub(crate) const EXIT_DISK: i32 = 74;
pub(crate) const EXIT_KERNEL: i32 = 78;
