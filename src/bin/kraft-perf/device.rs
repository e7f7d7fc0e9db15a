//! `kraft-perf device DIR`: durable writes as cheap as the kernel has them, for comparison with what a server makes of them.
//!
//! Each writer has a file of its own that was written full of zeros before (so that no flush has to convert extents), opened
//! with O_DIRECT, and a ring of its own; a write is durable when it completes (RWF_DSYNC). Sleeping waits in the kernel;
//! yielding looks again and again and gives its core away each time, which is the fastest way to see one write through.

use std::alloc::{self, Layout};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use io_uring::{IoUring, opcode, types};

use kraft::server::control::latency::resizable;

use crate::options::{Wait, seconds};
use crate::raw::{self, Measured};
use crate::report::Written;

const BLOCK_BYTES: usize = 4096;
const MIB: usize = 1 << 20;
/// Written round and round.
const FILE_BYTES: usize = 128 * MIB;
const WRITERS_MAX: usize = 3;

#[derive(Debug, Args)]
pub struct DeviceOptions {
    /// Where the files are made, and removed again: the file system of the server's data
    pub dir: PathBuf,
    /// Seconds of each case
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub duration: f64,
    /// Write the result as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    bytes: usize,
    writers: usize,
    in_flight: usize,
    wait: Wait,
}

const CASES: &[Case] = &[
    Case { name: "4 KiB, 1 writer, sleeping", bytes: 4096, writers: 1, in_flight: 1, wait: Wait::Sleep },
    Case { name: "4 KiB, 1 writer, yielding", bytes: 4096, writers: 1, in_flight: 1, wait: Wait::Yield },
    Case { name: "4 KiB, 3 writers, sleeping", bytes: 4096, writers: 3, in_flight: 1, wait: Wait::Sleep },
    Case { name: "4 KiB, 3 writers, yielding", bytes: 4096, writers: 3, in_flight: 1, wait: Wait::Yield },
    Case { name: "1 MiB, 1 in flight", bytes: MIB, writers: 1, in_flight: 1, wait: Wait::Sleep },
    Case { name: "1 MiB, 4 in flight", bytes: MIB, writers: 1, in_flight: 4, wait: Wait::Sleep },
];

pub fn run(options: &DeviceOptions) -> Result<Written, String> {
    let duration = seconds("--duration", options.duration)?;
    let failed = |e: io::Error| format!("{}: {e}.", options.dir.display());
    let files: Vec<ZeroedFile> = (0..WRITERS_MAX)
        .map(|n| ZeroedFile::create(&options.dir, n))
        .collect::<io::Result<_>>()
        .map_err(failed)?;
    let mut measured = Vec::new();
    for case in CASES {
        measured.push(run_case(case, &files, duration).map_err(failed)?);
    }
    raw::show("device", &measured, options.json.as_deref())
}

fn run_case(case: &Case, files: &[ZeroedFile], duration: Duration) -> io::Result<Measured> {
    let barrier = Barrier::new(case.writers);
    let results: Vec<io::Result<(Histogram<u64>, Duration)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = files[..case.writers]
            .iter()
            .map(|file| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let writer = Writer::new(&file.file, case);
                    barrier.wait();
                    writer?.run(duration)
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().expect("a writer does not panic")).collect()
    });
    let mut measured = Measured::new(case.name, case.bytes);
    for result in results {
        let (latency, elapsed) = result?;
        measured.add(&latency, elapsed);
    }
    Ok(measured)
}

/// A file of zeros that is on the disk; removed at the end.
struct ZeroedFile {
    path: PathBuf,
    file: File,
}

impl ZeroedFile {
    fn create(directory: &Path, n: usize) -> io::Result<ZeroedFile> {
        let path = directory.join(format!("kraft-perf-device-{}-{n}", std::process::id()));
        let mut plain = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // From here on it is removed, whatever fails.
        let mut zeroed = ZeroedFile { file: plain.try_clone()?, path };
        let zeros = vec![0; MIB];
        for _ in 0..FILE_BYTES / MIB {
            plain.write_all(&zeros)?;
        }
        plain.sync_all()?;
        zeroed.file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&zeroed.path)?;
        Ok(zeroed)
    }
}

impl Drop for ZeroedFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

/// Memory that O_DIRECT takes.
struct AlignedBlock {
    start: NonNull<u8>,
    layout: Layout,
}

