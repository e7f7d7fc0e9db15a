use super::*;
use crate::protocol::frame::LENGTH_BYTES;
use crate::protocol::{self, RequestHeader, Response};
use crate::raft::{FetchRequest, LeaderResponse, VoteRequest, VoteResponse, VoterMemory};
use crate::record::{ProduceLimits, StampedBatch, check_produced, data_batch};
use smallvec::smallvec;
use std::sync::Arc;

const TIMEOUT_MS: u64 = 2000;
const BACKOFF_MS: u64 = 20;
const TIMES: PeerTimes =
    PeerTimes { request_timeout_ms: TIMEOUT_MS, retry_backoff_ms: BACKOFF_MS, fetch_timeout_ms: 8_000 };
const FETCH_2: PeerLink = PeerLink { node: NodeId(2), lane: Lane::Fetch };
const FETCH_3: PeerLink = PeerLink { node: NodeId(3), lane: Lane::Fetch };
const CONTROL_2: PeerLink = PeerLink { node: NodeId(2), lane: Lane::Control };

fn at(ms: u64) -> Now {
    Now { monotonic_ns: ms * NS_PER_MS, wall_ms: ms as i64 }
}

fn endpoint(node: i32) -> Endpoint {
    Endpoint { host: "localhost".to_string(), port: 9000 + node as u16 }
}

fn context(local: i32) -> QuorumContext {
    QuorumContext {
        cluster_id: "AAAAAAAAAAAAAAAAAAAAAA".into(),
        topic: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        local: ReplicaKey { id: NodeId(local), directory_id: Uuid(77) },
        listener_name: "PLAINTEXT".to_string(),
        data_mode: crate::types::DataMode::Native,
        endpoint: std::sync::Arc::new(endpoint(local)),
        voters: (1..=3).map(|id| (NodeId(id), Arc::new(endpoint(id)))).collect(),
    }
}

fn peers() -> Peers {
    Peers::new(context(1), TIMES)
}

fn vote(epoch: i32) -> raft::Request {
    raft::Request::Vote(VoteRequest {
        voter: Some(ReplicaKey { id: NodeId(2), directory_id: Uuid::ZERO }),
        epoch: Epoch(epoch),
        candidate: ReplicaKey { id: NodeId(1), directory_id: Uuid(77) },
        last: OffsetAndEpoch::default(),
        pre_vote: false,
        counts_memory: true,
    })
}

fn begin(epoch: i32) -> raft::Request {
    raft::Request::BeginQuorumEpoch(raft::BeginQuorumEpochRequest {
        voter: Some(ReplicaKey { id: NodeId(2), directory_id: Uuid::ZERO }),
        leader: NodeId(1),
        epoch: Epoch(epoch),
    })
}

fn fetch(offset: i64) -> raft::Request {
    raft::Request::Fetch(FetchRequest {
        replica: ReplicaKey { id: NodeId(1), directory_id: Uuid(77) },
        epoch: Epoch(3),
        fetch_offset: Offset(offset),
        last_fetched_epoch: Epoch(2),
        max_wait_ms: 500,
        high_watermark: None,
        unfit: None,
        one_batch: false,
        log_start: None,
        wall_ms: None,
    })
}

fn fetch_answer(high_watermark: i64, records: Vec<StampedBatch>) -> Response {
    Response::Fetch(protocol::FetchResponse {
        topics: smallvec![protocol::FetchTopic {
            name: "__cluster_metadata".into(),
            topic_id: Uuid::METADATA_TOPIC_ID,
            partitions: smallvec![protocol::FetchPartition {
                index: 0,
                error: ErrorCode::NONE,
                high_watermark,
                last_stable_offset: -1,
                log_start_offset: 0,
                diverging: None,
                current_leader: Some((Some(NodeId(2)), Epoch(3))),
                snapshot: None,
                lagging: 0,
                records: records.into(),
            }],
        }],
        ..protocol::FetchResponse::default()
    })
}

/// A batch as a leader has it.
fn stamped(value: &[u8]) -> StampedBatch {
    let limits = ProduceLimits {
        message_bytes_max: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now_wall_ms: 1,
    };
    let mut batch = check_produced(data_batch(&[value], 1, None), &limits).expect("a good batch");
    batch.stamp(Offset(6), Epoch(3));
    batch
}

