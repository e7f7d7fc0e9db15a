//! A voter whose log ends below the leader's begins anew with a snapshot: what it knows then, and that nothing is folded twice.

use super::fetch_snapshot::take_snapshot;
use super::*;
use crate::replica::snapshots::SnapshotFile;

/// Of two producers in turn.
fn of(i: i32) -> Bytes {
    data_batch(&[&[7; 700], &[8; 700]], 1_700_000_000_000, Some((i64::from(70 + i % 2), 0, i / 2 * 2)))
}

/// Of a producer that nobody hears of again.
fn produce_once(cluster: &mut Cluster, client: Client, producer_id: i64) {
    let records = data_batch(&[&[7; 700], &[8; 700]], 1_700_000_000_000, Some((producer_id, 0, 0)));
    assert_eq!(produce(cluster, client, -1, records).0, 0);
}

fn replica(cluster: &mut Cluster, id: NodeId) -> &mut Replica {
    &mut cluster.nodes.get_mut(&id).expect("it runs").replica
}

fn produce_some(cluster: &mut Cluster, client: Client, numbers: std::ops::Range<i32>) {
    numbers.for_each(|i| assert_eq!(produce(cluster, client, -1, of(i)).0, 0, "{i}"));
}

/// A leader of three, a follower of it that was cut off after ten batches of two records, and a client of the leader.
fn one_is_away() -> (Cluster, Client, NodeId) {
    let mut cluster = cluster_with(3, |config| {
        (config.limits.segment_bytes_max, config.limits.tail_cache_bytes_max) = (8192, 0);
        config.limits.index_interval_bytes = 1;
    });
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    produce_some(&mut cluster, client, 0..10);
    let away = others(&cluster, leader)[0];
    cluster.run_until("it has all", 1_000, |cluster| cluster.status(away).flushed_offset == 21);
    cluster.isolate(away);
    (cluster, client, away)
}

/// The other follower has it all, and holds the start too.
fn start_at(cluster: &mut Cluster, leader: NodeId, to: i64) {
    cluster.run_ms(600);
    let ids: Vec<NodeId> =
        cluster.nodes.keys().copied().filter(|id| !cluster.isolated.contains(id)).collect();
    for id in ids {
        let (snapshot, _) = replica(cluster, id).folded().expect("all is settled");
        replica(cluster, id).snapshot_taken(snapshot);
    }
    assert!(replica(cluster, leader).want_start(Offset(to)));
    cluster.run_ms(1_500);
    assert_eq!(cluster.status(leader).log_start_offset, to);
}

/// The start of the others' logs has passed its end. One producer is gone with what lies before the start, another wrote behind it.
fn one_is_below_the_start() -> (Cluster, Client, NodeId) {
    let (mut cluster, client, away) = one_is_away();
    produce_once(&mut cluster, client, 90);
    produce_some(&mut cluster, client, 10..40);
    start_at(&mut cluster, client.0, 41);
    produce_once(&mut cluster, client, 91);
    (cluster, client, away)
}

