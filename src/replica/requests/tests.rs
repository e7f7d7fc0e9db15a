use super::*;
use crate::config::Limits;
use crate::protocol::{RequestHeader, encode_response, wire_uuid};
use crate::raft::ReplicaProgress;
use m::describe_configs_request::DescribeConfigsResource;
use m::describe_quorum_request::{PartitionData, TopicData};
use m::describe_topic_partitions_request::{Cursor, TopicRequest};
use m::metadata_request::MetadataRequestTopic;
use m::offset_for_leader_epoch_request::OffsetForLeaderTopic;

const OURS: &str = "__cluster_metadata";
const NOW: Now = Now { monotonic_ns: 50_000 * NS_PER_MS, wall_ms: 1_700_000_000_000 };

fn limits() -> Limits {
    Limits {
        message_bytes_max: 1_048_588,
        request_bytes_max: 100 << 20,
        decompressed_bytes_max: 100 << 20,
        inspection_threads: 1,
        queued_request_bytes_max: 128 << 20,
        connections_max: 10_000,
        guest_connections_max: 256,
        guest_ms_max: 2_000,
        voter_connections_max: 8,
        round_bytes_max: 4 << 20,
        round_ms_max: 10,
        device_read_bytes_max: 2 << 20,
        device_reads_bytes_max: 64 << 20,
        answers_bytes_max: 96 << 20,
        device_reads_max: 4,
        room_stall_ms_max: 5_000,
        segment_bytes_max: 1 << 30,
        segment_ms_max: i64::MAX,
        zero_ahead_bytes: 16 << 20,
        fetch_response_bytes_max: 55 << 20,
        replica_fetch_bytes_max: 4 << 20,
        tail_cache_bytes_max: 64 << 20,
        write_buffer_bytes: 1 << 20,
        write_buffers: 8,
        group_bytes_max: 4 << 20,
        unflushed_bytes_max: 64 << 20,
        uncommitted_bytes_max: 256 << 20,
        connection_output_bytes_max: 64 << 20,
        connection_requests_max: 64,
        request_entries_max: 50_000,
        heavy_bytes_max: 20 << 20,
        turn_inputs_max: 256,
        flush_stall_ms_max: 10_000,
        commit_mark_idle_ms: 100,
        index_interval_bytes: 64 << 10,
        read_cache_bytes_max: 64 << 20,
        is_read_cache_automatic: false,
        copies_unread: false,
        read_ahead_bytes_max: 4 << 20,
        read_piece_bytes: 2 << 20,
        producer_ids_max: 10_000,
        fold_walk_entries: 256,
        fold_settled_batches: 256,
        fold_held_batches_max: 262_144,
        snapshot_bytes_max: 1,
        snapshot_piece_bytes_max: 1,
        snapshot_hold_ms: 1,
        snapshot_bytes_between: 20 << 20,
        snapshot_interval_ms: 3_600_000,
        snapshot_pause_ms: 10_000,
        connection_producer_ids_max: 100,
        producer_id_idle_ms_min: 900_000,
        request_wait_ms_max: 300_000,
        connection_idle_ms_max: 600_000,
        parked_requests_max: 100_000,
        disk_free_bytes_warn: 1 << 30,
        disk_free_bytes_min: 64 << 20,
        latency_log_bytes_max: 64 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: 3_600_000,
    }
}

fn voter(id: i32, port: u16, is_in_sync: bool) -> (NodeId, Endpoint, bool) {
    (NodeId(id), Endpoint { host: "localhost".to_string(), port }, is_in_sync)
}

