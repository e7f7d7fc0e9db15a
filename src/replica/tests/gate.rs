//! While something that promises rest on is being written, nobody hears anything.

use super::*;
use crate::log::ReadError;

fn is_quorum_state(kind: &OpKind) -> bool {
    matches!(kind, OpKind::ReplaceFile { file: SmallFile::QuorumState, .. })
}

/// A leader of three, and a client's connection to it.
fn leader_of_three(change: fn(&mut Config)) -> (Cluster, Client) {
    let mut cluster = cluster_with(3, change);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    (cluster, client)
}

/// A voter that campaigns asks the leader for its vote in the next epoch.
fn disturb(cluster: &mut Cluster, leader: NodeId, by_epochs: i32) -> Client {
    let candidate = others(cluster, leader)[0];
    let voter = cluster.connect(leader);
    believe_requests(cluster, leader);
    let epoch = cluster.status(leader).epoch + by_epochs;
    cluster.send(voter, VOTE, 2, &vote_request(candidate, epoch));
    voter
}

/// (error code, epoch, granted)
fn receive_vote(cluster: &mut Cluster, voter: Client) -> Option<(i16, i32, bool)> {
    let answer: km::VoteResponse = cluster.receive(voter, VOTE, 2)?;
    let partition = &answer.topics[0].partitions[0];
    Some((partition.error_code, partition.leader_epoch, partition.vote_granted))
}

/// Seeds 15 and 118 of the simulator.
#[test]
fn a_read_that_ends_while_the_quorum_state_is_written_tells_no_epoch_before_it_is_durable() {
    let (mut cluster, client) = leader_of_three(|config| {
        (config.limits.tail_cache_bytes_max, config.limits.read_cache_bytes_max) = (0, 0);
    });
    let leader = client.0;
    let told = produce(&mut cluster, client, -1, batch(&[&[7; 1000]]));
    let epoch = cluster.status(leader).epoch;
    cluster.hold = |_, kind| is_quorum_state(kind) || matches!(kind, OpKind::Read { .. });
    cluster.send(client, FETCH, 12, &fetch_request(told.1, 0));
    cluster.run_ms(2);
    let voter = disturb(&mut cluster, leader, 1);
    cluster.run_ms(2);
    assert_eq!(cluster.status(leader).epoch, epoch + 1, "in memory the new epoch has begun");
    cluster.release_those(|completion| matches!(completion.result, Ok(Done::Read(_))));
    cluster.run_ms(2);
    assert_eq!(receive_fetch(&mut cluster, client), None, "the epoch may still be lost");
    cluster.release();
    cluster.run_ms(2);
    let answer = receive_fetch(&mut cluster, client).expect("an answer");
    assert_eq!(answer.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    assert_eq!(receive_vote(&mut cluster, voter), Some((0, epoch + 1, false)));
}

/// Else an error that was there before it, and waits, would be told as the newer of the two.
#[test]
fn what_was_read_well_waits_in_its_order_among_answers_that_wait() {
    let (mut cluster, client) = leader_of_three(|_| {});
    let leader = client.0;
    cluster.hold = |_, kind| is_quorum_state(kind);
    disturb(&mut cluster, leader, 1);
    cluster.run_ms(2);
    let now = cluster.now;
    let replica = &mut cluster.nodes.get_mut(&leader).expect("it runs").replica;
    assert!(replica.standing().is_gated);
    replica.engine.on_unreadable(now, "cannot serve", Offset(0), &ReadError::Gone);
    replica.on_told(Told::Readable(Offset(0), Offset(9)));
    assert!(replica.engine.log_damage().is_some(), "others wait before it");
    cluster.release();
    cluster.run_ms(2);
    assert_eq!(cluster.status(leader).log_damage, None);
}

#[test]
fn inputs_wait_in_their_order_while_a_quorum_state_is_written() {
    let (mut cluster, client) = leader_of_three(|_| {});
    let (leader, epoch) = (client.0, cluster.status(client.0).epoch);
    cluster.hold = |_, kind| is_quorum_state(kind);
    // Each in its turn shuts the gate before the next.
    let voters = [1, 2, 3].map(|by_epochs| {
        let voter = disturb(&mut cluster, leader, by_epochs);
        cluster.send(voter, METADATA, 9, &metadata_request());
        voter
    });
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(300);
    let replica = &cluster.nodes[&leader].replica;
    assert!(replica.standing().is_gated && !replica.status(cluster.now).ready);
    assert_eq!(replica.deadline(), replica.engine.log().deadline(), "nothing else can be done in time");
    let ticks = replica.engine.waits().filter(|d| matches!(d, Deferred::Input(Input::Tick))).count();
    assert_eq!(ticks, 0, "what has no place in an order does not pile up");
    for voter in voters {
        assert_eq!(receive_vote(&mut cluster, voter), None);
    }
    cluster.release();
    cluster.run_ms(2);
    let told = voters.map(|voter| receive_vote(&mut cluster, voter).map(|(_, epoch, _)| epoch));
    assert_eq!(told, [1, 2, 3].map(|by_epochs| Some(epoch + by_epochs)));
    for voter in voters {
        assert!(cluster.receive::<km::MetadataResponse>(voter, METADATA, 9).is_some());
    }
    let refused = receive_produce(&mut cluster, client).expect("an answer");
    assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
}

#[test]
fn a_flush_that_ends_or_stalls_while_a_quorum_state_is_written_is_heard_of_later() {
    let (mut cluster, client) = leader_of_three(|config| config.limits.flush_stall_ms_max = 50);
    let leader = client.0;
    cluster.hold = |_, kind| is_quorum_state(kind) || matches!(kind, OpKind::Write { .. });
    cluster.send(client, PRODUCE, 9, &produce_request(1, batch(&[b"x"])));
    cluster.run_ms(1);
    let voter = disturb(&mut cluster, leader, 1);
    cluster.run_ms(200);
    let replica = &cluster.nodes[&leader].replica;
    assert_eq!(replica.deadline(), replica.engine.log().deadline());
    assert!(!cluster.nodes[&leader].notes.iter().any(|note| note.contains("stalled")));
    cluster.release_those(|completion| completion.buffer.is_some());
    cluster.run_ms(2);
    assert_eq!(receive_produce(&mut cluster, client), None);
    cluster.release();
    cluster.run_ms(2);
    let refused = receive_produce(&mut cluster, client).expect("an answer");
    assert_eq!(refused.error_code, ErrorCode::NOT_LEADER_OR_FOLLOWER.0);
    assert!(receive_vote(&mut cluster, voter).is_some());
}

#[test]
fn a_starting_node_is_silent_until_what_it_read_back_is_durable() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    cluster.kill(leader);
    cluster.hold = |_, _| true;
    cluster.start(leader);
    let client = cluster.connect(leader);
    cluster.send(client, METADATA, 9, &metadata_request());
    cluster.run_ms(5_000);
    assert!(cluster.receive::<km::MetadataResponse>(client, METADATA, 9).is_none());
    assert!(cluster.nodes[&leader].replica.standing().is_gated);
    cluster.release();
    cluster.run_ms(2);
    assert!(cluster.receive::<km::MetadataResponse>(client, METADATA, 9).is_some());
    assert_eq!(elect(&mut cluster), leader);
}

