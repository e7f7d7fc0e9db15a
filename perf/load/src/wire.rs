//! The frames of producers and consumers, by hand: the head of a Produce request that is patched and sent again and again,
//! Metadata, InitProducerId and Fetch, and their answers.
//!
//! Of versions that every Kafka since 2.1 has and none of today has dropped (Produce 7, Metadata 7, InitProducerId 1,
//! Fetch 4), so that any broker can be driven. Answers are read with a bound before each field: a broken one is an error, no panic.

use kraft::types::ErrorCode;

/// As Kafka's tools call themselves.
const CLIENT_ID: &str = "kraft-perf";
const PRODUCE: (i16, i16) = (0, 7);
const FETCH: (i16, i16) = (1, 4);
const METADATA: (i16, i16) = (3, 7);
const INIT_PRODUCER_ID: (i16, i16) = (22, 1);
/// No partition asked for has an index beyond the first: drivers load one log.
pub(crate) const PARTITION: i32 = 0;

/// Of a record batch. Its length counts what follows it.
const BATCH_LENGTH_AT: usize = 8;
const LAST_OFFSET_DELTA_AT: usize = 23;
/// Producer id and first offset.
const ABORTED_TRANSACTION_BYTES: usize = 16;

/// Everything of a Produce request before the batch.
#[derive(Clone, Debug)]
pub(crate) struct ProduceHead {
    bytes: Vec<u8>,
}

impl ProduceHead {
    pub(crate) fn new(topic: &str, acks: i16, timeout_ms: i32) -> ProduceHead {
        let mut bytes = request_head(PRODUCE, 0);
        put_i16(&mut bytes, -1); // No transaction.
        put_i16(&mut bytes, acks);
        put_i32(&mut bytes, timeout_ms);
        put_i32(&mut bytes, 1);
        put_string(&mut bytes, topic);
        put_i32(&mut bytes, 1);
        put_i32(&mut bytes, PARTITION);
        put_i32(&mut bytes, 0); // Bytes of the batch.
        ProduceHead { bytes }
    }

    /// The head for a batch of this many bytes, which follows it on the wire.
    pub(crate) fn stamp(&mut self, correlation_id: i32, batch_bytes: usize) -> &[u8] {
        let length = (self.bytes.len() - 4 + batch_bytes) as i32;
        let records_at = self.bytes.len() - 4;
        self.bytes[..4].copy_from_slice(&length.to_be_bytes());
        self.bytes[8..12].copy_from_slice(&correlation_id.to_be_bytes());
        self.bytes[records_at..].copy_from_slice(&(batch_bytes as i32).to_be_bytes());
        &self.bytes
    }
}

/// Asks for one topic.
pub(crate) fn metadata_request(correlation_id: i32, topic: &str) -> Vec<u8> {
    let mut bytes = request_head(METADATA, correlation_id);
    put_i32(&mut bytes, 1);
    put_string(&mut bytes, topic);
    bytes.push(1); // The broker may create the topic, as for Kafka's own producer.
    with_length(bytes)
}

/// Asks for a producer id without transactions.
pub(crate) fn init_producer_id_request(correlation_id: i32) -> Vec<u8> {
    let mut bytes = request_head(INIT_PRODUCER_ID, correlation_id);
    put_i16(&mut bytes, -1);
    put_i32(&mut bytes, i32::MAX);
    with_length(bytes)
}

/// Records of one partition.
pub(crate) struct FetchRequest<'a> {
    pub(crate) topic: &'a str,
    pub(crate) offset: i64,
    pub(crate) bytes_max: i32,
    pub(crate) wait_ms: i32,
}

impl FetchRequest<'_> {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = request_head(FETCH, 0);
        put_i32(&mut bytes, -1); // No replica.
        put_i32(&mut bytes, self.wait_ms);
        put_i32(&mut bytes, 1); // The least number of bytes.
        put_i32(&mut bytes, self.bytes_max);
        bytes.push(0); // Uncommitted transactions too.
        put_i32(&mut bytes, 1);
        put_string(&mut bytes, self.topic);
        put_i32(&mut bytes, 1);
        put_i32(&mut bytes, PARTITION);
        bytes.extend_from_slice(&self.offset.to_be_bytes());
        put_i32(&mut bytes, self.bytes_max);
        with_length(bytes)
    }
}

/// Length 0 and request header version 1.
fn request_head((api_key, version): (i16, i16), correlation_id: i32) -> Vec<u8> {
    let mut bytes = vec![0; 4];
    put_i16(&mut bytes, api_key);
    put_i16(&mut bytes, version);
    put_i32(&mut bytes, correlation_id);
    put_string(&mut bytes, CLIENT_ID);
    bytes
}

