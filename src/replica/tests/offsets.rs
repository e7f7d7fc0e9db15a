//! ListOffsets: special timestamps, scans that go to the disk, and their failures.

use super::*;
use crate::record::compression::Codec;
use crate::record::{BatchBuilder, RecordSpec};
use crate::replica::inspection::Patience;
use crate::replica::room::reads::charge_bytes;

/// One voter whose log is read from the disk, with one record each 10 ms.
fn on_disk(count: i64) -> (Cluster, Client) {
    with_records(count, |config| config.limits.tail_cache_bytes_max = 0)
}

#[test]
fn kafkas_special_timestamps_and_a_partition_that_is_named_again() {
    let (mut cluster, client) = on_disk(3);
    let epoch = cluster.status(client.0).epoch;
    assert_eq!(list_offsets(&mut cluster, client, -4), (0, 0, -1, epoch), "earliest on this node");
    assert_eq!(list_offsets(&mut cluster, client, -5), (0, -1, -1, -1), "nothing is kept elsewhere");
    // Nothing is looked for: one request could ask for the same thing fifty thousand times.
    for timestamps in [[DAY_0, DAY_0 + 5], [-3, -3], [-1, -2]] {
        cluster.send(client, LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &timestamps));
        cluster.run_ms(2);
        let lines = receive_offsets(&mut cluster, client).expect("an answer");
        assert_eq!(lines, [(ErrorCode::INVALID_REQUEST.0, -1, -1, -1); 2], "{timestamps:?}");
    }
    let (mut request, another) = (list_offsets_request(TOPIC, &[DAY_0]), list_offsets_request("b", &[-1]));
    request.topics.extend(another.topics);
    cluster.send(client, LIST_OFFSETS, 10, &request);
    cluster.run_ms(2);
    assert_eq!(receive_offsets(&mut cluster, client), Some(vec![(0, 1, DAY_0, epoch)]));
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

fn compressed(codec: Codec, deltas: &[i64]) -> Bytes {
    let record = |timestamp_delta| RecordSpec { value: Some(b"x"), timestamp_delta, ..RecordSpec::default() };
    let add = |builder: BatchBuilder, delta: &i64| builder.record(record(*delta));
    codec.compress_batch(deltas.iter().fold(BatchBuilder::new(DAY_0), add).build()).expect("it compresses")
}

#[test]
fn in_a_compressed_batch_the_record_itself_is_found() {
    for codec in [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd] {
        let (mut cluster, client) = on_disk(0);
        let epoch = cluster.status(client.0).epoch;
        let (error, base) = produce(&mut cluster, client, -1, compressed(codec, &[0, 10, 30, 20]));
        assert_eq!(error, 0);
        assert_eq!(list_offsets(&mut cluster, client, DAY_0 + 5), (0, base + 1, DAY_0 + 10, epoch));
        assert_eq!(list_offsets(&mut cluster, client, DAY_0 + 11), (0, base + 2, DAY_0 + 30, epoch));
        assert_eq!(
            list_offsets(&mut cluster, client, -3),
            (0, base + 2, DAY_0 + 30, epoch),
            "the newest of all"
        );
        assert_eq!(list_offsets(&mut cluster, client, DAY_0 + 31).1, -1);
    }
}

/// Its header says nothing of use: what counts is what is inside.
#[test]
fn the_maximum_timestamp_that_a_producer_left_out_is_found_all_the_same() {
    for codec in [Codec::None, Codec::Lz4] {
        let mut cluster = cluster(1);
        let leader = elect(&mut cluster);
        let client = cluster.connect(leader);
        let without = crate::record::tests::altered(compressed(codec, &[0, 10]), 35, &(-1_i64).to_be_bytes());
        let (error, base) = produce(&mut cluster, client, -1, without);
        assert_eq!(error, 0);
        let (_, offset, timestamp, _) = list_offsets(&mut cluster, client, DAY_0 + 10);
        assert_eq!((offset, timestamp), (base + 1, DAY_0 + 10));
        assert_eq!(list_offsets(&mut cluster, client, -3).1, base + 1);
    }
}

/// Written before anybody looked, or with the check off: a consumer can read on from its first offset.
#[test]
fn in_a_compressed_batch_that_cannot_be_read_the_first_offset_is_found() {
    let mut cluster = cluster_with(1, |config| config.compressed_check = CompressedCheck::Off);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let records = BatchBuilder::new(DAY_0).attributes(4).raw_records(b"not looked at", 5).build();
    let (error, base) = produce(&mut cluster, client, -1, records);
    assert_eq!(error, 0);
    let (error, offset, ..) = list_offsets(&mut cluster, client, DAY_0 - 5);
    assert_eq!((error, offset), (0, base));
}

