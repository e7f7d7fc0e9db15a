//! `kraft-sim` as a program: the same seed gives the same trace in another process, and bad input gets one line.

use std::process::{Command, Output};

fn kraft_sim(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_kraft-sim")).args(arguments).output().expect("kraft-sim runs")
}

fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn twenty_seeds_give_the_same_trace_in_two_processes() {
    for seed in 0..20 {
        let seed = seed.to_string();
        let run = || kraft_sim(&["--seed", &seed, "--ticks", "3000", "--trace"]);
        let (first, second) = (run(), run());
        assert!(first.status.success(), "{}", stdout(&first));
        assert!(stdout(&first).contains("hash 0x"));
        assert_eq!(stdout(&first), stdout(&second), "seed {seed}");
    }
}

#[test]
fn bad_input_is_one_line_and_exit_code_2() {
    let cases: [&[&str]; 7] = [
        &["--seed", "x"],
        &["--seed", "-1"],
        &["--profile", "stormy"],
        &["--lie", "white"],
        &["--without", "peace"],
        &["--ticks", "0"],
        &["--seed", "1", "--ticks", "200", "--hash", "0x1"],
    ];
    for case in cases {
        let output = kraft_sim(case);
        assert_eq!(output.status.code(), Some(2), "{case:?}");
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(error.lines().count(), 1, "{case:?}: {error}");
        assert!(stdout(&output).is_empty(), "{case:?}");
    }
}

#[test]
fn a_caught_lie_tells_the_invariant_and_how_to_see_it_again() {
    let output = kraft_sim(&["--seed", "1", "--ticks", "3000", "--lie", "flush-not-done"]);
    assert_eq!(output.status.code(), Some(1));
    let text = stdout(&output);
    assert!(text.contains("FAILED after ") && text.contains("is on the platter"), "{text}");
    assert!(
        text.contains("again: kraft-sim --seed 1 --ticks 3000 --profile swarm --lie flush-not-done --trace")
    );
    assert!(text.contains("--- last lines of node 1"), "{text}");
}
