//! A log that starts later: what clients are told of it, and that a restart finds it so.

use super::*;
use crate::log::{OpKind, ReadError};
use crate::record::compression::Codec;
use crate::record::{BatchBuilder, RecordSpec};

/// One voter with one record each 10 ms from offset 1 on, nothing of it in the tail cache.
fn on_disk(count: i64) -> (Cluster, Client) {
    with_records(count, |config| {
        config.limits.tail_cache_bytes_max = 0;
        config.limits.segment_bytes_max = 20_000;
    })
}

/// Behind a snapshot of all that is committed.
fn start_at(cluster: &mut Cluster, id: NodeId, to: i64) -> bool {
    let replica = &mut cluster.nodes.get_mut(&id).expect("a node").replica;
    let (snapshot, _) = replica.folded().expect("all is settled");
    replica.snapshot_taken(snapshot);
    let is_moving = replica.want_start(Offset(to));
    cluster.run_ms(20);
    is_moving
}

fn snapshot(cluster: &mut Cluster, id: NodeId) {
    let replica = &mut cluster.nodes.get_mut(&id).expect("a node").replica;
    let (snapshot, _) = replica.folded().expect("all is settled");
    replica.snapshot_taken(snapshot);
}

/// All nodes start there, and clients of the leader are told so.
fn all_start_at(cluster: &Cluster, start: i64) -> bool {
    let starts = |node: &super::cluster::Node| node.replica.standing().log_start == Offset(start);
    cluster.nodes.values().all(starts)
        && cluster.leader().is_some_and(|leader| cluster.status(leader).log_start_offset == start)
}

#[test]
fn a_start_is_told_when_a_majority_holds_it_and_another_leader_goes_on_with_it() {
    let mut cluster = cluster_with(3, |_| {});
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for _ in 0..9 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    }
    cluster.run_ms(600);
    let ids: Vec<NodeId> = cluster.nodes.keys().copied().collect();
    let others: Vec<NodeId> = ids.iter().copied().filter(|id| *id != leader).collect();
    snapshot(&mut cluster, leader);
    assert!(cluster.nodes.get_mut(&leader).expect("a node").replica.want_start(Offset(6)));
    cluster.run_ms(600);
    assert_eq!(list_offsets(&mut cluster, client, -2).1, 0, "nobody else has a snapshot");
    assert_eq!(
        cluster.nodes[&others[0]].replica.uncovered_start(),
        Some(Offset(6)),
        "and it knows that it is to"
    );
    snapshot(&mut cluster, others[0]);
    cluster.run_until("told", 2_000, |cluster| cluster.status(leader).log_start_offset == 6);
    assert_eq!(list_offsets(&mut cluster, client, -2).1, 6);
    assert_eq!(fetch(&mut cluster, client, 5).0, ErrorCode::OFFSET_OUT_OF_RANGE.0);
    cluster.kill(leader);
    let next = elect(&mut cluster);
    assert_ne!(next, leader);
    let client = cluster.connect(next);
    // Whoever leads, he was elected by one that has it.
    assert_eq!(cluster.nodes[&next].replica.engine.raft().wanted_start(), Offset(6));
    let (error, start, ..) = list_offsets(&mut cluster, client, -2);
    assert!(error == ErrorCode::OFFSET_NOT_AVAILABLE.0 || start == 6, "{error}, {start}");
    snapshot(&mut cluster, others[1]);
    cluster.start(leader);
    cluster.run_until("all start there", 5_000, |cluster| all_start_at(cluster, 6));
}

#[test]
fn nothing_goes_that_no_snapshot_covers() {
    let (mut cluster, client) = on_disk(10);
    let replica = &mut cluster.nodes.get_mut(&client.0).expect("a node").replica;
    let (end, _) = replica.folded().expect("all is settled");
    assert!(replica.want_start(Offset(5)), "there is none yet");
    replica.snapshot_taken(OffsetAndEpoch { offset: Offset(4), ..end });
    cluster.run_ms(20);
    assert_eq!(cluster.status(client.0).log_start_offset, 0, "it ends before");
    let replica = &mut cluster.nodes.get_mut(&client.0).expect("a node").replica;
    replica.snapshot_taken(OffsetAndEpoch { offset: Offset(5), ..end });
    replica.snapshot_taken(OffsetAndEpoch { offset: Offset(4), ..end });
    cluster.run_ms(20);
    assert_eq!(cluster.status(client.0).log_start_offset, 5, "an older one takes nothing back");
}

