"""What a node shows of itself: banner, the line every five seconds, histograms, HTTP; and where it runs."""

import json
import os
import re
import signal
import subprocess

import pytest

import kafka_tools
import raw
from cluster import TOOLS_DIR, TOPIC, wait_for

LATENCY = TOOLS_DIR / "kraft-latency"
KAFKAS_LINE = re.compile(r"^Throughput \(bytes/second\): [\d.]+, Latency \(ms\): [\d.]+ p75 [\d.]+ p99 [\d.]+ p999", re.M)


def under_load(cluster, records=20000):
    kafka_tools.tool("kafka-producer-perf-test", "--topic", TOPIC, "--num-records", records, "--throughput", -1,
                     "--record-size", 100, "--bootstrap-server", cluster.bootstrap).check()


def test_kafkas_line_on_stdout_and_logs_on_stderr(quorum):
    under_load(quorum)
    wait_for("the line of five seconds", lambda: KAFKAS_LINE.search(quorum.leader().stdout()))
    assert not re.search(r"\b(INFO|WARN)\b", quorum.leader().stdout())
    # Kafka's form: [date] LEVEL message (logger)
    assert re.search(r"^\[\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}\] INFO .+ \(\S+\)$", quorum.leader().stderr(), re.M)


def test_hlog_becomes_table_hgrm_and_plot(clusters, scratch):
    cluster = clusters(3)
    under_load(cluster)
    leader = cluster.leader()
    assert leader.stop() == 0
    files = sorted(leader.data_dir.glob("latency-*.hlog"))
    assert files, list(leader.data_dir.iterdir())
    for file in files:
        text = file.read_text()
        assert text.startswith("#"), "HdrHistogram's log begins with comments"
        assert "HISTFAAA" in text, "no histogram in HdrHistogram's compressed encoding"
    table = kafka_tools.run(LATENCY, *files).check().out
    for word in ("flushed", "replicated", "answered", "p50", "p99", "max"):
        assert re.search(rf"(?i){word}", table), table
    counts = [int(n.replace(",", "")) for n in re.findall(r"\b\d[\d,]*\b", table)]
    assert max(counts) > 0
    hgrm, svg = scratch / "out.hgrm", scratch / "out.svg"
    kafka_tools.run(LATENCY, *files, "--hgrm", hgrm, "--svg", svg).check()
    written = list(scratch.glob("*.hgrm"))
    assert written and all("Percentile" in file.read_text() for file in written)
    assert "<svg" in svg.read_text()
    # The table at the stop is on the node's own output too.
    assert re.search(r"(?i)replicated", leader.stdout() + leader.stderr())


def test_kraft_latency_refuses_what_is_no_log(scratch):
    file = scratch / "not.hlog"
    file.write_text("not a histogram log\n")
    for path in (file, scratch / "absent.hlog"):
        output = kafka_tools.run(LATENCY, path)
        assert output.code != 0 and path.name in output.err and "panicked" not in output.err


def test_status(quorum):
    leader = quorum.leader()
    status = leader.status()
    assert status["node_id"] == status["leader_id"] == leader.node_id
    assert status["high_watermark"] <= status["log_end_offset"] and status["flushed_offset"] <= status["log_end_offset"]
    assert status["ready"] is True and len(status["voters"]) == 3
    for follower in quorum.followers():
        assert follower.status()["leader_id"] == leader.node_id and follower.status()["role"].lower() == "follower"


def test_http_endpoints(quorum):
    node = quorum.leader()
    assert node.http("/live")[0] == 200 and node.http("/ready")[0] == 200
    assert node.http("/nowhere")[0] == 404
    code, metrics = node.http("/metrics")
    assert code == 200 and re.search(r"^# TYPE \w+ ", metrics, re.M)
    assert re.search(r"high_watermark\S* \d+", metrics)
    for line in metrics.splitlines():
        assert line.startswith("#") or re.fullmatch(r'[a-zA-Z_:][\w:]*(\{.*\})? \S+( \d+)?', line), line
    code, latency = node.http("/latency")
    assert code == 200 and json.loads(latency)
    code, slow = node.http("/slow")
    assert code == 200 and json.loads(slow)["unit"] == "us"


def test_the_slowest_requests_are_told_stage_by_stage(clusters):
    cluster = clusters(1)
    kafka_tools.run(TOOLS_DIR / "kraft-perf", "--bootstrap-server", cluster.bootstrap, "--num-records", 200).check()
    told = lambda: json.loads(cluster[1].http("/slow")[1])["requests"]
    slow = wait_for("slow requests", told)
    took = [request["end_to_end"] for request in slow]
    assert took == sorted(took, reverse=True) and 8 <= len(slow) <= 32, slow
    for request in slow:
        parts = [request[stage] for stage in ("received_to_decoded", "decoded_to_appended", "appended_to_replicated", "committed_to_answered")]
        assert sum(parts) == pytest.approx(request["end_to_end"], abs=0.1) and request["appended_to_flushed"] >= 0, request


