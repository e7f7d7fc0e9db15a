//! Flags, and the checked plan that they make. Named as in kafka-producer-perf-test where they mean the same.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::batch::Payload;
use crate::compression::Compression;
use crate::consume::ConsumeOptions;
use crate::device::DeviceOptions;
use crate::end_to_end::EndToEndOptions;
use crate::flags::{LogFlags, Wait, at_least_one, seconds};
use crate::loopback::LoopbackOptions;

/// What a Kafka leader remembers of a producer (`ProducerStateEntry.NUM_BATCHES_TO_RETAIN`).
const IDEMPOTENT_IN_FLIGHT_MAX: usize = 5;
const OPEN_LOOP_IN_FLIGHT: usize = 5;
const CLOSED_LOOP_IN_FLIGHT: usize = 1;
const DURATION_S_DEFAULT: f64 = 10.0;
/// Largest request that any default configuration takes (`socket.request.max.bytes`).
const BATCH_BYTES_MAX: usize = 100 << 20;

/// Load a Kafka broker over its protocol, and measure in nanoseconds what each batch waited
///
/// Closed loop by default: each of --clients keeps --in-flight batches under way. With --rate it is an open loop:
/// batches are due on a fixed schedule, whatever the server does, and latency counts from when a batch was due.
#[derive(Debug, Parser)]
#[command(name = "kraft-perf", version, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) load: LoadOptions,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// How fast the log is read, by one consumer or many
    Consume(ConsumeOptions),
    /// What the disk itself does: durable writes without any server
    Device(DeviceOptions),
    /// How long a record takes to consumers that wait for it, one record at a time
    EndToEnd(EndToEndOptions),
    /// What the loopback itself does: request and answer between two threads
    Loopback(LoopbackOptions),
}

#[derive(Debug, Args)]
pub(crate) struct LoadOptions {
    #[command(flatten)]
    pub(crate) log: LogFlags,

    /// Connections
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) clients: usize,

    /// Batches under way on each connection [default: 1; with --rate 5]
    #[arg(long, value_name = "K")]
    pub(crate) in_flight: Option<usize>,

    /// Open loop: records per second of all connections together. -1 is the closed loop. Unlike Kafka's tool, a batch
    /// that is late is charged from when it was due
    #[arg(long, visible_alias = "throughput", default_value_t = -1.0, allow_negative_numbers = true, value_name = "R")]
    pub(crate) rate: f64,

    /// Bytes of each value: N, or LO:HI for a uniform mix
    #[arg(long, default_value = "256", value_name = "N|LO:HI", conflicts_with = "payload_file")]
    pub(crate) record_size: String,

    /// Values are drawn at random from this file
    #[arg(long, value_name = "FILE")]
    pub(crate) payload_file: Option<PathBuf>,

    /// What separates the values of --payload-file; \n and \t are understood
    #[arg(long, default_value = "\\n", value_name = "TEXT")]
    pub(crate) payload_delimiter: String,

    /// Records in each batch, which is one Produce request
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) records_per_batch: usize,

    /// all (-1) or 1
    #[arg(long, default_value = "all", allow_hyphen_values = true)]
    pub(crate) acks: String,

    /// Each connection is an idempotent producer of its own; at most 5 batches in flight
    #[arg(long)]
    pub(crate) idempotent: bool,

    /// Of each batch; done once, before the run begins. Records of random letters shrink to about 60 %
    #[arg(long, value_enum, default_value_t = Compression::None)]
    pub(crate) compression: Compression,

    /// Seconds before anything is measured [default: 1; with --num-records 0]
    #[arg(long, allow_negative_numbers = true, value_name = "SECONDS")]
    pub(crate) warmup: Option<f64>,

    /// Seconds to measure [default: 10, if --num-records is not given]
    #[arg(long, value_name = "SECONDS")]
    pub(crate) duration: Option<f64>,

    /// Measure until this many records (after the warm-up, in whole batches) have been answered; with --duration, at
    /// most so long
    #[arg(long, value_name = "N")]
    pub(crate) num_records: Option<u64>,

    /// Threads that share the connections
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) threads: usize,

    /// How a thread waits for answers. yield looks again and again and gives its core away each time: it is faster, and
    /// needs a core that nobody else wants
    #[arg(long, value_enum, default_value_t = Wait::Sleep)]
    pub(crate) wait: Wait,

    /// A connection that hears nothing for so long is closed, and its batches are sent again
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    pub(crate) request_timeout_ms: u32,

    /// Write the result as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,

    /// Write HdrHistogram's interval log, one interval per second
    #[arg(long, value_name = "FILE")]
    pub(crate) hlog: Option<PathBuf>,

    /// Write the percentile distribution in us for HdrHistogram's plotters
    #[arg(long, value_name = "FILE")]
    pub(crate) hgrm: Option<PathBuf>,

    /// Write a plot of latency by percentile
    #[arg(long, value_name = "FILE")]
    pub(crate) svg: Option<PathBuf>,

    /// A line each second on stderr, also where that is no terminal
    #[arg(long)]
    pub(crate) progress: bool,
}

/// What the threads work from: every value checked.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) bootstrap: Vec<String>,
    pub(crate) topic: String,
    pub(crate) clients: usize,
    pub(crate) threads: usize,
    pub(crate) in_flight: usize,
    /// Records per second; `None` is the closed loop.
    pub(crate) rate: Option<f64>,
    pub(crate) payload: Payload,
    pub(crate) records_per_batch: usize,
    pub(crate) acks: i16,
    pub(crate) is_idempotent: bool,
    pub(crate) compression: Compression,
    pub(crate) warmup: Duration,
    pub(crate) end: End,
    pub(crate) wait: Wait,
    pub(crate) request_timeout: Duration,
}

