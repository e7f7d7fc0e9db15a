//! What a node says of itself: counters, histograms, progress, memory; and what it does about a full disk.

use super::waiting::{isolate_followers, leader_of};
use super::*;
use crate::replica::folds::Voters;
use crate::replica::input::FORWARD_CLIENT_ID;
use crate::replica::slowest::SlowRequest;

#[test]
fn what_clients_did_is_counted() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let begun = cluster.status(leader).counters;
    assert_eq!((begun.leader_changes, begun.elections, begun.replica_fetches), (1, 0, 0));
    let stages = cluster.nodes.get_mut(&leader).expect("a node").replica.take_stages(Stages::new());
    assert_eq!(stages.committed_records, 0, "the first high watermark only tells how long the log is");
    let one = data_batch(&[b"a", b"b"], 1_700_000_000_000, Some((77, 0, 0)));
    let two = batch(&[b"c"]);
    let bytes = (one.len() + two.len()) as u64;
    assert_eq!(produce(&mut cluster, client, -1, one.clone()).0, 0);
    assert_eq!(produce(&mut cluster, client, -1, one).0, 0);
    assert_eq!(produce(&mut cluster, client, 1, two).0, 0);
    assert_eq!(produce(&mut cluster, client, 5, batch(&[b"refused"])).0, ErrorCode::INVALID_REQUIRED_ACKS.0);
    assert_eq!(fetch(&mut cluster, client, 1).2, [1, 3]);
    let told = cluster.status(leader).counters;
    assert_eq!((told.produce_requests, told.produced_batches, told.produced_records), (4, 2, 3));
    assert_eq!((told.duplicate_batches, told.refused_requests, told.fetch_requests), (1, 1, 1));
    assert_eq!((told.produced_bytes, told.committed_bytes - begun.committed_bytes), (bytes, bytes));
    assert_eq!((told.fetched_bytes, told.flushes - begun.flushes), (bytes, 2));
    let stages = cluster.nodes.get_mut(&leader).expect("a node").replica.take_stages(Stages::new());
    assert_eq!((stages.committed_records, stages.committed_bytes), (3, bytes));
    // The duplicate was durable before it came; acks=1 does not wait for a commit.
    let counts: Vec<u64> = stages.named().iter().map(|(_, stage)| stage.len()).collect();
    assert_eq!(counts, [3, 3, 1, 2, 2, 3]);
}

/// Of a second in which a follower is gone nobody else would tell.
#[test]
fn what_waited_in_vain_is_among_the_slow_requests_and_not_in_the_histograms() {
    let (mut cluster, leader) = leader_of(3, |_| {});
    isolate_followers(&mut cluster, leader);
    let take = |cluster: &mut Cluster| {
        let stages = cluster.nodes.get_mut(&leader).expect("a node").replica.take_stages(Stages::new());
        assert!(stages.named().iter().all(|(_, stage)| stage.is_empty()));
        stages.slowest.kept().to_vec()
    };
    let base = cluster.status(leader).log_end_offset;
    let [impatient, _] = [200, 60_000].map(|timeout_ms| {
        let client = cluster.connect(leader);
        let mut request = produce_request(-1, batch(&[b"x"]));
        request.timeout_ms = timeout_ms;
        cluster.send(client, PRODUCE, 9, &request);
        client
    });
    let refused = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, refused, 5, batch(&[b"x"])).0, ErrorCode::INVALID_REQUIRED_ACKS.0);
    cluster.run_ms(250);
    let slow = |told: &[SlowRequest], error: ErrorCode, offset: i64| {
        let [slow] = told else { panic!("{told:?}") };
        assert_eq!((slow.error, slow.base_offset), (Some(error), offset));
        assert!(slow.passed.flushed_ns.is_some() && slow.passed.committed_ns.is_none(), "{slow:?}");
        slow.took_ns() / NS_PER_MS
    };
    assert!(receive_produce(&mut cluster, impatient).is_some());
    let took_ms = slow(&take(&mut cluster), ErrorCode::REQUEST_TIMED_OUT, base);
    assert!((200..210).contains(&took_ms), "{took_ms}");
    cluster.run_until("check quorum", 10_000, |c| c.status(leader).role == "resigned");
    cluster.run_ms(1);
    assert!(slow(&take(&mut cluster), ErrorCode::NOT_LEADER_OR_FOLLOWER, base + 1) >= 250);
}

#[test]
fn a_node_that_starts_again_does_not_count_its_log_as_committed() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for _ in 0..5 {
        produce(&mut cluster, client, -1, batch(&[b"x"]));
    }
    cluster.kill(leader);
    cluster.start(leader);
    elect(&mut cluster);
    let stages = cluster.nodes.get_mut(&leader).expect("a node").replica.take_stages(Stages::new());
    assert_eq!(stages.committed_records, 0);
}

