//! The command line of `kraft-server`: from arguments, environment and file to a configuration or an answer.
//!
//! Called once by `main`, which prints what it gets and ends, or starts the server. Options are those of Kafka's
//! `kafka.Kafka` (`server.properties --override k=v`) and `TestRaftServer` (`--config`, `--replica-directory-id`).

use std::ffi::OsString;
use std::fmt::{Display, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use super::start::exit_code_of;
use crate::config::{self, Config, Effective, Loaded, Note, Origin, Settings, SettingsError};
use crate::io::directory::check_writable;
use crate::replica::{EXIT_CONFIG, EXIT_OK};
use crate::server::logging::{LogFormat, LogSettings};

/// What `main` has to do.
#[derive(Debug)]
pub enum Startup {
    /// Start logging, then the node.
    Run {
        /// Checked, and complete.
        config: Box<Config>,
        /// How to log, and what the configuration has to say first.
        logging: LogSettings,
    },
    /// Print these, and end.
    Exit {
        /// Of the process.
        code: i32,
        /// What was asked for.
        stdout: String,
        /// What is wrong.
        stderr: String,
    },
}

/// The arguments of a program beside the server. `Err`: there is nothing to do, what there is to say has been said, and the program
/// ends with this: with 0 where it was asked for help, with 1 where the arguments are wrong.
pub fn arguments<A: Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|e| {
        let _ = e.print();
        if e.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
    })
}

const AFTER_HELP: &str = "\
A value is taken from the first of: flag, --override, KAFKA_ environment variable (KAFKA_NODE_ID sets node.id),
properties file, default. --print-config shows which one counts. Exit codes: 0 stopped, 1 configuration,
65 corrupt log, 74 disk, 78 kernel.

Example:
  kraft-server config/raft-quorum-1.properties --override log.dirs=/data/kraft-1 --cpus 0,1";

/// Kafka Raft server: one replicated log, the ordinary Kafka protocol in front.
#[derive(Debug, Parser)]
#[command(name = "kraft-server", version, after_help = AFTER_HELP, disable_help_subcommand = true)]
struct Arguments {
    /// Configuration in Java's properties syntax
    #[arg(value_name = "server.properties")]
    file: Option<PathBuf>,

    /// The same, as TestRaftServer takes it
    #[arg(long, value_name = "FILE", conflicts_with = "file")]
    config: Option<PathBuf>,

    /// Set one key, above file and environment; may be repeated
    #[arg(long = "override", value_name = "KEY=VALUE", allow_hyphen_values = true)]
    overrides: Vec<String>,

    /// Directory id of this replica, else meta.properties decides
    #[arg(long, value_name = "UUID", allow_hyphen_values = true)]
    replica_directory_id: Option<String>,

    /// Pin one executor to each of these cores, such as 0,1 or 0,2-3; the first is the replica core
    #[arg(long, value_name = "CORES")]
    cpus: Option<String>,

    /// Print each value in force and where it came from, and end
    #[arg(long)]
    print_config: bool,

    /// Log debug lines; RUST_LOG chooses more finely
    #[arg(short, long)]
    verbose: bool,

    /// Form of the log lines on stderr
    #[arg(long, value_enum, default_value_t)]
    log_format: LogFormat,

    /// Accepted as TestRaftServer's, without effect: load comes from clients
    #[arg(long, value_name = "RECORDS/SEC")]
    throughput: Option<String>,

    /// Accepted as TestRaftServer's, without effect: load comes from clients
    #[arg(long, value_name = "BYTES")]
    record_size: Option<String>,
}

impl Display for LogFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            LogFormat::Text => "text",
            LogFormat::Json => "json",
        })
    }
}

/// `args` begins with the program's own name, as `std::env::args_os` does. Creates the log directory where it is missing.
pub fn from_args(args: impl Iterator<Item = OsString>) -> Startup {
    // A variable that is not text sets no key.
    let variables =
        std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)));
    from_args_and_environment(args, variables)
}

