//! The whole program, but for its processes, on data directories that are made here as a node makes them.

use super::*;
use bytes::Bytes;
use clap::error::ErrorKind;
use kraft::backup::{MANIFEST_FILE, Step, Walk};
use kraft::io::plain_files::lock_directory;
use kraft::log::SegmentId;
use kraft::log::copied::{WholeLog, forgetful_quorum_state};
use kraft::record::data_batch;
use kraft::types::*;
use std::fs;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use tempfile::TempDir;

const TOPIC_ID: &str = "AAAAAAAAAAAAAAAAAAAAAQ";

/// A node's directory with a log, and a place for backups of it.
struct Node {
    root: TempDir,
    data: PathBuf,
    partition: PathBuf,
    batches: Vec<Vec<u8>>,
    end: i64,
}

impl Node {
    fn new(cluster_id: &str, node_id: i32) -> Node {
        let root = tempfile::tempdir_in(env!("CARGO_MANIFEST_DIR")).unwrap();
        let data = root.path().join("data");
        let partition = data.join("__cluster_metadata-0");
        fs::create_dir_all(&partition).unwrap();
        let meta = format!("version=1\ncluster.id={cluster_id}\nnode.id={node_id}\nkraft.data.mode=native\n");
        fs::write(data.join("meta.properties"), meta).unwrap();
        fs::write(partition.join("partition.metadata"), format!("version: 0\ntopic_id: {TOPIC_ID}")).unwrap();
        fs::write(partition.join("quorum-state"), forgetful_quorum_state(Epoch(9))).unwrap();
        Node { root, data, partition, batches: Vec::new(), end: 0 }
    }

    /// Batches of three records each.
    fn append(&mut self, batches: usize, epoch: i32) -> &mut Node {
        for _ in 0..batches {
            let value = format!("{} of {epoch}", self.end).into_bytes();
            let mut batch = data_batch(&[&value, &[7; 300], b""], 1000 + self.end, None).to_vec();
            batch[..8].copy_from_slice(&self.end.to_be_bytes());
            batch[12..16].copy_from_slice(&epoch.to_be_bytes());
            self.batches.push(batch);
            self.end += 3;
        }
        self
    }

    /// Segments of so many batches, the last one with zeros ahead of the writer; all but the last `uncommitted` batches are committed.
    fn write(&mut self, batches_in_segment: usize, uncommitted: usize) -> &mut Node {
        for name in fs::read_dir(&self.partition).unwrap().map(|entry| entry.unwrap().path()) {
            if name.extension().is_some_and(|extension| extension == "log") {
                fs::remove_file(name).unwrap();
            }
        }
        for (index, segment) in self.batches.chunks(batches_in_segment).enumerate() {
            let base = Offset((index * batches_in_segment * 3) as i64);
            let mut bytes = segment.concat();
            if (index + 1) * batches_in_segment >= self.batches.len() {
                bytes.resize(bytes.len() + 8192, 0);
            }
            fs::write(self.partition.join(SegmentId(base).file_name()), bytes).unwrap();
        }
        self.mark(uncommitted)
    }

    fn mark(&mut self, uncommitted: usize) -> &mut Node {
        let committed = self.batches.len() - uncommitted;
        let bytes = Bytes::from(self.batches[..committed].concat());
        let (mut walk, until) = (Walk::new(Offset(0), &[]), Offset(committed as i64 * 3));
        assert_eq!(walk.take(&bytes, until), Ok(Step::Taken(bytes.len())));
        self.write_mark(&walk, walk.last_epoch())
    }

    /// All that was walked is committed, and the last batch of this epoch.
    fn write_mark(&mut self, walk: &Walk, epoch: Epoch) -> &mut Node {
        let end = OffsetAndEpoch { offset: walk.at(), epoch };
        let log = WholeLog {
            log_start: Offset(0),
            end,
            epochs: walk.epochs(),
            last_segment: Offset(0),
            last_length: 0,
        };
        fs::write(self.partition.join("commit-mark"), log.commit_mark()).unwrap();
        self
    }

