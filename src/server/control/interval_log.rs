//! `latency-<start>.hlog`: what each interval recorded, in HdrHistogram's log format (V2, deflated), one tag per stage.
//!
//! HdrHistogram's own tools and `kraft-latency` read it. Values are ns; the human-readable maximum of a line is ms. Written
//! by the reporter; a failure costs the log, never the node.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, IntervalLogWriterError, Tag};

use super::latency::StageHistograms;
use crate::io::durable::FILE_MODE;

/// The maximum column, for people: ns become ms, as HdrHistogram's own recorders have it.
const MAX_VALUE_DIVISOR: f64 = 1_000_000.0;
/// Files of processes that started in the same second.
const SAME_NAME_MAX: u32 = 100;

/// Files among which the room for all is divided: the oldest goes when the newest is full.
const FILES_IN_ROOM: u64 = 4;

pub(super) struct IntervalLog {
    directory: PathBuf,
    started: SystemTime,
    /// Of all files together, those of earlier processes among them. 0: nothing is written.
    bytes_max: u64,
    /// Of the file under way.
    written: u64,
    /// Created by the first interval that has something in it.
    file: Option<File>,
    path: Option<PathBuf>,
    serializer: V2DeflateSerializer,
}

impl IntervalLog {
    pub(super) fn new(directory: PathBuf, started: SystemTime, bytes_max: u64) -> IntervalLog {
        let serializer = V2DeflateSerializer::new();
        IntervalLog { directory, started, bytes_max, written: 0, file: None, path: None, serializer }
    }

    /// The file, once there is one.
    pub(super) fn path(&self) -> Option<&Path> {
        self.path.as_deref()
    }

    /// Append an interval that began `since_start` after the process and took `length`. Stages without a value are left out.
    pub(super) fn write(
        &mut self,
        stages: &StageHistograms,
        since_start: Duration,
        length: Duration,
    ) -> io::Result<()> {
        if stages.is_empty() || self.bytes_max == 0 {
            return Ok(());
        }
        if self.written >= self.bytes_max / FILES_IN_ROOM {
            self.file = None;
        }
        let mut text = Vec::new();
        let mut builder = IntervalLogWriterBuilder::new();
        builder.with_max_value_divisor(MAX_VALUE_DIVISOR);
        if self.file.is_none() {
            builder.add_comment("[Histogram log format version 1.3]");
            builder.add_comment("[Latencies of produce requests in ns, one tag per stage]");
            // Both: the timestamps of the lines are then offsets for every reader.
            builder.with_start_time(self.started).with_base_time(self.started);
        }
        let mut writer = builder.begin_log_with(&mut text, &mut self.serializer)?;
        for (name, histogram) in stages.iter().filter(|(_, h)| !h.is_empty()) {
            writer.write_histogram(histogram, since_start, length, Tag::new(name)).map_err(|e| match e {
                IntervalLogWriterError::IoError(e) => e,
                IntervalLogWriterError::SerializeError(e) => io::Error::other(e),
            })?;
        }
        self.append(&text)
    }

    /// One write per interval: a reader finds whole lines.
    fn append(&mut self, text: &[u8]) -> io::Result<()> {
        if self.file.is_none() {
            // The first is named by the start of the process, each further one by its own.
            let at = if self.path.is_none() { self.started } else { SystemTime::now() };
            let (file, path) = create(&self.directory, at)?;
            (self.file, self.path, self.written) = (Some(file), Some(path), 0);
            self.make_room()?;
        }
        self.written += text.len() as u64;
        match &mut self.file {
            Some(file) => file.write_all(text),
            None => Ok(()),
        }
    }
}

