"""kraft-perf against real nodes, and what it wrote read by Kafka's own consumer."""

import json
import os
import subprocess
import xml.etree.ElementTree

import kafka_tools
import pytest
from cluster import TOOLS_DIR, die_with_parent, wait_for

PERF = TOOLS_DIR / "kraft-perf"
CODECS = ["none", "gzip", "snappy", "lz4", "zstd"]
LINES = [f"line {n} " + "abc" * (n % 40) for n in range(50)]


def perf(cluster, *arguments):
    return json.loads(kafka_tools.run(PERF, "--bootstrap-server", cluster.bootstrap, "--json", "-", *arguments).check().out)


def test_every_codec_is_read_by_kafkas_consumer(clusters, scratch):
    """One batch of each codec from a payload file, with and without idempotence, in one log."""
    cluster = clusters(1)
    payload = scratch / "payload.txt"
    payload.write_text("\n".join(LINES))
    count = 0
    for codec in CODECS:
        for more in ([], ["--idempotent"]):
            value = perf(cluster, "--payload-file", payload, "--compression", codec, "--records-per-batch", 200, "--num-records", 200, *more)
            assert (value["records"], value["errors"], value["load"]["compression"]) == (200, {}, codec)
            count += 200
    records = kafka_tools.console_read(cluster.bootstrap, "--offset", "earliest", "--max-messages", count)
    assert len(records) == count and {line for _, line in records} <= set(LINES)
    assert len({line for _, line in records}) > len(LINES) / 2


@pytest.mark.parametrize("codec", CODECS)
def test_a_compressed_batch_is_smaller_and_counted_before(quorum, scratch, codec):
    payload = scratch / "payload.txt"
    payload.write_text("the same again\n" * 3)
    value = perf(quorum, "--payload-file", payload, "--compression", codec, "--records-per-batch", 1000, "--num-records", 2000)
    assert value["bytes"] == 2000 * len("the same again")
    assert (value["load"]["batch_bytes_max"] < 6000) == (codec != "none"), value["load"]


def test_every_output_of_an_open_loop_with_mixed_sizes(quorum, scratch):
    files = {kind: scratch / f"out.{kind}" for kind in ("json", "hlog", "hgrm", "svg")}
    output = kafka_tools.run(PERF, "--bootstrap-server", quorum.bootstrap, "--throughput", 500, "--record-size", "10:2000", "--clients", 4,
                             "--threads", 2, "--records-per-batch", 5, "--acks", 1, "--warmup", 0.5, "--duration", 2, "--progress",
                             *(part for kind, path in files.items() for part in (f"--{kind}", path))).check()
    assert "records sent" in output.out and "99.9th" in output.out, "kafka-producer-perf-test's line, then a table"
    assert sum("records/s" in line for line in output.err.splitlines()) >= 2, f"a line each second:\n{output.err}"
    value = json.loads(files["json"].read_text())
    assert value["latency"]["latency"]["count"] == value["latency"]["service"]["count"] > 0
    assert 10 <= value["bytes"] / value["records"] <= 2000
    assert files["hlog"].read_text().startswith("#[Histogram log format") and "HISTFAAA" in files["hlog"].read_text()
    assert "1/(1-Percentile)" in files["hgrm"].read_text()
    assert xml.etree.ElementTree.parse(files["svg"]).getroot().tag.endswith("svg")


def test_consumers_read_all_that_was_written_or_their_part_of_it(clusters):
    """Of a log that no cache holds whole; every consumer begins where it was told to."""
    cluster = clusters(1)
    nothing = kafka_tools.run(PERF, "consume", "--bootstrap-server", cluster.bootstrap, "--from", 10**6)
    assert nothing.code == 1 and "OFFSET_OUT_OF_RANGE" in nothing.err, nothing
    records = perf(cluster, "--record-size", 1024, "--records-per-batch", 64, "--in-flight", 4, "--num-records", 64_000)["records"]
    consume = lambda *flags: json.loads(kafka_tools.run(
        PERF, "consume", "--bootstrap-server", cluster.bootstrap, "--json", "-", *flags).check().out)
    everything = consume()
    assert everything["records"] > records == 64_000 and everything["bytes"] > 64_000 * 1024, everything
    assert everything["latency"]["latency"]["count"] >= 64, "a MiB each time"
    parts = consume("--clients", 4, "--from", 1000, "--step", 16_000, "--num-records", 1000)
    assert len(parts["bytes_per_second_of_each"]) == 4 and 4 * 1000 <= parts["records"] <= 4 * 4000, parts
    again = consume("--duration", 0.5, "--from", records - 100)
    assert again["records"] > 200 and again["seconds"] >= 0.5, "from where it began, until the time is over"


def test_a_record_is_on_its_way_to_all_who_wait_for_it(clusters):
    """One at a time: as many as were committed, and the last consumer is never before the first."""
    cluster = clusters(3)
    perf(cluster, "--num-records", 100)
    committed = lambda: cluster.leader().status()["high_watermark"]
    before = committed()
    value = json.loads(kafka_tools.run(PERF, "end-to-end", "--bootstrap-server", cluster.bootstrap, "--json", "-", "--consumers", 20,
                                       "--warmup", 0, "--duration", 0.5).check().out)
    latency = value["latency"]
    assert value["records"] > 0 and {latency[stage]["count"] for stage in ("acknowledged", "first", "last")} == {value["records"]}, value
    for percentile in ("min", "p50", "p99", "max"):
        assert 0 < latency["first"][percentile] <= latency["last"][percentile], value
    assert committed() - before == value["records"]


def test_duration_and_number_of_records_end_it_whichever_comes_first(quorum):
    few = perf(quorum, "--num-records", 10, "--duration", 30)
    assert few["records"] == 10 and few["seconds"] < 20
    short = perf(quorum, "--num-records", 10**9, "--duration", 0.5, "--warmup", 0)
    assert 0 < short["records"] < 10**9 and short["seconds"] < 10


def test_a_loaded_node_gives_way_to_its_clients_and_an_idle_one_does_not(clusters):
    """So that a client is not interrupted after each batch; 20 MB/s are more than enough."""
    cluster = clusters(1)
    policy = lambda: os.sched_getscheduler(cluster[1].pid)
    assert policy() == os.SCHED_OTHER
    load = subprocess.Popen([PERF, "--bootstrap-server", cluster.bootstrap, "--rate", "20000", "--record-size", "1000", "--records-per-batch", "16",
                             "--duration", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, preexec_fn=die_with_parent)
    try:
        wait_for("a loaded node that gives way", lambda: policy() == os.SCHED_BATCH)
    finally:
        load.terminate()
        load.wait()
    wait_for("an idle node that does not", lambda: policy() == os.SCHED_OTHER)