fn with_length(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = (bytes.len() - 4) as i32;
    bytes[..4].copy_from_slice(&length.to_be_bytes());
    bytes
}

fn put_i16(bytes: &mut Vec<u8>, value: i16) {
    bytes.extend_from_slice(&value.to_be_bytes());
}

fn put_i32(bytes: &mut Vec<u8>, value: i32) {
    bytes.extend_from_slice(&value.to_be_bytes());
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    put_i16(bytes, text.len() as i16);
    bytes.extend_from_slice(text.as_bytes());
}

/// What is left of an answer. `None` from its methods: it ended too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn i16(&mut self) -> Option<i16> {
        self.array().map(i16::from_be_bytes)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    fn i64(&mut self) -> Option<i64> {
        self.array().map(i64::from_be_bytes)
    }

    /// Null reads as empty.
    fn string(&mut self) -> Option<&'a str> {
        let length = self.i16()?.max(0);
        std::str::from_utf8(self.take(length as usize)?).ok()
    }

    /// Each element is read by `read`; a count that lies runs into the end.
    fn list(&mut self, mut read: impl FnMut(&mut Self) -> Option<()>) -> Option<()> {
        (0..self.i32()?.max(0)).try_for_each(|_| read(self))
    }

    fn skip_ids(&mut self) -> Option<()> {
        self.list(|reader| reader.i32().map(drop))
    }
}

/// The answer to one Produce request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProduceAnswer {
    pub(crate) correlation_id: i32,
    pub(crate) error: ErrorCode,
}

/// Of a frame without its length.
pub(crate) fn decode_produce_answer(frame: &[u8]) -> Option<ProduceAnswer> {
    let mut reader = Reader(frame);
    let correlation_id = reader.i32()?;
    let topics = reader.i32()?;
    reader.string()?;
    let partitions = reader.i32()?;
    let index = reader.i32()?;
    let error = ErrorCode(reader.i16()?);
    let is_ours = (topics, partitions, index) == (1, 1, PARTITION);
    is_ours.then_some(ProduceAnswer { correlation_id, error })
}

/// The answer to one Fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FetchAnswer<'a> {
    pub(crate) error: ErrorCode,
    pub(crate) high_watermark: i64,
    /// Batches, the last of which may be cut.
    pub(crate) records: &'a [u8],
}

/// Of a frame without its length.
pub(crate) fn decode_fetch_answer(frame: &[u8]) -> Option<FetchAnswer<'_>> {
    let mut reader = Reader(frame);
    let (_correlation_id, _throttle_ms) = (reader.i32()?, reader.i32()?);
    let topics = reader.i32()?;
    reader.string()?;
    let (partitions, index) = (reader.i32()?, reader.i32()?);
    let error = ErrorCode(reader.i16()?);
    let (high_watermark, _last_stable) = (reader.i64()?, reader.i64()?);
    reader.list(|reader| reader.take(ABORTED_TRANSACTION_BYTES).map(drop))?;
    let bytes = reader.i32()?.max(0) as usize;
    let records = reader.take(bytes)?;
    let is_ours = (topics, partitions, index) == (1, 1, PARTITION);
    is_ours.then_some(FetchAnswer { error, high_watermark, records })
}

/// Offset behind the last whole batch; `None`: there is none.
pub(crate) fn end_of_batches(mut records: &[u8]) -> Option<i64> {
    let mut end = None;
    while let Some(base) = records.first_chunk().map(|bytes| i64::from_be_bytes(*bytes)) {
        let at = |from: usize| records.get(from..from + 4)?.try_into().ok().map(i32::from_be_bytes);
        let (Some(length), Some(last_delta)) = (at(BATCH_LENGTH_AT), at(LAST_OFFSET_DELTA_AT)) else { break };
        let Some(rest) = records.get(BATCH_LENGTH_AT + 4 + length.max(0) as usize..) else { break };
        end = Some(base + i64::from(last_delta) + 1);
        records = rest;
    }
    end
}

/// What Metadata says of the one partition, and of all brokers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub(crate) brokers: Vec<Broker>,
    /// Of the topic, or else of the partition.
    pub(crate) error: ErrorCode,
    /// -1: nobody.
    pub(crate) leader_id: i32,
    pub(crate) leader_epoch: i32,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broker {
    pub(crate) id: i32,
    /// host:port
    pub(crate) address: String,
}

