//! Raft's messages against the frames of Kafka 4.3.0's voters: wire to raft and back gives Java's bytes, in both directions.

#![allow(clippy::result_large_err, reason = "a refusal is a whole answer")]

#[path = "fixtures/frames.rs"]
mod fixtures;

use bytes::{Bytes, BytesMut};
use fixtures::{Frame, frames};
use kraft::protocol::quorum::*;
use kraft::protocol::{EncodedFrame, Request, RequestHeader, Response, decode_request, encode_response};
use kraft::raft::{self, RequestKind};
use kraft::record::check_fetched;
use kraft::types::*;
use serde_json::Value;
use std::sync::Arc;

const FETCH: i16 = 1;
const VOTE: i16 = 52;
const BEGIN_QUORUM_EPOCH: i16 = 53;
const END_QUORUM_EPOCH: i16 = 54;
const FETCH_SNAPSHOT: i16 = 59;

/// Frames of the quorum's four requests, from the groups where voters (or probes that play one) spoke.
fn quorum_frames() -> Vec<Frame> {
    let groups = ["/voters/", "/kraft1-voters/", "/kraft1-observer/", "/probes/"];
    let is_quorums = |frame: &Frame| {
        [FETCH, VOTE, BEGIN_QUORUM_EPOCH, END_QUORUM_EPOCH].contains(&frame.api_key)
            && groups.iter().any(|group| frame.name.contains(group))
    };
    frames().into_iter().filter(is_quorums).collect()
}

/// What the nodes of the frame's group were started with; endpoints as the frame itself tells them.
fn context(frame: &Frame) -> QuorumContext {
    let is_kraft1 = frame.name.contains("/kraft1-");
    let endpoints = |list: &Value, id: &str| -> Vec<(NodeId, Arc<Endpoint>)> {
        let endpoint = |node: &Value| {
            let host = node["host"].as_str().expect("a host").to_string();
            let port = node["port"].as_i64().expect("a port") as u16;
            (NodeId(node[id].as_i64().unwrap_or(-1) as i32), Arc::new(Endpoint { host, port }))
        };
        list.as_array().map(|nodes| nodes.iter().map(endpoint).collect()).unwrap_or_default()
    };
    let own = endpoints(&frame.body["leaderEndpoints"], "").pop();
    let nowhere = || Arc::new(Endpoint { host: "nowhere".to_string(), port: 1 });
    QuorumContext {
        cluster_id: if is_kraft1 { "Z29sZGVuLWthZmthLTQzMA" } else { "AAAAAAAAAAAAAAAAAAAAAA" }.into(),
        topic: if is_kraft1 { "__cluster_metadata" } else { "__raft_performance_test" }.into(),
        topic_id: if is_kraft1 { Uuid::METADATA_TOPIC_ID } else { Uuid(2) },
        local: ReplicaKey { id: NodeId(99), directory_id: Uuid::ZERO },
        listener_name: "CONTROLLER".to_string(),
        data_mode: kraft::types::DataMode::Interop,
        endpoint: own.map_or_else(nowhere, |(_, endpoint)| endpoint),
        voters: endpoints(&frame.body["nodeEndpoints"], "nodeId"),
    }
}

fn wire(frame: &Frame) -> Bytes {
    Bytes::from([&(frame.bytes.len() as u32).to_be_bytes()[..], &frame.bytes].concat())
}

fn joined(frame: &EncodedFrame) -> Bytes {
    Bytes::from(frame.chunks.concat())
}

fn to_raft(c: &QuorumContext, header: &RequestHeader, request: &Request) -> Result<raft::Request, Response> {
    match request {
        Request::Vote(m) => vote_request(c, m).map(raft::Request::Vote),
        Request::BeginQuorumEpoch(m) => begin_quorum_epoch_request(c, m).map(raft::Request::BeginQuorumEpoch),
        Request::EndQuorumEpoch(m) => end_quorum_epoch_request(c, m).map(raft::Request::EndQuorumEpoch),
        Request::Fetch(m) => fetch_request(c, m, header.api_version).map(raft::Request::Fetch),
        other => panic!("not a request of the quorum: {other:?}"),
    }
}