#[test]
fn a_voter_below_the_leaders_log_begins_where_that_begins() {
    let (mut cluster, client, away) = one_is_below_the_start();
    let leader = client.0;
    produce_some(&mut cluster, client, 40..44);
    // Its end lies behind the begin of the log, and more comes behind it.
    let (id, bytes) = take_snapshot(&mut cluster, leader);
    replica(&mut cluster, leader).snapshot_taken(id);
    produce_some(&mut cluster, client, 44..48);
    // It gets one that ends further on.
    assert_eq!(id.offset, Offset(93));
    cluster.hold_copies = true;
    cluster.isolated.remove(&away);
    cluster.run_ms(5_000);
    assert_eq!(cluster.status(away).log_end_offset, 21, "it waits, and follows");
    assert!(!cluster.held_copies.is_empty(), "it asks for a piece, again where the disk takes too long");
    let epoch = cluster.status(away).epoch;
    cluster.release_copies();
    cluster.run_until("it has all", 10_000, |cluster| cluster.status(away).flushed_offset == 101);
    assert_eq!(cluster.status(away).epoch, epoch, "it stood for nothing meanwhile");
    let begin = cluster.status(leader).log_start_offset;
    assert!(cluster.status(away).log_start_offset <= begin, "the batch of the start is given whole");
    assert_eq!(cluster.disks[&away].segments_kept(), cluster.disks[&leader].segments_kept());
    cluster.run_until("it knows what is committed", 10_000, |cluster| {
        cluster.status(away).high_watermark == Some(101)
    });
    let folded = replica(&mut cluster, away).folded().map(|(id, sections)| (id.offset, sections));
    assert_eq!(folded, replica(&mut cluster, leader).folded().map(|(id, sections)| (id.offset, sections)));
    let file = SnapshotFile { id, bytes: bytes.len() as u64 };
    assert_eq!(replica(&mut cluster, away).snapshots.status().newest, Some(file), "it came over the network");
}

#[test]
fn what_lies_below_the_snapshots_end_is_not_folded_again() {
    let (mut cluster, client, away) = one_is_below_the_start();
    let leader = client.0;
    let (id, _) = take_snapshot(&mut cluster, leader);
    replica(&mut cluster, leader).snapshot_taken(id);
    cluster.isolated.remove(&away);
    cluster.run_until("it has all", 10_000, |cluster| cluster.status(away).flushed_offset == 85);
    assert_eq!(cluster.status(away).log_end_offset, id.offset.0);
    let of_leader = replica(&mut cluster, leader).engine.folds().producers().clone();
    assert!(*replica(&mut cluster, away).engine.folds().producers() == of_leader);
}

#[test]
fn a_replica_that_ends_where_the_start_has_its_batch_goes_on_from_there() {
    let (mut cluster, client, away) = one_is_away();
    produce_some(&mut cluster, client, 10..14);
    // Inside of the first batch that it lacks.
    start_at(&mut cluster, client.0, 22);
    cluster.isolated.remove(&away);
    cluster.run_until("it has all", 10_000, |cluster| cluster.status(away).flushed_offset == 29);
    assert_eq!(cluster.status(away).counters.snapshots_fetched, 0);
    assert_eq!(cluster.status(away).log_start_offset, 0);
}

/// As taking and serving have it, in one node.
#[test]
fn a_snapshot_that_a_voter_is_being_given_stays_until_it_has_had_its_time() {
    let mut cluster = cluster_with(3, |config| {
        let limits = &mut config.limits;
        (limits.snapshot_piece_bytes_max, limits.snapshot_hold_ms) = (100, 60_000);
        (limits.snapshot_bytes_between, limits.snapshot_pause_ms) = (1, 1);
    });
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let newest =
        |cluster: &mut Cluster| replica(cluster, leader).snapshots.status().newest.map(|file| file.id);
    let take_next = |cluster: &mut Cluster| {
        let before = newest(cluster);
        assert_eq!(produce(cluster, client, -1, batch(&[b"x"])).0, 0);
        cluster.run_until("a snapshot", 5_000, |cluster| newest(cluster) > before);
        newest(cluster).expect("one")
    };
    take_next(&mut cluster);
    let given = take_next(&mut cluster);
    let kept = |cluster: &mut Cluster| replica(cluster, leader).snapshots.status().kept;
    // As if a voter had its first piece just now.
    let voter = others(&cluster, leader)[0];
    let node = replica(&mut cluster, leader);
    node.serving.hold(&node.desk, voter, given, 1_000);
    for _ in 0..3 {
        take_next(&mut cluster);
        cluster.run_ms(100);
    }
    assert_eq!(kept(&mut cluster), 4, "it, and whatever is newer: they go oldest first");
    cluster.run_ms(60_000);
    take_next(&mut cluster);
    cluster.run_ms(1_000);
    assert_eq!(kept(&mut cluster), 2);
}
