//! A producer: appends some records to a quorum, and says where each batch lies.
//!
//! Start a server (`bin/quickstart.sh`, or README.md), then:
//!
//! ```text
//! cargo run --example produce -- localhost:9092 10
//! ```

mod wire;

use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_protocol::messages::ProduceRequest;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kraft::record::data_batch;
use wire::{Outcome, find_leader, topic_name};

const BATCH_RECORDS: usize = 4;
/// A majority of the voters must have it: an answer then means that they have flushed the batch.
const ACKS_ALL: i16 = -1;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let servers = arguments.next().unwrap_or("localhost:9092".into());
    let count = arguments.next().map_or(Ok(10), |count| count.parse());
    let Ok(count) = count else {
        eprintln!("usage: produce [HOST:PORT[,HOST:PORT...]] [RECORDS]");
        return ExitCode::from(2);
    };
    match produce(&servers, count) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn produce(servers: &str, count: usize) -> Outcome<()> {
    // Only the leader takes records. Any server says who that is.
    let servers: Vec<String> = servers.split(',').map(str::to_string).collect();
    let (leader, mut connection) = find_leader(&servers)?;
    println!("node {leader} leads");

    let values: Vec<String> = (1..=count).map(|n| format!("hello {n}")).collect();
    for values in values.chunks(BATCH_RECORDS) {
        // Records travel in batches, which the server stores as they come. Without a producer id (`None`), one that is sent
        // again after a lost answer would be stored twice.
        let now_ms = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as i64;
        let bytes: Vec<&[u8]> = values.iter().map(String::as_bytes).collect();
        let batch = data_batch(&bytes, now_ms, None);

        let partition = PartitionProduceData::default().with_index(0).with_records(Some(batch));
        let topic = TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![partition]);
        let request = ProduceRequest::default()
            .with_acks(ACKS_ALL)
            .with_timeout_ms(10_000)
            .with_topic_data(vec![topic]);
        let answer = connection.ask(9, &request)?;

        let answered = answer.responses.first().and_then(|topic| topic.partition_responses.first());
        let answered = answered.ok_or("an answer without a partition")?;
        if answered.error_code != 0 {
            return Err(format!("Produce was answered with error {}", answered.error_code).into());
        }
        println!("{} records from offset {} on are committed", values.len(), answered.base_offset);
    }
    Ok(())
}
