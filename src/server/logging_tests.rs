use super::*;
use crate::server::output::tests::Output;

fn logged(
    format: LogFormat,
    settings: &LogSettings,
    directives: Option<&str>,
    log: impl FnOnce(),
) -> Vec<String> {
    let output = Output::default();
    let lines = start_lines(format, output.clone()).unwrap();
    let (filter, _) = settings.filter(directives.map(str::to_string));
    tracing::subscriber::with_default(registry().with(filter).with(LineLayer { lines: lines.clone() }), log);
    lines.flush();
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
    assert_eq!(logged(LogFormat::Text, &LogSettings::default(), Some("debug, ,"), log).len(), 2);
    assert_eq!(logged(LogFormat::Text, &verbose, Some(","), log).len(), 1, "as if it were not set");
    let (_, problem) = verbose.filter(Some("kraft=loud".to_string()));
    assert!(problem.unwrap().contains("RUST_LOG=kraft=loud is not understood"));
}

#[test]
fn long_messages_are_cut_at_a_character() {
    let text = bounded(format_args!("{}", "ü".repeat(MESSAGE_BYTES_MAX)));
    assert!(text.len() <= MESSAGE_BYTES_MAX + 3 && text.ends_with("ü..."));
}

#[test]
fn what_would_turn_a_line_round_is_escaped_and_letters_stay() {
    for format in [LogFormat::Text, LogFormat::Json] {
        let lines = logged(format, &LogSettings::default(), None, || {
            tracing::info!("Grüße, 'x' says \u{202e}dlrow\u{200b}\u{7}: \"no\".");
        });
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains("Grüße, 'x' says"), "{}", lines[0]);
        assert!(!lines[0].contains(['\u{202e}', '\u{200b}', '\u{7}']), "{}", lines[0]);
        assert!(lines[0].contains(r"u{202e}dlrow"), "{}", lines[0]);
    }
}
