//! The snapshots of this node: which there are, when one is taken, which go.
//!
//! A snapshot is what is folded from all that is committed up to its end, as a file. The files are written, read and removed on a thread
//! of their own ([`crate::log::SnapshotOp`]); here is the list of them, and who asks for what. `Replica` ends each turn with
//! `end_turn`, and hands in what was done. docs/design/log-without-end.md has the whole.

pub(super) mod fetching;
pub(super) mod serving;
mod starting;
mod taking;

use std::collections::BTreeMap;

use super::desk::{Desk, Engine};
use super::input::Action;
use super::notice::Level;
use crate::config::Config;
use crate::log::{DiskError, SnapshotCompletion, SnapshotDone, SnapshotOp, SnapshotWork, snapshot_file_name};
use crate::types::*;
use serving::Serving;
pub(crate) use starting::{StartError, Started, recover};
use taking::Taking;

/// The newest, and one before it, should that one rot.
const FILES_KEPT: usize = 2;

/// A whole one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SnapshotFile {
    /// End of what is folded in it, and the epoch of the record before that.
    pub(crate) id: OffsetAndEpoch,
    /// Of the file.
    pub(crate) bytes: u64,
}

/// Those of this node that are whole, as far as anybody has looked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotFiles {
    /// By their ends.
    files: BTreeMap<(Offset, Epoch), u64>,
}

impl SnapshotFiles {
    pub(crate) fn add(&mut self, file: SnapshotFile) {
        self.files.insert((file.id.offset, file.id.epoch), file.bytes);
    }

    pub(crate) fn forget(&mut self, id: OffsetAndEpoch) {
        self.files.remove(&(id.offset, id.epoch));
    }

    pub(crate) fn newest(&self) -> Option<SnapshotFile> {
        self.files.last_key_value().map(file_of)
    }

    pub(crate) fn len(&self) -> usize {
        self.files.len()
    }

    /// The oldest, if it need not be kept: there are newer ones, or the log starts behind it, so that it covers nothing.
    fn surplus(&self, start: Offset) -> Option<SnapshotFile> {
        let newest_first = self.files.keys().rev().take(FILES_KEPT).enumerate();
        let kept = newest_first.filter(|(place, (end, _))| *place == 0 || *end >= start).count();
        self.files.first_key_value().filter(|_| self.files.len() > kept).map(file_of)
    }
}

fn file_of((&(offset, epoch), &bytes): (&(Offset, Epoch), &u64)) -> SnapshotFile {
    SnapshotFile { id: OffsetAndEpoch { epoch, offset }, bytes }
}

/// What a start has found, for the replica that goes on from it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FoundSnapshots {
    pub(crate) files: SnapshotFiles,
    /// Bytes of the log that lie behind the one that the start has read, or of all of it.
    pub(crate) fresh_bytes: u64,
    /// The newest that was there is none any more.
    pub(crate) is_one_lost: bool,
    /// A process that died has left something that is to go.
    pub(crate) has_leftovers: bool,
}

/// What an operation was for.
#[derive(Clone, Copy, Debug)]
enum Purpose {
    Taking,
    Removing(OffsetAndEpoch),
    Tidying,
}

/// For /status and the metrics.
#[derive(Clone, Debug, Default)]
pub(super) struct SnapshotsStatus {
    pub(super) newest: Option<SnapshotFile>,
    pub(super) kept: usize,
    /// Monotonic ns at which this node has begun to take its last one; of its start, if it has taken none.
    pub(super) taken_ns: u64,
    pub(super) counts: SnapshotCounts,
    /// Why none is taken, in words.
    pub(super) problem: Option<String>,
}

/// Totals since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SnapshotCounts {
    pub(crate) taken: u64,
    /// The file could not be written.
    pub(crate) failed: u64,
    /// Too much came in while it was copied, or what it held was cut.
    pub(crate) given_up: u64,
}

pub(super) struct Snapshots {
    files: SnapshotFiles,
    taking: Taking,
    has_leftovers: bool,
    has_begun: bool,
    is_removing: bool,
    /// One may be there that nobody needs.
    looks_for_surplus: bool,
    /// By the tokens of the operations.
    under_way: BTreeMap<u64, Purpose>,
}

impl Snapshots {
    pub(super) fn new(config: &Config, now: Now) -> Snapshots {
        Snapshots {
            files: SnapshotFiles::default(),
            taking: Taking::new(config, now),
            has_leftovers: false,
            has_begun: false,
            is_removing: false,
            looks_for_surplus: true,
            under_way: BTreeMap::new(),
        }
    }

    /// Before the first turn.
    pub(super) fn know(&mut self, found: FoundSnapshots) {
        let FoundSnapshots { files, fresh_bytes, is_one_lost, has_leftovers } = found;
        (self.files, self.has_leftovers) = (files, has_leftovers);
        self.taking.found(fresh_bytes, is_one_lost);
    }

