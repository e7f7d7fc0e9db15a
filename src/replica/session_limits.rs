//! What one connection may take, out of the configuration.

use crate::config::Config;
use crate::protocol::messages::StrBytes;
use crate::record::ProduceLimits;
use crate::types::*;

/// What a connection may take, and what it may produce to.
#[derive(Clone, Debug)]
pub struct SessionLimits {
    /// Of one frame (`socket.request.max.bytes`).
    pub request_bytes_max: usize,
    /// Unsent bytes of answers; over it the connection is closed, over half of it no more requests are taken.
    pub output_bytes_max: usize,
    /// Requests whose answers have not been handed out.
    pub requests_max: usize,
    /// A connection that moves nothing for longer is closed (`connections.max.idle.ms`).
    pub idle_ms_max: u64,
    /// Things that one request may ask for.
    pub request_entries_max: usize,
    /// Of one batch (`message.max.bytes`).
    pub message_bytes_max: usize,
    /// How far a timestamp may lie behind our clock.
    pub timestamp_before_max_ms: i64,
    /// How far ahead of it.
    pub timestamp_after_max_ms: i64,
    /// The one topic that there is.
    pub topic_name: StrBytes,
    /// Kafka's id of it.
    pub topic_id: Uuid,
    /// What a batch must be for the log to take it.
    pub data_mode: DataMode,
    /// Whether compressed batches are looked into.
    pub compressed_check: CompressedCheck,
    /// What a batch may become when it is decompressed.
    pub decompressed_bytes_max: usize,
}

impl SessionLimits {
    /// As the configuration has them.
    pub fn of(config: &Config) -> SessionLimits {
        let limits = &config.limits;
        SessionLimits {
            request_bytes_max: limits.request_bytes_max,
            output_bytes_max: limits.connection_output_bytes_max,
            requests_max: limits.connection_requests_max,
            request_entries_max: limits.request_entries_max,
            idle_ms_max: limits.connection_idle_ms_max,
            message_bytes_max: limits.message_bytes_max,
            timestamp_before_max_ms: limits.timestamp_before_max_ms,
            timestamp_after_max_ms: limits.timestamp_after_max_ms,
            topic_name: config.topic_name.clone().into(),
            topic_id: config.topic_id,
            data_mode: config.data_mode,
            compressed_check: config.compressed_check,
            decompressed_bytes_max: limits.decompressed_bytes_max,
        }
    }

    /// What a batch may be that comes now.
    pub(super) fn produce_limits(&self, now: Now) -> ProduceLimits {
        ProduceLimits {
            message_bytes_max: self.message_bytes_max,
            timestamp_before_max_ms: self.timestamp_before_max_ms,
            timestamp_after_max_ms: self.timestamp_after_max_ms,
            now_wall_ms: now.wall_ms,
        }
    }
}
