//! Against the crate's codec, in every version: the same structs from the same bytes, the same bytes from the same structs.

use super::*;
use crate::protocol::check::{Decoder, check_message};
use crate::protocol::messages as m;
use crate::protocol::schema;
use crate::protocol::wire_uuid;
use kafka_protocol::protocol::Encodable;
use smallvec::smallvec;
use std::sync::Arc;

const VERSIONS: std::ops::RangeInclusive<i16> = 3..=13;
const PRODUCE: i16 = 0;

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

/// Two topics, one of three partitions: null, empty and some records.
fn their_request(version: i16) -> m::ProduceRequest {
    use m::produce_request::{PartitionProduceData, TopicProduceData};
    let records = [None, Some(Bytes::new()), Some(Bytes::from_static(b"twelve bytes"))];
    let partitions = records
        .into_iter()
        .enumerate()
        .map(|(i, records)| PartitionProduceData::default().with_index(7 + i as i32).with_records(records));
    let mut first = TopicProduceData::default().with_partition_data(partitions.collect());
    let mut second = TopicProduceData::default();
    if version >= TOPIC_ID_FROM {
        (first.topic_id, second.topic_id) = (wire_uuid(Uuid(5)), wire_uuid(Uuid(u128::MAX)));
    } else {
        (first.name, second.name) = (s("first").into(), s("").into());
    }
    m::ProduceRequest::default()
        .with_transactional_id((version % 2 == 0).then(|| s("transactional").into()))
        .with_acks(-1)
        .with_timeout_ms(30_000)
        .with_topic_data(vec![first, second])
}

fn encoded<T: Encodable>(message: &T, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).expect("the crate encodes it");
    body.freeze()
}

#[test]
fn a_request_of_every_version_is_read_as_it_was_written() {
    for version in VERSIONS {
        let body = encoded(&their_request(version), version);
        let ours = decode_produce_request(&body, version).expect("decodes");
        let transactional = (version % 2 == 0).then(|| s("transactional"));
        assert_eq!((ours.acks, ours.timeout_ms), (-1, 30_000));
        assert_eq!(ours.transactional_id, transactional);
        let topics: Vec<_> = ours.topics.iter().map(|t| (&*t.name, t.id.0, t.partitions.len())).collect();
        match version >= TOPIC_ID_FROM {
            true => assert_eq!(topics, [("", 5, 3), ("", u128::MAX, 0)]),
            false => assert_eq!(topics, [("first", 0, 3), ("", 0, 0)]),
        }
        let partitions = ours.topics[0].partitions.iter().map(|p| (p.index, p.records.as_deref()));
        let expected: [(i32, Option<&[u8]>); 3] = [(7, None), (8, Some(b"")), (9, Some(b"twelve bytes"))];
        assert!(partitions.eq(expected), "version {version}: {ours:?}");
    }
}

#[test]
fn records_stay_where_they_were_received() {
    let body = encoded(&their_request(9), 9);
    let ours = decode_produce_request(&body, 9).expect("decodes");
    let records = ours.topics[0].partitions[2].records.clone().expect("records");
    assert!(body.as_ptr_range().contains(&records.as_ptr()));
}

#[test]
fn unknown_tagged_fields_are_passed_over() {
    use m::produce_request::{PartitionProduceData, TopicProduceData};
    let tag = || (77, Bytes::from_static(b"of a later version"));
    let partition = PartitionProduceData::default()
        .with_index(3)
        .with_unknown_tagged_fields([tag()].into_iter().collect());
    let topic = TopicProduceData::default()
        .with_name(s("t").into())
        .with_partition_data(vec![partition])
        .with_unknown_tagged_fields([tag()].into_iter().collect());
    let request = m::ProduceRequest::default()
        .with_topic_data(vec![topic.clone(), topic])
        .with_unknown_tagged_fields([tag()].into_iter().collect());
    let ours = decode_produce_request(&encoded(&request, 12), 12).expect("decodes");
    let seen: Vec<_> = ours.topics.iter().map(|t| (&*t.name, t.partitions[0].index)).collect();
    assert_eq!(seen, [("t", 3), ("t", 3)]);
}

#[test]
fn a_request_cut_anywhere_is_an_error_and_never_a_panic() {
    let (message, _) = schema::request(PRODUCE).zip(Some(())).expect("Produce has a schema");
    for version in VERSIONS {
        let body = encoded(&their_request(version), version);
        for cut in 0..body.len() {
            let part = body.slice(..cut);
            assert!(
                check_message(message, version, &part, cut, Decoder::Own).is_err(),
                "version {version} cut at {cut}"
            );
            assert!(decode_produce_request(&part, version).is_err(), "version {version} cut at {cut}");
        }
    }
}