    /// The mark that is there, as if another program had written it, or the start had moved: version and start.
    fn rewrite_mark(&self, version: u32, start: i64) {
        const START_AT: usize = 48;
        const EPOCH_AT: usize = 72;
        const CRC_AT: usize = 508;
        let path = self.partition.join("commit-mark");
        let mut mark = fs::read(&path).unwrap();
        mark[8..12].copy_from_slice(&version.to_be_bytes());
        mark[START_AT..][..8].copy_from_slice(&start.to_be_bytes());
        mark[EPOCH_AT..CRC_AT].fill(0);
        mark[EPOCH_AT..][..4].copy_from_slice(&1i32.to_be_bytes());
        let crc = crc32c::crc32c(&mark[..CRC_AT]);
        mark[CRC_AT..][..4].copy_from_slice(&crc.to_be_bytes());
        fs::write(&path, mark).unwrap();
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn take(&self, backup: &Path) -> Result<(), Fault> {
        call(&["take", &shown(&self.data), &shown(backup)])
    }
}

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn call(arguments: &[&str]) -> Result<(), Fault> {
    let arguments = ["kraft-backup"].iter().chain(arguments);
    run(&Arguments::try_parse_from(arguments).unwrap())
}

fn verify(backup: &Path) -> Result<(), Fault> {
    call(&["verify", &shown(backup)])
}

const MEMBER: &[&str] = &["--as-member", "--node-id", "3"];

fn restore(backup: &Path, data: &Path, more: &[&str]) -> Result<(), Fault> {
    let (backup, data) = (shown(backup), shown(data));
    call(&[&["restore", backup.as_str(), data.as_str()], more].concat())
}

fn refused(result: Result<(), Fault>, exit_code: u8, why: &str) {
    let fault = result.unwrap_err();
    assert_eq!(fault.exit_code, exit_code, "{}", fault.line);
    assert!(fault.line.contains(why), "{why}: {}", fault.line);
}

/// The log that a directory of segments has.
fn log_in(directory: &Path) -> Vec<u8> {
    let mut files: Vec<_> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "log"));
    files.sort();
    files.into_iter().flat_map(|file| fs::read(file).unwrap()).collect()
}

/// Inode and time of the last change of each file.
fn stamps(directory: &Path, until: &str) -> Vec<(String, u64, i64, i64)> {
    let mut found: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.file_name().to_string_lossy().ends_with(".log"))
        .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap()))
        .map(|(name, file)| (name, file.ino(), file.mtime(), file.mtime_nsec()))
        .collect();
    found.retain(|(name, ..)| name.as_str() < until);
    found.sort();
    found
}

#[test]
fn only_what_is_committed_is_copied_and_closed_segments_once() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(10, 1).append(7, 3).write(4, 2).take(&backup).unwrap();
    assert_eq!(
        log_in(&backup),
        node.batches[..15].concat(),
        "and not a byte of what is not committed, nor a zero"
    );
    verify(&backup).unwrap();
    let before = stamps(&backup, &SegmentId(Offset(36)).file_name());
    assert_eq!(before.len(), 3);
    // Nothing new: nothing changes. Then the two are committed, and more has come.
    node.take(&backup).unwrap();
    node.append(6, 3).write(4, 0).take(&backup).unwrap();
    assert_eq!(log_in(&backup), node.batches.concat());
    assert_eq!(
        stamps(&backup, &SegmentId(Offset(36)).file_name()),
        before,
        "closed segments are not written again"
    );
    verify(&backup).unwrap();
    let manifest = store::read_manifest(&backup).unwrap();
    assert_eq!((manifest.log_end, manifest.last_epoch, manifest.quorum_epoch), (69, 3, 9));
    assert_eq!(manifest.epochs().len(), 2);
}

#[test]
fn another_node_of_the_cluster_goes_on_where_the_first_one_ended() {
    let (mut one, mut two) = (Node::new("c", 1), Node::new("c", 2));
    let backup = one.path("backup");
    one.append(10, 1).write(4, 0).take(&backup).unwrap();
    two.append(10, 1).append(9, 2).write(7, 1).take(&backup).unwrap();
    assert_eq!(log_in(&backup), two.batches[..18].concat());
    verify(&backup).unwrap();
    // And the first one again, which has other borders and is further.
    one.append(9, 2).append(1, 2).write(4, 0).take(&backup).unwrap();
    assert_eq!(log_in(&backup), one.batches.concat());
    verify(&backup).unwrap();
}

