//! Who leads: asked by Metadata at the start, and again whenever a connection finds that it is somebody else.
//!
//! These calls block, with short timeouts: they happen at the start and around a change of leaders, when there is nothing
//! to be sent anyway. All threads share what one of them has found.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use kraft::types::ErrorCode;

use crate::wire::{self, Metadata};

/// A host that is down without a refusal must not hold up the search among the others.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
const CONNECT_PATIENCE: Duration = Duration::from_secs(10);
const CONNECT_BACKOFF: Duration = Duration::from_millis(50);
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// So long a search that found nobody counts for all who ask: a thousand connections must not search one by one.
const SEARCH_VALID: Duration = Duration::from_millis(4);
/// A coordinator that has just started may need a while.
const PRODUCER_ID_TIMEOUT: Duration = Duration::from_secs(30);
const PRODUCER_ID_BACKOFF: Duration = Duration::from_millis(50);

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Leader {
    pub(crate) address: String,
    pub(crate) epoch: i32,
    /// Grows with each search: tells a connection whether somebody has looked since it failed.
    pub(crate) version: u64,
}

pub(crate) struct Cluster {
    topic: String,
    state: Mutex<State>,
}

struct State {
    /// Bootstrap servers first, then what Metadata named.
    addresses: Vec<String>,
    leader: Option<Leader>,
    /// When the last search ended without a leader, and why.
    failed: Option<(Instant, String)>,
}

impl Cluster {
    pub(crate) fn new(bootstrap: &[String], topic: &str) -> Cluster {
        let state = State { addresses: bootstrap.to_vec(), leader: None, failed: None };
        Cluster { topic: topic.to_string(), state: Mutex::new(state) }
    }

    /// The leader, looked for if nobody has since version `seen` (0 at first). `Err`: nobody knows one, in words.
    pub(crate) fn leader(&self, seen: u64) -> Result<Leader, String> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(leader) = state.leader.as_ref().filter(|leader| leader.version > seen) {
            return Ok(leader.clone());
        }
        if let Some((_, why)) = state.failed.as_ref().filter(|(at, _)| at.elapsed() < SEARCH_VALID) {
            return Err(why.clone());
        }
        let before = state.leader.clone();
        let found = state.search(&self.topic, before.as_ref());
        state.failed = found.as_ref().err().map(|why| (Instant::now(), why.clone()));
        let (address, epoch) = found?;
        let version = before.map_or(0, |leader| leader.version).max(seen) + 1;
        let leader = Leader { address, epoch, version };
        state.leader = Some(leader.clone());
        Ok(leader)
    }
}

impl State {
    /// Asks one after another, until one knows a leader of a newer epoch than `before`; else the newest that was named.
    /// A deposed leader may still name itself.
    fn search(&mut self, topic: &str, before: Option<&Leader>) -> Result<(String, i32), String> {
        let mut best: Option<(String, i32)> = None;
        let mut why = String::new();
        for address in self.addresses.clone() {
            match ask_metadata(&address, topic).and_then(|metadata| self.take(&address, &metadata)) {
                Ok((leader, epoch)) => {
                    if best.as_ref().is_none_or(|(_, known)| epoch > *known) {
                        best = Some((leader, epoch));
                    }
                    if before.is_none_or(|before| epoch > before.epoch) {
                        break;
                    }
                }
                Err(e) => why = e,
            }
        }
        best.ok_or(why)
    }

    /// Learns the brokers, returns the leader.
    fn take(&mut self, from: &str, metadata: &Metadata) -> Result<(String, i32), String> {
        for broker in &metadata.brokers {
            if !self.addresses.contains(&broker.address) {
                self.addresses.push(broker.address.clone());
            }
        }
        let leader = metadata.brokers.iter().find(|broker| broker.id == metadata.leader_id);
        match leader {
            Some(leader) => Ok((leader.address.clone(), metadata.leader_epoch)),
            None if metadata.error.is_none() => Err(format!("{from} knows no leader")),
            None => Err(format!("{from} knows no leader: {}", error_name(metadata.error))),
        }
    }
}

/// Kafka's name, or the number of a code without one.
pub(crate) fn error_name(error: ErrorCode) -> String {
    let name = error.name();
    if name.contains(' ') { format!("error {}", error.0) } else { name.to_string() }
}

