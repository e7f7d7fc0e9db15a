//! Requests of every version that is served, hostile ones, and answers in every version.

use super::api_versions::{codec_version, key, served};
use super::fetch::COPY_BELOW_BYTES;
use super::messages as m;
use super::*;
use crate::raft::RequestKind;
use crate::record::{BatchList, ProduceLimits, StampedBatch, check_produced, data_batch};
use crate::types::*;
use bytes::{Buf, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

mod groups;
mod runs;
mod snapshots;

fn s(text: &'static str) -> m::StrBytes {
    m::StrBytes::from_static_str(text)
}

fn header(api_key: i16, api_version: i16) -> RequestHeader {
    RequestHeader { api_key, api_version, correlation_id: 7, client_id: Some(ClientId::from("test")) }
}

fn frame_of<T: Encodable + HeaderVersion>(api_key: i16, version: i16, body: &T) -> Bytes {
    let codec = codec_version(api_key, version);
    let mut out = BytesMut::new();
    let header = m::RequestHeader::default()
        .with_request_api_key(api_key)
        .with_request_api_version(version)
        .with_correlation_id(7)
        .with_client_id(Some(s("test")));
    header.encode(&mut out, T::header_version(codec)).expect("header");
    body.encode(&mut out, codec).unwrap_or_else(|error| panic!("api {api_key} version {version}: {error}"));
    out.freeze()
}

fn produce(version: i16) -> Bytes {
    use m::produce_request::{PartitionProduceData, TopicProduceData};
    let records = data_batch(&[b"value"], 1, None);
    let partitions = vec![PartitionProduceData::default().with_index(0).with_records(Some(records))];
    let mut topic = TopicProduceData::default().with_partition_data(partitions);
    if version >= 13 {
        topic.topic_id = wire_uuid(Uuid(1));
    } else {
        topic.name = s("topic").into();
    }
    let request = m::ProduceRequest::default().with_acks(-1).with_topic_data(vec![topic]);
    frame_of(key::PRODUCE, version, &request.with_transactional_id(Some(s("tx").into())))
}

fn fetch(version: i16) -> Bytes {
    use m::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic, ReplicaState};
    let mut partition = FetchPartition::default().with_current_leader_epoch(3).with_fetch_offset(9);
    let mut request = m::FetchRequest::default().with_max_wait_ms(5).with_rack_id(s("rack"));
    let mut topic = FetchTopic::default().with_topic(s("topic").into()).with_topic_id(wire_uuid(Uuid(1)));
    if version >= 7 {
        let forgotten = ForgottenTopic::default().with_topic(s("gone").into()).with_partitions(vec![1, 2]);
        request.forgotten_topics_data = vec![forgotten];
    }
    if version >= 12 {
        partition.last_fetched_epoch = 2;
        request.cluster_id = Some(s("cluster"));
    }
    if version >= 15 {
        request.replica_state = ReplicaState::default().with_replica_id(2.into()).with_replica_epoch(4);
    } else {
        request.replica_id = 2.into();
    }
    if version >= 17 {
        partition.replica_directory_id = wire_uuid(Uuid(5));
    }
    if version >= 18 {
        partition.high_watermark = 8;
    }
    topic.partitions = vec![partition.clone(), partition];
    frame_of(key::FETCH, version, &request.with_topics(vec![topic]))
}

fn list_offsets(version: i16) -> Bytes {
    use m::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
    let partition = ListOffsetsPartition::default().with_current_leader_epoch(1).with_timestamp(-2);
    let topic = ListOffsetsTopic::default().with_name(s("topic").into()).with_partitions(vec![partition]);
    let request = m::ListOffsetsRequest::default().with_replica_id((-1).into()).with_topics(vec![topic]);
    frame_of(key::LIST_OFFSETS, version, &request)
}

fn metadata(version: i16) -> Bytes {
    use m::metadata_request::MetadataRequestTopic;
    let named = MetadataRequestTopic::default().with_name(Some(s("topic").into()));
    let unnamed = MetadataRequestTopic::default().with_topic_id(wire_uuid(Uuid(1)));
    let topics = if version >= 10 { vec![named, unnamed.with_name(None)] } else { vec![named] };
    frame_of(key::METADATA, version, &m::MetadataRequest::default().with_topics(Some(topics)))
}