#[test]
fn voters_count_their_elections_and_fetches() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    cluster.run_ms(2_000);
    let told = cluster.status(leader).counters;
    assert!(told.elections >= 2, "{told:?}");
    assert!((4..100).contains(&told.replica_fetches), "two followers, parked for half a second: {told:?}");
    let mut stranger = fetch_request(0, 0);
    stranger.replica_state.replica_id = 9.into();
    let client = cluster.connect(leader);
    for asked in 1..=2 {
        let answer: km::FetchResponse = cluster.call(client, FETCH, 17, &stranger);
        assert_eq!(answer.error_code, ErrorCode::INVALID_REQUEST.0);
        assert_eq!(cluster.status(leader).counters.refused_requests, told.refused_requests + asked);
    }
    let refusals =
        |c: &Cluster| c.nodes[&leader].notes.iter().filter(|n| n.contains("refused a voter's")).count();
    assert_eq!(refusals(&cluster), 1, "one line in ten seconds");
    cluster.run_ms(10_001);
    let _: km::FetchResponse = cluster.call(client, FETCH, 17, &stranger);
    assert_eq!(refusals(&cluster), 2);
}

#[test]
fn the_leader_knows_how_far_each_voter_is() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    cluster.run_ms(3_000);
    let [lost, follower] = others(&cluster, leader)[..] else { panic!("two followers") };
    let in_sync = |cluster: &mut Cluster, client| {
        let answer = metadata(cluster, client);
        let mut nodes: Vec<i32> = answer.topics[0].partitions[0].isr_nodes.iter().map(|id| id.0).collect();
        nodes.sort_unstable();
        nodes
    };
    assert_eq!(in_sync(&mut cluster, client), [1, 2, 3]);
    cluster.kill(lost);
    let end = cluster.status(leader).log_end_offset;
    for _ in 0..3 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    }
    cluster.run_ms(1_000);
    assert_eq!(in_sync(&mut cluster, client), [1, 2, 3], "it may still come back");
    cluster.run_ms(1_700);
    let mut left = [leader.0, follower.0];
    left.sort_unstable();
    assert_eq!(in_sync(&mut cluster, client), left);
    let status = cluster.status(leader);
    assert!(status.ready && status.role == "leader");
    let of = |id: NodeId| status.voters.iter().find(|voter| voter.node_id == id.0).expect("a voter");
    assert_eq!((of(lost).log_end_offset, of(lost).lag), (end, 3));
    let ago = |ms: Option<u64>| ms.expect("it has fetched");
    assert!((2_700..3_300).contains(&ago(of(lost).last_fetch_ms_ago)), "{:?}", of(lost));
    assert!((2_700..3_300).contains(&ago(of(lost).last_caught_up_ms_ago)), "{:?}", of(lost));
    assert_eq!((of(follower).log_end_offset, of(follower).lag), (end + 3, 0));
    assert!(ago(of(follower).last_fetch_ms_ago) <= 500);
    // A follower knows what its leader tells.
    let status = cluster.status(follower);
    assert!(status.ready && status.role == "follower");
    assert!(status.voters.iter().all(|v| v.node_id == follower.0 || (v.log_end_offset, v.lag) == (-1, -1)));
    let client = cluster.connect(follower);
    assert_eq!(in_sync(&mut cluster, client), left, "all nodes say the same");
    cluster.kill(leader);
    let voter = cluster.connect(follower);
    let next_epoch = cluster.status(follower).epoch + 1;
    believe_requests(&mut cluster, follower);
    let _: km::VoteResponse = cluster.call(voter, VOTE, 2, &vote_request(lost, next_epoch));
    assert_eq!(cluster.status(follower).leader_id, None);
    assert_eq!(in_sync(&mut cluster, client), [] as [i32; 0]);
    assert!(!cluster.status(follower).ready);
}

#[test]
fn a_forwarded_question_is_not_forwarded_again() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    cluster.run_ms(700);
    let client = cluster.connect(others(&cluster, leader)[0]);
    cluster.client_id = FORWARD_CLIENT_ID;
    let answer: km::DescribeQuorumResponse =
        cluster.call(client, DESCRIBE_QUORUM, 2, &describe_quorum_request());
    assert_eq!(answer.topics[0].partitions[0].error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    cluster.client_id = "test";
    cluster.kill(leader);
    let before = cluster.now.monotonic_ns;
    let answer: km::DescribeQuorumResponse =
        cluster.call(client, DESCRIBE_QUORUM, 2, &describe_quorum_request());
    let error = answer.topics[0].partitions[0].error_code;
    assert_eq!(
        error,
        ErrorCode::NOT_LEADER_OR_FOLLOWER.0,
        "the leader is gone: this node says what it knows"
    );
    assert!(cluster.now.monotonic_ns - before < 100 * NS_PER_MS, "a refused connection is not waited for");
}

