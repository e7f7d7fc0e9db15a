//! One TCP connection on a core: bytes in, chunks out. It knows nothing of what they mean.
//!
//! The server's sessions and peer links read and write through it. Sending is tried at once with one system call for
//! all chunks; only when the socket is full does somebody wait. It never buffers what it was not given to send.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::ring::{CoreRing, Readiness};

/// Chunks given to the kernel in one call.
const CHUNKS_PER_SEND: usize = 64;

pub struct Connection {
    // Both go before the socket.
    readable: Readiness,
    writable: Readiness,
    /// The last read took all that there was: the kernel says when there is more.
    is_drained: Cell<bool>,
    socket: OwnedFd,
}

/// Bytes waiting for the socket, in order.
#[derive(Debug, Default)]
pub struct Output {
    chunks: VecDeque<Bytes>,
}

impl Output {
    pub fn push(&mut self, chunk: Bytes) {
        if !chunk.is_empty() {
            self.chunks.push_back(chunk);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty()
    }

    pub fn bytes(&self) -> usize {
        self.chunks.iter().map(Bytes::len).sum()
    }

    fn advance(&mut self, mut bytes: usize) {
        while let Some(first) = self.chunks.front_mut() {
            if bytes < first.len() {
                first.advance(bytes);
                return;
            }
            bytes -= first.len();
            self.chunks.pop_front();
        }
    }
}

impl Connection {
    /// Take over a connected socket, on the core whose ring it is.
    pub fn adopt(socket: OwnedFd, ring: &Rc<CoreRing>) -> io::Result<Connection> {
        // Small answers must not wait for the acknowledgement of the one before.
        set_nodelay(&socket)?;
        let fd = socket.as_raw_fd();
        Ok(Connection {
            readable: Readiness::to_receive(ring.clone(), fd),
            writable: Readiness::to_write(ring.clone(), fd),
            is_drained: Cell::new(false),
            socket,
        })
    }

    /// Read into the spare room of `buffer`, which must have some. 0: the other side has closed. With fewer than `awaited`
    /// bytes more the reader could do nothing, so it is not woken for less, as far as they fit.
    pub fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        awaited: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            if self.is_drained.get() {
                ready!(self.readable.poll_for(cx, awaited.min(buffer.capacity() - buffer.len())));
                self.is_drained.set(false);
            }
            match self.receive(buffer) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => self.is_drained.set(true),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return Poll::Ready(result),
            }
        }
    }

    fn receive(&self, buffer: &mut BytesMut) -> io::Result<usize> {
        let room = buffer.chunk_mut();
        let room_bytes = room.len();
        debug_assert!(room_bytes > 0, "a read without room would look like a close");
        // SAFETY: recv(2) writes to the spare room and reads nothing of it.
        let received = unsafe {
            libc::recv(self.socket.as_raw_fd(), room.as_mut_ptr().cast(), room_bytes, libc::MSG_DONTWAIT)
        };
        let n = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        // SAFETY: recv(2) has filled the first `n` bytes.
        unsafe { buffer.advance_mut(n) };
        self.is_drained.set(0 < n && n < room_bytes);
        Ok(n)
    }

    /// Send as much as the socket takes now. Returns the bytes sent; what is left stays in `output`.
    pub fn send_now(&self, output: &mut Output) -> io::Result<usize> {
        let mut total = 0;
        while !output.is_empty() {
            match self.send_once(output) {
                Ok(n) => {
                    output.advance(n);
                    total += n;
                }
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(total)
    }

    fn send_once(&self, output: &Output) -> io::Result<usize> {
        let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; CHUNKS_PER_SEND];
        let count = output.chunks.len().min(CHUNKS_PER_SEND);
        for (vector, chunk) in vectors.iter_mut().zip(&output.chunks) {
            *vector = libc::iovec { iov_base: chunk.as_ptr().cast_mut().cast(), iov_len: chunk.len() };
        }
        // SAFETY: all zeros is a valid msghdr; the vectors name live chunks that the kernel only reads.
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = count;
            libc::sendmsg(self.socket.as_raw_fd(), &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }

    /// Wait until the socket takes bytes again, and give it some of `output`. Returns how many.
    pub async fn drain_some(&self, output: &RefCell<Output>) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.writable.poll(cx)).await;
        self.send_now(&mut output.borrow_mut())
    }

    /// End both directions at once: whoever waits for this connection wakes up and sees it.
    pub fn shut_down(&self) {
        // SAFETY: no pointers; the socket is open as long as `self` lives.
        unsafe { libc::shutdown(self.socket.as_raw_fd(), libc::SHUT_RDWR) };
    }

    /// A second descriptor of the same connection, to serve it from another core.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

