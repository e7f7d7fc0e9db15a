//! A small HTTP/1.1 server for the pages: GET and HEAD, one request a connection, everything bounded.
//!
//! A thread accepts and one thread serves each connection. It shares nothing with the executors but the snapshots that the
//! pages read, so a scraper that is slow, or many of them, cost a replica nothing. Nor each other: who comes last is always
//! served, and who has sent no request for the longest time makes room for him. `/live` would be no sign of life else.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::pages::{self, Page};
use super::places::{Place, Places};
use super::{ControlError, Shared};
use crate::io::listener::bind_all;
use crate::types::Endpoint;

const HEAD_BYTES_MAX: usize = 8192;
const HEADERS_MAX: usize = 64;
/// For the request, and again for the answer.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(5);
/// The same where no thread is to be had, and the acceptor serves a connection itself.
const CONNECTION_TIMEOUT_HERE: Duration = Duration::from_millis(250);
/// After the answer, what the client still sends is read this long, so that a reset does not overtake the answer.
const LINGER: Duration = Duration::from_millis(200);
/// After a failed accept (no file descriptors left).
const ACCEPT_BACKOFF: Duration = Duration::from_millis(200);
const STACK_BYTES: usize = 512 * 1024;

pub(super) struct HttpServer {
    address: SocketAddr,
    stopping: Arc<AtomicBool>,
    acceptor: JoinHandle<()>,
}

impl HttpServer {
    pub(super) fn start(endpoint: &Endpoint, shared: Arc<Shared>) -> Result<HttpServer, ControlError> {
        let refused = |why: String| {
            ControlError::Listener(format!("kraft.http.listener={endpoint} cannot be bound: {why}"))
        };
        let listeners = bind_all(endpoint).map_err(refused)?;
        let address = listeners[0].local_addr().map_err(|e| refused(e.to_string()))?;
        let stopping = Arc::new(AtomicBool::new(false));
        let stop = stopping.clone();
        let acceptor = thread::Builder::new()
            .name("http-accept".to_string())
            .spawn(move || accept(&listeners, &shared, &stop))
            .map_err(ControlError::Thread)?;
        Ok(HttpServer { address, stopping, acceptor })
    }

    #[cfg(test)]
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// No new connections; those under way end by themselves within their timeouts.
    pub(super) fn stop(self) {
        self.stopping.store(true, Ordering::SeqCst);
        let mut wake = self.address;
        if wake.ip().is_unspecified() {
            wake.set_ip(if wake.is_ipv4() { Ipv4Addr::LOCALHOST.into() } else { Ipv6Addr::LOCALHOST.into() });
        }
        // Without the connection the acceptor sleeps on, and the process ends all the same.
        if TcpStream::connect_timeout(&wake, Duration::from_secs(1)).is_ok() {
            let _ = self.acceptor.join();
        }
    }
}

fn accept(listeners: &[TcpListener], shared: &Arc<Shared>, stopping: &AtomicBool) {
    let places = Places::default();
    while wait_for_one(listeners) && !stopping.load(Ordering::SeqCst) {
        for listener in listeners {
            match listener.accept() {
                Ok((stream, _)) if stream.set_nonblocking(false).is_ok() => {
                    serve_on_thread(Visit { place: places.take(&stream), stream }, shared.clone());
                }
                // One that is gone already.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                Err(e) => {
                    tracing::debug!("No HTTP connection was accepted: {e}.");
                    thread::sleep(ACCEPT_BACKOFF);
                }
            }
        }
    }
}

