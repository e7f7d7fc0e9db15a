"""What a node is told: every mistake is named in one line; every value can be shown with its origin."""

import os
import re
import subprocess

import pytest

import raw
from cluster import CLUSTER_ID, PATIENCE_S, SERVER, free_port


def properties(directory, **changes):
    """A good configuration with some keys changed (None removes one), as a file; keys with _ for their dots."""
    port = free_port()
    keys = {"node.id": 1, "listeners": f"PLAINTEXT://localhost:{port}", "controller.quorum.voters": f"1@localhost:{port}",
            "log.dirs": directory / "data"}
    for key, value in changes.items():
        keys[key.replace("_", ".")] = value
    file = directory / "server.properties"
    file.write_text("# a comment\n" + "".join(f"{key}={value}\n" for key, value in keys.items() if value is not None))
    return file


def run_server(*arguments, env=None, timeout_s=PATIENCE_S):
    return subprocess.run([str(SERVER), *map(str, arguments)], capture_output=True, text=True, timeout=timeout_s,
                          stdin=subprocess.DEVNULL, env={**os.environ, **(env or {})})


def error_lines(text):
    return [line for line in text.splitlines() if line.strip() and not re.search(r"\b(INFO|WARN|DEBUG)\b", line)]


def check_refused(arguments, *wanted, env=None):
    """Exit code 1, and what must be in its one line."""
    done = run_server(*arguments, env=env)
    assert done.returncode == 1, f"exit code {done.returncode}\n{done.stderr}"
    assert "panicked" not in done.stderr
    matching = [line for line in error_lines(done.stderr) if all(re.search(pattern, line) for pattern in wanted)]
    assert len(matching) == 1, f"one line with {wanted} was expected in:\n{done.stderr}"
    return matching[0]


WRONG = {
    "missing node id": (dict(node_id=None), [r"node\.id"]),
    "node id is no number": (dict(node_id="one"), [r"node\.id=one", r"server\.properties:\d+"]),
    "negative node id": (dict(node_id=-1), [r"node\.id=-1", r"server\.properties:\d+"]),
    "node id not among the voters": (dict(node_id=7), [r"node\.id=7", r"server\.properties:2", r"voters"]),
    "no voters": (dict(controller_quorum_voters=None), [r"controller\.quorum\.voters"]),
    "duplicate voter": (dict(controller_quorum_voters="1@localhost:9092,1@localhost:9093"),
                        [r"controller\.quorum\.voters=1@localhost:9092,1@localhost:9093", r"server\.properties:\d+", r"twice|duplicate"]),
    "voter without a port": (dict(controller_quorum_voters="1@localhost"), [r"controller\.quorum\.voters=1@localhost", r":\d+"]),
    "bad port": (dict(listeners="PLAINTEXT://localhost:99999"), [r"listeners=PLAINTEXT://localhost:99999", r"server\.properties:\d+", r"99999"]),
    "bad URL": (dict(listeners="localhost-9092"), [r"listeners=localhost-9092", r"server\.properties:\d+"]),
    "listener not on a local address": (dict(listeners="PLAINTEXT://192.0.2.1:9092"),
                                        [r"listeners=PLAINTEXT://192\.0\.2\.1:9092", r"server\.properties:\d+", r"192\.0\.2\.1.*address"]),
    "two log dirs": (dict(log_dirs="/tmp/a,/tmp/b"), [r"log\.dirs=/tmp/a,/tmp/b", r"server\.properties:\d+"]),
    "no log dir": (dict(log_dirs=None), [r"log\.dirs"]),
    "log dir is not writable": (dict(log_dirs="/proc/kraft"), [r"log\.dirs=/proc/kraft", r"server\.properties:\d+"]),
    "log dir is a file": (dict(log_dirs="/etc/hostname"), [r"log\.dirs=/etc/hostname", r"server\.properties:\d+"]),
    "bad number": (dict(message_max_bytes="many"), [r"message\.max\.bytes=many", r"server\.properties:\d+"]),
    "number out of bounds": (dict(controller_quorum_election_timeout_ms=0), [r"controller\.quorum\.election\.timeout\.ms=0", r"server\.properties:\d+"]),
    "TLS asked for": (dict(listeners="SSL://localhost:9092"), [r"listeners=SSL://localhost:9092", r"PLAINTEXT"]),
    "bad cpus": (dict(kraft_cpus="zero"), [r"kraft\.cpus=zero", r"server\.properties:\d+"]),
    "bad wait": (dict(kraft_wait="snooze"), [r"kraft\.wait=snooze", r"sleep or spin"]),
}


@pytest.mark.parametrize("changes, wanted", WRONG.values(), ids=WRONG.keys())
def test_mistakes_are_named_in_one_line(scratch, changes, wanted):
    check_refused([properties(scratch, **changes)], *wanted)


def test_missing_file(scratch):
    check_refused([scratch / "absent.properties"], r"absent\.properties")


