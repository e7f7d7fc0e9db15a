//! The data directory: whose it is, that only one process uses it, and what recovery reads from it.
//!
//! `server` opens it before anything else touches the disk. It never changes a segment; that is the log's business.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use bytes::Bytes;

use super::disk_error::{Blame, advice_in, blame, disk_error};
use super::durable::{FILE_MODE, create_directories, create_new, sync_directory};
use super::file_thread::{
    COMMIT_MARK_FILE, parse_segment_file_name, replace_file, segment_file_name, small_file_name,
};
use super::snapshot_thread;
use crate::log::{
    DiskError, LogSource, SUMMARY_BYTES_MAX, SegmentId, SmallFile, SnapshotSource, snapshot_file_name,
};
use crate::properties;
use crate::types::{DataMode, NodeId, OffsetAndEpoch, Uuid};

const META_FILE: &str = "meta.properties";
/// Ours, in that file; Kafka reads over keys that it does not know.
const DATA_MODE_KEY: &str = "kraft.data.mode";
const PARTITION_FILE: &str = "partition.metadata";
pub(super) const LOCK_FILE: &str = ".lock";
/// Files of this kind are some hundred bytes; a larger one is not ours.
const SMALL_FILE_BYTES_MAX: u64 = 1 << 20;
/// A killed predecessor can have had writes under way in the last two segments: the one before a roll, and after it.
const SEGMENTS_DRAINED: usize = 2;

/// What the configuration says about the owner of the directory.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Of the quorum; a directory of another one is refused.
    pub cluster_id: String,
    /// A directory of another node is refused.
    pub node_id: NodeId,
    /// From the command line; without it meta.properties decides, and without that a new one is drawn.
    pub directory_id: Option<Uuid>,
    /// The partition's directory is named by it.
    pub topic_name: String,
    /// Kafka's id of that topic.
    pub topic_id: Uuid,
    /// Who is to be able to read the log; fixed when the log is created.
    pub data_mode: DataMode,
}

/// Why a directory is not used: one line, and whose fault that is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) blame: Blame,
    pub(crate) line: String,
}

/// What a file says that contradicts the configuration.
impl From<String> for Refusal {
    fn from(line: String) -> Refusal {
        Refusal { blame: Blame::Configuration, line }
    }
}

/// Locked for this process until it is dropped.
#[derive(Debug)]
pub(crate) struct Directory {
    pub(crate) path: PathBuf,
    /// `<path>/<topic>-0`
    pub(crate) partition: PathBuf,
    pub(crate) directory_id: Uuid,
    /// meta.properties says that the log is of the owner's mode. If not, another program or an older server wrote what
    /// is there, and the caller looks at the log before `record_data_mode`.
    pub(crate) is_data_mode_known: bool,
    _lock: File,
}

impl Directory {
    /// Create what is missing, lock it, and check that it is this node's. `Err`: one line that names key, value, file
    /// and remedy.
    pub(crate) fn open(path: &Path, owner: &Owner) -> Result<Directory, Refusal> {
        create_directories(path).map_err(|e| not_usable(path, "cannot be created", &e))?;
        let lock = lock(path)?;
        let (directory_id, is_data_mode_known) = check_meta(path, owner)?;
        let partition = path.join(format!("{}-0", owner.topic_name));
        create_directories(&partition).map_err(|e| not_usable(&partition, "cannot be created", &e))?;
        check_partition(&partition, owner)?;
        sync_directory(path).map_err(|e| not_usable(path, "cannot be flushed", &e))?;
        let path = path.to_path_buf();
        Ok(Directory { path, partition, directory_id, is_data_mode_known, _lock: lock })
    }

    /// The log is of the owner's mode from now on.
    pub(crate) fn record_data_mode(&self, owner: &Owner) -> Result<(), Refusal> {
        if self.is_data_mode_known {
            return Ok(());
        }
        let meta_path = self.path.join(META_FILE);
        let text = read_small(&meta_path).map_err(|e| not_usable(&meta_path, "cannot be read", &e))?;
        let mut properties = parse_properties(&meta_path, &text.unwrap_or_default())?;
        properties.insert(DATA_MODE_KEY.into(), owner.data_mode.to_string());
        write_meta(&self.path, owner, self.directory_id, &properties)
    }
}

fn not_usable(path: &Path, what: &str, error: &io::Error) -> Refusal {
    let line = format!("log.dirs={}: it {what} ({error}). {}", path.display(), remedy(path, error));
    Refusal { blame: blame(error), line }
}

