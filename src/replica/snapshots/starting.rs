//! A start from a snapshot: the newest that is whole and of this log gives what is folded from all before its end, the log the rest.
//!
//! Called by the server and by the simulator, each with its own directory. One that is torn or rotten, or of another log, is set aside,
//! and the next older serves; one that somebody has put in the wrong place, or that a newer program has written, is for a person to judge.
//! Without any, all is folded from the log, if all of it is there.

use super::{FoundSnapshots, SnapshotFile, SnapshotFiles};
use crate::config::Config;
use crate::log::{
    self, DiskError, LogConfig, LogSource, ReadSnapshot, Recovered, RecoveredLog, RecoveryError,
    SnapshotDecoder, SnapshotSource, snapshot_file_name,
};
use crate::replica::folds::{Folds, Recovery, Unusable};
use crate::types::*;

/// Read at once.
const PIECE_BYTES: usize = 1 << 20;
/// What a bad sector gives: that file is no better than a torn one.
const EIO: i32 = 5;

/// What a node goes on from.
pub(crate) struct Started {
    pub(crate) recovered: RecoveredLog,
    pub(crate) folds: Folds,
    pub(crate) snapshots: FoundSnapshots,
    /// The one that was read.
    pub(crate) from: Option<SnapshotFile>,
    /// Sentences for the server's log.
    pub(crate) notes: Vec<String>,
}

/// Why it does not start.
#[derive(Debug)]
pub(crate) enum StartError {
    Log(RecoveryError),
    Disk(DiskError),
    /// It is whole, and not for this node.
    NotOurs {
        id: OffsetAndEpoch,
        why: String,
    },
    /// It is not of this log, and no mark says that it is not the log that is wrong.
    Contradicts {
        id: OffsetAndEpoch,
        why: String,
    },
    /// Nothing holds what was folded from before this start; the newest snapshot ends earlier.
    NotCovered {
        start: Offset,
        newest: Option<OffsetAndEpoch>,
    },
}

impl From<RecoveryError> for StartError {
    fn from(error: RecoveryError) -> StartError {
        StartError::Log(error)
    }
}

impl From<DiskError> for StartError {
    fn from(error: DiskError) -> StartError {
        StartError::Disk(error)
    }
}

/// Hands on a part of the log to `Recovery::take`.
pub(crate) type OnPart<'a> = dyn FnMut(&mut Recovery, Recovered) -> Result<(), String> + 'a;

/// Look through the directory.
pub(crate) fn recover<S: LogSource + SnapshotSource>(
    source: &mut S,
    config: &Config,
    log_config: &LogConfig,
    on_part: &mut OnPart,
) -> Result<Started, StartError> {
    let mut shelf = Shelf { files: source.snapshots()?, is_one_lost: false, notes: Vec::new() };
    shelf.files.sort_unstable_by_key(|(id, _)| (id.offset, id.epoch));
    loop {
        let newest = shelf.newest_whole(source, config)?;
        let from = newest.as_ref().map(|(file, _)| *file);
        let mut recovery = match newest {
            Some((_, folds)) => Recovery::from_settled(config, folds),
            None => Recovery::new(config),
        };
        let recovered = log::recover(source, log_config, &mut |part| on_part(&mut recovery, part))?;
        let (start, newest) = (recovered.start.offset, from.map(|from| from.id));
        if start > newest.map_or(Offset(0), |id| id.offset) {
            return Err(StartError::NotCovered { start, newest });
        }
        match newest.and_then(|id| Some((id, why_not_of(&recovered, &recovery, id)?))) {
            None => return Ok(shelf.started(recovered, recovery, from)),
            Some((id, why)) if !recovered.has_mark() => {
                return Err(StartError::Contradicts { id, why: why.to_string() });
            }
            Some((id, why)) => shelf.set_aside(source, id, why)?,
        }
    }
}

/// Where the log has the record before its end, that one's epoch is the snapshot's, and a batch ends there.
fn why_not_of(recovered: &RecoveredLog, recovery: &Recovery, id: OffsetAndEpoch) -> Option<&'static str> {
    let is_other = recovered.epoch_before(id.offset).is_some_and(|epoch| epoch != id.epoch);
    (is_other || recovery.is_split())
        .then_some("it is of another log: the record before its end is not this log's")
}

/// What is there, oldest first.
struct Shelf {
    files: Vec<(OffsetAndEpoch, u64)>,
    is_one_lost: bool,
    notes: Vec<String>,
}

impl Shelf {
    /// With what is folded in it.
    fn newest_whole(
        &mut self,
        source: &mut impl SnapshotSource,
        config: &Config,
    ) -> Result<Option<(SnapshotFile, Folds)>, StartError> {
        while let Some((id, bytes)) = self.files.last().copied() {
            let why = match read_whole(source, id, config.limits.snapshot_bytes_max)? {
                Ok(read) => match Folds::of_snapshot(config, &read) {
                    Ok(folds) => return Ok(Some((SnapshotFile { id, bytes }, folds))),
                    Err(Unusable::NotOurs(why)) => return Err(StartError::NotOurs { id, why }),
                    Err(Unusable::Bad(why)) => why,
                },
                Err(why) => why,
            };
            self.set_aside(source, id, &why)?;
        }
        Ok(None)
    }

    fn set_aside(
        &mut self,
        source: &mut impl SnapshotSource,
        id: OffsetAndEpoch,
        why: &str,
    ) -> Result<(), StartError> {
        source.set_aside(id)?;
        self.files.retain(|(other, _)| *other != id);
        self.is_one_lost = true;
        let instead = match self.files.is_empty() {
            true => "what it held is folded from the log, if that is all there",
            false => "the one before it serves",
        };
        self.notes.push(format!("Set aside {}: {why}; {instead}.", snapshot_file_name(id)));
        Ok(())
    }

    fn started(self, recovered: RecoveredLog, recovery: Recovery, from: Option<SnapshotFile>) -> Started {
        let mut files = SnapshotFiles::default();
        self.files.iter().for_each(|(id, bytes)| files.add(SnapshotFile { id: *id, bytes: *bytes }));
        let snapshots = FoundSnapshots {
            files,
            fresh_bytes: recovery.fresh_bytes(),
            is_one_lost: self.is_one_lost,
            has_leftovers: true,
        };
        Started { recovered, folds: recovery.into_folds(), snapshots, from, notes: self.notes }
    }
}

/// The inner error: why it is no whole snapshot.
fn read_whole(
    source: &mut impl SnapshotSource,
    id: OffsetAndEpoch,
    bytes_max: u64,
) -> Result<Result<ReadSnapshot, String>, DiskError> {
    let mut decoder = SnapshotDecoder::new(id, bytes_max);
    let mut position = 0;
    loop {
        let piece = match source.read_snapshot(id, position, PIECE_BYTES) {
            Ok(piece) => piece,
            Err(error) if error.errno == EIO => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        if piece.is_empty() {
            return Ok(decoder.finish().map_err(|corrupt| corrupt.to_string()));
        }
        position += piece.len() as u64;
        if let Err(corrupt) = decoder.push(&piece) {
            return Ok(Err(corrupt.to_string()));
        }
    }
}
