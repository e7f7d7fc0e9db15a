//! The import table: which module may name which other, and which crates. The boundaries of the project in one place.

mod source;

use source::{SourceFile, Token, files_under, root};
use std::collections::BTreeSet;

struct Row {
    module: &'static str,
    /// Modules of ours; `log::op` allows that part of `log` only, by its path or by a name that it exports.
    modules: &'static [&'static str],
    crates: Crates,
}

enum Crates {
    Only(&'static [&'static str]),
    Any,
}
use Crates::{Any, Only};

const LOAD: &str = "perf/load";

const TABLE: &[Row] = &[
    Row { module: "types", modules: &[], crates: Only(&[]) },
    Row { module: "properties", modules: &[], crates: Only(&[]) },
    // Mapped, and so libc.
    Row { module: "memory", modules: &[], crates: Only(&["bytes", "libc"]) },
    Row { module: "config", modules: &["types", "properties"], crates: Only(&[]) },
    // The four codecs are `record::compression`'s alone.
    Row {
        module: "record",
        modules: &["types"],
        crates: Only(&["bytes", "crc32c", "flate2", "lz4_flex", "snap", "zstd"]),
    },
    Row { module: "raft", modules: &["types"], crates: Only(&[]) },
    Row {
        module: "protocol",
        modules: &["types", "record", "raft"],
        crates: Only(&["bytes", "kafka_protocol", "uuid", "smallvec"]),
    },
    // serde_json for the quorum-state file, crc32c for its checksum and the commit mark's.
    Row {
        module: "log",
        modules: &["types", "memory", "record"],
        crates: Only(&["bytes", "crc32c", "serde_json", "thiserror"]),
    },
    // serde for the manifest, which is JSON.
    Row {
        module: "backup",
        modules: &["types", "properties", "record", "log"],
        crates: Only(&["bytes", "crc32c", "serde", "serde_json"]),
    },
    Row {
        module: "replica",
        modules: &["types", "config", "record", "protocol", "raft", "log"],
        crates: Only(&["bytes", "hdrhistogram", "serde", "smallvec"]),
    },
    Row {
        module: "sim",
        modules: &["types", "config", "record", "protocol", "raft", "log", "replica"],
        // Its clients speak through the codec crate alone: what they say does not come from the code under test.
        crates: Only(&["bytes", "kafka_protocol"]),
    },
    Row {
        module: "io",
        // `LogSource` is what recovery reads through, `SnapshotDirectory` what serves and fetches; io implements them.
        modules: &[
            "types",
            "properties",
            "memory",
            "protocol::frame",
            "log::op",
            "log::buffer",
            "log::LogSource",
            "log::SnapshotDirectory",
        ],
        crates: Only(&["bytes", "glommio", "io_uring", "libc", "tracing"]),
    },
    Row {
        module: "server",
        modules: &["types", "config", "record", "protocol", "raft", "log", "replica", "io"],
        crates: Any,
    },
    Row {
        module: "bin",
        // Of `io` what a program needs that reads or makes a node's files: the rest of it is the server's.
        modules: &[
            "types",
            "config",
            "record",
            "protocol",
            "log",
            "backup",
            "server",
            "sim",
            "io::plain_files",
        ],
        // base64 and serde_json for interval logs and reports, crc32c for the files of a backup.
        crates: Only(&[
            "base64",
            "bytes",
            "clap",
            "crc32c",
            "hdrhistogram",
            "plotters",
            "serde_json",
            "signal_hook",
            "tracing",
            "tracing_subscriber",
        ]),
    },
    // A package of its own, for which `kraft` is a crate.
    Row {
        module: LOAD,
        modules: &["types", "record", "protocol", "server"],
        // It measures the device and the loopback itself, past `io`: libc and io_uring are for that, and for epoll.
        crates: Only(&[
            "base64",
            "bytes",
            "clap",
            "hdrhistogram",
            "io_uring",
            "libc",
            "plotters",
            "serde_json",
            "signal_hook",
            "tempfile",
        ]),
    },
];

