//! The one listening port: bound exclusively, accepted from on a thread of its own, handed to the cores in turn.
//!
//! No SO_REUSEPORT: with it a second node would silently share the port, and half of a cluster's clients would end
//! in another one. The thread reads nothing from a connection; who may stay is decided by whom it hands them to.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::rate_limit::{RateLimit, and_more};
use super::{clock, net};
use crate::types::Endpoint;

const BACKLOG: i32 = 1024;
/// Without a free descriptor nothing can be accepted: look again after this long, never spin.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Bound and listening, not accepting yet: clients that come early wait in the backlog.
#[derive(Debug)]
pub(crate) struct Listener {
    sockets: Vec<TcpListener>,
}

/// A connection from outside, on its way to a core.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) socket: OwnedFd,
    pub(crate) remote: SocketAddr,
}

impl Listener {
    /// Every address that the host stands for. `Err`: one line with the listener and what to do.
    pub(crate) fn bind(endpoint: &Endpoint) -> Result<Listener, String> {
        let sockets = bind_all(endpoint).map_err(|why| format!("listeners={endpoint}: {why}"))?;
        Ok(Listener { sockets })
    }

    #[cfg(test)]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|s| s.local_addr().ok()).collect()
    }

    /// Accept from now on. `deliver` is called on the acceptor's thread for each connection.
    pub(crate) fn start(self, deliver: impl FnMut(Accepted) + Send + 'static) -> io::Result<Acceptor> {
        let (stop_reader, stop) = io::pipe()?;
        let mut accepting = Accepting {
            sockets: self.sockets,
            stop: stop_reader.into(),
            lines: RateLimit::default(),
            deliver: Box::new(deliver),
        };
        let thread = thread::Builder::new().name("acceptor".into()).spawn(move || accepting.run())?;
        Ok(Acceptor { stop: Some(stop.into()), thread: Some(thread) })
    }
}

/// A socket for every address that the host stands for and this machine has; `localhost` is 127.0.0.1 and, where it exists,
/// ::1, because clients take either; an empty host is one socket for IPv4 and IPv6. `Err`: half a line, with what to do.
pub(crate) fn bind_all(endpoint: &Endpoint) -> Result<Vec<TcpListener>, String> {
    let addresses = resolve(endpoint)
        .map_err(|e| format!("the host cannot be resolved ({e}). Use a name or address of this machine."))?;
    let mut sockets: Vec<TcpListener> = Vec::new();
    let mut absent = None;
    for mut address in addresses {
        if let (0, Some(first)) = (address.port(), sockets.first()) {
            // Port 0 asks for any; all addresses get the same.
            address.set_port(first.local_addr().map_or(0, |a| a.port()));
        }
        match bind_one(address) {
            Ok(socket) => sockets.push(socket),
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => {
                return Err(format!(
                    "port {} is in use on {}: another process listens there (`ss -ltnp 'sport = :{}'` names it). Stop it, or \
                     give this node another port.",
                    address.port(),
                    address.ip(),
                    address.port()
                ));
            }
            Err(e) => absent = Some((address, e)),
        }
        // It takes IPv4 as well. Only where there is no IPv6 the next one is tried.
        if endpoint.host.is_empty() && !sockets.is_empty() {
            break;
        }
    }
    match (sockets.is_empty(), absent) {
        (true, Some((address, e))) => Err(explain_bind(address, &e)),
        (true, None) => Err("the host stands for no address".into()),
        _ => Ok(sockets),
    }
}

fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let found: Vec<SocketAddr> = match endpoint.host.as_str() {
        // Kafka's wildcard.
        "" => vec![SocketAddr::from(([0u16; 8], endpoint.port)), SocketAddr::from(([0u8; 4], endpoint.port))],
        "localhost" => {
            let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, endpoint.port));
            vec![SocketAddr::from(([127, 0, 0, 1], endpoint.port)), v6]
        }
        host => (host.trim_matches(['[', ']']), endpoint.port).to_socket_addrs()?.collect(),
    };
    let mut addresses: Vec<SocketAddr> = Vec::new();
    for address in found {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    Ok(addresses)
}

/// Without SO_REUSEPORT, and with SO_REUSEADDR, so that a restart need not wait for TIME_WAIT. The wildcard of IPv6 takes IPv4
/// too, whatever net.ipv6.bindv6only says.
fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = net::new_socket(&address)?;
    net::set_option(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    if address.is_ipv6() && address.ip().is_unspecified() {
        net::set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, 0)?;
    }
    net::bind(&socket, &address)?;
    // SAFETY: no pointers.
    if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(socket.into())
}

