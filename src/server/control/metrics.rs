//! The Prometheus text of `/metrics`, made anew for each scrape from the snapshots that the replica has published.
//!
//! `kafka_server_raft_metrics_*` are Kafka's own Raft metrics (`KafkaRaftMetrics`) under the names that the JMX exporter
//! gives them, so that dashboards for KRaft show this server too; `kraft_*` are ours.

use std::fmt;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::latency::StageHistograms;
use super::{PublishedStatus, Shared, lock};
use crate::replica::{Counters, Status};

/// Upper bounds of the histogram buckets in ns: 10 us to 10 s in steps of 1, 2, 5.
const BUCKETS_NS: [u64; 19] = [
    10_000,
    20_000,
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    20_000_000,
    50_000_000,
    100_000_000,
    200_000_000,
    500_000_000,
    1_000_000_000,
    2_000_000_000,
    5_000_000_000,
    10_000_000_000,
];
const ROLES: [&str; 7] =
    ["leader", "follower", "candidate", "prospective", "unattached", "resigned", "observer"];

pub(super) fn encode(shared: &Shared) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Snapshot::of(shared)));
    let mut text = String::new();
    encode_text(&mut text, &registry)?;
    Ok(text)
}

/// All that one scrape shows.
#[derive(Debug)]
struct Snapshot {
    status: Option<Status>,
    status_age_seconds: f64,
    uptime_seconds: f64,
    since_start: StageHistograms,
    /// Mean and maximum of the last interval's end to end latency in ms.
    commit_latency_ms: Option<(f64, f64)>,
    append_records_rate: f64,
    connections: usize,
    refused_connections: u64,
    closed_for_bad_input: u64,
    resident_bytes: Option<u64>,
}

impl Snapshot {
    fn of(shared: &Shared) -> Snapshot {
        let published = shared.fresh_status();
        let age = |p: &PublishedStatus| p.at.elapsed().as_secs_f64();
        let latency = lock(&shared.latency);
        let end_to_end = latency.last_interval.get("end_to_end").filter(|h| !h.is_empty());
        Snapshot {
            status_age_seconds: published.as_ref().map_or(0.0, age),
            status: published.map(|p| p.status),
            uptime_seconds: shared.started.elapsed().as_secs_f64(),
            since_start: latency.since_start.clone(),
            commit_latency_ms: end_to_end.map(|h| (h.mean() / 1e6, h.max() as f64 / 1e6)),
            append_records_rate: latency.append_records_rate,
            connections: shared.connections.load(Ordering::Relaxed),
            refused_connections: shared.refused_connections.load(Ordering::Relaxed),
            closed_for_bad_input: shared.closed_for_bad_input.load(Ordering::Relaxed),
            resident_bytes: resident_bytes(),
        }
    }
}

/// From `/proc/self/status`, which has it in KiB; `None` where there is none.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib * 1024)
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut out = Out { encoder };
        self.encode_process(&mut out)?;
        if let Some(status) = &self.status {
            self.encode_kafka_raft(&mut out, status)?;
            encode_log(&mut out, status)?;
            encode_voters(&mut out, status)?;
            encode_counters(&mut out, &status.counters)?;
        }
        encode_stages(&mut out, &self.since_start)
    }
}

impl Snapshot {
    fn encode_process(&self, out: &mut Out) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        out.gauges("kraft_build_info", "Version of this server.", [(version, 1)])?;
        out.seconds("kraft_uptime", "Time since the start.", self.uptime_seconds)?;
        out.seconds(
            "kraft_status_age",
            "Time since the replica published its status.",
            self.status_age_seconds,
        )?;
        out.gauge("kraft_connections", "Client connections open.", self.connections as i64)?;
        out.counter(
            "kraft_connections_refused",
            "Connections refused over max.connections.",
            self.refused_connections,
        )?;
        out.counter(
            "kraft_connections_closed_for_bad_input",
            "Connections closed for what they sent.",
            self.closed_for_bad_input,
        )?;
        if let Some(bytes) = self.resident_bytes {
            out.gauge("process_resident_memory_bytes", "Resident memory of the process.", bytes as i64)?;
        }
        Ok(())
    }

    fn encode_kafka_raft(&self, out: &mut Out, s: &Status) -> fmt::Result {
        let states = ROLES.map(|role| ([("state", role)], i64::from(role == s.role)));
        out.gauges(
            "kafka_server_raft_metrics_current_state",
            "1 for the current state of this node.",
            states,
        )?;
        let gauges = [
            ("current_leader", "Id of the leader, -1 where unknown.", s.leader_id.map_or(-1, i64::from)),
            ("current_epoch", "Current epoch of the quorum.", i64::from(s.epoch)),
            (
                "high_watermark",
                "High watermark of this node, -1 where unknown.",
                s.high_watermark.unwrap_or(-1),
            ),
            ("log_end_offset", "Log end offset of this node.", s.log_end_offset),
            ("number_of_voters", "Voters of the quorum.", s.voters.len() as i64),
            ("number_of_observers", "Observers that fetch from this leader.", s.observers.len() as i64),
        ];
        for (name, help, value) in gauges {
            out.gauge(&format!("kafka_server_raft_metrics_{name}"), help, value)?;
        }
        let rate = self.append_records_rate;
        out.float(
            "kafka_server_raft_metrics_append_records_rate",
            "Records per second appended as leader.",
            rate,
        )?;
        if let Some((avg, max)) = self.commit_latency_ms {
            out.float(
                "kafka_server_raft_metrics_commit_latency_avg",
                "Mean time to commit in ms, last interval.",
                avg,
            )?;
            out.float(
                "kafka_server_raft_metrics_commit_latency_max",
                "Longest time to commit in ms, last interval.",
                max,
            )?;
        }
        Ok(())
    }
}