pub(crate) fn decode_metadata(frame: &[u8]) -> Option<Metadata> {
    let mut reader = Reader(frame);
    let mut metadata =
        Metadata { brokers: Vec::new(), error: ErrorCode::NONE, leader_id: -1, leader_epoch: -1 };
    let (_correlation_id, _throttle_ms) = (reader.i32()?, reader.i32()?);
    reader.list(|reader| {
        let (id, host, port) = (reader.i32()?, reader.string()?, reader.i32()?);
        reader.string()?; // The rack.
        let address = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        metadata.brokers.push(Broker { id, address });
        Some(())
    })?;
    reader.string()?; // The cluster id.
    reader.i32()?; // The controller.
    reader.list(|reader| {
        metadata.error = ErrorCode(reader.i16()?);
        reader.string()?;
        reader.take(1)?; // Whether the topic is internal.
        reader.list(|reader| decode_partition(reader, &mut metadata))
    })?;
    Some(metadata)
}

fn decode_partition(reader: &mut Reader<'_>, metadata: &mut Metadata) -> Option<()> {
    let (error, index, leader_id, leader_epoch) =
        (reader.i16()?, reader.i32()?, reader.i32()?, reader.i32()?);
    (0..3).try_for_each(|_| reader.skip_ids())?; // Replicas, in sync, offline.
    if index == PARTITION {
        (metadata.leader_id, metadata.leader_epoch) = (leader_id, leader_epoch);
        if metadata.error.is_none() {
            metadata.error = ErrorCode(error);
        }
    }
    Some(())
}

/// Error, producer id and producer epoch.
pub(crate) fn decode_init_producer_id(frame: &[u8]) -> Option<(ErrorCode, i64, i16)> {
    let mut reader = Reader(frame);
    let (_correlation_id, _throttle_ms) = (reader.i32()?, reader.i32()?);
    Some((ErrorCode(reader.i16()?), reader.i64()?, reader.i16()?))
}