fn granted(epoch: i32) -> VoteResponse {
    let memory = VoterMemory::Whole;
    VoteResponse {
        error: ErrorCode::NONE,
        leader: None,
        epoch: Epoch(epoch),
        granted: true,
        memory,
        start: None,
    }
}

fn vote_answer(epoch: i32) -> Response {
    quorum::vote_response(&context(2), &granted(epoch))
}

/// What the peers ask of the sockets, and what they tell Raft, since the last look.
#[derive(Debug, PartialEq)]
enum Seen {
    Connect(PeerLink),
    Close(PeerLink),
    /// Key and version of the request that was sent, and its correlation id.
    Sent(PeerLink, i16, i16, i32),
    Answer(NodeId, raft::Response),
    Failed(NodeId, RequestKind),
    Overtaken(NodeId),
    Refused(NodeId),
}

fn look(peers: &mut Peers) -> Vec<Seen> {
    let mut seen = Vec::new();
    while let Some(action) = peers.poll_action() {
        seen.push(match action {
            Action::PeerConnect { link, endpoint: e } => {
                assert_eq!(e, endpoint(link.node.0));
                Seen::Connect(link)
            }
            Action::PeerClose { link } => Seen::Close(link),
            Action::PeerSend { link, chunks } => {
                let header = sent_header(&chunks);
                Seen::Sent(link, header.api_key, header.api_version, header.correlation_id)
            }
            other => panic!("{other:?}"),
        });
    }
    while let Some(event) = peers.poll_event() {
        seen.push(match event {
            PeerEvent::Response { from, response, .. } => Seen::Answer(from, response),
            PeerEvent::Failed { to, kind, .. } => Seen::Failed(to, kind),
            PeerEvent::FetchOvertaken { to } => Seen::Overtaken(to),
            PeerEvent::Refused { by } => Seen::Refused(by),
        });
    }
    seen
}

/// Our own server reads what we sent.
fn sent_header(chunks: &[Bytes]) -> RequestHeader {
    let bytes = chunks.concat();
    let (length, frame) = bytes.split_at(LENGTH_BYTES);
    assert_eq!(length, (frame.len() as i32).to_be_bytes());
    protocol::decode_request(Bytes::copy_from_slice(frame)).expect("a request that a peer can read").0
}

fn answer_bytes(api_key: i16, api_version: i16, correlation_id: i32, response: &Response) -> Bytes {
    let header = RequestHeader { api_key, api_version, correlation_id, client_id: None };
    Bytes::from(protocol::encode_response(&header, response).chunks.concat()).slice(LENGTH_BYTES..)
}

fn versions_answer(correlation_id: i32) -> Bytes {
    let response = Response::ApiVersions(protocol::api_versions_response(4));
    answer_bytes(18, 4, correlation_id, &response)
}

#[test]
fn who_is_too_old_for_what_is_set_for_the_topic_is_known() {
    for (lacks, told) in [(true, Some(NodeId(2))), (false, None)] {
        let mut peers = peers();
        peers.send(at(0), NodeId(2), vote(5));
        assert_eq!(peers.too_old_for_configs(), None, "it has said nothing");
        peers.on_connected(at(0), CONTROL_2);
        let mut answer = protocol::api_versions_response(4);
        answer.api_keys.retain(|key| !lacks || key.api_key != 44);
        peers.on_frame(at(0), CONTROL_2, answer_bytes(18, 4, 0, &Response::ApiVersions(answer)));
        assert_eq!(peers.too_old_for_configs(), told);
    }
}

/// A link that has shaken hands and sent its first request, with correlation id 1.
fn connected(now: Now, link: PeerLink, first: raft::Request) -> Peers {
    let mut peers = peers();
    peers.send(now, link.node, first);
    peers.on_connected(now, link);
    peers.on_frame(now, link, versions_answer(0));
    look(&mut peers);
    peers
}

