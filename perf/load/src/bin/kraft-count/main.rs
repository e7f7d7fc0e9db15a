//! `kraft-count`: how many instructions a commit, a fetch and a few more paths take, against `perf/instructions.txt`.
//!
//! A timing depends on the hour and the machine; a count under valgrind hardly does. Counted apart: what is linked into this
//! program (our code, the crates, Rust's library), and what is in the C library (`malloc`, `memcpy`), which another machine
//! may have in another version. Only an optimised build says anything: `cargo run --release -p kraft-perf --bin kraft-count`.

mod callgrind;
mod figures;
// It knows the inside of the replica, as fixtures may.
#[path = "../../../../../tests/fixtures/counted_paths.rs"]
mod paths;

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Parser;

use kraft::server::output::{answer_line, note_line};

use figures::{Figures, compare, surroundings};
use paths::PATHS;

/// Count the instructions of a commit, a fetch and more with valgrind, and compare them with perf/instructions.txt
#[derive(Debug, Parser)]
#[command(name = "kraft-count", version)]
struct Arguments {
    /// Write perf/instructions.txt anew
    #[arg(long)]
    write: bool,

    /// Where callgrind's files go, for callgrind_annotate
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/../../build/counts"), value_name = "DIR")]
    profiles: PathBuf,
}

/// Why nothing can be counted here, if so.
fn obstacle() -> Option<&'static str> {
    if !cfg!(target_arch = "x86_64") {
        return Some("the figures are x86_64's");
    }
    if cfg!(debug_assertions) {
        return Some("this is no optimised build: cargo run --release -p kraft-perf --bin kraft-count");
    }
    match Command::new("valgrind").arg("--version").output() {
        Ok(said) if said.status.success() => None,
        _ => Some("there is no valgrind (Debian's package valgrind)"),
    }
}

/// Gives whether all is well.
fn count(arguments: &Arguments) -> Result<bool, String> {
    let (compiler, c_library) = surroundings();
    std::fs::create_dir_all(&arguments.profiles)
        .map_err(|e| format!("{}: {e}", arguments.profiles.display()))?;
    let counts = callgrind::measure_all(&arguments.profiles)?;
    for (name, count) in &counts {
        answer_line!(
            "{name:<12} {:>9.0} in the program, {:>8.0} in the C library",
            count.own,
            count.c_library
        );
    }
    if arguments.write {
        let figures = Figures { compiler, c_library, counts };
        return figures.write().map(|()| true);
    }
    let figures = Figures::read()?;
    let verdict = compare(&figures, &counts, &c_library);
    for line in &verdict.cheaper {
        answer_line!("CHEAPER: {line}: write it down with --write, so that it stays so");
    }
    for line in &verdict.dearer {
        answer_line!("DEARER: {line}");
    }
    if !verdict.dearer.is_empty() {
        answer_line!("callgrind_annotate {}/PATH-ROUNDS.callgrind shows where", arguments.profiles.display());
    }
    if figures.compiler != compiler {
        answer_line!("The figures are of {}, this is {compiler}: it may be the compiler.", figures.compiler);
    }
    answer_line!("{} passed, {} failed", PATHS.len() - verdict.failed.len(), verdict.failed.len());
    Ok(verdict.dearer.is_empty())
}

/// The process that is counted.
fn run_rounds(what: &str) {
    let (name, rounds) = what.split_once(' ').expect("path and rounds");
    let path = PATHS.iter().find(|path| path.name == name).expect("a path");
    (path.run)(rounds.parse().expect("a number"));
}

fn main() -> ExitCode {
    if let Ok(what) = std::env::var(callgrind::ROUNDS) {
        run_rounds(&what);
        return ExitCode::SUCCESS;
    }
    let arguments = Arguments::parse();
    if let Some(why) = obstacle() {
        answer_line!("SKIPPED: instructions are not counted, {why}");
        let is_ci = std::env::var("CI").is_ok_and(|ci| ci == "true");
        return if is_ci { ExitCode::FAILURE } else { ExitCode::SUCCESS };
    }
    match count(&arguments) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(why) => {
            note_line!("{why}");
            ExitCode::FAILURE
        }
    }
}
