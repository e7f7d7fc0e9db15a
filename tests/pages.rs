//! The pages say what is there: each file that they name exists, each function that they link or name is in its file, and the
//! README stays short enough to be read.
//!
//! Three ways of naming are looked at: a link (`[text](path)`, from the page's own folder), a file's name in the text
//! (`replica/produce.rs`, the end of some file's path), and `file.rs::function`. A link to a Rust file whose text is one word
//! names a function, a type or a constant of it.

mod source;

use std::fs;
use std::path::{Path, PathBuf};

use source::root;

const README_LINES_MAX: usize = 150;
/// Names with these ends are files of the repository.
const CHECKED_ENDS: &[&str] = &[".rs", ".md", ".py", ".sh", ".svg", ".jsonl", ".xml", ".yml"];
/// Folders that hold what is built or fetched, and what runs have left.
const UNSEEN_FOLDERS: &[&str] = &["target", "build", ".git", "runs"];
/// Named, and not files of this repository.
const FOREIGN: &[&str] = &["attacks.md", "host.md", "summary.md", "run.svg", "latency.svg"];

fn walk(folder: &Path, found: &mut Vec<String>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !path.is_dir() {
            let inside = path.strip_prefix(root()).expect("below the root");
            found.push(inside.to_string_lossy().into_owned());
        } else if !UNSEEN_FOLDERS.contains(&name.as_str()) {
            walk(&path, found);
        }
    }
}

fn all_files() -> Vec<String> {
    let mut found = Vec::new();
    walk(&root(), &mut found);
    assert!(found.len() > 200, "the repository was not found");
    found
}

/// From the repository's root.
fn pages(files: &[String]) -> Vec<&str> {
    let is_page = |file: &&str| {
        ["README.md", "CONTRIBUTING.md", "src/ARCHITECTURE.md", "perf/README.md", "perf/commit.md"]
            .contains(file)
            || file.starts_with("docs/") && file.ends_with(".md")
    };
    let pages: Vec<&str> = files.iter().map(String::as_str).filter(is_page).collect();
    assert!(pages.len() > 20, "only these pages were found: {pages:?}");
    pages
}

struct Link<'a> {
    text: &'a str,
    target: &'a str,
}

/// All `[text](target)`; what stands in the text itself is not looked into.
fn links(page: &str) -> Vec<Link<'_>> {
    let mut found = Vec::new();
    for (at, _) in page.match_indices("](") {
        let (Some(begin), Some(length)) = (page[..at].rfind('['), page[at + 2..].find(')')) else { continue };
        found.push(Link { text: &page[begin + 1..at], target: &page[at + 2..at + 2 + length] });
    }
    found
}

