//! The manifest: what a backup holds, and by what each of its bytes is known again.
//!
//! JSON for people and scripts. In this and all later versions its last key is a checksum of the text before it, so that every
//! flipped bit is noticed, and a newer version is told from a damaged one. It vouches for nothing that is not checked when it is read.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::log::SegmentId;
use crate::types::*;

/// Its name in the backup's directory.
pub const MANIFEST_FILE: &str = "manifest.json";
/// Written and read.
const VERSION: u64 = 1;
const TOPIC_CHARS_MAX: usize = 249;
/// How the file ends, around the eight digits of the checksum.
const BEFORE_CHECKSUM: &str = "\"checksum\": \"";
const BEHIND_CHECKSUM: &str = "\"\n}\n";
const CHECKSUM_DIGITS: usize = 8;

/// A segment of the backup.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopiedFile {
    /// As Kafka names a segment of this base offset.
    pub name: String,
    /// Offset of its first record.
    pub base_offset: i64,
    /// Offset behind its last one.
    pub next_offset: i64,
    /// What lies behind them in the file is not part of the backup.
    pub bytes: u64,
    /// CRC-32C of these bytes, in hexadecimal.
    pub crc32c: String,
}

/// Where an epoch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Start {
    epoch: i32,
    start_offset: i64,
}

/// A backup. The fields are the file's keys, in its order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    version: u64,
    /// Of the quorum.
    pub cluster_id: String,
    /// The log is partition 0 of it.
    pub topic: String,
    /// Kafka's id of the topic.
    pub topic_id: String,
    /// Who is to be able to read the log, where its directory says it.
    pub data_mode: Option<String>,
    /// Of the directory that was read last.
    pub node_id: i32,
    /// Of the same.
    pub directory_id: Option<String>,
    /// When that was, in milliseconds since the Unix epoch.
    pub taken_at_ms: i64,
    /// Where that run was to end. Beyond `log_end`: it did not get there.
    pub wanted_end: i64,
    /// First offset of the backup.
    pub log_start: i64,
    /// Offset behind the last record.
    pub log_end: i64,
    /// Of the last batch.
    pub last_epoch: i32,
    /// The highest epoch that the node had heard of.
    pub quorum_epoch: i32,
    epochs: Vec<Start>,
    /// Oldest first, without a gap.
    pub files: Vec<CopiedFile>,
}

impl Manifest {
    /// Of a backup that holds nothing yet, of a log that begins at 0.
    pub fn new(cluster_id: String, topic: String, topic_id: String, data_mode: Option<String>) -> Manifest {
        Manifest {
            version: VERSION,
            cluster_id,
            topic,
            topic_id,
            data_mode,
            node_id: 0,
            directory_id: None,
            taken_at_ms: 0,
            wanted_end: 0,
            log_start: 0,
            log_end: 0,
            last_epoch: 0,
            quorum_epoch: 0,
            epochs: Vec::new(),
            files: Vec::new(),
        }
    }

    /// First offset of each epoch.
    pub fn epochs(&self) -> Vec<EpochStart> {
        let start = |start: &Start| EpochStart {
            epoch: Epoch(start.epoch),
            start_offset: Offset(start.start_offset),
        };
        self.epochs.iter().map(start).collect()
    }

    /// The backup goes up to here now, through batches of these epochs.
    pub fn set_end(&mut self, end: Offset, epochs: &[EpochStart]) {
        let start = |start: &EpochStart| Start { epoch: start.epoch.0, start_offset: start.start_offset.0 };
        self.epochs = epochs.iter().map(start).collect();
        self.log_end = end.0;
        self.last_epoch = epochs.last().map_or(0, |last| last.epoch.0);
        self.quorum_epoch = self.quorum_epoch.max(self.last_epoch);
    }

    /// Its end and the epoch of its last batch.
    pub fn end(&self) -> OffsetAndEpoch {
        OffsetAndEpoch { offset: Offset(self.log_end), epoch: Epoch(self.last_epoch) }
    }

    /// Bytes of all its files.
    pub fn size_bytes(&self) -> u64 {
        self.files.iter().map(|file| file.bytes).sum()
    }

    /// The file's bytes.
    pub fn encode(&self) -> Vec<u8> {
        let json = serde_json::to_string_pretty(self).expect("strings and numbers make JSON");
        let body = json.trim_end_matches(['}', '\n']);
        let text = format!("{body},\n  {BEFORE_CHECKSUM}");
        let crc = checksum_text(crc32c::crc32c(text.as_bytes()));
        format!("{text}{crc}{BEHIND_CHECKSUM}").into_bytes()
    }