fn offset_for_leader_epoch(version: i16) -> Bytes {
    use m::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
    let partition = OffsetForLeaderPartition::default().with_current_leader_epoch(1).with_leader_epoch(1);
    let topic =
        OffsetForLeaderTopic::default().with_topic(s("topic").into()).with_partitions(vec![partition]);
    let request = m::OffsetForLeaderEpochRequest::default().with_topics(vec![topic]);
    frame_of(key::OFFSET_FOR_LEADER_EPOCH, version, &request)
}

fn describe_configs(version: i16) -> Bytes {
    use m::describe_configs_request::DescribeConfigsResource;
    let all = DescribeConfigsResource::default().with_resource_type(2).with_resource_name(s("topic"));
    let some = all.clone().with_configuration_keys(Some(vec![s("a"), s("b")]));
    let request =
        m::DescribeConfigsRequest::default().with_resources(vec![all.with_configuration_keys(None), some]);
    frame_of(key::DESCRIBE_CONFIGS, version, &request.with_include_synonyms(true))
}

fn alter_configs(version: i16) -> Bytes {
    use m::alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let configs =
        [None, Some(s("v"))].map(|value| AlterableConfig::default().with_name(s("k")).with_value(value));
    let topic = AlterConfigsResource::default().with_resource_type(2).with_resource_name(s("topic"));
    let topic = topic.with_configs(configs.to_vec());
    frame_of(key::ALTER_CONFIGS, version, &m::AlterConfigsRequest::default().with_resources(vec![topic]))
}

fn incremental_alter_configs(version: i16) -> Bytes {
    use m::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
    let config =
        |value| AlterableConfig::default().with_name(s("k")).with_config_operation(1).with_value(value);
    let topic = AlterConfigsResource::default().with_resource_type(2).with_resource_name(s("topic"));
    let topic = topic.with_configs(vec![config(None), config(Some(s("v")))]);
    let request = m::IncrementalAlterConfigsRequest::default().with_resources(vec![topic]);
    frame_of(key::INCREMENTAL_ALTER_CONFIGS, version, &request.with_validate_only(true))
}

fn describe_quorum(version: i16) -> Bytes {
    use m::describe_quorum_request::{PartitionData, TopicData};
    let topic =
        TopicData::default().with_topic_name(s("t").into()).with_partitions(vec![PartitionData::default()]);
    frame_of(key::DESCRIBE_QUORUM, version, &m::DescribeQuorumRequest::default().with_topics(vec![topic]))
}

fn describe_topic_partitions(version: i16) -> Bytes {
    use m::describe_topic_partitions_request::{Cursor, TopicRequest};
    let topics = vec![TopicRequest::default().with_name(s("topic").into())];
    let request = m::DescribeTopicPartitionsRequest::default().with_topics(topics);
    let cursor = Cursor::default().with_topic_name(s("topic").into());
    frame_of(key::DESCRIBE_TOPIC_PARTITIONS, version, &request.with_cursor(Some(cursor)))
}

fn vote(version: i16) -> Bytes {
    use m::vote_request::{PartitionData, TopicData};
    let mut partition = PartitionData::default().with_replica_directory_id(wire_uuid(Uuid(3)));
    partition.pre_vote = version >= 2;
    let topic = TopicData::default().with_topic_name(s("topic").into()).with_partitions(vec![partition]);
    frame_of(key::VOTE, version, &m::VoteRequest::default().with_topics(vec![topic]))
}

#[test]
fn what_our_candidates_say_in_a_vote_is_read_and_what_nobody_knows_elsewhere_is_passed_over() {
    use m::vote_request::{PartitionData, TopicData};
    let tags = BTreeMap::from([(0x6b72, Bytes::from_static(&[1]))]);
    let partition = PartitionData::default().with_unknown_tagged_fields(tags.clone());
    let topic = TopicData::default().with_topic_name(s("topic").into()).with_partitions(vec![partition]);
    let topic = topic.with_unknown_tagged_fields(tags.clone());
    let frame = frame_of(key::VOTE, 2, &m::VoteRequest::default().with_topics(vec![topic]));
    let (_, request) = decode_request(frame).unwrap();
    let Request::Vote(vote) = request else { panic!("{request:?}") };
    assert_eq!(vote.topics[0].partitions[0].unknown_tagged_fields, tags);
    assert!(vote.topics[0].unknown_tagged_fields.is_empty());
}