fn from_args_and_environment(
    args: impl Iterator<Item = OsString>,
    environment: impl Iterator<Item = (String, String)>,
) -> Startup {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(e) if e.use_stderr() => return refuse(e.to_string()),
        // --help and --version.
        Err(e) => return Startup::Exit { code: EXIT_OK, stdout: e.to_string(), stderr: String::new() },
    };
    let settings = match arguments.settings(environment) {
        Ok(settings) => settings,
        Err(e) => return refuse(format!("error: {e}\n")),
    };
    if settings.is_empty() {
        let usage = "error: there is no configuration. Give a properties file, for example config/raft.properties; --help shows more.\n";
        return refuse(usage.to_string());
    }
    let mut loaded = match config::load(&settings) {
        Ok(loaded) => loaded,
        Err(refused) => return refuse(lines(&refused.notes, &refused.errors)),
    };
    loaded.notes.extend(arguments.notes());
    if arguments.print_config {
        let (stdout, stderr) = (print_config(&loaded.effective), lines(&loaded.notes, &[] as &[&str]));
        return Startup::Exit { code: EXIT_OK, stdout, stderr };
    }
    let mut errors = config::check_surroundings(&loaded);
    let mut code = if errors.is_empty() { None } else { Some(EXIT_CONFIG) };
    if let Err(refusal) = check_writable(&loaded.config.log_dir) {
        errors.push(config::error_at(&loaded, "log.dirs", refusal.line));
        code = code.or(Some(exit_code_of(refusal.blame)));
    }
    if let Some(code) = code {
        return Startup::Exit { code, stdout: String::new(), stderr: lines(&loaded.notes, &errors) };
    }
    let Loaded { config, notes, .. } = loaded;
    let logging =
        LogSettings { format: arguments.log_format, verbose: arguments.verbose, first_notes: notes };
    Startup::Run { config: Box::new(config), logging }
}

fn refuse(stderr: String) -> Startup {
    Startup::Exit { code: EXIT_CONFIG, stdout: String::new(), stderr }
}

/// Warnings, because they may hold the reason (a misspelt key), then errors, one line each.
fn lines(notes: &[Note], errors: &[impl Display]) -> String {
    let mut text = String::new();
    for note in notes.iter().filter(|note| note.warning) {
        let _ = writeln!(text, "warning: {}", note.text);
    }
    for error in errors {
        let _ = writeln!(text, "error: {error}");
    }
    text
}

/// `key=value  # origin`, in columns.
fn print_config(effective: &[Effective]) -> String {
    let pairs = || effective.iter().map(|e| format!("{}={}", e.key, e.value));
    // A very long value moves only its own origin to the right.
    let width = pairs().map(|pair| pair.chars().count()).filter(|n| *n <= 72).max().unwrap_or(0);
    let mut text = String::new();
    for (pair, e) in pairs().zip(effective) {
        let _ = write!(text, "{pair:width$}  # {}", e.origin);
        match &e.written_as {
            Some(key) => _ = writeln!(text, " ({key})"),
            None => text.push('\n'),
        }
    }
    text
}

impl Arguments {
    fn settings(
        &self,
        environment: impl Iterator<Item = (String, String)>,
    ) -> Result<Settings, SettingsError> {
        let mut settings = Settings::new();
        if let Some(path) = self.file.as_ref().or(self.config.as_ref()) {
            settings.read_file(path)?;
        }
        settings.read_environment(environment);
        for argument in &self.overrides {
            settings.read_override(argument)?;
        }
        if let Some(cpus) = &self.cpus {
            settings.set("kraft.cpus", cpus, Origin::Flag { name: "--cpus" });
        }
        if let Some(id) = &self.replica_directory_id {
            settings.set("kraft.directory.id", id, Origin::Flag { name: "--replica-directory-id" });
        }
        Ok(settings)
    }

