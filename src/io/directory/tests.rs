use super::*;
use crate::types::Offset;
use std::process::{Command, Stdio};

pub(crate) fn owner() -> Owner {
    Owner {
        cluster_id: "Z29sZGVuLWthZmthLTQzMA".into(),
        node_id: NodeId(1),
        directory_id: None,
        topic_name: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        data_mode: DataMode::Native,
    }
}

fn meta(directory: &Path) -> String {
    fs::read_to_string(directory.join(META_FILE)).unwrap()
}

#[test]
fn a_new_directory_gets_kafkas_files_and_keeps_its_id() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("a/b");
    let first = Directory::open(&path, &owner()).unwrap();
    let id = first.directory_id;
    assert!(!id.is_zero());
    assert_eq!(
        meta(&path),
        format!("cluster.id=Z29sZGVuLWthZmthLTQzMA\ndirectory.id={id}\nnode.id=1\nversion=1\n")
    );
    assert_eq!(
        fs::read_to_string(path.join("__cluster_metadata-0/partition.metadata")).unwrap(),
        "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"
    );
    drop(first);
    assert_eq!(Directory::open(&path, &owner()).unwrap().directory_id, id);
}

#[test]
fn kafkas_own_meta_properties_is_accepted() {
    let directory = tempfile::tempdir().unwrap();
    let text = "#\n#Thu Jan 01 00:00:00 UTC 1970\nnode.id=1\ndirectory.id=JneSgxhrS4KuxcGGRG2_sQ\nversion=1\n\
                cluster.id=Z29sZGVuLWthZmthLTQzMA\n";
    fs::write(directory.path().join(META_FILE), text).unwrap();
    let opened = Directory::open(directory.path(), &owner()).unwrap();
    assert_eq!(opened.directory_id.to_string(), "JneSgxhrS4KuxcGGRG2_sQ");
    assert_eq!(meta(directory.path()), text);
}

#[test]
fn another_owner_is_refused_with_key_value_and_file() {
    let directory = tempfile::tempdir().unwrap();
    let id = Directory::open(directory.path(), &owner()).unwrap().directory_id;
    let refused = |owner: Owner| Directory::open(directory.path(), &owner).unwrap_err().line;

    let error = refused(Owner { cluster_id: "other".into(), ..owner() });
    assert!(error.contains("kraft.cluster.id=other") && error.contains("meta.properties"), "{error}");
    let error = refused(Owner { node_id: NodeId(2), ..owner() });
    assert!(error.contains("node.id=2") && error.contains("says node.id=1"), "{error}");
    let error = refused(Owner { directory_id: Some(Uuid(99)), ..owner() });
    assert!(error.contains(&format!("says directory.id={id}")), "{error}");
    let error = refused(Owner { topic_id: Uuid(7), ..owner() });
    assert!(error.contains("kraft.topic.id=") && error.contains("partition.metadata"), "{error}");
    // Nothing was changed by the refusals.
    let same = Owner { directory_id: Some(id), ..owner() };
    assert_eq!(Directory::open(directory.path(), &same).unwrap().directory_id, id);
}

#[test]
fn data_mode_is_fixed_once_it_is_recorded() {
    let directory = tempfile::tempdir().unwrap();
    let interop = Owner { data_mode: DataMode::Interop, ..owner() };
    let opened = Directory::open(directory.path(), &interop).unwrap();
    assert!(!opened.is_data_mode_known);
    drop(opened);
    // Nobody has looked at the log yet: the mode may still change.
    let opened = Directory::open(directory.path(), &owner()).unwrap();
    assert!(!opened.is_data_mode_known);
    drop(opened);
    let opened = Directory::open(directory.path(), &interop).unwrap();
    opened.record_data_mode(&interop).unwrap();
    let id = opened.directory_id;
    drop(opened);
    assert!(meta(directory.path()).contains(&format!("directory.id={id}\nkraft.data.mode=interop\n")));
    assert!(Directory::open(directory.path(), &interop).unwrap().is_data_mode_known);
    let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
    assert!(
        error.contains("kraft.data.mode=native:") && error.contains("says kraft.data.mode=interop"),
        "{error}"
    );
}

#[test]
fn damaged_meta_files_are_refused_and_old_ones_completed() {
    let directory = tempfile::tempdir().unwrap();
    let write = |text: &str| fs::write(directory.path().join(META_FILE), text).unwrap();
    for damaged in ["", "version=9\nnode.id=1", "version=1\nnode.id=1\ndirectory.id=short", "version=1"] {
        write(damaged);
        let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
        assert!(error.contains("meta.properties"), "{error}");
    }
    write("version=0\nbroker.id=1\nkept.key=a\\:b\n");
    let id = Directory::open(directory.path(), &owner()).unwrap().directory_id;
    let text = meta(directory.path());
    assert!(text.contains("kept.key=a\\:b\n") && text.contains(&format!("directory.id={id}\n")), "{text}");
    assert!(text.contains("version=1\n") && !text.contains("broker.id"), "{text}");
}