fn begin_quorum_epoch(version: i16) -> Bytes {
    use m::begin_quorum_epoch_request::{LeaderEndpoint, PartitionData, TopicData};
    let partitions = vec![PartitionData::default().with_leader_epoch(1)];
    let topic = TopicData::default().with_topic_name(s("topic").into()).with_partitions(partitions);
    let mut request = m::BeginQuorumEpochRequest::default().with_topics(vec![topic]);
    if version >= 1 {
        request.leader_endpoints = vec![LeaderEndpoint::default().with_name(s("L")).with_host(s("host"))];
    }
    frame_of(key::BEGIN_QUORUM_EPOCH, version, &request)
}

fn end_quorum_epoch(version: i16) -> Bytes {
    use m::end_quorum_epoch_request::{PartitionData, ReplicaInfo, TopicData};
    let mut partition = PartitionData::default();
    if version >= 1 {
        partition.preferred_candidates = vec![ReplicaInfo::default().with_candidate_id(3.into())];
    } else {
        partition.preferred_successors = vec![3, 2];
    }
    let topic = TopicData::default().with_topic_name(s("topic").into()).with_partitions(vec![partition]);
    frame_of(key::END_QUORUM_EPOCH, version, &m::EndQuorumEpochRequest::default().with_topics(vec![topic]))
}

fn update_raft_voter(version: i16) -> Bytes {
    let listener = m::update_raft_voter_request::Listener::default().with_name(s("L")).with_host(s("host"));
    frame_of(
        key::UPDATE_RAFT_VOTER,
        version,
        &m::UpdateRaftVoterRequest::default().with_listeners(vec![listener]),
    )
}

fn find_coordinator(version: i16) -> Bytes {
    let request = m::FindCoordinatorRequest::default();
    let request =
        if version >= 4 { request.with_coordinator_keys(vec![s("g")]) } else { request.with_key(s("g")) };
    frame_of(key::FIND_COORDINATOR, version, &request)
}

fn create_topics(version: i16) -> Bytes {
    use m::create_topics_request::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
    let assignment = CreatableReplicaAssignment::default().with_broker_ids(vec![1.into(), 2.into()]);
    let configs = [None, Some(s("v"))]
        .map(|value| CreatableTopicConfig::default().with_name(s("k")).with_value(value))
        .to_vec();
    let topic = CreatableTopic::default().with_name(s("new").into()).with_configs(configs);
    let topics = vec![topic.with_assignments(vec![assignment])];
    frame_of(key::CREATE_TOPICS, version, &m::CreateTopicsRequest::default().with_topics(topics))
}

fn describe_log_dirs(version: i16) -> Bytes {
    use m::describe_log_dirs_request::DescribableLogDirTopic;
    let topic = DescribableLogDirTopic::default().with_topic(s("t").into()).with_partitions(vec![0, 1]);
    let request = m::DescribeLogDirsRequest::default().with_topics(Some(vec![topic]));
    frame_of(key::DESCRIBE_LOG_DIRS, version, &request)
}

/// A request with something in each of its arrays.
fn full_request(api_key: i16, version: i16) -> Bytes {
    match api_key {
        key::PRODUCE => produce(version),
        key::FETCH => fetch(version),
        key::LIST_OFFSETS => list_offsets(version),
        key::METADATA => metadata(version),
        key::FIND_COORDINATOR => find_coordinator(version),
        key::API_VERSIONS => {
            let request = m::ApiVersionsRequest::default().with_client_software_name(s("client"));
            frame_of(api_key, version, &request.with_client_software_version(s("1.0")))
        }
        key::CREATE_TOPICS => create_topics(version),
        key::DESCRIBE_LOG_DIRS => describe_log_dirs(version),
        key::INIT_PRODUCER_ID => frame_of(api_key, version, &m::InitProducerIdRequest::default()),
        key::OFFSET_FOR_LEADER_EPOCH => offset_for_leader_epoch(version),
        key::DESCRIBE_CONFIGS => describe_configs(version),
        key::ALTER_CONFIGS => alter_configs(version),
        key::INCREMENTAL_ALTER_CONFIGS => incremental_alter_configs(version),
        key::VOTE => vote(version),
        key::BEGIN_QUORUM_EPOCH => begin_quorum_epoch(version),
        key::END_QUORUM_EPOCH => end_quorum_epoch(version),
        key::DESCRIBE_QUORUM => describe_quorum(version),
        key::DESCRIBE_CLUSTER => frame_of(api_key, version, &m::DescribeClusterRequest::default()),
        key::DESCRIBE_TOPIC_PARTITIONS => describe_topic_partitions(version),
        key::FETCH_SNAPSHOT => snapshots::fetch_snapshot(version),
        key::UPDATE_RAFT_VOTER => update_raft_voter(version),
        other => groups::full_request(other, version),
    }
}