#[test]
fn a_node_that_closes_its_log_takes_nothing_more() {
    let mut cluster = cluster(1);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    cluster.hold = |_, kind| matches!(kind, OpKind::CutSegment { .. });
    cluster.shutdown(leader);
    cluster.run_ms(2);
    cluster.send(client, METADATA, 9, &metadata_request());
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(1_000);
    assert!(cluster.receive::<km::MetadataResponse>(client, METADATA, 9).is_none());
    let replica = &cluster.nodes[&leader].replica;
    assert_eq!(replica.deadline(), replica.engine.log().deadline());
    assert_eq!(cluster.nodes[&leader].stopped, None);
    cluster.release();
    cluster.run_ms(2);
    assert_eq!(cluster.nodes[&leader].stopped, Some(EXIT_OK));
    let replica = &mut cluster.nodes.get_mut(&leader).expect("a node").replica;
    assert_eq!(replica.deadline(), None);
    replica.handle(cluster.now, Input::DiskFree { bytes: 0 });
    replica.end_turn(cluster.now);
    assert!(replica.poll_action().is_none(), "it has ended");
}

#[test]
fn a_stalled_flush_is_told_once_and_costs_the_leadership() {
    let (mut cluster, client) = leader_of_three(|config| config.limits.flush_stall_ms_max = 100);
    let leader = client.0;
    cluster.hold = |_, kind| matches!(kind, OpKind::Write { .. });
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(1);
    let due_in_ns = cluster.nodes[&leader].replica.deadline().expect("a deadline") - cluster.now.monotonic_ns;
    assert!(due_in_ns <= 100 * NS_PER_MS, "the stall is looked for in time");
    let told = |cluster: &Cluster| {
        cluster.nodes[&leader].notes.iter().filter(|note| note.contains("the disk is stalled")).count()
    };
    cluster.run_ms(90);
    assert_eq!((told(&cluster), cluster.status(leader).role), (0, "leader"));
    cluster.run_ms(15);
    assert_eq!(told(&cluster), 1);
    assert_ne!(cluster.status(leader).role, "leader");
    let note = cluster.nodes[&leader].notes.iter().find(|note| note.contains("stalled")).expect("a note");
    assert!(note.contains("under way for 10"), "{note}");
    cluster.run_ms(300);
    assert_eq!(told(&cluster), 1);
    // The next stall is told again.
    cluster.release();
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    let before = cluster.nodes[&leader].notes.len();
    cluster.hold = |_, kind| matches!(kind, OpKind::Write { .. });
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"y"])));
    cluster.run_ms(150);
    let again = cluster.nodes[&leader].notes[before..].iter().filter(|note| note.contains("stalled")).count();
    assert_eq!(again, 1);
}

