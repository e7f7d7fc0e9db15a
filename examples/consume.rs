//! A consumer: prints all records that a quorum has committed, from the beginning, and ends.
//!
//! ```text
//! cargo run --example consume -- localhost:9092
//! ```

mod wire;

use std::process::ExitCode;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{BrokerId, FetchRequest};
use kraft::record::{check_fetched, records};
use wire::{Outcome, find_leader, topic_name};

/// Replicas tell their ids instead.
const CONSUMER: BrokerId = BrokerId(-1);
/// Each Fetch stands for itself.
const NO_SESSION: (i32, i32) = (0, -1);

fn main() -> ExitCode {
    let servers = std::env::args().nth(1).unwrap_or("localhost:9092".into());
    match consume(&servers) {
        Ok(count) => {
            println!("{count} records are committed");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

fn consume(servers: &str) -> Outcome<usize> {
    let servers: Vec<String> = servers.split(',').map(str::to_string).collect();
    let (leader, mut connection) = find_leader(&servers)?;
    println!("node {leader} leads");

    let (mut offset, mut count) = (0, 0);
    loop {
        let partition = FetchPartition::default()
            .with_partition(0)
            .with_fetch_offset(offset)
            .with_partition_max_bytes(1 << 20);
        let topic = FetchTopic::default().with_topic(topic_name()).with_partitions(vec![partition]);
        let request = FetchRequest::default()
            .with_replica_id(CONSUMER)
            .with_session_id(NO_SESSION.0)
            .with_session_epoch(NO_SESSION.1)
            .with_max_bytes(1 << 20)
            // Nothing new for so long: an empty answer.
            .with_max_wait_ms(500)
            .with_min_bytes(1)
            .with_topics(vec![topic]);
        let answer = connection.ask(11, &request)?;
        let fetched =
            answer.responses.into_iter().next().and_then(|topic| topic.partitions.into_iter().next());
        let fetched = fetched.ok_or("an answer without a partition")?;
        if fetched.error_code != 0 {
            return Err(format!("Fetch was answered with error {}", fetched.error_code).into());
        }
        // What comes is whole batches as they lie in the log: lengths and CRCs are checked before anything is believed.
        let (batches, error) = check_fetched(fetched.records.unwrap_or_default());
        if let Some(error) = error {
            return Err(format!("after offset {offset}: {error:?}").into());
        }
        // A leader that has just been elected does not know yet what is committed: it says -1, and we ask again.
        let is_end_known = fetched.high_watermark >= 0;
        if let Some(last) = batches.last() {
            offset = last.header().last_offset().0 + 1;
        }
        // The quorum writes batches of its own, one at each change of leaders: they are no records of users.
        for batch in batches.iter().filter(|batch| !batch.header().is_control()) {
            for record in records(batch) {
                let record = record.map_err(|malformed| format!("{malformed:?}"))?;
                let at = batch.base_offset().0 + i64::from(record.offset_delta);
                println!("{at}: {}", String::from_utf8_lossy(record.value.unwrap_or_default()));
                count += 1;
            }
        }
        if is_end_known && offset >= fetched.high_watermark {
            return Ok(count);
        }
    }
}
