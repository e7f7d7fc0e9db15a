//! Reads interval logs and adds up what has the same tag.

use std::fmt::Display;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::Deserializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogHistogram, IntervalLogIterator, LogEntry, LogIteratorError,
};

use kraft::server::control::latency::StageHistograms;

/// Days of load at one interval per 5 s are far below this.
const FILE_BYTES_MAX: u64 = 1 << 30;
/// Name of what has no tag, as in logs of other programs.
const UNTAGGED: &str = "untagged";

/// All logs together.
#[derive(Debug)]
pub(crate) struct Merged {
    pub(crate) stages: StageHistograms,
    pub(crate) files: usize,
    /// Histograms read.
    pub(crate) intervals: usize,
    /// From the first to the last interval, of the file with most.
    pub(crate) seconds: f64,
    pub(crate) notes: Vec<String>,
}

/// Errors are one line that names the file.
pub(crate) fn read(files: &[PathBuf]) -> Result<Merged, String> {
    let mut merged = Merged {
        stages: StageHistograms::default(),
        files: 0,
        intervals: 0,
        seconds: 0.0,
        notes: Vec::new(),
    };
    for path in files {
        let bytes = read_file(path)?;
        merged.add_log(path, &bytes)?;
    }
    if merged.stages.is_empty() {
        return Err("there is no latency in these logs. A node writes its log while it answers producers."
            .to_string());
    }
    Ok(merged)
}

fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    let fail =
        |why: &dyn Display| format!("{}: cannot be read ({why}). Give latency-*.hlog files.", path.display());
    let metadata = std::fs::metadata(path).map_err(|e| fail(&e))?;
    if !metadata.is_file() {
        return Err(fail(&"it is not a file"));
    }
    if metadata.len() > FILE_BYTES_MAX {
        return Err(fail(&format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    std::fs::read(path).map_err(|e| fail(&e))
}

impl Merged {
    fn add_log(&mut self, path: &Path, bytes: &[u8]) -> Result<(), String> {
        // A node that was killed leaves half a line.
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |last| last + 1);
        if whole < bytes.len() {
            let cut = bytes.len() - whole;
            self.notes.push(format!(
                "{}: left out the last {cut} bytes, a line that does not end.",
                path.display()
            ));
        }
        let (mut first, mut last) = (f64::MAX, 0.0f64);
        for (n, entry) in IntervalLogIterator::new(&bytes[..whole]).enumerate() {
            let entry = entry.map_err(|LogIteratorError::ParseError { offset }| {
                let line = 1 + bytes[..offset].iter().filter(|b| **b == b'\n').count();
                format!("{}:{line}: this is not an interval log of HdrHistogram.", path.display())
            })?;
            if let LogEntry::Interval(interval) = entry {
                self.add_interval(&interval)
                    .map_err(|why| format!("{}: entry {}: {why}.", path.display(), n + 1))?;
                let start = interval.start_timestamp().as_secs_f64();
                first = first.min(start);
                last = last.max(start + interval.duration().as_secs_f64());
            }
        }
        self.files += 1;
        self.seconds = self.seconds.max(last - first);
        Ok(())
    }

    fn add_interval(&mut self, interval: &IntervalLogHistogram) -> Result<(), String> {
        let bytes = STANDARD.decode(interval.encoded_histogram());
        let bytes = bytes.map_err(|e| format!("the histogram is not base64 ({e})"))?;
        let histogram: Histogram<u64> = Deserializer::new()
            .deserialize(&mut bytes.as_slice())
            .map_err(|e| format!("the histogram cannot be decoded ({e})"))?;
        let name = interval.tag().map_or(UNTAGGED, |tag| tag.as_str());
        self.stages.add(name, &histogram);
        self.intervals += 1;
        Ok(())
    }
}
