"""The commands of the first Raft README, as its users typed them, against the files that are shipped."""

import os
import re
import shutil
import socket
import subprocess
import time

import pytest

import kafka_tools
from cluster import PATIENCE_S, REPOSITORY, STEADY, die_with_parent, free_port, wait_for

# As the README's here-documents append them: with the leading spaces of its Markdown, keys repeated.
APPENDED = """
    
    broker.id={id}
    listeners=PLAINTEXT://localhost:{port}
    quorum.voters=1@localhost:{p1},2@localhost:{p2},3@localhost:{p3}
    log.dirs={data}
    
    zookeeper.connect=localhost:2181
"""
SEED_PORTS = (9092, 9093, 9094)
SEED_HTTP_PORTS = (9192, 9193, 9194)
SEED_DIRS = ("/tmp/raft-logs", "/tmp/raft-logs-1", "/tmp/raft-logs-2", "/tmp/raft-logs-3")


def port_is_taken(port):
    with socket.socket() as s:
        s.settimeout(1)
        return s.connect_ex(("127.0.0.1", port)) == 0


def start_script(config, *arguments, log):
    """bin/test-raft-server-start.sh, which becomes the server: its pid is the server's."""
    with open(log, "ab") as out:
        return subprocess.Popen(["bin/test-raft-server-start.sh", str(config), *arguments], cwd=REPOSITORY,
                                stdin=subprocess.DEVNULL, stdout=out, stderr=out, preexec_fn=die_with_parent)


def wait_listening(process, port, log):
    def listening():
        assert process.poll() is None, f"exit code {process.returncode}:\n{log.read_text()[-3000:]}"
        return port_is_taken(port)
    wait_for(f"port {port} to be open", listening)


@pytest.fixture
def processes():
    started = []
    yield started
    for process in started:
        if process.poll() is None:
            process.terminate()
    for process in started:
        try:
            process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def run_seed_clients(port, producer_config, messages):
    """The README's two client commands, but for the number of messages and the pause between them."""
    verified = kafka_tools.run(
        "./bin/kafka-run-class.sh", "org.apache.kafka.tools.VerifiableProducer", "--bootstrap-server",
        f"http://localhost:{port}", "--topic", "__cluster_metadata", "--max-messages", messages, "--throughput", 200,
        "--producer.config", producer_config).check()
    assert f'"sent":{messages},"acked":{messages}' in verified.out
    offsets = list(kafka_tools.Verified.parse(verified.out).acked.values())
    assert min(offsets) >= 1, "offset 0 is the leader-change record, and -1 is what the first server told"
    assert len(set(offsets)) == messages
    perf = kafka_tools.run(
        "./bin/kafka-producer-perf-test.sh", "--topic", "__cluster_metadata", "--num-records", "2000", "--throughput", "-1",
        "--record-size", "10", "--producer.config", producer_config).check()
    assert re.search(r"2000 records sent, .* records/sec", perf.out), perf.out


@pytest.fixture
def seed_ports_or_skip():
    taken = [str(port) for port in SEED_PORTS + SEED_HTTP_PORTS if port_is_taken(port)]
    if taken:
        pytest.skip("!!! NOT RUN VERBATIM: port " + ", ".join(taken) + " is in use, which the shipped files name; "
                    "the same commands ran on other ports")
    there = [path for path in SEED_DIRS if (REPOSITORY / path).exists()]
    if there:
        pytest.skip(f"!!! NOT RUN VERBATIM: {', '.join(there)} exists, and is not this test's to write to; "
                    "the same commands ran on other directories")
    yield
    for path in SEED_DIRS:
        shutil.rmtree(path, ignore_errors=True)


def test_one_voter_as_shipped(seed_ports_or_skip, processes, scratch):
    log = scratch / "server.log"
    processes.append(start_script("config/raft.properties", log=log))
    wait_listening(processes[0], 9092, log)
    run_seed_clients(9092, "config/producer.properties", messages=200)
    assert "zookeeper.connect" in log.read_text(), "that the key is ignored must be said"


def test_three_voters_as_shipped(seed_ports_or_skip, processes, scratch):
    logs = [scratch / f"server-{n}.log" for n in (1, 2, 3)]
    for n, log in enumerate(logs, start=1):
        processes.append(start_script(f"config/raft-quorum-{n}.properties", log=log))
    for process, port, log in zip(processes, SEED_PORTS, logs):
        wait_listening(process, port, log)
    run_seed_clients(9092, "config/producer.properties", messages=200)


