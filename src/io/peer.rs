//! Outbound connections to other voters: resolve, connect, give up in time. What is said on them is the replica's.

use std::cell::Cell;
use std::future::poll_fn;
use std::io::{self, ErrorKind};
use std::mem::size_of;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use super::connection::Connection;
use super::doorbell::Doorbell;
use super::net;
use super::ring::{CoreRing, Readiness};
use crate::types::Endpoint;

/// Which of an endpoint's addresses is tried first: the one that worked, or one that has not been tried for longest. Whoever
/// orders a connection has less patience than a name with several dead addresses takes; so the next order goes on where
/// this one was given up. Clones share it.
#[derive(Clone, Debug, Default)]
pub(crate) struct FirstAddress(Rc<Cell<usize>>);

impl FirstAddress {
    /// Another link to the same endpoint may have gone on already.
    fn pass(&self, tried: usize) {
        if self.0.get() == tried {
            self.0.set(tried.wrapping_add(1));
        }
    }
}

/// Try each address of the endpoint in turn, each for at most `timeout`, as long as `is_wanted`. The error names the last one
/// tried, or one that refused (`ErrorKind::ConnectionRefused`: the host lives, and nobody listens).
pub(crate) async fn connect(
    endpoint: &Endpoint,
    timeout: Duration,
    ring: &Rc<CoreRing>,
    first: &FirstAddress,
    is_wanted: impl Fn() -> bool,
) -> io::Result<Connection> {
    let mut failure: Option<io::Error> = None;
    let addresses = addresses(endpoint, ring).await?;
    for _ in 0..addresses.len() {
        let turn = first.0.get();
        let address = addresses[turn % addresses.len()];
        match connect_to(address, timeout, ring).await {
            Ok(socket) => return Connection::adopt(socket, ring),
            Err(error) => {
                first.pass(turn);
                let is_refusal_known =
                    failure.as_ref().is_some_and(|known| known.kind() == ErrorKind::ConnectionRefused);
                if !is_refusal_known {
                    failure = Some(io::Error::new(error.kind(), format!("{address}: {error}")));
                }
            }
        }
        if !is_wanted() {
            break;
        }
    }
    Err(failure.unwrap_or_else(|| io::Error::other(format!("{} stands for no address", endpoint.host))))
}

async fn connect_to(address: SocketAddr, timeout: Duration, ring: &Rc<CoreRing>) -> io::Result<OwnedFd> {
    let socket = net::new_socket(&address)?;
    // The kernel gives up by itself: the core has no timer for it.
    set_user_timeout(&socket, timeout)?;
    match net::connect(&socket, &address) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => {
            let connected = Readiness::to_write(ring.clone(), socket.as_raw_fd());
            poll_fn(|cx| connected.poll(cx)).await;
            take_error(&socket)?;
        }
        result => result?,
    }
    // A connection that stands is given up by the replica, which knows what it waits for.
    set_user_timeout(&socket, Duration::ZERO)?;
    Ok(socket)
}

/// Unanswered for so long, the kernel gives a connection up, also one that is being made; zero: its own patience.
fn set_user_timeout(socket: &OwnedFd, timeout: Duration) -> io::Result<()> {
    let ms = libc::c_int::try_from(timeout.as_millis()).unwrap_or(libc::c_int::MAX);
    net::set_option(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms)
}

/// How the connecting ended.
fn take_error(socket: &OwnedFd) -> io::Result<()> {
    let (mut error, mut size): (libc::c_int, u32) = (0, size_of::<libc::c_int>() as u32);
    // SAFETY: both live during the call, and the one is as long as the other says.
    let result = unsafe {
        let (value, size) = ((&raw mut error).cast(), &raw mut size);
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_ERROR, value, size)
    };
    match (result, error) {
        (0, 0) => Ok(()),
        (0, error) => Err(io::Error::from_raw_os_error(error)),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Names are looked up on a thread of their own: a name server that hangs must not hold up the core.
async fn addresses(endpoint: &Endpoint, ring: &Rc<CoreRing>) -> io::Result<Vec<SocketAddr>> {
    let port = endpoint.port;
    let host = endpoint.host.trim_matches(['[', ']']).to_string();
    if host == "localhost" {
        let loopback: [IpAddr; 2] = [Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
        return Ok(loopback.map(|ip| SocketAddr::new(ip, port)).to_vec());
    }
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let (found, looked_up) = mpsc::channel();
    let done = Doorbell::new()?;
    let is_done = Readiness::to_read(ring.clone(), done.raw_fd());
    let bell = done.clone();
    std::thread::Builder::new().name("resolver".into()).spawn(move || {
        let result = (host.as_str(), port).to_socket_addrs().map(|found| found.collect::<Vec<_>>());
        // Nobody listens any more when the node stops meanwhile.
        let _ = found.send(result);
        bell.ring();
    })?;
    poll_fn(|cx| is_done.poll(cx)).await;
    looked_up.try_recv().unwrap_or_else(|_| Err(io::Error::other("the resolver ended without an answer")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ring::tests::drive;
    use std::time::Instant;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[test]
    fn connects_by_name_and_by_address_and_nothing_else_wakes_the_core() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let start = Instant::now();
        for host in ["localhost", "127.0.0.1", "[127.0.0.1]", "ip6-localhost.invalid"] {
            // Whoever answers for names may be slow to say that there is none.
            let timeout = Duration::from_secs(if host.ends_with("invalid") { 2 } else { 10 });
            let connected = drive(async move |ring| {
                connect(&endpoint(host, port), timeout, &ring, &FirstAddress::default(), || true)
                    .await
                    .is_ok()
            });
            assert_eq!(connected, !host.ends_with("invalid"), "{host}");
        }
        assert!(start.elapsed() < Duration::from_secs(15), "a wake-up was lost: {:?}", start.elapsed());
    }

    #[test]
    fn a_refused_port_and_a_silent_host_are_errors_in_time() {
        let connect_to = |host: &'static str, port, timeout_ms| {
            drive(async move |ring| {
                let timeout = Duration::from_millis(timeout_ms);
                connect(&endpoint(host, port), timeout, &ring, &FirstAddress::default(), || true)
                    .await
                    .err()
                    .map(|error| error.kind())
            })
        };
        assert_eq!(connect_to("127.0.0.1", 1, 20_000), Some(io::ErrorKind::ConnectionRefused));
        // Refused at one of its addresses, whatever the other says.
        assert_eq!(connect_to("localhost", 1, 20_000), Some(io::ErrorKind::ConnectionRefused));
        let start = Instant::now();
        // A test network of RFC 5737: nobody answers, or there is no route.
        assert!(connect_to("192.0.2.1", 9, 200).is_some());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    }

    /// Of `localhost`, 127.0.0.1 and ::1, only the latter answers.
    #[test]
    fn the_next_order_begins_with_the_address_that_worked_or_after_the_one_that_did_not() {
        let Ok(listener) = std::net::TcpListener::bind("[::1]:0") else { return };
        let port = listener.local_addr().unwrap().port();
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            // Somebody else listens there.
            return;
        }
        let first = drive(async move |ring| {
            let first = FirstAddress::default();
            let timeout = Duration::from_secs(20);
            let given_up = connect(&endpoint("localhost", port), timeout, &ring, &first, || false).await;
            assert!(given_up.is_err(), "it was to be tried once");
            let after_giving_up = first.0.get();
            for _ in 0..3 {
                connect(&endpoint("localhost", port), timeout, &ring, &first, || false).await.unwrap();
            }
            (after_giving_up, first.0.get())
        });
        assert_eq!(first, (1, 1));
    }
}