#[test]
fn a_link_connects_shakes_hands_and_sends_and_each_answer_meets_its_request() {
    let mut peers = peers();
    peers.send(at(0), NodeId(2), vote(5));
    assert_eq!(look(&mut peers), [Seen::Connect(CONTROL_2)]);
    peers.on_connected(at(1), CONTROL_2);
    assert_eq!(look(&mut peers), [Seen::Sent(CONTROL_2, 18, 4, 0)]);
    peers.on_frame(at(2), CONTROL_2, versions_answer(0));
    assert_eq!(look(&mut peers), [Seen::Sent(CONTROL_2, 52, 2, 1)]);
    peers.send(at(3), NodeId(2), begin(6));
    assert_eq!(look(&mut peers), [Seen::Sent(CONTROL_2, 53, 1, 2)]);
    peers.on_frame(at(4), CONTROL_2, answer_bytes(52, 2, 1, &vote_answer(5)));
    let begun = LeaderResponse { error: ErrorCode::NONE, leader: Some(NodeId(1)), epoch: Epoch(6) };
    let begun_bytes = quorum::begin_quorum_epoch_response(&context(2), &begun);
    peers.on_frame(at(5), CONTROL_2, answer_bytes(53, 1, 2, &begun_bytes));
    let voted = granted(5);
    assert_eq!(
        look(&mut peers),
        [
            Seen::Answer(NodeId(2), raft::Response::Vote(voted)),
            Seen::Answer(NodeId(2), raft::Response::BeginQuorumEpoch(begun)),
        ]
    );
    assert_eq!(peers.deadline(), None);
}

#[test]
fn fetched_records_share_the_bytes_that_came() {
    let batch = stamped(&[9; 500]);
    let mut peers = connected(at(0), FETCH_2, fetch(1));
    let bytes = answer_bytes(1, 18, 1, &fetch_answer(7, vec![batch.clone()]));
    let range = bytes.as_ptr_range();
    peers.on_frame(at(1), FETCH_2, bytes.clone());
    let Some(PeerEvent::Response { records, .. }) = peers.poll_event() else { panic!("no answer") };
    assert_eq!(records, batch.to_bytes());
    assert!(range.contains(&records.as_ptr()), "the records were copied");
}

#[test]
fn one_request_of_a_kind_is_under_way_and_the_newest_waits() {
    let mut peers = connected(at(0), CONTROL_2, vote(5));
    for epoch in 6..9 {
        peers.send(at(1), NodeId(2), vote(epoch));
    }
    assert_eq!(look(&mut peers), []);
    peers.on_frame(at(2), CONTROL_2, answer_bytes(52, 2, 1, &vote_answer(5)));
    let sent = std::iter::from_fn(|| peers.poll_action()).collect::<Vec<_>>();
    let [Action::PeerSend { chunks, .. }] = sent.as_slice() else { panic!("{sent:?}") };
    let frame = Bytes::from(chunks.concat()).slice(LENGTH_BYTES..);
    let (_, protocol::Request::Vote(request)) = protocol::decode_request(frame).expect("a request") else {
        panic!("not a Vote")
    };
    assert_eq!(quorum::vote_request(&context(2), &request).expect("ours").epoch, Epoch(8));
}

#[test]
fn a_heartbeat_follows_a_parked_fetch_and_a_third_waits() {
    let mut peers = connected(at(0), FETCH_2, fetch(1));
    peers.send(at(1), NodeId(2), fetch(1));
    assert_eq!(look(&mut peers), [Seen::Sent(FETCH_2, 1, 18, 2)]);
    peers.send(at(2), NodeId(2), fetch(1));
    assert_eq!(look(&mut peers), []);
    peers.send(at(2), NodeId(2), fetch(1));
    assert_eq!(look(&mut peers), [Seen::Overtaken(NodeId(2))], "Raft waits for no answer to that one");
    peers.on_frame(at(3), FETCH_2, answer_bytes(1, 18, 1, &fetch_answer(7, vec![])));
    let seen = look(&mut peers);
    assert!(matches!(seen.as_slice(), [Seen::Sent(FETCH_2, 1, 18, 3), Seen::Answer(..)]), "{seen:?}");
}

