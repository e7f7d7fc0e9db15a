use super::*;

fn plan(args: &[&str]) -> Result<Plan, String> {
    let arguments = Arguments::try_parse_from(std::iter::once("kraft-perf").chain(args.iter().copied()));
    arguments.map_err(|e| e.to_string())?.load.plan()
}

fn batches(batches: u64) -> End {
    End { after: None, batches: Some(batches) }
}

fn after(duration: Duration) -> End {
    End { after: Some(duration), batches: None }
}

#[test]
fn flags_of_kafkas_tool_mean_the_same_here() {
    let plan = plan(&[
        "--topic",
        "t",
        "--num-records",
        "1000",
        "--record-size",
        "100",
        "--throughput",
        "500",
        "--bootstrap-server",
        "PLAINTEXT://a:1, b:2",
    ])
    .unwrap();
    assert_eq!((plan.topic.as_str(), plan.rate, plan.end), ("t", Some(500.0), batches(1000)));
    assert_eq!(plan.bootstrap, ["a:1", "b:2"]);
    assert_eq!(plan.payload, Payload::Random { min: 100, max: 100 });
}

#[test]
fn without_flags_it_is_a_closed_loop_of_one() {
    let plan = plan(&[]).unwrap();
    assert_eq!((plan.clients, plan.in_flight, plan.threads, plan.rate), (1, 1, 1, None));
    assert_eq!((plan.acks, plan.is_idempotent), (-1, false));
    assert_eq!((plan.warmup, plan.end), (Duration::from_secs(1), after(Duration::from_secs(10))));
}

#[test]
fn the_open_loop_has_more_in_flight() {
    assert_eq!(plan(&["--rate", "100"]).unwrap().in_flight, 5);
    assert_eq!(plan(&["--rate", "100", "--in-flight", "2"]).unwrap().in_flight, 2);
    assert_eq!(plan(&["--throughput", "-1"]).unwrap().rate, None);
}

#[test]
fn records_are_rounded_up_to_whole_batches() {
    let plan = plan(&["--num-records", "129", "--records-per-batch", "64"]).unwrap();
    assert_eq!((plan.end, plan.warmup), (batches(3), Duration::ZERO));
}

#[test]
fn there_are_never_more_threads_than_connections() {
    assert_eq!(plan(&["--threads", "8", "--clients", "3"]).unwrap().threads, 3);
}

#[test]
fn payload_files_are_split_at_the_delimiter() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "one\ntwo\n\nfour\n").unwrap();
    let path = file.path().to_str().unwrap();
    let Payload::Lines(lines) = plan(&["--payload-file", path]).unwrap().payload else { panic!() };
    assert_eq!(lines, [&b"one"[..], b"two", b"", b"four"]);
    let args = ["--payload-file", path, "--payload-delimiter", "o\\n"];
    let Payload::Lines(lines) = plan(&args).unwrap().payload else { panic!() };
    assert_eq!(lines, [&b"one\ntw"[..], b"\nfour\n"]);
    std::fs::write(file.path(), "").unwrap();
    assert!(plan(&["--payload-file", path]).unwrap_err().contains("no record"));
}

#[test]
fn bad_values_are_one_line_that_names_the_flag() {
    for (args, part) in [
        (&["--clients", "0"][..], "--clients 0"),
        (&["--in-flight", "0"], "--in-flight 0"),
        (&["--rate", "0"], "--rate 0"),
        (&["--rate", "-2"], "--rate -2"),
        (&["--record-size", "x"], "--record-size x"),
        (&["--record-size", "9:3"], "LO at most HI"),
        (&["--acks", "0"], "nothing to measure"),
        (&["--acks", "2"], "--acks 2"),
        (&["--idempotent", "--in-flight", "6"], "5 batches"),
        (&["--idempotent", "--acks", "1"], "--acks all"),
        (&["--bootstrap-server", "localhost"], "host:port"),
        (&["--bootstrap-server", ","], "host:port"),
        (&["--duration", "0"], "--duration 0"),
        (&["--warmup", "-1"], "--warmup"),
        (&["--num-records", "0"], "--num-records 0"),
        (&["--records-per-batch", "1000", "--record-size", "1000000"], "above 100 MiB"),
        (&["--payload-file", "/nowhere"], "/nowhere: cannot be read"),
        (&["--topic", ""], "--topic"),
    ] {
        let error = plan(args).expect_err(part);
        assert!(error.contains(part), "'{part}' is not in: {error}");
    }
}

#[test]
fn of_duration_and_count_the_first_ends_the_run() {
    let plan = plan(&["--duration", "1", "--num-records", "7"]).unwrap();
    assert_eq!(plan.end, End { after: Some(Duration::from_secs(1)), batches: Some(7) });
}

#[test]
fn every_codec_of_kafka_has_its_name() {
    for (name, codec) in [
        ("none", Compression::None),
        ("gzip", Compression::Gzip),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
        ("zstd", Compression::Zstd),
    ] {
        assert_eq!(plan(&["--compression", name]).unwrap().compression, codec);
        assert_eq!(codec.name(), name);
    }
}