fn set_nodelay(socket: &OwnedFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: an int to read, of the size told.
    let failed = unsafe {
        let (level, name) = (libc::IPPROTO_TCP, libc::TCP_NODELAY);
        let bytes = size_of_val(&on) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const on).cast(), bytes)
    };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::ring::tests::{connected, driven_ring};
    use glommio::LocalExecutorBuilder;
    use std::io::{Read, Write};
    use std::rc::Rc;

    fn pair() -> (std::net::TcpStream, OwnedFd) {
        let (server, client) = connected();
        (client, server.into())
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(future)
    }

    async fn read(connection: &Connection, buffer: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            buffer.reserve(1 << 16);
            connection.poll_read(cx, buffer, 0)
        })
        .await
    }

    #[test]
    fn bytes_go_both_ways_and_a_full_socket_is_waited_for() {
        let (mut client, server) = pair();
        let thread = std::thread::spawn(move || {
            client.write_all(b"hello").unwrap();
            std::thread::sleep(std::time::Duration::from_millis(50));
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            all
        });
        let expected: Vec<u8> = (0..40_000_000u32).map(|i| i as u8).collect();
        let source = Bytes::from(expected.clone());
        run(async move {
            let connection = Rc::new(Connection::adopt(server, &driven_ring()).unwrap());
            let mut buffer = BytesMut::new();
            assert_eq!(read(&connection, &mut buffer).await.unwrap(), 5);
            assert_eq!(buffer, "hello");
            let output = RefCell::new(Output::default());
            for start in (0..source.len()).step_by(10_001) {
                output.borrow_mut().push(source.slice(start..source.len().min(start + 10_001)));
            }
            connection.send_now(&mut output.borrow_mut()).unwrap();
            assert!(!output.borrow().is_empty(), "40 MB fitted into a socket: the test shows nothing");
            while !output.borrow().is_empty() {
                connection.drain_some(&output).await.unwrap();
                connection.send_now(&mut output.borrow_mut()).unwrap();
            }
            connection.shut_down();
        });
        assert!(thread.join().unwrap() == expected);
    }

    #[test]
    fn shut_down_wakes_the_reader() {
        let (client, server) = pair();
        run(async move {
            let connection = Rc::new(Connection::adopt(server, &driven_ring()).unwrap());
            let other = connection.clone();
            let reader = glommio::spawn_local(async move { read(&other, &mut BytesMut::new()).await });
            glommio::timer::sleep(std::time::Duration::from_millis(20)).await;
            connection.shut_down();
            assert_eq!(reader.await.unwrap(), 0);
        });
        drop(client);
    }

    #[test]
    fn a_gone_reader_is_an_error_and_not_a_signal() {
        let (client, server) = pair();
        drop(client);
        run(async move {
            let connection = Connection::adopt(server, &driven_ring()).unwrap();
            let mut failed = false;
            for _ in 0..100 {
                let mut output = Output::default();
                output.push(Bytes::from_static(&[0; 1_000]));
                failed |= connection.send_now(&mut output).is_err();
                glommio::timer::sleep(std::time::Duration::from_millis(1)).await;
            }
            assert!(failed);
        });
    }
}