    fn notes(&self) -> Option<Note> {
        let given = self.throughput.is_some() || self.record_size.is_some();
        given.then(|| Note {
            warning: true,
            text: "--throughput and --record-size have no effect: load comes from clients, for example \
                   bin/kafka-producer-perf-test.sh."
                .to_string(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{NodeId, Uuid};

    fn start(args: &[&str], environment: &[(&str, &str)]) -> Startup {
        let args = std::iter::once("kraft-server").chain(args.iter().copied()).map(OsString::from);
        from_args_and_environment(args, environment.iter().map(|(k, v)| (k.to_string(), v.to_string())))
    }

    fn exit(args: &[&str]) -> (i32, String, String) {
        match start(args, &[]) {
            Startup::Exit { code, stdout, stderr } => (code, stdout, stderr),
            Startup::Run { .. } => panic!("must not run"),
        }
    }

    /// A file for one voter whose directory is beside it.
    fn one_voter() -> (tempfile::TempDir, String) {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("one.properties");
        let text =
            format!("broker.id=0\nquorum.voters=0@localhost:9092\nlog.dirs={}/data\n", dir.path().display());
        std::fs::write(&file, text).unwrap();
        (dir, file.to_str().unwrap().to_string())
    }

    #[test]
    fn all_sources_together() {
        let (_dir, file) = one_voter();
        let id = "b8tRS7h4TJ2Vt43Dp85v2A";
        let args = [
            "--config",
            &file,
            "--override",
            "max.connections=7",
            "--override",
            "kraft.cpus=9",
            "--cpus",
            "0,1",
        ];
        let args =
            [&args[..], &["--replica-directory-id", id, "-v", "--log-format", "json", "--throughput", "1"]]
                .concat();
        let Startup::Run { config, logging } =
            start(&args, &[("KAFKA_MAX_CONNECTIONS", "6"), ("KAFKA_KRAFT_WAIT", "spin")])
        else {
            panic!("must run")
        };
        assert_eq!((config.node_id, config.limits.connections_max), (NodeId(0), 7));
        assert_eq!((config.cpus, config.wait), (Some(vec![0, 1]), config::Wait::Spin));
        assert_eq!(config.directory_id, Uuid::parse(id));
        assert!(config.log_dir.is_dir());
        assert!(logging.verbose && logging.format == LogFormat::Json);
        assert!(logging.first_notes.iter().any(|n| n.text.contains("load comes from clients")));
    }

    #[test]
    fn kafkas_order_of_arguments_works() {
        let (_dir, file) = one_voter();
        assert!(matches!(start(&[&file, "--override", "a.b=-1"], &[]), Startup::Run { .. }));
        assert!(matches!(start(&["--override", "a.b=-1", &file], &[]), Startup::Run { .. }));
    }

    #[test]
    fn print_config_names_each_origin_and_creates_nothing() {
        let (dir, file) = one_voter();
        let (code, stdout, stderr) =
            exit(&[&file, "--print-config", "--override", "kraft.wait=spin", "--cpus", "3"]);
        assert_eq!((code, stderr.as_str()), (EXIT_OK, ""));
        let line =
            |key: &str| stdout.lines().find(|l| l.starts_with(&format!("{key}="))).unwrap().to_string();
        assert!(line("node.id").starts_with("node.id=0 "));
        assert!(line("node.id").ends_with(&format!("  # {file}:1 (broker.id)")), "{}", line("node.id"));
        assert!(line("kraft.wait").ends_with("# --override"));
        assert!(line("kraft.cpus").starts_with("kraft.cpus=3 ") && line("kraft.cpus").ends_with("# --cpus"));
        assert!(line("message.max.bytes").ends_with("# default"));
        assert!(!dir.path().join("data").exists());
    }

    #[test]
    fn help_and_version_go_to_stdout() {
        let (code, stdout, _) = exit(&["--help"]);
        assert_eq!(code, EXIT_OK);
        assert!(
            stdout.starts_with("Kafka Raft server")
                && stdout.contains("[server.properties]")
                && stdout.contains("--override"),
            "{stdout}"
        );
        let (code, stdout, _) = exit(&["--version"]);
        assert_eq!((code, stdout), (EXIT_OK, format!("kraft-server {}\n", env!("CARGO_PKG_VERSION"))));
    }

    #[test]
    fn what_cannot_start_says_why_and_exits_with_1() {
        let (dir, file) = one_voter();
        let bad = dir.path().join("bad.properties");
        std::fs::write(&bad, "nod.id=1\nlog.dirs=/a,/b\nquorum.voters=1@h:1").unwrap();
        let bad = bad.to_str().unwrap();
        let rows: &[(&[&str], &[&str])] = &[
            (&[], &["error: there is no configuration"]),
            (
                &["/nowhere.properties"],
                &["error: /nowhere.properties: the configuration file cannot be read"],
            ),
            (&[&file, "--override", "x"], &["error: --override x: this is not key=value"]),
            (&[&file, "--overide", "x=1"], &["unexpected argument '--overide'"]),
            (&[&file, "--config", &file], &["cannot be used with"]),
            (&[&file, "--cpus", "a"], &["error: --cpus: kraft.cpus=a: "]),
            (
                &[&file, "--replica-directory-id", "a"],
                &["error: --replica-directory-id: kraft.directory.id=a: "],
            ),
            (
                &[bad],
                &[
                    "warning: ",
                    "Did you mean node.id?",
                    "error: node.id: this key is missing",
                    ":2: log.dirs=/a,/b",
                ],
            ),
            (
                &[&file, "--override", "listeners=PLAINTEXT://198.51.100.7:9092"],
                &["is no address of this machine"],
            ),
            (
                &[&file, "--override", &format!("log.dirs={file}")],
                &["error: --override: log.dirs=", "cannot be written"],
            ),
        ];
        for (args, parts) in rows {
            let (code, stdout, stderr) = exit(args);
            assert_eq!((code, stdout.as_str()), (EXIT_CONFIG, ""), "{args:?}");
            for part in *parts {
                assert!(stderr.contains(part), "'{part}' is not in: {stderr}");
            }
        }
    }
}
