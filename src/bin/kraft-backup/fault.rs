//! Why a run ends, in a line for each thing that is wrong, and its exit code: those of `docs/starts-and-ends.md`.

use std::io;
use std::path::Path;

use kraft::io::plain_files;

/// What was asked for cannot be, and the line says what to do.
const EXIT_REFUSED: u8 = 1;
/// What was committed, or copied, is not what is there.
const EXIT_CORRUPT: u8 = 65;
const EXIT_DISK: u8 = 74;
/// It was not so far in time. Running it again may help.
const EXIT_LATER: u8 = 75;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) exit_code: u8,
    pub(crate) line: String,
}

impl Fault {
    pub(crate) fn refused(line: impl Into<String>) -> Fault {
        Fault { exit_code: EXIT_REFUSED, line: line.into() }
    }

    pub(crate) fn corrupt(line: impl Into<String>) -> Fault {
        Fault { exit_code: EXIT_CORRUPT, line: line.into() }
    }

    pub(crate) fn later(line: impl Into<String>) -> Fault {
        Fault { exit_code: EXIT_LATER, line: line.into() }
    }

    /// The system has refused it: `what` as in "be read".
    pub(crate) fn of_file(path: &Path, what: &str, error: &io::Error) -> Fault {
        let directory = path.parent().unwrap_or(path);
        let line = format!("{} cannot {what}: {}.", path.display(), plain_files::reason(directory, error));
        let exit_code = if plain_files::is_the_disks(error) { EXIT_DISK } else { EXIT_REFUSED };
        Fault { exit_code, line }
    }
}
