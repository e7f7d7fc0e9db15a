//! FetchSnapshot from both sides: a leader gives its file in pieces, a follower puts them together, and neither believes the other.

use super::*;
use crate::log::{Section, Snapshot, SnapshotEncoder, snapshot_file_name};
use crate::replica::folds::origin_section;
use crate::replica::snapshots::SnapshotFile;
use km::fetch_snapshot_request::{PartitionSnapshot, SnapshotId, TopicSnapshot};
use std::sync::Arc;

const FETCH_SNAPSHOT: i16 = 59;
const PIECE_BYTES: usize = 500;

type Told = km::fetch_snapshot_response::PartitionSnapshot;

fn bytes_of(sections: Vec<Section>, id: OffsetAndEpoch) -> Vec<u8> {
    let snapshot = Snapshot { id, last_contained_log_timestamp: 5, sections, ..Snapshot::default() };
    let mut encoder = SnapshotEncoder::new(snapshot);
    std::iter::from_fn(|| encoder.next_batch()).flat_map(|batch| batch.to_bytes()).collect()
}

fn put(cluster: &mut Cluster, node: NodeId, id: OffsetAndEpoch, bytes: &[u8]) {
    let files = &mut cluster.copies.get_mut(&node).expect("a directory").files().files;
    files.insert(snapshot_file_name(id), Arc::new(bytes.to_vec()));
}

fn file_of(cluster: &mut Cluster, node: NodeId, id: OffsetAndEpoch) -> Option<Arc<Vec<u8>>> {
    cluster.copies.get_mut(&node).expect("a directory").files().files.get(&snapshot_file_name(id)).cloned()
}

fn part_of(cluster: &mut Cluster, node: NodeId) -> Option<Vec<u8>> {
    cluster.copies.get_mut(&node).expect("a directory").files().part.clone()
}

/// Of all that is committed now, as the node would write it.
pub(super) fn take_snapshot(cluster: &mut Cluster, node: NodeId) -> (OffsetAndEpoch, Vec<u8>) {
    cluster.nodes.get_mut(&node).expect("it runs").replica.copy_folds().expect("all is committed");
    let mut folded = None;
    cluster.run_until("a copy of what is folded", 1_000, |cluster| {
        folded = cluster.nodes.get_mut(&node).expect("it runs").replica.poll_folded();
        folded.is_some()
    });
    let folded = folded.expect("it is there").expect("it was not given up");
    let id = folded.id;
    let mut sections = folded.into_sections();
    sections.push(origin_section(&config(node.0, 3)));
    let bytes = bytes_of(sections, id);
    put(cluster, node, id, &bytes);
    (id, bytes)
}

/// Three voters in small pieces; the leader has a snapshot of forty producers.
fn cluster_with_snapshot() -> (Cluster, NodeId, OffsetAndEpoch, Vec<u8>) {
    let mut cluster = cluster_with(3, |config| config.limits.snapshot_piece_bytes_max = PIECE_BYTES);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    for id in 0..40 {
        let records = data_batch(&[b"value"], 1_700_000_000_000, Some((100 + id, 0, 0)));
        assert_eq!(produce(&mut cluster, client, -1, records).0, 0);
    }
    cluster.disconnect(client);
    let (id, bytes) = take_snapshot(&mut cluster, leader);
    assert!(bytes.len() > 3 * PIECE_BYTES, "{} bytes", bytes.len());
    (cluster, leader, id, bytes)
}

fn follower_of(cluster: &Cluster, leader: NodeId) -> NodeId {
    *cluster.nodes.keys().find(|id| **id != leader).expect("there are three")
}

fn request(id: OffsetAndEpoch, position: i64, epoch: i32) -> km::FetchSnapshotRequest {
    let snapshot = SnapshotId::default().with_end_offset(id.offset.0).with_epoch(id.epoch.0);
    let partition = PartitionSnapshot::default()
        .with_snapshot_id(snapshot)
        .with_position(position)
        .with_current_leader_epoch(epoch);
    let topic = TopicSnapshot::default().with_name(name(TOPIC)).with_partitions(vec![partition]);
    km::FetchSnapshotRequest::default().with_replica_id(77.into()).with_topics(vec![topic])
}

