//! Hosts and ports as people write them: `localhost:9092`, `[::1]:9092`, `PLAINTEXT://:9092`, `1@localhost:9092`.
//!
//! Errors are half sentences that say what to write instead; the caller adds key, value and place.

use crate::config::Voter;
use crate::types::*;

pub(super) const LISTENER_EXAMPLE: &str = "Write for example PLAINTEXT://localhost:9092.";
pub(super) const VOTERS_EXAMPLE: &str =
    "Write id@host:port for each voter, for example 1@localhost:9092,2@localhost:9093,3@localhost:9094.";
/// Every interface: a place to bind, but no address that another node could reach.
pub(super) const ANY_HOST: &str = "0.0.0.0";
const HOST_BYTES_MAX: usize = 253;

/// `NAME://host:port` of `listeners` or `advertised.listeners`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listener {
    pub(crate) name: String,
    pub(crate) endpoint: Endpoint,
}

/// Whether a port may be 0 (the system chooses).
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum PortZero {
    Allowed,
    Refused,
}

/// `host:port`; the host may be empty, an IPv6 address stands in brackets.
pub(super) fn parse_endpoint(text: &str, zero: PortZero) -> Result<Endpoint, String> {
    let (host, port) = text.rsplit_once(':').ok_or_else(|| format!("'{text}' has no port"))?;
    let host = match host.strip_prefix('[').and_then(|h| h.strip_suffix(']')) {
        Some(v6) => v6
            .parse::<std::net::Ipv6Addr>()
            .map_err(|_| format!("'{v6}' is not an IPv6 address"))?
            .to_string(),
        None => check_host(host)?.to_string(),
    };
    let port: u16 = port.parse().map_err(|_| format!("the port '{port}' is not a number from 1 to 65535"))?;
    if port == 0 && zero == PortZero::Refused {
        return Err("the port 0 is not a number from 1 to 65535".to_string());
    }
    Ok(Endpoint { host, port })
}

fn check_host(host: &str) -> Result<&str, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    if host.len() > HOST_BYTES_MAX || !host.chars().all(known) {
        return Err(format!("'{host}' is not a host name (an IPv6 address stands in brackets)"));
    }
    Ok(host)
}

/// A comma-separated list of listeners.
pub(super) fn parse_listeners(text: &str) -> Result<Vec<Listener>, String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(parse_listener).collect()
}

fn parse_listener(text: &str) -> Result<Listener, String> {
    let (name, address) = text
        .split_once("://")
        .ok_or_else(|| format!("'{text}' is not a listener URL. {LISTENER_EXAMPLE}"))?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')) {
        return Err(format!("'{name}' is not a listener name. {LISTENER_EXAMPLE}"));
    }
    if address.contains('/') {
        return Err(format!("'{text}' has a path, and a listener has none. {LISTENER_EXAMPLE}"));
    }
    let endpoint =
        parse_endpoint(address, PortZero::Refused).map_err(|why| format!("{why}. {LISTENER_EXAMPLE}"))?;
    Ok(Listener { name: name.to_ascii_uppercase(), endpoint })
}

/// `1@host:port,2@host:port`: ascending ids, each id and each endpoint once.
pub(super) fn parse_voters(text: &str) -> Result<Vec<Voter>, String> {
    let entries = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    let mut voters: Vec<Voter> = entries.map(parse_voter).collect::<Result<_, _>>()?;
    voters.sort_by_key(|v| v.id);
    if voters.is_empty() {
        return Err(format!("there is no voter. {VOTERS_EXAMPLE}"));
    }
    if let Some(pair) = voters.windows(2).find(|pair| pair[0].id == pair[1].id) {
        return Err(format!(
            "voter {} stands there twice, at {} and at {}. Give each voter an id of its own.",
            pair[0].id, pair[0].endpoint, pair[1].endpoint
        ));
    }
    for (i, voter) in voters.iter().enumerate() {
        if let Some(other) = voters[..i].iter().find(|other| other.endpoint == voter.endpoint) {
            return Err(format!(
                "voters {} and {} have the same endpoint {}. Give each voter an endpoint of its own.",
                other.id, voter.id, voter.endpoint
            ));
        }
    }
    Ok(voters)
}

fn parse_voter(text: &str) -> Result<Voter, String> {
    let (id, address) =
        text.split_once('@').ok_or_else(|| format!("'{text}' is not a voter. {VOTERS_EXAMPLE}"))?;
    let id: i32 = id.trim().parse().ok().filter(|id| *id >= 0).ok_or_else(|| {
        format!("the voter id '{id}' is not a number from 0 to {}. {VOTERS_EXAMPLE}", i32::MAX)
    })?;
    // Kafka's `Utils.getHost` takes a URL scheme too.
    let address = address.split_once("://").map_or(address, |(_, rest)| rest);
    let endpoint =
        parse_endpoint(address, PortZero::Refused).map_err(|why| format!("{why}. {VOTERS_EXAMPLE}"))?;
    if endpoint.host.is_empty() || endpoint.host == ANY_HOST || endpoint.host == "::" {
        return Err(format!(
            "voter {id} has no address that the others can reach. Write a host name or address in its entry."
        ));
    }
    Ok(Voter { id: NodeId(id), endpoint })
}
