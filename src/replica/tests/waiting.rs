//! Requests that wait: what wakes them, and what ends the wait.

use super::*;

const NOT_LEADER: i16 = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
const OBSERVER: i32 = 9;

fn leader_of(count: i32, change: fn(&mut Config)) -> (Cluster, NodeId) {
    let mut cluster = cluster_with(count, change);
    let leader = elect(&mut cluster);
    // Nothing is on its way any more but the followers' parked Fetches.
    cluster.run_ms(700);
    (cluster, leader)
}

fn isolate_followers(cluster: &mut Cluster, leader: NodeId) {
    others(cluster, leader).into_iter().for_each(|id| cluster.isolate(id));
}

/// An observer that has everything up to `offset`, and knows this high watermark.
fn replica_fetch(cluster: &Cluster, leader: NodeId, offset: i64, high_watermark: i64) -> km::FetchRequest {
    let epoch = cluster.status(leader).epoch;
    let mut request = fetch_request(offset, 300);
    request.replica_state.replica_id = OBSERVER.into();
    request.topics[0].topic_id = uuid(Uuid::METADATA_TOPIC_ID.0);
    let partition = &mut request.topics[0].partitions[0];
    (partition.current_leader_epoch, partition.last_fetched_epoch) = (epoch, epoch);
    (partition.replica_directory_id, partition.high_watermark) = (uuid(77), high_watermark);
    request
}

fn receive_replica(cluster: &mut Cluster, client: Client) -> Option<km::fetch_response::PartitionData> {
    let answer: km::FetchResponse = cluster.receive(client, FETCH, 18)?;
    Some(answer.responses[0].partitions[0].clone())
}

#[test]
fn a_commit_takes_no_longer_than_the_followers_flushes() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let client = cluster.connect(leader);
    let reader = cluster.connect(leader);
    let end = cluster.status(leader).log_end_offset;
    cluster.send(reader, FETCH, 12, &fetch_request(end, 5_000));
    cluster.run_ms(1);
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(1);
    let told = receive_produce(&mut cluster, client).expect("an answer within a millisecond");
    assert_eq!((told.error_code, told.base_offset, told.log_append_time_ms), (0, end, -1));
    assert_eq!(told.log_start_offset, 0);
    let read = receive_fetch(&mut cluster, reader).expect("the parked consumer was woken");
    assert_eq!((read.error_code, read.high_watermark, read.last_stable_offset), (0, end + 1, end + 1));
    assert!(read.records.is_some_and(|records| !records.is_empty()));
}

#[test]
fn a_consumer_waits_for_the_commit_and_no_longer_than_it_said() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let end = cluster.status(leader).log_end_offset;
    isolate_followers(&mut cluster, leader);
    let (client, flushed, reader) =
        (cluster.connect(leader), cluster.connect(leader), cluster.connect(leader));
    cluster.send(reader, FETCH, 12, &fetch_request(end, 400));
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.send(flushed, PRODUCE, 9, &produce_request(1, batch(&[b"y"])));
    cluster.run_ms(399);
    let told = receive_produce(&mut cluster, flushed).expect("acks=1 waits for this node's flush only");
    assert_eq!((told.error_code, told.base_offset), (0, end + 1));
    assert_eq!(receive_produce(&mut cluster, client), None);
    assert_eq!(receive_fetch(&mut cluster, reader), None);
    assert_eq!(cluster.status(leader).parked_requests, 2);
    cluster.run_ms(2);
    let read = receive_fetch(&mut cluster, reader).expect("the wait is over");
    assert_eq!((read.error_code, read.high_watermark), (0, end));
    assert!(read.records.is_none_or(|records| records.is_empty()), "what is not committed is not shown");
    assert_eq!(cluster.status(leader).parked_requests, 1);
}

#[test]
fn a_consumer_that_wants_more_bytes_gets_what_there_is_when_its_time_is_over() {
    let (mut cluster, leader) = leader_of(1, |_| {});
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, batch(&[b"x"]));
    let mut patient = fetch_request(base, 200);
    patient.min_bytes = 1000;
    cluster.send(client, FETCH, 12, &patient);
    cluster.run_ms(198);
    assert_eq!(receive_fetch(&mut cluster, client), None);
    cluster.run_ms(4);
    let read = receive_fetch(&mut cluster, client).expect("an answer");
    assert!(read.records.is_some_and(|records| !records.is_empty()));
    // A full answer is as good as the least that was asked for.
    patient.max_bytes = 50;
    cluster.send(client, FETCH, 12, &patient);
    cluster.run_ms(1);
    assert!(receive_fetch(&mut cluster, client).is_some());
    // And enough of it does not wait.
    let other = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, other, -1, batch(&[&[7; 2000]])).0, 0);
    patient.max_bytes = 10_000;
    cluster.send(client, FETCH, 12, &patient);
    cluster.run_ms(1);
    assert!(receive_fetch(&mut cluster, client).is_some());
}

