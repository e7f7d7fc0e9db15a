//! The high watermark, from whoever leads: so that a backup has all that was acknowledged before it began.
//!
//! The answer says how long to wait for this node's own commit mark, and nothing else: a wrong one costs time. Two requests, by
//! hand, of versions that every Kafka has had since 0.10.1: Metadata 1 for the addresses, ListOffsets 1 to each of them.

use std::io::{self, Read, Write};
use std::net::{Ipv6Addr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use kraft::types::ErrorCode;

const CLIENT_ID: &str = "kraft-backup";
const METADATA: (i16, i16) = (3, 1);
const LIST_OFFSETS: (i16, i16) = (2, 1);
/// Kafka's name for the high watermark in ListOffsets.
const LATEST: i64 = -1;
const TIMEOUT: Duration = Duration::from_secs(2);
const BACKOFF: Duration = Duration::from_millis(100);
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// `host:port`, an IPv6 address in brackets; else what is wrong with it.
pub(crate) fn address(text: &str) -> Result<String, String> {
    let (host, port) = text.trim().rsplit_once(':').ok_or("it has no port: give host:port")?;
    let is_port = port.parse::<u16>().is_ok_and(|port| port > 0);
    let is_host = match host.strip_prefix('[') {
        Some(rest) => rest.strip_suffix(']').is_some_and(|address| address.parse::<Ipv6Addr>().is_ok()),
        None => !host.is_empty() && !host.contains([':', '/', ' ']),
    };
    match (is_host, is_port) {
        (true, true) => Ok(text.trim().to_string()),
        (false, _) => Err("this is no host: give host:port, an IPv6 address in brackets".to_string()),
        (_, false) => Err("a port is a number from 1 to 65535".to_string()),
    }
}

/// Asked again and again until a leader has answered, or until the deadline; then the last refusal is given.
pub(crate) fn high_watermark(bootstrap: &[String], topic: &str, deadline: Instant) -> Result<i64, String> {
    loop {
        let mut addresses = bootstrap.to_vec();
        let mut why = String::new();
        for address in bootstrap {
            match call(address, METADATA, &metadata_body(topic), deadline) {
                Ok(answer) => addresses.extend(brokers(&answer).unwrap_or_default()),
                Err(e) => why = e,
            }
        }
        addresses.sort();
        addresses.dedup();
        let mut found = None;
        for address in &addresses {
            let answer = call(address, LIST_OFFSETS, &list_offsets_body(topic), deadline);
            match answer.and_then(|answer| latest_offset(address, &answer)) {
                // One that was deposed and has not heard of it yet knows less.
                Ok(offset) => found = found.max(Some(offset)),
                Err(e) => why = e,
            }
        }
        match found {
            Some(offset) => return Ok(offset),
            None if Instant::now() + BACKOFF >= deadline => return Err(why),
            None => std::thread::sleep(BACKOFF),
        }
    }
}

fn metadata_body(topic: &str) -> Vec<u8> {
    let mut body = 1i32.to_be_bytes().to_vec();
    put_string(&mut body, topic);
    body
}

fn list_offsets_body(topic: &str) -> Vec<u8> {
    let mut body = (-1i32).to_be_bytes().to_vec();
    body.extend(1i32.to_be_bytes());
    put_string(&mut body, topic);
    body.extend(1i32.to_be_bytes());
    body.extend(0i32.to_be_bytes());
    body.extend(LATEST.to_be_bytes());
    body
}

/// The answer to one request, without its correlation id.
fn call(
    address: &str,
    (api_key, version): (i16, i16),
    body: &[u8],
    deadline: Instant,
) -> Result<Vec<u8>, String> {
    let mut frame = Vec::new();
    frame.extend(api_key.to_be_bytes());
    frame.extend(version.to_be_bytes());
    frame.extend(1i32.to_be_bytes());
    put_string(&mut frame, CLIENT_ID);
    frame.extend(body);
    let deadline = deadline.min(Instant::now() + TIMEOUT);
    exchange(address, &frame, deadline).map_err(|e| format!("{address}: {e}"))
}

fn exchange(address: &str, frame: &[u8], deadline: Instant) -> io::Result<Vec<u8>> {
    let mut stream = InTime { stream: connect(address, deadline)?, deadline };
    stream.write_all(&(frame.len() as u32).to_be_bytes())?;
    stream.write_all(frame)?;
    let mut length = [0; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_be_bytes(length) as usize;
    if !(4..=ANSWER_BYTES_MAX).contains(&length) {
        return Err(io::Error::other(format!("an answer of {length} bytes is not Kafka's")));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer)?;
    Ok(answer.split_off(4))
}

fn connect(address: &str, deadline: Instant) -> io::Result<TcpStream> {
    let mut last = io::Error::other("no such host");
    for socket_address in address.to_socket_addrs()? {
        match TcpStream::connect_timeout(&socket_address, left(deadline)?) {
            Ok(connected) => return Ok(connected),
            Err(e) => last = e,
        }
    }
    Err(last)
}

/// Never zero, which the system takes for "without end".
fn left(deadline: Instant) -> io::Result<Duration> {
    let left = deadline.saturating_duration_since(Instant::now());
    (!left.is_zero()).then_some(left).ok_or(io::ErrorKind::TimedOut.into())
}

/// A connection that ends at the deadline, also under one who sends or takes a byte now and then.
struct InTime {
    stream: TcpStream,
    deadline: Instant,
}

impl Read for InTime {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        self.stream.set_read_timeout(Some(left(self.deadline)?))?;
        self.stream.read(bytes)
    }
}

impl Write for InTime {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(left(self.deadline)?))?;
        self.stream.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}