fn partition(index: i32, error: ErrorCode) -> ProducedPartition {
    let is_good = error.is_none();
    ProducedPartition {
        index,
        error,
        base_offset: if is_good { 1 << 40 } else { -1 },
        log_start_offset: if is_good { 3 } else { -1 },
        record_errors: if is_good {
            Vec::new()
        } else {
            vec![(0, "one".to_string()), (7, "two".to_string())]
        },
        error_message: (!is_good).then(|| "why".to_string()),
        current_leader: (error == ErrorCode::NOT_LEADER_OR_FOLLOWER).then_some((NodeId(2), Epoch(9))),
    }
}

fn our_response() -> ProduceResponse {
    let not_leader = partition(1, ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let first = ProducedTopic {
        name: s("first"),
        id: Uuid(5),
        partitions: smallvec![partition(0, ErrorCode::NONE), not_leader],
    };
    let second = ProducedTopic { name: s("second"), id: Uuid(6), partitions: smallvec![] };
    let endpoint = Endpoint { host: "localhost".to_string(), port: 9093 };
    ProduceResponse {
        topics: smallvec![first, second],
        node_endpoints: smallvec![(NodeId(2), Arc::new(endpoint))],
    }
}

/// What of ours a version can say.
fn their_response(version: i16) -> m::ProduceResponse {
    use m::produce_response::{
        LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
    };
    let ours = our_response();
    let tells_leader = version >= CURRENT_LEADER_FROM;
    let partition = |p: &ProducedPartition| {
        let mut theirs = PartitionProduceResponse::default()
            .with_index(p.index)
            .with_error_code(p.error.0)
            .with_base_offset(p.base_offset)
            .with_log_append_time_ms(-1);
        if version >= LOG_START_FROM {
            theirs.log_start_offset = p.log_start_offset;
        }
        if version >= ERROR_MESSAGE_FROM {
            use m::produce_response::BatchIndexAndErrorMessage;
            let blamed = p.record_errors.iter().map(|(index, why)| {
                let error = BatchIndexAndErrorMessage::default().with_batch_index(*index);
                error.with_batch_index_error_message(Some(s(why)))
            });
            theirs.record_errors = blamed.collect();
            theirs.error_message = p.error_message.as_deref().map(s);
        }
        if let Some((leader, epoch)) = p.current_leader.filter(|_| tells_leader) {
            let leader = LeaderIdAndEpoch::default().with_leader_id(leader.0.into());
            theirs.current_leader = leader.with_leader_epoch(epoch.0);
        }
        theirs
    };
    let topic = |t: &ProducedTopic| {
        let theirs = TopicProduceResponse::default()
            .with_partition_responses(t.partitions.iter().map(partition).collect());
        match version >= TOPIC_ID_FROM {
            true => theirs.with_topic_id(wire_uuid(t.id)),
            false => theirs.with_name(t.name.clone().into()),
        }
    };
    let node = |(id, endpoint): &(NodeId, Arc<Endpoint>)| {
        NodeEndpoint::default()
            .with_node_id(id.0.into())
            .with_host(s(&endpoint.host))
            .with_port(i32::from(endpoint.port))
    };
    let nodes = ours.node_endpoints.iter().filter(|_| tells_leader).map(node);
    m::ProduceResponse::default()
        .with_responses(ours.topics.iter().map(topic).collect())
        .with_node_endpoints(nodes.collect())
}

#[test]
fn an_answer_of_every_version_has_the_crates_bytes() {
    for version in VERSIONS {
        let header =
            RequestHeader { api_key: PRODUCE, api_version: version, correlation_id: 17, client_id: None };
        let mut ours = BytesMut::from(&b"what stands before it"[..]);
        let before = ours.len();
        encode_produce_response(&header, &our_response(), &mut ours);
        let body = encoded(&their_response(version), version);
        let mut theirs = BytesMut::new();
        let head_bytes = if version >= FLEXIBLE_FROM { 5 } else { 4 };
        theirs.put_u32((body.len() + head_bytes) as u32);
        theirs.put_i32(17);
        theirs.put_no_tags(version >= FLEXIBLE_FROM);
        theirs.put_slice(&body);
        assert_eq!(ours[before..], theirs, "version {version}");
    }
}
