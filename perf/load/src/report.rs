//! What a run has shown: text, JSON, interval log, percentile distribution, plot.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use serde_json::{Value, json};

use kraft::server::control::latency::StageHistograms;

use crate::batch::Payload;
use crate::compression::Compression;
use crate::options::{End, LoadOptions, Plan};
use crate::recording::{Pause, Recording, Seconds};
use crate::written::{Written, write};
use crate::{hgrm, plot};

/// From the due time (open loop) or from the first sending.
const LATENCY: &str = "latency";
/// Open loop only: from the sending.
const SERVICE: &str = "service";
/// Kafka's tools mean this by a megabyte.
const MIB: f64 = 1_048_576.0;
/// For people, as HdrHistogram's own recorders write the maximum of an interval: ms.
const HLOG_MAX_DIVISOR: f64 = 1_000_000.0;

pub(crate) struct Report {
    plan: Plan,
    each: Vec<Recording>,
    total: Recording,
    unanswered: u64,
    seconds: f64,
    start: SystemTime,
    is_cut_short: bool,
    leader: String,
    batch_bytes: usize,
    client_cpu_seconds: f64,
}

impl Report {
    /// `start`: the wall clock when the first batch was sent.
    pub(crate) fn new(
        plan: Plan,
        seconds: Seconds,
        start: SystemTime,
        is_cut_short: bool,
        leader: String,
        batch_bytes: usize,
        client_cpu_seconds: f64,
    ) -> Result<Report, String> {
        let mut total = Recording::new();
        seconds.each.iter().for_each(|second| total.merge(second));
        let seen = Duration::from_nanos(total.last_ack_ns).saturating_sub(plan.warmup).as_secs_f64();
        let measured = match plan.end {
            End { after: Some(duration), batches: None } if !is_cut_short => duration.as_secs_f64(),
            _ => seen,
        };
        let (each, unanswered) = (seconds.each, seconds.unanswered);
        let seconds = measured;
        Ok(Report {
            plan,
            each,
            total,
            unanswered,
            seconds,
            start,
            is_cut_short,
            leader,
            batch_bytes,
            client_cpu_seconds,
        })
    }

    pub(crate) fn write(&self, options: &LoadOptions) -> Result<Written, String> {
        let stages = self.stages();
        let mut written =
            Written { stdout: self.text(&stages), notes: Vec::new(), is_complete: self.is_complete() };
        if let Some(path) = &options.json {
            let text = format!("{:#}\n", self.json(&stages));
            if path.as_os_str() == "-" {
                written.stdout = text;
            } else {
                written.notes.push(write(path, text.as_bytes())?);
            }
        }
        if let Some(path) = &options.hlog {
            written.notes.push(write(path, &self.hlog()?)?);
        }
        if let Some(path) = &options.hgrm {
            written.notes.push(write(path, hgrm::text(&self.total.latency).as_bytes())?);
        }
        if let Some(path) = &options.svg {
            written.notes.push(write(path, plot::svg(&stages, &self.title())?.as_bytes())?);
        }
        Ok(written)
    }

    fn is_complete(&self) -> bool {
        self.total.counts.records > 0 && self.total.counts.failed_records == 0 && self.unanswered == 0
    }

    fn stages(&self) -> StageHistograms {
        let mut stages = StageHistograms::default();
        stages.add(LATENCY, &self.total.latency);
        if self.plan.rate.is_some() {
            stages.add(SERVICE, &self.total.service);
        }
        stages
    }

    fn rates(&self) -> (f64, f64) {
        let per_second = |count: u64| if self.seconds > 0.0 { count as f64 / self.seconds } else { 0.0 };
        (per_second(self.total.counts.records), per_second(self.total.counts.value_bytes))
    }

    fn title(&self) -> String {
        let Plan { clients, in_flight, rate, records_per_batch, .. } = &self.plan;
        let records = match &self.plan.payload {
            Payload::Random { min, max } if min == max => format!("{min} B"),
            Payload::Random { min, max } => format!("{min} to {max} B"),
            Payload::Lines(_) => "a file's records".to_string(),
        };
        let pace = rate.map_or("closed loop".to_string(), |rate| format!("{rate} records/s"));
        let codec = match self.plan.compression {
            Compression::None => String::new(),
            codec => format!(", {}", codec.name()),
        };
        format!("{pace}, {clients} x {in_flight} in flight, {records_per_batch} x {records}{codec}")
    }

    /// The first line has the form of kafka-producer-perf-test's last one, for scripts that read it.
    fn text(&self, stages: &StageHistograms) -> String {
        let (records, bytes) = self.rates();
        let h = &self.total.latency;
        let ms = |quantile: f64| h.value_at_quantile(quantile) as f64 / 1e6;
        let mut text = format!(
            "{} records sent, {records:.1} records/sec ({:.2} MB/sec), {:.2} ms avg latency, {:.2} ms max latency, \
             {:.2} ms 50th, {:.2} ms 95th, {:.2} ms 99th, {:.2} ms 99.9th.\n",
            self.total.counts.records,
            bytes / MIB,
            h.mean() / 1e6,
            ms(1.0),
            ms(0.5),
            ms(0.95),
            ms(0.99),
            ms(0.999)
        );
        let _ =
            writeln!(text, "{}, {:.1} s measured, {} of CPU here", self.title(), self.seconds, self.cpu());
        let _ = write!(text, "{}", stages.table());
        if let Some(pause) = self.longest_pause() {
            let ms = (pause.to_ns - pause.from_ns) as f64 / 1e6;
            let _ = writeln!(text, "longest time without an acknowledgement: {ms:.1} ms");
        }
        if let Some(each) = self.total.of_each.filter(|_| self.plan.clients > 1) {
            let _ = writeln!(text, "batches of each connection: {} to {}", each.fewest, each.most);
        }
        text.push_str(&self.trouble());
        text
    }