/// `../docs/x.md` seen from `src/` is `docs/x.md`.
fn resolved(page: &str, target: &str) -> PathBuf {
    let mut path = PathBuf::from(page);
    path.pop();
    for part in target.split('/') {
        match part {
            ".." => drop(path.pop()),
            "" | "." => {}
            part => path.push(part),
        }
    }
    path
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// The source says `fn name`, or what else may have a name.
fn defines(source: &str, name: &str) -> bool {
    ["fn ", "struct ", "enum ", "trait ", "type ", "const ", "mod "].iter().any(|kind| {
        source.match_indices(&format!("{kind}{name}")).any(|(at, found)| {
            !source[at + found.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_')
        })
    })
}

fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is wrong with the links of a page.
fn wrong_links(page: &str, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    for link in links(text) {
        if link.target.contains("://") || link.target.starts_with('#') {
            continue;
        }
        let file = resolved(page, link.target.split('#').next().unwrap_or_default());
        if !root().join(&file).exists() {
            wrong.push(format!("{page} links {}, and there is no {}", link.target, file.display()));
            continue;
        }
        let name = link.text.trim_matches('`');
        let is_code = link.text.starts_with('`') && is_word(name);
        let stem = file.file_stem().unwrap_or_default();
        if is_code && link.target.ends_with(".rs") && name != stem && !defines(&read(&file), name) {
            wrong.push(format!("{page} links {name}, which is not in {}", file.display()));
        }
    }
    wrong
}

/// Words of the text that may name files, without what stands around them. The targets of links are looked at as links.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let is_around = |c: char| c.is_whitespace() || "`()[]|,;\"'*".contains(c);
    let outside = text.split("](").enumerate().map(|(at, part)| match at {
        0 => part,
        _ => part.split_once(')').map_or("", |(_, behind)| behind),
    });
    outside.flat_map(move |part| part.split(is_around)).map(|word| word.trim_end_matches(['.', ':', '/']))
}

/// What is wrong with the names of files in the text of a page.
fn wrong_names(page: &str, text: &str, files: &[String]) -> Vec<String> {
    let mut wrong = Vec::new();
    for word in words(text) {
        let (name, function) = match word.split_once(".rs::") {
            Some((file, function)) => (format!("{file}.rs"), Some(function)),
            None => (word.to_string(), None),
        };
        let is_name = CHECKED_ENDS.iter().any(|end| name.len() > end.len() && name.ends_with(end));
        let is_pattern = name.contains(['<', '{', '$', '…']) || name.contains("://") || name.starts_with('/');
        if !is_name || is_pattern || FOREIGN.contains(&name.as_str()) || name.starts_with("../") {
            continue;
        }
        let is_it = |file: &&String| {
            **file == name || file.strip_suffix(name.as_str()).is_some_and(|before| before.ends_with('/'))
        };
        let mut named = files.iter().filter(is_it).peekable();
        if named.peek().is_none() && !root().join(&name).exists() {
            wrong.push(format!("{page} names {name}, which is not there"));
        } else if let Some(function) = function
            && !named.any(|file| defines(&read(file), function))
        {
            wrong.push(format!("{page} names {function} of {name}, which has none"));
        }
    }
    wrong
}

#[test]
fn what_the_pages_name_is_there() {
    let files = all_files();
    let (mut wrong, mut seen) = (Vec::new(), 0);
    for page in pages(&files) {
        let text = read(page);
        seen += links(&text).len();
        wrong.extend(wrong_links(page, &text));
        wrong.extend(wrong_names(page, &text, &files));
    }
    assert!(seen > 100, "only {seen} links were found");
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn every_page_is_in_the_index() {
    let files = all_files();
    let index = read("docs/README.md");
    let decisions = read("docs/decisions/README.md");
    let is_linked = |page: &str, from: &str, text: &str| {
        links(text).iter().any(|link| resolved(from, link.target) == Path::new(page))
    };
    for page in pages(&files) {
        if page == "docs/README.md" {
            continue;
        }
        let is_found = match page.starts_with("docs/decisions/") && page != "docs/decisions/README.md" {
            true => is_linked(page, "docs/decisions/README.md", &decisions),
            false => is_linked(page, "docs/README.md", &index),
        };
        assert!(is_found, "no index has {page}");
    }
}

/// `00000000000000000042.log` is a file of the kind `.log`: digits differ.
fn kind_of(name: &str) -> String {
    let name = name.strip_suffix(".gz").unwrap_or(name);
    name.trim_start_matches(|c: char| c.is_ascii_digit() || c == '-').to_string()
}

/// Directories that servers wrote lie in the fixtures; a page says what each file of them is.
#[test]
fn every_file_of_a_node_is_on_its_page() {
    let page = read("docs/formats.md");
    let mut kinds = std::collections::BTreeSet::new();
    for file in all_files().iter().filter(|file| file.starts_with("tests/fixtures/directories/")) {
        // <version>/<kind>/node-1/…
        if file.contains("/node-") {
            kinds.insert(kind_of(file.rsplit('/').next().unwrap_or_default()));
        }
    }
    assert!(kinds.contains(".log") && kinds.contains("commit-mark") && kinds.len() >= 7, "{kinds:?}");
    let unnamed: Vec<_> = kinds.iter().filter(|kind| !page.contains(kind.as_str())).collect();
    assert!(unnamed.is_empty(), "docs/formats.md does not name {unnamed:?}");
}

#[test]
fn the_readme_is_short() {
    let lines = read("README.md").lines().count();
    assert!(lines <= README_LINES_MAX, "README.md has {lines} lines, more than {README_LINES_MAX}");
}

#[test]
fn history_is_one_measurement_for_each_line() {
    let history = read("perf/history.jsonl");
    assert!(history.lines().count() > 50, "measurements are kept");
    for (number, line) in history.lines().enumerate() {
        let measured: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("line {}: {error}", number + 1));
        for key in ["date", "commit", "what", "unit", "value", "how"] {
            assert!(measured.get(key).is_some(), "line {} has no {key}", number + 1);
        }
    }
}

#[test]
fn a_page_that_names_what_is_not_there_is_told() {
    let files = all_files();
    let told = |text: &str| {
        let page = "src/ARCHITECTURE.md";
        wrong_links(page, text).len() + wrong_names(page, text, &files).len()
    };
    assert_eq!(
        told("[`campaign`](raft/vote.rs), `raft/vote.rs`, raft/vote.rs::campaign, [all](../docs/README.md)"),
        0
    );
    assert_eq!(told("[`champagne`](raft/vote.rs)"), 1);
    assert_eq!(told("[`campaig`](raft/vote.rs): the begin of a name"), 1);
    assert_eq!(told("[the vote](raft/veto.rs)"), 1);
    assert_eq!(told("`raft/veto.rs`"), 1);
    assert_eq!(told("see raft/vote.rs::champagne."), 1);
    assert_eq!(told("[`f`](https://example.org/x.rs), `perf/runs/<date>/x.md`"), 0);
}
