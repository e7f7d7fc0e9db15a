//! Counts the instructions of a path: runs this program anew under valgrind's callgrind, once for so many rounds and once
//! for twice as many. The difference is what the rounds took, without what starts up.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use super::paths::{CountedPath, PATHS};

/// Tells the program that it is the one that is counted: "path rounds".
pub(crate) const ROUNDS: &str = "KRAFT_COUNT_ROUNDS";

/// Instructions of one round.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Count {
    /// In the program's own file.
    pub(crate) own: f64,
    /// In shared libraries, which are the C library's.
    pub(crate) c_library: f64,
}

/// Runs a path under callgrind, which writes what it has counted to `output`.
fn counted(path: &CountedPath, rounds: usize, output: &Path) -> Result<Count, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let ran = Command::new("valgrind")
        .args(["--tool=callgrind", "--compress-strings=no", "--compress-pos=no", "--quiet"])
        .arg(format!("--callgrind-out-file={}", output.display()))
        .arg(&program)
        .env(ROUNDS, format!("{} {rounds}", path.name))
        .output()
        .map_err(|error| format!("valgrind: {error}"))?;
    if !ran.status.success() {
        return Err(format!("{}: {}: {}", path.name, ran.status, String::from_utf8_lossy(&ran.stderr)));
    }
    let profile =
        std::fs::read_to_string(output).map_err(|error| format!("{}: {error}", output.display()))?;
    Ok(sum_of(&profile, &program.to_string_lossy()))
}

/// Adds up what callgrind has written: "ob=" names the file that the next functions are from, a line of numbers is a
/// source line and what was spent there, and the one after "calls=" is the callee's.
fn sum_of(profile: &str, program: &str) -> Count {
    let mut count = Count { own: 0.0, c_library: 0.0 };
    let (mut is_own, mut is_callee) = (false, false);
    for line in profile.lines() {
        if let Some(object) = line.strip_prefix("ob=") {
            is_own = object == program;
        } else if line.starts_with("calls=") {
            is_callee = true;
        } else if line.starts_with(|first: char| first.is_ascii_digit()) {
            let spent = line.split(' ').nth(1).and_then(|spent| spent.parse().ok()).unwrap_or(0.0);
            match (std::mem::take(&mut is_callee), is_own) {
                (true, _) => {}
                (false, true) => count.own += spent,
                (false, false) => count.c_library += spent,
            }
        }
    }
    count
}

/// Of one round: the longer run has twice as many as the shorter one.
fn measure(path: &CountedPath, profiles: &Path) -> Result<Count, String> {
    let output = |rounds| profiles.join(format!("{}-{rounds}.callgrind", path.name));
    let run = |rounds| counted(path, rounds, &output(rounds));
    let (short, long) = (run(path.rounds)?, run(2 * path.rounds)?);
    let of_round = |short: f64, long: f64| (long - short) / path.rounds as f64;
    Ok(Count { own: of_round(short.own, long.own), c_library: of_round(short.c_library, long.c_library) })
}

/// Two at a time.
pub(crate) fn measure_all(profiles: &Path) -> Result<BTreeMap<String, Count>, String> {
    let (first, second) = PATHS.split_at(PATHS.len() / 2);
    let all = |paths: &[CountedPath]| -> Result<Vec<_>, String> {
        paths.iter().map(|path| Ok((path.name.to_string(), measure(path, profiles)?))).collect()
    };
    let (first, second) = std::thread::scope(|scope| {
        let other = scope.spawn(move || all(second));
        (all(first), other.join().expect("it does not panic"))
    });
    Ok(first?.into_iter().chain(second?).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_spent_is_summed_by_where_it_was_spent_and_only_once() {
        let profile = "ob=/p\nfn=a\n12 100\ncalls=1 3\n13 5000\nob=/lib/libc.so.6\nfn=malloc\n0 30\n\
                       ob=/p\nfn=b\n1 7\ntotals: 137\n";
        assert_eq!(sum_of(profile, "/p"), Count { own: 107.0, c_library: 30.0 });
    }
}