#[test]
fn a_fetch_to_another_node_closes_the_link_of_the_older_one_without_a_word() {
    let mut peers = connected(at(0), FETCH_2, fetch(1));
    peers.send(at(1), NodeId(3), fetch(1));
    assert_eq!(look(&mut peers), [Seen::Close(FETCH_2), Seen::Connect(FETCH_3)]);
    peers.on_frame(at(2), FETCH_2, answer_bytes(1, 18, 1, &fetch_answer(7, vec![])));
    assert_eq!(look(&mut peers), [], "a late answer of the old leader");
    // Back to the first: it is connected again once the server has closed it, without a pause.
    peers.send(at(3), NodeId(2), fetch(2));
    assert_eq!(look(&mut peers), [], "the one to node 3 was never sent");
    peers.on_closed(at(4), FETCH_2, "closed by us");
    assert_eq!(look(&mut peers), [Seen::Connect(FETCH_2)]);
    peers.on_connected(at(5), FETCH_3);
    peers.on_frame(at(5), FETCH_3, versions_answer(0));
    assert_eq!(look(&mut peers), [Seen::Sent(FETCH_3, 18, 4, 0)], "nothing is left to send to node 3");
}

#[test]
fn a_refused_connection_fails_and_the_pauses_double_up_to_a_second() {
    let mut peers = peers();
    let mut now_ms = 0;
    for expected_ms in [20, 40, 80, 160, 320, 640, 1000, 1000] {
        peers.send(at(now_ms), NodeId(2), vote(5));
        assert_eq!(look(&mut peers), [Seen::Connect(CONTROL_2)]);
        peers.on_refused(at(now_ms), CONTROL_2, "connection refused");
        let failed = Seen::Failed(NodeId(2), RequestKind::Vote);
        assert_eq!(look(&mut peers), [failed, Seen::Refused(NodeId(2))]);
        peers.send(at(now_ms), NodeId(2), vote(6));
        assert_eq!(look(&mut peers), [], "within the pause");
        assert_eq!(peers.deadline(), Some(at(now_ms + expected_ms).monotonic_ns));
        now_ms += expected_ms;
    }
    // The request that waited goes out when the pause is over, and an answer ends the pauses.
    peers.on_tick(at(now_ms));
    peers.on_connected(at(now_ms), CONTROL_2);
    peers.on_frame(at(now_ms), CONTROL_2, versions_answer(0));
    look(&mut peers);
    peers.on_frame(at(now_ms), CONTROL_2, answer_bytes(52, 2, 1, &vote_answer(6)));
    look(&mut peers);
    peers.on_closed(at(now_ms), CONTROL_2, "lost");
    peers.send(at(now_ms), NodeId(2), vote(7));
    assert_eq!(peers.deadline(), Some(at(now_ms + BACKOFF_MS).monotonic_ns));
}

/// A leader may close it for others that claim to be this node, as often as it is connected.
#[test]
fn a_link_is_tried_again_after_an_eighth_of_the_fetch_timeout_at_most() {
    for (fetch_timeout_ms, most_ms) in [(400, 50), (2_000, 250), (60_000, 1_000), (100, BACKOFF_MS)] {
        let mut peers = Peers::new(context(1), PeerTimes { fetch_timeout_ms, ..TIMES });
        let mut pauses = Vec::new();
        let mut now_ms = 0;
        for _ in 0..12 {
            peers.send(at(now_ms), NodeId(2), fetch(1));
            assert!(look(&mut peers).contains(&Seen::Connect(FETCH_2)), "after {pauses:?}");
            peers.on_closed(at(now_ms), FETCH_2, "closed by the server");
            assert_eq!(look(&mut peers), [Seen::Failed(NodeId(2), RequestKind::Fetch)]);
            peers.send(at(now_ms), NodeId(2), fetch(1));
            let deadline_ns = peers.deadline().expect("the end of the pause");
            pauses.push(deadline_ns / NS_PER_MS - now_ms);
            now_ms = deadline_ns / NS_PER_MS;
        }
        assert_eq!((pauses[0], pauses[11]), (BACKOFF_MS, most_ms), "{pauses:?}");
        let eight_ms: u64 = pauses[..8].iter().sum();
        assert!(eight_ms <= fetch_timeout_ms.max(8 * BACKOFF_MS), "{pauses:?}");
    }
}

