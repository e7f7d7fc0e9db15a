//! One TCP connection on a core: bytes in, chunks out. It knows nothing of what they mean.
//!
//! The server's sessions and peer links read and write through it. Sending is tried at once with one system call for
//! all chunks; only when the socket is full does somebody wait. It never buffers what it was not given to send.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures_lite::io::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;

/// Chunks given to the kernel in one call.
const CHUNKS_PER_SEND: usize = 64;

pub struct Connection {
    /// Borrowed only inside a poll, never across one: reader and writer are different tasks.
    stream: RefCell<TcpStream>,
    fd: RawFd,
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
    /// Take over a connected socket, on the executor that will serve it.
    pub fn adopt(socket: OwnedFd) -> io::Result<Connection> {
        // SAFETY: the descriptor is ours and given away whole.
        let stream = unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) };
        Connection::from_stream(stream)
    }

    pub fn from_stream(stream: TcpStream) -> io::Result<Connection> {
        // Small answers must not wait for the acknowledgement of the one before.
        stream.set_nodelay(true).map_err(|e| io::Error::other(e.to_string()))?;
        let fd = stream.as_raw_fd();
        Ok(Connection { stream: RefCell::new(stream), fd })
    }

    /// Read into the spare room of `buffer`, which must have some. 0: the other side has closed.
    pub fn poll_read(&self, cx: &mut Context<'_>, buffer: &mut BytesMut) -> Poll<io::Result<usize>> {
        let room = buffer.chunk_mut();
        debug_assert!(room.len() > 0, "a read without room would look like a close");
        // SAFETY: the stream only hands the slice to recv(2), which writes to it and reads nothing.
        let spare = unsafe { std::slice::from_raw_parts_mut(room.as_mut_ptr(), room.len()) };
        let read = Pin::new(&mut *self.stream.borrow_mut()).poll_read(cx, spare);
        if let Poll::Ready(Ok(n)) = read {
            // SAFETY: recv(2) has filled the first `n` bytes.
            unsafe { buffer.advance_mut(n) };
        }
        read
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
            libc::sendmsg(self.fd, &message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }

    /// Wait until the socket takes bytes again, and give it some of `bytes`. Returns how many.
    pub async fn send_when_possible(&self, bytes: &[u8]) -> io::Result<usize> {
        std::future::poll_fn(|cx| Pin::new(&mut *self.stream.borrow_mut()).poll_write(cx, bytes)).await
    }

    /// As `send_when_possible` for the first chunk of `output`.
    pub async fn drain_some(&self, output: &RefCell<Output>) -> io::Result<usize> {
        let first = output.borrow().chunks.front().cloned();
        let Some(first) = first else { return Ok(0) };
        let n = self.send_when_possible(&first).await?;
        output.borrow_mut().advance(n);
        Ok(n)
    }

    /// End both directions at once: whoever waits for this connection wakes up and sees it.
    pub fn shut_down(&self) {
        // SAFETY: no pointers; the stream keeps the descriptor open.
        unsafe { libc::shutdown(self.fd, libc::SHUT_RDWR) };
    }

    /// A second descriptor of the same connection, to serve it from another core.
    pub fn duplicate(&self) -> io::Result<OwnedFd> {
        // SAFETY: the stream keeps the descriptor open during the call.
        unsafe { BorrowedFd::borrow_raw(self.fd) }.try_clone_to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use glommio::LocalExecutorBuilder;
    use std::io::{Read, Write};
    use std::rc::Rc;

    fn pair() -> (std::net::TcpStream, OwnedFd) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0.into())
    }

    fn run<T>(future: impl Future<Output = T>) -> T {
        LocalExecutorBuilder::default().io_memory(64 << 10).make().unwrap().run(future)
    }

    async fn read(connection: &Connection, buffer: &mut BytesMut) -> io::Result<usize> {
        std::future::poll_fn(|cx| {
            buffer.reserve(1 << 16);
            connection.poll_read(cx, buffer)
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
            let connection = Rc::new(Connection::adopt(server).unwrap());
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
            let connection = Rc::new(Connection::adopt(server).unwrap());
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
            let connection = Connection::adopt(server).unwrap();
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
