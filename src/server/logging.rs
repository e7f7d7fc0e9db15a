//! `tracing` on stderr, in Kafka's line form: `[2026-11-22 14:03:05,123] INFO message (kraft.raft)`, or as JSON lines.
//!
//! Called once by `main`. An executor only formats its message and puts it into a bounded queue; dates, escapes and the
//! write are done by a thread of its own. A stderr that nobody reads therefore never stops a replica core: lines that do
//! not fit are counted, and the count is logged once there is room again.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender, TrySendError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, registry};

use crate::config::Note;

/// Lines waiting for the thread that writes them.
const QUEUED_LINES_MAX: usize = 4096;
/// A longer message is cut.
const MESSAGE_BYTES_MAX: usize = 8192;
/// How long the end of the process waits for a stderr that is not read.
const FINISH_WAIT: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How to log, and what the configuration has to say first.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    pub format: LogFormat,
    /// `-v`: debug lines of this server.
    pub verbose: bool,
    /// Logged by `start`, in this order.
    pub first_notes: Vec<Note>,
}

impl LogSettings {
    /// Log to stderr from now on. `RUST_LOG` decides which lines, else `verbose`. Keep the guard until the end.
    pub fn start(&self) -> LogGuard {
        let (queue, guard) = start_writer(self.format, io::stderr());
        let wanted = std::env::var("RUST_LOG").ok().filter(|directives| !directives.is_empty());
        let (filter, problem) = self.filter(wanted);
        // Fails only where a subscriber is installed already, as in tests: then that one gets the lines.
        let _ = registry().with(filter).with(LineLayer { queue }).try_init();
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
        }
        for note in &self.first_notes {
            match note.warning {
                true => tracing::warn!("{}", note.text),
                false => tracing::info!("{}", note.text),
            }
        }
        guard
    }

    fn filter(&self, wanted: Option<String>) -> (EnvFilter, Option<String>) {
        let usual =
            || EnvFilter::new(if self.verbose { "info,kraft=debug,kraft_server=debug" } else { "info" });
        match wanted.map(|directives| (EnvFilter::try_new(&directives), directives)) {
            None => (usual(), None),
            Some((Ok(filter), _)) => (filter, None),
            Some((Err(e), directives)) => {
                let directives = directives.escape_debug();
                (
                    usual(),
                    Some(format!(
                        "RUST_LOG={directives} is not understood ({e}). Write for example RUST_LOG=kraft=debug."
                    )),
                )
            }
        }
    }
}

/// Writes what is queued when it is dropped, so that the last line before an exit is not lost.
pub struct LogGuard {
    queue: Queue,
}

impl LogGuard {
    /// Wait until all queued lines are written, at most a second. `std::process::exit` drops nothing: call it before.
    pub fn flush(&self) {
        let deadline = Instant::now() + FINISH_WAIT;
        let (done, written) = mpsc::sync_channel(1);
        let mut message = Message::Flush(done);
        while let Err(TrySendError::Full(back)) = self.queue.lines.try_send(message) {
            if Instant::now() >= deadline {
                return;
            }
            message = back;
            std::thread::sleep(Duration::from_millis(5));
        }
        // An error means that the writer is gone or stuck: there is nothing to wait for.
        let _ = written.recv_timeout(deadline.saturating_duration_since(Instant::now()));
    }
}

impl Drop for LogGuard {
    fn drop(&mut self) {
        self.flush();
    }
}

