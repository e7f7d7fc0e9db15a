//! `kraft-perf end-to-end`: from the sending of a record until consumers have it. One record is on its way at a time, to
//! consumers whose Fetches wait at the end of the log; how long the first and the last of them took is what is measured.

use std::io;
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::Args;
use hdrhistogram::Histogram;
use serde_json::{Value, json};

use kraft::server::control::latency::{StageHistograms, resizable};

use crate::batch::{Payload, Template, Templates};
use crate::cluster::{self, Cluster, error_name};
use crate::compression::Compression;
use crate::epoll::Epoll;
use crate::flags::{LogFlags, ReaderFlags, at_least_one, seconds};
use crate::link::Link;
use crate::wire::{self, FetchRequest, ProduceHead};
use crate::written::Written;

/// The producer's; a consumer's is its index.
const PRODUCER: usize = usize::MAX;
const READ_BYTES: usize = 64 << 10;
/// Of a record: its answer has to fit into what a link takes.
const RECORD_BYTES_MAX: usize = 64 << 10;
/// A Fetch that waited for so long is answered empty, and sent again.
const WAIT_MS: i32 = 10_000;
const TEMPLATE_SEED: u64 = 2026;

#[derive(Debug, Args)]
pub(crate) struct EndToEndOptions {
    #[command(flatten)]
    pub(crate) log: LogFlags,

    /// Consumers that wait for each record, each with a connection
    #[arg(long, default_value_t = 1, value_name = "N")]
    pub(crate) consumers: usize,
    /// Bytes of each value
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) record_size: usize,
    /// Between the last consumer's answer and the next record, so that all of them wait again
    #[arg(long, default_value_t = 1, value_name = "MS")]
    pub(crate) pause_ms: u64,
    /// Seconds before anything is measured
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    pub(crate) warmup: f64,
    /// Seconds to measure
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    pub(crate) duration: f64,

    #[command(flatten)]
    pub(crate) reader: ReaderFlags,
}

/// In ns from before the record was sent.
struct Seen {
    acknowledged: Histogram<u64>,
    first: Histogram<u64>,
    last: Histogram<u64>,
}

pub(crate) fn run(options: &EndToEndOptions) -> Result<Written, String> {
    at_least_one("--consumers", options.consumers)?;
    at_least_one("--record-size", options.record_size)?;
    if options.record_size > RECORD_BYTES_MAX {
        return Err(format!("--record-size {}: give {RECORD_BYTES_MAX} bytes at most.", options.record_size));
    }
    let (warmup, duration) = (seconds("--warmup", options.warmup)?, seconds("--duration", options.duration)?);
    let mut course = Course::connect(options)?;
    let mut seen = Seen { acknowledged: resizable(), first: resizable(), last: resizable() };
    let mut began = Instant::now();
    let mut is_warm = false;
    while !is_warm || began.elapsed() < duration {
        if !is_warm && began.elapsed() >= warmup {
            (is_warm, began) = (true, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(options.pause_ms));
        let round = course.send_one()?;
        if is_warm {
            seen.add(&round);
        }
    }
    show(options, &seen, began.elapsed())
}

/// When one record was where, since before it was sent.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    acknowledged: Duration,
    first: Duration,
    last: Duration,
}

/// One consumer, which has always a Fetch under way.
struct Consumer {
    link: Link,
    offset: i64,
    /// It has the record that is on its way.
    has_it: bool,
}

struct Course {
    topic: String,
    epoll: Epoll,
    producer: Link,
    consumers: Vec<Consumer>,
    head: ProduceHead,
    record: Template,
    correlation_id: i32,
    timeout: Duration,
    scratch: Vec<u8>,
}

