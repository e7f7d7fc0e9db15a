//! FetchSnapshot as a replica asks it.

use super::*;

pub(super) fn fetch_snapshot(version: i16) -> Bytes {
    use m::fetch_snapshot_request::{PartitionSnapshot, SnapshotId, TopicSnapshot};
    let id = SnapshotId::default().with_end_offset(9).with_epoch(2);
    let mut partition =
        PartitionSnapshot::default().with_current_leader_epoch(3).with_snapshot_id(id).with_position(4);
    if version >= 1 {
        partition.replica_directory_id = wire_uuid(Uuid(5));
    }
    let topic = TopicSnapshot::default().with_name(s("topic").into());
    let topic = topic.with_partitions(vec![partition.clone(), partition]);
    let request =
        m::FetchSnapshotRequest::default().with_cluster_id(Some(s("cluster"))).with_replica_id(2.into());
    frame_of(key::FETCH_SNAPSHOT, version, &request.with_max_bytes(7).with_topics(vec![topic]))
}
