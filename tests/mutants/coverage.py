#!/usr/bin/env python3
"""Lines, regions, functions and branches of the four modules that the unit tests and the simulator reach.

    tests/mutants/coverage.py

As `cargo llvm-cov --branch --lib --test simulator`, but only kraft is built anew, unoptimized, and the tests' own code does
not count, in files of their own or not. The list of what was not reached goes to build/coverage/missed.txt. Needs
`rustup component add llvm-tools`. Counting branches is an unstable flag of the compiler; RUSTC_BOOTSTRAP opens it.
"""
import collections
import functools
import json
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build/coverage"
MODULES = ["raft", "log", "replica", "record"]
# Not sh, which drops variables with a minus in their names: CARGO_BIN_EXE_kraft-sim.
WRAPPER = '#!/bin/bash\nRUSTC_BOOTSTRAP=1 exec "$@" -C instrument-coverage -Z coverage-options=branch\n'
PROFILE = ["--config", "profile.dev.package.kraft.opt-level=0", "--config", "profile.dev.package.kraft.debug=false"]


def output(command, **more):
    return subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, **more).stdout


def built(environment):
    """Name and path of all that the tests run."""
    found = {}
    for target in (["--lib"], ["--test", "simulator"]):
        command = ["cargo", "test", *target, "--no-run", "--message-format=json", *PROFILE]
        for line in output(command, env=environment).splitlines():
            artifact = json.loads(line)
            if artifact.get("executable"):
                found[artifact["target"]["name"]] = artifact["executable"]
    return found


def exported():
    """Runs the tests; what llvm-cov says of them, as JSON and as lcov."""
    WORK.mkdir(parents=True, exist_ok=True)
    for old in WORK.glob("*.profraw"):
        old.unlink()
    wrapper = WORK / "rustc"
    wrapper.write_text(WRAPPER)
    wrapper.chmod(0o755)
    environment = os.environ | {"RUSTC_WORKSPACE_WRAPPER": str(wrapper), "LLVM_PROFILE_FILE": str(WORK / "build-%p.profraw")}
    programs = built(environment)
    environment |= {"LLVM_PROFILE_FILE": str(WORK / "run-%m.profraw"), "CARGO_MANIFEST_DIR": str(ROOT)}
    for name in ("kraft", "simulator"):
        print(output([programs[name]], env=environment)[-120:].strip(), flush=True)
    host = output(["rustc", "--version", "--verbose"]).split("host: ")[1].split()[0]
    tools = pathlib.Path(output(["rustc", "--print", "sysroot"]).strip()) / "lib/rustlib" / host / "bin"
    profile = WORK / "all.profdata"
    output([tools / "llvm-profdata", "merge", "-sparse", *WORK.glob("run-*.profraw"), "-o", profile])
    export = [tools / "llvm-cov", "export", f"-instr-profile={profile}", programs["kraft"], "-object", programs["kraft-sim"]]
    return json.loads(output(export))["data"][0], output([*export, "-format=lcov"])


@functools.cache
def source(path):
    """Module, lines, and the line at which the file's own tests begin; None for other files and for tests."""
    relative = os.path.relpath(path, ROOT)
    parts = relative.split("/")
    if parts[0] != "src" or parts[1] not in MODULES or "tests" in parts or relative.endswith("tests.rs"):
        return None
    lines = pathlib.Path(path).read_text().split("\n")
    return parts[1], lines, lines.index("mod tests {") if "mod tests {" in lines else len(lines) + 1


def counts(path, line):
    return source(path) is not None and line < source(path)[2]


def tallies(data, lcov):
    """Of each kind {(path, place...): how often}; instances of a generic function are one."""
    kinds = {kind: collections.Counter() for kind in ("lines", "regions", "functions", "branches")}
    for function in data["functions"]:
        paths, first = function["filenames"], function["regions"][0]
        if counts(paths[first[5]], first[0]):
            kinds["functions"][(paths[first[5]], *first[:2])] += function["count"]
        for region in function["regions"]:
            if region[7] == 0 and counts(paths[region[5]], region[0]):
                kinds["regions"][(paths[region[5]], *region[:4])] += region[4]
        for branch in function.get("branches", []):
            if counts(paths[branch[6]], branch[0]):
                kinds["branches"][(paths[branch[6]], *branch[:4], "true")] += branch[4]
                kinds["branches"][(paths[branch[6]], *branch[:4], "false")] += branch[5]
    path = None
    for line in lcov.splitlines():
        tag, _, rest = line.partition(":")
        if tag == "SF":
            path = rest
        elif tag == "DA":
            number, count = map(int, rest.split(",")[:2])
            if counts(path, number):
                kinds["lines"][(path, number)] += count
    return kinds


def main():
    kinds = tallies(*exported())
    for module in MODULES:
        row = [module]
        for tally in kinds.values():
            all_of_it = [count for place, count in tally.items() if source(place[0])[0] == module]
            reached = sum(count > 0 for count in all_of_it)
            row.append(f"{reached} of {len(all_of_it)}, {100 * reached / len(all_of_it):.1f} %")
        print("| " + " | ".join(row) + " |")
    with open(WORK / "missed.txt", "w") as missed:
        for kind in ("lines", "branches"):
            for place in sorted(place for place, count in kinds[kind].items() if count == 0):
                where = ":".join(map(str, [os.path.relpath(place[0], ROOT), *place[1:]]))
                print(kind, where, source(place[0])[1][place[1] - 1].strip(), file=missed)


if __name__ == "__main__":
    main()