#[test]
fn what_is_not_the_same_log_is_refused_by_name() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(10, 1).write(4, 0).take(&backup).unwrap();
    let kept = log_in(&backup);
    let mut other = Node::new("d", 1);
    refused(
        other.append(12, 1).write(4, 0).take(&backup),
        1,
        "is a backup of cluster c, and this node's is d",
    );
    let mut anew = Node::new("c", 1);
    anew.append(9, 1).append(5, 2).write(4, 0);
    refused(anew.take(&backup), 1, "does not continue");
    // The same offsets and epochs, other records.
    let mut same = Node::new("c", 1);
    same.append(12, 1);
    let rewritten = |batch: &mut Vec<u8>| {
        let head = batch[..16].to_vec();
        *batch = data_batch(&[b"other", b"", b""], 5, None).to_vec();
        batch[..8].copy_from_slice(&head[..8]);
        batch[12..16].copy_from_slice(&head[12..]);
    };
    rewritten(&mut same.batches[9]);
    refused(same.write(4, 0).take(&backup), 1, "their bytes are not the same");
    let mut behind = Node::new("c", 2);
    refused(behind.append(9, 1).write(4, 0).take(&backup), 1, "knows only up to 27 to be committed");
    assert_eq!(log_in(&backup), kept);
    verify(&backup).unwrap();
}

#[test]
fn a_log_that_proves_nothing_is_not_copied() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(5, 1).write(4, 0);
    let mark = node.partition.join("commit-mark");
    for (contents, exit_code, why) in
        [(vec![0; 8192], 1, "nothing proves"), (vec![3; 8192], 65, "both of its slots have rotted")]
    {
        fs::write(&mark, contents).unwrap();
        refused(node.take(&backup), exit_code, why);
    }
    node.mark(0).rewrite_mark(3, 6);
    refused(node.take(&backup), 1, "its commit mark says that it starts at 6");
    node.mark(0).rewrite_mark(4, 6);
    refused(node.take(&backup), 1, "is of version 4, which a newer program wrote");
    fs::remove_file(&mark).unwrap();
    refused(node.take(&backup), 1, "no log of kraft-server is here");
    refused(
        call(&["take", &shown(&node.partition), &shown(&backup)]),
        1,
        "name the directory that the node's log.dirs names",
    );
    node.write(4, 0);
    // What it holds is folded from the log.
    fs::write(node.partition.join("00000000000000000009-0000000001.checkpoint"), "").unwrap();
    let (data, target) = (shown(&node.data), shown(&backup));
    let arguments = ["take", &data, &target, "--bootstrap-server", "127.0.0.1:1", "--wait-s", "0"];
    refused(call(&arguments), 75, "No leader has told");
    assert!(!backup.exists(), "a directory is no backup before there is something to copy");
    fs::create_dir(&backup).unwrap();
    refused(call(&arguments), 75, "No leader has told");
    assert_eq!(source::names_in(&backup).unwrap(), [""; 0]);
    node.take(&backup).unwrap();
    assert!(source::names_in(&backup).unwrap().iter().all(|name| !name.ends_with(".checkpoint")));
}

/// Another one's refused run leaves nothing that would refuse this one.
#[test]
fn who_was_refused_has_not_claimed_the_directory() {
    let (mut one, mut two) = (Node::new("c", 1), Node::new("d", 1));
    let backup = one.path("backup");
    one.append(5, 1).write(4, 0);
    fs::remove_file(one.partition.join("commit-mark")).unwrap();
    refused(one.take(&backup), 1, "no log of kraft-server is here");
    one.write(4, 5);
    refused(one.take(&backup), 1, "nothing proves");
    two.append(5, 1).write(4, 0).take(&backup).unwrap();
    assert_eq!(store::read_manifest(&backup).unwrap().cluster_id, "d");
}