fn remedy(path: &Path, error: &io::Error) -> String {
    match (blame(error), advice_in(path, error)) {
        (Blame::Configuration, _) if error.raw_os_error() != Some(libc::ELOOP) => {
            "Give the node a directory that its user may write.".to_string()
        }
        (_, Some(advice)) => {
            let (first, rest) = advice.split_at(1);
            format!("{}{rest}.", first.to_uppercase())
        }
        (_, None) => "Look at the kernel's log (dmesg).".to_string(),
    }
}

/// Whether a new file finds its place in the directory, which is made where it is missing. The line says what is wrong
/// and what to do, without the key: who asks knows where the directory was named.
pub(crate) fn check_writable(directory: &Path) -> Result<(), Refusal> {
    let check = || -> io::Result<()> {
        create_directories(directory)?;
        let probe = directory.join(format!(".kraft-writable-{}", std::process::id()));
        create_new(&probe)?;
        fs::remove_file(&probe)
    };
    check().map_err(|error| {
        let line = format!("the directory cannot be written ({error}). {}", remedy(directory, &error));
        Refusal { blame: blame(&error), line }
    })
}

/// An open-file lock: it also meets the lock that Kafka's own processes take on this file, and it ends with the
/// process however that dies. The pid in it is for people.
pub(super) fn lock(path: &Path) -> Result<File, Refusal> {
    let lock_path = path.join(LOCK_FILE);
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(FILE_MODE)
        .custom_flags(libc::O_NOFOLLOW)
        .open(&lock_path)
        .map_err(|e| not_usable(path, "is not writable", &e))?;
    match lock_exclusively(&file) {
        Ok(()) => {}
        Err(e) if matches!(e.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
            return Err(format!(
                "log.dirs={}: {} uses it. Stop that process, or give this node a directory of its own.",
                path.display(),
                holder(&mut file)
            )
            .into());
        }
        Err(e) => return Err(not_usable(path, "cannot be locked", &e)),
    }
    let pid = format!("{}\n", std::process::id());
    file.set_len(0)
        .and_then(|()| file.write_all_at(pid.as_bytes(), 0))
        .map_err(|e| not_usable(path, "is not writable", &e))?;
    Ok(file)
}

fn lock_exclusively(file: &File) -> io::Result<()> {
    // SAFETY: all zeros is a valid flock, for the whole file; l_pid must be 0 for open-file locks.
    let mut whole_file: libc::flock = unsafe { std::mem::zeroed() };
    whole_file.l_type = libc::F_WRLCK as i16;
    whole_file.l_whence = libc::SEEK_SET as i16;
    // SAFETY: a valid struct to read.
    if unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &whole_file) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let _ = file.take(32).read_to_string(&mut text);
    match text.trim().parse::<u32>() {
        Ok(pid) => format!("process {pid}"),
        // Java's lock file is empty.
        Err(_) => "another process".into(),
    }
}

/// Compare meta.properties with the owner, or write it. Returns the directory id, and whether the data mode is known.
fn check_meta(path: &Path, owner: &Owner) -> Result<(Uuid, bool), Refusal> {
    let meta_path = path.join(META_FILE);
    let text = read_small(&meta_path).map_err(|e| not_usable(&meta_path, "cannot be read", &e))?;
    if text.as_deref().is_some_and(|text| String::from_utf8_lossy(text).trim_matches(is_nothing).is_empty()) {
        return Err(format!(
            "{}: this file is empty, as a power cut or a full disk can leave it. It says whose the directory is: write it \
             anew from a copy, or with the lines version=1, cluster.id={}, node.id={} and directory.id= as the other voters \
             know this node's (kafka-metadata-quorum shows it); if the directory has never held a log, remove it.",
            meta_path.display(),
            owner.cluster_id,
            owner.node_id
        )
        .into());
    }
    let Some(text) = text else {
        let id = match owner.directory_id {
            Some(id) => id,
            None => random_uuid().map_err(|e| format!("No random bytes for a directory id: {e}."))?,
        };
        write_meta(path, owner, id, &BTreeMap::new())?;
        return Ok((id, false));
    };
    let Found { mut properties, directory_id, is_data_mode_known } = read_meta(&meta_path, &text, owner)?;
    if let Some(id) = directory_id {
        if let Some(wanted) = owner.directory_id.filter(|wanted| *wanted != id) {
            return Err(format!(
                "--replica-directory-id={wanted}: {} says directory.id={id}. Leave the flag out, or give the node \
                 the directory with that id.",
                meta_path.display()
            )
            .into());
        }
        return Ok((id, is_data_mode_known));
    }
    let id = match owner.directory_id {
        Some(id) => id,
        None => random_uuid().map_err(|e| format!("No random bytes for a directory id: {e}."))?,
    };
    properties.remove("broker.id");
    write_meta(path, owner, id, &properties)?;
    Ok((id, is_data_mode_known))
}

