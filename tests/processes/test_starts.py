"""What keeps a node from starting, or takes something away from it: each is told by name, and by the exit code of README."""

import errno
import os
import platform
import re
import shutil
import stat
import subprocess
import sys
import typing

import pytest

import kafka_tools
import raw
from cluster import PATIENCE_S, SERVER, die_with_parent, wait_for
from test_configuration import error_lines

EXIT_CONFIG, EXIT_DISK, EXIT_KERNEL = 1, 74, 78
NOBODY = 65534


# ------------------------------------------------------------------------------------------------------- the disk

@pytest.fixture
def mounted(scratch):
    """mounted("size=1m") is a file system in memory, for this test alone."""
    if os.geteuid() != 0:
        pytest.skip("a file system of its own needs root")
    mounts = []

    def mount(options):
        place = scratch / f"mount-{len(mounts)}"
        place.mkdir()
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", options, "kraft-test", str(place)], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.skip(f"no mounts here: {done.stderr}")
        mounts.append(place)
        return place
    yield mount
    for place in mounts:
        subprocess.run(["umount", "-l", str(place)], check=False)


def fill(directory):
    """Nothing more fits, not even a byte."""
    size = 1 << 20
    with open(directory / "filling", "ab", buffering=0) as file:
        while size:
            try:
                file.write(bytes(size))
            except OSError:
                size //= 2


def start_in(clusters, directory, *arguments):
    cluster = clusters(1, start=False)
    return cluster[1].start("--override", f"log.dirs={directory}", *arguments)


def check_ended(node, code, *wanted):
    assert node.wait_exit() == code, node.stderr()[-3000:]
    assert "panicked" not in node.stderr()
    lines = [line for line in node.stderr().splitlines() if all(re.search(pattern, line) for pattern in wanted)]
    assert lines, f"no line with {wanted} in:\n{node.stderr()[-3000:]}"


@pytest.mark.parametrize("files_there", [False, True], ids=["an empty directory", "a directory with a log"])
def test_a_start_on_a_full_disk(clusters, mounted, files_there):
    # More than kraft.disk.free.min.bytes, below which a node is not ready.
    disk = mounted("size=128m")
    data = disk / "data"
    if files_there:
        node = start_in(clusters, data, "--override", "metadata.log.segment.bytes=4194304").wait_ready()
        assert node.stop() == 0
    fill(disk)
    node = start_in(clusters, data)
    check_ended(node, EXIT_DISK, r"(?i)the file system is full: free space")
    assert "may write" not in node.stderr(), "nobody lacks a right"


def test_a_start_without_inodes(clusters, mounted):
    disk = mounted("nr_inodes=20")
    (disk / "data").mkdir()
    for n in range(20):
        try:
            (disk / f"file-{n}").touch()
        except OSError:
            break
    node = start_in(clusters, disk / "data")
    check_ended(node, EXIT_DISK, r"no inode left.*\(0 of 20 are free", r"log\.dirs")


def test_inodes_that_end_during_the_start_are_told_too(clusters, mounted):
    disk = mounted("nr_inodes=6")
    node = start_in(clusters, disk / "data")
    check_ended(node, EXIT_DISK, r"no inode left.*\(0 of 6 are free")


def test_a_start_on_a_read_only_file_system(clusters, mounted):
    disk = mounted("size=16m")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for data in (disk, disk / "data"):
        check_ended(start_in(clusters, data), EXIT_DISK, r"(?i)read-only", r"mount it writable", r"log\.dirs=")


def test_a_directory_without_rights_is_the_configuration(clusters, scratch):
    data = scratch / "closed"
    data.mkdir()
    node = clusters(1, start=False)[1]
    node.properties["log.dirs"] = str(data)
    node.write_config()
    done = run_as_nobody(node, scratch)
    assert done.returncode == EXIT_CONFIG, done.stderr
    assert any("Give the node a directory that its user may write" in line for line in error_lines(done.stderr)), done.stderr


# ------------------------------------------------------------------------------------------------------ the limits

