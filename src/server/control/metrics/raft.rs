//! Kafka's own Raft metrics (`KafkaRaftMetrics`, group raft-metrics, and raft-channel-metrics), under the names that dashboards ask
//! for: Strimzi's rules of the JMX exporter make `kafka_server_raftmetrics_*` of them, Confluent's `kafka_server_raft_metrics_*`, and
//! Strimzi's reporter the latter with `_info` for what is a text.
//!
//! What Kafka does not know it says as NaN, and so do we: a panel then shows a gap, not a zero.

use std::fmt;

use super::{Out, Snapshot};
use crate::replica::Status;

const PREFIXES: [&str; 2] = ["kafka_server_raftmetrics_", "kafka_server_raft_metrics_"];
/// Kafka's zero uuid, for nobody.
const NO_DIRECTORY: &str = "AAAAAAAAAAAAAAAAAAAAAA";

/// All of them, once for each dialect.
pub(super) fn encode(out: &mut Out, snapshot: &Snapshot, status: &Status) -> fmt::Result {
    for prefix in PREFIXES {
        for (name, help, value) in numbers(snapshot, status) {
            out.float(&format!("{prefix}{name}"), help, value)?;
        }
    }
    encode_state(out, status)?;
    encode_voted_directory(out, status)?;
    encode_channel(out, status)
}

fn numbers(snapshot: &Snapshot, status: &Status) -> [(&'static str, &'static str, f64); 17] {
    let watched = &status.watched;
    let (commit_avg, commit_max) = snapshot.commit_latency_ms.unwrap_or((f64::NAN, f64::NAN));
    let (election_avg, election_max) = watched.election_latency_ms.unwrap_or((f64::NAN, f64::NAN));
    let voted = watched.voted.map_or(-1, |voted| voted.id.0);
    [
        ("current_leader", "Id of the leader, -1 where unknown.", f64::from(status.leader_id.unwrap_or(-1))),
        ("current_vote", "Id that this node has voted for in its epoch, -1 for none.", f64::from(voted)),
        ("current_epoch", "Current epoch of the quorum.", f64::from(status.epoch)),
        (
            "high_watermark",
            "High watermark of this node, -1 where unknown.",
            status.high_watermark.unwrap_or(-1) as f64,
        ),
        ("log_end_offset", "Log end offset of this node.", status.log_end_offset as f64),
        ("log_end_epoch", "Epoch of the last record of the log.", f64::from(watched.log_end_epoch)),
        ("number_unknown_voter_connections", "Voters whose endpoint is not known.", 0.0),
        ("number_of_voters", "Voters of the quorum.", status.voters.len() as f64),
        ("number_of_observers", "Observers that fetch from this leader.", status.observers.len() as f64),
        ("uncommitted_voter_change", "1 while a change of the voters is not committed.", 0.0),
        ("commit_latency_avg", "Mean time to commit in ms, last interval.", commit_avg),
        ("commit_latency_max", "Longest time to commit in ms, last interval.", commit_max),
        ("election_latency_avg", "Mean time in ms of the elections of the last minute.", election_avg),
        ("election_latency_max", "Longest election of the last minute in ms.", election_max),
        ("fetch_records_rate", "Records per second copied from the leader.", snapshot.fetch_records_rate),
        ("append_records_rate", "Records per second appended as leader.", snapshot.append_records_rate),
        (
            "poll_idle_ratio_avg",
            "Part of the last second in which the replica core slept.",
            watched.idle_ratio.unwrap_or(f64::NAN),
        ),
    ]
}

/// Only the present state, with the value 1.
fn encode_state(out: &mut Out, status: &Status) -> fmt::Result {
    let help = "The present state of this node, as a label.";
    let strimzi = [("current_state", status.role)];
    out.gauges("kafka_server_raftmetrics_current_state", help, [(strimzi, 1)])?;
    let both = [("current_state", status.role), ("state", status.role)];
    out.gauges("kafka_server_raft_metrics_current_state", help, [(both, 1)])?;
    out.gauges("kafka_server_raft_metrics_current_state_info", help, [(both, 1)])
}

fn encode_voted_directory(out: &mut Out, status: &Status) -> fmt::Result {
    let voted = status.watched.voted.map(|voted| voted.directory_id.to_string());
    let label = [("current_vote_directory_id", voted.as_deref().unwrap_or(NO_DIRECTORY))];
    let help = "Directory id that this node has voted for in its epoch, as a label.";
    for prefix in PREFIXES {
        out.gauges(&format!("{prefix}current_vote_directory_id"), help, [(label, 1)])?;
    }
    out.gauges("kafka_server_raft_metrics_current_vote_directory_id_info", help, [(label, 1)])
}

/// Of the connections that this node has opened to the other voters. Strimzi's reporter leaves the `_total` away.
fn encode_channel(out: &mut Out, status: &Status) -> fmt::Result {
    let counters = &status.counters;
    for (name, help, value) in [
        ("incoming_byte", "Bytes received from voters.", counters.peer_bytes_received),
        ("outgoing_byte", "Bytes sent to voters.", counters.peer_bytes_sent),
        ("request", "Requests sent to voters.", counters.peer_requests),
        ("response", "Answers received from voters.", counters.peer_responses),
    ] {
        out.counter(&format!("kafka_server_raftchannelmetrics_{name}"), help, value)?;
        out.gauge(&format!("kafka_server_raft_channel_metrics_{name}"), help, value as i64)?;
    }
    Ok(())
}
