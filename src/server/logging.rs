//! `tracing` on stderr, in Kafka's line form: `[2026-11-22 14:03:05,123] INFO message (kraft.raft)`, or as JSON lines.
//!
//! Called once by `main`. An executor only formats its message and puts it into a bounded queue; dates, escapes and the
//! write are done by a thread of its own. A stderr that nobody reads therefore never stops a replica core: lines that do
//! not fit are counted, and the count is logged once there is room again.

use std::fmt::{self, Write as _};
use std::io::{self, Write};
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry;
use tracing_subscriber::util::SubscriberInitExt;

use super::output::{Said, Stream, complain};
use crate::config::Note;
use crate::types::write_printable;

/// A longer message is cut.
const MESSAGE_BYTES_MAX: usize = 8192;

/// Whose debug lines `-v` shows.
const VERBOSE: [&str; 2] = ["kraft", "kraft_server"];

/// The stream of this process, for last words.
static LINES: OnceLock<Stream<Line>> = OnceLock::new();

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum LogFormat {
    #[default]
    Text,
    Json,
}

/// How to log, and what the configuration has to say first.
#[derive(Clone, Debug, Default)]
pub struct LogSettings {
    pub(super) format: LogFormat,
    /// `-v`: debug lines of this server.
    pub(super) verbose: bool,
    /// Logged by `start`, in this order.
    pub(super) first_notes: Vec<Note>,
}

impl LogSettings {
    /// Log to stderr from now on. `RUST_LOG` decides which lines, else `verbose`. An error: no thread for it.
    pub fn start(&self) -> io::Result<()> {
        let lines = start_lines(self.format, io::stderr())?;
        let (filter, problem) = self.filter(std::env::var("RUST_LOG").ok());
        // Fails only where a subscriber is installed already, as in tests: then that one gets the lines.
        let _ = registry().with(filter).with(LineLayer { lines: lines.clone() }).try_init();
        let _ = LINES.set(lines);
        if let Some(problem) = problem {
            tracing::warn!("{problem}");
        }
        for note in &self.first_notes {
            match note.warning {
                true => tracing::warn!("{}", note.text),
                false => tracing::info!("{}", note.text),
            }
        }
        Ok(())
    }

    /// Levels by the names of modules; lines of this server stand in no span that could be asked for.
    fn filter(&self, wanted: Option<String>) -> (Targets, Option<String>) {
        let usual = || match self.verbose {
            true => Targets::new()
                .with_default(Level::INFO)
                .with_targets(VERBOSE.map(|name| (name, Level::DEBUG))),
            false => Targets::new().with_default(Level::INFO),
        };
        // An empty one would be taken for the level of errors.
        let directives = wanted.unwrap_or_default();
        let directives: Vec<&str> =
            directives.split(',').map(str::trim).filter(|one| !one.is_empty()).collect();
        if directives.is_empty() {
            return (usual(), None);
        }
        let directives = directives.join(",");
        match directives.parse() {
            Ok(filter) => (filter, None),
            Err(e) => {
                let directives = directives.escape_debug();
                let problem = format!(
                    "RUST_LOG={directives} is not understood ({e}). Write for example RUST_LOG=kraft=debug."
                );
                (usual(), Some(problem))
            }
        }
    }
}

/// Wait, in bounded time, until the lines so far are written: an exit waits for nothing.
pub fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush();
    }
}

/// A line right before the process ends, whatever `RUST_LOG` says. Waits for its reader, in bounded time.
pub(crate) fn last_words(level: Level, text: &str) {
    match LINES.get() {
        Some(lines) => {
            lines.push_last(Line::of(level, text.to_string()));
            lines.flush();
        }
        None => complain(&format!("{text}\n")),
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

impl Line {
    /// Of this process itself.
    fn of(level: Level, message: String) -> Line {
        Line {
            at: SystemTime::now(),
            level,
            target: "kraft::server".to_string(),
            message,
            fields: Vec::new(),
        }
    }
}

fn start_lines(format: LogFormat, output: impl Write + Send + 'static) -> io::Result<Stream<Line>> {
    let text = move |line: &Line| match format {
        LogFormat::Text => text_line(line),
        LogFormat::Json => json_line(line),
    };
    Stream::start("log-writer", output, move |said: Said<'_, Line>| match said {
        Said::Item(line) => text(line),
        Said::Dropped(n) => {
            let why = format!("{n} log lines were dropped: they came faster than stderr took them.");
            text(&Line::of(Level::WARN, why))
        }
    })
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
        // A String takes everything.
        let _ = write_printable(text, c);
    }
}

/// For JSON, which escapes control characters itself.
fn printable(message: &str) -> String {
    let mut text = String::with_capacity(message.len());
    for c in message.chars() {
        let _ = if c.is_control() { text.write_char(c) } else { write_printable(&mut text, c) };
    }
    text
}

fn json_line(line: &Line) -> String {
    let (date, millis) = broken_down(line.at, libc::gmtime_r);
    let mut object = serde_json::json!({
        "timestamp": format!("{}T{}.{millis:03}Z", date.day, date.time),
        "level": line.level.as_str(),
        "target": line.target.replace("::", "."),
        "message": printable(&line.message),
    });
    for (name, value) in &line.fields {
        object["fields"][*name] = serde_json::Value::String(printable(value));
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
    lines: Stream<Line>,
}

impl<S: Subscriber> Layer<S> for LineLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let metadata = event.metadata();
        let mut fields = Fields { target: None, message: String::new(), others: Vec::new() };
        event.record(&mut fields);
        self.lines.push(Line {
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
