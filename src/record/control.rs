//! Control records: what the quorum itself writes into the log (Kafka: `ControlRecordType`, `ControlRecordUtils`).
//!
//! A leader opens its epoch with a LeaderChange batch from here, a snapshot begins and ends with its header and footer; dump
//! tools and tests read all kinds. Always version 0 of every value: Java 4.3 neither writes nor parses another
//! (LeaderChangeMessage has a version 1, KIP-853, unused).
//!
//! One type is ours: what an administrator has set for the topic. Clients pass over control batches, whatever their type.

use super::batch::{CONTROL_BIT, StampedBatch};
use super::builder::{BatchBuilder, RecordSpec, put_unsigned_varint, stamped};
use super::records::{Cursor, Malformed, records};
use crate::types::*;

/// Types of control records (Kafka: `ControlRecordType`).
const LEADER_CHANGE: i16 = 2;
const SNAPSHOT_HEADER: i16 = 3;
const SNAPSHOT_FOOTER: i16 = 4;
const KRAFT_VERSION: i16 = 5;
const KRAFT_VOTERS: i16 = 6;
/// Of every value that is written here, and of every key.
const VALUE_VERSION: i16 = 0;
/// How many tagged fields follow.
const NO_TAGS: u8 = 0;
/// Ours, of the record that holds what is set for the topic: far above all that Kafka has.
pub const CONFIGS_TYPE: i16 = 19_282;
const CONFIGS_NAME: &str = "CONFIGS";
/// Name, value and tag count, both strings empty.
const CONFIG_BYTES_MIN: usize = 1 + 1 + 1;
/// Smallest encoding of a voter in a VotersRecord: id, directory id, no endpoints, two versions, two tag counts.
const VOTER_BYTES_MIN: usize = 4 + 16 + 1 + 4 + 1 + 1;
/// Name, host, port and tag count, both strings empty.
const ENDPOINT_BYTES_MIN: usize = 1 + 1 + 2 + 1;

/// A control record, decoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ControlRecord {
    /// End marker of a transaction (types 0 and 1).
    EndTransaction {
        /// Or else aborted.
        committed: bool,
    },
    /// Type 2: the first batch of an epoch.
    LeaderChange {
        /// Who leads from here on.
        leader: NodeId,
        /// All voters, as the leader knows them.
        voters: Vec<NodeId>,
        /// Those whose votes have elected it.
        granting: Vec<NodeId>,
    },
    /// Type 3: the first batch of a snapshot.
    SnapshotHeader {
        /// Milliseconds since the Unix epoch, of the last record that the snapshot holds.
        last_contained_log_timestamp: i64,
    },
    /// Type 4: the last batch of a snapshot.
    SnapshotFooter,
    /// Type 5: the level of the feature `kraft.version`.
    KRaftVersion(i16),
    /// Type 6: the voters from here on (KIP-853).
    KRaftVoters(Vec<Voter>),
    /// Type 19282, ours: all that is set for the topic from here on, name and value.
    Configs(Vec<(String, String)>),
    /// The same, in a version of its value that only a newer program can read.
    NewerConfigs(i16),
    /// A type of a later Kafka, or of a newer program of ours.
    Unknown(i16),
}

/// One voter of a VotersRecord (KIP-853).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its node id and its directory's.
    pub key: ReplicaKey,
    /// One for each of its listeners.
    pub endpoints: Vec<VoterEndpoint>,
    /// Lowest and highest kraft.version that it supports.
    pub kraft_versions: (i16, i16),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VoterEndpoint {
    /// Name of the listener.
    pub name: String,
    pub endpoint: Endpoint,
}

