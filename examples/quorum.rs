//! A quorum of three in this process: writes, kills the leader, reads everything back from its successor, and stops.
//!
//! The nodes are what `kraft-server` runs: real files in a directory that is removed at the end, real sockets on loopback.
//! A test of a program that talks to a quorum may look like this.
//!
//! ```text
//! cargo run --example quorum
//! ```

mod wire;

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;

use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::{BrokerId, FetchRequest, ProduceRequest};
use kraft::config::{Settings, load};
use kraft::record::{check_fetched, data_batch, records};
use kraft::server::Node;
use wire::{Connection, Outcome, find_leader, topic_name};

fn main() -> Outcome<()> {
    let home = tempfile::tempdir()?;
    let ports = free_ports()?;
    let servers: Vec<String> = ports.values().map(|port| format!("127.0.0.1:{port}")).collect();
    let mut nodes = BTreeMap::new();
    for id in ports.keys() {
        nodes.insert(*id, start(*id, &ports, home.path())?);
        println!("node {id} listens on port {}", ports[id]);
    }

    let (leader, mut connection) = find_leader(&servers)?;
    println!("node {leader} leads");
    write(&mut connection, &[b"one", b"two", b"three"])?;
    println!("three records are committed: a majority has flushed them");

    // As if its process were killed: nobody is told.
    nodes.remove(&leader).ok_or("an unknown leader")?.kill();
    println!("node {leader} is killed");

    let (successor, mut connection) = find_leader(&servers)?;
    println!("node {successor} leads");
    write(&mut connection, &[b"four"])?;
    let values = read(&mut connection)?;
    println!("it has {values:?}");
    assert_eq!(values, ["one", "two", "three", "four"], "what was committed is never lost");

    for (id, node) in nodes {
        let ended = node.stop();
        println!("node {id} has stopped with {}: {}", ended.exit_code, ended.why);
        assert_eq!(ended.exit_code, 0, "in good order");
    }
    Ok(())
}

/// The configuration is the server's, with Kafka's keys; docs/configuration.md has them.
fn start(id: i32, ports: &BTreeMap<i32, u16>, home: &Path) -> Outcome<Node> {
    let voters: Vec<String> = ports.iter().map(|(id, port)| format!("{id}@127.0.0.1:{port}")).collect();
    let properties = format!(
        "node.id={id}\ncontroller.quorum.voters={}\nlisteners=PLAINTEXT://127.0.0.1:{}\nlog.dirs={}\n",
        voters.join(","),
        ports[&id],
        home.join(format!("node-{id}")).display()
    );
    let mut settings = Settings::new();
    settings.read_properties("this example", properties.as_bytes()).map_err(|error| error.0)?;
    let loaded = load(&settings).map_err(|refused| format!("{refused:?}"))?;
    Node::start(loaded.config).map_err(|ended| ended.why.into())
}

fn write(leader: &mut Connection, values: &[&[u8]]) -> Outcome<()> {
    let batch = data_batch(values, 1_700_000_000_000, None);
    let partition = PartitionProduceData::default().with_records(Some(batch));
    let topic = TopicProduceData::default().with_name(topic_name()).with_partition_data(vec![partition]);
    let request =
        ProduceRequest::default().with_acks(-1).with_timeout_ms(10_000).with_topic_data(vec![topic]);
    let answer = leader.ask(9, &request)?;
    match answer.responses[0].partition_responses[0].error_code {
        0 => Ok(()),
        error => Err(format!("Produce was answered with error {error}").into()),
    }
}

/// All that is committed: it fits into one answer.
fn read(leader: &mut Connection) -> Outcome<Vec<String>> {
    let partition = FetchPartition::default().with_fetch_offset(0).with_partition_max_bytes(1 << 20);
    let topic = FetchTopic::default().with_topic(topic_name()).with_partitions(vec![partition]);
    let request = FetchRequest::default()
        .with_replica_id(BrokerId(-1))
        .with_max_wait_ms(1_000)
        .with_topics(vec![topic]);
    let answer = leader.ask(11, &request)?;
    let (batches, _) = check_fetched(answer.responses[0].partitions[0].records.clone().unwrap_or_default());
    let users = batches.iter().filter(|batch| !batch.header().is_control());
    let values =
        users.flat_map(records).map(|record| record.map(|record| record.value.unwrap_or_default().to_vec()));
    values.map(|value| Ok(String::from_utf8(value.map_err(|bad| format!("{bad:?}"))?)?)).collect()
}

/// Three that nobody has: each is given by the system, and given back before a node takes it.
fn free_ports() -> Outcome<BTreeMap<i32, u16>> {
    let held: Vec<TcpListener> =
        (0..3).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>()?;
    held.iter().zip(1..).map(|(listener, id)| Ok((id, listener.local_addr()?.port()))).collect()
}