#[test]
fn what_lies_before_the_start_is_out_of_range_and_stays_so() {
    let (mut cluster, client) = on_disk(30);
    let (leader, epoch) = (client.0, cluster.status(client.0).epoch);
    let before = cluster.status(leader).log_size_bytes;
    assert!(!start_at(&mut cluster, leader, 32), "above the high watermark");
    assert!(!start_at(&mut cluster, leader, 0), "where it is");
    assert!(start_at(&mut cluster, leader, 25));
    assert!(!start_at(&mut cluster, leader, 24), "back");
    let check = |cluster: &mut Cluster, client: Client| {
        assert_eq!(cluster.status(client.0).log_start_offset, 25);
        assert_eq!(fetch(cluster, client, 24).0, ErrorCode::OFFSET_OUT_OF_RANGE.0);
        assert_eq!(fetch(cluster, client, 0).0, ErrorCode::OFFSET_OUT_OF_RANGE.0);
        assert_eq!(fetch(cluster, client, 25).2[..2], [25, 26]);
        for earliest in [-2, -4] {
            assert_eq!(list_offsets(cluster, client, earliest), (0, 25, -1, epoch));
        }
        assert_eq!(
            list_offsets(cluster, client, DAY_0),
            (0, 25, DAY_0 + 240, epoch),
            "the first that is there"
        );
        assert_eq!(list_offsets(cluster, client, -3), (0, 30, DAY_0 + 290, epoch));
        let answer: km::FetchResponse = cluster.call(client, FETCH, 12, &fetch_request(3, 100));
        assert_eq!(answer.responses[0].partitions[0].log_start_offset, 25);
        assert!(cluster.status(client.0).log_size_bytes < before / 2, "whole segments went");
    };
    check(&mut cluster, client);
    cluster.kill(leader);
    cluster.start(leader);
    elect(&mut cluster);
    let client = cluster.connect(leader);
    check(&mut cluster, client);
}

#[test]
fn a_search_finds_no_record_before_the_start_inside_of_a_batch() {
    for codec in [Codec::None, Codec::Lz4] {
        let (mut cluster, client) = on_disk(2);
        let epoch = cluster.status(client.0).epoch;
        let record =
            |timestamp_delta| RecordSpec { value: Some(b"x"), timestamp_delta, ..RecordSpec::default() };
        let add = |builder: BatchBuilder, delta: &i64| builder.record(record(*delta));
        let batch = [100, 110, 130, 120].iter().fold(BatchBuilder::new(DAY_0), add).build();
        let batch = codec.compress_batch(batch).expect("it compresses");
        let (error, base) = produce(&mut cluster, client, -1, batch);
        assert_eq!((error, base), (0, 3));
        assert!(start_at(&mut cluster, client.0, 5));
        assert_eq!(list_offsets(&mut cluster, client, DAY_0), (0, 5, DAY_0 + 130, epoch), "{codec:?}");
        assert_eq!(fetch(&mut cluster, client, 5).2, [3], "the batch is served whole");
    }
}

/// A batch with records at these times after `DAY_0`, each so large.
fn records_at(times: &[i64], value: &[u8]) -> Bytes {
    let record =
        |timestamp_delta| RecordSpec { value: Some(value), timestamp_delta, ..RecordSpec::default() };
    let add = |builder: BatchBuilder, delta: &i64| builder.record(record(*delta));
    times.iter().fold(BatchBuilder::new(DAY_0), add).build()
}

/// The record that had the latest time of all lies before the start, in a segment that stays.
#[test]
fn the_latest_of_all_records_is_the_latest_of_those_that_are_left() {
    for (in_memory, codec) in [(true, Codec::None), (false, Codec::None), (false, Codec::Lz4)] {
        let change: fn(&mut Config) = match in_memory {
            true => |config| config.limits.segment_bytes_max = 20_000,
            false => |config| {
                config.limits.tail_cache_bytes_max = 0;
                config.limits.segment_bytes_max = 20_000;
            },
        };
        let (mut cluster, client) = with_records(0, change);
        let epoch = cluster.status(client.0).epoch;
        let put = |cluster: &mut Cluster, times: &[i64]| {
            let batch = codec.compress_batch(records_at(times, &[7; 300])).expect("it compresses");
            produce(cluster, client, -1, batch).1
        };
        // From offset 1 on; the start will lie in the first batch, behind the latest record.
        assert_eq!(put(&mut cluster, &[900, 60, 80, 70]), 1);
        let latest = |cluster: &mut Cluster| {
            let (error, offset, time, at) = list_offsets(cluster, client, -3);
            assert_eq!((error, at), (0, epoch), "{codec:?}");
            (offset, time - DAY_0)
        };
        assert_eq!(latest(&mut cluster), (1, 900));
        assert!(start_at(&mut cluster, client.0, 2));
        assert_eq!(latest(&mut cluster), (3, 80), "{codec:?}: in the batch itself");
        // Some segments of records, the latest of which lies in one of them, and two are equal.
        let mut found = None;
        for i in 0..60 {
            let times = if i == 20 || i == 30 { [500, 600, 40] } else { [10, 20 + i, 30] };
            let base = put(&mut cluster, &times);
            found = found.or((i == 20).then_some(base + 1));
        }
        assert_eq!(latest(&mut cluster), (found.expect("it was put"), 600), "{codec:?}: behind it");
        let newest = put(&mut cluster, &[10, 700]);
        assert_eq!(latest(&mut cluster), (newest + 1, 700), "{codec:?}: at the end");
        assert!(start_at(&mut cluster, client.0, newest + 2));
        assert_eq!(list_offsets(&mut cluster, client, -3), (0, -1, -1, -1), "{codec:?}: there is none");
    }
}

