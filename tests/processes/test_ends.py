"""How a node ends: by which signals, at which moment, and whoever reads what it says, or does not."""

import contextlib
import errno
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest

import kafka_tools
import raw
from cluster import SERVER, TOOLS_DIR, wait_for
from test_configuration import properties

DUMP_LOG = TOOLS_DIR / "kraft-dump-log"
SIMULATOR = TOOLS_DIR / "kraft-sim"
# A hand-over to voters that stand still lasts as long as this allows.
PATIENT = {"controller.quorum.request.timeout.ms": 60000, "controller.quorum.fetch.timeout.ms": 60000}


@pytest.fixture
def full_pipe():
    """The end to write to of a pipe that is full, and that nobody reads."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    try:
        while True:
            os.write(writer, bytes(4096))
    except BlockingIOError:
        pass
    os.set_blocking(writer, True)
    yield writer
    os.close(reader)
    os.close(writer)


@pytest.fixture
def broken_pipe():
    """The end to write to of a pipe whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.fixture(params=["full", "broken"])
def bad_pipe(request):
    return request.getfixturevalue(f"{request.param}_pipe")


def start_as_leader_whose_followers_stand_still(cluster, **streams):
    """Its hand-over finds nobody, so that the stop takes its time."""
    for node in cluster:
        node.start(**streams)
    cluster.wait_ready()
    leader = cluster.leader()
    for follower in cluster.followers():
        follower.pause()
    return leader


def fifo_instead_of(path):
    """A start that reads it stands there until somebody writes: a moment that a test can hold."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def stands_in_open(pid):
    """Some thread of it waits for the other end of a fifo."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        # One that is there for the start alone may have ended since.
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            if re.search("fifo|wait_for_partner", (task / "wchan").read_text()):
                return True
    return False


def test_full_or_broken_pipes_neither_stop_nor_keep_a_leader(clusters, bad_pipe):
    cluster = clusters(3, start=False)
    for node in cluster:
        node.start(stdout=bad_pipe, stderr=bad_pipe)
    cluster.wait_ready()
    leader, epoch = cluster.leader(), cluster.epoch()
    for n in range(50):
        # Each costs it a line.
        with raw.Connection(leader.port) as connection:
            connection.send(b"GET / HTTP/1.1\r\n\r\n")
            assert connection.was_closed()
    kafka_tools.produce_verified(cluster.bootstrap, 100)
    assert leader.stop() == 0
    others = [node for node in cluster if node is not leader]
    wait_for("another leader", lambda: (new := cluster.leader_now()) and new is not leader)
    assert cluster.epoch() > epoch
    assert [node.stop() for node in others] == [0, 0]


def test_a_second_signal_ends_at_once_whoever_reads(clusters, bad_pipe):
    cluster = clusters(3, start=False, overrides=PATIENT)
    leader = start_as_leader_whose_followers_stand_still(cluster, stdout=bad_pipe, stderr=bad_pipe)
    leader.signal(signal.SIGTERM)
    wait_for("the hand-over to begin", lambda: (status := leader.status_now()) and status["role"].lower() != "leader")
    assert leader.is_running()
    leader.signal(signal.SIGTERM)
    assert leader.wait_exit() == 128 + signal.SIGTERM


def test_a_stop_that_takes_too_long_is_ended_though_nobody_reads(clusters, full_pipe):
    cluster = clusters(3, start=False, overrides=PATIENT)
    leader = start_as_leader_whose_followers_stand_still(cluster, stdout=full_pipe, stderr=full_pipe)
    leader.signal(signal.SIGTERM)
    assert leader.wait_exit(60) == 75


def test_a_second_signal_says_so(clusters):
    cluster = clusters(3, start=False, overrides=PATIENT)
    leader = start_as_leader_whose_followers_stand_still(cluster)
    leader.signal(signal.SIGTERM)
    wait_for("the first to be told", lambda: "SIGTERM received" in leader.stderr())
    leader.signal(signal.SIGINT)
    assert leader.wait_exit() == 128 + signal.SIGINT
    assert "A second SIGINT was received" in leader.stderr()


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda which: which.name)
def test_a_signal_hands_over_and_stops(clusters, which):
    cluster = clusters(3)
    old = cluster.leader()
    cluster.wait_caught_up()
    old.signal(which)
    assert old.wait_exit() == 0
    assert re.search(rf"INFO {which.name}.* received: handing over", old.stderr()), old.stderr()[-2000:]
    wait_for("another leader", lambda: (new := cluster.leader_now()) and new is not old)
    others = [node for node in cluster if node is not old]
    wait_for("one who heard from it that it goes",
             lambda: any(f"{old.node_id} resigned: standing in" in node.stderr() for node in others))


def test_the_sighup_of_a_closed_terminal_comes_twice_and_is_one_stop(clusters):
    cluster = clusters(3, start=False, overrides=PATIENT)
    leader = start_as_leader_whose_followers_stand_still(cluster)
    leader.signal(signal.SIGHUP)
    wait_for("the first to be told", lambda: "SIGHUP" in leader.stderr())
    leader.signal(signal.SIGHUP)
    for follower in (node for node in cluster if node is not leader):
        follower.resume()
    assert leader.wait_exit() == 0, leader.stderr()[-2000:]