fn encode_log(out: &mut Out, s: &Status) -> fmt::Result {
    let gauges = [
        ("kraft_has_leader", "1 where a leader is known.", i64::from(s.leader_id.is_some())),
        ("kraft_ready", "1 where a leader is known and this node has caught up with it.", i64::from(s.ready)),
        ("kraft_log_start_offset", "First offset of the log.", s.log_start_offset),
        ("kraft_flushed_offset", "Records below it are durable on this node.", s.flushed_offset),
        ("kraft_log_size_bytes", "Bytes of batches in the log.", s.log_size_bytes as i64),
        ("kraft_unflushed_bytes", "Bytes appended and not flushed.", s.unflushed_bytes as i64),
        ("kraft_producer_ids", "Idempotent producers remembered.", s.producer_ids as i64),
        (
            "kraft_parked_requests",
            "Requests that wait for data, a commit or a timeout.",
            s.parked_requests as i64,
        ),
    ];
    gauges.into_iter().try_for_each(|(name, help, value)| out.gauge(name, help, value))
}

fn encode_voters(out: &mut Out, s: &Status) -> fmt::Result {
    let ids: Vec<String> = s.voters.iter().map(|v| v.node_id.to_string()).collect();
    let by_voter = |value: fn(&crate::replica::VoterStatus) -> i64| {
        let labels = ids.iter().map(|id| [("voter", id.as_str())]);
        labels.zip(s.voters.iter().map(value)).collect::<Vec<_>>()
    };
    out.gauges(
        "kraft_voter_log_end_offset",
        "Log end offset of each voter, as the leader knows it.",
        by_voter(|v| v.log_end_offset),
    )?;
    out.gauges(
        "kraft_voter_lag_records",
        "Records by which a voter is behind the leader.",
        by_voter(|v| v.lag),
    )
}

fn encode_counters(out: &mut Out, c: &Counters) -> fmt::Result {
    let counters = [
        ("kraft_produce_requests", "Produce requests taken.", c.produce_requests),
        ("kraft_produced_batches", "Record batches appended for producers.", c.produced_batches),
        ("kraft_produced_bytes", "Bytes appended for producers.", c.produced_bytes),
        ("kraft_produced_records", "Records appended for producers.", c.produced_records),
        (
            "kraft_duplicate_batches",
            "Batches of idempotent producers recognised as sent before.",
            c.duplicate_batches,
        ),
        ("kraft_fetch_requests", "Fetch requests of consumers.", c.fetch_requests),
        ("kraft_fetched_bytes", "Bytes sent to consumers.", c.fetched_bytes),
        ("kraft_replica_fetches", "Fetch requests of voters and observers.", c.replica_fetches),
        ("kraft_elections", "Elections that this node began.", c.elections),
        ("kraft_leader_changes", "Changes of leader that this node saw.", c.leader_changes),
        ("kraft_flushes", "Durable writes of the log.", c.flushes),
        ("kraft_committed_bytes", "Bytes that the high watermark has passed.", c.committed_bytes),
        ("kraft_refused_requests", "Requests answered with an error.", c.refused_requests),
    ];
    counters.into_iter().try_for_each(|(name, help, value)| out.counter(name, help, value))
}

fn encode_stages(out: &mut Out, stages: &StageHistograms) -> fmt::Result {
    let mut family = out.encoder.encode_descriptor(
        "kraft_produce_stage",
        "Time that produce requests spent in each stage.",
        Some(&Unit::Seconds),
        MetricType::Histogram,
    )?;
    for (name, histogram) in stages.iter() {
        let (sum, buckets) = bucketed(histogram);
        let labels = [("stage", name)];
        let mut metric = family.encode_family(&labels)?;
        metric.encode_histogram::<[(&str, &str); 1]>(sum, histogram.len(), &buckets, None)?;
    }
    Ok(())
}

/// Sum in seconds, and (upper bound in seconds, count) of each bucket; the last bound is infinite.
fn bucketed(histogram: &Histogram<u64>) -> (f64, Vec<(f64, u64)>) {
    let bounds = BUCKETS_NS.iter().map(|ns| *ns as f64 / 1e9).chain([f64::INFINITY]);
    let mut buckets: Vec<(f64, u64)> = bounds.map(|bound| (bound, 0)).collect();
    let mut sum = 0.0;
    for step in histogram.iter_recorded() {
        let value = histogram.median_equivalent(step.value_iterated_to());
        let bucket = BUCKETS_NS.partition_point(|bound| *bound < value);
        buckets[bucket].1 += step.count_since_last_iteration();
        sum += value as f64 / 1e9 * step.count_since_last_iteration() as f64;
    }
    (sum, buckets)
}

/// Writes single values.
struct Out<'a> {
    encoder: DescriptorEncoder<'a>,
}

impl Out<'_> {
    fn gauge(&mut self, name: &str, help: &str, value: i64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn float(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    fn seconds(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?;
        ConstGauge::new(value).encode(metric)
    }

    /// The encoder appends `_total`.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// One gauge with a label for each value.
    fn gauges<'l>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); 1], i64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
