//! As client: raft's requests to the wire, and a peer's answer to raft's.
//!
//! A connection to a peer begins with ApiVersions; what it allows decides the version of each request. Field values
//! that raft does not know are Java's own (`KafkaRaftClient.build…Request`), so that a peer sees the same bytes.

use super::super::api_versions::{key, served};
use super::super::check::{Decoder, check_message};
use super::super::codec::{decode, encode_frame};
use super::super::fetch::{
    FetchAnswer, FetchRequest, RequestedPartition, RequestedTopic, decode_fetch_answer, encode_fetch_request,
};
use super::super::frame::Chunks;
use super::super::messages as m;
use super::super::schema::{self, Message};
use super::super::wire::{Cursor, PutFields, patch_length};
use super::super::{EncodedFrame, FrameError, ShortText, wire_uuid};
use super::greeting::told_advertised;
use super::server::high_watermark;
use super::software::{CLIENT_SOFTWARE_NAME, software_version};
use super::{
    ONE_BATCH_BYTES, PARTITION, QuorumContext, log_start, memory, node_id, only, text, told_log_start,
    wire_node_id,
};
use crate::raft::{self, RequestKind};
use crate::types::*;
use bytes::{BufMut, Bytes, BytesMut};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion};
use smallvec::smallvec;

/// Version of ApiVersions that we ask with, as Java's voters do.
const API_VERSIONS_VERSION: i16 = 4;
/// Lowest Fetch with a topic id, which Java's voters insist on.
const FETCH_VERSION_MIN: i16 = 13;
/// The most that a Fetch asks for (Java 4.3: controller.quorum.fetch.max.bytes, KIP-1219).
const FETCH_BYTES_MAX: i32 = 1 << 20;

/// What a Fetch request takes, and some more.
const FETCH_REQUEST_BYTES_ABOUT: usize = 256;
/// Room made for them at once.
const FETCHES_ROOM_BYTES: usize = 4096;

/// What the peer's ApiVersions answer allows, by key: the version that we use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerVersions {
    /// `None` here and below: it has none that we speak.
    pub vote: Option<i16>,
    /// KIP-595 BeginQuorumEpoch.
    pub begin_quorum_epoch: Option<i16>,
    /// KIP-595 EndQuorumEpoch.
    pub end_quorum_epoch: Option<i16>,
    /// 13 at least, which names the topic by its id.
    pub fetch: Option<i16>,
    /// KIP-630 FetchSnapshot.
    pub fetch_snapshot: Option<i16>,
    /// It takes Produce: clients may be sent there. Kafka's controllers do not.
    pub serves_clients: bool,
    /// It takes what is to be set for the topic: so it knows a batch of that in the log.
    pub alters_configs: bool,
    /// Where clients find it, if it is one of ours.
    pub advertised: Option<Endpoint>,
}

/// The first request on a connection to a voter: it tells our software and, by its version, the mode of our log.
pub fn encode_api_versions_request(correlation_id: i32, client_id: &str, mode: DataMode) -> EncodedFrame {
    let request = m::ApiVersionsRequest::default()
        .with_client_software_name(text(CLIENT_SOFTWARE_NAME))
        .with_client_software_version(text(&software_version(mode)));
    let sender = Sender { correlation_id, client_id };
    sender.encode(key::API_VERSIONS, API_VERSIONS_VERSION, &request).unwrap_or_default()
}

/// A peer that does not have our version of ApiVersions answers error 35 in version 0: an error here, because every
/// voter of today has it.
pub fn decode_api_versions_response(frame: Bytes) -> Result<PeerVersions, FrameError> {
    let mut cursor = Cursor(&frame);
    cursor.i32()?; // The correlation id; the header of this answer has nothing more.
    if let Ok(error) = { cursor }.i16()
        && error != 0
    {
        return Err(FrameError(format!("the peer answers ApiVersions with the error {error}")));
    }
    let body = checked_body(&schema::API_VERSIONS_RESPONSE, API_VERSIONS_VERSION, &frame, cursor)?;
    let response: m::ApiVersionsResponse = decode(body, API_VERSIONS_VERSION)?;
    let version = |api_key| common_version(&response.api_keys, api_key);
    Ok(PeerVersions {
        vote: version(key::VOTE),
        begin_quorum_epoch: version(key::BEGIN_QUORUM_EPOCH),
        end_quorum_epoch: version(key::END_QUORUM_EPOCH),
        fetch: version(key::FETCH).filter(|version| *version >= FETCH_VERSION_MIN),
        fetch_snapshot: version(key::FETCH_SNAPSHOT),
        serves_clients: version(key::PRODUCE).is_some(),
        alters_configs: version(key::INCREMENTAL_ALTER_CONFIGS).is_some(),
        advertised: told_advertised(&response),
    })
}

