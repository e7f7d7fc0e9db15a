//! (contract; the owner of src/config.rs replaces this file, keeping these fields)
use crate::types::*;
use std::path::PathBuf;

#[derive(Clone, Debug)]
pub struct Voter {
    pub id: NodeId,
    pub endpoint: Endpoint,
}
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    Sleep,
    Spin,
}

/// Everything a node is told, checked once.
#[derive(Clone, Debug)]
pub struct Config {
    pub node_id: NodeId,
    /// --replica-directory-id; else meta.properties decides.
    pub directory_id: Option<Uuid>,
    pub cluster_id: String,    // kraft.cluster.id, default "AAAAAAAAAAAAAAAAAAAAAA"
    pub topic_name: String,    // kraft.topic.name, default "__cluster_metadata"
    pub topic_id: Uuid,        // kraft.topic.id, default Uuid::METADATA_TOPIC_ID
    pub voters: Vec<Voter>, // ascending ids; may lack node_id only if process says observer (later): for now an error
    pub listener_name: String, // "PLAINTEXT", "CONTROLLER"
    pub listener: Endpoint, // bind here
    pub advertised: Endpoint,
    pub log_dir: PathBuf, // log.dirs / metadata.log.dir: the directory that holds meta.properties and <topic>-0/
    pub http_listener: Option<Endpoint>,
    pub cpus: Option<Vec<usize>>,
    pub wait: Wait,
    pub election_timeout_ms: u64,
    pub fetch_timeout_ms: u64,
    pub election_backoff_max_ms: u64,
    pub request_timeout_ms: u64,
    pub retry_backoff_ms: u64,
    pub limits: Limits,
}

/// Every bound of the server, each with its name.
#[derive(Clone, Debug)]
pub struct Limits {
    pub message_bytes_max: usize,           // message.max.bytes, 1048588
    pub request_bytes_max: usize,           // socket.request.max.bytes, 104857600
    pub connections_max: usize,             // max.connections, 10000
    pub segment_bytes_max: u64,             // metadata.log.segment.bytes / log.segment.bytes, 1 GiB
    pub zero_ahead_bytes: u64,              // kraft.zero.ahead.bytes, 16 MiB
    pub fetch_response_bytes_max: usize,    // fetch.max.bytes, 55 MiB: consumers
    pub replica_fetch_bytes_max: usize,     // controller.quorum.fetch.max.bytes, 1 MiB... ours 4 MiB
    pub tail_cache_bytes_max: usize,        // kraft.tail.cache.bytes, 64 MiB
    pub write_buffer_bytes: usize,          // 1 MiB
    pub write_buffers: usize,               // 8
    pub group_bytes_max: usize,             // 4 MiB
    pub unflushed_bytes_max: u64,           // 64 MiB
    pub uncommitted_bytes_max: u64,         // 256 MiB
    pub connection_output_bytes_max: usize, // 64 MiB... must exceed fetch_response_bytes_max
    pub connection_requests_max: usize,     // requests of one connection under way, 64
    pub turn_inputs_max: usize,             // 256
    pub flush_stall_ms_max: u64,            // 10000
    pub commit_mark_idle_ms: u64,           // 100
    pub producer_ids_max: usize,            // 10000
    pub parked_requests_max: usize,         // 100000
    pub observers_max: usize,               // 1000
    pub disk_free_bytes_min: u64,           // 64 MiB
    pub timestamp_before_max_ms: i64,       // message.timestamp.before.max.ms, i64::MAX
    pub timestamp_after_max_ms: i64,        // message.timestamp.after.max.ms, 3600000
}