/// Until the leader knows the connection, whoever claims to be this node may take its place.
#[test]
fn the_first_fetches_of_a_connection_do_not_wait() {
    let mut peers = peers();
    peers.send(at(0), NodeId(2), fetch(1));
    peers.on_connected(at(0), FETCH_2);
    look(&mut peers);
    peers.on_frame(at(0), FETCH_2, versions_answer(0));
    let mut waits = Vec::new();
    for correlation_id in 1..=10 {
        let sent = std::iter::from_fn(|| peers.poll_action()).collect::<Vec<_>>();
        let [Action::PeerSend { chunks, .. }] = sent.as_slice() else { panic!("{sent:?}") };
        let frame = Bytes::from(chunks.concat()).slice(LENGTH_BYTES..);
        let (_, protocol::Request::Fetch(request)) = protocol::decode_request(frame).expect("a request")
        else {
            panic!("not a Fetch")
        };
        waits.push(request.max_wait_ms);
        peers.on_frame(at(2), FETCH_2, answer_bytes(1, 18, correlation_id, &fetch_answer(7, vec![])));
        peers.send(at(2), NodeId(2), fetch(1));
    }
    assert_eq!(waits, [0, 0, 0, 0, 0, 0, 0, 0, 500, 500]);
}

#[test]
fn a_lost_link_fails_each_kind_once() {
    let mut peers = connected(at(0), FETCH_2, fetch(1));
    peers.send(at(0), NodeId(2), fetch(1));
    peers.send(at(0), NodeId(2), fetch(1));
    look(&mut peers);
    peers.on_closed(at(1), FETCH_2, "connection reset");
    assert_eq!(look(&mut peers), [Seen::Failed(NodeId(2), RequestKind::Fetch)]);
    peers.on_closed(at(1), FETCH_2, "once more");
    assert_eq!(look(&mut peers), []);
}

#[test]
fn silence_closes_the_link_at_the_request_timeout() {
    // While connecting.
    let mut peers = peers();
    peers.send(at(0), NodeId(2), vote(5));
    look(&mut peers);
    assert_eq!(peers.deadline(), Some(at(TIMEOUT_MS).monotonic_ns));
    peers.on_tick(at(TIMEOUT_MS - 1));
    assert_eq!(look(&mut peers), []);
    peers.on_tick(at(TIMEOUT_MS));
    let gone = [Seen::Close(CONTROL_2), Seen::Failed(NodeId(2), RequestKind::Vote)];
    assert_eq!(look(&mut peers), gone);
    // In the handshake.
    peers.on_closed(at(TIMEOUT_MS), CONTROL_2, "closed by us");
    peers.send(at(3000), NodeId(2), vote(5));
    peers.on_connected(at(3100), CONTROL_2);
    look(&mut peers);
    peers.on_tick(at(3100 + TIMEOUT_MS));
    assert_eq!(look(&mut peers), gone);
    // With a request under way.
    let mut peers = connected(at(0), CONTROL_2, vote(5));
    peers.on_tick(at(TIMEOUT_MS));
    assert_eq!(look(&mut peers), gone);
}

#[test]
fn a_request_that_waits_behind_another_expires_with_the_link() {
    let mut peers = connected(at(0), CONTROL_2, vote(5));
    peers.send(at(500), NodeId(2), vote(6));
    peers.on_tick(at(TIMEOUT_MS));
    assert_eq!(look(&mut peers), [Seen::Close(CONTROL_2), Seen::Failed(NodeId(2), RequestKind::Vote)]);
    // The server does not say that it has closed it: what is asked for now fails in its own time.
    peers.send(at(TIMEOUT_MS), NodeId(2), begin(7));
    peers.on_tick(at(2 * TIMEOUT_MS));
    assert_eq!(look(&mut peers), [Seen::Failed(NodeId(2), RequestKind::BeginQuorumEpoch)]);
}

