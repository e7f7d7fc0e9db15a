//! DeleteRecords at whole nodes: what is refused, and when who asked is answered.

use super::*;
use crate::protocol::Request as R;
use crate::protocol::Response;
use km::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};

/// Of nobody whose answers the cluster hands on.
const ADMIN: ConnectionId = ConnectionId(u64::MAX);

fn asked(topic: &str, offsets: &[i64], timeout_ms: i32) -> km::DeleteRecordsRequest {
    let partition = |offset: &i64| DeleteRecordsPartition::default().with_offset(*offset);
    let topic = DeleteRecordsTopic::default()
        .with_name(StrBytes::from_string(topic.to_string()).into())
        .with_partitions(offsets.iter().map(partition).collect());
    km::DeleteRecordsRequest::default().with_topics(vec![topic]).with_timeout_ms(timeout_ms)
}

fn ask(cluster: &mut Cluster, id: NodeId, request: km::DeleteRecordsRequest) {
    cluster.hold_answers = true;
    let now_ns = cluster.now.monotonic_ns;
    let input = Input::Request {
        connection: ADMIN,
        seq: 0,
        api_version: 2,
        is_forwarded: false,
        request: Admitted::Other(R::DeleteRecords(request)),
        received_ns: now_ns,
        decoded_ns: now_ns,
    };
    cluster.input(id, input);
    cluster.run_ms(5);
}

/// Error and low watermark of each partition; `None`: it waits.
fn answered(cluster: &mut Cluster) -> Option<Vec<(i16, i64)>> {
    let held = std::mem::take(&mut cluster.held_answers);
    held.into_iter().find_map(|action| match action {
        Action::Answer { response: Some(Response::DeleteRecords(answer)), .. } => {
            let lines = answer.topics.iter().flat_map(|topic| &topic.partitions);
            Some(lines.map(|line| (line.error_code, line.low_watermark)).collect())
        }
        _ => None,
    })
}

fn delete(cluster: &mut Cluster, id: NodeId, to: i64) -> Option<(i16, i64)> {
    ask(cluster, id, asked(TOPIC, &[to], 200));
    answered(cluster).map(|lines| lines[0])
}

fn take_snapshot(cluster: &mut Cluster, id: NodeId) {
    let replica = &mut cluster.nodes.get_mut(&id).expect("a node").replica;
    let (snapshot, _) = replica.folded().expect("all is settled");
    replica.snapshot_taken(snapshot);
    cluster.run_ms(20);
}

/// One voter with so many records, from offset 1 on.
fn with_records(count: i64) -> (Cluster, NodeId) {
    let mut cluster = cluster_with(1, |_| {});
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for _ in 0..count {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    }
    (cluster, leader)
}

#[test]
fn who_asks_is_answered_when_the_start_is_held_and_told() {
    let (mut cluster, leader) = with_records(10);
    assert_eq!(delete(&mut cluster, leader, 5), None, "no snapshot covers it");
    assert_eq!(cluster.status(leader).log_start_offset, 0);
    take_snapshot(&mut cluster, leader);
    assert_eq!(answered(&mut cluster), Some(vec![(0, 5)]));
    assert_eq!(cluster.status(leader).log_start_offset, 5);
    assert_eq!(delete(&mut cluster, leader, 4), Some((0, 5)), "it is so already");
    assert_eq!(delete(&mut cluster, leader, -1), Some((0, 11)), "all that there is");
}

#[test]
fn what_cannot_be_deleted_is_refused_by_kafkas_codes() {
    let (mut cluster, leader) = with_records(10);
    for bad in [12, -2, i64::MIN, i64::MAX] {
        let expected = Some((ErrorCode::OFFSET_OUT_OF_RANGE.0, -1));
        assert_eq!(delete(&mut cluster, leader, bad), expected, "{bad}");
    }
    ask(&mut cluster, leader, asked("another", &[5], 100));
    assert_eq!(answered(&mut cluster), Some(vec![(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, -1)]));
    ask(&mut cluster, leader, asked(TOPIC, &[5, 6], 100));
    assert_eq!(answered(&mut cluster), Some(vec![(ErrorCode::INVALID_REQUEST.0, -1); 2]));
    let mut cluster = cluster_with(1, |config| config.data_mode = DataMode::Interop);
    let leader = elect(&mut cluster);
    assert_eq!(delete(&mut cluster, leader, 0), Some((ErrorCode::POLICY_VIOLATION.0, -1)));
    let mut cluster = cluster_with(3, |_| {});
    let leader = elect(&mut cluster);
    cluster.run_ms(500);
    let follower = NodeId(if leader == NodeId(1) { 2 } else { 1 });
    assert_eq!(delete(&mut cluster, follower, 0), Some((ErrorCode::NOT_LEADER_OR_FOLLOWER.0, -1)));
}

#[test]
fn who_has_waited_long_enough_is_told_so_and_it_goes_on() {
    let (mut cluster, leader) = with_records(10);
    assert_eq!(delete(&mut cluster, leader, 5), None);
    cluster.run_ms(150);
    assert_eq!(answered(&mut cluster), None);
    cluster.run_ms(60);
    assert_eq!(answered(&mut cluster), Some(vec![(ErrorCode::REQUEST_TIMED_OUT.0, -1)]));
    take_snapshot(&mut cluster, leader);
    assert_eq!(cluster.status(leader).log_start_offset, 5);
}

#[test]
fn no_more_wait_than_there_are_places_and_who_has_gone_leaves_his() {
    let mut cluster = cluster_with(1, |config| config.limits.parked_requests_max = 1);
    let leader = elect(&mut cluster);
    assert_eq!(delete(&mut cluster, leader, 1), None);
    assert_eq!(delete(&mut cluster, leader, 1), Some((ErrorCode::REQUEST_TIMED_OUT.0, -1)));
    assert_eq!(cluster.status(leader).parked_requests, 1);
    cluster.input(leader, Input::ConnectionClosed { connection: ADMIN });
    cluster.run_ms(5);
    assert_eq!(cluster.status(leader).parked_requests, 0);
}