/// One event, formatted as far as its fields.
struct Line {
    at: SystemTime,
    level: Level,
    target: String,
    message: String,
    /// Other fields than the message, in order.
    fields: Vec<(&'static str, String)>,
}

enum Message {
    Line(Line),
    Flush(SyncSender<()>),
}

#[derive(Clone)]
struct Queue {
    lines: SyncSender<Message>,
    dropped: Arc<AtomicU64>,
}

impl Queue {
    /// Never waits.
    fn push(&self, line: Line) {
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn start_writer(format: LogFormat, output: impl Write + Send + 'static) -> (Queue, LogGuard) {
    let (lines, queued) = mpsc::sync_channel(QUEUED_LINES_MAX);
    let queue = Queue { lines, dropped: Arc::new(AtomicU64::new(0)) };
    let writer = Writer { format, output, dropped: queue.dropped.clone() };
    let started =
        std::thread::Builder::new().name("log-writer".to_string()).spawn(move || writer.run(queued));
    if let Err(e) = started {
        eprintln!("The thread that writes log lines did not start ({e}): this process logs nothing.");
    }
    (queue.clone(), LogGuard { queue })
}

struct Writer<W> {
    format: LogFormat,
    output: W,
    dropped: Arc<AtomicU64>,
}

impl<W: Write> Writer<W> {
    fn run(mut self, queued: Receiver<Message>) {
        for message in queued {
            match message {
                Message::Line(line) => self.write(&line),
                Message::Flush(done) => {
                    self.report_dropped();
                    let _ = self.output.flush();
                    let _ = done.send(());
                }
            }
            self.report_dropped();
        }
    }

    /// A stderr that is closed takes nothing, and there is no other place to say so.
    fn write(&mut self, line: &Line) {
        let text = match self.format {
            LogFormat::Text => text_line(line),
            LogFormat::Json => json_line(line),
        };
        let _ = self.output.write_all(text.as_bytes());
    }

    fn report_dropped(&mut self) {
        let dropped = self.dropped.swap(0, Ordering::Relaxed);
        if dropped > 0 {
            self.write(&Line {
                at: SystemTime::now(),
                level: Level::WARN,
                target: module_path!().to_string(),
                message: format!("{dropped} log lines were dropped: they came faster than stderr took them."),
                fields: Vec::new(),
            });
        }
    }
}

/// Kafka's log4j pattern `[%d] %p %m (%c)%n`, with the time of day of this machine's zone.
fn text_line(line: &Line) -> String {
    let mut text = String::with_capacity(line.message.len() + 64);
    let (date, millis) = broken_down(line.at, libc::localtime_r);
    let _ = write!(text, "[{} {},{millis:03}] {} ", date.day, date.time, line.level);
    push_printable(&mut text, &line.message);
    for (name, value) in &line.fields {
        let _ = write!(text, " {name}=");
        push_printable(&mut text, value);
    }
    let _ = writeln!(text, " ({})", line.target.replace("::", "."));
    text
}

/// A message may quote what a stranger has sent: it must not forge another line.
fn push_printable(text: &mut String, message: &str) {
    for c in message.chars() {
        if c.is_control() { text.extend(c.escape_default()) } else { text.push(c) }
    }
}

fn json_line(line: &Line) -> String {
    let (date, millis) = broken_down(line.at, libc::gmtime_r);
    let mut object = serde_json::json!({
        "timestamp": format!("{}T{}.{millis:03}Z", date.day, date.time),
        "level": line.level.as_str(),
        "target": line.target.replace("::", "."),
        "message": line.message,
    });
    for (name, value) in &line.fields {
        object["fields"][*name] = serde_json::Value::String(value.clone());
    }
    format!("{object}\n")
}

struct Date {
    day: String,
    time: String,
}

type BreakDown = unsafe extern "C" fn(*const libc::time_t, *mut libc::tm) -> *mut libc::tm;

fn broken_down(at: SystemTime, break_down: BreakDown) -> (Date, u32) {
    let since = at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = since.as_secs() as libc::time_t;
    // SAFETY: `tm` is plain data for which zeros are valid, and both pointers live through the call.
    let tm = unsafe {
        let mut tm: libc::tm = std::mem::zeroed();
        break_down(&seconds, &mut tm);
        tm
    };
    let day = format!("{:04}-{:02}-{:02}", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
    let time = format!("{:02}:{:02}:{:02}", tm.tm_hour, tm.tm_min, tm.tm_sec);
    (Date { day, time }, since.subsec_millis())
}

/// Turns events into lines and queues them.
struct LineLayer {
    queue: Queue,
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields { target: None, message: String::new(), others: Vec::new() };
        event.record(&mut fields);
        self.queue.push(Line {
            at: SystemTime::now(),
            level: *metadata.level(),
            target: fields.target.unwrap_or_else(|| metadata.target().to_string()),
            message: fields.message,
            fields: fields.others,
        });
    }
}

struct Fields {
    /// Events of the `log` crate (glommio) carry their target as a field.
    target: Option<String>,
    message: String,
    others: Vec<(&'static str, String)>,
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => self.message = bounded(format_args!("{value:?}")),
            name if name.starts_with("log.") => {}
            name => self.others.push((name, bounded(format_args!("{value:?}")))),
        }
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.message = bounded(format_args!("{value}")),
            "log.target" => self.target = Some(value.to_string()),
            name if name.starts_with("log.") => {}
            name => self.others.push((name, bounded(format_args!("{value}")))),
        }
    }
}

fn bounded(text: fmt::Arguments) -> String {
    let mut text = text.to_string();
    if text.len() > MESSAGE_BYTES_MAX {
        let end = (0..=MESSAGE_BYTES_MAX).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
        text.push_str("...");
    }
    text
}

#[cfg(test)]
#[path = "logging_tests.rs"]
mod tests;