/// Calls `test` with the view of node 2 of three, which leads epoch 4; node 3 is not in sync.
fn with_view(test: impl FnOnce(View)) {
    let limits = limits();
    let voters = [voter(1, 9092, true), voter(2, 9093, true), voter(3, 9094, false)];
    test(View {
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA",
        topic_name: OURS,
        topic_id: Uuid::METADATA_TOPIC_ID,
        local: NodeId(2),
        advertised: &voters[1].1,
        listener_name: "PLAINTEXT",
        voters: &voters,
        serves_clients: &|_| true,
        leader: Some(NodeId(2)),
        epoch: Epoch(4),
        is_leader: true,
        high_watermark: Some(HighWatermark(Offset(90))),
        log_end: LogEndOffset(Offset(100)),
        log_dir: "/var/lib/kraft",
        log_size_bytes: 12_345,
        disk_free_bytes: u64::MAX,
        limits: &limits,
        segment_bytes_max: 1 << 30,
        retention: crate::config::Retention::default(),
        set: &BTreeMap::new(),
        is_alterable: true,
    });
}

fn ids(brokers: &[m::BrokerId]) -> Vec<i32> {
    brokers.iter().map(|id| id.0).collect()
}

macro_rules! body {
    ($api:ident, $response:expr) => {
        match $response {
            Response::$api(body) => body,
            other => panic!("answered with {other:?}"),
        }
    };
}

// Behind the macro, which it uses.
mod admin;
mod alter;
mod groups;

/// Every version can say the answer: its fields are all known to that version.
fn check_encodes(api_key: i16, version: i16, response: &Response) {
    let header = RequestHeader { api_key, api_version: version, correlation_id: 1, client_id: None };
    assert!(!encode_response(&header, response).is_empty(), "version {version} cannot say {response:?}");
}

