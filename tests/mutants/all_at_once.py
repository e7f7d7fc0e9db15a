#!/usr/bin/env python3
"""Judges the mutants that cargo-mutants lists, with one build instead of one for each.

    tests/mutants/all_at_once.py build [MODULE...]          raft log replica record, unless named
    tests/mutants/all_at_once.py judge MODULE [--filter TEST]... [--skip TEST]... [--again] [--jobs J] [--seconds S]
    tests/mutants/all_at_once.py show MODULE                the survivors

`build` copies the tree to build/mutants/tree, writes every mutant into it behind `if crate::mutant(N)`, takes out
what does not compile, and builds the unit tests once. `judge` runs them for each mutant with KRAFT_MUTANT=N: a test that
fails, or that takes more than S seconds of processor time, has caught it. `--again` asks only about survivors, with
other tests. Needs cargo-mutants, and `pip install tree-sitter tree-sitter-rust`.
"""
import argparse
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORK = ROOT / "build/mutants"
TREE = WORK / "tree"
MODULES = ["raft", "log", "replica", "record"]
SWITCH = """
/// Which mutant is switched on.
#[inline(never)]
pub fn mutant(n: u32) -> bool {
    static ACTIVE: std::sync::OnceLock<u32> = std::sync::OnceLock::new();
    *ACTIVE.get_or_init(|| std::env::var("KRAFT_MUTANT").ok().and_then(|n| n.parse().ok()).unwrap_or(0)) == n
}
"""
# Built fast rather than fast when run: most mutants are caught within a second. What kraft depends on stays optimized.
PROFILE = ["--config", "profile.dev.package.kraft.opt-level=0", "--config", "profile.dev.package.kraft.debug=false"]


def listed(modules):
    """What cargo-mutants would try, numbered."""
    mutants = []
    for module in modules:
        command = ["cargo", "mutants", "--list", "--json", "--file", f"src/{module}/**/*.rs"]
        command += ["--exclude", "**/tests/**", "--exclude", "**/tests.rs"]
        output = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        for mutant in json.loads(output):
            mutants.append(mutant | {"module": module, "number": len(mutants) + 1})
    return mutants


