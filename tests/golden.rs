//! Real frames and files of Apache Kafka 4.3.0: each decodes, and encodes again to the same bytes.

#[path = "fixtures/frames.rs"]
mod fixtures;

use bytes::{Bytes, BytesMut};
use fixtures::{Frame, Seeded, frames, log_files};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use kraft::log::{ReadSnapshot, SnapshotDecoder, SnapshotEncoder, parse_snapshot_file_name};
use kraft::protocol::fetch::{RequestedPartition, RequestedTopic};
use kraft::protocol::messages as m;
use kraft::protocol::produce::{ProduceTopic, ProducedPartition, ProducedTopic};
use kraft::protocol::quorum::{
    QuorumContext, decode_api_versions_response, decode_fetch_snapshot_response, decode_response,
};
use kraft::protocol::{
    ClientId, EncodedFrame, FetchPartition, FetchRequest, FetchResponse, FetchSnapshotResponse, FetchTopic,
    GroupRequest, GroupResponse, NamedSnapshot, ProduceRequest, ProduceResponse, Request, RequestHeader,
    Response, SnapshotPiece, decode_request, encode_response, own_uuid, wire_uuid,
};
use kraft::raft::RequestKind;
use kraft::record::{
    ControlRecord, check_fetched, check_produced, control_records, leader_change_batch,
    snapshot_footer_batch, snapshot_header_batch,
};
use kraft::types::*;
use std::sync::Arc;

const LIST_OFFSETS: i16 = 2;

/// The crate stops at ListOffsets 10; 11 has the same bytes.
fn codec_version(frame: &Frame) -> i16 {
    if frame.api_key == LIST_OFFSETS { frame.version.min(10) } else { frame.version }
}

fn joined(frame: &EncodedFrame) -> Bytes {
    Bytes::from(frame.chunks.concat())
}

/// The frame as it stands on the wire, with its length.
fn on_the_wire(frame: &Frame) -> Bytes {
    let mut wire = (frame.bytes.len() as u32).to_be_bytes().to_vec();
    wire.extend_from_slice(&frame.bytes);
    Bytes::from(wire)
}

fn header_of(frame: &Frame) -> RequestHeader {
    let (api_key, api_version) = (frame.api_key, frame.version);
    RequestHeader { api_key, api_version, correlation_id: frame.correlation_id, client_id: None }
}

fn encode_request<T: Encodable + HeaderVersion>(frame: &Frame, body: &T) -> Bytes {
    let version = codec_version(frame);
    let mut out = BytesMut::new();
    let client_id = frame.client_id.clone().map(m_string);
    let header = m::RequestHeader::default()
        .with_request_api_key(frame.api_key)
        .with_request_api_version(frame.version)
        .with_correlation_id(frame.correlation_id)
        .with_client_id(client_id);
    header.encode(&mut out, T::header_version(version)).expect("the header encodes");
    body.encode(&mut out, version).expect("the body encodes");
    out.freeze()
}

fn m_string(text: String) -> m::StrBytes {
    m::StrBytes::from_string(text)
}

fn encode_again(frame: &Frame, request: &Request) -> Bytes {
    match request {
        Request::Produce(body) => encode_request(frame, &their_produce(body)),
        Request::Fetch(body) => encode_request(frame, &their_fetch(frame, body)),
        Request::ListOffsets(body) => encode_request(frame, body),
        Request::Metadata(body) => encode_request(frame, body),
        Request::FindCoordinator(body) => encode_request(frame, body),
        Request::Group(body) => encode_group_request(frame, body),
        Request::CreateTopics(body) => encode_request(frame, body),
        Request::InitProducerId(body) => encode_request(frame, body),
        Request::OffsetForLeaderEpoch(body) => encode_request(frame, body),
        Request::ApiVersions(body) => encode_request(frame, body),
        Request::DescribeConfigs(body) => encode_request(frame, body),
        Request::AlterConfigs(body) => encode_request(frame, body),
        Request::IncrementalAlterConfigs(body) => encode_request(frame, body),
        Request::DeleteRecords(body) => encode_request(frame, body),
        Request::DescribeLogDirs(body) => encode_request(frame, body),
        Request::DescribeCluster(body) => encode_request(frame, body),
        Request::DescribeQuorum(body) => encode_request(frame, body),
        Request::DescribeTopicPartitions(body) => encode_request(frame, body),
        Request::Vote(body) => encode_request(frame, body),
        Request::BeginQuorumEpoch(body) => encode_request(frame, body),
        Request::EndQuorumEpoch(body) => encode_request(frame, body),
        Request::FetchSnapshot(body) => encode_request(frame, body),
        Request::UpdateRaftVoter(body) => encode_request(frame, body),
        Request::ApiVersionsUnsupported => panic!("{}: no frame here is of an unknown version", frame.name),
    }
}

