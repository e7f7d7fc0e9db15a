//! What a node has of snapshots. Kafka's `SnapshotEmitterMetrics` under the name that both its dashboards' dialects make of them, and ours.

use std::fmt;

use super::Out;
use crate::replica::Status;

pub(super) fn encode(out: &mut Out, status: &Status) -> fmt::Result {
    let watched = &status.watched;
    for (name, help, value) in [
        (
            "kafka_server_snapshotemitter_latestsnapshotgeneratedbytes",
            "Bytes of the newest snapshot, 0 for none.",
            status.snapshot_bytes.unwrap_or(0),
        ),
        (
            "kafka_server_snapshotemitter_latestsnapshotgeneratedagems",
            "Time in ms since this node began to take its newest snapshot, or since its start.",
            watched.snapshot_age_ms,
        ),
    ] {
        out.float(name, help, value as f64)?;
    }
    let offset = status.snapshot_offset.unwrap_or(-1);
    out.gauge("kraft_snapshot_end_offset", "End of the newest snapshot, -1 for none.", offset)?;
    let kept = watched.snapshots_kept as i64;
    out.gauge("kraft_snapshots_kept", "Snapshots of this node that are on its disk.", kept)?;
    let has_problem = i64::from(status.snapshot_problem.is_some());
    out.gauge(
        "kraft_snapshot_failing",
        "1 where the last snapshot was not taken, or none can be.",
        has_problem,
    )?;
    let counts = watched.snapshot_counts;
    for (name, help, value) in [
        ("kraft_snapshots_taken", "Snapshots that this node has taken.", counts.taken),
        ("kraft_snapshots_failed", "Snapshots whose file could not be written.", counts.failed),
        ("kraft_snapshots_given_up", "Snapshots given up while what is folded was copied.", counts.given_up),
    ] {
        out.counter(name, help, value)?;
    }
    Ok(())
}
