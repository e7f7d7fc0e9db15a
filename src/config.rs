//! What a node is told: `.properties` file, environment, overrides and flags, checked once and made into [`Config`].
//!
//! `server::cli` collects the [`Settings`] and calls [`load`]; everybody else reads [`Config`]. Nothing here logs or
//! binds a socket, and no other module parses a setting. Both dialects are understood: today's (`node.id`,
//! `controller.quorum.voters`) and that of the first Raft server of 2020 (`broker.id`, `quorum.voters`).
//!
//! - `settings.rs`: where a value came from, and which one counts.
//! - `reader.rs`: one key to one checked value; collects errors, notes and the list for `--print-config`.
//! - `node.rs`: the keys of the node, its quorum and its listener; `limits.rs`: the bounds.
//! - `retention.rs`: how much of the log stays.
//! - `endpoint.rs`: hosts, ports, listeners and voters as text.
//! - `known.rs`: keys that other Kafka servers use, and the nearest key to a misspelt one. `protection.rs`: those that
//!   promise what is not here.
//! - `surroundings.rs`: checks that need this machine: local addresses.

mod endpoint;
mod known;
mod limits;
mod node;
mod protection;
mod reader;
mod retention;
mod settings;
mod surroundings;
#[cfg(test)]
mod tests;

use crate::types::*;
use std::fmt;
use std::path::PathBuf;

pub(crate) use limits::ENVELOPE_BYTES;
pub use retention::Retention;
pub use settings::Settings;
pub(crate) use settings::{Origin, SettingsError};
pub(crate) use surroundings::{check_surroundings, error_at};

/// A voter of the static quorum, as `controller.quorum.voters` names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voter {
    /// Its node.id.
    pub id: NodeId,
    /// Where the other voters reach it.
    pub endpoint: Endpoint,
}

/// How an executor waits when it has nothing to do (`kraft.wait`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// In the kernel, until something arrives.
    Sleep,
    /// Looking again and again, giving its core away between looks.
    Spin,
}

impl fmt::Display for Wait {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Wait::Sleep => "sleep",
            Wait::Spin => "spin",
        })
    }
}

/// Everything a node is told, checked once.
#[derive(Clone, Debug)]
pub struct Config {
    /// `node.id` (`broker.id`).
    pub node_id: NodeId,
    /// `--replica-directory-id`; else meta.properties decides.
    pub directory_id: Option<Uuid>,
    /// `kraft.cluster.id`. The default is that of Kafka's own test server, the zero uuid.
    pub cluster_id: String,
    /// `kraft.topic.name`, the topic whose partition 0 is the log.
    pub topic_name: String,
    /// `kraft.topic.id`.
    pub topic_id: Uuid,
    /// `kraft.data.mode`: what the log may hold; meta.properties keeps it.
    pub data_mode: DataMode,
    /// `controller.quorum.voters` (`quorum.voters`), ascending ids. A node that is none of them is an observer.
    pub voters: Vec<Voter>,
    /// Name part of `listeners`, such as PLAINTEXT or CONTROLLER.
    pub listener_name: String,
    /// Where to bind; an empty host is all addresses of this machine, of IPv4 and of IPv6.
    pub listener: Endpoint,
    /// Where clients are told to find this node: `advertised.listeners`, else its entry among the voters.
    pub advertised: Endpoint,
    /// `metadata.log.dir`, else `log.dirs`: the directory that holds meta.properties and `<topic>-0/`.
    pub log_dir: PathBuf,
    /// `kraft.http.listener`; port 0 takes a free one.
    pub http_listener: Option<Endpoint>,
    /// `kraft.cpus` (`--cpus`): one executor is pinned to each, the first is the replica core. `None`: one, unpinned.
    pub cpus: Option<Vec<usize>>,
    /// `kraft.wait`.
    pub wait: Wait,
    /// `kraft.log.check`: how much of the log a start reads.
    pub log_check: LogCheck,
    /// `kraft.compressed.check`: whether compressed batches are looked into before they are appended.
    pub compressed_check: CompressedCheck,
    /// `kraft.first.leader`: whose votes the first leader of a log needs.
    pub first_leader: FirstLeader,
    /// `kraft.log.doubt`: what this voter does while its log is in doubt.
    pub log_doubt: LogDoubt,
    /// `controller.quorum.election.timeout.ms`.
    pub election_timeout_ms: u64,
    /// `controller.quorum.fetch.timeout.ms`, also the time of check quorum.
    pub fetch_timeout_ms: u64,
    /// `controller.quorum.election.backoff.max.ms`.
    pub election_backoff_max_ms: u64,
    /// `controller.quorum.request.timeout.ms`.
    pub request_timeout_ms: u64,
    /// `controller.quorum.retry.backoff.ms`.
    pub retry_backoff_ms: u64,
    /// How much of the log stays, where nothing is set for the topic.
    pub retention: Retention,
    /// The bounds of everything that can grow.
    pub limits: Limits,
}