/// (top-level error, the partition)
fn ask(cluster: &mut Cluster, client: Client, request: &km::FetchSnapshotRequest) -> (i16, Option<Told>) {
    let mut answer: km::FetchSnapshotResponse = cluster.call(client, FETCH_SNAPSHOT, 1, request);
    let piece = answer.topics.pop().map(|mut topic| topic.partitions.remove(0));
    (answer.error_code, piece)
}

fn error_of(cluster: &mut Cluster, client: Client, request: &km::FetchSnapshotRequest) -> ErrorCode {
    let (error, piece) = ask(cluster, client, request);
    if let Some(piece) = &piece {
        assert!(piece.unaligned_records.is_empty() || piece.error_code == 0);
    }
    ErrorCode(piece.map_or(error, |piece| piece.error_code))
}

#[test]
fn an_observer_gets_the_whole_file_in_pieces_of_what_it_asks_for() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let epoch = cluster.status(leader).epoch;
    let client = cluster.connect(leader);
    for bytes_max in [1, 61, PIECE_BYTES, usize::MAX] {
        let mut got = Vec::new();
        while got.len() < bytes.len() {
            let mut request = request(id, got.len() as i64, epoch);
            request.max_bytes = i32::try_from(bytes_max).unwrap_or(i32::MAX);
            let (error, piece) = ask(&mut cluster, client, &request);
            let piece = piece.expect("the partition");
            assert_eq!((error, piece.error_code, piece.size), (0, 0, bytes.len() as i64));
            assert_eq!((piece.position, piece.snapshot_id.end_offset), (got.len() as i64, id.offset.0));
            assert_eq!(
                (piece.current_leader.leader_id.0, piece.current_leader.leader_epoch),
                (leader.0, epoch)
            );
            let due = bytes_max.min(PIECE_BYTES).min(bytes.len() - got.len());
            assert_eq!(piece.unaligned_records.len(), due);
            got.extend_from_slice(&piece.unaligned_records);
            if bytes_max == 1 && got.len() > 9 {
                break;
            }
        }
        assert!(bytes.starts_with(&got));
    }
    assert_eq!(
        cluster.status(leader).counters.snapshot_bytes_served,
        10 + 2 * bytes.len() as u64 + bytes.len() as u64
    );
}

