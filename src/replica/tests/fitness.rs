//! Leaders that cannot do their work, and others that can.

use super::*;

const MIN: u64 = 1 << 20;

fn set_free(cluster: &mut Cluster, id: NodeId, bytes: u64) {
    cluster.input(id, Input::DiskFree { bytes });
    cluster.disks.get_mut(&id).expect("a disk").is_full = bytes == 0;
}

fn notes_with(cluster: &Cluster, id: NodeId, words: &str) -> usize {
    cluster.nodes[&id].notes.iter().filter(|note| note.contains(words)).count()
}

/// Produce until it is taken: how long that was.
fn produce_until_taken(cluster: &mut Cluster, ms_max: u64) -> (NodeId, u64) {
    let begin = cluster.now.monotonic_ns;
    loop {
        let waited_ms = (cluster.now.monotonic_ns - begin) / NS_PER_MS;
        assert!(waited_ms < ms_max, "nothing is taken within {ms_max} ms");
        if let Some(leader) = cluster.leader() {
            let client = cluster.connect(leader);
            if produce(cluster, client, -1, batch(&[b"x"])).0 == 0 {
                return (leader, (cluster.now.monotonic_ns - begin) / NS_PER_MS);
            }
        }
        cluster.run_ms(100);
    }
}

fn three() -> (Cluster, NodeId) {
    let mut cluster = cluster_with(3, |config| config.limits.disk_free_bytes_min = MIN);
    let leader = elect(&mut cluster);
    cluster.run_ms(1_000);
    (cluster, leader)
}

#[test]
fn a_leader_without_room_hands_over_to_a_voter_that_has_some() {
    let (mut cluster, full) = three();
    let [other, with_room] = others(&cluster, full)[..] else { panic!("two followers") };
    set_free(&mut cluster, full, 0);
    set_free(&mut cluster, other, MIN - 1);
    let (leader, waited_ms) = produce_until_taken(&mut cluster, 5_000);
    assert_eq!(leader, with_room, "the other one has no room either");
    assert!(waited_ms < 3_000, "{waited_ms} ms");
    assert_eq!(notes_with(&cluster, full, "Produce is refused"), 1);
    assert_eq!(notes_with(&cluster, other, "Produce is refused"), 0, "a follower refuses nothing");
    assert_eq!(notes_with(&cluster, other, "leads only if no other voter can"), 1);
    assert!(!cluster.status(full).ready && !cluster.status(other).ready && cluster.status(leader).ready);
    // It comes back when it has room, and needs no other leader for that.
    cluster.run_ms(5_000);
    assert_eq!(cluster.nodes[&full].stopped, None);
    set_free(&mut cluster, full, u64::MAX);
    set_free(&mut cluster, other, u64::MAX);
    cluster.run_until("all have everything", 10_000, |c| {
        let end = c.status(leader).log_end_offset;
        c.nodes.keys().all(|id| c.status(*id).flushed_offset == end)
    });
    assert_eq!(cluster.leader(), Some(leader));
    cluster.run_until("it has looked for room again", 5_000, |c| c.status(full).ready);
}

#[test]
fn three_without_room_keep_their_leader_for_who_reads() {
    let (mut cluster, leader) = three();
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    for id in cluster.nodes.keys().copied().collect::<Vec<_>>() {
        set_free(&mut cluster, id, MIN - 1);
    }
    let epoch = cluster.status(leader).epoch;
    cluster.run_ms(60_000);
    assert_eq!((cluster.leader(), cluster.status(leader).epoch), (Some(leader), epoch), "no election");
    assert_eq!(fetch(&mut cluster, client, 0).0, 0);
    let refused = produce(&mut cluster, client, -1, batch(&[b"y"])).0;
    assert_eq!(refused, ErrorCode::KAFKA_STORAGE_ERROR.0);
    // The leader dies: somebody has to lead, room or not.
    cluster.kill(leader);
    cluster.run_until("another leader", 15_000, |c| {
        c.leader().is_some_and(|id| c.status(id).high_watermark.is_some())
    });
    let next = cluster.leader().expect("a leader");
    let client = cluster.connect(next);
    assert_eq!(fetch(&mut cluster, client, 0).0, 0);
    // One with room again takes over.
    let freed = others(&cluster, next).into_iter().find(|id| *id != leader).expect("the third");
    set_free(&mut cluster, freed, u64::MAX);
    let (leader, _) = produce_until_taken(&mut cluster, 30_000);
    assert_eq!(leader, freed);
}

