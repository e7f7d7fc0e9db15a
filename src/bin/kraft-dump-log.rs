//! `kraft-dump-log PATH...`: prints the batches of log segments and snapshots in the words of Kafka's `kafka-dump-log.sh`, so that
//! the outputs of both can be compared line by line.
//!
//! Reads only, also below a running node. Zeros behind the last batch are the space ahead of the writer, said in one
//! line on stderr; anything else there is an error. Of compressed batches the header is shown, the records are not. A snapshot is
//! held to be whole too: stderr says what is wrong with one that is not.

#[path = "kraft-dump-log/batches.rs"]
mod batches;
#[path = "kraft-dump-log/lines.rs"]
mod lines;

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use batches::{End, SegmentReader};
use clap::Parser;
use kraft::log::{SnapshotDecoder, parse_snapshot_file_name};
use kraft::server::output::note_line;
use kraft::types::OffsetAndEpoch;

/// Kafka: `BootstrapDirectory.BINARY_BOOTSTRAP_FILENAME`. It has the form of a snapshot, and stands for no part of a log.
const BOOTSTRAP_FILE: &str = "bootstrap.checkpoint";
/// A snapshot is read in pieces of this size.
const READ_BYTES: usize = 1 << 20;

/// Print the batches of log segments as kafka-dump-log.sh does
#[derive(Debug, Parser)]
#[command(name = "kraft-dump-log", version)]
struct Arguments {
    /// Segments (00000000000000000000.log), snapshots (*.checkpoint), or directories of segments such as data/__cluster_metadata-0
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,

    /// A line for each record too
    #[arg(long)]
    deep_iteration: bool,

    /// A line for each record, with key and payload
    #[arg(long)]
    print_data_log: bool,

    /// Only, for each segment, the bytes up to the end of its last batch, what follows (nothing, zeros or other), and how
    /// many bytes of it; goes by the batches' headers and checks no CRC
    #[arg(long)]
    valid_length: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let mut out = BufWriter::new(io::stdout().lock());
    let result = run(&arguments, &mut out).and_then(|sound| out.flush().map(|()| sound));
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        // A reader that has seen enough (`| head`) is no failure.
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            note_line!("error: {e}");
            ExitCode::FAILURE
        }
    }
}

/// False: something is wrong with a segment, and stderr says what.
fn run(arguments: &Arguments, out: &mut dyn Write) -> io::Result<bool> {
    let mut sound = true;
    for path in &arguments.paths {
        for segment in segments(path)? {
            sound &= match arguments.valid_length {
                true => tell_valid_length(&segment, out)?,
                false => dump(&segment, arguments, out)?,
            };
        }
    }
    Ok(sound)
}

/// A file itself; of a directory all segments in the order of their offsets.
fn segments(path: &Path) -> io::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_path_buf()]);
    }
    let mut segments = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let file = entry?.path();
        if file.extension().is_some_and(|extension| extension == "log") {
            segments.push(file);
        }
    }
    segments.sort();
    if segments.is_empty() {
        let why = format!("{}: no segment (*.log) is in this directory", path.display());
        return Err(io::Error::new(io::ErrorKind::NotFound, why));
    }
    Ok(segments)
}

/// For `bin/kafka-dump-log.sh`, which lets Kafka's tool stop there.
fn tell_valid_length(path: &Path, out: &mut dyn Write) -> io::Result<bool> {
    let at = |e: io::Error| named(path, &e);
    let mut segment = SegmentReader::open(path).map_err(at)?;
    segment.skip_batches().map_err(at)?;
    let (what, bytes) = match segment.end() {
        End::Whole => ("nothing", 0),
        End::Zeros(bytes) => ("zeros", bytes),
        End::NoBatch { bytes, .. } => ("other", bytes),
    };
    writeln!(out, "{} {what} {bytes}", segment.position())?;
    Ok(what != "other")
}

