//! `kraft-backup`: copies what is committed of a node's log into a directory, beside the running node or without it; verifies such a
//! backup; and makes a directory of it that a node starts from. `docs/backup.md` is for who uses it, `docs/design/backup.md` says why
//! no copy has a byte that can change, and why no restored voter endangers a quorum.

#[path = "kraft-backup/ask.rs"]
mod ask;
#[path = "kraft-backup/fault.rs"]
mod fault;
#[path = "kraft-backup/pace.rs"]
mod pace;
#[path = "kraft-backup/restore.rs"]
mod restore;
#[path = "kraft-backup/source.rs"]
mod source;
#[path = "kraft-backup/span.rs"]
mod span;
#[path = "kraft-backup/store.rs"]
mod store;
#[path = "kraft-backup/take.rs"]
mod take;
#[cfg(test)]
#[path = "kraft-backup/tests.rs"]
mod tests;
#[path = "kraft-backup/verify.rs"]
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use kraft::server::cli;
use kraft::server::output::note_line;

use fault::Fault;

const EXAMPLES: &str = "\
Examples:
  kraft-backup take /var/lib/kraft /backup/kraft       begin a backup; the node may run
  kraft-backup take /var/lib/kraft /backup/kraft       the same again adds what has come since
  kraft-backup verify /backup/kraft                    read all of it
  kraft-backup restore /backup/kraft /var/lib/kraft --as-member --node-id 2
                                                       a voter has lost its disk, the others go on
  kraft-backup restore /backup/kraft /srv/new --as-new-cluster --node-id 1
                                                       a cluster of its own, with the same records

Exit codes: 0 done, 1 refused (the line says what to do), 65 something has rotted, 74 the disk, 75 not far enough yet, try again.";

/// Back up the committed log of a kraft node, verify the backup, and restore it
#[derive(Debug, Parser)]
#[command(name = "kraft-backup", version, after_help = EXAMPLES)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Copy what is committed and the backup does not have yet; the node may run
    Take(take::Take),
    /// Read a whole backup, and say what is not as it was copied
    Verify(verify::Verify),
    /// Make a directory that a node starts from
    Restore(restore::Restore),
}

fn main() -> ExitCode {
    let arguments: Arguments = match cli::arguments() {
        Ok(arguments) => arguments,
        Err(ends_with) => return ends_with,
    };
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(fault) => {
            fault.line.lines().for_each(|line| note_line!("error: {line}"));
            ExitCode::from(fault.exit_code)
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Fault> {
    match &arguments.command {
        Command::Take(take) => take::run(take),
        Command::Verify(verify) => verify::run(verify),
        Command::Restore(restore) => restore::run(restore),
    }
}
