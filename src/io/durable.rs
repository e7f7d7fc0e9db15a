//! How this file system makes a write durable: direct or buffered, decided once before the start by trying it.
//!
//! `server` probes and prints the answer; the log device and the file threads open their files with it.

use std::fmt;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::disk_error::disk_error_in;
use super::file_system::is_tmpfs;
use crate::log::{BLOCK_BYTES, DiskError};
use crate::memory::ZeroedBlocks;

/// Files of a node are for its user to write and for its group to read, a directory that it makes as well. What else the
/// umask takes away stays away; a directory that is there keeps its mode.
pub(crate) const FILE_MODE: u32 = 0o640;
const DIRECTORY_MODE: u32 = 0o750;
/// 128 KiB of probe file: all of it zeroed before the first timed write, as a segment is.
const PROBE_WRITES: usize = 32;
const PROBE_FILE: &str = "durable-write.probe";

/// Both modes keep one contract: a durable write has completed only when the device has it (RWF_DSYNC).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DurableWrite {
    /// Past the page cache, with O_DIRECT.
    Direct,
    /// The directory that has no O_DIRECT.
    Buffered(PathBuf),
    /// Memory, not a disk: fast, and gone with the power.
    Tmpfs {
        /// The directory on it.
        path: PathBuf,
        /// It takes O_DIRECT (since Linux 6.6).
        direct: bool,
    },
}

impl DurableWrite {
    fn is_direct(&self) -> bool {
        matches!(self, DurableWrite::Direct | DurableWrite::Tmpfs { direct: true, .. })
    }

    /// Open for reading and writing, and creating it if asked. Never with O_APPEND: writes name their positions. What is
    /// created is never somewhere else, behind a symbolic link.
    pub(super) fn open(&self, path: &Path, create: bool) -> io::Result<File> {
        let direct = if self.is_direct() { libc::O_DIRECT } else { 0 };
        let here = if create { libc::O_NOFOLLOW } else { 0 };
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(create)
            .truncate(false)
            .mode(FILE_MODE)
            .custom_flags(direct | here)
            .open(path)
    }
}

impl fmt::Display for DurableWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DurableWrite::Direct => write!(f, "direct I/O, RWF_DSYNC"),
            DurableWrite::Buffered(path) => {
                write!(f, "buffered, RWF_DSYNC: {} has no O_DIRECT", path.display())
            }
            DurableWrite::Tmpfs { path, direct } => {
                let how = if *direct { "direct I/O" } else { "buffered" };
                write!(f, "{how}, RWF_DSYNC: {} is tmpfs, nothing survives a reboot", path.display())
            }
        }
    }
}

/// What the probe found. Latencies are of single 4 KiB durable writes inside a zeroed file.
#[derive(Clone, Debug)]
pub(crate) struct Probe {
    pub(crate) mode: DurableWrite,
    pub(crate) min: Duration,
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
    pub(crate) max: Duration,
}

impl fmt::Display for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = |d: Duration| d.as_micros();
        write!(
            f,
            "{PROBE_WRITES} probe writes of 4 KiB: min {} p50 {} p99 {} max {} us",
            us(self.min),
            us(self.p50),
            us(self.p99),
            us(self.max)
        )
    }
}

/// Try direct writes in this directory, then buffered ones, and time the kind that works. Leaves no file behind.
pub(crate) fn probe(directory: &Path) -> Result<Probe, DiskError> {
    let path = directory.join(PROBE_FILE);
    // One that a killed start has left, or a link that somebody has put there.
    let _ = std::fs::remove_file(&path);
    let result = probe_with(directory, &path);
    let _ = std::fs::remove_file(&path);
    result.map_err(|e| disk_error_in(directory, format!("the probe write to {}", path.display()), &e))
}

fn probe_with(directory: &Path, path: &Path) -> io::Result<Probe> {
    let tmpfs = is_tmpfs(directory)?;
    let direct = if tmpfs {
        DurableWrite::Tmpfs { path: directory.to_path_buf(), direct: true }
    } else {
        DurableWrite::Direct
    };
    match time_writes(&direct, path) {
        // Some file systems refuse O_DIRECT when the file is opened, some only when it is written.
        Err(e) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::EOPNOTSUPP)) => {
            let buffered = if tmpfs {
                DurableWrite::Tmpfs { path: directory.to_path_buf(), direct: false }
            } else {
                DurableWrite::Buffered(directory.to_path_buf())
            };
            time_writes(&buffered, path)
        }
        result => result,
    }
}

fn time_writes(mode: &DurableWrite, path: &Path) -> io::Result<Probe> {
    let file = mode.open(path, true)?;
    let zeros = ZeroedBlocks::new(PROBE_WRITES * BLOCK_BYTES);
    write_durable(&file, zeros.as_slice(), 0)?;
    file.sync_all()?;
    let mut times = Vec::with_capacity(PROBE_WRITES);
    for i in 0..PROBE_WRITES {
        let start = Instant::now();
        write_durable(&file, &zeros.as_slice()[..BLOCK_BYTES], (i * BLOCK_BYTES) as u64)?;
        times.push(start.elapsed());
    }
    times.sort();
    let max = times[PROBE_WRITES - 1];
    // Of 32 values the 99th percentile is the largest.
    Ok(Probe { mode: mode.clone(), min: times[0], p50: times[PROBE_WRITES / 2], p99: max, max })
}