#[test]
fn what_cannot_be_given_is_refused_with_kafkas_code() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let epoch = cluster.status(leader).epoch;
    let size = bytes.len() as i64;
    let client = cluster.connect(leader);
    let at = |offset, of_epoch| OffsetAndEpoch { epoch: Epoch(of_epoch), offset: Offset(offset) };
    let none = at(id.offset.0 - 1, id.epoch.0);
    let cases = [
        (request(id, 0, epoch), ErrorCode::NONE),
        (request(id, size - 1, epoch), ErrorCode::NONE),
        (request(id, size, epoch), ErrorCode::POSITION_OUT_OF_RANGE),
        (request(id, -1, epoch), ErrorCode::POSITION_OUT_OF_RANGE),
        (request(id, i64::MIN, epoch), ErrorCode::POSITION_OUT_OF_RANGE),
        (request(id, i64::MAX, epoch), ErrorCode::POSITION_OUT_OF_RANGE),
        // Kafka looks for the snapshot first.
        (request(none, -1, epoch), ErrorCode::SNAPSHOT_NOT_FOUND),
        (request(at(0, 0), 0, epoch), ErrorCode::SNAPSHOT_NOT_FOUND),
        (request(at(-1, -1), 0, epoch), ErrorCode::SNAPSHOT_NOT_FOUND),
        (request(at(i64::MAX, i32::MAX), 0, epoch), ErrorCode::SNAPSHOT_NOT_FOUND),
        (request(id, 0, epoch - 1), ErrorCode::FENCED_LEADER_EPOCH),
        (request(id, 0, -1), ErrorCode::FENCED_LEADER_EPOCH),
        (request(id, 0, epoch + 1), ErrorCode::UNKNOWN_LEADER_EPOCH),
    ];
    for (request, expected) in cases {
        assert_eq!(error_of(&mut cluster, client, &request), expected, "{request:?}");
    }
    type Change = fn(&mut km::FetchSnapshotRequest);
    let changes: [(Change, ErrorCode); 9] = [
        (|r| r.cluster_id = Some(StrBytes::from_static_str("other")), ErrorCode::INCONSISTENT_CLUSTER_ID),
        (|r| r.topics.clear(), ErrorCode::INVALID_REQUEST),
        (|r| r.topics.push(r.topics[0].clone()), ErrorCode::INVALID_REQUEST),
        (|r| r.topics[0].partitions.clear(), ErrorCode::INVALID_REQUEST),
        (|r| r.topics[0].name = name("other"), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (|r| r.topics[0].partitions[0].partition = 1, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION),
        (|r| r.max_bytes = 0, ErrorCode::INVALID_REQUEST),
        (|r| r.max_bytes = i32::MIN, ErrorCode::INVALID_REQUEST),
        (|r| r.replica_id = (-1).into(), ErrorCode::NONE),
    ];
    for (change, expected) in changes {
        let mut changed = request(id, 0, epoch);
        change(&mut changed);
        assert_eq!(error_of(&mut cluster, client, &changed), expected, "{changed:?}");
    }
    let follower = follower_of(&cluster, leader);
    let client = cluster.connect(follower);
    let (_, piece) = ask(&mut cluster, client, &request(id, 0, epoch));
    let piece = piece.expect("the partition");
    assert_eq!(ErrorCode(piece.error_code), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert_eq!(piece.current_leader.leader_id.0, leader.0, "it says who leads");
}

/// Nothing of it leaves, and it is said once.
#[test]
fn a_damaged_snapshot_is_given_to_nobody_and_one_that_is_gone_neither() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let epoch = cluster.status(leader).epoch;
    let client = cluster.connect(leader);
    assert_eq!(error_of(&mut cluster, client, &request(id, 0, epoch)), ErrorCode::NONE);
    let before = cluster.nodes[&leader].warnings.len();
    let mut rotten = bytes.clone();
    rotten[bytes.len() / 2] ^= 1;
    put(&mut cluster, leader, id, &rotten);
    for position in [0, 7] {
        assert_eq!(
            error_of(&mut cluster, client, &request(id, position, epoch)),
            ErrorCode::SNAPSHOT_NOT_FOUND
        );
    }
    let warnings = cluster.nodes[&leader].warnings[before..].to_vec();
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(warnings[0].contains(&snapshot_file_name(id)), "{warnings:?}");
    put(&mut cluster, leader, id, &bytes);
    assert_eq!(error_of(&mut cluster, client, &request(id, 7, epoch)), ErrorCode::NONE, "it is another file");
    cluster.copies.get_mut(&leader).expect("a directory").files().files.clear();
    assert_eq!(error_of(&mut cluster, client, &request(id, 7, epoch)), ErrorCode::SNAPSHOT_NOT_FOUND);
}

