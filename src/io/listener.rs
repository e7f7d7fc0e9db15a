//! The one listening port: bound exclusively, accepted from on a thread of its own, handed to the cores in turn.
//!
//! No SO_REUSEPORT: with it a second node would silently share the port, and half of a cluster's clients would end
//! in another one. The thread decides only whether there is room; it reads nothing from a connection.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use super::clock;
use super::rate_limit::{RateLimit, and_more};
use crate::types::Endpoint;

const BACKLOG: i32 = 1024;
/// Without a free descriptor nothing can be accepted: look again after this long, never spin.
const DESCRIPTOR_PAUSE: Duration = Duration::from_millis(100);

/// Bound and listening, not accepting yet: clients that come early wait in the backlog.
#[derive(Debug)]
pub struct Listener {
    sockets: Vec<TcpListener>,
}

/// A connection from outside, on its way to a core.
#[derive(Debug)]
pub struct Accepted {
    pub socket: OwnedFd,
    pub remote: SocketAddr,
    pub place: Place,
}

/// What the acceptor hands out.
#[derive(Debug)]
pub enum Offer {
    Accepted(Accepted),
    /// All places are taken; the connection is closed.
    Refused,
}

/// One of the `connections_max` places, free again when it is dropped.
#[derive(Debug)]
pub struct Place {
    open: Arc<AtomicUsize>,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Listener {
    /// Every address that the host stands for; `localhost` is 127.0.0.1 and, where it exists, ::1, because clients
    /// take either. `Err`: one line with the listener and what to do.
    pub fn bind(endpoint: &Endpoint) -> Result<Listener, String> {
        let wrong = |why: String| format!("listeners={endpoint}: {why}");
        let addresses = resolve(endpoint).map_err(|e| {
            wrong(format!("the host cannot be resolved ({e}). Use a name or address of this machine."))
        })?;
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
                    return Err(wrong(format!(
                        "port {} is in use on {}: another process listens there (`ss -ltnp 'sport = :{}'` names \
                         it). Stop it, or give this node another port.",
                        address.port(),
                        address.ip(),
                        address.port()
                    )));
                }
                Err(e) => absent = Some((address, e)),
            }
        }
        match (sockets.is_empty(), absent) {
            (true, Some((address, e))) => Err(wrong(explain_bind(address, &e))),
            (true, None) => Err(wrong("the host stands for no address".into())),
            _ => Ok(Listener { sockets }),
        }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.sockets.iter().filter_map(|s| s.local_addr().ok()).collect()
    }

    /// Accept from now on. `deliver` is called on the acceptor's thread for each connection.
    pub fn start(
        self,
        connections_max: usize,
        deliver: impl FnMut(Offer) + Send + 'static,
    ) -> io::Result<Acceptor> {
        let open = Arc::new(AtomicUsize::new(0));
        let (stop_reader, stop) = io::pipe()?;
        let mut accepting = Accepting {
            sockets: self.sockets,
            stop: stop_reader.into(),
            open: open.clone(),
            connections_max,
            lines: RateLimit::default(),
            deliver: Box::new(deliver),
        };
        let thread = thread::Builder::new().name("acceptor".into()).spawn(move || accepting.run())?;
        Ok(Acceptor { open, stop: Some(stop.into()), thread: Some(thread) })
    }
}