#[test]
fn nobody_waits_on_a_connection_that_is_gone_and_only_so_many_wait_at_all() {
    let (mut cluster, leader) = leader_of(1, |config| config.limits.parked_requests_max = 3);
    let end = cluster.status(leader).log_end_offset;
    let readers: Vec<Client> = (0..4).map(|_| cluster.connect(leader)).collect();
    for reader in &readers {
        cluster.send(*reader, FETCH, 12, &fetch_request(end, 5_000));
    }
    cluster.run_ms(1);
    let answered: Vec<bool> = readers.iter().map(|r| receive_fetch(&mut cluster, *r).is_some()).collect();
    assert_eq!(answered, [false, false, false, true], "the fourth is answered at once, empty");
    assert_eq!(cluster.status(leader).parked_requests, 3);
    assert_eq!(cluster.nodes[&leader].replica.standing().memory.parked_fetches, 3);
    cluster.disconnect(readers[1]);
    cluster.run_ms(1);
    assert_eq!(cluster.status(leader).parked_requests, 2);
    let due = cluster.nodes[&leader].replica.fetches.deadline();
    assert!(due.is_some_and(|due| due > cluster.now.monotonic_ns));
    cluster.disconnect(readers[0]);
    cluster.disconnect(readers[2]);
    cluster.run_ms(1);
    assert_eq!(
        (cluster.status(leader).parked_requests, cluster.nodes[&leader].replica.fetches.deadline()),
        (0, None)
    );
}

#[test]
fn only_so_many_produces_wait_and_one_that_waits_too_long_is_told_so() {
    let (mut cluster, leader) = leader_of(3, |config| config.limits.parked_requests_max = 2);
    isolate_followers(&mut cluster, leader);
    let clients = [1, 2, 3].map(|_| cluster.connect(leader));
    for client in clients {
        let mut request = produce_request(-1, batch(&[b"x"]));
        request.timeout_ms = 300;
        cluster.send(client, PRODUCE, 9, &request);
    }
    cluster.run_ms(298);
    let refused = clients.map(|client| receive_produce(&mut cluster, client));
    let refused =
        refused.map(|line| line.map(|line| (line.error_code, line.base_offset, line.log_start_offset)));
    let timed_out = Some((ErrorCode::REQUEST_TIMED_OUT.0, -1, -1));
    assert_eq!(refused, [None, None, timed_out]);
    cluster.run_ms(4);
    for client in &clients[..2] {
        let line = receive_produce(&mut cluster, *client).expect("an answer");
        assert_eq!(Some((line.error_code, line.base_offset, line.log_start_offset)), timed_out);
        assert!(line.error_message.is_some_and(|why| why.contains("not committed within timeout.ms")));
    }
}

#[test]
fn a_duplicate_of_what_is_not_committed_waits_for_the_same_commit() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let followers = others(&cluster, leader);
    isolate_followers(&mut cluster, leader);
    let clients = [cluster.connect(leader), cluster.connect(leader)];
    let records = data_batch(&[b"x"], 1_700_000_000_000, Some((77, 0, 0)));
    let base = cluster.status(leader).log_end_offset;
    for client in clients {
        cluster.send(client, PRODUCE, 9, &produce_request(-1, records.clone()));
    }
    cluster.run_ms(20);
    assert_eq!(clients.map(|client| receive_produce(&mut cluster, client)), [None, None]);
    assert_eq!(cluster.status(leader).log_end_offset, base + 1);
    followers.iter().for_each(|id| assert!(cluster.isolated.remove(id)));
    cluster.run_ms(1_500);
    for client in clients {
        let line = receive_produce(&mut cluster, client).expect("an answer");
        assert_eq!((line.error_code, line.base_offset, line.log_append_time_ms), (0, base, -1));
    }
}