fn every_version() -> Vec<(i16, i16)> {
    let versions = |(api_key, ..): &(i16, i16, i16)| {
        let (min, max) = served(*api_key).expect("it is advertised");
        let api_key = *api_key;
        (min..=max).map(move |version| (api_key, version))
    };
    advertised().iter().flat_map(versions).collect()
}

#[test]
fn every_served_version_decodes_and_no_part_of_it_does() {
    for (api_key, version) in every_version() {
        let frame = full_request(api_key, version);
        let (read, _) = decode_request(frame.clone()).unwrap_or_else(|e| panic!("api {api_key}: {e}"));
        assert_eq!(read, header(api_key, version));
        for cut in 0..frame.len() {
            assert!(
                decode_request(frame.slice(..cut)).is_err(),
                "api {api_key} version {version} cut at {cut}"
            );
        }
    }
}

fn described(frame: Bytes) -> String {
    format!("{:?}", decode_request(frame).unwrap_or_else(|error| panic!("{error}")))
}

#[test]
fn bytes_behind_a_request_are_passed_over_in_every_version() {
    for (api_key, version) in every_version() {
        let frame = full_request(api_key, version);
        for more in [&[0][..], &[1, 0, 0], &[0xff; 100]] {
            let longer = Bytes::from([&frame[..], more].concat());
            assert_eq!(described(longer), described(frame.clone()), "api {api_key} version {version}");
        }
    }
}

#[test]
fn all_topics_as_librdkafka_asks_for_them() {
    // A null array is one byte here, and it sends four.
    let body = [0x00, 0x00, 0x00, 0x00, 0x01, 0x00, 0x00];
    let frame = Bytes::from([head(key::METADATA, 13), body.to_vec()].concat());
    let (_, request) = decode_request(frame).expect("it decodes");
    let Request::Metadata(metadata) = request else { panic!("{request:?}") };
    assert_eq!(metadata.topics, None, "all of them");
}

#[test]
fn text_that_is_no_utf8_is_read_with_replacements_in_every_version() {
    let mut seen = 0;
    for (api_key, version) in every_version() {
        let mut frame = full_request(api_key, version).to_vec();
        let before = described(Bytes::from(frame.clone()));
        while let Some(at) = frame.windows(5).position(|window| window == b"topic") {
            frame[at + 2] = 0xff;
            seen += 1;
        }
        let expected = before.replace("\"topic\"", "\"to\u{fffd}ic\"");
        assert_eq!(described(Bytes::from(frame)), expected, "api {api_key} version {version}");
    }
    assert!(seen > 80, "only {seen} names were changed");
    let mut long = head(key::METADATA, 1);
    long.extend_from_slice(&[0, 0, 0, 1, 0x7f, 0xff]);
    long.extend_from_slice(&[0xff; i16::MAX as usize]);
    let error = decode_request(Bytes::from(long)).expect_err("nobody could be told this name again");
    assert!(error.0.contains("no UTF-8 has 98301 bytes"), "{error}");
}

#[test]
fn tagged_fields_that_nobody_knows_are_passed_over() {
    use m::metadata_request::MetadataRequestTopic;
    let tags = || (100..2100).map(|tag| (tag, Bytes::from_static(b"x"))).collect();
    let ask = |topic: MetadataRequestTopic| {
        m::MetadataRequest::default().with_topics(Some(vec![topic.clone(), topic]))
    };
    let topic = || MetadataRequestTopic::default().with_name(Some(s("topic").into()));
    let plain = described(frame_of(key::METADATA, 13, &ask(topic())));
    let tagged = ask(topic().with_unknown_tagged_fields(tags())).with_unknown_tagged_fields(tags());
    assert_eq!(described(frame_of(key::METADATA, 13, &tagged)), plain);

    // Between texts that have to be mended too.
    let mut frame = frame_of(key::METADATA, 13, &tagged).to_vec();
    while let Some(at) = frame.windows(5).position(|window| window == b"topic") {
        frame[at] = 0x80;
    }
    assert_eq!(described(Bytes::from(frame)), plain.replace("\"topic\"", "\"\u{fffd}opic\""));

    // Codecs of our own.
    for (api_key, version, known) in [(key::PRODUCE, 13, 0_u8), (key::FETCH, 18, 2)] {
        let frame = full_request(api_key, version).to_vec();
        let tags_at = frame.len() - 1 - if known == 0 { 0 } else { 25 };
        assert_eq!(frame[tags_at], known, "the tagged fields of the whole request");
        let mut longer = frame.clone();
        let count = 2000 + u32::from(known);
        longer.splice(tags_at..=tags_at, [0x80 | (count % 128) as u8, (count / 128) as u8]);
        longer.extend((100..2100_u32).flat_map(|tag| [0x80 | (tag % 128) as u8, (tag / 128) as u8, 0]));
        assert_eq!(described(Bytes::from(longer)), described(Bytes::from(frame)), "api {api_key}");
    }
}