pub(crate) fn connect(address: &str) -> Result<TcpStream, String> {
    let mut why = format!("{address}: no such host");
    let addresses = address.to_socket_addrs().map_err(|e| format!("{address}: {e}"))?;
    for socket_address in addresses {
        match TcpStream::connect_timeout(&socket_address, CONNECT_TIMEOUT) {
            Ok(stream) => {
                prepare(&stream).map_err(|e| format!("{address}: {e}"))?;
                return Ok(stream);
            }
            Err(e) => why = format!("{address}: {e}"),
        }
    }
    Err(why)
}

/// Tries again for a while: a busy broker's queue of connections may be full, which looks like a host that is down.
pub(crate) fn connect_patiently(address: &str) -> Result<TcpStream, String> {
    let deadline = Instant::now() + CONNECT_PATIENCE;
    loop {
        match connect(address) {
            Err(_) if Instant::now() < deadline => std::thread::sleep(CONNECT_BACKOFF),
            connected => return connected,
        }
    }
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
    stream.set_write_timeout(Some(ANSWER_TIMEOUT))
}

fn ask_metadata(address: &str, topic: &str) -> Result<Metadata, String> {
    let mut stream = connect(address)?;
    let frame = ask(&mut stream, &wire::metadata_request(1, topic)).map_err(|e| format!("{address}: {e}"))?;
    wire::decode_metadata(&frame).ok_or_else(|| format!("{address} answers Metadata with something else"))
}

/// A producer id and its epoch, over a connection that is still blocking.
pub(crate) fn ask_producer_id(stream: &mut TcpStream) -> Result<(i64, i16), String> {
    let deadline = Instant::now() + PRODUCER_ID_TIMEOUT;
    loop {
        let frame =
            ask(stream, &wire::init_producer_id_request(2)).map_err(|e| format!("InitProducerId: {e}"))?;
        match wire::decode_init_producer_id(&frame) {
            Some((error, id, epoch)) if error.is_none() => return Ok((id, epoch)),
            Some((error, ..)) if Instant::now() > deadline => {
                return Err(format!("InitProducerId is answered with {}", error_name(error)));
            }
            Some(_) => std::thread::sleep(PRODUCER_ID_BACKOFF),
            None => return Err("InitProducerId is answered with something else".to_string()),
        }
    }
}

/// One request, one answer, without its length.
pub(crate) fn ask(stream: &mut TcpStream, request: &[u8]) -> io::Result<Vec<u8>> {
    stream.write_all(request)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = kraft::protocol::frame_length(&length, ANSWER_BYTES_MAX).map_err(io::Error::other)?;
    let mut frame = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Broker;

    fn metadata(leader_id: i32, leader_epoch: i32, error: ErrorCode) -> Metadata {
        let broker = |id: i32| Broker { id, address: format!("host{id}:9092") };
        Metadata { brokers: vec![broker(1), broker(2)], error, leader_id, leader_epoch }
    }

    #[test]
    fn brokers_are_learned_once_and_the_leader_is_found_among_them() {
        let mut state = State { addresses: vec!["host1:9092".into()], leader: None, failed: None };
        for _ in 0..2 {
            let leader = state.take("host1:9092", &metadata(2, 7, ErrorCode::NONE));
            assert_eq!(leader, Ok(("host2:9092".to_string(), 7)));
            assert_eq!(state.addresses, ["host1:9092", "host2:9092"]);
        }
    }

    #[test]
    fn no_leader_is_said_with_the_reason() {
        let mut state = State { addresses: Vec::new(), leader: None, failed: None };
        let error = state.take("a:1", &metadata(-1, 3, ErrorCode::LEADER_NOT_AVAILABLE)).unwrap_err();
        assert_eq!(error, "a:1 knows no leader: LEADER_NOT_AVAILABLE");
    }

    #[test]
    fn nobody_there_is_an_error_that_names_the_address() {
        let cluster = Cluster::new(&["127.0.0.1:1".to_string()], "t");
        assert!(cluster.leader(0).unwrap_err().starts_with("127.0.0.1:1: "));
    }

    #[test]
    fn codes_without_a_name_keep_their_number() {
        assert_eq!(error_name(ErrorCode(999)), "error 999");
        assert_eq!(error_name(ErrorCode(6)), "NOT_LEADER_OR_FOLLOWER");
    }
}