/// Every bound of the server. The key of each and its own bounds are in `limits.rs`; `Default` has the defaults.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest record batch that a client may produce.
    pub(crate) message_bytes_max: usize,
    /// Largest request frame.
    pub(crate) request_bytes_max: usize,
    /// A compressed batch with more bytes of records than this is refused.
    pub(crate) decompressed_bytes_max: usize,
    /// Threads that look into compressed batches; one more looks into those that grow much.
    pub(crate) inspection_threads: usize,
    /// Large requests in memory, from their length on until they are answered.
    pub(crate) queued_request_bytes_max: usize,
    /// Client connections open at once.
    pub(crate) connections_max: usize,
    /// Connections beside them that have not shown yet whether they are a voter's.
    pub(crate) guest_connections_max: usize,
    /// How long they may take for it.
    pub(crate) guest_ms_max: u64,
    /// Connections of each other voter, beside `connections_max`.
    pub(crate) voter_connections_max: usize,
    /// What a core reads from its clients between two turns.
    pub(crate) round_bytes_max: usize,
    /// How long it takes requests from them between two turns.
    pub(crate) round_ms_max: u64,
    /// One answer to a client that is read from the device.
    pub(crate) device_read_bytes_max: usize,
    /// Read from the device for clients and not taken by them yet.
    pub(crate) device_reads_bytes_max: usize,
    /// Of all clients' answers that do not come from the device and are not taken.
    pub(crate) answers_bytes_max: usize,
    /// Reads for clients at the device at once.
    pub(crate) device_reads_max: usize,
    /// A client that holds memory for longer without moving is closed if others wait for it.
    pub(crate) room_stall_ms_max: u64,
    pub(crate) segment_bytes_max: u64,
    /// Records of one segment lie at most so far apart in time, as clients stamped them; `i64::MAX`: no bound.
    pub(crate) segment_ms_max: i64,
    /// A segment is reserved or zeroed this far ahead of the writer, at most.
    pub(crate) zero_ahead_bytes: u64,
    /// Records in one answer to a consumer.
    pub(crate) fetch_response_bytes_max: usize,
    /// Records in one answer to a voter or observer.
    pub(crate) replica_fetch_bytes_max: usize,
    /// What was read, kept in memory for other readers.
    pub(crate) read_cache_bytes_max: usize,
    /// As much as the host has to spare: see `on_host`.
    pub(crate) is_read_cache_automatic: bool,
    /// What a leader writes is kept there too, whether or not anybody reads behind the newest records.
    pub(crate) copies_unread: bool,
    /// Ahead of one who reads in order.
    pub(crate) read_ahead_bytes_max: usize,
    /// What one read has, and what it keeps in memory: a huge page. A smaller one is for tests.
    pub(crate) read_piece_bytes: usize,
    /// Newest batches kept in memory for tailing readers.
    pub(crate) tail_cache_bytes_max: usize,
    /// One write buffer of the log device: a multiple of 4 KiB.
    pub(crate) write_buffer_bytes: usize,
    pub(crate) write_buffers: usize,
    /// Bytes of one durable write.
    pub(crate) group_bytes_max: usize,
    /// Appended and not flushed: no Produce is taken above it.
    pub(crate) unflushed_bytes_max: u64,
    /// Appended and not committed: no Produce is taken above it.
    pub(crate) uncommitted_bytes_max: u64,
    /// Unsent answers of one connection: a reader above it is closed. Exceeds `fetch_response_bytes_max`.
    pub(crate) connection_output_bytes_max: usize,
    /// Requests of one connection under way.
    pub(crate) connection_requests_max: usize,
    /// Topics, partitions, resources or keys that one request may name, each counted once.
    pub(crate) request_entries_max: usize,
    /// Decoded bytes of requests for many things that wait for their turn; one alone may have more. No key says it.
    pub(crate) heavy_bytes_max: usize,
    /// Inputs of one turn of the replica.
    pub(crate) turn_inputs_max: usize,
    /// A leader whose flush takes longer resigns.
    pub(crate) flush_stall_ms_max: u64,
    /// An idle log writes its commit mark after this long.
    pub(crate) commit_mark_idle_ms: u64,
    /// The index in memory has an entry for each run of batches of this size.
    pub(crate) index_interval_bytes: u64,
    /// Idempotent producers remembered.
    pub producer_ids_max: usize,
    /// Entries of what is folded that are copied in one turn, while a snapshot is taken.
    pub fold_walk_entries: usize,
    /// Batches that wait for such a copy of which a turn settles so many, beside twice as many as came in it.
    pub fold_settled_batches: usize,
    /// With more batches that are not settled, such a copy is given up.
    pub fold_held_batches_max: usize,
    /// A larger snapshot is neither taken nor read.
    pub snapshot_bytes_max: u64,
    /// Of a snapshot's file in one answer to a replica, and what is asked of a leader at a time.
    pub(crate) snapshot_piece_bytes_max: usize,
    /// A snapshot is kept for a voter that fetches it for so long, and the time that its size takes.
    pub(crate) snapshot_hold_ms: u64,
    /// A snapshot is taken when so many bytes of records are committed that the last one does not hold.
    pub snapshot_bytes_between: u64,
    /// Or so long after the last one, where anything is; 0: never for that.
    pub snapshot_interval_ms: u64,
    /// Between the begins of two, whatever makes one due.
    pub snapshot_pause_ms: u64,
    /// New ones that one connection may bring.
    pub(crate) connection_producer_ids_max: usize,
    /// Who has been silent for so long makes room for a new one, where there is none.
    pub(crate) producer_id_idle_ms_min: u64,
    /// How long a client's request may be parked, whatever it asks for.
    pub(crate) request_wait_ms_max: u64,
    /// A connection that is idle for longer is closed.
    pub(crate) connection_idle_ms_max: u64,
    /// Requests parked until data, a commit or a timeout.
    pub(crate) parked_requests_max: usize,
    /// Below it the node says that its disk fills.
    pub(crate) disk_free_bytes_warn: u64,
    /// Below it Produce gets KAFKA_STORAGE_ERROR.
    pub(crate) disk_free_bytes_min: u64,
    /// All interval logs of latencies together; 0: none are written.
    pub(crate) latency_log_bytes_max: u64,
    /// How far a record's timestamp may lie before the broker's clock.
    pub(crate) timestamp_before_max_ms: i64,
    /// How far a record's timestamp may lie after the broker's clock.
    pub(crate) timestamp_after_max_ms: i64,
}

