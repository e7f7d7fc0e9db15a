//! Whole nodes against each other, through their sessions, frames and disks in memory.

mod advertised;
mod cluster;
mod configs;
mod delete_records;
mod disk;
mod fetch_snapshot;
mod fitness;
mod folds;
mod gate;
mod installs;
mod leaderless;
mod limits;
mod numbers;
mod offsets;
mod reading;
mod refusals;
mod snapshots;
mod starts;
mod waiting;

use bytes::Bytes;
use kafka_protocol::messages as km;
use kafka_protocol::protocol::StrBytes;

use super::*;
use crate::config::Voter;
use crate::log::{Done, OpKind, SmallFile};
use crate::record::data_batch;
use cluster::Cluster;

const TOPIC: &str = "__cluster_metadata";
const PRODUCE: i16 = 0;
const FETCH: i16 = 1;
const LIST_OFFSETS: i16 = 2;
const METADATA: i16 = 3;
const INIT_PRODUCER_ID: i16 = 22;
const VOTE: i16 = 52;
const BEGIN_QUORUM_EPOCH: i16 = 53;
const DESCRIBE_QUORUM: i16 = 55;

fn config(id: i32, count: i32) -> Config {
    let voter = |id: i32| Voter {
        id: NodeId(id),
        endpoint: Endpoint { host: "localhost".to_string(), port: 9091 + id as u16 },
    };
    let mut config = Config::for_tests(NodeId(id), (1..=count).map(voter).collect());
    config.limits.segment_bytes_max = 1 << 20;
    config.limits.zero_ahead_bytes = 64 << 10;
    config
}

fn cluster(count: i32) -> Cluster {
    Cluster::new((1..=count).map(|id| config(id, count)).collect())
}

fn cluster_with(count: i32, change: fn(&mut Config)) -> Cluster {
    let mut configs: Vec<Config> = (1..=count).map(|id| config(id, count)).collect();
    configs.iter_mut().for_each(change);
    Cluster::new(configs)
}

fn elect(cluster: &mut Cluster) -> NodeId {
    cluster.run_until("a leader whose epoch has committed", 30_000, |c| {
        c.leader().is_some_and(|id| c.status(id).ready)
    });
    cluster.leader().expect("a leader")
}

/// Later than the LeaderChange record at offset 0.
const DAY_0: i64 = 1_700_000_100_000;

/// One voter with one record of 2000 bytes each 10 ms, from offset 1 on.
fn with_records(count: i64, change: fn(&mut Config)) -> (Cluster, Client) {
    let mut cluster = cluster_with(1, change);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for i in 0..count {
        let records = data_batch(&[&[7; 2000]], DAY_0 + i * 10, None);
        assert_eq!(produce(&mut cluster, client, -1, records).0, 0);
    }
    (cluster, client)
}

/// A Vote is an easy way to bring about an epoch, where no voter behind it is asked.
fn believe_requests(cluster: &mut Cluster, id: NodeId) {
    cluster.nodes.get_mut(&id).expect("a node").replica.believe_requests();
}

fn produce_request(acks: i16, records: Bytes) -> km::ProduceRequest {
    let mut partition = km::produce_request::PartitionProduceData::default();
    partition.records = Some(records);
    let mut topic = km::produce_request::TopicProduceData::default();
    topic.name = km::TopicName(StrBytes::from_static_str(TOPIC));
    topic.partition_data.push(partition);
    let mut request = km::ProduceRequest::default();
    request.acks = acks;
    request.timeout_ms = 5_000;
    request.topic_data.push(topic);
    request
}

type Client = (NodeId, ConnectionId);

/// (error code, base offset)
fn produce(cluster: &mut Cluster, client: Client, acks: i16, records: Bytes) -> (i16, i64) {
    let answer: km::ProduceResponse = cluster.call(client, PRODUCE, 9, &produce_request(acks, records));
    let partition = &answer.responses[0].partition_responses[0];
    (partition.error_code, partition.base_offset)
}

fn fetch_request(offset: i64, max_wait_ms: i32) -> km::FetchRequest {
    let mut partition = km::fetch_request::FetchPartition::default();
    partition.fetch_offset = offset;
    partition.current_leader_epoch = -1;
    partition.partition_max_bytes = 1 << 20;
    let mut topic = km::fetch_request::FetchTopic::default();
    topic.topic = km::TopicName(StrBytes::from_static_str(TOPIC));
    topic.partitions.push(partition);
    let mut request = km::FetchRequest::default();
    request.replica_id = (-1).into();
    request.max_wait_ms = max_wait_ms;
    request.min_bytes = 1;
    request.max_bytes = 10 << 20;
    request.session_epoch = -1;
    request.topics.push(topic);
    request
}