/// Kafka's own bytes for the same question.
fn check_golden(path: &str, correlation_id: i32, api_key: i16, api_version: i16, response: &Response) {
    let file = format!("{}/tests/fixtures/golden/frames/{path}", env!("CARGO_MANIFEST_DIR"));
    let golden = std::fs::read(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
    let header = RequestHeader { api_key, api_version, correlation_id, client_id: None };
    let ours = encode_response(&header, response).chunks.concat();
    assert_eq!(ours[4..], golden, "{path}");
}

// --- ApiVersions

#[test]
fn api_versions_tells_what_is_served_and_refuses_nameless_clients() {
    with_view(|v| {
        let client = |name: &str| {
            m::ApiVersionsRequest::default()
                .with_client_software_name(text(name))
                .with_client_software_version(text("4.3.0"))
        };
        let body = body!(ApiVersions, api_versions(&v, Some(&client("apache-kafka-java")), 4));
        assert_eq!((body.error_code, body.api_keys.len()), (0, protocol::advertised().len()));
        let body = body!(ApiVersions, api_versions(&v, Some(&client("no spaces, please")), 4));
        assert_eq!(body.error_code, ErrorCode::INVALID_REQUEST.0);
        assert!(body.api_keys.is_empty());
        // Older versions have no name to check.
        let body = body!(ApiVersions, api_versions(&v, Some(&client("")), 2));
        assert_eq!(body.error_code, 0);
    });
}

#[test]
fn an_unknown_api_versions_is_told_the_range_that_we_have() {
    with_view(|v| {
        let body = body!(ApiVersions, api_versions(&v, None, 99));
        assert_eq!(body.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
        let keys: Vec<_> = body.api_keys.iter().map(|k| (k.api_key, k.max_version)).collect();
        assert_eq!(keys, [(18, 4)]);
    });
}

// --- Metadata

fn by_name(name: &str) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(Some(topic_name(name)))
}

fn by_id(id: u128) -> MetadataRequestTopic {
    MetadataRequestTopic::default().with_name(None).with_topic_id(wire_uuid(Uuid(id)))
}

fn ask(v: &View, topics: Option<Vec<MetadataRequestTopic>>, version: i16) -> m::MetadataResponse {
    body!(Metadata, metadata(v, &m::MetadataRequest::default().with_topics(topics), version))
}

#[test]
fn metadata_names_the_cluster_its_voters_and_its_topic() {
    with_view(|v| {
        let body = ask(&v, None, 13);
        assert_eq!(body.cluster_id.as_deref(), Some("AAAAAAAAAAAAAAAAAAAAAA"));
        assert_eq!(body.controller_id.0, 2);
        let brokers: Vec<_> = body.brokers.iter().map(|b| (b.node_id.0, b.host.as_str(), b.port)).collect();
        assert_eq!(brokers, [(1, "localhost", 9092), (2, "localhost", 9093), (3, "localhost", 9094)]);
        let [topic] = body.topics.as_slice() else { panic!("{:?}", body.topics) };
        assert_eq!((topic.error_code, topic.is_internal), (0, false));
        assert_eq!(topic.name.as_ref().map(|n| n.as_str()), Some(OURS));
        assert_eq!(topic.topic_id.as_u128(), 1);
        let [partition] = topic.partitions.as_slice() else { panic!("{:?}", topic.partitions) };
        assert_eq!((partition.error_code, partition.leader_id.0, partition.leader_epoch), (0, 2, 4));
        assert_eq!((ids(&partition.replica_nodes), ids(&partition.isr_nodes)), (vec![1, 2, 3], vec![1, 2]));
    });
}

#[test]
fn metadata_of_all_of_none_and_of_some() {
    with_view(|v| {
        let errors = |topics, version| -> Vec<i16> {
            ask(&v, topics, version).topics.iter().map(|t| t.error_code).collect()
        };
        assert_eq!(errors(None, 13), [0]);
        assert_eq!(errors(Some(vec![]), 1), [] as [i16; 0]);
        assert_eq!(errors(Some(vec![]), 0), [0], "version 0 asks for all with an empty list");
        let some = vec![by_name(OURS), by_name("other"), by_name("in valid"), by_name(".."), by_name("")];
        assert_eq!(errors(Some(some), 9), [0, 3, 17, 17, 17]);
        assert_eq!(errors(Some(vec![by_id(1), by_id(2)]), 12), [0, 100]);
        assert_eq!(errors(Some(vec![by_id(1), by_id(2)]), 10), [42, 42], "ids came with version 12");
    });
}

#[test]
fn metadata_without_a_leader_says_so() {
    with_view(|v| {
        let v = View { leader: None, is_leader: false, ..v };
        let body = ask(&v, None, 13);
        assert_eq!(body.controller_id.0, 2, "each node answers what a controller is asked");
        let partition = &body.topics[0].partitions[0];
        assert_eq!(partition.error_code, ErrorCode::LEADER_NOT_AVAILABLE.0);
        assert_eq!((partition.leader_id.0, body.topics[0].error_code), (-1, 0));
    });
}

#[test]
fn metadata_can_be_said_in_every_version() {
    with_view(|v| {
        for version in 0..=13 {
            let mut topics = vec![by_name(OURS), by_name("other")];
            if version >= 10 {
                topics.extend([by_id(1), by_id(2)]);
            }
            check_encodes(3, version, &Response::Metadata(ask(&v, Some(topics), version)));
        }
    });
}

// --- Kafka's own bytes

/// The one-node cluster of the recorded frames.
fn with_golden_view(broker_ports: &[u16], test: impl FnOnce(View)) {
    let limits = limits();
    let voters: Vec<_> = (1..).zip(broker_ports).map(|(id, port)| voter(id, *port, true)).collect();
    with_view(|v| {
        test(View {
            cluster_id: "Z29sZGVuLWthZmthLTQzMA",
            local: NodeId(1),
            leader: Some(NodeId(1)),
            listener_name: "CONTROLLER",
            epoch: Epoch(1),
            high_watermark: Some(HighWatermark(Offset(131))),
            voters: &voters,
            limits: &limits,
            ..v
        });
    });
}

#[test]
fn metadata_without_topics_is_kafkas_byte_for_byte() {
    with_golden_view(&[19592], |v| {
        let response = Response::Metadata(ask(&v, Some(vec![]), 13));
        check_golden("metadata-quorum-broker/metadata-v13-response-no-topics.bin", 1, 3, 13, &response);
    });
}

#[test]
fn describe_cluster_is_kafkas_byte_for_byte() {
    with_golden_view(&[19592], |v| {
        let request = m::DescribeClusterRequest::default().with_endpoint_type(1);
        let response = describe_cluster(&v, &request, 2);
        check_golden("metadata-quorum-broker/describe-cluster-v2-response.bin", 3, 60, 2, &response);
    });
    with_golden_view(&[29592], |v| {
        let request = m::DescribeClusterRequest::default().with_endpoint_type(2);
        let response = describe_cluster(&v, &request, 2);
        check_golden("metadata-quorum-controller/describe-cluster-v2-response.bin", 1, 60, 2, &response);
    });
}

#[test]
fn describe_quorum_is_kafkas_byte_for_byte() {
    with_golden_view(&[29592, 29593], |v| {
        // The frame's times: the leader's own is when it answered, the other had fetched 10 ms before.
        let now = Now { monotonic_ns: 90 * NS_PER_MS, wall_ms: 0x1a2_0345_75bf };
        let progress = |id, directory_id: &str, fetched_ms: Option<u64>| ReplicaProgress {
            key: ReplicaKey { id: NodeId(id), directory_id: Uuid::parse(directory_id).expect("a uuid") },
            log_end: Offset(131),
            last_fetch_ns: fetched_ms.map(|ms| ms * NS_PER_MS),
            last_caught_up_ns: fetched_ms.map(|ms| ms * NS_PER_MS),
        };
        let voters =
            [progress(1, "DWnIuw-qRtuyxpVpnVGPPg", None), progress(2, "6kNznQnlchI2Mur47bTYQw", Some(80))];
        let response = describe_quorum(&v, &ask_quorum(&[(OURS, 0)]), 2, &voters, &[], now);
        check_golden("metadata-quorum-two-voters/describe-quorum-v2-response.bin", 4, 55, 2, &response);
    });
}

// --- DescribeCluster

#[test]
fn describe_cluster_knows_brokers_and_controllers_and_nothing_else() {
    with_view(|v| {
        for (endpoint_type, version, error) in [(1, 2, 0), (2, 1, 0), (3, 1, 115), (0, 2, 115), (9, 0, 0)] {
            let request = m::DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
            let response = describe_cluster(&v, &request, version);
            check_encodes(60, version, &response);
            let body = body!(DescribeCluster, response);
            assert_eq!(body.error_code, error, "type {endpoint_type}");
            assert_eq!(body.brokers.len(), if error == 0 { 3 } else { 0 });
            assert_eq!(body.error_message.is_some(), error != 0);
        }
    });
}

#[test]
fn kafkas_controllers_are_listed_among_the_controllers_alone() {
    with_view(|v| {
        let v = View {
            serves_clients: &|node| node != NodeId(1),
            leader: Some(NodeId(1)),
            is_leader: false,
            ..v
        };
        for (endpoint_type, nodes, leader) in [(1, &[2, 3][..], 2), (2, &[1, 2, 3], 1)] {
            let request = m::DescribeClusterRequest::default().with_endpoint_type(endpoint_type);
            let body = body!(DescribeCluster, describe_cluster(&v, &request, 2));
            let listed: Vec<i32> = body.brokers.iter().map(|node| node.broker_id.0).collect();
            assert_eq!((&listed[..], body.controller_id.0), (nodes, leader));
        }
    });
}

// --- FindCoordinator

#[test]
fn a_group_has_this_node_for_its_coordinator_in_kafkas_own_bytes() {
    with_view(|v| {
        let voters = [(NodeId(1), Endpoint { host: "localhost".to_string(), port: 19592 }, true)];
        let v = View { voters: &voters, local: NodeId(1), ..v };
        let request = m::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("g1")]);
        let answer = find_coordinator(&v, &request, 6);
        check_golden("console-consumer-group/find-coordinator-v6-response.bin", 6, 10, 6, &answer);
        let request = m::FindCoordinatorRequest::default().with_key(text("unused"));
        let answer = find_coordinator(&v, &request, 2);
        check_golden("confluent-consumer/find-coordinator-v2-response.bin", 3, 10, 2, &answer);
        for version in 0..=6 {
            check_encodes(10, version, &find_coordinator(&v, &request, version));
        }
    });
}