#[test]
fn a_disk_that_fills_is_told_of_before_anything_is_refused() {
    let mut cluster = cluster_with(1, |config| {
        let limits = &mut config.limits;
        (limits.disk_free_bytes_warn, limits.disk_free_bytes_min) = (8 * MIN, MIN);
    });
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let told = |cluster: &Cluster| notes_with(cluster, leader, "kraft.disk.free.warn.bytes");
    for (bytes, is_low, lines) in [
        (8 * MIN, false, 0),
        (8 * MIN - 1, true, 1),
        (10 * MIN - 1, true, 1),
        (MIN, true, 1),
        (10 * MIN, false, 2),
    ] {
        set_free(&mut cluster, leader, bytes);
        cluster.run_ms(1);
        assert_eq!((cluster.status(leader).disk_low, told(&cluster)), (is_low, lines), "{bytes}");
        assert!(cluster.status(leader).ready);
    }
    set_free(&mut cluster, leader, 2 * MIN);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0, "nothing is refused yet");
    assert_eq!(notes_with(&cluster, leader, "make room"), 2);
    // At once below both: the line of the lower one says it.
    set_free(&mut cluster, leader, u64::MAX);
    cluster.run_ms(1);
    let lines = told(&cluster);
    set_free(&mut cluster, leader, MIN - 1);
    cluster.run_ms(1);
    assert_eq!((told(&cluster), notes_with(&cluster, leader, "Produce is refused")), (lines, 1));
    assert!(cluster.status(leader).disk_low);
}

#[test]
fn a_disk_at_the_edge_does_not_move_the_leader_back_and_forth() {
    let (mut cluster, first) = three();
    set_free(&mut cluster, first, MIN - 1);
    let (leader, _) = produce_until_taken(&mut cluster, 5_000);
    for bytes in [MIN, MIN - 1, MIN + MIN / 4 - 1, MIN - 1] {
        set_free(&mut cluster, first, bytes);
        cluster.run_ms(1_000);
        assert!(!cluster.status(first).ready, "{bytes} are not enough to say that there is room");
    }
    set_free(&mut cluster, first, MIN + MIN / 4);
    cluster.run_ms(1_000);
    assert!(cluster.status(first).ready);
    assert_eq!(cluster.leader(), Some(leader));
}

#[test]
fn a_follower_without_room_waits_and_acknowledges_nothing_meanwhile() {
    let (mut cluster, leader) = three();
    let [full, other] = others(&cluster, leader)[..] else { panic!("two followers") };
    cluster.disks.get_mut(&full).expect("a disk").is_full = true;
    let client = cluster.connect(leader);
    for _ in 0..40 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[&[7; 10_000]])).0, 0, "two of three are enough");
    }
    cluster.run_ms(3_000);
    let status = cluster.status(full);
    let leads = cluster.status(leader);
    assert_eq!(cluster.nodes[&full].stopped, None);
    assert!(status.flushed_offset < leads.log_end_offset, "the zeros that were there are used up");
    let seen = leads.voters.iter().find(|v| v.node_id == full.0).expect("a voter");
    assert!(
        seen.log_end_offset <= status.flushed_offset,
        "{} is told, {} is kept",
        seen.log_end_offset,
        status.flushed_offset
    );
    assert_eq!(notes_with(&cluster, full, "found no room"), 1, "said once");
    assert_eq!(status.role, "follower");
    // It goes on to say that it lives, and is not sent all again for it that it holds already.
    let sent = |cluster: &Cluster| cluster.nodes[&leader].replica.desk.counters.fetched_bytes;
    let before = sent(&cluster);
    cluster.run_ms(8_000);
    // Each 0.4 of a fetch timeout of 2 s.
    let heartbeats = 10;
    let again = sent(&cluster) - before;
    assert!((1..=heartbeats * 10_200).contains(&again), "{again} bytes in {heartbeats} heartbeats");
    // Its leader dies: the other one is elected, though this one would be asked first.
    cluster.kill(leader);
    cluster.run_until("the other leads", 15_000, |c| c.leader() == Some(other));
    cluster.disks.get_mut(&full).expect("a disk").is_full = false;
    let (_, _) = produce_until_taken(&mut cluster, 15_000);
    cluster.run_until("it has everything", 10_000, |c| {
        c.status(full).flushed_offset == c.status(other).log_end_offset
    });
    assert_eq!(notes_with(&cluster, full, "the disk has room again"), 1);
}

