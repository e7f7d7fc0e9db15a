//! `kraft-perf device DIR`: durable writes as cheap as the kernel has them, for comparison with what a server makes of them.
//!
//! Each writer has a file of its own, opened with O_DIRECT, and a ring of its own; a write is durable when it completes
//! (RWF_DSYNC). The file was written full of zeros before, so that no flush has to convert extents, and is written round and
//! round; appending goes through a reserved file once instead, which is all that a log can do that grows. Sleeping waits in the
//! kernel; yielding looks again and again and gives its core away each time, which is the fastest way to see one write through.
//! With a rate there is one case, whose writes are due at even distances and are measured from when they were due: what the device
//! does beside other work, as a client with that rate feels it.

use std::alloc::{self, Layout};
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::ptr::NonNull;
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use clap::Args;
use hdrhistogram::Histogram;
use io_uring::{IoUring, opcode, types};

use kraft::server::control::latency::resizable;

use crate::flags::{Wait, seconds};
use crate::pace::Schedule;
use crate::raw::{self, Measured};
use crate::written::Written;

const BLOCK_BYTES: usize = 4096;
const MIB: usize = 1 << 20;
/// Written round and round.
const FILE_BYTES: usize = 128 * MIB;
/// As that, with a rate: who looks on does not write much beforehand.
const PACED_FILE_BYTES: usize = 4 * MIB;
/// Written once: a case that appends ends when it is full, or in time.
const RESERVED_BYTES: usize = 1024 * MIB;
/// No zeros: a device may treat them better than data.
const FILL: u8 = 0xa5;

#[derive(Debug, Args)]
pub(crate) struct DeviceOptions {
    /// Where the files are made, and removed again: the file system of the server's data
    pub(crate) dir: PathBuf,
    /// Seconds of each case
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub(crate) duration: f64,
    /// In place of all cases: so many writes of 4 KiB per second, one after the other
    #[arg(long, value_name = "WRITES/S")]
    pub(crate) rate: Option<f64>,
    /// Write the result as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    bytes: usize,
    writers: usize,
    in_flight: usize,
    wait: Wait,
    appends: bool,
    /// Writes per second; `None`: the next as soon as one is durable.
    rate: Option<f64>,
}

const fn rewriting(name: &'static str, bytes: usize, writers: usize, in_flight: usize, wait: Wait) -> Case {
    Case { name, bytes, writers, in_flight, wait, appends: false, rate: None }
}

const fn appending(name: &'static str, bytes: usize, writers: usize, in_flight: usize) -> Case {
    Case { name, bytes, writers, in_flight, wait: Wait::Sleep, appends: true, rate: None }
}

impl Case {
    fn file_bytes(&self) -> usize {
        match self.rate {
            Some(_) => PACED_FILE_BYTES,
            None => FILE_BYTES,
        }
    }
}

const CASES: &[Case] = &[
    rewriting("4 KiB, 1 writer, sleeping", BLOCK_BYTES, 1, 1, Wait::Sleep),
    rewriting("4 KiB, 1 writer, yielding", BLOCK_BYTES, 1, 1, Wait::Yield),
    rewriting("4 KiB, 3 writers, sleeping", BLOCK_BYTES, 3, 1, Wait::Sleep),
    rewriting("4 KiB, 3 writers, yielding", BLOCK_BYTES, 3, 1, Wait::Yield),
    rewriting("1 MiB, 1 in flight", MIB, 1, 1, Wait::Sleep),
    rewriting("1 MiB, 4 in flight", MIB, 1, 4, Wait::Sleep),
    appending("1 MiB appended, 4 in flight", MIB, 1, 4),
    appending("512 KiB appended, 3 writers", MIB / 2, 3, 1),
];

pub(crate) fn run(options: &DeviceOptions) -> Result<Written, String> {
    let duration = seconds("--duration", options.duration)?;
    let cases = chosen_cases(options.rate)?;
    let failed = |e: io::Error| format!("{}: {e}.", options.dir.display());
    let create = |fill: &dyn Fn(&mut File) -> io::Result<()>, writers: usize| {
        (0..writers)
            .map(|n| CaseFile::create(&options.dir, n, fill))
            .collect::<io::Result<Vec<_>>>()
            .map_err(failed)
    };
    let (writers_max, file_bytes) = (cases.iter().map(|case| case.writers).max(), cases[0].file_bytes());
    let zeroed = create(&|file| write_zeros(file, file_bytes), writers_max.unwrap_or(0))?;
    let mut measured = Vec::new();
    for case in &cases {
        let files = if case.appends { &create(&reserve, case.writers)? } else { &zeroed };
        measured.push(run_case(case, files, duration).map_err(failed)?);
    }
    raw::show("device", &measured, options.json.as_deref())
}

fn chosen_cases(rate: Option<f64>) -> Result<Vec<Case>, String> {
    match rate {
        None => Ok(CASES.to_vec()),
        Some(rate) if rate > 0.0 && rate.is_finite() => {
            let alone = rewriting("4 KiB, 1 writer, at a rate", BLOCK_BYTES, 1, 1, Wait::Sleep);
            Ok(vec![Case { rate: Some(rate), ..alone }])
        }
        Some(rate) => Err(format!("--rate {rate}: give writes per second.")),
    }
}