/// The version of DescribeQuorum that a node asks the leader with: the newest, it names directories and listeners.
const DESCRIBE_QUORUM_VERSION: i16 = 2;

pub(crate) fn encode_describe_quorum_request(
    correlation_id: i32,
    client_id: &str,
    request: &m::DescribeQuorumRequest,
) -> EncodedFrame {
    let sender = Sender { correlation_id, client_id };
    sender.encode(key::DESCRIBE_QUORUM, DESCRIBE_QUORUM_VERSION, request).unwrap_or_default()
}

/// The leader's answer that a node passes on to its client. The frame is without its length.
pub fn decode_describe_quorum_response(frame: Bytes) -> Result<m::DescribeQuorumResponse, FrameError> {
    answer(&schema::DESCRIBE_QUORUM_RESPONSE, DESCRIBE_QUORUM_VERSION, &frame)
}

/// The version in which a node passes on to the leader what is to be set.
const ALTER_CONFIGS_VERSION: i16 = 1;

pub(crate) fn encode_alter_configs_request(
    correlation_id: i32,
    client_id: &str,
    request: &m::IncrementalAlterConfigsRequest,
) -> EncodedFrame {
    let sender = Sender { correlation_id, client_id };
    sender.encode(key::INCREMENTAL_ALTER_CONFIGS, ALTER_CONFIGS_VERSION, request).unwrap_or_default()
}

/// The leader's answer to it. The frame is without its length.
pub fn decode_alter_configs_response(frame: Bytes) -> Result<m::IncrementalAlterConfigsResponse, FrameError> {
    answer(&schema::INCREMENTAL_ALTER_CONFIGS_RESPONSE, ALTER_CONFIGS_VERSION, &frame)
}

/// The highest version that both have.
fn common_version(theirs: &[m::api_versions_response::ApiVersion], api_key: i16) -> Option<i16> {
    let (our_min, our_max) = served(api_key)?;
    let their = theirs.iter().find(|their| their.api_key == api_key)?;
    let version = our_max.min(their.max_version);
    (version >= our_min.max(their.min_version)).then_some(version)
}

/// The version in which the peer is asked; AskEpoch is a Fetch on the wire.
pub fn version_of(v: &PeerVersions, kind: RequestKind) -> Option<i16> {
    match kind {
        RequestKind::Vote => v.vote,
        RequestKind::BeginQuorumEpoch => v.begin_quorum_epoch,
        RequestKind::EndQuorumEpoch => v.end_quorum_epoch,
        RequestKind::Fetch | RequestKind::AskEpoch => v.fetch,
    }
}

/// `None`: the peer has no version of it that can carry the request (e.g. a pre-vote to a Vote 1 peer). A Fetch is encoded
/// in `room`, which is used again when what was taken of it has been sent.
pub fn encode_request(
    c: &QuorumContext,
    v: &PeerVersions,
    correlation_id: i32,
    client_id: &str,
    request: &raft::Request,
    room: &mut BytesMut,
) -> Option<EncodedFrame> {
    let sender = Sender { correlation_id, client_id };
    match request {
        raft::Request::Vote(r) => sender.encode(key::VOTE, v.vote?, &wire_vote(c, r)),
        raft::Request::BeginQuorumEpoch(r) => {
            let version = v.begin_quorum_epoch?;
            sender.encode(key::BEGIN_QUORUM_EPOCH, version, &wire_begin_quorum_epoch(c, r, version))
        }
        raft::Request::EndQuorumEpoch(r) => sender.encode(
            key::END_QUORUM_EPOCH,
            v.end_quorum_epoch?,
            &wire_end_quorum_epoch(c, r, v.end_quorum_epoch?),
        ),
        raft::Request::Fetch(r) | raft::Request::AskEpoch(r) => {
            Some(sender.encode_fetch(v.fetch?, &wire_fetch(c, r), room))
        }
    }
}

/// What a request header says of us.
pub(super) struct Sender<'a> {
    pub(super) correlation_id: i32,
    pub(super) client_id: &'a str,
}

