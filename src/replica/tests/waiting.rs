//! Requests that wait: what wakes them, and what ends the wait.

use super::*;
use crate::replica::room::answers::AnswerLimits;

const NOT_LEADER: i16 = ErrorCode::NOT_LEADER_OR_FOLLOWER.0;
const OBSERVER: i32 = 9;

pub(super) fn leader_of(count: i32, change: fn(&mut Config)) -> (Cluster, NodeId) {
    let mut cluster = cluster_with(count, change);
    let leader = elect(&mut cluster);
    // Nothing is on its way any more but the followers' parked Fetches.
    cluster.run_ms(700);
    (cluster, leader)
}

pub(super) fn isolate_followers(cluster: &mut Cluster, leader: NodeId) {
    others(cluster, leader).into_iter().for_each(|id| cluster.isolate(id));
}

/// An observer that has everything up to `offset`, and knows this high watermark.
pub(super) fn replica_fetch(
    cluster: &Cluster,
    leader: NodeId,
    offset: i64,
    high_watermark: i64,
) -> km::FetchRequest {
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
    let due = cluster.nodes[&leader].replica.fetch.fetches().deadline();
    assert!(due.is_some_and(|due| due > cluster.now.monotonic_ns));
    cluster.disconnect(readers[0]);
    cluster.disconnect(readers[2]);
    cluster.run_ms(1);
    assert_eq!(
        (cluster.status(leader).parked_requests, cluster.nodes[&leader].replica.fetch.fetches().deadline()),
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

/// Ids of the parked: who is woken and parks again gets another one.
fn parked(cluster: &Cluster, leader: NodeId) -> Vec<u64> {
    cluster.nodes[&leader].replica.fetch.fetches().parked_ids()
}

#[test]
fn who_waits_for_many_bytes_is_woken_once_when_they_are_committed() {
    let (mut cluster, leader) = leader_of(1, |_| {});
    let (client, reader) = (cluster.connect(leader), cluster.connect(leader));
    let record = batch(&[&[7; 100]]);
    let bytes = record.len();
    let (_, base) = produce(&mut cluster, client, -1, record.clone());
    let mut patient = fetch_request(base, 60_000);
    patient.min_bytes = 20 * bytes as i32;
    cluster.send(reader, FETCH, 12, &patient);
    cluster.run_ms(1);
    let waiting = parked(&cluster, leader);
    assert_eq!(waiting.len(), 1);
    for _ in 0..18 {
        assert_eq!(produce(&mut cluster, client, -1, record.clone()).0, 0);
        assert_eq!(parked(&cluster, leader), waiting, "it was looked at again for nothing");
    }
    assert_eq!(receive_fetch(&mut cluster, reader), None);
    assert_eq!(produce(&mut cluster, client, -1, record.clone()).0, 0);
    cluster.run_ms(1);
    let read = receive_fetch(&mut cluster, reader).expect("its bytes are there");
    assert_eq!(read.records.map(|records| records.len()), Some(20 * bytes));
}

#[test]
fn one_commit_wakes_all_who_wait_for_it_a_few_in_each_turn() {
    const READERS: usize = 700;
    let (mut cluster, leader) = leader_of(3, |_| {});
    let end = cluster.status(leader).log_end_offset;
    let readers: Vec<Client> = (0..READERS).map(|_| cluster.connect(leader)).collect();
    for reader in &readers {
        cluster.send(*reader, FETCH, 12, &fetch_request(end, 60_000));
    }
    cluster.run_ms(1);
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    cluster.run_ms(20);
    for reader in readers {
        let read = receive_fetch(&mut cluster, reader).expect("woken");
        assert!(read.records.is_some_and(|records| !records.is_empty()));
    }
}

#[test]
fn nobody_waits_longer_than_the_server_lets_him() {
    let (mut cluster, leader) = leader_of(1, |config| config.limits.request_wait_ms_max = 1_000);
    let end = cluster.status(leader).log_end_offset;
    let reader = cluster.connect(leader);
    cluster.send(reader, FETCH, 12, &fetch_request(end, i32::MAX));
    cluster.run_ms(900);
    assert_eq!(receive_fetch(&mut cluster, reader), None);
    cluster.run_ms(200);
    assert!(receive_fetch(&mut cluster, reader).is_some());
}

#[test]
fn long_answers_come_one_in_a_turn_and_none_to_who_has_left() {
    let (mut cluster, leader) = leader_of(1, |_| {});
    let names = |count: usize| {
        let topic = |i: usize| {
            let name = km::TopicName(crate::protocol::messages::StrBytes::from_string(format!(
                "a-topic-of-a-longer-name-that-is-not-here-{i}"
            )));
            km::metadata_request::MetadataRequestTopic::default().with_name(Some(name))
        };
        km::MetadataRequest::default().with_topics(Some((0..count).map(topic).collect()))
    };
    let clients: Vec<Client> = (0..4).map(|_| cluster.connect(leader)).collect();
    for client in &clients {
        cluster.send(*client, METADATA, 9, &names(2_000));
    }
    cluster.disconnect(clients[3]);
    cluster.run_ms(30);
    for client in &clients[..3] {
        let answer: km::MetadataResponse = cluster.receive(*client, METADATA, 9).expect("an answer");
        assert_eq!(answer.topics.len(), 2_000);
    }
    assert!(cluster.nodes[&leader].replica.heavy.is_empty());
}

#[test]
fn invented_producers_push_nobody_out() {
    let (mut cluster, leader) = leader_of(1, |config| {
        config.limits.producer_ids_max = 20;
        config.limits.connection_producer_ids_max = 15;
    });
    let of = |producer_id: i64| crate::record::data_batch(&[b"pay once"], 1, Some((producer_id, 0, 0)));
    let honest = cluster.connect(leader);
    let first = produce(&mut cluster, honest, -1, of(4711));
    let refused = ErrorCode::POLICY_VIOLATION.0;
    let mut codes = Vec::new();
    for connection in 0..3 {
        let client = cluster.connect(leader);
        for i in 0..20 {
            codes.push(produce(&mut cluster, client, -1, of(1_000 + connection * 100 + i)).0);
        }
    }
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 19, "as many as there is room for");
    assert!(codes[15..20].iter().all(|code| *code == refused), "more than one connection may bring");
    assert!(codes[24..].iter().all(|code| *code == refused));
    assert_eq!(produce(&mut cluster, honest, -1, of(4711)), first, "the retry is recognised");
    assert_eq!(produce(&mut cluster, honest, -1, batch(&[b"without an id"])).0, 0);
}

#[test]
fn a_fetch_that_wants_no_bytes_is_answered_at_once() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let end = cluster.status(leader).log_end_offset;
    let mut request = fetch_request(end, 60_000);
    request.min_bytes = 0;
    cluster.send(client, FETCH, 12, &request);
    cluster.run_ms(2);
    let partition = receive_fetch(&mut cluster, client).expect("an answer although there is nothing");
    assert_eq!((partition.error_code, partition.high_watermark), (0, end));
    // And one with an error beside a partition that has nothing.
    let mut request = fetch_request(end, 60_000);
    let mut unknown = request.topics[0].partitions[0].clone();
    unknown.partition = 7;
    request.topics[0].partitions.push(unknown);
    cluster.send(client, FETCH, 12, &request);
    cluster.run_ms(2);
    let answer: Option<km::FetchResponse> = cluster.receive(client, FETCH, 12);
    let errors: Vec<i16> =
        answer.expect("an answer").responses[0].partitions.iter().map(|p| p.error_code).collect();
    assert_eq!(errors, [0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0]);
}

