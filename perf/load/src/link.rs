//! One socket that never blocks, with what waits to be written and what has come of a frame.

use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::net::TcpStream;

use kraft::protocol::frame_length;

use crate::epoll::Epoll;

/// Smaller batches are gathered for one system call; larger ones go out from where they lie, without a copy.
const GATHER_BYTES_MAX: usize = 8 << 10;
/// No answer to a producer is near it.
const ANSWER_BYTES_MAX: usize = 1 << 20;
const LENGTH_BYTES: usize = 4;

pub(crate) struct Link {
    stream: TcpStream,
    token: usize,
    input: Vec<u8>,
    output: Vec<u8>,
    /// So much of `output` is written.
    written: usize,
    is_blocked: bool,
}

impl Link {
    /// `stream` may be blocking until here.
    pub(crate) fn new(stream: TcpStream, epoll: &Epoll, token: usize) -> io::Result<Link> {
        stream.set_nonblocking(true)?;
        epoll.add(&stream, token)?;
        Ok(Link { stream, token, input: Vec::new(), output: Vec::new(), written: 0, is_blocked: false })
    }

    /// Sends, or keeps for `flush`, a head and the batch behind it.
    pub(crate) fn push(&mut self, epoll: &Epoll, head: &[u8], batch: &[u8]) -> io::Result<()> {
        if self.is_blocked || batch.len() < GATHER_BYTES_MAX {
            self.output.extend_from_slice(head);
            self.output.extend_from_slice(batch);
            return Ok(());
        }
        self.flush(epoll)?;
        let written = match self.is_blocked {
            true => 0,
            false => write_some(&mut self.stream, &[IoSlice::new(head), IoSlice::new(batch)])?,
        };
        self.output.extend_from_slice(&head[written.min(head.len())..]);
        self.output.extend_from_slice(&batch[written.saturating_sub(head.len())..]);
        self.watch(epoll)
    }

    /// Writes what waits, as far as the socket takes it; the rest goes when it has room.
    pub(crate) fn flush(&mut self, epoll: &Epoll) -> io::Result<()> {
        while self.written < self.output.len() {
            match write_some(&mut self.stream, &[IoSlice::new(&self.output[self.written..])])? {
                0 => break,
                written => self.written += written,
            }
        }
        if self.written == self.output.len() {
            self.output.clear();
            self.written = 0;
        }
        self.watch(epoll)
    }

    fn watch(&mut self, epoll: &Epoll) -> io::Result<()> {
        let is_blocked = !self.output.is_empty();
        if is_blocked != self.is_blocked {
            self.is_blocked = is_blocked;
            epoll.watch_writable(&self.stream, self.token, is_blocked)?;
        }
        Ok(())
    }

    /// One read; `on_frame` gets each whole frame without its length. What is left in the socket is told of again.
    pub(crate) fn read(&mut self, scratch: &mut [u8], mut on_frame: impl FnMut(&[u8])) -> io::Result<()> {
        let bytes = match self.stream.read(scratch) {
            Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
            Ok(bytes) => bytes,
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => return Ok(()),
            Err(e) => return Err(e),
        };
        self.input.extend_from_slice(&scratch[..bytes]);
        let mut at = 0;
        while let Some(length) =
            frame_length(&self.input[at..], ANSWER_BYTES_MAX).map_err(io::Error::other)?
        {
            let Some(frame) = self.input[at + LENGTH_BYTES..].get(..length) else { break };
            on_frame(frame);
            at += LENGTH_BYTES + length;
        }
        self.input.drain(..at);
        Ok(())
    }
}

/// Bytes written, 0 if the socket is full.
fn write_some(stream: &mut TcpStream, slices: &[IoSlice<'_>]) -> io::Result<usize> {
    loop {
        match stream.write_vectored(slices) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => return Ok(written),
            Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(0),
            Err(e) if e.kind() == ErrorKind::Interrupted => continue,
            Err(e) => return Err(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::time::Duration;

    fn pair() -> (Epoll, Link, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let epoll = Epoll::new().unwrap();
        let link = Link::new(stream, &epoll, 7).unwrap();
        (epoll, link, listener.accept().unwrap().0)
    }

    #[test]
    fn what_a_full_socket_does_not_take_goes_later_and_in_order() {
        let (mut epoll, mut link, mut peer) = pair();
        let mut expected = Vec::new();
        for n in 0..200u8 {
            let batch = vec![n; if n % 2 == 0 { 100 } else { 100_000 }];
            link.push(&epoll, &[0xff, n], &batch).unwrap();
            expected.extend_from_slice(&[0xff, n]);
            expected.extend_from_slice(&batch);
        }
        link.flush(&epoll).unwrap();
        assert!(link.is_blocked, "10 MB do not fit into a socket's buffer");
        let wanted = expected.len();
        let reader = std::thread::spawn(move || {
            let mut got = vec![0; wanted];
            peer.read_exact(&mut got).unwrap();
            (got, peer)
        });
        while link.is_blocked {
            assert!(epoll.wait(Some(Duration::from_secs(10))).unwrap() > 0, "the socket gets room");
            let ready = epoll.ready(0);
            assert_eq!((ready.token, ready.is_writable), (7, true));
            link.flush(&epoll).unwrap();
        }
        let (got, _peer) = reader.join().unwrap();
        assert!(got == expected);
        assert_eq!(epoll.wait(Some(Duration::ZERO)).unwrap(), 0, "room is no news once nothing waits");
    }

    #[test]
    fn frames_are_cut_wherever_the_stream_is_broken() {
        let (mut epoll, mut link, mut peer) = pair();
        peer.set_nodelay(true).unwrap();
        let bytes = [&[0, 0, 0, 3][..], b"abc", &[0, 0, 0, 0], &[0, 0, 0, 2], b"de"].concat();
        let mut frames = Vec::new();
        for byte in bytes {
            peer.write_all(&[byte]).unwrap();
            epoll.wait(Some(Duration::from_secs(10))).unwrap();
            link.read(&mut [0; 64], |frame| frames.push(frame.to_vec())).unwrap();
        }
        assert_eq!(frames, [&b"abc"[..], b"", b"de"]);
        drop(peer);
        epoll.wait(Some(Duration::from_secs(10))).unwrap();
        let error = link.read(&mut [0; 64], |_| ()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::UnexpectedEof);
    }
}
