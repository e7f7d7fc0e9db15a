//! What clients are told by a node that knows of no quorum.

use super::*;

/// (top-level error, error of the partition, leader, in sync)
fn told(cluster: &mut Cluster, client: Client, version: i16) -> (i16, i16, i32, Vec<i32>) {
    let mut topic = km::metadata_request::MetadataRequestTopic::default();
    topic.name = Some(km::TopicName(StrBytes::from_static_str(TOPIC)));
    let mut request = km::MetadataRequest::default();
    request.topics = Some(vec![topic]);
    let answer: km::MetadataResponse = cluster.call(client, METADATA, version, &request);
    let partition = &answer.topics[0].partitions[0];
    let mut in_sync: Vec<i32> = partition.isr_nodes.iter().map(|id| id.0).collect();
    in_sync.sort_unstable();
    (answer.error_code, partition.error_code, partition.leader_id.0, in_sync)
}

fn nobody() -> (i16, i16, i32, Vec<i32>) {
    (0, ErrorCode::LEADER_NOT_AVAILABLE.0, -1, Vec::new())
}

fn check_left_alone(keeps_leader: bool) {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    cluster.run_ms(1_000);
    let kept = if keeps_leader { leader } else { others(&cluster, leader)[0] };
    for id in cluster.disks.keys().copied().collect::<Vec<_>>() {
        if id != kept {
            cluster.kill(id);
        }
    }
    cluster.run_ms(2_300);
    assert!(!cluster.status(kept).ready, "no quorum can commit");
    assert_eq!(cluster.status(kept).leader_id, None);
    let client = cluster.connect(kept);
    for version in [0, 1, 4, 9, 12, 13] {
        assert_eq!(told(&mut cluster, client, version), nobody(), "version {version}");
    }
    // For minutes, whatever role it is in.
    for _ in 0..60 {
        cluster.run_ms(1_000);
        assert!(!cluster.status(kept).ready);
        let client = cluster.connect(kept);
        assert_eq!(told(&mut cluster, client, 12), nobody());
    }
    let why = cluster.status(kept).not_ready.expect("why");
    assert!(why.starts_with("no quorum"), "{why}");
}

#[test]
fn a_follower_left_alone_names_no_leader() {
    check_left_alone(false);
}

#[test]
fn a_leader_left_alone_does_not_name_itself() {
    check_left_alone(true);
}

#[test]
fn who_asks_a_cut_off_node_on_is_sent_to_begin_anew_and_then_away() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    cluster.run_ms(1_000);
    let [new, old] = [cluster.connect(leader), cluster.connect(leader)];
    cluster.isolate(leader);
    cluster.run_ms(2_100);
    assert_eq!(told(&mut cluster, new, 13).0, 0, "it has only begun to ask");
    assert_eq!(told(&mut cluster, old, 12).0, 0);
    cluster.run_ms(2_001);
    let rebootstrap = (ErrorCode::REBOOTSTRAP_REQUIRED.0, ErrorCode::LEADER_NOT_AVAILABLE.0, -1, Vec::new());
    assert_eq!(told(&mut cluster, new, 13), rebootstrap);
    assert_eq!(told(&mut cluster, old, 12), nobody());
    cluster.run_ms(8_000);
    for (client, version) in [(new, 13), (old, 12)] {
        cluster.send(client, METADATA, version, &km::MetadataRequest::default());
        cluster.run_ms(2);
        assert!(!cluster.is_open(client), "version {version}");
    }
    // The others have a leader: it is told there, and here again once it is heard of.
    let next = others(&cluster, leader)[0];
    let client = cluster.connect(next);
    let there = told(&mut cluster, client, 13);
    assert_eq!((there.0, there.1), (0, 0));
    assert_eq!(there.3.len(), 2, "the one that is cut off is not in sync: {there:?}");
    cluster.isolated.clear();
    cluster.run_until("it has heard of the leader", 10_000, |c| c.status(leader).ready);
    cluster.run_ms(1_500);
    let client = cluster.connect(leader);
    let here = told(&mut cluster, client, 13);
    assert_eq!((here.0, here.1, here.2, here.3.len()), (0, 0, there.2, 3));
}

/// Who asks for much is answered later, and no worse.
#[test]
fn a_long_question_is_sent_to_begin_anew_too() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    cluster.isolate(leader);
    cluster.run_ms(3_500);
    let topic = |i: usize| {
        let name = km::TopicName(StrBytes::from_string(format!("topic-{i}")));
        km::metadata_request::MetadataRequestTopic::default().with_name(Some(name))
    };
    let request = km::MetadataRequest::default().with_topics(Some((0..600).map(topic).collect()));
    let answer: km::MetadataResponse = cluster.call(client, METADATA, 13, &request);
    assert_eq!((answer.error_code, answer.topics.len()), (0, 600), "it has only begun to ask");
    cluster.run_ms(2_001);
    let answer: km::MetadataResponse = cluster.call(client, METADATA, 13, &request);
    assert_eq!((answer.error_code, answer.topics.len()), (ErrorCode::REBOOTSTRAP_REQUIRED.0, 600));
}
