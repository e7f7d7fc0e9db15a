//! `kraft-perf consume`: how fast a log is read. Each consumer is a thread with one connection and one Fetch at a time, and
//! looks at nothing but where each batch ends: what is measured is the server.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::json;

use kraft::protocol::frame_length;
use kraft::server::control::latency::{StageHistograms, resizable};

use crate::cluster::{Cluster, connect, error_name};
use crate::flags::{LogFlags, ReaderFlags, at_least_one, seconds};
use crate::wire::{self, FetchRequest};
use crate::written::Written;

const MIB: f64 = 1_048_576.0;
/// What a consumer asks for in all: as much as of its partition, for there is one.
const ANSWER_BYTES_MAX: usize = 256 << 20;
/// Of an answer beside its records.
const HEAD_BYTES_MAX: usize = 4 << 10;
/// A consumer at the end of the log is done, so nobody waits for records.
const WAIT_MS: i32 = 100;

#[derive(Debug, Args)]
pub(crate) struct ConsumeOptions {
    #[command(flatten)]
    pub(crate) log: LogFlags,

    /// Consumers at once, each with a connection and a thread
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) clients: usize,
    /// Where the first one begins
    #[arg(long, default_value_t = 0, value_name = "OFFSET")]
    pub(crate) from: u64,
    /// So many records further on each next one begins
    #[arg(long, default_value_t = 0, value_name = "RECORDS")]
    pub(crate) step: u64,
    /// What each reads, and no more than there was when it began [default: all that there is]
    #[arg(long, value_name = "N")]
    pub(crate) num_records: Option<u64>,
    /// Ends sooner: who has read all that it was to read begins again until then
    #[arg(long, value_name = "SECONDS")]
    pub(crate) duration: Option<f64>,
    /// max.partition.fetch.bytes
    #[arg(long, default_value_t = 1 << 20, value_name = "BYTES")]
    pub(crate) max_partition_bytes: usize,

    #[command(flatten)]
    pub(crate) reader: ReaderFlags,
}

/// What the threads work from: every value checked.
struct Plan {
    address: String,
    topic: String,
    num_records: Option<u64>,
    duration: Option<Duration>,
    bytes_max: usize,
    timeout: Duration,
}

/// What one consumer has read.
struct Seen {
    bytes: u64,
    records: u64,
    elapsed: Duration,
    /// Of each Fetch, from its sending to the last byte of its answer, in ns.
    latency: Histogram<u64>,
}

pub(crate) fn run(options: &ConsumeOptions) -> Result<Written, String> {
    at_least_one("--clients", options.clients)?;
    at_least_one("--max-partition-bytes", options.max_partition_bytes)?;
    if options.max_partition_bytes > ANSWER_BYTES_MAX {
        return Err(format!("--max-partition-bytes {}: give 256 MiB at most.", options.max_partition_bytes));
    }
    let topic = options.log.topic()?;
    let starts = starts(options)?;
    let cluster = Cluster::new(&options.log.bootstrap()?, &topic);
    let plan = Plan {
        address: cluster.leader(0)?.address,
        topic,
        num_records: options.num_records,
        duration: options.duration.map(|duration| seconds("--duration", duration)).transpose()?,
        bytes_max: options.max_partition_bytes,
        timeout: options.reader.timeout(),
    };
    let (seen, elapsed) = consume(&plan, &starts)?;
    show(options, &seen, elapsed)
}

/// Where each begins. An offset is at most 2^63 - 1.
fn starts(options: &ConsumeOptions) -> Result<Vec<u64>, String> {
    let last = (options.clients as u64 - 1)
        .checked_mul(options.step)
        .and_then(|steps| steps.checked_add(options.from))
        .filter(|last| *last <= i64::MAX as u64);
    match last {
        Some(_) => Ok((0..options.clients as u64).map(|n| options.from + n * options.step).collect()),
        None => Err("--from, --step: the last consumer would begin behind every offset.".to_string()),
    }
}

/// All of them from the moment that the last one is connected, and how long until the last one was done.
fn consume(plan: &Plan, starts: &[u64]) -> Result<(Vec<Seen>, Duration), String> {
    let barrier = Barrier::new(starts.len());
    let (results, elapsed) = std::thread::scope(|scope| {
        let consumers: Vec<_> = starts
            .iter()
            .map(|start| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let consumer = Consumer::connect(plan);
                    barrier.wait();
                    let began = Instant::now();
                    let seen = consumer.and_then(|mut consumer| consumer.read(plan, *start, began));
                    (seen, began, Instant::now())
                })
            })
            .collect();
        let done: Vec<_> = consumers.into_iter().map(|c| c.join().expect("no consumer panics")).collect();
        let began = done.iter().map(|(_, began, _)| *began).min();
        let ended = done.iter().map(|(.., ended)| *ended).max();
        let elapsed = began.zip(ended).map_or(Duration::ZERO, |(began, ended)| ended - began);
        (done.into_iter().map(|(seen, ..)| seen).collect::<Vec<_>>(), elapsed)
    });
    let seen = results.into_iter().collect::<Result<Vec<Seen>, String>>()?;
    Ok((seen, elapsed))
}

struct Consumer {
    stream: TcpStream,
    /// Of the answer under way.
    frame: Vec<u8>,
}

impl Consumer {
    fn connect(plan: &Plan) -> Result<Consumer, String> {
        let stream = connect(&plan.address)?;
        stream.set_read_timeout(Some(plan.timeout)).map_err(|e| format!("{}: {e}", plan.address))?;
        Ok(Consumer { stream, frame: vec![0; plan.bytes_max + HEAD_BYTES_MAX] })
    }