/// (error code, high watermark, offsets of the batches)
fn fetch(cluster: &mut Cluster, client: Client, offset: i64) -> (i16, i64, Vec<i64>) {
    let answer: km::FetchResponse = cluster.call(client, FETCH, 12, &fetch_request(offset, 100));
    let partition = &answer.responses[0].partitions[0];
    let (batches, bad) = crate::record::check_fetched(partition.records.clone().unwrap_or_default());
    assert_eq!(bad, None);
    let offsets = batches.iter().map(|b| b.base_offset().0).collect();
    (partition.error_code, partition.high_watermark, offsets)
}

fn batch(values: &[&[u8]]) -> Bytes {
    data_batch(values, 1_700_000_000_000, None)
}

/// What the answer says of the only partition.
fn receive_produce(
    cluster: &mut Cluster,
    client: Client,
) -> Option<km::produce_response::PartitionProduceResponse> {
    let answer: km::ProduceResponse = cluster.receive(client, PRODUCE, 9)?;
    Some(answer.responses[0].partition_responses[0].clone())
}

fn receive_fetch(cluster: &mut Cluster, client: Client) -> Option<km::fetch_response::PartitionData> {
    let answer: km::FetchResponse = cluster.receive(client, FETCH, 12)?;
    Some(answer.responses[0].partitions[0].clone())
}

/// (error code, offset, timestamp, leader epoch)
fn list_offsets(cluster: &mut Cluster, client: Client, timestamp: i64) -> (i16, i64, i64, i32) {
    cluster.send(client, LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &[timestamp]));
    let mut answer = None;
    cluster.run_until("an answer", 60_000, |cluster| {
        answer = receive_offsets(cluster, client);
        answer.is_some()
    });
    answer.expect("an answer").remove(0)
}

fn receive_offsets(cluster: &mut Cluster, client: Client) -> Option<Vec<(i16, i64, i64, i32)>> {
    let answer: km::ListOffsetsResponse = cluster.receive(client, LIST_OFFSETS, 10)?;
    let lines = answer.topics[0].partitions.iter();
    Some(lines.map(|p| (p.error_code, p.offset, p.timestamp, p.leader_epoch)).collect())
}

fn list_offsets_request(topic: &'static str, timestamps: &[i64]) -> km::ListOffsetsRequest {
    let mut asked = km::list_offsets_request::ListOffsetsTopic::default();
    asked.name = name(topic);
    for timestamp in timestamps {
        let mut partition = km::list_offsets_request::ListOffsetsPartition::default();
        partition.timestamp = *timestamp;
        partition.current_leader_epoch = -1;
        asked.partitions.push(partition);
    }
    let mut request = km::ListOffsetsRequest::default();
    request.replica_id = (-1).into();
    request.topics.push(asked);
    request
}

fn begin_request(leader: NodeId, epoch: i32) -> km::BeginQuorumEpochRequest {
    let mut partition = km::begin_quorum_epoch_request::PartitionData::default();
    (partition.leader_id, partition.leader_epoch) = (leader.0.into(), epoch);
    let mut topic = km::begin_quorum_epoch_request::TopicData::default();
    topic.topic_name = name(TOPIC);
    topic.partitions.push(partition);
    let mut request = km::BeginQuorumEpochRequest::default();
    request.topics.push(topic);
    request
}

/// A candidate whose log is too short to be voted for: its epoch is taken over all the same.
fn vote_request(candidate: NodeId, epoch: i32) -> km::VoteRequest {
    let mut partition = km::vote_request::PartitionData::default();
    partition.replica_epoch = epoch;
    partition.replica_id = candidate.0.into();
    partition.replica_directory_id = uuid(candidate.0 as u128 + 100);
    let mut topic = km::vote_request::TopicData::default();
    topic.topic_name = name(TOPIC);
    topic.partitions.push(partition);
    let mut request = km::VoteRequest::default();
    request.voter_id = (-1).into();
    request.topics.push(topic);
    request
}

fn metadata(cluster: &mut Cluster, client: Client) -> km::MetadataResponse {
    cluster.call(client, METADATA, 9, &metadata_request())
}