impl Sender<'_> {
    pub(super) fn encode<T: Encodable + HeaderVersion>(
        &self,
        api_key: i16,
        version: i16,
        body: &T,
    ) -> Option<EncodedFrame> {
        let mut head = Vec::with_capacity(16 + self.client_id.len());
        self.put_header(&mut head, api_key, version, T::header_version(version) >= 2);
        encode_frame(&head, body, version)
    }

    fn encode_fetch(&self, version: i16, request: &FetchRequest, room: &mut BytesMut) -> EncodedFrame {
        if room.capacity() < FETCH_REQUEST_BYTES_ABOUT {
            room.reserve(FETCHES_ROOM_BYTES);
        }
        room.put_u32(0);
        self.put_header(room, key::FETCH, version, schema::FETCH_REQUEST.is_flexible(version));
        encode_fetch_request(room, request, version);
        patch_length(room, 0, 0);
        EncodedFrame { chunks: Chunks::from_buf([room.split().freeze()]) }
    }

    fn put_header(&self, head: &mut impl BufMut, api_key: i16, version: i16, is_flexible: bool) {
        head.put_i16(api_key);
        head.put_i16(version);
        head.put_i32(self.correlation_id);
        // The client id is never compact (KIP-482).
        head.put_text(false, self.client_id);
        head.put_no_tags(is_flexible);
    }
}

fn wire_vote(c: &QuorumContext, r: &raft::VoteRequest) -> m::VoteRequest {
    use m::vote_request::{PartitionData, TopicData};
    let partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_replica_epoch(r.epoch.0)
        .with_replica_id(r.candidate.id.0.into())
        .with_replica_directory_id(wire_uuid(r.candidate.directory_id))
        .with_voter_directory_id(wire_uuid(r.voter.map_or(Uuid::ZERO, |voter| voter.directory_id)))
        .with_last_offset_epoch(r.last.epoch.0)
        .with_last_offset(r.last.offset.0)
        .with_pre_vote(r.pre_vote)
        .with_unknown_tagged_fields(memory::request_tags(r.counts_memory));
    let topic = TopicData::default().with_topic_name(c.wire_topic()).with_partitions(vec![partition]);
    m::VoteRequest::default()
        .with_cluster_id(Some(c.cluster_id.clone()))
        .with_voter_id(wire_node_id(r.voter.map(|voter| voter.id)))
        .with_topics(vec![topic])
}

fn wire_begin_quorum_epoch(
    c: &QuorumContext,
    r: &raft::BeginQuorumEpochRequest,
    version: i16,
) -> m::BeginQuorumEpochRequest {
    use m::begin_quorum_epoch_request::{LeaderEndpoint, PartitionData, TopicData};
    let partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_voter_directory_id(wire_uuid(r.voter.map_or(Uuid::ZERO, |voter| voter.directory_id)))
        .with_leader_id(r.leader.0.into())
        .with_leader_epoch(r.epoch.0);
    let topic = TopicData::default().with_topic_name(c.wire_topic()).with_partitions(vec![partition]);
    let found_at = c.endpoint_of(c.local.id).unwrap_or(&c.endpoint);
    let endpoint = LeaderEndpoint::default()
        .with_name(text(&c.listener_name))
        .with_host(text(&found_at.host))
        .with_port(found_at.port);
    m::BeginQuorumEpochRequest::default()
        .with_cluster_id(Some(c.cluster_id.clone()))
        .with_voter_id(wire_node_id(r.voter.map(|voter| voter.id)))
        .with_topics(vec![topic])
        .with_leader_endpoints(if version >= 1 { vec![endpoint] } else { Vec::new() })
}

/// The leader's endpoints stay empty, as in every such request that Java 4.3 was seen to send.
fn wire_end_quorum_epoch(
    c: &QuorumContext,
    r: &raft::EndQuorumEpochRequest,
    version: i16,
) -> m::EndQuorumEpochRequest {
    use m::end_quorum_epoch_request::{PartitionData, ReplicaInfo, TopicData};
    let candidate = |key: &ReplicaKey| {
        let candidate = ReplicaInfo::default().with_candidate_id(key.id.0.into());
        candidate.with_candidate_directory_id(wire_uuid(key.directory_id))
    };
    let mut partition = PartitionData::default()
        .with_partition_index(PARTITION)
        .with_leader_id(r.leader.0.into())
        .with_leader_epoch(r.epoch.0);
    if version >= 1 {
        partition.preferred_candidates = r.preferred_candidates.iter().map(candidate).collect();
    } else {
        partition.preferred_successors = r.preferred_candidates.iter().map(|key| key.id.0).collect();
    }
    let topic = TopicData::default().with_topic_name(c.wire_topic()).with_partitions(vec![partition]);
    m::EndQuorumEpochRequest::default().with_cluster_id(Some(c.cluster_id.clone())).with_topics(vec![topic])
}