    /// Of the file's bytes, none of which is believed before all of them are.
    pub fn decode(file: &[u8]) -> Result<Manifest, Unusable> {
        let body = body_of(file).ok_or_else(|| {
            Unusable::Damaged("its checksum does not match its contents, or is not there".to_string())
        })?;
        let damaged = |e: serde_json::Error| Unusable::Damaged(format!("it is no manifest ({e})"));
        let value: serde_json::Value = serde_json::from_slice(&body).map_err(damaged)?;
        // A newer program may have other keys.
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(VERSION) => {}
            Some(other) => return Err(Unusable::OfVersion(other)),
            None => return Err(Unusable::Damaged("it has no version".to_string())),
        }
        let manifest: Manifest = serde_json::from_value(value).map_err(damaged)?;
        manifest.check().map_err(Unusable::Damaged)?;
        Ok(manifest)
    }

    /// What a checksum cannot know: that it says nothing which a log cannot be. Somebody may have written it by hand.
    fn check(&self) -> Result<(), String> {
        let mut at = self.log_start;
        if at < 0 || self.node_id < 0 || self.last_epoch < 0 || self.quorum_epoch < self.last_epoch {
            return Err("a number in it is negative, or quorum_epoch is below last_epoch".to_string());
        }
        // Restore makes, and may remove, directories of this name.
        if !is_topic_name(&self.topic) {
            return Err(format!("its topic {} is no topic's name", Shown(&self.topic)));
        }
        for file in &self.files {
            let name = SegmentId(Offset(file.base_offset)).file_name();
            if file.base_offset != at || file.next_offset <= at || file.name != name || file.bytes == 0 {
                return Err(format!(
                    "its file {} does not continue what stands before it",
                    Shown(&file.name)
                ));
            }
            at = file.next_offset;
        }
        if at != self.log_end {
            return Err(format!("its files end at {at}, and log_end is {}", self.log_end));
        }
        let ascend =
            self.epochs.windows(2).all(|w| w[0].epoch < w[1].epoch && w[0].start_offset < w[1].start_offset);
        let is_within =
            |start: &Start| start.epoch >= 0 && (self.log_start..self.log_end).contains(&start.start_offset);
        let begins = self.epochs.first().map_or(self.log_end, |first| first.start_offset) == self.log_start;
        let ends = self.epochs.last().map_or(0, |last| last.epoch) == self.last_epoch;
        if !(ascend && begins && ends && self.epochs.iter().all(is_within)) {
            return Err("its epochs are not those of a log with these offsets".to_string());
        }
        Ok(())
    }
}

/// As `org.apache.kafka.common.internals.Topic` has it.
fn is_topic_name(name: &str) -> bool {
    let is_legal = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=TOPIC_CHARS_MAX).contains(&name.len()) && name.bytes().all(is_legal) && name != "." && name != ".."
}

/// The JSON without the checksum, where that fits.
fn body_of(file: &[u8]) -> Option<Vec<u8>> {
    let text = file.strip_suffix(BEHIND_CHECKSUM.as_bytes())?;
    let (text, crc) = text.split_at_checked(text.len().checked_sub(CHECKSUM_DIGITS)?)?;
    let is_right = crc == checksum_text(crc32c::crc32c(text)).as_bytes();
    let body = text.strip_suffix(format!(",\n  {BEFORE_CHECKSUM}").as_bytes()).filter(|_| is_right)?;
    Some([body, b"\n}"].concat())
}

/// Why a file is not taken for a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// A newer program wrote it.
    OfVersion(u64),
    /// What is wrong with it, in words.
    Damaged(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unusable::OfVersion(other) => {
                write!(f, "its version is {other}, and this program knows {VERSION}")
            }
            Unusable::Damaged(why) => f.write_str(why),
        }
    }
}

/// As it stands in the manifest.
pub(super) fn checksum_text(crc: u32) -> String {
    format!("{crc:08x}")
}

impl CopiedFile {
    /// A segment that begins here, of which nothing is copied yet.
    pub fn new(base_offset: Offset) -> CopiedFile {
        let name = SegmentId(base_offset).file_name();
        let (base, crc32c) = (base_offset.0, checksum_text(0));
        CopiedFile { name, base_offset: base, next_offset: base, bytes: 0, crc32c }
    }

