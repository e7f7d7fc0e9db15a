//! The bounds of the server: for each its key, its default and its own bounds.

use super::Limits;
use super::reader::Reader;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;
const GIB: usize = 1024 * MIB;
/// Alignment of every write to the device.
const BLOCK_BYTES: usize = 4 * KIB;
/// Kafka's sizes are Java ints.
const JAVA_INT_MAX: usize = i32::MAX as usize;
const HOUR_MS: u64 = 3_600_000;
/// Small enough for tests that roll often.
const SEGMENT_BYTES_MIN: u64 = 64 * KIB as u64;

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: MIB + 12,
            request_bytes_max: 100 * MIB,
            connections_max: 10_000,
            segment_bytes_max: GIB as u64,
            zero_ahead_bytes: 16 * MIB as u64,
            fetch_response_bytes_max: 55 * MIB,
            replica_fetch_bytes_max: 4 * MIB,
            tail_cache_bytes_max: 16 * MIB,
            write_buffer_bytes: MIB,
            write_buffers: 8,
            group_bytes_max: 4 * MIB,
            unflushed_bytes_max: 64 * MIB as u64,
            uncommitted_bytes_max: 256 * MIB as u64,
            connection_output_bytes_max: 64 * MIB,
            connection_requests_max: 64,
            turn_inputs_max: 256,
            flush_stall_ms_max: 10_000,
            commit_mark_idle_ms: 100,
            index_interval_bytes: 64 * KIB as u64,
            producer_ids_max: 10_000,
            parked_requests_max: 100_000,
            observers_max: 1000,
            disk_free_bytes_min: 64 * MIB as u64,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: HOUR_MS as i64,
        }
    }
}

pub(super) fn read_limits(r: &mut Reader) -> Limits {
    let mut limits = Limits::default();
    read_request_limits(r, &mut limits);
    read_log_limits(r, &mut limits);
    check_together(r, &limits);
    limits
}

fn read_request_limits(r: &mut Reader, l: &mut Limits) {
    let size = KIB..=JAVA_INT_MAX;
    l.message_bytes_max = r.number("message.max.bytes", l.message_bytes_max, size.clone());
    l.request_bytes_max = r.number("socket.request.max.bytes", l.request_bytes_max, size.clone());
    l.connections_max = r.number("max.connections", l.connections_max, 1..=JAVA_INT_MAX);
    l.fetch_response_bytes_max = r.number("fetch.max.bytes", l.fetch_response_bytes_max, size.clone());
    let key = "controller.quorum.fetch.max.bytes";
    l.replica_fetch_bytes_max = r.number(key, l.replica_fetch_bytes_max, size.clone());
    let key = "kraft.connection.output.max.bytes";
    l.connection_output_bytes_max = r.number(key, l.connection_output_bytes_max, size);
    let key = "kraft.connection.max.requests";
    l.connection_requests_max = r.number(key, l.connection_requests_max, 1..=10_000);
    l.turn_inputs_max = r.number("kraft.turn.max.inputs", l.turn_inputs_max, 1..=65_536);
    l.producer_ids_max = r.number("kraft.max.producer.ids", l.producer_ids_max, 1..=10_000_000);
    l.parked_requests_max = r.number("kraft.max.parked.requests", l.parked_requests_max, 1..=10_000_000);
    l.observers_max = r.number("kraft.max.observers", l.observers_max, 0..=100_000);
    // Kafka's keys of the broker; those of a topic, which this log is too, have no "log." before them.
    let (key, of_topic) = ("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms");
    let setting = r.find_either(key, of_topic);
    l.timestamp_before_max_ms = r.number_of(key, setting, l.timestamp_before_max_ms, 0..=i64::MAX);
    let (key, of_topic) = ("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms");
    let setting = r.find_either(key, of_topic);
    l.timestamp_after_max_ms = r.number_of(key, setting, l.timestamp_after_max_ms, 0..=i64::MAX);
}

