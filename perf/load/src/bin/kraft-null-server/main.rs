//! `kraft-null-server`: answers producers at once and stores nothing. What a client reaches against it is the client's own
//! ceiling, and the codec's: requests are decoded and answers encoded by the same code as in the server.
//!
//! Speaks ApiVersions, Metadata (any topic exists, with one partition), InitProducerId and Produce; anything else ends the
//! connection. It keeps no data: never point a client at it whose records matter.

mod answers;
#[path = "../../epoll.rs"]
mod epoll;

use std::collections::HashMap;
use std::io::{self, ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::process::ExitCode;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use clap::Parser;

use kraft::protocol::{FrameError, decode_request, frame_length};
use kraft::server::cli;
use kraft::server::output::{answer_line, note_line};

use answers::Broker;
use epoll::{Epoll, raise_descriptor_limit};

const LENGTH_BYTES: usize = 4;
/// Room for one read, and for one of a large request.
const READ_BYTES: usize = 64 << 10;
const READ_BYTES_MAX: usize = 2 << 20;
const LISTENER: usize = 0;

/// Answer Kafka producers at once, without storing anything
#[derive(Debug, Parser)]
#[command(name = "kraft-null-server", version)]
struct Arguments {
    /// Where to listen; of port 0 the one that was chosen is printed
    #[arg(long, default_value = "127.0.0.1:9092", value_name = "ADDRESS:PORT")]
    listen: SocketAddr,

    /// Threads that share the connections
    #[arg(long, default_value_t = 1, value_name = "N")]
    threads: usize,

    /// Largest request
    #[arg(long, default_value_t = 100 << 20, value_name = "BYTES")]
    request_bytes_max: usize,
}

fn main() -> ExitCode {
    let arguments: Arguments = match cli::arguments() {
        Ok(arguments) => arguments,
        Err(ends_with) => return ends_with,
    };
    match serve(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            note_line!("error: {}: {e}", arguments.listen);
            ExitCode::FAILURE
        }
    }
}

fn serve(arguments: &Arguments) -> io::Result<()> {
    raise_descriptor_limit();
    let listener = TcpListener::bind(arguments.listen)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let broker = Arc::new(Broker::new(address));
    answer_line!("listening on {address}, storing nothing");
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1))
            .map(|_| {
                let (listener, broker) = (&listener, broker.clone());
                scope.spawn(move || Core::new(listener, broker, arguments.request_bytes_max)?.run())
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("a thread does not panic"))
    })
}

/// One thread: its share of the connections.
struct Core<'a> {
    listener: &'a TcpListener,
    broker: Arc<Broker>,
    request_bytes_max: usize,
    epoll: Epoll,
    connections: HashMap<usize, Connection>,
    next_token: usize,
}

struct Connection {
    stream: TcpStream,
    input: BytesMut,
    output: Vec<u8>,
    is_blocked: bool,
}

impl<'a> Core<'a> {
    fn new(listener: &'a TcpListener, broker: Arc<Broker>, request_bytes_max: usize) -> io::Result<Core<'a>> {
        let epoll = Epoll::new()?;
        epoll.add_shared(listener, LISTENER)?;
        Ok(Core {
            listener,
            broker,
            request_bytes_max,
            epoll,
            connections: HashMap::new(),
            next_token: LISTENER + 1,
        })
    }

    fn run(mut self) -> io::Result<()> {
        loop {
            for i in 0..self.epoll.wait(None)? {
                let ready = self.epoll.ready(i);
                if ready.token == LISTENER {
                    self.accept()?;
                    continue;
                }
                let Some(connection) = self.connections.get_mut(&ready.token) else { continue };
                if let Err(e) = connection.on_ready(&self.broker, self.request_bytes_max) {
                    if e.kind() != ErrorKind::UnexpectedEof {
                        note_line!("note: a connection was closed: {e}");
                    }
                    self.connections.remove(&ready.token);
                } else {
                    connection.watch(&self.epoll, ready.token)?;
                }
            }
        }
    }

    fn accept(&mut self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(true)?;
                    stream.set_nodelay(true)?;
                    self.epoll.add(&stream, self.next_token)?;
                    let (input, output) = (BytesMut::new(), Vec::new());
                    let connection = Connection { stream, input, output, is_blocked: false };
                    self.connections.insert(self.next_token, connection);
                    self.next_token += 1;
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::ConnectionAborted) => {
                    return Ok(());
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
}

impl Connection {
    /// One read, all answers, one write. `Err`: it is over.
    fn on_ready(&mut self, broker: &Broker, request_bytes_max: usize) -> io::Result<()> {
        // A client that does not take its answers is not read from.
        if !self.is_blocked {
            self.read()?;
            self.answer(broker, request_bytes_max).map_err(io::Error::other)?;
        }
        self.write()
    }

    fn read(&mut self) -> io::Result<()> {
        // Room for the rest of a frame that has begun, so that it need not be moved once more.
        let announced = frame_length(&self.input, usize::MAX).ok().flatten().unwrap_or(0);
        let missing = (LENGTH_BYTES + announced).saturating_sub(self.input.len());
        self.input.reserve(missing.clamp(READ_BYTES, READ_BYTES_MAX));
        let room = self.input.spare_capacity_mut();
        // SAFETY: the kernel writes at most so many bytes into the spare room, and only those are then taken as input.
        let bytes = unsafe {
            let bytes = libc::recv(self.stream.as_raw_fd(), room.as_mut_ptr().cast(), room.len(), 0);
            self.input.set_len(self.input.len() + usize::try_from(bytes).unwrap_or(0));
            bytes
        };
        match bytes {
            0 => Err(ErrorKind::UnexpectedEof.into()),
            1.. => Ok(()),
            _ => match io::Error::last_os_error() {
                e if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Ok(()),
                e => Err(e),
            },
        }
    }

    fn answer(&mut self, broker: &Broker, request_bytes_max: usize) -> Result<(), FrameError> {
        while let Some(length) = frame_length(&self.input, request_bytes_max)? {
            if self.input.len() < LENGTH_BYTES + length {
                break;
            }
            self.input.advance(LENGTH_BYTES);
            let (header, request) = decode_request(self.input.split_to(length).freeze())?;
            for chunk in broker.answer(&header, request)?.chunks {
                self.output.extend_from_slice(&chunk);
            }
        }
        Ok(())
    }

    fn write(&mut self) -> io::Result<()> {
        let mut written = 0;
        while written < self.output.len() {
            match self.stream.write(&self.output[written..]) {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(bytes) => written += bytes,
                Err(e) if e.kind() == ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.output.drain(..written);
        Ok(())
    }

    fn watch(&mut self, epoll: &Epoll, token: usize) -> io::Result<()> {
        let is_blocked = !self.output.is_empty();
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            epoll.watch_writable(&self.stream, token, is_blocked)?;
        }
        Ok(())
    }
}
