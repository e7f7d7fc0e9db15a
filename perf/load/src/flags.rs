//! What flags of several commands have in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Wait {
    Sleep,
    Yield,
}

pub(crate) fn seconds(flag: &str, value: f64) -> Result<Duration, String> {
    Duration::try_from_secs_f64(value)
        .map_err(|_| format!("{flag} {value}: give a number of seconds that is not negative."))
}

pub(crate) fn at_least_one(flag: &str, value: usize) -> Result<(), String> {
    if value == 0 { Err(format!("{flag} 0: give at least 1.")) } else { Ok(()) }
}

/// Which log is written or read.
#[derive(Debug, Args)]
pub(crate) struct LogFlags {
    /// Brokers to ask for the leader: host:port, with commas between them
    #[arg(long, default_value = "localhost:9092", value_name = "HOST:PORT,...")]
    bootstrap_server: String,

    /// Its partition 0 is meant
    #[arg(long, default_value = "__cluster_metadata")]
    topic: String,
}

impl LogFlags {
    pub(crate) fn topic(&self) -> Result<String, String> {
        match self.topic.len() {
            1..=249 => Ok(self.topic.clone()),
            _ => Err("--topic: a topic's name has 1 to 249 characters.".to_string()),
        }
    }

    pub(crate) fn bootstrap(&self) -> Result<Vec<String>, String> {
        bootstrap(&self.bootstrap_server)
    }
}

/// Of a command that reads: how long it waits, and where its result goes.
#[derive(Debug, Args)]
pub(crate) struct ReaderFlags {
    /// A consumer that hears nothing for so long gives up
    #[arg(long, default_value_t = 30_000, value_name = "MS")]
    request_timeout_ms: u32,
    /// Write the result as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl ReaderFlags {
    pub(crate) fn timeout(&self) -> Duration {
        Duration::from_millis(u64::from(self.request_timeout_ms.max(1)))
    }

    pub(crate) fn json(&self) -> Option<&Path> {
        self.json.as_deref()
    }
}

/// Kafka's tools take a security protocol before the name; of these only plain text is spoken here.
fn bootstrap(text: &str) -> Result<Vec<String>, String> {
    let mut addresses = Vec::new();
    for part in text.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        let address = part.rsplit_once("://").map_or(part, |(_, address)| address);
        let port = address
            .rsplit_once(':')
            .and_then(|(host, port)| port.parse::<u16>().ok().filter(|_| !host.is_empty()));
        if port.is_none() {
            return Err(format!("--bootstrap-server {part}: give host:port."));
        }
        addresses.push(address.to_string());
    }
    if addresses.is_empty() { Err("--bootstrap-server: give host:port.".to_string()) } else { Ok(addresses) }
}
