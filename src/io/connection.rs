//! One TCP connection on a core: bytes in, chunks out. It knows nothing of what they mean.
//!
//! The server's sessions and peer links read and write through it. It reads when the ring says that there is something, and
//! sends through the ring. It never buffers what it was not given to send.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut, Bytes, BytesMut};

use super::ring::outbox::Outbox;
use super::ring::{CoreRing, Readiness};

/// The kernel asks after a silent client then, so often, and gives it up when it answers none of so many.
const KEEPALIVE_IDLE_S: libc::c_int = 60;
const KEEPALIVE_INTERVAL_S: libc::c_int = 10;
const KEEPALIVE_PROBES: libc::c_int = 6;

pub(crate) struct Connection {
    // It goes before the socket.
    readable: Readiness,
    ended: Readiness,
    /// The last read took all that there was: the kernel says when there is more.
    is_drained: Cell<bool>,
    outbox: Rc<Outbox>,
    socket: Rc<OwnedFd>,
}

impl Connection {
    /// Take over a connected socket, on the core whose ring it is.
    pub(crate) fn adopt(socket: OwnedFd, ring: &Rc<CoreRing>) -> io::Result<Connection> {
        // Small answers must not wait for the acknowledgement of the one before.
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_NODELAY, 1)?;
        // A client whose machine is gone says nothing any more.
        set_option(&socket, libc::SOL_SOCKET, libc::SO_KEEPALIVE, 1)?;
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE, KEEPALIVE_IDLE_S)?;
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPINTVL, KEEPALIVE_INTERVAL_S)?;
        set_option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPCNT, KEEPALIVE_PROBES)?;
        let socket = Rc::new(socket);
        Ok(Connection {
            readable: Readiness::to_receive(ring.clone(), socket.as_raw_fd()),
            ended: Readiness::to_end(ring.clone(), socket.as_raw_fd()),
            is_drained: Cell::new(false),
            outbox: Outbox::new(ring.clone(), socket.clone()),
            socket,
        })
    }

    /// Ready when a `read` may bring something. With fewer than `awaited` bytes the reader could do nothing, so it is not
    /// woken for less; the room that it has for them bounds it.
    pub(crate) fn poll_readable(&self, cx: &mut Context<'_>, awaited: usize) -> Poll<()> {
        if self.is_drained.get() {
            ready!(self.readable.poll_for(cx, awaited));
            self.is_drained.set(false);
        }
        Poll::Ready(())
    }

    /// Read into the spare room of `buffer`, which must have some, `bytes_max` at most. 0: the other side has closed.
    /// `WouldBlock`: there is nothing, and `poll_readable` waits for it.
    pub(crate) fn read(&self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        loop {
            match self.receive(buffer, bytes_max) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {
                    self.is_drained.set(true);
                    return Err(e);
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                result => return result,
            }
        }
    }

    fn receive(&self, buffer: &mut BytesMut, bytes_max: usize) -> io::Result<usize> {
        let room = buffer.chunk_mut();
        let room_bytes = room.len().min(bytes_max);
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

    /// Both in one.
    pub(crate) fn poll_read(
        &self,
        cx: &mut Context<'_>,
        buffer: &mut BytesMut,
        awaited: usize,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.poll_readable(cx, awaited.min(buffer.capacity() - buffer.len())));
            match self.read(buffer, usize::MAX) {
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Ready when the other side sends nothing more, also where nobody reads. The kernel is asked once, through the ring.
    pub(crate) fn poll_end(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.ended.poll(cx)
    }

    /// Received and not read.
    pub(crate) fn unread_bytes(&self) -> usize {
        let mut bytes: libc::c_int = 0;
        // SAFETY: an int to write to.
        let failed = unsafe { libc::ioctl(self.socket.as_raw_fd(), libc::FIONREAD, &raw mut bytes) };
        if failed != 0 { 0 } else { usize::try_from(bytes).unwrap_or(0) }
    }

    /// Bytes to send, behind those that wait already. Nothing of a connection that is gone.
    pub(crate) fn push(&self, chunk: Bytes) {
        self.outbox.push(chunk);
    }

    /// Send what was pushed with the ring's next call.
    pub(crate) fn send(&self) {
        self.outbox.send();
    }

    /// Bytes that were pushed and are not with the kernel.
    pub(crate) fn unsent_bytes(&self) -> usize {
        self.outbox.unsent_bytes()
    }

    /// Bytes that the kernel has taken since the last time.
    pub(crate) fn take_sent(&self) -> usize {
        self.outbox.take_sent()
    }

    /// Wake this task when a send has ended.
    pub(crate) fn wake_when_sent(&self, waker: &Waker) {
        self.outbox.wake_when_sent(waker);
    }

    /// The other side takes nothing.
    pub(crate) fn is_full(&self) -> bool {
        self.outbox.is_full()
    }

    /// End both directions, after what was sent as far as there is room for it: whoever waits for this connection wakes up
    /// and sees it.
    pub(crate) fn shut_down(&self) {
        self.outbox.shut_down();
    }

    /// Its socket, open as long as this lives.
    pub(crate) fn descriptor(&self) -> &OwnedFd {
        &self.socket
    }

    /// The round trip to the other side as TCP has measured it; `None` where nothing was acknowledged yet.
    pub(crate) fn round_trip_ns(&self) -> Option<u64> {
        let mut info = std::mem::MaybeUninit::<libc::tcp_info>::zeroed();
        let mut bytes = size_of::<libc::tcp_info>() as libc::socklen_t;
        // SAFETY: the kernel writes at most as many bytes as it is told, into a struct of plain numbers that is all zeros.
        let info = unsafe {
            let (level, name) = (libc::IPPROTO_TCP, libc::TCP_INFO);
            let failed = libc::getsockopt(
                self.socket.as_raw_fd(),
                level,
                name,
                info.as_mut_ptr().cast(),
                &raw mut bytes,
            );
            if failed != 0 {
                return None;
            }
            info.assume_init()
        };
        (info.tcpi_rtt > 0).then_some(u64::from(info.tcpi_rtt) * 1_000)
    }

    /// A second descriptor of the same connection, to serve it from another core.
    pub(crate) fn duplicate(&self) -> io::Result<OwnedFd> {
        self.socket.try_clone()
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // Else the ring would hold it until the other side reads.
        if self.is_full() {
            self.shut_down();
        }
    }
}

fn set_option(socket: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    // SAFETY: an int to read, of the size told.
    let failed = unsafe {
        let bytes = size_of_val(&value) as libc::socklen_t;
        libc::setsockopt(socket.as_raw_fd(), level, name, (&raw const value).cast(), bytes)
    };
    if failed != 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::io::executor::tests::{run, sleep, task};
    use crate::io::ring::tests::{connected, driven_ring};
    use std::io::{Read, Write};

    fn pair() -> (std::net::TcpStream, OwnedFd) {
        let (server, client) = connected();
        (client, server.into())
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
            for start in (0..source.len()).step_by(10_001) {
                connection.push(source.slice(start..source.len().min(start + 10_001)));
            }
            connection.send();
            let mut rounds = 0;
            while connection.unsent_bytes() > 0 {
                rounds += 1;
                assert!(rounds < 20_000, "{} bytes were not sent within 20 s", connection.unsent_bytes());
                sleep(std::time::Duration::from_millis(1)).await;
            }
            assert_eq!(connection.take_sent(), source.len());
            assert!(
                connection.round_trip_ns().is_some_and(|ns| ns < 20_000_000_000),
                "acknowledged over loopback"
            );
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
            let reader = task(async move { read(&other, &mut BytesMut::new()).await });
            sleep(std::time::Duration::from_millis(20)).await;
            connection.shut_down();
            assert_eq!(reader.await.unwrap(), 0);
        });
        drop(client);
    }
}
