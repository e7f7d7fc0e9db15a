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
            tail_cache_bytes_max: 64 * MIB,
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
    let d = Limits::default();
    // Kafka has a size of its own for the metadata log; files for brokers often set only the other.
    let segment = r.find("metadata.log.segment.bytes").or(r.find("log.segment.bytes"));
    let before = r.find_either("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms");
    let after = r.find_either("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms");
    let int = KIB..=JAVA_INT_MAX;
    let limits = Limits {
        message_bytes_max: r.number("message.max.bytes", d.message_bytes_max, int.clone()),
        request_bytes_max: r.number("socket.request.max.bytes", d.request_bytes_max, int.clone()),
        connections_max: r.number("max.connections", d.connections_max, 1..=JAVA_INT_MAX),
        segment_bytes_max: r.number_of(
            "metadata.log.segment.bytes",
            segment,
            d.segment_bytes_max,
            (64 * KIB as u64)..=JAVA_INT_MAX as u64,
        ),
        zero_ahead_bytes: r.number(
            "kraft.zero.ahead.bytes",
            d.zero_ahead_bytes,
            BLOCK_BYTES as u64..=GIB as u64,
        ),
        fetch_response_bytes_max: r.number("fetch.max.bytes", d.fetch_response_bytes_max, int.clone()),
        replica_fetch_bytes_max: r.number(
            "controller.quorum.fetch.max.bytes",
            d.replica_fetch_bytes_max,
            int.clone(),
        ),
        tail_cache_bytes_max: r.number("kraft.tail.cache.bytes", d.tail_cache_bytes_max, 0..=64 * GIB),
        write_buffer_bytes: r.number("kraft.write.buffer.bytes", d.write_buffer_bytes, 64 * KIB..=64 * MIB),
        write_buffers: r.number("kraft.write.buffers", d.write_buffers, 2..=1024),
        group_bytes_max: r.number("kraft.group.max.bytes", d.group_bytes_max, 64 * KIB..=GIB),
        unflushed_bytes_max: r.number(
            "kraft.unflushed.max.bytes",
            d.unflushed_bytes_max,
            MIB as u64..=GIB as u64,
        ),
        uncommitted_bytes_max: r.number(
            "kraft.uncommitted.max.bytes",
            d.uncommitted_bytes_max,
            MIB as u64..=64 * GIB as u64,
        ),
        connection_output_bytes_max: r.number(
            "kraft.connection.output.max.bytes",
            d.connection_output_bytes_max,
            int,
        ),
        connection_requests_max: r.number(
            "kraft.connection.max.requests",
            d.connection_requests_max,
            1..=10_000,
        ),
        turn_inputs_max: r.number("kraft.turn.max.inputs", d.turn_inputs_max, 1..=65_536),
        flush_stall_ms_max: r.number("kraft.flush.stall.max.ms", d.flush_stall_ms_max, 10..=HOUR_MS),
        commit_mark_idle_ms: r.number("kraft.commit.mark.idle.ms", d.commit_mark_idle_ms, 1..=HOUR_MS),
        producer_ids_max: r.number("kraft.max.producer.ids", d.producer_ids_max, 1..=10_000_000),
        parked_requests_max: r.number("kraft.max.parked.requests", d.parked_requests_max, 1..=10_000_000),
        observers_max: r.number("kraft.max.observers", d.observers_max, 0..=100_000),
        disk_free_bytes_min: r.number("kraft.disk.free.min.bytes", d.disk_free_bytes_min, 0..=1 << 50),
        timestamp_before_max_ms: r.number_of(
            "log.message.timestamp.before.max.ms",
            before,
            d.timestamp_before_max_ms,
            0..=i64::MAX,
        ),
        timestamp_after_max_ms: r.number_of(
            "log.message.timestamp.after.max.ms",
            after,
            d.timestamp_after_max_ms,
            0..=i64::MAX,
        ),
    };
    check_together(r, &limits);
    limits
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