impl ControlRecord {
    /// Kafka's name of the type.
    pub fn name(&self) -> &'static str {
        match self {
            ControlRecord::EndTransaction { committed: false } => "ABORT",
            ControlRecord::EndTransaction { committed: true } => "COMMIT",
            ControlRecord::LeaderChange { .. } => "LEADER_CHANGE",
            ControlRecord::SnapshotHeader { .. } => "SNAPSHOT_HEADER",
            ControlRecord::SnapshotFooter => "SNAPSHOT_FOOTER",
            ControlRecord::KRaftVersion(_) => "KRAFT_VERSION",
            ControlRecord::KRaftVoters(_) => "KRAFT_VOTERS",
            ControlRecord::Configs(_) | ControlRecord::NewerConfigs(_) => CONFIGS_NAME,
            ControlRecord::Unknown(_) => "UNKNOWN",
        }
    }

    /// From the key and value of a record in a control batch.
    pub fn decode(key: &[u8], value: &[u8]) -> Result<ControlRecord, Malformed> {
        let mut key = Cursor(key);
        let _version = key.i16()?;
        let mut value = Cursor(value);
        match key.i16()? {
            0 => Ok(ControlRecord::EndTransaction { committed: false }),
            1 => Ok(ControlRecord::EndTransaction { committed: true }),
            LEADER_CHANGE => value.leader_change(),
            SNAPSHOT_HEADER => value.versioned(|value| {
                Ok(ControlRecord::SnapshotHeader { last_contained_log_timestamp: value.i64()? })
            }),
            SNAPSHOT_FOOTER => value.versioned(|_| Ok(ControlRecord::SnapshotFooter)),
            KRAFT_VERSION => value.versioned(|value| Ok(ControlRecord::KRaftVersion(value.i16()?))),
            KRAFT_VOTERS => value.versioned(|value| {
                Ok(ControlRecord::KRaftVoters(value.array(VOTER_BYTES_MIN, Cursor::voter)?))
            }),
            CONFIGS_TYPE => value.configs(),
            unknown => Ok(ControlRecord::Unknown(unknown)),
        }
    }
}

/// The control records of a batch; empty for a data batch.
pub fn control_records(batch: &StampedBatch) -> Result<Vec<ControlRecord>, Malformed> {
    if !batch.header().is_control() {
        return Ok(Vec::new());
    }
    let mut decoded = Vec::new();
    for record in records(batch) {
        let record = record?;
        decoded
            .push(ControlRecord::decode(record.key.unwrap_or_default(), record.value.unwrap_or_default())?);
    }
    Ok(decoded)
}

/// Whether a leader may have begun its epoch with this batch: with none of a client's, and none of our type.
pub fn may_begin_epoch(batch: &StampedBatch) -> bool {
    let is_ours = |record: &ControlRecord| record.name() == CONFIGS_NAME;
    batch.header().is_control() && !control_records(batch).unwrap_or_default().iter().any(is_ours)
}

/// Whether the quorum is still one of static voters. `Err`: a batch says that it is not, and this server would go on
/// with the wrong voters.
pub fn check_static_voters(batch: &StampedBatch) -> Result<(), String> {
    // What cannot be read says nothing about voters.
    let records = control_records(batch).unwrap_or_default();
    let is_static = records
        .iter()
        .all(|record| !matches!(record, ControlRecord::KRaftVersion(1..) | ControlRecord::KRaftVoters(_)));
    if is_static {
        return Ok(());
    }
    Err(format!(
        "the batch at offset {} says that the quorum has kraft.version 1, whose voters are kept in the log (KIP-853); \
         this server supports kraft.version 0 with controller.quorum.voters only",
        batch.base_offset()
    ))
}

/// A LeaderChange control batch of one record, byte for byte as Kafka 4.3 writes it (value version 0), with its
/// offset and epoch. Kafka names the leader first among the granting voters.
pub fn leader_change_batch(
    base_offset: Offset,
    epoch: Epoch,
    wall_ms: i64,
    leader: NodeId,
    voters: &[NodeId],
    granting: &[NodeId],
) -> StampedBatch {
    let mut value = Vec::with_capacity(16 + 5 * (voters.len() + granting.len()));
    value.extend_from_slice(&VALUE_VERSION.to_be_bytes());
    value.extend_from_slice(&leader.0.to_be_bytes());
    put_voter_ids(&mut value, voters);
    put_voter_ids(&mut value, granting);
    value.push(NO_TAGS);
    control_batch(base_offset, epoch, wall_ms, &[(LEADER_CHANGE, value)])
}