class Source:
    """One file with its mutants. A mutated branch holds the plain text: never two mutants at a time."""

    def __init__(self, parser, path):
        self.bytes = (ROOT / path).read_bytes()
        self.lines = self.bytes.decode().split("\n")
        self.starts = [0]
        for line in self.lines:
            self.starts.append(self.starts[-1] + len(line.encode()) + 1)
        self.root = parser.parse(self.bytes).root_node
        self.expressions = collections.defaultdict(list)  # (start, end) -> [(number, text)]
        self.before = collections.defaultdict(list)  # position -> texts
        self.after = collections.defaultdict(list)

    def position(self, point):
        line = self.lines[point["line"] - 1]
        return self.starts[point["line"] - 1] + len(line[: point["column"] - 1].encode())

    def enclosing(self, start, end, kinds):
        node = self.root.descendant_for_byte_range(start, end)
        while node is not None and node.type not in kinds:
            node = node.parent
        return node

    def outside(self, node, genre):
        """Why this place cannot be switched at run time, or None."""
        while node is not None:
            if node.type in ("const_item", "static_item", "array_type", "const_block"):
                return "in a constant"
            modifiers = [c.text for c in node.children if c.type == "function_modifiers"]
            if node.type == "function_item" and any(b"const" in text for text in modifiers):
                return "in a const fn"
            if node.type == "macro_invocation" and genre != "FnValue":
                return "in a macro"
            node = node.parent
        return None

    def add(self, mutant):
        """None, or why it is left out."""
        number, genre, new = mutant["number"], mutant["genre"], mutant["replacement"]
        start, end = self.position(mutant["span"]["start"]), self.position(mutant["span"]["end"])
        if why := self.outside(self.root.descendant_for_byte_range(start, end), genre):
            return why
        if genre == "FnValue":
            if "impl " in (mutant["function"]["return_type"] or ""):
                return "returns impl Trait"
            self.before[start].append(f"if crate::mutant({number}) {{ /*M{number}*/ return {new}; /*E{number}*/ }} ")
        elif genre in ("BinaryOperator", "UnaryOperator"):
            kinds = {"binary_expression", "compound_assignment_expr", "unary_expression", "let_chain"}
            node = self.enclosing(start, end, kinds)
            while node is not None and not any((c.start_byte, c.end_byte) == (start, end) for c in node.children):
                node = node.parent
            if node is None or node.type == "let_chain":
                return "unviable: a let chain"
            text = self.bytes[node.start_byte : start] + new.encode() + self.bytes[end : node.end_byte]
            self.expressions[(node.start_byte, node.end_byte)].append((number, text.decode()))
        elif genre == "MatchArmGuard":
            self.expressions[(start, end)].append((number, new))
        elif genre == "MatchArm":
            arm = self.enclosing(start, start + 1, {"match_arm"})
            pattern = next(c for c in arm.children if c.type == "match_pattern")
            guard = pattern.child_by_field_name("condition")
            if guard is None:
                self.after[pattern.end_byte].append(f" if /*X{number}*/ !crate::mutant({number}) /*Y{number}*/")
            else:
                self.before[guard.start_byte].append(f"!crate::mutant({number}) && (")
                self.after[guard.end_byte].append(")")
        elif genre == "StructField":
            field = self.enclosing(start, start + 1, {"field_initializer", "shorthand_field_initializer"})
            base = next(c for c in field.parent.children if c.type == "base_field_initializer")
            base = base.text.decode().lstrip(".").strip()
            if field.type == "shorthand_field_initializer":
                name = field.text.decode()
                self.before[field.start_byte].append(
                    f"{name}: if crate::mutant({number}) {{ /*M{number}*/ ({base}).{name} /*E{number}*/ }} else {{ "
                )
                self.after[field.end_byte].append(" }")
            else:
                value, name = field.child_by_field_name("value"), field.child_by_field_name("field").text.decode()
                self.expressions[(value.start_byte, value.end_byte)].append((number, f"({base}).{name}"))
        else:
            return f"of the unknown kind {genre}"
        return None

    def instrumented(self):
        spans = sorted(self.expressions, key=lambda span: (span[0], -span[1]))
        opening, closing = collections.defaultdict(str), collections.defaultdict(str)
        for position, texts in self.before.items():
            opening[position] += "".join(texts)
        for start, end in spans:
            numbers = ",".join(str(number) for number, _ in self.expressions[(start, end)])
            opening[start] += f"/*X{numbers}*/("
            for number, text in self.expressions[(start, end)]:
                opening[start] += f"if crate::mutant({number}) {{ /*M{number}*/ {text} /*E{number}*/ }} else "
            opening[start] += "{ "
            closing[end] = " })/*Y" + numbers + "*/" + closing[end]
        for position, texts in self.after.items():
            closing[position] += "".join(texts)
        out, at = [], 0
        for position in sorted(set(opening) | set(closing)):
            out += [self.bytes[at:position].decode(), closing[position], opening[position]]
            at = position
        return "".join(out) + self.bytes[at:].decode()


def write_tree(mutants, left_out):
    import tree_sitter_rust
    from tree_sitter import Language, Parser

    parser = Parser(Language(tree_sitter_rust.language()))
    shutil.copytree(ROOT, TREE, dirs_exist_ok=True, symlinks=True, ignore=shutil.ignore_patterns(".git", "build", "target"))
    by_file = collections.defaultdict(list)
    for mutant in mutants:
        by_file[mutant["file"]].append(mutant)
    for path, here in by_file.items():
        source = Source(parser, path)
        for mutant in here:
            if mutant["number"] not in left_out and (why := source.add(mutant)):
                left_out[mutant["number"]] = why
        (TREE / path).write_text(source.instrumented())
    lib = (ROOT / "src/lib.rs").read_text()
    (TREE / "src/lib.rs").write_text("#![allow(warnings)]\n" + lib + SWITCH)


def numbers_at(text, start, end):
    """Mutants whose branch holds these bytes, or whose expression does."""
    open_marks = []
    for mark in re.finditer(rb"/\*([MEXY])([\d,]+)\*/", text):
        kind, numbers = mark.group(1), mark.group(2)
        if mark.start() >= end or (kind in b"EY" and mark.end() > start):
            break
        if kind in b"MX":
            open_marks.append((kind, numbers))
            continue
        while open_marks and open_marks.pop()[1] != numbers:
            pass
    branches = [numbers for kind, numbers in open_marks if kind == b"M"]
    chosen = branches or [numbers for _, numbers in open_marks]
    return ({int(n) for n in chosen[-1].split(b",")}, bool(branches)) if chosen else (set(), False)


def arms_of(text, start):
    """Mutants that delete an arm of the match that begins here."""
    depth, begin = 0, text.index(b"{", start)
    for end in range(begin, len(text)):
        depth += {b"{": 1, b"}": -1}.get(text[end : end + 1], 0)
        if depth == 0:
            break
    return {int(n) for n in re.findall(rb"/\*X(\d+)\*/ !crate::mutant", text[begin:end])}


