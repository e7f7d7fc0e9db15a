//! ListOffsets: special timestamps, scans that go to the disk, and their failures.

use super::*;
use crate::record::{BatchBuilder, RecordSpec};

/// Later than the LeaderChange record at offset 0.
const DAY_0: i64 = 1_700_000_100_000;

/// One voter whose log is read from the disk, with one record each 10 ms.
fn on_disk(count: i64) -> (Cluster, Client) {
    let mut cluster = cluster_with(1, |config| config.limits.tail_cache_bytes_max = 0);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for i in 0..count {
        let records = data_batch(&[&[7; 2000]], DAY_0 + i * 10, None);
        assert_eq!(produce(&mut cluster, client, -1, records).0, 0);
    }
    (cluster, client)
}

#[test]
fn kafkas_special_timestamps_and_two_questions_at_once() {
    let (mut cluster, client) = on_disk(3);
    let epoch = cluster.status(client.0).epoch;
    assert_eq!(list_offsets(&mut cluster, client, -4), (0, 0, -1, epoch), "earliest on this node");
    assert_eq!(list_offsets(&mut cluster, client, -5), (0, -1, -1, -1), "nothing is kept elsewhere");
    // One search for each request.
    cluster.send(client, LIST_OFFSETS, 7, &list_offsets_request(TOPIC, &[DAY_0, DAY_0 + 5]));
    cluster.run_ms(2);
    let lines = receive_offsets(&mut cluster, client).expect("an answer");
    assert_eq!(lines[0], (0, 1, DAY_0, epoch));
    assert_eq!((lines[1].0, lines[1].3), (ErrorCode::INVALID_REQUEST.0, -1));
}

#[test]
fn answers_name_the_epoch_of_their_offset() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, data_batch(&[b"x"], DAY_0, None));
    let epoch = cluster.status(leader).epoch;
    cluster.kill(leader);
    cluster.start(leader);
    elect(&mut cluster);
    assert!(cluster.status(leader).epoch > epoch);
    let client = cluster.connect(leader);
    assert_eq!(list_offsets(&mut cluster, client, DAY_0), (0, base, DAY_0, epoch));
    assert_eq!(list_offsets(&mut cluster, client, -2).3, epoch);
    let latest = list_offsets(&mut cluster, client, -1);
    assert_eq!((latest.1, latest.3), (base + 2, cluster.status(leader).epoch));
}

#[test]
fn a_search_goes_on_where_a_read_from_the_disk_found_nothing() {
    let (mut cluster, client) = on_disk(200);
    let epoch = cluster.status(client.0).epoch;
    // The index leads near it, the batches up to it are looked through.
    for i in [0, 1, 57, 130, 199] {
        assert_eq!(list_offsets(&mut cluster, client, DAY_0 + i * 10), (0, 1 + i, DAY_0 + i * 10, epoch));
    }
    assert_eq!(list_offsets(&mut cluster, client, -3), (0, 200, DAY_0 + 1990, epoch));
}

#[test]
fn a_search_whose_read_fails_says_so() {
    let (mut cluster, client) = on_disk(3);
    cluster.disks.get_mut(&client.0).expect("a disk").fail_reads = true;
    assert_eq!(list_offsets(&mut cluster, client, DAY_0).0, ErrorCode::KAFKA_STORAGE_ERROR.0);
    assert_eq!(fetch(&mut cluster, client, 1).0, ErrorCode::KAFKA_STORAGE_ERROR.0);
    let notes = &cluster.nodes[&client.0].notes;
    assert!(notes.iter().any(|note| note.contains("cannot serve offset 1")), "{notes:?}");
}

#[test]
fn in_a_compressed_batch_the_first_offset_is_found() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let zstd = 4;
    let records = BatchBuilder::new(DAY_0).attributes(zstd).raw_records(b"not looked at", 5).build();
    let (error, base) = produce(&mut cluster, client, -1, records);
    assert_eq!(error, 0);
    let (error, offset, ..) = list_offsets(&mut cluster, client, DAY_0 - 5);
    assert_eq!((error, offset), (0, base));
}

#[test]
fn the_largest_timestamp_is_not_told_before_it_is_committed() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    others(&cluster, leader).into_iter().for_each(|id| cluster.isolate(id));
    let late = cluster.now.wall_ms + 60_000;
    assert_eq!(produce(&mut cluster, client, 1, data_batch(&[b"x"], late, None)).0, 0);
    assert_eq!(list_offsets(&mut cluster, client, -3).0, ErrorCode::OFFSET_NOT_AVAILABLE.0);
    assert_eq!(list_offsets(&mut cluster, client, late).1, -1, "only what is committed is searched");
}

#[test]
fn in_a_plain_batch_the_record_itself_is_found() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let record = |timestamp_delta| RecordSpec { value: Some(b"x"), timestamp_delta, ..RecordSpec::default() };
    let records =
        [0, 10, 20].into_iter().fold(BatchBuilder::new(DAY_0), |b, delta| b.record(record(delta))).build();
    let (error, base) = produce(&mut cluster, client, -1, records);
    assert_eq!(error, 0);
    let (error, offset, timestamp, _) = list_offsets(&mut cluster, client, DAY_0 + 5);
    assert_eq!((error, offset, timestamp), (0, base + 1, DAY_0 + 10));
}