#[test]
fn a_role_that_changes_while_a_piece_is_read_is_told() {
    let (mut cluster, leader, id, _) = cluster_with_snapshot();
    let epoch = cluster.status(leader).epoch;
    let client = cluster.connect(leader);
    cluster.hold_copies = true;
    cluster.send(client, FETCH_SNAPSHOT, 1, &request(id, 0, epoch));
    cluster.run_until("the read", 1_000, |cluster| !cluster.held_copies.is_empty());
    cluster.isolate(leader);
    cluster.run_until("another leader", 30_000, |cluster| cluster.status(leader).role != "leader");
    cluster.release_copies();
    let mut answer = None;
    cluster.run_until("an answer", 1_000, |cluster| {
        answer = cluster.receive::<km::FetchSnapshotResponse>(client, FETCH_SNAPSHOT, 1);
        answer.is_some()
    });
    let piece = &answer.expect("it is there").topics[0].partitions[0];
    assert_eq!(ErrorCode(piece.error_code), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    assert!(piece.unaligned_records.is_empty());
}

/// One client has one piece under way, however much it asks for; and voters and producers wait for none of a thousand.
#[test]
fn a_crowd_that_asks_for_pieces_costs_the_others_nothing() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let epoch = cluster.status(leader).epoch;
    cluster.hold_copies = true;
    let crowd: Vec<Client> = (0..1_000).map(|_| cluster.connect(leader)).collect();
    for client in &crowd {
        for position in 0..10 {
            cluster.send(*client, FETCH_SNAPSHOT, 1, &request(id, position, epoch));
        }
    }
    cluster.run_ms(50);
    let at_disk = cluster.held_copies.len();
    assert!(at_disk <= cluster_limits().device_reads_max, "{at_disk} are read at once");
    let waiting = cluster.nodes[&leader].replica.serving.waiting();
    assert_eq!(waiting, 1_000, "one of each");
    let client = cluster.connect(leader);
    let began = cluster.now.monotonic_ns;
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    assert!(cluster.now.monotonic_ns - began < 20 * NS_PER_MS, "a commit is as fast as ever");
    // A voter's goes first.
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    cluster.run_until("the voter's read", 1_000, |cluster| cluster.held_copies.len() > at_disk);
    for client in &crowd {
        cluster.disconnect(*client);
    }
    cluster.run_ms(10);
    cluster.release_copies();
    let fetched = wait_for(&mut cluster, follower);
    assert_eq!(fetched.bytes, bytes.len() as u64);
    cluster.run_ms(10);
    assert_eq!(cluster.nodes[&leader].replica.serving.waiting(), 0, "and nothing is left of them");
    assert_eq!(cluster.nodes[&leader].replica.desk.reads.held_bytes(), 0);
}

fn cluster_limits() -> crate::config::Limits {
    config(1, 3).limits
}

/// What a voter fetches is kept for it, once, for as long as its size takes.
#[test]
fn a_snapshot_is_held_for_a_voter_and_for_nobody_else_and_not_for_ever() {
    let (mut cluster, leader, id, _) = cluster_with_snapshot();
    let epoch = cluster.status(leader).epoch;
    let held = |cluster: &Cluster| cluster.nodes[&leader].replica.serving.is_held(cluster.now, id);
    let client = cluster.connect(leader);
    assert_eq!(error_of(&mut cluster, client, &request(id, 0, epoch)), ErrorCode::NONE);
    assert!(!held(&cluster), "an observer holds nothing");
    let follower = follower_of(&cluster, leader);
    let mut of_voter = request(id, 0, epoch);
    of_voter.replica_id = follower.0.into();
    let client = cluster.connect(leader);
    assert_eq!(error_of(&mut cluster, client, &of_voter), ErrorCode::NONE);
    assert!(held(&cluster));
    for _ in 0..40 {
        cluster.run_ms(1_000);
        assert_eq!(error_of(&mut cluster, client, &of_voter), ErrorCode::NONE);
    }
    assert!(!held(&cluster), "whatever it goes on to ask for");
}

fn fetched_by(cluster: &Cluster, node: NodeId) -> u64 {
    cluster.status(node).counters.snapshots_fetched
}

/// The next that it fetches, as it stands in its list then.
fn wait_for(cluster: &mut Cluster, node: NodeId) -> SnapshotFile {
    let before = fetched_by(cluster, node);
    cluster.run_until("the snapshot", 30_000, |cluster| fetched_by(cluster, node) > before);
    cluster.nodes[&node].replica.snapshots.status().newest.expect("it is known")
}

