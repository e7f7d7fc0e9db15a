//! House rules that a reviewer should not have to think of: sizes, names, and nothing left for later.

mod source;

use source::{SourceFile, Token, files_under};

const FILE_LINES_MAX: usize = 700;
const FUNCTION_LINES_MAX: usize = 70;
const VAGUE_NAMES: &[&str] = &["util", "utils", "helper", "helpers", "common", "manager", "impls"];

fn all_files() -> Vec<SourceFile> {
    ["src", "tests", "benches", "examples", "perf/load"].into_iter().flat_map(files_under).collect()
}

/// Name, first line and number of lines of each function with a body.
fn functions(tokens: &[Token]) -> Vec<(&str, usize, usize)> {
    let mut found = Vec::new();
    for (at, window) in tokens.windows(2).enumerate() {
        let [keyword, name] = window else { continue };
        if keyword.text == "fn"
            && name.is_word()
            && let Some(end) = body_end(&tokens[at..])
        {
            found.push((name.text.as_str(), keyword.line, end - keyword.line + 1));
        }
    }
    found
}

/// Line of the brace that closes the body; `None` for a declaration.
fn body_end(tokens: &[Token]) -> Option<usize> {
    let (mut braces, mut others) = (0, 0);
    for token in tokens {
        match token.text.as_str() {
            "(" | "[" => others += 1,
            ")" | "]" => others -= 1,
            ";" if braces == 0 && others == 0 => return None,
            "{" => braces += 1,
            "}" => {
                braces -= 1;
                if braces == 0 && others == 0 {
                    return Some(token.line);
                }
            }
            _ => {}
        }
    }
    None
}

#[test]
fn files_and_functions_stay_small() {
    let mut wrong = Vec::new();
    let mut seen = 0;
    for file in all_files() {
        let lines = file.text.lines().count();
        if lines > FILE_LINES_MAX {
            wrong.push(format!("{} has {lines} lines, more than {FILE_LINES_MAX}", file.path));
        }
        for (name, line, lines) in functions(&file.tokens) {
            seen += 1;
            if lines > FUNCTION_LINES_MAX {
                wrong.push(format!(
                    "{}:{line} fn {name} has {lines} lines, more than {FUNCTION_LINES_MAX}",
                    file.path
                ));
            }
        }
    }
    assert!(seen > 300, "only {seen} functions were found: does the search still work?");
    assert!(wrong.is_empty(), "too long:\n{}", wrong.join("\n"));
}

#[test]
fn nothing_is_left_for_later() {
    let mut wrong = Vec::new();
    for file in all_files() {
        for window in file.tokens.windows(2) {
            let [word, next] = window else { continue };
            let is_macro = next.text == "!" && ["todo", "unimplemented", "dbg"].contains(&word.text.as_str());
            if is_macro || (word.text == "[" && next.text == "ignore") {
                wrong.push(format!("{}:{} {}{}", file.path, word.line, word.text, next.text));
            }
        }
        let marks = ["FIX", "XX"].map(|half| half.to_string() + if half == "XX" { "X" } else { "ME" });
        for (number, line) in file.text.lines().enumerate() {
            if marks.iter().any(|mark| line.contains(mark.as_str())) {
                wrong.push(format!("{}:{} {}", file.path, number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "left for later:\n{}", wrong.join("\n"));
}

#[test]
fn names_say_what_a_file_is_for() {
    for file in all_files() {
        for part in file.path.split(['/', '.', '_', '-']) {
            assert!(!VAGUE_NAMES.contains(&part), "{}: \"{part}\" says nothing", file.path);
        }
    }
}

#[test]
fn functions_are_measured_rightly() {
    let text = "trait T { fn a(&self) -> [u8; 4]; fn b() { if x { } } }\nfn c(f: fn(u8) -> u8) {\n  '}'; \"}\"; // }\n}\n";
    let tokens = source::tokenize(text);
    assert_eq!(functions(&tokens), [("b", 1, 1), ("c", 2, 3)]);
}

/// The standard library's macros panic when nobody reads any more: `server::output` has others.
#[test]
fn nothing_panics_because_its_reader_has_gone() {
    let mut wrong = Vec::new();
    let is_test = |path: &str| path.contains("tests");
    let files = ["src", "perf/load/src"].into_iter().flat_map(files_under);
    for file in files.filter(|file| !is_test(&file.path)) {
        for window in file.tokens.windows(2) {
            let [name, bang] = window else { continue };
            if bang.text == "!" && ["print", "println", "eprint", "eprintln"].contains(&name.text.as_str()) {
                wrong.push(format!("{}:{} has {}!", file.path, name.line, name.text));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
