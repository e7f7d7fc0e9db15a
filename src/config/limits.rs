//! The bounds of the server: for each its key, its default and its own bounds.

use super::Limits;
use super::reader::Reader;
use crate::types::HostMemory;

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

const READ_CACHE_BYTES_MAX: usize = 64 * GIB;
/// A node that is to see for itself how much it may keep for readers has one part in so many of what is available at its start.
const READ_CACHE_PART: u64 = 4;
/// Answers may pin one part in so many of the cache.
const PINNED_PART: usize = 4;

/// What stands around a batch in a request or an answer: headers, names, ids, endpoints.
pub(crate) const ENVELOPE_BYTES: usize = KIB;

impl Limits {
    /// Largest answer of another voter, whatever clients may send: one batch is sent whole, however large.
    pub(crate) fn voter_answer_bytes_max(&self) -> usize {
        let records =
            self.replica_fetch_bytes_max.max(self.message_bytes_max).max(self.snapshot_piece_bytes_max);
        self.request_bytes_max.max(records.saturating_add(ENVELOPE_BYTES))
    }
}

impl Limits {
    /// With the part of this machine's memory that readers' cache has where the configuration leaves it to the node.
    pub(crate) fn on_host(self, host: Option<HostMemory>) -> Limits {
        match host.filter(|_| self.is_read_cache_automatic) {
            Some(host) => {
                let part = usize::try_from(host.available_bytes / READ_CACHE_PART).unwrap_or(usize::MAX);
                Limits { read_cache_bytes_max: part.min(READ_CACHE_BYTES_MAX), ..self }
            }
            None => self,
        }
    }

    /// Of memory that was read into, what answers may pin that their readers have not taken.
    pub(crate) fn pinned_reads_bytes_max(&self) -> usize {
        self.pinned_bytes_max(self.read_cache_bytes_max)
    }

    /// The same while the cache has no more than so many bytes.
    pub(crate) fn pinned_bytes_max(&self, read_cache_bytes: usize) -> usize {
        self.device_reads_bytes_max.max(read_cache_bytes / PINNED_PART)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            message_bytes_max: MIB + 12,
            request_bytes_max: 100 * MIB,
            decompressed_bytes_max: 100 * MIB,
            inspection_threads: 1,
            queued_request_bytes_max: 104 * MIB,
            connections_max: 10_000,
            guest_connections_max: 256,
            guest_ms_max: 2_000,
            voter_connections_max: 8,
            round_bytes_max: 4 * MIB,
            round_ms_max: 4,
            device_read_bytes_max: 2 * MIB,
            answers_bytes_max: 24 * MIB,
            device_reads_bytes_max: 12 * MIB,
            device_reads_max: 4,
            room_stall_ms_max: 5_000,
            segment_bytes_max: GIB as u64,
            segment_ms_max: i64::MAX,
            zero_ahead_bytes: 16 * MIB as u64,
            fetch_response_bytes_max: 55 * MIB,
            replica_fetch_bytes_max: 4 * MIB,
            tail_cache_bytes_max: 16 * MIB,
            read_cache_bytes_max: 64 * MIB,
            is_read_cache_automatic: false,
            copies_unread: false,
            read_ahead_bytes_max: 8 * MIB,
            read_piece_bytes: 2 * MIB,
            write_buffer_bytes: MIB,
            write_buffers: 8,
            group_bytes_max: 4 * MIB,
            unflushed_bytes_max: 64 * MIB as u64,
            uncommitted_bytes_max: 256 * MIB as u64,
            connection_output_bytes_max: 64 * MIB,
            connection_requests_max: 64,
            request_entries_max: 50_000,
            heavy_bytes_max: 20 * MIB,
            turn_inputs_max: 256,
            flush_stall_ms_max: 10_000,
            commit_mark_idle_ms: 100,
            index_interval_bytes: 64 * KIB as u64,
            producer_ids_max: 50_000,
            fold_walk_entries: 256,
            fold_settled_batches: 256,
            fold_held_batches_max: 262_144,
            snapshot_bytes_max: GIB as u64,
            snapshot_piece_bytes_max: MIB,
            snapshot_hold_ms: 30_000,
            snapshot_bytes_between: 20 * MIB as u64,
            snapshot_interval_ms: HOUR_MS,
            snapshot_pause_ms: 10_000,
            connection_producer_ids_max: 100,
            producer_id_idle_ms_min: 900_000,
            request_wait_ms_max: 300_000,
            connection_idle_ms_max: 600_000,
            parked_requests_max: 15_000,
            disk_free_bytes_warn: GIB as u64,
            disk_free_bytes_min: 64 * MIB as u64,
            latency_log_bytes_max: 64 * MIB as u64,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: HOUR_MS as i64,
        }
    }
}

