//! No file names one that, on whatever way, names it back: each can be understood from those below it.
//!
//! A folder's own file and the files in it are one to each other: a part may name what its whole declares.

mod source;

use source::{SourceFile, Token, files_under};
use std::collections::{BTreeMap, BTreeSet};

/// Of each crate the folder of its root. Programs in `src/bin` are a file or two each.
const CRATES: &[(&str, &str)] = &[("src/", "src/bin/"), ("perf/load/src/", "perf/load/src/bin/")];

/// Names of a module, from the crate's root on.
type Module = Vec<String>;

/// `log/op.rs` is `log::op`, `log/mod.rs` is `log`, and `lib.rs` and `main.rs` are the crate itself.
fn module_of(inner: &str) -> Module {
    let names = inner.trim_end_matches(".rs").split('/').map(str::to_string);
    names.filter(|name| !["mod", "lib", "main"].contains(&name.as_str())).collect()
}

/// The paths that begin behind a `::`, groups taken apart.
fn paths_from(tokens: &[Token], at: usize, before: &Module, found: &mut Vec<Module>) {
    let text = |at: usize| tokens.get(at).map_or("", |token| token.text.as_str());
    if text(at) != "{" {
        let mut path = before.clone();
        path.push(text(at).to_string());
        return match text(at + 1) {
            "::" => paths_from(tokens, at + 2, &path, found),
            _ => found.push(path),
        };
    }
    let mut depth = 0;
    for i in at.. {
        match text(i) {
            "" => return,
            "{" => depth += 1,
            "}" => depth -= 1,
            _ if depth == 1 && ["{", ","].contains(&text(i - 1)) => paths_from(tokens, i, before, found),
            _ => {}
        }
        if depth == 0 {
            return;
        }
    }
}

/// What a file names in its own crate, each path with its line. Not in its tests.
fn named_in(file: &SourceFile, own: &Module) -> Vec<(Module, usize)> {
    let mut all = Vec::new();
    for (at, token) in file.tokens.iter().enumerate().filter(|(_, token)| !token.is_test) {
        let is_path_start = at == 0 || !["::", "."].contains(&file.tokens[at - 1].text.as_str());
        let supers = file.tokens[at..].iter().step_by(2).take_while(|token| token.text == "super").count();
        let (kept, behind) = match token.text.as_str() {
            "crate" if is_path_start => (0, at + 1),
            "super" if is_path_start => {
                ((own.len() + token.inline_depth).saturating_sub(supers), at + 2 * supers - 1)
            }
            _ => continue,
        };
        if file.tokens.get(behind).is_some_and(|token| token.text == "::") {
            let mut found = Vec::new();
            let before = own.iter().take(kept).cloned().collect();
            paths_from(&file.tokens, behind + 1, &before, &mut found);
            all.extend(found.into_iter().map(|path| (path, token.line)));
        }
    }
    all
}

/// Which module names which others, and where first.
fn names(files: &[(Module, SourceFile)]) -> BTreeMap<&Module, BTreeMap<&Module, String>> {
    let modules: BTreeSet<&Module> = files.iter().map(|(module, _)| module).collect();
    let mut graph = BTreeMap::new();
    for (own, file) in files {
        let edges: &mut BTreeMap<&Module, String> = graph.entry(own).or_default();
        for (path, line) in named_in(file, own) {
            let holder =
                (0..=path.len()).rev().find_map(|length| modules.get(&path[..length].to_vec()).copied());
            if let Some(named) = holder.filter(|named| !named.starts_with(own) && !own.starts_with(named)) {
                edges
                    .entry(named)
                    .or_insert_with(|| format!("{}:{line} names {}", file.path, named.join("::")));
            }
        }
    }
    graph
}

/// Those that are left when whoever names nobody that is left has gone, from both ends.
fn in_circles(mut graph: BTreeMap<&Module, BTreeMap<&Module, String>>) -> Vec<String> {
    loop {
        let before = graph.len();
        let named: BTreeSet<&Module> = graph.values().flat_map(BTreeMap::keys).copied().collect();
        graph.retain(|module, edges| !edges.is_empty() && named.contains(*module));
        let left: BTreeSet<&Module> = graph.keys().copied().collect();
        graph.values_mut().for_each(|edges| edges.retain(|named, _| left.contains(*named)));
        if graph.len() == before {
            return graph.into_values().flat_map(BTreeMap::into_values).collect();
        }
    }
}

#[test]
fn no_file_stands_above_and_below_another() {
    for (root, programs) in CRATES {
        let files: Vec<(Module, SourceFile)> = files_under(root.trim_end_matches('/'))
            .into_iter()
            .filter(|file| !file.path.starts_with(programs))
            .map(|file| (module_of(file.path.trim_start_matches(root)), file))
            .collect();
        let graph = names(&files);
        let edges: usize = graph.values().map(BTreeMap::len).sum();
        assert!(
            edges > files.len() / 2,
            "{root}: only {edges} names were found: does the search still work?"
        );
        let circles = in_circles(graph);
        assert!(circles.is_empty(), "files that name each other in a circle:\n{}", circles.join("\n"));
    }
}

#[test]
fn a_circle_of_three_is_found_and_nothing_beside_it() {
    let file = |path: &str, text: &str| {
        let tokens = source::tokenize(text);
        (module_of(path), SourceFile { path: path.to_string(), text: text.to_string(), tokens })
    };
    let files = [
        file("a/mod.rs", "mod b; mod c; pub use b::X;"),
        file("a/b.rs", "use super::c::{Y, Z}; use super::Whole;"),
        file("a/c.rs", "use crate::{d::V, types::*};"),
        file("d.rs", "fn f() { crate::a::b::g() }"),
        file("e.rs", "use crate::a::b::X;"),
        file("types.rs", ""),
    ];
    let circle = in_circles(names(&files));
    assert_eq!(circle.len(), 3, "{circle:?}");
    assert!(circle[0].starts_with("a/b.rs:1 names a::c"), "{circle:?}");
}
