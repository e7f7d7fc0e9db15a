//! Against the crate's codec, in every version: the same structs from the same bytes, the same bytes from the same structs,
//! and the same bytes refused.

use super::*;
use crate::protocol::check::{Decoder, check_message};
use crate::protocol::codec::decode;
use crate::protocol::messages as m;
use crate::protocol::schema::{self, Message};
use crate::protocol::wire::ShortText;
use crate::protocol::{FrameError, wire_uuid};
use kafka_protocol::protocol::{Decodable, Encodable};
use proptest::collection::vec;
use proptest::prelude::*;
use std::fmt::Debug;

const VERSIONS: std::ops::RangeInclusive<i16> = 4..=18;

fn s(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_string())
}

fn body_of<T: Encodable>(message: &T, version: i16) -> Bytes {
    let mut body = BytesMut::new();
    message.encode(&mut body, version).expect("the crate encodes it");
    body.freeze()
}

/// A body in any state is refused by the walk, or read or refused as the crate reads or refuses it (but for text).
fn check_as_strict<T: Decodable, U: Debug>(
    message: &Message,
    version: i16,
    body: &Bytes,
    ours: fn(&Bytes, i16) -> Result<U, FrameError>,
) {
    let own = ours(body, version);
    if let Err(why) = check_message(message, version, body, body.len(), Decoder::Own) {
        assert!(why.0.contains(message.name), "{why}");
        return;
    }
    let theirs = decode::<T>(body.clone(), version);
    // Text that is no UTF-8 ends the crate's decoder, not ours.
    let is_text = theirs.as_ref().is_err_and(|error| error.0.contains("utf-8"));
    assert!(
        is_text || own.is_ok() == theirs.is_ok(),
        "version {version}: {own:?}, {:?} of {body:?}",
        theirs.err()
    );
}

/// Cut anywhere it is refused; damaged anywhere, as the crate does.
fn check_refusals<T: Decodable, U: Debug>(
    message: &Message,
    version: i16,
    body: &Bytes,
    damage: &[(prop::sample::Index, u8)],
    ours: fn(&Bytes, i16) -> Result<U, FrameError>,
) {
    for cut in 0..body.len() {
        let part = body.slice(..cut);
        assert!(
            check_message(message, version, &part, cut, Decoder::Own).is_err(),
            "version {version} cut at {cut}"
        );
        assert!(ours(&part, version).is_err(), "version {version} cut at {cut}");
    }
    let longer = Bytes::from([&body[..], &[0]].concat());
    let taken = check_message(message, version, &longer, longer.len(), Decoder::Own);
    assert_eq!(taken, Ok(body.len()), "what stands behind it is passed over");
    for (at, byte) in damage {
        let mut bytes = body.to_vec();
        let at = at.index(bytes.len());
        bytes[at] = *byte;
        check_as_strict::<T, U>(message, version, &Bytes::from(bytes), ours);
    }
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    let edges = prop_oneof![any::<u8>(), Just(0), Just(1), Just(2), Just(0x7f), Just(0x80), Just(0xff)];
    vec((any::<prop::sample::Index>(), edges), 0..40)
}

// --- requests

prop_compose! {
    fn partition()(
        index: i32, current_leader_epoch: i32, fetch_offset: i64, last_fetched_epoch: i32, max_bytes: i32, log_start: i64,
        directory_id in prop_oneof![Just(0), any::<u128>()],
        high_watermark in prop_oneof![Just(i64::MAX), Just(-1), any::<i64>()],
    ) -> RequestedPartition {
        let directory_id = Uuid(directory_id);
        RequestedPartition {
            index, current_leader_epoch, fetch_offset, last_fetched_epoch, max_bytes, directory_id, high_watermark, log_start,
        }
    }
}

prop_compose! {
    fn topic()(name in ".{0,30}", id: u128, partitions in vec(partition(), 0..3)) -> RequestedTopic {
        RequestedTopic { name: ShortText::from(&*name), id: Uuid(id), partitions: partitions.into_iter().collect() }
    }
}