#[test]
fn many_small_names_are_read() {
    let mut frame = head(key::METADATA, 1);
    frame.extend_from_slice(&50_000_i32.to_be_bytes());
    frame.extend((0..50_000).flat_map(|_| [0, 1, b'a']));
    let (_, request) = decode_request(Bytes::from(frame)).expect("150 KB");
    let Request::Metadata(metadata) = request else { panic!("{request:?}") };
    assert_eq!(metadata.topics.map(|topics| topics.len()), Some(50_000));
}

/// A request's header without a body.
fn head(api_key: i16, version: i16) -> Vec<u8> {
    let mut head = [api_key.to_be_bytes(), version.to_be_bytes()].concat();
    head.extend_from_slice(&[0, 0, 0, 7, 0xff, 0xff]);
    if schema::request(api_key).is_some_and(|message| message.is_flexible(version)) {
        head.push(0);
    }
    head
}

const KINDS: [RequestKind; 4] =
    [RequestKind::Vote, RequestKind::BeginQuorumEpoch, RequestKind::EndQuorumEpoch, RequestKind::Fetch];

fn context() -> quorum::QuorumContext {
    quorum::QuorumContext {
        cluster_id: "cluster".into(),
        topic: "topic".into(),
        topic_id: Uuid(1),
        local: ReplicaKey { id: NodeId(1), directory_id: Uuid(11) },
        listener_name: "PLAINTEXT".to_string(),
        data_mode: crate::types::DataMode::Native,
        endpoint: Arc::new(Endpoint { host: "one".to_string(), port: 9092 }),
        voters: vec![(NodeId(2), Arc::new(Endpoint { host: "two".to_string(), port: 9093 }))],
    }
}

#[test]
fn the_eight_bytes_that_kill_the_crates_decoder_are_refused() {
    let eight = [0x03, 0x00, 0x00, 0x03, 0x3c, 0x0c, 0x00, 0xb6];
    assert!(decode_request(Bytes::copy_from_slice(&eight)).is_err());
    for (api_key, version) in every_version() {
        let frame = Bytes::from([head(api_key, version), eight.to_vec()].concat());
        // The first of them may be a whole request, the rest then stands behind it.
        let is_short = matches!(api_key, key::API_VERSIONS | key::DESCRIBE_CLUSTER | key::LIST_GROUPS);
        assert!(is_short || decode_request(frame).is_err(), "api {api_key} version {version}");
    }
    for (kind, version) in KINDS.into_iter().flat_map(|kind| (0..=18).map(move |version| (kind, version))) {
        let frame = Bytes::from([&[0, 0, 0, 1, 0][..], &eight].concat());
        assert!(quorum::decode_response(&context(), kind, version, frame).is_err());
    }
}

