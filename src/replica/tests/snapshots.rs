//! A node takes snapshots when bytes or time make one due, keeps two, and starts from the newest that is whole.

use super::*;

const RECORD_BYTES: usize = 700;

fn of(producer_id: i64, sequence: i32) -> Bytes {
    data_batch(
        &[&[7; RECORD_BYTES]],
        1_700_000_000_000 + i64::from(sequence),
        Some((producer_id, 0, sequence)),
    )
}

/// One voter.
fn alone(change: fn(&mut Config)) -> (Cluster, Client) {
    let mut cluster = cluster_with(1, change);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    (cluster, client)
}

/// What comes to be due is taken in a few ms.
fn quick(config: &mut Config) {
    (config.limits.snapshot_pause_ms, config.limits.fold_walk_entries) = (1, 1);
    config.limits.segment_bytes_max = 16 << 10;
}

fn by_bytes(config: &mut Config) {
    quick(config);
    (config.limits.snapshot_bytes_between, config.limits.snapshot_interval_ms) = (4_000, 0);
}

/// Twenty records of each of two producers, one in a ms.
fn fill(cluster: &mut Cluster, client: Client) -> Vec<(i16, i64)> {
    let answer = |i| {
        cluster.run_ms(1);
        produce(cluster, client, -1, of(70 + i64::from(i % 2), i / 2))
    };
    (0..40).map(answer).collect()
}

fn ends(cluster: &Cluster, id: NodeId) -> Vec<i64> {
    cluster.disks[&id].snapshots.keys().map(|id| id.offset.0).collect()
}

fn counts(cluster: &Cluster, id: NodeId) -> (u64, u64) {
    let counts = cluster.nodes[&id].replica.snapshot_counts();
    (counts.taken, counts.failed)
}

fn retries_are_recognised(cluster: &mut Cluster, leader: NodeId, answers: &[(i16, i64)]) {
    elect(cluster);
    let client = cluster.connect(leader);
    for i in 30..40 {
        let answer = produce(cluster, client, -1, of(70 + i64::from(i % 2), i / 2));
        assert_eq!(answer, answers[i as usize], "{i}");
    }
}

#[test]
fn bytes_make_one_due_and_two_are_kept() {
    let (mut cluster, client) = alone(by_bytes);
    let leader = client.0;
    let answers = fill(&mut cluster, client);
    cluster.run_ms(50);
    let (taken, failed) = counts(&cluster, leader);
    assert!((3..=8).contains(&taken) && failed == 0, "of 30,000 bytes {taken}");
    let kept = ends(&cluster, leader);
    assert_eq!(kept.len(), 2);
    let status = cluster.status(leader);
    assert_eq!(status.snapshot_offset, kept.last().copied());
    assert_eq!(
        status.snapshot_bytes,
        cluster.disks[&leader].snapshots.values().last().map(|f| f.len() as u64)
    );
    assert_eq!((status.snapshot_epoch, status.snapshot_problem), (Some(status.epoch), None));
    // Nothing comes, and nothing is due.
    cluster.run_ms(10_000);
    assert_eq!((counts(&cluster, leader).0, ends(&cluster, leader)), (taken, kept.clone()));
    cluster.kill(leader);
    cluster.start(leader);
    assert_eq!(cluster.nodes[&leader].from.map(|id| id.offset.0), kept.last().copied());
    retries_are_recognised(&mut cluster, leader, &answers);
}

#[test]
fn time_makes_one_due_where_something_is_new() {
    let (mut cluster, client) = alone(|config| {
        quick(config);
        config.limits.snapshot_interval_ms = 3_000;
    });
    let leader = client.0;
    assert_eq!(produce(&mut cluster, client, -1, of(70, 0)).0, 0);
    cluster.run_ms(1_000);
    assert!(ends(&cluster, leader).is_empty());
    cluster.run_ms(3_000);
    let first = ends(&cluster, leader);
    assert_eq!(first.len(), 1);
    cluster.run_ms(20_000);
    assert_eq!((ends(&cluster, leader), counts(&cluster, leader)), (first.clone(), (1, 0)), "nothing is new");
    assert!(cluster.status(leader).watched.snapshot_age_ms >= 20_000);
    assert_eq!(produce(&mut cluster, client, -1, of(70, 1)).0, 0);
    cluster.run_ms(2_000);
    assert_eq!(ends(&cluster, leader), [first[0], first[0] + 1]);
}

