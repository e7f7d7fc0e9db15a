//! `take`: copies what is committed of a node's log, and what a backup does not have yet.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use kraft::backup::CopiedFile;
use kraft::server::output::answer_line;
use kraft::types::{Offset, OffsetAndEpoch};

use crate::ask;
use crate::fault::Fault;
use crate::pace::Pace;
use crate::source::{Cursor, Source};
use crate::store::{Store, read_file};

/// A day.
const WAIT_S_MAX: u64 = 86_400;

#[derive(Debug, Args)]
pub(crate) struct Take {
    /// The directory that the node's log.dirs names; it is only read
    #[arg(value_name = "DATA_DIR")]
    data_dir: PathBuf,

    /// Where the backup is, or is to be begun: a directory that is empty or does not exist
    #[arg(value_name = "BACKUP_DIR")]
    backup_dir: PathBuf,

    /// Have all that was acknowledged before this call: asks the leader
    ///
    /// The leader says what is committed, and it is waited until this node knows that too. Without it the backup has what this node
    /// knew 0.2 s ago, or when it stopped.
    #[arg(long, value_name = "HOST:PORT,...", value_delimiter = ',', value_parser = ask::address)]
    bootstrap_server: Vec<String>,

    /// How long to wait for that
    #[arg(long, value_name = "SECONDS", default_value_t = 30, requires = "bootstrap_server")]
    #[arg(value_parser = clap::value_parser!(u64).range(0..=WAIT_S_MAX))]
    wait_s: u64,

    /// Read no faster, for a node on the same disk
    ///
    /// All that the run reads counts: what it copies, and before that what it compares of log and backup to see that one goes on
    /// with the other.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    max_mib_per_second: Option<u64>,

    /// Only where the directory has more logs than one
    #[arg(long, value_name = "TOPIC")]
    topic: Option<String>,
}

pub(crate) fn run(arguments: &Take) -> Result<(), Fault> {
    let source = Source::open(&arguments.data_dir, arguments.topic.as_deref())?;
    let identity = &source.identity;
    let found = Store::find(&arguments.backup_dir)?;
    found.as_ref().map_or(Ok(()), |store| check_owner(store, &source))?;
    let committed = wanted(arguments, &source)?;
    let segments = source.segments()?;
    // From here on there is something to copy: a directory is not made a backup of this log before.
    let mut store = match found {
        Some(store) => store,
        None => Store::begin(&arguments.backup_dir, source.beginning())?,
    };
    let began_at = store.manifest.log_end;
    if committed.offset.0 < began_at {
        return Err(Fault::refused(format!(
            "{} has the log up to {began_at}, and node {} knows only up to {} to be committed: it does not continue this backup. If \
             it is catching up, wait for it; if its log was begun anew, name another directory.",
            store.path.display(),
            identity.node_id,
            committed.offset
        )));
    }
    let pace = Pace::new(arguments.max_mib_per_second);
    let mut cursor = compare(&store, &source, &pace, segments)?;
    store.manifest.taken_at_ms =
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_millis() as i64);
    (store.manifest.node_id, store.manifest.directory_id) = (identity.node_id, identity.directory_id.clone());
    store.manifest.wanted_end = committed.offset.0;
    store.manifest.quorum_epoch = store.manifest.quorum_epoch.max(source.quorum_epoch()?.0);
    store.write_manifest()?;
    let segments = copy(&mut store, &mut cursor, committed, &pace)?;
    answer_line!("{}", summary(&store, began_at, segments));
    Ok(())
}

/// How far to copy.
fn wanted(arguments: &Take, source: &Source) -> Result<OffsetAndEpoch, Fault> {
    if arguments.bootstrap_server.is_empty() {
        return source.committed();
    }
    let deadline = Instant::now() + Duration::from_secs(arguments.wait_s);
    let told = ask::high_watermark(&arguments.bootstrap_server, &source.topic, deadline).map_err(|why| {
        Fault::later(format!(
            "No leader has told what is committed: {why}. Is there one? Without --bootstrap-server the backup has what this node \
             knows. Nothing was copied."
        ))
    })?;
    source.wait_committed(Offset(told), deadline)
}

/// It is the backup of this log, by what both say of themselves.
fn check_owner(store: &Store, source: &Source) -> Result<(), Fault> {
    let (manifest, identity) = (&store.manifest, &source.identity);
    let mode = |mode: &Option<String>| mode.clone().unwrap_or("not known".to_string());
    let pairs = [
        ("cluster", manifest.cluster_id.clone(), identity.cluster_id.clone()),
        ("topic", manifest.topic.clone(), source.topic.clone()),
        ("topic id", manifest.topic_id.clone(), source.topic_id.clone()),
        ("data mode", mode(&manifest.data_mode), mode(&identity.data_mode)),
    ];
    match pairs.iter().find(|(_, backups, nodes)| backups != nodes) {
        None => Ok(()),
        Some((what, backups, nodes)) => Err(Fault::refused(format!(
            "{} is a backup of {what} {backups}, and this node's is {nodes}. Name another directory for it.",
            store.path.display()
        ))),
    }
}