/// Of Metadata: `None` where it ends too early.
fn brokers(answer: &[u8]) -> Option<Vec<String>> {
    let mut reader = Reader(answer);
    let mut found = Vec::new();
    for _ in 0..reader.i32()?.max(0) {
        reader.i32()?;
        let (host, port) = (reader.string()?, reader.i32()?);
        reader.string()?;
        found.push(if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") });
    }
    Some(found)
}

fn latest_offset(address: &str, answer: &[u8]) -> Result<i64, String> {
    let mut reader = Reader(answer);
    let mut read = || {
        let topics = reader.i32()?;
        reader.string()?;
        let (partitions, index) = (reader.i32()?, reader.i32()?);
        let error = ErrorCode(reader.array().map(i16::from_be_bytes)?);
        reader.array::<8>()?;
        let offset = reader.array().map(i64::from_be_bytes)?;
        ((topics, partitions, index) == (1, 1, 0)).then_some((error, offset))
    };
    match read() {
        Some((error, offset)) if error.is_none() => Ok(offset),
        Some((error, _)) => Err(format!("{address} does not lead the log ({})", error.name())),
        None => Err(format!("{address}: what it answered is no ListOffsets answer")),
    }
}

fn put_string(bytes: &mut Vec<u8>, text: &str) {
    bytes.extend((text.len() as i16).to_be_bytes());
    bytes.extend(text.as_bytes());
}

/// What is left of an answer. `None` from its methods: it ended too early.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn i32(&mut self) -> Option<i32> {
        self.array().map(i32::from_be_bytes)
    }

    /// Null reads as empty.
    fn string(&mut self) -> Option<&'a str> {
        let length = self.array().map(i16::from_be_bytes)?.max(0) as usize;
        let (text, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        std::str::from_utf8(text).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_ends_anywhere_is_no_answer() {
        let mut answer = Vec::new();
        answer.extend(1i32.to_be_bytes());
        put_string(&mut answer, "t");
        answer.extend([1i32, 0].map(i32::to_be_bytes).concat());
        answer.extend(0i16.to_be_bytes());
        answer.extend([-1i64, 77].map(i64::to_be_bytes).concat());
        assert_eq!(latest_offset("a:1", &answer), Ok(77));
        for cut in 0..answer.len() {
            assert!(latest_offset("a:1", &answer[..cut]).is_err(), "{cut}");
        }
        let error_at = answer.len() - 18;
        answer[error_at..][..2].copy_from_slice(&6i16.to_be_bytes());
        assert_eq!(
            latest_offset("a:1", &answer).unwrap_err(),
            "a:1 does not lead the log (NOT_LEADER_OR_FOLLOWER)"
        );
    }

    #[test]
    fn an_address_is_a_host_and_a_port() {
        for good in ["localhost:9092", "10.0.0.1:1", "[::1]:65535", " a:1 "] {
            assert_eq!(address(good).as_deref(), Ok(good.trim()));
        }
        for (bad, why) in [
            ("localhost", "no port"),
            ("", "no port"),
            (":9092", "no host"),
            ("::1:9092", "no host"),
            ("[::g]:9092", "no host"),
            ("a/b:9092", "no host"),
            ("localhost:", "a port is"),
            ("localhost:0", "a port is"),
            ("localhost:65536", "a port is"),
            ("localhost:x", "a port is"),
        ] {
            assert!(address(bad).unwrap_err().contains(why), "{bad}: {:?}", address(bad));
        }
    }

    /// Each byte comes in time, and all of them never would.
    #[test]
    fn who_sends_a_byte_now_and_then_is_not_waited_for_beyond_the_deadline() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let trickling = listener.local_addr().unwrap().to_string();
        let trickle = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let whole = [&10_000u32.to_be_bytes()[..], &[0; 10_000]].concat();
            let goes = whole.iter().position(|byte| {
                std::thread::sleep(Duration::from_millis(30));
                stream.write_all(&[*byte]).is_err()
            });
            assert!(goes.is_some(), "the connection is closed long before the end");
        });
        let deadline = Instant::now() + Duration::from_secs(1);
        let answer = exchange(&trickling, b"frame", deadline).map_err(|e| e.kind());
        assert!(matches!(answer, Err(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)), "{answer:?}");
        trickle.join().unwrap();
    }

    #[test]
    fn nobody_there_is_told_at_the_deadline() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let deadline = Instant::now() + Duration::from_millis(150);
        let why = high_watermark(&[free.to_string()], "t", deadline).unwrap_err();
        assert!(why.starts_with(&free.to_string()), "{why}");
    }
}