impl IntervalLog {
    /// Remove the oldest files until there is room for all of the new one.
    fn make_room(&self) -> io::Result<()> {
        let mut files = Vec::new();
        for entry in std::fs::read_dir(&self.directory)? {
            let entry = entry?;
            let name = entry.file_name();
            let is_log =
                name.to_str().is_some_and(|name| name.starts_with("latency-") && name.ends_with(".hlog"));
            if is_log && Some(entry.path().as_path()) != self.path() {
                let metadata = entry.metadata()?;
                files.push((metadata.modified()?, entry.path(), metadata.len()));
            }
        }
        files.sort();
        let mut left: u64 = files.iter().map(|(.., bytes)| bytes).sum();
        let room = self.bytes_max - self.bytes_max / FILES_IN_ROOM;
        for (_, path, bytes) in files {
            if left <= room {
                break;
            }
            std::fs::remove_file(path)?;
            left -= bytes;
        }
        Ok(())
    }
}

/// A new file, named by the start time in UTC; never one that exists.
fn create(directory: &Path, started: SystemTime) -> io::Result<(File, PathBuf)> {
    let name = format!("latency-{}", utc_stamp(started));
    for n in 1..=SAME_NAME_MAX {
        let suffix = if n == 1 { String::new() } else { format!("-{n}") };
        let path = directory.join(format!("{name}{suffix}.hlog"));
        match OpenOptions::new().append(true).create_new(true).mode(FILE_MODE).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(e) if e.kind() == io::ErrorKind::AlreadyExists => continue,
            Err(e) => return Err(e),
        }
    }
    Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name}.hlog and its successors exist")))
}

/// `20261122-140305`.
fn utc_stamp(at: SystemTime) -> String {
    let seconds = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}{month:02}{day:02}-{hour:02}{minute:02}{second:02}")
}

