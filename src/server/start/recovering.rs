//! What the directory holds is read back, and judged: may this node go on from it?
//!
//! How a log is read, and what is torn, rotten or in doubt, `log` says; who may start with that, is said here.

use std::path::Path;
use std::time::{Duration, Instant};

use super::failure::{Failure, config_error, disk_failure};
use crate::config::Config;
use crate::io::directory::{Directory, DirectorySource};
use crate::log::{Doubt, Effort, LogConfig, Recovered, RecoveredLog, RecoveryError, snapshot_file_name};
use crate::record::{BatchHeader, StampedBatch, check_interop};
use crate::replica::folds::Folds;
use crate::replica::snapshots::{self, SnapshotFile, StartError, Started};
use crate::replica::{EXIT_CORRUPT, log_config};
use crate::types::{DataMode, LogCheck, OffsetAndEpoch};

/// Recovery that takes longer says how far it is, this often.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(2);

pub(super) fn recover(directory: &Directory, config: &Config) -> Result<Started, Failure> {
    let (partition, limits) = (&directory.partition, &config.limits);
    let mut progress = Progress::start();
    let mut proof = Proof::new(config.data_mode, directory.is_data_mode_known);
    let mut source = DirectorySource::open(partition).map_err(disk_failure)?;
    // A summary does not say whether Kafka's voters could read what is in the segment.
    let check = if proof.must_be_interop { LogCheck::Whole } else { config.log_check };
    let log_config = LogConfig { check, ..log_config(limits) };
    let started = snapshots::recover(&mut source, config, &log_config, &mut |recovery, part| {
        if let Recovered::Batch(batch) = part {
            proof.on_batch(batch, recovery.folds());
            progress.on_batch(batch.header());
        }
        recovery.take(part)
    });
    let mut started = started.map_err(|error| not_started(error, partition))?;
    let recovered = &mut started.recovered;
    if recovered.has_lost_log && config.voters.len() == 1 && config.voters[0].id == config.node_id {
        return Err(corrupt(format!(
            "{}: there is no log, and quorum-state says that it has held committed records. This node is the only \
             voter, so nobody can fill it again. Put the log back (a volume that is not mounted?); to begin a new one \
             without those records, remove quorum-state.",
            partition.display()
        )));
    }
    started.notes.iter().chain(&recovered.notes).for_each(|note| tracing::warn!("{note}"));
    settle_doubt(recovered, config, partition)?;
    settle_lag(recovered, &started.folds, started.from, config, partition)?;
    progress.finish(&recovered.effort, started.from);
    proof.finish(partition)?;
    Ok(started)
}

fn corrupt(line: String) -> Failure {
    Failure { exit_code: EXIT_CORRUPT, line }
}

fn not_started(error: StartError, partition: &Path) -> Failure {
    let partition = partition.display();
    match error {
        StartError::Log(RecoveryError::Corrupt(found)) => corrupt(format!(
            "{found}. It lies below what was committed, so cutting it could lose acknowledged records: this \
             node does not start. The partition is {partition}."
        )),
        StartError::Log(newer @ RecoveryError::Newer { .. }) => corrupt(format!(
            "{newer}: this program cannot know what it says of the log, so this node does not start. Start the program \
             that wrote it. The partition is {partition}."
        )),
        StartError::Log(RecoveryError::Disk(error)) | StartError::Disk(error) => disk_failure(error),
        StartError::NotOurs { id, why } => config_error(format!(
            "{partition}: {} is not a snapshot for this node: {why}. This node does not start, and nothing was changed. Take the \
             file away if it was put there by mistake; a directory that kafka-storage.sh has formatted must be formatted with \
             --no-initial-controllers, and the voters named by controller.quorum.voters.",
            snapshot_file_name(id)
        )),
        StartError::Contradicts { id, why } => corrupt(format!(
            "{partition}: {}: {why}. There is no commit-mark that can be read to say which of the two belongs here: this node \
             does not start, and nothing was changed. {}.",
            snapshot_file_name(id),
            "Restore the files of one node together, commit-mark among them"
        )),
        StartError::NotCovered { start, newest } => {
            let what = match newest {
                None => "no snapshot holds".to_string(),
                Some(id) => format!("the newest snapshot ends at {} and does not hold", id.offset),
            };
            corrupt(format!(
                "{partition}: the log starts at {start}, and {what} what was folded before it (producers' last batches, what is \
                 set for the topic): who led without it would take a retry for something new. This node does not start, and \
                 nothing was changed. Restore the .checkpoint that belongs to this log."
            ))
        }
    }
}