#[test]
fn an_empty_file_is_called_empty() {
    let directory = tempfile::tempdir().unwrap();
    Directory::open(directory.path(), &owner()).unwrap();
    let whole = meta(directory.path());
    for empty in ["", "\n \n", "\0\0\0\0"] {
        fs::write(directory.path().join(META_FILE), empty).unwrap();
        let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
        assert!(
            error.contains("meta.properties: this file is empty") && error.contains("node.id=1"),
            "{error}"
        );
        fs::write(directory.path().join(META_FILE), &whole).unwrap();
        let partition = directory.path().join("__cluster_metadata-0/partition.metadata");
        fs::write(&partition, empty).unwrap();
        let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
        assert!(
            error.contains("partition.metadata: this file is empty") && error.contains("remove it"),
            "{error}"
        );
        for cut in ["version: 0", "version: 0\ntopic_id: AAAA"] {
            fs::write(&partition, cut).unwrap();
            let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
            assert!(
                error.contains("partition.metadata: this file has no topic_id")
                    && error.contains("remove it"),
                "{error}"
            );
        }
        // What the line says helps.
        fs::remove_file(&partition).unwrap();
        Directory::open(directory.path(), &owner()).unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn what_is_created_is_for_its_user_and_what_is_there_keeps_its_mode() {
    use std::os::unix::fs::PermissionsExt;
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("new/data");
    drop(Directory::open(&path, &owner()).unwrap());
    for directory in [&path, &path.join("__cluster_metadata-0"), &temporary.path().join("new")] {
        assert_eq!(mode(directory) & 0o027, 0, "{}", directory.display());
    }
    for file in [META_FILE, LOCK_FILE, "__cluster_metadata-0/partition.metadata"] {
        assert_eq!(mode(&path.join(file)) & 0o137, 0, "{file}");
    }
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    drop(Directory::open(&path, &owner()).unwrap());
    assert_eq!(mode(&path), 0o755);
}

#[test]
fn no_link_is_followed_to_where_a_file_is_written() {
    use std::os::unix::fs::symlink;
    let temporary = tempfile::tempdir().unwrap();
    let (path, elsewhere) = (temporary.path().join("data"), temporary.path().join("elsewhere"));
    fs::create_dir_all(path.join("__cluster_metadata-0")).unwrap();
    fs::write(&elsewhere, "somebody else's").unwrap();
    for temporary_file in ["meta.properties.tmp", "__cluster_metadata-0/partition.metadata.tmp"] {
        symlink(&elsewhere, path.join(temporary_file)).unwrap();
    }
    drop(Directory::open(&path, &owner()).unwrap());
    assert!(meta(&path).contains("node.id=1\n"));
    fs::remove_file(path.join(LOCK_FILE)).unwrap();
    symlink(&elsewhere, path.join(LOCK_FILE)).unwrap();
    let error = Directory::open(&path, &owner()).unwrap_err().line;
    assert!(error.contains("symbolic link"), "{error}");
    assert_eq!(fs::read_to_string(&elsewhere).unwrap(), "somebody else's");
}

#[test]
fn a_directory_is_tried_by_a_file_that_does_not_stay() {
    let temporary = tempfile::tempdir().unwrap();
    let path = temporary.path().join("new/deep");
    check_writable(&path).unwrap();
    assert_eq!(fs::read_dir(&path).unwrap().count(), 0);
    fs::write(temporary.path().join("file"), "x").unwrap();
    let refusal = check_writable(&temporary.path().join("file/x")).unwrap_err();
    assert_eq!(refusal.blame, Blame::Configuration);
    assert!(refusal.line.starts_with("the directory cannot be written ("), "{refusal:?}");
}

#[test]
fn who_is_to_blame_goes_by_the_error() {
    let refused = |errno| not_usable(Path::new("/"), "is not writable", &io::Error::from_raw_os_error(errno));
    for (errno, blame, advice) in [
        (libc::EROFS, Blame::Disk, "mount it writable"),
        (libc::EDQUOT, Blame::Disk, "raise it or free space"),
        (libc::EIO, Blame::Disk, "dmesg"),
        (libc::EMFILE, Blame::Limit, "ulimit -n"),
        (libc::EACCES, Blame::Configuration, "that its user may write"),
        (libc::ENOTDIR, Blame::Configuration, "that its user may write"),
    ] {
        let refusal = refused(errno);
        assert_eq!(refusal.blame, blame, "{refusal:?}");
        assert!(
            refusal.line.starts_with("log.dirs=/: it is not writable (") && refusal.line.contains(advice),
            "{refusal:?}"
        );
    }
    assert_eq!(refused(libc::ENOSPC).blame, Blame::Disk);
}

#[test]
fn a_second_user_is_refused_by_pid() {
    let directory = tempfile::tempdir().unwrap();
    let held = Directory::open(directory.path(), &owner()).unwrap();
    let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
    assert!(error.contains(&format!("process {} uses it", std::process::id())), "{error}");
    drop(held);
    // The program that another test starts has the lock too, from its fork to its exec.
    let is_open = |_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        Directory::open(directory.path(), &owner()).is_ok()
    };
    assert!((0..2_000).any(is_open));
}

/// The lock of Kafka is a record lock of another process, not an open-file lock.
#[test]
fn a_record_lock_of_another_process_is_met_and_ends_with_it() {
    let directory = tempfile::tempdir().unwrap();
    let script = "import fcntl,sys; f=open(sys.argv[1],'w'); fcntl.lockf(f, fcntl.LOCK_EX); print('locked', flush=True); \
                  sys.stdin.read()";
    let child = Command::new("python3")
        .args(["-c", script])
        .arg(directory.path().join(LOCK_FILE))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut child) = child else { return };
    let mut line = [0; 6];
    child.stdout.as_mut().unwrap().read_exact(&mut line).unwrap();
    let error = Directory::open(directory.path(), &owner()).unwrap_err().line;
    assert!(error.contains("another process uses it"), "{error}");
    child.kill().unwrap();
    child.wait().unwrap();
    Directory::open(directory.path(), &owner()).unwrap();
}