/// The rooms of `replica`, from the bottom up: each may name only those that stand before it and that its row allows. So there is
/// no circle among them. The engine stands below all who know a request; the parts own what they park, and name each other only
/// where one hands on to another.
const ROOMS: &[(&str, &[&str])] = &[
    ("notice", &[]),
    ("connection_id", &[]),
    ("slowest", &[]),
    ("stages", &["slowest"]),
    ("counters", &[]),
    ("times", &[]),
    ("folds", &[]),
    ("requests", &[]),
    ("engine", &["folds", "notice"]),
    ("collapse", &[]),
    ("session_limits", &[]),
    ("admit", &["session_limits"]),
    ("inspection", &["admit"]),
    ("copies", &["folds"]),
    ("cost", &["admit"]),
    ("room", &["connection_id", "cost"]),
    ("receive_pool", &[]),
    ("receive", &["cost", "receive_pool"]),
    ("input", &["admit", "connection_id", "copies", "inspection", "notice", "room"]),
    (
        "session",
        &[
            "admit",
            "collapse",
            "cost",
            "input",
            "inspection",
            "receive",
            "receive_pool",
            "room",
            "session_limits",
            "times",
        ],
    ),
    ("peers", &["input", "room"]),
    ("forward", &["input"]),
    ("desk", &["connection_id", "counters", "engine", "input", "notice", "peers", "room", "stages"]),
    ("leadership", &["desk"]),
    ("snapshots", &["connection_id", "copies", "desk", "engine", "folds", "input", "notice", "room"]),
    ("status", &["counters", "desk", "room", "snapshots"]),
    ("produce", &["admit", "connection_id", "desk", "folds", "input", "notice", "requests", "slowest"]),
    ("fetch", &["connection_id", "desk", "input", "room"]),
    ("list_offsets", &["connection_id", "desk", "input", "inspection", "room", "times"]),
    ("alter_configs", &["desk", "folds", "forward", "input", "notice", "requests"]),
    ("delete_records", &["connection_id", "desk", "input"]),
    ("retention", &["desk", "folds", "notice"]),
    ("quorum", &["desk", "input", "notice", "peers"]),
    ("describe", &["connection_id", "desk", "forward", "input", "requests"]),
    ("heavy", &["admit", "connection_id", "desk", "input", "room"]),
    ("reading", &["connection_id", "desk", "fetch", "input", "list_offsets", "room", "snapshots"]),
];

/// The modules that hold no thread, no file, no socket and no clock of their own: time and bytes come in from outside.
const PURE: &[&str] =
    &["types", "properties", "memory", "record", "raft", "protocol", "log", "backup", "replica", "sim"];
const IMPURE_STD: &[&str] = &["fs", "net", "os", "process", "thread"];
const CLOCKS: &[&str] = &["Instant", "SystemTime"];
/// Their order is random, and so would be a run of raft's or the simulator's.
const RANDOM_ORDER: &[&str] = &["HashMap", "HashSet", "RandomState"];

fn all_files() -> Vec<SourceFile> {
    ["src", LOAD].into_iter().flat_map(files_under).collect()
}

fn module_of(file: &SourceFile) -> Option<&'static Row> {
    let name = match file.path.strip_prefix("src/") {
        Some(path) => path.split('/').next()?,
        None => LOAD,
    };
    let name = name.strip_suffix(".rs").unwrap_or(name);
    TABLE.iter().find(|row| row.module == name)
}

fn texts(tokens: &[Token], count: usize) -> Vec<&str> {
    tokens.iter().take(count).map(|token| token.text.as_str()).collect()
}

/// The module path of what a file's own items see as `self`: `src/log/op.rs` is 2 below the crate, `src/log/mod.rs` 1.
fn depth_of(path: &str) -> usize {
    let inner = path.trim_start_matches("src/").trim_end_matches(".rs");
    inner.split('/').filter(|part| *part != "mod").count()
}