#[test]
fn what_lay_behind_the_snapshot_at_a_start_counts() {
    let (mut cluster, client) = alone(|config| {
        quick(config);
        config.limits.snapshot_bytes_between = 20_000;
    });
    let leader = client.0;
    fill(&mut cluster, client);
    assert_eq!(ends(&cluster, leader).len(), 1);
    cluster.kill(leader);
    cluster.start(leader);
    elect(&mut cluster);
    let client = cluster.connect(leader);
    for sequence in 20..35 {
        assert_eq!(produce(&mut cluster, client, -1, of(70, sequence)).0, 0);
    }
    cluster.run_ms(50);
    assert_eq!(ends(&cluster, leader).len(), 2, "10,000 bytes before, and 10,000 since");
}

#[test]
fn there_is_a_pause_between_two() {
    let (mut cluster, client) = alone(|config| {
        by_bytes(config);
        config.limits.snapshot_pause_ms = 60_000;
    });
    fill(&mut cluster, client);
    cluster.run_ms(30_000);
    assert_eq!(counts(&cluster, client.0), (1, 0));
    cluster.run_ms(40_000);
    assert_eq!(counts(&cluster, client.0), (2, 0));
}

#[test]
fn a_full_disk_is_told_once_and_one_is_taken_when_there_is_room() {
    let (mut cluster, client) = alone(by_bytes);
    let leader = client.0;
    cluster.disks.get_mut(&leader).expect("a disk").is_full = true;
    for sequence in 0..8 {
        assert_eq!(produce(&mut cluster, client, -1, of(70, sequence)).0, 0, "nothing waits for it");
    }
    cluster.run_ms(5_000);
    let (taken, failed) = counts(&cluster, leader);
    assert!(taken == 0 && failed > 2, "it is tried again: {failed}");
    let told = |cluster: &Cluster| {
        let warnings = cluster.nodes[&leader].warnings.iter();
        warnings.filter(|line| line.starts_with("no snapshot was taken at")).count()
    };
    assert_eq!(told(&cluster), 1);
    assert!(cluster.status(leader).snapshot_problem.is_some_and(|why| why.starts_with("write failed")));
    cluster.disks.get_mut(&leader).expect("a disk").is_full = false;
    cluster.run_ms(5_000);
    assert_eq!((counts(&cluster, leader).0, told(&cluster)), (1, 1));
    assert_eq!(cluster.status(leader).snapshot_problem, None);
    assert!(cluster.nodes[&leader].notes.iter().any(|line| line.starts_with("took 0000")));
}

/// A bit of the newest flips, or it is cut short, or both that there are do.
#[test]
fn a_bad_one_is_set_aside_and_the_one_before_serves() {
    for case in 0..4 {
        let (mut cluster, client) = alone(by_bytes);
        let leader = client.0;
        let answers = fill(&mut cluster, client);
        cluster.run_ms(50);
        let kept: Vec<OffsetAndEpoch> = cluster.disks[&leader].snapshots.keys().copied().collect();
        cluster.kill(leader);
        let disk = cluster.disks.get_mut(&leader).expect("a disk");
        let newest = disk.snapshots.get_mut(&kept[1]).expect("it is there");
        match case {
            0 => newest[200] ^= 4,
            1 => newest.truncate(newest.len() - 1),
            2 => newest.clear(),
            _ => disk.snapshots.values_mut().for_each(|file| file[100] ^= 1),
        }
        cluster.start(leader);
        let node = &cluster.nodes[&leader];
        let (from, bad) = if case < 3 { (Some(kept[0]), &kept[1..]) } else { (None, &kept[..]) };
        assert_eq!(node.from, from, "{case}");
        assert!(node.notes[0].starts_with("Set aside 0000"), "{:?}", node.notes);
        let aside: Vec<OffsetAndEpoch> = cluster.disks[&leader].set_aside.iter().rev().copied().collect();
        assert_eq!(aside, bad);
        retries_are_recognised(&mut cluster, leader, &answers);
        // At once, whatever came since.
        cluster.run_ms(50);
        assert_eq!(counts(&cluster, leader), (1, 0), "{case}");
    }
}