    fn cpu(&self) -> String {
        format!("{:.2} s", self.client_cpu_seconds)
    }

    /// A line per kind of error; nothing if there was none.
    fn trouble(&self) -> String {
        let mut text = String::new();
        let counts = &self.total.counts;
        if self.total.error_count() > 0 || counts.retries > 0 {
            let _ = writeln!(
                text,
                "errors: {} (batches sent again: {}, records refused for good: {})",
                self.total.error_count(),
                counts.retries,
                counts.failed_records
            );
        }
        for (what, count) in &self.total.errors {
            let _ = writeln!(text, "{count:>8}  {what}");
        }
        if self.unanswered > 0 {
            let _ = writeln!(text, "never answered: {} batches", self.unanswered);
        }
        if self.is_cut_short {
            text.push_str("interrupted: this is what was seen until then\n");
        }
        text
    }

    fn longest_pause(&self) -> Option<&Pause> {
        self.total.pauses.iter().max_by_key(|pause| pause.to_ns - pause.from_ns)
    }

    fn json(&self, stages: &StageHistograms) -> Value {
        let (records, bytes) = self.rates();
        let counts = &self.total.counts;
        json!({
            "load": self.load_json(),
            "leader": self.leader,
            "start_unix_ns": unix_ns(self.start, 0),
            "seconds": self.seconds,
            "interrupted": self.is_cut_short,
            "batches": counts.batches,
            "records": counts.records,
            "bytes": counts.value_bytes,
            "batches_per_second": if self.seconds > 0.0 { counts.batches as f64 / self.seconds } else { 0.0 },
            "records_per_second": records,
            "bytes_per_second": bytes,
            "latency_unit": "us",
            "latency": stages.json(),
            "errors": self.total.errors,
            "retries": counts.retries,
            "failed_records": counts.failed_records,
            "unanswered_batches": self.unanswered,
            "batches_of_each": self.total.of_each.map(|each| json!({ "fewest": each.fewest, "most": each.most })),
            "client_cpu_seconds": self.client_cpu_seconds,
            "records_each_second": self.each.iter().map(|second| second.all_records).collect::<Vec<u64>>(),
            "pauses": self.total.pauses.iter().map(|pause| self.pause_json(pause)).collect::<Vec<Value>>(),
        })
    }

    fn load_json(&self) -> Value {
        let plan = &self.plan;
        let record_bytes = match &plan.payload {
            Payload::Random { min, max } => json!([min, max]),
            Payload::Lines(lines) => json!({ "lines": lines.len() }),
        };
        json!({
            "topic": plan.topic,
            "clients": plan.clients,
            "threads": plan.threads,
            "in_flight": plan.in_flight,
            "rate": plan.rate,
            "record_bytes": record_bytes,
            "records_per_batch": plan.records_per_batch,
            "batch_bytes_max": self.batch_bytes,
            "acks": plan.acks,
            "compression": plan.compression.name(),
            "idempotent": plan.is_idempotent,
            "warmup_seconds": plan.warmup.as_secs_f64(),
            "wait": format!("{:?}", plan.wait).to_lowercase(),
        })
    }

    fn pause_json(&self, pause: &Pause) -> Value {
        json!({
            "last_ack_unix_ns": unix_ns(self.start, pause.from_ns),
            "next_ack_unix_ns": unix_ns(self.start, pause.to_ns),
            "ms": (pause.to_ns - pause.from_ns) as f64 / 1e6,
        })
    }

    /// One interval per second that has something in it, in ns.
    fn hlog(&self) -> Result<Vec<u8>, String> {
        let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
        let mut builder = IntervalLogWriterBuilder::new();
        builder.with_max_value_divisor(HLOG_MAX_DIVISOR);
        builder.add_comment("[Histogram log format version 1.3]");
        builder.add_comment(&format!("[kraft-perf: {}; latencies in ns]", self.title()));
        builder.with_start_time(self.start).with_base_time(self.start);
        let failed = |e: &dyn std::fmt::Debug| format!("the interval log cannot be encoded ({e:?}).");
        let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).map_err(|e| failed(&e))?;
        for (second, recording) in self.each.iter().enumerate() {
            let at = Duration::from_secs(second as u64);
            for (name, histogram) in [(LATENCY, &recording.latency), (SERVICE, &recording.service)] {
                if !histogram.is_empty() {
                    let written =
                        writer.write_histogram(histogram, at, Duration::from_secs(1), Tag::new(name));
                    written.map_err(|e| failed(&e))?;
                }
            }
        }
        Ok(bytes)
    }
}

fn unix_ns(start: SystemTime, since_start_ns: u64) -> u64 {
    let start = start.duration_since(UNIX_EPOCH).unwrap_or_default();
    start.as_nanos() as u64 + since_start_ns
}
