//! What a client is told when it asks for what this node does not have, or must not do.

use super::*;
use crate::raft::Effect;

fn sole_leader() -> (Cluster, Client) {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for value in [b"a", b"b", b"c"] {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[value])).0, 0);
    }
    (cluster, client)
}

fn fetch_error(cluster: &mut Cluster, client: Client, version: i16, request: &km::FetchRequest) -> i16 {
    let answer: km::FetchResponse = cluster.call(client, FETCH, version, request);
    match answer.responses.first() {
        Some(topic) => topic.partitions[0].error_code,
        None => answer.error_code,
    }
}

#[test]
fn a_fetch_is_refused_with_kafkas_code() {
    type Change = fn(&mut km::FetchRequest);
    let (mut cluster, client) = sole_leader();
    let epoch = cluster.status(client.0).epoch;
    let cases: [(&str, i16, Change, ErrorCode); 7] = [
        ("nothing is wrong", 12, |_| {}, ErrorCode::NONE),
        ("an unknown name", 12, |r| r.topics[0].topic = name("other"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        ("an unknown id", 13, |r| r.topics[0].topic_id = uuid(77), ErrorCode::UNKNOWN_TOPIC_ID),
        (
            "partition 1",
            12,
            |r| r.topics[0].partitions[0].partition = 1,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        (
            "below the log start",
            12,
            |r| r.topics[0].partitions[0].fetch_offset = -1,
            ErrorCode::OFFSET_OUT_OF_RANGE,
        ),
        (
            "a session that began elsewhere",
            12,
            |r| (r.session_id, r.session_epoch) = (5, 3),
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ),
        (
            "a session that never began",
            12,
            |r| (r.session_id, r.session_epoch) = (0, 3),
            ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ),
    ];
    for (what, version, change, expected) in cases {
        let mut request = fetch_request(1, 0);
        change(&mut request);
        assert_eq!(fetch_error(&mut cluster, client, version, &request), expected.0, "{what}");
    }
    for (leader_epoch, expected) in [
        (-1, ErrorCode::NONE),
        (epoch, ErrorCode::NONE),
        (epoch - 1, ErrorCode::FENCED_LEADER_EPOCH),
        (epoch + 1, ErrorCode::UNKNOWN_LEADER_EPOCH),
    ] {
        let mut request = fetch_request(1, 0);
        request.topics[0].partitions[0].current_leader_epoch = leader_epoch;
        assert_eq!(fetch_error(&mut cluster, client, 12, &request), expected.0, "epoch {leader_epoch}");
    }
    // The same partition twice: one is served, the other refused.
    let mut twice = fetch_request(1, 0);
    let again = twice.topics[0].partitions[0].clone();
    twice.topics[0].partitions.push(again);
    let answer: km::FetchResponse = cluster.call(client, FETCH, 12, &twice);
    let errors: Vec<i16> = answer.responses[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [0, ErrorCode::INVALID_REQUEST.0]);
}

#[test]
fn a_produce_is_refused_with_kafkas_code_and_leaves_nothing() {
    type Change = fn(&mut km::ProduceRequest);
    let (mut cluster, client) = sole_leader();
    let end = cluster.status(client.0).log_end_offset;
    let cases: [(&str, i16, Change, ErrorCode); 5] = [
        ("acks of 2", 9, |r| r.acks = 2, ErrorCode::INVALID_REQUIRED_ACKS),
        (
            "a transaction",
            9,
            |r| r.transactional_id = Some(StrBytes::from_static_str("t").into()),
            ErrorCode::UNSUPPORTED_VERSION,
        ),
        (
            "an unknown name",
            9,
            |r| r.topic_data[0].name = name("other"),
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
        ("an unknown id", 13, |r| r.topic_data[0].topic_id = uuid(77), ErrorCode::UNKNOWN_TOPIC_ID),
        (
            "partition 1",
            9,
            |r| r.topic_data[0].partition_data[0].index = 1,
            ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
        ),
    ];
    for (what, version, change, expected) in cases {
        let mut request = produce_request(-1, batch(&[b"x"]));
        change(&mut request);
        let answer: km::ProduceResponse = cluster.call(client, PRODUCE, version, &request);
        let partition = &answer.responses[0].partition_responses[0];
        assert_eq!((partition.error_code, partition.base_offset), (expected.0, -1), "{what}");
    }
    assert_eq!(cluster.status(client.0).log_end_offset, end);
}

#[test]
fn new_connections_cannot_pile_up_what_no_majority_takes() {
    let bounded = |id| {
        let mut config = config(id, 3);
        config.limits.uncommitted_bytes_max = 4 << 10;
        config
    };
    let mut cluster = Cluster::new((1..=3).map(bounded).collect());
    let leader = elect(&mut cluster);
    let others: Vec<NodeId> = (1..=3).map(NodeId).filter(|id| *id != leader).collect();
    others.iter().for_each(|id| cluster.kill(*id));
    let kib = batch(&[&[7; 1 << 10]]);
    let mut taken = 0;
    let refused = loop {
        let client = cluster.connect(leader);
        match produce(&mut cluster, client, 1, kib.clone()).0 {
            0 => taken += 1,
            error => break error,
        }
    };
    assert_eq!((refused, taken), (ErrorCode::NOT_ENOUGH_REPLICAS.0, 8));
    let end = cluster.status(leader).log_end_offset;
    others.iter().for_each(|id| cluster.start(*id));
    cluster.run_until("a commit of all", 30_000, |c| c.status(leader).high_watermark == Some(end));
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, kib), (0, end));
}

#[test]
fn a_produce_that_wants_no_answer_gets_none_and_a_refused_one_loses_its_connection() {
    let (mut cluster, client) = sole_leader();
    let end = cluster.status(client.0).log_end_offset;
    cluster.send(client, PRODUCE, 9, &produce_request(0, batch(&[b"x"])));
    cluster.run_ms(100);
    assert_eq!(cluster.status(client.0).log_end_offset, end + 1);
    assert!(cluster.receive::<km::ProduceResponse>(client, PRODUCE, 9).is_none());
    assert!(cluster.is_open(client), "and it may go on");
    let mut refused = produce_request(0, batch(&[b"x"]));
    refused.topic_data[0].name = name("other");
    cluster.send(client, PRODUCE, 9, &refused);
    cluster.run_ms(100);
    assert!(!cluster.is_open(client), "there is no other way to tell");
}

#[test]
fn a_follower_sends_its_clients_to_the_leader() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let other = *cluster.nodes.keys().find(|id| **id != leader).expect("a follower");
    let client = cluster.connect(other);
    cluster.run_ms(1000);
    let expected = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])), (expected, -1));
    assert_eq!(fetch(&mut cluster, client, 0).0, expected);
    assert_eq!(list_offsets(&mut cluster, client, -1).0, expected);
}

