//! What is folded from the log is there again after a start, by summaries as by the batches.

use super::*;

/// A leader that has several segments, closed and committed, of two producers; and what it answered to the last batches.
fn leader_of_segments() -> (Cluster, NodeId, Vec<(i16, i64)>) {
    let mut cluster = cluster_with(1, |config| config.limits.segment_bytes_max = 8192);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let answers = (0..40).map(|i| produce(&mut cluster, client, -1, of(i))).collect::<Vec<_>>();
    assert!(answers.iter().all(|(error, _)| *error == 0));
    // The mark is written when it has nothing else to do.
    cluster.run_ms(5_000);
    (cluster, leader, answers)
}

fn of(i: i32) -> Bytes {
    data_batch(&[&[7; 700]], 1_700_000_000_000, Some((i64::from(70 + i % 2), 0, i / 2)))
}

fn retries_are_recognised(cluster: &mut Cluster, leader: NodeId, answers: &[(i16, i64)]) {
    elect(cluster);
    let client = cluster.connect(leader);
    for i in 30..40 {
        assert_eq!(produce(cluster, client, -1, of(i)), answers[i as usize], "{i}");
    }
    assert_eq!(cluster.status(leader).counters.duplicate_batches, 10);
}

#[test]
fn producers_are_known_again_from_summaries_alone() {
    let (mut cluster, leader, answers) = leader_of_segments();
    let segments = cluster.disks[&leader].segments_kept();
    assert!(segments > 3);
    assert_eq!(cluster.disks[&leader].summaries(), segments - 1);
    cluster.kill(leader);
    cluster.start(leader);
    assert_eq!(cluster.nodes[&leader].effort.summaries, segments - 1);
    retries_are_recognised(&mut cluster, leader, &answers);
}

/// What is committed it knows by the mark, before anybody tells it a high watermark.
#[test]
fn a_start_writes_the_summaries_that_are_missing_with_all_that_belongs_there() {
    let (mut cluster, leader, answers) = leader_of_segments();
    let segments = cluster.disks[&leader].segments_kept();
    cluster.kill(leader);
    cluster.disks.get_mut(&leader).expect("a disk").forget_summaries();
    cluster.start(leader);
    assert_eq!(cluster.nodes[&leader].effort.summaries, 0);
    cluster.run_ms(1);
    assert_eq!(cluster.disks[&leader].summaries(), segments - 1);
    cluster.kill(leader);
    cluster.start(leader);
    assert_eq!(cluster.nodes[&leader].effort.summaries, segments - 1);
    retries_are_recognised(&mut cluster, leader, &answers);
}

/// A leader that knows many producers and copies what is folded, an entry in each turn, while the producer of id 1 goes on until a
/// segment is closed.
fn leader_that_copies() -> (Cluster, NodeId) {
    let mut cluster = cluster_with(1, |config| {
        (config.limits.segment_bytes_max, config.limits.fold_walk_entries) = (8192, 1);
        config.limits.connection_producer_ids_max = 1000;
    });
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let of = |id: i64, sequence: i32| data_batch(&[&[7; 700]], 1_700_000_000_000, Some((id, 0, sequence)));
    for id in 100..400 {
        assert_eq!(produce(&mut cluster, client, -1, of(id, 0)).0, 0);
    }
    cluster.run_ms(5_000);
    assert_eq!(cluster.disks[&leader].summaries(), cluster.disks[&leader].segments_kept() - 1);
    let replica = &mut cluster.nodes.get_mut(&leader).expect("it runs").replica;
    replica.copy_folds().expect("all is committed");
    for sequence in 0..25 {
        assert_eq!(produce(&mut cluster, client, -1, of(1, sequence)).0, 0);
    }
    let replica = &mut cluster.nodes.get_mut(&leader).expect("it runs").replica;
    assert!(replica.poll_folded().is_none() && replica.copy_folds().is_err(), "it is under way");
    // Of what is not settled yet there is no section.
    assert!(cluster.disks[&leader].summaries() < cluster.disks[&leader].segments_kept() - 1);
    (cluster, leader)
}

#[test]
fn a_summary_that_is_due_while_folds_are_copied_is_written_behind_it() {
    let (mut cluster, leader) = leader_that_copies();
    cluster.run_ms(5_000);
    let replica = &mut cluster.nodes.get_mut(&leader).expect("it runs").replica;
    let folded = replica.poll_folded().expect("it has an end").expect("nothing gave it up");
    assert_eq!(folded.into_sections().len(), 2, "of producers and configs; constant voters need none");
    assert!(replica.deadline() != Some(0), "nobody is kept busy with nothing");
    assert_eq!(cluster.disks[&leader].summaries(), cluster.disks[&leader].segments_kept() - 1);
}

#[test]
fn a_stop_waits_for_no_copy_and_writes_all_summaries() {
    let (mut cluster, leader) = leader_that_copies();
    cluster.shutdown(leader);
    cluster.run_ms(5_000);
    assert_eq!(cluster.disks[&leader].summaries(), cluster.disks[&leader].segments_kept());
}