/// What meta.properties says, where nothing of it contradicts the owner.
#[derive(Debug)]
pub struct Found {
    properties: BTreeMap<String, String>,
    /// Kafka wrote none before its 3.7.
    pub directory_id: Option<Uuid>,
    pub(crate) is_data_mode_known: bool,
}

/// Reads the text of a meta.properties, whoever wrote it, and compares it with the owner. `path` is for the line of `Err`.
pub fn read_meta(path: &Path, text: &[u8], owner: &Owner) -> Result<Found, String> {
    let properties = parse_properties(path, text)?;
    let meta = Meta { path, properties: &properties };
    meta.check_version()?;
    meta.check("cluster.id", "kraft.cluster.id", &owner.cluster_id, "another cluster's")?;
    // Version 0 names the node by its old key.
    let node_key = if properties.contains_key("node.id") { "node.id" } else { "broker.id" };
    meta.check(node_key, "node.id", &owner.node_id.to_string(), "another node's")?;
    let is_data_mode_known = meta.check_data_mode(owner)?;
    let directory_id = meta.directory_id()?;
    Ok(Found { properties, directory_id, is_data_mode_known })
}

struct Meta<'a> {
    path: &'a Path,
    properties: &'a BTreeMap<String, String>,
}

impl Meta<'_> {
    fn check_version(&self) -> Result<(), String> {
        match self.properties.get("version").map(String::as_str) {
            Some("0" | "1") => Ok(()),
            other => Err(format!(
                "{}: version={} is not one that this server knows (0, 1). It was written by something newer, or is \
                 damaged: restore it, or start with an empty directory.",
                self.path.display(),
                other.unwrap_or("(absent)")
            )),
        }
    }

    fn check(&self, key: &str, config_key: &str, wanted: &str, whose: &str) -> Result<(), String> {
        match self.properties.get(key) {
            Some(found) if found == wanted => Ok(()),
            // A cluster id is optional in version 0.
            None if key == "cluster.id" => Ok(()),
            found => Err(format!(
                "{config_key}={wanted}: {} says {key}={}, so this directory is {whose}. Correct {config_key}, or \
                 give this node a log.dirs of its own.",
                self.path.display(),
                found.map_or("(absent)", String::as_str)
            )),
        }
    }

    /// False: the file does not say.
    fn check_data_mode(&self, owner: &Owner) -> Result<bool, String> {
        let wanted = owner.data_mode.to_string();
        match self.properties.get(DATA_MODE_KEY) {
            None => Ok(false),
            Some(found) if *found == wanted => Ok(true),
            Some(found) => Err(format!(
                "{DATA_MODE_KEY}={wanted}: {} says {DATA_MODE_KEY}={found}, and that is fixed when a log is created. \
                 Set {DATA_MODE_KEY}={found}, or give this node, and all others of its quorum, an empty log.dirs.",
                self.path.display()
            )),
        }
    }

    fn directory_id(&self) -> Result<Option<Uuid>, String> {
        let Some(text) = self.properties.get("directory.id") else { return Ok(None) };
        match Uuid::parse(text).filter(|id| !id.is_zero()) {
            Some(id) => Ok(Some(id)),
            None => Err(format!(
                "{}: directory.id={text} is no directory id (22 characters of base64). Restore the file, or start \
                 with an empty directory.",
                self.path.display()
            )),
        }
    }
}

fn write_meta(
    path: &Path,
    owner: &Owner,
    id: Uuid,
    others: &BTreeMap<String, String>,
) -> Result<(), Refusal> {
    let mut all = others.clone();
    all.insert("version".into(), "1".into());
    all.insert("cluster.id".into(), owner.cluster_id.clone());
    all.insert("node.id".into(), owner.node_id.to_string());
    all.insert("directory.id".into(), id.to_string());
    let text: String = all.iter().map(|(key, value)| properties::line_of(key, value)).collect();
    replace_file(path, META_FILE, text.as_bytes()).map_err(|e| not_usable(path, "is not writable", &e))
}