def test_a_file_size_limit_is_told_as_what_it_is(clusters, scratch):
    """The server itself ignores SIGXFSZ, whatever its launcher does."""
    node = clusters(1, start=False)[1].start(under=["prlimit", f"--fsize={4 << 10}"])
    check_ended(node, EXIT_DISK, r"ulimit -f")


@pytest.mark.parametrize("at_the_start, later", [(8 << 20, None), (20 << 20, 1 << 20)], ids=["below a segment", "lowered"])
def test_a_file_size_limit_that_is_reached_later_is_told_too(clusters, at_the_start, later):
    cluster = clusters(1, start=False, overrides={"metadata.log.segment.bytes": 16 << 20})
    node = cluster[1].start(under=["prlimit", f"--fsize={at_the_start}"]).wait_ready()
    assert (f"Files of this process may have {at_the_start} bytes" in node.stderr()) == (later is None), node.stderr()
    if later:
        subprocess.run(["prlimit", "--pid", str(node.pid), f"--fsize={later}"], check=True)
    acknowledged = []
    try:
        with raw.Connection(node.port) as connection:
            for n in range(100):
                if connection.produce(raw.batch(bytes(512 << 10))).error == raw.NONE:
                    acknowledged.append(n)
    except (raw.Closed, OSError):
        pass
    check_ended(node, EXIT_DISK, r"ulimit -f")
    node.start().wait_ready()
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) >= len(acknowledged)


class Ended(typing.NamedTuple):
    worked: bool
    returncode: int
    stderr: str