fn encode_group_request(frame: &Frame, request: &GroupRequest) -> Bytes {
    use GroupRequest as G;
    match request {
        G::OffsetCommit(body) => encode_request(frame, body),
        G::OffsetFetch(body) => encode_request(frame, body),
        G::Join(body) => encode_request(frame, body),
        G::Heartbeat(body) => encode_request(frame, body),
        G::Leave(body) => encode_request(frame, body),
        G::Sync(body) => encode_request(frame, body),
        G::Describe(body) => encode_request(frame, body),
        G::List(body) => encode_request(frame, body),
        G::Delete(body) => encode_request(frame, body),
        G::OffsetDelete(body) => encode_request(frame, body),
        G::ConsumerHeartbeat(body) => encode_request(frame, body),
        G::ConsumerDescribe(body) => encode_request(frame, body),
    }
}

#[test]
fn every_request_decodes_and_encodes_again_to_its_bytes() {
    let requests: Vec<Frame> = frames().into_iter().filter(|frame| frame.is_request).collect();
    assert!(requests.len() > 100, "only {} requests", requests.len());
    for frame in requests {
        let (header, request) =
            decode_request(frame.bytes.clone()).unwrap_or_else(|error| panic!("{}: {error}", frame.name));
        assert_eq!(
            header,
            RequestHeader { client_id: frame.client_id.as_deref().map(ClientId::from), ..header_of(&frame) },
            "{}",
            frame.name
        );
        assert_eq!(encode_again(&frame, &request), frame.bytes, "{}", frame.name);
    }
}

#[test]
fn bytes_behind_a_frame_of_kafkas_change_nothing() {
    for frame in frames() {
        let longer = |more: &[u8]| Bytes::from([&frame.bytes[..], more].concat());
        for more in [&[0][..], &[1, 0, 0], &[0xff; 37]] {
            if !frame.is_request {
                let is_read = read_as_client(&frame, longer(more));
                assert_eq!(is_read, read_as_client(&frame, frame.bytes.clone()), "{}", frame.name);
                continue;
            }
            let (_, request) =
                decode_request(longer(more)).unwrap_or_else(|error| panic!("{}: {error}", frame.name));
            assert_eq!(encode_again(&frame, &request), frame.bytes, "{}", frame.name);
        }
    }
}

#[test]
fn every_batch_of_a_produce_request_is_taken() {
    let mut taken = 0;
    for frame in frames().into_iter().filter(|frame| frame.is_request && frame.api_key == 0) {
        let (_, request) = decode_request(frame.bytes.clone()).expect("decodes");
        let Request::Produce(produce) = request else { panic!("{}", frame.name) };
        for partition in produce.topics.into_iter().flat_map(|topic| topic.partitions) {
            let limits = kraft::record::ProduceLimits {
                message_bytes_max: 1 << 20,
                timestamp_before_max_ms: i64::MAX,
                timestamp_after_max_ms: i64::MAX,
                now_wall_ms: 0,
            };
            let records = partition.records.expect("records");
            let allocation = frame.bytes.as_ptr_range();
            assert!(allocation.contains(&records.as_ptr()), "{}: the records were copied", frame.name);
            check_produced(records, &limits).unwrap_or_else(|error| panic!("{}: {error}", frame.name));
            taken += 1;
        }
    }
    assert!(taken >= 12, "only {taken}");
}