#[test]
fn offsets_that_cannot_be_listed_have_kafkas_code() {
    let (mut cluster, client) = sole_leader();
    assert_eq!(list_offsets(&mut cluster, client, -99).0, ErrorCode::UNSUPPORTED_VERSION.0);
    let unknown: km::ListOffsetsResponse =
        cluster.call(client, LIST_OFFSETS, 7, &list_offsets_request("other", &[-1]));
    let line = &unknown.topics[0].partitions[0];
    assert_eq!((line.error_code, line.leader_epoch), (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, -1));
}

#[test]
fn a_voter_of_another_cluster_is_told_of_once_in_ten_seconds() {
    let (mut cluster, client) = sole_leader();
    let other = || Some(StrBytes::from_static_str("another"));
    let lines = |cluster: &Cluster| {
        cluster.nodes[&client.0]
            .notes
            .iter()
            .filter(|note| note.contains("a voter of another cluster"))
            .count()
    };
    let mut vote = vote_request(NodeId(2), 5);
    vote.cluster_id = other();
    let _: km::VoteResponse = cluster.call(client, VOTE, 2, &vote);
    assert_eq!(lines(&cluster), 1);
    cluster.run_ms(9_000);
    let begin = km::BeginQuorumEpochRequest::default().with_cluster_id(other());
    let _: km::BeginQuorumEpochResponse = cluster.call(client, 53, 1, &begin);
    assert_eq!(lines(&cluster), 1);
    cluster.run_ms(10_001);
    let _: km::BeginQuorumEpochResponse = cluster.call(client, 53, 1, &begin);
    assert_eq!(lines(&cluster), 2);
    cluster.run_ms(10_001);
    let end = km::EndQuorumEpochRequest::default().with_cluster_id(other());
    let _: km::EndQuorumEpochResponse = cluster.call(client, 54, 1, &end);
    assert_eq!(lines(&cluster), 3);
}