impl AlignedBlock {
    fn new(bytes: usize) -> AlignedBlock {
        let layout = Layout::from_size_align(bytes, BLOCK_BYTES).expect("a power of two");
        // SAFETY: the size is not zero.
        let start = unsafe { alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        AlignedBlock { start, layout }
    }
}

impl Drop for AlignedBlock {
    fn drop(&mut self) {
        // SAFETY: allocated with this layout, and nobody else frees it.
        unsafe { alloc::dealloc(self.start.as_ptr(), self.layout) }
    }
}

struct Writer<'a> {
    file: &'a File,
    case: &'a Case,
    ring: IoUring,
    blocks: Vec<AlignedBlock>,
    position: usize,
    latency: Histogram<u64>,
}

impl<'a> Writer<'a> {
    fn new(file: &'a File, case: &'a Case) -> io::Result<Writer<'a>> {
        Ok(Writer {
            file,
            case,
            ring: IoUring::builder().setup_coop_taskrun().setup_single_issuer().build(8)?,
            blocks: (0..case.in_flight).map(|_| AlignedBlock::new(case.bytes)).collect(),
            position: 0,
            latency: resizable(),
        })
    }

    /// Keeps its number of writes under way for so long, and waits for the last of them.
    fn run(mut self, duration: Duration) -> io::Result<(Histogram<u64>, Duration)> {
        let began = Instant::now();
        let mut sent_at = vec![began; self.case.in_flight];
        let mut under_way = 0;
        let mut result = Ok(());
        for (slot, sent_at) in sent_at.iter_mut().enumerate() {
            *sent_at = Instant::now();
            self.push(slot);
            under_way += 1;
        }
        while under_way > 0 {
            self.wait()?;
            loop {
                let Some(entry) = self.ring.completion().next() else { break };
                let slot = entry.user_data() as usize;
                let now = Instant::now();
                // Without an upper bound it takes every value.
                let _ = self.latency.record((now - sent_at[slot]).as_nanos() as u64);
                match entry.result() {
                    bytes if bytes == self.case.bytes as i32 => {}
                    bytes if bytes >= 0 => result = Err(io::ErrorKind::WriteZero.into()),
                    errno => result = Err(io::Error::from_raw_os_error(-errno)),
                }
                if now - began < duration && result.is_ok() {
                    sent_at[slot] = now;
                    self.push(slot);
                } else {
                    under_way -= 1;
                }
            }
        }
        result.map(|()| (self.latency, began.elapsed()))
    }

    fn push(&mut self, slot: usize) {
        let bytes = self.case.bytes;
        let entry = opcode::Write::new(
            types::Fd(self.file.as_raw_fd()),
            self.blocks[slot].start.as_ptr(),
            bytes as u32,
        )
        .offset(self.position as u64)
        .rw_flags(libc::RWF_DSYNC)
        .build()
        .user_data(slot as u64);
        self.position = (self.position + bytes) % FILE_BYTES;
        // SAFETY: block and file outlive the ring, and `run` waits for every write. The ring has room for all slots.
        unsafe { self.ring.submission().push(&entry) }.expect("the ring has room for all slots");
    }

    fn wait(&mut self) -> io::Result<()> {
        loop {
            let waited = match self.case.wait {
                Wait::Sleep => self.ring.submit_and_wait(1),
                Wait::Yield => self.ring.submit(),
            };
            match waited {
                Ok(_) => break,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        while self.case.wait == Wait::Yield && self.ring.completion().is_empty() {
            std::thread::yield_now();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Beside the test binary: a real disk, where /tmp may have no O_DIRECT.
    fn directory() -> tempfile::TempDir {
        let binary = std::env::current_exe().unwrap();
        tempfile::tempdir_in(binary.parent().unwrap()).unwrap()
    }

    #[test]
    fn each_case_writes_and_leaves_nothing_behind() {
        let dir = directory();
        let options = DeviceOptions { dir: dir.path().into(), duration: 0.02, json: Some("-".into()) };
        let written = run(&options).unwrap();
        let value: serde_json::Value = serde_json::from_str(&written.stdout).unwrap();
        let cases = value["cases"].as_array().unwrap();
        assert_eq!(cases.len(), CASES.len());
        for (case, expected) in cases.iter().zip(CASES) {
            assert_eq!(case["name"], expected.name);
            assert!(
                case["latency"]["count"].as_u64() >= Some((expected.writers * expected.in_flight) as u64),
                "{case}"
            );
        }
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_directory_that_is_missing_is_named() {
        let options = DeviceOptions { dir: "/nowhere".into(), duration: 0.1, json: None };
        assert!(run(&options).err().unwrap().starts_with("/nowhere: "));
    }
}