fn newest(fetch: i16) -> PeerVersions {
    PeerVersions {
        vote: Some(2),
        begin_quorum_epoch: Some(1),
        end_quorum_epoch: Some(1),
        fetch: Some(fetch),
        fetch_snapshot: Some(1),
        serves_clients: false,
        alters_configs: true,
        advertised: None,
    }
}

#[test]
fn our_requests_are_javas_byte_for_byte() {
    let mut same = 0;
    // Probes set fields as no voter does (partition max bytes); their answers are compared below.
    for frame in quorum_frames().into_iter().filter(|f| f.is_request && !f.name.contains("/probes/")) {
        let c = context(&frame);
        let (header, request) = decode_request(frame.bytes.clone()).expect("decodes");
        if let Request::Fetch(m) = &request {
            assert!(m.is_of_replica(), "{}", frame.name);
        }
        let request = to_raft(&c, &header, &request).unwrap_or_else(|e| panic!("{}: {e:?}", frame.name));
        let client_id = frame.client_id.as_deref().expect("a client id");
        let ours =
            encode_request(&c, &newest(18), frame.correlation_id, client_id, &request, &mut BytesMut::new())
                .expect("encodes");
        assert_eq!(joined(&ours), wire(&frame), "{}", frame.name);
        same += 1;
    }
    assert!(same >= 30, "only {same}");
}

#[test]
fn consumers_fetches_are_not_replicas() {
    let mut consumers = 0;
    for frame in
        frames().into_iter().filter(|f| f.is_request && f.api_key == FETCH && f.name.contains("consumer"))
    {
        let (_, Request::Fetch(m)) = decode_request(frame.bytes).expect("decodes") else { panic!() };
        assert!(!m.is_of_replica(), "{}", frame.name);
        consumers += 1;
    }
    assert!(consumers >= 10, "only {consumers}");
}

fn kind(frame: &Frame) -> RequestKind {
    match frame.api_key {
        FETCH => RequestKind::Fetch,
        VOTE => RequestKind::Vote,
        BEGIN_QUORUM_EPOCH => RequestKind::BeginQuorumEpoch,
        _ => RequestKind::EndQuorumEpoch,
    }
}

/// Our answer for what raft made of a Java answer.
fn answer_again(c: &QuorumContext, frame: &Frame, response: &raft::Response, records: Bytes) -> EncodedFrame {
    let answer = match response {
        raft::Response::Vote(r) => vote_response(c, r),
        raft::Response::BeginQuorumEpoch(r) => begin_quorum_epoch_response(c, r),
        raft::Response::EndQuorumEpoch(r) => end_quorum_epoch_response(c, r),
        raft::Response::AskEpoch(_) => panic!("{}: no Java voter was asked for its epoch alone", frame.name),
        raft::Response::Fetch(r) => {
            let (batches, error) = check_fetched(records);
            assert_eq!(error, None, "{}", frame.name);
            Response::Fetch(fetch_response(c, r, batches.into()))
        }
    };
    encode_response(&header_of(frame), &answer)
}

fn header_of(frame: &Frame) -> RequestHeader {
    let (api_key, api_version) = (frame.api_key, frame.version);
    RequestHeader { api_key, api_version, correlation_id: frame.correlation_id, client_id: None }
}