/// The commit mark vouches for the log, so it is the snapshot that is in the wrong place.
#[test]
fn one_of_another_log_is_set_aside() {
    let (mut cluster, client) = alone(by_bytes);
    let leader = client.0;
    let answers = fill(&mut cluster, client);
    cluster.run_ms(5_000);
    cluster.kill(leader);
    let disk = cluster.disks.get_mut(&leader).expect("a disk");
    let (newest, file) = disk.snapshots.pop_last().expect("there are two");
    let other = OffsetAndEpoch { epoch: Epoch(newest.epoch.0 + 7), ..newest };
    let mut snapshot = crate::log::SnapshotDecoder::new(newest, 1 << 20);
    snapshot.push(&file).expect("a good one");
    let mut snapshot = snapshot.finish().expect("a whole one").snapshot;
    snapshot.id = other;
    let mut encoder = crate::log::SnapshotEncoder::new(snapshot);
    let file = std::iter::from_fn(|| encoder.next_batch()).flat_map(|batch| batch.to_bytes()).collect();
    disk.snapshots.insert(other, file);
    cluster.start(leader);
    assert_eq!(cluster.disks[&leader].set_aside, [other]);
    assert!(cluster.nodes[&leader].from.is_some_and(|id| id.offset < other.offset));
    retries_are_recognised(&mut cluster, leader, &answers);
}

#[test]
fn a_follower_takes_its_own() {
    let mut cluster = cluster_with(3, by_bytes);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    fill(&mut cluster, client);
    cluster.run_ms(500);
    for id in [1, 2, 3].map(NodeId) {
        assert!(counts(&cluster, id).0 > 1, "node {id}");
        assert!(ends(&cluster, id).len() <= 2);
    }
}

/// What the snapshot holds is known, and the records that gave it are not there: they come from the leader.
#[test]
fn what_is_folded_may_stand_ahead_of_the_log() {
    let mut cluster = cluster_with(3, by_bytes);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let answers = fill(&mut cluster, client);
    cluster.run_ms(500);
    let behind = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != leader).expect("one that follows");
    cluster.kill(behind);
    let kept = std::mem::take(&mut cluster.disks.get_mut(&behind).expect("a disk").snapshots);
    let end = kept.keys().last().copied().expect("it has taken some");
    *cluster.disks.get_mut(&behind).expect("a disk") = Default::default();
    cluster.disks.get_mut(&behind).expect("a disk").snapshots = kept;
    cluster.start_in_doubt(behind);
    assert_eq!(cluster.nodes[&behind].from, Some(end));
    assert_eq!((cluster.status(behind).producer_ids, cluster.status(behind).log_end_offset), (2, 0));
    let log_end = cluster.status(leader).log_end_offset;
    cluster.run_until("it to catch up", 60_000, |cluster| cluster.status(behind).log_end_offset == log_end);
    cluster.run_ms(1_000);
    // It leads with what it has: the snapshot, and what came behind it.
    for _ in 0..10 {
        let leader = elect(&mut cluster);
        if leader == behind {
            break;
        }
        cluster.shutdown(leader);
        cluster.run_ms(3_000);
        cluster.kill(leader);
        cluster.start(leader);
    }
    assert_eq!(elect(&mut cluster), behind);
    retries_are_recognised(&mut cluster, behind, &answers);
}