impl Course {
    fn connect(options: &EndToEndOptions) -> Result<Course, String> {
        let topic = options.log.topic()?;
        let cluster = Cluster::new(&options.log.bootstrap()?, &topic);
        let address = cluster.leader(0)?.address;
        let mut stream = cluster::connect_patiently(&address)?;
        let offset = end_of_log(&mut stream, &topic)?;
        let failed = |e: io::Error| format!("epoll: {e}");
        let epoll = Epoll::new().map_err(failed)?;
        let producer = Link::new(stream, &epoll, PRODUCER).map_err(failed)?;
        let consumers = (0..options.consumers)
            .map(|n| {
                let link = Link::new(cluster::connect_patiently(&address)?, &epoll, n).map_err(failed)?;
                Ok(Consumer { link, offset, has_it: true })
            })
            .collect::<Result<Vec<Consumer>, String>>()?;
        let timeout = options.reader.timeout();
        let head = ProduceHead::new(&topic, -1, i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX));
        let mut course = Course {
            topic,
            epoll,
            producer,
            consumers,
            head,
            record: record(options.record_size)?,
            correlation_id: 0,
            timeout,
            scratch: vec![0; READ_BYTES],
        };
        (0..options.consumers).try_for_each(|n| course.fetch(n))?;
        Ok(course)
    }

    fn fetch(&mut self, n: usize) -> Result<(), String> {
        let consumer = &mut self.consumers[n];
        let request = FetchRequest {
            topic: &self.topic,
            offset: consumer.offset,
            bytes_max: RECORD_BYTES_MAX as i32 * 2,
            wait_ms: WAIT_MS,
        };
        let sent = consumer.link.push(&self.epoll, &request.encode(), &[]);
        sent.and_then(|()| consumer.link.flush(&self.epoll)).map_err(|e| format!("consumer {n}: {e}"))
    }

    /// Until it is acknowledged and all consumers have it.
    fn send_one(&mut self) -> Result<Round, String> {
        self.correlation_id = (self.correlation_id + 1) & i32::MAX;
        self.consumers.iter_mut().for_each(|consumer| consumer.has_it = false);
        let began = Instant::now();
        let head = self.head.stamp(self.correlation_id, self.record.batch.len());
        let sent = self.producer.push(&self.epoll, head, &self.record.batch);
        sent.and_then(|()| self.producer.flush(&self.epoll)).map_err(|e| format!("the producer: {e}"))?;
        let (mut round, mut waiting) = (Round::default(), self.consumers.len());
        while waiting > 0 || round.acknowledged.is_zero() {
            let ready = self.epoll.wait(Some(self.timeout)).map_err(|e| format!("epoll: {e}"))?;
            if ready == 0 && began.elapsed() >= self.timeout {
                return Err(format!("{waiting} consumers have not had a record within {:?}.", self.timeout));
            }
            for i in 0..ready {
                match self.epoll.ready(i).token {
                    PRODUCER => {
                        if self.is_acknowledged()? {
                            round.acknowledged = began.elapsed();
                        }
                    }
                    n => {
                        if self.is_received(n)? {
                            round.last = began.elapsed();
                            if round.first.is_zero() {
                                round.first = round.last;
                            }
                            waiting -= 1;
                        }
                    }
                }
            }
        }
        // Not before: who is answered first would ask again while the others are still being answered.
        (0..self.consumers.len()).try_for_each(|n| self.fetch(n))?;
        Ok(round)
    }

    fn is_acknowledged(&mut self) -> Result<bool, String> {
        let mut answers = Vec::new();
        let read =
            self.producer.read(&mut self.scratch, |frame| answers.push(wire::decode_produce_answer(frame)));
        read.map_err(|e| format!("the producer: {e}"))?;
        for answer in &answers {
            match answer.filter(|answer| answer.correlation_id == self.correlation_id) {
                Some(answer) if answer.error.is_none() => {}
                Some(answer) => {
                    return Err(format!("a record is answered with {}", error_name(answer.error)));
                }
                None => return Err("a record is answered with something else".to_string()),
            }
        }
        Ok(!answers.is_empty())
    }

    /// This consumer has got the record with what can be read from it now.
    fn is_received(&mut self, n: usize) -> Result<bool, String> {
        let consumer = &mut self.consumers[n];
        let (mut answers, mut failed) = (0, None);
        let offset = &mut consumer.offset;
        let before = *offset;
        let read = consumer.link.read(&mut self.scratch, |frame| {
            answers += 1;
            match wire::decode_fetch_answer(frame) {
                Some(answer) if answer.error.is_none() => {
                    *offset = wire::end_of_batches(answer.records).unwrap_or(*offset).max(*offset);
                }
                Some(answer) => {
                    failed = Some(format!("a Fetch is answered with {}", error_name(answer.error)));
                }
                None => failed = Some("a Fetch is answered with something else".to_string()),
            }
        });
        read.map_err(|e| format!("consumer {n}: {e}"))?;
        if let Some(why) = failed {
            return Err(why);
        }
        if consumer.offset > before && !consumer.has_it {
            consumer.has_it = true;
            return Ok(true);
        }
        if answers > 0 {
            // It waited in vain.
            self.fetch(n)?;
        }
        Ok(false)
    }
}

