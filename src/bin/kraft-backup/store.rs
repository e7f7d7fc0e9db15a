//! A backup's directory: its manifest, and the files that it vouches for.
//!
//! What the manifest has is never written again. Each change goes in this order: bytes flushed, name flushed, manifest replaced. So
//! it is a backup at every moment, and a run that was killed is continued by the next one.

use std::fs::{File, TryLockError};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kraft::backup::{CopiedFile, MANIFEST_FILE, Manifest, Unusable, Walk};
use kraft::io::plain_files::{
    SharedFile, create_directories, create_new, open_lock, open_to_write, read_small, replace_file,
    sync_directory,
};
use kraft::types::Offset;

use crate::fault::Fault;
use crate::pace::Pace;
use crate::source::names_in;
use crate::span::{Bad, Sink, Span};

const LOCK_FILE: &str = ".lock";
/// On a file system of its own, and nobody's.
pub(crate) const LOST_AND_FOUND: &str = "lost+found";
/// Flushed so often that no flush of a node on the same disk stands behind much of it.
const FLUSH_BYTES: u64 = 8 << 20;

pub(crate) struct Store {
    pub(crate) path: PathBuf,
    pub(crate) manifest: Manifest,
    /// Unlocked with the process.
    _lock: File,
}

impl Store {
    /// The backup that is there, for this run alone. `None`: there is none, and one can be begun here; nothing was made or changed.
    pub(crate) fn find(path: &Path) -> Result<Option<Store>, Fault> {
        if !path.exists() {
            return Ok(None);
        }
        let names = names_in(path)?;
        let is_ours = |name: &String| {
            [LOCK_FILE, LOST_AND_FOUND, MANIFEST_FILE].contains(&name.as_str())
                || *name == format!("{MANIFEST_FILE}.tmp")
        };
        if names.iter().any(|name| name == MANIFEST_FILE) {
            let lock = lock(&path.join(LOCK_FILE))?;
            return Ok(Some(Store { path: path.to_path_buf(), manifest: read_manifest(path)?, _lock: lock }));
        }
        match names.iter().find(|name| !is_ours(name)) {
            None => Ok(None),
            Some(other) => Err(Fault::refused(format!(
                "{} is not empty and no backup: it holds {other} and no {MANIFEST_FILE}. Name an empty directory, or one that does \
                 not exist.",
                path.display()
            ))),
        }
    }

    /// A new one, where `find` has found that it can be; for this run alone.
    pub(crate) fn begin(path: &Path, beginning: Manifest) -> Result<Store, Fault> {
        create_directories(path).map_err(|e| Fault::of_file(path, "be made", &e))?;
        let lock = lock(&path.join(LOCK_FILE))?;
        if path.join(MANIFEST_FILE).exists() {
            return Err(Fault::later(format!(
                "{}: another kraft-backup has begun this backup meanwhile. Run this again.",
                path.display()
            )));
        }
        let store = Store { path: path.to_path_buf(), manifest: beginning, _lock: lock };
        store.write_manifest()?;
        Ok(store)
    }

    pub(crate) fn write_manifest(&self) -> Result<(), Fault> {
        replace_file(&self.path, MANIFEST_FILE, &self.manifest.encode())
            .map_err(|e| Fault::of_file(&self.path.join(MANIFEST_FILE), "be written", &e))
    }

    /// Where the records of the source's segment `base` go that begin with the backup's end.
    pub(crate) fn copy_of(&self, base: Offset) -> Result<Copy, Fault> {
        match self.manifest.files.last().filter(|file| file.base_offset == base.0) {
            Some(file) => Copy::go_on(&self.path, file),
            None => Copy::begin(&self.path, Offset(self.manifest.log_end)),
        }
    }

    /// The copy is the backup's, up to where the walk is.
    pub(crate) fn adopt(&mut self, copy: Copy, walk: &Walk) -> Result<(), Fault> {
        let file = copy.finish(walk.at())?;
        self.manifest.files.pop_if(|last| last.base_offset == file.base_offset);
        self.manifest.files.push(file);
        self.manifest.set_end(walk.at(), walk.epochs());
        self.write_manifest()
    }
}

fn lock(path: &Path) -> Result<File, Fault> {
    let file = open_lock(path).map_err(|e| Fault::of_file(path, "be opened", &e))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Fault::refused(format!(
            "{}: another kraft-backup writes this backup. Wait for it, or name another directory.",
            path.display()
        ))),
        Err(TryLockError::Error(e)) => Err(Fault::of_file(path, "be locked", &e)),
    }
}