/// The whole slice at `position`, durable when it returns (RWF_DSYNC). Blocks: for file threads and starts only.
fn write_durable(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    write_all_at(file, bytes, position, libc::RWF_DSYNC)
}

/// The whole slice at `position`; a following `sync_data` makes it durable.
pub(super) fn write_plain(file: &File, bytes: &[u8], position: u64) -> io::Result<()> {
    write_all_at(file, bytes, position, 0)
}

fn write_all_at(file: &File, mut bytes: &[u8], mut position: u64, flags: i32) -> io::Result<()> {
    while !bytes.is_empty() {
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
        // SAFETY: one iovec over a live slice that the kernel only reads.
        let n = unsafe { libc::pwritev2(file.as_raw_fd(), &vector, 1, position as i64, flags) };
        if n < 0 {
            let error = io::Error::last_os_error();
            if error.kind() == io::ErrorKind::Interrupted {
                continue;
            }
            return Err(error);
        }
        if n == 0 {
            return Err(io::Error::from(io::ErrorKind::WriteZero));
        }
        bytes = &bytes[n as usize..];
        position += n as u64;
    }
    Ok(())
}

/// Make a directory, and those above it, where they are missing. What is made has a durable name then: a log that is flushed in a
/// directory whose name is lost is lost with it.
pub(super) fn create_directories(path: &Path) -> io::Result<()> {
    create_directories_with(path, sync_directory)
}

/// `sync` makes the names of a directory durable; from the top down.
fn create_directories_with(path: &Path, mut sync: impl FnMut(&Path) -> io::Result<()>) -> io::Result<()> {
    let is_missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
    let missing: Vec<&Path> = path.ancestors().take_while(is_missing).collect();
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(path)?;
    missing.iter().rev().try_for_each(|made| match made.parent() {
        Some(above) if !above.as_os_str().is_empty() => sync(above),
        _ => sync(Path::new(".")),
    })
}

/// A file that is new: one of that name is removed first, and a link is never followed.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().write(true).create_new(true).mode(FILE_MODE).open(path)
}

/// Make the names of a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_probe_measures_and_leaves_nothing_behind() {
        let directory = tempfile::tempdir().unwrap();
        let probe = probe(directory.path()).unwrap();
        assert!(probe.min <= probe.p50 && probe.p50 <= probe.p99 && probe.p99 <= probe.max);
        assert!(probe.max > Duration::ZERO);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn tmpfs_is_named_as_what_forgets() {
        let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
        let mode = probe(directory.path()).unwrap().mode;
        assert!(matches!(mode, DurableWrite::Tmpfs { .. }), "{mode:?}");
        assert!(mode.to_string().contains("nothing survives a reboot"));
    }

    /// The directories that are flushed, each with what is in it by then.
    fn flushed(path: &Path) -> Vec<(PathBuf, Vec<std::ffi::OsString>)> {
        let mut flushed = Vec::new();
        let sync = |directory: &Path| {
            let names = std::fs::read_dir(directory)?.map(|entry| entry.map(|entry| entry.file_name()));
            flushed.push((directory.to_path_buf(), names.collect::<io::Result<_>>()?));
            Ok(())
        };
        create_directories_with(path, sync).unwrap();
        flushed
    }

    #[test]
    fn the_name_of_each_directory_that_is_made_is_flushed() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str| root.path().join(path);
        let (a, b, d) = (vec!["a".into()], vec!["b".into()], vec!["d".into()]);
        assert_eq!(flushed(&at("a/b")), [(root.path().to_path_buf(), a), (at("a"), b.clone())]);
        assert_eq!(flushed(&at("a/b/d")), [(at("a/b"), d)], "and no other");
        assert_eq!(flushed(&at("a/b/d")), []);
        create_directories(&at("a/b/e/f")).unwrap();
        assert!(at("a/b/e/f").is_dir());
    }

    /// A name without a directory before it is one of the directory that the process is in.
    #[test]
    fn a_relative_name_is_flushed_where_the_process_is() {
        let name = PathBuf::from(format!("made-by-a-test-{}", std::process::id()));
        let mut flushed = Vec::new();
        let made = create_directories_with(&name, |directory| {
            flushed.push(directory.to_path_buf());
            Ok(())
        });
        std::fs::remove_dir(&name).unwrap();
        assert!(made.is_ok() && flushed == [Path::new(".")], "{flushed:?}");
    }

    #[test]
    fn a_directory_that_cannot_be_written_is_an_error_with_its_name() {
        let error = probe(Path::new("/proc/self")).unwrap_err();
        assert!(error.operation.contains("/proc/self"), "{error}");
    }
}