#[test]
fn a_path_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = Directory::open(file.path(), &owner()).unwrap_err().line;
    assert!(error.starts_with("log.dirs="), "{error}");
}

#[test]
fn recovery_sees_segments_in_order_and_reads_to_the_end() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
    write("00000000000000000100.log", b"second");
    write("00000000000000000000.log", b"first segment");
    write("00000000000000000000.index", b"ignored");
    write("quorum-state", b"{}");
    let large = vec![7; 2 << 20];
    write("00000000000000000000.summary", &large);
    let mut source = DirectorySource::open(directory.path()).unwrap();
    let (first, second) = (SegmentId(Offset(0)), SegmentId(Offset(100)));
    assert_eq!(source.segments().unwrap(), vec![(first, 13), (second, 6)]);
    assert_eq!(source.read(first, 6, 7).unwrap(), "segment");
    assert_eq!(source.read(second, 3, 100).unwrap(), "ond");
    assert_eq!(source.read(second, 6, 1).unwrap(), "");
    assert_eq!(source.read(second, 600, 1).unwrap(), "");
    assert_eq!(source.small_file(SmallFile::QuorumState).unwrap(), Some(b"{}".to_vec()));
    assert_eq!(source.small_file(SmallFile::LeaderEpochCheckpoint).unwrap(), None);
    assert!(source.small_file(SmallFile::Summary(first)).unwrap() == Some(large));
    assert_eq!(source.small_file(SmallFile::Summary(second)).unwrap(), None);
    assert_eq!(source.commit_mark().unwrap(), None);
    let error = source.read(SegmentId(Offset(5)), 0, 1).unwrap_err();
    assert_eq!(error.errno, libc::ENOENT);
}

/// Read as a file of a few bytes a log would end there, and what follows be cut.
#[test]
fn a_segment_behind_a_link_is_as_large_as_it_is() {
    let (directory, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (target, link) = (elsewhere.path().join("s"), directory.path().join("00000000000000000000.log"));
    fs::write(&target, vec![7; 100_000]).unwrap();
    std::os::unix::fs::symlink(&target, &link).unwrap();
    let mut source = DirectorySource::open(directory.path()).unwrap();
    assert_eq!(source.segments().unwrap(), vec![(SegmentId(Offset(0)), 100_000)]);
    assert_eq!(source.read(SegmentId(Offset(0)), 99_000, 2_000).unwrap(), vec![7; 1_000]);
    // A disk that is not mounted is not a log without this segment.
    fs::remove_file(&target).unwrap();
    let error = source.segments().unwrap_err();
    assert!(error.errno == libc::ENOENT && error.operation.contains("00000000000000000000.log"), "{error}");
}

#[test]
fn random_ids_are_of_version_4() {
    for _ in 0..1_000 {
        let id = random_uuid().unwrap();
        assert_eq!(id.0 >> 76 & 0xf, 4);
        assert_eq!(id.0 >> 62 & 3, 2);
        assert!(!id.to_string().starts_with('-'));
    }
}

/// A directory of the kernel's own cannot be flushed: whoever reads names from it without making them durable does not
/// notice. A vote read from such a name could be taken back by a power cut (kraft-sim --lie names-believed).
#[test]
fn a_start_reads_no_name_that_it_could_not_make_durable() {
    let refused = DirectorySource::open(Path::new("/proc/self/fdinfo")).map(|_| ()).unwrap_err();
    assert!(refused.operation.contains("flush the names in"), "{refused}");
    let temporary = tempfile::tempdir().unwrap();
    assert!(DirectorySource::open(temporary.path()).is_ok());
}
