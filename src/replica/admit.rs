//! Admission: a decoded request becomes what the replica takes, with the records of a Produce already checked.
//!
//! Called by a session, on the core that owns the connection, so that CRC and record checks load no replica core. It
//! knows the limits and the one topic of this server, and never asks who leads or what the log holds: errors are kept
//! beside their partition, and the replica puts them into the answer.

use super::session::SessionLimits;
use crate::protocol::produce::TOPIC_ID_FROM;
use crate::protocol::{self, ProduceRequest, messages as m};
use crate::record::{self, BatchError, ProduceLimits, StampedBatch};
use crate::types::*;
use bytes::Bytes;
use smallvec::SmallVec;

/// A request as the replica takes it: records split and checked, everything else as decoded.
#[derive(Debug)]
pub enum Admitted {
    Produce(AdmittedProduce),
    Other(protocol::Request),
}

#[derive(Debug)]
pub struct AdmittedProduce {
    pub acks: i16,
    pub timeout_ms: i32,
    /// It names a transactional id.
    pub transactional: bool,
    /// Nearly all have one.
    pub partitions: SmallVec<[AdmittedPartition; 1]>,
}

/// One partition of a Produce, in request order. `batch` is judged only for our topic and partition 0.
#[derive(Debug)]
pub struct AdmittedPartition {
    /// As the request names it: empty from version 13 on, which names topics by id.
    pub topic_name: m::StrBytes,
    /// Zero before version 13.
    pub topic_id: Uuid,
    pub index: i32,
    /// Our topic and partition 0. Otherwise `batch` says nothing: the records were not looked at.
    pub ours: bool,
    pub batch: Result<StampedBatch, BatchError>,
}

/// Version of Produce from which zstd is allowed (KIP-110).
const PRODUCE_ZSTD: i16 = 7;
const ZSTD: u8 = 4;

/// Admit a decoded request. `allocation_bytes`: size of the receive buffer that its bytes share; a batch much smaller
/// than that is copied out, so that the log's memory does not pin it.
pub fn admit(
    request: protocol::Request,
    api_version: i16,
    limits: &SessionLimits,
    now: Now,
    allocation_bytes: usize,
) -> Admitted {
    match request {
        protocol::Request::Produce(produce) => {
            let admission = Admission { api_version, limits, now, allocation_bytes };
            Admitted::Produce(admission.produce(produce))
        }
        other => Admitted::Other(other),
    }
}

struct Admission<'a> {
    api_version: i16,
    limits: &'a SessionLimits,
    now: Now,
    allocation_bytes: usize,
}

impl Admission<'_> {
    fn produce(&self, produce: ProduceRequest) -> AdmittedProduce {
        let mut partitions = SmallVec::new();
        for topic in produce.topics {
            let is_our_name = *topic.name == *self.limits.topic_name;
            let is_our_topic = match self.api_version >= TOPIC_ID_FROM {
                true => topic.id == self.limits.topic_id,
                false => is_our_name,
            };
            // Not the request's own bytes: a waiting answer would keep the whole receive buffer.
            let topic_name = match is_our_name {
                true => self.limits.topic_name.clone(),
                false => m::StrBytes::from_string(topic.name.to_string()),
            };
            for partition in topic.partitions {
                let ours = is_our_topic && partition.index == 0;
                partitions.push(AdmittedPartition {
                    topic_name: topic_name.clone(),
                    topic_id: topic.id,
                    index: partition.index,
                    ours,
                    batch: if ours { self.batch(partition.records) } else { not_looked_at() },
                });
            }
        }
        AdmittedProduce {
            acks: produce.acks,
            timeout_ms: produce.timeout_ms,
            transactional: produce.transactional_id.is_some(),
            partitions,
        }
    }

    fn batch(&self, records: Option<Bytes>) -> Result<StampedBatch, BatchError> {
        let records = records.unwrap_or_default();
        if records.is_empty() {
            // Kafka: `ProduceRequest.validateRecords`.
            return Err(BatchError::Invalid(
                "the partition has no records; it must have exactly one batch".to_string(),
            ));
        }
        let batch = record::check_produced(records, &self.produce_limits())?;
        if self.api_version < PRODUCE_ZSTD && batch.header().compression() == ZSTD {
            return Err(BatchError::Compression(format!(
                "Produce version {} must not carry zstd, version {PRODUCE_ZSTD} may",
                self.api_version
            )));
        }
        let batch = match self.limits.data_mode {
            DataMode::Native => batch,
            DataMode::Interop => record::make_interop(batch)?,
        };
        Ok(batch.unpin(self.allocation_bytes))
    }

    fn produce_limits(&self) -> ProduceLimits {
        ProduceLimits {
            message_bytes_max: self.limits.message_bytes_max,
            timestamp_before_max_ms: self.limits.timestamp_before_max_ms,
            timestamp_after_max_ms: self.limits.timestamp_after_max_ms,
            now_wall_ms: self.now.wall_ms,
        }
    }
}

fn not_looked_at() -> Result<StampedBatch, BatchError> {
    Err(BatchError::Invalid("the records of another topic or partition are not looked at".to_string()))
}

#[cfg(test)]
mod tests;
