//! The files of snapshots in a node's directory: see `log::SnapshotDirectory`. Plain reads and writes, through the page cache: whoever
//! calls is a thread of its own, and nobody waits for it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::disk_error::{disk_error, disk_error_in};
use super::durable::{create_new, sync_directory};
use crate::log::{DiskError, SnapshotDirectory};

/// One is fetched at a time. At a start what a killed process has left of one is removed, or overwritten by the next.
pub(crate) const FETCHED_PART_FILE: &str = "fetched.checkpoint.part";

/// The real ones.
#[derive(Debug)]
pub(crate) struct NodeSnapshots {
    /// `<log dir>/<topic>-0`
    directory: PathBuf,
    /// What is being fetched.
    part: Option<File>,
}

impl NodeSnapshots {
    pub(crate) fn new(directory: &Path) -> NodeSnapshots {
        NodeSnapshots { directory: directory.to_path_buf(), part: None }
    }

    fn part_path(&self) -> PathBuf {
        self.directory.join(FETCHED_PART_FILE)
    }

    fn append(&mut self, position: u64, bytes: &[u8]) -> io::Result<()> {
        if position == 0 {
            self.part = None;
            self.part = Some(create_new(&self.part_path())?);
        }
        let part = self.part.as_ref().ok_or_else(|| io::Error::other("it was never begun"))?;
        part.write_all_at(bytes, position)?;
        // Piece by piece: what is flushed at the end alone would keep the disk from a flush of the log for as long.
        part.sync_data()
    }

    fn finish(&mut self, name: &str) -> io::Result<()> {
        let part = self.part.take().ok_or_else(|| io::Error::other("it was never begun"))?;
        part.sync_all()?;
        fs::rename(self.part_path(), self.directory.join(name))?;
        sync_directory(&self.directory)
    }
}

impl SnapshotDirectory for NodeSnapshots {
    type File = File;

    fn open(&mut self, name: &str) -> Result<Option<File>, DiskError> {
        // Never what a link points at, nor a pipe that would be waited for.
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.directory.join(name));
        match opened {
            Ok(file) => Ok(Some(file)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(disk_error(format!("open {name}"), &error)),
        }
    }

    fn is_still(&mut self, name: &str, file: &File) -> bool {
        let same = |named: &fs::Metadata, opened: &fs::Metadata| {
            (named.dev(), named.ino(), named.len()) == (opened.dev(), opened.ino(), opened.len())
        };
        let (named, opened) = (fs::symlink_metadata(self.directory.join(name)), file.metadata());
        matches!((&named, &opened), (Ok(named), Ok(opened)) if same(named, opened))
    }

    fn size(&self, file: &File) -> u64 {
        file.metadata().map_or(0, |metadata| metadata.len())
    }

    fn read(&mut self, file: &File, position: u64, length: usize) -> Result<Vec<u8>, DiskError> {
        let read = || -> io::Result<Vec<u8>> {
            let left = usize::try_from(self.size(file).saturating_sub(position)).unwrap_or(usize::MAX);
            let mut bytes = vec![0; length.min(left)];
            file.read_exact_at(&mut bytes, position)?;
            Ok(bytes)
        };
        read().map_err(|error| disk_error(format!("read {length} bytes at {position} of a snapshot"), &error))
    }

    fn append_part(&mut self, position: u64, bytes: &[u8]) -> Result<(), DiskError> {
        let appended = self.append(position, bytes);
        let what = || format!("write {} bytes at {position} of {FETCHED_PART_FILE}", bytes.len());
        appended.map_err(|error| disk_error_in(&self.directory, what(), &error))
    }

    fn open_part(&mut self) -> Result<File, DiskError> {
        File::open(self.part_path()).map_err(|error| disk_error(format!("open {FETCHED_PART_FILE}"), &error))
    }

    fn finish_part(&mut self, name: &str) -> Result<(), DiskError> {
        let finished = self.finish(name);
        let what = || format!("rename {FETCHED_PART_FILE} to {name}");
        finished.map_err(|error| disk_error_in(&self.directory, what(), &error))
    }

    fn remove_part(&mut self) -> Result<(), DiskError> {
        self.part = None;
        match fs::remove_file(self.part_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(disk_error(format!("remove {FETCHED_PART_FILE}"), &error))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "00000000000000000009-0000000001.checkpoint";

    #[test]
    fn a_part_becomes_a_snapshot_and_a_name_is_held_against_what_was_opened() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = NodeSnapshots::new(directory.path());
        assert!(files.open(NAME).unwrap().is_none());
        // What an older life has left is not gone on with.
        fs::write(files.part_path(), b"of another life").unwrap();
        assert!(files.append_part(7, b"x").is_err(), "it was never begun");
        files.append_part(0, b"begun").unwrap();
        files.append_part(5, b" anew").unwrap();
        let part = files.open_part().unwrap();
        assert_eq!(files.read(&part, 0, 100).unwrap(), b"begun anew");
        files.finish_part(NAME).unwrap();
        assert!(!files.part_path().exists());
        let file = files.open(NAME).unwrap().expect("it is there");
        assert_eq!((files.size(&file), files.read(&file, 6, 3).unwrap()), (10, b"ane".to_vec()));
        assert!(files.read(&file, 99, 3).unwrap().is_empty());
        assert!(files.is_still(NAME, &file));
        fs::remove_file(directory.path().join(NAME)).unwrap();
        assert!(!files.is_still(NAME, &file), "it is gone");
        fs::write(directory.path().join(NAME), b"begun anew").unwrap();
        assert!(!files.is_still(NAME, &file), "another one has its name");
        assert_eq!(files.read(&file, 0, 5).unwrap(), b"begun", "what was opened stays what it was");
        files.append_part(0, b"half").unwrap();
        files.remove_part().unwrap();
        files.remove_part().unwrap();
        assert!(!files.part_path().exists() && files.finish_part(NAME).is_err());
    }

    #[test]
    fn a_link_is_no_snapshot() {
        let directory = tempfile::tempdir().unwrap();
        let mut files = NodeSnapshots::new(directory.path());
        fs::write(directory.path().join("secret"), b"of somebody else").unwrap();
        std::os::unix::fs::symlink(directory.path().join("secret"), directory.path().join(NAME)).unwrap();
        assert!(files.open(NAME).is_err());
    }
}
