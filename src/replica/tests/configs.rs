//! What is set for the topic is kept in the log: answered when it is committed, the same on every node, and there after any start.

use super::*;
use crate::log::OpKind;
use crate::protocol::frame::LENGTH_BYTES;
use crate::protocol::{self, RequestHeader, Response};
use crate::replica::input::{Lane, PeerLink};

const DESCRIBE_CONFIGS: i16 = 32;
const ALTER_CONFIGS: i16 = 33;
const INCREMENTAL_ALTER_CONFIGS: i16 = 44;

fn alteration(key: &'static str, value: Option<&'static str>) -> km::IncrementalAlterConfigsRequest {
    use km::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let mut config = AlterableConfig::default();
    config.name = StrBytes::from_static_str(key);
    config.config_operation = i8::from(value.is_none());
    config.value = value.map(StrBytes::from_static_str);
    let mut topic = AlterConfigsResource::default();
    topic.resource_type = 2;
    topic.resource_name = StrBytes::from_static_str(TOPIC);
    topic.configs.push(config);
    let mut request = km::IncrementalAlterConfigsRequest::default();
    request.resources.push(topic);
    request
}

fn answered(answer: &km::IncrementalAlterConfigsResponse) -> (i16, String) {
    let line = &answer.responses[0];
    (line.error_code, line.error_message.as_ref().map_or(String::new(), |why| why.to_string()))
}

/// Its error, and what it says of it.
fn alter(
    cluster: &mut Cluster,
    client: Client,
    key: &'static str,
    value: Option<&'static str>,
) -> (i16, String) {
    answered(&cluster.call(client, INCREMENTAL_ALTER_CONFIGS, 1, &alteration(key, value)))
}

fn receive_altered(cluster: &mut Cluster, client: Client) -> Option<(i16, String)> {
    cluster.receive(client, INCREMENTAL_ALTER_CONFIGS, 1).map(|answer| answered(&answer))
}

/// As this node tells it: value and source.
fn described(cluster: &mut Cluster, node: NodeId, key: &str) -> (String, i8) {
    let client = cluster.connect(node);
    let mut topic = km::describe_configs_request::DescribeConfigsResource::default();
    topic.resource_type = 2;
    topic.resource_name = StrBytes::from_static_str(TOPIC);
    topic.configuration_keys = Some(vec![StrBytes::from_string(key.to_string())]);
    let mut request = km::DescribeConfigsRequest::default();
    request.resources.push(topic);
    let answer: km::DescribeConfigsResponse = cluster.call(client, DESCRIBE_CONFIGS, 4, &request);
    let entry = &answer.results[0].configs[0];
    (entry.value.as_ref().expect("a value").to_string(), entry.config_source)
}

fn all_describe(cluster: &mut Cluster, key: &str, value: &str, source: i8) {
    cluster.run_ms(1_000);
    for id in 1..=3 {
        assert_eq!(described(cluster, NodeId(id), key), (value.to_string(), source), "node {id}");
    }
}

fn follower(leader: NodeId) -> NodeId {
    NodeId(leader.0 % 3 + 1)
}

#[test]
fn any_node_takes_an_alteration_and_all_tell_it_and_consumers_see_nothing_of_it() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"before"])), (0, 1));
    assert_eq!(alter(&mut cluster, client, "retention.ms", Some("5000")), (0, String::new()));
    all_describe(&mut cluster, "retention.ms", "5000", 1);
    let other = cluster.connect(follower(leader));
    assert_eq!(alter(&mut cluster, other, "retention.bytes", Some("77")), (0, String::new()));
    all_describe(&mut cluster, "retention.bytes", "77", 1);
    all_describe(&mut cluster, "retention.ms", "5000", 1);
    assert_eq!(alter(&mut cluster, other, "retention.ms", None), (0, String::new()));
    all_describe(&mut cluster, "retention.ms", "-1", 5);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"behind"])), (0, 5), "each took an offset");
    let answer: km::FetchResponse = cluster.call(client, FETCH, 12, &fetch_request(1, 100));
    let records = answer.responses[0].partitions[0].records.clone().expect("records");
    let (batches, _) = crate::record::check_fetched(records);
    let control: Vec<bool> = batches.iter().map(|batch| batch.header().is_control()).collect();
    assert_eq!(control, [false, true, true, true, false]);
    // An error of the leader's is told as it is.
    let (error, why) = alter(&mut cluster, other, "segment.bytes", Some("1"));
    assert!(error == 40 && why.contains("retention.bytes and retention.ms"), "{error} {why}");
}

