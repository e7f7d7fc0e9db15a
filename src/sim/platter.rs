//! What a disk holds of one file: what a power cut leaves of it, what a read sees, and what has rotted.
//!
//! `disk` writes and flushes it, `rot` lets it decay, `names` keeps what was removed and may come back, `durable` looks at it.

use super::dice::Dice;
use crate::log::{Section, SegmentId};
use crate::types::Offset;
use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ops::Range;

#[derive(Clone, Debug, Default)]
pub(super) struct DiskFile {
    /// What a power cut leaves, at least: its length is the one that was last flushed.
    pub(super) durable: Vec<u8>,
    /// What a read sees.
    pub(super) cached: Vec<u8>,
    /// Sectors that differ.
    pub(super) dirty: BTreeSet<usize>,
    /// From here on a flush has changed the platter since `DurableLog` last looked.
    pub(super) changed_from: Option<usize>,
    /// What it has lost without being asked.
    pub(super) decay: Decay,
}

impl DiskFile {
    pub(super) fn zeros(size: usize) -> DiskFile {
        DiskFile { durable: vec![0; size], cached: vec![0; size], ..DiskFile::default() }
    }

    pub(super) fn read(&self, position: u64, length: usize) -> &[u8] {
        let start = (position as usize).min(self.cached.len());
        &self.cached[start..(start + length).min(self.cached.len())]
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8], sector: usize) {
        let end = (at + bytes.len()).min(self.cached.len());
        if at < end {
            let (old, new) = (&mut self.cached[at..end], &bytes[..end - at]);
            self.decay.on_written(at, old, new);
            old.copy_from_slice(new);
            self.dirty.extend(at / sector..end.div_ceil(sector));
        }
    }

    /// With them the size that is needed to read them.
    pub(super) fn flush(&mut self, at: usize, length: usize, sector: usize) {
        let sectors = at / sector..(at + length).div_ceil(sector);
        let flushed: Vec<usize> = self.dirty.range(sectors).copied().collect();
        for dirty in flushed {
            self.dirty.remove(&dirty);
            let range = dirty * sector..((dirty + 1) * sector).min(self.cached.len());
            self.decay.on_flushed(range.clone());
            if self.durable.len() < range.end {
                self.durable.resize(range.end, 0);
            }
            let (old, new) = (&mut self.durable[range.clone()], &self.cached[range.clone()]);
            if let Some(at) = old.iter().zip(new).position(|(old, new)| old != new) {
                let at = range.start + at;
                self.changed_from = Some(self.changed_from.map_or(at, |from| from.min(at)));
                old.copy_from_slice(new);
            }
        }
    }

    /// Data and size, as `fsync` does it.
    pub(super) fn flush_whole(&mut self, sector: usize) {
        self.flush(0, self.cached.len(), sector);
        if self.cached.len() < self.durable.len() {
            let end = self.cached.len();
            self.changed_from = Some(self.changed_from.map_or(end, |from| from.min(end)));
        }
        self.durable.resize(self.cached.len(), 0);
        self.decay.on_cut(self.durable.len());
    }

    /// Durable, as the operations that do it promise.
    pub(super) fn resize(&mut self, size: usize, sector: usize) {
        self.resize_cached(size, sector);
        self.flush_whole(sector);
    }

    /// Nobody has waited for the flush.
    pub(super) fn resize_cached(&mut self, size: usize, sector: usize) {
        let old = self.cached.len();
        self.cached.resize(size, 0);
        self.decay.on_dropped(size.min(old)..old);
        self.dirty.retain(|s| s * sector < size);
        // The platter may still hold what an earlier cut took away.
        self.dirty.extend(old.min(size) / sector..size.min(self.durable.len()).div_ceil(sector));
    }

    pub(super) fn cut_power(&mut self, dice: &mut Dice, sector: usize, keep: u64, undone: &mut Undone) {
        if self.durable.len() != self.cached.len() {
            match dice.permille(500) {
                true => {
                    self.durable.resize(self.cached.len(), 0);
                    self.decay.on_cut(self.durable.len());
                }
                false => undone.sizes += 1,
            }
        }
        for dirty in std::mem::take(&mut self.dirty) {
            let end = ((dirty + 1) * sector).min(self.cached.len()).min(self.durable.len());
            let Some(new) = self.cached.get(dirty * sector..end) else { continue };
            if dice.permille(keep) {
                self.durable[dirty * sector..end].copy_from_slice(new);
                self.decay.on_flushed(dirty * sector..end);
            } else {
                undone.sectors += 1;
            }
        }
        self.cached.clone_from(&self.durable);
        self.decay.on_power_cut();
    }
}