/// As if the leader had named it: its log begins here.
fn name_snapshot(cluster: &mut Cluster, node: NodeId, id: OffsetAndEpoch, begin: OffsetAndEpoch) {
    let now = cluster.now;
    let replica = &mut cluster.nodes.get_mut(&node).expect("it runs").replica;
    let raft = replica.engine.raft();
    let (from, epoch) = (raft.leader().expect("somebody leads"), raft.epoch());
    replica.desk.now = now;
    replica.fetching.begin(&mut replica.desk, from, epoch, id, begin);
    replica.pump_peers();
}

fn fetch_from_leader(cluster: &mut Cluster, node: NodeId, id: OffsetAndEpoch) {
    name_snapshot(cluster, node, id, id);
}

fn nothing_comes(cluster: &mut Cluster, node: NodeId, ms: u64) {
    let before = fetched_by(cluster, node);
    cluster.run_ms(ms);
    assert_eq!(fetched_by(cluster, node), before);
    assert_eq!(part_of(cluster, node), None, "what there was of it is gone");
}

#[test]
fn a_follower_fetches_the_leaders_snapshot_while_it_follows() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    let fetched = wait_for(&mut cluster, follower);
    assert_eq!(fetched.id, id);
    assert_eq!(file_of(&mut cluster, follower, id).as_deref(), Some(&bytes));
    assert_eq!((part_of(&mut cluster, follower), fetched.bytes), (None, bytes.len() as u64));
    // It leads on in the same epoch, and followed all the time.
    assert_eq!(cluster.leader(), Some(leader));
    let pieces = bytes.len().div_ceil(PIECE_BYTES) as u64;
    assert_eq!(cluster.status(leader).counters.snapshot_requests, pieces);
    assert_eq!(cluster.status(follower).counters.snapshots_fetched, 1);
}

/// What the leader has given once is not asked for again.
#[test]
fn a_lost_connection_is_gone_on_with_where_the_part_ends() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    for pieces in 1..=3 {
        cluster.run_until("a piece more", 10_000, |cluster| {
            part_of(cluster, follower).is_some_and(|part| part.len() >= pieces * PIECE_BYTES)
        });
        cluster.break_snapshot_link(follower, leader);
    }
    let fetched = wait_for(&mut cluster, follower);
    assert_eq!(file_of(&mut cluster, follower, id).as_deref(), Some(&bytes));
    assert_eq!(fetched.bytes, bytes.len() as u64);
    let served = cluster.status(leader).counters.snapshot_bytes_served;
    assert!(served < (bytes.len() + 4 * PIECE_BYTES) as u64, "{served} of {}", bytes.len());
}

#[test]
fn a_snapshot_that_goes_meanwhile_is_given_up_and_another_begun() {
    let (mut cluster, leader, id, _) = cluster_with_snapshot();
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    cluster.run_until("a piece", 10_000, |cluster| part_of(cluster, follower).is_some());
    cluster.copies.get_mut(&leader).expect("a directory").files().files.clear();
    nothing_comes(&mut cluster, follower, 1_000);
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"more"])).0, 0);
    let (newer, bytes) = take_snapshot(&mut cluster, leader);
    assert!(newer.offset > id.offset);
    fetch_from_leader(&mut cluster, follower, newer);
    assert_eq!(wait_for(&mut cluster, follower).id, newer);
    assert_eq!(file_of(&mut cluster, follower, newer).as_deref(), Some(&bytes));
}

/// A verdict with a newer one comes again and again: as long as the old one covers where the log begins, it is gone on with.
#[test]
fn a_newer_snapshot_is_taken_only_where_the_older_one_does_not_do() {
    let (mut cluster, leader, id, _) = cluster_with_snapshot();
    let follower = follower_of(&cluster, leader);
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"more"])).0, 0);
    let (newer, _) = take_snapshot(&mut cluster, leader);
    let begin = OffsetAndEpoch { epoch: id.epoch, offset: Offset(3) };
    name_snapshot(&mut cluster, follower, id, begin);
    cluster.run_until("a piece", 10_000, |cluster| part_of(cluster, follower).is_some());
    let later = OffsetAndEpoch { offset: Offset(5), ..begin };
    name_snapshot(&mut cluster, follower, newer, later);
    let fetched = wait_for(&mut cluster, follower);
    assert_eq!(fetched.id, id, "it covers that");
    name_snapshot(&mut cluster, follower, id, begin);
    cluster.run_until("a piece", 10_000, |cluster| part_of(cluster, follower).is_some());
    name_snapshot(&mut cluster, follower, newer, newer);
    let fetched = wait_for(&mut cluster, follower);
    assert_eq!(fetched.id, newer);
}

