//! What a process says on stdout and stderr, to readers that may be slow, stuck or gone: nobody waits long for them, and
//! nothing panics for their sake.
//!
//! The node speaks through a [`Stream`]: a bounded queue and a thread of its own. [`complain`] is for the moments before there
//! is one; [`answer`], [`note`] and the macros are for programs that print what they were asked for and end.

use std::fmt::Display;
use std::io::{self, Write};
use std::os::fd::RawFd;
use std::process::exit;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::thread;
use std::time::{Duration, Instant};

use crate::replica::EXIT_DISK;

/// Items waiting for the thread that writes them.
const QUEUED_MAX: usize = 4096;
/// How long the end of the process waits for a reader that does not read.
pub(super) const FINISH_WAIT: Duration = Duration::from_secs(1);
/// As the shell tells of a program that SIGPIPE ended: the reader was satisfied before the program was.
const EXIT_READER_GONE: i32 = 128 + libc::SIGPIPE;
const FLUSH_POLL: Duration = Duration::from_millis(5);

/// Takes items without ever waiting: what does not fit into its queue is counted, and the count is told once there is room.
pub(crate) struct Stream<T> {
    queue: SyncSender<Message<T>>,
    dropped: Arc<AtomicU64>,
}

enum Message<T> {
    Item(T),
    Flush(SyncSender<()>),
}

/// What the thread is asked to put into words.
pub(crate) enum Said<'a, T> {
    Item(&'a T),
    /// So many did not fit since the last time.
    Dropped(u64),
}

impl<T> Clone for Stream<T> {
    fn clone(&self) -> Stream<T> {
        Stream { queue: self.queue.clone(), dropped: self.dropped.clone() }
    }
}

impl<T: Send + 'static> Stream<T> {
    /// `words` runs on the new thread.
    pub(crate) fn start(
        thread: &str,
        output: impl Write + Send + 'static,
        words: impl Fn(Said<'_, T>) -> String + Send + 'static,
    ) -> io::Result<Stream<T>> {
        let (queue, queued) = mpsc::sync_channel(QUEUED_MAX);
        let dropped = Arc::new(AtomicU64::new(0));
        let writer = Writer { output, words, dropped: dropped.clone() };
        thread::Builder::new().name(thread.to_string()).spawn(move || writer.run(queued))?;
        Ok(Stream { queue, dropped })
    }

    /// Never waits.
    pub(crate) fn push(&self, item: T) {
        if self.queue.try_send(Message::Item(item)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// For last words: waits until there is room, up to `FINISH_WAIT`.
    pub(super) fn push_last(&self, item: T) {
        if !self.send_until(Message::Item(item), Instant::now() + FINISH_WAIT) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Wait until all that is queued is written, up to `FINISH_WAIT`. `std::process::exit` drops nothing: call it before.
    pub(crate) fn flush(&self) {
        let deadline = Instant::now() + FINISH_WAIT;
        let (done, written) = mpsc::sync_channel(1);
        if self.send_until(Message::Flush(done), deadline) {
            // An error means that the writer is stuck: there is nothing to wait for.
            let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
        }
    }

    fn send_until(&self, mut message: Message<T>, deadline: Instant) -> bool {
        loop {
            match self.queue.try_send(message) {
                Ok(()) => return true,
                Err(TrySendError::Full(back)) if Instant::now() < deadline => message = back,
                Err(_) => return false,
            }
            thread::sleep(FLUSH_POLL);
        }
    }
}

struct Writer<W, F> {
    output: W,
    words: F,
    dropped: Arc<AtomicU64>,
}

impl<W: Write, F> Writer<W, F> {
    fn run<T>(mut self, queued: Receiver<Message<T>>)
    where
        F: Fn(Said<'_, T>) -> String,
    {
        for message in queued {
            match message {
                Message::Item(item) => self.write(&(self.words)(Said::Item(&item))),
                Message::Flush(done) => {
                    self.report_dropped();
                    let _ = self.output.flush();
                    let _ = done.send(());
                }
            }
            self.report_dropped();
        }
    }

    fn report_dropped<T>(&mut self)
    where
        F: Fn(Said<'_, T>) -> String,
    {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.write(&(self.words)(Said::Dropped(dropped)));
        }
    }

    /// An output that is closed takes nothing, and there is no other place to say so.
    fn write(&mut self, text: &str) {
        let _ = self.output.write_all(text.as_bytes());
        let _ = self.output.flush();
    }
}

/// Straight to stderr, where no stream is there yet. A reader that does not read is waited for up to `FINISH_WAIT`.
pub fn complain(text: &str) {
    write_in_time(libc::STDERR_FILENO, text.as_bytes(), FINISH_WAIT);
}

/// What has room now is written in pieces that a pipe takes whole: a write of one such piece does not block once poll has
/// said that there is room.
fn write_in_time(fd: RawFd, mut bytes: &[u8], wait: Duration) {
    let deadline = Instant::now() + wait;
    while !bytes.is_empty() {
        let left = deadline.saturating_duration_since(Instant::now());
        let mut room = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
        // SAFETY: one valid pollfd.
        let ready = unsafe { libc::poll(&mut room, 1, left.as_millis() as libc::c_int) };
        if ready == 0 || (ready > 0 && room.revents & libc::POLLOUT == 0) {
            return;
        }
        let piece = &bytes[..bytes.len().min(libc::PIPE_BUF)];
        let written = match ready {
            ..0 => -1,
            // SAFETY: a live slice that the kernel only reads.
            _ => unsafe { libc::write(fd, piece.as_ptr().cast(), piece.len()) },
        };
        match usize::try_from(written) {
            Ok(written) => bytes = &bytes[written..],
            Err(_) if io::Error::last_os_error().kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// What the program was asked for, to stdout. A reader that has gone ends the program, as SIGPIPE would; a full disk is told.
pub fn answer(text: impl Display) {
    let mut stdout = io::stdout().lock();
    match write!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Ok(()) => {}
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => exit(EXIT_READER_GONE),
        Err(e) => {
            complain(&format!("error: stdout cannot be written: {e}\n"));
            exit(EXIT_DISK);
        }
    }
}

/// Beside the answer, to stderr; whether somebody reads it changes nothing.
pub fn note(text: impl Display) {
    let _ = write!(io::stderr().lock(), "{text}");
}

/// A line of the answer.
#[macro_export]
macro_rules! answer_line {
    ($($text:tt)*) => { $crate::server::output::answer(format_args!("{}\n", format_args!($($text)*))) };
}

/// A line beside the answer.
#[macro_export]
macro_rules! note_line {
    ($($text:tt)*) => { $crate::server::output::note(format_args!("{}\n", format_args!($($text)*))) };
}

pub use {answer_line, note_line};

#[cfg(test)]
#[path = "output_tests.rs"]
pub(super) mod tests;