/// Each path into the crate as its first two segments, with its line: `crate::log::op`, groups taken apart.
fn crate_paths(file: &SourceFile) -> Vec<(String, String, usize)> {
    let is_bin = file.path.starts_with("src/bin/") || file.path.starts_with(LOAD);
    let mut found = Vec::new();
    for at in 0..file.tokens.len() {
        let is_path_start = at == 0 || !matches!(file.tokens[at - 1].text.as_str(), "::" | ".");
        let after = match file.tokens[at].text.as_str() {
            "crate" if is_path_start => at + 1,
            "kraft" if is_path_start && is_bin => at + 1,
            "super" if is_path_start => match past_supers(file, at) {
                Some(after) => after,
                None => continue,
            },
            _ => continue,
        };
        if file.tokens.get(after).is_some_and(|token| token.text == "::") {
            let line = file.tokens[at].line;
            for first in group(&file.tokens, after + 1) {
                let name = file.tokens[first].text.clone();
                let seconds = match file.tokens.get(first + 1).map(|token| token.text.as_str()) {
                    Some("::") => group(&file.tokens, first + 2),
                    _ => Vec::new(),
                };
                let seconds: Vec<String> = seconds.iter().map(|at| file.tokens[*at].text.clone()).collect();
                let seconds = if seconds.is_empty() { vec![String::new()] } else { seconds };
                found.extend(seconds.into_iter().map(|second| (name.clone(), second, line)));
            }
        }
    }
    found
}

/// Behind `super::super…`, if there are so many that the crate itself is meant.
fn past_supers(file: &SourceFile, at: usize) -> Option<usize> {
    let supers = file.tokens[at..].iter().step_by(2).take_while(|token| token.text == "super").count();
    let depth = depth_of(&file.path) + file.tokens[at].inline_depth;
    (supers >= depth).then_some(at + 2 * supers - 1)
}

/// Positions of the names at `at`: one, or each first name of a `{…}` group.
fn group(tokens: &[Token], at: usize) -> Vec<usize> {
    if tokens.get(at).is_none_or(|token| token.text != "{") {
        return vec![at];
    }
    let (mut depth, mut names) = (0, Vec::new());
    for (i, token) in tokens.iter().enumerate().skip(at) {
        match token.text.as_str() {
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && matches!(tokens[i - 1].text.as_str(), "{" | ",") => names.push(i),
            _ => {}
        }
        if depth == 0 {
            break;
        }
    }
    names
}

/// Names that a file of ours exports.
fn exports(path: &str) -> BTreeSet<String> {
    let folder = path.rsplit_once('/').map_or(path, |(folder, _)| folder);
    let file = files_under(folder).into_iter().find(|file| file.path == path);
    let tokens = file.unwrap_or_else(|| panic!("{path} is missing")).tokens;
    let items = ["struct", "enum", "trait", "fn", "const", "static", "type"];
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    let is_shown =
        |at: usize| text(at) == "pub" || at >= 3 && text(at - 3) == "pub" && text(at - 1) == "crate";
    (1..tokens.len())
        .filter(|at| items.contains(&text(*at)) && is_shown(at - 1))
        .map(|at| text(at + 1).into())
        .collect()
}

fn is_allowed(row: &Row, first: &str, second: &str) -> bool {
    let is_part_allowed = |allowed: &str| match allowed.split_once("::") {
        None => allowed == first,
        Some((module, part)) if module == first => {
            let file = format!("src/{module}/{part}.rs");
            part == second || (root().join(&file).exists() && exports(&file).contains(second))
        }
        Some(_) => false,
    };
    first == row.module || row.modules.iter().any(|allowed| is_part_allowed(allowed))
}

#[test]
fn modules_import_only_what_the_table_allows() {
    let known: BTreeSet<&str> = TABLE.iter().map(|row| row.module).collect();
    let mut wrong = Vec::new();
    let mut paths = 0;
    for file in all_files() {
        let Some(row) = module_of(&file) else {
            assert_eq!(file.path, "src/lib.rs", "a module that the table does not know");
            continue;
        };
        for (first, second, line) in crate_paths(&file) {
            paths += 1;
            if known.contains(first.as_str()) && !is_allowed(row, &first, &second) {
                wrong.push(format!("{}:{line} imports {first}::{second}", file.path));
            }
        }
    }
    assert!(paths > 50, "only {paths} paths were found: does the search still work?");
    assert!(wrong.is_empty(), "against the import table:\n{}", wrong.join("\n"));
}