/// What is compared and looked through before anything is copied is read from the same disk.
#[test]
fn the_pace_is_that_of_all_that_is_read() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(1600, 1).write(1600, 0).take(&backup).unwrap();
    let bytes = log_in(&backup).len();
    assert!(bytes > 600_000, "{bytes}");
    // Nothing is copied: the backup's file and the node's are compared.
    let began = Instant::now();
    call(&["take", &shown(&node.data), &shown(&backup), "--max-mib-per-second", "1"]).unwrap();
    let least = Duration::from_secs_f64(2.0 * bytes as f64 / (1 << 20) as f64) - Duration::from_millis(150);
    assert!(began.elapsed() >= least, "{:?} for twice {bytes} bytes", began.elapsed());
    // The last file of the backup is short, and begins behind most of the node's segment.
    node.append(1, 1).write(1600, 0).take(&backup).unwrap();
    node.write(1601, 0);
    let began = Instant::now();
    call(&["take", &shown(&node.data), &shown(&backup), "--max-mib-per-second", "1"]).unwrap();
    assert!(began.elapsed() >= least / 2 - Duration::from_millis(150), "{:?}", began.elapsed());
}

/// An epoch lies outside of a batch's CRC, so that a rotten one of the last batch is seen only there.
#[test]
fn a_last_batch_of_another_epoch_than_the_marks_is_not_copied() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(6, 1).write(4, 0);
    let mut walk = Walk::new(Offset(0), &[]);
    walk.take(&Bytes::from(node.batches.concat()), Offset(18)).unwrap();
    refused(node.write_mark(&walk, Epoch(2)).take(&backup), 65, "is of epoch 1, and the commit mark says 2");
    assert_eq!(store::read_manifest(&backup).unwrap().log_end, 12);
}

#[test]
fn rot_of_the_node_does_not_get_into_a_backup() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(12, 1).write(4, 0);
    let second = node.partition.join(SegmentId(Offset(12)).file_name());
    let whole = fs::read(&second).unwrap();
    let mut rotten = whole.clone();
    rotten[node.batches[4].len() + 100] ^= 1;
    fs::write(&second, rotten).unwrap();
    refused(node.take(&backup), 65, "rotten at byte");
    assert_eq!(store::read_manifest(&backup).unwrap().log_end, 12, "what lies before is a backup");
    verify(&backup).unwrap();
    fs::write(&second, &whole[..whole.len() - 1]).unwrap();
    refused(node.take(&backup), 65, "it ends within a batch");
    fs::write(&second, &whole).unwrap();
    node.take(&backup).unwrap();
    assert_eq!(log_in(&backup), node.batches.concat());
}

#[test]
fn a_run_that_was_killed_is_continued() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(10, 1).write(4, 0).take(&backup).unwrap();
    let manifest = fs::read(backup.join(MANIFEST_FILE)).unwrap();
    node.append(8, 1).write(4, 0).take(&backup).unwrap();
    // The manifest of before, with the files of after: some of it, and then something else.
    fs::write(backup.join(MANIFEST_FILE), &manifest).unwrap();
    fs::write(backup.join(format!("{MANIFEST_FILE}.tmp")), "{").unwrap();
    let open =
        fs::OpenOptions::new().write(true).open(backup.join(SegmentId(Offset(24)).file_name())).unwrap();
    open.write_all_at(b"half a batch", open.metadata().unwrap().len() - 100).unwrap();
    verify(&backup).unwrap();
    node.take(&backup).unwrap();
    assert_eq!(log_in(&backup), node.batches.concat());
    verify(&backup).unwrap();
}

#[test]
fn every_flipped_byte_of_a_backup_is_found_and_not_restored() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(3, 1).append(2, 4).write(3, 0).take(&backup).unwrap();
    let target = node.path("restored");
    let mut files = 0;
    for name in fs::read_dir(&backup).unwrap().map(|entry| entry.unwrap().path()) {
        let whole = fs::read(&name).unwrap();
        files += usize::from(!whole.is_empty());
        // Reading again takes a while: not each byte, but each field of a batch and each key.
        for at in (0..whole.len()).filter(|at| at % 37 == 0 || at % 61 < 2) {
            let mut rotten = whole.clone();
            rotten[at] ^= 1 << (at % 8);
            fs::write(&name, rotten).unwrap();
            let (verified, restored) = (verify(&backup), restore(&backup, &target, MEMBER));
            assert_eq!(verified.unwrap_err().exit_code, 65, "{} at {at}", name.display());
            assert_eq!(restored.unwrap_err().exit_code, 65, "{} at {at}", name.display());
        }
        fs::write(&name, &whole).unwrap();
        if !whole.is_empty() {
            fs::write(&name, &whole[..whole.len() - 1]).unwrap();
            assert_eq!(verify(&backup).unwrap_err().exit_code, 65, "{}", name.display());
            fs::write(&name, &whole).unwrap();
        }
    }
    assert_eq!(files, 3, "two segments and the manifest");
    fs::rename(backup.join(SegmentId(Offset(0)).file_name()), node.path("away")).unwrap();
    refused(verify(&backup), 65, "1 of 2 files");
    fs::rename(node.path("away"), backup.join(SegmentId(Offset(0)).file_name())).unwrap();
    verify(&backup).unwrap();
    restore(&backup, &target, MEMBER).unwrap();
}

