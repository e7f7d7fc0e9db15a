//! The project's own source as tokens, for the tests that keep its rules: enough of Rust to find paths, functions and test
//! code, and no more.

#![allow(dead_code)] // Each test binary uses its part.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct SourceFile {
    /// From the repository's root: `src/log/op.rs`.
    pub(crate) path: String,
    pub(crate) text: String,
    pub(crate) tokens: Vec<Token>,
}

#[derive(Clone, Debug)]
pub(crate) struct Token {
    pub(crate) text: String,
    /// From 1.
    pub(crate) line: usize,
    /// Inside an item under `#[cfg(test)]`, or in a file of tests.
    pub(crate) is_test: bool,
    /// Inline modules around it.
    pub(crate) inline_depth: usize,
}

impl Token {
    pub(crate) fn is_word(&self) -> bool {
        self.text.starts_with(|c: char| c.is_alphanumeric() || c == '_')
    }
}

/// All Rust files under a folder of the repository, sorted.
pub(crate) fn files_under(folder: &str) -> Vec<SourceFile> {
    let mut paths = Vec::new();
    collect(&root().join(folder), &mut paths);
    paths.sort();
    paths.iter().map(|path| read(path)).collect()
}

pub(crate) fn root() -> PathBuf {
    // Asked for at run time, so that the binary can be run over another checkout.
    std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into()).into()
}

fn collect(folder: &Path, paths: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            collect(&path, paths);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            paths.push(path);
        }
    }
}

fn read(path: &Path) -> SourceFile {
    let text = fs::read_to_string(path).expect("a source file");
    let path = path.strip_prefix(root()).expect("below the root").to_string_lossy().into_owned();
    let is_test_file = path.ends_with("tests.rs") || path.contains("/tests/") || path.starts_with("tests/");
    let tokens = mark(tokenize(&text), is_test_file);
    SourceFile { path, text, tokens }
}

/// Words, numbers and single punctuation marks; `::` is one token. Comments and literals are dropped.
pub(crate) fn tokenize(text: &str) -> Vec<Token> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at, mut line) = (Vec::new(), 0, 1);
    while at < chars.len() {
        let end = token_end(&chars, at);
        let piece: String = chars[at..end].iter().collect();
        let first = chars[at];
        let is_code = !first.is_whitespace()
            && first != '"'
            && !piece.starts_with("//")
            && !piece.starts_with("/*")
            && !is_literal(&piece);
        if is_code {
            tokens.push(Token { text: piece, line, is_test: false, inline_depth: 0 });
        }
        line += chars[at..end].iter().filter(|c| **c == '\n').count();
        at = end;
    }
    tokens
}

fn is_literal(piece: &str) -> bool {
    (piece.starts_with('\'') && piece.len() > 1 && piece.ends_with('\''))
        || piece.ends_with(['"', '#']) && piece.len() > 1
}

fn token_end(chars: &[char], at: usize) -> usize {
    let rest = &chars[at..];
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_';
    match rest {
        ['/', '/', ..] => at + rest.iter().position(|c| *c == '\n').unwrap_or(rest.len()),
        ['/', '*', ..] => block_comment_end(chars, at),
        ['"', ..] => string_end(chars, at),
        ['b' | 'c', '"', ..] => string_end(chars, at + 1),
        ['r', '"' | '#', ..] => raw_string_end(chars, at, 1),
        ['b', 'r', '"' | '#', ..] => raw_string_end(chars, at, 2),
        ['b', '\'', ..] => character_end(chars, at + 1),
        ['\'', ..] => character_end(chars, at),
        [':', ':', ..] => at + 2,
        [c, ..] if is_word(c) => at + rest.iter().position(|c| !is_word(c)).unwrap_or(rest.len()),
        _ => at + 1,
    }
}

fn block_comment_end(chars: &[char], at: usize) -> usize {
    let (mut depth, mut i) = (0, at);
    while i < chars.len() {
        match &chars[i..] {
            ['/', '*', ..] => (depth, i) = (depth + 1, i + 2),
            ['*', '/', ..] => (depth, i) = (depth - 1, i + 2),
            _ => i += 1,
        }
        if depth == 0 {
            break;
        }
    }
    i
}

fn string_end(chars: &[char], at: usize) -> usize {
    let mut i = at + 1;
    while i < chars.len() && chars[i] != '"' {
        i += if chars[i] == '\\' { 2 } else { 1 };
    }
    (i + 1).min(chars.len())
}

fn raw_string_end(chars: &[char], at: usize, prefix: usize) -> usize {
    let hashes = chars[at + prefix..].iter().take_while(|c| **c == '#').count();
    let open = at + prefix + hashes;
    if chars.get(open) != Some(&'"') {
        return at + prefix + hashes.max(1); // A raw identifier.
    }
    let closes = |i: usize| {
        chars[i] == '"' && chars[i + 1..].iter().take(hashes).filter(|c| **c == '#').count() == hashes
    };
    (open + 1..chars.len()).find(|i| closes(*i)).map_or(chars.len(), |i| i + 1 + hashes)
}

/// A character literal, or else a lifetime, whose name is a word of its own.
fn character_end(chars: &[char], at: usize) -> usize {
    match &chars[at + 1..] {
        ['\\', ..] => at + 3 + chars[at + 3..].iter().position(|c| *c == '\'').unwrap_or(0) + 1,
        [_, '\'', ..] => at + 3,
        _ => at + 1,
    }
}

/// Finds inline modules, and items under `#[cfg(test)]`.
fn mark(mut tokens: Vec<Token>, is_test_file: bool) -> Vec<Token> {
    let (mut depth, mut modules, mut test_from) = (0_usize, Vec::new(), None::<usize>);
    let mut is_test_next = false;
    for at in 0..tokens.len() {
        let opens_module = tokens[at].text == "{" && at >= 2 && tokens[at - 2].text == "mod";
        if is_cfg_test(&tokens[at..]) {
            is_test_next = true;
        }
        tokens[at].is_test = is_test_file || is_test_next || test_from.is_some();
        tokens[at].inline_depth = modules.len();
        match tokens[at].text.as_str() {
            "{" => {
                if opens_module {
                    modules.push(depth);
                }
                if is_test_next && test_from.is_none() {
                    (test_from, is_test_next) = (Some(depth), false);
                }
                depth += 1;
            }
            "}" => {
                depth = depth.saturating_sub(1);
                modules.retain(|opened| *opened < depth);
                test_from = test_from.filter(|opened| *opened < depth);
            }
            ";" if test_from.is_none() => is_test_next = false,
            _ => {}
        }
    }
    tokens
}

fn is_cfg_test(tokens: &[Token]) -> bool {
    ["#", "[", "cfg", "(", "test", ")", "]"]
        .iter()
        .zip(tokens)
        .all(|(expected, token)| token.text == *expected)
        && tokens.len() >= 7
}