fn read_log_limits(r: &mut Reader, l: &mut Limits) {
    // Kafka has a size of its own for the metadata log; files for brokers often set only the other.
    let key = "metadata.log.segment.bytes";
    let setting = r.find(key).or(r.find("log.segment.bytes"));
    let segment = SEGMENT_BYTES_MIN..=JAVA_INT_MAX as u64;
    l.segment_bytes_max = r.number_of(key, setting, l.segment_bytes_max, segment);
    let ahead = BLOCK_BYTES as u64..=GIB as u64;
    l.zero_ahead_bytes = r.number("kraft.zero.ahead.bytes", l.zero_ahead_bytes, ahead);
    l.tail_cache_bytes_max = r.number("kraft.tail.cache.bytes", l.tail_cache_bytes_max, 0..=64 * GIB);
    l.write_buffer_bytes = r.number("kraft.write.buffer.bytes", l.write_buffer_bytes, 64 * KIB..=64 * MIB);
    l.write_buffers = r.number("kraft.write.buffers", l.write_buffers, 2..=1024);
    l.group_bytes_max = r.number("kraft.group.max.bytes", l.group_bytes_max, 64 * KIB..=GIB);
    let (least, most) = (MIB as u64, GIB as u64);
    l.unflushed_bytes_max = r.number("kraft.unflushed.max.bytes", l.unflushed_bytes_max, least..=most);
    let key = "kraft.uncommitted.max.bytes";
    l.uncommitted_bytes_max = r.number(key, l.uncommitted_bytes_max, least..=64 * most);
    l.flush_stall_ms_max = r.number("kraft.flush.stall.max.ms", l.flush_stall_ms_max, 10..=HOUR_MS);
    l.commit_mark_idle_ms = r.number("kraft.commit.mark.idle.ms", l.commit_mark_idle_ms, 1..=HOUR_MS);
    let (key, interval) = ("kraft.index.interval.bytes", l.index_interval_bytes);
    l.index_interval_bytes = r.number(key, interval, BLOCK_BYTES as u64..=64 * MIB as u64);
    l.disk_free_bytes_min = r.number("kraft.disk.free.min.bytes", l.disk_free_bytes_min, 0..=1 << 50);
}

/// Values that are fine alone and not together.
fn check_together(r: &mut Reader, l: &Limits) {
    let mut at_most = |small: (&str, usize), large: (&str, usize)| {
        if small.1 > large.1 {
            let why = format!(
                "{} is more than {}={}. Raise the latter or lower the former.",
                small.1, large.0, large.1
            );
            r.miss(small.0, why);
        }
    };
    let message = ("message.max.bytes", l.message_bytes_max);
    at_most(message, ("socket.request.max.bytes", l.request_bytes_max));
    at_most(message, ("metadata.log.segment.bytes", l.segment_bytes_max as usize));
    at_most(message, ("kraft.unflushed.max.bytes", l.unflushed_bytes_max as usize));
    at_most(
        message,
        ("kraft.write.buffers * kraft.write.buffer.bytes", l.write_buffers * l.write_buffer_bytes),
    );
    at_most(
        ("kraft.unflushed.max.bytes", l.unflushed_bytes_max as usize),
        ("kraft.uncommitted.max.bytes", l.uncommitted_bytes_max as usize),
    );
    if l.fetch_response_bytes_max >= l.connection_output_bytes_max {
        // A reader with one full answer unsent must not be closed for it.
        let why = format!(
            "{} is not more than fetch.max.bytes={}. Raise the former or lower the latter.",
            l.connection_output_bytes_max, l.fetch_response_bytes_max
        );
        r.miss("kraft.connection.output.max.bytes", why);
    }
    if !l.write_buffer_bytes.is_multiple_of(BLOCK_BYTES) {
        r.miss(
            "kraft.write.buffer.bytes",
            format!("{} is not a multiple of {BLOCK_BYTES}.", l.write_buffer_bytes),
        );
    }
}