#[test]
fn acks_1_is_answered_when_it_is_written_however_little_time_there_is() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for timeout_ms in [0, -1, i32::MIN, 1] {
        let mut request = produce_request(1, batch(&[b"x"]));
        request.timeout_ms = timeout_ms;
        let answer: km::ProduceResponse = cluster.call(client, PRODUCE, 9, &request);
        assert_eq!(answer.responses[0].partition_responses[0].error_code, 0, "{timeout_ms} ms");
    }
}

#[test]
fn records_whose_time_is_out_of_range_are_named() {
    use crate::record::{BatchBuilder, RecordSpec};
    let mut cluster = cluster_with(1, |config| config.limits.timestamp_after_max_ms = 3_600_000);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let now = cluster.now.wall_ms;
    let day = 86_400_000;
    let record = |timestamp_delta| RecordSpec { value: Some(b"x"), timestamp_delta, ..RecordSpec::default() };
    let deltas = [0, day, 5, 2 * day];
    let records = deltas.into_iter().fold(BatchBuilder::new(now), |b, delta| b.record(record(delta))).build();
    let answer: km::ProduceResponse = cluster.call(client, PRODUCE, 9, &produce_request(-1, records));
    let told = &answer.responses[0].partition_responses[0];
    assert_eq!(told.error_code, ErrorCode::INVALID_TIMESTAMP.0);
    let blamed: Vec<i32> = told.record_errors.iter().map(|e| e.batch_index).collect();
    assert_eq!(blamed, [1, 3]);
    let why = told.record_errors[0].batch_index_error_message.as_deref().unwrap_or_default();
    assert!(why.contains(&format!("timestamp {} is out of range", now + day)), "{why}");
    assert_eq!(told.error_message.as_deref(), Some(why), "the first of them");
}

