//! Reads the file of a snapshot, whoever wrote it and however its bytes are cut: from the disk, or from another voter.
//!
//! Everything in it is distrusted: lengths, CRCs, offsets, epochs, what comes first and last, the order and the sizes of sections. What is
//! wrong is said with its place. It keeps one batch and the sections, and no more than it may.

use super::Corrupt;
use super::op::snapshot_file_name;
use super::snapshot::{HEAD_BYTES, MAGIC, Snapshot, VERSION};
use super::summary::Section;
use crate::record::{
    BATCH_HEADER_BYTES, BatchHeader, ControlRecord, INTEROP_BATCH_BYTES_MAX, StampedBatch, check_fetched,
    control_records, records,
};
use crate::types::*;
use bytes::Bytes;

/// Kafka: `KafkaRaftClient.MAX_BATCH_SIZE_BYTES`.
const BATCH_BYTES_MAX: usize = INTEROP_BATCH_BYTES_MAX;

/// A snapshot that was read to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadSnapshot {
    /// What it holds of ours.
    pub snapshot: Snapshot,
    /// Data records of another program, such as Kafka's controller: nothing is known of them.
    pub foreign_records: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Due {
    Header,
    /// Data, or the footer.
    More,
    Nothing,
}

/// The section that is being read.
#[derive(Debug)]
struct Open {
    section: Section,
    /// What it is to have.
    size: usize,
    crc: u32,
    /// What it has so far.
    read_bytes: usize,
    read_crc: u32,
}

/// The head of a piece.
#[derive(Debug)]
struct Head {
    tag: u16,
    version: u16,
    size: usize,
    crc: u32,
    position: usize,
}

/// Takes the bytes of the file in their order.
#[derive(Debug)]
pub struct SnapshotDecoder {
    read: ReadSnapshot,
    due: Due,
    open: Option<Open>,
    next_offset: Offset,
    /// Where the batch begins that is not whole yet, and what is there of it.
    position: u64,
    part: Vec<u8>,
    bytes_max: u64,
    /// The bytes of sections; else only their sizes and checksums.
    keeps: bool,
}

impl SnapshotDecoder {
    /// Of the snapshot with this name; larger than `bytes_max` it is refused.
    pub fn new(id: OffsetAndEpoch, bytes_max: u64) -> SnapshotDecoder {
        let snapshot = Snapshot { id, ..Snapshot::default() };
        SnapshotDecoder {
            read: ReadSnapshot { snapshot, foreign_records: 0 },
            due: Due::Header,
            open: None,
            next_offset: Offset(0),
            position: 0,
            part: Vec::new(),
            bytes_max,
            keeps: true,
        }
    }

    /// The same, where nobody wants what it holds: its sections are empty then, and no more than one batch is in memory.
    pub fn to_check(id: OffsetAndEpoch, bytes_max: u64) -> SnapshotDecoder {
        SnapshotDecoder { keeps: false, ..SnapshotDecoder::new(id, bytes_max) }
    }