def run_as_nobody(node, scratch, *limits):
    """A user whom limits bind, and who may read the program: it is copied to where he may go."""
    if os.geteuid() != 0:
        pytest.skip("to be another user needs root")
    open_to_all = [path for path in (scratch, *scratch.parents) if not path.stat().st_mode & stat.S_IXOTH]
    if open_to_all[1:]:
        pytest.skip(f"another user may not enter {open_to_all}")
    scratch.chmod(0o755)
    server, config = scratch / "kraft-server", scratch / "nobody.properties"
    shutil.copy(SERVER, server)
    server.chmod(0o755)
    shutil.copy(node.config_file, config)
    config.chmod(0o644)
    said = scratch / "said"
    with said.open("wb") as err:
        process = subprocess.Popen(["prlimit", *limits, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups",
                                    str(server), str(config)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=err,
                                   preexec_fn=die_with_parent)
    try:
        wait_for("the start to end one way or the other", lambda: process.poll() is not None or "ready: listening" in said.read_text())
        works = process.poll() is None
        process.terminate()
        code = process.wait(PATIENCE_S)
    finally:
        process.kill()
    return Ended(works and code == 0, code, said.read_text())


@pytest.fixture
def nobodys_node(clusters, scratch):
    node = clusters(1, start=False)[1]
    data = scratch / "data"
    data.mkdir()
    os.chown(data, NOBODY, NOBODY)
    node.properties["log.dirs"] = str(data)
    node.write_config()
    return node


def threads_of_nobody():
    """Processes of that user that run already count against his limit."""
    done = subprocess.run(["ps", "-L", "-u", str(NOBODY), "-o", "lwp="], capture_output=True, text=True)
    return len(done.stdout.split())


@pytest.mark.parametrize("more", range(0, 14))
def test_each_thread_that_a_start_does_not_get_is_told_with_the_limit(nobodys_node, scratch, more):
    limit = threads_of_nobody() + 1 + more
    done = run_as_nobody(nobodys_node, scratch, f"--nproc={limit}", "--fsize=unlimited", "--nofile=4096")
    assert "panicked" not in done.stderr
    if more >= 11 and done.worked:
        return
    assert done.returncode == EXIT_KERNEL, done
    assert re.search(rf"no thread can be started.* Processes and threads of this user: {limit} \(ulimit -u", done.stderr), done.stderr


@pytest.mark.parametrize("kib", [0, 64, 512, 1024])
def test_a_limit_of_locked_memory_is_told_or_lived_with(clusters, nobodys_node, scratch, kib):
    """The kernel counts rings or does not, by its version: either the start is refused by name, or it works."""
    done = run_as_nobody(nobodys_node, scratch, f"--memlock={kib << 10}")
    if done.worked:
        assert kib >= 512
        return
    assert done.returncode == EXIT_KERNEL and re.search(rf"(?i)memlock limit is {kib} KiB|ulimit -l", done.stderr), done.stderr


@pytest.mark.parametrize("files", [16, 64, 143])
def test_a_limit_of_descriptors_is_told_with_its_number(clusters, files):
    node = clusters(1, start=False)[1].start(under=["prlimit", f"--nofile={files}"])
    check_ended(node, EXIT_KERNEL, rf"limit of open files is {files}, and \d+ are needed")


@pytest.mark.parametrize("limit, letter, mib", [("as", "v", 64), ("as", "v", 128), ("as", "v", 256)]
                         + [("data", "d", mib) for mib in (4, 16, 32, 64, 128)])
def test_a_limit_of_memory_is_told_or_lived_with(clusters, limit, letter, mib):
    node = clusters(1, start=False)[1].start(under=["prlimit", f"--{limit}={mib << 20}"])
    wait_for("the start to end one way or the other", lambda: not node.is_running() or node.is_ready())
    if node.is_running():
        assert node.stop() == 0
    else:
        check_ended(node, EXIT_KERNEL, rf"ulimit -{letter}", str(mib << 20))


FORBIDS = """
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
LOAD, EQUALS, RETURN = 0x20, 0x15, 0x06
ALLOW, ERRNO = 0x7FFF0000, 0x00050000 | int(sys.argv[1])
rules = [(LOAD, 0, 0, 0)]
for call in sys.argv[2].split(","):
    rules += [(EQUALS, 0, 1, int(call)), (RETURN, 0, 0, ERRNO)]
rules.append((RETURN, 0, 0, ALLOW))
code = b"".join(struct.pack("HBBI", *rule) for rule in rules)
buffer = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(buffer))
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, ctypes.c_char_p(program), 0, 0) == 0, os.strerror(ctypes.get_errno())
os.execvp(sys.argv[3], sys.argv[3:])
"""
# Of io_uring's calls and of clone3 they are the same on all architectures.
IO_URING_SETUP, IO_URING_ENTER, IO_URING_REGISTER, CLONE3 = 425, 426, 427, 435
CLONE = {"x86_64": 56, "aarch64": 220}.get(platform.machine())


def start_forbidden(clusters, number, *calls):
    return clusters(1, start=False)[1].start(under=[sys.executable, "-c", FORBIDS, number, ",".join(map(str, calls))])


@pytest.mark.parametrize("number, words", [(errno.ENOSYS, r"podman"), (errno.EPERM, r"forbidden here")], ids=["ENOSYS", "EPERM"])
def test_a_sandbox_that_hides_io_uring_is_told_from_an_old_kernel(clusters, number, words):
    check_ended(start_forbidden(clusters, number, IO_URING_SETUP), EXIT_KERNEL, words, r"seccomp filter is in force",
                r"allow io_uring_setup")


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM], ids=["ENOSYS", "EPERM"])
@pytest.mark.parametrize("call", [IO_URING_ENTER, IO_URING_REGISTER])
def test_a_sandbox_that_lets_nobody_use_a_ring_is_not_taken_for_an_old_kernel(clusters, call, number):
    check_ended(start_forbidden(clusters, number, call), EXIT_KERNEL, r"seccomp filter is in force",
                r"allow io_uring_setup, io_uring_enter and io_uring_register")


@pytest.mark.skipif(CLONE is None, reason="the number of clone is not known here")
def test_a_sandbox_that_forbids_threads_is_told(clusters):
    check_ended(start_forbidden(clusters, errno.EPERM, CLONE, CLONE3), EXIT_KERNEL, r"seccomp filter is in force", r"allow clone, clone3")


# ------------------------------------------------------------------------------------------- files and who reads them

def test_files_are_not_for_everybody(clusters, scratch):
    cluster = clusters(1, start=False)
    data = scratch / "made" / "data"
    node = cluster[1]
    node.properties["log.dirs"] = str(data)
    node.write_config()
    mask = os.umask(0o022)
    try:
        node.start().wait_ready()
    finally:
        os.umask(mask)
    kafka_tools.produce_verified(cluster.bootstrap, 100)
    assert node.stop() == 0
    paths = [data.parent, data, *data.rglob("*")]
    assert {"meta.properties", "commit-mark", "quorum-state", "00000000000000000000.log"} <= {path.name for path in paths}
    assert any(path.suffix == ".hlog" for path in paths)
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o750 if path.is_dir() else 0o640), f"{path}: {mode:o}"