#[test]
fn who_waits_at_a_leader_that_resigns_is_sent_away() {
    let (mut cluster, leader) = leader_of(3, |config| config.limits.tail_cache_bytes_max = 0);
    let (client, parked) = (cluster.connect(leader), cluster.connect(leader));
    let (_, base) = produce(&mut cluster, client, -1, batch(&[&[7; 1000]]));
    cluster.hold = |_, kind| matches!(kind, OpKind::Read { .. });
    let (reading, seeking) = (cluster.connect(leader), cluster.connect(leader));
    cluster.send(reading, FETCH, 12, &fetch_request(base, 0));
    cluster.send(seeking, LIST_OFFSETS, 7, &list_offsets_request(TOPIC, &[1]));
    cluster.send(parked, FETCH, 12, &fetch_request(base + 1, 60_000));
    isolate_followers(&mut cluster, leader);
    cluster.run_until("check quorum", 10_000, |c| c.status(leader).role == "resigned");
    cluster.run_ms(1);
    let line = receive_fetch(&mut cluster, parked).expect("told at once");
    assert_eq!((line.error_code, line.high_watermark, line.last_stable_offset), (NOT_LEADER, -1, -1));
    // Its leader is still itself: there is none to name.
    assert_eq!(receive_fetch(&mut cluster, reading), None);
    cluster.release();
    cluster.run_ms(1);
    assert_eq!(receive_fetch(&mut cluster, reading).map(|line| line.error_code), Some(NOT_LEADER));
    assert_eq!(receive_offsets(&mut cluster, seeking).map(|lines| lines[0].0), Some(NOT_LEADER));
}

#[test]
fn clients_are_told_who_leads_where_that_helps_them() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let epoch = cluster.status(leader).epoch;
    let follower = others(&cluster, leader)[0];
    let client = cluster.connect(follower);
    let elsewhere: km::FetchResponse = cluster.call(client, FETCH, 16, &by_id(fetch_request(0, 0)));
    let line = &elsewhere.responses[0].partitions[0];
    assert_eq!((line.error_code, line.high_watermark, line.last_stable_offset), (NOT_LEADER, -1, -1));
    assert_eq!((line.current_leader.leader_id.0, line.current_leader.leader_epoch), (leader.0, epoch));
    assert_eq!(elsewhere.node_endpoints.iter().map(|node| node.node_id.0).collect::<Vec<_>>(), [leader.0]);
    let elsewhere: km::ProduceResponse =
        cluster.call(client, PRODUCE, 10, &produce_request(-1, batch(&[b"x"])));
    let line = &elsewhere.responses[0].partition_responses[0];
    assert_eq!((line.current_leader.leader_id.0, line.current_leader.leader_epoch), (leader.0, epoch));
    assert_eq!(elsewhere.node_endpoints.len(), 1);
    let client = cluster.connect(leader);
    let beyond: km::FetchResponse = cluster.call(client, FETCH, 16, &by_id(fetch_request(99, 0)));
    let line = &beyond.responses[0].partitions[0];
    assert_eq!((line.error_code, line.current_leader.leader_id.0), (ErrorCode::OFFSET_OUT_OF_RANGE.0, -1));
    assert!(beyond.node_endpoints.is_empty());
    let here: km::ProduceResponse = cluster.call(client, PRODUCE, 10, &produce_request(-1, batch(&[b"x"])));
    assert!(here.node_endpoints.is_empty());
    assert_eq!(here.responses[0].partition_responses[0].current_leader.leader_id.0, -1);
}

fn by_id(mut request: km::FetchRequest) -> km::FetchRequest {
    request.topics[0].topic_id = uuid(Uuid::METADATA_TOPIC_ID.0);
    request
}

#[test]
fn an_observer_waits_for_records_and_for_a_high_watermark_that_it_does_not_know() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let observer = cluster.connect(leader);
    let end = cluster.status(leader).log_end_offset;
    cluster.send(observer, FETCH, 18, &replica_fetch(&cluster, leader, end, end - 1));
    cluster.run_ms(1);
    let news = receive_replica(&mut cluster, observer).expect("it did not know what is committed");
    assert_eq!((news.error_code, news.high_watermark, news.last_stable_offset), (0, end, -1));
    assert_eq!(news.current_leader.leader_id.0, leader.0);
    let knowing = replica_fetch(&cluster, leader, end, end);
    cluster.send(observer, FETCH, 18, &knowing);
    cluster.run_ms(298);
    assert_eq!(receive_replica(&mut cluster, observer), None, "there is no news");
    cluster.run_ms(4);
    let nothing = receive_replica(&mut cluster, observer).expect("its time is over");
    assert_eq!((nothing.error_code, nothing.high_watermark), (0, end));
    // A record comes at once, its commit with the next answer.
    cluster.send(observer, FETCH, 18, &knowing);
    cluster.run_ms(1);
    let client = cluster.connect(leader);
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(1);
    let record = receive_replica(&mut cluster, observer).expect("it was woken");
    assert!(record.records.is_some_and(|records| !records.is_empty()));
}