impl DiskFile {
    /// False: the platter has no such byte.
    pub(super) fn flip(&mut self, at: usize, bits: u8, sector: usize) -> bool {
        let is_there = at < self.durable.len().min(self.cached.len());
        is_there && {
            self.decays_to(at, self.durable[at] ^ bits, sector);
            true
        }
    }

    /// The platter changes, not what the disk has taken and not yet put there.
    fn decays_to(&mut self, at: usize, byte: u8, sector: usize) {
        let is_dirty = self.dirty.contains(&(at / sector));
        self.decay.add(at, self.durable[at], is_dirty);
        self.durable[at] = byte;
        if !is_dirty {
            self.cached[at] = byte;
        }
    }

    /// False: that changes nothing.
    pub(super) fn overwrite(&mut self, at: usize, block: &[u8], sector: usize) -> bool {
        let end = at + block.len();
        if end > self.durable.len().min(self.cached.len()) || self.durable[at..end] == *block {
            return false;
        }
        for (at, byte) in (at..end).zip(block) {
            if self.durable[at] != *byte {
                self.decays_to(at, *byte, sector);
            }
        }
        true
    }

    /// The platter from this byte on, as if nothing had rotted.
    pub(super) fn as_written(&self, from: usize) -> Option<Cow<'_, [u8]>> {
        let bytes = self.durable.get(from..)?;
        if self.decay.0.is_empty() {
            return Some(bytes.into());
        }
        let mut bytes = bytes.to_vec();
        for rotten in &self.decay.0 {
            if let Some(byte) = rotten.at.checked_sub(from).and_then(|at| bytes.get_mut(at)) {
                *byte = rotten.written;
            }
        }
        Some(bytes.into())
    }
}

/// Bytes of a file that are not what was written, until something else is.
#[derive(Clone, Debug, Default)]
pub(crate) struct Decay(Vec<RottenByte>);

#[derive(Clone, Copy, Debug)]
struct RottenByte {
    at: usize,
    written: u8,
    /// Something else has been written here, and not been flushed.
    is_covered: bool,
}

impl Decay {
    pub(super) fn is_none(&self) -> bool {
        self.0.is_empty()
    }

    fn add(&mut self, at: usize, written: u8, is_covered: bool) {
        if !self.0.iter().any(|byte| byte.at == at) {
            self.0.push(RottenByte { at, written, is_covered });
        }
    }

    /// `new` is written from `at` on, over `old`. A node writes the last block of its log again as it has read it: what was
    /// rotten there still is.
    fn on_written(&mut self, at: usize, old: &[u8], new: &[u8]) {
        for byte in &mut self.0 {
            let Some(i) = byte.at.checked_sub(at) else { continue };
            byte.is_covered |= old.get(i).zip(new.get(i)).is_some_and(|(old, new)| old != new);
        }
    }

    pub(super) fn on_dropped(&mut self, range: Range<usize>) {
        self.0.iter_mut().filter(|byte| range.contains(&byte.at)).for_each(|byte| byte.is_covered = true);
    }

    fn on_flushed(&mut self, range: Range<usize>) {
        self.0.retain(|byte| !(byte.is_covered && range.contains(&byte.at)));
    }

    fn on_cut(&mut self, size: usize) {
        self.0.retain(|byte| byte.at < size);
    }

    fn on_power_cut(&mut self) {
        self.0.iter_mut().for_each(|byte| byte.is_covered = false);
    }
}

/// What has rotted beside the log, as long as it has not been written over.
#[derive(Debug, Default)]
pub(crate) struct Rotten {
    /// Slots of the commit mark, as they read since.
    pub(super) marks: Vec<(usize, Vec<u8>)>,
    /// quorum-state: as it reads since, and as it was written.
    pub(super) votes: Option<(Vec<u8>, Vec<u8>)>,
}

/// What a node keeps beside its log of what went with the start.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// All before is folded into these.
    pub(super) folded: Option<(Offset, Vec<Section>)>,
    /// Segments that went, to come back once.
    pub(super) gone: Vec<(SegmentId, DiskFile)>,
    /// The mark as it was before the start moved first.
    pub(super) mark_before: Option<DiskFile>,
}

/// How much of what was not flushed power cuts have taken back.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Undone {
    pub(super) names: u64,
    pub(super) sizes: u64,
    pub(super) sectors: u64,
}