    /// Once in each turn of an open engine.
    pub(super) fn end_turn(&mut self, engine: &mut Engine, desk: &mut Desk, serving: &Serving) {
        // All that recovery has repaired is durable: what nobody needs may go.
        if !std::mem::replace(&mut self.has_begun, true) && self.has_leftovers {
            self.submit(desk, Purpose::Tidying, SnapshotWork::Tidy);
        }
        if self.looks_for_surplus {
            self.remove_surplus(engine, desk, serving);
        }
        self.take(engine, desk);
    }

    /// One of the leader's is durable here: it may end ahead of this node's log.
    pub(super) fn on_fetched(&mut self, engine: &Engine, file: SnapshotFile, now_ns: u64) {
        self.files.add(file);
        self.looks_for_surplus = true;
        self.taking.on_fetched(now_ns, engine.counts().committed_bytes);
    }

    pub(super) fn on_done(&mut self, engine: &mut Engine, desk: &mut Desk, done: SnapshotCompletion) {
        let SnapshotCompletion { token, result } = done;
        match self.under_way.remove(&token) {
            None => {}
            Some(Purpose::Taking) => self.on_written(engine, desk, result),
            Some(Purpose::Removing(id)) => self.on_removed(desk, id, result),
            Some(Purpose::Tidying) => {
                if let Err(error) = result {
                    desk.note(Level::Warn, format!("what a snapshot has left cannot be removed: {error}"));
                }
            }
        }
    }

    fn submit(&mut self, desk: &mut Desk, purpose: Purpose, kind: SnapshotWork) {
        let token = desk.fresh_id();
        self.under_way.insert(token, purpose);
        desk.act(Action::Snapshot(SnapshotOp { token, kind }));
    }

    /// Oldest first, one at a time, and none that a voter is being given.
    fn remove_surplus(&mut self, engine: &Engine, desk: &mut Desk, serving: &Serving) {
        let surplus = self.files.surplus(engine.log().log_start()).filter(|_| !self.is_removing);
        self.looks_for_surplus = surplus.is_some();
        let Some(SnapshotFile { id, .. }) = surplus.filter(|file| !serving.is_held(desk.now, file.id)) else {
            return;
        };
        (self.is_removing, self.looks_for_surplus) = (true, false);
        self.submit(desk, Purpose::Removing(id), SnapshotWork::Remove { id });
    }

    fn on_removed(&mut self, desk: &mut Desk, id: OffsetAndEpoch, result: Result<SnapshotDone, DiskError>) {
        self.is_removing = false;
        match result {
            Ok(_) => {
                self.files.forget(id);
                self.looks_for_surplus = true;
            }
            // With the next one it is tried again.
            Err(error) => {
                let name = snapshot_file_name(id);
                desk.note(Level::Warn, format!("{name} is not needed, and cannot be removed: {error}"));
            }
        }
    }

    pub(super) fn status(&self) -> SnapshotsStatus {
        SnapshotsStatus {
            newest: self.files.newest(),
            kept: self.files.len(),
            taken_ns: self.taking.taken_ns(),
            counts: self.taking.counts(),
            problem: self.taking.problem(),
        }
    }

    pub(super) fn counts(&self) -> SnapshotCounts {
        self.taking.counts()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(offset: i64, epoch: i32) -> OffsetAndEpoch {
        OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) }
    }

    fn files(ids: &[OffsetAndEpoch]) -> SnapshotFiles {
        let mut files = SnapshotFiles::default();
        ids.iter().for_each(|id| files.add(SnapshotFile { id: *id, bytes: id.offset.0 as u64 }));
        files
    }

    #[test]
    fn the_newest_is_the_one_that_ends_last() {
        let mut files = files(&[id(40, 9), id(60, 1), id(50, 2)]);
        assert_eq!(files.newest(), Some(SnapshotFile { id: id(60, 1), bytes: 60 }));
        files.forget(id(60, 1));
        assert_eq!(files.newest().map(|file| file.id), Some(id(50, 2)));
        assert_eq!(SnapshotFiles::default().newest(), None);
    }

    #[test]
    fn the_newest_stays_and_the_one_before_it_while_it_covers_the_start() {
        let three = files(&[id(40, 1), id(50, 1), id(60, 1)]);
        let goes = |files: &SnapshotFiles, start| files.surplus(Offset(start)).map(|file| file.id);
        assert_eq!(goes(&three, 0), Some(id(40, 1)));
        let two = files(&[id(50, 1), id(60, 1)]);
        assert_eq!(goes(&two, 0), None);
        assert_eq!(goes(&two, 50), None, "it ends where the log starts");
        assert_eq!(goes(&two, 51), Some(id(50, 1)));
        let one = files(&[id(60, 1)]);
        assert_eq!(goes(&one, 51), None);
        assert_eq!(goes(&one, 99), None, "whatever it covers, it is the newest");
        assert_eq!(goes(&SnapshotFiles::default(), 0), None);
    }
}
