//! The files of snapshots on a node's disk: written under another name, renamed, the directory flushed. A process dies, and the power
//! fails, at each step of that.
//!
//! `SimDisk` has one of these; operations complete when the simulation says so.

use super::dice::Dice;
use crate::log::{
    DiskError, SnapshotCompletion, SnapshotDone, SnapshotOp, SnapshotSource, SnapshotWork, snapshot_file_name,
};
use crate::types::*;
use bytes::Bytes;
use std::collections::BTreeMap;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;

fn failed(reason: &str, errno: i32) -> DiskError {
    DiskError { operation: "work on a snapshot".to_string(), reason: reason.to_string(), errno }
}

/// As it was submitted, and made: the thread of a server does so as it writes.
#[derive(Debug)]
enum Flight {
    Write { id: OffsetAndEpoch, bytes: Vec<u8> },
    Read { id: OffsetAndEpoch, position: u64, length: usize },
    Remove { id: OffsetAndEpoch },
    Tidy,
}

#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: BTreeMap<OffsetAndEpoch, Vec<u8>>,
    /// Of names that changed since the directory was flushed: what they stood for then.
    before: BTreeMap<OffsetAndEpoch, Option<Vec<u8>>>,
    set_aside: usize,
    /// Files of the other name, that nobody finished.
    parts: usize,
    in_flight: BTreeMap<u64, (u64, Flight)>,
    /// What the whole file held that has rotted since.
    rotten: BTreeMap<OffsetAndEpoch, Vec<u8>>,
}

impl Shelf {
    pub(super) fn submit(&mut self, ticket: u64, op: SnapshotOp) {
        let SnapshotOp { token, kind } = op;
        let flight = match kind {
            SnapshotWork::Write { id, contents, .. } => {
                Flight::Write { id, bytes: contents.0.flatten().collect() }
            }
            SnapshotWork::Read { id, position, length } => Flight::Read { id, position, length },
            SnapshotWork::Remove { id } => Flight::Remove { id },
            SnapshotWork::Tidy => Flight::Tidy,
        };
        self.in_flight.insert(ticket, (token, flight));
    }

    /// And what was made durable by it. `None`: the process that submitted it has died.
    pub(super) fn complete(
        &mut self,
        ticket: u64,
        dice: &mut Dice,
        is_full: bool,
        error_permille: u64,
    ) -> Option<(SnapshotCompletion, Option<OffsetAndEpoch>)> {
        let (token, flight) = self.in_flight.remove(&ticket)?;
        let failure = match flight {
            // Room for one is kept, and a disk may be full without it.
            Flight::Write { .. } if is_full && dice.permille(500) => {
                Some(failed("No space left on device", ENOSPC))
            }
            _ if dice.permille(error_permille) => {
                // Whoever fails may have done it, in part.
                self.tear(&flight, dice);
                Some(failed("Input/output error", EIO))
            }
            _ => None,
        };
        if let Some(error) = failure {
            return Some((SnapshotCompletion { token, result: Err(error) }, None));
        }
        let (done, durable) = match flight {
            Flight::Write { id, bytes } => {
                let size = bytes.len() as u64;
                self.rename(id, bytes);
                self.before.clear();
                (SnapshotDone::Written(size), Some(id))
            }
            Flight::Read { id, position, length } => {
                (SnapshotDone::Read(self.piece(id, position, length)), None)
            }
            Flight::Remove { id } => {
                self.remove(id);
                self.before.clear();
                (SnapshotDone::Complete, None)
            }
            Flight::Tidy => {
                (self.parts, self.set_aside) = (0, self.set_aside.min(1));
                (SnapshotDone::Complete, None)
            }
        };
        Some((SnapshotCompletion { token, result: Ok(done) }, durable))
    }

    fn rename(&mut self, id: OffsetAndEpoch, bytes: Vec<u8>) {
        self.rotten.remove(&id);
        let old = self.files.insert(id, bytes);
        self.before.entry(id).or_insert(old);
    }

    fn remove(&mut self, id: OffsetAndEpoch) {
        if let Some(old) = self.files.remove(&id) {
            self.before.entry(id).or_insert(Some(old));
        }
    }

    /// Up to one of its steps: the part, the rename, the flush of the directory.
    fn tear(&mut self, flight: &Flight, dice: &mut Dice) {
        match flight {
            Flight::Read { .. } | Flight::Tidy => {}
            Flight::Remove { id } => {
                if dice.permille(500) {
                    self.remove(*id);
                }
            }
            Flight::Write { id, bytes } => match dice.below(3) {
                0 => self.parts += 1,
                1 => self.rename(*id, bytes.clone()),
                _ => {
                    self.rename(*id, bytes.clone());
                    self.before.clear();
                }
            },
        }
    }