prop_compose! {
    fn request()(
        cluster_id in proptest::option::of(".{0,130}"),
        replica_id in prop_oneof![Just(-1), any::<i32>()],
        max_wait_ms: i32, min_bytes: i32, max_bytes: i32, session_id: i32, session_epoch: i32,
        topics in vec(topic(), 0..3),
    ) -> FetchRequest {
        let cluster_id = cluster_id.map(|id| ShortText::from(&*id));
        let topics = topics.into_iter().collect();
        FetchRequest { cluster_id, replica_id, max_wait_ms, min_bytes, max_bytes, session_id, session_epoch, topics, unfit: None, wall_ms: None }
    }
}

/// What is left of it when a version has carried it.
fn told_in(version: i16, mut request: FetchRequest) -> FetchRequest {
    if version < 7 {
        (request.session_id, request.session_epoch) = (0, -1);
    }
    if version < 12 {
        request.cluster_id = None;
    }
    for topic in &mut request.topics {
        if version < 13 {
            topic.id = Uuid::ZERO;
        } else {
            topic.name = ShortText::default();
        }
        for partition in &mut topic.partitions {
            if version < 5 {
                partition.log_start = -1;
            }
            if version < 9 {
                partition.current_leader_epoch = -1;
            }
            if version < 12 {
                partition.last_fetched_epoch = -1;
            }
            if version < 17 {
                partition.directory_id = Uuid::ZERO;
            }
            if version < 18 {
                partition.high_watermark = i64::MAX;
            }
        }
    }
    request
}

/// The crate's, of one that a version can carry.
fn their_request(version: i16, ours: &FetchRequest) -> m::FetchRequest {
    use m::fetch_request::{FetchPartition, FetchTopic, ReplicaState};
    let partition = |p: &RequestedPartition| {
        FetchPartition::default()
            .with_partition(p.index)
            .with_current_leader_epoch(p.current_leader_epoch)
            .with_fetch_offset(p.fetch_offset)
            .with_last_fetched_epoch(p.last_fetched_epoch)
            .with_log_start_offset(p.log_start)
            .with_partition_max_bytes(p.max_bytes)
            .with_replica_directory_id(wire_uuid(p.directory_id))
            .with_high_watermark(p.high_watermark)
    };
    let topic = |t: &RequestedTopic| {
        let topic = FetchTopic::default().with_topic(s(&t.name).into()).with_topic_id(wire_uuid(t.id));
        topic.with_partitions(t.partitions.iter().map(partition).collect())
    };
    let request = m::FetchRequest::default()
        .with_cluster_id(ours.cluster_id.as_deref().map(s))
        .with_max_wait_ms(ours.max_wait_ms)
        .with_min_bytes(ours.min_bytes)
        .with_max_bytes(ours.max_bytes)
        .with_session_id(ours.session_id)
        .with_session_epoch(ours.session_epoch)
        .with_topics(ours.topics.iter().map(topic).collect());
    match version < 15 {
        true => request.with_replica_id(ours.replica_id.into()),
        false => request.with_replica_state(ReplicaState::default().with_replica_id(ours.replica_id.into())),
    }
}

