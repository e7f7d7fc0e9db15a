//! Checks that need this machine: is the listener's address local?
//!
//! `load` stays free of them, so that `--print-config` can look at a file for another machine. The server finds the same
//! faults when it binds and opens, but later and with less to say about the key.

use std::io;
use std::net::{IpAddr, ToSocketAddrs, UdpSocket};
use std::sync::mpsc;
use std::time::Duration;

use super::{ConfigError, Effective, Loaded};
use crate::types::*;

/// A resolver that takes longer is not waited for: then the bind gives the answer.
const RESOLVE_WAIT: Duration = Duration::from_millis(500);

/// All that is wrong between this configuration and this machine.
pub(crate) fn check_surroundings(loaded: &Loaded) -> Vec<ConfigError> {
    let config = &loaded.config;
    let mut errors = Vec::new();
    if let Err(why) = check_local(&config.listener) {
        errors.push(error_at(loaded, "listeners", why));
    }
    if let Some(http) = &config.http_listener
        && let Err(why) = check_local(http)
    {
        errors.push(error_at(loaded, "kraft.http.listener", why));
    }
    errors
}

/// An error of a key that has a value in force: it says where that came from.
pub(crate) fn error_at(loaded: &Loaded, key: &str, why: String) -> ConfigError {
    let effective: Option<&Effective> = loaded.effective.iter().find(|e| e.key == key);
    ConfigError {
        place: effective.map(|e| e.origin.to_string()),
        key: effective.and_then(|e| e.written_as.clone()).unwrap_or_else(|| key.to_string()),
        value: effective.map(|e| e.value.clone()),
        why,
    }
}

/// An address can be bound, with any port, only where one of this machine's interfaces has it.
fn check_local(endpoint: &Endpoint) -> Result<(), String> {
    if endpoint.host.is_empty() {
        return Ok(());
    }
    let Some(addresses) = resolve(&endpoint.host) else { return Ok(()) };
    let addresses = addresses.map_err(|e| {
        format!(
            "the host {} has no address ({e}). Write localhost or an address of this machine.",
            endpoint.host
        )
    })?;
    let foreign = |ip: &IpAddr| {
        let bound = UdpSocket::bind((*ip, 0));
        bound.is_err_and(|e| e.kind() == io::ErrorKind::AddrNotAvailable)
    };
    match addresses.first() {
        Some(first) if addresses.iter().all(foreign) => Err(format!(
            "{first} is no address of this machine. Write localhost or an address that `ip address` shows."
        )),
        _ => Ok(()),
    }
}

/// `None` where the resolver is too slow, or where there is no thread for it: then the bind gives the answer.
fn resolve(host: &str) -> Option<io::Result<Vec<IpAddr>>> {
    let host = host.to_string();
    let (answer, answers) = mpsc::channel();
    let resolver = std::thread::Builder::new().name("resolver".to_string()).spawn(move || {
        let found = (host.as_str(), 0).to_socket_addrs();
        // Nobody listens after the wait: then the answer is of no use.
        let _ = answer.send(found.map(|all| all.map(|a| a.ip()).collect()));
    });
    resolver.ok()?;
    answers.recv_timeout(RESOLVE_WAIT).ok()
}