/// Each of its batches is valid, of the right offset and epoch: only the file's checksum knows that it is not the one that was copied.
#[test]
fn a_batch_of_another_history_in_a_backup_is_found() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(3, 1).write(4, 0).take(&backup).unwrap();
    let mut other = data_batch(&[b"3 of 2", &[7; 300], b""], 1003, None).to_vec();
    other[..16].copy_from_slice(&node.batches[1][..16]);
    assert!(other.len() == node.batches[1].len() && other != node.batches[1]);
    let forged = [&node.batches[0], &other, &node.batches[2]].map(Vec::as_slice).concat();
    fs::write(backup.join(SegmentId(Offset(0)).file_name()), forged).unwrap();
    refused(verify(&backup), 65, "its checksum is not the one in the manifest");
    refused(restore(&backup, &node.path("target"), MEMBER), 65, "its checksum");
    refused(node.append(1, 1).write(4, 0).take(&backup), 65, "its checksum");
}

#[test]
fn what_a_killed_run_left_behind_the_end_goes() {
    let mut node = Node::new("c", 1);
    let backup = node.path("backup");
    node.append(2, 1).write(9, 0).take(&backup).unwrap();
    let last = backup.join(SegmentId(Offset(0)).file_name());
    fs::write(&last, [fs::read(&last).unwrap(), vec![9; 50_000]].concat()).unwrap();
    verify(&backup).unwrap();
    node.append(1, 1).write(9, 0).take(&backup).unwrap();
    assert!(fs::read(&last).unwrap() == node.batches.concat());
}

#[test]
fn what_stands_in_the_way_is_named() {
    let mut node = Node::new("c", 1);
    node.append(5, 1).write(4, 0);
    let full = node.path("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letters.txt"), "dear").unwrap();
    refused(node.take(&full), 1, "it holds letters.txt and no manifest.json");
    refused(verify(&full), 1, "is no backup");
    let backup = node.path("backup");
    node.take(&backup).unwrap();
    refused(restore(&backup, &full, MEMBER), 1, "is not empty: it holds letters.txt");
    refused(restore(&backup, &node.data, MEMBER), 1, "is not empty");
    // A link where a file of the backup was.
    let last = backup.join(SegmentId(Offset(12)).file_name());
    fs::rename(&last, node.path("elsewhere")).unwrap();
    symlink(node.path("elsewhere"), &last).unwrap();
    refused(verify(&backup), 1, "1 of 2 files");
    refused(node.append(1, 1).write(4, 0).take(&backup), 1, "a symbolic link stands where a file belongs");
    fs::remove_file(&last).unwrap();
    fs::rename(node.path("elsewhere"), &last).unwrap();
    // Another run beside this one.
    let lock = fs::OpenOptions::new().write(true).open(backup.join(".lock")).unwrap();
    lock.lock().unwrap();
    refused(node.take(&backup), 1, "another kraft-backup writes this backup");
    drop(lock);
    node.take(&backup).unwrap();
}

