use super::*;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{IntervalLogWriterBuilder, Tag};
use std::time::{Duration, UNIX_EPOCH};

/// A log of `intervals` of 5 s; each has `tags`, each tag values of 1 to `up_to_us` us.
fn log(directory: &Path, name: &str, tags: &[Option<&str>], intervals: u64, up_to_us: u64) -> PathBuf {
    let mut histogram = Histogram::<u64>::new_with_bounds(1, 60_000_000_000, 3).unwrap();
    (1..=up_to_us).for_each(|us| histogram.record(us * 1000).unwrap());
    let (mut bytes, mut serializer) = (Vec::new(), V2DeflateSerializer::new());
    let mut builder = IntervalLogWriterBuilder::new();
    builder.add_comment("[Histogram log format version 1.3]").with_base_time(UNIX_EPOCH);
    let mut writer = builder.begin_log_with(&mut bytes, &mut serializer).unwrap();
    for n in 0..intervals {
        for tag in tags {
            let tag = tag.map(|tag| Tag::new(tag).unwrap());
            writer
                .write_histogram(&histogram, Duration::from_secs(5 * n), Duration::from_secs(5), tag)
                .unwrap();
        }
    }
    let path = directory.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}

fn arguments(args: &[&str]) -> Arguments {
    Arguments::try_parse_from(std::iter::once("kraft-latency").chain(args.iter().copied())).unwrap()
}

fn run_with(args: &[&str]) -> Result<Output, String> {
    run(&arguments(args))
}

#[test]
fn logs_are_merged_by_tag_into_one_table() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[Some("flushed"), Some("end_to_end")], 3, 1000);
    let b = log(dir.path(), "b.hlog", &[Some("end_to_end")], 1, 2000);
    let output = run_with(&[a.to_str().unwrap(), b.to_str().unwrap()]).unwrap();
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert_eq!(lines[0], "2 logs, 15 s of recording, 7 histograms");
    let row = |name: &str| -> Vec<String> {
        let line = lines.iter().find(|l| l.starts_with(name)).unwrap();
        line.split_whitespace().map(str::to_string).collect()
    };
    assert_eq!(row("flushed")[..2], ["flushed", "3000"]);
    assert_eq!(row("end_to_end")[..2], ["end_to_end", "5000"]);
    assert!(row("end_to_end")[7].parse::<f64>().unwrap() >= 2000.0);
    assert_eq!(output.notes, Vec::<String>::new());
}

#[test]
fn json_and_tag_select() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[Some("flushed"), Some("end_to_end")], 2, 1000);
    let a = a.to_str().unwrap();
    let output = run_with(&[a, "--json", "--tag", "end_to_end"]).unwrap();
    let value: serde_json::Value = serde_json::from_str(&output.stdout).unwrap();
    assert_eq!(value["stages"].as_object().unwrap().len(), 1);
    assert_eq!(value["stages"]["end_to_end"]["count"], 2000);
    assert!((value["stages"]["end_to_end"]["p99"].as_f64().unwrap() - 990.0).abs() < 2.0);
    assert_eq!((value["seconds"].as_f64(), value["unit"].as_str()), (Some(10.0), Some("us")));
    let error = run_with(&[a, "--tag", "nothing"]).err().unwrap();
    assert_eq!(error, "--tag nothing: no such stage in these logs. They have flushed, end_to_end.");
}

#[test]
fn hgrm_has_the_form_of_hdrhistograms_tools() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[None], 1, 1000);
    let out = dir.path().join("out.hgrm");
    let output = run_with(&[a.to_str().unwrap(), "--hgrm", out.to_str().unwrap()]).unwrap();
    assert_eq!(output.notes, [format!("wrote {}", out.display())]);
    let text = std::fs::read_to_string(&out).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], "       Value     Percentile TotalCount 1/(1-Percentile)");
    assert_eq!(lines[1], "");
    assert_eq!(lines[2].split_whitespace().collect::<Vec<_>>()[1..], ["0.000000000000", "1", "1.00"]);
    let median = lines.iter().find(|l| l.contains(" 0.500000000000 ")).unwrap();
    assert_eq!(median.split_whitespace().collect::<Vec<_>>()[2..], ["500", "2.00"]);
    let last = lines.iter().rfind(|l| !l.starts_with('#')).unwrap();
    assert_eq!(last.split_whitespace().collect::<Vec<_>>()[1..], ["1.000000000000", "1000"]);
    assert!(text.contains("#[Mean    =      500."), "{text}");
    assert!(
        text.contains("Total count    =         1000]") && text.contains("SubBuckets     =         2048]")
    );
}