/// Whichever comes first; at least one of them is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) after: Option<Duration>,
    /// Of all threads together.
    pub(crate) batches: Option<u64>,
}

impl LoadOptions {
    /// `Err`: one line that names the flag.
    pub(crate) fn plan(&self) -> Result<Plan, String> {
        at_least_one("--clients", self.clients)?;
        at_least_one("--threads", self.threads)?;
        at_least_one("--records-per-batch", self.records_per_batch)?;
        let rate = self.checked_rate()?;
        let plan = Plan {
            bootstrap: self.log.bootstrap()?,
            topic: self.log.topic()?,
            clients: self.clients,
            threads: self.threads.min(self.clients),
            in_flight: self.checked_in_flight(rate.is_some())?,
            rate,
            payload: self.payload()?,
            records_per_batch: self.records_per_batch,
            acks: acks(&self.acks)?,
            is_idempotent: self.idempotent,
            compression: self.compression,
            warmup: seconds(
                "--warmup",
                self.warmup.unwrap_or(if self.num_records.is_some() { 0.0 } else { 1.0 }),
            )?,
            end: self.end()?,
            wait: self.wait,
            request_timeout: Duration::from_millis(u64::from(self.request_timeout_ms.max(1))),
        };
        if plan.is_idempotent && plan.acks != -1 {
            return Err("--idempotent needs --acks all.".to_string());
        }
        let largest = match &plan.payload {
            Payload::Random { max, .. } => *max,
            Payload::Lines(lines) => lines.iter().map(Vec::len).max().unwrap_or(0),
        };
        match plan.records_per_batch.checked_mul(largest.saturating_add(1)) {
            Some(bytes) if bytes <= BATCH_BYTES_MAX => Ok(plan),
            _ => {
                Err(format!("a batch of {} records of {largest} B is above 100 MiB.", plan.records_per_batch))
            }
        }
    }

    fn checked_rate(&self) -> Result<Option<f64>, String> {
        match self.rate {
            -1.0 => Ok(None),
            rate if rate > 0.0 && rate.is_finite() => Ok(Some(rate)),
            rate => Err(format!("--rate {rate}: give records per second, or -1 for the closed loop.")),
        }
    }

    fn checked_in_flight(&self, is_open_loop: bool) -> Result<usize, String> {
        let default = if is_open_loop { OPEN_LOOP_IN_FLIGHT } else { CLOSED_LOOP_IN_FLIGHT };
        let in_flight = self.in_flight.unwrap_or(default);
        at_least_one("--in-flight", in_flight)?;
        if self.idempotent && in_flight > IDEMPOTENT_IN_FLIGHT_MAX {
            return Err(format!(
                "--in-flight {in_flight}: an idempotent producer may have {IDEMPOTENT_IN_FLIGHT_MAX} batches in flight."
            ));
        }
        Ok(in_flight)
    }

    fn end(&self) -> Result<End, String> {
        if self.num_records == Some(0) {
            return Err("--num-records 0: nothing to do.".to_string());
        }
        let batches = self.num_records.map(|records| records.div_ceil(self.records_per_batch as u64));
        let default = batches.is_none().then_some(DURATION_S_DEFAULT);
        let after = self.duration.or(default).map(|duration| seconds("--duration", duration)).transpose()?;
        match after {
            Some(Duration::ZERO) => Err("--duration 0: nothing to do.".to_string()),
            after => Ok(End { after, batches }),
        }
    }

    fn payload(&self) -> Result<Payload, String> {
        let Some(path) = &self.payload_file else { return record_size(&self.record_size) };
        let bytes = std::fs::read(path).map_err(|e| format!("{}: cannot be read ({e}).", path.display()))?;
        let delimiter = self.payload_delimiter.replace("\\n", "\n").replace("\\t", "\t");
        let lines = split(&bytes, delimiter.as_bytes());
        if lines.is_empty() {
            return Err(format!("{}: there is no record in it.", path.display()));
        }
        Ok(Payload::Lines(lines))
    }
}

fn acks(text: &str) -> Result<i16, String> {
    match text {
        "all" | "-1" => Ok(-1),
        "1" => Ok(1),
        "0" => Err("--acks 0: without answers there is nothing to measure.".to_string()),
        _ => Err(format!("--acks {text}: give all or 1.")),
    }
}

fn record_size(text: &str) -> Result<Payload, String> {
    let (low, high) = text.split_once(':').unwrap_or((text, text));
    match (low.parse(), high.parse()) {
        (Ok(min), Ok(max)) if min <= max => Ok(Payload::Random { min, max }),
        _ => Err(format!("--record-size {text}: give bytes, or LO:HI with LO at most HI.")),
    }
}

/// The parts between delimiters, without the empty one at the end. An empty delimiter does not split.
fn split(bytes: &[u8], delimiter: &[u8]) -> Vec<Vec<u8>> {
    let mut parts = Vec::new();
    let (mut from, mut at) = (0, 0);
    while !delimiter.is_empty() && at + delimiter.len() <= bytes.len() {
        if bytes[at..].starts_with(delimiter) {
            parts.push(bytes[from..at].to_vec());
            at += delimiter.len();
            from = at;
        } else {
            at += 1;
        }
    }
    if from < bytes.len() {
        parts.push(bytes[from..].to_vec());
    }
    parts
}

#[cfg(test)]
#[path = "options_tests.rs"]
mod tests;