fn resolve(endpoint: &Endpoint) -> io::Result<Vec<SocketAddr>> {
    let mut addresses: Vec<SocketAddr> = match endpoint.host.as_str() {
        // Kafka's wildcard. The IPv6 one takes IPv4 too.
        "" => vec![SocketAddr::from(([0u16; 8], endpoint.port)), SocketAddr::from(([0u8; 4], endpoint.port))],
        "localhost" => {
            let v6 = SocketAddr::from((std::net::Ipv6Addr::LOCALHOST, endpoint.port));
            vec![SocketAddr::from(([127, 0, 0, 1], endpoint.port)), v6]
        }
        host => (host.trim_matches(['[', ']']), endpoint.port).to_socket_addrs()?.collect(),
    };
    addresses.dedup();
    Ok(addresses)
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    // The standard library sets SO_REUSEADDR (a restart need not wait for TIME_WAIT) and nothing else.
    let socket = TcpListener::bind(address)?;
    // SAFETY: no pointers. Listening again only changes the backlog.
    if unsafe { libc::listen(socket.as_raw_fd(), BACKLOG) } != 0 {
        return Err(io::Error::last_os_error());
    }
    socket.set_nonblocking(true)?;
    Ok(socket)
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
pub struct Acceptor {
    open: Arc<AtomicUsize>,
    stop: Option<OwnedFd>,
    thread: Option<JoinHandle<()>>,
}

impl Acceptor {
    /// Connections that hold a place.
    pub fn open_connections(&self) -> Arc<AtomicUsize> {
        self.open.clone()
    }
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
    open: Arc<AtomicUsize>,
    connections_max: usize,
    lines: RateLimit,
    deliver: Box<dyn FnMut(Offer) + Send>,
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
            Ok((socket, remote)) => self.admit(socket, remote),
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

    fn admit(&mut self, socket: OwnedFd, remote: SocketAddr) {
        let open = self.open.fetch_add(1, Ordering::Relaxed);
        let place = Place { open: self.open.clone() };
        if open >= self.connections_max {
            drop(place);
            (self.deliver)(Offer::Refused);
            let max = self.connections_max;
            self.line("full", || {
                format!("Refused a connection from {remote}: {open} are open, and max.connections is {max}.")
            });
            return;
        }
        (self.deliver)(Offer::Accepted(Accepted { socket, remote, place }));
    }

    fn line(&mut self, cause: &str, text: impl FnOnce() -> String) {
        if let Some(suppressed) = self.lines.admit(cause, clock::monotonic_ns()) {
            tracing::warn!("{}{}", text(), and_more(suppressed));
        }
    }
}

fn accept_once(socket: &TcpListener) -> io::Result<(OwnedFd, SocketAddr)> {
    let (stream, remote) = socket.accept()?;
    Ok((stream.into(), remote))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpStream;
    use std::sync::mpsc;

    fn endpoint(host: &str, port: u16) -> Endpoint {
        Endpoint { host: host.into(), port }
    }

    fn deliver_to(sender: mpsc::Sender<Offer>) -> impl FnMut(Offer) + Send {
        move |offer| drop(sender.send(offer))
    }

    fn accepted(receiver: &mpsc::Receiver<Offer>) -> Accepted {
        match receiver.recv().unwrap() {
            Offer::Accepted(accepted) => accepted,
            Offer::Refused => panic!("refused"),
        }
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
        let acceptor = listener.start(10, deliver_to(sender)).unwrap();
        for address in &addresses {
            let client = TcpStream::connect(address).unwrap();
            let accepted = accepted(&receiver);
            assert_eq!(accepted.remote, client.local_addr().unwrap());
            assert_eq!(acceptor.open_connections().load(Ordering::Relaxed), 1);
            drop(accepted);
            assert_eq!(acceptor.open_connections().load(Ordering::Relaxed), 0);
        }
        drop(acceptor);
        assert!(TcpStream::connect(addresses[0]).is_err());
    }

    #[test]
    fn over_the_limit_connections_are_closed_until_one_ends() {
        let listener = Listener::bind(&endpoint("127.0.0.1", 0)).unwrap();
        let address = listener.addresses()[0];
        let (sender, receiver) = mpsc::channel();
        let _acceptor = listener.start(1, deliver_to(sender)).unwrap();
        let _first = TcpStream::connect(address).unwrap();
        let held = accepted(&receiver);
        let mut second = TcpStream::connect(address).unwrap();
        assert!(matches!(second.read(&mut [0]), Ok(0) | Err(_)), "the second must be closed");
        assert!(matches!(receiver.recv().unwrap(), Offer::Refused));
        drop(held);
        let _third = TcpStream::connect(address).unwrap();
        accepted(&receiver);
    }
}