#[test]
fn what_cannot_be_read_closes_the_link() {
    let wrong_id = answer_bytes(52, 2, 9, &vote_answer(5)).to_vec();
    let whole = answer_bytes(52, 2, 1, &vote_answer(5));
    let truncated = whole[..whole.len() - 3].to_vec();
    let cases = [wrong_id, truncated, vec![0xff; 8], vec![], vec![0, 0]];
    for bytes in cases {
        let mut peers = connected(at(0), CONTROL_2, vote(5));
        peers.on_frame(at(1), CONTROL_2, bytes.clone().into());
        let gone = [Seen::Close(CONTROL_2), Seen::Failed(NodeId(2), RequestKind::Vote)];
        assert_eq!(look(&mut peers), gone, "{bytes:?}");
        peers.on_frame(at(1), CONTROL_2, answer_bytes(52, 2, 1, &vote_answer(5)));
        assert_eq!(look(&mut peers), [], "bytes of a closed link");
    }
}

#[test]
fn an_answer_to_nothing_closes_the_link() {
    let mut peers = connected(at(0), CONTROL_2, vote(5));
    let answer = answer_bytes(52, 2, 1, &vote_answer(5));
    peers.on_frame(at(1), CONTROL_2, answer.clone());
    look(&mut peers);
    peers.on_frame(at(1), CONTROL_2, answer);
    assert_eq!(look(&mut peers), [Seen::Close(CONTROL_2)]);
}

#[test]
fn a_dropped_peer_loses_both_links_and_comes_back_after_a_pause() {
    let mut peers = connected(at(0), FETCH_2, fetch(1));
    peers.send(at(0), NodeId(2), vote(5));
    peers.on_connected(at(0), CONTROL_2);
    look(&mut peers);
    peers.drop_peer(NodeId(2));
    assert_eq!(
        look(&mut peers),
        [
            Seen::Close(FETCH_2),
            Seen::Close(CONTROL_2),
            Seen::Failed(NodeId(2), RequestKind::Fetch),
            Seen::Failed(NodeId(2), RequestKind::Vote),
        ]
    );
    peers.on_closed(at(1), CONTROL_2, "closed by us");
    peers.send(at(1), NodeId(2), vote(6));
    assert_eq!(look(&mut peers), []);
    peers.on_tick(at(1 + BACKOFF_MS));
    assert_eq!(look(&mut peers), [Seen::Connect(CONTROL_2)]);
}

#[test]
fn a_node_that_is_no_voter_has_no_link() {
    let mut peers = peers();
    peers.send(at(0), NodeId(9), fetch(0));
    assert_eq!(look(&mut peers), [Seen::Failed(NodeId(9), RequestKind::Fetch)]);
    assert!(peers.links.is_empty());
}

#[test]
fn pre_vote_to_a_kafka_that_knows_none_is_answered_here() {
    let mut versions = protocol::api_versions_response(4);
    for key in versions.api_keys.iter_mut().filter(|key| key.api_key == 52) {
        key.max_version = 1;
    }
    let mut peers = peers();
    let raft::Request::Vote(request) = vote(5) else { panic!("a vote") };
    peers.send(at(0), NodeId(2), raft::Request::Vote(VoteRequest { pre_vote: true, ..request }));
    peers.on_connected(at(1), CONTROL_2);
    peers.on_frame(at(2), CONTROL_2, answer_bytes(18, 4, 0, &Response::ApiVersions(versions)));
    let (error, memory) = (ErrorCode::UNSUPPORTED_VERSION, VoterMemory::Unsaid);
    let unsaid = VoteResponse { error, granted: false, memory, ..granted(5) };
    let seen = look(&mut peers);
    assert_eq!(seen.last(), Some(&Seen::Answer(NodeId(2), raft::Response::Vote(unsaid))), "{seen:?}");
    // The election itself goes out, in the version that it has.
    peers.send(at(3), NodeId(2), vote(6));
    assert_eq!(look(&mut peers), [Seen::Sent(CONTROL_2, 52, 1, 2)]);
}

#[test]
fn voters_that_take_no_produce_are_remembered() {
    let peers_after = |keys: &dyn Fn(i16) -> bool| {
        let mut versions = protocol::api_versions_response(4);
        versions.api_keys.retain(|key| keys(key.api_key));
        let mut peers = peers();
        peers.send(at(0), NodeId(2), vote(5));
        peers.on_connected(at(1), CONTROL_2);
        peers.on_frame(at(2), CONTROL_2, answer_bytes(18, 4, 0, &Response::ApiVersions(versions)));
        peers.serves_clients(NodeId(2))
    };
    assert!(!peers().serves_clients(NodeId(2)), "it has said nothing yet");
    assert!(peers_after(&|_| true));
    assert!(!peers_after(&|key| key != 0));
}