/// What a snapshot holds was committed, and flushed here: a log that ends before that has lost it, whatever its own files say.
fn settle_lag(
    recovered: &mut RecoveredLog,
    folds: &Folds,
    from: Option<SnapshotFile>,
    config: &Config,
    partition: &Path,
) -> Result<(), Failure> {
    let Some(SnapshotFile { id: OffsetAndEpoch { offset, .. }, .. }) = from else { return Ok(()) };
    if !folds.is_ahead_of(recovered.log_end) {
        return Ok(());
    }
    let what = format!(
        "{}: the log ends at {}, and the newest snapshot holds what was committed up to {offset}: records between them are missing",
        partition.display(),
        recovered.log_end
    );
    if config.voters.iter().all(|voter| voter.id == config.node_id) {
        return Err(corrupt(format!(
            "{what}. This is the only voter: it does not start, and nothing was changed. Restore the segments that are missing."
        )));
    }
    if !recovered.quorum_state.in_doubt {
        tracing::warn!(
            "{what}. They are fetched from the leader; until this node has caught up with it, it votes for nobody and does not \
             stand."
        );
        recovered.go_on_in_doubt();
    }
    Ok(())
}

/// Who lacks records that it may have acknowledged needs another voter that can give them back.
fn settle_doubt(recovered: &mut RecoveredLog, config: &Config, partition: &Path) -> Result<(), Failure> {
    let has_peers = config.voters.iter().any(|voter| voter.id != config.node_id);
    let refuse = |line: String| Err(Failure { exit_code: EXIT_CORRUPT, line });
    if let Some(Doubt { segment, position, offset, why }) = &recovered.doubt {
        let what = format!(
            "{segment} is damaged at byte {position}, from offset {offset} on: {why}. No write that a crash cut short is \
             known to leave that, so records from there on may have been acknowledged"
        );
        if !has_peers {
            return refuse(format!(
                "{what}. This is the only voter: it does not start, and nothing was cut. Restore the file; or give up \
                 what follows: `truncate -s {position} {segment}` in {}.",
                partition.display()
            ));
        }
        tracing::warn!(
            "{what}. They are cut here and fetched from the leader; until this node has caught up with it, it votes for \
             nobody and does not stand."
        );
        recovered.go_on_in_doubt();
    }
    if recovered.quorum_state.in_doubt && !has_peers {
        return refuse(format!(
            "The end of this log was damaged when this node was one of several voters, and it has not caught up with a leader \
             since: acknowledged records may be missing. It does not start as the only voter. Start it beside the others \
             until it has caught up; or restore {}.",
            partition.display()
        ));
    }
    Ok(())
}

/// Looks for batches that this node must not go on from: those that do not fit what is folded, and, in a log that nobody has
/// vouched for yet, those that would stop one of Kafka's voters.
struct Proof {
    must_be_interop: bool,
    unfit: Option<String>,
}

impl Proof {
    fn new(mode: DataMode, is_known: bool) -> Proof {
        Proof { must_be_interop: mode == DataMode::Interop && !is_known, unfit: None }
    }

    fn on_batch(&mut self, batch: &StampedBatch, folds: &Folds) {
        if self.unfit.is_some() {
            return;
        }
        if let Err(why) = folds.fits(batch) {
            self.unfit = Some(why);
        } else if self.must_be_interop
            && let Err(why) = check_interop(batch)
        {
            self.unfit = Some(format!(
                "kraft.data.mode=interop was not the mode of this log when its batch at offset {} was written: {why}. \
                 Set kraft.data.mode=native, or give all nodes of the quorum an empty log.dirs",
                batch.base_offset()
            ));
        }
    }

    fn finish(self, partition: &Path) -> Result<(), Failure> {
        let Some(why) = self.unfit else { return Ok(()) };
        Err(config_error(format!("{}: {why}.", partition.display())))
    }
}

/// Says how far a long recovery is.
struct Progress {
    start: Instant,
    last_line: Instant,
    bytes: u64,
}

impl Progress {
    fn start() -> Progress {
        Progress { start: Instant::now(), last_line: Instant::now(), bytes: 0 }
    }

    fn finish(&self, effort: &Effort, from: Option<SnapshotFile>) {
        let Effort { bytes_read, log_bytes, segments, summaries } = effort;
        let from = from.map_or(String::new(), |from| format!(", from {}", snapshot_file_name(from.id)));
        tracing::info!(
            "Recovery read {bytes_read} bytes of a log of {log_bytes} in {} ms{from}: {summaries} of {segments} segments have \
             summaries.",
            self.start.elapsed().as_millis()
        );
    }

    fn on_batch(&mut self, header: &BatchHeader) {
        self.bytes += header.size_bytes as u64;
        if self.last_line.elapsed() >= PROGRESS_INTERVAL {
            self.last_line = Instant::now();
            tracing::info!(
                "Recovery has verified {} MiB up to offset {} in {} s.",
                self.bytes >> 20,
                header.last_offset(),
                self.start.elapsed().as_secs()
            );
        }
    }
}

#[cfg(test)]
#[path = "recovering_tests.rs"]
mod tests;