/// A configuration with all that is worth telling about it.
#[derive(Debug)]
pub struct Loaded {
    /// Checked, and complete.
    pub config: Config,
    /// In the order of reading, for `--print-config`.
    pub(crate) effective: Vec<Effective>,
    /// To be logged once logging has started.
    pub(crate) notes: Vec<Note>,
}

/// One value in force, and who set it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Effective {
    pub(crate) key: &'static str,
    pub(crate) value: String,
    pub(crate) origin: Origin,
    /// The key as it was written, where that is the other dialect's.
    pub(crate) written_as: Option<String>,
}

/// A sentence about the configuration that does not stop the start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Note {
    pub(crate) warning: bool,
    pub(crate) text: String,
}

/// One line: where, key and value, what is wrong and what to do. The process ends with exit code 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// File and line, variable or flag; `None` where the key is missing everywhere.
    place: Option<String>,
    key: String,
    value: Option<String>,
    why: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(place) = &self.place {
            write!(f, "{place}: ")?;
        }
        match &self.value {
            // One line whatever the value holds.
            Some(value) => write!(f, "{}={}: {}", self.key, value.escape_debug(), self.why),
            None => write!(f, "{}: {}", self.key, self.why),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Why there is no configuration. The notes may hold the reason, such as a misspelt key.
#[derive(Debug)]
pub struct Refused {
    /// In the order of reading, at least one.
    pub errors: Vec<ConfigError>,
    pub(crate) notes: Vec<Note>,
}

/// Check all settings and make them a configuration. All errors are told at once.
pub fn load(settings: &Settings) -> Result<Loaded, Refused> {
    let mut reader = reader::Reader::new(settings);
    let node = node::read_node(&mut reader);
    let limits = limits::read_limits(&mut reader);
    let retention = retention::read_retention(&mut reader);
    node::check_interop_limits(&mut reader, node.as_ref(), &limits);
    let finished = reader.finish();
    match node {
        Some(node) if finished.errors.is_empty() => Ok(Loaded {
            config: node.into_config(retention, limits),
            effective: finished.effective,
            notes: finished.notes,
        }),
        _ => Err(Refused { errors: finished.errors, notes: finished.notes }),
    }
}

#[cfg(test)]
impl Config {
    /// The defaults, for a node that no file describes.
    pub(crate) fn for_tests(node_id: NodeId, voters: Vec<Voter>) -> Config {
        let endpoint = voters.iter().find(|v| v.id == node_id).expect("the node is a voter").endpoint.clone();
        Config {
            node_id,
            directory_id: None,
            cluster_id: Uuid::ZERO.to_string(),
            topic_name: "__cluster_metadata".to_string(),
            topic_id: Uuid::METADATA_TOPIC_ID,
            data_mode: DataMode::Native,
            voters,
            listener_name: "PLAINTEXT".to_string(),
            listener: endpoint.clone(),
            advertised: endpoint,
            log_dir: PathBuf::from("/nonexistent"),
            http_listener: None,
            cpus: None,
            wait: Wait::Sleep,
            log_check: LogCheck::Tail,
            compressed_check: CompressedCheck::Always,
            first_leader: FirstLeader::All,
            log_doubt: LogDoubt::Wait,
            election_timeout_ms: 1000,
            fetch_timeout_ms: 2000,
            election_backoff_max_ms: 1000,
            request_timeout_ms: 2000,
            retry_backoff_ms: 20,
            retention: Retention::default(),
            limits: Limits::default(),
        }
    }
}