#[test]
fn a_kafka_without_any_vote_fails_a_pre_vote() {
    let mut versions = protocol::api_versions_response(4);
    versions.api_keys.retain(|key| key.api_key != 52);
    let mut peers = peers();
    let raft::Request::Vote(request) = vote(5) else { panic!("a vote") };
    peers.send(at(0), NodeId(2), raft::Request::Vote(VoteRequest { pre_vote: true, ..request }));
    peers.on_connected(at(1), CONTROL_2);
    peers.on_frame(at(2), CONTROL_2, answer_bytes(18, 4, 0, &Response::ApiVersions(versions)));
    assert_eq!(look(&mut peers).last(), Some(&Seen::Failed(NodeId(2), RequestKind::Vote)));
}

#[test]
fn a_connection_that_nothing_waits_for_any_more_still_has_its_time() {
    let mut peers = peers();
    peers.send(at(0), NodeId(2), fetch(5));
    peers.send(at(100), NodeId(3), fetch(5));
    assert_eq!(peers.deadline(), Some(at(TIMEOUT_MS).monotonic_ns), "the older link is still connecting");
}

#[test]
fn what_comes_on_a_link_that_is_being_closed_is_not_looked_at() {
    let mut peers = connected(at(0), CONTROL_2, vote(5));
    peers.drop_peer(NodeId(2));
    look(&mut peers);
    peers.on_frame(at(1), CONTROL_2, Bytes::from_static(&[0xff; 8]));
    peers.send(at(1), NodeId(2), vote(6));
    peers.on_closed(at(1), CONTROL_2, "closed by us");
    assert_eq!(peers.deadline(), Some(at(1 + BACKOFF_MS).monotonic_ns), "one failure, one pause");
}

#[test]
fn a_voter_is_greeted_until_it_is_connected_and_nobody_hears_of_it() {
    let mut peers = peers();
    assert!(peers.knows_unconnected());
    peers.greet(at(0));
    let both = [Seen::Connect(CONTROL_2), Seen::Connect(PeerLink { node: NodeId(3), lane: Lane::Control })];
    assert_eq!(look(&mut peers), both);
    peers.greet(at(1));
    assert_eq!(look(&mut peers), [], "they are being connected");
    peers.on_refused(at(2), CONTROL_2, "connection refused");
    assert_eq!(look(&mut peers), [], "neither a failure nor a refusal: nothing was asked");
    // A vote does not wait for what failed there.
    peers.send(at(2), NodeId(2), vote(5));
    assert_eq!(look(&mut peers), [Seen::Connect(CONTROL_2)]);
    peers.on_refused(at(3), CONTROL_2, "connection refused");
    assert_eq!(look(&mut peers), [Seen::Failed(NodeId(2), RequestKind::Vote), Seen::Refused(NodeId(2))]);
    peers.greet(at(4));
    assert_eq!(look(&mut peers), [], "within the pause of the vote that failed");
    peers.greet(at(30));
    assert_eq!(look(&mut peers), [Seen::Connect(CONTROL_2)]);
    peers.on_connected(at(31), CONTROL_2);
    assert_eq!(peers.advertised(NodeId(2)), None);
    peers.on_frame(at(31), CONTROL_2, versions_answer(0));
    look(&mut peers);
    assert!(peers.advertised(NodeId(2)).is_none(), "Kafka's voters tell nothing");
    // Closed by the other side: it is greeted again.
    peers.on_closed(at(40), CONTROL_2, "lost");
    assert!(peers.knows_unconnected());
    // One that does not answer is closed at the request timeout, without a word.
    peers.on_tick(at(60_000));
    let silent = PeerLink { node: NodeId(3), lane: Lane::Control };
    assert_eq!(look(&mut peers), [Seen::Close(silent)]);
    peers.on_closed(at(60_001), silent, "closed by us");
    peers.greet(at(60_001));
    assert!(look(&mut peers).contains(&Seen::Connect(silent)));
}
