//! A voter whose log ends below the leader's begins anew with a snapshot: what it knows then, and that nothing is folded twice.

use super::*;
use crate::log::{ReadSnapshot, Snapshot};
use crate::replica::folds::{Folds, origin_section};

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
    replica(&mut cluster, away).take_snapshots();
    (cluster, client, away)
}

/// What the leader has folded from all that is committed, as a snapshot of it would hold it.
fn snapshot_of(cluster: &mut Cluster, leader: NodeId) -> (OffsetAndEpoch, Folds) {
    let (id, mut sections) = replica(cluster, leader).folded().expect("all is settled");
    let config = config(1, 3);
    sections.push(origin_section(&config));
    let snapshot = Snapshot { id, sections, ..Snapshot::default() };
    let folds = Folds::of_snapshot(&config, &ReadSnapshot { snapshot, foreign_records: 0 });
    (id, folds.expect("it is of this log"))
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

fn wanted(cluster: &mut Cluster, away: NodeId) -> WantedSnapshot {
    let mut wanted = None;
    cluster.run_until("it is named a snapshot", 10_000, |cluster| {
        wanted = replica(cluster, away).poll_wanted_snapshot().or(wanted);
        wanted.is_some()
    });
    wanted.expect("one")
}

#[test]
fn a_voter_below_the_leaders_log_begins_where_that_begins() {
    let (mut cluster, client, away) = one_is_away();
    let leader = client.0;
    // Gone with the start, and between that and the snapshot's end.
    produce_once(&mut cluster, client, 90);
    produce_some(&mut cluster, client, 10..40);
    start_at(&mut cluster, leader, 41);
    produce_once(&mut cluster, client, 91);
    produce_some(&mut cluster, client, 40..44);
    // Its end lies behind the begin of the log, and more comes behind it.
    let (id, folds) = snapshot_of(&mut cluster, leader);
    produce_some(&mut cluster, client, 44..48);
    cluster.isolated.remove(&away);
    let WantedSnapshot { from, begin, .. } = wanted(&mut cluster, away);
    assert_eq!((from, begin.offset.0 <= 41, id.offset), (leader, true, Offset(93)));
    cluster.run_ms(5_000);
    assert_eq!(cluster.status(away).log_end_offset, 21, "it waits, and follows");
    let now = cluster.now;
    replica(&mut cluster, away).snapshot_fetched(now, id, folds);
    cluster.run_until("it has all", 10_000, |cluster| cluster.status(away).flushed_offset == 101);
    assert_eq!(cluster.status(away).log_start_offset, begin.offset.0);
    assert_eq!(cluster.disks[&away].segments_kept(), cluster.disks[&leader].segments_kept());
    cluster.run_until("it knows what is committed", 10_000, |cluster| {
        cluster.status(away).high_watermark == Some(101)
    });
    let folded = replica(&mut cluster, away).folded().map(|(id, sections)| (id.offset, sections));
    assert_eq!(folded, replica(&mut cluster, leader).folded().map(|(id, sections)| (id.offset, sections)));
}

#[test]
fn what_lies_below_the_snapshots_end_is_not_folded_again() {
    let (mut cluster, client, away) = one_is_away();
    let leader = client.0;
    produce_once(&mut cluster, client, 90);
    produce_some(&mut cluster, client, 10..40);
    start_at(&mut cluster, leader, 41);
    produce_once(&mut cluster, client, 91);
    let (id, folds) = snapshot_of(&mut cluster, leader);
    cluster.isolated.remove(&away);
    wanted(&mut cluster, away);
    let now = cluster.now;
    replica(&mut cluster, away).snapshot_fetched(now, id, folds.clone());
    cluster.run_until("it has all", 10_000, |cluster| cluster.status(away).flushed_offset == 85);
    assert_eq!(cluster.status(away).log_end_offset, id.offset.0);
    assert!(replica(&mut cluster, away).engine.folds().producers() == folds.producers());
}

#[test]
fn a_replica_that_ends_where_the_start_has_its_batch_goes_on_from_there() {
    let (mut cluster, client, away) = one_is_away();
    produce_some(&mut cluster, client, 10..14);
    // Inside of the first batch that it lacks.
    start_at(&mut cluster, client.0, 22);
    cluster.isolated.remove(&away);
    cluster.run_until("it has all", 10_000, |cluster| cluster.status(away).flushed_offset == 29);
    assert_eq!(replica(&mut cluster, away).poll_wanted_snapshot(), None);
    assert_eq!(cluster.status(away).log_start_offset, 0);
}

#[test]
fn who_does_not_take_snapshots_says_that_it_stays_behind() {
    let (mut cluster, client, away) = one_is_away();
    cluster.kill(away);
    cluster.start(away);
    produce_some(&mut cluster, client, 10..40);
    start_at(&mut cluster, client.0, 41);
    cluster.isolated.remove(&away);
    cluster.run_ms(5_000);
    let notes = &cluster.nodes[&away].notes;
    assert!(notes.iter().any(|note| note.contains("which I cannot take")), "{notes:?}");
    assert_eq!(replica(&mut cluster, away).poll_wanted_snapshot(), None);
}