/// The high watermark, by a Fetch that does not wait.
fn end_of_log(stream: &mut TcpStream, topic: &str) -> Result<i64, String> {
    let request = FetchRequest { topic, offset: 0, bytes_max: 1, wait_ms: 0 }.encode();
    let frame = cluster::ask(stream, &request).map_err(|e| format!("the end of the log: {e}"))?;
    match wire::decode_fetch_answer(&frame) {
        Some(answer) if answer.error.is_none() => Ok(answer.high_watermark.max(0)),
        Some(answer) => Err(format!("a Fetch is answered with {}", error_name(answer.error))),
        None => Err("a Fetch is answered with something else".to_string()),
    }
}

fn record(bytes: usize) -> Result<Template, String> {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let payload = Payload::Random { min: bytes, max: bytes };
    let wall_ms = since_epoch.as_millis() as i64;
    Ok(Templates::build(&payload, 1, Compression::None, wall_ms, TEMPLATE_SEED)?.get(0).clone())
}

impl Seen {
    fn add(&mut self, round: &Round) {
        let all = [&mut self.acknowledged, &mut self.first, &mut self.last];
        for (histogram, took) in all.into_iter().zip([round.acknowledged, round.first, round.last]) {
            // Without an upper bound it takes every value.
            let _ = histogram.record(took.as_nanos() as u64);
        }
    }

    fn stages(&self) -> StageHistograms {
        let mut stages = StageHistograms::default();
        stages.add("acknowledged", &self.acknowledged);
        stages.add("first", &self.first);
        stages.add("last", &self.last);
        stages
    }
}

fn show(options: &EndToEndOptions, seen: &Seen, elapsed: Duration) -> Result<Written, String> {
    let stages = seen.stages();
    let records = seen.last.len();
    let value: Value = json!({
        "what": "end-to-end",
        "consumers": options.consumers,
        "record_bytes": options.record_size,
        "pause_ms": options.pause_ms,
        "seconds": elapsed.as_secs_f64(),
        "records": records,
        "latency_unit": "us",
        "latency": stages.json(),
    });
    let text = format!(
        "{records} records, one at a time, each to {} consumers; from its sending until it was acknowledged, and until the first \
         and the last of them had it:\n{}",
        options.consumers,
        stages.table()
    );
    Written::result(text, &value, options.reader.json(), records > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::{Arguments, Command};
    use clap::Parser;

    fn options(flags: &str) -> EndToEndOptions {
        let arguments = ["kraft-perf", "end-to-end"].into_iter().chain(flags.split_whitespace());
        match Arguments::try_parse_from(arguments).unwrap().command {
            Some(Command::EndToEnd(options)) => options,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_cannot_be_is_refused_by_its_flag() {
        for flags in ["--consumers 0", "--record-size 0", "--record-size 65537", "--warmup -1"] {
            let refused = run(&options(&flags.replace(" -", "=-"))).err().unwrap();
            assert!(refused.starts_with(flags.split(' ').next().unwrap()), "{refused}");
        }
    }
}
