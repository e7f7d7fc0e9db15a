//! `kraft-perf`: loads a Kafka broker over its protocol and measures in ns, writing and reading (`kraft-perf consume`,
//! `kraft-perf end-to-end`); and measures what lies below any broker, the disk (`kraft-perf device`) and the loopback (`kraft-perf loopback`).
//!
//! - `options.rs`, `flags.rs`: flags. `batch.rs`, `compression.rs`: what is sent. `pace.rs`: when. `wire.rs`: the frames.
//! - `load.rs`: a run. `worker.rs`: a thread of it, over `connection.rs`, `link.rs`, `epoll.rs` and `cluster.rs`.
//! - `recording.rs`: what was seen. `report.rs`, `written.rs`: how it is shown.

mod batch;
mod cluster;
mod compression;
mod connection;
mod consume;
mod device;
mod end_to_end;
mod epoll;
mod flags;
// As kraft-latency shows it.
#[path = "../../../src/bin/percentiles/hgrm.rs"]
mod hgrm;
mod link;
mod load;
mod loopback;
mod options;
mod pace;
#[path = "../../../src/bin/percentiles/plot.rs"]
mod plot;
mod raw;
mod recording;
mod report;
mod wire;
mod worker;
mod written;

use std::io::Write as _;
use std::process::ExitCode;

use kraft::server::cli;
use kraft::server::output::note_line;

use options::{Arguments, Command};
use written::Written;

/// Records were refused or never answered: the figures are printed, but they are not those of the load that was asked for.
const EXIT_INCOMPLETE: u8 = 2;

fn main() -> ExitCode {
    let arguments: Arguments = match cli::arguments() {
        Ok(arguments) => arguments,
        Err(ends_with) => return ends_with,
    };
    let result = match &arguments.command {
        Some(Command::Consume(options)) => consume::run(options),
        Some(Command::Device(options)) => device::run(options),
        Some(Command::EndToEnd(options)) => end_to_end::run(options),
        Some(Command::Loopback(options)) => loopback::run(options),
        None => load::run(&arguments.load),
    };
    match result {
        Ok(Written { stdout, notes, is_complete }) => {
            notes.iter().for_each(|note| note_line!("note: {note}"));
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(stdout.as_bytes());
            if is_complete { ExitCode::SUCCESS } else { ExitCode::from(EXIT_INCOMPLETE) }
        }
        Err(why) => {
            note_line!("error: {why}");
            ExitCode::FAILURE
        }
    }
}