fn wire_fetch(c: &QuorumContext, r: &raft::FetchRequest) -> FetchRequest {
    let partition = RequestedPartition {
        index: PARTITION,
        current_leader_epoch: r.epoch.0,
        fetch_offset: r.fetch_offset.0,
        last_fetched_epoch: r.last_fetched_epoch.0,
        log_start: log_start(r.log_start),
        max_bytes: 0,
        directory_id: r.replica.directory_id,
        high_watermark: r.high_watermark.map_or(-1, |hw| hw.0.0),
    };
    let topic =
        RequestedTopic { id: c.topic_id, partitions: smallvec![partition], ..RequestedTopic::default() };
    FetchRequest {
        cluster_id: Some(ShortText::from(&*c.cluster_id)),
        replica_id: r.replica.id.0,
        max_wait_ms: r.max_wait_ms,
        min_bytes: 0,
        max_bytes: if r.one_batch { ONE_BATCH_BYTES } else { FETCH_BYTES_MAX },
        topics: smallvec![topic],
        unfit: r.unfit,
        wall_ms: r.wall_ms,
        ..FetchRequest::default()
    }
}

/// (correlation id of a response frame, which comes without its 4-byte length).
pub fn response_correlation_id(frame: &[u8]) -> Option<i32> {
    frame.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Decode a peer's answer. Fetch: `batches` in the raft response is left empty and the records come beside it, unchecked.
/// An error at the top level becomes the error of raft's response, with epoch 0 and no leader.
pub fn decode_response(
    c: &QuorumContext,
    kind: RequestKind,
    version: i16,
    frame: Bytes,
) -> Result<(raft::Response, Bytes), FrameError> {
    let response = match kind {
        RequestKind::Vote => {
            raft::Response::Vote(vote_answer(c, &answer(&schema::VOTE_RESPONSE, version, &frame)?)?)
        }
        RequestKind::BeginQuorumEpoch => {
            let m = answer(&schema::LEADER_RESPONSE, version, &frame)?;
            raft::Response::BeginQuorumEpoch(begin_quorum_epoch_answer(c, &m)?)
        }
        RequestKind::EndQuorumEpoch => {
            let m = answer(&schema::LEADER_RESPONSE, version, &frame)?;
            raft::Response::EndQuorumEpoch(end_quorum_epoch_answer(c, &m)?)
        }
        RequestKind::Fetch => {
            let body = answer_body(&schema::FETCH_RESPONSE, version, &frame)?;
            let (response, records) = fetch_answer(c, decode_fetch_answer(&body, version)?)?;
            return Ok((raft::Response::Fetch(response), records));
        }
        RequestKind::AskEpoch => {
            let body = answer_body(&schema::FETCH_RESPONSE, version, &frame)?;
            let (raft::FetchResponse { error, leader, epoch, .. }, _) =
                fetch_answer(c, decode_fetch_answer(&body, version)?)?;
            raft::Response::AskEpoch(raft::LeaderResponse { error, leader, epoch })
        }
    };
    Ok((response, Bytes::new()))
}

fn answer<T: Decodable>(message: &Message, version: i16, frame: &Bytes) -> Result<T, FrameError> {
    decode(answer_body(message, version, frame)?, version)
}

/// What comes behind the header (version 1 if the message is flexible), checked.
pub(super) fn answer_body(message: &Message, version: i16, frame: &Bytes) -> Result<Bytes, FrameError> {
    let mut cursor = Cursor(frame);
    cursor.i32()?;
    if message.is_flexible(version) {
        cursor.skip_header_tags()?;
    }
    checked_body(message, version, frame, cursor)
}

fn checked_body(
    message: &Message,
    version: i16,
    frame: &Bytes,
    body: Cursor<'_>,
) -> Result<Bytes, FrameError> {
    let bytes = check_message(message, version, body.0, frame.len(), Decoder::Crate)?;
    let body_at = frame.len() - body.0.len();
    Ok(frame.slice(body_at..body_at + bytes))
}

pub(super) fn other_partition<T>(what: &str) -> Result<T, FrameError> {
    Err(FrameError(format!("the answer to {what} is not about the one partition that was asked for")))
}

fn vote_answer(c: &QuorumContext, m: &m::VoteResponse) -> Result<raft::VoteResponse, FrameError> {
    if m.error_code != 0 {
        let (error, epoch) = (ErrorCode(m.error_code), Epoch(0));
        let memory = raft::VoterMemory::Unsaid;
        let start = None;
        return Ok(raft::VoteResponse { error, leader: None, epoch, granted: false, memory, start });
    }
    let topic = only(&m.topics).filter(|topic| *topic.topic_name.0 == *c.topic);
    let partition =
        topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.partition_index == PARTITION);
    let Some(p) = partition else { return other_partition("Vote") };
    Ok(raft::VoteResponse {
        error: ErrorCode(p.error_code),
        leader: node_id(p.leader_id.0),
        epoch: epoch(p.leader_epoch)?,
        granted: p.vote_granted,
        memory: memory::of_answer(&p.unknown_tagged_fields),
        start: memory::start_of_answer(&p.unknown_tagged_fields),
    })
}