/// What a file of `replica` names beside its own room: a room, or something of the root, with its line. Not in its tests.
fn rooms_named(file: &SourceFile) -> Vec<(String, usize)> {
    let inner = file.path.trim_start_matches("src/").trim_end_matches(".rs");
    let own: Vec<&str> = inner.split('/').filter(|part| *part != "mod").collect();
    let mut found = Vec::new();
    for (at, token) in file.tokens.iter().enumerate().filter(|(_, token)| !token.is_test) {
        let is_path_start = at == 0 || !matches!(file.tokens[at - 1].text.as_str(), "::" | ".");
        let supers = file.tokens[at..].iter().step_by(2).take_while(|token| token.text == "super").count();
        let (depth, after) = match token.text.as_str() {
            "crate" if is_path_start => (0, at + 1),
            "super" if is_path_start => (own.len() + token.inline_depth - supers, at + 2 * supers - 1),
            _ => continue,
        };
        let follows = |at: usize| file.tokens.get(at).is_some_and(|token| token.text == "::");
        let mut firsts = if follows(after) { group(&file.tokens, after + 1) } else { Vec::new() };
        if depth == 0 {
            firsts.retain(|first| file.tokens[*first].text == "replica" && follows(first + 1));
            firsts = firsts.into_iter().flat_map(|first| group(&file.tokens, first + 2)).collect();
        }
        if depth <= 1 {
            found.extend(firsts.iter().map(|first| (file.tokens[*first].text.clone(), token.line)));
        }
    }
    found
}

#[test]
fn rooms_of_the_replica_import_only_what_stands_below_them() {
    let mut wrong = Vec::new();
    for (place, (room, allowed)) in ROOMS.iter().enumerate() {
        let is_below = |name: &str| ROOMS[..place].iter().any(|(below, _)| *below == name);
        let above = allowed.iter().filter(|name| !is_below(name));
        wrong.extend(
            above.map(|name| format!("the table lets {room} import {name}, which does not stand below it")),
        );
    }
    let mut paths = 0;
    for file in files_under("src/replica") {
        let inner = file.path.trim_start_matches("src/replica/");
        let name = inner.split('/').next().unwrap_or(inner).trim_end_matches(".rs");
        // The root puts the rooms together, and tests may look everywhere.
        if name == "mod" || file.tokens.iter().all(|token| token.is_test) {
            continue;
        }
        let Some((room, allowed)) = ROOMS.iter().find(|(room, _)| *room == name) else {
            wrong.push(format!("{} is a room that the table does not know", file.path));
            continue;
        };
        for (named, line) in rooms_named(&file) {
            paths += 1;
            if named != *room && !allowed.contains(&named.as_str()) {
                wrong.push(format!("{}:{line} imports {named}", file.path));
            }
        }
    }
    assert!(paths > 60, "only {paths} paths were found: does the search still work?");
    assert!(wrong.is_empty(), "against the table of rooms:\n{}", wrong.join("\n"));
}

/// Whoever reads from the top meets nobody who is named from below.
#[test]
fn lib_lists_the_modules_from_the_sockets_down() {
    let lib = std::fs::read_to_string(root().join("src/lib.rs")).expect("src/lib.rs");
    let declared = lib.lines().filter_map(|line| line.trim_start_matches("pub ").strip_prefix("mod "));
    let listed: Vec<&str> = declared.map(|name| name.trim_end_matches(';')).collect();
    let mut wrong = Vec::new();
    for (place, module) in listed.iter().enumerate() {
        let row = TABLE.iter().find(|row| row.module == *module).expect("a row for each module");
        let named = row.modules.iter().filter_map(|named| named.split("::").next());
        let is_below = |name: &&str| listed[place + 1..].contains(name);
        wrong.extend(named.filter(|name| !is_below(name)).map(|name| format!("{module} may name {name}")));
    }
    assert_eq!(listed.len() + 2, TABLE.len(), "all but `bin` and the load driver: {listed:?}");
    assert!(wrong.is_empty(), "and it does not stand below: {wrong:?}");
}

/// Names of the crates in Cargo.toml, as Rust writes them. Those of the load driver are all among the workspace's.
fn dependencies() -> BTreeSet<String> {
    let manifest = std::fs::read_to_string(root().join("Cargo.toml")).expect("Cargo.toml");
    let mut names = BTreeSet::new();
    let mut is_inside = false;
    for line in manifest.lines() {
        if line.starts_with('[') {
            is_inside = line.ends_with("dependencies]");
        } else if let Some((name, _)) =
            line.split_once(['=', '.']).filter(|_| is_inside && !line.starts_with('#'))
        {
            names.insert(name.trim().replace('-', "_"));
        }
    }
    names
}