pub(super) fn read_limits(r: &mut Reader) -> Limits {
    let mut limits = Limits::default();
    read_request_limits(r, &mut limits);
    read_log_limits(r, &mut limits);
    read_snapshot_limits(r, &mut limits);
    check_together(r, &limits);
    limits
}

fn read_request_limits(r: &mut Reader, l: &mut Limits) {
    let size = KIB..=JAVA_INT_MAX;
    l.message_bytes_max = r.number("message.max.bytes", l.message_bytes_max, size.clone());
    l.request_bytes_max = r.number("socket.request.max.bytes", l.request_bytes_max, size.clone());
    let key = "kraft.decompressed.max.bytes";
    l.decompressed_bytes_max = r.number(key, l.decompressed_bytes_max, size.clone());
    l.inspection_threads = r.number("kraft.compressed.threads", l.inspection_threads, 1..=64);
    l.connections_max = r.number("max.connections", l.connections_max, 1..=JAVA_INT_MAX);
    read_room(r, l);
    l.fetch_response_bytes_max = r.number("fetch.max.bytes", l.fetch_response_bytes_max, size.clone());
    let key = "controller.quorum.fetch.max.bytes";
    l.replica_fetch_bytes_max = r.number(key, l.replica_fetch_bytes_max, size.clone());
    let key = "kraft.connection.output.max.bytes";
    l.connection_output_bytes_max = r.number(key, l.connection_output_bytes_max, size);
    let key = "kraft.connection.max.requests";
    l.connection_requests_max = r.number(key, l.connection_requests_max, 1..=10_000);
    l.request_entries_max = r.number("kraft.request.max.entries", l.request_entries_max, 100..=10_000_000);
    l.turn_inputs_max = r.number("kraft.turn.max.inputs", l.turn_inputs_max, 1..=65_536);
    l.producer_ids_max = r.number("kraft.max.producer.ids", l.producer_ids_max, 1..=10_000_000);
    let key = "kraft.connection.max.producer.ids";
    l.connection_producer_ids_max = r.number(key, l.connection_producer_ids_max, 1..=10_000_000);
    let key = "kraft.producer.id.idle.min.ms";
    l.producer_id_idle_ms_min = r.number(key, l.producer_id_idle_ms_min, 1_000..=24 * HOUR_MS);
    let key = "kraft.request.wait.max.ms";
    l.request_wait_ms_max = r.number(key, l.request_wait_ms_max, 1_000..=24 * HOUR_MS);
    // Kafka's; -1 there means never.
    let key = "connections.max.idle.ms";
    let idle_ms = r.number(key, l.connection_idle_ms_max as i64, -1..=i64::MAX);
    l.connection_idle_ms_max = u64::try_from(idle_ms).unwrap_or(u64::MAX);
    l.parked_requests_max = r.number("kraft.max.parked.requests", l.parked_requests_max, 1..=10_000_000);
    // Kafka's keys of the broker; those of a topic, which this log is too, have no "log." before them.
    let (key, of_topic) = ("log.message.timestamp.before.max.ms", "message.timestamp.before.max.ms");
    let setting = r.find_either(key, of_topic);
    l.timestamp_before_max_ms = r.number_of(key, setting, l.timestamp_before_max_ms, 0..=i64::MAX);
    let (key, of_topic) = ("log.message.timestamp.after.max.ms", "message.timestamp.after.max.ms");
    let setting = r.find_either(key, of_topic);
    l.timestamp_after_max_ms = r.number_of(key, setting, l.timestamp_after_max_ms, 0..=i64::MAX);
}

