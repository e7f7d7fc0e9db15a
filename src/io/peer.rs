//! Outbound connections to other voters: resolve, connect, give up in time. What is said on them is the replica's.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpStream;

use super::connection::Connection;
use super::ring::CoreRing;
use crate::types::Endpoint;

/// Try each address of the endpoint in turn, each for at most `timeout`. The error names the last one tried.
pub async fn connect(endpoint: &Endpoint, timeout: Duration, ring: &Rc<CoreRing>) -> io::Result<Connection> {
    // glommio resolves and connects: that is rare, and needs its timers.
    let _outside = ring.outside();
    let mut failure = None;
    for address in addresses(endpoint).await? {
        match TcpStream::connect_timeout(address, timeout).await {
            Ok(stream) => return adopt(&stream, ring),
            Err(error) => failure = Some(io::Error::other(format!("{address}: {error}"))),
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::other(format!("{} stands for no address", endpoint.host))))
}

fn adopt(stream: &TcpStream, ring: &Rc<CoreRing>) -> io::Result<Connection> {
    // SAFETY: the stream keeps the descriptor open during the call.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) }.try_clone_to_owned()?;
    Connection::adopt(socket, ring)
}

/// Names are looked up on a thread of the executor's pool: a name server that hangs must not hold up the core.
async fn addresses(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let port = endpoint.port;
    let host = endpoint.host.trim_matches(['[', ']']).to_string();
    if host == "localhost" {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let lookup = glommio::executor().spawn_blocking(move || {
        (host.as_str(), port).to_socket_addrs().map(|found| found.collect::<Vec<_>>())
    });
    lookup.await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ring::tests::driven_ring;
    use glommio::LocalExecutorBuilder;
    use std::time::Instant;

    fn run<T>(future: impl Future<Output = T>) -> T {
        LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(future)
    }

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[test]
    fn connects_by_name_and_by_address() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        run(async move {
            let ring = driven_ring();
            for host in ["localhost", "127.0.0.1", "ip6-localhost.invalid"] {
                let connected = connect(&endpoint(host, port), Duration::from_secs(2), &ring).await;
                assert_eq!(connected.is_ok(), !host.ends_with("invalid"), "{host}");
            }
        });
    }

    #[test]
    fn a_refused_port_and_a_silent_host_are_errors_in_time() {
        run(async move {
            let ring = driven_ring();
            let start = Instant::now();
            assert!(connect(&endpoint("127.0.0.1", 1), Duration::from_secs(2), &ring).await.is_err());
            // A test network of RFC 5737: nobody answers, or there is no route.
            assert!(connect(&endpoint("192.0.2.1", 9), Duration::from_millis(200), &ring).await.is_err());
            assert!(start.elapsed() < Duration::from_secs(2));
        });
    }
}
