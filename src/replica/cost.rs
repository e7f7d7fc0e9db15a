//! What a request costs a core, as an estimate from what it is and how long it is.
//!
//! Not measured: a core that was interrupted would take it for the fault of a client. And the same request costs the same in
//! the simulator. Rough figures of a core of 3 GHz, for decoding, checking, taking and answering together.

use super::admit::{Admitted, AdmittedProduce};
use crate::protocol::api_versions::key;

/// Each request, and each Produce: it goes to the log, and to the followers.
const REQUEST_NS: u64 = 5_000;
const PRODUCE_NS: u64 = 20_000;
/// Each read of a socket, and a KiB of it.
const READ_NS: u64 = 1_000;
const READ_KIB_NS: u64 = 200;
/// A KiB that is sent: over loopback with what it takes to receive it.
const SEND_KIB_NS: u64 = 500;
/// A KiB of records, of which the CRC is made.
const RECORDS_KIB_NS: u64 = 100;
/// A record that is walked.
const RECORD_NS: u64 = 15;
/// No record is smaller.
const RECORD_BYTES_MIN: usize = 7;
/// A KiB of names and numbers, of which each is decoded, compared with the others and answered for.
const NAMES_KIB_NS: u64 = 6_000;
/// The same of resources whose settings are told, and for the first of them.
const CONFIGS_KIB_NS: u64 = 20_000;
const CONFIGS_NS: u64 = 10_000;

/// The request that comes next: what its first bytes say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// Of the frame, with its length.
    pub(crate) bytes: usize,
    pub(crate) api_key: i16,
}

impl Announced {
    /// What it costs by its length. Others than Produce and Fetch cost no more.
    pub(crate) fn ns(&self) -> u64 {
        match self.api_key {
            key::PRODUCE => PRODUCE_NS + kib(self.bytes, RECORDS_KIB_NS),
            key::DESCRIBE_CONFIGS => CONFIGS_NS + kib(self.bytes, CONFIGS_KIB_NS),
            // Each is a batch, to the log and to the followers.
            key::ALTER_CONFIGS | key::INCREMENTAL_ALTER_CONFIGS => PRODUCE_NS + kib(self.bytes, NAMES_KIB_NS),
            _ => REQUEST_NS + kib(self.bytes, NAMES_KIB_NS),
        }
    }

    /// The most that it may cost by its length, whatever is in it.
    pub(crate) fn most_ns(&self) -> u64 {
        self.ns().max(REQUEST_NS + kib(self.bytes, NAMES_KIB_NS))
    }

    /// The length does not say all: a Produce may have many records, a Fetch a long answer.
    pub(crate) fn may_cost_more(&self) -> bool {
        matches!(self.api_key, key::PRODUCE | key::FETCH)
    }

    /// What it has cost, now that it is decoded.
    pub(crate) fn decoded_ns(&self, request: &Admitted) -> u64 {
        match request.asked() {
            Admitted::Produce(produce) => produce_ns(produce, self.bytes),
            Admitted::Other(_) | Admitted::Heavy(_) => self.ns(),
        }
    }
}

/// What is no batch that was taken counts as names: topics, or records of which one was bad.
fn produce_ns(produce: &AdmittedProduce, frame_bytes: usize) -> u64 {
    let batches = produce.partitions.iter().filter_map(|partition| partition.batch.as_ref().ok());
    let (mut batches_bytes, mut records) = (0, 0);
    for batch in batches {
        batches_bytes += batch.size_bytes();
        // A header may say anything; what is compressed is walked elsewhere.
        if batch.header().compression() == 0 {
            let most = (batch.size_bytes() / RECORD_BYTES_MIN) as u64;
            records += most.min(batch.header().record_count.max(0) as u64);
        }
    }
    let names_bytes = frame_bytes.saturating_sub(batches_bytes);
    PRODUCE_NS + kib(batches_bytes, RECORDS_KIB_NS) + kib(names_bytes, NAMES_KIB_NS) + records * RECORD_NS
}

/// What it costs to read so many bytes from a socket.
pub(crate) fn read_ns(bytes: usize) -> u64 {
    READ_NS + kib(bytes, READ_KIB_NS)
}

/// What it costs to send them.
pub(super) fn send_ns(bytes: usize) -> u64 {
    kib(bytes, SEND_KIB_NS)
}

fn kib(bytes: usize, ns: u64) -> u64 {
    bytes as u64 * ns / 1024
}