/// Decode a response with the crate, then encode it as we answer.
fn answer_again<T: Decodable + HeaderVersion>(frame: &Frame, response: impl Fn(T) -> Response) -> Bytes {
    let version = codec_version(frame);
    let header_bytes = if T::header_version(version) >= 1 { 5 } else { 4 };
    let mut body = frame.bytes.slice(header_bytes..);
    let decoded = T::decode(&mut body, version).unwrap_or_else(|error| panic!("{}: {error}", frame.name));
    assert!(body.is_empty(), "{}: bytes left", frame.name);
    joined(&encode_response(&header_of(frame), &response(decoded)))
}

/// A Produce answer of the crate's as one of ours.
fn our_produced(theirs: m::ProduceResponse) -> Response {
    let partition = |p: m::produce_response::PartitionProduceResponse| {
        assert!(p.record_errors.is_empty() && p.log_append_time_ms == -1, "{p:?}");
        let leader = NodeId(p.current_leader.leader_id.0);
        ProducedPartition {
            index: p.index,
            error: ErrorCode(p.error_code),
            base_offset: p.base_offset,
            log_start_offset: p.log_start_offset,
            record_errors: Vec::new(),
            error_message: p.error_message.map(|text| text.to_string()),
            current_leader: (leader.0 >= 0).then_some((leader, Epoch(p.current_leader.leader_epoch))),
        }
    };
    let topic = |t: m::produce_response::TopicProduceResponse| ProducedTopic {
        name: t.name.0,
        id: own_uuid(t.topic_id),
        partitions: t.partition_responses.into_iter().map(partition).collect(),
    };
    let endpoint = |n: m::produce_response::NodeEndpoint| {
        (NodeId(n.node_id.0), Arc::new(Endpoint { host: n.host.to_string(), port: n.port as u16 }))
    };
    Response::Produce(ProduceResponse {
        topics: theirs.responses.into_iter().map(topic).collect(),
        node_endpoints: theirs.node_endpoints.into_iter().map(endpoint).collect(),
    })
}

/// A Produce request of ours as the crate's.
fn their_produce(ours: &ProduceRequest) -> m::ProduceRequest {
    use m::produce_request::{PartitionProduceData, TopicProduceData};
    let topic = |t: &ProduceTopic| {
        let partitions = t
            .partitions
            .iter()
            .map(|p| PartitionProduceData::default().with_index(p.index).with_records(p.records.clone()));
        TopicProduceData::default()
            .with_name(m::TopicName(t.name.clone()))
            .with_topic_id(wire_uuid(t.id))
            .with_partition_data(partitions.collect())
    };
    m::ProduceRequest::default()
        .with_transactional_id(ours.transactional_id.clone().map(Into::into))
        .with_acks(ours.acks)
        .with_timeout_ms(ours.timeout_ms)
        .with_topic_data(ours.topics.iter().map(topic).collect())
}