#[test]
fn our_answers_are_javas_byte_for_byte() {
    let mut same = 0;
    for frame in quorum_frames().into_iter().filter(|frame| !frame.is_request) {
        let c = context(&frame);
        assert_eq!(response_correlation_id(&frame.bytes), Some(frame.correlation_id));
        let (response, records) = decode_response(&c, kind(&frame), frame.version, frame.bytes.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", frame.name));
        if frame.body["errorCode"] == 0 {
            let ours = answer_again(&c, &frame, &response, records);
            assert_eq!(joined(&ours), wire(&frame), "{}", frame.name);
            same += 1;
        }
    }
    assert!(same >= 50, "only {same}");
}

/// Wrong cluster, wrong topic: refused before raft hears of it, with the whole answer that Java gave.
#[test]
fn our_refusals_are_javas_byte_for_byte() {
    let frames = quorum_frames();
    let mut refused = 0;
    for frame in frames.iter().filter(|frame| frame.is_request) {
        let c = context(frame);
        let (header, request) = decode_request(frame.bytes.clone()).expect("decodes");
        if matches!(&request, Request::Fetch(m) if !m.is_of_replica()) {
            continue; // Java serves a consumer as it serves an observer; here it never comes this way.
        }
        let Err(answer) = to_raft(&c, &header, &request) else { continue };
        let name = frame.name.replace("-request", "-response");
        let javas = frames.iter().find(|frame| frame.name == name).expect("an answer");
        if javas.body["errorCode"] == 0 {
            // A negative epoch, which Java refuses in the partition, with the same code.
            let error = &javas.body["responses"][0]["partitions"][0]["errorCode"];
            let Response::Fetch(ours) = answer else { panic!("{name}") };
            assert_eq!(Some(i64::from(ours.error)), error.as_i64(), "{name}");
        } else {
            assert_eq!(joined(&encode_response(&header, &answer)), wire(javas), "{name}");
        }
        refused += 1;
    }
    assert_eq!(refused, 4, "wrong cluster twice, wrong topic, no epoch");
}

fn three() -> QuorumContext {
    let endpoint = |port| Endpoint { host: "localhost".to_string(), port };
    QuorumContext {
        cluster_id: "cluster".into(),
        topic: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        local: ReplicaKey { id: NodeId(1), directory_id: Uuid(11) },
        listener_name: "CONTROLLER".to_string(),
        data_mode: kraft::types::DataMode::Interop,
        endpoint: Arc::new(endpoint(9092)),
        voters: (1..=3).map(|id| (NodeId(id), Arc::new(endpoint(9091 + id as u16)))).collect(),
    }
}

fn key(id: i32) -> ReplicaKey {
    ReplicaKey { id: NodeId(id), directory_id: Uuid(10 + id as u128) }
}

/// Through the wire in the versions given, as the other side reads it.
fn sent(versions: &PeerVersions, request: raft::Request) -> raft::Request {
    let frame = encode_request(&three(), versions, 5, "kraft-1", &request, &mut BytesMut::new())
        .expect("it can be said");
    let (header, decoded) = decode_request(joined(&frame).slice(4..)).expect("it decodes");
    assert_eq!(header.correlation_id, 5);
    assert!(header.client_id.as_ref().is_some_and(|id| id.is("kraft-1")));
    to_raft(&three(), &header, &decoded).unwrap_or_else(|refusal| panic!("{refusal:?}"))
}

#[test]
fn older_peers_get_what_their_version_can_say() {
    let old = PeerVersions {
        vote: Some(0),
        begin_quorum_epoch: Some(0),
        end_quorum_epoch: Some(0),
        fetch: Some(13),
        fetch_snapshot: Some(0),
        serves_clients: false,
        alters_configs: false,
        advertised: None,
    };
    let unknown = |id| ReplicaKey { id: NodeId(id), directory_id: Uuid::ZERO };
    let last = OffsetAndEpoch { epoch: Epoch(2), offset: Offset(9) };
    let vote = |voter, candidate, pre_vote| {
        raft::Request::Vote(raft::VoteRequest {
            voter,
            epoch: Epoch(3),
            candidate,
            last,
            pre_vote,
            counts_memory: true,
        })
    };
    let full = vote(Some(key(2)), key(1), false);
    assert_eq!(sent(&newest(18), full.clone()), full);
    assert_eq!(sent(&old, full), vote(None, unknown(1), false));
    let pre_vote = vote(Some(key(2)), key(1), true);
    assert_eq!(sent(&newest(18), pre_vote.clone()), pre_vote);
    assert!(
        encode_request(&three(), &old, 5, "kraft-1", &pre_vote, &mut BytesMut::new()).is_none(),
        "Vote 0 has no pre-vote"
    );

    let begin = |voter| {
        raft::Request::BeginQuorumEpoch(raft::BeginQuorumEpochRequest {
            voter,
            leader: NodeId(1),
            epoch: Epoch(3),
        })
    };
    assert_eq!(sent(&newest(18), begin(Some(key(2)))), begin(Some(key(2))));
    assert_eq!(sent(&old, begin(Some(key(2)))), begin(None));

    let end = |preferred_candidates| {
        let (leader, epoch) = (NodeId(1), Epoch(3));
        raft::Request::EndQuorumEpoch(raft::EndQuorumEpochRequest { leader, epoch, preferred_candidates })
    };
    assert_eq!(sent(&newest(18), end(vec![key(3), key(2)])), end(vec![key(3), key(2)]));
    assert_eq!(sent(&old, end(vec![key(3), key(2)])), end(vec![unknown(3), unknown(2)]));
}

#[test]
fn fetches_of_versions_13_to_18_are_understood() {
    let fetch = |replica, high_watermark| {
        raft::Request::Fetch(raft::FetchRequest {
            replica,
            epoch: Epoch(3),
            fetch_offset: Offset(40),
            last_fetched_epoch: Epoch(2),
            max_wait_ms: 500,
            high_watermark,
            unfit: None,
            one_batch: false,
            log_start: None,
            wall_ms: None,
        })
    };
    let hw = |offset| Some(HighWatermark(Offset(offset)));
    for version in 13..=18 {
        for known in [None, hw(7), hw(i64::MAX)] {
            let directory_id = if version >= 17 { key(1).directory_id } else { Uuid::ZERO };
            let replica = ReplicaKey { id: NodeId(1), directory_id };
            let told = if version >= 18 { known } else { hw(i64::MAX) };
            assert_eq!(sent(&newest(version), fetch(key(1), known)), fetch(replica, told), "{version}");
        }
    }
}

#[test]
fn answers_in_older_versions_are_read() {
    let c = three();
    let (leader, epoch) = (Some(NodeId(2)), Epoch(3));
    let header =
        |api_key, api_version| RequestHeader { api_key, api_version, correlation_id: 8, client_id: None };
    let memory = raft::VoterMemory::Lost;
    let vote = raft::VoteResponse {
        error: ErrorCode::NONE,
        leader,
        epoch,
        granted: true,
        memory,
        start: Some(Offset(7)),
    };
    let other = raft::LeaderResponse { error: ErrorCode::FENCED_LEADER_EPOCH, leader, epoch };
    let cases = [
        (VOTE, 0..=2, vote_response(&c, &vote), raft::Response::Vote(vote)),
        (53, 0..=1, begin_quorum_epoch_response(&c, &other), raft::Response::BeginQuorumEpoch(other.clone())),
        (54, 0..=1, end_quorum_epoch_response(&c, &other), raft::Response::EndQuorumEpoch(other)),
    ];
    for (api_key, versions, answer, expected) in cases {
        for version in versions {
            let header = header(api_key, version);
            let frame = joined(&encode_response(&header, &answer)).slice(4..);
            let kind = match api_key {
                VOTE => RequestKind::Vote,
                53 => RequestKind::BeginQuorumEpoch,
                _ => RequestKind::EndQuorumEpoch,
            };
            let (read, _) = decode_response(&c, kind, version, frame).expect("decodes");
            assert_eq!(read, expected, "api {api_key} version {version}");
        }
    }
}

#[test]
fn kafkas_update_raft_voter_is_taken_from_a_voter_that_follows() {
    let frame = frames().into_iter().find(|f| f.is_request && f.api_key == 82).expect("there is one");
    let (_, request) = decode_request(frame.bytes.clone()).expect("decodes");
    let Request::UpdateRaftVoter(mut m) = request else { panic!("{request:?}") };
    let c = QuorumContext { cluster_id: Uuid::ZERO.to_string().into(), ..three() };
    let epoch = Epoch(m.current_leader_epoch);
    assert_eq!(update_raft_voter_request(&c, &m), Ok(epoch));
    m.voter_id = 1;
    assert_eq!(update_raft_voter_request(&c, &m), Err(ErrorCode::VOTER_NOT_FOUND), "it is ourselves");
    m.voter_id = 7;
    assert_eq!(update_raft_voter_request(&c, &m), Err(ErrorCode::VOTER_NOT_FOUND));
    m.k_raft_version_feature.min_supported_version = 1;
    assert_eq!(update_raft_voter_request(&c, &m), Err(ErrorCode::INVALID_REQUEST), "a newer kraft.version");
    m.cluster_id = Some("another".to_string().into());
    assert_eq!(update_raft_voter_request(&c, &m), Err(ErrorCode::INCONSISTENT_CLUSTER_ID));
}

#[test]
fn versions_are_taken_from_the_peers_answer() {
    for frame in frames().into_iter().filter(|f| !f.is_request && f.api_key == 18 && f.version == 4) {
        let versions = decode_api_versions_response(frame.bytes.clone()).expect("decodes");
        let is_broker = versions.vote.is_none();
        if is_broker {
            assert_eq!(
                versions,
                PeerVersions {
                    fetch: Some(18),
                    serves_clients: true,
                    alters_configs: true,
                    ..PeerVersions::default()
                },
                "{}",
                frame.name
            );
        } else {
            assert_eq!(versions, newest(18), "{}", frame.name);
        }
        assert_eq!(version_of(&versions, RequestKind::Fetch), Some(18));
    }
    let frame = joined(&encode_api_versions_request(3, "kraft-1", kraft::types::DataMode::Interop));
    let (header, request) = decode_request(frame.slice(4..)).expect("decodes");
    let Request::ApiVersions(request) = request else { panic!("{request:?}") };
    assert!(kraft::protocol::client_software_is_valid(&request, header.api_version));
    assert_eq!(request.client_software_name.as_str(), CLIENT_SOFTWARE_NAME);
    let answer = Response::ApiVersions(kraft::protocol::api_versions_response(header.api_version));
    let answer = joined(&encode_response(&header, &answer)).slice(4..);
    let ours = PeerVersions { serves_clients: true, ..newest(18) };
    assert_eq!(decode_api_versions_response(answer).expect("decodes"), ours);
}

/// Of a voter that begins with a snapshot, in one piece and in several, and of probes.
fn snapshot_frames(is_request: bool) -> Vec<Frame> {
    let is_wanted = |frame: &Frame| frame.api_key == FETCH_SNAPSHOT && frame.is_request == is_request;
    frames().into_iter().filter(is_wanted).collect()
}

/// As `context`: these quorums of Kafka's controllers each have an id of their own.
fn snapshot_context(frame: &Frame) -> QuorumContext {
    let cluster_id = match frame.name.contains("/dynamic/") {
        true => "ZHluYW1pYy1rYWZrYTQzMA",
        false => "Z29sZGVuLWthZmthLTQzMA",
    };
    QuorumContext {
        cluster_id: cluster_id.into(),
        topic: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        ..context(frame)
    }
}

#[test]
fn pieces_of_snapshots_are_asked_for_as_java_does() {
    let frames = snapshot_frames(true);
    assert!(frames.len() >= 11, "only {}", frames.len());
    for frame in frames {
        let c = snapshot_context(&frame);
        let (_, request) = decode_request(frame.bytes.clone()).expect("decodes");
        let Request::FetchSnapshot(m) = request else { panic!("{}: {request:?}", frame.name) };
        let asked = fetch_snapshot_request(&c, &m).unwrap_or_else(|e| panic!("{}: {e:?}", frame.name));
        let (client_id, correlation_id) = (frame.client_id.as_deref().expect("one"), frame.correlation_id);
        let ours = encode_fetch_snapshot_request(&c, 1, correlation_id, client_id, &asked);
        assert_eq!(joined(&ours), wire(&frame), "{}", frame.name);
        let other = QuorumContext { cluster_id: "another".into(), ..c };
        let Err(Response::FetchSnapshot(refusal)) = fetch_snapshot_request(&other, &m) else { panic!() };
        assert_eq!(ErrorCode(refusal.error), ErrorCode::INCONSISTENT_CLUSTER_ID);
    }
}

/// Which put together are a snapshot of Kafka's.
#[test]
fn pieces_of_snapshots_are_javas_byte_for_byte() {
    let (mut sizes, mut refused) = (Vec::new(), 0);
    for frame in snapshot_frames(false) {
        let c = snapshot_context(&frame);
        let told = decode_fetch_snapshot_response(&c, 1, frame.bytes.clone())
            .unwrap_or_else(|error| panic!("{}: {error}", frame.name));
        if frame.body["errorCode"] != 0 {
            assert_eq!(told, SnapshotBytes::refused(ErrorCode::UNKNOWN_SERVER_ERROR));
            refused += 1;
            continue;
        }
        sizes.push((told.id.offset.0, told.position, told.bytes.len(), told.size));
        let leader = &frame.body["topics"][0]["partitions"][0]["currentLeader"]["leaderEpoch"];
        let epoch = Epoch(leader.as_i64().expect("an epoch") as i32);
        let ours = fetch_snapshot_response(&c, Some(NodeId(1)), epoch, told);
        assert_eq!(joined(&encode_response(&header_of(&frame), &ours)), wire(&frame), "{}", frame.name);
    }
    sizes.sort();
    let small = [(92, 0, 1432, 1432), (174, 0, 1000, 2475), (174, 1000, 1000, 2475), (174, 2000, 475, 2475)];
    let larger =
        [(417, 0, 1000, 3028), (417, 1000, 1000, 3028), (417, 2000, 1000, 3028), (417, 3000, 28, 3028)];
    assert_eq!(sizes, [small, larger].concat());
    assert_eq!(refused, 3);
}

#[test]
fn an_older_version_of_a_piece_says_no_endpoint_and_a_large_one_is_not_copied() {
    let c = three();
    let asked = SnapshotRequest {
        replica: Some(key(1)),
        epoch: 3,
        id: OffsetAndEpoch { epoch: Epoch(2), offset: Offset(90) },
        position: 7,
        bytes_max: 100,
    };
    for version in [0, 1] {
        let frame = joined(&encode_fetch_snapshot_request(&c, version, 5, "kraft-1", &asked));
        let (_, request) = decode_request(frame.slice(4..)).expect("decodes");
        let Request::FetchSnapshot(m) = request else { panic!("{request:?}") };
        let directory_id = if version == 1 { key(1).directory_id } else { Uuid::ZERO };
        let replica = Some(ReplicaKey { id: NodeId(1), directory_id });
        let read = fetch_snapshot_request(&c, &m).map_err(|error| format!("{error:?}"));
        assert_eq!(read, Ok(SnapshotRequest { replica, ..asked.clone() }));
        for size in [0, 1, 4095, 4096, 1 << 20] {
            let told = SnapshotBytes {
                error: ErrorCode::NONE,
                id: asked.id,
                size: 9 << 20,
                position: 7,
                bytes: Bytes::from(vec![size as u8; size]),
            };
            let answer = fetch_snapshot_response(&c, Some(NodeId(2)), Epoch(3), told.clone());
            let header = RequestHeader {
                api_key: FETCH_SNAPSHOT,
                api_version: version,
                correlation_id: 5,
                client_id: None,
            };
            let frame = encode_response(&header, &answer);
            let shares = frame.chunks.iter().any(|chunk| size > 0 && chunk.as_ptr() == told.bytes.as_ptr());
            assert_eq!(shares, size >= 4096, "{size}");
            let read = decode_fetch_snapshot_response(&c, version, joined(&frame).slice(4..));
            assert_eq!(read, Ok(told), "version {version}");
        }
    }
}