/// What a stop leaves undone for want of room says nothing of the disk.
#[test]
fn a_stop_on_a_full_disk_does_not_say_that_there_is_room() {
    let (mut cluster, leader) = three();
    let full = others(&cluster, leader)[0];
    cluster.disks.get_mut(&full).expect("a disk").is_full = true;
    let client = cluster.connect(leader);
    for _ in 0..40 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[&[7; 1_200]])).0, 0);
        if cluster.status(full).waits_for_room {
            break;
        }
    }
    // What is there is flushed: only zeros ahead are wanted.
    cluster.run_ms(100);
    assert_eq!(notes_with(&cluster, full, "found no room"), 1);
    assert_eq!(cluster.status(full).flushed_offset, cluster.status(full).log_end_offset);
    // The stop takes longer than it is to the next look for room.
    cluster.hold = |_, kind| matches!(kind, OpKind::CutSegment { .. });
    cluster.shutdown(full);
    cluster.run_ms(2_500);
    assert_eq!(cluster.nodes[&full].stopped, None);
    cluster.release();
    cluster.run_until("its end", 10_000, |c| c.nodes[&full].stopped.is_some());
    assert_eq!(cluster.nodes[&full].stopped, Some(EXIT_OK));
    assert_eq!(notes_with(&cluster, full, "has room again"), 0, "{:?}", cluster.nodes[&full].notes);
    assert_eq!(notes_with(&cluster, full, "is not needed any more"), 1);
}

/// It follows, and counts for commits; but with one voter less nobody could be elected, as who restarts one after the other
/// wants to know.
#[test]
fn a_voter_in_doubt_is_not_ready_and_says_why() {
    let (mut cluster, leader) = three();
    let [doubted, other] = others(&cluster, leader)[..] else { panic!("two followers") };
    assert!(!cluster.status(doubted).log_in_doubt);
    for id in [leader, other, doubted] {
        cluster.kill(id);
    }
    cluster.start_in_doubt(doubted);
    cluster.run_ms(1_000);
    let status = cluster.status(doubted);
    let why = status.not_ready.expect("why");
    assert!(
        status.log_in_doubt && why.starts_with("no quorum: ") && why.contains("votes for nobody"),
        "{why}"
    );
    // It follows a leader, and what that one knows to be committed is not on its disk yet.
    cluster.hold = match doubted.0 {
        1 => |id, kind| id.0 == 1 && matches!(kind, OpKind::Write { .. }),
        _ => |id, kind| id.0 == 2 && matches!(kind, OpKind::Write { .. }),
    };
    cluster.start(leader);
    cluster.start(other);
    cluster.run_until("a leader that commits", 30_000, |c| c.leader().is_some_and(|id| c.status(id).ready));
    cluster.run_until("what is committed is known", 5_000, |c| {
        let status = c.status(doubted);
        status.high_watermark.is_some_and(|known| status.log_end_offset >= known)
    });
    let why = cluster.status(doubted).not_ready.expect("why");
    assert!(cluster.status(doubted).log_in_doubt && why.starts_with("the end of its log"), "{why}");
    cluster.release();
    cluster.run_until("the end of the doubt", 15_000, |c| {
        let status = c.status(doubted);
        status.ready && !status.log_in_doubt
    });
    assert_eq!(notes_with(&cluster, doubted, "in doubt no more"), 1);
}

#[test]
fn a_write_that_finds_no_room_still_stops_the_node() {
    let (mut cluster, leader) = three();
    cluster.disks.get_mut(&leader).expect("a disk").fail_writes = true;
    let client = cluster.connect(leader);
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(100);
    assert_eq!(cluster.nodes[&leader].stopped, Some(EXIT_DISK));
}

/// A follower that comes late needs what its leader cannot read any more: another one can.
#[test]
fn a_leader_that_cannot_read_what_a_follower_needs_hands_over_to_one_that_can() {
    let mut cluster = cluster_with(3, |config| config.limits.tail_cache_bytes_max = 0);
    let damaged = elect(&mut cluster);
    cluster.run_ms(1_000);
    let [whole, late] = others(&cluster, damaged)[..] else { panic!("two followers") };
    cluster.kill(late);
    let client = cluster.connect(damaged);
    for _ in 0..5 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[&[7; 1_000]])).0, 0);
    }
    cluster.disks.get_mut(&damaged).expect("a disk").fail_reads = true;
    cluster.start(late);
    cluster.run_until("it has everything", 15_000, |c| {
        c.leader() == Some(whole) && c.status(late).flushed_offset == c.status(whole).log_end_offset
    });
    let status = cluster.status(damaged);
    assert!(!status.ready && status.unfit == Some("log-damaged"), "{:?}", status.not_ready);
    let why = status.not_ready.expect("why");
    assert!(why.starts_with("log damaged at offset ") && why.contains("read failed"), "{why}");
    assert_eq!(notes_with(&cluster, damaged, "cannot serve offset"), 1);
    let client = cluster.connect(whole);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
}

