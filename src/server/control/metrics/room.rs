//! What is taken of the node's room, and its bounds: docs/limits.md.

use std::fmt;

use super::Out;
use crate::replica::room::places::PlaceCounts;
use crate::replica::room::taken::{Bounded, RoomTaken};
use crate::replica::{Status, Watched};

/// Of places: taken, and most that there are.
pub(super) fn encode(out: &mut Out, room: &RoomTaken, places: [PlaceCounts; 2]) -> fmt::Result {
    let [taken, most] = places.map(|places| {
        [("client", places.clients), ("guest", places.guests), ("voter", places.voters)]
            .map(|(holder, count)| ([("holder", holder)], count as i64))
    });
    out.gauges("kraft_places_taken", "Places for connections that are taken, by whose they are.", taken)?;
    out.gauges("kraft_places_max", "Places that there are.", most)?;
    let answers = [("clients", room.answers_bytes), ("voters", room.voters_answers_bytes)];
    let by_reader = |of: fn(Bounded) -> usize| answers.map(|(to, bytes)| ([("to", to)], of(bytes) as i64));
    out.gauges(
        "kraft_unsent_answers_bytes",
        "Bytes of answers that their readers have not taken.",
        by_reader(|bytes| bytes.taken),
    )?;
    out.gauges(
        "kraft_unsent_answers_max_bytes",
        "Above it who has been stuck the longest is closed (kraft.answers.max.bytes).",
        by_reader(|bytes| bytes.max),
    )?;
    let waiting = [("memory", room.wait_for_memory), ("turn", room.wait_for_turn)];
    out.gauges(
        "kraft_waiting_connections",
        "Connections that are not read: they wait for their turn, or for the memory of a large request.",
        waiting.map(|(what, count)| ([("wait_for", what)], count as i64)),
    )?;
    encode_all(
        out,
        &[
            (
                "kraft_large_requests_held_bytes",
                "Memory of large requests, reserved or used.",
                room.large_bytes.taken,
            ),
            ("kraft_large_requests_max_bytes", "Its bound (queued.max.request.bytes).", room.large_bytes.max),
            (
                "kraft_large_requests_waiting_bytes",
                "What large requests need that wait for memory.",
                room.large_wanted_bytes,
            ),
            (
                "kraft_heavy_requests_handed_bytes",
                "Decoded bytes of requests for many things on their way to the replica.",
                room.heavy_handed_bytes.taken,
            ),
            ("kraft_heavy_requests_handed_max_bytes", "The bound of these.", room.heavy_handed_bytes.max),
        ],
    )
}

/// Those that the replica knows.
pub(super) fn encode_status(out: &mut Out, status: &Status) -> fmt::Result {
    let Watched { device_reads, blocks, device_reads_waiting, heavy_requests, heavy_bytes, .. } =
        &status.watched;
    let reads = [("memory", blocks.hits), ("device", blocks.misses), ("ahead", blocks.ahead)];
    out.counters(
        "kraft_read_cache_reads",
        "Reads of what is not among the newest batches in memory: of blocks, of the device, of the device ahead of a reader.",
        reads.map(|(from, count)| ([("from", from)], count)),
    )?;
    encode_all(
        out,
        &[
            (
                "kraft_device_reads_held_bytes",
                "Memory that answers to clients pin which were read from the device or from blocks, and are not taken.",
                device_reads.taken,
            ),
            (
                "kraft_device_reads_max_bytes",
                "Their bound (kraft.device.reads.max.bytes, or a quarter of kraft.read.cache.bytes).",
                device_reads.max,
            ),
            (
                "kraft_read_cache_bytes",
                "Memory of what was read or written and is kept for readers, and what waits to be read into.",
                blocks.bytes + blocks.free_bytes,
            ),
            ("kraft_read_cache_max_bytes", "Its bound (kraft.read.cache.bytes).", blocks.bytes_max),
            ("kraft_read_cache_pinned_bytes", "What of it answers are sent from.", blocks.pinned_bytes),
            (
                "kraft_device_reads_waiting",
                "Reads that wait for their turn at the device, or for what others have not taken.",
                *device_reads_waiting,
            ),
            ("kraft_heavy_requests_waiting", "Requests for many things that are put off.", *heavy_requests),
            ("kraft_heavy_requests_waiting_bytes", "Their decoded bytes.", heavy_bytes.taken),
            ("kraft_heavy_requests_max_bytes", "The bound of these.", heavy_bytes.max),
        ],
    )
}

fn encode_all(out: &mut Out, gauges: &[(&str, &str, usize)]) -> fmt::Result {
    gauges.iter().try_for_each(|(name, help, value)| out.gauge(name, help, *value as i64))
}
