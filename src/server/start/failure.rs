//! Why a node does not start, or does not go on: one line, and what the process ends with.

use crate::io::directory::Refusal;
use crate::io::disk_error::Blame;
use crate::io::kernel;
use crate::replica::{EXIT_CONFIG, EXIT_DISK, EXIT_KERNEL};

/// Why a node does not start or does not go on: one line, and the exit code.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) exit_code: i32,
    pub(super) line: String,
}

pub(super) fn config_error(line: String) -> Failure {
    Failure { exit_code: EXIT_CONFIG, line }
}

pub(super) fn disk_failure(error: impl ToString) -> Failure {
    Failure { exit_code: EXIT_DISK, line: error.to_string() }
}

/// By what is to blame, as README's table has it.
pub(crate) fn exit_code_of(blame: Blame) -> i32 {
    match blame {
        Blame::Disk => EXIT_DISK,
        Blame::Limit => EXIT_KERNEL,
        Blame::Configuration => EXIT_CONFIG,
    }
}

pub(super) fn refused(refusal: Refusal) -> Failure {
    Failure { exit_code: exit_code_of(refusal.blame), line: refusal.line }
}

pub(super) fn kernel_failure(what: &str, error: impl std::fmt::Display) -> Failure {
    Failure { exit_code: EXIT_KERNEL, line: format!("{what}: {error}") }
}

/// Something that every start takes was not to be had.
pub(super) fn shortage(what: &str, error: &std::io::Error) -> Failure {
    kernel_failure(what, format!("{}.", kernel::explain_shortage(error)))
}

/// The line and the exit code of a start that got no thread at all.
pub fn thread_refused(error: &std::io::Error) -> (String, i32) {
    (format!("error: {}.\n", kernel::explain_shortage(error)), EXIT_KERNEL)
}