    /// The next bytes, as many as there are. After an error nothing of it can be used.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<(), Corrupt> {
        while !bytes.is_empty() {
            if self.due == Due::Nothing {
                return Err(self.corrupt("bytes follow its footer"));
            }
            self.fill(BATCH_HEADER_BYTES, &mut bytes);
            let Some(header) = BatchHeader::decode(&self.part) else {
                if self.part.len() >= BATCH_HEADER_BYTES {
                    return Err(self.corrupt("what is there is no batch"));
                }
                return Ok(());
            };
            self.check_size(&header)?;
            self.fill(header.size_bytes, &mut bytes);
            if self.part.len() == header.size_bytes {
                self.take_batch()?;
            }
        }
        Ok(())
    }

    /// There are no more bytes.
    pub fn finish(self) -> Result<ReadSnapshot, Corrupt> {
        match self.due {
            Due::Nothing => Ok(self.read),
            _ if !self.part.is_empty() => {
                let left = self.part.len();
                Err(self
                    .corrupt(format!("{left} bytes are left, fewer than the batch that begins there has")))
            }
            _ => Err(self.corrupt("it ends without a footer: it was never finished")),
        }
    }

    fn corrupt(&self, why: impl Into<String>) -> Corrupt {
        let segment = snapshot_file_name(self.read.snapshot.id);
        Corrupt { segment, position: self.position, why: why.into() }
    }

    /// Moves bytes until there are so many of the batch.
    fn fill(&mut self, wanted: usize, bytes: &mut &[u8]) {
        let missing = wanted.saturating_sub(self.part.len()).min(bytes.len());
        let (moved, rest) = bytes.split_at(missing);
        self.part.extend_from_slice(moved);
        *bytes = rest;
    }

    /// Before any of its bytes are kept.
    fn check_size(&self, header: &BatchHeader) -> Result<(), Corrupt> {
        let size = header.size_bytes;
        if !(BATCH_HEADER_BYTES..=BATCH_BYTES_MAX).contains(&size) {
            return Err(self.corrupt(format!("a batch of {size} bytes, and one has up to {BATCH_BYTES_MAX}")));
        }
        if self.position + size as u64 > self.bytes_max {
            let bytes_max = self.bytes_max;
            return Err(self.corrupt(format!("it is larger than {bytes_max} bytes, and more are not read")));
        }
        Ok(())
    }

    fn take_batch(&mut self) -> Result<(), Corrupt> {
        let (mut batches, error) = check_fetched(Bytes::from(std::mem::take(&mut self.part)));
        let Some(batch) = batches.pop() else {
            let why = error.map_or("it is no batch".to_string(), |error| error.to_string());
            return Err(self.corrupt(why));
        };
        let (header, id) = (*batch.header(), self.read.snapshot.id);
        if header.base_offset != self.next_offset {
            let (found, due) = (header.base_offset, self.next_offset);
            return Err(self.corrupt(format!("a batch at offset {found} where {due} is due")));
        }
        if header.leader_epoch != id.epoch {
            let (found, due) = (header.leader_epoch, id.epoch);
            return Err(self.corrupt(format!("a batch of epoch {found} in a snapshot of epoch {due}")));
        }
        match (self.due, header.is_control()) {
            (Due::Header, _) => self.take_header(&batch)?,
            (_, true) => self.take_footer(&batch)?,
            (_, false) => self.take_data(&batch)?,
        }
        (self.next_offset, self.position) = (batch.next_offset(), self.position + header.size_bytes as u64);
        Ok(())
    }

    fn control_records(&self, batch: &StampedBatch) -> Result<Vec<ControlRecord>, Corrupt> {
        control_records(batch).map_err(|malformed| self.corrupt(malformed.why()))
    }

    fn take_header(&mut self, batch: &StampedBatch) -> Result<(), Corrupt> {
        let mut found = self.control_records(batch)?.into_iter().peekable();
        let Some(ControlRecord::SnapshotHeader { last_contained_log_timestamp }) = found.next() else {
            return Err(self.corrupt("it does not begin with a snapshot's header"));
        };
        let snapshot = &mut self.read.snapshot;
        snapshot.last_contained_log_timestamp = last_contained_log_timestamp;
        if let Some(ControlRecord::KRaftVersion(version)) = found.peek() {
            snapshot.kraft_version = *version;
            found.next();
        }
        if let Some(ControlRecord::KRaftVoters(_)) = found.peek()
            && let Some(ControlRecord::KRaftVoters(voters)) = found.next()
        {
            snapshot.voters = Some(voters);
        }
        if let Some(other) = found.next() {
            return Err(self.corrupt(format!("its header holds a {}", other.name())));
        }
        let snapshot = &self.read.snapshot;
        if snapshot.kraft_version < 0 || (snapshot.kraft_version == 0 && snapshot.voters.is_some()) {
            let version = snapshot.kraft_version;
            return Err(self.corrupt(format!("it has kraft.version {version}, and keeps voters or is none")));
        }
        self.due = Due::More;
        Ok(())
    }

    fn take_footer(&mut self, batch: &StampedBatch) -> Result<(), Corrupt> {
        match &self.control_records(batch)?[..] {
            [ControlRecord::SnapshotFooter] => {}
            [first, ..] => {
                return Err(self.corrupt(format!("a {} where no other than a footer can be", first.name())));
            }
            [] => return Err(self.corrupt("a control batch without a record")),
        }
        self.close_section()?;
        self.due = Due::Nothing;
        Ok(())
    }

    fn take_data(&mut self, batch: &StampedBatch) -> Result<(), Corrupt> {
        if batch.header().compression() != 0 {
            self.read.foreign_records += batch.header().record_count as u64;
            return Ok(());
        }
        for record in records(batch) {
            let record = record.map_err(|malformed| self.corrupt(malformed.why()))?;
            match record.value.filter(|value| record.key.is_none() && value.starts_with(MAGIC)) {
                Some(value) => self.take_piece(&value[MAGIC.len()..])?,
                None => self.read.foreign_records += 1,
            }
        }
        Ok(())
    }

    fn take_piece(&mut self, value: &[u8]) -> Result<(), Corrupt> {
        let (head, piece) = self.head_of(value)?;
        let Head { tag, position, size, .. } = head;
        if position == 0 {
            self.close_section()?;
            self.open_section(&head)?;
        }
        let Some(open) = self.open.as_mut() else {
            return Err(self.corrupt(format!("section {tag} does not begin with its first piece")));
        };
        let section = &open.section;
        let is_same =
            (section.tag, section.version, open.size, open.crc) == (tag, head.version, size, head.crc);
        if !is_same || open.read_bytes != position || position + piece.len() > size {
            let (of, has, whole, bytes) = (section.tag, open.read_bytes, open.size, piece.len());
            return Err(self.corrupt(format!(
                "a piece of section {tag}, {bytes} bytes from {position} of {size}, where section {of} has {has} of {whole}"
            )));
        }
        open.read_bytes += piece.len();
        open.read_crc = crc32c::crc32c_append(open.read_crc, piece);
        if self.keeps {
            open.section.bytes.extend_from_slice(piece);
        }
        Ok(())
    }

    fn head_of<'a>(&self, value: &'a [u8]) -> Result<(Head, &'a [u8]), Corrupt> {
        let Some((head, piece)) = value.split_first_chunk::<{ HEAD_BYTES - MAGIC.len() }>() else {
            return Err(self.corrupt("a piece of a section is shorter than its head"));
        };
        let short = |at: usize| u16::from_be_bytes([head[at], head[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]);
        if short(0) != VERSION {
            let form = short(0);
            return Err(self.corrupt(format!(
                "a newer program wrote it: its pieces are of version {form}, not {VERSION}"
            )));
        }
        let (tag, version, crc) = (short(2), short(4), long(10));
        Ok((Head { tag, version, size: long(6) as usize, crc, position: long(14) as usize }, piece))
    }

    fn open_section(&mut self, head: &Head) -> Result<(), Corrupt> {
        let Head { tag, version, size, crc, .. } = *head;
        let last = self.read.snapshot.sections.last().map(|last| last.tag);
        if let Some(last) = last.filter(|last| *last >= tag) {
            return Err(self.corrupt(format!("section {tag} comes behind section {last}")));
        }
        let section = Section { tag, version, bytes: Vec::new() };
        self.open = Some(Open { section, size, crc, read_bytes: 0, read_crc: 0 });
        Ok(())
    }

    /// All of it must be there.
    fn close_section(&mut self) -> Result<(), Corrupt> {
        let Some(Open { section, size, crc, read_bytes: has, read_crc }) = self.open.take() else {
            return Ok(());
        };
        let tag = section.tag;
        if has != size {
            return Err(self.corrupt(format!("section {tag} ends with {has} of its {size} bytes")));
        }
        if read_crc != crc {
            return Err(self.corrupt(format!("the checksum of section {tag} does not match its pieces")));
        }
        self.read.snapshot.sections.push(section);
        Ok(())
    }
}