/// How much of a node its clients may have: docs/limits.md.
fn read_room(r: &mut Reader, l: &mut Limits) {
    let key = "kraft.guest.connections";
    l.guest_connections_max = r.number(key, l.guest_connections_max, 1..=65_536);
    l.guest_ms_max = r.number("kraft.guest.max.ms", l.guest_ms_max, 1..=HOUR_MS);
    let key = "kraft.voter.connections";
    l.voter_connections_max = r.number(key, l.voter_connections_max, 4..=1_024);
    l.round_bytes_max = r.number("kraft.round.max.bytes", l.round_bytes_max, KIB..=JAVA_INT_MAX);
    l.round_ms_max = r.number("kraft.round.max.ms", l.round_ms_max, 1..=1_000);
    let size = KIB..=JAVA_INT_MAX;
    let key = "queued.max.request.bytes";
    // Kafka's -1 is no bound: here there is always one.
    let setting = r.find(key).filter(|setting| setting.value != "-1");
    let queued = l.queued_request_bytes_max.max(l.request_bytes_max);
    l.queued_request_bytes_max = r.number_of(key, setting, queued, size.clone());
    let key = "kraft.device.read.max.bytes";
    l.device_read_bytes_max = r.number(key, l.device_read_bytes_max, size.clone());
    let key = "kraft.device.reads.max.bytes";
    l.device_reads_bytes_max = r.number(key, l.device_reads_bytes_max, size.clone());
    let key = "kraft.answers.max.bytes";
    l.answers_bytes_max = r.number(key, l.answers_bytes_max, size);
    l.device_reads_max = r.number("kraft.device.reads.max", l.device_reads_max, 1..=256);
    l.room_stall_ms_max = r.number("kraft.room.stall.max.ms", l.room_stall_ms_max, 100..=HOUR_MS);
}

fn read_log_limits(r: &mut Reader, l: &mut Limits) {
    // Kafka has a size of its own for the metadata log; files for brokers often set only the other.
    let key = "metadata.log.segment.bytes";
    let setting = r.find(key).or(r.find("log.segment.bytes"));
    let segment = SEGMENT_BYTES_MIN..=JAVA_INT_MAX as u64;
    l.segment_bytes_max = r.number_of(key, setting, l.segment_bytes_max, segment);
    l.segment_ms_max = super::retention::read_roll(r);
    let ahead = BLOCK_BYTES as u64..=GIB as u64;
    l.zero_ahead_bytes = r.number("kraft.zero.ahead.bytes", l.zero_ahead_bytes, ahead);
    l.tail_cache_bytes_max = r.number("kraft.tail.cache.bytes", l.tail_cache_bytes_max, 0..=64 * GIB);
    // -1 keeps it, for where nobody can say what the host has.
    let cache_bytes = l.read_cache_bytes_max as i64;
    let cache_bytes: i64 = r.number("kraft.read.cache.bytes", cache_bytes, -1..=READ_CACHE_BYTES_MAX as i64);
    l.is_read_cache_automatic = cache_bytes < 0;
    l.read_cache_bytes_max = usize::try_from(cache_bytes).unwrap_or(l.read_cache_bytes_max);
    let key = "kraft.read.cache.written";
    let setting = r.find(key);
    // Who gives a part of the host's memory wants it for the first reader too: 3,764 MB/s in place of 1,704 (decision 083).
    l.copies_unread = r.value(key, setting, l.is_read_cache_automatic, parse_written);
    l.read_ahead_bytes_max = r.number("kraft.read.ahead.bytes", l.read_ahead_bytes_max, 0..=GIB);
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
    let key = "kraft.latency.log.max.bytes";
    l.latency_log_bytes_max = r.number(key, l.latency_log_bytes_max, 0..=1 << 50);
    l.disk_free_bytes_min = r.number("kraft.disk.free.min.bytes", l.disk_free_bytes_min, 0..=1 << 50);
    // Who refuses Produce at 10 GiB wants to hear of it before.
    let warn = l.disk_free_bytes_warn.max(2 * l.disk_free_bytes_min);
    l.disk_free_bytes_warn = r.number("kraft.disk.free.warn.bytes", warn, 0..=2 << 50);
}