#[test]
fn what_is_compressed_and_broken_is_not_appended() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let end = cluster.status(leader).log_end_offset;
    for (stream, count) in [(&b"no gzip"[..], 1), (&compressed(Codec::Gzip, &[0])[61..], i32::MAX)] {
        let records = BatchBuilder::new(DAY_0).attributes(1).raw_records(stream, count).build();
        let (error, base) = produce(&mut cluster, client, -1, records);
        assert_eq!((error, base), (ErrorCode::INVALID_RECORD.0, -1));
    }
    assert_eq!(cluster.status(leader).log_end_offset, end);
}

/// A client of a leader that nobody follows any more, and the time of a record that is therefore not committed. Those of
/// these times are.
fn with_uncommitted(committed: &[i64]) -> (Cluster, Client, i64) {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for timestamp in committed {
        assert_eq!(produce(&mut cluster, client, -1, data_batch(&[b"x"], *timestamp, None)).0, 0);
    }
    others(&cluster, leader).into_iter().for_each(|id| cluster.isolate(id));
    let late = DAY_0 + 1_000_000;
    assert_eq!(produce(&mut cluster, client, 1, data_batch(&[b"x"], late, None)).0, 0);
    (cluster, client, late)
}

#[test]
fn the_largest_timestamp_is_not_told_before_it_is_committed() {
    let (mut cluster, client, late) = with_uncommitted(&[]);
    assert_eq!(list_offsets(&mut cluster, client, -3), (0, -1, -1, -1));
    assert_eq!(list_offsets(&mut cluster, client, late).1, -1, "only what is committed is searched");
    // Under load the newest record is never committed yet: the others are told, and nobody is asked to come again.
    let (mut cluster, client, late) = with_uncommitted(&[DAY_0, DAY_0 + 20, DAY_0 + 10]);
    let epoch = cluster.status(client.0).epoch;
    assert_eq!(list_offsets(&mut cluster, client, -3), (0, 2, DAY_0 + 20, epoch));
    assert_eq!(list_offsets(&mut cluster, client, late).1, -1);
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

#[test]
fn older_clients_are_told_what_they_know_of() {
    let (mut cluster, client, _) = with_uncommitted(&[]);
    let mut ask = |version: i16, timestamp: i64| {
        cluster.send(client, LIST_OFFSETS, version, &list_offsets_request(TOPIC, &[timestamp]));
        cluster.run_ms(2);
        let answer: Option<km::ListOffsetsResponse> = cluster.receive(client, LIST_OFFSETS, version);
        ErrorCode(answer.expect("an answer").topics[0].partitions[0].error_code)
    };
    // KIP-734, 1005 and 1023 have each brought a time of their own.
    let first_versions = [(-3, 7), (-4, 8), (-5, 9)];
    for (timestamp, first) in first_versions {
        assert_eq!(ask(first - 1, timestamp), ErrorCode::UNSUPPORTED_VERSION, "{timestamp}");
        assert_ne!(ask(first, timestamp), ErrorCode::UNSUPPORTED_VERSION, "{timestamp}");
    }
    assert_eq!(ask(10, -6), ErrorCode::UNSUPPORTED_VERSION, "of version 11");
    assert_eq!(ask(10, -7), ErrorCode::UNSUPPORTED_VERSION);
    assert_eq!(ask(7, -3), ErrorCode::NONE);
}

#[test]
fn a_leader_that_knows_of_no_commit_asks_older_clients_to_repeat() {
    let mut cluster = cluster(3);
    let first = elect(&mut cluster);
    cluster.kill(first);
    // One of the two others leads, and nothing of its epoch is committed while they cannot hear each other.
    cluster.run_until("another leader", 30_000, |c| c.leader().is_some_and(|id| id != first));
    let leader = cluster.leader().expect("a leader");
    others(&cluster, leader).into_iter().for_each(|id| cluster.isolate(id));
    assert_eq!(cluster.status(leader).high_watermark, None, "committed before the others were cut off");
    let client = cluster.connect(leader);
    for (version, expected) in [
        (1, ErrorCode::LEADER_NOT_AVAILABLE),
        (4, ErrorCode::LEADER_NOT_AVAILABLE),
        (5, ErrorCode::OFFSET_NOT_AVAILABLE),
    ] {
        cluster.send(client, LIST_OFFSETS, version, &list_offsets_request(TOPIC, &[-1]));
        cluster.run_ms(2);
        let answer: Option<km::ListOffsetsResponse> = cluster.receive(client, LIST_OFFSETS, version);
        let told = ErrorCode(answer.expect("an answer").topics[0].partitions[0].error_code);
        assert_eq!(told, expected, "version {version}");
    }
}

#[test]
fn no_time_leads_to_a_leader_change() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let nothing = (0, -1, -1, -1);
    assert_eq!(list_offsets(&mut cluster, client, -3), nothing, "no record has a time");
    assert_eq!(list_offsets(&mut cluster, client, 0), nothing);
    // Older than the leader's change.
    let early = 1_000_000;
    let (_, base) = produce(&mut cluster, client, -1, data_batch(&[b"x"], early, None));
    let epoch = cluster.status(leader).epoch;
    cluster.kill(leader);
    cluster.start(leader);
    elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(cluster.status(leader).log_end_offset, base + 2, "the new epoch's change stands behind it");
    for timestamp in [-3, 0, early] {
        assert_eq!(list_offsets(&mut cluster, client, timestamp), (0, base, early, epoch), "{timestamp}");
    }
    assert_eq!(list_offsets(&mut cluster, client, early + 1), nothing);
}

