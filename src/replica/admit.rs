//! Admission: a decoded request becomes what the replica takes, with the records of a Produce already checked.
//!
//! Called by a session, on the core that owns the connection, so that CRC and record checks load no replica core. It
//! knows the limits and the one topic of this server, and never asks who leads or what the log holds: errors are kept
//! beside their partition, and the replica puts them into the answer.

use super::session_limits::SessionLimits;
use crate::protocol::produce::TOPIC_ID_FROM;
use crate::protocol::{self, ProduceRequest, messages as m};
use crate::record::{self, BatchError, ProduceLimits, StampedBatch};
use crate::types::*;
use bytes::Bytes;
use smallvec::SmallVec;

/// A request as the replica takes it: records split and checked, everything else as decoded.
#[derive(Debug)]
pub enum Admitted {
    /// Its batches are checked.
    Produce(AdmittedProduce),
    /// Nothing in it needs a check of ours.
    Other(protocol::Request),
    /// One of these for many things: it waits for a turn of its own.
    Heavy(HeavyRequest),
}

/// A request for many things, with what it takes.
#[derive(Debug)]
pub struct HeavyRequest {
    pub(super) request: Box<Admitted>,
    pub(super) api_key: i16,
    /// What it takes in memory, at most.
    pub(crate) bytes: usize,
}

/// A Produce whose batches have been checked; what is wrong stands beside its partition.
#[derive(Debug)]
pub struct AdmittedProduce {
    pub(crate) acks: i16,
    pub(crate) timeout_ms: i32,
    /// It names a transactional id.
    pub(crate) transactional: bool,
    /// Nearly all have one.
    pub partitions: SmallVec<[AdmittedPartition; 1]>,
}

/// One partition of a Produce, in request order. `batch` is judged only for our topic and partition 0, and where that is named
/// first: no client names a partition twice, and a request is looked into for as much as one batch costs. (Kafka takes the last.)
#[derive(Debug)]
pub struct AdmittedPartition {
    /// As the request names it: empty from version 13 on, which names topics by id.
    pub(super) topic_name: m::StrBytes,
    /// Zero before version 13.
    pub(super) topic_id: Uuid,
    pub(super) index: i32,
    /// Our topic and partition 0. Otherwise `batch` says nothing: the records were not looked at.
    pub(crate) ours: bool,
    /// Fit to be appended, or what is answered instead.
    pub batch: Result<StampedBatch, BatchError>,
}

impl Admitted {
    /// What it is, whenever it will be answered.
    pub(crate) fn asked(&self) -> &Admitted {
        match self {
            Admitted::Heavy(heavy) => heavy.request.asked(),
            other => other,
        }
    }

    /// The Produce that it is, whenever it will be answered.
    pub(super) fn produce_mut(&mut self) -> Option<&mut AdmittedProduce> {
        match self {
            Admitted::Produce(produce) => Some(produce),
            Admitted::Other(_) => None,
            Admitted::Heavy(heavy) => heavy.request.produce_mut(),
        }
    }

    /// Put off until it has a turn of its own.
    pub(crate) fn heavy(self, api_key: i16, bytes: usize) -> Admitted {
        Admitted::Heavy(HeavyRequest { request: Box::new(self), api_key, bytes })
    }
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
        let (mut partitions, mut has_ours) = (SmallVec::new(), false);
        let sent_bytes = sent_bytes(&produce);
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
                let batch = match () {
                    _ if !ours => not_looked_at(),
                    _ if std::mem::replace(&mut has_ours, true) => Err(BatchError::Repeated),
                    _ => self.batch(partition.records, sent_bytes),
                };
                partitions.push(AdmittedPartition {
                    topic_name: topic_name.clone(),
                    topic_id: topic.id,
                    index: partition.index,
                    ours,
                    batch,
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

    /// `sent_bytes`: of the whole request, which a batch must not keep in memory where most of it is something else.
    fn batch(&self, records: Option<Bytes>, sent_bytes: usize) -> Result<StampedBatch, BatchError> {
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
        if batch.header().compression() != 0 && self.limits.compressed_check == CompressedCheck::Off {
            record::check_compressed_header(batch.header(), &self.produce_limits())?;
        }
        let batch = match self.limits.data_mode {
            DataMode::Native => batch,
            DataMode::Interop => record::make_interop(batch)?,
        };
        let is_lesser_part = 2 * batch.size_bytes() < sent_bytes;
        Ok(batch.unpin(if is_lesser_part { usize::MAX } else { self.allocation_bytes }))
    }

    fn produce_limits(&self) -> ProduceLimits {
        self.limits.produce_limits(self.now)
    }
}

fn sent_bytes(produce: &ProduceRequest) -> usize {
    let records =
        |partition: &protocol::produce::ProducePartition| partition.records.as_ref().map_or(0, Bytes::len);
    let of_topic = |topic: &protocol::produce::ProduceTopic| {
        topic.name.len() + topic.partitions.iter().map(records).sum::<usize>()
    };
    produce.topics.iter().map(of_topic).sum()
}

/// Another topic or partition: there may be thousands, and nobody is told this sentence.
fn not_looked_at() -> Result<StampedBatch, BatchError> {
    Err(BatchError::Invalid(String::new()))
}

#[cfg(test)]
mod tests;