/// The share of core 0's clients, of which one has taken none of `held` bytes.
fn share_of_which(cluster: &mut Cluster, leader: NodeId, bytes_max: usize, held: usize) -> Arc<Share> {
    let limits = AnswerLimits { bytes_max, device_bytes_max: 50_000, stall_ms_max: 1_000 };
    let share = Share::new(limits);
    share.add(held, 0);
    cluster.nodes.get_mut(&leader).unwrap().replica.share_answers(vec![share.clone()]);
    share
}

#[test]
fn a_fetch_is_given_what_others_have_left_and_waits_for_more() {
    const BATCH: usize = 10_000;
    let (mut cluster, leader) = leader_of(1, |_| {});
    let client = cluster.connect(leader);
    let record = batch(&[&[7; BATCH]]);
    let batch_bytes = record.len();
    let (_, base) = produce(&mut cluster, client, -1, record.clone());
    for _ in 1..6 {
        assert_eq!(produce(&mut cluster, client, -1, record.clone()).0, 0);
    }
    // Two batches and a half are left for Fetches.
    let held = 20 * batch_bytes;
    let share = share_of_which(&mut cluster, leader, (held + 5 * batch_bytes / 2) / 3 * 4, held);
    let reader = cluster.connect(leader);
    cluster.send(reader, FETCH, 12, &fetch_request(base, 60_000));
    cluster.run_ms(1);
    let records = |read: km::fetch_response::PartitionData| read.records.map_or(0, |records| records.len());
    let got = |cluster: &mut Cluster, reader| receive_fetch(cluster, reader).map(records);
    assert_eq!(got(&mut cluster, reader), Some(2 * batch_bytes));
    assert_eq!(share.held_bytes(), held, "it was taken at once");
    share.add(2 * batch_bytes, 0);
    let (first, second) = (cluster.connect(leader), cluster.connect(leader));
    cluster.send(first, FETCH, 12, &fetch_request(base, 60_000));
    cluster.send(second, FETCH, 12, &fetch_request(base, 60_000));
    cluster.run_ms(20);
    assert_eq!([first, second].map(|reader| got(&mut cluster, reader)), [None, None]);
    assert!(share.is_wanted());
    assert_eq!(cluster.status(leader).parked_requests, 2);
    // Whoever is gone waits no more.
    cluster.disconnect(first);
    share.take_back(2 * batch_bytes, 0);
    cluster.run_ms(20);
    assert_eq!(got(&mut cluster, second), Some(2 * batch_bytes));
    assert!(!share.is_wanted() && cluster.status(leader).parked_requests == 0);
}

#[test]
fn who_waits_for_others_answers_hears_that_the_leader_is_gone() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, batch(&[b"x"]));
    share_of_which(&mut cluster, leader, 1_000, 1_000);
    let reader = cluster.connect(leader);
    cluster.send(reader, FETCH, 12, &fetch_request(base, 60_000));
    cluster.run_ms(20);
    assert_eq!(receive_fetch(&mut cluster, reader), None);
    isolate_followers(&mut cluster, leader);
    cluster.run_ms(10_000);
    assert_eq!(receive_fetch(&mut cluster, reader).map(|read| read.error_code), Some(NOT_LEADER));
}

#[test]
fn when_the_leader_goes_all_who_wait_hear_it_a_few_in_each_turn() {
    const READERS: usize = 700;
    let (mut cluster, leader) = leader_of(3, |_| {});
    let end = cluster.status(leader).log_end_offset;
    let readers: Vec<Client> = (0..READERS).map(|_| cluster.connect(leader)).collect();
    for reader in &readers {
        cluster.send(*reader, FETCH, 12, &fetch_request(end, 250_000));
    }
    cluster.run_ms(1);
    assert_eq!(parked(&cluster, leader).len(), READERS + 2);
    isolate_followers(&mut cluster, leader);
    cluster.run_until("the leader to resign", 10_000, |cluster| cluster.status(leader).role != "leader");
    let left = parked(&cluster, leader).len();
    assert!((1..READERS).contains(&left), "{left} are left for the next turns");
    cluster.run_ms(20);
    for reader in readers {
        assert_eq!(receive_fetch(&mut cluster, reader).map(|read| read.error_code), Some(NOT_LEADER));
    }
}

