//! One connection to a Kafka server: a request goes out, its answer comes back. The codec is the `kafka-protocol` crate.

use std::error::Error;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use bytes::{BufMut, BytesMut};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::{MetadataRequest, RequestHeader, ResponseHeader, TopicName};
use kafka_protocol::protocol::{Decodable, Encodable, HeaderVersion, Request, StrBytes};

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The one topic of a quorum; it has one partition, 0.
pub(crate) const TOPIC: &str = "__cluster_metadata";
/// A quorum that has just started, or has lost its leader, elects one within a few seconds.
const LEADER_WAIT_MAX: Duration = Duration::from_secs(60);
const LEADER_POLL: Duration = Duration::from_millis(100);
const ANSWER_WAIT_MAX: Duration = Duration::from_secs(30);

pub(crate) struct Connection {
    stream: TcpStream,
    requests: i32,
}

impl Connection {
    pub(crate) fn open(address: &str) -> Outcome<Connection> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(ANSWER_WAIT_MAX))?;
        Ok(Connection { stream, requests: 0 })
    }

    /// A frame is its length, a header and a body, whose layouts depend on the version of the request.
    pub(crate) fn ask<R: Request>(&mut self, version: i16, request: &R) -> Outcome<R::Response> {
        self.requests += 1;
        let header = RequestHeader::default()
            .with_request_api_key(R::KEY)
            .with_request_api_version(version)
            .with_correlation_id(self.requests)
            .with_client_id(Some(StrBytes::from_static_str("kraft-example")));
        let mut frame = BytesMut::new();
        frame.put_i32(0);
        header.encode(&mut frame, R::header_version(version))?;
        request.encode(&mut frame, version)?;
        let length = (frame.len() - 4) as i32;
        frame[..4].copy_from_slice(&length.to_be_bytes());
        self.stream.write_all(&frame)?;

        let mut length = [0; 4];
        self.stream.read_exact(&mut length)?;
        let mut answer = BytesMut::zeroed(u32::from_be_bytes(length) as usize);
        self.stream.read_exact(&mut answer)?;
        let mut answer = answer.freeze();
        ResponseHeader::decode(&mut answer, R::Response::header_version(version))?;
        Ok(R::Response::decode(&mut answer, version)?)
    }
}

/// Ask one server after the other who leads, until one knows. Gives the leader's id and a connection to it.
pub(crate) fn find_leader(servers: &[String]) -> Outcome<(i32, Connection)> {
    let topic = MetadataRequestTopic::default().with_name(Some(topic_name()));
    let request = MetadataRequest::default().with_topics(Some(vec![topic]));
    let deadline = Instant::now() + LEADER_WAIT_MAX;
    while Instant::now() < deadline {
        for server in servers {
            // One that is down is no reason to give up.
            let Ok(mut connection) = Connection::open(server) else { continue };
            let Ok(metadata) = connection.ask(9, &request) else { continue };
            let leader =
                metadata.topics.first().and_then(|topic| topic.partitions.first()).map(|p| p.leader_id);
            let Some(broker) = metadata.brokers.iter().find(|broker| Some(broker.node_id) == leader) else {
                continue;
            };
            if let Ok(connection) = Connection::open(&format!("{}:{}", &*broker.host, broker.port)) {
                return Ok((broker.node_id.0, connection));
            }
        }
        std::thread::sleep(LEADER_POLL);
    }
    Err(format!("none of {servers:?} knows a leader").into())
}

pub(crate) fn topic_name() -> TopicName {
    TopicName(StrBytes::from_static_str(TOPIC))
}
