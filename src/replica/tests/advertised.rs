//! Where clients are told to find each node.

use super::*;

/// Voters find node 1 at localhost:9092; clients at outside-1:40001.
fn outside(id: i32) -> Endpoint {
    Endpoint { host: format!("outside-{id}"), port: 40_000 + id as u16 }
}

fn told(cluster: &mut Cluster, node: NodeId) -> Vec<Endpoint> {
    let client = cluster.connect(node);
    let answer = metadata(cluster, client);
    let mut brokers: Vec<_> = answer.brokers.iter().collect();
    brokers.sort_by_key(|broker| broker.node_id.0);
    brokers.iter().map(|b| Endpoint { host: b.host.to_string(), port: b.port as u16 }).collect()
}

#[test]
fn every_node_tells_what_each_node_advertises() {
    let mut configs: Vec<Config> = (1..=3).map(|id| config(id, 3)).collect();
    configs.iter_mut().for_each(|config| config.advertised = outside(config.node_id.0));
    let mut cluster = Cluster::new(configs);
    let leader = elect(&mut cluster);
    cluster.run_ms(5_000);
    let all: Vec<Endpoint> = (1..=3).map(outside).collect();
    for id in 1..=3 {
        assert_eq!(told(&mut cluster, NodeId(id)), all, "node {id}");
    }
    // Whoever is not the leader names it by the same address (KIP-951).
    let follower = others(&cluster, leader)[0];
    let client = cluster.connect(follower);
    let answer: km::FetchResponse = cluster.call(client, FETCH, 16, &fetch_by_id(0));
    let endpoint = &answer.node_endpoints[0];
    assert_eq!((endpoint.node_id.0, endpoint.host.as_str()), (leader.0, outside(leader.0).host.as_str()));
    // A voter is told the voters' own.
    let client = cluster.connect(follower);
    let answer: km::VoteResponse = cluster.call(client, VOTE, 2, &vote_request(leader, 1));
    assert!(
        answer.node_endpoints.iter().all(|e| e.host.as_str() == "localhost"),
        "{:?}",
        answer.node_endpoints
    );
}

#[test]
fn a_voter_that_is_away_is_told_by_its_entry_and_by_its_own_word_when_it_is_back() {
    let mut configs: Vec<Config> = (1..=3).map(|id| config(id, 3)).collect();
    for config in &mut configs {
        config.advertised = outside(config.node_id.0);
        // Nothing was acknowledged yet: two may begin.
        config.first_leader = FirstLeader::Majority;
    }
    let mut cluster = Cluster::new(configs);
    cluster.kill(NodeId(3));
    elect(&mut cluster);
    cluster.run_ms(5_000);
    let entry = Endpoint { host: "localhost".to_string(), port: 9094 };
    for id in [1, 2] {
        assert_eq!(told(&mut cluster, NodeId(id)), [outside(1), outside(2), entry.clone()], "node {id}");
    }
    cluster.start(NodeId(3));
    cluster.run_ms(10_000);
    for id in 1..=3 {
        assert_eq!(told(&mut cluster, NodeId(id))[2], outside(3), "node {id}");
    }
}

fn fetch_by_id(offset: i64) -> km::FetchRequest {
    let mut request = fetch_request(offset, 0);
    request.replica_id = km::BrokerId(-1);
    request.topics[0].topic = Default::default();
    request.topics[0].topic_id = crate::protocol::wire_uuid(Uuid::METADATA_TOPIC_ID);
    request
}