fn parse_properties(path: &Path, text: &[u8]) -> Result<BTreeMap<String, String>, String> {
    let found = properties::read(&properties::decode(text)).map_err(|e| {
        format!(
            "{}:{}: not in the syntax of a .properties file: {e}. Restore the file, or start with an empty directory.",
            path.display(),
            e.line
        )
    })?;
    Ok(found.into_iter().map(|found| (found.key, found.value.trim().to_string())).collect())
}

/// Kafka's `partition.metadata`: the topic id that the files belong to.
fn check_partition(partition: &Path, owner: &Owner) -> Result<(), Refusal> {
    let path = partition.join(PARTITION_FILE);
    let text = read_small(&path).map_err(|e| not_usable(&path, "cannot be read", &e))?;
    let Some(text) = text else {
        let text = format!("version: 0\ntopic_id: {}", owner.topic_id);
        return replace_file(partition, PARTITION_FILE, text.as_bytes())
            .map_err(|e| not_usable(partition, "is not writable", &e));
    };
    let text = String::from_utf8_lossy(&text);
    let is_empty = text.trim_matches(is_nothing).is_empty();
    let found =
        text.lines().find_map(|line| line.strip_prefix("topic_id:")).and_then(|id| Uuid::parse(id.trim()));
    let Some(found) = found else {
        let what = if is_empty { "this file is empty" } else { "this file has no topic_id that can be read" };
        return Err(format!(
            "{}: {what}, as a power cut or a full disk can leave it where another program wrote it. It only names \
             the topic: if the segments beside it are this node's, remove it, and the start writes it anew with \
             kraft.topic.id={}.",
            path.display(),
            owner.topic_id
        )
        .into());
    };
    if found != owner.topic_id {
        return Err(format!(
            "kraft.topic.id={}: {} says topic_id: {found}. Correct kraft.topic.id, or give this node a log.dirs of \
             its own.",
            owner.topic_id,
            path.display()
        )
        .into());
    }
    Ok(())
}

/// Zeros are what a file system shows of a file whose bytes a power cut has taken.
fn is_nothing(c: char) -> bool {
    c == '\0' || c.is_whitespace()
}

/// `None` where there is no such file.
fn read_small(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read_up_to(path, SMALL_FILE_BYTES_MAX)
}

fn read_up_to(path: &Path, bytes_max: u64) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(e),
    };
    let mut contents = Vec::new();
    file.take(bytes_max).read_to_end(&mut contents)?;
    Ok(Some(contents))
}

/// A random id of version 4, as Java draws them. Never one that starts with a dash: tools take that for a flag.
pub(super) fn random_uuid() -> io::Result<Uuid> {
    loop {
        let bits = (random_u64()? as u128) << 64 | random_u64()? as u128;
        let id = Uuid(bits & !(0xf000 << 64) & !(0xc << 60) | 0x4000 << 64 | 0x8 << 60);
        if !id.to_string().starts_with('-') {
            return Ok(id);
        }
    }
}

/// From the kernel: seeds and ids.
pub(crate) fn random_u64() -> io::Result<u64> {
    let mut bytes = [0u8; 8];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(u64::from_ne_bytes(bytes))
}

/// What recovery reads. Buffered on purpose: it reads once, forwards, and the kernel's read-ahead helps.
pub(crate) struct DirectorySource {
    partition: PathBuf,
    open: Option<(SegmentId, File)>,
}

impl DirectorySource {
    /// Waits first for the direct writes of a killed predecessor: the kernel may still carry them out after the
    /// process is gone, and what is read before them would not be what the disk holds. Then makes the names durable:
    /// it may have died between a rename and the flush of the directory, and a vote read from a quorum-state that a
    /// power cut takes back would be given twice.
    pub(crate) fn open(partition: &Path) -> Result<DirectorySource, DiskError> {
        let mut source = DirectorySource { partition: partition.to_path_buf(), open: None };
        let segments = source.segments()?;
        let last = segments.iter().rev().take(SEGMENTS_DRAINED).map(|(id, _)| segment_file_name(*id));
        for name in last.chain([COMMIT_MARK_FILE.to_string()]) {
            let path = source.partition.join(&name);
            drain(&path).map_err(|e| disk_error(format!("wait for writes under way to {name}"), &e))?;
        }
        let flush = || format!("flush the names in {}", source.partition.display());
        sync_directory(&source.partition).map_err(|e| disk_error(flush(), &e))?;
        Ok(source)
    }