/// A Fetch request of ours as the crate's. What ours passes over is taken from the frame again, nothing else.
fn their_fetch(frame: &Frame, ours: &FetchRequest) -> m::FetchRequest {
    use m::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
    let mut bytes = frame.bytes.clone();
    m::RequestHeader::decode(&mut bytes, m::FetchRequest::header_version(frame.version)).expect("a header");
    let theirs = m::FetchRequest::decode(&mut bytes, frame.version).expect("the crate decodes it");
    let partition = |(p, their): (&RequestedPartition, &FetchPartition)| {
        let told = FetchPartition::default()
            .with_partition(p.index)
            .with_current_leader_epoch(p.current_leader_epoch)
            .with_fetch_offset(p.fetch_offset)
            .with_last_fetched_epoch(p.last_fetched_epoch)
            .with_partition_max_bytes(p.max_bytes)
            .with_replica_directory_id(wire_uuid(p.directory_id))
            .with_high_watermark(p.high_watermark);
        told.with_log_start_offset(their.log_start_offset)
    };
    let topic = |(t, their): (&RequestedTopic, &FetchTopic)| {
        assert_eq!(t.partitions.len(), their.partitions.len(), "{}", frame.name);
        FetchTopic::default()
            .with_topic(m::TopicName(m_string(t.name.to_string())))
            .with_topic_id(wire_uuid(t.id))
            .with_partitions(t.partitions.iter().zip(&their.partitions).map(partition).collect())
    };
    assert_eq!(ours.topics.len(), theirs.topics.len(), "{}", frame.name);
    let request = m::FetchRequest::default()
        .with_cluster_id(ours.cluster_id.as_ref().map(|id| m_string(id.to_string())))
        .with_max_wait_ms(ours.max_wait_ms)
        .with_min_bytes(ours.min_bytes)
        .with_max_bytes(ours.max_bytes)
        .with_session_id(ours.session_id)
        .with_session_epoch(ours.session_epoch)
        .with_topics(ours.topics.iter().zip(&theirs.topics).map(topic).collect())
        .with_isolation_level(theirs.isolation_level)
        .with_forgotten_topics_data(theirs.forgotten_topics_data)
        .with_rack_id(theirs.rack_id);
    if frame.version < 15 {
        return request.with_replica_id(ours.replica_id.into());
    }
    let state = ReplicaState::default().with_replica_id(ours.replica_id.into());
    request.with_replica_state(state.with_replica_epoch(theirs.replica_state.replica_epoch))
}

/// A Fetch answer of the crate's as one of ours.
fn our_fetch(name: &str, theirs: m::FetchResponse) -> Response {
    let leader = |l: m::fetch_response::LeaderIdAndEpoch| {
        let id = (l.leader_id.0 >= 0).then_some(NodeId(l.leader_id.0));
        (l.leader_epoch != -1).then_some((id, Epoch(l.leader_epoch)))
    };
    let at = |offset: i64, epoch: i32| {
        (offset >= 0).then_some(OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) })
    };
    let partition = |p: m::fetch_response::PartitionData| {
        let (records, error) = check_fetched(p.records.unwrap_or_default());
        assert_eq!(error, None, "{name}");
        FetchPartition {
            index: p.partition_index,
            error: ErrorCode(p.error_code),
            high_watermark: p.high_watermark,
            last_stable_offset: p.last_stable_offset,
            log_start_offset: p.log_start_offset,
            diverging: at(p.diverging_epoch.end_offset, p.diverging_epoch.epoch),
            current_leader: leader(p.current_leader),
            snapshot: at(p.snapshot_id.end_offset, p.snapshot_id.epoch)
                .map(|id| Box::new(NamedSnapshot { id, begin: None })),
            lagging: 0,
            records: records.into(),
        }
    };
    let topics = theirs.responses.into_iter().map(|topic| FetchTopic {
        name: topic.topic.0,
        topic_id: Uuid(topic.topic_id.as_u128()),
        partitions: topic.partitions.into_iter().map(partition).collect(),
    });
    let endpoint = |node: &m::fetch_response::NodeEndpoint| {
        let endpoint = Endpoint { host: node.host.as_str().to_string(), port: node.port as u16 };
        (NodeId(node.node_id.0), Arc::new(endpoint))
    };
    Response::Fetch(FetchResponse {
        error: theirs.error_code,
        session_id: theirs.session_id,
        topics: topics.collect(),
        node_endpoints: theirs.node_endpoints.iter().map(endpoint).collect(),
    })
}

/// A FetchSnapshot answer of the crate's as one of ours.
fn our_piece(theirs: m::FetchSnapshotResponse) -> Response {
    let endpoint = |node: &m::fetch_snapshot_response::NodeEndpoint| {
        let endpoint = Endpoint { host: node.host.as_str().to_string(), port: node.port };
        (NodeId(node.node_id.0), Arc::new(endpoint))
    };
    let piece = theirs.topics.into_iter().next().map(|mut topic| {
        let p = topic.partitions.remove(0);
        let leader = (p.current_leader.leader_id.0, p.current_leader.leader_epoch);
        SnapshotPiece {
            topic: topic.name.0,
            index: p.index,
            error: ErrorCode(p.error_code),
            id: OffsetAndEpoch {
                epoch: Epoch(p.snapshot_id.epoch),
                offset: Offset(p.snapshot_id.end_offset),
            },
            current_leader: Some((Some(NodeId(leader.0)), Epoch(leader.1))),
            size: p.size,
            position: p.position,
            bytes: p.unaligned_records,
        }
    });
    Response::FetchSnapshot(FetchSnapshotResponse {
        error: theirs.error_code,
        partition: piece,
        node_endpoints: theirs.node_endpoints.iter().map(endpoint).collect(),
    })
}

