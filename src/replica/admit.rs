//! (contract; the owner replaces this file)
use crate::protocol::{self, messages as m};
use crate::record::{BatchError, StampedBatch};
use crate::types::*;
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
    pub transactional: bool,
    pub partitions: Vec<AdmittedPartition>,
}
/// One partition of a Produce, in request order. `batch` is judged only for our topic and partition 0.
#[derive(Debug)]
pub struct AdmittedPartition {
    pub topic_name: String,
    pub topic_id: Uuid,
    pub index: i32,
    pub batch: Result<StampedBatch, BatchError>,
    pub ours: bool,
}
pub type _Unused = m::ProduceRequest;