#[test]
fn the_older_request_is_answered_too() {
    use km::alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(follower(leader));
    assert_eq!(alter(&mut cluster, client, "retention.ms", Some("5000")).0, 0);
    let mut config = AlterableConfig::default();
    config.name = StrBytes::from_static_str("retention.bytes");
    config.value = Some(StrBytes::from_static_str("9"));
    let mut topic = AlterConfigsResource::default();
    topic.resource_type = 2;
    topic.resource_name = StrBytes::from_static_str(TOPIC);
    topic.configs.push(config);
    let mut request = km::AlterConfigsRequest::default();
    request.resources.push(topic);
    let answer: km::AlterConfigsResponse = cluster.call(client, ALTER_CONFIGS, 2, &request);
    assert_eq!(answer.responses[0].error_code, 0);
    all_describe(&mut cluster, "retention.bytes", "9", 1);
    all_describe(&mut cluster, "retention.ms", "-1", 5);
}

#[test]
fn what_is_only_to_be_validated_changes_nothing() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    for node in [leader, follower(leader)] {
        let client = cluster.connect(node);
        let end = cluster.status(leader).log_end_offset;
        let mut request = alteration("retention.ms", Some("5000"));
        request.validate_only = true;
        let answer = cluster.call(client, INCREMENTAL_ALTER_CONFIGS, 1, &request);
        assert_eq!(answered(&answer), (0, String::new()));
        assert_eq!(cluster.status(leader).log_end_offset, end);
    }
    all_describe(&mut cluster, "retention.ms", "-1", 5);
}

#[test]
fn it_survives_a_failover_and_the_end_of_all() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(alter(&mut cluster, client, "retention.ms", Some("5000")).0, 0);
    cluster.kill(leader);
    let next = elect(&mut cluster);
    let client = cluster.connect(next);
    assert_eq!(alter(&mut cluster, client, "retention.bytes", Some("8")).0, 0);
    cluster.start(leader);
    all_describe(&mut cluster, "retention.ms", "5000", 1);
    (1..=3).for_each(|id| cluster.kill(NodeId(id)));
    (1..=3).for_each(|id| cluster.start(NodeId(id)));
    elect(&mut cluster);
    all_describe(&mut cluster, "retention.ms", "5000", 1);
    all_describe(&mut cluster, "retention.bytes", "8", 1);
}

#[test]
fn what_no_majority_has_is_not_answered_not_told_and_gone_with_its_leader() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(alter(&mut cluster, client, "retention.ms", Some("5000")).0, 0);
    cluster.run_ms(1_000);
    cluster.isolate(leader);
    cluster.send(client, INCREMENTAL_ALTER_CONFIGS, 1, &alteration("retention.ms", Some("6000")));
    cluster.run_ms(200);
    assert_eq!(receive_altered(&mut cluster, client), None);
    assert_eq!(described(&mut cluster, leader, "retention.ms"), ("5000".to_string(), 1));
    let mut told = None;
    cluster.run_until("an end of the wait", 10_000, |cluster| {
        told = receive_altered(cluster, client);
        told.is_some()
    });
    let (error, why) = told.expect("an answer");
    assert!([7, 41].contains(&error) && why.contains("may have been set"), "{error} {why}");
    cluster.run_until("another leader", 30_000, |cluster| {
        cluster.leader().is_some_and(|id| id != leader && cluster.status(id).ready)
    });
    let next = cluster.leader().expect("a leader");
    assert_eq!(described(&mut cluster, next, "retention.ms"), ("5000".to_string(), 1));
    cluster.isolated.remove(&leader);
    all_describe(&mut cluster, "retention.ms", "5000", 1);
}