def test_http_is_off_unless_asked_for(clusters):
    cluster = clusters(1, start=False)
    node = cluster[1]
    port = node.http_port
    del node.properties["kraft.http.listener"]
    node.write_config()
    node.start()
    def answers():
        try:
            with raw.Connection(node.port) as connection:
                return connection.is_alive()
        except OSError:
            return False
    wait_for("the node to answer", answers)
    listening = subprocess.run(["ss", "-Hltnp"], capture_output=True, text=True, check=True).stdout
    ports = re.findall(rf":(\d+)\s.*pid={node.pid},", listening)
    assert set(ports) == {str(node.port)}, listening
    assert port != node.port


def test_http_stays_up_under_hostile_requests(quorum):
    node = quorum.leader()
    for data in (b"GET /" + b"a" * 100000 + b" HTTP/1.1\r\n\r\n", b"\0\0\0\x10", b"POST /status HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n",
                 b"GET /status HTTP/1.1\r\nX: " + b"y" * 70000):
        with raw.Connection(node.http_port) as connection:
            try:
                connection.send(data)
            except raw.Closed:
                pass
    with raw.Connection(node.http_port):
        # Sooner than a silent one is closed.
        assert node.http_now("/live", timeout_s=4), "one silent client holds up the others"


def test_banner(clusters):
    cluster = clusters(3)
    log = cluster[1].stderr()
    directory_id = re.search(r"directory\.id=(\S+)", (cluster[1].data_dir / "meta.properties").read_text())[1]
    assert directory_id in log
    for node in cluster:
        assert f"localhost:{node.port}" in log
    for pattern in (r"(?i)not pinned|unpinned", r"(?i)waits sleeping", r"(?i)durable writes:.*(direct|buffered)",
                    r"(?i)durable writes:.*\b32\b.*\bus\b", r"(?i)log:? starts? at \d+", r"(?i)ends? at \d+",
                    r"(?i)high watermark", r"(?i)epoch \d+", r"\d+\.\d+\.\d+"):
        assert re.search(pattern, log), f"{pattern} is not in the banner:\n{log}"


def affinities(pid):
    found = set()
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/status") as status:
                text = status.read()
        except (FileNotFoundError, ProcessLookupError):
            continue  # A worker thread that ended since the list was read.
        found.add(re.search(r"^Cpus_allowed_list:\s+(\S+)$", text, re.M)[1])
    return found


@pytest.mark.parametrize("wait", ["sleep", "spin"])
def test_cpus_pins_one_executor_to_each_core(clusters, wait):
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        pytest.skip("needs two cores")
    names = ",".join(map(str, cores))
    cluster = clusters(1, arguments=["--cpus", names], overrides={"kraft.wait": wait})
    assert {str(core) for core in cores} <= affinities(cluster[1].pid)
    # Clients land on either core: many connections, produce and fetch on each.
    connections = [raw.Connection(cluster[1].port) for _ in range(16)]
    told = [connection.produce(raw.batch(f"c{n}".encode())) for n, connection in enumerate(connections)]
    assert [answer.error for answer in told] == [raw.NONE] * 16
    assert len({answer.offset for answer in told}) == 16
    for connection, answer in zip(connections, told):
        assert connection.fetch(answer.offset).records
        connection.socket.close()
    kafka_tools.produce_verified(cluster.bootstrap, 1000)
    assert cluster[1].stop() == 0


def test_three_nodes_with_two_executors_each(clusters):
    cores = sorted(os.sched_getaffinity(0))[:2]
    if len(cores) < 2:
        pytest.skip("needs two cores")
    cluster = clusters(3, arguments=["--cpus", ",".join(map(str, cores))])
    kafka_tools.produce_verified(cluster.bootstrap, 1000)
    cluster.leader().kill()
    kafka_tools.produce_verified(cluster.bootstrap, 100)


def test_a_core_outside_the_mask_is_refused_with_the_mask(clusters):
    cluster = clusters(1, start=False)
    absent = max(os.sched_getaffinity(0)) + 1
    cluster[1].start("--cpus", str(absent))
    assert cluster[1].wait_exit() == 1
    assert re.search(rf"\b{absent}\b", cluster[1].stderr())


def test_json_logs(clusters):
    cluster = clusters(1, arguments=["--log-format", "json"])
    # The last one may be half written.
    lines = [line for line in cluster[1].stderr().split("\n")[:-1] if line.strip()]
    assert lines and all(isinstance(json.loads(line), dict) for line in lines)


def test_a_second_signal_stops_at_once(clusters):
    cluster = clusters(1)
    cluster[1].signal(signal.SIGTERM)
    if cluster[1].is_running():
        cluster[1].signal(signal.SIGTERM)
    cluster[1].wait_exit()
