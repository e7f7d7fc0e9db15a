//! `kraft-perf loopback`: a request and its answer between two threads over TCP on this machine, with nothing in between.
//!
//! Once where the kernel likes to have the threads, and once with both on one core, where they need not wake another one.

use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use kraft::server::control::latency::resizable;

use crate::flags::seconds;
use crate::raw::{self, Measured};
use crate::written::Written;

const SIZE_BYTES_MAX: usize = 64 << 20;
/// Round trips that are not measured.
const WARMUP_ROUNDS: usize = 100;

#[derive(Debug, Args)]
pub(crate) struct LoopbackOptions {
    /// Bytes of the request
    #[arg(long, default_value_t = 256, value_name = "N")]
    pub(crate) size: usize,
    /// Bytes of the answer
    #[arg(long, default_value_t = 64, value_name = "N")]
    pub(crate) answer_size: usize,
    /// Seconds of each case
    #[arg(long, default_value_t = 3.0, value_name = "SECONDS")]
    pub(crate) duration: f64,
    /// Write the result as JSON; - is stdout, in place of the table
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
}

pub(crate) fn run(options: &LoopbackOptions) -> Result<Written, String> {
    for (flag, bytes) in [("--size", options.size), ("--answer-size", options.answer_size)] {
        if !(1..=SIZE_BYTES_MAX).contains(&bytes) {
            return Err(format!("{flag} {bytes}: give 1 to {SIZE_BYTES_MAX} bytes."));
        }
    }
    let duration = seconds("--duration", options.duration)?;
    let failed = |e: io::Error| format!("loopback: {e}.");
    let cases = [
        round_trips("threads free", options, duration, None).map_err(failed)?,
        round_trips("both on one core", options, duration, Some(first_core())).map_err(failed)?,
    ];
    raw::show("loopback", &cases, options.json.as_deref())
}

fn round_trips(
    name: &str,
    options: &LoopbackOptions,
    duration: Duration,
    core: Option<usize>,
) -> io::Result<Measured> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    let (size, answer_size) = (options.size, options.answer_size);
    std::thread::scope(|scope| {
        let server = scope.spawn(move || {
            pin(core)?;
            answer(&listener, size, answer_size)
        });
        let client = scope.spawn(move || {
            pin(core)?;
            let stream = TcpStream::connect(address)?;
            ask(stream, name, size, answer_size, duration)
        });
        let measured = client.join().expect("the client does not panic")?;
        server.join().expect("the server does not panic")?;
        Ok(measured)
    })
}

fn ask(
    mut stream: TcpStream,
    name: &str,
    size: usize,
    answer_size: usize,
    duration: Duration,
) -> io::Result<Measured> {
    stream.set_nodelay(true)?;
    let (request, mut answer) = (vec![7; size], vec![0; answer_size]);
    let mut round_trip = || {
        let sent = Instant::now();
        stream.write_all(&request)?;
        stream.read_exact(&mut answer)?;
        Ok::<Duration, io::Error>(sent.elapsed())
    };
    for _ in 0..WARMUP_ROUNDS {
        round_trip()?;
    }
    let (mut latency, began) = (resizable(), Instant::now());
    while began.elapsed() < duration {
        // Without an upper bound it takes every value.
        let _ = latency.record(round_trip()?.as_nanos() as u64);
    }
    let mut measured = Measured::new(name, size);
    measured.add(&latency, began.elapsed());
    Ok(measured)
}

/// Until the client is gone.
fn answer(listener: &TcpListener, size: usize, answer_size: usize) -> io::Result<()> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let (mut request, answer) = (vec![0; size], vec![7; answer_size]);
    loop {
        match stream.read_exact(&mut request) {
            Ok(()) => stream.write_all(&answer)?,
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => return Ok(()),
            Err(e) => return Err(e),
        }
    }
}

/// The first core that this process may use.
fn first_core() -> usize {
    // SAFETY: all zeros is an empty set, which the call fills.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set);
        (0..libc::CPU_SETSIZE as usize).find(|core| libc::CPU_ISSET(*core, &set)).unwrap_or(0)
    }
}

/// This thread alone.
fn pin(core: Option<usize>) -> io::Result<()> {
    let Some(core) = core else { return Ok(()) };
    // SAFETY: all zeros is an empty set, and `core` is one that a set of this size has.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(core, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_placements_make_round_trips() {
        let options = LoopbackOptions { size: 100, answer_size: 10, duration: 0.05, json: Some("-".into()) };
        let written = run(&options).unwrap();
        let value: serde_json::Value = serde_json::from_str(&written.stdout).unwrap();
        for (case, name) in
            value["cases"].as_array().unwrap().iter().zip(["threads free", "both on one core"])
        {
            assert_eq!(case["name"], name);
            assert!(case["per_second"].as_f64().unwrap() > 0.0, "{case}");
        }
    }

    #[test]
    fn nothing_cannot_be_sent() {
        let options = LoopbackOptions { size: 0, answer_size: 10, duration: 0.05, json: None };
        assert!(run(&options).err().unwrap().starts_with("--size 0"));
    }
}