    fn file(&mut self, segment: SegmentId) -> io::Result<&File> {
        let is_open = matches!(&self.open, Some((open, _)) if *open == segment);
        if !is_open {
            let file = File::open(self.partition.join(segment_file_name(segment)))?;
            self.forget_pages();
            self.open = Some((segment, file));
        }
        match &self.open {
            Some((_, file)) => Ok(file),
            None => Err(io::Error::from(io::ErrorKind::NotFound)),
        }
    }

    /// Pages left in the cache would have to be thrown out by every direct write that follows.
    fn forget_pages(&self) {
        if let Some((_, file)) = &self.open {
            // SAFETY: no pointers; advice only.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), 0, 0, libc::POSIX_FADV_DONTNEED) };
        }
    }
}

impl Drop for DirectorySource {
    fn drop(&mut self) {
        self.forget_pages();
    }
}

/// Setting a file's size, even to what it is, waits for direct I/O on it (ext4, xfs); the flush takes in the rest.
fn drain(path: &Path) -> io::Result<()> {
    let file = match OpenOptions::new().read(true).write(true).open(path) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(e),
    };
    let length = file.metadata()?.len();
    file.set_len(length)?;
    file.sync_all()
}

impl LogSource for DirectorySource {
    fn segments(&mut self) -> Result<Vec<(SegmentId, u64)>, DiskError> {
        let list = || -> io::Result<Vec<SegmentId>> {
            let mut segments = Vec::new();
            for entry in fs::read_dir(&self.partition)? {
                segments.extend(entry?.file_name().to_str().and_then(parse_segment_file_name));
            }
            segments.sort();
            Ok(segments)
        };
        // Of a link the size of what it points at: it is opened too, as Kafka does it.
        let size = |segment| {
            let name = segment_file_name(segment);
            let found = fs::metadata(self.partition.join(&name));
            found.map(|file| file.len()).map_err(|e| disk_error(format!("look at {name}"), &e))
        };
        let segments = list().map_err(|e| disk_error(format!("list {}", self.partition.display()), &e))?;
        segments.into_iter().map(|segment| Ok((segment, size(segment)?))).collect()
    }

    fn read(&mut self, segment: SegmentId, position: u64, length: usize) -> Result<Bytes, DiskError> {
        let mut read = || -> io::Result<Bytes> {
            let file = self.file(segment)?;
            let left = file.metadata()?.len().saturating_sub(position);
            let mut bytes = vec![0; length.min(usize::try_from(left).unwrap_or(usize::MAX))];
            file.read_exact_at(&mut bytes, position)?;
            Ok(bytes.into())
        };
        let what = || format!("read {length} bytes at {position} of {}", segment_file_name(segment));
        read().map_err(|e| disk_error(what(), &e))
    }

    fn small_file(&mut self, file: SmallFile) -> Result<Option<Vec<u8>>, DiskError> {
        let name = small_file_name(file);
        let bytes_max = match file {
            SmallFile::Summary(_) => SUMMARY_BYTES_MAX as u64,
            _ => SMALL_FILE_BYTES_MAX,
        };
        read_up_to(&self.partition.join(&*name), bytes_max)
            .map_err(|e| disk_error(format!("read {name}"), &e))
    }

    fn commit_mark(&mut self) -> Result<Option<Vec<u8>>, DiskError> {
        read_small(&self.partition.join(COMMIT_MARK_FILE))
            .map_err(|e| disk_error(format!("read {COMMIT_MARK_FILE}"), &e))
    }
}

impl SnapshotSource for DirectorySource {
    fn snapshots(&mut self) -> Result<Vec<(OffsetAndEpoch, u64)>, DiskError> {
        let what = || format!("list the snapshots in {}", self.partition.display());
        snapshot_thread::list(&self.partition).map_err(|e| disk_error(what(), &e))
    }

    fn read_snapshot(
        &mut self,
        id: OffsetAndEpoch,
        position: u64,
        length: usize,
    ) -> Result<Bytes, DiskError> {
        let name = snapshot_file_name(id);
        let piece = snapshot_thread::read_piece(&self.partition.join(&name), position, length);
        piece.map_err(|e| disk_error(format!("read {length} bytes at {position} of {name}"), &e))
    }

    fn set_aside(&mut self, id: OffsetAndEpoch) -> Result<(), DiskError> {
        let what = || format!("set {} aside", snapshot_file_name(id));
        snapshot_thread::set_aside(&self.partition, id).map_err(|e| disk_error(what(), &e))
    }
}

#[cfg(test)]
#[path = "directory/tests.rs"]
pub(crate) mod tests;