/// Year, month and day of a day since 1970, in the Gregorian calendar (Hinnant's `civil_from_days`: years begin in March, so
/// that the leap day is their last).
fn civil_date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day_of_era = days % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (year_of_era + era * 400 + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::control::latency::resizable;
    use base64::Engine;
    use hdrhistogram::Histogram;
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    const ROOM: u64 = 1 << 20;

    fn stages(values: &[u64]) -> StageHistograms {
        let mut histogram = resizable();
        values.iter().for_each(|v| histogram.record(*v).unwrap());
        let mut stages = StageHistograms::default();
        stages.add("end_to_end", &histogram);
        stages.add("unused", &resizable());
        stages
    }

    #[test]
    fn stamps_are_utc() {
        let at = |seconds| utc_stamp(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "19700101-000000");
        assert_eq!(at(951_782_400), "20000229-000000");
        assert_eq!(at(1_795_356_185), "20261122-140305");
        assert_eq!(at(4_107_542_399), "21000228-235959");
        assert_eq!(at(4_107_542_400), "21000301-000000");
    }

    #[test]
    fn log_reads_back_with_the_crates_own_reader() {
        let dir = tempfile::tempdir().unwrap();
        let started = UNIX_EPOCH + Duration::from_millis(1_795_356_185_250);
        let mut log = IntervalLog::new(dir.path().to_path_buf(), started, ROOM);
        log.write(&StageHistograms::default(), Duration::ZERO, Duration::from_secs(5)).unwrap();
        assert_eq!(log.path(), None, "nothing recorded, no file");
        for (i, values) in [vec![1_000u64, 2_000_000], vec![7]].iter().enumerate() {
            log.write(&stages(values), Duration::from_secs(5 * i as u64), Duration::from_secs(5)).unwrap();
        }
        let path = log.path().unwrap();
        assert_eq!(path, dir.path().join("latency-20261122-140305.hlog"));
        let bytes = std::fs::read(path).unwrap();
        let entries: Vec<LogEntry> = IntervalLogIterator::new(&bytes).map(Result::unwrap).collect();
        assert_eq!(entries.len(), 4);
        assert_eq!(entries[0], LogEntry::StartTime(Duration::from_millis(1_795_356_185_250)));
        let LogEntry::Interval(interval) = &entries[2] else { panic!("{entries:?}") };
        assert_eq!(interval.tag().unwrap().as_str(), "end_to_end");
        assert_eq!(
            (interval.start_timestamp(), interval.duration()),
            (Duration::ZERO, Duration::from_secs(5))
        );
        assert!((interval.max() - 2.0).abs() < 0.01, "ms: {}", interval.max());
        let encoded = base64::engine::general_purpose::STANDARD.decode(interval.encoded_histogram()).unwrap();
        let histogram: Histogram<u64> = Deserializer::new().deserialize(&mut encoded.as_slice()).unwrap();
        assert_eq!(histogram.len(), 2);
        assert!(histogram.equivalent(histogram.max(), 2_000_000));
    }

    #[test]
    fn another_process_of_the_same_second_gets_its_own_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut names = Vec::new();
        for _ in 0..3 {
            let mut log = IntervalLog::new(dir.path().to_path_buf(), UNIX_EPOCH, ROOM);
            log.write(&stages(&[1]), Duration::ZERO, Duration::from_secs(5)).unwrap();
            names.push(log.path().unwrap().file_name().unwrap().to_str().unwrap().to_string());
        }
        assert_eq!(
            names,
            [
                "latency-19700101-000000.hlog",
                "latency-19700101-000000-2.hlog",
                "latency-19700101-000000-3.hlog"
            ]
        );
    }

    #[test]
    fn missing_directory_is_an_error_and_no_panic() {
        let mut log = IntervalLog::new(PathBuf::from("/nowhere/at/all"), UNIX_EPOCH, ROOM);
        assert!(log.write(&stages(&[1]), Duration::ZERO, Duration::from_secs(5)).is_err());
    }

    fn files(dir: &Path) -> Vec<(String, u64)> {
        let mut files: Vec<_> = std::fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap())
            .map(|entry| (entry.file_name().into_string().unwrap(), entry.metadata().unwrap().len()))
            .collect();
        files.sort();
        files
    }

    #[test]
    fn all_logs_together_stay_within_their_room() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("meta.properties"), vec![0; 100_000]).unwrap();
        let old = dir.path().join("latency-19690101-000000.hlog");
        std::fs::write(&old, vec![b'#'; 15_000]).unwrap();
        let room = 20_000;
        let mut log = IntervalLog::new(dir.path().to_path_buf(), UNIX_EPOCH, room);
        let mut all_names = std::collections::BTreeSet::new();
        for i in 0..300 {
            log.write(&stages(&[i + 1, 2_000_000]), Duration::from_secs(5 * i), Duration::from_secs(5))
                .unwrap();
            let logs: Vec<_> =
                files(dir.path()).into_iter().filter(|(name, _)| name.ends_with("hlog")).collect();
            let bytes: u64 = logs.iter().map(|(_, bytes)| bytes).sum();
            // A line may go over the bound of its file.
            assert!(bytes <= room + 1_000, "{bytes} bytes in {logs:?}");
            all_names.extend(logs.into_iter().map(|(name, _)| name));
        }
        // A name that has become free within the same second is taken again.
        assert!(all_names.len() > 4, "{all_names:?}");
        assert!(!old.exists(), "what an earlier process has left goes first");
        assert!(dir.path().join("meta.properties").exists());
        // Each file can be read by itself.
        let bytes = std::fs::read(log.path().unwrap()).unwrap();
        let entries: Vec<LogEntry> = IntervalLogIterator::new(&bytes).map(Result::unwrap).collect();
        assert!(matches!(
            entries[..],
            [LogEntry::StartTime(_), LogEntry::BaseTime(_), LogEntry::Interval(_), ..]
        ));
    }

    #[test]
    fn without_room_nothing_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let mut log = IntervalLog::new(dir.path().to_path_buf(), UNIX_EPOCH, 0);
        log.write(&stages(&[1]), Duration::ZERO, Duration::from_secs(5)).unwrap();
        assert_eq!(files(dir.path()), []);
    }
}