/// What a node was started with, and what it was cut to, count as what it was told since.
#[test]
fn the_largest_timestamp_is_known_again_after_a_start_and_after_a_cut() {
    let (mut cluster, client, late) = with_uncommitted(&[DAY_0, DAY_0 + 20]);
    let former = client.0;
    cluster.kill(former);
    let rest = others(&cluster, former);
    rest.iter().for_each(|id| _ = cluster.isolated.remove(id));
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let (_, newest) = produce(&mut cluster, client, -1, data_batch(&[b"y"], DAY_0 + 30, None));
    cluster.start(former);
    cluster.run_until("the former leader is cut and follows", 30_000, |c| {
        c.status(former).log_end_offset == newest + 1 && c.status(former).high_watermark == Some(newest + 1)
    });
    cluster.kill(leader);
    cluster.run_until("another leader", 30_000, |c| c.leader().is_some_and(|id| id != leader));
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(list_offsets(&mut cluster, client, late).1, -1);
    assert_eq!(list_offsets(&mut cluster, client, -3).1, newest);
    let known = |cluster: &Cluster, id: NodeId| cluster.nodes[&id].replica.engine.latest_committed();
    assert_eq!(known(&cluster, former), Some(DAY_0 + 30), "it was {late} before the cut");
}

/// One voter, the batches that it has on the disk alone, and so many clients that each look for the last record of the last one.
fn who_search(count: usize, batches: &[Bytes]) -> (Cluster, Vec<Client>, i64) {
    let (mut cluster, client) = on_disk(0);
    for batch in batches {
        assert_eq!(produce(&mut cluster, client, -1, batch.clone()).0, 0);
    }
    let clients: Vec<Client> = (0..count).map(|_| cluster.connect(client.0)).collect();
    let last = cluster.status(client.0).log_end_offset - 1;
    (cluster, clients, last)
}

/// Each of them holds a batch that was read: the others wait without one, and each has its turn.
#[test]
fn a_few_look_into_batches_at_once_and_the_others_wait_with_nothing_in_hand() {
    let (mut cluster, clients, last) = who_search(10, &[compressed(Codec::Lz4, &[0, 10])]);
    cluster.hold_searches = true;
    for client in &clients {
        cluster.send(*client, LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &[DAY_0 + 10]));
    }
    let (mut rounds, mut answered) = (0, Vec::new());
    while answered.len() < clients.len() {
        cluster.run_ms(5);
        let left = clients.len() - answered.len();
        assert_eq!(cluster.held_searches.len(), left.min(4));
        let replica = &cluster.nodes[&clients[0].0].replica;
        assert_eq!(replica.list_offsets.searches(), left);
        // A batch of some bytes is charged as the largest that it could have been.
        assert!(replica.desk.reads.held_bytes() <= 4 * (2 << 20), "{}", replica.desk.reads.held_bytes());
        cluster.release_searches();
        cluster.run_ms(5);
        for (place, client) in clients.iter().enumerate() {
            if let Some(lines) = receive_offsets(&mut cluster, *client) {
                assert_eq!((lines[0].0, lines[0].1), (0, last));
                answered.push(place);
            }
        }
        rounds += 1;
        assert!(rounds < 20);
    }
    assert!(answered.is_sorted(), "who came first is first: {answered:?}");
    assert_eq!(cluster.nodes[&clients[0].0].replica.desk.reads.held_bytes(), 0);
}