@pytest.mark.parametrize("onto", ["a new file", "the shipped file"])
def test_three_voters_with_the_lines_that_the_readme_appends(onto, processes, scratch):
    """On free ports: the shipped files, where appended to, are overridden by their last lines."""
    p1, p2, p3 = ports = [free_port() for _ in range(3)]
    # kafka-verifiable-producer tries nothing twice: no election may come between.
    steady = [part for key, value in STEADY.items() for part in ("--override", f"{key}={value}")]
    for n, port in enumerate(ports, start=1):
        config, log = scratch / f"raft-quorum-{n}.properties", scratch / f"server-{n}.log"
        if onto == "the shipped file":
            shutil.copy(REPOSITORY / f"config/raft-quorum-{n}.properties", config)
        with config.open("a") as file:
            file.write(APPENDED.format(id=n, port=port, p1=p1, p2=p2, p3=p3, data=scratch / f"data-{n}"))
        # The shipped files may open an HTTP port, which another quorum on this machine may have.
        processes.append(start_script(config, "--override", f"kraft.http.listener=127.0.0.1:{free_port()}", *steady, log=log))
    for n, (process, port) in enumerate(zip(processes, ports), start=1):
        wait_listening(process, port, scratch / f"server-{n}.log")
    shipped = (REPOSITORY / "config/producer.properties").read_text()
    producer_config = scratch / "producer.properties"
    producer_config.write_text(re.sub(r"(?m)^\s*bootstrap\.servers\s*=.*$", f"bootstrap.servers=localhost:{p1}", shipped))
    run_seed_clients(p1, producer_config, messages=500)
    assert "zookeeper.connect" in (scratch / "server-1.log").read_text()
    for process in processes:
        process.terminate()
    assert [process.wait(PATIENCE_S) for process in processes] == [0, 0, 0]


def test_one_voter_on_another_port(processes, scratch):
    port, http, log = free_port(), free_port(), scratch / "server.log"
    processes.append(start_script(
        "config/raft.properties", "--override", f"listeners=PLAINTEXT://localhost:{port}",
        "--override", f"quorum.voters=0@localhost:{port}", "--override", f"log.dirs={scratch / 'data'}",
        "--override", f"kraft.http.listener=127.0.0.1:{http}", log=log))
    wait_listening(processes[0], port, log)
    producer_config = scratch / "producer.properties"
    producer_config.write_text(f"bootstrap.servers=localhost:{port}\ncompression.type=none\n")
    run_seed_clients(port, producer_config, messages=100)


def test_start_script_works_from_any_directory(scratch):
    config = scratch / "server.properties"
    config.write_text(f"node.id=1\nlisteners=PLAINTEXT://localhost:{free_port()}\n"
                      f"controller.quorum.voters=1@localhost:9999\nlog.dirs={scratch / 'data'}\n")
    done = subprocess.run([str(REPOSITORY / "bin/test-raft-server-start.sh"), "server.properties", "--print-config"],
                          cwd=scratch, capture_output=True, text=True, timeout=PATIENCE_S)
    assert done.returncode == 0, done.stderr
    assert re.search(r"node\.id\s*=\s*1\b", done.stdout), done.stdout


def test_start_script_in_the_background(scratch):
    port = free_port()
    config = scratch / "server.properties"
    config.write_text(f"node.id=1\nlisteners=PLAINTEXT://localhost:{port}\n"
                      f"controller.quorum.voters=1@localhost:{port}\nlog.dirs={scratch / 'data'}\n")
    done = subprocess.run([str(REPOSITORY / "bin/test-raft-server-start.sh"), "-daemon", str(config)], capture_output=True,
                          text=True, timeout=PATIENCE_S, env={**os.environ, "LOG_DIR": str(scratch / "logs")})
    assert done.returncode == 0, done.stderr
    pid = int(re.search(r"pid (\d+)", done.stdout)[1])
    try:
        wait_for("the port to open", lambda: port_is_taken(port))
    finally:
        os.kill(pid, 15)
    wait_for("the server to stop", lambda: not port_is_taken(port))


def test_todays_dialect(clusters):
    cluster = clusters(3, dialect="today")
    kafka_tools.produce_verified(cluster.bootstrap, 100)


def test_election_from_empty_directories(clusters):
    cluster = clusters(3, start=False)
    began = time.monotonic()
    for node in cluster:
        node.start()
    leader = cluster.leader()
    print(f"{time.monotonic() - began:.2f} s from the start of the processes to a leader")
    cluster.wait_caught_up()
    assert {status["leader_id"] for status in cluster.statuses().values()} == {leader.node_id}
