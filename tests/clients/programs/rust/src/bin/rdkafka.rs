//! The rdkafka crate: librdkafka, built from its sources.

use clients::{Client, Outcome, PATIENCE, Record, Start, say_offset, say_ready, serve};
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord, Producer};
use rdkafka::{ClientConfig, Offset, TopicPartitionList};
use std::collections::VecDeque;
use std::error::Error;
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;

struct Rdkafka {
    runtime: Runtime,
    bootstrap: String,
    topic: String,
}

impl Rdkafka {
    fn config(&self, more: &[(&str, &str)]) -> ClientConfig {
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", &self.bootstrap);
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "500");
        for (key, value) in more {
            config.set(*key, *value);
        }
        config
    }

    fn consumer(&self) -> Result<BaseConsumer, KafkaError> {
        let settings = [
            ("group.id", "no-such-group"),
            ("enable.auto.commit", "false"),
            ("fetch.wait.max.ms", "100"),
            ("auto.offset.reset", "earliest"),
        ];
        self.config(&settings).create()
    }

    fn at(&self, offset: Offset) -> Result<TopicPartitionList, KafkaError> {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic, 0, offset)?;
        Ok(list)
    }

    async fn told(answer: DeliveryFuture) -> Outcome {
        say_offset(answer.await?.map_err(|(error, _)| error)?.offset);
        Ok(())
    }
}

/// The next message within so long, or the client's error.
type Polled = Result<Option<Record>, KafkaError>;

fn poll(consumer: &BaseConsumer, limit: Duration) -> Polled {
    let message = match consumer.poll(limit) {
        None => return Ok(None),
        // A connection went, which the crate tells as an error; librdkafka goes on by itself.
        Some(Err(KafkaError::MessageConsumption(
            RDKafkaErrorCode::BrokerTransportFailure | RDKafkaErrorCode::AllBrokersDown,
        ))) => return Ok(None),
        Some(message) => message?,
    };
    let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
    Ok(Some(Record {
        key: message.key().map(<[u8]>::to_vec),
        value: message.payload().map(<[u8]>::to_vec),
        headers: headers.map(|h| (h.key.to_string(), h.value.map(<[u8]>::to_vec))).collect(),
        offset: message.offset(),
        timestamp_ms: message.timestamp().to_millis().unwrap_or(-1),
    }))
}

fn owned_headers(record: &Record) -> OwnedHeaders {
    let headers = record.headers.iter();
    headers.fold(OwnedHeaders::new(), |all, (key, value)| all.insert(Header { key, value: value.as_ref() }))
}

impl Client for Rdkafka {
    fn produce(&self, records: Vec<Record>, compression: &str, idempotent: bool, pace: Duration) -> Outcome {
        let idempotent = idempotent.to_string();
        let settings = [
            ("acks", "all"),
            ("linger.ms", "5"),
            ("compression.type", compression),
            ("enable.idempotence", idempotent.as_str()),
            ("message.max.bytes", "2097152"),
        ];
        let producer: FutureProducer = self.config(&settings).create()?;
        self.runtime.block_on(async {
            let mut answers = VecDeque::new();
            for r in &records {
                let mut sent = FutureRecord::<[u8], [u8]>::to(&self.topic).partition(0);
                (sent.key, sent.payload) = (r.key.as_deref(), r.value.as_deref());
                sent.headers = (!r.headers.is_empty()).then(|| owned_headers(r));
                answers.push_back(producer.send_result(sent).map_err(|(error, _)| error)?);
                if !pace.is_zero() {
                    tokio::time::sleep(pace).await;
                    // Some answers behind the sending, so that what was sent does not wait for them.
                    if answers.len() > 10 {
                        Self::told(answers.pop_front().ok_or("no answer")?).await?;
                    }
                }
            }
            for answer in answers {
                Self::told(answer).await?;
            }
            Ok(())
        })
    }

    fn consume(&self, start: Start, read: &mut dyn FnMut(Record) -> bool) -> Outcome {
        let consumer = self.consumer()?;
        let (low, high) = consumer.fetch_watermarks(&self.topic, 0, PATIENCE)?;
        let offset = match start {
            Start::Beginning => Offset::Offset(low),
            Start::End => Offset::Offset(high),
            Start::Committed => Offset::Invalid,
            Start::Offset(offset) => Offset::Offset(offset),
            Start::Time(ms) => {
                let found = consumer.offsets_for_times(self.at(Offset::Offset(ms))?, PATIENCE)?;
                found.elements().first().ok_or("no answer for the time")?.offset()
            }
        };
        consumer.assign(&self.at(offset)?)?;
        say_ready();
        loop {
            if let Some(record) = poll(&consumer, Duration::from_secs(1))?
                && !read(record)
            {
                return Ok(());
            }
        }
    }

    fn group(&self) -> Outcome {
        let consumer = self.consumer()?;
        consumer.subscribe(&[&self.topic])?;
        let began = Instant::now();
        while began.elapsed() < PATIENCE {
            poll(&consumer, Duration::from_millis(200))?;
        }
        Ok(())
    }

    fn topics(&self) -> Result<Vec<String>, Box<dyn Error>> {
        let metadata = self.consumer()?.fetch_metadata(None, PATIENCE)?;
        Ok(metadata.topics().iter().map(|topic| topic.name().to_string()).collect())
    }

    fn commit(&self) -> Outcome {
        Ok(self.consumer()?.commit(&self.at(Offset::Offset(1))?, CommitMode::Sync)?)
    }

    fn transaction(&self) -> Outcome {
        let producer: FutureProducer = self.config(&[("transactional.id", "no-such-transaction")]).create()?;
        Ok(producer.init_transactions(PATIENCE)?)
    }

    fn create(&self) -> Outcome {
        let admin: AdminClient<DefaultClientContext> = self.config(&[]).create()?;
        let topic = NewTopic::new("new-topic", 1, TopicReplication::Fixed(1));
        let options = AdminOptions::new().request_timeout(Some(PATIENCE));
        let answers = self.runtime.block_on(admin.create_topics(&[topic], &options))?;
        match answers.into_iter().next() {
            Some(Err((_, code))) => Err(format!("{code:?}: {code}").into()),
            _ => Ok(()),
        }
    }
}

fn main() {
    serve(|bootstrap, topic| {
        let runtime = Runtime::new().expect("a runtime");
        Box::new(Rdkafka { runtime, bootstrap: bootstrap.to_string(), topic: topic.to_string() })
    });
}