#[test]
fn hgrm_of_several_stages_gets_one_file_each() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[Some("x"), Some("../y")], 1, 10);
    let out = dir.path().join("out.hgrm");
    run_with(&[a.to_str().unwrap(), "--hgrm", out.to_str().unwrap()]).unwrap();
    assert!(dir.path().join("out-x.hgrm").is_file() && dir.path().join("out-.._y.hgrm").is_file());
    assert!(!out.exists());
}

#[test]
fn svg_shows_each_stage_with_readable_axes() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[Some("flushed"), Some("end_to_end")], 20, 1000);
    let out = dir.path().join("out.svg");
    run_with(&[a.to_str().unwrap(), "--svg", out.to_str().unwrap()]).unwrap();
    let svg = std::fs::read_to_string(&out).unwrap();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for part in
        ["flushed (p99 990 us)", "end_to_end", "99.9 %", "90 %", "100 us", "1 ms", "percentile of requests"]
    {
        assert!(svg.contains(part), "'{part}' is not in the plot");
    }
    assert!(svg.matches("<polyline").count() >= 2);
}

#[test]
fn one_value_alone_can_be_drawn() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[Some("x")], 1, 1);
    let out = dir.path().join("out.svg");
    run_with(&[a.to_str().unwrap(), "--svg", out.to_str().unwrap()]).unwrap();
    assert!(std::fs::read_to_string(&out).unwrap().contains("x (p99 1"));
}

#[test]
fn killed_nodes_last_line_is_left_out_with_a_note() {
    let dir = tempfile::tempdir().unwrap();
    let a = log(dir.path(), "a.hlog", &[Some("x")], 2, 10);
    let bytes = std::fs::read(&a).unwrap();
    std::fs::write(&a, &bytes[..bytes.len() - 7]).unwrap();
    let output = run_with(&[a.to_str().unwrap()]).unwrap();
    assert!(output.stdout.starts_with("1 log, 5 s of recording, 1 histogram\n"), "{}", output.stdout);
    assert!(output.notes[0].contains("a line that does not end"), "{:?}", output.notes);
}

#[test]
fn bad_files_are_one_clear_line() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| -> String {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_string()
    };
    let rows = [
        (file("empty", ""), "there is no latency in these logs"),
        (file("comments", "#a\n#b\n"), "there is no latency in these logs"),
        (file("prose", "#a\n#b\nThe quick brown fox\n"), "prose:3: this is not an interval log"),
        (file("binary", "\0\u{1}\u{2}\n"), "binary:1: this is not an interval log"),
        (file("base64", "Tag=x,0.000,5.000,1.000,%%%%\n"), "base64: entry 1: the histogram is not base64"),
        (
            file("short", "Tag=x,0.000,5.000,1.000,HISTFAAA\n"),
            "short: entry 1: the histogram cannot be decoded",
        ),
        (dir.path().to_str().unwrap().to_string(), "cannot be read (it is not a file)"),
        ("/nowhere.hlog".to_string(), "/nowhere.hlog: cannot be read"),
    ];
    for (path, part) in rows {
        let error = run_with(&[&path]).err().unwrap_or_else(|| panic!("{path} must be refused"));
        assert!(error.contains(part) && !error.contains('\n'), "'{part}' is not in: {error}");
    }
    let good = log(dir.path(), "a.hlog", &[Some("x")], 1, 10);
    let error = run_with(&[good.to_str().unwrap(), "--svg", "/nowhere/x.svg"]).err().unwrap();
    assert!(error.starts_with("/nowhere/x.svg: cannot be written"), "{error}");
}
