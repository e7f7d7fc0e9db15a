//! The file of a snapshot: what the log's owner folds from all records below one committed offset, in Kafka's format.
//!
//! `%020d-%010d.checkpoint`, named by its end offset and the epoch of the record before it. Record batches as in a segment, but that
//! their offsets count from 0 and all are of the epoch of the name (Kafka: `RecordsSnapshotWriter`):
//!
//! - a control batch: SnapshotHeader, and where voters are kept in the log KRaftVersion and KRaftVoters;
//! - data batches of one record each, without key and headers: a piece of a section. So Kafka's voters and tools read them too;
//! - a control batch with SnapshotFooter. A file without it was never finished.
//!
//! All batches have one time, that of the last record that is contained: the file says nothing but what the log says. It is made and read
//! ([`super::snapshot_read`]) piece by piece, so that nobody is held up by a large one; nothing here touches a file.
//!
//! The value of a record, big-endian:
//!
//! ```text
//! "KRFS" | version u16 = 1 | tag u16 | version of the section u16 | bytes of the section u32 | its CRC-32C u32
//!        | position of this piece u32 | the piece
//! ```
//! The section's own CRC is over all of it: pieces of two snapshots, each of them good, make no section.

use super::summary::Section;
use crate::record::{
    BatchBuilder, RecordSpec, StampedBatch, Voter, snapshot_footer_batch, snapshot_header_batch, stamped,
};
use crate::types::*;

/// How each value begins: no record of Kafka's controller does, whose first byte is 0 or 1.
pub(super) const MAGIC: &[u8; 4] = b"KRFS";
/// Of the form of a value.
pub(super) const VERSION: u16 = 1;
pub(super) const HEAD_BYTES: usize = 4 + 2 + 2 + 2 + 4 + 4 + 4;
/// A section is cut into pieces of this size.
pub(super) const PIECE_BYTES: usize = 512 << 10;
/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// End offset of what it stands for, and the epoch of the record before that: its name.
    pub id: OffsetAndEpoch,
    /// Of that record, in milliseconds since the Unix epoch.
    pub last_contained_log_timestamp: i64,
    /// 0: the voters are those of the configuration, and none are here.
    pub kraft_version: i16,
    /// Those at its end, where they are kept in the log.
    pub voters: Option<Vec<Voter>>,
    /// In the order of their tags.
    pub sections: Vec<Section>,
}

/// Of this section, from this byte on.
#[derive(Clone, Copy, Debug)]
struct Piece {
    section: usize,
    crc: u32,
    position: usize,
}

#[derive(Debug)]
enum Next {
    Header,
    Piece(Piece),
    Footer,
    Nothing,
}

/// Gives the bytes of the file, one batch after the other.
#[derive(Debug)]
pub struct SnapshotEncoder {
    snapshot: Snapshot,
    next: Next,
    next_offset: Offset,
}

impl SnapshotEncoder {
    /// Panics where two sections have one tag, or one has 4 GiB.
    pub fn new(mut snapshot: Snapshot) -> SnapshotEncoder {
        snapshot.sections.sort_by_key(|section| section.tag);
        let is_one_of_each = snapshot.sections.is_sorted_by(|a, b| a.tag < b.tag);
        assert!(is_one_of_each, "a snapshot has one section of each tag");
        let is_counted = |section: &Section| u32::try_from(section.bytes.len()).is_ok();
        assert!(snapshot.sections.iter().all(is_counted), "the size of a section has 32 bits");
        SnapshotEncoder { snapshot, next: Next::Header, next_offset: Offset(0) }
    }

    /// The next part of the file, little more than 512 KiB. `None`: there is no more.
    pub fn next_batch(&mut self) -> Option<StampedBatch> {
        let Snapshot { id, last_contained_log_timestamp: time, kraft_version, .. } = self.snapshot;
        let (batch, next) = match self.next {
            Next::Header => {
                let voters = self.snapshot.voters.as_deref();
                let batch = snapshot_header_batch(id.epoch, time, time, kraft_version, voters);
                (batch, self.piece_or_footer(0))
            }
            Next::Piece(piece) => self.piece(piece),
            Next::Footer => (snapshot_footer_batch(self.next_offset, id.epoch, time), Next::Nothing),
            Next::Nothing => return None,
        };
        (self.next, self.next_offset) = (next, batch.next_offset());
        Some(batch)
    }

    fn piece_or_footer(&self, section: usize) -> Next {
        match self.snapshot.sections.get(section) {
            Some(found) => Next::Piece(Piece { section, crc: crc32c::crc32c(&found.bytes), position: 0 }),
            None => Next::Footer,
        }
    }

    /// An empty section has one piece, which is empty.
    fn piece(&self, piece: Piece) -> (StampedBatch, Next) {
        let Piece { section: at, crc, position } = piece;
        let Section { tag, version, bytes } = &self.snapshot.sections[at];
        let end = bytes.len().min(position + PIECE_BYTES);
        let mut value = Vec::with_capacity(HEAD_BYTES + end - position);
        value.extend_from_slice(MAGIC);
        value.extend_from_slice(&VERSION.to_be_bytes());
        value.extend_from_slice(&tag.to_be_bytes());
        value.extend_from_slice(&version.to_be_bytes());
        value.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        value.extend_from_slice(&crc.to_be_bytes());
        value.extend_from_slice(&(position as u32).to_be_bytes());
        value.extend_from_slice(&bytes[position..end]);
        let record = RecordSpec { value: Some(&value), ..RecordSpec::default() };
        let builder = BatchBuilder::new(self.snapshot.last_contained_log_timestamp).record(record);
        let batch = stamped(builder, self.next_offset, self.snapshot.id.epoch);
        let is_whole = end == bytes.len();
        let following = Piece { position: end, ..piece };
        (batch, if is_whole { self.piece_or_footer(at + 1) } else { Next::Piece(following) })
    }
}

#[cfg(test)]
#[path = "tests/snapshot_format.rs"]
mod tests;