#[test]
fn a_voter_that_tells_its_endpoints_is_answered() {
    let (mut cluster, client) = sole_leader();
    let request = km::UpdateRaftVoterRequest::default().with_cluster_id(None);
    let answer: km::UpdateRaftVoterResponse = cluster.call(client, 82, 0, &request);
    assert_eq!(answer.current_leader.leader_id.0, client.0.0);
}

#[test]
fn a_batch_that_would_stop_kafkas_voters_is_not_stored_in_an_interop_log() {
    for (data_mode, stops) in [(DataMode::Native, false), (DataMode::Interop, true)] {
        let mut config = config(1, 1);
        config.data_mode = data_mode;
        let mut cluster = Cluster::new(vec![config]);
        let leader = elect(&mut cluster);
        let (now, epoch) = (cluster.now, Epoch(cluster.status(leader).epoch));
        let replica = &mut cluster.nodes.get_mut(&leader).expect("a node").replica;
        let no_value = crate::record::RecordSpec { key: Some(b"key"), ..Default::default() };
        let mut records = crate::record::BatchBuilder::new(1).record(no_value).build().to_vec();
        // The leader's epoch, outside of the CRC.
        records[12..16].copy_from_slice(&epoch.0.to_be_bytes());
        let (mut batches, bad) = crate::record::check_fetched(records.into());
        assert_eq!(bad, None);
        batches[0].stamp(replica.engine.log().log_end().0, epoch);
        replica.engine.do_effect(now, Effect::AppendFetched { first: 0, count: 1 }, batches);
        replica.hear_engine();
        let stopped = std::iter::from_fn(|| replica.poll_action())
            .any(|action| matches!(action, Action::Stop { exit_code: EXIT_CONFIG, .. }));
        assert_eq!(stopped, stops, "{data_mode:?}");
    }
}

#[test]
fn beside_kafkas_voters_only_those_serve_clients_that_said_so() {
    for (data_mode, others_serve) in [(DataMode::Native, true), (DataMode::Interop, false)] {
        let configs = (1..=3).map(|id| Config { data_mode, ..config(id, 3) }).collect();
        let cluster = Cluster::new(configs);
        // Nobody has said anything yet.
        let serves = |id| cluster.nodes[&NodeId(1)].replica.desk.serves_clients(NodeId(id));
        assert_eq!([1, 2, 3].map(serves), [true, others_serve, others_serve], "{data_mode:?}");
    }
}

/// What one of them holds is counted for the other: whoever runs them has to hear of it, once for each time that one comes back.
#[test]
fn two_processes_of_one_voter_are_a_warning_that_names_both() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let voter = others(&cluster, leader)[0];
    cluster.run_ms(1_000);
    let told = |cluster: &Cluster| {
        let about = |line: &&String| line.contains("two processes");
        let node = &cluster.nodes[&leader];
        (node.warnings.iter().filter(about).count(), node.notes.iter().filter(about).count())
    };
    assert_eq!(told(&cluster), (0, 0));
    let end = cluster.status(leader).log_end_offset;
    let mut request = super::waiting::replica_fetch(&cluster, leader, end, end);
    request.replica_state.replica_id = voter.0.into();
    let second = cluster.connect(leader);
    cluster.send(second, FETCH, 18, &request);
    // The first one's next Fetch comes.
    cluster.run_ms(1_000);
    assert_eq!(told(&cluster), (1, 1), "{:?}", cluster.nodes[&leader].notes);
    let line =
        cluster.nodes[&leader].warnings.iter().find(|line| line.contains("two processes")).expect("it");
    let first = Uuid(voter.0 as u128 + 100);
    for named in [format!("voter {voter},"), first.to_string(), Uuid(77).to_string()] {
        assert!(line.contains(&named), "{named} in: {line}");
    }
    // A disk that was emptied is none.
    cluster.run_ms(5_000);
    assert_eq!(told(&cluster), (1, 1));
}