def test_a_directory_that_is_there_keeps_its_mode(clusters):
    node = clusters(1, start=False)[1]
    node.data_dir.chmod(0o755)
    node.start().wait_ready()
    assert stat.S_IMODE(node.data_dir.stat().st_mode) == 0o755


LINKS = ["meta.properties.tmp", "__cluster_metadata-0/quorum-state.tmp", "__cluster_metadata-0/partition.metadata.tmp",
         "__cluster_metadata-0/leader-epoch-checkpoint.tmp", "__cluster_metadata-0/durable-write.probe"]


def test_no_link_is_followed_out_of_the_directory(clusters, scratch):
    cluster = clusters(1, start=False)
    node = cluster[1]
    elsewhere = scratch / "elsewhere"
    elsewhere.write_text("somebody else's")
    node.partition_dir.mkdir()
    for link in LINKS:
        (node.data_dir / link).symlink_to(elsewhere)
    node.start().wait_ready()
    kafka_tools.produce_verified(cluster.bootstrap, 10)
    assert node.stop() == 0
    assert elsewhere.read_text() == "somebody else's"
    assert not any((node.data_dir / link).is_symlink() for link in LINKS)


@pytest.mark.parametrize("name", [".lock", "__cluster_metadata-0/commit-mark"])
def test_a_link_where_a_file_is_to_be_made_is_refused_by_name(clusters, scratch, name):
    """These are not replaced but opened: what they point at must not be written to."""
    node = clusters(1, start=False)[1]
    elsewhere = scratch / "elsewhere"
    node.partition_dir.mkdir()
    (node.data_dir / name).symlink_to(elsewhere)
    node.start()
    assert node.wait_exit() in (EXIT_CONFIG, EXIT_DISK), node.stderr()
    assert re.search(r"symbolic link", node.stderr()), node.stderr()
    assert not elsewhere.exists()


@pytest.mark.parametrize("with_mark", [True, False])
def test_segments_behind_links_are_read_and_written_as_they_are(clusters, scratch, with_mark):
    """As Kafka does; and a link that leads nowhere is no log without that segment."""
    cluster = clusters(1, overrides={"metadata.log.segment.bytes": 2 << 20})
    node, count = cluster[1], 8
    with raw.Connection(node.port) as connection:
        assert all(connection.produce(raw.batch(bytes(300 << 10))).error == raw.NONE for _ in range(count))
    assert node.stop() == 0
    elsewhere = scratch / "elsewhere"
    elsewhere.mkdir()
    for segment in sorted(node.partition_dir.glob("*.log")):
        shutil.move(segment, elsewhere / segment.name)
        segment.symlink_to(elsewhere / segment.name)
    if not with_mark:
        (node.partition_dir / "commit-mark").unlink()
    node.start().wait_ready()
    with raw.Connection(node.port) as connection:
        assert connection.produce(raw.batch(b"one more")).error == raw.NONE
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) == count + 1
    assert node.stop() == 0
    last = sorted(elsewhere.iterdir())[-1]
    last.rename(scratch / last.name)
    node.start()
    check_ended(node, EXIT_DISK, re.escape(last.name), r"No such file")
    (scratch / last.name).rename(last)
    node.start().wait_ready()
    assert len(kafka_tools.kcat_read(cluster.bootstrap)) == count + 1


@pytest.mark.parametrize("name, words", [("partition.metadata", "this file is empty.*remove it"), ("quorum-state", "quorum-state")])
def test_an_empty_file_is_called_empty(clusters, name, words):
    node = clusters(1)[1]
    assert node.stop() == 0
    (node.partition_dir / name).write_bytes(b"")
    node.start()
    assert node.wait_exit() != 0
    assert re.search(words, node.stderr()), node.stderr()[-2000:]
    assert "log.dirs of its own" not in node.stderr().rsplit("kraft ", 1)[-1]
