//! The figures in `perf/instructions.txt`, and what has become of them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::callgrind::Count;

const PERCENT_MAX: f64 = 5.0;

/// What the figures depend on beside the code: compiler, and the C library's version.
pub(crate) fn surroundings() -> (String, String) {
    let said = Command::new("rustc").arg("--version").output();
    let compiler =
        said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_string()).unwrap_or_default();
    // SAFETY: it gives a text that is never freed.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    (compiler, format!("glibc {}", version.to_string_lossy()))
}

/// The committed figures.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures {
    pub(crate) compiler: String,
    pub(crate) c_library: String,
    pub(crate) counts: BTreeMap<String, Count>,
}

impl Figures {
    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../instructions.txt")
    }

    pub(crate) fn read() -> Result<Figures, String> {
        let text =
            std::fs::read_to_string(Figures::file()).map_err(|e| format!("perf/instructions.txt: {e}"))?;
        Figures::parse(&text).ok_or("perf/instructions.txt is malformed".to_string())
    }

    pub(crate) fn write(&self) -> Result<(), String> {
        std::fs::write(Figures::file(), self.written()).map_err(|e| format!("perf/instructions.txt: {e}"))
    }

    fn parse(text: &str) -> Option<Figures> {
        let mut figures = Figures::default();
        for line in text.lines() {
            if let Some(compiler) = line.strip_prefix("# compiler: ") {
                figures.compiler = compiler.to_string();
            } else if let Some(c_library) = line.strip_prefix("# C library: ") {
                figures.c_library = c_library.to_string();
            } else if !line.starts_with('#') {
                let mut words = line.split_whitespace();
                let name = words.next()?.to_string();
                let (own, c_library) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
                figures.counts.insert(name, Count { own, c_library });
            }
        }
        Some(figures)
    }

    fn written(&self) -> String {
        let mut text = format!(
            "# Instructions of one round of each path of kraft-count, which writes this file: in the program itself,\n\
             # and in the C library. x86_64, profile release; perf/README.md says how to read it.\n\
             # compiler: {}\n# C library: {}\n",
            self.compiler, self.c_library
        );
        for (name, count) in &self.counts {
            let _ = writeln!(text, "{name:<12} {:>9.0} {:>8.0}", count.own, count.c_library);
        }
        text
    }
}

/// In percent of what it was; what costs next to nothing does not count.
fn growth(was: f64, is: f64) -> f64 {
    const NEXT_TO_NOTHING: f64 = 500.0;
    if was.max(is) < NEXT_TO_NOTHING { 0.0 } else { (is - was) * 100.0 / was.max(1.0) }
}

#[derive(Debug, Default)]
pub(crate) struct Verdict {
    pub(crate) failed: BTreeSet<String>,
    pub(crate) dearer: Vec<String>,
    pub(crate) cheaper: Vec<String>,
}

/// What the C library spends is compared only with the same version of it.
pub(crate) fn compare(figures: &Figures, seen: &BTreeMap<String, Count>, c_library: &str) -> Verdict {
    let mut verdict = Verdict::default();
    for (name, is) in seen {
        let Some(was) = figures.counts.get(name) else {
            verdict.failed.insert(name.clone());
            verdict.dearer.push(format!("{name} has no figure"));
            continue;
        };
        let mut parts = vec![("in the program", was.own, is.own)];
        if figures.c_library == c_library {
            parts.push(("in the C library", was.c_library, is.c_library));
        }
        for (place, was, is) in parts {
            let percent = growth(was, is);
            let line =
                format!("{name}, {place}: {is:.0} instructions, {was:.0} in the file, {percent:+.1} %");
            match percent {
                percent if percent >= PERCENT_MAX => {
                    verdict.failed.insert(name.clone());
                    verdict.dearer.push(line);
                }
                percent if percent <= -PERCENT_MAX => verdict.cheaper.push(line),
                _ => {}
            }
        }
    }
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(own: f64, c_library: f64) -> BTreeMap<String, Count> {
        BTreeMap::from([("x".to_string(), Count { own, c_library })])
    }

    fn figures() -> Figures {
        let (compiler, c_library) = ("rustc 1".to_string(), "glibc 2".to_string());
        Figures { compiler, c_library, counts: counts(10_000.0, 2_000.0) }
    }

    #[test]
    fn what_is_written_is_read() {
        assert_eq!(Figures::parse(&figures().written()), Some(figures()));
        assert_eq!(Figures::parse("x 1\n"), None, "a figure is missing");
    }

    #[test]
    fn five_percent_more_are_dearer_and_five_less_cheaper() {
        let outcome = |own, c_library, version: &str| {
            let verdict = compare(&figures(), &counts(own, c_library), version);
            (verdict.dearer.len(), verdict.cheaper.len())
        };
        assert_eq!(outcome(10_490.0, 2_090.0, "glibc 2"), (0, 0));
        assert_eq!(outcome(10_510.0, 2_110.0, "glibc 2"), (2, 0));
        assert_eq!(outcome(9_490.0, 2_110.0, "glibc 3"), (0, 1), "another C library says nothing");
    }

    #[test]
    fn a_path_without_a_figure_is_dearer() {
        assert_eq!(compare(&Figures::default(), &counts(1.0, 1.0), "glibc 2").dearer.len(), 1);
    }
}