#[test]
fn a_transaction_or_a_share_has_no_coordinator_and_an_observer_names_a_voter() {
    with_view(|mut v| {
        let asked =
            |key_type: i8| m::FindCoordinatorRequest::default().with_key(text("k")).with_key_type(key_type);
        let final_to_librdkafka = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        for (key_type, version, error) in [
            (1, 0, ErrorCode::UNSUPPORTED_VERSION),
            (1, 1, ErrorCode::UNSUPPORTED_VERSION),
            (1, 2, final_to_librdkafka),
            (1, 3, ErrorCode::UNSUPPORTED_VERSION),
            (2, 3, ErrorCode::INVALID_REQUEST),
        ] {
            let body = body!(FindCoordinator, find_coordinator(&v, &asked(key_type), version));
            assert_eq!((body.error_code, body.node_id.0, body.port), (error.0, -1, -1));
            let why = body.error_message.as_deref().unwrap_or_default();
            assert_eq!(why.contains("no transactions here"), key_type == 1 && version > 0, "{why}");
        }
        let asked_new = m::FindCoordinatorRequest::default().with_coordinator_keys(vec![text("k")]);
        let body = body!(FindCoordinator, find_coordinator(&v, &asked_new.with_key_type(1), 6));
        let told = &body.coordinators[0];
        assert_eq!(told.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
        assert!(told.error_message.as_deref().is_some_and(|why| why.contains("remove transactional.id")));
        for (voter, ..) in v.voters {
            v.local = *voter;
            let body = body!(FindCoordinator, find_coordinator(&v, &asked(0), 3));
            assert_eq!((body.error_code, body.node_id.0), (0, voter.0), "each voter names itself");
        }
        v.local = NodeId(99);
        let body = body!(FindCoordinator, find_coordinator(&v, &asked(0), 3));
        assert_eq!((body.error_code, body.node_id.0), (0, v.voters[0].0.0));
        v.voters = &[];
        let body = body!(FindCoordinator, find_coordinator(&v, &asked(0), 3));
        assert_eq!(body.error_code, ErrorCode::COORDINATOR_NOT_AVAILABLE.0);
    });
}

// --- DescribeTopicPartitions

fn describe(v: &View, names: &[&str], cursor: Option<(&str, i32)>) -> Vec<(String, i16, usize)> {
    let topics = names.iter().map(|name| TopicRequest::default().with_name(topic_name(name)));
    let cursor = cursor.map(|(name, partition)| {
        Cursor::default().with_topic_name(topic_name(name)).with_partition_index(partition)
    });
    let request = m::DescribeTopicPartitionsRequest::default()
        .with_topics(topics.collect())
        .with_cursor(cursor)
        .with_response_partition_limit(2000);
    let response = describe_topic_partitions(v, &request, 0);
    check_encodes(75, 0, &response);
    let topics = body!(DescribeTopicPartitions, response).topics;
    topics
        .iter()
        .map(|t| (t.name.as_ref().expect("a name").to_string(), t.error_code, t.partitions.len()))
        .collect()
}

#[test]
fn topics_are_described_in_the_order_of_their_names_from_the_cursor_on() {
    with_view(|v| {
        let row = |name: &str, error, partitions| (name.to_string(), error, partitions);
        let ours = || row(OURS, 0, 1);
        assert_eq!(describe(&v, &[], None), [ours()]);
        let asked = ["zebra", OURS, "Alpha", "zebra", "no spaces"];
        let rest = [row("no spaces", 17, 0), row("zebra", 3, 0)];
        let all = [vec![row("Alpha", 3, 0), ours()], rest.to_vec()].concat();
        assert_eq!(describe(&v, &asked, None), all);
        assert_eq!(describe(&v, &asked, Some((OURS, 0))), all[1..]);
        assert_eq!(describe(&v, &asked, Some((OURS, 1)))[0], row(OURS, 0, 0));
        assert_eq!(describe(&v, &[OURS], Some(("gone", 0))), [row(OURS, 42, 0)]);
        assert_eq!(describe(&v, &[OURS], Some((OURS, -1))), [row(OURS, 42, 0)]);
    });
}

// --- DescribeConfigs

fn configs(
    v: &View,
    resource_type: i8,
    name: &str,
    keys: Option<&[&str]>,
    version: i16,
) -> m::describe_configs_response::DescribeConfigsResult {
    let resource = DescribeConfigsResource::default()
        .with_resource_type(resource_type)
        .with_resource_name(text(name))
        .with_configuration_keys(keys.map(|keys| keys.iter().map(|key| text(key)).collect()));
    let request =
        m::DescribeConfigsRequest::default().with_resources(vec![resource]).with_include_synonyms(true);
    let response = describe_configs(v, &request, version);
    check_encodes(32, version, &response);
    let result = body!(DescribeConfigs, response).results.remove(0);
    assert_eq!((result.resource_type, result.resource_name.as_str()), (resource_type, name));
    result
}

#[test]
fn the_topic_and_this_node_have_configurations_and_others_an_error() {
    with_view(|v| {
        for version in 1..=4 {
            let topic = configs(&v, 2, OURS, None, version);
            let value = |name: &str| {
                let entry = topic.configs.iter().find(|c| c.name.as_str() == name).expect(name);
                assert!(entry.read_only && !entry.is_sensitive && entry.synonyms.len() == 1);
                entry.value.as_ref().expect(name).to_string()
            };
            assert_eq!(value("min.insync.replicas"), "2");
            assert_eq!(value("max.message.bytes"), "1048588");
            assert_eq!(value("unclean.leader.election.enable"), "false");
            assert!(!configs(&v, 4, "2", None, version).configs.is_empty());
        }
        let refused = [(2, "other", 3), (2, "in valid", 17), (4, "1", 42), (4, "one", 42), (8, "2", 42)];
        for (resource_type, name, error) in refused {
            let result = configs(&v, resource_type, name, None, 4);
            assert_eq!((result.error_code, result.configs.len()), (error, 0), "{resource_type} {name}");
            assert!(result.error_message.is_some());
        }
        assert_eq!(configs(&v, 4, "", None, 4).error_code, 0);
    });
}

#[test]
fn only_the_keys_asked_for_are_told() {
    with_view(|v| {
        let names = |keys| -> Vec<String> {
            configs(&v, 2, OURS, keys, 4).configs.iter().map(|c| c.name.to_string()).collect()
        };
        assert_eq!(names(Some(&["segment.bytes", "no.such.key"])), ["segment.bytes"]);
        assert_eq!(names(Some(&[])), names(None));
    });
}

// --- DescribeQuorum

fn ask_quorum(partitions: &[(&str, i32)]) -> m::DescribeQuorumRequest {
    let topics = partitions.iter().map(|(name, index)| {
        let partition = PartitionData::default().with_partition_index(*index);
        TopicData::default().with_topic_name(topic_name(name)).with_partitions(vec![partition])
    });
    m::DescribeQuorumRequest::default().with_topics(topics.collect())
}

#[test]
fn the_leader_describes_the_quorum_in_every_version() {
    with_view(|v| {
        let progress = |id, log_end, fetched_ms: Option<u64>| ReplicaProgress {
            key: ReplicaKey { id: NodeId(id), directory_id: Uuid(id as u128) },
            log_end: Offset(log_end),
            last_fetch_ns: fetched_ms.map(|ms| ms * NS_PER_MS),
            last_caught_up_ns: None,
        };
        let voters = [progress(1, 95, Some(49_000)), progress(2, 100, None), progress(3, -1, None)];
        let observers = [progress(7, 10, Some(50_000))];
        for version in 0..=2 {
            let response = describe_quorum(&v, &ask_quorum(&[(OURS, 0)]), version, &voters, &observers, NOW);
            check_encodes(55, version, &response);
            let body = body!(DescribeQuorum, response);
            assert_eq!(body.nodes.len(), if version >= 2 { 3 } else { 0 });
            let partition = &body.topics[0].partitions[0];
            assert_eq!((partition.leader_id.0, partition.leader_epoch), (2, 4));
            assert_eq!((partition.error_code, partition.high_watermark), (0, 90));
            let state = |r: &m::describe_quorum_response::ReplicaState| {
                (r.replica_id.0, r.log_end_offset, r.last_fetch_timestamp, r.last_caught_up_timestamp)
            };
            let states: Vec<_> = partition.current_voters.iter().map(state).collect();
            let wall = NOW.wall_ms;
            assert_eq!(states, [(1, 95, wall - 1000, -1), (2, 100, wall, wall), (3, -1, -1, -1)]);
            assert_eq!(partition.observers.iter().map(state).collect::<Vec<_>>(), [(7, 10, wall, -1)]);
        }
    });
}

#[test]
fn describe_quorum_is_refused_by_followers_and_for_other_partitions() {
    with_view(|v| {
        let error = |v: &View, partitions: &[(&str, i32)]| -> Vec<i16> {
            let response = describe_quorum(v, &ask_quorum(partitions), 2, &[], &[], NOW);
            check_encodes(55, 2, &response);
            let body = body!(DescribeQuorum, response);
            assert_eq!(body.error_code, 0);
            body.topics.iter().flat_map(|t| &t.partitions).map(|p| p.error_code).collect()
        };
        assert_eq!(error(&v, &[("other", 0)]), [3]);
        assert_eq!(error(&v, &[(OURS, 1)]), [3]);
        assert_eq!(error(&v, &[(OURS, 0), (OURS, 0)]), [3, 3]);
        assert_eq!(error(&v, &[]), [] as [i16; 0]);
        let follower = View { is_leader: false, leader: Some(NodeId(1)), ..v };
        assert_eq!(error(&follower, &[(OURS, 0)]), [6]);
        let response = describe_quorum(&follower, &ask_quorum(&[(OURS, 0)]), 2, &[], &[], NOW);
        let partition = body!(DescribeQuorum, response).topics.remove(0).partitions.remove(0);
        assert!(partition.error_message.is_some_and(|why| why.contains("does not lead")));
        assert_eq!(error(&follower, &[("other", 0)]), [3]);
    });
}

// --- InitProducerId

#[test]
fn a_producer_gets_a_fresh_id_and_a_transactional_one_a_final_error() {
    with_view(|v| {
        let request = || m::InitProducerIdRequest::default().with_transactional_id(None);
        let transactional = |id: &str| request().with_transactional_id(Some(m::TransactionalId(text(id))));
        let known = |id, epoch| request().with_producer_id(m::ProducerId(id)).with_producer_epoch(epoch);
        let cases = [
            (request(), 0),
            (known(7, 3), 0),
            (known(7, -1), 42),
            (known(-1, 3), 42),
            (transactional("t"), 35),
            (transactional(""), 42),
        ];
        for (request, error) in cases {
            let response = init_producer_id(&v, &request, 1234);
            (0..=5).for_each(|version| check_encodes(22, version, &response));
            let body = body!(InitProducerId, response);
            let expected = if error == 0 { (1234, 0) } else { (-1, -1) };
            assert_eq!(body.error_code, error, "{request:?}");
            assert_eq!((body.producer_id.0, body.producer_epoch), expected, "{request:?}");
        }
    });
}

// --- OffsetForLeaderEpoch

#[test]
fn the_leader_says_where_an_epoch_ends() {
    let end_of_epoch = |epoch: Epoch| match epoch.0 {
        4.. => Some(OffsetAndEpoch { epoch: Epoch(4), offset: Offset(100) }),
        1..4 => Some(OffsetAndEpoch { epoch: Epoch(1), offset: Offset(30) }),
        _ => None,
    };
    let ask = |v: &View, topic: &str, partition: i32, current: i32, epoch: i32| {
        let partition = OffsetForLeaderPartition::default()
            .with_partition(partition)
            .with_current_leader_epoch(current)
            .with_leader_epoch(epoch);
        let topic =
            OffsetForLeaderTopic::default().with_topic(topic_name(topic)).with_partitions(vec![partition]);
        let request = m::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
        let response = offset_for_leader_epoch(v, &request, 4, &end_of_epoch);
        (2..=4).for_each(|version| check_encodes(23, version, &response));
        let topic = body!(OffsetForLeaderEpoch, response).topics.remove(0);
        let end = &topic.partitions[0];
        (end.error_code, end.leader_epoch, end.end_offset)
    };
    with_view(|v| {
        assert_eq!(ask(&v, OURS, 0, 4, 3), (0, 1, 30));
        assert_eq!(ask(&v, OURS, 0, -1, 4), (0, 4, 100));
        assert_eq!(ask(&v, OURS, 0, -1, 0), (0, -1, -1));
        assert_eq!(ask(&v, OURS, 0, 3, 3), (74, -1, -1));
        assert_eq!(ask(&v, OURS, 0, 5, 3), (75, -1, -1));
        assert_eq!(ask(&v, OURS, 1, 4, 3), (3, -1, -1));
        assert_eq!(ask(&v, "other", 0, 4, 3), (3, -1, -1));
        let follower = View { is_leader: false, ..v };
        assert_eq!(ask(&follower, OURS, 0, 4, 3), (6, -1, -1));
        assert_eq!(ask(&follower, OURS, 0, 3, 3), (74, -1, -1), "the epoch is judged first, as in Kafka");
    });
}

// --- what only some versions and clusters say

#[test]
fn a_majority_of_five_is_three_and_types_come_with_version_3() {
    let five: Vec<_> = (1..=5).map(|id| voter(id, 9090 + id as u16, true)).collect();
    with_view(|v| {
        let v = View { voters: &five, ..v };
        let topic = configs(&v, 2, OURS, Some(&["min.insync.replicas"]), 4);
        assert_eq!(topic.configs[0].value.as_ref().map(|value| value.as_str()), Some("3"));
        assert_eq!(topic.configs[0].config_type, 3, "INT");
        assert_eq!(configs(&v, 2, OURS, Some(&["min.insync.replicas"]), 2).configs[0].config_type, 0);
    });
}

#[test]
fn a_leader_without_a_high_watermark_says_minus_one_and_names_directories_from_version_2() {
    with_view(|v| {
        let v = View { high_watermark: None, ..v };
        let key = ReplicaKey { id: NodeId(1), directory_id: Uuid(77) };
        let voters =
            [ReplicaProgress { key, log_end: Offset(5), last_fetch_ns: None, last_caught_up_ns: None }];
        for (version, directory_id) in [(0, 0), (1, 0), (2, 77)] {
            let response = describe_quorum(&v, &ask_quorum(&[(OURS, 0)]), version, &voters, &[], NOW);
            let partition = body!(DescribeQuorum, response).topics.remove(0).partitions.remove(0);
            assert_eq!(partition.high_watermark, -1);
            assert_eq!(partition.current_voters[0].replica_directory_id.as_u128(), directory_id);
        }
    });
}

#[test]
fn where_a_topic_has_a_name_and_an_id_the_id_counts_where_ids_exist() {
    with_view(|v| {
        let both = |id: u128| by_name(OURS).with_topic_id(wire_uuid(Uuid(id)));
        let ask_one = |topic, version| ask(&v, Some(vec![topic]), version).topics.remove(0);
        assert_eq!(ask_one(both(77), 12).error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);
        assert_eq!(ask_one(both(77), 11).error_code, ErrorCode::INVALID_REQUEST.0);
        assert_eq!(ask_one(both(0), 11).error_code, 0);
        assert_eq!(ask_one(both(Uuid::METADATA_TOPIC_ID.0), 12).error_code, 0);
        let nothing = ask_one(by_id(0), 12);
        assert_eq!((nothing.error_code, nothing.name), (ErrorCode::UNKNOWN_TOPIC_ID.0, None));
    });
}

#[test]
fn a_refused_describe_cluster_names_no_controller_and_a_cursor_counts_for_its_own_topic() {
    with_view(|v| {
        let request = m::DescribeClusterRequest::default().with_endpoint_type(9);
        assert_eq!(body!(DescribeCluster, describe_cluster(&v, &request, 2)).controller_id.0, -1);
        let asked = describe(&v, &["Alpha", OURS], Some(("Alpha", 3)));
        assert_eq!(asked, [("Alpha".to_string(), 3, 0), (OURS.to_string(), 0, 1)]);
    });
}