    /// More of it is copied: it has these bytes now, with this checksum, and ends there.
    pub fn set_length(&mut self, bytes: u64, crc: u32, next_offset: Offset) {
        (self.bytes, self.crc32c, self.next_offset) = (bytes, checksum_text(crc), next_offset.0);
    }

    /// All bytes of the file have this checksum.
    pub fn has_crc(&self, crc: u32) -> bool {
        self.crc32c == checksum_text(crc)
    }

    /// The checksum, to go on from; `None` where the manifest has something else there.
    pub fn crc(&self) -> Option<u32> {
        u32::from_str_radix(&self.crc32c, 16).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        let mut manifest =
            Manifest::new("c".into(), "t".into(), "AAAAAAAAAAAAAAAAAAAAAQ".into(), Some("native".into()));
        let start = |epoch, offset| EpochStart { epoch: Epoch(epoch), start_offset: Offset(offset) };
        for (base, next) in [(0, 40), (40, 55)] {
            let mut file = CopiedFile::new(Offset(base));
            file.set_length(1000, 0xfeed, Offset(next));
            manifest.files.push(file);
        }
        manifest.quorum_epoch = 9;
        manifest.set_end(Offset(55), &[start(1, 0), start(4, 41)]);
        manifest
    }

    #[test]
    fn a_manifest_reads_back() {
        for some in [manifest(), Manifest::new("c".into(), "t".into(), "i".into(), None)] {
            assert_eq!(Manifest::decode(&some.encode()), Ok(some));
        }
        assert_eq!((manifest().last_epoch, manifest().quorum_epoch, manifest().size_bytes()), (4, 9, 2000));
    }

    #[test]
    fn every_flipped_bit_and_every_cut_is_noticed() {
        let file = manifest().encode();
        for bit in 0..file.len() * 8 {
            let mut rotten = file.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(Manifest::decode(&rotten).is_err(), "bit {bit}: {}", String::from_utf8_lossy(&rotten));
        }
        for length in 0..file.len() {
            assert!(Manifest::decode(&file[..length]).is_err(), "cut at {length}");
        }
    }

    /// Written by somebody who can compute a checksum.
    #[test]
    fn what_no_log_can_be_is_refused() {
        let changed = |change: &dyn Fn(&mut Manifest)| {
            let mut forged = manifest();
            change(&mut forged);
            Manifest::decode(&forged.encode()).unwrap_err().to_string()
        };
        for (change, why) in [
            (
                &(|m: &mut Manifest| m.files[1].name = "../../etc/passwd".into()) as &dyn Fn(&mut Manifest),
                "does not continue",
            ),
            (&|m| m.files[1].base_offset = 41, "does not continue"),
            (&|m| m.files[0].bytes = 0, "does not continue"),
            (&|m| m.files.truncate(1), "end at 40, and log_end is 55"),
            (&|m| m.log_end = 56, "end at 55"),
            (&|m| m.node_id = -1, "negative"),
            (&|m| m.quorum_epoch = 3, "quorum_epoch is below"),
            (&|m| m.epochs[1].start_offset = 55, "epochs are not"),
            (&|m| m.epochs[0].start_offset = 1, "epochs are not"),
            (&|m| m.epochs.clear(), "epochs are not"),
            (&|m| m.version = 2, "its version is 2"),
            (&|m| m.topic = "/srv/x".into(), "no topic's name"),
            (&|m| m.topic = "..".into(), "no topic's name"),
            (&|m| m.topic = String::new(), "no topic's name"),
            (&|m| m.topic = "t".repeat(250), "no topic's name"),
        ] {
            let error = changed(change);
            assert!(error.contains(why), "{why}: {error}");
        }
    }

    #[test]
    fn another_programs_file_is_refused_by_what_it_is() {
        let newer = "{\n  \"version\": 2,\n  \"snapshot\": \"x\",\n  \"checksum\": \"";
        let crc = checksum_text(crc32c::crc32c(newer.as_bytes()));
        let file = format!("{newer}{crc}\"\n}}\n");
        assert_eq!(Manifest::decode(file.as_bytes()), Err(Unusable::OfVersion(2)));
        for file in ["", "{}", "{\"version\": 1}\n", &file.replace("2,", "3,")] {
            assert!(matches!(Manifest::decode(file.as_bytes()), Err(Unusable::Damaged(_))), "{file}");
        }
    }
}
