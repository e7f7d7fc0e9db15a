//! The contract of tests/clients/README.md for a client in Rust: a program implements [`Client`] and calls [`serve`].

use std::error::Error;
use std::fmt::Write;
use std::io::BufRead;
use std::time::Duration;

pub type Outcome = Result<(), Box<dyn Error>>;
pub type Bytes = Option<Vec<u8>>;

/// How long a client may say nothing before that is called a hang.
pub const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
pub struct Record {
    pub key: Bytes,
    pub value: Bytes,
    pub headers: Vec<(String, Bytes)>,
    pub offset: i64,
    pub timestamp_ms: i64,
}

pub enum Start {
    Beginning,
    End,
    /// Where the group has committed.
    Committed,
    Time(i64),
    Offset(i64),
}

/// The client has no such thing; the text says why.
#[derive(Debug)]
pub struct Absent(pub &'static str);

impl std::fmt::Display for Absent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.0)
    }
}

impl Error for Absent {}

pub trait Client {
    /// Calls [`say_offset`] for each record, in their order.
    fn produce(&self, records: Vec<Record>, compression: &str, idempotent: bool, pace: Duration) -> Outcome;
    /// Calls [`say_ready`] once it stands at `start`, then `read` with each record until that says false.
    fn consume(&self, start: Start, read: &mut dyn FnMut(Record) -> bool) -> Outcome;
    fn topics(&self) -> Result<Vec<String>, Box<dyn Error>>;
    /// What the client says.
    fn group(&self) -> Outcome;
    fn commit(&self) -> Outcome;
    fn transaction(&self) -> Outcome;
    fn create(&self) -> Outcome;
}

pub fn say_offset(offset: i64) {
    println!("offset {offset}");
}

pub fn say_ready() {
    println!("ready");
}

fn word(data: &Bytes) -> String {
    let Some(data) = data else { return "-".to_string() };
    data.iter().fold("x".to_string(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("a string takes it");
        text
    })
}

fn data(word: &str) -> Bytes {
    let digits = word.strip_prefix('x')?;
    let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect("hexadecimal digits");
    Some((0..digits.len()).step_by(2).map(byte).collect())
}

fn header_words(headers: &[(String, Bytes)]) -> String {
    let words: Vec<String> = headers
        .iter()
        .map(|(name, value)| format!("{}={}", word(&Some(name.clone().into_bytes())), word(value)))
        .collect();
    if words.is_empty() { ".".to_string() } else { words.join(",") }
}

fn header(pair: &str) -> (String, Bytes) {
    let (name, value) = pair.split_once('=').expect("name=value");
    let name = String::from_utf8(data(name).unwrap_or_default()).expect("names are UTF-8");
    (name, data(value))
}

fn record(line: &str) -> Record {
    let words: Vec<&str> = line.split(' ').collect();
    let headers = if words[2] == "." { Vec::new() } else { words[2].split(',').map(header).collect() };
    Record { key: data(words[0]), value: data(words[1]), headers, ..Record::default() }
}

fn start(word: &str) -> Result<Start, Box<dyn Error>> {
    Ok(match word {
        "beginning" => Start::Beginning,
        "end" => Start::End,
        "committed" => Start::Committed,
        _ => match word.strip_prefix('@') {
            Some(time) => Start::Time(time.parse()?),
            None => Start::Offset(word.parse()?),
        },
    })
}

fn carry_out(client: &dyn Client, words: &[&str]) -> Outcome {
    match words {
        ["produce", compression, idempotent, pace_ms, path] => {
            let records = std::fs::read_to_string(path)?.lines().map(record).collect();
            let pace = Duration::from_millis(pace_ms.parse()?);
            client.produce(records, compression, *idempotent == "true", pace)
        }
        ["consume", from, last_key] => client.consume(start(from)?, &mut |r| {
            let key = word(&r.key);
            let (value, headers) = (word(&r.value), header_words(&r.headers));
            println!("record {} {} {key} {value} {headers}", r.offset, r.timestamp_ms);
            key != *last_key
        }),
        ["topics"] => {
            client.topics()?.iter().for_each(|name| println!("topic {name}"));
            Ok(())
        }
        ["group"] => client.group(),
        ["commit"] => client.commit(),
        ["transaction"] => client.transaction(),
        ["create"] => client.create(),
        _ => Err(format!("unknown command {words:?}").into()),
    }
}

/// Arguments of the program: the bootstrap servers and the topic.
pub fn serve(make: impl FnOnce(&str, &str) -> Box<dyn Client>) {
    let arguments: Vec<String> = std::env::args().collect();
    let client = make(&arguments[1], &arguments[2]);
    for line in std::io::stdin().lock().lines() {
        let line = line.expect("a readable stdin");
        if let Err(error) = carry_out(client.as_ref(), &line.split(' ').collect::<Vec<_>>()) {
            let kind = if error.is::<Absent>() { "absent" } else { "error" };
            println!("{kind} {}", error.to_string().replace('\n', " "));
        }
        println!("done");
    }
}
