//! (contract; the owner replaces this file)
use crate::protocol::{Response, messages as m};
use crate::types::*;
/// What the answers below need to know of the replica, copied out by it.
pub struct View<'a> {
    pub cluster_id: &'a str,
    pub topic_name: &'a str,
    pub topic_id: Uuid,
    pub local: NodeId,
    /// (id, endpoint, in sync: fetched within the fetch timeout, or is the leader)
    pub voters: &'a [(NodeId, Endpoint, bool)],
    pub leader: Option<NodeId>,
    pub epoch: Epoch,
    pub is_leader: bool,
    pub high_watermark: Option<HighWatermark>,
    pub log_start: Offset,
    pub log_end: LogEndOffset,
    pub limits: &'a crate::config::Limits,
    pub segment_bytes_max: u64,
}
pub fn api_versions(_v: &View, _m: Option<&m::ApiVersionsRequest>, _version: i16) -> Response {
    unimplemented!()
}
pub fn metadata(_v: &View, _m: &m::MetadataRequest, _version: i16) -> Response {
    unimplemented!()
}
pub fn describe_cluster(_v: &View, _m: &m::DescribeClusterRequest, _version: i16) -> Response {
    unimplemented!()
}
pub fn describe_configs(_v: &View, _m: &m::DescribeConfigsRequest, _version: i16) -> Response {
    unimplemented!()
}
pub fn describe_topic_partitions(
    _v: &View,
    _m: &m::DescribeTopicPartitionsRequest,
    _version: i16,
) -> Response {
    unimplemented!()
}
/// `progress`: voters and observers as raft gives them; `now` turns monotonic ns into wall ms.
pub fn describe_quorum(
    _v: &View,
    _m: &m::DescribeQuorumRequest,
    _version: i16,
    _voters: &[crate::raft::ReplicaProgress],
    _observers: &[crate::raft::ReplicaProgress],
    _now: Now,
) -> Response {
    unimplemented!()
}
/// `producer_id`: a fresh random one, drawn by the replica.
pub fn init_producer_id(_v: &View, _m: &m::InitProducerIdRequest, _producer_id: i64) -> Response {
    unimplemented!()
}
pub fn offset_for_leader_epoch(
    _v: &View,
    _m: &m::OffsetForLeaderEpochRequest,
    _version: i16,
    _end_of_epoch: &dyn Fn(Epoch) -> Option<OffsetAndEpoch>,
) -> Response {
    unimplemented!()
}