/// The first two are Kafka's (`MetadataLogConfig`), with its defaults and bounds.
fn read_snapshot_limits(r: &mut Reader, l: &mut Limits) {
    let key = "metadata.log.max.record.bytes.between.snapshots";
    l.snapshot_bytes_between = r.number(key, l.snapshot_bytes_between, 1..=i64::MAX as u64);
    let key = "metadata.log.max.snapshot.interval.ms";
    l.snapshot_interval_ms = r.number(key, l.snapshot_interval_ms, 0..=i64::MAX as u64);
    let key = "kraft.snapshot.pause.ms";
    l.snapshot_pause_ms = r.number(key, l.snapshot_pause_ms, 1..=HOUR_MS);
    let key = "kraft.snapshot.bytes.max";
    l.snapshot_bytes_max = r.number(key, l.snapshot_bytes_max, MIB as u64..=64 * GIB as u64);
    // Kafka's, of who fetches: here of who serves too.
    let key = "controller.quorum.fetch.snapshot.max.bytes";
    l.snapshot_piece_bytes_max = r.number(key, l.snapshot_piece_bytes_max, KIB..=64 * MIB);
    l.snapshot_hold_ms = r.number("kraft.snapshot.hold.ms", l.snapshot_hold_ms, 1_000..=HOUR_MS);
}

/// For whom it is kept.
fn parse_written(text: &str) -> Result<bool, String> {
    match text {
        "readers" => Ok(false),
        "always" => Ok(true),
        _ => {
            Err("this must be readers (only while somebody reads behind the newest records) or always".into())
        }
    }
}

/// Values that are fine alone and not together.
fn check_together(r: &mut Reader, l: &Limits) {
    let mut at_most = |small: (&str, usize), around: usize, large: (&str, usize)| {
        if small.1.saturating_add(around) > large.1 {
            let envelope = if around > 0 { format!(" and {around} bytes around it") } else { String::new() };
            let verb = if around > 0 { "are" } else { "is" };
            let why = format!(
                "{}{envelope} {verb} more than {}={}. Raise the latter or lower the former.",
                small.1, large.0, large.1
            );
            r.miss(small.0, why);
        }
    };
    let message = ("message.max.bytes", l.message_bytes_max);
    at_most(message, ENVELOPE_BYTES, ("socket.request.max.bytes", l.request_bytes_max));
    // Kafka refuses it too: the largest request would never be read.
    let request = ("socket.request.max.bytes", l.request_bytes_max);
    at_most(request, 0, ("queued.max.request.bytes", l.queued_request_bytes_max));
    // A batch is answered whole, to consumers and to voters; a reader with one answer unsent must not be closed for it.
    let output = ("kraft.connection.output.max.bytes", l.connection_output_bytes_max);
    at_most(message, ENVELOPE_BYTES, output);
    at_most(("controller.quorum.fetch.max.bytes", l.replica_fetch_bytes_max), ENVELOPE_BYTES, output);
    let piece = ("controller.quorum.fetch.snapshot.max.bytes", l.snapshot_piece_bytes_max);
    at_most(piece, ENVELOPE_BYTES, output);
    at_most(message, 0, ("metadata.log.segment.bytes", l.segment_bytes_max as usize));
    let warn = ("kraft.disk.free.warn.bytes", l.disk_free_bytes_warn as usize);
    at_most(("kraft.disk.free.min.bytes", l.disk_free_bytes_min as usize), 0, warn);
    at_most(message, 0, ("kraft.unflushed.max.bytes", l.unflushed_bytes_max as usize));
    at_most(
        message,
        0,
        ("kraft.write.buffers * kraft.write.buffer.bytes", l.write_buffers * l.write_buffer_bytes),
    );
    at_most(
        ("kraft.unflushed.max.bytes", l.unflushed_bytes_max as usize),
        0,
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
