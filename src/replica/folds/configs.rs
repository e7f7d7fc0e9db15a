//! What an administrator has set for the topic: the last control batch of our type says all of it.
//!
//! Set by IncrementalAlterConfigs at the leader, read up to the high watermark by whoever describes the topic. What stands in
//! the log is folded on every replica alike; the bound is kept by who appends, and by who stores what a leader sends.
//! A name is not understood here: which ones mean something says the part that takes them.

use super::Fold;
use crate::record::{ControlRecord, StampedBatch, control_records, decode_configs, encode_configs};
use crate::types::*;
use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

/// Names with their values.
pub(crate) type Set = BTreeMap<String, String>;

/// A log has no more set than so many keys, each with its value of at most so many bytes.
pub(crate) const CONFIG_KEYS_MAX: usize = 64;
pub(crate) const CONFIG_BYTES_MAX: usize = 1024;

/// A section holds the offset at which it was said, and the value of that control record; or nothing.
const OFFSET_BYTES: usize = 8;

/// What is set in one log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configs {
    /// Below the high watermark.
    settled: Option<Said>,
    /// Above it, in log order; while a copy is made (`hold`), also below it. As long as the log's uncommitted part, which the leader
    /// bounds, and what a hold may keep.
    unsettled: VecDeque<Said>,
}

/// All that is set from this offset on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    at: Offset,
    set: Arc<Set>,
}

impl Configs {
    /// What is set at the end of the log, committed or not: the next alteration changes this.
    pub(crate) fn current(&self) -> Arc<Set> {
        self.unsettled.back().or(self.settled.as_ref()).map(|said| said.set.clone()).unwrap_or_default()
    }

    /// What is set and committed, as far as is known here. `None`: what is settled.
    pub(crate) fn committed(&self, high_watermark: Option<HighWatermark>) -> Arc<Set> {
        let is_committed = |said: &&Said| high_watermark.is_some_and(|end| said.at < end.0);
        let last = self.unsettled.iter().take_while(is_committed).last().or(self.settled.as_ref());
        last.map(|said| said.set.clone()).unwrap_or_default()
    }
}

/// `Err`: it is more than a log keeps.
pub(crate) fn check_room(set: &Set) -> Result<(), String> {
    if set.len() > CONFIG_KEYS_MAX {
        return Err(format!("{} keys would be set; at most {CONFIG_KEYS_MAX} can be", set.len()));
    }
    match set.iter().find(|(name, value)| name.len() + value.len() > CONFIG_BYTES_MAX) {
        Some((name, value)) => Err(format!(
            "a key and its value have {} bytes together; at most {CONFIG_BYTES_MAX} can be kept",
            name.len() + value.len()
        )),
        None => Ok(()),
    }
}

impl Fold for Configs {
    const TAG: u16 = 3;
    const VERSION: u16 = 1;
    const NAME: &'static str = "configs";
    type Part = Option<Said>;
    /// `None`: not copied yet; then what was set, if anything was.
    type Copied = Option<Option<Said>>;

    fn fold(&mut self, batch: &StampedBatch) {
        if !batch.header().is_control() {
            return;
        }
        for record in control_records(batch).unwrap_or_default() {
            if let ControlRecord::Configs(set) = record {
                let set = Arc::new(set.into_iter().collect());
                self.unsettled.push_back(Said { at: batch.base_offset(), set });
            }
        }
    }

    fn settle(&mut self, high_watermark: HighWatermark) {
        while self.unsettled.front().is_some_and(|said| said.at < high_watermark.0) {
            self.settled = self.unsettled.pop_front();
        }
    }

    fn cut(&mut self, to: Offset) {
        while self.unsettled.back().is_some_and(|said| said.at >= to) {
            self.unsettled.pop_back();
        }
        // Nothing that is settled is cut, unless more disks were lost than a quorum bears: what it displaced is not known.
        self.settled.take_if(|said| said.at >= to);
    }

    /// A segment whose last word was displaced since needs none: who displaced it is in a later one, or in its own section.
    fn encode(&self, offsets: &Range<Offset>) -> Option<Vec<u8>> {
        let said = self.settled.as_ref().filter(|said| offsets.contains(&said.at));
        Some(said.map(Said::encode).unwrap_or_default())
    }

    /// A program that knew no configs has written no section, and may have stored a batch of them all the same.
    fn decode(section: Option<&[u8]>, offsets: &Range<Offset>) -> Result<Option<Said>, &'static str> {
        let section = section.ok_or("there is none")?;
        if section.is_empty() {
            return Ok(None);
        }
        let said = Said::decode(section).ok_or("it cannot be read")?;
        match offsets.contains(&said.at) && check_room(&said.set).is_ok() {
            true => Ok(Some(said)),
            false => Err("it contradicts itself"),
        }
    }

    fn take(&mut self, part: Option<Said>, from: Offset) {
        let part = part.filter(|said| said.at >= from);
        if part.is_some() {
            self.settled = part;
        }
    }

    fn begin_copy(&self) -> Self::Copied {
        None
    }

    /// All of it is one entry.
    fn walk(&self, copied: &mut Self::Copied, entries_max: usize) -> usize {
        if copied.is_some() || entries_max == 0 {
            return 0;
        }
        *copied = Some(self.settled.clone());
        1
    }

    fn encode_copied(copied: Self::Copied) -> Option<Vec<u8>> {
        Some(copied.flatten().as_ref().map(Said::encode).unwrap_or_default())
    }

    fn unsettled(&self) -> usize {
        self.unsettled.len()
    }

    fn fits(&self, batch: &StampedBatch) -> Result<(), String> {
        if !batch.header().is_control() {
            return Ok(());
        }
        // Of what cannot be read nothing is gone by.
        let records = control_records(batch).unwrap_or_default();
        let why = records.iter().find_map(|record| match record {
            ControlRecord::Unknown(kind) => Some(format!("a control record of type {kind}")),
            ControlRecord::NewerConfigs(version) => Some(format!("configs of version {version}")),
            ControlRecord::Configs(set) => check_room(&set.iter().cloned().collect()).err(),
            _ => None,
        });
        match why {
            None => Ok(()),
            Some(what) => Err(format!(
                "the batch at offset {} holds what this version does not know ({what}): a newer one has written it. Start \
                 this node with that version",
                batch.base_offset()
            )),
        }
    }
}

impl Said {
    fn encode(&self) -> Vec<u8> {
        let set: Vec<(&str, &str)> = self.set.iter().map(|(name, value)| (&name[..], &value[..])).collect();
        [&self.at.0.to_be_bytes()[..], &encode_configs(&set)].concat()
    }

    fn decode(section: &[u8]) -> Option<Said> {
        let (at, value) = section.split_first_chunk::<OFFSET_BYTES>()?;
        let ControlRecord::Configs(list) = decode_configs(value).ok()? else { return None };
        let set: Set = list.iter().cloned().collect();
        let said = Said { at: Offset(i64::from_be_bytes(*at)), set: Arc::new(set) };
        // In its one form, and nothing behind it.
        (said.encode() == section).then_some(said)
    }
}

#[cfg(test)]
mod tests;