fn run_case(case: &Case, files: &[CaseFile], duration: Duration) -> io::Result<Measured> {
    let barrier = Barrier::new(case.writers);
    let results: Vec<io::Result<(Histogram<u64>, Duration)>> = std::thread::scope(|scope| {
        let threads: Vec<_> = files[..case.writers]
            .iter()
            .map(|file| {
                let barrier = &barrier;
                scope.spawn(move || {
                    let writer = Writer::new(&file.file, case);
                    barrier.wait();
                    match case.rate {
                        Some(rate) => writer?.run_paced(rate, duration),
                        None => writer?.run(duration),
                    }
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

fn write_zeros(file: &mut File, bytes: usize) -> io::Result<()> {
    let zeros = vec![0; MIB];
    (0..bytes / MIB).try_for_each(|_| file.write_all(&zeros))
}

fn reserve(file: &mut File) -> io::Result<()> {
    // SAFETY: no pointers.
    match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, RESERVED_BYTES as libc::off_t) } {
        0 => Ok(()),
        errno => Err(io::Error::from_raw_os_error(errno)),
    }
}

/// A file that is on the disk; removed at the end.
struct CaseFile {
    path: PathBuf,
    file: File,
}

impl CaseFile {
    fn create(
        directory: &Path,
        n: usize,
        fill: &dyn Fn(&mut File) -> io::Result<()>,
    ) -> io::Result<CaseFile> {
        static CREATED: AtomicUsize = AtomicUsize::new(0);
        let (process, serial) = (std::process::id(), CREATED.fetch_add(1, Ordering::Relaxed));
        let path = directory.join(format!("kraft-perf-device-{process}-{serial}-{n}"));
        let mut plain = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // From here on it is removed, whatever fails.
        let mut made = CaseFile { file: plain.try_clone()?, path };
        fill(&mut plain)?;
        plain.sync_all()?;
        made.file = OpenOptions::new().write(true).custom_flags(libc::O_DIRECT).open(&made.path)?;
        Ok(made)
    }
}

impl Drop for CaseFile {
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
        let start = unsafe { alloc::alloc(layout) };
        let start = NonNull::new(start).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        // SAFETY: just allocated with this size.
        unsafe { start.write_bytes(FILL, bytes) };
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
                result = result.and(self.checked(entry.result()));
                if now - began < duration && result.is_ok() && !self.is_full() {
                    sent_at[slot] = now;
                    self.push(slot);
                } else {
                    under_way -= 1;
                }
            }
        }
        result.map(|()| (self.latency, began.elapsed()))
    }

    /// One write at a time. Those that became due meanwhile follow at once, and have waited.
    fn run_paced(mut self, rate: f64, duration: Duration) -> io::Result<(Histogram<u64>, Duration)> {
        let began = Instant::now();
        let elapsed_ns = || began.elapsed().as_nanos() as u64;
        let mut schedule = Schedule::new(rate, 1, 0, 1);
        while u128::from(schedule.next_due_ns().max(elapsed_ns())) < duration.as_nanos() {
            let Some(due_ns) = schedule.take_due(elapsed_ns()) else {
                let ahead_ns = schedule.next_due_ns().saturating_sub(elapsed_ns());
                std::thread::sleep(Duration::from_nanos(ahead_ns));
                continue;
            };
            self.push(0);
            self.wait()?;
            let entry = self.ring.completion().next().expect("one was waited for");
            self.checked(entry.result())?;
            let _ = self.latency.record(elapsed_ns() - due_ns);
        }
        Ok((self.latency, began.elapsed()))
    }

    fn checked(&self, written: i32) -> io::Result<()> {
        match written {
            bytes if bytes == self.case.bytes as i32 => Ok(()),
            bytes if bytes >= 0 => Err(io::ErrorKind::WriteZero.into()),
            errno => Err(io::Error::from_raw_os_error(-errno)),
        }
    }

    fn is_full(&self) -> bool {
        self.case.appends && self.position + self.case.bytes > RESERVED_BYTES
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
        self.position += bytes;
        if !self.case.appends {
            self.position %= self.case.file_bytes();
        }
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

    fn cases_of(options: &DeviceOptions) -> Vec<serde_json::Value> {
        let written =
            run(&DeviceOptions { dir: options.dir.clone(), json: Some("-".into()), ..*options }).unwrap();
        let value: serde_json::Value = serde_json::from_str(&written.stdout).unwrap();
        value["cases"].as_array().unwrap().clone()
    }

    #[test]
    fn with_a_rate_as_many_writes_are_made_as_are_due() {
        let dir = directory();
        let cases =
            cases_of(&DeviceOptions { dir: dir.path().into(), duration: 0.2, rate: Some(100.0), json: None });
        assert_eq!(cases.len(), 1);
        // Fewer only where the device took longer than all of it.
        let count = cases[0]["latency"]["count"].as_u64().unwrap();
        assert!((1..=20).contains(&count), "{count}");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
        assert!(chosen_cases(Some(0.0)).is_err() && chosen_cases(Some(f64::NAN)).is_err());
    }

    #[test]
    fn each_case_writes_and_leaves_nothing_behind() {
        let dir = directory();
        let cases =
            cases_of(&DeviceOptions { dir: dir.path().into(), duration: 0.02, rate: None, json: None });
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
        let options = DeviceOptions { dir: "/nowhere".into(), duration: 0.1, rate: None, json: None };
        assert!(run(&options).err().unwrap().starts_with("/nowhere: "));
    }
}
