//! The load driver against the server that answers at once: whole processes, on a port that is free.

#[allow(dead_code)] // The tests need the sums of it.
#[path = "../../../src/bin/kraft-latency/logs.rs"]
mod logs;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

struct NullServer {
    process: Child,
    address: String,
}

impl NullServer {
    fn start(listen: &str) -> NullServer {
        let mut process = Command::new(env!("CARGO_BIN_EXE_kraft-null-server"))
            .args(["--listen", listen, "--threads", "2"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is piped");
        BufReader::new(stdout).read_line(&mut line).expect("it says where it listens");
        let address = line.split([' ', ',']).nth(2).unwrap_or_default().to_string();
        assert!(line.starts_with("listening on 127.0.0.1:"), "{line}");
        NullServer { process, address }
    }
}

impl Drop for NullServer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn command(server: &NullServer, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_kraft-perf"));
    command.args(["--bootstrap-server", &server.address, "--json", "-"]).args(args);
    command
}

fn json(output: &Output) -> Value {
    let stderr = String::from_utf8_lossy(&output.stderr);
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{e}: {output:?} {stderr}"))
}

fn run(server: &NullServer, args: &[&str]) -> Value {
    let output = command(server, args).output().expect("kraft-perf starts");
    assert!(output.status.success(), "{output:?}");
    json(&output)
}

#[test]
fn seconds_of_closed_loop_write_every_kind_of_output() {
    let server = NullServer::start("127.0.0.1:0");
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name).to_str().unwrap().to_string();
    let (hlog, hgrm, svg) = (file("a.hlog"), file("a.hgrm"), file("a.svg"));
    let value = run(
        &server,
        &[
            "--clients",
            "20",
            "--threads",
            "2",
            "--in-flight",
            "2",
            "--warmup",
            "0.2",
            "--duration",
            "3",
            "--hlog",
            &hlog,
            "--hgrm",
            &hgrm,
            "--svg",
            &svg,
        ],
    );
    let (records, latency) = (value["records"].as_u64().unwrap(), &value["latency"]["latency"]);
    assert!(records > 100, "{value}");
    assert!(latency["count"].as_u64().unwrap() >= records - 40, "those of the last moment too: {value}");
    assert!(latency["p50"].as_f64() <= latency["p99"].as_f64() && latency["p50"].as_f64() > Some(1.0));
    assert_eq!((value["errors"].as_object().unwrap().len(), value["failed_records"].as_u64()), (0, Some(0)));
    assert_eq!(
        (value["bytes"].as_u64(), value["leader"].as_str()),
        (Some(records * 256), Some(server.address.as_str()))
    );
    for (path, start) in [(&hlog, "#[Histogram log"), (&hgrm, "       Value"), (&svg, "<svg ")] {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.starts_with(start), "{path}");
    }
    assert_eq!(merged_by_kraft_latency(Path::new(&hlog)), latency["count"].as_u64());
}

/// The interval log holds all that was measured, for what merges the server's too.
fn merged_by_kraft_latency(hlog: &Path) -> Option<u64> {
    let merged = logs::read(&[hlog.to_path_buf()]).unwrap();
    merged.stages.iter().find(|(stage, _)| *stage == "latency").map(|(_, histogram)| histogram.len())
}

#[test]
fn a_number_of_records_is_met_exactly_in_both_loops() {
    let server = NullServer::start("127.0.0.1:0");
    for pace in [&["--in-flight", "5", "--idempotent"][..], &["--rate", "20000"]] {
        let load = [
            "--num-records",
            "6400",
            "--records-per-batch",
            "64",
            "--record-size",
            "10:100",
            "--clients",
            "3",
            "--threads",
            "2",
        ];
        let value = run(&server, &[&load[..], pace].concat());
        assert_eq!(
            (value["records"].as_u64(), value["batches"].as_u64()),
            (Some(6400), Some(100)),
            "{value}"
        );
        assert_eq!(value["latency"]["latency"]["count"], 100);
        let each = &value["batches_of_each"];
        let (fewest, most) = (each["fewest"].as_u64().unwrap(), each["most"].as_u64().unwrap());
        assert!(fewest <= 33 && (34..=100).contains(&most), "three connections share a hundred: {value}");
    }
}

#[test]
fn the_shorter_of_duration_and_count_ends_the_run() {
    let server = NullServer::start("127.0.0.1:0");
    let few = run(&server, &["--num-records", "5", "--duration", "60", "--compression", "zstd"]);
    assert_eq!((few["records"].as_u64(), few["load"]["compression"].as_str()), (Some(5), Some("zstd")));
    let short = run(&server, &["--num-records", "1000000000", "--duration", "0.3", "--warmup", "0"]);
    assert!(short["records"].as_u64() > Some(0) && short["seconds"].as_f64() < Some(20.0), "{short}");
}

#[test]
fn the_open_loop_keeps_its_rate() {
    let server = NullServer::start("127.0.0.1:0");
    // So many, not so long: at the end of a time those are missing for which a busy machine had none.
    let value =
        run(&server, &["--rate", "1000", "--warmup", "0.5", "--num-records", "1000", "--clients", "4"]);
    assert_eq!(value["latency"]["latency"]["count"], 1000, "{value}");
    assert!((0.9..4.0).contains(&value["seconds"].as_f64().unwrap()), "{value}");
    let from_due = value["latency"]["latency"]["mean"].as_f64().unwrap();
    assert!(from_due >= value["latency"]["service"]["mean"].as_f64().unwrap(), "{value}");
}

#[test]
fn a_broker_that_dies_and_returns_costs_retries_but_no_record() {
    let server = NullServer::start("127.0.0.1:0");
    let address = server.address.clone();
    let load = ["--num-records", "5000", "--rate", "1000", "--clients", "2", "--idempotent", "--progress"];
    let mut driver = command(&server, &load)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kraft-perf starts");
    // The first of five seconds is over, however long the start took.
    let mut progress = BufReader::new(driver.stderr.take().expect("it is piped")).lines();
    assert!(progress.any(|line| line.unwrap().contains("records/s")));
    let rest = std::thread::spawn(move || progress.for_each(drop));
    drop(server);
    std::thread::sleep(Duration::from_millis(300));
    let _server = NullServer::start(&address);
    let output = driver.wait_with_output().unwrap();
    rest.join().unwrap();
    let value = json(&output);
    assert!(output.status.success(), "{value}");
    assert_eq!(value["records"], 5000);
    assert!(!value["errors"].as_object().unwrap().is_empty(), "{value}");
    assert!(value["pauses"][0]["ms"].as_f64() > Some(200.0), "{value}");
    let max_us = value["latency"]["latency"]["max"].as_f64().unwrap();
    assert!(max_us > 200_000.0, "what was due meanwhile waited for it: {value}");
}

#[test]
fn nobody_there_is_one_line_and_soon() {
    let began = Instant::now();
    let output = Command::new(env!("CARGO_BIN_EXE_kraft-perf"))
        .args(["--bootstrap-server", "127.0.0.1:1"])
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(stderr.starts_with("error: 127.0.0.1:1: ") && stderr.lines().count() == 1, "{stderr}");
    assert!(!output.status.success() && began.elapsed() < Duration::from_secs(20));
}
