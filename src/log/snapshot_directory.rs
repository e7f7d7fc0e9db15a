//! The files of snapshots in a node's directory, for who gives them to others and who gets them from others.
//!
//! `io` has the real ones, the simulator and tests have theirs. Whoever calls waits for the disk, so it is never a core. A snapshot
//! never changes under its name: what is being fetched is written as the *part*, under another name, and renamed when it is whole.

use super::op::DiskError;

/// The files of one directory, by their names (`snapshot_file_name`).
pub trait SnapshotDirectory {
    /// What was opened can be read to its end, also when its name is gone.
    type File;

    /// `None`: no snapshot has this name.
    fn open(&mut self, name: &str) -> Result<Option<Self::File>, DiskError>;

    /// The name still stands for what was opened.
    fn is_still(&mut self, name: &str, file: &Self::File) -> bool;

    /// Of the file, in bytes.
    fn size(&self, file: &Self::File) -> u64;

    /// So many bytes from `position` on; fewer only at its end.
    fn read(&mut self, file: &Self::File, position: u64, length: usize) -> Result<Vec<u8>, DiskError>;

    /// Write at `position`, where the part ends; 0 begins it anew, whatever is there.
    fn append_part(&mut self, position: u64, bytes: &[u8]) -> Result<(), DiskError>;

    /// The part, to be read. It is there once something was appended.
    fn open_part(&mut self) -> Result<Self::File, DiskError>;

    /// The part becomes a snapshot of this name: its bytes are durable first, and its name when this returns.
    fn finish_part(&mut self, name: &str) -> Result<(), DiskError>;

    /// There is no part. There may have been none.
    fn remove_part(&mut self) -> Result<(), DiskError>;
}