#[test]
fn modules_use_only_the_crates_that_the_table_allows() {
    let crates = dependencies();
    assert!(crates.contains("kafka_protocol") && crates.contains("proptest"), "{crates:?}");
    let mut wrong = Vec::new();
    for file in all_files() {
        let Some(Row { crates: Only(allowed), .. }) = module_of(&file) else { continue };
        for at in 0..file.tokens.len() {
            let token = &file.tokens[at];
            let before = if at == 0 { "" } else { &file.tokens[at - 1].text };
            let is_path = texts(&file.tokens[at + 1..], 1) == ["::"] && before != "::";
            let is_used = is_path || before == "use";
            if is_used
                && !token.is_test
                && crates.contains(&token.text)
                && !allowed.contains(&token.text.as_str())
            {
                wrong.push(format!("{}:{} uses the crate {}", file.path, token.line, token.text));
            }
        }
    }
    assert!(wrong.is_empty(), "against the import table:\n{}", wrong.join("\n"));
}

/// What is used of it is said in one place, and could be had elsewhere.
#[test]
fn one_file_names_glommio() {
    let names = |file: &SourceFile| file.tokens.iter().any(|token| token.text == "glommio");
    let files: Vec<_> = all_files().into_iter().filter(names).map(|file| file.path).collect();
    assert_eq!(files, ["src/io/executor.rs"]);
}

#[test]
fn pure_modules_have_no_files_threads_or_clocks() {
    let mut wrong = Vec::new();
    for file in files_under("src") {
        let Some(row) = module_of(&file).filter(|row| PURE.contains(&row.module)) else { continue };
        for (at, token) in file.tokens.iter().enumerate().filter(|(_, token)| !token.is_test) {
            let word = token.text.as_str();
            let std_part = texts(&file.tokens[at..], 3);
            let is_impure = matches!(std_part[..], ["std", "::", part] if IMPURE_STD.contains(&part));
            let is_random = ["raft", "sim"].contains(&row.module) && RANDOM_ORDER.contains(&word);
            if is_impure || is_random || CLOCKS.contains(&word) {
                wrong.push(format!("{}:{} has {}", file.path, token.line, std_part.join("")));
            }
        }
    }
    assert!(wrong.is_empty(), "the pure modules take these from outside:\n{}", wrong.join("\n"));
}

/// Nobody takes a request's word for an epoch but tests, and the simulator where it is to catch that.
#[test]
fn only_the_simulator_believes_whoever_asks() {
    const LIE: &str = "believe_requests";
    let mut callers = BTreeSet::new();
    for file in files_under("src") {
        let calls = file.tokens.windows(2).filter(|pair| pair[0].text == "." && pair[1].text == LIE);
        if calls.into_iter().any(|pair| !pair[1].is_test) {
            callers.insert(file.path.clone());
        }
    }
    let others: Vec<_> = callers.iter().filter(|path| !path.contains("/tests/")).cloned().collect();
    assert_eq!(others, ["src/replica/engine/mod.rs", "src/replica/mod.rs", "src/sim/cluster.rs"]);
}

/// The searches above find what they are for.
#[test]
fn paths_are_found_in_every_form() {
    let text = "use crate::{log::{op, LogOp as L}, types::*};\n// crate::server\nfn f() -> crate::raft::Event { \"crate::io\" }\n\
                mod inner { use super::super::super::config::Config; }\n#[cfg(test)]\nmod tests { use bytes::Bytes; }";
    let path = "src/log/op.rs".to_string();
    let mut tokens = source::tokenize(text);
    tokens.iter_mut().filter(|token| token.line == 4).for_each(|token| token.inline_depth = 1);
    let file = SourceFile { path, text: text.to_string(), tokens };
    let found: Vec<String> = crate_paths(&file)
        .into_iter()
        .map(|(first, second, line)| format!("{first}::{second}@{line}"))
        .collect();
    let expected = ["log::op@1", "log::LogOp@1", "types::*@1", "raft::Event@3", "config::Config@4"];
    assert_eq!(found, expected);
}