    fn read(&mut self, plan: &Plan, start: u64, began: Instant) -> Result<Seen, String> {
        let mut seen = Seen { bytes: 0, records: 0, elapsed: Duration::ZERO, latency: resizable() };
        let is_over = |seen: &Seen| plan.duration.is_some_and(|duration| seen.elapsed >= duration);
        let mut offset = start;
        // Known from the first answer.
        let mut end = None;
        while end.is_none_or(|end| offset < end) && !is_over(&seen) {
            let sent = Instant::now();
            let fetched = self.fetch(plan, offset)?;
            // Without an upper bound it takes every value.
            let _ = seen.latency.record(sent.elapsed().as_nanos() as u64);
            let end = *end.get_or_insert_with(|| {
                plan.num_records
                    .map_or(fetched.high_watermark, |n| fetched.high_watermark.min(start.saturating_add(n)))
            });
            if start >= end {
                return Err(format!("there is nothing to read at offset {start}: the log ends at {end}."));
            }
            if fetched.next_offset <= offset {
                return Err(format!("nothing was read at offset {offset} of {end}."));
            }
            seen.bytes += fetched.bytes;
            seen.records += fetched.next_offset - offset;
            seen.elapsed = began.elapsed();
            offset = fetched.next_offset;
            if offset >= end && plan.duration.is_some() {
                offset = start;
            }
        }
        Ok(seen)
    }

    fn fetch(&mut self, plan: &Plan, offset: u64) -> Result<Fetched, String> {
        let failed = |e: io::Error| format!("a Fetch at offset {offset}: {e}");
        let request = FetchRequest {
            topic: &plan.topic,
            offset: offset as i64,
            bytes_max: plan.bytes_max as i32,
            wait_ms: WAIT_MS,
        };
        self.stream.write_all(&request.encode()).map_err(failed)?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(failed)?;
        let length = frame_length(&length, ANSWER_BYTES_MAX + HEAD_BYTES_MAX).map_err(|e| format!("{e}"))?;
        let length = length.unwrap_or(0);
        if self.frame.len() < length {
            // One batch is given whatever it measures.
            self.frame.resize(length, 0);
        }
        self.stream.read_exact(&mut self.frame[..length]).map_err(failed)?;
        let answer = wire::decode_fetch_answer(&self.frame[..length])
            .ok_or_else(|| format!("a Fetch at offset {offset} is answered with something else"))?;
        if !answer.error.is_none() {
            return Err(format!("a Fetch at offset {offset} is answered with {}", error_name(answer.error)));
        }
        Ok(Fetched {
            bytes: answer.records.len() as u64,
            next_offset: wire::end_of_batches(answer.records).map_or(offset, |end| end as u64),
            high_watermark: answer.high_watermark.max(0) as u64,
        })
    }
}

struct Fetched {
    bytes: u64,
    next_offset: u64,
    high_watermark: u64,
}

fn show(options: &ConsumeOptions, seen: &[Seen], elapsed: Duration) -> Result<Written, String> {
    let mut latency = resizable();
    for consumer in seen {
        // Without an upper bound it takes every value.
        let _ = latency.add(&consumer.latency);
    }
    let mut stages = StageHistograms::default();
    stages.add("latency", &latency);
    let seconds = elapsed.as_secs_f64();
    let per_second = |count: u64, seconds: f64| if seconds > 0.0 { count as f64 / seconds } else { 0.0 };
    let bytes: u64 = seen.iter().map(|consumer| consumer.bytes).sum();
    let records: u64 = seen.iter().map(|consumer| consumer.records).sum();
    let rates: Vec<f64> = seen.iter().map(|c| per_second(c.bytes, c.elapsed.as_secs_f64())).collect();
    let value = json!({
        "what": "consume",
        "clients": options.clients,
        "from": options.from,
        "step": options.step,
        "max_partition_bytes": options.max_partition_bytes,
        "seconds": seconds,
        "bytes": bytes,
        "records": records,
        "bytes_per_second": per_second(bytes, seconds),
        "records_per_second": per_second(records, seconds),
        "bytes_per_second_of_each": rates,
        "latency_unit": "us",
        "latency": stages.json(),
    });
    let text = format!(
        "{records} records read, {:.1} records/sec ({:.2} MB/sec) by {} consumers in {seconds:.2} s; of Fetches:\n{}",
        per_second(records, seconds),
        per_second(bytes, seconds) / MIB,
        options.clients,
        stages.table()
    );
    Written::result(text, &value, options.reader.json(), records > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Arguments, Command};
    use clap::Parser;

    fn options(flags: &str) -> ConsumeOptions {
        let arguments = ["kraft-perf", "consume"].into_iter().chain(flags.split_whitespace());
        match Arguments::try_parse_from(arguments).unwrap().command {
            Some(Command::Consume(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn each_begins_a_step_behind_the_one_before_it() {
        assert_eq!(starts(&options("--clients 3 --from 7 --step 10")), Ok(vec![7, 17, 27]));
        for flags in ["--from 9223372036854775808", "--clients 3 --step 9223372036854775807"] {
            assert!(starts(&options(flags)).unwrap_err().contains("--step"), "{flags}");
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_flag() {
        let long = "x".repeat(250);
        for flags in [
            "--clients 0",
            &format!("--topic {long}"),
            "--bootstrap-server here",
            "--max-partition-bytes 999999999",
        ] {
            let refused = run(&options(flags)).err().unwrap();
            assert!(refused.starts_with(flags.split(' ').next().unwrap()), "{refused}");
        }
    }
}