fn explain_bind(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!("{} is not an address of this machine (`ip address` lists them)", address.ip())
        }
        io::ErrorKind::PermissionDenied => {
            format!("this user may not listen on port {}: take one from 1024 up", address.port())
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

/// The running acceptor. Dropping it closes the port.
pub(crate) struct Acceptor {
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Acceptor {
    fn drop(&mut self) {
        // The other end of the pipe sees the hang-up.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Accepting {
    sockets: Vec<TcpListener>,
    stop: OwnedFd,
    lines: RateLimit,
    deliver: Box<dyn FnMut(Accepted) + Send>,
}

impl Accepting {
    fn run(&mut self) {
        while self.wait() {
            for i in 0..self.sockets.len() {
                while self.accept(i) {}
            }
        }
    }

    /// Sleep until somebody connects. False: stop.
    fn wait(&mut self) -> bool {
        let mut fds: Vec<libc::pollfd> = self
            .sockets
            .iter()
            .map(|s| s.as_raw_fd())
            .chain([self.stop.as_raw_fd()])
            .map(|fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 })
            .collect();
        // SAFETY: a slice of valid pollfds.
        unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
        fds.last().is_some_and(|stop| stop.revents == 0)
    }

    /// One connection of this socket. False: there is none now.
    fn accept(&mut self, socket: usize) -> bool {
        match accept_once(&self.sockets[socket]) {
            Ok((socket, remote)) => (self.deliver)(Accepted { socket, remote }),
            Err(e) => {
                match e.raw_os_error() {
                    Some(libc::EAGAIN) => return false,
                    Some(libc::EMFILE | libc::ENFILE | libc::ENOBUFS | libc::ENOMEM) => {
                        self.line("descriptors", || {
                        format!("No connection can be accepted for the moment ({e}): raise the limit (ulimit -n).")
                    });
                        thread::sleep(DESCRIPTOR_PAUSE);
                        return false;
                    }
                    // The client gave up in between, or a signal came.
                    _ => {}
                }
            }
        }
        true
    }

    fn line(&mut self, cause: &str, text: impl FnOnce() -> String) {
        if let Some(suppressed) = self.lines.admit(cause, clock::monotonic_ns()) {
            tracing::warn!("{}{}", text(), and_more(suppressed));
        }
    }
}

fn accept_once(socket: &TcpListener) -> io::Result<(OwnedFd, SocketAddr)> {
    let (stream, remote) = socket.accept()?;
    // On the socket for both an IPv4 client has an address like ::ffff:192.0.2.1.
    Ok((stream.into(), SocketAddr::new(remote.ip().to_canonical(), remote.port())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpStream;
    use std::sync::mpsc;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    #[test]
    fn a_port_in_use_is_refused_by_name() {
        let first = Listener::bind(&endpoint("127.0.0.1", 0)).unwrap();
        let port = first.addresses()[0].port();
        for host in ["127.0.0.1", "localhost", "", "0.0.0.0"] {
            let error = Listener::bind(&endpoint(host, port)).unwrap_err();
            assert!(error.contains(&format!("port {port} is in use")), "{host:?}: {error}");
        }
        drop(first);
        Listener::bind(&endpoint("localhost", port)).unwrap();
    }

    #[test]
    fn an_empty_host_is_one_socket_for_both_families() {
        let listener = Listener::bind(&endpoint("", 0)).unwrap();
        let addresses = listener.addresses();
        assert_eq!(addresses.len(), 1, "{addresses:?}");
        let port = addresses[0].port();
        let (sender, receiver) = mpsc::channel();
        let _acceptor = listener.start(move |accepted| drop(sender.send(accepted))).unwrap();
        let client = TcpStream::connect(("127.0.0.1", port)).unwrap();
        assert_eq!(
            receiver.recv().unwrap().remote,
            client.local_addr().unwrap(),
            "an IPv4 client is called by its own address"
        );
        if addresses[0].is_ipv6() {
            let client = TcpStream::connect(("::1", port)).unwrap();
            assert_eq!(receiver.recv().unwrap().remote, client.local_addr().unwrap());
        }
        for other in ["127.0.0.1", "0.0.0.0", "localhost", "::1", "::"] {
            let error = Listener::bind(&endpoint(other, port)).unwrap_err();
            assert!(error.contains("is in use") || other.contains(':'), "{other}: {error}");
        }
    }

    #[test]
    fn foreign_and_unknown_hosts_are_refused() {
        let error = Listener::bind(&endpoint("192.0.2.1", 0)).unwrap_err();
        assert!(error.contains("not an address of this machine"), "{error}");
        let error = Listener::bind(&endpoint("no-such-host.invalid", 0)).unwrap_err();
        assert!(error.contains("cannot be resolved"), "{error}");
    }

    #[test]
    fn connections_are_delivered_and_the_port_is_free_after_a_stop() {
        let listener = Listener::bind(&endpoint("localhost", 0)).unwrap();
        let addresses = listener.addresses();
        let (sender, receiver) = mpsc::channel();
        let acceptor = listener.start(move |accepted| drop(sender.send(accepted))).unwrap();
        for address in &addresses {
            let client = TcpStream::connect(address).unwrap();
            assert_eq!(receiver.recv().unwrap().remote, client.local_addr().unwrap());
        }
        drop(acceptor);
        assert!(TcpStream::connect(addresses[0]).is_err());
    }
}
