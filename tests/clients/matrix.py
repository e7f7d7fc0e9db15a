"""Runs clients against quorums of their own, one line for each capability, and writes the table of README.md."""

import argparse
import json
import os
import resource
import shutil
import signal
import sys
import time
from pathlib import Path

import clients
import scenario
from cluster import REPOSITORY, Clusters

README = Path(__file__).resolve().parent / "README.md"
RESULTS = clients.INSTALLED / "results.json"
BEGIN, END = "<!-- results: written by run.sh --write -->\n", "<!-- end of results -->\n"
REFUSALS = ("group", "commit", "transaction", "create topic")
SIGNS = {scenario.OK: "yes", scenario.FAILED: "**no**", scenario.ABSENT: "–"}


def run_client(client, reference, wanted, root):
    began = time.monotonic()
    try:
        command = client.install(client)
    except Exception as problem:
        print(f"{client.name:17} install         FAILED          {problem}", flush=True)
        return None
    print(f"{client.name:17} {'install':15} ok      {time.monotonic() - began:6.1f} s", flush=True)
    scratch = root / client.name
    scratch.mkdir(parents=True)
    made = Clusters(scratch)
    rows = []
    try:
        for row in scenario.run(client, command, reference, made, scratch, wanted):
            rows.append(row)
            print(f"{client.name:17} {row.capability:15} {row.result:7} {row.seconds:6.1f} s  {row.remark}", flush=True)
    finally:
        made.end()
        if any(row.result == scenario.FAILED for row in rows):
            print(f"{client.name:17} logs are kept in {scratch}", flush=True)
        else:
            shutil.rmtree(scratch, ignore_errors=True)
    return rows


def table(results):
    """Markdown: capabilities down, clients across in two halves, and the remarks."""
    lines = []
    names = [client.name for client in clients.CLIENTS if client.name in results]
    versions = {client.name: client.version for client in clients.CLIENTS}
    for half in (names[:7], names[7:]):
        if half:
            lines += ["| | " + " | ".join(f"{name} {'' if name.startswith('kafka-java') else versions[name]}".strip() for name in half) + " |",
                      "|---" * (len(half) + 1) + "|"]
            for capability in scenario.CAPABILITIES:
                cells = [SIGNS[results[name][capability][0]] if capability in results[name] else "" for name in half]
                lines.append(f"| {capability} | " + " | ".join(cells) + " |")
            lines.append("")
    lines += ["What is not offered, or went wrong:", "", "| client | capability | |", "|---|---|---|"]
    for name in names:
        for capability, (result, remark) in results[name].items():
            if result != scenario.OK:
                lines.append(f"| {name} | {capability} | {remark.replace('|', ' ')} |")
    lines += ["", "What the clients say when they ask for what is not there:", "",
              "| client | group | commit | transaction | new topic |", "|---|---|---|---|---|"]
    for name in names:
        said = [results[name].get(capability, ("", ""))[1].replace("|", " ") for capability in REFUSALS]
        lines.append(f"| {name} | {' | '.join(said)} |")
    return "\n".join(lines) + "\n"


def write_readme(results):
    before, _, rest = README.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    README.write_text(before + BEGIN + "\n" + table(results) + "\n" + END + after)


def chosen(names):
    known = {client.name: client for client in clients.CLIENTS}
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"unknown client {unknown[0]}; there are: {', '.join(known)}")
    return [known[name] for name in names] or clients.CLIENTS


def main():
    parser = argparse.ArgumentParser(prog="run.sh", description="Kafka clients against quorums of three kraft-server nodes.")
    parser.add_argument("client", nargs="*", help="some clients; without it all: " + ", ".join(c.name for c in clients.CLIENTS))
    parser.add_argument("--only", action="append", metavar="CAPABILITY", help="one capability, may be repeated")
    parser.add_argument("--write", action="store_true", help="write the results of this and of earlier runs into README.md")
    options = parser.parse_args()
    wanted = chosen(options.client)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    root = REPOSITORY / "build" / "test" / f"clients-{os.getpid()}"
    reference = clients.REFERENCE.install(clients.REFERENCE)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    passed = failed = skipped = 0
    try:
        for client in wanted:
            rows = run_client(client, reference, options.only, root)
            failed += rows is None
            for row in rows or []:
                passed += row.result == scenario.OK
                skipped += row.result == scenario.ABSENT
                failed += row.result == scenario.FAILED
                results.setdefault(client.name, {})[row.capability] = (row.result, row.remark)
    finally:
        if root.exists() and not any(root.iterdir()):
            root.rmdir()
    RESULTS.write_text(json.dumps(results, indent=1))
    if options.write:
        write_readme(results)
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