/// Until somebody connects to one of them. False: that cannot be waited for.
fn wait_for_one(listeners: &[TcpListener]) -> bool {
    let watched =
        |listener: &TcpListener| libc::pollfd { fd: listener.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    let mut fds: Vec<libc::pollfd> = listeners.iter().map(watched).collect();
    // SAFETY: a slice of valid pollfds.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, -1) };
    ready >= 0 || io::Error::last_os_error().kind() == io::ErrorKind::Interrupted
}

/// A connection that is being served.
struct Visit {
    /// Dropped first: it names the descriptor of the stream.
    place: Place,
    stream: TcpStream,
}

fn serve_on_thread(visit: Visit, shared: Arc<Shared>) {
    // Through a queue, so that it is still here where no thread took it.
    let (given, taken) = mpsc::sync_channel::<Visit>(1);
    let here = shared.clone();
    let started = thread::Builder::new().name("http".to_string()).stack_size(STACK_BYTES).spawn(move || {
        if let Ok(visit) = taken.recv() {
            serve_until(visit, &shared, CONNECTION_TIMEOUT);
        }
    });
    match started {
        // That thread waits for it, and lives.
        Ok(_) => drop(given.send(visit)),
        Err(e) => {
            tracing::debug!(
                "The acceptor serves an HTTP connection itself: no thread could be started ({e})."
            );
            serve_until(visit, &here, CONNECTION_TIMEOUT_HERE);
        }
    }
}

fn serve_until(mut visit: Visit, shared: &Shared, timeout: Duration) {
    if let Err(e) = serve(&mut visit, shared, timeout) {
        tracing::debug!("An HTTP connection ended early: {e}.");
    }
}

fn serve(visit: &mut Visit, shared: &Shared, timeout: Duration) -> io::Result<()> {
    let request = read_request(&mut visit.stream, timeout)?;
    visit.place.has_asked();
    let (page, with_body) = match request {
        Request::Get(path) => (pages::page(&path, shared), true),
        Request::Head(path) => (pages::page(&path, shared), false),
        Request::Bad(page) => (page, true),
        Request::None => return Ok(()),
    };
    visit.stream.set_write_timeout(Some(timeout))?;
    visit.stream.write_all(&response(&page, with_body))?;
    visit.stream.shutdown(Shutdown::Write)?;
    drain(&mut visit.stream)
}

enum Request {
    Get(String),
    Head(String),
    Bad(Page),
    /// The client closed, or was too slow, before it had sent anything.
    None,
}

fn read_request(stream: &mut TcpStream, timeout: Duration) -> io::Result<Request> {
    let deadline = Instant::now() + timeout;
    let mut head = Vec::with_capacity(1024);
    loop {
        if let Some(request) = parse(&head) {
            return Ok(request);
        }
        if head.len() >= HEAD_BYTES_MAX {
            return Ok(too_large());
        }
        let wait = deadline.saturating_duration_since(Instant::now());
        let mut chunk = [0; 1024];
        let read = match wait.is_zero() {
            true => Err(io::ErrorKind::TimedOut.into()),
            false => stream.set_read_timeout(Some(wait)).and_then(|()| stream.read(&mut chunk)),
        };
        match read {
            Ok(0) if head.is_empty() => return Ok(Request::None),
            Ok(0) => return Ok(Request::Bad(pages::text(400, "The request ends before its head does."))),
            Ok(n) => head.extend_from_slice(&chunk[..n.min(HEAD_BYTES_MAX - head.len())]),
            Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                return Ok(Request::Bad(pages::text(408, "The request took too long.")));
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn too_large() -> Request {
    Request::Bad(pages::text(431, "The request head is too large."))
}

/// `None` until the head is complete.
fn parse(head: &[u8]) -> Option<Request> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut request = httparse::Request::new(&mut headers);
    match request.parse(head) {
        Ok(httparse::Status::Partial) => return None,
        Ok(httparse::Status::Complete(_)) => {}
        Err(httparse::Error::TooManyHeaders) => return Some(too_large()),
        Err(e) => return Some(Request::Bad(pages::text(400, &format!("This is not an HTTP request: {e}.")))),
    }
    let path = request.path.unwrap_or_default();
    let path = path.split_once('?').map_or(path, |(path, _)| path).to_string();
    Some(match request.method {
        Some("GET") => Request::Get(path),
        Some("HEAD") => Request::Head(path),
        _ => Request::Bad(pages::text(405, "Only GET and HEAD are answered.")),
    })
}

fn response(page: &Page, with_body: bool) -> Vec<u8> {
    let allow = if page.status == 405 { "Allow: GET, HEAD\r\n" } else { "" };
    let mut bytes = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n{allow}Connection: close\r\n\r\n",
        page.status,
        reason(page.status),
        page.content_type,
        page.body.len()
    )
    .into_bytes();
    if with_body {
        bytes.extend_from_slice(page.body.as_bytes());
    }
    bytes
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        _ => "Service Unavailable",
    }
}

/// Until the client closes, but not longer than `LINGER`.
fn drain(stream: &mut TcpStream) -> io::Result<()> {
    let deadline = Instant::now() + LINGER;
    let mut ignored = [0; 4096];
    loop {
        let wait = deadline.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            return Ok(());
        }
        stream.set_read_timeout(Some(wait))?;
        match stream.read(&mut ignored) {
            Ok(0) | Err(_) => return Ok(()),
            Ok(_) => {}
        }
    }
}