fn begin_quorum_epoch_answer(
    c: &QuorumContext,
    m: &m::BeginQuorumEpochResponse,
) -> Result<raft::LeaderResponse, FrameError> {
    if m.error_code != 0 {
        return Ok(raft::LeaderResponse { error: ErrorCode(m.error_code), leader: None, epoch: Epoch(0) });
    }
    let topic = only(&m.topics).filter(|topic| *topic.topic_name.0 == *c.topic);
    let partition =
        topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.partition_index == PARTITION);
    let Some(p) = partition else { return other_partition("BeginQuorumEpoch") };
    let (error, leader) = (ErrorCode(p.error_code), node_id(p.leader_id.0));
    Ok(raft::LeaderResponse { error, leader, epoch: epoch(p.leader_epoch)? })
}

fn end_quorum_epoch_answer(
    c: &QuorumContext,
    m: &m::EndQuorumEpochResponse,
) -> Result<raft::LeaderResponse, FrameError> {
    if m.error_code != 0 {
        return Ok(raft::LeaderResponse { error: ErrorCode(m.error_code), leader: None, epoch: Epoch(0) });
    }
    let topic = only(&m.topics).filter(|topic| *topic.topic_name.0 == *c.topic);
    let partition =
        topic.and_then(|topic| only(&topic.partitions)).filter(|p| p.partition_index == PARTITION);
    let Some(p) = partition else { return other_partition("EndQuorumEpoch") };
    let (error, leader) = (ErrorCode(p.error_code), node_id(p.leader_id.0));
    Ok(raft::LeaderResponse { error, leader, epoch: epoch(p.leader_epoch)? })
}

fn fetch_answer(c: &QuorumContext, answer: FetchAnswer) -> Result<(raft::FetchResponse, Bytes), FrameError> {
    let mut response = raft::FetchResponse {
        error: ErrorCode(answer.error),
        leader: None,
        epoch: Epoch(0),
        high_watermark: None,
        diverging: None,
        snapshot: None,
        begin: None,
        lagging: 0,
        log_start: None,
        batches: Vec::new(),
    };
    if answer.error != 0 {
        return Ok((response, Bytes::new()));
    }
    let partition = answer.partition.filter(|p| p.topic_id == c.topic_id && p.index == PARTITION);
    let Some(p) = partition else { return other_partition("Fetch") };
    let (leader_id, leader_epoch) = p.current_leader;
    response.error = ErrorCode(p.error);
    response.leader = node_id(leader_id);
    // A peer that fails before it knows its epoch sends an error without the leader's tag.
    let is_untold = p.error != 0 && leader_epoch == -1;
    response.epoch = if is_untold { Epoch(0) } else { epoch(leader_epoch)? };
    response.high_watermark = high_watermark(p.high_watermark);
    response.diverging = offset_and_epoch(p.diverging)?;
    response.snapshot = offset_and_epoch(p.snapshot)?;
    response.begin = offset_and_epoch(p.begin)?;
    response.lagging = p.lagging;
    response.log_start = told_log_start(p.log_start);
    Ok((response, p.records.unwrap_or_default()))
}

fn epoch(epoch: i32) -> Result<Epoch, FrameError> {
    if epoch < 0 { Err(FrameError(format!("an answer names the epoch {epoch}"))) } else { Ok(Epoch(epoch)) }
}

/// Both -1: the field is not there.
fn offset_and_epoch((offset, of_epoch): (i64, i32)) -> Result<Option<OffsetAndEpoch>, FrameError> {
    match (offset, of_epoch) {
        (-1, -1) => Ok(None),
        (0.., 0..) => Ok(Some(OffsetAndEpoch { epoch: Epoch(of_epoch), offset: Offset(offset) })),
        _ => Err(FrameError(format!("an answer names the offset {offset} of epoch {of_epoch}"))),
    }
}
