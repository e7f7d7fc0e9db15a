//! `kraft-latency FILE.hlog...`: merges the interval logs that nodes leave in their data directories into one percentile
//! table, and on request into JSON, `.hgrm` files for HdrHistogram's plotters, and an SVG plot.
//!
//! Reads any log in HdrHistogram's format; values are taken for ns, as the server writes them, and shown in us.

#[path = "percentiles/hgrm.rs"]
mod hgrm;
#[path = "kraft-latency/logs.rs"]
mod logs;
#[path = "percentiles/plot.rs"]
mod plot;
#[cfg(test)]
#[path = "kraft-latency/tests.rs"]
mod tests;

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use serde_json::json;

use kraft::server::cli;
use kraft::server::control::latency::StageHistograms;
use kraft::server::output::note_line;
use logs::Merged;

/// Merge latency logs into a table of percentiles, JSON, .hgrm files or a plot
#[derive(Debug, Parser)]
#[command(name = "kraft-latency", version)]
struct Arguments {
    /// Interval logs: latency-*.hlog of one or more nodes
    #[arg(required = true, value_name = "FILE.hlog")]
    files: Vec<PathBuf>,

    /// Only this stage; may be repeated
    #[arg(long = "tag", value_name = "NAME")]
    tags: Vec<String>,

    /// Print JSON in place of the table
    #[arg(long)]
    json: bool,

    /// Write the percentile distribution in us for HdrHistogram's plotters; of several stages each gets OUT-STAGE.hgrm
    #[arg(long, value_name = "OUT")]
    hgrm: Option<PathBuf>,

    /// Write a plot of latency by percentile
    #[arg(long, value_name = "OUT")]
    svg: Option<PathBuf>,
}

fn main() -> ExitCode {
    let arguments: Arguments = match cli::arguments() {
        Ok(arguments) => arguments,
        Err(ends_with) => return ends_with,
    };
    match run(&arguments) {
        Ok(output) => {
            output.notes.iter().for_each(|note| note_line!("note: {note}"));
            // A reader that has seen enough (`| head`) is no failure.
            let _ = std::io::stdout().write_all(output.stdout.as_bytes());
            ExitCode::SUCCESS
        }
        Err(why) => {
            note_line!("error: {why}");
            ExitCode::FAILURE
        }
    }
}

struct Output {
    stdout: String,
    notes: Vec<String>,
}

/// All work but the printing. Errors are one line.
fn run(arguments: &Arguments) -> Result<Output, String> {
    let merged = logs::read(&arguments.files)?;
    let stages = select(&merged.stages, &arguments.tags)?;
    let mut notes = merged.notes.clone();
    if let Some(path) = &arguments.hgrm {
        notes.extend(write_hgrm(path, &stages)?);
    }
    if let Some(path) = &arguments.svg {
        let svg = plot::svg(&stages, &title(&merged))?;
        notes.push(write(path, &svg)?);
    }
    let stdout = if arguments.json { json_text(&merged, &stages) } else { table_text(&merged, &stages) };
    Ok(Output { stdout, notes })
}

/// The stages that were asked for, or all.
fn select(stages: &StageHistograms, tags: &[String]) -> Result<StageHistograms, String> {
    if tags.is_empty() {
        return Ok(stages.clone());
    }
    let mut selected = StageHistograms::default();
    for tag in tags {
        let Some(histogram) = stages.get(tag) else {
            let known: Vec<&str> = stages.iter().map(|(name, _)| name).collect();
            return Err(format!("--tag {tag}: no such stage in these logs. They have {}.", known.join(", ")));
        };
        selected.add(tag, histogram);
    }
    Ok(selected)
}

fn title(merged: &Merged) -> String {
    format!("{}, {:.0} s of recording", counted(merged.files, "log"), merged.seconds)
}

fn counted(n: usize, what: &str) -> String {
    if n == 1 { format!("1 {what}") } else { format!("{n} {what}s") }
}

fn table_text(merged: &Merged, stages: &StageHistograms) -> String {
    let mut text = format!("{}, {}\n", title(merged), counted(merged.intervals, "histogram"));
    let _ = write!(text, "{}", stages.table());
    text
}

fn json_text(merged: &Merged, stages: &StageHistograms) -> String {
    let value = json!({
        "unit": "us",
        "files": merged.files,
        "histograms": merged.intervals,
        "seconds": merged.seconds,
        "stages": stages.json(),
    });
    format!("{value:#}\n")
}

/// One file, or of several stages one each. Returns a note per file.
fn write_hgrm(path: &Path, stages: &StageHistograms) -> Result<Vec<String>, String> {
    let several = stages.iter().count() > 1;
    let of_stage = |name: &str| match several {
        true => with_suffix(path, name),
        false => path.to_path_buf(),
    };
    stages.iter().map(|(name, histogram)| write(&of_stage(name), &hgrm::text(histogram))).collect()
}

/// `out.hgrm` and `flushed` give `out-flushed.hgrm`.
fn with_suffix(path: &Path, name: &str) -> PathBuf {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path.extension().map_or("hgrm".into(), |e| e.to_string_lossy());
    // A tag of a foreign log may hold anything.
    let name = name.replace(['/', '\0'], "_");
    path.with_file_name(format!("{stem}-{name}.{extension}"))
}

fn write(path: &Path, text: &str) -> Result<String, String> {
    std::fs::write(path, text).map_err(|e| format!("{}: cannot be written ({e}).", path.display()))?;
    Ok(format!("wrote {}", path.display()))
}