#[test]
fn a_node_without_a_leader_says_so() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(follower(leader));
    (1..=3).filter(|id| NodeId(*id) != follower(leader)).for_each(|id| cluster.kill(NodeId(id)));
    let (error, why) = alter(&mut cluster, client, "retention.ms", Some("5000"));
    assert!([7, 41].contains(&error) && !why.is_empty(), "{error} {why}");
    cluster.run_ms(10_000);
    let (error, why) = alter(&mut cluster, client, "retention.ms", Some("5000"));
    assert!(error == 41 && why.contains("Nothing was set"), "{error} {why}");
}

#[test]
fn it_is_known_again_from_a_summary_alone() {
    let mut cluster = cluster_with(1, |config| config.limits.segment_bytes_max = 8192);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(alter(&mut cluster, client, "retention.ms", Some("5000")).0, 0);
    for _ in 0..40 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[&[7; 700]])).0, 0);
    }
    cluster.run_ms(5_000);
    let segments = cluster.disks[&leader].segments_kept();
    cluster.kill(leader);
    cluster.start(leader);
    assert!(segments > 3 && cluster.nodes[&leader].effort.summaries == segments - 1);
    elect(&mut cluster);
    assert_eq!(described(&mut cluster, leader, "retention.ms"), ("5000".to_string(), 1));
}

#[test]
fn an_answer_of_the_leader_that_says_nothing_of_the_topic_is_not_told_as_done() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let asked = follower(leader);
    let client = cluster.connect(asked);
    cluster.hold = |_, kind| matches!(kind, OpKind::Write { .. });
    cluster.send(client, INCREMENTAL_ALTER_CONFIGS, 1, &alteration("retention.ms", Some("5000")));
    cluster.run_ms(20);
    let header = RequestHeader {
        api_key: INCREMENTAL_ALTER_CONFIGS,
        api_version: 1,
        correlation_id: 0,
        client_id: None,
    };
    let nothing = Response::IncrementalAlterConfigs(km::IncrementalAlterConfigsResponse::default());
    let frame = protocol::encode_response(&header, &nothing).chunks.concat();
    let frame = Bytes::from(frame).slice(LENGTH_BYTES..);
    let link = PeerLink { node: leader, lane: Lane::Alter };
    cluster.input(asked, Input::PeerFrame { link, frame });
    cluster.run_ms(1);
    let (error, why) = receive_altered(&mut cluster, client).expect("an answer");
    assert_eq!(error, ErrorCode::REQUEST_TIMED_OUT.0, "{why}");
    assert!(why.contains("says nothing of the topic") && why.contains("may have been set"), "{why}");
}

#[test]
fn of_alterations_that_wait_for_a_majority_one_too_many_is_refused() {
    let mut cluster = cluster_with(3, |config| config.limits.parked_requests_max = 2);
    let leader = elect(&mut cluster);
    cluster.hold = |_, kind| matches!(kind, OpKind::Write { .. });
    let clients: Vec<Client> = (0..3).map(|_| cluster.connect(leader)).collect();
    for client in &clients {
        let request = alteration("retention.ms", Some("5000"));
        cluster.send(*client, INCREMENTAL_ALTER_CONFIGS, 1, &request);
    }
    cluster.run_ms(5);
    let (error, why) = receive_altered(&mut cluster, clients[2]).expect("it does not wait");
    assert_eq!(error, ErrorCode::REQUEST_TIMED_OUT.0, "{why}");
    assert!(why.contains("too many requests wait") && why.contains("Nothing was set"), "{why}");
    for waits in &clients[..2] {
        assert_eq!(receive_altered(&mut cluster, *waits), None);
    }
    cluster.release();
    cluster.run_ms(50);
    for waits in &clients[..2] {
        assert_eq!(receive_altered(&mut cluster, *waits), Some((0, String::new())));
    }
}