#[test]
fn an_observers_parked_fetch_gives_way_to_its_next_one_and_to_other_requests() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let end = cluster.status(leader).log_end_offset;
    let (first, second) = (cluster.connect(leader), cluster.connect(leader));
    let knowing = replica_fetch(&cluster, leader, end, end);
    cluster.send(first, FETCH, 18, &knowing);
    cluster.run_ms(1);
    assert_eq!(receive_replica(&mut cluster, first), None);
    cluster.send(second, FETCH, 18, &knowing);
    cluster.run_ms(1);
    assert!(receive_replica(&mut cluster, first).is_some(), "the newer one counts");
    assert_eq!(receive_replica(&mut cluster, second), None);
    // Answers leave in order: a parked one must not stand before a vote.
    let candidate = others(&cluster, leader)[0];
    cluster.send(second, VOTE, 2, &vote_request(candidate, 0));
    cluster.run_ms(1);
    assert!(receive_replica(&mut cluster, second).is_some());
    assert!(cluster.receive::<km::VoteResponse>(second, VOTE, 2).is_some());
}

#[test]
fn before_its_epoch_has_committed_a_leader_knows_no_high_watermark() {
    let (mut cluster, old) = leader_of(3, |_| {});
    cluster.hold = |_, kind| matches!(kind, OpKind::Write { .. });
    cluster.kill(old);
    cluster.run_until("a new leader", 30_000, |c| c.leader().is_some());
    let leader = cluster.leader().expect("a leader");
    let (client, observer) = (cluster.connect(leader), cluster.connect(leader));
    cluster.send(client, FETCH, 12, &fetch_request(0, 0));
    cluster.run_ms(1);
    let line = receive_fetch(&mut cluster, client).expect("an answer");
    assert_eq!((line.error_code, line.high_watermark, line.last_stable_offset), (0, -1, -1));
    assert_eq!(list_offsets(&mut cluster, client, -1).0, ErrorCode::OFFSET_NOT_AVAILABLE.0);
    let mut diverging = replica_fetch(&cluster, leader, 1, -1);
    diverging.topics[0].partitions[0].last_fetched_epoch = 0;
    cluster.send(observer, FETCH, 18, &diverging);
    cluster.run_ms(1);
    let line = receive_replica(&mut cluster, observer).expect("an answer");
    assert_eq!(line.high_watermark, -1);
    assert!(line.diverging_epoch.end_offset >= 0, "{line:?}");
}

#[test]
fn each_topic_of_a_produce_is_answered_in_one_place() {
    let (mut cluster, leader) = leader_of(1, |_| {});
    let client = cluster.connect(leader);
    let shape = |answer: km::ProduceResponse| -> Vec<Vec<(i32, i16)>> {
        let lines = |t: &km::produce_response::TopicProduceResponse| {
            t.partition_responses.iter().map(|p| (p.index, p.error_code)).collect()
        };
        answer.responses.iter().map(lines).collect()
    };
    let mut request = produce_request(-1, batch(&[b"x"]));
    let mut partition = request.topic_data[0].partition_data[0].clone();
    partition.index = 1;
    request.topic_data[0].partition_data.push(partition);
    let mut other = request.topic_data[0].clone();
    other.name = name("other");
    request.topic_data.push(other);
    let answer = cluster.call(client, PRODUCE, 9, &request);
    assert_eq!(shape(answer), [[(0, 0), (1, 3)], [(0, 3), (1, 3)]]);
    // From version 13 on the names are empty and the ids differ.
    request.topic_data[0].topic_id = uuid(Uuid::METADATA_TOPIC_ID.0);
    request.topic_data[1].topic_id = uuid(77);
    let answer = cluster.call(client, PRODUCE, 13, &request);
    assert_eq!(shape(answer), [[(0, 0), (1, 100)], [(0, 100), (1, 100)]]);
}