/// Kafka says null for "no aborted transactions" to consumers that read uncommitted, and an empty array to the others
/// and to replicas. We always say the latter: what Kafka's frame would then be. Every other byte stays Kafka's.
fn with_no_null_transactions(frame: &Frame) -> Bytes {
    let mut body = frame.bytes.slice(if frame.version >= 12 { 5 } else { 4 }..);
    let mut theirs = m::FetchResponse::decode(&mut body, frame.version).expect("decodes");
    for partition in theirs.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        partition.aborted_transactions.get_or_insert_default();
    }
    let mut out = BytesMut::from(&frame.bytes[..if frame.version >= 12 { 5 } else { 4 }]);
    theirs.encode(&mut out, frame.version).expect("encodes");
    out.freeze()
}

fn first_difference(ours: &[u8], theirs: &[u8]) -> Option<String> {
    let at = ours.iter().zip(theirs).position(|(a, b)| a != b).unwrap_or(ours.len().min(theirs.len()));
    let is_same = ours.len() == theirs.len() && at == ours.len();
    (!is_same).then(|| format!("byte {at} differs; {} bytes against {}", ours.len(), theirs.len()))
}

#[test]
fn every_response_is_answered_byte_for_byte() {
    let mut responses: Vec<Frame> = frames().into_iter().filter(|frame| !frame.is_request).collect();
    assert!(responses.len() > 100, "only {} responses", responses.len());
    for frame in &mut responses {
        let again = match frame.api_key {
            0 => answer_again(frame, our_produced),
            1 => answer_again(frame, |theirs| our_fetch(&frame.name, theirs)),
            LIST_OFFSETS => answer_again(frame, Response::ListOffsets),
            3 => answer_again(frame, Response::Metadata),
            8 => answer_again(frame, |theirs| Response::Group(GroupResponse::OffsetCommit(theirs))),
            9 => answer_again(frame, |theirs| Response::Group(GroupResponse::OffsetFetch(theirs))),
            10 => answer_again(frame, Response::FindCoordinator),
            12 => answer_again(frame, |theirs| Response::Group(GroupResponse::Heartbeat(theirs))),
            13 => answer_again(frame, |theirs| Response::Group(GroupResponse::Leave(theirs))),
            14 => answer_again(frame, |theirs| Response::Group(GroupResponse::Sync(theirs))),
            18 => answer_again(frame, Response::ApiVersions),
            19 => answer_again(frame, Response::CreateTopics),
            22 => answer_again(frame, Response::InitProducerId),
            23 => answer_again(frame, Response::OffsetForLeaderEpoch),
            32 => answer_again(frame, Response::DescribeConfigs),
            33 => answer_again(frame, Response::AlterConfigs),
            44 => answer_again(frame, Response::IncrementalAlterConfigs),
            52 => answer_again(frame, Response::Vote),
            53 => answer_again(frame, Response::BeginQuorumEpoch),
            54 => answer_again(frame, Response::EndQuorumEpoch),
            55 => answer_again(frame, Response::DescribeQuorum),
            59 => answer_again(frame, our_piece),
            60 => answer_again(frame, Response::DescribeCluster),
            75 => answer_again(frame, Response::DescribeTopicPartitions),
            82 => answer_again(frame, Response::UpdateRaftVoter),
            key => panic!("{}: no answer for {key}", frame.name),
        };
        let is_consumers = frame.api_key == 1
            && !["/voters/", "/kraft1-", "/dynamic/"].iter().any(|group| frame.name.contains(group));
        if is_consumers {
            frame.bytes = with_no_null_transactions(frame);
        }
        assert_eq!(first_difference(&again, &on_the_wire(frame)), None, "{}", frame.name);
    }
}

