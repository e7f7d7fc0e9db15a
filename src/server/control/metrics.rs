//! The Prometheus text of `/metrics`, made anew for each scrape from the snapshots that the replica has published.
//!
//! `raft.rs` has Kafka's own Raft metrics under the names that dashboards for KRaft know, `process.rs` what Prometheus' libraries
//! say of a process; `kraft_*` are ours, `room.rs` has those of what clients may have, `snapshots.rs` those of snapshots.

mod process;
mod raft;
mod room;
mod snapshots;

use std::fmt;
use std::sync::atomic::Ordering;

use hdrhistogram::Histogram;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode as encode_text;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::latency::StageHistograms;
use super::{PublishedStatus, Shared, lock};
use crate::raft::Cause;
use crate::replica::room::places::PlaceCounts;
use crate::replica::room::taken::RoomTaken;
use crate::replica::{Counters, Status};
use crate::types::LatencyBuckets;
use process::Process;

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
    fetch_records_rate: f64,
    /// Taken, and most that there are.
    places: [PlaceCounts; 2],
    room: RoomTaken,
    refused_connections: u64,
    closed_for_bad_input: u64,
    process: Option<Process>,
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
            fetch_records_rate: latency.fetch_records_rate,
            places: [shared.places(), shared.places_max()],
            room: shared.room_taken(),
            refused_connections: shared.refused_connections.load(Ordering::Relaxed),
            closed_for_bad_input: shared.closed_for_bad_input.load(Ordering::Relaxed),
            process: Process::look(),
        }
    }
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder) -> Result<(), fmt::Error> {
        let mut out = Out { encoder };
        self.encode_process(&mut out)?;
        room::encode(&mut out, &self.room, self.places)?;
        if let Some(status) = &self.status {
            room::encode_status(&mut out, status)?;
            raft::encode(&mut out, self, status)?;
            encode_log(&mut out, status)?;
            encode_voters(&mut out, status)?;
            encode_counters(&mut out, &status.counters)?;
            encode_watched(&mut out, status)?;
            snapshots::encode(&mut out, status)?;
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
        out.gauge(
            "kraft_connections",
            "Connections that have a place: of clients, guests and voters.",
            self.places[0].sum() as i64,
        )?;
        out.counter(
            "kraft_connections_refused",
            "Connections that found no place, or had to leave theirs to another one.",
            self.refused_connections,
        )?;
        out.counter(
            "kraft_connections_closed_for_bad_input",
            "Connections closed for what they sent.",
            self.closed_for_bad_input,
        )?;
        self.process.as_ref().map_or(Ok(()), |process| encode_process(out, process))
    }
}

/// Under the names of Prometheus' own client libraries.
fn encode_process(out: &mut Out, p: &Process) -> fmt::Result {
    out.float_counter("process_cpu_seconds", "CPU time of the process.", p.cpu_seconds)?;
    for (name, help, value) in [
        ("process_resident_memory_bytes", "Resident memory of the process.", p.resident_bytes),
        ("process_virtual_memory_bytes", "Virtual memory of the process.", p.virtual_bytes),
        ("process_open_fds", "Open file descriptors.", p.open_fds),
        ("process_max_fds", "File descriptors that may be open.", p.fds_max),
        ("process_threads", "Threads of the process.", p.threads),
    ] {
        out.float(name, help, value as f64)?;
    }
    out.float("process_start_time_seconds", "Start of the process since the Unix epoch.", p.start_seconds)
}