def test_sighup_is_ignored_where_nohup_says_so(clusters):
    cluster = clusters(1, start=False)
    node = cluster[1].start(under=[shutil.which("nohup")])
    node.wait_ready()
    node.signal(signal.SIGHUP)
    kafka_tools.produce_verified(cluster.bootstrap, 10)
    assert node.is_running() and "SIGHUP" not in node.stderr()
    assert node.stop() == 0


@pytest.mark.parametrize("which", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP], ids=lambda which: which.name)
@pytest.mark.parametrize("file", ["meta.properties", "quorum-state"])
def test_a_signal_during_the_start_ends_it_with_a_line(clusters, which, file):
    cluster = clusters(1, start=False)
    node = cluster[1]
    fifo_instead_of(node.data_dir / file if file == "meta.properties" else node.partition_dir / file)
    node.start()
    wait_for("the start to stand still", lambda: stands_in_open(node.pid))
    node.signal(which)
    assert node.wait_exit() == 0, node.stderr()
    assert re.search(rf"INFO {which.name}.* received during the start: stopped", node.stderr()), node.stderr()


def test_a_signal_during_the_start_is_not_kept_from_its_end_by_a_full_pipe(clusters, full_pipe):
    cluster = clusters(1, start=False)
    node = cluster[1]
    fifo_instead_of(node.data_dir / "meta.properties")
    node.start(stdout=full_pipe, stderr=full_pipe)
    wait_for("the start to stand still", lambda: stands_in_open(node.pid))
    node.signal(signal.SIGTERM)
    assert node.wait_exit() == 0


def inside(pid):
    """The process that runs as number 1 in a namespace which `pid` has made."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(children[0]) if children else None


def can_make_namespaces():
    return os.geteuid() == 0 and subprocess.run(["unshare", "-p", "-f", "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("moment", ["start", "service"])
def test_process_1_of_a_container_ends_with_sigterm(clusters, moment):
    """The kernel gives process 1 no signal that it does not handle."""
    if not can_make_namespaces():
        pytest.skip("a namespace of process ids needs root and unshare")
    cluster = clusters(1, start=False)
    node = cluster[1]
    if moment == "start":
        fifo_instead_of(node.data_dir / "meta.properties")
    node.start(under=["unshare", "-p", "-f", "--kill-child"])
    server = wait_for("the server inside", lambda: inside(node.pid))
    if moment == "start":
        wait_for("the start to stand still", lambda: stands_in_open(server))
    else:
        node.wait_ready()
    status = Path(f"/proc/{server}/status").read_text()
    assert re.search(r"^NSpid:.*\t1$", status, re.M), status
    os.kill(server, signal.SIGTERM)
    assert node.wait_exit() == 0, node.stderr()
    assert "SIGTERM received" in node.stderr()


def test_a_limit_of_cpu_time_stops_in_good_order(clusters):
    cluster = clusters(1)
    node = cluster[1]
    node.signal(signal.SIGXCPU)
    assert node.wait_exit() == 0
    assert "ulimit -t" in node.stderr()


def test_a_crowd_that_asks_http_nothing_does_not_hide_that_it_lives(clusters):
    node = clusters(1)[1]
    for _ in range(3):
        crowd = [socket.create_connection(("127.0.0.1", node.http_port)) for _ in range(80)]
        assert node.http_now("/live", timeout_s=20)[0] == 200
        assert node.http_now("/ready", timeout_s=20)[0] == 200
        for connection in crowd:
            connection.close()


# ------------------------------------------------------------------------------------- programs that print and end

def run_with(stdout, stderr, *command):
    return subprocess.run([*map(str, command)], stdin=subprocess.DEVNULL, stdout=stdout, stderr=stderr, timeout=60).returncode


def test_no_program_panics_because_its_reader_has_gone(scratch, broken_pipe):
    config = properties(scratch)
    assert run_with(broken_pipe, subprocess.PIPE, SERVER, config, "--print-config") == 128 + signal.SIGPIPE
    assert run_with(broken_pipe, broken_pipe, SERVER, config, "--print-config") == 128 + signal.SIGPIPE
    assert run_with(broken_pipe, broken_pipe, SERVER, "--help") == 128 + signal.SIGPIPE
    # What is wrong is told by the exit code too.
    assert run_with(broken_pipe, broken_pipe, SERVER, scratch / "absent.properties") == 1
    assert run_with(broken_pipe, broken_pipe, SIMULATOR, "--seed", 1) == 128 + signal.SIGPIPE
    assert run_with(broken_pipe, broken_pipe, DUMP_LOG, scratch / "absent.log") == 1


def test_an_answer_that_finds_no_room_is_told(scratch):
    with open("/dev/full", "wb") as full:
        done = subprocess.run([str(SERVER), str(properties(scratch)), "--print-config"], stdin=subprocess.DEVNULL, stdout=full,
                              stderr=subprocess.PIPE, text=True, timeout=60)
    assert done.returncode == 74 and os.strerror(errno.ENOSPC) in done.stderr, done


def test_a_refused_start_ends_though_nobody_reads_why(scratch, full_pipe):
    assert run_with(full_pipe, full_pipe, SERVER, properties(scratch, node_id=None)) == 1