fn named(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn dump(path: &Path, arguments: &Arguments, out: &mut dyn Write) -> io::Result<bool> {
    let shown = path.display();
    let at = |e: io::Error| named(path, &e);
    let mut segment = SegmentReader::open(path).map_err(at)?;
    writeln!(out, "Dumping {shown}")?;
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let snapshot = parse_snapshot_file_name(name);
    if let Some(OffsetAndEpoch { offset, epoch }) = snapshot {
        writeln!(out, "Snapshot end offset: {offset}, epoch: {epoch}")?;
    } else if name == BOOTSTRAP_FILE {
        writeln!(out, "KRaft bootstrap snapshot")?;
    } else if let Some(start) = path.file_stem().and_then(|stem| stem.to_str()?.parse::<i64>().ok()) {
        writeln!(out, "Log starting offset: {start}")?;
    }
    let mut sound = true;
    while let Some(batch) = segment.next_batch().map_err(at)? {
        writeln!(out, "{}", lines::batch_line(&batch))?;
        if let Some(why) = &batch.invalid {
            note_line!("error: {shown}, position {}: {why}", batch.position);
            sound = false;
        } else if arguments.deep_iteration || arguments.print_data_log {
            lines::write_records(out, &batch, arguments.print_data_log)?;
        }
    }
    match segment.end() {
        End::Whole => {}
        End::Zeros(bytes) => note_line!("note: {shown}: {bytes} zeros follow, the space ahead of the writer"),
        End::NoBatch { position, bytes } => {
            note_line!("error: {shown}: {bytes} bytes from position {position} on are no whole batch");
            sound = false;
        }
    }
    // What is wrong with a batch or behind the last one has been said.
    if let Some(id) = snapshot.filter(|_| sound)
        && let Err(why) = check_snapshot(path, id).map_err(at)?
    {
        note_line!("error: {shown}: {why}");
        sound = false;
    }
    Ok(sound)
}

/// The inner error: why it is no whole snapshot with this name.
fn check_snapshot(path: &Path, id: OffsetAndEpoch) -> io::Result<Result<(), String>> {
    let mut file = File::open(path)?;
    let mut decoder = SnapshotDecoder::new(id, file.metadata()?.len());
    let mut piece = vec![0; READ_BYTES];
    loop {
        let length = file.read(&mut piece)?;
        if length == 0 {
            return Ok(decoder.finish().map(drop).map_err(|why| why.to_string()));
        }
        if let Err(why) = decoder.push(&piece[..length]) {
            return Ok(Err(why.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dumped(paths: &[PathBuf], flag: Option<&str>) -> (String, bool) {
        let paths = paths.iter().map(|path| path.display().to_string());
        let flags = flag.into_iter().map(str::to_string);
        let arguments = ["kraft-dump-log".to_string()].into_iter().chain(flags).chain(paths);
        let mut out = Vec::new();
        let sound = run(&Arguments::parse_from(arguments), &mut out).unwrap();
        (String::from_utf8(out).unwrap(), sound)
    }

    fn golden(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/files").join(name)
    }

    #[test]
    fn segments_of_kafka_are_shown_in_kafkas_words() {
        let directory = golden("voter-kraft0-clean/__raft_performance_test-0");
        let (out, sound) = dumped(&[directory], Some("--deep-iteration"));
        assert!(sound);
        let mut lines = out.lines();
        assert!(lines.next().unwrap().starts_with("Dumping "));
        assert_eq!(lines.next(), Some("Log starting offset: 0"));
        let first = lines.next().unwrap();
        assert!(
            first.starts_with(
                "baseOffset: 0 lastOffset: 0 count: 1 baseSequence: -1 lastSequence: -1 producerId: -1 "
            ) && first
                .contains("isControl: true deleteHorizonMs: OptionalLong.empty position: 0 CreateTime: ")
                && first.contains(" size: 106 magic: 2 compresscodec: none crc: ")
                && first.ends_with(" isvalid: true"),
            "{first}"
        );
        let record = lines.next().unwrap();
        assert!(
            record.starts_with("| offset: 0 ")
                && record.contains(" LeaderChange: {\"version\":0,\"leaderId\":"),
            "{record}"
        );
    }

    #[test]
    fn damage_is_shown_and_told() {
        let directory = tempfile::tempdir().unwrap();
        let file = golden("voter-kraft0-clean/__raft_performance_test-0/00000000000000000000.log");
        let whole = std::fs::read(file).unwrap();
        let copy = directory.path().join("00000000000000000000.log");
        let shown = |bytes: &[u8]| {
            std::fs::write(&copy, bytes).unwrap();
            dumped(&[directory.path().to_path_buf()], None)
        };
        let (all, sound) = shown(&whole);
        assert!(sound && all.lines().count() > 3);
        let zeros = [whole.clone(), vec![0; 5000]].concat();
        assert_eq!(shown(&zeros), (all.clone(), true));
        let length = || dumped(std::slice::from_ref(&copy), Some("--valid-length"));
        assert_eq!(length(), (format!("{} zeros 5000\n", whole.len()), true));
        let (cut, sound) = shown(&whole[..whole.len() - 1]);
        assert!(!sound && cut.lines().count() == all.lines().count() - 1);
        let mut flipped = whole.clone();
        flipped[100] ^= 1;
        let (out, sound) = shown(&flipped);
        assert!(!sound && out.lines().nth(2).unwrap().ends_with("isvalid: false"), "{out}");
        assert_eq!(out.lines().count(), all.lines().count());
        // Kafka's tool says of a rotten batch that it is invalid: to where the batches go is another matter.
        assert_eq!(length(), (format!("{} nothing 0\n", whole.len()), true));
        for (tail, told) in
            [(&b"garbage"[..], "other 7"), (b"\0", "zeros 1"), (&[[0; 99], [1; 99]].concat(), "other 198")]
        {
            std::fs::write(&copy, [&whole, tail].concat()).unwrap();
            assert_eq!(length(), (format!("{} {told}\n", whole.len()), told.starts_with("zeros")));
        }
        std::fs::write(&copy, &whole[..whole.len() - 1]).unwrap();
        let (told, sound) = length();
        assert!(!sound && told.contains(" other "), "{told}");
    }

    #[test]
    fn snapshots_are_shown_in_kafkas_words_and_held_to_be_whole() {
        let name = "00000000000000000130-0000000001.checkpoint";
        let kafkas = golden("controller-kraft1-leader-snapshots/__cluster_metadata-0").join(name);
        let (out, sound) = dumped(std::slice::from_ref(&kafkas), Some("--deep-iteration"));
        assert!(sound);
        assert_eq!(out.lines().nth(1), Some("Snapshot end offset: 130, epoch: 1"));
        assert!(out.contains(" SnapshotHeader {\"version\":0,\"lastContainedLogTimestamp\":"), "{out}");
        assert!(out.lines().last().unwrap().ends_with(" SnapshotFooter {\"version\":0}"), "{out}");
        let (out, sound) = dumped(&[golden("controller-kraft0-run/bootstrap.checkpoint")], None);
        assert!(sound && out.lines().nth(1) == Some("KRaft bootstrap snapshot"), "{out}");
        // Whole batches, but not to the footer; and all of it, of another epoch than its name says.
        let directory = tempfile::tempdir().unwrap();
        let whole = std::fs::read(kafkas).unwrap();
        let footer_bytes = 75;
        for (name, bytes) in [
            (name, &whole[..whole.len() - footer_bytes]),
            ("00000000000000000130-0000000002.checkpoint", &whole[..]),
        ] {
            let copy = directory.path().join(name);
            std::fs::write(&copy, bytes).unwrap();
            let (out, sound) = dumped(&[copy], None);
            assert!(!sound && !out.contains("isvalid: false"), "{out}");
        }
    }
}
