//! The lines of `kafka-dump-log.sh` (Kafka: `DumpLogSegments`).

use std::io::{self, Write};

use kraft::record::{ControlRecord, Record, Voter, records};
use serde_json::Value;

use super::batches::FoundBatch;

const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];
/// Attribute bit: the base timestamp is the time at which compaction may remove the batch (KIP-534).
const DELETE_HORIZON_BIT: i16 = 0x40;

pub(crate) fn batch_line(found: &FoundBatch) -> String {
    let h = &found.header;
    let delete_horizon = match h.attributes & DELETE_HORIZON_BIT {
        0 => "OptionalLong.empty".to_string(),
        _ => format!("OptionalLong[{}]", h.base_timestamp),
    };
    format!(
        "baseOffset: {} lastOffset: {} count: {} baseSequence: {} lastSequence: {} producerId: {} producerEpoch: {} \
         partitionLeaderEpoch: {} isTransactional: {} isControl: {} deleteHorizonMs: {delete_horizon} position: {} \
         {}: {} size: {} magic: {} compresscodec: {} crc: {} isvalid: {}",
        h.base_offset,
        h.last_offset(),
        h.record_count,
        h.base_sequence,
        sequence(found, h.last_offset_delta),
        h.producer_id,
        h.producer_epoch,
        h.leader_epoch,
        h.is_transactional(),
        h.is_control(),
        found.position,
        timestamp_type(found),
        h.max_timestamp,
        h.size_bytes,
        h.magic,
        CODECS.get(usize::from(h.compression())).unwrap_or(&"unknown"),
        h.crc,
        found.batch.is_some(),
    )
}

fn timestamp_type(found: &FoundBatch) -> &'static str {
    if found.header.is_log_append_time() { "LogAppendTime" } else { "CreateTime" }
}

/// Sequence numbers go back to 0 behind the largest int (Kafka: `DefaultRecordBatch.incrementSequence`).
fn sequence(found: &FoundBatch, delta: i32) -> i32 {
    match found.header.base_sequence {
        ..0 => -1,
        base => base.wrapping_add(delta) & i32::MAX,
    }
}

pub(crate) fn write_records(out: &mut dyn Write, found: &FoundBatch, with_payload: bool) -> io::Result<()> {
    let Some(batch) = &found.batch else { return Ok(()) };
    if batch.header().compression() != 0 {
        return writeln!(out, "| {} records, compressed and not shown", batch.header().record_count);
    }
    for record in records(batch) {
        match record {
            Ok(record) => writeln!(out, "{}", record_line(found, &record, with_payload))?,
            Err(malformed) => {
                return writeln!(out, "| the rest of the batch is malformed: {}", malformed.why());
            }
        }
    }
    Ok(())
}

fn record_line(found: &FoundBatch, record: &Record<'_>, with_payload: bool) -> String {
    let h = &found.header;
    let size = |bytes: Option<&[u8]>| bytes.map_or(-1, |bytes| bytes.len() as i64);
    let timestamp = match h.is_log_append_time() {
        true => h.max_timestamp,
        false => h.base_timestamp.wrapping_add(record.timestamp_delta),
    };
    let headers: Vec<_> = record.headers().map(|header| text(header.key)).collect();
    let mut line = format!(
        "| offset: {} {}: {timestamp} keySize: {} valueSize: {} sequence: {} headerKeys: [{}]",
        h.base_offset.0.saturating_add(i64::from(record.offset_delta)),
        timestamp_type(found),
        size(record.key),
        size(record.value),
        sequence(found, record.offset_delta),
        headers.join(","),
    );
    if h.is_control() {
        let control = ControlRecord::decode(record.key.unwrap_or_default(), record.value.unwrap_or_default());
        line += &control
            .map_or_else(|malformed| format!(" {}", malformed.why()), |control| control_text(&control));
    } else if with_payload {
        line += &record.key.map_or(String::new(), |key| format!(" key: {}", text(key)));
        line += &record.value.map_or(String::new(), |value| format!(" payload: {}", text(value)));
    }
    line
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Kafka's name and JSON of each type.
fn control_text(control: &ControlRecord) -> String {
    match control {
        ControlRecord::LeaderChange { leader, voters, granting } => {
            let list = |ids: &[kraft::types::NodeId]| -> Vec<String> {
                ids.iter().map(|id| format!(r#"{{"voterId":{id}}}"#)).collect()
            };
            format!(
                r#" LeaderChange: {{"version":0,"leaderId":{leader},"voters":[{}],"grantingVoters":[{}]}}"#,
                list(voters).join(","),
                list(granting).join(",")
            )
        }
        ControlRecord::SnapshotHeader { last_contained_log_timestamp } => {
            format!(
                r#" SnapshotHeader {{"version":0,"lastContainedLogTimestamp":{last_contained_log_timestamp}}}"#
            )
        }
        ControlRecord::SnapshotFooter => r#" SnapshotFooter {"version":0}"#.to_string(),
        ControlRecord::KRaftVersion(version) => {
            format!(r#" KRaftVersion {{"version":0,"kRaftVersion":{version}}}"#)
        }
        ControlRecord::KRaftVoters(voters) => {
            let voters: Vec<String> = voters.iter().map(voter_json).collect();
            format!(r#" KRaftVoters {{"version":0,"voters":[{}]}}"#, voters.join(","))
        }
        ControlRecord::Configs(set) => {
            let set: Value =
                set.iter().map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
            format!(r#" Configs {{"version":0,"configs":{set}}}"#)
        }
        ControlRecord::NewerConfigs(version) => format!(r#" Configs {{"version":{version}}}"#),
        ControlRecord::Unknown(kind) => format!(" controlType: UNKNOWN({kind})"),
        ControlRecord::EndTransaction { .. } => format!(" controlType: {}", control.name()),
    }
}

/// The keys in Kafka's order, which serde_json's objects do not keep.
fn voter_json(voter: &Voter) -> String {
    let endpoints: Vec<String> = voter
        .endpoints
        .iter()
        .map(|e| {
            let (name, host) = (Value::from(e.name.as_str()), Value::from(e.endpoint.host.as_str()));
            format!(r#"{{"name":{name},"host":{host},"port":{}}}"#, e.endpoint.port)
        })
        .collect();
    format!(
        r#"{{"voterId":{},"voterDirectoryId":"{}","endpoints":[{}],"kRaftVersionFeature":{{"minSupportedVersion":{},"maxSupportedVersion":{}}}}}"#,
        voter.key.id,
        voter.key.directory_id,
        endpoints.join(","),
        voter.kraft_versions.0,
        voter.kraft_versions.1
    )
}