#[test]
fn counts_and_lengths_are_held_against_the_bytes_that_follow() {
    let body = |api_key, version, body: &[u8]| {
        decode_request(Bytes::from([head(api_key, version), body.to_vec()].concat()))
            .expect_err("it should be refused")
            .0
    };
    for (api_key, version, bytes, expected) in [
        (
            key::METADATA,
            1,
            &[0x7f, 0xff, 0xff, 0xff][..],
            "an array announces 2147483647 elements, but 0 bytes",
        ),
        (key::METADATA, 1, &[0xff, 0xff, 0xff, 0xfe], "a length or count is -2"),
        (key::METADATA, 0, &[0xff, 0xff, 0xff, 0xff], "null that must not be"),
        (key::METADATA, 12, &[0xff, 0xff, 0xff, 0xff, 0x0f], "an array announces 4294967294 elements"),
        (key::METADATA, 12, &[0xff, 0xff, 0xff, 0xff, 0xff, 0x01], "a varint has more than five bytes"),
        (key::INIT_PRODUCER_ID, 2, &[0xff, 0xff, 0x7f], "a string announces 2097150 bytes"),
        (key::INIT_PRODUCER_ID, 0, &[0x80, 0x00], "a length or count is -32768"),
        (
            key::INIT_PRODUCER_ID,
            2,
            &[0, 0, 0, 0, 0, 1, 9, 200, 1],
            "200 bytes are announced, but only 0 follow",
        ),
        (key::DESCRIBE_TOPIC_PARTITIONS, 0, &[1, 0, 0, 0, 1, 7], "a nullable struct begins with 7"),
    ] {
        let error = body(api_key, version, bytes);
        assert!(error.contains(expected), "{api_key}: {error}");
    }
    // A known tag whose content is shorter than its announced size.
    let mut vote = vec![1, 1, 1, 0, 3];
    vote.extend_from_slice(&[0, 0, 0]);
    assert!(body(key::VOTE, 2, &vote).contains("Vote request version 2"));
}

#[test]
fn what_would_fill_memory_is_refused_however_well_formed() {
    let mut many_topics = head(key::METADATA, 1);
    many_topics.extend_from_slice(&1_000_000_i32.to_be_bytes());
    many_topics.extend_from_slice(&vec![0; 2_000_000]);
    let error = decode_request(Bytes::from(many_topics)).expect_err("a million empty names in 2 MB");
    assert!(error.0.contains("many times its size in memory"), "{error}");
}

#[test]
fn a_header_has_thousands_of_tagged_fields_at_most() {
    let with_tags = |count: usize| {
        let mut frame = head(key::API_VERSIONS, 3);
        frame.pop();
        frame.extend_from_slice(&[count as u8 | 0x80, (count >> 7) as u8 | 0x80, (count >> 14) as u8]);
        frame.extend_from_slice(&[9, 0].repeat(count));
        frame.extend_from_slice(&[2, b'a', 2, b'1', 0]);
        decode_request(Bytes::from(frame))
    };
    assert!(with_tags(10_000).is_ok());
    let error = with_tags(1_000_000).expect_err("a million");
    assert!(error.0.contains("1000000 tagged fields, more than 10000"), "{error}");
}

/// Frames as large as they may be, of what Kafka reads with replacements or passes over: neither threefold memory nor time.
#[test]
fn what_is_mended_or_passed_over_is_paid_for() {
    let mut tags = head(key::API_VERSIONS, 3);
    tags.extend_from_slice(&[2, b'a', 2, b'1', 0x80, 0x80, 0x80, 2]);
    tags.extend_from_slice(&[1, 0].repeat(4 << 20));
    let error = decode_request(Bytes::from(tags)).expect_err("four million tagged fields");
    assert!(error.0.contains("many times its size in memory"), "{error}");
    let mut names = head(key::METADATA, 1);
    names.extend_from_slice(&1_000_i32.to_be_bytes());
    (0..1_000).for_each(|_| {
        names.extend_from_slice(&10_900_i16.to_be_bytes());
        names.extend_from_slice(&[0xff; 10_900]);
    });
    let error = decode_request(Bytes::from(names)).expect_err("ten megabytes that become thirty");
    assert!(error.0.contains("many times its size in memory"), "{error}");
}

#[test]
fn strange_keys_and_versions_are_named() {
    let refusal = |api_key, version| {
        decode_request(Bytes::from(head(api_key, version))).expect_err("it should be refused").0
    };
    assert!(refusal(80, 1).contains("api key 80, which is not served"), "AddRaftVoter");
    assert!(refusal(key::FETCH_SNAPSHOT, 2).contains("only 0 to 1"));
    assert!(refusal(-1, 0).contains("api key -1"));
    assert!(refusal(key::PRODUCE, 2).contains("Produce request of version 2: only 3 to 13"));
    assert!(refusal(key::FETCH, 19).contains("only 4 to 18"));
    assert!(refusal(key::VOTE, -1).contains("only 0 to 2"));
    assert!(decode_request(Bytes::new()).is_err());
}

