//! What is answered: always yes.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};

use kraft::protocol::messages::api_versions_response::ApiVersion;
use kraft::protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kraft::protocol::messages::{
    ApiVersionsResponse, InitProducerIdResponse, MetadataRequest, MetadataResponse, StrBytes, TopicName,
};
use kraft::protocol::produce::{ProducePartition, ProduceTopic, ProducedPartition, ProducedTopic};
use kraft::protocol::{
    EncodedFrame, FrameError, ProduceRequest, ProduceResponse, Request, RequestHeader, Response,
    api_versions_response, encode_response, wire_uuid,
};
use kraft::record::BatchHeader;
use kraft::types::{ErrorCode, Uuid};

const NODE_ID: i32 = 1;
const PRODUCE: i16 = 0;
const METADATA: i16 = 3;
const API_VERSIONS: i16 = 18;
const INIT_PRODUCER_ID: i16 = 22;
const SERVED: [i16; 4] = [PRODUCE, METADATA, API_VERSIONS, INIT_PRODUCER_ID];
/// What a request for all topics is told.
const TOPIC: &str = "__cluster_metadata";

/// Counts offsets and producer ids, and remembers nothing else.
pub(crate) struct Broker {
    address: SocketAddr,
    next_offset: AtomicI64,
    next_producer_id: AtomicI64,
}

impl Broker {
    /// `address`: where clients are told to come.
    pub(crate) fn new(address: SocketAddr) -> Broker {
        Broker { address, next_offset: AtomicI64::new(0), next_producer_id: AtomicI64::new(1) }
    }

    /// Empty where the client expects no answer (acks=0).
    pub(crate) fn answer(
        &self,
        header: &RequestHeader,
        request: Request,
    ) -> Result<EncodedFrame, FrameError> {
        let response = match request {
            Request::Produce(produce) if produce.acks == 0 => return Ok(EncodedFrame::default()),
            Request::Produce(produce) => Response::Produce(self.produce(produce)),
            Request::Metadata(metadata) => Response::Metadata(self.metadata(header.api_version, metadata)),
            Request::InitProducerId(_) => Response::InitProducerId(self.init_producer_id()),
            Request::ApiVersions(_) => Response::ApiVersions(api_versions(header.api_version)),
            Request::ApiVersionsUnsupported => Response::ApiVersions(api_versions(header.api_version)),
            _ => {
                let key = header.api_key;
                return Err(FrameError(format!(
                    "a request has the api key {key}, which is not answered here"
                )));
            }
        };
        Ok(encode_response(header, &response))
    }

    fn produce(&self, request: ProduceRequest) -> ProduceResponse {
        let topics = request.topics.into_iter().map(|topic| self.produce_topic(topic)).collect();
        ProduceResponse { topics, ..ProduceResponse::default() }
    }

    fn produce_topic(&self, topic: ProduceTopic) -> ProducedTopic {
        let partitions = topic.partitions.iter().map(|partition| self.produce_partition(partition)).collect();
        ProducedTopic { name: topic.name, id: topic.id, partitions }
    }

    fn produce_partition(&self, partition: &ProducePartition) -> ProducedPartition {
        let header = partition.records.as_deref().and_then(BatchHeader::decode);
        let records = header.map_or(0, |header| i64::from(header.last_offset_delta) + 1);
        ProducedPartition {
            index: partition.index,
            error: ErrorCode::NONE,
            base_offset: self.next_offset.fetch_add(records, Ordering::Relaxed),
            log_start_offset: 0,
            record_errors: Vec::new(),
            error_message: None,
            current_leader: None,
        }
    }

    fn metadata(&self, version: i16, request: MetadataRequest) -> MetadataResponse {
        // Version 0 says "all" with an empty list, later ones with none.
        let asked = request.topics.filter(|topics| version > 0 || !topics.is_empty());
        let topics = match asked {
            Some(topics) => topics.into_iter().map(|topic| topic_metadata(topic.name)).collect(),
            None => vec![topic_metadata(Some(TopicName(StrBytes::from_static_str(TOPIC))))],
        };
        let broker = MetadataResponseBroker::default()
            .with_node_id(NODE_ID.into())
            .with_host(StrBytes::from_string(self.address.ip().to_string()))
            .with_port(i32::from(self.address.port()));
        MetadataResponse::default()
            .with_brokers(vec![broker])
            .with_cluster_id(Some(StrBytes::from_static_str("null")))
            .with_controller_id(NODE_ID.into())
            .with_topics(topics)
    }