fn anyone() -> QuorumContext {
    let endpoint = Endpoint { host: "localhost".to_string(), port: 1 };
    QuorumContext {
        cluster_id: Default::default(),
        topic: "__cluster_metadata".into(),
        topic_id: Uuid::METADATA_TOPIC_ID,
        local: ReplicaKey { id: NodeId(1), directory_id: Uuid::ZERO },
        listener_name: "CONTROLLER".to_string(),
        data_mode: kraft::types::DataMode::Interop,
        endpoint: endpoint.into(),
        voters: Vec::new(),
    }
}

/// Whatever a peer's frame holds, reading it as a client gives a result.
fn read_as_client(frame: &Frame, bytes: Bytes) -> bool {
    let kind = match frame.api_key {
        1 => RequestKind::Fetch,
        52 => RequestKind::Vote,
        53 => RequestKind::BeginQuorumEpoch,
        54 => RequestKind::EndQuorumEpoch,
        18 => return decode_api_versions_response(bytes).is_ok(),
        59 => return decode_fetch_snapshot_response(&anyone(), frame.version, bytes).is_ok(),
        _ => return false,
    };
    decode_response(&anyone(), kind, frame.version, bytes).is_ok()
}

#[test]
fn no_truncated_frame_decodes() {
    for frame in frames() {
        for cut in 0..frame.bytes.len() {
            let bytes = frame.bytes.slice(..cut);
            let is_read =
                if frame.is_request { decode_request(bytes).is_ok() } else { read_as_client(&frame, bytes) };
            assert!(!is_read, "{} cut at {cut} of {}", frame.name, frame.bytes.len());
        }
    }
}

#[test]
fn corrupted_frames_never_panic() {
    let mut seeded = Seeded(4);
    for frame in frames() {
        for _ in 0..200 {
            let mut bytes = frame.bytes.to_vec();
            for _ in 0..1 + seeded.below(3) {
                let at = seeded.below(bytes.len());
                bytes[at] = seeded.next() as u8;
            }
            let bytes = Bytes::from(bytes);
            if frame.is_request {
                let _ = decode_request(bytes);
            } else {
                read_as_client(&frame, bytes);
            }
        }
    }
}

#[test]
fn every_file_of_records_is_read_as_kafka_reads_it() {
    let files = log_files();
    assert!(files.len() >= 10, "only {} files", files.len());
    for file in files {
        let (batches, error) = check_fetched(file.bytes.clone());
        assert_eq!(error, None, "{}", file.name);
        assert_eq!(batches.len(), file.batches.len(), "{}", file.name);
        let mut bytes = 0;
        for (batch, known) in batches.iter().zip(&file.batches) {
            let header = batch.header();
            let ours = [
                header.base_offset.0,
                i64::from(header.leader_epoch.0),
                i64::from(header.crc),
                i64::from(header.attributes),
                i64::from(header.last_offset_delta),
                header.producer_id,
                i64::from(header.record_count),
                header.size_bytes as i64,
            ];
            let names = ["baseOffset", "partitionLeaderEpoch", "crc", "attributes", "lastOffsetDelta"];
            let names = names.into_iter().chain(["producerId", "count", "sizeInBytes"]);
            let theirs: Vec<i64> = names.map(|name| known[name].as_i64().expect(name)).collect();
            assert_eq!(ours[..], theirs[..], "{}", file.name);
            bytes += batch.size_bytes();
        }
        assert_eq!(bytes, file.bytes.len(), "{}: no partial batch", file.name);
    }
}