/// Every checksum is right: it is another cluster's.
#[test]
fn a_snapshot_of_another_log_is_refused_once_and_not_asked_for_again_at_once() {
    let (mut cluster, leader, id, _) = cluster_with_snapshot();
    let mut other = config(1, 3);
    other.cluster_id = "another".to_string();
    let bytes = bytes_of(vec![origin_section(&other)], id);
    put(&mut cluster, leader, id, &bytes);
    let follower = follower_of(&cluster, leader);
    for _ in 0..5 {
        fetch_from_leader(&mut cluster, follower, id);
        nothing_comes(&mut cluster, follower, 1_000);
    }
    assert_eq!(file_of(&mut cluster, follower, id), None);
    let said =
        |text: &str| cluster.nodes[&follower].warnings.iter().filter(|line| line.contains(text)).count();
    assert_eq!(said("gave up fetching"), 1, "{:?}", cluster.nodes[&follower].warnings);
    assert_eq!(said("another"), 1);
    let asked = cluster.status(leader).counters.snapshot_requests;
    assert_eq!(asked, bytes.len().div_ceil(PIECE_BYTES) as u64, "it was fetched once");
    cluster.run_ms(10_000);
    fetch_from_leader(&mut cluster, follower, id);
    cluster.run_ms(1_000);
    assert!(cluster.status(leader).counters.snapshot_requests > asked, "and again after the pause");
}

#[test]
fn a_size_that_changes_or_is_too_large_ends_it_with_a_line() {
    let (mut cluster, leader, id, bytes) = cluster_with_snapshot();
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    cluster.run_until("a piece", 10_000, |cluster| part_of(cluster, follower).is_some());
    let (newer, others) = take_snapshot(&mut cluster, leader);
    let mut sections = vec![origin_section(&config(1, 3))];
    sections.push(Section { tag: 9, version: 1, bytes: vec![7; 9_000] });
    assert_eq!((newer, others), (id, bytes), "nothing new is committed");
    put(&mut cluster, leader, id, &bytes_of(sections, id));
    nothing_comes(&mut cluster, follower, 1_000);
    let warnings = &cluster.nodes[&follower].warnings;
    assert!(warnings.iter().any(|line| line.contains("and had others before")), "{warnings:?}");

    let mut cluster = cluster_with(3, |config| {
        (config.limits.snapshot_piece_bytes_max, config.limits.snapshot_bytes_max) = (PIECE_BYTES, 100);
    });
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    assert_eq!(produce(&mut cluster, client, -1, batch(&[b"x"])).0, 0);
    // The bound of who gives it is another's.
    cluster.copies.get_mut(&leader).expect("a directory").set_bytes_max(1 << 20);
    let (id, _) = take_snapshot(&mut cluster, leader);
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    nothing_comes(&mut cluster, follower, 1_000);
    let warnings = &cluster.nodes[&follower].warnings;
    assert!(warnings.iter().any(|line| line.contains("kraft.snapshot.bytes.max = 100")), "{warnings:?}");
}

/// What it has given is another's in another epoch.
#[test]
fn another_leader_ends_it() {
    let (mut cluster, leader, id, _) = cluster_with_snapshot();
    let follower = follower_of(&cluster, leader);
    fetch_from_leader(&mut cluster, follower, id);
    cluster.run_until("a piece", 10_000, |cluster| part_of(cluster, follower).is_some());
    cluster.isolate(leader);
    cluster.run_until("another leader", 30_000, |cluster| {
        cluster.nodes.keys().any(|id| *id != leader && cluster.status(*id).role == "leader")
    });
    nothing_comes(&mut cluster, follower, 1_000);
}