def unviable(messages):
    """What the compiler refused: {number: why}."""
    found = {}
    for line in messages.splitlines():
        message = json.loads(line).get("message") if line.startswith("{") else None
        if not isinstance(message, dict) or message["level"] != "error":
            continue
        for span in sorted(message["spans"], key=lambda span: not span["is_primary"]):
            text = (TREE / span["file_name"]).read_bytes()
            if (message.get("code") or {}).get("code") == "E0004":
                numbers, is_branch = arms_of(text, span["byte_end"]), True
            else:
                numbers, is_branch = numbers_at(text, span["byte_start"], span["byte_end"])
            if numbers:
                why = "unviable" if is_branch else f"not switchable: {message['message'][:60]}"
                found |= dict.fromkeys(numbers, why)
                break
    return found


def build(modules):
    WORK.mkdir(parents=True, exist_ok=True)
    mutants, left_out = listed(modules), {}
    while True:
        write_tree(mutants, left_out)
        check = ["cargo", "check", "--lib", "--message-format=json", *PROFILE]
        done = subprocess.run(check, cwd=TREE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if done.returncode == 0:
            break
        found = unviable(done.stdout)
        if not set(found) - set(left_out):
            sys.exit(f"cannot build the tree:\n{done.stderr[-3000:]}")
        left_out |= found
        print(f"{len(left_out)} left out", flush=True)
    command = ["cargo", "test", "--lib", "--no-run", "--message-format=json", *PROFILE]
    output = subprocess.run(command, cwd=TREE, check=True, stdout=subprocess.PIPE, text=True).stdout
    binaries = [json.loads(line).get("executable") for line in output.splitlines() if line.startswith("{")]
    shutil.copyfile(next(b for b in reversed(binaries) if b), WORK / "tests")
    (WORK / "tests").chmod(0o755)
    keep = ("number", "name", "module")
    mutants = [{k: m[k] for k in keep} | {"left_out": left_out.get(m["number"])} for m in mutants]
    (WORK / "all_at_once.json").write_text(json.dumps(mutants, indent=0))
    print(f"{len(mutants)} mutants, {len(left_out)} of them left out")


def run_tests(number, arguments, seconds):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 1))

    environment = os.environ | {"KRAFT_MUTANT": str(number), "RUST_BACKTRACE": "0", "RUSTC_BOOTSTRAP": "1"}
    command = [WORK / "tests", "-Z", "unstable-options", "--fail-fast", "--test-threads", "1", *arguments]
    try:
        done = subprocess.run(
            command, cwd=TREE, env=environment, preexec_fn=limit, timeout=20 * seconds,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
    except subprocess.TimeoutExpired:
        return "timeout"
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        return "timeout"
    return "caught" if done.returncode else "missed"


def results_of(module):
    path = WORK / f"all_at_once-{module}.json"
    return path, json.loads(path.read_text()) if path.exists() else {}


def judge(options):
    mutants = json.loads((WORK / "all_at_once.json").read_text())
    path, results = results_of(options.module)
    if not options.again:
        results = {}
    chosen = [m for m in mutants if m["module"] == options.module and not m["left_out"]]
    chosen = [m for m in chosen if results.get(m["name"], "missed") == "missed"]
    arguments = (options.filter or [f"{options.module}::"]) + [a for skip in options.skip for a in ("--skip", skip)]
    if run_tests(0, arguments, options.seconds) != "missed":
        sys.exit("the tests fail, or are too slow, without any mutant")
    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        futures = {pool.submit(run_tests, m["number"], arguments, options.seconds): m["name"] for m in chosen}
        for future in concurrent.futures.as_completed(futures):
            results[futures[future]] = future.result()
            path.write_text(json.dumps(results, indent=0))
    show(options.module)


def show(module):
    _, results = results_of(module)
    survivors = sorted(name for name, result in results.items() if result == "missed")
    print("\n".join(survivors))
    print(f"{module}: {len(results)} judged, {len(survivors)} survivors")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build").add_argument("modules", nargs="*")
    commands.add_parser("show").add_argument("module")
    judging = commands.add_parser("judge")
    judging.add_argument("module")
    judging.add_argument("--filter", action="append", default=[])
    judging.add_argument("--skip", action="append", default=[])
    judging.add_argument("--again", action="store_true")
    judging.add_argument("--jobs", type=int, default=2)
    judging.add_argument("--seconds", type=int, default=8)
    options = parser.parse_args()
    if options.command == "build":
        build(options.modules or MODULES)
    elif options.command == "judge":
        judge(options)
    else:
        show(options.module)


if __name__ == "__main__":
    main()