/// Of the backup in this directory.
pub(crate) fn read_manifest(path: &Path) -> Result<Manifest, Fault> {
    let file = path.join(MANIFEST_FILE);
    let text = read_small(&file).map_err(|e| Fault::of_file(&file, "be read", &e))?;
    let text = text.ok_or_else(|| {
        Fault::refused(format!("{} does not exist: {} is no backup.", file.display(), path.display()))
    })?;
    Manifest::decode(&text).map_err(|why| match why {
        Unusable::OfVersion(_) => {
            Fault::refused(format!("{}: {why}. Use the program that wrote it, or a newer one.", file.display()))
        }
        Unusable::Damaged(_) => Fault::corrupt(format!(
            "{}: {why}. It is not as kraft-backup wrote it: restore it from a copy, or take a new backup into another directory.",
            file.display()
        )),
    })
}

/// A file of the backup that grows.
pub(crate) struct Copy {
    path: PathBuf,
    file: File,
    copied: CopiedFile,
    is_new: bool,
    bytes: u64,
    crc: u32,
    unflushed: u64,
}

impl Copy {
    fn begin(directory: &Path, base: Offset) -> Result<Copy, Fault> {
        let copied = CopiedFile::new(base);
        let path = directory.join(&copied.name);
        // One of that name is what a run has left that was killed before it vouched for it.
        let file = create_new(&path).map_err(|e| Fault::of_file(&path, "be made", &e))?;
        Ok(Copy { path, file, copied, is_new: true, bytes: 0, crc: 0, unflushed: 0 })
    }

    fn go_on(directory: &Path, copied: &CopiedFile) -> Result<Copy, Fault> {
        let path = directory.join(&copied.name);
        let file = open_to_write(&path).map_err(|e| Fault::of_file(&path, "be opened", &e))?;
        // What is behind its end nobody has vouched for.
        file.set_len(copied.bytes).map_err(|e| Fault::of_file(&path, "be cut", &e))?;
        let crc = copied
            .crc()
            .ok_or_else(|| Fault::corrupt(format!("{MANIFEST_FILE}: {} is no checksum.", copied.crc32c)))?;
        Ok(Copy { path, file, bytes: copied.bytes, crc, copied: copied.clone(), is_new: false, unflushed: 0 })
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let failed = |e| Fault::of_file(&self.path, "be written", &e);
        self.file.write_all_at(bytes, self.bytes).map_err(failed)?;
        self.bytes += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        self.unflushed += bytes.len() as u64;
        if self.unflushed >= FLUSH_BYTES {
            self.file.sync_data().map_err(|e| Fault::of_file(&self.path, "be flushed", &e))?;
            self.unflushed = 0;
        }
        Ok(())
    }

    fn finish(mut self, next_offset: Offset) -> Result<CopiedFile, Fault> {
        self.file.sync_all().map_err(|e| Fault::of_file(&self.path, "be flushed", &e))?;
        if self.is_new {
            let directory = self.path.parent().unwrap_or(&self.path);
            sync_directory(directory).map_err(|e| Fault::of_file(directory, "be flushed", &e))?;
        }
        self.copied.set_length(self.bytes, self.crc, next_offset);
        Ok(self.copied)
    }
}

/// Reads a file of a backup and sees that each byte of it is what the manifest says; hands them on meanwhile, each batch checked.
pub(crate) fn read_file(
    directory: &Path,
    manifest: &Manifest,
    file: &CopiedFile,
    pace: &Pace,
    sink: &mut Sink<'_>,
) -> Result<(), Fault> {
    let path = directory.join(&file.name);
    let rotten = |why: String| {
        Fault::corrupt(format!(
            "{}: {why}. This file has rotted or was changed: restore it from another copy of the backup, or take a new one.",
            path.display()
        ))
    };
    let opened = SharedFile::open_here(&path).and_then(|shared| Ok((shared.size_bytes()?, shared)));
    let (size, shared) = opened.map_err(|e| match e.kind() {
        std::io::ErrorKind::NotFound => rotten("it is in the manifest, and not there".to_string()),
        _ => Fault::of_file(&path, "be read", &e),
    })?;
    if size < file.bytes {
        return Err(rotten(format!("it has {size} bytes, and the manifest says {}", file.bytes)));
    }
    let epochs = manifest.epochs();
    let mut span = Span::of_backup(shared, Walk::new(Offset(file.base_offset), &epochs));
    let mut crc = 0;
    let mut take = |bytes: &[u8], until| {
        crc = crc32c::crc32c_append(crc, bytes);
        sink(bytes, until)
    };
    span.read_on(Offset(file.next_offset), Some(file.bytes), pace, &mut take).map_err(|bad| match bad {
        Bad::Disk(e) => Fault::of_file(&path, "be read", &e),
        Bad::Sink(fault) => fault,
        Bad::Rot { position, why } => rotten(format!("at byte {position}: {why}")),
    })?;
    let known = epochs.iter().take_while(|start| Walk::is_before(start, Offset(file.next_offset)));
    if span.position != file.bytes || !file.has_crc(crc) {
        return Err(rotten("its checksum is not the one in the manifest".to_string()));
    }
    match known.eq(span.walk.epochs()) {
        true => Ok(()),
        false => Err(rotten("its epochs are not those in the manifest".to_string())),
    }
}
