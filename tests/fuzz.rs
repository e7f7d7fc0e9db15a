//! The fuzz targets of `fuzz/`, on a stable compiler and for some seconds: what the fuzzer has found and `fuzz/corpus` keeps,
//! Kafka's own frames and files, and thousands of mutations of each kind, drawn from a number.
//!
//! `KRAFT_FUZZ_CASES` sets how many for each target, `KRAFT_FUZZ_SEED` the number, `KRAFT_FUZZ_CORPUS` a directory to
//! write the seeds to instead, in a folder for each target, where `fuzz/run.sh` finds them.

#[path = "fixtures/frames.rs"]
mod fixtures;
// Public here as in its own package.
#[path = "../fuzz/src/lib.rs"]
pub mod targets;

use fixtures::{Seeded, frames, log_files};
use kraft::record::compression::Codec;
use kraft::record::{BATCH_HEADER_BYTES, check_fetched, data_batch};
use std::path::{Path, PathBuf};
use targets::{Seeds, TARGETS, Target};

#[global_allocator]
static ALLOCATOR: targets::Counting = targets::Counting;

const CASES: u64 = 30_000;
/// Larger seeds only make a mutation rarer.
const SEED_BYTES_MAX: usize = 16 * 1024;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// What an answer's first two bytes say in the target `answers`.
fn answer_kind(api_key: i16) -> Option<u8> {
    [(52, 0), (53, 1), (54, 2), (1, 3), (18, 4), (55, 5), (59, 6)]
        .into_iter()
        .find_map(|(key, kind)| (key == api_key).then_some(kind))
}

fn files_under(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).expect("the golden files") {
        let path = entry.expect("an entry").path();
        if path.is_dir() { files_under(&path, found) } else { found.push(path) }
    }
}

fn texts() -> Vec<Vec<u8>> {
    let mut files = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden/files");
    files_under(&root, &mut files);
    let is_text = |path: &PathBuf| {
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        ["quorum-state", "meta.properties", "leader-epoch-checkpoint", "partition.metadata"].contains(&name)
    };
    files
        .iter()
        .filter(|path| is_text(path))
        .map(|path| std::fs::read(path).expect("a golden file"))
        .collect()
}

/// The records of Kafka's own batches, and some that repeat themselves, by each codec.
fn streams() -> Vec<Vec<u8>> {
    let value = b"0123456789".repeat(500);
    let built = data_batch(&[&value[..]; 9], 1_700_000_000_000, None);
    let golden = log_files().into_iter().filter_map(|f| check_fetched(f.bytes).0.into_iter().next());
    let mut batches: Vec<(i32, Vec<u8>)> = vec![(9, built[BATCH_HEADER_BYTES..].to_vec())];
    batches.extend(golden.map(|batch| (batch.header().record_count, batch.record_bytes().to_vec())));
    let of_codec = |codec: Codec| {
        batches.clone().into_iter().map(move |(count, records)| {
            let stream = codec.compress(&records).expect("it compresses");
            [&[(count - 1) as u8, codec.id()][..], &stream].concat()
        })
    };
    Codec::ALL.into_iter().flat_map(of_codec).collect()
}

/// Kafka's own, and what a program of ours has written, in pieces of several sizes.
fn snapshots() -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut files = Vec::new();
    ["golden/files", "snapshots"].iter().for_each(|folder| files_under(&root.join(folder), &mut files));
    files.retain(|path| path.extension().is_some_and(|extension| extension == "checkpoint"));
    let seed = |(n, path): (usize, PathBuf)| {
        let bytes = std::fs::read(path).expect("a snapshot");
        [&[[0, 6, 60, 255][n % 4]][..], &bytes].concat()
    };
    files.into_iter().enumerate().map(seed).collect()
}

/// Seeds of one kind; a target's own leading bytes come first.
fn seeds(target: &Target) -> Vec<Vec<u8>> {
    let seeds: Vec<Vec<u8>> = match target.seeds {
        Seeds::Requests => frames().into_iter().filter(|f| f.is_request).map(|f| f.bytes.to_vec()).collect(),
        Seeds::Answers => frames()
            .into_iter()
            .filter(|f| !f.is_request)
            .filter_map(|f| Some([&[answer_kind(f.api_key)?, f.version as u8][..], &f.bytes].concat()))
            .collect(),
        Seeds::Batches => log_files().into_iter().map(|f| f.bytes.to_vec()).collect(),
        Seeds::Streams => streams(),
        Seeds::Texts => texts(),
        Seeds::Snapshots => snapshots(),
    };
    let first: &[&[u8]] = match target.name {
        "session" => &[&[255], &[6]],
        "segments" => &[&[0], &[1], &[7 | 16 << 3]],
        _ => &[&[]],
    };
    let with_first = seeds.iter().flat_map(|seed| first.iter().map(move |first| [first, &seed[..]].concat()));
    with_first.filter(|seed| seed.len() <= SEED_BYTES_MAX).collect()
}