fn metadata_request() -> km::MetadataRequest {
    let mut request = km::MetadataRequest::default();
    request.topics = None;
    request
}

fn describe_quorum_request() -> km::DescribeQuorumRequest {
    let mut topic = km::describe_quorum_request::TopicData::default();
    topic.topic_name = name(TOPIC);
    topic.partitions.push(km::describe_quorum_request::PartitionData::default());
    let mut request = km::DescribeQuorumRequest::default();
    request.topics.push(topic);
    request
}

fn name(name: &'static str) -> km::TopicName {
    km::TopicName(StrBytes::from_static_str(name))
}

fn uuid(id: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(id)
}

fn others(cluster: &Cluster, leader: NodeId) -> Vec<NodeId> {
    cluster.disks.keys().copied().filter(|id| *id != leader).collect()
}

#[test]
fn one_voter_elects_itself_and_answers_with_real_offsets() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    // Offset 0 is the LeaderChange batch.
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"a", b"b"])), (0, 1));
    assert_eq!(produce(&mut cluster, client, 1, batch(&[b"c"])), (0, 3));
    assert_eq!(fetch(&mut cluster, client, 0), (0, 4, vec![0, 1, 3]));
    assert_eq!(fetch(&mut cluster, client, 4), (0, 4, vec![]));
    assert_eq!(fetch(&mut cluster, client, 5).0, ErrorCode::OFFSET_OUT_OF_RANGE.0);
}

#[test]
fn three_voters_commit_and_survive_the_loss_of_their_leader() {
    let mut cluster = cluster(3);
    let first = elect(&mut cluster);
    let client = cluster.connect(first);
    let mut told = Vec::new();
    for i in 0..20u8 {
        let (error, base) = produce(&mut cluster, client, -1, batch(&[&[i; 100]]));
        assert_eq!(error, 0);
        told.push(base);
    }
    cluster.kill(first);
    let second = elect(&mut cluster);
    assert_ne!(second, first);
    let client = cluster.connect(second);
    let (error, high_watermark, offsets) = fetch(&mut cluster, client, 1);
    assert_eq!(
        (error, high_watermark),
        (0, told[19] + 2),
        "all of the first epoch and the LeaderChange of the second"
    );
    assert_eq!(offsets[..20], told[..]);
    // The old leader comes back, follows, and catches up.
    cluster.start(first);
    cluster.run_until("the old leader has caught up", 30_000, |c| {
        c.status(first).high_watermark == Some(high_watermark) && c.status(first).role == "follower"
    });
    assert_eq!(cluster.leader(), Some(second), "pre-vote: a returning node does not depose a healthy leader");
}

#[test]
fn all_nodes_killed_at_once_come_back_with_every_acknowledged_record() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    // More than one segment.
    let value = vec![7u8; 100_000];
    let told: Vec<_> = (0..25).map(|_| produce(&mut cluster, client, -1, batch(&[&value]))).collect();
    for id in 1..=3 {
        cluster.kill(NodeId(id));
    }
    for id in 1..=3 {
        cluster.start(NodeId(id));
    }
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let mut read = Vec::new();
    let mut next = 0;
    while read.len() < told.len() {
        let (error, _, offsets) = fetch(&mut cluster, client, next);
        assert_eq!(error, 0);
        next = offsets.last().expect("more records") + 1;
        read.extend(offsets.into_iter().filter(|o| told.contains(&(0, *o))));
    }
    assert_eq!(read, told.iter().map(|(_, base)| *base).collect::<Vec<_>>());
}

#[test]
fn without_a_majority_nothing_is_promised_or_shown() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let committed = produce(&mut cluster, client, -1, batch(&[b"committed"]));
    assert_eq!(committed.0, 0);
    for id in (1..=3).map(NodeId).filter(|id| *id != leader) {
        cluster.kill(id);
    }
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"not committed"])));
    cluster.run_ms(500);
    let reader = cluster.connect(leader);
    assert_eq!(
        fetch(&mut cluster, reader, committed.1).2,
        vec![committed.1],
        "only what is committed is shown"
    );
    // Check quorum: the leader resigns, and says so to those who wait.
    let answer: km::ProduceResponse = {
        let mut answer = None;
        cluster.run_until("an answer", 30_000, |c| {
            answer = c.receive(client, PRODUCE, 9);
            answer.is_some()
        });
        answer.expect("an answer")
    };
    assert_eq!(answer.responses[0].partition_responses[0].error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    assert_eq!(cluster.leader(), None);
}