/// The log continues the backup: all that its last file has, the log has too, byte for byte. Then the cursor stands at its end.
fn compare<'a>(
    store: &Store,
    source: &'a Source,
    pace: &'a Pace,
    segments: Vec<Offset>,
) -> Result<Cursor<'a>, Fault> {
    let manifest = &store.manifest;
    let Some(last) = manifest.files.last() else {
        return Cursor::at(source, pace, segments, Offset(0), &manifest.epochs());
    };
    compare_with(store, last, source, pace, segments).or_else(|fault| {
        // Its checksum, so that rot of the backup is not taken for another log.
        read_file(&store.path, manifest, last, pace, &mut |_, _| Ok(()))?;
        Err(fault)
    })
}

fn compare_with<'a>(
    store: &Store,
    last: &CopiedFile,
    source: &'a Source,
    pace: &'a Pace,
    segments: Vec<Offset>,
) -> Result<Cursor<'a>, Fault> {
    let name = store.path.join(&last.name);
    let differs = |why: &str| {
        Fault::refused(format!(
            "The log of node {} does not continue {}: {why}. It is of another cluster with the same id, or was begun anew. Name \
             another directory for it.",
            source.identity.node_id,
            name.display()
        ))
    };
    // Batches that end elsewhere look like rot of the log, and may be it.
    let or_rotten = |fault: Fault| match fault.exit_code == Fault::corrupt("").exit_code {
        true => Fault::corrupt(format!(
            "{} Or it has rotted. {}",
            differs("its batches are others").line,
            fault.line
        )),
        false => fault,
    };
    let (base, epochs) = (Offset(last.base_offset), store.manifest.epochs());
    let mut cursor = Cursor::at(source, pace, segments, base, &epochs).map_err(or_rotten)?;
    read_file(&store.path, &store.manifest, last, pace, &mut |ours, until| {
        let mut left = ours;
        pace.maybe_say(|| {
            format!("Compared with the node's log up to offset {until} of {}.", last.next_offset)
        });
        let read = cursor.read_on(until, &mut |theirs, _| match left.strip_prefix(theirs) {
            Some(rest) => {
                left = rest;
                Ok(())
            }
            None => Err(differs("their bytes are not the same")),
        });
        read.map_err(or_rotten)
    })?;
    Ok(cursor)
}

/// All up to there, a file for each segment, and the manifest after each. Gives how many segments were touched.
fn copy(
    store: &mut Store,
    cursor: &mut Cursor<'_>,
    committed: OffsetAndEpoch,
    pace: &Pace,
) -> Result<usize, Fault> {
    let mut segments = 0;
    while cursor.walk().at() < committed.offset {
        let (base, end) = cursor.segment()?;
        let limit = end.map_or(committed.offset, |end| end.min(committed.offset));
        let mut copy = store.copy_of(base)?;
        cursor.read_on(limit, &mut |bytes, until| {
            pace.maybe_say(|| format!("Copied up to offset {until} of {}.", committed.offset));
            copy.write(bytes)
        })?;
        if cursor.walk().at() == committed.offset {
            check_epoch(cursor, committed)?;
        }
        store.adopt(copy, cursor.walk())?;
        segments += 1;
    }
    Ok(segments)
}

/// By Raft's log matching the last batch with this offset and epoch stands for all before it.
fn check_epoch(cursor: &Cursor<'_>, committed: OffsetAndEpoch) -> Result<(), Fault> {
    let (epoch, OffsetAndEpoch { offset, epoch: told }) = (cursor.walk().last_epoch(), committed);
    if epoch == told {
        return Ok(());
    }
    Err(Fault::corrupt(format!(
        "The batch that ends at {offset} is of epoch {epoch}, and the commit mark says {told}: one of them has rotted. Take the backup \
         from another node."
    )))
}

fn summary(store: &Store, began_at: i64, segments: usize) -> String {
    let manifest = &store.manifest;
    let whole = format!(
        "{} has offsets {} to {} of cluster {}, epoch {}, {} bytes in {} files.",
        store.path.display(),
        manifest.log_start,
        manifest.log_end,
        manifest.cluster_id,
        manifest.last_epoch,
        manifest.size_bytes(),
        manifest.files.len()
    );
    match segments {
        0 => format!("Nothing has been committed since. {whole}"),
        _ => format!("Copied offsets {began_at} to {} from {segments} segments. {whole}", manifest.log_end),
    }
}