/// The first batch of a snapshot of this epoch, byte for byte as Kafka 4.3 writes it: its header, and where voters are kept in the log
/// (kraft.version above 0) that version and the voters (Kafka: `RecordsSnapshotWriter.Builder.build`).
pub fn snapshot_header_batch(
    epoch: Epoch,
    wall_ms: i64,
    last_contained_log_timestamp: i64,
    kraft_version: i16,
    voters: Option<&[Voter]>,
) -> StampedBatch {
    let version = VALUE_VERSION.to_be_bytes();
    let header = [&version[..], &last_contained_log_timestamp.to_be_bytes(), &[NO_TAGS]].concat();
    let mut records = vec![(SNAPSHOT_HEADER, header)];
    if kraft_version > 0 {
        records.push((KRAFT_VERSION, [&version[..], &kraft_version.to_be_bytes(), &[NO_TAGS]].concat()));
        records.extend(voters.map(|voters| (KRAFT_VOTERS, voters_value(voters))));
    }
    control_batch(Offset(0), epoch, wall_ms, &records)
}

/// The last batch of a snapshot.
pub fn snapshot_footer_batch(base_offset: Offset, epoch: Epoch, wall_ms: i64) -> StampedBatch {
    let value = [&VALUE_VERSION.to_be_bytes()[..], &[NO_TAGS]].concat();
    control_batch(base_offset, epoch, wall_ms, &[(SNAPSHOT_FOOTER, value)])
}

/// Types and values of its records.
fn control_batch(
    base_offset: Offset,
    epoch: Epoch,
    wall_ms: i64,
    records: &[(i16, Vec<u8>)],
) -> StampedBatch {
    let builder = BatchBuilder::new(wall_ms).attributes(CONTROL_BIT);
    let add = |builder: BatchBuilder, (kind, value): &(i16, Vec<u8>)| {
        let key = [VALUE_VERSION.to_be_bytes(), kind.to_be_bytes()].concat();
        builder.record(RecordSpec { key: Some(&key), value: Some(value), ..RecordSpec::default() })
    };
    stamped(records.iter().fold(builder, add), base_offset, epoch)
}

/// A VotersRecord.
fn voters_value(voters: &[Voter]) -> Vec<u8> {
    let mut value = VALUE_VERSION.to_be_bytes().to_vec();
    put_unsigned_varint(&mut value, voters.len() as u64 + 1);
    for voter in voters {
        value.extend_from_slice(&voter.key.id.0.to_be_bytes());
        value.extend_from_slice(&voter.key.directory_id.0.to_be_bytes());
        put_unsigned_varint(&mut value, voter.endpoints.len() as u64 + 1);
        for VoterEndpoint { name, endpoint } in &voter.endpoints {
            put_compact_string(&mut value, name);
            put_compact_string(&mut value, &endpoint.host);
            value.extend_from_slice(&endpoint.port.to_be_bytes());
            value.push(NO_TAGS);
        }
        value.extend_from_slice(&voter.kraft_versions.0.to_be_bytes());
        value.extend_from_slice(&voter.kraft_versions.1.to_be_bytes());
        // Of the version range, and of the voter.
        value.extend_from_slice(&[NO_TAGS; 2]);
    }
    value.push(NO_TAGS);
    value
}

fn put_compact_string(out: &mut Vec<u8>, text: &str) {
    put_unsigned_varint(out, text.len() as u64 + 1);
    out.extend_from_slice(text.as_bytes());
}

/// A batch of one record that says all that is set for the topic from there on. A leader gives it its place.
pub fn configs_batch(wall_ms: i64, set: &[(&str, &str)]) -> StampedBatch {
    control_batch(Offset(0), Epoch(0), wall_ms, &[(CONFIGS_TYPE, encode_configs(set))])
}

/// The value of such a record: its version, a compact array of names and values, no tagged fields.
pub(crate) fn encode_configs(set: &[(&str, &str)]) -> Vec<u8> {
    let mut value = VALUE_VERSION.to_be_bytes().to_vec();
    put_unsigned_varint(&mut value, set.len() as u64 + 1);
    for (name, set_to) in set {
        put_compact_string(&mut value, name);
        put_compact_string(&mut value, set_to);
        value.push(NO_TAGS);
    }
    value.push(NO_TAGS);
    value
}

/// `Err`: these are not the whole bytes of one.
pub(crate) fn decode_configs(value: &[u8]) -> Result<ControlRecord, Malformed> {
    Cursor(value).configs()
}