/// Places for Fetches are the clients': a voter's would only be answered at once, and ask again, and again.
#[test]
fn a_voter_waits_where_clients_have_all_places() {
    let (mut cluster, leader) = leader_of(3, |config| config.limits.parked_requests_max = 3);
    let end = cluster.status(leader).log_end_offset;
    let readers: Vec<Client> = (0..5).map(|_| cluster.connect(leader)).collect();
    for reader in &readers {
        cluster.send(*reader, FETCH, 12, &fetch_request(end, 60_000));
    }
    cluster.run_ms(1);
    let before = cluster.status(leader).counters.replica_fetches;
    cluster.run_ms(450);
    let after = cluster.status(leader).counters.replica_fetches;
    assert!(after - before < 10, "{} Fetches of voters", after - before);
}

/// An answer is held as long as its Fetch waits.
#[test]
fn a_fetch_that_names_many_partitions_takes_as_many_places() {
    let (mut cluster, leader) = leader_of(1, |config| config.limits.parked_requests_max = 10);
    let end = cluster.status(leader).log_end_offset;
    let mut many = fetch_request(end, 60_000);
    let mut empty = many.topics[0].clone();
    empty.partitions.clear();
    for topic in ["a", "b", "c"] {
        empty.topic = name(topic);
        many.topics.push(empty.clone());
    }
    let readers = [(); 3].map(|()| cluster.connect(leader));
    for reader in readers {
        cluster.send(reader, FETCH, 12, &many);
    }
    cluster.run_ms(1);
    let waits = readers.map(|reader| receive_fetch(&mut cluster, reader).is_none());
    assert_eq!(waits, [true, true, false]);
    readers.into_iter().for_each(|reader| cluster.disconnect(reader));
    cluster.run_ms(1);
    assert_eq!(cluster.nodes[&leader].replica.fetch.fetches().parked_partitions(), 0);
}

/// Many a rolling restart ends within minutes, and newcomers must not be refused for as long as it would take to watch everybody.
#[test]
fn after_a_restart_a_full_table_lets_in_whom_it_would_have_let_in_before() {
    let (mut cluster, leader) = leader_of(1, |config| {
        config.limits.producer_ids_max = 3;
        config.limits.producer_id_idle_ms_min = 60_000;
    });
    let wall_ms = cluster.now.wall_ms;
    let of = |producer_id: i64, age_ms: i64| {
        crate::record::data_batch(&[b"x"], wall_ms - age_ms, Some((producer_id, 0, 0)))
    };
    let client = cluster.connect(leader);
    for (producer_id, age_ms) in [(1, 3_600_000), (2, 1_000), (3, 0)] {
        assert_eq!(produce(&mut cluster, client, -1, of(producer_id, age_ms)).0, 0);
    }
    cluster.kill(leader);
    cluster.start(leader);
    elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, of(4, 0)).0, 0, "the first has not written for an hour");
    assert_eq!(
        produce(&mut cluster, client, -1, of(5, 0)).0,
        ErrorCode::POLICY_VIOLATION.0,
        "the second has"
    );
    let known = |id: i64| cluster.nodes[&leader].replica.engine.folds().producers().contains(id);
    assert_eq!([1, 2, 3, 4, 5].map(known), [false, true, true, true, false]);
}

/// Who waits for nothing in particular keeps nobody from what is there.
#[test]
fn a_cold_reader_is_served_where_all_places_are_taken() {
    let (mut cluster, leader) = leader_of(3, |config| {
        config.limits.parked_requests_max = 2;
        config.limits.tail_cache_bytes_max = 0;
    });
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, batch(&[b"cold"]));
    let end = cluster.status(leader).log_end_offset;
    for _ in 0..3 {
        let reader = cluster.connect(leader);
        cluster.send(reader, FETCH, 12, &fetch_request(end, 60_000));
    }
    cluster.run_ms(5);
    let reader = cluster.connect(leader);
    cluster.send(reader, FETCH, 12, &fetch_request(base, 60_000));
    cluster.run_ms(20);
    let read = receive_fetch(&mut cluster, reader).expect("an answer");
    assert!(read.records.is_some_and(|records| !records.is_empty()));
}

/// Their reads have a total of their own.
#[test]
fn cold_readers_take_nothing_of_what_is_left_for_answers_from_memory() {
    let (mut cluster, leader) = leader_of(1, |config| config.limits.tail_cache_bytes_max = 0);
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, batch(&[&[7; 10_000]]));
    let share = share_of_which(&mut cluster, leader, 100_000, 0);
    let all = share.left();
    cluster.hold_answers = true;
    let reader = cluster.connect(leader);
    cluster.send(reader, FETCH, 12, &fetch_request(base, 60_000));
    cluster.run_ms(5);
    assert!(share.held_bytes() > 10_000 && share.left() >= all - 100, "{} of {all}", share.left());
    cluster.held_answers.clear();
    share.add(10, 0);
    assert_eq!((share.held_bytes(), share.left()), (10, all - 10), "nothing of it is kept in mind");
}
