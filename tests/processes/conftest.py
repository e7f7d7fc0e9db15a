"""What every test of real processes shares: a place on a real disk, clusters that are always ended, logs of failures."""

import os
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

import cluster as processes

# Runs alone at the very end: it says most when everything before it held.
LAST = "test_five_kills.py"


def pytest_configure(config):
    def on_terminate(_signal, _frame):
        raise KeyboardInterrupt
    signal.signal(signal.SIGTERM, on_terminate)
    # As bin/test-raft-server-start.sh does; the tests hold thousands of connections themselves.
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name == LAST)


def pytest_report_header():
    return f"server: {processes.SERVER}"


def file_system_of(path):
    """The type of the file system that holds a path."""
    best = ("", "")
    for line in Path("/proc/mounts").read_text().splitlines():
        _, mount, kind = line.split()[:3]
        inside = str(path) == mount or str(path).startswith(mount.rstrip("/") + "/")
        if inside and len(mount) >= len(best[0]):
            best = (mount, kind)
    return best[1]


@pytest.fixture(scope="session")
def data_root():
    """A new directory on a disk: on tmpfs there is no direct I/O and no flush to test."""
    chosen = os.environ.get("KRAFT_TEST_DIR")
    candidates = [Path(chosen)] if chosen else [processes.REPOSITORY / "build" / "test", Path("/var/tmp")]
    for candidate in candidates:
        candidate.mkdir(parents=True, exist_ok=True)
        if file_system_of(candidate.resolve()) not in ("tmpfs", "ramfs") or chosen:
            break
    else:
        pytest.exit(f"none of {candidates} is on a disk: set KRAFT_TEST_DIR")
    root = candidate.resolve() / f"processes-{os.getpid()}"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    yield root
    shutil.rmtree(root, ignore_errors=True)


def _short(name):
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in name)[:80]


@pytest.fixture
def clusters(request, data_root):
    """clusters(size=3, start=True, overrides={}, arguments=[], dialect="seed") makes a cluster for this test alone."""
    made = processes.Clusters(data_root / f"{_short(request.node.name)}-{time.monotonic_ns() % 10**6}")
    request.node.clusters = made
    yield made
    made.end()
    made.remove()


@pytest.fixture(scope="session")
def shared_clusters(data_root):
    made = processes.Clusters(data_root / "shared")
    yield made
    made.end()
    made.remove()


@pytest.fixture(scope="session")
def shared_quorum(shared_clusters):
    return shared_clusters(3)


@pytest.fixture
def quorum(request, shared_quorum, shared_clusters):
    """Three nodes that many tests share: for clients that disturb nobody. Each test first sees that all is well."""
    request.node.clusters = shared_clusters
    for node in shared_quorum:
        assert node.is_running(), f"an earlier test ended node {node.node_id} of the shared quorum:\n{node.stderr()[-3000:]}"
    shared_quorum.leader()
    return shared_quorum


@pytest.fixture
def scratch(request, data_root):
    """An empty directory for this test's own files."""
    path = data_root / f"scratch-{_short(request.node.name)}-{time.monotonic_ns() % 10**6}"
    path.mkdir()
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    report = outcome.get_result()
    if report.failed and (made := getattr(item, "clusters", None)):
        for cluster in made.made[-2:]:
            report.sections.extend(cluster.logs())