fn encode_log(out: &mut Out, s: &Status) -> fmt::Result {
    let gauges = [
        ("kraft_has_leader", "1 where a leader is known.", i64::from(s.leader_id.is_some())),
        ("kraft_ready", "1 where a quorum can commit and this node does its part in it.", i64::from(s.ready)),
        (
            "kraft_disk_full",
            "1 where this node leaves leading to others for want of room on its disk.",
            i64::from(s.unfit == Some("disk-full") || s.waits_for_room),
        ),
        (
            "kraft_log_in_doubt",
            "1 where the end of the log was damaged at a start: no vote before it has caught up with a leader.",
            i64::from(s.log_in_doubt),
        ),
        ("kraft_log_damaged", "1 where a part of the log cannot be read.", i64::from(s.log_damage.is_some())),
        (
            "kraft_clock_behind",
            "1 where the clock is far behind that of another leader.",
            i64::from(s.unfit == Some("clock-behind")),
        ),
        ("kraft_log_start_offset", "First offset of the log.", s.log_start_offset),
        (
            "kraft_log_start_wanted_offset",
            "Where the log is to start: above the start while that is not taken over.",
            s.log_start_wanted,
        ),
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
        (
            "kraft_snapshot_requests",
            "Pieces of snapshots that voters and observers have asked for.",
            c.snapshot_requests,
        ),
        ("kraft_snapshot_served_bytes", "Bytes of snapshots given to them.", c.snapshot_bytes_served),
        (
            "kraft_snapshots_fetched",
            "Snapshots of a leader's that this node has fetched.",
            c.snapshots_fetched,
        ),
        ("kraft_elections", "Elections that this node began.", c.elections),
        ("kraft_leader_changes", "How often this node became the leader.", c.leader_changes),
        ("kraft_flushes", "Durable writes of the log.", c.flushes),
        ("kraft_committed_bytes", "Bytes that the high watermark has passed.", c.committed_bytes),
        ("kraft_refused_requests", "Requests answered with an error.", c.refused_requests),
        (
            "kraft_refused_timestamps",
            "Batches refused for their timestamps, which producers drop.",
            c.refused_timestamps,
        ),
    ];
    counters.into_iter().try_for_each(|(name, help, value)| out.counter(name, help, value))
}

/// What the operating system's side of the node looks like, and why it has stood for elections.
fn encode_watched(out: &mut Out, s: &Status) -> fmt::Result {
    let watched = &s.watched;
    if let Some(bytes) = s.disk_free_bytes {
        out.float("kraft_disk_free_bytes", "Room in the file system of the log.", bytes as f64)?;
    }
    out.float(
        "kraft_disk_free_warn_bytes",
        "Below it the disk fills: make room (kraft.disk.free.warn.bytes).",
        watched.disk_free_bytes_warn as f64,
    )?;
    out.float(
        "kraft_disk_free_min_bytes",
        "Below it Produce is refused (kraft.disk.free.min.bytes).",
        watched.disk_free_bytes_min as f64,
    )?;
    let campaigns = Cause::ALL.iter().zip(watched.campaigns);
    out.counters(
        "kraft_campaigns",
        "Times that this node asked for votes, by what made it do so.",
        campaigns.map(|(cause, count)| ([("cause", cause.name())], count)),
    )?;
    out.histogram(
        "kraft_device_flush",
        "Durable writes of the log, from the ring to their completion.",
        [([], &watched.device_flushes)],
    )?;
    let peers: Vec<String> = watched.round_trips.iter().map(|(node, _)| node.to_string()).collect();
    let labels = peers.iter().map(|peer| [("peer", peer.as_str())]);
    out.histogram(
        "kraft_peer_round_trip",
        "Round trip to a voter as TCP measures it, sampled each second on connections that this node has opened.",
        labels.zip(watched.round_trips.iter().map(|(_, buckets)| buckets)),
    )
}

fn encode_stages(out: &mut Out, stages: &StageHistograms) -> fmt::Result {
    let stages: Vec<_> = stages.iter().map(|(name, histogram)| (name, bucketed(histogram))).collect();
    out.histogram(
        "kraft_produce_stage",
        "Time that produce requests spent in each stage.",
        stages.iter().map(|(name, buckets)| ([("stage", *name)], buckets)),
    )
}

fn bucketed(histogram: &Histogram<u64>) -> LatencyBuckets {
    let mut buckets = LatencyBuckets::default();
    for step in histogram.iter_recorded() {
        let value = histogram.median_equivalent(step.value_iterated_to());
        buckets.record_many(value, step.count_since_last_iteration());
    }
    buckets
}

fn encode_buckets(metric: &mut MetricEncoder, buckets: &LatencyBuckets) -> fmt::Result {
    let (sum, count) = (buckets.sum_seconds(), buckets.len());
    metric.encode_histogram::<[(&str, &str); 0]>(sum, count, &buckets.buckets(), None)
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

    /// The same, of seconds.
    fn float_counter(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// One counter with labels for each value.
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], u64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in values {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// In seconds, which is added to the name.
    fn histogram<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], &'l LatencyBuckets)>,
    ) -> fmt::Result {
        let kind = MetricType::Histogram;
        let mut family = self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), kind)?;
        for (labels, buckets) in values {
            // An empty set of labels would be written as one.
            match labels.is_empty() {
                true => encode_buckets(&mut family, buckets)?,
                false => encode_buckets(&mut family.encode_family(&labels)?, buckets)?,
            }
        }
        Ok(())
    }

    /// One gauge with labels for each value.
    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        values: impl IntoIterator<Item = ([(&'l str, &'l str); N], i64)>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in values {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }
}