/// The Fetch of a follower promises what it has flushed, and its leader must not be given up because of it.
#[test]
fn a_fetch_that_waited_for_a_slow_flush_waits_no_longer_than_there_is_time() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    let client = cluster.connect(leader);
    cluster.run_ms(700);
    let follower = others(&cluster, leader)[0];
    cluster.hold = |_, kind| matches!(kind, OpKind::Write { .. });
    cluster.send(client, PRODUCE, 9, &produce_request(-1, batch(&[b"x"])));
    cluster.run_ms(2);
    let fetch_timeout_ms = config(1, 3).fetch_timeout_ms;
    let late = Now { monotonic_ns: cluster.now.plus_ms(fetch_timeout_ms - 100), ..cluster.now };
    let replica = &mut cluster.nodes.get_mut(&follower).expect("a node").replica;
    assert_eq!(replica.engine.waiting_for_flush(), 1);
    let log_end = replica.engine.raft().log_end().0;
    replica.engine.do_flushed(late, FlushedOffset(log_end));
    let wait_ms = sent_fetch(replica, late).max_wait_ms;
    assert!((1..=200).contains(&wait_ms), "{wait_ms} ms");
}

/// The same where it stands behind the leader's new epoch.
#[test]
fn a_fetch_that_waited_for_a_slow_quorum_state_waits_no_longer_than_there_is_time() {
    let mut cluster = cluster(3);
    let leader = elect(&mut cluster);
    cluster.run_ms(700);
    let follower = others(&cluster, leader)[0];
    believe_requests(&mut cluster, follower);
    cluster.hold = |_, kind| is_quorum_state(kind);
    let voter = cluster.connect(follower);
    let epoch = cluster.status(follower).epoch + 1;
    cluster.send(voter, BEGIN_QUORUM_EPOCH, 0, &begin_request(leader, epoch));
    cluster.run_ms(1);
    let fetch_timeout_ms = config(1, 3).fetch_timeout_ms;
    let late = Now { monotonic_ns: cluster.now.plus_ms(fetch_timeout_ms - 100), ..cluster.now };
    let replica = &mut cluster.nodes.get_mut(&follower).expect("a node").replica;
    assert!(replica.engine.is_gated());
    replica.engine.do_quorum_state_durable(late);
    let fetch = sent_fetch(replica, late);
    assert_eq!(fetch.topics[0].partitions[0].current_leader_epoch, epoch);
    assert!((1..=200).contains(&fetch.max_wait_ms), "{} ms", fetch.max_wait_ms);
}

/// The Fetch that leaves now.
fn sent_fetch(replica: &mut Replica, now: Now) -> protocol::FetchRequest {
    replica.desk.now = now;
    replica.follow_engine();
    replica.pump_peers();
    let sent = std::iter::from_fn(|| replica.poll_action()).find_map(|action| match action {
        Action::PeerSend { link: PeerLink { lane: Lane::Fetch, .. }, chunks } => Some(chunks.concat()),
        _ => None,
    });
    let frame = Bytes::from(sent.expect("a Fetch")).slice(4..);
    let (_, request, _) = protocol::decode_request_sized(frame).expect("a request");
    let protocol::Request::Fetch(fetch) = request else { panic!("not a Fetch") };
    fetch
}

#[test]
fn what_peers_said_waits_too() {
    let (mut cluster, client) = leader_of_three(|_| {});
    cluster.run_ms(700);
    let leader = client.0;
    let [follower, other] = others(&cluster, leader)[..] else { panic!("two followers") };
    // Its parked Fetch fails while a quorum state is written, and that of the other while it closes its log.
    cluster.hold = |_, kind| is_quorum_state(kind) || matches!(kind, OpKind::CutSegment { .. });
    let voter = cluster.connect(follower);
    believe_requests(&mut cluster, follower);
    let epoch = cluster.status(follower).epoch + 1;
    cluster.send(voter, VOTE, 2, &vote_request(other, epoch));
    cluster.shutdown(other);
    cluster.run_ms(2);
    for id in [follower, other] {
        let replica = &mut cluster.nodes.get_mut(&id).expect("a node").replica;
        assert!(!replica.engine.is_open());
        replica.desk.peers.drop_peer(leader);
    }
    cluster.run_ms(2);
    let replica = &mut cluster.nodes.get_mut(&other).expect("a node").replica;
    assert!(replica.desk.peers.poll_event().is_some(), "nothing is begun that would not be ended");
    assert!(receive_vote(&mut cluster, voter).is_none());
    cluster.release();
    cluster.run_ms(2);
    assert!(receive_vote(&mut cluster, voter).is_some());
    assert_eq!(cluster.nodes[&other].stopped, Some(EXIT_OK));
}