#[test]
fn a_follower_waits_for_records_that_nobody_can_read_without_haste() {
    let mut cluster = cluster_with(3, |config| config.limits.tail_cache_bytes_max = 0);
    let leader = elect(&mut cluster);
    cluster.run_ms(1_000);
    let [gone, late] = others(&cluster, leader)[..] else { panic!("two followers") };
    cluster.kill(late);
    let client = cluster.connect(leader);
    for _ in 0..5 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[&[7; 1_000]])).0, 0);
    }
    cluster.kill(gone);
    cluster.disks.get_mut(&leader).expect("a disk").fail_reads = true;
    cluster.start(late);
    // The one that is gone was there a moment ago: it is offered the lead, and does not take it.
    cluster.run_ms(10_000);
    let (epoch, asked) = (cluster.status(leader).epoch, cluster.status(leader).counters.replica_fetches);
    cluster.run_ms(30_000);
    let asked = cluster.status(leader).counters.replica_fetches - asked;
    let story = &cluster.nodes[&late].notes;
    assert!((10..60).contains(&asked), "{asked} questions in 30 s: {story:?}");
    assert_eq!(
        (cluster.leader(), cluster.status(leader).epoch),
        (Some(leader), epoch),
        "nobody could do better"
    );
    assert_eq!(notes_with(&cluster, leader, "cannot serve offset"), 1, "a line a minute");
    assert!(notes_with(&cluster, late, "cannot read the records at") <= 8);
    // A bad moment of the device: when it reads again, all is well.
    cluster.disks.get_mut(&leader).expect("a disk").fail_reads = false;
    cluster.run_until("it has everything", 5_000, |c| {
        c.status(late).flushed_offset == c.status(leader).log_end_offset
    });
    assert_eq!(cluster.status(leader).unfit, None);
    assert_eq!(notes_with(&cluster, leader, "can be read again"), 1);
}

fn batch_at(wall_ms: i64) -> Bytes {
    data_batch(&[b"x"], wall_ms, None)
}

#[test]
fn a_batch_refused_for_its_timestamp_is_told_and_counted() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let ahead = cluster.now.wall_ms + 2 * 3_600_000;
    for _ in 0..3 {
        let refused = produce(&mut cluster, client, -1, batch_at(ahead)).0;
        assert_eq!(refused, ErrorCode::INVALID_TIMESTAMP.0);
    }
    assert_eq!(cluster.status(leader).counters.refused_timestamps, 3);
    assert_eq!(
        notes_with(&cluster, leader, "log.message.timestamp.after.max.ms"),
        1,
        "a line in ten seconds"
    );
    cluster.run_ms(10_001);
    produce(&mut cluster, client, -1, batch_at(ahead + 20_000));
    assert_eq!(notes_with(&cluster, leader, "4 batches were refused so"), 1);
}

#[test]
fn a_node_whose_clock_is_far_behind_leaves_leading_to_others() {
    let (mut cluster, first) = three();
    // Time passes for all, and the next leader's clock is right; that of the first one has been set back.
    let behind = others(&cluster, first)[0];
    cluster.wall_offset_ms.insert(behind, -2 * 3_600_000);
    cluster.kill(first);
    cluster.run_until("another leader", 15_000, |c| c.leader().is_some());
    cluster.start(first);
    let (leader, _) = produce_until_taken(&mut cluster, 30_000);
    cluster.run_ms(1_000);
    let client = cluster.connect(leader);
    if leader == behind {
        // Nothing has told it yet.
        let wall_ms = cluster.now.wall_ms;
        let refused = produce(&mut cluster, client, -1, batch_at(wall_ms)).0;
        assert_eq!(refused, ErrorCode::INVALID_TIMESTAMP.0);
        cluster.shutdown(leader);
        cluster.run_until("the next", 15_000, |c| c.leader().is_some_and(|id| id != behind));
        cluster.kill(behind);
        cluster.start(behind);
    }
    // It follows a leader whose clock it learns.
    cluster.run_ms(1_000);
    let right = cluster.leader().expect("a leader");
    cluster.kill(right);
    cluster.run_until("another", 15_000, |c| c.leader().is_some());
    cluster.start(right);
    let (leader, _) = produce_until_taken(&mut cluster, 30_000);
    cluster.run_ms(5_000);
    assert_ne!(cluster.leader(), Some(behind), "{leader} has led meanwhile");
    let client = cluster.connect(cluster.leader().expect("a leader"));
    let wall_ms = cluster.now.wall_ms;
    assert_eq!(produce(&mut cluster, client, -1, batch_at(wall_ms)).0, 0);
    // Its clock is set right.
    cluster.wall_offset_ms.clear();
    cluster.run_ms(1_000);
    assert_eq!(cluster.status(behind).unfit, None);
}
