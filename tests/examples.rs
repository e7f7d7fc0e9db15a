//! The programs of `examples/` do what they say, to their end.

#[path = "fixtures/embedded.rs"]
mod embedded;

use std::path::PathBuf;
use std::process::Command;

use kraft::server::Node;

/// `cargo test` has built it, beside this test; `cargo test --test examples` alone does not.
fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(|deps| deps.parent()).unwrap().join("examples").join(name);
    assert!(program.exists(), "cargo build --examples, and then again: there is no {}", program.display());
    program
}

/// What it prints, where it succeeds.
fn run(name: &str, arguments: &[&str]) -> String {
    let output = Command::new(program(name)).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{name} ended with {}:\n{said}{complaint}", output.status);
    said
}

#[test]
fn what_is_produced_is_consumed() {
    let home = tempfile::tempdir().unwrap();
    let (config, address) = embedded::sole_voter(home.path());
    let node = Node::start(config).unwrap();
    let said = run("produce", &[&address, "6"]);
    assert!(said.contains("4 records from offset 1 on are committed"), "{said}");
    assert!(said.contains("2 records from offset 5 on are committed"), "{said}");
    let said = run("consume", &[&address]);
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(
        lines[1..],
        [
            "1: hello 1",
            "2: hello 2",
            "3: hello 3",
            "4: hello 4",
            "5: hello 5",
            "6: hello 6",
            "6 records are committed",
        ]
    );
    assert_eq!(node.stop().exit_code, 0);
}

#[test]
fn a_quorum_in_one_process_survives_its_leader() {
    let said = run("quorum", &[]);
    assert!(said.contains(r#"it has ["one", "two", "three", "four"]"#), "{said}");
    assert_eq!(said.matches("has stopped with 0").count(), 2, "{said}");
}

#[test]
fn a_server_that_is_not_there_is_told() {
    let output = Command::new(program("produce")).args(["localhost:9092", "many"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
}
