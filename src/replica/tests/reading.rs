//! Readers of what the newest batches in memory do not have.

use super::waiting::leader_of;
use super::*;
use crate::record::check_fetched;

/// Fetches from one offset to another, one answer after the other. Gives how many there were.
fn read_through(cluster: &mut Cluster, leader: NodeId, (mut at, end): (i64, i64)) -> usize {
    let reader = cluster.connect(leader);
    let mut answers = 0;
    while at < end {
        let answer: km::FetchResponse = cluster.call(reader, FETCH, 12, &fetch_request(at, 1_000));
        let partition = &answer.responses[0].partitions[0];
        assert_eq!(partition.error_code, 0);
        let (batches, error) = check_fetched(partition.records.clone().expect("records"));
        assert!(error.is_none() && batches.first().is_some_and(|first| first.base_offset().0 == at));
        at = batches.last().map_or(at, |last| last.next_offset().0);
        answers += 1;
    }
    answers
}

#[test]
fn who_reads_in_order_finds_in_memory_what_was_read_ahead_of_him() {
    let (mut cluster, leader) = leader_of(1, |config| {
        let limits = &mut config.limits;
        (limits.tail_cache_bytes_max, limits.read_cache_bytes_max) = (0, 1 << 20);
        (limits.read_piece_bytes, limits.read_ahead_bytes_max) = (64 << 10, 128 << 10);
        (limits.device_read_bytes_max, limits.index_interval_bytes) = (26 << 10, 4096);
    });
    let client = cluster.connect(leader);
    let base = cluster.status(leader).log_end_offset;
    for number in 0..40 {
        assert_eq!(produce(&mut cluster, client, -1, batch(&[&[number; 8_000]])).0, 0);
    }
    // No longer does the log write.
    cluster.run_ms(300);
    let answers = read_through(&mut cluster, leader, (base, base + 40));
    let first = cluster.status(leader).watched.blocks;
    assert!(answers >= 13, "{answers}");
    assert!(first.misses <= 2 && first.ahead >= 4, "{first:?}");
    assert_eq!(first.hits + first.misses, answers as u64, "{first:?}");
    assert_eq!(read_through(&mut cluster, leader, (base, base + 40)), answers);
    let second = cluster.status(leader).watched.blocks;
    assert_eq!((second.misses, second.ahead), (first.misses, first.ahead), "the second finds it all");
}

/// A crowd that asked for the same while it was read: all find it in a block, and an answer takes its time.
#[test]
fn of_those_who_find_in_memory_what_they_stood_in_line_for_a_turn_serves_64() {
    const READERS: usize = 200;
    let (mut cluster, leader) = leader_of(1, |config| {
        config.limits.tail_cache_bytes_max = 0;
        config.limits.device_reads_bytes_max = 1 << 30;
    });
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, batch(&[&[7; 1_000]]));
    // No longer does the log write.
    cluster.run_ms(300);
    cluster.hold = |_, kind| matches!(kind, OpKind::Read { .. });
    let readers: Vec<Client> = (0..READERS).map(|_| cluster.connect(leader)).collect();
    for reader in &readers {
        cluster.send(*reader, FETCH, 12, &fetch_request(base, 0));
    }
    cluster.run_ms(1);
    let waiting = |cluster: &Cluster| cluster.nodes[&leader].replica.desk.reads.waiting();
    let mut left = vec![waiting(&cluster)];
    assert_eq!(left, [READERS - 4], "so many are at the device");
    cluster.release();
    cluster.run_until("all are served", 100, |cluster| {
        left.push(waiting(cluster));
        left.last() == Some(&0)
    });
    let served = left.windows(2).map(|turn| turn[0] - turn[1]).filter(|served| *served > 0);
    assert_eq!(served.collect::<Vec<usize>>(), [64, 64, 64, 4]);
    cluster.run_ms(1);
    for reader in readers {
        let read = receive_fetch(&mut cluster, reader).expect("served");
        assert!(read.records.is_some_and(|records| !records.is_empty()));
    }
}

#[test]
fn nobody_reads_ahead_of_who_went_while_the_device_read_for_him() {
    let (mut cluster, leader) = leader_of(1, |config| config.limits.tail_cache_bytes_max = 0);
    let client = cluster.connect(leader);
    let (_, base) = produce(&mut cluster, client, -1, batch(&[&[7; 1_000]]));
    let known = |cluster: &Cluster| cluster.nodes[&leader].replica.desk.ahead.known();
    for leaves in [true, false] {
        let reader = cluster.connect(leader);
        cluster.hold = |_, kind| matches!(kind, OpKind::Read { .. });
        cluster.send(reader, FETCH, 12, &fetch_request(base, 0));
        cluster.run_ms(1);
        if leaves {
            cluster.disconnect(reader);
        }
        cluster.release();
        cluster.run_ms(1);
        assert_eq!(known(&cluster), usize::from(!leaves));
    }
}