/// The inputs in `fuzz/corpus`, with their names: each reaches a branch that the others do not (`fuzz/run.sh --minimise`).
fn kept(target: &Target) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target.name);
    let mut paths = Vec::new();
    files_under(&directory, &mut paths);
    paths.sort();
    let named = |path: PathBuf| (path.display().to_string(), std::fs::read(&path).expect("a kept input"));
    paths.into_iter().map(named).collect()
}

const EDGES: [u8; 8] = [0, 1, 2, 0x7f, 0x80, 0xfe, 0xff, 0x40];

/// One to four changes: a byte set, a bit turned, bytes cut out, doubled, or taken from another seed.
fn mutate(chance: &mut Seeded, seed: &[u8], other: &[u8]) -> Vec<u8> {
    let mut data = seed.to_vec();
    for _ in 0..=chance.below(4) {
        if data.is_empty() {
            return data;
        }
        let at = chance.below(data.len());
        let end = (at + 1 + chance.below(16)).min(data.len());
        match chance.below(7) {
            0 => data[at] = chance.next() as u8,
            1 => data[at] = EDGES[chance.below(EDGES.len())],
            2 => data[at] ^= 1 << chance.below(8),
            3 => drop(data.drain(at..end)),
            4 => data.splice(at..at, data[at..end].to_vec()).for_each(drop),
            5 => data.truncate(at),
            _ => {
                let from = chance.below(other.len().max(1)).min(other.len());
                let part = &other[from..(from + end - at).min(other.len())];
                data.splice(at..end, part.iter().copied()).for_each(drop);
            }
        }
    }
    data
}

fn run(target: &Target, data: &[u8]) {
    let outcome = std::panic::catch_unwind(|| (target.run)(data));
    if let Err(panic) = outcome {
        println!("{} of {} bytes: {}", target.name, data.len(), data.escape_ascii());
        std::panic::resume_unwind(panic);
    }
}

fn check(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = seeds(target);
    assert!(seeds.len() >= 8, "{name} has only {} seeds", seeds.len());
    if let Ok(corpus) = std::env::var("KRAFT_FUZZ_CORPUS") {
        let directory = Path::new(&corpus).join(name);
        std::fs::create_dir_all(&directory).expect("a directory for the seeds");
        for (n, seed) in seeds.iter().enumerate() {
            std::fs::write(directory.join(format!("golden-{n}")), seed).expect("a seed");
        }
        return;
    }
    seeds.iter().for_each(|seed| run(target, seed));
    for (name, input) in kept(target) {
        println!("{name}");
        run(target, &input);
    }
    let mut chance = Seeded(number("KRAFT_FUZZ_SEED", 1));
    for _ in 0..number("KRAFT_FUZZ_CASES", CASES) {
        let (seed, other) = (&seeds[chance.below(seeds.len())], &seeds[chance.below(seeds.len())]);
        run(target, &mutate(&mut chance, seed, other));
    }
}

#[test]
fn what_is_kept_is_small_and_of_every_target() {
    const FILE_BYTES_MAX: usize = 4096;
    const BYTES_MAX: usize = 1_000_000;
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus");
    let directories =
        std::fs::read_dir(root).expect("fuzz/corpus").map(|entry| entry.expect("an entry").file_name());
    let mut directories: Vec<_> = directories.map(|name| name.to_string_lossy().into_owned()).collect();
    let mut targets = TARGETS.map(|target| target.name.to_string());
    directories.sort();
    targets.sort();
    assert_eq!(directories, targets, "a directory for each target, and no other");
    let kept: Vec<_> = TARGETS.iter().flat_map(kept).collect();
    for (name, input) in &kept {
        assert!(input.len() <= FILE_BYTES_MAX, "{name} has {} bytes", input.len());
    }
    let bytes: usize = kept.iter().map(|(_, input)| input.len()).sum();
    assert!(bytes <= BYTES_MAX, "{bytes} bytes are too many for a repository");
    TARGETS
        .iter()
        .for_each(|target| assert!(self::kept(target).len() >= 8, "{} has hardly any", target.name));
}

#[test]
fn requests_in_any_form_are_decoded_or_refused() {
    check("requests");
}

#[test]
fn compressed_streams_end_in_a_verdict_and_within_their_bounds() {
    check("compressed");
}

#[test]
fn connections_that_say_anything_end_in_good_order() {
    check("session");
}

#[test]
fn answers_in_any_form_are_decoded_or_refused() {
    check("answers");
}

#[test]
fn batches_in_any_form_are_taken_or_refused() {
    check("batches");
}

#[test]
fn segments_in_any_form_are_recovered_or_refused() {
    check("segments");
}

#[test]
fn small_files_in_any_form_are_read_or_refused() {
    check("files");
}

#[test]
fn snapshots_in_any_form_are_read_or_refused() {
    check("snapshots");
}