/// The frame's body behind length and correlation id, in the version that it is in.
fn decode_answer<T: Decodable>(frame: &EncodedFrame, header_bytes: usize, version: i16) -> T {
    let mut bytes = Bytes::from(frame.chunks.concat());
    assert_eq!(bytes.get_u32() as usize, bytes.len(), "the length is that of the rest");
    assert_eq!(bytes.slice(..4)[..], 7_i32.to_be_bytes());
    bytes.advance(header_bytes);
    let decoded = T::decode(&mut bytes, version).expect("it decodes");
    assert!(bytes.is_empty());
    decoded
}

#[test]
fn api_versions_of_a_later_kafka_gets_error_35_in_version_0() {
    let (read, request) = decode_request(Bytes::from(head(key::API_VERSIONS, 9))).expect("decodes");
    assert!(matches!(request, Request::ApiVersionsUnsupported), "{request:?}");
    let answer = encode_response(&read, &Response::ApiVersions(api_versions_response(read.api_version)));
    let answer: m::ApiVersionsResponse = decode_answer(&answer, 4, 0);
    assert_eq!(answer.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
    let keys: Vec<_> = answer.api_keys.iter().map(|k| (k.api_key, k.min_version, k.max_version)).collect();
    assert_eq!(keys, [(key::API_VERSIONS, 0, 4)]);
}

#[test]
fn api_versions_lists_what_is_served_and_features_from_version_4() {
    for version in 0..=4 {
        let read = header(key::API_VERSIONS, version);
        let answer = encode_response(&read, &Response::ApiVersions(api_versions_response(version)));
        let answer: m::ApiVersionsResponse = decode_answer(&answer, 4, version);
        assert_eq!(answer.api_keys.len(), advertised().len());
        assert_eq!(answer.supported_features.len(), usize::from(version == 4), "version {version}");
    }
    assert!(advertised().is_sorted(), "by key, as Kafka lists them");
}

#[test]
fn client_software_has_kafkas_form() {
    let client = |name: &'static str, version: &'static str| {
        let request = m::ApiVersionsRequest::default().with_client_software_name(s(name));
        request.with_client_software_version(s(version))
    };
    assert!(client_software_is_valid(&client("apache-kafka-java", "4.3.0"), 3));
    for (name, version) in [("", "1"), ("a", ""), ("-a", "1"), ("a b", "1"), ("a", "1.")] {
        assert!(!client_software_is_valid(&client(name, version), 3), "{name} {version}");
        assert!(client_software_is_valid(&client(name, version), 2), "older versions do not say");
    }
}

fn batch(value_bytes: usize, offset: i64) -> StampedBatch {
    let limits = ProduceLimits {
        message_bytes_max: 1 << 20,
        timestamp_before_max_ms: i64::MAX,
        timestamp_after_max_ms: i64::MAX,
        now_wall_ms: 1,
    };
    let mut batch = check_produced(data_batch(&[&vec![7; value_bytes]], 1, None), &limits).expect("valid");
    batch.stamp(Offset(offset), Epoch(3));
    batch
}

fn fetch_answer(records: impl Into<BatchList>) -> FetchResponse {
    let at = |epoch, offset| OffsetAndEpoch { epoch: Epoch(epoch), offset: Offset(offset) };
    let partition = FetchPartition {
        index: 0,
        error: ErrorCode::NONE,
        high_watermark: 5,
        last_stable_offset: 6,
        log_start_offset: 1,
        diverging: Some(at(2, 4)),
        current_leader: Some((Some(NodeId(2)), Epoch(3))),
        snapshot: Some(Box::new(NamedSnapshot { id: at(1, 3), begin: Some(at(0, 2)) })),
        lagging: 0,
        records: records.into(),
    };
    let topic =
        FetchTopic { name: "topic".into(), topic_id: Uuid(9), partitions: [partition].into_iter().collect() };
    let endpoint = Endpoint { host: "two".to_string(), port: 9093 };
    FetchResponse {
        error: 0,
        session_id: 4,
        topics: [topic].into_iter().collect(),
        node_endpoints: [(NodeId(2), Arc::new(endpoint))].into_iter().collect(),
    }
}

#[test]
fn a_fetch_answer_reads_the_same_in_every_version() {
    let records = vec![batch(10, 0), batch(COPY_BELOW_BYTES, 1), batch(100_000, 2), batch(20, 3)];
    let whole: Vec<u8> = records.iter().flat_map(|batch| batch.to_bytes()).collect();
    let answer = Response::Fetch(fetch_answer(records));
    for version in 4..=18 {
        let frame = encode_response(&header(key::FETCH, version), &answer);
        let read: m::FetchResponse = decode_answer(&frame, if version >= 12 { 5 } else { 4 }, version);
        assert_eq!(read.session_id, if version >= 7 { 4 } else { 0 });
        let topic = &read.responses[0];
        if version >= 13 {
            assert_eq!(topic.topic_id.as_u128(), 9);
        } else {
            assert_eq!(topic.topic.as_str(), "topic");
        }
        let partition = &topic.partitions[0];
        assert_eq!(partition.records.as_ref().map(|records| &records[..]), Some(&whole[..]), "{version}");
        assert_eq!((partition.high_watermark, partition.last_stable_offset), (5, 6));
        let told = version >= 12;
        assert_eq!(partition.diverging_epoch.end_offset, if told { 4 } else { -1 });
        assert_eq!(partition.current_leader.leader_id.0, if told { 2 } else { -1 });
        assert_eq!(
            (partition.snapshot_id.epoch, partition.snapshot_id.end_offset),
            if told { (1, 3) } else { (-1, -1) }
        );
        assert_eq!(read.node_endpoints.len(), usize::from(version >= 16));
    }
}

#[test]
fn no_tag_of_default_values_is_sent() {
    let mut answer = fetch_answer(BatchList::default());
    let partition = &mut answer.topics[0].partitions[0];
    (partition.diverging, partition.snapshot) = (None, None);
    partition.current_leader = Some((None, Epoch(-1)));
    answer.node_endpoints.clear();
    let frame = encode_response(&header(key::FETCH, 16), &Response::Fetch(answer));
    assert!(
        frame.chunks[0].ends_with(&[1, 0, 0, 0]),
        "no records, and three times no tags: {:?}",
        frame.chunks
    );
}

#[test]
fn older_versions_leave_out_what_they_cannot_say() {
    use m::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
    let partition = ListOffsetsPartitionResponse::default().with_leader_epoch(3).with_offset(8);
    let topic = ListOffsetsTopicResponse::default().with_partitions(vec![partition]);
    let answer = Response::ListOffsets(m::ListOffsetsResponse::default().with_topics(vec![topic]));
    for version in 1..=11 {
        let frame = encode_response(&header(key::LIST_OFFSETS, version), &answer);
        let header_bytes = if version >= 6 { 5 } else { 4 };
        let read: m::ListOffsetsResponse = decode_answer(&frame, header_bytes, version.min(10));
        assert_eq!(read.topics[0].partitions[0].leader_epoch, if version >= 4 { 3 } else { -1 });
        assert_eq!(read.topics[0].partitions[0].offset, 8);
    }
    use m::describe_quorum_response::{Node, PartitionData, ReplicaState, TopicData};
    let replica = ReplicaState::default().with_replica_directory_id(wire_uuid(Uuid(4)));
    let partition =
        PartitionData::default().with_current_voters(vec![replica.clone()]).with_observers(vec![replica]);
    let topic = TopicData::default().with_partitions(vec![partition]);
    let answer =
        m::DescribeQuorumResponse::default().with_topics(vec![topic]).with_nodes(vec![Node::default()]);
    for version in 0..=2 {
        let frame = encode_response(
            &header(key::DESCRIBE_QUORUM, version),
            &Response::DescribeQuorum(answer.clone()),
        );
        let read: m::DescribeQuorumResponse = decode_answer(&frame, 5, version);
        assert_eq!(read.nodes.len(), usize::from(version >= 2));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Noise behind a valid header, and damage in a valid request.
    #[test]
    fn no_input_panics(which: prop::sample::Index, noise in proptest::collection::vec(any::<u8>(), 0..80), at: prop::sample::Index) {
        let versions = every_version();
        let (api_key, version) = versions[which.index(versions.len())];
        let _ = decode_request(Bytes::from([head(api_key, version), noise.clone()].concat()));
        let mut frame = full_request(api_key, version).to_vec();
        let at = at.index(frame.len());
        for (byte, damage) in frame[at..].iter_mut().zip(&noise).take(3) {
            *byte = *damage;
        }
        let _ = decode_request(Bytes::from(frame));
        for kind in KINDS {
            let _ = quorum::decode_response(&context(), kind, version, Bytes::from(noise.clone()));
        }
        let _ = quorum::decode_fetch_snapshot_response(&context(), version, Bytes::from(noise.clone()));
        let _ = quorum::decode_api_versions_response(Bytes::from(noise));
    }
}