/// As many as there are threads for, and no more than leave others the half of what may be read.
#[test]
fn more_threads_look_into_more_batches_at_once() {
    let many = |config: &mut Config| {
        config.limits.tail_cache_bytes_max = 0;
        config.limits.inspection_threads = 3;
        config.limits.device_reads_bytes_max = 24 << 20;
    };
    let too_many = |config: &mut Config| {
        config.limits.tail_cache_bytes_max = 0;
        config.limits.inspection_threads = 60;
        config.limits.device_reads_bytes_max = 10 * charge_bytes(config.limits.message_bytes_max, 2 << 20);
        config.limits.read_cache_bytes_max = 0;
    };
    for (change, expected) in [(many as fn(&mut Config), 6), (too_many, 5)] {
        let (mut cluster, client) = with_records(0, change);
        assert_eq!(produce(&mut cluster, client, -1, compressed(Codec::Lz4, &[0, 10])).0, 0);
        cluster.hold_searches = true;
        for _ in 0..10 {
            let client = cluster.connect(client.0);
            cluster.send(client, LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &[DAY_0 + 10]));
        }
        cluster.run_ms(5);
        assert_eq!(cluster.held_searches.len(), expected);
    }
}

#[test]
fn a_search_ends_with_its_connection() {
    let (mut cluster, clients, last) = who_search(12, &[compressed(Codec::Zstd, &[0, 10])]);
    cluster.hold_searches = true;
    for client in &clients[..11] {
        cluster.send(*client, LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &[DAY_0 + 10]));
    }
    cluster.run_ms(5);
    assert_eq!(cluster.held_searches.len(), 4);
    assert!(cluster.held_searches.iter().all(|(_, search)| !search.wanted.is_over()));
    clients[..11].iter().for_each(|client| cluster.disconnect(*client));
    cluster.run_ms(5);
    assert_eq!(cluster.nodes[&clients[0].0].replica.list_offsets.searches(), 0);
    assert!(
        cluster.held_searches.iter().all(|(_, search)| search.wanted.is_over()),
        "nobody goes on with them"
    );
    assert_eq!(cluster.held_searches.len(), 4, "and nobody else's has begun");
    cluster.hold_searches = false;
    cluster.release_searches();
    assert_eq!(list_offsets(&mut cluster, clients[11], DAY_0 + 10).1, last);
}

/// A hundred thousand records are not walked in a turn, which may be asked for hundreds of such searches.
#[test]
fn a_large_plain_batch_is_looked_into_elsewhere_too() {
    let record =
        |timestamp_delta| RecordSpec { value: Some(&[7; 10]), timestamp_delta, ..RecordSpec::default() };
    let plain = (0..2_000).fold(BatchBuilder::new(DAY_0), |builder, delta| builder.record(record(delta)));
    let (mut cluster, clients, last) = who_search(1, &[plain.build()]);
    cluster.hold_searches = true;
    cluster.send(clients[0], LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &[DAY_0 + 1_990]));
    cluster.run_ms(5);
    assert_eq!(cluster.held_searches.len(), 1);
    cluster.release_searches();
    cluster.run_ms(5);
    let lines = receive_offsets(&mut cluster, clients[0]).expect("an answer");
    assert_eq!((lines[0].0, lines[0].1, lines[0].2), (0, last - 9, DAY_0 + 1_990));
}

/// What grows much is looked into in a line of its own, and is found there.
#[test]
fn those_who_search_in_bombs_wait_for_each_other_and_for_nobody_else() {
    let zeros = vec![0; 8 << 20];
    let bomb = Codec::Gzip.compress_batch(data_batch(&[&zeros], DAY_0 + 10, None)).expect("it compresses");
    let small = compressed(Codec::Gzip, &[30]);
    let (mut cluster, clients, last) = who_search(8, &[bomb, small]);
    let (bombs, other) = (&clients[..7], clients[7]);
    cluster.hold_searches = true;
    for client in bombs {
        cluster.send(*client, LIST_OFFSETS, 10, &list_offsets_request(TOPIC, &[DAY_0 + 5]));
    }
    cluster.run_ms(5);
    for _ in 0..2 {
        cluster.release_searches();
        cluster.run_ms(5);
        let held = std::mem::take(&mut cluster.held_searches);
        let (long, short): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(_, search)| search.patience == Patience::Long);
        cluster.held_searches = short;
        if cluster.held_searches.is_empty() {
            // All are known to be bombs.
            assert_eq!(long.len(), 2);
            cluster.hold_searches = false;
            assert_eq!(list_offsets(&mut cluster, other, DAY_0 + 30).1, last, "it waits for none of them");
            cluster.held_searches = long;
            cluster.release_searches();
            cluster.run_ms(20);
            for client in bombs {
                let lines = receive_offsets(&mut cluster, *client).expect("an answer");
                assert_eq!((lines[0].0, lines[0].1, lines[0].2), (0, last - 1, DAY_0 + 10));
            }
            return;
        }
        cluster.held_searches.extend(long);
    }
    panic!("seven short looks take two rounds of four");
}