/// A time that only records before the start had, in a log whose other runs are all older.
#[test]
fn a_search_reads_no_more_than_the_runs_that_may_have_the_time() {
    let (mut cluster, client) = with_records(0, |config| {
        config.limits.tail_cache_bytes_max = 0;
        config.limits.read_cache_bytes_max = 0;
    });
    assert_eq!(produce(&mut cluster, client, -1, records_at(&[900, 10], &[7; 300])).1, 1);
    for _ in 0..300 {
        assert_eq!(produce(&mut cluster, client, -1, records_at(&[10, 20], &[7; 2000])).0, 0);
    }
    assert!(start_at(&mut cluster, client.0, 2));
    let misses = |cluster: &Cluster| cluster.nodes[&client.0].replica.engine.log().block_counts().misses;
    let before = misses(&cluster);
    assert_eq!(list_offsets(&mut cluster, client, DAY_0 + 500).1, -1);
    let read = misses(&cluster) - before;
    assert!(read <= 2, "the run in which the start lies, of some hundred: {read}");
}

#[test]
fn who_waits_for_what_goes_is_told_so() {
    let (mut cluster, client) = with_records(30, |_| {});
    // More than there is, so it waits.
    let mut request = fetch_request(2, 400);
    request.min_bytes = 1 << 20;
    cluster.send(client, FETCH, 12, &request);
    cluster.run_ms(5);
    assert!(start_at(&mut cluster, client.0, 25));
    cluster.run_ms(500);
    let answer = receive_fetch(&mut cluster, client).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::OFFSET_OUT_OF_RANGE.0);
}

/// What a read brings that was under way when the start passed what it reads, in the same segment.
fn passed_by_the_start(fails: bool, ask: impl Fn(&mut Cluster, Client)) -> (Cluster, Client) {
    let (mut cluster, client) = on_disk(30);
    // No longer does the log write.
    cluster.run_ms(300);
    cluster.hold = |_, kind| matches!(kind, OpKind::Read { .. });
    cluster.disks.get_mut(&client.0).expect("a disk").fail_reads = fails;
    ask(&mut cluster, client);
    cluster.run_ms(5);
    cluster.disks.get_mut(&client.0).expect("a disk").fail_reads = false;
    assert!(start_at(&mut cluster, client.0, 5));
    assert_eq!(cluster.status(client.0).log_start_offset, 5);
    cluster.release();
    cluster.run_ms(20);
    (cluster, client)
}

#[test]
fn a_read_under_way_serves_nothing_that_the_start_has_passed() {
    for fails in [false, true] {
        let fetch = |cluster: &mut Cluster, client| cluster.send(client, FETCH, 12, &fetch_request(2, 100));
        let (mut cluster, client) = passed_by_the_start(fails, fetch);
        let answer = receive_fetch(&mut cluster, client).expect("an answer");
        assert_eq!(answer.error_code, ErrorCode::OFFSET_OUT_OF_RANGE.0, "the read fails: {fails}");
        assert_eq!(cluster.status(client.0).log_damage, None);

        let search = list_offsets_request(TOPIC, &[DAY_0 + 10]);
        let look = |cluster: &mut Cluster, client| cluster.send(client, LIST_OFFSETS, 10, &search);
        let (mut cluster, client) = passed_by_the_start(fails, look);
        let (answer, epoch) = (receive_offsets(&mut cluster, client), cluster.status(client.0).epoch);
        assert_eq!(answer, Some(vec![(0, 5, DAY_0 + 40, epoch)]), "the read fails: {fails}");
        assert_eq!(cluster.status(client.0).log_damage, None);
    }
}

#[test]
fn no_damage_is_noted_of_what_is_no_more_of_the_log() {
    let (mut cluster, client) = on_disk(30);
    assert!(start_at(&mut cluster, client.0, 5));
    let now = cluster.now;
    for (at, is_noted) in [(4, false), (5, true)] {
        let engine = &mut cluster.nodes.get_mut(&client.0).expect("a node").replica.engine;
        engine.on_unreadable(now, "cannot serve", Offset(at), &ReadError::Gone);
        assert_eq!(engine.log_damage().is_some(), is_noted, "at {at}");
    }
}

#[test]
fn who_has_waited_is_told_the_start_of_now() {
    let (mut cluster, client) = with_records(30, |_| {});
    let waits = cluster.connect(client.0);
    cluster.send(waits, FETCH, 12, &fetch_request(31, 5_000));
    cluster.run_ms(5);
    assert!(start_at(&mut cluster, client.0, 25));
    assert_eq!(list_offsets(&mut cluster, client, -2).1, 25);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])), (0, 31));
    cluster.run_ms(5);
    let answer = receive_fetch(&mut cluster, waits).expect("an answer");
    assert_eq!((answer.error_code, answer.high_watermark, answer.log_start_offset), (0, 32, 25));
}