def test_directory_of_another_cluster(clusters, scratch):
    cluster = clusters(1)
    cluster[1].stop()
    check_refused([cluster[1].config_file, "--override", "kraft.cluster.id=5L6g3nShT-eMCtK--X86sw"],
                  r"5L6g3nShT-eMCtK--X86sw", CLUSTER_ID, r"meta\.properties")


def test_directory_of_another_node(clusters):
    cluster = clusters(2, start=False)
    cluster[1].start(), cluster[2].start()
    cluster.wait_ready()
    for node in cluster:
        node.stop()
    check_refused([cluster[2].config_file, "--override", f"log.dirs={cluster[1].data_dir}"], r"meta\.properties", r"\b1\b", r"\b2\b")


def test_unknown_key_warns_and_names_the_nearest(clusters):
    cluster = clusters(1, overrides={"controller.quorum.elektion.timeout.ms": 1000, "num.partitions": 3})
    log = cluster[1].stderr()
    assert re.search(r"WARN.*controller\.quorum\.elektion\.timeout\.ms.*controller\.quorum\.election\.timeout\.ms", log), log
    assert not re.search(r"WARN.*num\.partitions", log), "Kafka's own keys are no mistake"


def test_precedence_of_flag_override_environment_file(scratch):
    file = properties(scratch, message_max_bytes=100001, socket_request_max_bytes=50000001, max_connections=51)
    done = run_server("--config", file, "--override", "message.max.bytes=100003", "--print-config", env={
        "KAFKA_MESSAGE_MAX_BYTES": "100002", "KAFKA_SOCKET_REQUEST_MAX_BYTES": "50000002", "KAFKA_HEAP_OPTS": "-Xmx1G"})
    assert done.returncode == 0, done.stderr
    shown = {line.split("=", 1)[0].strip(): line for line in done.stdout.splitlines() if "=" in line}
    assert "100003" in shown["message.max.bytes"] and "override" in shown["message.max.bytes"]
    assert "50000002" in shown["socket.request.max.bytes"] and "KAFKA_SOCKET_REQUEST_MAX_BYTES" in shown["socket.request.max.bytes"]
    assert re.search(r"51\b.*server\.properties:\d+", shown["max.connections"])
    assert re.search(r"1000\b.*default", shown["controller.quorum.election.timeout.ms"])


def test_environment_alone_is_a_configuration(scratch):
    port = free_port()
    done = run_server("--print-config", env={
        "KAFKA_NODE_ID": "3", "KAFKA_LISTENERS": f"PLAINTEXT://localhost:{port}",
        "KAFKA_CONTROLLER_QUORUM_VOTERS": f"3@localhost:{port}", "KAFKA_LOG_DIRS": str(scratch / "data")})
    assert done.returncode == 0, done.stderr
    assert re.search(r"node\.id\s*=\s*3\b.*KAFKA_NODE_ID", done.stdout), done.stdout


def test_print_config_starts_and_writes_nothing(scratch):
    done = run_server(properties(scratch), "--print-config")
    assert done.returncode == 0
    assert not (scratch / "data" / "meta.properties").exists()


def test_version_and_help():
    assert re.search(r"\d+\.\d+\.\d+", run_server("--version").stdout)
    text = run_server("--help").stdout
    for option in ("--config", "--override", "--cpus", "--replica-directory-id", "--print-config", "--version"):
        assert option in text


def test_replica_directory_id(clusters):
    cluster = clusters(1, start=False)
    cluster[1].start("--replica-directory-id", "b8tRS7h4TJ2Vt43Dp85v2A")
    cluster.wait_ready()
    meta = (cluster[1].data_dir / "meta.properties").read_text()
    assert re.search(r"^directory\.id=b8tRS7h4TJ2Vt43Dp85v2A$", meta, re.M), meta
    assert re.search(r"^node\.id=1$", meta, re.M) and re.search(rf"^cluster\.id={CLUSTER_ID}$", meta, re.M)
    assert re.search(r"^version=1$", meta, re.M)


def test_second_process_on_a_directory_names_the_holder(clusters):
    cluster = clusters(1)
    other_port = free_port()
    check_refused([cluster[1].config_file, "--override", f"listeners=PLAINTEXT://localhost:{other_port}",
                   "--override", f"quorum.voters=1@localhost:{other_port}",
                   "--override", f"kraft.http.listener=127.0.0.1:{free_port()}"],
                  re.escape(str(cluster[1].data_dir)), rf"\b{cluster[1].pid}\b")
    assert cluster[1].is_ready()


def test_port_in_use(clusters, scratch):
    cluster = clusters(1)
    check_refused([cluster[1].config_file, "--override", f"log.dirs={scratch / 'data'}",
                   "--override", f"kraft.http.listener=127.0.0.1:{free_port()}"], rf"\b{cluster[1].port}\b")
    # No silent sharing: all connections still reach the first node.
    for _ in range(20):
        with raw.Connection(cluster[1].port) as connection:
            assert connection.is_alive()