/// A compact array of structs that hold an id and no tagged fields.
fn put_voter_ids(out: &mut Vec<u8>, ids: &[NodeId]) {
    put_unsigned_varint(out, ids.len() as u64 + 1);
    for id in ids {
        out.extend_from_slice(&id.0.to_be_bytes());
        out.push(NO_TAGS);
    }
}

/// The types of Kafka's flexible message encoding that control records are made of.
impl Cursor<'_> {
    fn fixed<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(Malformed::PastTheEnd)?;
        self.0 = rest;
        Ok(*bytes)
    }

    fn i16(&mut self) -> Result<i16, Malformed> {
        self.fixed().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Result<i32, Malformed> {
        self.fixed().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Result<i64, Malformed> {
        self.fixed().map(i64::from_be_bytes)
    }

    /// Length + 1, then UTF-8.
    fn compact_string(&mut self) -> Result<String, Malformed> {
        let size = self.unsigned_varint()?.checked_sub(1).ok_or(Malformed::NegativeLength)?;
        let bytes = self.take(i32::try_from(size).map_err(|_| Malformed::PastTheEnd)?)?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    }

    /// Count + 1, then the elements, each of at least `bytes_min`: nothing is reserved that cannot follow.
    fn array<T>(
        &mut self,
        bytes_min: usize,
        element: impl Fn(&mut Self) -> Result<T, Malformed>,
    ) -> Result<Vec<T>, Malformed> {
        let count = self.unsigned_varint()?.checked_sub(1).ok_or(Malformed::NegativeLength)? as usize;
        if count > self.0.len() / bytes_min {
            return Err(Malformed::PastTheEnd);
        }
        (0..count).map(|_| element(self)).collect()
    }

    fn skip_tagged_fields(&mut self) -> Result<(), Malformed> {
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let size = self.unsigned_varint()?;
            self.take(i32::try_from(size).map_err(|_| Malformed::PastTheEnd)?)?;
        }
        Ok(())
    }

    /// A value: its version, its fields, its tagged fields.
    fn versioned(
        &mut self,
        fields: impl Fn(&mut Self) -> Result<ControlRecord, Malformed>,
    ) -> Result<ControlRecord, Malformed> {
        let _version = self.i16()?;
        let record = fields(self)?;
        self.skip_tagged_fields()?;
        Ok(record)
    }

    /// In another version than ours nothing behind it is known.
    fn configs(&mut self) -> Result<ControlRecord, Malformed> {
        match { Cursor(self.0) }.i16()? {
            VALUE_VERSION => self.versioned(|value| {
                Ok(ControlRecord::Configs(value.array(CONFIG_BYTES_MIN, Cursor::config)?))
            }),
            newer => Ok(ControlRecord::NewerConfigs(newer)),
        }
    }

    fn config(&mut self) -> Result<(String, String), Malformed> {
        let config = (self.compact_string()?, self.compact_string()?);
        self.skip_tagged_fields()?;
        Ok(config)
    }

    fn leader_change(&mut self) -> Result<ControlRecord, Malformed> {
        self.versioned(|value| {
            let leader = NodeId(value.i32()?);
            let voters = value.array(5, Cursor::voter_id)?;
            Ok(ControlRecord::LeaderChange { leader, voters, granting: value.array(5, Cursor::voter_id)? })
        })
    }

    fn voter_id(&mut self) -> Result<NodeId, Malformed> {
        let id = NodeId(self.i32()?);
        self.skip_tagged_fields()?;
        Ok(id)
    }

    fn voter(&mut self) -> Result<Voter, Malformed> {
        let id = NodeId(self.i32()?);
        let directory_id = Uuid(u128::from_be_bytes(self.fixed()?));
        let endpoints = self.array(ENDPOINT_BYTES_MIN, Cursor::voter_endpoint)?;
        let kraft_versions = (self.i16()?, self.i16()?);
        self.skip_tagged_fields()?; // of the version range
        self.skip_tagged_fields()?; // of the voter
        Ok(Voter { key: ReplicaKey { id, directory_id }, endpoints, kraft_versions })
    }

    fn voter_endpoint(&mut self) -> Result<VoterEndpoint, Malformed> {
        let name = self.compact_string()?;
        let host = self.compact_string()?;
        let port = u16::from_be_bytes(self.fixed()?);
        self.skip_tagged_fields()?;
        Ok(VoterEndpoint { name, endpoint: Endpoint { host, port } })
    }
}
