//! Java's `.properties` text: what a node is configured with, and what a data directory says about itself.
//!
//! `config` and `io::directory` call it, with text that people and Kafka's tools wrote: nothing here panics at any of it.
//! It follows `java.util.Properties` (`LineReader.readLine`, `load0`, `loadConvert`), also where that is odd: a comment
//! ends with its line, whatever it ends in; a continued line may begin with `#`; a backslash at the end of the file is
//! dropped. Unlike Java, it takes a byte order mark for what it is, and a half of a surrogate pair is an error.

use std::borrow::Cow;
use std::fmt;

/// What Java skips before keys, around separators and where a line goes on.
const BLANKS: [char; 3] = [' ', '\t', '\x0c'];

/// `key=value`, without its escapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Property {
    pub(crate) key: String,
    /// Blanks at its end belong to it.
    pub(crate) value: String,
    /// From 1: where it begins.
    pub(crate) line: usize,
}

/// The first thing in a text that is not in the syntax.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SyntaxError {
    pub(crate) line: usize,
    why: &'static str,
}

impl fmt::Display for SyntaxError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.why)
    }
}

/// Java reads Latin-1, people write UTF-8: bytes that are not UTF-8 must be Latin-1.
pub(crate) fn decode(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text).into(),
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect::<String>().into(),
    }
}

/// All properties of a text, in its order. Of repeated keys the last one counts; all are here.
pub(crate) fn read(text: &str) -> Result<Vec<Property>, SyntaxError> {
    let mut lines = natural_lines(text).zip(1..);
    let mut properties = Vec::new();
    while let Some((first, line)) = lines.next() {
        let first = first.trim_start_matches(BLANKS);
        if first.starts_with(['#', '!']) {
            continue;
        }
        let mut whole = Cow::from(first);
        while ends_in_lone_backslash(&whole) {
            whole.to_mut().pop();
            let Some((next, _)) = lines.next() else { break };
            whole.to_mut().push_str(next.trim_start_matches(BLANKS));
        }
        if !whole.is_empty() {
            let (key, value) = separate(&whole);
            let plain = |escaped| unescape(escaped).map_err(|why| SyntaxError { line, why });
            properties.push(Property { key: plain(key)?, value: plain(value)?, line });
        }
    }
    Ok(properties)
}

/// One line, with its end, that `read` and Java read as this key and value.
pub(crate) fn line_of(key: &str, value: &str) -> String {
    let mut line = String::new();
    key.chars().for_each(|c| escape(c, true, &mut line));
    line.push('=');
    let leading = value.len() - value.trim_start_matches(' ').len();
    value.char_indices().for_each(|(at, c)| escape(c, at < leading, &mut line));
    line.push('\n');
    line
}

/// Lines end with CR, LF or both.
fn natural_lines(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let Some(end) = text.find(['\r', '\n']) else { return rest.take() };
        let end_length = if text[end..].starts_with("\r\n") { 2 } else { 1 };
        rest = Some(&text[end + end_length..]);
        Some(&text[..end])
    })
}

/// Two backslashes are one of the value, the last of an odd number means that the line goes on.
fn ends_in_lone_backslash(line: &str) -> bool {
    line.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

/// Key and value, still with their escapes: between them `=` or `:`, or only blanks.
fn separate(line: &str) -> (&str, &str) {
    let mut is_escaped = false;
    let ends_key = |c: char| {
        let ends = !is_escaped && (BLANKS.contains(&c) || c == '=' || c == ':');
        is_escaped = c == '\\' && !is_escaped;
        ends
    };
    let (key, rest) = line.split_at(line.find(ends_key).unwrap_or(line.len()));
    let rest = rest.trim_start_matches(BLANKS);
    let rest = rest.strip_prefix(['=', ':']).unwrap_or(rest);
    (key, rest.trim_start_matches(BLANKS))
}

/// In UTF-16, as Java has its text: a character beyond it is written as two escapes.
fn unescape(text: &str) -> Result<String, &'static str> {
    if !text.contains('\\') {
        return Ok(text.to_string());
    }
    let mut units: Vec<u16> = Vec::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        let meant = match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some('u')) => {
                let (digits, rest) = chars.as_str().split_at_checked(4).ok_or(HEX_WANTED)?;
                units.push(hex(digits).ok_or(HEX_WANTED)?);
                chars = rest.chars();
                continue;
            }
            ('\\', Some('t')) => '\t',
            ('\\', Some('n')) => '\n',
            ('\\', Some('r')) => '\r',
            ('\\', Some('f')) => '\x0c',
            ('\\', Some(other)) => other,
            _ => c,
        };
        units.extend_from_slice(meant.encode_utf16(&mut [0; 2]));
    }
    String::from_utf16(&units).map_err(|_| "\\u with half of a surrogate pair")
}

const HEX_WANTED: &str = "\\u needs four hexadecimal digits";

fn hex(digits: &str) -> Option<u16> {
    let are_digits = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
    are_digits.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

fn escape(c: char, is_blank_escaped: bool, line: &mut String) {
    match c {
        '\t' => line.push_str("\\t"),
        '\n' => line.push_str("\\n"),
        '\r' => line.push_str("\\r"),
        '\x0c' => line.push_str("\\f"),
        '\\' | '=' | ':' | '#' | '!' => line.extend(['\\', c]),
        ' ' if is_blank_escaped => line.push_str("\\ "),
        _ => line.push(c),
    }
}

#[cfg(test)]
mod tests;