#[test]
fn a_retried_batch_is_answered_with_its_first_offset_also_by_the_next_leader() {
    let mut cluster = cluster(3);
    let first = elect(&mut cluster);
    let client = cluster.connect(first);
    let once = data_batch(&[b"once"], 1_700_000_000_000, Some((77, 0, 0)));
    let told = produce(&mut cluster, client, -1, once.clone());
    assert_eq!(told.0, 0);
    assert_eq!(produce(&mut cluster, client, -1, once.clone()), told);
    cluster.kill(first);
    let second = elect(&mut cluster);
    let client = cluster.connect(second);
    assert_eq!(produce(&mut cluster, client, -1, once), told);
    let gap = data_batch(&[b"gap"], 1_700_000_000_000, Some((77, 0, 5)));
    assert_eq!(produce(&mut cluster, client, -1, gap).0, ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER.0);
}

#[test]
fn a_leader_that_is_asked_to_stop_hands_over_at_once() {
    let mut cluster = cluster(3);
    let first = elect(&mut cluster);
    let before = cluster.now.monotonic_ns;
    cluster.shutdown(first);
    cluster.run_until("another leader", 30_000, |c| {
        c.leader().is_some_and(|id| id != first && c.status(id).ready)
    });
    let took_ms = (cluster.now.monotonic_ns - before) / NS_PER_MS;
    assert!(took_ms < 500, "it took {took_ms} ms: the successor waited for its election timeout");
    cluster.run_until("the old leader has ended", 10_000, |c| c.nodes[&first].stopped == Some(EXIT_OK));
}

#[test]
fn list_offsets_finds_ends_and_timestamps() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for i in 0..50i64 {
        let records = data_batch(&[b"x"], 1_700_000_000_000 + i * 10, None);
        assert_eq!(produce(&mut cluster, client, -1, records), (0, 1 + i));
    }
    let epoch = cluster.status(leader).epoch;
    let mut ask = |timestamp| list_offsets(&mut cluster, client, timestamp);
    assert_eq!(ask(-1), (0, 51, -1, epoch), "latest");
    assert_eq!(ask(-2), (0, 0, -1, epoch), "earliest");
    assert_eq!(ask(-3), (0, 50, 1_700_000_000_490, epoch), "largest timestamp");
    assert_eq!(ask(1_700_000_000_101), (0, 12, 1_700_000_000_110, epoch), "the first at or after");
    assert_eq!(ask(1_800_000_000_000), (0, -1, -1, -1), "none so late");
}

#[test]
fn a_failed_write_stops_the_node_and_acknowledges_nothing() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    cluster.disks.get_mut(&leader).expect("a disk").fail_writes = true;
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"lost"])));
    cluster.run_until("the node has stopped", 1_000, |c| c.nodes[&leader].stopped == Some(EXIT_DISK));
    assert!(cluster.receive::<km::ProduceResponse>(client, PRODUCE, 9).is_none());
}

#[test]
fn describe_quorum_is_answered_by_every_node_with_what_the_leader_knows() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    for id in (1..=3).map(NodeId) {
        let client = cluster.connect(id);
        for _ in 0..2 {
            let answer: km::DescribeQuorumResponse =
                cluster.call(client, DESCRIBE_QUORUM, 2, &describe_quorum_request());
            let partition = &answer.topics[0].partitions[0];
            assert_eq!((partition.error_code, partition.leader_id.0), (0, leader.0), "asked of {id}");
            assert_eq!(partition.current_voters.len(), 3);
            assert!(partition.current_voters.iter().all(|voter| voter.log_end_offset == 1), "asked of {id}");
        }
    }
}

#[test]
fn a_cut_within_a_batch_stops_the_node_with_a_clear_line() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let replica = &mut cluster.nodes.get_mut(&leader).expect("a node").replica;
    let end = |offset| LogEndOffset(Offset(offset));
    replica.engine.do_cut(end(5), end(5));
    assert!(!replica.engine.is_stopped(), "a cut between two batches is an ordinary thing");
    replica.engine.do_cut(end(5), end(3));
    assert!(replica.engine.is_stopped());
    replica.hear_engine();
    while let Some(action) = replica.poll_action() {
        if let Action::Stop { exit_code, why } = action {
            assert_eq!(exit_code, EXIT_CORRUPT);
            return assert!(why.contains("offset 5, inside of a batch that begins at 3"), "{why}");
        }
    }
    panic!("the node was not told to stop");
}