#[test]
fn a_leader_parks_a_fetch_for_half_of_the_fetch_timeout_at_most() {
    for (fetch_timeout_ms, wait_ms) in [(2000, 500), (600, 300)] {
        let config = Config { fetch_timeout_ms, ..config(1, 3) };
        assert_eq!(
            engine::raft_config(
                &config,
                &Voters::new(&config.voters),
                ReplicaKey { id: NodeId(1), directory_id: Uuid(1) },
                7
            )
            .fetch_wait_ms_max,
            wait_ms
        );
    }
}

#[test]
fn producer_ids_are_fresh_and_positive() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let mut ids = std::collections::BTreeSet::new();
    let request = km::InitProducerIdRequest::default().with_transactional_id(None);
    for _ in 0..64 {
        let answer: km::InitProducerIdResponse = cluster.call(client, INIT_PRODUCER_ID, 4, &request);
        assert!(answer.error_code == 0 && answer.producer_id.0 >= 0, "{answer:?}");
        ids.insert(answer.producer_id.0);
    }
    assert_eq!(ids.len(), 64);
}

#[test]
fn what_is_not_committed_is_kept_in_mind_until_it_is_committed_or_cut() {
    let mut cluster = cluster_with(1, |config| config.limits.uncommitted_bytes_max = 150);
    let leader = elect(&mut cluster);
    let replica = &mut cluster.nodes.get_mut(&leader).expect("a node").replica;
    let end = replica.engine.log().log_end().0.0;
    let uncommitted = |replica: &Replica| replica.standing().memory.uncommitted_bytes;
    assert_eq!(uncommitted(replica), 0);
    for ahead in 1..=3 {
        replica.engine.note_uncommitted(Offset(end + ahead), 50);
    }
    assert!(replica.is_full());
    replica.engine.do_truncate(LogEndOffset(Offset(end + 2)));
    assert_eq!(uncommitted(replica), 100, "a batch that ends at the cut stays");
    assert!(!replica.is_full());
    replica.engine.do_commit(HighWatermark(Offset(end + 1)));
    assert_eq!(uncommitted(replica), 50, "one that ends at the high watermark is committed");
    replica.engine.do_commit(HighWatermark(Offset(end + 2)));
    assert_eq!(uncommitted(replica), 0);
}

#[test]
fn a_full_disk_refuses_produce_until_there_is_room() {
    let mut cluster = cluster_with(1, |config| config.limits.disk_free_bytes_min = 1_000_000);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let records = batch(&[&[7; 100]]);
    let size = records.len() as u64;
    let free = |cluster: &mut Cluster, bytes| {
        cluster.input(leader, Input::DiskFree { bytes });
        produce(cluster, client, -1, records.clone()).0
    };
    assert_eq!(free(&mut cluster, 1_000_000), 0, "the least that is asked for");
    assert_eq!(
        cluster.nodes[&leader].replica.engine.disk_free_bytes(),
        1_000_000 - size,
        "counted between two looks"
    );
    assert_eq!(free(&mut cluster, 999_999), ErrorCode::KAFKA_STORAGE_ERROR.0);
    assert_eq!(free(&mut cluster, 0), ErrorCode::KAFKA_STORAGE_ERROR.0);
    assert_eq!(free(&mut cluster, 1_000_000), 0);
    assert_eq!(free(&mut cluster, u64::MAX), 0);
    let notes: Vec<&str> = cluster.nodes[&leader]
        .notes
        .iter()
        .filter(|note| note.contains("Produce is "))
        .map(|note| if note.contains("refused") { "refused" } else { "accepted" })
        .collect();
    assert_eq!(notes, ["refused", "accepted", "refused", "accepted"], "{:?}", cluster.nodes[&leader].notes);
}

#[test]
fn a_host_that_is_short_of_memory_gets_back_what_readers_have_of_it() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let mut kept_max = |available_bytes| {
        cluster.input(leader, Input::HostMemory(HostMemory { total_bytes: 1 << 30, available_bytes }));
        cluster.run_ms(1);
        let watched = cluster.status(leader).watched;
        (watched.blocks.bytes_max >> 20, watched.device_reads.max >> 20)
    };
    // Beside it what answers may have of it: a quarter, or what they may have of reads.
    assert_eq!(kept_max(1 << 29), (64, 16));
    assert_eq!(kept_max(1 << 26), (0, 12), "nothing is in it yet");
    assert_eq!([kept_max(1 << 29), kept_max(1 << 29)], [(16, 12), (32, 12)]);
}