/// Against the project's own codec, which is checked against Kafka's bytes.
#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use kraft::protocol::messages::{self as m, StrBytes};
    use kraft::protocol::produce::{ProducedPartition, ProducedTopic};
    use kraft::protocol::{
        ProduceResponse, Request, RequestHeader, Response, decode_request, encode_response,
    };

    fn request(frame: &[u8]) -> (RequestHeader, Request) {
        let length = i32::from_be_bytes(frame[..4].try_into().unwrap());
        assert_eq!(length as usize, frame.len() - 4);
        decode_request(Bytes::copy_from_slice(&frame[4..])).unwrap()
    }

    /// An answer to correlation id 9, without its length.
    fn answer((api_key, api_version): (i16, i16), response: Response) -> Vec<u8> {
        let header = RequestHeader { api_key, api_version, correlation_id: 9, client_id: None };
        encode_response(&header, &response).chunks.concat()[4..].to_vec()
    }

    fn name(text: &'static str) -> m::TopicName {
        m::TopicName(StrBytes::from_static_str(text))
    }

    #[test]
    fn produce_is_stamped_anew_for_each_batch() {
        let mut head = ProduceHead::new("topic", -1, 1500);
        for (correlation_id, batch) in [(7, &b"0123456789"[..]), (8, b"abc")] {
            let mut frame = head.stamp(correlation_id, batch.len()).to_vec();
            frame.extend_from_slice(batch);
            let (header, request) = request(&frame);
            assert_eq!((header.api_version, header.correlation_id), (7, correlation_id));
            assert!(header.client_id.is_some_and(|id| id.is("kraft-perf")));
            let Request::Produce(produce) = request else { panic!("{request:?}") };
            assert_eq!((produce.acks, produce.timeout_ms, &produce.transactional_id), (-1, 1500, &None));
            assert_eq!(&*produce.topics[0].name, "topic");
            let partition = &produce.topics[0].partitions[0];
            assert_eq!((partition.index, partition.records.as_deref()), (0, Some(batch)));
        }
    }

    #[test]
    fn metadata_and_init_producer_id_are_understood() {
        let (header, Request::Metadata(metadata)) = request(&metadata_request(3, "topic")) else { panic!() };
        assert_eq!(header.correlation_id, 3);
        assert_eq!(metadata.topics.unwrap()[0].name, Some(name("topic")));
        let (_, Request::InitProducerId(init)) = request(&init_producer_id_request(4)) else { panic!() };
        assert_eq!(init.transactional_id, None);
    }

    #[test]
    fn a_produce_answer_says_which_and_how() {
        let partition = ProducedPartition {
            index: 0,
            error: ErrorCode::NOT_LEADER_OR_FOLLOWER,
            base_offset: -1,
            log_start_offset: -1,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        };
        let partitions = [partition].into_iter().collect();
        let topic = ProducedTopic { name: "topic".into(), partitions, ..Default::default() };
        let topics = [topic].into_iter().collect();
        let response = Response::Produce(ProduceResponse { topics, ..ProduceResponse::default() });
        let frame = answer(PRODUCE, response);
        let expected = ProduceAnswer { correlation_id: 9, error: ErrorCode::NOT_LEADER_OR_FOLLOWER };
        assert_eq!(decode_produce_answer(&frame), Some(expected));
        assert_eq!(decode_produce_answer(&frame[..20]), None);
    }

    #[test]
    fn a_fetch_asks_for_one_partition_from_an_offset() {
        let fetch = FetchRequest { topic: "topic", offset: 77, bytes_max: 1 << 20, wait_ms: 100 };
        let (header, Request::Fetch(fetch)) = request(&fetch.encode()) else { panic!() };
        assert_eq!(
            (header.api_version, fetch.max_wait_ms, fetch.min_bytes, fetch.max_bytes),
            (4, 100, 1, 1 << 20)
        );
        let partition = &fetch.topics[0].partitions[0];
        assert_eq!((&*fetch.topics[0].name, fetch.topics.len()), ("topic", 1));
        assert_eq!((partition.index, partition.fetch_offset, partition.max_bytes), (0, 77, 1 << 20));
    }

    #[test]
    fn batches_are_read_up_to_the_last_whole_one() {
        let batch = |base: i64, records: i32, bytes: usize| {
            let mut batch = base.to_be_bytes().to_vec();
            batch.extend_from_slice(&(bytes as i32 - 12).to_be_bytes());
            batch.resize(bytes, 0);
            batch[LAST_OFFSET_DELTA_AT..LAST_OFFSET_DELTA_AT + 4]
                .copy_from_slice(&(records - 1).to_be_bytes());
            batch
        };
        let (one, two) = (batch(10, 5, 70), batch(15, 1, 61));
        let both = [one.clone(), two].concat();
        assert_eq!(end_of_batches(&both), Some(16));
        for cut in 0..both.len() {
            let end = (cut >= one.len()).then_some(15);
            assert_eq!(end_of_batches(&both[..cut]), end, "cut at {cut}");
        }
    }

    #[test]
    fn metadata_names_brokers_and_leader() {
        use m::metadata_response::{
            MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
        };
        let broker = |id: i32, host: &'static str| {
            let host = StrBytes::from_static_str(host);
            MetadataResponseBroker::default().with_node_id(id.into()).with_host(host).with_port(9092)
        };
        let partition = MetadataResponsePartition::default()
            .with_leader_id(2.into())
            .with_leader_epoch(5)
            .with_replica_nodes(vec![1.into(), 2.into()]);
        let topic =
            MetadataResponseTopic::default().with_name(Some(name("topic"))).with_partitions(vec![partition]);
        let response = m::MetadataResponse::default()
            .with_brokers(vec![broker(1, "a"), broker(2, "::1")])
            .with_topics(vec![topic]);
        let frame = answer(METADATA, Response::Metadata(response));
        let metadata = decode_metadata(&frame).unwrap();
        assert_eq!((metadata.leader_id, metadata.leader_epoch, metadata.error.0), (2, 5, 0));
        assert_eq!(metadata.brokers[0], Broker { id: 1, address: "a:9092".into() });
        assert_eq!(metadata.brokers[1].address, "[::1]:9092");
        for end in 0..frame.len() {
            assert_eq!(decode_metadata(&frame[..end]), None, "cut at {end}");
        }
    }

    #[test]
    fn a_producer_id_is_read_with_its_error() {
        let init = m::InitProducerIdResponse::default()
            .with_error_code(15)
            .with_producer_id(77.into())
            .with_producer_epoch(3);
        let frame = answer(INIT_PRODUCER_ID, Response::InitProducerId(init));
        assert_eq!(decode_init_producer_id(&frame), Some((ErrorCode::COORDINATOR_NOT_AVAILABLE, 77, 3)));
    }

    #[test]
    fn a_count_that_lies_is_no_answer() {
        let mut frame = vec![0; 8];
        frame.extend_from_slice(&i32::MAX.to_be_bytes());
        assert_eq!(decode_metadata(&frame), None);
    }
}