#[test]
fn every_lone_leader_change_is_rebuilt_byte_for_byte() {
    let mut rebuilt = 0;
    for file in log_files() {
        for batch in check_fetched(file.bytes).0.iter().filter(|batch| batch.header().is_control()) {
            let records = control_records(batch).unwrap_or_else(|why| panic!("{}: {why:?}", file.name));
            if let [ControlRecord::LeaderChange { leader, voters, granting }] = &records[..] {
                let (offset, wall_ms) = (batch.base_offset(), batch.header().base_timestamp);
                let ours = leader_change_batch(offset, batch.epoch(), wall_ms, *leader, voters, granting);
                assert_eq!(ours.to_bytes(), batch.to_bytes(), "{}", file.name);
                rebuilt += 1;
            }
        }
    }
    assert!(rebuilt >= 5, "only {rebuilt}");
}

/// Kafka's own snapshots, with the ids that their names say.
fn snapshots() -> Vec<(fixtures::LogFile, OffsetAndEpoch)> {
    let id = |name: &str| match name.rsplit('/').next()? {
        "bootstrap.checkpoint" => Some(OffsetAndEpoch::default()),
        name => parse_snapshot_file_name(name),
    };
    log_files().into_iter().filter_map(|file| id(&file.name).map(|id| (file, id))).collect()
}

fn read_snapshot(bytes: &[u8], id: OffsetAndEpoch, piece: usize) -> ReadSnapshot {
    let mut decoder = SnapshotDecoder::new(id, 1 << 20);
    bytes.chunks(piece).for_each(|part| decoder.push(part).expect("a good snapshot"));
    decoder.finish().expect("a whole snapshot")
}

#[test]
fn every_snapshot_of_kafkas_is_read_however_it_is_cut() {
    let mut versions = [0, 0];
    for (file, id) in snapshots() {
        let controls = |file: &fixtures::LogFile| {
            let batches = file.batches.iter().filter(|batch| batch["attributes"] != 32);
            batches.map(|batch| batch["count"].as_u64().expect("a count")).sum::<u64>()
        };
        for piece in [1, 7, 61, 1000, usize::MAX] {
            let read = read_snapshot(&file.bytes, id, piece);
            assert_eq!(read.foreign_records, controls(&file), "{}", file.name);
            assert!(read.snapshot.sections.is_empty(), "{}", file.name);
            let is_dynamic = file.name.contains("kraft1") && !file.name.ends_with("bootstrap.checkpoint");
            assert_eq!(read.snapshot.kraft_version, i16::from(is_dynamic), "{}", file.name);
            assert_eq!(read.snapshot.voters.is_some(), is_dynamic, "{}", file.name);
        }
        versions[usize::from(read_snapshot(&file.bytes, id, 1).snapshot.voters.is_some())] += 1;
    }
    assert!(versions[0] >= 2 && versions[1] >= 4, "{versions:?}");
}

#[test]
fn headers_and_footers_of_snapshots_are_rebuilt_byte_for_byte() {
    for (file, id) in snapshots() {
        let snapshot = read_snapshot(&file.bytes, id, usize::MAX).snapshot;
        let (batches, _) = check_fetched(file.bytes.clone());
        let (first, last) = (&batches[0], &batches[batches.len() - 1]);
        let time = snapshot.last_contained_log_timestamp;
        let voters = snapshot.voters.as_deref();
        let header = snapshot_header_batch(
            id.epoch,
            first.header().base_timestamp,
            time,
            snapshot.kraft_version,
            voters,
        );
        assert_eq!(header.to_bytes(), first.to_bytes(), "{}", file.name);
        let footer = snapshot_footer_batch(last.base_offset(), id.epoch, last.header().base_timestamp);
        assert_eq!(footer.to_bytes(), last.to_bytes(), "{}", file.name);
    }
}

#[test]
fn a_snapshot_of_ours_with_kafkas_voters_reads_back() {
    for (file, id) in snapshots() {
        let snapshot = read_snapshot(&file.bytes, id, usize::MAX).snapshot;
        let mut encoder = SnapshotEncoder::new(snapshot.clone());
        let ours: Vec<u8> = std::iter::from_fn(|| encoder.next_batch()).flat_map(|b| b.to_bytes()).collect();
        assert_eq!(read_snapshot(&ours, id, 100).snapshot, snapshot, "{}", file.name);
    }
}