#[test]
fn a_restored_directory_has_what_its_destiny_needs() {
    let mut node = Node::new("c", 3);
    let backup = node.path("backup");
    node.append(9, 1).append(2, 5).write(4, 0).take(&backup).unwrap();
    let meta = |target: &Path| fs::read_to_string(target.join("meta.properties")).unwrap();
    let member = node.path("member");
    fs::create_dir_all(member.join("lost+found")).unwrap();
    restore(&backup, &member, &["--as-member", "--node-id", "3"]).unwrap();
    let partition = member.join("__cluster_metadata-0");
    assert_eq!(log_in(&partition), node.batches.concat());
    assert!(meta(&member).contains("cluster.id=c\n") && meta(&member).contains("node.id=3\n"));
    let state = fs::read_to_string(partition.join("quorum-state")).unwrap();
    for said in [r#""leaderId":-1"#, r#""leaderEpoch":9"#, r#""votedId":-1"#, r#""caughtUp":false"#] {
        assert!(state.contains(said), "{state}");
    }
    let new = node.path("new");
    restore(&backup, &new, &["--as-new-cluster", "--cluster-id", "mine", "--node-id", "1"]).unwrap();
    assert!(meta(&new).contains("cluster.id=mine\n") && meta(&new).contains("node.id=1\n"));
    let id =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("directory.id=")).unwrap().to_string();
    assert_ne!(id(&meta(&new)), id(&meta(&member)), "each disk is another");
    let refuse = |more: &[&str], why| refused(restore(&backup, &node.path("none"), more), 1, why);
    refuse(
        &["--as-new-cluster", "--node-id", "1", "--cluster-id", "c"],
        "is the cluster that the backup is of",
    );
    refuse(&["--as-new-cluster", "--node-id", "1", "--cluster-id", ""], "1 to 255");
    // A backup of a restored node goes on with the one that it came from.
    fs::remove_dir_all(&node.data).unwrap();
    call(&["take", &shown(&member), &shown(&backup)]).unwrap();
}

#[test]
fn what_a_restore_left_that_was_killed_is_named() {
    let mut node = Node::new("c", 3);
    let (backup, target) = (node.path("backup"), node.path("target"));
    node.append(3, 1).write(4, 0).take(&backup).unwrap();
    fs::create_dir_all(target.join("__cluster_metadata-0.restoring")).unwrap();
    refused(
        restore(&backup, &target, MEMBER),
        1,
        "A restore that was ended has left __cluster_metadata-0.restoring",
    );
}

/// A node that its supervisor starts again while a restore runs would begin an empty log there.
#[test]
fn no_node_and_no_restore_uses_the_directory_meanwhile() {
    let mut node = Node::new("c", 3);
    let (backup, target) = (node.path("backup"), node.path("target"));
    node.append(1, 3).write(3, 0).take(&backup).unwrap();
    fs::create_dir(&target).unwrap();
    let held = lock_directory(&target).unwrap();
    refused(restore(&backup, &target, MEMBER), 1, "uses it");
    drop(held);
    restore(&backup, &target, MEMBER).unwrap();
}

#[test]
fn how_long_to_wait_is_bounded_and_said_with_whom() {
    let parse =
        |more: &[&str]| Arguments::try_parse_from([&["kraft-backup", "take", "a", "b"], more].concat());
    assert!(parse(&[]).is_ok() && parse(&["--bootstrap-server", "h:1", "--wait-s", "9"]).is_ok());
    let forever = parse(&["--bootstrap-server", "h:1", "--wait-s", "18446744073709551615"]);
    assert_eq!(forever.unwrap_err().kind(), ErrorKind::ValueValidation);
    assert_eq!(parse(&["--wait-s", "9"]).unwrap_err().kind(), ErrorKind::MissingRequiredArgument);
    let no_port = parse(&["--bootstrap-server", "a:1,localhost"]).unwrap_err();
    assert_eq!(no_port.kind(), ErrorKind::ValueValidation);
    assert!(no_port.to_string().contains("no port: give host:port"), "{no_port}");
}

#[test]
fn it_must_be_said_what_is_restored() {
    for (more, kind) in [
        (&[][..], ErrorKind::MissingRequiredArgument),
        (&["--as-member", "--as-new-cluster"], ErrorKind::ArgumentConflict),
        (&["--as-member", "--cluster-id", "x"], ErrorKind::ArgumentConflict),
        (&["--as-member", "--node-id=-1"], ErrorKind::ValueValidation),
        // Not that of the node which was copied: it may run.
        (&["--as-member"], ErrorKind::MissingRequiredArgument),
    ] {
        let arguments = [&["kraft-backup", "restore", "a", "b"][..], more].concat();
        assert_eq!(Arguments::try_parse_from(&arguments).unwrap_err().kind(), kind, "{more:?}");
    }
}
