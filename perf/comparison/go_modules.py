"""Peers that are built, with their load clients, from Go modules of perf/, which pin them."""

import shutil

from .processes import Failed, run as run_command, step

BUILD_SECONDS_MAX = 1800
# What all of them say their figures with.
SHARED = "seen"


def find(root, name, title, packages, seconds_max=BUILD_SECONDS_MAX):
    """(directory of the programs, None), or (None, why not). `packages`: {package: its program}. Built once; Go fetches what
    go.sum names, and keeps what it has compiled of a build that took too long."""
    directory = root / "build" / name
    if is_built(root, name, packages):
        return directory, None
    if not shutil.which("go"):
        return None, "there is no Go (1.26 or newer) to build it and its client with"
    step(f"Building {title} and its client")
    directory.mkdir(parents=True, exist_ok=True)
    try:
        run_command(["go", "build", "-C", root / "perf" / name, "-trimpath", "-o", f"{directory}/", *packages], seconds_max)
    except Failed as e:
        return None, f"its Go module cannot be built: {str(e).splitlines()[-1]}"
    return directory, None


def is_built(root, name, packages):
    programs = [root / "build" / name / program for program in packages.values()]
    sources = [file for module in (name, SHARED) for file in (root / "perf" / module).glob("*") if file.suffix in (".go", ".mod")]
    return all(program.exists() for program in programs) and (
        min(p.stat().st_mtime for p in programs) > max(s.stat().st_mtime for s in sources))
