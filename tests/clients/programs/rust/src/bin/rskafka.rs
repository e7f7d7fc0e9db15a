//! rskafka.

use clients::{Absent, Client, Outcome, PATIENCE, Record, Start, say_offset, say_ready, serve};
use rskafka::BackoffConfig;
use rskafka::client::partition::{Compression, OffsetAt, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client as Connected, ClientBuilder};
use std::time::Duration;
use tokio::runtime::Runtime;

struct Rskafka {
    runtime: Runtime,
    bootstrap: Vec<String>,
    topic: String,
}

impl Rskafka {
    async fn connect(&self) -> rskafka::client::error::Result<Connected> {
        let backoff = BackoffConfig { max_backoff: Duration::from_millis(500), ..BackoffConfig::default() };
        ClientBuilder::new(self.bootstrap.clone()).backoff_config(backoff).build().await
    }

    async fn partition(&self) -> rskafka::client::error::Result<PartitionClient> {
        self.connect().await?.partition_client(self.topic.as_str(), 0, UnknownTopicHandling::Error).await
    }
}

fn compression_of(name: &str) -> Compression {
    match name {
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        "zstd" => Compression::Zstd,
        _ => Compression::NoCompression,
    }
}

/// Records of one request: the client sends as one batch what it is given.
const BATCH_RECORDS_MAX: usize = 100;

impl Client for Rskafka {
    fn produce(&self, records: Vec<Record>, compression: &str, idempotent: bool, pace: Duration) -> Outcome {
        if idempotent {
            return Err(Absent("rskafka has no idempotent producer").into());
        }
        if records.iter().any(|r| r.headers.iter().any(|(_, value)| value.is_none())) {
            return Err(Absent("rskafka has no header without a value").into());
        }
        let sent = |r: &Record| rskafka::record::Record {
            key: r.key.clone(),
            value: r.value.clone(),
            headers: r.headers.iter().map(|(n, v)| (n.clone(), v.clone().unwrap_or_default())).collect(),
            timestamp: chrono::Utc::now(),
        };
        self.runtime.block_on(async {
            let partition = self.partition().await?;
            let step = if pace.is_zero() { BATCH_RECORDS_MAX } else { 1 };
            for part in records.chunks(step) {
                let offsets =
                    partition.produce(part.iter().map(sent).collect(), compression_of(compression)).await?;
                offsets.into_iter().for_each(say_offset);
                tokio::time::sleep(pace).await;
            }
            Ok(())
        })
    }

    fn consume(&self, start: Start, read: &mut dyn FnMut(Record) -> bool) -> Outcome {
        self.runtime.block_on(async {
            let partition = self.partition().await?;
            let mut offset = match start {
                Start::Beginning => partition.get_offset(OffsetAt::Earliest).await?,
                Start::Committed => return Err(Absent("rskafka has no groups").into()),
                Start::End => partition.get_offset(OffsetAt::Latest).await?,
                Start::Time(ms) => {
                    let time = chrono::DateTime::from_timestamp_millis(ms).ok_or("a time out of range")?;
                    partition.get_offset(OffsetAt::Timestamp(time)).await?
                }
                Start::Offset(offset) => offset,
            };
            say_ready();
            loop {
                let (records, _) = partition.fetch_records(offset, 1..4 << 20, 100).await?;
                for fetched in records {
                    offset = fetched.offset + 1;
                    let r = fetched.record;
                    let is_wanted = read(Record {
                        key: r.key,
                        value: r.value,
                        headers: r.headers.into_iter().map(|(name, value)| (name, Some(value))).collect(),
                        offset: fetched.offset,
                        timestamp_ms: r.timestamp.timestamp_millis(),
                    });
                    if !is_wanted {
                        return Ok(());
                    }
                }
            }
        })
    }

    fn group(&self) -> Outcome {
        Err(Absent("rskafka has no groups").into())
    }

    fn topics(&self) -> Result<Vec<String>, Box<dyn std::error::Error>> {
        self.runtime.block_on(async {
            let topics = self.connect().await?.list_topics().await?;
            Ok(topics.into_iter().map(|topic| topic.name).collect())
        })
    }

    fn commit(&self) -> Outcome {
        Err(Absent("rskafka has no groups").into())
    }

    fn transaction(&self) -> Outcome {
        Err(Absent("rskafka has no transactions").into())
    }

    fn create(&self) -> Outcome {
        self.runtime.block_on(async {
            let controller = self.connect().await?.controller_client()?;
            Ok(tokio::time::timeout(PATIENCE, controller.create_topic("new-topic", 1, 1, 5000)).await??)
        })
    }
}

fn main() {
    serve(|bootstrap, topic| {
        let runtime = Runtime::new().expect("a runtime");
        let bootstrap = bootstrap.split(',').map(str::to_string).collect();
        Box::new(Rskafka { runtime, bootstrap, topic: topic.to_string() })
    });
}