    fn init_producer_id(&self) -> InitProducerIdResponse {
        let id = self.next_producer_id.fetch_add(1, Ordering::Relaxed);
        InitProducerIdResponse::default().with_producer_id(id.into()).with_producer_epoch(0)
    }
}

fn api_versions(version: i16) -> ApiVersionsResponse {
    let mut response = api_versions_response(version);
    response.api_keys.retain(|api: &ApiVersion| SERVED.contains(&api.api_key));
    response
}

/// Any name exists. A topic that is asked for by its id alone does not.
fn topic_metadata(name: Option<TopicName>) -> MetadataResponseTopic {
    let Some(name) = name else {
        return MetadataResponseTopic::default().with_error_code(ErrorCode::UNKNOWN_TOPIC_ID.0);
    };
    let partition = MetadataResponsePartition::default()
        .with_leader_id(NODE_ID.into())
        .with_leader_epoch(0)
        .with_replica_nodes(vec![NODE_ID.into()])
        .with_isr_nodes(vec![NODE_ID.into()]);
    let id = topic_id(&name);
    MetadataResponseTopic::default()
        .with_name(Some(name))
        .with_topic_id(wire_uuid(id))
        .with_partitions(vec![partition])
}

/// The same for a name each time, and never zero (FNV-1a).
fn topic_id(name: &str) -> Uuid {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    let hash = name.bytes().fold(BASIS, |hash, byte| (hash ^ u128::from(byte)).wrapping_mul(PRIME));
    Uuid(hash | 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kraft::protocol::messages::metadata_request::MetadataRequestTopic;
    use kraft::record::data_batch;

    fn broker() -> Broker {
        Broker::new("127.0.0.1:9092".parse().unwrap())
    }

    fn produce(broker: &Broker, acks: i16) -> Option<i64> {
        let records = Some(data_batch(&[b"a", b"b", b"c"], 1, None));
        let partitions = [ProducePartition { index: 0, records }].into_iter().collect();
        let topic = ProduceTopic { name: StrBytes::from_static_str("t"), id: Uuid::ZERO, partitions };
        let request = ProduceRequest { acks, topics: [topic].into_iter().collect(), ..Default::default() };
        let header = RequestHeader { api_key: PRODUCE, api_version: 7, correlation_id: 1, client_id: None };
        let frame = broker.answer(&header, Request::Produce(request)).unwrap().chunks.concat();
        // Length, correlation id, topics, "t", partitions, index, error; then the base offset.
        frame.get(25..33).map(|bytes| i64::from_be_bytes(bytes.try_into().unwrap()))
    }

    #[test]
    fn offsets_count_records_and_acks_0_gets_no_answer() {
        let broker = broker();
        assert_eq!([-1, 1, 0, -1].map(|acks| produce(&broker, acks)), [Some(0), Some(3), None, Some(6)]);
    }

    #[test]
    fn any_topic_exists_here_with_an_id_of_its_own() {
        let named = |name: &'static str| {
            MetadataRequestTopic::default().with_name(Some(TopicName(StrBytes::from_static_str(name))))
        };
        let request = MetadataRequest::default().with_topics(Some(vec![named("a"), named("b"), named("a")]));
        let response = broker().metadata(13, request);
        let ids: Vec<_> = response.topics.iter().map(|topic| topic.topic_id).collect();
        assert!(
            ids[0] == ids[2] && ids[0] != ids[1] && response.topics.iter().all(|topic| topic.error_code == 0)
        );
        assert_eq!((response.brokers[0].host.as_str(), response.brokers[0].port), ("127.0.0.1", 9092));
        assert_eq!(response.topics[0].partitions[0].leader_id, response.brokers[0].node_id);
    }

    #[test]
    fn all_topics_are_one() {
        for (version, topics) in [(0, Some(Vec::new())), (13, None)] {
            let response = broker().metadata(version, MetadataRequest::default().with_topics(topics));
            assert_eq!(response.topics.len(), 1, "version {version}");
        }
        let response = broker().metadata(13, MetadataRequest::default().with_topics(Some(Vec::new())));
        assert!(response.topics.is_empty());
    }

    #[test]
    fn only_what_is_answered_is_advertised() {
        let mut keys: Vec<i16> = api_versions(4).api_keys.iter().map(|api| api.api_key).collect();
        keys.sort_unstable();
        assert_eq!(keys, SERVED);
        let header = RequestHeader { api_key: 1, api_version: 12, correlation_id: 1, client_id: None };
        assert!(broker().answer(&header, Request::Fetch(Default::default())).is_err());
    }
}