    /// The process dies.
    pub(super) fn kill(&mut self, dice: &mut Dice) {
        for (_, flight) in std::mem::take(&mut self.in_flight).into_values() {
            self.tear(&flight, dice);
        }
    }

    /// Each change of a name that was not flushed is undone, or not. Gives how many were.
    pub(super) fn cut_power(&mut self, dice: &mut Dice) -> u64 {
        let mut undone = 0;
        for (id, old) in std::mem::take(&mut self.before) {
            if dice.permille(500) {
                match old {
                    Some(old) => _ = self.files.insert(id, old),
                    None => _ = self.files.remove(&id),
                }
                undone += 1;
            }
        }
        undone
    }

    /// A start makes the names durable that it finds.
    pub(super) fn flush_names(&mut self) {
        self.before.clear();
    }

    pub(super) fn has_leftovers(&self) -> bool {
        self.parts > 0 || self.set_aside > 1
    }

    pub(super) fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// A bit of one flips. False: there is none.
    pub(super) fn rot(&mut self, dice: &mut Dice) -> bool {
        let ids: Vec<OffsetAndEpoch> = self.files.keys().copied().collect();
        let Some(id) = dice.pick(&ids) else { return false };
        let Some(file) = self.files.get_mut(&id) else { return false };
        let written = file.clone();
        let at = dice.below(file.len().max(1) as u64) as usize;
        let bit = dice.below(8);
        self.rotten.entry(id).or_insert(written);
        file.get_mut(at).map(|byte| *byte ^= 1 << bit).is_some()
    }

    /// As it was written.
    pub(super) fn written(&self, id: OffsetAndEpoch) -> Option<&[u8]> {
        self.rotten.get(&id).or_else(|| self.files.get(&id)).map(Vec::as_slice)
    }

    pub(super) fn replace(&mut self, id: OffsetAndEpoch, bytes: Vec<u8>) {
        self.files.insert(id, bytes);
    }

    fn piece(&self, id: OffsetAndEpoch, position: u64, length: usize) -> Bytes {
        let file = self.files.get(&id).map_or(&[][..], Vec::as_slice);
        let start = (position as usize).min(file.len());
        Bytes::copy_from_slice(&file[start..(start + length).min(file.len())])
    }
}

impl SnapshotSource for Shelf {
    fn snapshots(&mut self) -> Result<Vec<(OffsetAndEpoch, u64)>, DiskError> {
        Ok(self.files.iter().map(|(id, file)| (*id, file.len() as u64)).collect())
    }

    fn read_snapshot(
        &mut self,
        id: OffsetAndEpoch,
        position: u64,
        length: usize,
    ) -> Result<Bytes, DiskError> {
        Ok(self.piece(id, position, length))
    }

    fn set_aside(&mut self, id: OffsetAndEpoch) -> Result<(), DiskError> {
        assert!(self.files.remove(&id).is_some(), "{} is there", snapshot_file_name(id));
        self.rotten.remove(&id);
        self.set_aside += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::SnapshotContents;

    const ID: OffsetAndEpoch = OffsetAndEpoch { epoch: Epoch(2), offset: Offset(40) };

    fn write(shelf: &mut Shelf, ticket: u64) {
        let contents = SnapshotContents(Box::new([Bytes::from_static(b"whole")].into_iter()));
        let kind = SnapshotWork::Write { id: ID, contents, bytes_max: 100 };
        shelf.submit(ticket, SnapshotOp { token: 7, kind });
    }

    #[test]
    fn one_that_was_reported_survives_the_power_and_one_that_was_not_is_there_or_not() {
        for seed in 0..50 {
            let mut dice = Dice::new(seed, 0);
            let mut shelf = Shelf::default();
            write(&mut shelf, 1);
            let (done, durable) = shelf.complete(1, &mut dice, false, 0).expect("it is under way");
            assert!(matches!(done.result, Ok(SnapshotDone::Written(5))) && durable == Some(ID));
            shelf.cut_power(&mut dice);
            assert_eq!(shelf.written(ID), Some(&b"whole"[..]));
        }
        let mut found = std::collections::BTreeSet::new();
        for seed in 0..50 {
            let mut dice = Dice::new(seed, 0);
            let mut shelf = Shelf::default();
            write(&mut shelf, 1);
            shelf.kill(&mut dice);
            shelf.cut_power(&mut dice);
            found.insert((shelf.written(ID).map(<[u8]>::len), shelf.has_leftovers()));
        }
        assert_eq!(Vec::from_iter(found), [(None, false), (None, true), (Some(5), false)]);
    }
}
