use super::*;
use std::sync::Mutex;

/// What the writer thread wrote; a held lock is a stderr that nobody reads.
#[derive(Clone, Default)]
struct Output(Arc<Mutex<Vec<u8>>>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Output {
    fn lines(&self) -> Vec<String> {
        let bytes = self.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap().lines().map(str::to_string).collect()
    }
}

fn logged(
    format: LogFormat,
    settings: &LogSettings,
    directives: Option<&str>,
    log: impl FnOnce(),
) -> Vec<String> {
    let output = Output::default();
    let (queue, guard) = start_writer(format, output.clone());
    let (filter, _) = settings.filter(directives.map(str::to_string));
    tracing::subscriber::with_default(registry().with(filter).with(LineLayer { queue }), log);
    guard.flush();
    output.lines()
}

#[test]
fn text_has_kafkas_line_form() {
    let lines = logged(LogFormat::Text, &LogSettings::default(), None, || {
        tracing::info!(target: "kraft::raft", "Became leader in epoch {}.", 3);
        tracing::warn!(target: "kraft::io", bytes = 7, peer = "x\ny", "Closed.\r\n[forged] INFO");
        tracing::debug!("not at this level");
    });
    assert_eq!(lines.len(), 2, "{lines:?}");
    let (date, rest) = lines[0].split_at(26);
    assert_eq!(rest, "INFO Became leader in epoch 3. (kraft.raft)");
    let shape: String = date.chars().map(|c| if c.is_ascii_digit() { '9' } else { c }).collect();
    assert_eq!(shape, "[9999-99-99 99:99:99,999] ");
    assert!(
        lines[1].ends_with(r"WARN Closed.\r\n[forged] INFO bytes=7 peer=x\ny (kraft.io)"),
        "{}",
        lines[1]
    );
}

#[test]
fn json_has_one_object_a_line() {
    let lines = logged(LogFormat::Json, &LogSettings::default(), None, || {
        tracing::error!(target: "kraft::log", segment = "0.log", "Rotten \"batch\".");
    });
    let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
    assert_eq!(line["level"], "ERROR");
    assert_eq!(line["target"], "kraft.log");
    assert_eq!(line["message"], "Rotten \"batch\".");
    assert_eq!(line["fields"]["segment"], "0.log");
    assert!(line["timestamp"].as_str().unwrap().ends_with('Z'));
}

#[test]
fn levels_follow_flag_and_variable() {
    let log = || {
        tracing::debug!(target: "kraft::raft", "ours");
        tracing::debug!(target: "glommio", "theirs");
    };
    let verbose = LogSettings { verbose: true, ..LogSettings::default() };
    assert_eq!(logged(LogFormat::Text, &verbose, None, log).len(), 1);
    assert_eq!(logged(LogFormat::Text, &verbose, Some("error"), log).len(), 0);
    assert_eq!(logged(LogFormat::Text, &LogSettings::default(), Some("debug"), log).len(), 2);
    let (_, problem) = verbose.filter(Some("kraft=loud".to_string()));
    assert!(problem.unwrap().contains("RUST_LOG=kraft=loud is not understood"));
}

#[test]
fn blocked_output_drops_lines_counts_them_and_never_blocks() {
    let output = Output::default();
    let (queue, guard) = start_writer(LogFormat::Text, output.clone());
    let sent = QUEUED_LINES_MAX + 500;
    let held = output.0.lock().unwrap();
    let began = Instant::now();
    tracing::subscriber::with_default(registry().with(LineLayer { queue }), || {
        for i in 0..sent {
            tracing::info!("line {i}");
        }
    });
    assert!(began.elapsed() < Duration::from_secs(5), "logging waited for its output");
    drop(held);
    guard.flush();
    let lines = output.lines();
    let reports: Vec<&String> = lines.iter().filter(|l| l.contains("log lines were dropped")).collect();
    let dropped: usize = reports
        .iter()
        .map(|l| l.split_whitespace().nth(3).and_then(|n| n.parse::<usize>().ok()).unwrap())
        .sum();
    assert!(dropped >= 498, "{dropped}");
    assert_eq!(lines.len() - reports.len() + dropped, sent, "each line is written or counted");
}

#[test]
fn flush_does_not_wait_for_ever() {
    let output = Output::default();
    let (queue, guard) = start_writer(LogFormat::Text, output.clone());
    let held = output.0.lock().unwrap();
    tracing::subscriber::with_default(registry().with(LineLayer { queue }), || tracing::info!("stuck"));
    let began = Instant::now();
    guard.flush();
    assert!(began.elapsed() < FINISH_WAIT * 3);
    drop(held);
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let text = bounded(format_args!("{}", "ü".repeat(MESSAGE_BYTES_MAX)));
    assert!(text.len() <= MESSAGE_BYTES_MAX + 3 && text.ends_with("ü..."));
}