/// Everything that ours passes over, and tagged fields of a later version.
fn add_what_is_passed_over(version: i16, request: &mut m::FetchRequest) {
    use m::fetch_request::ForgottenTopic;
    let tag = || [(77, Bytes::from_static(b"of a later version"))].into_iter().collect();
    request.isolation_level = 1;
    request.rack_id = s("rack");
    if version >= 7 {
        let forgotten = ForgottenTopic::default().with_topic(s("gone").into()).with_partitions(vec![1, 2]);
        request.forgotten_topics_data = vec![forgotten.with_topic_id(wire_uuid(Uuid(6)))];
    }
    if version >= 12 {
        request.unknown_tagged_fields = tag();
        request.topics.iter_mut().for_each(|t| t.unknown_tagged_fields = tag());
        let partitions = request.topics.iter_mut().flat_map(|t| &mut t.partitions);
        partitions.for_each(|p| p.unknown_tagged_fields = tag());
        request.forgotten_topics_data.iter_mut().for_each(|t| t.unknown_tagged_fields = tag());
    }
    if version >= 15 {
        request.replica_state.replica_epoch = 9;
        request.replica_state.unknown_tagged_fields = tag();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_request_is_read_and_written_as_the_crate_does(version in VERSIONS, request in request(), damage in damage()) {
        let told = told_in(version, request.clone());
        let mut theirs = their_request(version, &told);
        let mut ours = BytesMut::new();
        encode_fetch_request(&mut ours, &request, version);
        prop_assert_eq!(&ours[..], &body_of(&theirs, version)[..], "version {}", version);
        add_what_is_passed_over(version, &mut theirs);
        let body = body_of(&theirs, version);
        check_message(&schema::FETCH_REQUEST, version, &body, body.len(), Decoder::Own).expect("nothing is wrong with it");
        prop_assert_eq!(decode_fetch_request(&body, version).expect("decodes"), told, "version {}", version);
        let ours = decode_fetch_request;
        check_refusals::<m::FetchRequest, _>(&schema::FETCH_REQUEST, version, &body, &damage, ours);
    }
}

#[test]
fn a_tag_of_another_version_is_refused_and_text_that_is_none_passed_over() {
    let request =
        FetchRequest { topics: SmallVec::from_elem(RequestedTopic::default(), 1), ..Default::default() };
    let body = |version| body_of(&their_request(version, &request), version).to_vec();
    // The last byte counts the request's tags.
    for (version, is_fine) in [(14, false), (15, true)] {
        let mut body =
            if version == 15 { body_of(&m::FetchRequest::default(), 15).to_vec() } else { body(14) };
        body.pop();
        body.extend([1, 1, 13, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        let read = decode_fetch_request(&body.into(), version);
        assert_eq!(read.is_ok(), is_fine, "version {version}: {read:?}");
    }
    let mut rack = m::FetchRequest::default();
    rack.rack_id = s("rack");
    let mut body = body_of(&rack, 12).to_vec();
    let at = body.windows(4).position(|bytes| bytes == b"rack").expect("it is there");
    body[at] = 0xff;
    decode_fetch_request(&body.into(), 12).expect("the rack is not looked at");
}

// --- answers

prop_compose! {
    fn their_partition()(
        numbers: (i32, i16, i64, i64, i64, i32),
        aborted in vec(any::<(i64, i64)>(), 0..3),
        diverging in proptest::option::of(any::<(i32, i64)>()),
        leader in proptest::option::of(any::<(i32, i32)>()),
        snapshot in proptest::option::of(any::<(i64, i32)>()),
        records in proptest::option::of(vec(any::<u8>(), 0..200)),
    ) -> m::fetch_response::PartitionData {
        use m::fetch_response::{AbortedTransaction, EpochEndOffset, LeaderIdAndEpoch, PartitionData, SnapshotId};
        let (index, error, high_watermark, last_stable, log_start, read_replica) = numbers;
        let aborted = aborted.into_iter().map(|(producer, first)| {
            AbortedTransaction::default().with_producer_id(producer.into()).with_first_offset(first)
        });
        let (of_epoch, end) = diverging.unwrap_or((-1, -1));
        let (leader, leader_epoch) = leader.unwrap_or((-1, -1));
        let (at, epoch) = snapshot.unwrap_or((-1, -1));
        PartitionData::default()
            .with_partition_index(index)
            .with_error_code(error)
            .with_high_watermark(high_watermark)
            .with_last_stable_offset(last_stable)
            .with_log_start_offset(log_start)
            .with_aborted_transactions(Some(aborted.collect()))
            .with_preferred_read_replica(read_replica.into())
            .with_diverging_epoch(EpochEndOffset::default().with_epoch(of_epoch).with_end_offset(end))
            .with_current_leader(
                LeaderIdAndEpoch::default().with_leader_id(leader.into()).with_leader_epoch(leader_epoch),
            )
            .with_snapshot_id(SnapshotId::default().with_end_offset(at).with_epoch(epoch))
            .with_records(records.map(Bytes::from))
    }
}

prop_compose! {
    fn their_answer()(
        top: (i32, i16, i32),
        topics in prop_oneof![
            4 => vec((any::<u128>(), vec(their_partition(), 1..=1)), 1..=1),
            1 => vec((any::<u128>(), vec(their_partition(), 0..3)), 0..3),
        ],
        nodes in vec((any::<i32>(), ".{0,20}", any::<i32>()), 0..3),
    ) -> m::FetchResponse {
        use m::fetch_response::{FetchableTopicResponse, NodeEndpoint};
        let topic = |(id, partitions)| {
            let topic = FetchableTopicResponse::default().with_topic(s("topic").into());
            topic.with_topic_id(wire_uuid(Uuid(id))).with_partitions(partitions)
        };
        let node = |(id, host, port): (i32, String, i32)| {
            NodeEndpoint::default().with_node_id(id.into()).with_host(s(&host)).with_port(port)
        };
        m::FetchResponse::default()
            .with_throttle_time_ms(top.0)
            .with_error_code(top.1)
            .with_session_id(top.2)
            .with_responses(topics.into_iter().map(topic).collect())
            .with_node_endpoints(nodes.into_iter().map(node).collect())
    }
}

/// Leaves out what the crate refuses to say in a version.
fn fit(version: i16, answer: &mut m::FetchResponse) {
    if version < 7 {
        (answer.error_code, answer.session_id) = (0, 0);
    }
    if version < 16 {
        answer.node_endpoints.clear();
    }
    for partition in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
        if version < 11 {
            partition.preferred_read_replica = (-1).into();
        }
        if version < 12 {
            (partition.diverging_epoch, partition.current_leader) = Default::default();
            partition.snapshot_id = Default::default();
        }
    }
}

fn expected(version: i16, theirs: &m::FetchResponse) -> FetchAnswer {
    let only = match &theirs.responses[..] {
        [topic] if topic.partitions.len() == 1 => Some((topic, &topic.partitions[0])),
        _ => None,
    };
    let partition = only.map(|(topic, p)| AnsweredPartition {
        topic_id: if version < 13 { Uuid::ZERO } else { Uuid(topic.topic_id.as_u128()) },
        index: p.partition_index,
        error: p.error_code,
        high_watermark: p.high_watermark,
        log_start: if version < 5 { -1 } else { p.log_start_offset },
        diverging: (p.diverging_epoch.end_offset, p.diverging_epoch.epoch),
        current_leader: (p.current_leader.leader_id.0, p.current_leader.leader_epoch),
        snapshot: (p.snapshot_id.end_offset, p.snapshot_id.epoch),
        begin: (-1, -1),
        lagging: 0,
        records: p.records.clone(),
    });
    FetchAnswer { error: theirs.error_code, partition }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn an_answer_is_read_as_the_crate_does(version in VERSIONS, theirs in their_answer(), damage in damage()) {
        let mut theirs = theirs;
        fit(version, &mut theirs);
        let body = body_of(&theirs, version);
        check_message(&schema::FETCH_RESPONSE, version, &body, body.len(), Decoder::Own).expect("nothing is wrong with it");
        let ours = decode_fetch_answer(&body, version).expect("decodes");
        prop_assert_eq!(&ours, &expected(version, &theirs), "version {}", version);
        if let Some(records) = ours.partition.and_then(|p| p.records).filter(|records| !records.is_empty()) {
            prop_assert!(body.as_ptr_range().contains(&records.as_ptr()), "the records were copied");
        }
        let ours = decode_fetch_answer;
        check_refusals::<m::FetchResponse, _>(&schema::FETCH_RESPONSE, version, &body, &damage, ours);
    }
}

#[test]
fn unknown_tagged_fields_of_an_answer_are_passed_over() {
    use m::fetch_response::{FetchableTopicResponse, PartitionData};
    let tag = || [(77, Bytes::from_static(b"of a later version"))].into_iter().collect();
    let partition = PartitionData::default().with_partition_index(3).with_unknown_tagged_fields(tag());
    let topic = FetchableTopicResponse::default().with_partitions(vec![partition]);
    let answer = m::FetchResponse::default()
        .with_responses(vec![topic.with_unknown_tagged_fields(tag())])
        .with_unknown_tagged_fields(tag());
    let body = body_of(&answer, 18);
    check_message(&schema::FETCH_RESPONSE, 18, &body, body.len(), Decoder::Own)
        .expect("nothing is wrong with it");
    let read = decode_fetch_answer(&body, 18).expect("decodes");
    assert_eq!(read.partition.map(|p| p.index), Some(3));
}
